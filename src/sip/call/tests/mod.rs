//! Calls as dialogues in virtual time: a user agent on one side, on the other a peer that the test plays word
//! by word.

mod callee_tests;
mod caller_tests;
mod change_tests;
mod flow_tests;
mod pair_tests;
mod replaced_tests;
mod timer_tests;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::{Account, Settings};
use crate::sip::call::{CallEvent, CallSettings, Description, Ended, InviteOptions};
use crate::sip::handle::{AccountId, CallId};
use crate::sip::message::{Message, Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::{Input, Output};
use crate::sip::reader::read_datagram;
use crate::sip::trust::{Network, Trust};
use crate::sip::ua_event::Event;
use crate::sip::uri::Uri;
use crate::sip::user_agent::UserAgent;
use crate::sip::via::Via;
use std::collections::VecDeque;
use std::time::Duration;

const US: &str = "192.0.2.10:5060";
const PEER: &str = "198.51.100.1:5060";

pub(super) fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

/// A description with one audio stream in PCMA.
pub(super) fn sdp(port: u16) -> Vec<u8> {
    format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
    m=audio {port} RTP/AVP 8\r\n"
    )
    .into_bytes()
}

/// One user agent with one line, its time, and everything it said.
pub(super) struct World {
    pub(super) ua: UserAgent,
    pub(super) now: Now,
    pub(super) account: AccountId,
    pub(super) sent: VecDeque<Message>,
    pub(super) events: VecDeque<CallEvent>,
    /// The last call that was begun by either side.
    pub(super) call: CallId,
}

impl World {
    pub(super) fn new(calls: CallSettings) -> World {
        let settings = Settings { udp: vec![US.parse().unwrap()], ..Settings::default() };
        let mut ua = UserAgent::new(settings, Chance::from_number(2026));
        let now = Now { mono_us: 1_000_000, utc_us: 0 };
        let Uri::Sip(aor) = uri("sip:alice@198.51.100.1") else { unreachable!() };
        let mut account = Account::new(aor);
        account.display_name = Some("Alice".to_owned());
        account.register = false;
        account.catch_all = true;
        account.trust = Trust::Networks(vec![Network::ANY_V4]);
        account.calls = calls;
        let account = ua.add_account(now, account);
        let mut world =
            World { ua, now, account, sent: VecDeque::new(), events: VecDeque::new(), call: CallId(0) };
        world.pump();
        world
    }

    pub(super) fn plain() -> World {
        World::new(CallSettings::default())
    }

    pub(super) fn pump(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.ua.poll_output() {
                quiet = false;
                match output {
                    Output::Datagram { bytes, .. } => self.sent.extend(read_datagram(&bytes).unwrap()),
                    Output::RouteTo { query, .. } => {
                        let result = Ok("192.0.2.10".parse().unwrap());
                        self.ua.handle(self.now, Input::LocalAddress { query, result });
                    }
                    other => panic!("{other:?}"),
                }
            }
            while let Some(event) = self.ua.poll_event() {
                quiet = false;
                if let Event::Call { call, event } = event {
                    self.call = call;
                    self.events.push_back(event);
                }
            }
            if quiet {
                break;
            }
        }
    }

    /// Lets time go by.
    pub(super) fn run(&mut self, by: Duration) {
        let end = self.now.plus(by);
        let mut turns = 0;
        while let Some(at) = self.ua.poll_timeout().filter(|at| *at <= end.mono_us) {
            turns += 1;
            assert!(turns < 10_000, "a timer spins");
            self.now = self.now.plus(Duration::from_micros(at.saturating_sub(self.now.mono_us)));
            self.ua.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    pub(super) fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// The peer says something.
    pub(super) fn hears(&mut self, message: impl Into<Message>) {
        let bytes = message.into().write();
        let input =
            Input::Datagram { local: US.parse().unwrap(), remote: PEER.parse().unwrap(), bytes: &bytes };
        self.ua.handle(self.now, input);
        self.pump();
    }

    /// The next thing the user agent said is this request.
    pub(super) fn says(&mut self, method: Method) -> Request {
        match self.next_sent() {
            Some(Message::Request(request)) if request.method == method => request,
            other => panic!("{method} expected, not {}", text(other)),
        }
    }

    /// The next thing the user agent said is this response (100 aside).
    pub(super) fn replies(&mut self, status: u16) -> Response {
        match self.next_sent() {
            Some(Message::Response(response)) if response.status == status => response,
            other => panic!("{status} expected, not {}", text(other)),
        }
    }

    fn next_sent(&mut self) -> Option<Message> {
        while let Some(message) = self.sent.pop_front() {
            if !matches!(&message, Message::Response(response) if response.status == 100) {
                return Some(message);
            }
        }
        None
    }

    pub(super) fn is_silent(&mut self) {
        let next = self.next_sent();
        assert!(next.is_none(), "silence expected, not {}", text(next));
    }

    /// The next event.
    pub(super) fn event(&mut self) -> CallEvent {
        self.events.pop_front().expect("an event")
    }

    pub(super) fn no_event(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    pub(super) fn ended(&mut self) -> Ended {
        match self.event() {
            CallEvent::Ended(ended) => {
                self.no_event();
                *ended
            }
            other => panic!("the end expected, not {other:?}"),
        }
    }

    /// The user agent keeps nothing of any call.
    pub(super) fn forgot_everything(&self) {
        assert!(self.ua.calls.is_empty(), "{:?}", self.ua.calls);
    }

    /// We call; the INVITE is given back.
    pub(super) fn calls(&mut self, options: InviteOptions) -> (Request, Peer) {
        let call = self.ua.invite(self.now, self.account, uri("sip:bob@198.51.100.1"), options).unwrap();
        self.call = call;
        self.pump();
        let invite = self.says(Method::INVITE);
        let peer = Peer::answering(&invite);
        (invite, peer)
    }

    pub(super) fn calls_with_offer(&mut self) -> (Request, Peer) {
        self.calls(InviteOptions { offer: Some(sdp(1000)), ..InviteOptions::default() })
    }

    /// A call of ours that was answered, all quiet.
    pub(super) fn answered_call(&mut self) -> Peer {
        let (invite, peer) = self.calls_with_offer();
        let response = peer.success(&invite, Some(sdp(2000)));
        self.hears(response);
        self.says(Method::ACK);
        assert!(matches!(self.event(), CallEvent::Trying | CallEvent::Answered { .. }));
        self.events.clear();
        peer
    }

    /// A call of theirs that we answered, all quiet.
    pub(super) fn taken_call(&mut self) -> Peer {
        let mut peer = Peer::calling();
        let invite = peer.invite(Some(sdp(2000)));
        self.hears(invite.clone());
        let answer = self.ua.answer(self.now, self.call, sdp(1000));
        assert_eq!(answer, Ok(()));
        self.pump();
        let response = self.replies(200);
        peer.takes(&response);
        self.hears(peer.ack(invite.head.cseq.number, None));
        self.events.clear();
        peer
    }

    /// The room above does something to the call.
    pub(super) fn does<T>(&mut self, what: impl FnOnce(&mut UserAgent, Now, CallId) -> T) -> T {
        let result = what(&mut self.ua, self.now, self.call);
        self.pump();
        result
    }

    pub(super) fn hangs_up(&mut self) {
        self.does(|ua, now, call| ua.hang_up(now, call, None)).unwrap();
    }

    pub(super) fn offers(&mut self, description: Vec<u8>) {
        self.does(|ua, now, call| ua.offer(now, call, description)).unwrap();
    }
}

/// The other side of a dialog.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) call_id: String,
    pub(super) local: NameAddr,
    pub(super) remote: NameAddr,
    pub(super) cseq: u32,
    pub(super) branches: u32,
}

impl Peer {
    /// A peer that our INVITE found.
    pub(super) fn answering(invite: &Request) -> Peer {
        Peer {
            call_id: invite.head.call_id.clone(),
            local: invite.head.to.clone().with_tag("bob"),
            remote: invite.head.from.clone(),
            cseq: 100,
            branches: 0,
        }
    }

    /// A peer that calls us.
    pub(super) fn calling() -> Peer {
        Peer {
            call_id: "their-call".to_owned(),
            local: NameAddr::new(uri("sip:bob@198.51.100.1")).with_display(Some("Bob")).with_tag("bob"),
            remote: NameAddr::new(uri("sip:alice@198.51.100.1")),
            cseq: 100,
            branches: 0,
        }
    }

    /// The same user on another phone: another To-tag.
    pub(super) fn fork(&self, tag: &str) -> Peer {
        Peer { local: self.local.clone().with_tag(tag), ..self.clone() }
    }

    fn tag(&self) -> &str {
        self.local.tag().unwrap()
    }

    fn numbered(&mut self, method: Method, number: u32) -> Request {
        let target = uri("sip:alice@192.0.2.10:5060");
        let mut request =
            Request::new(method, target, self.local.clone(), self.remote.clone(), &self.call_id, number);
        self.branches += 1;
        let branch = format!("z9hG4bK-{}-{}", self.tag(), self.branches);
        let address: std::net::SocketAddr = PEER.parse().unwrap();
        request.head.via.push(Via::new("UDP", address, &branch));
        request.fields.push("Contact", "<sip:bob@198.51.100.1:5060>");
        request
    }

    /// A request of the peer inside the dialog.
    pub(super) fn request(&mut self, method: Method, description: Option<Vec<u8>>) -> Request {
        self.cseq += 1;
        let mut request = self.numbered(method, self.cseq);
        if let Some(description) = description {
            request.set_body("application/sdp", description);
        }
        request
    }

    pub(super) fn invite(&mut self, description: Option<Vec<u8>>) -> Request {
        let mut invite = self.request(Method::INVITE, description);
        invite.fields.push("Supported", "100rel, timer");
        invite.fields.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK");
        invite
    }

    pub(super) fn ack(&mut self, number: u32, description: Option<Vec<u8>>) -> Request {
        let mut ack = self.numbered(Method::ACK, number);
        if let Some(description) = description {
            ack.set_body("application/sdp", description);
        }
        ack
    }

    /// The ACK to a refusal, which belongs to the INVITE's own transaction.
    pub(super) fn ack_refusal(&mut self, invite: &Request) -> Request {
        let mut ack = self.numbered(Method::ACK, invite.head.cseq.number);
        ack.head.via = invite.head.via.clone();
        ack
    }

    pub(super) fn cancel(&self, invite: &Request, reason: Option<&str>) -> Request {
        let mut cancel = Request::new(
            Method::CANCEL,
            invite.uri.clone(),
            invite.head.from.clone(),
            invite.head.to.clone(),
            &invite.head.call_id,
            invite.head.cseq.number,
        );
        cancel.head.via = invite.head.via.clone();
        if let Some(reason) = reason {
            cancel.fields.push("Reason", reason);
        }
        cancel
    }

    /// Learns our tag from our response.
    pub(super) fn takes(&mut self, response: &Response) {
        self.remote = response.head.to.clone();
    }

    /// A response of the peer, with its tag.
    pub(super) fn response(&self, request: &Request, status: u16) -> Response {
        let mut response = Response::to(request, status);
        if response.head.to_tag().is_none() && status > 100 {
            response.head.to.set_tag(self.tag());
        }
        if (101..300).contains(&status) {
            response.fields.push("Contact", format!("<sip:{}@198.51.100.1:5060>", self.tag()));
            response.fields.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK");
        }
        response
    }

    pub(super) fn success(&self, request: &Request, description: Option<Vec<u8>>) -> Response {
        self.with_description(self.response(request, 200), description)
    }

    pub(super) fn with_description(&self, mut response: Response, description: Option<Vec<u8>>) -> Response {
        if let Some(description) = description {
            response.set_body("application/sdp", description);
        }
        response
    }

    /// A reliable provisional response.
    pub(super) fn reliable(
        &self,
        request: &Request,
        status: u16,
        rseq: u32,
        sdp: Option<Vec<u8>>,
    ) -> Response {
        let mut response = self.with_description(self.response(request, status), sdp);
        response.fields.push("Require", "100rel");
        response.fields.push("RSeq", rseq.to_string());
        response
    }
}

fn text(message: Option<Message>) -> String {
    message.map_or("silence".to_owned(), |message| String::from_utf8_lossy(&message.write()).into_owned())
}

pub(super) fn is_progress(event: &CallEvent, status: u16, tag: &str, sdp: Option<&[u8]>) -> bool {
    matches!(event, CallEvent::Progress { status: told, dialog, sdp: description, .. }
        if *told == status && dialog.0 == tag && description.as_ref().map(|d| match d {
            Description::Offer(sdp) | Description::Answer(sdp) => sdp.as_slice(),
        }) == sdp)
}

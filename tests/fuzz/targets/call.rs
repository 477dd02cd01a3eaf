//! A user agent in the hands of a peer and of a room above that do anything in any order: the bytes are the
//! script.

use super::Target;
use tipring::chance::Chance;
use tipring::now::Now;
use tipring::sip::account::{Account, Settings};
use tipring::sip::call::{CallError, CallEvent, CallSettings, InviteOptions, Prack, SessionTimer};
use tipring::sip::handle::CallId;
use tipring::sip::message::{Message, Request, Response};
use tipring::sip::method::Method;
use tipring::sip::network::{Input, Output};
use tipring::sip::reader::read_datagram;
use tipring::sip::trust::{Network, Trust};
use tipring::sip::ua_event::Event;
use tipring::sip::uri::Uri;
use tipring::sip::user_agent::UserAgent;
use tipring::sip::via::Via;

pub const TARGETS: &[Target] = &[Target { name: "sip_call", run: call, seeds: SCRIPTS, dictionary: WORDS }];

const US: &str = "192.0.2.10:5060";
const PEER: &str = "198.51.100.1:5060";
const SDP: &[u8] = b"v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 4000 RTP/AVP 8\r\n";
/// The longest script that is played.
const MAX_STEPS: usize = 64;

struct Theatre {
    ua: UserAgent,
    now: Now,
    /// What the user agent sent and the peer may still answer or acknowledge.
    requests: Vec<Request>,
    responses: Vec<Response>,
    /// The peer's own INVITEs, for CANCEL.
    invites: Vec<Request>,
    calls: Vec<(CallId, bool)>,
    cseq: u32,
    sent: usize,
}

/// Whatever happens: each call ends at most once, nothing is told after its end, timers do not spin, and
/// after all is over nothing is kept.
fn call(script: &[u8]) {
    let settings = Settings { udp: vec![US.parse().expect("an address")], ..Settings::default() };
    let mut ua = UserAgent::new(settings, Chance::from_number(1));
    let now = Now { mono_us: 1_000_000, utc_us: 0 };
    let Ok(Uri::Sip(aor)) = Uri::parse("sip:alice@198.51.100.1") else { return };
    let mut account = Account::new(aor);
    account.register = false;
    account.trust = Trust::Networks(vec![Network::ANY_V4]);
    let flags = script.first().copied().unwrap_or(0);
    account.calls = CallSettings {
        prack: [Prack::Off, Prack::Supported, Prack::Required, Prack::Supported][usize::from(flags & 3)],
        session_timer: [
            SessionTimer::Off,
            SessionTimer::Supported,
            SessionTimer::Always,
            SessionTimer::Supported,
        ][usize::from(flags >> 2 & 3)],
        ..CallSettings::default()
    };
    let account = ua.add_account(now, account);
    let mut theatre = Theatre {
        ua,
        now,
        requests: Vec::new(),
        responses: Vec::new(),
        invites: Vec::new(),
        calls: Vec::new(),
        cseq: 1,
        sent: 0,
    };
    theatre.pump();
    for step in script.get(1..).unwrap_or_default().chunks(2).take(MAX_STEPS) {
        let (action, detail) = (step[0], step.get(1).copied().unwrap_or(0));
        match action % 8 {
            0 | 1 => theatre.answer(detail),
            2 => theatre.acknowledge(detail),
            3 | 4 => theatre.request(detail),
            5 if theatre.calls.is_empty() || detail > 240 => {
                let offer = (detail & 1 == 0).then(|| SDP.to_vec());
                let target = Uri::parse("sip:bob@198.51.100.1").expect("a URI");
                let options = InviteOptions { offer, anonymous: detail & 2 != 0, ..InviteOptions::default() };
                if let Ok(call) = theatre.ua.invite(theatre.now, account, target, options) {
                    theatre.calls.push((call, false));
                }
            }
            5 | 6 => theatre.command(detail),
            _ => theatre.wait(u64::from(detail) * u64::from(detail) * 10_000),
        }
        theatre.pump();
    }
    let calls: Vec<CallId> = theatre.calls.iter().map(|(call, _)| *call).collect();
    for call in calls {
        // Those that are over say so.
        let _ = theatre.ua.hang_up(theatre.now, call, None);
    }
    theatre.pump();
    theatre.wait(200_000_000);
    assert!(theatre.calls.iter().all(|(_, ended)| *ended), "a call never ended");
    for (call, _) in theatre.calls {
        assert_eq!(
            theatre.ua.hang_up(theatre.now, call, None),
            Err(CallError::Unknown),
            "a call is kept for ever"
        );
    }
}

impl Theatre {
    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.ua.poll_output() {
                quiet = false;
                match output {
                    Output::Datagram { bytes, .. } => {
                        self.sent += 1;
                        assert!(self.sent < 20_000, "a storm of messages");
                        match read_datagram(&bytes) {
                            Ok(Some(Message::Request(request))) => self.requests.push(request),
                            Ok(Some(Message::Response(response))) => self.responses.push(response),
                            other => panic!("the user agent sent {other:?}"),
                        }
                    }
                    Output::RouteTo { query, .. } => {
                        let result = Ok("192.0.2.10".parse().expect("an address"));
                        self.ua.handle(self.now, Input::LocalAddress { query, result });
                    }
                    _ => {}
                }
            }
            while let Some(event) = self.ua.poll_event() {
                quiet = false;
                if let Event::Call { call, event } = event {
                    self.note(call, &event);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn note(&mut self, call: CallId, event: &CallEvent) {
        let at = self.calls.iter().position(|(known, _)| *known == call).unwrap_or_else(|| {
            self.calls.push((call, false));
            self.calls.len() - 1
        });
        let ended = &mut self.calls[at].1;
        assert!(!*ended, "{event:?} after the end");
        *ended = matches!(event, CallEvent::Ended(_));
    }

    fn wait(&mut self, by_us: u64) {
        let end = self.now.plus(std::time::Duration::from_micros(by_us));
        let mut turns = 0;
        while let Some(at) = self.ua.poll_timeout().filter(|at| *at <= end.mono_us) {
            turns += 1;
            assert!(turns < 20_000, "a timer spins");
            self.now.mono_us = self.now.mono_us.max(at);
            self.ua.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    fn hears(&mut self, message: Message) {
        let bytes = message.write();
        let (local, remote) = (US.parse().expect("an address"), PEER.parse().expect("an address"));
        self.ua.handle(self.now, Input::Datagram { local, remote, bytes: &bytes });
    }

    /// The peer answers a request of the user agent.
    fn answer(&mut self, detail: u8) {
        let answerable = |request: &&Request| request.method != Method::ACK;
        let Some(request) =
            self.requests.iter().rev().filter(answerable).nth(usize::from(detail >> 6)).cloned()
        else {
            return;
        };
        let statuses = [100, 180, 183, 200, 200, 200, 302, 408, 422, 481, 486, 488, 491, 500, 603, 405];
        let status = statuses[usize::from(detail & 15)];
        let mut response = Response::to(&request, status);
        if response.head.to_tag().is_none() && status > 100 {
            response.head.to.set_tag(["a", "b"][usize::from(detail >> 4 & 1)]);
        }
        response.fields.push("Contact", "<sip:bob@198.51.100.1>");
        response.fields.push("Allow", "INVITE, UPDATE");
        response.fields.push("Session-Expires", "90");
        response.fields.push("Min-SE", "2000");
        response.fields.push("Retry-After", "1");
        if detail & 32 != 0 {
            response.fields.push("Require", "100rel");
            response.fields.push("RSeq", (u32::from(detail >> 6) + 1).to_string());
        }
        if detail & 48 != 48 {
            response.set_body("application/sdp", SDP);
        }
        self.hears(response.into());
    }

    /// The peer acknowledges an answer of the user agent: with ACK, or with PRACK.
    fn acknowledge(&mut self, detail: u8) {
        let Some(response) = self.responses.iter().rev().nth(usize::from(detail >> 5)).cloned() else {
            return;
        };
        let rseq = response.fields.text("RSeq").map(|rseq| rseq.into_owned());
        let method = if rseq.is_some() { Method::PRACK } else { Method::ACK };
        let mut request = self.inside(method.clone(), &response);
        match rseq {
            Some(rseq) => request.fields.push("RAck", format!("{rseq} {}", response.head.cseq)),
            None => {
                request.head.cseq.number = response.head.cseq.number;
                if response.status >= 300 {
                    request.head.via = response.head.via.clone();
                }
            }
        }
        if detail & 1 != 0 {
            request.set_body("application/sdp", SDP);
        }
        self.hears(request.into());
    }

    fn inside(&mut self, method: Method, of: &Response) -> Request {
        self.cseq += 1;
        let target = Uri::parse("sip:alice@192.0.2.10").expect("a URI");
        let (from, to, call_id) = (of.head.from.clone(), of.head.to.clone(), of.head.call_id.clone());
        self.dressed(Request::new(method, target, from, to, &call_id, self.cseq))
    }

    /// A dialog of the user agent, as whoever wants the place of its peer names it.
    fn named(&self) -> Option<String> {
        let ours = self
            .requests
            .last()
            .map(|it| (&it.head.call_id, it.head.from_tag(), it.head.to_tag().or(Some("a"))));
        let theirs = self.responses.last().map(|it| (&it.head.call_id, it.head.to_tag(), it.head.from_tag()));
        let (call_id, local, remote) = ours.or(theirs)?;
        Some(format!("{call_id};to-tag={};from-tag={}", local?, remote?))
    }

    fn dressed(&self, mut request: Request) -> Request {
        let address: std::net::SocketAddr = PEER.parse().expect("an address");
        request.head.via.push(Via::new("UDP", address, &format!("z9hG4bK{}", self.cseq)));
        request.fields.push("Contact", "<sip:bob@198.51.100.1>");
        request.fields.push("Supported", "100rel, timer");
        request.fields.push("Allow", "INVITE, UPDATE, PRACK");
        request
    }

    /// The peer calls, or asks for something in a call.
    fn request(&mut self, detail: u8) {
        let methods = [
            Method::INVITE,
            Method::INVITE,
            Method::UPDATE,
            Method::BYE,
            Method::INFO,
            Method::CANCEL,
            Method::OPTIONS,
            Method::NOTIFY,
            Method::REFER,
        ];
        let method = methods[usize::from(detail & 7) % methods.len()].clone();
        if method == Method::CANCEL {
            let Some(invite) = self.invites.last() else { return };
            let (from, to) = (invite.head.from.clone(), invite.head.to.clone());
            let mut cancel = Request::new(
                method,
                invite.uri.clone(),
                from,
                to,
                &invite.head.call_id,
                invite.head.cseq.number,
            );
            cancel.head.via = invite.head.via.clone();
            return self.hears(cancel.into());
        }
        let of_theirs =
            self.responses.iter().rev().find(|response| response.head.to_tag().is_some()).cloned();
        let of_ours = self.requests.iter().rev().find(|request| request.head.to_tag().is_some()).cloned();
        let mut request = match (of_theirs, of_ours) {
            (Some(response), _) if detail & 8 != 0 => self.inside(method, &response),
            (_, Some(ours)) if detail & 16 != 0 => {
                self.cseq += 1;
                let (from, to) = (ours.head.to.clone(), ours.head.from.clone());
                let target = Uri::parse("sip:alice@192.0.2.10").expect("a URI");
                self.dressed(Request::new(method, target, from, to, &ours.head.call_id, self.cseq))
            }
            _ => {
                self.cseq += 1;
                let uri = Uri::parse("sip:alice@192.0.2.10").expect("a URI");
                let from = tipring::sip::name_addr::NameAddr::parse("<sip:bob@x>;tag=b").expect("an address");
                let to = tipring::sip::name_addr::NameAddr::new(uri.clone());
                self.dressed(Request::new(method, uri, from, to, &format!("c{}", detail >> 6), self.cseq))
            }
        };
        if detail & 32 != 0 {
            request.set_body("application/sdp", SDP);
        }
        if request.method == Method::NOTIFY {
            request.fields.push("Event", if detail & 64 != 0 { "message-summary" } else { "refer" });
            let told = ["Messages-Waiting: yes\r\n", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 404"];
            request.set_body("application/simple-message-summary", told[detail as usize % told.len()]);
        } else if request.method == Method::REFER {
            let to = [
                "<sip:c@x?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&X=%0d%0a>",
                "tel:+4930123456",
                "<sip:c@x;method=BYE>",
                "\"",
            ];
            request.fields.push("Refer-To", to[usize::from(detail >> 6)]);
            request.fields.push("Refer-Sub", if detail & 16 != 0 { "false" } else { "true" });
        } else if detail & 64 != 0 {
            request.fields.push("Require", "100rel");
            request.fields.push("Session-Expires", if detail & 128 != 0 { "50" } else { "90;refresher=uas" });
        }
        if request.method == Method::INVITE {
            if let Some(named) = self.named().filter(|_| detail & 128 != 0) {
                request.fields.push("Replaces", named);
            }
            self.invites.push(request.clone());
        }
        self.hears(request.into());
    }

    /// The room above does something to a call; what can't be done is refused.
    fn command(&mut self, detail: u8) {
        let Some((call, _)) = self.calls.get(usize::from(detail >> 6) % self.calls.len().max(1)).copied()
        else {
            return;
        };
        let (now, ua) = (self.now, &mut self.ua);
        let _ = match detail & 15 {
            0 => ua.ring(now, call, 180, None),
            1 | 2 => ua.ring(now, call, 183, Some(SDP.to_vec())),
            3..=5 => ua.answer(now, call, SDP.to_vec()),
            6 => ua.reject(now, call, 486, None, &[]),
            7 => ua.hang_up(now, call, None),
            8 | 9 => ua.offer(now, call, SDP.to_vec()),
            10 => ua.reply_offer(now, call, Ok(SDP.to_vec())),
            11 => ua.reply_refer(now, call, if detail & 16 != 0 { Err(603) } else { Ok(()) }),
            12 => {
                ua.tell_referrer(now, call, if detail & 16 != 0 { 200 } else { 180 });
                Ok(())
            }
            13 => ua.reply_offer(now, call, Err(488)),
            14 => ua.refer(now, call, Uri::parse("sip:2001@pbx.example").expect("a URI")),
            _ => ua.info(now, call, "application/dtmf", b"5".to_vec()),
        };
    }
}

const SCRIPTS: &[&[u8]] = &[
    // We call, it rings, it is answered, we offer, the peer offers, time goes by.
    b"\x05\x05\x00\x00\x01\x00\x03\x06\x08\x00\x03\x03\x30\x06\x0a\x02\x01\x07\xff\x06\x07\x00\x03",
    // They call, we ring and answer, they acknowledge, update and hang up.
    b"\x01\x03\x20\x06\x00\x06\x03\x02\x00\x03\x2a\x06\x0a\x07\x40\x03\x0b",
    // They call with 100rel, reliable progress, PRACK, late offer.
    b"\x06\x03\x40\x06\x01\x02\x01\x06\x03\x02\x01\x03\x09\x06\x0a\x02\x00\x03\x0d\x07\xff",
    // They call, we answer; somebody takes the place of the peer and is answered, the first call is hung up.
    b"\x01\x03\x20\x06\x03\x02\x00\x03\xa0\x06\x43\x02\x00\x06\x07",
    // Forks, CANCEL races.
    b"\x05\x05\x01\x00\x21\x00\x11\x06\x07\x00\x03\x00\x13\x07\x50\x00\x43\x00\x53",
];

const WORDS: &[&[u8]] =
    &[b"\x00\x03", b"\x02\x01", b"\x03\x28", b"\x06\x0a", b"\x06\x08", b"\x07\xff", b"\x05\xf1", b"\x03\x0d"];

//! The other end of every test of the user agent: a network in virtual time, name servers from a table, and a
//! peer that says what the test says. A test reads as a dialogue.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::{Account, Credentials, Settings};
use crate::sip::call::{CallEvent, InviteOptions};
use crate::sip::framer::{Frame, Framer};
use crate::sip::handle::{AccountId, CallId};
use crate::sip::message::{Message, Request, Response};
use crate::sip::network::{Input, LookupError, Output, Question, Record, RecordData, Transport};
use crate::sip::reader::read_datagram;
use crate::sip::registration::RegistrationState;
use crate::sip::ua_event::Event;
use crate::sip::uri::{SipUri, Uri};
use crate::sip::user_agent::UserAgent;

/// A message the user agent sent, and where it went.
#[derive(Clone, Debug)]
pub struct Sent {
    pub transport: Transport,
    pub remote: SocketAddr,
    pub connection: Option<u64>,
    pub message: Message,
}

/// A request the user agent sent.
#[derive(Clone, Debug)]
pub struct SentRequest {
    pub transport: Transport,
    pub remote: SocketAddr,
    pub connection: Option<u64>,
    pub request: Request,
}

/// A user agent and everything around it.
pub struct Peer {
    pub ua: UserAgent,
    pub now: Now,
    pub sent: VecDeque<Sent>,
    pub events: VecDeque<Event>,
    pub names: BTreeMap<Question, Result<Vec<Record>, LookupError>>,
    /// Questions asked, in order.
    pub asked: Vec<Question>,
    /// Connections asked for and not yet answered: number, transport, peer, name in the certificate.
    pub connects: VecDeque<(u64, Transport, SocketAddr, String)>,
    pub closed: Vec<u64>,
    /// Datagrams that are no messages.
    pub raw: Vec<(SocketAddr, Vec<u8>)>,
    /// Connections that a ping was sent on.
    pub pinged: Vec<u64>,
    /// Our address, as the machine says.
    pub local: &'static str,
    /// Whether connections are made at once.
    pub connects_at_once: bool,
    framers: BTreeMap<u64, (Transport, SocketAddr, Framer)>,
    branch: u32,
}

pub const LOCAL: &str = "192.0.2.10:5060";
/// Our end of every connection.
pub const LOCAL_STREAM: &str = "192.0.2.10:40000";

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn sip(text: &str) -> SipUri {
    match Uri::parse(text).unwrap() {
        Uri::Sip(uri) => uri,
        other => panic!("no SIP URI: {other:?}"),
    }
}

/// The line of most tests: 1001 at pbx.example, which is 198.51.100.1, with a password.
pub fn line() -> Account {
    let mut account = Account::new(sip("sip:1001@pbx.example"));
    account.registrar = Some(sip("sip:pbx.example:5060"));
    account.credentials = Some(Credentials { user: "1001".into(), password: "secret".into(), realm: None });
    account
}

pub fn a(address: &str) -> Result<Vec<Record>, LookupError> {
    Ok(vec![Record { data: RecordData::Address(address.parse().unwrap()), ttl: 60 }])
}

pub fn srv(records: &[(u16, u16, u16, &str)]) -> Result<Vec<Record>, LookupError> {
    let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Record {
        data: RecordData::Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        },
        ttl: 60,
    };
    Ok(records.iter().map(record).collect())
}

impl Peer {
    pub fn new() -> Peer {
        Peer::with(Settings { udp: vec![address("0.0.0.0:5060")], ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Peer {
        let mut names = BTreeMap::new();
        names.insert(Question::A("pbx.example".into()), a("198.51.100.1"));
        Peer {
            ua: UserAgent::new(settings, Chance::from_number(7)),
            now: Now { mono_us: 1_000_000, utc_us: 0 },
            sent: VecDeque::new(),
            events: VecDeque::new(),
            names,
            asked: Vec::new(),
            connects: VecDeque::new(),
            closed: Vec::new(),
            raw: Vec::new(),
            pinged: Vec::new(),
            local: "192.0.2.10",
            connects_at_once: true,
            framers: BTreeMap::new(),
            branch: 0,
        }
    }

    pub fn add(&mut self, account: Account) -> AccountId {
        let id = self.ua.add_account(self.now, account);
        self.drain();
        id
    }

    /// A peer whose line is registered.
    pub fn registered() -> (Peer, AccountId) {
        let mut peer = Peer::new();
        let id = peer.add(line());
        let register = peer.request("REGISTER");
        peer.reply(&register, 200, &[("Contact", &register.contact()), ("Expires", "3600")]);
        assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
        peer.events.clear();
        (peer, id)
    }

    pub fn drain(&mut self) {
        loop {
            while let Some(event) = self.ua.poll_event() {
                self.events.push_back(event);
            }
            let Some(output) = self.ua.poll_output() else {
                return;
            };
            match output {
                Output::Datagram { remote, bytes, .. } => {
                    let Ok(Some(message)) = read_datagram(&bytes) else {
                        self.raw.push((remote, bytes));
                        continue;
                    };
                    self.sent.push_back(Sent {
                        transport: Transport::Udp,
                        remote,
                        connection: None,
                        message,
                    });
                }
                Output::Connect { connection, transport, remote, server_name, .. } => {
                    let by_message = transport == Transport::Wss;
                    let framer = if by_message { Framer::of_messages() } else { Framer::new() };
                    self.framers.insert(connection, (transport, remote, framer));
                    self.connects.push_back((connection, transport, remote, server_name));
                    if self.connects_at_once {
                        self.connect();
                    }
                }
                Output::Stream { connection, bytes } => {
                    let (transport, remote, framer) =
                        self.framers.get_mut(&connection).expect("a connection");
                    framer.push(&bytes);
                    while let Some(frame) = framer.next() {
                        match frame.expect("readable") {
                            Frame::Message(message) => self.sent.push_back(Sent {
                                transport: *transport,
                                remote: *remote,
                                connection: Some(connection),
                                message: *message,
                            }),
                            Frame::Ping => self.pinged.push(connection),
                            Frame::Pong => {}
                        }
                    }
                }
                Output::Close { connection } => self.closed.push(connection),
                Output::Query { query, question, .. } => {
                    self.asked.push(question.clone());
                    let result = self.names.get(&question).cloned();
                    let result = result.unwrap_or(Err(LookupError::NoSuchName));
                    self.ua.handle(self.now, Input::Answer { query, result });
                }
                Output::RouteTo { query, remote } => {
                    let local: IpAddr = if remote.is_ipv4() {
                        self.local.parse().unwrap()
                    } else {
                        "2001:db8::10".parse().unwrap()
                    };
                    self.ua.handle(self.now, Input::LocalAddress { query, result: Ok(local) });
                }
            }
        }
    }

    /// The connection asked for first comes to stand.
    pub fn connect(&mut self) -> u64 {
        let (connection, _, remote, _) = self.connects.pop_front().expect("a connection is asked for");
        let local = address(LOCAL_STREAM);
        self.ua.handle(self.now, Input::Connected { connection, local, remote });
        connection
    }

    /// The connection asked for first is refused.
    pub fn refuse_connection(&mut self, why: &str) {
        let (connection, ..) = self.connects.pop_front().expect("a connection is asked for");
        self.close(connection, why);
    }

    pub fn close(&mut self, connection: u64, why: &str) {
        self.ua.handle(self.now, Input::Closed { connection, why: why.into() });
        self.drain();
    }

    /// Lets time pass, with everything that falls due in it.
    pub fn wait(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while let Some(due) = self.ua.poll_timeout().filter(|due| *due <= until.mono_us) {
            self.now = self.now.plus(Duration::from_micros(due.saturating_sub(self.now.mono_us)));
            self.ua.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.plus(Duration::from_micros(until.mono_us - self.now.mono_us));
    }

    pub fn seconds(&mut self, seconds: f64) {
        self.wait(Duration::from_secs_f64(seconds));
    }

    /// The next message sent, which must be a request with this method.
    pub fn request(&mut self, method: &str) -> SentRequest {
        let sent = self.sent.pop_front().unwrap_or_else(|| panic!("no {method} was sent"));
        match sent.message {
            Message::Request(request) if request.method.as_str() == method => SentRequest {
                transport: sent.transport,
                remote: sent.remote,
                connection: sent.connection,
                request,
            },
            other => panic!("not {method}: {other:?}"),
        }
    }

    /// The next message sent, which must be a response with this status.
    pub fn response(&mut self, status: u16) -> Response {
        let sent = self.sent.pop_front().unwrap_or_else(|| panic!("no {status} was sent"));
        match sent.message {
            Message::Response(response) if response.status == status => response,
            other => panic!("not {status}: {other:?}"),
        }
    }

    /// Lets time pass until something is sent, which must be a request with this method.
    pub fn await_request(&mut self, method: &str) -> SentRequest {
        while self.sent.is_empty() {
            let due = self.ua.poll_timeout().unwrap_or_else(|| panic!("{method} is never sent"));
            self.wait(Duration::from_micros(due.saturating_sub(self.now.mono_us)));
        }
        self.request(method)
    }

    pub fn nothing_sent(&self) {
        assert!(self.sent.is_empty(), "sent: {:?}", self.sent);
    }

    /// Answers a request as its receiver, with a To-tag, received and rport.
    pub fn reply(&mut self, to: &SentRequest, status: u16, fields: &[(&str, &str)]) {
        let own = if to.connection.is_some() { LOCAL_STREAM } else { LOCAL };
        self.reply_seeing(to, status, fields, address(own));
    }

    /// The same, where the user agent is seen at another address.
    pub fn reply_seeing(&mut self, to: &SentRequest, status: u16, fields: &[(&str, &str)], seen: SocketAddr) {
        let mut response = Response::to(&to.request, status);
        if status > 100 && response.head.to_tag().is_none() {
            response.head.to.set_tag("peer");
        }
        response.head.via[0].set_received(seen.ip());
        response.head.via[0].set_rport(seen.port());
        for (name, value) in fields {
            response.fields.push(name, *value);
        }
        self.deliver(to.transport, to.remote, to.connection, &response.write());
    }

    /// Takes a call as its receiver.
    pub fn take(&mut self, invite: &SentRequest) {
        let mut response = Response::to(&invite.request, 200);
        response.head.to.set_tag("peer");
        response.fields.push("Contact", "<sip:1002@198.51.100.1>");
        response.fields.push("Content-Type", "application/sdp");
        response.body = b"v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 0\r\n"
            .to_vec();
        self.deliver(invite.transport, invite.remote, invite.connection, &response.write());
    }

    /// Datagrams do not reach a peer.
    pub fn unsent(&mut self, remote: &str) {
        let remote = address(remote);
        self.ua.handle(self.now, Input::Unsent { remote, why: "no way there".into() });
        self.drain();
    }

    fn deliver(&mut self, transport: Transport, remote: SocketAddr, connection: Option<u64>, bytes: &[u8]) {
        match connection {
            None => {
                assert_eq!(transport, Transport::Udp);
                self.ua.handle(self.now, Input::Datagram { local: address("0.0.0.0:5060"), remote, bytes });
            }
            Some(connection) => self.ua.handle(self.now, Input::Stream { connection, bytes }),
        }
        self.drain();
    }

    /// A datagram comes from `remote`: lines joined by CRLF, `{branch}` stands for a new branch.
    pub fn datagram(&mut self, remote: &str, text: &str) {
        self.branch += 1;
        let branch = format!("z9hG4bK-peer-{}", self.branch);
        let text = text.replace("{branch}", &branch).replace('\n', "\r\n");
        self.deliver(Transport::Udp, address(remote), None, text.as_bytes());
    }

    /// The same on a connection.
    pub fn stream(&mut self, connection: u64, text: &str) {
        self.branch += 1;
        let text = text.replace("{branch}", &format!("z9hG4bK-peer-{}", self.branch)).replace('\n', "\r\n");
        self.ua.handle(self.now, Input::Stream { connection, bytes: text.as_bytes() });
        self.drain();
    }

    /// Somebody connects.
    pub fn accept(&mut self, connection: u64, remote: &str) {
        self.framers.insert(connection, (Transport::Tcp, address(remote), Framer::new()));
        let (local, remote) = (address(LOCAL), address(remote));
        self.ua.handle(self.now, Input::Accepted { connection, transport: Transport::Tcp, local, remote });
        self.drain();
    }

    pub fn state(&self) -> RegistrationState {
        self.ua.registration_state(AccountId(1)).expect("a line").clone()
    }

    /// The registration states told since the last look.
    pub fn told(&mut self) -> Vec<RegistrationState> {
        let events = std::mem::take(&mut self.events);
        let state = |event| match event {
            Event::Registration { state, .. } => Some(state),
            _ => None,
        };
        events.into_iter().filter_map(state).collect()
    }
}

impl SentRequest {
    /// The first Contact value, as text.
    pub fn contact(&self) -> String {
        self.request.fields.text("Contact").expect("a Contact").into_owned()
    }

    /// All Contact values, as text.
    pub fn contacts(&self) -> Vec<String> {
        let contacts = self.request.fields.contacts().unwrap();
        contacts.map(|contacts| contacts.list().iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.request.fields.text(name).map(|value| value.into_owned())
    }
}

/// A challenge of realm `pbx`.
pub fn challenge(nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("Digest realm=\"pbx\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"{stale}")
}

/// A line whose domain has two servers: main on 198.51.100.1, spare on 198.51.100.2.
pub fn two_servers() -> Peer {
    let mut peer = Peer::new();
    let records = srv(&[(20, 0, 5060, "spare.example"), (10, 0, 5060, "main.example")]);
    peer.names.insert(Question::Srv("_sip._udp.pbx.example".into()), records);
    peer.names.insert(Question::A("main.example".into()), a("198.51.100.1"));
    peer.names.insert(Question::A("spare.example".into()), a("198.51.100.2"));
    let mut account = line();
    account.registrar = None;
    peer.add(account);
    peer
}

/// The first line calls somebody, with an offer of this length.
pub fn call(peer: &mut Peer, target: &str, bytes: usize) -> CallId {
    let target = Uri::parse(target).unwrap();
    let offer = format!("v=0\r\ns={}\r\n", "x".repeat(bytes));
    let options = InviteOptions { offer: Some(offer.into_bytes()), ..Default::default() };
    let id = peer.ua.invite(peer.now, AccountId(1), target, options).unwrap();
    peer.drain();
    id
}

/// The REGISTER that was sent to this address is accepted.
pub fn register(peer: &mut Peer, remote: &str) {
    let register = peer.request("REGISTER");
    assert_eq!(register.remote, address(remote));
    peer.reply(&register, 200, &[("Expires", "600")]);
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
}

/// Whether a call has ended.
pub fn ended(peer: &Peer) -> bool {
    peer.events.iter().any(|event| matches!(event, Event::Call { event: CallEvent::Ended(_), .. }))
}

//! Two edge proxies with one registrar behind them, played word by word: the phone knows only the edges, and the
//! registrar keeps what came by them as RFC 5626 says, or as RFC 3261 does.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tipring::phone::Remembered;
use tipring::sip::message::{Message, Request, Response};
use tipring::sip::method::Method;
use tipring::sip::name_addr::NameAddr;
use tipring::sip::reader::read_datagram;

use crate::handset::SIP;
use crate::names::Names;
use crate::script::{MEDIA, Peer, at, audio};
use crate::world::{World, call, parse};

/// Where the edges are.
pub const EDGES: [&str; 2] = ["198.51.100.11:5060", "198.51.100.12:5060"];
/// The names by which the phone knows them.
pub const PROXIES: &str = "outbound_proxy = [\"sip:edge1.example\", \"sip:edge2.example\"]";
/// The address of the phone.
const PHONE: &str = "192.0.2.11";

/// What an edge does with what comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    Up,
    Down,
    /// It does not do outbound, and says so (439).
    Lacks,
    /// It has lost the flow (430), or can't serve (503): what it answers to an INVITE.
    Answers(u16),
}

/// A binding, as the registrar has it.
#[derive(Clone, PartialEq, Debug)]
pub struct Bound {
    pub contact: NameAddr,
    /// Number of the edge it came by.
    pub edge: usize,
    /// `+sip.instance` and `reg-id`, where the registrar goes by them.
    pub flow: Option<(String, String)>,
}

/// A REGISTER, when and by which edge it came.
#[derive(Debug)]
pub struct Registered {
    pub at_ms: u64,
    pub edge: usize,
    pub request: Request,
}

impl Registered {
    pub fn contacts(&self) -> Vec<NameAddr> {
        let contacts = self.request.fields.contacts().expect("readable");
        contacts.map(|contacts| contacts.list().to_vec()).unwrap_or_default()
    }

    /// `reg-id` of the first Contact.
    pub fn flow(&self) -> Option<String> {
        self.contacts().first()?.param("reg-id").map(|id| id.into_owned())
    }

    /// Whether it takes its first Contact back.
    pub fn removes(&self) -> bool {
        self.contacts().first().and_then(NameAddr::expires) == Some(0)
    }
}

pub struct Edges {
    pub world: World,
    pub edges: [Edge; 2],
    /// Whether the registrar does outbound.
    pub outbound: bool,
    pub bindings: Vec<Bound>,
    /// Every REGISTER but repetitions.
    pub registers: Vec<Registered>,
    /// Everything else that came, with the edge or other server it came to.
    pub said: VecDeque<(SocketAddr, Message)>,
    /// Requests to an edge that is down, with repetitions, and when.
    pub missed: Vec<(u64, Request)>,
    calls: u32,
}

impl Edges {
    /// A phone whose line goes by both edges.
    pub fn new(edges: [Edge; 2], outbound: bool, line: &str) -> Edges {
        let text = format!("{}{PROXIES}\n{line}\n", line_of("office", "1001"));
        Edges::with(edges, outbound, &text, Remembered { clean: true, ..Remembered::default() })
    }

    /// A phone of this configuration, with what an earlier life left.
    pub fn with(edges: [Edge; 2], outbound: bool, config: &str, memory: Remembered) -> Edges {
        let mut world = World::new(31);
        world.card_rate = 8_000;
        world.mailbox = Some(Vec::new());
        world.names = Names::default();
        for (name, address) in ["edge1.example", "edge2.example"].into_iter().zip(EDGES) {
            world.names.add_address(name, at(address).ip());
        }
        let phone = PHONE.parse().expect("an address");
        world.add_phone_with((phone, phone), parse(config), memory);
        let (bindings, registers, said, missed) = (Vec::new(), Vec::new(), VecDeque::new(), Vec::new());
        Edges { world, edges, outbound, bindings, registers, said, missed, calls: 0 }
    }

    /// A phone that is registered by both flows, or by the only one that there is to be.
    pub fn settled(outbound: bool, line: &str) -> Edges {
        let mut edges = Edges::new([Edge::Up; 2], outbound, line);
        edges.seconds(10);
        assert_eq!(edges.bindings.len(), if outbound { 2 } else { 1 }, "{:?}", edges.bindings);
        edges
    }

    pub fn now_ms(&self) -> u64 {
        self.world.now().mono_us / 1000
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.millis(1000 * seconds);
    }

    /// Lets time pass; what comes to the edges is answered within 10 ms.
    pub fn millis(&mut self, millis: u64) {
        let end = self.now_ms() + millis;
        while self.now_ms() < end {
            self.world.millis(10.min(end - self.now_ms()));
            for datagram in self.world.mailbox.replace(Vec::new()).unwrap_or_default() {
                let edge = EDGES.iter().position(|edge| at(edge) == datagram.to);
                let down = edge.is_some_and(|edge| self.edges[edge] == Edge::Down);
                match read_datagram(&datagram.bytes) {
                    _ if datagram.from.port() != SIP => {}
                    Ok(Some(Message::Request(request))) if down => {
                        self.missed.push((self.now_ms(), request));
                    }
                    Ok(Some(message)) if !down => {
                        self.receive(datagram.from, datagram.to, edge, message);
                    }
                    _ => {}
                }
            }
        }
    }

    fn receive(&mut self, from: SocketAddr, to: SocketAddr, edge: Option<usize>, message: Message) {
        let answer = match (&message, edge) {
            (Message::Request(request), Some(edge)) if request.method == Method::REGISTER => {
                Some(self.register(edge, request))
            }
            (Message::Request(request), _)
                if [Method::OPTIONS, Method::CANCEL, Method::BYE].contains(&request.method) =>
            {
                Some(Response::to(request, 200))
            }
            (Message::Request(request), Some(edge)) if request.method == Method::INVITE => {
                match self.edges[edge] {
                    Edge::Answers(status) => Some(Response::to(request, status)),
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(answer) = answer {
            self.send(to, from, answer);
        }
        let kept = !matches!(&message, Message::Request(request)
            if [Method::REGISTER, Method::OPTIONS].contains(&request.method));
        if kept {
            self.said.push_back((to, message));
        }
    }

    /// The registrar: RFC 5626 §6 where it does outbound, else RFC 3261 §10.3.
    fn register(&mut self, edge: usize, request: &Request) -> Response {
        let same = |one: &Registered| {
            (&one.request.head.call_id, one.request.head.cseq.number)
                == (&request.head.call_id, request.head.cseq.number)
        };
        if !self.registers.iter().any(same) {
            let (at_ms, request) = (self.now_ms(), request.clone());
            self.registers.push(Registered { at_ms, edge, request });
        }
        let contacts = request.fields.contacts().expect("readable").map(|all| all.list().to_vec());
        let contacts = contacts.unwrap_or_default();
        let flow_of = |contact: &NameAddr| {
            Some((contact.param("+sip.instance")?.into_owned(), contact.param("reg-id")?.into_owned()))
        };
        if self.edges[edge] == Edge::Lacks && contacts.iter().any(|contact| flow_of(contact).is_some()) {
            return Response::with_reason(request, 439, "First Hop Lacks Outbound Support");
        }
        let mut by_flow = false;
        for contact in contacts {
            let flow = flow_of(&contact).filter(|_| self.outbound);
            by_flow |= flow.is_some();
            self.bindings.retain(|one| match (&one.flow, &flow) {
                (Some(old), Some(new)) => old != new,
                _ => !one.contact.uri.equivalent(&contact.uri),
            });
            if contact.expires() != Some(0) {
                self.bindings.push(Bound { contact, edge, flow });
            }
        }
        let mut response = Response::to(request, 200);
        response.head.to.set_tag("registrar");
        let bound: Vec<String> = self.bindings.iter().map(|one| one.contact.to_string()).collect();
        if !bound.is_empty() {
            response.fields.push("Contact", bound.join(", "));
        }
        if by_flow {
            response.fields.push("Require", "outbound");
        }
        response
    }

    /// Sends something as one of the servers.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, message: impl Into<Message>) {
        let now_us = self.world.now().mono_us;
        self.world.network.send(now_us, from, to, message.into().write());
    }

    /// An edge says something to the phone.
    pub fn hears(&mut self, edge: usize, message: impl Into<Message>) {
        self.send(at(EDGES[edge]), SocketAddr::new(PHONE.parse().expect("an address"), SIP), message);
        self.millis(30);
    }

    /// The flows by which bindings stand, as numbers of edges.
    pub fn bound_by(&self) -> Vec<usize> {
        let mut edges: Vec<usize> = self.bindings.iter().map(|one| one.edge).collect();
        edges.sort_unstable();
        edges
    }

    /// When the phone tried to register with an edge that was down, repetitions left out; and how often it only asked.
    pub fn tries(&self) -> (Vec<u64>, usize) {
        let mut tries: Vec<(u32, u64)> = Vec::new();
        for (at_ms, request) in self.missed.iter().filter(|(_, one)| one.method == Method::REGISTER) {
            if tries.iter().all(|(number, _)| *number != request.head.cseq.number) {
                tries.push((request.head.cseq.number, *at_ms));
            }
        }
        let asked = self.missed.iter().filter(|(_, one)| one.method == Method::OPTIONS).count();
        (tries.into_iter().map(|(_, at_ms)| at_ms).collect(), asked)
    }

    /// The states of the line and of its flows.
    pub fn states(&self) -> (&'static str, Vec<&'static str>) {
        let line = &self.world.snapshot(0).lines[0];
        (line.state, line.flows.iter().map(|flow| flow.state).collect())
    }

    /// Somebody calls by the binding of an edge: their side and their INVITE.
    pub fn called(&mut self, edge: usize) -> (Peer, Request) {
        self.calls += 1;
        let bound = self.bindings.iter().find(|one| one.edge == edge).expect("a binding").clone();
        let mut peer = Peer::calling(&format!("<sip:200{}@pbx.example>", self.calls));
        // Branches are made of it.
        peer.local.set_tag(&format!("caller{}", self.calls));
        peer.target = bound.contact.uri;
        let invite = peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
        self.hears(edge, invite.clone());
        (peer, invite)
    }

    /// Whether a call that comes by an edge rings; it is taken back.
    pub fn rings_by(&mut self, edge: usize) -> bool {
        self.said.clear();
        let (peer, invite) = self.called(edge);
        let rings = self.status_at(edge) == Some(180);
        self.hears(edge, peer.cancel(&invite, ""));
        self.millis(100);
        self.said.clear();
        rings
    }

    /// The last status that the phone said to an edge.
    pub fn status_at(&self, edge: usize) -> Option<u16> {
        let mut statuses = self.said.iter().filter_map(|(to, message)| match message {
            Message::Response(response) if *to == at(EDGES[edge]) => Some(response.status),
            _ => None,
        });
        statuses.next_back()
    }

    /// The edges to which the phone said requests of this method, in order.
    pub fn asked(&self, method: &Method) -> Vec<usize> {
        let asked = self.said.iter().filter_map(|(to, message)| match message {
            Message::Request(request) if request.method == *method => {
                EDGES.iter().position(|edge| at(edge) == *to)
            }
            _ => None,
        });
        asked.collect()
    }

    /// Which edge gets the INVITE of a call that the phone makes now; it is taken back.
    pub fn calls_by(&mut self) -> Option<usize> {
        self.said.clear();
        let call = self.world.tell(0, call("2000")).expect("a call");
        self.millis(50);
        let edges = self.asked(&Method::INVITE);
        self.world.tell(0, tipring::phone::command::Command::HangUp { call: Some(call.id) });
        let invite = self.said.iter().find_map(|(to, message)| match message {
            Message::Request(request) if request.method == Method::INVITE => Some((*to, request.clone())),
            _ => None,
        });
        if let Some((to, invite)) = invite {
            let edge = EDGES.iter().position(|edge| at(edge) == to).expect("an edge");
            self.hears(edge, Response::to(&invite, 180));
            self.hears(edge, Response::to(&invite, 487));
        }
        self.millis(100);
        self.said.clear();
        edges.first().copied()
    }
}

/// The line of a user.
pub fn line_of(name: &str, user: &str) -> String {
    format!("[[line]]\nname = {name:?}\nuser = {user:?}\ndomain = \"pbx.example\"\npassword = \"secret\"\n")
}

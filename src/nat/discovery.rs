//! What the NAT on the way does (RFC 5780): how it maps and filters, whether it hairpins, how long it remembers.
//!
//! Every test asks for what one STUN server sees of a few sockets. A server with one address, or one that does not know
//! CHANGE-REQUEST, leaves open what only a second address could tell: what is not known is `None`, never guessed.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::chance::Chance;
use crate::nat::binding::{Binding, Outcome, Patience};
use crate::nat::candidate::{is_inside, may_be_tried};
use crate::nat::stun::{Change, Message, TransactionId};
use crate::now::{Now, earliest};

/// STUN servers that are asked.
pub const MOST_SERVERS: usize = 4;
/// Ages that a mapping is tried at, each with a socket of its own.
pub const MOST_AGES: usize = 16;

/// The sockets that the tests need, all of one address. What a test of one sends must not open the way for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Socket {
    /// The one whose mapping is looked at.
    First,
    /// The one whose filter is looked at.
    Second,
    /// One that falls silent for the age of this number.
    Aged(u8),
}

/// What is to be found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Address and port of [`Socket::First`], as this machine knows them.
    pub own: SocketAddr,
    /// STUN servers, at most [`MOST_SERVERS`] are asked.
    pub servers: Vec<SocketAddr>,
    /// The ages to try a mapping at, at most [`MOST_AGES`]; empty if its lifetime is not asked for.
    pub ages: Vec<Duration>,
}

/// What a mapping or a filter depends on (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependence {
    /// On nothing.
    EndpointIndependent,
    /// On the peer's address.
    AddressDependent,
    /// On the peer's address and port.
    AddressAndPortDependent,
    /// On the peer; no server could tell on how much of it.
    PeerDependent,
}

/// What one server said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Seen {
    /// The server.
    pub server: SocketAddr,
    /// Whence it sees [`Socket::First`]; `None` if it does not say.
    pub mapped: Option<SocketAddr>,
    /// The code of its refusal.
    pub refused: Option<u16>,
    /// Whether it could be asked from a second address.
    pub has_other_address: bool,
    /// From the question to its answer.
    pub round_trip_us: Option<u64>,
}

/// How old a mapping may get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Lifetime {
    /// It was still there after so many seconds.
    pub alive_s: Option<u64>,
    /// It was gone after so many seconds.
    pub gone_s: Option<u64>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Discovered {
    /// The socket that was looked at, as this machine knows it.
    pub own: SocketAddr,
    /// What each server said, in their order.
    pub servers: Vec<Seen>,
    /// Whence the first server that answers sees us; `None` if nobody answers.
    pub mapped: Option<SocketAddr>,
    /// Whether addresses are translated at all; `None` if nobody answers.
    pub translated: Option<bool>,
    /// What the outside port depends on; `None` without translation, or if it is not known.
    pub mapping: Option<Dependence>,
    /// Who may send to a mapping; `None` if it is not known.
    pub filtering: Option<Dependence>,
    /// Whether a neighbour is reached by its outside address (RFC 4787 §6).
    pub hairpin: Option<bool>,
    /// Whether the same server saw the same address and port at the end as at the beginning.
    pub stable: Option<bool>,
    /// How long an idle mapping lives; `None` if it was not asked for, or no server could tell.
    pub lifetime: Option<Lifetime>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// What the server of this number sees.
    Server(usize),
    /// What the server's other address sees, at its first and at its other port.
    Elsewhere { other_port: bool },
    /// Opens the filter before the second socket for the server.
    Warm,
    /// An answer from where nothing was sent to.
    Changed { address: bool },
    /// From the second socket to the outside of the first.
    Hairpin,
    /// Whether the server can answer to another socket at all.
    Control,
    /// Makes the mapping that will be left alone.
    Begin(u8),
    /// Whether it is still there.
    Aged(u8),
    /// What the first server sees at the end.
    Again,
}

#[derive(Debug)]
struct Probe {
    purpose: Purpose,
    from: Socket,
    /// Where its answer comes to.
    arrives: Socket,
    binding: Binding,
}

/// What came of an answer that should come from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Yes,
    No,
    /// The server does something else.
    Unable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Servers,
    Behaviour,
    Ageing,
    Again,
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Age {
    after: Duration,
    mapped: Option<SocketAddr>,
    due_us: Option<u64>,
    alive: Option<bool>,
}

/// The tests. Drain [`poll_transmit`](Discovery::poll_transmit) after each call that takes `now`.
#[derive(Debug)]
pub struct Discovery {
    stage: Stage,
    probes: Vec<Probe>,
    /// The server that the tests ask, and its other address.
    asked: Option<(SocketAddr, Option<SocketAddr>)>,
    elsewhere: [Option<SocketAddr>; 2],
    warm: bool,
    changed: [Option<Came>; 2],
    can_redirect: bool,
    ages: Vec<Age>,
    found: Discovered,
    chance: Chance,
}

impl Discovery {
    /// Begins.
    pub fn new(now: Now, mut question: Question, mut chance: Chance) -> Discovery {
        question.servers.retain(|server| server.is_ipv4() == question.own.is_ipv4());
        question.servers.truncate(MOST_SERVERS);
        question.ages.truncate(MOST_AGES);
        let mut probes = Vec::new();
        for (number, server) in question.servers.iter().enumerate() {
            let binding = Binding::new(*server, None, Patience::BRIEF, &mut chance);
            let (from, arrives) = (Socket::First, Socket::First);
            probes.push(Probe { purpose: Purpose::Server(number), from, arrives, binding });
        }
        let seen = |server: &SocketAddr| Seen {
            server: *server,
            mapped: None,
            refused: None,
            has_other_address: false,
            round_trip_us: None,
        };
        let age = |after: &Duration| Age { after: *after, mapped: None, due_us: None, alive: None };
        let mut discovery = Discovery {
            stage: Stage::Servers,
            probes,
            asked: None,
            elsewhere: [None; 2],
            warm: false,
            changed: [None; 2],
            can_redirect: false,
            ages: question.ages.iter().map(age).collect(),
            found: Discovered {
                own: question.own,
                servers: question.servers.iter().map(seen).collect(),
                mapped: None,
                translated: None,
                mapping: None,
                filtering: None,
                hairpin: None,
                stable: None,
                lifetime: None,
            },
            chance,
        };
        discovery.advance(now);
        discovery
    }

    /// What was found, once everything has been asked.
    pub fn found(&self) -> Option<&Discovered> {
        (self.stage == Stage::Over).then_some(&self.found)
    }

    /// A datagram came to one of the sockets. True if it belongs to a test.
    pub fn handle_datagram(&mut self, now: Now, at: Socket, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(id) = TransactionId::of(datagram) else { return false };
        let Some(index) = self.probes.iter().position(|probe| probe.binding.id() == id) else { return false };
        let Some(probe) = self.probes.get_mut(index) else { return false };
        if at != probe.arrives {
            return false;
        }
        if probe.purpose == Purpose::Hairpin {
            // What arrives is the question itself.
            self.probes.swap_remove(index);
            self.found.hairpin = Some(true);
        } else if !probe.binding.handle_datagram(now, from, datagram) {
            return false;
        } else if let Some(outcome) = probe.binding.poll_outcome() {
            let purpose = self.probes.swap_remove(index).purpose;
            self.conclude(now, purpose, &outcome);
        }
        self.advance(now);
        true
    }

    /// The next datagram: from which socket, whither, what.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(Socket, SocketAddr, Vec<u8>)> {
        self.probes.iter_mut().find_map(|probe| {
            let (to, octets) = probe.binding.poll_transmit(now)?;
            Some((probe.from, to, octets.to_vec()))
        })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let probes = self.probes.iter().map(|probe| probe.binding.poll_timeout());
        let ages = self.ages.iter().filter(|_| self.stage == Stage::Ageing).map(|age| age.due_us);
        probes.chain(ages).fold(None, earliest)
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.probes.iter_mut().for_each(|probe| probe.binding.handle_timeout(now));
        while let Some(index) = self.probes.iter().position(|probe| probe.binding.is_over()) {
            let mut probe = self.probes.swap_remove(index);
            let outcome = probe.binding.poll_outcome().unwrap_or(Outcome::NoAnswer);
            self.conclude(now, probe.purpose, &outcome);
        }
        self.advance(now);
    }

    fn ask(&mut self, purpose: Purpose, from: Socket, to: SocketAddr, change: Option<Change>) {
        let binding = Binding::new(to, change, Patience::BRIEF, &mut self.chance);
        self.probes.push(Probe { purpose, from, arrives: from, binding });
    }

    /// Asks from the second socket for an answer to the mapping of another one, which has to be at the same address.
    fn redirect(&mut self, purpose: Purpose, arrives: Socket, to: SocketAddr, mapped: SocketAddr) {
        let id = TransactionId::draw(&mut self.chance);
        let request = Message { response_port: Some(mapped.port()), ..Message::binding_request(id, None) };
        let binding = Binding::of(to, &request, Patience::BRIEF);
        self.probes.push(Probe { purpose, from: Socket::Second, arrives, binding });
    }

    fn conclude(&mut self, now: Now, purpose: Purpose, outcome: &Outcome) {
        let mapped = if let Outcome::Mapped { mapped, .. } = outcome { Some(*mapped) } else { None };
        match (purpose, outcome) {
            (Purpose::Server(number), outcome) => self.seen(number, outcome),
            (Purpose::Elsewhere { other_port }, _) => self.elsewhere[usize::from(other_port)] = mapped,
            (Purpose::Warm, _) => self.warm = mapped.is_some(),
            (Purpose::Changed { address }, outcome) => {
                self.changed[usize::from(address)] = Some(match outcome {
                    Outcome::Mapped { from, .. } if Some(*from) == self.changed_source(address) => Came::Yes,
                    Outcome::NoAnswer => Came::No,
                    _ => Came::Unable,
                });
            }
            (Purpose::Hairpin, _) => self.found.hairpin = Some(false),
            (Purpose::Control, _) => self.can_redirect = mapped.is_some(),
            (Purpose::Begin(number), _) => {
                if let Some(age) = self.ages.get_mut(usize::from(number)) {
                    age.mapped = mapped;
                    age.due_us = mapped.map(|_| now.deadline(age.after));
                }
            }
            (Purpose::Aged(number), outcome) => {
                if let Some(age) = self.ages.get_mut(usize::from(number)) {
                    age.alive = match outcome {
                        Outcome::Mapped { .. } => Some(true),
                        Outcome::NoAnswer => Some(false),
                        Outcome::Refused { .. } | Outcome::Useless => None,
                    };
                }
            }
            (Purpose::Again, _) => self.found.stable = mapped.map(|mapped| Some(mapped) == self.found.mapped),
        }
    }

    /// Whence an answer from another port, or also from another address, should come.
    fn changed_source(&self, address: bool) -> Option<SocketAddr> {
        let (server, other) = self.asked?;
        let other = other?;
        Some(if address { other } else { SocketAddr::new(server.ip(), other.port()) })
    }

    fn seen(&mut self, number: usize, outcome: &Outcome) {
        let Some(seen) = self.found.servers.get_mut(number) else { return };
        match outcome {
            Outcome::Mapped { mapped, other_address, round_trip, .. } => {
                let other = other_address.filter(|other| is_other(*other, seen.server));
                seen.mapped = Some(*mapped);
                seen.has_other_address = other.is_some();
                seen.round_trip_us = Some(crate::now::micros(*round_trip));
                let better = self.asked.is_none_or(|(_, known)| known.is_none() && other.is_some());
                if better {
                    self.asked = Some((seen.server, other));
                }
            }
            Outcome::Refused { refusal, .. } => seen.refused = Some(refusal.code),
            Outcome::Useless | Outcome::NoAnswer => {}
        }
    }

    fn advance(&mut self, now: Now) {
        if self.stage == Stage::Ageing {
            self.try_aged(now);
        }
        let waiting = self.ages.iter().any(|age| age.due_us.is_some());
        if !self.probes.is_empty() || (self.stage == Stage::Ageing && waiting) {
            return;
        }
        match self.stage {
            Stage::Servers => {
                self.stage = Stage::Behaviour;
                self.begin_behaviour();
            }
            Stage::Behaviour => {
                self.judge();
                self.stage = Stage::Ageing;
                if !self.can_redirect {
                    self.ages.clear();
                }
            }
            Stage::Ageing => {
                self.judge_ages();
                self.stage = Stage::Again;
                let first = self.found.servers.iter().find(|seen| seen.mapped.is_some());
                if let Some(server) = first.map(|seen| seen.server) {
                    self.ask(Purpose::Again, Socket::First, server, None);
                }
            }
            Stage::Again => self.stage = Stage::Over,
            Stage::Over => return,
        }
        self.advance(now);
    }

    fn begin_behaviour(&mut self) {
        let mapped = self.found.servers.iter().filter_map(|seen| seen.mapped);
        self.found.mapped = mapped.clone().next();
        self.found.translated = self.found.mapped.map(|mapped| mapped != self.found.own);
        if self.found.translated == Some(true) && mapped.clone().count() > 1 {
            let same = mapped.clone().all(|mapped| Some(mapped) == self.found.mapped);
            let depends = if same { Dependence::EndpointIndependent } else { Dependence::PeerDependent };
            self.found.mapping = Some(depends);
        }
        let (Some((server, other)), Some(outside)) = (self.asked, self.found.mapped) else { return };
        self.ask(Purpose::Warm, Socket::Second, server, None);
        if let Some(other) = other {
            let same_port = SocketAddr::new(other.ip(), server.port());
            self.ask(Purpose::Elsewhere { other_port: false }, Socket::First, same_port, None);
            self.ask(Purpose::Elsewhere { other_port: true }, Socket::First, other, None);
            for address in [false, true] {
                let change = Change { address, port: true };
                self.ask(Purpose::Changed { address }, Socket::Second, server, Some(change));
            }
        }
        if self.found.translated == Some(true) {
            let binding = Binding::new(outside, None, Patience::BRIEF, &mut self.chance);
            let (from, arrives) = (Socket::Second, Socket::First);
            self.probes.push(Probe { purpose: Purpose::Hairpin, from, arrives, binding });
            if !self.ages.is_empty() {
                let at_server = self.found.servers.iter().find(|seen| seen.server == server);
                let mapped = at_server.and_then(|seen| seen.mapped).unwrap_or(outside);
                self.redirect(Purpose::Control, Socket::First, server, mapped);
                for number in (0u8..).take(self.ages.len()) {
                    self.ask(Purpose::Begin(number), Socket::Aged(number), server, None);
                }
            }
        }
    }

    fn judge(&mut self) {
        let Some((server, Some(_))) = self.asked else { return };
        let at_server = self.found.servers.iter().find(|seen| seen.server == server);
        let first = at_server.and_then(|seen| seen.mapped);
        let [same_port, other_port] = self.elsewhere;
        if self.found.translated == Some(true)
            && let (Some(first), Some(same_port)) = (first, same_port)
        {
            self.found.mapping = match other_port {
                _ if same_port == first => Some(Dependence::EndpointIndependent),
                Some(other_port) if other_port == same_port => Some(Dependence::AddressDependent),
                Some(_) => Some(Dependence::AddressAndPortDependent),
                None => Some(Dependence::PeerDependent),
            };
        }
        // Silence says something only if the server's other address could have spoken.
        let could = self.warm && (same_port.is_some() || other_port.is_some());
        self.found.filtering = match self.changed {
            [_, Some(Came::Yes)] => Some(Dependence::EndpointIndependent),
            [Some(Came::Yes), Some(Came::No)] if could => Some(Dependence::AddressDependent),
            [Some(Came::No), Some(Came::No)] if could => Some(Dependence::AddressAndPortDependent),
            _ => None,
        };
    }

    fn try_aged(&mut self, now: Now) {
        let Some((server, _)) = self.asked else { return };
        for number in (0u8..).take(self.ages.len()) {
            let Some(age) = self.ages.get_mut(usize::from(number)) else { return };
            let Some(mapped) = age.mapped else { continue };
            if age.due_us.is_some_and(|due| due <= now.mono_us) {
                age.due_us = None;
                self.redirect(Purpose::Aged(number), Socket::Aged(number), server, mapped);
            }
        }
    }

    fn judge_ages(&mut self) {
        let of = |alive| self.ages.iter().filter(move |age| age.alive == Some(alive)).map(|age| age.after);
        let (alive, gone) = (of(true).max(), of(false).min());
        if alive.is_some() || gone.is_some() {
            let (alive_s, gone_s) = (alive.map(|age| age.as_secs()), gone.map(|age| age.as_secs()));
            self.found.lifetime = Some(Lifetime { alive_s, gone_s });
        }
    }
}

/// Whether the other address that a server names is one: no server sends us into networks that are not its own.
fn is_other(other: SocketAddr, server: SocketAddr) -> bool {
    other.ip() != server.ip()
        && other.port() != server.port()
        && may_be_tried(other, &[server.ip()])
        && (!is_inside(other.ip()) || is_inside(server.ip()))
}

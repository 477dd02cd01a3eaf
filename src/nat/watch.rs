//! Asks STUN servers every few seconds where we are seen from: another answer than before is a hint that the outside has
//! changed, long before the registrar's silence would show it.
//!
//! It is no more than a hint. Where mappings depend on the peer, the port that a STUN server sees is not the one that
//! the registrar sees; only that it changed counts.
//!
//! A port that waits for a call is asked about at the same server, lest its mapping is forgotten; what makes the outside
//! change changes that mapping too. So some questions are left to it: what both ask stays within one budget, and none is
//! later for that. A change that only the watched socket has seen is noticed one question later.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::binding::{Binding, Outcome, Patience};
use crate::nat::gathering;
use crate::nat::outside::Outside;
use crate::nat::stun::{Class, Message, Seal, TransactionId};
use crate::now::{Now, earliest};

/// Servers that are asked, one after the other when one is silent.
pub const MOST_SERVERS: usize = 4;
/// What it may cost in octets an hour, together with one waiting port; keeping the flow to the registrar costs besides.
const BUDGET: u64 = 136_000;
/// The headers of IPv4 and UDP, both ways, and the question.
const OVERHEAD: u32 = 2 * 28 + 20;
/// Between two questions, as far as the budget allows.
const LEAST: Duration = Duration::from_millis(4_100);
const MOST: Duration = Duration::from_secs(8);
/// The part of a wait that chance may add to it.
const SPREAD: f64 = 0.01;
/// An answer to another socket's question is waited for so long before the server is asked about this one.
const DEPUTY_PATIENCE: Duration = Duration::from_millis(700);
/// The same where every registrar tells by itself, and as often, where it sees us.
const SPARE: Duration = Duration::from_secs(60);
/// While nobody answers, the wait is this part of the silence, up to [`LONGEST`].
const SILENCE_SHARE: u32 = 20;
const LONGEST: Duration = Duration::from_secs(60);
/// Four requests within 1.6 s, 2 s in all.
const PATIENCE: Patience =
    Patience { first: Duration::from_millis(250), longest: Duration::from_millis(700), requests: 4, last: 2 };

/// What is to be done or known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this from the socket that is watched.
    Datagram {
        /// To a STUN server.
        to: SocketAddr,
        /// The request.
        octets: Vec<u8>,
    },
    /// Have this server asked about a port that waits; [`handle_witness`](Watch::handle_witness) takes what it says.
    Depute(SocketAddr),
    /// The outside has changed.
    Changed,
    /// A server answers after a silence: there is a network again.
    Heard,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    outside: Outside,
}

/// Another socket that the same server is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deputy {
    /// None that is known of.
    Absent,
    /// It may stand in as soon as the watch has asked so often by itself.
    Idle { own: u32 },
    /// The question was left to it.
    Asking,
}

/// The watch over one socket. Drain [`poll_output`](Watch::poll_output) after each call.
#[derive(Debug)]
pub struct Watch {
    servers: VecDeque<Server>,
    asking: Option<Binding>,
    next: Option<u64>,
    /// Since when nobody answers.
    silent_since: Option<u64>,
    answers: bool,
    spare: bool,
    /// How often the outside has changed.
    changes: u32,
    cost: u32,
    deputy: Deputy,
    /// The question before the next one was left to another socket.
    gap: bool,
    /// Mappings do not outlive such a gap.
    brief: bool,
    chance: Chance,
    outputs: VecDeque<Output>,
}

impl Watch {
    /// Without servers, nothing is asked.
    pub fn new(chance: Chance) -> Watch {
        Watch {
            servers: VecDeque::new(),
            asking: None,
            next: None,
            silent_since: None,
            answers: false,
            spare: false,
            changes: 0,
            cost: 0,
            deputy: Deputy::Absent,
            gap: false,
            brief: false,
            chance,
            outputs: VecDeque::new(),
        }
    }

    /// The servers to ask, the preferred one first; those that were known keep what they said. No more than
    /// [`MOST_SERVERS`] are taken.
    pub fn set_servers(&mut self, now: Now, addresses: &[SocketAddr]) {
        let known: Vec<Server> = self.servers.drain(..).collect();
        for address in addresses.iter().take(MOST_SERVERS) {
            let outside = known.iter().find(|server| server.address == *address);
            let outside = outside.map(|server| server.outside).unwrap_or_default();
            if !self.servers.iter().any(|server| server.address == *address) {
                self.servers.push_back(Server { address: *address, outside });
            }
        }
        if self.servers.is_empty() {
            self.asking = None;
            self.next = None;
            self.answers = false;
        } else if self.asking.is_none() && self.next.is_none() {
            self.next = Some(now.mono_us);
        }
    }

    /// Whether a server answered when it was asked last.
    pub fn is_answered(&self) -> bool {
        self.answers
    }

    /// Whether others tell the same and as often: then it is asked rarely.
    pub fn set_spare(&mut self, now: Now, spare: bool) {
        if std::mem::replace(&mut self.spare, spare) && !spare {
            self.hurry(now);
        }
    }

    /// Whence the server that is asked saw us last, and how often that has changed so far.
    pub fn outside(&self) -> Option<(SocketAddr, u32)> {
        Some((self.servers.front()?.outside.last()?, self.changes))
    }

    /// Asks now: something has happened to the network.
    pub fn hurry(&mut self, now: Now) {
        if self.asking.is_none() && !self.servers.is_empty() {
            self.next = Some(now.mono_us);
            self.dismiss();
        }
    }

    /// This server was asked about a port that waits, and has answered; `moved`: it saw it elsewhere before.
    pub fn handle_witness(&mut self, now: Now, server: SocketAddr, moved: bool) {
        if self.servers.front().is_none_or(|front| front.address != server) {
            return;
        }
        match self.deputy {
            _ if moved => {
                self.deputy = Deputy::Idle { own: 0 };
                self.hurry(now);
            }
            Deputy::Absent => self.deputy = Deputy::Idle { own: 0 },
            Deputy::Idle { .. } => {}
            Deputy::Asking => {
                self.deputy = Deputy::Idle { own: 0 };
                self.gap = true;
                self.rest(now);
            }
        }
    }

    /// Whoever is being asked in place of the watch is not waited for.
    fn dismiss(&mut self) {
        if self.deputy == Deputy::Asking {
            self.deputy = Deputy::Absent;
        }
    }

    /// The wait between two questions, without chance.
    fn pace(&self) -> Duration {
        let affordable = Duration::from_millis(u64::from(self.cost) * 3_600_000 / BUDGET);
        if self.spare { SPARE } else { affordable.clamp(LEAST, MOST) }
    }

    fn rest(&mut self, now: Now) {
        let wait = self.pace().mul_f64(1.0 + SPREAD * self.chance.unit());
        self.next = Some(now.deadline(wait));
    }

    /// Whether the question that is due is the waiting port's: the next one would come too late for it.
    fn may_depute(&self) -> bool {
        let Deputy::Idle { own } = self.deputy else { return false };
        let turns = gathering::KEEP.as_secs_f64() / (self.pace().as_secs_f64() * (1.0 + SPREAD));
        self.answers && !self.spare && f64::from(own) + 1.0 >= turns.floor().max(2.0)
    }

    /// A datagram of STUN came. True if it was an answer to a question of this watch.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(binding) = &mut self.asking else { return false };
        if !binding.handle_datagram(now, from, datagram) {
            return false;
        }
        self.cost = u32::try_from(datagram.len()).unwrap_or(u32::MAX).saturating_add(OVERHEAD);
        self.conclude(now);
        true
    }

    fn conclude(&mut self, now: Now) {
        let Some(outcome) = self.asking.as_mut().and_then(Binding::poll_outcome) else { return };
        let asked = self.asking.take().map(|binding| binding.server());
        let server = self.servers.iter_mut().find(|server| Some(server.address) == asked);
        if let (Outcome::Mapped { mapped, .. }, Some(server)) = (&outcome, server) {
            let before = server.outside.last();
            if server.outside.note(*mapped) {
                self.changes = self.changes.saturating_add(1);
                self.outputs.push_back(Output::Changed);
            }
            let forgotten = before.is_some_and(|before| before != *mapped && before.ip() == mapped.ip());
            self.brief |= std::mem::take(&mut self.gap) && forgotten;
            if let Deputy::Idle { own } = &mut self.deputy {
                *own = own.saturating_add(1);
            }
            if self.silent_since.take().is_some() {
                self.outputs.push_back(Output::Heard);
            }
            self.answers = true;
            self.rest(now);
            return;
        }
        // Another one may do better.
        self.servers.rotate_left(1);
        (self.answers, self.gap) = (false, false);
        let since = *self.silent_since.get_or_insert(now.mono_us);
        let wait = (now.since(since) / SILENCE_SHARE).clamp(Duration::from_secs(2), LONGEST);
        self.next = Some(now.deadline(wait.mul_f64(0.8 + 0.2 * self.chance.unit())));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        earliest(self.asking.as_ref().and_then(Binding::poll_timeout), self.next)
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Some(binding) = &mut self.asking {
            binding.handle_timeout(now);
            self.conclude(now);
        }
        if self.next.is_some_and(|next| next <= now.mono_us) {
            self.next = None;
            self.ask(now);
        }
        if let Some(binding) = &mut self.asking
            && let Some((to, octets)) = binding.poll_transmit(now)
        {
            self.outputs.push_back(Output::Datagram { to, octets: octets.to_vec() });
        }
    }

    /// The time for a question has come.
    fn ask(&mut self, now: Now) {
        let Some(to) = self.servers.front().map(|server| server.address) else { return };
        if !self.may_depute() {
            self.dismiss();
            self.asking = Some(Binding::new(to, None, PATIENCE, &mut self.chance));
            return;
        }
        self.deputy = Deputy::Asking;
        self.next = Some(now.deadline(DEPUTY_PATIENCE));
        self.outputs.push_back(Output::Depute(to));
        if self.brief {
            let indication = Message::new(Class::Indication, TransactionId::draw(&mut self.chance));
            self.outputs.push_back(Output::Datagram { to, octets: indication.write(Seal::Plain) });
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

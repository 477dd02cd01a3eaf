//! Gathering of the candidates of one socket (RFC 8445 §5.1.1), and keeping them: a socket that waits for a call is asked
//! about again and again, and its allocation refreshed, so that the call does not wait.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::binding::{Binding, Outcome, Patience};
use crate::nat::candidate::{Candidate, FIRST_PREFERENCE, Kind, may_be_tried, priority};
use crate::nat::turn::{self, Allocation, Incoming, Server};
use crate::now::{Now, earliest};
use std::collections::VecDeque;

/// STUN servers that are asked: two tell whether the NAT maps every peer alike.
pub const MAX_STUN: usize = 2;
/// TURN servers that are tried, one after the other.
pub const MAX_TURN: usize = 4;
/// A socket that waits is asked about so often: shorter than any NAT forgets.
const KEEP: Duration = Duration::from_secs(15);
/// After all TURN servers have failed they are tried again, at first after this time, which doubles …
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this one.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// What to gather from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Addresses of this machine that the socket serves, the preferred first.
    pub own: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// STUN servers, at most [`MAX_STUN`] are asked.
    pub stun: Vec<SocketAddr>,
    /// TURN servers, the preferred first; at most [`MAX_TURN`] are tried.
    pub turn: Vec<Server>,
}

/// What has been found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The candidates, the best first; none twice.
    pub candidates: Vec<Candidate>,
    /// Whence the outside sees the socket; `None` while nobody has said.
    pub mapped: Option<SocketAddr>,
    /// Two servers see it come from different addresses: `mapped` is good for neither of them but itself.
    pub symmetric: bool,
    /// Two servers see it come from the same address: `mapped` is good for others, too.
    pub steady: bool,
    /// Why there is no relayed address, if one was wanted.
    pub no_relay: Option<turn::Failure>,
    /// Nothing is under way any more.
    pub complete: bool,
    /// How often everything was asked anew.
    pub round: u32,
}

#[derive(Debug)]
struct Question {
    server: SocketAddr,
    under_way: Option<Binding>,
    mapped: Option<SocketAddr>,
    /// It has answered or been given up once.
    settled: bool,
    next_us: u64,
}

/// The candidates of one socket. After each call that takes `now`, drain
/// [`poll_transmit`](Gathering::poll_transmit) and [`poll_found`](Gathering::poll_found).
#[derive(Debug)]
pub struct Gathering {
    sources: Sources,
    questions: Vec<Question>,
    allocation: Option<Allocation>,
    /// The TURN server that is tried.
    at: usize,
    retry_us: Option<u64>,
    retry: Duration,
    no_relay: Option<turn::Failure>,
    told: Option<Found>,
    changed: bool,
    round: u32,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    chance: Chance,
}

impl Gathering {
    /// Begins to ask.
    pub fn new(now: Now, mut sources: Sources, chance: Chance) -> Gathering {
        let usable = |server: SocketAddr| sources.own.iter().any(|own| own.is_ipv4() == server.is_ipv4());
        sources.stun.retain(|server| usable(*server));
        sources.stun.dedup();
        sources.stun.truncate(MAX_STUN);
        // What is reached by a stream has no datagrams of this socket.
        sources.turn.retain(|server| usable(server.address) && !server.stream);
        sources.turn.truncate(MAX_TURN);
        let questions = sources.stun.iter().map(|server| Question {
            server: *server,
            under_way: None,
            mapped: None,
            settled: false,
            next_us: now.mono_us,
        });
        let mut gathering = Gathering {
            questions: questions.collect(),
            allocation: None,
            at: 0,
            retry_us: None,
            retry: FIRST_RETRY,
            no_relay: None,
            told: None,
            changed: true,
            round: 0,
            out: VecDeque::new(),
            chance,
            sources,
        };
        gathering.allocate(now);
        gathering.handle_timeout(now);
        gathering
    }

    /// What is gathered from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Something says that the outside may see us elsewhere: every server is asked at once.
    pub fn hurry(&mut self, now: Now) {
        self.round = self.round.wrapping_add(1);
        for question in &mut self.questions {
            (question.under_way, question.settled, question.next_us) = (None, false, now.mono_us);
        }
        match &mut self.allocation {
            Some(allocation) => allocation.test(now),
            None => self.allocate(now),
        }
        self.changed = true;
        self.handle_timeout(now);
    }

    /// The allocation, if there is one.
    pub fn allocation(&mut self) -> Option<&mut Allocation> {
        self.allocation.as_mut()
    }

    /// Our address at the TURN server.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.allocation.as_ref().and_then(Allocation::relayed)
    }

    fn allocate(&mut self, now: Now) {
        self.retry_us = None;
        if let Some(server) = self.sources.turn.get(self.at) {
            self.allocation = Some(Allocation::new(now, server.clone(), self.chance.fork()));
        }
    }

    /// A datagram came. True if it is dealt with; a packet of a peer is handed to `packet` with where it lies.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        packet: impl FnOnce(SocketAddr, std::ops::Range<usize>),
    ) -> bool {
        for question in &mut self.questions {
            let Some(binding) = question.under_way.as_mut() else { continue };
            if !binding.handle_datagram(now, from, datagram) {
                continue;
            }
            if let Some(outcome) = binding.poll_outcome() {
                question.under_way = None;
                question.settled = true;
                let mapped = if let Outcome::Mapped { mapped, .. } = outcome { Some(mapped) } else { None };
                question.mapped = mapped;
                self.changed = true;
            }
            return true;
        }
        let Some(allocation) = self.allocation.as_mut().filter(|allocation| allocation.server() == from)
        else {
            return false;
        };
        match allocation.handle(now, datagram) {
            Incoming::Foreign => false,
            Incoming::Done => {
                self.changed = true;
                self.listen(now);
                true
            }
            Incoming::Packet { peer, payload } => {
                packet(peer, payload);
                true
            }
        }
    }

    fn listen(&mut self, now: Now) {
        let Some(allocation) = &mut self.allocation else { return };
        while let Some(message) = allocation.poll_transmit() {
            self.out.push_back((allocation.server(), message));
        }
        let Some(event) = allocation.poll_event() else { return };
        self.changed = true;
        match event {
            turn::Event::Allocated { .. } => {
                self.retry = FIRST_RETRY;
                self.no_relay = None;
            }
            turn::Event::PeerRefused(..) => {}
            turn::Event::Failed(failure) => {
                self.allocation = None;
                self.no_relay = Some(failure);
                self.at += 1;
                if self.at < self.sources.turn.len() {
                    self.allocate(now);
                } else {
                    self.at = 0;
                    self.retry_us = Some(now.deadline(self.retry));
                    self.retry = (self.retry * 2).min(LONGEST_RETRY);
                }
            }
        }
        self.listen(now);
    }

    /// Gives everything back.
    pub fn release(&mut self, now: Now) {
        if let Some(allocation) = &mut self.allocation {
            allocation.release(now);
        }
        self.listen(now);
        self.questions.clear();
        self.allocation = None;
        self.retry_us = None;
    }

    /// The next datagram, and whither.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(allocation) = &mut self.allocation
            && let Some(message) = allocation.poll_transmit()
        {
            return Some((allocation.server(), message));
        }
        self.out.pop_front()
    }

    /// What has been found, whenever it has changed.
    pub fn poll_found(&mut self) -> Option<&Found> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let found = self.found();
        if self.told.as_ref() == Some(&found) {
            return None;
        }
        self.told = Some(found);
        self.told.as_ref()
    }

    fn found(&self) -> Found {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut add = |kind: Kind, address: SocketAddr, preference: u16, server: u8, related| {
            if !candidates.iter().any(|known| known.address == address) {
                let family = if address.is_ipv4() { 4 } else { 6 };
                let foundation =
                    format!("{}{family}{}{server}", kind.preference_digit(), 65_535 - preference);
                let priority = priority(kind, preference, 1);
                candidates.push(Candidate { foundation, component: 1, priority, address, kind, related });
            }
        };
        for (at, own) in self.sources.own.iter().enumerate() {
            let preference = FIRST_PREFERENCE.saturating_sub(u16::try_from(at).unwrap_or(u16::MAX));
            add(Kind::Host, SocketAddr::new(*own, self.sources.port), preference, 0, None);
        }
        let base = |of: SocketAddr| {
            let own = self.sources.own.iter().find(|own| own.is_ipv4() == of.is_ipv4());
            own.map(|own| SocketAddr::new(*own, self.sources.port))
        };
        let outside = |address: &SocketAddr| may_be_tried(*address, &self.sources.own);
        for (at, question) in self.questions.iter().enumerate() {
            if let Some(mapped) = question.mapped.filter(outside) {
                let server = u8::try_from(at).unwrap_or(9);
                add(Kind::ServerReflexive, mapped, FIRST_PREFERENCE, server, base(mapped));
            }
        }
        if let Some(relayed) = self.relayed() {
            add(Kind::Relayed, relayed, FIRST_PREFERENCE, 0, Some(relayed));
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
        let mut mapped = self.questions.iter().filter_map(|question| question.mapped);
        let first = mapped.next();
        let others: Vec<SocketAddr> = mapped.collect();
        let symmetric = others.iter().any(|other| Some(*other) != first);
        Found {
            mapped: first,
            symmetric,
            steady: !symmetric && !others.is_empty(),
            no_relay: self.no_relay.clone().filter(|_| self.relayed().is_none()),
            complete: self.questions.iter().all(|question| question.settled)
                && self.allocation.as_ref().is_none_or(Allocation::is_settled),
            round: self.round,
            candidates,
        }
    }

    /// When [`Gathering::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let questions = self.questions.iter().map(|question| match &question.under_way {
            Some(binding) => binding.poll_timeout(),
            None => Some(question.next_us),
        });
        let allocation = self.allocation.as_ref().and_then(Allocation::poll_timeout);
        questions.fold(earliest(allocation, self.retry_us), earliest)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        for question in &mut self.questions {
            let ask = question.under_way.is_none() && question.next_us <= now.mono_us;
            if ask {
                question.next_us = now.deadline(KEEP);
                let patience = Patience::BRIEF;
                question.under_way = Some(Binding::new(question.server, None, patience, &mut self.chance));
            }
            let Some(binding) = &mut question.under_way else { continue };
            binding.handle_timeout(now);
            if let Some((to, request)) = binding.poll_transmit(now) {
                self.out.push_back((to, request.to_vec()));
            }
            if binding.poll_outcome().is_some() {
                // Nobody has answered: what was known is no longer sure, but the best there is.
                question.under_way = None;
                question.settled = true;
                self.changed = true;
            }
        }
        if let Some(allocation) = &mut self.allocation {
            allocation.handle_timeout(now);
        } else if self.retry_us.is_some_and(|at| at <= now.mono_us) {
            self.allocate(now);
        }
        self.listen(now);
    }
}

impl Kind {
    fn preference_digit(self) -> u8 {
        match self {
            Kind::Host => 1,
            Kind::ServerReflexive => 2,
            Kind::PeerReflexive => 3,
            Kind::Relayed => 4,
        }
    }
}

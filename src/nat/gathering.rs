//! Gathering of the candidates of one socket (RFC 8445 §5.1.1), and keeping them: a socket that waits for a call is asked
//! about again and again, and its allocation refreshed, so that the call does not wait.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::binding::{Binding, Outcome, Patience};
use crate::nat::candidate::{Candidate, FIRST_PREFERENCE, Kind, may_be_tried, priority};
use crate::nat::relay::{MAX_SERVERS, Relay, StreamId, StreamInput, StreamOrder, Target};
use crate::nat::turn::{self, Allocation, Incoming};
use crate::nat::turn_server::{Carriage, Server};
use crate::now::{Now, earliest};
use std::collections::VecDeque;

/// STUN servers that are asked: two tell whether the NAT maps every peer alike.
pub const MAX_STUN: usize = 2;
/// A socket that waits is asked about so often: shorter than any NAT forgets.
pub(super) const KEEP: Duration = Duration::from_secs(15);
/// A NAT has forgotten it in spite of that: from then on it is asked twice as often, down to this time …
const LEAST_KEEP: Duration = Duration::from_secs(5);
/// … and half as often again when it was remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// A server is asked so often while another one tells whether anything has changed, and keeps the mapping.
const SELDOM: Duration = Duration::from_secs(600);

/// What to gather from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Addresses of this machine that the socket serves, the preferred first.
    pub own: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// STUN servers, at most [`MAX_STUN`] are asked.
    pub stun: Vec<SocketAddr>,
    /// TURN servers, the preferred first; at most [`MAX_SERVERS`] are tried.
    pub turn: Vec<Server>,
}

impl Sources {
    /// What is known without asking anybody: the addresses of the machine.
    pub fn hosts(&self) -> Vec<Candidate> {
        let host = |(at, own): (usize, &IpAddr)| {
            let preference = FIRST_PREFERENCE.saturating_sub(u16::try_from(at).unwrap_or(u16::MAX));
            candidate(Kind::Host, SocketAddr::new(*own, self.port), preference, 0, None)
        };
        self.own.iter().enumerate().map(host).collect()
    }

    /// Whether the socket can reach this address at all.
    fn serves(&self, server: SocketAddr) -> bool {
        self.own.iter().any(|own| own.is_ipv4() == server.is_ipv4())
    }

    fn questions(&self, now: Now) -> Vec<Question> {
        let mut servers = self.stun.clone();
        servers.retain(|server| self.serves(*server));
        servers.dedup();
        servers.truncate(MAX_STUN);
        let question = |server: SocketAddr| Question {
            server,
            under_way: None,
            mapped: None,
            settled: false,
            heard: false,
            seldom: false,
            rested: false,
            next_us: now.mono_us,
            news: None,
        };
        servers.into_iter().map(question).collect()
    }

    fn relays(&self) -> Vec<Server> {
        let mut servers = self.turn.clone();
        servers.retain(|server| self.serves(server.address));
        servers.truncate(MAX_SERVERS);
        servers
    }
}

fn candidate(
    kind: Kind,
    address: SocketAddr,
    preference: u16,
    server: u8,
    related: Option<SocketAddr>,
) -> Candidate {
    let family = if address.is_ipv4() { 4 } else { 6 };
    let foundation = format!("{}{family}{}{server}", kind.preference_digit(), 65_535 - preference);
    Candidate { foundation, component: 1, priority: priority(kind, preference, 1), address, kind, related }
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
    /// How the TURN server that relays is reached: "udp", "tcp" or "tls"; `None` without a relayed address.
    pub relay: Option<&'static str>,
    /// Why there is no relayed address, if one was wanted.
    pub no_relay: Option<turn::Failure>,
    /// Nothing is under way any more.
    pub complete: bool,
    /// How often everything was asked anew.
    pub round: u32,
}

impl Found {
    /// Says that it was found for the socket of this component.
    pub fn set_component(&mut self, component: u8) {
        let found = std::mem::take(&mut self.candidates).into_iter();
        self.candidates = found.map(|candidate| candidate.of_component(component)).collect();
    }
}

#[derive(Debug)]
struct Question {
    server: SocketAddr,
    under_way: Option<Binding>,
    mapped: Option<SocketAddr>,
    /// It has answered or been given up once.
    settled: bool,
    /// It answered when it was asked last.
    heard: bool,
    /// It is left alone, as another one is asked in its place; and it was before it was asked last: the NAT may have
    /// forgotten what belonged to it alone.
    seldom: bool,
    rested: bool,
    next_us: u64,
    /// An answer that was not told yet, and whether it is another than before.
    news: Option<bool>,
}

/// The candidates of one socket. After each call that takes `now`, drain
/// [`poll_packet`](Gathering::poll_packet), [`poll_transmit`](Gathering::poll_transmit),
/// [`poll_order`](Gathering::poll_order), [`poll_answer`](Gathering::poll_answer) and [`poll_found`](Gathering::poll_found).
#[derive(Debug)]
pub struct Gathering {
    sources: Sources,
    questions: Vec<Question>,
    relay: Relay,
    told: Option<Found>,
    changed: bool,
    round: u32,
    /// How often a waiting socket is asked about, and since when that has been enough.
    keep: Duration,
    enough_us: u64,
    out: VecDeque<(Target, Vec<u8>)>,
    chance: Chance,
}

impl Gathering {
    /// Begins to ask.
    pub fn new(now: Now, sources: Sources, mut chance: Chance) -> Gathering {
        let mut gathering = Gathering {
            questions: sources.questions(now),
            relay: Relay::new(now, sources.relays(), chance.fork()),
            told: None,
            changed: true,
            round: 0,
            keep: KEEP,
            enough_us: now.mono_us,
            out: VecDeque::new(),
            chance,
            sources,
        };
        gathering.handle_timeout(now);
        gathering
    }

    /// What is gathered from, as it was told: more servers may be in it than are asked.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Gathers from other sources from now on. The allocation stays, as it may carry a call: its server says whether it is
    /// still ours.
    pub fn change(&mut self, now: Now, sources: Sources) {
        self.questions = sources.questions(now);
        self.relay.change(now, sources.relays());
        self.sources = sources;
        self.hurry(now);
    }

    /// Something says that the outside may see us elsewhere: every server is asked at once.
    pub fn hurry(&mut self, now: Now) {
        self.round = self.round.wrapping_add(1);
        for question in &mut self.questions {
            (question.under_way, question.next_us) = (None, now.mono_us);
            // Who was not heard before is asked, but nobody waits for it.
            question.settled &= question.mapped.is_none();
        }
        self.relay.hurry(now);
        self.changed = true;
        self.handle_timeout(now);
    }

    /// What this server says is another answer than before, or none: what is known of the others may be worthless, too.
    fn ask_others(&mut self, now: Now, but: usize) {
        for (at, question) in self.questions.iter_mut().enumerate() {
            if at != but && question.seldom {
                question.next_us = now.mono_us;
                question.settled &= question.mapped.is_none();
            }
        }
        self.handle_timeout(now);
    }

    /// Asks this server now, if it is one of ours and not being asked: somebody waits for its answer.
    pub fn ask(&mut self, now: Now, server: SocketAddr) {
        let idle = |question: &&mut Question| question.server == server && question.under_way.is_none();
        if let Some(question) = self.questions.iter_mut().find(idle) {
            question.next_us = now.mono_us;
        }
        self.handle_timeout(now);
    }

    /// The next server that has answered, and whether it saw us elsewhere before.
    pub fn poll_answer(&mut self) -> Option<(SocketAddr, bool)> {
        self.questions.iter_mut().find_map(|question| Some((question.server, question.news.take()?)))
    }

    /// The allocation, if there is one, and where its server is.
    pub fn allocation(&mut self) -> Option<(&mut Allocation, Target)> {
        self.relay.allocation()
    }

    /// Our address at the TURN server.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.relay.relayed()
    }

    /// A datagram came. True if it is dealt with; a packet of a peer is handed to `packet` with where it lies.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        packet: impl FnOnce(SocketAddr, std::ops::Range<usize>),
    ) -> bool {
        for at in 0..self.questions.len() {
            let Some(question) = self.questions.get_mut(at) else { break };
            let Some(binding) = question.under_way.as_mut() else { continue };
            if !binding.handle_datagram(now, from, datagram) {
                continue;
            }
            if let Some(outcome) = binding.poll_outcome() {
                question.under_way = None;
                question.settled = true;
                let mapped = if let Outcome::Mapped { mapped, .. } = outcome { Some(mapped) } else { None };
                let before = std::mem::replace(&mut question.mapped, mapped).filter(|_| !question.rested);
                question.heard = mapped.is_some();
                self.changed = true;
                question.news = mapped.map(|mapped| before.is_some_and(|before| before != mapped));
                if let Some(before) = before.filter(|before| Some(*before) != mapped) {
                    if let Some(mapped) = mapped {
                        self.moved(now, before.ip() == mapped.ip());
                    }
                    self.ask_others(now, at);
                }
            }
            return true;
        }
        match self.relay.handle_datagram(now, from, datagram) {
            Incoming::Foreign => false,
            Incoming::Done => {
                self.changed = true;
                true
            }
            Incoming::Packet { peer, payload } => {
                packet(peer, payload);
                true
            }
        }
    }

    /// The outside sees the socket elsewhere than before: what the TURN server knows may be worthless. At the same address
    /// it is the NAT that has forgotten.
    fn moved(&mut self, now: Now, forgotten: bool) {
        if forgotten && now.since(self.enough_us) > LEAST_KEEP {
            self.keep_open(now, (self.keep / 2).max(LEAST_KEEP));
        }
        self.relay.hurry(now);
    }

    fn keep_open(&mut self, now: Now, every: Duration) {
        (self.keep, self.enough_us) = (every, now.mono_us);
        self.relay.keep_open(every);
        for question in &mut self.questions {
            question.next_us = question.next_us.min(now.deadline(every));
        }
    }

    /// Something has become of a stream; false if it is none of ours.
    pub fn handle_stream(&mut self, now: Now, stream: StreamId, input: StreamInput<'_>) -> bool {
        self.changed = true;
        self.relay.handle_stream(now, stream, input)
    }

    /// Messages of TURN servers that were not believed so far.
    pub fn forged(&self) -> u64 {
        self.relay.forged()
    }

    /// The next packet of a peer that came on a stream, and who sent it.
    pub fn poll_packet(&mut self, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        self.relay.poll_packet(now)
    }

    /// Gives everything back.
    pub fn release(&mut self, now: Now) {
        self.relay.release(now);
        self.questions.clear();
    }

    /// The next packet, and whither.
    pub fn poll_transmit(&mut self) -> Option<(Target, Vec<u8>)> {
        self.relay.poll_transmit().or_else(|| self.out.pop_front())
    }

    /// What is to be done with a stream next.
    pub fn poll_order(&mut self) -> Option<StreamOrder> {
        self.relay.poll_order()
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
        let mut candidates = self.sources.hosts();
        let mut add = |kind: Kind, address: SocketAddr, server: u8, related| {
            if !candidates.iter().any(|known| known.address == address) {
                candidates.push(candidate(kind, address, FIRST_PREFERENCE, server, related));
            }
        };
        let base = |of: SocketAddr| {
            let own = self.sources.own.iter().find(|own| own.is_ipv4() == of.is_ipv4());
            own.map(|own| SocketAddr::new(*own, self.sources.port))
        };
        let outside = |address: &SocketAddr| may_be_tried(*address, &self.sources.own);
        for (at, question) in self.questions.iter().enumerate() {
            if let Some(mapped) = question.mapped.filter(outside) {
                let server = u8::try_from(at).unwrap_or(9);
                add(Kind::ServerReflexive, mapped, server, base(mapped));
            }
        }
        if let Some(relayed) = self.relayed() {
            add(Kind::Relayed, relayed, 0, Some(relayed));
        }
        crate::order::sort_by_key(&mut candidates, |candidate| std::cmp::Reverse(candidate.priority));
        let seen: Vec<(IpAddr, SocketAddr)> = self
            .questions
            .iter()
            .filter_map(|question| Some((question.server.ip(), question.mapped?)))
            .collect();
        let first = seen.first();
        let symmetric = seen.iter().any(|(_, mapped)| first.is_some_and(|(_, first)| mapped != first));
        // Some NATs look at the address of the server alone: its other ports are no witnesses.
        let steady =
            !symmetric && seen.iter().any(|(server, _)| first.is_some_and(|(first, _)| server != first));
        Found {
            mapped: first.map(|(_, mapped)| *mapped),
            symmetric,
            steady,
            relay: self.relay.carriage().map(Carriage::word),
            no_relay: self.relay.failure().cloned(),
            complete: self.questions.iter().all(|question| question.settled) && self.relay.is_settled(),
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
        questions.fold(self.relay.poll_timeout(), earliest)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.keep < KEEP && now.since(self.enough_us) >= REMEMBERED {
            self.keep_open(now, (self.keep * 2).min(KEEP));
        }
        let lead = self.questions.iter().position(|question| question.heard);
        let mut silent = None;
        for (at, question) in self.questions.iter_mut().enumerate() {
            let ask = question.under_way.is_none() && question.next_us <= now.mono_us;
            if ask {
                let led = question.heard && lead.is_some_and(|lead| lead < at);
                (question.rested, question.seldom) = (question.seldom, led);
                question.next_us = now.deadline(if led { SELDOM } else { self.keep });
                let patience = Patience::BRIEF;
                question.under_way = Some(Binding::new(question.server, None, patience, &mut self.chance));
            }
            let Some(binding) = &mut question.under_way else { continue };
            binding.handle_timeout(now);
            if let Some((to, request)) = binding.poll_transmit(now) {
                self.out.push_back((to.into(), request.to_vec()));
            }
            if binding.poll_outcome().is_some() {
                // Nobody has answered: what was known is no longer sure, but the best there is.
                question.under_way = None;
                question.settled = true;
                self.changed = true;
                silent = std::mem::take(&mut question.heard).then_some(at).or(silent);
            }
        }
        if let Some(at) = silent {
            self.ask_others(now, at);
        }
        self.changed |= self.relay.poll_timeout().is_some_and(|due| due <= now.mono_us);
        self.relay.handle_timeout(now);
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

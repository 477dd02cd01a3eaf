//! Keeps the flow to a registrar alive, and notices when it is not (RFC 5626 §4.4, RFC 6223).
//!
//! How a registrar can be asked is found out once: by STUN on the flow if it answers that, on a stream by a ping if a
//! pong comes, else by a request in the words of the flow's own protocol, of which any answer counts. A line end alone
//! is never sent as a datagram (RFC 5626 §4.4.1). An answer shows how the registrar sees us; another address than before
//! means that the binding it has leads nowhere.
//!
//! A registrar that asks by itself, and no longer does, may have forgotten us: it is asked, and registered with once more.
//!
//! While a registrar is silent, it is asked in steps that grow with the length of the outage: whoever was away for a
//! minute is found again within seconds, and thousands of devices do not wear out a network whose registrar is gone
//! for a day.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::binding::{Binding, Outcome, Patience};
use crate::nat::outside::Outside;
use crate::nat::visits::Visits;
use crate::now::{Now, earliest};

/// What carries a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Carriage {
    /// Datagrams: mappings live for seconds, and nobody repeats what is lost.
    Datagrams,
    /// A stream: the machine repeats, and a lost mapping ends it.
    Stream,
}

/// How a registrar answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
    /// STUN Binding on the flow (RFC 5626 §4.4.2).
    Stun,
    /// Ping and pong of a stream (RFC 5626 §4.4.1).
    Ping,
    /// A request of the protocol that the flow carries.
    Ask,
}

/// A flow that stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// What carries it.
    pub carriage: Carriage,
    /// The registrar's address.
    pub peer: SocketAddr,
    /// Tells a connection from the next one to the same peer.
    pub number: u64,
    /// Where the registrar saw us when it took the registration, if it told.
    pub seen: Option<SocketAddr>,
    /// The longest silence that the registrar wants (Flow-Timer, `keep`).
    pub longest: Option<Duration>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this on the flow.
    Datagram(Vec<u8>),
    /// Send a ping on the stream.
    Ping,
    /// Send a request that is answered in any case; `again`: repeat the last one.
    Ask {
        /// Whether it is the last request once more.
        again: bool,
    },
    /// The registrar sees us at this address now: the binding has to follow.
    Moved(SocketAddr),
    /// The flow is dead: a new one is needed at once.
    Dead,
    /// The registrar may be back: try to register.
    Retry,
    /// The registrar answers again: register now.
    Found,
    /// The registrar answers, and seems to know nothing of the line: register now, on the flow that there is.
    Forgotten,
}

/// What keeps a mapping open and is answered by nobody: four zeros, as SIP servers send them to phones.
pub const REFRESH: [u8; 4] = [0; 4];

/// How long an answer is waited for before the flow counts as dead.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// The same while it is not known whether there are answers of this kind.
const CURIOSITY: Duration = Duration::from_millis(1_500);
/// When a datagram is repeated, after the one before.
const REPETITIONS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];
/// STUN on a flow where it is answered; it ends with [`PATIENCE`].
const TRUSTED: Patience =
    Patience { first: Duration::from_millis(500), longest: Duration::from_secs(1), requests: 3, last: 4 };
/// STUN on a flow where it may not be; it ends with [`CURIOSITY`].
const DOUBTED: Patience =
    Patience { first: Duration::from_millis(500), longest: Duration::from_millis(500), requests: 2, last: 2 };
/// A mapping that nothing passes is refreshed after this time: the shortest ones in the field live for some 20 s, and a
/// refresh may be lost.
const REFRESH_AFTER: Duration = Duration::from_secs(5);
/// The same where the watch costs its share.
const REFRESH_WATCHED_AFTER: Duration = Duration::from_millis(6_500);
/// One word of the network's is believed in this time.
const DEAF: Duration = Duration::from_secs(45);
/// What asking may cost in octets an hour, headers of IP and UDP counted.
const STUN_BUDGET: u64 = 185_000;
const ASK_BUDGET: u64 = 355_000;
const ASK_WATCHED_BUDGET: u64 = 26_000;
/// The headers of IPv4 and UDP.
const HEADERS: u32 = 28;
/// While the registrar is silent: the wait between two attempts is this part of the outage …
const OUTAGE_SHARE: u32 = 20;
/// … and between these.
const SHORTEST_SEARCH: Duration = Duration::from_secs(4);
const LONGEST_SEARCH: Duration = Duration::from_secs(300);
/// What is overdue comes within this time.
const SOON: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum State {
    /// There is no flow, and none is wanted.
    Off,
    /// The flow was alive when it was asked last; it is asked again at `until`.
    Resting { until: u64 },
    /// A question is out.
    Asking { way: Way, sent: usize, next: u64, binding: Option<Box<Binding>> },
    /// The flow was given up; a new one is being made.
    Lost,
    /// The registrar is silent.
    Searching {
        since: u64,
        next: u64,
        /// A question is out.
        asked: bool,
        /// The last one stayed unanswered.
        silent: bool,
        /// An attempt was due while another one was still under way.
        overdue: bool,
    },
}

/// The keep-alive of one line. Drain [`poll_output`](KeepAlive::poll_output) after each call.
#[derive(Debug)]
pub struct KeepAlive {
    flow: Option<Flow>,
    way: Option<Way>,
    state: State,
    refresh_at: Option<u64>,
    outside: Outside,
    watched: bool,
    visits: Visits,
    /// The registrar does not ask any more as it used to.
    missed: bool,
    /// From an answer to the next question.
    pace: Option<Duration>,
    /// When the registrar was heard last.
    heard_at: Option<u64>,
    /// Octets of the last question and its answer.
    cost: u32,
    /// Until when the network's word that the registrar can't be reached is not believed.
    deaf_until: u64,
    chance: Chance,
    outputs: VecDeque<Output>,
}

impl KeepAlive {
    /// Nothing to keep yet.
    pub fn new(chance: Chance) -> KeepAlive {
        KeepAlive {
            flow: None,
            way: None,
            state: State::Off,
            refresh_at: None,
            outside: Outside::default(),
            watched: false,
            visits: Visits::default(),
            missed: false,
            pace: None,
            heard_at: None,
            cost: 0,
            deaf_until: 0,
            chance,
            outputs: VecDeque::new(),
        }
    }

    /// How the registrar answers, once that is known.
    pub fn way(&self) -> Option<Way> {
        self.way
    }

    /// The flow that is kept.
    pub fn flow(&self) -> Option<&Flow> {
        self.flow.as_ref()
    }

    /// How long after an answer the registrar is asked again.
    pub fn pace(&self) -> Option<Duration> {
        self.pace
    }

    /// When the registrar was heard last: it answered a question, or took the registration.
    pub fn heard_at(&self) -> Option<u64> {
        self.heard_at
    }

    /// Whether the registrar is being waited for.
    pub fn is_searching(&self) -> bool {
        matches!(self.state, State::Searching { .. })
    }

    /// Whether the flow was given up and no new one stands yet.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// The line is registered over this flow, for the first time or once more. `known`: how this registrar answered
    /// before.
    pub fn handle_up(&mut self, now: Now, flow: Flow, known: Option<Way>) {
        let same = self.flow.is_some_and(|old| {
            (old.carriage, old.peer, old.number) == (flow.carriage, flow.peer, flow.number)
        });
        self.flow = Some(flow);
        self.heard_at = Some(now.mono_us);
        if same && matches!(self.state, State::Resting { .. } | State::Asking { .. }) {
            if self.way != Some(Way::Stun) {
                self.outside.settle(flow.seen);
            }
            // Whoever has answered this need not be asked the same.
            if self.way == Some(Way::Ask) && matches!(self.state, State::Resting { .. }) {
                self.rest(now);
                self.refresh_later(now);
            }
            return;
        }
        self.outside = Outside::default();
        self.visits = Visits::default();
        self.missed = false;
        self.way = known;
        self.pace = None;
        if known != Some(Way::Stun) {
            self.outside.settle(flow.seen);
        }
        match known {
            Some(_) => self.rest(now),
            None if flow.carriage == Carriage::Datagrams => self.ask(now, Way::Stun),
            None => self.ask(now, Way::Ping),
        }
        self.refresh_later(now);
    }

    /// The registrar has asked by itself whether we are there.
    pub fn handle_visit(&mut self, now: Now) {
        self.visits.note(now);
        self.missed = false;
    }

    /// The line is not registered, and that is as it should be.
    pub fn handle_down(&mut self) {
        self.state = State::Off;
        self.flow = None;
        self.refresh_at = None;
    }

    /// Nobody waits for the registrar, which is silent: it is not searched for.
    pub fn set_aside(&mut self) {
        self.state = State::Off;
        self.refresh_at = None;
    }

    /// The line could not be registered because nobody answers.
    pub fn handle_silence(&mut self, now: Now) {
        self.refresh_at = None;
        let soon = now.deadline(SOON.mul_f64(self.chance.unit()));
        // Whoever lost the registrar in the same moment does not look for it in step.
        let first = now.deadline(SHORTEST_SEARCH.mul_f64(0.25 + 0.75 * self.chance.unit()));
        match &mut self.state {
            State::Searching { next, overdue, .. } => {
                if std::mem::take(overdue) {
                    *next = (*next).min(soon);
                }
            }
            // What was asked last stayed unanswered: that is why the line failed.
            state => {
                let (since, next) = (now.mono_us, first);
                *state = State::Searching { since, next, asked: false, silent: true, overdue: false };
            }
        }
    }

    /// What was to be done can't be: an attempt is under way already.
    pub fn handle_busy(&mut self) {
        if let State::Searching { overdue, .. } = &mut self.state {
            *overdue = true;
        }
    }

    /// Something else watches whether the outside changes: asking by requests may be rare.
    pub fn set_watched(&mut self, now: Now, watched: bool) {
        if std::mem::replace(&mut self.watched, watched) && !watched {
            let soon = now.deadline(self.interval());
            if let State::Resting { until } = &mut self.state {
                *until = (*until).min(soon);
            }
        }
    }

    /// There is reason to doubt the flow: it is asked now.
    pub fn doubt(&mut self, now: Now) {
        if let State::Resting { until } = &mut self.state {
            *until = now.mono_us;
        }
    }

    /// The network says that the registrar can't be reached (ICMP). That may be so for what refreshes mappings only,
    /// and for others: the flow is asked, and where it answers, the network is not asked again for a while.
    pub fn handle_unreachable(&mut self, now: Now) {
        if self.deaf_until <= now.mono_us {
            self.deaf_until = now.deadline(DEAF);
            self.doubt(now);
        }
    }

    /// A datagram of STUN came on the flow. True if it was an answer to a question of ours.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> bool {
        let State::Asking { binding: Some(binding), .. } = &mut self.state else { return false };
        if !binding.handle_datagram(now, from, datagram) {
            return false;
        }
        let octets = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
        match binding.poll_outcome() {
            Some(Outcome::Mapped { mapped, .. }) => {
                self.cost = octets.saturating_add(20 + 2 * HEADERS);
                self.answered(now, Way::Stun, Some(mapped));
            }
            // It speaks STUN and refuses: that is no way to keep a flow.
            Some(_) => {
                self.way = None;
                self.ask(now, Way::Ask);
            }
            None => {}
        }
        true
    }

    /// A pong came.
    pub fn handle_pong(&mut self, now: Now) {
        if matches!(self.state, State::Asking { .. }) {
            self.answered(now, Way::Ping, None);
        }
    }

    /// A request was answered; `seen` is where the registrar saw it come from, `octets` what question and answer hold.
    pub fn handle_answer(&mut self, now: Now, seen: Option<SocketAddr>, octets: u32) {
        match &mut self.state {
            State::Asking { way: Way::Ask, .. } => {
                self.cost = octets.saturating_add(2 * HEADERS);
                self.answered(now, Way::Ask, seen);
            }
            State::Searching { asked, silent, .. } => {
                *asked = false;
                if std::mem::take(silent) {
                    self.outputs.push_back(Output::Found);
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Now, way: Way, seen: Option<SocketAddr>) {
        self.way = Some(way);
        self.heard_at = Some(now.mono_us);
        self.rest(now);
        if std::mem::take(&mut self.missed) {
            self.outputs.push_back(Output::Forgotten);
        }
        if let Some(seen) = seen
            && self.outside.note(seen)
        {
            self.outputs.push_back(Output::Moved(seen));
        }
    }

    fn rest(&mut self, now: Now) {
        let pace = self.interval();
        self.pace = Some(pace);
        self.state = State::Resting { until: now.deadline(pace) };
    }

    /// How long after an answer the flow is asked again.
    fn interval(&mut self) -> Duration {
        let stream = self.flow.is_some_and(|flow| flow.carriage == Carriage::Stream);
        let affordable = |budget: u64| Duration::from_millis(u64::from(self.cost) * 3_600_000 / budget);
        let between = |least: u64, most: u64, wish: Duration| {
            wish.clamp(Duration::from_millis(least), Duration::from_millis(most))
        };
        let usual = match self.way {
            Some(Way::Stun) => between(3_700, 10_000, affordable(STUN_BUDGET)),
            Some(Way::Ping) => Duration::from_secs(8),
            Some(Way::Ask) | None => match (stream, self.watched) {
                (false, true) => between(45_000, 180_000, affordable(ASK_WATCHED_BUDGET)),
                (false, false) => between(9_600, 20_000, affordable(ASK_BUDGET)),
                (true, true) => Duration::from_secs(30),
                (true, false) => Duration::from_millis(9_600),
            },
        };
        // Not in step with others, and within RFC 5626 §4.4's share of what the registrar wants.
        let usual = usual.mul_f64(1.0 + 0.06 * self.chance.unit());
        let wanted = self.flow.and_then(|flow| flow.longest);
        let share = 0.8 + 0.2 * self.chance.unit();
        wanted.map_or(usual, |wanted| wanted.mul_f64(share).max(Duration::from_secs(2)).min(usual))
    }

    fn ask(&mut self, now: Now, way: Way) {
        self.refresh_later(now);
        let known = self.way.is_some();
        let datagrams = self.flow.is_some_and(|flow| flow.carriage == Carriage::Datagrams);
        let (next, binding) = match (way, self.flow) {
            (Way::Stun, Some(flow)) => {
                let patience = if known { TRUSTED } else { DOUBTED };
                let mut binding = Binding::new(flow.peer, None, patience, &mut self.chance);
                transmit(&mut binding, now, &mut self.outputs);
                (binding.poll_timeout().unwrap_or(now.mono_us), Some(Box::new(binding)))
            }
            (Way::Stun, None) => return,
            (Way::Ping, _) => {
                self.outputs.push_back(Output::Ping);
                (now.deadline(if known { PATIENCE } else { CURIOSITY }), None)
            }
            (Way::Ask, _) => {
                self.outputs.push_back(Output::Ask { again: false });
                (now.deadline(if datagrams { REPETITIONS[0] } else { PATIENCE }), None)
            }
        };
        self.state = State::Asking { way, sent: 1, next, binding };
    }

    fn refresh_later(&mut self, now: Now) {
        let datagrams = self.flow.is_some_and(|flow| flow.carriage == Carriage::Datagrams);
        let after = if self.watched { REFRESH_WATCHED_AFTER } else { REFRESH_AFTER };
        self.refresh_at = datagrams.then(|| now.deadline(after));
    }

    /// No answer came in time.
    fn unanswered(&mut self, now: Now, way: Way) {
        if self.way.is_none() && way != Way::Ask {
            self.ask(now, Way::Ask);
            return;
        }
        self.way = None;
        self.state = State::Lost;
        self.refresh_at = None;
        self.outputs.push_back(Output::Dead);
    }

    /// The wait before the next attempt, `outage` after the registrar was heard last.
    fn step(&mut self, outage: Duration) -> Duration {
        let share = (outage / OUTAGE_SHARE).clamp(SHORTEST_SEARCH, LONGEST_SEARCH);
        share.mul_f64(0.8 + 0.2 * self.chance.unit())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let own = match &self.state {
            State::Off | State::Lost => None,
            State::Resting { until } => self.visits.with(Some(*until)),
            State::Asking { next, .. } => self.visits.with(Some(*next)),
            State::Searching { next, .. } => Some(*next),
        };
        earliest(own, self.refresh_at)
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.refresh_at.is_some_and(|at| at <= now.mono_us) {
            self.outputs.push_back(Output::Datagram(REFRESH.to_vec()));
            self.refresh_later(now);
        }
        if matches!(self.state, State::Resting { .. } | State::Asking { .. })
            && self.visits.handle_timeout(now)
        {
            self.missed = true;
            self.doubt(now);
        }
        match &mut self.state {
            State::Resting { until } if *until <= now.mono_us => {
                let way = self.way.unwrap_or(Way::Ask);
                self.ask(now, way);
            }
            State::Asking { way, sent, next, binding } if *next <= now.mono_us => {
                let way = *way;
                if let Some(binding) = binding {
                    binding.handle_timeout(now);
                    if transmit(binding, now, &mut self.outputs) {
                        *next = binding.poll_timeout().unwrap_or(now.mono_us);
                        return self.refresh_later(now);
                    }
                } else if way == Way::Ask
                    && self.flow.is_some_and(|flow| flow.carriage == Carriage::Datagrams)
                    && let Some(index) = Some(*sent).filter(|sent| *sent <= REPETITIONS.len())
                {
                    *sent += 1;
                    let spent: Duration = REPETITIONS.iter().sum();
                    let wait = REPETITIONS.get(index).copied().unwrap_or(PATIENCE.saturating_sub(spent));
                    *next = now.deadline(wait);
                    self.outputs.push_back(Output::Ask { again: true });
                    return self.refresh_later(now);
                }
                self.unanswered(now, way);
            }
            State::Searching { since, next, asked, silent, .. } if *next <= now.mono_us => {
                let outage = now.since(*since);
                *silent |= *asked;
                let by_datagrams = self.flow.is_some_and(|flow| flow.carriage == Carriage::Datagrams);
                *asked = by_datagrams;
                self.outputs.push_back(if by_datagrams {
                    Output::Ask { again: false }
                } else {
                    Output::Retry
                });
                let step = self.step(outage);
                if let State::Searching { next, .. } = &mut self.state {
                    *next = now.deadline(step);
                }
            }
            _ => {}
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// Hands on what a STUN transaction has to send; whether it had something.
fn transmit(binding: &mut Binding, now: Now, outputs: &mut VecDeque<Output>) -> bool {
    match binding.poll_transmit(now) {
        Some((_, octets)) => {
            outputs.push_back(Output::Datagram(octets.to_vec()));
            true
        }
        None => false,
    }
}

#[cfg(test)]
#[path = "keep_alive_tests.rs"]
mod tests;

//! An ICE agent for one component (RFC 8445): checks of the pairs, roles, nomination, consent.
//!
//! It sends as soon as a pair works, before anything is nominated (RFC 8445 §12.1): nobody waits for the better pair to
//! be heard. What it is told without the right password moves nothing and is counted.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::candidate::{self, Candidate, FIRST_PREFERENCE, Kind};
use crate::nat::check_list::{CheckList, Progress};
pub use crate::nat::check_list::{MAX_PAIRS, Route, Way};
use crate::nat::consent::{Consent, Due};
use crate::nat::stun::{self, Class, Message, Refusal, Role, Seal, TransactionId};
use crate::now::{Now, earliest};

/// Two checks leave at least so far apart (Ta, RFC 8445 §14.2); those of two components together keep the 5 ms that are
/// the least.
const PACE: Duration = Duration::from_millis(10);
/// A better pair that is still being checked is waited for so long before the best that works is nominated.
const BETTER_PAIR: Duration = Duration::from_millis(150);
/// Without any pair that works for so long the agent has failed.
const GIVE_UP: Duration = Duration::from_secs(15);
/// Checks of the peer that are kept until its answer says who it is.
const MAX_EARLY: usize = 16;
/// Packets that may wait to be sent.
const MAX_WAITING: usize = 64;
/// The code of a role conflict (RFC 8445 §7.3.1.1).
const ROLE_CONFLICT: u16 = 487;

/// A name and password of one side (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ice-ufrag`: 4 to 256 characters.
    pub ufrag: String,
    /// `ice-pwd`: 22 to 256 characters.
    pub pwd: String,
}

impl Credentials {
    /// New ones, with 64 and 128 random bits.
    pub fn draw(chance: &mut Chance) -> Credentials {
        Credentials { ufrag: chance.token(8), pwd: chance.token(16) }
    }

    /// Whether their lengths are those of RFC 8839 §5.4 and their characters `ice-char`.
    pub fn are_valid(&self) -> bool {
        let ice = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'));
        (4..=256).contains(&self.ufrag.len())
            && (22..=256).contains(&self.pwd.len())
            && ice(&self.ufrag)
            && ice(&self.pwd)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, …)", self.ufrag)
    }
}

/// What the peer has told of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name and password.
    pub credentials: Credentials,
    /// Its candidates for this component.
    pub candidates: Vec<Candidate>,
    /// It is a lite implementation: it answers checks and sends none (RFC 8445 §2.5).
    pub lite: bool,
}

/// What the agent stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// 1 for RTP, 2 for RTCP.
    pub component: u8,
    /// Addresses of this machine that the socket serves.
    pub own: Vec<IpAddr>,
    /// The address at the TURN server.
    pub relayed: Option<SocketAddr>,
    /// Whether we made the offer: then we control, unless the peer is lite or says otherwise.
    pub offered: bool,
    /// What decides where both sides want the same role: one number for all components (RFC 8445 §7.1.3).
    pub tie_breaker: u64,
}

/// What the agent tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Packets go this way from now on.
    Route(Route),
    /// Nothing comes back on the route: ICE wants to be restarted. It is tried on, and packets still leave.
    Broken,
    /// The path that was broken works again.
    Mended,
    /// Consent has expired: nothing is sent any more.
    ConsentLost,
    /// No pair works.
    Failed,
}

/// A packet of the agent's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The way it takes.
    pub route: Route,
    /// The message.
    pub bytes: Vec<u8>,
}

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages without the right password, or of no transaction of ours.
    pub forged: u64,
    /// Candidates that may not be tried, or are too many.
    pub refused_candidates: u64,
}

/// A check that came before the answer.
#[derive(Clone, Debug)]
struct Early {
    route: Route,
    username: String,
    priority: u32,
    nominates: bool,
}

/// The agent of one component.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    own: Credentials,
    peer: Option<Peer>,
    controlling: bool,
    list: CheckList,
    /// Pairs to check before all others (RFC 8445 §6.1.4.1), and whether the check nominates.
    triggered: VecDeque<Route>,
    early: VecDeque<Early>,
    next_check_us: u64,
    /// When the first pair worked.
    first_valid_us: Option<u64>,
    /// What we, controlling, have nominated.
    nominating: Option<Route>,
    route: Option<Route>,
    /// The route before the restart: it goes on until a new one works (RFC 8445 §9).
    before: Option<Route>,
    consent: Option<Consent>,
    broken: bool,
    over: bool,
    give_up_us: Option<u64>,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    chance: Chance,
}

impl Agent {
    /// An agent under these credentials, which does not know its peer yet.
    pub fn new(settings: Settings, own: Credentials, chance: Chance) -> Agent {
        Agent {
            controlling: settings.offered,
            settings,
            own,
            peer: None,
            list: CheckList::default(),
            triggered: VecDeque::new(),
            early: VecDeque::new(),
            next_check_us: 0,
            first_valid_us: None,
            nominating: None,
            route: None,
            before: None,
            consent: None,
            broken: false,
            over: false,
            give_up_us: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            chance,
        }
    }

    /// Our name and password.
    pub fn credentials(&self) -> &Credentials {
        &self.own
    }

    /// What is known of the peer.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Whether we control.
    pub fn is_controlling(&self) -> bool {
        self.controlling
    }

    /// What was refused so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Until a pair works, packets go where they went before the restart.
    pub fn keep_route(&mut self, before: Option<Route>) {
        self.before = before;
    }

    /// Where packets of media go now; `None`: nowhere.
    pub fn route(&self) -> Option<Route> {
        if self.over { None } else { self.route.or(self.before) }
    }

    /// Whence the peer has seen us come on the route there is now.
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.list.get(self.route?)?.mapped
    }

    /// Whether a packet of media that came this way may be from the peer: a check of this pair has worked, or it is the
    /// route of before.
    pub fn may_come(&self, route: Route) -> bool {
        self.before == Some(route) || self.list.get(route).is_some_and(|pair| pair.worked)
    }

    /// Whether the peer, or a check of it, has named this route.
    pub fn knows(&self, route: Route) -> bool {
        self.list.get(route).is_some()
    }

    /// The peer has said who it is: checks begin. Further candidates of the same peer are added.
    pub fn start(&mut self, now: Now, peer: Peer) {
        if self.peer.as_ref().is_none_or(|known| known.credentials == peer.credentials) {
            if peer.lite {
                self.controlling = true;
            }
            self.give_up_us.get_or_insert(now.deadline(GIVE_UP));
            let mut wanted: Vec<&Candidate> = peer
                .candidates
                .iter()
                .filter(|candidate| candidate.component == self.settings.component)
                .collect();
            crate::order::sort_by_key(&mut wanted, |candidate| std::cmp::Reverse(candidate.priority));
            let mut added = 0;
            for candidate in &wanted {
                if added < MAX_PAIRS && self.add_remote(candidate.address, candidate.priority) {
                    added += 1;
                } else {
                    self.counters.refused_candidates += 1;
                }
            }
            let name = format!("{}:{}", self.own.ufrag, peer.credentials.ufrag);
            self.peer = Some(peer);
            for early in std::mem::take(&mut self.early) {
                if early.username == name {
                    self.learn(now, early.route, early.priority, early.nominates);
                } else {
                    self.counters.forged += 1;
                }
            }
        }
    }

    fn add_remote(&mut self, address: SocketAddr, priority: u32) -> bool {
        if !candidate::may_be_tried(address, &self.all_addresses()) {
            return false;
        }
        let mut added = false;
        for way in [Way::Direct, Way::Relayed] {
            if let Some(local) = self.local_priority(way, address) {
                added |= self.list.add(Route { way, to: address }, local, priority, self.controlling);
            }
        }
        added
    }

    fn all_addresses(&self) -> Vec<IpAddr> {
        let relayed = self.settings.relayed.iter().map(|relayed| relayed.ip());
        self.settings.own.iter().copied().chain(relayed).collect()
    }

    /// The priority of what we send from, or `None` where this way does not lead to that family.
    fn local_priority(&self, way: Way, to: SocketAddr) -> Option<u32> {
        match way {
            Way::Direct => {
                let at = self.settings.own.iter().position(|own| own.is_ipv4() == to.is_ipv4())?;
                let preference = FIRST_PREFERENCE.saturating_sub(u16::try_from(at).unwrap_or(u16::MAX));
                Some(candidate::priority(Kind::Host, preference, self.settings.component))
            }
            Way::Relayed => self
                .settings
                .relayed
                .filter(|relayed| relayed.is_ipv4() == to.is_ipv4())
                .filter(|relayed| !candidate::is_inside(to.ip()) || candidate::is_inside(relayed.ip()))
                .map(|_| candidate::priority(Kind::Relayed, FIRST_PREFERENCE, self.settings.component)),
        }
    }

    /// Something says that the path may be broken (silence, another network): it is tested at once.
    pub fn doubt(&mut self, now: Now) {
        if let Some(consent) = &mut self.consent {
            consent.doubt(now);
        }
    }

    /// A datagram that [`stun::is_stun`] came. True if it is dealt with.
    pub fn handle_datagram(&mut self, now: Now, way: Way, from: SocketAddr, datagram: &[u8]) -> bool {
        let route = Route { way, to: from };
        let Ok(message) = Message::read(datagram) else { return false };
        match message.class {
            Class::Request => self.asked(now, route, datagram, &message),
            Class::Success | Class::Error => self.answered(now, route, datagram, &message),
            // An indication only keeps a mapping open.
            Class::Indication => {}
        }
        true
    }

    fn asked(&mut self, now: Now, route: Route, datagram: &[u8], message: &Message) {
        let ours = message.username.as_deref().and_then(|name| name.split_once(':'));
        let is_for_us = ours.is_some_and(|(first, second)| {
            first == self.own.ufrag && self.peer.as_ref().is_none_or(|peer| second == peer.credentials.ufrag)
        });
        if !is_for_us || !message.unknown.is_empty() || !stun::is_authentic(datagram, &self.own.pwd) {
            self.counters.forged += 1;
            return;
        }
        if self.is_conflict(message.role) {
            let mut refused = Message::new(Class::Error, message.id);
            refused.refusal = Some(Refusal { code: ROLE_CONFLICT, reason: "Role Conflict".to_owned() });
            self.reply(route, &refused);
            return;
        }
        let priority = message.priority.unwrap_or(1);
        if self.peer.is_some() {
            if self.list.get(route).is_none()
                && !self
                    .local_priority(route.way, route.to)
                    .is_some_and(|local| self.list.add(route, local, priority, self.controlling))
            {
                self.counters.refused_candidates += 1;
                return;
            }
            self.reply(route, &Message::binding_answer(message.id, route.to));
            self.learn(now, route, priority, message.use_candidate);
        } else if self.early.len() < MAX_EARLY || self.early.iter().any(|early| early.route == route) {
            self.reply(route, &Message::binding_answer(message.id, route.to));
            let username = message.username.clone().unwrap_or_default();
            self.early.retain(|early| early.route != route);
            self.early.push_back(Early { route, username, priority, nominates: message.use_candidate });
        } else {
            self.counters.refused_candidates += 1;
        }
    }

    /// RFC 8445 §7.3.1.1: whether the peer has to give way. Gives way itself where it is our turn.
    fn is_conflict(&mut self, role: Option<Role>) -> bool {
        match role {
            Some(Role::Controlling(theirs)) if self.controlling => {
                if self.settings.tie_breaker >= theirs {
                    return true;
                }
                self.take_role(false);
            }
            Some(Role::Controlled(theirs)) if !self.controlling => {
                if self.settings.tie_breaker < theirs {
                    return true;
                }
                self.take_role(true);
            }
            _ => {}
        }
        false
    }

    fn take_role(&mut self, controlling: bool) {
        if self.controlling != controlling {
            // What is said of a check in the other role no longer concerns us.
            self.list.begin_anew();
        }
        self.controlling = controlling;
        self.nominating = None;
        self.list.sort(controlling);
    }

    /// An authentic check came on this route: the same way is tried at once (RFC 8445 §7.3.1.4).
    fn learn(&mut self, now: Now, route: Route, priority: u32, nominates: bool) {
        if let Some(local) = self.local_priority(route.way, route.to) {
            self.list.add(route, local, priority, self.controlling);
        }
        let controlling = self.controlling;
        let Some(pair) = self.list.get_mut(route) else { return };
        pair.nominated |= nominates && !controlling;
        let lately = matches!(pair.progress, Progress::Checking { sent: 1, next_us, .. }
            if next_us > now.mono_us + 50_000);
        if !pair.worked && !lately {
            if pair.progress == Progress::Failed {
                pair.progress = Progress::Waiting;
            }
            if !self.triggered.contains(&route) {
                self.triggered.push_back(route);
            }
        }
        self.choose(now);
    }

    fn answered(&mut self, now: Now, route: Route, datagram: &[u8], message: &Message) {
        let Some(peer) = &self.peer else {
            self.counters.forged += 1;
            return;
        };
        if !message.unknown.is_empty() || !stun::is_authentic(datagram, &peer.credentials.pwd) {
            self.counters.forged += 1;
            return;
        }
        if message.class == Class::Success
            && self.route == Some(route)
            && let Some(consent) = &mut self.consent
            && consent.answered(now, message.id, &mut self.chance)
        {
            if std::mem::take(&mut self.broken) {
                self.events.push_back(Event::Mended);
            }
            return;
        }
        let Some(pair) = self.list.of_transaction(message.id) else {
            self.counters.forged += 1;
            return;
        };
        let Progress::Checking { nominates, .. } = pair.progress else { return };
        // RFC 8445 §7.2.5.2.1: an answer from elsewhere is no way back.
        if pair.route != route {
            pair.progress = if pair.worked { Progress::Valid } else { Progress::Failed };
            return;
        }
        match (message.class, &message.refusal) {
            (Class::Success, _) => {
                pair.progress = Progress::Valid;
                pair.worked = true;
                pair.nominated |= nominates;
                pair.mapped = message.mapped;
                self.first_valid_us.get_or_insert(now.mono_us);
                self.choose(now);
            }
            (_, Some(refusal)) if refusal.code == ROLE_CONFLICT => {
                pair.progress = Progress::Waiting;
                let to = !self.controlling;
                self.take_role(to);
                self.triggered.push_back(route);
            }
            _ => pair.progress = if pair.worked { Progress::Valid } else { Progress::Failed },
        }
    }

    /// Takes the best route there is: nominated before merely working, and the better of two.
    fn choose(&mut self, now: Now) {
        let best = self.list.best_nominated().or_else(|| self.list.best_valid()).map(|pair| pair.route);
        if let Some(best) = best
            && self.route != Some(best)
            && !self.over
        {
            self.route = Some(best);
            self.before = None;
            self.broken = false;
            self.consent = Some(Consent::given(now, &mut self.chance));
            self.events.push_back(Event::Route(best));
        }
        self.nominate(now);
    }

    /// Controlling, and something works: the best is nominated once no better one can be hoped for.
    fn nominate(&mut self, now: Now) {
        let (true, Some(since)) = (self.controlling, self.first_valid_us) else { return };
        let Some(best) = self.list.best_valid().map(|pair| pair.route) else { return };
        if self.nominating == Some(best) {
            return;
        }
        let better = self.list.iter().take_while(|pair| pair.route != best).any(|pair| pair.is_open());
        if better && now.since(since) < BETTER_PAIR {
            return;
        }
        self.nominating = Some(best);
        self.triggered.retain(|route| *route != best);
        self.triggered.push_front(best);
    }

    fn reply(&mut self, route: Route, message: &Message) {
        let bytes = message.write(Seal::Password(&self.own.pwd));
        self.send(Transmit { route, bytes });
    }

    fn send(&mut self, transmit: Transmit) {
        if self.out.len() < MAX_WAITING {
            self.out.push_back(transmit);
        }
    }

    fn check(&mut self, route: Route, id: TransactionId, nominates: bool) {
        let Some(peer) = &self.peer else { return };
        let mut message = Message::new(Class::Request, id);
        message.username = Some(format!("{}:{}", peer.credentials.ufrag, self.own.ufrag));
        let preference = if route.way == Way::Direct { FIRST_PREFERENCE } else { 0 };
        let component = self.settings.component;
        message.priority = Some(candidate::priority(Kind::PeerReflexive, preference, component));
        message.role = Some(match self.controlling {
            true => Role::Controlling(self.settings.tie_breaker),
            false => Role::Controlled(self.settings.tie_breaker),
        });
        message.use_candidate = nominates;
        let bytes = message.write(Seal::Password(&peer.credentials.pwd));
        self.send(Transmit { route, bytes });
    }

    /// The agent's next packet.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Agent::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.over || self.peer.is_none() {
            return None;
        }
        let waits = !self.triggered.is_empty() || self.list.next_waiting().is_some();
        let checks = waits.then_some(self.next_check_us);
        let repeats = self.list.next_repetition().map(|(due, _)| due.max(self.next_check_us));
        let nominates = self
            .first_valid_us
            .filter(|_| self.controlling && self.nominating.is_none())
            .map(|since| since + crate::now::micros(BETTER_PAIR));
        let gives_up = self.give_up_us.filter(|_| self.route.is_none());
        let consent = self.consent.as_ref().map(Consent::poll_timeout);
        [checks, repeats, nominates, gives_up, consent].into_iter().fold(None, earliest)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.over || self.peer.is_none() {
            return;
        }
        self.nominate(now);
        if self.next_check_us <= now.mono_us {
            self.check_next(now);
        }
        while let Some(due) = self.consent.as_mut().and_then(|consent| consent.handle_timeout(now)) {
            match due {
                Due::Request => self.ask_consent(now),
                Due::Broken => {
                    self.broken = true;
                    self.events.push_back(Event::Broken);
                }
                Due::Expired => {
                    self.over = true;
                    self.consent = None;
                    self.events.push_back(Event::ConsentLost);
                }
            }
        }
        let hopeless = self.list.is_exhausted() && self.triggered.is_empty();
        if self.route.is_none() && self.give_up_us.is_some_and(|at| at <= now.mono_us) {
            self.give_up_us = None;
            self.over = hopeless;
            self.events.push_back(Event::Failed);
        }
    }

    fn ask_consent(&mut self, now: Now) {
        let Some(route) = self.route else { return };
        let id = TransactionId::draw(&mut self.chance);
        if let Some(consent) = &mut self.consent {
            consent.request(now, id, &mut self.chance);
        }
        self.check(route, id, false);
    }

    /// One check: a triggered one, a repetition, or the next that has not been tried.
    fn check_next(&mut self, now: Now) {
        let triggered = self.triggered.pop_front();
        if triggered.is_none()
            && let Some((due, route)) = self.list.next_repetition()
            && due <= now.mono_us
        {
            if let Some(pair) = self.list.get_mut(route)
                && pair.repeat(now.mono_us)
                && let Progress::Checking { id, nominates, .. } = pair.progress
            {
                self.next_check_us = now.deadline(PACE);
                self.check(route, id, nominates);
            }
            return;
        }
        let Some(route) = triggered.or_else(|| self.list.next_waiting()) else { return };
        let nominates = self.controlling && self.nominating == Some(route);
        let Some(pair) = self.list.get_mut(route) else { return };
        // The answer to the check before may be on its way, and is awaited still (RFC 8445 §7.3.1.4): under the same id it
        // is known whichever of the two it answers.
        let id = pair.under_way(nominates).unwrap_or_else(|| TransactionId::draw(&mut self.chance));
        pair.begin(now.mono_us, id, nominates);
        self.next_check_us = now.deadline(PACE);
        self.check(route, id, nominates);
    }
}

//! Two agents over a virtual network with NAT boxes, and the agent against peers with other manners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::candidate::{Candidate, Kind, priority};
use crate::nat::ice::{Agent, Credentials, Event, MAX_PAIRS, Peer, Route, Settings, Transmit, Way};
use crate::nat::stun::{Class, Message, Refusal, Role, Seal};
use crate::now::Now;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(ms: u64) -> Now {
    Now::default().plus(Duration::from_millis(ms))
}

fn candidate(kind: Kind, at: SocketAddr) -> Candidate {
    Candidate {
        foundation: "1".into(),
        component: 1,
        priority: priority(kind, 65_535, 1),
        address: at,
        kind,
        related: None,
    }
}

/// One side: its agent, its address, its NAT (address- and port-dependent, as hard as they come) and its relay.
struct Side {
    agent: Agent,
    inside: SocketAddr,
    relay: Option<SocketAddr>,
    /// The public address per destination; without one there is no NAT.
    nat: Option<SocketAddr>,
    mappings: BTreeMap<SocketAddr, SocketAddr>,
    permitted: BTreeSet<SocketAddr>,
    events: Vec<(u64, Event)>,
    sent: u64,
}

impl Side {
    fn new(name: u64, inside: &str, nat: Option<&str>, relay: Option<&str>, offered: bool) -> Side {
        let mut chance = Chance::from_number(name);
        let inside = address(inside);
        let relay = relay.map(address);
        let settings = Settings {
            component: 1,
            own: vec![inside.ip()],
            relayed: relay,
            offered,
            tie_breaker: chance.next_u64(),
        };
        let own = Credentials::draw(&mut chance);
        Side {
            agent: Agent::new(settings, own, chance),
            inside,
            relay,
            nat: nat.map(address),
            mappings: BTreeMap::new(),
            permitted: BTreeSet::new(),
            events: Vec::new(),
            sent: 0,
        }
    }

    fn as_peer(&self) -> Peer {
        let mut candidates = vec![candidate(Kind::Host, self.inside)];
        candidates.extend(self.nat.map(|nat| candidate(Kind::ServerReflexive, nat)));
        candidates.extend(self.relay.map(|relay| candidate(Kind::Relayed, relay)));
        Peer { credentials: self.agent.credentials().clone(), candidates, lite: false }
    }

    fn public(&mut self, to: SocketAddr) -> SocketAddr {
        let Some(nat) = self.nat else { return self.inside };
        let next = nat.port() + 1 + self.mappings.len() as u16;
        *self.mappings.entry(to).or_insert(SocketAddr::new(nat.ip(), next))
    }

    /// Where a packet to `to` from `from` gets in; the way it takes.
    fn entrance(&self, from: SocketAddr, to: SocketAddr) -> Option<Way> {
        if Some(to) == self.relay {
            return self.permitted.iter().any(|peer| peer.ip() == from.ip()).then_some(Way::Relayed);
        }
        match self.nat {
            None => (to == self.inside).then_some(Way::Direct),
            Some(_) => (self.mappings.get(&from) == Some(&to)).then_some(Way::Direct),
        }
    }
}

/// To which side, from where, whither, what.
type Sent = (usize, SocketAddr, SocketAddr, Vec<u8>);

struct Pair {
    sides: [Side; 2],
    /// By when it arrives and in which order it was sent.
    under_way: BTreeMap<(u64, u64), Sent>,
    now: u64,
    order: u64,
    delay: u64,
    cut: bool,
}

impl Pair {
    fn new(a: Side, b: Side) -> Pair {
        Pair { sides: [a, b], under_way: BTreeMap::new(), now: 0, order: 0, delay: 20, cut: false }
    }

    /// The offer and its answer: the callee starts first.
    fn introduce(&mut self) {
        let (a, b) = (self.sides[0].as_peer(), self.sides[1].as_peer());
        self.sides[1].agent.start(at(self.now), a);
        self.run(self.delay);
        self.sides[0].agent.start(at(self.now), b);
    }

    fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            for which in 0..2 {
                self.drive(which);
            }
            while let Some(((due, _), (whom, from, to, bytes))) = self
                .under_way
                .first_key_value()
                .filter(|((due, _), _)| *due <= self.now)
                .map(|(key, value)| (*key, value.clone()))
            {
                self.under_way.pop_first();
                assert!(due <= self.now);
                let side = &mut self.sides[whom];
                if let Some(way) = side.entrance(from, to) {
                    assert!(side.agent.handle_datagram(at(self.now), way, from, &bytes));
                    self.drive(whom);
                }
            }
            self.now += 1;
        }
    }

    fn drive(&mut self, which: usize) {
        let now = at(self.now);
        if self.sides[which].agent.poll_timeout().is_some_and(|due| due <= now.mono_us) {
            self.sides[which].agent.handle_timeout(now);
        }
        while let Some(Transmit { route, bytes }) = self.sides[which].agent.poll_transmit() {
            let side = &mut self.sides[which];
            side.sent += 1;
            let from = match route.way {
                Way::Direct => side.public(route.to),
                Way::Relayed => {
                    side.permitted.insert(route.to);
                    side.relay.unwrap()
                }
            };
            self.order += 1;
            if !self.cut {
                let key = (self.now + self.delay, self.order);
                self.under_way.insert(key, (1 - which, from, route.to, bytes));
            }
        }
        while let Some(event) = self.sides[which].agent.poll_event() {
            self.sides[which].events.push((self.now, event));
        }
    }

    fn routes(&self) -> [Option<Route>; 2] {
        [self.sides[0].agent.route(), self.sides[1].agent.route()]
    }
}

fn in_the_open() -> Pair {
    Pair::new(
        Side::new(1, "192.0.2.1:4000", None, None, true),
        Side::new(2, "192.0.2.2:5000", None, None, false),
    )
}

fn behind_symmetric_nats() -> Pair {
    Pair::new(
        Side::new(1, "10.0.0.1:4000", Some("203.0.113.1:40000"), Some("198.51.100.1:50000"), true),
        Side::new(2, "10.9.0.1:5000", Some("203.0.113.2:40000"), Some("198.51.100.1:50002"), false),
    )
}

#[test]
fn in_the_open_packets_flow_after_one_round_trip() {
    let mut pair = in_the_open();
    pair.introduce();
    pair.run(50);
    let direct = |to: &str| Some(Route { way: Way::Direct, to: address(to) });
    assert_eq!(pair.routes(), [direct("192.0.2.2:5000"), direct("192.0.2.1:4000")]);
    pair.run(4_000);
    for side in &pair.sides {
        assert_eq!(side.events.len(), 1, "one route, and nothing else: {:?}", side.events);
        assert!(side.sent < 12, "{} packets", side.sent);
    }
}

/// A check of the far end that comes while ours is under way is no reason to forget ours: its answer is on the way.
#[test]
fn two_agents_find_each_other_however_far_apart_they_are_and_whoever_begins() {
    for delay in [20, 45, 50, 55, 75, 100, 150, 300, 500, 750] {
        for late in [0, 1, 30, 60, 110, delay, 2 * delay] {
            let mut pair = in_the_open();
            pair.delay = delay;
            let (a, b) = (pair.sides[0].as_peer(), pair.sides[1].as_peer());
            pair.sides[1].agent.start(at(0), a);
            pair.run(late);
            pair.sides[0].agent.start(at(pair.now), b);
            pair.run(2 * delay + 50);
            assert!(pair.routes().iter().all(Option::is_some), "{delay} ms, {late} ms late: no route");
            pair.run(4_000);
            let told = pair.sides.each_ref().map(|side| (side.events.len(), side.sent));
            assert!(
                told.iter().all(|(events, sent)| *events == 1 && *sent < 60),
                "{delay} ms, {late} ms: {told:?}"
            );
        }
    }
}

#[test]
fn behind_two_symmetric_nats_the_relay_carries_within_300_ms() {
    let mut pair = behind_symmetric_nats();
    pair.introduce();
    pair.run(200);
    assert!(pair.routes().iter().all(Option::is_some), "no route: {:?}", pair.routes());
    pair.run(3_000);
    let [Some(a), Some(b)] = pair.routes() else { panic!("the route was lost") };
    // Nominated is one relay, direct for one side and by its own allocation for the other.
    let relays = pair.sides.each_ref().map(|side| side.relay.unwrap());
    assert!(
        (a.way == Way::Relayed && b.to == relays[0]) || (b.way == Way::Relayed && a.to == relays[1]),
        "{a:?} {b:?}"
    );
    assert!(pair.sides[0].agent.may_come(a) && pair.sides[1].agent.may_come(b));
    assert!(
        pair.sides.iter().all(|side| side.events.iter().all(|(_, event)| matches!(event, Event::Route(_))))
    );
}

#[test]
fn a_check_before_the_answer_is_answered_and_remembered() {
    let mut pair = in_the_open();
    let offer = pair.sides[0].as_peer();
    pair.sides[1].agent.start(at(0), offer);
    pair.run(100);
    assert!(pair.routes()[1].is_some(), "the callee may send before its answer has arrived");
    let answer = Peer { candidates: Vec::new(), ..pair.sides[1].as_peer() };
    pair.sides[0].agent.start(at(100), answer);
    pair.run(50);
    assert_eq!(
        pair.routes()[0].map(|route| route.to),
        Some(address("192.0.2.2:5000")),
        "learned from its check"
    );
}

#[test]
fn a_role_conflict_ends_with_one_in_control() {
    for (offered, delay) in [20, 70, 110, 150, 300].iter().flat_map(|delay| [(true, *delay), (false, *delay)])
    {
        let mut pair = Pair::new(
            Side::new(1, "192.0.2.1:4000", None, None, offered),
            Side::new(2, "192.0.2.2:5000", None, None, offered),
        );
        pair.delay = delay;
        pair.introduce();
        // A check that is refused, and one in the other role.
        pair.run(4 * delay + 220);
        assert!(pair.routes().iter().all(Option::is_some), "{offered}, {delay} ms");
        assert_ne!(pair.sides[0].agent.is_controlling(), pair.sides[1].agent.is_controlling());
    }
}

#[test]
fn a_path_that_breaks_is_told_within_a_second_of_doubt_and_dies_after_thirty() {
    let mut pair = in_the_open();
    pair.introduce();
    pair.run(1_000);
    pair.cut = true;
    pair.sides[0].agent.doubt(at(pair.now));
    pair.run(1_000);
    assert_eq!(pair.sides[0].events.last().unwrap().1, Event::Broken);
    assert!(pair.routes()[0].is_some(), "consent is still fresh");
    pair.run(31_000);
    let (_, last) = pair.sides[0].events.last().unwrap();
    assert_eq!(*last, Event::ConsentLost);
    let broken = |(_, event): &&(u64, Event)| *event == Event::Broken;
    assert_eq!(pair.sides[1].events.iter().filter(broken).count(), 1, "noticed without doubt too");
    assert_eq!(pair.routes(), [None, None]);
    let sent = pair.sides[0].sent;
    pair.run(5_000);
    assert_eq!(pair.sides[0].sent, sent, "nothing more leaves");
}

#[test]
fn a_path_that_comes_back_is_mended_and_consent_goes_on_for_minutes() {
    let mut pair = in_the_open();
    pair.introduce();
    pair.run(1_000);
    pair.cut = true;
    pair.sides[0].agent.doubt(at(pair.now));
    pair.run(2_000);
    pair.cut = false;
    pair.run(1_000);
    assert_eq!(pair.sides[0].events.last().unwrap().1, Event::Mended);
    let before = pair.sides[0].sent;
    pair.run(120_000);
    assert!(pair.routes().iter().all(Option::is_some));
    let per_minute = (pair.sides[0].sent - before) / 2;
    assert!((20..=32).contains(&per_minute), "our checks and answers: {per_minute} a minute");
}

#[test]
fn a_restart_keeps_the_old_route_until_the_new_one_works() {
    let mut pair = in_the_open();
    pair.introduce();
    pair.run(1_000);
    let old = pair.routes();
    for which in 0..2 {
        let mut next =
            Side::new(10 + which as u64, ["192.0.2.1:4000", "192.0.2.2:5000"][which], None, None, which == 0);
        next.agent.keep_route(old[which]);
        pair.sides[which] = next;
    }
    assert_eq!(pair.routes(), old);
    assert!(pair.sides[0].agent.may_come(old[0].unwrap()));
    pair.introduce();
    pair.run(100);
    assert_eq!(pair.routes(), old);
    assert!(pair.sides.iter().all(|side| matches!(side.events[..], [(_, Event::Route(_))])));
}

/// What an agent that offered sends to a peer that answers by the test's own hand.
fn asked_of(agent: &mut Agent, now: u64) -> Vec<(Route, Message)> {
    agent.handle_timeout(at(now));
    let mut asked = Vec::new();
    while let Some(Transmit { route, bytes }) = agent.poll_transmit() {
        asked.push((route, Message::read(&bytes).unwrap()));
    }
    asked
}

fn far(candidates: Vec<Candidate>, lite: bool) -> Peer {
    let credentials = Credentials { ufrag: "farr".into(), pwd: "a-password-of-22-chars".into() };
    Peer { credentials, candidates, lite }
}

#[test]
fn a_lite_peer_is_controlled_and_told_which_pair_it_is() {
    let mut side = Side::new(1, "192.0.2.1:4000", None, None, false);
    let host = address("192.0.2.9:9000");
    side.agent.start(at(0), far(vec![candidate(Kind::Host, host)], true));
    assert!(side.agent.is_controlling(), "though it offered");
    let mut nominated = 0;
    for now in 0..200 {
        for (route, message) in asked_of(&mut side.agent, now) {
            assert_eq!(message.username.as_deref().unwrap().split(':').next(), Some("farr"));
            nominated += u32::from(message.use_candidate);
            let answer = Message::binding_answer(message.id, side.inside);
            let answer = answer.write(Seal::Password("a-password-of-22-chars"));
            side.agent.handle_datagram(at(now), route.way, route.to, &answer);
        }
    }
    assert_eq!((side.agent.route().map(|route| route.to), nominated), (Some(host), 1));
}

fn check_of_far(side: &Side, use_candidate: bool) -> Message {
    let mut check = Message::new(Class::Request, crate::nat::stun::TransactionId([7; 12]));
    check.username = Some(format!("{}:farr", side.agent.credentials().ufrag));
    check.priority = Some(5);
    check.role = Some(Role::Controlling(u64::MAX));
    check.use_candidate = use_candidate;
    check
}

#[test]
fn an_aggressive_peer_is_answered_at_once_and_the_best_of_its_pairs_is_taken() {
    let mut side = Side::new(1, "192.0.2.1:4000", None, None, false);
    let (low, high) = (address("192.0.2.9:9000"), address("192.0.2.9:9002"));
    let mut poor = candidate(Kind::Host, low);
    poor.priority = 100;
    side.agent.start(at(0), far(vec![poor, candidate(Kind::Host, high)], false));
    let pwd = side.agent.credentials().pwd.clone();
    let check = check_of_far(&side, true).write(Seal::Password(&pwd));
    side.agent.handle_datagram(at(1), Way::Direct, low, &check);
    let answer = Message::read(&side.agent.poll_transmit().unwrap().bytes).unwrap();
    assert_eq!((answer.class, answer.mapped), (Class::Success, Some(low)));
    side.agent.handle_datagram(at(1), Way::Direct, high, &check);
    let mut order = Vec::new();
    for now in 1..100 {
        for (route, message) in asked_of(&mut side.agent, now) {
            if message.class == Class::Request {
                let answer = Message::binding_answer(message.id, side.inside);
                let answer = answer.write(Seal::Password("a-password-of-22-chars"));
                side.agent.handle_datagram(at(now), route.way, route.to, &answer);
                order.extend(side.agent.route().map(|route| route.to));
            }
        }
    }
    assert_eq!((order.first(), order.last()), (Some(&low), Some(&high)));
}

#[test]
fn what_nobody_vouches_for_moves_nothing_and_is_counted() {
    let mut side = Side::new(1, "192.0.2.1:4000", None, None, true);
    side.agent.start(at(0), far(vec![candidate(Kind::Host, address("192.0.2.9:9000"))], false));
    let attacker = address("198.51.100.66:666");
    let pwd = side.agent.credentials().pwd.clone();
    let check = check_of_far(&side, true);
    let mut stranger = check.clone();
    stranger.username = Some("xxxx:farr".into());
    let mut unknown = check.clone();
    unknown.username = None;
    for (bytes, why) in [
        (check.write(Seal::Password("a-password-that-is-wrong")), "wrong password"),
        (check.write(Seal::Fingerprint), "no password"),
        (stranger.write(Seal::Password(&pwd)), "another name"),
        (unknown.write(Seal::Password(&pwd)), "no name"),
    ] {
        let before = side.agent.counters().forged;
        side.agent.handle_datagram(at(1), Way::Direct, attacker, &bytes);
        assert_eq!((side.agent.counters().forged, side.agent.poll_transmit()), (before + 1, None), "{why}");
    }
    assert!(side.agent.is_controlling(), "a forged role changes nothing");
    let (route, request) = asked_of(&mut side.agent, 2).remove(0);
    let answer = Message::binding_answer(request.id, side.inside);
    side.agent.handle_datagram(
        at(3),
        route.way,
        route.to,
        &answer.write(Seal::Password("wrong-password-of-22-ch")),
    );
    assert_eq!(side.agent.route(), None, "a forged answer");
    let right = answer.write(Seal::Password("a-password-of-22-chars"));
    side.agent.handle_datagram(at(3), route.way, attacker, &right);
    assert_eq!(side.agent.route(), None, "an answer from elsewhere");
    let mut refused = Message::new(Class::Error, request.id);
    refused.refusal = Some(Refusal { code: 487, reason: String::new() });
    side.agent.handle_datagram(at(3), route.way, route.to, &refused.write(Seal::Plain));
    assert!(side.agent.is_controlling(), "a forged conflict");
}

#[test]
fn thousands_of_candidates_cost_no_more_than_a_few() {
    let mut side = Side::new(1, "192.0.2.1:4000", None, Some("198.51.100.1:50000"), true);
    let mut candidates: Vec<Candidate> = (1..=5_000u16)
        .map(|port| candidate(Kind::Host, SocketAddr::from(([203, 0, 113, (port % 250) as u8], port))))
        .collect();
    candidates.extend(
        ["127.0.0.1:1", "169.254.0.1:1", "224.0.0.1:1", "0.0.0.0:1"]
            .map(|to| candidate(Kind::Host, address(to))),
    );
    side.agent.start(at(0), far(candidates, false));
    assert!(side.agent.counters().refused_candidates > 4_900);
    let mut asked = BTreeSet::new();
    let mut sent = 0;
    for now in 0..20_000 {
        for (route, _) in asked_of(&mut side.agent, now) {
            asked.insert(route);
            sent += 1;
        }
    }
    assert!(asked.len() <= MAX_PAIRS && sent <= MAX_PAIRS * 8, "{} routes, {sent} packets", asked.len());
    assert_eq!(side.agent.poll_event(), Some(Event::Failed));
    assert_eq!((side.agent.route(), side.agent.poll_timeout()), (None, None));
    let pwd = side.agent.credentials().pwd.clone();
    for port in 1..500 {
        let check = check_of_far(&side, false).write(Seal::Password(&pwd));
        side.agent.handle_datagram(
            at(20_001),
            Way::Direct,
            SocketAddr::from(([203, 0, 113, 1], port)),
            &check,
        );
        while side.agent.poll_transmit().is_some() {}
    }
}

/// Thousands of candidates of components that nobody has, and the same ones again and again: those of this one are tried,
/// so many at most.
#[test]
fn candidates_of_other_components_are_not_tried() {
    let mut chance = Chance::from_number(3);
    let own = vec!["10.0.0.2".parse().unwrap()];
    let settings = Settings { component: 2, own, relayed: None, offered: true, tie_breaker: 1 };
    let mut agent = Agent::new(settings, Credentials::draw(&mut chance), chance.fork());
    let told = |number: u32, component: u8| {
        let at = SocketAddr::from(([203, 0, 113, component], 1_024 + number as u16 % 500));
        Candidate { component, priority: number, ..candidate(Kind::Host, at) }
    };
    let components = [0, 1, 2, 3, 255];
    let candidates = (0..10_000).map(|number| told(number, components[number as usize % 5])).collect();
    agent.start(at(0), Peer { credentials: Credentials::draw(&mut chance), candidates, lite: false });
    let mut asked = BTreeSet::new();
    for step in 0..1_000 {
        agent.handle_timeout(at(10 * step));
        asked.extend(std::iter::from_fn(|| agent.poll_transmit()).map(|sent| sent.route.to));
    }
    assert!(asked.iter().all(|to| to.ip() == IpAddr::from([203, 0, 113, 2])), "{asked:?}");
    assert!((1..=MAX_PAIRS).contains(&asked.len()), "{} addresses are asked", asked.len());
    assert!(agent.counters().refused_candidates >= 1_900);
}

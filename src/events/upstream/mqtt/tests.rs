//! The session with a broker of paper, in virtual time.

mod commands;
mod packets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::packet::LARGEST;
use super::paper_broker::{self as paper, Connect, Heard, Told};
use super::*;
use crate::chance::Chance;
use crate::config::{MqttVersion, Secret, UpstreamKind};
use crate::events::cloud_event::identity;
use crate::events::upstream::samples::TODAY;
use crate::events::upstream::state::State;
use crate::events::upstream::{Action, Upstream};
use crate::events::{Kind, Suspension};
use crate::now::earliest;

const SECOND: Duration = Duration::from_secs(1);
/// How long a packet takes.
const WAY: Duration = Duration::from_millis(20);
const V5: MqttVersion = MqttVersion::V5;
const V311: MqttVersion = MqttVersion::V311;

fn settings(version: MqttVersion) -> config::Upstream {
    let mqtt = config::Mqtt {
        version,
        topic: "v1/acme/$serial".into(),
        client_id: "tipring-$serial".into(),
        user: Some("phone".into()),
        password: Secret::new("planted-word"),
        keep_alive: Duration::from_secs(60),
        spread: Duration::from_secs(5),
        commands: config::Commands::default(),
    };
    let (kind, events) = (UpstreamKind::Mqtt, vec!["*".to_owned()]);
    config::Upstream { name: "broker".into(), kind, events, mqtt, ..config::Upstream::default() }
}

/// What the broker does with something that it heard.
type Manner = Box<dyn FnMut(&Heard, usize) -> Answer>;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    /// What a willing broker answers.
    Usual,
    /// These bytes instead.
    Bytes(Vec<u8>),
    Nothing,
    /// It ends the connection without having taken it.
    Cut,
}

/// A device, a broker, and what is between them.
struct World {
    now: Now,
    five: bool,
    record: Vec<CloudEvent>,
    upstream: Upstream,
    session: Session,
    kept: Option<State>,
    told: Vec<Kind>,
    remarks: Vec<String>,
    orders: Vec<Order>,
    intruders: usize,
    connection: u32,
    stands: bool,
    to_device: VecDeque<(u64, u32, Vec<u8>)>,
    to_broker: VecDeque<(u64, u32, Vec<u8>)>,
    unread: Vec<u8>,
    /// The broker has a session.
    resumes: bool,
    reachable: bool,
    properties: Vec<u8>,
    manner: Manner,
    heard: Vec<Heard>,
    /// What was taken: acknowledged with success.
    got: Vec<Told>,
    chance: Chance,
}

impl World {
    fn new(version: MqttVersion) -> World {
        let (now, settings) = (Now { mono_us: 1, utc_us: TODAY }, settings(version));
        World {
            now,
            five: version == V5,
            record: Vec::new(),
            upstream: Upstream::new(now, settings.clone(), "TR-1", None, 0, Chance::from_number(3)),
            session: Session::new(now, &settings, "TR-1", Chance::from_number(4)),
            kept: None,
            told: Vec::new(),
            remarks: Vec::new(),
            orders: Vec::new(),
            intruders: 0,
            connection: 0,
            stands: false,
            to_device: VecDeque::new(),
            to_broker: VecDeque::new(),
            unread: Vec::new(),
            resumes: false,
            reachable: true,
            properties: Vec::new(),
            manner: Box::new(|_, _| Answer::Usual),
            heard: Vec::new(),
            got: Vec::new(),
            chance: Chance::from_number(5),
        }
    }

    fn happens(&mut self, call: &str) {
        let sequence = self.record.len() as u64 + 1;
        self.record.push(CloudEvent {
            sequence,
            id: identity(self.now, &mut self.chance),
            utc_us: self.now.utc_us,
            kind: "call.held".to_owned(),
            subject: Some(call.to_owned()),
            data: format!("{{\"leg_id\":\"{call}-1\",\"line\":\"office\"}}"),
        });
        self.upstream.handle_news(self.now, sequence);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.say(output);
            }
            match self.upstream.poll_action() {
                None => return,
                Some(Action::Read { since, limit }) => {
                    let page =
                        self.record.iter().skip(since as usize).take(limit as usize).cloned().collect();
                    self.upstream.handle_page(self.now, since, Some(page));
                }
                Some(Action::Send { sequence, request }) => {
                    assert_eq!(request.method, "PUBLISH");
                    self.session.publish(self.now, sequence, request.target, request.body);
                }
                Some(Action::Keep(state)) => self.kept = Some(state),
                Some(Action::Tell(kind)) => self.told.push(*kind),
                Some(Action::Remember { .. }) => panic!("nothing is to be remembered"),
            }
        }
    }

    fn say(&mut self, output: Output) {
        match output {
            Output::Open => {
                self.connection += 1;
                self.unread.clear();
                self.stands = self.reachable;
                match self.reachable {
                    true => self.session.handle_opened(self.now),
                    false => self.session.handle_lost(self.now, "no connection".into(), "check url".into()),
                }
            }
            Output::Write(bytes) if self.stands => {
                self.to_broker.push_back((self.now.deadline(WAY), self.connection, bytes));
            }
            Output::Write(_) => {}
            Output::Close => self.stands = false,
            Output::Up => self.upstream.handle_connected(self.now),
            Output::Down(trouble, at) => {
                self.upstream.handle_disconnected(self.now, (trouble.what, trouble.cure), trouble.why, at);
            }
            Output::Outcome(sequence, outcome) => self.upstream.handle_outcome(self.now, sequence, outcome),
            Output::Remark(what, _) => self.remarks.push(what),
            Output::Order(order) => self.orders.push(order),
            Output::Intruder => self.intruders += 1,
        }
    }

    /// The connection ends for both.
    fn cut(&mut self) {
        self.to_broker.clear();
        if std::mem::take(&mut self.stands) {
            self.session.handle_lost(self.now, "it is cut".into(), "mend it".into());
            self.drain();
        }
    }

    fn answer(&mut self, bytes: Vec<u8>) {
        self.to_device.push_back((self.now.deadline(WAY), self.connection, bytes));
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
        while let Some(heard) = paper::hear(&mut self.unread, self.five) {
            let count = self.heard.len();
            self.heard.push(heard.clone());
            let answer = (self.manner)(&heard, count);
            match answer {
                Answer::Usual => self.usual(heard),
                Answer::Bytes(bytes) => self.answer(bytes),
                Answer::Nothing => {}
                Answer::Cut => return self.cut(),
            }
        }
    }

    fn usual(&mut self, heard: Heard) {
        match heard {
            Heard::Connect(connect) => {
                let resumed = self.resumes && !connect.clean;
                self.resumes = true;
                self.answer(paper::greeting(self.five, resumed, 0, &self.properties));
            }
            Heard::Publish(told) => {
                if let Some(id) = told.id {
                    self.answer(paper::acknowledgement(id, 0));
                }
                self.got.push(told);
            }
            Heard::Subscribe { id, .. } => self.answer(paper::granted(self.five, id, 1)),
            Heard::Ping => self.answer(paper::pong()),
            Heard::Acknowledged(_) | Heard::Disconnect(_) => {}
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.deadline(time);
        loop {
            self.drain();
            let packets = [&self.to_device, &self.to_broker].map(|way| way.front().map(|(at, ..)| *at));
            let timers = [self.session.poll_timeout(), self.upstream.poll_timeout()];
            let due = packets.into_iter().chain(timers).fold(None, earliest).unwrap_or(u64::MAX);
            if due > end {
                let left = Duration::from_micros(end.saturating_sub(self.now.mono_us));
                self.now = self.now.plus(left);
                return;
            }
            self.now = self.now.plus(Duration::from_micros(due.saturating_sub(self.now.mono_us)));
            let now = self.now.mono_us;
            if let Some((_, connection, bytes)) = self.to_broker.pop_front_if(|(at, ..)| *at <= now) {
                // What was written before an end in order still comes.
                if connection == self.connection {
                    self.hear(&bytes);
                }
            } else if let Some((_, connection, bytes)) = self.to_device.pop_front_if(|(at, ..)| *at <= now) {
                if connection == self.connection && self.stands {
                    self.session.handle_bytes(self.now, &bytes);
                }
            } else {
                self.session.handle_timeout(self.now);
                self.upstream.handle_timeout(self.now);
            }
        }
    }

    fn published(&self) -> Vec<&Told> {
        let events = self.heard.iter().filter_map(|heard| match heard {
            Heard::Publish(told) => Some(told).filter(|told| told.topic.ends_with("/event")),
            _ => None,
        });
        events.collect()
    }

    fn sequences(told: &[&Told]) -> Vec<u64> {
        told.iter().map(|told| sequence(told)).collect()
    }

    fn reason(&self) -> String {
        self.upstream.view(self.now).reason.unwrap_or_default()
    }

    /// Nothing is lost, each call is in order, and a double says the same.
    fn check(&self) {
        let mut first: BTreeMap<u64, &Told> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for told in self.got.iter().filter(|told| told.topic.ends_with("/event")) {
            let number = sequence(told);
            let known = first.entry(number).or_insert(told);
            assert_eq!(
                (&known.payload, &known.topic),
                (&told.payload, &told.topic),
                "a double says the same"
            );
            let last = last.entry(told.topic.as_str()).or_insert(0);
            assert!(number >= *last || first.contains_key(&number), "{number} after {last}");
            *last = number.max(*last);
        }
        let missing: BTreeSet<u64> =
            (1..=self.record.len() as u64).filter(|it| !first.contains_key(it)).collect();
        assert_eq!(missing, BTreeSet::new());
        let firsts: Vec<u64> = first.keys().copied().collect();
        assert!(firsts.is_sorted());
    }
}

fn sequence(told: &Told) -> u64 {
    let event: Value = serde_json::from_slice(&told.payload).expect("JSON");
    event["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number")
}

fn is_event(heard: &Heard) -> Option<u16> {
    match heard {
        Heard::Publish(told) if told.topic.ends_with("/event") => told.id,
        _ => None,
    }
}

#[test]
fn the_device_logs_in_with_its_will_and_tells_how_it_is() {
    for version in [V5, V311] {
        let mut world = World::new(version);
        world.session.tell_state(world.now, b"{\"state\":\"online\"}".to_vec());
        world.run(10 * SECOND);
        let Heard::Connect(hello) = &world.heard[0] else { panic!("{:?}", world.heard) };
        let will = Told {
            topic: "v1/acme/TR-1/state".into(),
            payload: br#"{"serial":"TR-1","state":"offline"}"#.to_vec(),
            retain: true,
            ..Told::default()
        };
        let five = version == V5;
        let expected = Connect {
            five,
            clean: five,
            client_id: "tipring-TR-1".into(),
            user: Some("phone".into()),
            password: Some("planted-word".into()),
            keep_alive: 60,
            will: Some(will.clone()),
            expiry: five.then_some(3600),
            largest: five.then_some(LARGEST as u32),
        };
        assert_eq!(hello, &expected);
        let state = |at: usize| match &world.heard[at] {
            Heard::Publish(told) => (told.topic.as_str(), told.payload.as_slice(), told.retain),
            other => panic!("{other:?}"),
        };
        assert_eq!(state(1), ("v1/acme/TR-1/state", &br#"{"state":"online"}"#[..], true));
        world.session.close(world.now);
        world.run(SECOND);
        let [.., Heard::Publish(last), Heard::Disconnect(0)] = &world.heard[..] else {
            panic!("{:?}", world.heard)
        };
        assert_eq!((&last.payload, last.retain, last.id), (&will.payload, true, None));
    }
}

#[test]
fn only_the_acknowledgement_of_its_own_packet_delivers_an_event() {
    let mut world = World::new(V311);
    world.manner =
        Box::new(|heard, _| if is_event(heard).is_some() { Answer::Nothing } else { Answer::Usual });
    world.run(10 * SECOND);
    for call in ["a", "b", "c"] {
        world.happens(call);
    }
    world.run(SECOND);
    let ids: Vec<u16> = world.published().iter().filter_map(|told| told.id).collect();
    let delivered = |world: &World| (world.upstream.state().owed, world.upstream.view(world.now).delivered);
    assert_eq!(delivered(&world), (BTreeSet::from([1, 2, 3]), 0));
    // One that nobody waits for, then those of the second and the third.
    for (id, left) in [(4711, vec![1, 2, 3]), (ids[1], vec![1, 3]), (ids[1], vec![1, 3]), (ids[2], vec![1])] {
        world.answer(paper::acknowledgement(id, 0));
        world.run(SECOND);
        assert_eq!(delivered(&world).0, left.into_iter().collect());
    }
    assert_eq!(delivered(&world).1, 2);
}

#[test]
fn what_was_not_acknowledged_goes_out_again_under_its_id_where_the_broker_knows_the_session() {
    for forgets in [false, true] {
        let mut world = World::new(V5);
        world.manner =
            Box::new(|heard, _| if is_event(heard).is_some() { Answer::Nothing } else { Answer::Usual });
        world.run(10 * SECOND);
        for call in ["a", "b", "a", "c"] {
            world.happens(call);
        }
        world.run(SECOND);
        let before: Vec<(u64, Option<u16>)> =
            world.published().iter().map(|told| (sequence(told), told.id)).collect();
        assert_eq!(
            World::sequences(&world.published()),
            [1, 2, 4],
            "the second of a call waits for the first"
        );
        world.cut();
        world.resumes = !forgets;
        world.manner = Box::new(|_, _| Answer::Usual);
        let count = before.len();
        world.run(60 * SECOND);
        world.check();
        let published = world.published();
        let again: Vec<&&Told> = published[count..].iter().filter(|told| told.again).collect();
        let repeated: Vec<(u64, Option<u16>)> = again.iter().map(|told| (sequence(told), told.id)).collect();
        assert_eq!(repeated, if forgets { vec![] } else { before }, "in the order in which they were sent");
        assert_eq!(world.published().len(), count + 4);
        let hellos: Vec<bool> = world
            .heard
            .iter()
            .filter_map(|it| match it {
                Heard::Connect(hello) => Some(hello.clean),
                _ => None,
            })
            .collect();
        assert_eq!(hellos, [true, false], "a new life begins clean, a new connection does not");
    }
}

#[test]
fn no_more_is_under_way_than_the_broker_takes() {
    let mut world = World::new(V5);
    world.properties = vec![0x21, 0, 2];
    world.manner =
        Box::new(|heard, _| if is_event(heard).is_some() { Answer::Nothing } else { Answer::Usual });
    world.run(10 * SECOND);
    for call in ["a", "b", "c", "d"] {
        world.happens(call);
    }
    world.run(SECOND);
    assert_eq!(World::sequences(&world.published()), [1, 2]);
    let id = world.published()[0].id.expect("an id");
    world.answer(paper::acknowledgement(id, 0));
    world.run(SECOND);
    assert_eq!(World::sequences(&world.published()), [1, 2, 3]);
}

#[test]
fn a_silent_broker_is_asked_and_a_dead_one_left() {
    let mut world = World::new(V311);
    world.run(10 * SECOND);
    world.run(600 * SECOND);
    let pings = |world: &World| world.heard.iter().filter(|it| **it == Heard::Ping).count();
    assert_eq!((pings(&world), world.connection), (10, 1));
    world.manner = Box::new(|heard, _| if *heard == Heard::Ping { Answer::Nothing } else { Answer::Usual });
    world.run(100 * SECOND);
    assert_eq!((pings(&world), world.connection), (11, 2), "it is connected to again");
    // A broker that answers pings and never acknowledges is no better.
    world.manner =
        Box::new(|heard, _| if is_event(heard).is_some() { Answer::Nothing } else { Answer::Usual });
    world.happens("a");
    world.run(36 * SECOND);
    assert_eq!(world.connection, 3);
    // What the broker says about keeping alive counts.
    let mut world = World::new(V5);
    world.properties = vec![0x13, 0, 10];
    world.run(10 * SECOND);
    world.run(100 * SECOND);
    assert_eq!(pings(&world), 10);
}

#[test]
fn a_refused_login_is_told_at_once_and_tried_seldom() {
    for (version, code, what, cure, why) in [
        (V311, 1, "does not speak MQTT 3.1.1", "version = \"5\"", Suspension::Refused),
        (V311, 4, "refuses user and password", "check user", Suspension::Refused),
        (V311, 5, "not authorized", "check user", Suspension::Refused),
        (V5, 1, "does not speak MQTT 3.1.1", "version = \"5\"", Suspension::Refused),
        (V5, 0x84, "does not speak MQTT 5", "version = \"3.1.1\"", Suspension::Refused),
        (V5, 0x86, "refuses user and password", "check user", Suspension::Refused),
        (V5, 0x8a, "banned", "lift", Suspension::Refused),
    ] {
        let mut world = World::new(version);
        let refusal = paper::greeting(version == V5, false, code, &[]);
        world.manner = Box::new(move |_, _| Answer::Bytes(refusal.clone()));
        world.happens("a");
        world.run(10 * SECOND);
        let Some(Kind::UpstreamSuspended { why: told, what: said, cure: done, retry_us, .. }) =
            world.told.first()
        else {
            panic!("{:?}", world.told)
        };
        assert!(said.contains(what) && done.contains(cure), "{code}: {said}; {done}");
        assert_eq!(*told, why);
        assert!(retry_us.is_some_and(|wait| wait >= 32_000_000), "{retry_us:?}");
        assert_eq!(world.upstream.view(world.now).state, "retrying");
        world.run(3600 * SECOND);
        assert!((10..60).contains(&world.connection), "{} log-ins in an hour", world.connection);
        assert_eq!(world.told.len(), 1, "it is told once");
        world.manner = Box::new(|_, _| Answer::Usual);
        world.run(400 * SECOND);
        world.check();
        assert!(matches!(world.told.last(), Some(Kind::UpstreamResumed { .. })), "{:?}", world.told);
    }
    let mut world = World::new(V5);
    let busy = paper::greeting(true, false, 0x89, &[0x1f, 0, 4, b'l', b'o', b'a', b'd']);
    world.manner =
        Box::new(move |_, count| if count < 3 { Answer::Bytes(busy.clone()) } else { Answer::Usual });
    world.happens("a");
    world.run(6 * SECOND);
    assert_eq!(world.reason(), "the broker is busy: load");
    world.run(30 * SECOND);
    assert!(world.told.is_empty(), "{:?}", world.told);
    world.check();
}

#[test]
fn each_refusal_of_a_message_has_its_rule() {
    // Refused now: it waits, and comes. Refused for good: put aside when others were taken often enough.
    for (code, comes) in
        [(0x97, true), (0x80, true), (0x83, true), (0x87, false), (0x90, false), (0x99, false)]
    {
        let mut world = World::new(V5);
        let mut left = 3;
        world.manner = Box::new(move |heard, _| match heard {
            Heard::Publish(told) if told.topic.contains("/bad-1/") && (left > 0 || !comes) => {
                left -= 1;
                Answer::Bytes(paper::acknowledgement(told.id.unwrap_or(0), code))
            }
            _ => Answer::Usual,
        });
        world.run(10 * SECOND);
        world.happens("bad");
        for number in 0..200 {
            world.happens(&format!("good-{number}"));
            world.run(10 * SECOND);
        }
        let view = world.upstream.view(world.now);
        assert_eq!((view.set_aside, view.state), (u64::from(!comes), "idle"), "{code:02x}");
        if comes {
            world.check();
        } else {
            let refused = world.told.iter().find_map(|kind| match kind {
                Kind::UpstreamRefused { status, sequence, .. } => Some((*status, *sequence)),
                _ => None,
            });
            assert_eq!(refused, Some((u16::from(code), 1)));
        }
    }
    // One that refuses everything is misconfigured, and loses nothing.
    let mut world = World::new(V5);
    world.manner = Box::new(|heard, _| match is_event(heard) {
        Some(id) => Answer::Bytes(paper::acknowledgement(id, 0x87)),
        None => Answer::Usual,
    });
    for call in ["a", "b", "c", "d", "e", "f", "g"] {
        world.happens(call);
    }
    world.run(3600 * SECOND);
    assert_eq!(world.reason(), "the broker says that this device is not authorized");
    assert!(
        matches!(world.told[..], [Kind::UpstreamSuspended { why: Suspension::Refused, .. }]),
        "{:?}",
        world.told
    );
    world.manner = Box::new(|_, _| Answer::Usual);
    world.run(600 * SECOND);
    world.check();
}

#[test]
fn a_broker_that_says_goodbye_is_quoted_and_not_followed_elsewhere() {
    let mut world = World::new(V5);
    world.run(10 * SECOND);
    let mut farewell = vec![0x9d, 17, 0x1c, 0, 14];
    farewell.extend(b"evil\x1b.example\n");
    world.answer(paper::packet(0xe0, &farewell));
    world.run(WAY);
    assert_eq!(world.reason(), "the broker has moved: evil?.example?");
    world.run(3600 * SECOND);
    assert_eq!((world.connection, world.upstream.view(world.now).state), (2, "idle"));
    world.answer(paper::packet(0xe0, &[0x8e, 0]));
    world.run(SECOND);
    assert!(world.reason().contains("the same client_id"), "{}", world.reason());
    assert_eq!(world.connection, 2, "two with one name do not throw each other out every second");
}

#[test]
fn what_is_too_large_for_the_broker_is_not_sent_and_does_not_stand_in_the_way() {
    let mut world = World::new(V5);
    world.properties = vec![0x27, 0, 0, 2, 0];
    world.run(10 * SECOND);
    let large = "x".repeat(600);
    world.happens(&large);
    for number in 0..200 {
        world.happens(&format!("c{number}"));
        world.run(10 * SECOND);
    }
    let view = world.upstream.view(world.now);
    assert_eq!((view.set_aside, view.delivered, world.connection), (1, 200, 1));
    assert!(world.published().iter().all(|told| !told.topic.contains("xxx")));
}

#[test]
fn a_huge_message_is_thrown_away_and_nonsense_ends_the_connection() {
    let mut world = World::new(V311);
    world.run(10 * SECOND);
    let huge = paper::message(false, "v1/acme/TR-1/command/call", &vec![b'{'; 300_000], 7, false, &[]);
    for piece in huge.chunks(4096) {
        world.answer(piece.to_vec());
    }
    world.happens("a");
    world.run(SECOND);
    assert!(world.heard.contains(&Heard::Acknowledged(7)), "a broker would send it again for ever");
    assert_eq!(world.connection, 1);
    world.check();
    for (nonsense, reason) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not MQTT"),
        (paper::greeting(false, false, 0, &[]), "greets twice"),
        (paper::packet(0x30, &vec![0; 2 << 20]), "larger than"),
    ] {
        let before = world.connection;
        world.answer(nonsense);
        world.run(2 * WAY);
        assert!(world.reason().contains(reason), "{}", world.reason());
        world.happens("a");
        world.run(60 * SECOND);
        assert_eq!(world.connection, before + 1);
        world.check();
    }
}

#[test]
fn an_event_that_ends_each_connection_lets_the_others_through() {
    let mut world = World::new(V311);
    world.manner = Box::new(|heard, _| match heard {
        Heard::Publish(told) if told.topic.contains("/bad-1/") => Answer::Cut,
        _ => Answer::Usual,
    });
    world.happens("bad");
    for number in 0..100 {
        world.happens(&format!("good-{number}"));
        world.run(20 * SECOND);
    }
    world.run(1200 * SECOND);
    assert_eq!(world.upstream.state().owed, BTreeSet::from([1]));
    assert!(world.connection < 80, "{} connections", world.connection);
}

#[derive(Clone, Debug)]
enum Step {
    Happens(u8),
    Run(u16),
    Cut,
    Restart(bool),
    Reachable(bool),
    Manner(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..5).prop_map(Step::Happens),
        6 => (1u16..3000).prop_map(Step::Run),
        2 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::Restart),
        1 => any::<bool>().prop_map(Step::Reachable),
        1 => (0u8..4).prop_map(Step::Manner),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Connections that break, brokers that forget, refuse and are silent: nothing is lost, calls stay in order.
    #[test]
    fn nothing_is_lost_over_connections_that_break(
        five in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(if five { V5 } else { V311 });
        for step in steps {
            match step {
                Step::Happens(call) => world.happens(&format!("call-{call}")),
                Step::Run(millis) => world.run(Duration::from_millis(millis.into())),
                Step::Cut => world.cut(),
                Step::Restart(forgets) => {
                    world.cut();
                    world.resumes &= !forgets;
                }
                Step::Reachable(reachable) => world.reachable = reachable,
                Step::Manner(0) => world.manner = Box::new(|_, _| Answer::Usual),
                Step::Manner(1) => world.manner = Box::new(|heard, count| match is_event(heard) {
                    Some(_) if count % 3 == 0 => Answer::Nothing,
                    _ => Answer::Usual,
                }),
                Step::Manner(2) => world.manner = Box::new(|heard, count| match is_event(heard) {
                    Some(_) if count % 4 == 0 => Answer::Cut,
                    _ => Answer::Usual,
                }),
                Step::Manner(_) => world.manner = Box::new(move |heard, count| match is_event(heard) {
                    Some(id) if five && count % 3 == 0 => Answer::Bytes(paper::acknowledgement(id, 0x97)),
                    _ => Answer::Usual,
                }),
            }
        }
        world.reachable = true;
        world.manner = Box::new(|_, _| Answer::Usual);
        world.run(1500 * SECOND);
        world.check();
        prop_assert_eq!(world.upstream.state().low(), world.record.len() as u64);
    }
}

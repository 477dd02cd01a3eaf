//! A phone that tells a broker what happens on it (MQTT), over one connection that stays. The broker goes away and comes back; it
//! takes each event by itself, and sends commands. Real connections are in `tests/api`, Mosquitto in `tests/lab`.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tipring::chance::Chance;
use tipring::device::upstream::orders;
use tipring::events::cloud_event::Digits;
use tipring::events::upstream::mqtt::{Order, Output, Session};
use tipring::events::upstream::{Action, Upstream};
use tipring::events::{AgentState, CloudEvent, Kind, Origin};
use tipring::now::Now;
use tipring::phone::command::Command;

use crate::handset::Handset;
use crate::world::{ANSWER, HANG_UP, World, call, config};

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../src/events/upstream/mqtt/paper_broker.rs"]
mod paper;

use paper::{Heard, Told};

/// How long a packet takes between the phone and its broker, in milliseconds.
const WAY: u64 = 10;
/// An upstream that wants everything, and lets calls be made.
const TABLE: &str = "[[upstream]]\nname = \"broker\"\nkind = \"mqtt\"\nurl = \"mqtt://broker.example\"\nevents = [\"*\"]\n\
    [upstream.mqtt]\ntopic = \"v1/acme/$serial\"\n\
    [upstream.mqtt.commands]\nallow = [\"call\", \"hangup\"]\ntrust_broker = true\n";

/// What the office thread of the first phone has for its broker, and the broker.
struct Office {
    upstream: Upstream,
    session: Session,
    /// What the store would have.
    record: Vec<CloudEvent>,
    stands: bool,
    to_broker: VecDeque<Vec<u8>>,
    to_phone: VecDeque<Vec<u8>>,
    broker: Broker,
}

#[derive(Default)]
struct Broker {
    away: bool,
    unread: Vec<u8>,
    /// Every message that came, also one that came twice.
    came: Vec<Told>,
    /// The type of the events that it does not acknowledge.
    forgets: Option<&'static str>,
}

impl Broker {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.unread.extend(bytes);
        let mut answers = Vec::new();
        while let Some(heard) = paper::hear(&mut self.unread, true) {
            answers.extend(match heard {
                Heard::Connect(_) => paper::greeting(true, false, 0, &[]),
                Heard::Subscribe { id, .. } => paper::granted(true, id, 1),
                Heard::Ping => paper::pong(),
                Heard::Publish(told) => {
                    let forgotten = self.forgets.is_some_and(|kind| json(&told)["type"] == kind);
                    let answer = told.id.filter(|_| !forgotten).map(|id| paper::acknowledgement(id, 0));
                    self.came.push(told);
                    answer.unwrap_or_default()
                }
                Heard::Acknowledged(_) | Heard::Disconnect(_) => Vec::new(),
            });
        }
        answers
    }

    fn events(&self) -> impl Iterator<Item = (u64, &Told)> {
        let events = self.came.iter().filter(|told| told.topic.ends_with("/event"));
        events.map(|told| {
            let sequence = json(told)["sequence"].as_str().and_then(|it| it.parse().ok());
            (sequence.expect("a number"), told)
        })
    }

    /// What was answered to the command with this identity.
    fn answer(&self, id: &str) -> Value {
        let mut answers = self.came.iter().filter(|told| told.topic.ends_with("/response")).map(json);
        answers.find(|answer| answer["id"] == id).unwrap_or_default()
    }
}

fn json(told: &Told) -> Value {
    serde_json::from_slice(&told.payload).expect("JSON")
}

impl Office {
    fn of(world: &World, settings: &tipring::config::Upstream) -> Office {
        let (now, serial) = (world.now(), "SERIAL-1001");
        Office {
            upstream: Upstream::new(now, settings.clone(), serial, None, 0, Chance::from_number(3)),
            session: Session::new(now, settings, serial, Chance::from_number(4)),
            record: Vec::new(),
            stands: false,
            to_broker: VecDeque::new(),
            to_phone: VecDeque::new(),
            broker: Broker::default(),
        }
    }

    fn seconds(&mut self, world: &mut World, seconds: u64) {
        for _ in 0..seconds * 1000 / WAY {
            world.millis(WAY);
            self.step(world);
        }
    }

    /// Takes what has happened on the phone, and what has crossed the network.
    fn step(&mut self, world: &mut World) {
        let now = world.now();
        let new = world.phones[0].events[self.record.len()..].iter();
        let new: Vec<_> = new.map(|recorded| recorded.cloud_event(Digits::Hidden)).collect();
        if let Some(newest) = new.last().map(|event| event.sequence) {
            self.record.extend(new);
            self.upstream.handle_news(now, newest);
        }
        for bytes in std::mem::take(&mut self.to_broker) {
            let answers = self.broker.hear(&bytes);
            self.to_phone.extend((!answers.is_empty()).then_some(answers));
        }
        for bytes in std::mem::take(&mut self.to_phone) {
            self.session.handle_bytes(now, &bytes);
        }
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_us);
        if due(self.session.poll_timeout()) {
            self.session.handle_timeout(now);
        }
        if due(self.upstream.poll_timeout()) {
            self.upstream.handle_timeout(now);
        }
        self.drain(world, now);
    }

    fn drain(&mut self, world: &mut World, now: Now) {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.say(world, now, output);
            }
            match self.upstream.poll_action() {
                None => return,
                Some(Action::Read { since, limit }) => {
                    let page = self.record.iter().filter(|event| event.sequence > since);
                    let page = page.take(limit as usize).cloned().collect();
                    self.upstream.handle_page(now, since, Some(page));
                }
                Some(Action::Send { sequence, request }) => {
                    self.session.publish(now, sequence, request.target, request.body);
                }
                Some(Action::Keep(_) | Action::Tell(_) | Action::Remember { .. }) => {}
            }
        }
    }

    fn say(&mut self, world: &mut World, now: Now, output: Output) {
        match output {
            Output::Open if self.broker.away => {
                self.session.handle_lost(now, "no connection".into(), "check url".into());
            }
            Output::Open => {
                self.broker.unread.clear();
                self.stands = true;
                self.session.handle_opened(now);
            }
            Output::Write(bytes) => self.to_broker.extend(self.stands.then_some(bytes)),
            Output::Close => self.stands = false,
            Output::Up => self.upstream.handle_connected(now),
            Output::Down(trouble, at) => {
                self.upstream.handle_disconnected(now, (trouble.what, trouble.cure), trouble.why, at);
            }
            Output::Outcome(sequence, outcome) => self.upstream.handle_outcome(now, sequence, outcome),
            Output::Order(order) => self.obey(world, now, &order),
            Output::Remark(what, _) => panic!("{what}"),
            Output::Intruder => panic!("nobody else is here"),
        }
    }

    fn obey(&mut self, world: &mut World, now: Now, order: &Order) {
        let outcome = orders::command(order)
            .and_then(|command| world.phones[0].phone.command(now, command, Origin::Upstream));
        world.drain();
        self.session.answer(now, order, orders::answer(outcome));
    }

    /// The broker is gone, and with it what was on the way.
    fn lose_broker(&mut self, world: &mut World) {
        self.broker.away = true;
        self.stands = false;
        self.to_broker.clear();
        self.to_phone.clear();
        self.session.handle_lost(world.now(), "the connection ended".into(), "wait".into());
        self.drain(world, world.now());
    }

    /// Somebody at the broker gives a command.
    fn commands(&mut self, world: &World, name: &str, id: &str, more: &str) {
        let at = world.now().utc_us / 1_000_000;
        let payload = format!("{{\"id\":\"{id}\",\"at\":{at}{more}}}");
        let topic = format!("v1/acme/SERIAL-1001/command/{name}");
        self.to_phone.push_back(paper::message(true, &topic, payload.as_bytes(), 9, false, &[]));
    }
}

/// Two phones, and the office of the first one, which has connected to its broker.
fn office() -> (World, Office) {
    let mut world = World::new(1);
    let settings = config("1001", "", TABLE);
    let upstream = settings.upstream[0].clone();
    world.add_phone(settings);
    world.add_phone(config("1002", "", ""));
    let mut office = Office::of(&world, &upstream);
    office.seconds(&mut world, 10);
    assert_eq!(office.upstream.view(world.now()).state, "idle");
    (world, office)
}

fn types(phone: &Handset) -> Vec<&'static str> {
    phone.events.iter().map(|recorded| recorded.event.kind.name()).collect()
}

#[test]
fn a_broker_that_was_away_gets_what_it_has_missed_and_what_it_did_not_acknowledge() {
    let (mut world, mut office) = office();
    office.broker.forgets = Some("tipring.call.answered");
    world.tell(0, call("1002"));
    office.seconds(&mut world, 2);
    world.tell(1, ANSWER);
    office.seconds(&mut world, 1);
    world.tell(0, Command::Agent { line: None, state: AgentState::LoggedOut });
    office.seconds(&mut world, 2);
    let taken = office.upstream.view(world.now()).delivered;
    let unsure = office.record.iter().find(|event| event.kind == "call.answered").expect("an answer");
    let waits = |event: &&CloudEvent| event.subject == unsure.subject && event.sequence >= unsure.sequence;
    let (waiting, told) = (office.record.iter().filter(waits).count(), office.record.len());
    assert_eq!(
        taken,
        (told - waiting) as u64,
        "the acknowledgement of another event is not that of this one"
    );
    assert!(office.broker.events().any(|(_, told)| json(told)["type"] == "tipring.agent.logged_out"));
    office.lose_broker(&mut world);
    world.tell(0, HANG_UP);
    office.seconds(&mut world, 120);
    let before = office.record.len() as u64;
    world.tell(0, call("1002"));
    office.seconds(&mut world, 2);
    world.tell(0, HANG_UP);
    office.seconds(&mut world, 60);
    assert_eq!(office.upstream.view(world.now()).delivered, taken);
    (office.broker.away, office.broker.forgets) = (false, None);
    // The longest wait between two attempts is five minutes.
    office.seconds(&mut world, 310);
    assert_eq!(office.upstream.view(world.now()).state, "idle");
    let mut times: BTreeMap<u64, Vec<&Told>> = BTreeMap::new();
    for (sequence, told) in office.broker.events() {
        times.entry(sequence).or_default().push(told);
    }
    for event in &office.record {
        // What rang minutes ago interests nobody; of what became of it nothing is missing.
        let momentary = matches!(event.kind.as_str(), "call.dialing" | "call.ringing" | "call.early");
        let expected = match event.kind.as_str() {
            "call.answered" => 2,
            _ if momentary && event.sequence > before => 0,
            _ => 1,
        };
        let got = times.remove(&event.sequence).unwrap_or_default();
        assert_eq!(got.len(), expected, "{} {}", event.sequence, event.kind);
        assert!(got.windows(2).all(|pair| pair[0].payload == pair[1].payload), "a repetition is the same");
    }
    assert!(times.is_empty(), "{times:?}");
    for event in ["call.new", "call.ended", "call.closed"] {
        assert_eq!(types(&world.phones[0]).iter().filter(|it| **it == event).count(), 2, "{event}");
    }
    let last = |leg: &str| -> Vec<u64> {
        let topic = format!("/call/{leg}/event");
        office.broker.events().filter(|(_, told)| told.topic.ends_with(&topic)).map(|(it, _)| it).collect()
    };
    for kind in world.phones[0].all("call.ended") {
        let leg = &kind.leg().expect("a leg").leg_id;
        assert!(last(leg).is_sorted(), "{:?}", last(leg));
    }
}

#[test]
fn somebody_at_the_broker_calls_and_hangs_up_and_is_told_what_comes_of_it() {
    let (mut world, mut office) = office();
    office.commands(&world, "call", "k-1", ",\"to\":\"1002\"");
    office.seconds(&mut world, 1);
    world.tell(1, ANSWER);
    office.seconds(&mut world, 1);
    let id = world.calls(0)[0].id.clone();
    let answer = office.broker.answer("k-1");
    assert_eq!((&answer["result"], &answer["call"]), (&json!("done"), &json!(id)));
    let new = world.phones[0].all("call.new");
    assert!(matches!(new[..], [Kind::CallNew { origin: Origin::Upstream, .. }]), "{new:?}");
    office.commands(&world, "hangup", "k-2", &format!(",\"call\":\"{id}\""));
    office.commands(&world, "hangup", "k-3", ",\"call\":\"nobody\"");
    office.seconds(&mut world, 1);
    assert!(world.calls(0).is_empty() && world.calls(1).is_empty());
    assert_eq!(office.broker.answer("k-2")["result"], "done");
    assert!(office.broker.answer("k-3")["error"]["hint"].is_string(), "{}", office.broker.answer("k-3"));
    let told: Vec<String> = office
        .broker
        .events()
        .map(|(_, told)| json(told)["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(told.ends_with(&["tipring.call.ended".to_owned(), "tipring.call.closed".to_owned()]), "{told:?}");
}

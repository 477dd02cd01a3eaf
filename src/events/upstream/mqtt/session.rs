//! The connection to one broker, as a state machine in time, bytes and chance.
//!
//! The driver makes connections and carries bytes; everything else is decided here: when to connect again, what was
//! acknowledged, what is sent once more under the same packet id, when a silent broker is gone. After each call it drains
//! [`Session::poll_output`].
//!
//! A message is done when *its* acknowledgement comes. What was under way when a connection ended is not failed for good and
//! not done: [`Output::Down`] gives it back to the [`Upstream`](crate::events::upstream::Upstream), and when that sends it
//! again over a connection on which the broker still knows the session, it goes out marked as repeated (DUP) under the id that
//! it had. One that the broker no longer knows gets a new id; receivers know doubles by the identity of the event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::orders::{Order, Orders, Ruling};
use super::outgoing::{self, Hello, Publish};
use super::packet::{self, Fault, Message, Packet};
use super::properties::Properties;
use super::reason;
use super::topics::Topics;
use crate::chance::Chance;
use crate::config;
use crate::events::Suspension;
use crate::events::upstream::outcome::{Outcome, Verdict};
use crate::events::upstream::owed::wait;
use crate::now::{Now, earliest, micros};

/// For a broker to greet.
const GREETING: Duration = Duration::from_secs(15);
/// For a broker to acknowledge a message.
const ACKNOWLEDGING: Duration = Duration::from_secs(30);
/// For a broker to answer a ping.
const PONG: Duration = Duration::from_secs(20);
/// Failures that a refusal counts for at least: nobody is asked every second whether a password is right now.
const REFUSED: u32 = 7;
/// Packet ids of an earlier connection that are remembered.
const MOST_INHERITED: usize = 16;
/// Messages beside events that wait to be sent; the oldest goes.
const MOST_WAITING: usize = 32;

/// What the driver has to do.
#[derive(PartialEq, Debug)]
pub enum Output {
    /// Make a connection, and say so with [`Session::handle_opened`] or [`Session::handle_lost`].
    Open,
    /// Send these bytes over it.
    Write(Vec<u8>),
    /// End it, once everything is written.
    Close,
    /// Events can be told from now on.
    Up,
    /// Nothing can be told, and nothing that is under way is done.
    Down(Trouble, u64),
    /// What became of an event.
    Outcome(u64, Outcome),
    /// Something is not as it should be, though events are told: what, and what to do.
    Remark(String, String),
    /// Carry this out, and say what came of it with [`Session::answer`].
    Order(Order),
    /// Somebody commands who is not believed.
    Intruder,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub cure: String,
    /// Whether somebody has to change something.
    pub why: Suspension,
}

impl Trouble {
    fn refused(reason: reason::Reason, properties: &Properties) -> Trouble {
        let mut what = reason.what.to_owned();
        for said in [&properties.sentence, &properties.server].into_iter().flatten() {
            what.push_str(&format!(": {said}"));
        }
        let why =
            if reason.verdict == Verdict::Refused { Suspension::Refused } else { Suspension::Unavailable };
        Trouble { what, cure: reason.cure.to_owned(), why }
    }

    fn unavailable(what: impl Into<String>, cure: &str) -> Trouble {
        Trouble { what: what.into(), cure: cure.to_owned(), why: Suspension::Unavailable }
    }
}

/// Where the connection is.
#[derive(Debug)]
enum Phase {
    /// There is none until this moment.
    Resting(u64),
    /// The driver makes one.
    Opening,
    /// The broker has until this moment to greet.
    Greeting(u64),
    /// It stands.
    Up {
        /// When the last packet was sent.
        sent: u64,
        /// When the answer to a ping is due.
        pong: Option<u64>,
    },
    /// There will be none any more.
    Ended,
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Event(u64),
    State,
    Answer,
    Question,
}

/// The connection to one broker.
pub struct Session {
    settings: config::Mqtt,
    client_id: String,
    topics: Topics,
    serial: String,
    chance: Chance,
    phase: Phase,
    buffer: Vec<u8>,
    /// Bytes of a message that nobody wants, still to come.
    skip: usize,
    /// A broker may have a session of this life.
    known: bool,
    /// Failures since something was acknowledged.
    failures: u32,
    last_id: u16,
    /// Messages that were sent: until when they have to be acknowledged, and what they are.
    flying: BTreeMap<u16, (u64, What)>,
    waiting: VecDeque<(What, Publish)>,
    /// The ids under which a broker may have got events over an earlier connection.
    inherited: BTreeMap<u64, u16>,
    window: usize,
    largest: usize,
    keep_alive: Duration,
    state: Option<Vec<u8>>,
    /// What may be commanded, if anything may.
    orders: Option<Orders>,
    /// The id under which the topic of commands was asked for.
    subscribing: Option<u16>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session with the broker that these settings name, of the device with this serial number.
    pub fn new(now: Now, upstream: &config::Upstream, serial: &str, chance: Chance) -> Session {
        let settings = upstream.mqtt.clone();
        let topics = Topics::of(&settings, serial);
        let mut session = Session {
            client_id: settings.client_id.replace("$serial", serial),
            orders: Orders::new(now, &settings.commands, &topics),
            subscribing: None,
            topics,
            serial: serial.to_owned(),
            chance,
            phase: Phase::Ended,
            buffer: Vec::new(),
            skip: 0,
            known: false,
            failures: 0,
            last_id: 0,
            flying: BTreeMap::new(),
            waiting: VecDeque::new(),
            inherited: BTreeMap::new(),
            window: 0,
            largest: usize::MAX,
            keep_alive: settings.keep_alive,
            state: None,
            outputs: VecDeque::new(),
            settings,
        };
        session.phase = Phase::Resting(now.deadline(session.spread()));
        session
    }

    /// A connection stands.
    pub fn handle_opened(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Opening) {
            return;
        }
        self.phase = Phase::Greeting(now.deadline(GREETING));
        (self.skip, self.keep_alive) = (0, self.settings.keep_alive);
        self.buffer.clear();
        let hello = Hello {
            client_id: &self.client_id,
            user: self.settings.user.as_deref().unwrap_or_default(),
            password: self.settings.password.reveal(),
            keep_alive: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            clean: !self.known,
            will_topic: &self.topics.state(),
            will: &self.offline(),
        };
        let hello = outgoing::connect(self.settings.version, &hello);
        self.outputs.push_back(Output::Write(hello));
    }

    /// A connection could not be made, or ended.
    pub fn handle_lost(&mut self, now: Now, what: String, cure: String) {
        if matches!(self.phase, Phase::Opening | Phase::Greeting(_) | Phase::Up { .. }) {
            self.lose(now, Trouble { what, cure, why: Suspension::Unavailable });
        }
    }

    /// Bytes of the broker.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Greeting(_) | Phase::Up { .. }) {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        loop {
            let skipped = self.skip.min(self.buffer.len());
            self.skip -= skipped;
            self.buffer.drain(..skipped);
            match packet::read(&self.buffer, self.settings.version) {
                Ok(None) => break,
                Ok(Some((packet, used))) => {
                    self.buffer.drain(..used);
                    if let Err(fault) = self.take(now, packet) {
                        return self.break_off(now, fault);
                    }
                }
                Err(fault) => return self.break_off(now, fault),
            }
            // The packet may have ended the connection, and what follows with it.
            if !matches!(self.phase, Phase::Greeting(_) | Phase::Up { .. }) {
                return;
            }
        }
    }

    /// A moment that [`Session::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |at: u64| at <= now.mono_us;
        match self.phase {
            Phase::Resting(until) if due(until) => {
                self.phase = Phase::Opening;
                self.outputs.push_back(Output::Open);
            }
            Phase::Greeting(until) if due(until) => {
                let what = format!("the broker does not greet within {} seconds", GREETING.as_secs());
                self.lose(now, Trouble::unavailable(what, "check that a broker answers at url"));
            }
            Phase::Up { pong, sent } => {
                if self.flying.values().any(|(until, _)| due(*until)) {
                    let what =
                        format!("the broker acknowledges nothing within {} seconds", ACKNOWLEDGING.as_secs());
                    self.lose(
                        now,
                        Trouble::unavailable(what, "look into its log, and at what stands between"),
                    );
                } else if pong.is_some_and(due) {
                    let what = format!("the broker does not answer within {} seconds", PONG.as_secs());
                    self.lose(now, Trouble::unavailable(what, "check the way to it"));
                } else if pong.is_none() && due(sent.saturating_add(micros(self.keep_alive))) {
                    self.write(now, outgoing::ping());
                    self.phase = Phase::Up { sent: now.mono_us, pong: Some(now.deadline(PONG)) };
                }
            }
            _ => {}
        }
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Resting(until) | Phase::Greeting(until) => Some(until),
            Phase::Up { pong, sent } => {
                let quiet = sent.saturating_add(micros(self.keep_alive));
                let acknowledged = self.flying.values().map(|(until, _)| *until).min();
                earliest(acknowledged, pong.or(Some(quiet)))
            }
            Phase::Opening | Phase::Ended => None,
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether events can be told.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Publishes an event; [`Output::Outcome`] or [`Output::Down`] says what became of it. The number of a mere test is 0.
    pub fn publish(&mut self, now: Now, sequence: u64, topic: String, payload: Vec<u8>) {
        if !self.is_up() {
            let (what, cure) = ("there is no connection to the broker".to_owned(), String::new());
            return self.outputs.push_back(Output::Outcome(sequence, Outcome::Failed { what, cure }));
        }
        let publish = Publish { topic, payload, ..Publish::default() };
        self.waiting.push_back((What::Event(sequence), publish));
        self.flush(now);
    }

    /// Asks whoever listens at the broker; false without a connection. The answer comes as an [`Output::Order`].
    pub fn ask(&mut self, now: Now, payload: Vec<u8>) -> bool {
        if self.is_up() {
            let topic = self.topics.questions();
            self.enqueue(now, What::Question, Publish { topic, payload, ..Publish::default() });
        }
        self.is_up()
    }

    /// How the device is, for the broker to keep.
    pub fn tell_state(&mut self, now: Now, state: Vec<u8>) {
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state);
            self.send_state(now);
        }
    }

    /// What came of a command.
    pub fn answer(&mut self, now: Now, order: &Order, outcome: serde_json::Map<String, serde_json::Value>) {
        let answer = self.orders.as_mut().map(|orders| orders.answer(order, outcome));
        // Without a connection nobody gets it; who asks again does.
        if let Some(answer) = answer.filter(|_| self.is_up()) {
            self.enqueue(now, What::Answer, answer);
        }
    }

    /// Connects now, if it is about to wait for that.
    pub fn hurry(&mut self, now: Now) {
        if let Phase::Resting(until) = &mut self.phase {
            *until = now.mono_us;
            self.handle_timeout(now);
        }
    }

    /// Says goodbye; nothing follows.
    pub fn close(&mut self, now: Now) {
        if self.is_up() {
            // No acknowledgement is waited for: the broker takes one packet after the other.
            let state = self.retained(self.offline());
            let last = outgoing::publish(self.settings.version, &state, None, false);
            self.write(now, last);
            self.write(now, outgoing::disconnect(self.settings.version, 0));
        }
        self.outputs.push_back(Output::Close);
        self.phase = Phase::Ended;
    }

    fn spread(&mut self) -> Duration {
        self.settings.spread.mul_f64(self.chance.unit())
    }

    fn take(&mut self, now: Now, packet: Packet) -> Result<(), Fault> {
        let greeting = matches!(self.phase, Phase::Greeting(_));
        match packet {
            Packet::Greeting { resumed, reason, properties } if greeting => {
                self.greeted(now, resumed, reason, &properties);
            }
            Packet::Greeting { .. } => return Err(Fault::Protocol("it greets twice")),
            Packet::Farewell { reason, properties } => {
                self.lose(now, Trouble::refused(reason::of(reason), &properties));
            }
            _ if greeting => return Err(Fault::Protocol("it does not greet first")),
            Packet::Acknowledged { packet_id, reason, properties } => {
                self.acknowledged(now, packet_id, reason, properties.sentence);
            }
            Packet::Message(message) => self.commanded(now, message),
            Packet::Oversized { packet_id, rest } => {
                self.skip = rest;
                self.acknowledge(now, packet_id);
            }
            Packet::Subscribed { packet_id, reasons } => {
                if self.subscribing.take_if(|id| *id == packet_id).is_some()
                    && reasons.iter().any(|it| *it >= 0x80)
                {
                    let what = "the broker does not let this device listen for commands".to_owned();
                    let cure = format!("give it the right to read {}", self.topics.commands());
                    self.outputs.push_back(Output::Remark(what, cure));
                }
            }
            Packet::Pong => {
                self.failures = 0;
                if let Phase::Up { pong, .. } = &mut self.phase {
                    *pong = None;
                }
            }
        }
        Ok(())
    }

    fn greeted(&mut self, now: Now, resumed: bool, code: u8, properties: &Properties) {
        let refusal = match properties.quality {
            _ if code != 0 => Some(reason::of_greeting(code)),
            Some(0) => Some(reason::of(0x9b)),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return self.lose(now, Trouble::refused(refusal, properties));
        }
        if !resumed {
            self.inherited.clear();
        }
        self.known = true;
        self.window = usize::from(properties.receive_maximum.unwrap_or(u16::MAX));
        self.largest = properties.largest.unwrap_or(usize::MAX);
        if let Some(asked) = properties.keep_alive.filter(|seconds| *seconds > 0) {
            self.keep_alive = Duration::from_secs(asked.into());
        }
        self.phase = Phase::Up { sent: now.mono_us, pong: None };
        self.subscribe(now);
        self.send_state(now);
        self.outputs.push_back(Output::Up);
    }

    /// Asks for commands, where there may be some: each time, for the broker's rights may be others than before.
    fn subscribe(&mut self, now: Now) {
        if self.orders.is_some() {
            let id = self.free_id();
            self.subscribing = Some(id);
            self.write(now, outgoing::subscribe(self.settings.version, &self.topics.commands(), id));
        }
    }

    /// It is acknowledged before it is carried out: what is lost in between is asked for again by who misses the answer, and
    /// nothing is done twice.
    fn commanded(&mut self, now: Now, message: Message) {
        self.acknowledge(now, message.packet_id);
        match self.orders.as_mut().map(|orders| orders.rule(now, message)) {
            Some(Ruling::Obey(order)) => self.outputs.push_back(Output::Order(order)),
            Some(Ruling::Answer(answer)) => self.enqueue(now, What::Answer, answer),
            Some(Ruling::Intruder(answer)) => {
                self.outputs.push_back(Output::Intruder);
                self.enqueue(now, What::Answer, answer);
            }
            Some(Ruling::Ignore) | None => {}
        }
    }

    fn acknowledge(&mut self, now: Now, packet_id: Option<u16>) {
        if let Some(id) = packet_id {
            self.write(now, outgoing::acknowledge(id));
        }
    }

    fn acknowledged(&mut self, now: Now, packet_id: u16, code: u8, sentence: Option<String>) {
        // An acknowledgement of what nobody waits for any more is late, not wrong.
        let Some((_, what)) = self.flying.remove(&packet_id) else { return };
        self.failures = 0;
        let outcome = Outcome::Acknowledged { reason: code, sentence };
        match what {
            What::Event(sequence) => self.outputs.push_back(Output::Outcome(sequence, outcome)),
            What::State if code >= 0x80 => {
                let (what, cure) = outcome.explain(config::UpstreamKind::Mqtt);
                self.outputs.push_back(Output::Remark(format!("the state is not kept: {what}"), cure));
            }
            What::State | What::Answer | What::Question => {}
        }
        self.flush(now);
    }

    fn send_state(&mut self, now: Now) {
        if let Some(state) = self.state.clone().filter(|_| self.is_up()) {
            let state = self.retained(state);
            self.enqueue(now, What::State, state);
        }
    }

    /// Has something sent beside events; an older one of the same kind is worth nothing any more.
    fn enqueue(&mut self, now: Now, what: What, publish: Publish) {
        self.waiting.retain(|(waits, _)| !(*waits == What::State && what == What::State));
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((what, publish));
        }
        self.flush(now);
    }

    fn retained(&self, payload: Vec<u8>) -> Publish {
        Publish { topic: self.topics.state(), payload, retain: true, ..Publish::default() }
    }

    fn offline(&self) -> Vec<u8> {
        serde_json::json!({ "state": "offline", "serial": self.serial }).to_string().into_bytes()
    }

    /// Sends what waits, as far as the broker takes it.
    fn flush(&mut self, now: Now) {
        while self.is_up() && self.flying.len() < self.window {
            let Some((what, publish)) = self.waiting.pop_front() else { return };
            let known = match what {
                What::Event(sequence) => self.inherited.remove(&sequence),
                What::State | What::Answer | What::Question => None,
            };
            let id = known.unwrap_or_else(|| self.free_id());
            let packet = outgoing::publish(self.settings.version, &publish, Some(id), known.is_some());
            if packet.len() > self.largest {
                if let What::Event(sequence) = what {
                    let outcome = Outcome::Acknowledged { reason: reason::TOO_LARGE, sentence: None };
                    self.outputs.push_back(Output::Outcome(sequence, outcome));
                }
                continue;
            }
            self.flying.insert(id, (now.deadline(ACKNOWLEDGING), what));
            self.write(now, packet);
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let used = self.inherited.values().any(|id| *id == self.last_id);
            let used = used || self.subscribing == Some(self.last_id);
            if !used && !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn write(&mut self, now: Now, bytes: Vec<u8>) {
        if let Phase::Up { sent, .. } = &mut self.phase {
            *sent = now.mono_us;
        }
        self.outputs.push_back(Output::Write(bytes));
    }

    /// Ends a connection over which nonsense came, and says why where that can be said.
    fn break_off(&mut self, now: Now, fault: Fault) {
        let goodbye = outgoing::disconnect(self.settings.version, fault.reason());
        self.outputs.push_back(Output::Write(goodbye));
        self.lose(now, Trouble::unavailable(fault.to_string(), "check that a broker answers at url"));
    }

    fn lose(&mut self, now: Now, trouble: Trouble) {
        if !matches!(self.phase, Phase::Opening) {
            self.outputs.push_back(Output::Close);
        }
        self.waiting.clear();
        self.subscribing = None;
        for (id, (_, what)) in std::mem::take(&mut self.flying) {
            match what {
                What::Event(sequence) if sequence > 0 => drop(self.inherited.insert(sequence, id)),
                What::Event(_) | What::State | What::Answer | What::Question => {}
            }
        }
        while self.inherited.len() > MOST_INHERITED {
            self.inherited.pop_first();
        }
        let failures =
            if trouble.why == Suspension::Refused { self.failures.max(REFUSED) } else { self.failures };
        let mut pause = self.spread();
        if failures > 0 {
            pause += wait(failures - 1, &mut self.chance);
        }
        self.failures += 1;
        let until = now.deadline(pause);
        self.phase = Phase::Resting(until);
        self.outputs.push_back(Output::Down(trouble, until));
    }
}

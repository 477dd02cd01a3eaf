//! The world: phones, a PBX and the network between them, in virtual time. Nothing sleeps; the same seed
//! gives the same story to the last byte.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tipring::audio::similarity::{Similarity, similarity};
use tipring::chance::Chance;
use tipring::config::Config;
use tipring::demo::pbx::{Output, Pbx, Settings, User};
use tipring::events::Origin;
use tipring::nat::stun::{Message, Seal, TransactionId, is_stun};
use tipring::now::{Now, earliest};
use tipring::phone::command::{Command, Outcome, Refusal, Reply};
use tipring::phone::snapshot::{CallView, Snapshot};
use tipring::phone::{Input, Remembered};
use tipring::sip::network::{self, Transport};

use crate::clock::Clock;
use crate::handset::{Handset, SIP};
use crate::names::Names;
use crate::network::{Away, Datagram, Network};
use crate::sound_card::{RATE, SoundCard};
use crate::streams::Delivery;
use crate::turn::{Sent, TURN, TurnServer};

/// Where the PBX is.
pub const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// Steps of one moment; more means that something runs in a circle.
const STEPS_MAX: usize = 10_000;

/// The share of pieces of speech that are found again if words arrive whole. The last ones are still on their
/// way when a talk ends, and a buffer that adapts moves others.
const WHOLE: f32 = 0.75;

/// Everything there is.
pub struct World {
    clock: Clock,
    pub network: Network,
    pub names: Names,
    pub pbx: Pbx,
    pub phones: Vec<Handset>,
    chance: Chance,
    seed: u64,
    /// Where everything lands that goes to no phone, when a test plays the PBX itself.
    pub mailbox: Option<Vec<Datagram>>,
    /// Addresses that answer STUN; the PBX's is one of them if its SIP port does.
    pub stun: Vec<SocketAddr>,
    /// While the PBX is silent its host still answers for it, by ICMP.
    pub pbx_host_stands: bool,
    /// The PBX takes connections and hears nothing that is said on them, then or later.
    pub pbx_boots: bool,
    /// Connections from such a time.
    deaf: BTreeSet<u64>,
    /// Samples per second of the sound cards of phones to come.
    pub card_rate: u32,
    /// Nobody learns from the PBX that the other side would share one port between RTP and RTCP.
    pub pbx_splits_ports: bool,
    /// A STUN and TURN server, if there is one.
    pub turn: Option<TurnServer>,
}

/// The configuration of a phone: the line of `user`, with more keys for that line and more tables.
pub fn config(user: &str, line: &str, tables: &str) -> Config {
    let line_of = |name: &str, user: &str| {
        format!(
            "[[line]]\nname = \"{name}\"\nuser = \"{user}\"\ndomain = \"pbx.example\"\npassword = \"secret-{user}\"\n"
        )
    };
    parse(&format!("[device]\nserial = \"SERIAL-{user}\"\n\n{tables}\n{}{line}\n", line_of("office", user)))
}

/// A configuration that has to be right.
pub fn parse(text: &str) -> Config {
    match Config::parse(text, "world.toml") {
        Ok(config) => config,
        Err(findings) => {
            panic!("{}\n{text}", findings.iter().map(|one| format!("{one}\n")).collect::<String>())
        }
    }
}

/// What is answered to STUN. A registrar says what it has to; the answers of STUN servers are as long as coturn's, 100 octets,
/// with its SOFTWARE and other addresses.
fn stun_answer(server: SocketAddr, id: TransactionId, mapped: SocketAddr) -> Vec<u8> {
    let mut octets = Message::binding_answer(id, mapped).write(Seal::Plain);
    if server.ip() != PBX {
        octets.extend([0x80, 0x22, 0, 64]);
        octets.extend([b'-'; 64]);
        octets[3] = u8::try_from(octets.len() - 20).expect("a short message");
    }
    octets
}

/// Calls a number over the first line.
pub fn call(to: &str) -> Command {
    Command::Call { to: to.to_owned(), line: None }
}

/// Answers the one call that rings.
pub const ANSWER: Command = Command::Answer { call: None };
/// Ends the one call there is.
pub const HANG_UP: Command = Command::HangUp { call: None };

impl World {
    /// A PBX whose users are 1001 to 1009 and [`OUTSIDE`], and nobody who uses it.
    pub fn new(seed: u64) -> World {
        let mut chance = Chance::from_number(seed);
        let clock = Clock::new();
        let mut names = Names::default();
        names.add_address("pbx.example", PBX);
        let pbx = pbx(clock.now(), chance.fork());
        let mut network = Network::new(chance.fork());
        network.listens =
            Transport::ALL.iter().skip(1).map(|one| SocketAddr::new(PBX, one.default_port())).collect();
        World {
            pbx,
            network,
            clock,
            names,
            phones: Vec::new(),
            chance,
            seed,
            mailbox: None,
            stun: Vec::new(),
            pbx_host_stands: false,
            pbx_boots: false,
            deaf: BTreeSet::new(),
            card_rate: RATE,
            pbx_splits_ports: false,
            turn: None,
        }
    }

    /// Somebody sets the clock of the whole world, in microseconds since 1970.
    pub fn set_clock(&mut self, utc_us: i64) {
        self.clock.set(utc_us);
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Brings a phone with this configuration to life at its own public address; its number.
    pub fn add_phone(&mut self, config: Config) -> usize {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11 + self.phones.len() as u8));
        self.add_phone_at(address, config, 0.0)
    }

    /// The same at any address, with a sound card of another clock.
    pub fn add_phone_at(&mut self, address: IpAddr, config: Config, drift_ppm: f64) -> usize {
        let card = SoundCard::new(self.seed * 100 + self.phones.len() as u64, self.card_rate, drift_ppm);
        let handset = Handset::new(self.now(), address, config, card, self.chance.fork());
        self.join(handset)
    }

    /// The same with what an earlier life left, and with an address of its own that another office may have, too.
    pub fn add_phone_with(
        &mut self,
        addresses: (IpAddr, IpAddr),
        config: Config,
        memory: Remembered,
    ) -> usize {
        let card = SoundCard::new(self.seed * 100 + self.phones.len() as u64, self.card_rate, 0.0);
        let chance = self.chance.fork();
        let handset = Handset::with_memory(self.now(), addresses, config, card, memory, chance);
        self.join(handset)
    }

    fn join(&mut self, handset: Handset) -> usize {
        self.phones.push(handset);
        self.drain();
        self.phones.len() - 1
    }

    /// Phones 1001, 1002 … that are registered.
    pub fn with_phones(seed: u64, count: usize) -> World {
        let mut world = World::new(seed);
        for index in 0..count {
            world.add_phone(config(&(1001 + index).to_string(), "", ""));
        }
        world.seconds(1);
        for phone in &world.phones {
            assert!(phone.has("line.registered"), "{:?}", phone.told());
        }
        world
    }

    /// Lets the world live for a while.
    pub fn run(&mut self, by: Duration) {
        let end_us = self.now().deadline(by);
        let mut steps = 0;
        loop {
            let now = self.now();
            let due = self.next_due(now).filter(|due| *due <= end_us);
            let Some(due) = due else {
                self.clock.advance_to(end_us);
                return;
            };
            steps = if due > now.mono_us { 0 } else { steps + 1 };
            assert!(steps < STEPS_MAX, "the world runs in a circle");
            self.clock.advance_to(due);
            self.happen();
        }
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    pub fn millis(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    fn next_due(&mut self, now: Now) -> Option<u64> {
        let machines = earliest(self.network.next_arrival(), self.pbx.poll_timeout());
        self.phones.iter_mut().fold(machines, |due, phone| earliest(due, phone.poll_timeout(now)))
    }

    /// Does what is due at this moment.
    fn happen(&mut self) {
        let now = self.now();
        while let Some(datagram) = self.network.arrive(now.mono_us) {
            let (from, to) = (datagram.from, datagram.to);
            if let Some(turn) = self.turn.as_mut().filter(|_| to.ip() == TURN) {
                let sent = turn.receive(from, to.port(), &datagram.bytes);
                self.turn_sends(sent);
            } else if self.stun.contains(&to) && is_stun(&datagram.bytes) {
                if self.pbx.silent && to.ip() == PBX {
                    continue;
                }
                let id = TransactionId::of(&datagram.bytes).expect("an id");
                self.network.send(now.mono_us, to, from, stun_answer(to, id, from));
            } else if let Some(mailbox) = self.mailbox.as_mut().filter(|_| !is_phone(&self.phones, to)) {
                mailbox.push(datagram);
            } else if self.pbx.silent && self.pbx_host_stands && to.ip() == PBX {
                // Port unreachable: the box on the way knows whose datagram that was.
                let phone = self.network.inside_of(from).unwrap_or(from.ip());
                if let Some(phone) = self.phones.iter_mut().find(|one| one.address == phone) {
                    let why = "connection refused".to_owned();
                    phone.tell(now, network::Input::Unsent { remote: to, why });
                }
            } else if to.ip() == PBX && to.port() == SIP {
                let input = network::Input::Datagram { local: to, remote: from, bytes: &datagram.bytes };
                self.pbx.handle(now, input);
            } else if to.ip() == PBX {
                self.pbx.handle_rtp(to.port(), from, &datagram.bytes);
            } else if let Some(phone) = self.phones.iter_mut().find(|phone| phone.is_at(to.ip())) {
                phone.receive(now, from, to.port(), datagram.bytes);
            }
            self.drain();
        }
        while let Some(delivery) = self.network.streams.arrive(now.mono_us) {
            self.deliver(now, delivery);
            self.drain();
        }
        if self.pbx.poll_timeout().is_some_and(|due| due <= now.mono_us) {
            self.pbx.handle_timeout(now);
        }
        for phone in &mut self.phones {
            phone.handle_timeout(now);
        }
        self.drain();
    }

    fn turn_sends(&mut self, sent: Vec<Sent>) {
        let now_us = self.now().mono_us;
        for sent in sent {
            match sent {
                Sent::Datagram { port, to, bytes } => {
                    self.network.send(now_us, SocketAddr::new(TURN, port), to, bytes);
                }
                Sent::Stream { connection, bytes } => {
                    self.network.stream_from_pbx(now_us, connection, bytes);
                }
            }
        }
    }

    /// Takes what is for the TURN server; what is not comes back.
    fn deliver_to_turn(&mut self, delivery: Delivery) -> Option<Delivery> {
        let Some(turn) = &mut self.turn else { return Some(delivery) };
        let to_turn = |connection: &u64| {
            let there = self.network.streams.of_pbx(*connection);
            there.is_some_and(|(_, _, _, server)| server.ip() == TURN)
        };
        match delivery {
            Delivery::Accepted { connection, remote, .. } if to_turn(&connection) => {
                turn.accept(connection, remote);
            }
            Delivery::ToPbx { connection, bytes } if to_turn(&connection) => {
                let sent = turn.receive_stream(connection, &bytes);
                self.turn_sends(sent);
            }
            Delivery::PbxClosed { connection } if turn.closed(connection) => {}
            other => return Some(other),
        }
        None
    }

    /// Brings to its end what has arrived on a connection.
    fn deliver(&mut self, now: Now, delivery: Delivery) {
        let Some(delivery) = self.deliver_to_turn(delivery) else { return };
        let mut to_phone = |phone: IpAddr, input: network::Input<'_>| {
            if let Some(phone) = self.phones.iter_mut().find(|one| one.address == phone) {
                phone.receive_stream(now, input);
            }
        };
        match delivery {
            Delivery::Accepted { connection, .. } if self.pbx_boots => {
                self.deaf.insert(connection);
            }
            Delivery::ToPbx { connection, .. } | Delivery::PbxClosed { connection }
                if self.deaf.contains(&connection) => {}
            Delivery::Accepted { connection, transport, remote } => {
                let local = SocketAddr::new(PBX, transport.default_port());
                self.pbx.handle(now, network::Input::Accepted { connection, transport, local, remote });
            }
            Delivery::ToPbx { connection, bytes } => {
                self.pbx.handle(now, network::Input::Stream { connection, bytes: &bytes });
            }
            Delivery::PbxClosed { connection } => {
                self.pbx.handle(now, network::Input::Closed { connection, why: "closed".to_owned() });
            }
            Delivery::Connected { phone, connection, local, remote } => {
                to_phone(phone, network::Input::Connected { connection, local, remote });
            }
            Delivery::ToPhone { phone, connection, bytes } => {
                to_phone(phone, network::Input::Stream { connection, bytes: &bytes });
            }
            Delivery::Again { phone, connection, own, remote, times } => {
                self.network.connect(now.mono_us, phone, connection, own, remote, times);
            }
            Delivery::Closed { phone, connection, why } => {
                to_phone(phone, network::Input::Closed { connection, why: why.to_owned() });
            }
        }
    }

    /// Carries out what everybody asks.
    pub fn drain(&mut self) {
        let now = self.now();
        let away = if self.pbx_host_stands { Away::Refusing } else { Away::Deaf };
        self.network.away = (self.pbx.silent && !self.pbx_boots).then_some(away);
        for phone in &mut self.phones {
            phone.drain(now, &mut self.network, &self.names);
        }
        while let Some(output) = self.pbx.poll_output() {
            match output {
                Output::Rtp { port, remote, bytes } => {
                    self.network.send(now.mono_us, SocketAddr::new(PBX, port), remote, bytes);
                }
                Output::Sip(network::Output::Datagram { remote, mut bytes, .. }) => {
                    let at = bytes.windows(10).position(|word| word == b"a=rtcp-mux");
                    if let Some(at) = at.filter(|_| self.pbx_splits_ports) {
                        bytes[at..at + 10].copy_from_slice(b"a=rtcp-no-");
                    }
                    self.network.send(now.mono_us, SocketAddr::new(PBX, SIP), remote, bytes);
                }
                Output::Sip(network::Output::RouteTo { query, .. }) => {
                    self.pbx.handle(now, network::Input::LocalAddress { query, result: Ok(PBX) });
                }
                Output::Sip(network::Output::Query { query, question, .. }) => {
                    let result = self.names.answer(&question);
                    self.pbx.handle(now, network::Input::Answer { query, result });
                }
                Output::Sip(network::Output::Connect { connection, .. }) => {
                    let why = "phones take no connections".to_owned();
                    self.pbx.handle(now, network::Input::Closed { connection, why });
                }
                Output::Sip(network::Output::Stream { connection, bytes }) => {
                    self.network.stream_from_pbx(now.mono_us, connection, bytes);
                }
                Output::Sip(network::Output::Close { connection }) => {
                    self.network.streams.close_pbx(now.mono_us, 2_000, connection);
                }
            }
        }
    }

    /// The PBX is started anew, and knows of no registration.
    pub fn restart_pbx(&mut self) {
        let manners = self.pbx.manners().clone();
        self.pbx_boots = false;
        self.network.streams.forget();
        self.pbx = pbx(self.now(), self.chance.fork());
        *self.pbx.manners() = manners;
    }

    /// Whether a call of the PBX to 1001 rings at phone 0; it is taken back.
    pub fn rings(&mut self) -> bool {
        let now = self.now();
        let Some(call) = self.pbx.call(now, "1001", &[]) else {
            self.millis(500);
            return false;
        };
        self.drain();
        self.millis(300);
        let rings = self.calls(0).iter().any(|call| call.state == "ringing");
        self.pbx.hang_up(self.now(), call);
        self.drain();
        self.millis(200);
        rings
    }

    /// How long it takes until a call reaches phone 0, in milliseconds, tried twice a second for a while.
    pub fn reached_within(&mut self, seconds: u64) -> Option<u64> {
        let begun = self.now();
        while self.now().since(begun.mono_us) < Duration::from_secs(seconds) {
            let asked = self.now().since(begun.mono_us);
            if self.rings() {
                return u64::try_from(asked.as_millis()).ok();
            }
        }
        None
    }

    /// Somebody at a phone wants something.
    pub fn ask(&mut self, phone: usize, command: Command) -> Outcome {
        let now = self.phones[phone].own_time(self.now());
        let outcome = self.phones[phone].phone.command(now, command, Origin::Api);
        self.drain();
        outcome
    }

    /// The same, where it has to be granted; the call that it was about, if the phone says.
    pub fn tell(&mut self, phone: usize, command: Command) -> Option<CallView> {
        match self.ask(phone, command.clone()) {
            Ok(Reply::Call(view)) => Some(*view),
            Ok(_) => None,
            Err(refusal) => panic!("phone {phone} refuses {command:?}: {refusal}"),
        }
    }

    /// Where it has to be refused: why.
    pub fn refusal(&mut self, phone: usize, command: Command) -> Refusal {
        match self.ask(phone, command.clone()) {
            Err(refusal) => refusal,
            Ok(reply) => panic!("phone {phone} grants {command:?}: {reply:?}"),
        }
    }

    /// The machine of a phone sleeps for a while, and the rest of the world goes on.
    pub fn sleep(&mut self, phone: usize, by: Duration) {
        self.phones[phone].fall_asleep();
        self.run(by);
        self.phones[phone].wake(by);
    }

    /// Something reaches a phone that is no SIP and no media.
    pub fn input(&mut self, phone: usize, input: Input<'static>) {
        let now = self.phones[phone].own_time(self.now());
        self.phones[phone].phone.handle(now, input);
        self.drain();
    }

    pub fn snapshot(&self, phone: usize) -> Snapshot {
        self.phones[phone].phone.snapshot(self.phones[phone].own_time(self.now()))
    }

    /// The calls of a phone.
    pub fn calls(&self, phone: usize) -> Vec<CallView> {
        self.snapshot(phone).calls
    }

    /// Phone 0 calls phone 1, which answers after a second; both talk.
    pub fn connect(&mut self) {
        self.tell(0, call("1002"));
        self.seconds(1);
        self.tell(1, ANSWER);
        self.seconds(2);
        for phone in 0..2 {
            assert_eq!(self.calls(phone).len(), 1, "{:?}", self.phones[phone].told());
            assert_eq!(self.calls(phone)[0].state, "active");
        }
    }

    /// Lets everybody talk for a while and keeps what was said and heard.
    pub fn talk(&mut self, seconds: u64) {
        self.phones.iter_mut().for_each(|phone| phone.card.listen(true));
        self.seconds(seconds);
        self.phones.iter_mut().for_each(|phone| phone.card.listen(false));
    }

    /// How what one phone heard is like what another one said, in the last talk.
    pub fn likeness(&self, said: usize, heard: usize) -> Option<Similarity> {
        let rate = self.phones[heard].card.rate;
        let (said, heard) = (&self.phones[said].card.said, &self.phones[heard].card.heard);
        similarity(said, heard, rate, rate as usize)
    }

    /// Whether one phone hears another one, and its words are whole.
    pub fn assert_heard(&self, said: usize, heard: usize) {
        let likeness = self.likeness(said, heard);
        assert!(
            likeness.as_ref().is_some_and(|likeness| likeness.found > WHOLE),
            "phone {heard} does not hear phone {said}: {likeness:?}"
        );
    }

    /// Whether a phone hears nothing at all of another one.
    pub fn assert_not_heard(&self, said: usize, heard: usize) {
        let likeness = self.likeness(said, heard);
        assert!(
            likeness.as_ref().is_none_or(|likeness| likeness.found < 0.2),
            "phone {heard} hears phone {said}: {likeness:?}"
        );
    }
}

/// A PBX whose users are 1001 to 1009.
/// Somebody outside of the PBX, who calls through it as if by a trunk.
pub const OUTSIDE: &str = "+74954451120";

fn pbx(now: Now, chance: Chance) -> Pbx {
    let inside = (1001..=1009).map(|user| user.to_string());
    let users = inside.chain([OUTSIDE.to_owned()]);
    let users = users.map(|user| User::new(&user, &format!("secret-{user}"))).collect();
    let ports = (0..20).map(|index| 20_000 + 2 * index).collect();
    Pbx::new(now, Settings::new(SocketAddr::new(PBX, SIP), "pbx.example", users, ports), chance)
}

fn is_phone(phones: &[Handset], address: SocketAddr) -> bool {
    phones.iter().any(|phone| phone.is_at(address.ip()))
}

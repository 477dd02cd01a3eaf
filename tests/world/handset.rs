//! A whole phone of the world: the application, its media engine and its sound card, put together as the
//! control and media threads of the device do it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tipring::chance::Chance;
use tipring::config::Config;
use tipring::device::netlink::{LOOK_EVERY, Sleep};
use tipring::events::lookup::Question;
use tipring::events::store::{Store, Write};
use tipring::events::{Kind, Recorded};
use tipring::media::{self, Command, Component, Engine, PortId, Terminal};
use tipring::nat::relay::{StreamId, StreamInput, StreamOrder};
use tipring::now::{Now, earliest, micros};
use tipring::phone::{Input, Output, Phone, Remembered};
use tipring::rtp::dtls::Identity;
use tipring::sip::network;

use crate::names::Names;
use crate::network::Network;
use crate::sound_card::SoundCard;

/// The port of SIP.
pub const SIP: u16 = 5060;
/// What marks the connections of the engine among those of the phone.
const RELAY: u64 = 1 << 63;
/// RTP ports that are open ahead.
const AHEAD: u16 = 6;

/// One phone.
pub struct Handset {
    pub address: IpAddr,
    /// Further addresses, each on a link of its own that reaches its neighbours directly.
    pub also: Vec<IpAddr>,
    /// The address that it has in its own eyes; another office may have the same.
    pub own: IpAddr,
    pub phone: Phone,
    pub engine: Engine,
    pub card: SoundCard,
    /// The UDP port of RTP by its name, and back.
    ports: BTreeMap<u32, u16>,
    numbers: BTreeMap<u16, u32>,
    /// The connections that the engine has to TURN servers, and the port of each.
    streams: BTreeMap<StreamId, PortId>,
    next_port: u32,
    /// Everything that was told, in order.
    pub events: Vec<Recorded>,
    /// Everything else that was to be kept.
    pub kept: Vec<Write>,
    /// The disk does not answer.
    pub journal_is_stuck: bool,
    /// Samples of all recordings so far.
    pub recorded: usize,
    /// What other systems were asked, in order.
    pub questions: Vec<Question>,
    /// Tones that were begun (and ended: `None`), in order.
    pub tones: Vec<(media::Sounder, Option<tipring::audio::tones::Tone>)>,
    pub stopped: bool,
    /// The whole machine sleeps: nothing happens in it, and its monotonic clock stands still.
    asleep: bool,
    /// How long it has slept altogether, and what its control thread knows of that.
    slept: Duration,
    sleep: Sleep,
    looked_us: u64,
}

impl Handset {
    pub fn new(now: Now, address: IpAddr, config: Config, card: SoundCard, chance: Chance) -> Handset {
        let remembered = Remembered { clean: true, ..Remembered::default() };
        Handset::with_memory(now, (address, address), config, card, remembered, chance)
    }

    /// The same with what an earlier life left, and with another address in its own eyes.
    pub fn with_memory(
        now: Now,
        (address, own): (IpAddr, IpAddr),
        config: Config,
        card: SoundCard,
        remembered: Remembered,
        mut chance: Chance,
    ) -> Handset {
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no other way to an `Instant`, and none is read"
        )]
        let origin = std::time::Instant::now();
        let identity = Arc::new(Identity::generate(origin).expect("a certificate"));
        let fingerprint = identity.fingerprint();
        let settings = media::Settings {
            country: config.device.country.clone(),
            identity: Some(identity),
            ..media::Settings::default()
        };
        let mut engine = Engine::new(settings, chance.fork());
        engine.handle(now, Command::Terminal(Terminal::Device { rate: card.rate, ring: None }));
        let udp = SocketAddr::new(config.sip.bind.map_or(own, |bind| bind.0), SIP);
        let mut phone = Phone::new(now, config, udp, None, remembered, chance);
        phone.set_fingerprint(fingerprint);
        let mut handset = Handset {
            address,
            also: Vec::new(),
            own,
            phone,
            engine,
            card,
            ports: BTreeMap::new(),
            numbers: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_port: 1,
            events: Vec::new(),
            kept: Vec::new(),
            journal_is_stuck: false,
            recorded: 0,
            questions: Vec::new(),
            tones: Vec::new(),
            stopped: false,
            asleep: false,
            slept: Duration::ZERO,
            sleep: Sleep::default(),
            looked_us: now.mono_us,
        };
        // What the machine of the test has slept is not what this one has.
        handset.sleep.note(Duration::ZERO);
        for _ in 0..AHEAD {
            handset.open_port(now);
        }
        handset.phone.handle(now, Input::Part { part: "sound", trouble: None });
        handset
    }

    /// Another interface comes up.
    pub fn add_address(&mut self, now: Now, address: IpAddr) {
        self.also.push(address);
        self.network_changed(now);
    }

    fn network_changed(&mut self, now: Now) {
        let addresses = [&[self.own][..], &self.also].concat();
        self.phone.handle(self.own_time(now), Input::NetworkChanged { addresses });
    }

    /// This moment by the clocks of the machine.
    pub fn own_time(&self, now: Now) -> Now {
        Now { mono_us: now.mono_us - micros(self.slept), utc_us: now.utc_us }
    }

    /// The whole machine goes to sleep.
    pub fn fall_asleep(&mut self) {
        self.asleep = true;
    }

    /// It goes on where it was, after so long a sleep.
    pub fn wake(&mut self, slept: Duration) {
        self.asleep = false;
        self.slept += slept;
    }

    fn look_due(&self) -> u64 {
        self.looked_us + micros(LOOK_EVERY)
    }

    /// The control thread has done something: it looks whether it has slept, as it does each time.
    fn look(&mut self, now: Now) {
        self.looked_us = self.own_time(now).mono_us;
        if self.sleep.note(self.slept) {
            self.network_changed(now);
        }
    }

    /// The address that it sends from to another one.
    fn facing(&self, remote: IpAddr) -> IpAddr {
        let alike = |own: &&IpAddr| own.is_ipv4() == remote.is_ipv4();
        let also = self.also.iter().find(alike).filter(|_| !alike(&&self.address));
        also.copied().unwrap_or(self.address)
    }

    /// Whether it has this address.
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.address == address || self.also.contains(&address)
    }

    /// Where packets to this address leave from: a neighbour's by the link to it.
    fn source(&self, to: IpAddr) -> IpAddr {
        let is_near = |own: &&IpAddr| match (own, to) {
            (IpAddr::V4(own), IpAddr::V4(to)) => own.octets()[..3] == to.octets()[..3],
            (IpAddr::V6(_), IpAddr::V6(_)) => true,
            _ => false,
        };
        self.also.iter().find(is_near).copied().unwrap_or(self.address)
    }

    /// The numbers of the ports that are open.
    pub fn open_ports(&self) -> Vec<u16> {
        self.ports.values().copied().collect()
    }

    fn open_port(&mut self, now: Now) {
        let (id, number) = (self.next_port, 10_000 + 2 * self.next_port as u16);
        self.next_port += 1;
        self.ports.insert(id, number);
        self.numbers.insert(number, id);
        self.phone.handle(now, Input::Port { port: PortId(id), number });
    }

    /// A datagram has arrived.
    pub fn receive(&mut self, now: Now, from: SocketAddr, port: u16, mut bytes: Vec<u8>) {
        if self.asleep {
            return;
        }
        if port == SIP {
            let local = SocketAddr::new(self.own, SIP);
            return self.tell(now, network::Input::Datagram { local, remote: from, bytes: &bytes });
        }
        let now = self.own_time(now);
        let component = if port.is_multiple_of(2) { Component::Rtp } else { Component::Rtcp };
        if let Some(id) = self.numbers.get(&(port & !1)) {
            self.engine.handle_packet(now, PortId(*id), component, from, &mut bytes);
        }
    }

    /// The phone is told something by its network.
    pub fn tell(&mut self, now: Now, input: network::Input<'_>) {
        self.phone.handle(self.own_time(now), Input::Sip(input));
        self.look(now);
    }

    /// Something has happened to a connection, of the phone or of its engine.
    pub fn receive_stream(&mut self, now: Now, input: network::Input<'_>) {
        if self.asleep {
            return;
        }
        let (connection, of_relay) = match &input {
            network::Input::Connected { connection, .. } => (*connection, StreamInput::Open),
            network::Input::Stream { connection, bytes } => (*connection, StreamInput::Bytes(bytes)),
            network::Input::Closed { connection, why } => (*connection, StreamInput::Closed(why)),
            _ => return self.tell(now, input),
        };
        if connection & RELAY == 0 {
            return self.tell(now, input);
        }
        let now = self.own_time(now);
        let stream = StreamId(connection & !RELAY);
        if let Some(port) = self.streams.get(&stream) {
            self.engine.handle_stream(now, *port, stream, of_relay);
        }
    }

    /// When something is due.
    pub fn poll_timeout(&mut self, now: Now) -> Option<u64> {
        let now = self.own_time(now);
        let machines = earliest(self.phone.poll_timeout(), self.engine.poll_timeout());
        let due = earliest(machines, self.card.poll_timeout(now, &self.engine));
        let due = earliest(due, Some(self.look_due()));
        due.filter(|_| !self.asleep).map(|due| due + micros(self.slept))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.asleep {
            return;
        }
        let own = self.own_time(now);
        self.card.handle_timeout(own, &mut self.engine);
        if self.engine.poll_timeout().is_some_and(|due| due <= own.mono_us) {
            self.engine.handle_timeout(own);
        }
        if self.phone.poll_timeout().is_some_and(|due| due <= own.mono_us) {
            self.phone.handle_timeout(own);
            self.look(now);
        } else if self.look_due() <= own.mono_us {
            self.look(now);
        }
    }

    /// Does everything that phone and engine ask, until both are quiet.
    pub fn drain(&mut self, now: Now, network: &mut Network, names: &Names) {
        let mut packet = [0; 2048];
        let mut samples = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(output) = self.phone.poll_output() {
                quiet = false;
                self.perform(now, output, network, names);
            }
            while let Some(transmit) = self.engine.poll_transmit(&mut packet) {
                if let Some(stream) = transmit.stream {
                    let bytes = packet[..transmit.len].to_vec();
                    network.stream_from_phone(now.mono_us, self.address, stream.0 | RELAY, bytes);
                    continue;
                }
                let Some(rtp) = self.ports.get(&transmit.port.0) else { continue };
                let port = rtp + u16::from(transmit.component == Component::Rtcp);
                let from = SocketAddr::new(self.source(transmit.to.ip()), port);
                network.send(now.mono_us, from, transmit.to, packet[..transmit.len].to_vec());
            }
            while let Some((port, order)) = self.engine.poll_stream() {
                match order {
                    StreamOrder::Open { stream, server, .. } => {
                        self.streams.insert(stream, port);
                        network.connect(now.mono_us, self.address, stream.0 | RELAY, self.own, server, 0);
                    }
                    StreamOrder::Close { stream } => {
                        self.streams.remove(&stream);
                        network.streams.close_phone(now.mono_us, 2_000, self.address, stream.0 | RELAY);
                    }
                }
            }
            while self.engine.poll_recording(&mut samples).is_some() {
                self.recorded += samples.len();
                samples.clear();
            }
            while let Some(event) = self.engine.poll_event() {
                quiet = false;
                let closed = if let media::Event::Closed { port, .. } = &event {
                    self.ports.remove(&port.0)
                } else {
                    None
                };
                if let Some(number) = closed {
                    self.numbers.remove(&number);
                    self.open_port(self.own_time(now));
                }
                self.phone.handle(self.own_time(now), Input::Media(event));
                self.look(now);
            }
            if quiet {
                return;
            }
        }
    }

    fn perform(&mut self, now: Now, output: Output, network: &mut Network, names: &Names) {
        match output {
            Output::Sip(network::Output::Datagram { remote, .. }) if network.is_refused(self.address) => {
                let why = "No route to host".to_owned();
                self.tell(now, network::Input::Unsent { remote, why });
            }
            Output::Sip(network::Output::Datagram { remote, bytes, .. }) => {
                network.send(now.mono_us, SocketAddr::new(self.facing(remote.ip()), SIP), remote, bytes);
            }
            Output::Sip(network::Output::Connect { connection, remote, .. }) => {
                network.connect(now.mono_us, self.address, connection, self.own, remote, 0);
            }
            Output::Sip(network::Output::Query { query, question, .. }) => {
                let result = names.answer(&question);
                self.tell(now, network::Input::Answer { query, result });
            }
            Output::Sip(network::Output::RouteTo { query, .. }) => {
                let result = Ok(self.own);
                self.tell(now, network::Input::LocalAddress { query, result });
            }
            Output::Sip(network::Output::Stream { connection, bytes }) => {
                network.stream_from_phone(now.mono_us, self.address, connection, bytes);
            }
            Output::Sip(network::Output::Close { connection }) => {
                network.streams.close_phone(now.mono_us, 2_000, self.address, connection);
            }
            Output::Media(command) => {
                if let Command::Tone { at, tone } = &command {
                    self.tones.push((*at, *tone));
                }
                self.engine.handle(self.own_time(now), command);
            }
            Output::Keep(Write::Event(recorded)) => self.events.push(*recorded),
            Output::Keep(write) => self.kept.push(write),
            Output::Ask(question) => self.questions.push(*question),
            Output::Recall(_) if self.journal_is_stuck => {}
            Output::Recall(recall) => {
                let calls = self.store().recall(&recall).expect("a journal");
                self.phone.handle(self.own_time(now), Input::Recalled { id: recall.id, calls });
            }
            Output::Recording { .. } => {}
            Output::Discard(port) => {
                let number = self.ports.remove(&port.0).expect("a port that is open");
                self.numbers.remove(&number);
                self.open_port(now);
            }
            Output::Stopped => self.stopped = true,
        }
    }

    /// The store as it is on disk now.
    fn store(&self) -> Store {
        let mut store = Store::open(Connection::open_in_memory().expect("memory")).expect("a store");
        store.commit(&self.kept).expect("what was kept");
        store
    }

    /// The names of all events so far.
    pub fn told(&self) -> Vec<&'static str> {
        self.events.iter().map(|recorded| recorded.event.kind.name()).collect()
    }

    /// The events of one name.
    pub fn all(&self, name: &str) -> Vec<&Kind> {
        self.events.iter().map(|recorded| &recorded.event.kind).filter(|kind| kind.name() == name).collect()
    }

    /// Whether an event of this name was told.
    pub fn has(&self, name: &str) -> bool {
        self.events.iter().any(|recorded| recorded.event.kind.name() == name)
    }

    /// Everything that would leave the device by its event stream, as text.
    pub fn stream(&self) -> String {
        let digits = tipring::events::cloud_event::Digits::Hidden;
        self.events.iter().map(|recorded| recorded.cloud_event(digits).to_json("SERIAL") + "\n").collect()
    }
}

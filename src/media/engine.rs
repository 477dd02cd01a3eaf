//! All legs, the terminal and the one timer they share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::bridge;
use super::command::{Command, LegId, PortId, Room, Sounder, Terminal};
use super::event::{Event, Recorded};
use super::leg::{Leg, Outlet};
use super::path::{Arrival, FAR_END};
use super::paths::Paths;
use super::plan::Plan;
use super::recording::Recordings;
use super::terminal::Sound;
use super::transmit::{Component, Outbox, Transmit};
use crate::audio::mix::Mixer;
use crate::chance::Chance;
use crate::nat::relay::{StreamId, StreamInput, StreamOrder};
use crate::now::{Now, earliest};
use crate::rtp::dtls::{Identity, is_dtls};
use crate::rtp::packet::{MAX_PACKET, is_rtcp};

/// Legs that may be open at once; more is a mistake of the caller and refused by an event.
const LEGS_MAX: usize = 512;

/// Events that may wait for `poll_event`; the oldest are left out beyond.
const EVENTS_MAX: usize = 4096;

/// A period of the sound terminal and the finest step of the engine's timer, in milliseconds.
const PERIOD_MS: u32 = 10;
/// The same in microseconds.
pub(super) const PERIOD_US: u64 = PERIOD_MS as u64 * 1000;

/// Beginnings of handshakes on ports without a leg that are kept, and those of one socket.
const EARLY_MAX: usize = 16;
const EARLY_OF_SOCKET: usize = 2;
/// How long they are kept, in microseconds.
const EARLY_US: u64 = 2_000_000;

/// The timer catches up so much time in periods; what lies further back is passed over.
const CATCH_UP_US: u64 = 200_000;

/// What holds for all legs.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Country of the tones until told otherwise (ISO 3166, two letters).
    pub country: String,
    /// How often `Event::Quality` is told, in milliseconds; 0 never.
    pub quality_ms: u32,
    /// What the jitter buffers may do.
    pub jitter: crate::rtp::jitter::Settings,
    /// The certificate of handshakes; without it a leg with DTLS can't be opened.
    pub identity: Option<Arc<Identity>>,
}

impl Default for Settings {
    fn default() -> Settings {
        let jitter = crate::rtp::jitter::Settings::default();
        Settings { country: "us".into(), quality_ms: 5_000, jitter, identity: None }
    }
}

/// The one timer of all legs without a sound device: ticks of one period on a common grid.
#[derive(Clone, Copy)]
struct Grid {
    next_us: u64,
}

/// The beginning of a handshake that came before what was agreed on.
struct Early {
    port: PortId,
    component: Component,
    from: SocketAddr,
    at_us: u64,
    bytes: Vec<u8>,
}

/// Legs that hear each other, by their places in the list of legs.
struct Group {
    room: Room,
    members: Vec<usize>,
}

/// The media path of all legs; see the head of the room for how it is driven.
pub struct Engine {
    settings: Settings,
    chance: Chance,
    cname: String,
    legs: Vec<Leg>,
    /// The ports of `legs`, side by side with them: searched for every packet.
    ports: Vec<PortId>,
    groups: Vec<Group>,
    sound: Sound,
    grid: Option<Grid>,
    /// The earliest of the legs' own deadlines (RTCP, silence, quality …).
    slow_us: Option<u64>,
    outbox: Outbox,
    events: VecDeque<Event>,
    recordings: Recordings,
    mixer: Mixer,
    mixed: Vec<i16>,
    strangers: u64,
    paths: Paths,
    /// The moment of the last call.
    now: Now,
    early: VecDeque<Early>,
}

impl Engine {
    /// An engine without legs, whose terminal is silent until `Command::Terminal`.
    pub fn new(settings: Settings, mut chance: Chance) -> Engine {
        let sound = Sound::new(settings.country.clone());
        let cname = chance.token(8);
        let paths = Paths::new(chance.fork());
        Engine {
            settings,
            chance,
            cname,
            legs: Vec::new(),
            ports: Vec::new(),
            groups: Vec::new(),
            sound,
            grid: None,
            slow_us: None,
            outbox: Outbox::new(),
            events: VecDeque::new(),
            recordings: Recordings::new(),
            mixer: Mixer::new(960),
            mixed: Vec::with_capacity(960),
            strangers: 0,
            paths,
            now: Now::default(),
            early: VecDeque::new(),
        }
    }

    /// Legs that are open.
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Packets on ports that carry no leg, and such on an RTCP port that are none, so far.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Obeys an order.
    pub fn handle(&mut self, now: Now, command: Command) {
        self.now = now;
        match command {
            Command::Open { leg, port, plan } => self.open(now, leg, port, *plan),
            Command::Update { leg, plan } => {
                let plan = match self.legs.iter().find(|open| open.id == leg).map(|open| open.port) {
                    Some(port) => Box::new(self.paths.agree(now, leg, port, *plan, &mut self.events)),
                    None => return,
                };
                self.with(leg, |leg, out, sound| leg.update(now, *plan, sound.rate(), out));
                self.regroup(now);
            }
            Command::Close { leg } => self.close(now, leg),
            Command::Gather { port, component, sources: Some(sources) } => {
                let events = &mut self.events;
                self.paths.with(port, component, |path| path.gather(now, Some(*sources), events));
            }
            Command::Ask { port, server } => {
                let events = &mut self.events;
                self.paths.change(port, Component::Rtp, |path| path.ask(now, server, events));
            }
            Command::Gather { port, sources: None, .. } => self.paths.close(now, port, &Component::ALL),
            Command::Expect { port, credentials } => {
                for component in Component::ALL {
                    self.paths.with(port, component, |path| path.expect(credentials.clone()));
                }
            }
            Command::Permit { port, peers } => {
                let events = &mut self.events;
                self.paths.with(port, Component::Rtp, |path| path.permit(now, &peers, events));
            }
            Command::Place { leg, room } => {
                self.with(leg, |leg, _, _| leg.room = room);
                self.regroup(now);
            }
            Command::Mute { leg, muted } => self.with(leg, |leg, _, _| leg.muted = muted),
            Command::Tone { at: Sounder::Terminal, tone } => self.sound.set_tone(tone),
            Command::Tone { at: Sounder::Ringer, tone } => self.sound.set_ring(tone),
            Command::Tone { at: Sounder::Leg(leg), tone } => {
                self.with(leg, |leg, _, sound| leg.set_tone(sound.country(), tone));
            }
            Command::Say { leg, clip } => self.with(leg, |leg, _, _| leg.say(clip)),
            Command::Dtmf { leg, dtmf } => self.with(leg, |leg, out, _| leg.send_digits(&dtmf, out)),
            Command::Record { leg, record } => self.with(leg, |leg, out, _| leg.record(record, out)),
            Command::Statistics { leg } => self.with(leg, |leg, out, _| leg.tell_quality(now, out)),
            Command::Terminal(terminal) => self.terminal(now, terminal),
            Command::Country(country) => self.sound.set_country(country),
        }
    }

    fn open(&mut self, now: Now, leg: LegId, port: PortId, plan: Plan) {
        let refused = if self.legs.len() >= LEGS_MAX {
            Some("too many legs are open: close some first")
        } else if self.legs.iter().any(|open| open.id == leg) {
            Some("a leg of this number is open already: the caller must number legs anew")
        } else if self.ports.contains(&port) {
            Some("the port carries another leg: the caller must close that one first")
        } else {
            None
        };
        if let Some(why) = refused {
            self.tell(Event::Failed { leg, why: why.into() });
            return;
        }
        let plan = self.paths.agree(now, leg, port, plan, &mut self.events);
        let opened =
            Leg::open(now, leg, port, plan, &self.settings, self.sound.rate(), &self.cname, &mut self.chance);
        let opened = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.paths.close(now, port, &Component::ALL);
                self.tell(Event::Failed { leg, why });
                return;
            }
        };
        if self.legs.is_empty() {
            self.sound.first_leg_opened(&mut self.recordings);
        }
        self.legs.push(opened);
        self.ports.push(port);
        self.outbox.reserve(self.legs.len());
        self.with(leg, |leg, out, _| leg.shake(now, out));
        for mut early in std::mem::take(&mut self.early) {
            if early.port != port {
                self.early.push_back(early);
            } else if now.mono_us.saturating_sub(early.at_us) < EARLY_US {
                self.handle_packet(now, port, early.component, early.from, &mut early.bytes);
            }
        }
        self.regroup(now);
    }

    fn close(&mut self, now: Now, leg: LegId) {
        self.with(leg, |leg, out, _| leg.close(now, out));
        let Some(at) = self.legs.iter().position(|open| open.id == leg) else { return };
        self.legs.swap_remove(at);
        let port = self.ports.swap_remove(at);
        let counts = self.paths.counts(port);
        for event in self.events.iter_mut().rev() {
            if let Event::Closed { leg: closed, report, .. } = event
                && *closed == leg
            {
                report.path = counts;
                break;
            }
        }
        self.paths.close(now, port, &Component::ALL);
        if self.legs.is_empty() {
            self.sound.last_leg_closed(&mut self.recordings);
        }
        self.regroup(now);
    }

    fn terminal(&mut self, now: Now, terminal: Terminal) {
        self.sound.replace(terminal, self.legs.len(), &mut self.recordings);
        self.regroup(now);
    }

    fn tell(&mut self, event: Event) {
        push_event(&mut self.events, event);
    }

    fn with(&mut self, leg: LegId, what: impl FnOnce(&mut Leg, &mut Outlet<'_>, &Sound)) {
        let Some(leg) = self.legs.iter_mut().find(|open| open.id == leg) else { return };
        let mut out =
            Outlet { packets: &mut self.outbox, events: &mut self.events, recordings: &mut self.recordings };
        what(leg, &mut out, &self.sound);
        self.slow_us = earliest(self.slow_us, leg.deadline());
    }

    /// Finds anew who hears whom, and how fine the timer must be.
    fn regroup(&mut self, now: Now) {
        self.groups.clear();
        for (at, leg) in self.legs.iter().enumerate() {
            let known =
                self.groups.iter_mut().find(|group| group.room == leg.room && leg.room != Room::Apart);
            match known {
                Some(group) => group.members.push(at),
                None => self.groups.push(Group { room: leg.room, members: vec![at] }),
            }
        }
        let by_timer = !self.sound.is_device() || self.legs.iter().any(|leg| leg.room != Room::Terminal);
        self.grid = if self.legs.is_empty() {
            None
        } else if by_timer || self.is_stale(now) {
            let next_us = self.grid.map_or(now.mono_us, |grid| grid.next_us);
            Some(Grid { next_us })
        } else {
            None
        };
        self.slow_us = self.legs.iter().fold(None, |slow, leg| earliest(slow, leg.deadline()));
        if !self.legs.is_empty() && self.sound.is_device() && self.grid.is_none() {
            self.slow_us = earliest(self.slow_us, Some(self.sound.stale_us()));
        }
    }

    fn is_stale(&self, now: Now) -> bool {
        self.sound.is_device() && (self.sound.play_is_stale(now) || self.sound.capture_is_stale(now))
    }

    /// Takes a packet that arrived at `now` on one of the sockets of a port. The bytes are decrypted in
    /// place.
    pub fn handle_packet(
        &mut self,
        now: Now,
        port: PortId,
        component: Component,
        from: SocketAddr,
        bytes: &mut [u8],
    ) {
        self.now = now;
        let events = &mut self.events;
        match self.paths.handle_packet(now, (port, component), from, bytes, events) {
            None => self.deliver(now, port, component, from, bytes),
            Some(Arrival::Done) => self.handle_early(now, port, component),
            Some(arrival) => self.arrived(now, port, component, bytes, arrival),
        }
    }

    /// What came by a path.
    fn arrived(&mut self, now: Now, port: PortId, component: Component, bytes: &mut [u8], arrival: Arrival) {
        match arrival {
            Arrival::Done => {}
            Arrival::Refused => self.strangers += 1,
            Arrival::Media(range, from) => {
                if let Some(payload) = bytes.get_mut(range) {
                    self.deliver(now, port, component, from, payload);
                }
            }
        }
    }

    fn deliver(&mut self, now: Now, port: PortId, component: Component, from: SocketAddr, bytes: &mut [u8]) {
        let Some(leg) =
            self.ports.iter().position(|&known| known == port).and_then(|at| self.legs.get_mut(at))
        else {
            self.strangers += 1;
            if is_dtls(bytes) {
                self.keep_early(Early { port, component, from, at_us: now.mono_us, bytes: bytes.to_vec() });
            }
            return;
        };
        if component == Component::Rtcp && !is_rtcp(bytes) && !is_dtls(bytes) {
            self.strangers += 1;
            return;
        }
        let mut out =
            Outlet { packets: &mut self.outbox, events: &mut self.events, recordings: &mut self.recordings };
        leg.handle_packet(now, component, from, bytes, &mut out);
        self.slow_us = earliest(self.slow_us, leg.deadline());
    }

    /// Who answers an offer may begin its handshake before the answer is here: the next try would be a second later.
    fn keep_early(&mut self, new: Early) {
        self.early.retain(|early| new.at_us.saturating_sub(early.at_us) < EARLY_US);
        let of_socket = |early: &&Early| (early.port, early.component) == (new.port, new.component);
        let fits = self.early.iter().filter(of_socket).count() < EARLY_OF_SOCKET;
        if fits
            && new.bytes.len() <= MAX_PACKET
            && self.early.len() < EARLY_MAX
            && self.settings.identity.is_some()
        {
            self.early.push_back(new);
        }
    }

    /// Hands over what came before its route was checked.
    fn handle_early(&mut self, now: Now, port: PortId, component: Component) {
        let at = self.ports.iter().position(|&known| known == port);
        let path = self.paths.get_mut(port, component);
        let (Some(leg), Some(path)) = (at.and_then(|at| self.legs.get_mut(at)), path) else { return };
        while let Some(mut bytes) = path.pop_early() {
            let mut out = Outlet {
                packets: &mut self.outbox,
                events: &mut self.events,
                recordings: &mut self.recordings,
            };
            leg.handle_packet(now, component, FAR_END, &mut bytes, &mut out);
            self.slow_us = earliest(self.slow_us, leg.deadline());
        }
    }

    /// The deadline on the monotonic clock at which `handle_timeout` is wanted.
    pub fn poll_timeout(&self) -> Option<u64> {
        let legs = earliest(self.slow_us, self.grid.map(|grid| grid.next_us));
        earliest(legs, self.paths.poll_timeout())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.paths.handle_timeout(now, &mut self.events);
        if let Some(grid) = &mut self.grid {
            let late_us = now.mono_us.saturating_sub(grid.next_us);
            if late_us > CATCH_UP_US {
                // The machine slept: the streams go on where they would be.
                let skipped = late_us / PERIOD_US;
                grid.next_us += skipped * PERIOD_US;
                let ms = u32::try_from(skipped * u64::from(PERIOD_MS)).unwrap_or(u32::MAX);
                for leg in &mut self.legs {
                    leg.skip(ms);
                }
            }
        }
        while let Some(grid) = &mut self.grid {
            if grid.next_us > now.mono_us {
                break;
            }
            // The period counts as done when it was due: who wakes late would take its own lateness for the network's, and
            // shorten and lengthen what is heard.
            let due = now.back_at(grid.next_us);
            grid.next_us += PERIOD_US;
            self.tick(due, PERIOD_MS);
        }
        if self.slow_us.is_some_and(|slow| slow <= now.mono_us) {
            self.slow(now);
        }
    }

    fn slow(&mut self, now: Now) {
        let mut slow_us = None;
        for leg in &mut self.legs {
            if leg.deadline().is_some_and(|deadline| deadline <= now.mono_us) {
                let mut out = Outlet {
                    packets: &mut self.outbox,
                    events: &mut self.events,
                    recordings: &mut self.recordings,
                };
                leg.handle_timeout(now, &mut out);
            }
            slow_us = earliest(slow_us, leg.deadline());
        }
        self.slow_us = slow_us;
        if self.sound.is_device() && self.grid.is_none() && !self.legs.is_empty() {
            if self.is_stale(now) {
                self.regroup(now);
            } else {
                self.slow_us = earliest(self.slow_us, Some(self.sound.stale_us()));
            }
        }
    }

    /// One tick of the timer: a period of `ms` for every room that has no sound device.
    fn tick(&mut self, now: Now, ms: u32) {
        let mut terminal_played = false;
        for group in &self.groups {
            let mut out = Outlet {
                packets: &mut self.outbox,
                events: &mut self.events,
                recordings: &mut self.recordings,
            };
            match group.room {
                Room::Apart => {
                    for &at in &group.members {
                        if let Some(leg) = self.legs.get_mut(at) {
                            leg.hear(now, ms, &mut out);
                            leg.speak_nothing(now, ms, &mut out);
                        }
                    }
                }
                Room::Terminal => {
                    let (device, sound) = (self.sound.is_device(), &mut self.sound);
                    if !device || sound.play_is_stale(now) {
                        for &at in &group.members {
                            if let Some(leg) = self.legs.get_mut(at) {
                                let rate = leg.hear(now, ms, &mut out);
                                sound.feed(rate, leg.heard());
                            }
                        }
                        sound.play_by_timer(ms, out.recordings);
                        terminal_played = true;
                    }
                    if !device || sound.capture_is_stale(now) {
                        sound.capture_by_timer(ms);
                        for &at in &group.members {
                            if let Some(leg) = self.legs.get_mut(at) {
                                let rate = leg.speaking_rate(sound.rate());
                                leg.speak(now, rate, sound.heard_at(rate), &mut out);
                            }
                        }
                    }
                }
                Room::Bridge(_) => bridge::run(
                    now,
                    ms,
                    &mut self.legs,
                    &group.members,
                    &mut self.mixer,
                    &mut self.mixed,
                    &mut out,
                ),
            }
        }
        if !terminal_played && self.sound.has_output() {
            self.sound.play_by_timer(ms, &mut self.recordings);
        }
    }

    /// The sound device begins to be served.
    pub fn device_begins(&mut self) {
        self.sound.device_begins();
    }

    /// Whether a sound device has nothing to play and nobody listens to it.
    pub fn is_quiet(&self) -> bool {
        !self.sound.sounds() && self.groups.iter().all(|group| group.room != Room::Terminal)
    }

    /// The sound device wants a period of 10 ms: fills `pcm` with what the legs in `Room::Terminal` say, and
    /// tones.
    pub fn play(&mut self, now: Now, pcm: &mut [i16]) {
        let (due, was_stale) = self.sound.device_plays(now);
        let terminal = self.groups.iter().find(|group| group.room == Room::Terminal);
        if let Some(group) = terminal {
            let mut out = Outlet {
                packets: &mut self.outbox,
                events: &mut self.events,
                recordings: &mut self.recordings,
            };
            for &at in &group.members {
                if let Some(leg) = self.legs.get_mut(at) {
                    let rate = leg.hear(due, PERIOD_MS, &mut out);
                    self.sound.feed(rate, leg.heard());
                }
            }
        }
        self.sound.play(pcm);
        if was_stale {
            self.regroup(now);
        }
    }

    /// The ring device wants a period of 10 ms.
    pub fn play_ring(&mut self, _now: Now, pcm: &mut [i16]) {
        self.sound.play_ring(pcm);
    }

    /// The sound device brings a period of 10 ms: the legs in `Room::Terminal` send it.
    pub fn capture(&mut self, now: Now, pcm: &[i16]) {
        let was_stale = self.sound.device_captures(now);
        let terminal = self.groups.iter().find(|group| group.room == Room::Terminal);
        if let Some(group) = terminal {
            self.sound.captured(pcm);
            let mut out = Outlet {
                packets: &mut self.outbox,
                events: &mut self.events,
                recordings: &mut self.recordings,
            };
            for &at in &group.members {
                if let Some(leg) = self.legs.get_mut(at) {
                    let rate = leg.speaking_rate(self.sound.rate());
                    leg.speak(now, rate, self.sound.heard_at(rate), &mut out);
                }
            }
        }
        if was_stale {
            self.regroup(now);
        }
    }

    /// The next packet to send, written into `buffer` (1500 bytes hold each); `None` when there is none.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(transmit) = self.outbox.poll(buffer) {
            if let Some(transmit) = self.paths.frame(self.now, transmit, buffer) {
                return Some(transmit);
            }
        }
        self.paths.poll_transmit(buffer)
    }

    /// What is to be done with a stream of a port next, after all packets have been sent; `None` when there is nothing.
    pub fn poll_stream(&mut self) -> Option<(PortId, StreamOrder)> {
        self.paths.poll_order()
    }

    /// Something has become of a stream that [`Engine::poll_stream`] has ordered for a port.
    pub fn handle_stream(&mut self, now: Now, port: PortId, stream: StreamId, input: StreamInput<'_>) {
        self.now = now;
        for component in Component::ALL {
            let events = &mut self.events;
            self.paths.change(port, component, |path| path.handle_stream(now, stream, input, events));
            while let Some((mut bytes, arrival)) = {
                let events = &mut self.events;
                self.paths.change(port, component, |path| path.poll_packet(now, events)).flatten()
            } {
                self.arrived(now, port, component, &mut bytes, arrival);
            }
            self.handle_early(now, port, component);
        }
    }

    /// The next event; `None` when there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        let mut event = self.events.pop_front();
        if let Some(Event::Quality { leg, report }) = &mut event
            && let Some(open) = self.legs.iter().find(|open| open.id == *leg)
        {
            report.path = self.paths.counts(open.port);
        }
        event
    }

    /// The next piece of a recording; samples are put into `samples`. `None` when there is none.
    pub fn poll_recording(&mut self, samples: &mut Vec<i16>) -> Option<Recorded> {
        self.recordings.poll(samples)
    }
}

/// Puts an event in line; without anybody who polls the oldest are left out.
pub(super) fn push_event(events: &mut VecDeque<Event>, event: Event) {
    if events.len() >= EVENTS_MAX {
        events.pop_front();
    }
    events.push_back(event);
}

//! Two engines over a link that loses, delays, disorders and doubles packets, in virtual time, from a seed
//! (tests only).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::{
    Command, Component, Direction, Engine, Event, Format, LegId, Plan, PortId, Remote, Room, Settings,
    Terminal,
};
use crate::audio::codec::Codec;
use crate::chance::Chance;
use crate::now::Now;

/// What a direction of the link does to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// One-way delay without jitter, in microseconds.
    pub delay_us: u64,
    /// Added to it: exponentially distributed with this mean, in microseconds.
    pub jitter_us: u64,
    /// Whether packets overtake each other.
    pub reorders: bool,
    /// Share of packets that are lost, 0–1.
    pub loss: f64,
    /// Share of packets that arrive twice.
    pub doubles: f64,
}

impl Path {
    pub(super) const CLEAN: Path =
        Path { delay_us: 10_000, jitter_us: 0, reorders: false, loss: 0.0, doubles: 0.0 };
}

/// One engine with a sound device or without, and its clock.
pub(super) struct End {
    pub engine: Engine,
    pub events: Vec<Event>,
    /// What the device was given to play.
    pub played: Vec<i16>,
    /// What the device will capture.
    pub speech: Vec<i16>,
    spoken: usize,
    pub device: Option<Device>,
    pub address: std::net::IpAddr,
    pub sent: Vec<(u64, Component, Vec<u8>)>,
    pub keep_sent: bool,
}

/// A sound device whose clock is off by some parts per million.
pub(super) struct Device {
    pub rate: u32,
    pub ppm: i64,
    periods: u64,
    start_us: u64,
}

impl Device {
    fn next_us(&self) -> u64 {
        let nominal = i128::from(self.periods) * 10_000_000_000;
        self.start_us + (nominal / i128::from(1_000_000 + self.ppm)) as u64
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at_us: u64,
    number: u64,
    to: usize,
    from: SocketAddr,
    target: SocketAddr,
    bytes: Vec<u8>,
}

/// The world of two ends.
pub(super) struct Link {
    pub now: Now,
    pub ends: [End; 2],
    pub paths: [Path; 2],
    chance: Chance,
    flights: BinaryHeap<Reverse<Flight>>,
    number: u64,
    last_us: [u64; 2],
    /// Packets that came on a port nobody has.
    pub astray: u64,
}

pub(super) const PORT: PortId = PortId(1);
pub(super) const LEG: LegId = LegId(1);

pub(super) fn address(end: usize, component: Component) -> SocketAddr {
    let port = if component == Component::Rtp { 4000 } else { 4001 };
    SocketAddr::from(([10, 0, 0, 1 + end as u8], port))
}

pub(super) fn codec(name: &str) -> &'static Codec {
    Codec::by_name(name).expect("a codec of the table")
}

pub(super) fn format(name: &str) -> Format {
    let codec = codec(name);
    Format { payload_type: codec.payload_type.unwrap_or(96), codec }
}

/// A plan for the end `end` towards the other one.
pub(super) fn plan(end: usize, name: &str) -> Plan {
    let remote = Remote { rtp: address(1 - end, Component::Rtp), rtcp: address(1 - end, Component::Rtcp) };
    Plan::plain(Some(remote), format(name))
}

impl Link {
    pub(super) fn new(seed: u64) -> Link {
        let mut chance = Chance::from_number(seed);
        let mut end = |number: u8| End {
            engine: Engine::new(Settings::default(), chance.fork()),
            events: Vec::new(),
            played: Vec::new(),
            speech: Vec::new(),
            spoken: 0,
            device: None,
            address: std::net::IpAddr::from([10, 0, 0, number]),
            sent: Vec::new(),
            keep_sent: false,
        };
        let ends = [end(1), end(2)];
        Link {
            now: Now { mono_us: 1_000_000, utc_us: 1_790_000_000_000_000 },
            ends,
            paths: [Path::CLEAN; 2],
            chance,
            flights: BinaryHeap::new(),
            number: 0,
            last_us: [0; 2],
            astray: 0,
        }
    }

    /// Gives an end a sound device with a clock of its own.
    pub(super) fn device(&mut self, end: usize, rate: u32, ppm: i64) {
        let start_us = self.now.mono_us + 3_000 * (end as u64 + 1);
        self.ends[end].device = Some(Device { rate, ppm, periods: 0, start_us });
        self.order(end, Command::Terminal(Terminal::Device { rate, ring: None }));
    }

    /// Opens a leg at both ends and connects it with the terminal.
    pub(super) fn call(&mut self, plans: [Plan; 2]) {
        for (end, plan) in plans.into_iter().enumerate() {
            self.order(end, Command::Open { leg: LEG, port: PORT, plan: Box::new(plan) });
            self.order(end, Command::Place { leg: LEG, room: Room::Terminal });
        }
    }

    pub(super) fn order(&mut self, end: usize, command: Command) {
        self.ends[end].engine.handle(self.now, command);
        self.drain(end);
    }

    fn drain(&mut self, from: usize) {
        let mut buffer = [0; 1500];
        let now_us = self.now.mono_us;
        while let Some(transmit) = self.ends[from].engine.poll_transmit(&mut buffer) {
            let bytes = buffer[..transmit.len].to_vec();
            if self.ends[from].keep_sent {
                self.ends[from].sent.push((now_us, transmit.component, bytes.clone()));
            }
            self.send(from, transmit.component, transmit.to, bytes);
        }
        while let Some(event) = self.ends[from].engine.poll_event() {
            self.ends[from].events.push(event);
        }
    }

    fn send(&mut self, from: usize, component: Component, target: SocketAddr, bytes: Vec<u8>) {
        let path = self.paths[from];
        if self.chance.happens(path.loss) {
            return;
        }
        let copies = 1 + usize::from(self.chance.happens(path.doubles));
        for _ in 0..copies {
            let mut at_us = self.now.mono_us + path.delay_us;
            if path.jitter_us > 0 {
                at_us += (-(1.0 - self.chance.unit()).ln() * path.jitter_us as f64) as u64;
            }
            if !path.reorders {
                at_us = at_us.max(self.last_us[from]);
                self.last_us[from] = at_us;
            }
            let to = if target.ip() == self.ends[0].address { 0 } else { 1 };
            let port = if component == Component::Rtp { 4000 } else { 4001 };
            let from = SocketAddr::from((self.ends[from].address, port));
            self.fly(at_us, to, from, target, bytes.clone());
        }
    }

    /// A packet from anywhere, which arrives at `at_us`.
    pub(super) fn fly(
        &mut self,
        at_us: u64,
        to: usize,
        from: SocketAddr,
        target: SocketAddr,
        bytes: Vec<u8>,
    ) {
        self.number += 1;
        self.flights.push(Reverse(Flight { at_us, number: self.number, to, from, target, bytes }));
    }

    /// Lets time pass.
    pub(super) fn run_ms(&mut self, ms: u64) {
        let until_us = self.now.mono_us + ms * 1000;
        loop {
            let mut next_us = self.flights.peek().map_or(u64::MAX, |flight| flight.0.at_us);
            for end in &self.ends {
                next_us = next_us.min(end.engine.poll_timeout().unwrap_or(u64::MAX));
                next_us = next_us.min(end.device.as_ref().map_or(u64::MAX, Device::next_us));
            }
            if next_us > until_us {
                break;
            }
            self.step_to(next_us.max(self.now.mono_us));
        }
        self.step_to(until_us);
    }

    fn step_to(&mut self, at_us: u64) {
        let by = at_us - self.now.mono_us;
        self.now = Now { mono_us: at_us, utc_us: self.now.utc_us + by as i64 };
        while self.flights.peek().is_some_and(|flight| flight.0.at_us <= at_us) {
            let Some(Reverse(mut flight)) = self.flights.pop() else { break };
            let end = &mut self.ends[flight.to];
            let component = match flight.target.port() {
                4000 => Component::Rtp,
                4001 => Component::Rtcp,
                _ => {
                    self.astray += 1;
                    continue;
                }
            };
            if flight.target.ip() != end.address {
                self.astray += 1;
                continue;
            }
            end.engine.handle_packet(self.now, PORT, component, flight.from, &mut flight.bytes);
            self.drain(flight.to);
        }
        for number in 0..2 {
            let now = self.now;
            let end = &mut self.ends[number];
            if end.engine.poll_timeout().is_some_and(|deadline| deadline <= at_us) {
                end.engine.handle_timeout(now);
            }
            while let Some(device) = end.device.as_mut().filter(|device| device.next_us() <= at_us) {
                device.periods += 1;
                let samples = (device.rate / 100) as usize;
                let mut period = vec![0; samples];
                end.engine.play(now, &mut period);
                end.played.extend_from_slice(&period);
                period.fill(0);
                if !end.speech.is_empty() {
                    for sample in &mut period {
                        *sample = end.speech[end.spoken % end.speech.len()];
                        end.spoken += 1;
                    }
                }
                end.engine.capture(now, &period);
            }
            self.drain(number);
        }
    }

    /// The final report of the leg at an end, after closing it.
    pub(super) fn close(&mut self, end: usize) -> super::Report {
        self.order(end, Command::Close { leg: LEG });
        let closed = self.ends[end].events.iter().find_map(|event| match event {
            Event::Closed { report, .. } => Some(report.as_ref().clone()),
            _ => None,
        });
        closed.expect("a final report")
    }
}

/// A plan that is held by us.
pub(super) fn held(mut plan: Plan, direction: Direction) -> Plan {
    plan.direction = direction;
    plan
}

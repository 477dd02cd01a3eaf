//! Plain RTP takes no memory once a leg runs: a counting allocator watches calls between two engines over a
//! link that loses, delays and doubles packets, with a sound device at another rate, digits, a bridge and
//! control packets.

use std::net::SocketAddr;

use crate::allocations_so_far;
use tipring::audio::codec::Codec;
use tipring::chance::Chance;
use tipring::media::{
    Command, Component, Dtmf, DtmfPath, Engine, Event, Format, LegId, Plan, PortId, Remote, Room, Settings,
    TelephoneEvent, Terminal, TerminalInput,
};
use tipring::now::Now;

const EVENTS: TelephoneEvent = TelephoneEvent { payload_type: 101, clock: 8000 };

fn address(end: usize, leg: usize, component: Component) -> SocketAddr {
    let port = 4000 + 2 * leg as u16 + u16::from(component == Component::Rtcp);
    SocketAddr::from(([10, 0, 0, 1 + end as u8], port))
}

fn plan(end: usize, leg: usize, codec: &str) -> Plan {
    let codec = Codec::by_name(codec).expect("a codec");
    let format = Format { payload_type: codec.payload_type.unwrap_or(96), codec };
    let rtp = address(1 - end, leg, Component::Rtp);
    let rtcp = address(1 - end, leg, Component::Rtcp);
    let mut plan = Plan::plain(Some(Remote { rtp, rtcp }), format);
    plan.dtmf = DtmfPath::Rfc4733(EVENTS);
    plan.events.push(EVENTS);
    plan
}

/// Packets under way, in places that were made before.
struct Flight {
    at_us: u64,
    to: usize,
    port: PortId,
    component: Component,
    from: SocketAddr,
    length: usize,
    bytes: [u8; 1500],
}

struct World {
    now: Now,
    engines: [Engine; 2],
    flights: Vec<Flight>,
    chance: Chance,
    device: bool,
    events: u64,
}

impl World {
    fn new(codecs: &[&str], device: bool) -> World {
        let mut chance = Chance::from_number(5);
        // A report is a box; how often it is told is a matter of the settings.
        let settings = Settings { quality_ms: 0, ..Settings::default() };
        let mut engine = || Engine::new(settings.clone(), chance.fork());
        let engines = [engine(), engine()];
        let mut world = World {
            now: Now { mono_us: 1_000_000, utc_us: 1_790_000_000_000_000 },
            engines,
            flights: Vec::with_capacity(512),
            chance,
            device,
            events: 0,
        };
        let now = world.now;
        for (end, engine) in world.engines.iter_mut().enumerate() {
            let terminal = if device && end == 0 {
                Terminal::Device { rate: 16_000, ring: None }
            } else {
                let input = TerminalInput::Sine { hertz: 440.0, level_db: -20.0 };
                Terminal::Timer { rate: 8000, input, output: None }
            };
            engine.handle(now, Command::Terminal(terminal));
            for (leg, codec) in codecs.iter().enumerate() {
                let (id, plan) = (LegId(leg as u64), Box::new(plan(end, leg, codec)));
                engine.handle(now, Command::Open { leg: id, port: PortId(leg as u32), plan });
                // The far engine joins everything in one bridge, ours brings each to the terminal.
                let room = if end == 1 && !device { Room::Bridge(1) } else { Room::Terminal };
                engine.handle(now, Command::Place { leg: id, room });
            }
        }
        world
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now = Now { mono_us: self.now.mono_us + 1000, utc_us: self.now.utc_us + 1000 };
        let now = self.now;
        for at in (0..self.flights.len()).rev() {
            if self.flights[at].at_us <= now.mono_us {
                let mut flight = self.flights.swap_remove(at);
                let bytes = &mut flight.bytes[..flight.length];
                self.engines[flight.to].handle_packet(now, flight.port, flight.component, flight.from, bytes);
            }
        }
        for end in 0..2 {
            let engine = &mut self.engines[end];
            if engine.poll_timeout().is_some_and(|deadline| deadline <= now.mono_us) {
                engine.handle_timeout(now);
            }
            if self.device && end == 0 && now.mono_us / 1000 % 10 == 3 {
                let mut period = [0; 160];
                engine.play(now, &mut period);
                period.fill(1000);
                engine.capture(now, &period);
            }
            while let Some(event) = engine.poll_event() {
                self.events += u64::from(matches!(event, Event::Dtmf { .. }));
            }
            let mut bytes = [0; 1500];
            while let Some(transmit) = engine.poll_transmit(&mut bytes) {
                let copies =
                    if self.chance.happens(0.03) { 0 } else { 1 + u32::from(self.chance.happens(0.01)) };
                for _ in 0..copies {
                    let leg = transmit.port.0 as usize;
                    self.flights.push(Flight {
                        at_us: now.mono_us + 20_000 + u64::from(self.chance.below(15_000)),
                        to: 1 - end,
                        port: transmit.port,
                        component: transmit.component,
                        from: address(end, leg, transmit.component),
                        length: transmit.len,
                        bytes,
                    });
                }
            }
        }
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * 1000 {
            self.step();
        }
    }
}

/// Allocations in a minute of calls, after ten seconds in which everything has happened once.
fn allocations(codecs: &[&str], device: bool) -> u64 {
    let mut world = World::new(codecs, device);
    let dial = |world: &mut World| {
        for engine in &mut world.engines {
            engine.handle(world.now, Command::Dtmf { leg: LegId(0), dtmf: Dtmf::new("0123456789") });
        }
    };
    dial(&mut world);
    world.run(10);
    assert!(world.events >= 15, "{}", world.events);
    dial(&mut world);
    let before = allocations_so_far();
    world.run(60);
    let taken = allocations_so_far() - before;
    assert!(world.events >= 30, "{}", world.events);
    taken
}

#[test]
fn g711_between_a_device_and_a_timer() {
    assert_eq!(allocations(&["PCMU", "PCMA", "PCMU"], true), 0);
}

#[test]
fn g711_through_a_bridge_of_four() {
    assert_eq!(allocations(&["PCMU", "PCMA", "PCMU", "PCMA"], false), 0);
}

#[test]
fn g722_with_resampling() {
    assert_eq!(allocations(&["G722", "PCMA"], true), 0);
}

#[test]
fn a_report_costs_one_box() {
    let mut world = World::new(&["PCMU"], true);
    world.run(5);
    let now = world.now;
    world.engines[0].handle(now, Command::Statistics { leg: LegId(0) });
    world.step();
    let before = allocations_so_far();
    for _ in 0..10 {
        world.engines[0].handle(now, Command::Statistics { leg: LegId(0) });
        while world.engines[0].poll_event().is_some() {}
    }
    assert_eq!(allocations_so_far() - before, 10);
}

//! The media engine as an attacker sees it: a call in progress and a stream of datagrams on its two sockets.

use super::{Target, nat::host};
use std::net::SocketAddr;
use tipring::audio::codec::CODECS;
use tipring::chance::Chance;
use tipring::media::{
    Command, Component, Engine, Format, Ice, LegId, Plan, PortId, Remote, Room, Settings, TelephoneEvent,
    Terminal,
};
use tipring::nat::ice::{Credentials, Peer};
use tipring::now::Now;

pub const TARGETS: &[Target] =
    &[Target { name: "media_engine", run: engine, seeds: STREAMS, dictionary: WORDS }];

/// Each datagram is a length, a socket and a pause, then its octets.
const STREAMS: &[&[u8]] = &[
    b"\x10\x02\x80\x00\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x07\xff\xff\xff\xff\x10\x02\
      \x80\x00\x00\x02\x00\x00\x01\x40\x00\x00\x00\x07\xff\xff\xff\xff",
    b"\x10\x02\x80\x65\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x07\x01\x0a\x00\xa0\x10\x02\
      \x80\x65\x00\x02\x00\x00\x00\xa0\x00\x00\x00\x07\x01\x8a\x01\x40",
    b"\x0d\x02\x80\x0d\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x07\x28\x0e\x02\x80\x60\x00\
      \x02\x00\x00\x03\xc0\x00\x00\x00\x07\x48\xff\x08\x81\xc8\x00\x01\x00\x00\x00\x07",
];

const WORDS: &[&[u8]] =
    &[b"\x80\x00", b"\x80\x08", b"\x80\x09", b"\x80\x60", b"\x80\x65", b"\x80\x0d", b"\x81\xc8"];

/// A peer that is at this address with both components.
fn under_ice(peer: SocketAddr) -> Ice {
    let mut chance = Chance::from_number(2);
    let peer = Peer {
        credentials: Credentials::draw(&mut chance),
        candidates: [1, 2].map(|component| host(peer, component)).to_vec(),
        lite: false,
    };
    Ice { local: Credentials::draw(&mut chance), peer, controlling: true }
}

/// The engine plays and sends on whatever comes, and what it has to tell stays in proportion.
fn engine(octets: &[u8]) {
    let peer = SocketAddr::from(([192, 0, 2, 1], 9000));
    let mut now = Now { mono_us: 1_000_000, utc_us: 1_790_000_000_000_000 };
    let mut engine = Engine::new(Settings::default(), Chance::from_number(1));
    engine.handle(now, Command::Terminal(Terminal::Device { rate: 8000, ring: None }));
    let format = |codec| Format { payload_type: 96, codec };
    let mut plan = Plan::plain(Some(Remote { rtp: peer, rtcp: peer }), format(&CODECS[3]));
    plan.receive = CODECS
        .iter()
        .rev()
        .map(|codec| Format { payload_type: codec.payload_type.unwrap_or(96), codec })
        .collect();
    plan.events.push(TelephoneEvent { payload_type: 101, clock: 8000 });
    plan.detect_inband = octets.len() % 2 == 1;
    if octets.len().is_multiple_of(3) {
        // Behind ICE, with RTCP on a port of its own.
        plan.ice = Some(under_ice(peer));
    }
    plan.ptime_ms = octets.first().copied().unwrap_or(0);
    engine.handle(now, Command::Open { leg: LegId(1), port: PortId(1), plan: Box::new(plan) });
    engine.handle(now, Command::Place { leg: LegId(1), room: Room::Terminal });
    let mut rest = octets;
    while let [length, what, more @ ..] = rest {
        let (datagram, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        let component = if what & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        engine.handle_packet(now, PortId(1), component, peer, &mut datagram.to_vec());
        for _ in 0..(what >> 1).min(3) {
            now = Now { mono_us: now.mono_us + 10_000, utc_us: now.utc_us + 10_000 };
            let mut period = [0; 80];
            engine.handle_timeout(now);
            engine.play(now, &mut period);
            engine.capture(now, &period);
        }
        let (mut packets, mut events, mut buffer) = (0, 0, [0; 1500]);
        while engine.poll_transmit(&mut buffer).is_some() {
            packets += 1;
        }
        while engine.poll_event().is_some() {
            events += 1;
        }
        assert!(packets <= 20 && events <= 20, "{packets} packets, {events} events");
    }
    engine.handle(now, Command::Close { leg: LegId(1) });
}

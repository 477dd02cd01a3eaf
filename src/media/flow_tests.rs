//! What real peers do to a stream: one engine with a sound device, and peers whose every packet is written
//! here.

use std::net::SocketAddr;

use super::link::{codec, format};
use super::*;
use crate::audio::codec::{Encoder, Parameters};
use crate::audio::dtmf::{DtmfDetector, DtmfEvent};
use crate::audio::speech::Speech;
use crate::chance::Chance;
use crate::now::Now;
use crate::rtp::packet::{Header, Packet};
use crate::rtp::telephone_event;

const LEG: LegId = LegId(1);
const PORT: PortId = PortId(4);

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A peer that speaks.
struct Peer {
    address: SocketAddr,
    header: Header,
    encoder: Box<dyn Encoder>,
    speech: Speech,
    rate: u32,
    clock: u32,
    ptime_ms: u32,
    /// When the next packet is due, in milliseconds since the beginning.
    next_ms: u64,
}

impl Peer {
    fn new(address: &str, ssrc: u32, format: Format) -> Peer {
        let parameters =
            Parameters { sample_rate: format.codec.sample_rate.min(16_000), ..Parameters::of(format.codec) };
        Peer {
            address: at(address),
            header: Header {
                marker: false,
                payload_type: format.payload_type,
                sequence: 7,
                timestamp: 5_000,
                ssrc,
            },
            encoder: (format.codec.encoder)(&parameters).expect("a codec"),
            speech: Speech::new(u64::from(ssrc), parameters.sample_rate),
            rate: parameters.sample_rate,
            clock: format.codec.clock_rate,
            ptime_ms: 20,
            next_ms: 0,
        }
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 12 + payload.len()];
        self.header.write(payload, &mut bytes).expect("room");
        self.header.sequence = self.header.sequence.wrapping_add(1);
        bytes
    }

    fn speak(&mut self) -> Vec<u8> {
        let mut pcm = vec![0; (self.rate / 1000 * self.ptime_ms) as usize];
        self.speech.fill(&mut pcm);
        let mut payload = Vec::new();
        self.encoder.encode(&pcm, &mut payload);
        let bytes = self.write(&payload);
        self.header.timestamp = self.header.timestamp.wrapping_add(self.clock / 1000 * self.ptime_ms);
        self.next_ms += u64::from(self.ptime_ms);
        bytes
    }

    /// Time in which nothing is sent.
    fn rest_ms(&mut self, ms: u32) {
        self.header.timestamp = self.header.timestamp.wrapping_add(self.clock / 1000 * ms);
        self.next_ms += u64::from(ms);
    }
}

/// An engine whose device runs exactly.
struct Bench {
    engine: Engine,
    ms: u64,
    played: Vec<i16>,
    events: Vec<Event>,
    sent: Vec<(Component, SocketAddr, Vec<u8>)>,
}

impl Bench {
    fn new() -> Bench {
        let mut engine = Engine::new(Settings::default(), Chance::from_number(3));
        engine.handle(now(0), Command::Terminal(Terminal::Device { rate: 8000, ring: None }));
        Bench { engine, ms: 0, played: Vec::new(), events: Vec::new(), sent: Vec::new() }
    }

    fn with(plan: Plan) -> Bench {
        let mut bench = Bench::new();
        bench.order(Command::Open { leg: LEG, port: PORT, plan: Box::new(plan) });
        bench.order(Command::Place { leg: LEG, room: Room::Terminal });
        bench
    }

    fn order(&mut self, command: Command) {
        self.engine.handle(now(self.ms), command);
        self.drain();
    }

    fn update(&mut self, plan: Plan) {
        self.order(Command::Update { leg: LEG, plan: Box::new(plan) });
    }

    fn packet(&mut self, from: SocketAddr, mut bytes: Vec<u8>) {
        self.engine.handle_packet(now(self.ms), PORT, Component::Rtp, from, &mut bytes);
        self.drain();
    }

    fn drain(&mut self) {
        let mut buffer = [0; 1500];
        while let Some(transmit) = self.engine.poll_transmit(&mut buffer) {
            self.sent.push((transmit.component, transmit.to, buffer[..transmit.len].to_vec()));
        }
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event);
        }
    }

    /// Lets time pass while these speak.
    fn run(&mut self, ms: u64, peers: &mut [&mut Peer]) {
        let until = self.ms + ms;
        while self.ms < until {
            for peer in &mut *peers {
                while peer.next_ms <= self.ms {
                    let bytes = peer.speak();
                    self.packet(peer.address, bytes);
                }
            }
            let mut period = [0; 80];
            self.engine.handle_timeout(now(self.ms));
            self.engine.play(now(self.ms), &mut period);
            self.engine.capture(now(self.ms), &[0; 80]);
            self.played.extend_from_slice(&period);
            self.drain();
            self.ms += 10;
        }
    }

    /// Milliseconds after `from_ms` at which speech is heard first.
    fn heard_after(&self, from_ms: u64) -> Option<u64> {
        let from = from_ms as usize * 8;
        let loud = self.played.get(from..)?.iter().position(|sample| sample.unsigned_abs() > 500)?;
        Some(loud as u64 / 8)
    }

    /// The loudest sample of the last `ms`.
    fn loudest(&self, ms: usize) -> u16 {
        self.played[self.played.len() - ms * 8..]
            .iter()
            .map(|sample| sample.unsigned_abs())
            .max()
            .unwrap_or(0)
    }

    fn report(&mut self) -> Report {
        self.order(Command::Statistics { leg: LEG });
        let last = self.events.iter().rev().find_map(|event| match event {
            Event::Quality { report, .. } => Some(report.as_ref().clone()),
            _ => None,
        });
        last.expect("a report")
    }

    fn silences(&self) -> usize {
        let told = |event: &&Event| matches!(event, Event::Silence { .. } | Event::TimedOut { .. });
        self.events.iter().filter(told).count()
    }
}

fn now(ms: u64) -> Now {
    Now { mono_us: 1_000_000 + ms * 1000, utc_us: 1_790_000_000_000_000 }
}

fn plan(remote: &str) -> Plan {
    let rtp = at(remote);
    let rtcp = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    Plan::plain(Some(Remote { rtp, rtcp }), format("PCMU"))
}

#[test]
fn a_leap_of_the_time_stamp_costs_neither_speech_nor_delay() {
    for leap in [16_000_000_u32, 0u32.wrapping_sub(16_000_000), 80_000, 0u32.wrapping_sub(4_000)] {
        let mut bench = Bench::with(plan("192.0.2.7:9000"));
        let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
        bench.run(6_000, &mut [&mut peer]);
        let before = bench.report();
        peer.header.timestamp = peer.header.timestamp.wrapping_add(leap);
        let leapt = bench.ms;
        bench.run(6_000, &mut [&mut peer]);
        let after = bench.report();
        assert!(bench.heard_after(leapt).is_some_and(|ms| ms < 100));
        assert!(after.buffer_ms < before.buffer_ms + 25.0, "{leap} {before:?} {after:?}");
        assert!(
            after.concealed_ms - before.concealed_ms <= 60 && after.packets_lost == 0,
            "{leap} {after:?}"
        );
    }
}

#[test]
fn another_source_without_a_marker_is_heard_within_100_ms() {
    let mut bench = Bench::with(plan("192.0.2.7:9000"));
    let mut music = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    bench.run(4_000, &mut [&mut music]);
    let mut agent = Peer::new("192.0.2.7:9000", 78, format("PCMU"));
    agent.next_ms = bench.ms;
    let changed = bench.ms;
    bench.run(4_000, &mut [&mut agent]);
    assert!(bench.heard_after(changed + 60).is_some_and(|ms| ms < 200));
    let report = bench.report();
    assert_eq!(report.packets_lost, 0);
    assert!(report.buffer_ms < 60.0, "{report:?}");
}

/// What pulls the sound of a leg.
#[derive(Clone, Copy, Debug)]
enum Puller {
    /// The engine's timer; who waits for it is up to so many milliseconds late.
    Timer { late_ms: u32 },
    /// A sound device that takes blocks of so many milliseconds from a ring with a block and a period in it; its clock is
    /// slow by 100 ppm. Who fills the ring looks every 5 ms, and is up to so many late.
    Device { block_ms: u64, late_ms: u32 },
}

/// How much was shrunk, stretched and concealed in the second half minute of a call whose packets come on time, in
/// milliseconds.
fn bent(puller: Puller, ptime_ms: u32) -> [u64; 3] {
    let mut bench = Bench::new();
    let mut chance = Chance::from_number(5);
    if let Puller::Timer { .. } = puller {
        let terminal = Terminal::Timer { rate: 8000, input: TerminalInput::Silence, output: None };
        bench.order(Command::Terminal(terminal));
    }
    bench.order(Command::Open { leg: LEG, port: PORT, plan: Box::new(plan("192.0.2.7:9000")) });
    bench.order(Command::Place { leg: LEG, room: Room::Terminal });
    let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    peer.ptime_ms = ptime_ms;
    let (mut periods, mut reports) = (0, Vec::new());
    for until_ms in [30_000, 60_000] {
        loop {
            let deadline_ms = |due_us: u64| (due_us - now(0).mono_us).div_ceil(1000);
            let due_ms = bench.engine.poll_timeout().map_or(u64::MAX, deadline_ms);
            let (due_ms, late_ms) = match puller {
                Puller::Timer { late_ms } => (due_ms, late_ms),
                Puller::Device { late_ms, .. } => (bench.ms + 5, late_ms),
            };
            let at_ms = due_ms + u64::from(chance.below(late_ms + 1));
            if at_ms >= until_ms {
                break;
            }
            while peer.next_ms <= at_ms {
                bench.ms = peer.next_ms;
                let bytes = peer.speak();
                bench.packet(peer.address, bytes);
            }
            bench.ms = at_ms;
            bench.engine.handle_timeout(now(at_ms));
            if let Puller::Device { block_ms, .. } = puller {
                let blocks = at_ms * 9_999 / 10_000 / block_ms;
                while periods * 10 < (blocks + 1) * block_ms + 10 {
                    bench.engine.play(now(at_ms), &mut [0; 80]);
                    bench.engine.capture(now(at_ms), &[0; 80]);
                    periods += 1;
                }
            }
            bench.drain();
        }
        let report = bench.report();
        reports.push([report.shrunk_ms, report.stretched_ms, report.concealed_ms]);
    }
    std::array::from_fn(|at| reports[1][at] - reports[0][at])
}

#[test]
fn a_machine_that_wakes_late_does_not_bend_what_is_heard() {
    for (late_ms, ptime_ms) in [(0, 20), (3, 20), (9, 20), (15, 20), (9, 10), (9, 30)] {
        let found = bent(Puller::Timer { late_ms }, ptime_ms);
        assert_eq!(found, [0; 3], "{late_ms} ms late, packets of {ptime_ms} ms");
    }
}

#[test]
fn the_blocks_of_a_sound_device_do_not_bend_what_is_heard() {
    let mut all = Vec::new();
    for block_ms in [10, 20, 40] {
        for late_ms in [0, 3, 9] {
            for ptime_ms in [10, 20, 30] {
                all.push((block_ms, late_ms, ptime_ms, bent(Puller::Device { block_ms, late_ms }, ptime_ms)));
            }
        }
    }
    // The clock that is slow by 100 ppm wants 3 ms.
    let found: Vec<_> = all.iter().filter(|(.., [a, b, c])| a + b > 12 || *c > 0).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_packet_length_changes_on_the_way() {
    let mut bench = Bench::with(plan("192.0.2.7:9000"));
    let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    for ptime_ms in [20, 60, 30, 10, 40, 20] {
        peer.ptime_ms = ptime_ms;
        bench.run(6_000, &mut [&mut peer]);
    }
    let report = bench.report();
    assert_eq!((report.packets_lost, bench.silences()), (0, 0));
    assert!(report.concealed_ms < 200 && report.buffer_ms < 60.0, "{report:?}");
}

#[test]
fn ten_seconds_of_comfort_noise_are_neither_loss_nor_an_alarm() {
    let mut planned = plan("192.0.2.7:9000");
    (planned.silence_ms, planned.timeout_ms) = (5_000, 8_000);
    let mut bench = Bench::with(planned);
    let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    bench.run(4_000, &mut [&mut peer]);
    let before = bench.report();
    for _ in 0..5 {
        peer.header.payload_type = 13;
        let noise = peer.write(&[40]);
        bench.packet(peer.address, noise);
        peer.header.payload_type = 0;
        bench.run(2_000, &mut []);
        peer.rest_ms(2_000);
    }
    let noise = bench.loudest(1_000);
    assert!((50..2_000).contains(&noise), "{noise}");
    // Speech comes back with a leap.
    peer.header.timestamp = peer.header.timestamp.wrapping_add(123_456);
    let back = bench.ms;
    bench.run(3_000, &mut [&mut peer]);
    assert!(bench.heard_after(back).is_some_and(|ms| ms < 300), "{:?}", bench.heard_after(back));
    let after = bench.report();
    assert_eq!((after.packets_lost, bench.silences()), (0, 0));
    assert!(after.concealed_ms - before.concealed_ms < 60 && after.buffer_ms < 80.0, "{after:?}");
}

#[test]
fn the_codec_changes_by_its_number_alone() {
    let mut planned = plan("192.0.2.7:9000");
    planned.receive = vec![format("PCMU"), format("PCMA"), format("G722"), format("opus")];
    let mut bench = Bench::with(planned);
    let mut header = None;
    for name in ["PCMU", "PCMA", "G722", "opus", "PCMU"] {
        let mut peer = Peer::new("192.0.2.7:9000", 77, format(name));
        if let Some(before) = header {
            peer.header = Header { payload_type: format(name).payload_type, ..before };
        }
        peer.next_ms = bench.ms;
        let changed = bench.ms;
        bench.run(3_000, &mut [&mut peer]);
        header = Some(peer.header);
        assert!(bench.heard_after(changed + 100).is_some_and(|ms| ms < 300), "{name}");
        assert!(bench.loudest(1_500) > 500, "{name}");
    }
    let told: Vec<&str> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Codec { codec, .. } => Some(codec.name),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["PCMA", "G722", "opus", "PCMU"]);
    let report = bench.report();
    assert_eq!((report.codec_received.map(|codec| codec.name), report.packets_lost), (Some("PCMU"), 0));
}

#[test]
fn nowhere_to_send_until_the_far_end_is_heard() {
    let mut planned = plan("192.0.2.7:9000");
    planned.remote = None;
    planned.direction = Direction::Inactive;
    let mut bench = Bench::with(planned.clone());
    bench.run(1_000, &mut []);
    assert!(bench.sent.is_empty() && bench.silences() == 0);
    planned.direction = Direction::SendRecv;
    bench.update(planned);
    let mut peer = Peer::new("192.0.2.9:5000", 5, format("PCMU"));
    peer.next_ms = bench.ms;
    bench.run(1_000, &mut [&mut peer]);
    let voice =
        bench.sent.iter().filter(|(component, to, _)| *component == Component::Rtp && *to == peer.address);
    assert!(voice.count() > 40);
    assert!(bench.events.contains(&Event::Latched { leg: LEG, remote: peer.address }));
}

#[test]
fn a_third_party_neither_is_heard_nor_turns_our_voice_to_itself() {
    let mut bench = Bench::with(plan("192.0.2.7:9000"));
    let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    bench.run(2_000, &mut [&mut peer]);
    bench.sent.clear();
    // The thief copies source and numbers, and floods.
    let mut thief = Peer::new("198.51.100.66:9000", 77, format("PCMU"));
    thief.header = peer.header;
    thief.next_ms = bench.ms;
    thief.ptime_ms = 10;
    bench.run(4_000, &mut [&mut peer, &mut thief]);
    assert!(bench.sent.iter().all(|(_, to, _)| to.ip() == peer.address.ip()));
    let report = bench.report();
    assert!(report.packets_refused >= 390 && report.packets_lost == 0, "{report:?}");
    assert_eq!(report.packets_received, 300);
}

#[test]
fn a_new_agreement_is_followed_at_once_and_stale_packets_are_ignored() {
    let mut bench = Bench::with(plan("192.0.2.1:4000"));
    let mut pbx = Peer::new("192.0.2.1:4000", 1, format("PCMU"));
    bench.run(3_000, &mut [&mut pbx]);
    // Direct media: the other phone from now on; the PBX's last packets are still under way.
    bench.update(plan("192.0.2.50:6000"));
    bench.sent.clear();
    let mut phone = Peer::new("192.0.2.50:6000", 2, format("PCMU"));
    phone.next_ms = bench.ms + 40;
    let (changed, refused) = (bench.ms, bench.report().packets_refused);
    bench.run(100, &mut [&mut pbx, &mut phone]);
    bench.run(3_000, &mut [&mut phone]);
    let rtp = bench.sent.iter().filter(|(component, _, _)| *component == Component::Rtp);
    assert!(rtp.clone().count() > 100 && rtp.clone().all(|(_, to, _)| *to == phone.address));
    let told = bench.events.iter().filter(|event| matches!(event, Event::FirstPacket { .. }));
    assert!(matches!(
        told.collect::<Vec<_>>()[..],
        [Event::FirstPacket { .. }, Event::FirstPacket { from, after_us: 30_000..=60_000, .. }]
            if *from == phone.address
    ));
    assert!(bench.report().packets_refused - refused >= 4);
    assert!(bench.heard_after(changed + 100).is_some_and(|ms| ms < 200));
}

/// The packets of one digit: its updates every 20 ms and three ends, or fewer.
fn press(peer: &mut Peer, event: u8, updates: u16, ends: usize) -> Vec<Vec<u8>> {
    let voice = peer.header.payload_type;
    peer.header.payload_type = 101;
    let mut packets = Vec::new();
    for update in 1..=updates {
        peer.header.marker = update == 1;
        let [high, low] = (update.saturating_mul(160)).to_be_bytes();
        packets.push(peer.write(&[event, 10, high, low]));
    }
    peer.header.marker = false;
    for _ in 0..3 {
        let [high, low] = (updates.saturating_mul(160)).to_be_bytes();
        packets.push(peer.write(&[event, 0x80 | 10, high, low]));
    }
    packets.truncate(usize::from(updates) + ends);
    peer.header.payload_type = voice;
    packets
}

fn digits(bench: &Bench) -> Vec<(char, u32)> {
    let told = bench.events.iter().filter_map(|event| match event {
        Event::Dtmf { digit, duration_ms, source: DtmfSource::Rfc4733, .. } => Some((*digit, *duration_ms)),
        _ => None,
    });
    told.collect()
}

#[test]
fn digits_whose_packets_are_lost_are_told_once() {
    let mut planned = plan("192.0.2.7:9000");
    planned.events.push(TelephoneEvent { payload_type: 101, clock: 8000 });
    let mut bench = Bench::with(planned);
    let mut peer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    bench.run(500, &mut [&mut peer]);
    let mut dial = |bench: &mut Bench, packets: Vec<Vec<u8>>, rest_ms: u32| {
        let lasted = packets.len() as u32 * 20;
        for packet in packets {
            bench.packet(peer.address, packet);
            bench.run(20, &mut []);
        }
        peer.rest_ms(lasted);
        bench.run(u64::from(rest_ms), &mut []);
        peer.rest_ms(rest_ms);
    };
    let mut writer = Peer::new("192.0.2.7:9000", 77, format("PCMU"));
    writer.header.sequence = 200;
    writer.header.timestamp = 500_000;
    // All three ends are lost.
    let packets = press(&mut writer, 1, 5, 0);
    dial(&mut bench, packets, 300);
    writer.rest_ms(1_000);
    // The beginning is lost.
    let packets = press(&mut writer, 2, 5, 3).split_off(3);
    dial(&mut bench, packets, 100);
    writer.rest_ms(1_000);
    // Longer than 5 s.
    let packets = press(&mut writer, 3, 260, 3);
    dial(&mut bench, packets, 100);
    writer.rest_ms(6_000);
    // The same one twice, 50 ms apart.
    for _ in 0..2 {
        let packets = press(&mut writer, 4, 4, 1);
        dial(&mut bench, packets, 50);
        writer.rest_ms(130);
    }
    assert_eq!(digits(&bench), [('1', 100), ('2', 100), ('3', 5_200), ('4', 80), ('4', 80)]);
}

/// The digits in packets that left, by event and by tone, and how loud the last 200 ms are.
fn digits_sent(bench: &Bench) -> (String, u16) {
    let (mut keys, mut told) = (telephone_event::Receiver::default(), String::new());
    let mut decoder = (codec("PCMU").decoder)(&Parameters::of(codec("PCMU"))).expect("a decoder");
    let (mut tones, mut heard) = (DtmfDetector::new(8000), Vec::new());
    let mut pcm = Vec::new();
    for (_, _, bytes) in bench.sent.iter().filter(|(component, _, _)| *component == Component::Rtp) {
        let packet = Packet::parse(bytes).expect("RTP");
        match packet.header.payload_type {
            101 => assert!(keys.handle_packet(0, packet.header.timestamp, 8000, packet.payload)),
            _ => {
                let from = pcm.len();
                decoder.decode(packet.payload, &mut pcm).expect("PCMU");
                tones.detect(&pcm[from..], &mut heard);
            }
        }
        told.extend(std::iter::from_fn(|| keys.poll_event()).filter_map(|event| match event {
            telephone_event::Event::Pressed(digit) => Some(digit.as_char()),
            telephone_event::Event::Released { .. } => None,
        }));
        told.extend(heard.drain(..).filter_map(|event| match event {
            DtmfEvent::Pressed(digit) => Some(digit),
            DtmfEvent::Released { .. } => None,
        }));
    }
    let last = &pcm[pcm.len() - 1_600..];
    (told, last.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0))
}

#[test]
fn a_new_way_for_digits_in_the_middle_of_one_costs_neither_the_voice_nor_those_that_follow() {
    let event = DtmfPath::Rfc4733(TelephoneEvent { payload_type: 101, clock: 8000 });
    for [before, after] in [[event, DtmfPath::Inband], [DtmfPath::Inband, event]] {
        let mut planned = plan("192.0.2.7:9000");
        planned.dtmf = before;
        let mut bench = Bench::with(planned.clone());
        let input = TerminalInput::Sine { hertz: 440.0, level_db: -20.0 };
        bench.order(Command::Terminal(Terminal::Timer { rate: 8000, input, output: None }));
        bench.run(200, &mut []);
        bench.order(Command::Dtmf { leg: LEG, dtmf: Dtmf::new("12") });
        bench.run(60, &mut []);
        planned.dtmf = after;
        bench.update(planned);
        bench.run(1_000, &mut []);
        bench.order(Command::Dtmf { leg: LEG, dtmf: Dtmf::new("3") });
        bench.run(1_000, &mut []);
        let (digits, level) = digits_sent(&bench);
        assert_eq!(digits, "123", "{before:?} to {after:?}");
        assert!(level > 500, "{before:?} to {after:?}: {level}");
        let told = bench.events.iter().filter(|event| matches!(event, Event::DtmfSent { .. }));
        assert_eq!(told.count(), 2);
    }
}

#[test]
fn two_legs_in_a_bridge_hear_each_other_and_a_third_joins() {
    let mut bench = Bench::new();
    bench.order(Command::Terminal(Terminal::Timer {
        rate: 8000,
        input: TerminalInput::Silence,
        output: None,
    }));
    let names = ["PCMU", "PCMA", "G722"];
    let mut peers = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let address = format!("192.0.2.{}:9000", number + 1);
        let mut planned = plan(&address);
        planned.send = Some(format(name));
        planned.receive = vec![format(name)];
        let leg = LegId(number as u64);
        bench.order(Command::Open { leg, port: PortId(number as u32), plan: Box::new(planned) });
        bench.order(Command::Place { leg, room: if number < 2 { Room::Bridge(9) } else { Room::Apart } });
        peers.push(Peer::new(&address, number as u32, format(name)));
    }
    let mut run = |bench: &mut Bench, speaks: usize, ms: u64| -> Vec<u16> {
        bench.sent.clear();
        let until = bench.ms + ms;
        while bench.ms < until {
            let peer = &mut peers[speaks];
            peer.next_ms = peer.next_ms.max(bench.ms);
            while peer.next_ms <= bench.ms {
                let mut bytes = peer.speak();
                let port = PortId(speaks as u32);
                bench.engine.handle_packet(now(bench.ms), port, Component::Rtp, peer.address, &mut bytes);
            }
            bench.engine.handle_timeout(now(bench.ms));
            bench.drain();
            bench.ms += 10;
        }
        (0..names.len())
            .map(|number| {
                let parameters = Parameters::of(codec(names[number]));
                let mut decoder = (codec(names[number]).decoder)(&parameters).expect("a decoder");
                let mut pcm = Vec::new();
                for (component, to, bytes) in &bench.sent {
                    if *component == Component::Rtp && to.ip() == peers[number].address.ip() {
                        let packet = Packet::parse(bytes).expect("RTP");
                        decoder.decode(packet.payload, &mut pcm).expect("a payload");
                    }
                }
                pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
            })
            .collect()
    };
    let quiet = |level: u16| level < 50;
    let heard = run(&mut bench, 0, 2_000);
    assert!(quiet(heard[0]) && heard[1] > 1_000 && quiet(heard[2]), "{heard:?}");
    bench.order(Command::Place { leg: LegId(2), room: Room::Bridge(9) });
    run(&mut bench, 0, 500);
    let heard = run(&mut bench, 2, 2_000);
    assert!(heard[0] > 1_000 && heard[1] > 1_000, "{heard:?}");
    run(&mut bench, 1, 500);
    let heard = run(&mut bench, 1, 2_000);
    assert!(heard[0] > 1_000 && quiet(heard[1]) && heard[2] > 1_000, "{heard:?}");
    bench.order(Command::Close { leg: LegId(0) });
    let heard = run(&mut bench, 2, 1_000);
    assert!(quiet(heard[0]) && heard[1] > 1_000, "{heard:?}");
}

#[test]
fn legs_at_the_terminal_hear_it_and_not_each_other() {
    let mut bench = Bench::new();
    let sine = TerminalInput::Sine { hertz: 440.0, level_db: -20.0 };
    bench.order(Command::Terminal(Terminal::Timer { rate: 16_000, input: sine, output: None }));
    for number in 0..2 {
        let leg = LegId(number);
        let plan = plan(&format!("192.0.2.{}:9000", number + 1));
        bench.order(Command::Open { leg, port: PortId(number as u32), plan: Box::new(plan) });
        bench.order(Command::Place { leg, room: Room::Terminal });
    }
    bench.sent.clear();
    let mut peer = Peer::new("192.0.2.1:9000", 1, format("PCMU"));
    for step in 0..100 {
        if step % 2 == 0 {
            let mut bytes = peer.speak();
            bench.engine.handle_packet(now(bench.ms), PortId(0), Component::Rtp, peer.address, &mut bytes);
        }
        bench.engine.handle_timeout(now(bench.ms));
        bench.drain();
        bench.ms += 10;
    }
    for number in 0..2 {
        let mut decoder = (codec("PCMU").decoder)(&Parameters::of(codec("PCMU"))).expect("a decoder");
        let mut pcm = Vec::new();
        for (_, to, bytes) in bench.sent.iter().filter(|(component, _, _)| *component == Component::Rtp) {
            if to.ip() == at(&format!("192.0.2.{}:9000", number + 1)).ip() {
                decoder.decode(Packet::parse(bytes).expect("RTP").payload, &mut pcm).expect("PCMU");
            }
        }
        let steady = &pcm[1_600..];
        let power = steady.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / steady.len() as f64;
        let level = 10.0 * (power / 32_768.0_f64.powi(2)).log10();
        assert!((-21.5..-18.5).contains(&level), "only the sine: {level}");
    }
}

#[test]
fn no_packet_harms_the_engine() {
    let mut chance = Chance::from_number(99);
    let mut planned = plan("192.0.2.7:9000");
    planned.receive = vec![format("PCMU"), format("PCMA"), format("G722"), format("opus")];
    planned.events.push(TelephoneEvent { payload_type: 101, clock: 8000 });
    planned.detect_inband = true;
    let mut bench = Bench::with(planned);
    for round in 0..20_000u32 {
        let mut bytes = vec![0; chance.below(if round % 50 == 0 { 2_000 } else { 80 }) as usize];
        chance.fill(&mut bytes);
        if round % 4 != 0 && bytes.len() > 12 {
            bytes[0] = 0x80;
            bytes[1] = [0, 8, 9, 96, 13, 101, 200, 201][chance.below(8) as usize];
            bytes[2..4].copy_from_slice(&((round / 3) as u16).to_be_bytes());
            bytes[8..12].fill(7);
        }
        bench.packet(at("192.0.2.7:9000"), bytes);
        if round % 8 == 0 {
            bench.run(10, &mut []);
        }
    }
    assert!(bench.events.len() < 10_000);
    assert!(bench.report().packets_received > 1_000);
}

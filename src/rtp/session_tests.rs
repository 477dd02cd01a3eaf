//! One session as a listener of what the field does: discontinuities, keys, encryption, third parties.

use std::time::Duration;

use super::super::jitter;
use super::super::latch::Expectation;
use super::super::srtp::{Keys, Profile};
use super::*;

const PCMA: Format = Format {
    payload_type: 8,
    clock_rate: 8000,
    media: Media::Voice { length: Length::Bytes, redundant: false, impairment: Impairment::G711 },
};
const PCMU: Format = Format { payload_type: 0, ..PCMA };
const OPUS: Format = Format {
    payload_type: 107,
    clock_rate: 48_000,
    media: Media::Voice { length: Length::Opus, redundant: true, impairment: Impairment::OPUS },
};
const NOISE: Format = Format { payload_type: 13, clock_rate: 8000, media: Media::Noise };
const EVENTS: Format = Format { payload_type: 101, clock_rate: 8000, media: Media::Events };

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn plan(peer: &str) -> Plan {
    Plan {
        expected: Expectation { media: Some(at(peer)), signalling: None, symmetric: true },
        formats: vec![PCMA, PCMU, OPUS, NOISE, EVENTS],
        ..Plan::default()
    }
}

const PEER: &str = "192.0.2.1:4000";

/// A session that is listened to in periods of 10 ms, and the peer that talks to it.
struct Line {
    session: Session,
    now: Now,
    queued_us: u64,
    /// What was heard per period: the first byte of the payload, or what filled the period.
    heard: Vec<Heard>,
    header: Header,
    events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Heard {
    Voice(u8),
    Concealed,
    Comfort,
    Nothing,
}

impl Line {
    fn new() -> Line {
        Line::with(plan(PEER))
    }

    fn with(plan: Plan) -> Line {
        let now = Now { mono_us: 10_000_000, utc_us: 1_700_000_000_000_000 };
        let settings = Settings { jitter: jitter::Settings::default(), cname: "c".to_owned() };
        Line {
            session: Session::new(now, settings, plan, Chance::from_number(1)).unwrap(),
            now,
            queued_us: 0,
            heard: Vec::new(),
            header: Header {
                payload_type: 8,
                sequence: 65_500,
                timestamp: 0xffff_f000,
                ssrc: 77,
                marker: false,
            },
            events: Vec::new(),
        }
    }

    fn put(&mut self, header: Header, payload: &[u8]) -> Result<Received, Refused> {
        let mut bytes = [0; 1500];
        let length = header.write(payload, &mut bytes).unwrap();
        let received = self.session.receive(self.now, at(PEER), &mut bytes[..length]);
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        received
    }

    /// The peer sends `packets` of `ms` each with this byte, and time passes.
    fn talk(&mut self, byte: u8, packets: u32, ms: u32) {
        for _ in 0..packets {
            let _ = self.put(self.header, &vec![byte; ms as usize * 8]);
            self.header.sequence = self.header.sequence.wrapping_add(1);
            self.header.timestamp = self.header.timestamp.wrapping_add(ms * 8);
            self.listen(u64::from(ms));
        }
    }

    fn listen(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.period();
            self.now = self.now.plus(Duration::from_millis(10));
            self.session.handle_timeout(self.now);
            self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        }
    }

    fn period(&mut self) {
        let mut heard = None;
        while self.queued_us < 10_000 {
            let (what, got_us) = match self.session.pull(self.now, self.queued_us) {
                Pull::Packet { payload, duration_us, skip_us, .. } => {
                    (Heard::Voice(payload[0]), u64::from(duration_us - skip_us))
                }
                Pull::Fec { payload, duration_us, .. } => (Heard::Voice(payload[0]), u64::from(duration_us)),
                Pull::Conceal { duration_us } => (Heard::Concealed, u64::from(duration_us)),
                Pull::Comfort { .. } => (Heard::Comfort, 10_000),
                Pull::Nothing => (Heard::Nothing, 10_000),
            };
            heard.get_or_insert(what);
            self.queued_us += match (what, self.session.rate(self.now, self.queued_us + got_us)) {
                (Heard::Voice(_), Rate::Shrink { by_us }) => got_us - u64::from(by_us).min(got_us / 3),
                (Heard::Voice(_), Rate::Stretch { by_us }) => got_us + u64::from(by_us).min(got_us / 3),
                _ => got_us,
            };
        }
        self.queued_us -= 10_000;
        self.heard.push(heard.or(self.heard.last().copied()).unwrap());
    }

    /// Milliseconds from period `from` until this byte was heard.
    fn until(&self, from: usize, byte: u8) -> usize {
        10 * self.heard[from..].iter().position(|heard| *heard == Heard::Voice(byte)).expect("never heard")
    }

    fn concealed_ms(&self) -> u64 {
        self.session.total(self.now).concealed_ms
    }
}

#[test]
fn a_plain_call_is_heard_without_a_gap() {
    let mut line = Line::new();
    line.talk(1, 500, 20);
    let report = line.session.report(line.now);
    assert_eq!((report.packets_received, report.lost, report.concealed_ms), (500, 0, 0));
    assert_eq!(report.bytes_received, 80_000);
    assert!(report.buffer_us < 40_000, "{}", report.buffer_us);
    assert!(report.rating.unwrap().mos > 4.3);
    let first = line.heard.iter().position(|heard| *heard == Heard::Voice(1)).unwrap();
    assert!(line.heard[first..].iter().all(|heard| *heard == Heard::Voice(1)));
    assert_eq!(line.events, [Event::Moved(at(PEER)), Event::Source(77)]);
}

/// Flow 9 of the field: what a PBX does when music gives way to an agent.
#[test]
fn time_stamps_may_leap_either_way_without_a_marker() {
    for leap in
        [1_000_000_u32, 0x8000_0000, 4_000, 1_000, 0_u32.wrapping_sub(1_000_000), 0_u32.wrapping_sub(400)]
    {
        let mut line = Line::new();
        line.talk(1, 250, 20);
        let before = line.session.report(line.now);
        line.header.timestamp = line.header.timestamp.wrapping_add(leap);
        let from = line.heard.len();
        line.talk(2, 250, 20);
        assert!(line.until(from, 2) <= 100, "leap {leap}: {} ms", line.until(from, 2));
        assert_eq!(line.concealed_ms(), 0, "leap {leap}");
        line.session.report(line.now);
        line.talk(2, 100, 20);
        let after = line.session.report(line.now);
        assert!(after.buffer_us <= before.buffer_us + 10_000, "leap {leap}: {} µs", after.buffer_us);
    }
}

#[test]
fn a_new_source_without_marker_is_heard_at_once_and_stragglers_do_not_disturb() {
    let mut line = Line::new();
    line.talk(1, 250, 20);
    let old = line.header;
    line.header = Header { ssrc: 78, sequence: 9, timestamp: 5, ..line.header };
    let from = line.heard.len();
    line.talk(2, 3, 20);
    assert_eq!(line.put(old, &[1; 160]), Err(Refused::Stray));
    line.talk(2, 100, 20);
    assert!(line.until(from, 2) <= 100);
    assert_eq!(line.concealed_ms(), 0);
    assert!(line.events.contains(&Event::Source(78)));
    assert_eq!(line.session.total(line.now).lost, 0);
}

#[test]
fn a_pause_that_another_stream_ends_is_not_loss() {
    for (ssrc, sequence) in [(78, 9), (77, 20_000)] {
        let mut line = Line::new();
        line.talk(1, 500, 20);
        line.listen(120_000);
        line.header = Header { ssrc, sequence, timestamp: 5, ..line.header };
        let from = line.heard.len();
        line.talk(2, 500, 20);
        assert!(line.until(from, 2) <= 100);
        assert_eq!(line.concealed_ms(), 0, "source {ssrc}");
        assert!(line.session.total(line.now).rating.unwrap().mos > 4.2);
    }
}

#[test]
fn packets_may_change_their_length_at_any_time() {
    let mut line = Line::new();
    for (byte, ms) in [(1, 20), (2, 60), (3, 30), (4, 10), (5, 40), (6, 20)] {
        let from = line.heard.len();
        line.talk(byte, 6_000 / ms, ms);
        assert!(line.until(from, byte) <= 100);
    }
    assert!(line.concealed_ms() <= 150, "{}", line.concealed_ms());
    assert_eq!(line.session.total(line.now).lost, 0);
    line.session.report(line.now);
    line.talk(7, 200, 20);
    assert!(line.session.report(line.now).buffer_us <= 40_000);
}

#[test]
fn silence_with_comfort_noise_is_not_loss() {
    let mut line = Line::new();
    line.talk(1, 100, 20);
    for _ in 0..50 {
        // 10 s of PT 13, one each 200 ms.
        let header = Header { payload_type: 13, ..line.header };
        assert_eq!(line.put(header, &[70]), Ok(Received::Media(Inserted::Stored)));
        line.header.sequence = line.header.sequence.wrapping_add(1);
        line.header.timestamp = line.header.timestamp.wrapping_add(1_600);
        line.listen(200);
    }
    let silent = &line.heard[line.heard.len() - 900..];
    assert!(silent.iter().all(|heard| *heard == Heard::Comfort));
    assert!(line.now.since(line.session.heard_us().unwrap()) <= Duration::from_millis(200));
    // Then speech, with a leap.
    line.header.timestamp = line.header.timestamp.wrapping_add(77_777);
    let from = line.heard.len();
    line.talk(2, 100, 20);
    assert!(line.until(from, 2) <= 100);
    let report = line.session.total(line.now);
    assert_eq!((report.lost, report.concealed_ms), (0, 0));
}

#[test]
fn a_pause_without_packets_is_not_loss() {
    let mut line = Line::new();
    line.talk(1, 100, 20);
    // Time stamps go on during the pause (DTX), then not (a sender that stops its clock).
    line.listen(3_000);
    line.header.timestamp = line.header.timestamp.wrapping_add(3_000 * 8);
    let from = line.heard.len();
    line.talk(2, 100, 20);
    assert!(line.until(from, 2) <= 100);
    line.listen(3_000);
    let from = line.heard.len();
    line.talk(3, 100, 20);
    assert!(line.until(from, 3) <= 100);
    assert_eq!(line.concealed_ms(), 0);
    line.session.report(line.now);
    line.talk(3, 100, 20);
    assert!(line.session.report(line.now).buffer_us <= 50_000);
}

#[test]
fn the_codec_may_change_without_an_offer() {
    let mut line = Line::new();
    line.talk(1, 100, 20);
    line.header.payload_type = 0;
    let from = line.heard.len();
    line.talk(2, 100, 20);
    assert!(line.until(from, 2) <= 100);
    // To Opus, with another clock.
    line.header.payload_type = 107;
    for _ in 0..100 {
        // Hybrid full band, 20 ms, one frame.
        line.put(line.header, &[15 << 3; 60]).unwrap();
        line.header.sequence = line.header.sequence.wrapping_add(1);
        line.header.timestamp = line.header.timestamp.wrapping_add(960);
        line.listen(20);
    }
    assert!(line.heard.ends_with(&[Heard::Voice(120); 150]));
    assert_eq!(line.concealed_ms(), 0);
    assert_eq!(line.put(Header { payload_type: 99, ..line.header }, &[1]), Err(Refused::PayloadType(99)));
}

#[test]
fn a_stream_that_begins_again_with_the_same_source_is_followed() {
    let mut line = Line::new();
    line.talk(1, 100, 20);
    line.header.sequence = 20_000;
    line.header.timestamp = 1;
    let from = line.heard.len();
    line.talk(2, 100, 20);
    assert!(line.until(from, 2) <= 100);
    assert_eq!(line.session.total(line.now).lost, 0);
}

/// Flow 10: keys, with their sequence numbers in between the voice.
#[test]
fn keys_are_told_and_leave_no_hole_in_the_voice() {
    let mut line = Line::new();
    line.talk(1, 100, 20);
    for (digit, ends) in [(5, 3_u32), (5, 0)] {
        let start = line.header.timestamp;
        for i in 1..=5 + ends {
            let payload = telephone_event::Payload {
                event: digit,
                end: i > 5,
                volume: 10,
                duration: (i.min(6) * 160) as u16,
            };
            let header = Header { payload_type: 101, timestamp: start, ..line.header };
            assert_eq!(line.put(header, &payload.write()), Ok(Received::Event));
            line.header.sequence = line.header.sequence.wrapping_add(1);
            line.header.timestamp = line.header.timestamp.wrapping_add(160);
            line.listen(20);
        }
        // The voice comes back 50 ms later.
        line.listen(50);
        line.header.timestamp = line.header.timestamp.wrapping_add(400);
        line.talk(2, 20, 20);
    }
    let five = Digit::from_char('5').unwrap();
    let keys: Vec<_> = line.events.iter().filter(|event| matches!(event, Event::Key(_))).collect();
    let pressed = Event::Key(telephone_event::Event::Pressed(five));
    let released = |duration_ms| Event::Key(telephone_event::Event::Released { digit: five, duration_ms });
    assert_eq!(keys, [&pressed, &released(120), &pressed, &released(100)]);
    let report = line.session.total(line.now);
    assert_eq!((report.lost, report.concealed_ms), (0, 0));
}

#[test]
fn keys_are_sent_in_place_of_voice() {
    let mut line = Line::new();
    let mut out = [0; 256];
    assert!(line.session.press(Digit::from_char('#').unwrap(), 60));
    let mut sent = Vec::new();
    for _ in 0..8 {
        let length = match line.session.send_event(line.now, (101, 8000), 960, 48_000, &mut out) {
            Some(length) => length,
            None => line.session.send(line.now, 107, 48_000, 960, &[0xf8; 40], &mut out).unwrap(),
        };
        let packet = Packet::parse(&out[..length]).unwrap();
        sent.push((packet.header.payload_type, packet.header.sequence, packet.header.timestamp));
        line.listen(20);
    }
    let types: Vec<u8> = sent.iter().map(|packet| packet.0).collect();
    assert_eq!(types, [101, 101, 101, 101, 101, 107, 107, 107]);
    assert!(sent.windows(2).all(|pair| pair[1].1 == pair[0].1.wrapping_add(1)), "one sequence for both");
    assert!(sent[..5].iter().all(|packet| packet.2 == sent[0].2));
    assert_eq!(sent[5].2, sent[0].2.wrapping_add(5 * 960), "the voice's clock ran on");
}

/// Flow 11 on the level of a session; the roll-over cases are with [`super::super::srtp`].
#[test]
fn an_encrypted_call_survives_new_keys_and_addresses() {
    for profile in Profile::ALL {
        let key = |n| Keys::random(profile, &mut Chance::from_number(n));
        let pair = |ours, theirs| Some(KeyPair { ours: key(ours), theirs: key(theirs) });
        let start = Now { mono_us: 1_000_000, utc_us: 1_700_000_000_000_000 };
        let mut now = start;
        let with = |keys, peer: &str| Plan { keys, ..plan(peer) };
        let mut a =
            Session::new(start, Settings::default(), with(pair(1, 2), "192.0.2.2:2"), Chance::from_number(1))
                .unwrap();
        let mut b =
            Session::new(start, Settings::default(), with(pair(2, 1), "192.0.2.1:1"), Chance::from_number(2))
                .unwrap();
        let mut bytes = [0; 300];
        let mut heard = |a: &mut Session, b: &mut Session, from: &str, packets: u32| {
            (0..packets)
                .filter(|_| {
                    now = now.plus(Duration::from_millis(20));
                    let length = a.send(now, 8, 8000, 160, &[0xd5; 160], &mut bytes).unwrap();
                    b.receive(now, at(from), &mut bytes[..length]).is_ok()
                })
                .count()
        };
        assert_eq!(heard(&mut a, &mut b, "192.0.2.1:1", 66_000), 66_000);
        // The same keys at the same address, as after a re-INVITE.
        a.update(start, with(pair(1, 2), "192.0.2.2:2")).unwrap();
        b.update(start, with(pair(2, 1), "192.0.2.1:1")).unwrap();
        assert_eq!(heard(&mut a, &mut b, "192.0.2.1:1", 10), 10);
        // A new key for the same source: what is under way with the old one is heard, too.
        let ssrc = a.ssrc();
        b.update(start, with(pair(2, 3), "192.0.2.1:1")).unwrap();
        assert_eq!(heard(&mut a, &mut b, "192.0.2.1:1", 10), 10);
        a.update(start, with(pair(3, 2), "192.0.2.2:2")).unwrap();
        assert_ne!(a.ssrc(), ssrc, "the sequence numbers have turned over");
        assert_eq!(heard(&mut a, &mut b, "192.0.2.1:1", 10), 10);
        // A new address and a new key.
        a.update(start, with(pair(4, 2), "192.0.2.3:2")).unwrap();
        b.update(start, with(pair(2, 4), "192.0.2.9:1")).unwrap();
        assert_eq!(heard(&mut a, &mut b, "192.0.2.9:1", 10), 10);
        // A forger with another key is not heard, an authenticated move is.
        let mut forger =
            Session::new(start, Settings::default(), with(pair(9, 9), "192.0.2.3:2"), Chance::from_number(3))
                .unwrap();
        assert_eq!(heard(&mut forger, &mut b, "192.0.2.9:1", 10), 0);
        assert_eq!(heard(&mut a, &mut b, "203.0.113.5:9", 10), 10);
        assert_eq!(b.destination(), Some(at("203.0.113.5:9")));
        assert_eq!(b.total(start).refused, 10);
    }
}

/// A plan with the keys of these numbers.
fn encrypted(ours: u64, theirs: u64, peer: &str) -> Plan {
    let key = |number| Keys::random(Profile::AesCm128HmacSha1_80, &mut Chance::from_number(number));
    Plan { keys: Some(KeyPair { ours: key(ours), theirs: key(theirs) }), ..plan(peer) }
}

fn opened(plan: Plan, number: u64) -> Session {
    Session::new(Line::new().now, Settings::default(), plan, Chance::from_number(number)).unwrap()
}

fn speak(session: &mut Session, packets: u32) -> Vec<Vec<u8>> {
    let now = Line::new().now;
    let mut bytes = [0; 300];
    (0..packets)
        .map(|_| {
            let length = session.send(now, 8, 8000, 160, &[0xd5; 160], &mut bytes).unwrap();
            bytes[..length].to_vec()
        })
        .collect()
}

#[test]
fn what_is_under_way_from_the_party_that_left_does_not_turn_our_voice_back_to_it() {
    let now = Line::new().now;
    let mut ours = opened(encrypted(1, 2, "192.0.2.1:4000"), 1);
    let mut left = opened(encrypted(2, 1, "192.0.2.7:9000"), 2);
    let mut comes = opened(encrypted(4, 3, "192.0.2.7:9000"), 3);
    let take = |ours: &mut Session, from: &str, sent: Vec<Vec<u8>>| -> Vec<Refused> {
        sent.into_iter().filter_map(|mut bytes| ours.receive(now, at(from), &mut bytes).err()).collect()
    };
    assert_eq!(take(&mut ours, "192.0.2.1:4000", speak(&mut left, 10)), []);
    let under_way = speak(&mut left, 5);
    ours.update(now, encrypted(3, 4, "198.51.100.50:6000")).unwrap();
    assert_eq!(take(&mut ours, "192.0.2.1:4000", under_way), [Refused::Source; 5]);
    assert_eq!(ours.destination(), Some(at("198.51.100.50:6000")));
    assert_eq!(take(&mut ours, "198.51.100.50:6000", speak(&mut comes, 5)), []);
}

#[test]
fn a_new_key_is_heard_also_by_who_forgets_the_roll_over_counter_with_the_old_one() {
    let now = Line::new().now;
    for (packets, same_source) in [(100, true), (66_000, false)] {
        let mut ours = opened(encrypted(1, 2, PEER), 1);
        speak(&mut ours, packets);
        let ssrc = ours.ssrc();
        ours.update(now, encrypted(3, 2, PEER)).unwrap();
        assert_eq!(ours.ssrc() == ssrc, same_source, "after {packets} packets");
        let mut anew = opened(encrypted(2, 3, "192.0.2.7:9000"), 2);
        let heard = speak(&mut ours, 10)
            .into_iter()
            .filter(|bytes| anew.receive(now, at("192.0.2.7:9000"), &mut bytes.clone()).is_ok());
        assert_eq!(heard.count(), 10, "after {packets} packets");
    }
}

#[test]
fn a_third_party_is_not_heard() {
    let mut line = Line::new();
    line.talk(1, 50, 20);
    let mut bytes = [0; 200];
    let length = Header { ssrc: 99, ..line.header }.write(&[9; 160], &mut bytes).unwrap();
    for _ in 0..50 {
        let result = line.session.receive(line.now, at("198.51.100.1:4000"), &mut bytes[..length]);
        assert_eq!(result, Err(Refused::Source));
        line.talk(1, 1, 20);
    }
    assert_eq!(line.session.destination(), Some(at(PEER)));
    assert!(!line.heard.contains(&Heard::Voice(9)));
    assert_eq!(line.session.total(line.now).refused, 50);
    let mut bye = [0x81, 203, 0, 1, 0, 0, 0, 77];
    assert_eq!(line.session.receive(line.now, at("198.51.100.1:4001"), &mut bye), Err(Refused::Source));
    assert_eq!(line.session.receive(line.now, at("192.0.2.1:4001"), &mut bye), Ok(Received::Rtcp));
    assert_eq!(line.session.poll_event(), Some(Event::Goodbye));
}

#[test]
fn reports_go_both_ways_and_give_the_round_trip() {
    let mut now = Now { mono_us: 1_000_000, utc_us: 1_700_000_000_000_000 };
    let with = |peer: &str| Plan { voip_metrics: true, ..plan(peer) };
    let mut a = Session::new(now, Settings::default(), with("192.0.2.2:2"), Chance::from_number(1)).unwrap();
    let mut b = Session::new(now, Settings::default(), with("192.0.2.1:1"), Chance::from_number(2)).unwrap();
    let (a_at, b_at) = (at("192.0.2.1:1"), at("192.0.2.2:2"));
    let mut bytes = [0; 512];
    // (arrival, to b, bytes)
    let mut wire: Vec<(u64, bool, Vec<u8>)> = Vec::new();
    let mut reports = 0;
    for tick in 0..3_000_u32 {
        now = now.plus(Duration::from_millis(10));
        let (due, later): (Vec<_>, Vec<_>) = wire.into_iter().partition(|(when, ..)| *when <= now.mono_us);
        wire = later;
        for (_, to_b, mut datagram) in due {
            let (to, from) = if to_b { (&mut b, a_at) } else { (&mut a, b_at) };
            to.receive(now, from, &mut datagram).unwrap();
        }
        for (session, to_b) in [(&mut a, true), (&mut b, false)] {
            // 40 ms there, 60 ms back; every 50th packet of a is lost.
            let arrives = now.mono_us + if to_b { 40_000 } else { 60_000 };
            if tick % 2 == 0 {
                let length = session.send(now, 8, 8000, 160, &[0xd5; 160], &mut bytes).unwrap();
                if !to_b || tick % 100 != 50 {
                    wire.push((arrives, to_b, bytes[..length].to_vec()));
                }
            }
            if let Some(length) = session.poll_rtcp(now, &mut bytes) {
                assert!(is_rtcp(&bytes[..length]));
                wire.push((arrives, to_b, bytes[..length].to_vec()));
                reports += 1;
            }
        }
        b.pull(now, 0);
        b.pull(now, 0);
    }
    assert!((8..=24).contains(&reports), "{reports} reports in 30 s");
    let round_trip = a.total(now).round_trip_us.unwrap();
    assert!((99_000..=112_000).contains(&round_trip), "{round_trip}");
    let far_end = a.total(now).far_end.unwrap();
    assert!((15..=30).contains(&far_end.lost) && far_end.fraction_lost > 0, "{far_end:?}");
    assert!((1.5..2.5).contains(&b.total(now).loss_percent));
    assert!(a.peer_metrics().unwrap().loss_rate > 0);
    let length = a.goodbye(now, &mut bytes).unwrap();
    b.receive(now, a_at, &mut bytes[..length]).unwrap();
    assert!(std::iter::from_fn(|| b.poll_event()).any(|event| event == Event::Goodbye));
}

/// Lets time pass until a report is due, and returns it.
fn next_report(line: &mut Line) -> Vec<u8> {
    let mut bytes = [0; 512];
    loop {
        if let Some(length) = line.session.poll_rtcp(line.now, &mut bytes) {
            return bytes[..length].to_vec();
        }
        line.listen(10);
    }
}

#[test]
fn who_has_not_sent_since_the_report_before_the_last_reports_as_a_receiver() {
    const SENDER: u8 = 200;
    const RECEIVER: u8 = 201;
    let mut line = Line::new();
    let mut types = Vec::new();
    for sends in [false, true, false, false, false, true] {
        if sends {
            line.session.send(line.now, 8, 8000, 160, &[0; 160], &mut [0; 256]).unwrap();
        }
        types.push(next_report(&mut line)[1]);
    }
    assert_eq!(types, [RECEIVER, SENDER, SENDER, RECEIVER, RECEIVER, SENDER]);
}

#[test]
fn packets_that_came_late_are_a_share_of_all_that_were_expected() {
    let mut line = Line::with(Plan { voip_metrics: true, ..plan(PEER) });
    for _ in 0..200 {
        line.talk(1, 4, 20);
        let late = Header {
            sequence: line.header.sequence.wrapping_sub(40),
            timestamp: line.header.timestamp.wrapping_sub(40 * 160),
            ..line.header
        };
        line.put(late, &[1; 160]).unwrap();
    }
    line.header = Header { ssrc: 78, sequence: 9, timestamp: 5, ..line.header };
    line.talk(2, 100, 20);
    let report = next_report(&mut line);
    let metrics = rtcp::read(&report).unwrap().find_map(|item| match item {
        Item::Voip { metrics, .. } => Some(metrics),
        _ => None,
    });
    let (late, expected) = (line.session.total(line.now).discarded, line.session.totals(line.now).expected);
    assert!(late > 150 && expected > 850, "{late} of {expected}");
    assert_eq!(u64::from(metrics.unwrap().discard_rate), late * 256 / expected);
}

#[test]
fn a_collision_of_sources_changes_ours_once() {
    let mut line = Line::new();
    let ssrc = line.session.ssrc();
    line.header.ssrc = ssrc;
    line.talk(1, 2, 20);
    let changed = line.session.ssrc();
    assert_ne!(changed, ssrc);
    // An echo that returns everything must not make us change again and again.
    line.header.ssrc = changed;
    line.talk(2, 50, 20);
    assert_eq!(line.session.ssrc(), changed);
    assert!(line.heard.contains(&Heard::Voice(2)));
}

#[test]
fn the_length_of_opus_packets_is_read_from_their_first_bytes() {
    assert_eq!(Length::Opus.units(&[]), 0);
    assert_eq!(Length::Opus.units(&[0 << 3]), 480); // SILK 10 ms
    assert_eq!(Length::Opus.units(&[3 << 3]), 2880); // SILK 60 ms
    assert_eq!(Length::Opus.units(&[9 << 3 | 1]), 1920); // SILK 20 ms, twice
    assert_eq!(Length::Opus.units(&[13 << 3]), 960); // hybrid 20 ms
    assert_eq!(Length::Opus.units(&[31 << 3]), 960); // CELT 20 ms
    assert_eq!(Length::Opus.units(&[28 << 3]), 120); // CELT 2.5 ms
    assert_eq!(Length::Opus.units(&[31 << 3 | 3, 3]), 2880);
    assert_eq!(Length::Opus.units(&[31 << 3 | 3, 63]), 0, "more than 120 ms");
    assert_eq!(Length::Opus.units(&[31 << 3 | 3]), 0);
}

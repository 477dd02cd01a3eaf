//! The parsers of RTP, and the machines behind them fed with whatever the parsers let through.

use super::Target;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;
use tipring::chance::Chance;
use tipring::now::Now;
use tipring::rtp::dtls::{self, Association, Fingerprint, Identity, Role};
use tipring::rtp::jitter::{Arrival, JitterBuffer, Kind, PERIOD_US};
use tipring::rtp::latch::Expectation;
use tipring::rtp::packet::{MAX_PACKET, Packet, is_rtcp};
use tipring::rtp::rtcp::{self, Item, Writer};
use tipring::rtp::session::Settings;
use tipring::rtp::srtp::{Keys, Profile, Unprotector};
use tipring::rtp::telephone_event::{Event, Receiver};
use tipring::rtp::{Format, Impairment, Length, Media, Plan, Pull, Session};

pub const TARGETS: &[Target] = &[
    Target { name: "rtp_packet", run: packet, seeds: PACKETS, dictionary: WORDS },
    Target { name: "rtp_rtcp", run: control, seeds: COMPOUNDS, dictionary: WORDS },
    Target { name: "rtp_telephone_event", run: telephone_event, seeds: STEPS, dictionary: WORDS },
    Target { name: "rtp_dtls", run: dtls, seeds: HANDSHAKES, dictionary: WORDS },
    Target { name: "rtp_srtp", run: srtp, seeds: PACKETS, dictionary: WORDS },
    Target { name: "rtp_jitter", run: jitter, seeds: STEPS, dictionary: WORDS },
    Target { name: "rtp_session", run: session, seeds: COMPOUNDS, dictionary: WORDS },
];

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(std::time::Instant::now()).expect("a certificate"));

/// The input alone, then a real handshake of which it spoils datagrams: whoever gets keys shares them with the other
/// one, and nobody sends without end.
fn dtls(octets: &[u8]) {
    let address = |n: u8| SocketAddr::from(([192, 0, 2, n], 4000));
    let mut now = Now { mono_us: 1, utc_us: 0 };
    let fingerprints = || vec![Fingerprint::Sha256(IDENTITY.fingerprint())];
    let mut sides =
        [Role::Client, Role::Server].map(|role| Association::new(now, &IDENTITY, role, fingerprints()));
    sides[0].set_destination(now, Some(address(1)));
    for side in &mut sides {
        side.handle(now, address(7), false, octets);
    }
    let mut edits = octets.chunks_exact(4);
    let mut sent = 0;
    let mut keys = [None, None];
    for _ in 0..40 {
        for n in 0..2 {
            while let Some((_, mut datagram)) = sides[n].poll_transmit() {
                sent += 1;
                let edit = edits.next().unwrap_or(&[0; 4]);
                let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % datagram.len().max(1);
                match edit[0] % 8 {
                    1 => datagram[at] ^= edit[3].max(1),
                    2 => datagram.truncate(at),
                    3 => datagram.clear(),
                    4 => sides[1 - n].handle(now, address(n as u8), true, &datagram),
                    5 => datagram.extend_from_slice(octets),
                    _ => {}
                }
                sides[1 - n].handle(now, address(n as u8), edit[0] < 128, &datagram);
            }
            if let Some(dtls::Event::Ready { keys: ready, .. }) = sides[n].poll_event() {
                keys[n] = Some(ready);
            }
        }
        now = now.plus(Duration::from_millis(300));
        sides.iter_mut().for_each(|side| side.handle_timeout(now));
    }
    assert!(sent < 600, "{sent} datagrams");
    if let [Some(ours), Some(theirs)] = keys {
        assert!(ours.ours == theirs.theirs && ours.theirs == theirs.ours);
    }
}

/// Header and payload are written and read back as they were.
fn packet(octets: &[u8]) {
    let Ok(packet) = Packet::parse(octets) else { return };
    assert!(packet.payload.len() + packet.csrc.len() + 12 <= octets.len());
    assert!(packet.header.payload_type < 128 && !is_rtcp(octets));
    let mut out = [0; MAX_PACKET];
    let length = packet.header.write(packet.payload, &mut out).expect("it came in a packet");
    let again = Packet::parse(&out[..length]).expect("it is a packet");
    assert_eq!((again.header, again.payload), (packet.header, packet.payload));
}

/// Every packet of a compound is at least four octets, and what is understood is written and read back.
fn control(octets: &[u8]) {
    let Ok(compound) = rtcp::read(octets) else { return };
    let mut count = 0;
    for item in compound {
        count += 1;
        let mut out = [0; 1024];
        let mut writer = Writer::new(&mut out);
        match item {
            Item::SenderReport { ssrc, info, receptions } => {
                let receptions: Vec<_> = receptions.collect();
                assert!(receptions.len() < 32);
                writer.report(ssrc, Some(info), &receptions);
            }
            Item::ReceiverReport { ssrc, receptions } => {
                writer.report(ssrc, None, &receptions.collect::<Vec<_>>());
            }
            Item::Voip { ssrc, metrics } => {
                writer.voip(ssrc, &metrics);
            }
            Item::Bye { ssrc, .. } => {
                writer.bye(ssrc);
            }
            Item::Cname { .. } | Item::Other { .. } => continue,
        }
        let length = writer.finish().expect("the buffer holds 31 receptions");
        let again = rtcp::read(&out[..length]).expect("it was written").next();
        match (again, item) {
            (Some(Item::Bye { ssrc: a, .. }), Item::Bye { ssrc: b, .. }) => assert_eq!(a, b),
            (again, item) => assert_eq!(format!("{again:?}"), format!("{:?}", Some(item))),
        }
    }
    assert!(count <= octets.len() / 4);
}

/// A key that was pressed is released before the next one is pressed.
fn telephone_event(octets: &[u8]) {
    let mut receiver = Receiver::default();
    let (mut now, mut down) = (0, None);
    let mut drain = |receiver: &mut Receiver| {
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Pressed(digit) => assert_eq!(down.replace(digit), None),
                Event::Released { digit, .. } => assert_eq!(down.take(), Some(digit)),
            }
        }
    };
    for step in octets.chunks(8) {
        let [wait, t0, t1, t2, payload @ ..] = step else { break };
        now += u64::from(*wait) * 1000;
        receiver.handle_timeout(now);
        drain(&mut receiver);
        receiver.handle_packet(now, u32::from_be_bytes([0, *t0, *t1, *t2]), 8000, payload);
        drain(&mut receiver);
    }
    receiver.handle_timeout(u64::MAX);
    drain(&mut receiver);
    assert_eq!(down, None);
}

/// Nobody without the key gets anything through.
fn srtp(octets: &[u8]) {
    for profile in Profile::ALL {
        let keys = Keys::random(profile, &mut Chance::from_number(1));
        let mut unprotector = Unprotector::new(keys).expect("the profile is there");
        let mut bytes = octets.to_vec();
        assert!(unprotector.unprotect(&mut bytes).is_err());
        assert!(unprotector.unprotect_rtcp(&mut bytes).is_err());
        assert_eq!(bytes, octets, "what is refused is left alone");
    }
}

/// Whatever comes, a period is filled with a bounded number of pulls, and what waits is bounded.
fn jitter(octets: &[u8]) {
    let mut buffer = JitterBuffer::new(tipring::rtp::jitter::Settings::default());
    let mut now = 1_000_000;
    for step in octets.chunks_exact(8) {
        let [wait, flags, s0, s1, t0, t1, t2, length] = *step else { break };
        buffer.insert(&Arrival {
            at_us: now,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([flags, t0, t1, t2]),
            clock_rate: if flags & 1 == 0 { 8_000 } else { 48_000 },
            duration: u32::from(length) * 16,
            payload_type: flags & 0x7f,
            kind: if flags & 2 == 0 { Kind::Voice { redundant: flags & 4 != 0 } } else { Kind::Noise },
            payload: step,
        });
        if flags & 8 != 0 {
            buffer.insert_other(u16::from_be_bytes([s1, s0]));
        }
        for _ in 0..wait / 64 {
            let (mut queued, mut pulls) = (0, 0);
            while queued < PERIOD_US {
                pulls += 1;
                assert!(pulls < 100, "a period is not filled");
                queued += match buffer.pull(now, queued) {
                    Pull::Packet { duration_us, skip_us, .. } | Pull::Fec { duration_us, skip_us, .. } => {
                        u64::from(duration_us.checked_sub(skip_us).expect("no more is skipped than there is"))
                    }
                    Pull::Conceal { duration_us } | Pull::Comfort { duration_us, .. } => {
                        u64::from(duration_us)
                    }
                    Pull::Nothing => PERIOD_US,
                };
                buffer.rate(now, queued);
            }
            now += PERIOD_US;
        }
    }
    assert!(buffer.target_us() <= buffer.ceiling_us() + 120_000);
}

/// A session takes in datagrams, each with an octet in front that says how long it is and from whom.
fn session(octets: &[u8]) {
    let mut now = Now { mono_us: 1_000_000, utc_us: 1_700_000_000_000_000 };
    let media: SocketAddr = SocketAddr::from(([192, 0, 2, 1], 4000));
    let stranger: SocketAddr = SocketAddr::from(([198, 51, 100, 1], 4000));
    let voice = |length| Media::Voice { length, redundant: true, impairment: Impairment::OPUS };
    let plan = Plan {
        expected: Expectation { media: Some(media), signalling: None, symmetric: true },
        formats: vec![
            Format { payload_type: 0, clock_rate: 8_000, media: voice(Length::Bytes) },
            Format { payload_type: 107, clock_rate: 48_000, media: voice(Length::Opus) },
            Format { payload_type: 13, clock_rate: 8_000, media: Media::Noise },
            Format { payload_type: 101, clock_rate: 8_000, media: Media::Events },
        ],
        voip_metrics: true,
        ..Plan::default()
    };
    let mut session =
        Session::new(now, Settings::default(), plan, Chance::from_number(1)).expect("there are no keys");
    let mut rest = octets;
    let mut out = [0; MAX_PACKET];
    while let [first, after @ ..] = rest {
        let length = usize::from(first >> 1).min(after.len());
        let (datagram, next) = after.split_at(length);
        let from = if first & 1 == 0 { media } else { stranger };
        let _ = session.receive(now, from, &mut datagram.to_vec());
        while session.poll_event().is_some() {}
        now = now.plus(Duration::from_millis(10));
        session.handle_timeout(now);
        session.pull(now, 0);
        session.rate(now, PERIOD_US);
        if let Some(length) = session.poll_rtcp(now, &mut out) {
            assert!(rtcp::read(&out[..length]).is_ok());
        }
        rest = next;
    }
    // What came as one datagram is tried as that, too.
    let _ = session.receive(now, media, &mut octets.to_vec());
    let report = session.total(now);
    assert!(
        (0.0..=100.0).contains(&report.loss_percent) && (0.0..=100.0).contains(&report.concealed_percent)
    );
    assert!(report.rating.is_none_or(|rating| (1.0..=4.5).contains(&rating.mos)));
}

const PACKETS: &[&[u8]] = &[
    b"\x80\x00\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xb2\xe5\xff\xff\xff\xff\xff\xff\x00\x00\x00\x07aaaabbbb\xbe\xde\x00\x01\x10\xaa\x00\x00payload\x00\x02",
    b"\x80\xc9\x00\x01\x00\x00\x00\x07\x80\x00\x00\x01aaaaaaaaaa",
    b"\x80\xcb\x00\x01\x00\x00\x00\x07\x00\x00\x00\x01aaaaaaaaaa",
];

const COMPOUNDS: &[&[u8]] = &[
    b"\x81\xc8\x00\x0c\x00\x00\x00\x07\xe0\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\xa0\x00\x00\x00\x01\x00\x00\x00\xa0\
      \x00\x00\x00\x09\x10\xff\xff\xfe\x00\x01\x00\x03\x00\x00\x00\x50\x12\x34\x56\x78\x00\x01\x00\x00\
      \x81\xca\x00\x03\x00\x00\x00\x07\x01\x04name\x00\x00\x81\xcb\x00\x02\x00\x00\x00\x07\x03end",
    b"\x80\xc9\x00\x01\x00\x00\x00\x07\x80\xcf\x00\x0a\x00\x00\x00\x07\x07\x00\x00\x08\x00\x00\x00\x09\
      \x01\x02\x03\x04\x00\x05\x00\x06\x00\x07\x00\x08\x7f\x7f\x7f\x10\x5d\x7f\x2c\x2b\xb0\x00\x00\x28\x00\x5a\x01\x90",
    b"\x20\x80\x65\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x07\x05\x0a\x00\xa0\
      \x20\x80\x00\x00\x02\x00\x00\x01\x40\x00\x00\x00\x07\xff\xff\xff\xff\
      \x1a\x80\x0d\x00\x03\x00\x00\x01\x40\x00\x00\x00\x07\x46\
      \x1e\x80\x6b\x00\x04\x00\x00\x01\x40\x00\x00\x00\x08\x78\x00\x01",
];

const HANDSHAKES: &[&[u8]] = &[
    &[0; 16],
    &[1, 0, 20, 255, 0, 0, 0, 0, 1, 0, 70, 1, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0],
    &[2, 0, 60, 0, 2, 0, 30, 0, 1, 1, 0, 9, 1, 2, 0, 9, 200, 0, 0, 0, 3, 0, 0, 0],
    b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x10\x01\0\0\x04\0\0\0\0\0\0\0\x04abcd\x15\xfe\xfd\0\0\0\0\0\0\0\x01\0\x02\x02\x28",
    b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x20\x0b\0\x20\0\0\x02\0\0\x10\0\0\x14abcdefghijklmnopqrst\x14\xfe\xfd\0\0\0\0\0\0\0\x02\0\x01\x01",
];

const STEPS: &[&[u8]] = &[
    b"\xff\x00\x00\x01\x00\x00\x00\x0a\xff\x00\x00\x02\x00\x00\xa0\x0a\xff\x00\x00\x03\x00\x01\x40\x0a",
    b"\x14\x00\x00\x01\x05\x0a\x00\xa0\x14\x00\x00\x01\x05\x0a\x01\x40\x14\x00\x00\x01\x05\x8a\x01\x40",
    b"\x40\x04\xff\xff\xff\xff\xff\x14\x80\x06\x00\x00\x00\x00\x00\x00\xff\x01\x00\x01\x80\x00\x00\x14",
];

const WORDS: &[&[u8]] = &[
    b"\x80\xc8",
    b"\x80\xc9",
    b"\x81\xca",
    b"\x81\xcb",
    b"\x80\xcf",
    b"\x9f",
    b"\xa0",
    b"\xb0",
    b"\xff\xff",
    b"\x00\x00\x00\x07",
    b"\x07\x00\x00\x08",
    b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff",
];

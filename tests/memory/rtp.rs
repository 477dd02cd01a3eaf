//! Plain RTP takes no memory once a session stands: a counting allocator watches a call with loss, jitter, silence,
//! keys, a change of the source and control packets.

use std::net::SocketAddr;
use std::time::Duration;

use crate::allocations_so_far;
use tipring::chance::Chance;
use tipring::now::Now;
use tipring::rtp::latch::Expectation;
use tipring::rtp::packet::Header;
use tipring::rtp::session::{KeyPair, Settings};
use tipring::rtp::srtp::{Keys, Profile};
use tipring::rtp::telephone_event::Digit;
use tipring::rtp::{Format, Impairment, Length, Media, Plan, Pull, Session};

fn plan(keys: Option<KeyPair>) -> Plan {
    let voice = Media::Voice { length: Length::Bytes, redundant: false, impairment: Impairment::G711 };
    Plan {
        expected: Expectation {
            media: Some("192.0.2.1:4000".parse().unwrap()),
            signalling: None,
            symmetric: true,
        },
        formats: vec![
            Format { payload_type: 8, clock_rate: 8000, media: voice },
            Format { payload_type: 13, clock_rate: 8000, media: Media::Noise },
            Format { payload_type: 101, clock_rate: 8000, media: Media::Events },
        ],
        keys,
        voip_metrics: true,
        ..Plan::default()
    }
}

/// Allocations of a minute of call after its first second, and packets handled in it, in and out.
fn allocations_of_a_call(keys: Option<KeyPair>, peers: Option<KeyPair>) -> (u64, u64) {
    let mut now = Now { mono_us: 1_000_000, utc_us: 1_700_000_000_000_000 };
    let mut ours = Session::new(now, Settings::default(), plan(keys), Chance::from_number(1)).unwrap();
    let mut theirs = Session::new(now, Settings::default(), plan(peers), Chance::from_number(2)).unwrap();
    let mut chance = Chance::from_number(3);
    let from: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let (mut datagram, mut out) = ([0; 512], [0; 512]);
    let mut packets = 0;
    let mut before = 0;
    for tick in 0..6_100_u32 {
        if tick == 100 {
            before = allocations_so_far();
        }
        now = now.plus(Duration::from_millis(10));
        if tick % 1000 == 500 {
            theirs.press(Digit::from_char('5').unwrap(), 100);
            ours.press(Digit::from_char('6').unwrap(), 100);
        }
        if tick % 2 == 0 {
            let length = theirs
                .send_event(now, (101, 8000), 160, 8000, &mut datagram)
                .or_else(|| theirs.send(now, 8, 8000, 160, &[0xd5; 160], &mut datagram))
                .unwrap();
            let bytes = &mut datagram[..length];
            if !chance.happens(0.02) && ours.receive(now, from, bytes).is_ok() {
                packets += 1;
            }
            let length = ours
                .send_event(now, (101, 8000), 160, 8000, &mut out)
                .or_else(|| ours.send(now, 8, 8000, 160, &[0xd5; 160], &mut out));
            assert!(length.is_some());
            packets += 1;
        }
        if let Some(length) = theirs.poll_rtcp(now, &mut datagram) {
            ours.receive(now, from, &mut datagram[..length]).unwrap();
        }
        ours.handle_timeout(now);
        ours.poll_rtcp(now, &mut out);
        while ours.poll_event().is_some() {}
        let mut queued_us = 0;
        while queued_us < 10_000 {
            queued_us += match ours.pull(now, queued_us) {
                Pull::Packet { duration_us, .. } | Pull::Fec { duration_us, .. } => u64::from(duration_us),
                Pull::Conceal { duration_us } | Pull::Comfort { duration_us, .. } => u64::from(duration_us),
                Pull::Nothing => 10_000,
            };
            ours.rate(now, queued_us);
        }
        if tick % 500 == 0 {
            ours.report(now);
        }
        // A scanner, too.
        let stray = Header { payload_type: 8, ssrc: tick, ..Header::default() };
        let length = stray.write(&[0; 160], &mut datagram).unwrap();
        assert!(ours.receive(now, "198.51.100.7:9".parse().unwrap(), &mut datagram[..length]).is_err());
    }
    (allocations_so_far() - before, packets)
}

#[test]
fn plain_rtp_does_not_allocate() {
    let (allocations, packets) = allocations_of_a_call(None, None);
    assert!(packets > 5_900, "{packets}");
    assert_eq!(allocations, 0);
}

#[test]
fn srtp_allocates_a_bounded_number_of_times_per_packet() {
    for profile in Profile::ALL {
        let key = |n| Keys::random(profile, &mut Chance::from_number(n));
        let pair = |ours, theirs| Some(KeyPair { ours: key(ours), theirs: key(theirs) });
        let (allocations, packets) = allocations_of_a_call(pair(1, 2), pair(2, 1));
        // Three packets per turn are counted here: one in, one out, and the one that the peer made. The scanner's
        // packets make the context for unknown streams anew now and then.
        let per_packet = allocations as f64 / packets as f64;
        println!("{}: {per_packet:.2} allocations per packet", profile.as_str());
        assert!(per_packet < 10.0, "{}: {per_packet}", profile.as_str());
    }
}

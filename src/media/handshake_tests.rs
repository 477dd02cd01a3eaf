//! Two engines that shake hands before they talk.

use std::net::SocketAddr;
use std::sync::Arc;

use super::link::{LEG, Link, Path, address, plan};
use super::{Command, Component, Dtls, Engine, Event, Plan, Settings};
use crate::chance::Chance;
use crate::rtp::dtls::{Fingerprint, Identity, Role};

struct Secure {
    link: Link,
    identities: [Arc<Identity>; 2],
}

impl Secure {
    fn new() -> Secure {
        let mut link = Link::new(11);
        let identities = [0, 1].map(|_| Arc::new(Identity::of_a_test()));
        for (end, identity) in link.ends.iter_mut().zip(&identities) {
            let settings = Settings { identity: Some(identity.clone()), ..Settings::default() };
            end.engine = Engine::new(settings, Chance::from_number(5));
            end.keep_sent = true;
        }
        for end in 0..2 {
            link.device(end, 16_000, 0);
        }
        Secure { link, identities }
    }

    /// What an end agrees on; the first one begins.
    fn plan(&self, end: usize) -> Plan {
        let of_peer = self.identities[1 - end].fingerprint();
        let dtls = Dtls {
            role: if end == 0 { Role::Client } else { Role::Server },
            fingerprints: vec![Fingerprint::Sha256(of_peer)],
            association: 1,
        };
        Plan { dtls: Some(dtls), rtcp_mux: true, ..plan(end, "PCMA") }
    }

    fn events(&self, end: usize, is: impl Fn(&Event) -> bool) -> usize {
        self.link.ends[end].events.iter().filter(|event| is(event)).count()
    }

    fn secured(&self, end: usize) -> usize {
        self.events(end, |event| matches!(event, Event::Secured { .. }))
    }

    fn heard(&self, end: usize) -> usize {
        self.events(end, |event| matches!(event, Event::FirstPacket { .. }))
    }

    /// RTP packets that an end has sent so far.
    fn sent(&self, end: usize) -> impl Iterator<Item = &Vec<u8>> {
        self.link.ends[end].sent.iter().map(|sent| &sent.2).filter(|bytes| bytes[0] >> 6 == 2)
    }
}

/// A second of a tone at 16 kHz.
fn speech() -> Vec<i16> {
    (0..16_000).map(|n| ((f64::from(n) * 0.3).sin() * 8_000.0) as i16).collect()
}

fn is_loud(played: &[i16]) -> bool {
    let tail = &played[played.len().saturating_sub(8_000)..];
    tail.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 8_000.0 > 1e6
}

#[test]
fn audio_flows_both_ways_after_the_handshake_and_never_in_clear() {
    let mut secure = Secure::new();
    for end in 0..2 {
        secure.link.ends[end].speech = speech();
    }
    let plans = [secure.plan(0), secure.plan(1)];
    secure.link.call(plans);
    secure.link.run_ms(3_000);
    for end in 0..2 {
        assert_eq!((secure.secured(end), secure.heard(end)), (1, 1), "{:?}", secure.link.ends[end].events);
        assert!(is_loud(&secure.link.ends[end].played), "end {end} hears the other one");
        // 160 bytes of PCMA, a head and the tag of AES-GCM.
        let lengths: Vec<usize> =
            secure.sent(end).filter(|bytes| bytes[1] & 0x7f == 8).map(Vec::len).collect();
        assert!(lengths.len() > 100 && lengths.iter().all(|length| *length == 188), "{lengths:?}");
        assert!(secure.link.close(end).srtp);
    }
}

#[test]
fn nothing_leaves_and_nothing_is_believed_before_the_keys() {
    let mut secure = Secure::new();
    let plan = secure.plan(1);
    secure.link.call([Plan { direction: super::Direction::Inactive, ..self::plan(0, "PCMA") }, plan]);
    let mut packet = vec![0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    packet.extend([0x55; 160]);
    for n in 0..50 {
        let now_us = secure.link.now.mono_us + 1_000;
        secure.link.fly(now_us, 1, address(0, Component::Rtp), address(1, Component::Rtp), packet.clone());
        secure.link.run_ms(20);
        packet[3] = n;
    }
    secure.link.run_ms(5_000);
    assert_eq!((secure.heard(1), secure.sent(1).count()), (0, 0));
    let report = secure.link.close(1);
    assert_eq!((report.packets_received, report.srtp), (0, false));
    assert!(report.packets_refused >= 50, "also RTCP of the other end");
}

#[test]
fn a_bad_link_only_delays_the_first_word() {
    for seed in 0..8 {
        let mut secure = Secure::new();
        secure.link.paths =
            [Path { delay_us: 40_000, jitter_us: 15_000, reorders: true, loss: 0.1, doubles: 0.05 }; 2];
        let plans = [secure.plan(0), secure.plan(1)];
        secure.link.run_ms(seed);
        secure.link.call(plans);
        secure.link.run_ms(12_000);
        assert_eq!((secure.heard(0), secure.heard(1)), (1, 1), "seed {seed}");
    }
}

#[test]
fn a_far_end_behind_a_nat_is_found_by_its_handshake() {
    let mut secure = Secure::new();
    let mut told = secure.plan(1);
    // The client's SDP names an address that nobody can reach.
    let private: SocketAddr = "192.168.1.10:4000".parse().unwrap();
    told.remote = Some(super::Remote { rtp: private, rtcp: private });
    let plans = [secure.plan(0), told];
    secure.link.call(plans);
    secure.link.run_ms(3_000);
    assert_eq!((secure.heard(0), secure.heard(1)), (1, 1));
    let moved = |event: &Event| *event == Event::Latched { leg: LEG, remote: address(0, Component::Rtp) };
    assert_eq!(secure.events(1, moved), 1);
}

#[test]
fn a_later_agreement_keeps_the_keys_or_makes_new_ones() {
    let mut secure = Secure::new();
    let plans = [secure.plan(0), secure.plan(1)];
    secure.link.call(plans.clone());
    secure.link.run_ms(1_000);
    let source = |secure: &Secure, end: usize| secure.sent(end).last().unwrap()[8..12].to_vec();
    let before = source(&secure, 0);
    for (end, plan) in plans.iter().enumerate() {
        let plan = Plan { direction: super::Direction::SendRecv, ptime_ms: 40, ..plan.clone() };
        secure.link.order(end, Command::Update { leg: LEG, plan: Box::new(plan) });
    }
    secure.link.run_ms(1_000);
    assert_eq!((secure.secured(0), secure.secured(1)), (1, 1), "the same association");
    assert_eq!(source(&secure, 0), before);
    for (end, mut plan) in plans.into_iter().enumerate() {
        plan.dtls.as_mut().unwrap().association = 2;
        secure.link.order(end, Command::Update { leg: LEG, plan: Box::new(plan) });
    }
    secure.link.run_ms(1_000);
    assert_eq!((secure.secured(0), secure.secured(1)), (2, 2), "another one");
    assert_eq!(source(&secure, 0), before, "the stream goes on, its roll-over counter was 0");
    let received = |secure: &mut Secure| {
        secure.link.order(1, Command::Statistics { leg: LEG });
        secure.link.ends[1].events.iter().rev().find_map(|event| match event {
            Event::Quality { report, .. } => Some((report.packets_received, report.packets_refused)),
            _ => None,
        })
    };
    let (count, refused) = received(&mut secure).unwrap();
    secure.link.run_ms(1_000);
    let (later, still) = received(&mut secure).unwrap();
    assert!(later >= count + 45, "{count} {later}");
    assert_eq!(still, refused);
}

#[test]
fn a_certificate_that_was_not_promised_is_told_and_nothing_is_heard() {
    let mut secure = Secure::new();
    let mut wrong = secure.plan(0);
    wrong.dtls.as_mut().unwrap().fingerprints = vec![Fingerprint::Sha256([7; 32])];
    let right = secure.plan(1);
    secure.link.call([wrong, right]);
    secure.link.run_ms(40_000);
    let told: Vec<&String> = secure.link.ends[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Failed { why, .. } => Some(why),
            _ => None,
        })
        .collect();
    assert!(matches!(told.as_slice(), [why] if why.contains("fingerprint")), "{told:?}");
    assert_eq!((secure.heard(0), secure.sent(0).count()), (0, 0));
}

#[test]
fn a_leg_without_a_certificate_is_not_opened() {
    let mut secure = Secure::new();
    secure.link.ends[0].engine = Engine::new(Settings::default(), Chance::from_number(5));
    let plan = secure.plan(0);
    secure.link.order(0, Command::Open { leg: LEG, port: super::link::PORT, plan: Box::new(plan) });
    assert_eq!(secure.events(0, |event| matches!(event, Event::Failed { .. })), 1);
}

#[test]
fn a_handshake_that_begins_before_the_answer_is_here_is_not_lost() {
    let mut secure = Secure::new();
    let (client, server) = (secure.plan(0), secure.plan(1));
    let open = |plan: Plan| Command::Open { leg: LEG, port: super::link::PORT, plan: Box::new(plan) };
    secure.link.order(0, open(client));
    secure.link.run_ms(60);
    // Strangers on other ports, and too many of them, leave it alone.
    for n in 0..100 {
        let mut junk = [22, 0xfe, 0xfd, 0];
        let port = super::PortId(2 + n);
        secure.link.ends[1].engine.handle_packet(
            secure.link.now,
            port,
            Component::Rtp,
            address(0, Component::Rtp),
            &mut junk,
        );
    }
    secure.link.order(1, open(server));
    secure.link.run_ms(150);
    assert_eq!((secure.secured(0), secure.secured(1)), (1, 1), "before the first repetition");
}

#[test]
fn a_far_end_that_forgets_the_association_is_shaken_hands_with_again() {
    let mut secure = Secure::new();
    let plans = [secure.plan(0), secure.plan(1)];
    secure.link.call(plans.clone());
    secure.link.run_ms(1_000);
    // The server begins anew without a word, as if it had another memory.
    secure.link.order(1, Command::Close { leg: LEG });
    let update = Command::Update { leg: LEG, plan: Box::new(Plan { ptime_ms: 40, ..plans[0].clone() }) };
    secure.link.order(0, update);
    secure
        .link
        .order(1, Command::Open { leg: LEG, port: super::link::PORT, plan: Box::new(plans[1].clone()) });
    secure.link.order(1, Command::Place { leg: LEG, room: super::Room::Terminal });
    secure.link.run_ms(900);
    assert_eq!((secure.secured(0), secure.secured(1)), (2, 2));
    let before = secure.link.ends[0].events.len();
    secure.link.order(0, Command::Update { leg: LEG, plan: Box::new(plans[0].clone()) });
    secure.link.run_ms(2_000);
    assert_eq!(secure.secured(0), 2, "who is heard has not forgotten");
    assert!(secure.link.ends[0].events.len() >= before);
}

/// Both keep RTCP apart (RFC 5764 §4.1).
fn apart(secure: &Secure) -> [Plan; 2] {
    [0, 1].map(|end| Plan { rtcp_mux: false, ..secure.plan(end) })
}

#[test]
fn rtcp_on_a_port_of_its_own_has_keys_of_its_own() {
    let mut secure = Secure::new();
    let plans = apart(&secure);
    secure.link.call(plans);
    secure.link.run_ms(14_000);
    for end in 0..2 {
        assert_eq!((secure.secured(end), secure.heard(end)), (1, 1));
        let sent = &secure.link.ends[end].sent;
        let of = |component: Component| {
            let there = move |sent: &&(u64, Component, Vec<u8>)| sent.1 == component && sent.2[0] >> 6 == 2;
            sent.iter().filter(there).map(|sent| sent.2[1])
        };
        assert!(of(Component::Rtp).all(|kind| kind & 0x7f == 8), "no report beside the audio");
        assert!(
            of(Component::Rtcp).count() >= 2 && of(Component::Rtcp).all(|kind| (200..=207).contains(&kind))
        );
        let report = secure.link.close(end);
        assert!(report.rtcp_received >= 1, "{report:?}");
        assert_eq!((report.rtcp_fault, report.remote_loss_percent), (None, Some(0.0)));
        assert!(report.rtt_ms.is_some_and(|ms| (19.0..22.0).contains(&ms)), "{:?}", report.rtt_ms);
    }
}

#[test]
fn without_a_handshake_for_rtcp_audio_goes_on() {
    let mut secure = Secure::new();
    let mut plans = apart(&secure);
    for plan in &mut plans {
        plan.remote.as_mut().unwrap().rtcp.set_port(5_999);
    }
    secure.link.ends[0].speech = speech();
    secure.link.call(plans);
    secure.link.run_ms(32_000);
    assert!(is_loud(&secure.link.ends[1].played), "the audio goes on");
    for end in 0..2 {
        assert_eq!((secure.secured(end), secure.heard(end)), (1, 1));
        assert_eq!(secure.events(end, |event| matches!(event, Event::Failed { .. })), 0);
        let report = secure.link.close(end);
        assert_eq!((report.rtcp_received, report.rtt_ms), (0, None));
        assert!(report.rtcp_fault.is_some_and(|why| why.contains("handshake")), "it is told");
    }
}

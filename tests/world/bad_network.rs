//! Calls in bad weather, behind NAT boxes, and over a PBX that goes away.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tipring::events::{CallResult, Kind};

use crate::nat::{Dependence, Nat};
use crate::network::{Bursts, Link};
use crate::world::{ANSWER, HANG_UP, World, call, config};

const BOXES: [Dependence; 3] =
    [Dependence::EndpointIndependent, Dependence::AddressDependent, Dependence::AddressAndPortDependent];

/// The last report of quality on a phone.
fn quality(world: &World, phone: usize) -> tipring::events::Quality {
    match world.phones[phone].all("call.quality").last() {
        Some(Kind::CallQuality { quality, .. }) => quality.clone(),
        other => panic!("no quality: {other:?}"),
    }
}

#[test]
fn ten_minutes_of_jitter_and_drift_leave_no_delay_behind() {
    let mut world = World::new(7);
    world.card_rate = 8_000;
    for (index, drift_ppm) in [(0, 120.0), (1, -80.0)] {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11 + index));
        let codec = "codecs = [\"PCMA\"]";
        world.add_phone_at(address, config(&(1001 + u32::from(index)).to_string(), codec, ""), drift_ppm);
        world.network.set_link(address, Link { jitter_us: 15_000, delay_us: 10_000, ..Link::default() });
    }
    world.seconds(1);
    world.connect();
    world.seconds(20);
    let mut delays = Vec::new();
    for _ in 0..3 {
        world.talk(4);
        for (said, heard) in [(0, 1), (1, 0)] {
            world.assert_heard(said, heard);
        }
        let likeness = world.likeness(0, 1).expect("something was heard");
        delays.push(likeness.delay * 1000 / world.card_rate as usize);
        world.seconds(200 - 4);
    }
    assert!(delays.iter().all(|delay| *delay < 120), "{delays:?} ms");
    assert!(delays[2] <= delays[0] + 20, "the delay grows: {delays:?} ms");
    for phone in 0..2 {
        let quality = quality(&world, phone);
        assert!(quality.packets_received > 28_000 && quality.packets_lost == 0, "{quality:?}");
        assert!(quality.concealed_percent < 0.5, "{quality:?}");
        assert!(quality.mos.is_some_and(|mos| mos > 3.9), "{quality:?}");
    }
}

#[test]
fn words_get_through_loss_bursts_reordering_and_doubles() {
    for (name, link) in [
        ("loss", Link { loss: 0.03, ..Link::default() }),
        ("bursts", Link { bursts: Some(Bursts { begin: 0.008, end: 0.4 }), ..Link::default() }),
        ("reordering", Link { reorder: 0.1, ..Link::default() }),
        ("doubles", Link { duplicate: 0.3, ..Link::default() }),
        ("a narrow line", Link { rate: Some(128_000), jitter_us: 5_000, ..Link::default() }),
    ] {
        let mut world = World::with_phones(11, 2);
        for phone in 0..2 {
            let address = world.phones[phone].address;
            world.network.set_link(address, link.clone());
        }
        // An INVITE may be lost too.
        world.tell(0, call("1002"));
        world.seconds(5);
        world.tell(1, ANSWER);
        world.seconds(10);
        world.talk(10);
        for (said, heard) in [(0, 1), (1, 0)] {
            let likeness = world.likeness(said, heard);
            assert!(likeness.as_ref().is_some_and(|likeness| likeness.found > 0.8), "{name}: {likeness:?}");
        }
        world.tell(0, HANG_UP);
        world.seconds(40);
        assert!(world.calls(0).is_empty() && world.calls(1).is_empty(), "{name}");
        assert_eq!(world.pbx.calls(), 0, "{name}");
    }
}

#[test]
fn behind_every_nat_a_phone_registers_is_called_and_heard() {
    for mapping in BOXES {
        for filtering in BOXES {
            let mut world = World::new(3);
            let inside = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
            let public = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
            world.network.put_behind(inside, Nat::new(public, mapping, filtering));
            world.add_phone_at(inside, config("1001", "expires = \"60s\"", ""), 0.0);
            world.add_phone(config("1002", "", ""));
            world.seconds(2);
            let sources = world.pbx.registrar().sources(world.now(), "1001");
            assert_eq!(sources.iter().map(|source| source.ip()).collect::<Vec<_>>(), [public]);
            let name = format!("{mapping:?} mapping, {filtering:?} filtering");
            world.seconds(600);
            world.tell(1, call("1001"));
            world.seconds(2);
            assert_eq!(world.calls(0).len(), 1, "{name}: the call did not arrive");
            world.tell(0, ANSWER);
            world.seconds(2);
            assert_eq!(world.calls(1)[0].state, "active", "{name}");
            world.tell(1, HANG_UP);
            world.seconds(2);
            assert!(world.calls(0).is_empty(), "{name}");
            world.tell(0, call("600"));
            world.seconds(2);
            world.talk(3);
            world.assert_heard(0, 0);
        }
    }
}

#[test]
fn a_box_with_another_address_is_noticed_at_the_next_registration() {
    let mut world = World::new(3);
    let inside = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    let public = |last| IpAddr::V4(Ipv4Addr::new(203, 0, 113, last));
    let dependence = Dependence::AddressAndPortDependent;
    let nat = world.network.put_behind(inside, Nat::new(public(1), dependence, dependence));
    world.add_phone_at(inside, config("1001", "expires = \"60s\"", ""), 0.0);
    world.add_phone(config("1002", "", ""));
    world.seconds(2);
    for change in 0..2 {
        match change {
            0 => world.network.nat(nat).readdress(public(2)),
            _ => world.network.nat(nat).reboot(),
        }
        world.seconds(70);
        world.tell(1, call("1001"));
        world.seconds(2);
        assert_eq!(world.calls(0).len(), 1, "change {change}: the call did not arrive");
        world.tell(1, HANG_UP);
        world.seconds(2);
        assert!(world.calls(0).is_empty());
    }
    let sources = world.pbx.registrar().sources(world.now(), "1001");
    assert!(
        sources.iter().all(|source| source.ip() == public(2)),
        "old bindings were taken back: {sources:?}"
    );
}

#[test]
fn a_call_whose_media_are_lost_ends_and_says_so() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", "[rtp]\ntimeout = \"20s\"\n"));
    world.seconds(1);
    world.tell(0, call("600"));
    world.seconds(5);
    world.pbx.mute_echo(true);
    world.seconds(18);
    assert_eq!(world.calls(0).len(), 1);
    world.seconds(5);
    let ended = world.phones[0].all("call.ended");
    let [Kind::CallEnded { result, cause, .. }] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!(*result, CallResult::MediaLost);
    assert!(cause.text.as_deref().is_some_and(|text| text.contains("20 s")), "{cause:?}");
    assert_eq!(world.pbx.calls(), 0, "the far end was told");
}

#[test]
fn a_pbx_that_vanishes_leaves_no_call_behind() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    world.pbx.silent = true;
    world.tell(0, HANG_UP);
    world.seconds(40);
    assert!(world.calls(0).is_empty());
    let ended = world.phones[0].all("call.ended");
    assert_eq!(ended.len(), 1);
    world.tell(0, call("1002"));
    world.run(Duration::from_secs(40));
    let ended = world.phones[0].all("call.ended");
    let Some(Kind::CallEnded { result, .. }) = ended.last() else { panic!("{ended:?}") };
    assert_eq!(*result, CallResult::Unreachable);
}

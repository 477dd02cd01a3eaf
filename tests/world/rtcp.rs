//! RTCP on a port of its own: far ends that do not share that of RTP, behind NATs, with every way of keys.

use std::net::{IpAddr, Ipv4Addr};

use tipring::events::Quality;
use tipring::phone::command::Command;

use crate::nat::Dependence;
use crate::network::{Link, Network};
use crate::paths::{HARD, ICE, RELAY, SOFT, behind, both_heard, boxed, called};
use crate::world::World;

const STUN: &str = "[line.nat]\nstun = [\"198.51.100.7\"]\n";
const KEYS: [&str; 3] = ["", "srtp = \"required\"\n", "srtp = \"required\"\nsrtp_keys = \"dtls\"\n"];

/// Two phones that are made to keep RTCP apart. Without ICE an offer can only guess the port that a NAT gives to RTCP.
fn split(mapping: Dependence, filtering: Dependence, nats: [&str; 2]) -> World {
    let keeps = |network: &mut Network, number: usize| {
        network.nat(number).preserves_ports = !nats[0].contains("ice = true");
    };
    let (mut world, _) = boxed(mapping, filtering, keeps, nats);
    world.pbx_splits_ports = true;
    world
}

fn figures(world: &World) -> [Quality; 2] {
    [0, 1].map(|phone| world.calls(phone)[0].quality.clone().expect("figures"))
}

/// Offers of ICE that a phone has sent in its call, by their user names.
fn offers(world: &World, phone: usize) -> Vec<String> {
    let trace = world.phones[phone].phone.trace(0, None, None);
    let is_offer = |text: &str| ["INVITE", "UPDATE"].iter().any(|method| text.starts_with(method));
    let invites = trace.iter().filter(|one| one.sent && is_offer(&one.text));
    let name = |text: &str| text.lines().find(|line| line.starts_with("a=ice-ufrag")).map(str::to_owned);
    let mut names: Vec<String> = invites.filter_map(|one| name(&one.text)).collect();
    names.dedup();
    names
}

/// Both know how far away the other one is and what it has lost, which only RTCP tells.
fn both_told(world: &World, what: &str, ms: std::ops::Range<u64>) {
    for (phone, quality) in figures(world).iter().enumerate() {
        assert!(quality.rtcp_received >= 2, "{what}: phone {phone} was told little: {quality:?}");
        let trip_ms = quality.round_trip_us.map(|us| us / 1_000);
        assert!(trip_ms.is_some_and(|trip| ms.contains(&trip)), "{what}: phone {phone}: {trip_ms:?} ms");
        assert!(quality.remote_loss_percent.is_some(), "{what}: phone {phone}");
        assert_eq!(quality.rtcp_fault, None, "{what}: phone {phone}");
    }
}

#[test]
fn reports_arrive_on_a_port_of_their_own() {
    let cases = [(SOFT, SOFT, STUN), (SOFT, SOFT, ICE), (SOFT, HARD, ICE), (HARD, HARD, RELAY)];
    for (mapping, filtering, nat) in cases {
        for keys in KEYS {
            let what = format!("{mapping:?} {filtering:?} {keys}{nat}");
            let nat = format!("{keys}{nat}");
            let mut world = split(mapping, filtering, [&nat; 2]);
            called(&mut world);
            // What each one sends is lost now and then, or comes late.
            let link = Link { delay_us: 30_000, loss: 0.05, ..Link::default() };
            world.network.set_link(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), link);
            world.seconds(40);
            both_told(&world, &what, 60..140);
            for quality in figures(&world) {
                let loss = quality.remote_loss_percent.unwrap_or_default();
                assert!((0.5..20.0).contains(&loss), "{what}: {loss} %");
            }
            both_heard_by(&mut world, &what);
        }
    }
}

fn both_heard_by(world: &mut World, what: &str) {
    world.network.set_link(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), Link::default());
    world.seconds(2);
    both_heard(world);
    for phone in 0..2 {
        assert_eq!(world.calls(phone)[0].state, "active", "{what}");
    }
}

/// A description of a phone has a second component only where that is needed, and says where RTCP is received.
#[test]
fn a_second_component_is_told_where_it_is_needed() {
    for (splits, answered) in [(true, true), (false, false)] {
        let (mut world, _) = behind(SOFT, HARD, ICE);
        world.pbx_splits_ports = splits;
        called(&mut world);
        let second = |phone: usize, start: &str| {
            let trace = world.phones[phone].phone.trace(0, None, None);
            let is_it = |text: &str| text.starts_with(start) && text.contains("m=audio");
            let message = trace.iter().find(|one| one.sent && is_it(&one.text));
            let text = message.map(|one| one.text.clone()).unwrap_or_default();
            let of_rtcp = text.lines().filter(|line| line.starts_with("a=candidate:"));
            of_rtcp.filter(|line| line.split(' ').nth(1) == Some("2")).count()
        };
        assert_eq!(second(0, "INVITE"), 1, "an address of the machine, which costs nothing");
        assert_eq!(second(1, "SIP/2.0 200") > 1, answered, "what the STUN server sees, too");
        assert_eq!(offers(&world, 0).len(), 1);
    }
}

/// Nobody looked for a relay of RTCP before the answer: the far end is told of it afterwards, as nothing else works.
#[test]
fn a_relay_for_reports_is_told_once_they_find_no_other_way() {
    for keys in KEYS {
        let mut world = split(HARD, HARD, [&format!("{keys}{RELAY}"), &format!("{keys}{ICE}")]);
        let idle = world.turn.as_ref().unwrap().allocations();
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 500), "{keys}: {after:?} ms");
        assert_eq!(offers(&world, 0).len(), 1);
        world.seconds(25);
        both_told(&world, keys, 4..80);
        assert_eq!(offers(&world, 0).len(), 2, "{keys}: one restart");
        both_heard(&mut world);
        world.tell(0, crate::world::HANG_UP);
        world.seconds(2);
        assert_eq!(world.turn.as_ref().unwrap().allocations(), idle, "{keys}: it is given back");
    }
}

/// Without ICE an answer names the outside port of RTCP, and who hears reports answers to where they come from. A handshake
/// does not get so far: it begins with the one that has only the guess of the offer.
#[test]
fn reports_without_ice_arrive_behind_nats_that_choose_other_ports() {
    for (keys, arrive) in KEYS.into_iter().zip([true, true, false]) {
        let (mut world, _) = behind(SOFT, SOFT, &format!("{keys}{STUN}"));
        world.pbx_splits_ports = true;
        called(&mut world);
        world.seconds(30);
        if arrive {
            both_told(&world, keys, 4..80);
        } else {
            assert!(figures(&world).iter().all(|quality| quality.rtcp_fault.is_some()), "it is told");
        }
        both_heard(&mut world);
    }
}

#[test]
fn audio_goes_on_when_the_path_of_reports_dies() {
    for keys in KEYS {
        let mut world = split(SOFT, HARD, [&format!("{keys}{ICE}"); 2]);
        called(&mut world);
        world.seconds(20);
        both_told(&world, keys, 4..80);
        world.network.odd_ports_blocked = true;
        world.seconds(40);
        for quality in figures(&world) {
            let fault = quality.rtcp_fault.as_deref();
            assert_eq!(fault, Some("ICE: nothing comes back on the path of RTCP any more"), "{keys}");
        }
        both_heard(&mut world);
    }
}

#[test]
fn audio_goes_on_where_reports_get_nowhere() {
    for keys in KEYS {
        let mut world = split(SOFT, HARD, [&format!("{keys}{ICE}"); 2]);
        world.network.odd_ports_blocked = true;
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 500), "{keys}: {after:?} ms");
        world.seconds(60);
        both_heard(&mut world);
        for quality in figures(&world) {
            assert_eq!((quality.rtcp_received, quality.round_trip_us), (0, None), "{keys}");
            assert_eq!(quality.rtcp_fault.as_deref(), Some("ICE: no path works for RTCP"), "{keys}");
        }
        assert!(offers(&world, 0).len() + offers(&world, 1).len() <= 3, "nobody tries for ever");
    }
}

/// There is a path, and keys, and nothing comes: that is told within half a minute, and no longer once something comes.
#[test]
fn reports_that_do_not_come_are_missed() {
    for nat in [STUN, ICE] {
        for keys in KEYS {
            let mut world = split(SOFT, SOFT, [&format!("{keys}{nat}"); 2]);
            let told = |world: &World, what: &str, missed: bool| {
                for quality in figures(world) {
                    let fault = quality.rtcp_fault.as_deref();
                    assert_eq!(
                        fault.map(|why| why.contains("do not arrive")),
                        missed.then_some(true),
                        "{what}"
                    );
                }
            };
            world.network.reports_lost = true;
            called(&mut world);
            world.seconds(20);
            told(&world, &format!("{keys}{nat}: not yet"), false);
            world.seconds(12);
            told(&world, &format!("{keys}{nat}: from the beginning"), true);
            world.network.reports_lost = false;
            world.seconds(13);
            both_told(&world, &format!("{keys}{nat}"), 4..80);
            world.network.reports_lost = true;
            world.seconds(32);
            told(&world, &format!("{keys}{nat}: no longer"), true);
            // Whoever is on hold need not report.
            world.tell(0, Command::Hold { call: None });
            world.seconds(40);
            assert_eq!(figures(&world)[0].rtcp_fault, None, "{keys}{nat}: on hold");
        }
    }
}

#[test]
fn reports_find_another_path_with_the_audio() {
    for (mapping, nat) in [(SOFT, ICE), (HARD, RELAY)] {
        let (mut world, boxes) = behind(mapping, HARD, nat);
        world.pbx_splits_ports = true;
        called(&mut world);
        world.seconds(10);
        world.network.nat(boxes[0]).readdress("203.0.113.77".parse().unwrap());
        world.seconds(3);
        both_heard(&mut world);
        let before = figures(&world).map(|quality| quality.rtcp_received);
        world.seconds(30);
        for (quality, before) in figures(&world).iter().zip(before) {
            assert!(quality.rtcp_received >= before + 2, "{mapping:?}: {before} and then {quality:?}");
        }
    }
}

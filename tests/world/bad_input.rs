//! Strangers, floods and garbage: they get no answer, and a call in progress keeps its audio.

use std::net::SocketAddr;

use tipring::chance::Chance;
use tipring::phone::Input;

use crate::handset::SIP;
use crate::world::{ANSWER, PBX, World, config};

const STRANGER: &str = "203.0.113.66:5060";

fn stranger() -> SocketAddr {
    STRANGER.parse().expect("an address")
}

fn invite(number: u32, contact: &str) -> Vec<u8> {
    format!(
        "INVITE sip:1001@192.0.2.11:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP {contact};branch=z9hG4bK-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:100@pbx.example>;tag=t{number}\r\n\
         To: <sip:1001@pbx.example>\r\n\
         Call-ID: flood-{number}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:100@{contact}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What the network carried to this address.
fn answers_to(world: &World, address: &str) -> usize {
    let seen = world.network.seen.as_ref().expect("the wire was watched");
    seen.iter().filter(|bytes| bytes.starts_with(b"SIP/2.0") && contains(bytes, address.as_bytes())).count()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_stranger_gets_no_answer_and_rings_nobody() {
    let mut world = World::with_phones(1, 1);
    world.network.seen = Some(Vec::new());
    let phone = SocketAddr::new(world.phones[0].address, SIP);
    for number in 0..100 {
        let now_us = world.now().mono_us;
        world.network.send(now_us, stranger(), phone, invite(number, STRANGER));
        world.millis(10);
    }
    world.seconds(2);
    assert!(world.calls(0).is_empty());
    assert_eq!(answers_to(&world, STRANGER), 0);
    assert_eq!(world.snapshot(0).dropped["untrusted"], 100);
    assert!(!world.phones[0].has("call.new"));
}

#[test]
fn who_is_trusted_changes_with_the_configuration_for_old_and_new_lines() {
    let mut world = World::with_phones(1, 1);
    let phone = SocketAddr::new(world.phones[0].address, SIP);
    let mut number = 0;
    let mut rings = |world: &mut World, user: &str| {
        number += 1;
        let now_us = world.now().mono_us;
        let invite = String::from_utf8(invite(number, STRANGER)).expect("text").replace("sip:1001@", user);
        world.network.send(now_us, stranger(), phone, invite.into_bytes());
        world.seconds(1);
        world.calls(0).len()
    };
    assert_eq!(rings(&mut world, "sip:1001@"), 0);
    let trusted = "[sip]\ntrusted = [\"203.0.113.0/24\"]";
    let more =
        "[[line]]\nname = \"new\"\nuser = \"1003\"\ndomain = \"pbx.example\"\npassword = \"secret-1003\"\n";
    for (tables, lines, expected) in [(trusted, more, (1, 2)), ("", more, (2, 2))] {
        let config = Box::new(config("1001", lines, tables));
        world.input(0, Input::Configured { file: "world.toml".into(), config, warnings: 0 });
        world.seconds(1);
        assert_eq!((rings(&mut world, "sip:1001@"), rings(&mut world, "sip:1003@")), expected, "{tables}");
    }
}

#[test]
fn a_flood_of_invites_of_the_pbx_is_bounded_and_passes() {
    let mut world = World::with_phones(1, 2);
    let (pbx, phone) = (SocketAddr::new(PBX, SIP), SocketAddr::new(world.phones[0].address, SIP));
    world.connect();
    for number in 0..3000 {
        let now_us = world.now().mono_us;
        world.network.send(now_us, pbx, phone, invite(number, "198.51.100.1:5060"));
    }
    world.seconds(1);
    assert!(world.calls(0).len() <= 9, "a line takes 8 calls at most: {}", world.calls(0).len());
    world.talk(3);
    world.assert_heard(1, 0);
    // The PBX never heard of those calls and never takes them back; what rings stays within the line's limit.
    world.seconds(60);
    let snapshot = world.snapshot(0);
    assert!(snapshot.calls.len() <= 9, "{}", snapshot.calls.len());
}

#[test]
fn garbage_on_all_ports_leaves_a_call_alone() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    let mut chance = Chance::from_number(99);
    let address = world.phones[0].address;
    world.phones.iter_mut().for_each(|phone| phone.card.listen(true));
    for _ in 0..400 {
        for port in [SIP, 10_002, 10_003, 10_004, 10_005] {
            let mut bytes = vec![0; chance.below(1400) as usize];
            chance.fill(&mut bytes);
            // Half of it looks like RTP at first sight.
            if let Some(first) = bytes.first_mut().filter(|_| port != SIP) {
                *first = 0x80;
            }
            let from = if chance.happens(0.5) { stranger() } else { SocketAddr::new(PBX, 7777) };
            let now_us = world.now().mono_us;
            world.network.send(now_us, from, SocketAddr::new(address, port), bytes);
        }
        world.millis(10);
    }
    world.assert_heard(0, 1);
    world.assert_heard(1, 0);
    assert!(world.snapshot(0).dropped["unreadable"] > 0);
}

#[test]
fn a_third_party_never_steals_a_stream() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    let codec_is_opus = world.calls(0)[0].codec.as_deref() == Some("opus/48000");
    assert!(codec_is_opus, "{:?}", world.calls(0)[0].codec);
    let address = world.phones[0].address;
    world.phones.iter_mut().for_each(|phone| phone.card.listen(true));
    for index in 0..200u32 {
        for port in (10_002..10_014).step_by(2) {
            for payload_type in [0u8, 8, 96, 111] {
                let mut packet = vec![0x80, payload_type];
                packet.extend_from_slice(&(index as u16).to_be_bytes());
                packet.extend_from_slice(&(index * 160).to_be_bytes());
                packet.extend_from_slice(b"evil");
                packet.extend_from_slice(&[0x2A; 160]);
                let now_us = world.now().mono_us;
                world.network.send(now_us, stranger(), SocketAddr::new(address, port), packet);
            }
        }
        world.millis(20);
    }
    world.assert_heard(0, 1);
    world.assert_heard(1, 0);
}

#[test]
fn the_pbx_itself_may_call_and_say_who_it_is() {
    let mut world = World::with_phones(1, 1);
    let now = world.now();
    let identity = ("P-Asserted-Identity", "\"Anna\" <sip:2001@pbx.example>");
    let call = world.pbx.call(now, "1001", &[identity]).expect("1001 is registered");
    world.drain();
    world.seconds(1);
    let ringing = &world.calls(0)[0];
    assert_eq!((ringing.number.as_str(), ringing.name.as_deref()), ("2001", Some("Anna")));
    world.tell(0, ANSWER);
    world.seconds(1);
    world.talk(3);
    world.assert_heard(0, 0);
    let now = world.now();
    world.pbx.hang_up(now, call);
    world.drain();
    world.seconds(1);
    assert!(world.calls(0).is_empty());
}

//! Audio through NATs: ICE, TURN, the public address, and what becomes of a call whose network changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tipring::events::{Kind, Way};
use tipring::nat::stun::{Class, Message, Role, Seal, TransactionId};

use crate::gateway::Blocks;
use crate::nat::{Dependence, Nat};
use crate::network::{Link, Network};
use crate::turn::{TURN, TurnServer};
use crate::world::{ANSWER, HANG_UP, World, call, config};

pub const HARD: Dependence = Dependence::AddressAndPortDependent;
pub const SOFT: Dependence = Dependence::EndpointIndependent;

pub const ICE: &str = "[line.nat]\nstun = [\"198.51.100.7\"]\nice = true\n";
pub const RELAY: &str = "[line.nat]\nstun = [\"198.51.100.7\"]\nice = true\n\
                     [[line.nat.turn]]\nurl = \"turn:turn.example\"\nusername = \"phone\"\npassword = \"relay-password\"\n";

/// The relay, and nothing that looks for a better way.
const RELAY_ALONE: &str = "[line.nat]\n[[line.nat.turn]]\nurl = \"turn:turn.example\"\nusername = \"phone\"\n\
                           password = \"relay-password\"\n";

/// Two phones, each behind a NAT of its own, with this `[line.nat]`.
pub fn behind(mapping: Dependence, filtering: Dependence, nat: &str) -> (World, [usize; 2]) {
    boxed(mapping, filtering, |_, _| (), [nat; 2])
}

/// The same with boxes that are made so.
pub fn boxed(
    mapping: Dependence,
    filtering: Dependence,
    make: impl Fn(&mut Network, usize),
    nats: [&str; 2],
) -> (World, [usize; 2]) {
    let mut world = World::new(5);
    world.card_rate = 8_000;
    world.turn = Some(TurnServer::default());
    // The domain has no address of its own: where its relay is, by which transport, its services say.
    world.names.add_address("relay.turn.example", TURN);
    for (service, port) in [("_turn._udp", 3478), ("_turn._tcp", 3478), ("_turns._tcp", 443)] {
        world.names.add_service(&format!("{service}.turn.example"), 10, "relay.turn.example", port);
    }
    world.network.listens.extend([3478, 443].map(|port| SocketAddr::new(TURN, port)));
    let boxes = [0u8, 1].map(|index| {
        let inside = IpAddr::V4(Ipv4Addr::new(10, 0, index, 2));
        let public = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1 + index));
        let number = world.network.put_behind(inside, Nat::new(public, mapping, filtering));
        make(&mut world.network, number);
        let keys = format!("codecs = [\"PCMA\"]\nexpires = \"60s\"\n{}", nats[usize::from(index)]);
        world.add_phone_at(inside, config(&format!("{}", 1001 + u32::from(index)), &keys, ""), 0.0);
        number
    });
    world.seconds(3);
    (world, boxes)
}

/// Phone 0 calls phone 1, which answers after a second; both talk, and how long after the answer each heard the other, in ms.
pub fn called(world: &mut World) -> [u64; 2] {
    world.tell(0, call("1002"));
    world.seconds(1);
    world.tell(1, ANSWER);
    world.seconds(2);
    [0, 1].map(|phone| match world.phones[phone].all("call.media").last() {
        Some(Kind::CallMedia { after_answer_us, .. }) => after_answer_us / 1_000,
        other => panic!("phone {phone} hears nothing: {other:?}"),
    })
}

/// The way of each phone's audio, as its calls, its events and its figures tell.
fn ways(world: &World) -> [Way; 2] {
    [0, 1].map(|phone| {
        let shown = world.calls(phone)[0].way.clone().expect("a way");
        let quality = world.calls(phone)[0].quality.clone().expect("figures");
        assert_eq!(quality.way.as_ref(), Some(&shown));
        let told = world.phones[phone].all("call.media");
        let Some(Kind::CallMedia { way: Some(first), .. }) = told.last() else { panic!("{told:?}") };
        assert_eq!(first.transport, shown.transport);
        shown
    })
}

pub fn both_heard(world: &mut World) {
    world.talk(10);
    world.assert_heard(0, 1);
    world.assert_heard(1, 0);
}

#[test]
fn two_phones_behind_symmetric_nats_hear_each_other_by_the_relay_within_300_ms() {
    let (mut world, _) = behind(HARD, HARD, RELAY);
    assert_eq!(
        world.turn.as_ref().unwrap().allocations(),
        2,
        "one port of each phone waits with an allocation"
    );
    let after = called(&mut world);
    assert!(after.iter().all(|after| *after <= 300), "{after:?} ms");
    both_heard(&mut world);
    assert!(world.turn.as_ref().unwrap().relayed > 200);
    let [one, two] = ways(&world);
    assert!(one.local == "relay" || one.remote.as_deref() == Some("relay"), "{one:?}");
    assert!(two.local == "relay" || two.remote.as_deref() == Some("relay"), "{two:?}");
    world.tell(0, HANG_UP);
    world.seconds(2);
    assert!(world.calls(0).is_empty() && world.calls(1).is_empty());
    assert_eq!(
        world.turn.as_ref().unwrap().allocations(),
        2,
        "those of the call are given back, the next ones wait"
    );
}

#[test]
fn keys_from_a_handshake_by_the_relay_are_there_within_half_a_second() {
    let (mut world, _) = behind(HARD, HARD, &format!("srtp = \"required\"\nsrtp_keys = \"dtls\"\n{RELAY}"));
    let after = called(&mut world);
    assert!(after.iter().all(|after| *after <= 500), "{after:?} ms");
    both_heard(&mut world);
}

/// Without ICE each description names the address at the relay; the handshake of keys goes there, too.
#[test]
fn two_phones_without_ice_hear_each_other_by_the_relay_alone() {
    for keys in ["", "srtp = \"required\"\n", "srtp = \"required\"\nsrtp_keys = \"dtls\"\n"] {
        let (mut world, boxes) = behind(HARD, HARD, &format!("{keys}{RELAY_ALONE}"));
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 500), "{keys}: {after:?} ms");
        both_heard(&mut world);
        let relayed = world.turn.as_ref().unwrap().relayed;
        assert!(relayed > 200, "{keys}: {relayed}");
        world.tell(0, tipring::phone::command::Command::Hold { call: None });
        world.seconds(40);
        world.tell(0, tipring::phone::command::Command::Resume { call: None });
        world.seconds(2);
        both_heard(&mut world);
        // The relay knows us by the address that is gone: there is another one of it, and the far end is told.
        world.network.nat(boxes[0]).readdress("203.0.113.77".parse().unwrap());
        world.seconds(20);
        both_heard(&mut world);
        world.tell(0, HANG_UP);
        world.seconds(2);
        assert!(world.calls(0).is_empty() && world.calls(1).is_empty());
    }
}

/// A port-restricted NAT lets in who has been sent something: also while whoever was called begins the handshake.
#[test]
fn two_phones_with_public_addresses_hear_each_other_without_ice() {
    for keys in ["", "srtp = \"required\"\n", "srtp = \"required\"\nsrtp_keys = \"dtls\"\n"] {
        let stun = "[line.nat]\nstun = [\"198.51.100.7\"]\n";
        let (mut world, _) = behind(SOFT, HARD, &format!("{keys}{stun}"));
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 1_200), "{keys}: {after:?} ms");
        both_heard(&mut world);
    }
}

/// What comes to the socket and not through the relay is nobody's.
#[test]
fn what_comes_past_the_relay_is_not_heard() {
    let (mut world, _) = behind(SOFT, SOFT, RELAY_ALONE);
    called(&mut world);
    forge(&mut world);
    both_heard(&mut world);
}

#[test]
fn behind_softer_nats_they_speak_directly() {
    for (mapping, filtering) in [(SOFT, SOFT), (SOFT, HARD), (SOFT, Dependence::AddressDependent)] {
        let (mut world, _) = behind(mapping, filtering, ICE);
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 300), "{mapping:?} {filtering:?}: {after:?} ms");
        both_heard(&mut world);
        assert_eq!(world.turn.as_ref().unwrap().relayed, 0);
        for way in ways(&world) {
            let remote = way.remote.as_deref().unwrap_or_default();
            assert_eq!((way.local.as_str(), remote, way.transport.as_str()), ("srflx", "srflx", "udp"));
        }
    }
}

#[test]
fn a_call_on_hold_and_back_keeps_its_path() {
    let (mut world, _) = behind(HARD, HARD, RELAY);
    called(&mut world);
    world.tell(0, tipring::phone::command::Command::Hold { call: None });
    world.seconds(40);
    world.tell(0, tipring::phone::command::Command::Resume { call: None });
    world.seconds(2);
    both_heard(&mut world);
}

#[test]
fn ten_minutes_by_a_relay_whose_nonces_are_good_once() {
    let (mut world, _) = behind(HARD, HARD, RELAY);
    world.turn.as_mut().unwrap().stale = 1;
    called(&mut world);
    world.seconds(660);
    both_heard(&mut world);
}

#[test]
fn an_ordinary_peer_is_called_and_the_echo_heard_with_the_public_address() {
    let (mut world, _) = behind(SOFT, HARD, ICE);
    world.tell(0, call("600"));
    world.seconds(2);
    world.talk(10);
    world.assert_heard(0, 0);
}

#[test]
fn a_public_address_that_changes_in_a_call_is_healed_within_three_seconds() {
    for (mapping, nat) in [(SOFT, ICE), (HARD, RELAY)] {
        for moves in 0..2 {
            let (mut world, boxes) = behind(mapping, HARD, nat);
            called(&mut world);
            world.network.nat(boxes[moves]).readdress("203.0.113.77".parse().unwrap());
            world.seconds(3);
            both_heard(&mut world);
            assert_eq!(world.calls(moves)[0].state, "active", "{mapping:?}: phone {moves} moved");
        }
    }
}

#[test]
fn another_interface_or_ipv6_leads_where_the_nats_let_nothing_through() {
    for [one, two] in [["2001:db8:1::2", "2001:db8:2::2"], ["172.16.9.2", "172.16.9.3"]] {
        let (mut world, _) = behind(HARD, HARD, ICE);
        let now = world.now();
        for (phone, address) in [one, two].into_iter().enumerate() {
            world.phones[phone].add_address(now, address.parse().unwrap());
            // What only one link knows is not offered.
            world.phones[phone].add_address(now, "fe80::1".parse().unwrap());
        }
        world.drain();
        world.seconds(3);
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 300), "{one}: {after:?} ms");
        both_heard(&mut world);
        let trace = world.phones[0].phone.trace(0, None, None);
        let invite = trace.iter().find(|one| one.sent && one.text.starts_with("INVITE")).expect("an INVITE");
        assert!(invite.text.contains("c=IN IP4 ") && invite.text.contains(one), "{}", invite.text);
        assert!(!invite.text.contains("fe80"), "{}", invite.text);
    }
}

#[test]
fn both_sides_may_move_one_after_the_other() {
    for (mapping, nat) in [(SOFT, ICE), (HARD, RELAY)] {
        let (mut world, boxes) = behind(mapping, HARD, nat);
        called(&mut world);
        for (side, public) in [(0, "203.0.113.77"), (1, "203.0.113.88"), (0, "203.0.113.99")] {
            world.network.nat(boxes[side]).readdress(public.parse().unwrap());
            world.seconds(4);
            both_heard(&mut world);
        }
    }
}

#[test]
fn the_far_end_of_a_call_learns_where_a_phone_is_reached_after_a_move() {
    for nat in ["", "[line.nat]\nstun = [\"198.51.100.7\"]\n"] {
        let (mut world, boxes) = behind(SOFT, HARD, nat);
        let now = world.now();
        let call = world.pbx.call(now, "1001", &[]).expect("registered");
        world.drain();
        world.seconds(1);
        world.tell(0, ANSWER);
        world.seconds(2);
        world.network.nat(boxes[0]).readdress("203.0.113.77".parse().unwrap());
        world.seconds(25);
        assert_eq!(world.calls(0)[0].state, "active");
        let trace = world.phones[0].phone.trace(0, None, None);
        let told: Vec<_> = trace.iter().filter(|one| one.sent && one.text.starts_with("UPDATE")).collect();
        assert_eq!(told.len(), 1, "told once that it is reached elsewhere");
        assert!(told[0].text.contains("@203.0.113.77:"), "{}", told[0].text);
        let now = world.now();
        world.pbx.hang_up(now, call);
        world.drain();
        world.seconds(1);
        assert!(world.calls(0).is_empty(), "the BYE went where the phone was: {:?}", world.phones[0].told());
    }
}

/// How long after its REGISTER phone 0 offers another path, in milliseconds, when its outside changes after this time on
/// hold.
fn restart_after_a_register(hold_ms: u64) -> i64 {
    let (mut world, boxes) = behind(SOFT, HARD, ICE);
    called(&mut world);
    world.tell(0, tipring::phone::command::Command::Hold { call: None });
    world.millis(2_000 + hold_ms);
    let moved_us = world.now().utc_us;
    world.network.nat(boxes[0]).readdress("203.0.113.77".parse().unwrap());
    world.seconds(15);
    let trace = world.phones[0].phone.trace(0, None, None);
    let first = |method: &str| {
        let found =
            trace.iter().find(|one| one.sent && one.utc_us > moved_us && one.text.starts_with(method));
        found.unwrap_or_else(|| panic!("no {method} after {hold_ms} ms")).utc_us
    };
    (first("INVITE") - first("REGISTER")) / 1_000
}

#[test]
fn a_call_on_hold_finds_another_path_as_soon_as_the_stun_server_sees_the_move() {
    for step in 0..8 {
        let after_ms = restart_after_a_register(step * 600);
        assert!(after_ms < 700, "{after_ms} ms after the line knew");
    }
}

#[test]
fn a_relay_that_does_not_answer_costs_the_call_nothing() {
    let (mut world, _) = behind(SOFT, HARD, RELAY);
    world.turn.as_mut().unwrap().silent = true;
    world.seconds(60);
    let after = called(&mut world);
    assert!(after.iter().all(|after| *after <= 300), "{after:?} ms");
    both_heard(&mut world);
}

/// Each port asks the relay as soon as the port before it is taken: one that a call takes a second later, while the relay
/// does not answer, is described without it.
#[test]
fn a_relay_that_answers_after_the_description_has_gone_out_carries_the_call_as_soon_as_it_does() {
    for nats in [[RELAY, RELAY], [RELAY, ICE], [ICE, RELAY]] {
        let (mut world, _) = boxed(HARD, HARD, |_, _| (), nats);
        world.turn.as_mut().unwrap().stun_alone = true;
        world.tell(0, call("1002"));
        world.millis(500);
        world.tell(0, HANG_UP);
        world.millis(500);
        world.tell(0, call("1002"));
        world.seconds(1);
        world.tell(1, ANSWER);
        world.millis(1_500);
        assert!((0..2).all(|phone| world.phones[phone].all("call.media").is_empty()), "{nats:?}");
        world.turn.as_mut().unwrap().stun_alone = false;
        world.seconds(4);
        for phone in 0..2 {
            let told = world.phones[phone].all("call.media");
            let Some(Kind::CallMedia { after_answer_us, .. }) = told.last() else {
                panic!("phone {phone} hears nothing: {nats:?}")
            };
            assert!(*after_answer_us < 4_000_000, "phone {phone}: {after_answer_us} µs, {nats:?}");
        }
        both_heard(&mut world);
    }
}

/// The server keeps what it has meanwhile, and so does the phone.
#[test]
fn an_outage_in_a_call_by_the_relay_leaves_the_relay_as_it_was() {
    for (away, seconds) in [(0, 12), (1, 12), (0, 24), (1, 24)] {
        let (mut world, _) = behind(HARD, HARD, RELAY);
        called(&mut world);
        let machine = IpAddr::V4(Ipv4Addr::new(10, 0, away, 2));
        world.network.set_link(machine, Link { loss: 1.0, ..Link::default() });
        world.seconds(seconds);
        world.network.set_link(machine, Link::default());
        world.seconds(5);
        assert_eq!(world.turn.as_ref().unwrap().given_back, 0, "phone {away} for {seconds} s");
        both_heard(&mut world);
    }
}

#[test]
fn an_address_that_comes_up_in_a_call_by_the_relay_leaves_the_relay_as_it_was() {
    for address in ["2001:db8:1::2", "172.16.9.2"] {
        let (mut world, _) = behind(HARD, HARD, RELAY);
        called(&mut world);
        let ours = |world: &World| world.calls(0)[0].way.clone().expect("a way");
        let before = ours(&world);
        let given_back = world.turn.as_ref().unwrap().given_back;
        for phone in 0..2 {
            let now = world.now();
            world.phones[phone].add_address(now, address.parse().unwrap());
            world.drain();
            world.seconds(3);
            both_heard(&mut world);
        }
        assert_eq!(world.turn.as_ref().unwrap().given_back, given_back, "{address}");
        assert_eq!(ours(&world), before);
    }
}

#[test]
fn a_wrong_password_at_the_relay_leaves_the_direct_way() {
    let (mut world, _) = behind(SOFT, HARD, &RELAY.replace("relay-password", "wrong"));
    assert_eq!(world.turn.as_ref().unwrap().allocations(), 0);
    called(&mut world);
    both_heard(&mut world);
}

/// An attacker sends checks and voice to every port of phone 1; who it is.
fn forge(world: &mut World) -> SocketAddr {
    let attacker: SocketAddr = "198.51.100.66:6666".parse().unwrap();
    let now_us = world.now().mono_us;
    let target = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));
    for step in 0..200u64 {
        let mut check = Message::new(Class::Request, TransactionId([step as u8; 12]));
        check.username = Some("aaaa:bbbb".into());
        check.priority = Some(u32::MAX);
        check.role = Some(Role::Controlling(u64::MAX));
        check.use_candidate = true;
        let mut voice = vec![0x80, 8, 0, step as u8, 0, 0, 0, 0, 1, 2, 3, 4];
        voice.extend([0x55; 160]);
        for port in 40_000..40_008 {
            let to = SocketAddr::new(target, port);
            world.network.send(now_us, attacker, to, check.write(Seal::Password("a-password-that-is-wrong")));
            world.network.send(now_us, attacker, to, voice.clone());
        }
        world.millis(20);
    }
    attacker
}

#[test]
fn what_is_forged_in_a_call_under_ice_moves_nothing() {
    let (mut world, _) = behind(SOFT, SOFT, ICE);
    called(&mut world);
    let attacker = forge(&mut world);
    both_heard(&mut world);
    let shown = world.snapshot(1).dropped;
    assert!(shown["forged_stun"] >= 200 && shown["rtp"] >= 200, "{shown:?}");
    let quality = world.calls(1)[0].quality.clone().expect("figures");
    assert!(quality.stun_refused >= 200 && quality.packets_refused >= 200, "{quality:?}");
    world.mailbox = Some(Vec::new());
    world.seconds(2);
    let strays = world.mailbox.take().unwrap();
    assert!(strays.iter().all(|datagram| datagram.to != attacker), "the attacker is sent something");
}

#[test]
fn an_idle_hour_of_waiting_candidates_is_cheap() {
    let (mut world, _) = behind(HARD, HARD, RELAY);
    let before = world.turn.as_ref().unwrap().octets;
    world.seconds(3_600);
    // That the line watches the outside is in it.
    let octets = (world.turn.as_ref().unwrap().octets - before) / 2;
    assert!(octets < 200_000, "{octets} octets of each phone");
    let after = called(&mut world);
    assert!(after.iter().all(|after| *after <= 300), "{after:?} ms after an idle hour");
}

/// The TURN server by every carriage, and the ways that a firewall leaves.
const WAYS: &str = "[line.nat]\nstun = [\"198.51.100.7\"]\nice = true\n[[line.nat.turn]]\n\
    url = [\"turn:turn.example\", \"turn:turn.example?transport=tcp\", \"turns:turn.example\"]\n\
    username = \"phone\"\npassword = \"relay-password\"\n";

/// The same as [`behind`], where a firewall lets only some things out.
fn blocked(blocks: Blocks, sip: &str, nat: &str) -> (World, [usize; 2]) {
    let (mut world, boxes) = boxed(
        SOFT,
        HARD,
        |network, number| network.nat(number).blocks = blocks,
        [&*format!("transport = \"{sip}\"\n{nat}"); 2],
    );
    world.seconds(2);
    (world, boxes)
}

#[test]
fn where_no_datagram_gets_out_the_relay_is_reached_by_a_connection() {
    for (blocks, sip) in [(Blocks::Udp, "tcp"), (Blocks::UdpLoudly, "tls"), (Blocks::AllButTheWeb, "wss")] {
        let (mut world, _) = blocked(blocks, sip, WAYS);
        let turn = world.turn.as_ref().unwrap();
        assert_eq!((turn.allocations(), turn.connections()), (2, 2), "{blocks:?}: made before any call");
        let after = called(&mut world);
        assert!(after.iter().all(|after| *after <= 300), "{blocks:?}: {after:?} ms");
        both_heard(&mut world);
        let carriage = if blocks == Blocks::AllButTheWeb { "tls" } else { "tcp" };
        for way in ways(&world) {
            assert_eq!((way.local.as_str(), way.transport.as_str()), ("relay", carriage));
        }
        world.tell(0, HANG_UP);
        world.seconds(3);
        let turn = world.turn.as_ref().unwrap();
        assert_eq!(
            (turn.allocations(), turn.connections()),
            (2, 2),
            "{blocks:?}: those of the call are gone"
        );
    }
}

#[test]
fn without_ice_the_relay_carries_the_call_where_nothing_else_does() {
    for (blocks, sip) in [(Blocks::Udp, "tcp"), (Blocks::AllButTheWeb, "wss")] {
        let (mut world, _) = blocked(blocks, sip, &WAYS.replace("ice = true", "ice = false"));
        world.tell(0, call("600"));
        world.seconds(2);
        world.talk(10);
        world.assert_heard(0, 0);
        assert!(world.turn.as_ref().unwrap().relayed > 800, "{blocks:?}");
        world.tell(0, tipring::phone::command::Command::Hold { call: None });
        world.seconds(20);
        world.tell(0, tipring::phone::command::Command::Resume { call: None });
        world.seconds(1);
        world.talk(5);
        world.assert_heard(0, 0);
    }
}

#[test]
fn a_connection_to_the_relay_that_dies_in_a_call_is_replaced_within_three_seconds() {
    for ice in [true, false] {
        let nat = if ice { WAYS.to_owned() } else { WAYS.replace("ice = true", "ice = false") };
        let (mut world, boxes) = blocked(Blocks::Udp, "tcp", &nat);
        world.tell(0, call(if ice { "1002" } else { "600" }));
        world.seconds(1);
        if ice {
            world.tell(1, ANSWER);
        }
        world.seconds(7);
        world.network.nat(boxes[0]).readdress("203.0.113.77".parse().unwrap());
        // Without ICE nobody misses the answers of the relay before the machine misses those of its connection.
        world.seconds(if ice { 3 } else { 9 });
        world.talk(5);
        world.assert_heard(0, usize::from(ice));
        world.assert_heard(usize::from(ice), 0);
    }
}

//! The matrix: behind every kind of box a phone registers, calls, is called, and is called after three lifetimes of the
//! box's mappings, with words both ways each time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tipring::phone::Remembered;

use crate::gateway::Blocks;
use crate::nat::Dependence::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent};
use crate::nat::Nat;
use crate::world::{ANSWER, HANG_UP, World, call, config};

const PHONE: &str = "10.0.0.2";
const PUBLIC: &str = "203.0.113.1";
/// The public side of a box that is behind another one.
const SHARED: &str = "100.64.0.2";
const STUN: &str = "198.51.100.20:3478";
/// A lifetime that routers have, in seconds.
const LIFETIME: u64 = 60;
/// One that costs the test little.
const CODEC: &str = "codecs = [\"PCMA\"]";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn nat(public: &str, mapping: Dependence, filtering: Dependence, lifetime: u64) -> Nat {
    let mut nat = Nat::new(ip(public), mapping, filtering);
    nat.lifetime = Duration::from_secs(lifetime);
    nat
}

/// What a phone says in its line.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Line {
    Plain,
    /// With a STUN server.
    Stun,
    Transport(&'static str),
}

impl Line {
    fn text(self) -> String {
        match self {
            Line::Plain => CODEC.to_owned(),
            Line::Stun => format!("{CODEC}\n[line.nat]\nstun = [\"stun.example\"]"),
            Line::Transport(word) => format!("{CODEC}\ntransport = \"{word}\""),
        }
    }
}

const LINES: [Line; 6] = [
    Line::Plain,
    Line::Stun,
    Line::Transport("tcp"),
    Line::Transport("tls"),
    Line::Transport("wss"),
    Line::Transport("auto"),
];

/// A world with a STUN server, and nobody in it.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    let stun: SocketAddr = STUN.parse().expect("an address");
    world.stun.push(stun);
    world.names.add_address("stun.example", stun.ip());
    world
}

fn echo_is_heard(world: &mut World, phone: usize, what: &str) {
    assert_eq!(world.calls(phone).len(), 1, "{what}: {:?}", world.phones[phone].told());
    assert_eq!(world.calls(phone)[0].state, "active", "{what}");
    world.seconds(1);
    world.talk(3);
    world.assert_heard(phone, phone);
    world.tell(phone, HANG_UP);
    world.seconds(1);
    assert!(world.calls(phone).is_empty() && world.pbx.calls() == 0, "{what}: ended on both sides");
}

fn calls_out(world: &mut World, phone: usize, what: &str) {
    world.tell(phone, call("600"));
    world.seconds(1);
    echo_is_heard(world, phone, what);
}

fn is_called(world: &mut World, phone: usize, what: &str) {
    let user = format!("100{}", phone + 1);
    let now = world.now();
    assert!(world.pbx.call(now, &user, &[]).is_some(), "{what}: not registered");
    world.drain();
    world.seconds(1);
    let ringing = world.calls(phone).iter().any(|call| call.state == "ringing");
    assert!(ringing, "{what}: {:?}", world.phones[phone].told());
    world.tell(phone, ANSWER);
    world.millis(200);
    echo_is_heard(world, phone, what);
}

/// The whole row of one phone.
fn row(world: &mut World, phone: usize, lifetime: u64, what: &str) {
    assert!(world.phones[phone].has("line.registered"), "{what}: {:?}", world.phones[phone].told());
    calls_out(world, phone, what);
    is_called(world, phone, what);
    world.seconds(3 * lifetime);
    is_called(world, phone, &format!("{what}, after {lifetime} s three times"));
    calls_out(world, phone, what);
    assert!(!world.phones[phone].has("line.unregistered"), "{what}: {:?}", world.phones[phone].told());
}

/// The row behind boxes, the outermost last, for each way that the line may be.
fn behind(name: &str, boxes: &[Nat], lines: &[Line]) {
    for (index, line) in lines.iter().enumerate() {
        let mut world = world(index as u64 + 1);
        let mut inside = ip(PHONE);
        let lifetime = boxes.iter().map(|one| one.lifetime.as_secs()).min().unwrap_or(LIFETIME);
        for one in boxes {
            world.network.put_behind(inside, one.clone());
            inside = one.public;
        }
        world.add_phone_at(ip(PHONE), config("1001", &line.text(), ""), 0.0);
        world.seconds(5);
        row(&mut world, 0, lifetime, &format!("{name}, {line:?}"));
    }
}

#[test]
fn without_a_box() {
    behind("open", &[], &LINES);
}

#[test]
fn behind_a_full_cone() {
    behind("full cone", &[nat(PUBLIC, EndpointIndependent, EndpointIndependent, LIFETIME)], &LINES);
}

#[test]
fn behind_an_address_restricted_cone() {
    behind("address-restricted", &[nat(PUBLIC, EndpointIndependent, AddressDependent, LIFETIME)], &LINES);
}

#[test]
fn behind_a_port_restricted_cone() {
    let port_restricted = nat(PUBLIC, EndpointIndependent, AddressAndPortDependent, LIFETIME);
    behind("port-restricted", &[port_restricted], &LINES);
}

#[test]
fn behind_a_symmetric_box() {
    let symmetric = nat(PUBLIC, AddressAndPortDependent, AddressAndPortDependent, LIFETIME);
    behind("symmetric", &[symmetric], &LINES);
}

#[test]
fn behind_a_box_of_the_provider_and_one_of_our_own() {
    for (mapping, filtering) in [
        (EndpointIndependent, EndpointIndependent),
        (EndpointIndependent, AddressDependent),
        (EndpointIndependent, AddressAndPortDependent),
        (AddressAndPortDependent, AddressAndPortDependent),
    ] {
        let own = nat(SHARED, mapping, filtering, LIFETIME);
        let providers = nat(PUBLIC, AddressAndPortDependent, AddressAndPortDependent, 30);
        behind(&format!("provider's and {mapping:?}"), &[own, providers], &LINES);
    }
}

#[test]
fn behind_a_box_that_forgets_after_twenty_seconds() {
    for mapping in [EndpointIndependent, AddressAndPortDependent] {
        behind("short", &[nat(PUBLIC, mapping, AddressAndPortDependent, 20)], &LINES);
    }
}

#[test]
fn behind_a_box_that_reads_along_in_sip() {
    let mut alg = nat(PUBLIC, EndpointIndependent, AddressAndPortDependent, LIFETIME);
    (alg.reads_sip, alg.preserves_ports) = (true, true);
    behind("SIP ALG", &[alg], &LINES);
}

/// Of the media only what the echo latches on to gets through where UDP does not: none. Signalling has to.
#[test]
fn behind_firewalls_that_let_little_out() {
    for (blocks, words) in [
        (Blocks::Udp, &["tcp", "tls", "wss", "auto"][..]),
        (Blocks::UdpLoudly, &["tcp", "tls", "wss", "auto"]),
        (Blocks::AllButTheWeb, &["wss", "auto"]),
    ] {
        for (index, word) in words.iter().enumerate() {
            let mut world = world(index as u64 + 40);
            let mut firewall = nat(PUBLIC, EndpointIndependent, AddressAndPortDependent, LIFETIME);
            firewall.blocks = blocks;
            world.network.put_behind(ip(PHONE), firewall);
            let line = Line::Transport(word).text();
            world.add_phone_at(ip(PHONE), config("1001", &line, ""), 0.0);
            world.seconds(5);
            assert!(world.rings(), "{blocks:?} {word}: {:?}", world.phones[0].told());
            world.tell(0, call("600"));
            world.seconds(1);
            assert_eq!(world.calls(0)[0].state, "active", "{blocks:?} {word}");
            world.tell(0, HANG_UP);
            world.seconds(3 * LIFETIME);
            assert!(world.rings(), "{blocks:?} {word}, after a while");
            assert!(!world.phones[0].has("line.unregistered"));
        }
    }
}

#[test]
fn two_offices_with_the_same_addresses_inside() {
    for (index, line) in LINES.into_iter().enumerate() {
        let mut world = world(index as u64 + 60);
        for (phone, public) in [("10.0.0.2", PUBLIC), ("10.0.1.2", "203.0.113.2")] {
            let box_of = nat(public, AddressAndPortDependent, AddressAndPortDependent, LIFETIME);
            world.network.put_behind(ip(phone), box_of);
            let user = format!("100{}", world.phones.len() + 1);
            let config = config(&user, &line.text(), "");
            world.add_phone_with((ip(phone), ip(PHONE)), config, Remembered::default());
        }
        world.seconds(5);
        for phone in 0..2 {
            row(&mut world, phone, LIFETIME, &format!("office {phone}, {line:?}"));
        }
        // Each is rung by the other one's call, and by nobody else's.
        for (caller, called) in [(0, 1), (1, 0)] {
            world.tell(caller, call(&format!("100{}", called + 1)));
            world.seconds(1);
            assert_eq!(world.calls(called)[0].state, "ringing", "{line:?}");
            world.tell(called, ANSWER);
            world.seconds(1);
            assert!((0..2).all(|phone| world.calls(phone)[0].state == "active"), "{line:?}");
            world.tell(called, HANG_UP);
            world.seconds(1);
            assert!((0..2).all(|phone| world.calls(phone).is_empty()), "{line:?}");
        }
    }
}

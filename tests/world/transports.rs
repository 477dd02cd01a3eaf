//! A line with a list of transports behind firewalls that change their mind.

use std::net::IpAddr;
use std::time::Duration;

use tipring::events::Kind;
use tipring::events::store::Write;
use tipring::phone::Remembered;
use tipring::sip::network::Transport;

use crate::gateway::Blocks;
use crate::nat::Dependence::AddressAndPortDependent;
use crate::nat::Nat;
use crate::world::{HANG_UP, World, call, config};

const PHONE: &str = "10.0.0.2";
const AUTO: &str = "transport = \"auto\"\ncodecs = [\"PCMA\"]";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A phone that may use everything, behind a box that does not let everything out.
fn behind(blocks: Blocks, seed: u64, memory: Remembered) -> World {
    let mut world = World::new(seed);
    let mut nat = Nat::new(ip("203.0.113.1"), AddressAndPortDependent, AddressAndPortDependent);
    nat.blocks = blocks;
    world.network.put_behind(ip(PHONE), nat);
    world.add_phone_with((ip(PHONE), ip(PHONE)), config("1001", AUTO, ""), memory);
    world
}

/// The transports that registrations were told with, in order.
fn told(world: &World) -> Vec<String> {
    let kinds = world.phones[0].all("line.registered").into_iter();
    kinds
        .filter_map(|kind| match kind {
            Kind::LineRegistered { transport, .. } => Some(transport.clone()),
            _ => None,
        })
        .collect()
}

/// How long it takes until the line is registered, in milliseconds.
fn registered_within(world: &mut World, most_ms: u64) -> u64 {
    for ms in (0..=most_ms).step_by(100) {
        if world.phones[0].has("line.registered") {
            return ms;
        }
        world.millis(100);
    }
    panic!("not registered after {most_ms} ms: {:?}", world.phones[0].told());
}

#[test]
fn whatever_gets_out_of_the_office_is_found_within_seconds() {
    for (blocks, transport, most_ms) in [
        (Blocks::Nothing, "udp", 100),
        (Blocks::UdpLoudly, "tcp", 200),
        (Blocks::Udp, "tcp", 2_200),
        (Blocks::AllButTheWeb, "wss", 3_300),
    ] {
        for seed in 1..6 {
            let mut world = behind(blocks, seed, Remembered::default());
            registered_within(&mut world, most_ms);
            assert_eq!(told(&world), [transport], "{blocks:?}");
            assert!(world.rings(), "{blocks:?}");
            world.seconds(600);
            assert!(world.rings(), "{blocks:?} after ten minutes: {:?}", world.phones[0].told());
            assert!(!world.phones[0].has("line.unregistered"));
        }
    }
}

#[test]
fn when_the_firewall_opens_the_line_returns_but_not_during_a_call() {
    let mut world = behind(Blocks::AllButTheWeb, 3, Remembered::default());
    world.seconds(5);
    world.tell(0, call("600"));
    world.network.nat(0).blocks = Blocks::Nothing;
    world.seconds(150);
    assert_eq!(told(&world), ["wss"], "not during a call");
    assert_eq!(world.calls(0).len(), 1);
    world.tell(0, HANG_UP);
    world.seconds(1);
    assert_eq!(told(&world), ["wss", "udp"], "but right after it");
    let sources = world.pbx.registrar().sources(world.now(), "1001");
    assert_eq!(sources.len(), 1, "the old binding is gone: {sources:?}");
    assert!(world.rings());
    world.seconds(7200);
    assert_eq!(told(&world), ["wss", "udp"]);
    assert!(!world.phones[0].has("line.unregistered"));
}

#[test]
fn without_a_call_the_return_takes_a_minute_or_two() {
    for seed in 1..6 {
        let mut world = behind(Blocks::Udp, seed, Remembered::default());
        world.seconds(20);
        world.network.nat(0).blocks = Blocks::Nothing;
        world.seconds(100);
        assert_eq!(told(&world), ["tcp", "udp"]);
    }
}

#[test]
fn what_worked_is_remembered_over_a_restart() {
    let mut world = behind(Blocks::AllButTheWeb, 4, Remembered::default());
    world.seconds(5);
    let kept = world.phones[0].kept.iter().find_map(|write| match write {
        Write::Setting { name, value: Some(value) } if name == "transport.office" => Some(value.clone()),
        _ => None,
    });
    assert_eq!(kept.as_deref(), Some(Transport::Wss.name()));
    let settings = [("transport.office".to_owned(), "wss".to_owned())].into();
    let memory = Remembered { settings, ..Remembered::default() };
    let mut world = behind(Blocks::AllButTheWeb, 5, memory.clone());
    registered_within(&mut world, 100);
    assert_eq!(told(&world), ["wss"]);
    // Elsewhere it is tried first, too, and left again.
    let mut world = behind(Blocks::Nothing, 6, memory);
    world.seconds(120);
    assert_eq!(told(&world), ["wss", "udp"]);
}

#[test]
fn a_firewall_that_closes_takes_the_line_down_for_seconds_only() {
    for seed in 1..6 {
        let mut world = behind(Blocks::Nothing, seed, Remembered::default());
        world.seconds(60);
        world.network.nat(0).blocks = Blocks::AllButTheWeb;
        assert!(!world.rings());
        let took = world.reached_within(60);
        assert!(took.is_some_and(|took| took < 25_000), "{took:?} {:?}", world.phones[0].told());
        assert_eq!(told(&world), ["udp", "wss"]);
    }
}

#[test]
fn a_firewall_without_a_mind_of_its_own_makes_no_line_flap() {
    let mut world = behind(Blocks::Udp, 7, Remembered::default());
    for minute in 0..240 {
        world.network.nat(0).blocks = if minute % 4 < 2 { Blocks::Udp } else { Blocks::Nothing };
        world.seconds(60);
    }
    let moves = told(&world).len();
    assert!(moves <= 24, "{moves} in four hours: {:?}", told(&world));
}

#[test]
fn a_connection_that_the_router_forgot_is_made_anew() {
    for seed in 1..6 {
        let mut world = behind(Blocks::Udp, seed, Remembered::default());
        world.run(Duration::from_millis(30_000 + 900 * seed));
        world.network.nat(0).reboot();
        assert!(!world.rings());
        let took = world.reached_within(60);
        assert!(took.is_some_and(|took| took < 30_000), "{took:?} {:?}", world.phones[0].told());
    }
}

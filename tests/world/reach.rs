//! A phone behind a NAT stays reachable, whatever the network does to it, and costs little.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tipring::phone::Input;

use crate::nat::Dependence::{self, AddressAndPortDependent, EndpointIndependent};
use crate::nat::Nat;
use crate::world::{PBX, World, config};

const PHONE: &str = "10.0.0.2";
const STUN: &str = "198.51.100.20:3478";
const SECOND_STUN: &str = "198.51.100.21:3478";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Who answers STUN.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Stun {
    Nobody,
    /// The registrar, on its SIP port.
    Registrar,
    /// A server that the line names.
    Server,
    /// Both of them.
    Both,
    /// Two servers that the line names.
    TwoServers,
}

/// A registered phone behind a box.
fn behind(mapping: Dependence, lifetime: u64, stun: Stun, seed: u64) -> World {
    behind_over("udp", mapping, lifetime, stun, seed)
}

fn behind_over(transport: &str, mapping: Dependence, lifetime: u64, stun: Stun, seed: u64) -> World {
    let mut world = World::new(seed);
    let mut nat = Nat::new(ip("203.0.113.1"), mapping, AddressAndPortDependent);
    nat.lifetime = Duration::from_secs(lifetime);
    world.network.put_behind(ip(PHONE), nat);
    if matches!(stun, Stun::Registrar | Stun::Both) {
        world.stun.push(SocketAddr::new(PBX, 5060));
    }
    let mut line = "";
    if matches!(stun, Stun::Server | Stun::Both | Stun::TwoServers) {
        world.stun.push(at(STUN));
        world.names.add_address("stun.example", at(STUN).ip());
        line = "[line.nat]\nstun = [\"stun.example\"]";
    }
    if stun == Stun::TwoServers {
        world.stun.push(at(SECOND_STUN));
        world.names.add_address("second.example", at(SECOND_STUN).ip());
        line = "[line.nat]\nstun = [\"stun.example\", \"second.example\"]";
    }
    let line = format!("transport = {transport:?}\n{line}");
    world.add_phone_at(ip(PHONE), config("1001", &line, ""), 0.0);
    world.seconds(10);
    assert!(world.rings(), "{:?}", world.phones[0].told());
    world
}

fn way(world: &World) -> Option<&'static str> {
    world.snapshot(0).lines[0].keep_alive
}

#[test]
fn short_mappings_are_kept_open() {
    for (stun, expected) in
        [(Stun::Nobody, "options"), (Stun::Registrar, "stun"), (Stun::Server, "watch options")]
    {
        for lifetime in [8, 20, 30] {
            for mapping in [EndpointIndependent, AddressAndPortDependent] {
                let mut world = behind(mapping, lifetime, stun, lifetime);
                for idle in [45, 600, 7] {
                    world.seconds(idle);
                    assert!(world.rings(), "{stun:?}, {lifetime} s, {mapping:?}, after {idle} s");
                }
                assert_eq!(way(&world), Some(expected));
                let line = &world.snapshot(0).lines[0];
                let (every, heard) = (line.keep_alive_s.expect("a pace"), line.heard_s.expect("an answer"));
                assert!(every >= 3.7 && heard as f64 <= every + 4.0, "{stun:?}: {every} s, {heard} s ago");
                assert!(!world.phones[0].has("line.unregistered"));
            }
        }
    }
}

/// How a line registers, who answers STUN, and how long its registration may be worthless, in milliseconds. A registrar
/// that answers STUN does so over UDP: who is connected to it has nothing of that.
const WAYS: [(&str, Stun, u64); 10] = [
    ("udp", Stun::Nobody, 13_000),
    ("udp", Stun::Registrar, 5_000),
    ("udp", Stun::Server, 5_000),
    ("udp", Stun::Both, 5_000),
    ("tcp", Stun::Nobody, 15_000),
    ("tcp", Stun::Registrar, 15_000),
    ("tcp", Stun::Server, 5_000),
    ("tls", Stun::Nobody, 15_000),
    ("tls", Stun::Registrar, 15_000),
    ("tls", Stun::Server, 5_000),
];

/// Something makes the registration worthless, at any moment.
fn comes_back(event: impl Fn(&mut World)) {
    for (row, (transport, stun, most_ms)) in WAYS.into_iter().enumerate() {
        let mut worst = 0;
        for moment in 0..12 {
            let seed = 100 * (row as u64 + 1) + moment;
            let mut world = behind_over(transport, AddressAndPortDependent, 120, stun, seed);
            world.millis(60_000 + 970 * moment);
            event(&mut world);
            assert!(!world.rings(), "the event is one");
            let took = world.reached_within(40).expect("the phone is reached again");
            worst = worst.max(took + 500);
            if transport == "udp" {
                assert!(!world.phones[0].has("line.unregistered"), "{:?}", world.phones[0].told());
            }
        }
        assert!(worst <= most_ms, "{transport}, {stun:?}: {worst} ms");
    }
}

#[test]
fn a_new_public_address_is_followed() {
    comes_back(|world| world.network.nat(0).readdress(ip("203.0.113.99")));
}

#[test]
fn a_router_that_forgets_its_mappings_is_taught_again() {
    comes_back(|world| world.network.nat(0).reboot());
}

/// By then its registration has run out, and its NAT may have forgotten the connection, too.
#[test]
fn a_machine_that_slept_for_an_hour_is_reached_again() {
    for forgotten in [false, true] {
        comes_back(|world| {
            if forgotten {
                world.network.nat(0).reboot();
            }
            world.sleep(0, Duration::from_secs(3600));
        });
    }
}

/// Here nothing but the sleep tells the phone that its registration has run out.
#[test]
fn a_machine_without_a_nat_that_slept_for_an_hour_is_reached_again() {
    for transport in ["udp", "tcp", "tls"] {
        for mode in ["auto", "off"] {
            for moment in 0..6 {
                let mut world = World::new(moment);
                let line = format!("transport = {transport:?}\n[line.nat]\nmode = {mode:?}");
                world.add_phone(config("1001", &line, ""));
                world.millis(20_000 + 970 * moment);
                world.sleep(0, Duration::from_secs(3600));
                assert!(!world.rings(), "the sleep is one");
                let took = world.reached_within(40);
                assert!(took.is_some_and(|took| took <= 5_000), "{transport}, {mode}, {moment}: {took:?}");
            }
        }
    }
}

#[test]
fn a_pbx_that_comes_back_without_its_registrations_has_them_within_five_seconds() {
    for (transport, stun, seed) in [
        ("udp", Stun::Nobody, 100),
        ("udp", Stun::Registrar, 200),
        ("udp", Stun::Server, 300),
        ("tcp", Stun::Nobody, 400),
        ("tls", Stun::Nobody, 500),
    ] {
        for moment in 0..10 {
            let mut world = behind_over(transport, AddressAndPortDependent, 120, stun, seed + moment);
            world.millis(30_000 + 970 * moment);
            world.pbx.silent = true;
            world.pbx_host_stands = moment % 2 == 0 || stun == Stun::Server;
            world.millis(60_000 + 1_300 * moment);
            world.restart_pbx();
            let took = world.reached_within(40);
            assert!(took.is_some_and(|took| took <= 5_000), "{transport} {stun:?} {moment}: {took:?}");
        }
    }
}

#[test]
fn a_pbx_that_takes_connections_before_it_hears_them_is_asked_on_new_ones() {
    for transport in ["tcp", "tls"] {
        for moment in 0..12 {
            let mut world = behind_over(transport, AddressAndPortDependent, 120, Stun::Nobody, 900 + moment);
            world.millis(30_000 + 970 * moment);
            world.pbx.silent = true;
            world.pbx_host_stands = true;
            world.seconds(50);
            world.pbx_boots = true;
            world.millis(700 + 1_300 * moment);
            world.restart_pbx();
            let took = world.reached_within(60);
            assert!(took.is_some_and(|took| took <= 5_000), "{transport} {moment}: {took:?}");
        }
    }
}

#[test]
fn after_an_outage_of_an_hour_the_way_back_takes_minutes_and_little_traffic() {
    let mut world = behind(AddressAndPortDependent, 120, Stun::Nobody, 1);
    world.pbx.silent = true;
    world.seconds(1800);
    let before = world.network.octets[&ip(PHONE)];
    world.seconds(1800);
    let octets = world.network.octets[&ip(PHONE)] - before;
    assert!(octets < 40_000, "{octets}");
    world.restart_pbx();
    assert!(world.reached_within(200).is_some());
}

#[test]
fn being_reachable_costs_little() {
    let most_of = [
        (Stun::Nobody, 400_000),
        (Stun::Registrar, 200_000),
        (Stun::Server, 200_000),
        (Stun::Both, 200_000),
        (Stun::TwoServers, 200_000),
    ];
    for (stun, most) in most_of {
        let mut world = behind(AddressAndPortDependent, 30, stun, 3);
        let before = world.network.octets[&ip(PHONE)];
        world.seconds(3600);
        let octets = world.network.octets[&ip(PHONE)] - before;
        assert!(octets < most, "{stun:?}: {octets}");
        assert!(world.rings());
    }
}

#[test]
fn a_full_list_of_contacts_is_no_obstacle_to_a_new_address() {
    for stun in [Stun::Nobody, Stun::Registrar, Stun::Server] {
        let mut world = behind(EndpointIndependent, 120, stun, 5);
        world.seconds(60);
        // From now on the PBX believes the Contact and keeps one.
        world.pbx.manners().by_source = false;
        world.pbx.manners().most_contacts = Some(1);
        assert!(world.rings());
        world.network.nat(0).readdress(ip("203.0.113.99"));
        let took = world.reached_within(40);
        assert!(took.is_some_and(|took| took <= 13_000), "{stun:?}: {took:?}");
        assert_eq!(world.pbx.registrar().wrong, 0);
        assert!(!world.phones[0].has("line.rejected") && !world.phones[0].has("auth.failed"));
        let sources = world.pbx.registrar().sources(world.now(), "1001");
        assert_eq!(sources.len(), 1);
    }
}

#[test]
fn a_changed_network_of_our_own_registers_at_once() {
    let mut world = behind(AddressAndPortDependent, 120, Stun::Nobody, 6);
    world.network.nat(0).reboot();
    world.input(0, Input::NetworkChanged { addresses: vec![PHONE.parse().unwrap()] });
    world.millis(100);
    assert!(world.rings());
    assert!(world.phones[0].has("device.network.changed"));
}

#[test]
fn where_nothing_is_to_be_kept_nothing_is_sent() {
    let mut world = World::new(7);
    world.add_phone(config("1001", "expires = \"1h\"\n[line.nat]\nmode = \"off\"", ""));
    world.seconds(10);
    let phone = world.phones[0].address;
    let before = world.network.octets[&phone];
    world.seconds(2400);
    assert_eq!(world.network.octets[&phone], before);
    assert_eq!(way(&world), None);
}

#[test]
fn stun_servers_are_found_by_their_service_and_the_next_one_is_asked_when_one_is_silent() {
    let mut world = World::new(10);
    world
        .network
        .put_behind(ip(PHONE), Nat::new(ip("203.0.113.1"), EndpointIndependent, EndpointIndependent));
    let [first, second] = [at("198.51.100.20:40000"), at("198.51.100.21:3479")];
    world.names.add_service("_stun._udp.office.example", 20, "two.office.example", second.port());
    world.names.add_service("_stun._udp.office.example", 10, "one.office.example", first.port());
    world.names.add_address("one.office.example", first.ip());
    world.names.add_address("two.office.example", second.ip());
    world.stun = vec![first, second];
    let line = "[line.nat]\nstun = [\"office.example\"]";
    world.add_phone_at(ip(PHONE), config("1001", line, ""), 0.0);
    world.seconds(10);
    assert_eq!(way(&world), Some("watch options"));
    world.stun = vec![second];
    world.seconds(30);
    assert_eq!(way(&world), Some("watch options"));
    world.stun.clear();
    world.seconds(30);
    assert_eq!(way(&world), Some("options"));
}

/// Of a phone with both versions of IP only the outside of that one counts by which its PBX is reached.
#[test]
fn the_outside_is_watched_in_the_family_of_the_line() {
    let mut world = World::new(14);
    let nat = Nat::new(ip("203.0.113.1"), AddressAndPortDependent, AddressAndPortDependent);
    world.network.put_behind(ip(PHONE), nat);
    let six = at("[2001:db8::20]:3478");
    world.names.add_address("both.example", six.ip());
    world.names.add_address("both.example", at(STUN).ip());
    world.names.add_address("six.example", six.ip());
    world.stun = vec![six, at(STUN)];
    let line = "[line.nat]\nstun = [\"six.example\", \"both.example\"]";
    world.add_phone_at(ip(PHONE), config("1001", line, "[sip]\nbind = \"::\""), 0.0);
    let now = world.now();
    world.phones[0].add_address(now, ip("2001:db8::11"));
    world.seconds(10);
    let asked =
        |world: &World, server: IpAddr| world.network.octets.get(&server).copied().unwrap_or_default();
    let before = [six.ip(), at(STUN).ip()].map(|server| asked(&world, server));
    world.seconds(60);
    assert_eq!(way(&world), Some("watch options"));
    assert_eq!(asked(&world, six.ip()), before[0]);
    assert!(asked(&world, at(STUN).ip()) > before[1] + 1_000);
    world.network.nat(0).readdress(ip("203.0.113.99"));
    let took = world.reached_within(20);
    assert!(took.is_some_and(|took| took <= 5_000), "{took:?}");
}

#[test]
fn an_idle_connection_behind_a_short_mapping_stays_open() {
    for transport in ["tcp", "tls"] {
        let mut world = behind_over(transport, AddressAndPortDependent, 30, Stun::Nobody, 8);
        for idle in [45, 600] {
            world.seconds(idle);
            assert!(world.rings(), "{transport}, after {idle} s");
        }
        assert_eq!(way(&world), Some("crlf"), "the PBX of this world pongs");
        assert_eq!(world.phones[0].all("line.registered").len(), 1);
    }
}

/// The PBX asks each of its phones for some minutes, every half minute, whether it is there.
fn visited(seed: u64, visits: u64) -> World {
    let mut world = behind(AddressAndPortDependent, 120, Stun::Server, seed);
    for visit in 0..visits {
        let (now, server) = (world.now(), SocketAddr::new(PBX, 5060));
        for phone in world.pbx.registrar().sources(now, "1001") {
            let options = format!(
                "OPTIONS sip:1001@{phone} SIP/2.0\r\nVia: SIP/2.0/UDP {server};branch=z9hG4bKvisit{visit}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:{server}>;tag=v\r\nTo: <sip:1001@{phone}>\r\n\
                 Call-ID: visit{visit}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            world.network.send(now.mono_us, server, phone, options.into_bytes());
        }
        world.seconds(30);
    }
    world
}

#[test]
fn a_pbx_that_no_longer_asks_for_a_phone_gets_its_registration_again() {
    for (visits, found) in [(5, true), (0, false)] {
        // It is back at once, answers everybody, and knows nobody.
        let mut world = visited(12, visits);
        world.restart_pbx();
        let took = world.reached_within(60);
        assert_eq!(took.is_some_and(|took| took <= 40_000), found, "{visits} visits, forgotten: {took:?}");
        assert!(!world.phones[0].has("line.unregistered"), "nothing was lost that a call would need");
        // It is gone without a word, and comes back as its absence is about to be noticed by the visits that are missing.
        let mut world = visited(13, visits);
        world.pbx.silent = true;
        world.seconds(42);
        world.restart_pbx();
        let took = world.reached_within(60);
        assert_eq!(took.is_some_and(|took| took <= 6_000), found, "{visits} visits, vanished: {took:?}");
    }
}

#[test]
fn beside_a_watch_a_pbx_whose_whole_machine_was_away_is_found_after_minutes() {
    let mut world = behind(AddressAndPortDependent, 120, Stun::Server, 9);
    world.pbx.silent = true;
    world.seconds(200);
    world.restart_pbx();
    assert!(world.reached_within(12).is_some());
}

//! Discovery (RFC 5780) against boxes of every kind, and against servers that can't, won't or lie.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tipring::chance::Chance;
use tipring::nat::discovery::{Dependence as Found, Discovered, Discovery, Lifetime, Question, Socket};
use tipring::nat::stun::{Class, Message, Refusal, Seal};
use tipring::now::{Now, earliest};

use crate::nat::Dependence::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent};
use crate::nat::Nat;
use crate::network::{Link, Network};

const PHONE: &str = "192.168.1.10:40000";
const PUBLIC: &str = "203.0.113.1";
const FIRST: [&str; 2] = ["198.51.100.1:3478", "198.51.100.2:3479"];
const LONE: &str = "198.51.100.9:3478";

/// What a server does with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// As RFC 5780 says.
    Right,
    /// It has one address, and passes over what it does not know.
    Simple,
    /// It refuses what it does not know.
    Strict,
    Silent,
    /// It answers so late that the question was asked again, and each of them.
    Late,
    /// It names an address inside the office as its other one.
    Luring,
    /// Its answers have another transaction, another family, or come from somewhere else; never the right one.
    Forging,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What the server sends: from where, whither, what, and how much later.
fn answers(
    manner: Manner,
    asked_at: SocketAddr,
    from: SocketAddr,
    bytes: &[u8],
) -> Vec<(SocketAddr, SocketAddr, Vec<u8>, u64)> {
    let Ok(request) = Message::read(bytes) else { return Vec::new() };
    if request.class != Class::Request {
        return Vec::new();
    }
    let [one, two] = FIRST.map(address);
    let mut answer = Message::binding_answer(request.id, from);
    let mut source = asked_at;
    let mut to = from;
    let knows = matches!(manner, Manner::Right | Manner::Late);
    if knows {
        let (other_ip, other_port) = (
            if asked_at.ip() == one.ip() { two } else { one },
            if asked_at.port() == one.port() { two } else { one },
        );
        answer.other_address = Some(SocketAddr::new(other_ip.ip(), other_port.port()));
        let change = request.change.unwrap_or_default();
        source = SocketAddr::new(
            if change.address { other_ip.ip() } else { asked_at.ip() },
            if change.port { other_port.port() } else { asked_at.port() },
        );
        to.set_port(request.response_port.unwrap_or(from.port()));
    }
    match manner {
        Manner::Silent => return Vec::new(),
        Manner::Strict if request.change.is_some() || request.response_port.is_some() => {
            answer = Message::new(Class::Error, request.id);
            answer.refusal = Some(Refusal { code: 420, reason: "Unknown Attribute".into() });
        }
        Manner::Luring => answer.other_address = Some(address("192.168.1.1:80")),
        Manner::Forging => {
            let mut other = answer.clone();
            other.id.0[0] ^= 1;
            let family = Message::binding_answer(request.id, address("[2001:db8::1]:9"));
            let elsewhere = address("198.51.100.66:3478");
            return vec![
                (source, to, other.write(Seal::Plain), 0),
                (elsewhere, to, answer.write(Seal::Plain), 0),
                (source, to, family.write(Seal::Plain), 0),
            ];
        }
        _ => {}
    }
    let late_us = if manner == Manner::Late { 900_000 } else { 0 };
    vec![(source, to, answer.write(Seal::Plain), late_us)]
}

struct Ran {
    found: Discovered,
    seconds: f64,
    /// To whom the phone sent.
    asked: BTreeMap<SocketAddr, u32>,
}

fn run(nat: Option<Nat>, servers: &[(&str, Manner)], ages: &[u64], lost: f64) -> Ran {
    let own = address(PHONE);
    let mut network = Network::new(Chance::from_number(7));
    network.set_link(own.ip(), Link { delay_us: 20_000, loss: lost, ..Link::default() });
    if let Some(nat) = nat {
        network.put_behind(own.ip(), nat);
    }
    let question = Question {
        own,
        servers: servers.iter().map(|(server, _)| address(server)).collect(),
        ages: ages.iter().map(|age| Duration::from_secs(*age)).collect(),
    };
    let number = |socket: Socket| match socket {
        Socket::First => 0,
        Socket::Second => 1,
        Socket::Aged(number) => 2 + u16::from(number),
    };
    let socket = |port: u16| match port - own.port() {
        0 => Socket::First,
        1 => Socket::Second,
        aged => Socket::Aged(u8::try_from(aged - 2).expect("a socket")),
    };
    let mut now = Now::default();
    let mut discovery = Discovery::new(now, question, Chance::from_number(1));
    let mut later: Vec<(u64, SocketAddr, SocketAddr, Vec<u8>)> = Vec::new();
    let mut asked = BTreeMap::new();
    loop {
        while let Some((from, to, bytes)) = discovery.poll_transmit(now) {
            *asked.entry(to).or_default() += 1;
            let from = SocketAddr::new(own.ip(), own.port() + number(from));
            network.send(now.mono_us, from, to, bytes);
        }
        if let Some(found) = discovery.found() {
            return Ran { found: found.clone(), seconds: now.mono_us as f64 / 1e6, asked };
        }
        let due = [network.next_arrival(), later.iter().map(|it| it.0).min(), discovery.poll_timeout()];
        let next = due.into_iter().fold(None, earliest).expect("something is under way");
        now = now.plus(Duration::from_micros(next.saturating_sub(now.mono_us)));
        for (_, from, to, bytes) in later.extract_if(.., |it| it.0 <= next).collect::<Vec<_>>() {
            network.send(next, from, to, bytes);
        }
        while let Some(datagram) = network.arrive(next) {
            if datagram.to.ip() == own.ip() {
                discovery.handle_datagram(now, socket(datagram.to.port()), datagram.from, &datagram.bytes);
                continue;
            }
            // The second address belongs to the first server.
            let is_second = datagram.to.ip() == address(FIRST[1]).ip();
            let host = if is_second { address(FIRST[0]).ip() } else { datagram.to.ip() };
            let Some((_, manner)) = servers.iter().find(|(server, _)| address(server).ip() == host) else {
                continue;
            };
            let manner = *manner;
            for (from, to, bytes, wait_us) in answers(manner, datagram.to, datagram.from, &datagram.bytes) {
                later.push((next + wait_us, from, to, bytes));
            }
        }
        discovery.handle_timeout(now);
    }
}

fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
    Nat::new(PUBLIC.parse::<IpAddr>().expect("an address"), mapping, filtering)
}

fn same(dependence: Dependence) -> Option<Found> {
    Some(match dependence {
        EndpointIndependent => Found::EndpointIndependent,
        AddressDependent => Found::AddressDependent,
        AddressAndPortDependent => Found::AddressAndPortDependent,
    })
}

#[test]
fn every_kind_of_box_is_told_by_its_name() {
    let all = [EndpointIndependent, AddressDependent, AddressAndPortDependent];
    for (mapping, filtering) in all.into_iter().flat_map(|mapping| all.map(|filtering| (mapping, filtering)))
    {
        for hairpins in [false, true] {
            let mut nat = nat(mapping, filtering);
            nat.hairpins = hairpins;
            let ran = run(Some(nat), &[(FIRST[0], Manner::Right)], &[], 0.0);
            let (found, what) = (&ran.found, format!("{mapping:?} {filtering:?}: {:?}", ran.found));
            assert_eq!((found.mapping, found.filtering), (same(mapping), same(filtering)), "{what}");
            assert_eq!((found.translated, found.stable), (Some(true), Some(true)), "{what}");
            assert_eq!(found.mapped.map(|at| at.ip().to_string()).as_deref(), Some(PUBLIC), "{what}");
            // A filter stands before the neighbour as before everybody else.
            let reached = hairpins && filtering == EndpointIndependent && mapping == EndpointIndependent;
            assert!(!reached || found.hairpin == Some(true), "{what}");
            assert!(hairpins || found.hairpin == Some(false), "{what}");
            assert!(ran.seconds < 8.0, "{} s", ran.seconds);
        }
    }
}

#[test]
fn without_a_box_there_is_no_mapping_and_the_firewall_is_seen() {
    let ran = run(None, &[(FIRST[0], Manner::Right)], &[10], 0.0);
    assert_eq!((ran.found.translated, ran.found.mapping, ran.found.hairpin), (Some(false), None, None));
    assert_eq!(ran.found.filtering, Some(Found::EndpointIndependent));
    assert_eq!((ran.found.mapped, ran.found.lifetime), (Some(address(PHONE)), None));
}

#[test]
fn a_mapping_is_left_alone_until_it_is_gone() {
    let ages = [10, 20, 30, 60];
    for filtering in [EndpointIndependent, AddressAndPortDependent] {
        let mut nat = nat(EndpointIndependent, filtering);
        nat.lifetime = Duration::from_secs(25);
        let ran = run(Some(nat.clone()), &[(FIRST[0], Manner::Right)], &ages, 0.0);
        assert_eq!(ran.found.lifetime, Some(Lifetime { alive_s: Some(20), gone_s: Some(30) }));
        assert!((60.0..75.0).contains(&ran.seconds), "{} s", ran.seconds);
        nat.lifetime = Duration::from_secs(300);
        let ran = run(Some(nat), &[(FIRST[0], Manner::Right)], &ages, 0.0);
        assert_eq!(ran.found.lifetime, Some(Lifetime { alive_s: Some(60), gone_s: None }));
    }
}

#[test]
fn what_a_simple_server_can_not_tell_stays_open() {
    for manner in [Manner::Simple, Manner::Strict, Manner::Luring] {
        let symmetric = nat(AddressAndPortDependent, AddressAndPortDependent);
        let ran = run(Some(symmetric.clone()), &[(LONE, manner)], &[10], 0.0);
        let found = &ran.found;
        assert_eq!((found.mapping, found.filtering, found.lifetime), (None, None, None), "{manner:?}");
        assert!(found.mapped.is_some() && found.stable == Some(true), "{manner:?}");
        assert!(ran.seconds < 10.0, "no wait for a mapping that nobody can look at: {}", ran.seconds);
        let strangers: Vec<_> =
            ran.asked.keys().filter(|to| **to != address(LONE) && to.ip().to_string() != PUBLIC).collect();
        assert!(strangers.is_empty(), "{manner:?}: {strangers:?}");
        // Two of them at least see whether the mapping is the same for both.
        let two = [("198.51.100.8:3478", manner), (LONE, manner)];
        assert_eq!(run(Some(symmetric), &two, &[], 0.0).found.mapping, Some(Found::PeerDependent));
        let cone = nat(EndpointIndependent, AddressDependent);
        let found = run(Some(cone), &two, &[], 0.0).found;
        assert_eq!((found.mapping, found.filtering), (Some(Found::EndpointIndependent), None));
    }
}

#[test]
fn nobody_who_answers_is_the_end_of_it() {
    for manner in [Manner::Silent, Manner::Forging] {
        let ran = run(
            Some(nat(EndpointIndependent, EndpointIndependent)),
            &[(FIRST[0], manner), (LONE, manner)],
            &[30],
            0.0,
        );
        let found = &ran.found;
        assert_eq!((found.mapped, found.translated, found.stable), (None, None, None), "{manner:?}");
        assert_eq!((found.mapping, found.filtering, found.hairpin), (None, None, None), "{manner:?}");
        assert!(ran.seconds <= 3.1, "{} s", ran.seconds);
    }
}

#[test]
fn late_answers_and_lost_ones_are_waited_for() {
    let cone = || nat(EndpointIndependent, AddressDependent);
    let right = (Some(Found::EndpointIndependent), Some(Found::AddressDependent));
    let late = run(Some(cone()), &[(FIRST[0], Manner::Late)], &[], 0.0).found;
    assert_eq!((late.mapping, late.filtering), right);
    let lossy = run(Some(cone()), &[(FIRST[0], Manner::Right)], &[], 0.1).found;
    assert_eq!((lossy.mapping, lossy.filtering), right);
}

#[test]
fn servers_are_limited_and_those_of_another_family_are_left_out() {
    let mut servers = vec![("[2001:db8::1]:3478", Manner::Right)];
    servers.extend([(LONE, Manner::Simple); 20]);
    let ran = run(None, &servers, &[1; 40], 0.0);
    assert_eq!(ran.found.servers.len(), tipring::nat::discovery::MOST_SERVERS);
}

//! A NAT box in the words of RFC 4787: how it maps, what it filters, how long it remembers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::gateway::Blocks;

/// What a mapping or a filter depends on (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dependence {
    /// Nothing: one mapping for every peer; everybody may come in.
    EndpointIndependent,
    /// The peer's address.
    AddressDependent,
    /// The peer's address and port.
    AddressAndPortDependent,
}

impl Dependence {
    fn same(self, a: SocketAddr, b: SocketAddr) -> bool {
        match self {
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => a.ip() == b.ip(),
            Dependence::AddressAndPortDependent => a == b,
        }
    }
}

/// One mapping.
#[derive(Clone, Debug)]
struct Mapping {
    inside: SocketAddr,
    /// The peer that it was made for.
    made_for: SocketAddr,
    outside: u16,
    /// Peers that something was sent to.
    spoken_to: Vec<SocketAddr>,
    /// When something went out last.
    used_us: u64,
}

/// A NAT box with one public address.
#[derive(Clone, Debug)]
pub struct Nat {
    pub public: IpAddr,
    pub mapping: Dependence,
    pub filtering: Dependence,
    /// Whether the outside port is the inside one while that is free.
    pub preserves_ports: bool,
    /// Whether inside hosts reach each other by their outside addresses (RFC 4787 §6).
    pub hairpins: bool,
    /// What does not get out.
    pub blocks: Blocks,
    /// Whether it reads along in SIP over UDP and writes its own address there.
    pub reads_sip: bool,
    /// How long a mapping lives without anything going out (RFC 4787 §4.3).
    pub lifetime: Duration,
    /// Datagrams that were not let in.
    pub filtered: u64,
    mappings: Vec<Mapping>,
    /// Outside ports of connections that it knows.
    streams: Vec<u16>,
    next: u16,
}

impl Nat {
    pub fn new(public: IpAddr, mapping: Dependence, filtering: Dependence) -> Nat {
        Nat {
            public,
            mapping,
            filtering,
            preserves_ports: false,
            hairpins: false,
            blocks: Blocks::Nothing,
            reads_sip: false,
            lifetime: Duration::from_secs(120),
            filtered: 0,
            mappings: Vec::new(),
            streams: Vec::new(),
            next: 40_000,
        }
    }

    /// Something goes out: the address that the peer sees it come from.
    pub fn outbound(&mut self, now_us: u64, inside: SocketAddr, peer: SocketAddr) -> SocketAddr {
        self.forget(now_us);
        let dependence = self.mapping;
        let known =
            self.mappings.iter().position(|one| one.inside == inside && dependence.same(one.made_for, peer));
        let index = known.unwrap_or_else(|| {
            let outside = self.free_port(inside.port());
            self.mappings.push(Mapping {
                inside,
                made_for: peer,
                outside,
                spoken_to: Vec::new(),
                used_us: now_us,
            });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[index];
        mapping.used_us = now_us;
        if !mapping.spoken_to.contains(&peer) {
            mapping.spoken_to.push(peer);
        }
        SocketAddr::new(self.public, mapping.outside)
    }

    /// Something comes in at an outside port: the inside address it goes to, if it is let in.
    pub fn inbound(&mut self, now_us: u64, peer: SocketAddr, outside: u16) -> Option<SocketAddr> {
        self.forget(now_us);
        if !self.blocks.passes_datagrams() {
            return None;
        }
        let filtering = self.filtering;
        let mapping = self.mappings.iter().find(|mapping| mapping.outside == outside);
        let inside = mapping
            .filter(|mapping| mapping.spoken_to.iter().any(|known| filtering.same(*known, peer)))
            .map(|mapping| mapping.inside);
        self.filtered += u64::from(inside.is_none());
        inside
    }

    /// A connection goes out: the address that the peer sees it come from.
    pub fn connect(&mut self) -> SocketAddr {
        self.next += 1;
        self.streams.push(self.next);
        SocketAddr::new(self.public, self.next)
    }

    /// Whether it still knows the connection that it gave this address.
    pub fn carries(&self, outside: SocketAddr) -> bool {
        outside.ip() == self.public && self.streams.contains(&outside.port())
    }

    /// It loses its power: all mappings are gone, and the next ones have other ports.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.streams.clear();
        self.next += 1000;
    }

    /// The provider gives it another public address.
    pub fn readdress(&mut self, public: IpAddr) {
        self.public = public;
        self.reboot();
    }

    fn forget(&mut self, now_us: u64) {
        let lifetime = u64::try_from(self.lifetime.as_micros()).expect("a lifetime");
        self.mappings.retain(|mapping| mapping.used_us + lifetime > now_us);
    }

    fn free_port(&mut self, inside: u16) -> u16 {
        let taken = |port: u16| self.mappings.iter().any(|mapping| mapping.outside == port);
        if self.preserves_ports && !taken(inside) {
            return inside;
        }
        while taken(self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn box_of(mapping: Dependence, filtering: Dependence) -> Nat {
    Nat::new("203.0.113.1".parse().expect("an address"), mapping, filtering)
}

#[test]
fn one_mapping_serves_every_peer_or_each_has_its_own() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let inside = at("10.0.0.2:5060");
    for (mapping, same_host, other_host) in [
        (EndpointIndependent, true, true),
        (AddressDependent, true, false),
        (AddressAndPortDependent, false, false),
    ] {
        let mut nat = box_of(mapping, EndpointIndependent);
        let first = nat.outbound(0, inside, at("198.51.100.1:5060"));
        assert_eq!(nat.outbound(1, inside, at("198.51.100.1:7000")) == first, same_host, "{mapping:?}");
        assert_eq!(nat.outbound(2, inside, at("198.51.100.9:5060")) == first, other_host, "{mapping:?}");
    }
}

#[test]
fn only_who_was_spoken_to_comes_in() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (filtering, stranger, other_port) in [
        (EndpointIndependent, true, true),
        (AddressDependent, false, true),
        (AddressAndPortDependent, false, false),
    ] {
        let mut nat = box_of(EndpointIndependent, filtering);
        let outside = nat.outbound(0, at("10.0.0.2:5060"), at("198.51.100.1:5060")).port();
        assert_eq!(nat.inbound(1, at("198.51.100.1:5060"), outside), Some(at("10.0.0.2:5060")));
        assert_eq!(nat.inbound(1, at("198.51.100.1:7000"), outside).is_some(), other_port, "{filtering:?}");
        assert_eq!(nat.inbound(1, at("198.51.100.9:5060"), outside).is_some(), stranger, "{filtering:?}");
    }
}

#[test]
fn a_mapping_lives_by_what_goes_out() {
    let mut nat = box_of(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
    let (inside, peer) = (at("10.0.0.2:5060"), at("198.51.100.1:5060"));
    let outside = nat.outbound(0, inside, peer).port();
    nat.outbound(100_000_000, inside, peer);
    assert!(nat.inbound(219_000_000, peer, outside).is_some());
    assert!(nat.inbound(221_000_000, peer, outside).is_none(), "what came in did not refresh it");
}

#[test]
fn ports_are_preserved_while_they_are_free() {
    let mut nat = box_of(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
    nat.preserves_ports = true;
    let peer = at("198.51.100.1:5060");
    assert_eq!(nat.outbound(0, at("10.0.0.2:5060"), peer).port(), 5060);
    assert_ne!(nat.outbound(0, at("10.0.0.3:5060"), peer).port(), 5060);
}

//! The network between the machines of the world: datagrams, their weather, and the NAT boxes on their way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};

use tipring::chance::Chance;
use tipring::now::earliest;

use crate::gateway::{Blocks, rewrite, transport_of};
use crate::handset::SIP;
use crate::nat::Nat;
use crate::streams::Streams;

/// How a PBX that is not there is missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Away {
    /// Its host stands, and says that nobody listens.
    Refusing,
    /// Nothing is acknowledged.
    Deaf,
}

/// Losses that come in bursts: the model of Gilbert, where nothing gets through in the bad state.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bursts {
    /// The probability, per datagram, that a burst begins.
    pub begin: f64,
    /// The probability, per datagram, that it ends.
    pub end: f64,
}

/// The weather on the way to and from one machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// What every datagram takes, one way.
    pub delay_us: u64,
    /// What it takes longer at most; order is kept.
    pub jitter_us: u64,
    /// The probability that one is lost.
    pub loss: f64,
    pub bursts: Option<Bursts>,
    /// The probability that one is overtaken by those within 30 ms behind it.
    pub reorder: f64,
    /// The probability that one comes twice.
    pub duplicate: f64,
    /// Bits per second; what does not fit waits.
    pub rate: Option<u64>,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            delay_us: 2_000,
            jitter_us: 0,
            loss: 0.0,
            bursts: None,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
        }
    }
}

/// How long an overtaken datagram is held up.
const HELD_UP_US: u64 = 30_000;

/// One direction of a link at work.
#[derive(Default, Debug)]
struct Lane {
    in_burst: bool,
    /// When the one before arrives: order is kept.
    last_us: u64,
    /// When the sender is free again.
    free_us: u64,
}

/// A datagram on its way. The order of sending decides between those that arrive at once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Datagram {
    pub at_us: u64,
    order: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// The network.
pub struct Network {
    links: BTreeMap<IpAddr, Link>,
    lanes: BTreeMap<(IpAddr, bool), Lane>,
    nats: Vec<Nat>,
    /// Which machine is behind which box.
    behind: BTreeMap<IpAddr, usize>,
    under_way: BinaryHeap<Reverse<Datagram>>,
    order: u64,
    chance: Chance,
    /// Everything that was ever sent, for those who look for secrets.
    pub seen: Option<Vec<Vec<u8>>>,
    /// Nothing leaves an office from an odd port: RTCP, where it has one of its own.
    pub odd_ports_blocked: bool,
    /// RTCP gets lost, with or without SRTP; what else goes to its port does not.
    pub reports_lost: bool,
    pub streams: Streams,
    /// Where the PBX takes connections; nobody else does.
    pub listens: Vec<SocketAddr>,
    /// The PBX is not there: its host refuses connections, or acknowledges nothing.
    pub away: Option<Away>,
    /// Octets to and from each machine, with the headers of IPv4 and UDP.
    pub octets: BTreeMap<IpAddr, u64>,
}

impl Network {
    pub fn new(chance: Chance) -> Network {
        Network {
            links: BTreeMap::new(),
            lanes: BTreeMap::new(),
            nats: Vec::new(),
            behind: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            chance,
            seen: None,
            odd_ports_blocked: false,
            reports_lost: false,
            streams: Streams::default(),
            listens: Vec::new(),
            away: None,
            octets: BTreeMap::new(),
        }
    }

    /// The weather around one machine from now on.
    pub fn set_link(&mut self, machine: IpAddr, link: Link) {
        self.links.insert(machine, link);
    }

    /// Puts a machine behind a box; the box's number.
    pub fn put_behind(&mut self, machine: IpAddr, nat: Nat) -> usize {
        self.nats.push(nat);
        self.behind.insert(machine, self.nats.len() - 1);
        self.nats.len() - 1
    }

    /// Puts one more machine behind a box.
    pub fn put_beside(&mut self, machine: IpAddr, nat: usize) {
        self.behind.insert(machine, nat);
    }

    pub fn nat(&mut self, number: usize) -> &mut Nat {
        &mut self.nats[number]
    }

    /// The machine behind the box at a public address.
    pub fn inside_of(&mut self, public: SocketAddr) -> Option<IpAddr> {
        let nat = self.nats.iter().position(|nat| nat.public == public.ip())?;
        self.behind.iter().find(|(_, behind)| **behind == nat).map(|(machine, _)| *machine)
    }

    /// Sends a datagram from one machine to wherever it gets.
    pub fn send(&mut self, now_us: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(seen) = &mut self.seen {
            seen.push(bytes.clone());
        }
        if self.odd_ports_blocked && self.behind.contains_key(&from.ip()) && from.port() % 2 == 1 {
            return;
        }
        if self.reports_lost && matches!(bytes[..], [0x80..0xc0, 200..=207, ..]) {
            return;
        }
        *self.octets.entry(from.ip()).or_default() += bytes.len() as u64 + 28;
        let (mut source, mut bytes) = (from, bytes);
        // A box may be behind another one. Two behind one box reach each other past it.
        while let Some(nat) = self.behind.get(&source.ip()).copied()
            && self.behind.get(&to.ip()) != Some(&nat)
        {
            let nat = &mut self.nats[nat];
            if !nat.blocks.passes_datagrams() {
                return;
            }
            let inside = source;
            source = nat.outbound(now_us, inside, to);
            if nat.reads_sip && to.port() == SIP {
                bytes = rewrite(&bytes, inside, source);
            }
            if to.ip() == nat.public && !nat.hairpins {
                return;
            }
        }
        let Some(at_us) = self.pass(now_us, from.ip(), true, bytes.len()) else { return };
        let copies = if self.chance.happens(self.link(from.ip()).duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            self.order += 1;
            let datagram = Datagram { at_us, order: self.order, from: source, to, bytes: bytes.clone() };
            self.under_way.push(Reverse(datagram));
        }
    }

    /// Whether a box on the way refuses datagrams and says so.
    pub fn is_refused(&self, machine: IpAddr) -> bool {
        self.boxes_of(machine).any(|nat| nat.blocks == Blocks::UdpLoudly)
    }

    /// The boxes before a machine, the nearest first.
    fn boxes_of(&self, machine: IpAddr) -> impl Iterator<Item = &Nat> {
        let nearest = self.behind.get(&machine).map(|number| &self.nats[*number]);
        std::iter::successors(nearest, |nat| self.behind.get(&nat.public).map(|number| &self.nats[*number]))
    }

    /// A phone wants a connection, from this inside address.
    pub fn connect(
        &mut self,
        now_us: u64,
        machine: IpAddr,
        connection: u64,
        own: IpAddr,
        remote: SocketAddr,
        times: u32,
    ) {
        if !self.boxes_of(machine).all(|nat| nat.blocks.passes_streams_to(remote.port())) {
            return;
        }
        let way_us = self.link(machine).delay_us;
        match self.away {
            Some(Away::Deaf) => {
                return self.streams.unanswered(now_us, (machine, connection), (own, remote), times);
            }
            Some(Away::Refusing) => return self.streams.refuse(now_us, way_us, machine, connection),
            None => {}
        }
        let local = SocketAddr::new(own, 50_000 + (connection % 1000) as u16);
        let transport = transport_of(remote.port()).filter(|_| self.listens.contains(&remote));
        let Some(transport) = transport else {
            return self.streams.refuse(now_us, way_us, machine, connection);
        };
        let (mut outside, mut at) = (local, machine);
        while let Some(number) = self.behind.get(&at) {
            let nat = &mut self.nats[*number];
            (outside, at) = (nat.connect(), nat.public);
        }
        self.streams.open(now_us, way_us, (machine, connection), (local, outside, remote), transport);
    }

    /// Whether no box has forgotten a connection that leaves by this address.
    fn is_carried(&self, machine: IpAddr, outside: SocketAddr) -> bool {
        self.boxes_of(machine).last().is_none_or(|nat| nat.carries(outside))
    }

    /// A phone sends on a connection.
    pub fn stream_from_phone(&mut self, now_us: u64, machine: IpAddr, connection: u64, bytes: Vec<u8>) {
        let Some((_, outside, _)) = self.streams.of_phone(machine, connection) else { return };
        let passes = self.is_carried(machine, outside) && self.away.is_none();
        let way_us = self.link(machine).delay_us;
        self.streams.phone_sends(now_us, way_us, (machine, connection), bytes, passes);
    }

    /// The PBX sends on a connection.
    pub fn stream_from_pbx(&mut self, now_us: u64, accepted: u64, bytes: Vec<u8>) {
        let Some((machine, _, outside, _)) = self.streams.of_pbx(accepted) else { return };
        let (passes, way_us) = (self.is_carried(machine, outside), self.link(machine).delay_us);
        self.streams.pbx_sends(now_us, way_us, accepted, bytes, passes);
    }

    fn link(&self, machine: IpAddr) -> Link {
        self.links.get(&machine).cloned().unwrap_or_default()
    }

    /// When a datagram is through one direction of a link; `None` if it is lost there.
    fn pass(&mut self, now_us: u64, machine: IpAddr, upwards: bool, bytes: usize) -> Option<u64> {
        let link = self.link(machine);
        let lane = self.lanes.entry((machine, upwards)).or_default();
        if let Some(bursts) = link.bursts {
            let turns = self.chance.happens(if lane.in_burst { bursts.end } else { bursts.begin });
            lane.in_burst ^= turns;
            if lane.in_burst {
                return None;
            }
        }
        if link.loss > 0.0 && self.chance.happens(link.loss) {
            return None;
        }
        let mut begin_us = now_us;
        if let Some(rate) = link.rate {
            begin_us = begin_us.max(lane.free_us);
            lane.free_us = begin_us + (bytes as u64 + 28) * 8_000_000 / rate;
            begin_us = lane.free_us;
        }
        let jitter_us = (self.chance.unit() * link.jitter_us as f64) as u64;
        let mut at_us = begin_us + link.delay_us + jitter_us;
        if link.reorder > 0.0 && self.chance.happens(link.reorder) {
            return Some(at_us + HELD_UP_US);
        }
        at_us = at_us.max(lane.last_us);
        lane.last_us = at_us;
        Some(at_us)
    }

    /// When the next datagram arrives somewhere.
    pub fn next_arrival(&self) -> Option<u64> {
        earliest(self.under_way.peek().map(|Reverse(datagram)| datagram.at_us), self.streams.next_arrival())
    }

    /// The next datagram that has arrived at a machine by now. It goes through the box before the last link.
    pub fn arrive(&mut self, now_us: u64) -> Option<Datagram> {
        while self.under_way.peek().is_some_and(|Reverse(datagram)| datagram.at_us <= now_us) {
            let Reverse(mut datagram) = self.under_way.pop()?;
            if datagram.order == 0 {
                *self.octets.entry(datagram.to.ip()).or_default() += datagram.bytes.len() as u64 + 28;
                return Some(datagram);
            }
            let mut filtered = false;
            while let Some(nat) = self.nats.iter_mut().find(|nat| nat.public == datagram.to.ip()) {
                let Some(inside) = nat.inbound(now_us, datagram.from, datagram.to.port()) else {
                    filtered = true;
                    break;
                };
                if nat.reads_sip && datagram.from.port() == SIP {
                    datagram.bytes = rewrite(&datagram.bytes, datagram.to, inside);
                }
                datagram.to = inside;
            }
            if filtered {
                continue;
            }
            if let Some(at_us) = self.pass(now_us, datagram.to.ip(), false, datagram.bytes.len()) {
                // Number 0 has only the machine itself before it.
                self.under_way.push(Reverse(Datagram { at_us, order: 0, ..datagram }));
            }
        }
        None
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn arrivals(link: Link, count: u64) -> Vec<(u64, u8)> {
    let mut network = Network::new(Chance::from_number(3));
    let (from, to) = (address("192.0.2.1:1000"), address("192.0.2.2:2000"));
    network.set_link(from.ip(), link);
    network.set_link(to.ip(), Link { delay_us: 0, ..Link::default() });
    for index in 0..count {
        network.send(index * 20_000, from, to, vec![(index % 256) as u8]);
    }
    let mut arrived = Vec::new();
    while let Some(at_us) = network.next_arrival() {
        while let Some(datagram) = network.arrive(at_us) {
            arrived.push((datagram.at_us, datagram.bytes[0]));
        }
    }
    arrived
}

#[test]
fn calm_weather_changes_nothing() {
    let expected: Vec<_> = (0..50).map(|index| (index * 20_000 + 2_000, index as u8)).collect();
    assert_eq!(arrivals(Link::default(), 50), expected);
}

#[test]
fn the_weather_is_what_was_ordered() {
    let lost = 10_000 - arrivals(Link { loss: 0.1, ..Link::default() }, 10_000).len();
    assert!((900..1100).contains(&lost), "{lost}");
    let bursts = Some(Bursts { begin: 0.01, end: 0.25 });
    let lost = 10_000 - arrivals(Link { bursts, ..Link::default() }, 10_000).len();
    assert!((200..600).contains(&lost), "{lost}");
    let twice = arrivals(Link { duplicate: 0.2, ..Link::default() }, 1000).len() - 1000;
    assert!((150..250).contains(&twice), "{twice}");
    let delays: Vec<_> = arrivals(Link { jitter_us: 15_000, ..Link::default() }, 200);
    let delays: Vec<u64> =
        delays.iter().enumerate().map(|(index, (at, _))| at - index as u64 * 20_000).collect();
    assert!(delays.iter().all(|delay| (2_000..=17_000).contains(delay)));
    assert!(delays.iter().any(|delay| *delay > 14_000) && delays.iter().any(|delay| *delay < 5_000));
    let overtaken = arrivals(Link { reorder: 0.1, ..Link::default() }, 200);
    assert!(overtaken.windows(2).any(|pair| pair[0].1 > pair[1].1 && pair[1].1 != 0));
    // 29 bytes at 8 kbit/s take 29 ms: every datagram of 20 ms waits longer.
    let slow = arrivals(Link { rate: Some(8_000), ..Link::default() }, 10);
    assert_eq!(slow[9].0, 10 * 29_000 + 2_000);
}

#[test]
fn neighbours_behind_one_box_meet_inside_and_outside_only_if_it_hairpins() {
    use crate::nat::Dependence::EndpointIndependent;
    let (one, two) = (address("10.0.0.2:5060"), address("10.0.0.3:5060"));
    for hairpins in [false, true] {
        let mut network = Network::new(Chance::from_number(3));
        let public: IpAddr = "203.0.113.1".parse().expect("an address");
        let number = network.put_behind(one.ip(), Nat::new(public, EndpointIndependent, EndpointIndependent));
        network.put_beside(two.ip(), number);
        network.nat(number).hairpins = hairpins;
        network.send(0, one, two, b"inside".to_vec());
        let outside = network.nat(number).outbound(0, two, address("198.51.100.1:5060"));
        network.send(0, one, outside, b"outside".to_vec());
        let mut arrived = Vec::new();
        while let Some(at_us) = network.next_arrival() {
            while let Some(datagram) = network.arrive(at_us) {
                assert_eq!(datagram.to, two);
                arrived.push((datagram.from.ip(), datagram.bytes));
            }
        }
        let mut expected = vec![(one.ip(), b"inside".to_vec())];
        if hairpins {
            expected.push((public, b"outside".to_vec()));
        }
        assert_eq!(arrived, expected);
    }
}

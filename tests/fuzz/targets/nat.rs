//! What `nat/` reads from outside: STUN messages, and the machines that act on them.

use super::Target;
use std::net::SocketAddr;
use std::time::Duration;
use tipring::chance::Chance;
use tipring::nat::binding::{Binding, Patience};
use tipring::nat::candidate::{Candidate, Kind};
use tipring::nat::discovery::{Discovery, Question, Socket};
use tipring::nat::ice::{self, Agent, Credentials, Peer, Way};
use tipring::nat::relay::{Relay, StreamInput, StreamOrder};
use tipring::nat::stun::{self, MAX_ATTRIBUTES, MAX_REASON, Message, Seal, TransactionId};
use tipring::nat::turn::{Allocation, Incoming};
use tipring::nat::turn_message::{self, TurnMessage};
use tipring::nat::turn_server::{Carriage, Server};
use tipring::nat::turn_stream::Inbox;
use tipring::now::Now;

pub const TARGETS: &[Target] = &[
    Target { name: "nat_stun", run: message, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "nat_binding", run: binding, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "nat_discovery", run: discovery, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "nat_agent", run: agent, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "nat_turn_message", run: turn_message, seeds: TURN, dictionary: WORDS },
    Target { name: "nat_turn", run: turn, seeds: TURN, dictionary: WORDS },
    Target { name: "nat_turn_stream", run: turn_stream, seeds: TURN, dictionary: WORDS },
    Target { name: "nat_relay", run: relay, seeds: TURN, dictionary: WORDS },
];

/// What is read can be written and is read as it was; nobody has guessed a password.
fn message(octets: &[u8]) {
    assert!(!stun::is_authentic(octets, "not the password of any seed"));
    let Ok(read) = Message::read(octets) else { return };
    assert!(stun::is_stun(octets) && TransactionId::of(octets) == Some(read.id));
    assert!(read.refusal.as_ref().is_none_or(|refusal| refusal.reason.len() <= MAX_REASON));
    assert!(read.unknown.len() <= MAX_ATTRIBUTES.max(octets.len() / 2));
    let written = read.write(Seal::Fingerprint);
    assert!(
        Message::read(&written).is_ok_and(|again| again.mapped == read.mapped && again.role == read.role)
    );
}

/// No answer but that of the server ends a transaction before its time.
fn binding(octets: &[u8]) {
    let server = "192.0.2.1:3478".parse().expect("an address");
    let mut binding = Binding::new(server, None, Patience::BRIEF, &mut Chance::from_number(1));
    let mut now = Now::default();
    let mut answer = octets.to_vec();
    for _ in 0..8 {
        let sent = binding.poll_transmit(now).map(|(_, request)| request.to_vec());
        if let (Some(request), Some(id)) = (sent, answer.get_mut(8..20)) {
            id.copy_from_slice(&request[8..20]);
        }
        assert!(!binding.handle_datagram(now, "192.0.2.9:3478".parse().expect("an address"), &answer));
        binding.handle_datagram(now, server, &answer);
        let Some(deadline) = binding.poll_timeout() else { break };
        now = now.plus(Duration::from_micros(deadline.saturating_sub(now.mono_us)));
        binding.handle_timeout(now);
    }
    assert!(binding.is_over() && binding.poll_outcome().is_some());
}

/// Whatever a server answers, the tests end soon, ask nobody inside and keep to their limits.
fn discovery(octets: &[u8]) {
    let own = "192.168.1.10:5060".parse().expect("an address");
    let server = "192.0.2.1:3478".parse().expect("an address");
    let question = Question { own, servers: vec![server], ages: vec![Duration::from_secs(30)] };
    let mut now = Now::default();
    let mut discovery = Discovery::new(now, question, Chance::from_number(1));
    let mut sent = 0;
    while discovery.found().is_none() {
        while let Some((from, to, request)) = discovery.poll_transmit(now) {
            sent += 1;
            assert!(to == server || !to.ip().is_loopback() && !to.ip().is_multicast() && to.is_ipv4());
            let mut answer = octets.to_vec();
            if let Some(id) = answer.get_mut(8..20) {
                id.copy_from_slice(&request[8..20]);
            }
            discovery.handle_datagram(now, from, to, &answer);
            discovery.handle_datagram(now, Socket::First, server, octets);
        }
        let Some(due) = discovery.poll_timeout() else { break };
        now = now.plus(Duration::from_micros(due.saturating_sub(now.mono_us)));
        discovery.handle_timeout(now);
    }
    assert!(discovery.found().is_some() && sent <= 60 && now.mono_us < 60_000_000, "{sent} requests");
}

/// What a peer tells of an address of its machine.
pub(super) fn host(address: SocketAddr, component: u8) -> Candidate {
    Candidate { foundation: "1".into(), component, priority: 7, address, kind: Kind::Host, related: None }
}

/// An agent that nobody with the password speaks to finds no route, keeps its role and says little.
fn agent(octets: &[u8]) {
    let mut chance = Chance::from_number(1);
    let component = octets.len() as u8 % 2 + 1;
    let settings = ice::Settings {
        component,
        own: vec!["192.0.2.5".parse().expect("an address")],
        relayed: "198.51.100.1:50000".parse().ok(),
        offered: true,
        tie_breaker: 7,
    };
    let own = Credentials::draw(&mut chance);
    let mut agent = Agent::new(settings, own, chance.fork());
    let peer = "203.0.113.1:4000".parse().expect("an address");
    let mut now = Now::default();
    for step in 0..24 {
        if step == 4 {
            let candidate = |component| host(peer, component);
            let credentials = Credentials::draw(&mut chance);
            // What this agent is for, twice, and whatever else somebody may think of.
            let others = octets.iter().map(|component| candidate(*component));
            let candidates = [component; 2].map(candidate).into_iter().chain(others).collect();
            agent.start(now, Peer { credentials, candidates, lite: false });
        }
        let mut sent = 0;
        let mut answer = octets.to_vec();
        while let Some(transmit) = agent.poll_transmit() {
            sent += 1;
            if let (Some(id), Some(theirs)) = (answer.get_mut(8..20), transmit.bytes.get(8..20)) {
                id.copy_from_slice(theirs);
            }
        }
        assert!(sent <= 4, "{sent} packets at once");
        agent.handle_datagram(now, Way::Direct, peer, &answer);
        agent.handle_datagram(now, Way::Relayed, peer, &answer);
        now = now.plus(Duration::from_millis(100));
        agent.handle_timeout(now);
    }
    assert!(agent.is_controlling() && agent.route().is_none());
}

/// What is read is written and read as it was; what is found without reading is what reading finds.
fn turn_message(octets: &[u8]) {
    if let Some((channel, payload)) = turn_message::channel_data(octets) {
        assert!((0x4000..0x5000).contains(&channel) && payload.len() + 4 <= octets.len());
    }
    let found = turn_message::data_indication(octets);
    let Some(read) = TurnMessage::read(octets) else { return };
    assert!(read.peers.len() <= turn_message::MAX_PEERS);
    if let Some((peer, payload)) = found {
        assert_eq!((Some(&peer), read.data.as_deref()), (read.peers.first(), octets.get(payload)));
    }
    let written = TurnMessage::read(&read.write(None)).expect("it was read before");
    assert_eq!((written.relayed, written.peers, written.channel), (read.relayed, read.peers, read.channel));
}

/// A server without the password's key makes no allocation of a challenged request, and is left after a while.
fn turn(octets: &[u8]) {
    let server = Server {
        address: "192.0.2.1:3478".parse().expect("an address"),
        username: "user".into(),
        password: "secret".into(),
        carriage: if octets.first().is_some_and(|first| first % 2 == 0) {
            Carriage::Tcp
        } else {
            Carriage::Udp
        },
    };
    let mut now = Now::default();
    let mut allocation = Allocation::new(now, server, Chance::from_number(1));
    for _ in 0..40 {
        let mut answer = octets.to_vec();
        let mut sent = 0;
        while let Some(request) = allocation.poll_transmit() {
            sent += 1;
            if let (Some(id), Some(theirs)) = (answer.get_mut(8..20), request.get(8..20)) {
                id.copy_from_slice(theirs);
            }
        }
        assert!(sent <= 4, "{sent} packets at once");
        if let Incoming::Packet { payload, .. } = allocation.handle(now, &answer) {
            panic!("a packet {payload:?} of nobody");
        }
        let Some(due) = allocation.poll_timeout() else { break };
        now = now.plus(Duration::from_micros(due.saturating_sub(now.mono_us)));
        allocation.handle_timeout(now);
    }
    let _ = allocation.poll_event();
}

/// A stream is cut alike however it comes, and little of it is kept.
fn turn_stream(octets: &[u8]) {
    let cut = |step: usize| {
        let (mut inbox, mut found) = (Inbox::default(), Vec::new());
        for piece in octets.chunks(step) {
            inbox.push(piece);
            loop {
                match inbox.pop() {
                    Ok(Some(message)) => {
                        assert!((4..=stun::MAX_MESSAGE + 4).contains(&message.len()));
                        found.push(message);
                    }
                    Ok(None) => break,
                    Err(_) => return (found, false),
                }
            }
            assert!(inbox.len() <= stun::MAX_MESSAGE + 4, "{} octets are kept", inbox.len());
        }
        (found, true)
    };
    let whole = cut(octets.len().max(1));
    assert_eq!(cut(1), whole);
    assert_eq!(cut(7), whole);
}

/// Servers that say this, by datagrams and on streams, get nobody a packet of a peer, and are asked with patience.
fn relay(octets: &[u8]) {
    let server = |port: u16, carriage: Carriage| Server {
        address: ([192, 0, 2, 1], port).into(),
        username: "user".into(),
        password: "secret".into(),
        carriage,
    };
    let servers = vec![server(3478, Carriage::Udp), server(3478, Carriage::Tcp), server(443, Carriage::Tcp)];
    let mut now = Now::default();
    let mut relay = Relay::new(now, servers, Chance::from_number(1));
    let (mut sent, mut opened) = (0, 0);
    for _ in 0..60 {
        let mut streams = Vec::new();
        while let Some(order) = relay.poll_order() {
            if let StreamOrder::Open { stream, .. } = order {
                opened += 1;
                relay.handle_stream(now, stream, StreamInput::Open);
                streams.push(stream);
            }
        }
        while let Some((target, request)) = relay.poll_transmit() {
            sent += 1;
            let mut answer = octets.to_vec();
            if let (Some(id), Some(theirs)) = (answer.get_mut(8..20), request.get(8..20)) {
                id.copy_from_slice(theirs);
            }
            match target.stream {
                Some(stream) => {
                    relay.handle_stream(now, stream, StreamInput::Bytes(&answer));
                }
                None => {
                    relay.handle_datagram(now, target.to, &answer);
                }
            }
            assert_eq!(relay.poll_packet(now), None, "a packet of nobody");
        }
        let Some(due) = relay.poll_timeout() else { break };
        now = now.plus(Duration::from_micros(due.saturating_sub(now.mono_us)));
        relay.handle_timeout(now);
        let seconds = now.mono_us / 1_000_000;
        assert!(sent <= 60 + 12 * seconds, "{sent} messages within {seconds} s");
        assert!(opened <= 12 + seconds, "{opened} streams within {seconds} s");
    }
}

const TURN: &[&[u8]] = &[
    b"\x01\x13\x00\x24\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x04\x00\x00\x04\x01\x00\x14\x00\x0bexample.org\x00\x00\x15\x00\x04abcd",
    b"\x01\x03\x00\x20\x21\x12\xa4\x42abcdefghijkl\x00\x16\x00\x08\x00\x01\xe2\x41\xe1\x12\xa6\x43\x00\x0d\x00\x04\x00\x00\x02\x58\x80\x28\x00\x04\x00\x00\x00\x00",
    b"\x00\x17\x00\x14\x21\x12\xa4\x42abcdefghijkl\x00\x12\x00\x08\x00\x01\xe2\x41\xe1\x12\xa6\x43\x00\x13\x00\x04data",
    b"\x40\x00\x00\x05hello\x00\x00\x00\x40\x01\x00\x01x",
    b"\x01\x13\x00\x14\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x04\x00\x00\x03\x00\x80\x23\x00\x08\x00\x01\x0d\x96\xc0\x00\x02\x05",
];
const MESSAGES: &[&[u8]] = &[
    b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
    b"\x00\x01\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x03\x00\x04\x00\x00\x00\x06",
    b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x08\x00\x01\x32\x56\xea\x12\xd5\x45",
    b"\x01\x01\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x01\x00\x08\x00\x01\x13\xc4\xcb\x00\x71\x09\x80\x2c\x00\x08\x00\x01\x0d\x97\xc0\x00\x02\x02",
    b"\x01\x11\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x10\x00\x00\x04\x26Stale Nonce!\x80\x28\x00\x00",
    b"\x01\x11\x00\x18\x21\x12\xa4\x42abcdefghijkl\x00\x09\x00\x08\x00\x00\x03\x00Try.\x80\x23\x00\x08\x00\x01\x0d\x96\xc0\x00\x02\x05",
    b"\x00\x01\x00\x44\x21\x12\xa4\x42abcdefghijkl\x00\x06\x00\x08far:near\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x2a\x00\x08ABCDEFGH\x00\x25\x00\x00\x00\x08\x00\x14aaaaaaaaaaaaaaaaaaaa\x80\x28\x00\x04\x00\x00\x00\x00",
];
const WORDS: &[&[u8]] = &[
    b"\x21\x12\xa4\x42",
    b"\x00\x20\x00\x08",
    b"\x00\x20\x00\x14\x00\x02",
    b"\x00\x08\x00\x14",
    b"\x00\x1c\x00\x20",
    b"\x80\x28\x00\x04",
    b"\x00\x0a\x00\x02",
    b"\x7f\xff\x00\x00",
];

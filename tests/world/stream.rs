//! Connections of the world: what of TCP matters to a phone. Segments travel as datagrams, through the same boxes; what
//! is not acknowledged for five seconds ends the connection, and whoever is spoken to out of nowhere resets it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use tipring::sip::network::{FIRST_ACCEPTED, Input, Transport};

use crate::network::Network;

/// What a segment begins with; no message and no STUN does.
const MARK: &[u8] = b"\xffTCP";
/// As the device sets TCP_USER_TIMEOUT.
const USER_TIMEOUT_US: u64 = 5_000_000;

/// What a machine is told of its connections.
#[derive(Debug)]
pub enum Said {
    Connected { connection: u64, local: SocketAddr, remote: SocketAddr },
    Accepted { connection: u64, transport: Transport, local: SocketAddr, remote: SocketAddr },
    Stream { connection: u64, bytes: Vec<u8> },
    Closed { connection: u64, why: &'static str },
}

impl Said {
    /// The same in the words of the user agent's border.
    pub fn input(&self) -> Input<'_> {
        match self {
            Said::Connected { connection, local, remote } => {
                Input::Connected { connection: *connection, local: *local, remote: *remote }
            }
            Said::Accepted { connection, transport, local, remote } => Input::Accepted {
                connection: *connection,
                transport: *transport,
                local: *local,
                remote: *remote,
            },
            Said::Stream { connection, bytes } => Input::Stream { connection: *connection, bytes },
            Said::Closed { connection, why } => {
                Input::Closed { connection: *connection, why: (*why).to_owned() }
            }
        }
    }
}

/// One end of a connection, under its own address and its peer's.
#[derive(Debug)]
struct End {
    connection: u64,
    stands: bool,
    outstanding: u32,
    waiting_since_us: Option<u64>,
}

/// All connections of the world.
#[derive(Default, Debug)]
pub struct Streams {
    /// Whether there are any: else every attempt is refused.
    pub on: bool,
    ends: BTreeMap<(SocketAddr, SocketAddr), End>,
    next_port: u16,
    next_accepted: u64,
    said: VecDeque<(IpAddr, Said)>,
}

impl Streams {
    /// A machine opens a connection.
    pub fn connect(
        &mut self,
        now_us: u64,
        network: &mut Network,
        machine: IpAddr,
        (connection, transport): (u64, Transport),
        remote: SocketAddr,
    ) {
        if !self.on {
            let why = "there are no connections in this world";
            self.said.push_back((machine, Said::Closed { connection, why }));
            return;
        }
        self.next_port += 1;
        let local = SocketAddr::new(machine, 49_152 + self.next_port);
        let end = End { connection, stands: false, outstanding: 1, waiting_since_us: Some(now_us) };
        self.ends.insert((local, remote), end);
        let kind = if transport == Transport::Tls { b'T' } else { b'S' };
        send(now_us, network, local, remote, kind, &[]);
    }

    /// A machine says something on a connection of its own.
    pub fn write(
        &mut self,
        now_us: u64,
        network: &mut Network,
        machine: IpAddr,
        connection: u64,
        bytes: &[u8],
    ) {
        if let Some(((local, remote), end)) = self.find(machine, connection) {
            end.outstanding += 1;
            end.waiting_since_us.get_or_insert(now_us);
            send(now_us, network, local, remote, b'D', bytes);
        }
    }

    /// A machine closes a connection of its own.
    pub fn close(&mut self, now_us: u64, network: &mut Network, machine: IpAddr, connection: u64) {
        if let Some((key, _)) = self.find(machine, connection) {
            self.ends.remove(&key);
            send(now_us, network, key.0, key.1, b'F', &[]);
        }
    }

    fn find(&mut self, machine: IpAddr, connection: u64) -> Option<((SocketAddr, SocketAddr), &mut End)> {
        let is_it =
            |key: &(SocketAddr, SocketAddr), end: &End| key.0.ip() == machine && end.connection == connection;
        self.ends.iter_mut().find(|(key, end)| is_it(key, end)).map(|(key, end)| (*key, end))
    }

    /// A machine loses its power: its connections are gone, and nobody is told.
    pub fn forget(&mut self, machine: IpAddr) {
        self.ends.retain(|(local, _), _| local.ip() != machine);
    }

    /// Whether a datagram is a segment.
    pub fn is_segment(bytes: &[u8]) -> bool {
        bytes.starts_with(MARK)
    }

    /// A segment has arrived.
    pub fn arrive(
        &mut self,
        now_us: u64,
        network: &mut Network,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some((kind, payload)) = bytes[MARK.len()..].split_first() else { return };
        let (key, machine) = ((to, from), to.ip());
        if matches!(kind, b'S' | b'T') {
            self.next_accepted += 1;
            let connection = FIRST_ACCEPTED + self.next_accepted;
            self.ends.insert(key, End { connection, stands: true, outstanding: 0, waiting_since_us: None });
            let transport = if *kind == b'T' { Transport::Tls } else { Transport::Tcp };
            self.said.push_back((machine, Said::Accepted { connection, transport, local: to, remote: from }));
            return send(now_us, network, to, from, b'K', &[]);
        }
        let Some(end) = self.ends.get_mut(&key) else {
            if *kind == b'D' {
                send(now_us, network, to, from, b'R', &[]);
            }
            return;
        };
        let connection = end.connection;
        match kind {
            b'K' => {
                end.outstanding = end.outstanding.saturating_sub(1);
                end.waiting_since_us = (end.outstanding > 0).then_some(now_us);
                if !std::mem::replace(&mut end.stands, true) {
                    self.said.push_back((machine, Said::Connected { connection, local: to, remote: from }));
                }
            }
            b'D' => {
                self.said.push_back((machine, Said::Stream { connection, bytes: payload.to_vec() }));
                send(now_us, network, to, from, b'K', &[]);
            }
            _ => {
                self.ends.remove(&key);
                let why =
                    if *kind == b'R' { "connection reset by peer" } else { "the peer closed the connection" };
                self.said.push_back((machine, Said::Closed { connection, why }));
            }
        }
    }

    /// When a connection dies of silence.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.ends.values().filter_map(|end| end.waiting_since_us).min().map(|since| since + USER_TIMEOUT_US)
    }

    pub fn handle_timeout(&mut self, now_us: u64) {
        let said = &mut self.said;
        self.ends.retain(|(local, _), end| {
            let dead = end.waiting_since_us.is_some_and(|since| since + USER_TIMEOUT_US <= now_us);
            if dead {
                let closed = Said::Closed { connection: end.connection, why: "connection timed out" };
                said.push_back((local.ip(), closed));
            }
            !dead
        });
    }

    /// What a machine has to be told next.
    pub fn poll(&mut self) -> Option<(IpAddr, Said)> {
        self.said.pop_front()
    }
}

fn send(now_us: u64, network: &mut Network, from: SocketAddr, to: SocketAddr, kind: u8, payload: &[u8]) {
    let bytes = [MARK, &[kind], payload].concat();
    network.send(now_us, from, to, bytes);
}

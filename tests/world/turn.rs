//! A STUN and TURN server of the world (RFC 8489, RFC 8656): keeps the rules, and breaks those that a test names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tipring::nat::stun::{Class, Message, Refusal, Seal, TransactionId};
use tipring::nat::turn_message::{Key, Method, TurnMessage, channel_data, is_authentic, write_channel_data};
use tipring::nat::turn_stream::Inbox;

/// Where it is.
pub const TURN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const PORT: u16 = 3478;
const REALM: &str = "world";

/// Who has an allocation: whence it comes, and by which connection if by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Client {
    address: SocketAddr,
    connection: Option<u64>,
}

/// What the server sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    /// From this port of it.
    Datagram { port: u16, to: SocketAddr, bytes: Vec<u8> },
    /// On a connection that it has accepted.
    Stream { connection: u64, bytes: Vec<u8> },
}

impl Client {
    fn is_sent(self, bytes: Vec<u8>) -> Sent {
        match self.connection {
            Some(connection) => Sent::Stream { connection, bytes },
            None => Sent::Datagram { port: PORT, to: self.address, bytes },
        }
    }
}

#[derive(Debug)]
struct Allocation {
    relay: u16,
    /// The request that made it: sent again, it is answered again.
    request: TransactionId,
    permitted: BTreeSet<IpAddr>,
    channels: BTreeMap<u16, SocketAddr>,
}

/// The server.
#[derive(Debug)]
pub struct TurnServer {
    allocations: BTreeMap<Client, Allocation>,
    connections: BTreeMap<u64, (SocketAddr, Inbox)>,
    next_relay: u16,
    /// The password of every user.
    pub password: &'static str,
    /// Nothing is answered.
    pub silent: bool,
    /// It answers STUN alone: nobody gets an allocation.
    pub stun_alone: bool,
    /// Each request finds its nonce stale this often before it is granted.
    pub stale: u32,
    /// Packets that it has relayed.
    pub relayed: u64,
    /// Allocations that it was asked to end.
    pub given_back: u64,
    /// Octets to and from it, with the heads of IP and UDP.
    pub octets: u64,
    nonce: u32,
}

impl Default for TurnServer {
    fn default() -> TurnServer {
        TurnServer {
            allocations: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_relay: 50_000,
            password: "relay-password",
            silent: false,
            stun_alone: false,
            stale: 0,
            relayed: 0,
            given_back: 0,
            octets: 0,
            nonce: 0,
        }
    }
}

impl TurnServer {
    /// Allocations that it has.
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    /// Connections that it has.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// A datagram came to one of its ports; what it sends.
    pub fn receive(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) -> Vec<Sent> {
        let client = Client { address: from, connection: None };
        let sent: Vec<Sent> = match port {
            _ if self.silent => Vec::new(),
            PORT => self.answers(client, bytes).into_iter().collect(),
            _ => self.relay_in(from, port, bytes).into_iter().collect(),
        };
        let octets = |bytes: &[u8]| bytes.len() as u64 + 28;
        let back =
            sent.iter().map(|(Sent::Datagram { bytes, .. } | Sent::Stream { bytes, .. })| octets(bytes));
        self.octets += octets(bytes) + back.sum::<u64>();
        sent
    }

    /// Somebody has connected.
    pub fn accept(&mut self, connection: u64, from: SocketAddr) {
        self.connections.insert(connection, (from, Inbox::default()));
    }

    /// This came on a connection; what it sends.
    pub fn receive_stream(&mut self, connection: u64, bytes: &[u8]) -> Vec<Sent> {
        let Some((address, mut inbox)) = self.connections.remove(&connection) else { return Vec::new() };
        inbox.push(bytes);
        let client = Client { address, connection: Some(connection) };
        let mut sent = Vec::new();
        while let Some(message) = inbox.pop().expect("a phone keeps step") {
            sent.extend(self.answers(client, &message).filter(|_| !self.silent));
        }
        self.connections.insert(connection, (address, inbox));
        sent
    }

    /// A connection has ended; true if it was one of its.
    pub fn closed(&mut self, connection: u64) -> bool {
        self.allocations.retain(|client, _| client.connection != Some(connection));
        self.connections.remove(&connection).is_some()
    }

    fn answers(&mut self, from: Client, bytes: &[u8]) -> Option<Sent> {
        if let Some((number, payload)) = channel_data(bytes) {
            let allocation = self.allocations.get(&from)?;
            let to = *allocation.channels.get(&number)?;
            self.relayed += 1;
            return Some(Sent::Datagram { port: allocation.relay, to, bytes: payload.to_vec() });
        }
        if let Ok(message) = Message::read(bytes) {
            let answer = || Message::binding_answer(message.id, from.address).write(Seal::Fingerprint);
            return (message.class == Class::Request).then(|| from.is_sent(answer()));
        }
        let message = TurnMessage::read(bytes).filter(|_| !self.stun_alone)?;
        match message.class {
            Class::Indication => self.relay_out(from, &message),
            Class::Request => {
                let answer = self.answer(from, &message, bytes);
                Some(from.is_sent(answer))
            }
            _ => None,
        }
    }

    fn relay_in(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) -> Option<Sent> {
        let (client, allocation) = self.allocations.iter().find(|(_, one)| one.relay == port)?;
        if !allocation.permitted.contains(&from.ip()) {
            return None;
        }
        self.relayed += 1;
        let channel = allocation.channels.iter().find(|(_, peer)| **peer == from);
        let packet = match channel {
            Some((number, _)) => {
                let mut out = vec![0; bytes.len() + 8];
                let length = write_channel_data(*number, bytes, client.connection.is_some(), &mut out)?;
                out.truncate(length);
                out
            }
            None => {
                let mut data = TurnMessage::new(Class::Indication, Method::Data, TransactionId([1; 12]));
                data.peers.push(from);
                data.data = Some(bytes.to_vec());
                data.write(None)
            }
        };
        Some(client.is_sent(packet))
    }

    fn relay_out(&mut self, from: Client, message: &TurnMessage) -> Option<Sent> {
        let allocation = self.allocations.get(&from)?;
        let (to, bytes) = (*message.peers.first()?, message.data.clone()?);
        if message.method != Method::Send || !allocation.permitted.contains(&to.ip()) {
            return None;
        }
        self.relayed += 1;
        Some(Sent::Datagram { port: allocation.relay, to, bytes })
    }

    fn answer(&mut self, from: Client, asked: &TurnMessage, bytes: &[u8]) -> Vec<u8> {
        let user = asked.username.clone().unwrap_or_default();
        let key = Key::long_term(&user, REALM, self.password).expect("a key");
        let refuse = |code: u16, nonce: u32| {
            let mut refused = TurnMessage::new(Class::Error, asked.method, asked.id);
            refused.refusal = Some(Refusal { code, reason: "no".into() });
            refused.realm = Some(REALM.into());
            refused.nonce = Some(format!("nonce{nonce}"));
            refused.write(None)
        };
        if asked.nonce.is_none() || !is_authentic(bytes, &key) {
            return refuse(401, self.nonce);
        }
        if self.stale > 0 && asked.nonce != Some(format!("nonce{}", self.nonce)) {
            return refuse(438, self.nonce);
        }
        // Good once.
        self.nonce += u32::from(self.stale > 0);
        let mut granted = TurnMessage::new(Class::Success, asked.method, asked.id);
        granted.lifetime_s = Some(600);
        if asked.method == Method::Allocate {
            if self.allocations.get(&from).is_some_and(|known| known.request != asked.id) {
                return refuse(437, self.nonce);
            }
            let next = self.next_relay;
            let allocation = self.allocations.entry(from).or_insert_with(|| Allocation {
                relay: next,
                request: asked.id,
                permitted: BTreeSet::new(),
                channels: BTreeMap::new(),
            });
            self.next_relay = next.max(allocation.relay + 2);
            granted.relayed = Some(SocketAddr::new(TURN, allocation.relay));
            granted.mapped = Some(from.address);
            return granted.write_answer(&key);
        }
        let Some(allocation) = self.allocations.get_mut(&from) else { return refuse(437, self.nonce) };
        match asked.method {
            Method::Refresh if asked.lifetime_s == Some(0) => {
                self.allocations.remove(&from);
                self.given_back += 1;
            }
            Method::CreatePermission => allocation.permitted.extend(asked.peers.iter().map(SocketAddr::ip)),
            Method::ChannelBind => {
                let (Some(number), Some(peer)) = (asked.channel, asked.peers.first()) else {
                    return refuse(400, self.nonce);
                };
                if allocation.channels.get(&number).is_some_and(|bound| bound != peer) {
                    return refuse(400, self.nonce);
                }
                allocation.permitted.insert(peer.ip());
                allocation.channels.insert(number, *peer);
            }
            _ => {}
        }
        granted.write_answer(&key)
    }
}

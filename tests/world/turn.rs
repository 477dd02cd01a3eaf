//! A STUN and TURN server of the world (RFC 8489, RFC 8656): keeps the rules, and breaks those that a test names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tipring::nat::stun::{Class, Message, Refusal, Seal, TransactionId};
use tipring::nat::turn_message::{Key, Method, TurnMessage, channel_data, is_authentic, write_channel_data};

/// Where it is.
pub const TURN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const PORT: u16 = 3478;
const REALM: &str = "world";

#[derive(Debug, Default)]
struct Allocation {
    relay: u16,
    permitted: BTreeSet<IpAddr>,
    channels: BTreeMap<u16, SocketAddr>,
}

/// The server.
#[derive(Debug)]
pub struct TurnServer {
    allocations: BTreeMap<SocketAddr, Allocation>,
    next_relay: u16,
    /// The password of every user.
    pub password: &'static str,
    /// Nothing is answered.
    pub silent: bool,
    /// Each request finds its nonce stale this often before it is granted.
    pub stale: u32,
    /// Packets that it has relayed.
    pub relayed: u64,
    /// Octets to and from it, with the heads of IP and UDP.
    pub octets: u64,
    nonce: u32,
}

impl Default for TurnServer {
    fn default() -> TurnServer {
        TurnServer {
            allocations: BTreeMap::new(),
            next_relay: 50_000,
            password: "relay-password",
            silent: false,
            stale: 0,
            relayed: 0,
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

    /// A datagram came to one of its ports; what it sends: from which of its ports, whither, what.
    pub fn receive(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) -> Vec<(u16, SocketAddr, Vec<u8>)> {
        let sent = self.answers(from, port, bytes);
        let octets = |bytes: &[u8]| bytes.len() as u64 + 28;
        self.octets += octets(bytes) + sent.iter().map(|(_, _, bytes)| octets(bytes)).sum::<u64>();
        sent
    }

    fn answers(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) -> Vec<(u16, SocketAddr, Vec<u8>)> {
        if self.silent {
            return Vec::new();
        }
        if port != PORT {
            return self.relay_in(from, port, bytes).into_iter().collect();
        }
        if let Some((number, payload)) = channel_data(bytes) {
            let Some(allocation) = self.allocations.get(&from) else { return Vec::new() };
            let Some(peer) = allocation.channels.get(&number) else { return Vec::new() };
            self.relayed += 1;
            return vec![(allocation.relay, *peer, payload.to_vec())];
        }
        if let Ok(message) = Message::read(bytes) {
            return match message.class {
                Class::Request => {
                    vec![(PORT, from, Message::binding_answer(message.id, from).write(Seal::Fingerprint))]
                }
                _ => Vec::new(),
            };
        }
        let Some(message) = TurnMessage::read(bytes) else { return Vec::new() };
        match message.class {
            Class::Indication => self.relay_out(from, &message).into_iter().collect(),
            Class::Request => {
                vec![(PORT, from, self.answer(from, &message, bytes))]
            }
            _ => Vec::new(),
        }
    }

    fn relay_in(&mut self, from: SocketAddr, port: u16, bytes: &[u8]) -> Option<(u16, SocketAddr, Vec<u8>)> {
        let (client, allocation) = self.allocations.iter().find(|(_, one)| one.relay == port)?;
        if !allocation.permitted.contains(&from.ip()) {
            return None;
        }
        self.relayed += 1;
        let channel = allocation.channels.iter().find(|(_, peer)| **peer == from);
        let packet = match channel {
            Some((number, _)) => {
                let mut out = vec![0; bytes.len() + 4];
                write_channel_data(*number, bytes, false, &mut out)?;
                out
            }
            None => {
                let mut data = TurnMessage::new(Class::Indication, Method::Data, TransactionId([1; 12]));
                data.peers.push(from);
                data.data = Some(bytes.to_vec());
                data.write(None)
            }
        };
        Some((PORT, *client, packet))
    }

    fn relay_out(&mut self, from: SocketAddr, message: &TurnMessage) -> Option<(u16, SocketAddr, Vec<u8>)> {
        let allocation = self.allocations.get(&from)?;
        let (peer, data) = (message.peers.first()?, message.data.clone()?);
        if message.method != Method::Send || !allocation.permitted.contains(&peer.ip()) {
            return None;
        }
        self.relayed += 1;
        Some((allocation.relay, *peer, data))
    }

    fn answer(&mut self, from: SocketAddr, asked: &TurnMessage, bytes: &[u8]) -> Vec<u8> {
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
            let next = self.next_relay;
            let allocation = self.allocations.entry(from).or_default();
            if allocation.relay == 0 {
                allocation.relay = next;
                self.next_relay += 2;
            }
            granted.relayed = Some(SocketAddr::new(TURN, allocation.relay));
            granted.mapped = Some(from);
            return granted.write_answer(&key);
        }
        let Some(allocation) = self.allocations.get_mut(&from) else { return refuse(437, self.nonce) };
        match asked.method {
            Method::Refresh if asked.lifetime_s == Some(0) => {
                self.allocations.remove(&from);
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

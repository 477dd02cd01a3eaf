//! TURN messages (RFC 8656 §18) under long-term credentials (RFC 8489 §9.2).

use std::net::SocketAddr;

use crate::nat::stun::{
    self, Class, HEADER, MAX_MESSAGE, MESSAGE_INTEGRITY, Refusal, TransactionId, attribute_types,
};
use stun_rs::attributes::StunAttribute;
use stun_rs::attributes::stun::{
    AlternateServer, ErrorCode, Fingerprint, MessageIntegrity, Nonce, Realm, UserName, XorMappedAddress,
};
use stun_rs::attributes::turn::{
    ChannelNumber, Data, LifeTime, RequestedAddressFamily, RequestedTrasport, XorPeerAddress,
    XorRelayedAddress,
};
use stun_rs::{
    AddressFamily, Algorithm, AlgorithmId, DecoderContextBuilder, HMACKey, MessageClass,
    MessageDecoderBuilder, MessageEncoderBuilder, MessageMethod, StunMessageBuilder, methods, protocols,
};

/// Addresses of peers that one message may have.
pub const MAX_PEERS: usize = 16;
/// The octets before the payload of ChannelData.
pub const CHANNEL_HEADER: usize = 4;

/// What a message asks or answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A new allocation.
    Allocate,
    /// A longer life for it, or its end.
    Refresh,
    /// Addresses that may reach us through it.
    CreatePermission,
    /// A short header for one peer.
    ChannelBind,
    /// A packet to a peer.
    Send,
    /// A packet from a peer.
    Data,
}

impl Method {
    const ALL: [(Method, MessageMethod); 6] = [
        (Method::Allocate, methods::ALLOCATE),
        (Method::Refresh, methods::REFRESH),
        (Method::CreatePermission, methods::CREATE_PERMMISSION),
        (Method::ChannelBind, methods::CHANNEL_BIND),
        (Method::Send, methods::SEND),
        (Method::Data, methods::DATA),
    ];

    fn code(self) -> MessageMethod {
        Method::ALL.iter().find(|(method, _)| *method == self).map_or(methods::RESERVED, |(_, code)| *code)
    }
}

/// A name with the server, as a key.
#[derive(Clone)]
pub struct Key(HMACKey);

impl Key {
    /// The key of RFC 8489 §9.2.2; `None` if a text can't be one.
    pub fn long_term(username: &str, realm: &str, password: &str) -> Option<Key> {
        HMACKey::new_long_term(username, realm, password, Algorithm::from(AlgorithmId::MD5)).ok().map(Key)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// What a request proves who we are with.
#[derive(Clone, Debug)]
pub struct Proof {
    /// USERNAME.
    pub username: String,
    /// REALM, as the server told it.
    pub realm: String,
    /// NONCE, as the server told it.
    pub nonce: String,
    /// Made of name, realm and password.
    pub key: Key,
}

/// A TURN message. What is absent is `None` or empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnMessage {
    /// Request, indication or answer.
    pub class: Class,
    /// What it is about.
    pub method: Method,
    /// Ties the answer to the request.
    pub id: TransactionId,
    /// REQUESTED-TRANSPORT: UDP.
    pub wants_udp: bool,
    /// REQUESTED-ADDRESS-FAMILY: IPv6.
    pub wants_ipv6: bool,
    /// LIFETIME in seconds.
    pub lifetime_s: Option<u32>,
    /// XOR-RELAYED-ADDRESS.
    pub relayed: Option<SocketAddr>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// XOR-PEER-ADDRESS, at most [`MAX_PEERS`].
    pub peers: Vec<SocketAddr>,
    /// CHANNEL-NUMBER.
    pub channel: Option<u16>,
    /// DATA.
    pub data: Option<Vec<u8>>,
    /// ERROR-CODE.
    pub refusal: Option<Refusal>,
    /// ALTERNATE-SERVER.
    pub alternate_server: Option<SocketAddr>,
    /// USERNAME.
    pub username: Option<String>,
    /// REALM.
    pub realm: Option<String>,
    /// NONCE.
    pub nonce: Option<String>,
}

impl TurnMessage {
    /// A message with nothing in it.
    pub fn new(class: Class, method: Method, id: TransactionId) -> TurnMessage {
        TurnMessage {
            class,
            method,
            id,
            wants_udp: false,
            wants_ipv6: false,
            lifetime_s: None,
            relayed: None,
            mapped: None,
            peers: Vec::new(),
            channel: None,
            data: None,
            refusal: None,
            alternate_server: None,
            username: None,
            realm: None,
            nonce: None,
        }
    }

    /// Reads a message; `None` if it is none of TURN, or a broken one.
    pub fn read(datagram: &[u8]) -> Option<TurnMessage> {
        let types = attribute_types(datagram).ok()?;
        let (read, _) = MessageDecoderBuilder::default().build().decode(datagram).ok()?;
        let (method, _) = Method::ALL.into_iter().find(|(_, code)| *code == read.method())?;
        let class = match read.class() {
            MessageClass::Request => Class::Request,
            MessageClass::Indication => Class::Indication,
            MessageClass::SuccessResponse => Class::Success,
            MessageClass::ErrorResponse => Class::Error,
        };
        if types.len() != read.attributes().len() {
            return None;
        }
        let mut message = TurnMessage::new(class, method, TransactionId(*read.transaction_id().as_bytes()));
        read.attributes().iter().all(|attribute| message.take(attribute)).then_some(message)
    }

    // False if the message can't be used.
    fn take(&mut self, attribute: &StunAttribute) -> bool {
        match attribute {
            StunAttribute::RequestedTrasport(transport) => {
                self.wants_udp = transport.protocol() == protocols::UDP;
            }
            StunAttribute::RequestedAddressFamily(family) => {
                self.wants_ipv6 = family.family() == AddressFamily::IPv6;
            }
            StunAttribute::LifeTime(lifetime) => {
                self.lifetime_s.get_or_insert(lifetime.as_u32());
            }
            StunAttribute::XorRelayedAddress(address) => {
                self.relayed.get_or_insert(*address.socket_address());
            }
            StunAttribute::XorMappedAddress(address) => {
                self.mapped.get_or_insert(*address.socket_address());
            }
            StunAttribute::XorPeerAddress(address) => {
                self.peers.push(*address.socket_address());
                return self.peers.len() <= MAX_PEERS;
            }
            StunAttribute::ChannelNumber(channel) => {
                self.channel.get_or_insert(channel.number());
            }
            StunAttribute::Data(data) => {
                self.data.get_or_insert_with(|| data.as_bytes().to_vec());
            }
            StunAttribute::ErrorCode(error) => {
                let error = error.error_code();
                self.refusal.get_or_insert_with(|| Refusal {
                    code: error.error_code(),
                    reason: stun::clipped(error.reason()).to_owned(),
                });
            }
            StunAttribute::AlternateServer(address) => {
                self.alternate_server.get_or_insert(*address.socket_address());
            }
            StunAttribute::UserName(name) => {
                self.username.get_or_insert_with(|| name.as_str().to_owned());
            }
            StunAttribute::Realm(realm) => {
                self.realm.get_or_insert_with(|| realm.as_str().to_owned());
            }
            StunAttribute::Nonce(nonce) => {
                self.nonce.get_or_insert_with(|| nonce.as_str().to_owned());
            }
            StunAttribute::Unknown(unknown) => return !unknown.attribute_type().is_comprehension_required(),
            _ => {}
        }
        true
    }

    /// The octets of this message, with the proof if there is one; empty if it is too long.
    pub fn write(&self, proof: Option<&Proof>) -> Vec<u8> {
        let mut attributes: Vec<StunAttribute> = Vec::new();
        if self.wants_udp {
            attributes.push(RequestedTrasport::new(protocols::UDP).into());
        }
        if self.wants_ipv6 {
            attributes.push(RequestedAddressFamily::new(AddressFamily::IPv6).into());
        }
        attributes.extend(self.lifetime_s.map(|seconds| LifeTime::new(seconds).into()));
        attributes.extend(self.relayed.map(|address| XorRelayedAddress::from(address).into()));
        attributes.extend(self.mapped.map(|address| XorMappedAddress::from(address).into()));
        attributes.extend(self.peers.iter().map(|peer| XorPeerAddress::from(*peer).into()));
        attributes.extend(self.channel.map(|channel| ChannelNumber::new(channel).into()));
        attributes.extend(self.data.as_deref().map(|data| Data::new(data).into()));
        attributes.extend(self.refusal.as_ref().and_then(|refusal| {
            let error = stun_rs::ErrorCode::new(refusal.code, stun::clipped(&refusal.reason)).ok()?;
            Some(ErrorCode::new(error).into())
        }));
        attributes.extend(self.alternate_server.map(|address| AlternateServer::from(address).into()));
        let (username, realm, nonce) = match proof {
            Some(proof) => (Some(&proof.username), Some(&proof.realm), Some(&proof.nonce)),
            None => (self.username.as_ref(), self.realm.as_ref(), self.nonce.as_ref()),
        };
        attributes.extend(username.and_then(|name| UserName::new(name).ok()).map(Into::into));
        attributes.extend(realm.and_then(|realm| Realm::new(realm).ok()).map(Into::into));
        attributes.extend(nonce.and_then(|nonce| Nonce::new(nonce).ok()).map(Into::into));
        self.encode(attributes, proof.map(|proof| &proof.key))
    }

    /// The octets of an answer whose integrity is under `key`.
    pub fn write_answer(&self, key: &Key) -> Vec<u8> {
        let plain = self.write(None);
        let read = MessageDecoderBuilder::default().build().decode(&plain);
        let attributes = read.map(|(read, _)| read.attributes().to_vec()).unwrap_or_default();
        let kept = attributes.into_iter().filter(|attribute| !attribute.is_fingerprint());
        self.encode(kept.collect(), Some(key))
    }

    fn encode(&self, attributes: Vec<StunAttribute>, key: Option<&Key>) -> Vec<u8> {
        let class = match self.class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::SuccessResponse,
            Class::Error => MessageClass::ErrorResponse,
        };
        let mut builder =
            StunMessageBuilder::new(self.method.code(), class).with_transaction_id(self.id.0.into());
        for attribute in attributes {
            builder = builder.with_attribute(attribute);
        }
        if let Some(Key(key)) = key {
            builder = builder.with_attribute(MessageIntegrity::new(key.clone()));
        }
        // No server asks for it in an indication, and it would cost eight octets of each packet.
        if self.class != Class::Indication {
            builder = builder.with_attribute(Fingerprint::default());
        }
        let mut octets = vec![0; MAX_MESSAGE];
        let length = MessageEncoderBuilder::default().build().encode(&mut octets, &builder.build());
        octets.truncate(length.unwrap_or(0));
        octets
    }
}

/// Whether who sent this message has the key.
pub fn is_authentic(datagram: &[u8], key: &Key) -> bool {
    let Ok(types) = attribute_types(datagram) else { return false };
    let context = DecoderContextBuilder::default().with_key(key.0.clone()).with_validation().build();
    types.contains(&MESSAGE_INTEGRITY)
        && MessageDecoderBuilder::default().with_context(context).build().decode(datagram).is_ok()
}

/// The channel and the payload of ChannelData (RFC 8656 §12.4); a stream's padding may follow.
pub fn channel_data(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let [a, b, c, d, rest @ ..] = datagram else { return None };
    let channel = u16::from_be_bytes([*a, *b]);
    let length = usize::from(u16::from_be_bytes([*c, *d]));
    let payload = rest.get(..length)?;
    ((0x4000..0x5000).contains(&channel) && rest.len() < length + 4).then_some((channel, payload))
}

/// Whether a message of ours is a packet to a peer, which nobody repeats and which is worth nothing when it is late.
pub fn may_be_lost(message: &[u8]) -> bool {
    const SEND_INDICATION: [u8; 2] = [0x00, 0x16];
    message.first().is_some_and(|first| first >> 6 == 1) || message.get(..2) == Some(&SEND_INDICATION)
}

/// The peer and the payload of a Data indication (RFC 8656 §11.6), without copying either.
pub fn data_indication(datagram: &[u8]) -> Option<(SocketAddr, std::ops::Range<usize>)> {
    const DATA_INDICATION: [u8; 2] = [0x00, 0x17];
    if !stun::is_stun(datagram) || datagram.get(..2)? != DATA_INDICATION {
        return None;
    }
    let (mut peer, mut data) = (None, None);
    let mut at = HEADER;
    while let [high, low, length_high, length_low, value @ ..] = datagram.get(at..)? {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let value = value.get(..length)?;
        match [*high, *low] {
            [0x00, 0x12] if peer.is_none() => peer = Some(xor_address(datagram, value)?),
            [0x00, 0x13] if data.is_none() => data = Some(at + 4..at + 4 + length),
            _ => {}
        }
        at += 4 + length.next_multiple_of(4);
    }
    peer.zip(data)
}

/// An address that is masked with the cookie and, for IPv6, the transaction (RFC 8489 §14.2).
fn xor_address(datagram: &[u8], value: &[u8]) -> Option<SocketAddr> {
    let mask = datagram.get(4..HEADER)?;
    let [_, family, port @ ..] = value.get(..4)? else { return None };
    let [high, low] = *port else { return None };
    let port = u16::from_be_bytes([high ^ mask.first()?, low ^ mask.get(1)?]);
    let octets = value.get(4..)?.iter().zip(mask).map(|(octet, mask)| octet ^ mask);
    let octets: Vec<u8> = octets.collect();
    match (family, octets.len()) {
        (1, 4) => <[u8; 4]>::try_from(octets).ok().map(|ip| SocketAddr::from((ip, port))),
        (2, 16) => <[u8; 16]>::try_from(octets).ok().map(|ip| SocketAddr::from((ip, port))),
        _ => None,
    }
}

/// Writes a Send indication (RFC 8656 §11.5) into `out`; its length, or `None` if it does not fit.
pub fn send_indication(id: TransactionId, peer: SocketAddr, payload: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut message = TurnMessage::new(Class::Indication, Method::Send, id);
    message.peers.push(peer);
    message.data = Some(payload.to_vec());
    let octets = message.write(None);
    out.get_mut(..octets.len())?.copy_from_slice(&octets);
    (!octets.is_empty()).then_some(octets.len())
}

/// Writes ChannelData into `out`, padded for a stream if need be; its length, or `None` if it does not fit.
pub fn write_channel_data(channel: u16, payload: &[u8], stream: bool, out: &mut [u8]) -> Option<usize> {
    let length = u16::try_from(payload.len()).ok()?;
    let padded = if stream { payload.len().next_multiple_of(4) } else { payload.len() };
    let out = out.get_mut(..CHANNEL_HEADER + padded)?;
    out.fill(0);
    let (head, body) = out.split_at_mut_checked(CHANNEL_HEADER)?;
    head.get_mut(..2)?.copy_from_slice(&channel.to_be_bytes());
    head.get_mut(2..)?.copy_from_slice(&length.to_be_bytes());
    body.get_mut(..payload.len())?.copy_from_slice(payload);
    Some(CHANNEL_HEADER + padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId([9; 12]);

    fn full() -> TurnMessage {
        TurnMessage {
            wants_udp: true,
            wants_ipv6: true,
            lifetime_s: Some(600),
            relayed: "192.0.2.1:50000".parse().ok(),
            mapped: "203.0.113.1:40000".parse().ok(),
            peers: vec!["198.51.100.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap()],
            channel: Some(0x4001),
            data: Some(b"speech".to_vec()),
            refusal: Some(Refusal { code: 438, reason: "Stale Nonce".into() }),
            alternate_server: "192.0.2.7:3478".parse().ok(),
            ..TurnMessage::new(Class::Error, Method::ChannelBind, ID)
        }
    }

    #[test]
    fn everything_is_read_as_it_was_written_and_the_key_vouches_for_it() {
        let key = Key::long_term("user", "example.org", "secret").unwrap();
        let proof = Proof {
            username: "user".into(),
            realm: "example.org".into(),
            nonce: "abc123".into(),
            key: key.clone(),
        };
        let octets = full().write(Some(&proof));
        let mut expected = full();
        expected.username = Some("user".into());
        expected.realm = Some("example.org".into());
        expected.nonce = Some("abc123".into());
        assert_eq!(TurnMessage::read(&octets), Some(expected));
        assert!(is_authentic(&octets, &key));
        assert!(!is_authentic(&octets, &Key::long_term("user", "example.org", "other").unwrap()));
        assert!(!is_authentic(&full().write(None), &key));
        let answer = full().write_answer(&key);
        assert_eq!(TurnMessage::read(&answer), Some(full()));
        assert!(is_authentic(&answer, &key));
        for (_, code) in Method::ALL {
            assert_ne!(code, methods::BINDING);
        }
    }

    #[test]
    fn packets_of_peers_are_found_without_reading_the_rest() {
        for peer in ["198.51.100.1:4001", "[2001:db8::1]:4002"] {
            let mut message = TurnMessage::new(Class::Indication, Method::Data, ID);
            message.peers.push(peer.parse().unwrap());
            message.data = Some(b"speech".to_vec());
            let octets = message.write(None);
            let (from, range) = data_indication(&octets).unwrap();
            assert_eq!((from, &octets[range]), (peer.parse().unwrap(), &b"speech"[..]));
            let mut out = [0; 200];
            let length = send_indication(ID, from, b"back", &mut out).unwrap();
            let sent = TurnMessage::read(&out[..length]).unwrap();
            assert_eq!(
                (sent.method, sent.peers, sent.data),
                (Method::Send, vec![from], Some(b"back".to_vec()))
            );
        }
        assert_eq!(data_indication(&full().write(None)), None);
        let mut out = [9; 12];
        assert_eq!(write_channel_data(0x4001, b"hello", true, &mut out), Some(12));
        assert_eq!(out, *b"\x40\x01\x00\x05hello\0\0\0");
        assert_eq!(write_channel_data(0x4001, b"hello", false, &mut out), Some(9));
        assert_eq!(write_channel_data(0x4001, b"hello", false, &mut out[..8]), None);
    }

    #[test]
    fn channels_are_cut_where_they_end() {
        let octets = [0x40, 1, 0, 3, b'a', b'b', b'c', 0];
        assert_eq!(channel_data(&octets), Some((0x4001, &b"abc"[..])));
        assert_eq!(channel_data(&octets[..7]), Some((0x4001, &b"abc"[..])));
        assert_eq!(channel_data(&octets[..6]), None);
        assert_eq!(channel_data(&[0x50, 0, 0, 0]), None);
    }
}

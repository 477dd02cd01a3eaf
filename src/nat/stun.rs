//! STUN messages (RFC 8489) with the attributes of NAT discovery (RFC 5780) and of connectivity checks (RFC 8445 §16.1).
//!
//! The codec below is `stun-rs`; but for `turn_message`, no other file of the house names it. Only Binding is known here.

use crate::chance::Chance;
use std::net::SocketAddr;
use stun_rs::attributes::StunAttribute;
use stun_rs::attributes::discovery::{
    ChangeRequest, ChangeRequestFlags, OtherAddress, ResponseOrigin, ResponsePort,
};
use stun_rs::attributes::ice::{IceControlled, IceControlling, Priority, UseCandidate};
use stun_rs::attributes::stun::{
    AlternateServer, ErrorCode, Fingerprint, MessageIntegrity, UnknownAttributes, UserName, XorMappedAddress,
};
use stun_rs::{
    DecoderContextBuilder, HMACKey, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder,
    StunMessageBuilder, methods,
};

/// The port of STUN and TURN servers over UDP where none is named (RFC 8489 §8, RFC 8656 §3.1).
pub const DEFAULT_PORT: u16 = 3478;
/// The longest message that is read, in octets.
pub const MAX_MESSAGE: usize = 1_500;
/// The most attributes that a message may have.
pub const MAX_ATTRIBUTES: usize = 40;
/// The most octets that are kept of the reason of a refusal.
pub const MAX_REASON: usize = 128;

pub(super) const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const FINGERPRINT: u16 = 0x8028;

/// Whether a datagram is a STUN message: two zero bits, the magic cookie and a length that is its own (RFC 8489 §6.3).
pub fn is_stun(datagram: &[u8]) -> bool {
    let [first, _, high, low, a, b, c, d, ..] = *datagram else { return false };
    let length = usize::from(u16::from_be_bytes([high, low]));
    first < 4
        && [a, b, c, d] == MAGIC_COOKIE
        && length.is_multiple_of(4)
        && HEADER + length == datagram.len()
        && datagram.len() <= MAX_MESSAGE
}

/// The 96 bits that tie an answer to its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(pub [u8; 12]);

impl TransactionId {
    /// A new one: nobody who does not see the request can guess it.
    pub fn draw(chance: &mut Chance) -> TransactionId {
        let mut id = [0; 12];
        chance.fill(&mut id);
        TransactionId(id)
    }

    /// That of a message, without reading more of it.
    pub fn of(datagram: &[u8]) -> Option<TransactionId> {
        let id = datagram.get(8..HEADER)?;
        is_stun(datagram).then(|| id.try_into().map(TransactionId).ok())?
    }
}

/// What a message is (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It wants an answer.
    Request,
    /// It wants none.
    Indication,
    /// The answer.
    Success,
    /// The refusal.
    Error,
}

/// From where else the answer should come (RFC 5780 §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// From the server's other address.
    pub address: bool,
    /// From its other port.
    pub port: bool,
}

/// The role of the agent that sends a check, with its tie-breaker (RFC 8445 §7.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// ICE-CONTROLLING.
    Controlling(u64),
    /// ICE-CONTROLLED.
    Controlled(u64),
}

/// Why a request was refused (RFC 8489 §14.8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// 300 to 699.
    pub code: u16,
    /// The server's words, for people.
    pub reason: String,
}

/// A Binding message, as it is read and written. What is absent is `None`, `false` or empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Request, indication or answer.
    pub class: Class,
    /// Ties the answer to the request.
    pub id: TransactionId,
    /// USERNAME.
    pub username: Option<String>,
    /// PRIORITY of the peer-reflexive candidate that the check would make.
    pub priority: Option<u32>,
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub role: Option<Role>,
    /// USE-CANDIDATE.
    pub use_candidate: bool,
    /// CHANGE-REQUEST.
    pub change: Option<Change>,
    /// RESPONSE-PORT: to which port of the asker the answer goes, if not to that of the request (RFC 5780 §7.5).
    pub response_port: Option<u16>,
    /// XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS: whence the server saw the request come.
    pub mapped: Option<SocketAddr>,
    /// RESPONSE-ORIGIN: whence the answer was sent.
    pub response_origin: Option<SocketAddr>,
    /// OTHER-ADDRESS: whence the server could answer instead.
    pub other_address: Option<SocketAddr>,
    /// ALTERNATE-SERVER of a refusal with 300.
    pub alternate_server: Option<SocketAddr>,
    /// ERROR-CODE.
    pub refusal: Option<Refusal>,
    /// Types of attributes that must be understood and are not; in an answer with 420, those of the request.
    pub unknown: Vec<u16>,
}

/// How a message is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seal<'a> {
    /// Nothing: enough where STUN has a socket of its own or shares it with text.
    Plain,
    /// FINGERPRINT (RFC 8489 §14.7).
    Fingerprint,
    /// MESSAGE-INTEGRITY under a short-term password, then FINGERPRINT.
    Password(&'a str),
}

/// Why a message is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// No STUN, or longer than [`MAX_MESSAGE`].
    #[error("not a STUN message")]
    NotStun,
    /// More than [`MAX_ATTRIBUTES`], or one that runs over the end.
    #[error("a STUN message with broken attributes")]
    Attributes,
    /// An attribute follows MESSAGE-INTEGRITY that nobody vouches for.
    #[error("a STUN message that somebody has added to")]
    Appended,
    /// A value that its attribute can't have.
    #[error("a STUN message with an impossible value")]
    Value,
    /// Not Binding.
    #[error("not a STUN Binding message")]
    OtherMethod,
}

impl Message {
    /// A message with nothing in it.
    pub fn new(class: Class, id: TransactionId) -> Message {
        Message {
            class,
            id,
            username: None,
            priority: None,
            role: None,
            use_candidate: false,
            change: None,
            response_port: None,
            mapped: None,
            response_origin: None,
            other_address: None,
            alternate_server: None,
            refusal: None,
            unknown: Vec::new(),
        }
    }

    /// A Binding request that asks for the mapped address; with `change`, from elsewhere.
    pub fn binding_request(id: TransactionId, change: Option<Change>) -> Message {
        Message { change, ..Message::new(Class::Request, id) }
    }

    /// The answer to a Binding request that came from `mapped`.
    pub fn binding_answer(id: TransactionId, mapped: SocketAddr) -> Message {
        Message { mapped: Some(mapped), ..Message::new(Class::Success, id) }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Fault`] says what is wrong with it.
    pub fn read(datagram: &[u8]) -> Result<Message, Fault> {
        let types = attribute_types(datagram)?;
        let (read, _) =
            MessageDecoderBuilder::default().build().decode(datagram).map_err(|_| Fault::Value)?;
        if read.method() != methods::BINDING {
            return Err(Fault::OtherMethod);
        }
        let class = match read.class() {
            MessageClass::Request => Class::Request,
            MessageClass::Indication => Class::Indication,
            MessageClass::SuccessResponse => Class::Success,
            MessageClass::ErrorResponse => Class::Error,
        };
        let mut message = Message::new(class, TransactionId(*read.transaction_id().as_bytes()));
        let mut plain = None;
        for attribute in read.attributes() {
            message.take(attribute, &mut plain);
        }
        message.mapped = message.mapped.or(plain);
        if types.len() != read.attributes().len() {
            return Err(Fault::Appended);
        }
        Ok(message)
    }

    // Of an attribute that comes twice the first counts (RFC 8489 §14).
    fn take(&mut self, attribute: &StunAttribute, plain: &mut Option<SocketAddr>) {
        match attribute {
            StunAttribute::UserName(name) => {
                self.username.get_or_insert_with(|| name.as_str().to_owned());
            }
            StunAttribute::Priority(priority) => {
                self.priority.get_or_insert(priority.as_u32());
            }
            StunAttribute::IceControlling(role) => {
                self.role.get_or_insert(Role::Controlling(role.as_u64()));
            }
            StunAttribute::IceControlled(role) => {
                self.role.get_or_insert(Role::Controlled(role.as_u64()));
            }
            StunAttribute::UseCandidate(_) => self.use_candidate = true,
            StunAttribute::ChangeRequest(change) => {
                let flags = change.flags();
                self.change.get_or_insert(Change {
                    address: flags.contains(ChangeRequestFlags::ChangeIp),
                    port: flags.contains(ChangeRequestFlags::ChangePort),
                });
            }
            StunAttribute::ResponsePort(port) => {
                self.response_port.get_or_insert(port.as_u16());
            }
            StunAttribute::XorMappedAddress(address) => {
                self.mapped.get_or_insert(*address.socket_address());
            }
            StunAttribute::MappedAddress(address) => {
                plain.get_or_insert(*address.socket_address());
            }
            StunAttribute::ResponseOrigin(address) => {
                self.response_origin.get_or_insert(*address.socket_address());
            }
            StunAttribute::OtherAddress(address) => {
                self.other_address.get_or_insert(*address.socket_address());
            }
            StunAttribute::AlternateServer(address) => {
                self.alternate_server.get_or_insert(*address.socket_address());
            }
            StunAttribute::ErrorCode(error) => {
                let error = error.error_code();
                self.refusal.get_or_insert_with(|| Refusal {
                    code: error.error_code(),
                    reason: clipped(error.reason()).to_owned(),
                });
            }
            StunAttribute::UnknownAttributes(types) => self.unknown.extend(types.iter()),
            StunAttribute::Unknown(unknown) => {
                let kind = unknown.attribute_type();
                if kind.is_comprehension_required() {
                    self.unknown.push(kind.as_u16());
                }
            }
            _ => {}
        }
    }

    /// The octets of this message.
    pub fn write(&self, seal: Seal) -> Vec<u8> {
        let class = match self.class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::SuccessResponse,
            Class::Error => MessageClass::ErrorResponse,
        };
        let mut builder =
            StunMessageBuilder::new(methods::BINDING, class).with_transaction_id(self.id.0.into());
        let mut add = |attribute: Option<StunAttribute>| {
            if let Some(attribute) = attribute {
                let other = StunMessageBuilder::new(methods::BINDING, class);
                builder = std::mem::replace(&mut builder, other).with_attribute(attribute);
            }
        };
        add(self.username.as_deref().and_then(|name| UserName::new(name).ok()).map(Into::into));
        add(self.priority.map(|priority| Priority::new(priority).into()));
        add(self.role.map(|role| match role {
            Role::Controlling(tie_breaker) => IceControlling::new(tie_breaker).into(),
            Role::Controlled(tie_breaker) => IceControlled::new(tie_breaker).into(),
        }));
        add(self.use_candidate.then(|| UseCandidate::default().into()));
        add(self.change.map(|change| {
            let address = change.address.then_some(ChangeRequestFlags::ChangeIp);
            let port = change.port.then_some(ChangeRequestFlags::ChangePort);
            ChangeRequest::new(Some(address.into_iter().chain(port).collect())).into()
        }));
        add(self.response_port.map(|port| ResponsePort::from(port).into()));
        add(self.refusal.as_ref().and_then(|refusal| {
            let error = stun_rs::ErrorCode::new(refusal.code, clipped(&refusal.reason)).ok()?;
            Some(ErrorCode::new(error).into())
        }));
        add((!self.unknown.is_empty()).then(|| UnknownAttributes::from(self.unknown.as_slice()).into()));
        add(self.mapped.map(|address| XorMappedAddress::from(address).into()));
        add(self.response_origin.map(|address| ResponseOrigin::from(address).into()));
        add(self.other_address.map(|address| OtherAddress::from(address).into()));
        add(self.alternate_server.map(|address| AlternateServer::from(address).into()));
        if let Seal::Password(password) = seal {
            add(HMACKey::new_short_term(password).ok().map(|key| MessageIntegrity::new(key).into()));
        }
        if seal != Seal::Plain {
            add(Some(Fingerprint::default().into()));
        }
        let mut octets = vec![0; MAX_MESSAGE];
        let length = MessageEncoderBuilder::default().build().encode(&mut octets, &builder.build());
        octets.truncate(length.unwrap_or(0));
        octets
    }
}

/// Whether whoever sent this message knew the short-term password (RFC 8489 §9.1.3): it has a MESSAGE-INTEGRITY that is
/// right, and nothing after it that is not covered.
pub fn is_authentic(datagram: &[u8], password: &str) -> bool {
    let Ok(types) = attribute_types(datagram) else { return false };
    let Ok(key) = HMACKey::new_short_term(password) else { return false };
    let context = DecoderContextBuilder::default().with_key(key).with_validation().build();
    types.contains(&MESSAGE_INTEGRITY)
        && MessageDecoderBuilder::default().with_context(context).build().decode(datagram).is_ok()
}

/// The types of all attributes, in order; refuses what does not fit and what is appended behind the integrity.
pub(super) fn attribute_types(datagram: &[u8]) -> Result<Vec<u16>, Fault> {
    if !is_stun(datagram) {
        return Err(Fault::NotStun);
    }
    let mut types = Vec::new();
    let mut rest = datagram.get(HEADER..).unwrap_or_default();
    let mut sealed = None;
    while let [high, low, length_high, length_low, value @ ..] = rest {
        let kind = u16::from_be_bytes([*high, *low]);
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        rest = value.get(length.next_multiple_of(4)..).ok_or(Fault::Attributes)?;
        let fits = match sealed {
            None => true,
            Some(MESSAGE_INTEGRITY) => matches!(kind, MESSAGE_INTEGRITY_SHA256 | FINGERPRINT),
            Some(MESSAGE_INTEGRITY_SHA256) => kind == FINGERPRINT,
            Some(_) => false,
        };
        if !fits {
            return Err(Fault::Appended);
        }
        if matches!(kind, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | FINGERPRINT) {
            sealed = Some(kind);
        }
        types.push(kind);
        if types.len() > MAX_ATTRIBUTES {
            return Err(Fault::Attributes);
        }
    }
    if rest.is_empty() { Ok(types) } else { Err(Fault::Attributes) }
}

pub(super) fn clipped(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

    fn full() -> Message {
        Message {
            username: Some("far:near".to_owned()),
            priority: Some(1_845_501_695),
            role: Some(Role::Controlled(0x0102_0304_0506_0708)),
            use_candidate: true,
            change: Some(Change { address: true, port: false }),
            response_port: Some(40_001),
            mapped: Some("203.0.113.7:40000".parse().unwrap()),
            response_origin: Some("192.0.2.1:3478".parse().unwrap()),
            other_address: Some("[2001:db8::1]:3479".parse().unwrap()),
            alternate_server: Some("192.0.2.9:3478".parse().unwrap()),
            refusal: Some(Refusal { code: 438, reason: "Stale Nonce".to_owned() }),
            ..Message::new(Class::Error, ID)
        }
    }

    #[test]
    fn a_request_is_twenty_octets_and_what_it_says() {
        let octets = Message::binding_request(ID, None).write(Seal::Plain);
        let mut expected = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        expected.extend(ID.0);
        assert_eq!(octets, expected);
        let octets =
            Message::binding_request(ID, Some(Change { address: false, port: true })).write(Seal::Plain);
        assert_eq!(octets[20..], [0, 3, 0, 4, 0, 0, 0, 2]);
    }

    #[test]
    fn everything_is_read_as_it_was_written() {
        for seal in [Seal::Plain, Seal::Fingerprint, Seal::Password("a password")] {
            let octets = full().write(seal);
            assert!(is_stun(&octets));
            assert_eq!(TransactionId::of(&octets), Some(ID));
            assert_eq!(Message::read(&octets), Ok(full()));
        }
        let v6 = Message::binding_answer(ID, "[2001:db8::7]:5060".parse().unwrap());
        assert_eq!(Message::read(&v6.write(Seal::Fingerprint)), Ok(v6));
    }

    #[test]
    fn the_plain_mapped_address_counts_where_there_is_no_other() {
        let mut octets = vec![1, 1, 0, 12, 0x21, 0x12, 0xA4, 0x42];
        octets.extend(ID.0);
        octets.extend([0, 1, 0, 8, 0, 1, 0x13, 0xC4, 203, 0, 113, 9]);
        assert_eq!(Message::read(&octets).unwrap().mapped, "203.0.113.9:5060".parse().ok());
        let other = Message::binding_answer(ID, "198.51.100.1:7".parse().unwrap()).write(Seal::Plain);
        octets.extend(&other[20..]);
        octets[3] = 24;
        assert_eq!(Message::read(&octets).unwrap().mapped, "198.51.100.1:7".parse().ok());
    }

    #[test]
    fn only_who_knows_the_password_is_authentic() {
        let octets = full().write(Seal::Password("right"));
        assert!(is_authentic(&octets, "right"));
        assert!(!is_authentic(&octets, "wrong"));
        assert!(!is_authentic(&full().write(Seal::Fingerprint), "right"));
        for at in 0..octets.len() {
            let mut forged = octets.clone();
            forged[at] ^= 1;
            assert!(!is_authentic(&forged, "right"), "octet {at}");
        }
    }

    #[test]
    fn what_is_appended_behind_the_integrity_is_refused() {
        let mut message = full();
        message.use_candidate = false;
        let mut octets = message.write(Seal::Password("right"));
        octets.truncate(octets.len() - 8);
        octets.extend([0, 0x25, 0, 0]);
        let length = u16::try_from(octets.len() - 20).unwrap();
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(Message::read(&octets), Err(Fault::Appended));
        assert!(!is_authentic(&octets, "right"));
    }

    #[test]
    fn what_is_no_stun_is_told_apart() {
        let octets = Message::binding_request(ID, None).write(Seal::Fingerprint);
        assert!(!is_stun(&octets[..octets.len() - 1]));
        assert!(!is_stun(&[octets.as_slice(), &[0]].concat()));
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"));
        assert!(!is_stun(&[0x80; 172]));
        let mut other = octets.clone();
        other[5] ^= 1;
        assert_eq!(Message::read(&other), Err(Fault::NotStun));
        let mut allocate = octets;
        allocate[1] = 3;
        assert_eq!(Message::read(&allocate), Err(Fault::OtherMethod));
    }

    #[test]
    fn a_message_of_nothing_but_attributes_is_refused() {
        let mut octets = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        octets.extend(ID.0);
        for _ in 0..=MAX_ATTRIBUTES {
            octets.extend([0x80, 0x77, 0, 0]);
        }
        let length = u16::try_from(octets.len() - 20).unwrap();
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(Message::read(&octets), Err(Fault::Attributes));
        let mut unknown = vec![0, 1, 0, 4, 0x21, 0x12, 0xA4, 0x42];
        unknown.extend(ID.0);
        unknown.extend([0x7F, 0x77, 0, 0]);
        assert_eq!(Message::read(&unknown).unwrap().unknown, [0x7F77]);
    }
}

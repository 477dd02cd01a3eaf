//! Packets as a broker sends them: MQTT 3.1.1 (OASIS, §2 and §3) and MQTT 5 (the same chapters), read with limits.
//!
//! Only what a broker may send to this client is understood; everything else is a fault of the broker, and the connection
//! ends. A message that is too large to be taken is not one: with 3.1.1 a broker can't be told how much that is, and
//! would send it again on each connection. So its head is read, and the rest is for the caller to skip.

use super::properties::{self, Properties};
use crate::config::MqttVersion;

/// Bytes of a packet that are taken; a broker of MQTT 5 is told.
pub const LARGEST: usize = 16 << 10;
/// Bytes of a message that are read and thrown away rather than ending the connection.
pub const LARGEST_SKIPPED: usize = 1 << 20;
/// Bytes of a topic.
const LONGEST_TOPIC: usize = 1024;
/// Bytes behind which the head of a message is known: type, length, topic, packet id.
const HEAD: usize = 5 + 2 + LONGEST_TOPIC + 2;

/// A packet of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// CONNACK: how it takes the connection.
    Greeting {
        /// It still has the session of the connection before.
        resumed: bool,
        /// 0, or why it refuses: a return code of 3.1.1, a reason code of 5.
        reason: u8,
        /// What it says about itself.
        properties: Properties,
    },
    /// PUBLISH: a message of somebody.
    Message(Message),
    /// PUBLISH that is larger than [`LARGEST`]: so many bytes of it follow that nobody wants.
    Oversized {
        /// What it is acknowledged by, if it has to be.
        packet_id: Option<u16>,
        /// Bytes that follow.
        rest: usize,
    },
    /// PUBACK: it has taken the message of this id, or says why not.
    Acknowledged {
        /// The id of the message.
        packet_id: u16,
        /// 0 and what is below 0x80: taken.
        reason: u8,
        /// What it says about that.
        properties: Properties,
    },
    /// SUBACK: what it grants, one byte for each topic.
    Subscribed {
        /// The id of the wish.
        packet_id: u16,
        /// The quality of service, or a refusal from 0x80 on.
        reasons: Vec<u8>,
    },
    /// PINGRESP.
    Pong,
    /// DISCONNECT of MQTT 5: why it ends the connection.
    Farewell {
        /// Why.
        reason: u8,
        /// What it says about that.
        properties: Properties,
    },
}

/// A message of somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// What was sent.
    pub payload: Vec<u8>,
    /// What it is acknowledged by, if it has to be.
    pub packet_id: Option<u16>,
    /// It was there before the subscription.
    pub retained: bool,
    /// Where its sender wants an answer, and for how long it is worth something.
    pub properties: Properties,
}

/// What is wrong with bytes of a broker. The connection ends with the reason code of the variant (MQTT 5 §4.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Not a packet of this version.
    #[error("what it sends is not MQTT: {0}")]
    Malformed(&'static str),
    /// A packet that a broker must not send, or not then.
    #[error("it breaks the rules of MQTT: {0}")]
    Protocol(&'static str),
    /// More than was agreed on.
    #[error("it sends packets that are larger than it was told to")]
    TooLarge,
}

impl Fault {
    /// The reason code of the DISCONNECT that answers it.
    pub fn reason(self) -> u8 {
        match self {
            Fault::Malformed(_) => 0x81,
            Fault::Protocol(_) => 0x82,
            Fault::TooLarge => 0x95,
        }
    }
}

/// The first packet of these bytes and how many of them it takes; `None` while it is not all there.
///
/// # Errors
///
/// They are not what a broker may send.
pub fn read(bytes: &[u8], version: MqttVersion) -> Result<Option<(Packet, usize)>, Fault> {
    let Some((&first, behind)) = bytes.split_first() else { return Ok(None) };
    expected(first, version)?;
    let Some((length, taken)) = length(behind)? else { return Ok(None) };
    let head = 1 + taken;
    let rest = behind.get(taken..).unwrap_or_default();
    let kind = first >> 4;
    if head + length > LARGEST {
        if kind != PUBLISH || length > LARGEST_SKIPPED {
            return Err(Fault::TooLarge);
        }
        if bytes.len() < HEAD {
            return Ok(None);
        }
        let mut fields = Fields { bytes: rest };
        let (_, packet_id) = addressed(first, &mut fields)?;
        let used = bytes.len() - fields.bytes.len();
        return Ok(Some((Packet::Oversized { packet_id, rest: head + length - used }, used)));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let mut fields = Fields { bytes: body };
    let packet = match kind {
        PUBLISH => message(first, &mut fields, version)?,
        2 => greeting(&mut fields, version)?,
        4 => acknowledged(&mut fields, version)?,
        9 => subscribed(&mut fields, version)?,
        13 => Packet::Pong,
        _ => farewell(&mut fields)?,
    };
    if !fields.bytes.is_empty() {
        return Err(Fault::Malformed("a packet is longer than what is in it"));
    }
    Ok(Some((packet, head + length)))
}

const PUBLISH: u8 = 3;

/// Whether a broker may begin a packet so: who speaks something else is known by the first byte, and not waited for.
fn expected(first: u8, version: MqttVersion) -> Result<(), Fault> {
    let five = version == MqttVersion::V5;
    match (first >> 4, first & 0x0f) {
        (PUBLISH, _) | (2 | 4 | 9 | 13, 0) => Ok(()),
        (14, 0) if five => Ok(()),
        (15, 0) if five => Err(Fault::Protocol("it wants a way to log in that nobody offered")),
        (5..=7 | 11, 0 | 2) => Err(Fault::Protocol("it answers what nobody asked")),
        _ => Err(Fault::Malformed("no broker sends such a packet")),
    }
}

/// The remaining length (§2.2.3 of 3.1.1, §1.5.5 of 5) and how many bytes it takes.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(Fault::Malformed("a length has no end")) } else { Ok(None) }
}

fn greeting(fields: &mut Fields<'_>, version: MqttVersion) -> Result<Packet, Fault> {
    let (flags, reason) = (fields.byte()?, fields.byte()?);
    if flags > 1 || (flags == 1 && reason != 0) {
        return Err(Fault::Malformed("flags of a greeting that mean nothing"));
    }
    // A broker that does not know MQTT 5 refuses it in the words of an older one.
    let brief = reason != 0 && fields.bytes.is_empty();
    let version = if brief { MqttVersion::V311 } else { version };
    let properties = properties_of(fields, version, properties::GREETING)?;
    Ok(Packet::Greeting { resumed: flags == 1, reason, properties })
}

/// Topic and packet id of a PUBLISH with this first byte.
fn addressed(first: u8, fields: &mut Fields<'_>) -> Result<(String, Option<u16>), Fault> {
    let topic = fields.text()?;
    if topic.len() > LONGEST_TOPIC {
        return Err(Fault::TooLarge);
    }
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Fault::Protocol("a message has no topic that can be used"));
    }
    let packet_id = match first >> 1 & 3 {
        0 if first & 8 != 0 => {
            return Err(Fault::Malformed("a message that nobody acknowledges is repeated"));
        }
        0 => None,
        1 => Some(fields.packet_id()?),
        _ => return Err(Fault::Protocol("a message of a quality of service that nobody subscribed to")),
    };
    Ok((topic.to_owned(), packet_id))
}

fn message(first: u8, fields: &mut Fields<'_>, version: MqttVersion) -> Result<Packet, Fault> {
    let (topic, packet_id) = addressed(first, fields)?;
    let properties = properties_of(fields, version, properties::MESSAGE)?;
    let payload = std::mem::take(&mut fields.bytes).to_vec();
    Ok(Packet::Message(Message { topic, payload, packet_id, retained: first & 1 == 1, properties }))
}

fn acknowledged(fields: &mut Fields<'_>, version: MqttVersion) -> Result<Packet, Fault> {
    let packet_id = fields.packet_id()?;
    let (reason, properties) = ending(fields, version)?;
    Ok(Packet::Acknowledged { packet_id, reason, properties })
}

/// A reason code and properties, each of which MQTT 5 lets be left out at the end.
fn ending(fields: &mut Fields<'_>, version: MqttVersion) -> Result<(u8, Properties), Fault> {
    if version != MqttVersion::V5 || fields.bytes.is_empty() {
        return Ok((0, Properties::default()));
    }
    let reason = fields.byte()?;
    if fields.bytes.is_empty() {
        return Ok((reason, Properties::default()));
    }
    Ok((reason, properties_of(fields, version, properties::ENDING)?))
}

fn subscribed(fields: &mut Fields<'_>, version: MqttVersion) -> Result<Packet, Fault> {
    let packet_id = fields.packet_id()?;
    properties_of(fields, version, properties::ENDING)?;
    let reasons = std::mem::take(&mut fields.bytes).to_vec();
    Ok(Packet::Subscribed { packet_id, reasons })
}

fn farewell(fields: &mut Fields<'_>) -> Result<Packet, Fault> {
    let (reason, properties) = ending(fields, MqttVersion::V5)?;
    Ok(Packet::Farewell { reason, properties })
}

fn properties_of(fields: &mut Fields<'_>, version: MqttVersion, may: &[u8]) -> Result<Properties, Fault> {
    if version != MqttVersion::V5 {
        return Ok(Properties::default());
    }
    let (length, taken) = length(fields.bytes)?.ok_or(Fault::Malformed(SHORT))?;
    fields.take(taken)?;
    Properties::read(&mut Fields { bytes: fields.take(length)? }, may)
}

/// What is said of a packet that ends in the middle of a field.
const SHORT: &str = "a packet ends too early";

/// The fields of a packet, one after the other.
pub(super) struct Fields<'b> {
    pub(super) bytes: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Fault::Malformed(SHORT))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.number(1).map(|number| number as u8)
    }

    /// A number of so many bytes, four at most.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u32, Fault> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.number(2)? {
            0 => Err(Fault::Protocol("a packet id is 0")),
            id => Ok(id as u16),
        }
    }

    pub(super) fn binary(&mut self) -> Result<&'b [u8], Fault> {
        let length = self.number(2)?;
        self.take(length as usize)
    }

    pub(super) fn text(&mut self) -> Result<&'b str, Fault> {
        let text = std::str::from_utf8(self.binary()?).ok().filter(|text| !text.contains('\0'));
        text.ok_or(Fault::Malformed("a text is not UTF-8"))
    }

    /// A number of variable length, as a remaining length is written.
    pub(super) fn variable(&mut self) -> Result<usize, Fault> {
        let (value, taken) = length(self.bytes)?.ok_or(Fault::Malformed(SHORT))?;
        self.take(taken)?;
        Ok(value)
    }
}

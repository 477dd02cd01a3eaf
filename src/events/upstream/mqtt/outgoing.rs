//! Packets as this client sends them, in the bytes of MQTT 3.1.1 or 5.

use crate::config::MqttVersion;

/// Seconds for which a broker of MQTT 5 keeps the session of a device that is gone.
pub const SESSION_KEPT: u32 = 3600;

/// What a device says about itself first.
pub struct Hello<'h> {
    /// Its name at the broker.
    pub client_id: &'h str,
    /// Who it is.
    pub user: &'h str,
    /// What only it knows.
    pub password: &'h str,
    /// Seconds of silence after which it is taken for gone.
    pub keep_alive: u16,
    /// The broker is to forget what it knows of an earlier life.
    pub clean: bool,
    /// Where it is told that the device is gone.
    pub will_topic: &'h str,
    /// What is told there, and kept.
    pub will: &'h [u8],
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Publish {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// The broker keeps it for whoever comes later.
    pub retain: bool,
    /// What the asker knows an answer by.
    pub correlation: Option<Vec<u8>>,
}

/// CONNECT. With 3.1.1 a session outlives its connection unless it is clean; with 5, for [`SESSION_KEPT`].
pub fn connect(version: MqttVersion, hello: &Hello<'_>) -> Vec<u8> {
    let five = version == MqttVersion::V5;
    let (has_user, has_password) = (!hello.user.is_empty(), !hello.password.is_empty());
    let will = 0x04 | 0x08 | 0x20;
    // A password without a user is nothing that 3.1.1 has.
    let user = has_user || (has_password && !five);
    let flags = will | u8::from(hello.clean && five) << 1 | u8::from(has_password) << 6 | u8::from(user) << 7;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([if five { 5 } else { 4 }, flags]);
    body.extend(hello.keep_alive.to_be_bytes());
    if five {
        let mut properties = vec![0x11];
        properties.extend(SESSION_KEPT.to_be_bytes());
        properties.push(0x27);
        properties.extend((super::packet::LARGEST as u32).to_be_bytes());
        length(&mut body, properties.len());
        body.extend(properties);
    }
    text(&mut body, hello.client_id);
    if five {
        body.push(0);
    }
    text(&mut body, hello.will_topic);
    binary(&mut body, hello.will);
    if user {
        text(&mut body, hello.user);
    }
    if has_password {
        text(&mut body, hello.password);
    }
    packet(0x10, &body)
}

/// PUBLISH: with a packet id it has to be acknowledged, without one nobody tells whether it came.
pub fn publish(version: MqttVersion, publish: &Publish, packet_id: Option<u16>, again: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(publish.payload.len() + publish.topic.len() + 16);
    text(&mut body, &publish.topic);
    if let Some(id) = packet_id {
        body.extend(id.to_be_bytes());
    }
    if version == MqttVersion::V5 {
        let mut properties = vec![0x01, 1];
        if let Some(correlation) = &publish.correlation {
            properties.push(0x09);
            binary(&mut properties, correlation);
        }
        length(&mut body, properties.len());
        body.extend(properties);
    }
    body.extend(&publish.payload);
    let flags = u8::from(publish.retain) | u8::from(packet_id.is_some()) << 1 | u8::from(again) << 3;
    packet(0x30 | flags, &body)
}

/// PUBACK: a message was taken.
pub fn acknowledge(packet_id: u16) -> Vec<u8> {
    packet(0x40, &packet_id.to_be_bytes())
}

/// SUBSCRIBE to one topic, with an acknowledgement for each message, and without those that were there before (which 3.1.1
/// can't be asked for).
pub fn subscribe(version: MqttVersion, topic: &str, packet_id: u16) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == MqttVersion::V5 {
        body.push(0);
    }
    text(&mut body, topic);
    body.push(if version == MqttVersion::V5 { 0x21 } else { 1 });
    packet(0x82, &body)
}

/// PINGREQ.
pub fn ping() -> Vec<u8> {
    packet(0xc0, &[])
}

/// DISCONNECT, with a reason where the version has a place for it.
pub fn disconnect(version: MqttVersion, reason: u8) -> Vec<u8> {
    let with_reason = version == MqttVersion::V5 && reason != 0;
    packet(0xe0, if with_reason { std::slice::from_ref(&reason) } else { &[] })
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    length(&mut packet, body.len());
    packet.extend(body);
    packet
}

fn length(into: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        into.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
}

fn text(into: &mut Vec<u8>, text: &str) {
    binary(into, text.as_bytes());
}

/// What is longer than a field can be is cut: settings are refused before, and topics are short.
fn binary(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    into.extend(length.to_be_bytes());
    into.extend(bytes.iter().take(usize::from(length)));
}

//! Numbering, and the form in which events leave the device: CloudEvents 1.0, structured JSON.

use uuid::Uuid;

use super::catalogue::Event;
use super::kind::Kind;
use crate::chance::Chance;
use crate::now::Now;

/// What every type begins with.
pub const TYPE_PREFIX: &str = "tipring.";

/// Gives events their numbers and identities. There is one on a device.
#[derive(Debug)]
pub struct Recorder {
    last: u64,
    chance: Chance,
}

impl Recorder {
    /// A recorder that goes on after `last`, the last number that the store has committed (0 for a new store).
    pub fn new(last: u64, chance: Chance) -> Recorder {
        Recorder { last, chance }
    }

    /// The number of the newest event.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Numbers an event that happened `now`. Order is that of the numbers: the clock may be wrong or jump.
    pub fn record(&mut self, now: Now, event: Event) -> Recorded {
        self.last += 1;
        Recorded { sequence: self.last, id: identity(now, &mut self.chance), utc_us: now.utc_us, event }
    }
}

/// A UUIDv7 (RFC 9562 §5.7) of this moment. A clock before 1970 counts as 1970.
pub fn identity(now: Now, chance: &mut Chance) -> Uuid {
    let mut random = [0; 10];
    chance.fill(&mut random);
    let millis = u64::try_from(now.utc_us / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// An event with its number, its identity and its time.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    /// Unique and rising on this device for ever, from 1.
    pub sequence: u64,
    /// Unique everywhere (UUIDv7).
    pub id: Uuid,
    /// When it happened, in microseconds since 1970 UTC, as far as the device's clock knew.
    pub utc_us: i64,
    /// What happened.
    pub event: Event,
}

/// Whether the digits of `call.dtmf` are told: they may be a card number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Digits {
    /// Left out.
    #[default]
    Hidden,
    /// Told to somebody who asked for them.
    Shown,
}

impl Recorded {
    /// The event as other systems get it.
    pub fn cloud_event(&self, digits: Digits) -> CloudEvent {
        let tagged = match (&self.event.kind, digits) {
            (Kind::CallDtmf { leg, by, duration_us, method, .. }, Digits::Hidden) => {
                content(&Kind::CallDtmf {
                    leg: leg.clone(),
                    by: *by,
                    digits: None,
                    duration_us: *duration_us,
                    method: method.clone(),
                })
            }
            (kind, _) => content(kind),
        };
        CloudEvent {
            sequence: self.sequence,
            id: self.id,
            utc_us: self.utc_us,
            kind: self.event.kind.name().to_owned(),
            subject: self.event.call.clone(),
            data: tagged,
        }
    }
}

/// The `data` of an event: what serde puts behind the name of a variant of [`Kind`].
fn content(kind: &Kind) -> String {
    let text = serde_json::to_string(kind).unwrap_or_default();
    let head = format!("{{\"{}\":", kind.name());
    text.strip_prefix(&head).and_then(|rest| rest.strip_suffix('}')).unwrap_or("{}").to_owned()
}

/// An event in the form in which the store keeps it and other systems get it. The store may hold types that only a
/// newer version of the program knew: they pass through unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloudEvent {
    /// See [`Recorded::sequence`].
    pub sequence: u64,
    /// See [`Recorded::id`].
    pub id: Uuid,
    /// See [`Recorded::utc_us`].
    pub utc_us: i64,
    /// The type without the prefix `tipring.`.
    pub kind: String,
    /// The call.
    pub subject: Option<String>,
    /// The `data` of the event: the text of a JSON object.
    pub data: String,
}

impl CloudEvent {
    /// What a reader sees where events from `first` to `last` are gone; it takes the number of the last one. Its
    /// identity is made of the numbers, so that it is the same each time it is told.
    pub fn gap(first: u64, last: u64, reason: Option<String>, utc_us: i64) -> CloudEvent {
        let mut unique = [0; 10];
        unique[2..].copy_from_slice(&last.to_be_bytes());
        let millis = u64::try_from(utc_us / 1000).unwrap_or(0);
        CloudEvent {
            sequence: last,
            id: uuid::Builder::from_unix_timestamp_millis(millis, &unique).into_uuid(),
            utc_us,
            kind: "gap".to_owned(),
            subject: None,
            data: content(&Kind::Gap { first, last, reason }),
        }
    }

    /// How many events a `gap` stands for; none for any other event.
    pub fn missing(&self) -> u64 {
        let data: serde_json::Value = match self.kind.as_str() {
            "gap" => serde_json::from_str(&self.data).unwrap_or_default(),
            _ => return 0,
        };
        let number = |key: &str| data[key].as_u64();
        number("first")
            .zip(number("last"))
            .map_or(0, |(first, last)| last.saturating_sub(first).saturating_add(1))
    }

    /// The structured JSON form (`application/cloudevents+json`) of the device with this serial number.
    pub fn to_json(&self, serial: &str) -> String {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let source = text(&source(serial));
        let subject =
            self.subject.as_deref().map(|it| format!("\"subject\":{},", text(it))).unwrap_or_default();
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":{source},\"type\":{},{subject}\"time\":\"{}\",\
             \"sequence\":\"{:020}\",\"datacontenttype\":\"application/json\",\"data\":{}}}",
            self.id,
            text(&format!("{TYPE_PREFIX}{}", self.kind)),
            rfc3339(self.utc_us),
            self.sequence,
            self.data
        )
    }
}

/// The `source` of a device's events: `urn:tipring:<serial>`, with what a URN can't hold percent-encoded (RFC 8141).
pub fn source(serial: &str) -> String {
    let mut urn = String::from("urn:tipring:");
    for byte in serial.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            urn.push(char::from(byte));
        } else {
            urn.push_str(&format!("%{byte:02X}"));
        }
    }
    urn
}

/// A moment in RFC 3339, UTC, with six decimals. What lies outside the years that the format has becomes the nearest
/// year that it has.
pub fn rfc3339(utc_us: i64) -> String {
    const FIRST: i64 = -62_167_219_200_000_000;
    const LAST: i64 = 253_400_000_000_000_000;
    let moment =
        jiff::Timestamp::from_microsecond(utc_us.clamp(FIRST, LAST)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{moment:.6}")
}

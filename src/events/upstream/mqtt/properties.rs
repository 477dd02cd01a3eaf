//! The properties that MQTT 5 (§2.2.2.2) puts into packets: those that matter here are kept, the others only checked.

use super::packet::{Fault, Fields};

/// Properties in one packet.
const MOST: usize = 64;
/// Bytes of what a broker says in a sentence that are kept.
const LONGEST_SENTENCE: usize = 200;

/// How a value is written.
enum Form {
    Number(usize),
    Variable,
    Text,
    Binary,
    Pair,
}

/// What may stand in a CONNACK.
pub(super) const GREETING: &[u8] =
    &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a];
/// What may stand in a PUBLISH. An alias for a topic (0x23) may not: none was offered.
pub(super) const MESSAGE: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x26];
/// What may stand in PUBACK, SUBACK and DISCONNECT.
pub(super) const ENDING: &[u8] = &[0x11, 0x1c, 0x1f, 0x26];

/// What a packet says beside its fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties {
    /// How many messages may be under way to the broker.
    pub receive_maximum: Option<u16>,
    /// Bytes of the largest packet that it takes.
    pub largest: Option<usize>,
    /// The best quality of service that it has.
    pub quality: Option<u8>,
    /// Seconds after which it takes a silent client for gone, instead of those that were proposed.
    pub keep_alive: Option<u16>,
    /// A sentence about why, with nothing in it but visible ASCII.
    pub sentence: Option<String>,
    /// Where to go instead; as `sentence`.
    pub server: Option<String>,
    /// Where an answer is wanted.
    pub response_topic: Option<String>,
    /// What the answer is known by.
    pub correlation: Option<Vec<u8>>,
}

impl Properties {
    /// The properties in these bytes, of which only those in `may` are allowed.
    pub(super) fn read(fields: &mut Fields<'_>, may: &[u8]) -> Result<Properties, Fault> {
        let mut properties = Properties::default();
        let mut seen: u64 = 0;
        for count in 0.. {
            if fields.bytes.is_empty() {
                break;
            }
            if count == MOST {
                return Err(Fault::TooLarge);
            }
            let id = fields.byte()?;
            let form = form(id).filter(|_| may.contains(&id));
            let form = form.ok_or(Fault::Protocol("a property that does not belong there"))?;
            // A user may say several things, and a message fit several subscriptions.
            if !matches!(id, 0x26 | 0x0b) {
                let bit = 1 << id;
                if seen & bit != 0 {
                    return Err(Fault::Protocol("a property is there twice"));
                }
                seen |= bit;
            }
            properties.take(id, &form, fields)?;
        }
        Ok(properties)
    }

    fn take(&mut self, id: u8, form: &Form, fields: &mut Fields<'_>) -> Result<(), Fault> {
        match form {
            Form::Number(bytes) => self.number(id, fields.number(*bytes)?)?,
            Form::Variable => drop(fields.variable()?),
            Form::Text => match (id, fields.text()?) {
                (0x1f, text) => self.sentence = Some(shown(text)),
                (0x1c, text) => self.server = Some(shown(text)),
                (0x08, text) => self.response_topic = Some(text.to_owned()),
                _ => {}
            },
            Form::Binary => {
                let bytes = fields.binary()?;
                if id == 0x09 {
                    self.correlation = Some(bytes.to_vec());
                }
            }
            Form::Pair => {
                fields.text()?;
                fields.text()?;
            }
        }
        Ok(())
    }

    fn number(&mut self, id: u8, value: u32) -> Result<(), Fault> {
        let out_of_range = match id {
            0x21 | 0x27 => value == 0,
            0x24 | 0x25 | 0x28..=0x2a | 0x01 => value > 1,
            _ => false,
        };
        if out_of_range {
            return Err(Fault::Protocol("a property has a value that means nothing"));
        }
        match id {
            0x21 => self.receive_maximum = Some(value as u16),
            0x27 => self.largest = Some(value as usize),
            0x24 => self.quality = Some(value as u8),
            0x13 => self.keep_alive = Some(value as u16),
            _ => {}
        }
        Ok(())
    }
}

fn form(id: u8) -> Option<Form> {
    Some(match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => Form::Number(1),
        0x13 | 0x21..=0x23 => Form::Number(2),
        0x02 | 0x11 | 0x18 | 0x27 => Form::Number(4),
        0x0b => Form::Variable,
        0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Form::Text,
        0x09 | 0x16 => Form::Binary,
        0x26 => Form::Pair,
        _ => return None,
    })
}

/// What a broker says, as people may see it.
fn shown(text: &str) -> String {
    let visible = |it: char| if it.is_ascii_graphic() || it == ' ' { it } else { '?' };
    text.chars().take(LONGEST_SENTENCE).map(visible).collect()
}

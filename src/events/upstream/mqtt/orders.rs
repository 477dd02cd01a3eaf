//! Commands that come back over the connection that events are told over: which of them are carried out.
//!
//! A message on `<tree>/command/<command>` is one JSON object with an `id`, the time `at` which it was sent and what the
//! command needs; where the upstream has a key, a line with a signature of Standard Webhooks stands before it. A broker may
//! deliver it twice, late, and from anybody whom it lets: so whoever is believed is asked first, then how old it is, then
//! whether it was carried out already. What a command does is nobody's business here.

use std::collections::VecDeque;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac};
use serde_json::{Map, Value, json};

use super::outgoing::Publish;
use super::packet::Message;
use super::topics::Topics;
use crate::config::{self, RemoteCommand};
use crate::events::upstream::webhook::key;
use crate::now::{CLOCK_WAS_SET, Now};

/// Characters of an id.
const LONGEST_ID: usize = 255;
/// Ids that are remembered: more than can come while a command is young enough.
const MOST_SEEN: usize = 512;
/// Signatures in one line: a new key may be tried beside the old one.
const MOST_SIGNATURES: usize = 8;
const MINUTE: u64 = 60_000_000;

/// A command that is to be carried out.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// What is to be done.
    pub command: RemoteCommand,
    /// With what.
    pub arguments: Map<String, Value>,
    to: Sender,
}

/// Where the answer goes.
#[derive(Clone, PartialEq, Debug)]
struct Sender {
    topic: String,
    correlation: Option<Vec<u8>>,
}

/// What becomes of a message.
#[derive(PartialEq, Debug)]
pub enum Ruling {
    /// It is carried out.
    Obey(Order),
    /// It is answered at once.
    Answer(Publish),
    /// Somebody is not believed, and told so.
    Intruder(Publish),
    /// Nothing: it is none, was there before, is being carried out, or there are too many.
    Ignore,
}

/// Why a command is refused: a stable name, what is the matter, what to do.
type Refusal = (&'static str, &'static str, &'static str);

struct Seen {
    id: String,
    digest: Vec<u8>,
    answer: Option<Value>,
}

/// Who may command what.
pub struct Orders {
    settings: config::Commands,
    topics: Topics,
    key: Option<hmac::Key>,
    /// What was sent before is refused: an earlier life may have carried it out.
    begun_utc_us: i64,
    seen: VecDeque<Seen>,
    /// When those of the last minute came.
    recent: VecDeque<u64>,
}

impl Orders {
    /// The commands that these settings allow; `None` if they allow none.
    pub fn new(now: Now, settings: &config::Commands, topics: &Topics) -> Option<Orders> {
        let signed = !settings.secret.is_empty();
        (!settings.allow.is_empty()).then(|| Orders {
            settings: settings.clone(),
            topics: topics.clone(),
            key: signed.then(|| key(&settings.secret)),
            begun_utc_us: now.utc_us,
            seen: VecDeque::new(),
            recent: VecDeque::new(),
        })
    }

    /// What becomes of a message.
    pub fn rule(&mut self, now: Now, message: Message) -> Ruling {
        let Some(name) = self.topics.command_in(&message.topic).map(str::to_owned) else {
            return Ruling::Ignore;
        };
        // What the broker keeps was meant for whoever was there when it was sent.
        if message.retained || !self.has_room(now) {
            return Ruling::Ignore;
        }
        let to = self.sender(&message);
        let (signatures, text) = split(&message.payload);
        let fields: Option<Map<String, Value>> = serde_json::from_slice(text).ok();
        let id = fields.as_ref().and_then(|fields| fields.get("id")).and_then(Value::as_str);
        let id = id.filter(|id| is_id(id)).map(str::to_owned);
        let (Some(mut fields), Some(id)) = (fields, id) else {
            let why = (
                "bad_request",
                "the command is no JSON object with an id",
                "send {\"id\": \"…\", \"at\": …}",
            );
            return Ruling::Answer(refused(&to, None, why));
        };
        let at = fields.get("at").and_then(Value::as_f64);
        if let Some(key) = &self.key {
            let seconds = fields.get("at").map(Value::to_string).unwrap_or_default();
            let signed =
                [id.as_bytes(), b".", seconds.as_bytes(), b".", message.topic.as_bytes(), b"\n", text];
            if !is_signed(key, &signed.concat(), signatures) {
                let why = (
                    "not_signed",
                    "nobody who has the key has signed this",
                    "sign id.at.topic, a line break, and the JSON",
                );
                return Ruling::Intruder(refused(&to, Some(&id), why));
            }
        }
        let command = RemoteCommand::ALL.iter().copied().find(|it| it.as_str() == name);
        let Some(command) = command.filter(|it| self.settings.allow.contains(it)) else {
            let why = (
                "not_allowed",
                "this command is not allowed here",
                "name it in allow of [upstream.mqtt.commands]",
            );
            return Ruling::Answer(refused(&to, Some(&id), why));
        };
        let digest =
            digest::digest(&digest::SHA256, &[name.as_bytes(), b"\n", text].concat()).as_ref().to_vec();
        if let Some(seen) = self.seen.iter().find(|seen| seen.id == id) {
            return match &seen.answer {
                _ if seen.digest != digest => {
                    let why = (
                        "id_reused",
                        "this id was used for another command",
                        "send a new id with each new command",
                    );
                    Ruling::Answer(refused(&to, Some(&id), why))
                }
                Some(answer) => Ruling::Answer(publish(&to, answer)),
                None => Ruling::Ignore,
            };
        }
        if let Err(why) = self.is_fresh(now, at) {
            return Ruling::Answer(refused(&to, Some(&id), why));
        }
        if self.seen.len() >= MOST_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { id: id.clone(), digest, answer: None });
        fields.remove("id");
        fields.remove("at");
        Ruling::Obey(Order { id, command, arguments: fields, to })
    }

    /// The answer to a command: `outcome` with its id, kept for whoever asks again.
    pub fn answer(&mut self, order: &Order, mut outcome: Map<String, Value>) -> Publish {
        outcome.insert("id".to_owned(), order.id.clone().into());
        let outcome = Value::Object(outcome);
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.id == order.id) {
            seen.answer = Some(outcome.clone());
        }
        publish(&order.to, &outcome)
    }

    fn has_room(&mut self, now: Now) -> bool {
        while self.recent.front().is_some_and(|at| now.mono_us.saturating_sub(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        let room = self.recent.len() < self.settings.per_minute as usize;
        if room {
            self.recent.push_back(now.mono_us);
        }
        room
    }

    /// A phone that comes back after an hour must not dial.
    fn is_fresh(&self, now: Now, at: Option<f64>) -> Result<(), Refusal> {
        if now.utc_us < CLOCK_WAS_SET {
            return Err((
                "clock_not_set",
                "the phone does not know what time it is",
                "wait until its clock is set",
            ));
        }
        let hint =
            "send the command again, with a new id and the seconds since 1970 at which it is sent as `at`";
        let Some(at) = at else {
            return Err(("bad_request", "the command does not say when it was sent", hint));
        };
        let (at, now_s) = (at * 1e6, now.utc_us as f64);
        if (now_s - at).abs() > self.settings.max_age.as_micros() as f64 {
            return Err(("expired", "the command is too old, or from the future", hint));
        }
        if at < self.begun_utc_us as f64 {
            return Err(("expired", "the command is older than this start of the phone", hint));
        }
        Ok(())
    }

    /// Where an answer is wanted. Nobody has the phone speak in its own name elsewhere in its tree.
    fn sender(&self, message: &Message) -> Sender {
        let correlation = message.properties.correlation.clone();
        let asked = message.properties.response_topic.clone().filter(|topic| {
            let usable = !topic.is_empty() && topic.len() <= 512 && !topic.starts_with('$');
            usable
                && !topic.contains(['+', '#'])
                && !topic.chars().any(char::is_control)
                && !self.topics.owns(topic)
        });
        Sender { topic: asked.unwrap_or_else(|| self.topics.response()), correlation }
    }
}

fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The line of signatures, if there is one, and the JSON.
fn split(payload: &[u8]) -> (&[u8], &[u8]) {
    match payload.iter().position(|byte| *byte == b'\n') {
        Some(end) if payload.starts_with(b"v1,") => {
            let (line, rest) = payload.split_at(end);
            (line, rest.get(1..).unwrap_or_default())
        }
        _ => (b"", payload),
    }
}

fn is_signed(key: &hmac::Key, signed: &[u8], line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').take(MOST_SIGNATURES).any(|signature| {
        let tag = signature.strip_prefix(b"v1,").and_then(|it| BASE64_STANDARD.decode(it.trim_ascii()).ok());
        tag.is_some_and(|tag| hmac::verify(key, signed, &tag).is_ok())
    })
}

fn refused(to: &Sender, id: Option<&str>, (code, message, hint): Refusal) -> Publish {
    publish(to, &json!({ "id": id, "error": { "code": code, "message": message, "hint": hint } }))
}

fn publish(to: &Sender, answer: &Value) -> Publish {
    let (topic, payload) = (to.topic.clone(), answer.to_string().into_bytes());
    Publish { topic, payload, retain: false, correlation: to.correlation.clone() }
}

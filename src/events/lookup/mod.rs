//! Who calls? How a system that knows is asked, and what its answers say.
//!
//! ```text
//!   phone ─ Question ─► driver in device/ ─ Inquiry::request ─► system
//!     ▲                      │
//!     └─ Answer | Failure ───┘  Inquiry::read, over what is bounded in size and time
//! ```
//!
//! A [`Question`] has an identity, and a moment until which its answer is of use; the phone goes on without it.
//!
//! Another kind of question is a word of [`LookupKind`] with the keys that only it has (`config/lookup.rs`), and
//!
//! * where it is a request of its own: a file here that implements [`Inquiry`], and a row of [`of`];
//! * where it needs what an upstream has – a connection that stays, a token that is renewed: [`Means::Upstream`] in [`of`],
//!   and an arm of `by_upstream` in `device/upstream/lookups.rs`, which has that upstream at hand. What comes back is read
//!   by an [`Inquiry`] all the same, or by hand with [`Answer::of`], which makes text from outside harmless.
//!
//! This is no place for what becomes of an answer: the phone alone decides whether a name is shown and a call sent on.

pub mod message;
pub mod rostelecom;
pub mod url;

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::upstream::dialect::Request;
use super::upstream::facts::shown;
use super::{CloudEvent, Leg};
use crate::config::{Config, LookupKind};
use crate::now::Now;
use rostelecom::NumberInfo;
use url::Screen;

/// Characters of a name.
const LONGEST_NAME: usize = 80;
/// Bytes of a number that a call may be sent on to.
const LONGEST_PIN: usize = 32;
/// Bytes of an answer that is read.
pub const LARGEST: usize = 64 << 10;

/// Who is at the other end of a call?
#[derive(Clone, PartialEq, Debug)]
pub struct Question {
    /// Unique everywhere, and nobody can guess it.
    pub id: Uuid,
    /// The call.
    pub call: String,
    /// Who calls whom.
    pub leg: Leg,
    /// When the call began, in microseconds since 1970 UTC.
    pub utc_us: i64,
    /// When an answer is of no use any more, by the monotonic clock in microseconds.
    pub deadline: u64,
}

impl Question {
    /// The question in the form of the event that tells of the call: what has words for that has words for this.
    pub fn event(&self) -> CloudEvent {
        CloudEvent {
            sequence: 0,
            id: self.id,
            utc_us: self.utc_us,
            kind: "call.new".to_owned(),
            subject: Some(self.call.clone()),
            data: serde_json::to_string(&self.leg).unwrap_or_default(),
        }
    }
}

/// What a system knows of somebody; all of it absent is "nothing".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// The name, on one line and short enough to be shown.
    pub name: Option<String>,
    /// The number of an extension that is to get the call; whether it is one is for the phone to say.
    pub pin: Option<String>,
}

impl Answer {
    /// An answer of these texts from outside.
    pub fn of(name: Option<&str>, pin: Option<&str>) -> Answer {
        let name = name.map(|name| shown(name, LONGEST_NAME)).filter(|name| !name.is_empty());
        let pin = pin.map(str::trim).filter(|pin| !pin.is_empty());
        let cut = |pin: &str| pin.get(..pin.floor_char_boundary(LONGEST_PIN)).unwrap_or_default().to_owned();
        Answer { name, pin: pin.map(cut) }
    }
}

/// Why there is no answer, and what to do about it. Neither has anything in it that came from outside.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}; {cure}")]
pub struct Failure {
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

impl Failure {
    /// A failure in these words.
    pub fn new(what: impl Into<String>, cure: impl Into<String>) -> Failure {
        Failure { what: what.into(), cure: cure.into() }
    }
}

/// The words of one kind of system.
pub trait Inquiry: Send + Sync {
    /// The request that asks.
    fn request(&self, question: &Question, now: Now) -> Request;

    /// What the body of an answer says.
    ///
    /// # Errors
    /// It is none that this kind of system gives.
    fn read(&self, body: &[u8]) -> Result<Answer, Failure>;

    /// Whether the system says with this status that it knows nobody of this number.
    fn knows_nobody(&self, status: u16) -> bool {
        status == 204
    }
}

/// How the system of the settings is asked.
#[derive(Clone)]
pub enum Means {
    /// By a request of its own, at the URL of [`Lookup::as_upstream`](crate::config::Lookup::as_upstream).
    Request(Arc<dyn Inquiry>),
    /// Through the upstream of this name.
    Upstream(String),
}

/// How the system is asked that the configuration names, if it names one.
pub fn of(config: &Config) -> Option<Means> {
    let lookup = &config.lookup;
    match lookup.kind {
        LookupKind::Off => None,
        LookupKind::Url => Some(Means::Request(Arc::new(Screen::new(config)))),
        LookupKind::Rostelecom => Some(Means::Request(Arc::new(NumberInfo::new(lookup)))),
        LookupKind::Mqtt | LookupKind::Bitrix24 => lookup.upstream.clone().map(Means::Upstream),
    }
}

/// What a system has answered.
///
/// # Errors
/// It has refused, or what it says is no answer. A redirection is not followed: it would lead to where nobody has sent us.
pub fn understood(inquiry: &dyn Inquiry, status: u16, body: &[u8]) -> Result<Answer, Failure> {
    match status {
        status if inquiry.knows_nobody(status) => Ok(Answer::default()),
        200..=299 => inquiry.read(body),
        300..=399 => Err(Failure::new(
            format!("the system that is asked who calls answers {status}: it is elsewhere"),
            "write the URL in [lookup] to which it redirects",
        )),
        _ => Err(Failure::new(
            format!("the system that is asked who calls answers {status}"),
            "check url and the keys in [lookup], and look into its log",
        )),
    }
}

/// A text, or a number as a text; nothing else is either.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_one_short_line() {
        let answer = |name: &str| Answer::of(Some(name), None).name;
        assert_eq!(answer(" Anna\r\nX-Evil: 1 ").as_deref(), Some("Anna  X-Evil: 1"));
        assert_eq!(answer("\u{202e}\u{0}").as_deref(), None);
        assert_eq!(answer(&"é".repeat(10_000)).map(|it| it.chars().count()), Some(LONGEST_NAME + 1));
        assert_eq!(Answer::of(None, Some(" 607 ")).pin.as_deref(), Some("607"));
        assert_eq!(Answer::of(None, Some("  ")).pin, None);
        assert!(Answer::of(None, Some(&"é".repeat(100))).pin.is_some_and(|it| it.len() <= LONGEST_PIN));
    }
}

//! Telephone numbers: as they were dialled, and in E.164 where that is certain.

use serde::{Deserialize, Serialize};

use crate::config::spelling;

/// How many last digits two spellings of a telephone number must share to be compared at all.
const SUBSCRIBER_DIGITS: usize = 7;

/// What stands before a national number, or nothing: the difference between two spellings of one number.
const TRUNK: [&str; 3] = ["", "0", "8"];

/// A number or a user name that was dialled or shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Number {
    /// Exactly as dialled or received.
    pub dialled: String,
    /// `+` and 7 to 15 digits; absent where the text does not say for certain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub e164: Option<String>,
}

impl Number {
    /// The number that `dialled` says. Only a text with a leading `+` is certain enough for [`Number::e164`]: what a
    /// national prefix means depends on the line.
    pub fn new(dialled: impl Into<String>) -> Number {
        let dialled = dialled.into();
        let e164 = global(&dialled);
        Number { dialled, e164 }
    }

    /// What an index holds: the last seven digits of a telephone number, all of a shorter one, and a name in lower case.
    /// Numbers that are the same have the same key; [`Number::same_as`] says whether the reverse holds.
    pub fn key(&self) -> String {
        key(&self.dialled)
    }

    /// All that an index holds of it: a rule may have made another number of what was dialled.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let of_e164 = self.e164.as_deref().map(key).filter(|it| *it != self.key());
        std::iter::once(self.key()).chain(of_e164)
    }

    fn spellings(&self) -> impl Iterator<Item = String> {
        [Some(&self.dialled), self.e164.as_ref()].into_iter().flatten().map(|text| spelled(text))
    }

    /// Whether two spellings mean the same subscriber, as far as can be told without a number plan: `+7 495 445-11-20`,
    /// `84954451120` and `4954451120` do.
    pub fn same_as(&self, other: &Number) -> bool {
        if let (Some(a), Some(b)) = (&self.e164, &other.e164) {
            return a == b;
        }
        self.spellings().any(|a| other.spellings().any(|b| same_subscriber(&a, &b)))
    }
}

fn key(text: &str) -> String {
    let spelled = spelled(text);
    if is_digits(&spelled) {
        return spelled[spelled.len().saturating_sub(SUBSCRIBER_DIGITS)..].to_owned();
    }
    spelled
}

/// Whether two numbers without separators are the same but for what stands before the national one.
fn same_subscriber(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let shared = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    if shared < SUBSCRIBER_DIGITS || !is_digits(a) || !is_digits(b) {
        return false;
    }
    TRUNK.contains(&&a[..a.len() - shared]) || TRUNK.contains(&&b[..b.len() - shared])
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A telephone number without its plus and separators; anything else in lower case.
fn spelled(text: &str) -> String {
    let text = text.trim();
    let body = text.strip_prefix('+').unwrap_or(text);
    let digits: String = spelling::spelled(body);
    if is_digits(&digits) { digits } else { text.to_lowercase() }
}

/// The E.164 form of a text with a leading `+`.
fn global(text: &str) -> Option<String> {
    let digits = text.trim().strip_prefix('+')?;
    let mut e164 = String::from("+");
    for character in digits.chars() {
        match character {
            '0'..='9' => e164.push(character),
            other if spelling::is_separator(other) => {}
            _ => return None,
        }
        if e164.len() > 16 {
            return None;
        }
    }
    (e164.len() >= 8 && !e164.starts_with("+0")).then_some(e164)
}

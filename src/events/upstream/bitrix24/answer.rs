//! What a portal and its sign-in server answer, and what that means: an error is a word in the body, whatever the status is.

use serde_json::Value;

use crate::events::upstream::facts::shown;
use crate::events::upstream::outcome::{Outcome, Verdict};
use crate::events::upstream::turn::Heard;

/// Bytes of an answer that are read.
pub const LONGEST: usize = 64 << 10;
/// Bytes of a text in it that is kept.
const LONGEST_TEXT: usize = 2048;
/// Characters of a word or a sentence of it that people are shown.
const SHOWN: usize = 160;

/// What was answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It did what it was asked for.
    Result(Value),
    /// It says why it does not.
    Error {
        /// The word for it, which may be empty.
        code: String,
        /// The sentence.
        text: String,
        /// The status.
        status: u16,
    },
    /// There is no answer, or none of Bitrix24's.
    None,
}

impl Answer {
    /// What an outcome says.
    pub fn of(outcome: &Outcome) -> Answer {
        let Outcome::Answered { status, said, .. } = outcome else { return Answer::None };
        let Ok(Value::Object(mut said)) = serde_json::from_slice::<Value>(said) else { return Answer::None };
        let text = |value: Option<&Value>| shown(value.and_then(Value::as_str).unwrap_or_default(), SHOWN);
        if let Some(error) = said.get("error") {
            let code = text(Some(error));
            return Answer::Error { code, text: text(said.get("error_description")), status: *status };
        }
        match said.remove("result") {
            Some(result) if (200..300).contains(status) => Answer::Result(result),
            // The sign-in server has everything at the top.
            None if (200..300).contains(status) && said.contains_key("access_token") => {
                Answer::Result(Value::Object(said))
            }
            _ => Answer::None,
        }
    }

    /// Whether the portal does not believe the access token any more.
    pub fn is_expired(&self) -> bool {
        matches!(self, Answer::Error { code, .. } if EXPIRED.contains(&code.as_str()))
    }

    /// Whether it does not know the call that it is asked about.
    pub fn is_unknown_call(&self) -> bool {
        matches!(self, Answer::Error { text, .. } if text.starts_with("Call is not found"))
    }
}

/// What is said of an access token whose time is over, or that is none of the portal's.
const EXPIRED: &[&str] = &["expired_token", "invalid_token", "NO_AUTH_FOUND"];

/// Words after which nothing helps but that somebody changes something: what is the matter, and what to do.
const LOCKED: &[(&str, &str, &str)] = &[
    (
        "invalid_grant",
        "the refresh token is not taken: it was used elsewhere, is too old, or the power went while it was renewed",
        "have the portal's application give a new one, put it into refresh_token_file, and reload",
    ),
    (
        "invalid_client",
        "the sign-in server does not know the application",
        "check client_id and client_secret, and that the application is installed in the portal",
    ),
    (
        "WRONG_AUTH_TYPE",
        "the portal takes calls from applications alone",
        "take client_id, client_secret and refresh_token from an application of the portal; a webhook is none",
    ),
    (
        "insufficient_scope",
        "the application may do nothing with telephony",
        "give it the permission telephony, and install it again",
    ),
    (
        "invalid_scope",
        "the application may do nothing with telephony",
        "give it the permission telephony, and install it again",
    ),
    (
        "ERROR_METHOD_NOT_FOUND",
        "the portal does not know the methods of telephony for this application",
        "give it the permission telephony, and install it again; check url",
    ),
    (
        "user_access_error",
        "the user who installed the application may not use it",
        "ask the portal's administrator to let the user in",
    ),
    ("PAYMENT_REQUIRED", "the portal or the application is not paid for", "ask the portal's administrator"),
    (
        "ACCESS_DENIED",
        "the portal's plan has no REST API",
        "ask the portal's administrator for a plan that has it",
    ),
    ("OVERLOAD_LIMIT", "Bitrix24 has locked the portal's REST API", "ask Bitrix24's support to unlock it"),
    ("INVALID_REQUEST", "the portal takes HTTPS alone", "write https:// in url"),
    ("PORTAL_DELETED", "the portal is closed", "ask the portal's administrator to open it"),
];

/// What it means that this was answered, where nothing else was made of it.
pub fn refusal(answer: &Answer, outcome: &Outcome) -> Heard {
    let verdict = outcome.verdict();
    let (code, text, status) = match answer {
        Answer::Error { code, text, status } => (code, text, *status),
        // It is there, but it is not what it should be.
        _ if verdict == Verdict::Taken || verdict == Verdict::Gone => {
            let what = "what it answers is no answer of Bitrix24's";
            return Heard::trouble(Verdict::Unavailable, what, "check url: the portal's own, https://HOST");
        }
        _ => return Heard::over(verdict),
    };
    // The same word from a method, with another status, is about one call.
    let of_all = |code: &str| code != "ACCESS_DENIED" || status == 401;
    if let Some((_, what, cure)) = LOCKED.iter().find(|(it, ..)| it == code && of_all(it)) {
        return Heard::trouble(Verdict::Locked, format!("{what} ({code})"), *cure);
    }
    if code == "QUERY_LIMIT_EXCEEDED" || code == "OPERATION_TIME_LIMIT" {
        let what = format!("the portal has had enough requests for now ({code})");
        return Heard::trouble(Verdict::Unavailable, what, "nothing: it is told later");
    }
    let what = match (code.is_empty(), text.is_empty()) {
        (false, false) => format!("it says: {text} ({code})"),
        (true, false) => format!("it says: {text}"),
        (false, true) => format!("it says {code}"),
        (true, true) => format!("it answers {status} with an error that has no name"),
    };
    let verdict = match status {
        // A token that it never believed: the portal is not in step with its sign-in server.
        401 if answer.is_expired() => Verdict::Unavailable,
        401 => Verdict::Locked,
        400..=499 if verdict != Verdict::Gone => verdict,
        // An error is none less for a status that says otherwise.
        200..=299 => Verdict::Refused,
        _ => Verdict::Unavailable,
    };
    Heard::trouble(verdict, what, "check users, and what the portal's administrator sees of it")
}

/// A text or a number as a text, as far as it is one that can be kept and written again.
pub fn word(value: &Value) -> Option<String> {
    let word = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits = (1..=LONGEST_TEXT).contains(&word.len()) && word.bytes().all(|it| it.is_ascii_graphic());
    fits.then_some(word)
}

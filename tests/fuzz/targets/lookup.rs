//! What systems answer that are asked who calls: whatever it is, a name is one short line and a number a short text.

use super::Target;
use serde_json::{Map, Value};
use tipring::config::Config;
use tipring::events::lookup::{self, Answer, Means, message, understood};
use tipring::events::upstream::bitrix24;
use tipring::events::upstream::outcome::Outcome;

pub const TARGETS: &[Target] = &[
    Target { name: "lookup_answer", run: answer, seeds: ANSWERS, dictionary: WORDS },
    Target { name: "lookup_command", run: command, seeds: COMMANDS, dictionary: WORDS },
];

const ROSTELECOM: &str = "[lookup]\nkind = \"rostelecom\"\nurl = \"https://h.example/\"\n[lookup.rostelecom]\n\
                          client_id = \"A\"\nkey = \"B\"\n";
const URL: &str =
    "[lookup]\nkind = \"url\"\nurl = \"https://h.example\"\npath = \"/\"\nname_field = \"a.name\"\n";

fn is_harmless(answer: &Answer) {
    if let Some(name) = &answer.name {
        assert!(
            !name.is_empty() && name.chars().count() <= 81 && !name.chars().any(char::is_control),
            "{name:?}"
        );
        assert!(!name.contains(['\u{202e}', '\u{2066}', '\u{2028}']), "{name:?}");
    }
    assert!(answer.pin.as_ref().is_none_or(|pin| (1..=32).contains(&pin.len())), "{answer:?}");
}

/// Any bytes, as the body of an answer to each kind of question that is a request of its own.
fn answer(octets: &[u8]) {
    for text in [ROSTELECOM, URL] {
        let config = Config::parse(text, "t.toml").expect("a configuration");
        let Some(Means::Request(inquiry)) = lookup::of(&config) else { panic!("a request") };
        for status in [200, 204, 302, 404, 500] {
            match understood(&*inquiry, status, octets) {
                Ok(answer) => is_harmless(&answer),
                // Whatever came is in no log line.
                Err(failure) => assert!(failure.to_string().len() < 200, "{failure}"),
            }
        }
    }
    let outcome = Outcome::Answered { status: 200, retry_after: None, said: octets.to_vec() };
    match bitrix24::found(&outcome) {
        Ok(answer) => is_harmless(&answer),
        Err(failure) => assert!(!failure.to_string().contains(char::is_control), "{failure}"),
    }
}

/// The arguments of a command that is an answer.
fn command(octets: &[u8]) {
    let Ok(arguments) = serde_json::from_slice::<Map<String, Value>>(octets) else { return };
    if let Ok((_, answer)) = message::answer(&arguments) {
        is_harmless(&answer);
    }
}

const ANSWERS: &[&[u8]] = &[
    br#"{"result":0,"resultMessage":"","displayName":"Anna +1 234-56-78-90","PIN":"703"}"#,
    br#"{"result":"0","displayName":17,"PIN":703}"#,
    br#"{"a":{"name":"Anna"},"pin":"7"}"#,
    br#"{"result":[{"NAME":"Anna","ASSIGNED_BY":{"USER_PHONE_INNER":"703"}}]}"#,
    br#"{"error":"insufficient_scope","error_description":"no"}"#,
    "Анна & Co".as_bytes(),
    b"\"Anna\"",
    b"null",
    b"<html>",
];
const COMMANDS: &[&[u8]] = &[
    br#"{"question":"01999f3e-7000-7000-8000-000000000001","name":"Anna","pin":"703"}"#,
    br#"{"question":7,"name":{},"pin":[]}"#,
];
const WORDS: &[&[u8]] = &[
    b"\"result\"",
    b"\"displayName\"",
    b"\"PIN\"",
    b"\"NAME\"",
    b"\"ASSIGNED_BY\"",
    b"\"USER_PHONE_INNER\"",
    b"\"error\"",
    b"\"name\"",
    b"\"question\"",
    b"\\u202e",
    b"\\u0000",
    b"\\r\\n",
    b"0",
    b"-20",
    b"null",
];

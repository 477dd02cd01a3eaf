//! Which events an upstream is told, and what is left out of them.

use serde_json::{Map, Value};

use crate::config::spelling::is_separator;
use crate::config::{self, Condition, Redaction};
use crate::events::CloudEvent;
use crate::events::catalogue::TYPES;
use crate::events::leg::Direction;

/// Digits of a number that are left at its end.
const LEFT: usize = 3;
/// Digits from which on any number in a text may be somebody's.
const LONG: usize = 5;
/// Keys under which the catalogue writes addresses, in which a number may be.
const ADDRESSES: [&str; 3] = ["uri", "contact", "sip_call_id"];

/// Keys under which the catalogue writes who somebody is.
const PARTIES: [&str; 5] = ["caller", "called", "connected", "target", "by"];

/// What the settings of an upstream say about events.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Filter {
    lines: Vec<String>,
    events: Vec<String>,
    conditions: Vec<Condition>,
    numbers: bool,
    names: bool,
    digits: bool,
}

impl Filter {
    /// The filter of these settings.
    pub fn of(settings: &config::Upstream) -> Filter {
        Filter {
            lines: settings.lines.clone(),
            events: settings.events.clone(),
            conditions: settings.filter.clone(),
            numbers: settings.redact.contains(&Redaction::Numbers),
            names: settings.redact.contains(&Redaction::Names),
            digits: settings.digits,
        }
    }

    /// The event as the upstream may see it; `None` if it is none of its business.
    pub fn pass(&self, mut event: CloudEvent) -> Option<CloudEvent> {
        // Whoever does not learn of a hole believes to know everything.
        if event.kind == "gap" {
            return Some(event);
        }
        if !wanted(&self.events, &event.kind) {
            return None;
        }
        let all_calls = self.lines.is_empty() && self.conditions.is_empty();
        if all_calls && !self.numbers && !self.names && event.kind != "call.dtmf" {
            return Some(event);
        }
        // What can't be read can't be redacted either.
        let mut data: Map<String, Value> = serde_json::from_str(&event.data).ok()?;
        let line = data.get("line").and_then(Value::as_str);
        if line.is_some_and(|line| !self.lines.is_empty() && !self.lines.iter().any(|it| it == line)) {
            return None;
        }
        if !self.conditions.is_empty() && !self.fulfils(&data) {
            return None;
        }
        if event.kind == "call.dtmf" && !self.digits {
            data.remove("digits");
        }
        let mut numbers = Vec::new();
        if self.numbers {
            data.values().for_each(|value| collect(value, &mut numbers));
            // The longer one first: the other may be a part of it.
            numbers.sort_by_key(|number| std::cmp::Reverse(number.len()));
        }
        self.redact(&mut data, &numbers);
        event.data = Value::Object(data).to_string();
        Some(event)
    }

    /// Whether what an event says is of a leg, or a call, that fulfils the conditions; so does what is of none.
    fn fulfils(&self, data: &Map<String, Value>) -> bool {
        let incoming = match data.get("direction").and_then(Value::as_str) {
            Some(direction) => direction == Direction::In.as_str(),
            None => return true,
        };
        let far = data.get(if incoming { "caller" } else { "called" });
        let spelling = |key: &str| far.and_then(|far| far.get(key)).and_then(Value::as_str);
        let numbers: Vec<&str> = ["dialled", "e164"].into_iter().filter_map(spelling).collect();
        self.conditions.iter().all(|condition| condition.holds(incoming, &numbers))
    }

    /// Takes out of this, and of all in it, what is not to be told. `numbers` are those of the event.
    fn redact(&self, data: &mut Map<String, Value>, numbers: &[String]) {
        if let (true, Some(Value::String(number))) = (self.numbers, data.get_mut("dialled")) {
            *number = masked(number);
        }
        if self.numbers {
            data.remove("e164");
            ADDRESSES.iter().for_each(|key| drop(data.remove(*key)));
            if let Some(Value::String(text)) = data.get_mut("text") {
                *text = without_numbers(text, numbers);
            }
        }
        for (key, value) in data {
            match value {
                Value::Object(inner) => {
                    if self.names && PARTIES.contains(&key.as_str()) {
                        inner.remove("name");
                    }
                    self.redact(inner, numbers);
                }
                Value::Array(all) => {
                    all.iter_mut()
                        .filter_map(Value::as_object_mut)
                        .for_each(|inner| self.redact(inner, numbers));
                }
                _ => {}
            }
        }
    }
}

/// Whether a type is among the patterns: a name, a beginning with `*` behind it; a `!` before it takes out again.
pub(super) fn wanted(patterns: &[String], kind: &str) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => kind == pattern,
    };
    patterns.iter().fold(false, |wanted, pattern| match pattern.strip_prefix('!') {
        Some(pattern) => wanted && !fits(pattern),
        None => wanted || fits(pattern),
    })
}

/// The patterns that no event of this version has ever anything to do with.
pub fn useless(settings: &config::Upstream) -> impl Iterator<Item = &str> {
    let fits = |pattern: &&str| !TYPES.iter().any(|kind| wanted(&[(*pattern).to_owned()], kind));
    settings.events.iter().map(|pattern| pattern.trim_start_matches('!')).filter(fits)
}

/// The numbers that an event names.
fn collect(value: &Value, numbers: &mut Vec<String>) {
    match value {
        Value::Object(inner) => {
            let named = ["dialled", "e164"].into_iter().filter_map(|key| inner.get(key)?.as_str());
            numbers.extend(named.filter(|number| !number.is_empty()).map(str::to_owned));
            inner.values().for_each(|value| collect(value, numbers));
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, numbers)),
        _ => {}
    }
}

/// A text for people without the numbers of its event, however short, and without all that is as long as a number: it may be
/// spelled in another way.
fn without_numbers(text: &str, numbers: &[String]) -> String {
    let known = numbers.iter().fold(text.to_owned(), |text, number| without(&text, number));
    let (mut left, mut rest) = (String::new(), known.as_str());
    let begins = |c: char| c.is_ascii_digit() || c == '+';
    while let Some((before, from)) = rest.find(begins).map(|at| rest.split_at(at)) {
        let end = from.find(|c| !begins(c) && !is_separator(c)).unwrap_or(from.len());
        let run = from.split_at(end).0.trim_end_matches(is_separator);
        let long = run.chars().filter(char::is_ascii_digit).count() >= LONG;
        left.push_str(before);
        left.push_str(&if long { masked(run) } else { run.to_owned() });
        rest = from.split_at(run.len()).1;
    }
    left + rest
}

/// The text without this number, where it stands alone.
fn without(text: &str, number: &str) -> String {
    let ends = |next: Option<char>| next.is_none_or(|c| !c.is_alphanumeric());
    let (mut left, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(number) {
        left.push_str(before);
        let alone = ends(left.chars().next_back()) && ends(after.chars().next());
        left.push_str(&if alone { masked(number) } else { number.to_owned() });
        rest = after;
    }
    left + rest
}

/// A number of which only the end is left, whatever stands between its digits: `***456`. What is not much longer than that
/// end is an extension and hidden whole.
fn masked(number: &str) -> String {
    let digits = || number.chars().filter(|it| it.is_alphanumeric());
    let count = digits().count();
    let end = digits().skip(count.saturating_sub(if count > 2 * LEFT { LEFT } else { 0 }));
    format!("***{}", end.collect::<String>())
}

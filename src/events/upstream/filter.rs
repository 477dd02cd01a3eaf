//! Which events an upstream is told, and what is left out of them.

use serde_json::{Map, Value};

use crate::config::{self, Condition, Redaction};
use crate::events::CloudEvent;
use crate::events::catalogue::TYPES;
use crate::events::leg::Direction;

/// Digits of a number that are left at its end.
const LEFT: usize = 3;
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
        self.redact(&mut data);
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

    fn redact(&self, data: &mut Map<String, Value>) {
        if let (true, Some(Value::String(number))) = (self.numbers, data.get_mut("dialled")) {
            *number = masked(number);
        }
        if self.numbers {
            data.remove("e164");
            ADDRESSES.iter().for_each(|key| drop(data.remove(*key)));
        }
        for (key, value) in data {
            match value {
                Value::Object(inner) => {
                    if self.names && PARTIES.contains(&key.as_str()) {
                        inner.remove("name");
                    }
                    self.redact(inner);
                }
                Value::Array(all) => {
                    all.iter_mut().filter_map(Value::as_object_mut).for_each(|inner| self.redact(inner));
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

/// A number of which only the end is left, whatever stands between its digits: `***456`. What is not much longer than that
/// end is an extension and hidden whole.
fn masked(number: &str) -> String {
    let digits = || number.chars().filter(|it| it.is_alphanumeric());
    let count = digits().count();
    let end = digits().skip(count.saturating_sub(if count > 2 * LEFT { LEFT } else { 0 }));
    format!("***{}", end.collect::<String>())
}

//! What is remembered of each leg: by what name the portal knows it, and how far its story was told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::events::upstream::turn::{Note, Notes};

/// What the names of its notes begin with.
const PREFIX: &str = "leg/";
/// Legs that are remembered. It is more than can be told a second time after a power cut, a page of events, so that of those
/// none is registered a second time.
const MOST: usize = 256;

/// Where a file is to be sent to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Path and query.
    pub target: String,
    /// The name of the field.
    pub field: String,
}

/// What is known of a leg.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Leg {
    /// CALL_ID.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call: Option<String>,
    /// When it was heard of first, in microseconds since 1970 UTC.
    #[serde(default)]
    pub since: i64,
    /// `finish` was taken, or nothing is to be finished.
    #[serde(default)]
    pub finished: bool,
    /// A recording that is complete and is to be attached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recording: Option<String>,
    /// It was registered in this life.
    #[serde(skip)]
    pub fresh: bool,
    /// Nobody knows whether a `finish` was taken.
    #[serde(skip)]
    pub unsure: bool,
    /// It was registered again, because the portal had forgotten it.
    #[serde(skip)]
    pub again: bool,
    /// Its card was opened for others, too.
    #[serde(skip)]
    pub shown: bool,
    /// Where its recording goes.
    #[serde(skip)]
    pub upload: Option<Upload>,
}

/// All legs that are remembered, by their ids.
#[derive(Debug, Default)]
pub struct Legs(BTreeMap<String, Leg>);

impl Legs {
    /// What an earlier life remembered. What can't be read is forgotten.
    pub fn recall(&mut self, notes: &Notes) {
        let read = |(key, value): (&String, &String)| {
            Some((key.strip_prefix(PREFIX)?.to_owned(), serde_json::from_str(value).ok()?))
        };
        self.0 = crate::order::gathered(notes.iter().filter_map(read));
    }

    /// What is known of a leg; nothing of one that is new.
    pub fn get(&self, leg: &str) -> Leg {
        self.0.get(leg).cloned().unwrap_or_default()
    }

    /// Changes what is known of a leg, and says what is to be remembered and forgotten.
    pub fn change(&mut self, leg: &str, utc_us: i64, change: impl FnOnce(&mut Leg)) -> Vec<Note> {
        let new = || Leg { since: utc_us, ..Leg::default() };
        let known = self.0.entry(leg.to_owned()).or_insert_with(new);
        change(known);
        let mut notes = vec![note(leg, serde_json::to_string(known).ok())];
        while self.0.len() > MOST {
            // One that is told to its end is missed least, and of these the oldest.
            let others = self.0.iter().filter(|(id, _)| *id != leg);
            let oldest = others.min_by_key(|(_, leg)| (!leg.finished, leg.since)).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { break };
            self.0.remove(&oldest);
            notes.push(note(&oldest, None));
        }
        notes
    }
}

fn note(leg: &str, value: Option<String>) -> Note {
    Note { key: format!("{PREFIX}{leg}"), value }
}

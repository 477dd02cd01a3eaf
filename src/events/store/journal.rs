//! The journal: one row per leg, searched by number, time, direction and result.

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Store, StoreError, natural, whole};
use crate::events::cause::{CallResult, Cause};
use crate::events::leg::{Direction, Leg, Quality};
use crate::events::number::Number;

/// Rows in one page at most.
const LARGEST_PAGE: u32 = 1000;
/// Legs of a number that are looked at for its last calls.
const MOST_RECALLED: u32 = 16;

/// One leg in the journal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The call that the leg belongs to.
    pub call_id: String,
    /// Who called whom over which line.
    #[serde(flatten)]
    pub leg: Leg,
    /// When it began, in microseconds since 1970 UTC.
    pub started_utc_us: i64,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_utc_us: Option<i64>,
    /// When it ended; absent while it goes on, and for a leg that a power cut ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_utc_us: Option<i64>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<CallResult>,
    /// Why, and who ended it.
    #[serde(default)]
    pub cause: Cause,
    /// From its beginning to its end.
    #[serde(default)]
    pub total_us: u64,
    /// From its beginning to the answer or the end.
    #[serde(default)]
    pub ring_us: u64,
    /// From the answer to the end, or to the moment when the far end was asked how it was.
    #[serde(default)]
    pub talk_us: u64,
    /// The part of `talk_us` that was on hold.
    #[serde(default)]
    pub hold_us: u64,
    /// How the audio was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quality: Option<Quality>,
    /// Its recording.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recording_id: Option<String>,
    /// What the far end said of it, 1 (bad) to 5.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vote: Option<u8>,
    /// To whom this device gave the far end: transferred, or sent on before it was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transferred_to: Option<Number>,
}

/// A question about a number: its last calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recall {
    /// Names the question.
    pub id: Uuid,
    /// The number, which was the far end's.
    pub number: Number,
    /// Legs that began at this time or later count, in microseconds since 1970 UTC.
    pub since_utc_us: i64,
}

impl Entry {
    /// A leg that has just begun, of which nothing more is known.
    pub fn begun(call_id: &str, leg: Leg, started_utc_us: i64) -> Entry {
        Entry {
            call_id: call_id.to_owned(),
            leg,
            started_utc_us,
            answered_utc_us: None,
            ended_utc_us: None,
            result: None,
            cause: Cause::default(),
            total_us: 0,
            ring_us: 0,
            talk_us: 0,
            hold_us: 0,
            quality: None,
            recording_id: None,
            vote: None,
            transferred_to: None,
        }
    }

    /// All numbers that took part.
    fn numbers(&self) -> impl Iterator<Item = &Number> {
        let leg = &self.leg;
        let others = leg.connected.iter().chain(leg.diverted.iter().map(|diverted| &diverted.by));
        let others = others.map(|party| &party.number);
        let named = [&leg.caller.number, &leg.called.number, &leg.did, &self.transferred_to];
        named.into_iter().chain(others).flatten()
    }

    /// Whether a number took part, on either side and in any spelling.
    pub fn involves(&self, number: &Number) -> bool {
        self.numbers().any(|other| other.same_as(number))
    }
}

/// What to look for; everything that is absent matches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// Legs that began at this time or later, in microseconds since 1970 UTC.
    pub since_utc_us: Option<i64>,
    /// Legs that began before this time.
    pub until_utc_us: Option<i64>,
    /// A number of either side, in any spelling.
    pub number: Option<String>,
    /// Seen from this device.
    pub direction: Option<Direction>,
    /// What became of it.
    pub result: Option<CallResult>,
    /// The name of the line.
    pub line: Option<String>,
    /// [`JournalPage::next`] of the page before.
    pub cursor: Option<u64>,
    /// Rows wanted, 1 to 1000.
    pub limit: u32,
}

/// A part of the journal, the newest first.
#[derive(Clone, PartialEq, Debug)]
pub struct JournalPage {
    /// The legs.
    pub entries: Vec<Entry>,
    /// For each leg the cursor that goes on after it.
    pub rows: Vec<u64>,
    /// Where the next page begins; `None` at the end. Calls that come in between change nothing about it.
    pub next: Option<u64>,
}

pub(super) fn put(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), StoreError> {
    let body = serde_json::to_string(entry).map_err(|error| StoreError::Ours(error.to_string()))?;
    let row: i64 = transaction
        .prepare_cached(
            "INSERT INTO call (leg_id, call_id, line, direction, started_us, result, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (leg_id) DO UPDATE SET result = excluded.result, body = excluded.body
             RETURNING entry",
        )?
        .query_row(
            params![
                entry.leg.leg_id,
                entry.call_id,
                entry.leg.line,
                entry.leg.direction.as_str(),
                entry.started_utc_us,
                entry.result.map(CallResult::as_str),
                body
            ],
            |row| row.get(0),
        )?;
    index(transaction, row, entry)
}

/// Has a row be found by each of its numbers.
fn index(transaction: &Transaction<'_>, row: i64, entry: &Entry) -> Result<(), StoreError> {
    for key in entry.numbers().flat_map(Number::keys) {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO party (key, entry) VALUES (?1, ?2)")?
            .execute(params![key, row])?;
    }
    Ok(())
}

/// Has all rows be found by what this version looks for.
pub(super) fn index_anew(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut statement = transaction.prepare("SELECT entry, body FROM call")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        // What can't be read is found by what an older version knew of it.
        if let Ok(entry) = entry(body) {
            index(transaction, row.get(0)?, &entry)?;
        }
    }
    Ok(())
}

impl Store {
    /// Searches the journal, the newest legs first.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn journal(&self, query: &Query) -> Result<JournalPage, StoreError> {
        let limit = query.limit.clamp(1, LARGEST_PAGE) as usize;
        let number = query.number.as_deref().map(Number::new);
        // One statement per shape, so that each has its index: by number, or all in order.
        let from = if query.number.is_some() {
            "party CROSS JOIN call ON call.entry = party.entry WHERE party.key = ?1 AND party.entry < ?2"
        } else {
            "call WHERE ?1 IS NULL AND call.entry < ?2"
        };
        let order = if query.number.is_some() { "party.entry" } else { "call.entry" };
        let sql = format!(
            "SELECT call.entry, call.body FROM {from}
             AND (?3 IS NULL OR call.started_us >= ?3) AND (?4 IS NULL OR call.direction = ?4)
             AND (?5 IS NULL OR call.result = ?5) AND (?6 IS NULL OR call.line = ?6)
             AND (?7 IS NULL OR call.started_us < ?7)
             ORDER BY {order} DESC"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map(
            params![
                number.as_ref().map(Number::key),
                query.cursor.map_or(i64::MAX, whole),
                query.since_utc_us,
                query.direction.map(Direction::as_str),
                query.result.map(CallResult::as_str),
                query.line,
                query.until_utc_us
            ],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )?;
        // Rows are read one by one: several numbers may share a key.
        let (mut entries, mut rows): (Vec<Entry>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut next = None;
        for row in found {
            let (row, body) = row?;
            let entry = entry(&body)?;
            if number.as_ref().is_some_and(|number| !entry.involves(number)) {
                continue;
            }
            if entries.len() == limit {
                next = rows.last().copied();
                break;
            }
            rows.push(natural(row));
            entries.push(entry);
        }
        Ok(JournalPage { entries, rows, next })
    }

    /// The last calls of a number, the newest first, each with its legs in the order in which they began.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn recall(&self, recall: &Recall) -> Result<Vec<Vec<Entry>>, StoreError> {
        let number = recall.number.e164.clone().unwrap_or_else(|| recall.number.dialled.clone());
        // Not by time: all legs of a number that calls a lot would be looked through for the few that are new enough.
        let page = self.journal(&Query { number: Some(number), limit: MOST_RECALLED, ..Query::default() })?;
        let mut calls: Vec<Vec<Entry>> = Vec::new();
        for entry in page.entries.into_iter().filter(|it| it.started_utc_us >= recall.since_utc_us) {
            if !calls.iter().flatten().any(|known| known.call_id == entry.call_id) {
                calls.push(self.call(&entry.call_id)?);
            }
        }
        Ok(calls)
    }

    /// The legs of one call in the order in which they began.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn call(&self, call_id: &str) -> Result<Vec<Entry>, StoreError> {
        self.entries("SELECT body FROM call WHERE call_id = ?1 ORDER BY entry LIMIT 1000", [call_id])
    }

    /// Legs that have no end: a power cut or a kill ended them. Asked for at the start of the program.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn interrupted(&self) -> Result<Vec<Entry>, StoreError> {
        self.entries("SELECT body FROM call WHERE result IS NULL ORDER BY entry LIMIT 1000", [])
    }

    fn entries(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Entry>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| row.get::<_, String>(0))?;
        let mut entries = Vec::new();
        for body in rows {
            entries.push(entry(&body?)?);
        }
        Ok(entries)
    }
}

pub(super) fn entry(body: &str) -> Result<Entry, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt(format!("a row of the journal: {error}")))
}

//! What goes: by age, by size, and because somebody asked for it.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Deserialize;
use serde_json::Value;

use super::{Store, StoreError, journal, natural, upstream, whole};
use crate::events::number::Number;
use crate::now::CLOCK_WAS_SET;

/// Pages that are given back to the disk at a time.
const PAGES_AT_ONCE: u32 = 1000;

/// Rows of a table that one [`Store::prune`] drops at most, or a few more: whoever waits for the store waits for that.
const SLICE: u64 = 500;

/// Pages that are given back after a slice: more than it frees.
const PAGES_OF_A_SLICE: u32 = 500;

/// What [`Store::prune`] dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Legs of the journal.
    pub calls: u64,
    /// Whether there is more to drop: ask again soon.
    pub more: bool,
}

/// Whose data is to be erased.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Erase {
    /// All of one call.
    Call(String),
    /// All calls with a number on either side, in any spelling.
    Number(String),
}

/// What [`Store::erase`] erased.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Erased {
    /// Legs of the journal.
    pub calls: u64,
    /// Events.
    pub events: u64,
    /// The recordings that those legs named: their files are the caller's to delete.
    pub recordings: Vec<String>,
    /// The calls. One that was recorded several times has more recordings than its legs name.
    pub ids: Vec<String>,
    /// Why old copies may still be on the disk, if they may: to erase the same again overwrites them.
    pub old_copies: Option<String>,
}

/// Whom [`Store::erase`] would erase, and what is to be deleted before: no row names it afterwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Concerned {
    /// The calls.
    pub ids: Vec<String>,
    /// The recordings that their legs name.
    pub recordings: Vec<String>,
}

impl Store {
    /// Drops what is older than `retention` and nobody upstream still has to be told, and then the oldest of all until the
    /// database takes no more than `bytes`. Readers are told the gap. It is done slice by slice: see [`Pruned::more`].
    ///
    /// # Errors
    ///
    /// Nothing was dropped.
    pub fn prune(&mut self, now_utc_us: i64, retention: Duration, bytes: u64) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let transaction = self.connection.transaction()?;
        if now_utc_us >= CLOCK_WAS_SET {
            let cutoff = now_utc_us.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
            let needless = upstream::needless(&transaction)?.unwrap_or(i64::MAX);
            let (last, more) = old(&transaction, "event", "sequence", "utc_us", cutoff)?;
            if let Some(last) = last.map(|last| last.min(needless)).filter(|last| *last > 0) {
                pruned.events += drop_events(&transaction, last, "age", now_utc_us)?;
                pruned.more |= more && last < needless;
            }
            let (last, more) = old(&transaction, "call", "entry", "started_us", cutoff)?;
            if let Some(last) = last {
                pruned.calls += drop_calls(&transaction, last)?;
                pruned.more |= more;
            }
            let days = retention.as_secs() / 86_400 + 2;
            let day =
                crate::events::cloud_event::rfc3339(now_utc_us.saturating_sub(whole(days * 86_400_000_000)));
            transaction.execute("DELETE FROM usage WHERE day < ?1", [day.get(..10).unwrap_or_default()])?;
        }
        while used(&transaction)? > bytes {
            if pruned.events.max(pruned.calls) >= SLICE {
                pruned.more = true;
                break;
            }
            // A tenth or a slice at a time; the journal, which people look at, goes when no events are left to go.
            if let Some(last) = oldest_tenth(&transaction, "event", "sequence")? {
                pruned.events += drop_events(&transaction, last, "size", now_utc_us)?;
            } else if let Some(last) = oldest_tenth(&transaction, "call", "entry")? {
                pruned.calls += drop_calls(&transaction, last)?;
            } else {
                break;
            }
        }
        transaction.commit()?;
        if pruned != Pruned::default() {
            self.give_back(PAGES_OF_A_SLICE)?;
        }
        Ok(pruned)
    }

    /// What [`Store::erase`] would erase.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn concerned(&self, whose: &Erase) -> Result<Concerned, StoreError> {
        let ids = ids_of(&self.connection, whose)?;
        let mut recordings = Vec::new();
        for call in &ids {
            recordings.extend(recordings_of(&self.connection, call)?);
        }
        Ok(Concerned { ids, recordings })
    }

    /// Erases the journal rows and events of a call or a number. What is erased is overwritten on the disk, as far as
    /// the disk does as it is told.
    ///
    /// # Errors
    ///
    /// Nothing was erased.
    pub fn erase(&mut self, whose: &Erase, now_utc_us: i64) -> Result<Erased, StoreError> {
        let transaction = self.connection.transaction()?;
        let calls = ids_of(&transaction, whose)?;
        let mut erased = Erased::default();
        if let Erase::Number(number) = whose {
            erased.events += drop_mentions(&transaction, &Number::new(number), now_utc_us)?;
        }
        for call in &calls {
            erased.recordings.extend(recordings_of(&transaction, call)?);
            transaction
                .prepare_cached(
                    "DELETE FROM party WHERE entry IN (SELECT entry FROM call WHERE call_id = ?1)",
                )?
                .execute([call])?;
            let legs = transaction.prepare_cached("DELETE FROM call WHERE call_id = ?1")?.execute([call])?;
            erased.calls += legs as u64;
            let sequences: Vec<i64> = transaction
                .prepare_cached("SELECT sequence FROM event WHERE subject = ?1 ORDER BY sequence")?
                .query_map([call], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            erased.events += erase_events(&transaction, &sequences, now_utc_us)?;
        }
        transaction.commit()?;
        // It is erased, whatever becomes of this: whoever asked is told both.
        erased.old_copies = self.give_back(u32::MAX).err().map(|error| error.to_string());
        erased.ids = calls;
        Ok(erased)
    }

    /// Gives free pages back to the disk, about so many at most, and empties the log, in which old copies of pages are.
    fn give_back(&mut self, pages: u32) -> Result<(), StoreError> {
        let free = |connection: &Connection| {
            connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, u32>(0))
        };
        let before = free(&self.connection)?;
        let mut left = before;
        while left > 0 && before - left < pages {
            self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
            let still = free(&self.connection)?;
            if still >= left {
                break;
            }
            left = still;
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

fn ids_of(connection: &Connection, whose: &Erase) -> Result<Vec<String>, StoreError> {
    match whose {
        Erase::Call(call) => Ok(vec![call.clone()]),
        Erase::Number(number) => calls_of(connection, &Number::new(number)),
    }
}

/// The recordings that the legs of a call name.
fn recordings_of(connection: &Connection, call: &str) -> Result<Vec<String>, StoreError> {
    let bodies = connection
        .prepare_cached("SELECT body FROM call WHERE call_id = ?1")?
        .query_map([call], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(bodies.iter().filter_map(|body| recording_of(body)).collect())
}

/// The calls that a number took part in.
fn calls_of(connection: &Connection, number: &Number) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT call.body FROM party JOIN call ON call.entry = party.entry WHERE party.key = ?1",
    )?;
    let mut rows = statement.query([number.key()])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = journal::entry(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
        if entry.involves(number) && !calls.contains(&entry.call_id) {
            calls.push(entry.call_id);
        }
    }
    Ok(calls)
}

/// Erases the events that name a number outside of any call of the journal: calls that a rule did not let begin, and what
/// programs asked for.
fn drop_mentions(transaction: &Transaction<'_>, number: &Number, utc_us: i64) -> Result<u64, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT sequence, data FROM event
         WHERE kind IN ('call.refused', 'originate.queued', 'originate.result') ORDER BY sequence",
    )?;
    let mut rows = statement.query([])?;
    let mut sequences = Vec::new();
    while let Some(row) = rows.next()? {
        let data = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if serde_json::from_str(data).is_ok_and(|data| mentions(&data, number)) {
            sequences.push(row.get(0)?);
        }
    }
    erase_events(transaction, &sequences, utc_us)
}

fn mentions(data: &Value, number: &Number) -> bool {
    match data {
        Value::Object(inner) => {
            Number::deserialize(data).is_ok_and(|it| it.same_as(number))
                || inner.values().any(|value| mentions(value, number))
        }
        Value::Array(all) => all.iter().any(|value| mentions(value, number)),
        _ => false,
    }
}

/// Erases these events, which are in order; readers are told the gaps.
fn erase_events(transaction: &Transaction<'_>, sequences: &[i64], utc_us: i64) -> Result<u64, StoreError> {
    for sequence in sequences {
        transaction.prepare_cached("DELETE FROM event WHERE sequence = ?1")?.execute([sequence])?;
    }
    for run in sequences.chunk_by(|a, b| a + 1 == *b) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            note_gap(transaction, *first, *last, "erased", utc_us)?;
        }
    }
    Ok(sequences.len() as u64)
}

/// The last row that is older than `cutoff` for certain, and whether more of them follow behind the slice: rows are in the
/// order in which things happened, so what lies before an old row is old as well, whatever its clock said. Rows that follow
/// a young one are young.
fn old(
    connection: &Connection,
    table: &str,
    number: &str,
    time: &str,
    cutoff: i64,
) -> Result<(Option<i64>, bool), StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {number}, {time} FROM {table} ORDER BY {number}"))?;
    let mut rows = statement.query([])?;
    let (mut last, mut seen) = (None, 0);
    while let Some(row) = rows.next()? {
        let (number, time): (i64, i64) = (row.get(0)?, row.get(1)?);
        match time {
            young if young >= cutoff => break,
            CLOCK_WAS_SET.. if seen >= SLICE && last.is_some() => return Ok((last, true)),
            CLOCK_WAS_SET.. => last = Some(number),
            _ => {}
        }
        seen += 1;
    }
    Ok((last, false))
}

/// The last row of the oldest tenth of a table, or of a slice if that is less; `None` if it is empty.
fn oldest_tenth(connection: &Connection, table: &str, number: &str) -> Result<Option<i64>, StoreError> {
    let sql = format!(
        "SELECT {number} FROM {table} ORDER BY {number} LIMIT 1
         OFFSET (SELECT min(count(*) / 10, {}) FROM {table})",
        SLICE - 1
    );
    Ok(connection.query_row(&sql, [], |row| row.get(0)).optional()?)
}

fn drop_events(
    transaction: &Transaction<'_>,
    last: i64,
    reason: &str,
    utc_us: i64,
) -> Result<u64, StoreError> {
    let dropped = transaction.execute("DELETE FROM event WHERE sequence <= ?1", [last])?;
    // All that came before is gone, too.
    note_gap(transaction, 1, last, reason, utc_us)?;
    Ok(dropped as u64)
}

fn drop_calls(transaction: &Transaction<'_>, last: i64) -> Result<u64, StoreError> {
    transaction.execute("DELETE FROM party WHERE entry <= ?1", [last])?;
    Ok(transaction.execute("DELETE FROM call WHERE entry <= ?1", [last])? as u64)
}

/// Notes why events are gone.
pub(super) fn note_gap(
    transaction: &Transaction<'_>,
    first: i64,
    last: i64,
    reason: &str,
    utc_us: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO gap (first, last, reason, utc_us) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![first, last, reason, utc_us])?;
    // What lies inside the new gap is told by it.
    transaction
        .prepare_cached("DELETE FROM gap WHERE first > ?1 AND last <= ?2")?
        .execute(params![first, last])?;
    Ok(())
}

/// Bytes of the database that hold something.
fn used(connection: &Connection) -> Result<u64, StoreError> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(natural);
    let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(pages * number("PRAGMA page_size")?)
}

/// The recording that a row of the journal names. One that cannot be read names none, and goes like the others.
fn recording_of(body: &str) -> Option<String> {
    let row: Value = serde_json::from_str(body).ok()?;
    row.get("recording_id")?.as_str().map(str::to_owned)
}

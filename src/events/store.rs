//! The store: events, the journal of calls, counters of limits, old bindings and small settings, in SQLite.
//!
//! It works on a connection that it is handed and opens nothing itself. What [`Store::commit`] was given in one batch
//! is there as a whole or not at all, and once it has returned no power cut takes it away: the log is written ahead
//! (WAL) and synced at each commit. Order is that of sequence numbers, never that of the clock.

mod backlog;
mod error;
mod journal;
mod retention;
mod subscription;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use backlog::Backlog;
pub use error::{Blame, StoreError};
pub use journal::{Entry, JournalPage, Query, Recall};
pub use retention::{Concerned, Erase, Erased, Pruned};

use super::cloud_event::{CloudEvent, Digits, Recorded};
use super::upstream::state::State;
use super::upstream::subscription::Subscription;
use super::upstream::turn::Note;

/// The days of [`Store::usage`].
const DAYS_OF_USAGE: u8 = 7;
/// What marks the file as ours: `TIPR` (PRAGMA application_id).
const APPLICATION: i32 = 0x5449_5052;

/// The schema, step by step: version N is there when the first N steps have run (PRAGMA user_version).
const STEPS: &[&str] = &[
    "
    CREATE TABLE event (
        sequence INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        utc_us INTEGER NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT,
        data TEXT NOT NULL
    );
    CREATE INDEX event_subject ON event (subject) WHERE subject IS NOT NULL;
    CREATE TABLE gap (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        reason TEXT NOT NULL,
        utc_us INTEGER NOT NULL
    );
    CREATE TABLE call (
        entry INTEGER PRIMARY KEY AUTOINCREMENT,
        leg_id TEXT NOT NULL UNIQUE,
        call_id TEXT NOT NULL,
        line TEXT NOT NULL,
        direction TEXT NOT NULL,
        started_us INTEGER NOT NULL,
        result TEXT,
        body TEXT NOT NULL
    );
    CREATE INDEX call_call_id ON call (call_id);
    CREATE INDEX call_open ON call (entry) WHERE result IS NULL;
    CREATE TABLE party (
        key TEXT NOT NULL,
        entry INTEGER NOT NULL,
        PRIMARY KEY (key, entry)
    ) WITHOUT ROWID;
    CREATE INDEX party_entry ON party (entry);
    CREATE TABLE usage (
        day TEXT NOT NULL,
        line TEXT NOT NULL,
        calls INTEGER NOT NULL,
        talk_us INTEGER NOT NULL,
        PRIMARY KEY (day, line)
    ) WITHOUT ROWID;
    CREATE TABLE binding (
        line TEXT PRIMARY KEY,
        address TEXT NOT NULL,
        contact TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE setting (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
",
    "
    ALTER TABLE binding RENAME TO binding_of_line;
    CREATE TABLE binding (
        line TEXT NOT NULL,
        flow INTEGER NOT NULL,
        address TEXT NOT NULL,
        contact TEXT NOT NULL,
        PRIMARY KEY (line, flow)
    ) WITHOUT ROWID;
    INSERT INTO binding SELECT line, 1, address, contact FROM binding_of_line;
    DROP TABLE binding_of_line;
",
    "
    CREATE TABLE upstream (
        name TEXT PRIMARY KEY,
        low INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        owed TEXT NOT NULL,
        condition TEXT NOT NULL,
        set_aside INTEGER NOT NULL
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE subscription (
        id INTEGER PRIMARY KEY,
        extension TEXT NOT NULL,
        event TEXT NOT NULL,
        url TEXT NOT NULL,
        method TEXT NOT NULL,
        owner TEXT NOT NULL
    );
",
    "
    CREATE TABLE note (
        upstream TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (upstream, key)
    ) WITHOUT ROWID;
",
    // Rows are found by the numbers that rules made, too.
    "",
];

/// The version from which on the index of numbers is as this one makes it.
const INDEXED: usize = 6;

/// The value of SQLite's `auto_vacuum` that gives pages back bit by bit.
const INCREMENTAL: i64 = 2;

/// Events in one page at most.
const LARGEST_PAGE: u32 = 10_000;

/// One thing to be kept.
#[derive(Clone, PartialEq, Debug)]
pub enum Write {
    /// An event. Numbers rise from commit to commit; the same event again changes nothing.
    Event(Box<Recorded>),
    /// Events that nobody could keep: whoever reads on is told why they are missing.
    Gap {
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
        /// Why, in a word.
        reason: String,
        /// When that was found, in microseconds since 1970 UTC.
        utc_us: i64,
    },
    /// A leg in the journal: at its beginning, and again (by `leg_id`) when more is known.
    Call(Box<Entry>),
    /// What a line used up on a day. Adds to what is there.
    Usage(Usage),
    /// Where a registrar knows a line, so that it can be told after a power cut that this is over.
    Binding(Binding),
    /// A flow of a line has no binding any more.
    Unbound {
        /// The name of the line.
        line: String,
        /// The number of the flow.
        flow: u8,
    },
    /// A small setting that outlives a restart, such as do-not-disturb; `None` removes it.
    Setting {
        /// Its name: `dnd.office`.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// Where an upstream stands.
    Upstream(State),
    /// There is no upstream of this name any more.
    UpstreamGone(String),
    /// What an upstream remembers: all of these, or none.
    Notes {
        /// The name of the upstream.
        upstream: String,
        /// What is remembered or forgotten.
        notes: Vec<Note>,
    },
    /// Somebody has themselves told of events.
    Subscribed(Subscription),
    /// The subscription of this number is over.
    Unsubscribed(u32),
}

/// Calls and minutes of a line on a day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The day, UTC: `2026-11-20`.
    pub day: String,
    /// The name of the line.
    pub line: String,
    /// Calls that were started.
    pub calls: u64,
    /// Their time from answer to end.
    pub talk_us: u64,
}

/// A contact that a registrar may still have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// The name of the line.
    pub line: String,
    /// The number of its flow (RFC 5626 §4.2): 1 or 2.
    pub flow: u8,
    /// The address of record at that time; another one now means that the binding is somebody else's.
    pub address: String,
    /// The Contact URI that was registered.
    pub contact: String,
}

/// The store. It is the only user of its database: a second one gets [`StoreError::InUse`].
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    digits: Digits,
}

impl Store {
    /// Takes over a connection to a database: a new one, or one that an older version made.
    ///
    /// # Errors
    ///
    /// Whatever keeps the database from being used; the database is unchanged then. After [`StoreError::Corrupt`] the
    /// caller may put the file aside and begin anew.
    pub fn open(connection: Connection) -> Result<Store, StoreError> {
        // Alone with the file, SQLite needs no shared memory beside it. Full sync is what keeps a commit through a
        // power cut. Pages of deleted rows are overwritten, and given back bit by bit.
        if connection.is_readonly("main")? {
            return Err(StoreError::ReadOnly("it is there for reading only".into()));
        }
        // A program that is just ending may still hold it.
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -512;",
        )?;
        // Written only where it is not so yet: on an existing database this pragma costs a commit at every start.
        if connection.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))? != INCREMENTAL {
            connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;")?;
        let mut store = Store { connection, digits: Digits::Hidden };
        store.migrate()?;
        Ok(store)
    }

    /// Keeps the digits of `call.dtmf` as well, because somebody asked for them. They are dropped otherwise.
    pub fn keep_digits(&mut self, digits: Digits) {
        self.digits = digits;
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let number =
            |connection: &Connection, pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let version = number(&self.connection, "PRAGMA user_version")?;
        let application = number(&self.connection, "PRAGMA application_id")?;
        if application != i64::from(APPLICATION) {
            let tables = number(&self.connection, "SELECT count(*) FROM sqlite_schema")?;
            if version != 0 || application != 0 || tables != 0 {
                return Err(StoreError::Foreign);
            }
        }
        let done = usize::try_from(version).unwrap_or(0);
        if done > STEPS.len() {
            return Err(StoreError::Newer { found: version, known: STEPS.len() });
        }
        if done == STEPS.len() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        for step in STEPS.iter().skip(done) {
            transaction.execute_batch(step)?;
        }
        if done < INDEXED {
            journal::index_anew(&transaction)?;
        }
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};",
            STEPS.len()
        ))?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps a batch: all of it, for good, or nothing of it. The answer is its events, as readers get them.
    ///
    /// # Errors
    ///
    /// Nothing was kept. The same batch may be tried again later.
    pub fn commit(&mut self, batch: &[Write]) -> Result<Vec<CloudEvent>, StoreError> {
        let mut events = Vec::new();
        if batch.is_empty() {
            return Ok(events);
        }
        let digits = self.digits;
        let transaction = self.connection.transaction()?;
        for write in batch {
            match write {
                Write::Event(event) => {
                    let event = event.cloud_event(digits);
                    append(&transaction, &event)?;
                    events.push(event);
                }
                Write::Gap { first, last, reason, utc_us } => {
                    retention::note_gap(&transaction, whole(*first), whole(*last), reason, *utc_us)?;
                }
                Write::Call(entry) => journal::put(&transaction, entry)?,
                Write::Usage(usage) => {
                    transaction
                        .prepare_cached(
                            "INSERT INTO usage (day, line, calls, talk_us) VALUES (?1, ?2, ?3, ?4)
                             ON CONFLICT (day, line) DO UPDATE
                             SET calls = calls + excluded.calls, talk_us = talk_us + excluded.talk_us",
                        )?
                        .execute(params![usage.day, usage.line, whole(usage.calls), whole(usage.talk_us)])?;
                }
                Write::Binding(binding) => {
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO binding (line, flow, address, contact)
                             VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![binding.line, binding.flow, binding.address, binding.contact])?;
                }
                Write::Unbound { line, flow } => {
                    transaction
                        .prepare_cached("DELETE FROM binding WHERE line = ?1 AND flow = ?2")?
                        .execute(params![line, flow])?;
                }
                Write::Setting { name, value: Some(value) } => {
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)")?
                        .execute([name, value])?;
                }
                Write::Upstream(state) => upstream::put(&transaction, state)?,
                Write::UpstreamGone(name) => upstream::delete(&transaction, name)?,
                Write::Notes { upstream, notes } => upstream::note(&transaction, upstream, notes)?,
                Write::Subscribed(subscription) => subscription::put(&transaction, subscription)?,
                Write::Unsubscribed(id) => {
                    transaction.prepare_cached("DELETE FROM subscription WHERE id = ?1")?.execute([id])?;
                }
                Write::Setting { name, value: None } => {
                    transaction.prepare_cached("DELETE FROM setting WHERE name = ?1")?.execute([name])?;
                }
            }
        }
        transaction.commit()?;
        Ok(events)
    }

    /// The number of the newest event that ever was kept; 0 in a new store.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        let last: Option<i64> = self.connection.query_row(
            "SELECT max(last) FROM (SELECT max(sequence) AS last FROM event UNION ALL SELECT max(last) FROM gap)",
            [],
            |row| row.get(0),
        )?;
        Ok(natural(last.unwrap_or(0)))
    }

    /// Events after the number `since`, `limit` at most, in order. Where some are gone, a `gap` event takes their
    /// place. An empty answer means that there is nothing newer.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn events_since(&self, since: u64, limit: u32) -> Result<Vec<CloudEvent>, StoreError> {
        let limit = limit.clamp(1, LARGEST_PAGE);
        let mut statement = self.connection.prepare_cached(
            "SELECT sequence, id, utc_us, kind, subject, data FROM event
             WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let rows = statement.query_map(params![whole(since), limit], read_event)?;
        let mut events = Vec::new();
        let mut before = since;
        for event in rows {
            let event = event?;
            if event.sequence > before.saturating_add(1) {
                events.push(self.gap(before + 1, event.sequence - 1, event.utc_us)?);
            }
            before = event.sequence;
            events.push(event);
        }
        let last = self.last_sequence()?;
        let limit = limit as usize;
        if events.len() < limit && last > before {
            events.push(self.gap(before + 1, last, 0)?);
        }
        events.truncate(limit);
        Ok(events)
    }

    /// The events of one call, in order.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn events_of_call(&self, call: &str) -> Result<Vec<CloudEvent>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT sequence, id, utc_us, kind, subject, data FROM event
             WHERE subject = ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let rows = statement.query_map(params![call, LARGEST_PAGE], read_event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What a reader is told where the events from `first` to `last` are gone.
    fn gap(&self, first: u64, last: u64, utc_us: i64) -> Result<CloudEvent, StoreError> {
        let known = self
            .connection
            .prepare_cached(
                "SELECT reason, utc_us FROM gap WHERE first <= ?1 AND last >= ?2 ORDER BY first DESC LIMIT 1",
            )?
            .query_row([whole(last), whole(first)], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        let (reason, utc_us) = known.map_or((None, utc_us), |(reason, at)| (Some(reason), at));
        Ok(CloudEvent::gap(first, last, reason, utc_us))
    }

    /// What every line used up on the last days on which any did, the oldest of these first.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn usage(&self) -> Result<Vec<Usage>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT day, line, calls, talk_us FROM usage
             WHERE day >= (SELECT min(day) FROM (SELECT DISTINCT day FROM usage ORDER BY day DESC LIMIT ?1))
             ORDER BY day, line",
        )?;
        let rows = statement.query_map([DAYS_OF_USAGE], |row| {
            Ok(Usage {
                day: row.get(0)?,
                line: row.get(1)?,
                calls: natural(row.get(2)?),
                talk_us: natural(row.get(3)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The bindings of all lines that may still be at their registrars.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT line, flow, address, contact FROM binding ORDER BY line, flow")?;
        let rows = statement.query_map([], |row| {
            Ok(Binding { line: row.get(0)?, flow: row.get(1)?, address: row.get(2)?, contact: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All small settings.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn settings(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT name, value FROM setting")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut settings = BTreeMap::new();
        for row in rows {
            let (name, value) = row?;
            settings.insert(name, value);
        }
        Ok(settings)
    }
}

fn append(transaction: &Transaction<'_>, event: &CloudEvent) -> Result<(), StoreError> {
    let added = transaction
        .prepare_cached(
            "INSERT INTO event (sequence, id, utc_us, kind, subject, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (sequence) DO NOTHING",
        )?
        .execute(params![
            whole(event.sequence),
            event.id.as_bytes(),
            event.utc_us,
            event.kind,
            event.subject,
            event.data
        ])?;
    if added == 0 {
        let id: [u8; 16] = transaction
            .prepare_cached("SELECT id FROM event WHERE sequence = ?1")?
            .query_row([whole(event.sequence)], |row| row.get(0))?;
        if id != *event.id.as_bytes() {
            return Err(StoreError::NumberTaken { sequence: event.sequence });
        }
    }
    Ok(())
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<CloudEvent> {
    Ok(CloudEvent {
        sequence: natural(row.get(0)?),
        id: Uuid::from_bytes(row.get(1)?),
        utc_us: row.get(2)?,
        kind: row.get(3)?,
        subject: row.get(4)?,
        data: row.get(5)?,
    })
}

/// A number for SQLite, whose integers have a sign.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from SQLite that never is negative.
fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

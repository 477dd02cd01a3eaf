//! Where every upstream stands, for the next life of the program.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Store, StoreError, natural, whole};
use crate::events::upstream::state::{Condition, State};
use crate::events::upstream::turn::{Note, Notes};

pub(super) fn put(transaction: &Transaction<'_>, state: &State) -> Result<(), StoreError> {
    let owed: Vec<String> = state.owed.iter().map(u64::to_string).collect();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO upstream (name, low, seen, owed, condition, set_aside)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            state.name,
            whole(state.low()),
            whole(state.seen),
            owed.join(","),
            state.condition.as_str(),
            whole(state.set_aside)
        ])?;
    Ok(())
}

pub(super) fn delete(transaction: &Transaction<'_>, name: &str) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM upstream WHERE name = ?1")?.execute([name])?;
    transaction.prepare_cached("DELETE FROM note WHERE upstream = ?1")?.execute([name])?;
    Ok(())
}

pub(super) fn note(transaction: &Transaction<'_>, upstream: &str, notes: &[Note]) -> Result<(), StoreError> {
    for Note { key, value } in notes {
        match value {
            Some(value) => transaction
                .prepare_cached("INSERT OR REPLACE INTO note (upstream, key, value) VALUES (?1, ?2, ?3)")?
                .execute([upstream, key, value])?,
            None => transaction
                .prepare_cached("DELETE FROM note WHERE upstream = ?1 AND key = ?2")?
                .execute([upstream, key])?,
        };
    }
    Ok(())
}

/// The last number that no upstream needs any more, if one needs anything. One that answered 410 needs nothing.
pub(super) fn needless(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT min(low) FROM upstream WHERE condition <> 'stopped'";
    Ok(connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?.flatten())
}

impl Store {
    /// Where the upstreams stand.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn upstreams(&self) -> Result<Vec<State>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, seen, owed, condition, set_aside FROM upstream ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            let (owed, condition): (String, String) = (row.get(2)?, row.get(3)?);
            Ok(State {
                name: row.get(0)?,
                seen: natural(row.get(1)?),
                owed: owed.split(',').filter_map(|number| number.parse().ok()).collect(),
                condition: Condition::from_word(&condition),
                set_aside: natural(row.get(4)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What the upstreams remember, by their names.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn notes(&self) -> Result<BTreeMap<String, Notes>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT upstream, key, value FROM note")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut all: BTreeMap<String, Notes> = BTreeMap::new();
        for row in rows {
            let (upstream, key, value): (String, String, String) = row?;
            all.entry(upstream).or_default().insert(key, value);
        }
        Ok(all)
    }
}

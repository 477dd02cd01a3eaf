//! Who has themselves told of an extension's events, for the next life of the program.

use rusqlite::{Transaction, params};

use super::{Store, StoreError};
use crate::config::{HttpMethod, UpstreamUrl};
use crate::events::upstream::subscription::Subscription;

pub(super) fn put(transaction: &Transaction<'_>, subscription: &Subscription) -> Result<(), StoreError> {
    let Subscription { id, extension, event, url, method, owner } = subscription;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO subscription (id, extension, event, url, method, owner)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![id, extension, event, url.whole(), method.as_str(), owner])?;
    Ok(())
}

impl Store {
    /// All subscriptions. What can't be read as one any more is none.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn subscriptions(&self) -> Result<Vec<Subscription>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, extension, event, url, method, owner FROM subscription ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let (url, method): (String, String) = (row.get(3)?, row.get(4)?);
            let method = HttpMethod::ALL.iter().copied().find(|it| it.as_str() == method);
            let (id, extension, event, owner) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(5)?);
            let url = UpstreamUrl::parse(&url).ok();
            Ok(url.zip(method).map(|(url, method)| Subscription { id, extension, event, url, method, owner }))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

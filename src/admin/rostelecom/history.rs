//! The history: an order says which calls, and is fetched as a gzip file of CSV that is written while it is read.
//!
//! An order keeps what was asked, not what was found: the journal is read page by page when somebody fetches it, from the
//! newest call at the time of the order backwards, and can be fetched again while the order is kept.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use super::gzip::Gzip;
use super::{Asked, No, Outcome, calls, yes};
use crate::admin::{lock, now_utc_us};
use crate::events::Kind;
use crate::events::archive::ArchiveError;
use crate::events::cdr::{Row, Shape};
use crate::events::store::{Entry, Query};
use crate::events::upstream::rostelecom::call_info::CallInfo;
use crate::events::upstream::rostelecom::requests::Wanted;

/// Orders that are kept of all upstreams; the oldest goes.
const ORDERS: usize = 32;
/// How long an order is kept.
const KEPT: Duration = Duration::from_secs(3600);
/// Rows of the journal that are in memory at once.
const PAGE: u32 = 200;

/// The orders that can be fetched.
#[derive(Debug, Default)]
pub(in crate::admin) struct Orders(Mutex<VecDeque<Order>>);

#[derive(Clone, Debug)]
struct Order {
    id: String,
    upstream: String,
    at: Instant,
    wanted: Wanted,
}

impl Orders {
    fn place(&self, upstream: &str, id: String, wanted: Wanted, now: Instant) {
        let mut all = lock(&self.0);
        all.retain(|order| now.duration_since(order.at) < KEPT);
        if all.len() >= ORDERS {
            all.pop_front();
        }
        all.push_back(Order { id, upstream: upstream.to_owned(), at: now, wanted });
    }

    fn find(&self, upstream: &str, id: &str, now: Instant) -> Option<Wanted> {
        let all = lock(&self.0);
        let order = all.iter().find(|it| it.upstream == upstream && it.id == id)?;
        (now.duration_since(order.at) < KEPT).then(|| order.wanted.clone())
    }
}

/// Notes what is wanted, and has the upstream told that it can be fetched.
pub(super) fn order(asked: &Asked, mut wanted: Wanted) -> Outcome {
    // Calls that come in later are not in it, however late it is fetched.
    wanted.until_utc_us = wanted.until_utc_us.min(now_utc_us());
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|_| No::new("the system gives no random bytes; try again"))?;
    let order_id = uuid::Builder::from_random_bytes(octets).into_uuid().to_string();
    asked.app.orders.place(asked.name(), order_id.clone(), wanted, Instant::now());
    let told = Kind::HistoryReady { upstream: asked.name().to_owned(), order_id: order_id.clone() };
    if !asked.app.office.desk.tell(Box::new(told)) {
        tracing::warn!("a history was ordered, but the phone is too busy to tell that it is ready");
    }
    Ok(yes(json!({ "order_id": order_id })))
}

/// The file of an order.
pub(super) fn download(asked: Asked, order: &str) -> Result<Response, No> {
    let wanted = asked.app.orders.find(asked.name(), order, Instant::now());
    let wanted =
        wanted.ok_or_else(|| No::new("this order_id is none, or was fetched too late: order again"))?;
    let shape = Shape::named("rostelecom").ok_or_else(|| No::new("the columns are not known"))?;
    let reading = Reading { asked, shape, wanted, gzip: Gzip::default(), next: Next::Head };
    let body = stream::try_unfold(reading, |mut reading| async move {
        let piece = reading.piece().await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(piece.map(|piece| (Bytes::from(piece), reading)))
    });
    let fields = [
        (header::CONTENT_TYPE, "application/gzip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"history.csv.gz\""),
    ];
    Ok((fields, Body::from_stream(body)).into_response())
}

/// A file that is being read.
struct Reading {
    asked: Asked,
    shape: &'static Shape,
    wanted: Wanted,
    gzip: Gzip,
    next: Next,
}

/// What of it comes next.
enum Next {
    Head,
    Rows(Option<u64>),
    End,
    Nothing,
}

impl Reading {
    /// The next part of the file; `None` at its end.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(Some(match self.next {
            Next::Head => {
                self.next = Next::Rows(None);
                let mut head = Gzip::head();
                head.extend(self.gzip.more(self.shape.head().as_bytes()));
                head
            }
            Next::Rows(cursor) => {
                let (rows, next) = self.rows(cursor).await?;
                self.next = next.map_or(Next::End, |next| Next::Rows(Some(next)));
                // An empty piece would be nothing to send: the checksum is not changed by it either.
                self.gzip.more(rows.as_bytes())
            }
            Next::End => {
                self.next = Next::Nothing;
                self.gzip.end()
            }
            Next::Nothing => return Ok(None),
        }))
    }

    /// A page of the journal in its columns, and where the next one begins.
    async fn rows(&self, cursor: Option<u64>) -> Result<(String, Option<u64>), ArchiveError> {
        let archive = &self.asked.app.office.archive;
        let query = Query {
            since_utc_us: Some(self.wanted.since_utc_us),
            until_utc_us: Some(self.wanted.until_utc_us),
            number: self.wanted.number.clone(),
            cursor,
            limit: PAGE,
            ..Query::default()
        };
        let page = archive.journal(query).await?;
        let mut text = String::new();
        for entry in page.entries.iter().filter(|it| self.asked.knows(&it.leg.line)) {
            let Some(info) = self.info(entry).await else { continue };
            let zone = &self.asked.config.device.timezone;
            let row = Row { entry, call: Some(&info), recording_link: None, zone };
            text.push_str(&self.shape.rows(std::iter::once(row)));
        }
        Ok((text, page.next))
    }

    /// The call that a leg began, once it is over and if it is wanted; `None` for its other legs.
    async fn info(&self, entry: &Entry) -> Option<CallInfo> {
        let legs = calls::legs(&self.asked, entry.call_id.clone()).await.ok()?;
        let over = legs.iter().all(|leg| leg.result.is_some());
        let begins = legs.first().is_some_and(|first| first.leg.leg_id == entry.leg.leg_id);
        let info = CallInfo::of(&legs, self.asked.place()).filter(|_| begins && over)?;
        let fits = |wanted: u8, is: u8| wanted == 0 || wanted == is;
        (fits(self.wanted.direction, info.direction) && fits(self.wanted.state, info.state)).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(since_utc_us: i64) -> Wanted {
        Wanted { since_utc_us, until_utc_us: i64::MAX, direction: 0, state: 0, number: None }
    }

    #[test]
    fn orders_are_bounded_in_number_and_life_and_each_upstreams_own() {
        let (orders, now) = (Orders::default(), Instant::now());
        orders.place("crm", "0".into(), wanted(0), now);
        assert_eq!(orders.find("crm", "0", now), Some(wanted(0)));
        assert_eq!(orders.find("other", "0", now), None);
        assert_eq!(orders.find("crm", "0", now + KEPT), None);
        for number in 1..=ORDERS {
            orders.place("crm", number.to_string(), wanted(0), now);
        }
        assert_eq!(lock(&orders.0).len(), ORDERS);
        assert_eq!(orders.find("crm", "0", now), None, "the oldest went");
        orders.place("crm", "x".into(), wanted(0), now + KEPT);
        assert_eq!(lock(&orders.0).len(), 1);
    }
}

//! The journal searched as Webitel's call detail records are: `POST /api/v2/cdr/text` with a query in Lucene's language,
//! filters and columns, answered as Elasticsearch answers, and scrolled through where there are thousands.
//!
//! A scroll walks back from the newest call at its first request, so that calls that come in between change nothing about it.
//! Its id says how far it has come: a page whose answer was lost can be asked for again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::request::Told;
use super::{App, lock};
use crate::config::Config;
use crate::events::search::{Condition, SearchError, field, filter, lucene};
use crate::events::store::{Entry, Query};
use crate::events::upstream::facts::Facts;
use crate::events::upstream::webitel::Leg;

/// Records of a page, where nobody says how many.
const PAGE: u32 = 40;
/// Records of a page at most.
const LARGEST_PAGE: u32 = 1000;
/// Rows that are read from the store at once.
const ROWS: u32 = 1000;
/// Columns of a search.
const COLUMNS: usize = 64;
/// How long one page is searched for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Scrolls that are remembered; the one that was used last the longest ago goes.
const SCROLLS: usize = 64;
/// How long a scroll may be kept between two pages.
const LONGEST_SCROLL: Duration = Duration::from_secs(600);

/// What the body of a search says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    filter: Value,
    /// There is one index.
    #[serde(default, rename = "index")]
    _index: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    sort: Value,
    #[serde(default)]
    scroll: Option<String>,
    #[serde(default)]
    scroll_id: Option<String>,
}

/// A search, the same for all its pages.
#[derive(Debug)]
struct Search {
    condition: Condition,
    columns: Vec<String>,
    limit: usize,
}

/// The scrolls that go on.
#[derive(Debug, Default)]
pub(super) struct Scrolls(Mutex<HashMap<String, Scroll>>);

#[derive(Debug)]
struct Scroll {
    search: Arc<Search>,
    used: Instant,
    kept: Duration,
}

impl Scrolls {
    fn keep(&self, search: Arc<Search>, kept: Duration, now: Instant) -> Option<String> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).ok()?;
        let name = uuid::Builder::from_random_bytes(name).into_uuid().simple().to_string();
        let mut all = lock(&self.0);
        all.retain(|_, scroll| now.duration_since(scroll.used) < scroll.kept);
        if all.len() >= SCROLLS
            && let Some(idle) = all.iter().min_by_key(|(_, it)| it.used).map(|(name, _)| name.clone())
        {
            all.remove(&idle);
        }
        all.insert(name.clone(), Scroll { search, used: now, kept });
        Some(name)
    }

    /// The search of a scroll, which is kept on.
    fn find(&self, name: &str, kept: Option<Duration>, now: Instant) -> Option<Arc<Search>> {
        let mut all = lock(&self.0);
        let scroll = all.get_mut(name).filter(|scroll| now.duration_since(scroll.used) < scroll.kept)?;
        scroll.used = now;
        scroll.kept = kept.unwrap_or(scroll.kept);
        Some(scroll.search.clone())
    }
}

pub(super) async fn search(State(app): State<App>, Told(wish): Told<Wish>) -> Answer {
    let began = Instant::now();
    let kept = wish.scroll.as_deref().map(keep_alive).transpose()?;
    let (search, name, cursor) = match &wish.scroll_id {
        Some(id) => {
            let (name, cursor) = id.split_once('.').unwrap_or((id, ""));
            let search = app.scrolls.find(name, kept, began).ok_or_else(forgotten)?;
            (search, Some(name.to_owned()), Some(cursor.parse::<u64>().map_err(|_| forgotten())?))
        }
        None => {
            let search = Arc::new(wish.read()?);
            let name = kept.and_then(|kept| app.scrolls.keep(search.clone(), kept, began));
            (search, name, None)
        }
    };
    let page = page(&app, &search, cursor, began).await?;
    let mut answer = json!({
        "took": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "timed_out": page.timed_out,
        "hits": { "max_score": null, "hits": page.hits },
    });
    if let Some(name) = name {
        answer["_scroll_id"] = format!("{name}.{}", page.cursor).into();
    }
    Ok(Json(answer).into_response())
}

fn forgotten() -> Problem {
    let hint = "begin anew with a query and `scroll`, and ask for the next page within that time";
    Problem::new(StatusCode::NOT_FOUND, "no_such_scroll", "this scroll is over or was never begun", hint)
}

impl Wish {
    fn read(self) -> Result<Search, Problem> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Problem::wrong(
                format!("the limit is {limit}"),
                "write 1 to 1000, and scroll for more",
            ));
        }
        if self.columns.len() > COLUMNS {
            return Err(Problem::wrong("these are too many columns", "name 64 at most, or none for all"));
        }
        if !newest_first(&self.sort) {
            let hint = "write {\"created_time\": {\"order\": \"desc\"}}, or nothing";
            return Err(Problem::wrong("the newest call comes first, there is no other order", hint));
        }
        let condition = Condition::Every(vec![lucene::read(&self.query)?, filter::read(&self.filter)?]);
        Ok(Search { condition, columns: self.columns, limit: limit as usize })
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Problem {
        Problem::wrong(error.what, error.hint)
    }
}

fn newest_first(sort: &Value) -> bool {
    match sort {
        Value::Null => true,
        Value::Array(all) => all.iter().all(newest_first),
        Value::Object(all) => all.iter().all(|(name, order)| {
            name == "created_time" && order.get("order").unwrap_or(order).as_str() == Some("desc")
        }),
        _ => false,
    }
}

/// How long a scroll is kept: `30s` or `1m`.
fn keep_alive(text: &str) -> Result<Duration, Problem> {
    let hint = "write 1s to 10m";
    let seconds = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((amount, "s")) => amount.parse().ok(),
        Some((amount, "m")) => amount.parse().ok().and_then(|it: u64| it.checked_mul(60)),
        _ => None,
    };
    let kept = seconds.map(Duration::from_secs);
    kept.filter(|kept| !kept.is_zero() && *kept <= LONGEST_SCROLL)
        .ok_or_else(|| Problem::wrong("`scroll` is no time for which a scroll is kept", hint))
}

struct Page {
    hits: Vec<Value>,
    /// Where the next page begins; 0 at the end, where no row is.
    cursor: u64,
    /// Whether there was no time to look at everything.
    timed_out: bool,
}

async fn page(app: &App, search: &Search, mut cursor: Option<u64>, began: Instant) -> Result<Page, Problem> {
    let config = app.office.config.borrow().clone();
    let mut hits = Vec::new();
    loop {
        if began.elapsed() > PATIENCE {
            return Ok(Page { hits, cursor: cursor.unwrap_or(u64::MAX), timed_out: true });
        }
        let number = search.condition.number().map(str::to_owned);
        let rows =
            app.office.archive.journal(Query { number, cursor, limit: ROWS, ..Query::default() }).await?;
        for (entry, row) in rows.entries.iter().zip(&rows.rows) {
            let Some(hit) = hit(search, entry, &config) else { continue };
            hits.push(hit);
            if hits.len() == search.limit {
                return Ok(Page { hits, cursor: *row, timed_out: false });
            }
        }
        cursor = rows.next;
        if cursor.is_none() {
            return Ok(Page { hits, cursor: 0, timed_out: false });
        }
    }
}

/// A leg as one of the hits, if it is over and is searched for.
fn hit(search: &Search, entry: &Entry, config: &Config) -> Option<Value> {
    entry.result?;
    let facts = Facts::of_entry(entry);
    let line = config.line.iter().find(|line| line.name == entry.leg.line);
    let record = Leg {
        call_id: Some(&entry.call_id),
        begun_utc_us: entry.started_utc_us,
        ended_utc_us: entry.ended_utc_us.unwrap_or(entry.started_utc_us),
        facts: &facts,
        domain: line.map(|line| line.domain.as_str()),
    }
    .record();
    if !search.condition.holds(&record) {
        return None;
    }
    let mut hit = json!({
        "_index": "cdr-a", "_type": "cdr", "_id": entry.leg.leg_id, "_score": null,
        "sort": [entry.started_utc_us / 1000],
    });
    if search.columns.is_empty() {
        hit["_source"] = record.into();
    } else {
        let mut fields = Map::new();
        for name in &search.columns {
            if let Some(value) = field(&record, name) {
                fields.insert(name.clone(), json!([value]));
            }
        }
        hit["fields"] = fields.into();
    }
    Some(hit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scroll_is_kept_as_long_as_was_asked() {
        assert_eq!(keep_alive("30s").ok(), Some(Duration::from_secs(30)));
        assert_eq!(keep_alive("10m").ok(), Some(Duration::from_secs(600)));
        for wrong in
            ["", "m", "0s", "11m", "1h", "-1m", "99999999999999999999m", "9999999999999999999m", "1ü"]
        {
            assert!(keep_alive(wrong).is_err(), "{wrong:?}");
        }
        let scrolls = Scrolls::default();
        let search = Arc::new(Search { condition: Condition::all(), columns: Vec::new(), limit: 1 });
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let name = scrolls.keep(search.clone(), 2 * second, now).expect("a name");
        assert!(scrolls.find(&name, None, now + second).is_some());
        assert!(scrolls.find(&name, Some(5 * second), now + 2 * second).is_some(), "used meanwhile");
        assert!(scrolls.find(&name, None, now + 6 * second).is_some(), "kept longer");
        assert!(scrolls.find(&name, None, now + 12 * second).is_none(), "forgotten");
        let idle = scrolls.keep(search.clone(), 600 * second, now).expect("a name");
        for _ in 0..SCROLLS {
            scrolls.keep(search.clone(), 600 * second, now + second);
        }
        assert_eq!(lock(&scrolls.0).len(), SCROLLS, "and no more");
        assert!(scrolls.find(&idle, None, now + second).is_none(), "the one that was idle went");
    }

    #[test]
    fn only_the_newest_can_come_first() {
        for sort in [
            json!(null),
            json!({"created_time": "desc"}),
            json!({"created_time": {"order": "desc"}}),
            json!([{"created_time": {"order": "desc"}}]),
        ] {
            assert!(newest_first(&sort), "{sort}");
        }
        for sort in [json!({"created_time": "asc"}), json!({"duration": "desc"}), json!("created_time")] {
            assert!(!newest_first(&sort), "{sort}");
        }
    }
}

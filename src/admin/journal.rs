//! Past calls: searched, given as JSON or CSV, added up, and erased when somebody asks for it.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{Caller, allows};
use super::answer::{Answer, Problem};
use super::links::Times;
use super::request::{Asked, Named};
use super::{App, now_utc_us, recordings};
use crate::config::Role;
use crate::events::cdr::{self, Row, Shape};
use crate::events::report::{By, Report, Sums};
use crate::events::store::{Concerned, Entry, Erase, Query};
use crate::events::{CallResult, Direction};

/// Rows of a page, where nobody says how many.
const PAGE: u32 = 100;
/// Between words to the phone of recordings that were erased.
const BETWEEN_WORDS: std::time::Duration = std::time::Duration::from_millis(2);
/// Rows of a page at most.
const LARGEST_PAGE: u32 = 1000;

#[derive(Deserialize)]
pub(super) struct Search {
    since: Option<String>,
    number: Option<String>,
    direction: Option<String>,
    result: Option<String>,
    line: Option<String>,
    cursor: Option<u64>,
    limit: Option<u32>,
    links: Option<u64>,
    until: Option<String>,
    format: Option<String>,
}

impl Search {
    fn query(self) -> Result<Query, Problem> {
        let moment = |text: Option<&str>, name| text.map(|text| moment(text, name, now_utc_us())).transpose();
        let since_utc_us = moment(self.since.as_deref(), "since")?;
        let until_utc_us = moment(self.until.as_deref(), "until")?;
        let direction = match self.direction.as_deref() {
            None => None,
            Some(word) => Some(
                Direction::from_word(word)
                    .ok_or_else(|| Problem::wrong(format!("{word:?} is no direction"), "write in or out"))?,
            ),
        };
        let result = match self.result.as_deref() {
            None => None,
            Some(word) => Some(CallResult::from_word(word).ok_or_else(|| {
                let all: Vec<&str> = CallResult::ALL.into_iter().map(CallResult::as_str).collect();
                Problem::wrong(format!("{word:?} is no result"), format!("write one of {}", all.join(", ")))
            })?),
        };
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Problem::wrong(format!("the limit is {limit}"), "write 1 to 1000"));
        }
        Ok(Query {
            since_utc_us,
            until_utc_us,
            number: self.number,
            direction,
            result,
            line: self.line,
            cursor: self.cursor,
            limit,
        })
    }
}

/// A moment as people write it: RFC 3339, a date (UTC), or an age such as `90s`, `15m`, `2h` or `7d`.
fn moment(text: &str, name: &str, now_utc_us: i64) -> Result<i64, Problem> {
    let text = text.trim();
    // A plus sign that was not encoded is a space in a query.
    let restored = text.replace(' ', "+");
    if let Ok(moment) = restored.parse::<jiff::Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && let Ok(moment) = date.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(moment.timestamp().as_microsecond());
    }
    let unit = match text.chars().last() {
        Some('s') => Some(1),
        Some('m') => Some(60),
        Some('h') => Some(3600),
        Some('d') => Some(86_400),
        _ => None,
    };
    let amount = text.get(..text.len().saturating_sub(1)).and_then(|amount| amount.parse::<u32>().ok());
    if let (Some(unit), Some(amount)) = (unit, amount) {
        return Ok(now_utc_us.saturating_sub(i64::from(amount).saturating_mul(unit * 1_000_000)));
    }
    let hint = "write 2026-11-21T08:00:00Z, 2026-11-21, or an age such as 2h or 7d";
    Err(Problem::wrong(format!("`{name}` is no time"), hint))
}

pub(super) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(search): Asked<Search>,
) -> Answer {
    let shape = shape(search.format.as_deref(), &headers)?;
    let lifetime = search.links.map(recordings::lifetime).transpose()?;
    if lifetime.is_some() && !allows(caller.role, Role::Operate) {
        let hint = "ask without `links`, or with a token of the role operate";
        let message = "links to recordings need the role operate";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message, hint));
    }
    let page = app.office.archive.journal(search.query()?).await?;
    let link = |entry: &Entry| {
        let (path, _) =
            recordings::new_link(&app, entry.recording_id.as_deref()?, lifetime?, None, Times::Any)?;
        Some(path)
    };
    let rows: Vec<Shown<'_>> =
        page.entries.iter().map(|entry| Shown { entry, recording_link: link(entry) }).collect();
    if let Some(shape) = shape {
        let config = app.office.config.borrow().clone();
        let zone = &config.device.timezone;
        let rows = rows.iter().map(|Shown { entry, recording_link }| Row {
            entry,
            call: None,
            recording_link: recording_link.as_deref(),
            zone,
        });
        return Ok(csv(shape.render(rows), page.next));
    }
    Ok(Json(json!({ "entries": rows, "next": page.next })).into_response())
}

/// A leg as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// A path that opens its recording, where links were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_link: Option<String>,
}

fn csv(text: String, next: Option<u64>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response();
    if let Some(next) = next {
        response.headers_mut().insert("x-next-cursor", HeaderValue::from(next));
    }
    response
}

/// The shape of CSV that is wanted: by name, or by what the asker takes; `None` for JSON.
fn shape(format: Option<&str>, headers: &HeaderMap) -> Result<Option<&'static Shape>, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match format {
        Some("json") => Ok(None),
        Some(name) => Shape::named(name).map(Some).ok_or_else(|| {
            let names: Vec<&str> = cdr::SHAPES.iter().map(|shape| shape.name).collect();
            Problem::wrong(format!("{name:?} is no format"), format!("write json, {}", names.join(", ")))
        }),
        None if accept.split(',').any(|kind| kind.trim().starts_with("text/csv")) => Ok(Shape::named("csv")),
        None => Ok(None),
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    since: Option<String>,
    until: Option<String>,
    by: Option<String>,
    line: Option<String>,
}

pub(super) async fn report(State(app): State<App>, Asked(wanted): Asked<Wanted>) -> Answer {
    let by = match wanted.by.as_deref() {
        None | Some("day") => By::Day,
        Some("hour") => By::Hour,
        Some("line") => By::Line,
        Some(word) => return Err(Problem::wrong(format!("{word:?} is no row"), "write day, hour or line")),
    };
    let moment = |text: Option<&str>, name| text.map(|text| moment(text, name, now_utc_us())).transpose();
    let mut query = Query {
        since_utc_us: moment(wanted.since.as_deref(), "since")?,
        until_utc_us: moment(wanted.until.as_deref(), "until")?,
        line: wanted.line,
        limit: LARGEST_PAGE,
        ..Query::default()
    };
    let config = app.office.config.borrow().clone();
    let mut report = Report::new(by);
    // Page by page: the store has others to serve in between.
    loop {
        let page = app.office.archive.journal(query.clone()).await?;
        page.entries.iter().for_each(|entry| report.add(entry, &config.device.timezone));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let (rows, all) = report.finish();
    let rows: Vec<Value> = rows.iter().map(|(key, sums)| labelled(key, sums)).collect();
    Ok(Json(json!({ "rows": rows, "all": all })).into_response())
}

fn labelled(key: &str, sums: &Sums) -> Value {
    let mut row = serde_json::to_value(sums).unwrap_or_default();
    row["key"] = key.into();
    row
}

#[derive(Deserialize)]
pub(super) struct Whose {
    id: Option<String>,
    number: Option<String>,
}

pub(super) async fn erase(State(app): State<App>, Asked(whose): Asked<Whose>) -> Answer {
    let whose = match (whose.id, whose.number) {
        (Some(id), None) if !id.is_empty() => Erase::Call(id),
        (None, Some(number)) if number.chars().any(char::is_alphanumeric) => Erase::Number(number),
        _ => {
            let hint = "write ?id=CALL or ?number=NUMBER";
            return Err(Problem::wrong("it is not said whose data is to be erased", hint));
        }
    };
    erased(&app, whose).await
}

pub(super) async fn erase_call(State(app): State<App>, Named(id): Named) -> Answer {
    erased(&app, Erase::Call(id)).await
}

/// Erases it all, and goes on when whoever asked has gone: nobody would know of the other half.
async fn erased(app: &App, whose: Erase) -> Answer {
    let app = app.clone();
    let erasing = tokio::spawn(async move { erase_all(&app, whose).await });
    erasing.await.unwrap_or_else(|_| {
        Err(Problem::unavailable("unfinished", "the erasure came to an early end", "ask for it again"))
    })
}

/// Recordings first: as long as the rows are there, what could not be finished can be asked for again.
async fn erase_all(app: &App, whose: Erase) -> Answer {
    let Concerned { ids, recordings: named } = app.office.archive.concerned(whose.clone()).await?;
    let mut recordings = erase_recordings(app, ids, named).await?;
    let erased = app.office.archive.erase(whose, now_utc_us()).await?;
    // A call may have been recorded since.
    recordings += erase_recordings(app, erased.ids, erased.recordings).await?;
    let (calls, events) = (erased.calls, erased.events);
    if let Some(why) = erased.old_copies {
        let what = format!("{calls} calls, {events} events and {recordings} recordings are erased");
        let message = format!("{what}, but old copies of them could not be overwritten yet: {why}");
        return Err(Problem::unavailable("copies_kept", message, "ask for it again"));
    }
    Ok(Json(json!({ "calls": calls, "events": events, "recordings": recordings })).into_response())
}

/// Deletes the recordings of these calls, and those that they name, and tells of each; how many there were.
async fn erase_recordings(app: &App, calls: Vec<String>, named: Vec<String>) -> Result<usize, Problem> {
    let config = app.office.config.borrow().clone();
    let folder = config.recordings().display().to_string();
    let deleting = tokio::task::spawn_blocking(move || {
        let (mut deleted, mut kept) = (Vec::new(), Vec::new());
        for name in recordings::of_calls(&config, &calls).into_iter().chain(named) {
            // The name comes from the store; a file of another folder is not what was asked for.
            match recordings::file(&config, &name).map(std::fs::remove_file) {
                Some(Ok(())) => deleted.push(name),
                Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Some(Err(error)) => kept.push(format!("{name}: {error}")),
                None => kept.push(format!("{name}: no name of a recording")),
            }
        }
        (deleted, kept)
    });
    let failed = |_| (Vec::new(), vec!["the deletion came to an early end".to_owned()]);
    let (deleted, kept) = deleting.await.unwrap_or_else(failed);
    let count = deleted.len();
    for recording_id in deleted {
        recordings::tell_deleted(app, recording_id, "erased");
        // The phone has other things to do meanwhile, and takes so many words at a time.
        tokio::time::sleep(BETWEEN_WORDS).await;
    }
    if !kept.is_empty() {
        let hint = format!("delete it by hand in {folder}, and ask for it again");
        return Err(Problem::unavailable("recording_kept", kept.join("; "), hint));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = 1_795_000_000_000_000;
        let read = |text: &str| moment(text, "since", now).ok();
        assert_eq!(read("2026-11-21T08:00:00Z"), Some(1_795_248_000_000_000));
        assert_eq!(read("2026-11-21T10:00:00 02:00"), Some(1_795_248_000_000_000), "an unencoded plus");
        assert_eq!(read("2026-11-21"), Some(1_795_219_200_000_000));
        assert_eq!(read("90s"), Some(now - 90_000_000));
        assert_eq!(read("7d"), Some(now - 7 * 86_400_000_000));
        for wrong in ["", "d", "yesterday", "-1d", "5 days", "99999999999d", "ü"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}

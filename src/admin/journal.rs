//! Past calls: searched, given as JSON or CSV, and erased when somebody asks for it.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Caller, allows};
use super::answer::{Answer, Problem};
use super::request::{Asked, Named};
use super::{App, now_utc_us, recordings};
use crate::config::Role;
use crate::events::cloud_event::rfc3339;
use crate::events::store::{Entry, Erase, Query};
use crate::events::{CallResult, Direction, Party};

/// Rows of a page, where nobody says how many.
const PAGE: u32 = 100;
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
}

impl Search {
    fn query(self) -> Result<Query, Problem> {
        let since_utc_us = self.since.as_deref().map(|since| moment(since, now_utc_us())).transpose()?;
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
fn moment(text: &str, now_utc_us: i64) -> Result<i64, Problem> {
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
    Err(Problem::wrong("`since` is no time", hint))
}

pub(super) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(search): Asked<Search>,
) -> Answer {
    let lifetime = search.links.map(recordings::lifetime).transpose()?;
    if lifetime.is_some() && !allows(caller.role, Role::Operate) {
        let hint = "ask without `links`, or with a token of the role operate";
        let message = "links to recordings need the role operate";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message, hint));
    }
    let page = app.office.archive.journal(search.query()?).await?;
    let link = |entry: &Entry| {
        let (path, _) = recordings::new_link(&app, entry.recording_id.as_deref()?, lifetime?, None)?;
        Some(path)
    };
    let rows: Vec<Row<'_>> =
        page.entries.iter().map(|entry| Row { entry, recording_link: link(entry) }).collect();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.split(',').any(|kind| kind.trim().starts_with("text/csv")) {
        return Ok(csv_response(&rows, page.next));
    }
    Ok(Json(json!({ "entries": rows, "next": page.next })).into_response())
}

/// A leg as it is shown.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// A path that opens its recording, where links were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_link: Option<String>,
}

fn csv_response(rows: &[Row<'_>], next: Option<u64>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(rows)).into_response();
    if let Some(next) = next {
        response.headers_mut().insert("x-next-cursor", HeaderValue::from(next));
    }
    response
}

/// The columns of the CSV.
const COLUMNS: &str = "started,call_id,line,direction,caller,caller_name,called,called_name,result,\
                       ring_s,talk_s,status,q850,cause,codec,mos,recording_id,did,recording_link\r\n";

/// Rows as RFC 4180 has them.
fn csv(rows: &[Row<'_>]) -> String {
    let mut text = COLUMNS.to_owned();
    for Row { entry, recording_link } in rows {
        let leg = &entry.leg;
        let quality = entry.quality.as_ref();
        let cells = [
            rfc3339(entry.started_utc_us),
            entry.call_id.clone(),
            leg.line.clone(),
            leg.direction.as_str().to_owned(),
            dialled(&leg.caller),
            leg.caller.name.clone().unwrap_or_default(),
            dialled(&leg.called),
            leg.called.name.clone().unwrap_or_default(),
            entry.result.map(CallResult::as_str).unwrap_or_default().to_owned(),
            seconds(entry.ring_us),
            seconds(entry.talk_us),
            entry.cause.status.map(|it| it.to_string()).unwrap_or_default(),
            entry.cause.q850.map(|it| it.to_string()).unwrap_or_default(),
            entry.cause.text.clone().unwrap_or_default(),
            quality.map(|it| it.codec.clone()).unwrap_or_default(),
            quality.and_then(|it| it.mos).map(|it| format!("{it:.2}")).unwrap_or_default(),
            entry.recording_id.clone().unwrap_or_default(),
            leg.did.as_ref().map(|number| number.dialled.clone()).unwrap_or_default(),
            recording_link.clone().unwrap_or_default(),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn dialled(party: &Party) -> String {
    party.number.as_ref().map(|number| number.dialled.clone()).unwrap_or_default()
}

fn seconds(us: u64) -> String {
    format!("{:.3}", us as f64 / 1e6)
}

/// A cell. What a stranger names itself must not become a formula in a spreadsheet; a telephone number stays
/// one.
fn quoted(cell: &str) -> String {
    let number = cell.strip_prefix('+').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !number;
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
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

async fn erased(app: &App, whose: Erase) -> Answer {
    let erased = app.office.archive.erase(whose, now_utc_us()).await?;
    let config = app.office.config.borrow().clone();
    let mut kept = Vec::new();
    for name in &erased.recordings {
        // The name comes from the store; a file of another folder is not what was asked for.
        match recordings::file(&config, name).map(std::fs::remove_file) {
            Some(Ok(())) => {}
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Some(Err(error)) => kept.push(format!("{name}: {error}")),
            None => kept.push(format!("{name}: no name of a recording")),
        }
    }
    if !kept.is_empty() {
        let hint = format!("delete it by hand in {}", recordings::folder(&config).display());
        return Err(Problem::unavailable("recording_kept", kept.join("; "), hint));
    }
    let recordings = erased.recordings.len();
    Ok(Json(json!({ "calls": erased.calls, "events": erased.events, "recordings": recordings }))
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = 1_795_000_000_000_000;
        let read = |text: &str| moment(text, now).ok();
        assert_eq!(read("2026-11-21T08:00:00Z"), Some(1_795_248_000_000_000));
        assert_eq!(read("2026-11-21T10:00:00 02:00"), Some(1_795_248_000_000_000), "an unencoded plus");
        assert_eq!(read("2026-11-21"), Some(1_795_219_200_000_000));
        assert_eq!(read("90s"), Some(now - 90_000_000));
        assert_eq!(read("7d"), Some(now - 7 * 86_400_000_000));
        for wrong in ["", "d", "yesterday", "-1d", "5 days", "99999999999d", "ü"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_cell_is_never_a_formula_and_never_breaks_a_row() {
        assert_eq!(quoted("+74951234567"), "+74951234567");
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(quoted("+1+cmd|' /C calc'!A0"), "'+1+cmd|' /C calc'!A0");
        assert_eq!(quoted("a,b\r\nc"), "\"a,b\r\nc\"");
    }
}

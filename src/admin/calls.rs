//! Calls: begin, answer, end and change them.

use std::time::Instant;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Answer, Problem};
use super::idempotency::{Kept, Standing};
use super::monitor::snapshot;
use super::request::{Named, Nothing, Told, body};
use super::{App, now_utc_us};
use crate::phone::command::{Command, RecordAction, Reply};

/// What stands for the one call that can only be meant.
const CURRENT: &str = "current";

/// Asks the phone, and renders what it says.
pub(super) async fn ask(app: &App, caller: &Caller, command: Command) -> Answer {
    Ok(match app.office.desk.ask(command, caller.origin).await? {
        Reply::Done => Json(json!({ "done": true })).into_response(),
        Reply::Call(call) => Json(call).into_response(),
        Reply::Status(status) => Json(status).into_response(),
    })
}

fn meant(id: String) -> Option<String> {
    (id != CURRENT).then_some(id)
}

pub(super) async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    Ok(Json(json!({ "calls": snapshot.calls })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dial {
    to: String,
    #[serde(default)]
    line: Option<String>,
}

pub(super) async fn dial(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    let key = request.headers().get("idempotency-key").cloned();
    let body = body(request).await?;
    let claim = match &key {
        None => None,
        Some(key) => {
            // A key of other octets than ASCII is refused like any wrong one.
            let key = key.to_str().unwrap_or_default();
            match app.repeats.claim(&caller.name, key, &body, Instant::now())? {
                Standing::New(claim) => Some(claim),
                Standing::Repeated(kept) => return Ok(again(kept)),
            }
        }
    };
    let Told(Dial { to, line }) = Told::<Dial>::from_request(Request::new(body.into()), &()).await?;
    match app.office.desk.ask(Command::Call { to, line }, caller.origin).await? {
        Reply::Call(call) => {
            let id = call.id.clone();
            let body = serde_json::to_string(&call).unwrap_or_default();
            if let Some(claim) = claim {
                claim.granted(Kept { status: StatusCode::CREATED, body: body.clone() });
            }
            let mut response = text(StatusCode::CREATED, body);
            if let Ok(location) = HeaderValue::try_from(format!("/api/v1/calls/{id}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Reply::Done | Reply::Status(_) => {
            Err(Problem::unavailable("busy", "the phone gave no call", "see `tipring status`"))
        }
    }
}

fn text(status: StatusCode, json: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn again(kept: Kept) -> Response {
    let mut response = text(kept.status, kept.body);
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

pub(super) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    let now =
        snapshot.calls.iter().find(|call| call.id == id || (id == CURRENT && snapshot.calls.len() == 1));
    let id = now.map_or(id, |call| call.id.clone());
    let legs = app.office.archive.call(id.clone()).await?;
    if now.is_none() && legs.is_empty() {
        let hint = "GET /api/v1/calls lists the calls of now, GET /api/v1/journal those of the past";
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_call",
            format!("there is no call {id}"),
            hint,
        ));
    }
    let serial = snapshot.serial.as_str();
    let events = app.office.archive.events_of_call(id.clone()).await?;
    let events: Vec<Value> =
        events.iter().filter_map(|event| serde_json::from_str(&event.to_json(serial)).ok()).collect();
    let mut shown = match now {
        Some(call) => serde_json::to_value(call).unwrap_or_default(),
        None => json!({ "id": id, "state": "ended" }),
    };
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("legs".into(), serde_json::to_value(&legs).unwrap_or_default());
        shown.insert("events".into(), events.into());
        shown.insert("asked_utc_us".into(), now_utc_us().into());
    }
    Ok(Json(shown).into_response())
}

/// What acts on a call and needs no further word.
macro_rules! actions {
    ($($name:ident => $command:expr;)*) => {
        $(pub(super) async fn $name(
            State(app): State<App>,
            Extension(caller): Extension<Caller>,
            Named(id): Named,
            Told(Nothing {}): Told<Nothing>,
        ) -> Answer {
            let command: fn(Option<String>) -> Command = $command;
            ask(&app, &caller, command(meant(id))).await
        })*
    };
}

actions! {
    answer => |call| Command::Answer { call };
    hang_up => |call| Command::HangUp { call };
    hold => |call| Command::Hold { call };
    resume => |call| Command::Resume { call };
    mute => |call| Command::Mute { call, on: true };
    unmute => |call| Command::Mute { call, on: false };
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    #[serde(default)]
    status: Option<u16>,
}

pub(super) async fn reject(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Told(Reject { status }): Told<Reject>,
) -> Answer {
    ask(&app, &caller, Command::Reject { call: meant(id), status: status.unwrap_or(486) }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dtmf {
    digits: String,
}

pub(super) async fn dtmf(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Told(Dtmf { digits }): Told<Dtmf>,
) -> Answer {
    ask(&app, &caller, Command::Dtmf { call: meant(id), digits }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    action: String,
}

pub(super) async fn record(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Told(Record { action }): Told<Record>,
) -> Answer {
    let action = match action.as_str() {
        "start" => RecordAction::Start,
        "pause" => RecordAction::Pause,
        "resume" => RecordAction::Resume,
        "stop" => RecordAction::Stop,
        _ => return Err(Problem::wrong("the action is none", "write start, pause, resume or stop")),
    };
    ask(&app, &caller, Command::Record { call: meant(id), action }).await
}

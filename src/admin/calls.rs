//! Calls: begin, answer, end and change them.

use std::time::Instant;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Answer, Problem};
use super::idempotency::{Kept, Standing};
use super::monitor::snapshot;
use super::request::{About, Nothing, Told, body};
use super::{App, now_utc_us};
use crate::events::support_log;
use crate::phone::command::{Callback, Command, Destination, End, RecordAction, Reply};

/// What stands for the one call that can only be meant.
const CURRENT: &str = "current";

/// A call, as the path names it.
fn meant(id: &str) -> Option<String> {
    (id != CURRENT).then(|| id.to_owned())
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
    once(&app, &caller, request, |Dial { to, line }, _| Command::Call { to, line }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    from: String,
    to: String,
    #[serde(default)]
    line: Option<String>,
}

pub(super) async fn callback(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    once(&app, &caller, request, |Join { from, to, line }, request| {
        let end = |number, line| End { number, line };
        let (from, to) = (end(from, line.clone()), end(to, line));
        Command::Callback(Callback { from, to, ring_for: None, request })
    })
    .await
}

/// Begins a call, and no second one where the request is repeated with its key.
async fn once<T: DeserializeOwned>(
    app: &App,
    caller: &Caller,
    request: Request,
    command: impl FnOnce(T, Option<String>) -> Command,
) -> Answer {
    let key = request.headers().get("idempotency-key").cloned();
    // A key of other octets than ASCII is refused like any wrong one.
    let key = key.map(|key| key.to_str().unwrap_or_default().to_owned());
    let body = body(request).await?;
    let claim = match &key {
        None => None,
        Some(key) => match app.repeats.claim(&caller.name, key, &body, Instant::now())? {
            Standing::New(claim) => Some(claim),
            Standing::Repeated(kept) => return Ok(again(kept)),
        },
    };
    let Told(told) = Told::<T>::from_request(Request::new(body.into()), &()).await?;
    match app.office.desk.ask(command(told, key), caller.origin).await? {
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
        // What was dialled is no number: it says something of the agent.
        Reply::Done => Ok(Json(json!({ "done": true })).into_response()),
        Reply::Routes(_) | Reply::Status(_) => {
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

pub(super) async fn show(About { app, caller, name: id }: About) -> Answer {
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

/// One call as supporters read it.
pub(super) async fn log(About { app, name: id, .. }: About) -> Answer {
    let events = app.office.archive.events_of_call(id.clone()).await?;
    if events.is_empty() {
        let hint = "GET /api/v1/journal lists the calls of the past";
        let message = format!("nothing is kept of a call {id}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_call", message, hint));
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, support_log::render(&events)).into_response())
}

pub(super) async fn answer(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Answer { call: meant(&about.name) }).await
}

pub(super) async fn hang_up(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::HangUp { call: meant(&about.name) }).await
}

pub(super) async fn hold(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Hold { call: meant(&about.name) }).await
}

pub(super) async fn resume(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Resume { call: meant(&about.name) }).await
}

pub(super) async fn mute(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Mute { call: meant(&about.name), on: true }).await
}

pub(super) async fn unmute(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Mute { call: meant(&about.name), on: false }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    #[serde(default)]
    status: Option<u16>,
}

pub(super) async fn reject(about: About, Told(Reject { status }): Told<Reject>) -> Answer {
    about.ask(Command::Reject { call: meant(&about.name), status: status.unwrap_or(486) }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dtmf {
    digits: String,
}

pub(super) async fn dtmf(about: About, Told(Dtmf { digits }): Told<Dtmf>) -> Answer {
    about.ask(Command::Dtmf { call: meant(&about.name), digits }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    call: Option<String>,
}

pub(super) async fn transfer(about: About, Told(Transfer { to, call }): Told<Transfer>) -> Answer {
    let to = match (to, call) {
        (Some(target), None) => Destination::Target(target),
        (None, Some(call)) => Destination::Call(call),
        _ => {
            let hint = "give `to`, a number, or `call`, the id of another answered call";
            return Err(Problem::wrong("it is not said who gets the call", hint));
        }
    };
    about.ask(Command::Transfer { call: meant(&about.name), to }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    action: String,
}

pub(super) async fn record(about: About, Told(Record { action }): Told<Record>) -> Answer {
    let action = match action.as_str() {
        "start" => RecordAction::Start,
        "pause" => RecordAction::Pause,
        "resume" => RecordAction::Resume,
        "stop" => RecordAction::Stop,
        _ => return Err(Problem::wrong("the action is none", "write start, pause, resume or stop")),
    };
    about.ask(Command::Record { call: meant(&about.name), action }).await
}

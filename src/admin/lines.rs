//! Lines: their registration and do-not-disturb.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::access::Caller;
use super::answer::Answer;
use super::calls::ask;
use super::monitor::snapshot;
use super::request::{Named, Nothing, Told};
use crate::phone::command::Command;

/// The name that means all lines.
const ALL: &str = "*";

pub(super) async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    Ok(Json(json!({ "lines": snapshot.lines })).into_response())
}

pub(super) async fn register(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(line): Named,
    Told(Nothing {}): Told<Nothing>,
) -> Answer {
    ask(&app, &caller, Command::Register { line }).await
}

pub(super) async fn unregister(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(line): Named,
    Told(Nothing {}): Told<Nothing>,
) -> Answer {
    ask(&app, &caller, Command::Unregister { line }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DoNotDisturb {
    on: bool,
}

pub(super) async fn dnd(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(line): Named,
    Told(DoNotDisturb { on }): Told<DoNotDisturb>,
) -> Answer {
    let line = (line != ALL).then_some(line);
    ask(&app, &caller, Command::DoNotDisturb { line, on }).await
}

//! Lines: their registration and do-not-disturb, and which of them takes a number.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::access::Caller;
use super::answer::Answer;
use super::monitor::snapshot;
use super::request::{About, Nothing, Told, ask};
use crate::events::AgentState;
use crate::phone::command::Command;

/// The name that means all lines.
const ALL: &str = "*";

impl About {
    /// The line that is meant; `None` means all of them.
    fn line(&self) -> Option<String> {
        (self.name != ALL).then(|| self.name.clone())
    }
}

pub(super) async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    Ok(Json(json!({ "lines": snapshot.lines })).into_response())
}

pub(super) async fn register(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Register { line: about.name.clone() }).await
}

pub(super) async fn unregister(about: About, _: Told<Nothing>) -> Answer {
    about.ask(Command::Unregister { line: about.name.clone() }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DoNotDisturb {
    on: bool,
}

pub(super) async fn dnd(about: About, Told(DoNotDisturb { on }): Told<DoNotDisturb>) -> Answer {
    let line = about.line();
    about.ask(Command::DoNotDisturb { line, on }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    state: AgentState,
}

pub(super) async fn agent(about: About, Told(Agent { state }): Told<Agent>) -> Answer {
    let line = about.line();
    about.ask(Command::Agent { line, state }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbers {
    numbers: Vec<String>,
    #[serde(default)]
    line: Option<String>,
}

pub(super) async fn route(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Told(Numbers { numbers, line }): Told<Numbers>,
) -> Answer {
    ask(&app, &caller, Command::Route { numbers, line }).await
}

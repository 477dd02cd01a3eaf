//! What is looked at from outside: alive, ready, and the whole state.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::access::Caller;
use super::answer::{Answer, Problem};
use super::request::Asked;
use super::upstreams;
use crate::phone::command::{Command, Reply};
use crate::phone::snapshot::Snapshot;

/// How long a state waits for its last event to be kept. A disk that takes longer is told of as degraded.
const KEEPING: Duration = Duration::from_secs(1);

/// The state, once every event that it includes is kept, with what is degraded at the API's own doors.
pub(super) async fn snapshot(app: &App, caller: &Caller) -> Result<Snapshot, Problem> {
    let Reply::Status(mut snapshot) = app.office.desk.ask(Command::Status, caller.origin).await? else {
        return Err(Problem::unavailable("busy", "the phone gave no state", "try again"));
    };
    if let Some(before) = snapshot.sequence.checked_sub(1) {
        let mut archive = app.office.archive.clone();
        let _ = tokio::time::timeout(KEEPING, archive.newer_than(before)).await;
    }
    snapshot.degraded.extend(app.troubles());
    Ok(*snapshot)
}

pub(super) async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "alive": true }))
}

#[derive(Deserialize)]
pub(super) struct Strictly {
    #[serde(default)]
    strict: Option<String>,
}

pub(super) async fn readyz(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(Strictly { strict }): Asked<Strictly>,
) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    let strict = strict.is_some_and(|strict| strict == "1" || strict == "true");
    let mut degraded = snapshot.degraded;
    let waiting =
        snapshot.lines.iter().filter(|line| matches!(line.state, "registering" | "retrying" | "rejected"));
    for line in waiting {
        if !degraded.iter().any(|known| known.contains(&line.name)) {
            degraded.push(format!("line {} is {}", line.name, line.state));
        }
    }
    let ready = !strict || degraded.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(json!({ "ready": ready, "degraded": degraded }))).into_response())
}

pub(super) async fn status(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let snapshot = snapshot(&app, &caller).await?;
    let mut shown = serde_json::to_value(&snapshot).unwrap_or_default();
    // As the events write it: a number of JSON does not hold 64 bits everywhere.
    shown["sequence"] = format!("{:020}", snapshot.sequence).into();
    shown["upstreams"] = json!(upstreams::views(&app).await);
    Ok(Json(shown).into_response())
}

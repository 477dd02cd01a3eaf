//! Upstreams: how they are, and what somebody wants of them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::answer::{Answer, Problem};
use super::request::{About, Nothing, Told};
use crate::events::upstream::desk::{Change, UpstreamError, View};

/// How long the state of everything waits for that of the upstreams.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn list(State(app): State<App>) -> Answer {
    Ok(Json(json!({ "upstreams": app.office.upstreams.list().await? })).into_response())
}

/// All upstreams, for pages that show more than them; none if they do not answer at once.
pub(super) async fn views(app: &App) -> Vec<View> {
    let asked = tokio::time::timeout(PATIENCE, app.office.upstreams.list()).await;
    asked.ok().and_then(Result::ok).unwrap_or_default()
}

pub(super) async fn test(about: About, _: Told<Nothing>) -> Answer {
    let tested = about.app.office.upstreams.test(about.name.clone()).await?;
    Ok(Json(tested).into_response())
}

pub(super) async fn pause(about: About, _: Told<Nothing>) -> Answer {
    change(about, Change::Pause).await
}

pub(super) async fn resume(about: About, _: Told<Nothing>) -> Answer {
    change(about, Change::Resume).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: u64,
}

pub(super) async fn replay(about: About, Told(Since { since }): Told<Since>) -> Answer {
    change(about, Change::Replay(since)).await
}

async fn change(about: About, change: Change) -> Answer {
    let view = about.app.office.upstreams.change(about.name.clone(), change).await?;
    Ok(Json(view).into_response())
}

impl From<UpstreamError> for Problem {
    fn from(error: UpstreamError) -> Problem {
        let message = error.to_string();
        match error {
            UpstreamError::Unknown { known, .. } if known.is_empty() => {
                let hint = "the configuration has no [[upstream]]";
                Problem::new(StatusCode::NOT_FOUND, "no_such_upstream", message, hint)
            }
            UpstreamError::Unknown { known, .. } => {
                let hint = format!("the upstreams are: {}", known.join(", "));
                Problem::new(StatusCode::NOT_FOUND, "no_such_upstream", message, hint)
            }
            UpstreamError::Future { .. } => {
                Problem::wrong(message, "give a number that GET /api/v1/events has")
            }
            UpstreamError::Subscription(error) => error.into(),
            UpstreamError::Busy => Problem::unavailable(
                "busy",
                message,
                "the appliance is starting, stopping or overloaded: try again",
            ),
        }
    }
}

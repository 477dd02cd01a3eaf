//! What stands between this device and its PBX.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::App;
use super::answer::{Answer, Problem};
use super::request::Told;

/// Where it is asked for.
pub(super) const PATH: &str = "/api/v1/doctor";
/// The longest lifetime of a mapping that is looked for, in seconds.
pub(super) const LONGEST_LIFETIME_S: u64 = 600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    lifetime_s: Option<u64>,
}

pub(super) async fn doctor(State(app): State<App>, Told(Wanted { lifetime_s }): Told<Wanted>) -> Answer {
    if lifetime_s.is_some_and(|seconds| !(5..=LONGEST_LIFETIME_S).contains(&seconds)) {
        let hint = format!("write a number from 5 to {LONGEST_LIFETIME_S}, or leave it out");
        return Err(Problem::wrong("lifetime_s is out of range", hint));
    }
    let diagnosis = app.office.desk.examine(lifetime_s.map(Duration::from_secs)).await?;
    Ok(Json(diagnosis).into_response())
}

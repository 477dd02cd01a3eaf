//! The configuration in force, and reading it again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::App;
use super::answer::{Answer, Problem};
use super::request::{Nothing, Told};

pub(super) async fn config(State(app): State<App>) -> Answer {
    let config = app.office.config.borrow().clone();
    Ok(Json(config.masked()).into_response())
}

pub(super) async fn reload(State(app): State<App>, Told(Nothing {}): Told<Nothing>) -> Answer {
    match app.office.desk.reload().await {
        Ok(()) => Ok(Json(json!({ "applied": true })).into_response()),
        Err(findings) => {
            let message = match findings.as_slice() {
                [only] => only.clone(),
                all => format!("the configuration has {} mistakes", all.len()),
            };
            let hint = "the configuration from before stays in force; mend the file and reload again";
            let mut problem =
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "config_rejected", message, hint);
            problem.more = Some(("findings", json!(findings)));
            Err(problem)
        }
    }
}

//! The last SIP messages.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::answer::Answer;
use super::request::Asked;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    line: Option<String>,
    #[serde(default)]
    call: Option<String>,
    #[serde(default)]
    after: Option<u64>,
}

pub(super) async fn trace(State(app): State<App>, Asked(wanted): Asked<Wanted>) -> Answer {
    let Wanted { line, call, after } = wanted;
    let after = after.unwrap_or(0);
    let desk = &app.office.desk;
    let mut messages = desk.trace(after, line.clone(), call.clone()).await;
    if let Some(call) = call
        && messages.is_empty()
    {
        // The phone knows the calls of now; those of the past have their Call-IDs in the journal.
        for leg in app.office.archive.call(call).await? {
            if let Some(sip_call_id) = leg.leg.sip_call_id {
                messages.extend(desk.trace(after, line.clone(), Some(sip_call_id)).await);
            }
        }
        messages.sort_by_key(|message| message.number);
    }
    Ok(Json(json!({ "messages": messages })).into_response())
}

//! Subscriptions to the events of an extension, in the shape that Ringme and Telphin have for them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::access::{Caller, allows};
use super::answer::{Answer, Problem};
use super::request::{Named, Told};
use crate::config::Role;
use crate::events::upstream::desk::{Subscribed, SubscriptionWish};
use crate::events::upstream::subscription::{Applicant, SubscriptionError, Wanted};

#[derive(Deserialize)]
pub(super) struct New {
    url: String,
    event_type: String,
    #[serde(default = "post")]
    method: String,
}

fn post() -> String {
    "POST".to_owned()
}

pub(super) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(extension): Named,
) -> Answer {
    let who = applicant(&caller);
    let all = app.office.upstreams.subscription(extension, who.clone(), SubscriptionWish::List).await?;
    let all: Vec<Value> = all.iter().map(|it| shown(it, &who)).collect();
    Ok(Json(all).into_response())
}

pub(super) async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(extension): Named,
    Told(New { url, event_type, method }): Told<New>,
) -> Answer {
    let who = applicant(&caller);
    let wanted = Wanted { extension: extension.clone(), event: event_type, url, method };
    let added =
        app.office.upstreams.subscription(extension, who.clone(), SubscriptionWish::Add(wanted)).await?;
    let mut answer = added.first().map_or(Value::Null, |it| shown(it, &who));
    if let Some(proposal) = added.first().and_then(|it| it.proposal.as_deref()) {
        answer["warning"] = "this URL can be guessed: whoever does sends events of his own there".into();
        answer["proposal"] = proposal.into();
    }
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

pub(super) async fn end(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, u32)>, axum::extract::rejection::PathRejection>,
) -> Answer {
    let Ok(Path((extension, id))) = path else {
        return Err(Problem::wrong(
            "the subscription in the path is no number",
            "write it as the API gave it",
        ));
    };
    let who = applicant(&caller);
    let ended = app.office.upstreams.subscription(extension, who.clone(), SubscriptionWish::End(id)).await?;
    Ok(Json(ended.first().map_or(Value::Null, |it| shown(it, &who))).into_response())
}

fn applicant(caller: &Caller) -> Applicant {
    Applicant { name: caller.name.clone(), admin: allows(caller.role, Role::Admin) }
}

/// A subscription in Telphin's shape, and whose it is. The URL is the secret of whoever gave it.
fn shown(subscribed: &Subscribed, who: &Applicant) -> Value {
    let it = &subscribed.subscription;
    let url = if it.owner == who.name { it.url.whole() } else { it.url.masked() };
    json!({
        "id": it.id,
        "extension_id": it.extension,
        "event_type": it.event,
        "url": url,
        "method": it.method.as_str(),
        "owner": it.owner,
    })
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Problem {
        let message = error.to_string();
        let (status, code, hint) = match error {
            SubscriptionError::NoExtension { known, .. } => {
                let hint = format!("the extensions are the lines: {}", known.join(", "));
                (StatusCode::NOT_FOUND, "no_such_extension", hint)
            }
            SubscriptionError::Unknown { .. } => {
                let hint = "GET the same path without the number lists yours".to_owned();
                (StatusCode::NOT_FOUND, "no_such_subscription", hint)
            }
            SubscriptionError::Wrong { instead, .. } => (StatusCode::BAD_REQUEST, "bad_request", instead),
            SubscriptionError::Full { .. } => {
                let hint = "delete some, or have [subscriptions] limit raised".to_owned();
                (StatusCode::CONFLICT, "too_many_subscriptions", hint)
            }
            SubscriptionError::Foreign { .. } => {
                let hint = "only they, and the role admin, can end it".to_owned();
                (StatusCode::FORBIDDEN, "not_yours", hint)
            }
            SubscriptionError::NotKept(_) => {
                let hint = "see `tipring status` for what is degraded, and try again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "store", hint)
            }
        };
        Problem::new(status, code, message, hint)
    }
}

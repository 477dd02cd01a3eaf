//! What a request brings: its path, its query and its body, each refused in words that say what to write
//! instead.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::App;
use super::access::Caller;
use super::answer::{Answer, Problem};
use crate::phone::command::{Command, Reply};

/// Bytes of a body.
const LARGEST_BODY: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Bytes of a name in the path.
const LONGEST_NAME: usize = 256;

/// The name in the path: a call or a line.
pub(super) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) if name.len() <= LONGEST_NAME && !name.chars().any(char::is_control) => {
                Ok(Named(name))
            }
            _ => Err(Problem::wrong("the name in the path is no name", "write it as the API gave it")),
        }
    }
}

/// Who asks, and about which call or line.
pub(super) struct About {
    pub app: App,
    pub caller: Caller,
    /// The name in the path.
    pub name: String,
}

impl FromRequestParts<App> for About {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<About, Problem> {
        let Named(name) = Named::from_request_parts(parts, app).await?;
        let Extension(caller) = Extension::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::unavailable("busy", "nobody asks", "connect again"))?;
        Ok(About { app: app.clone(), caller, name })
    }
}

impl About {
    /// Asks the phone, and renders what it says.
    pub async fn ask(&self, command: Command) -> Answer {
        ask(&self.app, &self.caller, command).await
    }
}

/// Asks the phone for somebody, and renders what it says.
pub(super) async fn ask(app: &App, caller: &Caller, command: Command) -> Answer {
    Ok(match app.office.desk.ask(command, caller.origin).await? {
        Reply::Done => Json(json!({ "done": true })).into_response(),
        Reply::Call(call) => Json(call).into_response(),
        Reply::Routes(routes) => Json(json!({ "routes": routes })).into_response(),
        Reply::Status(status) => Json(status).into_response(),
    })
}

/// The query of a request.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, Problem> {
        let query = Query::try_from_uri(&parts.uri).map_err(|error| {
            use std::error::Error;
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let hint = "GET /api/v1/openapi.json lists the parameters of each path";
            Problem::wrong(format!("the query can't be read: {why}"), hint)
        })?;
        Ok(Asked(query.0))
    }
}

/// The body of a POST; an empty one counts as `{}`.
pub(super) struct Told<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Told<T>, Problem> {
        let body = body(request).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        let told = serde_json::from_slice(text).map_err(|error| {
            let hint = "send one JSON object with the fields that GET /api/v1/openapi.json names";
            Problem::wrong(format!("the body can't be used: {error}"), hint)
        })?;
        Ok(Told(told))
    }
}

/// The whole body, within its limits.
pub(super) async fn body(request: Request) -> Result<axum::body::Bytes, Problem> {
    let read = axum::body::to_bytes(request.into_body(), LARGEST_BODY);
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the body is larger than 64 KiB, or broke off",
            "send a smaller one",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body did not arrive within 10 seconds",
            "send it at once",
        )),
    }
}

/// An empty object: the body of what needs no more words.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

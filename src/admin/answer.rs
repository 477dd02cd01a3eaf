//! How the API says no: `{"error": {"code", "message", "hint"}}` with the status that fits.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::events::archive::ArchiveError;
use crate::phone::command::{Blame, Refusal};

/// A request that was not granted.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable name for programs, in snake case.
    pub code: &'static str,
    /// What is the matter, for people.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// More for programs, beside the three.
    pub more: Option<(&'static str, Value)>,
}

impl Problem {
    /// A problem in one line.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem { status, code, message: message.into(), hint: hint.into(), more: None }
    }

    /// The request is wrong (400).
    pub fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message, hint)
    }

    /// Something that is needed is not there now (503).
    pub fn unavailable(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, message, hint)
    }

    /// There is no such path (404).
    pub fn no_path(path: &str) -> Problem {
        let path: String = path.chars().take(80).collect();
        let hint = "GET /api/v1/openapi.json lists what there is";
        Problem::new(StatusCode::NOT_FOUND, "no_such_path", format!("there is no {path}"), hint)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let status = match refusal.blame {
            Blame::Wish => StatusCode::BAD_REQUEST,
            Blame::NotFound => StatusCode::NOT_FOUND,
            Blame::State => StatusCode::CONFLICT,
            Blame::Rule => StatusCode::FORBIDDEN,
            Blame::Environment => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, refusal.code, refusal.message, refusal.hint)
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Problem {
        let hint = "calls go on; see `tipring status` for what is degraded";
        Problem::unavailable("store", error.to_string(), hint)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message, "hint": self.hint });
        if let (Some((name, value)), Some(error)) = (self.more, error.as_object_mut()) {
            error.insert(name.to_owned(), value);
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer, Basic realm=\"tipring\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// What a handler answers.
pub type Answer = Result<Response, Problem>;

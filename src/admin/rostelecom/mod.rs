//! The methods of Rostelecom's virtual PBX, answered for a CRM that asks this phone as it would ask the PBX.
//!
//! `POST /rostelecom/UPSTREAM/METHOD`: clients put the word of a method behind an address that they are given, and the name
//! of the upstream in it says whose code and key a request must be signed with. The signature is all that counts: a token
//! is no substitute, and it opens nothing else. It is a plain hash over the body, so that whoever overhears a request can
//! send it again: who may ask at all is a list of addresses, and what acts is done once within a time.

mod calls;
mod gzip;
mod history;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::access::{self, PATIENCE, Peer, patiently, same_secret};
use super::answer::Problem;
use super::idempotency::{Kept, Standing};
use super::{App, lock};
use crate::config::{self, Config, UpstreamKind};
use crate::events::upstream::rostelecom::call_info::Place;
use crate::events::upstream::rostelecom::requests::{self, Method, Misread};
use crate::events::upstream::rostelecom::sign;
use crate::phone::command::Refusal;
pub(super) use history::Orders;

/// Requests of one upstream in a minute.
const PER_MINUTE: u32 = 120;
/// How long a request that acted is not carried out again.
const REPLAY: Duration = Duration::from_secs(60);
/// What is not granted has this result.
const NO: i64 = -20;

/// A request that is believed.
struct Asked {
    app: App,
    config: Arc<Config>,
    /// Where it stands in the configuration.
    index: usize,
    /// The Host that it was sent to.
    host: Option<String>,
}

impl Asked {
    fn settings(&self) -> Option<&config::Upstream> {
        self.config.upstream.get(self.index)
    }

    fn place(&self) -> Place<'_> {
        let settings = self.settings().map(|it| &it.rostelecom);
        let of = |what: fn(&config::dialects::Rostelecom) -> &Option<String>| {
            settings.and_then(|it| what(it).as_deref())
        };
        Place { domain: of(|it| &it.domain), pin: of(|it| &it.pin) }
    }

    fn name(&self) -> &str {
        self.settings().map_or("", |it| &it.name)
    }

    /// Whether the upstream may know of calls over this line.
    fn knows(&self, line: &str) -> bool {
        self.settings().is_some_and(|it| it.lines.is_empty() || it.lines.iter().any(|known| known == line))
    }

    /// The domain of somebody's address on this line.
    fn domain_of<'a>(&'a self, line: &'a config::Line) -> &'a str {
        self.place().domain.unwrap_or(line.domain.as_str())
    }
}

/// Why a request is not granted, in one line for people.
#[derive(Debug)]
struct No {
    status: StatusCode,
    why: String,
}

impl No {
    /// The way in which their own methods say no: 200, and a result.
    fn new(why: impl Into<String>) -> No {
        No { status: StatusCode::OK, why: why.into() }
    }

    fn with(status: StatusCode, why: impl Into<String>) -> No {
        No { status, why: why.into() }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "result": NO, "resultMessage": self.why }))).into_response()
    }
}

impl From<Misread> for No {
    fn from(misread: Misread) -> No {
        No::with(StatusCode::BAD_REQUEST, misread.to_string())
    }
}

impl From<Problem> for No {
    fn from(problem: Problem) -> No {
        let status = if problem.status.is_server_error() { problem.status } else { StatusCode::OK };
        No::with(status, format!("{}; {}", problem.message, problem.hint))
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> No {
        No::new(refusal.to_string())
    }
}

/// What a method comes to, its `result` besides.
type Outcome = Result<Map<String, Value>, No>;

/// Answers a method.
pub(super) async fn answer(
    State(app): State<App>,
    Path((upstream, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    patiently(&app.clone(), PATIENCE, async {
        match admitted(app, &upstream, &method, request).await {
            Ok(response) => response,
            Err(response) => response,
        }
    })
    .await
}

/// Who is not on the list is told nothing, not even whether there is such an upstream.
fn silence() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

async fn admitted(app: App, upstream: &str, method: &str, request: Request) -> Result<Response, Response> {
    let peer = request.extensions().get::<Peer>().copied();
    let Some(Peer::Remote(from)) = peer else { return Err(silence()) };
    let config = app.office.config.borrow().clone();
    let answers = |it: &config::Upstream| {
        it.kind == UpstreamKind::Rostelecom && it.rostelecom.answer && it.name == upstream
    };
    let index = config.upstream.iter().position(answers);
    let listed = |index: &usize| {
        let settings = config.upstream.get(*index).map(|it| &it.rostelecom);
        settings.is_some_and(|it| it.allow.iter().any(|network| network.contains(from.ip())))
    };
    let Some(index) = index.filter(listed) else {
        access::refused(&app, "rostelecom", from, None).await;
        return Err(silence());
    };
    let headers = request.headers().clone();
    let body = super::request::body(request).await.map_err(|problem| {
        let status = problem.status;
        No { status, ..No::from(problem) }.into_response()
    })?;
    let asked = Asked { host: host(&headers), app, config: config.clone(), index };
    let Some(signature) = asked.settings().and_then(|it| signature(&headers, &body, it)) else {
        access::refused(&asked.app, "rostelecom", from, Some(upstream.to_owned())).await;
        let why = "X-Client-ID or X-Client-Sign is wrong; sign code, body and key, to the byte";
        return Err(No::with(StatusCode::UNAUTHORIZED, why).into_response());
    };
    asked.app.attempts.right(from.ip());
    granted(asked, method, &body, signature).await.map_err(No::into_response)
}

async fn granted(asked: Asked, method: &str, body: &[u8], signature: String) -> Result<Response, No> {
    let (app, spender) = (asked.app.clone(), format!("rostelecom:{}", asked.name()));
    if !lock(&app.ledger).spend(&spender, PER_MINUTE, app.now()) {
        let why = format!("these are more than {PER_MINUTE} requests in a minute; ask more slowly");
        return Err(No::with(StatusCode::TOO_MANY_REQUESTS, why));
    }
    let method = Method::from_word(method)
        .ok_or_else(|| No::with(StatusCode::NOT_FOUND, "there is no such method"))?;
    let request = requests::read(method, body)?;
    let claim = match method.acts() {
        false => None,
        // What was refused may be asked again: a recording that is not ready is asked for until it is.
        true => {
            let asker = format!("{spender}/{}", method.as_str());
            match app.repeats.claim_for(REPLAY, &asker, &signature, body, Instant::now())? {
                Standing::New(claim) => Some(claim),
                Standing::Repeated(_) => {
                    let why = "this request was carried out already; send it again after a minute";
                    return Err(No::new(why));
                }
            }
        }
    };
    let outcome = match request {
        requests::Request::UsersInfo { domain, pin } => calls::users_info(&asked, domain, pin).await,
        requests::Request::CallInfo { session } => calls::call_info(&asked, session).await,
        requests::Request::GetRecord { session, address } => {
            calls::get_record(&asked, session, address).await
        }
        requests::Request::CallBack { number, from } => calls::call_back(&asked, number, from).await,
        requests::Request::DomainCallHistory(wanted) => history::order(&asked, wanted),
        requests::Request::DownloadCallHistory { order } => return history::download(asked, &order),
    }?;
    if let Some(claim) = claim {
        claim.granted(Kept { status: StatusCode::OK, body: String::new() });
    }
    Ok(Json(outcome).into_response())
}

/// What was signed with, if code and signature are those of this upstream, each there once.
fn signature(headers: &HeaderMap, body: &[u8], settings: &config::Upstream) -> Option<String> {
    let only = |name| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).and_then(|it| it.to_str().ok())
    };
    let (client, key) = (settings.rostelecom.client_id.as_deref()?, settings.rostelecom.key.reveal());
    let (id, shown) = (only("x-client-id")?, only("x-client-sign")?.to_ascii_lowercase());
    let right = same_secret(id, client) & same_secret(&shown, &sign(client, body, key)) & !key.is_empty();
    right.then_some(shown)
}

/// The Host of a request, as far as a link can be made of it.
fn host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
    (plain && (1..=255).contains(&host.len())).then(|| host.to_owned())
}

/// What was granted, with the fields of its method.
fn yes(fields: Value) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("result".to_owned(), 0.into());
    answer.insert("resultMessage".to_owned(), "".into());
    if let Value::Object(fields) = fields {
        answer.extend(fields);
    }
    answer
}

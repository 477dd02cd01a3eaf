//! Who may ask what: the local socket by the rights of its file and the peer's user, the network by token or
//! password.
//!
//! A web page in a browser on this machine reaches loopback too, so a token is wanted there as well, `Host`
//! must be a name that no stranger's DNS can point here, and a request that names an `Origin` must name this
//! one.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::answer::Problem;
use super::doctor;
use super::links::{Link, Useless};
use super::recordings::now_utc_s;
use super::{App, Shared, routes};
use crate::config::{Admin, Role};
use crate::events::Origin;

/// How long a request may be worked on.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Characters of a path with its query.
const LONGEST_PATH: usize = 2048;
/// A header that carries a token, for `/api/v2`.
const WEBITEL_TOKEN: HeaderName = HeaderName::from_static("x-access-token");
/// Where recordings are, which a link opens.
const RECORDINGS: &str = "/api/v1/recordings/";
/// Characters of a name in an event about somebody who was refused.
const LONGEST_NAME: usize = 64;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// The local socket, and the user at its other end.
    Local { uid: u32, owner: bool },
    /// The network.
    Remote(SocketAddr),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// `user:anna`, `token:crm`, `uid:1000`; empty for somebody unknown.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// A command or a program.
    pub origin: Origin,
}

/// How long a request of this path may be worked on: a diagnosis waits as long as a mapping may live that it looks for.
fn patience(path: &str) -> Duration {
    let lifetime = if path == doctor::PATH { doctor::LONGEST_LIFETIME_S } else { 0 };
    PATIENCE + Duration::from_secs(lifetime)
}

/// Stands before every handler.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    patiently(&app, patience(request.uri().path()), async {
        match admit(&app, &mut request).await {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    })
    .await
}

/// An answer that comes in time, with what all of them have.
pub(super) async fn patiently(
    app: &App,
    patience: Duration,
    answer: impl Future<Output = Response>,
) -> Response {
    let mut response = tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} seconds", patience.as_secs());
        Problem::unavailable("busy", what, "try again").into_response()
    });
    app.answered.fetch_add(1, Ordering::Relaxed);
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn admit(app: &App, request: &mut Request) -> Result<(), Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    let Some(peer) = peer else {
        return Err(Problem::unavailable("busy", "the connection has no other end", "connect again"));
    };
    if request.uri().path_and_query().is_some_and(|it| it.as_str().len() > LONGEST_PATH) {
        let message = "the path is longer than 2048 characters";
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "path_too_long", message, "shorten the query"));
    }
    let config = app.office.config.borrow().clone();
    let name = config.device.name.as_deref();
    let identified = identify(request.headers(), peer, &config.admin);
    // A link says all by itself, by whatever name of this device it comes; a browser sends none along by itself.
    let by_link_alone = request.uri().path().starts_with(RECORDINGS)
        && matches!(identified, Err(Stranger { given: false, .. }));
    if !by_link_alone && let Err(problem) = same_place(request.headers(), peer, name) {
        turned_away(app, peer, None).await;
        return Err(problem);
    }
    let route = request.extensions().get::<MatchedPath>().map(|it| it.as_str().to_owned());
    let route = route.and_then(|path| routes::find(request.method(), &path));
    let open = route.is_some_and(|route| route.role.is_none());
    let caller = match identified {
        Ok(caller) => caller,
        Err(_) if open => Caller { name: String::new(), role: Role::View, origin: Origin::Api },
        Err(_) if by_link_alone => by_link(app, peer, request).inspect_err(|_| {
            app.refused.fetch_add(1, Ordering::Relaxed);
        })?,
        Err(Stranger { given, user }) => {
            if given {
                turned_away(app, peer, user).await;
            }
            app.refused.fetch_add(1, Ordering::Relaxed);
            let message =
                if given { "the token or password is wrong" } else { "a token or password is needed" };
            let hint =
                "send Authorization: Bearer TOKEN with a token of [admin] tokens, or use the local socket";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message, hint));
        }
    };
    if let Peer::Remote(address) = peer
        && !open
    {
        app.attempts.right(address.ip());
    }
    let needed = route.and_then(|route| route.role).unwrap_or(Role::View);
    if !allows(caller.role, needed) {
        app.refused.fetch_add(1, Ordering::Relaxed);
        app.office.desk.intruder(interface(peer), from(peer), Some(shortened(&caller.name)));
        let message = format!(
            "this needs the role {}, and {} has {}",
            needed.as_str(),
            caller.name,
            caller.role.as_str()
        );
        let hint = match peer {
            Peer::Local { .. } => "run it as root or as the user that runs tipring",
            Peer::Remote(_) => "use a token with that role; roles are given in [admin]",
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message, hint));
    }
    if *request.method() == Method::POST && !is_json(request.headers()) {
        let hint = "send Content-Type: application/json, and {} where there is nothing to say";
        let message = "the body is not declared as JSON";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message, hint));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Whoever has a link to this recording, and may do nothing else with it than hear it.
fn by_link(app: &Shared, peer: Peer, request: &Request) -> Result<Caller, Useless> {
    let id = request.uri().path().strip_prefix(RECORDINGS).unwrap_or_default();
    let from = match peer {
        Peer::Local { .. } => None,
        Peer::Remote(address) => Some(address.ip()),
    };
    let link = Query::<Link>::try_from_uri(request.uri()).map_err(|_| Useless::Absent)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Useless::Absent);
    }
    app.links.check(id, &link, from, now_utc_s(), request.method() == Method::GET)?;
    Ok(Caller { name: "link".to_owned(), role: Role::Operate, origin: Origin::Api })
}

/// Tells of somebody who was refused, and makes them wait.
async fn turned_away(app: &Shared, peer: Peer, user: Option<String>) {
    match peer {
        Peer::Remote(address) => refused(app, interface(peer), address, user).await,
        Peer::Local { .. } => {
            app.refused.fetch_add(1, Ordering::Relaxed);
            app.office.desk.intruder(interface(peer), from(peer), user);
        }
    }
}

/// Tells of somebody in the network who was refused at an interface, and makes them wait, longer each time.
pub(super) async fn refused(app: &Shared, interface: &str, address: SocketAddr, user: Option<String>) {
    app.refused.fetch_add(1, Ordering::Relaxed);
    let consequence = app.attempts.wrong(address.ip(), Instant::now());
    if consequence.worth_telling {
        app.office.desk.intruder(interface, address.to_string(), user);
    }
    tokio::time::sleep(consequence.wait).await;
}

fn interface(peer: Peer) -> &'static str {
    match peer {
        Peer::Local { .. } => "socket",
        Peer::Remote(_) => "api",
    }
}

fn from(peer: Peer) -> String {
    match peer {
        Peer::Local { uid, .. } => format!("uid:{uid}"),
        Peer::Remote(address) => address.to_string(),
    }
}

fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

/// Whether a role includes another.
pub(super) fn allows(has: Role, needs: Role) -> bool {
    let rank = |role| match role {
        Role::View => 0,
        Role::Operate => 1,
        Role::Admin => 2,
    };
    rank(has) >= rank(needs)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Whether the request was meant for this place: its `Host` is no name that a stranger's DNS could have
/// pointed here, and an `Origin` is this one.
fn same_place(headers: &HeaderMap, peer: Peer, device: Option<&str>) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    if matches!(peer, Peer::Remote(_)) && (hosts.next().is_some() || !is_own_host(host, device)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong_host",
            "the Host of the request is not this device",
            "address it by its IP address, as localhost or by [device] name",
        ));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let authority =
            origin.to_str().ok().and_then(|it| it.split_once("://")).map(|(_, authority)| authority);
        if host.is_empty() || authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "wrong_origin",
                "a page of another site may not use this API",
                "ask from a program, or from a page that this device serves",
            ));
        }
    }
    Ok(())
}

fn is_own_host(host: &str, device: Option<&str>) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let name = name.strip_suffix(".local").unwrap_or(name);
    bare.is_some_and(|it| it.parse::<IpAddr>().is_ok())
        || name.eq_ignore_ascii_case("localhost")
        || (!name.is_empty() && device.is_some_and(|device| device.eq_ignore_ascii_case(name)))
}

/// Somebody without rights.
#[derive(Debug, PartialEq, Eq)]
struct Stranger {
    /// Whether they tried to show any.
    given: bool,
    /// The name that they gave.
    user: Option<String>,
}

fn identify(headers: &HeaderMap, peer: Peer, admin: &Admin) -> Result<Caller, Stranger> {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let origin = if agent.starts_with("tipring/") { Origin::Command } else { Origin::Api };
    if let Peer::Local { uid, owner } = peer {
        let role = if owner || uid == 0 { Role::Admin } else { Role::Operate };
        return Ok(Caller { name: format!("uid:{uid}"), role, origin });
    }
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
    let shown = text(header::AUTHORIZATION).unwrap_or_default().split_once(' ');
    // Clients of Webitel show their token like this.
    let shown = shown.or_else(|| Some(("bearer", text(WEBITEL_TOKEN)?)));
    let Some((scheme, shown)) = shown else {
        return Err(Stranger { given: headers.contains_key(header::AUTHORIZATION), user: None });
    };
    let shown = shown.trim();
    let mut found = None;
    let mut user = None;
    if scheme.eq_ignore_ascii_case("bearer") {
        for token in &admin.tokens {
            if same_secret(shown, token.token.reveal()) {
                found = Some(Caller { name: format!("token:{}", token.name), role: token.role, origin });
            }
        }
    } else if scheme.eq_ignore_ascii_case("basic") {
        let text =
            STANDARD.decode(shown).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (name, password) = text.split_once(':').unwrap_or_default();
        user = Some(shortened(name)).filter(|name| !name.is_empty());
        for known in &admin.users {
            let named = same_secret(name, &known.name);
            if same_secret(password, known.password.reveal()) & named {
                found = Some(Caller { name: format!("user:{}", known.name), role: known.role, origin });
            }
        }
    }
    found.ok_or(Stranger { given: true, user })
}

/// What somebody has shown to get an answer that goes on: the right to it may end before.
pub(super) struct Pass {
    shown: HeaderMap,
    peer: Peer,
}

impl Pass {
    /// The pass of a request that was let in.
    pub fn of(headers: &HeaderMap, peer: Peer) -> Pass {
        let fields = [header::AUTHORIZATION, WEBITEL_TOKEN].into_iter();
        let shown = fields.filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        Pass { shown: shown.collect(), peer }
    }

    /// Whether it still lets somebody with this role in.
    pub fn holds(&self, admin: &Admin, needed: Role) -> bool {
        identify(&self.shown, self.peer, admin).is_ok_and(|caller| allows(caller.role, needed))
    }
}

/// Whether two texts are the same, in a time that tells nothing about where they differ. An empty secret is
/// nobody's.
pub(super) fn same_secret(shown: &str, secret: &str) -> bool {
    let (shown, hash) = (Sha256::digest(shown), Sha256::digest(secret));
    let differs = shown.iter().zip(hash.iter()).fold(0, |differs, (a, b)| differs | (a ^ b));
    (std::hint::black_box(differs) == 0) & !secret.is_empty()
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

//! The table of routes, the router and the description of the API say the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::access::Peer;
use super::routes::ROUTES;
use super::{Office, Shared, openapi, routes};
use crate::config::{Config, Role};
use crate::events::archive::Archive;
use crate::events::tail::Tail;
use crate::events::upstream::desk::Upstreams;
use crate::phone::desk::Desk;

/// An office whose phone and store have gone: what gets through to them is answered with 503.
fn empty(text: &str) -> axum::Router {
    let config = Config::parse(text, "tipring.toml").expect("a configuration");
    let (desk, _) = Desk::open();
    let (jobs, _) = std::sync::mpsc::sync_channel(1);
    let archive = Archive::new(jobs, watch::channel(Tail::default()).1);
    let office = Office {
        desk,
        archive,
        upstreams: Upstreams::open().0,
        config: watch::channel(config.into()).1,
        tls: watch::channel(None).1,
    };
    routes::router(Shared::new(office, watch::channel(false).1))
}

async fn status(
    router: &axum::Router,
    peer: Peer,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> StatusCode {
    answer(router, peer, method, path, fields).await.0
}

/// The status, and what the answer says.
async fn answer(
    router: &axum::Router,
    peer: Peer,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from("{}")).expect("a request");
    request.extensions_mut().insert(peer);
    let answered = TowerToHyperService::new(router.clone()).call(request).await;
    let (head, body) = answered.expect("an answer").into_parts();
    // A stream of events has no end.
    let ends = head.headers.get("content-type").is_none_or(|kind| kind != "text/event-stream");
    let body = if ends { axum::body::to_bytes(body, 1 << 20).await.expect("a body") } else { "".into() };
    (head.status, String::from_utf8_lossy(&body).into_owned())
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

fn filled(path: &str) -> String {
    path.replace("{id}", "c1").replace("{name}", "main")
}

const OWNER: Peer = Peer::Local { uid: 0, owner: true };
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn every_route_of_the_table_is_routed() {
    let router = empty("");
    run(async {
        for route in ROUTES {
            let (status, said) = answer(&router, OWNER, route.method, &filled(route.path), &[JSON]).await;
            let missing = status == StatusCode::METHOD_NOT_ALLOWED || said.contains("no_such_path");
            assert!(!missing, "{} {} is {status}: {said}", route.method, route.path);
        }
        assert_eq!(status(&router, OWNER, "GET", "/api/v1/nothing", &[]).await, StatusCode::NOT_FOUND);
        let put = status(&router, OWNER, "PUT", "/api/v1/status", &[]).await;
        assert_eq!(put, StatusCode::METHOD_NOT_ALLOWED);
    });
}

#[test]
fn the_router_has_no_route_that_the_table_lacks() {
    let known: BTreeSet<(&str, &str)> = ROUTES.iter().map(|route| (route.path, route.method)).collect();
    assert_eq!(known.len(), ROUTES.len(), "a route is there twice");
    let router = empty("");
    let paths: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
    run(async {
        for path in paths {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let status = status(&router, OWNER, method, &filled(path), &[JSON]).await;
                let routed = status != StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(routed, known.contains(&(path, method)), "{method} {path} is {status}");
            }
        }
    });
}

#[test]
fn every_role_may_do_what_the_table_says_and_no_more() {
    let token = |name: &str| {
        format!("[[admin.tokens]]\nname = {name:?}\ntoken = \"token-of-{name}\"\nrole = {name:?}\n")
    };
    let router = empty(&["view", "operate", "admin"].map(token).concat());
    let peer = Peer::Remote(SocketAddr::from(([127, 0, 0, 1], 40_000)));
    run(async {
        for route in ROUTES {
            for (name, role) in [("view", Role::View), ("operate", Role::Operate), ("admin", Role::Admin)] {
                let bearer = format!("Bearer token-of-{name}");
                let fields = [("host", "localhost"), ("authorization", bearer.as_str()), JSON];
                let status = status(&router, peer, route.method, &filled(route.path), &fields).await;
                let may = route.role.is_none_or(|needed| super::access::allows(role, needed));
                let what = format!("{name}: {} {} is {status}", route.method, route.path);
                assert_eq!(status != StatusCode::FORBIDDEN, may, "{what}");
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{what}");
            }
        }
    });
}

#[test]
fn without_a_token_only_healthz_answers_on_the_network() {
    let router = empty("");
    let peer = Peer::Remote(SocketAddr::from(([127, 0, 0, 1], 40_000)));
    run(async {
        for route in ROUTES {
            let fields = [("host", "127.0.0.1:8080"), JSON];
            let status = status(&router, peer, route.method, &filled(route.path), &fields).await;
            let expected = if route.path == "/healthz" { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(status, expected, "{} {}", route.method, route.path);
        }
    });
}

#[test]
fn the_description_names_every_route_with_its_parameters() {
    let description = openapi::description();
    for route in ROUTES {
        let operation = &description["paths"][route.path][route.method.to_lowercase()];
        assert_eq!(operation["summary"], route.summary, "{} {}", route.method, route.path);
        let parameters = operation["parameters"].as_array().expect("a list");
        let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query").count();
        assert_eq!(in_query, route.query.len());
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, route.path.matches('{').count());
    }
    let ids: BTreeSet<&str> = description["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|path| path.as_object().expect("methods").values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    assert_eq!(ids.len(), ROUTES.len(), "an operationId is there twice");
    let dial = &description["paths"]["/api/v1/calls"]["post"];
    assert_eq!(dial["requestBody"]["content"]["application/json"]["schema"]["required"][0], "to");
    assert_eq!(dial["responses"]["201"]["description"], "done");
}

#[test]
fn methods_are_found_as_they_are_written() {
    assert!(routes::find(&Method::HEAD, "/healthz").is_some());
    assert!(routes::find(&Method::DELETE, "/healthz").is_none());
}

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::Config;

const REMOTE: Peer = Peer::Remote(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000));
const MEMBER: Peer = Peer::Local { uid: 1000, owner: false };

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn admin() -> Admin {
    let text = "[[admin.users]]\nname = \"anna\"\npassword = \"correct horse\"\nrole = \"operate\"\n\
                [[admin.tokens]]\nname = \"crm\"\ntoken = \"0123456789abcdef\"\nrole = \"view\"\n";
    Config::parse(text, "tipring.toml").expect("a configuration").admin
}

fn placed(peer: Peer, fields: &[(&str, &str)]) -> Result<(), &'static str> {
    same_place(&headers(fields), peer, Some("Reception")).map_err(|problem| {
        assert_eq!(problem.status, StatusCode::FORBIDDEN);
        problem.code
    })
}

#[test]
fn the_host_must_be_this_device() {
    for own in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST:8080",
        "reception",
        "Reception.local:8080",
    ] {
        assert_eq!(placed(REMOTE, &[("host", own)]), Ok(()), "{own}");
    }
    for foreign in
        ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "", "[evil]", ":8080"]
    {
        assert_eq!(placed(REMOTE, &[("host", foreign)]), Err("wrong_host"), "{foreign}");
    }
    assert_eq!(placed(REMOTE, &[]), Err("wrong_host"));
    assert_eq!(placed(REMOTE, &[("host", "localhost"), ("host", "evil.example")]), Err("wrong_host"));
    assert_eq!(placed(MEMBER, &[("host", "tipring")]), Ok(()), "no web page reaches the socket");
}

#[test]
fn a_page_of_another_site_is_refused() {
    let host = ("host", "127.0.0.1:8080");
    assert_eq!(placed(REMOTE, &[host, ("origin", "http://127.0.0.1:8080")]), Ok(()));
    for foreign in ["http://evil.example", "null", "http://127.0.0.1:3000", "http://127.0.0.1", "file://", ""]
    {
        assert_eq!(placed(REMOTE, &[host, ("origin", foreign)]), Err("wrong_origin"), "{foreign}");
        assert_eq!(
            placed(MEMBER, &[("host", "localhost"), ("origin", foreign)]),
            Err("wrong_origin"),
            "{foreign}"
        );
    }
}

#[test]
fn a_token_or_a_password_shows_who_asks() {
    let admin = admin();
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let known = |value: &str| {
        identify(&headers(&[("authorization", value)]), REMOTE, &admin).map(|it| (it.name, it.role))
    };
    assert_eq!(known("Bearer 0123456789abcdef"), Ok(("token:crm".into(), Role::View)));
    assert_eq!(known("bearer  0123456789abcdef "), Ok(("token:crm".into(), Role::View)));
    assert_eq!(known(&basic("anna:correct horse")), Ok(("user:anna".into(), Role::Operate)));
    let stranger = |user: Option<&str>| Err(Stranger { given: true, user: user.map(str::to_owned) });
    assert_eq!(known("Bearer 0123456789abcdeF"), stranger(None));
    assert_eq!(known("Bearer"), stranger(None));
    assert_eq!(known("Bearer "), stranger(None));
    assert_eq!(known(&basic("anna:wrong")), stranger(Some("anna")));
    assert_eq!(known(&basic("crm:0123456789abcdef")), stranger(Some("crm")));
    assert_eq!(known(&basic(":")), stranger(None));
    assert_eq!(known("Basic %%%"), stranger(None));
    assert_eq!(known("Digest username=\"anna\""), stranger(None));
    let nothing = identify(&headers(&[]), REMOTE, &admin);
    assert_eq!(nothing, Err(Stranger { given: false, user: None }));
}

#[test]
fn an_empty_secret_lets_nobody_in() {
    assert!(!same_secret("", ""));
    assert!(same_secret("a", "a"));
    assert!(!same_secret("a", "b"));
}

#[test]
fn on_the_socket_the_user_decides() {
    let role =
        |uid, owner| identify(&headers(&[]), Peer::Local { uid, owner }, &admin()).map(|caller| caller.role);
    assert_eq!(role(0, false), Ok(Role::Admin));
    assert_eq!(role(990, true), Ok(Role::Admin));
    assert_eq!(role(1000, false), Ok(Role::Operate));
}

#[test]
fn the_command_line_is_told_from_programs() {
    let origin =
        |agent: &str| identify(&headers(&[("user-agent", agent)]), MEMBER, &admin()).map(|it| it.origin);
    assert_eq!(origin("tipring/0.1.0"), Ok(Origin::Command));
    assert_eq!(origin("curl/8"), Ok(Origin::Api));
}

#[test]
fn only_json_is_json() {
    let json = |kind: &str| is_json(&headers(&[("content-type", kind)]));
    assert!(json("application/json") && json("Application/JSON; charset=utf-8"));
    assert!(
        !json("text/plain")
            && !json("application/x-www-form-urlencoded")
            && !json("")
            && !is_json(&headers(&[]))
    );
}

#[test]
fn what_a_guesser_calls_itself_is_kept_short() {
    assert_eq!(shortened(&"x\n".repeat(200)).len(), LONGEST_NAME);
}

#[test]
fn a_diagnosis_may_take_as_long_as_what_it_looks_for() {
    assert!(patience(doctor::PATH) > Duration::from_secs(doctor::LONGEST_LIFETIME_S));
    assert_eq!(patience("/api/v1/status"), PATIENCE);
}

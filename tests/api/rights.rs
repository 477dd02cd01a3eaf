//! Who is let in: over the network, on the socket, and past the limits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::office::{Asked, PASSWORD, Paper, TOKEN, until};

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn the_network_wants_a_token_on_loopback_too() {
    let paper = Paper::open("token");
    let host = ("Host", "localhost");
    let none = paper.remote("GET", "/api/v1/status", &[host], "");
    assert_eq!((none.status, none.code()), (401, "unauthorized".to_owned()));
    assert!(none.head.contains("www-authenticate: bearer, basic realm=\"tipring\""), "{}", none.head);
    assert!(paper.asked().is_empty(), "who shows nothing is no intruder yet");
    let wrong = paper.remote("GET", "/api/v1/status", &[host, ("Authorization", &bearer("guess"))], "");
    assert_eq!((wrong.status, wrong.code()), (401, "unauthorized".to_owned()));
    until("the phone hears of it", || {
        paper.asked() == [Asked::Intruder { interface: "api".into(), user: None }]
    });
    let token = bearer(TOKEN);
    let right = paper.remote("GET", "/api/v1/status", &[host, ("Authorization", &token)], "");
    assert_eq!(right.status, 200);
    let basic = format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}")));
    let view = [host, ("Authorization", basic.as_str()), ("Content-Type", "application/json")];
    assert_eq!(paper.remote("GET", "/api/v1/journal", &view, "").status, 200);
    let dial = paper.remote("POST", "/api/v1/calls", &view, "{\"to\":\"600\"}");
    assert_eq!((dial.status, dial.code()), (403, "forbidden".to_owned()), "a viewer may not dial");
    until("the phone hears of it", || {
        paper.asked() == [Asked::Intruder { interface: "api".into(), user: Some("user:anna".into()) }]
    });
    let operate = [host, ("Authorization", token.as_str()), ("Content-Type", "application/json")];
    assert_eq!(paper.remote("POST", "/api/v1/calls", &operate, "{\"to\":\"600\"}").status, 201);
    assert_eq!(paper.remote("GET", "/api/v1/config", &operate, "").status, 403, "that is for the role admin");
}

#[test]
fn who_has_no_right_any_more_reads_no_more_events() {
    let paper = Paper::open("revoked");
    let read = |authorization: &str| {
        until("the address opens", || TcpStream::connect(paper.address).is_ok());
        let mut stream = TcpStream::connect(paper.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let fields = format!("Host: localhost\r\nConnection: close\r\nAuthorization: {authorization}");
        write!(stream, "GET /api/v1/events HTTP/1.1\r\n{fields}\r\n\r\n").expect("a request");
        let mut lines = BufReader::new(stream);
        until("the stream is open", || {
            let mut line = String::new();
            lines.read_line(&mut line).expect("a line in time") > 0 && line.starts_with(": events")
        });
        lines
    };
    let mut crm = read(&bearer(TOKEN));
    let mut anna = read(&format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}"))));
    let mut config = (**paper.config.borrow()).clone();
    config.admin.tokens.clear();
    paper.config.send_replace(config.into());
    let mut rest = String::new();
    crm.read_to_string(&mut rest).expect("the end in time");
    assert_eq!(rest.trim(), "0", "it ends, and says so");
    crate::remember(&paper, "p1", "600", "Anna");
    until("the others go on", || {
        let mut line = String::new();
        anna.read_line(&mut line).expect("a line in time") > 0 && line.contains("call.ringing")
    });
}

#[test]
fn a_web_page_can_not_dial() {
    let paper = Paper::open("page");
    let token = bearer(TOKEN);
    let auth = ("Authorization", token.as_str());
    let json = ("Content-Type", "application/json");
    let body = "{\"to\":\"600\"}";
    let rebound = paper.remote("POST", "/api/v1/calls", &[("Host", "evil.example:8080"), auth, json], body);
    assert_eq!((rebound.status, rebound.code()), (403, "wrong_host".to_owned()));
    let address = paper.address.to_string();
    let host = ("Host", address.as_str());
    let crossed =
        paper.remote("POST", "/api/v1/calls", &[host, ("Origin", "http://evil.example"), auth, json], body);
    assert_eq!((crossed.status, crossed.code()), (403, "wrong_origin".to_owned()));
    let form = paper.remote("POST", "/api/v1/calls", &[host, auth, ("Content-Type", "text/plain")], body);
    assert_eq!((form.status, form.code()), (415, "not_json".to_owned()));
    let none = paper.remote("POST", "/api/v1/calls", &[host, auth], body);
    assert_eq!((none.status, none.code()), (415, "not_json".to_owned()));
    assert!(!paper.asked().iter().any(|asked| matches!(asked, Asked::Command(..))), "nothing was dialled");
    let own = format!("http://{address}");
    assert_eq!(
        paper.remote("POST", "/api/v1/calls", &[host, ("Origin", &own), auth, json], body).status,
        201
    );
    assert_eq!(
        paper.remote("OPTIONS", "/api/v1/calls", &[host, ("Origin", "http://evil.example")], "").status,
        403
    );
}

#[test]
fn bodies_heads_and_half_open_connections_are_bounded() {
    let paper = Paper::open("bounds");
    let giant = format!("{{\"to\":\"{}\"}}", "1".repeat(70_000));
    let answer = paper.local("POST", "/api/v1/calls", Some(&giant));
    assert_eq!((answer.status, answer.code()), (413, "body_too_large".to_owned()));
    let long = paper.local("GET", &format!("/api/v1/journal?number={}", "1".repeat(3000)), None);
    assert_eq!((long.status, long.code()), (414, "path_too_long".to_owned()));
    let field = "x".repeat(40_000);
    let head = paper.send("GET", "/healthz", &[("X-Long", &field)], None);
    assert_eq!(head.status, 431, "{}", head.head);
    let mut garbage = UnixStream::connect(paper.socket()).expect("a connection");
    garbage.write_all(&[0xff; 2000]).expect("written");
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400") || answer.is_empty());
    // The doors have room for 96 each: who fills the network's does not keep the socket shut.
    let open: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(paper.address).ok()).collect();
    assert!(open.len() > 96);
    assert_eq!(paper.local("GET", "/healthz", None).status, 200);
    drop(open);
    assert_eq!(paper.remote("GET", "/healthz", &[("Host", "localhost")], "").status, 200, "places come back");
}

#[test]
fn the_socket_belongs_to_its_owner_and_group() {
    let paper = Paper::open("mode");
    let mode = std::fs::metadata(paper.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(paper.local("GET", "/api/v1/config", None).status, 200, "the owner may do everything");
}

#[test]
fn a_socket_that_was_left_behind_is_taken_over() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api-left");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    drop(UnixListener::bind(folder.join("api.sock")).expect("a socket"));
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let paper = Paper::at(folder, free, "");
    assert_eq!(paper.local("GET", "/healthz", None).status, 200);
}

#[test]
fn a_door_that_can_not_be_opened_is_told_and_tried_again() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api-door");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let paper = Paper::at(folder, address, "");
    let mut told = String::new();
    until("it is told", || {
        let ready = paper.local("GET", "/readyz?strict=1", None);
        told = ready.json()["degraded"][0].as_str().unwrap_or_default().to_owned();
        ready.status == 503
    });
    assert!(told.contains(&address.to_string()) && told.contains("change [admin] listen"), "{told}");
    assert_eq!(paper.local("GET", "/readyz", None).status, 200, "the appliance goes on");
    drop(taken);
    until("it is open in the end", || paper.local("GET", "/readyz?strict=1", None).status == 200);
    assert_eq!(paper.remote("GET", "/healthz", &[("Host", "localhost")], "").status, 200);
}

#[test]
fn who_guesses_waits_and_who_knows_does_not() {
    let paper = Paper::open("guesses");
    let guess = bearer("wrong");
    let fields = [("Host", "localhost"), ("Authorization", guess.as_str())];
    let begin = Instant::now();
    for _ in 0..5 {
        assert_eq!(paper.remote("GET", "/api/v1/status", &fields, "").status, 401);
    }
    assert!(begin.elapsed() >= Duration::from_millis(250 + 500 + 1000), "each wrong guess waits longer");
    let token = bearer(TOKEN);
    let right = [("Host", "localhost"), ("Authorization", token.as_str())];
    assert_eq!(paper.remote("GET", "/api/v1/status", &right, "").status, 200);
    assert_eq!(paper.asked().len(), 3, "told at the first, second and fourth guess");
}

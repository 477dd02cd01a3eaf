//! The API over real sockets on loopback, and the commands that talk to it. The phone behind it is a script,
//! the store is the real one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests talk to real sockets")]

mod ami;
mod bitrix24;
mod broker;
mod cdr;
mod commands;
mod dialects;
mod kills;
mod lookup;
mod mqtt;
mod office;
#[path = "../systems/bitrix24.rs"]
mod portal;
#[path = "../systems/receiver.rs"]
mod receiver;
mod recordings;
mod rights;
mod ringme;
mod rostelecom;
mod rostelecom_methods;
mod stream;
mod tls;
mod upstreams;

use office::{Asked, Paper, THEN};
use serde_json::Value;
use tipring::events::store::{Entry, Write};
use tipring::events::{AgentState, CallResult, Cause, Direction, Event, Kind, Leg, Origin, Party};
use tipring::phone::command::{Callback, Command, Destination, End, RecordAction};

pub fn leg(id: &str, number: &str, name: &str) -> Leg {
    Leg {
        leg_id: format!("{id}-1"),
        sip_call_id: Some("r1".into()),
        line: "main".into(),
        direction: Direction::In,
        caller: Party { name: Some(name.into()), ..Party::numbered(number) },
        called: Party::numbered("1001"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    }
}

/// A call of the past, with one event.
pub fn remember(paper: &Paper, id: &str, number: &str, name: &str) {
    let leg = leg(id, number, name);
    paper.tell(Event::of_call(id, Kind::CallRinging { leg: leg.clone() }));
    let mut entry = Entry::begun(id, leg, THEN);
    entry.result = Some(CallResult::Busy);
    entry.cause = Cause::remote(486, "Busy Here");
    paper.keep(Write::Call(Box::new(entry)));
}

#[test]
fn a_call_is_dialled_once_per_key() {
    let paper = Paper::open("dial");
    let body = r#"{"to":"600","line":"main"}"#;
    let key = [("Idempotency-Key", "k-1")];
    let first = paper.send("POST", "/api/v1/calls", &key, Some(body));
    assert_eq!((first.status, first.json()["id"].as_str()), (201, Some("new1")), "{}", first.text);
    assert!(first.head.contains("location: /api/v1/calls/new1"), "{}", first.head);
    let second = paper.send("POST", "/api/v1/calls", &key, Some(body));
    assert_eq!((second.status, &second.text), (201, &first.text));
    assert!(second.head.contains("idempotency-replayed: true"));
    let other = paper.send("POST", "/api/v1/calls", &key, Some(r#"{"to":"601"}"#));
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused".to_owned()));
    let asked = Command::Call { to: "600".into(), line: Some("main".into()) };
    assert_eq!(paper.asked(), [Asked::Command(asked, Origin::Api)], "dialled once");
    let third = paper.local("POST", "/api/v1/calls", Some(body));
    assert_eq!(third.json()["id"], "new2", "without a key each request dials");
    // So it is with a callback, whose events repeat the key.
    paper.asked();
    let (body, key) = (r#"{"from":"102","to":"600","line":"main"}"#, [("Idempotency-Key", "k-2")]);
    let first = paper.send("POST", "/api/v1/callback", &key, Some(body));
    let second = paper.send("POST", "/api/v1/callback", &key, Some(body));
    assert_eq!((first.status, second.status, &second.text), (201, 201, &first.text));
    let end = |number: &str| End { number: number.into(), line: Some("main".into()) };
    let (from, to) = (end("102"), end("600"));
    let asked = Command::Callback(Callback { from, to, ring_for: None, request: Some("k-2".into()) });
    assert_eq!(paper.asked(), [Asked::Command(asked, Origin::Api)], "rung once");
    paper.close();
}

#[test]
fn a_refusal_names_code_message_and_hint_with_its_status() {
    let paper = Paper::open("refusal");
    for (to, status, code) in
        [("barred", 403, "refused"), ("nothing", 400, "wrong_target"), ("offline", 503, "not_registered")]
    {
        let key = [("Idempotency-Key", "again")];
        let answer = paper.send("POST", "/api/v1/calls", &key, Some(&format!("{{\"to\":\"{to}\"}}")));
        assert_eq!(
            (answer.status, answer.code()),
            (status, code.to_owned()),
            "the key of a refused call is free"
        );
    }
    for (method, path, body, status, code) in [
        ("POST", "/api/v1/calls/gone/hangup", "{}", 404, "no_such_call"),
        ("POST", "/api/v1/calls/c1/answer", "{}", 409, "not_ringing"),
        ("GET", "/api/v1/calls/unknown", "", 404, "no_such_call"),
        ("POST", "/api/v1/calls", "{\"to\":", 400, "bad_request"),
        ("POST", "/api/v1/calls", "{\"to\":\"1\",\"form\":\"2\"}", 400, "bad_request"),
        ("POST", "/api/v1/calls", "[]", 400, "bad_request"),
        ("POST", "/api/v1/calls/c1/record", "{\"action\":\"burn\"}", 400, "bad_request"),
        ("POST", "/api/v1/calls/%ff/answer", "{}", 400, "bad_request"),
        ("GET", "/api/v1/journal?limit=0", "", 400, "bad_request"),
        ("GET", "/api/v1/journal?limit=many", "", 400, "bad_request"),
        ("GET", "/api/v1/journal?since=yesterday", "", 400, "bad_request"),
        ("GET", "/api/v1/journal?result=fine", "", 400, "bad_request"),
        ("DELETE", "/api/v1/journal", "", 400, "bad_request"),
        ("DELETE", "/api/v1/journal?number=%2B", "", 400, "bad_request"),
        ("GET", "/api/v1/events?since=x", "", 400, "bad_request"),
        ("GET", "/api/v2", "", 404, "no_such_path"),
        ("PUT", "/api/v1/status", "", 405, "wrong_method"),
    ] {
        let answer = paper.local(method, path, Some(body).filter(|body| !body.is_empty()));
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{method} {path} {body}");
    }
}

#[test]
fn each_path_asks_the_phone_for_its_command() {
    let paper = Paper::open("commands");
    let some = |id: &str| Some(id.to_owned());
    for (path, body, command) in [
        ("calls/c1/answer", "", Command::Answer { call: some("c1") }),
        ("calls/current/answer", "{}", Command::Answer { call: None }),
        ("calls/c1/hangup", "{}", Command::HangUp { call: some("c1") }),
        ("calls/c1/reject", "{}", Command::Reject { call: some("c1"), status: 486 }),
        ("calls/c1/reject", "{\"status\":603}", Command::Reject { call: some("c1"), status: 603 }),
        ("calls/c1/hold", "{}", Command::Hold { call: some("c1") }),
        ("calls/c1/resume", "{}", Command::Resume { call: some("c1") }),
        ("calls/c1/mute", "{}", Command::Mute { call: some("c1"), on: true }),
        ("calls/c1/unmute", "{}", Command::Mute { call: some("c1"), on: false }),
        (
            "calls/c1/transfer",
            "{\"to\":\"102\"}",
            Command::Transfer { call: some("c1"), to: Destination::Target("102".into()) },
        ),
        (
            "calls/c1/transfer",
            "{\"call\":\"c2\"}",
            Command::Transfer { call: some("c1"), to: Destination::Call("c2".into()) },
        ),
        ("calls/c1/dtmf", "{\"digits\":\"1#A\"}", Command::Dtmf { call: some("c1"), digits: "1#A".into() }),
        (
            "calls/c1/record",
            "{\"action\":\"pause\"}",
            Command::Record { call: some("c1"), action: RecordAction::Pause },
        ),
        ("lines/main/register", "{}", Command::Register { line: "main".into() }),
        ("lines/ma%2Fin/unregister", "{}", Command::Unregister { line: "ma/in".into() }),
        ("lines/main/dnd", "{\"on\":true}", Command::DoNotDisturb { line: some("main"), on: true }),
        (
            "agents/main",
            "{\"state\":\"available\"}",
            Command::Agent { line: some("main"), state: AgentState::Available },
        ),
        (
            "agents/*",
            "{\"state\":\"logged_out\"}",
            Command::Agent { line: None, state: AgentState::LoggedOut },
        ),
        ("lines/*/dnd", "{\"on\":false}", Command::DoNotDisturb { line: None, on: false }),
    ] {
        paper.local("POST", &format!("/api/v1/{path}"), Some(body));
        assert_eq!(paper.asked(), [Asked::Command(command, Origin::Api)], "{path}");
    }
    assert_eq!(paper.local("DELETE", "/api/v1/calls/c1", None).status, 200);
    assert_eq!(paper.asked(), [Asked::Command(Command::HangUp { call: some("c1") }, Origin::Api)]);
}

#[test]
fn the_state_waits_for_its_last_event_and_tells_its_number() {
    let paper = Paper::open("status");
    remember(&paper, "p1", "+74951234567", "Anna");
    office::until("the event is kept", || {
        paper.local("GET", "/api/v1/status", None).json()["sequence"] == "00000000000000000001"
    });
    let status = paper.local("GET", "/api/v1/status", None).json();
    assert_eq!(status["lines"][0]["state"], "registered");
    assert_eq!(status["calls"][0]["id"], "c1");
    assert_eq!(paper.local("GET", "/api/v1/calls", None).json()["calls"][0]["number"], "600");
    assert_eq!(paper.local("GET", "/api/v1/lines", None).json()["lines"][0]["name"], "main");
    let ready = paper.local("GET", "/readyz?strict=1", None);
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)), "{}", ready.text);
    let metrics = paper.local("GET", "/metrics", None);
    for line in [
        "tipring_line_registered{line=\"main\",state=\"registered\"} 1\n",
        "tipring_calls{line=\"main\",direction=\"out\"} 1\n",
        "tipring_dropped_total{reason=\"untrusted\"} 7\n",
        "tipring_events_committed 1\n",
        "# TYPE process_cpu_seconds_total counter\n",
    ] {
        assert!(metrics.text.contains(line), "{line} is not in {}", metrics.text);
    }
}

#[test]
fn the_journal_is_searched_paged_given_as_csv_and_erased() {
    let paper = Paper::open("journal");
    for (id, number, name) in
        [("p1", "+74951234567", "=cmd|'x'"), ("p2", "+74957654321", "Anna, B"), ("p3", "8 495 123-45-67", "")]
    {
        remember(&paper, id, number, name);
    }
    let page = paper.local("GET", "/api/v1/journal?limit=2", None).json();
    let ids = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().expect("entries").iter();
        entries.map(|entry| entry["call_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&page), ["p3", "p2"]);
    let rest = paper.local("GET", &format!("/api/v1/journal?cursor={}", page["next"]), None).json();
    assert_eq!((ids(&rest), &rest["next"]), (vec!["p1".to_owned()], &Value::Null));
    let found =
        paper.local("GET", "/api/v1/journal?number=%2B74951234567&direction=in&result=busy", None).json();
    assert_eq!(ids(&found), ["p3", "p1"]);
    assert!(ids(&paper.local("GET", "/api/v1/journal?since=2026-11-22", None).json()).is_empty());

    let csv = paper.send("GET", "/api/v1/journal?limit=2", &[("Accept", "text/csv")], None);
    assert!(
        csv.head.contains("content-type: text/csv") && csv.head.contains("x-next-cursor: "),
        "{}",
        csv.head
    );
    let rows: Vec<&str> = csv.text.lines().collect();
    assert_eq!(rows.len(), 3, "{}", csv.text);
    assert!(
        rows[2].starts_with("2026-11-21T08:00:00.000000Z,p2,main,in,+74957654321,\"Anna, B\",1001,,busy,"),
        "{}",
        rows[2]
    );

    let shown = paper.local("GET", "/api/v1/calls/p1", None).json();
    assert_eq!(shown["legs"][0]["cause"]["status"], 486);
    assert_eq!(shown["events"][0]["type"], "tipring.call.ringing");
    assert_eq!(shown["state"], "ended");

    let erased = paper.local("DELETE", "/api/v1/journal?number=%2B74951234567", None).json();
    assert_eq!((&erased["calls"], &erased["events"]), (&2.into(), &2.into()), "{erased}");
    assert_eq!(paper.local("DELETE", "/api/v1/journal/p2", None).json()["calls"], 1);
    assert!(ids(&paper.local("GET", "/api/v1/journal", None).json()).is_empty());
}

#[test]
fn an_erased_call_takes_its_recordings_along() {
    let paper = Paper::open("recording");
    let folder = paper.folder.join("data/recordings");
    std::fs::create_dir_all(&folder).expect("a folder");
    // A call that was recorded three times names the last one.
    for name in ["rec-1", "rec-2", "p1-3", "p1-12", "p1-x", "p12-3", "p1"] {
        std::fs::write(folder.join(format!("{name}.wav")), "RIFF").expect("a recording");
    }
    let mut entry = Entry::begun("p1", leg("p1", "600", "Anna"), THEN);
    entry.recording_id = Some("rec-1".into());
    paper.keep(Write::Call(Box::new(entry)));
    assert_eq!(paper.local("DELETE", "/api/v1/journal/p1", None).json()["recordings"], 3);
    let files = std::fs::read_dir(&folder).expect("a folder").flatten();
    let mut left: Vec<_> = files.map(|file| file.file_name().into_string().expect("a name")).collect();
    left.sort();
    assert_eq!(left, ["p1-x.wav", "p1.wav", "p12-3.wav", "rec-2.wav"]);
    let mut told: Vec<String> = Vec::new();
    for asked in paper.asked() {
        if let Asked::Tell(kind) = asked
            && let Kind::RecordingDeleted { recording_id, reason } = *kind
        {
            assert_eq!(reason, "erased");
            told.push(recording_id);
        }
    }
    told.sort();
    assert_eq!(told, ["p1-12", "p1-3", "rec-1"]);
}

#[test]
fn an_erasure_that_fails_can_be_tried_again() {
    let paper = Paper::open("kept");
    let folder = paper.folder.join("data/recordings");
    // No file, which nobody can delete like one.
    std::fs::create_dir_all(folder.join("p1-1.wav")).expect("a folder");
    remember(&paper, "p1", "600", "Anna");
    let answer = paper.local("DELETE", "/api/v1/journal?number=600", None);
    assert_eq!((answer.status, answer.code()), (503, "recording_kept".to_owned()));
    std::fs::remove_dir(folder.join("p1-1.wav")).expect("removed");
    std::fs::write(folder.join("p1-1.wav"), "RIFF").expect("a recording");
    let erased = paper.local("DELETE", "/api/v1/journal?number=600", None).json();
    assert_eq!((&erased["calls"], &erased["recordings"]), (&1.into(), &1.into()), "{erased}");
    assert!(!folder.join("p1-1.wav").exists());
}

#[test]
fn who_goes_away_before_the_answer_leaves_no_half_of_an_erasure() {
    let paper = Paper::open("left");
    let folder = paper.folder.join("data/recordings");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("p1-1.wav"), "RIFF").expect("a recording");
    remember(&paper, "p1", "600", "Anna");
    // The store has much to do before.
    for _ in 0..200 {
        paper.tell(Event::new(Kind::DeviceRecovered { part: "sound".into() }));
    }
    let mut stream = std::os::unix::net::UnixStream::connect(paper.socket()).expect("a connection");
    let request = "DELETE /api/v1/journal?number=600 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("written");
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(stream);
    let rows = || paper.local("GET", "/api/v1/journal", None).json()["entries"].as_array().map(Vec::len);
    office::until("the row is gone", || rows() == Some(0));
    office::until("the recording, too", || !folder.join("p1-1.wav").exists());
}

#[test]
fn a_refused_configuration_tells_every_mistake() {
    let paper = Paper::open("reload");
    let answer = paper.local("POST", "/api/v1/reload", Some("{}"));
    assert_eq!((answer.status, answer.code()), (422, "config_rejected".to_owned()));
    assert_eq!(answer.json()["error"]["findings"][0], "t.toml:3: nonsense; write sense");
    assert_eq!(paper.asked(), [Asked::Reload]);
}

#[test]
fn planted_secrets_are_in_no_answer() {
    let paper = Paper::open("secrets");
    remember(&paper, "p1", "600", "Anna");
    recordings::recording(&paper, "p1", true);
    let mut everything = String::new();
    for route in tipring::admin::routes::ROUTES {
        if route.method != "GET" || route.path.ends_with("/events") {
            continue;
        }
        let id = if route.path.contains("extension") { "1001" } else { "p1" };
        let answer = paper.local("GET", &route.path.replace("{id}", id), None);
        assert_eq!(answer.status, 200, "{}: {}", route.path, answer.text);
        everything.push_str(&answer.head);
        everything.push_str(&answer.text);
    }
    let trace = paper.local("GET", "/api/v1/trace?call=p1", None).json();
    assert_eq!(trace["messages"].as_array().map(Vec::len), Some(2), "found by the journal's Call-ID");
    assert!(everything.contains("Authorization: ***") && everything.contains("\"***\""), "masks are seen");
    for secret in [office::TOKEN, office::PASSWORD, office::LINE_PASSWORD, "planted"] {
        assert!(!everything.contains(secret), "{secret} got out");
    }
}

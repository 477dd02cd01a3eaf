//! The commands, as a shell runs them.

use std::process::{Command, Output, Stdio};

use tipring::events::{AgentState, CallResult, Cause, Direction, Event, Kind, Party};
use tipring::phone::command::{Callback, Command as Wish, Destination, End};

use crate::office::{Asked, Paper, TOKEN, until};
use crate::{leg, remember};

pub fn tipring(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipring"));
    command.args(arguments).env_remove("TIPRING_TOKEN").env("TIPRING_CONFIG", "/nonexistent/tipring.toml");
    command.stdin(Stdio::null());
    command
}

pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn done(output: Output) -> Done {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn at(paper: &Paper, arguments: &[&str]) -> Done {
    let api = format!("unix://{}", paper.socket().display());
    done(tipring(&["--api", &api]).args(arguments).output().expect("the program runs"))
}

fn alone(arguments: &[&str]) -> Done {
    done(tipring(arguments).output().expect("the program runs"))
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let absent = alone(&["--api", "unix:///nonexistent/t.sock", "status"]);
    assert_eq!(absent.code, Some(3));
    assert!(
        absent.err.contains("no running tipring") && absent.err.contains("tipring run"),
        "{}",
        absent.err
    );
    assert_eq!(alone(&["--api", "https://x", "status"]).code, Some(2));
    assert_eq!(alone(&["dance"]).code, Some(2));
    assert_eq!(alone(&["reject", "c1", "404"]).code, Some(2));
    assert_eq!(alone(&["check", "--config", "/nonexistent/t.toml"]).code, Some(2));
    let version = alone(&["version"]);
    assert_eq!((version.code, version.out), (Some(0), format!("tipring {}\n", env!("CARGO_PKG_VERSION"))));
    let paper = Paper::open("codes");
    let refused = at(&paper, &["call", "barred"]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.err, "it can't be; do something else\n");
    assert_eq!(at(&paper, &["call", "nothing"]).code, Some(2));
    let reload = at(&paper, &["reload"]);
    assert_eq!(reload.code, Some(2));
    assert!(reload.err.contains("t.toml:3: nonsense; write sense"), "{}", reload.err);
}

#[test]
fn commands_reach_the_phone_as_commands() {
    let paper = Paper::open("reach");
    let origin = tipring::events::Origin::Command;
    let some = |id: &str| Some(id.to_owned());
    let end = |number: &str| End { number: number.into(), line: some("main") };
    for (arguments, wish) in [
        (&["call", "600", "--line", "main"][..], Wish::Call { to: "600".into(), line: some("main") }),
        (
            &["callback", "102", "600", "--line", "main"],
            Wish::Callback(Callback { from: end("102"), to: end("600"), ring_for: None, request: None }),
        ),
        (&["hangup"], Wish::HangUp { call: None }),
        (&["hold", "c1"], Wish::Hold { call: some("c1") }),
        (&["reject", "c1", "603"], Wish::Reject { call: some("c1"), status: 603 }),
        (
            &["transfer", "c1", "102"],
            Wish::Transfer { call: some("c1"), to: Destination::Target("102".into()) },
        ),
        (
            &["transfer", "c1", "--to", "c2"],
            Wish::Transfer { call: some("c1"), to: Destination::Call("c2".into()) },
        ),
        (&["dtmf", "c1", "12#"], Wish::Dtmf { call: some("c1"), digits: "12#".into() }),
        (&["dnd", "on"], Wish::DoNotDisturb { line: None, on: true }),
        (&["dnd", "off", "--line", "main"], Wish::DoNotDisturb { line: some("main"), on: false }),
        (&["agent", "available"], Wish::Agent { line: None, state: AgentState::Available }),
        (
            &["agent", "logged-out", "--line", "main"],
            Wish::Agent { line: some("main"), state: AgentState::LoggedOut },
        ),
        (&["line", "main", "register"], Wish::Register { line: "main".into() }),
    ] {
        let told = at(&paper, arguments);
        assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.err);
        assert_eq!(paper.asked(), [Asked::Command(wish, origin)], "{arguments:?}");
    }
}

#[test]
fn what_becomes_of_a_number_is_explained() {
    let paper = Paper::open("route");
    let told = at(&paper, &["route", "84951112233", "112", "900", "--line", "main"]);
    let expected = "84951112233\n  goes out as +74951112233 over line main: by rule 1\n\
                    \x20 rule 2  ^9\u{fffd}[2J  it does not fit\n  rule 1  ^8  it fits or not\n\
                    112\n  goes out as 112 over line main: an emergency number passes every rule\n\
                    900\n  would be refused (limits.deny): 900 may not be called\n\
                    \x20 rule 2  ^9\u{fffd}[2J  it does not fit\n  rule 1  ^8  it fits or not\n";
    assert_eq!((told.code, told.out.as_str()), (Some(0), expected), "{}", told.err);
    let numbers = vec!["84951112233".into(), "112".into(), "900".into()];
    let wish = Wish::Route { numbers, line: Some("main".into()) };
    assert_eq!(paper.asked(), [Asked::Command(wish, tipring::events::Origin::Command)]);
    let json: serde_json::Value =
        serde_json::from_str(&at(&paper, &["route", "8123", "--json"]).out).expect("JSON");
    let route = &json["routes"][0];
    assert_eq!((&route["rule"], &route["sent"]), (&1.into(), &"+7123".into()), "{json}");
    assert_eq!((&route["tried"][1]["match"], &route["tried"][1]["fits"]), (&"^8".into(), &true.into()));
    let code = at(&paper, &["route", "*46"]);
    let expected = "*46\n  calls nobody: says that the agent is logged out (numbers.agent_logged_out)\n";
    assert_eq!((code.code, code.out.as_str()), (Some(0), expected));
    let wrong = paper.local("POST", "/api/v1/route", Some("{\"numbers\":\"1\"}"));
    assert_eq!((wrong.status, wrong.code()), (400, "bad_request".to_owned()));
    assert_eq!(at(&paper, &["route"]).code, Some(2));
}

#[test]
fn a_code_that_calls_nobody_is_done_when_it_is_dialled() {
    let paper = Paper::open("code");
    for (arguments, out) in [
        (&["call", "*46"][..], ""),
        (&["call", "*46", "--wait"], ""),
        (&["call", "*46", "--json"], "{\"done\":true}\n"),
        (&["call", "*46", "--wait", "--json"], "{\"done\":true}\n"),
    ] {
        let told = at(&paper, arguments);
        assert_eq!((told.code, told.out.as_str()), (Some(0), out), "{arguments:?} {}", told.err);
    }
    let key = [("Idempotency-Key", "k-1")];
    for _ in 0..2 {
        let answer = paper.send("POST", "/api/v1/calls", &key, Some(r#"{"to":"*46"}"#));
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, r#"{"done":true}"#),
            "as often as it is dialled"
        );
    }
    paper.close();
}

#[test]
fn the_state_is_a_table_or_json() {
    let paper = Paper::open("table");
    let table = at(&paper, &["status"]);
    assert_eq!(table.code, Some(0), "{}", table.err);
    assert!(
        table.out.contains("main  sip:1001@pbx.example  registered") && !table.out.contains('\x1b'),
        "{}",
        table.out
    );
    let json: serde_json::Value = serde_json::from_str(&at(&paper, &["status", "--json"]).out).expect("JSON");
    assert_eq!(json["lines"][0]["state"], "registered");
    assert!(at(&paper, &["line", "main"]).out.contains("registered"));
    let unknown = at(&paper, &["line", "office"]);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (Some(1), "there is no line office; the lines are: main\n")
    );
    let api = format!("http://{}", paper.address);
    until("the address opens", || std::net::TcpStream::connect(paper.address).is_ok());
    let stranger = alone(&["--api", &api, "status"]);
    assert!(stranger.code == Some(1) && stranger.err.contains("$TIPRING_TOKEN"), "{}", stranger.err);
    let known =
        done(tipring(&["--api", &api, "status"]).env("TIPRING_TOKEN", TOKEN).output().expect("a run"));
    assert_eq!((known.code, known.out), (Some(0), table.out), "the same over the network");
}

#[test]
fn the_journal_and_one_call_are_shown() {
    let paper = Paper::open("show");
    remember(&paper, "p1", "+74951234567", "Anna\u{1b}[2J");
    let table = at(&paper, &["calls"]).out;
    assert!(
        table.contains("2026-11-21 08:00:00") && table.contains("busy") && !table.contains('\x1b'),
        "{table}"
    );
    let csv = at(&paper, &["calls", "--csv", "--limit", "1"]).out;
    assert!(csv.starts_with("started,call_id,") && csv.contains(",p1,main,in,"), "{csv}");
    let asterisk = at(&paper, &["calls", "--format", "asterisk", "--limit", "1"]).out;
    assert!(asterisk.starts_with("\"\",\"") && asterisk.contains("\"BUSY\",\"DOCUMENTATION\""), "{asterisk}");
    let wrong = at(&paper, &["calls", "--format", "xls"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("write json, csv, asterisk, freeswitch, rostelecom, telphin"),
        "{}",
        wrong.err
    );
    let report = at(&paper, &["calls", "report", "--by", "line"]).out;
    assert!(
        report.contains("MISSED") && report.lines().nth(1).is_some_and(|it| it.starts_with("main")),
        "{report}"
    );
    let since = at(&paper, &["calls", "report", "--since", "2100-01-01"]).out;
    assert_eq!(since, "no calls\n");
    let story = at(&paper, &["calls", "show", "p1"]).out;
    for part in ["SIP 486, Busy Here, by remote", "call.ringing", "│── REGISTER sip:pbx.example +auth ──▶│"]
    {
        assert!(story.replace('─', "").contains(&part.replace('─', "")), "{part} is not in {story}");
    }
    let log = at(&paper, &["calls", "show", "p1", "--log"]).out;
    assert_eq!(log, "2026-11-21 08:00:00 Executing JS command: Ring with params [{id = p1-1 ; } ;  ]\n");
    assert_eq!(at(&paper, &["calls", "show", "nobody", "--log"]).code, Some(1));
    assert_eq!(at(&paper, &["calls", "show", "nobody"]).code, Some(1));
    assert_eq!(at(&paper, &["calls", "--since", "yesterday"]).code, Some(2));
}

#[test]
fn the_ladder_is_drawn_and_captured() {
    let paper = Paper::open("ladder");
    let ladder = at(&paper, &["trace", "--line", "main"]).out;
    assert!(ladder.contains("udp 192.0.2.10:5060") && ladder.contains(" 200 OK (REGISTER) "), "{ladder}");
    assert!(!ladder.contains("planted"), "{ladder}");
    let file = paper.folder.join("sip.pcap");
    assert_eq!(at(&paper, &["trace", "--pcap", &file.display().to_string()]).code, Some(0));
    let bytes = std::fs::read(&file).expect("a capture");
    assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    assert_eq!(bytes[52..56], [192, 0, 2, 1], "from this device");
    assert!(bytes.windows(12).any(|it| it == b"REGISTER sip"));
    let nowhere = at(&paper, &["trace", "--pcap", "/nonexistent/x.pcap"]);
    assert!(nowhere.code == Some(1) && nowhere.err.contains("can't be written"), "{}", nowhere.err);
}

#[test]
fn events_are_printed_and_end_where_they_ended() {
    let paper = Paper::open("events");
    for id in ["p1", "p2", "p3"] {
        remember(&paper, id, "600", "Anna");
    }
    until("all are kept", || paper.local("GET", "/metrics", None).text.contains("events_committed 3\n"));
    let lines = at(&paper, &["events"]).out;
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let json = at(&paper, &["events", "--since", "2", "--json"]).out;
    let event: serde_json::Value = serde_json::from_str(json.trim()).expect("one event");
    assert_eq!(event["subject"], "p3");
    assert_eq!(at(&paper, &["events", "--since", "3"]).out, "");
}

fn closed(result: CallResult) -> Kind {
    Kind::CallClosed {
        line: "main".into(),
        direction: Direction::Out,
        caller: Party::numbered("1001"),
        called: Party::numbered("600"),
        did: None,
        result,
        missed: false,
        legs: 1,
        total_us: 2_000_000,
        talk_us: 1_000_000,
    }
}

#[test]
fn call_with_wait_ends_with_the_call() {
    let paper = Paper::open("wait");
    for (number, result, code) in [(1, CallResult::Answered, 0), (2, CallResult::Busy, 1)] {
        let api = format!("unix://{}", paper.socket().display());
        let mut command = tipring(&["--api", &api, "call", "600", "--wait", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a run");
        until("it has dialled", || !paper.asked().is_empty());
        let id = format!("new{number}");
        paper.tell(Event::of_call("other", closed(CallResult::Failed)));
        let ended = Kind::CallEnded {
            leg: leg(&id, "600", "Anna"),
            result,
            cause: Cause::remote(486, "Busy Here"),
            total_us: 2_000_000,
            ring_us: 1_000_000,
            talk_us: 1_000_000,
            hold_us: 0,
            quality: None,
            recording_id: None,
            vote: None,
        };
        paper.tell(Event::of_call(id.as_str(), ended));
        paper.tell(Event::of_call(id.as_str(), closed(result)));
        let told = done(child.wait_with_output().expect("its end"));
        assert_eq!(told.code, Some(code), "{}", told.err);
        let json: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
        assert_eq!(
            (json["id"].as_str(), json["result"].as_str()),
            (Some(id.as_str()), Some(result.as_str()))
        );
        if code == 1 {
            assert_eq!(told.err, "the call ended: busy (486), Busy Here\n");
        }
    }
}

#[test]
fn check_names_every_mistake_in_words_and_in_json() {
    let paper = Paper::open("check");
    let file = paper.folder.join("wrong.toml");
    std::fs::write(&file, "[sip]\nport_udp = 70000\nnonsense = 1\n").expect("a file");
    let path = file.display().to_string();
    let words = alone(&["check", "--config", &path]);
    assert_eq!(words.code, Some(2));
    assert!(words.out.contains("wrong.toml:2: ") && words.out.contains("wrong.toml:3: "), "{}", words.out);
    let json: serde_json::Value =
        serde_json::from_str(&alone(&["check", "--config", &path, "--json"]).out).expect("JSON");
    assert_eq!((json["right"].as_bool(), json["findings"].as_array().map(Vec::len)), (Some(false), Some(2)));
}

/// Five mistakes, each with its line and its cure.
#[test]
fn check_names_five_different_mistakes_with_line_and_cure() {
    let paper = Paper::open("check-five");
    let file = paper.folder.join("five.toml");
    let text = "[sip]\nport_udp = 70000\nnonsense = 1\n[rtp]\nports = \"5-3\"\n[audio]\nbackend = \"drum\"\n\
                [[line]]\nname = \"a\"\nuser = \"1\"\ndomain = \"not a domain\"\npassword = \"p\"\n";
    std::fs::write(&file, text).expect("a file");
    let told = alone(&["check", "--config", &file.display().to_string()]);
    assert_eq!(told.code, Some(2));
    for (line, cure) in [
        (2, "65535"),
        (3, "the keys here are bind"),
        (5, "begin at 1024"),
        (7, "\"cpal\""),
        (11, "pbx.example.com:5060"),
    ] {
        let found = told.out.lines().find(|said| said.contains(&format!("five.toml:{line}: ")));
        assert!(found.is_some_and(|said| said.contains(cure)), "line {line}: {}", told.out);
    }
}

/// A log on a full disk.
#[test]
fn words_that_nobody_takes_stop_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tipring"));
    let ended =
        command.args(["run", "--config", "/nonexistent.toml"]).stderr(full).status().expect("a program");
    assert_eq!(ended.code(), Some(2), "it says what is wrong, and does not panic");
}

#[test]
fn the_doctor_speaks_to_people_and_to_programs() {
    let paper = Paper::open("doctor");
    let people = at(&paper, &["doctor", "--lifetime", "30"]);
    assert_eq!((people.code, people.err.as_str()), (Some(1), ""));
    assert_eq!(paper.asked(), [Asked::Examine(Some(std::time::Duration::from_secs(30)))]);
    let expected = "error    main\u{fffd}[2J: the registrar is down: the host of 192.0.2.10:5060 answers that nobody \
                    listens there\n         → start the PBX, or write the port that it listens at\n\n";
    assert!(people.out.starts_with(expected), "{}", people.out);
    for row in [
        "clock          2026-11-21 08:00:00 UTC, nobody to compare it with\n",
        "NAT            unknown: no STUN server to ask\n",
        "  udp          192.0.2.10:5060 nobody listens\n",
    ] {
        assert!(people.out.contains(row), "{row:?} is not in\n{}", people.out);
    }
    let programs = at(&paper, &["doctor", "--json"]);
    assert_eq!(programs.code, Some(1));
    let told: serde_json::Value = serde_json::from_str(&programs.out).expect("JSON");
    assert_eq!((&told["healthy"], &told["findings"][0]["code"]), (&false.into(), &"registrar_down".into()));
    let api = paper.local("POST", "/api/v1/doctor", Some("{}"));
    assert_eq!((api.status, api.json()), (200, told), "the same over the API");
    for (body, words) in [
        ("{\"lifetime_s\":4}", "out of range"),
        ("{\"lifetime_s\":601}", "out of range"),
        ("{\"age\":9}", "age"),
    ] {
        let wrong = paper.local("POST", "/api/v1/doctor", Some(body));
        assert_eq!((wrong.status, wrong.code()), (400, "bad_request".to_owned()));
        assert!(wrong.text.contains(words), "{}", wrong.text);
    }
    assert_eq!(at(&paper, &["doctor", "--lifetime", "3"]).code, Some(2));
    // Nobody runs, and there is no configuration to look at instead.
    let alone = alone(&["doctor", "--config", "/nonexistent/t.toml"]);
    assert_eq!(
        (alone.code, alone.err.contains("/nonexistent/t.toml: can't be read")),
        (Some(2), true),
        "{}",
        alone.err
    );
    assert_eq!(self::alone(&["--api", "unix:///nonexistent/t.sock", "doctor"]).code, Some(3));
}

//! A CRM that asks this phone as it would ask Rostelecom's virtual PBX, signing as its own code does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command as Program, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tipring::events::store::{Entry, Write as Keep};
use tipring::events::{CallResult, Cause, Direction, Event, Kind, Origin, Party};
use tipring::phone::command::{Callback, Command, End};

use crate::leg;
use crate::office::{Answer, Asked, Paper, THEN, TOKEN, until};
use crate::receiver::{Got, Receiver, Reply};

const CLIENT: &str = "000003C405E6525C64C184258C44EC99";
const KEY: &str = "00000716ABDA6D4DFF10F82BCBBFC532";
/// What the manual prints, and its signature.
const PRINTED: &str = r#"{"request_number": "+74951234567","from_sipuri": "test_user@cloudpbx.rt.ru"}"#;
const PRINTED_SIGN: &str = "fc95a524342dc68df90f7488e6d821c5a8a3b667d585490b50ebf939f1202c36";

fn sign(body: &str) -> String {
    let hash = Sha256::digest(format!("{CLIENT}{body}{KEY}"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A phone that answers the CRM at these addresses, and tells it what happens at `told`.
fn phone(name: &str, allow: &str, told: &str) -> Paper {
    crate::upstreams::open(
        name,
        &format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"rostelecom\"\nurl = \"{told}\"\n[upstream.rostelecom]\n\
             client_id = \"{CLIENT}\"\nkey = \"{KEY}\"\ndomain = \"cloudpbx.rt.ru\"\npin = \"607\"\n\
             answer = true\nallow = [\"{allow}\"]\n"
        ),
    )
}

/// One that tells nobody.
fn silent(name: &str) -> Paper {
    phone(name, "127.0.0.1", "http://127.0.0.1:9/rt")
}

/// Sends a body as it is, signed so.
fn send(paper: &Paper, method: &str, signature: &str, body: &str) -> Answer {
    let fields = [
        ("Host", "phone.example.ru:8443"),
        ("Content-Type", "application/json"),
        ("X-Client-ID", CLIENT),
        ("X-Client-Sign", signature),
    ];
    paper.remote("POST", &format!("/rostelecom/crm/{method}"), &fields, body)
}

fn ask(paper: &Paper, method: &str, body: &str) -> Answer {
    send(paper, method, &sign(body), body)
}

/// What is granted. Whatever asks the phone something, such as `users_info`, comes back after the phone has heard what was told
/// it before.
fn granted(paper: &Paper, method: &str, body: &str) -> Value {
    let answer = ask(paper, method, body);
    let json = answer.json();
    assert!(answer.status == 200 && (json["result"] == 0 || json["result"] == "0"), "{method}: {json}");
    json
}

/// What is not, with its status and in the words of the answer.
fn denied(paper: &Paper, method: &str, body: &str) -> (u16, String) {
    let answer = ask(paper, method, body);
    assert_eq!(answer.json()["result"], -20, "{method}: {}", answer.text);
    (answer.status, answer.json()["resultMessage"].as_str().expect("words").to_owned())
}

/// A call of the past in seconds: how long it rang, and then went on.
fn past(paper: &Paper, id: &str, change: impl FnOnce(&mut Entry), (ring, talk): (u64, u64)) {
    let mut entry = Entry::begun(id, leg(id, "+79771234567", "Anna"), THEN);
    let after = |seconds: u64| Some(THEN + 1_000_000 * i64::try_from(seconds).expect("seconds"));
    entry.answered_utc_us = after(ring).filter(|_| talk > 0);
    entry.ended_utc_us = after(ring + talk);
    entry.result = Some(if talk > 0 { CallResult::Answered } else { CallResult::Busy });
    (entry.ring_us, entry.talk_us) = (ring * 1_000_000, talk * 1_000_000);
    entry.total_us = entry.ring_us + entry.talk_us;
    change(&mut entry);
    paper.keep(Keep::Call(Box::new(entry)));
}

/// The same fields with values of the same types; `null` stands for any.
fn same_shape(printed: &Value, got: &Value) {
    match (printed, got) {
        (Value::Object(printed), Value::Object(got)) => {
            let names = |it: &serde_json::Map<String, Value>| it.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(printed), names(got));
            printed.iter().for_each(|(name, value)| same_shape(value, &got[name]));
        }
        (Value::Array(printed), Value::Array(got)) => {
            got.iter().for_each(|it| same_shape(&printed[0], it));
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => {
            assert_eq!(std::mem::discriminant(printed), std::mem::discriminant(got), "{printed} and {got}");
        }
    }
}

/// The answers of the manual, repaired.
fn printed(method: &str) -> Value {
    match method {
        "users_info" => json!({
            "result": 0, "resultMessage": "",
            "users": [{ "display_name": "test_user_1", "name": "admin", "pin": "666", "is_supervisor": true,
                "is_operator": false, "email": "test_user_1@mail.gov", "recording": 1 }],
            "groups": [{ "name": "testAPI", "pin": "500", "email": "Ivanov@mail.gov", "distribution": 1,
                "users_list": ["666", "703"] }],
        }),
        "call_info" => json!({
            "result": 0, "resultMessage": "",
            "info": { "call_type": 1, "direction": 1, "state": 1, "orig_number": "sip:1@192.168.0.1", "orig_pin": null,
                "dest_number": "sip:2@192.168.0.1", "answering_sipuri": "admin@example.ru", "answering_pin": "607",
                "start_call_date": "", "duration": 14,
                "session_log": "0:el:123456789;0:ru:admin;7:ct:admin;9:cc:admin;14:cd:admin;",
                "is_voicemail": false, "is_record": true, "is_fax": false, "status_code": "0", "status_string": "" },
        }),
        _ => {
            json!({ "result": "0", "resultMessage": " ", "url": "https://api.cloudpbx.rt.ru/records_new_scheme" })
        }
    }
}

#[test]
fn after_a_call_its_facts_and_a_link_that_opens_the_recording_once_are_given() {
    let paper = silent("rt-sequence");
    past(&paper, "c1", |entry| entry.recording_id = Some("c1-1".into()), (9, 5));
    let info = granted(&paper, "call_info", r#"{"session_id":"c1"}"#);
    same_shape(&printed("call_info"), &info);
    let info = &info["info"];
    assert_eq!(
        (&info["duration"], &info["answering_sipuri"]),
        (&json!(14), &json!("1001@cloudpbx.rt.ru")),
        "{info}"
    );
    assert_eq!(info["session_log"], "0:el:1001;0:ru:1001;0:ct:1001;9:cc:1001;14:cd:1001;");
    // The file is there later than the end of the call: clients come again.
    let body = r#"{"session_id":"c1","ip_adress":"127.0.0.1"}"#;
    let (status, why) = denied(&paper, "get_record", body);
    assert!(status == 200 && why.contains("no recording"), "{why}");
    let sound = crate::recordings::recording(&paper, "c1-1", true);
    let given = granted(&paper, "get_record", body);
    same_shape(&printed("get_record"), &given);
    let url = given["url"].as_str().expect("a link");
    let path = url.strip_prefix("http://phone.example.ru:8443").expect("where it was asked");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(paper.address).expect("a connection");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: phone.example.ru:8443\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    };
    let head = |answer: &[u8]| String::from_utf8_lossy(&answer[..12]).into_owned();
    assert!(head(&get(&path.replace("address=127.0.0.1", "address=127.0.0.2"))).contains("403"));
    let heard = get(path);
    assert!(head(&heard).contains("200") && heard.ends_with(&std::fs::read(sound).expect("the file")));
    assert!(head(&get(path)).contains("410"), "once");
    let (_, why) = denied(&paper, "get_record", body);
    assert!(why.contains("carried out already"), "what was overheard is not carried out again: {why}");
    let elsewhere = granted(&paper, "get_record", r#"{"session_id":"c1","ip_adress":"127.0.0.9"}"#);
    let path = elsewhere["url"].as_str().expect("a link").replace("http://phone.example.ru:8443", "");
    assert!(head(&get(&path)).contains("403"), "for another address");
    let (_, why) = denied(&paper, "call_info", r#"{"session_id":"c9"}"#);
    assert!(why.contains("session_id"), "{why}");
}

#[test]
fn the_printed_request_rings_the_user_first_and_is_carried_out_once() {
    let paper = silent("rt-callback");
    let answer = send(&paper, "call_back", PRINTED_SIGN, PRINTED);
    assert_eq!((answer.status, &answer.json()["session_id"]), (200, &json!("new1")), "{}", answer.text);
    let end = |number: &str| End { number: number.into(), line: None };
    let (from, to) = (end("test_user"), end("+74951234567"));
    let wish = Command::Callback(Callback { from, to, ring_for: None, request: None });
    assert_eq!(paper.asked(), [Asked::Command(wish, Origin::Upstream)]);
    let again = send(&paper, "call_back", PRINTED_SIGN, PRINTED);
    assert_eq!(again.json()["result"], -20, "{}", again.text);
    assert_eq!(paper.asked(), [], "not dialled again");
    granted(&paper, "call_back", r#"{"request_number":"100","domain":"CLOUDPBX.rt.ru","from_pin":607}"#);
    let Asked::Command(Command::Callback(here), _) = &paper.asked()[0] else { panic!("no callback") };
    assert_eq!(here.from.number, "main", "its own short number is the phone itself");
    let (_, why) = denied(&paper, "call_back", r#"{"request_number":"100","from_sipuri":"a@evil.example"}"#);
    assert!(why.contains("another domain"), "{why}");
    assert_eq!(paper.asked(), []);
}

#[test]
fn users_are_the_lines() {
    let paper = silent("rt-users");
    let users = granted(&paper, "users_info", r#"{"domain":"cloudpbx.rt.ru"}"#);
    same_shape(&printed("users_info"), &users);
    let user = &users["users"][0];
    assert_eq!((&user["name"], &user["pin"], &user["recording"]), (&json!("1001"), &json!("607"), &json!(0)));
    assert_eq!(granted(&paper, "users_info", r#"{"user_pin":"608"}"#)["users"], json!([]));
    assert_eq!(granted(&paper, "users_info", r#"{"domain":"other.example"}"#)["users"], json!([]));
}

#[test]
fn only_the_signature_of_a_listed_address_is_believed_and_it_opens_nothing_else() {
    let paper = silent("rt-rights");
    past(&paper, "c1", |_| {}, (1, 1));
    let body = r#"{"session_id":"c1"}"#;
    let fields = |more: &[(&'static str, String)]| {
        let host = [("Host", "127.0.0.1".to_owned()), ("Content-Type", "application/json".to_owned())];
        host.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()
    };
    let send = |path: &str, more: &[(&'static str, String)]| {
        let fields = fields(more);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        paper.remote("POST", path, &fields, body)
    };
    let (id, right) = (("X-Client-ID", CLIENT.to_owned()), ("X-Client-Sign", sign(body)));
    let bearer = ("Authorization", format!("Bearer {TOKEN}"));
    let path = "/rostelecom/crm/call_info";
    let wrong = ("X-Client-Sign", sign(r#"{"session_id": "c1"}"#));
    let another = ("X-Client-ID", CLIENT.replace('9', "8"));
    for (what, fields) in [
        ("another blank", vec![id.clone(), wrong.clone()]),
        ("another id", vec![another, right.clone()]),
        ("two signatures", vec![id.clone(), right.clone(), wrong]),
    ] {
        let answer = send(path, &fields);
        assert_eq!((answer.status, &answer.json()["result"]), (401, &json!(-20)), "{what}");
        assert_eq!(send(path, &[id.clone(), right.clone()]).status, 200, "which begins anew");
    }
    assert_eq!(send(path, std::slice::from_ref(&bearer)).status, 401, "a token is no signature");
    assert_eq!(send(path, &[id.clone(), right.clone()]).status, 200);
    for other in ["/api/v1/callback", "/api/v1/recordings/c1-1/link", "/api/v1/reload"] {
        assert_eq!(send(other, &[id.clone(), right.clone()]).status, 401, "{other}");
    }
    assert_eq!(paper.local("POST", path, Some(body)).status, 404, "nor is the local socket");
    let unknown = send("/rostelecom/other/call_info", &[id.clone(), right.clone()]);
    assert_eq!((unknown.status, unknown.text.as_str()), (404, ""));
    granted(&paper, "users_info", "{}");
    assert!(matches!(&paper.asked()[0], Asked::Intruder { interface, .. } if interface == "rostelecom"));
    let far = phone("rt-far", "192.0.2.0/24", "http://127.0.0.1:9/rt");
    let refused = ask(&far, "call_info", body);
    assert_eq!((refused.status, refused.text.as_str()), (404, ""), "no word to who is not listed");
}

#[test]
fn what_is_huge_wrong_or_too_much_is_refused_in_bounds() {
    let paper = silent("rt-bounds");
    let huge = format!(r#"{{"session_id":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(ask(&paper, "call_info", &huge).status, 413);
    let deep = format!(r#"{{"session_id":{}}}"#, "[".repeat(5_000));
    for body in ["", "[]", "\u{0}", r#"{"session_id":{"a":1}}"#, r#"{"session_id":false}"#, &deep] {
        assert_eq!(denied(&paper, "call_info", body).0, 400, "{body:.40}");
    }
    assert_eq!(denied(&paper, "charges", "{}").0, 404);
    let order = |number: usize| {
        let body = format!(
            r#"{{"date_start":"2026-11-01 00:00:00","date_end":"2026-11-21 00:00:{:02}","direction":"0","state":0,"phone_number":"{number}"}}"#,
            number % 60
        );
        granted(&paper, "domain_call_history", &body)["order_id"].as_str().expect("an id").to_owned()
    };
    let orders: Vec<String> = (0..100).map(order).collect();
    let fetch = |order: &String| format!(r#"{{"order_id":"{order}"}}"#);
    let (status, why) = denied(&paper, "download_call_history", &fetch(&orders[0]));
    assert!(status == 200 && why.contains("order again"), "the oldest went: {why}");
    granted(&paper, "users_info", "{}");
    assert!(matches!(&paper.asked()[99], Asked::Tell(kind) if matches!(**kind, Kind::HistoryReady { .. })));
    let mut answers = (0..30).map(|_| ask(&paper, "call_info", r#"{"session_id":"c1"}"#).status);
    assert!(answers.any(|status| status == 429), "120 requests in a minute");
}

/// Asks for a file, and unpacks it with the program that everybody has.
fn download(paper: &Paper, order: &str) -> String {
    let body = format!(r#"{{"order_id":"{order}"}}"#);
    let mut stream = TcpStream::connect(paper.address).expect("a connection");
    let request = format!(
        "POST /rostelecom/crm/download_call_history HTTP/1.0\r\nX-Client-ID: {CLIENT}\r\nX-Client-Sign: {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        sign(&body),
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    let mut gzip =
        Program::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut input = gzip.stdin.take().expect("its input");
    let file = answer.split_off(end);
    let writer = std::thread::spawn(move || input.write_all(&file));
    let unpacked = gzip.wait_with_output().expect("gzip ends");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&answer));
    writer.join().expect("a writer").expect("all is taken");
    String::from_utf8(unpacked.stdout).expect("text")
}

fn believed(got: &Got) {
    assert_eq!((got.field("x-client-id"), got.field("x-client-sign")), (CLIENT, sign(&got.text).as_str()));
}

#[test]
fn the_history_is_ordered_announced_and_fetched_call_by_call() {
    let crm = Receiver::of(believed, |_, _| Reply::Full(200, "", b"{\"result\": \"0\"}".to_vec()));
    let paper = phone("rt-history", "127.0.0.1", &format!("http://{}/rt/call_events", crm.address));
    for number in 0..450 {
        past(&paper, &format!("c{number}"), |_| {}, (1, 2));
    }
    past(&paper, "missed", |entry| entry.cause = Cause::remote(486, "Busy; \"now\""), (3, 0));
    past(&paper, "before", |entry| entry.started_utc_us -= 86_400_000_000, (1, 1));
    past(&paper, "going", |entry| entry.result = None, (1, 1));
    // Two legs of one call.
    for (number, called) in [(1, "102"), (2, "+79771234567")] {
        let to_both = |entry: &mut Entry| {
            entry.leg.leg_id = format!("joined-{number}");
            entry.leg.direction = Direction::Out;
            entry.leg.called = Party::numbered(called);
            entry.leg.callback_id = Some("b1".into());
        };
        past(&paper, "joined", to_both, (1, 2));
    }
    let order = |more: &str| {
        let body =
            format!(r#"{{"date_start":"2026-11-21 10:59:59","date_end":"2026-11-21 11:00:01"{more}}}"#);
        granted(&paper, "domain_call_history", &body)["order_id"].as_str().expect("an id").to_owned()
    };
    let id = order("");
    granted(&paper, "users_info", "{}");
    let Some(Asked::Tell(ready)) = paper.asked().pop() else { panic!("nothing is told") };
    paper.tell(Event::new(*ready));
    until("the CRM is told", || !crm.got().is_empty());
    let told = &crm.got()[0];
    assert_eq!(
        (told.target.as_str(), &told.event()),
        ("/rt/history_file_completed", &json!({ "order_id": id }))
    );
    let file = download(&paper, &id);
    let rows: Vec<Vec<&str>> = file.lines().map(|line| line.split(';').collect()).collect();
    assert_eq!(rows[0].len(), 16, "{:?}", rows[0]);
    let mut ids: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), rows.len()), (452, 453), "each call once: 450, missed, joined");
    assert!(file.contains("\njoined;3;2;1;sip:102@cloudpbx.rt.ru;102;sip:79771234567@"), "{file:.400}");
    assert!(
        file.contains(";486;\"Busy; \"\"now\"\"\"\r\n")
            && !file.contains("before")
            && !file.contains("going")
    );
    assert_eq!(download(&paper, &order(r#","state":2"#)).lines().count(), 2, "the missed one");
    assert_eq!(download(&paper, &order(r#","direction":"2""#)).lines().count(), 2, "the callback");
    assert_eq!(download(&paper, &order(r#","phone_number":"102""#)).lines().count(), 2, "the callback again");
}

#[test]
fn an_event_that_is_not_taken_behind_a_200_is_told_again() {
    let crm = Receiver::of(believed, |_, count| {
        let body: &[u8] = if count == 0 { b"{\"result\": -20, \"resultMessage\": \"busy\"}" } else { b"OK" };
        Reply::Full(200, "", body.to_vec())
    });
    let paper = phone("rt-declined", "127.0.0.1", &format!("http://{}/rt/call_events", crm.address));
    let leg = leg("c1", "+79771234567", "Anna");
    paper.tell(Event::of_call("c1", Kind::CallAnswered { leg, ring_us: 1, automatic: None }));
    until("it is told again", || crm.got().len() == 2);
    assert_eq!(crm.got()[0].text, crm.got()[1].text);
    until("it is taken", || crate::upstreams::view(&paper, "crm")["state"] == "idle");
}

//! What Ringme's integrations are told, by a receiver that reads as they do.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tipring::events::{CallResult, Event, Kind, Leg, Number, Origin};

use crate::dialects::ended;
use crate::leg;
use crate::office::{Answer, Paper, THEN, TOKEN, until};
use crate::receiver::{Got, Receiver, Reply, pairs};
use crate::upstreams::{at, open, view};

/// A call as an integration registers it.
#[derive(Debug, Default, PartialEq)]
struct Registered {
    flow: String,
    number: String,
    did: String,
    status: String,
    seconds: u64,
    events: Vec<String>,
}

/// What an integration has of a PBX: legs by SubCallID, each registered at its one hang-up.
fn registered(got: &[Got]) -> BTreeMap<String, Registered> {
    let mut legs: BTreeMap<String, Registered> = BTreeMap::new();
    for got in got.iter().filter(|got| got.status == 200) {
        let event = pairs(&got.text);
        let leg = legs.entry(event["SubCallID"].clone()).or_default();
        assert!(!leg.events.contains(&"hangup".to_owned()), "a leg has one hang-up, and nothing after it");
        leg.events.push(event["EventType"].clone());
        leg.flow = event["CallFlow"].to_lowercase();
        leg.status.clone_from(&event["CallStatus"]);
        leg.did = event.get("CalledDID").cloned().unwrap_or_default();
        let number = match (leg.flow.as_str(), event.get("RemoteNumber")) {
            ("in", Some(remote)) => remote,
            ("in", None) => &event["CallerIDNum"],
            _ => &event["CalledNumber"],
        };
        leg.number.clone_from(number);
        let moment: i64 = event["EventTime"].parse().expect("microseconds");
        assert_eq!(moment, THEN, "microseconds since 1970");
        if let Some(duration) = event.get("Duration") {
            leg.seconds = duration.parse::<u64>().expect("microseconds") / 1_000_000;
        }
    }
    legs
}

fn ringme(got: &Got) {
    assert_eq!(got.method, "POST");
    assert_eq!(got.content_type, "application/x-www-form-urlencoded");
    assert!(got.text.is_ascii(), "{got:?}");
}

fn new(leg: &Leg) -> Kind {
    Kind::CallNew { leg: leg.clone(), origin: Origin::Network }
}

#[test]
fn ringme_registers_each_leg_once_with_hostile_names_in_their_place() {
    let receiver = Receiver::of(ringme, |_, count| Reply::Status(if count == 1 { 500 } else { 200 }));
    let table = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"ringme\"\nurl = \"http://{}\"\nexpire_after = \"0s\"\n\
         [upstream.ringme]\nextension = \"13596*106\"\nextension_id = \"1138241\"\n\
         dial_in = \"/ext-event/planted-dial\"\nanswer = \"/ext-event/planted-answer\"\n\
         hangup = \"/ext-event/planted-hangup\"\n",
        receiver.address
    );
    let paper = open("ringme", &table);
    let name = "&CallStatus=ANSWER\r\nX-Evil: 1\u{202e}#ü+%26";
    let mut answered = leg("c1", "+7 495 123-45-67", name);
    answered.did = Some(Number::new("+79300369446"));
    tell(&paper, "c1", new(&answered));
    tell(&paper, "c1", Kind::CallAnswered { leg: answered.clone(), ring_us: 1, automatic: None });
    tell(&paper, "c1", ended(&answered, CallResult::Answered));
    let lost = leg("c2", "+7 495 765-43-21", &"x".repeat(10_000));
    tell(&paper, "c2", new(&lost));
    tell(&paper, "c2", ended(&lost, CallResult::AnsweredElsewhere));
    until("it has everything", || view(&paper, "crm")["state"] == "idle" && receiver.got().len() == 6);
    let got = receiver.got();
    let repeated: Vec<&Got> = got.iter().filter(|it| it.text == got[1].text).collect();
    assert_eq!(
        repeated.iter().map(|it| it.status).collect::<Vec<_>>(),
        [500, 200],
        "a repetition says the same"
    );
    let names: Vec<String> = got.iter().filter_map(|got| pairs(&got.text).remove("CallerIDName")).collect();
    assert!(names.contains(&name.to_owned()) && names.contains(&"x".repeat(256)), "{names:?}");
    let registered = registered(&got);
    let call = |number: &str, did: &str, status: &str, seconds, events: &[&str]| Registered {
        flow: "in".into(),
        number: number.into(),
        did: did.into(),
        status: status.into(),
        seconds,
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    };
    let expected = BTreeMap::from([
        (
            "1138241-c1-1".to_owned(),
            call("+74951234567", "79300369446", "ANSWER", 12, &["dial-in", "answer", "hangup"]),
        ),
        ("1138241-c2-1".to_owned(), call("+74957654321", "", "CANCEL", 12, &["dial-in", "hangup"])),
    ]);
    assert_eq!(registered, expected);
    for got in &got {
        let event = pairs(&got.text).remove("EventType").expect("a type");
        assert!(
            got.target.ends_with(event.split('-').next().expect("a word")),
            "{} at {}",
            event,
            got.target
        );
    }
    let tested = at(&paper, &["upstream", "test", "crm"]);
    assert_eq!(tested.code, Some(0), "{}", tested.err);
    assert_eq!(pairs(&receiver.got()[6].text)["EventType"], "test");
    for path in ["/api/v1/upstreams", "/api/v1/config", "/metrics"] {
        assert!(!paper.local("GET", path, None).text.contains("planted"), "{path}");
    }
}

fn tell(paper: &Paper, call: &str, kind: Kind) {
    paper.tell(Event::of_call(call, kind));
}

const EVENTS: &str = "/api/ver1.0/extension/1001/event/";

/// A wish of the program whose token the paper office knows.
fn program(paper: &Paper, method: &str, path: &str, body: &str) -> Answer {
    let token = format!("Bearer {TOKEN}");
    let fields =
        [("Host", "localhost"), ("Authorization", token.as_str()), ("Content-Type", "application/json")];
    paper.remote(method, path, &fields, body)
}

fn subscribe(paper: &Paper, event: &str, url: &str) -> Answer {
    let body = json!({ "url": url, "event_type": event, "method": "POST" }).to_string();
    program(paper, "POST", EVENTS, &body)
}

fn listed(answer: &Answer) -> Vec<(u64, String, String)> {
    let all = answer.json();
    let text = |it: &Value, key: &str| it[key].as_str().expect("text").to_owned();
    let all = all.as_array().unwrap_or_else(|| panic!("no list: {all}")).iter();
    all.map(|it| (it["id"].as_u64().expect("a number"), text(it, "event_type"), text(it, "owner"))).collect()
}

#[test]
fn a_program_subscribes_to_events_of_an_extension_as_at_telphin_and_a_restart_forgets_nothing() {
    let receiver = Receiver::of(ringme, |_, _| Reply::Status(200));
    let more = "[subscriptions]\nprivate = [\"127.0.0.0/8\"]\nlimit = 3\n";
    let paper = open("subscribe", more);
    let url = |path: &str| format!("http://{}/ext-event/{path}", receiver.address);
    let opaque = "planted-f2a8vdrfae0s1ku5d2rj3iximjf3twyz";
    let added = subscribe(&paper, "hangup", &url(opaque));
    assert_eq!((added.status, &added.json()["url"]), (201, &json!(url(opaque))), "{}", added.text);
    assert_eq!(added.json().get("proposal"), None, "nobody guesses it");
    let again = subscribe(&paper, "hangup", &url(opaque));
    assert_eq!(again.json()["id"], added.json()["id"], "said twice it is one");
    let guessed = subscribe(&paper, "answer", &url("planted")).json();
    assert!(guessed["proposal"].as_str().is_some_and(|it| it.starts_with(&url(""))), "{guessed}");
    let own =
        paper.local("POST", EVENTS, Some(&json!({ "url": url("a"), "event_type": "hangup" }).to_string()));
    assert_eq!((own.status, &own.json()["owner"]), (201, &json!("uid:0")), "{}", own.text);
    let full = subscribe(&paper, "dial-in", &url(opaque));
    assert_eq!((full.status, full.code()), (409, "too_many_subscriptions".to_owned()));
    assert!(
        full.text.contains("1 of uid:0, 2 of token:crm") || full.text.contains("2 of token:crm, 1 of uid:0")
    );
    for (event, url, status) in [
        ("message-in", url(opaque), 400),
        ("hangup", "http://192.168.0.1/x".into(), 400),
        ("hangup", "javascript:alert(1)".into(), 400),
    ] {
        assert_eq!(subscribe(&paper, event, &url).status, status, "{event} {url}");
    }
    let foreign = format!("{EVENTS}{}", own.json()["id"]);
    let refused = program(&paper, "DELETE", &foreign, "");
    assert_eq!((refused.status, refused.code()), (403, "not_yours".to_owned()));
    assert_eq!(program(&paper, "DELETE", &format!("{EVENTS}x"), "").status, 400);
    assert_eq!(program(&paper, "DELETE", &format!("{EVENTS}1"), "").status, 404);
    assert_eq!(program(&paper, "GET", "/api/ver1.0/extension/nobody/event/", "").status, 404);
    let mine = listed(&program(&paper, "GET", EVENTS, ""));
    assert_eq!(mine.len(), 2, "another program's is not shown");
    let all = paper.local("GET", EVENTS, None);
    assert_eq!(listed(&all).len(), 3);
    assert!(!all.text.contains("planted"), "a URL is the secret of whoever gave it: {}", all.text);

    let call = leg("c1", "+74951234567", "Anna");
    tell(&paper, "c1", Kind::CallAnswered { leg: call.clone(), ring_us: 1, automatic: None });
    tell(&paper, "c1", ended(&call, CallResult::Answered));
    until("all are told", || receiver.got().len() == 3);
    let told: Vec<_> = receiver.got().iter().map(|got| (got.target.clone(), pairs(&got.text))).collect();
    for (path, event) in [(opaque, "hangup"), ("planted", "answer"), ("a", "hangup")] {
        let path = format!("/ext-event/{path}");
        let (_, form) = told.iter().find(|(target, _)| *target == path).expect("it was told");
        assert_eq!((form["EventType"].as_str(), form["SubCallID"].as_str()), (event, "1001-c1-1"));
        assert_eq!(form["CalledExtensionID"], "1001");
    }

    let (folder, address) = (paper.folder.clone(), paper.address);
    paper.close();
    let paper = Paper::at(folder, address, more);
    until("it is there again", || program(&paper, "GET", EVENTS, "").status == 200);
    assert_eq!(listed(&program(&paper, "GET", EVENTS, "")), mine, "it outlived the program");
    let name = format!("subscription:{}", mine[0].0);
    assert_eq!(view(&paper, &name)["kind"], "ringme");
    for (id, ..) in &mine {
        assert_eq!(program(&paper, "DELETE", &format!("{EVENTS}{id}"), "").status, 200);
    }
    assert_eq!(listed(&paper.local("GET", EVENTS, None)).len(), 1, "the other program's is untouched");
    let upstreams = paper.local("GET", "/api/v1/upstreams", None).text;
    assert!(!upstreams.contains(&name) && !upstreams.contains("planted"), "{upstreams}");
}

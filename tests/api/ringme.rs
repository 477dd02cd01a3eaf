//! What Ringme's integrations are told, by a receiver that reads as they do.

use std::collections::BTreeMap;

use tipring::events::{CallResult, Event, Kind, Leg, Number, Origin};

use crate::dialects::{ended, pairs};
use crate::leg;
use crate::office::{Paper, THEN, until};
use crate::receiver::{Got, Receiver, Reply};
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

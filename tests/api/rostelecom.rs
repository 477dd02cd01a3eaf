//! What a CRM is told that was written for Rostelecom's virtual PBX.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tipring::events::{CallResult, Event, Kind, Number, Origin};

use crate::dialects::ended;
use crate::leg;
use crate::office::until;
use crate::receiver::{Got, Receiver, Reply};
use crate::upstreams::{at, open, view};

const CLIENT: &str = "000003C405E6525C64C184258C44EC99";
const KEY: &str = "planted-ABDA6D4DFF10F82BCBBFC532";

/// A body as its handlers read it: the fields of the manual, and no other.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CallEvent {
    session_id: String,
    timestamp: String,
    r#type: String,
    state: String,
    from_number: String,
    from_pin: String,
    request_number: String,
    request_pin: String,
    disconnect_reason: String,
    is_record: String,
}

/// Believes a request by its signature over the bytes that came, before it reads any of them.
fn handler(got: &Got) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/rt?key=planted-path"));
    assert_eq!(got.field("x-client-id"), CLIENT);
    let mut hash = Sha256::new();
    hash.update(CLIENT);
    hash.update(&got.text);
    hash.update(KEY);
    let expected: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got.field("x-client-sign"), expected);
    let event: CallEvent = serde_json::from_str(&got.text).expect("the fields of the manual");
    let numbers = [&event.from_number, &event.request_number];
    assert!(numbers.iter().all(|it| it.is_empty() || it.starts_with("sip:")), "{event:?}");
}

#[test]
fn rostelecoms_handlers_believe_each_event_and_a_repetition_is_the_same_to_the_byte() {
    let receiver = Receiver::of(handler, |_, count| Reply::Status(if count == 0 { 500 } else { 200 }));
    let table = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"rostelecom\"\nurl = \"http://{}/rt?key=planted-path\"\n\
         expire_after = \"0s\"\n[upstream.rostelecom]\nclient_id = \"{CLIENT}\"\nkey = \"{KEY}\"\n\
         domain = \"example.ru\"\npin = \"607\"\n",
        receiver.address
    );
    let paper = open("rostelecom", &table);
    let mut call = leg("c1", "+7 977 123-45-67", "\",\"state\":\"end\"\r\n\u{202e}");
    call.did = Some(Number::new("+74957654321"));
    paper.tell(Event::of_call("c1", Kind::CallNew { leg: call.clone(), origin: Origin::Network }));
    paper.tell(Event::of_call("c1", Kind::CallRinging { leg: call.clone() }));
    paper.tell(Event::of_call("c1", Kind::CallAnswered { leg: call.clone(), ring_us: 1, automatic: None }));
    paper.tell(Event::of_call("c1", ended(&call, CallResult::Answered)));
    until("it has everything", || view(&paper, "crm")["state"] == "idle" && receiver.got().len() == 5);
    let got = receiver.got();
    assert_eq!((got[0].status, got[1].status), (500, 200));
    assert_eq!(got[0].text, got[1].text, "a repetition says the same");
    let events: Vec<CallEvent> =
        got[1..].iter().map(|got| serde_json::from_str(&got.text).expect("an event")).collect();
    let states: Vec<&str> = events.iter().map(|event| event.state.as_str()).collect();
    assert_eq!(states, ["new", "calling", "connected", "disconnected"]);
    assert_eq!(
        events[0],
        CallEvent {
            session_id: "c1".into(),
            timestamp: "2026-11-21 11:00:00.000".into(),
            r#type: "incoming".into(),
            state: "new".into(),
            from_number: "sip:79771234567@example.ru".into(),
            from_pin: String::new(),
            request_number: "sip:74957654321@example.ru".into(),
            request_pin: "607".into(),
            disconnect_reason: String::new(),
            is_record: String::new(),
        }
    );
    let tested = at(&paper, &["upstream", "test", "crm"]);
    assert_eq!(tested.code, Some(0), "{}", tested.err);
    let test: Value = serde_json::from_str(&receiver.got()[5].text).expect("JSON");
    assert_eq!((&test["state"], &test["session_id"]), (&"test".into(), &"".into()));
    for path in ["/api/v1/upstreams", "/api/v1/config", "/metrics"] {
        assert!(!paper.local("GET", path, None).text.contains("planted"), "{path}");
    }
}

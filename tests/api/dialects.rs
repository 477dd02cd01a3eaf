//! Each further kind of upstream against a receiver that reads as that system does.

use serde_json::{Value, json};
use tipring::events::{CallResult, Cause, Direction, EndedBy, Event, Kind, Leg, Origin, Party};

use crate::commands::{done, tipring};
use crate::leg;
use crate::office::{Paper, THEN, until};
use crate::receiver::{Got, Receiver, Reply};
use crate::upstreams::{at, open, view};

/// The end of a call that came from this number under this name.
fn closed(paper: &Paper, call: &str, result: CallResult, name: &str) {
    let leg = leg(call, "+7 495 123-45-67", name);
    let kind = Kind::CallClosed {
        line: leg.line,
        direction: Direction::In,
        caller: leg.caller,
        called: Party::numbered("1001"),
        did: None,
        result,
        missed: result.is_missed(),
        legs: 1,
        total_us: 12_300_000,
        talk_us: 0,
    };
    paper.tell(Event::of_call(call, kind));
}

/// What Slack's incoming webhooks look at.
fn slack(got: &Got) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/services/T0/B0/planted-token"));
    assert!(got.content_type.starts_with("application/json"), "{got:?}");
    let message: Value = serde_json::from_str(&got.text).expect("a payload that is JSON");
    assert!(message["text"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 40_000), "{got:?}");
}

/// The text as Slack shows it: links by their words, moments by their fallback, entities as what they stand for.
fn displayed(got: &Got) -> String {
    let message: Value = serde_json::from_str(&got.text).expect("JSON");
    let text = message["text"].as_str().expect("a text");
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let (inside, behind) = after.split_once('>').expect("what is opened is closed");
        let (target, label) = inside.split_once('|').expect("a label");
        assert!(target.starts_with("!date^") || target.starts_with("https://crm.example/"), "{text}");
        shown.push_str(before);
        shown.push_str(label);
        rest = behind;
    }
    shown.push_str(rest);
    shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[test]
fn slack_is_told_of_calls_to_return_and_its_refusals_are_explained() {
    let receiver = Receiver::of(slack, |_, count| match count {
        0 => Reply::Full(429, "Retry-After: 1\r\n", b"rate_limited".to_vec()),
        _ => Reply::Full(200, "", b"ok".to_vec()),
    });
    let table = format!(
        "[[upstream]]\nname = \"team\"\nkind = \"slack\"\nurl = \"http://{}/services/T0/B0/planted-token\"\n\
         [upstream.slack]\nlink = \"https://crm.example/search?number=$number&name=$name\"\n",
        receiver.address
    );
    let paper = open("slack", &table);
    closed(&paper, "c1", CallResult::AnsweredElsewhere, "Elsewhere");
    closed(&paper, "c2", CallResult::Cancelled, "<!channel> & \"Co\"");
    closed(&paper, "c3", CallResult::Answered, "Answered");
    until("it has everything", || view(&paper, "team")["state"] == "idle" && receiver.got().len() == 2);
    let got = receiver.got();
    assert_eq!(got.iter().map(|got| got.status).collect::<Vec<_>>(), [429, 200]);
    assert_eq!(got[0].text, got[1].text, "a repetition says the same");
    assert_eq!(
        displayed(&got[1]),
        "Missed call from <!channel> & \"Co\" (+74951234567) on line main, 2026-11-21 07:59 UTC: they gave up after 12 s\n\
         Look it up"
    );
    assert!(
        got[1].text.contains("number=%2B74951234567&amp;name=%3C%21channel%3E%20%26%20%22Co%22|"),
        "{}",
        got[1].text
    );

    let tested = at(&paper, &["upstream", "test", "team"]);
    assert!(tested.code == Some(0) && tested.out.starts_with("taken with status 200"), "{}", tested.out);
    assert!(displayed(&receiver.got()[2]).contains("a test by the phone TR-1"));
    receiver.behave(|_, _| Reply::Full(404, "", b"no_service".to_vec()));
    let refused = at(&paper, &["upstream", "test", "team"]);
    assert!(refused.err.contains("it answers 404; make a new incoming webhook"), "{}", refused.err);
    receiver.behave(|_, _| Reply::Full(410, "", b"channel_is_archived".to_vec()));
    closed(&paper, "c4", CallResult::NoAnswer, "Anna");
    until("it stops", || view(&paper, "team")["state"] == "stopped");
    let stopped = view(&paper, "team");
    assert!(stopped["cure"].as_str().is_some_and(|cure| cure.contains("channel_is_archived")), "{stopped}");
    for path in ["/api/v1/upstreams", "/api/v1/config", "/metrics"] {
        assert!(!paper.local("GET", path, None).text.contains("planted-token"), "{path}");
    }
}

/// What a CRM that knows desk phones looks at: a GET without a body, with its password.
fn desk_phone(got: &Got) {
    assert_eq!((got.method.as_str(), got.text.as_str(), got.content_type.as_str()), ("GET", "", ""));
    assert_eq!(got.authorization.as_deref(), Some("Basic cGxhbnRlZDpwbGFudGVk"));
    assert!(got.target.starts_with("/phone?key=planted-key&"), "{got:?}");
}

/// The end of a leg, which the other side ended.
pub fn ended(leg: &Leg, result: CallResult) -> Kind {
    Kind::CallEnded {
        leg: leg.clone(),
        result,
        cause: Cause { by: Some(EndedBy::Remote), ..Cause::default() },
        total_us: 12_300_000,
        ring_us: 12_300_000,
        talk_us: 0,
        hold_us: 0,
        quality: None,
        recording_id: None,
        vote: None,
    }
}

#[test]
fn a_crm_of_desk_phones_is_asked_for_what_happens_with_hostile_names_in_their_place() {
    let receiver = Receiver::of(desk_phone, |_, count| Reply::Status(if count == 0 { 503 } else { 200 }));
    let table = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"action-url\"\nurl = \"http://{}\"\n\
         authorization = \"Basic cGxhbnRlZDpwbGFudGVk\"\nexpire_after = \"0s\"\n[upstream.action_url]\n\
         incoming_call = \"/phone?key=planted-key&e=$event&from=$remote_number&who=${{display_remote}}&to=$local\"\n\
         call_terminated = \"/phone?key=planted-key&e=$event&call=$call_id&s=$duration&d=$callDirection\"\n\
         missed_call = \"/phone?key=planted-key&e=$event&from=$remote&line=$line\"\n",
        receiver.address
    );
    let paper = open("desk", &table);
    let name = "\"&e=call_terminated\r\nX-Evil: 1\u{202e}#ü";
    let hostile = leg("c1", "+7 495 123-45-67", name);
    paper.tell(Event::of_call("c1", Kind::CallRinging { leg: hostile.clone() }));
    paper.tell(Event::of_call("c1", ended(&hostile, CallResult::Cancelled)));
    closed(&paper, "c1", CallResult::Cancelled, name);
    until("it has everything", || view(&paper, "crm")["state"] == "idle" && receiver.got().len() == 4);
    let got = receiver.got();
    assert_eq!((got[0].status, got[1].status), (503, 200));
    assert_eq!(got[0].target, got[1].target, "a repetition says the same");
    let expected = [
        vec![("e", "incoming_call"), ("from", "+74951234567"), ("who", name), ("to", "1001")],
        vec![("e", "call_terminated"), ("call", "c1"), ("s", "0"), ("d", "incoming")],
        vec![("e", "missed_call"), ("from", "+74951234567"), ("line", "main")],
    ];
    for (got, expected) in got[1..].iter().zip(expected) {
        let mut query = got.query();
        assert_eq!(query.remove("key").as_deref(), Some("planted-key"));
        let expected = expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query, expected.collect());
    }
    let tested = at(&paper, &["upstream", "test", "crm"]);
    assert_eq!(tested.code, Some(0), "{}", tested.err);
    let test = receiver.got()[4].query();
    assert_eq!((test["e"].as_str(), test["from"].as_str()), ("test", ""));
    for path in ["/api/v1/upstreams", "/api/v1/config", "/metrics"] {
        assert!(!paper.local("GET", path, None).text.contains("planted-key"), "{path}");
    }
}

/// What a server that keeps Webitel's records looks at: JSON, and of a record the fields it could not do without.
fn webitel(got: &Got) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/hook?key=planted-key"));
    assert!(got.content_type.starts_with("application/json"), "{got:?}");
    let _: Value = serde_json::from_str(&got.text).expect("JSON");
}

/// A call detail record as somebody reads it who has only Webitel's documentation: an unknown field is a mistake.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    uuid: String,
    parent_uuid: String,
    direction: String,
    caller_id_name: String,
    caller_id_number: String,
    destination_number: String,
    domain_name: String,
    extension: String,
    presence_id: String,
    gateway: String,
    hangup_cause: String,
    hangup_cause_q850: u16,
    hangup_disposition: String,
    created_time: i64,
    duration: u32,
    billsec: u32,
    talksec: u32,
    waitsec: u32,
    holdsec: u32,
    callflow: Value,
    variables: Value,
}

#[test]
fn webitel_gets_hooks_with_hostile_names_in_their_place_and_records_in_its_words() {
    let receiver = Receiver::of(webitel, |_, count| Reply::Status(if count == 0 { 500 } else { 200 }));
    let url = format!("http://{}/hook?key=planted-key", receiver.address);
    let table = |name: &str, hooks: &str| {
        format!(
            "[[upstream]]\nname = \"{name}\"\nkind = \"webitel\"\nurl = \"{url}\"\nexpire_after = \"0s\"\n\
             [upstream.webitel]\ndomain = \"x.webitel.com\"\n{hooks}\n"
        )
    };
    let body = "{\"e\": \"${event}\", \"who\": ${caller_id_name}, \"text\": \"<${caller_id_name}>\", \"billsec\": ${billsec}}";
    let hooks = format!("channel_create = '{body}'\nchannel_answer = '{body}'\non_disconnect = '{body}'");
    let paper = open("webitel", &(table("hooks", &hooks)));
    let name = "\",\"admin\":true,\"\\\r\n\u{202e}";
    let hostile = leg("c1", "+7 495 123-45-67", name);
    paper.tell(Event::of_call("c1", Kind::CallNew { leg: hostile.clone(), origin: Origin::Network }));
    paper.tell(Event::of_call("c1", ended(&hostile, CallResult::Cancelled)));
    until("it has everything", || view(&paper, "hooks")["state"] == "idle" && receiver.got().len() == 3);
    let hooks: Vec<Value> =
        receiver.got().iter().map(|got| serde_json::from_str(&got.text).expect("JSON")).collect();
    let expected = |event: &str, billsec: Value| json!({ "e": event, "who": name, "text": format!("<{name}>"), "billsec": billsec });
    let created = expected("CHANNEL_CREATE", Value::Null);
    assert_eq!(hooks, [created.clone(), created, expected("CHANNEL_HANGUP_COMPLETE", 0.into())]);
    assert_eq!(receiver.got()[0].text, receiver.got()[1].text, "a repetition says the same");
    let tested = at(&paper, &["upstream", "test", "hooks"]);
    assert_eq!(tested.code, Some(0), "{}", tested.err);

    let records = Receiver::of(webitel, |_, _| Reply::Status(200));
    let table = table("records", "").replace(&receiver.address.to_string(), &records.address.to_string());
    let paper = open("records", &table);
    paper.tell(Event::of_call("c1", Kind::CallNew { leg: hostile.clone(), origin: Origin::Network }));
    paper.tell(Event::of_call("c1", ended(&hostile, CallResult::Cancelled)));
    until("the record came", || view(&paper, "records")["state"] == "idle" && records.got().len() == 1);
    let record: Record = serde_json::from_str(&records.got()[0].text).expect("a record");
    let begun = THEN - 12_300_000;
    assert_eq!(
        record,
        Record {
            uuid: "c1-1".into(),
            parent_uuid: "c1".into(),
            direction: "inbound".into(),
            caller_id_name: name.into(),
            caller_id_number: "+74951234567".into(),
            destination_number: "1001".into(),
            domain_name: "x.webitel.com".into(),
            extension: "1001".into(),
            presence_id: "1001@x.webitel.com".into(),
            gateway: "main".into(),
            hangup_cause: "ORIGINATOR_CANCEL".into(),
            hangup_cause_q850: 487,
            hangup_disposition: "recv_cancel".into(),
            created_time: begun / 1000,
            duration: 12,
            billsec: 0,
            talksec: 0,
            waitsec: 12,
            holdsec: 0,
            callflow: json!([{ "times": { "created": begun, "hangup": THEN, "hold_accum": 0 } }]),
            variables: json!({ "sip_call_id": "r1" }),
        }
    );
}

#[test]
fn an_upstream_that_would_be_told_nothing_is_found_by_check() {
    let paper = Paper::open("mute");
    let file = paper.folder.join("mute.toml");
    let text = "[[upstream]]\nname = \"team\"\nkind = \"slack\"\nurl = \"https://hooks.example/x\"\nevents = [\"call.ended\"]\n";
    std::fs::write(&file, text).expect("a file");
    let checked =
        done(tipring(&["check", "--config", &file.display().to_string()]).output().expect("it runs"));
    let expected = "mute.toml:5: warning: events leaves out all that upstream team of kind \"slack\" could be told; \
                    have one of these in it: call.closed";
    assert!((checked.out + &checked.err).contains(expected), "{:?}", checked.code);
}

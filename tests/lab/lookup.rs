//! Who calls: a handler as CRMs have it for Rostelecom's virtual PBX is asked by the phone, while Asterisk brings the call.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::friendly::{PBX, stage};
use crate::phone::Setup;
use crate::receiver::{Got, Receiver, Reply};
use crate::systems::{CLIENT_ID, KEY, signed_by_rostelecom};

const CODEC: &str = r#"codecs = ["PCMA"]"#;
/// Believes a question by its signature.
fn handler(got: &Got) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/rt/get_number_info"));
    signed_by_rostelecom(got);
}

/// Who calls, as a CRM knows it: one customer by name, and one whose agent is at 603.
fn known(got: &Got) -> &'static str {
    match got.event()["from_number"].as_str() {
        Some("sip:1002@example.ru") => r#"{"result":0,"resultMessage":" ","displayName":"Anna & Co"}"#,
        Some("sip:1003@example.ru") => r#"{"result":"0","displayName":"Boris","PIN":"603"}"#,
        other => panic!("{other:?} calls"),
    }
}

#[test]
fn a_crm_names_one_caller_and_sends_another_one_on_to_an_extension() {
    let Some((lab, mut asterisk, host)) = stage("caller look-up") else { return };
    let listener = host.enter(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let crm = Receiver::on(listener, None, handler, |got, _| Reply::Full(200, "", known(got).into()));
    let lookup = format!(
        "[lookup]\nkind = \"rostelecom\"\nurl = \"http://{}/rt/get_number_info\"\nwait = true\ntimeout = \"5s\"\n\
         internal = true\n[lookup.rostelecom]\nclient_id = \"{CLIENT_ID}\"\nkey = \"{KEY}\"\ndomain = \"example.ru\"",
        crm.address
    );
    let asked = Setup::new("1001", PBX).line(CODEC).table(&lookup).start(&lab, &host);
    asterisk.registered("1001");
    let [first, second] = [("1002", 51), ("1003", 52)].map(|(account, at)| {
        let phone = Setup::new(account, PBX).line(CODEC).start(&lab, &lab.host(account, at));
        asterisk.registered(account);
        phone
    });
    let call = first.call("1001");
    let ringing = asked.wait_event("call.ringing");
    assert_eq!(ringing["data"]["caller"]["name"], "Anna & Co", "{ringing}");
    let shown = asked.get("/api/v1/status");
    assert_eq!(shown["calls"][0]["name"], "Anna & Co", "{shown}");
    first.hang_up(&call);
    asked.closed();
    let call = second.call("1001");
    let sent_on = asked.wait_event("call.transferred");
    assert_eq!(sent_on["data"]["target"]["dialled"], "603", "{sent_on}");
    let closed = asked.closed();
    assert_eq!(
        (&closed["result"], &closed["missed"]),
        (&json!("answered_elsewhere"), &json!(false)),
        "{closed}"
    );
    // Asterisk follows: whoever called hears what is at 603.
    second.wait_event("call.media");
    sleep(Duration::from_secs(3));
    second.hang_up(&call);
    asterisk.idle();
    assert!(second.heard().seconds_of(1004.0) > 1.5, "heard {} s of 603", second.heard().seconds_of(1004.0));
    assert_eq!(asked.count("call.ringing"), 1, "the second call rang nowhere here");
    let questions: Vec<Value> = crm.got().iter().map(Got::event).collect();
    let states: Vec<_> = questions.iter().map(|it| (&it["state"], &it["request_pin"])).collect();
    assert_eq!(states, [(&json!("new"), &json!("1001")); 2], "{questions:?}");
}

//! SIP over WebSocket (RFC 7118) with the two servers that most PBXs are made of: registered, calling, called after idle,
//! and what is said where the path leads nowhere.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::friendly::{stage, tone_call};
use crate::kamailio::Kamailio;
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::router::Nat;

const PBX: &str = "203.0.113.10";

/// A line over WebSocket at Asterisk, with this path.
fn line(lab: &Lab, account: &str, path: &str) -> Setup {
    let ca = Pki::of(lab).ca_file;
    Setup::new(account, PBX)
        .line(r#"transport = "wss""#)
        .line(&format!("websocket = \"wss://{PBX}:8089{path}\""))
        .line(&format!("ca_file = {ca:?}"))
        .line(r#"codecs = ["PCMU"]"#)
}

/// Answers the call that comes, and hears 1004 Hz in it.
fn take_call(phone: &Phone) {
    let ringing = phone.wait_event("call.ringing");
    let call = ringing["subject"].as_str().expect("an id").to_owned();
    phone.act(&call, "answer");
    phone.wait_event("call.media");
    sleep(Duration::from_secs(2));
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    assert!(phone.heard().seconds_of(1004.0) > 1.6, "heard {} s", phone.heard().seconds_of(1004.0));
}

#[test]
fn a_line_over_websocket_at_asterisk_calls_and_is_called() {
    let Some((lab, mut asterisk, _)) = stage("SIP over WebSocket") else { return };
    // Nobody gets in here but by what went out.
    let office = lab.office("site", 101, Nat::Symmetric);
    let phone = line(&lab, "1001", "/ws").start(&lab, &office.host);
    let registered = phone.wait_event("line.registered");
    assert_eq!(registered["data"]["transport"], "wss", "{registered}");
    assert_eq!(registered["data"]["registrar"], "203.0.113.10:8089", "{registered}");
    asterisk.registered("1001");
    tone_call(&phone, &mut asterisk, "PCMU");
    sleep(Duration::from_secs(20));
    asterisk.call("1001", "603");
    take_call(&phone);
    asterisk.idle();
    let trace = phone.get("/api/v1/trace").to_string();
    assert!(trace.contains("SIP/2.0/WSS") && trace.contains("\"wss\""), "{trace}");
    let via = phone.get("/api/v1/status")["lines"][0]["via"].clone();
    assert_eq!(via, json!("wss:203.0.113.10:8089"));
}

#[test]
fn a_path_without_websocket_is_told_with_the_next_step() {
    let Some((lab, _asterisk, host)) = stage("a wrong path of a WebSocket") else { return };
    let phone = line(&lab, "1001", "/elsewhere").launch(&lab, &host);
    let failed = phone.wait_event("line.unregistered");
    let text = failed["data"]["cause"]["text"].as_str().unwrap_or_default();
    assert!(text.contains("there is no WebSocket at wss://203.0.113.10:8089/elsewhere (404"), "{failed}");
    assert!(text.contains("write the URL that the PBX serves as websocket"), "{failed}");
}

/// A phone at Kamailio over WebSocket.
fn at_kamailio(lab: &Lab, host: &Host, account: &str) -> Phone {
    let ca = Pki::of(lab).ca_file;
    Setup::new(account, "203.0.113.20")
        .line(r#"transport = "wss""#)
        .line(r#"websocket = "wss://203.0.113.20:8443/ws""#)
        .line(&format!("ca_file = {ca:?}"))
        .line(r#"codecs = ["PCMA"]"#)
        .start(lab, host)
}

#[test]
fn two_phones_over_websocket_at_kamailio_call_each_other() {
    let Some(lab) = Lab::new("SIP over WebSocket at Kamailio", &["kamailio", "ss"]) else { return };
    let kamailio = Kamailio::start_with_websocket(&lab, "kam1", 20);
    let (one, other) = (lab.host("one", 50), lab.host("other", 51));
    let (a, b) = (at_kamailio(&lab, &one, "1001"), at_kamailio(&lab, &other, "1002"));
    kamailio.logged("register 1001 over wss", Duration::from_secs(5));
    kamailio.logged("register 1002 over wss", Duration::from_secs(5));
    // Its pings have been answered meanwhile, or the connections would be gone.
    sleep(Duration::from_secs(17));
    let call = a.call("1002");
    let ringing = b.wait_event("call.ringing");
    b.act(ringing["subject"].as_str().expect("an id"), "answer");
    a.wait_event("call.media");
    b.wait_event("call.media");
    sleep(Duration::from_secs(2));
    b.act(ringing["subject"].as_str().expect("an id"), "hangup");
    let closed = a.closed();
    assert_eq!(closed["result"], "answered", "{closed}");
    assert_eq!(b.closed()["result"], "answered", "of {call}");
    for (who, phone) in [("the caller", &a), ("the called one", &b)] {
        let heard = phone.heard();
        assert!(heard.seconds_of(440.0) > 1.6, "{who} heard {} s", heard.seconds_of(440.0));
    }
}

/// A firewall before the PBX: what is named here is dropped without a word.
fn firewall(asterisk: &crate::asterisk::Asterisk, rules: &[&str]) {
    let text = rules.iter().map(|rule| format!("{rule} drop; ")).collect::<String>();
    let chain = format!(
        "add table inet wall; flush table inet wall; add chain inet wall in {{ type filter hook input priority 0; {text} }}"
    );
    asterisk.host.run("nft", &[&chain]);
}

#[test]
fn where_only_the_web_gets_out_a_list_is_up_within_seconds_and_returns_to_udp() {
    let Some((lab, mut asterisk, host)) = stage("a list of transports") else { return };
    firewall(&asterisk, &["udp dport 5060", "tcp dport { 5060, 5061 }"]);
    let ca = Pki::of(&lab).ca_file;
    let phone = Setup::new("1001", PBX)
        .line(r#"transport = "auto""#)
        .line(&format!("websocket = \"wss://{PBX}:8089/ws\""))
        .line(&format!("ca_file = {ca:?}"))
        .line(r#"codecs = ["PCMU"]"#)
        .start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert_eq!(registered["data"]["transport"], "wss", "{registered}");
    asterisk.registered("1001");
    tone_call(&phone, &mut asterisk, "PCMU");
    firewall(&asterisk, &[]);
    let is_udp = |event: &serde_json::Value| event["data"]["transport"] == "udp";
    phone.wait_event_that("line.registered", "over UDP", Duration::from_secs(120), is_udp);
    assert_eq!(phone.count("line.unregistered"), 0, "{}", phone.story());
    let contact = asterisk.contact("1001").expect("a contact");
    assert!(!contact.contains("transport=ws"), "{contact}");
    asterisk.call("1001", "603");
    take_call(&phone);
}

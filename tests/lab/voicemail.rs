//! Mailboxes of a real Asterisk: it takes a message, and the phone tells that it waits.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::friendly::stage;
use crate::phone::Setup;
use crate::process::within;

const PBX: &str = "203.0.113.10";

/// A message is left in the mailbox of this account and taken out again; `line` is one more key of the phone.
fn mailbox(account: &str, line: &str) {
    let Some((lab, mut asterisk, host)) = stage("voicemail") else { return };
    let phone = Setup::new(account, PBX).line(line).start(&lab, &host);
    asterisk.registered(account);
    let none = phone.wait_event("voicemail.waiting");
    assert_eq!((&none["data"]["waiting"], &none["data"]["new"]), (&json!(false), &json!(0)), "{none}");
    // The phone itself speaks the message: it has a voice.
    let call = phone.call(&format!("8{}", &account[1..]));
    phone.wait_event("call.answered");
    sleep(Duration::from_secs(4));
    // Asterisk may tell before it answers the BYE.
    phone.act(&call, "hangup");
    let one = phone.wait_event("voicemail.waiting");
    let data = &one["data"];
    assert_eq!((&data["line"], &data["waiting"]), (&json!("main"), &json!(true)), "{one}");
    assert_eq!((&data["new"], &data["old"]), (&json!(1), &json!(0)), "{one}");
    assert_eq!(phone.get("/api/v1/status")["lines"][0]["voicemail"]["new"], 1);
    asterisk.empty_mailbox(account);
    let none = phone.wait_event("voicemail.waiting");
    assert_eq!((&none["data"]["waiting"], &none["data"]["new"]), (&json!(false), &json!(0)), "{none}");
    assert_eq!(phone.count("voicemail.waiting"), 3, "told on change only: {}", phone.story());
    asterisk.idle();
}

#[test]
fn a_message_is_told_to_who_has_not_asked() {
    mailbox("1301", "subscribe_mwi = false");
}

#[test]
fn a_message_is_told_to_who_has_subscribed() {
    mailbox("1303", "subscribe_mwi = true");
}

#[test]
fn a_subscription_ends_with_the_registration() {
    let Some((lab, mut asterisk, host)) = stage("the end of a subscription") else { return };
    let mut phone = Setup::new("1303", PBX).line("subscribe_mwi = true").start(&lab, &host);
    phone.wait_event("voicemail.waiting");
    assert!(asterisk.command("pjsip show subscriptions inbound").contains("1303"));
    assert_eq!(phone.stop(), Some(0), "{}", phone.output());
    within("Asterisk has no subscription left", Duration::from_secs(5), || {
        (!asterisk.command("pjsip show subscriptions inbound").contains("1303")).then_some(())
    });
    assert_eq!(asterisk.contact("1303"), None);
}

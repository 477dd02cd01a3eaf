//! Calls that are given away, through Asterisk and through a proxy: what the other phone hears afterwards tells who has the call.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::asterisk::Asterisk;
use crate::friendly::{PBX, stage};
use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::sound::{Wav, sine};

const CODEC: &str = r#"codecs = ["PCMA"]"#;

/// A phone that answers by itself and speaks this tone.
fn speaking(lab: &Lab, asterisk: &mut Asterisk, account: &str, host: u8, hertz: f64) -> Phone {
    let phone = Setup::new(account, PBX)
        .line(CODEC)
        .line("auto_answer = true")
        .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
        .start(lab, &lab.host(account, host));
    asterisk.registered(account);
    phone
}

fn transfer(phone: &Phone, call: &str, to: &serde_json::Value) {
    phone.post(&format!("/api/v1/calls/{call}/transfer"), to);
}

#[test]
fn a_call_given_away_blindly_is_heard_by_the_target() {
    let Some((lab, mut asterisk, host)) = stage("blind transfer") else { return };
    let a = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let b = speaking(&lab, &mut asterisk, "1002", 51, 660.0);
    let call = a.call("1002");
    a.wait_event("call.media");
    sleep(Duration::from_secs(1));
    transfer(&a, &call, &json!({ "to": "603" }));
    let told = a.wait_event("call.transferred");
    assert_eq!((&told["data"]["way"], &told["data"]["target"]["dialled"]), (&json!("blind"), &json!("603")));
    let ended = a.wait_event("call.ended");
    assert_eq!(ended["data"]["cause"]["text"], "transferred to 603", "{ended}");
    sleep(Duration::from_secs(3));
    let theirs = b.get("/api/v1/calls")["calls"][0]["id"].as_str().expect("its call goes on").to_owned();
    b.hang_up(&theirs);
    asterisk.idle();
    let (at_b, there) = (b.heard(), asterisk.recording("heard.wav"));
    assert!(at_b.seconds_of(1004.0) > 2.0, "B heard {} s of 1004 Hz", at_b.seconds_of(1004.0));
    assert!(there.seconds_of(660.0) > 2.0, "the target heard {} s of 660 Hz", there.seconds_of(660.0));
    assert!(a.heard().seconds_of(660.0) > 0.5, "A heard B before");
}

#[test]
fn a_target_that_is_not_there_leaves_the_call_here() {
    let Some((lab, mut asterisk, host)) = stage("transfer to nobody") else { return };
    let a = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let b = speaking(&lab, &mut asterisk, "1002", 51, 660.0);
    let call = a.call("1002");
    a.wait_event("call.media");
    transfer(&a, &call, &json!({ "to": "699" }));
    let told = a.wait_event("call.transfer_failed");
    assert_eq!(told["data"]["cause"]["status"], 404, "{told}");
    sleep(Duration::from_secs(2));
    a.hang_up(&call);
    b.closed();
    asterisk.idle();
    assert!(a.heard().seconds_of(660.0) > 1.5, "A heard {} s of 660 Hz", a.heard().seconds_of(660.0));
}

#[test]
fn two_far_ends_hear_each_other_once_they_are_joined() {
    let Some((lab, mut asterisk, host)) = stage("attended transfer") else { return };
    let a = Setup::new("1001", PBX).line(CODEC).line("max_calls = 2").start(&lab, &host);
    let b = speaking(&lab, &mut asterisk, "1002", 51, 660.0);
    let c = speaking(&lab, &mut asterisk, "1003", 52, 880.0);
    let first = a.call("1002");
    a.wait_event("call.media");
    a.act(&first, "hold");
    a.wait_event("call.held");
    let second = a.call("1003");
    a.wait_event("call.media");
    sleep(Duration::from_secs(1));
    transfer(&a, &first, &json!({ "call": second }));
    // The one that was taken over may be over before it is told that the other one was given away.
    a.wait_event("call.closed");
    a.wait_event("call.closed");
    let told = a
        .count_that("call.transferred", |it| it["data"]["way"] == "attended" && it["data"]["with"] == second);
    assert_eq!(told, 1, "{}", a.story());
    sleep(Duration::from_secs(3));
    let theirs = b.get("/api/v1/calls")["calls"][0]["id"].as_str().expect("its call goes on").to_owned();
    b.hang_up(&theirs);
    c.closed();
    asterisk.idle();
    let (at_b, at_c) = (b.heard(), c.heard());
    assert!(at_b.seconds_of(880.0) > 2.0, "B heard {} s of C", at_b.seconds_of(880.0));
    assert!(at_c.seconds_of(660.0) > 2.0, "C heard {} s of B", at_c.seconds_of(660.0));
    assert!(a.heard().seconds_of(880.0) > 0.5, "A heard C before");
}

/// 1502 is one of the accounts that Asterisk tells by P-Asserted-Identity who is there.
#[test]
fn who_is_given_away_by_another_phone_sees_whom_to() {
    let Some((lab, mut asterisk, host)) = stage("connected line") else { return };
    let a = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let b = speaking(&lab, &mut asterisk, "1502", 51, 660.0);
    let c = speaking(&lab, &mut asterisk, "1003", 52, 880.0);
    let call = a.call("1502");
    a.wait_event("call.media");
    sleep(Duration::from_secs(1));
    transfer(&a, &call, &json!({ "to": "1003" }));
    a.wait_event("call.transferred");
    let told = b.wait_event("call.party_changed");
    let number = |party: &str| told["data"][party]["dialled"].as_str().map(str::to_owned);
    assert_eq!((number("caller"), number("connected")), (Some("1001".into()), Some("1003".into())), "{told}");
    let shown = b.get("/api/v1/calls")["calls"][0].clone();
    assert_eq!(shown["number"], "1003", "{shown}");
    b.hang_up(shown["id"].as_str().expect("its call goes on"));
    c.closed();
    asterisk.idle();
}

#[test]
fn who_is_sent_on_by_the_pbx_calls_the_target_and_it_is_one_call() {
    let Some((lab, mut asterisk, host)) = stage("REFER of the PBX") else { return };
    let a = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let call = a.call("640");
    let new = a.wait_event_that("call.new", "of REFER", Duration::from_secs(10), |it| {
        it["data"]["origin"] == "refer"
    });
    let next = format!("{call}-2");
    assert_eq!((&new["subject"], &new["data"]["leg_id"]), (&json!(call), &json!(next)), "{new}");
    let told = a.wait_event("call.transferred");
    assert_eq!((&told["data"]["by"], &told["data"]["next_leg"]), (&json!("remote"), &json!(next)), "{told}");
    let ended = a.wait_event("call.ended");
    assert_eq!(ended["data"]["leg_id"], format!("{call}-1"), "{ended}");
    sleep(Duration::from_secs(3));
    a.act(&call, "hangup");
    let closed = a.wait_event("call.closed");
    assert_eq!(
        (&closed["data"]["legs"], &closed["data"]["result"]),
        (&json!(2), &json!("answered")),
        "{closed}"
    );
    asterisk.idle();
    assert!(a.heard().seconds_of(1004.0) > 2.0, "A heard {} s of the target", a.heard().seconds_of(1004.0));
}

/// By a proxy, which does not know what a call is: the target itself gets the INVITE that names its call.
#[test]
fn the_target_behind_a_proxy_hears_whoever_comes_in_the_place_of_the_other_one() {
    const PROXY: &str = "203.0.113.20";
    let Some(lab) = Lab::new("INVITE with Replaces", &["kamailio", "ss"]) else { return };
    let _kamailio = Kamailio::start(&lab, "kamailio", 20);
    let start = |account: &str, host: u8, hertz: f64, automatic: bool| {
        let phone = Setup::new(account, PROXY)
            .line(CODEC)
            .line("max_calls = 2")
            .line(&format!("auto_answer = {automatic}"))
            .line(&format!(r#"outbound_proxy = "sip:{PROXY}:5060""#))
            .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
            .start(&lab, &lab.host(account, host));
        phone.wait_event("line.registered");
        phone
    };
    let (b, c) = (start("1002", 51, 660.0, true), start("1003", 52, 880.0, true));
    let a = start("1001", 50, 440.0, false);
    let first = a.call("1002");
    a.wait_event("call.media");
    a.act(&first, "hold");
    a.wait_event("call.held");
    let second = a.call("1003");
    a.wait_event("call.media");
    sleep(Duration::from_secs(1));
    transfer(&a, &first, &json!({ "call": second }));
    // The one that was taken over may be over before the NOTIFY about the other one is here.
    a.wait_event("call.closed");
    a.wait_event("call.closed");
    assert_eq!(a.count("call.transferred"), 1, "{}", a.story());
    let told = c.wait_event("call.transferred");
    let call = told["subject"].as_str().expect("the call's id").to_owned();
    let next = format!("{call}-2");
    assert_eq!((&told["data"]["by"], &told["data"]["next_leg"]), (&json!("remote"), &json!(next)), "{told}");
    assert_eq!(told["data"]["target"]["dialled"], "1002", "{told}");
    sleep(Duration::from_secs(3));
    c.act(&call, "hangup");
    let closed = c.closed();
    assert_eq!((&closed["legs"], &closed["result"]), (&json!(2), &json!("answered")), "{closed}");
    b.closed();
    let (at_b, at_c) = (b.heard(), c.heard());
    assert!(at_b.seconds_of(880.0) > 2.0, "B heard {} s of C", at_b.seconds_of(880.0));
    assert!(at_c.seconds_of(660.0) > 2.0, "C heard {} s of B", at_c.seconds_of(660.0));
    assert!(at_c.seconds_of(440.0) > 0.5, "C heard A before");
}

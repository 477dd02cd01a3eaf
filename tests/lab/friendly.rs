//! Calls through an Asterisk that is as kind as a PBX can be: every codec and transport, both directions, hold, digits.
//! What was said is checked by content on both sides. The parts that take an account are played with the hostile group
//! too (`hostile.rs`).

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::asterisk::Asterisk;
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::within;
use crate::router::Nat;
use crate::sound::{Wav, sine};

pub const PBX: &str = "203.0.113.10";

/// A lab with Asterisk and a host for the phone on the same net.
pub fn stage(what: &str) -> Option<(Lab, Asterisk, Host)> {
    let lab = Lab::new(what, &["unshare"])?;
    let asterisk = Asterisk::start(&lab, what)?;
    let host = lab.host("phone", 50);
    Some((lab, asterisk, host))
}

fn seconds(count: f64) {
    sleep(Duration::from_secs_f64(count));
}

/// A call of three seconds to 1004 Hz: heard here, and our 440 Hz heard there.
pub fn tone_call(phone: &Phone, asterisk: &mut Asterisk, codec: &str) {
    let call = phone.call("603");
    phone.wait_event("call.answered");
    let media = phone.wait_event("call.media");
    assert_eq!(media["data"]["codec"], codec, "{media}");
    seconds(3.0);
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    asterisk.idle();
    let (here, there) = (phone.heard(), asterisk.recording("heard.wav"));
    let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
    assert!(heard > 2.5, "with {codec} 1004 Hz was heard for {heard} s of {} s", here.seconds());
    assert!(said > 2.5, "with {codec} Asterisk heard 440 Hz for {said} s of {} s", there.seconds());
    assert!(
        here.longest_gap_in(1004.0) < 0.1,
        "a gap of {} s in what was heard",
        here.longest_gap_in(1004.0)
    );
}

pub fn narrow_band(account: &str, codec: &str) {
    let Some((lab, mut asterisk, host)) = stage(codec) else { return };
    let phone = Setup::new(account, PBX).line(&format!("codecs = [{codec:?}]")).start(&lab, &host);
    tone_call(&phone, &mut asterisk, codec);
}

#[test]
fn a_call_in_pcmu_is_heard_on_both_sides() {
    narrow_band("1001", "PCMU");
}

#[test]
fn a_call_in_pcma_is_heard_on_both_sides() {
    narrow_band("1001", "PCMA");
}

/// Wide band is wide on both ways: 6 kHz passes to the PBX's record and through its echo.
pub fn wide_band(account: &str, codec: &str) {
    let Some((lab, mut asterisk, host)) = stage(codec) else { return };
    if codec == "opus" && !asterisk.has_opus() {
        return skip("opus with Asterisk", "this Asterisk can't translate it");
    }
    let tone = Wav::new(16000, sine(6000.0, 16000, 2.0, 8000));
    let phone =
        Setup::new(account, PBX).line(&format!("codecs = [{codec:?}]")).speaks(tone).start(&lab, &host);

    let call = phone.call("605");
    let media = phone.wait_event("call.answered");
    seconds(4.0);
    phone.hang_up(&call);
    asterisk.idle();
    let there = asterisk.recording("record.wav16");
    assert!(
        there.seconds_of(6000.0) > 2.0,
        "Asterisk heard {} s of 6 kHz; {media}",
        there.seconds_of(6000.0)
    );

    let call = phone.call("600");
    phone.wait_event("call.answered");
    let media = phone.wait_event("call.media");
    assert_eq!(media["data"]["codec"], codec, "{media}");
    seconds(3.0);
    phone.hang_up(&call);
    let here = phone.heard();
    assert!(here.seconds_of(6000.0) > 2.2, "the echo brought {} s of 6 kHz", here.seconds_of(6000.0));
}

#[test]
fn a_call_in_g722_is_wide_band_on_both_ways() {
    wide_band("1001", "G722");
}

#[test]
fn a_call_in_opus_is_wide_band_on_both_ways() {
    wide_band("1001", "opus");
}

#[test]
fn a_call_over_tcp() {
    let Some((lab, mut asterisk, host)) = stage("TCP") else { return };
    let phone =
        Setup::new("1001", PBX).line(r#"transport = "tcp""#).line(r#"codecs = ["PCMU"]"#).start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert_eq!(registered["data"]["transport"], "tcp", "{registered}");
    tone_call(&phone, &mut asterisk, "PCMU");
}

/// TLS below, SRTP beside it: nothing in clear, and no secret in what is told.
pub fn encrypted(account: &str) {
    let Some((lab, mut asterisk, host)) = stage("TLS and SRTP") else { return };
    let ca = Pki::of(&lab).ca_file;
    let phone = Setup::new(account, PBX)
        .line(r#"transport = "tls""#)
        .line(&format!("ca_file = {ca:?}"))
        .line(r#"srtp = "required""#)
        .line(r#"codecs = ["PCMA"]"#)
        .start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert_eq!(registered["data"]["transport"], "tls", "{registered}");
    tone_call(&phone, &mut asterisk, "PCMA");
    let password = format!("pw{account}");
    for path in ["/api/v1/journal", "/api/v1/status", "/api/v1/config", "/api/v1/trace"] {
        let body = phone.get(path).to_string();
        assert!(!body.contains(&password), "{path} tells the password");
    }
    let output = phone.output();
    assert!(!output.contains("inline:") && !output.contains(&password), "a secret was logged");
}

#[test]
fn a_call_over_tls_with_srtp() {
    encrypted("1101");
}

#[test]
fn a_server_with_a_certificate_of_strangers_is_refused() {
    let Some((lab, mut asterisk, host)) = stage("TLS verification") else { return };
    let phone = Setup::new("1101", PBX).line(r#"transport = "tls""#).launch(&lab, &host);
    let failed = phone.wait_event("line.unregistered");
    let text = failed["data"]["cause"]["text"].as_str().unwrap_or_default().to_lowercase();
    assert!(text.contains("certificate"), "{failed}");
    assert_eq!(asterisk.contact("1101"), None);
}

#[test]
fn an_incoming_call_rings_and_is_answered() {
    let Some((lab, mut asterisk, host)) = stage("an incoming call") else { return };
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    asterisk.registered("1001");
    asterisk.call("1001", "603");
    let new = phone.wait_event("call.new");
    assert_eq!(new["data"]["direction"], "in", "{new}");
    assert!(new["data"]["caller"].to_string().contains("5550123"), "{new}");
    phone.wait_event("call.ringing");
    let call = new["subject"].as_str().expect("the call's id").to_owned();
    phone.act(&call, "answer");
    phone.wait_event("call.answered");
    phone.wait_event("call.media");
    seconds(2.5);
    let closed = phone.hang_up(&call);
    assert_eq!((&closed["result"], &closed["missed"]), (&json!("answered"), &json!(false)), "{closed}");
    asterisk.idle();
    assert!(phone.heard().seconds_of(1004.0) > 2.0, "heard {} s", phone.heard().seconds_of(1004.0));
    assert!(asterisk.recording("heard.wav").seconds_of(440.0) > 2.0);
}

#[test]
fn a_caller_who_gives_up_is_a_missed_call() {
    let Some((lab, mut asterisk, host)) = stage("a missed call") else { return };
    let phone = Setup::new("1001", PBX).start(&lab, &host);
    asterisk.registered("1001");
    asterisk.originate("Local/2001@lab", "603");
    phone.wait_event("call.ringing");
    let closed = phone.closed();
    assert_eq!(closed["missed"], true, "{closed}");
    assert!(["cancelled", "no_answer"].contains(&closed["result"].as_str().unwrap_or("")), "{closed}");
    asterisk.idle();
}

#[test]
fn a_call_that_another_phone_takes_is_not_missed() {
    let Some((lab, mut asterisk, host)) = stage("answered elsewhere") else { return };
    let other = lab.host("other", 51);
    let phone = Setup::new("1001", PBX).start(&lab, &host);
    let quick = Setup::new("1002", PBX).line(r#"auto_answer = "1s""#).start(&lab, &other);
    asterisk.registered("1001");
    asterisk.registered("1002");
    asterisk.originate("Local/*1001*1002@lab", "603");
    phone.wait_event("call.ringing");
    quick.wait_event("call.answered");
    let closed = phone.closed();
    assert_eq!(
        (&closed["result"], &closed["missed"]),
        (&json!("answered_elsewhere"), &json!(false)),
        "{closed}"
    );
}

#[test]
fn what_the_pbx_says_about_a_number_is_the_result() {
    let Some((lab, mut asterisk, host)) = stage("results") else { return };
    let phone = Setup::new("1001", PBX).start(&lab, &host);
    for (number, result) in [("621", "busy"), ("622", "invalid_number")] {
        phone.call(number);
        let closed = phone.closed();
        assert_eq!(closed["result"], result, "{number}: {closed}");
    }
    phone.call("623");
    phone.wait_event("call.early");
    let ended = phone.wait_event("call.ended");
    assert_eq!(ended["data"]["result"], "congestion", "{ended}");
    assert_eq!(ended["data"]["cause"]["q850"], 34, "{ended}");
    phone.closed();
    // The PBX hangs up after two seconds.
    phone.call("624");
    phone.wait_event("call.answered");
    let ended = phone.wait_event("call.ended");
    assert_eq!(
        (&ended["data"]["result"], &ended["data"]["cause"]["by"]),
        (&json!("answered"), &json!("remote"))
    );
    asterisk.idle();
}

#[test]
fn hanging_up_while_it_rings_cancels() {
    let Some((lab, mut asterisk, host)) = stage("cancel") else { return };
    let phone = Setup::new("1001", PBX).start(&lab, &host);
    let call = phone.call("620");
    phone.wait_event("call.ringing");
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "cancelled", "{closed}");
    asterisk.idle();
}

pub fn hold(account: &str) {
    let Some((lab, mut asterisk, host)) = stage("hold") else { return };
    let phone = Setup::new(account, PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    let call = phone.call("603");
    phone.wait_event("call.media");
    seconds(1.5);
    phone.act(&call, "hold");
    let held = phone.wait_event("call.held");
    assert_eq!(held["data"]["by"], "local", "{held}");
    asterisk.event("Hold", &format!("PJSIP/{account}"));
    seconds(2.0);
    phone.act(&call, "resume");
    phone.wait_event("call.resumed");
    asterisk.event("Unhold", &format!("PJSIP/{account}"));
    seconds(2.0);
    phone.hang_up(&call);
    asterisk.idle();
    let here = phone.heard();
    assert!(here.seconds_of(1004.0) > 2.8, "heard {} s", here.seconds_of(1004.0));
    assert!(here.longest_gap_in(1004.0) > 1.5, "on hold nothing is heard: {}", here.longest_gap_in(1004.0));
    let said = asterisk.recording("heard.wav").seconds_of(440.0);
    assert!((2.5..4.9).contains(&said), "on hold nothing is said: {said} s");
}

#[test]
fn our_hold_silences_both_ways_and_resume_brings_them_back() {
    hold("1001");
}

#[test]
fn the_other_sides_hold_is_told_and_ends() {
    let Some((lab, mut asterisk, host)) = stage("hold by the other side") else { return };
    let other = lab.host("other", 51);
    let a = Setup::new("1201", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    let b = Setup::new("1202", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .line("auto_answer = true")
        .speaks(Wav::new(16000, sine(660.0, 16000, 2.0, 8000)))
        .start(&lab, &other);
    asterisk.registered("1202");
    let call = a.call("1202");
    a.wait_event("call.media");
    let theirs = b.wait_event("call.answered")["subject"].as_str().expect("an id").to_owned();
    seconds(1.5);
    b.act(&theirs, "hold");
    let held = a.wait_event("call.held");
    assert_eq!(held["data"]["by"], "remote", "{held}");
    seconds(1.5);
    b.act(&theirs, "resume");
    let resumed = a.wait_event("call.resumed");
    assert_eq!(resumed["data"]["by"], "remote", "{resumed}");
    seconds(1.5);
    a.hang_up(&call);
    b.closed();
    asterisk.idle();
    let (at_a, at_b) = (a.heard(), b.heard());
    assert!(at_a.seconds_of(660.0) > 2.2, "A heard {} s of 660 Hz", at_a.seconds_of(660.0));
    assert!(at_b.seconds_of(440.0) > 2.2, "B heard {} s of 440 Hz", at_b.seconds_of(440.0));
}

pub fn digits(account: &str) {
    let Some((lab, mut asterisk, host)) = stage("digits") else { return };
    let phone = Setup::new(account, PBX).table("[journal]\ndigits = true").start(&lab, &host);
    for digits in ["4711", "9*#0", "2222"] {
        let call = phone.call("610");
        phone.wait_event("call.answered");
        phone.dtmf(&call, digits);
        // `#` ends what Asterisk reads.
        asterisk.logged(&format!("digits read: {}", digits.split('#').next().expect("a part")));
        phone.closed();
    }
    phone.call("611");
    phone.closed();
    let heard = phone.count_that("call.dtmf", |event| event["data"]["by"] == "remote");
    assert_eq!(heard, 12, "{}", phone.story());
    let told = |digits: &str| phone.count_that("call.dtmf", |event| event["data"]["digits"] == digits);
    assert_eq!((told("4711"), told("7"), told("#")), (1, 1, 1), "they were asked for: {}", phone.story());
    asterisk.idle();
}

#[test]
fn digits_go_to_the_pbx_and_come_from_it() {
    digits("1001");
}

#[test]
fn digits_as_info_reach_the_pbx() {
    let Some((lab, asterisk, host)) = stage("digits by INFO") else { return };
    let phone = Setup::new("1001", PBX).line(r#"dtmf = "info""#).start(&lab, &host);
    let call = phone.call("610");
    phone.wait_event("call.answered");
    phone.dtmf(&call, "1379");
    asterisk.logged("digits read: 1379");
    phone.closed();
}

#[test]
fn muted_means_silent_there_and_heard_here() {
    let Some((lab, mut asterisk, host)) = stage("mute") else { return };
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMU"]"#).start(&lab, &host);
    let call = phone.call("603");
    phone.wait_event("call.media");
    phone.act(&call, "mute");
    seconds(2.0);
    phone.act(&call, "unmute");
    seconds(1.5);
    phone.hang_up(&call);
    asterisk.idle();
    let said = asterisk.recording("heard.wav").seconds_of(440.0);
    assert!((1.0..2.5).contains(&said), "440 Hz was heard for {said} s");
    assert!(phone.heard().seconds_of(1004.0) > 3.0);
}

fn behind(nat: Nat) {
    let Some(lab) = Lab::new("a call through a NAT", &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "a call through a NAT") else { return };
    let office = lab.office("office", 101, nat);
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMU"]"#).start(&lab, &office.host);
    asterisk.registered("1001");
    tone_call(&phone, &mut asterisk, "PCMU");
    asterisk.call("1001", "603");
    let call = phone.wait_event("call.ringing")["subject"].as_str().expect("an id").to_owned();
    phone.act(&call, "answer");
    phone.wait_event("call.media");
    seconds(2.0);
    phone.hang_up(&call);
    asterisk.idle();
    assert!(phone.heard().seconds_of(1004.0) > 1.5);
}

#[test]
fn a_phone_behind_a_symmetric_nat_calls_and_is_called() {
    behind(Nat::Symmetric);
}

#[test]
fn a_phone_behind_a_port_restricted_nat_calls_and_is_called() {
    behind(Nat::PortRestricted);
}

#[test]
fn a_pbx_that_has_forgotten_is_registered_at_again() {
    let Some((lab, mut asterisk, host)) = stage("a forgetful PBX") else { return };
    let phone = Setup::new("1001", PBX).line(r#"expires = "30s""#).start(&lab, &host);
    asterisk.registered("1001");
    asterisk.restart(true);
    assert_eq!(asterisk.contact("1001"), None);
    within("the line is registered again", Duration::from_secs(40), || asterisk.contact("1001"));
    asterisk.call("1001", "603");
    phone.wait_event("call.ringing");
}

#[test]
fn a_wrong_password_is_told_and_tried_twice_at_most() {
    let Some((lab, mut asterisk, host)) = stage("a wrong password") else { return };
    asterisk.command("pjsip set logger on");
    let phone = Setup::new("1003", PBX).password("not the one").launch(&lab, &host);
    let told = phone.wait_event("line.unregistered");
    assert!(told["data"]["cause"]["text"].to_string().contains("password"), "{told}");
    seconds(10.0);
    // More would lock the whole office out at many a PBX.
    let tries = asterisk.log().matches("\nAuthorization: Digest").count();
    assert!((1..=2).contains(&tries), "{tries} attempts with this password");
}

#[test]
fn the_end_of_the_program_ends_calls_and_registration() {
    let Some((lab, mut asterisk, host)) = stage("an orderly end") else { return };
    let mut phone = Setup::new("1001", PBX).start(&lab, &host);
    asterisk.registered("1001");
    phone.call("600");
    phone.wait_event("call.media");
    assert_eq!(phone.stop(), Some(0), "{}", phone.output());
    asterisk.idle();
    assert_eq!(asterisk.contact("1001"), None);
}

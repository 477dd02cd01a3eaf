//! DTLS-SRTP with a real Asterisk (OpenSSL): either side begins, with and without rtcp-mux, on hold and again. What was
//! said is checked on both sides.

use std::thread::sleep;
use std::time::Duration;

use crate::friendly::{PBX, stage, tone_call};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;

fn dtls(account: &str) -> Setup {
    Setup::new(account, PBX)
        .line(r#"srtp = "required""#)
        .line(r#"srtp_keys = "dtls""#)
        .line(r#"codecs = ["PCMA"]"#)
}

/// A call that we make: Asterisk answers our offer.
fn outgoing(account: &str) {
    let Some((lab, mut asterisk, host)) = stage("DTLS-SRTP") else { return };
    let phone = dtls(account).start(&lab, &host);
    tone_call(&phone, &mut asterisk, "PCMA");
    assert!(is_sealed(&phone), "{}", phone.story());
}

/// Whether a call was told to be encrypted, with what Asterisk chooses of its own.
fn is_sealed(phone: &Phone) -> bool {
    phone.count_that("call.media", |event| event["data"]["srtp"] == "AES_CM_128_HMAC_SHA1_80") == 1
}

#[test]
fn we_offer_and_asterisk_begins() {
    outgoing("1601");
}

#[test]
fn we_offer_and_asterisk_waits() {
    outgoing("1605");
}

#[test]
fn asterisk_that_wants_early_feedback_is_called_a_second_time() {
    outgoing("1603");
}

#[test]
fn a_port_for_rtcp_does_not_keep_audio_away() {
    outgoing("1604");
}

#[test]
fn over_tls_the_fingerprint_is_safe_too() {
    let Some((lab, mut asterisk, host)) = stage("DTLS-SRTP over TLS") else { return };
    let ca = Pki::of(&lab).ca_file;
    let phone =
        dtls("1601").line(r#"transport = "tls""#).line(&format!("ca_file = {ca:?}")).start(&lab, &host);
    tone_call(&phone, &mut asterisk, "PCMA");
}

#[test]
fn asterisk_calls_and_the_call_goes_on_after_a_hold() {
    let Some((lab, mut asterisk, host)) = stage("DTLS-SRTP of a call that comes") else { return };
    let phone = dtls("1602").line("auto_answer = true").start(&lab, &host);
    asterisk.registered("1602");
    asterisk.call("1602", "603");
    let answered = phone.wait_event("call.answered");
    let call = answered["subject"].as_str().expect("an id").to_owned();
    phone.wait_event("call.media");
    sleep(Duration::from_secs(3));
    phone.act(&call, "hold");
    phone.wait_event("call.held");
    sleep(Duration::from_secs(1));
    phone.act(&call, "resume");
    phone.wait_event("call.resumed");
    sleep(Duration::from_secs(3));
    phone.hang_up(&call);
    assert_eq!(phone.count_that("call.ended", |event| event["data"]["quality"]["srtp"] == "SRTP"), 1);
    asterisk.idle();
    let (here, there) = (phone.heard(), asterisk.recording("heard.wav"));
    let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
    assert!(heard > 5.0, "1004 Hz was heard for {heard} s of {} s", here.seconds());
    assert!(said > 5.0, "Asterisk heard 440 Hz for {said} s of {} s", there.seconds());
    assert!(is_sealed(&phone), "{}", phone.story());
}

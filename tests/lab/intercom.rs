//! Paging: Asterisk asks the phone to answer by itself, in the two ways that dial plans do.

use std::thread::sleep;
use std::time::Duration;

use crate::friendly::stage;
use crate::phone::Setup;
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";

#[test]
fn a_page_is_answered_and_heard_on_both_sides() {
    let Some((lab, mut asterisk, host)) = stage("intercom") else { return };
    let tone = Wav::new(16000, sine(440.0, 16000, 2.0, 8000));
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMA"]"#).speaks(tone).start(&lab, &host);
    asterisk.registered("1001");
    for (number, least_us) in [("3001", 250_000), ("4001", 1_900_000)] {
        asterisk.originate(&format!("Local/{number}@lab"), "603");
        let answered = phone.wait_event("call.answered");
        let data = &answered["data"];
        assert_eq!(data["automatic"], "line.intercom", "{answered}");
        assert!(data["ring_us"].as_u64() >= Some(least_us), "before the beep or the delay: {answered}");
        phone.wait_event("call.media");
        sleep(Duration::from_secs_f64(2.5));
        phone.hang_up(answered["subject"].as_str().expect("the call's id"));
        asterisk.idle();
        let here = phone.heard().seconds_of(1004.0);
        let there = asterisk.recording("heard.wav").seconds_of(440.0);
        assert!(here > 2.0 && there > 2.0, "{number}: heard {here} s here and {there} s there");
    }
}

#[test]
fn a_page_during_a_call_waits_and_one_in_do_not_disturb_is_busy() {
    let Some((lab, mut asterisk, host)) = stage("intercom during a call") else { return };
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    asterisk.registered("1001");
    let call = phone.call("603");
    phone.wait_event("call.media");
    asterisk.originate("Local/3001@lab", "601");
    let ringing = phone.wait_event_that("call.ringing", "of the page", Duration::from_secs(10), |event| {
        event["data"]["direction"] == "in"
    });
    sleep(Duration::from_secs(2));
    assert_eq!(phone.count("call.answered"), 1, "{}", phone.story());
    phone.act(ringing["subject"].as_str().expect("an id"), "reject");
    phone.closed();
    phone.hang_up(&call);
    assert!(phone.heard().longest_gap_in(1004.0) < 0.1, "the call went on");
    phone.post("/api/v1/lines/main/dnd", &serde_json::json!({ "on": true }));
    asterisk.originate("Local/3001@lab", "601");
    let refused = phone.wait_event("call.refused");
    assert_eq!(refused["data"]["rule"], "line.dnd", "{refused}");
    asterisk.idle();
}

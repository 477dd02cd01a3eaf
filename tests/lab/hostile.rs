//! Calls through an Asterisk that is legal and unkind: media from phone to phone, no symmetric RTP, reliable ringing
//! required, session timers always, one binding per account and never a second.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::asterisk::Asterisk;
use crate::friendly::{self, stage};
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::process::within;
use crate::router::Nat;
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";

fn seconds(count: f64) {
    sleep(Duration::from_secs_f64(count));
}

#[test]
fn a_call_in_pcmu_is_heard_on_both_sides() {
    friendly::narrow_band("1501", "PCMU");
}

#[test]
fn a_call_in_pcma_is_heard_on_both_sides() {
    friendly::narrow_band("1501", "PCMA");
}

#[test]
fn a_call_in_g722_is_wide_band_on_both_ways() {
    friendly::wide_band("1501", "G722");
}

#[test]
fn a_call_in_opus_is_wide_band_on_both_ways() {
    friendly::wide_band("1501", "opus");
}

#[test]
fn a_call_over_tls_with_srtp() {
    friendly::encrypted("1505");
}

#[test]
fn our_hold_silences_both_ways_and_resume_brings_them_back() {
    friendly::hold("1501");
}

#[test]
fn digits_go_to_the_pbx_and_come_from_it() {
    friendly::digits("1501");
}

#[test]
fn ringing_is_acknowledged_and_cancelled() {
    let Some((lab, mut asterisk, host)) = stage("reliable ringing") else { return };
    let phone = Setup::new("1501", PBX).start(&lab, &host);
    asterisk.command("pjsip set logger on");
    let call = phone.call("620");
    phone.wait_event("call.ringing");
    seconds(1.0);
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "cancelled", "{closed}");
    asterisk.idle();
    assert!(asterisk.log().contains("PRACK sip:"), "the 180 was acknowledged by PRACK");
}

#[test]
fn an_announcement_before_the_answer_is_heard() {
    let Some((lab, asterisk, host)) = stage("early media") else { return };
    let phone = Setup::new("1501", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    phone.call("623");
    phone.wait_event("call.early");
    let closed = phone.closed();
    assert_eq!(closed["result"], "congestion", "{closed}");
    let heard = phone.heard();
    let loud = heard.samples.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
    assert!(loud as f64 > f64::from(heard.rate) * 0.1, "{loud} loud samples in {} s", heard.seconds());
    drop(asterisk);
}

#[test]
fn an_incoming_call_brings_the_asserted_identity() {
    let Some((lab, mut asterisk, host)) = stage("an incoming call of the hostile group") else { return };
    let phone = Setup::new("1501", PBX).line(r#"codecs = ["PCMU"]"#).start(&lab, &host);
    asterisk.registered("1501");
    asterisk.call("1501", "603");
    let new = phone.wait_event("call.new");
    assert!(new["data"]["caller"].to_string().contains("5550123"), "{new}");
    phone.wait_event("call.ringing");
    seconds(0.5);
    phone.act(new["subject"].as_str().expect("an id"), "answer");
    phone.wait_event("call.media");
    seconds(2.5);
    phone.hang_up(new["subject"].as_str().expect("an id"));
    asterisk.idle();
    assert!(phone.heard().seconds_of(1004.0) > 2.0);
    assert!(asterisk.recording("heard.wav").seconds_of(440.0) > 2.0);
}

/// Two phones: what each heard of the other over a call of some seconds, with hold in between if asked for.
fn direct(accounts: [&str; 2], srtp: &str, hold: bool) {
    let Some((lab, mut asterisk, host)) = stage("media from phone to phone") else { return };
    let other = lab.host("other", 51);
    let [one, two] = accounts;
    let a = Setup::new(one, PBX).line(r#"codecs = ["PCMA"]"#).line(srtp).start(&lab, &host);
    let b = Setup::new(two, PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .line(srtp)
        .line("auto_answer = true")
        .speaks(Wav::new(16000, sine(660.0, 16000, 2.0, 8000)))
        .start(&lab, &other);
    asterisk.registered(one);
    asterisk.registered(two);
    asterisk.command("pjsip set logger on");
    let call = a.call(two);
    a.wait_event("call.media");
    b.wait_event("call.media");
    // Asterisk sends both to each other: its own counters stand still while both hear.
    within("media goes from phone to phone", Duration::from_secs(10), || {
        let before = asterisk.packets_received();
        seconds(1.0);
        (asterisk.packets_received() - before < 10).then_some(())
    });
    seconds(2.5);
    if hold {
        a.act(&call, "hold");
        a.wait_event("call.held");
        seconds(1.5);
        a.act(&call, "resume");
        a.wait_event("call.resumed");
        seconds(2.0);
    }
    a.hang_up(&call);
    b.closed();
    asterisk.idle();
    let (at_a, at_b) = (a.heard(), b.heard());
    assert!(at_a.seconds_of(660.0) > 3.0, "A heard {} s of 660 Hz", at_a.seconds_of(660.0));
    assert!(at_b.seconds_of(440.0) > 3.0, "B heard {} s of 440 Hz", at_b.seconds_of(440.0));
    if hold {
        assert!(at_a.seconds_of(660.0) > 4.5, "after resume A heard {} s in all", at_a.seconds_of(660.0));
    } else {
        assert!(at_a.longest_gap_in(660.0) < 0.3, "A missed {} s", at_a.longest_gap_in(660.0));
        assert!(at_b.longest_gap_in(440.0) < 0.3, "B missed {} s", at_b.longest_gap_in(440.0));
    }
}

#[test]
fn two_phones_are_sent_to_each_other_and_hear_without_a_gap() {
    direct(["1501", "1502"], r#"srtp = "off""#, false);
}

#[test]
fn two_phones_with_direct_media_hold_and_resume() {
    direct(["1501", "1502"], r#"srtp = "off""#, true);
}

#[test]
fn the_other_sides_hold_brings_music_from_the_pbx_and_ends() {
    let Some((lab, mut asterisk, host)) = stage("hold by the other side, direct media") else { return };
    let other = lab.host("other", 51);
    let a = Setup::new("1501", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    let b = Setup::new("1502", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .line("auto_answer = true")
        .speaks(Wav::new(16000, sine(660.0, 16000, 2.0, 8000)))
        .start(&lab, &other);
    asterisk.registered("1502");
    let call = a.call("1502");
    a.wait_event("call.media");
    let theirs = b.wait_event("call.answered")["subject"].as_str().expect("an id").to_owned();
    seconds(2.0);
    // The PBX takes our media back to itself for its music, and gives them away again.
    b.act(&theirs, "hold");
    b.wait_event("call.held");
    seconds(2.5);
    b.act(&theirs, "resume");
    b.wait_event("call.resumed");
    seconds(2.5);
    a.hang_up(&call);
    b.closed();
    asterisk.idle();
    let (at_a, at_b) = (a.heard(), b.heard());
    assert!(at_a.seconds_of(523.0) > 1.5, "A heard {} s of music", at_a.seconds_of(523.0));
    assert!(at_a.seconds_of(660.0) > 3.0, "A heard {} s of 660 Hz", at_a.seconds_of(660.0));
    assert!(at_b.seconds_of(440.0) > 3.0, "B heard {} s of 440 Hz", at_b.seconds_of(440.0));
}

#[test]
fn optional_srtp_finds_its_way() {
    let Some((lab, mut asterisk, host)) = stage("optional SRTP") else { return };
    // One account of the PBX encrypts, the other does not: the same setting serves both.
    for (account, encrypted) in [("1505", true), ("1501", false)] {
        let phone = Setup::new(account, PBX)
            .line(r#"codecs = ["PCMA"]"#)
            .line(r#"srtp = "optional""#)
            .start(&lab, &host);
        let call = phone.call("603");
        let media = phone.wait_event("call.media");
        assert_eq!(media["data"]["srtp"].is_string(), encrypted, "{account}: {media}");
        seconds(2.0);
        phone.hang_up(&call);
        asterisk.idle();
        assert!(
            phone.heard().seconds_of(1004.0) > 1.5,
            "{account} heard {} s",
            phone.heard().seconds_of(1004.0)
        );
    }
}

#[test]
fn a_session_timer_is_refreshed_and_the_call_lives_on() {
    let Some((lab, mut asterisk, host)) = stage("session timers") else { return };
    let phone = Setup::new("1501", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .line(r#"session_timer = "90s""#)
        .start(&lab, &host);
    asterisk.command("pjsip set logger on");
    let call = phone.call("603");
    phone.wait_event("call.media");
    let invites = asterisk.log().matches("\nINVITE sip:").count();
    // The interval is 90 s: whoever refreshes does so by half of it.
    seconds(52.0);
    let log = asterisk.log();
    let refreshed = log.contains("\nUPDATE sip:") || log.matches("\nINVITE sip:").count() > invites;
    assert!(refreshed, "no refresh within 52 s");
    phone.hang_up(&call);
    asterisk.idle();
    let heard = phone.heard();
    assert!(heard.seconds_of(1004.0) > 50.0, "heard {} s", heard.seconds_of(1004.0));
    assert!(heard.longest_gap_in(1004.0) < 0.1, "a gap of {} s", heard.longest_gap_in(1004.0));
}

#[test]
fn after_a_power_cut_and_an_address_change_the_full_account_is_taken_back() {
    let Some((lab, mut asterisk, host)) = stage("contact full") else { return };
    let mut phone = Setup::new("1503", PBX).start(&lab, &host);
    asterisk.registered("1503");
    host.run("ip", &["addr", "flush", "dev", "eth0"]);
    host.run("ip", &["addr", "add", "203.0.113.59/24", "dev", "eth0"]);
    phone.power_cut();
    phone.ready();
    let contact = asterisk.contact("1503").expect("it is registered");
    assert!(contact.contains("203.0.113.59"), "{contact}");
    assert_eq!(phone.count("line.rejected"), 0);
}

#[test]
fn behind_a_nat_that_moves_the_full_account_is_taken_back() {
    let what = "contact full behind a NAT";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let office = lab.office("office", 101, Nat::PortRestricted);
    let mut phone = Setup::new("1507", PBX).line(r#"expires = "30s""#).start(&lab, &office.host);
    let mut moved_to = |phone: &Phone, last: u8| {
        within("the PBX has the new address", Duration::from_secs(40), || {
            asterisk.contact("1507").filter(|contact| contact.contains(&format!("203.0.113.{last}")))
        });
        assert_eq!(phone.count("line.rejected"), 0, "{}", phone.story());
    };
    moved_to(&phone, 101);
    office.edge().readdress(102);
    moved_to(&phone, 102);
    office.edge().readdress(103);
    phone.power_cut();
    phone.ready();
    moved_to(&phone, 103);
    // The way back leads through the new address.
    asterisk.call("1507", "603");
    phone.wait_event("call.ringing");
}

#[test]
fn two_lines_of_one_phone_call_each_other() {
    let Some((lab, mut asterisk, host)) = stage("two lines") else { return };
    let second = "[[line]]\nname = \"second\"\nuser = \"1502\"\ndomain = \"203.0.113.10\"\npassword = \"pw1502\"\n\
                  auto_answer = true\ncodecs = [\"PCMU\"]";
    let phone = Setup::new("1501", PBX).table(second).line(r#"codecs = ["PCMU"]"#).start(&lab, &host);
    asterisk.registered("1501");
    asterisk.registered("1502");
    let answer = phone.post("/api/v1/calls", &json!({ "to": "1502", "line": "main" }));
    let call = answer["id"].as_str().expect("an id").to_owned();
    phone.wait_event_that("call.answered", "of the incoming leg", Duration::from_secs(10), |event| {
        event["data"]["line"] == "second"
    });
    seconds(1.5);
    phone.act(&call, "hangup");
    phone.closed();
    phone.closed();
    asterisk.idle();
}

//! A machine that fails: a full or read-only disk, a sound device that is missing or goes away, a clock in 1970. It is
//! said clearly what to do, and the rest works: the phone registers, calls and is heard.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attack::{Usage, Watch, Wire, answer, field, paced};
use crate::kamailio::Kamailio;
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::within;
use crate::pulse::Pulse;
use crate::sound::{Wav, sine};
use crate::speaker::{Speaker, register};

const PEER: &str = "203.0.113.30";
const PHONE: &str = "203.0.113.50:5060";

/// A PBX that is played by the test, and a host for the phone.
struct Stage {
    lab: Lab,
    host: Host,
    peer: Host,
    wire: Wire,
}

fn stage(what: &str, programs: &[&str]) -> Option<Stage> {
    let lab = Lab::new(what, programs)?;
    let (host, peer) = (lab.host("phone", 50), lab.host("peer", 30));
    let wire = Wire::open(&peer, 5060);
    Some(Stage { lab, host, peer, wire })
}

impl Stage {
    /// Starts the phone and registers it.
    fn start(&self, setup: Setup) -> Phone {
        let phone = setup.launch(&self.lab, &self.host);
        register(&self.wire, PHONE);
        within("the line is registered", Duration::from_secs(5), || {
            let status = phone.get("/api/v1/status");
            (status["lines"][0]["state"] == "registered").then_some(())
        });
        phone
    }

    fn call(&self, phone: &Phone) -> (String, Speaker) {
        let call = phone.call("2000");
        let contact = format!("sip:2000@{PEER}:5060");
        (call, Speaker::answers(&self.peer, &self.wire, PHONE, &contact, 1004.0))
    }

    fn end(&self, phone: &Phone, call: &str, speaker: &Speaker) {
        phone.act(call, "hangup");
        let bye = self.wire.expect("BYE", field(&speaker.invite, "Call-ID:"));
        self.wire.send(PHONE, answer(&bye, "200 OK", "", "").as_bytes());
    }

    /// A call of two seconds in which both hear each other.
    fn good_call(&self, phone: &Phone) {
        let (call, speaker) = self.call(phone);
        sleep(Duration::from_secs(2));
        self.end(phone, &call, &speaker);
        let (here, there) = (phone.heard(), speaker.heard());
        assert!(here.seconds_of(1004.0) > 1.6, "1004 Hz was heard for {} s", here.seconds_of(1004.0));
        assert!(there.seconds_of(440.0) > 1.6, "the peer heard 440 Hz for {} s", there.seconds_of(440.0));
    }
}

fn setup() -> Setup {
    Setup::new("1001", PEER).line(r#"codecs = ["PCMU"]"#)
}

/// Waits until the phone says of itself that this does not work, with these words.
#[track_caller]
fn degraded(phone: &Phone, part: &str, words: &[&str]) {
    let told = within(&format!("{part} is told to be degraded"), Duration::from_secs(10), || {
        let status = phone.get("/api/v1/status");
        let list = status["degraded"].as_array().expect("a list");
        list.iter().filter_map(Value::as_str).find(|text| text.starts_with(part)).map(str::to_owned)
    });
    for word in words {
        assert!(told.contains(word), "no {word:?} in {told:?}");
    }
    within(&format!("the log tells of {part}"), Duration::from_secs(5), || {
        let output = phone.output();
        words.iter().all(|word| output.contains(word)).then_some(())
    });
}

/// Waits until the phone no longer complains of this.
#[track_caller]
fn recovered(phone: &Phone, part: &str) {
    within(&format!("{part} works again"), Duration::from_secs(15), || {
        let status = phone.get("/api/v1/status");
        let list = status["degraded"].as_array().expect("a list");
        list.iter().all(|text| !text.as_str().unwrap_or_default().starts_with(part)).then_some(())
    });
    phone.wait_event_that("device.recovered", part, Duration::from_secs(10), |event| {
        event["data"]["part"] == part
    });
}

#[test]
fn a_full_disk_is_told_and_nothing_else_stops() {
    let Some(stage) = stage("a full disk", &["mount"]) else { return };
    let phone = stage.start(setup().before("mount -t tmpfs -o size=3m none @DATA@"));
    let filler = phone.path("data/filler");
    let full = fs::write(&filler, vec![0; 8 << 20]).expect_err("the disk is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    stage.good_call(&phone);
    degraded(&phone, "store", &["disk is full", "free space"]);
    // What could not be kept was told to nobody; with room again it is kept and told in order.
    assert_eq!(phone.count("call.closed"), 0, "{}", phone.story());
    fs::remove_file(&filler).expect("room again");
    phone.wait_event("call.answered");
    phone.wait_event("call.closed");
    recovered(&phone, "store");
    stage.good_call(&phone);
    phone.wait_event("call.closed");
}

#[test]
fn a_data_folder_that_is_read_only_is_told_and_nothing_else_stops() {
    let Some(stage) = stage("a read-only disk", &["mount"]) else { return };
    let mut phone = stage.start(setup().before("mount -t tmpfs -o ro none @DATA@"));
    degraded(
        &phone,
        "store",
        &["can't be opened for writing", "let tipring's user write to the data folder"],
    );
    phone.wait_event_that("device.degraded", "store", Duration::from_secs(5), |event| {
        event["data"]["part"] == "store"
    });
    stage.good_call(&phone);
    phone.wait_event("call.closed");
    assert_eq!(phone.stop(), Some(0), "{}", phone.output());
}

/// There is no sound at the start: it is told in these words, and calls go on.
fn without_sound(what: &str, setup: Setup, words: &[&str]) {
    let Some(stage) = stage(what, &[]) else { return };
    let phone = stage.start(setup.audio("backend = \"cpal\"\ninput = \"hw:7\"\noutput = \"hw:7\""));
    degraded(&phone, "sound", words);
    phone.wait_event_that("device.degraded", "sound", Duration::from_secs(5), |event| {
        event["data"]["part"] == "sound"
    });
    let (call, speaker) = stage.call(&phone);
    phone.wait_event("call.media");
    within("packets of silence come", Duration::from_secs(5), || {
        (speaker.heard().seconds() > 1.0).then_some(())
    });
    stage.end(&phone, &call, &speaker);
    assert_eq!(phone.closed()["result"], "answered");
}

#[test]
fn a_sound_device_that_is_missing_at_start_is_told_and_calls_go_on() {
    let words = ["no sound device `hw:7`", "set [audio] input and output"];
    without_sound("a missing sound device", setup(), &words);
}

#[test]
fn a_missing_libasound_is_told_and_calls_go_on() {
    let hide = "for one in $(ldconfig -p | sed -n 's/.*libasound[.]so[.]2.*=> //p'); do mount --bind /dev/null $one; done";
    without_sound(
        "no libasound",
        setup().before(hide),
        &["libasound.so.2 is not installed", "install libasound2"],
    );
}

#[test]
fn a_sound_device_that_vanishes_in_a_call_comes_back_into_it() {
    let what = "a vanished sound device";
    let Some(stage) = stage(what, &["pulseaudio", "parecord", "pactl"]) else { return };
    let mut pulse = Pulse::start(&stage.lab);
    let mut phone = with_device(&stage, &pulse, "pulse:default", "");
    let (call, speaker) = stage.call(&phone);
    let heard = |pulse: &Pulse| {
        let recorder = pulse.record();
        sleep(Duration::from_millis(1500));
        drop(recorder);
        pulse.recorded().seconds_of(1004.0)
    };
    assert!(heard(&pulse) > 1.0, "the call is heard");
    let gone = |event: &Value| event["data"]["part"] == "sound";
    for vanish in [Pulse::kill, |pulse: &mut Pulse| pulse.control(&["unload-module", "module-null-sink"])] {
        vanish(&mut pulse);
        degraded(&phone, "sound", &["the sound device is gone", "plug it in again"]);
        phone.wait_event_that("device.degraded", "sound", Duration::from_secs(5), gone);
        let before = speaker.heard().seconds();
        within("the call goes on in silence", Duration::from_secs(5), || {
            (speaker.heard().seconds() > before + 0.5).then_some(())
        });
        pulse.kill();
        pulse.again();
        recovered(&phone, "sound");
        assert!(heard(&pulse) > 1.0, "the same call is heard again");
    }
    stage.end(&phone, &call, &speaker);
    assert_eq!(phone.closed()["result"], "answered");
    assert_eq!(phone.stop(), Some(0), "{}", phone.output());
}

/// A phone whose sound device is a server of its own, by this name of it.
fn with_device(stage: &Stage, pulse: &Pulse, device: &str, more: &str) -> Phone {
    let audio = format!("backend = \"cpal\"\ninput = \"{device}\"\noutput = \"{device}\"\n{more}");
    let named = setup().audio(&audio);
    stage.start(pulse.environment().iter().fold(named, |setup, (name, value)| setup.environment(name, value)))
}

/// The phone is idle: after a while neither its microphone nor its loudspeaker is open.
#[track_caller]
fn rests(pulse: &Pulse) {
    within("the sound device rests", Duration::from_secs(25), || (pulse.streams() == 0).then_some(()));
}

fn called_out_of_rest(device: &str) {
    let what = format!("a resting sound device, {device}");
    let Some(stage) = stage(&what, &["pulseaudio", "paplay", "parecord", "pactl"]) else { return };
    let pulse = Pulse::start(&stage.lab);
    let phone = with_device(&stage, &pulse, device, "");
    for _ in 0..2 {
        rests(&pulse);
        let recorder = pulse.record();
        let player = pulse.play(&Wav::new(16_000, sine(700.0, 16_000, 8.0, 8000)));
        let (call, speaker) = stage.call(&phone);
        sleep(Duration::from_secs(4));
        stage.end(&phone, &call, &speaker);
        drop((recorder, player));
        let (here, there) = (pulse.recorded(), speaker.heard());
        assert!(here.seconds_of(1004.0) > 3.0, "1004 Hz was heard for {} s", here.seconds_of(1004.0));
        assert!(there.seconds_of(700.0) > 3.0, "the peer heard 700 Hz for {} s", there.seconds_of(700.0));
    }
    assert_eq!(phone.count("device.degraded"), 0, "{}", phone.story());
}

#[test]
fn a_sound_device_that_rests_is_there_when_somebody_calls() {
    called_out_of_rest("pulse:default");
}

#[test]
fn an_alsa_device_that_rests_is_there_when_somebody_calls() {
    called_out_of_rest("default");
}

#[test]
fn a_sound_device_that_vanishes_at_rest_is_missed_before_the_next_call() {
    let what = "a sound device that vanishes at rest";
    let Some(stage) = stage(what, &["pulseaudio", "parecord", "pactl"]) else { return };
    let mut pulse = Pulse::start(&stage.lab);
    let phone = with_device(&stage, &pulse, "pulse:default", "");
    rests(&pulse);
    pulse.kill();
    phone.wait_event_that("device.degraded", "sound", Duration::from_secs(45), |event| {
        event["data"]["part"] == "sound"
    });
    pulse.again();
    recovered(&phone, "sound");
}

#[test]
fn without_its_ring_device_a_phone_rings_and_speaks_by_the_other() {
    let what = "a missing ring device";
    let Some(stage) = stage(what, &["pulseaudio", "parecord", "pactl"]) else { return };
    let pulse = Pulse::start(&stage.lab);
    let phone = with_device(&stage, &pulse, "pulse:default", "ring_device = \"pulse:bell\"");
    let recorder = pulse.record();
    let (call, speaker) = stage.call(&phone);
    sleep(Duration::from_secs(3));
    stage.end(&phone, &call, &speaker);
    drop(recorder);
    let heard = pulse.recorded().seconds_of(1004.0);
    assert!(heard > 2.0, "1004 Hz was heard for {heard} s");
    assert!(phone.output().contains("it rings at the loudspeaker instead"), "{}", phone.output());
    assert_eq!(phone.count("device.degraded"), 0, "{}", phone.story());
}

#[test]
fn a_sound_server_that_hangs_in_a_call_is_told_and_taken_again() {
    let what = "a sound server that hangs";
    let Some(stage) = stage(what, &["pulseaudio", "parecord", "pactl"]) else { return };
    let pulse = Pulse::start(&stage.lab);
    let phone = with_device(&stage, &pulse, "default", "");
    let (call, speaker) = stage.call(&phone);
    sleep(Duration::from_secs(2));
    pulse.hang(true);
    degraded(&phone, "sound", &["the sound device is gone", "plug it in again"]);
    let before = speaker.heard().seconds();
    within("the call goes on in silence", Duration::from_secs(5), || {
        (speaker.heard().seconds() > before + 0.5).then_some(())
    });
    pulse.hang(false);
    recovered(&phone, "sound");
    stage.end(&phone, &call, &speaker);
}

#[test]
fn one_pair_of_ports_does_for_one_call_after_the_other() {
    let Some(stage) = stage("one pair of ports", &[]) else { return };
    let phone = stage.start(setup().table("[rtp]\nports = \"10000-10001\""));
    for _ in 0..3 {
        stage.good_call(&phone);
    }
    phone.wait_event_that("device.recovered", "ports", Duration::from_secs(5), |event| {
        event["data"]["part"] == "ports"
    });
}

/// libfaketime's library, by the name that its package has for this machine.
pub fn faketime() -> Option<std::path::PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

#[test]
fn a_clock_in_1970_is_named_and_what_needs_no_clock_works() {
    let what = "a clock in 1970";
    let Some(library) = faketime() else { return skip(what, "libfaketime is not installed") };
    let Some(lab) = Lab::new(what, &["kamailio", "ss"]) else { return };
    let (_kamailio, host) = (Kamailio::start(&lab, "kam1", 20), lab.host("phone", 50));
    let clock = lab.folder().join("clock");
    fs::write(&clock, "@1970-01-01 00:01:00").expect("a file");
    let ca = Pki::of(&lab).ca_file;
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let second =
        "[[line]]\nname = \"second\"\nuser = \"1002\"\npassword = \"pw1002\"\ndomain = \"203.0.113.20\"";
    let phone = Setup::new("1001", "203.0.113.20")
        .line("transport = \"tls\"")
        .line(&format!("ca_file = {ca:?}"))
        .line(second)
        .environment("LD_PRELOAD", &path(&library))
        .environment("FAKETIME_TIMESTAMP_FILE", &path(&clock))
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .launch(&lab, &host);
    let started = phone.wait_event("device.started");
    assert!(started["time"].as_str().is_some_and(|time| time.starts_with("1970-01-01T")), "{started}");
    degraded(&phone, "clock", &["the clock of this device was never set", "time server"]);
    phone.wait_event_that("device.degraded", "clock", Duration::from_secs(5), |event| {
        event["data"]["part"] == "clock"
    });
    let clock_is_to_blame = "the clock of this device was never set and says 1970-01-01";
    degraded(&phone, "line main", &["certificate of 203.0.113.20", clock_is_to_blame, "set it by hand"]);
    // The other line needs no certificate: it registers and calls, and events are told in order.
    let calls = |number: &str| {
        let body = json!({ "to": number, "line": "second" });
        within("the second line is registered", Duration::from_secs(10), || {
            (phone.try_post("/api/v1/calls", &body).status == 201).then_some(())
        });
        assert_eq!(phone.closed()["result"], "invalid_number");
    };
    calls("1099");
    // By now it is half a minute until the next attempt.
    sleep(Duration::from_secs(4));
    // The time server is reached: nobody has to restart anything, or to wait so long.
    fs::write(&clock, "+0").expect("a file");
    let main = |event: &Value| event["data"]["line"] == "main";
    let registered = phone.wait_event_that("line.registered", "over TLS", Duration::from_secs(10), main);
    assert_eq!(registered["data"]["transport"], "tls", "{registered}");
    assert!(!registered["time"].as_str().expect("a time").starts_with("1970"), "{registered}");
    let status = phone.get("/api/v1/status");
    assert_eq!(status["degraded"].as_array().map(Vec::len), Some(0), "{status}");
    calls("1098");
}

/// A registrar gone mad: thousands of answers to one REGISTER, all of which belong to it.
#[test]
fn answers_to_register_by_the_thousand_change_nothing() {
    let Some(stage) = stage("a mad registrar", &[]) else { return };
    let phone = stage.start(setup());
    let (call, speaker) = stage.call(&phone);
    let begun = Instant::now();
    phone.post("/api/v1/lines/main/register", &json!({}));
    let register = stage.wire.expect("REGISTER", "");
    let granted = format!("{};expires=600\r\n", field(&register, "Contact:"));
    let others: String =
        (0..60).map(|n| format!("Contact: <sip:x{n}@203.0.113.{n}>;expires=4294967295\r\n")).collect();
    let challenge =
        |n: u32| format!("WWW-Authenticate: Digest realm=\"r{n}\", nonce=\"n{n}\", algorithm=MD5\r\n");
    let (before, watch) = (Usage::of(phone.pid()), Watch::over(phone.pid()));
    let mut registers = 0;
    paced(12_000, Duration::from_secs(2), |n| {
        let text = match n % 4 {
            0 => answer(&register, "401 Unauthorized", &challenge(n), ""),
            1 => answer(&register, "200 OK", &(granted.clone() + &others), ""),
            2 => answer(&register, "500 Server Error", "Retry-After: 0\r\n", ""),
            _ => answer(&register, "301 Moved", &others, ""),
        };
        stage.wire.send(PHONE, text.as_bytes());
        registers += stage.wire.waiting().iter().filter(|text| text.starts_with("REGISTER")).count();
    });
    registers += stage.wire.waiting().iter().filter(|text| text.starts_with("REGISTER")).count();
    assert!(registers <= 4, "{registers} more REGISTERs");
    let stray = phone.get("/api/v1/status")["dropped"]["stray_responses"].as_u64().expect("a number");
    assert!(stray < 6_000, "none of them belonged to it: {stray}");
    let (most, talked) = (watch.most(), begun.elapsed().as_secs_f64());
    assert!(most.memory < before.memory + 4096, "{before:?} grew to {most:?}");
    stage.end(&phone, &call, &speaker);
    let (heard, said) = (phone.heard().seconds_of(1004.0), speaker.heard().seconds_of(440.0));
    assert!(heard > talked - 0.6 && said > talked - 0.6, "heard {heard}, said {said} of {talked}");
    phone.post("/api/v1/lines/main/register", &json!({}));
    register_anew(&stage.wire, &register);
    within("the line is registered", Duration::from_secs(5), || {
        (phone.get("/api/v1/status")["lines"][0]["state"] == "registered").then_some(())
    });
}

/// Grants the next REGISTER that is not a repetition of this one.
fn register_anew(wire: &Wire, old: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let register = wire.expect("REGISTER", "");
        if field(&register, "CSeq:") != field(old, "CSeq:") {
            let granted = format!("{};expires=600\r\n", field(&register, "Contact:"));
            return wire.send(PHONE, answer(&register, "200 OK", &granted, "").as_bytes());
        }
    }
    panic!("no new REGISTER");
}

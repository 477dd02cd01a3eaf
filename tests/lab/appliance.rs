//! The program as an appliance, with a real PBX in its calls: recordings on the disk, a new configuration, a clock that
//! certificates do not fit.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::Duration;

use nix::time::ClockId;
use serde_json::json;

use crate::friendly::stage;
use crate::netns::Lab;
use crate::phone::Setup;
use crate::pki::Pki;
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";

#[test]
fn both_sides_of_a_call_are_recorded_to_wav() {
    let Some((lab, mut asterisk, host)) = stage("a recording") else { return };
    let phone = Setup::new("1001", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .table("[recording]\nenabled = true")
        .start(&lab, &host);
    let call = phone.call("603");
    let started = phone.wait_event("recording.started");
    sleep(Duration::from_secs(3));
    phone.act(&call, "hangup");
    let ready = phone.wait_event("recording.ready");
    asterisk.idle();
    let id = started["data"]["recording_id"].as_str().expect("an id");
    assert_eq!(
        (&ready["data"]["recording_id"], &ready["data"]["line"]),
        (&json!(id), &json!("main")),
        "{ready}"
    );
    let file = phone.folder().join("data/recordings").join(format!("{id}.wav"));
    assert_eq!(fs::metadata(&file).map(|file| file.len()).ok(), ready["data"]["bytes"].as_u64(), "{ready}");
    let [theirs, ours] = Wav::read_stereo(&file);
    for (side, wav, hertz) in [("ours", &ours, 440.0), ("theirs", &theirs, 1004.0)] {
        assert!(wav.seconds_of(hertz) > 2.0, "{side}: {} s of {hertz} Hz", wav.seconds_of(hertz));
    }
    assert!(
        ours.seconds_of(1004.0) < 0.2 && theirs.seconds_of(440.0) < 0.2,
        "each side is on a channel of its own"
    );
}

#[test]
fn whoever_is_recorded_hears_it_said() {
    let Some((lab, mut asterisk, host)) = stage("an announcement") else { return };
    let file = lab.folder().join("recorded.wav");
    Wav::new(8000, sine(700.0, 8000, 2.0, 8000)).write(&file);
    let phone = Setup::new("1001", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .speaks(Wav::new(16000, vec![0; 32_000]))
        .table(&format!("[recording]\nannouncement = \"{}\"", file.display()))
        .start(&lab, &host);
    let call = phone.call("603");
    phone.wait_event("call.media");
    sleep(Duration::from_secs(1));
    phone.post(&format!("/api/v1/calls/{call}/record"), &json!({ "action": "start" }));
    sleep(Duration::from_secs(4));
    phone.act(&call, "hangup");
    asterisk.idle();
    let said = asterisk.recording("heard.wav").seconds_of(700.0);
    assert!((1.0..2.5).contains(&said), "Asterisk heard it for {said} s of 2");
}

#[test]
fn a_new_configuration_is_taken_in_a_call_and_a_broken_one_is_not() {
    let Some((lab, mut asterisk, host)) = stage("a new configuration") else { return };
    let phone = Setup::new("1001", PBX).line(r#"codecs = ["PCMA"]"#).start(&lab, &host);
    let call = phone.call("603");
    phone.wait_event("call.media");
    let file = phone.folder().join("tipring.toml");
    let old = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, format!("{old}\n[[line]]\nname = \"second\"\nuesr = \"1002\"\n")).expect("writing");
    phone.signal(rustix::process::Signal::HUP);
    let rejected = phone.wait_event("config.rejected");
    assert!(rejected["data"]["findings"].to_string().contains("uesr"), "{rejected}");
    // What can't be changed now is said, not passed over.
    for (table, why) in [
        ("[ami]\nlisten = \"127.0.0.1:5038\"\nallow = [\"127.0.0.1\"]\n", "[ami] listen"),
        ("[sip]\nuser_agent = \"another\"\n", "user_agent change only by a restart"),
        ("[log]\nlevel = \"debug\"\n", "[log] changes only by a restart"),
    ] {
        fs::write(&file, format!("{old}\n{table}")).expect("writing");
        phone.signal(rustix::process::Signal::HUP);
        let rejected = phone.wait_event("config.rejected");
        assert!(rejected["data"]["findings"].to_string().contains(why), "{rejected}");
    }
    let second =
        "[[line]]\nname = \"second\"\nuser = \"1002\"\ndomain = \"203.0.113.10\"\npassword = \"pw1002\"\n";
    fs::write(&file, format!("{old}\n{second}")).expect("writing");
    phone.signal(rustix::process::Signal::HUP);
    let applied = phone.wait_event("config.applied");
    assert_eq!(applied["data"]["changed"], serde_json::json!(["second"]), "{applied}");
    asterisk.registered("1002");
    sleep(Duration::from_secs(1));
    assert_eq!(phone.get("/api/v1/status")["calls"][0]["state"], "active");
    phone.hang_up(&call);
    asterisk.idle();
    assert!(phone.heard().longest_gap_in(1004.0) < 0.1, "the call did not notice");
}

/// What systemd is told, as a service of the type `notify-reload` needs it.
#[test]
fn systemd_is_told_of_the_beginning_a_new_configuration_and_the_end() {
    let Some(lab) = Lab::new("systemd", &[]) else { return };
    let host = lab.host("phone", 50);
    let path = lab.folder().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    let told = |wanted: &str| {
        let mut buffer = [0; 512];
        for _ in 0..20 {
            let length = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
        panic!("no {wanted}");
    };
    let mut phone = Setup::new("1001", PBX)
        .line("register = false")
        .environment("NOTIFY_SOCKET", path.to_str().expect("a path"))
        .start(&lab, &host);
    told("READY=1");
    let since_boot = || Duration::from(ClockId::CLOCK_MONOTONIC.now().expect("a clock")).as_micros();
    let before = since_boot();
    phone.signal(rustix::process::Signal::HUP);
    let reloading = told("RELOADING=1");
    let moment =
        reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u128>().ok());
    assert!(moment.is_some_and(|moment| (before..=since_boot()).contains(&moment)), "{before}: {reloading}");
    told("READY=1");
    assert_eq!(phone.stop(), Some(0), "{}", phone.output());
    told("STOPPING=1");
}

#[test]
fn a_certificate_of_the_future_leads_to_the_clock() {
    let Some(lab) = Lab::new("a wrong clock", &["unshare"]) else { return };
    let ca = Pki::valid_from(&lab, 2090).ca_file;
    let Some(asterisk) = crate::asterisk::Asterisk::start(&lab, "a wrong clock") else { return };
    let host = lab.host("phone", 50);
    let phone = Setup::new("1101", PBX)
        .line(r#"transport = "tls""#)
        .line(&format!("ca_file = {ca:?}"))
        .launch(&lab, &host);
    let failed = phone.wait_event("line.unregistered");
    let text = failed["data"]["cause"]["text"].as_str().unwrap_or_default();
    assert!(text.contains("clock"), "{failed}");
    assert!(failed["data"]["retry_us"].as_u64().is_some(), "it is tried again: {failed}");
    drop(asterisk);
}

//! A sentence of real speech goes into a call to Asterisk's echo and comes back: recognised, and how well is measured.

use std::thread::sleep;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::program;
use crate::pulse::Pulse;
use crate::sound::Wav;
use crate::speech::{recognise, speak};

const PBX: &str = "203.0.113.10";

fn stage(what: &str) -> Option<(Lab, Asterisk, Host)> {
    if program("espeak-ng").is_none() {
        skip(what, "espeak-ng is not installed");
        return None;
    }
    let lab = Lab::new(what, &["unshare"])?;
    let asterisk = Asterisk::start(&lab, what)?;
    let host = lab.host("phone", 50);
    Some((lab, asterisk, host))
}

fn understood(way: &str, heard: &Wav, sentence: usize, lab: &Lab) {
    let result = recognise(heard, lab.folder());
    println!(
        "{way}: sentence {}, score {:.3}, next best {:.3}",
        result.sentence, result.score, result.runner_up
    );
    assert_eq!(result.sentence, sentence, "{way}: {result:?}");
    assert!(result.score > 0.75 && result.score > result.runner_up + 0.25, "{way}: {result:?}");
}

fn echo_call(phone: &Phone, seconds: f64) {
    let call = phone.call("600");
    phone.wait_event("call.media");
    sleep(Duration::from_secs_f64(seconds));
    phone.hang_up(&call);
}

fn with_file(way: &str, account: &str, sentence: usize, keys: &[&str]) {
    let Some((lab, _asterisk, host)) = stage(way) else { return };
    let ca = Pki::of(&lab).ca_file;
    let spoken = speak(sentence, 16000, lab.folder());
    let seconds = spoken.seconds() + 1.5;
    let setup = Setup::new(account, PBX).speaks(spoken).line(&format!("ca_file = {ca:?}"));
    let phone = keys.iter().fold(setup, |setup, key| setup.line(key)).start(&lab, &host);
    echo_call(&phone, seconds);
    understood(way, &phone.heard(), sentence, &lab);
}

#[test]
fn speech_over_udp() {
    with_file("speech over UDP", "1001", 0, &[r#"transport = "udp""#, r#"codecs = ["PCMA"]"#]);
}

#[test]
fn speech_over_tcp() {
    with_file("speech over TCP", "1001", 1, &[r#"transport = "tcp""#, r#"codecs = ["G722"]"#]);
}

#[test]
fn speech_over_tls_and_srtp() {
    let keys = [r#"transport = "tls""#, r#"srtp = "required""#, r#"codecs = ["PCMU"]"#];
    with_file("speech over TLS and SRTP", "1101", 2, &keys);
}

#[test]
fn speech_in_opus() {
    with_file("speech in Opus", "1001", 3, &[r#"codecs = ["opus"]"#]);
}

fn with_sound_device(way: &str, device: &str, account: &str, sentence: usize, keys: &[&str]) {
    let Some((lab, _asterisk, host)) = stage(way) else { return };
    for name in ["pulseaudio", "paplay", "parecord", "pactl"] {
        if program(name).is_none() {
            return skip(way, &format!("{name} is not installed"));
        }
    }
    let ca = Pki::of(&lab).ca_file;
    let pulse = Pulse::start(&lab);
    let mut setup = Setup::new(account, PBX)
        .audio(&format!("backend = \"cpal\"\ninput = {device:?}\noutput = {device:?}"))
        .line(&format!("ca_file = {ca:?}"));
    for (name, value) in pulse.environment() {
        setup = setup.environment(&name, &value);
    }
    let phone = keys.iter().fold(setup, |setup, key| setup.line(key)).start(&lab, &host);
    let recorder = pulse.record();
    let spoken = speak(sentence, 16000, lab.folder());
    let call = phone.call("600");
    phone.wait_event("call.media");
    let mut player = pulse.play(&spoken);
    player.wait(Duration::from_secs(20));
    sleep(Duration::from_millis(1500));
    phone.hang_up(&call);
    drop(recorder);
    understood(way, &pulse.recorded(), sentence, &lab);
}

/// PulseAudio's own protocol, and ALSA as boards have it.
const PULSE: &str = "pulse:default";
const ALSA: &str = "default";

#[test]
fn speech_through_the_sound_device_over_udp() {
    with_sound_device(
        "speech through the sound device over UDP",
        PULSE,
        "1001",
        0,
        &[r#"codecs = ["PCMA"]"#],
    );
}

#[test]
fn speech_through_the_sound_device_over_tcp() {
    let keys = [r#"transport = "tcp""#, r#"codecs = ["G722"]"#];
    with_sound_device("speech through the sound device over TCP", PULSE, "1001", 1, &keys);
}

#[test]
fn speech_through_the_sound_device_over_tls_and_srtp() {
    let keys = [r#"transport = "tls""#, r#"srtp = "required""#, r#"codecs = ["PCMU"]"#];
    with_sound_device("speech through the sound device over TLS and SRTP", PULSE, "1101", 2, &keys);
}

#[test]
fn speech_through_an_alsa_device() {
    with_sound_device("speech through an ALSA device", ALSA, "1001", 3, &[r#"codecs = ["G722"]"#]);
}

//! The lab itself: the peers come up and talk, before the program is asked to talk to them.

use std::net::UdpSocket;
use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::baresip::Baresip;
use crate::dns::{Dns, Record};
use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::pulse::Pulse;
use crate::router::Nat;
use crate::sipp::Sipp;
use crate::sound::{Wav, sine};

fn options(from: &str, to: &str) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bKlab1\r\nMax-Forwards: 70\r\n\
         From: <sip:lab@{from}>;tag=lab1\r\nTo: <sip:{to}>\r\nCall-ID: lab1@{from}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:lab@{from}>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn asterisk_answers_options_through_a_nat() {
    let Some(lab) = Lab::new("Asterisk", &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "Asterisk") else { return };
    let office = lab.office("office", 101, Nat::Symmetric);
    let pbx = format!("{}:5060", asterisk.host.address);
    let answer = office.host.enter(|| {
        let socket = UdpSocket::bind("192.168.1.10:5070").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
        socket.send_to(options("192.168.1.10:5070", &pbx).as_bytes(), &pbx).expect("sending");
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    // An unknown caller gets its answer at the router's public address, whatever the answer is.
    assert!(answer.starts_with("SIP/2.0 200") || answer.starts_with("SIP/2.0 401"), "{answer}");
    assert!(answer.contains("received=203.0.113.101"), "{answer}");
    assert!(asterisk.command("core show version").contains("Asterisk"));
}

#[test]
fn sipp_calls_asterisks_echo() {
    let Some(lab) = Lab::new("SIPp", &["sipp", "unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "SIPp") else { return };
    let caller = lab.host("sipp", 30);
    let scenario = include_str!("sipp/plain_call.xml");
    let mut sipp = Sipp::call(&lab, &caller, "sipp", scenario, "203.0.113.10:5060", "600");
    sipp.done();
    assert_eq!(sipp.received("SIP/2.0 200").len(), 2, "{}", sipp.messages());
    asterisk.idle();
}

#[test]
fn baresip_calls_asterisk_and_both_hear() {
    let Some(lab) = Lab::new("baresip", &["baresip", "unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "baresip") else { return };
    let host = lab.host("baresip", 40);
    let baresip = Baresip::start(&lab, &host, "1002", "203.0.113.10", ";audio_codecs=PCMU/8000/1");
    asterisk.registered("1002");
    baresip.command("dial", "sip:603@203.0.113.10");
    baresip.says("Call established");
    std::thread::sleep(Duration::from_secs(3));
    baresip.command("hangup", "");
    asterisk.idle();
    let (there, here) = (asterisk.recording("heard.wav"), baresip.heard());
    assert!(there.seconds_of(880.0) > 1.5, "Asterisk heard {} s of 880 Hz", there.seconds_of(880.0));
    assert!(here.seconds_of(1004.0) > 1.5, "baresip heard {} s of 1004 Hz", here.seconds_of(1004.0));
}

#[test]
fn kamailio_answers_and_names_are_served() {
    let Some(lab) = Lab::new("Kamailio", &["kamailio", "ss"]) else { return };
    let mut kamailio = Kamailio::start(&lab, "kam1", 20);
    let host = lab.host("phone", 50);
    let _dns = Dns::start(&host, vec![("kam1.lab.test", Record::A([203, 0, 113, 20]))]);
    let ask = || {
        host.enter(|| {
            let socket = UdpSocket::bind("203.0.113.50:5060").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
            socket
                .send_to(options("203.0.113.50:5060", "203.0.113.20").as_bytes(), "203.0.113.20:5060")
                .ok()?;
            let mut buffer = [0; 2000];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    };
    assert!(ask().is_some_and(|answer| answer.starts_with("SIP/2.0 200")), "{}", kamailio.output());
    let found = host.run("getent", &["ahostsv4", "kam1.lab.test"]);
    assert!(found.contains("203.0.113.20"), "{found}");
    kamailio.kill();
    assert_eq!(ask(), None);
    kamailio.again();
    assert!(ask().is_some());
}

#[test]
fn the_sound_server_carries_what_is_played() {
    let Some(lab) = Lab::new("PulseAudio", &["pulseaudio", "paplay", "parecord", "pactl"]) else { return };
    let pulse = Pulse::start(&lab);
    // The monitor of the speaker hears what a program plays to the default device.
    let recorder = pulse.record();
    std::thread::sleep(Duration::from_millis(500));
    let file = lab.folder().join("tone.wav");
    Wav::new(16000, sine(700.0, 16000, 1.5, 8000)).write(&file);
    let played =
        std::process::Command::new("paplay").arg(&file).envs(pulse.environment()).status().expect("paplay");
    assert!(played.success());
    std::thread::sleep(Duration::from_millis(500));
    drop(recorder);
    let heard = pulse.recorded();
    assert!(
        heard.seconds_of(700.0) > 1.2,
        "heard {} s of it in {} s",
        heard.seconds_of(700.0),
        heard.seconds()
    );
}

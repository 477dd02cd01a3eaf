//! Audio through real NATs: two phones by ICE and coturn, with a proxy that touches no media, and Asterisk as a peer
//! that has ICE itself.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::asterisk::Asterisk;
use crate::coturn::{self, Coturn, PASSWORD, USER};
use crate::friendly::tone_call;
use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::router::Nat;
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";

/// ICE, with coturn.
fn with_ice(account: &str) -> Setup {
    Setup::new(account, PBX).line(r#"codecs = ["PCMU"]"#).line(&coturn::ice())
}

/// The same where coturn is reached in each of these ways.
fn with_ways(account: &str, sip: &str, ways: &str, ice: bool) -> Setup {
    Setup::new(account, PBX).line(r#"codecs = ["PCMU"]"#).line(sip).line("tls_verify = false").line(&format!(
        "[line.nat]\nstun = [\"203.0.113.11\"]\nice = {ice}\n\
             [[line.nat.turn]]\nurl = {ways}\nusername = {USER:?}\npassword = {PASSWORD:?}"
    ))
}

/// The first phone calls the second, and both hear the other's tone.
fn both_hear(caller: &Phone, callee: &Phone) -> [Value; 2] {
    let call = caller.call("1002");
    let ringing = callee.wait_event("call.ringing");
    callee.act(ringing["subject"].as_str().expect("an id"), "answer");
    let media = [caller.wait_event("call.media"), callee.wait_event("call.media")];
    sleep(Duration::from_secs(3));
    caller.hang_up(&call);
    callee.closed();
    let (there, here) = (callee.heard(), caller.heard());
    assert!(there.seconds_of(440.0) > 2.5, "the callee hears {} s", there.seconds_of(440.0));
    assert!(here.seconds_of(700.0) > 2.5, "the caller hears {} s", here.seconds_of(700.0));
    media
}

fn two_offices(nat: Nat, relayed: bool) {
    let what = format!("ICE behind two routers, {nat:?}");
    let Some(lab) = Lab::new(&what, &["turnserver", "kamailio"]) else { return };
    let _proxy = Kamailio::start(&lab, "pbx", 10);
    let coturn = Coturn::start(&lab);
    let (one, two) = (lab.office("one", 101, nat), lab.office("two", 102, nat));
    let caller = with_ice("1001").start(&lab, &one.host);
    let tone = Wav::new(16000, sine(700.0, 16000, 2.0, 8000));
    let callee = with_ice("1002").speaks(tone).start(&lab, &two.host);
    // A port of each is gathered while nobody calls.
    sleep(Duration::from_secs(1));
    let media = both_hear(&caller, &callee);
    eprintln!("{what}: {} and {}", media[0]["data"], media[1]["data"]);
    // coturn sums up what it relayed when an allocation ends.
    for mut phone in [caller, callee] {
        assert_eq!(phone.stop(), Some(0), "{}", phone.output());
    }
    sleep(Duration::from_secs(1));
    let (log, carried) = (coturn.log(), coturn.carried());
    eprintln!("{what}: {carried} packets by the relay");
    assert!(log.contains("CREATE_PERMISSION"), "no permission was asked for:\n{log}");
    // The voice is 150 packets each way. The first way that works is taken, so its beginning may go by the relay even
    // where the phones soon reach each other directly.
    if relayed {
        assert!(carried > 200, "{carried} packets went by the relay:\n{log}");
        assert!(log.contains("CHANNEL_BIND"), "no channel carried the voice:\n{log}");
    } else {
        assert!(carried < 60, "{carried} packets went by the relay:\n{log}");
    }
}

#[test]
fn two_phones_behind_symmetric_nats_hear_each_other_by_the_relay() {
    two_offices(Nat::Symmetric, true);
}

#[test]
fn two_phones_behind_port_restricted_nats_hear_each_other_directly() {
    two_offices(Nat::PortRestricted, false);
}

#[test]
fn asterisk_with_ice_is_heard_behind_a_symmetric_nat() {
    let Some(lab) = Lab::new("ICE with Asterisk", &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "ICE with Asterisk") else { return };
    let _coturn = Coturn::start(&lab);
    let office = lab.office("one", 101, Nat::Symmetric);
    let phone = with_ice("1701").start(&lab, &office.host);
    sleep(Duration::from_secs(1));
    tone_call(&phone, &mut asterisk, "PCMU");
}

const EVERY_WAY: &str =
    r#"["turn:203.0.113.11", "turn:203.0.113.11?transport=tcp", "turns:203.0.113.11:443"]"#;

/// Behind this router no datagram gets out: a call has audio both ways through coturn, with ICE and without.
fn by_a_stream(nat: Nat, sip: &str, proof: &str) {
    let what = format!("TURN by a stream, {nat:?}");
    for (account, ice) in [("1701", true), ("1001", false)] {
        let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
        let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
        let coturn = Coturn::start(&lab);
        let office = lab.office("one", 101, nat);
        let phone = with_ways(account, sip, EVERY_WAY, ice).start(&lab, &office.host);
        sleep(Duration::from_secs(2));
        tone_call(&phone, &mut asterisk, "PCMU");
        sleep(Duration::from_secs(1));
        let log = coturn.log();
        assert!(log.contains(proof), "not by {proof}:\n{log}");
        assert!(log.contains("CHANNEL_BIND"), "no channel carried the voice:\n{log}");
    }
}

#[test]
fn where_udp_is_blocked_a_call_is_heard_by_turn_over_tcp() {
    by_a_stream(Nat::UdpBlocked, r#"transport = "tcp""#, "TCP");
}

#[test]
fn where_udp_is_rejected_a_call_is_heard_by_turn_over_tcp() {
    by_a_stream(Nat::UdpRejected, r#"transport = "tcp""#, "TCP");
}

#[test]
fn where_only_the_web_is_let_out_a_call_is_heard_by_turn_over_tls() {
    by_a_stream(Nat::OnlyTcp443, "registrar = \"sips:203.0.113.10:443\"\ntransport = \"tls\"", "TLS");
}

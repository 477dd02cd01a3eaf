//! RTCP on a port of its own: Asterisk that shares none between RTP and RTCP, behind a symmetric NAT and with ICE, which
//! looks for a path for both. What each side reports of the other is read on both.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::asterisk::Asterisk;
use crate::coturn::{Coturn, ice};
use crate::friendly::PBX;
use crate::impair::Link;
use crate::netns::Lab;
use crate::phone::Setup;
use crate::router::{Nat, Uplink};

/// Both report every five seconds or so; a round trip is known after the second report.
const CALL: Duration = Duration::from_secs(18);
/// There and back takes 60 ms, and one packet of fifty is lost each way.
const LINK: Link = Link { loss: 2.0, delay: 30.0, ..Link::GOOD };

/// A router that is not there.
const NOBODY: &str = "203.0.113.254";

/// What the other side has reported, and what of it we know by that.
fn is_told(quality: &Value) {
    assert!(quality["rtcp_received"].as_u64().is_some_and(|count| count >= 2), "{quality}");
    let trip_us = quality["round_trip_us"].as_u64().unwrap_or_default();
    assert!((55_000..250_000).contains(&trip_us), "{quality}");
    let loss = quality["remote_loss_percent"].as_f64().expect("what Asterisk has lost");
    assert!((0.0..25.0).contains(&loss) && quality["rtcp_fault"].is_null(), "{quality}");
}

/// A call out and one that comes, with an account that has ICE and no rtcp-mux.
fn apart(account: &str, keys: &str) {
    let what = format!("RTCP on a port of its own, {account}");
    let Some(lab) = Lab::new(&what, &["unshare", "turnserver"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, &what) else { return };
    let _coturn = Coturn::start(&lab);
    // Like a PBX in the Internet it has a way to private addresses, if to nobody. Without one its checks of them would not get
    // lost but fail at once, and one lost check of ours would be enough for it to give up on RTCP's path.
    asterisk.host.run("ip", &["neigh", "add", NOBODY, "lladdr", "02:00:00:00:00:fe", "dev", "eth0"]);
    asterisk.host.run("ip", &["route", "add", "default", "via", NOBODY]);
    let office = lab.office("office", 101, Uplink::from(Nat::Symmetric).over(LINK));
    let setup = Setup::new(account, PBX).line(keys).line(r#"codecs = ["PCMA"]"#).line(&ice());
    let phone = setup.start(&lab, &office.host);
    asterisk.registered(account);
    sleep(Duration::from_secs(1));
    for comes in [false, true] {
        let call = match comes {
            false => phone.call("603"),
            true => {
                asterisk.call(account, "603");
                let call = phone.wait_event("call.ringing")["subject"].as_str().expect("an id").to_owned();
                phone.act(&call, "answer");
                call
            }
        };
        phone.wait_event("call.media");
        sleep(CALL);
        let [trip_s] = asterisk.round_trips()[..] else { panic!("one channel") };
        assert!((0.055..0.25).contains(&trip_s), "Asterisk knows of {trip_s} s there and back");
        phone.act(&call, "hangup");
        is_told(&phone.wait_event("call.ended")["data"]["quality"]);
        phone.closed();
        asterisk.idle();
        let (heard, said) =
            (phone.heard().seconds_of(1004.0), asterisk.recording("heard.wav").seconds_of(440.0));
        assert!(heard > 14.0 && said > 14.0, "1004 Hz was heard for {heard} s, 440 Hz for {said} s");
    }
}

#[test]
fn reports_in_clear_have_a_path_of_their_own() {
    apart("1701", "");
}

#[test]
fn reports_under_keys_of_the_description_have_a_path_of_their_own() {
    apart("1712", "srtp = \"required\"");
}

#[test]
fn reports_under_a_handshake_have_a_path_and_keys_of_their_own() {
    apart("1713", "srtp = \"required\"\nsrtp_keys = \"dtls\"");
}

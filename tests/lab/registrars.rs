//! Kamailio as the registrar: every transport, and another server when the first one is gone (RFC 3263).

use std::time::Duration;

use serde_json::json;

use crate::baresip::Baresip;
use crate::dns::{Dns, Record};
use crate::kamailio::Kamailio;
use crate::netns::{Host, Lab};
use crate::phone::Setup;
use crate::pki::Pki;

const FIRST: [u8; 4] = [203, 0, 113, 20];
const SECOND: [u8; 4] = [203, 0, 113, 21];

fn stage(what: &str) -> Option<(Lab, Host)> {
    let lab = Lab::new(what, &["kamailio", "ss"])?;
    let host = lab.host("phone", 50);
    Some((lab, host))
}

/// lab.test with NAPTR for UDP, SRV with a first and a second server.
fn zone() -> Vec<(&'static str, Record)> {
    vec![
        ("lab.test", Record::Naptr(10, 10, "SIP+D2U", "_sip._udp.lab.test")),
        ("lab.test", Record::Naptr(20, 10, "SIP+D2T", "_sip._tcp.lab.test")),
        ("_sip._udp.lab.test", Record::Srv(10, 0, 5060, "kam1.lab.test")),
        ("_sip._udp.lab.test", Record::Srv(20, 0, 5060, "kam2.lab.test")),
        ("_sip._tcp.lab.test", Record::Srv(10, 0, 5060, "kam1.lab.test")),
        ("_sip._tcp.lab.test", Record::Srv(20, 0, 5060, "kam2.lab.test")),
        ("_sips._tcp.lab.test", Record::Srv(10, 0, 5061, "kam1.lab.test")),
        ("kam1.lab.test", Record::A(FIRST)),
        ("kam2.lab.test", Record::A(SECOND)),
    ]
}

#[test]
fn a_line_registers_over_every_transport_by_name() {
    let Some((lab, host)) = stage("registration by name") else { return };
    let kamailio = Kamailio::start(&lab, "kam1", 20);
    let dns = Dns::start(&host, zone());
    let ca = Pki::of(&lab).ca_file;
    for transport in ["udp", "tcp", "tls"] {
        let mut phone = Setup::new("1001", "lab.test")
            .line(&format!("transport = {transport:?}"))
            .line(&format!("ca_file = {ca:?}"))
            .start(&lab, &host);
        let registered = phone.wait_event("line.registered");
        assert_eq!(registered["data"]["transport"], transport, "{registered}");
        kamailio.logged(&format!("register 1001 over {transport}"), Duration::from_secs(5));
        assert_eq!(phone.stop(), Some(0));
        std::fs::remove_dir_all(phone.folder().join("data")).expect("the data folder");
    }
    assert!(dns.asked() > 0);
}

#[test]
fn when_the_first_server_is_down_at_start_the_second_is_taken() {
    let Some((lab, host)) = stage("SRV fail-over at start") else { return };
    let _nobody = lab.host("kam1", 20);
    let _second = Kamailio::start(&lab, "kam2", 21);
    let _dns = Dns::start(&host, zone());
    let phone = Setup::new("1001", "lab.test").line(r#"transport = "udp""#).start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert!(registered["data"]["registrar"].to_string().contains("203.0.113.21"), "{registered}");
}

#[test]
fn when_the_first_server_dies_calls_and_registration_go_to_the_second() {
    let Some((lab, host)) = stage("SRV fail-over") else { return };
    let mut first = Kamailio::start(&lab, "kam1", 20);
    let second = Kamailio::start(&lab, "kam2", 21);
    let _dns = Dns::start(&host, zone());
    let phone = Setup::new("1001", "lab.test")
        .line(r#"transport = "udp""#)
        .line(r#"expires = "30s""#)
        .start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert!(registered["data"]["registrar"].to_string().contains("203.0.113.20"), "{registered}");

    first.kill();
    // A call right after finds the other server; nobody is registered there under this number.
    phone.call("1099");
    let closed = phone.closed();
    assert_eq!(closed["result"], "invalid_number", "{closed}");
    second.logged("invite 1099", Duration::from_secs(2));
    // The registration follows at its refresh at the latest.
    second.logged("register 1001", Duration::from_secs(35));
}

#[test]
fn an_unknown_name_is_told_and_tried_again() {
    let Some((lab, host)) = stage("an unknown name") else { return };
    let _dns = Dns::start(&host, zone());
    let phone = Setup::new("1001", "nowhere.test").launch(&lab, &host);
    let failed = phone.wait_event("line.unregistered");
    assert!(failed["data"]["cause"]["text"].to_string().contains("nowhere.test"), "{failed}");
    assert!(failed["data"]["retry_us"].as_u64().is_some(), "{failed}");
}

/// A lease is renewed and names another name server; nothing else changes.
#[test]
fn a_new_name_server_is_asked_as_soon_as_the_machine_knows_it() {
    let Some((lab, host)) = stage("a new name server") else { return };
    let _kamailio = Kamailio::start(&lab, "kam1", 20);
    let _dns = Dns::start(&host, zone());
    let settings = std::path::Path::new("/etc/netns").join(host.space()).join("resolv.conf");
    let name_server = |address: &str| {
        let text = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
        std::fs::write(&settings, text).expect("resolv.conf");
    };
    name_server("127.0.0.9");
    let phone = Setup::new("1001", "lab.test").line(r#"transport = "udp""#).launch(&lab, &host);
    phone.wait_event("line.unregistered");
    name_server("127.0.0.1");
    phone.post("/api/v1/lines/main/register", &serde_json::json!({}));
    phone.wait_event("line.registered");
}

/// A phone of another make at the same registrar, media straight between the two.
fn with_baresip(codec: &str, theirs: &str) {
    let Some((lab, host)) = stage(&format!("baresip with {codec}")) else { return };
    if crate::process::program("baresip").is_none() {
        return crate::netns::skip(&format!("baresip with {codec}"), "baresip is not installed");
    }
    let _kamailio = Kamailio::start(&lab, "kam1", 20);
    let other = lab.host("baresip", 40);
    let baresip = Baresip::start(&lab, &other, "1002", "203.0.113.20", &format!(";audio_codecs={theirs}"));
    let phone = Setup::new("1001", "203.0.113.20").line(&format!("codecs = [{codec:?}]")).start(&lab, &host);

    let call = phone.call("1002");
    let media = phone.wait_event("call.media");
    assert_eq!(media["data"]["codec"], codec, "{media}");
    std::thread::sleep(Duration::from_secs(3));
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    let (here, there) = (phone.heard(), baresip.heard());
    assert!(
        here.seconds_of(880.0) > 2.4,
        "heard 880 Hz for {} s of {}",
        here.seconds_of(880.0),
        here.seconds()
    );
    assert!(there.seconds_of(440.0) > 2.0, "baresip heard 440 Hz for {} s", there.seconds_of(440.0));

    // And the other way round; baresip holds, takes back and hangs up.
    baresip.command("dial", "sip:1001@203.0.113.20");
    let ringing = phone.wait_event("call.ringing");
    phone.act(ringing["subject"].as_str().expect("an id"), "answer");
    phone.wait_event("call.media");
    std::thread::sleep(Duration::from_secs(1));
    baresip.command("hold", "");
    assert_eq!(phone.wait_event("call.held")["data"]["by"], "remote");
    std::thread::sleep(Duration::from_secs(1));
    baresip.command("resume", "");
    phone.wait_event("call.resumed");
    std::thread::sleep(Duration::from_secs(1));
    baresip.command("hangup", "");
    let closed = phone.closed();
    assert_eq!((&closed["result"], &closed["missed"]), (&json!("answered"), &json!(false)), "{closed}");
    assert!(phone.heard().seconds_of(880.0) > 1.6, "heard 880 Hz for {} s", phone.heard().seconds_of(880.0));
}

#[test]
fn baresip_and_we_talk_pcma() {
    with_baresip("PCMA", "PCMA/8000/1");
}

#[test]
fn baresip_and_we_talk_g722() {
    with_baresip("G722", "G722/16000/1");
}

#[test]
fn baresip_and_we_talk_opus() {
    with_baresip("opus", "opus/48000/2");
}

//! IPv6 over every transport: two phones at a real registrar, and their media straight between them, with ICE and without.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::dns::{Dns, Record};
use crate::kamailio::Kamailio;
use crate::netns::{Lab, skip};
use crate::phone::Setup;
use crate::pki::Pki;
use crate::sound::{Wav, sine};

fn zone() -> Vec<(&'static str, Record)> {
    vec![
        ("lab.test", Record::Naptr(10, 10, "SIP+D2U", "_sip._udp.lab.test")),
        ("_sip._udp.lab.test", Record::Srv(10, 0, 5060, "kam1.lab.test")),
        ("_sip._tcp.lab.test", Record::Srv(10, 0, 5060, "kam1.lab.test")),
        ("_sips._tcp.lab.test", Record::Srv(10, 0, 5061, "kam1.lab.test")),
        ("kam1.lab.test", Record::Aaaa("2001:db8::20".parse().expect("an address"))),
    ]
}

/// `ice`: and the media find their way by ICE; `alone`: these machines have no other family.
fn over(transport: &str, ice: bool, alone: bool) {
    let what = format!("IPv6 over {transport}, ICE {ice}, alone {alone}");
    let Some(lab) = Lab::new(&what, &["kamailio", "ss"]) else { return };
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        return skip(&what, "this machine has no IPv6");
    }
    let kamailio = Kamailio::start_with_ipv6(&lab, "kam1", 20);
    let ca = Pki::of(&lab).ca_file;
    let mut names = Vec::new();
    let mut phones = Vec::new();
    for (account, last, hertz) in [("1001", 50, 440.0), ("1002", 51, 660.0)] {
        let host = lab.host_of_both(account, last);
        if alone {
            host.run("ip", &["-4", "addr", "flush", "scope", "global"]);
        }
        names.push(Dns::start(&host, zone()));
        let setup = Setup::new(account, "lab.test")
            .line(&format!("transport = {transport:?}"))
            .line(&format!("ca_file = {ca:?}"))
            .line(r#"codecs = ["PCMA"]"#)
            .line(if transport == "tls" { r#"srtp = "required""# } else { "" })
            .line(if ice { "[line.nat]\nice = true" } else { "" })
            .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)));
        let phone = setup.start(&lab, &host);
        let registered = phone.wait_event("line.registered");
        assert_eq!(registered["data"]["transport"], transport, "{registered}");
        assert!(registered["data"]["registrar"].to_string().contains("2001:db8::20"), "{registered}");
        kamailio.logged(&format!("register {account} over {transport}"), Duration::from_secs(5));
        phones.push(phone);
    }
    let [a, b] = &phones[..] else { unreachable!() };
    let call = a.call("1002");
    let ringing = b.wait_event("call.ringing");
    b.act(ringing["subject"].as_str().expect("an id"), "answer");
    let way = a.wait_event("call.media")["data"]["way"].clone();
    let remote = if ice { "host".into() } else { Value::Null };
    assert_eq!((&way["local"], &way["remote"]), (&"host".into(), &remote), "{way}");
    sleep(Duration::from_secs(2));
    a.act(&call, "hold");
    assert_eq!(b.wait_event("call.held")["data"]["by"], "remote");
    a.act(&call, "resume");
    b.wait_event("call.resumed");
    sleep(Duration::from_secs(1));
    let closed = a.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    b.closed();
    let (at_a, at_b) = (a.heard(), b.heard());
    assert!(at_a.seconds_of(660.0) > 2.0, "A heard {} s of 660 Hz", at_a.seconds_of(660.0));
    assert!(at_b.seconds_of(440.0) > 2.0, "B heard {} s of 440 Hz", at_b.seconds_of(440.0));
}

#[test]
fn two_phones_call_each_other_over_ipv6_and_udp() {
    over("udp", false, false);
}

#[test]
fn two_phones_call_each_other_over_ipv6_and_tcp() {
    over("tcp", false, false);
}

#[test]
fn two_phones_call_each_other_over_ipv6_and_tls() {
    over("tls", false, false);
}

#[test]
fn two_phones_of_both_families_call_each_other_by_ice() {
    over("udp", true, false);
}

#[test]
fn two_phones_with_ipv6_alone_call_each_other_by_ice() {
    over("udp", true, true);
}

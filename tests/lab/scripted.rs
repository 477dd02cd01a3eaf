//! The phone against SIPp: a peer that plays exactly what is written, also what a kind PBX never does.
//!
//! The line does not register here; its server is SIPp's address, so SIPp is whom it trusts.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::sipp::Sipp;

const PEER: &str = "203.0.113.30";

fn stage(what: &str, more: &str) -> Option<(Lab, Host, Phone)> {
    let lab = Lab::new(what, &["sipp"])?;
    let peer = lab.host("sipp", 30);
    let host = lab.host("phone", 50);
    let phone = Setup::new("1001", PEER).line("register = false").line(more).start(&lab, &host);
    Some((lab, peer, phone))
}

const PHONE: &str = "203.0.113.50:5060";

#[test]
fn a_200_is_sent_again_until_it_is_acknowledged() {
    let Some((lab, peer, phone)) = stage("a late ACK", "auto_answer = true") else { return };
    let mut sipp = Sipp::call(&lab, &peer, "late-ack", include_str!("sipp/late_ack.xml"), PHONE, "1001");
    sipp.done();
    let answers = sipp.received("SIP/2.0 200");
    // Sent at 0, 500 and 1500 ms, then the one to the BYE.
    assert_eq!(answers.len(), 4, "{}", sipp.messages());
    let closed = phone.closed();
    assert_eq!((&closed["result"], &closed["legs"]), (&json!("answered"), &json!(1)), "{closed}");
}

#[test]
fn an_invite_is_sent_again_until_somebody_answers() {
    let Some((lab, peer, phone)) = stage("a slow server", "") else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "slow", include_str!("sipp/slow_server.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.ringing");
    phone.wait_event("call.answered");
    sleep(Duration::from_millis(300));
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    sipp.done();
    assert_eq!(sipp.received("INVITE").len(), 2, "{}", sipp.messages());
}

#[test]
fn of_two_answers_of_a_fork_one_is_kept_and_one_hung_up() {
    let Some((lab, peer, phone)) = stage("a fork", "") else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "fork", include_str!("sipp/forked.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.answered");
    sleep(Duration::from_millis(500));
    phone.hang_up(&call);
    sipp.done();
    assert_eq!(phone.count("call.answered"), 1, "{}", phone.story());
    assert_eq!(phone.count("call.closed"), 1, "{}", phone.story());
}

#[test]
fn a_cancel_that_crosses_the_200_becomes_a_bye() {
    let Some((lab, peer, phone)) = stage("a CANCEL race", "") else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "race", include_str!("sipp/cancel_crosses_200.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.ringing");
    let closed = phone.hang_up(&call);
    assert_eq!(closed["result"], "cancelled", "{closed}");
    sipp.done();
    assert_eq!(phone.count("call.answered"), 0, "{}", phone.story());
}

#[test]
fn a_proxys_challenge_is_answered() {
    let Some((lab, peer, phone)) = stage("a challenge", "") else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "challenge", include_str!("sipp/challenge.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.answered");
    phone.hang_up(&call);
    sipp.done();
    let invites = sipp.received("INVITE");
    assert_eq!(invites.len(), 2, "{}", sipp.messages());
    assert!(digest_is_right(&invites[1], "Proxy-Authorization", "INVITE"), "{}", invites[1]);
}

/// Whether the credentials in this field are those of 1001 with its password (RFC 7616 §3.4.1, MD5, qop auth).
fn digest_is_right(message: &str, field: &str, method: &str) -> bool {
    use md5::{Digest, Md5};
    let Some(line) = message.lines().find(|line| line.starts_with(field)) else { return false };
    let value = |name: &str| {
        let start =
            line.find(&format!(" {name}=")).or(line.find(&format!(",{name}="))).expect(name) + name.len() + 2;
        line[start..].trim_start_matches('"').split(['"', ',']).next().expect("a value").trim().to_owned()
    };
    let hash = |text: String| Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let user = hash(format!("1001:{}:pw1001", value("realm")));
    let request = hash(format!("{method}:{}", value("uri")));
    let middle = format!("{}:{}:{}:{}", value("nonce"), value("nc"), value("cnonce"), value("qop"));
    value("username") == "1001" && value("response") == hash(format!("{user}:{middle}:{request}"))
}

#[test]
fn a_call_completed_elsewhere_is_not_missed() {
    let Some((lab, peer, phone)) = stage("answered elsewhere", "") else { return };
    let mut sipp = Sipp::call(&lab, &peer, "elsewhere", include_str!("sipp/elsewhere.xml"), PHONE, "1001");
    phone.wait_event("call.ringing");
    let closed = phone.closed();
    assert_eq!(
        (&closed["result"], &closed["missed"]),
        (&json!("answered_elsewhere"), &json!(false)),
        "{closed}"
    );
    sipp.done();
}

#[test]
fn a_call_on_hold_makes_a_full_offer_and_survives_a_fax() {
    let Some((lab, peer, phone)) = stage("late offer on hold", "auto_answer = true") else { return };
    let mut sipp =
        Sipp::call(&lab, &peer, "hold", include_str!("sipp/late_offer_on_hold.xml"), PHONE, "1001");
    let held = phone.wait_event("call.held");
    assert_eq!(held["data"]["by"], "remote", "{held}");
    phone.wait_event("call.resumed");
    sipp.done();
    let closed = phone.closed();
    assert_eq!(closed["result"], "answered", "{closed}");
}

#[test]
fn odd_requests_get_their_answers() {
    let Some((lab, peer, _phone)) = stage("odd requests", "") else { return };
    Sipp::call(&lab, &peer, "odd", include_str!("sipp/odd_requests.xml"), PHONE, "1001").done();
}

#[test]
fn busy_is_busy() {
    let Some((lab, peer, phone)) = stage("busy", "") else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "busy", include_str!("sipp/refused.xml"));
    phone.call("2000");
    let ended = phone.wait_event("call.ended");
    assert_eq!((&ended["data"]["result"], &ended["data"]["cause"]["status"]), (&json!("busy"), &json!(486)));
    sipp.done();
}

#[test]
fn do_not_disturb_declines() {
    let Some((lab, peer, phone)) = stage("do not disturb", "dnd = true") else { return };
    let mut sipp = Sipp::call(&lab, &peer, "odd", include_str!("sipp/odd_requests.xml"), PHONE, "1001");
    sipp.done();
    assert_eq!(phone.count("call.ringing"), 0);
}

#[test]
fn a_stranger_gets_no_answer() {
    let Some((lab, _peer, phone)) = stage("a stranger", "") else { return };
    let stranger = lab.host("stranger", 66);
    let mut sipp =
        Sipp::call(&lab, &stranger, "stranger", include_str!("sipp/plain_call.xml"), PHONE, "1001");
    sleep(Duration::from_secs(3));
    assert!(sipp.received("SIP/2.0").is_empty(), "{}", sipp.messages());
    assert_eq!(phone.count("call.new"), 0, "{}", phone.story());
    sipp.stop();
}

#[test]
fn a_registrar_with_wishes_gets_them() {
    let Some(lab) = Lab::new("a registrar with wishes", &["sipp"]) else { return };
    let peer = lab.host("sipp", 30);
    let host = lab.host("phone", 50);
    let mut sipp = Sipp::serve(&lab, &peer, "registrar", include_str!("sipp/registrar.xml"));
    let phone = Setup::new("1001", PEER).line(r#"expires = "10m""#).start(&lab, &host);
    let registered = phone.wait_event("line.registered");
    assert_eq!(registered["data"]["expires_us"], 20_000_000, "{registered}");
    sipp.done();
    let ids: std::collections::HashSet<String> = sipp
        .received("REGISTER")
        .iter()
        .filter_map(|text| text.lines().find(|line| line.starts_with("Call-ID")).map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 1, "one Call-ID for all: {ids:?}");
}

#[test]
fn a_registrar_that_proves_another_password_is_told_and_used() {
    let Some(lab) = Lab::new("a wrong proof", &["sipp"]) else { return };
    let peer = lab.host("sipp", 30);
    let host = lab.host("phone", 50);
    let mut sipp = Sipp::serve(&lab, &peer, "proof", include_str!("sipp/wrong_proof.xml"));
    let phone = Setup::new("1001", PEER).start(&lab, &host);
    let failed = phone.wait_event("auth.failed");
    let data = &failed["data"];
    assert_eq!((&data["interface"], &data["line"]), (&json!("sip"), &json!("main")), "{failed}");
    assert_eq!(data["from"], "203.0.113.30:5060", "{failed}");
    phone.wait_event("line.registered");
    sipp.done();
    let status = phone.get("/api/v1/status");
    assert_eq!(status["lines"][0]["state"], "registered", "{status}");
    assert!(status["lines"][0]["reason"].as_str().is_some_and(|what| what.contains("rspauth")), "{status}");
}

#[test]
fn a_session_interval_that_is_too_short_is_lengthened() {
    let Some((lab, peer, phone)) = stage("session timers", r#"session_timer = "90s""#) else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "timer", include_str!("sipp/session_timer.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.answered");
    sleep(Duration::from_millis(1200));
    phone.hang_up(&call);
    sipp.done();
    let (invites, mut seen) = (sipp.received("INVITE"), Vec::new());
    for field in ["Call-ID:", "CSeq:"] {
        for invite in &invites {
            let line = invite.lines().find(|line| line.starts_with(field)).expect(field);
            seen.push(line.trim_start_matches(field).trim().to_owned());
        }
    }
    let [first_id, second_id, first, second] = seen.as_slice() else {
        panic!("two INVITEs, not {}", invites.len())
    };
    assert_eq!(first_id, second_id);
    let number =
        |cseq: &str| cseq.split(' ').next().and_then(|text| text.parse::<u32>().ok()).expect("a CSeq");
    assert_eq!(number(first) + 1, number(second));
}

#[test]
fn an_invite_too_big_for_udp_goes_by_udp_where_there_is_no_tcp() {
    let long = format!("srtp = \"optional\"\ndisplay_name = \"{}\"", "A long name ".repeat(40));
    let Some((lab, peer, phone)) = stage("an INVITE above 1300 bytes", &long) else { return };
    let mut sipp = Sipp::serve(&lab, &peer, "big", include_str!("sipp/answers.xml"));
    let call = phone.call("2000");
    phone.wait_event_that("call.answered", "soon", Duration::from_secs(3), |_| true);
    phone.hang_up(&call);
    sipp.done();
    let length = sipp.received("INVITE")[0].len();
    assert!(length > 1300, "the INVITE has only {length} bytes");
}

#[test]
fn keep_alive_oddities_do_no_harm() {
    let Some((lab, peer, phone)) = stage("keep-alive oddities", "") else { return };
    peer.enter(|| {
        let socket = std::net::UdpSocket::bind("203.0.113.30:5060").expect("a socket");
        let odd: [&[u8]; 7] =
            [b"\r\n\r\n", b"\r\n\0", b"", b"\0\0\0\0", b"\r\n", b"jaK", &[0xff; 1400]];
        for bytes in odd {
            socket.send_to(bytes, PHONE).expect("sending");
        }
        // A ping over UDP has no answer (RFC 5626 section 4.4.1), nor has anything else of these.
        socket.set_read_timeout(Some(Duration::from_millis(700))).expect("a time limit");
        assert!(socket.recv(&mut [0; 2000]).is_err(), "an odd datagram was answered");
        // OPTIONS without a To-tag from another port of the same server.
        let other = std::net::UdpSocket::bind("203.0.113.30:5070").expect("a socket");
        other.set_read_timeout(Some(Duration::from_secs(3))).expect("a time limit");
        let options = "OPTIONS sip:1001@203.0.113.50:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.30:5070;branch=z9hG4bK7\r\n\
                       Max-Forwards: 70\r\nFrom: <sip:ping@203.0.113.30>;tag=x\r\nTo: <sip:1001@203.0.113.50>\r\n\
                       Call-ID: ping7\r\nCSeq: 10 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        other.send_to(options.as_bytes(), PHONE).expect("sending");
        let mut buffer = [0; 2000];
        let length = other.recv(&mut buffer).expect("an answer");
        let answer = String::from_utf8_lossy(&buffer[..length]);
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    });
    let mut sipp = Sipp::serve(&lab, &peer, "after", include_str!("sipp/answers.xml"));
    let call = phone.call("2000");
    phone.wait_event("call.answered");
    phone.hang_up(&call);
    sipp.done();
}

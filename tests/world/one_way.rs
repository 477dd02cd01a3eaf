//! Why nobody was heard in a call, as `tipring doctor` names it from what the phone remembers of the call.

use std::net::SocketAddr;

use tipring::phone::diagnosis::{Facts, findings};
use tipring::rtp::packet::Packet;
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, Voice, at, audio};

const PLAIN: &str = "RTP/AVP 8";

/// A call that was answered with the description that this makes of what stands before the key in the offer.
fn answered(line: &str, describe: impl FnOnce(&str) -> String) -> (Script, Peer) {
    let mut script = Script::new(&format!("codecs = [\"PCMA\"]\n{line}"), "");
    let (invite, peer) = script.calls();
    let offer = String::from_utf8_lossy(&invite.body).into_owned();
    let suite = offer.lines().find(|line| line.contains("AES_CM_128_HMAC_SHA1_80"));
    let suite = suite.and_then(|line| line.split_once(" inline:")).map_or("", |(suite, _)| suite);
    script.hears(peer.response(&invite, 200, Some(describe(suite))));
    script.says(Method::ACK);
    (script, peer)
}

/// Hangs up; what is found then.
fn found((mut script, mut peer): (Script, Peer)) -> Vec<&'static str> {
    let bye = peer.request(Method::BYE, None);
    script.hears(bye);
    script.replies(200);
    script.millis(200);
    let mut facts = Facts { calls: script.phone().phone.told(script.world.now()).calls, ..Facts::default() };
    assert_eq!(facts.calls.len(), 1);
    facts.network.own = Some(script.phone().address);
    let codes = findings(&facts).into_iter().map(|finding| finding.code);
    codes.filter(|code| code.starts_with("audio_")).collect()
}

/// The far end says in RTCP that it has lost everything (RFC 3550 §6.4.2).
fn loses_all(script: &mut Script) {
    let ours =
        script.voice_to(MEDIA).first().map(|sent| Packet::parse(&sent.bytes).expect("RTP").header.ssrc);
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 9];
    report.extend(ours.expect("we speak").to_be_bytes());
    report.extend([255, 0, 0, 100]);
    report.extend([0; 16]);
    // Its name, as every compound packet has one.
    report.extend([0x81, 202, 0, 3, 0, 0, 0, 9, 1, 3, b'b', b'o', b'b', 0, 0, 0]);
    let (now_us, from) = (script.world.now().mono_us, SocketAddr::new(at(MEDIA).ip(), at(MEDIA).port() + 1));
    let to = SocketAddr::new(script.phone().address, 10_003);
    script.world.network.send(now_us, from, to, report);
    script.millis(200);
}

#[test]
fn each_reason_of_one_way_audio_is_named_after_the_call() {
    let here = |_: &str| audio(MEDIA, PLAIN, &[]);
    let heard = |from: &str, line: &str, describe: &dyn Fn(&str) -> String| {
        let (mut script, peer) = answered(line, describe);
        script.talk(4_000, &mut [&mut Voice::new(from, 77)]);
        (script, peer)
    };
    assert_eq!(found(heard(MEDIA, "", &here)), [""; 0], "all is well");

    let (mut script, peer) = answered("", here);
    script.seconds(4);
    assert_eq!(found((script, peer)), ["audio_nothing_came"]);

    let (mut script, peer) = answered("", |_| audio("10.9.9.9:20000", PLAIN, &[]));
    script.seconds(4);
    assert_eq!(found((script, peer)), ["audio_far_private"]);

    // Whoever comes from elsewhere has to keep to one source before it is believed.
    let (mut script, peer) = answered("", here);
    let mut two = [Voice::new("203.0.113.66:4000", 77), Voice::new("203.0.113.67:4000", 78)];
    let [one, other] = &mut two;
    script.talk(4_000, &mut [one, other]);
    assert_eq!(found((script, peer)), ["audio_refused"]);

    let keyed = |suite: &str| audio(MEDIA, "RTP/SAVP 8", &[&format!("{suite} inline:{}", "A".repeat(40))]);
    assert_eq!(found(heard(MEDIA, "srtp = \"required\"", &keyed)), ["audio_unauthentic"]);

    let (mut script, peer) = heard(MEDIA, "", &here);
    loses_all(&mut script);
    assert_eq!(found((script, peer)), ["audio_not_heard"]);
}

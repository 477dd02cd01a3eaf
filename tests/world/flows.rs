//! Flows of the field between a PBX of their manner and one whole phone: signalling, media, tones and events
//! together. Their parts are tested beside the code.

use tipring::audio::tones::Tone;
use tipring::events::{CallResult, Kind, Side};
use tipring::media::Sounder;
use tipring::phone::Input;
use tipring::phone::command::Command;
use tipring::sip::message::{Message, Request};
use tipring::sip::method::Method;

use crate::network::Datagram;
use crate::script::{MEDIA, Peer, Script, Voice, at, audio, uri};
use crate::world::{ANSWER, HANG_UP, call, config};

const HOLD: Command = Command::Hold { call: None };
const RESUME: Command = Command::Resume { call: None };

fn a_law(address: &str) -> Option<String> {
    Some(audio(address, "RTP/AVP 8", &[]))
}

/// What the person hears besides the call, in order.
fn tones(script: &Script) -> Vec<Option<Tone>> {
    let terminal = script.phone().tones.iter().filter(|(at, _)| *at == Sounder::Terminal);
    terminal.map(|(_, tone)| *tone).collect()
}

#[test]
fn direct_media_leads_to_the_other_phone_at_once_and_back() {
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    let mut pbx = Voice::new(MEDIA, 1);
    script.talk(2_000, &mut [&mut pbx]);
    // To the other phone; the PBX's last packets are still under way.
    let mut other = Voice::new("192.0.2.50:6000", 2);
    script.reinvites(&mut peer, a_law("192.0.2.50:6000"), None);
    script.listen();
    let changed = script.now_ms();
    script.talk(100, &mut [&mut pbx]);
    assert!(script.voice_to("192.0.2.50:6000").len() >= 4, "our voice follows the description at once");
    assert_eq!(script.voice_to(MEDIA).len(), 0);
    assert!(script.phone().card.heard.iter().skip(400).all(|sample| sample.unsigned_abs() < 50), "stale");
    script.talk(4_000, &mut [&mut other]);
    assert!(script.heard(&other) > 0.75, "{}", script.heard(&other));
    let first = script.voice_to("192.0.2.50:6000")[0].at_us / 1000;
    assert!(first - changed <= 100, "{} ms", first - changed);
    // And back, as before a transfer.
    script.reinvites(&mut peer, a_law(MEDIA), None);
    script.listen();
    pbx.said.clear();
    script.talk(4_000, &mut [&mut pbx]);
    assert!(script.heard(&pbx) > 0.75, "{}", script.heard(&pbx));
    assert_eq!(script.voice_to("192.0.2.50:6000").len(), 0);
    assert!(!script.phone().has("call.held"));
}

#[test]
fn direct_media_that_cross_our_hold_wait_and_the_hold_comes_through() {
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    script.seconds(1);
    script.world.tell(0, HOLD);
    let ours = script.says(Method::INVITE);
    let theirs = peer.request(Method::INVITE, a_law("192.0.2.50:6000"));
    script.hears(theirs.clone());
    script.replies(491);
    let mut ack = peer.numbered(Method::ACK, theirs.head.cseq.number, None);
    ack.head.via.clone_from(&theirs.head.via);
    script.hears(ack);
    script.hears(peer.response(&ours, 491, None));
    script.says(Method::ACK);
    // Theirs again, then ours.
    let answer = script.reinvites(&mut peer, a_law("192.0.2.50:6000"), None);
    assert!(answer.contains("a=sendonly"), "we hold already: {answer}");
    let ours = script.awaits(Method::INVITE, 5_000);
    assert!(String::from_utf8_lossy(&ours.body).contains("a=sendonly"));
    script.hears(peer.response(&ours, 200, Some(audio("192.0.2.50:6000", "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    let held: Vec<_> = script.phone().all("call.held");
    assert!(matches!(held[..], [Kind::CallHeld { by: Side::Local, .. }]), "{held:?}");
    assert_eq!(script.world.calls(0)[0].state, "held");
}

#[test]
fn whoever_holds_a_reinvite_without_description_gets_everything() {
    // Held by the peer: the full list, both ways.
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    let held = script.reinvites(&mut peer, Some(audio(MEDIA, "RTP/AVP 8", &["a=sendonly"])), None);
    assert!(held.contains("a=recvonly"), "{held}");
    assert!(script.world.calls(0)[0].held_by_peer);
    let offer = script.reinvites(&mut peer, None, Some(audio(MEDIA, "RTP/AVP 0", &[])));
    for codec in ["opus/48000/2", "G722/8000", "PCMA/8000", "PCMU/8000", "a=sendrecv"] {
        assert!(offer.contains(codec), "{codec}: {offer}");
    }
    let version = |sdp: &str| sdp.split_whitespace().nth(3).and_then(|text| text.parse::<u64>().ok());
    assert_eq!(version(&offer), version(&held).map(|version| version + 1));
    script.millis(100);
    assert!(!script.world.calls(0)[0].held_by_peer);
    assert_eq!(script.world.calls(0)[0].codec.as_deref(), Some("PCMU/8000"), "the ACK's answer is obeyed");
    // Held by us: still the full list, and still held.
    script.world.tell(0, HOLD);
    let ours = script.says(Method::INVITE);
    script.hears(peer.response(&ours, 200, Some(audio(MEDIA, "RTP/AVP 0", &["a=recvonly"]))));
    script.says(Method::ACK);
    let answer = Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]));
    let offer = script.reinvites(&mut peer, None, answer);
    assert!(offer.contains("a=sendonly") && offer.contains("opus/48000/2"), "{offer}");
    assert_eq!(script.world.calls(0)[0].state, "held");
    // An ACK whose description is rubbish ends the call.
    let invite = peer.request(Method::INVITE, None);
    script.hears(invite.clone());
    script.replies(200);
    script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, Some("rubbish".into())));
    script.says(Method::BYE);
    script.seconds(1);
    assert_eq!(script.phone().all("call.ended").len(), 1);
}

#[test]
fn a_codec_changed_by_reinvite_is_spoken_and_understood() {
    let mut script = Script::new("codecs = [\"PCMU\", \"PCMA\"]", "");
    let (invite, mut peer) = script.calls();
    script.hears(peer.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 0", &[]))));
    script.says(Method::ACK);
    script.millis(500);
    assert_eq!(script.world.calls(0)[0].codec.as_deref(), Some("PCMU/8000"));
    let answer = script.reinvites(&mut peer, a_law(MEDIA), None);
    assert!(answer.contains("RTP/AVP 8\r\n") || answer.contains("RTP/AVP 8 "), "{answer}");
    let mut voice = Voice::new(MEDIA, 1);
    script.listen();
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75);
    let sent = script.voice_to(MEDIA);
    assert!(sent.len() > 100 && sent.iter().all(|packet| packet.bytes[1] & 0x7f == 8));
}

#[test]
fn refreshes_leave_the_media_alone() {
    let mut script = Script::new("", "");
    let (invite, mut peer) = script.calls();
    let sdp = a_law(MEDIA);
    let mut ok = peer.response(&invite, 200, sdp.clone());
    ok.fields.push("Session-Expires", "90;refresher=uas");
    script.hears(ok);
    script.says(Method::ACK);
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(2_000, &mut [&mut voice]);
    script.listen();
    voice.said.clear();
    for round in 0..3 {
        script.talk(20_000, &mut [&mut voice]);
        let (method, body) = if round == 1 { (Method::INVITE, sdp.clone()) } else { (Method::UPDATE, None) };
        let mut refresh = peer.request(method.clone(), body.clone());
        refresh.fields.push("Supported", "timer");
        refresh.fields.push("Session-Expires", "90;refresher=uac");
        script.hears(refresh.clone());
        let ok = script.replies(200);
        assert_eq!(ok.body.is_empty(), body.is_none(), "an UPDATE without description gets none");
        if method == Method::INVITE {
            script.hears(peer.numbered(Method::ACK, refresh.head.cseq.number, None));
        }
    }
    script.talk(2_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75, "{}", script.heard(&voice));
    // Nothing was begun anew: one stream, its numbers without a hole.
    let sent = script.voice_to(MEDIA);
    let numbers: Vec<u16> =
        sent.iter().map(|packet| u16::from_be_bytes([packet.bytes[2], packet.bytes[3]])).collect();
    assert!(numbers.len() > 3_000);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    assert!(sent.iter().all(|packet| packet.bytes[8..12] == sent[0].bytes[8..12]));
    // The refresher dies: our BYE 30 s before the interval's end, and the reason is told.
    script.talk(57_000, &mut [&mut voice]);
    script.is_silent();
    script.talk(4_000, &mut [&mut voice]);
    script.says(Method::BYE);
    let ended = script.phone().all("call.ended");
    let [Kind::CallEnded { cause, .. }] = ended[..] else { panic!("{ended:?}") };
    assert!(cause.text.as_deref().is_some_and(|text| text.contains("refreshed")), "{cause:?}");
}

#[test]
fn what_is_heard_before_the_answer() {
    let ring_back = Some(Tone::RingBack);
    // 183 with voice, then 180 without description: the PBX's sound stays, no tone of ours.
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    script.hears(peer.response(&invite, 183, a_law(MEDIA)));
    script.listen();
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(1_000, &mut [&mut voice]);
    script.hears(peer.response(&invite, 180, None));
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75);
    assert_eq!(tones(&script), []);

    // 180, then 183 with voice: our tone, then theirs.
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    script.hears(peer.response(&invite, 180, None));
    script.millis(500);
    assert_eq!(tones(&script), [ring_back]);
    script.hears(peer.response(&invite, 183, a_law(MEDIA)));
    script.listen();
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(3_000, &mut [&mut voice]);
    assert_eq!(tones(&script), [ring_back, None]);
    assert!(script.heard(&voice) > 0.75);

    // 183 with a description and nothing to hear: our tone after 250 ms; voice that comes late ends it.
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    script.hears(peer.response(&invite, 183, a_law(MEDIA)));
    script.millis(200);
    assert_eq!(tones(&script), []);
    script.millis(60);
    assert_eq!(tones(&script), [ring_back]);
    script.hears(peer.response(&invite, 180, None));
    script.seconds(2);
    assert_eq!(tones(&script), [ring_back]);
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(200, &mut [&mut voice]);
    assert_eq!(tones(&script), [ring_back, None]);

    // 183 without a description tells nothing to hear; 180 does.
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    script.hears(peer.response(&invite, 183, None));
    script.seconds(1);
    assert_eq!(tones(&script), []);
    script.hears(peer.response(&invite, 180, None));
    assert_eq!(tones(&script), [ring_back]);
}

#[test]
fn early_media_of_two_forks_and_the_answer_of_a_third() {
    let mut script = Script::new("srtp = \"optional\"\ncodecs = [\"PCMA\"]", "");
    let (invite, _) = script.calls();
    let offer = String::from_utf8_lossy(&invite.body).into_owned();
    let suite = offer.lines().find(|line| line.contains("AES_CM_128_HMAC_SHA1_80")).expect("a key");
    let suite = suite.split_once(" inline:").expect("a key").0;
    let key = |letter: &str| format!("{suite} inline:{}", letter.repeat(40));
    for (tag, letter, address) in [("one", "a", "198.51.100.1:20002"), ("two", "b", "198.51.100.1:20004")] {
        let peer = Peer::answering(&invite, tag);
        let sdp = audio(address, "RTP/AVP 8", &[&key(letter)]);
        script.hears(peer.response(&invite, 183, Some(sdp)));
        script.millis(300);
        assert!(!script.voice_to(address).is_empty(), "{tag}");
    }
    let third = Peer::answering(&invite, "three");
    let sdp = audio(MEDIA, "RTP/AVP 8", &[&key("c")]);
    script.hears(third.response(&invite, 200, Some(sdp.clone())));
    assert_eq!(script.says(Method::ACK).head.to_tag(), Some("three"));
    script.listen();
    script.seconds(1);
    assert!(
        script.voice_to(MEDIA).len() > 40 && script.rtp.iter().all(|packet| packet.to.ip() == at(MEDIA).ip())
    );
    assert_eq!(script.voice_to("198.51.100.1:20004").len(), 0);
    // A second phone answers too: it is thanked and hung up, and nobody hears of it.
    let late = Peer::answering(&invite, "two");
    script.hears(late.response(&invite, 200, Some(sdp)));
    assert_eq!(script.says(Method::ACK).head.to_tag(), Some("two"));
    assert_eq!(script.says(Method::BYE).head.to_tag(), Some("two"));
    script.seconds(1);
    let counts =
        ["call.new", "call.early", "call.answered", "call.ended"].map(|name| script.phone().all(name).len());
    assert_eq!(counts, [1, 1, 1, 0]);
    assert!(script.world.calls(0)[0].srtp);
}

/// The result of the only call, and whether it counts as missed; it has ended once.
fn outcome(script: &Script) -> (CallResult, bool) {
    let (ended, closed) = (script.phone().all("call.ended"), script.phone().all("call.closed"));
    match (&ended[..], &closed[..]) {
        ([Kind::CallEnded { result, .. }], [Kind::CallClosed { missed, legs: 1, .. }]) => (*result, *missed),
        other => panic!("one end of one leg, not {other:?}"),
    }
}

#[test]
fn a_fork_that_was_lost_is_no_missed_call() {
    for (reason, result, missed) in [
        ("SIP;cause=200;text=\"Call completed elsewhere\"", CallResult::AnsweredElsewhere, false),
        ("Q.850;cause=26", CallResult::AnsweredElsewhere, false),
        ("", CallResult::Cancelled, true),
    ] {
        let mut script = Script::new("", "");
        let mut peer = Peer::calling("<sip:2000@pbx.example>");
        let invite = peer.request(Method::INVITE, a_law(MEDIA));
        script.hears(invite.clone());
        script.replies(180);
        script.hears(peer.cancel(&invite, reason));
        script.replies(200);
        script.replies(487);
        script.seconds(1);
        assert_eq!(outcome(&script), (result, missed), "{reason}");
    }
    // The CANCEL crosses our 200: the call stands.
    let mut script = Script::new("", "");
    let mut peer = Peer::calling("<sip:2000@pbx.example>");
    let invite = peer.request(Method::INVITE, a_law(MEDIA));
    script.hears(invite.clone());
    script.replies(180);
    script.world.tell(0, ANSWER);
    script.hears(peer.cancel(&invite, "SIP;cause=200"));
    let ok = script.replies(200);
    peer.takes(&ok);
    script.replies(200);
    script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, None));
    script.seconds(1);
    assert_eq!(script.world.calls(0)[0].state, "active");
    // A normal end with an unusual code is a normal end.
    let mut bye = peer.request(Method::BYE, None);
    bye.fields.push("Reason", "SIP;cause=603;text=\"Decline\", Q.850;cause=21");
    script.hears(bye);
    script.replies(200);
    script.seconds(1);
    assert_eq!(outcome(&script), (CallResult::Answered, false));
}

#[test]
fn whatever_ends_a_cancelled_call_ends_it_once() {
    for status in [487, 302, 603, 486, 408] {
        let mut script = Script::new("", "");
        let (invite, peer) = script.calls();
        script.hears(peer.response(&invite, 180, None));
        script.world.tell(0, HANG_UP);
        let cancel = script.says(Method::CANCEL);
        script.hears(tipring::sip::message::Response::to(&cancel, 200));
        script.seconds(10);
        script.is_silent();
        let mut last = peer.response(&invite, status, None);
        last.fields.push("Contact", "<sip:3000@pbx.example>");
        script.hears(last);
        script.says(Method::ACK);
        script.seconds(40);
        script.is_silent();
        assert_eq!(outcome(&script), (CallResult::Cancelled, false), "{status}");
    }
}

#[test]
fn whatever_the_pbx_makes_of_our_address_reaches_us() {
    let uris = [
        "sip:1001@203.0.113.101:49152;ob;x-ast-orig-host=192.0.2.11:5060",
        "sip:1001@203.0.113.101:49152;alias=203.0.113.1~1024~1",
        "sip:1001@192.0.2.11;transport=tcp",
        "sip:192.0.2.11",
    ];
    for situation in ["idle", "in a call", "do not disturb"] {
        for target in uris {
            let mut script = Script::new("", "");
            if situation == "in a call" {
                script.answered();
            }
            let dnd = situation == "do not disturb";
            script.world.tell(0, Command::DoNotDisturb { line: None, on: dnd });
            let mut peer = Peer::calling("<sip:2000@pbx.example>");
            peer.target = uri(target);
            script.hears(peer.request(Method::OPTIONS, None));
            let ok = script.replies(200);
            assert!(ok.fields.has_token("Allow", "INVITE"), "{situation} {target}");
            let mut peer = Peer::calling("<sip:3000@pbx.example>");
            peer.target = uri(target);
            script.hears(peer.request(Method::INVITE, a_law(MEDIA)));
            script.replies(if dnd { 486 } else { 180 });
        }
    }
}

#[test]
fn a_hold_without_an_address_is_silent_and_ends_at_once() {
    let mut script = Script::new("", "[rtp]\nsilence = \"5s\"\ntimeout = \"20s\"\n");
    let mut peer = script.answered();
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(2_000, &mut [&mut voice]);
    let nowhere = audio("0.0.0.0:20000", "RTP/AVP 8", &["a=inactive"]);
    let answer = script.reinvites(&mut peer, Some(nowhere), None);
    assert!(answer.contains("a=inactive"), "{answer}");
    script.listen();
    script.seconds(60);
    assert_eq!(script.rtp.iter().filter(|packet| packet.bytes[1] & 0x7f == 8).count(), 0);
    assert_eq!(script.world.calls(0).len(), 1, "nobody is missed on hold");
    script.reinvites(&mut peer, a_law(MEDIA), None);
    script.listen();
    voice.said.clear();
    let back = script.now_ms();
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75);
    assert!(script.voice_to(MEDIA)[0].at_us / 1000 - back <= 100);
    let told: Vec<&str> = script
        .phone()
        .told()
        .into_iter()
        .filter(|name| name.starts_with("call.held") || name.starts_with("call.res"))
        .collect();
    assert_eq!(told, ["call.held", "call.resumed"]);
    script.world.tell(0, HOLD);
    let ours = script.says(Method::INVITE);
    script.hears(peer.response(&ours, 200, Some(audio("0.0.0.0:20000", "RTP/AVP 8", &["a=inactive"]))));
    script.says(Method::ACK);
    script.world.tell(0, RESUME);
    let ours = script.says(Method::INVITE);
    script.hears(peer.response(&ours, 200, a_law(MEDIA)));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "active");
}

#[test]
fn a_pbx_that_vanishes_does_not_leave_the_phone_ringing_for_ever() {
    let mut script = Script::new("max_calls = 1", "");
    let mut peer = Peer::calling("<sip:2000@pbx.example>");
    script.hears(peer.request(Method::INVITE, a_law(MEDIA)));
    script.replies(180);
    script.seconds(290);
    assert_eq!(script.world.calls(0)[0].state, "ringing");
    // Every minute it is said again that it rings.
    for _ in 0..4 {
        script.replies(180);
    }
    script.is_silent();
    script.seconds(70);
    script.sip.retain(|(_, message)| !matches!(message, Message::Response(it) if it.status == 180));
    script.replies(480);
    assert_eq!(outcome(&script), (CallResult::NoAnswer, true));
    assert_eq!(script.phone().tones.last(), Some(&(Sounder::Ringer, None)));
    // The next one finds the line free.
    let mut peer = Peer::calling("<sip:3000@pbx.example>");
    script.sip.clear();
    script.hears(peer.request(Method::INVITE, a_law(MEDIA)));
    assert!(
        script.sip.iter().any(|(_, message)| message.head().from_tag() == Some("bob")
            && message.head().call_id.contains("3000"))
    );
    assert_eq!(script.world.calls(0)[0].number, "3000");
}

#[test]
fn whoever_changes_the_mind_during_a_hold_gets_what_was_wanted_last() {
    let mut script = Script::new("", "");
    let peer = script.answered();
    script.millis(500);
    script.world.tell(0, HOLD);
    script.world.tell(0, RESUME);
    let first = script.says(Method::INVITE);
    assert!(String::from_utf8_lossy(&first.body).contains("a=sendonly"));
    script.hears(peer.response(&first, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    let second = script.awaits(Method::INVITE, 1_000);
    assert!(String::from_utf8_lossy(&second.body).contains("a=sendrecv"));
    script.hears(peer.response(&second, 200, a_law(MEDIA)));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "active");
    script.listen();
    let mut voice = Voice::new(MEDIA, 1);
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75 && script.voice_to(MEDIA).len() > 140);
    // A refused hold is none.
    script.world.tell(0, HOLD);
    let refused = script.says(Method::INVITE);
    script.hears(peer.response(&refused, 488, None));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "active");
    script.listen();
    script.talk(1_000, &mut [&mut voice]);
    assert!(script.voice_to(MEDIA).len() > 40);
}

#[test]
fn who_was_to_wait_does_not_come_back_by_a_refusal_of_the_hold() {
    let mut script = Script::new("max_calls = 2", "");
    let first = script.answered();
    let mut second = Peer::calling("<sip:3000@pbx.example>");
    script.hears(second.request(Method::INVITE, a_law("198.51.100.1:30000")));
    script.replies(180);
    script.world.tell(0, ANSWER);
    let mut said = [script.next_message(), script.next_message()];
    said.sort_by_key(|message| matches!(message, Message::Response(_)));
    let [Message::Request(hold), Message::Response(ok)] = said else { panic!("{said:?}") };
    assert_eq!((&hold.method, ok.status), (&Method::INVITE, 200));
    second.takes(&ok);
    script.hears(second.numbered(Method::ACK, 101, None));
    script.hears(first.response(&hold, 488, None));
    script.says(Method::ACK);
    let states = |script: &Script| script.world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>();
    assert_eq!(states(&script), ["held", "active"]);
    let held = script.phone().all("call.held");
    assert!(matches!(held.as_slice(), [Kind::CallHeld { by: Side::Local, .. }]), "{held:?}");
    script.listen();
    let mut waits = Voice::new(MEDIA, 1);
    script.talk(2_000, &mut [&mut waits]);
    assert!(script.heard(&waits) < 0.2, "{}", script.heard(&waits));
    let loud = |packet: &&Datagram| packet.bytes.iter().skip(12).any(|byte| !matches!(byte, 0xd5 | 0x55));
    assert!(!script.voice_to(MEDIA).iter().any(loud), "what is said is for the other one");
    assert!(script.voice_to("198.51.100.1:30000").iter().any(loud));
    // Taken back it is a call again, also where that is refused, too.
    let one = script.world.calls(0)[0].id.clone();
    script.world.tell(0, Command::Resume { call: Some(one) });
    for asked in [script.says(Method::INVITE), script.says(Method::INVITE)] {
        let resumes = asked.head.call_id == first.call_id;
        let (peer, status, sdp) = if resumes {
            (&first, 488, None)
        } else {
            (&second, 200, Some(audio("198.51.100.1:30000", "RTP/AVP 8", &["a=recvonly"])))
        };
        script.hears(peer.response(&asked, status, sdp));
        script.says(Method::ACK);
    }
    script.is_silent();
    assert_eq!(states(&script), ["active", "held"]);
    waits.said.clear();
    assert_eq!(script.phone().all("call.resumed").len(), 1);
    script.listen();
    script.talk(2_000, &mut [&mut waits]);
    assert!(script.heard(&waits) > 0.7, "{}", script.heard(&waits));
    assert!(script.voice_to(MEDIA).iter().any(loud));
}

#[test]
fn calls_after_a_reload_have_ports_as_it_says_and_calls_before_it_keep_theirs() {
    let mut script = Script::new("max_calls = 2", "");
    let before = script.phone().open_ports();
    let mut peer = script.answered();
    let mut declined = Peer::calling("<sip:3000@pbx.example>");
    declined.local.set_tag("carol");
    let asked = declined.request(Method::INVITE, a_law("198.51.100.1:30000"));
    script.hears(asked.clone());
    script.replies(180);
    let new = config("1001", "register = false\nmax_calls = 2", "[rtp]\nports = \"20000-20999\"\n");
    let new = Input::Configured { file: "world.toml".into(), config: Box::new(new), warnings: 0 };
    script.world.input(0, new);
    script.millis(100);
    let ringing = script.world.calls(0)[1].id.clone();
    script.world.tell(0, Command::HangUp { call: Some(ringing) });
    let refused = script.replies(603);
    declined.takes(&refused);
    let mut ack = declined.numbered(Method::ACK, 101, None);
    ack.head.via.clone_from(&asked.head.via);
    script.hears(ack);
    let mut voice = Voice::new(MEDIA, 1);
    script.listen();
    script.talk(2_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.7, "{}", script.heard(&voice));
    let answer = script.reinvites(&mut peer, a_law(MEDIA), None);
    script.sip.clear();
    script.world.tell(0, call("3000"));
    let said = [script.next_message(), script.next_message()];
    let is_new = |request: &Request| request.head.to.tag().is_none();
    let invite = said.into_iter().find_map(|message| match message {
        Message::Request(request) => Some(request).filter(is_new),
        Message::Response(_) => None,
    });
    let invite = invite.expect("an INVITE");
    let port = |sdp: &[u8]| -> u16 {
        let sdp = String::from_utf8_lossy(sdp);
        let media = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("audio");
        media.split(' ').next().and_then(|port| port.parse().ok()).expect("a port")
    };
    assert!(!before.contains(&port(&invite.body)), "{}", port(&invite.body));
    assert!(before.contains(&port(answer.as_bytes())));
    let left = script.phone().open_ports().into_iter().filter(|port| before.contains(port)).count();
    assert_eq!(left, 1, "only the call's");
}

#[test]
fn a_pbx_that_vanishes_while_it_rings_there_is_given_up() {
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    script.hears(peer.response(&invite, 180, None));
    // One that goes on saying so is believed.
    script.seconds(200);
    script.hears(peer.response(&invite, 180, None));
    script.seconds(200);
    assert_eq!(script.world.calls(0)[0].state, "ringing");
    script.is_silent();
    script.seconds(110);
    script.says(Method::CANCEL);
    script.seconds(40);
    assert!(script.world.calls(0).is_empty());
    assert_eq!(outcome(&script), (CallResult::NoAnswer, false));
    // Early media of a queue is heard for as long as there is some.
    script.sip.clear();
    let (invite, peer) = script.calls();
    script.port = 10_004;
    script.hears(peer.response(&invite, 183, a_law(MEDIA)));
    let mut queue = Voice::new(MEDIA, 1);
    script.talk(400_000, &mut [&mut queue]);
    assert_eq!(script.world.calls(0)[0].state, "early");
    script.is_silent();
}

#[test]
fn a_call_that_is_on_hold_from_its_answer_on_is_not_ended_for_its_silence() {
    for held in [
        audio("0.0.0.0:20000", "RTP/AVP 8", &[]),
        audio(MEDIA, "RTP/AVP 8", &["a=sendonly"]),
        audio(MEDIA, "RTP/AVP 8", &["a=inactive"]),
    ] {
        for calls in [false, true] {
            let mut script = Script::new("", "");
            let mut peer = if calls {
                let mut peer = Peer::calling("<sip:2000@pbx.example>");
                script.hears(peer.request(Method::INVITE, Some(held.clone())));
                script.replies(180);
                script.world.tell(0, ANSWER);
                let ok = script.replies(200);
                peer.takes(&ok);
                script.hears(peer.numbered(Method::ACK, 101, None));
                peer
            } else {
                let (invite, peer) = script.calls();
                script.hears(peer.response(&invite, 200, Some(held.clone())));
                script.says(Method::ACK);
                peer
            };
            script.seconds(100);
            assert_eq!(script.world.calls(0)[0].state, "active", "{held}");
            let told = script.phone().all("call.held");
            assert!(matches!(told.as_slice(), [Kind::CallHeld { by: Side::Remote, .. }]), "{told:?}");
            script.sip.clear();
            script.reinvites(&mut peer, a_law(MEDIA), None);
            assert_eq!(script.phone().all("call.resumed").len(), 1);
            script.world.tell(0, HANG_UP);
            let bye = script.says(Method::BYE);
            script.hears(peer.response(&bye, 200, None));
            script.seconds(1);
            let ended = script.phone().all("call.ended");
            let [Kind::CallEnded { hold_us, .. }] = ended.as_slice() else { panic!("{ended:?}") };
            assert!((99_000_000..102_000_000).contains(hold_us), "{hold_us}");
        }
    }
}

#[test]
fn a_hold_that_waits_behind_a_refused_offer_is_not_refused_with_it() {
    let mut script = Script::new("", "");
    let peer = script.answered();
    script.world.tell(0, HOLD);
    let hold = script.says(Method::INVITE);
    script.hears(peer.response(&hold, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    script.world.tell(0, RESUME);
    let resume = script.says(Method::INVITE);
    script.world.tell(0, HOLD);
    script.hears(peer.response(&resume, 500, None));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "held", "what was wanted last");
    let again = script.awaits(Method::INVITE, 5_000);
    assert!(String::from_utf8_lossy(&again.body).contains("a=sendonly"));
    script.hears(peer.response(&again, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "held");
}

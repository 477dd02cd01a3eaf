//! What a PBX and a whole phone may agree on: late offers, holds of every form, packet lengths, keys, IPv6, and what is
//! recorded of the call.

use tipring::events::{Kind, Side};
use tipring::phone::command::{Command, RecordAction};
use tipring::rtp::packet::Packet;
use tipring::rtp::srtp::{Key, Keys, Profile, Unprotector};
use tipring::sip::method::Method;

use crate::script::{MEDIA, MEDIA_V6, PBX_V6, Peer, Script, Voice, at, audio, uri};
use crate::world::{ANSWER, HANG_UP};

fn a_law() -> Option<String> {
    Some(audio(MEDIA, "RTP/AVP 8", &[]))
}

#[test]
fn a_call_without_offer_gets_ours_and_is_heard() {
    let mut script = Script::new("", "");
    let mut peer = Peer::calling("<sip:2000@pbx.example>");
    let invite = peer.request(Method::INVITE, None);
    script.hears(invite.clone());
    assert!(script.replies(180).body.is_empty());
    script.world.tell(0, ANSWER);
    let ok = script.replies(200);
    let offer = String::from_utf8_lossy(&ok.body).into_owned();
    for part in ["opus/48000/2", "PCMA/8000", "telephone-event/8000", "a=rtcp-mux"] {
        assert!(offer.contains(part), "{part}: {offer}");
    }
    peer.takes(&ok);
    script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, a_law()));
    let mut voice = Voice::new(MEDIA, 1);
    script.listen();
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75);
    assert!(script.voice_to(MEDIA).len() > 140);
    assert!(script.phone().has("call.media"));
}

#[test]
fn a_call_without_offer_gets_ours_while_it_rings_where_that_is_acknowledged() {
    for (line, field) in [("", "Require"), ("prack = \"required\"", "Supported")] {
        let mut script = Script::new(line, "");
        let mut peer = Peer::calling("<sip:2000@pbx.example>");
        let mut invite = peer.request(Method::INVITE, None);
        invite.fields.push(field, "100rel");
        script.hears(invite.clone());
        let ringing = script.replies(180);
        let offer = String::from_utf8_lossy(&ringing.body).into_owned();
        assert!(offer.contains("PCMA/8000"), "{field}: {offer}");
        peer.takes(&ringing);
        let mut prack = peer.request(Method::PRACK, a_law());
        let rseq = ringing.fields.text("RSeq").expect("a number").into_owned();
        prack.fields.push("RAck", format!("{rseq} {}", invite.head.cseq));
        script.hears(prack);
        script.replies(200);
        script.seconds(1);
        assert!(script.voice_to(MEDIA).is_empty(), "nobody has answered yet");
        script.world.tell(0, ANSWER);
        assert!(script.replies(200).body.is_empty());
        script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, None));
        let mut voice = Voice::new(MEDIA, 1);
        script.listen();
        script.talk(3_000, &mut [&mut voice]);
        assert!(script.heard(&voice) > 0.75);
        assert!(script.voice_to(MEDIA).len() > 140);
        // What is offered next knows what was agreed on.
        script.world.tell(0, Command::Hold { call: None });
        let hold = script.says(Method::INVITE);
        assert!(String::from_utf8_lossy(&hold.body).contains("a=sendonly"));
    }
}

#[test]
fn hold_has_many_forms_and_all_of_them_end() {
    // What they say, whether it is a hold, whether we still speak, and what we answer.
    let forms: [(&str, &[&str], bool, bool, &str); 6] = [
        (MEDIA, &["a=sendonly"], true, false, "a=recvonly"),
        (MEDIA, &["a=inactive"], true, false, "a=inactive"),
        ("0.0.0.0:20000", &[], true, false, "a=recvonly"),
        ("0.0.0.0:20000", &["a=sendonly"], true, false, "a=recvonly"),
        ("0.0.0.0:20000", &["a=inactive"], true, false, "a=inactive"),
        (MEDIA, &["a=recvonly"], false, true, "a=sendonly"),
    ];
    for by_update in [false, true] {
        for (address, lines, held, speaks, answered) in forms {
            let mut script = Script::new("", "");
            let mut peer = script.answered();
            script.millis(500);
            let offer = audio(address, "RTP/AVP 8", lines);
            let mut change = |script: &mut Script, offer: String| {
                if !by_update {
                    return script.reinvites(&mut peer, Some(offer), None);
                }
                script.hears(peer.request(Method::UPDATE, Some(offer)));
                String::from_utf8(script.replies(200).body).expect("text")
            };
            let answer = change(&mut script, offer);
            assert!(answer.contains(answered), "{address} {lines:?}: {answer}");
            script.millis(100);
            script.listen();
            script.seconds(2);
            assert_eq!(script.world.calls(0)[0].held_by_peer, held, "{address} {lines:?}");
            assert_eq!(script.voice_to(MEDIA).len() > 90, speaks, "{address} {lines:?}");
            change(&mut script, audio(MEDIA, "RTP/AVP 8", &[]));
            script.listen();
            script.seconds(1);
            assert!(script.voice_to(MEDIA).len() > 40, "{address} {lines:?}");
            assert!(!script.world.calls(0)[0].held_by_peer);
            let told = script.phone().all("call.resumed");
            let all = told.iter().all(|kind| matches!(kind, Kind::CallResumed { by: Side::Remote, .. }));
            assert!(all && told.len() == usize::from(held), "{told:?}");
        }
    }
}

#[test]
fn packets_have_the_length_that_each_side_asks_for() {
    for (theirs, ours) in [(10, 60), (60, 10), (30, 20), (20, 40)] {
        let mut script = Script::new("codecs = [\"PCMA\"]", &format!("[rtp]\nptime = \"{ours}ms\"\n"));
        let (invite, peer) = script.calls();
        assert!(String::from_utf8_lossy(&invite.body).contains(&format!("a=ptime:{ours}\r\n")));
        let sdp = audio(MEDIA, "RTP/AVP 8", &[&format!("a=ptime:{theirs}")]);
        script.hears(peer.response(&invite, 200, Some(sdp)));
        script.says(Method::ACK);
        script.seconds(1);
        let sent = script.voice_to(MEDIA);
        assert!(
            !sent.is_empty() && sent.iter().all(|packet| packet.bytes.len() == 12 + theirs * 8),
            "{theirs}"
        );
    }
}

#[test]
fn every_suite_of_keys_carries_voice_that_its_key_opens() {
    for (suite, profile, key_length) in [
        ("AES_CM_128_HMAC_SHA1_80", Profile::AesCm128HmacSha1_80, 30),
        ("AES_CM_128_HMAC_SHA1_32", Profile::AesCm128HmacSha1_32, 30),
        ("AEAD_AES_128_GCM", Profile::AeadAes128Gcm, 28),
    ] {
        let mut script = Script::new("srtp = \"required\"\ncodecs = [\"PCMA\"]", "");
        let (invite, peer) = script.calls();
        let offer = String::from_utf8_lossy(&invite.body).into_owned();
        let line =
            offer.lines().find(|line| line.contains(suite)).unwrap_or_else(|| panic!("{suite}: {offer}"));
        let (head, ours) = line.split_once(" inline:").expect("a key");
        let ours = ours.split('|').next().expect("a key");
        // 40 letters are 30 octets; those of GCM are two less.
        let theirs = if key_length == 30 { "A".repeat(40) } else { "A".repeat(38) + "==" };
        let sdp = audio(MEDIA, "RTP/SAVP 8", &[&format!("{head} inline:{theirs}")]);
        script.hears(peer.response(&invite, 200, Some(sdp)));
        script.says(Method::ACK);
        script.seconds(1);
        let sent = script.voice_to(MEDIA);
        assert!(sent.len() > 40, "{suite}");
        let ours = base64(ours);
        assert_eq!(ours.len(), key_length);
        let receive = Keys::from_inline(profile, &ours).expect("our key");
        let mut opener = Unprotector::new(receive).expect("a key");
        let mut packet = sent[5].bytes.clone();
        assert_eq!(opener.unprotect(&mut packet), Ok((12 + 160, Key::Present)), "{suite}");
        assert!(script.world.calls(0)[0].srtp);
        assert!(Packet::parse(&sent[5].bytes).is_ok_and(|packet| packet.payload.len() > 160), "it is sealed");
        script.world.tell(0, HANG_UP);
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bits = 0u32;
    let mut octets = Vec::new();
    for (index, c) in text.bytes().take_while(|c| *c != b'=').enumerate() {
        bits = bits << 6 | u32::from(value(c));
        if index % 4 != 0 {
            octets.push((bits >> (6 - 2 * (index % 4))) as u8);
        }
    }
    octets
}

#[test]
fn a_phone_with_ipv6_only_is_a_phone() {
    let mut script = Script::ipv6("codecs = [\"PCMA\"]");
    let (invite, mut peer) = script.calls();
    assert_eq!(invite.head.top_via().expect("a Via").sent_by().to_string(), "[2001:db8::11]:5060");
    assert_eq!(invite.fields.text("Contact").as_deref(), Some("<sip:1001@[2001:db8::11]:5060>"));
    assert!(String::from_utf8_lossy(&invite.body).contains("c=IN IP6 2001:db8::11\r\n"));
    peer.contact = format!("<sip:bob@{PBX_V6}>");
    script.hears(peer.response(&invite, 200, Some(audio(MEDIA_V6, "RTP/AVP 8", &[]))));
    assert_eq!(script.says(Method::ACK).uri.to_string(), format!("sip:bob@{PBX_V6}"));
    let mut voice = Voice::new(MEDIA_V6, 1);
    script.listen();
    script.talk(3_000, &mut [&mut voice]);
    assert!(script.heard(&voice) > 0.75);
    assert!(script.voice_to(MEDIA_V6).len() > 140);
    // Held in the words of IPv6 (RFC 4566 knows no address for it but the unspecified one).
    let held = script.reinvites(&mut peer, Some(audio("[::]:20000", "RTP/AVP 8", &["a=inactive"])), None);
    assert!(held.contains("a=inactive") && script.world.calls(0)[0].held_by_peer, "{held}");
    script.reinvites(&mut peer, Some(audio(MEDIA_V6, "RTP/AVP 8", &[])), None);
    script.world.tell(0, HANG_UP);
    script.says(Method::BYE);
    // A description in a family that this phone does not have is refused.
    let mut script = Script::ipv6("");
    let mut peer = Peer::calling("<sip:2000@pbx.example>");
    peer.target = uri("sip:1001@[2001:db8::11]:5060");
    peer.contact = format!("<sip:bob@{PBX_V6}>");
    script.hears(peer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
    script.replies(488);
    assert_eq!(at(PBX_V6).port(), 5060);
}

#[test]
fn a_recording_begins_pauses_and_ends_as_it_is_told() {
    let mut script = Script::new("", "");
    script.answered();
    let record = |action| Command::Record { call: None, action };
    assert_eq!(script.world.refusal(0, record(RecordAction::Stop)).code, "not_recording");
    script.world.tell(0, record(RecordAction::Start));
    assert_eq!(script.world.calls(0)[0].recording, "on");
    script.world.tell(0, record(RecordAction::Start));
    script.world.tell(0, record(RecordAction::Pause));
    assert_eq!(script.world.calls(0)[0].recording, "paused");
    script.world.tell(0, record(RecordAction::Resume));
    script.world.tell(0, record(RecordAction::Stop));
    assert_eq!(script.world.calls(0)[0].recording, "off");
    let started = script.phone().all("recording.started");
    let [Kind::RecordingStarted { recording_id, .. }] = started[..] else { panic!("{started:?}") };
    let recording_id = recording_id.clone();
    let paused: Vec<bool> = script
        .phone()
        .all("recording.paused")
        .iter()
        .map(|kind| matches!(kind, Kind::RecordingPaused { paused: true, .. }))
        .collect();
    assert_eq!(paused, [true, false]);
    script.world.tell(0, HANG_UP);
    script.seconds(1);
    let ended = script.phone().all("call.ended");
    assert!(matches!(ended[..], [Kind::CallEnded { recording_id: Some(id), .. }] if *id == recording_id));
    // And by itself, where the configuration says so.
    let mut script = Script::new("", "[recording]\nenabled = true\n");
    script.answered();
    assert_eq!(script.world.calls(0)[0].recording, "on");
}

#[test]
fn an_update_before_the_answer_moves_the_voice_for_good() {
    let elsewhere = "198.51.100.77:20020";
    for with_description in [false, true] {
        let mut script = Script::new("codecs = [\"PCMA\"]", "");
        let (invite, mut peer) = script.calls();
        let mut early = peer.response(&invite, 183, a_law());
        early.fields.push("Require", "100rel");
        early.fields.push("RSeq", "1");
        script.hears(early);
        let prack = script.says(Method::PRACK);
        script.hears(peer.response(&prack, 200, None));
        script.millis(300);
        assert!(!script.voice_to(MEDIA).is_empty());
        script.hears(peer.request(Method::UPDATE, Some(audio(elsewhere, "RTP/AVP 8", &[]))));
        assert!(!script.replies(200).body.is_empty());
        script.listen();
        script.millis(300);
        assert!(script.voice_to(elsewhere).len() > 10 && script.voice_to(MEDIA).is_empty(), "early");
        let sdp = with_description.then(|| audio(elsewhere, "RTP/AVP 8", &[]));
        script.hears(peer.response(&invite, 200, sdp));
        script.says(Method::ACK);
        script.listen();
        script.millis(200);
        assert!(!script.voice_to(elsewhere).is_empty() && script.voice_to(MEDIA).is_empty(), "at the answer");
        let mut voice = Voice::new(elsewhere, 1);
        script.talk(3_000, &mut [&mut voice]);
        assert!(script.voice_to(elsewhere).len() > 140 && script.voice_to(MEDIA).is_empty(), "answered");
        assert!(script.heard(&voice) > 0.75);
        // What is offered next knows what was agreed on last.
        script.world.tell(0, Command::Hold { call: None });
        let hold = script.says(Method::INVITE);
        assert!(String::from_utf8_lossy(&hold.body).contains("a=sendonly"));
        script.hears(peer.response(&hold, 200, Some(audio(elsewhere, "RTP/AVP 8", &["a=recvonly"]))));
        script.says(Method::ACK);
        assert_eq!(script.world.calls(0)[0].state, "held");
    }
}

#[test]
fn a_challenge_inside_a_call_is_answered() {
    let challenge = "Digest realm=\"pbx.example\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
    let mut script = Script::new("", "");
    let peer = script.answered();
    script.world.tell(0, Command::Hold { call: None });
    let challenged = |script: &mut Script, method: Method| {
        let request = script.says(method.clone());
        let mut refusal = peer.response(&request, 407, None);
        refusal.fields.push("Proxy-Authenticate", challenge);
        script.hears(refusal);
        if method == Method::INVITE {
            script.says(Method::ACK);
        }
        let again = script.says(method);
        assert!(again.fields.text("Proxy-Authorization").is_some_and(|text| text.contains("n1")));
        assert_eq!(again.head.cseq.number, request.head.cseq.number + 1);
        again
    };
    let hold = challenged(&mut script, Method::INVITE);
    script.hears(peer.response(&hold, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    assert_eq!(script.world.calls(0)[0].state, "held");
    script.world.tell(0, HANG_UP);
    let bye = challenged(&mut script, Method::BYE);
    script.hears(peer.response(&bye, 200, None));
    script.seconds(40);
    script.is_silent();
    assert_eq!(script.phone().all("call.ended").len(), 1);
}

#[test]
fn reports_go_out_while_the_call_lasts_and_a_goodbye_at_its_end() {
    for mux in [false, true] {
        let mut script = Script::new("codecs = [\"PCMA\"]", "");
        let (invite, peer) = script.calls();
        let lines: &[&str] = if mux { &["a=rtcp-mux"] } else { &["a=rtcp:20055"] };
        script.hears(peer.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 8", lines))));
        script.says(Method::ACK);
        let mut voice = Voice::new(MEDIA, 1);
        script.talk(21_000, &mut [&mut voice]);
        let told = script.phone().all("call.quality");
        assert_eq!(told.len(), 4, "one in 5 s");
        for kind in told {
            let Kind::CallQuality { quality, .. } = kind else { unreachable!() };
            assert_eq!((quality.mos_scale.as_deref(), quality.codec.as_str()), (Some("G.107"), "PCMA"));
            assert!(quality.mos.is_some_and(|mos| mos > 4.0), "{quality:?}");
        }
        script.world.tell(0, HANG_UP);
        script.seconds(1);
        let to = at(if mux { MEDIA } else { "198.51.100.1:20055" });
        let reports: Vec<&[u8]> = script
            .rtp
            .iter()
            .filter(|packet| packet.to == to && (200..=207).contains(&packet.bytes[1]))
            .map(|packet| packet.bytes.as_slice())
            .collect();
        // Each packet of a compound: its kind.
        let kinds = |bytes: &[u8]| {
            let (mut at, mut kinds) = (0, Vec::new());
            while let Some([_, kind, high, low]) = bytes.get(at..at + 4) {
                kinds.push(*kind);
                at += 4 * (1 + usize::from(u16::from_be_bytes([*high, *low])));
            }
            kinds
        };
        let (last, before) = reports.split_last().expect("reports");
        assert!(
            before.len() >= 2 && before.iter().all(|report| kinds(report).starts_with(&[200, 202])),
            "{mux}"
        );
        assert!(kinds(last).contains(&203), "{mux}: {:?}", kinds(last));
    }
}

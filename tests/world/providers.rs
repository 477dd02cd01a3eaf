//! The manners of providers and PBXs, towards one whole phone: who calls, by which way, with which keys.

use tipring::events::{CallResult, Kind};
use tipring::phone::command::Command;
use tipring::sip::message::Request;
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, audio};
use crate::world::{ANSWER, HANG_UP};

fn a_law() -> Option<String> {
    Some(audio(MEDIA, "RTP/AVP 8", &[]))
}

fn body(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

/// Who calls, as the phone shows it: number and name.
fn shown(from: &str, fields: &[(&str, &str)]) -> (String, Option<String>) {
    let mut script = Script::new("", "");
    let mut peer = Peer::calling(from);
    let mut invite = peer.request(Method::INVITE, a_law());
    for (name, value) in fields {
        invite.fields.push(name, *value);
    }
    script.hears(invite);
    script.replies(180);
    let call = &script.world.calls(0)[0];
    (call.number.clone(), call.name.clone())
}

#[test]
fn who_calls_is_found_wherever_the_provider_puts_it() {
    let number = |number: &str, name: Option<&str>| (number.to_owned(), name.map(str::to_owned));
    assert_eq!(shown("<sip:+4930123456@provider.example;user=phone>", &[]), number("+4930123456", None));
    assert_eq!(shown("<sip:+4930123456;phone-context=x@provider.example;user=phone>", &[]).0, "+4930123456");
    assert_eq!(
        shown("<sip:trunk@pbx.example>", &[("P-Asserted-Identity", "\"Anna\" <tel:+49-30-123456>")]),
        number("+49-30-123456", Some("Anna"))
    );
    let both = [("P-Asserted-Identity", "\"Anna\" <sip:2001@pbx.example>, <tel:+4930123456>")];
    assert_eq!(shown("<sip:trunk@pbx.example>", &both), number("2001", Some("Anna")));
    let remote_party = [("Remote-Party-ID", "\"Anna\" <sip:2001@pbx.example>;party=calling;privacy=off")];
    assert_eq!(shown("<sip:trunk@pbx.example>", &remote_party), number("2001", Some("Anna")));
    // The number is in the display name only.
    assert_eq!(shown("\"+4930123456\" <sip:trunk@pbx.example>", &[]), number("+4930123456", None));
    assert_eq!(shown("\"030 123-456\" <sip:trunk@pbx.example>", &[]), number("030 123-456", None));
    assert_eq!(shown("\"Reception 2\" <sip:trunk@pbx.example>", &[]), number("trunk", Some("Reception 2")));
    assert_eq!(shown("\"1002\" <sip:1001@pbx.example>", &[]), number("1001", Some("1002")));
    let hidden = ("Privacy", "id");
    assert_eq!(shown("\"+4930123456\" <sip:trunk@pbx.example>", &[hidden]), number("", None));
}

#[test]
fn a_proxy_that_is_passed_twice_is_passed_twice_on_the_way_back() {
    let routes = "<sip:198.51.100.1;transport=tcp;r2=on;lr>, <sip:198.51.100.1:5060;r2=on;lr>";
    // They call.
    let mut script = Script::new("", "");
    let mut peer = Peer::calling("<sip:2000@pbx.example>");
    let mut invite = peer.request(Method::INVITE, a_law());
    invite.fields.push("Record-Route", "<sip:198.51.100.1:5060;r2=on;lr>");
    invite.fields.push("Record-Route", "<sip:198.51.100.1;transport=tcp;r2=on;lr>");
    invite.fields.set("Contact", "<sip:bob@10.0.0.5:5060>");
    script.hears(invite.clone());
    let ringing = script.replies(180);
    assert_eq!(ringing.fields.record_routes().expect("routes").len(), 2, "they come back as they are");
    script.world.tell(0, ANSWER);
    let ok = script.replies(200);
    peer.takes(&ok);
    script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, None));
    script.world.tell(0, HANG_UP);
    let bye = script.says(Method::BYE);
    assert_eq!(bye.uri.to_string(), "sip:bob@10.0.0.5:5060");
    let route = bye.fields.routes().expect("routes");
    let route: Vec<String> = route.iter().map(ToString::to_string).collect();
    assert_eq!(route, ["<sip:198.51.100.1:5060;r2=on;lr>", "<sip:198.51.100.1;transport=tcp;r2=on;lr>"]);
    // We call: in reverse.
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    let mut ok = peer.response(&invite, 200, a_law());
    ok.fields.push("Record-Route", routes);
    script.hears(ok);
    let ack = script.says(Method::ACK);
    let route = ack.fields.routes().expect("routes");
    let route: Vec<String> = route.iter().map(ToString::to_string).collect();
    assert_eq!(route, ["<sip:198.51.100.1:5060;r2=on;lr>", "<sip:198.51.100.1;transport=tcp;r2=on;lr>"]);
}

#[test]
fn digits_go_as_the_line_says_where_no_telephone_event_was_offered() {
    for (dtmf, info, method) in
        [("auto", false, "inband"), ("rfc4733", false, "inband"), ("info", true, "info")]
    {
        let mut script = Script::new(&format!("dtmf = \"{dtmf}\""), "");
        let mut peer = Peer::calling("<sip:2000@pbx.example>");
        let invite = peer.request(Method::INVITE, a_law());
        script.hears(invite.clone());
        script.replies(180);
        script.world.tell(0, ANSWER);
        let ok = script.replies(200);
        assert!(!String::from_utf8_lossy(&ok.body).contains("telephone-event"), "{dtmf}");
        peer.takes(&ok);
        script.hears(peer.numbered(Method::ACK, invite.head.cseq.number, None));
        script.world.tell(0, Command::Dtmf { call: None, digits: "5".into() });
        script.millis(300);
        let infos =
            script.sip.iter().filter(|(_, message)| message.head().cseq.method == Method::INFO).count();
        assert_eq!(infos > 0, info, "{dtmf}");
        let told = script.phone().all("call.dtmf");
        assert!(
            matches!(told[..], [Kind::CallDtmf { method: told, .. }] if told == method),
            "{dtmf}: {told:?}"
        );
        assert!(script.voice_to(MEDIA).iter().all(|packet| packet.bytes[1] & 0x7f == 8), "{dtmf}");
    }
}

#[test]
fn opus_with_events_at_8000_only_carries_digits() {
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    let offer = body(&invite);
    let opus = offer.lines().find(|line| line.contains("opus/48000/2")).expect("opus").to_owned();
    let number = opus.trim_start_matches("a=rtpmap:").split(' ').next().expect("a number").to_owned();
    let event = offer.lines().find(|line| line.ends_with("telephone-event/8000")).expect("events").to_owned();
    let event_number = event.trim_start_matches("a=rtpmap:").split(' ').next().expect("a number").to_owned();
    let sdp = audio(MEDIA, &format!("RTP/AVP {number} {event_number}"), &[&opus, &event]);
    script.hears(peer.response(&invite, 200, Some(sdp)));
    script.says(Method::ACK);
    script.seconds(1);
    script.listen();
    script.world.tell(0, Command::Dtmf { call: None, digits: "5".into() });
    script.seconds(1);
    let sent: Vec<u8> = event_number.bytes().collect();
    let wanted: u8 = String::from_utf8(sent).expect("text").parse().expect("a number");
    let events: Vec<_> = script.voice_to(MEDIA).into_iter().filter(|p| p.bytes[1] & 0x7f == wanted).collect();
    assert!(events.len() >= 4 && events.iter().all(|packet| packet.bytes[12] == 5), "{}", events.len());
    let duration = |packet: &[u8]| u16::from_be_bytes([packet[14], packet[15]]);
    let longest = events.iter().map(|packet| duration(&packet.bytes)).max().unwrap_or(0);
    assert!((320..=4_000).contains(&longest), "in the clock of 8000: {longest}");
}

/// A call of a line with these keys: each offer has this profile and these lines, and is refused for its media. The last
/// one is left open.
fn refused_but_the_last(line: &str, offers: &[(&str, &str)]) -> (Script, Request, Peer) {
    let mut script = Script::new(line, "");
    let (mut invite, mut peer) = script.calls();
    for (at, (profile, keys)) in offers.iter().enumerate() {
        if at > 0 {
            script.hears(peer.response(&invite, 488, None));
            script.says(Method::ACK);
            invite = script.says(Method::INVITE);
            peer = Peer::answering(&invite, "carol");
        }
        let offer = body(&invite);
        assert!(offer.contains(&format!(" {profile} ")), "{line}, offer {at}: {offer}");
        for line in ["a=crypto", "a=fingerprint"] {
            assert_eq!(offer.contains(line), *keys == line, "offer {at}: {offer}");
        }
    }
    (script, invite, peer)
}

const SDES: [(&str, &str); 3] = [("RTP/AVP", "a=crypto"), ("RTP/SAVP", "a=crypto"), ("RTP/AVP", "")];
const DTLS: [(&str, &str); 4] = [
    ("RTP/AVP", "a=fingerprint"),
    ("UDP/TLS/RTP/SAVP", "a=fingerprint"),
    ("UDP/TLS/RTP/SAVPF", "a=fingerprint"),
    ("RTP/AVP", ""),
];

#[test]
fn a_pbx_that_refuses_keys_is_offered_them_otherwise_and_called_in_clear_only_if_the_line_allows_it() {
    let optional_dtls = "srtp = \"optional\"\nsrtp_keys = \"dtls\"";
    for (line, offers) in [
        ("srtp = \"required\"", &SDES[1..2]),
        ("srtp = \"required\"\nsrtp_keys = \"dtls\"", &DTLS[1..3]),
        ("srtp = \"optional\"", &SDES),
        (optional_dtls, &DTLS),
        ("srtp = \"off\"", &SDES[2..]),
    ] {
        let (mut script, invite, peer) = refused_but_the_last(line, offers);
        script.hears(peer.response(&invite, 488, None));
        script.says(Method::ACK);
        script.seconds(2);
        script.is_silent();
        let ended = script.phone().all("call.ended");
        let [Kind::CallEnded { result, cause, .. }] = ended[..] else { panic!("{line}: {ended:?}") };
        assert_eq!((*result, cause.status), (CallResult::Failed, Some(488)), "{line}");
        let required = line.contains("required");
        let text = cause.text.as_deref().unwrap_or_default();
        assert_eq!(text.contains("srtp"), required, "{line}: what to do: {cause:?}");
    }
    // In clear at last, as the same call.
    for (line, offers) in [("srtp = \"optional\"", &SDES[..]), (optional_dtls, &DTLS)] {
        let (mut script, invite, peer) = refused_but_the_last(line, offers);
        script.hears(peer.response(&invite, 200, a_law()));
        script.says(Method::ACK);
        script.seconds(1);
        assert!(script.voice_to(MEDIA).len() > 30);
        let counts = ["call.new", "call.dialing", "call.answered", "call.ended"];
        assert_eq!(counts.map(|name| script.phone().all(name).len()), [1, 1, 1, 0]);
        script.world.tell(0, HANG_UP);
        script.says(Method::BYE);
    }
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason_and_rings_nobody() {
    let key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:".to_owned() + &"a".repeat(40);
    let cases: [(&str, String, u16); 5] = [
        ("srtp = \"required\"", audio(MEDIA, "RTP/AVP 8", &[]), 488),
        ("srtp = \"off\"", audio(MEDIA, "RTP/SAVP 8", &[&key]), 488),
        ("", audio(MEDIA, "RTP/AVP 18", &[]), 488),
        ("", audio(MEDIA, "RTP/AVP 8", &[]).replace("m=audio", "m=image"), 488),
        ("", "v=0\r\nm=audio nonsense\r\n".into(), 400),
    ];
    for (line, offer, status) in cases {
        let mut script = Script::new(line, "");
        let mut peer = Peer::calling("<sip:2000@pbx.example>");
        script.hears(peer.request(Method::INVITE, Some(offer.clone())));
        let refusal = script.replies(status);
        assert!(refusal.fields.has("Warning"), "{line} {offer}");
        assert!(!script.phone().has("call.ringing"));
    }
    // What can be taken in spite of all: keys besides a plain profile, video, bundle, feedback profiles.
    let video = audio(MEDIA, "RTP/AVP 8", &["m=video 20010 RTP/AVP 34", "a=rtpmap:34 H263/90000"]);
    let bundle =
        audio(MEDIA, "RTP/AVP 8", &["a=mid:0"]).replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0\r\n");
    let keyed = audio(MEDIA, "RTP/AVP 8", &[&key]);
    let feedback = audio(MEDIA, "RTP/AVPF 8", &["a=rtcp-fb:* nack"]);
    for (line, offer, wanted) in [
        ("", video, "m=video 0 RTP/AVP"),
        ("", bundle, "m=audio 10002 RTP/AVP 8"),
        ("srtp = \"optional\"", keyed.clone(), "a=crypto:1"),
        ("srtp = \"off\"", keyed, "m=audio 10002 RTP/AVP 8"),
        ("", feedback, "m=audio 10002 RTP/AVPF 8"),
    ] {
        let mut script = Script::new(&format!("auto_answer = true\n{line}"), "");
        let mut peer = Peer::calling("<sip:2000@pbx.example>");
        script.hears(peer.request(Method::INVITE, Some(offer)));
        let ok = script.replies(200);
        let answer = String::from_utf8_lossy(&ok.body).into_owned();
        assert!(answer.contains(wanted), "{wanted}: {answer}");
    }
}

#[test]
fn a_redirection_of_a_call_is_told_and_not_followed() {
    let mut script = Script::new("", "");
    let (invite, peer) = script.calls();
    let mut moved = peer.response(&invite, 302, None);
    moved.fields.push("Contact", "<sip:0900123456@pbx.example>");
    script.hears(moved);
    script.says(Method::ACK);
    script.seconds(10);
    script.is_silent();
    let ended = script.phone().all("call.ended");
    let [Kind::CallEnded { result, cause, .. }] = ended[..] else { panic!("{ended:?}") };
    assert_eq!(cause.status, Some(302));
    assert_ne!(*result, CallResult::Answered);
}

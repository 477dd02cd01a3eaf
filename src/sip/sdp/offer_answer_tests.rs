//! Offer and answer as dialogues between two sides, and against descriptions of the field.

use super::agreement::{Hold, Negotiated, Refusal};
use super::capability::{Capability, Codec, Preference, Security};
use super::crypto::Suite;
use super::media::{Direction, Protocol};
use super::negotiation::Negotiation;
use super::session::Session;
use crate::chance::Chance;
use std::net::IpAddr;

pub(super) fn opus() -> Codec {
    let fmtp = Some("useinbandfec=1".to_owned());
    Codec { name: "opus".to_owned(), clock: 48000, channels: 2, payload_type: 96, fmtp }
}

pub(super) fn codecs() -> Vec<Codec> {
    vec![opus(), Codec::new("G722", 8000, 9), Codec::new("PCMA", 8000, 8), Codec::new("PCMU", 8000, 0)]
}

pub(super) fn capability() -> Capability {
    Capability::new("192.0.2.10".parse().unwrap(), 10000, codecs())
}

pub(super) fn side(capability: Capability) -> Negotiation {
    Negotiation::new(capability, 4242)
}

pub(super) fn sdp(media: &[&str]) -> Vec<u8> {
    let mut text =
        "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n".to_owned();
    for line in media {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

pub(super) fn answered(capability: Capability, offer: &[u8]) -> (Session, Negotiated) {
    let (answer, negotiated) = side(capability).answer(offer, &mut Chance::from_number(1)).unwrap();
    (Session::read(&answer).unwrap(), negotiated)
}

fn refused(capability: Capability, offer: &[u8]) -> Refusal {
    side(capability).answer(offer, &mut Chance::from_number(1)).unwrap_err()
}

fn accepted(capability: Capability, answer: &[u8]) -> Result<Negotiated, Refusal> {
    let mut side = side(capability);
    side.offer(&mut Chance::from_number(1));
    side.accept(answer)
}

#[test]
fn two_sides_agree() {
    let mut chance = Chance::from_number(7);
    let mut ours = side(capability());
    let theirs = Capability::new(
        "2001:db8::7".parse::<IpAddr>().unwrap(),
        20000,
        vec![Codec::new("PCMA", 8000, 8), Codec { payload_type: 120, ..opus() }],
    );
    let mut theirs = side(Capability { other_address: Some("192.0.2.20".parse().unwrap()), ..theirs });
    let offer = ours.offer(&mut chance);
    let (answer, heard) = theirs.answer(&offer, &mut chance).unwrap();
    let told = ours.accept(&answer).unwrap();
    assert_eq!(told.codec().unwrap().codec, opus());
    assert_eq!(heard.codec().unwrap().send_payload_type, 96);
    assert_eq!(told.event().unwrap().clock, 48000);
    assert_eq!((told.remote_rtp, heard.remote_rtp), (Some(heard.local_rtp), Some(told.local_rtp)));
    assert_eq!(heard.local_rtp.to_string(), "192.0.2.20:20000");
    assert_eq!((told.rtcp_mux, told.remote_rtcp), (true, told.remote_rtp));
    assert_eq!((told.direction, told.hold), (Direction::SendRecv, Hold::default()));
    assert_eq!(told.keys, None);
}

#[test]
fn our_offer_names_everything() {
    let offer = String::from_utf8(side(capability()).offer(&mut Chance::from_number(1))).unwrap();
    let lines: Vec<&str> = offer.lines().collect();
    assert_eq!(
        lines,
        [
            "v=0",
            "o=- 2121 1 IN IP4 192.0.2.10",
            "s=-",
            "c=IN IP4 192.0.2.10",
            "t=0 0",
            "m=audio 10000 RTP/AVP 96 9 8 0 102 101",
            "a=rtpmap:96 opus/48000/2",
            "a=fmtp:96 useinbandfec=1",
            "a=rtpmap:9 G722/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:102 telephone-event/48000",
            "a=fmtp:102 0-16",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-16",
            "a=ptime:20",
            "a=maxptime:60",
            "a=sendrecv",
            "a=rtcp-mux",
        ]
    );
    let odd = Capability { rtcp_port: 30001, codecs: vec![Codec::new("PCMU", 8000, 0)], ..capability() };
    let offer = String::from_utf8(side(odd).offer(&mut Chance::from_number(1))).unwrap();
    assert!(offer.contains("a=rtcp:30001\r\n") && !offer.contains("48000"), "{offer}");
}

#[test]
fn rtcp_may_be_received_elsewhere_and_where_it_shares_the_port_nothing_is_said_of_it() {
    let told = |rtcp: &str| {
        let rtcp_address = rtcp.parse().ok();
        let capability = Capability { rtcp_port: 30001, rtcp_address, ..capability() };
        let offer = String::from_utf8(side(capability.clone()).offer(&mut Chance::from_number(1))).unwrap();
        let answers = ["m=audio 4000 RTP/AVP 8", "m=audio 4000 RTP/AVP 8\r\na=rtcp-mux"].map(|media| {
            let (answer, _) = answered(capability.clone(), &sdp(&[media]));
            answer.media[0].attribute("rtcp").map(str::to_owned)
        });
        (offer.lines().find(|line| line.starts_with("a=rtcp:")).map(str::to_owned), answers)
    };
    let elsewhere = "30001 IN IP4 10.0.0.2";
    assert_eq!(told("10.0.0.2"), (Some(format!("a=rtcp:{elsewhere}")), [Some(elsewhere.into()), None]));
    let here = (Some("a=rtcp:30001".to_owned()), [Some("30001".to_owned()), None]);
    for same in [capability().address.to_string(), "2001:db8::2".to_owned()] {
        assert_eq!(told(&same), here);
    }
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let (answer, negotiated) = answered(capability(), &sdp(&["m=audio 4000 RTP/AVP 18 8 0"]));
    assert_eq!(negotiated.codec().unwrap().codec.name, "PCMA");
    assert_eq!(negotiated.also_receive[0].codec.name, "PCMU");
    assert_eq!(answer.media[0].formats, ["8"]);
    assert!(negotiated.events.is_empty());
    assert_eq!(negotiated.remote_rtcp.unwrap().to_string(), "198.51.100.7:4001");
}

#[test]
fn a_reoffer_of_one_codec_changes_to_it() {
    let mut chance = Chance::from_number(1);
    let mut side = side(capability());
    let (_, first) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 0 8"]), &mut chance).unwrap();
    let (_, second) = side.answer(&sdp(&["m=audio 4000 RTP/AVP 8"]), &mut chance).unwrap();
    assert_eq!((first.codecs[0].codec.name.as_str(), second.codecs[0].codec.name.as_str()), ("PCMU", "PCMA"));
}

#[test]
fn the_order_is_theirs_or_ours() {
    let offer = sdp(&["m=audio 4000 RTP/AVP 0 9"]);
    assert_eq!(answered(capability(), &offer).1.codecs[0].codec.name, "PCMU");
    let ours = Capability { preference: Preference::Ours, ..capability() };
    assert_eq!(answered(ours, &offer).1.codecs[0].codec.name, "G722");
}

#[test]
fn the_answerers_other_payload_numbers_are_for_what_we_send() {
    let answer = sdp(&[
        "m=audio 4000 RTP/AVP 111 110",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:110 telephone-event/48000",
    ]);
    let negotiated = accepted(capability(), &answer).unwrap();
    let codec = negotiated.codec().unwrap();
    assert_eq!((codec.send_payload_type, codec.receive_payload_type), (111, 96));
    let event = negotiated.event().unwrap();
    assert_eq!((event.send_payload_type, event.receive_payload_type), (110, 102));
    let alias = negotiated.also_receive.iter().find(|agreed| agreed.receive_payload_type == 111).unwrap();
    assert_eq!(alias.codec.name, "opus");
}

#[test]
fn opus_with_events_at_8000_only() {
    let lines = [
        "m=audio 4000 RTP/AVP 107 101",
        "a=rtpmap:107 opus/48000/2",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
    ];
    let as_answer = accepted(capability(), &sdp(&lines)).unwrap().event().unwrap();
    let as_offer = answered(capability(), &sdp(&lines)).1.event().unwrap();
    assert_eq!((as_answer.clock, as_answer.send_payload_type), (8000, 101));
    assert_eq!((as_offer.clock, as_offer.receive_payload_type), (8000, 101));
}

#[test]
fn an_answer_that_does_not_explain_its_numbers_means_ours() {
    let negotiated = accepted(capability(), &sdp(&["m=audio 4000 RTP/AVP 96 101"])).unwrap();
    assert_eq!(negotiated.codec().unwrap().codec.name, "opus");
    assert_eq!(negotiated.event().unwrap().clock, 8000);
}

#[test]
fn packet_time_follows_the_peer_within_bounds() {
    let ptime = |lines: &[&str]| {
        let media: Vec<&str> = ["m=audio 4000 RTP/AVP 8"].iter().chain(lines).copied().collect();
        answered(capability(), &sdp(&media)).1.ptime_ms
    };
    assert_eq!(ptime(&[]), 20);
    assert_eq!(ptime(&["a=ptime:30"]), 30);
    assert_eq!(ptime(&["a=ptime:60"]), 60);
    assert_eq!(ptime(&["a=ptime:200"]), 60);
    assert_eq!(ptime(&["a=ptime:5"]), 10);
    assert_eq!(ptime(&["a=ptime:60", "a=maxptime:35"]), 30);
    assert_eq!(ptime(&["a=maxptime:10"]), 10);
    assert_eq!(ptime(&["a=ptime:0", "a=maxptime:x"]), 20);
    let (answer, _) = answered(capability(), &sdp(&["m=audio 4000 RTP/AVP 8", "a=ptime:30"]));
    assert_eq!(answer.media[0].ptime_ms(), Some(30));
}

#[test]
fn hold_in_every_form() {
    let told = |connection: &str, direction: &str| {
        let offer = format!("v=0\r\nc=IN IP4 {connection}\r\nm=audio 4000 RTP/AVP 8\r\n{direction}\r\n");
        let (answer, negotiated) = answered(capability(), offer.as_bytes());
        assert_eq!(answer.media[0].port, 10000);
        (
            negotiated.direction,
            negotiated.hold.by_peer,
            negotiated.remote_rtp.is_some(),
            answer.media[0].direction(&answer),
        )
    };
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    assert_eq!(told("198.51.100.7", "a=sendonly"), (RecvOnly, true, true, RecvOnly));
    assert_eq!(told("198.51.100.7", "a=inactive"), (Inactive, true, true, Inactive));
    assert_eq!(told("0.0.0.0", "a=sendrecv"), (RecvOnly, true, false, RecvOnly));
    assert_eq!(told("0.0.0.0", "a=inactive"), (Inactive, true, false, Inactive));
    assert_eq!(told("198.51.100.7", "a=recvonly"), (SendOnly, false, true, SendOnly));
    assert_eq!(told("198.51.100.7", ""), (SendRecv, false, true, SendRecv));
}

#[test]
fn our_own_hold_answers_their_hold() {
    let held = Capability { direction: Direction::SendOnly, ..capability() };
    let (answer, negotiated) = answered(held.clone(), &sdp(&["m=audio 4000 RTP/AVP 8", "a=sendonly"]));
    assert_eq!(answer.media[0].direction(&answer), Direction::Inactive);
    assert_eq!(negotiated.hold, Hold { by_us: true, by_peer: true });
    let negotiated = accepted(held.clone(), &sdp(&["m=audio 4000 RTP/AVP 8", "a=recvonly"])).unwrap();
    assert_eq!(
        (negotiated.direction, negotiated.hold.by_us, negotiated.hold.by_peer),
        (Direction::SendOnly, true, false)
    );
    let negotiated = accepted(held, &sdp(&["m=audio 4000 RTP/AVP 8", "a=inactive"])).unwrap();
    assert_eq!(
        (negotiated.direction, negotiated.hold),
        (Direction::Inactive, Hold { by_us: true, by_peer: true })
    );
}

#[test]
fn other_media_get_port_0() {
    let offer = sdp(&[
        "m=video 4002 RTP/AVP 99 100",
        "a=rtpmap:99 H264/90000",
        "m=audio 4000 RTP/AVP 8",
        "m=image 4004 udptl t38",
        "m=audio 4006 RTP/AVP 0",
    ]);
    let (answer, negotiated) = answered(capability(), &offer);
    let lines: Vec<_> =
        answer.media.iter().map(|m| (m.kind.name(), m.port, m.protocol.name(), m.formats.len())).collect();
    assert_eq!(
        lines,
        [
            ("video", 0, "RTP/AVP", 1),
            ("audio", 10000, "RTP/AVP", 1),
            ("image", 0, "udptl", 1),
            ("audio", 0, "RTP/AVP", 1)
        ]
    );
    assert_eq!(negotiated.index, 1);
}

#[test]
fn what_cannot_be_taken_is_refused_with_a_reason() {
    assert_eq!(refused(capability(), &sdp(&["m=image 4004 udptl t38"])), Refusal::NoAudio);
    assert_eq!(refused(capability(), &sdp(&["m=audio 0 RTP/AVP 8"])), Refusal::NoAudio);
    assert_eq!(
        refused(capability(), &sdp(&["m=audio 9 UDP/TLS/RTP/SAVPF 111"])),
        Refusal::SecurityNotSupported
    );
    let g729 =
        refused(capability(), &sdp(&["m=audio 4000 RTP/AVP 18 101", "a=rtpmap:101 telephone-event/8000"]));
    assert_eq!(g729, Refusal::NoCommonCodec("G729".to_owned()));
    assert_eq!((g729.status(), g729.warning()), (488, 305));
    assert_eq!(refused(capability(), b"hello").status(), 400);
    assert_eq!(refused(capability(), b"v=0\r\nm=audio 4000 RTP/AVP 8\r\n").status(), 400);
    let v6 = b"v=0\r\nc=IN IP6 2001:db8::1\r\nm=audio 4000 RTP/AVP 8\r\n";
    assert_eq!(refused(capability(), v6), Refusal::Address);
    let multicast = b"v=0\r\nc=IN IP4 224.2.1.1/127\r\nm=audio 4000 RTP/AVP 8\r\n";
    assert_eq!(refused(capability(), multicast), Refusal::Address);
    let named = b"v=0\r\nc=IN IP4 pbx.example\r\nm=audio 4000 RTP/AVP 8\r\n";
    assert_eq!(refused(capability(), named), Refusal::Address);
}

#[test]
fn answers_that_do_not_fit() {
    assert_eq!(accepted(capability(), &sdp(&["m=audio 4000 RTP/AVP 18"])).unwrap_err().status(), 488);
    assert_eq!(accepted(capability(), &sdp(&["m=audio 0 RTP/AVP 8"])).unwrap_err(), Refusal::NoAudio);
    assert_eq!(accepted(capability(), &sdp(&[])).unwrap_err(), Refusal::Mismatch);
    assert_eq!(accepted(capability(), &sdp(&["m=video 4000 RTP/AVP 8"])).unwrap_err(), Refusal::Mismatch);
    assert_eq!(
        side(capability()).accept(&sdp(&["m=audio 4000 RTP/AVP 8"])).unwrap_err(),
        Refusal::Unexpected
    );
}

#[test]
fn ipv6_is_answered_in_ipv6() {
    let both = Capability { other_address: Some("2001:db8::10".parse().unwrap()), ..capability() };
    let v6 = b"v=0\r\nc=IN IP6 2001:db8::1\r\nm=audio 4000 RTP/AVP 8\r\na=rtcp:5005\r\n";
    let (answer, negotiated) = answered(both, v6);
    assert_eq!(answer.connection.unwrap().to_string(), "IN IP6 2001:db8::10");
    assert_eq!(negotiated.remote_rtp.unwrap().to_string(), "[2001:db8::1]:4000");
    assert_eq!(negotiated.remote_rtcp.unwrap().to_string(), "[2001:db8::1]:5005");
    let mapped = b"v=0\r\nc=IN IP6 ::ffff:192.0.2.77\r\nm=audio 4000 RTP/AVP 8\r\n";
    assert_eq!(answered(capability(), mapped).1.remote_rtp.unwrap().to_string(), "192.0.2.77:4000");
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

fn with(security: Security) -> Capability {
    Capability { security, ..capability() }
}

fn crypto(tag: u32) -> String {
    format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
}

#[test]
fn keys_by_the_lines_setting() {
    let key = crypto(3);
    let savp = sdp(&["m=audio 4000 RTP/SAVP 8", "a=crypto:1 F8_128 inline:AAAA", &key]);
    let avp = sdp(&["m=audio 4000 RTP/AVP 8", &key]);
    let plain = sdp(&["m=audio 4000 RTP/AVP 8"]);
    let keyless = sdp(&["m=audio 4000 RTP/SAVP 8"]);
    assert_eq!(refused(with(Security::Off), &savp), Refusal::SecurityNotSupported);
    assert_eq!(answered(with(Security::Off), &avp).1.keys, None);
    assert_eq!(refused(with(Security::Required), &plain), Refusal::NotSecure);
    assert_eq!(refused(with(Security::Optional), &keyless), Refusal::SecurityNotSupported);
    assert_eq!(answered(with(Security::Optional), &plain).1.keys, None);
    for security in [Security::Optional, Security::Required] {
        for offer in [&savp, &avp] {
            let (answer, negotiated) = answered(with(security), offer);
            let keys = negotiated.keys.unwrap();
            assert_eq!(answer.media[0].protocol, Session::read(offer).unwrap().media[0].protocol);
            assert_eq!(answer.media[0].cryptos()[0].tag, 3);
            assert_eq!(answer.media[0].cryptos()[0].key, keys.send);
            assert_eq!(keys.suite, Suite::AesCm128HmacSha1_80);
            assert_ne!(keys.send, keys.receive);
        }
    }
}

#[test]
fn secure_and_plain_side_by_side_take_the_secure_one() {
    let key = crypto(1);
    let offer = sdp(&["m=audio 4000 RTP/AVP 8", "m=audio 4002 RTP/SAVP 8", &key]);
    assert_eq!(answered(with(Security::Optional), &offer).1.index, 1);
    assert_eq!(answered(with(Security::Off), &offer).1.index, 0);
}

#[test]
fn an_offer_with_keys_is_accepted_either_way() {
    let offered = side(with(Security::Optional)).offer(&mut Chance::from_number(1));
    let offered = Session::read(&offered).unwrap();
    assert_eq!(offered.media[0].protocol, Protocol::Avp);
    assert_eq!(offered.media[0].cryptos().len(), 3);
    let key = crypto(2);
    for protocol in ["RTP/AVP", "RTP/SAVP"] {
        let answer = sdp(&[&format!("m=audio 4000 {protocol} 8"), &key]);
        let keys = accepted(with(Security::Optional), &answer).unwrap().keys.unwrap();
        assert_eq!(keys.send, offered.media[0].cryptos()[1].key);
    }
    let plain = sdp(&["m=audio 4000 RTP/AVP 8"]);
    assert_eq!(accepted(with(Security::Optional), &plain).unwrap().keys, None);
    assert_eq!(accepted(with(Security::Required), &plain).unwrap_err(), Refusal::NotSecure);
    let foreign = sdp(&["m=audio 4000 RTP/AVP 8", &crypto(9)]);
    assert_eq!(accepted(with(Security::Optional), &foreign).unwrap_err(), Refusal::Mismatch);
    let required = side(with(Security::Required)).offer(&mut Chance::from_number(1));
    assert_eq!(Session::read(&required).unwrap().media[0].protocol, Protocol::Savp);
}

#[test]
fn bundle_and_avpf_offers() {
    let offer = b"v=0\r\nc=IN IP4 198.51.100.7\r\na=group:BUNDLE 0 1\r\nm=audio 4000 RTP/AVPF 111 8\r\n\
        a=mid:0\r\n\
        a=rtpmap:111 opus/48000/2\r\na=rtcp-mux\r\na=rtcp-fb:111 transport-cc\r\n\
        m=video 4000 RTP/AVPF 99\r\na=mid:1\r\n";
    let (answer, negotiated) = answered(capability(), offer);
    assert_eq!(negotiated.protocol, Protocol::Avpf);
    assert_eq!((answer.media[0].protocol.name(), answer.media[1].port), ("RTP/AVPF", 0));
    assert_eq!((negotiated.rtcp_mux, answer.attribute("group")), (true, Some("BUNDLE 0")));
    let alone = Capability { rtcp_mux: false, ..capability() };
    let (answer, negotiated) = answered(alone, offer);
    assert!(!negotiated.rtcp_mux && !answer.media[0].rtcp_mux());
}

#[test]
fn comfort_noise_where_both_know_it() {
    let quiet = Capability { comfort_noise: true, ..capability() };
    assert!(answered(quiet.clone(), &sdp(&["m=audio 4000 RTP/AVP 8 13"])).1.comfort_noise);
    assert!(!answered(quiet.clone(), &sdp(&["m=audio 4000 RTP/AVP 8"])).1.comfort_noise);
    assert!(!answered(capability(), &sdp(&["m=audio 4000 RTP/AVP 8 13"])).1.comfort_noise);
    assert!(accepted(quiet, &sdp(&["m=audio 4000 RTP/AVP 8 13"])).unwrap().comfort_noise);
}

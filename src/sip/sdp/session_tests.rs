//! Reading, writing and meaning of session descriptions, keys and bodies of several parts.

use super::crypto::{Crypto, Suite};
use super::media::{Direction, MediaKind, Protocol};
use super::multipart::{SessionBody, session_of_body};
use super::session::{Address, MAX_BYTES, Session, Unreadable};
use crate::chance::Chance;

fn text(lines: &[&str]) -> Vec<u8> {
    let mut text = lines.join("\r\n");
    text.push_str("\r\n");
    text.into_bytes()
}

const PLAIN: &[&str] = &[
    "v=0",
    "o=alice 17 9876543210 IN IP4 198.51.100.7",
    "s=a call",
    "c=IN IP4 198.51.100.7",
    "t=0 0",
    "a=tool:x",
    "m=audio 49000 RTP/AVP 0 8 111 101 77",
    "a=rtpmap:111 opus/48000/2",
    "a=fmtp:111 useinbandfec=1; stereo=0",
    "a=rtpmap:101 telephone-event/8000",
    "a=ptime:20",
    "a=maxptime:40.0",
    "a=rtcp:53000 IN IP4 198.51.100.8",
    "a=rtcp-mux",
    "a=sendonly",
    "m=video 51000 RTP/AVP 31",
];

#[test]
fn reads_what_a_description_means() {
    let session = Session::read(&text(PLAIN)).unwrap();
    assert_eq!(session.origin.version, 9_876_543_210);
    assert_eq!(session.attribute("tool"), Some("x"));
    assert_eq!(session.media.len(), 2);
    let audio = &session.media[0];
    assert_eq!((&audio.kind, audio.port, &audio.protocol), (&MediaKind::Audio, 49000, &Protocol::Avp));
    let maps: Vec<_> =
        audio.rtpmaps().into_iter().map(|m| (m.payload_type, m.name, m.clock, m.channels)).collect();
    assert_eq!(
        maps,
        [
            (0, "PCMU".into(), 8000, 1),
            (8, "PCMA".into(), 8000, 1),
            (111, "opus".into(), 48000, 2),
            (101, "telephone-event".into(), 8000, 1)
        ]
    );
    assert_eq!(audio.fmtp(111), Some("useinbandfec=1; stereo=0"));
    assert_eq!(audio.fmtp(11), None);
    assert_eq!((audio.ptime_ms(), audio.max_ptime_ms()), (Some(20), Some(40)));
    assert_eq!(audio.rtcp(), Some((53000, Some("198.51.100.8".parse().unwrap()))));
    assert!(audio.rtcp_mux());
    assert_eq!(audio.direction(&session), Direction::SendOnly);
    assert_eq!(session.media[1].direction(&session), Direction::SendRecv);
    assert_eq!(session.connection_of(audio), Some(Address::Ip("198.51.100.7".parse().unwrap())));
}

#[test]
fn what_is_written_reads_the_same() {
    let session = Session::read(&text(PLAIN)).unwrap();
    let written = session.write();
    assert_eq!(Session::read(&written).unwrap(), session);
    let written = String::from_utf8(written).unwrap();
    assert!(written.starts_with("v=0\r\no=alice 17 9876543210 IN IP4 198.51.100.7\r\ns=a call\r\nc=IN IP4"));
    assert!(written.contains("\r\nm=audio 49000 RTP/AVP 0 8 111 101 77\r\n"));
    assert!(written.ends_with("m=video 51000 RTP/AVP 31\r\n"));
}

#[test]
fn bare_line_ends_missing_lines_and_foreign_lines_are_forgiven() {
    let session =
        Session::read(b"v=0\nx=what\nc=IN IP4 192.0.2.1/127\nb=AS:64\nm=audio 4000 rtp/avp 8").unwrap();
    assert_eq!(session.media[0].protocol, Protocol::Avp);
    assert_eq!(session.connection, Some(Address::Ip("192.0.2.1".parse().unwrap())));
    assert_eq!(session.origin.session, "0");
}

#[test]
fn a_value_cannot_add_a_line() {
    let mut session = Session::read(&text(PLAIN)).unwrap();
    session.name = "x\r\na=sendrecv".to_owned();
    session.media[0].attributes[0].value = Some("1\nm=audio 1 RTP/AVP 0".to_owned());
    session.media[0].formats[0] = "0\r\nc=IN IP4 1.2.3.4".to_owned();
    let again = Session::read(&session.write()).unwrap();
    assert_eq!(again.media.len(), 2);
    assert!(again.attributes.iter().all(|attribute| attribute.name == "tool"));
    assert_eq!(again.media[0].connection, None);
}

#[test]
fn bombs_are_refused_or_cut() {
    assert_eq!(Session::read(&vec![b'a'; MAX_BYTES + 1]), Err(Unreadable::TooLong));
    let mut long = b"v=0\r\na=x:".to_vec();
    long.resize(8000, b'y');
    assert_eq!(Session::read(&long), Err(Unreadable::LineTooLong));
    let many = format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(17));
    assert_eq!(Session::read(many.as_bytes()), Err(Unreadable::TooManyMedia));
    let formats: String = (0..500).map(|n| format!(" {n}")).collect();
    let wide = format!("v=0\r\nm=audio 1 RTP/AVP{formats}\r\n{}", "a=x\r\n".repeat(4000));
    let session = Session::read(wide.as_bytes()).unwrap();
    assert_eq!((session.media[0].formats.len(), session.media[0].attributes.len()), (64, 256));
    assert_eq!(Session::read(b"<xml/>"), Err(Unreadable::NotSdp));
    assert_eq!(Session::read(b""), Err(Unreadable::NotSdp));
    assert_eq!(Session::read(b"v=1\r\n"), Err(Unreadable::NotSdp));
    assert_eq!(Session::read(b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n"), Err(Unreadable::BadLine('m')));
    assert_eq!(Session::read(b"v=0\r\nc=IN IP4\r\n"), Err(Unreadable::BadLine('c')));
}

#[test]
fn ipv6_addresses_of_rfc5118() {
    // §4.8: media of both families in one description.
    let session = Session::read(&text(&[
        "v=0",
        "o=bob 5 6 IN IP4 192.0.2.2",
        "s=",
        "c=IN IP4 192.0.2.2",
        "t=0 0",
        "m=audio 22000 RTP/AVP 0",
        "m=video 6024 RTP/AVP 107",
        "c=IN IP6 2001:db8::1",
    ]))
    .unwrap();
    assert_eq!(session.connection_of(&session.media[0]).unwrap().to_string(), "IN IP4 192.0.2.2");
    assert_eq!(session.connection_of(&session.media[1]).unwrap().to_string(), "IN IP6 2001:db8::1");
    // §4.10: an IPv4 address in the clothes of IPv6.
    let session = Session::read(b"v=0\r\nc=IN IP6 ::ffff:192.0.2.1\r\nm=audio 1 RTP/AVP 0\r\n").unwrap();
    assert_eq!(session.connection.unwrap().ip(), Some("192.0.2.1".parse().unwrap()));
    let session = Session::read(b"v=0\r\no=- 1 1 IN IP6 2001:db8::10\r\nc=IN IP6 2001:db8::10\r\n").unwrap();
    assert_eq!(session.origin.address, Address::Ip("2001:db8::10".parse().unwrap()));
}

#[test]
fn addresses_that_mean_hold() {
    for hold in ["0.0.0.0", "::", "::ffff:0.0.0.0", "nobody.invalid"] {
        let text = format!("v=0\r\nc=IN IP4 {hold}\r\n");
        assert!(Session::read(text.as_bytes()).unwrap().connection.unwrap().is_hold(), "{hold}");
    }
    let named = Session::read(b"v=0\r\nc=IN IP4 media.example.com\r\n").unwrap().connection.unwrap();
    assert_eq!((named.is_hold(), named.ip()), (false, None));
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

#[test]
fn keys_are_read_and_written() {
    let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20 WSH=64 -x=1");
    let crypto = Crypto::read(&line).unwrap();
    assert_eq!((crypto.tag, crypto.suite, crypto.key.bytes().len()), (1, Suite::AesCm128HmacSha1_80, 30));
    assert_eq!(crypto.to_string(), format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"));
    assert_eq!(crypto.key.split(crypto.suite).1.len(), 14);
    let mut chance = Chance::from_number(1);
    for suite in Suite::ALL {
        let crypto = Crypto::draw(7, suite, &mut chance);
        let unpadded = crypto.to_string().trim_end_matches('=').to_owned();
        assert_eq!(Crypto::read(&crypto.to_string()), Some(crypto.clone()));
        assert_eq!(Crypto::read(&unpadded), Some(crypto));
    }
}

#[test]
fn keys_that_cannot_be_honoured_are_passed_over() {
    for bad in [
        format!("1 AES_CM_256_HMAC_SHA1_80 inline:{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=5"),
        format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        format!("1 AEAD_AES_128_GCM inline:{KEY}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 file:{KEY}"),
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!!".to_owned(),
        "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
        String::new(),
    ] {
        assert_eq!(Crypto::read(&bad), None, "{bad}");
    }
}

#[test]
fn a_key_never_shows_in_a_log() {
    let crypto = Crypto::read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).unwrap();
    assert_eq!(format!("{:?}", crypto.key), "Key(…)");
    assert!(!format!("{crypto:?}").contains("["));
}

#[test]
fn finds_the_session_in_a_body_of_parts() {
    let body = b"preamble\r\n--b1\r\nContent-Type: text/plain\r\n\
        Content-Disposition: render;handling=optional\r\n\r\nhi\r\n\
        --b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\ns=-\r\n--b1--\r\nepilogue";
    let kind = "multipart/mixed; boundary=\"b1\"";
    assert_eq!(session_of_body(Some(kind), false, body), SessionBody::Session(b"v=0\r\ns=-"));
    let nested = b"--o\r\nContent-Type: multipart/alternative;boundary=i\r\n\r\n--i\r\n\
        Content-Type: text/html\r\n\r\nx\r\n\
        --i\r\nc: application/sdp\r\n\r\nv=0\r\n--i--\r\n--o--";
    assert_eq!(
        session_of_body(Some("multipart/mixed;boundary=o"), false, nested),
        SessionBody::Session(b"v=0")
    );
    let isup = b"--b\r\nContent-Type: application/isup\r\n\r\nxx\r\n--b--\r\n";
    assert_eq!(session_of_body(Some("multipart/mixed;boundary=b"), false, isup), SessionBody::Unsupported);
    assert_eq!(session_of_body(Some("multipart/mixed"), false, isup), SessionBody::Unsupported);
    assert_eq!(session_of_body(Some("text/plain"), false, b"hello"), SessionBody::Unsupported);
    assert_eq!(session_of_body(Some("text/plain"), true, b"hello"), SessionBody::Absent);
    assert_eq!(
        session_of_body(Some("application/SDP;charset=x"), false, b"v=0"),
        SessionBody::Session(b"v=0")
    );
    assert_eq!(session_of_body(None, false, b"v=0"), SessionBody::Session(b"v=0"));
    assert_eq!(session_of_body(Some("text/plain"), false, b"\r\n"), SessionBody::Absent);
}

#[test]
fn no_body_makes_it_panic() {
    let seeds: [&[u8]; 3] = [
        &text(PLAIN),
        b"v=0\r\no=- 1 1 IN IP6 ::\r\nc=IN IP6 [::1]\r\nm=audio 1/2 RTP/SAVP 96\r\n\
            a=crypto:1 AEAD_AES_128_GCM inline:AA\r\n",
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--",
    ];
    let mut chance = Chance::from_number(4711);
    for _ in 0..3000 {
        let mut bytes = seeds[chance.below(3) as usize].to_vec();
        for _ in 0..=chance.below(6) {
            let at = chance.below(bytes.len() as u32) as usize;
            match chance.below(4) {
                0 => bytes[at] = chance.next_u32() as u8,
                1 => bytes.insert(at, b"\r\n:/= |;0"[chance.below(9) as usize]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(session) = Session::read(&bytes) {
            for media in &session.media {
                let _ = (media.rtpmaps(), media.cryptos(), media.rtcp(), media.direction(&session));
            }
            let written = session.write();
            assert_eq!(Session::read(&written).unwrap().media.len(), session.media.len());
        }
        let _ = session_of_body(Some("multipart/mixed;boundary=b"), false, &bytes);
    }
}

//! Session descriptions, their keys, bodies of several parts, and offer and answer over them.

use super::Target;
use tipring::chance::Chance;
use tipring::sip::sdp::multipart::SessionBody;
use tipring::sip::sdp::{Capability, Codec, Crypto, Negotiation, Security, Session, session_of_body};

pub const TARGETS: &[Target] = &[
    Target { name: "sdp_session", run: session, seeds: SESSIONS, dictionary: WORDS },
    Target { name: "sdp_offer_answer", run: offer_answer, seeds: SESSIONS, dictionary: WORDS },
    Target { name: "sdp_crypto", run: crypto, seeds: KEYS, dictionary: WORDS },
    Target { name: "sdp_multipart", run: multipart, seeds: BODIES, dictionary: WORDS },
];

/// What was read is written with the same number of media, and read back as it was written.
fn session(octets: &[u8]) {
    let Ok(session) = Session::read(octets) else { return };
    for media in &session.media {
        assert!(media.rtpmaps().len() <= media.formats.len());
        let _ = (media.cryptos(), media.rtcp(), media.ptime_ms(), media.max_ptime_ms());
        let _ = (media.direction(&session), session.connection_of(media));
    }
    let written = session.write();
    if let Ok(again) = Session::read(&written) {
        assert_eq!(again.media.len(), session.media.len());
        assert_eq!(again.write(), written);
    }
}

fn side(security: Security) -> Negotiation {
    let codecs = vec![
        Codec { channels: 2, ..Codec::new("opus", 48000, 96) },
        Codec::new("G722", 8000, 9),
        Codec::new("PCMA", 8000, 8),
    ];
    let capability = Capability::new("192.0.2.1".parse().expect("an address"), 10000, codecs);
    Negotiation::new(Capability { security, other_address: "2001:db8::1".parse().ok(), ..capability }, 1)
}

/// Any offer is refused or gets an answer with as many media; whatever was agreed on can be sent and offered
/// again.
fn offer_answer(octets: &[u8]) {
    for security in [Security::Off, Security::Optional, Security::Required] {
        let mut chance = Chance::from_number(1);
        let mut ours = side(security);
        if let Ok((answer, negotiated)) = ours.answer(octets, &mut chance) {
            let offer = Session::read(octets).expect("it was answered");
            let answer = Session::read(&answer).expect("ours");
            assert_eq!(answer.media.len(), offer.media.len());
            assert_eq!(answer.media.iter().filter(|media| media.port != 0).count(), 1);
            assert!((10..=60).contains(&negotiated.ptime_ms) && negotiated.ptime_ms % 10 == 0);
            assert!(!negotiated.codecs.is_empty());
            assert!(security != Security::Required || negotiated.keys.is_some());
            assert_eq!(Session::read(&ours.offer(&mut chance)).expect("ours").media.len(), offer.media.len());
        }
        let mut ours = side(security);
        ours.offer(&mut chance);
        if let Ok(negotiated) = ours.accept(octets) {
            assert!(!negotiated.codecs.is_empty());
            assert!(security != Security::Required || negotiated.keys.is_some());
        }
        let _ = ours.answer(octets, &mut chance);
    }
}

/// A key that was read is written and read as it was.
fn crypto(octets: &[u8]) {
    let Some(crypto) = Crypto::read(&String::from_utf8_lossy(octets)) else { return };
    assert_eq!(crypto.key.bytes().len(), crypto.suite.key_len() + crypto.suite.salt_len());
    assert_eq!(Crypto::read(&crypto.to_string()), Some(crypto));
}

fn multipart(octets: &[u8]) {
    for kind in [
        "multipart/mixed;boundary=b",
        "multipart/alternative; boundary=\"b\"",
        "application/sdp",
        "text/plain",
    ] {
        if let SessionBody::Session(part) = session_of_body(Some(kind), false, octets) {
            assert!(part.len() <= octets.len());
        }
    }
    // The input as the type of a body.
    let _ = session_of_body(Some(&String::from_utf8_lossy(octets)), true, b"--b\r\n\r\nx\r\n--b--");
}

const SESSIONS: &[&[u8]] = &[
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 8 96 101\r\n\
        a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=ptime:20\r\na=sendonly\r\n",
    b"v=0\r\nc=IN IP6 2001:db8::7\r\nm=video 0 RTP/AVP 99\r\nm=audio 4002/2 RTP/SAVP 8\r\n\
        a=rtcp:4005 IN IP6 2001:db8::8\r\n\
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^31\r\n\
        a=rtcp-mux\r\na=inactive\r\n",
    b"v=0\no=x 99999999999999999999 1 IN IP4 h.invalid\ns=\nc=IN IP4 0.0.0.0\nm=image 4 udptl t38\n\
        m=audio 65535 RTP/AVPF 9\na=maxptime:5",
];

const KEYS: &[&[u8]] = &[
    b"1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20|1:4 WSH=64",
    b"2 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw KDR=0",
    b"3 AES_CM_128_HMAC_SHA1_32 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd;inline:x UNENCRYPTED_SRTP",
];

const BODIES: &[&[u8]] = &[
    b"p\r\n--b\r\nContent-Type: text/plain\r\nContent-Disposition: render;handling=optional\r\n\r\nhi\r\n\
        --b\r\nc: application/sdp\r\n\r\nv=0\r\n--b--",
    b"--b\nContent-Type: multipart/mixed;boundary=b\n\n--b\nContent-Type: multipart/mixed;boundary=b\n\n\
        --b\n\nx\n--b--\n--b--\n--b--",
    b"multipart/mixed; boundary=\"b\"; charset=x",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"v=0",
    b"m=audio ",
    b"c=IN IP4 ",
    b"c=IN IP6 ",
    b"a=rtpmap:",
    b"a=fmtp:",
    b"a=crypto:",
    b" RTP/SAVP ",
    b" RTP/AVP ",
    b"65536",
    b"0",
    b"127",
    b"4294967296",
    b"-1",
    b"::ffff:0.0.0.0",
    b"224.0.0.1",
    b"telephone-event/48000",
    b"--b",
    b"--b--",
    b"inline:",
];

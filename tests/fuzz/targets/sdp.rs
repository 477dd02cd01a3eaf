//! Session descriptions, their keys, bodies of several parts, and offer and answer over them.

use super::Target;
use tipring::chance::Chance;
use tipring::sip::sdp::multipart::SessionBody;
use tipring::sip::sdp::{
    Candidate, CandidateKind, CandidateTransport, Capability, Codec, Crypto, Fingerprint, Hash, LocalIce,
    Negotiation, Security, Session, session_of_body,
};

pub const TARGETS: &[Target] = &[
    Target { name: "sdp_session", run: session, seeds: SESSIONS, dictionary: WORDS },
    Target { name: "sdp_offer_answer", run: offer_answer, seeds: SESSIONS, dictionary: WORDS },
    Target { name: "sdp_crypto", run: crypto, seeds: KEYS, dictionary: WORDS },
    Target { name: "sdp_secured", run: secured, seeds: SECURED, dictionary: SECURED_WORDS },
    Target { name: "sdp_candidate", run: candidate, seeds: CANDIDATES, dictionary: SECURED_WORDS },
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

fn full_side(security: Security) -> Negotiation {
    let mut side = side(security);
    let capability = side.capability_mut();
    capability.dtls = Some(Fingerprint { hash: Hash::Sha256, bytes: vec![7; 32] });
    let candidate = |component: u16| Candidate {
        foundation: "h1".into(),
        component,
        transport: CandidateTransport::Udp,
        priority: 1,
        address: capability.address.into(),
        port: capability.port + component - 1,
        kind: CandidateKind::Host,
        related: None,
    };
    let candidates = [1, 2].map(candidate).to_vec();
    capability.ice = Some(LocalIce { candidates, selected: Vec::new() });
    capability.rtcp_address = "192.0.2.200".parse().ok();
    side
}

/// With DTLS and ICE: what was agreed on is never less secure than asked for, and bounded.
fn secured(octets: &[u8]) {
    for security in [Security::Off, Security::Optional, Security::Required] {
        let mut chance = Chance::from_number(1);
        let mut ours = full_side(security);
        for _ in 0..2 {
            if let Ok((answer, negotiated)) = ours.answer(octets, &mut chance) {
                let answer = Session::read(&answer).expect("ours");
                assert!(security != Security::Required || negotiated.dtls.is_some());
                assert!(security != Security::Off || !negotiated.is_secure());
                assert!(negotiated.keys.is_none());
                let told = answer.media.iter().any(|media| media.has("ice-ufrag"));
                assert_eq!(told, negotiated.ice.is_some());
                let second = |candidate: &str| candidate.split(' ').nth(1) == Some("2");
                let apart = answer.media.iter().flat_map(|media| media.values("candidate")).any(second);
                assert_eq!(apart, told && !negotiated.rtcp_mux);
                assert!(negotiated.ice.is_none_or(|ice| ice.remote.candidates.len() <= 64));
                assert!(negotiated.dtls.is_none_or(|dtls| (1..=8).contains(&dtls.fingerprints.len())));
            }
        }
        ours.restart_ice();
        ours.offer(&mut chance);
        if let Ok(negotiated) = ours.accept(octets) {
            assert!(security != Security::Required || negotiated.dtls.is_some());
            assert!(negotiated.ice.is_none_or(|ice| Some(&ice.local) == ours.ice_credentials()));
        }
    }
}

/// A candidate or fingerprint that was read is written and read as it was.
fn candidate(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Some(candidate) = Candidate::read(&text) {
        let _ = candidate.endpoint();
        assert_eq!(Candidate::read(&candidate.to_string()), Some(candidate));
    }
    if let Some(fingerprint) = Fingerprint::read(&text) {
        assert_eq!(Fingerprint::read(&fingerprint.to_string()), Some(fingerprint));
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

const SECURED: &[&[u8]] = &[
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 8\r\na=mid:0\r\na=rtcp-mux\r\na=setup:actpass\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:\
        CC:DD:EE:FF\r\na=tls-id:abcdefghijklmnopqrstuvwx\r\na=ice-ufrag:8hhY\r\n\
        a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=candidate:1 1 UDP 2130706431 198.51.100.7 4000 typ host\r\n\
        a=remote-candidates:1 192.0.2.1 10000\r\n",
    b"v=0\r\nc=IN IP4 0.0.0.0\r\na=ice-lite\r\na=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
        a=ice-options:trickle\r\nm=audio 9 RTP/AVP 8\r\na=end-of-candidates\r\na=ice-mismatch\r\n",
];

const CANDIDATES: &[&[u8]] = &[
    b"Sab+/9 2 UDP 1 2001:db8::7 9 typ srflx raddr 10.0.0.1 rport 8998 generation 0",
    b"1 1 tcp 4294967295 a1b2.local 9 typ relay tcptype active",
    b"sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
];

const SECURED_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"v=0",
    b"m=audio ",
    b" UDP/TLS/RTP/SAVP ",
    b"a=ice-ufrag:",
    b"a=ice-pwd:",
    b"a=ice-lite",
    b"a=ice-mismatch",
    b"a=candidate:",
    b"a=fingerprint:sha-512 ",
    b"a=setup:passive",
    b"a=setup:holdconn",
    b"a=tls-id:",
    b"a=mid:",
    b" typ prflx",
    b" raddr ",
    b"256",
    b"0",
    b"::",
    b".local",
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

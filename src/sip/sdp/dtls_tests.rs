//! DTLS-SRTP in the description: the grammar, who begins, and when a new association is made.

use super::agreement::{Negotiated, Refusal};
use super::capability::{Capability, Security};
use super::fingerprint::{Dtls, DtlsRole, Fingerprint, Hash};
use super::media::{Direction, Protocol};
use super::negotiation::Negotiation;
use super::offer_answer_tests::{answered, capability, sdp, side};
use super::session::Session;
use crate::chance::Chance;

const TLS: &str = "m=audio 4000 UDP/TLS/RTP/SAVPF 8";

fn fingerprint(byte: u8) -> Fingerprint {
    Fingerprint { hash: Hash::Sha256, bytes: vec![byte; 32] }
}

fn line(byte: u8) -> String {
    format!("a=fingerprint:{}", fingerprint(byte))
}

fn with_dtls(security: Security, byte: u8) -> Capability {
    Capability { security, dtls: Some(fingerprint(byte)), ..capability() }
}

fn required() -> Capability {
    with_dtls(Security::Required, 0xA5)
}

fn refused(capability: Capability, offer: &[u8]) -> Refusal {
    side(capability).answer(offer, &mut Chance::from_number(1)).unwrap_err()
}

fn turn(ours: &mut Negotiation, theirs: &mut Negotiation, chance: &mut Chance) -> (Dtls, Dtls) {
    let offer = ours.offer(chance);
    let (answer, heard) = theirs.answer(&offer, chance).unwrap();
    (ours.accept(&answer).unwrap().dtls.unwrap(), heard.dtls.unwrap())
}

#[test]
fn fingerprints_are_read_and_written() {
    for (name, hash, length) in
        [("sha-256", Hash::Sha256, 32), ("SHA-384", Hash::Sha384, 48), ("sha-512", Hash::Sha512, 64)]
    {
        let digits = (0..length).map(|n| format!("{n:02X}")).collect::<Vec<_>>().join(":");
        let read = Fingerprint::read(&format!("{name} {}", digits.to_ascii_lowercase())).unwrap();
        assert_eq!((read.hash, read.bytes.len(), read.bytes[5]), (hash, length, 5));
        assert_eq!(read.to_string(), format!("{} {digits}", name.to_ascii_lowercase()));
        for broken in [
            format!("{name} {}", &digits[3..]),
            format!("{name} {digits}:00"),
            format!("{name} {}", digits.replace(':', "-")),
            format!("{name} +1{}", &digits[2..]),
            format!("md5 {digits}"),
            name.to_owned(),
        ] {
            assert_eq!(Fingerprint::read(&broken), None, "{broken}");
        }
    }
    let sha1 = vec!["00"; 20].join(":");
    assert_eq!(Fingerprint::read(&format!("sha-1 {sha1}")), None, "proves nothing any more");
}

#[test]
fn the_answerer_begins() {
    let mut chance = Chance::from_number(5);
    let (mut ours, mut theirs) = (side(required()), side(with_dtls(Security::Required, 0x5A)));
    let offer = ours.offer(&mut chance);
    let text = Session::read(&offer).unwrap();
    assert_eq!(text.media[0].protocol, Protocol::TlsSavp);
    assert_eq!((text.media[0].attribute("setup"), text.media[0].has("crypto")), (Some("actpass"), false));
    let (answer, heard) = theirs.answer(&offer, &mut chance).unwrap();
    let told = ours.accept(&answer).unwrap();
    let answer = Session::read(&answer).unwrap();
    assert_eq!(answer.media[0].attribute("setup"), Some("active"));
    assert_eq!((answer.media[0].protocol.clone(), told.keys.clone()), (Protocol::TlsSavp, None));
    assert!(told.is_secure() && heard.is_secure());
    let (told, heard) = (told.dtls.unwrap(), heard.dtls.unwrap());
    assert_eq!((told.role, heard.role), (DtlsRole::Server, DtlsRole::Client));
    assert_eq!((told.fingerprints, heard.fingerprints), (vec![fingerprint(0x5A)], vec![fingerprint(0xA5)]));
    assert_ne!(told.tls_id, heard.tls_id, "each side has its name");
    assert!(told.tls_id.is_some_and(|id| id.len() >= 20));
}

#[test]
fn the_peer_says_who_begins() {
    for (setup, role) in [
        ("a=setup:actpass", Some(DtlsRole::Client)),
        ("a=setup:active", Some(DtlsRole::Server)),
        ("a=setup:passive", Some(DtlsRole::Client)),
        ("a=x", Some(DtlsRole::Server)),
        ("a=setup:holdconn", None),
    ] {
        let offer = sdp(&[TLS, &line(1), setup]);
        match side(required()).answer(&offer, &mut Chance::from_number(1)) {
            Ok((_, negotiated)) => assert_eq!(negotiated.dtls.map(|dtls| dtls.role), role, "{setup}"),
            Err(refusal) => assert_eq!((role, refusal), (None, Refusal::SecurityNotSupported)),
        }
    }
    for (setup, role) in [
        ("a=setup:active", Some(DtlsRole::Server)),
        ("a=setup:passive", Some(DtlsRole::Client)),
        ("a=setup:actpass", Some(DtlsRole::Client)),
        ("a=x", Some(DtlsRole::Client)),
        ("a=setup:holdconn", None),
    ] {
        let mut ours = side(required());
        ours.offer(&mut Chance::from_number(1));
        let answer = ours.accept(&sdp(&[TLS, &line(1), setup]));
        assert_eq!(answer.ok().and_then(|it| it.dtls).map(|dtls| dtls.role), role, "{setup}");
    }
}

#[test]
fn an_association_goes_on_through_hold_and_other_addresses() {
    let mut chance = Chance::from_number(5);
    let (mut ours, mut theirs) = (side(required()), side(with_dtls(Security::Required, 0x5A)));
    let (first, first_theirs) = turn(&mut ours, &mut theirs, &mut chance);
    theirs.capability_mut().direction = Direction::SendOnly;
    let (held_theirs, held) = turn(&mut theirs, &mut ours, &mut chance);
    assert_eq!((&held, &held_theirs), (&first, &first_theirs), "the roles stay with actpass, too");
    ours.capability_mut().port = 10020;
    let (moved, moved_theirs) = turn(&mut ours, &mut theirs, &mut chance);
    assert_eq!((moved, moved_theirs), (first, first_theirs), "RFC 8842 §3.2");
}

#[test]
fn another_fingerprint_name_or_role_is_another_association() {
    let id = |n: u8| format!("a=tls-id:{}", char::from(b'a' + n).to_string().repeat(24));
    let first = [TLS.to_owned(), line(1), "a=setup:actpass".to_owned(), id(0)];
    let mut chance = Chance::from_number(9);
    let mut answer = |ours: &mut Negotiation, lines: &[String]| -> (Session, Dtls) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (answer, negotiated) = ours.answer(&sdp(&lines), &mut chance).unwrap();
        (Session::read(&answer).unwrap(), negotiated.dtls.unwrap())
    };
    for (at, other) in [(1, line(2)), (2, "a=setup:active".to_owned()), (3, id(1)), (3, "a=x".to_owned())] {
        let mut ours = side(required());
        let (before, dtls) = answer(&mut ours, &first);
        let (same, again) = answer(&mut ours, &first);
        assert_eq!((&again, same.media[0].attribute("tls-id")), (&dtls, before.media[0].attribute("tls-id")));
        let mut lines = first.clone();
        lines[at] = other.clone();
        let (after, next) = answer(&mut ours, &lines);
        assert_eq!(next.association, dtls.association + 1, "{other}");
        if lines[3] == first[3] {
            assert_eq!(next.role == DtlsRole::Server, at == 2, "{other}");
        }
        let names = [&before, &after].map(|it| it.media[0].attribute("tls-id").map(str::to_owned));
        assert_eq!(names[1].is_some(), lines[3] != "a=x", "named only if the peer has names");
        assert!(names[0].is_some() && names[0] != names[1]);
    }
}

#[test]
fn security_is_never_less_than_asked_for() {
    let with = |protocol: &str, extra: &str| sdp(&[&format!("m=audio 4000 {protocol} 8"), extra]);
    let secret = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";
    let print = line(3);
    assert_eq!(refused(required(), &with("RTP/AVP", "a=x")), Refusal::NotSecure);
    assert_eq!(refused(required(), &with("RTP/AVP", secret)), Refusal::NotSecure, "keys come from DTLS only");
    assert_eq!(refused(required(), &with("RTP/SAVP", secret)), Refusal::SecurityNotSupported);
    assert_eq!(refused(required(), &with("UDP/TLS/RTP/SAVP", "a=x")), Refusal::SecurityNotSupported);
    let old = Capability { security: Security::Required, ..capability() };
    assert_eq!(refused(old.clone(), &with("UDP/TLS/RTP/SAVP", &print)), Refusal::SecurityNotSupported);
    assert_eq!(refused(old, &with("UDP/TLS/RTP/SAVP", secret)), Refusal::SecurityNotSupported);
    assert_eq!(refused(capability(), &with("UDP/TLS/RTP/SAVP", &print)), Refusal::SecurityNotSupported);
    let off = with_dtls(Security::Off, 1);
    assert_eq!(refused(off.clone(), &with("UDP/TLS/RTP/SAVP", &print)), Refusal::SecurityNotSupported);
    assert_eq!(answered(off, &with("RTP/AVP", &print)).1.dtls, None);
    for protocol in ["RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"]
    {
        let (answer, negotiated) = answered(required(), &with(protocol, &print));
        assert_eq!(answer.media[0].protocol.name(), protocol);
        assert!(negotiated.dtls.is_some() && answer.media[0].has("fingerprint"), "{protocol}");
    }
}

#[test]
fn optional_is_encrypted_with_whom_it_can_be() {
    let mut chance = Chance::from_number(5);
    let optional = || with_dtls(Security::Optional, 0xA5);
    let mut ours = side(optional());
    let offer = Session::read(&ours.offer(&mut chance)).unwrap();
    assert_eq!((offer.media[0].protocol.clone(), offer.media[0].has("fingerprint")), (Protocol::Avp, true));
    let plain: Negotiated = ours.accept(&sdp(&["m=audio 4000 RTP/AVP 8"])).unwrap();
    assert!(!plain.is_secure());
    let mut ours = side(optional());
    let (told, _) = turn(&mut ours, &mut side(optional()), &mut chance);
    assert_eq!(told.fingerprints, [fingerprint(0xA5)]);
    assert!(!answered(optional(), &sdp(&["m=audio 4000 RTP/AVP 8"])).1.is_secure());
    let mut ours = side(required());
    ours.offer(&mut chance);
    assert_eq!(ours.accept(&sdp(&["m=audio 4000 RTP/AVP 8"])), Err(Refusal::NotSecure));
    assert_eq!(ours.accept(&sdp(&[TLS])), Err(Refusal::NotSecure));
}

#[test]
fn the_lines_of_the_medium_come_before_those_of_the_session() {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n{}\r\na=setup:active\r\n\
         m=audio 4000 UDP/TLS/RTP/SAVP 8\r\n",
        line(1)
    );
    let (_, negotiated) = answered(required(), text.as_bytes());
    let dtls = negotiated.dtls.unwrap();
    assert_eq!((dtls.role, dtls.fingerprints), (DtlsRole::Server, vec![fingerprint(1)]));
    let near = format!("{text}a=fingerprint:sha-1 00\r\n{}\r\n{}\r\na=setup:passive\r\n", line(2), line(3));
    let dtls = answered(required(), near.as_bytes()).1.dtls.unwrap();
    assert_eq!((dtls.role, dtls.fingerprints), (DtlsRole::Client, vec![fingerprint(2), fingerprint(3)]));
    // A medium with a fingerprint that proves nothing is not saved by the session's.
    let weak = format!("{text}a=fingerprint:sha-1 00\r\n");
    assert_eq!(refused(required(), weak.as_bytes()), Refusal::SecurityNotSupported);
}

#[test]
fn a_secure_offer_can_name_early_feedback() {
    let mut ours = side(Capability { feedback: true, ..required() });
    let offer = Session::read(&ours.offer(&mut Chance::from_number(1))).unwrap();
    assert_eq!(offer.media[0].protocol, Protocol::TlsSavpf);
}

#[test]
fn some_say_in_the_old_way_that_an_association_is_new() {
    let mut chance = Chance::from_number(5);
    let mut ours = side(required());
    let answer = |word: &str| sdp(&[TLS, &line(1), "a=setup:passive", &format!("a=connection:{word}")]);
    let numbers: Vec<u32> =
        [("new", true), ("new", false), ("existing", true), ("new", true), ("new", false)]
            .into_iter()
            .map(|(word, offers)| {
                if offers {
                    ours.offer(&mut chance);
                }
                ours.accept(&answer(word)).unwrap().dtls.unwrap().association
            })
            .collect();
    // The 200 after a 183 answers the same offer.
    assert_eq!(numbers, [1, 1, 1, 2, 2]);
}

//! Messages as a whole that readers of SIP get wrong: lines, names, lengths, truncation, garbage.

use super::{dropped, message, refused, request, response, stream, wire};
use crate::sip::fault::Fault;
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::reader::read_datagram;
use crate::sip::uri::Uri;

const SDP: &str = "v=0\r\n";

/// A usual INVITE with its first line, some lines in place of usual ones and some more.
pub(super) fn invite(start: &str, lines: &[&str]) -> String {
    let usual = [
        "Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK77",
        "Max-Forwards: 70",
        "From: \"Alice\" <sip:alice@example.com>;tag=a1",
        "To: <sip:bob@example.com>",
        "Call-ID: c1@192.0.2.7",
        "CSeq: 5 INVITE",
        "Contact: <sip:alice@192.0.2.7>",
        "Content-Type: application/sdp",
        "Content-Length: 5",
    ];
    let name = |line: &str| line.split([':', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
    let mut text = format!("{start}\r\n");
    for line in usual {
        let replaced: Vec<_> = lines.iter().filter(|own| name(own) == name(line)).collect();
        for line in if replaced.is_empty() { vec![&line] } else { replaced } {
            text.push_str(&format!("{line}\r\n"));
        }
    }
    for line in lines.iter().filter(|own| usual.iter().all(|line| name(line) != name(own))) {
        text.push_str(&format!("{line}\r\n"));
    }
    text + "\r\n" + SDP
}

pub(super) const START: &str = "INVITE sip:bob@example.com SIP/2.0";

#[test]
fn a_plain_invite() {
    let request = request(invite(START, &[]));
    assert_eq!((request.method, request.uri.to_string()), (Method::INVITE, "sip:bob@example.com".into()));
    assert_eq!(request.head.from.display.as_deref(), Some("Alice"));
    assert_eq!(request.body, SDP.as_bytes());
}

#[test]
fn compact_names_are_the_long_ones_and_their_length_is_obeyed() {
    let text = wire(
        "INVITE sip:bob@example.com SIP/2.0
v: SIP/2.0/UDP h;branch=z9hG4bK1
f: <sip:a@b>;tag=1
t: <sip:c@d>
i: c1
CSeq: 1 INVITE
m: <sip:a@h>
c: application/sdp
s: Hello
k: timer
x: 1800
l: 5

v=0
rest that is not the body",
    );
    let request = request(text);
    assert_eq!((request.head.call_id.as_str(), request.head.via.len()), ("c1", 1));
    for name in ["Contact", "Content-Type", "Subject", "Supported", "Session-Expires"] {
        assert!(request.fields.has(name), "{name}");
    }
    assert_eq!(request.body, SDP.as_bytes());
}

#[test]
fn folded_lines_are_joined() {
    let request = request(invite(
        START,
        &[
            "From: \"Alice\"\r\n <sip:alice@example.com>\r\n\t;tag=a1",
            "Via: SIP/2.0/UDP 192.0.2.7:5060\r\n ;branch=z9hG4bK77;rport",
            "Subject: I know\r\n   you're there",
        ],
    ));
    assert_eq!(request.head.from_tag(), Some("a1"));
    assert_eq!(request.head.top_via().unwrap().branch(), Some("z9hG4bK77"));
    assert_eq!(request.head.top_via().unwrap().rport(), Some(None));
    assert_eq!(request.fields.get("Subject"), Some(&b"I know you're there"[..]));
}

#[test]
fn lists_in_one_line_are_lists() {
    let request = request(invite(
        START,
        &[
            "Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK2",
            "Contact: \"A, B\" <sip:a@h>, <sip:b@h>",
            "Route: <sip:p1;lr>,<sip:p2;lr>",
        ],
    ));
    assert_eq!(request.head.via[1].branch(), Some("z9hG4bK2"));
    let contacts = request.fields.contacts().unwrap().unwrap();
    assert_eq!(contacts.list()[0].display.as_deref(), Some("A, B"));
    assert_eq!((contacts.list().len(), request.fields.routes().unwrap().len()), (2, 2));
}

#[test]
fn names_and_blanks_in_any_form() {
    let request = request(invite(
        START,
        &[
            "CALL-id:c2",
            "cONTACT: <sip:x@y>",
            "To : <sip:bob@example.com>",
            "CSeq:\t 5  INVITE ",
            "Subject:",
            "X-A:\t b \t ",
        ],
    ));
    assert_eq!((request.head.call_id.as_str(), request.head.cseq.number), ("c2", 5));
    assert_eq!(request.fields.get("Subject"), Some(&b""[..]));
    assert_eq!(request.fields.get("x-a"), Some(&b"b"[..]));
}

#[test]
fn methods_are_kept_as_they_are() {
    for (method, known) in [("FOO", false), ("invite", false), ("PRACK", true)] {
        let read = request(invite(
            &format!("{method} sip:bob@example.com SIP/2.0"),
            &[&format!("CSeq: 5 {method}")],
        ));
        assert_eq!((read.method.as_str(), read.method.is_known()), (method, known));
    }
}

#[test]
fn request_uris_of_every_kind() {
    for (uri, user) in [
        ("sips:bob@example.com", Some("bob")),
        ("SIP:bob@example.com", Some("bob")),
        ("tel:+15551234567", Some("+15551234567")),
        ("sip:bob@[2001:db8::1]:5070", Some("bob")),
        ("sip:bob@h;transport=tcp;maddr=192.0.2.9;lr", Some("bob")),
        ("sip:192.0.2.9", None),
    ] {
        // A URI in a later field must not confuse what the first line says.
        let read = request(invite(&format!("INVITE {uri} SIP/2.0"), &["Alert-Info: <http://h/a.wav>"]));
        assert_eq!(read.uri.user().as_deref(), user, "{uri}");
        assert!(read.uri.equivalent(&Uri::parse(uri).unwrap()));
    }
}

#[test]
fn empty_lines_before_a_message_are_skipped() {
    assert_eq!(request(format!("\r\n\r\n{}", invite(START, &[]))).method, Method::INVITE);
}

#[test]
fn a_line_feed_alone_ends_no_line() {
    assert_eq!(dropped(invite(START, &[]).replace("\r\n", "\n")), Fault::NotSip);
    let (why, _) = refused(invite(START, &["Subject: a\nVia: SIP/2.0/UDP evil"]));
    assert_eq!(why, Fault::ControlOctet);
}

#[test]
fn nul_and_carriage_return_alone_are_refused() {
    for value in ["a\0b", "a\rb", "a\r\r"] {
        let (why, reply) = refused(invite(START, &[&format!("Subject: {value}")]));
        assert_eq!(why, Fault::ControlOctet);
        assert!(reply.starts_with("SIP/2.0 400 Control Character In Header\r\n"), "{reply}");
    }
}

#[test]
fn lines_that_are_no_fields_are_refused() {
    for line in ["no colon here", ": nameless", "two words: x", "b\u{e9}: x"] {
        assert_eq!(refused(invite(START, &[line])).0, Fault::FieldLine, "{line}");
    }
    let folded_first = invite(START, &[]).replacen("\r\nVia", "\r\n Subject: x\r\nVia", 1);
    assert!(read_datagram(folded_first.as_bytes()).is_err());
}

#[test]
fn what_is_cut_off_is_no_message() {
    assert_eq!(
        dropped("INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9"),
        Fault::Truncated
    );
    let text = invite(START, &[]);
    let head = text.split("\r\n\r\n").next().unwrap();
    assert_eq!(refused(head).0, Fault::Truncated);
    assert_eq!(refused(format!("{head}\r\n")).0, Fault::Truncated);
    for end in 0..text.len() {
        // Whatever is cut off, nothing is made up: what is read as a message has a whole head.
        if let Ok(Some(message)) = read_datagram(&text.as_bytes()[..end]) {
            panic!("{end}: {message:?}");
        }
    }
}

#[test]
fn the_body_without_content_length_is_the_rest() {
    let text = invite(START, &[]).replace("Content-Length: 5\r\n", "");
    assert_eq!(request(text).body, SDP.as_bytes());
}

#[test]
fn content_length_must_fit() {
    assert_eq!(request(invite(START, &["Content-Length: 3"])).body, b"v=0");
    for (value, why) in [
        ("6", Fault::ContentLengthBeyondDatagram),
        ("-1", Fault::Malformed("Content-Length")),
        ("99999999999999999999", Fault::Malformed("Content-Length")),
        ("18446744073709551615", Fault::Malformed("Content-Length")),
        ("4294967295", Fault::ContentLengthBeyondDatagram),
        ("5abc", Fault::Malformed("Content-Length")),
        ("+5", Fault::Malformed("Content-Length")),
        ("5, 5", Fault::Malformed("Content-Length")),
        ("", Fault::Malformed("Content-Length")),
    ] {
        assert_eq!(refused(invite(START, &[&format!("Content-Length: {value}")])).0, why, "{value}");
    }
    for other in ["4", "5"] {
        let (why, _) = refused(invite(START, &["Content-Length: 5", &format!("l: {other}")]));
        assert_eq!(why, Fault::Repeated("Content-Length"));
    }
}

#[test]
fn octets_beyond_ascii_survive() {
    let mut text = invite(START, &["Subject: caf\u{1}", "X-After: yes"]).into_bytes();
    let at = text.iter().position(|&octet| octet == 1).unwrap();
    text[at] = 0xe9;
    let read = request(&text);
    assert_eq!(read.fields.get("Subject"), Some(&b"caf\xe9"[..]));
    assert_eq!(read.fields.text("Subject").as_deref(), Some("café"));
    assert_eq!(read.fields.get("X-After"), Some(&b"yes"[..]));
    assert!(read.write().windows(4).any(|window| window == b"caf\xe9"));

    let name = invite(START, &["From: \"J\u{1}rgen\" <sip:a@b>;tag=1"]).into_bytes();
    let latin: Vec<u8> = name.iter().map(|&octet| if octet == 1 { 0xfc } else { octet }).collect();
    assert_eq!(request(latin).head.from.display.as_deref(), Some("Jürgen"));
    let utf8 = invite(START, &["From: \"Jürgen 停電\" <sip:a@b>;tag=1"]);
    assert_eq!(request(utf8).head.from.display.as_deref(), Some("Jürgen 停電"));
}

#[test]
fn a_binary_body_is_untouched() {
    let body: Vec<u8> = (0..=255).collect();
    let head = invite(START, &["Content-Length: 256"]);
    let text = [head.strip_suffix(SDP).unwrap().as_bytes(), &body].concat();
    let read = message(&text);
    assert_eq!(read.body(), body);
    assert!(read.write().ends_with(&body));
}

#[test]
fn keep_alives_are_no_messages() {
    for octets in [&b""[..], b"\r\n", b"\r\n\r\n", b"\r\n\0", b"\0\0\0\0", b"\0", b" \r\n"] {
        assert_eq!(read_datagram(octets), Ok(None));
    }
}

#[test]
fn what_is_not_sip_is_dropped() {
    let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    for octets in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        stun,
        b"\x80\x00\x00\x01\x00\x00\x00\xa0\x12\x34\x56\x78",
        b"hello",
        b"INVITE\r\n\r\n",
        b"INVITE sip:a@b\r\n\r\n",
        b" SIP/2.0\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ] {
        assert_eq!(dropped(octets), Fault::NotSip);
    }
    let [Err(error)] = &stream(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[..] else { panic!("one error") };
    assert_eq!((error.why, error.fatal, &error.reply), (Fault::NotSip, true, &None));
}

#[test]
fn cseq_numbers_have_their_range() {
    for good in ["0", "2147483647", "2147483648", "4294967295"] {
        assert_eq!(
            request(invite(START, &[&format!("CSeq: {good} INVITE")])).head.cseq.number.to_string(),
            good
        );
    }
    for bad in ["4294967296 INVITE", "-1 INVITE", "5", "INVITE", "5 INVITE x", "5INVITE", ""] {
        assert_eq!(refused(invite(START, &[&format!("CSeq: {bad}")])).0, Fault::Malformed("CSeq"), "{bad}");
    }
}

#[test]
fn request_uris_that_are_none_are_refused() {
    for uri in ["sip:bob@h:99999", "sip:", "sip:<bob>@h", "sip:\"bob\"@h", "*", "bob", "sip:b ob@h"] {
        let (why, reply) = refused(invite(&format!("INVITE {uri} SIP/2.0"), &[]));
        assert_eq!(why, Fault::RequestUri, "{uri}");
        assert!(reply.starts_with("SIP/2.0 400 Malformed Request-URI\r\n"), "{reply}");
    }
}

fn response_with(start: &str) -> String {
    invite(start, &[]).replace("Max-Forwards: 70\r\n", "")
}

#[test]
fn status_lines() {
    for (start, status, reason) in [
        ("SIP/2.0 699 Whatever", 699, "Whatever"),
        ("SIP/2.0 180 Klingelt", 180, "Klingelt"),
        ("SIP/2.0 200 ", 200, ""),
        ("SIP/2.0 200", 200, ""),
        ("sip/2.0 200 OK", 200, "OK"),
        ("SIP/2.0 486 Besetzt, bitte warten", 486, "Besetzt, bitte warten"),
    ] {
        let read = response(response_with(start));
        assert_eq!((read.status, read.reason.as_str()), (status, reason));
    }
    for (start, why) in [
        ("SIP/2.0 99 Low", Fault::Status),
        ("SIP/2.0 1000 High", Fault::Status),
        ("SIP/2.0 0200 OK", Fault::Status),
        ("SIP/2.0 700 High", Fault::Status),
        ("SIP/2.0 OK", Fault::Status),
        ("SIP/2.0  200 OK", Fault::Status),
        ("SIP/3.0 200 OK", Fault::Version),
        ("SIP/2.0200 OK", Fault::Version),
    ] {
        assert_eq!(dropped(response_with(start)), why, "{start}");
    }
}

#[test]
fn a_response_with_a_strange_contact_still_counts() {
    let read = response(response_with("SIP/2.0 200 OK").replace("<sip:alice@192.0.2.7>", "nonsense"));
    assert_eq!(read.status, 200);
    assert!(read.fields.contacts().is_err());
    assert!(matches!(message(response_with("SIP/2.0 200 OK")), Message::Response(_)));
}

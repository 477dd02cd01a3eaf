//! RFC 4475 §3.1.2: messages that are not valid, and the treatment that each gets here.

use super::{dropped, refused, request, stream, unreadable, wire};
use crate::sip::fault::Fault;

/// A request that is right but for the lines given: the first line, and lines in place of or after the usual
/// ones.
fn with(start: &str, replace: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{start}\n");
    let method = start.split(' ').next().unwrap();
    let usual = [
        ("Via", "Via: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw".to_owned()),
        ("Max-Forwards", "Max-Forwards: 70".into()),
        ("To", "To: <sip:t.watson@example.org>".into()),
        ("From", "From: <sip:a.g.bell@example.com>;tag=43".into()),
        ("Call-ID", "Call-ID: invalid.0ha0isnda977644900765@192.0.2.15".into()),
        ("CSeq", format!("CSeq: 8 {method}")),
        ("Contact", "Contact: <sip:a.g.bell@192.0.2.15>".into()),
        ("Content-Length", "Content-Length: 0".into()),
    ];
    for (name, line) in &usual {
        let line =
            replace.iter().find(|(replaced, _)| replaced == name).map_or(line.as_str(), |(_, line)| line);
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (_, line) in replace.iter().filter(|(name, _)| usual.iter().all(|(known, _)| known != name)) {
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    wire(&text)
}

const INVITE: &str = "INVITE sip:user@example.com SIP/2.0";
const OPTIONS: &str = "OPTIONS sip:t.watson@example.org SIP/2.0";
const REGISTER: &str = "REGISTER sip:example.com SIP/2.0";

#[test]
fn the_unchanged_message_is_valid() {
    assert_eq!(request(with(INVITE, &[])).head.cseq.number, 8);
}

/// §3.1.2.1: separators with nothing between them, in Contact and in Via.
#[test]
fn badinv01() {
    let via = ("Via", "Via: SIP/2.0/UDP 192.0.2.15;;,;,,");
    let (why, reply) =
        refused(with(INVITE, &[via, ("Contact", "Contact: \"Joe\" <sip:joe@example.org>;;;;")]));
    assert_eq!(why, Fault::Malformed("Via"));
    assert!(reply.starts_with("SIP/2.0 400 Malformed Via\r\nVia: SIP/2.0/UDP 192.0.2.15\r\n"), "{reply}");
    let (why, _) = refused(with(INVITE, &[("Contact", "Contact: \"Joe\" <sip:joe@example.org>;;;;")]));
    assert_eq!(why, Fault::Malformed("Contact"));
}

/// §3.1.2.2: Content-Length is larger than the datagram; in a stream the rest is still to come.
#[test]
fn clerr() {
    let text = with(INVITE, &[("Content-Length", "Content-Length: 9999")]);
    let (why, reply) = refused(&text);
    assert_eq!(why, Fault::ContentLengthBeyondDatagram);
    assert!(reply.starts_with("SIP/2.0 400 "), "{reply}");
    assert!(
        reply.contains("\r\nCall-ID: invalid.0ha0isnda977644900765@192.0.2.15\r\nCSeq: 8 INVITE\r\n"),
        "{reply}"
    );
    assert_eq!(stream(&text), []);
}

/// §3.1.2.3: Content-Length is negative. A stream can't go on after it.
#[test]
fn ncl() {
    let text = with(INVITE, &[("Content-Length", "Content-Length: -999")]);
    assert_eq!(refused(&text).0, Fault::Malformed("Content-Length"));
    let [Err(error)] = &stream(&text)[..] else { panic!("one error") };
    assert!(error.fatal && error.reply.as_ref().is_some_and(|reply| reply.status == 400));
}

/// §3.1.2.4: numbers that are too large: CSeq and Max-Forwards are refused, Expires counts as the largest
/// number.
#[test]
fn scalar02() {
    let cseq = ("CSeq", "CSeq: 36893488147419103232 REGISTER");
    let forwards = ("Max-Forwards", "Max-Forwards: 300");
    let expires = ("Expires", "Expires: 10000000000000000000000000000000");
    let contact = ("Contact", "Contact: <sip:user@host129.example.com>;expires=280297596632815");
    assert_eq!(refused(with(REGISTER, &[cseq, expires, contact])).0, Fault::Malformed("CSeq"));
    let (why, reply) = refused(with(REGISTER, &[forwards, cseq, expires, contact]));
    assert_eq!(why, Fault::Malformed("Max-Forwards"));
    assert!(reply.starts_with("SIP/2.0 400 "), "{reply}");
    let request = request(with(REGISTER, &[expires, contact]));
    assert_eq!(request.fields.number("Expires"), Ok(Some(u32::MAX)));
    assert_eq!(request.fields.contact().unwrap().unwrap().expires(), Some(u32::MAX));
}

/// §3.1.2.5: the same in a response, which is dropped.
#[test]
fn scalarlg() {
    let text = wire(
        "SIP/2.0 503 Service Unavailable
Via: SIP/2.0/TCP host129.example.com;branch=z9hG4bKzzxdiwo34sw;received=192.0.2.129
To: <sip:user@example.com>
From: <sip:other@example.net>;tag=2easdjfejw
CSeq: 9292394834772304023312 OPTIONS
Call-ID: scalarlg.noase0of0234hn2qofoaf0232aewf2394r
Retry-After: 949302838503028349304023988
Warning: 1812 overture \"In Progress\"
Content-Length: 0

",
    );
    assert_eq!(dropped(text), Fault::Malformed("CSeq"));
}

/// §3.1.2.6: a quoted name without its second quotation mark.
#[test]
fn quotbal() {
    let (why, reply) = refused(with(INVITE, &[("To", "To: \"Mr. J. User <sip:j.user@example.com>")]));
    assert_eq!(why, Fault::Malformed("To"));
    assert!(reply.starts_with("SIP/2.0 400 Malformed To\r\n"), "{reply}");
    assert!(reply.contains("\r\nTo: \"Mr. J. User <sip:j.user@example.com>\r\n"), "{reply}");
    let contact = ("Contact", "Contact: \"Joe <sip:joe@example.org>");
    assert_eq!(refused(with(INVITE, &[contact])).0, Fault::Malformed("Contact"));
}

/// §3.1.2.7: angle brackets around the Request-URI.
#[test]
fn ltgtruri() {
    let (why, reply) = refused(with("INVITE <sip:user@example.com> SIP/2.0", &[]));
    assert_eq!(why, Fault::RequestUri);
    assert!(reply.starts_with("SIP/2.0 400 Malformed Request-URI\r\n"), "{reply}");
}

/// §3.1.2.8: a blank in the Request-URI.
#[test]
fn lwsruri() {
    assert_eq!(refused(with("INVITE sip:user@example.com; lr SIP/2.0", &[])).0, Fault::RequestUri);
}

/// §3.1.2.9: several blanks between the words of the first line.
#[test]
fn lwsstart() {
    let (why, reply) = refused(with("INVITE  sip:user@example.com  SIP/2.0", &[("CSeq", "CSeq: 8 INVITE")]));
    assert_eq!(why, Fault::StartLine);
    assert!(reply.starts_with("SIP/2.0 400 Malformed Request-Line\r\n"), "{reply}");
}

/// §3.1.2.10: blanks at the end of the first line.
#[test]
fn trws() {
    assert_eq!(refused(with("OPTIONS sip:remote-target@example.com SIP/2.0  ", &[])).0, Fault::StartLine);
}

/// §3.1.2.11: headers in the Request-URI.
#[test]
fn escruri() {
    let start = "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0";
    assert_eq!(refused(with(start, &[])).0, Fault::RequestUri);
}

/// §3.1.2.12: a Date that is not in GMT. Nothing here depends on Date, so that it is left alone.
#[test]
fn baddate() {
    let request = request(with(INVITE, &[("Date", "Date: Fri, 01 Jan 2010 16:00:00 EST")]));
    assert_eq!(request.fields.text("Date").as_deref(), Some("Fri, 01 Jan 2010 16:00:00 EST"));
}

/// §3.1.2.13: headers in a Contact without angle brackets.
#[test]
fn regbadct() {
    let contact = ("Contact", "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E");
    let (why, reply) = refused(with(REGISTER, &[contact]));
    assert_eq!(why, Fault::Malformed("Contact"));
    assert!(reply.starts_with("SIP/2.0 400 Malformed Contact\r\n"), "{reply}");
}

/// §3.1.2.14: blanks inside angle brackets. Those at the ends do no harm; others do.
#[test]
fn badaspec() {
    let request = request(with(OPTIONS, &[("To", "To: \"Watson, Thomas\" < sip:t.watson@example.org >")]));
    assert_eq!(request.head.to.uri.to_string(), "sip:t.watson@example.org");
    let inside = ("To", "To: \"Watson, Thomas\" <sip:t.watson @example.org>");
    assert_eq!(refused(with(OPTIONS, &[inside])).0, Fault::Malformed("To"));
}

/// §3.1.2.15: a comma in an unquoted display name. It is taken as meant where there is no list.
#[test]
fn baddn() {
    let request = request(with(
        OPTIONS,
        &[
            ("From", "From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43"),
            ("To", "To: Watson, Thomas <sip:t.watson@example.org>"),
        ],
    ));
    assert_eq!(request.head.from.display.as_deref(), Some("Bell, Alexander"));
    assert_eq!(request.head.to.display.as_deref(), Some("Watson, Thomas"));
    assert_eq!(request.head.from_tag(), Some("43"));
}

/// §3.1.2.16: a version that is not there yet.
#[test]
fn badvers() {
    let via = ("Via", "Via: SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw");
    let (why, reply) = refused(with("OPTIONS sip:t.watson@example.org SIP/7.0", &[via]));
    assert_eq!(why, Fault::Version);
    assert!(
        reply.starts_with(
            "SIP/2.0 505 Version Not Supported\r\nVia: SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw\r\n"
        ),
        "{reply}"
    );
}

/// §3.1.2.17: CSeq names another method.
#[test]
fn mismatch01() {
    let (why, reply) = refused(with(OPTIONS, &[("CSeq", "CSeq: 8 INVITE")]));
    assert_eq!(why, Fault::CSeqMethod);
    assert!(reply.starts_with("SIP/2.0 400 "), "{reply}");
}

/// §3.1.2.18: CSeq names another method than an unknown one.
#[test]
fn mismatch02() {
    let start = "NEWMETHOD sip:user@example.com SIP/2.0";
    let (why, reply) = refused(with(start, &[("CSeq", "CSeq: 8 INVITE")]));
    assert_eq!(why, Fault::UnknownMethod);
    assert!(reply.starts_with("SIP/2.0 501 Not Implemented\r\n"), "{reply}");
}

/// §3.1.2.19: a status that no integer holds.
#[test]
fn bigcode() {
    let text = wire(
        "SIP/2.0 4294967301 better not break the receiver
Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: bigcode.asdof3uj203asdnf3429uasdhfas3ehjasdfas9i
CSeq: 353494 INVITE
From: <sip:user@example.com>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.com>

",
    );
    assert_eq!(dropped(text), Fault::Status);
}

/// An ACK is never answered, whatever is wrong with it (RFC 3261 §17.1.1.3).
#[test]
fn a_malformed_ack_is_dropped() {
    let text = with("ACK sip:user@example.com SIP/2.0", &[("To", "To: \"x <sip:y@z>")]);
    assert_eq!(unreadable(&text).reply, None);
    assert_eq!(dropped(text), Fault::Malformed("To"));
}

/// The tag that an answer adds is the same for every retransmission, and another one for another call.
#[test]
fn answers_are_the_same_for_retransmissions() {
    let text = with(INVITE, &[("Content-Length", "Content-Length: x")]);
    let (_, first) = refused(&text);
    assert_eq!(refused(&text).1, first);
    assert!(first.contains("To: <sip:t.watson@example.org>;tag="), "{first}");
    let other =
        with(INVITE, &[("Call-ID", "Call-ID: other@192.0.2.15"), ("Content-Length", "Content-Length: x")]);
    let tag = |reply: &str| reply.split(";tag=").nth(2).unwrap().lines().next().unwrap().to_owned();
    assert_ne!(tag(&refused(other).1), tag(&first));
}

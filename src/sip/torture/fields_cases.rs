//! Addresses, URIs and hops inside messages that readers of SIP get wrong.

use super::edge_cases::{START, invite};
use super::{refused, request};
use crate::sip::fault::Fault;
use crate::sip::message::Request;
use crate::sip::name_addr::{Contacts, NameAddr};
use crate::sip::via::Via;

fn with(line: &str) -> Request {
    request(invite(START, &[line]))
}

fn from(value: &str) -> NameAddr {
    with(&format!("From: {value}")).head.from
}

fn contact(value: &str) -> NameAddr {
    with(&format!("Contact: {value}")).fields.contact().unwrap().unwrap()
}

fn via(value: &str) -> Via {
    with(&format!("Via: {value}")).head.via.remove(0)
}

#[test]
fn display_names() {
    for (value, display) in [
        (r#""A \"B\" \\" <sip:a@b>;tag=1"#, r#"A "B" \"#),
        ("\"x <sip:evil@h>;tag=9, y\" <sip:a@b>;tag=1", "x <sip:evil@h>;tag=9, y"),
        ("Alice von Wonder <sip:a@b>;tag=1", "Alice von Wonder"),
        ("\"Ünïcode 停\" <sip:a@b>;tag=1", "Ünïcode 停"),
    ] {
        let read = from(value);
        assert_eq!(read.display.as_deref(), Some(display));
        assert_eq!((read.uri.to_string().as_str(), read.tag()), ("sip:a@b", Some("1")));
    }
}

#[test]
fn parameters_of_addresses() {
    assert_eq!(from("sip:a@b;tag=1").tag(), Some("1"));
    assert!(from("sip:a@b;tag=1").uri.as_sip().unwrap().params.is_empty());
    assert_eq!(from("<sip:a@b>;x=\"a;b\";tag=1").param("x").as_deref(), Some("a;b"));
    let spaced = from("<sip:a@b> ; tag = 1 ; y");
    assert_eq!((spaced.tag(), spaced.params.len()), (Some("1"), 2));
    let tel = from("<tel:+1-201-555-0123;phone-context=x>;tag=1");
    assert_eq!((tel.uri.scheme(), tel.tag()), ("tel", Some("1")));
}

#[test]
fn uris_in_addresses() {
    assert_eq!(from("<sip:john.doe@example.com>;tag=1").uri.user().as_deref(), Some("john.doe"));
    let number = from("<sip:7042;phone-context=+1@host;user=phone>;tag=1");
    assert_eq!(number.uri.user().as_deref(), Some("7042;phone-context=+1"));
    assert_eq!(number.uri.as_sip().unwrap().param("user").as_deref(), Some("phone"));
    let headers = from("<sip:a@b?Subject=x>;tag=1");
    assert_eq!(headers.uri.as_sip().unwrap().headers, [("Subject".into(), "x".into())]);
    assert_eq!(from("<sip:a:pw@h>;tag=1").uri.as_sip().unwrap().password().as_deref(), Some("pw"));
}

#[test]
fn contacts_of_every_kind() {
    let instance =
        contact("<sip:a@h;ob>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\";reg-id=1");
    assert_eq!(
        instance.param("+sip.instance").as_deref(),
        Some("<urn:uuid:00000000-0000-1000-8000-000A95A0E128>")
    );
    assert_eq!(instance.param("reg-id").as_deref(), Some("1"));
    let gruu = contact("<sip:a@h;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>");
    assert_eq!(
        gruu.uri.as_sip().unwrap().param("gr").as_deref(),
        Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    );
    assert_eq!(contact("<sip:a@h;transport=foo>").uri.as_sip().unwrap().transport().as_deref(), Some("foo"));
    let star = request(invite("REGISTER sip:h SIP/2.0", &["CSeq: 5 REGISTER", "Contact: *"]));
    assert_eq!(star.fields.contacts(), Ok(Some(Contacts::Star)));
}

#[test]
fn hops_of_every_kind() {
    let spaced = via("SIP / 2.0 / UDP h : 5060 ; branch= z9hG4bK1");
    assert_eq!((spaced.sent_by().to_string().as_str(), spaced.branch()), ("h:5060", Some("z9hG4bK1")));
    assert_eq!(via("SIP/2.0/UDP h;rport;branch=z9hG4bK1").rport(), Some(None));
    let noted = via("SIP/2.0/UDP h;received=;rport=5060");
    assert_eq!((noted.received(), noted.rport()), (None, Some(Some(5060))));
    let v6 = via("SIP/2.0/UDP [2001:db8::1]:5070;received=[2001:db8::2]");
    assert_eq!((v6.port, v6.received()), (Some(5070), "2001:db8::2".parse().ok()));
    assert_eq!(via("SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK1").transport, "WSS");
    assert_eq!(via("SIP/2.0/XYZ h").transport, "XYZ");
}

#[test]
fn what_is_malformed_is_refused_by_name() {
    for (line, name) in [
        ("From: \"Alice <sip:a@b>;tag=1", "From"),
        ("From: <sip:a@b;tag=1", "From"),
        ("From: sip:a@b;tag=1;tag=2", "From"),
        ("From: ", "From"),
        ("To: *", "To"),
        ("Via: SIP/2.0/UDP h:99999;branch=z9hG4bK1", "Via"),
        ("Via: SIP/2.0/UDP h;branch=z9hG4bK1 junk {}", "Via"),
        ("Call-ID: two words", "Call-ID"),
        ("Call-ID: ", "Call-ID"),
        ("Call-ID: café", "Call-ID"),
        ("Max-Forwards: many", "Max-Forwards"),
        ("Contact: nonsense", "Contact"),
        ("Record-Route: <sip:a", "Record-Route"),
    ] {
        // A Via that does not even say where it comes from can't be answered.
        if line.contains("99999") {
            assert_eq!(super::dropped(invite(START, &[line])), Fault::Malformed(name));
            continue;
        }
        let (why, reply) = refused(invite(START, &[line]));
        assert_eq!(why, Fault::Malformed(name), "{line}");
        assert!(reply.starts_with(&format!("SIP/2.0 400 Malformed {name}\r\nVia: ")), "{reply}");
    }
}

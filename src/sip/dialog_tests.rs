//! What a dialog is made from, what it sends, and which requests it takes.

use super::*;
use crate::sip::message::Message;
use crate::sip::reader::read_datagram;

fn request(text: &str) -> Request {
    match read_datagram(text.replace('\n', "\r\n").as_bytes()) {
        Ok(Some(Message::Request(request))) => request,
        other => panic!("no request: {other:?}"),
    }
}

fn invite(fields: &str) -> Request {
    request(&format!(
        "INVITE sip:bob@b.example SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nMax-Forwards: 70\n\
         From: \"A\" <sip:alice@a.example>;tag=from\nTo: <sip:bob@b.example>\nCall-ID: c1\nCSeq: 7 INVITE\n\
         {fields}Content-Length: 0\n\n"
    ))
}

fn answer(invite: &Request, status: u16, tag: &str, fields: &[(&str, &str)]) -> Response {
    let mut response = Response::to(invite, status);
    response.fields = Fields::new();
    response.head.to.set_tag(tag);
    for (name, value) in fields {
        response.fields.push(name, *value);
    }
    response
}

fn routes(request: &Request) -> Vec<String> {
    request.fields.routes().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn the_caller_takes_the_record_route_in_reverse() {
    let invite = invite("Contact: <sip:alice@192.0.2.1>\n");
    let fields =
        [("Record-Route", "<sip:p2;lr>, <sip:p1;lr>"), ("Contact", "<sip:bob@192.0.2.2:5070;transport=udp>")];
    let mut dialog = Dialog::from_response(&invite, &answer(&invite, 180, "t1", &fields)).unwrap();
    let bye = dialog.request(Method::BYE);
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.2:5070;transport=udp");
    assert_eq!(routes(&bye), ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!((bye.head.from_tag(), bye.head.to_tag()), (Some("from"), Some("t1")));
    assert_eq!((bye.head.call_id.as_str(), bye.head.cseq.number), ("c1", 8));
    assert_eq!(dialog.request(Method::INFO).head.cseq.number, 9);
    assert_eq!(dialog.ack(7).head.cseq.number, 7);
    // The 2xx decides the route set anew.
    dialog.confirm(&answer(
        &invite,
        200,
        "t1",
        &[("Record-Route", "<sip:p3;lr>"), ("Contact", "<sip:bob@192.0.2.3>")],
    ));
    let bye = dialog.request(Method::BYE);
    assert_eq!(
        (bye.uri.to_string().as_str(), routes(&bye)),
        ("sip:bob@192.0.2.3", vec!["<sip:p3;lr>".to_owned()])
    );
}

#[test]
fn the_called_side_takes_it_as_it_stands() {
    let invite =
        invite("Contact: <sip:alice@192.0.2.1>\nRecord-Route: <sip:p2;lr>\nRecord-Route: <sip:p1;lr>\n");
    let dialog = Dialog::from_request(&invite, "mine").unwrap();
    let bye = dialog.request(Method::BYE);
    assert_eq!(routes(&bye), ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.1");
    assert_eq!((bye.head.from_tag(), bye.head.to_tag()), (Some("mine"), Some("from")));
    assert_eq!(bye.head.cseq.number, 1);
    assert_eq!(bye.head.to.to_string(), invite.head.from.to_string());
}

#[test]
fn a_strict_router_finds_itself_in_the_request_uri() {
    let invite = invite("Contact: <sip:alice@192.0.2.1>\nRecord-Route: <sip:strict>, <sip:p1;lr>\n");
    let bye = Dialog::from_request(&invite, "mine").unwrap().request(Method::BYE);
    assert_eq!(bye.uri.to_string(), "sip:strict");
    assert_eq!(routes(&bye), ["<sip:p1;lr>", "<sip:alice@192.0.2.1>"]);
}

#[test]
fn requests_must_come_in_order() {
    let mut dialog = Dialog::from_request(&invite("Contact: <sip:alice@192.0.2.1>\n"), "mine").unwrap();
    let mut info = invite("");
    info.method = Method::INFO;
    info.head.cseq.number = 9;
    assert_eq!(dialog.check_request(&info), Ok(()));
    assert_eq!(dialog.check_request(&info), Err(OutOfOrder { got: 9, last: 9 }));
    info.head.cseq.number = 8;
    assert!(dialog.check_request(&info).is_err());
    info.method = Method::ACK;
    assert_eq!(dialog.check_request(&info), Ok(()), "an ACK has its INVITE's number");
    info.method = Method::BYE;
    info.head.cseq.number = 4_000_000_000;
    assert_eq!(dialog.check_request(&info), Ok(()));
}

#[test]
fn what_makes_no_dialog_makes_none() {
    let plain = invite("");
    assert!(Dialog::from_request(&plain, "mine").is_none(), "no Contact");
    assert!(Dialog::from_response(&plain, &Response::to(&plain, 180)).is_none(), "no tag");
    assert!(Dialog::from_response(&plain, &answer(&plain, 100, "t", &[])).is_none());
    assert!(Dialog::from_response(&plain, &answer(&plain, 486, "t", &[("Contact", "<sip:b@h>")])).is_none());
    assert!(Dialog::from_response(&plain, &answer(&plain, 200, "t", &[("Contact", "*")])).is_none());
    let early = Dialog::from_response(&plain, &answer(&plain, 183, "t", &[])).unwrap();
    assert_eq!(early.target, plain.uri, "a provisional answer need not have one");
}

#[test]
fn a_dialog_is_known_by_call_id_and_both_tags() {
    let invite = invite("Contact: <sip:alice@192.0.2.1>\n");
    let dialog = Dialog::from_request(&invite, "mine").unwrap();
    let mut bye = invite.clone();
    bye.head.to.set_tag("mine");
    assert!(dialog.matches(&bye.head));
    bye.head.from.set_tag("other");
    assert!(!dialog.matches(&bye.head));
    assert!(!dialog.matches(&invite.head));
    // RFC 2543 knows no tags: an absent one is an empty one.
    let mut old = invite.clone();
    old.head.from = NameAddr::new(old.head.from.uri);
    let dialog = Dialog::from_request(&old, "mine").unwrap();
    old.head.to.set_tag("mine");
    assert!(dialog.matches(&old.head));
}

#[test]
fn the_sequence_is_one_for_all_who_hold_it() {
    let sequence = Sequence::new(5);
    let other = sequence.clone();
    assert_eq!((sequence.next(), other.next(), sequence.next(), other.last()), (5, 6, 7, 7));
    other.raise_to(20);
    other.raise_to(10);
    assert_eq!(sequence.next(), 21);
}

#[test]
fn routes_without_end_are_cut() {
    let many = (0..60).map(|number| format!("<sip:p{number};lr>")).collect::<Vec<_>>().join(", ");
    let invite = invite(&format!("Contact: <sip:a@h>\nRecord-Route: {many}\n"));
    assert_eq!(Dialog::from_request(&invite, "mine").unwrap().route_set.len(), 32);
}

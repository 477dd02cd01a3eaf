//! What is written is read back as it was, whatever the values; and no octets make the reader or the framer
//! fail.

use super::stream;
use crate::sip::framer::{Frame, Framer};
use crate::sip::host::Host;
use crate::sip::message::{Message, Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::reader::read_datagram;
use crate::sip::uri::{SipUri, Uri};
use crate::sip::via::Via;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// The same cases each time.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(4475), failure_persistence: None, ..Config::default() }
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Host::V4(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| Host::V6(octets.into())),
        "[a-z][a-z0-9-]{0,10}(\\.[a-z][a-z0-9]{0,8}){0,3}".prop_map(Host::Name),
    ]
}

fn uri() -> impl Strategy<Value = Uri> {
    let sip = (
        proptest::option::of("[ -~é停]{1,12}"),
        host(),
        proptest::option::of(1u16..),
        any::<bool>(),
        0..3usize,
    );
    prop_oneof![
        4 => sip.prop_map(|(user, host, port, secure, params)| {
            let mut uri = SipUri::new(user.as_deref(), host).with_port(port);
            uri.secure = secure;
            if params > 0 {
                uri.params.set("lr", None);
            }
            if params > 1 {
                uri.params.set_raw("transport", "tcp");
            }
            Uri::Sip(uri)
        }),
        1 => "tel:\\+[0-9]{3,15}".prop_map(|text| Uri::parse(text).unwrap()),
        1 => "urn:[a-z]{1,9}:[a-z]{1,9}".prop_map(|text| Uri::parse(text).unwrap()),
    ]
}

fn address() -> impl Strategy<Value = NameAddr> {
    (proptest::option::of(any::<String>()), uri(), proptest::option::of("[A-Za-z0-9]{1,12}")).prop_map(
        |(display, uri, tag)| {
            // What can't be said in a quoted string becomes a blank when it is written.
            let display = display.map(|display| display.replace(['\r', '\n'], " "));
            let address = NameAddr::new(uri).with_display(display.as_deref());
            match tag {
                Some(tag) => address.with_tag(&tag),
                None => address,
            }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let via = (host(), proptest::option::of(1u16..), "[a-z0-9]{1,10}").prop_map(|(host, port, branch)| {
        Via::new("UDP", crate::sip::host::HostPort { host, port }, &format!("z9hG4bK{branch}"))
    });
    (
        "[A-Z]{1,9}",
        uri(),
        (address(), address(), "[!-~]{1,30}"),
        any::<u32>(),
        proptest::collection::vec(via, 1..4),
        proptest::collection::vec(("X-[a-z]{1,8}", "[ -~]{0,30}"), 0..5),
        proptest::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(method, uri, (from, to, call_id), cseq, via, fields, body)| {
            let method = Method::parse(method.as_bytes()).unwrap();
            let mut request = Request::new(method, uri, from, to, &call_id, cseq);
            request.head.via = via;
            for (name, value) in fields {
                request.fields.push(&name, value.trim());
            }
            request.body = body;
            request
        })
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn requests_and_their_responses_are_read_back(request in request(), status in 100u16..700) {
        let written = request.write();
        let read = read_datagram(&written);
        prop_assert_eq!(read, Ok(Some(Message::Request(request.clone()))));
        let framed = stream(&written);
        prop_assert_eq!(framed, [Ok(Frame::Message(Box::new(Message::Request(request.clone()))))]);
        let response = Response::with_reason(&request, status, "Grüße");
        prop_assert_eq!(read_datagram(&response.write()), Ok(Some(Message::Response(response))));
    }

}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn nothing_that_an_application_sets_ends_a_line(
        display in any::<String>(), value in any::<Vec<u8>>(),
        reason in any::<String>(), text in any::<String>(),
    ) {
        let uri = Uri::Sip(SipUri::new(Some(&text), Host::Name("h".into())));
        let from = NameAddr::new(uri.clone()).with_display(Some(&display)).with_tag(&text);
        let mut request = Request::new(Method::INVITE, uri.clone(), from, NameAddr::new(uri), "c", 1);
        request.fields.push("Subject", value);
        request.fields.push("X-Text", text.as_str());
        let response = Response::with_reason(&request, 200, &reason);
        for written in [request.write(), response.write()] {
            let lines = written.split(|&octet| octet == b'\n').filter(|line| line != b"").count();
            prop_assert_eq!(lines, written.windows(2).filter(|pair| pair == b"\r\n").count());
            prop_assert!(written.iter().filter(|&&octet| octet == b'\r').count() == lines);
            // First line, Max-Forwards in the request, From, To, Call-ID, CSeq, two of our own,
            // Content-Length, the end.
            prop_assert!(matches!(lines, 10 | 7), "{}", String::from_utf8_lossy(&written));
        }
    }

    #[test]
    fn no_octets_are_too_much(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_datagram(&octets);
        let _ = stream(&octets);
    }

}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn it_does_not_matter_how_a_stream_is_cut(
        requests in proptest::collection::vec(request(), 1..4),
        cuts in proptest::collection::vec(1usize..40, 1..30),
    ) {
        let octets: Vec<u8> = requests.iter().flat_map(Request::write).collect();
        let mut framer = Framer::new();
        let (mut read, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(octets.len());
            framer.push(&octets[at..end]);
            read.extend(std::iter::from_fn(|| framer.next()));
            at = end;
            if at == octets.len() {
                break;
            }
        }
        let frame = |request| Ok(Frame::Message(Box::new(Message::Request(request))));
        let expected: Vec<_> = requests.into_iter().map(frame).collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(framer.waiting(), 0);
    }
}

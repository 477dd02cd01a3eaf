use super::*;
use crate::sip::name_addr::NameAddr;
use crate::sip::params::MAX_PARAMS;
use crate::sip::via::MAX_VIAS;

fn options(uri: &str, more: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>\r\n\
         Call-ID: c\r\nCSeq: 1 OPTIONS\r\n{more}\r\n"
    )
}

fn fault(text: &str) -> Option<Fault> {
    read_datagram(text.as_bytes()).err().map(|error| error.why)
}

#[test]
fn every_limit_is_kept() {
    let fits = |more: &str| fault(&options("sip:a@b", more));
    assert_eq!(fits(""), None);
    // The five of the head count too.
    assert_eq!(fits(&"Q: y\r\n".repeat(MAX_FIELDS - 5)), None);
    assert_eq!(fits(&"Q: y\r\n".repeat(MAX_FIELDS - 4)), Some(Fault::TooManyFields));
    let value = |length| format!("Q: {}\r\n", "y".repeat(length));
    assert_eq!(fits(&value(MAX_LINE - 3)), None);
    assert_eq!(fits(&value(MAX_LINE - 2)), Some(Fault::LineTooLong));
    let folds = |count| format!("Q: y\r\n{}", " 23456789\r\n".repeat(count));
    assert_eq!(fits(&folds(500)), None);
    assert_eq!(fits(&folds(1000)), Some(Fault::LineTooLong));
    let hops = |count| "Via: SIP/2.0/UDP h\r\n".repeat(count);
    assert_eq!(fits(&hops(MAX_VIAS - 1)), None);
    assert_eq!(fits(&hops(MAX_VIAS)), Some(Fault::Malformed("Via")));
    let routes = |name: &str, count| format!("{name}: <sip:p;lr>\r\n").repeat(count);
    for name in ["Route", "Record-Route", "Contact"] {
        assert_eq!(fits(&routes(name, MAX_ADDRESSES)), None, "{name}");
        assert!(matches!(fits(&routes(name, MAX_ADDRESSES + 1)), Some(Fault::Malformed(_))), "{name}");
    }
    let params =
        |count| format!("Contact: <sip:a@b>{}\r\n", (0..count).map(|n| format!(";p{n}")).collect::<String>());
    assert_eq!(fits(&params(MAX_PARAMS)), None);
    assert_eq!(fits(&params(MAX_PARAMS + 1)), Some(Fault::Malformed("Contact")));
    let uri = |length: usize| format!("sip:{}@b", "a".repeat(length - 6));
    assert_eq!(fault(&options(&uri(MAX_URI), "")), None);
    assert_eq!(fault(&options(&uri(MAX_URI + 1), "")), Some(Fault::RequestUriTooLong));
}

#[test]
fn a_request_uri_that_is_too_long_is_answered_as_such() {
    let text = options(&format!("sip:{}@b", "a".repeat(MAX_URI)), "");
    let Err(error) = read_datagram(text.as_bytes()) else { panic!("an error") };
    assert_eq!(error.reply.map(|reply| reply.status), Some(414));
}

#[test]
fn a_message_of_the_largest_size_is_read() {
    let head = options("sip:a@b", "");
    let largest = head.clone() + &"b".repeat(MAX_MESSAGE - head.len());
    let Ok(Some(message)) = read_datagram(largest.as_bytes()) else { panic!("a message") };
    assert_eq!(message.body().len(), MAX_MESSAGE - head.len());
    assert_eq!(fault(&(largest + "b")), Some(Fault::TooLong));
}

#[test]
fn a_response_copies_what_belongs_to_it() {
    let text =
        options("sip:a@b", "Record-Route: <sip:p;lr>\r\nTimestamp: 54\r\nMax-Forwards: 7\r\nSubject: s\r\n");
    let Ok(Some(Message::Request(request))) = read_datagram(text.as_bytes()) else { panic!("a request") };
    let names = |status| {
        let response = Response::to(&request, status);
        assert_eq!(response.head, Head { max_forwards: None, ..request.head.clone() });
        response.fields.iter().map(|field| field.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(100), ["Timestamp"]);
    assert_eq!(names(180), ["Record-Route"]);
    assert_eq!(names(200), ["Record-Route"]);
    assert!(names(404).is_empty());
}

#[test]
fn a_message_is_written_in_a_fixed_order() {
    let mut request = Request::new(
        Method::INVITE,
        Uri::parse("sip:bob@example.com").unwrap(),
        NameAddr::parse("Alice <sip:alice@example.com>").unwrap().with_tag("a1"),
        NameAddr::parse("sip:bob@example.com").unwrap(),
        "c1",
        7,
    );
    request.head.via.push(Via::parse("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport").unwrap());
    request.fields.push("m", "<sip:alice@192.0.2.1>");
    request.fields.push("Content-Length", "99");
    request.fields.push("via", "SIP/2.0/UDP evil");
    request.set_body("application/sdp", "v=0\r\n");
    assert_eq!(
        String::from_utf8(request.write()).unwrap(),
        "INVITE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@example.com>;tag=a1\r\n\
         To: <sip:bob@example.com>\r\n\
         Call-ID: c1\r\n\
         CSeq: 7 INVITE\r\n\
         Contact: <sip:alice@192.0.2.1>\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: 5\r\n\
         \r\n\
         v=0\r\n"
    );
}

#[test]
fn values_can_not_end_their_line() {
    let address = NameAddr::parse("<sip:a@b>").unwrap();
    let uri = address.uri.clone();
    let mut request =
        Request::new(Method::Other("X\r\nY".into()), uri, address.clone(), address, "c\r\nVia: evil", 1);
    request.fields.push("Subject\r\nX", "a\r\nVia: evil\r\n\r\nbody");
    let text = String::from_utf8(request.write()).unwrap();
    assert!(text.starts_with("X  Y sip:a@b SIP/2.0\r\n"), "{text}");
    assert!(text.contains("\r\nSubject  X: a  Via: evil    body\r\n"), "{text}");
    assert_eq!(text.matches("\r\n\r\n").count(), 1);
    assert!(!text.contains("\r\nVia"));
}

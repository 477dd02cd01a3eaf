//! RFC 4475 §3.2 to §3.4: messages for the transaction layer and the application. Their text is valid; here
//! is shown that what the upper layers need to decide is read. What they decide is tested with them.

use super::{dropped, message, refused, request, response, stream, wire};
use crate::sip::fault::Fault;
use crate::sip::media_type::{MediaType, accepts};
use crate::sip::method::Method;
use crate::sip::uri::Uri;

/// §3.2.1: a branch that is nothing but the magic cookie: not a unique one.
#[test]
fn badbranch() {
    let request = request(wire(
        "OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK
Accept: application/sdp
Call-ID: badbranch.sadonfo23i420jv0as0derf3j3n
CSeq: 8 OPTIONS
l: 0

",
    ));
    let via = request.head.top_via().unwrap();
    assert_eq!((via.branch(), via.has_magic_cookie()), (Some("z9hG4bK"), false));
}

/// §3.3.1: no Call-ID, no From, no To: answered with what is there.
#[test]
fn insuf() {
    let (why, reply) = refused(wire(
        "INVITE sip:user@example.com SIP/2.0
CSeq: 193942 INVITE
Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf
Content-Type: application/sdp
l: 5

v=0
",
    ));
    assert_eq!(why, Fault::Missing("From"));
    assert_eq!(
        reply,
        "SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf\r\n\
         CSeq: 193942 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
}

fn options(start: &str, more: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap();
    wire(&format!(
        "{start}
To: <sip:user@example.com>
From: <sip:caller@example.net>;tag=384
Max-Forwards: 70
Call-ID: layers.nasdfasser0q239nwsdfasdkl34
CSeq: 3923423 {method}
Via: SIP/2.0/TCP host9.example.com;branch=z9hG4bKkdjuw39234
{more}Content-Length: 0

"
    ))
}

/// §3.3.2: a scheme that nobody knows, opaque (to be answered with 416).
#[test]
fn unkscm() {
    let request = request(options("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", ""));
    assert_eq!((request.uri.scheme(), request.uri.as_sip()), ("nobodyKnowsThisScheme", None));
    assert_eq!(request.uri.to_string(), "nobodyKnowsThisScheme:totallyopaquecontent");
}

/// §3.3.3: a known scheme that is none of SIP's, with slashes and a port (to be answered with 416).
#[test]
fn novelsc() {
    let request = request(options("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", ""));
    assert_eq!(request.uri.scheme(), "soap.beep");
    assert_eq!(request.uri.to_string(), "soap.beep://192.0.2.103:3002");
}

/// §3.3.4: schemes in To, From and Contact that are none of SIP's.
#[test]
fn unksm2() {
    let request = request(wire(
        "REGISTER sip:example.com SIP/2.0
To: isbn:2983792873
From: <http://www.example.com>;tag=3234233
Call-ID: unksm2.daksdj@hyphenated-host.example.com
CSeq: 234902 REGISTER
Max-Forwards: 70
Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKkdjuw
Contact: <name:John_Smith>
l: 0

",
    ));
    assert_eq!(request.head.to.uri.scheme(), "isbn");
    assert_eq!((request.head.from.uri.scheme(), request.head.from_tag()), ("http", Some("3234233")));
    assert_eq!(request.fields.contact().unwrap().unwrap().uri.to_string(), "name:John_Smith");
}

/// §3.3.5: extensions that nobody supports (to be answered with 420).
#[test]
fn bext01() {
    let request = request(options(
        "OPTIONS sip:user@example.com SIP/2.0",
        "Require: nothingSupportsThis, nothingSupportsThisEither\nProxy-Require: noProxiesSupportThis, \
         norDoAnyProxiesSupportThis\n",
    ));
    assert_eq!(request.fields.tokens("Require"), ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert!(request.fields.has_token("proxy-require", "norDoAnyProxiesSupportThis"));
}

/// §3.3.6: a body of an unknown type (to be answered with 415).
#[test]
fn invut() {
    let text = options("INVITE sip:user@example.com SIP/2.0", "Content-Type: application/unknownformat\n");
    let kind = request(text).fields.typed::<MediaType>().unwrap().unwrap();
    assert!(kind.is("application", "unknownformat"));
}

/// §3.3.7: credentials of an unknown scheme: none that could be checked (to be answered with 401).
#[test]
fn regaut01() {
    let request = request(options(
        "REGISTER sip:example.com SIP/2.0",
        "Authorization: NoOneKnowsThisScheme opaque-data=here\nContact: <sip:j.user@host.example.com>\n",
    ));
    assert_eq!(request.fields.credentials("Authorization"), []);
    assert!(request.fields.has("Authorization"));
}

/// §3.3.8: fields twice that may be there once.
#[test]
fn multi01() {
    for (name, line) in [
        ("CSeq", "CSeq: 59 OPTIONS"),
        ("Call-ID", "Call-ID: multi01.98asdh@192.0.2.2"),
        ("From", "From: sip:other@example.com;tag=2"),
        ("To", "To: sip:other@example.com"),
        ("Max-Forwards", "Max-Forwards: 5"),
        ("Content-Length", "Content-Length: 0"),
    ] {
        let (why, reply) = refused(options("OPTIONS sip:user@example.com SIP/2.0", &format!("{line}\n")));
        assert_eq!(why, Fault::Repeated(name));
        assert!(reply.starts_with(&format!("SIP/2.0 400 Repeated {name}\r\n")), "{reply}");
        assert_eq!(
            reply.matches(&format!("\r\n{name}: ")).count(),
            usize::from(name != "Max-Forwards"),
            "{reply}"
        );
    }
}

/// §3.3.9: two values of Content-Length: refused in a datagram, the end of a stream.
#[test]
fn mcl01() {
    let text = wire(
        "OPTIONS sip:user@example.com SIP/2.0
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bK293423
To: sip:user@example.com
From: sip:other@example.net;tag=3923942
Call-ID: mcl01.fhn2323orihawfdoa3o4r52o3irsdf
CSeq: 15932 OPTIONS
Content-Length: 13
Max-Forwards: 60
Content-Length: 5
Content-Type: text/plain

There's no way to know how many octets are supposed to be here.
",
    );
    assert_eq!(refused(&text).0, Fault::Repeated("Content-Length"));
    let [Err(error)] = &stream(&text)[..] else { panic!("one error") };
    assert!(error.fatal);
}

/// §3.3.10: a response whose second Via is a broadcast address. A user agent has sent no request with two
/// hops.
#[test]
fn bcast() {
    let response = response(wire(
        "SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23
Call-ID: bcast.0384840201234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 0
Contact: <sip:user@host28.example.com>

",
    ));
    assert_eq!(response.head.via.len(), 2);
    assert_eq!(response.head.via[1].host.to_string(), "255.255.255.255");
}

/// §3.3.11: Max-Forwards 0 is right for the one who is asked.
#[test]
fn zeromf() {
    let text = String::from_utf8(options("OPTIONS sip:user@example.com SIP/2.0", "")).unwrap();
    let request = request(text.replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(request.head.max_forwards, Some(0));
}

fn register(contact: &str) -> Vec<u8> {
    options("REGISTER sip:example.com SIP/2.0", &format!("Contact: {contact}\n"))
}

/// §3.3.12: without angle brackets a parameter is the Contact's.
#[test]
fn cparam01() {
    let contact =
        request(register("sip:+19725552222@gw1.example.net;unknownparam")).fields.contact().unwrap().unwrap();
    assert_eq!(contact.uri.to_string(), "sip:+19725552222@gw1.example.net");
    assert!(contact.params.has("unknownparam"));
}

/// §3.3.13: with angle brackets it is the URI's.
#[test]
fn cparam02() {
    let contact = request(register("<sip:+19725552222@gw1.example.net;unknownparam>"))
        .fields
        .contact()
        .unwrap()
        .unwrap();
    assert!(contact.uri.as_sip().unwrap().has_param("unknownparam"));
    assert!(contact.params.is_empty());
}

/// §3.3.14: headers in a Contact are kept as they are.
#[test]
fn regescrt() {
    let text = "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>";
    let contact = request(register(text)).fields.contact().unwrap().unwrap();
    assert_eq!(contact.to_string(), text);
    let headers = &contact.uri.as_sip().unwrap().headers;
    assert_eq!(headers[..], [("Route".to_owned(), "%3Csip:sip.example.com%3E".to_owned())]);
}

/// §3.3.15: an INVITE that does not accept SDP back (to be answered with 406).
#[test]
fn sdp01() {
    let request = request(options("INVITE sip:user@example.com SIP/2.0", "Accept: text/nobodyKnowsThis\n"));
    assert!(!accepts(&request.fields, "application", "sdp"));
}

/// §3.4.1: a request of RFC 2543: no branch, no tag, no Max-Forwards, no Content-Length.
#[test]
fn inv2543() {
    let text = wire(
        "INVITE sip:UserB@example.com SIP/2.0
Via: SIP/2.0/UDP iftgw.example.com
From: <sip:+13035551111@ift.client.example.net;user=phone>
Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>
To: sip:+16505552222@ss1.example.net;user=phone
Call-ID: inv2543.1717@ift.client.example.com
CSeq: 56 INVITE
Content-Type: application/sdp

v=0
o=mhandley 29739 7272939 IN IP4 192.0.2.5
s=-
c=IN IP4 192.0.2.5
t=0 0
m=audio 49217 RTP/AVP 0
",
    );
    let request = request(&text);
    assert_eq!((request.head.from_tag(), request.head.max_forwards), (None, None));
    assert_eq!(request.head.top_via().unwrap().branch(), None);
    assert_eq!(request.head.to.params.value("user").as_deref(), Some("phone"));
    let route = &request.fields.record_routes().unwrap()[0].uri;
    assert!(!route.as_sip().unwrap().lr());
    assert_eq!(route.as_sip().unwrap().maddr().unwrap().to_string(), "ss1.example.com");
    assert!(request.body.ends_with(b"m=audio 49217 RTP/AVP 0\r\n"));
    // In a stream nobody could tell where it ends.
    let [Err(error)] = &stream(&text)[..] else { panic!("one error") };
    assert_eq!((error.why, error.fatal), (Fault::Missing("Content-Length"), true));
}

/// A request for no known method is read, so that it can be answered with 405 or 501.
#[test]
fn an_unknown_method_is_read() {
    let read = message(options("FOO sip:user@example.com SIP/2.0", ""));
    assert_eq!(read.head().cseq.method, Method::Other("FOO".into()));
    assert!(matches!(request(options("invite tel:+1 SIP/2.0", "")).uri, Uri::Tel(_)));
}

/// A response without its mandatory fields is dropped.
#[test]
fn a_response_without_call_id_is_dropped() {
    let text = "SIP/2.0 200 OK\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nFrom: <sip:a@b>;\
     tag=1\nTo: <sip:a@b>\nCSeq: 1 INVITE\n\n";
    assert_eq!(dropped(wire(text)), Fault::Missing("Call-ID"));
}

//! RFC 4475 §3.1.1: messages that are valid, however odd.

use super::{message, request, response, stream, wire};
use crate::sip::framer::Frame;
use crate::sip::host::Host;
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::uri::Uri;

/// §3.1.1.1: folds and blanks wherever the grammar lets them be, escaped characters in quotes, an empty
/// Subject, values of unknown fields that look like nothing, lists, compact names in any case, leading zeros.
#[test]
fn wsinv() {
    let body = "v=0\r\n";
    let text = wire(
        "INVITE sip:watson@kitchen.example.com;unknownparam SIP/2.0
TO :
 sip:watson@kitchen.example.com ;   tag    = 20051122n
From   : \"A Bell \\\\\\\"\"       <sip:bell@example.com>
  ;
  tag = 77bq
MaX-fOrWaRdS: 0068
Call-ID: wsinv.folded@192.0.2.1
Content-Length   : 5
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:\"Quoted string \\\"\\\"\" <sip:bell@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0
",
    );
    let request = request(&text);
    let uri = request.uri.as_sip().unwrap();
    assert_eq!((uri.user().as_deref(), uri.has_param("unknownparam")), (Some("watson"), true));
    assert_eq!(request.head.to_tag(), Some("20051122n"));
    assert_eq!(request.head.from.display.as_deref(), Some("A Bell \\\""));
    assert_eq!(request.head.from_tag(), Some("77bq"));
    assert_eq!(request.head.max_forwards, Some(68));
    assert_eq!((request.head.cseq.number, &request.head.cseq.method), (9, &Method::INVITE));
    let hops: Vec<_> = request.head.via.iter().map(ToString::to_string).collect();
    assert_eq!(
        hops,
        [
            "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw",
            "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8",
            "SIP/2.0/UDP 192.168.255.111;branch=z9hG4bK30239",
        ]
    );
    assert_eq!(request.fields.get("Subject"), Some(&b""[..]));
    assert_eq!(
        request.fields.get("newfangledheader"),
        Some(&b"newfangled value continued newfangled value"[..])
    );
    assert_eq!(request.fields.get("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    let routes = request.fields.routes().unwrap();
    assert_eq!(routes[0].uri.to_string(), "sip:services.example.com;lr;unknownwith=value;unknown-no-value");
    let contact = request.fields.contact().unwrap().unwrap();
    assert_eq!(contact.display.as_deref(), Some("Quoted string \"\""));
    assert_eq!((contact.q(), contact.param("newparam").as_deref()), (330, Some("newvalue")));
    assert!(contact.params.has("secondparam"));
    assert_eq!(request.body, body.as_bytes());
    assert_eq!(stream(&text), [Ok(Frame::Message(Box::new(Message::Request(request))))]);
}

/// §3.1.1.2: every character that a method, a user part, a parameter, a Call-ID or a tag may have; NUL and
/// other control characters escaped in a quoted string; UTF-8.
#[test]
fn intmeth() {
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    let user = "1_odd.URI~(so-is!it)&isn't+it$/mad?,/;;*:&it+is=1,weird!*pas$wo~d_too.(isn't-it)";
    let call_id = "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{";
    let mut text = Vec::new();
    text.extend_from_slice(format!("{method} sip:{user}@example.com SIP/2.0\r\n").as_bytes());
    text.extend_from_slice(b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\r\n");
    text.extend_from_slice(b"To: \"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\" <sip:");
    text.extend_from_slice(format!("{user}@example.com>\r\n").as_bytes());
    text.extend_from_slice(
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;\
         fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.\r\n"
            .as_bytes(),
    );
    text.extend_from_slice(format!("Call-ID: {call_id}\r\nCSeq: 139122385 {method}\r\n").as_bytes());
    text.extend_from_slice("Max-Forwards: 255\r\nextensionHeader-!.%*+_`'~:\u{fffd}大停電\r\n".as_bytes());
    text.extend_from_slice(b"Content-Length: 0\r\n\r\n");

    let request = request(&text);
    assert_eq!(request.method, Method::Other(method.into()));
    assert_eq!(request.head.cseq.method, request.method);
    let uri = request.uri.as_sip().unwrap();
    assert_eq!(uri.user().as_deref(), Some("1_odd.URI~(so-is!it)&isn't+it$/mad?,/;;*"));
    assert_eq!(uri.password().as_deref(), Some("&it+is=1,weird!*pas$wo~d_too.(isn't-it)"));
    assert_eq!(request.head.to.display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    assert_eq!(request.head.from.display.as_deref(), Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(request.head.from.param("fromParam''~+*_!.-%").as_deref(), Some("работающий"));
    assert_eq!(request.head.from_tag(), Some("_token~1'+`*%!-."));
    assert_eq!(request.head.call_id, call_id);
    assert_eq!(request.head.max_forwards, Some(255));
    assert_eq!(request.fields.text("extensionHeader-!.%*+_`'~").as_deref(), Some("\u{fffd}大停電"));
    assert_eq!(request.head.top_via().unwrap().branch(), Some("z9hG4bK-.!%66*_+`'~"));
    assert_eq!(stream(&text), [Ok(Frame::Message(Box::new(Message::Request(request))))]);
}

/// §3.1.1.3: escapes in user parts and parameters; an escaped `sips:` and `@` in a user part is only a user
/// part.
#[test]
fn esc01() {
    let request = request(wire(
        "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0
To: sip:%75se%72@example.com
From: <sip:I%20have%20blanks@example.net>;tag=938
Max-Forwards: 87
i: esc01.239409asdfakjkn23onasd0-3234
CSeq: 234234 INVITE
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw
Contact:
  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>

",
    ));
    let uri = request.uri.as_sip().unwrap();
    assert_eq!(uri.user().as_deref(), Some("sips:user@example.com"));
    assert_eq!(uri.host, Host::Name("example.net".into()));
    assert!(!uri.secure);
    assert_eq!(request.head.to.uri.user().as_deref(), Some("user"));
    assert!(request.head.to.uri.equivalent(&Uri::parse("sip:user@example.com").unwrap()));
    assert_eq!(request.head.from.uri.user().as_deref(), Some("I have blanks"));
    let contact = request.fields.contact().unwrap().unwrap();
    let contact = contact.uri.as_sip().unwrap();
    assert_eq!(contact.user().as_deref(), Some("caller"));
    assert!(contact.lr());
    assert_eq!(contact.param("name").as_deref(), Some("value%41"));
}

/// §3.1.1.4: an escaped NUL in a user part is a character like others, and not the end of anything.
#[test]
fn escnull() {
    let request = request(wire(
        "REGISTER sip:example.com SIP/2.0
To: sip:null-%00-null@example.com
From: sip:null-%00-null@example.com;tag=839923423
Max-Forwards: 70
Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw
Contact: <sip:%00@host5.example.com>
Contact: <sip:%00%00@host5.example.com>
L:0

",
    ));
    assert_eq!(request.head.to.uri.user().as_deref(), Some("null-\0-null"));
    let contacts = request.fields.contacts().unwrap().unwrap();
    let [one, two] = contacts.list() else { panic!("{contacts:?}") };
    assert_eq!((one.uri.user().as_deref(), two.uri.user().as_deref()), (Some("\0"), Some("\0\0")));
    assert!(!one.uri.equivalent(&two.uri));
}

/// §3.1.1.5: percent signs that are no escapes, in a method (which is not REGISTER), in quoted names and in
/// parameters.
#[test]
fn esc02() {
    let request = request(wire(
        "RE%47IST%45R sip:registrar.example.com SIP/2.0
To: \"%Z%45\" <sip:resource@example.com>
From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23
Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf
Via: SIP/2.0/TCP host.example.com;rport;branch=z9hG4bK209%fzsnel234
CSeq: 29344 RE%47IST%45R
Max-Forwards: 70
Contact: <sip:alias1@host1.example.com>
C%6Fntact: <sip:alias2@host2.example.com>
Contact: <sip:alias3@host3.example.com>
l: 0

",
    ));
    assert_eq!(request.method, Method::Other("RE%47IST%45R".into()));
    assert_eq!(request.head.to.display.as_deref(), Some("%Z%45"));
    assert_eq!(request.head.top_via().unwrap().branch(), Some("z9hG4bK209%fzsnel234"));
    let contacts = request.fields.contacts().unwrap().unwrap();
    let hosts: Vec<_> =
        contacts.list().iter().map(|contact| contact.uri.host().unwrap().to_string()).collect();
    assert_eq!(hosts, ["host1.example.com", "host3.example.com"]);
    assert!(request.fields.has("C%6Fntact"));
}

/// §3.1.1.6: no blank between an unquoted display name and its angle bracket.
#[test]
fn lwsdisp() {
    let request = request(wire(
        "OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: caller<sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: lwsdisp.1234abcd@funky.example.com
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw
l: 0

",
    ));
    assert_eq!(request.head.from.display.as_deref(), Some("caller"));
    assert_eq!(request.head.from.uri.to_string(), "sip:caller@example.com");
}

/// §3.1.1.7: everything is long: names, URIs, tags, Call-ID, an unknown field, 34 hops.
#[test]
fn longreq() {
    let long = |word: &str, times: usize| word.repeat(times);
    let hops: String = (0..34)
        .rev()
        .map(|hop| format!("v: SIP/2.0/TCP sip{hop}.example.com;branch=z9hG4bK{}\n", long("zfgd", 10 + hop)))
        .collect();
    let text = wire(&format!(
        "INVITE sip:user@example.com SIP/2.0
To: \"I have a user name of {} proportion\"
 <sip:user@example.com:6000;unknownparam1={value};{name}=shortvalue;v{}>
F: sip:{caller}@example.net;tag={tag};unknownheaderparam{}={header};unknownValueless{}
Call-ID: longreq.one{}longcallid
CSeq: 3882340 INVITE
Unknown-{}-Name: unknown-{}-value;
 unknown-{}-parameter
{hops}Max-Forwards: 70
Contact: <sip:{caller}@host5.example.net>
Content-Type: application/sdp
l: 0

",
        long("extreme", 60),
        long("valuelessparamname", 40),
        long("name", 50),
        long("paramname", 50),
        long("really", 50),
        long("Long", 60),
        long("long", 60),
        long("long", 60),
        value = long("very", 100),
        name = long("long", 50),
        caller = long("amazinglylongcallername", 20),
        tag = long("12982", 40),
        header = long("unknownheadervalue", 20),
    ));
    let request = request(text);
    assert_eq!(request.head.via.len(), 34);
    assert_eq!(request.head.via[33].host, Host::Name("sip0.example.com".into()));
    assert_eq!(request.head.from_tag().map(str::len), Some(200));
    assert_eq!(request.head.to.display.as_deref().map(str::len), Some(22 + 420 + 11));
    let to = request.head.to.uri.as_sip().unwrap();
    assert_eq!((to.port, to.param("unknownparam1").map(|value| value.len())), (Some(6000), Some(400)));
    assert_eq!(request.head.from.uri.user().map(|user| user.len()), Some(460));
}

/// §3.1.1.8: what follows the body in a datagram is not looked at, even if it is a request.
#[test]
fn dblreq() {
    let register = "REGISTER sip:example.com SIP/2.0
To: sip:j.user@example.com
From: sip:j.user@example.com;tag=43251j3j324
Max-Forwards: 8
I: dblreq.0ha0isndaksdj99sdfafnl3lk233412
Contact: sip:j.user@host.example.com
CSeq: 8 REGISTER
Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492
Content-Length: 0

";
    let text = wire(&format!("{register}\nINVITE sip:joe@example.com SIP/2.0\nt: sip:joe@example.com\n\n"));
    let request = request(text);
    assert_eq!((&request.method, request.body.len()), (&Method::REGISTER, 0));
    assert_eq!(request.head.cseq.number, 8);
}

/// §3.1.1.9: semicolons in a user part.
#[test]
fn semiuri() {
    let request = request(wire(
        "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0
To: sip:j_user@example.com
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
Call-ID: semiuri.0ha0isndaksdj
CSeq: 8 OPTIONS
Accept: application/sdp, application/pkcs7-mime,
        multipart/mixed, multipart/signed,
        message/sip, message/sipfrag
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw
l: 0

",
    ));
    let uri = request.uri.as_sip().unwrap();
    assert_eq!(uri.user().as_deref(), Some("user;par=u@example.net"));
    assert_eq!((uri.host.to_string().as_str(), uri.params.is_empty()), ("example.com", true));
    assert_eq!(request.fields.tokens("Accept").len(), 6);
}

/// §3.1.1.10: transports known and unknown in Via.
#[test]
fn transports() {
    let request = request(wire(
        "OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: <sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: transports.kijh4akdnaqjkwendsasfdj
Accept: application/sdp
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw
Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf
Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj
Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en
Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee
l: 0

",
    ));
    let transports: Vec<_> = request.head.via.iter().map(|via| via.transport.as_str()).collect();
    assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

/// §3.1.1.11: a body of several parts, one of them binary, with line ends and NUL in it.
#[test]
fn mpart01() {
    let mut body = b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n\
        Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    body.extend((0..=255).rev());
    body.extend_from_slice(b"\r\n\r\n\0\r\n--7a9cbec02ceef655--\r\n");
    let mut text = wire(&format!(
        "MESSAGE sip:kumiko@example.org SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport
Max-Forwards: 70
Route: <sip:127.0.0.1:5080>
To: <sip:kumiko@example.org>
From: <sip:fluffy@example.com>;tag=2fb0dcc9
Call-ID: 3d9485ad0c49859b@Zmx1ZmZ5
CSeq: 1 MESSAGE
Content-Type: multipart/mixed;boundary=7a9cbec02ceef655
Content-Length: {}

",
        body.len()
    ));
    text.extend_from_slice(&body);
    let read = message(&text);
    assert_eq!(read.body(), body);
    assert!(read.write().ends_with(&body));
    let Ok(kind) = read.fields().typed::<crate::sip::media_type::MediaType>() else { panic!("a media type") };
    assert_eq!(kind.unwrap().params.value("boundary").as_deref(), Some("7a9cbec02ceef655"));
    assert_eq!(stream(&text), [Ok(Frame::Message(Box::new(read)))]);
}

/// §3.1.1.12: any characters in the phrase of a status line.
#[test]
fn unreason() {
    let text = wire(
        "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Call-ID: unreason.1234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 0
Contact: <sip:user@host198.example.com>

",
    );
    let response = response(text);
    assert_eq!(response.status, 200);
    assert_eq!(response.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
}

/// §3.1.1.13: an empty phrase, with the blank before it.
#[test]
fn noreason() {
    let response = response(wire(
        "SIP/2.0 100 \nVia: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: noreason.asndj203insdf99223ndf
CSeq: 35 INVITE
From: <sip:user@example.com>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.com>

",
    ));
    assert_eq!((response.status, response.reason.as_str()), (100, ""));
}

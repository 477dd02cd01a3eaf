//! RFC 5118 §4: IPv6 addresses in SIP.

use super::{refused, request, wire};
use crate::sip::fault::Fault;
use crate::sip::host::Host;
use crate::sip::message::Request;
use crate::sip::uri::Uri;
use std::net::IpAddr;

fn text(start: &str, via: &str, contact: &str, body: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap();
    wire(&format!(
        "{start}
To: sip:user@example.com
From: sip:user@example.com;tag=81x2
{via}
Call-ID: SSG9559905523997077@hlau_4100
Max-Forwards: 70
{contact}
CSeq: 98176 {method}
Content-Type: application/sdp
Content-Length: {}

{body}",
        body.replace('\n', "\r\n").len()
    ))
}

const VIA: &str = "Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "Contact: \"Caller\" <sip:caller@[2001:db8::1]>";

fn register(uri: &str) -> Request {
    request(text(&format!("REGISTER {uri} SIP/2.0"), VIA, CONTACT, ""))
}

fn v6(text: &str) -> Host {
    Host::V6(text.parse().unwrap())
}

/// §4.1: addresses in brackets in the Request-URI, Via and Contact.
#[test]
fn ipv6_good() {
    let request = register("sip:[2001:db8::10]");
    assert_eq!(request.uri.host(), Some(&v6("2001:db8::10")));
    assert_eq!(request.head.top_via().unwrap().host, v6("2001:db8::9:1"));
    assert_eq!(request.fields.contact().unwrap().unwrap().uri.host(), Some(&v6("2001:db8::1")));
}

/// §4.2: an address without brackets in the Request-URI.
#[test]
fn ipv6_bad() {
    let (why, reply) = refused(text("REGISTER sip:2001:db8::10 SIP/2.0", VIA, CONTACT, ""));
    assert_eq!(why, Fault::RequestUri);
    assert!(
        reply.starts_with("SIP/2.0 400 Malformed Request-URI\r\nVia: SIP/2.0/UDP [2001:db8::9:1];"),
        "{reply}"
    );
}

/// §4.3: what looks like a port inside the brackets is part of the address.
#[test]
fn port_ambiguous() {
    let request = register("sip:[2001:db8::10:5070]");
    let uri = request.uri.as_sip().unwrap();
    assert_eq!((&uri.host, uri.port), (&v6("2001:db8::10:5070"), None));
}

/// §4.4: a port behind the brackets is one.
#[test]
fn port_unambiguous() {
    let request = register("sip:[2001:db8::10]:5070");
    let uri = request.uri.as_sip().unwrap();
    assert_eq!((&uri.host, uri.port), (&v6("2001:db8::10"), Some(5070)));
}

fn received(value: &str) -> Option<IpAddr> {
    let via = format!("Via: SIP/2.0/UDP [2001:db8::9:1];received={value};branch=z9hG4bKas3-111");
    request(text("BYE sip:[2001:db8::10] SIP/2.0", &via, CONTACT, "")).head.top_via().unwrap().received()
}

/// §4.5: `received` with brackets.
#[test]
fn via_received_param_with_delim() {
    assert_eq!(received("[2001:db8::9:255]"), "2001:db8::9:255".parse().ok());
}

/// §4.5: `received` without brackets.
#[test]
fn via_received_param_no_delim() {
    assert_eq!(received("2001:db8::9:255"), "2001:db8::9:255".parse().ok());
}

const SDP: &str = "v=0
o=assistant 971731711378798081 0 IN IP6 2001:db8::20
s=-
c=IN IP6 2001:db8::20
t=3338481189 3370017201
m=audio 6000 RTP/AVP 2
";

/// §4.6: in SDP addresses have no brackets; the body is not touched.
#[test]
fn ipv6_in_sdp() {
    let request = request(text("INVITE sip:user@[2001:db8::10] SIP/2.0", VIA, CONTACT, SDP));
    assert_eq!(request.body, wire(SDP));
    assert_eq!(request.uri.user().as_deref(), Some("user"));
}

/// §4.7: addresses of both families in the fields of one message.
#[test]
fn mult_ip_in_header() {
    let via = "Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144
Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200";
    let request = request(text("BYE sip:user@host.example.net SIP/2.0", via, "l2: x", ""));
    let hops: Vec<_> = request.head.via.iter().map(|via| via.sent_by().to_string()).collect();
    assert_eq!(hops, ["[2001:db8::9:1]:6050", "192.0.2.1", "[2001:db8::9:255]"]);
    assert_eq!(request.head.via[2].received(), "192.0.2.200".parse().ok());
}

/// §4.8: addresses of both families in one SDP body.
#[test]
fn mult_ip_in_sdp() {
    let body = format!("{SDP}c=IN IP4 192.0.2.1\nm=video 6024 RTP/AVP 107\nc=IN IP6 2001:db8::1\n");
    let request = request(text("INVITE sip:user@[2001:db8::10] SIP/2.0", VIA, CONTACT, &body));
    assert_eq!(request.body, wire(&body));
}

/// §4.9: an IPv4 address mapped into IPv6 is an IPv6 address.
#[test]
fn ipv4_mapped_ipv6() {
    let via = "Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19
Via: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111;received=[::ffff:192.0.2.2]";
    let contact = "Contact: \"T. Watson\" <sip:watson@[::ffff:192.0.2.2]>";
    let request = request(text("INVITE sip:user@example.com SIP/2.0", via, contact, ""));
    assert_eq!(request.head.via[0].sent_by().to_string(), "[::ffff:192.0.2.10]:19823");
    assert_eq!(request.head.via[1].received(), "::ffff:192.0.2.2".parse().ok());
    assert_eq!(request.fields.contact().unwrap().unwrap().uri.host(), Some(&v6("::ffff:192.0.2.2")));
}

/// §4.10: three colons, as the grammar of RFC 3261 allowed by mistake. It is no address, and refused.
#[test]
fn ipv6_bug_abnf_3_colons() {
    let (why, _) = refused(text("OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0", VIA, CONTACT, ""));
    assert_eq!(why, Fault::RequestUri);
    assert!(Uri::parse("sip:user@[2001:db8::192.0.2.1]").is_ok());
}

//! The treatment that RFC 4475 asks of a user agent for each message whose text is no reason to refuse it,
//! under the name the RFC gives it; and the answers to those whose text is. How each is read is tested with
//! the reader.

use super::*;
use crate::sip::call::CallEvent;
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::trust::{Network, Trust};
use crate::sip::user_agent::test_peer::{Peer, address, line};

const PEER: &str = "192.0.2.200:5060";

/// A user agent that answers everybody and everything, and serves `methods` above.
fn open(methods: &[Method]) -> Peer {
    let settings =
        Settings { udp: vec![address("192.0.2.10:5060")], serves: methods.to_vec(), ..Settings::default() };
    let mut peer = Peer::with(settings);
    let mut account = line();
    account.register = false;
    account.catch_all = true;
    account.trust = Trust::Networks(vec![Network::ANY_V4, Network::ANY_V6]);
    peer.add(account);
    peer.events.clear();
    peer
}

/// A request with usual fields; `fields` are lines, each with its end.
fn text(start: &str, fields: &str) -> String {
    let method = start.split(' ').next().unwrap();
    format!(
        "{start}\nVia: SIP/2.0/UDP 192.0.2.200;branch={{branch}}\nTo: <sip:user@example.com>\n\
         From: <sip:caller@example.net>;tag=384\nMax-Forwards: 70\nCall-ID: torture\nCSeq: 39234 {method}\n\
         Contact: <sip:caller@192.0.2.200>\n{fields}\n"
    )
}

fn statuses(peer: &Peer) -> Vec<u16> {
    let status = |message: &Message| match message {
        Message::Response(response) => response.status,
        Message::Request(request) => panic!("a request: {request:?}"),
    };
    peer.sent.iter().map(|sent| status(&sent.message)).collect()
}

fn is_ringing(peer: &Peer) -> bool {
    peer.events.iter().any(|event| matches!(event, Event::Call { event: CallEvent::Incoming(_), .. }))
}

/// §3.2.1: only the cookie: matched as RFC 2543 does, so that two requests stay two.
#[test]
fn badbranch() {
    let mut peer = open(&[]);
    let options = text("OPTIONS sip:user@example.com SIP/2.0", "").replace("{branch}", "z9hG4bK");
    peer.datagram(PEER, &options);
    peer.datagram(PEER, &options.replace("torture", "another").replace("39234", "39235"));
    assert_eq!(statuses(&peer), [200, 200]);
    peer.datagram(PEER, &options);
    assert_eq!(statuses(&peer), [200, 200, 200], "a repetition is answered from memory");
    assert_eq!(peer.sent[0].message, peer.sent[2].message);
}

/// §3.3.2, §3.3.3: schemes that nobody knows.
#[test]
fn unkscm_and_novelsc() {
    for uri in ["nobodyKnowsThisScheme:totallyopaquecontent", "soap.beep://192.0.2.103:3002"] {
        let mut peer = open(&[]);
        peer.datagram(PEER, &text(&format!("OPTIONS {uri} SIP/2.0"), ""));
        assert_eq!(statuses(&peer), [416]);
    }
}

/// §3.3.4, §3.3.7: unknown schemes in To, From, Contact, and an unknown authorization scheme are for the
/// registrar to judge.
#[test]
fn unksm2_and_regaut01() {
    let mut peer = open(&[Method::REGISTER]);
    let register =
        text("REGISTER sip:example.com SIP/2.0", "Authorization: NoOneKnowsThisScheme opaque-data=here\n");
    peer.datagram(PEER, &register.replace("To: <sip:user@example.com>", "To: isbn:2983792873"));
    let request = peer.events.iter().find_map(|event| match event {
        Event::Request { request, .. } => Some(request.clone()),
        _ => None,
    });
    let request = request.expect("it is handed up");
    assert!(request.fields.credentials("Authorization").is_empty());
    assert_eq!(request.head.to.uri.scheme(), "isbn");
}

/// §3.3.5: unknown extensions required: each is named, and what a proxy shall know is no concern of ours.
#[test]
fn bext01() {
    let mut peer = open(&[]);
    let required =
        "Require: nothingSupportsThis, nothingSupportsThisEither\nProxy-Require: noProxiesSupportThis\n";
    peer.datagram(PEER, &text("OPTIONS sip:user@example.com SIP/2.0", required));
    let response = peer.response(420);
    assert_eq!(response.fields.tokens("Unsupported"), ["nothingSupportsThis", "nothingSupportsThisEither"]);
}

/// §3.3.6: a body of an unknown type.
#[test]
fn invut() {
    let mut peer = open(&[]);
    let body = "Content-Type: application/unknownformat\nContent-Length: 7\n\n<audio>";
    peer.datagram(PEER, text("INVITE sip:user@example.com SIP/2.0", body).trim_end_matches('\n'));
    assert_eq!(peer.response(415).fields.tokens("Accept"), ["application/sdp"]);
    assert!(!is_ringing(&peer));
}

/// §3.3.8, §3.3.9 and §3.1.2: text that is wrong gets 400 with a reason, sent where the Via says; an ACK gets
/// nothing.
#[test]
fn what_is_malformed_gets_400() {
    let broken = [
        ("multi01", "CSeq: 39234 INVITE\n", "CSeq: 5 INVITE\nCSeq: 59 INVITE\n"),
        ("mcl01", "Max-Forwards: 70\n", "Max-Forwards: 70\nContent-Length: 13\nContent-Length: 5\n"),
        ("badinv01", "Contact: <sip:caller@192.0.2.200>\n", "Contact: \"Joe\" <sip:joe@example.org>;;;;\n"),
        ("ncl", "Max-Forwards: 70\n", "Max-Forwards: 70\nContent-Length: -999\n"),
        ("scalar02", "CSeq: 39234 INVITE\n", "CSeq: 36893488147419103232 INVITE\n"),
        ("quotbal", "To: <sip:user@example.com>\n", "To: \"Mr. J. User <sip:j.user@example.com>\n"),
        ("ltgtruri", "INVITE sip:user@example.com SIP", "INVITE <sip:user@example.com> SIP"),
        ("lwsruri", "INVITE sip:user@example.com SIP", "INVITE sip:user@example.com; lr SIP"),
        ("lwsstart", "INVITE sip:user@example.com SIP", "INVITE  sip:user@example.com  SIP"),
        ("trws", "SIP/2.0\nVia", "SIP/2.0  \nVia"),
        ("mismatch01", "CSeq: 39234 INVITE", "CSeq: 39234 OPTIONS"),
    ];
    for (name, right, wrong) in broken {
        let mut peer = open(&[]);
        let invite = text("INVITE sip:user@example.com SIP/2.0", "");
        assert!(invite.contains(right), "{name}");
        let invite = invite.replacen(right, wrong, 1);
        let answers = raw(&mut peer, &invite);
        let [(remote, answer)] = &answers[..] else { panic!("{name}: {answers:?}") };
        assert!(answer.starts_with("SIP/2.0 400 "), "{name}: {answer}");
        assert_eq!(*remote, address(PEER), "{name}");
        assert!(!is_ringing(&peer), "{name}");
        assert!(raw(&mut peer, &invite.replace("INVITE", "ACK")).is_empty(), "{name}");
    }
}

/// What comes back, also where it repeats what can't be read.
fn raw(peer: &mut Peer, text: &str) -> Vec<(SocketAddr, String)> {
    let (local, remote) = (address("192.0.2.10:5060"), address("192.0.2.200:33333"));
    let text = text.replace('\n', "\r\n");
    peer.ua.handle(peer.now, Input::Datagram { local, remote, bytes: text.as_bytes() });
    let sent = std::iter::from_fn(|| peer.ua.poll_output()).map(|output| match output {
        Output::Datagram { remote, bytes, .. } => (remote, String::from_utf8(bytes).unwrap()),
        other => panic!("{other:?}"),
    });
    sent.collect()
}

/// §3.3.1: what is needed to match an answer is missing; what there is comes back.
#[test]
fn insuf() {
    let mut peer = open(&[]);
    let invite = text("INVITE sip:user@example.com SIP/2.0", "").replace("Call-ID: torture\n", "");
    let answers = raw(&mut peer, &invite);
    assert_eq!((answers.len(), answers[0].0), (1, address(PEER)));
    assert!(answers[0].1.starts_with("SIP/2.0 400 Missing Call-ID\r\n"), "{answers:?}");
}

/// §3.1.2.16, §3.1.2.18: another version of SIP, and a method that CSeq does not repeat.
#[test]
fn badvers_and_mismatch02() {
    let mut peer = open(&[]);
    peer.datagram(PEER, &text("OPTIONS sip:user@example.com SIP/7.0", ""));
    let new = text("NEWMETHOD sip:user@example.com SIP/2.0", "").replace("39234 NEWMETHOD", "39234 INVITE");
    peer.datagram(PEER, &new);
    let statuses = statuses(&peer);
    assert_eq!(statuses[0], 505);
    assert!(matches!(statuses[1], 400 | 501), "{statuses:?}");
}

/// §3.3.10: a response whose second hop is the broadcast address: dropped, and nothing goes there.
#[test]
fn bcast() {
    let mut peer = open(&[]);
    let response = text("OPTIONS x y", "").replace("OPTIONS x y\n", "SIP/2.0 200 OK\n");
    let hops = "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKkdjuw\n\
                Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\n";
    peer.datagram(PEER, &response.replace("Via: SIP/2.0/UDP 192.0.2.200;branch={branch}\n", hops));
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().stray_responses, 1);
}

/// §3.3.11: nothing is left to forward, but nothing has to be.
#[test]
fn zeromf() {
    let mut peer = open(&[]);
    peer.datagram(
        PEER,
        &text("OPTIONS sip:user@example.com SIP/2.0", "").replace("Max-Forwards: 70", "Max-Forwards: 0"),
    );
    assert_eq!(statuses(&peer), [200]);
}

/// §3.3.15: the caller understands no SDP.
#[test]
fn sdp01() {
    let mut peer = open(&[]);
    peer.datagram(
        PEER,
        &text("INVITE sip:user@example.com SIP/2.0", "Accept: text/nobodyKnowsThis\nContent-Length: 0\n"),
    );
    assert_eq!(statuses(&peer), [406]);
}

/// §3.4.1: RFC 2543: no branch, no From-tag, no Max-Forwards, no Contact, and an answer all the same.
#[test]
fn inv2543() {
    let mut peer = open(&[]);
    let invite = "INVITE sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP iftgw.example.com\n\
                  From: <sip:+13035551111@ift.client.example.net;user=phone>\n\
                  To: sip:+16505552222@ss1.example.net;user=phone\n\
                  Call-ID: inv2543.1717@ift.client.example.com\nCSeq: 56 INVITE\n\n";
    peer.datagram(PEER, invite);
    let refused_or_ringing = is_ringing(&peer) || !statuses(&peer).is_empty();
    assert!(refused_or_ringing);
    let count = peer.ua.wire.transactions.count().1;
    peer.datagram(PEER, invite);
    assert_eq!(peer.ua.wire.transactions.count().1, count, "a repetition");
}

/// §3.1.1.2, §3.1.1.5 and others: methods of strange letters are unknown methods; their Allow says what is
/// known.
#[test]
fn intmeth_and_esc02() {
    for method in ["!interesting-Method0123456789_*+`.%indeed'~", "RE%47IST%45R", "NEWMETHOD"] {
        let mut peer = open(&[Method::REGISTER]);
        peer.datagram(PEER, &text(&format!("{method} sip:user@example.com SIP/2.0"), ""));
        let response = peer.response(501);
        assert!(
            response.fields.has_token("Allow", "INVITE") && response.fields.has_token("Allow", "REGISTER")
        );
    }
}

/// §3.1.1.8: what follows the message in its datagram is no second message.
#[test]
fn dblreq() {
    let mut peer = open(&[]);
    let options = text("OPTIONS sip:user@example.com SIP/2.0", "Content-Length: 0\n");
    let both = format!("{options}{}", text("INVITE sip:joe@example.com SIP/2.0", "Content-Length: 0\n"));
    peer.datagram(PEER, &both);
    assert_eq!(statuses(&peer), [200]);
    assert!(!is_ringing(&peer));
}

/// §3.1.1.6, §3.1.1.4: quoting in URIs survives the way to whoever asks.
#[test]
fn esc01_and_escnull() {
    let mut peer = open(&[]);
    peer.datagram(
        PEER,
        &text("INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0", "Content-Length: 0\n"),
    );
    let user = peer.events.iter().find_map(|event| match event {
        Event::Call { event: CallEvent::Incoming(incoming), .. } => {
            incoming.request.uri.user().map(|user| user.into_owned())
        }
        _ => None,
    });
    assert_eq!(user.as_deref(), Some("sips:user@example.com"));
}

/// §3.1.2.19: a status beyond all classes is dropped, and so is one for a request that nobody made.
#[test]
fn bigcode() {
    let mut peer = open(&[]);
    let response = text("OPTIONS x y", "")
        .replace("OPTIONS x y\n", "SIP/2.0 4294967301 better not break the receiver\n");
    peer.datagram(PEER, &response);
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().unreadable, 1);
}

//! One request of ours through fail-over, challenges, TCP and back, cancelling: as dialogues with a server.

use super::*;
use crate::sip::account::Account;
use crate::sip::locate::Authority;
use crate::sip::message::Message;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::{LookupError, Question};
use crate::sip::registration::RegistrationState;
use crate::sip::ua_event::Event;
use crate::sip::uri::Uri;
use crate::sip::user_agent::test_peer::{
    Peer, SentRequest, a, address, call, challenge, ended, line, register, sip, srv, two_servers,
};

#[test]
fn a_silent_server_is_left_for_the_next_and_come_back_to() {
    let mut peer = two_servers();
    peer.seconds(3.9);
    assert!(
        peer.sent.iter().all(|sent| sent.remote == address("198.51.100.1:5060")),
        "main, and its repetitions"
    );
    peer.sent.clear();
    peer.seconds(0.2);
    register(&mut peer, "198.51.100.2:5060");
    // INVITE goes where REGISTER went, also when the penalty of the main server is over.
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    assert_eq!(invite.remote, address("198.51.100.2:5060"));
    peer.reply(&invite, 486, &[]);
    peer.sent.clear();
    peer.seconds(120.0);
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    assert_eq!(invite.remote, address("198.51.100.2:5060"));
    peer.reply(&invite, 486, &[]);
    peer.sent.clear();
    // The next refresh looks whether main is back, and all moves back with it.
    let refresh = peer.await_request("REGISTER");
    assert_eq!(refresh.remote, address("198.51.100.1:5060"));
    peer.reply(&refresh, 200, &[("Expires", "600")]);
    call(&mut peer, "sip:1002@pbx.example", 10);
    assert_eq!(peer.request("INVITE").remote, address("198.51.100.1:5060"));
}

#[test]
fn a_connection_that_swallows_a_register_is_left_and_a_slow_registrar_gets_more_time() {
    let mut peer = Peer::new();
    let id = peer.add(Account { transports: vec![Transport::Tcp], ..line() });
    let mut waits = Vec::new();
    for _ in 0..12 {
        let register = peer.request("REGISTER");
        let connection = register.connection.expect("a connection");
        let begun = peer.now;
        while !peer.closed.contains(&connection) {
            peer.seconds(0.1);
            assert!(peer.now.since(begun.mono_us) < Duration::from_secs(40), "{waits:?}");
        }
        waits.push(peer.now.since(begun.mono_us).as_secs_f64());
        peer.ua.retry(peer.now, id, true);
        peer.drain();
    }
    assert!(waits[..8].iter().all(|wait| (3.1..=3.6).contains(wait)), "{waits:?}");
    let longer = [6.3..=7.1, 12.6..=14.1, 25.2..=28.1, 25.2..=28.1];
    assert!(waits[8..].iter().zip(longer).all(|(wait, there)| there.contains(wait)), "{waits:?}");
    // Who answers has all the time again, and on the registered connection the transaction has its own.
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "600")]);
    let connection = register.connection.expect("a connection");
    peer.ua.register(peer.now, id);
    peer.drain();
    assert_eq!(peer.request("REGISTER").connection, Some(connection));
    peer.seconds(31.0);
    assert!(!peer.closed.contains(&connection));
}

#[test]
fn an_icmp_error_fails_over_at_once() {
    let mut peer = two_servers();
    peer.request("REGISTER");
    peer.unsent("198.51.100.1:5060");
    register(&mut peer, "198.51.100.2:5060");
}

#[test]
fn an_icmp_error_ends_nothing_that_has_been_answered() {
    let (mut peer, id) = Peer::registered();
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.reply(&invite, 180, &[]);
    let uri = Uri::parse("sip:pbx.example").unwrap();
    let from = NameAddr::new(uri.clone()).with_tag("t");
    let message = Request::new(Method::MESSAGE, uri.clone(), from, NameAddr::new(uri), "c", 1);
    peer.ua.send_request(peer.now, id, message);
    peer.drain();
    let message = peer.request("MESSAGE");
    peer.reply(&message, 100, &[]);
    peer.unsent("198.51.100.1:5060");
    peer.nothing_sent();
    assert!(!ended(&peer));
    // What is not heard of again is repeated as before.
    peer.seconds(4.1);
    peer.request("MESSAGE");
    peer.take(&invite);
    peer.request("ACK");
    peer.nothing_sent();
    assert!(!ended(&peer));
}

#[test]
fn unavailable_fails_over_and_is_told_when_all_are() {
    let mut peer = two_servers();
    let first = peer.request("REGISTER");
    peer.reply(&first, 503, &[("Retry-After", "300")]);
    let second = peer.request("REGISTER");
    assert_eq!(second.remote, address("198.51.100.2:5060"));
    peer.reply(&second, 503, &[]);
    assert!(matches!(peer.state(), RegistrationState::Failing { status: Some(503), .. }));
}

#[test]
fn an_invite_fails_over_too_but_not_once_it_rings() {
    let mut peer = two_servers();
    register(&mut peer, "198.51.100.1:5060");
    call(&mut peer, "sip:1002@pbx.example", 10);
    let first = peer.request("INVITE");
    peer.seconds(4.1);
    let second = peer.sent.pop_back().unwrap();
    assert_eq!(second.remote, address("198.51.100.2:5060"));
    assert_ne!(second.message.head().via[0].branch(), first.request.head.via[0].branch());
    assert_eq!(second.message.head().call_id, first.request.head.call_id);

    let mut peer = two_servers();
    register(&mut peer, "198.51.100.1:5060");
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.reply(&invite, 180, &[]);
    peer.seconds(60.0);
    peer.nothing_sent();
    assert!(!ended(&peer));
}

#[test]
fn a_large_request_tries_tcp_and_comes_back_when_it_is_refused() {
    let (mut peer, _) = Peer::registered();
    peer.connects_at_once = false;
    call(&mut peer, "sip:1002@pbx.example", 1200);
    peer.nothing_sent();
    let (_, transport, remote, _) = peer.connects.front().cloned().unwrap();
    assert_eq!((transport, remote), (Transport::Tcp, address("198.51.100.1:5060")));
    peer.refuse_connection("connection refused");
    let invite = peer.request("INVITE");
    assert_eq!((invite.transport, invite.remote), (Transport::Udp, address("198.51.100.1:5060")));
    assert_eq!(invite.request.head.via[0].transport, "UDP");
    assert!(!invite.contact().contains("transport="));
    peer.reply(&invite, 486, &[]);
    peer.request("ACK");
    // The next one knows.
    call(&mut peer, "sip:1002@pbx.example", 1200);
    assert_eq!(peer.request("INVITE").transport, Transport::Udp);
    assert!(peer.connects.is_empty());
}

#[test]
fn a_large_request_comes_back_from_tcp_when_nobody_answers() {
    let (mut peer, _) = Peer::registered();
    peer.connects_at_once = false;
    call(&mut peer, "sip:1002@pbx.example", 1200);
    peer.seconds(0.9);
    peer.nothing_sent();
    peer.seconds(0.2);
    assert_eq!(peer.request("INVITE").transport, Transport::Udp);

    // A connection that swallows the request is left as well.
    let (mut peer, _) = Peer::registered();
    call(&mut peer, "sip:1002@pbx.example", 1200);
    assert_eq!(peer.request("INVITE").transport, Transport::Tcp);
    peer.seconds(4.1);
    assert_eq!(peer.request("INVITE").transport, Transport::Udp);
}

#[test]
fn a_contact_that_the_registrar_spells_otherwise_is_not_taken_back() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tcp];
    peer.add(account);
    let register = peer.request("REGISTER");
    let written = "<sip:1001@203.0.113.7:40000;transport=TCP>;expires=600";
    let fields = [("Contact", written), ("Expires", "600")];
    peer.reply_seeing(&register, 200, &fields, address("203.0.113.7:40000"));
    let again = peer.request("REGISTER");
    let contacts = again.contacts();
    assert!(
        contacts[0].contains("@203.0.113.7:40000") && !contacts[0].ends_with("expires=0"),
        "{contacts:?}"
    );
    assert!(contacts[1..].iter().all(|stale| !stale.contains("203.0.113.7:40000")), "{contacts:?}");
}

#[test]
fn a_large_request_over_tcp_leads_back_to_the_registered_flow() {
    let mut peer = Peer::new();
    peer.add(line());
    let seen = address("203.0.113.7:40000");
    for _ in 0..2 {
        // The second one names what the first one brought to light.
        let register = peer.request("REGISTER");
        peer.reply_seeing(&register, 200, &[("Expires", "3600")], seen);
    }
    call(&mut peer, "sip:1002@pbx.example", 1200);
    let invite = peer.request("INVITE");
    assert_eq!(invite.transport, Transport::Tcp);
    // The address that UDP is seen at leads to no connection.
    assert!(invite.contact().contains("@203.0.113.7:40000"), "{}", invite.contact());
    assert!(!invite.contact().contains("transport="), "{}", invite.contact());
}

#[test]
fn a_large_request_stays_on_tcp_with_its_cancel_and_ack() {
    let (mut peer, _) = Peer::registered();
    let id = call(&mut peer, "sip:1002@pbx.example", 1200);
    let invite = peer.request("INVITE");
    assert_eq!((invite.transport, invite.request.head.via[0].transport.as_str()), (Transport::Tcp, "TCP"));
    peer.reply(&invite, 180, &[]);
    peer.seconds(30.0);
    peer.nothing_sent();
    peer.ua.hang_up(peer.now, id, None).unwrap();
    peer.drain();
    let cancel = peer.request("CANCEL");
    assert_eq!((cancel.connection, cancel.remote), (invite.connection, invite.remote));
    assert_eq!(cancel.request.head.via[0], invite.request.head.via[0]);
    assert_eq!(cancel.request.head.cseq.number, invite.request.head.cseq.number);
    peer.reply(&cancel, 200, &[]);
    peer.reply(&invite, 487, &[]);
    let ack = peer.request("ACK");
    assert_eq!(ack.connection, invite.connection);
    assert_eq!(ack.request.head.via[0], invite.request.head.via[0]);
    assert_eq!(ack.request.head.to_tag(), Some("peer"));
    assert!(ended(&peer));
}

#[test]
fn a_cancel_waits_for_the_first_provisional_answer() {
    let (mut peer, _) = Peer::registered();
    let id = call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.ua.hang_up(peer.now, id, None).unwrap();
    peer.drain();
    peer.nothing_sent();
    peer.reply(&invite, 100, &[]);
    let cancel = peer.request("CANCEL");
    peer.reply(&cancel, 200, &[]);
    // No final answer comes: the call is over after 64·T1 all the same.
    peer.seconds(32.1);
    assert!(ended(&peer));
}

#[test]
fn a_challenge_may_come_for_both_fields_in_turn() {
    let (mut peer, _) = Peer::registered();
    call(&mut peer, "sip:1002@pbx.example", 10);
    let first = peer.request("INVITE");
    peer.reply(&first, 401, &[("WWW-Authenticate", &challenge("w1", false))]);
    peer.request("ACK");
    let second = peer.request("INVITE");
    assert_eq!(second.request.head.cseq.number, first.request.head.cseq.number + 1);
    assert!(second.text("Authorization").is_some() && second.text("Proxy-Authorization").is_none());
    peer.reply(&second, 407, &[("Proxy-Authenticate", "Digest realm=\"proxy\", nonce=\"p1\"")]);
    peer.request("ACK");
    let third = peer.request("INVITE");
    assert!(third.text("Authorization").unwrap().contains("nc=00000002"));
    assert!(third.text("Proxy-Authorization").unwrap().contains("nonce=\"p1\""));
    assert_eq!(third.request.body, first.request.body);
    // Refused for good: the call gets the 407 and nobody asks again.
    peer.reply(&third, 407, &[("Proxy-Authenticate", "Digest realm=\"proxy\", nonce=\"p2\"")]);
    peer.request("ACK");
    peer.nothing_sent();
    assert!(ended(&peer));
}

#[test]
fn the_strongest_algorithm_is_answered_and_nextnonce_is_used() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    let md5 = challenge("m1", false);
    let sha = "Digest realm=\"pbx\", nonce=\"s1\", algorithm=SHA-256, qop=\"auth,auth-int\"";
    peer.reply(&register, 401, &[("WWW-Authenticate", &md5), ("WWW-Authenticate", sha)]);
    let register = peer.request("REGISTER");
    let authorization = register.text("Authorization").unwrap();
    assert!(authorization.contains("algorithm=SHA-256") && !authorization.contains("m1"), "{authorization}");
    peer.reply(&register, 200, &[("Expires", "600"), ("Authentication-Info", "nextnonce=\"s2\"")]);
    peer.ua.register(peer.now, id);
    peer.drain();
    let authorization = peer.request("REGISTER").text("Authorization").unwrap();
    assert!(
        authorization.contains("nonce=\"s2\"") && authorization.contains("nc=00000001"),
        "{authorization}"
    );
}

/// Authentication-Info of a server that knows this password.
fn proof(request: &SentRequest, password: &str, nextnonce: &str) -> String {
    let given = request.request.fields.credentials("Authorization");
    let mut proof = crate::sip::digest::server_proof(&given[0], password, b"");
    proof.nextnonce = Some(nextnonce.into());
    String::from_utf8(proof.write()).unwrap()
}

/// What was told of the server's proof since the last look.
fn proved(peer: &mut Peer) -> Vec<bool> {
    let events = std::mem::take(&mut peer.events);
    let right = |event| match event {
        Event::ServerProof { right, .. } => Some(right),
        _ => None,
    };
    events.into_iter().filter_map(right).collect()
}

#[test]
fn a_server_that_proves_another_password_is_told_of_once_and_its_nonce_not_used() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("n1", false))]);
    let steps = [
        // What the server proves, what is told, and the nonce of the next request.
        (Some("secret"), vec![], "n2"),
        (Some("guess"), vec![false], "n2"),
        (Some("guess"), vec![], "n2"),
        (None, vec![], "n2"),
        (Some("secret"), vec![true], "n2"),
    ];
    for (password, told, nonce) in steps {
        let register = peer.request("REGISTER");
        let info = password
            .map(|password| proof(&register, password, if password == "secret" { "n2" } else { "n9" }));
        let mut fields = vec![("Expires", "600")];
        fields.extend(info.as_deref().map(|info| ("Authentication-Info", info)));
        peer.reply(&register, 200, &fields);
        assert!(matches!(peer.state(), RegistrationState::Registered { .. }), "the answer counts");
        assert_eq!(proved(&mut peer), told, "{password:?}");
        peer.ua.register(peer.now, id);
        peer.drain();
        let next = peer
            .sent
            .front()
            .expect("the next REGISTER")
            .message
            .fields()
            .text("Authorization")
            .unwrap()
            .into_owned();
        assert!(next.contains(&format!("nonce=\"{nonce}\"")), "{next}");
    }
}

#[test]
fn the_proof_belongs_to_the_request_that_it_answers() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("n1", false))]);
    let first = peer.request("REGISTER");
    peer.reply(&first, 200, &[("Expires", "600")]);
    peer.ua.register(peer.now, id);
    peer.drain();
    let second = peer.request("REGISTER");
    // The proof of an earlier answer, replayed.
    peer.reply(&second, 200, &[("Expires", "600"), ("Authentication-Info", &proof(&first, "secret", "n2"))]);
    assert_eq!(proved(&mut peer), [false]);
}

fn refused_challenge(peer: &mut Peer, request: &SentRequest, value: &str) {
    peer.reply(request, 407, &[("Proxy-Authenticate", value)]);
    let sent = peer.sent.iter().all(|sent| match &sent.message {
        crate::sip::message::Message::Request(request) => {
            !request.fields.has("Authorization") && !request.fields.has("Proxy-Authorization")
        }
        crate::sip::message::Message::Response(_) => true,
    });
    assert!(sent, "an answer to a stranger: {:?}", peer.sent);
    peer.sent.clear();
}

#[test]
fn a_strangers_challenge_is_never_answered() {
    let (mut peer, _) = Peer::registered();
    // A call straight to somebody else's server.
    call(&mut peer, "sip:evil@203.0.113.66", 10);
    let invite = peer.request("INVITE");
    assert_eq!(invite.remote, address("203.0.113.66:5060"));
    assert_eq!(invite.text("Authorization"), None);
    refused_challenge(&mut peer, &invite, &challenge("n1", false));
    assert!(ended(&peer));
    assert_eq!(peer.ua.counters().unanswered_challenges, 1);
}

#[test]
fn a_407_to_a_bye_leaks_nothing_to_whoever_the_contact_named() {
    let (mut peer, _) = Peer::registered();
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    // A 2xx without a description is hung up at once, and its Contact is somebody else's server.
    peer.reply(&invite, 200, &[("Contact", "<sip:evil@203.0.113.66>")]);
    assert_eq!(peer.request("ACK").remote, address("203.0.113.66:5060"));
    let bye = peer.request("BYE");
    assert_eq!((bye.remote, bye.text("Authorization")), (address("203.0.113.66:5060"), None));
    refused_challenge(&mut peer, &bye, &challenge("n1", false));
    assert_eq!(peer.ua.counters().unanswered_challenges, 1);
}

#[test]
fn only_the_lines_realm_is_answered() {
    let mut peer = Peer::new();
    let mut account = line();
    if let Some(credentials) = &mut account.credentials {
        credentials.realm = Some("pbx".into());
    }
    peer.add(account);
    let register = peer.request("REGISTER");
    refused_challenge(&mut peer, &register, "Digest realm=\"elsewhere\", nonce=\"n1\"");
    let RegistrationState::Failing { reason, retry_at, .. } = peer.state() else { panic!() };
    assert!(reason.contains("elsewhere"), "{reason}");
    assert!(retry_at - peer.now.mono_us >= 600_000_000, "asking again at once would change nothing");
    assert_eq!(peer.ua.counters().unanswered_challenges, 1);
}

#[test]
fn a_call_while_the_password_is_refused_does_not_try_it_again() {
    let mut peer = Peer::new();
    peer.add(line());
    for _ in 0..2 {
        let register = peer.await_request("REGISTER");
        peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("a", false))]);
        let register = peer.request("REGISTER");
        peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("b", false))]);
    }
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.reply(&invite, 401, &[("WWW-Authenticate", &challenge("c", false))]);
    peer.request("ACK");
    peer.nothing_sent();
    assert!(ended(&peer));
}

#[test]
fn a_request_for_another_server_is_located_on_its_own() {
    let (mut peer, _) = Peer::registered();
    let records = srv(&[(0, 0, 5082, "sip.other.example")]);
    peer.names.insert(Question::Srv("_sip._udp.other.example".into()), records);
    peer.names.insert(Question::A("sip.other.example".into()), a("203.0.113.80"));
    call(&mut peer, "sip:bob@other.example", 10);
    assert_eq!(peer.request("INVITE").remote, address("203.0.113.80:5082"));
    peer.names.insert(Question::Srv("_sip._udp.gone.example".into()), Err(LookupError::NoSuchName));
    call(&mut peer, "sip:bob@gone.example", 10);
    assert!(ended(&peer));
}

#[test]
fn connections_are_reused() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tcp];
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "600")]);
    call(&mut peer, "sip:1002@pbx.example", 3000);
    let invite = peer.request("INVITE");
    assert_eq!(invite.connection, register.connection);
    // Inside the dialog too, though the Contact names another port and no transport.
    peer.reply(
        &invite,
        183,
        &[("Contact", "<sip:1002@198.51.100.1:5099>"), ("Require", "100rel"), ("RSeq", "1")],
    );
    if let Some(sent) = peer.sent.front() {
        assert_eq!(sent.connection, register.connection, "{sent:?}");
    }
    assert!(peer.connects.is_empty());
}

#[test]
fn a_route_that_names_the_servers_address_keeps_its_tls_connection() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tls];
    account.registrar = Some(sip("sip:pbx.example:5061"));
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "600")]);
    for (route, same) in [
        ("<sip:198.51.100.1:5061;transport=tls;lr>", true),
        ("<sips:198.51.100.1;lr>", true),
        ("<sip:other.example:5061;transport=tls;lr>", false),
    ] {
        peer.names.insert(Question::A("other.example".into()), a("198.51.100.1"));
        call(&mut peer, "sip:1002@pbx.example", 30);
        let invite = peer.request("INVITE");
        assert_eq!(invite.connection, register.connection);
        peer.connects_at_once = false;
        let fields = [
            ("Contact", "<sip:1002@10.0.0.7>"),
            ("Record-Route", route),
            ("Require", "100rel"),
            ("RSeq", "1"),
        ];
        peer.reply(&invite, 183, &fields);
        let sent = peer.sent.pop_front();
        let connection = sent.as_ref().and_then(|sent| sent.connection);
        assert_eq!(connection == register.connection, same, "{route}: {sent:?} {:?}", peer.connects);
        peer.connects_at_once = true;
        peer.connects.clear();
    }
}

#[test]
fn over_websocket_everything_goes_by_the_one_connection() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Wss];
    account.websocket = Some(Authority { host: "edge.example".into(), address: None, port: 8089 });
    peer.names.insert(Question::A("edge.example".into()), a("198.51.100.9"));
    peer.connects_at_once = false;
    peer.add(account);
    let (_, transport, remote, name) = peer.connects.front().cloned().unwrap();
    let edge = address("198.51.100.9:8089");
    assert_eq!((transport, remote, name.as_str()), (Transport::Wss, edge, "edge.example"));
    peer.connects_at_once = true;
    peer.connect();
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.request.head.via[0].transport, "WSS");
    assert_eq!(register.request.uri.to_string(), "sip:pbx.example:5060");
    assert_eq!(register.contact(), "<sip:1001@192.0.2.10:40000;transport=ws>;expires=3600");
    peer.reply(&register, 200, &[("Expires", "600")]);
    // Neither the Contact nor another domain is somewhere that this device could go by itself.
    for uri in ["sip:1002@pbx.example", "sip:bob@other.example"] {
        call(&mut peer, uri, 10);
        let invite = peer.request("INVITE");
        assert_eq!(invite.connection, register.connection, "{uri}");
        let target = ("Contact", "<sip:1002@10.9.9.9:5060;transport=ws>");
        let fields = [target, ("Require", "100rel"), ("RSeq", "1")];
        peer.reply(&invite, 183, &fields);
        let prack = peer.request("PRACK");
        assert_eq!(prack.connection, register.connection, "{uri}");
    }
    assert!(peer.connects.is_empty());
}

#[test]
fn transports_are_tried_in_the_lines_order() {
    let mut peer = Peer::new();
    let mut account = line();
    account.registrar = Some(sip("sip:198.51.100.1"));
    account.transports = vec![Transport::Tls, Transport::Udp];
    peer.connects_at_once = false;
    peer.add(account);
    let (_, transport, remote, name) = peer.connects.front().cloned().unwrap();
    assert_eq!(
        (transport, remote, name.as_str()),
        (Transport::Tls, address("198.51.100.1:5061"), "198.51.100.1")
    );
    peer.refuse_connection("certificate unknown");
    let register = peer.request("REGISTER");
    assert_eq!((register.transport, register.remote), (Transport::Udp, address("198.51.100.1:5060")));
}

#[test]
fn requests_in_flight_are_bounded() {
    let (mut peer, id) = Peer::registered();
    for _ in 0..5000 {
        let uri = Uri::parse("sip:pbx.example").unwrap();
        let from = NameAddr::new(uri.clone()).with_tag("t");
        let request = Request::new(Method::MESSAGE, uri.clone(), from, NameAddr::new(uri), "c", 1);
        peer.ua.send_request(peer.now, id, request);
        peer.drain();
    }
    assert!(peer.sent.len() <= 1024, "{}", peer.sent.len());
    let failed =
        peer.events.iter().filter(|event| matches!(event, Event::Response { result: Err(_), .. })).count();
    assert_eq!(failed, 5000 - peer.sent.len());
    peer.seconds(40.0);
    let done = peer.events.iter().filter(|event| matches!(event, Event::Response { .. })).count();
    assert_eq!(done, 5000, "each gets one end");
}

#[test]
fn lines_share_tcp_but_each_checks_tls_for_itself() {
    for (transport, connections) in [(Transport::Tcp, 1), (Transport::Tls, 2)] {
        let mut peer = Peer::new();
        let mut seen = Vec::new();
        for user in ["1001", "1002"] {
            let mut account = line();
            account.aor = sip(&format!("sip:{user}@pbx.example"));
            account.transports = vec![transport];
            peer.add(account);
            let register = peer.request("REGISTER");
            seen.push(register.connection);
            peer.reply(&register, 200, &[("Expires", "3600")]);
        }
        seen.dedup();
        assert_eq!(seen.len(), connections, "{transport}");
        peer.seconds(1500.0);
        assert!(peer.closed.is_empty());
    }
}

#[test]
fn one_server_alone_is_asked_and_what_dns_knows_is_told() {
    let mut peer = two_servers();
    let account = AccountId(1);
    peer.request("REGISTER");
    peer.ua.look_up(peer.now, account);
    peer.drain();
    let found = peer.events.iter().rev().find_map(|event| match event {
        Event::Servers { account, result } => Some((*account, result.clone())),
        _ => None,
    });
    let (of, targets) = found.expect("told");
    let targets = targets.expect("found");
    let remotes: Vec<_> = targets.iter().map(|target| target.remote).collect();
    assert_eq!((of, remotes), (account, vec![address("198.51.100.1:5060"), address("198.51.100.2:5060")]));

    let from = NameAddr::new(Uri::Sip(sip("sip:1001@pbx.example"))).with_tag("t");
    let to = NameAddr::new(Uri::Sip(sip("sip:pbx.example")));
    let options = Request::new(Method::OPTIONS, to.uri.clone(), from, to, "call", 1);
    let id = peer.ua.send_request_to(peer.now, account, options, targets[1].clone());
    peer.drain();
    peer.sent.retain(|sent| matches!(&sent.message, Message::Request(it) if it.method == Method::OPTIONS));
    assert_eq!(peer.request("OPTIONS").remote, address("198.51.100.2:5060"), "though main comes first");
    peer.seconds(33.0);
    let elsewhere = peer.sent.iter().any(|sent| {
        sent.remote != address("198.51.100.2:5060")
            && matches!(&sent.message, Message::Request(it) if it.method == Method::OPTIONS)
    });
    assert!(!elsewhere, "its silence sends the request nowhere else");
    let outcome = peer.events.iter().find_map(|event| match event {
        Event::Response { request, result } if *request == id => Some(result),
        _ => None,
    });
    assert_eq!(outcome, Some(&Err(Failure::Timeout)));
}

#[test]
fn a_look_up_that_finds_nothing_tells_why() {
    let told = |names: &[(Question, Result<Vec<crate::sip::network::Record>, LookupError>)]| {
        let mut peer = Peer::new();
        peer.names.extend(names.iter().cloned());
        let mut account = line();
        account.registrar = Some(sip("sip:far.example"));
        account.register = false;
        let id = peer.add(account);
        peer.ua.look_up(peer.now, id);
        peer.drain();
        peer.events.into_iter().find_map(|event| match event {
            Event::Servers { result, .. } => Some(result.expect_err("no server")),
            _ => None,
        })
    };
    assert_eq!(told(&[]), Some(LookupError::NoSuchName));
    let silent = (Question::A("far.example".into()), Err(LookupError::Timeout));
    assert_eq!(told(&[silent]), Some(LookupError::Timeout));
    // The domain has no SRV records, which is no fault, and no address, which is one.
    let empty = (Question::A("far.example".into()), Ok(Vec::new()));
    assert_eq!(told(&[empty]), Some(LookupError::NoAddress));
}

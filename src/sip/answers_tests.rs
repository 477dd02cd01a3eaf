//! Answers that lead elsewhere: another server, another round with credentials, or no further.

use crate::sip::account::Account;
use crate::sip::network::{Question, Transport};
use crate::sip::registration::RegistrationState;
use crate::sip::user_agent::test_peer::{
    Peer, a, address, call, challenge, ended, line, register, sip, srv, two_servers,
};

const OPTIONS: &str = "OPTIONS sip:1001@192.0.2.10 SIP/2.0\n\
     Via: SIP/2.0/UDP 198.51.100.20:5060;branch={branch};rport\nMax-Forwards: 70\n\
     From: <sip:proxy@pbx.example>;tag=them\nTo: <sip:1001@pbx.example>\nCall-ID: {branch}\n\
     CSeq: 1 OPTIONS\nContent-Length: 0\n\n";

#[test]
fn a_call_that_has_rung_is_not_taken_to_another_server() {
    for (heard, elsewhere) in [(100, true), (180, false), (183, false)] {
        let mut peer = two_servers();
        register(&mut peer, "198.51.100.1:5060");
        call(&mut peer, "sip:1002@pbx.example", 10);
        let invite = peer.request("INVITE");
        peer.reply(&invite, heard, &[]);
        peer.reply(&invite, 503, &[]);
        peer.request("ACK");
        if elsewhere {
            assert_eq!(peer.request("INVITE").remote, address("198.51.100.2:5060"));
        }
        peer.nothing_sent();
        assert_eq!(ended(&peer), !elsewhere, "{heard}");
    }
}

#[test]
fn unavailable_is_believed_for_all_transports_of_a_server() {
    let mut peer = Peer::new();
    let registrar = Some(sip("sip:198.51.100.1"));
    peer.add(Account { registrar, transports: vec![Transport::Tcp, Transport::Udp], ..line() });
    let first = peer.request("REGISTER");
    assert_eq!(first.transport, Transport::Tcp);
    peer.reply(&first, 200, &[("Expires", "600")]);
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.reply(&invite, 503, &[]);
    peer.request("ACK");
    peer.nothing_sent();
    assert!(ended(&peer));
    let refresh = peer.await_request("REGISTER");
    peer.reply(&refresh, 503, &[("Retry-After", "300")]);
    peer.nothing_sent();
    assert!(matches!(peer.state(), RegistrationState::Failing { status: Some(503), .. }));

    // Another port of the same machine is another server.
    let mut peer = two_servers();
    let records = srv(&[(20, 0, 5070, "main.example"), (10, 0, 5060, "main.example")]);
    peer.names.insert(Question::Srv("_sip._udp.twins.example".into()), records);
    peer.sent.clear();
    call(&mut peer, "sip:1002@twins.example", 10);
    let invite = peer.request("INVITE");
    peer.reply(&invite, 503, &[]);
    peer.request("ACK");
    assert_eq!(peer.request("INVITE").remote, address("198.51.100.1:5070"));
}

#[test]
fn unavailable_is_told_when_no_other_server_is_reached() {
    for silent in [false, true] {
        let mut peer = two_servers();
        let first = peer.request("REGISTER");
        peer.reply(&first, 503, &[("Retry-After", "600")]);
        assert_eq!(peer.request("REGISTER").remote, address("198.51.100.2:5060"));
        if silent {
            peer.seconds(33.0);
        } else {
            peer.unsent("198.51.100.2:5060");
        }
        let state = peer.state();
        let RegistrationState::Failing { status: Some(503), retry_at, .. } = state else {
            panic!("{state:?}");
        };
        assert!(retry_at >= peer.now.mono_us + 600_000_000, "as the registrar wishes");
    }
}

#[test]
fn refused_calls_leave_the_registration_alone() {
    let mut peer = Peer::new();
    peer.add(line());
    let first = peer.request("REGISTER");
    peer.reply(&first, 401, &[("WWW-Authenticate", &challenge("a", false))]);
    let second = peer.request("REGISTER");
    peer.reply(&second, 200, &[("Expires", "60")]);
    for answered in [true, true, false] {
        call(&mut peer, "sip:1002@pbx.example", 10);
        let invite = peer.request("INVITE");
        peer.reply(&invite, 401, &[("WWW-Authenticate", &challenge("b", false))]);
        peer.request("ACK");
        if answered {
            let invite = peer.request("INVITE");
            peer.reply(&invite, 401, &[("WWW-Authenticate", &challenge("c", false))]);
            peer.request("ACK");
        }
        peer.nothing_sent();
    }
    let refresh = peer.await_request("REGISTER");
    peer.reply(&refresh, 401, &[("WWW-Authenticate", &challenge("d", false))]);
    let refresh = peer.request("REGISTER");
    assert!(refresh.text("Authorization").is_some());
    peer.reply(&refresh, 200, &[("Expires", "60")]);
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    // The calls are refused no less for that.
    call(&mut peer, "sip:1002@pbx.example", 10);
    assert_eq!(peer.request("INVITE").text("Authorization"), None);
}

#[test]
fn a_registrar_that_has_asked_for_the_password_gets_the_time_that_it_needs() {
    let mut peer = Peer::new();
    peer.add(Account { transports: vec![Transport::Tcp], ..line() });
    let first = peer.request("REGISTER");
    peer.reply(&first, 401, &[("WWW-Authenticate", &challenge("a", false))]);
    let second = peer.request("REGISTER");
    assert_eq!(second.connection, first.connection);
    peer.seconds(20.0);
    assert!(peer.closed.is_empty());
    peer.reply(&second, 200, &[("Expires", "600")]);
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
}

#[test]
fn a_proxy_that_the_registrar_names_belongs_to_the_line() {
    for route in ["<sip:198.51.100.20;lr>", "<sip:edge.example;lr>"] {
        let mut peer = Peer::new();
        peer.names.insert(Question::A("edge.example".into()), a("198.51.100.20"));
        peer.add(line());
        let first = peer.request("REGISTER");
        peer.reply(&first, 200, &[("Expires", "600"), ("Service-Route", route)]);
        call(&mut peer, "sip:1002@pbx.example", 10);
        let invite = peer.request("INVITE");
        assert_eq!(invite.remote, address("198.51.100.20:5060"));
        peer.reply(&invite, 407, &[("Proxy-Authenticate", &challenge("a", false))]);
        peer.request("ACK");
        let invite = peer.request("INVITE");
        assert!(invite.text("Proxy-Authorization").is_some(), "{route}");
        peer.reply(&invite, 486, &[]);
        peer.request("ACK");
        peer.datagram("198.51.100.20:5060", OPTIONS);
        peer.response(200);
        // Once it is not named any more it is a stranger.
        let refresh = peer.await_request("REGISTER");
        peer.reply(&refresh, 200, &[("Expires", "600")]);
        peer.datagram("198.51.100.20:5060", OPTIONS);
        peer.nothing_sent();
    }
}

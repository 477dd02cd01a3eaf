//! Lines that get other settings or are taken away: what becomes of that which is on its way.

use super::*;
use crate::sip::user_agent::test_peer::{Peer, SentRequest, address, line, sip};

const PBX: &str = "198.51.100.1:5060";

/// A line over this transport that is registered.
fn registered(transport: Transport) -> (Peer, AccountId, SentRequest) {
    let mut peer = Peer::new();
    let id = peer.add(Account { transports: vec![transport], ..line() });
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "3600")]);
    (peer, id, register)
}

fn goodbye(peer: &mut Peer) -> SentRequest {
    let register = peer.request("REGISTER");
    assert_eq!(register.text("Expires").as_deref(), Some("0"));
    register
}

#[test]
fn the_answer_to_a_register_belongs_to_the_line_that_sent_it() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let old = peer.request("REGISTER");
    peer.ua.replace_account(peer.now, id, Account { registrar: Some(sip("sip:198.51.100.77")), ..line() });
    peer.drain();
    let new = peer.request("REGISTER");
    assert_eq!(new.remote, address("198.51.100.77:5060"));
    peer.reply(&old, 200, &[("Expires", "600")]);
    assert_eq!(peer.state(), RegistrationState::Registering);
    let last = goodbye(&mut peer);
    assert_eq!(last.remote, address(PBX));
    peer.reply(&last, 200, &[]);
    peer.reply(&new, 200, &[("Expires", "600")]);
    assert_eq!(peer.ua.server(id).map(|(_, remote)| remote), Some(address("198.51.100.77:5060")));
    assert_eq!(peer.ua.wire.lines.len(), 1, "the old server is a stranger now");
    peer.ua.shutdown(peer.now);
    peer.drain();
    let last = goodbye(&mut peer);
    peer.reply(&last, 200, &[]);
    assert!(peer.events.iter().any(|event| matches!(event, Event::Stopped)), "nothing is left to wait for");
}

#[test]
fn an_old_binding_is_taken_back_on_the_connection_that_stands() {
    let (mut peer, id, old) = registered(Transport::Tls);
    let transports = vec![Transport::Tls];
    let account = Account { aor: sip("sip:1009@pbx.example"), transports, ..line() };
    peer.ua.replace_account(peer.now, id, account);
    peer.drain();
    let last = goodbye(&mut peer);
    assert_eq!(last.connection, old.connection, "whoever opened it knew whom to believe");
    let new = peer.request("REGISTER");
    assert_ne!(new.connection, old.connection);
    peer.reply(&last, 200, &[]);
    peer.reply(&new, 200, &[("Expires", "3600")]);
    peer.seconds(601.0);
    assert_eq!(peer.closed, [old.connection.unwrap()], "nobody holds it");
}

#[test]
fn the_connection_of_a_line_that_is_taken_away_does_not_stay() {
    let (mut peer, id, register) = registered(Transport::Tcp);
    peer.ua.remove_account(peer.now, id);
    peer.drain();
    let last = goodbye(&mut peer);
    peer.reply(&last, 200, &[]);
    let connection = register.connection.unwrap();
    let invite = "INVITE sip:1001@192.0.2.10 SIP/2.0\nVia: SIP/2.0/TCP 198.51.100.1;branch={branch}\n\
         Max-Forwards: 70\nFrom: <sip:1002@pbx.example>;tag=them\nTo: <sip:1001@pbx.example>\n\
         Call-ID: c1\nCSeq: 1 INVITE\nContact: <sip:1002@198.51.100.1>\nContent-Length: 0\n\n";
    peer.stream(connection, invite);
    peer.nothing_sent();
    assert!(peer.ua.calls.is_empty());
    peer.seconds(601.0);
    assert_eq!(peer.closed, [connection]);
}

#[test]
fn another_interval_holds_from_the_next_register() {
    let (mut peer, id) = Peer::registered();
    let account = Account { expires: Duration::from_secs(120), ..line() };
    peer.ua.replace_account(peer.now, id, account);
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.text("Expires").as_deref(), Some("120"));
    assert!(register.contact().ends_with(";expires=120"), "{}", register.contact());
}

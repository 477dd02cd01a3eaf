//! A line with a list of transports: as dialogues with a server behind a firewall that lets some of them through.

use super::*;
use crate::sip::account::Account;
use crate::sip::message::Message;
use crate::sip::ua_event::Event;
use crate::sip::user_agent::test_peer::{Peer, SentRequest, address, line, sip};

use Transport::{Tcp, Tls, Udp, Wss};

fn account(transports: &[Transport]) -> Account {
    let mut account = line();
    account.registrar = Some(sip("sip:198.51.100.1"));
    account.transports = transports.to_vec();
    account
}

/// A peer whose line has a list; nothing that connects stands by itself.
fn begin(account: Account) -> Peer {
    let mut peer = Peer::new();
    peer.connects_at_once = false;
    peer.add(account);
    peer
}

fn grant(peer: &mut Peer, register: &SentRequest) {
    peer.reply(register, 200, &[("Expires", "3600")]);
}

/// The transports of connections that were asked for and not yet taken, in order.
fn asked(peer: &Peer) -> Vec<Transport> {
    peer.connects.iter().map(|(_, transport, ..)| *transport).collect()
}

/// A line that fell back to TCP because nothing answers over UDP.
fn fallen_back(seed_wait: f64) -> Peer {
    let mut peer = begin(account(&[Udp, Tcp]));
    assert_eq!(peer.request("REGISTER").transport, Udp);
    peer.seconds(2.1);
    peer.sent.clear();
    peer.connect();
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.transport, Tcp);
    grant(&mut peer, &register);
    peer.seconds(seed_wait);
    peer
}

/// The requests that were sent and not yet looked at.
fn taken(peer: &mut Peer) -> Vec<SentRequest> {
    let sent = std::mem::take(&mut peer.sent).into_iter();
    let requests = sent.filter_map(|sent| match sent.message {
        Message::Request(request) => {
            let (transport, remote, connection) = (sent.transport, sent.remote, sent.connection);
            Some(SentRequest { transport, remote, connection, request })
        }
        Message::Response(_) => None,
    });
    requests.collect()
}

/// The next OPTIONS; repetitions are passed over, refreshes over TCP are granted.
fn next_options(peer: &mut Peer, within: f64) -> Option<SentRequest> {
    let mut left = within;
    while left > 0.0 {
        let mut found = None;
        for request in taken(peer) {
            match request.request.method.as_str() {
                "OPTIONS" => found = found.or(Some(request)),
                "REGISTER" if request.transport == Tcp => grant(peer, &request),
                _ => {}
            }
        }
        if found.is_some() {
            return found;
        }
        peer.seconds(0.5);
        left -= 0.5;
    }
    None
}

#[test]
fn a_firewall_that_lets_only_the_web_out_costs_seconds() {
    let mut peer = begin(account(&Transport::ALL));
    assert_eq!(peer.request("REGISTER").transport, Udp);
    peer.seconds(1.9);
    assert!(asked(&peer).is_empty());
    peer.seconds(0.2);
    assert_eq!(asked(&peer), [Tcp], "after three datagrams");
    peer.seconds(0.5);
    assert_eq!(asked(&peer), [Tcp, Tls]);
    peer.seconds(0.5);
    assert_eq!(asked(&peer), [Tcp, Tls, Wss], "beside the others, which may still come to stand");
    peer.sent.clear();
    peer.connects.rotate_left(2);
    peer.connect();
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!((register.transport, register.remote), (Wss, address("198.51.100.1:443")));
    grant(&mut peer, &register);
    assert_eq!(peer.ua.server(AccountId(1)), Some((Wss, address("198.51.100.1:443"))));
}

#[test]
fn the_first_connection_that_stands_is_taken_and_the_others_follow_if_it_says_nothing() {
    let mut peer = begin(account(&[Tcp, Tls, Wss]));
    peer.seconds(1.2);
    assert_eq!(asked(&peer), [Tcp, Tls, Wss]);
    // TLS stands, and its server says nothing.
    peer.connects.rotate_left(1);
    peer.connect();
    peer.drain();
    assert_eq!(peer.request("REGISTER").transport, Tls);
    let (wss, ..) = peer.connects.pop_front().unwrap();
    peer.close(wss, "refused");
    peer.seconds(4.1);
    peer.connect();
    peer.drain();
    let register = peer.await_request("REGISTER");
    assert_eq!(register.transport, Tcp);
    grant(&mut peer, &register);
    assert!(peer.ua.server(AccountId(1)).is_some_and(|(transport, _)| transport == Tcp));
}

#[test]
fn when_every_connection_is_refused_the_line_fails_with_the_last_reason() {
    let mut peer = begin(account(&[Tcp, Tls]));
    peer.seconds(0.6);
    assert_eq!(asked(&peer), [Tcp, Tls]);
    peer.refuse_connection("no way");
    peer.refuse_connection("certificate unknown");
    let RegistrationState::Failing { reason, .. } = peer.state() else { panic!("{:?}", peer.state()) };
    assert!(reason.contains("certificate unknown"), "{reason}");
}

#[test]
fn what_worked_is_tried_first_after_a_restart_and_at_each_refresh() {
    let mut account = account(&[Udp, Tcp]);
    account.last_transport = Some(Tcp);
    let mut peer = begin(account.clone());
    assert_eq!(asked(&peer), [Tcp]);
    peer.connects_at_once = true;
    peer.connect();
    peer.drain();
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "60")]);
    peer.seconds(46.0);
    assert_eq!(peer.request("REGISTER").connection, register.connection);
    // One that is no longer in the list is nothing.
    account.last_transport = Some(Tls);
    let mut peer = begin(account);
    assert_eq!(peer.request("REGISTER").transport, Udp);
}

#[test]
fn the_preferred_transport_is_asked_later_and_returned_to_when_it_answers_twice() {
    let mut peer = fallen_back(40.0);
    peer.sent.clear();
    let options = next_options(&mut peer, 40.0).expect("the preferred one is asked");
    assert_eq!((options.transport, options.remote), (Udp, address("198.51.100.1:5060")));
    assert_eq!(options.text("Authorization"), None, "no password is shown for it");
    // Any answer counts, and the challenge is not answered.
    peer.reply(&options, 401, &[("WWW-Authenticate", "Digest realm=\"pbx\", nonce=\"n\"")]);
    peer.nothing_sent();
    let options = next_options(&mut peer, 11.0).expect("asked again");
    peer.reply(&options, 405, &[]);
    let register = peer.request("REGISTER");
    assert_eq!(register.transport, Udp);
    let contacts = register.contacts();
    assert!(contacts[1].contains("transport=tcp") && contacts[1].ends_with("expires=0"), "{contacts:?}");
    peer.events.clear();
    grant(&mut peer, &register);
    assert_eq!(peer.ua.server(AccountId(1)).map(|(transport, _)| transport), Some(Udp));
    assert!(next_options(&mut peer, 3000.0).is_none(), "nothing is better");
}

#[test]
fn nobody_moves_during_a_call() {
    let mut peer = fallen_back(40.0);
    let target = Uri::parse("sip:1002@198.51.100.1").unwrap();
    let options = crate::sip::call::InviteOptions { offer: Some(b"v=0\r\n".to_vec()), ..Default::default() };
    let call = peer.ua.invite(peer.now, AccountId(1), target, options).unwrap();
    peer.drain();
    assert_eq!(peer.request("INVITE").transport, Tcp);
    for _ in 0..2 {
        let options = next_options(&mut peer, 40.0).expect("asked");
        peer.reply(&options, 200, &[]);
    }
    peer.nothing_sent();
    peer.ua.hang_up(peer.now, call, None).unwrap();
    peer.drain();
    peer.seconds(40.0);
    let moved = peer.sent.iter().any(|sent| {
        sent.transport == Udp
            && matches!(&sent.message, Message::Request(one) if one.method == Method::REGISTER)
    });
    assert!(moved, "after it: {:?}", peer.sent);
}

#[test]
fn each_way_back_that_leads_to_nothing_doubles_the_rest() {
    let mut peer = fallen_back(0.0);
    let mut gaps = Vec::new();
    let mut last = peer.now.mono_us;
    for _ in 0..7 {
        let options = next_options(&mut peer, 3000.0).expect("asked again and again");
        assert_eq!(options.transport, Udp);
        gaps.push((peer.now.mono_us - last) / 1_000_000);
        peer.seconds(5.0);
        peer.sent.clear();
        last = peer.now.mono_us;
    }
    assert!((40..80).contains(&gaps[0]) && (85..160).contains(&gaps[1]), "{gaps:?}");
    assert!(gaps[6] > 1300 && gaps[6] <= 2260, "{gaps:?}");
    // Another network is another chance.
    peer.local = "192.0.2.77";
    peer.ua.network_changed(peer.now);
    peer.drain();
    peer.connect();
    peer.drain();
    let at = peer.sent.iter().position(|sent| sent.transport == Tcp).expect("a REGISTER");
    peer.sent.drain(..at);
    let register = peer.request("REGISTER");
    grant(&mut peer, &register);
    assert!(next_options(&mut peer, 10.0).is_some());
}

#[test]
fn a_transport_that_answers_options_and_no_register_makes_no_line_flap() {
    let mut peer = fallen_back(0.0);
    peer.connects_at_once = true;
    let mut moves = 0;
    let begun = peer.now.mono_us;
    while peer.now.mono_us - begun < 7_200_000_000 {
        peer.seconds(1.0);
        for sent in taken(&mut peer) {
            match sent.request.method == Method::REGISTER {
                true if sent.transport == Udp => moves += 1,
                true => grant(&mut peer, &sent),
                false => peer.reply(&sent, 200, &[]),
            }
        }
    }
    // Each try is repeated as a datagram.
    assert!((3..=36).contains(&moves), "{moves}");
    assert!(
        !peer.events.iter().any(|event| matches!(
            event,
            Event::Registration { state: RegistrationState::Failing { .. }, .. }
        ))
    );
}

//! What a keep-alive asks of the user agent, as the registrar sees it.

use super::*;
use crate::sip::account::Account;
use crate::sip::call::InviteOptions;
use crate::sip::network::{LookupError, Question};
use crate::sip::registration::RegistrationState;
use crate::sip::srv::Service;
use crate::sip::user_agent::test_peer::{LOCAL, Peer, SentRequest, a, address, challenge, line, sip, srv};

const INSTANCE: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";

/// A line that is registered over this transport.
fn registered(transport: Transport, fields: &[(&str, &str)]) -> (Peer, AccountId) {
    let mut account = line();
    account.transports = vec![transport];
    account.instance = Some(INSTANCE.to_owned());
    account.registrar = Some(sip(&format!("sip:pbx.example:5060;transport={}", transport.uri_token())));
    start(account, fields)
}

fn start(account: Account, fields: &[(&str, &str)]) -> (Peer, AccountId) {
    let mut peer = Peer::new();
    let id = peer.add(account);
    let register = peer.request("REGISTER");
    grant(&mut peer, &register, fields);
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    peer.events.clear();
    (peer, id)
}

fn grant(peer: &mut Peer, register: &SentRequest, fields: &[(&str, &str)]) {
    let mut all = vec![("Contact", register.contact()), ("Expires", "3600".to_owned())];
    all.extend(fields.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    peer.reply(register, 200, &all);
}

fn answers(peer: &mut Peer) -> Vec<Option<SocketAddr>> {
    let seen = |event| match event {
        Event::Answered { seen, octets, .. } if octets > 300 => Some(seen),
        _ => None,
    };
    std::mem::take(&mut peer.events).into_iter().filter_map(seen).collect()
}

#[test]
fn any_answer_to_an_options_counts_and_none_is_challenged() {
    for status in [100, 200, 401, 403, 404, 405, 407, 483, 503] {
        let (mut peer, id) = registered(Transport::Udp, &[]);
        peer.ua.ask(peer.now, id, false);
        peer.drain();
        let options = peer.request("OPTIONS");
        assert_eq!((options.remote, options.text("Authorization")), (address("198.51.100.1:5060"), None));
        let fields =
            [("WWW-Authenticate", challenge("n", false)), ("Proxy-Authenticate", challenge("n", false))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let seen = address("203.0.113.7:4001");
        peer.reply_seeing(&options, status, &fields, seen);
        assert_eq!(answers(&mut peer), [Some(seen)], "{status}");
        peer.reply_seeing(&options, status, &fields, seen);
        assert!(answers(&mut peer).is_empty(), "it counts once");
        peer.seconds(40.0);
        peer.nothing_sent();
    }
}

#[test]
fn a_repetition_is_the_same_and_a_new_question_is_not() {
    let (mut peer, id) = registered(Transport::Udp, &[]);
    for again in [false, true, false] {
        peer.ua.ask(peer.now, id, again);
        peer.drain();
    }
    let asked: Vec<SentRequest> = (0..3).map(|_| peer.request("OPTIONS")).collect();
    assert_eq!(asked[0].request.write(), asked[1].request.write());
    assert_ne!(asked[0].request.write(), asked[2].request.write());
    peer.reply(&asked[0], 200, &[]);
    assert!(answers(&mut peer).is_empty(), "an answer to the question before");
    peer.reply(&asked[2], 200, &[]);
    assert_eq!(answers(&mut peer), [Some(address(LOCAL))]);
}

#[test]
fn a_pong_is_told_and_what_comes_unasked_is_a_ping() {
    let (mut peer, id) = registered(Transport::Tcp, &[]);
    peer.ua.ping(id);
    peer.drain();
    let connection = peer.pinged.pop().expect("a ping");
    peer.stream(connection, "\n");
    assert!(matches!(peer.events.as_slices().0, [Event::Pong { account }] if *account == id));
    // A ping that nobody answers, then OPTIONS: line ends that come later are the peer's own ping.
    peer.events.clear();
    peer.ua.ping(id);
    peer.ua.ask(peer.now, id, false);
    peer.drain();
    peer.stream(connection, "\n\n");
    assert!(peer.events.is_empty(), "{:?}", peer.events);
    let options = peer.request("OPTIONS");
    assert_eq!(options.connection, Some(connection));
    peer.reply(&options, 405, &[]);
    assert_eq!(answers(&mut peer).len(), 1);
}

#[test]
fn a_line_over_udp_is_never_pinged() {
    let (mut peer, id) = registered(Transport::Udp, &[]);
    peer.ua.ping(id);
    peer.drain();
    assert!(peer.pinged.is_empty() && peer.raw.is_empty());
    peer.ua.send_on_flow(id, vec![0; 4]);
    peer.ua.send_datagram(address("203.0.113.20:3478"), vec![1; 20]);
    peer.drain();
    let to: Vec<_> = peer.raw.iter().map(|(to, octets)| (to.port(), octets.len())).collect();
    assert_eq!(to, [(5060, 4), (3478, 20)]);
    let (mut peer, id) = registered(Transport::Tcp, &[]);
    peer.ua.send_on_flow(id, vec![0; 4]);
    peer.drain();
    assert!(peer.raw.is_empty());
}

#[test]
fn stun_on_the_sip_socket_is_told_apart() {
    let (mut peer, _) = registered(Transport::Udp, &[]);
    let mut stun = vec![1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    stun.resize(20, 7);
    let receive = |peer: &mut Peer, octets: &[u8]| {
        let input = crate::sip::network::Input::Datagram {
            local: address("0.0.0.0:5060"),
            remote: address("203.0.113.66:3478"),
            bytes: octets,
        };
        peer.ua.handle(peer.now, input);
        peer.drain();
    };
    receive(&mut peer, &stun);
    let Some(Event::Stun { remote, octets }) = peer.events.pop_front() else { panic!("{:?}", peer.events) };
    assert_eq!((remote, octets), (address("203.0.113.66:3478"), stun.clone()));
    stun.resize(MAX_STUN + 1, 0);
    receive(&mut peer, &stun);
    receive(&mut peer, &[0, 1, 0, 0, 0x21, 0x12, 0xA4]);
    assert!(peer.events.is_empty());
    assert_eq!(peer.ua.counters().unreadable, 2);
}

#[test]
fn who_is_seen_elsewhere_registers_the_new_address_and_takes_the_old_one_away() {
    let (mut peer, id) = registered(Transport::Udp, &[]);
    peer.ua.flow_moved(peer.now, id, address("203.0.113.7:4001"));
    peer.drain();
    let register = peer.request("REGISTER");
    let contacts = register.contacts();
    assert!(contacts[0].starts_with("<sip:1001@203.0.113.7:4001>") && contacts[0].contains(";expires=3600"));
    assert_eq!(contacts[1..], [format!("<sip:1001@{LOCAL}>;expires=0")]);
    // While that one is under way, the address changes again: it is not waited for.
    peer.ua.flow_moved(peer.now, id, address("203.0.113.7:4002"));
    peer.drain();
    let second = peer.request("REGISTER");
    assert!(second.contacts()[0].starts_with("<sip:1001@203.0.113.7:4002>"), "{:?}", second.contacts());
    peer.reply_seeing(&register, 200, &[("Expires", "60")], address("203.0.113.7:4001"));
    assert!(peer.ua.is_registering(id), "the answer to the old one counts no more");
    let fields = [("Contact", second.contact()), ("Expires", "3600".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    peer.reply_seeing(&second, 200, &fields, address("203.0.113.7:4002"));
    assert!(!peer.ua.is_registering(id));
    peer.nothing_sent();
    assert_eq!(peer.ua.kept_flow(id).unwrap().seen, Some(address("203.0.113.7:4002")));
}

#[test]
fn a_dead_connection_is_replaced_and_everything_uses_the_new_one() {
    let (mut peer, id) = registered(Transport::Tcp, &[]);
    let old = peer.ua.kept_flow(id).unwrap().connection.unwrap();
    peer.ua.renew_flow(peer.now, id);
    peer.drain();
    assert_eq!(peer.closed, [old]);
    let register = peer.request("REGISTER");
    assert!(register.connection.is_some_and(|connection| connection != old));
    grant(&mut peer, &register, &[]);
    assert!(peer.told().iter().all(|state| matches!(state, RegistrationState::Registered { .. })));
    let target = Uri::parse("sip:1002@pbx.example").unwrap();
    peer.ua.invite(peer.now, id, target, InviteOptions::default()).unwrap();
    peer.drain();
    assert_eq!(peer.request("INVITE").connection, register.connection);
}

#[test]
fn only_silence_is_tried_into_again() {
    for (status, fields, tries) in [(None, vec![], true), (Some(503), vec![("Retry-After", "300")], false)] {
        let (mut peer, id) = registered(Transport::Udp, &[]);
        peer.ua.register(peer.now, id);
        peer.drain();
        let register = peer.request("REGISTER");
        match status {
            Some(status) => peer.reply(&register, status, &fields),
            None => peer.seconds(36.0),
        }
        peer.sent.clear();
        peer.seconds(40.0);
        peer.sent.clear();
        assert!(matches!(peer.state(), RegistrationState::Failing { .. }));
        let was_waiting = !peer.ua.is_registering(id);
        peer.ua.retry(peer.now, id, true);
        peer.drain();
        assert_eq!(!peer.sent.is_empty(), tries && was_waiting, "{status:?}");
    }
}

#[test]
fn another_network_does_not_wait_for_an_answer_from_the_old_one() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut peer, id) = registered(transport, &[]);
        peer.ua.register(peer.now, id);
        peer.drain();
        let first = peer.request("REGISTER");
        peer.local = "192.0.2.77";
        peer.ua.network_changed(peer.now);
        peer.drain();
        let register = peer.request("REGISTER");
        assert!(register.request.head.cseq.number > first.request.head.cseq.number);
        if transport == Transport::Udp {
            assert!(register.contacts()[0].contains("192.0.2.77"), "{:?}", register.contacts());
            peer.reply_seeing(&register, 200, &[("Expires", "60")], address("192.0.2.77:5060"));
        } else {
            assert_ne!(register.connection, first.connection);
            peer.reply(&register, 200, &[("Expires", "60")]);
        }
        assert!(!peer.ua.is_registering(id));
        peer.nothing_sent();
    }
}

#[test]
fn a_register_says_who_we_are_and_asks_how_often_to_call() {
    let (mut peer, id) = registered(Transport::Udp, &[("Flow-Timer", "120"), ("Require", "outbound")]);
    assert_eq!(peer.ua.kept_flow(id).unwrap().longest_silence, Some(Duration::from_secs(120)));
    peer.ua.register(peer.now, id);
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.text("Supported").unwrap(), "path, outbound, gruu");
    assert_eq!(register.request.head.via[0].params.get("keep"), Some(None));
    let contact = register.contact();
    assert!(contact.contains(&format!(";+sip.instance=\"<{INSTANCE}>\";reg-id=1")), "{contact}");
    assert!(!contact.contains(";ob"), "{contact}");
    let gruu = format!("<sip:1001@{LOCAL}>;expires=60;pub-gruu=\"sip:1001@pbx.example;gr={INSTANCE}\"");
    peer.reply(&register, 200, &[("Contact", &gruu), ("Require", "outbound")]);
    peer.ua
        .invite(peer.now, id, Uri::parse("sip:1002@pbx.example").unwrap(), InviteOptions::default())
        .unwrap();
    peer.drain();
    assert_eq!(peer.request("INVITE").contact(), format!("<sip:1001@pbx.example;gr={INSTANCE}>"));
}

#[test]
fn a_first_hop_without_outbound_is_asked_without_it() {
    let mut account = line();
    account.instance = Some(INSTANCE.to_owned());
    let mut peer = Peer::new();
    let id = peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 439, &[]);
    let register = peer.request("REGISTER");
    assert!(!register.contact().contains("reg-id") && register.contact().contains("+sip.instance"));
    assert_eq!(register.text("Supported").unwrap(), "path, gruu");
    grant(&mut peer, &register, &[]);
    assert!(peer.ua.kept_flow(id).is_some());
    // Whoever answers it always is not asked for ever.
    peer.ua.register(peer.now, id);
    peer.drain();
    let register = peer.request("REGISTER");
    peer.reply(&register, 439, &[]);
    peer.nothing_sent();
}

#[test]
fn a_flow_that_the_edge_has_lost_is_made_anew() {
    let (mut peer, id) = registered(Transport::Tcp, &[]);
    let old = peer.ua.kept_flow(id).unwrap().connection.unwrap();
    peer.ua
        .invite(peer.now, id, Uri::parse("sip:1002@pbx.example").unwrap(), InviteOptions::default())
        .unwrap();
    peer.drain();
    let invite = peer.request("INVITE");
    peer.reply(&invite, 430, &[]);
    peer.request("ACK");
    let register = peer.request("REGISTER");
    assert!(peer.closed.contains(&old) && register.connection != Some(old));
}

#[test]
fn servers_of_other_services_are_found_by_srv_where_no_port_is_named() {
    const STUN: Service = Service { label: "_stun._udp", port: 3478 };
    let (mut peer, _) = registered(Transport::Udp, &[]);
    let records = srv(&[(20, 0, 3479, "b.example"), (10, 0, 40000, "a.example"), (5, 0, 0, "c.example")]);
    peer.names.insert(Question::Srv("_stun._udp.many.example".into()), records);
    peer.names.insert(Question::Srv("_stun._udp.gone.example".into()), Err(LookupError::NoSuchName));
    for (host, found) in [
        ("stun.example", "203.0.113.20"),
        ("gone.example", "203.0.113.21"),
        ("many.example", "203.0.113.22"),
        ("a.example", "203.0.113.23"),
        ("b.example", "203.0.113.24"),
        ("c.example", "203.0.113.25"),
    ] {
        peer.names.insert(Question::A(host.into()), a(found));
    }
    for (host, port, expected) in [
        ("Stun.Example", None, vec!["203.0.113.20:3478"]),
        ("stun.example", Some(5000), vec!["203.0.113.20:5000"]),
        ("gone.example", None, vec!["203.0.113.21:3478"]),
        ("many.example", None, vec!["203.0.113.23:40000", "203.0.113.24:3479"]),
        ("many.example", Some(3478), vec!["203.0.113.22:3478"]),
        ("192.0.2.99", None, vec!["192.0.2.99:3478"]),
        ("[2001:db8::9]", None, vec!["[2001:db8::9]:3478"]),
        ("nowhere.example", None, vec![]),
    ] {
        peer.asked.clear();
        let wanted = ServerName::new(host, port, STUN);
        peer.ua.resolve(peer.now, &wanted);
        peer.drain();
        let found = peer.events.drain(..).find_map(|event| match event {
            Event::Resolved { name, addresses } if name == wanted => Some(addresses),
            _ => None,
        });
        let expected: Vec<SocketAddr> = expected.into_iter().map(address).collect();
        assert_eq!(found, Some(expected), "{host}");
        let asked_srv = peer.asked.iter().any(|asked| matches!(asked, Question::Srv(_)));
        assert_eq!(
            asked_srv,
            port.is_none() && !wanted.host.contains(['9', ':']),
            "{host}: {:?}",
            peer.asked
        );
    }
}

//! Dialogues with a registrar, from the plain to the hostile.

use std::time::Duration;

use super::*;
use crate::sip::network::{LookupError, Question, Transport};
use crate::sip::ua_event::Event;
use crate::sip::user_agent::test_peer::{Peer, address, challenge, line, sip};

fn failing(state: RegistrationState) -> (String, u64) {
    match state {
        RegistrationState::Failing { reason, retry_at, .. } => (reason, retry_at),
        other => panic!("not failing: {other:?}"),
    }
}

fn wait_for_retry(peer: &mut Peer) -> f64 {
    let (_, retry_at) = failing(peer.state());
    let wait = retry_at - peer.now.mono_us;
    peer.wait(Duration::from_micros(wait));
    wait as f64 / 1e6
}

#[test]
fn a_binding_that_the_registrar_wrote_down_otherwise_is_removed_as_it_stands_there() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tcp];
    let id = peer.add(account.clone());
    let register = peer.request("REGISTER");
    let there = "<sip:1001@203.0.113.7:4711;transport=tcp>;expires=600";
    peer.reply(&register, 200, &[("Contact", there)]);
    account.transports = vec![Transport::Udp];
    peer.ua.replace_account(peer.now, id, account.clone());
    peer.drain();
    let register = peer.request("REGISTER");
    let contacts = register.contacts();
    assert_eq!(contacts.len(), 3, "{contacts:?}");
    assert_eq!(contacts[2], "<sip:1001@203.0.113.7:4711;transport=tcp>;expires=0");
    // Of two with our user nobody knows which is ours.
    let two = "<sip:1001@203.0.113.7:1>;expires=600, <sip:1001@203.0.113.8:1>;expires=600";
    peer.reply(&register, 200, &[("Contact", two)]);
    account.transports = vec![Transport::Tcp];
    peer.ua.replace_account(peer.now, id, account);
    peer.drain();
    assert_eq!(peer.request("REGISTER").contacts().len(), 2);
}

#[test]
fn a_line_registers_with_digest_and_refreshes_before_it_expires() {
    let mut peer = Peer::new();
    peer.add(line());
    let first = peer.request("REGISTER");
    assert_eq!(first.remote, address("198.51.100.1:5060"));
    assert_eq!(first.request.uri.to_string(), "sip:pbx.example:5060");
    assert_eq!(first.request.head.to.to_string(), "<sip:1001@pbx.example>");
    assert_eq!(first.contact(), "<sip:1001@192.0.2.10:5060>;expires=3600");
    assert_eq!(first.text("Supported").as_deref(), Some("path"));
    assert_eq!(first.text("Authorization"), None);

    peer.reply(&first, 401, &[("WWW-Authenticate", &challenge("n1", false))]);
    let second = peer.request("REGISTER");
    assert_eq!(second.request.head.call_id, first.request.head.call_id);
    assert_eq!(second.request.head.cseq.number, first.request.head.cseq.number + 1);
    assert_ne!(second.request.head.via[0].branch(), first.request.head.via[0].branch());
    let authorization = second.text("Authorization").unwrap();
    assert!(
        authorization.contains("nonce=\"n1\"") && authorization.contains("nc=00000001"),
        "{authorization}"
    );

    peer.reply(
        &second,
        200,
        &[("Contact", "<sip:1001@192.0.2.10:5060>;expires=600"), ("Path", "<sip:edge;lr>")],
    );
    let RegistrationState::Registered { expires, binding, contacts, .. } = peer.state() else { panic!() };
    assert_eq!(expires, Duration::from_secs(600));
    assert_eq!(binding, "sip:1001@192.0.2.10:5060");
    assert_eq!(contacts, ["sip:1001@192.0.2.10:5060"]);

    peer.seconds(440.0);
    peer.nothing_sent();
    peer.seconds(110.0);
    let refresh = peer.request("REGISTER");
    assert_eq!(refresh.request.head.call_id, first.request.head.call_id);
    assert_eq!(refresh.request.head.cseq.number, second.request.head.cseq.number + 1);
    assert!(refresh.text("Authorization").unwrap().contains("nc=00000002"), "the nonce is used again");
}

#[test]
fn a_grant_of_45_seconds_is_honoured() {
    let mut peer = Peer::new();
    peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Contact", "<sip:1001@192.0.2.10:5060>;expires=45")]);
    peer.seconds(22.0);
    peer.nothing_sent();
    peer.seconds(12.0);
    peer.request("REGISTER");
}

#[test]
fn an_interval_too_brief_is_raised_at_once() {
    let mut peer = Peer::new();
    let mut account = line();
    account.expires = Duration::from_secs(60);
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 423, &[("Min-Expires", "1800")]);
    let again = peer.request("REGISTER");
    assert_eq!(again.contact(), "<sip:1001@192.0.2.10:5060>;expires=1800");
    assert_eq!(again.request.head.cseq.number, register.request.head.cseq.number + 1);
    assert_eq!(again.request.head.call_id, register.request.head.call_id);
    // A registrar that never has enough is not followed for ever.
    peer.reply(&again, 423, &[("Min-Expires", "1800")]);
    peer.nothing_sent();
    assert!(failing(peer.state()).0.contains("423"));
}

#[test]
fn the_answer_may_hold_other_contacts_or_a_rewritten_one() {
    let mut peer = Peer::new();
    peer.add(line());
    let register = peer.request("REGISTER");
    let contacts = "<sip:1001@203.0.113.7:1024>;expires=30, <sip:1001@192.0.2.10:5060>;expires=900";
    peer.reply(&register, 200, &[("Contact", contacts)]);
    let RegistrationState::Registered { expires, contacts, .. } = peer.state() else { panic!() };
    assert_eq!(expires, Duration::from_secs(900), "ours counts, not the other phone's");
    assert_eq!(contacts.len(), 2);

    // An ALG has rewritten ours: it still counts.
    peer.ua.register(peer.now, crate::sip::handle::AccountId(1));
    peer.drain();
    let register = peer.request("REGISTER");
    let rewritten = "<sip:1001@203.0.113.101:49152;x-ast-orig-host=192.0.2.10:5060>;expires=120";
    peer.reply(&register, 200, &[("Contact", rewritten)]);
    let RegistrationState::Registered { expires, .. } = peer.state() else { panic!() };
    assert_eq!(expires, Duration::from_secs(120));

    // No Contact at all: the Expires field, else what was asked for.
    peer.ua.register(peer.now, crate::sip::handle::AccountId(1));
    peer.drain();
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[]);
    let RegistrationState::Registered { expires, .. } = peer.state() else { panic!() };
    assert_eq!(expires, Duration::from_secs(3600));
}

#[test]
fn a_stored_binding_of_an_earlier_life_is_removed_in_the_same_request() {
    let mut peer = Peer::new();
    let mut account = line();
    account.old_bindings = vec!["sip:1001@192.0.2.99:5060".into()];
    peer.add(account);
    let register = peer.request("REGISTER");
    let expected = ["<sip:1001@192.0.2.10:5060>;expires=3600", "<sip:1001@192.0.2.99:5060>;expires=0"];
    assert_eq!(register.contacts(), expected);
    // The challenge comes in between; the removal is in the answer to it too.
    peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("n1", false))]);
    let register = peer.request("REGISTER");
    assert_eq!(register.contacts(), expected);
    peer.reply(&register, 200, &[("Expires", "600")]);
    peer.seconds(590.0);
    assert_eq!(peer.request("REGISTER").contacts(), ["<sip:1001@192.0.2.10:5060>;expires=3600"]);
}

#[test]
fn a_moved_nat_address_replaces_the_old_contact_in_one_request() {
    let (mut peer, id) = Peer::registered();
    peer.ua.register(peer.now, id);
    peer.drain();
    let register = peer.request("REGISTER");
    peer.reply_seeing(&register, 200, &[("Expires", "3600")], address("203.0.113.5:40123"));
    let moved = peer.request("REGISTER");
    assert_eq!(
        moved.contacts(),
        ["<sip:1001@203.0.113.5:40123>;expires=3600", "<sip:1001@192.0.2.10:5060>;expires=0"]
    );
    peer.reply_seeing(&moved, 200, &[("Expires", "3600")], address("203.0.113.5:40123"));
    peer.nothing_sent();
    assert_eq!(peer.ua.contact(id).as_deref(), Some("sip:1001@203.0.113.5:40123"));
}

#[test]
fn the_contact_of_a_stream_behind_a_nat_is_what_the_registrar_sees() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tcp];
    let id = peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply_seeing(&register, 200, &[("Expires", "3600")], address("203.0.113.5:40123"));
    let moved = peer.request("REGISTER");
    let public = "sip:1001@203.0.113.5:40123;transport=tcp";
    assert_eq!(moved.connection, register.connection);
    assert_eq!(
        moved.contacts(),
        [
            format!("<{public}>;expires=3600"),
            "<sip:1001@192.0.2.10:40000;transport=tcp>;expires=0".to_owned()
        ]
    );
    peer.reply_seeing(&moved, 200, &[("Expires", "3600")], address("203.0.113.5:40123"));
    peer.nothing_sent();
    assert_eq!(peer.ua.contact(id).as_deref(), Some(public));
}

#[test]
fn a_registrar_that_can_not_take_two_contacts_gets_one() {
    let mut peer = Peer::new();
    let mut account = line();
    account.old_bindings = vec!["sip:1001@192.0.2.99:5060".into()];
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 400, &[]);
    assert_eq!(peer.request("REGISTER").contacts(), ["<sip:1001@192.0.2.10:5060>;expires=3600"]);
}

#[test]
fn forbidden_means_stop_and_tell() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 403, &[]);
    assert!(matches!(peer.state(), RegistrationState::Rejected { status: 403, .. }));
    peer.seconds(86_400.0);
    peer.nothing_sent();
    // Until somebody says so.
    peer.ua.register(peer.now, id);
    peer.drain();
    peer.request("REGISTER");
}

#[test]
fn a_full_list_of_contacts_is_no_wrong_password() {
    let old = address("203.0.113.5:40123");
    let (mut peer, id) = Peer::registered();
    peer.ua.register(peer.now, id);
    peer.drain();
    for _ in 0..2 {
        let register = peer.request("REGISTER");
        peer.reply_seeing(&register, 200, &[("Expires", "3600")], old);
    }
    peer.events.clear();
    // The NAT has moved, and the registrar takes no second contact: the old one makes room for the new one.
    let new = address("203.0.113.9:1024");
    let refresh = peer.await_request("REGISTER");
    peer.reply_seeing(&refresh, 403, &[], new);
    let moved = peer.request("REGISTER");
    let expected = ["<sip:1001@203.0.113.9:1024>;expires=3600", "<sip:1001@203.0.113.5:40123>;expires=0"];
    assert_eq!(moved.contacts(), expected);
    peer.reply_seeing(&moved, 200, &[("Expires", "3600")], new);
    peer.nothing_sent();
    assert!(peer.told().iter().all(|state| matches!(state, RegistrationState::Registered { .. })));
    // Forbidden in spite of that: left alone for ten minutes, and not for ever.
    for _ in 0..2 {
        let refresh = peer.await_request("REGISTER");
        peer.reply_seeing(&refresh, 403, &[], new);
        let again = peer.request("REGISTER");
        peer.reply_seeing(&again, 403, &[], new);
        peer.nothing_sent();
        let (reason, retry_at) = failing(peer.state());
        assert!(reason.contains("contacts"), "{reason}");
        assert!(retry_at - peer.now.mono_us >= 600_000_000);
        let again = peer.await_request("REGISTER");
        peer.reply_seeing(&again, 200, &[("Expires", "3600")], new);
        assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    }
}

#[test]
fn a_wrong_password_is_tried_twice_and_then_left_for_ten_minutes() {
    let mut peer = Peer::new();
    peer.add(line());
    for attempt in 1..=2 {
        // The second try may begin with the challenge it knows; either way one answer is refused.
        let register = peer.request("REGISTER");
        peer.reply(&register, 401, &[("WWW-Authenticate", &challenge(&format!("a{attempt}"), false))]);
        let answered = peer.request("REGISTER");
        assert!(answered.text("Authorization").is_some());
        peer.reply(&answered, 401, &[("WWW-Authenticate", &challenge(&format!("b{attempt}"), false))]);
        peer.nothing_sent();
        let failed = peer.events.iter().any(|event| matches!(event, Event::AuthenticationFailed { .. }));
        assert!(failed, "it is told");
        peer.events.clear();
        let (reason, _) = failing(peer.state());
        assert!(reason.contains("password"), "{reason}");
        let waited = wait_for_retry(&mut peer);
        assert!(if attempt == 1 { waited <= 3.0 } else { waited >= 600.0 }, "{attempt}: {waited}");
    }
}

#[test]
fn a_stale_nonce_is_no_wrong_password() {
    let mut peer = Peer::new();
    peer.add(line());
    let mut register = peer.request("REGISTER");
    peer.reply(&register, 401, &[("WWW-Authenticate", &challenge("n0", false))]);
    for round in 1..=3 {
        register = peer.request("REGISTER");
        peer.reply(&register, 401, &[("WWW-Authenticate", &challenge(&format!("n{round}"), true))]);
    }
    register = peer.request("REGISTER");
    assert!(register.text("Authorization").unwrap().contains("nonce=\"n3\""));
    peer.reply(&register, 403, &[]);
    assert!(matches!(peer.state(), RegistrationState::Rejected { .. }), "and 403 after it means stop");
    peer.seconds(3600.0);
    peer.nothing_sent();
}

#[test]
fn a_redirection_is_followed_and_forgotten_when_it_fails() {
    let mut peer = Peer::new();
    peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(
        &register,
        302,
        &[("Contact", "<sip:198.51.100.9:5070>;q=0.2, <sip:198.51.100.8:5080>;q=0.9")],
    );
    let elsewhere = peer.request("REGISTER");
    assert_eq!(elsewhere.remote, address("198.51.100.8:5080"));
    assert_eq!(elsewhere.request.uri.to_string(), "sip:198.51.100.8:5080");
    assert_eq!(elsewhere.request.head.to.to_string(), "<sip:1001@pbx.example>");
    // The redirected server challenges, and is answered: the registrar has named it.
    peer.reply(&elsewhere, 401, &[("WWW-Authenticate", &challenge("n1", false))]);
    let answered = peer.request("REGISTER");
    assert!(answered.text("Authorization").is_some());
    peer.reply(&answered, 500, &[]);
    wait_for_retry(&mut peer);
    assert_eq!(peer.request("REGISTER").remote, address("198.51.100.1:5060"));
}

#[test]
fn redirections_do_not_go_on_for_ever() {
    let mut peer = Peer::new();
    peer.add(line());
    for _ in 0..4 {
        let register = peer.request("REGISTER");
        peer.reply(&register, 302, &[("Contact", "<sip:198.51.100.1:5060>")]);
    }
    peer.nothing_sent();
    assert!(failing(peer.state()).0.contains("elsewhere"));
}

#[test]
fn failures_back_off_with_jitter_and_a_ceiling() {
    // Slower where another flow of the line stands (RFC 5626 §4.5).
    for (relieved, base) in [(false, 30u32), (true, 90)] {
        let mut peer = Peer::new();
        let id = peer.add(line());
        peer.ua.set_relieved(id, relieved);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let register = peer.request("REGISTER");
            peer.reply(&register, 500, &[]);
            waits.push(wait_for_retry(&mut peer));
        }
        assert!(waits[0] <= 3.0, "{waits:?}");
        for (index, wait) in waits.iter().enumerate().skip(1) {
            let ceiling = f64::from(base << (index - 1)).min(1800.0);
            assert!(*wait >= ceiling / 2.0 && *wait <= ceiling, "{index}: {wait} of {ceiling}");
        }
        let register = peer.request("REGISTER");
        peer.reply(&register, 200, &[("Expires", "3600")]);
        assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    }
}

#[test]
fn the_second_flow_of_a_line_is_an_account_that_comes_and_goes_alone() {
    let mut peer = Peer::new();
    let flow = |number: u8, proxy: &str| {
        let mut account = line();
        account.outbound_proxy = Some(sip(proxy));
        account.instance = Some("urn:uuid:1".into());
        (account.reg_id, account.standby) = (number, number == 2);
        account
    };
    let outbound = [("Require", "outbound"), ("Expires", "600")];
    peer.add(flow(1, "sip:198.51.100.31"));
    let second = peer.add(Account { contact_user: Some("1001~2".into()), ..flow(2, "sip:198.51.100.32") });
    let one = peer.request("REGISTER");
    peer.nothing_sent();
    peer.reply(&one, 200, &outbound);
    peer.ua.register(peer.now, second);
    peer.drain();
    let two = peer.request("REGISTER");
    assert_eq!((one.remote, two.remote), (address("198.51.100.31:5060"), address("198.51.100.32:5060")));
    assert_ne!(one.request.head.call_id, two.request.head.call_id);
    assert!(one.contact().contains("+sip.instance=\"<urn:uuid:1>\";reg-id=1"), "{}", one.contact());
    assert!(two.contact().contains("+sip.instance=\"<urn:uuid:1>\";reg-id=2"), "{}", two.contact());
    assert!(!peer.ua.is_outbound(second));
    // The registrar tells of both, and grants each its own time.
    let both = format!("{};expires=60, {};expires=600", one.contact(), two.contact());
    let both = both.replace(";expires=3600", "");
    peer.reply(&two, 200, &[("Require", "outbound"), ("Contact", &both)]);
    let state = peer.ua.registration_state(second).cloned();
    let Some(RegistrationState::Registered { expires, .. }) = state else { panic!("{state:?}") };
    assert_eq!((expires.as_secs(), peer.ua.is_outbound(second)), (600, true));
    // Other settings leave it registered; taken back, it takes nothing else along.
    let mut other = flow(2, "sip:198.51.100.32");
    other.display_name = Some("Reception".into());
    other.contact_user = Some("1001~2".into());
    peer.ua.replace_account(peer.now, second, other);
    peer.drain();
    let again = peer.request("REGISTER");
    assert_eq!(again.remote, two.remote);
    peer.reply(&again, 200, &outbound);
    peer.ua.unregister(peer.now, second);
    peer.drain();
    let gone = peer.request("REGISTER");
    let contact = two.contact().replace(";expires=3600", ";expires=0");
    assert_eq!((gone.remote, gone.contacts()), (two.remote, vec![contact]));
    peer.reply(&gone, 200, &[]);
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    // Whoever only stands by is not registered by other settings.
    peer.ua.replace_account(peer.now, second, flow(2, "sip:198.51.100.32"));
    peer.drain();
    peer.nothing_sent();
}

#[test]
fn retry_after_is_obeyed_even_if_it_is_zero() {
    let mut peer = Peer::new();
    peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 503, &[("Retry-After", "120")]);
    let waited = wait_for_retry(&mut peer);
    assert!((120.0..=123.0).contains(&waited), "{waited}");
    for _ in 0..3 {
        let register = peer.request("REGISTER");
        peer.reply(&register, 503, &[("Retry-After", "0")]);
        let waited = wait_for_retry(&mut peer);
        assert!(waited <= 3.0, "{waited}");
    }
    let register = peer.request("REGISTER");
    peer.reply(&register, 503, &[("Retry-After", "4000000000")]);
    assert!(wait_for_retry(&mut peer) <= 3603.0, "nobody keeps a line off for years");
}

#[test]
fn silence_is_a_failure_after_64_t1() {
    let mut peer = Peer::new();
    peer.add(line());
    peer.seconds(31.9);
    assert_eq!(peer.sent.len(), 11, "the first and ten repetitions");
    assert_eq!(peer.state(), RegistrationState::Registering);
    peer.seconds(0.2);
    assert!(failing(peer.state()).0.contains("did not answer"));
}

#[test]
fn an_unknown_host_is_told_with_what_to_do() {
    let mut peer = Peer::new();
    peer.names.insert(Question::A("pbx.example".into()), Err(LookupError::NoSuchName));
    peer.add(line());
    let (reason, _) = failing(peer.state());
    assert!(reason.contains("pbx.example") && reason.contains("check the domain"), "{reason}");
}

#[test]
fn unregistering_takes_the_binding_back() {
    let (mut peer, id) = Peer::registered();
    peer.ua.unregister(peer.now, id);
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.contact(), "<sip:1001@192.0.2.10:5060>;expires=0");
    assert_eq!(register.text("Expires").as_deref(), Some("0"));
    peer.reply(&register, 200, &[]);
    assert_eq!(peer.told(), [RegistrationState::Unregistered]);
    peer.seconds(86_400.0);
    peer.nothing_sent();
}

#[test]
fn unregistering_while_registering_waits_for_the_answer() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    peer.ua.unregister(peer.now, id);
    peer.drain();
    peer.nothing_sent();
    peer.reply(&register, 200, &[("Expires", "600")]);
    let remove = peer.request("REGISTER");
    assert_eq!(remove.text("Expires").as_deref(), Some("0"));
    peer.reply(&remove, 200, &[]);
    assert_eq!(peer.state(), RegistrationState::Unregistered);
}

#[test]
fn shutdown_unregisters_and_is_bounded() {
    let (mut peer, _) = Peer::registered();
    peer.ua.shutdown(peer.now);
    peer.drain();
    let register = peer.request("REGISTER");
    assert!(!peer.events.iter().any(|event| matches!(event, Event::Stopped)));
    peer.reply(&register, 200, &[]);
    assert!(peer.events.iter().any(|event| matches!(event, Event::Stopped)));

    let (mut peer, _) = Peer::registered();
    peer.ua.shutdown(peer.now);
    peer.drain();
    peer.seconds(2.0);
    assert!(
        peer.events.iter().any(|event| matches!(event, Event::Stopped)),
        "a dead registrar does not hold it up"
    );
}

#[test]
fn the_service_route_is_used_for_calls_and_not_for_register() {
    let mut peer = Peer::new();
    let id = peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "600"), ("Service-Route", "<sip:198.51.100.20:5066;lr>")]);
    let target = crate::sip::uri::Uri::parse("sip:1002@pbx.example").unwrap();
    peer.ua.invite(peer.now, id, target, Default::default()).unwrap();
    peer.drain();
    let invite = peer.request("INVITE");
    assert_eq!(invite.remote, address("198.51.100.20:5066"));
    assert_eq!(invite.text("Route").as_deref(), Some("<sip:198.51.100.20:5066;lr>"));
    peer.seconds(545.0);
    while peer.sent.front().is_some_and(|sent| sent.remote != address("198.51.100.1:5060")) {
        peer.sent.pop_front();
    }
    let register = peer.request("REGISTER");
    assert_eq!((register.remote, register.text("Route")), (address("198.51.100.1:5060"), None));
}

#[test]
fn an_outbound_proxy_is_the_first_hop_of_everything() {
    let mut peer = Peer::new();
    let mut account = line();
    account.outbound_proxy = Some(sip("sip:198.51.100.30"));
    account.transports = vec![Transport::Tcp];
    peer.add(account);
    let register = peer.request("REGISTER");
    assert_eq!((register.transport, register.remote), (Transport::Tcp, address("198.51.100.30:5060")));
    assert_eq!(register.text("Route").as_deref(), Some("<sip:198.51.100.30;lr>"));
    assert_eq!(register.contact(), "<sip:1001@192.0.2.10:40000;transport=tcp>;expires=3600");
}

#[test]
fn a_lost_connection_registers_anew_within_three_seconds() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tls];
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "3600")]);
    peer.seconds(1000.0);
    assert!(peer.closed.is_empty(), "a registered connection is not closed for idleness");
    peer.close(register.connection.unwrap(), "reset by peer");
    assert!(failing(peer.state()).0.contains("reset by peer"));
    peer.seconds(3.0);
    let again = peer.request("REGISTER");
    assert_ne!(again.connection, register.connection);
    assert!(again.text("Contact").unwrap().contains("transport=tls"));
}

#[test]
fn a_registrar_that_keeps_no_binding_has_not_registered_us() {
    let mut peer = Peer::new();
    peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Contact", "<sip:1001@192.0.2.10:5060>;expires=0")]);
    assert!(failing(peer.state()).0.contains("no binding"));
}

//! What comes in: trusted or not, served or refused, by whom claimed, and how much of it.

use super::*;
use crate::sip::account::Limits;
use crate::sip::call::CallEvent;
use crate::sip::method::Method;
use crate::sip::network::FIRST_ACCEPTED;
use crate::sip::trust::{Network, Trust};
use crate::sip::user_agent::test_peer::{Peer, address, call, line, sip};

const PBX: &str = "198.51.100.1:5060";
const STRANGER: &str = "203.0.113.66:5060";

/// A request from the PBX; `fields` are lines, each with its end.
fn say(method: &str, uri: &str, fields: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch={{branch}};rport\n\
         Max-Forwards: 70\n\
         From: <sip:1002@pbx.example>;tag=them\nTo: <sip:1001@pbx.example>\nCall-ID: c1\nCSeq: 1 {method}\n\
         Contact: <sip:1002@198.51.100.1>\n{fields}Content-Length: 0\n\n"
    )
}

fn incoming(peer: &Peer) -> Option<CallId> {
    peer.events.iter().find_map(|event| match event {
        Event::Call { call, event: CallEvent::Incoming(_) } => Some(*call),
        _ => None,
    })
}

fn count_ended(peer: &Peer) -> usize {
    let ended = |event: &&Event| matches!(event, Event::Call { event: CallEvent::Ended(_), .. });
    peer.events.iter().filter(ended).count()
}

#[test]
fn options_are_answered_however_the_uri_was_rewritten() {
    let uris = [
        "sip:1001@192.0.2.10:5060",
        "sip:1001@203.0.113.101:49152;ob;x-ast-orig-host=192.0.2.10:5060",
        "sip:1001@203.0.113.101:49152;alias=203.0.113.1~1024~1",
        "sip:1001@192.0.2.10;transport=tcp",
        "sip:192.0.2.10",
        "sips:1001@pbx.example",
        "tel:+15550100",
    ];
    for uri in uris {
        let (mut peer, _) = Peer::registered();
        peer.datagram("198.51.100.1:5064", &say("OPTIONS", uri, ""));
        let response = peer.response(200);
        assert!(response.fields.has_token("Allow", "INVITE") && response.fields.has_token("Allow", "UPDATE"));
        assert!(response.fields.has_token("Supported", "100rel"));
        assert!(response.fields.text("Accept").unwrap().contains("application/sdp"));
        assert!(response.head.to_tag().is_some());
        assert_eq!(response.head.via[0].rport(), Some(Some(5064)), "{uri}");
        assert_eq!(response.head.via[0].received(), Some("198.51.100.1".parse().unwrap()));
        peer.datagram(PBX, &say("INVITE", uri, "").replace("c1", "c2"));
        assert!(incoming(&peer).is_some(), "{uri}");
    }
}

#[test]
fn an_answer_goes_back_to_the_port_that_the_via_names_without_rport() {
    let (mut peer, _) = Peer::registered();
    let text = say("OPTIONS", "sip:1001@192.0.2.10", "")
        .replace(";rport", "")
        .replace("198.51.100.1:5060;b", "198.51.100.1:5090;b");
    peer.datagram("198.51.100.1:33333", &text);
    assert_eq!(peer.sent.front().unwrap().remote, address("198.51.100.1:5090"));
}

#[test]
fn a_stranger_gets_no_answer_at_all() {
    let (mut peer, _) = Peer::registered();
    for method in
        ["OPTIONS", "INVITE", "REGISTER", "MESSAGE", "NOTIFY", "REFER", "BYE", "CANCEL", "ACK", "FOO"]
    {
        peer.datagram(STRANGER, &say(method, "sip:1001@192.0.2.10", ""));
    }
    peer.datagram(
        STRANGER,
        "INVITE sip:1001@192.0.2.10 SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.66;branch={branch}\n\n",
    );
    peer.datagram(STRANGER, "garbage\n\n");
    peer.nothing_sent();
    assert!(peer.events.is_empty());
    let counters = peer.ua.counters();
    assert_eq!((counters.untrusted, counters.unreadable), (10, 2));
    peer.accept(FIRST_ACCEPTED, STRANGER);
    assert_eq!(peer.closed, [FIRST_ACCEPTED]);
    assert_eq!(peer.ua.counters().refused_connections, 1);
}

#[test]
fn every_address_of_the_provider_and_every_configured_network_is_trusted() {
    let mut peer = Peer::new();
    let addresses =
        ["198.51.100.1", "198.51.100.2", "198.51.100.3"].map(|address| crate::sip::network::Record {
            data: crate::sip::network::RecordData::Address(address.parse().unwrap()),
            ttl: 60,
        });
    peer.names.insert(crate::sip::network::Question::A("pbx.example".into()), Ok(addresses.to_vec()));
    let mut account = line();
    account.trust = Trust::Networks(vec![Network { address: "203.0.113.64".parse().unwrap(), prefix: 30 }]);
    peer.add(account);
    peer.sent.clear();
    for remote in ["198.51.100.3:9", "203.0.113.66:5060", "203.0.113.67:1"] {
        peer.datagram(remote, &say("OPTIONS", "sip:1001@192.0.2.10", "").replace("c1", remote));
        peer.response(200);
    }
    peer.datagram("203.0.113.68:5060", &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    peer.nothing_sent();
}

#[test]
fn what_can_not_be_served_is_refused_as_the_rfc_wants() {
    let sdp = "Content-Type: application/sdp\n";
    let cases: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("SUBSCRIBE", "sip:1001@h", "Event: presence\n", 405, "Allow", "INVITE"),
        ("PUBLISH", "sip:1001@h", "", 405, "Allow", "BYE"),
        ("MESSAGE", "sip:1001@h", "", 405, "Allow", "BYE"),
        ("NewMethod", "sip:1001@h", "", 501, "Allow", "OPTIONS"),
        ("invite", "sip:1001@h", "", 501, "Allow", "INVITE"),
        ("OPTIONS", "nobodyKnowsThisScheme:totallyopaquecontent", "", 416, "", ""),
        ("OPTIONS", "soap.beep://192.0.2.103:3002", "", 416, "", ""),
        (
            "OPTIONS",
            "sip:1001@h",
            "Require: nothingSupportsThis, nothingSupportsThisEither\n",
            420,
            "Unsupported",
            "nothingSupportsThis",
        ),
        ("INVITE", "sip:1001@h", "Require: 100rel, gruu\n", 420, "Unsupported", "gruu"),
        ("INVITE", "sip:1001@h", "Accept: text/nobodyKnowsThis\n", 406, "Accept", "application/sdp"),
        ("BYE", "sip:1001@h", "", 481, "", ""),
        ("UPDATE", "sip:1001@h", "", 481, "", ""),
        ("PRACK", "sip:1001@h", "RAck: 1 1 INVITE\n", 481, "", ""),
        ("INFO", "sip:1001@h", "", 481, "", ""),
        ("CANCEL", "sip:1001@h", "", 481, "", ""),
        ("INVITE", "sip:1001@h", &format!("{sdp}X: y\n"), 0, "", ""),
    ];
    for (method, uri, fields, status, field, token) in cases {
        let (mut peer, _) = Peer::registered();
        peer.datagram(PBX, &say(method, uri, fields));
        if *status == 0 {
            assert!(incoming(&peer).is_some());
            continue;
        }
        let response = peer.response(*status);
        assert!(response.head.to_tag().is_some(), "{method}");
        if !field.is_empty() {
            assert!(response.fields.has_token(field, token), "{method}: {:?}", response.fields.text(field));
        }
        assert!(incoming(&peer).is_none());
        assert_eq!(peer.ua.counters().refused_requests, 1);
    }
}

/// A request with a body.
fn say_body(method: &str, fields: &str, body: &str) -> String {
    let text = say(method, "sip:1001@192.0.2.10", fields);
    text.replace("Content-Length: 0\n\n", &format!("Content-Length: {}\n\n{body}", body.len()))
}

#[test]
fn a_body_that_is_not_understood_gets_415_unless_it_is_optional() {
    let (mut peer, _) = Peer::registered();
    peer.datagram(PBX, &say_body("INVITE", "Content-Type: application/unknownformat\n", "<audio/>"));
    assert_eq!(peer.response(415).fields.text("Accept").unwrap(), "application/sdp");
    let optional =
        "Content-Type: application/unknownformat\nContent-Disposition: session;handling=optional\n";
    peer.datagram(PBX, &say_body("INVITE", optional, "<audio/>").replace("c1", "c2"));
    assert!(incoming(&peer).is_some());
    let coded = "Content-Type: application/sdp\nContent-Encoding: gzip\n";
    peer.sent.clear();
    peer.datagram(PBX, &say_body("INVITE", coded, "xx").replace("c1", "c3"));
    let refused = peer.sent.iter().filter(|sent| sent.message.write().starts_with(b"SIP/2.0 415"));
    assert_eq!(refused.count(), 1);
    peer.sent.clear();
    peer.datagram(PBX, &say_body("INVITE", "", "v=0").replace("c1", "c4"));
    assert!(
        peer.sent.iter().any(|sent| sent.message.write().starts_with(b"SIP/2.0 400 Missing Content-Type"))
    );
}

#[test]
fn max_forwards_zero_is_processed_and_a_proxys_demands_are_not_ours() {
    let (mut peer, _) = Peer::registered();
    let text = say("OPTIONS", "sip:1001@192.0.2.10", "Proxy-Require: nothingSupportsThis\n");
    peer.datagram(PBX, &text.replace("Max-Forwards: 70", "Max-Forwards: 0"));
    peer.response(200);
}

#[test]
fn a_broken_request_of_the_pbx_gets_a_reason() {
    let (mut peer, _) = Peer::registered();
    let text = say("OPTIONS", "sip:1001@192.0.2.10", "");
    peer.datagram(PBX, &text.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"));
    peer.response(400);
    peer.datagram(PBX, &text.replace("SIP/2.0\nVia", "SIP/7.0\nVia"));
    peer.response(505);
    assert_eq!(peer.ua.counters().unreadable, 2);
}

#[test]
fn keep_alives_are_no_messages() {
    let (mut peer, _) = Peer::registered();
    for bytes in ["", "\n\n", "\n", "\n\0", "\0\0\0\0"] {
        peer.datagram(PBX, bytes);
    }
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().unreadable, 0);
}

#[test]
fn the_same_request_by_another_way_is_merged() {
    let (mut peer, _) = Peer::registered();
    let invite = say("INVITE", "sip:1001@192.0.2.10", "");
    peer.datagram(PBX, &invite);
    let call = incoming(&peer).unwrap();
    peer.datagram(PBX, &invite);
    peer.response(482);
    let ended = count_ended(&peer);
    assert_eq!((ended, peer.ua.calls.len()), (0, 1));
    peer.ua.ring(peer.now, call, 180, None).unwrap();
}

#[test]
fn repetitions_are_answered_alike() {
    let (mut peer, _) = Peer::registered();
    let options = say("OPTIONS", "sip:1001@192.0.2.10", "").replace("{branch}", "z9hG4bK-fixed");
    peer.datagram(PBX, &options);
    let first = peer.response(200);
    peer.datagram(PBX, &options);
    assert_eq!(peer.response(200), first);
    // 100 by itself when nobody decides, and again for a repetition.
    let invite =
        say("INVITE", "sip:1001@192.0.2.10", "").replace("{branch}", "z9hG4bK-inv").replace("c1", "c2");
    peer.datagram(PBX, &invite);
    peer.nothing_sent();
    peer.seconds(0.2);
    assert_eq!(peer.response(100).head.to_tag(), None);
    peer.datagram(PBX, &invite);
    peer.response(100);
}

#[test]
fn an_invite_of_rfc_2543_is_matched_without_a_magic_cookie() {
    let (mut peer, _) = Peer::registered();
    let old = say("INVITE", "sip:1001@192.0.2.10", "")
        .replace(";branch={branch};rport", "")
        .replace(";tag=them", "");
    peer.datagram(PBX, &old);
    let call = incoming(&peer).unwrap();
    peer.events.clear();
    peer.datagram(PBX, &old);
    assert_eq!(incoming(&peer), None, "a repetition");
    peer.sent.clear();
    peer.ua.reject(peer.now, call, 486, None, &[]).unwrap();
    peer.drain();
    let refusal = peer.response(486);
    let to = refusal.head.to.to_string();
    let ack = old
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK")
        .replace("To: <sip:1001@pbx.example>", &format!("To: {to}"));
    peer.datagram(PBX, &ack);
    peer.seconds(40.0);
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().stray_acks, 0);
}

#[test]
fn cancel_reaches_the_invite_it_is_for() {
    let (mut peer, _) = Peer::registered();
    let invite = say("INVITE", "sip:1001@192.0.2.10", "").replace("{branch}", "z9hG4bK-inv");
    peer.datagram(PBX, &invite);
    let call = incoming(&peer).unwrap();
    peer.ua.ring(peer.now, call, 180, None).unwrap();
    peer.drain();
    let ringing = peer.response(180);
    assert_eq!(ringing.fields.text("Contact").unwrap(), "<sip:1001@192.0.2.10:5060>");
    peer.datagram(PBX, &invite.replace("INVITE", "CANCEL"));
    let first = peer.response(200);
    assert_eq!(first.head.cseq.method, Method::CANCEL);
    let terminated = peer.response(487);
    assert_eq!(terminated.head.to_tag(), ringing.head.to_tag());
    assert_eq!(count_ended(&peer), 1);
    // No ACK: the 487 is repeated, then given up, and nothing is left behind.
    peer.seconds(33.0);
    assert!(peer.sent.iter().all(|sent| sent.message.write().starts_with(b"SIP/2.0 487")));
    assert_eq!((peer.ua.calls.len(), peer.ua.dialogs.len(), peer.ua.invites.len()), (0, 0, 0));
    assert_eq!(peer.ua.wire.transactions.count(), (0, 0));
}

#[test]
fn requests_in_no_dialog_get_481_and_stray_acks_are_counted() {
    let (mut peer, _) = Peer::registered();
    for method in ["BYE", "INFO", "OPTIONS", "INVITE", "UPDATE"] {
        let text = say(method, "sip:1001@192.0.2.10", "")
            .replace("To: <sip:1001@pbx.example>", "To: <sip:1001@pbx.example>;tag=unknown");
        peer.datagram(PBX, &text.replace("c1", method));
        assert_eq!(peer.response(481).head.to_tag(), Some("unknown"));
    }
    peer.datagram(PBX, &say("ACK", "sip:1001@192.0.2.10", ""));
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().stray_acks, 1);
}

#[test]
fn stray_responses_are_dropped_and_counted() {
    let (mut peer, _) = Peer::registered();
    let text = "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch={branch}\nFrom: <sip:a@b>;tag=1\n\
                To: <sip:c@d>;tag=2\nCall-ID: x\nCSeq: 1 INVITE\nContent-Length: 0\n\n";
    peer.datagram(STRANGER, text);
    peer.datagram(PBX, text);
    peer.nothing_sent();
    assert_eq!(peer.ua.counters().stray_responses, 2);
}

#[test]
fn an_invite_is_for_the_line_it_names() {
    let (mut peer, first) = Peer::registered();
    let mut second = line();
    second.aor = sip("sip:1002@pbx.example");
    let second = peer.add(second);
    let account_of = |peer: &mut Peer, uri: &str, to: &str, id: &str| {
        peer.events.clear();
        let text =
            say("INVITE", uri, "").replace("To: <sip:1001@", &format!("To: <sip:{to}@")).replace("c1", id);
        peer.datagram(PBX, &text);
        incoming(peer).map(|call| peer.ua.calls[&call].account())
    };
    assert_eq!(account_of(&mut peer, "sip:1001@x", "anything", "i1"), Some(first));
    assert_eq!(account_of(&mut peer, "sip:1002@192.0.2.10:5060", "1001", "i2"), Some(second));
    assert_eq!(account_of(&mut peer, "sip:74951234567@192.0.2.10", "1002", "i3"), Some(second), "by To");
    peer.sent.clear();
    assert_eq!(account_of(&mut peer, "sip:unknown@192.0.2.10", "unknown", "i4"), None);
    peer.response(404);
}

#[test]
fn served_methods_go_to_the_room_above() {
    let settings = Settings {
        udp: vec![address("192.0.2.10:5060")],
        serves: vec![Method::REGISTER],
        ..Settings::default()
    };
    let mut peer = Peer::with(settings);
    let mut account = line();
    account.register = false;
    account.catch_all = true;
    account.trust = Trust::Networks(vec![Network::ANY_V4, Network::ANY_V6]);
    let id = peer.add(account);
    peer.datagram(STRANGER, &say("REGISTER", "sip:pbx.example", ""));
    let (transaction, request) = peer
        .events
        .iter()
        .find_map(|event| match event {
            Event::Request { transaction, account, request, .. } if *account == Some(id) => {
                Some((*transaction, request.clone()))
            }
            _ => None,
        })
        .expect("an event");
    peer.ua.respond(peer.now, transaction, Response::to(&request, 200));
    peer.drain();
    assert_eq!(peer.response(200).head.to_tag().map(str::len), Some(16));
    peer.datagram(STRANGER, &say("INVITE", "sip:anybody@pbx.example", "").replace("c1", "c2"));
    assert!(incoming(&peer).is_some());
}

#[test]
fn floods_leave_memory_bounded() {
    let limits = Limits { server_transactions: 200, calls: 20, ..Limits::default() };
    let settings = Settings { udp: vec![address("0.0.0.0:5060")], limits, ..Settings::default() };
    let mut peer = Peer::with(settings);
    peer.add(line());
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "3600")]);
    for number in 0..2000 {
        let invite = say("INVITE", "sip:1001@192.0.2.10", "").replace("c1", &format!("flood{number}"));
        peer.datagram(PBX, &invite);
    }
    assert_eq!(peer.ua.calls.len(), 20);
    assert!(peer.ua.wire.transactions.count().1 <= 200);
    assert!(peer.ua.wire.incoming.len() <= 200);
    assert_eq!(peer.ua.counters().overflow, 1800);
    let busy = peer.sent.iter().filter(|sent| sent.message.write().starts_with(b"SIP/2.0 503")).count();
    assert_eq!(busy, 180);
    // Answers to our REGISTER by the thousand change nothing.
    for _ in 0..2000 {
        peer.reply(&register, 401, &[("WWW-Authenticate", "Digest realm=\"x\", nonce=\"y\"")]);
    }
    assert!(matches!(peer.state(), RegistrationState::Registered { .. }));
    // The flood over, everything goes back to nothing.
    let calls: Vec<CallId> = peer.ua.calls.keys().copied().collect();
    for call in calls {
        peer.ua.reject(peer.now, call, 486, None, &[]).unwrap();
    }
    peer.drain();
    peer.seconds(64.0);
    assert_eq!(peer.ua.wire.transactions.count(), (0, 0));
    assert_eq!((peer.ua.wire.incoming.len(), peer.ua.calls.len(), peer.ua.invites.len()), (0, 0, 0));
}

#[test]
fn accepted_connections_are_bounded_and_silent_ones_closed() {
    let limits = Limits { accepted: 10, accepted_per_address: 4, ..Limits::default() };
    let mut peer = Peer::with(Settings { limits, ..Settings::default() });
    let mut account = line();
    account.register = false;
    account.trust = Trust::Networks(vec![Network::ANY_V4]);
    peer.add(account);
    for number in 0..10_000 {
        peer.accept(FIRST_ACCEPTED + number, &format!("198.51.100.{}:{}", number % 8, 1024 + number));
    }
    assert_eq!(peer.ua.wire.connections.count(), 10);
    assert_eq!(peer.ua.counters().refused_connections, 9_990);
    peer.closed.clear();
    peer.seconds(11.0);
    assert_eq!((peer.closed.len(), peer.ua.wire.connections.count()), (10, 0));

    // One that speaks stays, answers pings, and is closed when it lies about its length.
    peer.accept(FIRST_ACCEPTED, PBX);
    let options = say("OPTIONS", "sip:1001@192.0.2.10", "").replace("UDP", "TCP");
    peer.stream(FIRST_ACCEPTED, &options);
    assert_eq!(peer.sent.front().unwrap().connection, Some(FIRST_ACCEPTED));
    peer.response(200);
    peer.seconds(300.0);
    assert_eq!(peer.ua.wire.connections.count(), 1);
    peer.closed.clear();
    peer.stream(FIRST_ACCEPTED, &options.replace("Content-Length: 0", "Content-Length: 99999999999999"));
    assert_eq!((peer.closed.clone(), peer.ua.wire.connections.count()), (vec![FIRST_ACCEPTED], 0));
}

#[test]
fn garbage_in_any_amount_neither_panics_nor_grows() {
    let (mut peer, _) = Peer::registered();
    let mut chance = Chance::from_number(99);
    for round in 0..300 {
        let mut bytes = vec![0; 1 + chance.below(if round % 50 == 0 { 65_000 } else { 600 }) as usize];
        chance.fill(&mut bytes);
        let remote = address(if round % 2 == 0 { PBX } else { STRANGER });
        let local = address("0.0.0.0:5060");
        peer.ua.handle(peer.now, Input::Datagram { local, remote, bytes: &bytes });
        let mut text = say("INVITE", "sip:1001@192.0.2.10", "").into_bytes();
        for _ in 0..4 {
            let at = chance.below(text.len() as u32) as usize;
            text[at] = chance.next_u32() as u8;
        }
        peer.ua.handle(peer.now, Input::Datagram { local, remote, bytes: &text });
        while peer.ua.poll_output().is_some() {}
        while peer.ua.poll_event().is_some() {}
    }
    assert!(peer.ua.wire.transactions.count().1 <= 300);
}

#[test]
fn a_removed_line_unregisters_and_is_forgotten() {
    let (mut peer, id) = Peer::registered();
    peer.ua.remove_account(peer.now, id);
    peer.drain();
    let register = peer.request("REGISTER");
    assert_eq!(register.text("Expires").as_deref(), Some("0"));
    peer.reply(&register, 200, &[]);
    assert!(peer.ua.account(id).is_none());
    peer.datagram(PBX, &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    peer.nothing_sent();
}

#[test]
fn another_registrar_gets_the_line_and_the_old_one_loses_it() {
    let (mut peer, id) = Peer::registered();
    let mut account = line();
    account.registrar = Some(sip("sip:198.51.100.77"));
    peer.ua.replace_account(peer.now, id, account);
    peer.drain();
    let goodbye = peer.request("REGISTER");
    assert_eq!((goodbye.remote, goodbye.text("Expires").as_deref()), (address(PBX), Some("0")));
    let hello = peer.request("REGISTER");
    assert_eq!(
        (hello.remote, hello.text("Expires").as_deref()),
        (address("198.51.100.77:5060"), Some("3600"))
    );
}

#[test]
fn our_address_is_known_before_the_first_call_also_without_registration() {
    let mut peer = Peer::new();
    let mut account = line();
    account.register = false;
    let id = peer.add(account);
    peer.nothing_sent();
    assert_eq!(peer.ua.local_address(id), Some("192.0.2.10".parse().unwrap()));
    assert!(matches!(peer.events.pop_front(), Some(Event::Located { account }) if account == id));
    assert!(peer.events.is_empty());
}

#[test]
fn a_changed_network_registers_anew() {
    let (mut peer, _) = Peer::registered();
    peer.ua.network_changed(peer.now);
    peer.drain();
    peer.request("REGISTER");
}

#[test]
fn the_trace_shows_both_directions_and_no_strangers() {
    let (mut peer, _) = Peer::registered();
    peer.ua.set_trace(true);
    peer.datagram(PBX, &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    peer.datagram(STRANGER, &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    let traced = |peer: &Peer| -> Vec<(bool, String)> {
        let traces = peer.events.iter().filter_map(|event| match event {
            Event::Trace(trace) => Some((trace.sent, trace.local.unwrap().to_string())),
            _ => None,
        });
        traces.collect()
    };
    let ours = || "192.0.2.10:5060".to_owned();
    assert_eq!(traced(&peer), [(false, ours()), (true, ours())]);
    // A socket of both families does not make IPv6 of what IPv4 carried.
    let mut peer =
        Peer::with(Settings { udp: vec![address("[::]:5060")], trace: true, ..Settings::default() });
    peer.add(line());
    assert_eq!(traced(&peer), [(true, ours())]);
}

#[test]
fn another_address_of_ours_means_another_connection_and_binding() {
    let mut peer = Peer::new();
    let mut account = line();
    account.transports = vec![Transport::Tcp];
    peer.add(account);
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "3600")]);
    peer.local = "192.0.2.77";
    peer.ua.network_changed(peer.now);
    peer.drain();
    assert_eq!(peer.closed, [register.connection.unwrap()]);
    let again = std::iter::from_fn(|| peer.sent.pop_front()).last().unwrap();
    assert_ne!(again.connection, register.connection);

    let (mut peer, id) = Peer::registered();
    peer.local = "192.0.2.77";
    peer.ua.network_changed(peer.now);
    peer.drain();
    let again = peer.request("REGISTER");
    let contacts = ["<sip:1001@192.0.2.77:5060>;expires=3600", "<sip:1001@192.0.2.10:5060>;expires=0"];
    assert_eq!(again.contacts(), contacts);
    assert_eq!(peer.ua.local_address(id), Some("192.0.2.77".parse().unwrap()));
}

#[test]
fn a_connection_outlives_other_networks_that_leave_our_address_as_it_was() {
    for (transport, bytes) in [(Transport::Tcp, 10), (Transport::Udp, 1200)] {
        let mut peer = Peer::new();
        peer.add(Account { transports: vec![transport], ..line() });
        let register = peer.request("REGISTER");
        peer.reply(&register, 200, &[("Expires", "3600")]);
        call(&mut peer, "sip:1002@pbx.example", bytes);
        let invite = peer.request("INVITE");
        assert_eq!(invite.transport, Transport::Tcp);
        peer.reply(&invite, 180, &[]);
        peer.ua.network_changed(peer.now);
        peer.drain();
        assert!(peer.closed.is_empty(), "{transport}");
        assert_eq!(peer.pinged, [invite.connection.unwrap()], "if it is dead after all, that shows");
        // A datagram may have another way, and costs little.
        assert_eq!(peer.sent.len(), usize::from(transport == Transport::Udp));
        peer.sent.clear();
        peer.take(&invite);
        peer.request("ACK");
        assert_eq!(count_ended(&peer), 0);
    }
}

#[test]
fn a_connection_does_not_outlive_a_sleep() {
    let mut peer = Peer::new();
    peer.add(Account { transports: vec![Transport::Tcp], ..line() });
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Expires", "3600")]);
    peer.seconds(60.0);
    peer.now.utc_us += 3_600_000_000;
    peer.ua.network_changed(peer.now);
    peer.drain();
    assert_eq!(peer.closed, [register.connection.unwrap()]);
    assert_ne!(peer.request("REGISTER").connection, register.connection);
}

#[test]
fn a_connection_that_a_call_may_need_is_not_closed_for_silence() {
    let mut peer = Peer::new();
    peer.add(Account { transports: vec![Transport::Tcp], register: false, ..line() });
    call(&mut peer, "sip:1002@pbx.example", 10);
    let invite = peer.request("INVITE");
    peer.take(&invite);
    let ack = peer.request("ACK");
    peer.seconds(1900.0);
    assert!(peer.closed.is_empty());
    let connection = invite.connection.unwrap();
    let bye = say("BYE", "sip:1001@192.0.2.10", "")
        .replace("UDP", "TCP")
        .replace("<sip:1002@pbx.example>;tag=them", &ack.request.head.to.to_string())
        .replace("To: <sip:1001@pbx.example>", &format!("To: {}", ack.request.head.from))
        .replace("c1", &ack.request.head.call_id);
    peer.stream(connection, &bye);
    peer.response(200);
    peer.seconds(601.0);
    assert_eq!(peer.closed, [connection]);
}

#[test]
fn a_trunk_finds_its_server_again_when_the_name_servers_are_back() {
    let mut peer = Peer::new();
    let question = crate::sip::network::Question::A("pbx.example".into());
    let good = peer.names.insert(question.clone(), Err(crate::sip::network::LookupError::Timeout)).unwrap();
    let mut account = line();
    account.register = false;
    let id = peer.add(account);
    assert_eq!(peer.ua.local_address(id), None);
    peer.datagram(PBX, &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    peer.nothing_sent();
    peer.names.insert(question, good);
    peer.seconds(61.0);
    assert_eq!(peer.ua.local_address(id), Some("192.0.2.10".parse().unwrap()));
    peer.datagram(PBX, &say("OPTIONS", "sip:1001@192.0.2.10", ""));
    peer.response(200);
}

#[test]
fn ipv6_works_like_ipv4() {
    let mut peer = Peer::with(Settings { udp: vec![address("[::]:5060")], ..Settings::default() });
    let mut account = line();
    account.registrar = Some(sip("sip:[2001:db8::1]"));
    account.aor = sip("sip:1001@[2001:db8::1]");
    peer.add(account);
    let register = peer.request("REGISTER");
    assert_eq!(register.remote, address("[2001:db8::1]:5060"));
    assert_eq!(register.contact(), "<sip:1001@[2001:db8::10]:5060>;expires=3600");
    assert_eq!(register.request.head.via[0].sent_by().to_string(), "[2001:db8::10]:5060");
    peer.reply_seeing(&register, 200, &[("Expires", "600")], address("[2001:db8::10]:5060"));
    peer.nothing_sent();
    peer.datagram("[2001:db8::1]:5060", &say("OPTIONS", "sip:1001@[2001:db8::10]:5060", ""));
    peer.response(200);
}

#[test]
fn an_answer_finds_another_connection_when_its_own_is_gone() {
    let (mut peer, _) = Peer::registered();
    peer.accept(FIRST_ACCEPTED, "198.51.100.1:40404");
    let invite = say("INVITE", "sip:1001@192.0.2.10", "").replace("UDP", "TCP");
    peer.stream(FIRST_ACCEPTED, &invite);
    let call = incoming(&peer).unwrap();
    peer.close(FIRST_ACCEPTED, "reset");
    peer.ua.reject(peer.now, call, 486, None, &[]).unwrap();
    peer.drain();
    let sent = peer.sent.pop_front().unwrap();
    assert_eq!((sent.transport, sent.remote), (Transport::Tcp, address(PBX)), "where the Via says");
    assert!(sent.message.write().starts_with(b"SIP/2.0 486"));
}

//! What the PBX tells of a mailbox, with and without being asked.

use super::*;
use crate::sip::account::Account;
use crate::sip::user_agent::test_peer::{Peer, SentRequest, challenge, line};

const PBX: &str = "198.51.100.1:5060";
const STRANGER: &str = "203.0.113.66:5060";
const TWO_NEW: &str = "Messages-Waiting: yes\nVoice-Message: 2/1\n";

/// A NOTIFY of the PBX: To, Call-ID, CSeq, more fields (each with its end) and the body.
fn notify(to: &str, call_id: &str, cseq: u32, fields: &str, body: &str) -> String {
    let length = body.len() + body.matches('\n').count();
    format!(
        "NOTIFY sip:1001@192.0.2.10:5060 SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch={{branch}};rport\n\
         Max-Forwards: 70\nFrom: <sip:1001@pbx.example>;tag=peer\nTo: {to}\nCall-ID: {call_id}\nCSeq: {cseq} NOTIFY\n\
         Contact: <sip:198.51.100.1:5060>\n{fields}Content-Length: {length}\n\n{body}"
    )
}

const OUTSIDE: &str = "<sip:1001@192.0.2.10>";
const SUMMARY: &str = "Event: message-summary\nContent-Type: application/simple-message-summary\n";

/// A NOTIFY inside the subscription that this SUBSCRIBE has begun.
fn inside(subscribe: &SentRequest, cseq: u32, state: &str, body: &str) -> String {
    let head = &subscribe.request.head;
    let to = format!("<sip:1001@pbx.example>;tag={}", head.from_tag().unwrap());
    let kind = if body.is_empty() { "Event: message-summary\n" } else { SUMMARY };
    notify(&to, &head.call_id, cseq, &format!("{kind}Subscription-State: {state}\n"), body)
}

/// New messages by the last event, if one came since the last look.
fn told(peer: &mut Peer) -> Option<u32> {
    let events = std::mem::take(&mut peer.events);
    let new = |event| match event {
        Event::MessageSummary { summary, .. } => summary.voice.map(|voice| voice.new),
        _ => None,
    };
    events.into_iter().filter_map(new).next_back()
}

fn subscriber() -> Account {
    // Registered for long: the messages of a test are those of its subscription.
    Account { subscribe_mwi: true, expires: std::time::Duration::from_secs(100_000), ..line() }
}

/// A registered line that has just sent its SUBSCRIBE.
fn subscribing() -> (Peer, SentRequest) {
    let mut peer = Peer::new();
    peer.add(subscriber());
    register(&mut peer);
    let subscribe = peer.request("SUBSCRIBE");
    (peer, subscribe)
}

fn register(peer: &mut Peer) {
    let register = peer.request("REGISTER");
    peer.reply(&register, 200, &[("Contact", &register.contact()), ("Expires", "100000")]);
}

/// The same, granted and told for the first time.
fn subscribed(expires: &str) -> (Peer, SentRequest) {
    let (mut peer, subscribe) = subscribing();
    peer.reply(&subscribe, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", expires)]);
    peer.datagram(PBX, &inside(&subscribe, 1, &format!("active;expires={expires}"), TWO_NEW));
    peer.response(200);
    assert_eq!(told(&mut peer), Some(2));
    (peer, subscribe)
}

#[test]
fn what_the_pbx_tells_unasked_is_taken() {
    let (mut peer, id) = Peer::registered();
    // As Asterisk does: no subscription, and it says so.
    let fields = format!("{SUMMARY}Subscription-State: terminated\n");
    peer.datagram(PBX, &notify(OUTSIDE, "n1", 1, &fields, TWO_NEW));
    let response = peer.response(200);
    assert!(response.head.to_tag().is_some());
    let Some(Event::MessageSummary { account, summary }) =
        peer.events.iter().find(|event| matches!(event, Event::MessageSummary { .. }))
    else {
        panic!("nothing was told")
    };
    assert_eq!((*account, summary.waiting), (id, true));
    peer.datagram(STRANGER, &notify(OUTSIDE, "n2", 1, SUMMARY, TWO_NEW));
    peer.nothing_sent();
}

#[test]
fn other_notifications_get_the_answer_that_the_rfc_wants() {
    let cases: &[(&str, &str, &str, u16, &str, &str)] = &[
        (OUTSIDE, "Event: check-sync\n", "", 489, "Allow-Events", "message-summary"),
        (OUTSIDE, "", "", 489, "Allow-Events", "message-summary"),
        (OUTSIDE, "Event: message-summary\nContent-Type: text/plain\n", "x", 415, "Accept", MEDIA_TYPE),
        (OUTSIDE, "Event: message-summary\n", "x", 415, "Accept", MEDIA_TYPE),
        (OUTSIDE, SUMMARY, "Voice-Message: 1/0\n", 400, "", ""),
        (OUTSIDE, "Event: message-summary\n", "", 200, "", ""),
        ("<sip:1001@192.0.2.10>;tag=nobody", SUMMARY, TWO_NEW, 481, "", ""),
        ("<sip:1001@192.0.2.10>;tag=nobody", "Event: refer\n", "", 489, "Allow-Events", "message-summary"),
        (
            OUTSIDE,
            "Require: nothingSupportsThis\nEvent: message-summary\n",
            "",
            420,
            "Unsupported",
            "nothingSupportsThis",
        ),
    ];
    for (to, fields, body, status, field, token) in cases {
        let (mut peer, _) = Peer::registered();
        peer.datagram(PBX, &notify(to, "n1", 1, fields, body));
        let response = peer.response(*status);
        assert!(field.is_empty() || response.fields.has_token(field, token), "{status} {fields}");
        assert_eq!(told(&mut peer), None, "{status} {fields}");
    }
}

#[test]
fn options_tell_what_is_understood() {
    let (mut peer, _) = Peer::registered();
    peer.datagram(PBX, &notify(OUTSIDE, "n1", 1, "", "").replace("NOTIFY", "OPTIONS"));
    let response = peer.response(200);
    assert!(response.fields.has_token("Allow", "NOTIFY") && !response.fields.has_token("Allow", "SUBSCRIBE"));
    assert!(response.fields.has_token("Allow-Events", "message-summary"));
}

#[test]
fn a_line_that_may_subscribe_does_so_once_it_is_registered() {
    let mut peer = Peer::new();
    peer.add(subscriber());
    let first = peer.request("REGISTER");
    peer.nothing_sent();
    peer.reply(&first, 200, &[("Contact", &first.contact()), ("Expires", "3600")]);
    let subscribe = peer.request("SUBSCRIBE");
    assert_eq!(subscribe.request.uri.to_string(), "sip:1001@pbx.example");
    assert_eq!(subscribe.text("Event").as_deref(), Some("message-summary"));
    assert_eq!(subscribe.text("Accept").as_deref(), Some(MEDIA_TYPE));
    assert_eq!(subscribe.text("Expires").as_deref(), Some("3600"));
    assert_eq!(subscribe.contact(), first.contact().split(";expires").next().unwrap());
    // It proves the password like any other request.
    peer.reply(&subscribe, 401, &[("WWW-Authenticate", &challenge("n", false))]);
    let again = peer.request("SUBSCRIBE");
    assert!(again.text("Authorization").is_some());
    assert_eq!(again.request.head.call_id, subscribe.request.head.call_id);
    peer.reply(&again, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", "600")]);
    // The next registration under the same Contact changes nothing, under another one it is renewed.
    let id = crate::sip::handle::AccountId(1);
    peer.ua.register(peer.now, id);
    peer.drain();
    register(&mut peer);
    peer.nothing_sent();
    peer.ua.register(peer.now, id);
    peer.drain();
    let moved = peer.request("REGISTER");
    let seen = crate::sip::user_agent::test_peer::address("203.0.113.9:40000");
    peer.reply_seeing(&moved, 200, &[("Contact", &moved.contact()), ("Expires", "3600")], seen);
    let public = peer.request("REGISTER");
    let contacts = public.contacts();
    let own = contacts.iter().find(|contact| contact.contains("203.0.113.9")).expect("the new Contact");
    peer.reply_seeing(&public, 200, &[("Contact", own), ("Expires", "3600")], seen);
    let renewal = peer.request("SUBSCRIBE");
    assert_eq!(renewal.request.head.to_tag(), Some("peer"));
    assert!(renewal.contact().contains("203.0.113.9:40000"), "{}", renewal.contact());
}

#[test]
fn a_subscription_is_renewed_inside_its_dialog() {
    let (mut peer, subscribe) = subscribed("600");
    peer.seconds(440.0);
    peer.nothing_sent();
    let renewal = peer.await_request("SUBSCRIBE");
    assert_eq!(renewal.request.head.call_id, subscribe.request.head.call_id);
    assert_eq!(renewal.request.head.to_tag(), Some("peer"));
    assert_eq!(renewal.request.uri.to_string(), "sip:198.51.100.1:5060");
    assert!(renewal.request.head.cseq.number > subscribe.request.head.cseq.number);
    peer.reply(&renewal, 200, &[("Expires", "600")]);
    peer.datagram(
        PBX,
        &inside(&subscribe, 2, "active;expires=600", "Messages-Waiting: no\nVoice-Message: 0/3\n"),
    );
    peer.response(200);
    assert_eq!(told(&mut peer), Some(0));
    peer.datagram(PBX, &inside(&subscribe, 2, "active", TWO_NEW));
    peer.response(500);
    assert_eq!(told(&mut peer), None, "an old notification is not news");
}

#[test]
fn a_notification_may_overtake_the_answer() {
    let (mut peer, subscribe) = subscribing();
    peer.datagram(PBX, &inside(&subscribe, 7, "active;expires=600", TWO_NEW));
    peer.response(200);
    assert_eq!(told(&mut peer), Some(2));
    peer.reply(&subscribe, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", "600")]);
    let renewal = peer.await_request("SUBSCRIBE");
    assert_eq!(renewal.request.head.to_tag(), Some("peer"));
}

#[test]
fn a_notification_of_another_dialog_is_none_of_ours() {
    let (mut peer, subscribe) = subscribed("600");
    let forked = inside(&subscribe, 2, "active", TWO_NEW).replace("tag=peer", "tag=other");
    peer.datagram(PBX, &forked);
    peer.response(481);
    // From another server than the line's: our tag is known to whom we told it.
    peer.datagram(STRANGER, &inside(&subscribe, 3, "active", TWO_NEW));
    peer.response(200);
}

#[test]
fn a_server_that_has_forgotten_is_asked_anew() {
    let (mut peer, subscribe) = subscribed("600");
    let renewal = peer.await_request("SUBSCRIBE");
    peer.reply(&renewal, 481, &[]);
    let fresh = peer.request("SUBSCRIBE");
    assert_ne!(fresh.request.head.call_id, subscribe.request.head.call_id);
    assert_eq!(fresh.request.head.to_tag(), None);
    peer.datagram(PBX, &inside(&subscribe, 9, "active", TWO_NEW));
    peer.response(481);
}

#[test]
fn a_server_without_mailboxes_is_left_alone_for_an_hour() {
    for status in [404, 405, 489, 603] {
        let (mut peer, subscribe) = subscribing();
        peer.reply(&subscribe, status, &[]);
        peer.seconds(3590.0);
        peer.nothing_sent();
        peer.await_request("SUBSCRIBE");
    }
}

#[test]
fn a_server_that_grants_nothing_is_left_alone_too() {
    let (mut peer, subscribe) = subscribing();
    peer.reply(&subscribe, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", "0")]);
    peer.seconds(3590.0);
    peer.nothing_sent();
}

#[test]
fn a_server_that_can_not_now_is_asked_again_later_and_later() {
    let (mut peer, subscribe) = subscribing();
    peer.reply(&subscribe, 500, &[]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let before = peer.now.mono_us;
        let next = peer.await_request("SUBSCRIBE");
        waits.push((peer.now.mono_us - before) / 1_000_000);
        peer.reply(&next, 500, &[]);
    }
    assert!((30..=38).contains(&waits[0]) && waits.is_sorted() && waits[3] >= 240, "{waits:?}");
    let before = peer.now.mono_us;
    let next = peer.await_request("SUBSCRIBE");
    assert!(peer.now.mono_us - before >= 480_000_000);
    peer.reply(&next, 503, &[("Retry-After", "7")]);
    let before = peer.now.mono_us;
    peer.await_request("SUBSCRIBE");
    assert!((7_000_000..9_000_000).contains(&(peer.now.mono_us - before)));
}

#[test]
fn an_interval_that_is_too_brief_is_lengthened() {
    let (mut peer, subscribe) = subscribing();
    peer.reply(&subscribe, 423, &[("Min-Expires", "7200")]);
    let longer = peer.request("SUBSCRIBE");
    assert_eq!(longer.text("Expires").as_deref(), Some("7200"));
    peer.reply(&longer, 423, &[("Min-Expires", "60")]);
    peer.nothing_sent();
}

#[test]
fn a_subscription_that_the_server_ends_is_renewed_or_not_as_it_says() {
    for (state, from, to) in [
        ("terminated;reason=timeout", 0, 3),
        ("terminated", 0, 3),
        ("terminated;reason=deactivated;retry-after=60", 60, 64),
        ("terminated;reason=probation;retry-after=120", 120, 151),
        ("terminated;reason=noresource", 3600, 4501),
    ] {
        let (mut peer, subscribe) = subscribed("3600");
        peer.seconds(100.0);
        peer.datagram(PBX, &inside(&subscribe, 2, state, ""));
        peer.response(200);
        let before = peer.now.mono_us;
        let fresh = peer.await_request("SUBSCRIBE");
        assert_ne!(fresh.request.head.call_id, subscribe.request.head.call_id);
        let waited = (peer.now.mono_us - before) / 1_000_000;
        assert!((from..=to).contains(&waited), "{state}: {waited} s");
    }
    // One that ends each subscription at once is not asked all the time.
    let (mut peer, subscribe) = subscribed("3600");
    peer.datagram(PBX, &inside(&subscribe, 2, "terminated;reason=deactivated", ""));
    peer.response(200);
    peer.seconds(29.0);
    peer.nothing_sent();
}

#[test]
fn a_notification_shortens_a_subscription_and_never_lengthens_it() {
    let (mut peer, subscribe) = subscribed("600");
    peer.datagram(PBX, &inside(&subscribe, 2, "active;expires=100", TWO_NEW));
    peer.response(200);
    peer.datagram(PBX, &inside(&subscribe, 3, "active;expires=86400", TWO_NEW));
    peer.response(200);
    let before = peer.now.mono_us;
    peer.await_request("SUBSCRIBE");
    assert!((peer.now.mono_us - before) / 1_000_000 <= 90);
}

#[test]
fn who_unregisters_unsubscribes() {
    let (mut peer, subscribe) = subscribed("3600");
    peer.ua.shutdown(peer.now);
    peer.drain();
    let last = peer.request("SUBSCRIBE");
    assert_eq!(last.text("Expires").as_deref(), Some("0"));
    assert_eq!(last.request.head.call_id, subscribe.request.head.call_id);
    let removal = peer.request("REGISTER");
    peer.reply(&removal, 200, &[]);
    assert!(
        !peer.events.iter().any(|event| matches!(event, Event::Stopped)),
        "the SUBSCRIBE is not answered yet"
    );
    peer.reply(&last, 200, &[("Expires", "0")]);
    assert!(peer.events.iter().any(|event| matches!(event, Event::Stopped)));
    peer.seconds(7200.0);
    peer.nothing_sent();
}

#[test]
fn a_line_that_is_told_to_stop_while_it_asks_stops_afterwards() {
    let (mut peer, subscribe) = subscribing();
    let id = crate::sip::handle::AccountId(1);
    peer.ua.unregister(peer.now, id);
    peer.drain();
    let removal = peer.request("REGISTER");
    peer.reply(&removal, 200, &[]);
    peer.reply(&subscribe, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", "600")]);
    let last = peer.request("SUBSCRIBE");
    assert_eq!((last.text("Expires").as_deref(), last.request.head.to_tag()), (Some("0"), Some("peer")));
    peer.reply(&last, 200, &[]);
    peer.seconds(7200.0);
    peer.nothing_sent();
}

#[test]
fn a_line_that_is_wanted_again_while_it_unsubscribes_subscribes_again() {
    let (mut peer, subscribe) = subscribed("3600");
    let id = crate::sip::handle::AccountId(1);
    peer.ua.unregister(peer.now, id);
    peer.drain();
    let last = peer.request("SUBSCRIBE");
    let removal = peer.request("REGISTER");
    peer.ua.register(peer.now, id);
    peer.reply(&removal, 200, &[]);
    register(&mut peer);
    peer.nothing_sent();
    peer.reply(&last, 200, &[("Expires", "0")]);
    let fresh = peer.request("SUBSCRIBE");
    assert_eq!(fresh.text("Expires").as_deref(), Some("3600"));
    assert_ne!(fresh.request.head.call_id, subscribe.request.head.call_id);
}

#[test]
fn another_setting_begins_and_ends_it() {
    let (mut peer, id) = Peer::registered();
    peer.ua.replace_account(peer.now, id, subscriber());
    peer.drain();
    register(&mut peer);
    let subscribe = peer.request("SUBSCRIBE");
    peer.reply(&subscribe, 200, &[("Contact", "<sip:198.51.100.1:5060>"), ("Expires", "600")]);
    peer.ua.replace_account(peer.now, id, line());
    peer.drain();
    assert_eq!(peer.request("SUBSCRIBE").text("Expires").as_deref(), Some("0"));
}

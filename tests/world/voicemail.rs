//! What waits in a mailbox, as the PBX tells it.

use std::net::SocketAddr;

use tipring::events::{Kind, Mailbox};

use crate::handset::SIP;
use crate::world::{PBX, World, config};

/// A NOTIFY to 1001 outside of any dialog, as most PBXs send it to whoever registers.
fn tell(world: &mut World, from: &str, number: u32, event: &str, body: &str) {
    let text = format!(
        "NOTIFY sip:1001@192.0.2.11:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-mwi-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:1001@pbx.example>;tag=t{number}\r\n\
         To: <sip:1001@pbx.example>\r\n\
         Call-ID: mwi-{number}\r\n\
         CSeq: 1 NOTIFY\r\n\
         Contact: <sip:{from}>\r\n\
         Event: {event}\r\n\
         Subscription-State: terminated\r\n\
         Content-Type: application/simple-message-summary\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let phone = SocketAddr::new(world.phones[0].address, SIP);
    let now_us = world.now().mono_us;
    world.network.send(now_us, from.parse().expect("an address"), phone, text.into_bytes());
    world.millis(200);
}

fn pbx() -> String {
    SocketAddr::new(PBX, SIP).to_string()
}

fn told(world: &World) -> Vec<Mailbox> {
    let kinds = world.phones[0].all("voicemail.waiting").into_iter().filter_map(|kind| match kind {
        Kind::VoicemailWaiting { line, mailbox, .. } if line == "office" => Some(mailbox.clone()),
        _ => None,
    });
    kinds.collect()
}

/// The statuses of the answers to NOTIFYs that crossed the network.
fn answers(world: &World) -> Vec<String> {
    let seen = world.network.seen.as_ref().expect("the wire was watched");
    let texts = seen.iter().map(|bytes| String::from_utf8_lossy(bytes));
    let answers = texts.filter(|text| text.starts_with("SIP/2.0 ") && text.contains("mwi-"));
    answers.map(|text| text[8..11].to_owned()).collect()
}

const TWO: &str =
    "Messages-Waiting: yes\r\nMessage-Account: sip:1001@pbx.example\r\nVoice-Message: 2/5 (1/0)\r\n";
const NONE: &str = "Messages-Waiting: no\r\nVoice-Message: 0/7\r\n";

#[test]
fn what_waits_is_told_once_and_shown_as_long_as_it_is_so() {
    let mut world = World::with_phones(1, 1);
    world.network.seen = Some(Vec::new());
    assert_eq!(world.snapshot(0).lines[0].voicemail, None);
    for number in 0..3 {
        tell(&mut world, &pbx(), number, "message-summary", TWO);
    }
    let two = Mailbox {
        waiting: true,
        new: Some(2),
        old: Some(5),
        urgent_new: Some(1),
        urgent_old: Some(0),
        account: Some("sip:1001@pbx.example".into()),
    };
    assert_eq!(told(&world), std::slice::from_ref(&two));
    assert_eq!(world.snapshot(0).lines[0].voicemail, Some(two.clone()));
    tell(&mut world, &pbx(), 3, "message-summary", NONE);
    let none = Mailbox { new: Some(0), old: Some(7), ..Mailbox::default() };
    assert_eq!(told(&world), [two, none.clone()]);
    assert_eq!(world.snapshot(0).lines[0].voicemail, Some(none));
    assert_eq!(answers(&world), ["200", "200", "200", "200"]);
    let stream = world.phones[0].stream();
    assert!(stream.contains(r#""type":"tipring.voicemail.waiting""#), "{stream}");
    assert!(stream.contains(r#""line":"office","waiting":true,"new":2,"old":5"#), "{stream}");
}

#[test]
fn a_message_has_come_when_there_are_more_of_them() {
    let mut world = World::with_phones(1, 1);
    let bodies = ["2/5", "1/6", "1/6", "2/6", "0/8"];
    for (number, count) in (1..).zip(bodies) {
        let waiting = if count.starts_with('0') { "no" } else { "yes" };
        let body = format!("Messages-Waiting: {waiting}\r\nVoice-Message: {count}\r\n");
        tell(&mut world, &pbx(), number, "message-summary", &body);
    }
    let arrived: Vec<_> = world.phones[0]
        .all("voicemail.waiting")
        .into_iter()
        .map(|kind| match kind {
            Kind::VoicemailWaiting { arrived, .. } => *arrived,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(arrived, [true, false, true, false]);
}

#[test]
fn neither_strangers_nor_nonsense_light_the_lamp() {
    let mut world = World::with_phones(1, 1);
    world.network.seen = Some(Vec::new());
    tell(&mut world, "203.0.113.66:5060", 1, "message-summary", TWO);
    assert_eq!(answers(&world), Vec::<String>::new());
    tell(&mut world, &pbx(), 2, "message-summary", "Voice-Message: 2/5\r\n");
    tell(&mut world, &pbx(), 3, "check-sync", TWO);
    assert_eq!(answers(&world), ["400", "489"]);
    assert_eq!((told(&world), world.snapshot(0).lines[0].voicemail.clone()), (Vec::new(), None));
}

#[test]
fn a_pbx_that_knows_no_mailboxes_is_asked_and_left_alone() {
    let mut world = World::new(1);
    world.network.seen = Some(Vec::new());
    world.add_phone(config("1001", "subscribe_mwi = true", ""));
    world.seconds(1800);
    let asked = |world: &World| {
        let seen = world.network.seen.as_ref().expect("the wire was watched");
        seen.iter().filter(|bytes| bytes.starts_with(b"SUBSCRIBE sip:1001@pbx.example ")).count()
    };
    assert_eq!(asked(&world), 1);
    assert_eq!(world.snapshot(0).lines[0].state, "registered");
    assert_eq!(world.snapshot(0).lines[0].reason, None, "it is no trouble of the line");
}

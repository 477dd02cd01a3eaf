//! Session timers (RFC 4028).

use super::{Peer, World, sdp};
use crate::sip::call::{CallEvent, CallSettings, Ending, SessionTimer};
use crate::sip::message::Request;
use crate::sip::method::Method;
use std::time::Duration;

/// We called, and the 200 said this about the session timer.
fn called(settings: CallSettings, expires: Option<&str>, allow: &str) -> (World, Peer) {
    let mut world = World::new(settings);
    let (invite, peer) = world.calls_with_offer();
    let mut ok = peer.success(&invite, Some(sdp(2000)));
    ok.fields.set("Allow", allow);
    if let Some(expires) = expires {
        ok.fields.push("Session-Expires", expires);
    }
    world.hears(ok);
    world.says(Method::ACK);
    world.events.clear();
    (world, peer)
}

/// They called with these fields; the Session-Expires and Require of our 200.
fn taken(settings: CallSettings, fields: &[(&str, &str)]) -> (World, Peer, Option<String>, bool) {
    let mut world = World::new(settings);
    let mut peer = Peer::calling();
    let mut invite: Request = peer.invite(Some(sdp(2000)));
    for (name, value) in fields {
        invite.fields.set(name, *value);
    }
    world.hears(invite.clone());
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    peer.takes(&ok);
    world.hears(peer.ack(invite.head.cseq.number, None));
    world.events.clear();
    let expires = ok.fields.text("Session-Expires").map(|text| text.into_owned());
    (world, peer, expires, ok.fields.has_token("Require", "timer"))
}

const ALL: &str = "INVITE, ACK, BYE, UPDATE";
const NO_UPDATE: &str = "INVITE, ACK, BYE";

#[test]
fn we_refresh_by_update_without_description() {
    let (mut world, peer) = called(CallSettings::default(), Some("90;refresher=uac"), ALL);
    for _ in 0..3 {
        world.seconds(45);
        let update = world.says(Method::UPDATE);
        assert!(update.body.is_empty());
        assert_eq!(update.fields.text("Session-Expires").as_deref(), Some("90;refresher=uac"));
        let mut ok = peer.success(&update, None);
        ok.fields.push("Session-Expires", "90;refresher=uac");
        world.hears(ok);
        assert!(matches!(world.event(), CallEvent::Refreshed));
    }
    world.no_event();
}

#[test]
fn a_peer_without_update_is_refreshed_by_reinvite() {
    let (mut world, peer) = called(CallSettings::default(), Some("90"), NO_UPDATE);
    world.seconds(45);
    assert!(matches!(world.event(), CallEvent::OfferWanted));
    world.offers(sdp(1000));
    let invite = world.says(Method::INVITE);
    let mut ok = peer.success(&invite, Some(sdp(2000)));
    ok.fields.set("Allow", NO_UPDATE);
    ok.fields.push("Session-Expires", "90;refresher=uac");
    world.hears(ok);
    assert!(matches!(world.event(), CallEvent::Answer { .. }));
    world.seconds(44);
    world.no_event();
    world.seconds(1);
    assert!(matches!(world.event(), CallEvent::OfferWanted));
}

#[test]
fn a_refresh_by_update_that_is_not_known_becomes_a_reinvite() {
    let (mut world, peer) = called(CallSettings::default(), Some("90"), ALL);
    world.seconds(45);
    let update = world.says(Method::UPDATE);
    world.hears(peer.response(&update, 405));
    assert!(matches!(world.event(), CallEvent::OfferWanted));
}

#[test]
fn a_refresh_that_finds_nobody_ends_the_call() {
    for status in [481, 408] {
        let (mut world, peer) = called(CallSettings::default(), Some("90"), ALL);
        world.seconds(45);
        let update = world.says(Method::UPDATE);
        world.hears(peer.response(&update, status));
        world.says(Method::BYE);
        assert_eq!(world.ended().ending, Ending::SessionExpired);
    }
    let (mut world, _) = called(CallSettings::default(), Some("90"), ALL);
    world.seconds(44 + 33);
    assert_eq!(world.ended().ending, Ending::SessionExpired);
}

#[test]
fn a_refresh_refused_for_other_reasons_is_tried_again_until_time_is_up() {
    let (mut world, peer) = called(CallSettings::default(), Some("90"), ALL);
    world.seconds(45);
    let update = world.says(Method::UPDATE);
    world.hears(peer.response(&update, 503));
    world.no_event();
    world.seconds(5);
    let update = world.says(Method::UPDATE);
    world.hears(peer.success(&update, None));
    assert!(matches!(world.event(), CallEvent::Refreshed));
}

#[test]
fn a_silent_refresher_is_hung_up_before_the_end() {
    // 90 s: 90 − 30 = 60 s; 1800 s: 1800 − 32 = 1768 s.
    for (expires, bye_at) in [("90;refresher=uas", 60), ("1800;refresher=uas", 1768)] {
        let (mut world, peer) = called(CallSettings::default(), Some(expires), ALL);
        world.seconds(bye_at - 1);
        world.is_silent();
        world.no_event();
        world.seconds(1);
        let bye = world.says(Method::BYE);
        assert_eq!(world.ended().ending, Ending::SessionExpired);
        world.hears(peer.response(&bye, 200));
    }
}

#[test]
fn their_refreshes_keep_the_call() {
    let (mut world, mut peer) = called(CallSettings::default(), Some("90;refresher=uas"), ALL);
    for round in 0..6 {
        world.seconds(45);
        let mut update = match round % 2 {
            0 => peer.request(Method::UPDATE, None),
            _ => peer.request(Method::INVITE, Some(sdp(2000))),
        };
        update.fields.push("Supported", "timer");
        update.fields.push("Session-Expires", "90;refresher=uac");
        world.hears(update.clone());
        if round % 2 == 1 && matches!(world.events.front(), Some(CallEvent::Offer { .. })) {
            world.events.clear();
            world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1000)))).unwrap();
        }
        let ok = world.replies(200);
        assert_eq!(ok.fields.text("Session-Expires").as_deref(), Some("90;refresher=uac"));
        assert!(ok.fields.has_token("Require", "timer"));
        if round % 2 == 1 {
            world.hears(peer.ack(update.head.cseq.number, None));
        }
        world.events.clear();
    }
    world.seconds(59);
    world.no_event();
    world.seconds(2);
    assert_eq!(world.ended().ending, Ending::SessionExpired);
}

#[test]
fn what_we_grant_as_the_one_called() {
    let normal = CallSettings::default;
    let always = || CallSettings { session_timer: SessionTimer::Always, ..normal() };
    let off = CallSettings { session_timer: SessionTimer::Off, ..normal() };
    let grant = |settings, fields: &[(&str, &str)]| {
        let (_, _, expires, required) = taken(settings, fields);
        (expires, required)
    };
    let said = |text: &str, required| (Some(text.to_owned()), required);
    assert_eq!(grant(normal(), &[]), (None, false));
    assert_eq!(grant(normal(), &[("Session-Expires", "300")]), said("300;refresher=uac", true));
    assert_eq!(
        grant(normal(), &[("Session-Expires", "300;refresher=uas")]),
        said("300;refresher=uas", false)
    );
    assert_eq!(
        grant(normal(), &[("Session-Expires", "300"), ("Supported", "100rel")]),
        said("300;refresher=uas", false)
    );
    assert_eq!(grant(always(), &[]), said("1800;refresher=uac", true));
    assert_eq!(grant(always(), &[("Supported", "100rel")]), said("1800;refresher=uas", false));
    assert_eq!(grant(off, &[("Session-Expires", "300")]), (None, false));
}

#[test]
fn we_refresh_as_the_one_called() {
    let (mut world, peer, _, _) = taken(CallSettings::default(), &[("Session-Expires", "300;refresher=uas")]);
    world.seconds(150);
    let update = world.says(Method::UPDATE);
    assert_eq!(update.fields.text("Session-Expires").as_deref(), Some("300;refresher=uac"));
    world.hears(peer.success(&update, None));
    assert!(matches!(world.event(), CallEvent::Refreshed));
}

#[test]
fn no_timer_runs_before_the_call_is_answered() {
    let lasting = |mut update: Request| {
        update.fields.push("Supported", "timer");
        update.fields.push("Session-Expires", "90;refresher=uac");
        update
    };
    // It rings here.
    let mut world = World::plain();
    let mut peer = Peer::calling();
    world.hears(peer.invite(Some(sdp(2000))));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    peer.takes(&world.replies(180));
    world.hears(lasting(peer.request(Method::UPDATE, None)));
    assert!(!world.replies(200).fields.has("Session-Expires"));
    world.events.clear();
    world.seconds(200);
    world.no_event();
    world.sent.clear();
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    world.replies(200);
    // It rings there; either side updates.
    let mut world = World::plain();
    let (invite, mut peer) = world.calls_with_offer();
    world.hears(peer.reliable(&invite, 183, 1, Some(sdp(2000))));
    let prack = world.says(Method::PRACK);
    world.hears(peer.response(&prack, 200));
    world.hears(lasting(peer.request(Method::UPDATE, None)));
    assert!(!world.replies(200).fields.has("Session-Expires"));
    world.offers(sdp(1001));
    let update = world.says(Method::UPDATE);
    let mut ok = peer.success(&update, Some(sdp(2001)));
    ok.fields.push("Session-Expires", "90;refresher=uas");
    world.hears(ok);
    world.events.clear();
    world.seconds(200);
    world.no_event();
    world.is_silent();
    let mut ok = peer.success(&invite, None);
    ok.fields.push("Session-Expires", "90;refresher=uas");
    world.hears(ok);
    world.says(Method::ACK);
    world.seconds(60);
    world.says(Method::BYE);
}

#[test]
fn a_refresh_asked_to_be_longer_is_longer() {
    let (mut world, peer) = called(CallSettings::default(), Some("90"), ALL);
    world.seconds(45);
    let update = world.says(Method::UPDATE);
    let mut brief = peer.response(&update, 422);
    brief.fields.push("Min-SE", "3600");
    world.hears(brief);
    let update = world.says(Method::UPDATE);
    assert_eq!(update.fields.text("Session-Expires").as_deref(), Some("3600;refresher=uac"));
    assert_eq!(update.fields.text("Min-SE").as_deref(), Some("3600"));
}

#[test]
fn without_the_extension_there_is_no_timer_unless_always() {
    let (mut world, _) = called(CallSettings::default(), None, ALL);
    world.seconds(100_000);
    world.is_silent();
    let always = CallSettings {
        session_timer: SessionTimer::Always,
        session_expires: Duration::from_secs(200),
        ..CallSettings::default()
    };
    let (mut world, _) = called(always, None, ALL);
    world.seconds(100);
    world.says(Method::UPDATE);
    let off = CallSettings { session_timer: SessionTimer::Off, ..CallSettings::default() };
    let (mut world, _) = called(off, Some("90"), ALL);
    world.seconds(1000);
    world.is_silent();
}

#[test]
fn an_absurd_interval_does_not_make_us_spin() {
    let (mut world, _) = called(CallSettings::default(), Some("1;refresher=uac"), ALL);
    world.seconds(44);
    world.is_silent();
}

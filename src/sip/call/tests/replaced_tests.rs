//! Somebody takes the place of the peer of a call (RFC 3891).

use super::{Peer, World, sdp, uri};
use crate::sip::account::Account;
use crate::sip::call::CallEvent;
use crate::sip::handle::CallId;
use crate::sip::message::Request;
use crate::sip::method::Method;
use crate::sip::reason::Reason;
use crate::sip::trust::{Network, Trust};
use crate::sip::uri::Uri;

/// The dialog of a call, as whoever wants the place of its peer names it.
fn named(peer: &Peer) -> String {
    let ours = peer.remote.tag().expect("our tag");
    format!("{};to-tag={ours};from-tag={}", peer.call_id, peer.tag())
}

/// Somebody of this name calls, and the INVITE has these fields.
fn comes(world: &mut World, name: &str, fields: &[(&str, &str)]) -> (Peer, Request) {
    let mut peer = Peer { call_id: format!("call-of-{name}"), ..Peer::calling().fork(name) };
    let mut invite = peer.invite(Some(sdp(3000)));
    fields.iter().for_each(|(field, value)| invite.fields.push(field, *value));
    world.hears(invite.clone());
    (peer, invite)
}

/// The call that the one that has just come is to take the place of.
fn predecessor(world: &mut World) -> Option<CallId> {
    match world.event() {
        CallEvent::Incoming(incoming) => incoming.predecessor,
        other => panic!("{other:?}"),
    }
}

/// Whoever names a dialog so is refused with this status, and nobody hears of it.
#[track_caller]
fn is_refused(world: &mut World, name: &str, replaces: &str, status: u16) {
    comes(world, name, &[("Replaces", replaces)]);
    world.replies(status);
    world.no_event();
}

#[test]
fn whoever_knows_an_answered_call_gets_the_place_of_its_peer() {
    for taken in [false, true] {
        let mut world = World::plain();
        let bob = if taken { world.taken_call() } else { world.answered_call() };
        let old = world.call;
        let right = named(&bob);
        let fields = [("Replaces", right.as_str()), ("Require", "replaces")];
        let (mut carol, invite) = comes(&mut world, "carol", &fields);
        assert_eq!(predecessor(&mut world), Some(old));
        world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
        let ok = world.replies(200);
        assert!(ok.fields.has_token("Supported", "replaces"));
        carol.takes(&ok);
        world.hears(carol.ack(invite.head.cseq.number, None));
        assert!(matches!(world.event(), CallEvent::Established));
        world.does(|ua, now, _| ua.hang_up(now, old, None)).unwrap();
        let bye = world.says(Method::BYE);
        assert_eq!((&bye.head.call_id, bye.head.to_tag()), (&bob.call_id, Some("bob")));
        world.hears(bob.response(&bye, 200));
        world.hears(carol.request(Method::BYE, None));
        world.replies(200);
        world.seconds(40);
        world.forgot_everything();
    }
}

#[test]
fn an_early_dialog_is_given_up_by_who_began_it_and_by_nobody_else() {
    let mut world = World::plain();
    let (invite, bob) = world.calls_with_offer();
    world.hears(bob.response(&invite, 180));
    let old = world.call;
    world.events.clear();
    let right = named(&bob);
    is_refused(&mut world, "eve", &right.replace("from-tag=bob", "from-tag=another"), 481);
    comes(&mut world, "carol", &[("Replaces", &format!("{right};early-only"))]);
    assert_eq!(predecessor(&mut world), Some(old));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    world.replies(200);
    let reason = Reason::sip(200, "Call completed elsewhere");
    world.does(|ua, now, _| ua.hang_up(now, old, Some(reason))).unwrap();
    let cancel = world.says(Method::CANCEL);
    assert_eq!(cancel.head.call_id, bob.call_id);
    assert_eq!(
        cancel.fields.text("Reason").as_deref(),
        Some("SIP;cause=200;text=\"Call completed elsewhere\"")
    );
    // One that rings here is not ours to give up.
    let mut world = World::plain();
    let mut bob = Peer::calling();
    world.hears(bob.invite(Some(sdp(2000))));
    world.events.clear();
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    bob.takes(&world.replies(180));
    is_refused(&mut world, "carol", &named(&bob), 481);
}

#[test]
fn who_does_not_know_the_dialog_is_told_that_there_is_none() {
    let mut world = World::plain();
    let bob = world.answered_call();
    let right = named(&bob);
    let ours = bob.remote.tag().expect("our tag").to_owned();
    for (number, (replaces, status)) in [
        (format!("other;to-tag={ours};from-tag=bob"), 481),
        (format!("{};to-tag={ours};from-tag=eve", bob.call_id), 481),
        (format!("{};to-tag=guess;from-tag=bob", bob.call_id), 481),
        // The tags as the peer sees them.
        (format!("{};to-tag=bob;from-tag={ours}", bob.call_id), 481),
        (format!("{right};early-only"), 486),
        (format!("{};to-tag={ours}", bob.call_id), 400),
        (format!("{right}, {right}"), 400),
        ("\"".to_owned(), 400),
    ]
    .into_iter()
    .enumerate()
    {
        is_refused(&mut world, &format!("eve{number}"), &replaces, status);
    }
    comes(&mut world, "frank", &[("Replaces", &right), ("Replaces", &right)]);
    world.replies(400);
    comes(&mut world, "grace", &[("Replaces", &right), ("Join", &right)]);
    world.replies(400);
    world.no_event();
}

#[test]
fn it_belongs_into_an_invite_and_nothing_else() {
    let mut world = World::plain();
    let mut bob = world.answered_call();
    let right = named(&bob);
    for method in [Method::INFO, Method::UPDATE, Method::BYE, Method::REFER] {
        let mut request = bob.request(method, None);
        request.fields.push("Replaces", right.as_str());
        world.hears(request);
        world.replies(400);
        world.no_event();
    }
    let mut options = Peer::calling().fork("dave").request(Method::OPTIONS, None);
    options.fields.push("Replaces", right.as_str());
    world.hears(options);
    world.replies(400);
}

#[test]
fn a_call_that_has_ended_is_declined_as_long_as_it_is_remembered() {
    let mut world = World::plain();
    let bob = world.answered_call();
    world.hangs_up();
    let bye = world.says(Method::BYE);
    world.events.clear();
    // Its BYE is still on the way.
    is_refused(&mut world, "carol", &named(&bob), 603);
    world.hears(bob.response(&bye, 200));
    world.seconds(40);
    world.forgot_everything();
    world.sent.clear();
    is_refused(&mut world, "dave", &named(&bob), 603);
    is_refused(&mut world, "eve", &named(&bob).replace("from-tag=bob", "from-tag=guess"), 481);
    for _ in 0..32 {
        let other = world.answered_call();
        world.hangs_up();
        let bye = world.says(Method::BYE);
        world.hears(other.response(&bye, 200));
        world.seconds(40);
        world.sent.clear();
        world.events.clear();
    }
    is_refused(&mut world, "frank", &named(&bob), 481);
}

#[test]
fn the_calls_of_a_line_are_its_own() {
    let mut world = World::plain();
    let bob = world.answered_call();
    let old = world.call;
    let line = |aor: &str| {
        let Uri::Sip(aor) = uri(aor) else { unreachable!() };
        let trust = Trust::Networks(vec![Network::ANY_V4]);
        Account { register: false, trust, ..Account::new(aor) }
    };
    let (now, other) = (world.now, line("sip:dora@198.51.100.1"));
    world.ua.add_account(now, other);
    world.pump();
    let mut carol = Peer::calling().fork("carol");
    let mut invite = carol.invite(Some(sdp(3000)));
    invite.uri = uri("sip:dora@192.0.2.10:5060");
    invite.fields.push("Replaces", named(&bob));
    world.hears(invite);
    world.replies(481);
    world.no_event();
    // Another flow of the same line is the line.
    let (now, flow) =
        (world.now, Account { contact_user: Some("second".into()), ..line("sip:alice@198.51.100.1") });
    world.ua.add_account(now, flow);
    world.pump();
    let mut dave = Peer { call_id: "call-of-dave".into(), ..Peer::calling().fork("dave") };
    let mut invite = dave.invite(Some(sdp(3000)));
    invite.uri = uri("sip:second@192.0.2.10:5060");
    invite.fields.push("Replaces", named(&bob));
    world.hears(invite);
    assert_eq!(predecessor(&mut world), Some(old));
}

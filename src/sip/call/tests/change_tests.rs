//! What happens in a call that stands.

use super::{Peer, World, sdp};
use crate::sip::call::{By, CallError, CallEvent, Ending, InviteOptions, Side};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use std::time::Duration;

fn offered(world: &mut World) -> (Option<Vec<u8>>, By) {
    match world.event() {
        CallEvent::Offer { sdp, by, .. } => (sdp, by),
        other => panic!("{other:?}"),
    }
}

fn answer(world: &mut World) -> Vec<u8> {
    match world.event() {
        CallEvent::Answer { sdp, .. } => sdp,
        other => panic!("{other:?}"),
    }
}

/// Our offer crosses the network and is refused with 491.
fn glare(world: &mut World, peer: &Peer) -> Request {
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hears(peer.response(&invite, 491));
    world.says(Method::ACK);
    invite
}

#[test]
fn our_offer_is_a_reinvite_and_is_answered() {
    let mut world = World::plain();
    let peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    assert_eq!((invite.head.to_tag(), &invite.body), (Some("bob"), &sdp(1001)));
    assert!(invite.fields.has("Contact") && invite.fields.has_token("Allow", "UPDATE"));
    let again = world.does(|ua, now, call| ua.offer(now, call, sdp(1002)));
    assert!(matches!(again, Err(CallError::NotNow(_))));
    let ok = peer.success(&invite, Some(sdp(2001)));
    world.hears(ok.clone());
    let ack = world.says(Method::ACK);
    assert_eq!(ack.head.cseq.number, invite.head.cseq.number);
    assert_eq!(answer(&mut world), sdp(2001));
    world.hears(ok);
    assert_eq!(world.says(Method::ACK).head.cseq, ack.head.cseq);
    world.no_event();
    // The offer that had to wait is asked for now.
    world.seconds(1);
    assert!(matches!(world.event(), CallEvent::OfferWanted));
    world.offers(sdp(1002));
    assert!(world.says(Method::INVITE).head.cseq.number > invite.head.cseq.number);
}

#[test]
fn our_reinvite_wants_no_progress_that_has_to_be_acknowledged() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    assert_eq!(invite.fields.text("Supported").as_deref(), Some("100rel, timer, replaces"));
    world.hears(peer.success(&invite, Some(sdp(2000))));
    world.says(Method::ACK);
    world.offers(sdp(1001));
    let again = world.says(Method::INVITE);
    assert_eq!(again.fields.text("Supported").as_deref(), Some("timer, replaces"));
}

#[test]
fn our_refused_offer_leaves_the_call_as_it_was() {
    let mut world = World::plain();
    let peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hears(peer.response(&invite, 488));
    world.says(Method::ACK);
    assert!(matches!(world.event(), CallEvent::OfferFailed { status: 488 }));
    world.no_event();
    world.offers(sdp(1000));
    world.says(Method::INVITE);
}

#[test]
fn our_offer_finds_the_peer_gone() {
    for status in [481, 408] {
        let mut world = World::plain();
        let peer = world.answered_call();
        world.offers(sdp(1001));
        let invite = world.says(Method::INVITE);
        world.hears(peer.response(&invite, status));
        world.says(Method::ACK);
        world.says(Method::BYE);
        let ended = world.ended();
        assert_eq!((ended.ending, ended.by, ended.status), (Ending::PeerGone, Side::Remote, Some(status)));
    }
    let mut world = World::plain();
    world.answered_call();
    world.offers(sdp(1001));
    world.seconds(40);
    assert_eq!(world.ended().ending, Ending::PeerGone);
    assert!(world.sent.iter().any(|message| message.head().cseq.method == Method::BYE));
}

#[test]
fn their_offer_is_answered_or_refused_and_the_call_lives() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let invite = peer.invite(Some(sdp(2001)));
    world.hears(invite.clone());
    assert_eq!(offered(&mut world), (Some(sdp(2001)), By::Invite));
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1001)))).unwrap();
    assert_eq!(world.replies(200).body, sdp(1001));
    world.seconds(1);
    assert_eq!(world.replies(200).body, sdp(1001));
    world.hears(peer.ack(invite.head.cseq.number, None));
    world.seconds(40);
    world.is_silent();
    let fax = peer.invite(Some(b"v=0\r\nc=IN IP4 1.2.3.4\r\nm=image 4 udptl t38\r\n".to_vec()));
    world.hears(fax.clone());
    offered(&mut world);
    world.does(|ua, now, call| ua.reply_offer(now, call, Err(488))).unwrap();
    assert!(world.replies(488).fields.has("Warning"));
    world.hears(peer.ack_refusal(&fax));
    world.hears(peer.request(Method::INFO, None));
    world.replies(200);
    world.no_event();
}

#[test]
fn a_reinvite_without_offer_gets_ours_and_its_answer_comes_in_the_ack() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let invite = peer.invite(None);
    world.hears(invite.clone());
    assert_eq!(offered(&mut world), (None, By::Invite));
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1001)))).unwrap();
    assert_eq!(world.replies(200).body, sdp(1001));
    world.hears(peer.ack(invite.head.cseq.number, Some(sdp(2001))));
    assert_eq!(answer(&mut world), sdp(2001));
    let again = peer.invite(None);
    world.hears(again.clone());
    offered(&mut world);
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1002)))).unwrap();
    world.replies(200);
    world.hears(peer.ack(again.head.cseq.number, None));
    world.says(Method::BYE);
    assert_eq!(world.ended().ending, Ending::NoSession);
}

#[test]
fn an_identical_reinvite_refreshes_and_changes_nothing() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    world.seconds(900);
    let invite = peer.invite(Some(sdp(2000)));
    world.hears(invite.clone());
    assert_eq!(world.replies(200).body, sdp(1000));
    assert!(matches!(world.event(), CallEvent::Refreshed));
    world.hears(peer.ack(invite.head.cseq.number, None));
    world.no_event();
    world.seconds(40);
    world.is_silent();
}

#[test]
fn an_offer_that_was_not_agreed_on_is_no_refresh_when_it_comes_again() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let fax = b"v=0\r\nc=IN IP4 1.2.3.4\r\nm=image 4 udptl t38\r\n".to_vec();
    for method in [Method::INVITE, Method::INVITE, Method::UPDATE, Method::INVITE] {
        let request = peer.request(method, Some(fax.clone()));
        world.hears(request.clone());
        assert_eq!(offered(&mut world).0, Some(fax.clone()));
        world.does(|ua, now, call| ua.reply_offer(now, call, Err(488))).unwrap();
        world.replies(488);
        world.hears(peer.ack_refusal(&request));
    }
    // Nor is one that was withdrawn.
    for _ in 0..2 {
        let invite = peer.invite(Some(sdp(2001)));
        world.hears(invite.clone());
        assert_eq!(offered(&mut world).0, Some(sdp(2001)));
        world.hears(peer.cancel(&invite, None));
        world.replies(200);
        world.replies(487);
        world.hears(peer.ack_refusal(&invite));
    }
    // What stands is refreshed as before.
    world.hears(peer.invite(Some(sdp(2000))));
    assert_eq!(world.replies(200).body, sdp(1000));
    assert!(matches!(world.event(), CallEvent::Refreshed));
    world.no_event();
}

#[test]
fn a_reinvite_nobody_acknowledges_ends_the_call() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    world.hears(peer.invite(Some(sdp(2000))));
    world.events.clear();
    world.seconds(33);
    assert_eq!(world.ended().ending, Ending::NotAcknowledged);
}

#[test]
fn crossing_offers_are_refused_and_tried_again_after_the_rfcs_pause() {
    // We own the Call-ID: 2.1 to 4 s.
    let mut world = World::plain();
    let peer = world.answered_call();
    glare(&mut world, &peer);
    world.run(Duration::from_millis(2099));
    world.no_event();
    world.run(Duration::from_millis(1902));
    assert!(matches!(world.event(), CallEvent::OfferWanted));
    world.no_event();
    world.offers(sdp(1001));
    let again = world.says(Method::INVITE);
    world.hears(peer.success(&again, Some(sdp(2001))));
    assert_eq!(answer(&mut world), sdp(2001));
    // They own it: 0 to 2 s.
    let mut world = World::plain();
    let peer = world.taken_call();
    glare(&mut world, &peer);
    world.run(Duration::from_millis(2001));
    assert!(matches!(world.event(), CallEvent::OfferWanted));
}

#[test]
fn endless_glare_is_given_up() {
    let mut world = World::plain();
    let peer = world.answered_call();
    for _ in 0..8 {
        glare(&mut world, &peer);
        world.seconds(5);
        assert!(matches!(world.event(), CallEvent::OfferWanted));
    }
    glare(&mut world, &peer);
    assert!(matches!(world.event(), CallEvent::OfferFailed { status: 491 }));
}

#[test]
fn their_offer_against_ours_gets_491_and_theirs_during_the_pause_is_taken() {
    let mut world = World::plain();
    let mut peer = world.answered_call();
    world.offers(sdp(1001));
    let ours = world.says(Method::INVITE);
    let theirs = peer.invite(Some(sdp(2001)));
    world.hears(theirs.clone());
    world.replies(491);
    world.hears(peer.ack_refusal(&theirs));
    world.hears(peer.request(Method::UPDATE, Some(sdp(2001))));
    world.replies(491);
    world.no_event();
    world.hears(peer.response(&ours, 491));
    world.says(Method::ACK);
    let theirs = peer.invite(Some(sdp(2001)));
    world.hears(theirs.clone());
    offered(&mut world);
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1000)))).unwrap();
    world.replies(200);
    world.hears(peer.ack(theirs.head.cseq.number, None));
    world.seconds(5);
    assert!(matches!(world.event(), CallEvent::OfferWanted));
}

#[test]
fn a_peer_that_is_busy_for_a_moment_is_asked_again() {
    let mut world = World::plain();
    let peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    let mut busy = peer.response(&invite, 500);
    busy.fields.push("Retry-After", "3");
    world.hears(busy);
    world.run(Duration::from_millis(2900));
    world.no_event();
    world.seconds(1);
    assert!(matches!(world.event(), CallEvent::OfferWanted));
}

#[test]
fn a_second_offer_before_the_first_is_answered_gets_500() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    world.hears(peer.invite(Some(sdp(2001))));
    offered(&mut world);
    world.hears(peer.invite(Some(sdp(2002))));
    let busy = world.replies(500);
    let seconds: u32 = busy.fields.text("Retry-After").unwrap().parse().unwrap();
    assert!(seconds <= 10);
    world.hears(peer.request(Method::UPDATE, Some(sdp(2003))));
    assert!(world.replies(500).fields.has("Retry-After"));
    world.no_event();
}

#[test]
fn their_reinvite_can_be_cancelled() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let invite = peer.invite(Some(sdp(2001)));
    world.hears(invite.clone());
    offered(&mut world);
    world.hears(peer.cancel(&invite, None));
    world.replies(200);
    world.replies(487);
    assert!(world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1)))).is_err());
    world.no_event();
}

#[test]
fn update_in_a_call_that_stands() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    world.hears(peer.request(Method::UPDATE, Some(sdp(2001))));
    assert_eq!(offered(&mut world), (Some(sdp(2001)), By::Update));
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1001)))).unwrap();
    assert_eq!(world.replies(200).body, sdp(1001));
    world.seconds(40);
    world.is_silent();
    world.hears(peer.request(Method::UPDATE, Some(sdp(2002))));
    offered(&mut world);
    world.does(|ua, now, call| ua.reply_offer(now, call, Err(488))).unwrap();
    world.replies(488);
    world.hears(peer.request(Method::UPDATE, None));
    assert!(world.replies(200).body.is_empty());
    assert!(matches!(world.event(), CallEvent::Refreshed));
    let mut connected = peer.request(Method::UPDATE, None);
    connected.fields.push("P-Asserted-Identity", "\"Carol\" <sip:300@pbx>");
    world.hears(connected);
    assert!(
        matches!(world.event(), CallEvent::Identity(told) if told.shown().display.as_deref() == Some("Carol"))
    );
}

#[test]
fn update_before_the_answer() {
    let mut world = World::plain();
    let (invite, mut peer) = world.calls_with_offer();
    world.hears(peer.reliable(&invite, 183, 1, Some(sdp(2000))));
    let prack = world.says(Method::PRACK);
    world.hears(peer.response(&prack, 200));
    world.events.clear();
    world.hears(peer.request(Method::UPDATE, Some(sdp(2001))));
    assert_eq!(offered(&mut world).1, By::Update);
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1001)))).unwrap();
    world.replies(200);
    world.offers(sdp(1002));
    let update = world.says(Method::UPDATE);
    assert_eq!(update.body, sdp(1002));
    world.hears(peer.success(&update, Some(sdp(2002))));
    assert_eq!(answer(&mut world), sdp(2002));
    world.hears(peer.success(&invite, None));
    assert!(matches!(world.event(), CallEvent::Answered { sdp: None, .. }));
}

#[test]
fn an_update_before_the_first_answer_has_to_wait() {
    let mut world = World::plain();
    let (invite, mut peer) = world.calls_with_offer();
    world.hears(peer.response(&invite, 180));
    world.hears(peer.request(Method::UPDATE, Some(sdp(2001))));
    world.replies(491);
    let early = world.does(|ua, now, call| ua.offer(now, call, sdp(1001)));
    assert!(matches!(early, Err(CallError::NotNow(_))));
}

#[test]
fn an_early_dialog_that_is_gone_takes_its_invite_along() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.reliable(&invite, 183, 1, Some(sdp(2000))));
    let prack = world.says(Method::PRACK);
    world.hears(peer.response(&prack, 200));
    world.events.clear();
    world.offers(sdp(1001));
    let update = world.says(Method::UPDATE);
    world.hears(peer.response(&update, 481));
    let cancel = world.says(Method::CANCEL);
    assert_eq!(world.ended().ending, Ending::PeerGone);
    world.hears(Response::to(&cancel, 200));
    world.hears(peer.response(&invite, 487));
    world.says(Method::ACK);
    world.seconds(40);
    world.forgot_everything();
    // The same while it rings here.
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Require", "100rel");
    world.hears(invite.clone());
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    let progress = world.replies(183);
    peer.takes(&progress);
    let mut prack = peer.request(Method::PRACK, None);
    let rseq = progress.fields.text("RSeq").unwrap().into_owned();
    prack.fields.push("RAck", format!("{rseq} {}", invite.head.cseq));
    world.hears(prack);
    world.replies(200);
    world.events.clear();
    world.offers(sdp(1001));
    let update = world.says(Method::UPDATE);
    world.hears(peer.response(&update, 481));
    world.replies(480);
    assert_eq!(world.ended().ending, Ending::PeerGone);
}

#[test]
fn crossing_byes_are_both_content() {
    let mut world = World::plain();
    let mut peer = world.answered_call();
    world.hangs_up();
    let ours = world.says(Method::BYE);
    assert_eq!(world.ended().by, Side::Local);
    world.hears(peer.request(Method::BYE, None));
    world.replies(200);
    world.hears(peer.response(&ours, 481));
    world.no_event();
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn a_bye_ends_whatever_is_open() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    world.hears(peer.invite(Some(sdp(2001))));
    offered(&mut world);
    world.hears(peer.request(Method::BYE, None));
    world.replies(200);
    world.replies(487);
    assert_eq!(world.ended().ending, Ending::HungUp);
    let mut world = World::plain();
    let mut peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hears(peer.request(Method::BYE, None));
    world.replies(200);
    world.ended();
    world.hears(peer.success(&invite, Some(sdp(2001))));
    world.says(Method::ACK);
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn info_both_ways() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let mut info = peer.request(Method::INFO, None);
    info.set_body("Application/DTMF-Relay;x=y", "Signal=5\r\nDuration=160\r\n");
    world.hears(info);
    world.replies(200);
    match world.event() {
        CallEvent::Info { content_type, body } => {
            assert_eq!(
                (content_type.as_str(), body.starts_with(b"Signal=5")),
                ("application/dtmf-relay", true)
            );
        }
        other => panic!("{other:?}"),
    }
    world.does(|ua, now, call| ua.info(now, call, "application/dtmf", b"5".to_vec())).unwrap();
    let info = world.says(Method::INFO);
    assert_eq!(
        (info.fields.text("Content-Type").as_deref(), info.body.as_slice()),
        (Some("application/dtmf"), &b"5"[..])
    );
    world.hears(peer.response(&info, 415));
    assert!(matches!(world.event(), CallEvent::InfoResult { status: 415 }));
}

#[test]
fn methods_that_are_not_there_are_named_as_such() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    for method in [Method::MESSAGE, Method::parse(b"NONSENSE").unwrap()] {
        let mut request = peer.request(method.clone(), None);
        request.fields.push("Refer-To", "<sip:carol@x>");
        world.hears(request);
        let status = match world.sent.pop_front() {
            Some(crate::sip::message::Message::Response(response)) => response.status,
            other => panic!("{other:?}"),
        };
        assert!(matches!(status, 405 | 501), "{method} {status}");
    }
    world.hears(peer.request(Method::OPTIONS, None));
    world.replies(200);
    world.no_event();
}

#[test]
fn commands_to_calls_that_are_over_or_unready() {
    let mut world = World::plain();
    let call = world.call;
    assert_eq!(world.ua.hang_up(world.now, call, None), Err(CallError::Unknown));
    world.calls(InviteOptions { offer: Some(sdp(1)), ..InviteOptions::default() });
    assert!(matches!(world.does(|ua, now, call| ua.answer(now, call, sdp(1))), Err(CallError::NotNow(_))));
    assert!(matches!(world.does(|ua, now, call| ua.offer(now, call, sdp(1))), Err(CallError::NotNow(_))));
    assert!(matches!(
        world.does(|ua, now, call| ua.info(now, call, "a/b", vec![1])),
        Err(CallError::NotNow(_))
    ));
    world.hangs_up();
    assert_eq!(world.does(|ua, now, call| ua.hang_up(now, call, None)), Err(CallError::Over));
}

#[test]
fn the_peers_new_contact_is_where_requests_go() {
    let mut world = World::plain();
    let mut peer = world.taken_call();
    let mut update = peer.request(Method::UPDATE, None);
    update.fields.set("Contact", "<sip:bob@198.51.100.1:5088>");
    world.hears(update);
    world.replies(200);
    world.hangs_up();
    assert_eq!(world.says(Method::BYE).uri.to_string(), "sip:bob@198.51.100.1:5088");
}

#[test]
fn a_late_200_to_our_offer_after_the_end_is_acknowledged() {
    let mut world = World::plain();
    let peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hangs_up();
    let bye = world.says(Method::BYE);
    world.hears(peer.success(&invite, Some(sdp(2001))));
    world.says(Method::ACK);
    world.hears(Response::to(&bye, 200));
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn a_reinvite_that_only_rings_is_withdrawn() {
    let mut world = World::plain();
    let peer = world.answered_call();
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hears(peer.response(&invite, 180));
    world.seconds(31);
    world.is_silent();
    world.seconds(1);
    let cancel = world.says(Method::CANCEL);
    world.hears(Response::to(&cancel, 200));
    world.hears(peer.response(&invite, 487));
    world.says(Method::ACK);
    assert!(matches!(world.event(), CallEvent::OfferFailed { status: 487 }));
    world.offers(sdp(1001));
    let invite = world.says(Method::INVITE);
    world.hears(peer.response(&invite, 180));
    world.hangs_up();
    world.says(Method::BYE);
    world.says(Method::CANCEL);
    world.seconds(100);
    world.forgot_everything();
}

//! They call.

use super::{Peer, World, sdp, uri};
use crate::sip::call::{CallError, CallEvent, CallSettings, Ending, Incoming, Prack, Side};
use crate::sip::message::{Message, Request};
use crate::sip::method::Method;
use std::time::Duration;

fn incoming(world: &mut World) -> Incoming {
    match world.event() {
        CallEvent::Incoming(incoming) => *incoming,
        other => panic!("{other:?}"),
    }
}

fn rung(world: &mut World, peer: &mut Peer, offer: Option<Vec<u8>>) -> Request {
    let invite = peer.invite(offer);
    world.hears(invite.clone());
    incoming(world);
    invite
}

fn prack(peer: &mut Peer, rack: &str, description: Option<Vec<u8>>) -> Request {
    let mut prack = peer.request(Method::PRACK, description);
    prack.fields.push("RAck", rack);
    prack
}

#[test]
fn a_call_from_invite_to_bye() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Remote-Party-ID", "\"Robert\" <sip:200@pbx>;party=calling;privacy=off");
    invite.fields.push("Privacy", "none");
    world.hears(invite.clone());
    let told = incoming(&mut world);
    assert_eq!((told.offer, told.identity.private), (Some(sdp(2000)), false));
    assert_eq!(told.identity.shown().display.as_deref(), Some("Robert"));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    let ringing = world.replies(180);
    assert!(!ringing.fields.has("RSeq") && ringing.fields.has("Contact"));
    peer.takes(&ringing);
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    assert_eq!((ok.head.to_tag(), &ok.body), (ringing.head.to_tag(), &sdp(1000)));
    assert!(
        ok.fields.has("Contact")
            && ok.fields.has_token("Supported", "timer")
            && ok.fields.has_token("Allow", "INFO")
    );
    assert!(!ok.fields.has("Session-Expires"));
    world.hears(peer.ack(invite.head.cseq.number, None));
    assert!(matches!(world.event(), CallEvent::Established));
    let mut bye = peer.request(Method::BYE, None);
    bye.fields.push("Reason", "Q.850;cause=16");
    world.hears(bye);
    world.replies(200);
    let ended = world.ended();
    assert_eq!((ended.ending, ended.by, ended.reasons[0].cause), (Ending::HungUp, Side::Remote, Some(16)));
    world.forgot_everything();
}

#[test]
fn the_2xx_is_repeated_until_its_ack() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    world.run(Duration::from_millis(499));
    world.is_silent();
    world.seconds(8);
    // 0.5, 1.5, 3.5, 7.5 s
    for _ in 0..4 {
        assert_eq!(world.replies(200).body, ok.body);
    }
    world.is_silent();
    peer.takes(&ok);
    world.hears(peer.ack(invite.head.cseq.number, None));
    assert!(matches!(world.event(), CallEvent::Established));
    world.seconds(60);
    world.is_silent();
    world.no_event();
}

#[test]
fn without_an_ack_the_call_is_hung_up() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    world.seconds(31);
    assert!(world.sent.drain(..).count() > 8);
    world.no_event();
    world.seconds(2);
    world.sent.retain(|message| matches!(message, Message::Request(_)));
    let bye = world.says(Method::BYE);
    assert_eq!(world.ended().ending, Ending::NotAcknowledged);
    world.hears(peer.response(&bye, 481));
    world.forgot_everything();
}

#[test]
fn a_bye_of_ours_waits_for_their_ack() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    peer.takes(&ok);
    world.hangs_up();
    world.is_silent();
    assert_eq!(world.ended().ending, Ending::HungUp);
    world.hears(peer.ack(invite.head.cseq.number, None));
    let bye = world.says(Method::BYE);
    world.hears(peer.response(&bye, 200));
    world.forgot_everything();
}

#[test]
fn cancelled_before_the_answer() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    let ringing = world.replies(180);
    world.hears(peer.cancel(&invite, None));
    world.replies(200);
    let terminated = world.replies(487);
    assert_eq!(terminated.head.to_tag(), ringing.head.to_tag());
    let ended = world.ended();
    assert_eq!((ended.ending, ended.by, ended.elsewhere), (Ending::Cancelled, Side::Remote, false));
    assert_eq!(world.does(|ua, now, call| ua.answer(now, call, sdp(1))), Err(CallError::Unknown));
}

#[test]
fn a_fork_lost_is_told_from_a_missed_call() {
    for (reason, elsewhere) in [
        ("SIP;cause=200;text=\"Call completed elsewhere\"", true),
        ("Q.850;cause=26", true),
        ("SIP;cause=487, Q.850 ;cause=26", true),
        ("SIP;cause=600;text=\"Busy Everywhere\"", false),
        ("Q.850;cause=16", false),
        ("nonsense;;;", false),
    ] {
        let mut world = World::plain();
        let mut peer = Peer::calling();
        let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
        world.hears(peer.cancel(&invite, Some(reason)));
        assert_eq!(world.ended().elsewhere, elsewhere, "{reason}");
    }
}

#[test]
fn a_cancel_that_crosses_our_200_changes_nothing() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    peer.takes(&ok);
    world.hears(peer.cancel(&invite, Some("SIP;cause=200")));
    world.no_event();
    world.sent.clear();
    world.hears(peer.ack(invite.head.cseq.number, None));
    assert!(matches!(world.event(), CallEvent::Established));
    world.hears(peer.request(Method::BYE, None));
    world.replies(200);
    assert_eq!(world.ended().ending, Ending::HungUp);
}

#[test]
fn refusals_carry_what_the_room_above_says() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    let fields = [("Contact".to_owned(), "<sip:carol@x>".to_owned())];
    world.does(|ua, now, call| ua.reject(now, call, 302, Some("Moved".to_owned()), &fields)).unwrap();
    let moved = world.replies(302);
    assert_eq!(
        (moved.reason.as_str(), moved.fields.text("Contact").as_deref()),
        ("Moved", Some("<sip:carol@x>"))
    );
    assert!(moved.head.to_tag().is_some());
    let ended = world.ended();
    assert_eq!((ended.ending, ended.by, ended.status), (Ending::Rejected, Side::Local, Some(302)));
    world.forgot_everything();
}

#[test]
fn hanging_up_while_it_rings_refuses_only_here() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    world.hangs_up();
    world.replies(480);
    assert_eq!(world.ended().ending, Ending::Rejected);
}

#[test]
fn what_can_not_be_taken_is_refused_unseen() {
    let refused = |settings: CallSettings, change: &dyn Fn(&mut Request), status: u16| {
        let mut world = World::new(settings);
        let mut peer = Peer::calling();
        let mut invite = peer.invite(Some(sdp(2000)));
        change(&mut invite);
        world.hears(invite);
        let response = world.replies(status);
        world.no_event();
        world.forgot_everything();
        assert!(response.head.to_tag().is_some());
        response
    };
    let normal = CallSettings::default;
    let response = refused(normal(), &|invite| invite.set_body("application/isup", "x"), 415);
    assert_eq!(response.fields.text("Accept").as_deref(), Some("application/sdp"));
    refused(normal(), &|invite| invite.fields.push("Content-Encoding", "gzip"), 415);
    refused(normal(), &|invite| invite.set_body("application/sdp", "m=audio x"), 400);
    refused(normal(), &|invite| assert!(invite.fields.remove("Contact")), 400);
    let no_prack = CallSettings { prack: Prack::Off, ..normal() };
    let response = refused(no_prack, &|invite| invite.fields.push("Require", "100rel"), 420);
    assert_eq!(response.fields.text("Unsupported").as_deref(), Some("100rel"));
    let response = refused(normal(), &|invite| invite.fields.push("Session-Expires", "60"), 422);
    assert_eq!(response.fields.text("Min-SE").as_deref(), Some("90"));
    let patient = CallSettings { min_se: Duration::from_secs(1800), ..normal() };
    let response = refused(patient, &|invite| invite.fields.push("Session-Expires", "90"), 422);
    assert_eq!(response.fields.text("Min-SE").as_deref(), Some("1800"));
}

#[test]
fn the_offer_may_lie_in_one_of_several_parts() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(None);
    let mut body = b"--x\r\nContent-Type: application/isup\r\n\
        Content-Disposition: signal;handling=optional\r\n\r\n\x01\x02\r\n\
        --x\r\nContent-Type: application/sdp\r\n\r\n"
        .to_vec();
    body.extend(sdp(2000));
    body.extend(b"\r\n--x--\r\n");
    invite.set_body("multipart/mixed;boundary=x", body);
    world.hears(invite);
    assert_eq!(incoming(&mut world).offer, Some(sdp(2000)));
}

#[test]
fn a_call_without_offer_gets_ours_and_answers_in_the_ack() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = peer.invite(None);
    world.hears(invite.clone());
    assert_eq!(incoming(&mut world).offer, None);
    // An offer of ours can't go out in a plain 18x.
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    assert!(world.replies(183).body.is_empty());
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    assert_eq!(ok.body, sdp(1000));
    peer.takes(&ok);
    world.hears(peer.ack(invite.head.cseq.number, Some(sdp(2000))));
    assert!(matches!(world.event(), CallEvent::Established));
    match world.event() {
        CallEvent::Answer { sdp: answer, dialog } => {
            assert_eq!((answer, dialog.0.as_str()), (sdp(2000), "bob"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ack_without_the_answer_it_owes_ends_the_call() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = peer.invite(None);
    world.hears(invite.clone());
    incoming(&mut world);
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    peer.takes(&ok);
    world.hears(peer.ack(invite.head.cseq.number, None));
    assert!(matches!(world.event(), CallEvent::Established));
    world.says(Method::BYE);
    assert_eq!(world.ended().ending, Ending::NoSession);
}

#[test]
fn a_peer_that_requires_it_gets_reliable_18x() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Require", "100rel");
    world.hears(invite.clone());
    incoming(&mut world);
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    let first = world.replies(183);
    assert!(first.fields.has_token("Require", "100rel") && first.body == sdp(1000));
    let rseq: u32 = first.fields.text("RSeq").unwrap().parse().unwrap();
    peer.takes(&first);
    // The next waits for the PRACK of the first, which is repeated meanwhile; so does the 200.
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    world.is_silent();
    world.run(Duration::from_millis(1600));
    assert_eq!(world.replies(183), first);
    assert_eq!(world.replies(183), first);
    world.is_silent();
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    world.is_silent();
    assert!(world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).is_err());
    world.hears(prack(&mut peer, &format!("{} {} INVITE", rseq + 5, invite.head.cseq.number), None));
    world.replies(481);
    world.hears(prack(&mut peer, &format!("{rseq} {} INVITE", invite.head.cseq.number), None));
    world.replies(200);
    let second = world.replies(180);
    assert_eq!(second.fields.text("RSeq").unwrap(), (rseq + 1).to_string());
    world.hears(prack(&mut peer, &format!("{} {} INVITE", rseq + 1, invite.head.cseq.number), None));
    world.replies(200);
    let ok = world.replies(200);
    assert!(ok.body.is_empty(), "the answer went out reliably before");
    world.hears(peer.ack(invite.head.cseq.number, None));
    assert!(matches!(world.event(), CallEvent::Established));
    world.no_event();
}

#[test]
fn whoever_is_let_ring_is_told_so_every_minute() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    world.replies(180);
    world.seconds(30);
    // What was said last is what is repeated, its description with it.
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    let progress = world.replies(183);
    for _ in 0..3 {
        world.seconds(59);
        world.is_silent();
        world.seconds(1);
        assert_eq!(world.replies(183), progress);
    }
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    peer.takes(&world.replies(200));
    world.hears(peer.ack(invite.head.cseq.number, None));
    world.seconds(200);
    world.is_silent();
}

#[test]
fn a_reliable_18x_is_followed_every_minute_by_one_with_a_number_of_its_own() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Require", "100rel");
    world.hears(invite.clone());
    incoming(&mut world);
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    let first = world.replies(183);
    let rseq: u32 = first.fields.text("RSeq").unwrap().parse().unwrap();
    peer.takes(&first);
    world.hears(prack(&mut peer, &format!("{rseq} {}", invite.head.cseq), None));
    world.replies(200);
    for number in rseq + 1..rseq + 4 {
        world.seconds(60);
        let next = world.replies(183);
        assert_eq!(next.fields.text("RSeq").unwrap(), number.to_string());
        assert!(next.fields.has_token("Require", "100rel"));
        assert!(next.body.is_empty() && !next.fields.has("Content-Type"), "the answer went out before");
        world.hears(prack(&mut peer, &format!("{number} {}", invite.head.cseq), None));
        world.replies(200);
        world.is_silent();
    }
    world.no_event();
}

#[test]
fn without_prack_the_call_is_given_up() {
    let mut world = World::new(CallSettings { prack: Prack::Required, ..CallSettings::default() });
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    world.seconds(33);
    let repeated = world.sent.iter().filter(|m| m.fields().has("RSeq")).count();
    assert!((6..=8).contains(&repeated), "{repeated}");
    world.sent.retain(|message| !message.fields().has("RSeq"));
    world.replies(504);
    assert_eq!(world.ended().ending, Ending::NotAcknowledged);
}

#[test]
fn our_offer_in_a_reliable_18x_is_answered_in_prack() {
    let mut world = World::new(CallSettings { prack: Prack::Required, ..CallSettings::default() });
    let mut peer = Peer::calling();
    let invite = rung(&mut world, &mut peer, None);
    world.does(|ua, now, call| ua.ring(now, call, 183, Some(sdp(1000)))).unwrap();
    let progress = world.replies(183);
    peer.takes(&progress);
    let rack = format!("{} {} INVITE", progress.fields.text("RSeq").unwrap(), invite.head.cseq.number);
    world.hears(prack(&mut peer, &rack, Some(sdp(2000))));
    world.replies(200);
    assert!(matches!(world.event(), CallEvent::Answer { sdp: answer, .. } if answer == sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    assert!(world.replies(200).body.is_empty());
}

#[test]
fn the_answer_to_our_offer_in_a_180_is_told_once_somebody_has_answered() {
    for answered_first in [false, true] {
        let mut world = World::new(CallSettings { prack: Prack::Required, ..CallSettings::default() });
        let mut peer = Peer::calling();
        let invite = rung(&mut world, &mut peer, None);
        world.does(|ua, now, call| ua.ring(now, call, 180, Some(sdp(1000)))).unwrap();
        let ringing = world.replies(180);
        assert_eq!(ringing.body, sdp(1000));
        peer.takes(&ringing);
        let answers = |world: &mut World| {
            world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
        };
        if answered_first {
            answers(&mut world);
        }
        let rack = format!("{} {}", ringing.fields.text("RSeq").unwrap(), invite.head.cseq);
        world.hears(prack(&mut peer, &rack, Some(sdp(2000))));
        world.replies(200);
        if !answered_first {
            world.no_event();
            // Nothing is talked over yet, so nothing can be changed.
            world.hears(peer.request(Method::UPDATE, Some(sdp(2001))));
            world.replies(491);
            world.seconds(60);
            let next = world.replies(180);
            assert!(next.body.is_empty());
            let rack = format!("{} {}", next.fields.text("RSeq").unwrap(), invite.head.cseq);
            world.hears(prack(&mut peer, &rack, None));
            world.replies(200);
            world.no_event();
            answers(&mut world);
        }
        assert!(world.replies(200).body.is_empty());
        assert!(matches!(world.event(), CallEvent::Answer { sdp: answer, .. } if answer == sdp(2000)));
        world.hears(peer.ack(invite.head.cseq.number, None));
        assert!(matches!(world.event(), CallEvent::Established));
        world.no_event();
    }
}

#[test]
fn the_invites_own_expiry_ends_it() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Expires", "30");
    world.hears(invite);
    incoming(&mut world);
    world.seconds(31);
    world.replies(487);
    assert_eq!(world.ended().ending, Ending::Cancelled);
}

#[test]
fn a_bye_instead_of_a_cancel_ends_a_ringing_call() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.ring(now, call, 180, None)).unwrap();
    let ringing = world.replies(180);
    peer.takes(&ringing);
    world.hears(peer.request(Method::BYE, None));
    world.replies(200);
    world.replies(487);
    assert_eq!(world.ended().ending, Ending::HungUp);
}

#[test]
fn requests_of_strangers_to_the_dialog_are_unknown() {
    let mut world = World::plain();
    let peer = world.taken_call();
    let mut other = peer.fork("somebody-else");
    world.hears(other.request(Method::BYE, None));
    world.replies(481);
    let mut old = peer.clone();
    old.cseq = 1;
    world.hears(old.request(Method::INFO, None));
    world.replies(500);
    let mut lost = peer.clone();
    lost.branches += 50;
    lost.remote.set_tag("not-ours");
    world.hears(lost.request(Method::INFO, None));
    world.replies(481);
    world.no_event();
}

#[test]
fn hidden_callers_are_told_as_such() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    peer.local.uri = uri("sip:anonymous@anonymous.invalid");
    let mut invite = peer.invite(Some(sdp(2000)));
    invite.fields.push("Privacy", "id; critical");
    invite.fields.push("P-Asserted-Identity", "<tel:+49301234>");
    world.hears(invite);
    let told = incoming(&mut world);
    assert!(told.identity.private);
    assert_eq!(told.identity.shown().uri.to_string(), "tel:+49301234");
}

#[test]
fn a_peer_whose_ack_was_lost_goes_on() {
    let mut world = World::plain();
    let mut peer = Peer::calling();
    rung(&mut world, &mut peer, Some(sdp(2000)));
    world.does(|ua, now, call| ua.answer(now, call, sdp(1000))).unwrap();
    let ok = world.replies(200);
    peer.takes(&ok);
    let again = peer.invite(Some(sdp(2001)));
    world.hears(again.clone());
    assert!(matches!(world.event(), CallEvent::Established));
    assert!(matches!(world.event(), CallEvent::Offer { .. }));
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1001)))).unwrap();
    assert_eq!(world.replies(200).body, sdp(1001));
    world.hears(peer.ack(again.head.cseq.number, None));
    world.seconds(40);
    world.is_silent();
    world.no_event();
}

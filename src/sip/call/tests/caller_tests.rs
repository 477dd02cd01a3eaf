//! We call.

use super::{Peer, World, is_progress, sdp, uri};
use crate::sip::call::{CallEvent, CallSettings, Description, Ending, InviteOptions, Prack, Side};
use crate::sip::message::Response;
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::reason::Reason;

fn answered(event: &CallEvent, tag: &str, sdp: Option<&[u8]>) -> bool {
    let CallEvent::Answered { dialog, sdp: told, .. } = event else { return false };
    let told = told.as_ref().map(|told| match told {
        Description::Offer(sdp) | Description::Answer(sdp) => sdp.as_slice(),
    });
    dialog.0 == tag && told == sdp
}

#[test]
fn a_call_from_invite_to_bye() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    assert_eq!(invite.head.from.display.as_deref(), Some("Alice"));
    assert_eq!(invite.fields.tokens("Supported"), ["100rel", "timer", "replaces"]);
    assert!(invite.fields.has_token("Allow", "UPDATE") && invite.fields.has("Contact"));
    assert_eq!(invite.body, sdp(1000));
    world.hears(peer.response(&invite, 100));
    assert!(matches!(world.event(), CallEvent::Trying));
    world.hears(peer.response(&invite, 180));
    assert!(is_progress(&world.event(), 180, "bob", None));
    let mut ok = peer.success(&invite, Some(sdp(2000)));
    ok.fields.push("P-Asserted-Identity", "\"Bob\" <sip:200@pbx>, <tel:+4930200>");
    world.hears(ok.clone());
    match world.event() {
        CallEvent::Answered { dialog, sdp: Some(Description::Answer(told)), identity } => {
            assert_eq!((dialog.0.as_str(), told), ("bob", sdp(2000)));
            assert_eq!(identity.shown().display.as_deref(), Some("Bob"));
        }
        other => panic!("{other:?}"),
    }
    let ack = world.says(Method::ACK);
    assert_eq!((ack.uri.to_string().as_str(), ack.head.cseq.number), ("sip:bob@198.51.100.1:5060", 1));
    // The 200 comes again: so does the ACK, and nothing is told twice.
    world.hears(ok);
    assert_eq!(world.says(Method::ACK).head.to_tag(), Some("bob"));
    world.no_event();
    world.does(|ua, now, call| ua.hang_up(now, call, Some(Reason::q850(16, "Normal")))).unwrap();
    let bye = world.says(Method::BYE);
    assert_eq!(bye.fields.text("Reason").as_deref(), Some("Q.850;cause=16;text=\"Normal\""));
    assert!(bye.head.cseq.number > 1);
    let ended = world.ended();
    assert_eq!((ended.ending, ended.by), (Ending::HungUp, Side::Local));
    world.hears(peer.response(&bye, 200));
    world.seconds(40);
    world.forgot_everything();
    world.is_silent();
}

#[test]
fn early_media_then_ringing_without_a_description() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.with_description(peer.response(&invite, 183), Some(sdp(2000))));
    world.hears(peer.response(&invite, 180));
    world.hears(peer.with_description(peer.response(&invite, 183), Some(sdp(2002))));
    assert!(matches!(world.event(), CallEvent::Trying));
    assert!(is_progress(&world.event(), 183, "bob", Some(&sdp(2000))));
    assert!(is_progress(&world.event(), 180, "bob", None));
    assert!(is_progress(&world.event(), 183, "bob", Some(&sdp(2002))));
    world.hears(peer.success(&invite, Some(sdp(2004))));
    assert!(answered(&world.event(), "bob", Some(&sdp(2004))));
}

#[test]
fn a_2xx_without_a_description_keeps_the_one_foretold() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.with_description(peer.response(&invite, 183), Some(sdp(2000))));
    world.hears(peer.success(&invite, None));
    world.events.drain(..2);
    assert!(answered(&world.event(), "bob", None));
    world.says(Method::ACK);
}

#[test]
fn a_2xx_without_any_description_is_acknowledged_and_hung_up() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.success(&invite, None));
    world.says(Method::ACK);
    world.says(Method::BYE);
    assert_eq!(world.ended().ending, Ending::NoSession);
}

#[test]
fn reliable_provisional_responses_are_acknowledged_in_order() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.reliable(&invite, 183, 7, Some(sdp(2000))));
    let prack = world.says(Method::PRACK);
    assert_eq!(prack.fields.text("RAck").as_deref(), Some("7 1 INVITE"));
    world.hears(peer.response(&prack, 200));
    assert!(matches!(world.event(), CallEvent::Trying));
    assert!(is_progress(&world.event(), 183, "bob", Some(&sdp(2000))));
    // Again: no second PRACK. Out of order: nothing. In order: a PRACK, and its late description counts no
    // more.
    world.hears(peer.reliable(&invite, 183, 7, Some(sdp(2000))));
    world.hears(peer.reliable(&invite, 180, 9, None));
    world.is_silent();
    world.no_event();
    world.hears(peer.reliable(&invite, 180, 8, None));
    assert_eq!(world.says(Method::PRACK).fields.text("RAck").as_deref(), Some("8 1 INVITE"));
    assert!(is_progress(&world.event(), 180, "bob", None));
    world.hears(peer.success(&invite, Some(sdp(2999))));
    assert!(answered(&world.event(), "bob", None));
}

#[test]
fn prack_by_setting() {
    let mut world = World::new(CallSettings { prack: Prack::Off, ..CallSettings::default() });
    let (invite, peer) = world.calls_with_offer();
    assert_eq!(invite.fields.tokens("Supported"), ["timer", "replaces"]);
    world.hears(peer.reliable(&invite, 183, 7, Some(sdp(2000))));
    world.is_silent();
    let mut world = World::new(CallSettings { prack: Prack::Required, ..CallSettings::default() });
    let (invite, _) = world.calls_with_offer();
    assert!(invite.fields.has_token("Require", "100rel"));
}

#[test]
fn forks_ring_and_a_third_answers() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    let (left, right, third) = (peer.fork("left"), peer.fork("right"), peer.fork("third"));
    world.hears(left.with_description(left.response(&invite, 183), Some(sdp(2000))));
    world.hears(right.with_description(right.response(&invite, 183), Some(sdp(3000))));
    world.hears(third.success(&invite, Some(sdp(4000))));
    world.event();
    assert!(is_progress(&world.event(), 183, "left", Some(&sdp(2000))));
    assert!(is_progress(&world.event(), 183, "right", Some(&sdp(3000))));
    assert!(answered(&world.event(), "third", Some(&sdp(4000))));
    world.no_event();
    assert_eq!(world.says(Method::ACK).head.to_tag(), Some("third"));
    // A straggling 18x is of no interest any more.
    world.hears(left.response(&invite, 180));
    world.no_event();
    world.is_silent();
}

#[test]
fn two_answers_are_both_acknowledged_and_the_later_is_hung_up() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    let (first, second) = (peer.fork("first"), peer.fork("second"));
    world.hears(first.success(&invite, Some(sdp(2000))));
    world.hears(second.success(&invite, Some(sdp(3000))));
    assert_eq!(world.says(Method::ACK).head.to_tag(), Some("first"));
    assert_eq!(world.says(Method::ACK).head.to_tag(), Some("second"));
    let bye = world.says(Method::BYE);
    assert_eq!(
        (bye.head.to_tag(), bye.uri.to_string().as_str()),
        (Some("second"), "sip:second@198.51.100.1:5060")
    );
    world.hears(second.response(&bye, 200));
    assert!(answered(&world.event(), "first", Some(&sdp(2000))));
    world.no_event();
    // The second's 200 again: ACK only.
    world.hears(second.success(&invite, Some(sdp(3000))));
    assert_eq!(world.says(Method::ACK).head.to_tag(), Some("second"));
    world.is_silent();
}

#[test]
fn cancel_waits_for_the_first_provisional_answer() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.does(|ua, now, call| ua.hang_up(now, call, Some(Reason::sip(487, "Gone")))).unwrap();
    let ended = world.ended();
    assert_eq!((ended.ending, ended.by), (Ending::Cancelled, Side::Local));
    world.is_silent();
    world.hears(peer.response(&invite, 180));
    let cancel = world.says(Method::CANCEL);
    assert!(cancel.fields.text("Reason").unwrap().starts_with("SIP;cause=487"));
    world.hears(Response::to(&cancel, 200));
    world.hears(peer.response(&invite, 487));
    world.says(Method::ACK);
    world.no_event();
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    world.hears(peer.response(&invite, 180));
    world.events.clear();
    world.hangs_up();
    let cancel = world.says(Method::CANCEL);
    world.hears(peer.success(&invite, Some(sdp(2000))));
    world.says(Method::ACK);
    let bye = world.says(Method::BYE);
    world.hears(Response::to(&cancel, 481));
    world.hears(peer.response(&bye, 200));
    assert_eq!(world.ended().ending, Ending::Cancelled);
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn a_refusal_tells_why() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    let mut busy = peer.response(&invite, 486);
    busy.fields.push("Reason", "Q.850;cause=17;text=\"busy\"");
    busy.fields.push("Retry-After", "60 (in a meeting)");
    busy.fields.push("Warning", "399 pbx \"later\"");
    world.hears(busy);
    world.says(Method::ACK);
    let ended = world.ended();
    assert_eq!((ended.ending, ended.status, ended.retry_after_s), (Ending::Rejected, Some(486), Some(60)));
    assert_eq!(ended.reasons, [Reason::q850(17, "busy")]);
    assert_eq!(ended.warning.as_deref(), Some("399 pbx \"later\""));
    world.seconds(40);
    world.forgot_everything();
}

#[test]
fn a_redirection_reports_where_to() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    let mut moved = peer.response(&invite, 302);
    moved.fields.push("Contact", "<sip:second@x>;q=0.2, <sip:first@x>;q=0.9");
    world.hears(moved);
    let ended = world.ended();
    let targets: Vec<_> = ended.contacts.iter().map(|contact| contact.uri.to_string()).collect();
    assert_eq!(
        (ended.status, targets),
        (Some(302), vec!["sip:first@x".to_owned(), "sip:second@x".to_owned()])
    );
}

#[test]
fn nobody_answers() {
    let mut world = World::plain();
    world.calls_with_offer();
    world.seconds(40);
    let ended = world.ended();
    assert_eq!((ended.ending, ended.status), (Ending::NoResponse, Some(408)));
    world.forgot_everything();
}

#[test]
fn a_longer_session_interval_is_asked_for_in_the_same_call() {
    let mut world = World::new(CallSettings {
        session_expires: std::time::Duration::from_secs(600),
        ..CallSettings::default()
    });
    let (invite, peer) = world.calls_with_offer();
    assert_eq!(invite.fields.text("Session-Expires").as_deref(), Some("600"));
    let mut brief = peer.response(&invite, 422);
    brief.fields.push("Min-SE", "1800");
    world.hears(brief.clone());
    world.says(Method::ACK);
    let again = world.says(Method::INVITE);
    assert_eq!(again.head.call_id, invite.head.call_id);
    assert_eq!(again.head.from_tag(), invite.head.from_tag());
    assert_eq!((again.head.cseq.number, again.head.to_tag()), (2, None));
    assert_eq!(again.fields.text("Session-Expires").as_deref(), Some("1800"));
    assert_eq!(again.fields.text("Min-SE").as_deref(), Some("1800"));
    assert_eq!(again.body, sdp(1000));
    world.no_event();
    // The same demand again is no progress: the call fails instead of turning in circles.
    let mut brief = peer.response(&again, 422);
    brief.fields.push("Min-SE", "1800");
    world.hears(brief);
    assert_eq!(world.ended().status, Some(422));
}

#[test]
fn an_invite_without_offer_takes_theirs_from_the_2xx() {
    let mut world = World::plain();
    let (invite, peer) = world.calls(InviteOptions::default());
    assert!(invite.body.is_empty());
    world.hears(peer.success(&invite, Some(sdp(2000))));
    world.hears(peer.success(&invite, Some(sdp(2000))));
    world.is_silent();
    match world.event() {
        CallEvent::Answered { sdp: Some(Description::Offer(offer)), .. } => assert_eq!(offer, sdp(2000)),
        other => panic!("{other:?}"),
    }
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1000)))).unwrap();
    assert_eq!(world.says(Method::ACK).body, sdp(1000));
    world.hears(peer.success(&invite, Some(sdp(2000))));
    assert_eq!(world.says(Method::ACK).body, sdp(1000));
}

#[test]
fn an_invite_without_offer_answers_in_prack() {
    let mut world = World::plain();
    let (invite, peer) = world.calls(InviteOptions::default());
    world.hears(peer.reliable(&invite, 183, 1, Some(sdp(2000))));
    world.is_silent();
    world.event();
    assert!(matches!(world.event(), CallEvent::Progress { sdp: Some(Description::Offer(_)), .. }));
    world.does(|ua, now, call| ua.reply_offer(now, call, Ok(sdp(1000)))).unwrap();
    assert_eq!(world.says(Method::PRACK).body, sdp(1000));
    world.hears(peer.success(&invite, None));
    assert!(answered(&world.event(), "bob", None));
    assert!(world.says(Method::ACK).body.is_empty());
}

#[test]
fn an_offer_in_the_2xx_that_can_not_be_taken_ends_the_call() {
    let mut world = World::plain();
    let (invite, peer) = world.calls(InviteOptions::default());
    world.hears(peer.success(&invite, Some(sdp(2000))));
    world.event();
    world.does(|ua, now, call| ua.reply_offer(now, call, Err(488))).unwrap();
    world.says(Method::ACK);
    world.says(Method::BYE);
    assert_eq!(world.ended().ending, Ending::NoSession);
}

#[test]
fn who_calls_may_be_another_or_hidden() {
    let mut world = World::plain();
    let identity = NameAddr::new(uri("sip:+4930100@pbx")).with_display(Some("Shop"));
    let options = InviteOptions { identity: Some(identity), offer: Some(sdp(1)), ..InviteOptions::default() };
    let (invite, _) = world.calls(options);
    assert_eq!(invite.fields.text("P-Preferred-Identity").as_deref(), Some("\"Shop\" <sip:+4930100@pbx>"));
    assert_eq!(invite.fields.text("P-Asserted-Identity").as_deref(), Some("\"Shop\" <sip:+4930100@pbx>"));
    assert!(invite.fields.text("Remote-Party-ID").unwrap().ends_with(";party=calling;screen=no;privacy=off"));
    let (invite, _) =
        world.calls(InviteOptions { anonymous: true, offer: Some(sdp(1)), ..InviteOptions::default() });
    assert_eq!(invite.head.from.uri.to_string(), "sip:anonymous@anonymous.invalid");
    assert_eq!(invite.fields.text("Privacy").as_deref(), Some("id"));
    assert!(invite.fields.text("P-Preferred-Identity").unwrap().contains("sip:alice@198.51.100.1"));
    assert!(!invite.fields.has("P-Asserted-Identity"));
}

#[test]
fn a_bye_in_an_early_dialog_leaves_the_other_forks() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    let (mut left, right) = (peer.fork("left"), peer.fork("right"));
    world.hears(left.response(&invite, 180));
    world.hears(left.request(Method::BYE, None));
    world.replies(200);
    world.events.clear();
    world.hears(right.success(&invite, Some(sdp(2000))));
    assert!(answered(&world.event(), "right", Some(&sdp(2000))));
}

#[test]
fn too_many_forks_are_bounded() {
    let mut world = World::plain();
    let (invite, peer) = world.calls_with_offer();
    for number in 0..200 {
        let fork: Peer = peer.fork(&format!("fork{number}"));
        world.hears(fork.response(&invite, 180));
    }
    assert_eq!(world.ua.calls.values().map(|call| call.legs.len()).sum::<usize>(), super::super::MAX_LEGS);
}

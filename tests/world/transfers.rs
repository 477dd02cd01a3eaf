//! Calls that are given away (RFC 3515, 3891, 5589), towards a PBX that is played word by word.

use tipring::events::store::Write;
use tipring::events::{Kind, Number, Side, Transfer, TransferWay};
use tipring::phone::command::{Command, Destination};
use tipring::sip::message::{Message, Request};
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, audio};
use crate::world::{HANG_UP, call};

fn to(target: &str) -> Command {
    Command::Transfer { call: None, to: Destination::Target(target.to_owned()) }
}

/// The phone in a call that it has asked the peer to take elsewhere; the peer has accepted.
fn transferring() -> (Script, Peer, Request) {
    let mut script = Script::new("", "");
    let peer = script.answered();
    script.world.tell(0, to("102"));
    let refer = script.says(Method::REFER);
    script.hears(peer.response(&refer, 202, None));
    (script, peer, refer)
}

/// A piece of a response, as the peer tells it.
fn notify(peer: &mut Peer, event: &str, state: &str, told: &str) -> Request {
    let mut notify = peer.request(Method::NOTIFY, None);
    notify.fields.push("Event", event);
    notify.fields.push("Subscription-State", state);
    notify.set_body("message/sipfrag;version=2.0", told);
    notify
}

/// The phone answers 200 and ends the call, in whichever order the network brings both.
#[track_caller]
fn takes_and_ends(script: &mut Script) -> Request {
    script.millis(100);
    let is_ok = |message: &Message| matches!(message, Message::Response(response) if response.status == 200);
    let ok = script.sip.iter().position(|(_, message)| is_ok(message)).expect("a 200");
    script.sip.remove(ok);
    script.says(Method::BYE)
}

/// How the only call ended, in words.
fn ended(script: &Script) -> String {
    match script.phone().all("call.ended")[..] {
        [Kind::CallEnded { cause, .. }] => cause.text.clone().unwrap_or_default(),
        ref others => panic!("{others:?}"),
    }
}

/// Who was given to whom, as the journal says once it is over.
fn given_to(script: &Script) -> Vec<(String, String)> {
    let number = |number: &Option<Number>| number.as_ref().map(|it| it.dialled.clone());
    let over = script.phone().kept.iter().filter_map(|write| match write {
        Write::Call(entry) if entry.result.is_some() => Some(entry),
        _ => None,
    });
    over.filter_map(|entry| Some((number(&entry.leg.remote().number)?, number(&entry.transferred_to)?)))
        .collect()
}

#[test]
fn a_transfer_that_was_challenged_is_told_by_the_number_that_was_accepted() {
    // A notification may overtake the answer to the REFER (RFC 3515 §2.4.4).
    for accepted_first in [true, false] {
        let mut script = Script::new("", "");
        let mut peer = script.answered();
        script.world.tell(0, to("102"));
        let refer = script.says(Method::REFER);
        let mut refusal = peer.response(&refer, 407, None);
        let challenge = "Digest realm=\"pbx.example\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
        refusal.fields.push("Proxy-Authenticate", challenge);
        script.hears(refusal);
        let again = script.says(Method::REFER);
        assert_ne!(again.head.cseq.number, refer.head.cseq.number);
        let event = format!("refer;id={}", again.head.cseq.number);
        if accepted_first {
            script.hears(peer.response(&again, 202, None));
        }
        script.hears(notify(&mut peer, &event, "active;expires=60", "SIP/2.0 100 Trying"));
        script.replies(200);
        if !accepted_first {
            script.hears(peer.response(&again, 202, None));
        }
        // The one that was refused made no subscription.
        let refused = format!("refer;id={}", refer.head.cseq.number);
        script.hears(notify(&mut peer, &refused, "terminated", "SIP/2.0 486 Busy Here"));
        script.replies(481);
        script.hears(notify(&mut peer, &event, "terminated;reason=noresource", "SIP/2.0 200 OK"));
        takes_and_ends(&mut script);
        assert!(script.phone().has("call.transferred") && !script.phone().has("call.transfer_failed"));
    }
}

#[test]
fn a_call_is_given_away_and_ends_here_once_the_target_has_it() {
    let (mut script, mut peer, refer) = transferring();
    assert_eq!(refer.fields.text("Refer-To").as_deref(), Some("<sip:102@pbx.example>"));
    assert_eq!(refer.fields.text("Referred-By").as_deref(), Some("<sip:1001@pbx.example>"));
    assert_eq!(script.world.calls(0)[0].transfer.as_deref(), Some("102"));
    script.hears(notify(&mut peer, "refer", "active;expires=60", "SIP/2.0 100 Trying"));
    script.replies(200);
    script.hears(notify(&mut peer, "refer", "active;expires=50", "SIP/2.0 180 Ringing\r\n"));
    script.replies(200);
    script.seconds(20);
    assert!(!script.phone().has("call.transferred"), "the target rings");
    let id = refer.head.cseq.number;
    let last = format!("refer;id={id}");
    script.hears(notify(&mut peer, &last, "terminated;reason=noresource", "SIP/2.0 200 OK\r\n"));
    let bye = takes_and_ends(&mut script);
    script.hears(peer.response(&bye, 200, None));
    script.seconds(1);
    match script.phone().all("call.transferred")[..] {
        [
            Kind::CallTransferred {
                transfer: Transfer { way: TransferWay::Blind, target, with: None },
                leg,
                by: Side::Local,
                next_leg: None,
            },
        ] => {
            assert_eq!(target.number.as_ref().map(|number| number.dialled.as_str()), Some("102"));
            assert_eq!(leg.line, "office");
        }
        ref others => panic!("{others:?}"),
    }
    assert_eq!(ended(&script), "transferred to 102");
    assert_eq!(given_to(&script), [("2000".to_owned(), "102".to_owned())]);
    script.is_silent();
}

#[test]
fn a_target_that_does_not_take_the_call_leaves_it_here() {
    for (state, told, status) in [
        ("terminated;reason=noresource", "SIP/2.0 486 Busy Here\r\n", Some(486)),
        ("active", "SIP/2.0 603 Decline", Some(603)),
        // It tells no more, and nothing good was told.
        ("terminated;reason=timeout", "SIP/2.0 180 Ringing", Some(180)),
        ("terminated;reason=giveup", "", None),
    ] {
        let (mut script, mut peer, _) = transferring();
        script.hears(notify(&mut peer, "refer", state, told));
        script.replies(200);
        match script.phone().all("call.transfer_failed")[..] {
            [Kind::TransferFailed { cause, .. }] => assert_eq!(cause.status, status, "{told}"),
            ref others => panic!("{told}: {others:?}"),
        }
        // What comes late is taken, and nothing more is told of it.
        script.hears(notify(&mut peer, "refer", "terminated", "SIP/2.0 200 OK"));
        script.replies(200);
        let view = &script.world.calls(0)[0];
        assert_eq!((view.state, view.transfer.as_deref()), ("active", None));
        assert!(!script.phone().has("call.transferred"));
        // It can be tried again.
        script.world.tell(0, to("103"));
        script.says(Method::REFER);
    }
}

#[test]
fn a_pbx_that_ends_the_call_has_taken_it() {
    let (mut script, mut peer, _) = transferring();
    script.hears(peer.request(Method::BYE, None));
    script.replies(200);
    script.seconds(1);
    assert_eq!(script.phone().all("call.transferred").len(), 1);
    assert_eq!(ended(&script), "transferred to 102");
    // One that tells how it goes would have told that, too: somebody hung up while the target rang.
    let (mut script, mut peer, _) = transferring();
    script.hears(notify(&mut peer, "refer", "active", "SIP/2.0 180 Ringing"));
    script.replies(200);
    script.hears(peer.request(Method::BYE, None));
    script.replies(200);
    script.seconds(1);
    assert!(script.phone().has("call.transfer_failed") && !script.phone().has("call.transferred"));
}

#[test]
fn what_nobody_tells_anything_of_has_failed() {
    // Silence after it was accepted; the far end says nothing either, which does not count here.
    let mut script = Script::new("", "[rtp]\ntimeout = \"0s\"\n");
    let peer = script.answered();
    script.world.tell(0, to("102"));
    let refer = script.says(Method::REFER);
    script.hears(peer.response(&refer, 202, None));
    script.seconds(179);
    assert!(!script.phone().has("call.transfer_failed"));
    script.seconds(2);
    assert!(script.phone().has("call.transfer_failed"));
    assert_eq!(script.world.calls(0)[0].state, "active");
    // Hung up before.
    let (mut script, peer, _) = transferring();
    script.world.tell(0, HANG_UP);
    let bye = script.says(Method::BYE);
    script.hears(peer.response(&bye, 200, None));
    script.seconds(1);
    assert!(script.phone().has("call.transfer_failed") && !script.phone().has("call.transferred"));
    assert_eq!(ended(&script), "hung up here");
    // Ended by the peer before it accepted.
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    script.world.tell(0, to("102"));
    script.says(Method::REFER);
    script.hears(peer.request(Method::BYE, None));
    script.replies(200);
    script.seconds(1);
    assert!(script.phone().has("call.transfer_failed") && !script.phone().has("call.transferred"));
}

#[test]
fn a_pbx_that_transfers_nothing_says_so_at_once() {
    let mut script = Script::new("", "");
    let peer = script.answered();
    script.world.tell(0, to("102"));
    assert_eq!(script.world.refusal(0, to("103")).code, "not_now");
    let refer = script.says(Method::REFER);
    script.hears(peer.response(&refer, 405, None));
    match script.phone().all("call.transfer_failed")[..] {
        [Kind::TransferFailed { cause, .. }] => assert_eq!(cause.status, Some(405)),
        ref others => panic!("{others:?}"),
    }
    assert_eq!(script.world.calls(0)[0].state, "active");
}

#[test]
fn the_far_end_of_one_call_gets_that_of_the_other() {
    let mut script = Script::new("max_calls = 2", "");
    let mut first = script.answered();
    let held = script.world.calls(0)[0].id.clone();
    script.world.tell(0, Command::Hold { call: None });
    let hold = script.says(Method::INVITE);
    script.hears(first.response(&hold, 200, Some(audio(MEDIA, "RTP/AVP 8", &["a=recvonly"]))));
    script.says(Method::ACK);
    let asked = script.world.tell(0, call("2001")).expect("a call").id;
    let invite = script.says(Method::INVITE);
    let mut second = Peer::answering(&invite, "carol");
    second.contact = "<sip:carol@198.51.100.1:5060;transport=udp>".to_owned();
    script.hears(second.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
    script.says(Method::ACK);
    let give = |call: &str, to: &str| Command::Transfer {
        call: Some(call.to_owned()),
        to: Destination::Call(to.to_owned()),
    };
    assert_eq!(script.world.refusal(0, give(&held, &held)).code, "wrong_state");
    assert_eq!(script.world.refusal(0, give(&held, "nobody")).code, "no_such_call");
    script.world.tell(0, give(&held, &asked));
    let refer = script.says(Method::REFER);
    let (call_id, ours) = (&invite.head.call_id, invite.head.from_tag().expect("a tag"));
    let escaped = format!("{call_id}%3Bto-tag%3Dcarol%3Bfrom-tag%3D{ours}");
    let target = format!("<sip:carol@198.51.100.1:5060;transport=udp?Replaces={escaped}>");
    assert_eq!(refer.fields.text("Refer-To"), Some(target.into()));
    script.hears(first.response(&refer, 202, None));
    // The other call is taken over before that is told.
    script.hears(second.request(Method::BYE, None));
    script.replies(200);
    script.hears(notify(&mut first, "refer", "terminated;reason=noresource", "SIP/2.0 200 OK"));
    let bye = takes_and_ends(&mut script);
    script.hears(first.response(&bye, 200, None));
    script.seconds(1);
    match script.phone().all("call.transferred")[..] {
        [
            Kind::CallTransferred {
                transfer: Transfer { way: TransferWay::Attended, target, with: Some(with) },
                ..
            },
        ] => {
            assert_eq!(target.number.as_ref().map(|number| number.dialled.as_str()), Some("2001"));
            assert_eq!(*with, asked);
        }
        ref others => panic!("{others:?}"),
    }
    let causes: Vec<_> = script
        .phone()
        .all("call.ended")
        .into_iter()
        .map(|kind| match kind {
            Kind::CallEnded { cause, .. } => cause.text.clone().unwrap_or_default(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(causes, ["joined with another call", "transferred to 2001"]);
    let each_other = [("2001", "2000"), ("2000", "2001")].map(|(one, to)| (one.to_owned(), to.to_owned()));
    assert_eq!(given_to(&script), each_other);
}

#[test]
fn no_transfer_escapes_the_limits_nor_begins_out_of_nothing() {
    let mut script = Script::new("", "[limits]\ndeny = [\"+900*\"]\ncalls_per_minute = 2\n");
    assert_eq!(script.world.refusal(0, to("102")).code, "no_call");
    let (_, peer) = script.calls();
    assert_eq!(script.world.refusal(0, to("102")).code, "no_call", "it is not answered yet");
    drop(peer);
    let mut script = Script::new("", "[limits]\ndeny = [\"900*\"]\ncalls_per_minute = 2\n");
    let mut peer = script.answered();
    for (target, code) in [("900123", "refused"), ("", "wrong_target"), ("1\r\nX: y", "wrong_target")] {
        assert_eq!(script.world.refusal(0, to(target)).code, code, "{target:?}");
    }
    script.is_silent();
    assert!(script.phone().has("call.refused"));
    script.world.tell(0, to("102"));
    let refer = script.says(Method::REFER);
    script.hears(peer.response(&refer, 202, None));
    script.hears(notify(&mut peer, "refer", "terminated", "SIP/2.0 404 Not Found"));
    script.replies(200);
    assert_eq!(script.world.refusal(0, to("103")).code, "refused", "a transfer counts like a call");
}

#[test]
fn notifications_that_nobody_asked_for_are_refused() {
    let mut script = Script::new("", "");
    let mut peer = script.answered();
    script.hears(notify(&mut peer, "refer", "terminated", "SIP/2.0 200 OK"));
    script.replies(481);
    let (mut script, mut peer, refer) = transferring();
    let other = format!("refer;id={}", refer.head.cseq.number + 1);
    script.hears(notify(&mut peer, &other, "terminated", "SIP/2.0 200 OK"));
    script.replies(481);
    script.hears(notify(&mut peer, "refer", "active", "GET / HTTP/1.1"));
    script.replies(200);
    assert!(!script.phone().has("call.transferred") && !script.phone().has("call.transfer_failed"));
}

//! Calls that are given away by others: the far end asks this phone to call somebody else (REFER).

use tipring::events::{CallResult, Follows, Kind, Origin, Side, Transfer, TransferWay};
use tipring::phone::command::Command;
use tipring::sip::message::{Message, Request, Response};
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, Voice, audio};
use crate::world::HANG_UP;

fn a_law() -> Option<String> {
    Some(audio(MEDIA, "RTP/AVP 8", &[]))
}

fn refer(peer: &mut Peer, to: &str, fields: &[(&str, &str)]) -> Request {
    let mut refer = peer.request(Method::REFER, None);
    refer.fields.push("Refer-To", to);
    fields.iter().for_each(|(name, value)| refer.fields.push(name, *value));
    refer
}

/// The first of what the phone has said that fits: what it says at one moment comes in any order.
fn take<T>(script: &mut Script, fits: impl Fn(&Message) -> Option<T>) -> Option<T> {
    script.millis(100);
    let at = script.sip.iter().position(|(_, message)| fits(message).is_some())?;
    script.sip.remove(at).and_then(|(_, message)| fits(&message))
}

/// The phone says this within a moment, whatever else it says then.
#[track_caller]
pub fn says(script: &mut Script, method: Method) -> Request {
    let is_it = |message: &Message| match message {
        Message::Request(request) if request.method == method => Some(request.clone()),
        _ => None,
    };
    take(script, is_it).unwrap_or_else(|| panic!("{method} expected, not {:?}", script.sip))
}

/// The same of an answer.
#[track_caller]
pub fn replies(script: &mut Script, status: u16) -> Response {
    let is_it = |message: &Message| match message {
        Message::Response(response) if response.status == status => Some(response.clone()),
        _ => None,
    };
    take(script, is_it).unwrap_or_else(|| panic!("{status} expected, not {:?}", script.sip))
}

/// The phone tells the far end how it goes: status and state, and is thanked.
#[track_caller]
fn told(script: &mut Script, peer: &Peer) -> (String, String) {
    let notify = says(script, Method::NOTIFY);
    assert_eq!(notify.fields.text("Content-Type").as_deref(), Some("message/sipfrag;version=2.0"));
    script.hears(peer.response(&notify, 200, None));
    let state = notify.fields.text("Subscription-State").unwrap_or_default().into_owned();
    (String::from_utf8_lossy(&notify.body).trim_end().to_owned(), state)
}

fn pair(piece: &str, state: &str) -> (String, String) {
    (piece.to_owned(), state.to_owned())
}

const ACTIVE: &str = "active;expires=180";
const OVER: &str = "terminated;reason=noresource";

/// A phone that talks with bob, who gives it away to 603; its INVITE to that.
fn given_away(fields: &[(&str, &str)]) -> (Script, Peer, Request) {
    let mut script = Script::new("", "");
    let mut bob = script.answered();
    let asked = refer(&mut bob, "<sip:603@pbx.example>", fields);
    script.hears(asked);
    let invite = says(&mut script, Method::INVITE);
    (script, bob, invite)
}

/// Which leg it is, or how many there were, and what became of it.
pub type End<T> = (T, CallResult);

/// How each leg ended, and the whole.
pub fn ends(script: &Script) -> (Vec<End<String>>, Vec<End<u32>>) {
    let legs = script.phone().all("call.ended").into_iter().map(|kind| match kind {
        Kind::CallEnded { leg, result, .. } => {
            (leg.leg_id.rsplit('-').next().expect("a number").to_owned(), *result)
        }
        other => panic!("{other:?}"),
    });
    let wholes = script.phone().all("call.closed").into_iter().map(|kind| match kind {
        Kind::CallClosed { legs, result, .. } => (*legs, *result),
        other => panic!("{other:?}"),
    });
    (legs.collect(), wholes.collect())
}

#[test]
fn whoever_is_given_away_calls_the_target_and_says_how_it_goes() {
    let (mut script, mut bob, invite) = given_away(&[("Referred-By", "<sip:bob@pbx.example>")]);
    assert_eq!(invite.uri.to_string(), "sip:603@pbx.example");
    assert_eq!(invite.fields.text("Referred-By").as_deref(), Some("<sip:bob@pbx.example>"));
    replies(&mut script, 202);
    assert_eq!(told(&mut script, &bob), pair("SIP/2.0 100 Trying", ACTIVE));
    let mut carol = Peer::answering(&invite, "carol");
    script.hears(carol.response(&invite, 180, None));
    assert_eq!(told(&mut script, &bob), pair("SIP/2.0 180 Ringing", ACTIVE));
    assert!(!script.phone().has("call.transferred"));
    script.hears(carol.response(&invite, 200, a_law()));
    says(&mut script, Method::ACK);
    assert_eq!(told(&mut script, &bob), pair("SIP/2.0 200 OK", OVER));
    script.seconds(2);
    script.hears(bob.request(Method::BYE, None));
    replies(&mut script, 200);
    script.seconds(10);
    script.hears(carol.request(Method::BYE, None));
    replies(&mut script, 200);
    script.seconds(1);
    let new: Vec<_> = script.phone().all("call.new").into_iter().collect();
    let [Kind::CallNew { leg: first, .. }, Kind::CallNew { leg: second, origin: Origin::Refer }] = new[..]
    else {
        panic!("{new:?}")
    };
    match script.phone().all("call.transferred")[..] {
        [Kind::CallTransferred { leg, transfer, by: Side::Remote, next_leg: Some(next) }] => {
            assert_eq!((&leg.leg_id, next), (&first.leg_id, &second.leg_id));
            let Transfer { way: TransferWay::Blind, target, with: None } = transfer else {
                panic!("{transfer:?}")
            };
            assert_eq!(target.number.as_ref().map(|number| number.dialled.as_str()), Some("603"));
        }
        ref others => panic!("{others:?}"),
    }
    let follows = Follows { leg_id: first.leg_id.clone(), way: TransferWay::Blind };
    assert_eq!((first.follows.as_deref(), second.follows.as_deref()), (None, Some(&follows)));
    let last = script.phone().all("call.ended").pop().and_then(Kind::leg).expect("a leg");
    assert_eq!(last.follows.as_deref(), Some(&follows), "each event of it says so");
    use CallResult::Answered;
    let legs = vec![("1".to_owned(), Answered), ("2".to_owned(), Answered)];
    assert_eq!(ends(&script), (legs, vec![(2, Answered)]));
    match script.phone().all("call.closed")[..] {
        [Kind::CallClosed { total_us, talk_us, called, .. }] => {
            assert_eq!(called.number.as_ref().map(|number| number.dialled.as_str()), Some("2000"));
            assert!(*talk_us > 12_000_000 && talk_us <= total_us && *total_us < 14_000_000, "{talk_us}");
        }
        ref others => panic!("{others:?}"),
    }
}

#[test]
fn a_far_end_that_does_not_hang_up_is_hung_up() {
    let (mut script, bob, invite) = given_away(&[]);
    replies(&mut script, 202);
    told(&mut script, &bob);
    let carol = Peer::answering(&invite, "carol");
    script.hears(carol.response(&invite, 200, a_law()));
    says(&mut script, Method::ACK);
    told(&mut script, &bob);
    let bye = script.awaits(Method::BYE, 6_000);
    script.hears(bob.response(&bye, 200, None));
    script.seconds(1);
    assert_eq!(script.world.calls(0).len(), 1);
    script.world.tell(0, HANG_UP);
    let bye = says(&mut script, Method::BYE);
    assert_eq!(bye.head.to_tag(), Some("carol"));
}

#[test]
fn hanging_up_while_it_rings_at_whom_we_were_sent_to_ends_both() {
    let (mut script, bob, invite) = given_away(&[]);
    replies(&mut script, 202);
    told(&mut script, &bob);
    let carol = Peer::answering(&invite, "carol");
    script.hears(carol.response(&invite, 180, None));
    script.millis(100);
    script.world.tell(0, HANG_UP);
    says(&mut script, Method::CANCEL);
    let bye = says(&mut script, Method::BYE);
    assert_eq!(bye.head.to_tag(), bob.local.tag());
}

/// Muted before or while it rings there: whoever comes does not hear the room.
#[test]
fn whoever_is_muted_stays_so_for_whom_we_are_sent_to() {
    for early in [true, false] {
        let mut script = Script::new("", "");
        let mut bob = script.answered();
        let mute = Command::Mute { call: None, on: true };
        if early {
            script.world.tell(0, mute.clone());
        }
        let asked = refer(&mut bob, "<sip:603@pbx.example>", &[]);
        script.hears(asked);
        let invite = says(&mut script, Method::INVITE);
        if !early {
            script.world.tell(0, mute);
        }
        let carol = Peer::answering(&invite, "carol");
        script.hears(carol.response(&invite, 200, a_law()));
        says(&mut script, Method::ACK);
        script.hears(bob.request(Method::BYE, None));
        script.millis(200);
        let calls = script.world.calls(0);
        assert_eq!((calls.len(), calls[0].muted), (1, true), "early {early}: {calls:?}");
    }
}

/// A call that is given away is the same call: it does not last longer for it.
#[test]
fn the_longest_call_is_not_longer_for_being_given_away() {
    let mut script = Script::new("", "[limits]\nmax_duration = \"60s\"\n");
    let mut bob = script.answered();
    script.seconds(40);
    let asked = refer(&mut bob, "<sip:603@pbx.example>", &[]);
    script.hears(asked);
    let invite = says(&mut script, Method::INVITE);
    let carol = Peer::answering(&invite, "carol");
    script.hears(carol.response(&invite, 200, a_law()));
    says(&mut script, Method::ACK);
    script.hears(bob.request(Method::BYE, None));
    script.seconds(10);
    assert_eq!(script.world.calls(0).len(), 1);
    script.seconds(15);
    let bye = says(&mut script, Method::BYE);
    assert_eq!(bye.head.to_tag(), carol.local.tag());
}

#[test]
fn help_that_a_call_is_given_to_lasts_as_long_as_it_takes() {
    let mut script = Script::new("", "[limits]\nmax_duration = \"60s\"\n");
    let mut bob = script.answered();
    script.seconds(40);
    let asked = refer(&mut bob, "<sip:112@pbx.example>", &[]);
    script.hears(asked);
    let invite = says(&mut script, Method::INVITE);
    let help = Peer::answering(&invite, "help");
    script.hears(help.response(&invite, 200, a_law()));
    says(&mut script, Method::ACK);
    script.hears(bob.request(Method::BYE, None));
    let mut voice = Voice::new(MEDIA, 1);
    script.port = 10_004;
    script.talk(100_000, &mut [&mut voice]);
    let calls = script.world.calls(0);
    assert_eq!((calls.len(), calls[0].state), (1, "active"));
    assert_eq!(script.phone().all("call.emergency").len(), 1);
}

#[test]
fn a_target_that_does_not_come_leaves_the_call_where_it_was() {
    let (mut script, mut bob, invite) = given_away(&[]);
    replies(&mut script, 202);
    told(&mut script, &bob);
    script.hears(Peer::answering(&invite, "carol").response(&invite, 486, None));
    says(&mut script, Method::ACK);
    assert_eq!(told(&mut script, &bob), pair("SIP/2.0 486 Busy Here", OVER));
    script.seconds(1);
    match script.phone().all("call.transfer_failed")[..] {
        [Kind::TransferFailed { cause, .. }] => assert_eq!(cause.status, Some(486)),
        ref others => panic!("{others:?}"),
    }
    assert_eq!(script.world.calls(0)[0].number, "2000");
    // The next subscription of the dialog has a name of its own (RFC 3515 §2.4.6).
    let asked = refer(&mut bob, "<sip:604@pbx.example>", &[("Refer-Sub", "true")]);
    let number = asked.head.cseq.number;
    script.hears(asked);
    says(&mut script, Method::INVITE);
    replies(&mut script, 202);
    let notify = says(&mut script, Method::NOTIFY);
    assert_eq!(notify.fields.text("Event"), Some(format!("refer;id={number}").into()));
    script.hears(bob.response(&notify, 200, None));
    // The far end has gone meanwhile: it gave us away, and the new leg goes on.
    script.hears(bob.request(Method::BYE, None));
    replies(&mut script, 200);
    script.seconds(1);
    assert!(script.phone().has("call.transferred"));
    assert_eq!(script.world.calls(0)[0].number, "604");
}

#[test]
fn who_wants_to_hear_nothing_is_told_nothing() {
    let (mut script, _, invite) = given_away(&[("Refer-Sub", "false"), ("Require", "norefersub")]);
    let accepted = replies(&mut script, 202);
    assert_eq!(accepted.fields.text("Refer-Sub").as_deref(), Some("false"));
    let carol = Peer::answering(&invite, "carol");
    script.hears(carol.response(&invite, 200, a_law()));
    says(&mut script, Method::ACK);
    script.is_silent();
}

#[test]
fn an_attended_transfer_takes_over_the_call_that_is_named_and_nothing_more() {
    let mut script = Script::new("", "");
    let mut bob = script.answered();
    let to = "<sip:603@pbx.example;method=INVITE?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&X-Evil=1%0D%0AX-More:2&body=x>";
    let asked = refer(&mut bob, to, &[]);
    script.hears(asked);
    let invite = says(&mut script, Method::INVITE);
    assert_eq!(invite.uri.to_string(), "sip:603@pbx.example");
    assert_eq!(invite.fields.text("Replaces").as_deref(), Some("a@b;to-tag=1;from-tag=2"));
    assert!(!invite.fields.has("X-Evil") && !invite.fields.has("X-More"));
    let follows =
        script.phone().all("call.new").pop().and_then(Kind::leg).and_then(|leg| leg.follows.clone());
    assert_eq!(follows.map(|follows| follows.way), Some(TransferWay::Attended));
    replies(&mut script, 202);
}

#[test]
fn nobody_is_sent_where_the_rules_do_not_let_him() {
    let mut script = Script::new("", "[limits]\ndeny = [\"900*\"]\n");
    let mut bob = script.answered();
    for (to, status) in [
        ("<sip:900123@pbx.example>", 603),
        ("<sip:603@pbx.example;method=BYE>", 603),
        ("<mailto:x@example>", 416),
        ("<sip:603@pbx.example?Replaces=nothing>", 400),
        ("nobody", 400),
    ] {
        let asked = refer(&mut bob, to, &[]);
        script.hears(asked);
        replies(&mut script, status);
        script.is_silent();
    }
    match script.phone().all("call.refused")[..] {
        [Kind::CallRefused { rule, origin: Origin::Refer, .. }] => assert_eq!(rule, "limits.deny"),
        ref others => panic!("{others:?}"),
    }
    // Out of any call, before it is answered, a second time, and where the line is not to be given away.
    let mut stranger = Peer::calling("<sip:103@pbx.example>");
    let asked = refer(&mut stranger, "<sip:603@pbx.example>", &[]);
    script.hears(asked);
    replies(&mut script, 603);
    let asked = refer(&mut bob, "<sip:603@pbx.example>", &[]);
    script.hears(asked);
    says(&mut script, Method::INVITE);
    replies(&mut script, 202);
    told(&mut script, &bob);
    let again = refer(&mut bob, "<sip:604@pbx.example>", &[]);
    script.hears(again);
    replies(&mut script, 491);
    let mut script = Script::new("accept_transfer = false", "");
    let mut bob = script.answered();
    let asked = refer(&mut bob, "<sip:603@pbx.example>", &[]);
    script.hears(asked);
    replies(&mut script, 603);
    script.is_silent();
}

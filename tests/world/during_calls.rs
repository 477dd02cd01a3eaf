//! What is done during a call: hold, swap, mute, digits, call waiting.

use tipring::audio::tones::Tone;
use tipring::demo::pbx::Service;
use tipring::events::{Kind, Side};
use tipring::media::Sounder;
use tipring::phone::command::Command;

use crate::world::{ANSWER, HANG_UP, World, call, config};

const HOLD: Command = Command::Hold { call: None };
const RESUME: Command = Command::Resume { call: None };

/// The events of hold on one phone: what, and by whom.
fn holds(world: &World, phone: usize) -> Vec<(&'static str, Side)> {
    let kinds = world.phones[phone].events.iter().filter_map(|recorded| match &recorded.event.kind {
        Kind::CallHeld { by, .. } => Some(("held", *by)),
        Kind::CallResumed { by, .. } => Some(("resumed", *by)),
        _ => None,
    });
    kinds.collect()
}

/// The digits that a phone was sent, and how they came.
fn digits(world: &World, phone: usize) -> Vec<(String, String)> {
    let told = world.phones[phone].all("call.dtmf").into_iter().filter_map(|kind| match kind {
        Kind::CallDtmf { by: Side::Remote, digits: Some(digits), method, .. } => {
            Some((digits.clone(), method.clone()))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_held_call_is_silent_and_comes_back() {
    for holder in 0..2 {
        let mut world = World::with_phones(1, 2);
        world.connect();
        world.tell(holder, HOLD);
        world.millis(500);
        assert_eq!(world.calls(holder)[0].state, "held");
        assert!(world.calls(1 - holder)[0].held_by_peer);
        world.talk(2);
        world.assert_not_heard(0, 1);
        world.assert_not_heard(1, 0);
        world.tell(holder, RESUME);
        world.seconds(1);
        assert_eq!(
            (world.calls(holder)[0].state, world.calls(1 - holder)[0].held_by_peer),
            ("active", false)
        );
        world.talk(3);
        world.assert_heard(0, 1);
        world.assert_heard(1, 0);
        assert_eq!(holds(&world, holder), [("held", Side::Local), ("resumed", Side::Local)]);
        assert_eq!(holds(&world, 1 - holder), [("held", Side::Remote), ("resumed", Side::Remote)]);
        world.tell(0, HANG_UP);
        world.seconds(1);
        let ended = world.phones[0].all("call.ended");
        let [Kind::CallEnded { hold_us, .. }] = ended.as_slice() else { panic!("{ended:?}") };
        assert!((2_400_000..3_000_000).contains(hold_us), "{hold_us}");
    }
}

#[test]
fn both_may_hold_at_once() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    world.tell(0, HOLD);
    world.tell(1, HOLD);
    world.seconds(10);
    assert_eq!((world.calls(0)[0].state, world.calls(1)[0].state), ("held", "held"));
    assert!(world.calls(0)[0].held_by_peer && world.calls(1)[0].held_by_peer);
    world.tell(0, RESUME);
    world.seconds(5);
    assert!(world.calls(0)[0].held_by_peer && !world.calls(1)[0].held_by_peer);
    world.tell(1, RESUME);
    world.seconds(5);
    world.talk(3);
    world.assert_heard(0, 1);
    world.assert_heard(1, 0);
}

#[test]
fn a_second_call_waits_is_taken_and_swapped() {
    let mut world = World::with_phones(1, 3);
    world.connect();
    world.tell(2, call("1001"));
    world.millis(500);
    assert!(world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::CallWaiting))));
    assert!(
        !world.phones[0].tones.contains(&(Sounder::Ringer, Some(Tone::Ring))),
        "nobody rings into an ear"
    );
    let first = world.calls(0)[0].id.clone();
    world.tell(0, ANSWER);
    world.seconds(1);
    assert_eq!(world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>(), ["held", "active"]);
    world.talk(3);
    world.assert_heard(2, 0);
    world.assert_heard(0, 2);
    world.assert_not_heard(0, 1);
    world.assert_not_heard(1, 0);
    world.tell(0, Command::Resume { call: Some(first.clone()) });
    world.seconds(1);
    assert_eq!(world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>(), ["active", "held"]);
    world.talk(3);
    world.assert_heard(1, 0);
    world.assert_heard(0, 1);
    world.assert_not_heard(2, 0);
    world.tell(0, Command::HangUp { call: Some(first) });
    world.seconds(1);
    world.tell(0, RESUME);
    world.seconds(1);
    world.talk(3);
    world.assert_heard(2, 0);
    assert_eq!(world.calls(1).len(), 0);
}

#[test]
fn who_is_answered_late_is_not_put_beside_whom_one_talks_to() {
    let mut world = World::with_phones(1, 3);
    world.tell(0, call("1003"));
    world.seconds(3);
    world.tell(1, call("1001"));
    world.seconds(1);
    world.tell(0, ANSWER);
    world.seconds(1);
    let last = world.phones[0].tones.iter().rfind(|(at, _)| *at == Sounder::Terminal);
    assert_eq!(last, Some(&(Sounder::Terminal, None)), "no ring-back over the talk");
    world.tell(2, ANSWER);
    world.seconds(1);
    assert_eq!(world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>(), ["active", "held"]);
    world.talk(3);
    world.assert_heard(2, 0);
    world.assert_heard(0, 2);
    world.assert_not_heard(0, 1);
    world.assert_not_heard(1, 0);
}

#[test]
fn a_muted_phone_hears_and_is_not_heard() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    world.tell(0, Command::Mute { call: None, on: true });
    world.millis(500);
    assert!(world.calls(0)[0].muted);
    world.talk(3);
    world.assert_not_heard(0, 1);
    world.assert_heard(1, 0);
    world.tell(0, Command::Mute { call: None, on: false });
    world.millis(500);
    world.talk(3);
    world.assert_heard(0, 1);
}

#[test]
fn digits_go_both_ways_by_every_means() {
    for (dtmf, method) in [("auto", "rfc4733"), ("info", "info"), ("inband", "inband")] {
        let mut world = World::new(5);
        for user in ["1001", "1002"] {
            let codecs = if dtmf == "inband" { "codecs = [\"PCMA\"]" } else { "" };
            world.add_phone(config(user, &format!("dtmf = \"{dtmf}\"\n{codecs}"), ""));
        }
        world.seconds(1);
        world.connect();
        // In-band digits are told from speech by ears; here nobody speaks.
        for phone in 0..2 {
            world.tell(phone, Command::Mute { call: None, on: dtmf == "inband" });
        }
        for (phone, sent) in [(0, "12#"), (1, "550*")] {
            world.tell(phone, Command::Dtmf { call: None, digits: sent.into() });
            world.seconds(3);
            let came: Vec<_> = digits(&world, 1 - phone);
            let expected: Vec<_> = sent.chars().map(|digit| (digit.to_string(), method.to_owned())).collect();
            assert_eq!(came, expected, "{dtmf}");
        }
    }
}

#[test]
fn digits_survive_a_bad_network() {
    let mut world = World::with_phones(9, 2);
    let address = world.phones[0].address;
    let link = crate::network::Link { loss: 0.1, jitter_us: 20_000, ..Default::default() };
    world.connect();
    world.network.set_link(address, link);
    world.tell(0, Command::Dtmf { call: None, digits: "1234567890".into() });
    world.seconds(5);
    let came: String = digits(&world, 1).into_iter().map(|(digit, _)| digit).collect();
    assert_eq!(came, "1234567890");
}

#[test]
fn a_wish_that_fits_no_call_is_refused_with_the_next_step() {
    let mut world = World::with_phones(1, 2);
    for wish in [ANSWER, HANG_UP, HOLD, RESUME, Command::Dtmf { call: None, digits: "1".into() }] {
        let refusal = world.refusal(0, wish);
        assert_eq!(refusal.code, "no_call");
        assert!(!refusal.hint.is_empty());
    }
    world.connect();
    assert_eq!(world.refusal(0, ANSWER).code, "no_call");
    assert_eq!(world.refusal(0, Command::Dtmf { call: None, digits: "x".into() }).code, "wrong_digits");
    assert_eq!(world.refusal(0, Command::Hold { call: Some("nonsense".into()) }).code, "no_such_call");
    assert_eq!(
        world.refusal(0, Command::Call { to: "1".into(), line: Some("none".into()) }).code,
        "no_such_line"
    );
    assert_eq!(world.refusal(0, call("  ")).code, "wrong_target");
}

#[test]
fn a_consultation_that_fails_is_heard_to_fail() {
    let mut world = World::with_phones(1, 2);
    world.pbx.set_number("604", Service::Refuse(486));
    world.tell(0, call("1002"));
    world.millis(500);
    world.tell(1, ANSWER);
    world.seconds(1);
    world.tell(0, call("604"));
    world.seconds(1);
    assert_eq!(world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>(), ["held"]);
    let last = world.phones[0].tones.iter().rfind(|(at, _)| *at == Sounder::Terminal);
    assert_eq!(last, Some(&(Sounder::Terminal, Some(Tone::Busy))));
    world.seconds(10);
    let last = world.phones[0].tones.iter().rfind(|(at, _)| *at == Sounder::Terminal);
    assert_eq!(last, Some(&(Sounder::Terminal, None)), "it ends by itself");
}

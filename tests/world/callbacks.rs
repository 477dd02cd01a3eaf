//! Callback: two are rung one after the other and joined, in whole phones at a PBX, and towards one that is played word by
//! word.

use std::time::Duration;

use tipring::audio::tones::Tone;
use tipring::demo::pbx::Service;
use tipring::events::store::{Entry, Write};
use tipring::events::upstream::rostelecom::call_info::{CallInfo, Place};
use tipring::events::{CallResult, Direction, EndedBy, Kind, Origin};
use tipring::media::Sounder;
use tipring::phone::command::{Callback, Command, Destination, End};
use tipring::phone::snapshot::CallView;
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, audio};
use crate::world::{ANSWER, HANG_UP, World, call, config};

fn end(number: &str) -> End {
    End { number: number.to_owned(), line: None }
}

fn join(from: &str, to: &str) -> Command {
    Command::Callback(Callback { from: end(from), to: end(to), ring_for: None, request: Some("key".into()) })
}

/// The phone 1001 rings 1002, who answers; 1003 is being rung.
fn half_way(seed: u64) -> (World, CallView) {
    let mut world = World::with_phones(seed, 3);
    let view = world.tell(0, join("1002", "1003")).expect("a call");
    world.seconds(1);
    assert!(world.calls(2).is_empty(), "the second one is not disturbed before");
    world.tell(1, ANSWER);
    world.seconds(1);
    assert_eq!(world.calls(2)[0].state, "ringing");
    (world, view)
}

/// Both talk.
fn joined(seed: u64) -> (World, CallView) {
    let (mut world, view) = half_way(seed);
    world.tell(2, ANSWER);
    world.seconds(2);
    (world, view)
}

/// What was told of the callback: result, whether the first one had answered.
fn outcome(world: &World) -> (CallResult, bool) {
    match world.phones[0].all("originate.result")[..] {
        [Kind::OriginateResult { request, reached, result, .. }] => {
            assert_eq!(request, "key");
            (*result, *reached)
        }
        ref others => panic!("{others:?}"),
    }
}

/// The whole call as it was told at its end: the result, and its legs.
fn closed(world: &World) -> (CallResult, u32) {
    match world.phones[0].all("call.closed")[..] {
        [Kind::CallClosed { direction, caller, called, result, missed, legs, .. }] => {
            let dialled = |it: &tipring::events::Party| it.number.as_ref().map(|it| it.dialled.clone());
            assert_eq!(
                (dialled(caller).as_deref(), dialled(called).as_deref()),
                (Some("1002"), Some("1003"))
            );
            assert_eq!((*direction, *missed), (Direction::Out, false));
            (*result, *legs)
        }
        ref others => panic!("{others:?}"),
    }
}

fn tones_of_legs(world: &World) -> Vec<Option<Tone>> {
    let of_legs = |(at, tone): &(Sounder, Option<Tone>)| matches!(at, Sounder::Leg(_)).then_some(*tone);
    world.phones[0].tones.iter().filter_map(of_legs).collect()
}

#[test]
fn two_are_rung_one_after_the_other_and_hear_each_other() {
    let (mut world, view) = joined(71);
    world.talk(6);
    world.assert_heard(1, 2);
    world.assert_heard(2, 1);
    for at_the_phones in [1, 2] {
        world.assert_not_heard(0, at_the_phones);
        world.assert_not_heard(at_the_phones, 0);
    }
    let legs = world.calls(0);
    assert_eq!(
        legs.iter().map(|leg| (leg.id.as_str(), leg.state)).collect::<Vec<_>>(),
        [(view.id.as_str(), "active"), (view.id.as_str(), "active")]
    );
    assert_eq!([legs[0].leg.as_str(), &legs[1].leg], [format!("{}-1", view.id), format!("{}-2", view.id)]);
    assert_eq!(tones_of_legs(&world), [Some(Tone::RingBack), None]);
    let phone = &world.phones[0];
    assert!(
        phone.tones.iter().all(|(at, tone)| *at != Sounder::Terminal || tone.is_none()),
        "nobody is disturbed"
    );
    match (&phone.all("originate.queued")[..], &phone.all("call.bridged")[..]) {
        (
            [Kind::OriginateQueued { callback_id, request, origin: Origin::Api, from, to }],
            [Kind::CallBridged { leg: one, with: other }, Kind::CallBridged { leg: two, with: another }],
        ) => {
            assert_eq!(
                (request.as_str(), from.dialled.as_str(), to.dialled.as_str()),
                ("key", "1002", "1003")
            );
            assert_eq!((&one.leg_id, &two.leg_id), (another, other));
            assert_eq!([&one.callback_id, &two.callback_id], [&Some(callback_id.clone()); 2]);
        }
        others => panic!("{others:?}"),
    }
    assert!(
        phone.events.iter().all(|it| it.event.call.is_none() || it.event.call.as_ref() == Some(&view.id))
    );
    // Whoever leaves takes the other one along.
    world.tell(2, HANG_UP);
    world.seconds(2);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    assert_eq!((outcome(&world), closed(&world)), ((CallResult::Answered, true), (CallResult::Answered, 2)));
    assert_eq!(world.phones[0].told().last(), Some(&"call.closed"));
}

#[test]
fn the_first_one_or_whoever_asked_ends_it_for_both() {
    let (mut world, _) = joined(72);
    world.tell(1, HANG_UP);
    world.seconds(2);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    let (mut world, view) = joined(73);
    world.tell(0, Command::HangUp { call: Some(view.id) });
    world.seconds(2);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    assert_eq!(closed(&world), (CallResult::Answered, 2));
    // Without a name it is the one call that can be meant.
    let (mut world, _) = half_way(74);
    world.tell(0, HANG_UP);
    world.seconds(2);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    assert_eq!(
        (outcome(&world), closed(&world)),
        ((CallResult::Cancelled, true), (CallResult::Cancelled, 2))
    );
}

#[test]
fn a_first_one_who_does_not_answer_costs_the_second_one_nothing() {
    let mut world = World::with_phones(75, 3);
    world.tell(0, join("1002", "1003"));
    world.seconds(29);
    assert_eq!(world.calls(1)[0].state, "ringing");
    world.seconds(2);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    assert!(world.phones[2].all("call.new").is_empty());
    assert_eq!((outcome(&world), closed(&world)), ((CallResult::NoAnswer, false), (CallResult::NoAnswer, 1)));
    // So does one who declines, or does not exist.
    let mut world = World::with_phones(76, 3);
    world.tell(0, join("1002", "1003"));
    world.seconds(1);
    world.tell(1, Command::Reject { call: None, status: 486 });
    world.seconds(1);
    assert_eq!((outcome(&world), closed(&world)), ((CallResult::Busy, false), (CallResult::Busy, 1)));
    assert!(world.phones[2].all("call.new").is_empty() && tones_of_legs(&world).is_empty());
    // Somebody may want it sooner.
    let mut world = World::with_phones(77, 3);
    let Command::Callback(wish) = join("1002", "1003") else { unreachable!() };
    world.tell(0, Command::Callback(Callback { ring_for: Some(Duration::from_secs(5)), ..wish }));
    world.seconds(7);
    assert_eq!(outcome(&world), (CallResult::NoAnswer, false));
}

#[test]
fn the_first_one_hears_that_the_second_one_does_not_come() {
    let (mut world, _) = half_way(78);
    world.tell(2, Command::Reject { call: None, status: 486 });
    world.seconds(1);
    assert_eq!(outcome(&world), (CallResult::Busy, true));
    assert_eq!(tones_of_legs(&world), [Some(Tone::RingBack), Some(Tone::Busy)]);
    assert_eq!(world.calls(1)[0].state, "active", "it is heard for a while");
    world.seconds(5);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    let Kind::CallEnded { cause, .. } = world.phones[1].all("call.ended")[0] else { panic!("an end") };
    assert_eq!((cause.q850, cause.by), (Some(17), Some(EndedBy::Remote)), "it is told why");
    assert_eq!(closed(&world), (CallResult::Busy, 2));
    // Nobody there.
    let (mut world, _) = half_way(79);
    world.seconds(62);
    assert!(world.calls(2).is_empty(), "it does not ring for ever");
    world.seconds(5);
    assert_eq!((outcome(&world), closed(&world)), ((CallResult::NoAnswer, true), (CallResult::NoAnswer, 2)));
    assert_eq!(tones_of_legs(&world).last(), Some(&Some(Tone::Congestion)));
    // The first one does not wait for that.
    let (mut world, _) = half_way(80);
    world.tell(1, HANG_UP);
    world.seconds(1);
    assert!((0..3).all(|phone| world.calls(phone).is_empty()));
    assert_eq!(
        (outcome(&world), closed(&world)),
        ((CallResult::Cancelled, true), (CallResult::Cancelled, 2))
    );
}

#[test]
fn one_who_is_on_hold_is_held_for_the_other_one() {
    let (mut world, _) = joined(81);
    world.tell(2, Command::Hold { call: None });
    world.seconds(1);
    world.talk(4);
    world.assert_not_heard(2, 1);
    world.tell(2, Command::Resume { call: None });
    world.seconds(1);
    world.talk(6);
    world.assert_heard(2, 1);
    world.assert_heard(1, 2);
}

#[test]
fn digits_cross() {
    let (mut world, _) = joined(82);
    world.tell(1, Command::Dtmf { call: None, digits: "42#".into() });
    world.seconds(3);
    let digits: String = world.phones[2]
        .all("call.dtmf")
        .into_iter()
        .filter_map(|kind| match kind {
            Kind::CallDtmf { digits, .. } => digits.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(digits, "42#");
}

#[test]
fn legs_of_different_codecs_understand_each_other() {
    let mut world = World::new(83);
    world.add_phone(config("1001", "codecs = [\"opus\", \"PCMA\"]", ""));
    world.add_phone(config("1002", "codecs = [\"PCMA\"]", ""));
    world.add_phone(config("1003", "codecs = [\"opus\"]", ""));
    world.seconds(1);
    world.tell(0, join("1002", "1003"));
    world.seconds(1);
    world.tell(1, ANSWER);
    world.seconds(1);
    world.tell(2, ANSWER);
    world.seconds(2);
    let codecs: Vec<_> = world.calls(0).iter().filter_map(|leg| leg.codec.clone()).collect();
    assert_eq!(codecs, ["PCMA/8000", "opus/48000"]);
    world.talk(6);
    assert!(world.likeness(2, 1).is_some_and(|it| it.found > 0.6), "{:?}", world.likeness(2, 1));
    assert!(world.likeness(1, 2).is_some_and(|it| it.found > 0.6), "{:?}", world.likeness(1, 2));
}

#[test]
fn a_call_of_the_person_at_the_device_goes_on_beside_it() {
    let mut world = World::with_phones(84, 4);
    world.tell(0, call("1004"));
    world.seconds(1);
    world.tell(3, ANSWER);
    world.seconds(1);
    world.tell(0, join("1002", "1003"));
    world.seconds(1);
    world.tell(1, ANSWER);
    world.seconds(1);
    world.tell(2, ANSWER);
    world.seconds(2);
    world.talk(6);
    for (said, heard) in [(0, 3), (3, 0), (1, 2), (2, 1)] {
        world.assert_heard(said, heard);
    }
    for (said, heard) in [(0, 1), (3, 1), (2, 0), (1, 3)] {
        world.assert_not_heard(said, heard);
    }
    assert!(!world.phones[0].has("call.held"));
}

#[test]
fn the_device_itself_may_be_the_first_one() {
    for own in ["1001", "office", "sip:1001@pbx.example"] {
        let mut world = World::with_phones(85, 2);
        world.tell(0, join(own, "1002"));
        world.seconds(1);
        world.tell(1, ANSWER);
        world.seconds(2);
        world.talk(5);
        world.assert_heard(0, 1);
        world.assert_heard(1, 0);
        assert_eq!(outcome(&world), (CallResult::Answered, true));
        assert!(!world.phones[0].has("call.bridged"));
        world.tell(1, HANG_UP);
        world.seconds(1);
        let Kind::CallClosed { caller, result, legs, .. } = world.phones[0].all("call.closed")[0] else {
            panic!("an end")
        };
        let caller = caller.number.as_ref().map(|it| it.dialled.as_str());
        assert_eq!((caller, *result, *legs), (Some("1001"), CallResult::Answered, 1));
    }
    let mut world = World::with_phones(86, 2);
    world.tell(0, join("1001", "1002"));
    world.seconds(1);
    world.tell(1, Command::Reject { call: None, status: 486 });
    world.seconds(1);
    assert_eq!(outcome(&world), (CallResult::Busy, true));
}

#[test]
fn no_callback_escapes_the_limits() {
    let limits = "[limits]\ndeny = [\"900*\", \"international\"]\ncalls_per_minute = 3\n";
    let mut script = Script::new("", limits);
    for (from, to) in [("900123", "102"), ("102", "900123"), ("102", "1\r\nX: y"), ("", "102")] {
        let code = script.world.refusal(0, join(from, to)).code;
        assert!(["refused", "wrong_target"].contains(&code), "{from} {to}: {code}");
    }
    script.is_silent();
    // The second one counts when it is called: by then others have used up what there was.
    for other in ["103", "104"] {
        script.world.tell(0, call(other));
        let invite = script.says(Method::INVITE);
        script.hears(Peer::answering(&invite, "eve").response(&invite, 486, None));
        script.says(Method::ACK);
    }
    script.world.tell(0, join("102", "105"));
    let invite = script.says(Method::INVITE);
    let peer = Peer::answering(&invite, "bob");
    script.hears(peer.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
    script.says(Method::ACK);
    assert_eq!(outcome(&script.world), (CallResult::Barred, true));
    let told = script.phone().all("call.refused");
    let Some(Kind::CallRefused { rule, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(rule, "limits.calls_per_minute");
    let bye = script.awaits(Method::BYE, 6_000);
    assert_eq!(bye.fields.text("Reason").as_deref(), Some("Q.850;cause=50;text=\"barred\""));
    // A line has to have room for both.
    let mut script = Script::new("max_calls = 1", "");
    assert_eq!(script.world.refusal(0, join("102", "103")).code, "line_busy");
}

#[test]
fn two_strangers_are_joined_only_where_that_is_allowed() {
    let outside = "12125550100";
    for (from, to) in [
        (outside, "+12125550101"),
        (outside, "5550103"),
        ("sip:anna@elsewhere.example", outside),
        ("tel:+12125550101", "bob@elsewhere.example"),
    ] {
        let mut script = Script::new("", "");
        let refusal = script.world.refusal(0, join(from, to));
        assert!(refusal.hint.contains("limits.external_to_external"), "{from} {to}: {refusal}");
        script.is_silent();
        let told = script.phone().all("call.refused");
        assert!(
            matches!(told[..], [Kind::CallRefused { rule, .. }] if rule == "limits.external_to_external")
        );
        let mut script = Script::new("", "[limits]\nexternal_to_external = true\n");
        script.world.tell(0, join(from, to));
        assert!(script.phone().has("originate.queued"), "{from} {to}");
    }
    for (from, to) in [("102", outside), (outside, "102"), (outside, "anna"), (outside, "112")] {
        let mut script = Script::new("", "");
        script.world.tell(0, join(from, to));
        script.says(Method::INVITE);
    }
}

#[test]
fn nobody_is_given_away_from_outside_to_outside() {
    for (allowed, code) in [("", Some("refused")), ("[limits]\nexternal_to_external = true\n", None)] {
        let mut script = Script::new("", allowed);
        script.world.tell(0, call("12125550100"));
        let invite = script.says(Method::INVITE);
        let peer = Peer::answering(&invite, "bob");
        script.hears(peer.response(&invite, 200, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
        script.says(Method::ACK);
        let give = |to: &str| Command::Transfer { call: None, to: Destination::Target(to.to_owned()) };
        match code {
            Some(code) => {
                assert_eq!(script.world.refusal(0, give("12125550102")).code, code);
                script.is_silent();
                script.world.tell(0, give("102"));
            }
            None => {
                script.world.tell(0, give("12125550102"));
            }
        }
        script.says(Method::REFER);
    }
}

#[test]
fn early_media_of_the_second_one_is_heard_by_the_first_one() {
    let mut world = World::with_phones(88, 2);
    world.pbx.set_number("601", Service::EarlyEcho);
    world.tell(0, join("1002", "601"));
    world.seconds(1);
    world.tell(1, ANSWER);
    world.phones[1].card.listen(true);
    world.millis(1_800);
    world.phones[1].card.listen(false);
    assert!(!world.phones[0].has("originate.result"), "it has not answered yet");
    assert_eq!(tones_of_legs(&world), [Some(Tone::RingBack), None]);
    assert!(world.likeness(1, 1).is_some_and(|it| it.found > 0.3), "{:?}", world.likeness(1, 1));
    world.seconds(2);
    assert_eq!(outcome(&world), (CallResult::Answered, true));
    world.talk(5);
    assert!(world.likeness(1, 1).is_some_and(|it| it.found > 0.5), "{:?}", world.likeness(1, 1));
}

/// The rows of the journal that a phone has kept of its only call.
fn rows(world: &World) -> Vec<Entry> {
    let mut rows: Vec<Entry> = Vec::new();
    for write in &world.phones[0].kept {
        let Write::Call(entry) = write else { continue };
        rows.retain(|row| row.leg.leg_id != entry.leg.leg_id);
        rows.push((**entry).clone());
    }
    rows.sort_by_key(|row| row.started_utc_us);
    rows
}

#[test]
fn a_crm_of_rostelecom_is_told_of_both_legs_as_one_call() {
    let (mut world, _) = joined(79);
    let going = CallInfo::of(&rows(&world), Place::default()).expect("a call");
    assert_eq!((going.state, going.duration), (1, 0), "it goes on");
    world.seconds(6);
    world.tell(2, HANG_UP);
    world.seconds(2);
    let info = CallInfo::of(&rows(&world), Place { domain: Some("pbx"), pin: None }).expect("a call");
    assert_eq!((info.call_type, info.direction, info.state), (3, 2, 1));
    assert_eq!((info.orig_number.as_str(), info.dest_number.as_str()), ("sip:1002@pbx", "sip:1003@pbx"));
    assert_eq!(info.answering_pin.as_deref(), Some("1003"));
    let steps: Vec<&str> = info.session_log.split_terminator(';').collect();
    let last: Vec<&str> =
        steps.iter().filter_map(|step| step.split_once(':')).map(|(_, step)| step).collect();
    assert_eq!(last[..4], ["ct:1002", "cc:1002", "ct:1003", "cc:1003"], "{steps:?}");
    let mut gone = last[4..].to_vec();
    gone.sort_unstable();
    assert_eq!(gone, ["cd:1002", "cd:1003"], "{steps:?}");
    // Rung for a second each, then eight seconds in all.
    assert!((9..=11).contains(&info.duration), "{info:?}");
}

//! Calls that nobody has to take: by the line's own setting, or because the PBX asks for it.

use tipring::audio::tones::Tone;
use tipring::events::Kind;
use tipring::media::Sounder;
use tipring::phone::command::Command;

use crate::world::{ANSWER, World, call, config};

const AT_ONCE: (&str, &str) = ("Alert-Info", "<http://pbx.example>;info=alert-autoanswer;delay=0");

/// The PBX calls 1001 with one more header field.
fn page(world: &mut World, field: (&str, &str)) {
    let now = world.now();
    world.pbx.call(now, "1001", &[field]).expect("1001 is registered");
    world.drain();
}

/// A phone 1001 with these keys of its line.
fn phone(line: &str) -> World {
    let mut world = World::new(1);
    world.add_phone(config("1001", line, "[emergency]\nnumbers = [\"112\"]\n"));
    world.seconds(1);
    world
}

fn state(world: &World) -> &'static str {
    world.calls(0).last().map_or("none", |call| call.state)
}

/// By what key calls were answered, in order; empty where a person did.
fn answered_by(world: &World) -> Vec<String> {
    let told = world.phones[0].all("call.answered").into_iter().filter_map(|kind| match kind {
        Kind::CallAnswered { automatic, .. } => Some(automatic.clone().unwrap_or_default()),
        _ => None,
    });
    told.collect()
}

#[test]
fn an_intercom_call_is_answered_after_a_beep() {
    for field in [AT_ONCE, ("Call-Info", "<sip:pbx.example>;answer-after=0"), ("Answer-Mode", "Auto")] {
        let mut world = phone("");
        page(&mut world, field);
        world.millis(200);
        assert_eq!(state(&world), "ringing", "the microphone waits for the beep");
        assert_eq!(world.phones[0].tones, [(Sounder::Terminal, Some(Tone::Beep))]);
        world.millis(200);
        assert_eq!(state(&world), "active");
        assert_eq!(world.phones[0].tones.last(), Some(&(Sounder::Terminal, None)));
        world.talk(3);
        world.assert_heard(0, 0);
        assert_eq!(answered_by(&world), ["line.intercom"]);
    }
}

#[test]
fn the_delay_of_an_intercom_call_is_obeyed() {
    let mut world = phone("");
    page(&mut world, ("Call-Info", "<sip:pbx.example>;answer-after=3"));
    world.millis(2600);
    assert_eq!(world.phones[0].tones, [(Sounder::Ringer, Some(Tone::Ring))]);
    world.millis(350);
    assert_eq!(state(&world), "ringing");
    let beep = [(Sounder::Terminal, Some(Tone::Beep)), (Sounder::Ringer, None)];
    assert_eq!(world.phones[0].tones[1..], beep);
    world.millis(150);
    assert_eq!(state(&world), "active");
}

#[test]
fn an_intercom_call_waits_while_somebody_talks() {
    let mut world = phone("");
    world.tell(0, call("600"));
    world.seconds(1);
    page(&mut world, AT_ONCE);
    world.seconds(5);
    let states: Vec<_> = world.calls(0).iter().map(|call| call.state).collect();
    assert_eq!(states, ["active", "ringing"]);
    assert_eq!(world.phones[0].tones.last(), Some(&(Sounder::Terminal, Some(Tone::CallWaiting))));
    world.talk(3);
    world.assert_heard(0, 0);
    world.tell(0, ANSWER);
    world.seconds(1);
    assert_eq!(answered_by(&world), ["", ""], "a person took it");
}

#[test]
fn whoever_begins_another_call_meanwhile_is_not_disturbed() {
    let mut world = phone("");
    page(&mut world, ("Call-Info", "<sip:pbx.example>;answer-after=4"));
    world.seconds(2);
    world.tell(0, call("600"));
    world.seconds(6);
    let mut states: Vec<_> = world.calls(0).iter().map(|call| call.state).collect();
    states.sort_unstable();
    assert_eq!(states, ["active", "ringing"]);
    assert!(!world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::Beep))));
}

#[test]
fn an_intercom_call_waits_for_one_that_rings_already() {
    let mut world = phone("");
    page(&mut world, ("Subject", "an ordinary call"));
    world.seconds(1);
    page(&mut world, AT_ONCE);
    world.seconds(5);
    let states: Vec<_> = world.calls(0).iter().map(|call| call.state).collect();
    assert_eq!(states, ["ringing", "ringing"]);
}

#[test]
fn of_two_intercom_calls_the_second_waits() {
    let mut world = phone("");
    page(&mut world, AT_ONCE);
    world.millis(100);
    page(&mut world, AT_ONCE);
    world.seconds(5);
    let states: Vec<_> = world.calls(0).iter().map(|call| call.state).collect();
    assert_eq!(states, ["active", "ringing"]);
}

#[test]
fn do_not_disturb_is_stronger_than_the_intercom() {
    let mut world = phone("");
    // Switched on while it rings.
    page(&mut world, ("Call-Info", "<sip:pbx.example>;answer-after=4"));
    world.seconds(2);
    world.tell(0, Command::DoNotDisturb { line: None, on: true });
    world.seconds(6);
    assert_eq!(state(&world), "ringing");
    // Who was called for help may ring through it, and no more.
    let mut world = phone("dnd = true");
    world.pbx.set_number("112", tipring::demo::pbx::Service::Unanswered);
    world.tell(0, call("112"));
    world.seconds(1);
    page(&mut world, AT_ONCE);
    world.seconds(5);
    let mut states: Vec<_> = world.calls(0).iter().map(|call| call.state).collect();
    states.sort_unstable();
    assert_eq!(states, ["ringing", "ringing"], "{:?}", world.phones[0].told());
    assert_eq!(world.phones[0].all("call.ringing").len(), 2);
    assert!(!world.phones[0].tones.contains(&(Sounder::Terminal, Some(Tone::Beep))));
}

#[test]
fn the_intercom_can_be_switched_off() {
    let mut world = phone("intercom = false");
    page(&mut world, AT_ONCE);
    world.seconds(5);
    assert_eq!(state(&world), "ringing");
    assert!(!world.phones[0].has("call.answered"));
}

#[test]
fn the_earlier_of_the_lines_setting_and_the_pbxs_wish_counts() {
    for (setting, wish, key) in [("2s", 5, "line.auto_answer"), ("5s", 2, "line.intercom")] {
        let mut world = phone(&format!("auto_answer = \"{setting}\""));
        page(&mut world, ("Call-Info", &format!("<sip:pbx.example>;answer-after={wish}")));
        world.millis(1900);
        assert_eq!(state(&world), "ringing");
        world.millis(200);
        assert_eq!(state(&world), "active");
        assert_eq!(answered_by(&world), [key]);
    }
}

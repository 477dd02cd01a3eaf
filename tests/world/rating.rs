//! Votes: whoever was talked to is asked how it was, once the call was hung up here.

use std::time::Duration;

use tipring::config::Config;
use tipring::events::store::{Entry, Write};
use tipring::events::{CallResult, Direction, EndedBy, Kind};
use tipring::phone::Input;
use tipring::phone::command::{Callback, Command, End, RecordAction};

use crate::recordings::{found, sentence};
use crate::world::{ANSWER, HANG_UP, OUTSIDE, World, call, config};

/// Who asks, somebody inside, and somebody outside.
const DEVICE: usize = 0;
const ANNA: usize = 1;
const CUSTOMER: usize = 2;

/// The question takes three seconds.
const RATING: &str = "[rating]\nannouncement = \"how-was-it.wav\"\nwait = \"4s\"\nmin_talk = \"2s\"\n";

/// The keys of its line, and more tables.
fn device(line: &str, tables: &str) -> Config {
    let mut settings = config("1001", line, &format!("country = \"RU\"\n{tables}"));
    if let Some(question) = &mut settings.rating.announcement {
        question.read(&sentence());
    }
    settings
}

fn begin_with(device: Config, customer: &str) -> World {
    let mut world = World::new(417);
    world.add_phone(device);
    world.add_phone(config("1002", "", ""));
    world.add_phone(config(OUTSIDE, customer, ""));
    world.seconds(1);
    assert!(world.phones.iter().all(|phone| phone.has("line.registered")));
    world
}

fn begin(tables: &str) -> World {
    begin_with(device("", tables), "")
}

/// One calls another one, who takes it; they talk.
fn talks(world: &mut World, from: usize, to: usize, number: &str, seconds: u64) {
    world.tell(from, call(number));
    world.seconds(1);
    world.tell(to, ANSWER);
    world.seconds(seconds);
}

/// The customer has called and talked.
fn has_called(world: &mut World) {
    talks(world, CUSTOMER, DEVICE, "1001", 5);
}

/// The same, and the device has hung up a second ago.
fn is_asked(world: &mut World) {
    has_called(world);
    world.tell(DEVICE, HANG_UP);
    world.seconds(1);
}

/// The device has Anna and the customer talk, for so many seconds.
fn are_joined(world: &mut World, seconds: u64) {
    let end = |number: &str| End { number: number.to_owned(), line: None };
    let (from, to) = (end("1002"), end(OUTSIDE));
    world.tell(DEVICE, Command::Callback(Callback { from, to, ring_for: None, request: None }));
    world.seconds(1);
    world.tell(ANNA, ANSWER);
    world.seconds(1);
    world.tell(CUSTOMER, ANSWER);
    world.seconds(seconds);
}

fn states(world: &World) -> [Vec<&'static str>; 3] {
    [DEVICE, ANNA, CUSTOMER].map(|phone| world.calls(phone).iter().map(|call| call.state).collect())
}

fn presses(world: &mut World, phone: usize, digits: &str) {
    world.tell(phone, Command::Dtmf { call: None, digits: digits.to_owned() });
}

/// How the last leg of the device ended.
#[derive(PartialEq, Debug)]
struct Ended {
    vote: Option<u8>,
    result: CallResult,
    by: Option<EndedBy>,
    total_s: u64,
    talk_s: u64,
}

fn ended(world: &World) -> Ended {
    let phone = &world.phones[DEVICE];
    let second = |us: u64| (us + 500_000) / 1_000_000;
    match phone.all("call.ended").last() {
        Some(Kind::CallEnded { leg, vote, result, cause, total_us, ring_us, talk_us, .. }) => {
            let row = phone.kept.iter().rev().find_map(|write| match write {
                Write::Call(entry) if entry.leg.leg_id == leg.leg_id => Some(entry),
                _ => None,
            });
            let Entry { vote: kept, talk_us: kept_talk, .. } = &**row.expect("a row of the journal");
            assert_eq!((kept, kept_talk), (vote, talk_us));
            assert!(ring_us + talk_us <= *total_us);
            Ended {
                vote: *vote,
                result: *result,
                by: cause.by,
                total_s: second(*total_us),
                talk_s: second(*talk_us),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_talked_to_hears_the_question_and_the_key_is_the_vote() {
    for (device_line, customer_line) in
        [("", ""), ("", "dtmf = \"info\"\n"), ("dtmf = \"inband\"\n", "dtmf = \"inband\"\n")]
    {
        let mut world = begin_with(device(device_line, RATING), customer_line);
        has_called(&mut world);
        presses(&mut world, CUSTOMER, "5");
        world.seconds(1);
        assert_eq!(states(&world)[0], ["active"], "what is pressed before is no vote");
        world.tell(CUSTOMER, Command::Mute { call: None, on: true });
        world.tell(DEVICE, HANG_UP);
        assert_eq!(states(&world)[0], ["rating"]);
        world.talk(5);
        let heard = found(&world, CUSTOMER);
        assert!(heard > 0.75, "{customer_line}: {heard}");
        world.assert_not_heard(DEVICE, CUSTOMER);
        assert!(found(&world, DEVICE) < 0.2, "whoever is at the device hears nothing of it");
        world.tell(CUSTOMER, Command::Mute { call: None, on: false });
        presses(&mut world, CUSTOMER, "0");
        world.seconds(1);
        assert_eq!(states(&world)[0], ["rating"], "zero is no vote");
        presses(&mut world, CUSTOMER, "4");
        world.seconds(1);
        assert!(states(&world).iter().all(Vec::is_empty), "{customer_line}: {:?}", states(&world));
        let expected = Ended {
            vote: Some(4),
            result: CallResult::Answered,
            by: Some(EndedBy::Local),
            total_s: 13,
            talk_s: 6,
        };
        assert_eq!(ended(&world), expected, "{customer_line}");
        match world.phones[DEVICE].all("call.closed")[..] {
            [Kind::CallClosed { legs: 1, talk_us, direction: Direction::In, .. }] => {
                assert_eq!((talk_us + 500_000) / 1_000_000, 6);
            }
            ref others => panic!("{others:?}"),
        }
    }
}

#[test]
fn it_may_be_pressed_while_the_question_is_still_asked_and_counts_once() {
    let mut world = begin(RATING);
    has_called(&mut world);
    world.tell(DEVICE, HANG_UP);
    world.millis(500);
    presses(&mut world, CUSTOMER, "7*21");
    world.seconds(2);
    assert!(states(&world).iter().all(Vec::is_empty));
    assert_eq!(ended(&world).vote, Some(2));
}

#[test]
fn who_says_nothing_is_let_go_and_who_hangs_up_has_not_voted() {
    let mut world = begin(RATING);
    has_called(&mut world);
    world.tell(DEVICE, HANG_UP);
    world.millis(6_800);
    assert_eq!(states(&world)[0], ["rating"], "three seconds of question, four to think");
    world.millis(400);
    assert!(states(&world).iter().all(Vec::is_empty));
    let silent =
        Ended { vote: None, result: CallResult::Answered, by: Some(EndedBy::Local), total_s: 13, talk_s: 5 };
    assert_eq!(ended(&world), silent);

    is_asked(&mut world);
    world.tell(CUSTOMER, HANG_UP);
    world.seconds(1);
    assert!(states(&world).iter().all(Vec::is_empty));
    assert_eq!(ended(&world), Ended { total_s: 7, ..silent }, "it was ended here");

    // Nobody is there any more: no packet, no answer to anything.
    has_called(&mut world);
    world.tell(DEVICE, HANG_UP);
    world.phones[CUSTOMER].fall_asleep();
    world.seconds(60);
    assert!(states(&world)[0].is_empty());
    assert_eq!(ended(&world).vote, None);
}

#[test]
fn the_device_is_free_meanwhile() {
    let mut world = begin_with(device("max_calls = 1\n", RATING), "");
    is_asked(&mut world);
    let nothing = world.refusal(DEVICE, HANG_UP);
    assert_eq!(nothing.code, "no_call", "the call is over for whoever is here");
    let id = Some(world.calls(DEVICE)[0].id.clone());
    let wrong = world.refusal(DEVICE, Command::Hold { call: id });
    assert_eq!(wrong.code, "wrong_state");
    let pressed = world.refusal(DEVICE, Command::Dtmf { call: None, digits: "1".into() });
    assert_eq!(pressed.code, "no_call", "what is pressed here is for nobody");
    // Another one is called and talked to; the key of the first one is its own.
    talks(&mut world, DEVICE, ANNA, "1002", 3);
    assert_eq!(states(&world), [vec!["rating", "active"], vec!["active"], vec!["active"]]);
    presses(&mut world, DEVICE, "9");
    world.talk(3);
    for (said, heard) in [(DEVICE, ANNA), (ANNA, DEVICE)] {
        world.assert_heard(said, heard);
    }
    for (said, heard) in [(CUSTOMER, DEVICE), (CUSTOMER, ANNA), (DEVICE, CUSTOMER), (ANNA, CUSTOMER)] {
        world.assert_not_heard(said, heard);
    }
    assert_eq!(states(&world)[0], ["active"], "the time for a vote is over");
    let heard = |phone: usize| world.phones[phone].all("call.dtmf").len();
    assert_eq!([ANNA, CUSTOMER].map(heard), [1, 0], "that was for the one who is talked to");
    world.tell(DEVICE, HANG_UP);
    world.seconds(1);

    // One who calls meanwhile is not told that it is busy here.
    has_called(&mut world);
    world.tell(DEVICE, HANG_UP);
    talks(&mut world, ANNA, DEVICE, "1001", 1);
    assert_eq!(states(&world)[0], ["rating", "active"]);
    presses(&mut world, CUSTOMER, "1");
    world.seconds(1);
    assert_eq!(states(&world), [vec!["active"], vec!["active"], vec![]]);
    assert_eq!(ended(&world).vote, Some(1));
}

#[test]
fn hung_up_again_by_its_name_or_at_the_end_of_the_program_it_is_over_at_once() {
    let mut world = begin(RATING);
    is_asked(&mut world);
    let id = Some(world.calls(DEVICE)[0].id.clone());
    world.tell(DEVICE, Command::HangUp { call: id });
    world.millis(700);
    assert!(states(&world).iter().all(Vec::is_empty));

    is_asked(&mut world);
    world.input(DEVICE, Input::Stop);
    world.seconds(1);
    assert!(world.phones[DEVICE].stopped && states(&world).iter().all(Vec::is_empty));
    assert_eq!(ended(&world).vote, None);
}

#[test]
fn the_question_is_in_no_recording() {
    let mut world = begin(RATING);
    has_called(&mut world);
    world.tell(DEVICE, Command::Record { call: None, action: RecordAction::Start });
    world.seconds(2);
    world.tell(DEVICE, HANG_UP);
    assert_eq!(world.calls(DEVICE)[0].recording, "off");
    world.millis(100);
    let before = world.phones[DEVICE].recorded;
    world.seconds(1);
    assert!(before > 0 && world.phones[DEVICE].recorded == before, "{before}");
    presses(&mut world, CUSTOMER, "3");
    world.seconds(2);
    match world.phones[DEVICE].all("call.ended")[..] {
        [Kind::CallEnded { recording_id: Some(_), vote: Some(3), .. }] => {}
        ref others => panic!("{others:?}"),
    }
}

#[test]
fn not_everybody_is_asked() {
    /// Whether there is a question after what was done until the device hangs up.
    fn asked(tables: &str, until: impl FnOnce(&mut World)) -> bool {
        let mut world = begin(tables);
        until(&mut world);
        world.tell(DEVICE, HANG_UP);
        world.millis(600);
        !world.calls(DEVICE).is_empty()
    }
    let calls_out = |world: &mut World| talks(world, DEVICE, CUSTOMER, OUTSIDE, 5);
    assert!(asked(RATING, has_called));
    assert!(!asked("", has_called), "it is off");
    assert!(!asked(RATING, |world| talks(world, CUSTOMER, DEVICE, "1001", 1)), "that was no talk");
    assert!(!asked(RATING, |world| talks(world, ANNA, DEVICE, "1001", 5)), "a colleague");
    assert!(!asked(RATING, calls_out), "only callers are");
    assert!(asked(&format!("{RATING}calls = \"out\"\n"), calls_out));
    assert!(!asked(&format!("{RATING}calls = \"out\"\n"), has_called));
    assert!(asked(&format!("{RATING}calls = \"both\"\n"), calls_out));
    assert!(asked(&format!("{RATING}lines = [\"office\"]\n"), has_called));
    let another = "[[line]]\nname = \"other\"\nuser = \"1009\"\ndomain = \"pbx.example\"\npassword = \"x\"\nenabled = false\n";
    assert!(!asked(&format!("{RATING}lines = [\"other\"]\n{another}"), has_called));
    // Who is on hold hears nothing from here.
    let hold = |phone: usize| {
        move |world: &mut World| {
            has_called(world);
            world.tell(phone, Command::Hold { call: None });
            world.seconds(1);
        }
    };
    assert!(!asked(RATING, hold(DEVICE)));
    assert!(!asked(RATING, hold(CUSTOMER)));
    // Nor is anything asked of those who help, then or when they call back.
    let both = format!("{RATING}calls = \"both\"\n[emergency]\nnumbers = [\"{OUTSIDE}\"]\n");
    assert!(!asked(&both, calls_out));
    assert!(!asked(&both, |world| {
        calls_out(world);
        world.tell(CUSTOMER, HANG_UP);
        world.seconds(1);
        has_called(world);
    }));
}

#[test]
fn a_call_that_rings_or_is_refused_is_over_at_once() {
    let mut world = begin(&format!("{RATING}calls = \"both\"\n"));
    world.tell(CUSTOMER, call("1001"));
    world.seconds(4);
    world.tell(DEVICE, Command::Reject { call: None, status: 486 });
    world.seconds(1);
    assert!(states(&world).iter().all(Vec::is_empty));
    world.tell(DEVICE, call(OUTSIDE));
    world.seconds(4);
    world.tell(DEVICE, HANG_UP);
    world.seconds(1);
    assert!(states(&world).iter().all(Vec::is_empty));
    let told: Vec<_> = world.phones[DEVICE].all("call.ended");
    assert!(
        matches!(
            told[..],
            [Kind::CallEnded { vote: None, talk_us: 0, .. }, Kind::CallEnded { vote: None, talk_us: 0, .. }]
        ),
        "{told:?}"
    );
}

#[test]
fn the_customer_of_two_that_were_joined_is_asked_when_the_other_one_leaves() {
    let joined = || {
        let mut world = begin(&format!("{RATING}calls = \"both\"\n"));
        are_joined(&mut world, 5);
        world
    };
    let mut world = joined();
    world.tell(ANNA, HANG_UP);
    world.talk(4);
    assert!(found(&world, CUSTOMER) > 0.75);
    assert_eq!(states(&world), [vec!["rating"], vec![], vec!["active"]]);
    presses(&mut world, CUSTOMER, "5");
    world.seconds(1);
    assert!(states(&world).iter().all(Vec::is_empty));
    assert_eq!(ended(&world).vote, Some(5));
    match world.phones[DEVICE].all("call.closed")[..] {
        [Kind::CallClosed { legs: 2, talk_us, result: CallResult::Answered, .. }] => {
            assert_eq!((talk_us + 500_000) / 1_000_000, 5, "while both talked");
        }
        ref others => panic!("{others:?}"),
    }
    // The one who was to talk to the customer is asked nothing.
    let mut world = joined();
    world.tell(CUSTOMER, HANG_UP);
    world.millis(700);
    assert!(states(&world).iter().all(Vec::is_empty));
    // Nor is anybody whom the device itself parts.
    let mut world = joined();
    let id = Some(world.calls(DEVICE)[0].id.clone());
    world.tell(DEVICE, Command::HangUp { call: id });
    world.millis(700);
    assert_eq!(states(&world)[ANNA], [""; 0]);
}

#[test]
fn who_came_back_to_an_extension_is_asked_when_that_hangs_up() {
    let mut world = begin(&format!("{RATING}[sticky]\nwithin = \"30m\"\n"));
    are_joined(&mut world, 2);
    world.tell(CUSTOMER, HANG_UP);
    world.run(Duration::from_secs(60));
    talks(&mut world, CUSTOMER, ANNA, "1001", 5);
    assert_eq!(states(&world), [vec!["active", "active"], vec!["active"], vec!["active"]]);
    world.tell(ANNA, HANG_UP);
    world.talk(4);
    assert!(found(&world, CUSTOMER) > 0.75);
    presses(&mut world, CUSTOMER, "3");
    world.seconds(1);
    assert!(states(&world).iter().all(Vec::is_empty));
    assert_eq!(ended(&world).vote, Some(3));
}

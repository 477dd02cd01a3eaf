//! Sticky return: callers of outside come back to the extension that called or talked to them, in whole phones at a PBX.

use std::time::Duration;

use tipring::config::Config;
use tipring::events::lookup::Answer;
use tipring::events::store::{Entry, Write};
use tipring::events::{CallResult, Direction, Kind, Leg, Origin, Party};
use tipring::media::Sounder;
use tipring::phone::Input;
use tipring::phone::command::{Callback, Command, End};
use tipring::sip::message::{Message, Request};
use tipring::sip::method::Method;

use crate::script::{MEDIA, Peer, Script, audio};
use crate::world::{ANSWER, HANG_UP, OUTSIDE, World, call, config};

/// The device whose journal counts, two extensions, and somebody outside.
const DEVICE: usize = 0;
const ANNA: usize = 1;
const BORIS: usize = 2;
const CUSTOMER: usize = 3;

const STICKY: &str = "[sticky]\nwithin = \"30m\"\n";

fn begin_with(seed: u64, tables: &str) -> World {
    let mut world = World::new(seed);
    world.add_phone(device("", tables));
    for user in ["1002", "1003", OUTSIDE] {
        world.add_phone(config(user, "", ""));
    }
    world.seconds(1);
    assert!(world.phones.iter().all(|phone| phone.has("line.registered")));
    world
}

/// The keys of its line, and more tables.
fn device(line: &str, tables: &str) -> Config {
    config("1001", line, &format!("country = \"RU\"\ntimezone = \"MSK-3\"\n{tables}"))
}

fn begin(seed: u64) -> World {
    begin_with(seed, STICKY)
}

fn configure(world: &mut World, tables: &str) {
    let config: Box<Config> = Box::new(device("", tables));
    world.input(DEVICE, Input::Configured { file: "world.toml".into(), config, warnings: 0 });
}

/// The device joins an extension and the customer.
fn joins(world: &mut World, extension: &str) {
    let end = |number: &str| End { number: number.to_owned(), line: None };
    let (from, to) = (end(extension), end(OUTSIDE));
    world.tell(DEVICE, Command::Callback(Callback { from, to, ring_for: None, request: None }));
    world.seconds(1);
}

/// Anna and the customer have talked through the device.
fn have_talked(world: &mut World) {
    joins(world, "1002");
    world.tell(ANNA, ANSWER);
    world.seconds(1);
    world.tell(CUSTOMER, ANSWER);
    world.seconds(2);
    over(world, CUSTOMER);
}

fn over(world: &mut World, phone: usize) {
    world.tell(phone, HANG_UP);
    world.seconds(2);
    assert!((0..4).all(|phone| world.calls(phone).is_empty()));
}

/// The customer calls the device.
fn comes_back(world: &mut World) {
    for phone in &mut world.phones {
        phone.events.clear();
        phone.tones.clear();
    }
    world.tell(CUSTOMER, call("1001"));
    world.seconds(1);
}

/// Whether the handset itself rings.
fn rings(world: &World) -> bool {
    let last = world.phones[DEVICE].tones.iter().rev().find(|(at, _)| *at == Sounder::Ringer);
    last.is_some_and(|(_, tone)| tone.is_some())
}

fn state(world: &World, phone: usize) -> &'static str {
    match &world.calls(phone)[..] {
        [] => "idle",
        [one] => one.state,
        [one, ..] => panic!("several calls: {one:?}"),
    }
}

/// Where it rings: at the device, and at both extensions.
#[track_caller]
fn assert_rings(world: &World, device: bool, anna: bool, boris: bool) {
    let word = |rings| if rings { "ringing" } else { "idle" };
    let told = world.phones[DEVICE].told();
    assert_eq!((state(world, ANNA), state(world, BORIS)), (word(anna), word(boris)), "{told:?}");
    assert_eq!(rings(world), device, "{told:?}");
    assert_eq!(state(world, CUSTOMER), "ringing", "the caller hears it ring wherever it does: {told:?}");
}

/// The end of the whole call, as the device tells it: the result, missed, legs.
fn closed(world: &World) -> (CallResult, bool, u32) {
    match world.phones[DEVICE].all("call.closed")[..] {
        [Kind::CallClosed { direction, caller, called, result, missed, legs, .. }] => {
            let number = |it: &tipring::events::Party| it.number.as_ref().map(|it| it.dialled.clone());
            assert_eq!((number(caller).as_deref(), number(called).as_deref()), (Some(OUTSIDE), Some("1001")));
            assert_eq!(*direction, Direction::In);
            (*result, *missed, *legs)
        }
        ref others => panic!("{others:?}"),
    }
}

#[test]
fn a_customer_who_was_called_comes_back_to_the_extension_that_called() {
    let mut world = begin(901);
    have_talked(&mut world);
    world.seconds(29 * 60);
    comes_back(&mut world);
    assert_rings(&world, false, true, false);
    world.tell(ANNA, ANSWER);
    world.seconds(1);
    world.talk(6);
    world.assert_heard(CUSTOMER, ANNA);
    world.assert_heard(ANNA, CUSTOMER);
    for other in [ANNA, CUSTOMER] {
        world.assert_not_heard(DEVICE, other);
        world.assert_not_heard(other, DEVICE);
    }
    let device = &world.phones[DEVICE];
    assert!(!device.tones.iter().any(|(_, tone)| tone.is_some()), "nobody at the device is disturbed");
    match (&device.all("call.new")[..], &device.all("call.bridged")[..]) {
        (
            [
                Kind::CallNew { leg: first, origin: Origin::Network },
                Kind::CallNew { leg: second, origin: Origin::Sticky },
            ],
            [Kind::CallBridged { leg: one, with: other }, Kind::CallBridged { leg: two, with: another }],
        ) => {
            assert_eq!([&first.leg_id, &second.leg_id], [&one.leg_id, &two.leg_id]);
            assert_eq!([other, another], [&two.leg_id, &one.leg_id]);
        }
        others => panic!("{others:?}"),
    }
    let answered: Vec<_> = device.all("call.answered");
    assert_eq!(answered.len(), 2);
    // Whoever leaves takes the other one along.
    over(&mut world, CUSTOMER);
    assert_eq!(closed(&world), (CallResult::Answered, false, 2));
    comes_back(&mut world);
    world.tell(ANNA, ANSWER);
    world.seconds(1);
    over(&mut world, ANNA);
    assert_eq!(closed(&world), (CallResult::Answered, false, 2));
}

#[test]
fn a_call_that_nobody_took_counts_and_one_that_is_too_old_does_not() {
    let mut world = begin(902);
    joins(&mut world, "1003");
    world.tell(BORIS, ANSWER);
    world.seconds(5);
    over(&mut world, BORIS);
    comes_back(&mut world);
    assert_rings(&world, false, false, true);
    over(&mut world, CUSTOMER);
    assert_eq!(closed(&world), (CallResult::Cancelled, true, 2), "nobody took it: it is missed");
    // The call that nobody took says nothing new: it is still the one before that counts, which gets old.
    world.seconds(30 * 60);
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
    assert_eq!(world.phones[DEVICE].all("call.new").len(), 1);
}

#[test]
fn a_clock_that_was_never_set_does_not_know_what_has_just_been() {
    let mut world = begin(31);
    have_talked(&mut world);
    let trouble = Some(("it is 1970".to_owned(), "set it".to_owned()));
    world.input(DEVICE, Input::Part { part: "clock", trouble });
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
    over(&mut world, CUSTOMER);
    world.input(DEVICE, Input::Part { part: "clock", trouble: None });
    comes_back(&mut world);
    assert_rings(&world, false, true, false);
}

#[test]
fn today_ends_at_midnight() {
    let mut world = begin_with(903, "[sticky]\nwithin = \"today\"\n");
    let msk_us = |world: &World| (world.now().utc_us + 3 * 3_600_000_000).rem_euclid(86_400_000_000);
    let until_midnight = Duration::from_micros((86_400_000_000 - msk_us(&world)).unsigned_abs());
    world.run(until_midnight.saturating_sub(Duration::from_secs(60)));
    have_talked(&mut world);
    comes_back(&mut world);
    assert_rings(&world, false, true, false);
    over(&mut world, CUSTOMER);
    world.seconds(60);
    assert!(msk_us(&world) < 120_000_000, "it is past midnight");
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
}

#[test]
fn it_rings_here_where_the_extension_does_not_answer_is_busy_or_gone() {
    let mut world = begin(904);
    have_talked(&mut world);
    comes_back(&mut world);
    world.seconds(10);
    assert_rings(&world, false, true, false);
    world.seconds(2);
    assert_rings(&world, true, false, false);
    world.tell(DEVICE, ANSWER);
    world.seconds(1);
    world.talk(4);
    world.assert_heard(CUSTOMER, DEVICE);
    world.assert_heard(DEVICE, CUSTOMER);
    over(&mut world, DEVICE);
    assert_eq!(closed(&world), (CallResult::Answered, false, 2));
    assert_eq!(world.phones[DEVICE].all("call.ringing").len(), 2, "one for each leg");
    let ends: Vec<CallResult> = world.phones[DEVICE]
        .all("call.ended")
        .into_iter()
        .map(|kind| if let Kind::CallEnded { result, .. } = kind { *result } else { unreachable!() })
        .collect();
    assert_eq!(ends, [CallResult::NoAnswer, CallResult::Answered]);
    // Now it was the person here who talked last.
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
    over(&mut world, CUSTOMER);
    // Busy.
    have_talked(&mut world);
    comes_back(&mut world);
    world.tell(ANNA, Command::Reject { call: None, status: 486 });
    world.millis(300);
    assert_rings(&world, true, false, false);
    over(&mut world, CUSTOMER);
    assert_eq!(closed(&world), (CallResult::Cancelled, true, 2));
    // Gone: nobody is registered there.
    world.tell(ANNA, Command::Unregister { line: "office".into() });
    world.seconds(1);
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
}

#[test]
fn whoever_is_at_the_device_may_be_quicker_and_a_caller_may_give_up() {
    let mut world = begin(905);
    have_talked(&mut world);
    comes_back(&mut world);
    assert_rings(&world, false, true, false);
    world.tell(DEVICE, ANSWER);
    world.seconds(1);
    assert_eq!((state(&world, ANNA), state(&world, CUSTOMER)), ("idle", "active"));
    world.talk(4);
    world.assert_heard(CUSTOMER, DEVICE);
    over(&mut world, CUSTOMER);
    have_talked(&mut world);
    comes_back(&mut world);
    over(&mut world, CUSTOMER);
    assert_eq!(closed(&world), (CallResult::Cancelled, true, 2));
    // Refused at the device while it rings elsewhere.
    comes_back(&mut world);
    world.tell(DEVICE, Command::Reject { call: None, status: 486 });
    world.seconds(6);
    assert!((0..4).all(|phone| world.calls(phone).is_empty()));
}

/// The journal of a phone has a callback of an extension to this number, a minute ago.
pub fn remember(world: &mut World, number: &str, extension: &str) {
    let leg = |leg: &str, number: &str| Leg {
        leg_id: leg.to_owned(),
        sip_call_id: None,
        line: "office".to_owned(),
        direction: Direction::Out,
        caller: Party::numbered("1001"),
        called: Party::numbered(number),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    };
    let started = world.now().utc_us - 60_000_000;
    for leg in [leg("old-1", extension), leg("old-2", number)] {
        let answered_utc_us = Some(started);
        let result = Some(CallResult::Answered);
        let entry = Entry { answered_utc_us, result, ..Entry::begun("old", leg, started) };
        world.phones[DEVICE].kept.push(Write::Call(Box::new(entry)));
    }
}

/// A customer who belongs to 104 calls, with these fields.
fn customer_calls(tables: &str, fields: &[(&str, &str)]) -> Script {
    let mut script = Script::new("max_calls = 4", tables);
    remember(&mut script.world, OUTSIDE, "104");
    let mut customer = Peer::calling(&format!("<sip:{OUTSIDE}@pbx.example>"));
    let mut invite = customer.request(Method::INVITE, Some(audio(MEDIA, "RTP/AVP 8", &[])));
    fields.iter().for_each(|(name, value)| invite.fields.push(name, *value));
    script.hears(invite);
    script
}

/// Where such a call goes.
fn goes_to(fields: &[(&str, &str)]) -> String {
    let mut script = customer_calls(STICKY, fields);
    script.millis(20);
    let invited = |message: &Message| match message {
        Message::Request(request) => Some(request.uri.to_string()),
        Message::Response(_) => None,
    };
    let forth = script.sip.iter().find_map(|(_, message)| invited(message));
    assert_ne!(forth.is_some(), rings(&script.world), "either here or there");
    forth.unwrap_or_else(|| "here".to_owned())
}

#[test]
fn a_call_that_an_extension_sends_on_does_not_go_back_to_extensions() {
    for (diversion, expected) in [
        (None, "sip:104@pbx.example"),
        (Some("<sip:+74957000000@pbx.example>;reason=unconditional"), "sip:104@pbx.example"),
        (Some("<sip:104@pbx.example>;reason=no-answer"), "here"),
        (Some("<sip:105@pbx.example>;reason=user-busy"), "here"),
    ] {
        let fields: Vec<_> = diversion.map(|it| ("Diversion", it)).into_iter().collect();
        assert_eq!(goes_to(&fields), expected, "{diversion:?}");
    }
}

/// It rings at 104; the INVITE there, and whoever got it.
fn rings_at_the_extension(script: &mut Script) -> (Request, Peer) {
    let forth = script.says(Method::INVITE);
    script.replies(180);
    let extension = Peer::answering(&forth, "anna");
    script.hears(extension.response(&forth, 180, None));
    script.is_silent();
    (forth, extension)
}

#[test]
fn an_answer_that_crosses_the_end_of_its_leg_joins_nobody() {
    let mut script = customer_calls(STICKY, &[]);
    let (forth, extension) = rings_at_the_extension(&mut script);
    let legs = script.world.calls(DEVICE);
    let second = legs.iter().find(|call| call.direction == "out").expect("the leg to the extension");
    script.world.tell(DEVICE, Command::HangUp { call: Some(second.leg.clone()) });
    script.says(Method::CANCEL);
    script.hears(extension.response(&forth, 200, Some(audio(MEDIA, "RTP/AVP 8", &[]))));
    script.says(Method::ACK);
    let bye = script.says(Method::BYE);
    script.hears(extension.response(&bye, 200, None));
    script.seconds(1);
    assert!(rings(&script.world), "the caller is there still");
    assert!(!script.phone().has("call.bridged"));
    let states: Vec<_> = script.world.calls(DEVICE).iter().map(|call| call.state).collect();
    assert_eq!(states, ["ringing"]);
}

#[test]
fn who_is_refused_here_rings_nowhere_though_nobody_has_acknowledged_it() {
    let mut script = customer_calls(STICKY, &[]);
    let (forth, extension) = rings_at_the_extension(&mut script);
    let first = script.world.calls(DEVICE).remove(0);
    script.world.tell(DEVICE, Command::Reject { call: Some(first.leg), status: 486 });
    script.millis(20);
    let messages: Vec<Message> = script.sip.drain(..).map(|(_, message)| message).collect();
    let cancel = messages.iter().find_map(|message| match message {
        Message::Request(request) if request.method == Method::CANCEL => Some(request.clone()),
        _ => None,
    });
    let refused = |message: &Message| matches!(message, Message::Response(it) if it.status == 486);
    assert!(messages.iter().any(refused), "{messages:?}");
    script.hears(extension.response(&cancel.expect("the extension stops ringing"), 200, None));
    script.hears(extension.response(&forth, 487, None));
    script.seconds(1);
    assert!(!rings(&script.world) && script.world.calls(DEVICE).is_empty());
}

#[test]
fn who_is_answered_here_is_not_missed_at_the_extension() {
    let mut script = customer_calls(STICKY, &[]);
    rings_at_the_extension(&mut script);
    script.world.tell(DEVICE, ANSWER);
    script.millis(20);
    let cancel = script.sip.iter().find_map(|(_, message)| match message {
        Message::Request(request) if request.method == Method::CANCEL => Some(request.clone()),
        _ => None,
    });
    let reason = cancel.expect("the extension stops ringing").fields.text("Reason").map(String::from);
    assert!(reason.as_deref().is_some_and(|it| it.starts_with("SIP;cause=200")), "{reason:?}");
}

/// The look-up is asked first; whom it names gets the call.
#[test]
fn a_look_up_comes_first() {
    let tables = format!(
        "{STICKY}[lookup]\nkind = \"url\"\nurl = \"https://crm.example\"\npath = \"/?n=$remote_number\"\nwait = true\n"
    );
    for (pin, status) in [(Some("703"), 302), (None, 180)] {
        let mut script = customer_calls(&tables, &[]);
        script.is_silent();
        let question = script.world.phones[DEVICE].questions.remove(0);
        let answer = Ok(Answer::of(Some("Anna"), pin));
        script.world.input(DEVICE, Input::Answered { id: question.id, answer });
        script.millis(20);
        if pin.is_none() {
            let forth = script.says(Method::INVITE);
            assert_eq!(forth.uri.to_string(), "sip:104@pbx.example");
            let shown = format!("Anna {OUTSIDE}");
            assert_eq!(forth.head.from.display, Some(shown), "the extension sees the name, too");
        }
        script.replies(status);
    }
}

#[test]
fn rules_keep_it_from_leading_anywhere_else() {
    for (seed, tables) in [
        (907, ""),
        (908, "[sticky]\nwithin = \"30m\"\nextensions = [\"1003\", \"2*\"]\n"),
        (
            909,
            "[sticky]\nwithin = \"30m\"\nlines = [\"other\"]\n[[line]]\nname = \"other\"\nuser = \"1009\"\ndomain = \"pbx.example\"\npassword = \"secret-1009\"\n",
        ),
        (910, "[sticky]\nwithin = \"30m\"\n[limits]\ndeny = [\"1002\"]\n"),
    ] {
        let mut world = begin(seed);
        have_talked(&mut world);
        configure(&mut world, tables);
        world.seconds(2);
        comes_back(&mut world);
        assert_rings(&world, true, false, false);
        assert!(!world.phones[DEVICE].has("call.refused"), "nobody has asked for anything");
    }
}

#[test]
fn a_call_back_for_help_rings_here() {
    let mut world = begin_with(912, "[emergency]\nnumbers = [\"1003\"]\n[sticky]\nwithin = \"30m\"\n");
    have_talked(&mut world);
    world.tell(DEVICE, call("1003"));
    world.seconds(1);
    world.tell(BORIS, ANSWER);
    world.seconds(1);
    over(&mut world, BORIS);
    comes_back(&mut world);
    assert_rings(&world, true, false, false);
}

#[test]
fn extensions_are_given_back_to_nobody_and_a_full_line_rings_here() {
    let mut world = begin(913);
    have_talked(&mut world);
    world.tell(BORIS, call("1001"));
    world.seconds(1);
    assert!(rings(&world) && state(&world, ANNA) == "idle");
    world.tell(BORIS, HANG_UP);
    world.seconds(2);
    let mut full = World::new(914);
    full.add_phone(device("max_calls = 2\n", STICKY));
    for user in ["1002", "1003", OUTSIDE] {
        full.add_phone(config(user, "", ""));
    }
    full.seconds(1);
    have_talked(&mut full);
    full.tell(BORIS, call("1001"));
    full.seconds(1);
    full.tell(DEVICE, ANSWER);
    full.seconds(1);
    full.tell(CUSTOMER, call("1001"));
    full.seconds(1);
    assert_eq!((full.calls(DEVICE).len(), state(&full, ANNA)), (2, "idle"));
}

#[test]
fn a_journal_that_does_not_answer_costs_a_moment() {
    let mut world = begin(915);
    have_talked(&mut world);
    world.phones[DEVICE].journal_is_stuck = true;
    for phone in &mut world.phones {
        phone.events.clear();
        phone.tones.clear();
    }
    world.tell(CUSTOMER, call("1001"));
    world.millis(280);
    assert!(!rings(&world));
    world.millis(100);
    assert_rings(&world, true, false, false);
}

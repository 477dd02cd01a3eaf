//! Rules that keep calls from ringing or from beginning, and what passes them all.

use std::time::Duration;

use tipring::events::store::Write;
use tipring::events::{AgentState, CallResult, Kind};
use tipring::phone::command::{Callback, Command, End, Reply};
use tipring::phone::{Input, Remembered};

use crate::world::{HANG_UP, World, call, config, parse};

/// The rules that refused something on a phone, in order.
fn rules(world: &World, phone: usize) -> Vec<String> {
    let refused = world.phones[phone].all("call.refused").into_iter().filter_map(|kind| match kind {
        Kind::CallRefused { rule, .. } => Some(rule.clone()),
        _ => None,
    });
    refused.collect()
}

/// Phone 0 calls phone 1 and gives up after a second; whether it rang there.
fn rings(world: &mut World) -> bool {
    let before = world.phones[1].all("call.ringing").len();
    world.tell(0, call("1002"));
    world.seconds(1);
    // The far end may have refused by now.
    let _ = world.ask(0, HANG_UP);
    world.seconds(6);
    world.phones[1].all("call.ringing").len() > before
}

#[test]
fn do_not_disturb_refuses_and_is_remembered() {
    let mut world = World::with_phones(1, 2);
    assert!(rings(&mut world));
    world.tell(1, Command::DoNotDisturb { line: None, on: true });
    assert!(world.snapshot(1).lines[0].dnd);
    assert!(!rings(&mut world));
    assert_eq!(rules(&world, 1), ["line.dnd"]);
    let kept = world.phones[1].kept.iter().any(|write| {
        matches!(write, tipring::events::store::Write::Setting { name, value: Some(value) }
            if name == "dnd.office" && value == "on")
    });
    assert!(kept, "{:?}", world.phones[1].kept);
    world.tell(1, Command::DoNotDisturb { line: Some("office".into()), on: false });
    assert!(rings(&mut world));
}

#[test]
fn an_agent_is_there_or_not_and_that_is_told_when_it_changes_and_remembered() {
    let mut world = World::with_phones(1, 2);
    let state = |world: &World| world.snapshot(1).lines[0].agent;
    let say = |world: &mut World, line: Option<&str>, state| {
        world.tell(1, Command::Agent { line: line.map(str::to_owned), state });
    };
    let told = |world: &World| {
        let of = |name: &str| world.phones[1].all(name).len();
        (of("agent.available"), of("agent.logged_out"))
    };
    use AgentState::{Available, LoggedOut};
    assert_eq!((state(&world), told(&world)), (None, (0, 0)));
    say(&mut world, None, Available);
    say(&mut world, Some("office"), Available);
    assert_eq!((state(&world), told(&world)), (Some(Available), (1, 0)));
    say(&mut world, Some("office"), LoggedOut);
    assert_eq!((state(&world), told(&world)), (Some(LoggedOut), (1, 1)));
    assert!(rings(&mut world), "it is for the PBX to keep calls away");
    let unknown = Command::Agent { line: Some("nowhere".into()), state: Available };
    assert_eq!(world.refusal(1, unknown).code, "no_such_line");
    // The next life knows, and tells nothing anew.
    let mut settings = std::collections::BTreeMap::new();
    for write in &world.phones[1].kept {
        if let Write::Setting { name, value: Some(value) } = write {
            settings.insert(name.clone(), value.clone());
        }
    }
    assert_eq!(settings.get("agent.office").map(String::as_str), Some("logged_out"));
    let remembered = Remembered { settings, ..Remembered::default() };
    let address = "192.0.2.77".parse().expect("an address");
    world.add_phone_with((address, address), config("1002", "", ""), remembered);
    assert_eq!(world.snapshot(2).lines[0].agent, Some(LoggedOut));
    world.tell(2, Command::Agent { line: None, state: LoggedOut });
    assert!(!world.phones[2].has("agent.logged_out"));
}

#[test]
fn an_agent_says_so_by_a_code_that_is_dialled() {
    let codes = "agent_available = \"*45\"\nagent_logged_out = \"#46\"\n";
    let tables = format!("[numbers]\n{codes}[emergency]\nnumbers = [\"112\", \"#46\"]\n");
    let mut world = World::new(1);
    world.add_phone(config("1001", "", &format!("[numbers]\n{codes}")));
    world.add_phone(config("1002", "", &tables));
    world.seconds(1);
    let says = |world: &mut World, phone: usize, to: &str, line: Option<&str>| {
        let outcome = world.ask(phone, Command::Call { to: to.to_owned(), line: line.map(str::to_owned) });
        (outcome, world.snapshot(phone).lines[0].agent)
    };
    use AgentState::{Available, LoggedOut};
    assert_eq!(says(&mut world, 0, "*45", None), (Ok(Reply::Done), Some(Available)));
    assert_eq!(says(&mut world, 0, "# 46", Some("office")), (Ok(Reply::Done), Some(LoggedOut)));
    assert_eq!(says(&mut world, 0, "*45", Some("nowhere")).1, Some(LoggedOut));
    assert!(world.phones[0].has("agent.available") && world.phones[0].has("agent.logged_out"));
    assert!(world.calls(0).is_empty() && !world.phones[0].has("call.new"), "nobody is called");
    // What is nearly one is the PBX's, a number for help is help, and programs call whom they call.
    for (phone, to) in [(0, "*451"), (1, "#46")] {
        let before = world.snapshot(phone).lines[0].agent;
        let (outcome, after) = says(&mut world, phone, to, None);
        assert!(matches!(outcome, Ok(Reply::Call(_))) && after == before, "{to}: {outcome:?}");
        world.seconds(2);
    }
    let end = |number: &str| End { number: number.to_owned(), line: None };
    let back = Callback { from: end("office"), to: end("*45"), ring_for: None, request: None };
    assert!(matches!(world.ask(0, Command::Callback(back)), Ok(Reply::Call(_))));
    assert_eq!(world.snapshot(0).lines[0].agent, Some(LoggedOut));
    let route = Command::Route { numbers: vec!["*45".into(), "*451".into()], line: None };
    let Ok(Reply::Routes(decided)) = world.ask(0, route) else { panic!() };
    let agents: Vec<_> = decided.iter().map(|it| it.agent.map(|said| (said.state, said.rule))).collect();
    assert_eq!(agents, [Some((Available, "numbers.agent_available")), None]);
}

#[test]
fn a_line_answers_by_itself_if_it_is_told_to() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", ""));
    world.add_phone(config("1002", "auto_answer = \"2s\"", ""));
    world.seconds(1);
    world.tell(0, call("1002"));
    world.millis(1900);
    assert_eq!(world.calls(1)[0].state, "ringing");
    world.millis(300);
    assert_eq!(world.calls(1)[0].state, "active");
    world.talk(3);
    world.assert_heard(0, 1);
}

#[test]
fn a_line_that_answers_by_itself_takes_nobody_from_the_talk_or_the_dialling() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "auto_answer = \"5s\"", ""));
    for user in ["1002", "1003", "1004"] {
        world.add_phone(config(user, "", ""));
    }
    world.seconds(1);
    world.tell(1, call("1001"));
    world.seconds(1);
    world.tell(2, call("1001"));
    world.seconds(1);
    let second = world.calls(0)[1].id.clone();
    world.tell(0, Command::Answer { call: Some(second) });
    world.seconds(8);
    let states = |world: &World| world.calls(0).iter().map(|call| call.state).collect::<Vec<_>>();
    assert_eq!(states(&world), ["ringing", "active"]);
    for phone in [1, 2] {
        world.tell(phone, HANG_UP);
    }
    world.seconds(1);
    world.tell(0, call("1004"));
    world.seconds(1);
    world.tell(1, call("1001"));
    world.seconds(8);
    assert_eq!(states(&world), ["ringing", "ringing"], "one there, one here");
    assert!(world.phones[1].has("call.ringing"), "the caller hears that it rings");
}

#[test]
fn a_phone_that_ends_says_no_to_nobody() {
    let mut world = World::with_phones(1, 2);
    world.tell(1, call("1001"));
    world.seconds(1);
    world.input(0, Input::Stop);
    world.seconds(3);
    let ended = world.phones[0].all("call.ended");
    let [Kind::CallEnded { result: CallResult::NoAnswer, .. }] = ended.as_slice() else {
        panic!("{ended:?}")
    };
    let closed = world.phones[0].all("call.closed");
    let [Kind::CallClosed { missed: true, .. }] = closed.as_slice() else { panic!("{closed:?}") };
    let told = world.phones[1].all("call.ended");
    let [Kind::CallEnded { cause, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_ne!(cause.status, Some(603), "others may go on ringing");
}

#[test]
fn a_line_takes_no_more_calls_than_it_may() {
    let mut world = World::new(1);
    for user in ["1001", "1002", "1003"] {
        world.add_phone(config(user, "max_calls = 1", ""));
    }
    world.seconds(1);
    world.connect();
    world.tell(2, call("1001"));
    world.seconds(1);
    assert_eq!(rules(&world, 0), ["line.max_calls"]);
    let ended = world.phones[2].all("call.ended");
    assert!(
        matches!(ended.as_slice(), [Kind::CallEnded { cause, .. }] if cause.status == Some(486)),
        "{ended:?}"
    );
    assert_eq!(world.refusal(0, call("1003")).code, "line_busy");
    world.talk(2);
    world.assert_heard(1, 0);
}

#[test]
fn the_guard_counts_and_forbids() {
    let mut world = World::new(1);
    let tables = "[device]\nserial = \"S\"\ncountry = \"DE\"\n[limits]\ncalls_per_minute = 2\n\
                  allow = [\"1*\", \"6*\"]\ndeny = [\"1666\", \"international\", \"premium\"]\n";
    world.add_phone(parse(&format!(
        "{tables}[[line]]\nname = \"office\"\nuser = \"1001\"\ndomain = \"pbx.example\"\npassword = \"secret-1001\"\n"
    )));
    world.seconds(1);
    for number in ["0900123456", "0044123456789"] {
        assert_eq!(world.refusal(0, call(number)).code, "refused", "{number}");
    }
    for _ in 0..2 {
        world.tell(0, call("600"));
        world.seconds(1);
        world.tell(0, HANG_UP);
        world.seconds(1);
    }
    assert_eq!(world.refusal(0, call("600")).code, "refused");
    assert_eq!(rules(&world, 0).last().map(String::as_str), Some("limits.calls_per_minute"));
    assert_eq!(world.phones[0].all("limit.reached").len(), 1);
    world.seconds(60);
    world.tell(0, call("600"));
}

#[test]
fn a_forbidden_number_is_forbidden_however_it_is_written() {
    let mut world = World::new(1);
    let tables = "[limits]\ndeny = [\"international\", \"premium\", \"666\"]\n";
    let mut config = config("1001", "", tables);
    config.device.country = "DE".into();
    world.add_phone(config);
    world.seconds(1);
    for number in [
        "0900123456",
        "0900/12-34.56",
        "sip:0900123456@pbx.example",
        "sip:%30900123456@pbx.example",
        "sip:0900123456;cpc=x@pbx.example",
        "0900123456;ext=1@pbx.example",
        "sip:0900-123456:pw@pbx.example",
        "sip:0900123456%3Bx@pbx.example",
        "tel:0900-123456;phone-context=+49",
        "tel:20123456;phone-context=+44",
        "sip:20123456;phone-context=+44@pbx.example;user=phone",
        "tel:+44123456789",
        "sip:+44123456789@198.51.100.1;user=phone",
        "666",
        "sip:666;x=y@pbx.example",
    ] {
        assert_eq!(
            world.ask(0, call(number)).map_err(|refusal| refusal.code).err(),
            Some("refused"),
            "{number}"
        );
    }
}

#[test]
fn the_longest_duration_ends_a_call() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", "[limits]\nmax_duration = \"1m\"\n"));
    world.seconds(1);
    world.tell(0, call("600"));
    world.seconds(59);
    assert_eq!(world.calls(0).len(), 1);
    world.seconds(3);
    assert!(world.calls(0).is_empty());
    let ended = world.phones[0].all("call.ended");
    let [Kind::CallEnded { cause, talk_us, .. }] = ended.as_slice() else { panic!("{ended:?}") };
    assert!(cause.text.as_deref().is_some_and(|text| text.contains("longest duration")), "{cause:?}");
    assert!((59_900_000..60_200_000).contains(talk_us), "{talk_us}");
}

#[test]
fn help_is_called_whatever_the_rules_say() {
    let mut world = World::new(1);
    let tables = "[limits]\nallow = [\"600\"]\ndeny = [\"*\"]\ncalls_per_minute = 1\n[emergency]\nnumbers = [\"112\"]\n";
    world.add_phone(config("1001", "dnd = true", tables));
    world.pbx.set_number("112", tipring::demo::pbx::Service::Echo);
    world.seconds(1);
    assert_eq!(world.refusal(0, call("700")).code, "refused");
    for _ in 0..3 {
        world.tell(0, call("112"));
        world.seconds(1);
        assert_eq!(world.calls(0)[0].state, "active");
        world.tell(0, HANG_UP);
        world.seconds(1);
    }
    let told = world.phones[0].all("call.emergency");
    assert_eq!(told.len(), 3);
    let overruled = |kind: &Kind| match kind {
        Kind::CallEmergency { overruled, .. } => overruled.clone(),
        _ => Vec::new(),
    };
    assert!(!overruled(told[0]).is_empty(), "{told:?}");
}

/// By a speed key that still has the name of a line that was removed.
#[test]
fn help_is_called_although_the_line_that_is_asked_for_is_gone() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", ""));
    world.pbx.set_number("112", tipring::demo::pbx::Service::Echo);
    world.seconds(1);
    let over = |to: &str| Command::Call { to: to.to_owned(), line: Some("removed".to_owned()) };
    assert_eq!(world.refusal(0, over("600")).code, "no_such_line");
    world.tell(0, over("112"));
    world.seconds(1);
    assert_eq!(world.calls(0)[0].state, "active");
}

#[test]
fn whoever_was_called_for_help_may_call_back_through_do_not_disturb() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "dnd = true", "[emergency]\nnumbers = [\"112\"]\n"));
    world.add_phone(config("1002", "", ""));
    world.pbx.set_number("112", tipring::demo::pbx::Service::Echo);
    world.seconds(1);
    world.tell(0, call("112"));
    world.seconds(1);
    world.tell(1, call("1001"));
    world.seconds(1);
    assert_eq!(world.calls(0).len(), 2);
    assert_eq!(rules(&world, 0), Vec::<String>::new());
}

#[test]
fn help_is_called_over_a_full_line_that_is_not_registered_and_as_long_as_it_takes() {
    let mut world = World::new(1);
    let tables = "[limits]\nmax_duration = \"1m\"\ncalls_per_day = 1\nminutes_per_day = 1\n";
    world.add_phone(config("1001", "max_calls = 1", tables));
    world.pbx.challenge_calls = false;
    for number in ["112", "0112", "911;cpc=x"] {
        world.pbx.set_number(number, tipring::demo::pbx::Service::Echo);
    }
    world.seconds(1);
    world.tell(0, call("600"));
    world.seconds(1);
    assert_eq!(world.refusal(0, call("600")).code, "line_busy");
    let spelled = ["sip:112@198.51.100.1", "tel:112", "sip:911;cpc=x@pbx.example", "0112", "112"];
    for (index, to) in spelled.into_iter().enumerate() {
        world.tell(0, call(to));
        world.seconds(1);
        let told = world.phones[0].all("call.emergency");
        assert_eq!(told.len(), index + 1, "{to}");
        let ours = world.calls(0).pop().expect("a call");
        assert_eq!(ours.state, "active", "{to}");
        world.seconds(if index == 4 { 120 } else { 1 });
        assert!(world.calls(0).iter().any(|call| call.id == ours.id), "no limit ends it");
        world.tell(0, Command::HangUp { call: Some(ours.id) });
        world.seconds(1);
    }
    assert!(world.calls(0).is_empty(), "the limit has ended the other call");
    world.pbx.manners().refuse = Some((503, None));
    world.tell(0, Command::Register { line: "office".into() });
    world.seconds(1);
    assert_eq!(world.refusal(0, call("600")).code, "no_line");
    world.tell(0, call("112"));
    world.seconds(1);
    assert_eq!(world.calls(0).pop().map(|call| call.state), Some("active"));
}

/// The digits of an emergency number at a host that is not the PBX are a way around the limits for whoever owns that host.
#[test]
fn an_emergency_number_elsewhere_passes_no_rule() {
    let mut world = World::new(1);
    world.names.add_address("evil.example", "203.0.113.66".parse().expect("an address"));
    world.add_phone(config("1001", "", "[limits]\ndeny = [\"1*\"]\n"));
    world.seconds(1);
    for to in
        ["sip:112@evil.example", "112@evil.example", "sip:112@203.0.113.66", "sip:112;x=y@evil.example:5070"]
    {
        assert_eq!(world.refusal(0, call(to)).code, "refused", "{to}");
    }
    assert_eq!(rules(&world, 0), ["limits.deny"; 4]);
    assert!(!world.phones[0].has("call.emergency"));
}

#[test]
fn the_call_back_of_the_helper_comes_through_after_the_call_too() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "dnd = true", ""));
    world.add_phone(config("1002", "", ""));
    world.pbx.set_number("112", tipring::demo::pbx::Service::Echo);
    world.seconds(1);
    world.tell(0, call("112"));
    world.seconds(5);
    world.tell(0, HANG_UP);
    for (minutes, rings) in [(10, true), (60, false)] {
        world.seconds(minutes * 60);
        world.tell(1, call("1001"));
        world.seconds(2);
        assert_eq!(world.calls(0).len() == 1, rings, "after {minutes} minutes more");
        world.ask(1, HANG_UP).ok();
        world.seconds(2);
    }
    assert_eq!(rules(&world, 0), ["line.dnd"]);
}

#[test]
fn no_new_configuration_ends_a_call_for_help() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", ""));
    world.pbx.set_number("112", tipring::demo::pbx::Service::Echo);
    world.seconds(1);
    world.tell(0, call("112"));
    world.seconds(2);
    let new = config("1003", "display_name = \"other\"", "");
    let new = Input::Configured { file: "world.toml".into(), config: Box::new(new), warnings: 0 };
    world.input(0, new);
    let none = parse("[device]\nserial = \"S\"\n");
    world.input(0, Input::Configured { file: "world.toml".into(), config: Box::new(none), warnings: 0 });
    world.seconds(60);
    assert_eq!(world.calls(0)[0].state, "active");
    assert!(!world.phones[0].has("config.applied"));
    world.tell(0, HANG_UP);
    world.seconds(2);
    assert_eq!(world.phones[0].all("config.applied").len(), 1, "the last one counts");
    assert!(world.snapshot(0).lines.is_empty());
}

#[test]
fn a_new_configuration_keeps_the_calls_of_lines_that_did_not_change() {
    let line = |name: &str, user: &str, more: &str| {
        format!(
            "[[line]]\nname = \"{name}\"\nuser = \"{user}\"\ndomain = \"pbx.example\"\npassword = \"secret-{user}\"\n{more}\n"
        )
    };
    let mut world = World::new(1);
    world.add_phone(parse(&(line("a", "1001", "") + &line("b", "1003", ""))));
    world.add_phone(config("1002", "", ""));
    world.seconds(1);
    world.connect();
    world.tell(0, Command::Call { to: "600".into(), line: Some("b".into()) });
    world.seconds(2);
    assert_eq!(world.calls(0).len(), 2);
    let held = world.calls(0)[0].id.clone();
    let new = parse(&(line("a", "1001", "") + &line("c", "1004", "")));
    let input = Input::Configured { file: "world.toml".into(), config: Box::new(new), warnings: 0 };
    world.input(0, input);
    world.seconds(2);
    let calls = world.calls(0);
    assert_eq!((calls.len(), calls[0].line.as_str()), (1, "a"), "{calls:?}");
    let applied = world.phones[0].all("config.applied");
    let [Kind::ConfigApplied { changed, removed, .. }] = applied.as_slice() else { panic!("{applied:?}") };
    assert_eq!((changed.as_slice(), removed.as_slice()), (&["c".to_owned()][..], &["b".to_owned()][..]));
    assert!(
        world.pbx.registrar().sources(world.now(), "1003").is_empty(),
        "the old line took its binding back"
    );
    assert_eq!(world.pbx.registrar().sources(world.now(), "1004").len(), 1);
    world.tell(0, Command::Resume { call: Some(held) });
    world.seconds(1);
    world.talk(3);
    world.assert_heard(1, 0);
    world.assert_heard(0, 1);
}

#[test]
fn an_orderly_end_hangs_up_and_unregisters() {
    let mut world = World::with_phones(1, 2);
    world.connect();
    world.input(0, Input::Stop);
    world.run(Duration::from_secs(3));
    assert!(world.phones[0].stopped);
    assert!(world.pbx.registrar().sources(world.now(), "1001").is_empty());
    assert!(world.calls(1).is_empty());
    let told = world.phones[0].told();
    assert!(
        told.ends_with(&["call.ended", "call.closed"]) || told.ends_with(&["line.unregistered"]),
        "{told:?}"
    );
    assert!(world.phones[0].has("call.closed"));
    assert_eq!(world.refusal(0, call("600")).code, "stopping");
    assert_eq!(world.pbx.calls(), 0);
}

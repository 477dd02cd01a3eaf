//! The number plan in calls: what is dialled, over which line, and what passes it.

use tipring::demo::pbx::Service;
use tipring::events::{CallResult, Kind, Leg};
use tipring::phone::Input;
use tipring::phone::command::{Command, Reply};

use crate::world::{HANG_UP, World, call, parse};

const RUSSIA: &str = "[device]\nserial = \"S\"\ncountry = \"RU\"\n[numbers]\narea_code = \"495\"\n";

/// A line with more keys.
fn line(name: &str, user: &str, more: &str) -> String {
    format!(
        "[[line]]\nname = \"{name}\"\nuser = \"{user}\"\ndomain = \"pbx.example\"\npassword = \"secret-{user}\"\n{more}\n"
    )
}

/// A phone with this configuration, whose PBX answers these numbers.
fn world(text: &str, numbers: &[&str]) -> World {
    let mut world = World::new(1);
    world.add_phone(parse(text));
    numbers.iter().for_each(|number| world.pbx.set_number(number, Service::Echo));
    world.seconds(1);
    world
}

/// Calls a number and hangs up; the leg as it was told, if it was answered.
fn talk(world: &mut World, to: &str) -> Leg {
    world.tell(0, call(to));
    world.seconds(1);
    assert_eq!(world.calls(0).first().map(|call| call.state), Some("active"), "{to}");
    world.tell(0, HANG_UP);
    world.seconds(1);
    let told = world.phones[0].all("call.answered");
    let Some(Kind::CallAnswered { leg, .. }) = told.last() else { panic!("{told:?}") };
    leg.clone()
}

#[test]
fn a_line_is_asked_for_numbers_in_its_format_and_events_tell_what_was_dialled() {
    let text = format!("{RUSSIA}{}", line("office", "1001", "number_format = \"+e164\""));
    let mut world = world(&text, &["+74954451120", "600"]);
    for (dialled, told) in [
        ("445-11-20", "4451120"),
        ("8 (495) 445-11-20", "84954451120"),
        ("+7 495 445 11 20", "+74954451120"),
        ("tel:+74954451120", "+74954451120"),
    ] {
        let called = talk(&mut world, dialled).called;
        let number = called.number.expect("a number");
        assert_eq!((number.dialled.as_str(), number.e164.as_deref()), (told, Some("+74954451120")));
        assert!(
            called
                .uri
                .is_some_and(|uri| uri.contains("+74954451120@pbx.example") || uri == "tel:+74954451120")
        );
    }
    let internal = talk(&mut world, "600").called.number.expect("a number");
    assert_eq!((internal.dialled.as_str(), internal.e164), ("600", None));
}

#[test]
fn a_rule_leads_a_call_over_its_line_and_writes_the_number() {
    let rules = "[[route]]\nmatch = '^8\\d{10}$'\nvia = \"mobile\"\nstrip = 1\nprepend = \"007\"\n";
    let text = format!("{RUSSIA}{rules}{}{}", line("office", "1001", ""), line("mobile", "1002", ""));
    let mut world = world(&text, &["0074954451120", "600"]);
    let leg = talk(&mut world, "8 (495) 445-11-20");
    assert_eq!(leg.line, "mobile");
    let number = leg.called.number.expect("a number");
    assert_eq!((number.dialled.as_str(), number.e164.as_deref()), ("84954451120", Some("+74954451120")));
    assert_eq!(leg.called.uri.as_deref(), Some("sip:0074954451120@pbx.example"));
    assert_eq!(talk(&mut world, "600").line, "office");
    // What `tipring route` says is what happens.
    let asked = Command::Route { numbers: vec!["84954451120".into(), "600".into()], line: None };
    let Ok(Reply::Routes(decided)) = world.ask(0, asked) else { panic!("no decision") };
    let told: Vec<_> = decided.iter().map(|it| (it.sent.as_str(), it.line.as_deref(), it.rule)).collect();
    assert_eq!(told, [("0074954451120", Some("mobile"), Some(1)), ("600", Some("office"), None)]);
}

#[test]
fn no_rule_leads_around_the_limits() {
    let rules = "[[route]]\nmatch = '^5'\nstrip = 1\n[[route]]\nmatch = '^6(\\d+)$'\nto = \"+44$1\"\n\
                 [[route]]\nmatch = '^7'\nvia = \"abroad\"\n";
    let abroad = line("abroad", "1002", "country = \"UA\"\nnumber_format = \"national\"");
    let mut world = world(&format!("{RUSSIA}{rules}{}{abroad}", line("office", "1001", "")), &[]);
    for number in ["5810442079460958", "62079460958", "810442079460958", "+38 063 123-45-67"] {
        assert_eq!(world.refusal(0, call(number)).code, "refused", "{number}");
        let asked = world.ask(0, Command::Route { numbers: vec![number.into()], line: None });
        let Ok(Reply::Routes(decided)) = asked else { panic!("no decision") };
        assert_eq!(decided[0].refused.as_ref().map(|it| it.rule), Some("limits.deny"), "{number}");
    }
}

#[test]
fn a_call_whose_line_is_away_is_refused_and_goes_over_no_other() {
    let rules = "[[route]]\nmatch = '^6'\nvia = \"mobile\"\n";
    let lines = line("office", "1001", "") + &line("mobile", "1002", "");
    let mut world = world(&format!("{RUSSIA}{rules}{lines}"), &["600"]);
    world.tell(0, Command::Unregister { line: "mobile".into() });
    world.seconds(1);
    let refusal = world.refusal(0, call("600"));
    assert_eq!(refusal.code, "no_line");
    assert!(refusal.message.contains("line mobile is not registered"), "{refusal}");
    assert!(world.calls(0).is_empty());
}

#[test]
fn a_new_rule_holds_from_the_next_call_on() {
    let lines = line("office", "1001", "");
    let mut world = world(&format!("{RUSSIA}{lines}"), &["600", "601"]);
    world.tell(0, call("600"));
    world.seconds(1);
    let new = parse(&format!("{RUSSIA}[[route]]\nmatch = '^600$'\nto = \"601\"\n{lines}"));
    world.input(0, Input::Configured { file: "world.toml".into(), config: Box::new(new), warnings: 0 });
    world.seconds(1);
    assert_eq!(world.calls(0).len(), 1, "the call goes on");
    world.tell(0, HANG_UP);
    world.seconds(1);
    assert!(talk(&mut world, "600").called.uri.is_some_and(|uri| uri.contains("601@")));
}

#[test]
fn help_passes_the_number_plan() {
    let rules = "[emergency]\nnumbers = [\"112\"]\n[[route]]\nmatch = '^.*$'\nvia = \"mobile\"\nto = \"600\"\npriority = 0\n";
    let lines = line("office", "1001", "number_format = \"+e164\"") + &line("mobile", "1002", "");
    let mut world = world(&format!("{RUSSIA}{rules}{lines}"), &["112", "0112", "600"]);
    for number in ["112", "0112", "1-1-2", "tel:112", "sip:112@pbx.example"] {
        let leg = talk(&mut world, number);
        assert_eq!(leg.line, "office", "{number}");
        assert!(leg.called.uri.is_some_and(|uri| uri.contains("112")), "{number}");
    }
    assert_eq!(world.phones[0].all("call.emergency").len(), 5);
    assert_eq!(talk(&mut world, "445-11-20").line, "mobile");
}

#[test]
fn hostile_numbers_are_refused_before_any_rule_is_asked() {
    let rules = "[[route]]\nmatch = '^(.*)$'\nto = \"$1\"\n";
    let mut world = world(&format!("{RUSSIA}{rules}{}", line("office", "1001", "")), &[]);
    for number in ["", "1\r\nVia: x", "\u{0}", &"1".repeat(1 << 20)] {
        assert_eq!(world.refusal(0, call(number)).code, "wrong_target");
        let asked = Command::Route { numbers: vec![number.to_owned()], line: None };
        assert_eq!(world.refusal(0, asked).code, "wrong_target");
    }
    let many = Command::Route { numbers: vec!["1".into(); 101], line: None };
    assert_eq!(world.refusal(0, many).code, "wrong_numbers");
    let nowhere = Command::Route { numbers: vec!["1".into()], line: Some("nowhere".into()) };
    assert_eq!(world.refusal(0, nowhere).code, "no_such_line");
}

/// The PBX calls 1001 for a caller of this identity, who has dialled a number of the company; the rule that refused it, if
/// one did.
fn comes(world: &mut World, caller: &str) -> Option<String> {
    let before = world.phones[0].all("call.refused").len();
    let fields = [("P-Asserted-Identity", caller), ("P-Called-Party-ID", "<sip:84957654321@pbx.example>")];
    let now = world.now();
    world.pbx.call(now, "1001", &fields).expect("1001 is registered");
    world.drain();
    world.seconds(1);
    let told = world.phones[0].all("call.refused");
    let rule = told.get(before).map(|kind| match kind {
        Kind::CallRefused { leg, rule, .. } => {
            let did = leg.did.as_ref().and_then(|number| number.e164.as_deref());
            assert_eq!(did, Some("+74957654321"), "the event says which number was called");
            rule.clone()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(world.calls(0).last().is_some_and(|call| call.state == "ringing"), rule.is_none());
    let _ = world.ask(0, HANG_UP);
    world.seconds(1);
    rule
}

/// What the last call came to.
fn last_end(world: &World) -> (CallResult, Option<u16>, bool) {
    let (ended, closed) = (world.phones[0].all("call.ended"), world.phones[0].all("call.closed"));
    match (ended.last(), closed.last()) {
        (Some(Kind::CallEnded { result, cause, .. }), Some(Kind::CallClosed { missed, .. })) => {
            (*result, cause.status, *missed)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_caller_on_the_black_list_does_not_ring_however_the_number_is_written() {
    let list = "[blacklist]\nnumbers = [\"8 (495) 445-11-20\", \"+7 800 *\", \"international\"]\n[emergency]\nnumbers = [\"112\"]\n";
    let mut world = world(&format!("{RUSSIA}{list}{}", line("office", "1001", "")), &["112"]);
    let barred = Some("blacklist.numbers".to_owned());
    for caller in [
        "<sip:+74954451120@pbx.example>",
        "<sip:4451120@pbx.example>",
        "\"+7 495 445-11-20\" <sip:trunk@pbx.example>",
        "<tel:8-800-123-45-67>",
        "<sip:810493012345678@pbx.example;user=phone>",
    ] {
        assert_eq!(comes(&mut world, caller), barred, "{caller}");
    }
    assert_eq!(last_end(&world), (CallResult::Barred, Some(403), false));
    for caller in ["<sip:+74954451121@pbx.example>", "<sip:101@pbx.example>"] {
        assert_eq!(comes(&mut world, caller), None, "{caller}");
    }
    // Who was called for help may call from anywhere.
    talk(&mut world, "112");
    assert_eq!(comes(&mut world, "<sip:+74954451120@pbx.example>"), None);
}

#[test]
fn out_of_hours_calls_are_refused_missed_and_told_with_rule_and_number() {
    // A story begins on Friday, 2026-11-20, at 15:00 in Moscow.
    let hours = "timezone = \"MSK-3\"\n[hours]\nopen = [\"mon-fri 09:00-15:01\"]\nholidays = [\"11-21\"]\nclosed = \"refuse\"\n\
                 [[route]]\nmatch = '^0$'\nhours = \"closed\"\nto = \"601\"\n[[route]]\nmatch = '^0$'\nhours = \"open\"\nto = \"600\"\n";
    let text = format!("[device]\nserial = \"S\"\ncountry = \"RU\"\n{hours}{}", line("office", "1001", ""));
    let mut world = world(&text, &["600", "601"]);
    let anna = "<sip:+74954451120@pbx.example>";
    assert_eq!(comes(&mut world, anna), None);
    assert!(talk(&mut world, "0").called.uri.is_some_and(|uri| uri.contains("600@")));
    world.seconds(60);
    assert_eq!(comes(&mut world, anna).as_deref(), Some("hours.open"));
    assert_eq!(last_end(&world), (CallResult::NoAnswer, Some(480), true));
    assert!(talk(&mut world, "0").called.uri.is_some_and(|uri| uri.contains("601@")));
    // A clock that was never set closes nothing.
    let trouble = Some(("not set".to_owned(), "set it".to_owned()));
    world.input(0, Input::Part { part: "clock", trouble });
    assert_eq!(comes(&mut world, anna), None);
}

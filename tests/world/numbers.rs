//! The number plan in calls: what is dialled, over which line, and what passes it.

use tipring::demo::pbx::Service;
use tipring::events::{Kind, Leg};
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

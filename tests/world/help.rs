//! A call for help finds a way, over whatever line there is.

use std::net::IpAddr;

use tipring::demo::pbx::Service;
use tipring::events::{CallResult, Kind};
use tipring::phone::command::Command;
use tipring::sip::method::Method;

use crate::script::{Peer, Script};
use crate::world::{HANG_UP, World, call, parse};

/// Where nobody is.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 77));

fn line(name: &str, user: &str, domain: &str, more: &str) -> String {
    format!(
        "[[line]]\nname = \"{name}\"\nuser = \"{user}\"\ndomain = \"{domain}\"\npassword = \"secret-{user}\"\n{more}\n"
    )
}

fn world(lines: &[String]) -> World {
    let mut world = World::new(1);
    world.names.add_address("silent.example", NOBODY);
    let tables =
        "[device]\nserial = \"S\"\n[emergency]\nnumbers = [\"112\", \"911\"]\n[limits]\ndeny = [\"*\"]\n";
    world.add_phone(parse(&format!("{tables}{}", lines.concat())));
    world.pbx.set_number("112", Service::Echo);
    world.seconds(1);
    world
}

/// Each leg that has ended: its name, its line, what became of it.
fn ended(world: &World) -> Vec<(String, String, CallResult)> {
    let ended = world.phones[0].all("call.ended").into_iter().filter_map(|kind| match kind {
        Kind::CallEnded { leg, result, .. } => {
            let number = leg.leg_id.rsplit('-').next().unwrap_or_default();
            Some((number.to_owned(), leg.line.clone(), *result))
        }
        _ => None,
    });
    ended.collect()
}

fn talks_over(world: &World) -> Option<String> {
    world.calls(0).iter().find(|call| call.state == "active").map(|call| call.line.clone())
}

#[test]
fn a_line_that_can_go_out_is_taken_before_one_that_cannot() {
    let office = line("office", "1001", "pbx.example", "");
    for away in [
        line("away", "1002", "unknown.example", "register = false"),
        line("away", "1002", "silent.example", ""),
        line("away", "no-such-user", "pbx.example", ""),
    ] {
        let mut world = world(&[away.clone(), office.clone()]);
        for wish in [None, Some("away".to_owned())] {
            world.tell(0, Command::Call { to: "112".into(), line: wish.clone() });
            world.seconds(1);
            assert_eq!(talks_over(&world).as_deref(), Some("office"), "{away} {wish:?}");
            world.tell(0, HANG_UP);
            world.seconds(1);
        }
        assert!(ended(&world).iter().all(|(number, _, _)| number == "1"));
    }
}

#[test]
fn the_pbx_that_is_named_with_the_number_may_be_the_one_that_is_away() {
    let away = line("away", "1002", "silent.example", "");
    let mut world = world(&[away, line("office", "1001", "pbx.example", "")]);
    world.tell(0, call("sip:112@silent.example"));
    world.seconds(1);
    assert_eq!(talks_over(&world).as_deref(), Some("office"));
    assert_eq!(world.phones[0].all("call.emergency").len(), 1);
}

#[test]
fn where_one_line_leads_nowhere_the_next_one_is_tried_in_the_same_call() {
    let silent = line("silent", "1002", "silent.example", "register = false");
    let lines = [silent, line("office", "1001", "pbx.example", ""), line("third", "1003", "pbx.example", "")];
    let mut world = world(&lines);
    world.tell(0, call("112"));
    world.seconds(18);
    assert_eq!(talks_over(&world), None);
    let id = world.calls(0)[0].id.clone();
    world.seconds(4);
    assert_eq!(talks_over(&world).as_deref(), Some("office"));
    assert_eq!(world.calls(0)[0].id, id);
    assert!(!world.phones[0].has("call.closed"), "it is one call");
    world.talk(3);
    world.assert_heard(0, 0);
    world.seconds(20);
    world.tell(0, HANG_UP);
    world.seconds(1);
    let both = [("1", "silent", CallResult::Unreachable), ("2", "office", CallResult::Answered)];
    assert_eq!(ended(&world), both.map(|(leg, line, result)| (leg.to_owned(), line.to_owned(), result)));
    let closed = world.phones[0].all("call.closed");
    let [Kind::CallClosed { legs: 2, result: CallResult::Answered, .. }] = closed.as_slice() else {
        panic!("{closed:?}")
    };
    assert_eq!(world.phones[0].all("call.emergency").len(), 2);
}

#[test]
fn each_line_is_tried_once_and_the_end_is_told() {
    let lines = ["1001", "1002", "1003"].map(|user| line(user, user, "pbx.example", ""));
    let mut world = world(&lines);
    // The PBX does not know the number.
    world.tell(0, call("911"));
    world.seconds(3);
    assert!(world.calls(0).is_empty());
    let lines: Vec<_> = ended(&world).into_iter().map(|(_, line, _)| line).collect();
    assert_eq!(lines, ["1001", "1002", "1003"]);
    assert_eq!(world.phones[0].all("call.closed").len(), 1);
}

#[test]
fn whoever_hangs_up_or_is_busy_is_not_called_by_another_line() {
    let lines = ["1001", "1002"].map(|user| line(user, user, "pbx.example", ""));
    let mut world = world(&lines);
    world.pbx.set_number("112", Service::Unanswered);
    world.tell(0, call("112"));
    world.seconds(2);
    world.tell(0, HANG_UP);
    world.seconds(2);
    world.pbx.set_number("112", Service::Refuse(486));
    world.tell(0, call("112"));
    world.seconds(2);
    assert!(world.calls(0).is_empty());
    let results: Vec<_> = ended(&world).into_iter().map(|(_, line, result)| (line, result)).collect();
    let expected = [CallResult::Cancelled, CallResult::Busy].map(|result| ("1001".to_owned(), result));
    assert_eq!(results, expected);
}

/// The PBX's way out is stuck: it says that it tries, and nothing more.
#[test]
fn a_pbx_that_only_tries_is_left_for_the_next_line_and_is_not_given_up_without_one() {
    let lines = ["1001", "1002"].map(|user| line(user, user, "pbx.example", ""));
    let mut world = world(&lines);
    world.pbx.set_number("112", Service::Stuck);
    world.tell(0, call("112"));
    world.seconds(10);
    world.pbx.set_number("112", Service::Echo);
    assert_eq!(talks_over(&world), None);
    world.seconds(15);
    assert_eq!(talks_over(&world).as_deref(), Some("1002"));
    world.tell(0, HANG_UP);
    world.seconds(2);
    let both = [("1001", CallResult::Unreachable), ("1002", CallResult::Answered)];
    let told: Vec<_> = ended(&world).into_iter().map(|(_, line, result)| (line, result)).collect();
    assert_eq!(told, both.map(|(line, result)| (line.to_owned(), result)));
    let mut world = self::world(&lines[..1]);
    world.pbx.set_number("112", Service::Stuck);
    world.tell(0, call("112"));
    world.seconds(500);
    assert_eq!(world.calls(0)[0].state, "dialing");
}

#[test]
fn whoever_waits_in_a_queue_is_not_taken_out_of_it() {
    let first = line("first", "1002", "pbx.example", "register = false");
    let mut script = Script::new("", &first);
    script.world.tell(0, call("112"));
    let invite = script.says(Method::INVITE);
    script.hears(Peer::answering(&invite, "queue").response(&invite, 182, None));
    script.seconds(700);
    script.is_silent();
    assert_eq!(script.world.calls(0).len(), 1);
}

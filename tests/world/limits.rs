//! What `[limits]` counts, whatever the clock says.

use tipring::events::Kind;
use tipring::events::store::{Usage, Write};
use tipring::phone::Remembered;

use crate::world::{HANG_UP, World, call, config};

/// Ten past midnight of 1 January 1970: what a device shows that has no clock of its own.
const UNSET_US: i64 = 600_000_000;
const HOUR_US: i64 = 3_600_000_000;
const LIMITS: &str = "[limits]\ncalls_per_day = 3\n";

fn begin(usage: &[Usage]) -> World {
    let mut world = World::new(1);
    let address = "192.0.2.11".parse().expect("an address");
    let memory = Remembered { usage: usage.to_vec(), clean: true, ..Remembered::default() };
    world.set_clock(UNSET_US);
    world.add_phone_with((address, address), config("1001", "", LIMITS), memory);
    world.seconds(1);
    world
}

/// Whether a call is let through.
fn calls(world: &mut World) -> bool {
    let begun = world.ask(0, call("600")).is_ok();
    world.seconds(1);
    if begun {
        world.tell(0, HANG_UP);
        world.seconds(1);
    }
    begun
}

fn used(day: &str, calls: u64) -> Usage {
    Usage { day: day.into(), line: "office".into(), calls, talk_us: 0 }
}

/// The days on which calls were counted.
fn days(world: &World) -> Vec<&str> {
    let kept = world.phones[0].kept.iter().filter_map(|write| match write {
        Write::Usage(usage) if usage.calls > 0 => Some(usage.day.as_str()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn no_power_cut_begins_a_day_anew_while_the_clock_is_not_set() {
    let noon_us = World::new(1).now().utc_us;
    let mut world = begin(&[used("2026-11-18", 3), used("2026-11-20", 2)]);
    assert!(calls(&mut world));
    assert!(!calls(&mut world), "it may still be the same day");
    world.set_clock(noon_us);
    assert!(!calls(&mut world), "and it is");
    world.set_clock(noon_us + 24 * HOUR_US);
    assert!(calls(&mut world));
    assert_eq!(days(&world), ["2026-11-21"]);
    // A clock that was wrong and is set again.
    world.set_clock(noon_us);
    assert!(!calls(&mut world));
    assert_eq!(world.phones[0].all("limit.reached").len(), 2, "told once a day");
}

#[test]
fn what_was_used_before_the_clock_was_set_was_used_today() {
    let noon_us = World::new(1).now().utc_us;
    let mut world = begin(&[]);
    assert!(calls(&mut world) && calls(&mut world));
    world.set_clock(noon_us);
    assert!(calls(&mut world));
    assert!(!calls(&mut world));
    assert_eq!(days(&world), ["2026-11-20"]);
}

#[test]
fn a_device_that_never_learns_the_date_is_not_blocked_for_good() {
    // What earlier versions have counted, in all lives together; and a clock that was set once, and never again.
    for left in ["1970-01-01", "2026-11-18"] {
        no_day_is_blocked_for_good(begin(&[used(left, if left < "2000" { 900 } else { 0 })]));
    }
}

fn no_day_is_blocked_for_good(mut world: World) {
    for _ in 0..2 {
        for _ in 0..3 {
            assert!(calls(&mut world));
        }
        assert!(!calls(&mut world));
        world.seconds(23 * 3600);
        assert!(!calls(&mut world), "the day is not over");
        world.seconds(3600);
    }
    assert!(calls(&mut world));
    assert!(days(&world).is_empty(), "no life counts for another one");
}

#[test]
fn the_minutes_of_a_day_are_counted_and_begin_anew() {
    let mut world = World::new(1);
    world.add_phone(config("1001", "", "[limits]\nminutes_per_day = 2\n"));
    world.seconds(1);
    for (seconds, more) in [(70, true), (60, false)] {
        world.tell(0, call("600"));
        world.seconds(seconds);
        world.tell(0, HANG_UP);
        world.seconds(1);
        assert_eq!(world.ask(0, call("700")).is_ok(), more, "after {seconds} s");
        let _ = world.ask(0, HANG_UP);
        world.seconds(2);
    }
    let told = world.phones[0].all("limit.reached");
    assert!(
        matches!(told.as_slice(), [Kind::LimitReached { limit, value: 2, .. }] if limit == "limits.minutes_per_day"),
        "{told:?}"
    );
    let tomorrow_us = world.now().utc_us + 24 * HOUR_US;
    world.set_clock(tomorrow_us);
    assert!(calls(&mut world));
}

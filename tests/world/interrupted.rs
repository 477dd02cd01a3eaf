//! Calls that a power cut has ended: their stories get an end in the next life.

use tipring::events::store::{Entry, Write};
use tipring::events::{CallResult, Direction, Kind, Leg, Party};
use tipring::phone::Remembered;

use crate::world::{World, config};

/// A leg that was going on: of which call, which leg of it, whether it was answered.
fn leg(world: &World, (call, number, answered): (&str, u8, bool)) -> Entry {
    let began = world.now().utc_us - 3_600_000_000;
    let leg = Leg {
        leg_id: format!("{call}-{number}"),
        sip_call_id: None,
        line: "office".into(),
        direction: Direction::In,
        caller: Party::numbered(format!("10{number}")),
        called: Party::numbered("1001"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    };
    Entry { answered_utc_us: answered.then_some(began + 1), ..Entry::begun(call, leg, began) }
}

#[test]
fn every_call_that_the_power_cut_is_closed_once() {
    use CallResult::{Answered, Failed};
    let mut world = World::new(1);
    let cut = [
        ("a", 1, true),
        ("b", 1, false),
        ("c", 1, true),
        ("d", 1, false),
        ("d", 2, true),
        ("e", 1, false),
        ("f", 1, true),
    ];
    let interrupted = cut.map(|leg| self::leg(&world, leg)).to_vec();
    let memory = Remembered { interrupted, ..Remembered::default() };
    let address = "192.0.2.11".parse().expect("an address");
    world.add_phone_with((address, address), config("1001", "", ""), memory);
    world.seconds(1);
    assert_eq!(world.phones[0].all("call.ended").len(), cut.len());
    let closed = world.phones[0].events.iter().filter_map(|told| match &told.event.kind {
        Kind::CallClosed { result, legs, caller, .. } => {
            let caller = caller.number.clone().unwrap_or_default().dialled;
            Some((told.event.call.clone().unwrap_or_default(), *result, *legs, caller))
        }
        _ => None,
    });
    let expected = [
        ("a", Answered, 1, "101"),
        ("b", Failed, 1, "101"),
        ("c", Answered, 1, "101"),
        ("d", Answered, 2, "101"),
        ("e", Failed, 1, "101"),
        ("f", Answered, 1, "101"),
    ];
    let expected =
        expected.map(|(id, result, legs, caller)| (id.to_owned(), result, legs, caller.to_owned()));
    assert_eq!(closed.collect::<Vec<_>>(), expected);
    // Nobody knows when the power went.
    let rows = world.phones[0].kept.iter().filter_map(|write| match write {
        Write::Call(entry) => Some(entry),
        _ => None,
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), cut.len());
    assert!(rows.iter().all(|row| row.result.is_some() && row.ended_utc_us.is_none() && row.total_us == 0));
}

//! A record of calls that no upstream has been told of yet.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tipring::chance::Chance;
use tipring::events::store::{Store, Write};
use tipring::events::upstream::state::State;
use tipring::events::{CallResult, Cause, Direction, Event, Kind, Leg, Origin, Party, Recorder, Side};
use tipring::now::Now;

use crate::receiver::utc_us;

/// Events of one call.
const STORY: usize = 8;
/// One call in so many is missed.
const MISSED: usize = 4;

/// Writes a store with so many events for upstreams of these names.
pub fn write(data: &Path, events: usize, upstreams: &[String]) -> Result<(), String> {
    fs::create_dir_all(data).map_err(|error| error.to_string())?;
    let connection = Connection::open(data.join("tipring.db")).map_err(|error| error.to_string())?;
    let mut store = Store::open(connection).map_err(|error| error.to_string())?;
    let mut recorder = Recorder::new(0, Chance::from_number(5));
    let mut batch = Vec::new();
    for number in 0..events / STORY {
        let call = format!("call{number}");
        for kind in story(&call, number % MISSED == 0) {
            let now = Now { mono_us: 0, utc_us: utc_us() };
            batch.push(Write::Event(Box::new(recorder.record(now, Event::of_call(&call, kind)))));
        }
    }
    batch.extend(
        upstreams.iter().map(|name| Write::Upstream(State { name: name.clone(), ..State::default() })),
    );
    store.commit(&batch).map(drop).map_err(|error| error.to_string())
}

/// A call that comes and is held for a while, or is missed.
fn story(call: &str, missed: bool) -> [Kind; STORY] {
    let leg = || Leg {
        leg_id: format!("{call}-1"),
        sip_call_id: Some(format!("{call}@pbx.example.com")),
        line: "bench".to_owned(),
        direction: Direction::In,
        caller: Party { name: Some("Anna Müller".to_owned()), ..Party::numbered("+74951234567") },
        called: Party::numbered("101"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    };
    let result = if missed { CallResult::NoAnswer } else { CallResult::Answered };
    let (total_us, ring_us, talk_us, hold_us) = (60_000_000, 5_000_000, 55_000_000, 10_000_000);
    [
        Kind::CallNew { leg: leg(), origin: Origin::Network },
        Kind::CallRinging { leg: leg() },
        Kind::CallAnswered { leg: leg(), ring_us, automatic: None },
        Kind::CallHeld { leg: leg(), by: Side::Local },
        Kind::CallResumed { leg: leg(), by: Side::Local },
        Kind::CallHeld { leg: leg(), by: Side::Remote },
        Kind::CallEnded {
            leg: leg(),
            result,
            cause: Cause::remote(200, "OK"),
            total_us,
            ring_us,
            talk_us,
            hold_us,
            quality: None,
            recording_id: None,
            vote: None,
        },
        Kind::CallClosed {
            line: leg().line,
            direction: Direction::In,
            caller: leg().caller,
            called: leg().called,
            did: None,
            result,
            missed,
            legs: 1,
            total_us,
            talk_us,
        },
    ]
}

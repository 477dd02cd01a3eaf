//! Events for the tests of dialects: recorded as the phone's are.

use crate::chance::Chance;
use crate::events::cloud_event::{Digits, Recorder};
use crate::events::lookup::Question;
use crate::events::{CloudEvent, Direction, Diverted, Event, Kind, Leg, Number, Party};
use crate::now::Now;

/// 2026-11-20T00:00:00Z
pub const TODAY: i64 = 1_795_132_800_000_000;

/// The event, recorded today.
pub fn recorded(event: Event) -> CloudEvent {
    let now = Now { mono_us: 1, utc_us: TODAY };
    Recorder::new(0, Chance::from_number(1)).record(now, event).cloud_event(Digits::Hidden)
}

/// A leg between Anna outside and the reception here, with everything that is ever known.
pub fn leg(direction: Direction) -> Leg {
    let party = |number: &str, name: &str, uri: &str| Party {
        number: Some(Number::new(number)),
        name: Some(name.to_owned()),
        uri: Some(uri.to_owned()),
    };
    let here = party("101", "Reception", "sip:101@pbx.example:5061");
    let outside = party("+7 495 123-45-67", "Anna & Co", "sip:+74951234567@pbx.example");
    let (caller, called) = match direction {
        Direction::In => (outside, here),
        Direction::Out => (here, outside),
    };
    Leg {
        leg_id: "c1-1".into(),
        sip_call_id: Some("x@192.0.2.1".into()),
        line: "office".into(),
        direction,
        caller,
        called,
        did: Some(Number::new("+74957654321")),
        diverted: Some(Box::new(Diverted {
            by: party("102", "Boss", "sip:102@pbx.example"),
            reason: Some("no_answer".into()),
        })),
        connected: None,
        callback_id: None,
        follows: None,
    }
}

/// The question who is at the other end of such a call.
pub fn question(direction: Direction) -> Question {
    let id = recorded(Event::new(Kind::NetworkChanged { addresses: Vec::new() })).id;
    Question { id, call: "SDsnZugDFmTW7Sec".into(), leg: leg(direction), utc_us: TODAY, deadline: 10_000_000 }
}

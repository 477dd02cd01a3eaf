//! The whole of a call that has several legs: what is told of it when the last one has ended.

use super::Phone;
use crate::events::{CallResult, Direction, Kind, Leg};

/// A leg that has ended, as the whole remembers it. Times are in microseconds of the monotonic clock.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct EndedLeg {
    pub call: String,
    pub leg: Leg,
    pub result: CallResult,
    pub began_us: u64,
    /// From the answer to the moment when one of both sides let go.
    pub talk: Option<(u64, u64)>,
    pub ended_us: u64,
}

impl Phone {
    /// The number that the next leg of a call has.
    pub(super) fn next_leg(&self, call: &str) -> u8 {
        let alive = self.calls.iter().filter(|it| it.id == call).count();
        let ended = self.ended_legs.iter().filter(|it| it.call == call).count();
        u8::try_from(alive + ended + 1).unwrap_or(u8::MAX)
    }

    /// How many legs a call had whose last one has ended, and its end; its legs are forgotten.
    pub(super) fn take_whole(&mut self, call: &str) -> Option<(u32, Kind)> {
        let (mut parts, others) =
            std::mem::take(&mut self.ended_legs).into_iter().partition(|it| it.call == call);
        self.ended_legs = others;
        Some((u32::try_from(parts.len()).unwrap_or(u32::MAX), closed(&mut parts)?))
    }
}

/// The whole is what its first leg began as; it was answered if any of them was, and talked in while any was answered.
fn closed(parts: &mut [EndedLeg]) -> Option<Kind> {
    // Two may begin at one moment; they are numbered from 1.
    let number = |part: &EndedLeg| part.leg.leg_id.rsplit('-').next().and_then(|it| it.parse::<u8>().ok());
    crate::order::sort_by_key(parts, |part| (part.began_us, number(part)));
    let ended_us = parts.iter().map(|part| part.ended_us).max()?;
    let first = parts.first()?;
    let answered = parts.iter().find(|part| part.talk.is_some());
    let result = answered.unwrap_or(first).result;
    let mut talks: Vec<(u64, u64)> = parts.iter().filter_map(|part| part.talk).collect();
    crate::order::sort_by_key(&mut talks, |talk| *talk);
    let (mut talk_us, mut until) = (0, 0);
    for (from, to) in talks {
        talk_us += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    let Leg { line, direction, caller, called, did, .. } = first.leg.clone();
    Some(Kind::CallClosed {
        line,
        missed: direction == Direction::In && result.is_missed(),
        direction,
        caller,
        called,
        did,
        result,
        legs: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        total_us: ended_us.saturating_sub(first.began_us),
        talk_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Party;

    fn leg() -> Leg {
        Leg {
            leg_id: "c-1".into(),
            sip_call_id: None,
            line: "office".into(),
            direction: Direction::In,
            caller: Party::numbered("102"),
            called: Party::numbered("101"),
            did: None,
            diverted: None,
            connected: None,
            callback_id: None,
            follows: None,
        }
    }

    fn part(times: (u64, Option<u64>, u64), result: CallResult) -> EndedLeg {
        let (began_us, answered_us, ended_us) = times;
        let talk = answered_us.map(|since| (since, ended_us));
        EndedLeg { call: "c".into(), leg: leg(), result, began_us, talk, ended_us }
    }

    #[test]
    fn the_first_of_legs_that_began_together_is_what_the_whole_began_as() {
        let numbered = |number: u8| {
            let leg =
                Leg { leg_id: format!("c-{number}"), caller: Party::numbered(number.to_string()), ..leg() };
            EndedLeg { leg, ..part((0, None, 9), CallResult::Cancelled) }
        };
        for order in [[1, 2], [2, 1], [10, 2]] {
            let mut parts = order.map(numbered);
            let first = order.iter().min().map(u8::to_string);
            match closed(&mut parts) {
                Some(Kind::CallClosed { caller, .. }) => {
                    assert_eq!(caller.number.map(|it| it.dialled), first)
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn legs_that_overlap_are_talked_in_once() {
        use CallResult::{Answered, Busy, Cancelled};
        for (parts, expected) in [
            (vec![part((5, None, 9), Cancelled)], (1, Cancelled, 4, 0)),
            (vec![part((0, Some(2), 10), Answered), part((6, Some(8), 20), Answered)], (2, Answered, 20, 18)),
            (
                vec![part((12, Some(15), 20), Answered), part((0, Some(2), 10), Answered)],
                (2, Answered, 20, 13),
            ),
            (vec![part((0, Some(2), 30), Answered), part((6, None, 8), Busy)], (2, Answered, 30, 28)),
        ] {
            let mut parts = parts;
            match closed(&mut parts) {
                Some(Kind::CallClosed { legs, result, total_us, talk_us, .. }) => {
                    assert_eq!((legs, result, total_us, talk_us), expected);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(closed(&mut []), None);
    }
}

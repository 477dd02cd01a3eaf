//! Two legs of one call whose far ends hear each other: what [`callback`](super::callback) and [`sticky`](super::sticky) have
//! in common. Audio crosses in the media engine, digits here; whoever leaves takes the other one along.

use super::call::Call;
use super::{Output, Phone};
use crate::events::{Cause, Event, Kind};
use crate::media::{Command, Dtmf};
use crate::now::Now;

/// A digit is passed on with the length it had, within these milliseconds.
const DIGIT_MS: (u32, u32) = (80, 2000);

impl Phone {
    /// A leg has been answered; perhaps it is one of a bridge, or will be.
    pub(super) fn bridge_leg_answered(&mut self, now: Now, index: usize) {
        self.callback_answered(now, index);
        self.sticky_answered(now, index);
    }

    /// A leg has ended.
    pub(super) fn bridge_leg_ended(&mut self, now: Now, index: usize) {
        self.callback_leg_ended(now, index);
        self.sticky_leg_ended(now, index);
    }

    /// A leg takes the place of another one.
    pub(super) fn bridge_leg_replaced(&mut self, call: &str, old: &str, new: &str) {
        self.callback_leg_replaced(call, old, new);
        self.sticky_leg_replaced(call, old, new);
    }

    /// Tells that these two are joined, each of the other one.
    pub(super) fn tell_bridged(&mut self, now: Now, call: &str, legs: &[String; 2]) {
        for (own, other) in [(0, 1), (1, 0)] {
            if let Some(index) = self.leg(&legs[own]) {
                let leg = self.calls[index].facts.clone();
                self.tell(now, Event::of_call(call, Kind::CallBridged { leg, with: legs[other].clone() }));
            }
        }
    }

    /// Ends a leg because of what the other one did.
    pub(super) fn end_leg(&mut self, now: Now, leg: &str, why: &str) {
        if let Some(index) = self.leg(leg) {
            self.end_call(now, index, Some(Cause::local(why)));
        }
    }

    /// Lets go of the far end of a leg that the other one has left behind.
    pub(super) fn part_leg(&mut self, now: Now, leg: &str, why: &str) {
        if let Some(index) = self.leg(leg) {
            self.part(now, index, Some(Cause::local(why)));
        }
    }

    /// A digit of one far end, for the other one.
    pub(super) fn pass_on_digit(&mut self, now: Now, index: usize, digit: char, duration_ms: u32) {
        let (bridge, leg) = (self.calls[index].bridge, &self.calls[index].facts.leg_id);
        let other = |call: &Call| call.bridge == bridge && call.facts.leg_id != *leg && call.is_active();
        let Some(other) = self.calls.iter().position(other).filter(|_| bridge.is_some()) else { return };
        if self.sends_digits_by_info(other) {
            self.calls[other].info_digits.push_back(digit);
            self.send_info_digits(now, other);
            return;
        }
        let on_ms = duration_ms.clamp(DIGIT_MS.0, DIGIT_MS.1) as u16;
        let dtmf = Dtmf { on_ms, ..Dtmf::new(digit) };
        let leg = self.calls[other].path.leg;
        self.outputs.push_back(Output::Media(Command::Dtmf { leg, dtmf }));
    }

    /// A leg that is not over.
    pub(super) fn leg(&self, leg: &str) -> Option<usize> {
        self.calls.iter().position(|call| call.facts.leg_id == leg && !call.is_over())
    }
}

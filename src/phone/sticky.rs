//! Sticky return: a caller of outside is given back to the extension that called or talked to that number through this device.
//!
//! The caller hears it ring meanwhile, the handset is silent. Who answers there is joined with the caller in a bridge; where
//! nobody answers in time, or the extension refuses, it rings here as ever. Whoever is at the device may be quicker. Only
//! extensions of the PBX that `[limits]` would let be called get anybody: no call leads out by this.

use uuid::Uuid;

use super::call::Awaited;
use super::outgoing::Place;
use super::{Output, Phone};
use crate::config::NumberPlan;
use crate::events::cloud_event::identity;
use crate::events::store::{Entry, Recall};
use crate::events::{CallResult, Cause, Direction, Leg, Number, Origin};
use crate::now::Now;
use crate::sip::reason::Reason;

/// So long the journal may take to answer: the caller hears nothing yet.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_millis(300);

/// A caller who is given back, until the last leg has ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sticky {
    /// The whole call.
    call: String,
    /// Where caller and extension meet.
    bridge: u32,
    /// The legs of both; others may take their places.
    legs: [String; 2],
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It rings at the extension.
    Tried,
    /// Both hear each other.
    Joined,
    /// What ends of it ends by itself; or the call rings here.
    Over,
}

impl Phone {
    /// A call that may ring, as far as the look-up goes: here, or first where its caller belongs.
    pub(super) fn ring_or_recall(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let Some(recall) = self.to_be_recalled(now, &call.facts) else {
            return self.begin_ringing(now, index);
        };
        let until = now.deadline(ANSWER_WITHIN);
        let id = identity(now, &mut self.chance);
        self.calls[index].wait_for(Awaited::Journal(id), until);
        self.outputs.push_back(Output::Recall(Box::new(Recall { id, ..recall })));
    }

    /// What the journal is asked about a call that comes in, if its caller may be given back.
    fn to_be_recalled(&self, now: Now, facts: &Leg) -> Option<Recall> {
        let settings = &self.config.sticky;
        // A clock that was never set does not know what has just been; and whoever was called for help calls back here.
        let helps = self.expects_helper(now);
        let since_utc_us = settings.within.since(now.utc_us, &self.config.device.timezone)?;
        let wanted = settings.lines.is_empty() || settings.lines.contains(&facts.line);
        if !wanted || helps || self.parts.contains_key("clock") {
            return None;
        }
        let number = facts.caller.number.as_ref()?;
        let outside = NumberPlan::is_outside(&number.dialled) || number.e164.is_some();
        outside.then(|| Recall { id: Uuid::nil(), number: number.clone(), since_utc_us })
    }

    /// What the journal knows of the number of a caller: the last calls, the newest first, each with its legs.
    pub(super) fn journal_says(&mut self, now: Now, id: Uuid, calls: &[Vec<Entry>]) {
        let Some(index) = self.calls.iter().position(|call| call.waits_for() == Some(Awaited::Journal(id)))
        else {
            return;
        };
        let facts = &self.calls[index].facts;
        let belongs = facts.caller.number.as_ref().and_then(|number| belongs_to(number, calls));
        let rules = &self.config.sticky.extensions;
        let extension = belongs
            .map(|number| number.dialled)
            .filter(|extension| self.may_get_call(facts, extension, rules).is_ok_and(|may| may));
        if !extension.is_some_and(|extension| self.give_back_to(now, index, &extension)) {
            self.begin_ringing(now, index);
        }
    }

    /// Lets it ring at an extension first; whether it does.
    fn give_back_to(&mut self, now: Now, index: usize, extension: &str) -> bool {
        let caller = &self.calls[index];
        let (call, line) = (caller.id.clone(), caller.facts.line.clone());
        let busy = self.calls_on(&line);
        if self.line(&line).is_none_or(|it| busy >= usize::from(it.config.max_calls)) {
            return false;
        }
        let (first, number) = (caller.facts.leg_id.clone(), self.next_leg(&call));
        let shown = shown(&caller.facts);
        let bridge = self.number() as u32;
        let place =
            Place { call: call.clone(), leg: number, bridge: Some(bridge), callback: None, follows: None };
        let begun = self.meant_on(now, extension, &line).and_then(|mut meant| {
            meant.shown_as = shown;
            self.dial_leg(now, meant, Some(place), Origin::Sticky)
        });
        let Ok(second) = begun else { return false };
        let legs = [first, self.calls[second].facts.leg_id.clone()];
        self.stickies.push(Sticky { call, bridge, legs, stage: Stage::Tried });
        let until = now.deadline(self.config.sticky.ring_for);
        self.calls[index].wait_for(Awaited::Extension, until);
        self.tell_caller_it_rings(now, index);
        true
    }

    /// Nobody is waited for at the extension any more.
    pub(super) fn stop_trying(&mut self, now: Now, call: &str, result: CallResult, why: &str) {
        let Some(at) = self.sticky_of(call, Stage::Tried) else { return };
        self.stickies[at].stage = Stage::Over;
        let [_, second] = self.stickies[at].legs.clone();
        let Some(second) = self.leg(&second) else { return };
        let cause = Cause { q850: Some(result.q850()), ..Cause::local(why) };
        self.calls[second].verdict.get_or_insert((result, cause));
        // Who is answered here was not missed there.
        let elsewhere = result == CallResult::AnsweredElsewhere;
        let reason = elsewhere.then(|| Reason::sip(200, "Call completed elsewhere"));
        let sip = self.calls[second].sip;
        let _ = self.agent.hang_up(now, sip, reason);
    }

    /// A leg has been answered; perhaps it is that of an extension, whose caller is answered now.
    pub(super) fn sticky_answered(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let (id, leg) = (call.id.clone(), call.facts.leg_id.clone());
        let Some(at) = self.stickies.iter().position(|it| it.call == id) else { return };
        let Sticky { legs, bridge, stage, .. } = self.stickies[at].clone();
        if stage == Stage::Joined && legs.contains(&leg) {
            // Another one in the place of either.
            return self.tell_bridged(now, &id, &legs);
        }
        let [first, second] = legs;
        let is_it = stage == Stage::Tried && leg == second;
        let Some(caller) = self.leg(&first).filter(|_| is_it) else { return };
        self.calls[caller].bridge = Some(bridge);
        if self.take(now, caller).is_err() {
            self.stickies[at].stage = Stage::Over;
            return self.end_leg(now, &second, "the caller has given up");
        }
        self.stickies[at].stage = Stage::Joined;
        self.tell_bridged(now, &id, &[first, second]);
    }

    /// A leg has ended; perhaps it is one of a caller who was given back.
    pub(super) fn sticky_leg_ended(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let (id, leg) = (call.id.clone(), call.facts.leg_id.clone());
        let Some(at) = self.stickies.iter().position(|it| it.call == id) else { return };
        let Sticky { legs: [first, second], stage, .. } = self.stickies[at].clone();
        if leg != first && leg != second || stage == Stage::Over {
            return;
        }
        self.stickies[at].stage = Stage::Over;
        match stage {
            Stage::Tried if leg == second => {
                if let Some(caller) = self.leg(&first) {
                    self.begin_ringing(now, caller);
                }
            }
            Stage::Tried => self.end_leg(now, &second, "the caller is gone"),
            Stage::Joined => {
                let why = "the other one has left";
                if leg == first { self.end_leg(now, &second, why) } else { self.part_leg(now, &first, why) }
            }
            Stage::Over => {}
        }
    }

    /// A leg takes the place of another one.
    pub(super) fn sticky_leg_replaced(&mut self, call: &str, old: &str, new: &str) {
        let legs = self.stickies.iter_mut().filter(|it| it.call == call).flat_map(|it| &mut it.legs);
        legs.filter(|leg| *leg == old).for_each(|leg| new.clone_into(leg));
    }

    /// The last leg of a call has ended.
    pub(super) fn forget_sticky(&mut self, call: &str) {
        self.stickies.retain(|it| it.call != call);
    }

    fn sticky_of(&self, call: &str, stage: Stage) -> Option<usize> {
        self.stickies.iter().position(|it| it.call == call && it.stage == stage)
    }
}

/// What an extension sees of a caller: the call comes from this device's line.
fn shown(facts: &Leg) -> Option<String> {
    let number = facts.caller.number.as_ref().map(|number| number.dialled.as_str());
    let parts: Vec<&str> = facts.caller.name.as_deref().into_iter().chain(number).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The extension that a number belongs to, by its calls, the newest first: the one that was at the other end of the last call
/// that was talked in, or that went out to that number. `None`: whoever is at this device, or nobody.
fn belongs_to(number: &Number, calls: &[Vec<Entry>]) -> Option<Number> {
    let is_theirs = |leg: &Leg| leg.remote().number.as_ref().is_some_and(|it| it.same_as(number));
    // A leg that still goes on may be this very call.
    let counts = |entry: &&Entry| {
        let talked = entry.answered_utc_us.is_some() || entry.transferred_to.is_some();
        is_theirs(&entry.leg) && entry.result.is_some() && (talked || entry.leg.direction == Direction::Out)
    };
    let (theirs, legs) = calls.iter().find_map(|legs| Some((legs.iter().rev().find(counts)?, legs)))?;
    if theirs.transferred_to.is_some() {
        return theirs.transferred_to.clone();
    }
    let sends = |one: &Leg, other: &Leg| one.follows.as_ref().is_some_and(|it| it.leg_id == other.leg_id);
    let other = legs.iter().rev().find(|entry| {
        let leg = &entry.leg;
        let apart = sends(leg, &theirs.leg) || sends(&theirs.leg, leg) || is_theirs(leg);
        entry.answered_utc_us.is_some() && !apart
    });
    other.and_then(|entry| entry.leg.remote().number.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Follows, Party, TransferWay};

    /// A leg: its name, whether it came in, the far end, whether it was answered.
    fn entry(leg_id: &str, direction: Direction, far: &str, answered: bool) -> Entry {
        let own = Party::numbered("101");
        let far = Party::numbered(far);
        let (caller, called) = if direction == Direction::In { (far, own) } else { (own, far) };
        let leg = Leg {
            leg_id: leg_id.to_owned(),
            sip_call_id: None,
            line: "office".to_owned(),
            direction,
            caller,
            called,
            did: None,
            diverted: None,
            connected: None,
            callback_id: None,
            follows: None,
        };
        let result = Some(if answered { CallResult::Answered } else { CallResult::NoAnswer });
        let answered_utc_us = answered.then_some(1);
        Entry { result, answered_utc_us, ..Entry::begun("c", leg, 0) }
    }

    fn following(entry: Entry, leg_id: &str, way: TransferWay) -> Entry {
        let follows = Some(Box::new(Follows { leg_id: leg_id.to_owned(), way }));
        Entry { leg: Leg { follows, ..entry.leg }, ..entry }
    }

    #[test]
    fn a_number_belongs_to_whoever_had_it_last() {
        use Direction::{In, Out};
        let n = "+74954451120";
        let given = |entry: Entry, to: &str| Entry { transferred_to: Some(Number::new(to)), ..entry };
        let callback = |to: &str| vec![entry("b-1", Out, to, true), entry("b-2", Out, n, true)];
        let spoken_here = || vec![entry("h-1", In, n, true)];
        let missed = || vec![entry("m-1", In, n, false)];
        let unfinished = || vec![Entry { result: None, ..entry("u-1", In, n, true) }];
        let by_reference = |way| following(entry("r-2", Out, n, true), "r-1", way);
        for (what, calls, expected) in [
            ("nothing", vec![], None),
            ("a callback", vec![callback("203")], Some("203")),
            (
                "one that the customer did not take",
                vec![vec![entry("b-1", Out, "203", true), entry("b-2", Out, n, false)]],
                Some("203"),
            ),
            ("the newest", vec![callback("204"), callback("203")], Some("204")),
            ("missed calls say nothing", vec![missed(), callback("203")], Some("203")),
            ("nor does one that goes on", vec![unfinished(), callback("203")], Some("203")),
            ("whoever is here", vec![spoken_here(), callback("203")], None),
            ("called from here", vec![vec![entry("o-1", Out, n, false)], callback("203")], None),
            (
                "another spelling",
                vec![vec![entry("b-1", Out, "203", true), entry("b-2", Out, "8 495 445-11-20", true)]],
                Some("203"),
            ),
            ("transferred", vec![vec![given(entry("t-1", In, n, true), "205")]], Some("205")),
            ("sent on", vec![vec![given(entry("t-1", In, n, false), "206")]], Some("206")),
            (
                "given back, and nobody took it there",
                vec![vec![entry("s-1", In, n, true), entry("s-2", Out, "203", false)], callback("203")],
                None,
            ),
            (
                "whoever came into the place of another one",
                vec![vec![
                    entry("b-1", Out, "203", true),
                    entry("b-2", Out, n, true),
                    following(entry("b-3", In, "207", true), "b-1", TransferWay::Attended),
                ]],
                Some("207"),
            ),
            (
                "an extension that had this device call the customer and left",
                vec![vec![entry("r-1", In, "203", true), by_reference(TransferWay::Blind)]],
                None,
            ),
        ] {
            let found = belongs_to(&Number { e164: Some(n.into()), ..Number::new(n) }, &calls);
            assert_eq!(found.map(|it| it.dialled).as_deref(), expected, "{what}");
        }
    }
}

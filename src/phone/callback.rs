//! Callback: somebody is rung, then somebody else, and both are joined in a bridge of two legs. One call: both legs carry
//! its name, and that of the callback.
//!
//! The second one is rung only when the first one has answered, who hears the ring-back tone meanwhile, and then the
//! second one's own early media. A second one who does not come to the call is told to the first one by a tone. Once they
//! are joined, audio and digits cross, and whoever leaves takes the other one along.
//!
//! Where the first one is this device itself there is nothing to join: the second one is called, and heard here.

use std::time::Duration;

use super::call::Phase;
use super::command::{self, Blame, Outcome, Refusal, Reply};
use super::outgoing::{Meant, Place};
use super::routing::plain;
use super::tones::{AFTERWARDS, after};
use super::{Output, Phone};
use crate::audio::tones::Tone;
use crate::config::NumberPlan;
use crate::events::{CallResult, Cause, Direction, Event, Kind, Leg, Number, Origin, Party};
use crate::media::{Command, Sounder};
use crate::now::{Now, earliest};
use crate::sip::reason::Reason;
use crate::sip::uri::Uri;

/// How long the first one may ring, if nobody says.
const FIRST_RINGS: Duration = Duration::from_secs(30);
/// The longest time that somebody may ask for.
const FIRST_RINGS_MOST: Duration = Duration::from_secs(180);
/// How long the second one may ring: the first one listens.
const SECOND_RINGS: Duration = Duration::from_secs(60);
/// The key of `[limits]` that two numbers outside of the PBX need.
const OUTSIDE: &str = "limits.external_to_external";

/// Where a callback stands.
#[derive(Clone, PartialEq, Debug)]
enum Stage {
    /// The first one is being rung.
    First {
        /// Until then.
        until: u64,
    },
    /// The first one waits while the second one is called.
    Second {
        /// Until then.
        until: u64,
    },
    /// Both hear each other.
    Joined,
    /// The second one did not come to the call: the first one hears why.
    Released {
        /// Until then.
        until: u64,
        /// What came of the second one.
        result: CallResult,
    },
    /// What ends of it ends by itself.
    Over,
}

/// One callback, until its last leg has ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Callback {
    id: String,
    request: String,
    origin: Origin,
    /// The whole call.
    call: String,
    /// Where both legs meet; `None` where this device is the first one.
    bridge: Option<u32>,
    line: String,
    from: Party,
    to: Party,
    /// How the second one is called.
    second: command::End,
    /// The legs of both; that of the second one is not there before it is called, that of the first one not where this
    /// device is the first one. Others may take their places.
    legs: [String; 2],
    stage: Stage,
    /// What the first one hears of us.
    tone: Option<Tone>,
    result: Option<CallResult>,
    began: Now,
    joined: Option<Now>,
    parted: Option<Now>,
}

impl Callback {
    /// The leg of who is called first.
    fn first_leg(&self) -> String {
        self.legs[0].clone()
    }

    /// The leg of who is called after the other one has answered.
    fn second_leg(&self) -> String {
        self.legs[1].clone()
    }

    fn place(&self, leg: u8) -> Place {
        let callback = Some(self.id.clone());
        Place { call: self.call.clone(), leg, bridge: self.bridge, callback, follows: None }
    }

    fn due(&self) -> Option<u64> {
        match self.stage {
            Stage::First { until } | Stage::Second { until } | Stage::Released { until, .. } => Some(until),
            Stage::Joined | Stage::Over => None,
        }
    }

    /// The end of the whole call, as it is told when the last leg has ended at `now`.
    fn closed(&self, now: Now, legs: u32) -> Kind {
        let until = self.parted.unwrap_or(now);
        let talk_us = self.joined.map_or(0, |since| until.mono_us.saturating_sub(since.mono_us));
        Kind::CallClosed {
            line: self.line.clone(),
            direction: Direction::Out,
            caller: self.from.clone(),
            called: self.to.clone(),
            did: None,
            result: self.result.unwrap_or(CallResult::Failed),
            missed: false,
            legs,
            total_us: now.mono_us.saturating_sub(self.began.mono_us),
            talk_us,
        }
    }
}

impl Phone {
    pub(super) fn callback(&mut self, now: Now, wish: command::Callback, origin: Origin) -> Outcome {
        let own = self.own_line(&wish.from);
        let second_line = wish.to.line.clone().or_else(|| own.clone());
        let second = self.meant(now, &wish.to.number, second_line.as_deref())?;
        let to = self.outgoing_facts(&second.line, &second.called, &second.target).called;
        let first = match &own {
            Some(_) => None,
            None => Some(self.meant(now, &wish.from.number, wish.from.line.as_deref())?),
        };
        if let Some(first) = &first {
            self.can_join(now, first, &second, origin)?;
            self.permitted(now, &first.line, &first.called, &first.target, origin)?;
        }
        self.permitted(now, &second.line, &second.called, &second.target, origin)?;
        let id = self.chance.token(8);
        let began = match &first {
            Some(first) => self.outgoing_facts(&first.line, &first.called, &first.target),
            None => self.outgoing_facts(&second.line, &second.called, &second.target),
        };
        let ring_for = wish.ring_for.unwrap_or(FIRST_RINGS).min(FIRST_RINGS_MOST);
        let call = self.chance.token(6);
        let only = format!("{call}-1");
        let callback = Callback {
            request: wish.request.unwrap_or_else(|| id.clone()),
            id,
            origin,
            legs: if first.is_some() { [only, String::new()] } else { [String::new(), only] },
            call,
            bridge: first.is_some().then(|| self.number() as u32),
            line: began.line,
            from: if first.is_some() { began.called } else { began.caller },
            to,
            second: command::End { number: wish.to.number, line: second_line },
            stage: match &first {
                Some(_) => Stage::First { until: now.deadline(ring_for) },
                None => Stage::Second { until: now.deadline(SECOND_RINGS) },
            },
            tone: None,
            result: None,
            began: now,
            joined: None,
            parted: None,
        };
        self.begin(now, callback, first.unwrap_or(second))
    }

    /// Calls the first one that has to be called.
    fn begin(&mut self, now: Now, callback: Callback, meant: Meant) -> Outcome {
        let place = callback.place(1);
        let queued = Kind::OriginateQueued {
            callback_id: callback.id.clone(),
            request: callback.request.clone(),
            origin: callback.origin,
            from: number(&callback.from),
            to: number(&callback.to),
        };
        self.tell(now, Event::of_call(&callback.call, queued));
        let origin = callback.origin;
        self.callbacks.push(callback);
        match self.dial_leg(now, meant, Some(place), origin) {
            Ok(index) => Ok(Reply::Call(Box::new(self.calls[index].view(now)))),
            Err(refusal) => {
                let at = self.callbacks.len() - 1;
                self.tell_result(now, at, result_of(&refusal), Cause::local(&refusal.message));
                self.callbacks.pop();
                Err(refusal)
            }
        }
    }

    /// The line by one of whose names this device itself is meant.
    fn own_line(&self, end: &command::End) -> Option<String> {
        let named = plain(end.number.trim());
        let bare = named.strip_prefix("sip:").unwrap_or(&named);
        let mut lines = self.lines.iter().map(|line| &line.config);
        let own = lines.find(|line| {
            end.line.as_ref().is_none_or(|it| *it == line.name)
                && (bare == line.name || bare == line.user || line.address() == bare)
        });
        own.map(|line| line.name.clone())
    }

    /// Whether these two may be joined at all, and there is room for both.
    fn can_join(&mut self, now: Now, first: &Meant, second: &Meant, origin: Origin) -> Result<(), Refusal> {
        if first.line == second.line {
            let line = self.known_line(&first.line)?;
            let (name, most) = (line.config.name.clone(), usize::from(line.config.max_calls));
            let busy = self.calls_on(&name);
            if busy + 2 > most {
                let message = format!("line {name} has no room for two calls more");
                let hint = "end one, or raise the line's max_calls";
                return Err(Refusal::new(Blame::State, "line_busy", message, hint));
            }
        }
        let helps = |meant: &Meant| meant.called.emergency(&self.config.emergency);
        if self.leads_outside(first) && self.leads_outside(second) && !helps(second) {
            let leg = self.outgoing_facts(&second.line, &second.called, &second.target);
            return self.may_join_outside(now, leg, origin);
        }
        Ok(())
    }

    fn leads_outside(&self, meant: &Meant) -> bool {
        let sent = meant.called.sent.as_ref().map(|(number, _)| number);
        meant.called.numbers.iter().chain(sent).any(|number| NumberPlan::is_outside(number))
            || self.leads_elsewhere(&meant.line, &meant.target)
    }

    fn leads_elsewhere(&self, line: &str, uri: &Uri) -> bool {
        self.line(line).is_none_or(|line| self.is_elsewhere(line, uri))
    }

    /// Whether the far end of a leg is outside of the PBX.
    pub(super) fn is_outside(&self, leg: &Leg) -> bool {
        let far = match leg.direction {
            Direction::In => &leg.caller,
            Direction::Out => &leg.called,
        };
        // Who withholds the number may be anybody.
        let number = far.number.as_ref().map(|number| number.dialled.as_str());
        let uri = far.uri.as_deref().and_then(|uri| Uri::parse(uri).ok());
        number.is_none_or(NumberPlan::is_outside)
            || (leg.direction == Direction::Out
                && uri.is_some_and(|uri| self.leads_elsewhere(&leg.line, &uri)))
    }

    /// Whether two that are outside of the PBX may have each other; a refusal is told of `leg`.
    pub(super) fn may_join_outside(&mut self, now: Now, leg: Leg, origin: Origin) -> Result<(), Refusal> {
        if self.config.limits.external_to_external {
            return Ok(());
        }
        let text = "two numbers outside of the PBX may not be joined".to_owned();
        Err(self.refused_by_rule(now, leg, origin, OUTSIDE, text))
    }

    /// A leg has been answered; perhaps it is one of a callback.
    pub(super) fn callback_answered(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let (leg, gone) = (call.facts.leg_id.clone(), call.verdict.is_some());
        let Some(at) = self.callback_of(&call.id).filter(|_| !gone) else { return };
        match self.callbacks[at].stage {
            Stage::First { .. } => self.ring_second(now, at),
            Stage::Second { .. } if leg == self.callbacks[at].second_leg() => self.join(now, at),
            // Another one in the place of either.
            Stage::Joined => self.tell_both_joined(now, at),
            _ => {}
        }
    }

    /// A leg takes the place of another one.
    pub(super) fn callback_leg_replaced(&mut self, call: &str, old: &str, new: &str) {
        let Some(at) = self.callback_of(call) else { return };
        let callback = &mut self.callbacks[at];
        let [first, second] = &mut callback.legs;
        if *first == *old {
            new.clone_into(first);
            // Whoever came hears nothing of us yet.
            callback.tone = None;
        } else if *second == *old {
            new.clone_into(second);
        }
    }

    fn ring_second(&mut self, now: Now, at: usize) {
        let number = self.next_leg(&self.callbacks[at].call);
        let callback = &mut self.callbacks[at];
        callback.stage = Stage::Second { until: now.deadline(SECOND_RINGS) };
        callback.legs[1] = format!("{}-{number}", callback.call);
        let (second, place, origin) = (callback.second.clone(), callback.place(number), callback.origin);
        let begun = self
            .meant(now, &second.number, second.line.as_deref())
            .and_then(|meant| self.dial_leg(now, meant, Some(place), origin));
        if let Err(refusal) = begun {
            self.release(now, at, result_of(&refusal), Cause::local(refusal.message));
        }
    }

    fn join(&mut self, now: Now, at: usize) {
        let callback = &mut self.callbacks[at];
        (callback.stage, callback.joined) = (Stage::Joined, Some(now));
        self.tell_both_joined(now, at);
        self.tell_result(now, at, CallResult::Answered, Cause::default());
    }

    fn tell_both_joined(&mut self, now: Now, at: usize) {
        let callback = &self.callbacks[at];
        if callback.bridge.is_some() {
            let (call, legs) = (callback.call.clone(), callback.legs.clone());
            self.tell_bridged(now, &call, &legs);
        }
    }

    /// The second one did not come to the call: the first one hears so for a while.
    fn release(&mut self, now: Now, at: usize, result: CallResult, cause: Cause) {
        self.callbacks[at].stage = Stage::Released { until: now.deadline(AFTERWARDS), result };
        self.tell_result(now, at, result, cause);
    }

    /// A leg has ended with this result; perhaps it is one of a callback.
    pub(super) fn callback_leg_ended(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let Phase::Ending { result, cause, .. } = &call.phase else { return };
        let (result, cause, leg) = (*result, cause.clone(), call.facts.leg_id.clone());
        let Some(at) = self.callback_of(&call.id) else { return };
        let [first_leg, second_leg] = self.callbacks[at].legs.clone();
        let second = leg == second_leg;
        if !second && leg != first_leg {
            // Another one has its place.
            return;
        }
        let other = if second { first_leg } else { second_leg };
        match self.callbacks[at].stage {
            Stage::Second { .. } if second && self.callbacks[at].bridge.is_some() => {
                self.release(now, at, result, cause);
            }
            Stage::First { .. } | Stage::Second { .. } => {
                // The first one has hung up while the second one was rung.
                let result =
                    if second || result != CallResult::Answered { result } else { CallResult::Cancelled };
                self.tell_result(now, at, result, cause);
                self.callbacks[at].stage = Stage::Over;
                self.end_leg(now, &other, "the first one has hung up");
            }
            Stage::Joined => {
                self.callbacks[at].stage = Stage::Over;
                self.callbacks[at].parted = Some(now);
                let why = "the other one has left";
                // The second one is who was to be talked to.
                if second { self.end_leg(now, &other, why) } else { self.part_leg(now, &other, why) }
            }
            Stage::Released { .. } | Stage::Over => {}
        }
    }

    fn tell_result(&mut self, now: Now, at: usize, result: CallResult, cause: Cause) {
        let callback = &mut self.callbacks[at];
        callback.result = Some(result);
        let kind = Kind::OriginateResult {
            callback_id: callback.id.clone(),
            request: callback.request.clone(),
            origin: callback.origin,
            from: number(&callback.from),
            to: number(&callback.to),
            reached: callback.bridge.is_none() || !matches!(callback.stage, Stage::First { .. }),
            result,
            cause,
        };
        let call = callback.call.clone();
        self.tell(now, Event::of_call(call, kind));
    }

    pub(super) fn poll_callbacks(&self) -> Option<u64> {
        self.callbacks.iter().filter_map(Callback::due).fold(None, |due, at| earliest(due, Some(at)))
    }

    pub(super) fn handle_callback_timeouts(&mut self, now: Now) {
        for at in 0..self.callbacks.len() {
            let callback = &mut self.callbacks[at];
            if callback.due().is_none_or(|due| due > now.mono_us) {
                continue;
            }
            match callback.stage {
                Stage::First { .. } | Stage::Second { .. } => {
                    let first = matches!(callback.stage, Stage::First { .. });
                    let leg = if first { callback.first_leg() } else { callback.second_leg() };
                    // What it leads to comes with its end.
                    callback.stage = match callback.stage {
                        Stage::First { .. } => Stage::First { until: u64::MAX },
                        _ => Stage::Second { until: u64::MAX },
                    };
                    self.give_up(now, &leg);
                }
                Stage::Released { result, .. } => {
                    callback.stage = Stage::Over;
                    let leg = callback.first_leg();
                    self.let_go(now, &leg, result);
                }
                Stage::Joined | Stage::Over => {}
            }
        }
    }

    /// Nobody has answered in time.
    fn give_up(&mut self, now: Now, leg: &str) {
        let Some(index) = self.leg(leg) else { return };
        let cause =
            Cause { q850: Some(CallResult::NoAnswer.q850()), ..Cause::local("nobody answered in time") };
        self.calls[index].verdict.get_or_insert((CallResult::NoAnswer, cause));
        self.end_call(now, index, None);
    }

    /// Ends the call of the first one, and tells its network what came of the second one.
    fn let_go(&mut self, now: Now, leg: &str, result: CallResult) {
        let Some(index) = self.leg(leg) else { return };
        let cause = Cause { q850: Some(result.q850()), ..Cause::local(format!("the second one: {result}")) };
        let call = &mut self.calls[index];
        call.verdict.get_or_insert((CallResult::Answered, cause));
        let sip = call.sip;
        let reason = Reason::q850(result.q850().into(), result.as_str());
        let _ = self.agent.hang_up(now, sip, Some(reason));
    }

    /// Tells the engine what those hear who wait.
    pub(super) fn sound_callbacks(&mut self) {
        for at in 0..self.callbacks.len() {
            let callback = &self.callbacks[at];
            let tone = match callback.stage {
                _ if callback.bridge.is_none() => None,
                Stage::Second { .. } => {
                    let second = self.leg(&callback.legs[1]).map(|index| &self.calls[index].path);
                    second.is_none_or(|path| path.heard.is_none()).then_some(Tone::RingBack)
                }
                Stage::Released { result, .. } => Some(after(result)),
                Stage::First { .. } | Stage::Joined | Stage::Over => None,
            };
            let first = callback.first_leg();
            if std::mem::replace(&mut self.callbacks[at].tone, tone) == tone {
                continue;
            }
            if let Some(index) = self.leg(&first) {
                let at = Sounder::Leg(self.calls[index].path.leg);
                self.outputs.push_back(Output::Media(Command::Tone { at, tone }));
            }
        }
    }

    /// The end of a whole call whose last leg has ended, if it was a callback.
    pub(super) fn close_callback(&mut self, now: Now, call: &str, legs: u32) -> Option<Kind> {
        let at = self.callback_of(call)?;
        Some(self.callbacks.remove(at).closed(now, legs))
    }

    fn callback_of(&self, call: &str) -> Option<usize> {
        self.callbacks.iter().position(|callback| callback.call == call)
    }
}

fn number(party: &Party) -> Number {
    party.number.clone().unwrap_or_default()
}

/// What came of somebody whom this device did not even call.
fn result_of(refusal: &Refusal) -> CallResult {
    match refusal.blame {
        Blame::Rule => CallResult::Barred,
        Blame::Wish => CallResult::InvalidNumber,
        Blame::State => CallResult::Congestion,
        Blame::NotFound | Blame::Environment => CallResult::Unreachable,
    }
}

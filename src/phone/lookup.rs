//! Who calls, as another system knows it: what it is asked, what its answers are believed, how long they are remembered.
//!
//! The call never depends on an answer. Without `wait` it rings at once and the name comes when it comes; with it the handset
//! stays silent until the answer or the end of the time-out, and then rings by the local rules; after some questions that nobody
//! has answered it is as without, until somebody does. What the system says is text of outside: a name is shown, and nothing
//! else; a number gets the call only if it is one inside of the PBX, which `[limits]` would let be called. So whoever owns that
//! system, or the way to it, can make no call lead out.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use super::call::Awaited;
use super::dial_string::digits;
use super::{Output, Phone};
use crate::config::{self, NumberPlan};
use crate::events::cloud_event::identity;
use crate::events::lookup::{Answer, Failure, Question};
use crate::events::store::Write;
use crate::events::{
    CallResult, Cause, Direction, Event, Kind, Leg, Number, Party, Side, Transfer, TransferWay,
};
use crate::now::{Now, micros};

/// So long an answer is of use at least: a name may come while people talk already.
const OF_USE: Duration = Duration::from_secs(10);
/// Questions whose answers are awaited; the oldest is given up.
const MOST_OPEN: usize = 64;
/// After so many questions in a row that nobody has answered, no call waits for an answer until there is one.
const PATIENCE: u32 = 3;
/// What to do about a number that gets no call.
const CURE: &str =
    "have the system answer numbers of extensions only; see pins of [lookup] and docs/lookup.md";

/// What is known of the other end when a call begins.
pub(super) enum Known {
    /// Nobody is asked.
    NotAsked,
    /// Nothing: somebody is asked about what this key stands for.
    Ask(String),
    /// What was answered before.
    Answered(Answer),
}

/// The questions that are open, and the answers that are remembered.
#[derive(Default)]
pub(super) struct Lookup {
    open: VecDeque<Open>,
    /// Oldest first; all live equally long.
    answers: VecDeque<Remembered>,
    /// Questions in a row that failed.
    failed: u32,
}

struct Open {
    id: Uuid,
    leg: String,
    key: String,
    /// When nobody answers any more.
    until: u64,
}

struct Remembered {
    key: String,
    answer: Answer,
    until: u64,
}

impl Lookup {
    /// Another system is asked from now on: what the one before said, and may say, is nothing.
    pub fn forget(&mut self) {
        *self = Lookup::default();
    }

    fn recall(&mut self, now: Now, key: &str) -> Option<Answer> {
        while self.answers.front().is_some_and(|oldest| oldest.until <= now.mono_us) {
            self.answers.pop_front();
        }
        self.answers.iter().find(|it| it.key == key).map(|it| it.answer.clone())
    }

    fn remember(&mut self, now: Now, key: String, answer: Answer, settings: &config::Lookup) {
        self.answers.retain(|it| it.key != key);
        if settings.remember.is_zero() {
            return;
        }
        while self.answers.len() >= settings.most as usize {
            self.answers.pop_front();
        }
        self.answers.push_back(Remembered { key, answer, until: now.deadline(settings.remember) });
    }

    fn take(&mut self, now: Now, id: Uuid) -> Option<Open> {
        self.open.retain(|it| it.until > now.mono_us);
        let index = self.open.iter().position(|it| it.id == id)?;
        self.open.remove(index)
    }
}

impl Phone {
    /// What is known of the other end of a call that begins; a name that was answered before stands in its facts then.
    pub(super) fn recalled(&mut self, now: Now, facts: &mut Leg) -> Known {
        let Some(key) = self.to_be_asked(now, facts) else { return Known::NotAsked };
        match self.lookup.recall(now, &key) {
            Some(answer) => {
                name(facts, &answer);
                Known::Answered(answer)
            }
            None => Known::Ask(key),
        }
    }

    /// What the other end is asked about by: one key for all spellings of a number.
    fn to_be_asked(&self, now: Now, facts: &Leg) -> Option<String> {
        let settings = &self.config.lookup;
        let wanted = settings.is_on()
            && (settings.lines.is_empty() || settings.lines.contains(&facts.line))
            && (facts.direction == Direction::In || settings.outgoing);
        // Nothing is done about a call for help, nor about whoever calls back for one.
        let helps = self.expects_helper(now);
        let number = facts.called_or_calling().number.as_ref().filter(|_| wanted && !helps)?;
        let outside = NumberPlan::is_outside(&number.dialled) || number.e164.is_some();
        let plan = self.config.line(&facts.line).map(|line| self.config.number_plan_of(line))?;
        let listed = self.config.blacklist.means(Some(&number.dialled), &plan);
        let emergency = self.config.emergency.number(&digits(&number.dialled)).is_some();
        ((outside || settings.internal) && !listed && !emergency).then(|| key(number))
    }

    /// A call that has just come rings, or waits until it is known who calls, or is for somebody else.
    pub(super) fn ring_or_ask(&mut self, now: Now, index: usize, known: Known) {
        let settings = &self.config.lookup;
        let (wait, until) = (settings.wait, now.deadline(settings.timeout));
        // A system that is away is asked, and costs no caller any time.
        let awaited = wait && self.lookup.failed < PATIENCE;
        match known {
            Known::Ask(key) => {
                if awaited {
                    self.calls[index].wait_for(Awaited::Name, until);
                }
                self.ask(now, index, key);
                if !awaited {
                    self.ring_or_recall(now, index);
                }
            }
            Known::Answered(answer) if wait => {
                let pin = self.checked_pin(now, index, &answer);
                self.ring_or_send_on(now, index, pin);
            }
            Known::Answered(_) | Known::NotAsked => self.ring_or_recall(now, index),
        }
    }

    /// Asks who is at the other end of a call.
    pub(super) fn ask(&mut self, now: Now, index: usize, key: String) {
        let id = identity(now, &mut self.chance);
        let deadline = now.mono_us + micros(self.config.lookup.timeout.max(OF_USE));
        let call = &self.calls[index];
        let (leg, utc_us) = (call.facts.clone(), call.began.utc_us);
        if self.lookup.open.len() >= MOST_OPEN {
            self.lookup.open.pop_front();
        }
        self.lookup.open.push_back(Open { id, leg: leg.leg_id.clone(), key, until: deadline });
        let question = Question { id, call: call.id.clone(), leg, utc_us, deadline };
        self.outputs.push_back(Output::Ask(Box::new(question)));
    }

    /// What came of a question.
    pub(super) fn looked_up(&mut self, now: Now, id: Uuid, answer: Result<Answer, Failure>) {
        let Some(Open { leg, key, .. }) = self.lookup.take(now, id) else { return };
        let index = self.calls.iter().position(|call| call.facts.leg_id == leg && !call.is_over());
        let answer = match answer {
            Ok(answer) => {
                self.lookup.failed = 0;
                answer
            }
            Err(Failure { what, cure }) => {
                self.lookup.failed = self.lookup.failed.saturating_add(1);
                self.handle_part(now, "lookup", Some((what, cure)));
                return self.go_on_unnamed(now, index);
            }
        };
        self.lookup.remember(now, key, answer.clone(), &self.config.lookup);
        let Some(index) = index else { return self.handle_part(now, "lookup", None) };
        self.name_caller(now, index, &answer);
        // A later answer sends nothing on: people may talk already.
        if self.calls[index].waits_for() != Some(Awaited::Name) {
            return self.handle_part(now, "lookup", None);
        }
        let pin = self.checked_pin(now, index, &answer);
        self.ring_or_send_on(now, index, pin);
    }

    fn go_on_unnamed(&mut self, now: Now, index: Option<usize>) {
        if let Some(index) = index.filter(|index| self.calls[*index].waits_for() == Some(Awaited::Name)) {
            self.ring_or_recall(now, index);
        }
    }

    /// The name is shown from now on.
    fn name_caller(&mut self, now: Now, index: usize, answer: &Answer) {
        let call = &mut self.calls[index];
        if !name(&mut call.facts, answer) {
            return;
        }
        let (id, leg, entry) = (call.id.clone(), call.facts.clone(), call.entry());
        self.keep(Write::Call(Box::new(entry)));
        self.tell(now, Event::of_call(id, Kind::PartyChanged { leg }));
    }

    fn ring_or_send_on(&mut self, now: Now, index: usize, pin: Option<String>) {
        match pin {
            Some(pin) => self.send_on(now, index, &pin),
            None => self.ring_or_recall(now, index),
        }
    }

    /// The number in an answer that gets the call, if one does. What is wrong with it is told; an answer without a fault says
    /// that the system works.
    fn checked_pin(&mut self, now: Now, index: usize, answer: &Answer) -> Option<String> {
        let leg = &self.calls[index].facts;
        let pins = &self.config.lookup.pins;
        let (pin, trouble) = match answer.pin.as_ref().map(|pin| (pin, self.may_get_call(leg, pin, pins))) {
            None => (None, None),
            Some((pin, Ok(may))) => (may.then(|| pin.clone()), None),
            Some((_, Err(what))) => {
                (None, Some((format!("an answer sends a call on to {what}"), CURE.to_owned())))
            }
        };
        self.handle_part(now, "lookup", trouble);
        pin
    }

    /// The caller is told to call somebody else instead (RFC 3261 §21.3.3).
    fn send_on(&mut self, now: Now, index: usize, pin: &str) {
        let call = &mut self.calls[index];
        let Some(line) = self.config.line(&call.facts.line) else { return };
        let uri = format!("sip:{pin}@{}", line.domain.as_str());
        let cause =
            Cause { status: Some(302), ..Cause::local("sent on to the extension that the look-up named") };
        call.verdict = Some((CallResult::AnsweredElsewhere, cause));
        call.given_to = Some(Number::new(pin));
        let (sip, id, leg) = (call.sip, call.id.clone(), call.facts.clone());
        let target = Party { number: Some(Number::new(pin)), name: None, uri: Some(uri.clone()) };
        let transfer = Transfer { way: TransferWay::Blind, target, with: None };
        let kind = Kind::CallTransferred { leg, transfer, by: Side::Local, next_leg: None };
        self.tell(now, Event::of_call(id, kind));
        let _ = self.agent.reject(now, sip, 302, None, &[("Contact".to_owned(), format!("<{uri}>"))]);
    }

    /// Another system is asked from now on, and no call waits for the one before.
    pub(super) fn lookup_changed(&mut self, now: Now) {
        self.lookup.forget();
        for index in 0..self.calls.len() {
            self.go_on_unnamed(now, Some(index));
        }
        self.handle_part(now, "lookup", None);
    }
}

/// Puts a name into the facts of a call; whether it says anything new.
fn name(facts: &mut Leg, answer: &Answer) -> bool {
    let party = match facts.direction {
        Direction::In => &mut facts.caller,
        Direction::Out => &mut facts.called,
    };
    let new = answer.name.is_some() && party.name != answer.name;
    if new {
        party.name.clone_from(&answer.name);
    }
    new
}

/// What a number is remembered by, however it is spelled.
fn key(number: &Number) -> String {
    number.e164.clone().unwrap_or_else(|| number.dialled.to_lowercase())
}

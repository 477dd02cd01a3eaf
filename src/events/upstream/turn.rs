//! Deliveries that take several requests in turn: what is next, what an answer means for it, and what of that outlives the program.
//!
//! A dialect says what is [next](Step) in delivering an event, and what it makes of the answer ([`Heard`]). Between two requests
//! a delivery rests in no state of its own: the next step follows from what is frozen and from what the dialect knows by now,
//! so that it is the same after a restart. What it must know then it has [remembered](Note) first: a delivery goes on when
//! that is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dialect::{Frozen, Request};
use super::outcome::{Outcome, Verdict};
use super::state::Condition;
use super::{Action, Upstream};
use crate::events::Suspension;
use crate::events::cloud_event::{CloudEvent, identity};
use crate::events::lookup::Question;
use crate::now::Now;

/// What an upstream remembers, by names that its dialect chose. There may be secrets among it.
pub type Notes = BTreeMap<String, String>;

/// Something to be remembered, or no longer.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    /// Its name.
    pub key: String,
    /// What it is; `None` to forget it.
    pub value: Option<String>,
}

impl std::fmt::Debug for Note {
    // It may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "note {}", self.key)
    }
}

/// What is next in a delivery.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Send(Box<Request>),
    /// Remember this, then go on.
    Remember(Vec<Note>),
    /// There is nothing to do, or nothing more.
    Done,
}

/// What an answer means for a delivery.
#[derive(Debug)]
pub struct Heard {
    /// What is to be remembered of it.
    pub notes: Vec<Note>,
    /// Whether it is over, and how; `None` when there is another [`Step`].
    pub over: Option<Verdict>,
    /// What is the matter, and what to do about it, where the answer says more than its status.
    pub trouble: Option<(String, String)>,
}

impl Heard {
    /// It is over.
    pub fn over(verdict: Verdict) -> Heard {
        Heard { notes: Vec::new(), over: Some(verdict), trouble: None }
    }

    /// It is over, for this reason.
    pub fn trouble(verdict: Verdict, what: impl Into<String>, cure: impl Into<String>) -> Heard {
        Heard { trouble: Some((what.into(), cure.into())), ..Heard::over(verdict) }
    }

    /// It goes on once this is kept.
    pub fn go_on(notes: Vec<Note>) -> Heard {
        Heard { notes, over: None, trouble: None }
    }
}

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    pub(super) trouble: (String, String),
    pub(super) retry_after: Option<Duration>,
    pub(super) status: Option<u16>,
}

/// What comes of a request of a test.
#[derive(Debug)]
pub enum Tried {
    /// Another request comes first.
    Next(Request),
    /// That was it; and why it failed, where the answer says more than its status.
    Over(Verdict, Option<(String, String)>),
}

impl Upstream {
    /// Gives it what an earlier life was told to [remember](Action::Remember).
    pub fn recall(&mut self, notes: Notes) {
        self.dialect.recall(notes);
    }

    /// Whether it is just getting what all of its deliveries need, and what would be lost with the answer.
    pub fn is_renewing(&self) -> bool {
        !self.dialect.is_ready()
    }

    /// The request that asks it who is at the other end of a call; `None` as long as it can't be asked: its token is over, and
    /// a delivery gets the next one.
    pub fn inquiry(&self, question: &Question, now: Now) -> Option<Request> {
        self.dialect.inquiry(question, now)
    }

    /// What became of a request that [`Action::Send`] asked for.
    pub fn handle_outcome(&mut self, now: Now, sequence: u64, outcome: Outcome) {
        let Some(index) = self.under_way_at(sequence) else { return };
        let Some(owed) = self.owed.get_mut(index) else { return };
        let Heard { notes, over, trouble } = self.dialect.heard(&owed.frozen, &outcome, now);
        let waits = over.is_none() && !notes.is_empty();
        if over.is_none() {
            owed.answered = true;
            owed.in_flight = waits;
        }
        if !notes.is_empty() {
            self.actions.push_back(Action::Remember { sequence: waits.then_some(sequence), notes });
        }
        if let Some(verdict) = over {
            self.over(now, index, verdict, trouble, outcome);
        }
        self.settle(now);
    }

    /// What [`Action::Remember`] asked to keep for this event is kept.
    pub fn handle_remembered(&mut self, now: Now, sequence: u64) {
        let index = self.under_way_at(sequence);
        if let Some(owed) = index.and_then(|index| self.owed.get_mut(index)) {
            owed.in_flight = false;
            self.dialect.remembered(&owed.frozen);
        }
        self.settle(now);
    }

    fn under_way_at(&self, sequence: u64) -> Option<usize> {
        self.owed.iter().position(|owed| owed.sequence == sequence && owed.in_flight)
    }

    fn over(
        &mut self,
        now: Now,
        index: usize,
        verdict: Verdict,
        trouble: Option<(String, String)>,
        outcome: Outcome,
    ) {
        if verdict == Verdict::Taken {
            return self.taken(now, index);
        }
        let (retry_after, status) = (outcome.retry_after(), outcome.status());
        let trouble = trouble.unwrap_or_else(|| outcome.explain(self.settings.kind));
        if verdict == Verdict::Gone {
            self.trouble = Some(trouble.clone());
            self.condition = Condition::Stopped;
            self.keep_at = Some(now.mono_us);
            self.suspend(Suspension::Gone, None);
        }
        self.failed(now, index, Failure { verdict, trouble, retry_after, status });
    }

    /// Does what is next in delivering this event.
    pub(super) fn step(&mut self, now: Now, index: usize) {
        let Some(owed) = self.owed.get_mut(index) else { return };
        let sequence = owed.sequence;
        match self.dialect.step(&owed.frozen, now) {
            Step::Send(request) => {
                owed.in_flight = true;
                self.actions.push_back(Action::Send { sequence, request: *request });
            }
            Step::Remember(notes) => {
                owed.in_flight = true;
                self.actions.push_back(Action::Remember { sequence: Some(sequence), notes });
            }
            Step::Done if owed.answered => self.taken(now, index),
            // Nobody has shown to be there.
            Step::Done => {
                self.owed.remove(index);
                self.keep_soon(now);
            }
        }
    }

    /// What shows whether the upstream can be reached and believes us, and the first request for it; `None` while it gets what
    /// that would need, too. It is no event: nothing is kept of it.
    pub fn test(&mut self, now: Now) -> Option<(Frozen, Request)> {
        let event = CloudEvent {
            sequence: 0,
            id: identity(now, &mut self.chance),
            utc_us: now.utc_us,
            kind: "upstream.test".to_owned(),
            subject: None,
            data: "{}".to_owned(),
        };
        let test = self.dialect.test(&event);
        if !self.dialect.is_ready() {
            return None;
        }
        match self.dialect.step(&test, now) {
            Step::Send(request) => Some((test, *request)),
            Step::Remember(_) | Step::Done => None,
        }
    }

    /// What became of a request of a test.
    pub fn handle_tested(&mut self, now: Now, test: &Frozen, outcome: &Outcome) -> Tried {
        let Heard { notes, over, trouble } = self.dialect.heard(test, outcome, now);
        if !notes.is_empty() {
            self.actions.push_back(Action::Remember { sequence: None, notes });
            self.dialect.remembered(test);
        }
        let tried = match over {
            Some(verdict) => Tried::Over(verdict, trouble),
            None => match self.dialect.step(test, now) {
                Step::Send(request) => Tried::Next(*request),
                Step::Remember(_) | Step::Done => Tried::Over(Verdict::Taken, None),
            },
        };
        // Deliveries may have waited for what it got.
        self.settle(now);
        tried
    }
}

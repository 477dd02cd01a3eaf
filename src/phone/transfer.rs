//! Giving a call away: the far end is asked to call somebody else in our place (blind), or to take over another call of
//! ours (attended). What came of it is told, and the calls end here once it was good.

use super::Phone;
use super::command::{Blame, Destination, Outcome, Refusal, Reply};
use super::outgoing::Meant;
use crate::events;
use crate::events::{CallResult, Cause, Event, Kind, Leg, Origin, Party, Transfer, TransferWay};
use crate::now::Now;
use crate::sip::call::{self, Ended, Ending, Side};
use crate::sip::uri::Uri;

/// A transfer that the far end was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Asked {
    what: Transfer,
    /// The far end tries.
    accepted: bool,
    /// It says how far it is, and would say so of the end.
    tells: bool,
}

impl Asked {
    /// The number of who gets the call, as far as it is known.
    pub fn number(&self) -> String {
        let Party { number, name, uri } = &self.what.target;
        let number = number.as_ref().map(|number| number.dialled.clone());
        number.or_else(|| uri.clone()).or_else(|| name.clone()).unwrap_or_default()
    }
}

impl Phone {
    pub(super) fn transfer(
        &mut self,
        now: Now,
        id: Option<&str>,
        to: &Destination,
        origin: Origin,
    ) -> Outcome {
        let with = match to {
            Destination::Target(_) => None,
            Destination::Call(with) => Some(with.as_str()),
        };
        let index = self.find(id, "active", |call| call.is_active() && Some(call.id.as_str()) != with)?;
        if let Some(transfer) = &self.calls[index].transfer {
            let message = format!("the call is being transferred to {}", transfer.number());
            let hint = "wait for what comes of it; `tipring status` shows it";
            return Err(Refusal::new(Blame::State, "not_now", message, hint));
        }
        let (uri, target) = match to {
            Destination::Target(target) => self.transfer_target(now, index, target, origin)?,
            Destination::Call(with) => {
                let other = self.find(Some(with), "active", |call| call.is_active())?;
                let leg = self.calls[other].facts.clone();
                self.may_give_away(now, index, leg, origin)?;
                self.take_over(with)?
            }
        };
        let (sip, line) = (self.calls[index].sip, self.calls[index].facts.line.clone());
        if let Err(error) = self.agent.refer(now, sip, uri) {
            return Err(Refusal::new(Blame::State, "not_now", error.to_string(), "try again in a moment"));
        }
        if with.is_none() {
            // The PBX will call somebody at our expense.
            let usage = self.guard.started(now, &line);
            self.keep_usage(usage);
        }
        let call = &mut self.calls[index];
        let way = if with.is_some() { TransferWay::Attended } else { TransferWay::Blind };
        let what = Transfer { way, target, with: with.map(str::to_owned) };
        call.transfer = Some(Asked { what, accepted: false, tells: false });
        Ok(Reply::Call(Box::new(call.view(now))))
    }

    /// Whom the PBX is to call, if the rules of this device allow it.
    fn transfer_target(
        &mut self,
        now: Now,
        index: usize,
        to: &str,
        origin: Origin,
    ) -> Result<(Uri, Party), Refusal> {
        let line = self.calls[index].facts.line.clone();
        let Meant { target: uri, called, .. } = self.meant_on(now, to, &line)?;
        self.permitted(now, &line, &called, &uri, origin)?;
        let leg = self.outgoing_facts(&line, &called, &uri);
        let party = leg.called.clone();
        self.may_give_away(now, index, leg, origin)?;
        Ok((uri, party))
    }

    /// Whether the far end of a call may have that of `leg`.
    fn may_give_away(&mut self, now: Now, index: usize, leg: Leg, origin: Origin) -> Result<(), Refusal> {
        if self.is_outside(&self.calls[index].facts) && self.is_outside(&leg) {
            return self.may_join_outside(now, leg, origin);
        }
        Ok(())
    }

    /// Another call of ours, for the far end to take our place in.
    fn take_over(&self, with: &str) -> Result<(Uri, Party), Refusal> {
        let other = self.find(Some(with), "active", |call| call.is_active())?;
        let party = self.calls[other].facts.remote();
        let uri = self.agent.takes_over(self.calls[other].sip).ok_or_else(|| {
            let message = format!("the far end of call {with} can't be called by others");
            Refusal::new(Blame::State, "not_now", message, "transfer to its number instead")
        })?;
        Ok((uri, party.clone()))
    }

    /// The far end says how it goes.
    pub(super) fn transfer_news(&mut self, now: Now, index: usize, news: call::Transfer) {
        match news {
            call::Transfer::Accepted | call::Transfer::Progress { .. } => {
                if let Some(transfer) = &mut self.calls[index].transfer {
                    transfer.accepted = true;
                    transfer.tells |= matches!(news, call::Transfer::Progress { .. });
                }
            }
            call::Transfer::Done => self.transferred(now, index),
            call::Transfer::Failed { status, reason } => {
                let cause = Cause::remote(status, reason);
                self.transfer_failed(
                    now,
                    index,
                    Cause { status: cause.status.filter(|it| *it > 0), ..cause },
                );
            }
        }
    }

    /// A call ends while nobody has said what came of its transfer, or is one that was given away with another.
    pub(super) fn note_given_away(&mut self, now: Now, index: usize, ended: &Ended) {
        let by_far_end = ended.by == Side::Remote && ended.ending == Ending::HungUp;
        match &self.calls[index].transfer {
            // Some PBXs end the call as soon as the target has it, and never say a word.
            Some(transfer) if transfer.accepted && !transfer.tells && by_far_end => {
                self.transferred(now, index);
            }
            Some(_) => {
                let cause = Cause::local("the call ended before it was known what came of it");
                self.transfer_failed(now, index, cause);
            }
            None => {
                let id = &self.calls[index].id;
                let mut transfers =
                    self.calls.iter().filter_map(|call| Some((call, call.transfer.as_ref()?)));
                let taken = transfers
                    .find(|(_, transfer)| transfer.accepted && transfer.what.with.as_ref() == Some(id))
                    .filter(|_| by_far_end);
                if let Some((other, _)) = taken {
                    let theirs = other.facts.remote().number.clone();
                    let cause = Cause::local("joined with another call");
                    self.calls[index].verdict.get_or_insert((CallResult::Answered, cause));
                    self.calls[index].given_to = theirs;
                }
            }
        }
    }

    /// The target has the call; what stands of it here ends.
    fn transferred(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        let Some(transfer) = call.transfer.take() else { return };
        let (id, leg) = (call.id.clone(), call.facts.clone());
        let cause = Cause::local(format!("transferred to {}", transfer.number()));
        let with = transfer.what.with.clone();
        call.given_to.clone_from(&transfer.what.target.number);
        let theirs = leg.remote().number.clone();
        self.tell(
            now,
            Event::of_call(
                id,
                Kind::CallTransferred {
                    leg,
                    transfer: transfer.what,
                    by: events::Side::Local,
                    next_leg: None,
                },
            ),
        );
        self.end_call(now, index, Some(cause));
        let other = |call: &super::call::Call| Some(&call.id) == with.as_ref() && !call.is_over();
        if let Some(other) = self.calls.iter().position(other) {
            self.calls[other].given_to = theirs;
            self.end_call(now, other, Some(Cause::local("joined with another call")));
        }
    }

    fn transfer_failed(&mut self, now: Now, index: usize, cause: Cause) {
        let call = &mut self.calls[index];
        let Some(transfer) = call.transfer.take() else { return };
        let (id, leg) = (call.id.clone(), call.facts.clone());
        let kind = Kind::TransferFailed { leg, transfer: transfer.what, cause };
        self.tell(now, Event::of_call(id, kind));
    }
}

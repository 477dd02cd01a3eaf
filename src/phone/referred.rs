//! Being given away: the far end of a call asks this device to call somebody else in its place (REFER). The new leg is one of
//! the same call; `[limits]` decide on it as on any other, and the line's `accept_transfer` whether at all.

use super::Phone;
use super::call::{Call, Phase};
use super::command::{Blame, Refusal};
use super::outgoing::Place;
use crate::events::{CallResult, Cause, EndedBy, Event, Follows, Kind, Origin, Side, Transfer, TransferWay};
use crate::now::Now;
use crate::sip::call::{self, Ended, Ending, Referred};
use crate::sip::fields::FieldValue;
use crate::sip::replaces::Replaces;

/// So long the far end may take to hang up once the target has answered.
const HANGS_UP_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What a leg is for that the far end of another one asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Errand {
    /// The leg whose far end asked; it may be over by now.
    asked_by: String,
    way: TransferWay,
    /// `call.transferred` has been told.
    told: bool,
}

impl Phone {
    /// The far end of a call asks us to call somebody else.
    pub(super) fn referred(&mut self, now: Now, index: usize, asked: &Referred) {
        let sip = self.calls[index].sip;
        let reply = self.go_there(now, index, asked).map_err(|refusal| match refusal.blame {
            Blame::Wish | Blame::NotFound => 404,
            Blame::Rule | Blame::State => 603,
            Blame::Environment => 503,
        });
        let _ = self.agent.reply_refer(now, sip, reply);
    }

    fn go_there(&mut self, now: Now, index: usize, asked: &Referred) -> Result<(), Refusal> {
        let call = &self.calls[index];
        let (id, asked_by, line) = (call.id.clone(), call.facts.leg_id.clone(), call.facts.line.clone());
        let busy = call.bridge.is_some() || call.transfer.is_some() || self.errand_of(&asked_by).is_some();
        if !call.is_active() || busy || !self.known_line(&line)?.config.accept_transfer {
            return Err(Refusal::new(Blame::State, "not_now", "the call can't be given away to us", "-"));
        }
        let mut meant = self.meant_on(now, &asked.target.to_string(), &line)?;
        meant.fields.extend(asked.by.iter().map(|by| ("Referred-By".to_owned(), by.to_string())));
        if let Some(replaces) = &asked.replaces {
            meant.fields.push((Replaces::NAME.to_owned(), replaces.write()));
        }
        let way = if asked.replaces.is_some() { TransferWay::Attended } else { TransferWay::Blind };
        let follows = Some(Follows { leg_id: asked_by.clone(), way });
        let place = Place { leg: self.next_leg(&id), call: id, bridge: None, callback: None, follows };
        // Before the new leg begins: it must not put this one on hold.
        self.calls[index].sent_on = true;
        let new = match self.dial_leg(now, meant, Some(place), Origin::Refer) {
            Ok(new) => new,
            Err(refusal) => {
                self.calls[index].sent_on = false;
                return Err(refusal);
            }
        };
        self.calls[new].must_end_at = self.calls[index].end_at();
        self.calls[new].muted = self.calls[index].muted;
        self.calls[new].recorded_by_wish = Some(self.calls[index].recording.is_some());
        self.calls[new].errand = Some(Errand { asked_by, way, told: false });
        Ok(())
    }

    /// The leg that the far end of this one has us begin.
    pub(super) fn errand_of(&self, leg_id: &str) -> Option<usize> {
        let is_it = |call: &Call| call.errand.as_ref().is_some_and(|errand| errand.asked_by == leg_id);
        self.calls.iter().position(|call| is_it(call) && !call.is_over())
    }

    /// The leg whose far end asked for this one, while it lasts.
    fn referrer_of(&self, index: usize) -> Option<usize> {
        let asked_by = &self.calls[index].errand.as_ref()?.asked_by;
        self.calls.iter().position(|call| call.facts.leg_id == *asked_by && !call.is_over())
    }

    /// It rings at whom we were sent to.
    pub(super) fn errand_rings(&mut self, now: Now, index: usize) {
        if let Some(referrer) = self.referrer_of(index) {
            let sip = self.calls[referrer].sip;
            self.agent.tell_referrer(now, sip, 180);
        }
    }

    /// Whom we were sent to has answered: the far end that asked for it is told, and has only to hang up.
    pub(super) fn errand_answered(&mut self, now: Now, index: usize) {
        let Some(referrer) = self.referrer_of(index) else { return };
        // Somebody may have been muted, or no longer be, while it rang over there.
        let (leg_id, muted) = (self.calls[index].facts.leg_id.clone(), self.calls[referrer].muted);
        if self.calls[index].muted != muted {
            let _ = self.mute(now, Some(&leg_id), muted);
        }
        self.tell_given_away(now, referrer, index);
        let target = self.calls[index].facts.called_or_calling();
        let number = target.number.clone().unwrap_or_default().dialled;
        let call = &mut self.calls[referrer];
        let text = Some(format!("the far end transferred it to {number}"));
        let cause = Cause { text, by: Some(EndedBy::Remote), ..Cause::default() };
        call.verdict.get_or_insert((CallResult::Answered, cause));
        if let Phase::Active { end_at, .. } = &mut call.phase {
            *end_at = Some(now.deadline(HANGS_UP_WITHIN));
        }
        let sip = call.sip;
        self.agent.tell_referrer(now, sip, 200);
    }

    /// A leg ends: one that the far end of another had us begin, or the one that it was asked in.
    pub(super) fn note_errand(&mut self, now: Now, index: usize, ended: &Ended) {
        if let Some(new) = self.errand_of(&self.calls[index].facts.leg_id) {
            // Some hang up as soon as we say that we try.
            if ended.by == call::Side::Remote && ended.ending == Ending::HungUp {
                self.tell_given_away(now, index, new);
            }
        }
        if self.calls[index].answered().is_some() {
            return;
        }
        let Some(referrer) = self.referrer_of(index) else { return };
        let status = ended.status.filter(|status| *status >= 300).unwrap_or(match ended.ending {
            Ending::Cancelled | Ending::HungUp => 487,
            _ => 503,
        });
        let call = &self.calls[referrer];
        let (sip, id, leg) = (call.sip, call.id.clone(), call.facts.clone());
        let transfer = self.given_to(index);
        let cause = Cause::remote(status, ended.phrase.clone());
        self.tell(now, Event::of_call(id, Kind::TransferFailed { leg, transfer, cause }));
        self.calls[referrer].sent_on = false;
        self.agent.tell_referrer(now, sip, status);
    }

    fn given_to(&self, index: usize) -> Transfer {
        let call = &self.calls[index];
        let way = call.errand.as_ref().map_or(TransferWay::Blind, |errand| errand.way);
        Transfer { way, target: call.facts.called_or_calling().clone(), with: None }
    }

    fn tell_given_away(&mut self, now: Now, referrer: usize, index: usize) {
        let transfer = self.given_to(index);
        let next_leg = Some(self.calls[index].facts.leg_id.clone());
        let Some(errand) = self.calls[index].errand.as_mut().filter(|errand| !errand.told) else { return };
        errand.told = true;
        let call = &self.calls[referrer];
        let (id, leg) = (call.id.clone(), call.facts.clone());
        let kind = Kind::CallTransferred { leg, transfer, by: Side::Remote, next_leg };
        self.tell(now, Event::of_call(id, kind));
    }
}

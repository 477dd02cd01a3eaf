//! Somebody else in the place of the far end: an INVITE that names a call of ours (Replaces, RFC 3891). The new leg is one of
//! the same call and is answered at once, the old one ends. Nothing that keeps calls from ringing counts: whoever is at the
//! device talks already, or waits for an answer.

use super::Phone;
use super::call::{Call, Phase};
use super::command::{RecordAction, Refusal};
use super::incoming::{Prepared, Unfit};
use crate::events::{
    CallResult, Cause, EndedBy, Event, Follows, Kind, Leg, Origin, Side, Transfer, TransferWay,
};
use crate::now::Now;
use crate::sip::call::Incoming;
use crate::sip::handle::{AccountId, CallId};
use crate::sip::reason::Reason;

impl Phone {
    /// An INVITE takes the place of a call, unless that is ending, or there is nothing to talk over: then that goes on.
    pub(super) fn replace(
        &mut self,
        now: Now,
        sip: CallId,
        account: AccountId,
        incoming: &Incoming,
        predecessor: CallId,
    ) {
        let stands = |call: &Call| call.sip == predecessor && !call.is_over() && call.verdict.is_none();
        let Some(old) = self.calls.iter().position(stands) else {
            let _ = self.agent.reject(now, sip, 603, None, &[]);
            return;
        };
        let line = self.calls[old].facts.line.clone();
        let facts = self.incoming_facts(&line, incoming);
        if self.may_be_joined(now, old, &facts).is_err() {
            let _ = self.agent.reject(now, sip, 603, None, &[]);
            return;
        }
        match self.prepare(&line, account, incoming) {
            Ok(Prepared { path, negotiation, shares_port }) => {
                let id = self.calls[old].id.clone();
                let mut new =
                    Call::new(now, id, facts, sip, Phase::Ringing { automatic: None }, path, negotiation);
                new.offer.clone_from(&incoming.offer);
                self.succeed(now, old, new, shares_port);
            }
            Err(Unfit::NoPort) => {
                let _ = self.agent.reject(now, sip, 480, None, &[]);
            }
            Err(Unfit::NoMedia(refusal)) => self.reject_offer(now, sip, &refusal),
        }
    }

    /// Whether whoever comes may have the other end of the bridge that the old leg is in.
    fn may_be_joined(&mut self, now: Now, old: usize, new: &Leg) -> Result<(), Refusal> {
        let before = &self.calls[old];
        let shares = |call: &&Call| call.bridge == before.bridge && call.facts.leg_id != before.facts.leg_id;
        let other = self.calls.iter().filter(|call| !call.is_over() && !call.emergency).find(shares);
        let other = other.filter(|_| before.bridge.is_some()).map(|call| &call.facts);
        if other.is_some_and(|other| self.is_outside(other) && self.is_outside(new)) {
            return self.may_join_outside(now, new.clone(), Origin::Network);
        }
        Ok(())
    }

    /// The new leg gets what the old one had, and is answered; then the old one ends.
    fn succeed(&mut self, now: Now, old: usize, mut new: Call, shares_port: bool) {
        new.facts.leg_id = format!("{}-{}", new.id, self.next_leg(&new.id));
        let before = &mut self.calls[old];
        let paused = before.recording.as_ref().is_some_and(|recording| recording.paused);
        new.facts.callback_id.clone_from(&before.facts.callback_id);
        (new.bridge, new.muted, new.emergency) = (before.bridge, before.muted, before.emergency);
        new.recorded_by_wish = before.is_active().then_some(before.recording.is_some());
        new.errand = before.errand.take();
        new.must_end_at = before.end_at().or(before.must_end_at);
        // Nobody hears it from now on: it is not put on hold when the new one is answered.
        let sent_on = std::mem::replace(&mut before.sent_on, true);
        let (old_leg, bridged) = (before.facts.leg_id.clone(), before.bridge.is_some());
        let follows = Follows { leg_id: old_leg.clone(), way: TransferWay::Attended };
        new.facts.follows = Some(Box::new(follows));
        let (id, leg) = (new.id.clone(), new.facts.clone());
        self.begin_incoming(new, shares_port);
        let index = self.calls.len() - 1;
        self.tell(now, Event::of_call(&id, Kind::CallNew { leg: leg.clone(), origin: Origin::Network }));
        self.bridge_leg_replaced(&id, &old_leg, &leg.leg_id);
        if !bridged {
            self.quiet_others(now);
        }
        if self.take(now, index).is_err() {
            // Whoever came has just given up: the old leg is what it was.
            self.bridge_leg_replaced(&id, &leg.leg_id, &old_leg);
            let errand = self.calls[index].errand.take();
            (self.calls[old].sent_on, self.calls[old].errand) = (sent_on, errand);
            return;
        }
        if paused {
            let _ = self.record(now, Some(&leg.leg_id), RecordAction::Pause);
        }
        self.give_up_place(now, old, &leg);
    }

    /// Ends a leg whose place another one has.
    fn give_up_place(&mut self, now: Now, old: usize, new: &Leg) {
        let call = &self.calls[old];
        let (id, sip, leg, answered) = (call.id.clone(), call.sip, call.facts.clone(), call.is_active());
        if let Some(errand) = self.errand_of(&leg.leg_id) {
            self.end_call(now, errand, Some(Cause::local("somebody else took the call over")));
        }
        let target = new.caller.clone();
        let who = target.number.as_ref().map_or("somebody else", |number| number.dialled.as_str());
        let text = Some(format!("taken over by {who}"));
        let cause = Cause { text, by: Some(EndedBy::Remote), ..Cause::default() };
        let result = if answered { CallResult::Answered } else { CallResult::Cancelled };
        let transfer = Transfer { way: TransferWay::Attended, target, with: None };
        let next_leg = Some(new.leg_id.clone());
        let kind = Kind::CallTransferred { leg, transfer, by: Side::Remote, next_leg };
        self.tell(now, Event::of_call(id, kind));
        self.calls[old].verdict = Some((result, cause));
        // Where it still rings nobody has missed anything (RFC 3326).
        let reason = (!answered).then(|| Reason::sip(200, "Call completed elsewhere"));
        let _ = self.agent.hang_up(now, sip, reason);
    }
}

//! The ways out of a call: BYE in both directions, Reason (RFC 3326), and what is told at the end.

use crate::now::Now;
use crate::sip::call::event::{CallEvent, Ended, Ending, Side};
use crate::sip::call::leg::Turn;
use crate::sip::call::{Ask, Call, CallError, Stage};
use crate::sip::fields::{FieldValue as _, Fields};
use crate::sip::handle::TransactionId;
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::Contacts;
use crate::sip::reason::Reason;
use crate::sip::wire::Wire;

/// The most targets of a 3xx that are reported.
const MAX_CONTACTS: usize = 16;

impl Ended {
    /// Takes over what a final response tells.
    pub(super) fn take_response(&mut self, response: &Response) {
        self.status = Some(response.status);
        self.phrase = response.reason.clone();
        self.take_reasons(&response.fields);
        if (300..400).contains(&response.status)
            && let Ok(Some(Contacts::List(mut contacts))) = response.fields.contacts()
        {
            contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q()));
            contacts.truncate(MAX_CONTACTS);
            self.contacts = contacts;
        }
        let retry_after = response.fields.text("Retry-After").unwrap_or_default();
        let digits: String = retry_after.trim().chars().take_while(char::is_ascii_digit).collect();
        self.retry_after_s = digits.parse().ok();
        self.warning = response.fields.text("Warning").map(|warning| warning.into_owned());
    }

    /// Takes over the Reason fields of a message.
    pub(super) fn take_reasons(&mut self, fields: &Fields) {
        self.reasons = fields.list::<Reason>().unwrap_or_default();
        self.elsewhere = self.reasons.iter().any(Reason::is_answered_elsewhere);
    }
}

impl Call {
    /// Ends the call in the way its state asks for: CANCEL, 480, BYE, or BYE once our 2xx is acknowledged.
    ///
    /// # Errors
    /// [`CallError::Over`] if it has ended already.
    pub fn hang_up(&mut self, now: Now, reason: Option<Reason>, wire: &mut Wire) -> Result<(), CallError> {
        let told = reason.clone();
        match self.stage {
            Stage::Over => return Err(CallError::Over),
            Stage::Inviting => self.cancel(now, reason.map(|reason| reason.write()), wire),
            Stage::Ringing => {
                let fields: Vec<_> =
                    reason.iter().map(|reason| (Reason::NAME.to_owned(), reason.write())).collect();
                self.refuse_invite(now, 480, None, &fields, wire);
                let ended = Ended { status: Some(480), ..Ended::new(Ending::Rejected, Side::Local) };
                self.finish(now, ended, wire);
            }
            Stage::Talking => {
                self.hang_up_dialog(now, reason, wire);
                let mut ended = Ended::new(Ending::HungUp, Side::Local);
                ended.reasons.extend(told);
                self.finish(now, ended, wire);
            }
        }
        Ok(())
    }

    /// Ends the dialog of a call that was answered, by BYE: with the ACK before it where one is owed, or
    /// after the ACK that the peer owes.
    fn hang_up_dialog(&mut self, now: Now, reason: Option<Reason>, wire: &mut Wire) {
        let Some(index) = self.chosen else { return };
        if let Turn::InSuccess(cseq) = self.legs[index].turn {
            self.legs[index].turn = Turn::Idle;
            self.answer_in_ack(now, index, cseq, None, wire);
        }
        if self.unacknowledged.is_some() {
            self.bye_after_ack = Some(reason);
        } else {
            self.bye(now, index, reason.as_ref(), wire);
        }
    }

    /// Sends a BYE in this dialog.
    pub(super) fn bye(&mut self, now: Now, index: usize, reason: Option<&Reason>, wire: &mut Wire) {
        let mut request = self.legs[index].dialog.request(Method::BYE);
        if let Some(reason) = reason {
            request.fields.put(reason);
        }
        self.ask(now, index, request, Ask::Bye, wire);
    }

    /// The call itself decides that it is over: whatever is open is closed, the peer is told by BYE, or by the end of the
    /// INVITE that is not answered yet.
    pub(super) fn give_up(&mut self, now: Now, ending: Ending, status: u16, wire: &mut Wire) {
        let side = match ending {
            Ending::SessionExpired | Ending::PeerGone => Side::Remote,
            _ => Side::Local,
        };
        match (self.stage, &self.outgoing) {
            (Stage::Ringing, _) => self.refuse_invite(now, 480, None, &[], wire),
            (Stage::Inviting, Some(outgoing)) => wire.cancel(now, outgoing.id, None),
            _ => self.hang_up_dialog(now, None, wire),
        }
        let ended = Ended { status: Some(status), ..Ended::new(ending, side) };
        self.finish(now, ended, wire);
    }

    /// BYE: answered whatever the state; the call ends with it.
    pub(super) fn on_bye(
        &mut self,
        now: Now,
        index: usize,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        wire.respond(now, transaction, Response::to(request, 200));
        self.close_open_requests(now, index, wire);
        self.legs[index].gone = true;
        if self.unacknowledged.take().is_some() && self.bye_after_ack.take().is_some() {
            // The peer's BYE came before ours could go out: both are content.
            return;
        }
        if self.stage == Stage::Over || (self.stage == Stage::Inviting && self.chosen.is_none()) {
            // An early dialog may end by BYE while the INVITE goes on to other forks.
            return;
        }
        self.refuse_invite(now, 487, None, &[], wire);
        let mut ended = Ended::new(Ending::HungUp, Side::Remote);
        ended.take_reasons(&request.fields);
        self.finish(now, ended, wire);
    }

    /// A request of theirs that still waits gets 487 (RFC 3261 §15.1.2).
    fn close_open_requests(&mut self, now: Now, index: usize, wire: &mut Wire) {
        let turn = &mut self.legs[index].turn;
        if let Turn::InRequest(open) | Turn::Wanted(open) = turn {
            wire.respond(now, open.transaction, Response::to(&open.request, 487));
            *turn = Turn::Idle;
        }
    }

    /// Tells the end, once.
    pub(super) fn finish(&mut self, now: Now, ended: Ended, wire: &mut Wire) {
        if self.stage == Stage::Over {
            return;
        }
        for index in 0..self.legs.len() {
            self.close_open_requests(now, index, wire);
        }
        self.cancel_reinvite(now, wire);
        self.forget_referrer(now, wire);
        self.stage = Stage::Over;
        self.timer.stop();
        self.glare.retry_at = None;
        wire.event(self.id, CallEvent::Ended(Box::new(ended)));
    }
}

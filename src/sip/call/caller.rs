//! Our INVITE until it is answered: forks, 18x with and without PRACK, several 2xx, CANCEL races, 422.

use crate::now::{Now, micros};
use crate::sip::call::event::{CallEvent, Description, DialogKey, Ended, Ending, Side};
use crate::sip::call::leg::{Leg, Turn};
use crate::sip::call::settings::{InviteOptions, Prack};
use crate::sip::call::{
    ALLOW, Ask, Call, CallSettings, Identity, MAX_LEGS, SentAck, Stage, description_in, identity,
};
use crate::sip::dialog::{Dialog, Sequence};
use crate::sip::handle::{AccountId, CallId, RequestId};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::rack::RAck;
use crate::sip::ua_event::Failure;
use crate::sip::uri::Uri;
use crate::sip::wire::Wire;

/// How often a 422 is answered with a longer session interval.
const MAX_RAISES: u8 = 3;
/// The most ACKs that are kept for 2xx that come again.
const MAX_ACKS: usize = MAX_LEGS + 8;

/// Our INVITE.
#[derive(Debug)]
pub(super) struct OutgoingInvite {
    pub(super) id: RequestId,
    /// As it was given to the wire, for its dialogs and for sending it again.
    request: Request,
    sequence: Sequence,
    has_offer: bool,
    is_trying: bool,
    raises: u8,
    /// A final response came, or none will.
    pub(super) is_final: bool,
}

impl Call {
    /// Calls `target` for the line `account`.
    pub fn invite(
        now: Now,
        id: CallId,
        account: AccountId,
        target: Uri,
        options: InviteOptions,
        wire: &mut Wire,
    ) -> Call {
        let (settings, line) = match wire.account(account) {
            Some(line) => (
                line.calls.clone(),
                NameAddr::new(Uri::Sip(line.aor.clone())).with_display(line.display_name.as_deref()),
            ),
            None => (CallSettings::default(), NameAddr::new(target.clone())),
        };
        let mut call = Call::new(id, account, settings, wire.new_call_id(), wire.new_tag(), Stage::Inviting);
        let sequence = Sequence::new(1);
        let from = identity::from(line.clone(), &options).with_tag(&call.local_tag);
        let to = NameAddr::new(target.clone());
        let mut request = Request::new(Method::INVITE, target, from, to, &call.call_id, sequence.next());
        identity::write(&line, &options, &mut request.fields);
        call.say_supported(&mut request.fields);
        request.fields.push("Allow", ALLOW);
        if call.settings.prack == Prack::Required {
            request.fields.push("Require", "100rel");
        }
        call.timer.ask(&mut request.fields);
        for (name, value) in &options.fields {
            request.fields.push(name, value.as_str());
        }
        let has_offer = options.offer.is_some();
        if let Some(offer) = options.offer {
            request.set_body("application/sdp", offer);
        }
        let invite = wire.send_request(now, id, account, request.clone(), &sequence);
        call.outgoing = Some(OutgoingInvite {
            id: invite,
            request,
            sequence,
            has_offer,
            is_trying: false,
            raises: 0,
            is_final: false,
        });
        call
    }

    pub(super) fn on_invite_response(&mut self, now: Now, response: &Response, wire: &mut Wire) {
        match response.status {
            0..=100 => self.tell_trying(wire),
            101..=199 => self.on_progress(now, response, wire),
            200..=299 => self.on_success(now, response, wire),
            _ => self.on_refusal(now, response, wire),
        }
    }

    fn tell_trying(&mut self, wire: &mut Wire) {
        if let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| !outgoing.is_trying) {
            outgoing.is_trying = true;
            if self.stage == Stage::Inviting {
                wire.event(self.id, CallEvent::Trying);
            }
        }
    }

    /// The dialog a response belongs to, made if it is new.
    fn leg_of(&mut self, response: &Response) -> Option<usize> {
        let tag = response.head.to_tag()?;
        if let Some(index) = self.legs.iter().position(|leg| leg.dialog.remote_tag == tag) {
            return Some(index);
        }
        if self.legs.len() == MAX_LEGS {
            return None;
        }
        let invite = &self.outgoing.as_ref()?.request;
        let dialog = Dialog::from_response(invite, response).or_else(|| {
            // A 2xx without Contact: the peer is where the INVITE went.
            Dialog::from_response(invite, &Response { status: 183, ..response.clone() })
        })?;
        let mut leg = Leg::new(dialog);
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_offer) {
            leg.turn = Turn::Ours;
        }
        self.legs.push(leg);
        Some(self.legs.len() - 1)
    }

    fn on_progress(&mut self, now: Now, response: &Response, wire: &mut Wire) {
        self.tell_trying(wire);
        if self.chosen.is_some() || self.outgoing.as_ref().is_none_or(|outgoing| outgoing.is_final) {
            return;
        }
        let sdp = description_in(&response.fields, &response.body);
        let mut told = None;
        let mut key = DialogKey::default();
        if let Some(index) = self.leg_of(response) {
            key = self.legs[index].key();
            self.legs[index].hear_allow(&response.fields);
            let rseq = response.fields.number("RSeq").ok().flatten().filter(|rseq| *rseq > 0);
            match rseq.filter(|_| response.fields.has_token("Require", "100rel")) {
                Some(rseq) if self.settings.prack != Prack::Off => {
                    let in_order = self.legs[index].rseq.is_none_or(|last| rseq == last.wrapping_add(1));
                    if !in_order {
                        return;
                    }
                    self.legs[index].rseq = Some(rseq);
                    let rack = RAck { rseq, cseq: response.head.cseq.number, method: Method::INVITE };
                    told = self.take_reliable(now, index, rack, sdp, wire);
                }
                _ => told = self.take_unreliable(index, sdp),
            }
        }
        if self.stage == Stage::Inviting {
            let (status, phrase) = (response.status, response.reason.clone());
            wire.event(self.id, CallEvent::Progress { status, phrase, dialog: key, sdp: told });
        }
    }

    /// A description without 100rel foretells the answer of the 2xx; it can be no offer (RFC 3261 §13.2.1).
    fn take_unreliable(&mut self, index: usize, sdp: Option<Vec<u8>>) -> Option<Description> {
        let leg = &mut self.legs[index];
        if leg.settled || !matches!(leg.turn, Turn::Ours) {
            return None;
        }
        let sdp = sdp?;
        leg.heard = Some(sdp.clone());
        Some(Description::Answer(sdp))
    }

    fn take_reliable(
        &mut self,
        now: Now,
        index: usize,
        rack: RAck,
        sdp: Option<Vec<u8>>,
        wire: &mut Wire,
    ) -> Option<Description> {
        let leg = &mut self.legs[index];
        let told = match sdp {
            Some(sdp) if !leg.settled && matches!(leg.turn, Turn::Ours) => {
                leg.hear_answer(sdp.clone());
                Some(Description::Answer(sdp))
            }
            Some(sdp) if !leg.settled && leg.is_idle() && self.stage == Stage::Inviting => {
                leg.heard = Some(sdp.clone());
                leg.turn = Turn::InProvisional(rack);
                return Some(Description::Offer(sdp));
            }
            _ => None,
        };
        self.prack(now, index, &rack, None, wire);
        told
    }

    pub(super) fn prack(
        &mut self,
        now: Now,
        index: usize,
        rack: &RAck,
        sdp: Option<Vec<u8>>,
        wire: &mut Wire,
    ) {
        let mut request = self.legs[index].dialog.request(Method::PRACK);
        request.fields.put(rack);
        if let Some(sdp) = sdp {
            request.set_body("application/sdp", sdp);
        }
        self.ask(now, index, request, Ask::Prack, wire);
    }

    fn on_success(&mut self, now: Now, response: &Response, wire: &mut Wire) {
        let Some(outgoing) = self.outgoing.as_mut() else { return };
        let (invite, has_offer) = (outgoing.id, outgoing.has_offer);
        outgoing.is_final = true;
        if self.acknowledge_again(now, invite, response, wire) {
            return;
        }
        let Some(index) = self.leg_of(response) else {
            // Without To-tag or past all limits there is no dialog that could be kept or ended.
            if self.chosen.is_none() && self.stage == Stage::Inviting {
                self.finish(now, Ended::new(Ending::NoSession, Side::Local), wire);
            }
            return;
        };
        let cseq = response.head.cseq.number;
        if self.stage == Stage::Talking && self.chosen == Some(index) {
            // The same 2xx again, before the answer to its offer was decided on.
            return;
        }
        self.legs[index].dialog.confirm(response);
        self.linger_until.get_or_insert(now.deadline(wire.timing().transaction()));
        if self.stage != Stage::Inviting {
            // Cancelled too late, or a second phone that answered: it is thanked and hung up.
            self.acknowledge(now, invite, index, cseq, None, wire);
            self.bye(now, index, None, wire);
            self.legs[index].gone = true;
            return;
        }
        self.stage = Stage::Talking;
        self.chosen = Some(index);
        for (other, leg) in self.legs.iter_mut().enumerate() {
            leg.gone = other != index;
        }
        self.timer.take(now, &response.fields);
        let identity = Box::new(Identity::of_response(response));
        let sdp = description_in(&response.fields, &response.body);
        let leg = &mut self.legs[index];
        leg.hear_allow(&response.fields);
        leg.identity = Some(Identity::clone(&identity));
        let foretold = leg.heard.is_some();
        let told = match sdp {
            _ if leg.settled => None,
            Some(sdp) if has_offer => {
                leg.hear_answer(sdp.clone());
                Some(Description::Answer(sdp))
            }
            Some(sdp) => {
                leg.heard = Some(sdp.clone());
                leg.turn = Turn::InSuccess(cseq);
                Some(Description::Offer(sdp))
            }
            None if has_offer && foretold => {
                // Some leave the answer out of the 2xx after they told it in a plain 18x.
                leg.settled = true;
                leg.turn = Turn::Idle;
                None
            }
            None => {
                self.acknowledge(now, invite, index, cseq, None, wire);
                return self.give_up(now, Ending::NoSession, 488, wire);
            }
        };
        if !matches!(told, Some(Description::Offer(_))) {
            self.acknowledge(now, invite, index, cseq, None, wire);
        }
        let dialog = self.legs[index].key();
        wire.event(self.id, CallEvent::Answered { dialog, sdp: told, identity });
    }

    /// Sends the ACK to a 2xx and keeps it.
    pub(super) fn acknowledge(
        &mut self,
        now: Now,
        invite: RequestId,
        index: usize,
        cseq: u32,
        sdp: Option<Vec<u8>>,
        wire: &mut Wire,
    ) {
        let dialog = &self.legs[index].dialog;
        let mut ack = dialog.ack(cseq);
        if let Some(sdp) = sdp {
            ack.set_body("application/sdp", sdp);
        }
        if self.acks.len() == MAX_ACKS {
            self.acks.remove(0);
        }
        self.acks.push(SentAck { invite, remote_tag: dialog.remote_tag.clone(), ack: ack.clone() });
        wire.send_ack(now, invite, self.account, ack);
    }

    /// A 2xx that comes again gets its ACK again (RFC 3261 §13.2.2.4).
    pub(super) fn acknowledge_again(
        &mut self,
        now: Now,
        invite: RequestId,
        response: &Response,
        wire: &mut Wire,
    ) -> bool {
        let tag = response.head.to_tag().unwrap_or_default();
        let Some(sent) = self.acks.iter().find(|sent| sent.invite == invite && sent.remote_tag == tag) else {
            return false;
        };
        wire.send_ack(now, invite, self.account, sent.ack.clone());
        true
    }

    /// The answer in the ACK, or (`None`) the ACK that has to do without one before the BYE.
    pub(super) fn answer_in_ack(
        &mut self,
        now: Now,
        index: usize,
        cseq: u32,
        sdp: Option<Vec<u8>>,
        wire: &mut Wire,
    ) {
        let Some(invite) = self.outgoing.as_ref().map(|outgoing| outgoing.id) else { return };
        self.acknowledge(now, invite, index, cseq, sdp, wire);
    }

    fn on_refusal(&mut self, now: Now, response: &Response, wire: &mut Wire) {
        let Some(outgoing) = self.outgoing.as_mut() else { return };
        outgoing.is_final = true;
        if self.stage != Stage::Inviting {
            return;
        }
        if response.status == 422 && outgoing.raises < MAX_RAISES && self.timer.raise(&response.fields) {
            return self.invite_again(now, wire);
        }
        let mut ended = Ended::new(Ending::Rejected, Side::Remote);
        ended.take_response(response);
        self.finish(now, ended, wire);
    }

    /// The same INVITE with a longer session interval: same Call-ID, next CSeq (RFC 4028 §7.3).
    fn invite_again(&mut self, now: Now, wire: &mut Wire) {
        let Some(outgoing) = self.outgoing.as_mut() else { return };
        outgoing.raises += 1;
        outgoing.is_final = false;
        outgoing.request.head.cseq.number = outgoing.sequence.next();
        self.timer.ask(&mut outgoing.request.fields);
        let request = outgoing.request.clone();
        outgoing.id = wire.send_request(now, self.id, self.account, request, &outgoing.sequence);
        self.legs.clear();
    }

    pub(super) fn on_invite_failure(&mut self, now: Now, failure: Failure, wire: &mut Wire) {
        if let Some(outgoing) = self.outgoing.as_mut() {
            outgoing.is_final = true;
        }
        if self.stage != Stage::Inviting {
            return;
        }
        let ended = match failure {
            Failure::Timeout => Ended { status: Some(408), ..Ended::new(Ending::NoResponse, Side::Remote) },
            other => Ended::new(Ending::Unreachable(other.to_string()), Side::Remote),
        };
        self.finish(now, ended, wire);
    }

    /// Cancels our INVITE; the call is over for the room above at once.
    pub(super) fn cancel(&mut self, now: Now, reason: Option<String>, wire: &mut Wire) {
        if let Some(outgoing) = &self.outgoing {
            wire.cancel(now, outgoing.id, reason);
        }
        self.finish(now, Ended::new(Ending::Cancelled, Side::Local), wire);
    }
}

/// The moment that lies `gap` after `now`, doubled up to `most`: the pace of repetitions.
pub(super) fn next_gap(
    gap: std::time::Duration,
    most: std::time::Duration,
    now: Now,
) -> (std::time::Duration, u64) {
    let gap = (gap * 2).min(most);
    (gap, now.mono_us.saturating_add(micros(gap)))
}

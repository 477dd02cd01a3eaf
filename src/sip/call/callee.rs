//! Their INVITE until our answer is acknowledged: 18x with and without PRACK, 2xx and its repetition, CANCEL,
//! refusal.

use crate::now::{Now, earliest};
use crate::sip::call::caller::next_gap;
use crate::sip::call::event::{CallEvent, Ended, Ending, Incoming, Side};
use crate::sip::call::leg::{Leg, Open, Turn};
use crate::sip::call::reliable::{Carries, Due, Reliable};
use crate::sip::call::settings::Prack;
use crate::sip::call::{
    ALLOW, By, Call, CallError, CallSettings, Identity, Stage, description_in, offered_body,
};
use crate::sip::dialog::Dialog;
use crate::sip::handle::{AccountId, CallId, TransactionId};
use crate::sip::message::{Request, Response};
use crate::sip::rack::RAck;
use crate::sip::user_agent::UserAgent;
use crate::sip::wire::Wire;
use std::time::Duration;

/// How often whoever is let ring is told so: a proxy gives up an INVITE of which it hears nothing for three minutes
/// (RFC 3261 §13.3.1.1, timer C), and a single 18x may be lost.
const RINGING_EVERY: Duration = Duration::from_secs(60);

/// Their INVITE.
#[derive(Debug)]
pub(super) struct IncomingInvite {
    transaction: TransactionId,
    request: Box<Request>,
    has_offer: bool,
    /// No final response was sent yet.
    is_open: bool,
    reliable: Reliable,
    /// The last 18x, while it rings.
    rung: Option<Rung>,
    /// Our answer, held back until a reliable 18x is acknowledged.
    held_answer: Option<Vec<u8>>,
    /// Their answer to our offer in a 180, until somebody answers the call.
    early_answer: Option<Vec<u8>>,
    /// When the INVITE's own Expires ends it (RFC 3261 §13.3.1).
    expires_at: Option<u64>,
}

/// An 18x of ours that is said again.
#[derive(Debug)]
struct Rung {
    response: Response,
    is_reliable: bool,
    again_at: u64,
}

impl IncomingInvite {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let again_at = self.rung.as_ref().map(|rung| rung.again_at);
        earliest(self.expires_at, earliest(self.reliable.poll_timeout(), again_at))
    }

    /// Sends an 18x, reliably if it is said what it carries.
    fn tell(&mut self, now: Now, response: Response, carries: Option<Carries>, wire: &mut Wire) {
        let response = match carries {
            Some(carries) => self.reliable.push(now, response, carries, wire.timing()),
            None => Some(response),
        };
        if let Some(response) = response {
            wire.respond(now, self.transaction, response);
        }
    }

    /// Sends the last 18x once more, when it is time.
    fn tell_again(&mut self, now: Now, wire: &mut Wire) {
        let Some(rung) = self.rung.as_mut().filter(|rung| rung.again_at <= now.mono_us) else { return };
        rung.again_at = now.deadline(RINGING_EVERY);
        let (response, carries) = (rung.response.clone(), rung.is_reliable.then_some(Carries::Nothing));
        self.tell(now, response, carries, wire);
    }
}

/// A 2xx of ours to an INVITE or re-INVITE, repeated until its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacknowledged {
    transaction: TransactionId,
    response: Response,
    cseq: u32,
    leg: usize,
    gap: Duration,
    pub(super) resend_at: u64,
    give_up_at: u64,
    /// It carried our offer, so the ACK has to carry the answer.
    has_offer: bool,
    is_first: bool,
}

impl Call {
    /// Takes a new INVITE, which may take the place of `predecessor`: tells it with [`CallEvent::Incoming`] or refuses it
    /// (400, 415, 420, 422).
    pub fn incoming(
        now: Now,
        id: CallId,
        account: AccountId,
        predecessor: Option<CallId>,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) -> Call {
        let settings = wire.account(account).map_or_else(CallSettings::default, |line| line.calls.clone());
        let call_id = request.head.call_id.clone();
        let mut call = Call::new(id, account, settings, call_id, wire.new_tag(), Stage::Ringing);
        let Some(dialog) = Dialog::from_request(request, &call.local_tag) else {
            call.refuse_first(now, transaction, Response::with_reason(request, 400, "Missing Contact"), wire);
            return call;
        };
        if call.settings.prack == Prack::Off && request.fields.has_token("Require", "100rel") {
            let mut response = Response::to(request, 420);
            response.fields.push("Unsupported", "100rel");
            call.refuse_first(now, transaction, response, wire);
            return call;
        }
        if let Some(response) = call.refuse_brief_session(request) {
            call.refuse_first(now, transaction, response, wire);
            return call;
        }
        let offer = match offered_body(request) {
            Ok(offer) => offer,
            Err(response) => {
                call.refuse_first(now, transaction, *response, wire);
                return call;
            }
        };
        let identity = Identity::of_request(request);
        let mut leg = Leg::new(dialog);
        leg.hear_allow(&request.fields);
        leg.heard = offer.clone();
        leg.identity = Some(identity.clone());
        call.legs.push(leg);
        let expires = request.fields.number("Expires").ok().flatten().filter(|seconds| *seconds > 0);
        call.incoming = Some(IncomingInvite {
            transaction,
            request: Box::new(request.clone()),
            has_offer: offer.is_some(),
            is_open: true,
            reliable: Reliable::new(wire.chance().next_u32()),
            rung: None,
            held_answer: None,
            early_answer: None,
            expires_at: expires.map(|seconds| now.deadline(Duration::from_secs(u64::from(seconds)))),
        });
        let incoming = Incoming { identity, offer, request: Box::new(request.clone()), predecessor };
        wire.event(id, CallEvent::Incoming(Box::new(incoming)));
        call
    }

    /// Refuses an INVITE that the room above never saw.
    fn refuse_first(
        &mut self,
        now: Now,
        transaction: TransactionId,
        mut response: Response,
        wire: &mut Wire,
    ) {
        self.tag(&mut response);
        wire.respond(now, transaction, response);
        self.stage = Stage::Over;
    }

    pub(super) fn refuse_brief_session(&self, request: &Request) -> Option<Response> {
        let least = self.timer.too_brief(&request.fields)?;
        let mut response = Response::to(request, 422);
        response.fields.push("Min-SE", least.to_string());
        Some(response)
    }

    fn tag(&self, response: &mut Response) {
        if response.head.to_tag().is_none() {
            response.head.to.set_tag(&self.local_tag);
        }
    }

    /// Rings (180), or tells progress (101–199) with early media if `sdp` is given: our answer to their
    /// offer, or our offer if they made none, which needs a peer with 100rel. One in a 180 promises no early media: what
    /// the peer answers to it is told by [`CallEvent::Answer`] once the call is answered.
    ///
    /// # Errors
    /// [`CallError`] if the call is not ringing.
    pub fn ring(
        &mut self,
        now: Now,
        status: u16,
        sdp: Option<Vec<u8>>,
        wire: &mut Wire,
    ) -> Result<(), CallError> {
        self.must_ring()?;
        let prack = self.settings.prack;
        let supported = self.supported(prack);
        let tag = self.local_tag.clone();
        let (Some(incoming), Some(leg)) = (self.incoming.as_mut(), self.legs.first_mut()) else {
            return Err(CallError::Over);
        };
        let fields = &incoming.request.fields;
        let requires = fields.has_token("Require", "100rel");
        let knows = requires || fields.has_token("Supported", "100rel");
        let is_reliable = requires || (prack == Prack::Required && knows);
        let mut response = Response::to(&incoming.request, status.clamp(101, 199));
        response.head.to.set_tag(&tag);
        response.fields.push("Supported", supported);
        response.fields.push("Allow", ALLOW);
        let bare = response.clone();
        let mut carries = Carries::Nothing;
        // An offer of ours can only go out reliably, and a settled session is not told twice.
        if let Some(sdp) =
            sdp.filter(|_| !leg.settled && leg.is_idle() && (incoming.has_offer || is_reliable))
        {
            response.set_body("application/sdp", sdp.clone());
            if is_reliable && incoming.has_offer {
                leg.answer(sdp);
                carries = Carries::Answer;
            } else if is_reliable {
                leg.turn = Turn::Ours;
                carries = if status == 180 { Carries::OfferForLater } else { Carries::Offer };
            }
        }
        // What was acknowledged is not said twice.
        let again = if is_reliable { bare } else { response.clone() };
        incoming.rung = Some(Rung { response: again, is_reliable, again_at: now.deadline(RINGING_EVERY) });
        incoming.tell(now, response, is_reliable.then_some(carries), wire);
        Ok(())
    }

    /// Answers with 200 and `sdp`: our answer to their offer, or our offer if they made none.
    ///
    /// # Errors
    /// [`CallError`] if the call is not ringing.
    pub fn answer(&mut self, now: Now, sdp: Vec<u8>, wire: &mut Wire) -> Result<(), CallError> {
        self.must_ring()?;
        let Some(incoming) = self.incoming.as_mut() else { return Err(CallError::Over) };
        if incoming.reliable.holds_back_final() {
            incoming.held_answer = Some(sdp);
            return Ok(());
        }
        incoming.reliable.finish();
        incoming.is_open = false;
        incoming.expires_at = None;
        incoming.rung = None;
        let (transaction, request) = (incoming.transaction, incoming.request.clone());
        let (has_offer, early_answer) = (incoming.has_offer, incoming.early_answer.take());
        let mut response = Response::to(&request, 200);
        self.tag(&mut response);
        let leg = &mut self.legs[0];
        if let Some(answer) = &early_answer {
            leg.hear_answer(answer.clone());
        }
        if !leg.settled {
            response.set_body("application/sdp", sdp.clone());
            if has_offer {
                leg.answer(sdp);
            } else {
                leg.turn = Turn::Ours;
            }
        }
        self.stage = Stage::Talking;
        self.chosen = Some(0);
        let open = Open { transaction, request };
        self.succeed(now, 0, &open, response, wire);
        if let Some(sdp) = early_answer {
            wire.event(self.id, CallEvent::Answer { sdp, dialog: self.legs[0].key() });
        }
        Ok(())
    }

    /// Sends a 2xx to an INVITE or re-INVITE and repeats it until the ACK.
    pub(super) fn succeed(
        &mut self,
        now: Now,
        leg: usize,
        open: &Open,
        mut response: Response,
        wire: &mut Wire,
    ) {
        self.say_supported(&mut response.fields);
        response.fields.push("Allow", ALLOW);
        self.timer.grant(now, &open.request.fields, &mut response.fields);
        let timing = wire.timing();
        let (t1, all) = (timing.t1, timing.transaction());
        wire.respond(now, open.transaction, response.clone());
        self.unacknowledged = Some(Unacknowledged {
            transaction: open.transaction,
            response,
            cseq: open.request.head.cseq.number,
            leg,
            gap: t1,
            resend_at: now.deadline(t1),
            give_up_at: now.deadline(all),
            has_offer: matches!(self.legs[leg].turn, Turn::Ours),
            is_first: self.incoming.as_ref().is_some_and(|incoming| incoming.transaction == open.transaction),
        });
    }

    /// A peer that goes on without ACK got our 2xx: that exchange is complete.
    pub(super) fn take_as_acknowledged(&mut self, wire: &mut Wire) {
        if self.unacknowledged.take().is_some_and(|waiting| waiting.is_first) {
            wire.event(self.id, CallEvent::Established);
        }
    }

    /// Refuses the call with a final status of 300 or more.
    ///
    /// # Errors
    /// [`CallError`] if the call is not ringing.
    pub fn reject(
        &mut self,
        now: Now,
        status: u16,
        phrase: Option<String>,
        fields: &[(String, String)],
        wire: &mut Wire,
    ) -> Result<(), CallError> {
        self.must_ring()?;
        self.refuse_invite(now, status.clamp(300, 699), phrase.as_deref(), fields, wire);
        let mut ended = Ended::new(Ending::Rejected, Side::Local);
        ended.status = Some(status);
        ended.phrase = phrase.unwrap_or_else(|| crate::sip::status::reason_phrase(status).to_owned());
        self.finish(now, ended, wire);
        Ok(())
    }

    /// Whether our offer went out while it rings, so that the answer to the call carries none.
    pub fn has_offered(&self) -> bool {
        self.stage == Stage::Ringing
            && self.legs.first().is_some_and(|leg| leg.settled || matches!(leg.turn, Turn::Ours))
    }

    /// Gives their INVITE its final refusal, if it still waits for one.
    pub(super) fn refuse_invite(
        &mut self,
        now: Now,
        status: u16,
        phrase: Option<&str>,
        fields: &[(String, String)],
        wire: &mut Wire,
    ) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.is_open) else { return };
        incoming.is_open = false;
        incoming.reliable.finish();
        let transaction = incoming.transaction;
        let mut response = match phrase {
            Some(phrase) => Response::with_reason(&incoming.request, status, phrase),
            None => Response::to(&incoming.request, status),
        };
        for (name, value) in fields {
            response.fields.push(name, value.as_str());
        }
        self.tag(&mut response);
        wire.respond(now, transaction, response);
    }

    fn must_ring(&self) -> Result<(), CallError> {
        match self.stage {
            Stage::Ringing => {
                let held = self.incoming.as_ref().is_some_and(|incoming| incoming.held_answer.is_some());
                if held { Err(CallError::NotNow("it is being answered")) } else { Ok(()) }
            }
            Stage::Over => Err(CallError::Over),
            Stage::Inviting | Stage::Talking => Err(CallError::NotNow("it is not ringing here")),
        }
    }

    /// CANCEL of an INVITE or re-INVITE of theirs that we have not answered.
    pub fn handle_cancel(&mut self, now: Now, transaction: TransactionId, cancel: &Request, wire: &mut Wire) {
        let is_first = self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.is_open && incoming.transaction == transaction);
        if is_first {
            self.refuse_invite(now, 487, None, &[], wire);
            let mut ended = Ended::new(Ending::Cancelled, Side::Remote);
            ended.take_reasons(&cancel.fields);
            return self.finish(now, ended, wire);
        }
        for leg in &mut self.legs {
            if let Turn::InRequest(open) | Turn::Wanted(open) = &leg.turn
                && open.transaction == transaction
            {
                wire.respond(now, transaction, Response::to(&open.request, 487));
                leg.turn = Turn::Idle;
                return;
            }
        }
    }

    /// A final refusal of ours was never acknowledged: there is nothing left to do about it.
    pub fn handle_unacknowledged(&mut self, _now: Now, _transaction: TransactionId, _wire: &mut Wire) {}

    /// PRACK (RFC 3262 §3): ends the repetition of its 18x; may carry the answer to our offer, or a new
    /// offer.
    pub(super) fn on_prack(
        &mut self,
        now: Now,
        index: usize,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        let rack = request.fields.typed::<RAck>();
        let carried = match (rack, self.incoming.as_mut()) {
            (Ok(Some(rack)), Some(incoming)) => {
                incoming.reliable.acknowledge(&rack, incoming.request.head.cseq.number)
            }
            (Ok(Some(_)), None) => None,
            _ => return wire.respond(now, transaction, Response::with_reason(request, 400, "Bad RAck")),
        };
        let Some(carried) = carried else {
            return wire.respond(now, transaction, Response::to(request, 481));
        };
        let sdp = description_in(&request.fields, &request.body);
        let leg = &mut self.legs[index];
        match (carried, sdp) {
            (Carries::Offer, Some(sdp)) => {
                leg.hear_answer(sdp.clone());
                let dialog = leg.key();
                wire.respond(now, transaction, Response::to(request, 200));
                wire.event(self.id, CallEvent::Answer { sdp, dialog });
            }
            (Carries::OfferForLater, Some(sdp)) => {
                // It stays our turn: what nobody has answered is not to be changed, either.
                if let Some(incoming) = &mut self.incoming {
                    incoming.early_answer = Some(sdp);
                }
                wire.respond(now, transaction, Response::to(request, 200));
            }
            (Carries::Offer | Carries::OfferForLater, None) => {
                leg.turn = Turn::Idle;
                wire.respond(now, transaction, Response::to(request, 200));
                self.refuse_invite(now, 488, None, &[], wire);
                return self.finish(now, Ended::new(Ending::NoSession, Side::Local), wire);
            }
            (_, Some(sdp)) if leg.settled && leg.is_idle() && self.stage != Stage::Over => {
                leg.turn = Turn::InRequest(Open { transaction, request: Box::new(request.clone()) });
                let dialog = leg.key();
                wire.event(self.id, CallEvent::Offer { sdp: Some(sdp), by: By::Update, dialog });
            }
            _ => wire.respond(now, transaction, Response::to(request, 200)),
        }
        self.go_on_ringing(now, wire);
    }

    /// After a PRACK: the next 18x, or the answer that waited.
    fn go_on_ringing(&mut self, now: Now, wire: &mut Wire) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.is_open) else { return };
        if let Some(response) = incoming.reliable.next(now, wire.timing()) {
            let transaction = incoming.transaction;
            wire.respond(now, transaction, response);
        } else if let Some(sdp) = incoming.held_answer.take() {
            // It can't fail: the call still rings and nothing is outstanding.
            let _ = self.answer(now, sdp, wire);
        }
    }

    pub(super) fn resend_provisional(&mut self, now: Now, wire: &mut Wire) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.is_open) else { return };
        if incoming.expires_at.is_some_and(|at| at <= now.mono_us) {
            self.refuse_invite(now, 487, None, &[], wire);
            let ended = Ended { status: Some(487), ..Ended::new(Ending::Cancelled, Side::Remote) };
            return self.finish(now, ended, wire);
        }
        incoming.tell_again(now, wire);
        match incoming.reliable.due(now) {
            Some(Due::Resend(response)) => {
                let transaction = incoming.transaction;
                wire.respond(now, transaction, *response);
            }
            Some(Due::GiveUp) => {
                self.refuse_invite(now, 504, Some("No PRACK"), &[], wire);
                let ended = Ended { status: Some(504), ..Ended::new(Ending::NotAcknowledged, Side::Local) };
                self.finish(now, ended, wire);
            }
            None => {}
        }
    }

    /// Repeats our 2xx until its ACK, then gives up (RFC 3261 §13.3.1.4).
    pub(super) fn resend_success(&mut self, now: Now, wire: &mut Wire) {
        let Some(waiting) = self.unacknowledged.as_mut().filter(|waiting| waiting.resend_at <= now.mono_us)
        else {
            return;
        };
        if now.mono_us < waiting.give_up_at {
            let (gap, resend_at) = next_gap(waiting.gap, wire.timing().t2, now);
            waiting.gap = gap;
            waiting.resend_at = resend_at.min(waiting.give_up_at);
            return wire.respond(now, waiting.transaction, waiting.response.clone());
        }
        let leg = waiting.leg;
        self.unacknowledged = None;
        match self.bye_after_ack.take() {
            Some(reason) => self.bye(now, leg, reason.as_ref(), wire),
            None => self.give_up(now, Ending::NotAcknowledged, 408, wire),
        }
    }

    /// ACK to a 2xx of ours.
    pub fn handle_ack(&mut self, now: Now, ack: &Request, wire: &mut Wire) {
        let is_it = |waiting: &mut Unacknowledged| waiting.cseq == ack.head.cseq.number;
        let Some(waiting) = self.unacknowledged.take_if(is_it) else { return };
        if let Some(reason) = self.bye_after_ack.take() {
            return self.bye(now, waiting.leg, reason.as_ref(), wire);
        }
        if self.stage == Stage::Over {
            return;
        }
        if waiting.is_first {
            wire.event(self.id, CallEvent::Established);
        }
        if !waiting.has_offer {
            return;
        }
        match description_in(&ack.fields, &ack.body) {
            Some(sdp) => {
                let leg = &mut self.legs[waiting.leg];
                leg.hear_answer(sdp.clone());
                let dialog = leg.key();
                wire.event(self.id, CallEvent::Answer { sdp, dialog });
            }
            None => self.give_up(now, Ending::NoSession, 488, wire),
        }
    }
}

impl UserAgent {
    /// Whether a call that rings needs no description to be answered; see [`Call::has_offered`].
    pub fn has_offered(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(Call::has_offered)
    }
}

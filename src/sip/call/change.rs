//! A call that stands changes: offers by re-INVITE and UPDATE in both directions, glare, refresh, INFO.

use crate::now::Now;
use crate::sip::call::event::{By, CallEvent, Ending};
use crate::sip::call::leg::{Open, Turn};
use crate::sip::call::{
    ALLOW, Ask, Call, CallError, Identity, MAX_ASKS, Prack, Stage, description_in, offered_body,
};
use crate::sip::handle::{RequestId, TransactionId};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::ua_event::Failure;
use crate::sip::wire::Wire;
use std::time::Duration;

/// The pause before an offer that has to wait is thought of again.
const SOON: Duration = Duration::from_millis(100);
/// How often in a row an offer of ours may cross one of theirs before it is given up.
const MAX_GLARES: u8 = 8;
/// The longest Retry-After that an offer waits for by itself, in seconds.
const LONGEST_WAIT_S: u32 = 10;

/// Our offer crossed theirs (491) and waits for its next try (RFC 3261 §14.1).
#[derive(Debug, Default)]
pub(super) struct Glare {
    pub(super) retry_at: Option<u64>,
    tries: u8,
}

impl Call {
    /// Offers a change of the session: by re-INVITE, or by UPDATE while the call is not answered yet.
    ///
    /// The answer comes as [`CallEvent::Answer`] or [`CallEvent::OfferFailed`]; after a glare
    /// [`CallEvent::OfferWanted`] asks for the offer anew.
    ///
    /// # Errors
    /// [`CallError::Over`] if the call is over. [`CallError::NotNow`] if an offer of either side is open, or the peer has
    /// not acknowledged our last answer: [`CallEvent::OfferWanted`] follows when that is done. The same, without that
    /// event, while the call is not answered and the peer takes no UPDATE.
    pub fn offer(&mut self, now: Now, sdp: Vec<u8>, wire: &mut Wire) -> Result<(), CallError> {
        if self.stage == Stage::Over {
            return Err(CallError::Over);
        }
        let index = self.current().ok_or(CallError::NotNow("no dialog stands yet"))?;
        if let Some(why) = self.is_busy(index) {
            if self.stage == Stage::Talking {
                self.glare.retry_at.get_or_insert(now.deadline(SOON));
            }
            return Err(CallError::NotNow(why));
        }
        let by = if self.stage == Stage::Talking { By::Invite } else { By::Update };
        if by == By::Update && !self.legs[index].allows_update {
            return Err(CallError::NotNow("the peer takes no UPDATE before the call is answered"));
        }
        self.glare.retry_at = None;
        self.send_change(now, index, by, Some(sdp), Ask::Offer(by), wire);
        if by == By::Invite {
            self.reinvite_until = Some(now.deadline(wire.timing().transaction()));
        }
        let leg = &mut self.legs[index];
        leg.turn = Turn::Ours;
        leg.answered = None;
        Ok(())
    }

    /// Why no offer of ours can go out in this dialog now.
    fn is_busy(&self, index: usize) -> Option<&'static str> {
        let leg = &self.legs[index];
        if !leg.is_idle() || !leg.settled {
            Some("an offer is still open")
        } else if self.unacknowledged.is_some() {
            Some("the peer has not acknowledged yet")
        } else if self.asks.len() >= MAX_ASKS {
            Some("too many requests are unanswered")
        } else {
            None
        }
    }

    /// Asks the room above for the offer that had to wait, or waits on.
    pub(super) fn want_offer(&mut self, now: Now, wire: &mut Wire) {
        let Some(index) = self.current() else { return };
        match self.is_busy(index) {
            Some(_) => self.glare.retry_at = Some(now.deadline(SOON)),
            None => wire.event(self.id, CallEvent::OfferWanted),
        }
    }

    fn send_change(
        &mut self,
        now: Now,
        index: usize,
        by: By,
        sdp: Option<Vec<u8>>,
        ask: Ask,
        wire: &mut Wire,
    ) {
        // Every one of them carries our Contact.
        self.tell_target_at = None;
        let method = if by == By::Invite { Method::INVITE } else { Method::UPDATE };
        let mut request = self.legs[index].dialog.request(method);
        // Progress of a change is of no use to anybody: none has to be acknowledged.
        request.fields.set("Supported", self.supported(Prack::Off));
        request.fields.push("Allow", ALLOW);
        self.timer.ask(&mut request.fields);
        if let Some(sdp) = sdp {
            request.set_body("application/sdp", sdp);
        }
        self.ask(now, index, request, ask, wire);
    }

    /// Our Contact is another one than the peer knows: it is told at this moment, unless something that is sent before
    /// tells it anyway.
    pub(crate) fn tell_target(&mut self, at_us: u64) {
        if self.stage == Stage::Talking {
            self.tell_target_at = Some(at_us);
        }
    }

    /// Tells the peer our Contact: by UPDATE without description, else the room above is asked for a re-INVITE.
    pub(super) fn send_target(&mut self, now: Now, wire: &mut Wire) {
        let Some(index) = self.chosen else { return };
        if self.is_busy(index).is_some() {
            // What is under way has left before the Contact changed.
            self.tell_target_at = Some(now.deadline(SOON));
        } else if self.legs[index].allows_update {
            self.send_change(now, index, By::Update, None, Ask::Target, wire);
        } else {
            wire.event(self.id, CallEvent::OfferWanted);
        }
    }

    /// Refreshes the session: by UPDATE without description, else the room above is asked for a re-INVITE.
    pub(super) fn refresh(&mut self, now: Now, wire: &mut Wire) {
        let Some(index) = self.chosen else { return };
        let busy = self.is_busy(index).is_some();
        if busy || self.asks.iter().any(|(_, _, ask)| *ask == Ask::Refresh) {
            // An exchange on its way refreshes the session itself, if it succeeds.
            self.timer.refresh_failed(now);
        } else if self.legs[index].allows_update {
            self.send_change(now, index, By::Update, None, Ask::Refresh, wire);
        } else {
            self.timer.refresh_failed(now);
            wire.event(self.id, CallEvent::OfferWanted);
        }
    }

    /// Answers [`CallEvent::Offer`] or a [`Description::Offer`](super::Description::Offer): with a
    /// description, or with the status that refuses it (488 …).
    ///
    /// # Errors
    /// [`CallError`] if there is nothing to answer.
    pub fn reply_offer(
        &mut self,
        now: Now,
        reply: Result<Vec<u8>, u16>,
        wire: &mut Wire,
    ) -> Result<(), CallError> {
        if self.stage == Stage::Over {
            return Err(CallError::Over);
        }
        let owed = |turn: &Turn| !matches!(turn, Turn::Idle | Turn::Ours);
        let index = self.legs.iter().position(|leg| !leg.gone && owed(&leg.turn));
        let index = index.ok_or(CallError::NotNow("the peer offers nothing"))?;
        match (std::mem::take(&mut self.legs[index].turn), reply) {
            (Turn::InRequest(open) | Turn::Wanted(open), Err(status)) => {
                let mut response = Response::to(&open.request, status.clamp(400, 699));
                if status == 488 {
                    response.fields.push("Warning", "399 tipring \"the offer can not be taken\"");
                }
                wire.respond(now, open.transaction, response);
            }
            (Turn::InRequest(open), Ok(sdp)) => {
                let mut response = Response::to(&open.request, 200);
                response.set_body("application/sdp", sdp.clone());
                let leg = &mut self.legs[index];
                leg.dialog.refresh_target(&open.request.fields);
                leg.heard = description_in(&open.request.fields, &open.request.body);
                leg.answer(sdp);
                self.tell_target_at = None;
                if open.request.method == Method::INVITE {
                    self.succeed(now, index, &open, response, wire);
                } else {
                    self.grant_update(now, &open, response, wire);
                }
            }
            (Turn::Wanted(open), Ok(sdp)) => {
                let mut response = Response::to(&open.request, 200);
                response.set_body("application/sdp", sdp);
                let leg = &mut self.legs[index];
                leg.dialog.refresh_target(&open.request.fields);
                leg.answered = None;
                leg.turn = Turn::Ours;
                self.succeed(now, index, &open, response, wire);
            }
            (Turn::InProvisional(rack), reply) => {
                let refused = reply.is_err();
                if let Ok(sdp) = &reply {
                    self.legs[index].answer(sdp.clone());
                }
                self.prack(now, index, &rack, reply.ok(), wire);
                if refused {
                    self.cancel(now, None, wire);
                }
            }
            (Turn::InSuccess(cseq), Ok(sdp)) => {
                self.legs[index].answer(sdp.clone());
                self.answer_in_ack(now, index, cseq, Some(sdp), wire);
            }
            (Turn::InSuccess(cseq), Err(status)) => {
                self.answer_in_ack(now, index, cseq, None, wire);
                self.give_up(now, Ending::NoSession, status, wire);
            }
            (Turn::Idle | Turn::Ours, _) => {}
        }
        Ok(())
    }

    fn grant_update(&mut self, now: Now, open: &Open, mut response: Response, wire: &mut Wire) {
        self.say_supported(&mut response.fields);
        // What is not answered yet is no session that could expire.
        if open.request.method == Method::UPDATE && self.stage == Stage::Talking {
            self.timer.grant(now, &open.request.fields, &mut response.fields);
        }
        wire.respond(now, open.transaction, response);
    }

    /// A re-INVITE (RFC 3261 §14.2).
    pub(super) fn on_reinvite(
        &mut self,
        now: Now,
        index: usize,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        let leg = &self.legs[index];
        let open_invite = matches!(&leg.turn, Turn::InRequest(_) | Turn::Wanted(_));
        let refusal = if self.stage == Stage::Ringing || open_invite {
            Some(busy(request, wire))
        } else if self.stage == Stage::Inviting || !leg.is_idle() || self.is_inviting(index) {
            Some(Response::to(request, 491))
        } else {
            self.refuse_brief_session(request)
        };
        if let Some(response) = refusal {
            return wire.respond(now, transaction, response);
        }
        let open = Open { transaction, request: Box::new(request.clone()) };
        self.take_as_acknowledged(wire);
        match offered_body(request) {
            Err(response) => wire.respond(now, transaction, *response),
            Ok(None) => {
                let leg = &mut self.legs[index];
                leg.hear_allow(&request.fields);
                leg.turn = Turn::Wanted(open);
                let dialog = leg.key();
                wire.event(self.id, CallEvent::Offer { sdp: None, by: By::Invite, dialog });
            }
            Ok(Some(sdp)) => {
                let leg = &mut self.legs[index];
                leg.hear_allow(&request.fields);
                let same = leg.heard.as_ref() == Some(&sdp);
                if let Some(answer) = leg.answered.clone().filter(|_| same) {
                    // A refresh: what was answered before is answered again, and nothing changes.
                    leg.dialog.refresh_target(&request.fields);
                    let mut response = Response::to(request, 200);
                    response.set_body("application/sdp", answer);
                    self.succeed(now, index, &open, response, wire);
                    return wire.event(self.id, CallEvent::Refreshed);
                }
                leg.turn = Turn::InRequest(open);
                let dialog = leg.key();
                wire.event(self.id, CallEvent::Offer { sdp: Some(sdp), by: By::Invite, dialog });
            }
        }
    }

    /// UPDATE (RFC 3311 §5.2).
    pub(super) fn on_update(
        &mut self,
        now: Now,
        index: usize,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        if let Some(response) = self.refuse_brief_session(request) {
            return wire.respond(now, transaction, response);
        }
        let sdp = match offered_body(request) {
            Ok(sdp) => sdp,
            Err(response) => return wire.respond(now, transaction, *response),
        };
        let open = Open { transaction, request: Box::new(request.clone()) };
        let leg = &mut self.legs[index];
        leg.hear_allow(&request.fields);
        let Some(sdp) = sdp else {
            leg.dialog.refresh_target(&request.fields);
            self.grant_update(now, &open, Response::to(request, 200), wire);
            return wire.event(self.id, CallEvent::Refreshed);
        };
        let refusal = match &leg.turn {
            Turn::Idle if leg.settled => None,
            // Before the first exchange is over there is nothing to update; an offer of ours that is open:
            // 491.
            Turn::Idle | Turn::InRequest(_) | Turn::Wanted(_) => Some(busy(request, wire)),
            Turn::Ours | Turn::InProvisional(_) | Turn::InSuccess(_) => Some(Response::to(request, 491)),
        };
        if let Some(response) = refusal {
            return wire.respond(now, transaction, response);
        }
        leg.turn = Turn::InRequest(open);
        let dialog = leg.key();
        wire.event(self.id, CallEvent::Offer { sdp: Some(sdp), by: By::Update, dialog });
    }

    /// A re-INVITE of ours is on its way in this dialog.
    fn is_inviting(&self, index: usize) -> bool {
        self.asks.iter().any(|(_, leg, ask)| *leg == index && *ask == Ask::Offer(By::Invite))
    }

    /// Withdraws a re-INVITE of ours that nobody answers for good: its 487 is told as a failed offer.
    pub(super) fn cancel_reinvite(&mut self, now: Now, wire: &mut Wire) {
        self.reinvite_until = None;
        for (id, _, ask) in &self.asks {
            if *ask == Ask::Offer(By::Invite) {
                wire.cancel(now, *id, None);
            }
        }
    }

    /// A response to a request of ours inside a dialog.
    pub(super) fn on_ask_response(
        &mut self,
        now: Now,
        request: RequestId,
        response: &Response,
        wire: &mut Wire,
    ) {
        if response.is_success() && self.acknowledge_again(now, request, response, wire) {
            return;
        }
        if !response.is_final() {
            return;
        }
        let Some(at) = self.asks.iter().position(|(id, _, _)| *id == request) else { return };
        let (_, index, ask) = self.asks.remove(at);
        if ask == Ask::Offer(By::Invite) {
            self.reinvite_until = None;
        }
        if ask == Ask::Offer(By::Invite) && response.is_success() {
            self.acknowledge(now, request, index, response.head.cseq.number, None, wire);
        }
        if self.stage == Stage::Over {
            return;
        }
        match ask {
            Ask::Offer(_) | Ask::Refresh | Ask::Target if response.is_success() => {
                self.on_change_taken(now, index, &ask, response, wire)
            }
            Ask::Offer(_) | Ask::Refresh => self.on_change_refused(now, index, &ask, response, wire),
            // RFC 3261 §12.2.1.2. Anything else is for the next request to find out.
            Ask::Target if response.status == 481 => self.give_up(now, Ending::PeerGone, 481, wire),
            Ask::Info => wire.event(self.id, CallEvent::InfoResult { status: response.status }),
            Ask::Refer => self.on_refer_response(response, wire),
            Ask::Notify => self.on_notify_response(response),
            Ask::Prack | Ask::Bye | Ask::Target => {}
        }
    }

    fn on_change_taken(&mut self, now: Now, index: usize, ask: &Ask, response: &Response, wire: &mut Wire) {
        self.glare.tries = 0;
        if self.stage == Stage::Talking {
            self.timer.take(now, &response.fields);
        }
        let leg = &mut self.legs[index];
        leg.dialog.refresh_target(&response.fields);
        leg.hear_allow(&response.fields);
        self.hear_identity(index, Identity::of_response(response), wire);
        let leg = &mut self.legs[index];
        if matches!(ask, Ask::Refresh | Ask::Target) {
            return wire.event(self.id, CallEvent::Refreshed);
        }
        match description_in(&response.fields, &response.body) {
            Some(sdp) => {
                leg.hear_answer(sdp.clone());
                let dialog = leg.key();
                wire.event(self.id, CallEvent::Answer { sdp, dialog });
            }
            None => {
                leg.turn = Turn::Idle;
                wire.event(self.id, CallEvent::OfferFailed { status: response.status });
            }
        }
    }

    fn on_change_refused(&mut self, now: Now, index: usize, ask: &Ask, response: &Response, wire: &mut Wire) {
        let is_refresh = *ask == Ask::Refresh;
        if !is_refresh {
            self.legs[index].turn = Turn::Idle;
        }
        match response.status {
            // The dialog or the peer is gone (RFC 3261 §12.2.1.2, RFC 5057 §5.1).
            408 | 481 => {
                let ending = if is_refresh { Ending::SessionExpired } else { Ending::PeerGone };
                self.give_up(now, ending, response.status, wire);
            }
            422 if self.timer.raise(&response.fields) => match is_refresh {
                true => self.refresh(now, wire),
                false => wire.event(self.id, CallEvent::OfferWanted),
            },
            405 | 501 if is_refresh => {
                self.legs[index].allows_update = false;
                self.refresh(now, wire);
            }
            _ if is_refresh => self.timer.refresh_failed(now),
            491 => self.wait_out_glare(now, wire),
            500 | 503 => match wait_of(response) {
                Some(seconds) if self.glare.tries < MAX_GLARES => {
                    self.glare.tries += 1;
                    self.glare.retry_at = Some(now.deadline(Duration::from_secs(u64::from(seconds))));
                }
                _ => self.offer_failed(now, response.status, wire),
            },
            status => self.offer_failed(now, status, wire),
        }
    }

    fn offer_failed(&mut self, now: Now, status: u16, wire: &mut Wire) {
        self.glare.tries = 0;
        self.timer.refresh_failed(now);
        wire.event(self.id, CallEvent::OfferFailed { status });
    }

    /// RFC 3261 §14.1: the owner of the Call-ID waits 2.1–4 s, the other 0–2 s, in steps of 10 ms.
    fn wait_out_glare(&mut self, now: Now, wire: &mut Wire) {
        if self.glare.tries == MAX_GLARES {
            return self.offer_failed(now, 491, wire);
        }
        self.glare.tries += 1;
        let steps = match self.outgoing {
            Some(_) => 210 + wire.chance().below(191),
            None => wire.chance().below(201),
        };
        self.glare.retry_at = Some(now.deadline(Duration::from_millis(u64::from(steps) * 10)));
    }

    pub(super) fn on_ask_failure(
        &mut self,
        now: Now,
        request: RequestId,
        failure: &Failure,
        wire: &mut Wire,
    ) {
        let Some(at) = self.asks.iter().position(|(id, _, _)| *id == request) else { return };
        let (_, index, ask) = self.asks.remove(at);
        if self.stage == Stage::Over {
            return;
        }
        let timed_out = *failure == Failure::Timeout;
        match ask {
            Ask::Refresh if timed_out => self.give_up(now, Ending::SessionExpired, 408, wire),
            Ask::Refresh => self.timer.refresh_failed(now),
            Ask::Offer(_) if timed_out => self.give_up(now, Ending::PeerGone, 408, wire),
            Ask::Offer(_) => {
                self.legs[index].turn = Turn::Idle;
                self.offer_failed(now, 503, wire);
            }
            Ask::Info => {
                wire.event(self.id, CallEvent::InfoResult { status: if timed_out { 408 } else { 503 } })
            }
            Ask::Refer => self.on_refer_failure(failure, wire),
            Ask::Prack | Ask::Bye | Ask::Target | Ask::Notify => {}
        }
    }

    /// INFO (RFC 6086, and the DTMF bodies that came before it): passed on and answered.
    pub(super) fn on_info(
        &mut self,
        now: Now,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        wire.respond(now, transaction, Response::to(request, 200));
        if request.body.is_empty() {
            return;
        }
        let content_type = request.fields.text("Content-Type").unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        wire.event(self.id, CallEvent::Info { content_type, body: request.body.clone() });
    }

    /// Sends an INFO with this body.
    ///
    /// # Errors
    /// [`CallError`] if there is no dialog to send it in, or too many are unanswered.
    pub fn info(
        &mut self,
        now: Now,
        content_type: &str,
        body: Vec<u8>,
        wire: &mut Wire,
    ) -> Result<(), CallError> {
        if self.stage == Stage::Over {
            return Err(CallError::Over);
        }
        let index = self.current().ok_or(CallError::NotNow("no dialog stands yet"))?;
        if self.asks.len() >= MAX_ASKS {
            return Err(CallError::NotNow("too many requests are unanswered"));
        }
        let mut request = self.legs[index].dialog.request(Method::INFO);
        request.set_body(content_type, body);
        self.ask(now, index, request, Ask::Info, wire);
        Ok(())
    }
}

/// 500 with the Retry-After of RFC 3261 §14.2 and RFC 3311 §5.2: an earlier request is not answered yet.
fn busy(request: &Request, wire: &mut Wire) -> Response {
    let mut response = Response::to(request, 500);
    response.fields.push("Retry-After", wire.chance().below(11).to_string());
    response
}

/// The seconds of a Retry-After that is short enough to wait for.
fn wait_of(response: &Response) -> Option<u32> {
    let text = response.fields.text("Retry-After")?;
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|seconds| *seconds <= LONGEST_WAIT_S)
}

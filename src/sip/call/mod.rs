//! A call: the INVITE usage of RFC 3261 §13–15 with PRACK (3262), offer/answer (3264, 6337), UPDATE (3311),
//! Reason (3326) and session timers (4028).
//!
//! One [`Call`] is one INVITE on our side: an outgoing one with all its forks, or an incoming one. It owns
//! the dialogs and who owes whom an offer, an answer or an ACK. It does not know what a session description
//! means (that is [`crate::sip::sdp`] in the hands of the room above), how a message travels or when it is
//! repeated (that is [`crate::sip::wire`] and what lies below).
//!
//! - `caller`: our INVITE until it is answered · `callee`: theirs until we answered
//! - `change`: what happens in a call that stands: re-INVITE, UPDATE, INFO, glare, refresh
//! - [`transfer`]: REFER and what came of it · `referred`: a REFER of the peer's · `replaced`: which call an INVITE takes the place of · `ending`: the ways out · `leg`: one dialog · `reliable`, `session_timer`: small machines of their own
//! - [`event`], [`settings`], [`identity`]: the words in which the room above and the call talk

mod callee;
mod caller;
mod change;
mod ending;
pub mod event;
pub mod identity;
mod leg;
mod referred;
mod reliable;
pub(crate) mod replaced;
mod session_timer;
pub mod settings;
pub mod transfer;

#[cfg(test)]
mod tests;

pub use event::{By, CallEvent, Description, DialogKey, Ended, Ending, Incoming, Referred, Side, Transfer};
pub use identity::Identity;
pub use settings::{CallSettings, InviteOptions, Prack, SessionTimer};

use crate::now::{Now, earliest};
use crate::sip::call::callee::{IncomingInvite, Unacknowledged};
use crate::sip::call::caller::OutgoingInvite;
use crate::sip::call::change::Glare;
use crate::sip::call::leg::Leg;
use crate::sip::fields::Fields;
use crate::sip::handle::{AccountId, CallId, RequestId, TransactionId};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::reason::Reason;
use crate::sip::sdp::multipart::{SessionBody, session_of_body};
use crate::sip::ua_event::Failure;
use crate::sip::wire::Wire;

/// The most dialogs of one INVITE; a fork beyond is acknowledged and hung up, or passed over.
const MAX_LEGS: usize = 32;
/// The most requests of ours in flight inside one call.
const MAX_ASKS: usize = 32;

/// What we can do inside a call, for Allow.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, OPTIONS, NOTIFY, REFER";

/// Why a command to a call was not carried out. Nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such call (any more).
    #[error("there is no such call")]
    Unknown,
    /// The call is over.
    #[error("the call is over")]
    Over,
    /// The call is not in a state for this; wait for its next event.
    #[error("the call can't do this now: {0}")]
    NotNow(&'static str),
}

/// Where a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Our INVITE is out.
    Inviting,
    /// Their INVITE waits for our answer.
    Ringing,
    /// A 2xx was sent or received.
    Talking,
    /// [`CallEvent::Ended`] was told; only the rest of the protocol is being cleared.
    Over,
}

/// What a request of ours inside the call is for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Ask {
    Prack,
    Offer(By),
    Refresh,
    /// The peer learns our new Contact.
    Target,
    Bye,
    Info,
    Refer,
    Notify,
}

/// An ACK we sent, for the 2xx that comes again.
#[derive(Debug)]
struct SentAck {
    invite: RequestId,
    remote_tag: String,
    ack: Request,
}

/// One INVITE usage.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    account: AccountId,
    settings: CallSettings,
    call_id: String,
    local_tag: String,
    stage: Stage,
    outgoing: Option<OutgoingInvite>,
    incoming: Option<IncomingInvite>,
    legs: Vec<Leg>,
    /// The dialog that became the call, by its place in `legs`.
    chosen: Option<usize>,
    asks: Vec<(RequestId, usize, Ask)>,
    /// The transfer that we asked for, until it is known what came of it.
    referral: Option<transfer::Referral>,
    /// What the peer has us do, until it has been told what came of it, and how often that has been before.
    following: Option<referred::Following>,
    refers: u32,
    acks: Vec<SentAck>,
    /// A 2xx of ours that waits for its ACK.
    unacknowledged: Option<Unacknowledged>,
    glare: Glare,
    /// When the peer is told our new Contact.
    tell_target_at: Option<u64>,
    /// Until when our re-INVITE may stay unanswered.
    reinvite_until: Option<u64>,
    timer: session_timer::SessionTimer,
    /// A BYE that must wait until our 2xx is acknowledged (RFC 3261 §15), with its Reason.
    bye_after_ack: Option<Option<Reason>>,
    /// Until when other 2xx to our INVITE may come.
    linger_until: Option<u64>,
}

impl Call {
    fn new(
        id: CallId,
        account: AccountId,
        settings: CallSettings,
        call_id: String,
        local_tag: String,
        stage: Stage,
    ) -> Call {
        Call {
            id,
            account,
            call_id,
            local_tag,
            stage,
            outgoing: None,
            incoming: None,
            legs: Vec::new(),
            chosen: None,
            asks: Vec::new(),
            referral: None,
            following: None,
            refers: 0,
            acks: Vec::new(),
            unacknowledged: None,
            glare: Glare::default(),
            tell_target_at: None,
            reinvite_until: None,
            timer: session_timer::SessionTimer::new(&settings),
            settings,
            bye_after_ack: None,
            linger_until: None,
        }
    }

    /// The Call-ID all dialogs of the call share.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag in all dialogs of the call.
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The line.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The dialog of the call, once there is one: (local tag, remote tag) are those of Replaces and of
    /// reports.
    pub fn dialog(&self) -> Option<&crate::sip::dialog::Dialog> {
        self.current().and_then(|index| self.legs.get(index)).map(|leg| &leg.dialog)
    }

    /// Whether an INVITE still waits for its answer, ours or theirs.
    pub fn is_being_made(&self) -> bool {
        matches!(self.stage, Stage::Inviting | Stage::Ringing)
    }

    /// True when nothing is left to do.
    pub fn is_over(&self) -> bool {
        let invite_done = self.outgoing.as_ref().is_none_or(|outgoing| outgoing.is_final);
        self.stage == Stage::Over
            && invite_done
            && self.asks.is_empty()
            && self.unacknowledged.is_none()
            && self.linger_until.is_none()
    }

    /// A response to a request of ours: any 1xx, every 2xx to an INVITE, the final one of 300 or more.
    pub fn handle_response(&mut self, now: Now, request: RequestId, response: &Response, wire: &mut Wire) {
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.id == request) {
            self.on_invite_response(now, response, wire);
        } else {
            self.on_ask_response(now, request, response, wire);
        }
    }

    /// No final response will come for this request.
    pub fn handle_failure(&mut self, now: Now, request: RequestId, failure: Failure, wire: &mut Wire) {
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.id == request) {
            self.on_invite_failure(now, failure, wire);
        } else {
            self.on_ask_failure(now, request, &failure, wire);
        }
    }

    /// A request inside the call. It is answered at once or by a later command.
    pub fn handle_request(
        &mut self,
        now: Now,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        let remote_tag = request.head.from_tag().unwrap_or_default();
        let Some(index) = self.legs.iter().position(|leg| leg.dialog.remote_tag == remote_tag && !leg.gone)
        else {
            return wire.respond(now, transaction, Response::to(request, 481));
        };
        if self.stage == Stage::Over && request.method != Method::BYE && request.method != Method::PRACK {
            return wire.respond(now, transaction, Response::to(request, 481));
        }
        if self.legs[index].dialog.check_request(request).is_err() {
            let response = Response::with_reason(request, 500, "CSeq Out Of Order");
            return wire.respond(now, transaction, response);
        }
        self.hear_identity(index, Identity::of_request(request), wire);
        if request.method == Method::INVITE {
            self.on_reinvite(now, index, transaction, request, wire);
        } else if request.method == Method::UPDATE {
            self.on_update(now, index, transaction, request, wire);
        } else if request.method == Method::PRACK {
            self.on_prack(now, index, transaction, request, wire);
        } else if request.method == Method::BYE {
            self.on_bye(now, index, transaction, request, wire);
        } else if request.method == Method::INFO {
            self.on_info(now, transaction, request, wire);
        } else if request.method == Method::NOTIFY {
            self.on_notify(now, transaction, request, wire);
        } else if request.method == Method::REFER {
            self.on_refer(now, index, transaction, request, wire);
        } else {
            let mut response = Response::to(request, 405);
            response.fields.push("Allow", ALLOW);
            wire.respond(now, transaction, response);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<u64> {
        let mut due = self.unacknowledged.as_ref().map(|unacknowledged| unacknowledged.resend_at);
        if self.stage == Stage::Over {
            return earliest(due, self.linger_until);
        }
        if let Some(incoming) = &self.incoming {
            due = earliest(due, incoming.poll_timeout());
        }
        due = earliest(due, earliest(self.glare.retry_at, self.reinvite_until));
        due = earliest(due, self.tell_target_at);
        due = earliest(due, self.referral.and_then(transfer::Referral::poll_timeout));
        earliest(due, self.timer.poll_timeout())
    }

    /// Time has come to a deadline.
    pub fn handle_timeout(&mut self, now: Now, wire: &mut Wire) {
        self.resend_success(now, wire);
        if self.stage == Stage::Over {
            self.linger_until.take_if(|until| *until <= now.mono_us);
            return;
        }
        self.resend_provisional(now, wire);
        if self.glare.retry_at.take_if(|at| *at <= now.mono_us).is_some() {
            self.want_offer(now, wire);
        }
        if self.tell_target_at.take_if(|at| *at <= now.mono_us).is_some() {
            self.send_target(now, wire);
        }
        if self.referral.and_then(transfer::Referral::poll_timeout).is_some_and(|until| until <= now.mono_us)
        {
            self.on_refer_timeout(wire);
        }
        if self.reinvite_until.take_if(|until| *until <= now.mono_us).is_some() {
            self.cancel_reinvite(now, wire);
        }
        match self.timer.due(now) {
            Some(session_timer::Due::Refresh) => self.refresh(now, wire),
            Some(session_timer::Due::Expired) => self.give_up(now, Ending::SessionExpired, 408, wire),
            None => {}
        }
    }

    /// The dialog that commands go to: the chosen one, or the only early one.
    fn current(&self) -> Option<usize> {
        self.chosen.or_else(|| {
            let mut alive = self.legs.iter().enumerate().filter(|(_, leg)| !leg.gone).map(|(index, _)| index);
            let only = alive.next();
            if alive.next().is_some() { None } else { only }
        })
    }

    /// The option tags of Supported, where reliable progress is wanted like this.
    fn supported(&self, prack: Prack) -> String {
        let mut tags = Vec::new();
        if prack != Prack::Off {
            tags.push("100rel");
        }
        if self.timer.is_offered() {
            tags.push("timer");
        }
        tags.push("replaces");
        tags.join(", ")
    }

    fn say_supported(&self, fields: &mut Fields) {
        fields.set("Supported", self.supported(self.settings.prack));
    }

    /// Sends a request inside a dialog and remembers what it is for.
    fn ask(&mut self, now: Now, index: usize, request: Request, ask: Ask, wire: &mut Wire) {
        let Some(leg) = self.legs.get(index).filter(|_| self.asks.len() < MAX_ASKS || ask == Ask::Bye) else {
            return;
        };
        let id = wire.send_request(now, self.id, self.account, request, &leg.dialog.sequence);
        self.asks.push((id, index, ask));
    }

    /// Tells the room above if the peer says anew who it is.
    fn hear_identity(&mut self, index: usize, heard: Identity, wire: &mut Wire) {
        let leg = &mut self.legs[index];
        if heard.is_told() && leg.identity.as_ref().is_none_or(|known| known.differs(&heard)) {
            leg.identity = Some(heard.clone());
            if self.stage != Stage::Over {
                wire.event(self.id, CallEvent::Identity(Box::new(heard)));
            }
        }
    }
}

/// The session description of a message.
fn session_body<'a>(fields: &Fields, body: &'a [u8]) -> SessionBody<'a> {
    let content_type = fields.text("Content-Type");
    let disposition = fields.text("Content-Disposition").unwrap_or_default().to_ascii_lowercase();
    let encoded =
        fields.text("Content-Encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    if encoded && !body.is_empty() {
        return SessionBody::Unsupported;
    }
    let optional = disposition.replace(' ', "").contains("handling=optional");
    session_of_body(content_type.as_deref(), optional, body)
}

/// The session description of a message from which nothing has to be refused.
fn description_in(fields: &Fields, body: &[u8]) -> Option<Vec<u8>> {
    match session_body(fields, body) {
        SessionBody::Session(sdp) => Some(sdp.to_vec()),
        SessionBody::Absent | SessionBody::Unsupported => None,
    }
}

/// The answer to a body that can't be processed (RFC 3261 §8.2.3), or the description in it.
fn offered_body(request: &Request) -> Result<Option<Vec<u8>>, Box<Response>> {
    match session_body(&request.fields, &request.body) {
        SessionBody::Absent => Ok(None),
        SessionBody::Session(sdp) => match crate::sip::sdp::Session::read(sdp) {
            Ok(_) => Ok(Some(sdp.to_vec())),
            Err(why) => {
                let mut response = Response::with_reason(request, 400, "Bad Session Description");
                response.fields.push("Warning", format!("399 tipring \"{why}\""));
                Err(Box::new(response))
            }
        },
        SessionBody::Unsupported => {
            let mut response = Response::to(request, 415);
            response.fields.push("Accept", "application/sdp");
            response.fields.push("Accept-Encoding", "identity");
            Err(Box::new(response))
        }
    }
}

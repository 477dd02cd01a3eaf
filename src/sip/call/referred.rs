//! Being asked by the peer of a call to call somebody else (REFER inside its dialog, RFC 3515, RFC 3892). The room above says
//! whether we do; how it goes is told to the peer by NOTIFY, each with a piece of a response (RFC 3420), unless it wants none
//! (RFC 4488). Once the call is over nobody is told any more.

use crate::now::Now;
use crate::sip::call::event::{CallEvent, Referred};
use crate::sip::call::leg::Open;
use crate::sip::call::transfer::PACKAGE;
use crate::sip::call::{Ask, Call, CallError, MAX_ASKS, Stage};
use crate::sip::event_package::{EventPackage, SubscriptionState};
use crate::sip::fields::FieldValue;
use crate::sip::grammar;
use crate::sip::handle::{CallId, TransactionId};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::replaces::Replaces;
use crate::sip::status::reason_phrase;
use crate::sip::uri::{SipUri, Uri};
use crate::sip::user_agent::UserAgent;
use crate::sip::wire::Wire;

/// How long the peer may expect to be told, in seconds.
const LASTS_S: u32 = 180;

/// A REFER of the peer's, until it has been told what came of it.
#[derive(Debug)]
pub(super) struct Following {
    index: usize,
    /// The CSeq number of the REFER, which names its subscription if it is not the first one.
    number: u32,
    /// The REFER, while nobody has said whether we do it.
    open: Option<Open>,
    /// Whether the peer wants to be told.
    tells: bool,
}

impl Call {
    /// A REFER inside the call.
    pub(super) fn on_refer(
        &mut self,
        now: Now,
        index: usize,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        let read = match (self.stage, &self.following) {
            (Stage::Talking, Some(_)) => Err(491),
            (Stage::Talking, None) if self.chosen == Some(index) => referred(request),
            _ => Err(603),
        };
        match read {
            Ok(referred) => {
                let quiet = |value: &[u8]| {
                    let word = value.split(|octet| *octet == b';').next().unwrap_or_default();
                    grammar::trim(word).eq_ignore_ascii_case(b"false")
                };
                self.following = Some(Following {
                    index,
                    number: request.head.cseq.number,
                    open: Some(Open { transaction, request: Box::new(request.clone()) }),
                    tells: !request.fields.get("Refer-Sub").is_some_and(quiet),
                });
                wire.event(self.id, CallEvent::Referred(Box::new(referred)));
            }
            Err(status) => wire.respond(now, transaction, Response::to(request, status)),
        }
    }

    /// Answers [`CallEvent::Referred`]: we call whom the peer asks for, or refuse it with a status.
    ///
    /// # Errors
    /// [`CallError::NotNow`] if the peer has asked for nothing.
    pub fn reply_refer(
        &mut self,
        now: Now,
        reply: Result<(), u16>,
        wire: &mut Wire,
    ) -> Result<(), CallError> {
        let following = self.following.as_mut();
        let open = following.and_then(|following| Some((following.open.take()?, following.tells)));
        let (open, tells) = open.ok_or(CallError::NotNow("the peer asks for nothing"))?;
        match reply {
            Ok(()) => {
                let mut response = Response::to(&open.request, 202);
                if !tells {
                    response.fields.push("Refer-Sub", "false");
                }
                wire.respond(now, open.transaction, response);
                self.tell_referrer(now, 100, wire);
            }
            Err(status) => {
                self.following = None;
                wire.respond(now, open.transaction, Response::to(&open.request, status.clamp(400, 699)));
            }
        }
        Ok(())
    }

    /// Tells the peer what the target has answered so far; a final status is the last.
    pub fn tell_referrer(&mut self, now: Now, status: u16, wire: &mut Wire) {
        let Some(following) = self.following.as_ref().filter(|following| following.open.is_none()) else {
            return;
        };
        let (index, tells, number) = (following.index, following.tells, following.number);
        let over = status >= 200;
        if over {
            self.following = None;
        }
        let id = (self.refers > 0).then(|| number.to_string());
        self.refers += u32::from(over);
        if !tells || self.stage != Stage::Talking || self.asks.len() >= MAX_ASKS {
            return;
        }
        let mut request = self.legs[index].dialog.request(Method::NOTIFY);
        request.fields.put(&EventPackage { package: PACKAGE.to_owned(), id });
        request.fields.put(&SubscriptionState {
            state: if over { "terminated" } else { "active" }.to_owned(),
            reason: over.then(|| "noresource".to_owned()),
            expires: (!over).then_some(LASTS_S),
            retry_after: None,
        });
        let piece = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        request.set_body("message/sipfrag;version=2.0", piece.into_bytes());
        self.ask(now, index, request, Ask::Notify, wire);
    }

    /// The call is over: nobody is told any more, and a REFER that still waits is refused.
    pub(super) fn forget_referrer(&mut self, now: Now, wire: &mut Wire) {
        if let Some(open) = self.following.take().and_then(|following| following.open) {
            wire.respond(now, open.transaction, Response::to(&open.request, 487));
        }
    }

    /// The peer has forgotten that it wanted to be told.
    pub(super) fn on_notify_response(&mut self, response: &Response) {
        if response.status == 481
            && let Some(following) = &mut self.following
        {
            following.tells = false;
        }
    }
}

impl UserAgent {
    /// Answers [`CallEvent::Referred`]; see [`Call::reply_refer`].
    ///
    /// # Errors
    /// [`CallError`] if nothing is asked for.
    pub fn reply_refer(&mut self, now: Now, call: CallId, reply: Result<(), u16>) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.reply_refer(now, reply, wire))
    }

    /// Tells the peer of a call how it goes with whom it has us call; see [`Call::tell_referrer`].
    pub fn tell_referrer(&mut self, now: Now, call: CallId, status: u16) {
        // A call that is over has nobody to be told.
        let _ = self.with(now, call, |call, wire| {
            call.tell_referrer(now, status, wire);
            Ok(())
        });
    }
}

/// What a REFER asks for, or the status that refuses it.
fn referred(request: &Request) -> Result<Referred, u16> {
    if request.fields.count("Refer-To") != 1 {
        return Err(400);
    }
    let to = request.fields.name_addr("Refer-To").ok().flatten().ok_or(400u16)?;
    let mut target = to.uri;
    let replaces = match &mut target {
        Uri::Sip(uri) => headers_of(uri)?,
        Uri::Tel(_) => None,
        Uri::Other(_) => return Err(416),
    };
    Ok(Referred { target, replaces, by: request.fields.name_addr("Referred-By").ok().flatten() })
}

/// The Replaces in a URI. What else it would put into our INVITE is left out; another method than INVITE is refused.
fn headers_of(uri: &mut SipUri) -> Result<Option<Replaces>, u16> {
    if uri.param("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
        return Err(603);
    }
    uri.params.remove("method");
    let headers = std::mem::take(&mut uri.headers);
    let mut replaces =
        headers.iter().filter(|(name, _)| grammar::unescape(name).eq_ignore_ascii_case(Replaces::NAME));
    let first = replaces.next().map(|(_, value)| Replaces::parse(&grammar::unescape_octets(value)));
    if replaces.next().is_some() {
        return Err(400);
    }
    first.transpose().map_err(|_| 400)
}

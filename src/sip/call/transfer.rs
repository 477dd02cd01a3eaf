//! Asking the peer of a call to call somebody else instead of us (REFER, RFC 3515, RFC 5589), and hearing what came of it:
//! by NOTIFY inside the dialog of the call, each with a piece of a response (RFC 3420).

use std::time::Duration;

use crate::now::Now;
use crate::sip::call::event::{CallEvent, Transfer};
use crate::sip::call::{Ask, Call, CallError, MAX_ASKS, Stage};
use crate::sip::event_package::{EventPackage, SubscriptionState};
use crate::sip::fields::FieldValue;
use crate::sip::grammar;
use crate::sip::handle::{CallId, TransactionId};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::replaces::Replaces;
use crate::sip::ua_event::Failure;
use crate::sip::uri::Uri;
use crate::sip::user_agent::UserAgent;
use crate::sip::wire::Wire;

/// The event package of transfers.
pub const PACKAGE: &str = "refer";
/// The most bytes of a notification's first line.
const LONGEST_STATUS_LINE: usize = 256;
/// A peer that has accepted is waited for so long: somebody rings there.
const PATIENCE: Duration = Duration::from_secs(180);

/// A REFER of ours and what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Referral {
    /// The CSeq number of the REFER, by which several would be told apart: the one that was accepted, once that is known.
    number: u32,
    /// Until when it may stay open what came of it; `None` once it is known.
    until: Option<u64>,
}

impl Referral {
    pub(super) fn poll_timeout(self) -> Option<u64> {
        self.until
    }
}

impl Call {
    /// Asks the peer to call `target`, which may name the call to take over ([`Call::replaces`]). What comes of it is
    /// told by [`CallEvent::Transfer`]; the call goes on until somebody ends it.
    ///
    /// # Errors
    /// [`CallError::Over`] if the call is over; [`CallError::NotNow`] before it is answered, and while the peer has not
    /// told what came of a transfer before.
    pub fn refer(&mut self, now: Now, target: Uri, wire: &mut Wire) -> Result<(), CallError> {
        let index = match (self.stage, self.chosen) {
            (Stage::Over, _) => return Err(CallError::Over),
            (Stage::Talking, Some(index)) => index,
            _ => return Err(CallError::NotNow("it is not answered yet")),
        };
        if self.referral.is_some_and(|referral| referral.until.is_some()) {
            return Err(CallError::NotNow("a transfer is under way"));
        }
        if self.asks.len() >= MAX_ASKS {
            return Err(CallError::NotNow("too many requests are unanswered"));
        }
        let mut request = self.legs[index].dialog.request(Method::REFER);
        request.fields.push("Refer-To", NameAddr::new(target).to_string());
        if let Some(line) = wire.account(self.account) {
            // Who wants it (RFC 3892): without parameters, and without the tag of our From.
            request.fields.push("Referred-By", NameAddr::new(Uri::Sip(line.aor.clone())).to_string());
        }
        self.referral =
            Some(Referral { number: request.head.cseq.number, until: Some(now.deadline(PATIENCE)) });
        self.ask(now, index, request, Ask::Refer, wire);
        Ok(())
    }

    /// What a third party has to call to take the place of us in this call (RFC 3891), once it is answered: the peer's
    /// Contact, and the dialog as the peer sees it.
    pub fn replaces(&self) -> Option<(Uri, Replaces)> {
        let dialog = &self.legs.get(self.chosen?)?.dialog;
        let replaces = Replaces {
            call_id: dialog.call_id.clone(),
            to_tag: dialog.remote_tag.clone(),
            from_tag: dialog.local_tag.clone(),
            early_only: false,
        };
        (self.stage == Stage::Talking).then(|| (dialog.target.clone(), replaces))
    }

    pub(super) fn on_refer_response(&mut self, response: &Response, wire: &mut Wire) {
        if response.is_success() {
            if let Some(referral) = &mut self.referral {
                referral.number = response.head.cseq.number;
            }
            return self.tell_transfer(Transfer::Accepted, wire);
        }
        let reason = response.reason.clone();
        self.end_transfer(Transfer::Failed { status: response.status, reason }, wire);
    }

    pub(super) fn on_refer_failure(&mut self, failure: &Failure, wire: &mut Wire) {
        self.end_transfer(Transfer::Failed { status: 408, reason: failure.to_string() }, wire);
    }

    /// The peer has not said for too long what came of it.
    pub(super) fn on_refer_timeout(&mut self, wire: &mut Wire) {
        let reason = "nobody said what came of it".to_owned();
        self.end_transfer(Transfer::Failed { status: 408, reason }, wire);
    }

    /// A notification of the subscription that our REFER made. It may come before the answer to the REFER.
    pub(super) fn on_notify(
        &mut self,
        now: Now,
        transaction: TransactionId,
        request: &Request,
        wire: &mut Wire,
    ) {
        let event = request.fields.typed::<EventPackage>();
        // Each challenge has the REFER go out with another number: until it is answered, any since then may be the one.
        let is_answered = !self.asks.iter().any(|(_, _, ask)| *ask == Ask::Refer);
        let last = self.dialog().filter(|_| !is_answered).map(|dialog| dialog.sequence.last());
        let ours = |referral: &Referral| {
            let id = event.as_ref().ok().and_then(Option::as_ref).and_then(|event| event.id.as_deref());
            let numbers = referral.number..=last.unwrap_or(referral.number);
            id.is_none_or(|id| id.parse().is_ok_and(|id: u32| numbers.contains(&id)))
        };
        if !self.referral.as_ref().is_some_and(ours) {
            return wire.respond(now, transaction, Response::to(request, 481));
        }
        wire.respond(now, transaction, Response::to(request, 200));
        let told = status_line(&request.body);
        let state = request.fields.typed::<SubscriptionState>();
        let over = matches!(&state, Ok(Some(state)) if state.is_terminated());
        match told {
            Some((200..300, _)) => self.end_transfer(Transfer::Done, wire),
            Some((status @ 300.., reason)) => self.end_transfer(Transfer::Failed { status, reason }, wire),
            // Nothing more will be told, and nothing good was.
            told if over => {
                let (status, _) = told.unwrap_or_default();
                let reason = "the PBX tells no more of it".to_owned();
                self.end_transfer(Transfer::Failed { status, reason }, wire);
            }
            Some((status, _)) => self.tell_transfer(Transfer::Progress { status }, wire),
            None => {}
        }
    }

    fn tell_transfer(&self, transfer: Transfer, wire: &mut Wire) {
        if self.stage != Stage::Over && self.referral.is_some_and(|referral| referral.until.is_some()) {
            wire.event(self.id, CallEvent::Transfer(transfer));
        }
    }

    /// Tells the last of it. The referral stays for notifications that come late.
    fn end_transfer(&mut self, transfer: Transfer, wire: &mut Wire) {
        self.tell_transfer(transfer, wire);
        if let Some(referral) = &mut self.referral {
            referral.until = None;
        }
    }
}

impl UserAgent {
    /// Asks the peer of a call to call somebody else instead of us; see [`Call::refer`].
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn refer(&mut self, now: Now, call: CallId, target: Uri) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.refer(now, target, wire))
    }

    /// The URI that takes the place of us in a call, for [`refer`](Self::refer): the peer's Contact with the dialog as a
    /// header in it (RFC 3891, RFC 5589 §7). `None` unless the call is answered.
    pub fn takes_over(&self, call: CallId) -> Option<Uri> {
        let (target, replaces) = self.calls.get(&call)?.replaces()?;
        let mut uri = target.as_sip()?.clone();
        let escaped = grammar::escape(&replaces.write(), grammar::is_uri_header);
        uri.headers = vec![(Replaces::NAME.to_owned(), escaped)];
        Some(Uri::Sip(uri))
    }
}

/// The status and reason of a piece of a response (RFC 3420): `SIP/2.0 180 Ringing`. What a terminal would obey is left out.
pub fn status_line(body: &[u8]) -> Option<(u16, String)> {
    let line = body.split(|octet| matches!(octet, b'\r' | b'\n')).next()?;
    let line = std::str::from_utf8(line.get(..line.len().min(LONGEST_STATUS_LINE))?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = status.parse().ok().filter(|status| (100..700).contains(status))?;
    let reason = reason.chars().filter(|c| !c.is_control()).collect();
    version.eq_ignore_ascii_case("SIP/2.0").then_some((status, reason))
}

#[cfg(test)]
mod tests {
    use super::status_line;

    #[test]
    fn a_piece_of_a_response_is_read_and_nothing_else() {
        for (body, read) in [
            (&b"SIP/2.0 100 Trying"[..], Some((100, "Trying"))),
            (b"SIP/2.0 486 Busy Here\r\nVia: x\r\n\r\n", Some((486, "Busy Here"))),
            (b"sip/2.0 200\r\n", Some((200, ""))),
            (b"SIP/2.0 200 O\x1bK\n", Some((200, "OK"))),
            (b"", None),
            (b"SIP/2.0", None),
            (b"SIP/3.0 200 OK", None),
            (b"SIP/2.0 99 Few", None),
            (b"SIP/2.0 700 Many", None),
            (b"SIP/2.0 2\xff0 OK", None),
            (b"HTTP/1.1 200 OK", None),
        ] {
            let read = read.map(|(status, reason)| (status, reason.to_owned()));
            assert_eq!(status_line(body), read, "{}", body.escape_ascii());
        }
        let long = [&b"SIP/2.0 200 "[..], &[b'x'; 10_000]].concat();
        assert_eq!(status_line(&long).map(|(_, reason)| reason.len()), Some(256 - "SIP/2.0 200 ".len()));
    }
}

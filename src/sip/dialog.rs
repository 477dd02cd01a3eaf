//! The dialog of RFC 3261 §12: who the two sides are, where requests go, and the order of requests on both
//! sides.
//!
//! It makes and checks requests inside the dialog. What the dialog is for (a call, a subscription) and how
//! requests travel is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sip::fields::Fields;
use crate::sip::message::{Head, Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::{Contacts, NameAddr};
use crate::sip::uri::Uri;

/// The CSeq counter of one side of a dialog (RFC 3261 §12.2.1.1).
///
/// It is shared between the dialog, which draws numbers for new requests, and the request in flight, which
/// draws one more when it has to be sent again with credentials.
#[derive(Clone, Debug)]
pub struct Sequence(Arc<AtomicU32>);

impl Sequence {
    /// A counter whose first [`next`](Self::next) is `first`.
    pub fn new(first: u32) -> Sequence {
        Sequence(Arc::new(AtomicU32::new(first.saturating_sub(1))))
    }

    /// Draws the next number.
    pub fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The number drawn last.
    pub fn last(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes note of a number that was used elsewhere: the next one is higher.
    pub fn raise_to(&self, number: u32) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}

/// A request inside a dialog came out of order: answer 500 (RFC 3261 §12.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the CSeq number {got} is not above {last}; the peer repeats or reorders requests")]
pub struct OutOfOrder {
    /// The number that came.
    pub got: u32,
    /// The highest number before.
    pub last: u32,
}

/// One dialog, seen from our side.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// The Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Their tag; empty for a peer of RFC 2543.
    pub remote_tag: String,
    /// What we are called, tag included: From of our requests.
    pub local: NameAddr,
    /// What they are called, tag included: To of our requests.
    pub remote: NameAddr,
    /// Where requests go in the end: their Contact.
    pub target: Uri,
    /// The proxies in between, in the order of Route.
    pub route_set: Vec<NameAddr>,
    /// The numbers of our requests.
    pub sequence: Sequence,
    /// The number of their last request.
    pub remote_sequence: Option<u32>,
    /// Set up with a `sips` URI over TLS (RFC 3261 §12.1).
    pub secure: bool,
}

/// Proxies beyond this number are not believed.
const MAX_ROUTES: usize = 32;

impl Dialog {
    /// The dialog that a response to our request makes (RFC 3261 §12.1.2): 101–299 with a To-tag.
    ///
    /// `None` if the response makes none: no tag, no usable Contact.
    pub fn from_response(request: &Request, response: &Response) -> Option<Dialog> {
        if !(101..300).contains(&response.status) {
            return None;
        }
        let remote_tag = response.head.to_tag()?.to_owned();
        let mut route_set = record_routes(&response.fields);
        route_set.reverse();
        // A provisional response may come without Contact (RFC 3261 §20.10): the Request-URI serves until the
        // next.
        let target =
            contact(&response.fields).or_else(|| (response.status < 200).then(|| request.uri.clone()))?;
        Some(Dialog {
            call_id: response.head.call_id.clone(),
            local_tag: request.head.from_tag().unwrap_or_default().to_owned(),
            remote_tag,
            local: request.head.from.clone(),
            remote: response.head.to.clone(),
            target,
            route_set,
            sequence: Sequence::new(response.head.cseq.number.saturating_add(1)),
            remote_sequence: None,
            secure: is_secure(&request.uri),
        })
    }

    /// The dialog that a request to us makes once we answer it with `local_tag` (RFC 3261 §12.1.1).
    ///
    /// `None` if it has no usable Contact. A missing From-tag is that of a peer of RFC 2543.
    pub fn from_request(request: &Request, local_tag: &str) -> Option<Dialog> {
        let mut local = request.head.to.clone();
        local.set_tag(local_tag);
        Some(Dialog {
            call_id: request.head.call_id.clone(),
            local_tag: local_tag.to_owned(),
            remote_tag: request.head.from_tag().unwrap_or_default().to_owned(),
            local,
            remote: request.head.from.clone(),
            target: contact(&request.fields)?,
            route_set: record_routes(&request.fields),
            sequence: Sequence::new(1),
            remote_sequence: Some(request.head.cseq.number),
            secure: is_secure(&request.uri),
        })
    }

    /// Whether a request of theirs belongs to this dialog.
    pub fn matches(&self, head: &Head) -> bool {
        head.call_id == self.call_id
            && head.to_tag().unwrap_or_default() == self.local_tag
            && head.from_tag().unwrap_or_default() == self.remote_tag
    }

    /// A request of ours inside the dialog (RFC 3261 §12.2.1.1), its CSeq drawn from the sequence.
    pub fn request(&self, method: Method) -> Request {
        self.numbered(method, self.sequence.next())
    }

    /// The ACK to a 2xx, numbered as the INVITE was (RFC 3261 §13.2.2.4).
    pub fn ack(&self, invite_sequence: u32) -> Request {
        self.numbered(Method::ACK, invite_sequence)
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let mut routes = self.route_set.clone();
        let mut uri = self.target.clone();
        let strict = routes.first().is_some_and(|first| !first.uri.as_sip().is_some_and(|uri| uri.lr()));
        if strict {
            // A strict router wants to find itself in the Request-URI and the target last in Route.
            let first = routes.remove(0);
            routes.push(NameAddr::new(std::mem::replace(&mut uri, first.uri)));
        }
        let mut request =
            Request::new(method, uri, self.local.clone(), self.remote.clone(), &self.call_id, number);
        for route in &routes {
            request.fields.push("Route", route.to_string());
        }
        request
    }

    /// Checks the order of a request of theirs, and takes note of its number. ACK and CANCEL are not counted.
    pub fn check_request(&mut self, request: &Request) -> Result<(), OutOfOrder> {
        if matches!(request.method, Method::ACK | Method::CANCEL) {
            return Ok(());
        }
        let got = request.head.cseq.number;
        match self.remote_sequence {
            Some(last) if got <= last => Err(OutOfOrder { got, last }),
            _ => {
                self.remote_sequence = Some(got);
                Ok(())
            }
        }
    }

    /// Takes the Contact of a target refresh request or of its 2xx as the new target (RFC 3261 §12.2).
    pub fn refresh_target(&mut self, fields: &Fields) {
        if let Some(target) = contact(fields) {
            self.target = target;
        }
    }

    /// A 2xx made the early dialog a confirmed one: its route set and target count from now on (RFC 3261
    /// §13.2.2.4).
    pub fn confirm(&mut self, response: &Response) {
        self.route_set = record_routes(&response.fields);
        self.route_set.reverse();
        self.refresh_target(&response.fields);
    }
}

fn contact(fields: &Fields) -> Option<Uri> {
    match fields.contacts() {
        Ok(Some(Contacts::List(list))) => list.into_iter().next().map(|contact| contact.uri),
        _ => None,
    }
}

fn record_routes(fields: &Fields) -> Vec<NameAddr> {
    let mut routes = fields.record_routes().unwrap_or_default();
    routes.truncate(MAX_ROUTES);
    routes
}

fn is_secure(uri: &Uri) -> bool {
    uri.as_sip().is_some_and(|uri| uri.secure)
}

#[cfg(test)]
#[path = "dialog_tests.rs"]
mod tests;

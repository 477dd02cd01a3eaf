//! How an event is put into the words of another system: the plug point of every kind of upstream.
//!
//! What a retry must not change is rendered once and kept ([`Frozen`]); what each attempt has to make anew, such as a
//! signature over the moment, is made by [`Dialect::request`]. Another kind is a file that implements [`Dialect`] and
//! a row in [`of`].

use super::webhook::Webhook;
use crate::config::{self, UpstreamKind};
use crate::events::CloudEvent;
use crate::now::Now;

/// What stays the same in all attempts to deliver one event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    /// By which the receiver knows a repetition.
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One request to an upstream, but for the place: that is the URL of its settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method: `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Request {
    // Paths, credentials and numbers of callers are nobody's to see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} bytes", self.method, self.body.len())
    }
}

/// The words of one kind of upstream.
pub trait Dialect: Send {
    /// Whether events of this type are worth nothing when they come late: they make something pop up on a screen.
    fn pops_up(&self, kind: &str) -> bool;

    /// The part of an event that no retry changes; `None` if this kind of upstream has no words for it.
    fn render(&self, event: &CloudEvent) -> Option<Frozen>;

    /// The request of one attempt at this moment.
    fn request(&self, frozen: &Frozen, now: Now) -> Request;
}

/// The words that the settings of an upstream ask for, on the device with this serial number.
pub fn of(settings: &config::Upstream, serial: &str) -> Box<dyn Dialect> {
    match settings.kind {
        UpstreamKind::Webhook => Box::new(Webhook::new(settings, serial)),
    }
}

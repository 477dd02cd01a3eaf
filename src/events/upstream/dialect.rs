//! How an event is put into the words of another system: the plug point of every kind of upstream.
//!
//! What a retry must not change is rendered once and kept ([`Frozen`]); what each attempt has to make anew, such as a
//! signature over the moment, is made by [`Dialect::request`]. Most kinds send one request for an event and look at the
//! status of its answer; one that has to say several things in turn, and to remember what it is answered, has
//! [`Dialect::step`] and [`Dialect::heard`] of its own (see [`turn`](super::turn)). Another kind is a file that implements
//! [`Dialect`] and a row in [`of`].

use super::action_url::ActionUrl;
use super::bitrix24::{Bitrix24, Controller};
use super::filter::wanted;
use super::mqtt::Mqtt;
use super::outcome::Outcome;
use super::ringme::Ringme;
use super::rostelecom::Rostelecom;
use super::slack::{self, Slack};
use super::turn::{Heard, Notes, Step};
use super::webhook::Webhook;
use super::webitel::Webitel;
use crate::config::{self, UpstreamKind, UpstreamUrl};
use crate::events::CloudEvent;
use crate::events::catalogue::TYPES;
use crate::events::lookup::Question;
use crate::now::Now;

/// What stays the same in all attempts to deliver one event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    /// The identity of the event, by which the receiver knows a repetition where its kind has a place for that.
    pub id: String,
    /// Path and query, or the topic.
    pub target: String,
    /// The body, or what it will be made of.
    pub body: Vec<u8>,
}

/// One request to an upstream, but for the place: that is the host in the URL of its settings. Whatever is in it can be written:
/// what comes from settings is refused there, what comes from events is escaped.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The method: `GET`, without a body, or `POST`; `PUBLISH` where it is a message to a broker.
    pub method: &'static str,
    /// Path and query, or the topic.
    pub target: String,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Where it goes, if that is another place than the one that the settings name.
    pub elsewhere: Option<UpstreamUrl>,
    /// A recording that follows the body.
    pub enclosed: Option<Enclosed>,
    /// Bytes of the answer that are read; of most the status says all.
    pub reads: usize,
    /// It must not be sent a second time unnoticed: a connection that rested, and may be dead, is not taken for it.
    pub once: bool,
}

/// A recording inside of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enclosed {
    /// Which.
    pub recording: String,
    /// What follows it.
    pub tail: Vec<u8>,
}

impl Request {
    /// What is frozen, as a POST of this type.
    pub fn post(frozen: &Frozen, content_type: &str) -> Request {
        Request {
            method: "POST",
            target: frozen.target.clone(),
            headers: vec![("content-type", content_type.to_owned())],
            body: frozen.body.clone(),
            ..Request::default()
        }
    }
}

impl std::fmt::Debug for Request {
    // Paths, credentials and numbers of callers are nobody's to see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} bytes", self.method, self.body.len())
    }
}

/// The words of one kind of upstream.
pub trait Dialect: Send {
    /// Whether it has words for events of this type.
    fn speaks_of(&self, kind: &str) -> bool;

    /// Whether events of this type are worth nothing when they come late: they make something pop up on a screen.
    fn pops_up(&self, kind: &str) -> bool;

    /// Whether of several events of this type that wait for one target the newest alone is worth telling.
    fn supersedes(&self, _: &str) -> bool {
        false
    }

    /// The part of an event that no retry changes; `None` if this kind of upstream has no words for it. A `gap` that it has
    /// none for is counted for whoever looks ([`View::missing`](super::desk::View::missing)).
    fn render(&self, event: &CloudEvent) -> Option<Frozen>;

    /// The request of one attempt at this moment.
    fn request(&self, frozen: &Frozen, now: Now) -> Request;

    /// What is next in delivering this: once the answer to a request was [heard](Dialect::heard), again, until it is over.
    fn step(&mut self, frozen: &Frozen, now: Now) -> Step {
        Step::Send(Box::new(self.request(frozen, now)))
    }

    /// What became of the request that [`Dialect::step`] asked for means for its delivery.
    fn heard(&mut self, _: &Frozen, outcome: &Outcome, _: Now) -> Heard {
        Heard::over(outcome.verdict())
    }

    /// What an earlier life was told to remember.
    fn recall(&mut self, _: Notes) {}

    /// What was heard for this delivery is kept.
    fn remembered(&mut self, _: &Frozen) {}

    /// Whether a delivery may begin: not while one of them gets what all of them need.
    fn is_ready(&self) -> bool {
        true
    }

    /// The request that asks it who is at the other end of a call; `None` as long as it can't be asked.
    fn inquiry(&self, _: &Question, _: Now) -> Option<Request> {
        None
    }

    /// What shows whether the upstream can be reached and believes us, without being taken for something that happened.
    /// `event` is none of the record: an `upstream.test` without data.
    fn test(&self, event: &CloudEvent) -> Frozen;
}

/// The words that the settings of an upstream ask for, on the device with this serial number.
pub fn of(settings: &config::Upstream, serial: &str) -> Box<dyn Dialect> {
    match settings.kind {
        UpstreamKind::Webhook => Box::new(Webhook::new(settings, serial)),
        UpstreamKind::Slack => Box::new(Slack::new(settings, serial)),
        UpstreamKind::ActionUrl => Box::new(ActionUrl::new(settings, serial)),
        UpstreamKind::Webitel => Box::new(Webitel::new(settings)),
        UpstreamKind::Ringme => Box::new(Ringme::new(settings)),
        UpstreamKind::Mqtt => Box::new(Mqtt::new(settings, serial)),
        UpstreamKind::Rostelecom => Box::new(Rostelecom::new(settings)),
        UpstreamKind::Bitrix24 if settings.bitrix24.has_controller() => Box::new(Controller::new(settings)),
        UpstreamKind::Bitrix24 => Box::new(Bitrix24::new(settings)),
    }
}

/// The types of which an upstream with these settings could be told, if its `events` leave out all of them: nothing will be.
pub fn left_out(settings: &config::Upstream) -> Option<Vec<&'static str>> {
    let dialect = of(settings, "");
    let spoken: Vec<_> = TYPES.iter().copied().filter(|kind| dialect.speaks_of(kind)).collect();
    (!spoken.iter().any(|kind| wanted(&settings.events, kind))).then_some(spoken)
}

/// The header that the settings want requests to have, if they want one.
pub fn authorization(settings: &config::Upstream) -> Option<(&'static str, String)> {
    let value = settings.authorization.reveal();
    (!value.is_empty()).then(|| ("authorization", value.to_owned()))
}

/// What to do about a status that an upstream of this kind answers, where there is more to say than of any.
pub fn cure(kind: UpstreamKind, status: u16) -> Option<&'static str> {
    match kind {
        UpstreamKind::Slack => slack::cure(status),
        _ => None,
    }
}

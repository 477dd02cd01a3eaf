//! MQTT 3.1.1 and 5 as a kind of upstream: the native events, published to a broker over one connection that stays.
//!
//! ```text
//!   record ─► Upstream ─ Send ─► Session ─ bytes ─► broker      what is told, and when it may be tried again
//!                 ▲                 │
//!                 └──── Outcome ────┘  PUBACK of that packet id, and of nothing else
//! ```
//!
//! [`packet`] reads what a broker sends and [`outgoing`] writes what it gets; [`reason`] says what its codes mean;
//! [`session`] is the connection as a state machine in time and bytes; [`orders`] says which commands are carried out that come
//! back over it; [`topics`] is the tree of one device. What is owed,
//! in which order, and how long an event is tried is the business of [`Upstream`](super::Upstream), as for every kind.

pub mod orders;
pub mod outgoing;
pub mod packet;
#[cfg(test)]
mod paper_broker;
mod properties;
pub mod reason;
pub mod session;
#[cfg(test)]
mod tests;
pub mod topics;

use super::dialect::{Dialect, Frozen, Request};
use super::webhook::MOMENTARY;
use crate::config;
use crate::events::CloudEvent;
use crate::now::Now;
pub use orders::Order;
pub use packet::Message;
pub use properties::Properties;
pub use session::{Output, Session};
use topics::Topics;

/// Events as messages: a CloudEvent each, as a webhook gets it.
pub struct Mqtt {
    serial: String,
    topics: Topics,
}

impl Mqtt {
    /// The kind `mqtt` with these settings.
    pub fn new(settings: &config::Upstream, serial: &str) -> Mqtt {
        Mqtt { serial: serial.to_owned(), topics: Topics::of(&settings.mqtt, serial) }
    }
}

impl Dialect for Mqtt {
    fn speaks_of(&self, _: &str) -> bool {
        true
    }

    fn pops_up(&self, kind: &str) -> bool {
        MOMENTARY.contains(&kind)
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        Some(self.test(event))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let (target, body) = (frozen.target.clone(), frozen.body.clone());
        Request { method: "PUBLISH", target, body, ..Request::default() }
    }

    fn test(&self, event: &CloudEvent) -> Frozen {
        let body = event.to_json(&self.serial).into_bytes();
        Frozen { id: event.id.to_string(), target: self.topics.of_event(event), body }
    }
}

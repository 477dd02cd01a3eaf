//! What happened, told once: the catalogue of events, how an event is rendered, and the store that keeps it.
//!
//! This room owns the names and fields that other systems see ([`catalogue`], [`kind`]), the words for why a call ended
//! ([`cause`]), how calls are given away ([`transfer`]), numbers as they were dialled and in E.164 ([`number`]), what waits in a mailbox ([`mailbox`]), whether an
//! agent is there ([`agent`]), numbering and the CloudEvents form ([`cloud_event`]), what other systems are told and when
//! ([`upstream`]), how a system is asked who calls ([`lookup`]), the SQL of the journal and the event log ([`store`]) over a connection that it is handed, the newest
//! events in memory ([`tail`]), and how past calls are searched ([`search`]), written ([`cdr`], [`support_log`]) and added up
//! ([`report`]).
//!
//! It must not know SIP, audio or what a phone does: `phone/` says that something happened and why, and nobody else
//! invents an event.

pub mod agent;
pub mod archive;
pub mod catalogue;
pub mod cause;
pub mod cdr;
pub mod cloud_event;
pub mod kind;
pub mod leg;
pub mod lookup;
pub mod mailbox;
pub mod number;
pub mod report;
pub mod search;
pub mod store;
pub mod support_log;
pub mod tail;
pub mod transfer;
pub mod upstream;

pub use agent::AgentState;
pub use catalogue::{Event, Suspension};
pub use cause::{CallResult, Cause, EndedBy};
pub use cloud_event::{CloudEvent, Recorded, Recorder};
pub use kind::Kind;
pub use leg::{Direction, Diverted, Leg, Origin, Party, Quality, Side, Way};
pub use mailbox::Mailbox;
pub use number::Number;
pub use transfer::{Follows, Transfer, TransferWay};

#[cfg(test)]
pub(crate) mod tests;

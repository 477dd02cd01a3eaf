//! RTP: packets, control packets, encryption, key presses, the jitter buffer, figures and their rating.
//!
//! State machines and parsers. [`session::Session`] is what `media` uses: one per leg. The other modules are its parts,
//! each usable alone; [`dtls::Association`] makes the keys of a session where they come from a handshake. This room knows
//! neither SIP and SDP nor codecs, samples, sockets and clocks.

pub mod dtls;
mod dtls_records;
pub mod emodel;
pub mod jitter;
pub mod latch;
pub mod packet;
mod payload_store;
pub mod plan;
pub mod playout;
mod playout_delay;
pub mod reception;
pub mod rtcp;
mod rtcp_seal;
pub mod sender;
pub mod session;
pub mod srtp;
pub mod statistics;
pub mod telephone_event;
mod timeline;

pub use emodel::{Impairment, Rating, Scale};
pub use jitter::{Pull, Rate};
pub use session::{Format, Length, Media, Plan, Received, Refused, Session};

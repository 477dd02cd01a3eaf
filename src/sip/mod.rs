//! SIP and SDP: their text and their meaning (RFC 3261 and what extends it).
//!
//! [`user_agent::UserAgent`] is what the rooms above talk to. From the wire upwards:
//!
//! - octets and grammar: [`grammar`], [`host`], [`uri`], [`tel_uri`], [`params`], [`name_addr`], [`via`],
//!   [`field_name`], [`fields`], and one file for each field that has a form of its own ([`auth`], [`rack`],
//!   [`reason`] …)
//! - messages: [`method`], [`status`], [`message`], [`reader`], [`framer`], [`fault`], [`refusal`],
//!   [`writer`]; [`digest`]
//! - bodies: session descriptions and their negotiation: [`sdp`]; what waits in a mailbox: [`message_summary`]
//! - transactions: [`client_transaction`], [`server_transaction`], [`transactions`] with [`timers`],
//!   [`cancel`]
//! - where a message goes: [`locate`], [`srv`], [`next_hop`], [`transport`], [`network`]; who may send us
//!   one: [`trust`]
//! - one request of ours through challenges and fail-over: [`exchange`], [`authentication`]
//! - what requests are for: [`registration`] with [`outbound`] and [`keep_alive`], [`dialog`], [`call`], [`subscription`] and [`notify`], [`options`]
//! - the whole: [`account`], [`handle`], [`mod@line`], [`demultiplex`], [`wire`], [`user_agent`], [`ua_event`]
//!
//! The room reads no clock, opens no socket and rolls no dice; it does not know what a phone is.

pub mod account;
pub mod alert_info;
pub mod answers;
pub mod auth;
pub mod authentication;
pub mod call;
pub mod cancel;
pub mod client_transaction;
pub mod demultiplex;
pub mod dialog;
pub mod digest;
pub mod event_package;
pub mod exchange;
pub mod fault;
pub mod field_name;
pub mod fields;
pub mod framer;
pub mod grammar;
pub mod handle;
pub mod host;
pub mod keep_alive;
pub mod line;
pub mod locate;
pub mod media_type;
pub mod message;
pub mod message_summary;
pub mod method;
pub mod name_addr;
pub mod network;
pub mod next_hop;
pub mod notify;
pub mod options;
pub mod outbound;
pub mod params;
pub mod privacy;
pub mod rack;
pub mod reader;
pub mod reason;
pub mod redirection;
pub mod reflection;
pub mod refusal;
pub mod registration;
pub mod replaces;
pub mod retry_after;
pub mod sdp;
pub mod server_transaction;
pub mod session_expires;
pub mod srv;
pub mod status;
pub mod subscription;
pub mod tel_uri;
pub mod timers;
pub mod transactions;
pub mod transport;
mod transport_choice;
pub mod trust;
pub mod ua_event;
pub mod uri;
pub mod user_agent;
pub mod via;
pub mod wire;
pub mod writer;

#[cfg(test)]
mod torture;

//! The second ring of tests: the program against real peers (Asterisk, Kamailio, baresip, SIPp), in network namespaces
//! that each test makes for itself. What was said is checked by what arrived: tones and speech, on both sides.
//!
//! A peer that can't be had is one loud `SKIP:` line, which `make test` counts.
// These tests drive real machines: they wait, open sockets and read files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod asterisk;
mod attack;
mod baresip;
mod coturn;
mod dns;
mod http;
mod impair;
mod kamailio;
mod mosquitto;
mod netns;
mod phone;
mod pki;
#[path = "../systems/bitrix24.rs"]
mod portal;
mod process;
mod pulse;
#[path = "../systems/receiver.rs"]
#[expect(dead_code, reason = "the API's tests need more of it")]
mod receiver;
mod rostelecom;
mod router;
mod rtpengine;
mod sipp;
mod sound;
mod speaker;
mod speech;
mod systems;

mod abuse;
mod adversity;
mod ami;
mod appliance;
mod callback;
mod check;
mod doctor;
mod dtls;
mod families;
mod friendly;
mod hostile;
mod ice_lite;
mod intercom;
mod intruders;
mod lookup;
mod matrix;
mod mqtt;
mod nats_alone;
mod nights;
mod paths;
mod peers_alone;
mod reach;
mod registrars;
mod reports;
mod scripted;
mod sealed;
mod secrets;
mod spoken;
mod sticky;
mod transfer;
mod two_flows;
mod upstreams;
mod voicemail;
mod websocket;

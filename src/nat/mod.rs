//! How a device behind a NAT is reached and heard: STUN (RFC 8489), keep-alive of flows and the watch over the outside,
//! TURN (RFC 8656), ICE (RFC 8445) and the gathering of its candidates, and what kind of NAT it is (RFC 5780).
//!
//! Machines in bytes, time and chance, as everywhere: the sockets they speak through belong to `device`, and what a
//! flow or a candidate is for is known to the rooms that use them. Nothing here knows SIP.
//!
//! The codec of the messages is `stun-rs`. Agent and TURN client are our own, not those of the webrtc family: `rtc-ice`
//! takes another role at the word of whoever sends a packet, answers a nomination only once its own check has come back,
//! and knows neither pace nor consent; `rtc-turn` binds a peer to a second channel when a nonce has gone stale, and from
//! then on sends into none.

pub mod binding;
pub mod candidate;
mod check_list;
mod consent;
pub mod discovery;
pub mod gathering;
#[cfg(test)]
mod gathering_tests;
pub mod ice;
#[cfg(test)]
mod ice_tests;
pub mod keep_alive;
pub mod outside;
pub mod relay;
#[cfg(test)]
mod relay_tests;
pub mod stun;
pub mod turn;
pub mod turn_message;
pub mod turn_server;
pub mod turn_stream;
#[cfg(test)]
mod turn_tests;
pub mod visits;
pub mod watch;

//! How a device behind a NAT is reached and heard: STUN (RFC 8489), the behaviour of the NAT (RFC 5780), keep-alive of
//! flows, TURN (RFC 8656), ICE (RFC 8445) and the gathering of its candidates.
//!
//! Machines in bytes, time and chance, as everywhere: the sockets they speak through belong to `device`, and what a
//! flow or a candidate is for is known to the rooms that use them. Nothing here knows SIP.
//!
//! The crates of the webrtc family draw the numbers of their transactions themselves: tests assert what they do, never
//! their bytes.

pub mod binding;
pub mod candidate;
mod check_list;
mod consent;
pub mod ice;
#[cfg(test)]
mod ice_tests;
pub mod stun;
pub mod turn;
pub mod turn_message;
#[cfg(test)]
mod turn_tests;

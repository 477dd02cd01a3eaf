//! Tipring: the program inside a desk phone or a GSM gateway.
//!
//! It registers to a PBX as an ordinary SIP extension, carries the voice, and tells what happens on that extension.
//! This page is the map. Each room below is one folder; its `mod.rs` says what it owns and what it must not know.
//!
//! # The rooms
//!
//! ```text
//!   sip   nat   rtp   audio    protocol rooms: state machines in bytes, time and chance; none knows another
//!     │     └────┼────┘
//!     │        media           the path of one leg and the bridge of several, in packets and periods
//!     └────┬─────┘
//!       phone ── config, events     the application: lines, calls, limits; the only room that knows what a call is
//!     ┌───┴────┐
//!   device   admin             sockets, clocks, threads, sound · the API and the command line that people use
//!     │        │
//!   demo       │               an embedded PBX and a tour of the appliance on it; the same PBX serves the tests
//!     └───┬────┘
//!      main.rs                 the front door
//! ```
//!
//! An arrow goes only from the lower line to the upper one; `tests/house.rs` reads the sources and fails on any other.
//!
//! # How to follow a thing through the house
//!
//! - *An incoming call*: [`device`] stamps a datagram → [`sip::user_agent`] → its `Call` → an event to [`phone`] → ring,
//!   answer → a [`media`] plan and a 200 go out.
//! - *A voice packet*: [`device`] → [`media`] → [`rtp`] (authenticate, count, jitter buffer) → [`audio`] (decode, conceal,
//!   stretch) → the sound device.
//! - *Being reachable*: [`nat::keep_alive`] and [`nat::watch`] say when to ask whom → [`phone::reach`] →
//!   [`sip::keep_alive`] asks on the registered flow, tells the answer, makes a new flow.
//! - *An event*: [`phone`] makes and numbers it → [`events`] commits it → [`admin`] tells whoever listens, and
//!   [`device::upstream`] whom [`events::upstream`] wants told.
//!
//! # The one rule of the machines
//!
//! Time ([`now`]), bytes and chance ([`chance`]) are arguments. After every `handle_…` or command the caller drains
//! `poll_…` until it answers `None`, then sleeps until `poll_timeout`. Only [`device`], [`admin`], the driver of
//! [`demo`] and `main.rs` touch the machine; `clippy.toml` says so. So a ten-minute call over a bad network runs in
//! a test in a blink, from a seed.

pub mod admin;
pub mod audio;
pub mod chance;
pub mod config;
pub mod demo;
pub mod device;
pub mod events;
pub mod media;
pub mod nat;
pub mod now;
pub mod order;
pub mod phone;
pub mod rtp;
pub mod sip;

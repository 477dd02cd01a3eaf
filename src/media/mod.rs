//! The path of one leg and the bridge of several.
//!
//! A leg is one RTP stream each way between a port of ours and a far end. The [`Engine`] holds all of them
//! and the sound terminal (loudspeaker and microphone, or what stands for them) and moves packets and periods
//! of 10 ms:
//!
//! - packet → session (SRTP, source check, statistics) → jitter buffer → decode, conceal, stretch → room;
//! - room → mix without oneself → resample → `ptime` → encode → session → packet.
//!
//! Who hears whom is a matter of rooms: every leg is in one [`Room`], and those in a room hear each other.
//! The sound terminal is a member of [`Room::Terminal`] whose periods come from the sound device, so the
//! device's clock is the clock of the legs in it; all other rooms run on one timer of the engine. Where the
//! clocks of device and sender drift apart, the jitter buffer stretches or shrinks speech; delay never grows.
//!
//! A state machine: commands, packets and periods in (`handle…`, `play`, `capture`), packets, events and
//! recorded sound out (`poll_…`). After each call that takes `now` the caller drains `poll_transmit`,
//! `poll_event` and `poll_recording` until `None`, and calls `handle_timeout` when `poll_timeout` is due.
//! Plain RTP neither allocates nor locks nor logs once a leg runs.
//!
//! This room must not know SIP, sockets, threads, files, sound devices, or what a call is.

mod adapter;
mod agreement;
mod bridge;
mod clip;
mod command;
mod digits;
mod engine;
mod event;
#[cfg(test)]
mod flow_tests;
mod handshake;
#[cfg(test)]
mod handshake_tests;
mod leg;
#[cfg(test)]
mod link;
mod pace;
mod path;
mod paths;
mod plan;
mod receive;
mod recording;
mod report;
mod send;
mod tap;
mod terminal;
#[cfg(test)]
mod tests;
mod tone;
mod transmit;
mod watch;

pub use clip::Clip;
pub use command::{
    Command, Dtmf, Layout, LegId, PortId, Record, RecordingId, Room, Sounder, Terminal, TerminalInput,
};
pub use engine::{Engine, Settings};
pub use event::{DtmfSource, Event, Recorded};
pub use plan::{Direction, Dtls, DtmfPath, Format, Ice, Plan, Remote, Srtp, TelephoneEvent};
pub use report::{PathCounts, Report};
pub use transmit::{Component, Transmit};

//! What the engine tells.

use std::net::SocketAddr;

use super::command::{LegId, PortId, RecordingId};
use super::report::Report;
use super::transmit::Component;
use crate::audio::codec::Codec;
use crate::nat::gathering::Found;
use crate::nat::ice;
use crate::rtp::srtp::Profile;

/// How a digit arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtmfSource {
    /// As telephone-event (RFC 4733).
    Rfc4733,
    /// As tones in the audio.
    Inband,
}

/// Something that happened on a leg.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The first packet of audio after `Open`, or after an `Update` that named another far end.
    FirstPacket {
        /// The leg.
        leg: LegId,
        /// Where it came from.
        from: SocketAddr,
        /// Its codec.
        codec: &'static Codec,
        /// Time since that `Open` or `Update`, in microseconds.
        after_us: u64,
    },
    /// The latch moved: RTP goes to another address than agreed on, because the far end is heard from there.
    Latched {
        /// The leg.
        leg: LegId,
        /// Where RTP goes now.
        remote: SocketAddr,
    },
    /// The far end changed its codec without an agreement.
    Codec {
        /// The leg.
        leg: LegId,
        /// What arrives now.
        codec: &'static Codec,
    },
    /// Nothing has arrived for the plan's `silence_ms`, although it should.
    Silence {
        /// The leg.
        leg: LegId,
        /// Time since the last packet (or since the agreement), in milliseconds.
        for_ms: u32,
    },
    /// Packets arrive again after `Silence`.
    Resumed {
        /// The leg.
        leg: LegId,
        /// How long nothing had arrived, in milliseconds.
        after_ms: u32,
    },
    /// Nothing has arrived for the plan's `timeout_ms`: the caller will want to end what this leg belongs to.
    TimedOut {
        /// The leg.
        leg: LegId,
    },
    /// A digit arrived; told once, when it ends (or would have to have ended).
    Dtmf {
        /// The leg.
        leg: LegId,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
        /// How long it was, in milliseconds.
        duration_ms: u32,
        /// How it arrived.
        source: DtmfSource,
    },
    /// All digits of the queue have left.
    DtmfSent {
        /// The leg.
        leg: LegId,
    },
    /// How the leg is, every 5 s and when asked.
    Quality {
        /// The leg.
        leg: LegId,
        /// The figures.
        report: Box<Report>,
    },
    /// A handshake has given the leg its keys; media flow from now on.
    Secured {
        /// The leg.
        leg: LegId,
        /// The profile of both directions.
        profile: Profile,
        /// Time since the agreement, in microseconds.
        after_us: u64,
    },
    /// Packets arrive that fail SRTP's authentication, and none that passes it (told once per agreement,
    /// after 50 of them).
    Unauthentic {
        /// The leg.
        leg: LegId,
    },
    /// What a port can be reached at has changed.
    Gathered {
        /// The port.
        port: PortId,
        /// Which of its sockets.
        component: Component,
        /// All of it.
        found: Box<Found>,
    },
    /// A STUN server has answered whence it sees a port that is gathered.
    Seen {
        /// The port.
        port: PortId,
        /// The server.
        server: SocketAddr,
        /// It saw the port elsewhere before.
        moved: bool,
    },
    /// What the agent of a leg under ICE says of its path.
    Path {
        /// The leg.
        leg: LegId,
        /// Whose agent: without that of RTCP audio goes on.
        component: Component,
        /// What it says.
        event: ice::Event,
        /// Whence the far end sees us come on the route there is now.
        seen_as: Option<SocketAddr>,
    },
    /// The leg is closed, its port free.
    Closed {
        /// The leg.
        leg: LegId,
        /// The port it had.
        port: PortId,
        /// The final figures.
        report: Box<Report>,
    },
    /// The leg could not be opened (it is not there then) or updated (it goes on with what could be done), or its
    /// handshake gave no keys (it stays silent).
    Failed {
        /// The leg.
        leg: LegId,
        /// Who is to blame and what to do.
        why: String,
    },
}

/// Something of a recording, from `Engine::poll_recording`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// It begins.
    Started {
        /// Which.
        recording: RecordingId,
        /// Samples per second and channel.
        rate: u32,
        /// 1 or 2 (interleaved).
        channels: u16,
    },
    /// The samples in the buffer that was handed to `poll_recording`.
    Samples {
        /// Which.
        recording: RecordingId,
    },
    /// It is complete.
    Finished {
        /// Which.
        recording: RecordingId,
        /// Milliseconds that are missing because nobody polled in time.
        lost_ms: u32,
    },
}

//! What the engine can be told: plain values that travel through a queue.

use std::net::SocketAddr;
use std::sync::Arc;

use super::clip::Clip;
use super::plan::Plan;
use super::transmit::Component;
use crate::audio::tones::Tone;
use crate::nat::gathering::Sources;
use crate::nat::ice::Credentials;

/// One leg; numbered by the caller, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LegId(pub u64);

/// One pair of sockets (RTP, RTCP) that the device opened ahead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u32);

/// One recording; numbered by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordingId(pub u64);

/// Who hears whom: all in one room hear each other, nobody hears another room.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Room {
    /// Alone: held, or not answered yet. What arrives is received and counted, what leaves is silence or a
    /// tone.
    #[default]
    Apart,
    /// With the sound terminal. Several legs here are a conference.
    Terminal,
    /// With the other legs of the same number.
    Bridge(u32),
}

/// What the sound terminal is.
#[derive(Clone, PartialEq, Debug)]
pub enum Terminal {
    /// A sound device: it calls [`super::Engine::play`] and [`super::Engine::capture`] once per 10 ms, and
    /// its clock is that of the legs in [`Room::Terminal`].
    Device {
        /// Samples per second, 8000, 16000 or 48000.
        rate: u32,
        /// Rate of a ring device of its own, which calls [`super::Engine::play_ring`]; without one the ring
        /// is in `play`.
        ring: Option<u32>,
    },
    /// No device: the engine's own timer drives the terminal.
    Timer {
        /// Samples per second, 8000, 16000 or 48000.
        rate: u32,
        /// What is captured.
        input: TerminalInput,
        /// What is played is handed out by `poll_recording` under this number: begun anew when the first leg
        /// opens, finished when the last one has closed.
        output: Option<RecordingId>,
    },
}

/// What a terminal without a device captures.
#[derive(Clone, PartialEq, Debug)]
pub enum TerminalInput {
    /// Silence.
    Silence,
    /// A sine.
    Sine {
        /// Frequency in Hz.
        hertz: f32,
        /// Level in dBm0-like full-scale terms: -10 is loud, -40 faint.
        level_db: f32,
    },
    /// Samples at the terminal's rate in a loop, from the beginning for the first leg after a time without
    /// legs.
    Loop(Arc<[i16]>),
}

/// Where a tone sounds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sounder {
    /// At the sound terminal, mixed into whatever is heard there (ring-back, busy, call waiting).
    Terminal,
    /// At the ring device.
    Ringer,
    /// To the far end of a leg, in place of what it would hear.
    Leg(LegId),
}

/// How the two directions of a recorded leg lie in its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// One channel, both directions added.
    #[default]
    Mixed,
    /// Two channels, interleaved: left what we received, right what we sent.
    Stereo,
}

/// What to do with the recording of a leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Begin (a running one is finished first).
    Start {
        /// Its number in `poll_recording`.
        recording: RecordingId,
        /// Channels.
        layout: Layout,
        /// Whether the far end hears [`Tone::Recording`] beside the room's sound while it is recorded.
        beep: bool,
        /// What both sides hear once, beside what they say.
        announcement: Option<Clip>,
    },
    /// Leave out what follows.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End; `Recorded::Finished` follows. Closing the leg does the same.
    Stop,
}

/// Digits to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dtmf {
    /// `0`–`9`, `*`, `#`, `A`–`D` (either case); `,` is a pause of 1 s. Others are left out.
    pub digits: String,
    /// How long each one sounds, in milliseconds (40–6000; 100 is usual).
    pub on_ms: u16,
    /// Rest after each one, in milliseconds (at least 40; 100 is usual).
    pub off_ms: u16,
}

impl Dtmf {
    /// Digits of 100 ms with 100 ms between them.
    pub fn new(digits: impl Into<String>) -> Dtmf {
        Dtmf { digits: digits.into(), on_ms: 100, off_ms: 100 }
    }
}

/// One order to the engine. An order about a leg that is not there does nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Opens a leg on a port, in [`Room::Apart`]: packets leave from now on, if the plan says where and what.
    Open {
        /// Its number.
        leg: LegId,
        /// Its sockets; a port carries one leg.
        port: PortId,
        /// What was agreed on.
        plan: Box<Plan>,
    },
    /// A new agreement: obeyed at once; the latch is armed again, SRTP keys that stay keep their roll-over
    /// counter.
    Update {
        /// The leg.
        leg: LegId,
        /// What is agreed on now.
        plan: Box<Plan>,
    },
    /// Closes a leg: RTCP BYE leaves, `Event::Closed` with the final report follows, the port is free.
    Close {
        /// The leg.
        leg: LegId,
    },
    /// Puts a leg into a room.
    Place {
        /// The leg.
        leg: LegId,
        /// Where it shall be.
        room: Room,
    },
    /// Whether the far end of a leg hears its room. A muted leg sends silence.
    Mute {
        /// The leg.
        leg: LegId,
        /// True: silence leaves.
        muted: bool,
    },
    /// Starts a tone, or ends it with `None`.
    Tone {
        /// Where.
        at: Sounder,
        /// Which; `None` is quiet.
        tone: Option<Tone>,
    },
    /// Says something to the far end of a leg, once, beside what it hears; in place of what is said still.
    Say {
        /// The leg.
        leg: LegId,
        /// What.
        clip: Clip,
    },
    /// Sends digits after those that still wait (at most 64 wait; the rest is left out).
    Dtmf {
        /// The leg.
        leg: LegId,
        /// What.
        dtmf: Dtmf,
    },
    /// Records a leg.
    Record {
        /// The leg.
        leg: LegId,
        /// What to do.
        record: Record,
    },
    /// Gathers what a free port, or that of a leg, can be reached at; asks anew if the sources are those of before.
    /// `Event::Gathered` follows whenever something has changed. `None` gives back what was gathered for both sockets.
    Gather {
        /// The port.
        port: PortId,
        /// Which of its sockets.
        component: Component,
        /// From what.
        sources: Option<Box<Sources>>,
    },
    /// Asks one of the STUN servers that a port is gathered from now, rather than when it would be due. `Event::Seen`
    /// follows, here and whenever one of them answers.
    Ask {
        /// The port.
        port: PortId,
        /// The server.
        server: SocketAddr,
    },
    /// ICE was offered for both sockets of a port under these credentials: checks may come before the answer does.
    Expect {
        /// The port.
        port: PortId,
        /// Ours.
        credentials: Credentials,
    },
    /// These addresses of the far end may soon send to a port: the relay is told while it rings.
    Permit {
        /// The port.
        port: PortId,
        /// Its candidates.
        peers: Vec<SocketAddr>,
    },
    /// Asks for `Event::Quality` now.
    Statistics {
        /// The leg.
        leg: LegId,
    },
    /// Says what the sound terminal is; before the first one it is a silent one without a device.
    Terminal(Terminal),
    /// The country whose tones sound (ISO 3166 two letters); before the first one it is that of the settings.
    Country(String),
}

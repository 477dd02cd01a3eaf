//! What a session is told to do: payload types, addresses and keys that an offer and its answer have agreed on.

use std::net::SocketAddr;

use super::emodel::Impairment;
use super::latch::Expectation;
use super::playout;
use super::srtp::Keys;

/// Payload types of a session at most.
pub const MAX_FORMATS: usize = 24;

/// How much media a payload holds, told without decoding it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// Every byte is one unit of the clock: G.711, and G.722 with its clock of 8000 Hz (RFC 3551 §4.5.2).
    Bytes,
    /// Opus, by its first two bytes (RFC 6716 §3.1), in units of 48 kHz.
    Opus,
}

impl Length {
    /// Units of the clock rate in a payload; 0 if it is not one of this kind.
    pub fn units(self, payload: &[u8]) -> u32 {
        match self {
            Length::Bytes => payload.len() as u32,
            Length::Opus => opus_units(payload),
        }
    }
}

fn opus_units(payload: &[u8]) -> u32 {
    let Some(&toc) = payload.first() else { return 0 };
    let size = u32::from(toc >> 3 & 3);
    let frame = match toc >> 3 {
        0..=11 if size == 3 => 2880,
        0..=11 => 480 << size,
        12..=15 => 480 << (size & 1),
        _ => 120 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => payload.get(1).map_or(0, |count| u32::from(count & 0x3f)),
    };
    // More than 120 ms is not Opus.
    Some(frame * frames).filter(|units| *units <= 5760).unwrap_or(0)
}

/// What a payload type carries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Media {
    /// Voice.
    Voice {
        /// How to tell how much media a payload holds.
        length: Length,
        /// Whether packets may carry a redundant copy of the one before (Opus in-band FEC).
        redundant: bool,
        /// How the codec bears loss.
        impairment: Impairment,
    },
    /// Comfort noise (RFC 3389).
    Noise,
    /// Telephone events (RFC 4733).
    Events,
}

/// One payload type that may be received.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Format {
    /// The payload type, 0–127.
    pub payload_type: u8,
    /// Clock rate in Hz.
    pub clock_rate: u32,
    /// What it carries.
    pub media: Media,
}

/// Keys of both directions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPair {
    /// What we send with.
    pub ours: Keys,
    /// What the peer sends with.
    pub theirs: Keys,
}

/// The keys of RTCP.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RtcpKeys {
    /// Those of the media.
    #[default]
    Shared,
    /// Those of a handshake on a port of its own (RFC 5764 §4.1), once it is done: without them no RTCP is sent or
    /// taken.
    Own(Option<KeyPair>),
}

/// What an offer and its answer have agreed on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Where media is expected from and sent to.
    pub expected: Expectation,
    /// Where RTCP goes if it is not multiplexed; `None`: to the port of the media (RFC 5761).
    pub rtcp: Option<SocketAddr>,
    /// What may be received. At most [`MAX_FORMATS`].
    pub formats: Vec<Format>,
    /// SRTP, if agreed.
    pub keys: Option<KeyPair>,
    /// Keys come from a handshake (DTLS): without them nothing is sent or taken, and new
    /// ones begin with roll-over counter 0.
    pub handshake: bool,
    /// Whether RTCP has other ones.
    pub rtcp_keys: RtcpKeys,
    /// Whether reports carry the VoIP metrics of RTCP XR.
    pub voip_metrics: bool,
}

/// What is set up once per session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// The jitter buffer.
    pub jitter: playout::Settings,
    /// The canonical name in SDES (RFC 7022: random, the same for the whole call).
    pub cname: String,
}

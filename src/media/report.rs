//! The figures of one leg.

use crate::audio::codec::Codec;

/// What the path of a leg refused before it reached the leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathCounts {
    /// Packets by a route that no check has confirmed.
    pub unchecked: u64,
    /// STUN and TURN messages without the right password, or of no transaction of ours.
    pub forged: u64,
    /// Candidates that may not be tried, or are too many.
    pub candidates: u64,
}

impl std::iter::Sum for PathCounts {
    fn sum<I: Iterator<Item = PathCounts>>(counts: I) -> PathCounts {
        counts.fold(PathCounts::default(), |sum, one| PathCounts {
            unchecked: sum.unchecked + one.unchecked,
            forged: sum.forged + one.forged,
            candidates: sum.candidates + one.candidates,
        })
    }
}

/// What a leg has carried so far and how good it was. Counts are since the leg opened.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// Time since the leg opened, in milliseconds.
    pub duration_ms: u64,
    /// Codec of what arrives; `None` before the first packet.
    pub codec_received: Option<&'static Codec>,
    /// Codec of what leaves.
    pub codec_sent: Option<&'static Codec>,
    /// Whether SRTP is in use.
    pub srtp: bool,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets received and accepted.
    pub packets_received: u64,
    /// RTP payload bytes sent.
    pub bytes_sent: u64,
    /// RTP payload bytes received.
    pub bytes_received: u64,
    /// Packets that never arrived.
    pub packets_lost: u64,
    /// Packets that arrived too late to be heard.
    pub packets_late: u64,
    /// Packets that arrived twice.
    pub packets_duplicate: u64,
    /// Packets that were refused: malformed, from a third party, not authentic, of an unknown payload type.
    pub packets_refused: u64,
    /// What the path of the leg refused.
    pub path: PathCounts,
    /// Packets lost in percent of those expected.
    pub loss_percent: f32,
    /// Interarrival jitter (RFC 3550 §6.4.1) in milliseconds, now.
    pub jitter_ms: f32,
    /// Largest interarrival jitter so far, in milliseconds.
    pub jitter_max_ms: f32,
    /// RTCP compounds received and accepted.
    pub rtcp_received: u64,
    /// Why no RTCP comes where it has a port of its own: there are no keys for it, or none has come for long.
    pub rtcp_fault: Option<String>,
    /// Round-trip time from RTCP in milliseconds, once known.
    pub rtt_ms: Option<f32>,
    /// Loss the far end reports of what we send, in percent, once known.
    pub remote_loss_percent: Option<f32>,
    /// Jitter the far end reports of what we send, in milliseconds, once known.
    pub remote_jitter_ms: Option<f32>,
    /// Delay in the jitter buffer now, in milliseconds.
    pub buffer_ms: f32,
    /// Mean delay in the jitter buffer, in milliseconds.
    pub buffer_mean_ms: f32,
    /// Audio that was made up because a packet was missing, in milliseconds.
    pub concealed_ms: u64,
    /// Time taken out (shrunk) to lower the delay, in milliseconds.
    pub shrunk_ms: u64,
    /// Time put in (stretched) to raise the delay, in milliseconds.
    pub stretched_ms: u64,
    /// Transmission rating factor of the E-model.
    pub r_factor: f32,
    /// Mean opinion score (conversational) from `r_factor`, 1.0–5.0.
    pub mos: f32,
    /// The scale of `mos`: "G.107" (narrow band) or "G.107.1" (wide band).
    pub mos_scale: &'static str,
}

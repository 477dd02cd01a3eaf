//! A leg's plan in the words of its RTP session.

use super::plan::Plan;
use crate::audio::codec::Codec;
use crate::rtp::emodel::Impairment;
use crate::rtp::latch::Expectation;
use crate::rtp::session::{self, KeyPair, Length, Media, RtcpKeys};

/// The static payload type of comfort noise (RFC 3389 §4).
const COMFORT_NOISE: u8 = 13;

/// Clock rate of comfort noise, as of every codec that has none of its own.
const COMFORT_CLOCK: u32 = 8000;

/// What the session of a leg has to know of its plan, and of the keys that handshakes have given so far: that of the media,
/// and that of RTCP where it has a port of its own.
pub(super) fn session_plan(plan: &Plan, [media, rtcp]: [Option<&KeyPair>; 2]) -> session::Plan {
    let told =
        || plan.srtp.as_ref().map(|srtp| KeyPair { ours: srtp.send.clone(), theirs: srtp.receive.clone() });
    let mut formats: Vec<session::Format> = Vec::new();
    let mut add = |payload_type: u8, clock_rate: u32, media: Media| {
        if !formats.iter().any(|known| known.payload_type == payload_type) {
            formats.push(session::Format { payload_type, clock_rate, media });
        }
    };
    for format in &plan.receive {
        add(format.payload_type, format.codec.clock_rate, voice(format.codec));
    }
    for event in &plan.events {
        add(event.payload_type, event.clock, Media::Events);
    }
    for number in plan.comfort_noise.into_iter().chain([COMFORT_NOISE]) {
        add(number, COMFORT_CLOCK, Media::Noise);
    }
    session::Plan {
        expected: Expectation {
            media: plan.remote.map(|remote| remote.rtp),
            signalling: plan.signalling,
            symmetric: true,
        },
        rtcp: plan.remote.filter(|_| !plan.rtcp_mux).map(|remote| remote.rtcp),
        formats,
        keys: if plan.dtls.is_some() { media.cloned() } else { told() },
        handshake: plan.dtls.is_some(),
        rtcp_keys: match plan.rtcp_dtls() {
            Some(_) => RtcpKeys::Own(rtcp.cloned()),
            None => RtcpKeys::Shared,
        },
        voip_metrics: true,
    }
}

/// What a codec's packets hold and how it bears loss.
fn voice(codec: &Codec) -> Media {
    match codec.name {
        "opus" => Media::Voice { length: Length::Opus, redundant: true, impairment: Impairment::OPUS },
        "G722" => Media::Voice { length: Length::Bytes, redundant: false, impairment: Impairment::G722 },
        _ => Media::Voice { length: Length::Bytes, redundant: false, impairment: Impairment::G711 },
    }
}

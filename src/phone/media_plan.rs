//! From what a line wants to what is offered, and from what was agreed on to what the media engine does.

use std::net::IpAddr;

use super::paths;
use crate::audio::codec::Codec;
use crate::config;
use crate::media::{Direction, Dtls, DtmfPath, Format, Plan, Remote, Srtp, TelephoneEvent};
use crate::rtp::dtls;
use crate::rtp::srtp::{Keys, Profile};
use crate::sip::sdp::{self, Capability, Negotiated, Security, Suite};

/// The payload type of comfort noise (RFC 3551 §6).
const COMFORT_NOISE: u8 = 13;
/// First payload type for codecs without a fixed one (RFC 3551 §3); telephone-event has 101 and 102.
const FIRST_DYNAMIC: u8 = 96;

/// What a line can and wants, at this address and RTP port. `fingerprint` is the SHA-256 of our certificate.
pub fn capability(
    line: &config::Line,
    rtp: &config::Rtp,
    address: IpAddr,
    port: u16,
    fingerprint: [u8; 32],
) -> Capability {
    let mut dynamic = FIRST_DYNAMIC..;
    let codecs = line.codecs.iter().filter_map(|codec| Codec::by_name(codec.as_str())).map(|codec| {
        let payload_type = codec.payload_type.or_else(|| dynamic.next()).unwrap_or(FIRST_DYNAMIC);
        let mut offered = sdp::Codec::new(codec.name, codec.clock_rate, payload_type);
        offered.channels = codec.channels;
        offered.fmtp = codec.fmtp.map(str::to_owned);
        offered
    });
    let mut capability = Capability::new(address, port, codecs.collect());
    capability.ptime_ms = u16::try_from(rtp.ptime.as_millis()).unwrap_or(20);
    capability.comfort_noise = true;
    capability.security = match line.srtp {
        config::Policy::Off => Security::Off,
        config::Policy::Optional => Security::Optional,
        config::Policy::Required => Security::Required,
    };
    let fingerprint = sdp::Fingerprint { hash: sdp::Hash::Sha256, bytes: fingerprint.to_vec() };
    capability.dtls = (line.srtp_keys == config::SrtpKeys::Dtls).then_some(fingerprint);
    if !matches!(line.dtmf, config::Dtmf::Auto | config::Dtmf::Rfc4733) {
        capability.events.clear();
    }
    capability
}

/// How digits leave a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigitsBy {
    /// By the media engine, as telephone-event or as tones.
    Media,
    /// By INFO.
    Info,
}

/// The engine's plan for what was agreed on; `None` if its keys can't be used. `signalling` is the address of the line's
/// server; `relayed`: our description names an address at a TURN server.
pub fn plan(
    agreed: &Negotiated,
    line: &config::Line,
    rtp: &config::Rtp,
    signalling: Option<IpAddr>,
    relayed: bool,
) -> Option<(Plan, DigitsBy)> {
    let format =
        |name: &str, payload_type: u8| Codec::by_name(name).map(|codec| Format { payload_type, codec });
    let send = agreed.codecs.iter().find_map(|codec| format(&codec.codec.name, codec.send_payload_type));
    let receive = agreed
        .codecs
        .iter()
        .chain(&agreed.also_receive)
        .filter_map(|codec| format(&codec.codec.name, codec.receive_payload_type))
        .collect();
    let events: Vec<TelephoneEvent> = agreed
        .events
        .iter()
        .map(|event| TelephoneEvent { payload_type: event.receive_payload_type, clock: event.clock })
        .collect();
    let event = agreed.event().map(|event| {
        DtmfPath::Rfc4733(TelephoneEvent { payload_type: event.send_payload_type, clock: event.clock })
    });
    let (dtmf, digits) = match line.dtmf {
        config::Dtmf::Info => (DtmfPath::None, DigitsBy::Info),
        config::Dtmf::Inband => (DtmfPath::Inband, DigitsBy::Media),
        // No telephone-event was agreed on: tones are what every far end hears.
        config::Dtmf::Auto | config::Dtmf::Rfc4733 => (event.unwrap_or(DtmfPath::Inband), DigitsBy::Media),
    };
    let keys = match &agreed.keys {
        Some(keys) => Some(srtp(keys)?),
        None => None,
    };
    let fmtp = agreed.codec().and_then(|codec| codec.remote_fmtp.as_deref());
    let plan = Plan {
        remote: agreed.remote_rtp.map(|rtp| Remote { rtp, rtcp: agreed.remote_rtcp.unwrap_or(rtp) }),
        signalling,
        direction: direction(agreed.direction),
        send,
        receive,
        ptime_ms: u8::try_from(agreed.ptime_ms).unwrap_or(20),
        dtmf,
        events,
        detect_inband: line.dtmf == config::Dtmf::Inband,
        comfort_noise: agreed.comfort_noise.then_some(COMFORT_NOISE),
        srtp: keys,
        dtls: agreed.dtls.as_ref().map(handshake),
        rtcp_mux: agreed.rtcp_mux,
        fec: parameter(fmtp, "useinbandfec") == Some(1),
        max_bitrate: parameter(fmtp, "maxaveragebitrate"),
        ice: agreed.ice.as_ref().map(paths::ice),
        relayed,
        keep_open: line.nat.mode == config::NatMode::Auto,
        silence_ms: millis(rtp.silence),
        timeout_ms: millis(rtp.timeout),
    };
    Some((plan, digits))
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn direction(direction: sdp::Direction) -> Direction {
    match direction {
        sdp::Direction::SendRecv => Direction::SendRecv,
        sdp::Direction::SendOnly => Direction::SendOnly,
        sdp::Direction::RecvOnly => Direction::RecvOnly,
        sdp::Direction::Inactive => Direction::Inactive,
    }
}

fn srtp(keys: &sdp::SrtpKeys) -> Option<Srtp> {
    let profile = match keys.suite {
        Suite::AesCm128HmacSha1_80 => Profile::AesCm128HmacSha1_80,
        Suite::AesCm128HmacSha1_32 => Profile::AesCm128HmacSha1_32,
        Suite::AeadAes128Gcm => Profile::AeadAes128Gcm,
    };
    Some(Srtp {
        send: Keys::from_inline(profile, keys.send.bytes()).ok()?,
        receive: Keys::from_inline(profile, keys.receive.bytes()).ok()?,
    })
}

fn handshake(dtls: &sdp::Dtls) -> Dtls {
    let read = |fingerprint: &sdp::Fingerprint| {
        let bytes = fingerprint.bytes.as_slice();
        match fingerprint.hash {
            sdp::Hash::Sha256 => bytes.try_into().map(dtls::Fingerprint::Sha256).ok(),
            sdp::Hash::Sha384 => bytes.try_into().map(dtls::Fingerprint::Sha384).ok(),
            sdp::Hash::Sha512 => bytes.try_into().map(dtls::Fingerprint::Sha512).ok(),
        }
    };
    Dtls {
        role: match dtls.role {
            sdp::DtlsRole::Client => dtls::Role::Client,
            sdp::DtlsRole::Server => dtls::Role::Server,
        },
        fingerprints: dtls.fingerprints.iter().filter_map(read).collect(),
        association: dtls.association,
    }
}

/// One number of an `a=fmtp` parameter list.
fn parameter(fmtp: Option<&str>, name: &str) -> Option<u32> {
    fmtp?.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn parameters_of_opus_are_found() {
        let fmtp = Some("minptime=10; UseInbandFec=1;maxaveragebitrate=20000");
        assert_eq!(parameter(fmtp, "useinbandfec"), Some(1));
        assert_eq!(parameter(fmtp, "maxaveragebitrate"), Some(20_000));
        assert_eq!(parameter(fmtp, "stereo"), None);
        assert_eq!(parameter(None, "stereo"), None);
    }
}

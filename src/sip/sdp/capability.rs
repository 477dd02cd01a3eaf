//! What one side can and wants: the material of offers and answers.

use super::crypto::Suite;
use super::fingerprint::Fingerprint;
use super::ice::LocalIce;
use super::media::{Direction, RtpMap};
use std::net::IpAddr;

/// A codec as we offer it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    /// The encoding's name in `a=rtpmap`.
    pub name: String,
    /// The RTP clock rate in Hz (8000 for G.722, RFC 3551 §4.5.2).
    pub clock: u32,
    /// The channels in `a=rtpmap` (2 for Opus, RFC 7587 §7).
    pub channels: u8,
    /// The payload type in our offers, unless the call already gave it another one.
    pub payload_type: u8,
    /// What we would like to receive (`a=fmtp`).
    pub fmtp: Option<String>,
}

impl Codec {
    /// A codec with one channel and no parameters.
    pub fn new(name: &str, clock: u32, payload_type: u8) -> Codec {
        Codec { name: name.to_owned(), clock, channels: 1, payload_type, fmtp: None }
    }

    /// Whether a payload type of the peer stands for this codec.
    pub(super) fn is(&self, map: &RtpMap) -> bool {
        let same_name = self.name.eq_ignore_ascii_case(&map.name);
        // Some write G722/16000 and opus/48000 without the channels.
        let odd_clock = self.name.eq_ignore_ascii_case("G722") && map.clock == 16000;
        let odd_channels = self.name.eq_ignore_ascii_case("opus");
        same_name && (self.clock == map.clock || odd_clock) && (self.channels == map.channels || odd_channels)
    }
}

/// telephone-event (RFC 4733) as we offer it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TelephoneEvent {
    /// The RTP clock rate in Hz; it should be that of the codec.
    pub clock: u32,
    /// The payload type in our offers.
    pub payload_type: u8,
}

/// How SRTP is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Security {
    /// Never: secure transports are refused.
    #[default]
    Off,
    /// RTP/AVP with `a=crypto` or `a=fingerprint` is offered (RFC 8643); plain and secure are accepted.
    Optional,
    /// RTP/SAVP or UDP/TLS/RTP/SAVP is offered; only secure is accepted (also as RTP/AVP with `a=crypto` or
    /// `a=fingerprint`).
    Required,
}

/// Whose order of codecs decides an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preference {
    /// The offerer's, as RFC 3264 §6.1 recommends.
    #[default]
    Theirs,
    /// Ours.
    Ours,
}

/// What one side can and wants: the material of offers and answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capability {
    /// Where we receive.
    pub address: IpAddr,
    /// Our address of the other family, if the same ports are open there: used in an answer to that family.
    pub other_address: Option<IpAddr>,
    /// Our RTP port.
    pub port: u16,
    /// Our RTCP port, for peers that do not share that of RTP; told with `a=rtcp` if it is not `port + 1`.
    pub rtcp_port: u16,
    /// Where that port is, if not at `address` (RFC 3605 §2.1). Under ICE address and port of RTCP must be one of the
    /// candidates of component 2, else the peer sees a mismatch.
    pub rtcp_address: Option<IpAddr>,
    /// The codecs, the preferred first.
    pub codecs: Vec<Codec>,
    /// telephone-event per clock rate; the ones that fit a codec in the list are offered.
    pub events: Vec<TelephoneEvent>,
    /// Whether comfort noise (payload type 13, RFC 3389) is offered.
    pub comfort_noise: bool,
    /// How much audio we would like in a packet, in ms.
    pub ptime_ms: u16,
    /// How much audio we take in a packet at most, in ms.
    pub max_ptime_ms: u16,
    /// What we want now: sendrecv, or sendonly / inactive while we hold.
    pub direction: Direction,
    /// Whether RTP and RTCP may share a port (RFC 5761).
    pub rtcp_mux: bool,
    /// How SRTP is used.
    pub security: Security,
    /// The suites, the preferred first.
    pub suites: Vec<Suite>,
    /// The fingerprint of our certificate: keys then come from DTLS (RFC 5763) and never from the description.
    pub dtls: Option<Fingerprint>,
    /// A secure offer names the transport with early feedback (`…/SAVPF`), which some want.
    pub feedback: bool,
    /// Our side of ICE; `None` is without.
    pub ice: Option<LocalIce>,
    /// Whose codec order decides our answers.
    pub preference: Preference,
}

impl Capability {
    /// A side at this address with these codecs, telephone-event at 8000 and 48000 Hz, 20 ms packets and
    /// rtcp-mux, without SRTP.
    pub fn new(address: IpAddr, port: u16, codecs: Vec<Codec>) -> Capability {
        Capability {
            address,
            other_address: None,
            port,
            rtcp_port: port.saturating_add(1),
            rtcp_address: None,
            codecs,
            events: vec![
                TelephoneEvent { clock: 48000, payload_type: 102 },
                TelephoneEvent { clock: 8000, payload_type: 101 },
            ],
            comfort_noise: false,
            ptime_ms: 20,
            max_ptime_ms: 60,
            direction: Direction::SendRecv,
            rtcp_mux: true,
            security: Security::Off,
            suites: Suite::ALL.to_vec(),
            dtls: None,
            feedback: false,
            ice: None,
            preference: Preference::Theirs,
        }
    }

    /// The fingerprint to tell, if keys come from DTLS.
    pub(super) fn fingerprint(&self) -> Option<&Fingerprint> {
        self.dtls.as_ref().filter(|_| self.security != Security::Off)
    }

    /// Whether keys are told in the description.
    pub(super) fn uses_sdes(&self) -> bool {
        self.security != Security::Off && self.dtls.is_none()
    }

    /// Our address of the peer's family.
    pub(super) fn address_facing(&self, remote: Option<IpAddr>) -> Option<IpAddr> {
        let Some(remote) = remote else { return Some(self.address) };
        [Some(self.address), self.other_address]
            .into_iter()
            .flatten()
            .find(|ip| ip.is_ipv4() == remote.is_ipv4())
    }
}

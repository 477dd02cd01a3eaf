//! What two ends have agreed on for one leg: everything the media path must know, and nothing of how it was
//! agreed.

use std::net::{IpAddr, SocketAddr};

use super::transmit::Component;
use crate::audio::codec::Codec;
use crate::nat::ice::{Credentials, Peer};
use crate::rtp::dtls::{Fingerprint, Role};
use crate::rtp::srtp::Keys;

/// Which way audio flows, as seen by us (RFC 3264 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// We send and receive.
    #[default]
    SendRecv,
    /// We send only: what arrives is counted but not heard, and its absence is no silence.
    SendOnly,
    /// We receive only: no audio leaves.
    RecvOnly,
    /// Neither; RTCP goes on.
    Inactive,
}

impl Direction {
    /// Whether audio leaves.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether audio is expected and heard.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// A codec under its payload type number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// The number in the RTP header, 0–127.
    pub payload_type: u8,
    /// The codec it stands for.
    pub codec: &'static Codec,
}

/// telephone-event (RFC 4733) under its payload type number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TelephoneEvent {
    /// The number in the RTP header, 0–127.
    pub payload_type: u8,
    /// The clock its durations count in, as its `a=rtpmap` says: 8000 or 48000 (also 16000).
    pub clock: u32,
}

/// How digits leave on this leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DtmfPath {
    /// As telephone-event packets with this number, in place of the audio.
    Rfc4733(TelephoneEvent),
    /// As two tones in the audio.
    Inband,
    /// Not by media (INFO, or not at all): [`super::Command::Dtmf`] is answered by `DtmfSent` at once,
    /// nothing leaves.
    #[default]
    None,
}

/// Where the far end said it receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remote {
    /// Address of RTP.
    pub rtp: SocketAddr,
    /// Address of RTCP: the same as `rtp` under rtcp-mux, else from `a=rtcp` or port + 1.
    pub rtcp: SocketAddr,
}

impl Remote {
    /// That of one component.
    pub fn of(self, component: Component) -> SocketAddr {
        match component {
            Component::Rtp => self.rtp,
            Component::Rtcp => self.rtcp,
        }
    }
}

/// The keys of a leg under SRTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srtp {
    /// The key from our SDP: what leaves is under it.
    pub send: Keys,
    /// The key from the far end's SDP: what arrives must be under it.
    pub receive: Keys,
}

/// A leg whose keys come from a handshake over its own path (DTLS-SRTP, RFC 5763).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dtls {
    /// Who begins.
    pub role: Role,
    /// The far end's certificate has one of these.
    pub fingerprints: Vec<Fingerprint>,
    /// Another number is another handshake; with the same one (and the same of all else) keys stay.
    pub association: u32,
}

/// The ICE of a leg, as both ends agreed on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ice {
    /// What we prove ourselves by.
    pub local: Credentials,
    /// What the far end brings.
    pub peer: Peer,
    /// Whether we nominate.
    pub controlling: bool,
}

/// One leg as both ends agreed on it. A later offer/answer replaces it as a whole (`Command::Update`).
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Where we send; `None` while it is unknown or was told as 0.0.0.0: nothing leaves until the far end is
    /// heard.
    pub remote: Option<Remote>,
    /// The address the signalling peer has, and with it the address a PBX's media most probably has: the
    /// latch accepts a source there at once although the SDP told another one.
    pub signalling: Option<IpAddr>,
    /// Which way audio flows.
    pub direction: Direction,
    /// What we send; `None` if the far end left no codec that we can send.
    pub send: Option<Format>,
    /// What the far end may send, at any time and without telling, by our own numbers.
    pub receive: Vec<Format>,
    /// Audio per packet that we send, 10–60 ms in steps of 10 (others are taken to the nearest). What arrives
    /// may be of any length.
    pub ptime_ms: u8,
    /// How digits leave.
    pub dtmf: DtmfPath,
    /// telephone-event numbers on which digits may arrive.
    pub events: Vec<TelephoneEvent>,
    /// Also listen for digits as tones in the audio. Costs a filter bank per leg; meant for peers that offer
    /// no telephone-event.
    pub detect_inband: bool,
    /// The number of comfort noise (RFC 3389) besides the static 13.
    pub comfort_noise: Option<u8>,
    /// SRTP keys; plain RTP if there is no `dtls` either.
    pub srtp: Option<Srtp>,
    /// SRTP keys come from a handshake; `srtp` is not looked at then. RTP flows only after it, and RTCP on a port of its
    /// own only after another one there (RFC 5764 §4.1).
    pub dtls: Option<Dtls>,
    /// RTP and RTCP share a port (RFC 5761).
    pub rtcp_mux: bool,
    /// Send in-band FEC where the codec has it (Opus `useinbandfec=1` asked by the far end, RFC 7587 §6.1).
    pub fec: bool,
    /// The far end's upper bound for the bit rate, where the codec has a choice (Opus `maxaveragebitrate`),
    /// bit/s.
    pub max_bitrate: Option<u32>,
    /// The way is found by ICE: `remote` and `signalling` say nothing then.
    pub ice: Option<Ice>,
    /// Without ICE: our description named the address at the TURN server, and audio goes there and comes from there.
    pub relayed: bool,
    /// Keep the mappings of NATs open where no audio leaves.
    pub keep_open: bool,
    /// Without a packet for so long there is [`super::Event::Silence`]; 0 never. Comfort noise, digits and
    /// RTCP count as signs of life.
    pub silence_ms: u32,
    /// Without a packet for so long there is [`super::Event::TimedOut`], once; 0 never.
    pub timeout_ms: u32,
}

impl Plan {
    /// The handshake that RTCP has on a port of its own, if it has one.
    pub(super) fn rtcp_dtls(&self) -> Option<&Dtls> {
        self.dtls.as_ref().filter(|_| !self.rtcp_mux)
    }

    /// A plan for one codec both ways with 20 ms packets and no options: 5 s to `Silence`, 60 s to
    /// `TimedOut`.
    pub fn plain(remote: Option<Remote>, format: Format) -> Plan {
        Plan {
            remote,
            signalling: None,
            direction: Direction::SendRecv,
            send: Some(format),
            receive: vec![format],
            ptime_ms: 20,
            dtmf: DtmfPath::None,
            events: Vec::new(),
            detect_inband: false,
            comfort_noise: None,
            srtp: None,
            dtls: None,
            rtcp_mux: false,
            fec: false,
            max_bitrate: None,
            ice: None,
            relayed: false,
            keep_open: false,
            silence_ms: 5_000,
            timeout_ms: 60_000,
        }
    }
}

//! What an offer and its answer came to: an agreement, or the reason why there is none.

use super::capability::Codec;
use super::crypto::{Key, Suite};
use super::fingerprint::Dtls;
use super::ice::Ice;
use super::media::{Direction, Protocol};
use super::session::Unreadable;
use std::net::SocketAddr;

/// A codec both sides know, with the payload type of each direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Our side of it; `name` and `clock` say which codec it is.
    pub codec: Codec,
    /// What we put into packets we send: the peer's number.
    pub send_payload_type: u8,
    /// What arrives in packets for us: our number.
    pub receive_payload_type: u8,
    /// What the peer would like to receive (`a=fmtp`).
    pub remote_fmtp: Option<String>,
}

/// telephone-event both sides know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgreedEvent {
    /// The RTP clock rate in Hz.
    pub clock: u32,
    /// What we put into packets we send.
    pub send_payload_type: u8,
    /// What arrives in packets for us.
    pub receive_payload_type: u8,
}

/// Who holds the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hold {
    /// We do not want to hear the peer.
    pub by_us: bool,
    /// The peer does not want to hear us (sendonly, inactive, or address 0.0.0.0).
    pub by_peer: bool,
}

/// The keys of an SRTP stream (RFC 4568). An unchanged `send` key goes on with its roll-over counter; a new
/// one starts at 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SrtpKeys {
    /// The suite of both directions.
    pub suite: Suite,
    /// Encrypts what we send.
    pub send: Key,
    /// Decrypts what arrives.
    pub receive: Key,
}

/// What an offer and its answer agreed on, as our side sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The codecs, never empty: the first is to be sent, all may arrive.
    pub codecs: Vec<Agreed>,
    /// Codecs that the descriptions mention but that were not chosen; a peer may slip into them without
    /// asking.
    pub also_receive: Vec<Agreed>,
    /// telephone-event, the one that fits the first codec first. Empty: digits have to go another way.
    pub events: Vec<AgreedEvent>,
    /// Whether the peer knows comfort noise (payload type 13).
    pub comfort_noise: bool,
    /// How much audio a packet we send should carry: 10–60 ms, a multiple of 10.
    pub ptime_ms: u16,
    /// What we may do.
    pub direction: Direction,
    /// Who holds.
    pub hold: Hold,
    /// Where our address and port are, as the peer was told.
    pub local_rtp: SocketAddr,
    /// Where to send RTP; `None` while the peer told an address that means "nowhere".
    pub remote_rtp: Option<SocketAddr>,
    /// Where to send RTCP.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTCP shares the port of RTP in both directions.
    pub rtcp_mux: bool,
    /// SRTP with these keys.
    pub keys: Option<SrtpKeys>,
    /// SRTP with keys from a handshake; plain RTP if there are no `keys` either.
    pub dtls: Option<Dtls>,
    /// The way of the media is found by ICE.
    pub ice: Option<Ice>,
    /// The position of the audio stream among the media.
    pub index: usize,
    /// The transport that the descriptions name.
    pub protocol: Protocol,
}

impl Negotiated {
    /// The codec we send.
    pub fn codec(&self) -> Option<&Agreed> {
        self.codecs.first()
    }

    /// Whether media are encrypted, whatever way the keys come.
    pub fn is_secure(&self) -> bool {
        self.keys.is_some() || self.dtls.is_some()
    }

    /// telephone-event for the codec we send.
    pub fn event(&self) -> Option<AgreedEvent> {
        self.events.first().copied()
    }
}

/// Why an offer or an answer can't be used. The peer's description is to blame, or our configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// There is no audio over RTP in it.
    #[error("no audio over RTP is offered")]
    NoAudio,
    /// There is audio, but in no codec of ours: add one of the peer's to the line's `codecs`.
    #[error("no common codec (the peer knows {0})")]
    NoCommonCodec(String),
    /// It is not encrypted in a way we know, and we require that: see the line's `srtp`.
    #[error("SRTP is required here and the peer gave no usable key or fingerprint")]
    NotSecure,
    /// It wants SRTP and we have that switched off, or none of its keys can be used: see the line's `srtp`.
    #[error("the peer requires SRTP in a form that is not enabled here")]
    SecurityNotSupported,
    /// Its address is of a family that we have no address of, or nothing that audio can be sent to.
    #[error("audio can't be sent to the peer's address")]
    Address,
    /// It is an answer, but does not fit what we offered.
    #[error("the answer does not fit the offer")]
    Mismatch,
    /// It is an answer, but nothing was offered.
    #[error("an answer came without an offer")]
    Unexpected,
}

impl Refusal {
    /// The status to refuse an offer with: 400 if it can't be read, else 488.
    pub fn status(&self) -> u16 {
        if matches!(self, Refusal::Unreadable(_)) { 400 } else { 488 }
    }

    /// The code of the Warning header that goes with it (RFC 3261 §20.43).
    pub fn warning(&self) -> u16 {
        match self {
            Refusal::Unreadable(_) | Refusal::Mismatch | Refusal::Unexpected => 399,
            Refusal::NoAudio => 304,
            Refusal::NoCommonCodec(_) => 305,
            Refusal::NotSecure | Refusal::SecurityNotSupported => 302,
            Refusal::Address => 301,
        }
    }
}

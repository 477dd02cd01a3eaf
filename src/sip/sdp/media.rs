//! One medium of a session description: its `m=` line and what its attributes mean.

use super::crypto::Crypto;
use super::session::{Address, Attribute, MAX_FORMATS, Session, find};
use std::net::IpAddr;

/// What kind of medium an `m=` line describes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaKind {
    /// Speech and music.
    Audio,
    /// Pictures that move.
    Video,
    /// T.38 facsimile.
    Image,
    /// Something else, kept as written.
    Other(String),
}

impl MediaKind {
    /// The word in the `m=` line.
    pub fn name(&self) -> &str {
        match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Image => "image",
            MediaKind::Other(name) => name,
        }
    }

    fn read(word: &str) -> MediaKind {
        match word {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "image" => MediaKind::Image,
            other => MediaKind::Other(other.to_owned()),
        }
    }
}

/// The transport of a medium.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `RTP/AVP`: plain RTP.
    Avp,
    /// `RTP/AVPF`: plain RTP with early feedback (RFC 4585); taken as AVP.
    Avpf,
    /// `RTP/SAVP`: SRTP.
    Savp,
    /// `RTP/SAVPF`: SRTP with early feedback; taken as SAVP.
    Savpf,
    /// `UDP/TLS/RTP/SAVP`: SRTP with keys from DTLS (RFC 5764 §8).
    TlsSavp,
    /// `UDP/TLS/RTP/SAVPF`: the same with early feedback; taken as the one without.
    TlsSavpf,
    /// Something else (`udptl` …), kept as written.
    Other(String),
}

impl Protocol {
    /// The word in the `m=` line.
    pub fn name(&self) -> &str {
        match self {
            Protocol::Avp => "RTP/AVP",
            Protocol::Avpf => "RTP/AVPF",
            Protocol::Savp => "RTP/SAVP",
            Protocol::Savpf => "RTP/SAVPF",
            Protocol::TlsSavp => "UDP/TLS/RTP/SAVP",
            Protocol::TlsSavpf => "UDP/TLS/RTP/SAVPF",
            Protocol::Other(name) => name,
        }
    }

    fn read(word: &str) -> Protocol {
        match word.to_ascii_uppercase().as_str() {
            "RTP/AVP" => Protocol::Avp,
            "RTP/AVPF" => Protocol::Avpf,
            "RTP/SAVP" => Protocol::Savp,
            "RTP/SAVPF" => Protocol::Savpf,
            "UDP/TLS/RTP/SAVP" => Protocol::TlsSavp,
            "UDP/TLS/RTP/SAVPF" => Protocol::TlsSavpf,
            _ => Protocol::Other(word.to_owned()),
        }
    }

    /// Whether it promises encryption: by keys in the description (RFC 4568) or, also with the two short names, by
    /// DTLS.
    pub fn is_secure(&self) -> bool {
        matches!(self, Protocol::Savp | Protocol::Savpf) || self.is_dtls()
    }

    /// Whether it promises encryption by keys from DTLS and from nothing else.
    pub fn is_dtls(&self) -> bool {
        matches!(self, Protocol::TlsSavp | Protocol::TlsSavpf)
    }

    /// Whether it is RTP in a form we speak.
    pub fn is_rtp(&self) -> bool {
        !matches!(self, Protocol::Other(_))
    }
}

/// Which way media flow, as seen by the side that says it (RFC 3264 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Only from the one who says it.
    SendOnly,
    /// Only to the one who says it.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// The direction that sends and receives as told.
    pub fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the side that says it sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the side that says it receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same flow as seen by the other side.
    pub fn reversed(self) -> Direction {
        Direction::of(self.receives(), self.sends())
    }

    /// What both directions allow.
    pub fn and(self, other: Direction) -> Direction {
        Direction::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn find(attributes: &[Attribute]) -> Option<Direction> {
        attributes.iter().find_map(|attribute| match attribute.name.as_str() {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        })
    }
}

/// One payload type and what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtpMap {
    /// The RTP payload type, 0–127.
    pub payload_type: u8,
    /// The encoding's name, as written.
    pub name: String,
    /// The RTP clock rate in Hz.
    pub clock: u32,
    /// The channels; 1 if not told.
    pub channels: u8,
}

/// Payload types that need no `a=rtpmap` (RFC 3551 §6).
const STATIC: &[(u8, &str, u32, u8)] = &[
    (0, "PCMU", 8000, 1),
    (3, "GSM", 8000, 1),
    (4, "G723", 8000, 1),
    (5, "DVI4", 8000, 1),
    (6, "DVI4", 16000, 1),
    (7, "LPC", 8000, 1),
    (8, "PCMA", 8000, 1),
    (9, "G722", 8000, 1),
    (10, "L16", 44100, 2),
    (11, "L16", 44100, 1),
    (12, "QCELP", 8000, 1),
    (13, "CN", 8000, 1),
    (15, "G728", 8000, 1),
    (16, "DVI4", 11025, 1),
    (17, "DVI4", 22050, 1),
    (18, "G729", 8000, 1),
];

/// One medium: the `m=` line and the lines below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// The port to send to; 0 means the medium is refused or over.
    pub port: u16,
    /// The number of ports, 1 unless written.
    pub ports: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The formats in order of preference; payload types if the transport is RTP.
    pub formats: Vec<String>,
    /// `c=` of this medium.
    pub connection: Option<Address>,
    /// `a=` lines of this medium, all of them, in order.
    pub attributes: Vec<Attribute>,
}

impl Media {
    pub(super) fn read(value: &str) -> Option<Media> {
        let mut words = value.split_ascii_whitespace();
        let (kind, port, protocol) = (words.next()?, words.next()?, words.next()?);
        let (port, ports) = port.split_once('/').unwrap_or((port, "1"));
        Some(Media {
            kind: MediaKind::read(kind),
            port: port.parse().ok()?,
            ports: ports.parse().ok()?,
            protocol: Protocol::read(protocol),
            formats: words.take(MAX_FORMATS).map(str::to_owned).collect(),
            connection: None,
            attributes: Vec::new(),
        })
    }

    /// The answer to a medium that we do not want: the same line with port 0 (RFC 3264 §6).
    pub fn refused(&self) -> Media {
        Media {
            kind: self.kind.clone(),
            port: 0,
            ports: 1,
            protocol: self.protocol.clone(),
            formats: self.formats.iter().take(1).cloned().collect(),
            connection: None,
            attributes: Vec::new(),
        }
    }

    /// The value of the first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name).and_then(|attribute| attribute.value.as_deref())
    }

    /// Whether there is an attribute of this name, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        find(&self.attributes, name).is_some()
    }

    /// The values of all attributes of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |a| a.name == name).filter_map(|a| a.value.as_deref())
    }

    /// What the payload types of the `m=` line stand for, in its order. A dynamic type without `a=rtpmap` is
    /// left out.
    pub fn rtpmaps(&self) -> Vec<RtpMap> {
        let written: Vec<RtpMap> = self.values("rtpmap").filter_map(read_rtpmap).collect();
        let mut maps: Vec<RtpMap> = Vec::with_capacity(self.formats.len());
        for payload_type in self.formats.iter().filter_map(|format| format.parse::<u8>().ok()) {
            if payload_type > 127 || maps.iter().any(|map| map.payload_type == payload_type) {
                continue;
            }
            let known = STATIC.iter().find(|row| row.0 == payload_type).map(|row| RtpMap {
                payload_type,
                name: row.1.to_owned(),
                clock: row.2,
                channels: row.3,
            });
            maps.extend(written.iter().find(|map| map.payload_type == payload_type).cloned().or(known));
        }
        maps
    }

    /// The format parameters of a payload type (`a=fmtp`).
    pub fn fmtp(&self, payload_type: u8) -> Option<&str> {
        self.values("fmtp").find_map(|value| {
            let (number, parameters) = value.split_once(' ')?;
            (number.parse() == Ok(payload_type)).then(|| parameters.trim())
        })
    }

    /// The direction the sender of `session` wants: the medium's, else the session's, else both ways.
    pub fn direction(&self, session: &Session) -> Direction {
        Direction::find(&self.attributes).or_else(|| Direction::find(&session.attributes)).unwrap_or_default()
    }

    /// `a=ptime` in milliseconds: how much media a packet should carry (towards the one who says it).
    pub fn ptime_ms(&self) -> Option<u16> {
        self.attribute("ptime").and_then(whole)
    }

    /// `a=maxptime` in milliseconds: how much a packet may carry at most.
    pub fn max_ptime_ms(&self) -> Option<u16> {
        self.attribute("maxptime").and_then(whole)
    }

    /// Whether RTCP may share the port of RTP (RFC 5761).
    pub fn rtcp_mux(&self) -> bool {
        self.has("rtcp-mux")
    }

    /// `a=rtcp`: port and perhaps address for RTCP (RFC 3605).
    pub fn rtcp(&self) -> Option<(u16, Option<IpAddr>)> {
        let mut words = self.attribute("rtcp")?.split_ascii_whitespace();
        let port = words.next()?.parse().ok()?;
        let address = words.nth(2).and_then(|word| word.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical());
        Some((port, address))
    }

    /// The usable `a=crypto` lines (RFC 4568); broken and foreign ones are passed over.
    pub fn cryptos(&self) -> Vec<Crypto> {
        self.values("crypto").filter_map(Crypto::read).collect()
    }
}

fn read_rtpmap(value: &str) -> Option<RtpMap> {
    let (number, rest) = value.split_once(' ')?;
    let mut parts = rest.trim().split('/');
    let (name, clock) = (parts.next()?, parts.next()?);
    let channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(1);
    let map = RtpMap {
        payload_type: number.parse().ok()?,
        name: name.to_owned(),
        clock: clock.trim().parse().ok()?,
        channels,
    };
    (!map.name.is_empty() && map.clock > 0 && map.channels > 0).then_some(map)
}

/// A whole number of milliseconds; some write `20.0`.
fn whole(text: &str) -> Option<u16> {
    let number = text.split('.').next().unwrap_or_default().trim().parse().ok()?;
    (number > 0).then_some(number)
}

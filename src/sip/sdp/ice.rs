//! ICE in the description (RFC 8839): credentials, candidates, and whether the other side has it.
//!
//! Plain types: addresses are never resolved here or sent to, and what a candidate is good for is for others to
//! find out.

use super::media::Media;
use super::session::{Address, Attribute, Session};
use crate::chance::Chance;
use std::fmt;
use std::net::SocketAddr;

/// The most candidates that are read of one medium; later ones are passed over.
pub const MAX_CANDIDATES: usize = 64;
/// The longest user name fragment and password that are read (RFC 8839 §5.4).
const MAX_CREDENTIAL: usize = 256;
/// The longest foundation (RFC 8839 §5.1).
const MAX_FOUNDATION: usize = 32;
/// What may stand in credentials and foundations: ice-char (RFC 8839 §5.1).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The discard port, which with 0.0.0.0 means "see the candidates" (RFC 8840 §4.1.1).
const DISCARD_PORT: u16 = 9;

fn is_ice_text(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| ICE_CHARS.contains(&b))
}

/// What the two sides of a check prove themselves by (RFC 8839 §5.4). `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name fragment, 4 to 256 characters.
    pub ufrag: String,
    /// The password, 22 to 256 characters.
    pub password: String,
}

impl Credentials {
    /// Fresh ones: 8 characters, and 24 with 144 bits of chance.
    pub fn draw(chance: &mut Chance) -> Credentials {
        let mut text = |length: usize| {
            let mut bytes = vec![0; length];
            chance.fill(&mut bytes);
            bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)])).collect()
        };
        Credentials { ufrag: text(8), password: text(24) }
    }

    /// Those of a medium: its own, else the session's.
    pub(super) fn read(session: &Session, media: &Media) -> Option<Credentials> {
        let ufrag = media.attribute("ice-ufrag").or_else(|| session.attribute("ice-ufrag"))?;
        let password = media.attribute("ice-pwd").or_else(|| session.attribute("ice-pwd"))?;
        let fit = is_ice_text(ufrag, 4..=MAX_CREDENTIAL) && is_ice_text(password, 22..=MAX_CREDENTIAL);
        fit.then(|| Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.ufrag)
    }
}

/// Where a candidate comes from (RFC 8445 §4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// What a STUN server sees.
    ServerReflexive,
    /// What the other side sees.
    PeerReflexive,
    /// An address at a TURN server.
    Relayed,
}

impl CandidateKind {
    /// The word behind `typ`.
    pub fn name(self) -> &'static str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
        }
    }

    fn read(word: &str) -> Option<CandidateKind> {
        [Self::Host, Self::ServerReflexive, Self::PeerReflexive, Self::Relayed]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(word))
    }
}

/// The transport of a candidate.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CandidateTransport {
    /// UDP.
    Udp,
    /// Another one (`TCP`, RFC 6544), kept as written.
    Other(String),
}

/// One `a=candidate` line (RFC 8839 §5.1). What follows the related address (generation, network-cost …) is not
/// kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Candidates of one base and kind share it: 1 to 32 characters.
    pub foundation: String,
    /// 1 for RTP, 2 for RTCP; up to 256.
    pub component: u16,
    /// How it is reached.
    pub transport: CandidateTransport,
    /// The greater, the better.
    pub priority: u32,
    /// The address; a name (mDNS) is kept and never resolved.
    pub address: Address,
    /// The port.
    pub port: u16,
    /// Where it comes from.
    pub kind: CandidateKind,
    /// `raddr` and `rport`, where they are an address: for diagnosis only.
    pub related: Option<SocketAddr>,
}

impl Candidate {
    /// Reads the value of an `a=candidate` line. `None` if it is broken or of an unknown kind.
    pub fn read(value: &str) -> Option<Candidate> {
        let mut words = value.split_ascii_whitespace();
        let foundation = words.next().filter(|word| is_ice_text(word, 1..=MAX_FOUNDATION))?;
        let component = words.next()?.parse().ok().filter(|number| (1..=256).contains(number))?;
        let transport = words.next().filter(|word| word.len() <= 16)?;
        let priority = words.next()?.parse().ok()?;
        let address = Address::read(words.next()?)?;
        let port = words.next()?.parse().ok()?;
        if !words.next()?.eq_ignore_ascii_case("typ") {
            return None;
        }
        let kind = CandidateKind::read(words.next()?)?;
        let (mut ip, mut related_port) = (None, None);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name {
                "raddr" => ip = value.parse::<std::net::IpAddr>().ok(),
                "rport" => related_port = value.parse::<u16>().ok(),
                _ => {}
            }
        }
        Some(Candidate {
            foundation: foundation.to_owned(),
            component,
            transport: match transport.eq_ignore_ascii_case("udp") {
                true => CandidateTransport::Udp,
                false => CandidateTransport::Other(transport.to_owned()),
            },
            priority,
            address,
            port,
            kind,
            related: ip.zip(related_port).map(SocketAddr::from),
        })
    }

    /// Where it is, if that is an address over UDP that something can be sent to.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        let ip = self.address.ip().filter(super::session::is_unicast)?;
        (self.transport == CandidateTransport::Udp && self.port != 0).then(|| SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Candidate {
    /// The value of the attribute.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match &self.transport {
            CandidateTransport::Udp => "UDP",
            CandidateTransport::Other(name) => name,
        };
        write!(f, "{} {} {transport} {} ", self.foundation, self.component, self.priority)?;
        match &self.address {
            Address::Ip(ip) => write!(f, "{ip}")?,
            Address::Name(name) => f.write_str(name)?,
        }
        write!(f, " {} typ {}", self.port, self.kind.name())?;
        match self.related {
            Some(related) => write!(f, " raddr {} rport {}", related.ip(), related.port()),
            None => Ok(()),
        }
    }
}

/// What we bring to ICE; the credentials are drawn by the negotiation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalIce {
    /// Our candidates of both components. The address and port of the capability must be one of them, else the
    /// peer sees a mismatch (RFC 8839 §4.2.5).
    pub candidates: Vec<Candidate>,
    /// The peer's candidates that were selected, by component: told in later offers of the controlling side
    /// (RFC 8839 §4.4.1.2.2). Empty until then.
    pub selected: Vec<(u16, SocketAddr)>,
}

/// What the peer brings to ICE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteIce {
    /// What it proves itself by.
    pub credentials: Credentials,
    /// It only answers checks (RFC 8445 §2.5).
    pub lite: bool,
    /// Its candidates as written, names included; at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// No more candidates will come (RFC 8840 §8.2); without trickling there are no others anyway.
    pub end_of_candidates: bool,
    /// Our candidates that it has selected (`a=remote-candidates`), by component.
    pub selected: Vec<(u16, SocketAddr)>,
}

/// What both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ice {
    /// What we prove ourselves by.
    pub local: Credentials,
    /// What the peer brings.
    pub remote: RemoteIce,
    /// We nominate: the one who offered first, or the full side if the other one is lite (RFC 8445 §6.1.1).
    pub controlling: bool,
    /// The peer's credentials are others than before: everything is checked anew (RFC 8839 §4.4.1.1.1).
    pub restarted: bool,
}

/// What a description says about ICE.
pub(super) enum Told {
    /// Nothing that can be used, or that a relay on the way has no ICE.
    Nothing,
    /// Somebody on the way has changed the address without the candidates (RFC 8839 §4.2.5).
    Mismatch,
    /// It has ICE.
    Ice(RemoteIce),
}

/// What a description says about ICE for one of its media.
pub(super) fn read(session: &Session, media: &Media) -> Told {
    let has_told = |name: &str| media.has(name) || session.has(name);
    let Some(credentials) = Credentials::read(session, media).filter(|_| !has_told("ice-mismatch")) else {
        return Told::Nothing;
    };
    let candidates: Vec<Candidate> =
        media.values("candidate").take(MAX_CANDIDATES).filter_map(Candidate::read).collect();
    let default = session.connection_of(media).and_then(|address| address.ip());
    let is_default = |candidate: &Candidate| {
        candidate.component == 1
            && candidate.port == media.port
            && candidate.address.ip() == default
            && candidate.transport == CandidateTransport::Udp
    };
    let trickles = |value: Option<&str>| {
        value.is_some_and(|options| options.split_ascii_whitespace().any(|option| option == "trickle"))
    };
    let may_come = trickles(media.attribute("ice-options")) || trickles(session.attribute("ice-options"));
    // Nowhere (a hold of old, or "see the candidates") is no address that somebody could have changed.
    let is_nowhere = default.is_none_or(|ip| ip.is_unspecified());
    let matches = is_nowhere || candidates.iter().any(is_default) || (candidates.is_empty() && may_come);
    if !matches {
        return Told::Mismatch;
    }
    Told::Ice(RemoteIce {
        credentials,
        lite: session.has("ice-lite"),
        candidates,
        end_of_candidates: has_told("end-of-candidates"),
        selected: media.attribute("remote-candidates").map(read_selected).unwrap_or_default(),
    })
}

/// Whether the description says "nowhere yet, see the candidates" and no hold (RFC 8840 §4.1.1).
pub(super) fn awaits_candidates(session: &Session, media: &Media, address: &Address) -> bool {
    media.port == DISCARD_PORT && address.is_hold() && Credentials::read(session, media).is_some()
}

fn read_selected(value: &str) -> Vec<(u16, SocketAddr)> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(3 * 2).collect();
    let read = |triple: &[&str]| match triple {
        [component, address, port] => {
            let ip = Address::read(address)?.ip()?;
            Some((component.parse().ok()?, SocketAddr::new(ip, port.parse().ok()?)))
        }
        _ => None,
    };
    words.chunks(3).filter_map(read).collect()
}

/// Our lines: all candidates, or only those of RTP where RTCP shares its port.
pub(super) fn describe(
    local: &LocalIce,
    credentials: &Credentials,
    rtp_only: bool,
    attributes: &mut Vec<Attribute>,
) {
    attributes.push(Attribute::new("ice-ufrag", credentials.ufrag.as_str()));
    attributes.push(Attribute::new("ice-pwd", credentials.password.as_str()));
    attributes.push(Attribute::new("ice-options", "ice2"));
    let told = local.candidates.iter().filter(|candidate| !rtp_only || candidate.component == 1);
    attributes.extend(told.take(MAX_CANDIDATES).map(|it| Attribute::new("candidate", it.to_string())));
    let selected: Vec<String> = local
        .selected
        .iter()
        .filter(|(component, _)| !rtp_only || *component == 1)
        .map(|(component, at)| format!("{component} {} {}", at.ip(), at.port()))
        .collect();
    if !selected.is_empty() {
        attributes.push(Attribute::new("remote-candidates", selected.join(" ")));
    }
}

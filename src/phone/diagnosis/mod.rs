//! What stands between this device and its PBX: the facts that `tipring doctor` gathers, and the findings that follow.
//!
//! [`Facts`] is all there is to know, as plain values: the table in the terminal, the JSON and the API show the same ones.
//! What was not asked, or can't be known, is absent. [`findings()`] makes sentences of them, each with whose matter it is
//! and a cure; it asks nobody and knows nothing else.

mod calls;
mod findings;
pub mod servers;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::inspection::{Answer, LineReport, Password, ServerReport};
use super::snapshot::LineView;
use crate::config;
use crate::nat::candidate::is_inside;
use crate::nat::discovery::Discovered;
use crate::sip::network::{LookupError, Transport};
use crate::sip::reflection::{Echo, Reflected};
use crate::sip::ua_event::Failure;
pub use findings::{Blame, Finding, Severity, findings};

/// Calls that are remembered for a diagnosis.
pub const MOST_TALKS: usize = 10;

/// The answer of `tipring doctor`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Diagnosis {
    /// Whether nothing but notes was found.
    pub healthy: bool,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// What it was found by.
    pub facts: Facts,
}

impl Diagnosis {
    /// What follows from the facts.
    pub fn of(facts: Facts) -> Diagnosis {
        let findings = findings(&facts);
        let healthy = findings.iter().all(|finding| finding.severity == Severity::Note);
        Diagnosis { healthy, findings, facts }
    }
}

/// Everything that was found out.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Facts {
    /// When, RFC 3339, by the clock of this device.
    pub time: String,
    /// Whether a running phone told of itself.
    pub running: bool,
    /// How long it took.
    pub took_us: u64,
    /// The clock of this device.
    pub clock: Clock,
    /// The network between this device and the outside.
    pub network: Surroundings,
    /// The enabled lines, in the order of the configuration.
    pub lines: Vec<Line>,
    /// The TURN servers of the lines.
    pub turn: Vec<Turn>,
    /// The last calls of the running phone, newest first.
    pub calls: Vec<Talk>,
}

/// How right the clock is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Clock {
    /// What it says (UTC, microseconds).
    pub utc_us: i64,
    /// Whether it was ever set.
    pub set: bool,
    /// By how much it is ahead of a server's, in seconds; negative if it is behind.
    pub ahead_s: Option<i64>,
    /// The server that told its time (Date of SIP).
    pub server: Option<String>,
}

/// What the running phone has seen of its public address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Watched {
    /// Address and port of its SIP socket, as a STUN server saw it last.
    pub address: SocketAddr,
    /// How often it changed, and was believed to.
    pub changes: u32,
    /// Since when, in microseconds.
    pub for_us: u64,
}

/// What is known of the way to the outside.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Surroundings {
    /// The address of this device towards the outside.
    pub own: Option<IpAddr>,
    /// STUN servers whose names lead nowhere, each with the reason.
    pub unresolved: Vec<(String, String)>,
    /// What STUN servers tell; `None` if there is none to ask.
    pub nat: Option<Discovered>,
    /// What the running phone has seen of its own public address.
    pub watched: Option<Watched>,
    /// The routers on the way, the nearest first, and the server at its end if it is near; `None` for one that does not
    /// show itself.
    pub hops: Vec<Option<IpAddr>>,
    /// Whether there is another NAT behind that of the office: an address of RFC 6598, which only providers' NATs have,
    /// is on the way. `None` if it can't be told.
    pub double_nat: Option<bool>,
    /// The mark (DSCP, RFC 2474) that packets leave with.
    pub dscp_sent: u8,
    /// The marks that answers came with. What the outside makes of ours can't be seen from here.
    pub dscp_received: Vec<u8>,
}

/// One line.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// What was looked for: outbound proxy, registrar or domain.
    pub destination: String,
    /// Why no server was found.
    pub lookup: Option<Lookup>,
    /// The ways to the registrar that were tried, those of the configuration first.
    pub ways: Vec<Way>,
    /// What the registrar says to user and password: `right`, `wrong`, `missing`, `not_needed`, `refused`, `untested` or
    /// `not_asked`.
    pub password: &'static str,
    /// Why, and what to do.
    pub password_says: Option<String>,
    /// What came back of questions over UDP; `None` if the line uses none.
    pub reflection: Option<Reflection>,
    /// Whether the audio keys travel in clear.
    pub keys_in_clear: bool,
    /// Whether STUN servers are named for it.
    pub stun: bool,
    /// Whether its calls use ICE.
    pub ice: bool,
    /// Whether TURN servers are named for it.
    pub turn: bool,
    /// How the running phone stands with it: as in `tipring status`.
    pub phone: Option<LineState>,
}

/// What the running phone says of a line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LineState {
    /// `registered`, `retrying`, …
    pub state: String,
    /// What went wrong last.
    pub reason: Option<String>,
    /// Transport and address in use.
    pub via: Option<String>,
    /// How the way is kept open.
    pub keep_alive: Option<String>,
}

impl From<&LineView> for LineState {
    fn from(view: &LineView) -> LineState {
        LineState {
            state: view.state.to_owned(),
            reason: view.reason.clone(),
            via: view.via.clone(),
            keep_alive: view.keep_alive.map(str::to_owned),
        }
    }
}

/// Why a name leads to no server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lookup {
    /// `no_such_name`, `no_address`, `timeout` or `failed`.
    pub code: &'static str,
    /// In words.
    pub what: String,
}

impl From<&LookupError> for Lookup {
    fn from(error: &LookupError) -> Lookup {
        let code = match error {
            LookupError::NoSuchName => "no_such_name",
            LookupError::NoAddress => "no_address",
            LookupError::Timeout => "timeout",
            LookupError::Failed(_) => "failed",
        };
        Lookup { code, what: error.to_string() }
    }
}

/// How an attempt to reach a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// It answered.
    Yes,
    /// Nothing came back.
    Silent,
    /// The host said that nobody listens there.
    Refused,
    /// A router said that nothing gets there.
    Unreachable,
    /// Its certificate has ended, or is not good yet, by the clock of this device.
    CertificateTime,
    /// Its certificate is not believed for another reason.
    Certificate,
    /// Something else, which is told in words.
    Failed,
}

/// One way to a server: `R` is how it ended, `M` what is known of a server of this kind besides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Way<R = Reached, M = Registrar> {
    /// `udp`, `tcp`, `tls` or, to a registrar, `wss`.
    pub transport: &'static str,
    /// Whether the configuration says so.
    pub configured: bool,
    /// Where.
    pub address: SocketAddr,
    /// How it ended.
    pub reached: R,
    /// What went wrong, in words, where something did.
    pub why: Option<String>,
    /// What a server of this kind tells besides.
    #[serde(flatten)]
    pub told: M,
}

/// What a registrar has told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Registrar {
    /// The status of its answer.
    pub status: Option<u16>,
    /// When its certificate ends (UTC, microseconds).
    pub certificate_until_utc_us: Option<i64>,
}

/// One way to a TURN server.
pub type TurnWay = Way<TurnReached, Relaying>;

/// What a TURN server has told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Relaying {
    /// Whence it relays.
    pub relayed: Option<SocketAddr>,
}

impl Way {
    /// What came of asking a server.
    pub fn of(server: &ServerReport, configured: bool) -> Way {
        let (status, failure) = match &server.answer {
            Some(Answer::Status(status)) => (Some(*status), None),
            Some(Answer::Failure(failure)) => (None, Some(failure)),
            None => (None, Some(&Failure::Timeout)),
        };
        let why = match failure {
            Some(Failure::Transport(why)) => Some(why.clone()),
            _ => None,
        };
        Way {
            transport: server.transport.name(),
            configured,
            address: server.address,
            reached: if status.is_some() { Reached::Yes } else { reached(why.as_deref()) },
            why,
            told: Registrar { status, certificate_until_utc_us: server.certificate_until_utc_us },
        }
    }
}

/// What the machine's words for a failure mean; without words nothing came back.
pub fn reached(why: Option<&str>) -> Reached {
    let Some(why) = why else { return Reached::Silent };
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["can't be checked: the clock", " ended on ", " is good from "]) {
        Reached::CertificateTime
    } else if says(&["certificate"]) {
        Reached::Certificate
    } else if says(&["onnection refused"]) {
        Reached::Refused
    } else if says(&["o route to host", "unreachable", "rohibited", "ermission denied"]) {
        Reached::Unreachable
    } else if says(&["no answer to the connection", "timed out"]) {
        Reached::Silent
    } else {
        Reached::Failed
    }
}

/// What the answers to two questions over UDP say of the way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reflection {
    /// Our address, as this machine knows it: what Via said.
    pub sent: SocketAddr,
    /// What Via said when it came back.
    pub returned: Option<String>,
    /// Whence the registrar says that it saw the question with our address.
    pub seen: Option<SocketAddr>,
    /// Whence it saw the one with a name that nobody has, which no gateway rewrites.
    pub seen_veiled: Option<SocketAddr>,
}

impl Reflection {
    /// In the words of the facts; `None` if there was no answer.
    pub fn of(sent: SocketAddr, reflected: &Reflected) -> Option<Reflection> {
        let Reflected { plain, veiled } = reflected;
        plain.as_ref().or(veiled.as_ref())?;
        Some(Reflection {
            sent,
            returned: plain.as_ref().map(|echo| echo.sent_by.to_string()),
            seen: plain.as_ref().and_then(Echo::seen),
            seen_veiled: veiled.as_ref().and_then(Echo::seen),
        })
    }

    /// Whether somebody on the way reads SIP along and writes into it.
    pub fn is_rewritten(&self) -> bool {
        let via = self.returned.as_ref().is_some_and(|returned| *returned != self.sent.to_string());
        let seen = self.seen.zip(self.seen_veiled);
        via || seen.is_some_and(|(seen, veiled)| seen != veiled)
    }

    /// Whence the registrar sees this device.
    pub fn outside(&self) -> Option<SocketAddr> {
        self.seen_veiled.or(self.seen)
    }
}

/// One TURN server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Turn {
    /// Its host, as configured.
    pub server: String,
    /// Why its name leads nowhere.
    pub lookup: Option<Lookup>,
    /// The ways to it that were tried, those of the configuration first.
    pub ways: Vec<TurnWay>,
}

/// How an attempt to get an allocation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnReached {
    /// It was granted.
    Yes,
    /// The server does not take user name or password.
    Unauthorized,
    /// The server refuses for another reason.
    Refused,
    /// The server is not reached this way.
    No,
}

/// One call that is over, as far as its audio tells of the way.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Talk {
    /// Its name.
    pub call: String,
    /// Its line.
    pub line: String,
    /// When it ended, RFC 3339.
    pub ended: String,
    /// How long it was talked, in microseconds.
    pub talk_us: u64,
    /// Where our SDP said that we are.
    pub advertised: Option<SocketAddr>,
    /// Where their SDP said that they are: the source that was expected.
    pub expected: Option<SocketAddr>,
    /// Where audio came from; `None` if none was taken.
    pub source: Option<SocketAddr>,
    /// Whether the way was found by ICE.
    pub ice: bool,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP packets taken.
    pub packets_received: u64,
    /// RTP packets that came and were not taken.
    pub packets_refused: u64,
    /// Whether packets came that failed SRTP's authentication.
    pub unauthentic: bool,
    /// What the far end says it lost of ours, 0–100; `None` if it has not said so.
    pub remote_loss_percent: Option<f64>,
}

/// What the running phone adds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Told {
    /// Its lines.
    pub lines: Vec<(String, LineState)>,
    /// Its last calls, newest first.
    pub calls: Vec<Talk>,
    /// Its public address over time, if STUN servers are asked for it.
    pub watched: Option<Watched>,
}

impl Line {
    /// What was asked about a line of the configuration. `others` are its servers over transports that it may not use.
    pub fn of(config: &config::Line, report: &LineReport, others: &[ServerReport]) -> Line {
        let configured = report.servers.iter().map(|server| Way::of(server, true));
        let (password, password_says) = match &report.password {
            Password::NotAsked => ("not_asked", None),
            Password::NotNeeded => ("not_needed", None),
            Password::Right => ("right", None),
            Password::Wrong(why) => ("wrong", Some(why.clone())),
            Password::Missing => ("missing", None),
            Password::Refused(answer) => ("refused", Some(answer.clone())),
            Password::Untested(answer) => ("untested", Some(answer.clone())),
        };
        let secure = config.transport.0.iter().all(|transport| transport.is_secure());
        let nat = config.nat.mode == config::NatMode::Auto;
        Line {
            name: config.name.clone(),
            destination: report.destination.clone(),
            lookup: report.unlocated.as_ref().map(Lookup::from),
            ways: configured.chain(others.iter().map(|server| Way::of(server, false))).collect(),
            password,
            password_says,
            reflection: None,
            keys_in_clear: config.srtp != config::Policy::Off
                && config.srtp_keys == config::SrtpKeys::Sdes
                && !secure,
            stun: nat && !config.nat.stun.is_empty(),
            ice: nat && config.nat.ice,
            turn: nat && !config.nat.turn.is_empty(),
            phone: None,
        }
    }

    /// The registrars that answer or could over UDP, if the line uses it.
    pub fn udp_servers(&self) -> impl Iterator<Item = SocketAddr> {
        let udp = self.ways.iter().filter(|way| way.configured && way.transport == Transport::Udp.name());
        udp.map(|way| way.address)
    }
}

/// Whether the routers on the way show a NAT of a provider behind that of the office.
pub fn double_nat(own: Option<IpAddr>, hops: &[Option<IpAddr>], translated: Option<bool>) -> Option<bool> {
    let shared =
        |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64);
    if translated == Some(false) {
        return Some(false);
    }
    if own.iter().chain(hops.iter().flatten()).any(shared) {
        return Some(true);
    }
    // Where the second router shows a public address there is no other network of this kind before it.
    match hops {
        [Some(first), Some(second), ..] if is_inside(*first) && !is_inside(*second) => Some(false),
        _ => None,
    }
}

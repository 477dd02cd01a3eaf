//! What the phone shows of itself: plain values, made afresh when somebody asks.

use serde::Serialize;

use crate::events::{AgentState, Mailbox, Quality, Way};

/// The whole phone at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Number of the last event that this state includes.
    pub sequence: u64,
    /// Version of the program.
    pub version: &'static str,
    /// Name of the device.
    pub name: String,
    /// Serial number of the device.
    pub serial: String,
    /// Since when the program runs, RFC 3339.
    pub started: String,
    /// Lines in the order of the configuration.
    pub lines: Vec<LineView>,
    /// Calls that are going on, oldest first.
    pub calls: Vec<CallView>,
    /// What does not work as configured, one sentence each; empty when all is well.
    pub degraded: Vec<String>,
    /// Datagrams and requests that were refused without an answer, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LineView {
    /// Name in the configuration.
    pub name: String,
    /// Address of record.
    pub aor: String,
    /// `registered`, `registering`, `retrying`, `rejected`, `unregistered` or `off`.
    pub state: &'static str,
    /// What was answered or went wrong last, for people.
    pub reason: Option<String>,
    /// Transport and address in use, as in `udp:203.0.113.10:5060`.
    pub via: Option<String>,
    /// How its registrar is asked whether it still reaches us: `stun`, `crlf` or `options`; `watch` before it where STUN
    /// servers tell of changes.
    pub keep_alive: Option<&'static str>,
    /// Seconds from its answer to the next question, in tenths.
    pub keep_alive_s: Option<f64>,
    /// Seconds since the registrar was heard last.
    pub heard_s: Option<u64>,
    /// Seconds until the registration has to be renewed, as granted.
    pub expires_s: Option<u64>,
    /// Does the line refuse calls?
    pub dnd: bool,
    /// Whether its agent is there for calls, once somebody has said so.
    pub agent: Option<AgentState>,
    /// What waits in its mailbox, once the PBX has told.
    pub voicemail: Option<Mailbox>,
    /// Its flows, one for each proxy; what is said above is said of the first one that is registered.
    pub flows: Vec<FlowView>,
}

/// One flow of a line (RFC 5626). The fields that it shares with [`LineView`] mean the same there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowView {
    /// Its `reg-id`: 1 by the first proxy, or where there is none; 2 by the second.
    #[serde(rename = "flow")]
    pub number: u8,
    /// As of a line; `standby` while the second one is not needed.
    pub state: &'static str,
    /// What was answered or went wrong last.
    pub reason: Option<String>,
    /// Transport and address in use.
    pub via: Option<String>,
    /// How its registrar is asked whether it still reaches us.
    pub keep_alive: Option<&'static str>,
    /// Seconds from its answer to the next question.
    pub keep_alive_s: Option<f64>,
    /// Seconds since the registrar was heard last.
    pub heard_s: Option<u64>,
    /// Seconds until the registration has to be renewed.
    pub expires_s: Option<u64>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallView {
    /// Name of the call.
    pub id: String,
    /// Name of the leg: a callback has two that share the name of the call.
    pub leg: String,
    /// The callback that it is a part of.
    pub callback: Option<String>,
    /// Line that carries it.
    pub line: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// Who is at the other end, as dialled or as announced.
    pub number: String,
    /// The other end's name, where announced.
    pub name: Option<String>,
    /// The number that was dialled from outside, where the PBX tells it.
    pub did: Option<String>,
    /// Who sent the call on to this device, where the PBX tells it.
    pub diverted_by: Option<String>,
    /// `dialing`, `ringing`, `early`, `active`, `held`, `rating` (hung up here, the far end is asked how it was) or `ending`.
    pub state: &'static str,
    /// Does this side send silence?
    pub muted: bool,
    /// Has the other side put the call on hold?
    pub held_by_peer: bool,
    /// Has nothing been heard for the time that `[rtp] silence` says?
    pub silent: bool,
    /// `off`, `on` or `paused`.
    pub recording: &'static str,
    /// Who gets the call, while it is being transferred.
    pub transfer: Option<String>,
    /// Codec that is being sent, as in `PCMA/8000`.
    pub codec: Option<String>,
    /// Is the media encrypted?
    pub srtp: bool,
    /// The way that the media takes, once it has one.
    pub way: Option<Way>,
    /// When it began, RFC 3339.
    pub started: String,
    /// Microseconds since it was answered.
    pub duration_us: Option<u64>,
    /// The newest report of quality.
    pub quality: Option<Quality>,
}

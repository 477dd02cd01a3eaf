//! The catalogue: every event that this appliance tells, by name. [`Kind`] has their fields.
//!
//! One variant of it is one type of event. `call.*` types tell one story per leg and repeat who calls whom in
//! each event, so that a receiver that missed the beginning still understands. Integers named `*_us` are
//! microseconds. What is not known is absent, never empty.

use serde::Serialize;

use super::kind::Kind;

/// One thing that happened, before it has a number.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The call it belongs to: the subject of the event. `None` for events of the device or of a line.
    pub call: Option<String>,
    /// What happened.
    pub kind: Kind,
}

impl Event {
    /// An event of the device, of a line or of its configuration.
    pub fn new(kind: Kind) -> Event {
        Event { call: None, kind }
    }

    /// An event of the call `call`.
    pub fn of_call(call: impl Into<String>, kind: Kind) -> Event {
        Event { call: Some(call.into()), kind }
    }
}

/// The names of all types, as [`Kind::name`] gives them.
pub const TYPES: &[&str] = &[
    "device.started",
    "device.network.changed",
    "device.degraded",
    "device.recovered",
    "line.registered",
    "line.unregistered",
    "line.rejected",
    "call.new",
    "call.dialing",
    "call.ringing",
    "call.early",
    "call.answered",
    "call.media",
    "call.held",
    "call.resumed",
    "call.bridged",
    "call.party_changed",
    "call.transferred",
    "call.transfer_failed",
    "call.dtmf",
    "call.quality",
    "call.refused",
    "call.ended",
    "call.closed",
    "call.emergency",
    "recording.started",
    "recording.paused",
    "recording.ready",
    "recording.deleted",
    "originate.queued",
    "agent.available",
    "agent.logged_out",
    "originate.result",
    "voicemail.waiting",
    "limit.reached",
    "auth.failed",
    "config.applied",
    "config.rejected",
    "upstream.suspended",
    "upstream.resumed",
    "upstream.refused",
    "history.ready",
    "gap",
];

/// Why nothing is delivered to an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum Suspension {
    /// Somebody paused it.
    Paused,
    /// It wants nothing any more (410).
    Gone,
    /// It refuses what it is sent.
    Refused,
    /// It can't be reached, or can't take anything now.
    Unavailable,
}

impl Kind {
    /// The name of the type without the prefix `tipring.`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::DeviceStarted { .. } => "device.started",
            Kind::NetworkChanged { .. } => "device.network.changed",
            Kind::DeviceDegraded { .. } => "device.degraded",
            Kind::DeviceRecovered { .. } => "device.recovered",
            Kind::LineRegistered { .. } => "line.registered",
            Kind::LineUnregistered { .. } => "line.unregistered",
            Kind::LineRejected { .. } => "line.rejected",
            Kind::CallNew { .. } => "call.new",
            Kind::CallDialing { .. } => "call.dialing",
            Kind::CallRinging { .. } => "call.ringing",
            Kind::CallEarly { .. } => "call.early",
            Kind::CallAnswered { .. } => "call.answered",
            Kind::CallMedia { .. } => "call.media",
            Kind::CallHeld { .. } => "call.held",
            Kind::CallResumed { .. } => "call.resumed",
            Kind::CallBridged { .. } => "call.bridged",
            Kind::PartyChanged { .. } => "call.party_changed",
            Kind::CallTransferred { .. } => "call.transferred",
            Kind::TransferFailed { .. } => "call.transfer_failed",
            Kind::CallDtmf { .. } => "call.dtmf",
            Kind::CallQuality { .. } => "call.quality",
            Kind::CallRefused { .. } => "call.refused",
            Kind::CallEnded { .. } => "call.ended",
            Kind::CallClosed { .. } => "call.closed",
            Kind::CallEmergency { .. } => "call.emergency",
            Kind::RecordingStarted { .. } => "recording.started",
            Kind::RecordingPaused { .. } => "recording.paused",
            Kind::RecordingReady { .. } => "recording.ready",
            Kind::RecordingDeleted { .. } => "recording.deleted",
            Kind::OriginateQueued { .. } => "originate.queued",
            Kind::AgentAvailable { .. } => "agent.available",
            Kind::AgentLoggedOut { .. } => "agent.logged_out",
            Kind::OriginateResult { .. } => "originate.result",
            Kind::VoicemailWaiting { .. } => "voicemail.waiting",
            Kind::LimitReached { .. } => "limit.reached",
            Kind::AuthFailed { .. } => "auth.failed",
            Kind::ConfigApplied { .. } => "config.applied",
            Kind::ConfigRejected { .. } => "config.rejected",
            Kind::UpstreamSuspended { .. } => "upstream.suspended",
            Kind::UpstreamResumed { .. } => "upstream.resumed",
            Kind::UpstreamRefused { .. } => "upstream.refused",
            Kind::HistoryReady { .. } => "history.ready",
            Kind::Gap { .. } => "gap",
        }
    }
}

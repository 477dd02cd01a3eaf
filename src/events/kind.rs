//! What happened, with its fields: one variant of [`Kind`] for each type of the [catalogue](super::catalogue).

use serde::Serialize;

use super::catalogue::Suspension;
use super::cause::{CallResult, Cause};
use super::leg::{Direction, Leg, Origin, Party, Quality, Side, Way};
use super::mailbox::Mailbox;
use super::number::Number;
use super::transfer::Transfer;

/// What happened. The comment at each variant begins with the type's name, without the prefix `tipring.`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Kind {
    /// `device.started`: the appliance runs.
    #[serde(rename = "device.started")]
    DeviceStarted {
        /// The program's version.
        version: String,
        /// The serial number of the device.
        serial: String,
        /// The name of the device, if it was given one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        name: Option<String>,
        /// Whether the run before this one ended in order.
        clean: bool,
    },
    /// `device.network.changed`: the addresses of the machine are others than before.
    #[serde(rename = "device.network.changed")]
    NetworkChanged {
        /// All addresses that packets can be sent from now.
        addresses: Vec<String>,
    },
    /// `device.degraded`: a part does not work; the appliance goes on without it.
    #[serde(rename = "device.degraded")]
    DeviceDegraded {
        /// `sound`, `store`, `recordings`, `clock`, `network`, `ports`, `dtls`.
        part: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// `device.recovered`: a part works again.
    #[serde(rename = "device.recovered")]
    DeviceRecovered {
        /// As in `device.degraded`.
        part: String,
    },
    /// `line.registered`: the PBX knows where the line is. Told when it begins, not at each refresh.
    #[serde(rename = "line.registered")]
    LineRegistered {
        /// The name of the line.
        line: String,
        /// The address that answered.
        registrar: String,
        /// `udp`, `tcp`, `tls` or `wss`.
        transport: String,
        /// The contact that the PBX keeps.
        contact: String,
        /// For how long.
        expires_us: u64,
    },
    /// `line.unregistered`: the line can't be called: asked for, or it failed and will be tried again.
    #[serde(rename = "line.unregistered")]
    LineUnregistered {
        /// The name of the line.
        line: String,
        /// What failed; the `by` of an orderly end is `local`.
        cause: Cause,
        /// When the next attempt comes, from now; absent if there will be none.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_us: Option<u64>,
    },
    /// `line.rejected`: the PBX refuses this account. There is no retry until somebody has changed something.
    #[serde(rename = "line.rejected")]
    LineRejected {
        /// The name of the line.
        line: String,
        /// What the PBX answered.
        cause: Cause,
        /// What to do about it.
        cure: String,
    },
    /// `call.new`: a leg exists.
    #[serde(rename = "call.new")]
    CallNew {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who started it.
        origin: Origin,
    },
    /// `call.dialing`: the INVITE of an outgoing leg is on its way.
    #[serde(rename = "call.dialing")]
    CallDialing {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
    },
    /// `call.ringing`: this device rings, or the called one says that it does.
    #[serde(rename = "call.ringing")]
    CallRinging {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
    },
    /// `call.early`: audio of the PBX is heard before the answer.
    #[serde(rename = "call.early")]
    CallEarly {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
    },
    /// `call.answered`: the call is answered.
    #[serde(rename = "call.answered")]
    CallAnswered {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// From the first moment of the leg to the answer.
        ring_us: u64,
        /// The configuration key by which the call was answered without anybody: `line.auto_answer` or
        /// `line.intercom`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        automatic: Option<String>,
    },
    /// `call.media`: the first audio of the other side was heard.
    #[serde(rename = "call.media")]
    CallMedia {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Encoding name, as in SDP.
        codec: String,
        /// The name of the SRTP profile, if the audio is encrypted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        srtp: Option<String>,
        /// The way that it takes.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        way: Option<Way>,
        /// From the answer to the first packet; zero if it came before.
        after_answer_us: u64,
    },
    /// `call.held`: the call waits.
    #[serde(rename = "call.held")]
    CallHeld {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who put it on hold.
        by: Side,
    },
    /// `call.resumed`: the call goes on.
    #[serde(rename = "call.resumed")]
    CallResumed {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who took it back.
        by: Side,
    },
    /// `call.bridged`: the far end of this leg and that of another one of the same call hear each other.
    #[serde(rename = "call.bridged")]
    CallBridged {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// The other leg.
        with: String,
    },
    /// `call.party_changed`: somebody else is at the other end now, as the PBX tells it (connected line, RFC 4916, RFC 5876):
    /// whoever was there has passed the call on. `connected` is the new party, absent if it is the first one again; without a
    /// number it is withheld. Or a look-up has told the name of whoever is there.
    #[serde(rename = "call.party_changed")]
    PartyChanged {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
    },
    /// `call.transferred`: the far end has the target instead of us, or we have it instead of the far end; `call.ended` follows.
    #[serde(rename = "call.transferred")]
    CallTransferred {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who has the call now.
        #[serde(flatten)]
        transfer: Transfer,
        /// Who gave it away.
        #[cfg_attr(test, serde(default = "local"))]
        by: Side,
        /// The leg of this call that leads to the target, where the far end has given it away.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        next_leg: Option<String>,
    },
    /// `call.transfer_failed`: the target did not get the call, or nobody says so; it goes on here unless it ends.
    #[serde(rename = "call.transfer_failed")]
    TransferFailed {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who was to get the call.
        #[serde(flatten)]
        transfer: Transfer,
        /// What the target or the PBX answered.
        cause: Cause,
    },
    /// `call.dtmf`: keys were pressed during the call. The digits are left out unless they are asked for.
    #[serde(rename = "call.dtmf")]
    CallDtmf {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who pressed them.
        by: Side,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        digits: Option<String>,
        /// How long the last one was.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        duration_us: Option<u64>,
        /// `rfc4733`, `info` or `inband`.
        method: String,
    },
    /// `call.quality`: how the audio is, every five seconds.
    #[serde(rename = "call.quality")]
    CallQuality {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Since the last report.
        quality: Quality,
    },
    /// `call.refused`: a rule of this device declined the call: limits, do-not-disturb, the number of calls, the black list,
    /// hours. For an
    /// incoming leg `call.ended` follows; an outgoing one that was refused before it began has only this.
    #[serde(rename = "call.refused")]
    CallRefused {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// Who started it.
        origin: Origin,
        /// The configuration key of the rule: `limits.deny`, `line.dnd`, `line.max_calls`, `blacklist.numbers`, `hours.open`,
        /// `hours.holidays`.
        rule: String,
        /// What it means, for people.
        text: String,
    },
    /// `call.ended`: the leg is over.
    #[serde(rename = "call.ended")]
    CallEnded {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// What became of it.
        result: CallResult,
        /// Why, and who ended it.
        cause: Cause,
        /// From `call.new` to now.
        total_us: u64,
        /// From `call.new` to the answer or the end.
        ring_us: u64,
        /// From the answer to now, or to the moment when this side hung up and the far end was asked how it was; zero without
        /// an answer.
        talk_us: u64,
        /// The part of `talk_us` that was on hold.
        hold_us: u64,
        /// Of the whole leg; absent without audio.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        quality: Option<Quality>,
        /// The recording of the leg, if there is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        recording_id: Option<String>,
        /// What the far end said of it, 1 (bad) to 5, if it was asked (`[rating]`) and answered.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        vote: Option<u8>,
    },
    /// `call.closed`: the whole call is over, all its legs.
    #[serde(rename = "call.closed")]
    CallClosed {
        /// The line of the first leg.
        line: String,
        /// The direction of the first leg.
        direction: Direction,
        /// Who called.
        caller: Party,
        /// Who was called.
        called: Party,
        /// The number that an outside caller dialled, where the PBX tells it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        did: Option<Number>,
        /// What became of it.
        result: CallResult,
        /// Whether somebody should call back.
        missed: bool,
        /// How many legs it had.
        legs: u32,
        /// From the first leg's beginning to the last one's end.
        total_us: u64,
        /// While anybody was connected.
        talk_us: u64,
    },
    /// `call.emergency`: an emergency number is being called.
    #[serde(rename = "call.emergency")]
    CallEmergency {
        /// Who calls whom.
        #[serde(flatten)]
        leg: Leg,
        /// The keys of the rules that would have refused any other call.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        overruled: Vec<String>,
    },
    /// `recording.started`: a call is being recorded. Told before the first sample is kept.
    #[serde(rename = "recording.started")]
    RecordingStarted {
        /// The recording.
        recording_id: String,
        /// The leg.
        leg_id: String,
        /// The line.
        line: String,
    },
    /// `recording.paused`: nothing is kept now.
    #[serde(rename = "recording.paused")]
    RecordingPaused {
        /// The recording.
        recording_id: String,
        /// The leg.
        leg_id: String,
        /// The line.
        line: String,
        /// False when it goes on again.
        paused: bool,
    },
    /// `recording.ready`: the file is complete.
    #[serde(rename = "recording.ready")]
    RecordingReady {
        /// The recording.
        recording_id: String,
        /// The leg.
        leg_id: String,
        /// The line.
        line: String,
        /// Its length.
        duration_us: u64,
        /// The size of the file in bytes.
        bytes: u64,
    },
    /// `recording.deleted`: the file is gone.
    #[serde(rename = "recording.deleted")]
    RecordingDeleted {
        /// The recording.
        recording_id: String,
        /// `age`, `size` or `erased` (somebody asked for it).
        reason: String,
    },
    /// `agent.available`: the agent of a line says to be there for calls. Told when it changes.
    #[serde(rename = "agent.available")]
    AgentAvailable {
        /// The line.
        line: String,
    },
    /// `agent.logged_out`: the agent of a line is not there. Told when it changes.
    #[serde(rename = "agent.logged_out")]
    AgentLoggedOut {
        /// The line.
        line: String,
    },
    /// `originate.queued`: a callback was asked for and begins: `from` is rung, then `to`, and both are joined.
    #[serde(rename = "originate.queued")]
    OriginateQueued {
        /// The callback, as its legs name it.
        callback_id: String,
        /// The `Idempotency-Key` of the request, or the callback again.
        request: String,
        /// Who asked.
        origin: Origin,
        /// Who is called first.
        from: Number,
        /// Who is called then.
        to: Number,
    },
    /// `originate.result`: what became of a callback. `answered` is told when both are joined.
    #[serde(rename = "originate.result")]
    OriginateResult {
        /// The callback, as its legs name it.
        callback_id: String,
        /// The `Idempotency-Key` of the request, or the callback again.
        request: String,
        /// Who asked.
        origin: Origin,
        /// Who was called first.
        from: Number,
        /// Who was to be called then.
        to: Number,
        /// Whether the first one had answered.
        reached: bool,
        /// What became of it.
        result: CallResult,
        /// Why.
        cause: Cause,
    },
    /// `voicemail.waiting`: what waits in a line's mailbox has changed, or is known for the first time since the start.
    #[serde(rename = "voicemail.waiting")]
    VoicemailWaiting {
        /// The line.
        line: String,
        /// What waits.
        #[serde(flatten)]
        mailbox: Mailbox,
        /// Whether a message has come since this was told last; at the first time after a start, whether any waits.
        #[cfg_attr(test, serde(default))]
        arrived: bool,
    },
    /// `limit.reached`: a limit stopped a call. Told once per limit and day.
    #[serde(rename = "limit.reached")]
    LimitReached {
        /// The line, if the limit is one of a line.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        line: Option<String>,
        /// Its configuration key: `limits.calls_per_day`.
        limit: String,
        /// Its value.
        value: u64,
        /// Who was stopped.
        origin: Origin,
    },
    /// `auth.failed`: somebody could not prove who it is: a visitor, who was refused, or the server of a line.
    #[serde(rename = "auth.failed")]
    AuthFailed {
        /// `api` or `socket`; `sip` for the server of a line, whose proof that it knows the password (RFC 7616 §3.5)
        /// is wrong.
        interface: String,
        /// The address it came from.
        from: String,
        /// The name that was given, if any.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        user: Option<String>,
        /// The line, where it is about one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        line: Option<String>,
        /// What is the matter, where it is more than a wrong password.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text: Option<String>,
        /// Attempts from this address since the last event.
        attempts: u32,
    },
    /// `config.applied`: a configuration is in force.
    #[serde(rename = "config.applied")]
    ConfigApplied {
        /// The file.
        file: String,
        /// The names of lines that are new or changed.
        changed: Vec<String>,
        /// The names of lines that are gone.
        removed: Vec<String>,
        /// How many warnings it has.
        warnings: u32,
    },
    /// `config.rejected`: a new configuration has mistakes; the last good one stays.
    #[serde(rename = "config.rejected")]
    ConfigRejected {
        /// The file.
        file: String,
        /// The mistakes, as `tipring check` prints them.
        findings: Vec<String>,
    },
    /// `upstream.suspended`: nothing is delivered to an upstream now; events wait. Told once, until `upstream.resumed`.
    #[serde(rename = "upstream.suspended")]
    UpstreamSuspended {
        /// The name of the upstream.
        upstream: String,
        /// Why.
        why: Suspension,
        /// What is the matter, for people.
        what: String,
        /// What to do about it.
        cure: String,
        /// When the next attempt comes, from now; absent if there will be none until somebody resumes it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_us: Option<u64>,
    },
    /// `upstream.resumed`: an upstream takes events again, or somebody resumed it.
    #[serde(rename = "upstream.resumed")]
    UpstreamResumed {
        /// The name of the upstream.
        upstream: String,
        /// Events that wait for it, at most.
        waiting: u64,
    },
    /// `upstream.refused`: an upstream has refused an event again and again while it took others; it will not get it.
    /// Told every ten minutes at most.
    #[serde(rename = "upstream.refused")]
    UpstreamRefused {
        /// The name of the upstream.
        upstream: String,
        /// The identity of the event.
        refused: String,
        /// Its number.
        sequence: u64,
        /// Its type, without the prefix `tipring.`.
        event: String,
        /// The HTTP status of the refusal.
        status: u16,
        /// How many were refused since this was told last, this one included.
        count: u64,
    },
    /// `history.ready`: calls that an upstream has ordered can be fetched.
    #[serde(rename = "history.ready")]
    HistoryReady {
        /// The name of the upstream.
        upstream: String,
        /// What it fetches them by.
        order_id: String,
    },
    /// `gap`: events that a reader has not seen are gone. It carries the number of the last one that is missing.
    #[serde(rename = "gap")]
    Gap {
        /// The first number that is missing.
        first: u64,
        /// The last number that is missing.
        last: u64,
        /// `age`, `size` or `erased`; absent if it is not known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
}

/// Who gave a call away in events of a version that could only do it itself.
#[cfg(test)]
fn local() -> Side {
    Side::Local
}

impl Kind {
    /// The leg that the event tells about.
    pub fn leg(&self) -> Option<&Leg> {
        match self {
            Kind::CallNew { leg, .. }
            | Kind::CallDialing { leg }
            | Kind::CallRinging { leg }
            | Kind::CallEarly { leg }
            | Kind::CallAnswered { leg, .. }
            | Kind::CallMedia { leg, .. }
            | Kind::CallHeld { leg, .. }
            | Kind::CallResumed { leg, .. }
            | Kind::CallBridged { leg, .. }
            | Kind::PartyChanged { leg }
            | Kind::CallTransferred { leg, .. }
            | Kind::TransferFailed { leg, .. }
            | Kind::CallDtmf { leg, .. }
            | Kind::CallQuality { leg, .. }
            | Kind::CallRefused { leg, .. }
            | Kind::CallEnded { leg, .. }
            | Kind::CallEmergency { leg, .. } => Some(leg),
            _ => None,
        }
    }
}

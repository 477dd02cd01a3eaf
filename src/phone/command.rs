//! What people and programs ask of the phone, and what it answers. The same values serve the command line, the API and
//! the keys of a device; no way in has rules of its own.

use std::time::Duration;

use super::routing::Decision;
use super::snapshot::{CallView, Snapshot};
use crate::events::AgentState;

/// A wish. Where `call` is optional, `None` means the one call that the wish can only mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Call `to` – digits, a user name or a SIP URI – over `line`, or over the first line that is registered.
    Call { to: String, line: Option<String> },
    /// Ring somebody, then somebody else, and join both.
    Callback(Callback),
    /// Answer a ringing call.
    Answer { call: Option<String> },
    /// End a call, or refuse it if it still rings.
    HangUp { call: Option<String> },
    /// Refuse a ringing call with 486 (busy here) or 603 (decline).
    Reject { call: Option<String>, status: u16 },
    /// Put a call on hold.
    Hold { call: Option<String> },
    /// Take a call back from hold; with a real sound device the call that was heard is held instead (swap).
    Resume { call: Option<String> },
    /// Send silence instead of the microphone, or stop doing so.
    Mute { call: Option<String>, on: bool },
    /// Send DTMF digits (`0`–`9`, `*`, `#`, `A`–`D`).
    Dtmf { call: Option<String>, digits: String },
    /// Start, pause, resume or stop recording a call.
    Record { call: Option<String>, action: RecordAction },
    /// Give an answered call away: the far end calls somebody else in our place.
    Transfer { call: Option<String>, to: Destination },
    /// Register a line now, also one that was told to stop.
    Register { line: String },
    /// Remove a line's registration and keep it so until asked otherwise.
    Unregister { line: String },
    /// Do-not-disturb for one line or for all.
    DoNotDisturb { line: Option<String>, on: bool },
    /// The agent of a line, or of all of them, is there for calls or not.
    Agent { line: Option<String>, state: AgentState },
    /// What would become of numbers that are dialled, over `line` if it is asked for; nothing is called.
    Route { numbers: Vec<String>, line: Option<String> },
    /// Everything there is to see.
    Status,
}

/// Two that are to be joined. The answer is the call to the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Who is rung first. The device itself is one of its lines' names, users or addresses: then `to` is called at once, and
    /// heard here.
    pub from: End,
    /// Who is called once the first one has answered.
    pub to: End,
    /// How long the first one may ring; 30 s if nobody says.
    pub ring_for: Option<Duration>,
    /// What the asker knows its request by; events repeat it.
    pub request: Option<String>,
}

/// One end of a [`Callback`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Digits, a user name or a SIP URI.
    pub number: String,
    /// The line; the first one that is registered if nobody says, and the number plan has no other.
    pub line: Option<String>,
}

/// Who gets a call that is given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Somebody who is called for it: digits, a user name or a SIP URI (blind transfer).
    Target(String),
    /// The far end of another answered call, by its id (attended transfer).
    Call(String),
}

/// What to do with the recording of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAction {
    /// Begin a new file.
    Start,
    /// Leave out what is said from now on.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Close the file.
    Stop,
}

/// What a wish led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It was done (or is on its way, where the far end has a say).
    Done,
    /// The call that was started or changed.
    Call(Box<CallView>),
    /// What would become of each number.
    Routes(Vec<Decision>),
    /// The state of everything.
    Status(Box<Snapshot>),
}

/// Why a wish was refused: a stable `code` for programs, a message and the next step for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub struct Refusal {
    /// Whose fault it is, which decides the status of the API.
    pub blame: Blame,
    /// A stable name in snake case.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// Who has to change something before the wish can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The wish itself is wrong (400).
    Wish,
    /// What it names does not exist (404).
    NotFound,
    /// It does not fit the present state (409).
    State,
    /// A rule of the configuration forbids it (403).
    Rule,
    /// Something that is needed is not there now: registration, ports (503).
    Environment,
}

impl Refusal {
    /// A refusal in one line.
    pub fn new(
        blame: Blame,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Refusal {
        Refusal { blame, code, message: message.into(), hint: hint.into() }
    }
}

/// What a wish led to, or why not.
pub type Outcome = Result<Reply, Refusal>;

//! Why a call ended: the result that people and reports use, and the protocol causes behind it.

use serde::{Deserialize, Serialize};

/// What became of a call or a leg, in the words that reports and other systems use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallResult {
    /// Both sides talked, and one of them ended it.
    Answered,
    /// The called side was busy.
    Busy,
    /// It rang, and nobody answered.
    NoAnswer,
    /// The caller gave up before an answer.
    Cancelled,
    /// Another device took the call: not a missed call.
    AnsweredElsewhere,
    /// A person or a device declined.
    Rejected,
    /// A rule forbade the call: here (limits, do-not-disturb) or in the network.
    Barred,
    /// The number does not exist or is not complete.
    InvalidNumber,
    /// The called side is not reachable now.
    Unreachable,
    /// The network or the PBX could not carry the call.
    Congestion,
    /// There was no money for the call.
    NoFunds,
    /// The call was answered and its audio stopped coming.
    MediaLost,
    /// Anything else went wrong; the cause says what.
    Failed,
}

impl CallResult {
    /// Every result, in the order of the contract.
    pub const ALL: [CallResult; 13] = [
        CallResult::Answered,
        CallResult::Busy,
        CallResult::NoAnswer,
        CallResult::Cancelled,
        CallResult::AnsweredElsewhere,
        CallResult::Rejected,
        CallResult::Barred,
        CallResult::InvalidNumber,
        CallResult::Unreachable,
        CallResult::Congestion,
        CallResult::NoFunds,
        CallResult::MediaLost,
        CallResult::Failed,
    ];

    /// The word in events, the journal and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            CallResult::Answered => "answered",
            CallResult::Busy => "busy",
            CallResult::NoAnswer => "no_answer",
            CallResult::Cancelled => "cancelled",
            CallResult::AnsweredElsewhere => "answered_elsewhere",
            CallResult::Rejected => "rejected",
            CallResult::Barred => "barred",
            CallResult::InvalidNumber => "invalid_number",
            CallResult::Unreachable => "unreachable",
            CallResult::Congestion => "congestion",
            CallResult::NoFunds => "no_funds",
            CallResult::MediaLost => "media_lost",
            CallResult::Failed => "failed",
        }
    }

    /// The result that [`CallResult::as_str`] names.
    pub fn from_word(word: &str) -> Option<CallResult> {
        CallResult::ALL.into_iter().find(|result| result.as_str() == word)
    }

    /// The cause of ISDN (Q.850) that says the same to a network.
    pub fn q850(self) -> u8 {
        match self {
            CallResult::Answered | CallResult::Cancelled => 16,
            CallResult::Busy => 17,
            CallResult::NoAnswer => 19,
            CallResult::Unreachable => 20,
            CallResult::Rejected => 21,
            CallResult::AnsweredElsewhere => 26,
            CallResult::InvalidNumber => 1,
            CallResult::Congestion => 34,
            CallResult::MediaLost => 41,
            CallResult::Barred | CallResult::NoFunds => 50,
            CallResult::Failed => 31,
        }
    }

    /// Whether an incoming call with this result is one that somebody should return.
    pub fn is_missed(self) -> bool {
        matches!(self, CallResult::NoAnswer | CallResult::Cancelled | CallResult::Busy)
    }

    /// The result of a call that never was answered, from the final SIP status and the Q.850 cause of a Reason field.
    ///
    /// The Q.850 cause wins where it is more exact than the status (RFC 3326 carries what the far network said; the
    /// pairs are those of RFC 3398 §7.2.4.1). An answered call is `Answered` or `MediaLost`, whatever its BYE said, so
    /// it does not come here.
    pub fn of_unanswered(status: Option<u16>, q850: Option<u8>) -> CallResult {
        let by_cause = q850.and_then(|cause| match cause {
            1 | 2 | 3 | 22 | 28 => Some(CallResult::InvalidNumber),
            17 => Some(CallResult::Busy),
            18 | 19 => Some(CallResult::NoAnswer),
            20 | 27 => Some(CallResult::Unreachable),
            21 => Some(CallResult::Rejected),
            26 => Some(CallResult::AnsweredElsewhere),
            34 | 38 | 41 | 42 | 44 | 47 => Some(CallResult::Congestion),
            50 | 52 | 54 | 55 | 57 => Some(CallResult::Barred),
            _ => None,
        });
        if let Some(result) = by_cause {
            return result;
        }
        match status {
            Some(486 | 600) => CallResult::Busy,
            Some(408) => CallResult::NoAnswer,
            Some(487) => CallResult::Cancelled,
            Some(603 | 607 | 608) => CallResult::Rejected,
            Some(403 | 433) => CallResult::Barred,
            Some(404 | 410 | 414 | 416 | 484 | 485 | 604) => CallResult::InvalidNumber,
            Some(480 | 430) => CallResult::Unreachable,
            Some(402) => CallResult::NoFunds,
            Some(500..=599) => CallResult::Congestion,
            _ => CallResult::Failed,
        }
    }
}

impl std::fmt::Display for CallResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who brought a call to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// This device: its user, its API or a rule of its configuration.
    Local,
    /// The other side, or the PBX for it.
    Remote,
    /// Nobody: the path to the other side failed (transport, media, session timer).
    Network,
}

/// The protocol facts behind a result. What is not known is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cause {
    /// The final SIP status, sent or received; of an answered call that of a Reason field, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The Q.850 cause of a Reason field (RFC 3326), 1–127.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q850: Option<u8>,
    /// A sentence for people: the reason phrase, the text of a Reason field, or our own words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// Who ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<EndedBy>,
}

impl Cause {
    /// We ended it, and `text` says why.
    pub fn local(text: impl Into<String>) -> Cause {
        Cause { text: Some(text.into()), by: Some(EndedBy::Local), ..Cause::default() }
    }

    /// The other side or the PBX ended it with this status and phrase.
    pub fn remote(status: u16, text: impl Into<String>) -> Cause {
        Cause { status: Some(status), text: Some(text.into()), by: Some(EndedBy::Remote), ..Cause::default() }
    }

    /// The path failed.
    pub fn network(text: impl Into<String>) -> Cause {
        Cause { text: Some(text.into()), by: Some(EndedBy::Network), ..Cause::default() }
    }
}

//! What became of an attempt, and what that says.

use std::time::Duration;

use super::dialect;
use super::mqtt::reason;
use crate::config::UpstreamKind;

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The other side answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// What it says, as far as [`Request::reads`](dialect::Request::reads) asks for it.
        said: Vec<u8>,
    },
    /// A broker acknowledged the message, in MQTT 5 also to say that it does not take it.
    Acknowledged {
        /// The reason code.
        reason: u8,
        /// What it says about that.
        sentence: Option<String>,
    },
    /// The request can't be written: it would be the same at any other time.
    Unwritable {
        /// Why.
        what: String,
    },
    /// There was no answer.
    Failed {
        /// Why.
        what: String,
        /// What to do about it.
        cure: String,
    },
}

/// What an outcome means for the event and for the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The event is delivered.
    Taken,
    /// Nothing is wanted any more.
    Gone,
    /// The other side does not want this event, or none of this kind of request.
    Refused,
    /// The other side can't take it now.
    Unavailable,
    /// The other side takes nothing from this device until somebody has changed something, here or there.
    Locked,
}

impl Outcome {
    /// What it means. A redirection is none: the next hop was not asked for in the configuration, and a POST that is
    /// redirected arrives as something else.
    pub fn verdict(&self) -> Verdict {
        match self {
            Outcome::Answered { status: 200..=299, .. } => Verdict::Taken,
            Outcome::Answered { status: 410, .. } => Verdict::Gone,
            Outcome::Answered { status: 408 | 409 | 425 | 429, .. } => Verdict::Unavailable,
            Outcome::Answered { status: 400..=499, .. } | Outcome::Unwritable { .. } => Verdict::Refused,
            Outcome::Answered { .. } | Outcome::Failed { .. } => Verdict::Unavailable,
            Outcome::Acknowledged { reason, .. } => reason::of(*reason).verdict,
        }
    }

    /// The status that was answered; the reason code of a broker.
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Answered { status, .. } => Some(*status),
            Outcome::Acknowledged { reason, .. } => Some(u16::from(*reason)),
            Outcome::Failed { .. } | Outcome::Unwritable { .. } => None,
        }
    }

    /// What the answer says, as far as it was read.
    pub fn said(&self) -> &[u8] {
        match self {
            Outcome::Answered { said, .. } => said,
            _ => &[],
        }
    }

    /// How long the other side wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Outcome::Answered { retry_after, .. } => *retry_after,
            Outcome::Failed { .. } | Outcome::Unwritable { .. } | Outcome::Acknowledged { .. } => None,
        }
    }

    /// What is the matter with an upstream of this kind, and what to do about it.
    pub fn explain(self, kind: UpstreamKind) -> (String, String) {
        let status = match self {
            Outcome::Failed { what, cure } => return (what, cure),
            Outcome::Acknowledged { reason, sentence } => {
                let reason = reason::of(reason);
                let said = sentence.map(|it| format!(": {it}")).unwrap_or_default();
                return (format!("{}{said}", reason.what), reason.cure.to_owned());
            }
            Outcome::Unwritable { what } => {
                return (what, "report it: this is a mistake of tipring".to_owned());
            }
            Outcome::Answered { status, .. } => status,
        };
        let cure = match status {
            200..=299 => "nothing",
            300..=399 => "write the URL that it redirects to as url: redirections are not followed",
            401 | 403 | 407 => {
                "check secret and authorization: it does not believe that this device may send"
            }
            404 | 405 => "check the path of url: nothing takes such a request there",
            410 => "it wants no events any more; resume the upstream if that is a mistake",
            413 => "let it take larger bodies",
            429 => "nothing: it is told later, as it asks; or let it take more",
            400..=499 => "look into its log: it refuses what it is sent",
            _ => "look into its log; events wait here",
        };
        (format!("it answers {status}"), dialect::cure(kind, status).unwrap_or(cure).to_owned())
    }
}

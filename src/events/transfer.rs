//! A call that is given away, as events tell it: how and to whom, and which leg goes on for which.

use serde::{Deserialize, Serialize};

use super::leg::Party;

/// How a call is transferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferWay {
    /// The target is called for it.
    Blind,
    /// The target has been talked with before.
    Attended,
}

/// Where a call is transferred to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Transfer {
    /// How.
    pub way: TransferWay,
    /// Who gets the call.
    pub target: Party,
    /// The other call of this device that the target is in, if it is attended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub with: Option<String>,
}

/// The leg that another one is there for since the call was given away: by REFER (RFC 3515), or by an INVITE with Replaces
/// (RFC 3891).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Follows {
    /// The leg whose place it takes.
    pub leg_id: String,
    /// How the call was given away.
    pub way: TransferWay,
}

//! What waits in a mailbox, in the words that events and the API use.

use serde::{Deserialize, Serialize};

/// What a PBX says of a mailbox (RFC 3842). What it does not say is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Mailbox {
    /// Whether messages wait, of whatever kind.
    pub waiting: bool,
    /// Voice messages that were not heard yet, urgent ones included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new: Option<u32>,
    /// Voice messages that were heard and kept, urgent ones included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<u32>,
    /// The urgent ones of the new.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub urgent_new: Option<u32>,
    /// The urgent ones of the old.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub urgent_old: Option<u32>,
    /// The address of the mailbox, as the PBX names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
}

//! What a line wants of its calls, and what one call is started with.

use crate::sip::name_addr::NameAddr;
use std::time::Duration;

/// Reliable provisional responses (RFC 3262).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Prack {
    /// Not offered; an INVITE that requires it is refused with 420.
    Off,
    /// Offered, and used where the peer asks for it.
    #[default]
    Supported,
    /// Our INVITEs require it, and our 18x are reliable wherever the peer supports it.
    Required,
}

/// Session timers (RFC 4028).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionTimer {
    /// Not offered; a timer that the peer asks for is left to the peer.
    Off,
    /// Offered and honoured.
    #[default]
    Supported,
    /// Also kept up against a peer without the extension: we refresh.
    Always,
}

/// What a line wants of its calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallSettings {
    /// Reliable provisional responses.
    pub prack: Prack,
    /// Session timers.
    pub session_timer: SessionTimer,
    /// The session interval we ask for; never below `min_se`.
    pub session_expires: Duration,
    /// The smallest session interval we take; at least 90 s (RFC 4028 §5).
    pub min_se: Duration,
}

impl Default for CallSettings {
    fn default() -> CallSettings {
        CallSettings {
            prack: Prack::default(),
            session_timer: SessionTimer::default(),
            session_expires: Duration::from_secs(1800),
            min_se: Duration::from_secs(90),
        }
    }
}

/// What one outgoing call is started with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InviteOptions {
    /// Our offer; `None` lets the peer offer.
    pub offer: Option<Vec<u8>>,
    /// Hide who calls: From is anonymous and `Privacy: id` is asked for (RFC 3323, RFC 3325).
    pub anonymous: bool,
    /// Another identity than the line's (`caller_id`), as P-Preferred-Identity and P-Asserted-Identity.
    pub identity: Option<NameAddr>,
    /// The display name of From, instead of the account's.
    pub display_name: Option<String>,
    /// More header fields, name and value.
    pub fields: Vec<(String, String)>,
}

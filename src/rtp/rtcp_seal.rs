//! What protects RTCP: the keys of the media, or those of a handshake on its own port (RFC 5764 §4.1).

use super::plan::{KeyPair, RtcpKeys};
use super::srtp::{BadKeys, Protector, Unprotector};

/// What protects RTCP.
#[derive(Default)]
pub(super) enum RtcpSeal {
    /// What protects the media.
    #[default]
    Shared,
    /// Nothing yet: a handshake is waited for.
    Waiting,
    /// The keys of that handshake.
    Own(Box<(Protector, Unprotector)>),
}

impl RtcpSeal {
    /// What these keys make.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses them.
    pub(super) fn new(keys: &RtcpKeys) -> Result<RtcpSeal, BadKeys> {
        Ok(match keys {
            RtcpKeys::Shared => RtcpSeal::Shared,
            RtcpKeys::Own(None) => RtcpSeal::Waiting,
            RtcpKeys::Own(Some(KeyPair { ours, theirs })) => {
                RtcpSeal::Own(Box::new((Protector::new(ours.clone())?, Unprotector::new(theirs.clone())?)))
            }
        })
    }

    /// Whether nothing may be sent or taken, where `shared` says so of the media.
    pub(super) fn is_closed(&self, shared: bool) -> bool {
        match self {
            RtcpSeal::Shared => shared,
            RtcpSeal::Waiting => true,
            RtcpSeal::Own(_) => false,
        }
    }

    /// What protects what is sent.
    pub(super) fn protector<'a>(
        &'a mut self,
        shared: &'a mut Option<Protector>,
    ) -> Option<&'a mut Protector> {
        match self {
            RtcpSeal::Own(own) => Some(&mut own.0),
            RtcpSeal::Shared | RtcpSeal::Waiting => shared.as_mut(),
        }
    }

    /// What opens what has come.
    pub(super) fn unprotector<'a>(
        &'a mut self,
        shared: &'a mut Option<Unprotector>,
    ) -> Option<&'a mut Unprotector> {
        match self {
            RtcpSeal::Own(own) => Some(&mut own.1),
            RtcpSeal::Shared | RtcpSeal::Waiting => shared.as_mut(),
        }
    }
}

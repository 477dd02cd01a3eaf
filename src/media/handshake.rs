//! The handshakes of a leg (DTLS-SRTP): from what was agreed on to the keys of its session. RTCP has one of its own where
//! it has a port of its own (RFC 5764 §4.1).

use std::net::SocketAddr;
use std::sync::Arc;

use super::plan::Dtls;
use crate::now::Now;
use crate::rtp::dtls::{Association, Event, Failure, Identity};
use crate::rtp::plan::KeyPair;

/// What there is to tell of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The keys are there, and the far end was at this address.
    Ready(SocketAddr),
    /// There will be none.
    Failed(Failure),
}

/// Handshakes of one leg by one of its sockets: the one that was agreed on last, and the keys of the last one that was done.
pub(super) struct Handshake {
    identity: Option<Arc<Identity>>,
    agreed: Option<(Dtls, Association)>,
    since_us: u64,
    keys: Option<KeyPair>,
}

impl Handshake {
    pub(super) fn new(identity: Option<Arc<Identity>>) -> Handshake {
        Handshake { identity, agreed: None, since_us: 0, keys: None }
    }

    /// What was agreed on now. An association that is the same goes on; while another one is made, the keys of the one
    /// before stay in force.
    ///
    /// # Errors
    /// Why there can't be a handshake.
    pub(super) fn agree(&mut self, now: Now, dtls: Option<&Dtls>) -> Result<(), String> {
        let Some(dtls) = dtls else {
            (self.agreed, self.keys) = (None, None);
            return Ok(());
        };
        if self.agreed.as_ref().is_some_and(|(agreed, _)| agreed == dtls) {
            return Ok(());
        }
        let identity = self.identity.as_ref().ok_or(Failure::Cryptography.to_string())?;
        let association = Association::new(now, identity, dtls.role, dtls.fingerprints.clone());
        self.agreed = Some((dtls.clone(), association));
        self.since_us = now.mono_us;
        Ok(())
    }

    /// The keys in force.
    pub(super) fn keys(&self) -> Option<&KeyPair> {
        self.keys.as_ref()
    }

    /// Whether datagrams of DTLS belong to it.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreed.is_some()
    }

    /// When the present one was agreed on.
    pub(super) fn since_us(&self) -> u64 {
        self.since_us
    }

    /// Shakes hands once more, if it is ours to begin.
    pub(super) fn renew(&mut self, now: Now) {
        if let Some((_, association)) = &mut self.agreed {
            association.renew(now);
        }
    }

    /// Takes a datagram of DTLS; `expected` if it comes from where the far end should be.
    pub(super) fn handle(&mut self, now: Now, from: SocketAddr, expected: bool, datagram: &[u8]) {
        if let Some((_, association)) = &mut self.agreed {
            association.handle(now, from, expected, datagram);
        }
    }

    /// Does what is due, towards where the far end is known to be.
    pub(super) fn handle_timeout(&mut self, now: Now, destination: Option<SocketAddr>) {
        if let Some((_, association)) = &mut self.agreed {
            association.set_destination(now, destination);
            association.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.agreed.as_ref().and_then(|(_, association)| association.poll_timeout())
    }

    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.agreed.as_mut().and_then(|(_, association)| association.poll_transmit())
    }

    pub(super) fn poll_outcome(&mut self) -> Option<Outcome> {
        let (_, association) = self.agreed.as_mut()?;
        Some(match association.poll_event()? {
            Event::Ready { keys, from } => {
                self.keys = Some(keys);
                Outcome::Ready(from)
            }
            Event::Failed(why) => Outcome::Failed(why),
        })
    }
}

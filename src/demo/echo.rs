//! The echo: what arrives on an RTP port goes back to where it came from.
//!
//! Only the source identifier (SSRC) is changed, lest the sender takes the echo for a loop of its own stream
//! (RFC 3550 §8.2).

use std::net::SocketAddr;

/// The fixed part of an RTP header (RFC 3550 §5.1).
const HEADER: usize = 12;
/// What is added to the sender's SSRC.
const OTHER_SOURCE: u8 = 0x5A;

/// The echo on one port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Echo {
    /// Who is heard; others are ignored.
    peer: Option<SocketAddr>,
    /// Packets that were sent back.
    pub packets: u64,
    /// Takes everything and gives nothing back.
    pub silent: bool,
}

impl Echo {
    /// An echo that has heard nobody yet.
    pub fn new(silent: bool) -> Echo {
        Echo { silent, ..Echo::default() }
    }

    /// What goes back for a datagram, if anything.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        if !is_rtp(datagram) || self.silent || *self.peer.get_or_insert(from) != from {
            return None;
        }
        self.packets += 1;
        let mut back = datagram.to_vec();
        if let Some(ssrc) = back.get_mut(8) {
            *ssrc ^= OTHER_SOURCE;
        }
        Some(back)
    }

    /// The far end may speak from another address from now on: a new offer was answered.
    pub fn rearm(&mut self) {
        self.peer = None;
    }
}

/// RTP version 2, and none of the packet types of RTCP (RFC 5761 §4).
fn is_rtp(datagram: &[u8]) -> bool {
    match datagram {
        [first, second, ..] => datagram.len() > HEADER && first >> 6 == 2 && !(192..=223).contains(second),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload_type: u8) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
        packet.extend_from_slice(b"voice");
        packet
    }

    #[test]
    fn voice_comes_back_as_another_source() {
        let mut echo = Echo::default();
        let from = "192.0.2.1:4000".parse().unwrap();
        let back = echo.handle(from, &packet(8)).unwrap();
        assert_eq!(back[..8], packet(8)[..8]);
        assert_ne!(back[8..12], packet(8)[8..12]);
        assert_eq!(&back[12..], b"voice");
    }

    #[test]
    fn others_and_what_is_no_voice_are_ignored() {
        let mut echo = Echo::default();
        let from = "192.0.2.1:4000".parse().unwrap();
        assert!(echo.handle(from, &packet(200)).is_none(), "RTCP");
        assert!(echo.handle(from, b"").is_none() && echo.handle(from, &[0x80; 12]).is_none());
        assert!(echo.handle(from, &packet(0)).is_some());
        assert!(echo.handle("192.0.2.2:4000".parse().unwrap(), &packet(0)).is_none());
        echo.rearm();
        assert!(echo.handle("192.0.2.2:4000".parse().unwrap(), &packet(0)).is_some());
        assert_eq!(echo.packets, 2);
    }
}

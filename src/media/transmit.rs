//! Packets on their way out, in a ring of buffers. Room for all that there may ever be is reserved once; what is never needed of
//! it is never touched, and so no memory of the machine.

use std::net::SocketAddr;

use super::command::PortId;
use crate::nat::relay::StreamId;
use crate::rtp::packet::MAX_PACKET;

/// Which of a port's two sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Component {
    /// RTP, and RTCP too under rtcp-mux.
    Rtp,
    /// RTCP.
    Rtcp,
}

impl Component {
    /// Both.
    pub const ALL: [Component; 2] = [Component::Rtp, Component::Rtcp];

    /// Its number in ICE (RFC 8445 §4).
    pub fn number(self) -> u8 {
        match self {
            Component::Rtp => 1,
            Component::Rtcp => 2,
        }
    }
}

/// A packet to send, whose bytes are in the buffer handed to `Engine::poll_transmit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The port it leaves from.
    pub port: PortId,
    /// The socket of that port.
    pub component: Component,
    /// Where it goes.
    pub to: SocketAddr,
    /// The stream it goes by, to a TURN server, and then by no socket.
    pub stream: Option<StreamId>,
    /// How many bytes of the buffer it has.
    pub len: usize,
}

/// Packets that may wait; more than a tick of a hundred legs makes.
const WAITING_MAX: usize = 1024;

struct Slot {
    head: Transmit,
    bytes: [u8; MAX_PACKET],
}

/// The packets that wait for `poll_transmit`.
pub(super) struct Outbox {
    /// Those that were ever needed, within the room for `most`.
    slots: Vec<Slot>,
    most: usize,
    first: usize,
    count: usize,
    /// Packets left out because nobody polled.
    pub(super) overflowed: u64,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { slots: Vec::with_capacity(WAITING_MAX), most: 0, first: 0, count: 0, overflowed: 0 }
    }

    /// Takes as many packets from now on as `legs` legs make between two polls.
    pub(super) fn reserve(&mut self, legs: usize) {
        self.most = self.most.max((legs * 8).clamp(16, WAITING_MAX));
    }

    /// The slot behind the last packet that waits.
    fn free(&mut self) -> Option<&mut Slot> {
        if self.count == self.most {
            return None;
        }
        if self.count == self.slots.len() {
            self.slots.rotate_left(self.first);
            self.first = 0;
            let nowhere = Transmit {
                port: PortId(0),
                component: Component::Rtp,
                to: SocketAddr::from(([0, 0, 0, 0], 0)),
                stream: None,
                len: 0,
            };
            self.slots.push(Slot { head: nowhere, bytes: [0; MAX_PACKET] });
        }
        let at = (self.first + self.count) % self.slots.len();
        self.slots.get_mut(at)
    }

    /// Puts a packet in line, written by `write`, which says how long it became (`None`: there is none).
    pub(super) fn push(
        &mut self,
        port: PortId,
        component: Component,
        to: SocketAddr,
        write: impl FnOnce(&mut [u8; MAX_PACKET]) -> Option<usize>,
    ) -> bool {
        let Some(slot) = self.free() else {
            self.overflowed += 1;
            return false;
        };
        let Some(len) = write(&mut slot.bytes) else { return false };
        slot.head = Transmit { port, component, to, stream: None, len };
        self.count += 1;
        true
    }

    /// The packet that has waited longest, copied into `buffer`; one that does not fit is left out.
    pub(super) fn poll(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while self.count > 0 {
            let slot = self.slots.get(self.first)?;
            self.first += 1;
            if self.first == self.slots.len() {
                self.first = 0;
            }
            self.count -= 1;
            if self.count == 0 {
                // The next ones find the same few buffers.
                self.first = 0;
            }
            let len = slot.head.len;
            if let (Some(target), Some(bytes)) = (buffer.get_mut(..len), slot.bytes.get(..len)) {
                target.copy_from_slice(bytes);
                return Some(slot.head);
            }
            self.overflowed += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn packets_leave_in_order_and_a_full_ring_refuses() {
        let mut outbox = Outbox::new();
        outbox.reserve(1);
        let mut sent = 0u8;
        while outbox.push(PortId(7), Component::Rtp, address(u16::from(sent)), |bytes| {
            bytes[0] = sent;
            Some(1)
        }) {
            sent += 1;
        }
        assert_eq!(sent, 16);
        assert_eq!(outbox.overflowed, 1);
        outbox.reserve(4);
        assert!(outbox.push(PortId(7), Component::Rtcp, address(99), |bytes| {
            bytes[0] = sent;
            Some(1)
        }));
        let mut buffer = [0; MAX_PACKET];
        for expected in 0..=sent {
            let transmit = outbox.poll(&mut buffer).expect("a packet");
            assert_eq!((transmit.len, buffer[0]), (1, expected));
        }
        assert_eq!(outbox.poll(&mut buffer), None);
    }

    #[test]
    fn only_as_many_buffers_are_touched_as_ever_wait_together() {
        let mut outbox = Outbox::new();
        outbox.reserve(32);
        let (mut sent, mut seen) = (0u32, 0u32);
        let mut buffer = [0; MAX_PACKET];
        let mut poll = |outbox: &mut Outbox| {
            let transmit = outbox.poll(&mut buffer)?;
            assert_eq!(buffer[..transmit.len], seen.to_be_bytes());
            seen += 1;
            Some(())
        };
        for round in 0..50 {
            for _ in 0..20 {
                let write = |bytes: &mut [u8; MAX_PACKET]| {
                    bytes[..4].copy_from_slice(&sent.to_be_bytes());
                    Some(4)
                };
                assert!(outbox.push(PortId(7), Component::Rtp, address(1), write));
                sent += 1;
            }
            // Now and then some stay: those behind them go where there is room.
            let stay = if round % 3 == 0 { 11 } else { 0 };
            while outbox.count > stay {
                poll(&mut outbox);
            }
        }
        while poll(&mut outbox).is_some() {}
        assert_eq!((seen, outbox.overflowed, outbox.slots.len()), (1000, 0, 31));
        assert!(outbox.slots.capacity() >= WAITING_MAX, "nothing is allocated while legs speak");
    }

    #[test]
    fn a_packet_not_written_takes_no_place() {
        let mut outbox = Outbox::new();
        outbox.reserve(1);
        assert!(!outbox.push(PortId(1), Component::Rtp, address(1), |_| None));
        assert_eq!(outbox.poll(&mut [0; 10]), None);
    }
}

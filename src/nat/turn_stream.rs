//! The messages of a TURN stream (RFC 8656 §3.1, §12.5): cut where they end, however they come.

use crate::nat::stun::{Fault, HEADER, MAX_MESSAGE};
use crate::nat::turn_message::CHANNEL_HEADER;

/// The longest message that is kept: one as long as a datagram may be, and the head of its channel.
const LONGEST: usize = MAX_MESSAGE + CHANNEL_HEADER;
/// The magic cookie of STUN (RFC 8489 §5), behind type and length.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// What has come of a stream and is not read yet.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    octets: Vec<u8>,
    /// Octets to come of a message that is too long to be of use. Whoever may send to the relayed address can make one:
    /// it must not cost the stream.
    passed_over: usize,
}

impl Inbox {
    /// More octets.
    pub fn push(&mut self, octets: &[u8]) {
        let skipped = self.passed_over.min(octets.len());
        self.passed_over -= skipped;
        self.octets.extend_from_slice(octets.get(skipped..).unwrap_or_default());
    }

    /// The next message, if it is there as a whole.
    ///
    /// # Errors
    /// [`Fault::NotStun`]: this is no TURN, or has lost its step; nothing that follows can be read.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let [first, _, high, low, rest @ ..] = self.octets.as_slice() else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let whole = match first >> 6 {
                0 if length.is_multiple_of(4) && rest.iter().zip(COOKIE).all(|(one, two)| *one == two) => {
                    HEADER + length
                }
                1 if *first < 0x50 => CHANNEL_HEADER + length.next_multiple_of(4),
                _ => return Err(Fault::NotStun),
            };
            if first >> 6 == 0 && rest.len() < COOKIE.len() {
                return Ok(None);
            }
            if whole > LONGEST {
                let here = whole.min(self.octets.len());
                self.octets.drain(..here);
                self.passed_over = whole - here;
                continue;
            }
            if self.octets.len() < whole {
                return Ok(None);
            }
            return Ok(Some(self.octets.drain(..whole).collect()));
        }
    }

    /// Octets that are kept: less than one message once all have been read.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stun::{Class, Message, Seal, TransactionId};

    fn binding() -> Vec<u8> {
        Message::new(Class::Indication, TransactionId([7; 12])).write(Seal::Plain)
    }

    fn all(inbox: &mut Inbox) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| inbox.pop().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_whole_however_they_come_in() {
        let channel = b"\x40\x01\x00\x03abc\x00".to_vec();
        let whole = [binding(), channel.clone(), channel.clone(), binding()].concat();
        for step in [1, 3, 7, whole.len()] {
            let (mut inbox, mut found) = (Inbox::default(), Vec::new());
            for piece in whole.chunks(step) {
                inbox.push(piece);
                found.extend(all(&mut inbox));
            }
            assert_eq!(found, [binding(), channel.clone(), channel.clone(), binding()], "by {step}");
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_kept_nowhere() {
        let long = [&[0x40, 1, 0xFF, 0xFF][..], &vec![9; 65_536]].concat();
        for step in [1_000, long.len()] {
            let mut inbox = Inbox::default();
            for piece in long.chunks(step) {
                inbox.push(piece);
                assert_eq!(inbox.pop(), Ok(None));
                assert!(inbox.len() < 4, "{} octets are kept", inbox.len());
            }
            inbox.push(&binding());
            assert_eq!(all(&mut inbox), [binding()]);
        }
    }

    #[test]
    fn what_is_no_turn_ends_the_stream_at_once() {
        for wrong in [
            &b"SIP/2.0 200 OK\r\n"[..],
            b"\x50\x00\x00\x01",
            b"\x80\x08\x00\x01",
            b"\x00\x01\x00\x03\x21\x12",
            b"\x00\x01\x00\x00\x21\x13",
            b"\x16\x03\x01\x02\x00",
        ] {
            let mut inbox = Inbox::default();
            inbox.push(wrong);
            assert_eq!(inbox.pop(), Err(Fault::NotStun), "{wrong:?}");
        }
    }
}

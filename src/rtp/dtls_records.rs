//! What of a datagram the DTLS library gets to see (RFC 6347 §4): whole, sane records of a handshake.
//!
//! Before the keys are there nothing is authenticated, so alerts in clear are not believed, repeated messages are
//! told apart, and the fragments of a message fit together and end somewhere.

/// Bytes of a record's head.
const RECORD_HEAD: usize = 13;
/// Bytes of a handshake message's head.
const MESSAGE_HEAD: usize = 12;
/// The longest handshake message: a chain of certificates.
const MAX_MESSAGE: usize = 16 * 1024;
/// The highest number of a handshake message.
const MAX_MESSAGE_NUMBER: u16 = 32;
/// The longest encrypted handshake record (Finished), with room to spare.
const MAX_SEALED: usize = 512;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Whether a datagram is one of DTLS (RFC 7983 §7).
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63, ..])
}

/// A datagram, sifted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sifted {
    /// The records that may be looked at.
    pub(super) records: Vec<u8>,
    /// Handshake messages and fragments among them.
    pub(super) messages: u32,
    /// The highest number of a handshake message among them.
    pub(super) number: Option<u16>,
    /// A handshake message was there that is answered already.
    pub(super) repeats: bool,
    /// A first ClientHello is among the records, or was left out as a repetition.
    pub(super) begins: bool,
    /// The last alert in clear.
    pub(super) alert: Option<u8>,
}

/// Sifts a datagram. Handshake messages below `floor` were answered before.
pub(super) fn sift(datagram: &[u8], floor: u16) -> Sifted {
    let mut sifted = Sifted::default();
    let mut rest = datagram;
    while let Some((record, after)) = take_record(rest) {
        rest = after;
        let (Some(kind), Some(body)) = (record.first(), record.get(RECORD_HEAD..)) else { break };
        let epoch = number(record, 3);
        let fits = match (*kind, epoch) {
            (CHANGE_CIPHER_SPEC, Some(0)) => body == [1],
            (ALERT, Some(0)) => {
                sifted.alert = body.get(1).copied();
                false
            }
            (HANDSHAKE, Some(0)) => sifted.look_at(body, floor),
            (HANDSHAKE | ALERT, Some(1)) => {
                // What can't be read yet: after the last answer it is a repetition.
                sifted.repeats |= *kind == HANDSHAKE;
                body.len() <= MAX_SEALED
            }
            _ => false,
        };
        if fits {
            sifted.records.extend_from_slice(record);
        }
    }
    sifted
}

impl Sifted {
    /// Whether the messages of a record are all new and sane.
    fn look_at(&mut self, body: &[u8], floor: u16) -> bool {
        let mut rest = body;
        let (mut messages, mut highest, mut begins) = (0, 0, false);
        while !rest.is_empty() {
            let Some((message, after)) = take_message(rest) else { return false };
            rest = after;
            let Some(at) = number(message, 4).filter(|at| *at <= MAX_MESSAGE_NUMBER) else { return false };
            let is_first_hello = at == 0 && message.first() == Some(&CLIENT_HELLO);
            self.begins |= is_first_hello;
            if at < floor {
                self.repeats = true;
                return false;
            }
            messages += 1;
            highest = highest.max(at);
            begins |= is_first_hello;
        }
        self.messages += messages;
        self.number = self.number.max((messages > 0).then_some(highest));
        self.begins |= begins;
        messages > 0
    }
}

fn take_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_version = matches!(bytes.get(1..3), Some([0xfe, 0xff | 0xfd]));
    let length = usize::from(number(bytes, 11)?);
    if !is_version || length == 0 {
        return None;
    }
    bytes.split_at_checked(RECORD_HEAD + length)
}

/// A message, or a fragment that fills the rest of its record.
fn take_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = long(bytes, 1)?;
    let (offset, fragment) = (long(bytes, 6)?, long(bytes, 9)?);
    let is_whole = offset == 0 && fragment == length;
    let fits = length <= MAX_MESSAGE && offset + fragment <= length && (is_whole || fragment > 0);
    let (message, rest) = bytes.split_at_checked(MESSAGE_HEAD + fragment)?;
    (fits && (is_whole || rest.is_empty())).then_some((message, rest))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    match bytes.get(at..at + 2) {
        Some([high, low]) => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// A number of three bytes.
fn long(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..at + 3) {
        Some([a, b, c]) => Some(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, at: u16, length: usize, offset: usize, fragment: &[u8]) -> Vec<u8> {
        let three = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
        let mut bytes = vec![kind];
        bytes.extend(three(length));
        bytes.extend(at.to_be_bytes());
        bytes.extend(three(offset));
        bytes.extend(three(fragment.len()));
        bytes.extend(fragment);
        bytes
    }

    fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xfe, 0xfd];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 7]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn whole_messages_and_fragments_pass() {
        let hello = record(HANDSHAKE, 0, &message(1, 0, 4, 0, b"abcd"));
        let sifted = sift(&hello, 0);
        assert_eq!((sifted.records, sifted.messages, sifted.number), (hello.clone(), 1, Some(0)));
        assert!(sifted.begins && !sifted.repeats);
        let mut flight = record(HANDSHAKE, 0, &message(11, 2, 900, 100, &[7; 50]));
        flight.extend(record(
            HANDSHAKE,
            0,
            &[message(14, 3, 0, 0, b""), message(16, 4, 1, 0, b"x")].concat(),
        ));
        flight.extend(record(CHANGE_CIPHER_SPEC, 0, &[1]));
        flight.extend(record(HANDSHAKE, 1, &[9; 40]));
        let sifted = sift(&flight, 2);
        assert_eq!((sifted.records == flight, sifted.messages, sifted.number), (true, 3, Some(4)));
    }

    #[test]
    fn what_was_answered_is_a_repetition() {
        let hello = record(HANDSHAKE, 0, &message(1, 0, 4, 0, b"abcd"));
        let sifted = sift(&hello, 1);
        assert!(sifted.records.is_empty() && sifted.repeats && sifted.begins);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let good = record(HANDSHAKE, 0, &message(1, 0, 4, 0, b"abcd"));
        for bad in [
            record(ALERT, 0, &[2, 40]),
            record(23, 0, b"data"),
            record(23, 1, b"data"),
            record(CHANGE_CIPHER_SPEC, 0, &[2]),
            record(HANDSHAKE, 2, b"data"),
            record(HANDSHAKE, 1, &[0; MAX_SEALED + 1]),
            record(HANDSHAKE, 0, &message(1, 0, 4, 0, b"abcd")[..14]),
            record(HANDSHAKE, 0, &message(1, 0, 9, 3, b"abcdefg")),
            record(HANDSHAKE, 0, &message(1, 0, 9, 3, b"")),
            record(HANDSHAKE, 0, &message(1, MAX_MESSAGE_NUMBER + 1, 4, 0, b"abcd")),
            record(HANDSHAKE, 0, &message(1, 0, MAX_MESSAGE + 1, 0, b"abcd")),
            record(HANDSHAKE, 0, &[message(1, 0, 9, 0, b"abc"), message(2, 1, 1, 0, b"x")].concat()),
        ] {
            let both = [bad.clone(), good.clone()].concat();
            assert_eq!(sift(&both, 0).records, good, "{bad:?}");
        }
        assert_eq!(sift(&record(ALERT, 0, &[2, 42]), 0).alert, Some(42));
        for short in 0..good.len() {
            assert!(sift(&good[..short], 0).records.is_empty());
        }
    }
}

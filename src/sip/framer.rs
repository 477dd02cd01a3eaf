//! Messages out of a stream (TCP, TLS): where one ends and the next begins (RFC 3261 §18.3), and the pings
//! between them (RFC 5626 §3.5.1). Over WebSocket that is settled, and each of its messages is one of ours or a ping
//! (RFC 7118 §5.2.1, §5.2.3).
//!
//! The framer reads Content-Length with the eyes of `reader`, so that the two never disagree about it. What
//! leaves doubt about where the next message begins is fatal for the connection.

use super::fault::{Fault, Unreadable};
use super::message::Message;
use super::reader::{Draft, MAX_MESSAGE, read_datagram};
use std::collections::VecDeque;

/// What a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Box<Message>),
    /// CRLFCRLF: the peer wants to know whether we are alive. Send CRLF.
    Ping,
    /// CRLF: the answer to our ping (see [`Framer::pinged`]).
    Pong,
}

/// The octets of one connection that are not yet read.
///
/// It holds at most one message (64 KiB) and what came with its end; after a fatal error it takes nothing
/// more.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// The octets at the start of the buffer that are done with.
    start: usize,
    /// From where to look for the end of the head.
    scanned: usize,
    /// Head and body of the message at the start, once its head is there.
    lengths: Option<(usize, usize)>,
    pings: u32,
    broken: bool,
    /// What came in whole, over a transport that tells where a message ends.
    whole: Option<VecDeque<Vec<u8>>>,
}

impl Framer {
    /// For a new connection.
    pub fn new() -> Framer {
        Framer::default()
    }

    /// For a new connection whose transport tells where a message ends: each [`Framer::push`] is one, and what can't be
    /// read is never fatal.
    pub fn of_messages() -> Framer {
        Framer { whole: Some(VecDeque::new()), ..Framer::default() }
    }

    /// Takes what came in. Call [`Framer::next`] until it says `None` before the next octets.
    pub fn push(&mut self, octets: &[u8]) {
        if self.broken {
            return;
        }
        if let Some(whole) = &mut self.whole {
            whole.push_back(octets.to_vec());
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// Notes that we sent CRLFCRLF: the next CRLF between messages is the answer, and two in one read are two
    /// answers and no ping of the peer.
    pub fn pinged(&mut self) {
        self.pings = self.pings.saturating_add(1);
    }

    /// No answer to a ping is expected any more: what looks like one is a ping of the peer.
    pub fn forget_pings(&mut self) {
        self.pings = 0;
    }

    /// How many octets wait for the rest of their message.
    pub fn waiting(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// The next frame that is complete.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Frame, Unreadable>> {
        if self.broken {
            return None;
        }
        if self.whole.is_some() {
            return self.next_whole();
        }
        if self.lengths.is_none()
            && let Some(frame) = self.between_messages()
        {
            return Some(Ok(frame));
        }
        let (head, body) = match self.lengths {
            Some(lengths) => lengths,
            None => {
                let head = match self.find_head()? {
                    Ok(head) => head,
                    Err(unreadable) => return Some(Err(self.break_off(unreadable))),
                };
                let octets = self.buffer.get(self.start..)?;
                let draft = Draft::read(octets.get(..head)?);
                let body = match body_length(&draft, head) {
                    Ok(body) => body,
                    Err(why) => {
                        let unreadable = draft.unreadable(why, true);
                        return Some(Err(self.break_off(unreadable)));
                    }
                };
                // Usually the whole message came at once, and its head need not be read again.
                if let Some(body) = octets.get(head..head + body) {
                    let read = draft.finish(body);
                    let length = head + body.len();
                    return Some(self.done(length, read));
                }
                *self.lengths.insert((head, body))
            }
        };
        let message = self.buffer.get(self.start..self.start + head + body)?;
        let read = Draft::read(message.get(..head)?).finish(message.get(head..)?);
        Some(self.done(head + body, read))
    }

    fn next_whole(&mut self) -> Option<Result<Frame, Unreadable>> {
        loop {
            let octets = self.whole.as_mut()?.pop_front()?;
            match read_datagram(&octets) {
                Ok(Some(message)) => return Some(Ok(Frame::Message(Box::new(message)))),
                Err(unreadable) => return Some(Err(unreadable)),
                Ok(None) if octets.starts_with(b"\r\n\r\n") => return Some(Ok(Frame::Ping)),
                Ok(None) if octets.starts_with(b"\r\n") => {
                    self.pings = self.pings.saturating_sub(1);
                    return Some(Ok(Frame::Pong));
                }
                Ok(None) => {}
            }
        }
    }

    /// Moves past a message.
    fn done(&mut self, length: usize, read: Result<Message, Unreadable>) -> Result<Frame, Unreadable> {
        self.start += length;
        self.scanned = 0;
        self.lengths = None;
        read.map(|message| Frame::Message(Box::new(message)))
    }

    /// Moves past what may stand between messages; a ping or a pong is told.
    fn between_messages(&mut self) -> Option<Frame> {
        loop {
            let rest = self.buffer.get(self.start..)?;
            match rest {
                // Some exchanges end their keep-alive with a zero.
                [0, ..] => self.start += 1,
                [b'\r', b'\n', ..] if self.pings > 0 => {
                    self.pings -= 1;
                    self.start += 2;
                    return Some(Frame::Pong);
                }
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.start += 4;
                    return Some(Frame::Ping);
                }
                // It may be half a ping.
                [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return None,
                [b'\r', b'\n', ..] => self.start += 2,
                _ => return None,
            }
        }
    }

    /// The length of the head of the message at the start; `None` if it is not complete.
    fn find_head(&mut self) -> Option<Result<usize, Unreadable>> {
        let rest = self.buffer.get(self.start..)?;
        if rest.is_empty() || matches!(rest, [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] | [b'\r']) {
            return None;
        }
        if !may_begin_message(rest) {
            return Some(Err(Unreadable { why: Fault::NotSip, reply: None, fatal: true }));
        }
        // The end may have begun three octets before what was looked at.
        let mut from = self.scanned.saturating_sub(3);
        self.scanned = rest.len();
        while let Some(at) = rest.get(from..)?.iter().position(|&octet| octet == b'\r') {
            from += at;
            if rest.get(from..)?.starts_with(b"\r\n\r\n") {
                return Some(Ok(from + 4));
            }
            from += 1;
        }
        (rest.len() > MAX_MESSAGE).then(|| Err(Draft::read(rest).unreadable(Fault::TooLong, true)))
    }

    /// Takes nothing more.
    fn break_off(&mut self, why: Unreadable) -> Unreadable {
        *self = Framer { broken: true, ..Framer::default() };
        why
    }
}

/// The length of the body, unless there is doubt about it.
fn body_length(draft: &Draft<'_>, head: usize) -> Result<usize, Fault> {
    if let Some(doubt) = draft.doubt {
        return Err(doubt);
    }
    if draft.end != head {
        return Err(Fault::FieldLine);
    }
    match draft.content_length {
        None => Err(Fault::Missing("Content-Length")),
        Some(body) if body > MAX_MESSAGE || head + body > MAX_MESSAGE => Err(Fault::TooLong),
        Some(body) => Ok(body),
    }
}

/// Whether a message may begin like this: a token and a blank, of printable octets.
fn may_begin_message(octets: &[u8]) -> bool {
    /// No method is this long.
    const MAX_METHOD: usize = 256;
    match octets.iter().position(|&octet| octet == b' ') {
        Some(blank) => blank <= MAX_METHOD && octets.get(..blank).is_some_and(is_start),
        None => octets.len() <= MAX_METHOD && is_start(octets),
    }
}

fn is_start(octets: &[u8]) -> bool {
    use super::grammar::is_token;
    !octets.is_empty() && octets.iter().all(|&octet| is_token(octet) || octet == b'/')
}

#[cfg(test)]
#[path = "framer_tests.rs"]
mod tests;

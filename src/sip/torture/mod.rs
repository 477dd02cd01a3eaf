//! The torture tests of RFC 4475 and RFC 5118, each under the name its RFC gives the message, and further
//! cases that readers of SIP are known to get wrong. The messages are written from what the sections
//! describe.

mod edge_cases;
mod fields_cases;
mod invalid;
mod ipv6;
mod layers;
mod round_trip;
mod valid;

use super::fault::{Fault, Unreadable};
use super::framer::{Frame, Framer};
use super::message::{Message, Request, Response};
use super::reader::read_datagram;

/// Lines of text as a message: each line ends with CRLF on the wire.
pub(super) fn wire(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// The message in a datagram. It must also be the same once written and read again.
pub(super) fn message(datagram: impl AsRef<[u8]>) -> Message {
    let datagram = datagram.as_ref();
    let message = match read_datagram(datagram) {
        Ok(Some(message)) => message,
        other => panic!("{other:?}\n{}", String::from_utf8_lossy(datagram)),
    };
    let again = read_datagram(&message.write());
    assert_eq!(again, Ok(Some(message.clone())), "written and read again");
    message
}

pub(super) fn request(datagram: impl AsRef<[u8]>) -> Request {
    match message(datagram) {
        Message::Request(request) => request,
        Message::Response(response) => panic!("a response: {response:?}"),
    }
}

pub(super) fn response(datagram: impl AsRef<[u8]>) -> Response {
    match message(datagram) {
        Message::Response(response) => response,
        Message::Request(request) => panic!("a request: {request:?}"),
    }
}

pub(super) fn unreadable(datagram: impl AsRef<[u8]>) -> Unreadable {
    let datagram = datagram.as_ref();
    match read_datagram(datagram) {
        Err(unreadable) => unreadable,
        other => panic!("{other:?}\n{}", String::from_utf8_lossy(datagram)),
    }
}

/// What is wrong with a request, and the answer as text.
pub(super) fn refused(datagram: impl AsRef<[u8]>) -> (Fault, String) {
    let Unreadable { why, reply, .. } = unreadable(datagram);
    let reply = reply.unwrap_or_else(|| panic!("{why:?} without an answer")).write();
    (why, String::from_utf8(reply).unwrap())
}

/// What is wrong with octets that are dropped without an answer.
pub(super) fn dropped(datagram: impl AsRef<[u8]>) -> Fault {
    let Unreadable { why, reply, .. } = unreadable(datagram);
    assert_eq!(reply, None, "no answer");
    why
}

/// Everything that comes out of a stream of these octets.
pub(super) fn stream(octets: impl AsRef<[u8]>) -> Vec<Result<Frame, Unreadable>> {
    let mut framer = Framer::new();
    framer.push(octets.as_ref());
    std::iter::from_fn(|| framer.next()).collect()
}

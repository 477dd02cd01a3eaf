//! Messages as octets. Fields come in a fixed order, Content-Length is that of the body, and no value can end
//! its line.

use super::fields::Fields;
use super::message::{Head, Message, Request, Response};
use std::fmt::Display;
use std::io::Write as _;

impl Message {
    /// The message as it goes over the wire.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Message::Request(request) => request.write(),
            Message::Response(response) => response.write(),
        }
    }
}

impl Request {
    /// The message as it goes over the wire.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new(self.fields.len(), self.body.len());
        out.line(format_args!("{} {} SIP/2.0", self.method, self.uri));
        out.head(&self.head);
        out.fields(&self.fields);
        out.finish(&self.body)
    }
}

impl Response {
    /// The message as it goes over the wire.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new(self.fields.len(), self.body.len());
        out.line(format_args!("SIP/2.0 {:03} {}", self.status, self.reason));
        out.head(&self.head);
        out.fields(&self.fields);
        out.finish(&self.body)
    }
}

/// The fields that are written from the head or the body, wherever else they were put.
const WRITTEN_APART: [&str; 7] = ["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Content-Length"];

/// Lines of a message in the making.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(fields: usize, body: usize) -> Writer {
        Writer(Vec::with_capacity(512 + fields * 64 + body))
    }

    /// One line. Octets that would end it, or that no receiver takes (NUL, unless escaped), become blanks.
    pub(super) fn line(&mut self, line: impl Display) {
        let start = self.0.len();
        // Writing to a Vec can't fail.
        let _ = write!(self.0, "{line}");
        self.end_line(start);
    }

    /// One field.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        let start = self.0.len();
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.end_line(start);
    }

    fn end_line(&mut self, start: usize) {
        let mut escaped = false;
        for octet in self.0.iter_mut().skip(start) {
            match *octet {
                b'\r' | b'\n' => *octet = b' ',
                0 if !escaped => *octet = b' ',
                _ => {}
            }
            escaped = *octet == b'\\';
        }
        self.0.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, head: &Head) {
        for via in &head.via {
            self.line(format_args!("Via: {via}"));
        }
        if let Some(hops) = head.max_forwards {
            self.line(format_args!("Max-Forwards: {hops}"));
        }
        self.line(format_args!("From: {}", head.from));
        self.line(format_args!("To: {}", head.to));
        self.line(format_args!("Call-ID: {}", head.call_id));
        self.line(format_args!("CSeq: {}", head.cseq));
    }

    fn fields(&mut self, fields: &Fields) {
        for field in fields.iter() {
            let name = field.name();
            if !WRITTEN_APART.iter().any(|apart| apart.eq_ignore_ascii_case(name)) {
                self.field(name, field.value());
            }
        }
    }

    pub(super) fn finish(mut self, body: &[u8]) -> Vec<u8> {
        self.line(format_args!("Content-Length: {}", body.len()));
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(body);
        self.0
    }
}

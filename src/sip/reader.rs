//! From octets to messages, with limits on everything. What a malformed request says enough about is
//! answered.
//!
//! Tolerated because it is legal: folded lines, compact names, white space around separators, lists in one
//! line or in several, empty lines before the message, octets after its body. Not tolerated although some do
//! it: lines that end with a line feed alone, blanks in the first line, fields twice that may be there once.

use super::fault::{Fault, Unreadable};
use super::field_name::{self, FieldName, SINGULAR};
use super::fields::Fields;
use super::grammar;
use super::message::{CSeq, Head, Message, Request, Response};
use super::method::Method;
use super::name_addr::{MAX_ADDRESSES, NameAddr};
use super::refusal::{Copied, Refusal};
use super::uri::{MAX_URI, Uri};
use super::via::Via;
use std::borrow::Cow;

/// The longest message, head and body, in octets: what fits a UDP datagram.
pub const MAX_MESSAGE: usize = 65_535;

/// The longest field with its folds, in octets.
pub const MAX_LINE: usize = 8_192;

/// The most fields.
pub const MAX_FIELDS: usize = 256;

/// Reads one datagram. `None` is a keep-alive: nothing, or nothing but line ends, blanks and zeros.
///
/// Without Content-Length the body is the rest of the datagram; octets behind the body are dropped (RFC 3261
/// §18.3).
///
/// # Errors
/// [`Unreadable`] with the answer to send, if there is one. It is never fatal.
pub fn read_datagram(datagram: &[u8]) -> Result<Option<Message>, Unreadable> {
    let start = datagram.iter().position(|octet| !matches!(octet, b'\r' | b'\n')).unwrap_or(datagram.len());
    let octets = datagram.get(start..).unwrap_or_default();
    if octets.iter().all(|octet| matches!(octet, 0 | b'\r' | b'\n' | b' ' | b'\t')) {
        return Ok(None);
    }
    let mut draft = Draft::read(octets);
    if octets.len() > MAX_MESSAGE {
        draft.blame(Fault::TooLong);
    }
    let rest = octets.get(draft.end..).unwrap_or_default();
    let body = match draft.content_length {
        None => rest,
        Some(length) => match rest.get(..length) {
            Some(body) => body,
            None => {
                draft.blame(Fault::ContentLengthBeyondDatagram);
                rest
            }
        },
    };
    draft.finish(body).map(Some)
}

/// The first line.
enum Start {
    Request {
        method: Method,
        uri: Option<Uri>,
    },
    Response {
        status: u16,
        reason: String,
    },
    /// Neither; nothing of it is answered.
    Neither,
}

/// A message while it is being read: everything that could be read of it, and the first thing that is wrong.
pub(super) struct Draft<'a> {
    start: Start,
    via: Vec<Via>,
    from: Option<NameAddr>,
    to: Option<NameAddr>,
    call_id: Option<String>,
    cseq: Option<CSeq>,
    max_forwards: Option<u8>,
    fields: Fields,
    copied: CopiedOwned<'a>,
    /// The singular fields that were seen, by their place in [`SINGULAR`].
    seen: u32,
    fault: Option<Fault>,
    /// The first fault that leaves doubt about where the message ends in a stream.
    pub(super) doubt: Option<Fault>,
    /// What Content-Length says, if it is there and can be read.
    pub(super) content_length: Option<usize>,
    /// Where the body begins.
    pub(super) end: usize,
}

/// As [`Copied`], of values that were unfolded or not.
#[derive(Default)]
struct CopiedOwned<'a> {
    via: Vec<Cow<'a, [u8]>>,
    from: Option<Cow<'a, [u8]>>,
    to: Option<Cow<'a, [u8]>>,
    call_id: Option<Cow<'a, [u8]>>,
    cseq: Option<Cow<'a, [u8]>>,
}

impl<'a> Draft<'a> {
    /// Reads the head of a message: the first line and the fields, up to the empty line.
    pub(super) fn read(octets: &'a [u8]) -> Draft<'a> {
        let mut draft = Draft {
            start: Start::Neither,
            via: Vec::new(),
            from: None,
            to: None,
            call_id: None,
            cseq: None,
            max_forwards: None,
            fields: Fields::with_room(12),
            copied: CopiedOwned::default(),
            seen: 0,
            fault: None,
            doubt: None,
            content_length: None,
            end: octets.len(),
        };
        let mut lines = Lines { octets, at: 0 };
        match lines.next() {
            Some(Ok(line)) => draft.read_start(&line),
            Some(Err(fault)) => draft.blame(fault),
            None => draft.blame(Fault::NotSip),
        }
        if matches!(draft.start, Start::Neither) {
            draft.blame(Fault::NotSip);
            return draft;
        }
        let mut fields = 0;
        loop {
            match lines.next() {
                Some(Ok(line)) if line.is_empty() => {
                    draft.end = lines.at;
                    break;
                }
                Some(Ok(line)) => {
                    fields += 1;
                    if fields > MAX_FIELDS {
                        draft.blame(Fault::TooManyFields);
                        break;
                    }
                    draft.read_field(line);
                }
                Some(Err(fault)) => draft.blame(fault),
                None => {
                    draft.blame(Fault::Truncated);
                    break;
                }
            }
        }
        draft
    }

    /// Notes what is wrong; the first fault counts.
    pub(super) fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        if fault.is_fatal() {
            self.doubt.get_or_insert(fault);
        }
    }

    fn read_start(&mut self, line: &[u8]) {
        if line.len() >= 4 && line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            return self.read_status_line(line);
        }
        // Method and version are the first and the last word; what is between them is the URI, or should be.
        let Some(first) = line.iter().position(|&octet| octet == b' ') else { return };
        let tail = line.trim_ascii_end();
        let Some(last) = tail.iter().rposition(|&octet| octet == b' ') else { return };
        let (Some(method), Some(version)) = (line.get(..first), tail.get(last + 1..)) else { return };
        let Some(method) = Method::parse(method) else { return };
        if !version.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            return;
        }
        let uri = line.get(first + 1..last).unwrap_or_default();
        self.start = Start::Request { method, uri: None };
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return self.blame(Fault::Version);
        }
        if tail.len() != line.len()
            || uri.first().is_none_or(|&octet| octet == b' ')
            || uri.last() == Some(&b' ')
        {
            return self.blame(Fault::StartLine);
        }
        if uri.len() > MAX_URI {
            return self.blame(Fault::RequestUriTooLong);
        }
        match Uri::parse(uri) {
            // Headers in a Request-URI are not for a request (RFC 3261 §19.1.1, RFC 4475 §3.1.2.11).
            Ok(read) if read.as_sip().is_none_or(|sip| sip.headers.is_empty()) => {
                if let Start::Request { uri, .. } = &mut self.start {
                    *uri = Some(read);
                }
            }
            _ => self.blame(Fault::RequestUri),
        }
    }

    fn read_status_line(&mut self, line: &[u8]) {
        let mut words = line.splitn(3, |&octet| octet == b' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().unwrap_or_default();
        let reason = words.next().unwrap_or_default();
        self.start = Start::Response { status: 0, reason: grammar::text(reason).into_owned() };
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return self.blame(Fault::Version);
        }
        match (status.len(), grammar::number(status).and_then(|status| u16::try_from(status).ok())) {
            (3, Some(read @ 100..=699)) => {
                if let Start::Response { status, .. } = &mut self.start {
                    *status = read;
                }
            }
            _ => self.blame(Fault::Status),
        }
    }

    fn read_field(&mut self, line: Cow<'a, [u8]>) {
        let Some(colon) = line.iter().position(|&octet| octet == b':') else {
            return self.blame(Fault::FieldLine);
        };
        let name = grammar::trim(line.get(..colon).unwrap_or_default());
        // A field can't begin with a blank: that would be the fold of the first line.
        if !grammar::is_token_text(name) || line.first().is_some_and(|&octet| grammar::is_blank(octet)) {
            return self.blame(Fault::FieldLine);
        }
        let standard = field_name::standard(name);
        let value = match &line {
            Cow::Borrowed(line) => Cow::Borrowed(grammar::trim(line.get(colon + 1..).unwrap_or_default())),
            Cow::Owned(line) => Cow::Owned(grammar::trim(line.get(colon + 1..).unwrap_or_default()).to_vec()),
        };
        if let Some(name) = standard
            && let Some(place) = SINGULAR.iter().position(|singular| *singular == name)
        {
            let bit = 1 << place;
            if self.seen & bit != 0 {
                return self.blame(Fault::Repeated(name));
            }
            self.seen |= bit;
        }
        match standard {
            Some("Via") => {
                if Via::read_list(&value, &mut self.via).is_err() {
                    self.blame(Fault::Malformed("Via"));
                }
                self.copied.via.push(value);
            }
            Some("From") => {
                match NameAddr::parse(&value) {
                    Ok(from) => self.from = Some(from),
                    Err(_) => self.blame(Fault::Malformed("From")),
                }
                self.copied.from = Some(value);
            }
            Some("To") => {
                match NameAddr::parse(&value) {
                    Ok(to) => self.to = Some(to),
                    Err(_) => self.blame(Fault::Malformed("To")),
                }
                self.copied.to = Some(value);
            }
            Some("Call-ID") => {
                match is_call_id(&value) {
                    true => self.call_id = Some(grammar::text(&value).into_owned()),
                    false => self.blame(Fault::Malformed("Call-ID")),
                }
                self.copied.call_id = Some(value);
            }
            Some("CSeq") => {
                self.cseq = read_cseq(&value);
                if self.cseq.is_none() {
                    self.blame(Fault::Malformed("CSeq"));
                }
                self.copied.cseq = Some(value);
            }
            Some("Max-Forwards") => {
                self.max_forwards = grammar::number(&value).and_then(|hops| u8::try_from(hops).ok());
                if self.max_forwards.is_none() && matches!(self.start, Start::Request { .. }) {
                    self.blame(Fault::Malformed("Max-Forwards"));
                }
            }
            Some("Content-Length") => {
                let length = grammar::number(&value).and_then(|length| usize::try_from(length).ok());
                self.content_length = length;
                if length.is_none() {
                    self.blame(Fault::Malformed("Content-Length"));
                }
            }
            _ => {
                let name = match standard {
                    Some(name) => FieldName::standard(name),
                    None => FieldName::new(&grammar::text(name)),
                };
                self.fields.push_read(name, value.into_owned());
            }
        }
    }

    /// The message with its body, or what is wrong with it.
    pub(super) fn finish(mut self, body: &[u8]) -> Result<Message, Unreadable> {
        self.check();
        if let Some(why) = self.fault {
            return Err(self.unreadable(why, false));
        }
        let Draft { start, via, from, to, call_id, cseq, max_forwards, fields, .. } = self;
        let (Some(from), Some(to), Some(call_id), Some(cseq)) = (from, to, call_id, cseq) else {
            // `check` has found this before.
            return Err(Unreadable { why: Fault::NotSip, reply: None, fatal: false });
        };
        let head = Head { via, from, to, call_id, cseq, max_forwards };
        let body = body.to_vec();
        match start {
            Start::Request { method, uri: Some(uri) } => {
                Ok(Message::Request(Request { method, uri, head, fields, body }))
            }
            Start::Response { status, reason } => {
                let head = Head { max_forwards: None, ..head };
                Ok(Message::Response(Response { status, reason, head, fields, body }))
            }
            Start::Request { uri: None, .. } | Start::Neither => {
                Err(Unreadable { why: Fault::NotSip, reply: None, fatal: false })
            }
        }
    }

    /// What can be told only when all fields are there.
    fn check(&mut self) {
        if matches!(self.start, Start::Neither) {
            return;
        }
        for (name, is_there) in [
            ("Via", !self.via.is_empty()),
            ("From", self.from.is_some()),
            ("To", self.to.is_some()),
            ("Call-ID", self.call_id.is_some()),
            ("CSeq", self.cseq.is_some()),
        ] {
            if !is_there {
                self.blame(Fault::Missing(name));
            }
        }
        let Start::Request { method, .. } = &self.start else { return };
        let is_known = method.is_known();
        let fits = self.cseq.as_ref().is_none_or(|cseq| cseq.method == *method);
        // Where the remote target and the route set come from (RFC 3261 §12.1.1), and whom a REGISTER binds.
        let names_contact = !matches!(
            *method,
            Method::ACK | Method::BYE | Method::CANCEL | Method::PRACK | Method::INFO | Method::MESSAGE
        );
        if !fits {
            self.blame(if is_known { Fault::CSeqMethod } else { Fault::UnknownMethod });
        }
        if names_contact && self.fault.is_none() {
            if self.fields.contacts().is_err() {
                self.blame(Fault::Malformed("Contact"));
            }
            if self.fields.record_routes().is_err() {
                self.blame(Fault::Malformed("Record-Route"));
            }
        }
        if self.fields.all("Route").flat_map(grammar::elements).nth(MAX_ADDRESSES).is_some() {
            self.blame(Fault::Malformed("Route"));
        }
    }

    /// The error, with the answer to it.
    pub(super) fn unreadable(&self, why: Fault, fatal: bool) -> Unreadable {
        let answerable = matches!(&self.start, Start::Request { method, .. } if *method != Method::ACK);
        let copied = Copied {
            via: self.copied.via.iter().map(Cow::as_ref).collect(),
            from: self.copied.from.as_deref(),
            to: self.copied.to.as_deref(),
            call_id: self.copied.call_id.as_deref(),
            cseq: self.copied.cseq.as_deref(),
        };
        let reply = answerable.then(|| Refusal::new(why, &copied)).flatten().map(Box::new);
        Unreadable { why, reply, fatal }
    }
}

/// Visible characters. That is more than `word@word` (RFC 3261 §25.1), because some put base64 there, and harmless: a
/// Call-ID is only compared and repeated.
fn is_call_id(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_graphic)
}

fn read_cseq(value: &[u8]) -> Option<CSeq> {
    let blank = value.iter().position(|&octet| grammar::is_blank(octet))?;
    let (number, method) = value.split_at(blank);
    Some(CSeq { number: grammar::number(number)?, method: Method::parse(grammar::trim(method))? })
}

/// The lines of a head, folded ones joined by a blank, without their ends.
struct Lines<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line with its folds; `None` at the end of the octets, also in the middle of a line.
    fn next(&mut self) -> Option<Result<Cow<'a, [u8]>, Fault>> {
        let (mut fault, mut joined): (_, Option<Vec<u8>>) = (None, None);
        let line = self.physical(&mut fault)?;
        let mut length = line.len();
        // An empty line ends the head, whatever the body begins with.
        while !line.is_empty() && self.octets.get(self.at).is_some_and(|&octet| grammar::is_blank(octet)) {
            let fold = self.physical(&mut fault)?;
            length += fold.len();
            if length <= MAX_LINE {
                let joined = joined.get_or_insert_with(|| line.to_vec());
                joined.push(b' ');
                joined.extend_from_slice(fold.trim_ascii_start());
            }
        }
        if length > MAX_LINE {
            fault = fault.or(Some(Fault::LineTooLong));
        }
        Some(match (fault, joined) {
            (Some(fault), _) => Err(fault),
            (None, Some(joined)) => Ok(Cow::Owned(joined)),
            (None, None) => Ok(Cow::Borrowed(line)),
        })
    }

    /// The octets up to the next CRLF.
    fn physical(&mut self, fault: &mut Option<Fault>) -> Option<&'a [u8]> {
        let rest = self.octets.get(self.at..)?;
        let mut from = 0;
        loop {
            let at =
                from + rest.get(from..)?.iter().position(|&octet| octet <= b'\r' && is_special(octet))?;
            match (rest.get(at).copied()?, rest.get(at + 1).copied()) {
                (b'\r', Some(b'\n')) => {
                    self.at += at + 2;
                    return rest.get(..at);
                }
                // A NUL is right where it is escaped, which it can be in a quoted string only.
                (0, _) if at.checked_sub(1).and_then(|before| rest.get(before)) == Some(&b'\\') => {}
                _ => *fault = Some(Fault::ControlOctet),
            }
            from = at + 1;
        }
    }
}

/// An octet that ends a line or should not be in one.
fn is_special(octet: u8) -> bool {
    matches!(octet, 0 | b'\r' | b'\n')
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

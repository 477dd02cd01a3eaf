//! What can be wrong with octets that should have been a message: for counting, and for the phrase of the
//! answer.

use super::refusal::Refusal;
use std::borrow::Cow;

/// Why octets were not read as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Not SIP at all: the first line is neither that of a request nor of a response.
    NotSip,
    /// The first line has blanks or characters where none belong.
    StartLine,
    /// A version of SIP other than 2.0.
    Version,
    /// The Request-URI does not follow the grammar of its scheme.
    RequestUri,
    /// The Request-URI is longer than is read.
    RequestUriTooLong,
    /// The status is no number of 100 to 699.
    Status,
    /// The empty line that ends the fields is missing.
    Truncated,
    /// A line that is no field: it has no name, or no colon.
    FieldLine,
    /// NUL, or a carriage return or a line feed alone.
    ControlOctet,
    /// More fields than are read.
    TooManyFields,
    /// A longer line than is read.
    LineTooLong,
    /// A longer message than is read.
    TooLong,
    /// A field is missing that every message must have.
    Missing(&'static str),
    /// A field is there that can't be read.
    Malformed(&'static str),
    /// A field is there twice that may be there once.
    Repeated(&'static str),
    /// CSeq names another method than the request, which is a known one.
    CSeqMethod,
    /// CSeq names another method than the request, which is an unknown one (RFC 4475 §3.1.2.18).
    UnknownMethod,
    /// Content-Length is more than the datagram holds.
    ContentLengthBeyondDatagram,
}

impl Fault {
    /// The status of the answer, where there is one.
    pub fn status(self) -> u16 {
        match self {
            Fault::Version => 505,
            Fault::RequestUriTooLong => 414,
            Fault::TooLong => 513,
            Fault::UnknownMethod => 501,
            _ => 400,
        }
    }

    /// The phrase of the answer.
    pub fn phrase(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Fault::NotSip => "Not SIP",
            Fault::StartLine => "Malformed Request-Line",
            Fault::Version => "Version Not Supported",
            Fault::RequestUri => "Malformed Request-URI",
            Fault::RequestUriTooLong => "Request-URI Too Long",
            Fault::Status => "Malformed Status-Line",
            Fault::Truncated => "Message Ends Inside Its Fields",
            Fault::FieldLine => "Malformed Header Field Line",
            Fault::ControlOctet => "Control Character In Header",
            Fault::TooManyFields => "Too Many Header Fields",
            Fault::LineTooLong => "Header Field Too Long",
            Fault::TooLong => "Message Too Large",
            Fault::Missing(name) => return Cow::Owned(format!("Missing {name}")),
            Fault::Malformed(name) => return Cow::Owned(format!("Malformed {name}")),
            Fault::Repeated(name) => return Cow::Owned(format!("Repeated {name}")),
            Fault::CSeqMethod => "CSeq Method Is Not The Request's",
            Fault::UnknownMethod => "Not Implemented",
            Fault::ContentLengthBeyondDatagram => "Content-Length Exceeds Datagram",
        })
    }

    /// Whether this leaves doubt about where the message ends in a stream.
    pub fn is_fatal(self) -> bool {
        match self {
            Fault::NotSip
            | Fault::Truncated
            | Fault::FieldLine
            | Fault::ControlOctet
            | Fault::TooManyFields
            | Fault::LineTooLong
            | Fault::TooLong
            | Fault::ContentLengthBeyondDatagram => true,
            Fault::Malformed(name) | Fault::Repeated(name) | Fault::Missing(name) => name == "Content-Length",
            Fault::StartLine
            | Fault::Version
            | Fault::RequestUri
            | Fault::RequestUriTooLong
            | Fault::Status
            | Fault::CSeqMethod
            | Fault::UnknownMethod => false,
        }
    }

    /// A short fixed name, for counters.
    pub fn label(self) -> &'static str {
        match self {
            Fault::NotSip => "not_sip",
            Fault::StartLine => "start_line",
            Fault::Version => "version",
            Fault::RequestUri => "request_uri",
            Fault::RequestUriTooLong => "request_uri_too_long",
            Fault::Status => "status",
            Fault::Truncated => "truncated",
            Fault::FieldLine => "field_line",
            Fault::ControlOctet => "control_octet",
            Fault::TooManyFields => "too_many_fields",
            Fault::LineTooLong => "line_too_long",
            Fault::TooLong => "too_long",
            Fault::Missing(_) => "missing_field",
            Fault::Malformed(_) => "malformed_field",
            Fault::Repeated(_) => "repeated_field",
            Fault::CSeqMethod => "cseq_method",
            Fault::UnknownMethod => "unknown_method",
            Fault::ContentLengthBeyondDatagram => "content_length",
        }
    }
}

/// Octets that were not read as a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent what can't be read as SIP: {}", .why.phrase())]
pub struct Unreadable {
    /// What is wrong.
    pub why: Fault,
    /// The answer, if it was a request that can be answered and is no ACK.
    pub reply: Option<Box<Refusal>>,
    /// Whether nobody can tell where the next message begins: the connection is to be closed, after the
    /// answer.
    pub fatal: bool,
}

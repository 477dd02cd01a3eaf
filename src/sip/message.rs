//! A SIP message: request or response, its head (the fields that every message must have), its other fields,
//! its body (RFC 3261 §7).

use super::fields::Fields;
use super::method::Method;
use super::name_addr::NameAddr;
use super::status::reason_phrase;
use super::uri::Uri;
use super::via::Via;
use std::fmt;

/// The Max-Forwards of our own requests (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// The largest CSeq number of our own requests (RFC 3261 §8.1.1.5). Up to 2³² − 1 is read.
pub const MAX_OWN_CSEQ: u32 = (1 << 31) - 1;

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// The fields that every message has.
    pub fn head(&self) -> &Head {
        match self {
            Message::Request(request) => &request.head,
            Message::Response(response) => &response.head,
        }
    }

    /// The other fields.
    pub fn fields(&self) -> &Fields {
        match self {
            Message::Request(request) => &request.fields,
            Message::Response(response) => &response.fields,
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match self {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Message {
        Message::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Message {
        Message::Response(response)
    }
}

/// CSeq: the place of a request in its sequence, and its method (RFC 3261 §20.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The number.
    pub number: u32,
    /// The method of the request that it counts.
    pub method: Method,
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// The fields that every message must have, read and valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The hops, topmost first; at least one in every message that was read.
    pub via: Vec<Via>,
    /// Who asks.
    pub from: NameAddr,
    /// Who is asked.
    pub to: NameAddr,
    /// The call, registration or transaction that this belongs to; compares octet by octet.
    pub call_id: String,
    /// Number and method of the request.
    pub cseq: CSeq,
    /// The hops that a request may still go; `None` in responses and in requests of RFC 2543.
    pub max_forwards: Option<u8>,
}

impl Head {
    /// The hop that the message came from or that a response goes to.
    pub fn top_via(&self) -> Option<&Via> {
        self.via.first()
    }

    /// The tag of From; requests of RFC 2543 may have none.
    pub fn from_tag(&self) -> Option<&str> {
        self.from.tag()
    }

    /// The tag of To; none before a dialog.
    pub fn to_tag(&self) -> Option<&str> {
        self.to.tag()
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Who is asked (the Request-URI).
    pub uri: Uri,
    /// The fields that every message has.
    pub head: Head,
    /// The other fields.
    pub fields: Fields,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without Via (the transaction adds it) and with a Max-Forwards of [`MAX_FORWARDS`].
    pub fn new(method: Method, uri: Uri, from: NameAddr, to: NameAddr, call_id: &str, cseq: u32) -> Request {
        Request {
            head: Head {
                via: Vec::new(),
                from,
                to,
                call_id: call_id.to_owned(),
                cseq: CSeq { number: cseq, method: method.clone() },
                max_forwards: Some(MAX_FORWARDS),
            },
            method,
            uri,
            fields: Fields::new(),
            body: Vec::new(),
        }
    }

    /// Sets the body and its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.fields.set("Content-Type", content_type);
        self.body = body.into();
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The phrase behind it, which may be empty and means nothing.
    pub reason: String,
    /// The fields that every message has.
    pub head: Head,
    /// The other fields.
    pub fields: Fields,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The response to a request, with the standard phrase: Via, From, To, Call-ID and CSeq are the
    /// request's, and so are Record-Route where the response may begin a dialog and Timestamp in a 100 (RFC
    /// 3261 §8.2.6, §12.1.1). The tag of To is the caller's to set.
    pub fn to(request: &Request, status: u16) -> Response {
        Response::with_reason(request, status, reason_phrase(status))
    }

    /// The same with a phrase of one's own.
    pub fn with_reason(request: &Request, status: u16, reason: &str) -> Response {
        let mut fields = Fields::new();
        let copied = match status {
            100 => Some("Timestamp"),
            101..=299 => Some("Record-Route"),
            _ => None,
        };
        if let Some(name) = copied {
            for value in request.fields.all(name) {
                fields.push(name, value);
            }
        }
        Response {
            status,
            reason: reason.to_owned(),
            head: Head { max_forwards: None, ..request.head.clone() },
            fields,
            body: Vec::new(),
        }
    }

    /// 1xx.
    pub fn is_provisional(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// 2xx to 6xx.
    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// Sets the body and its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.fields.set("Content-Type", content_type);
        self.body = body.into();
    }
}

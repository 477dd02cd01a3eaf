//! What the user agent tells the room above.

use std::net::SocketAddr;

use crate::sip::call::CallEvent;
use crate::sip::handle::{AccountId, CallId, RequestId, TransactionId};
use crate::sip::locate::Target;
use crate::sip::message::{Request, Response};
use crate::sip::message_summary::MessageSummary;
use crate::sip::network::{LookupError, Transport};
use crate::sip::registration::RegistrationState;
use crate::sip::srv::ServerName;

/// Something the room above must know.
#[derive(Debug)]
pub enum Event {
    /// A line's registration changed.
    Registration {
        /// The line.
        account: AccountId,
        /// What it is now.
        state: RegistrationState,
    },
    /// The server refuses the line's credentials.
    AuthenticationFailed {
        /// The line.
        account: AccountId,
        /// The realm that the server named.
        realm: String,
        /// Why, with what to do next.
        why: String,
    },
    /// The server's proof that it knows the line's password too (`rspauth`, RFC 7616 §3.5) is wrong, or is right again. Its
    /// answers count all the same: the proof is left out by most servers, and by whoever plays one.
    ServerProof {
        /// The line.
        account: AccountId,
        /// Who answered.
        remote: SocketAddr,
        /// Whether it is right.
        right: bool,
    },
    /// The way to a line's server is known, or has changed:
    /// [`local_address`](crate::sip::user_agent::UserAgent::local_address) answers.
    Located {
        /// The line.
        account: AccountId,
    },
    /// The servers of a line, as [`look_up`](crate::sip::user_agent::UserAgent::look_up) asked for them.
    Servers {
        /// The line.
        account: AccountId,
        /// In the order to try them, or why there are none.
        result: Result<Vec<Target>, LookupError>,
    },
    /// Something happened in a call.
    Call {
        /// Which.
        call: CallId,
        /// What.
        event: CallEvent,
    },
    /// The PBX has told what waits in a line's mailbox (RFC 3842), asked or not. It may be nothing new.
    MessageSummary {
        /// The line.
        account: AccountId,
        /// What waits.
        summary: MessageSummary,
    },
    /// A request outside any dialog that [`Settings::serves`](crate::sip::account::Settings) asks for; answer
    /// it with [`respond`](crate::sip::user_agent::UserAgent::respond).
    Request {
        /// Where the answer goes.
        transaction: TransactionId,
        /// The line it is for, if one claims it.
        account: Option<AccountId>,
        /// How it came.
        transport: Transport,
        /// Who sent it.
        remote: SocketAddr,
        /// What it says.
        request: Box<Request>,
    },
    /// The final answer to a request that the room above sent with
    /// [`send_request`](crate::sip::user_agent::UserAgent::send_request).
    Response {
        /// Which request.
        request: RequestId,
        /// The answer, or why none will come.
        result: Result<Box<Response>, Failure>,
    },
    /// The server of a line answers what [`ask`](crate::sip::user_agent::UserAgent::ask) sent, whatever it says.
    Answered {
        /// The line.
        account: AccountId,
        /// Where the server saw us ask from, if it told.
        seen: Option<SocketAddr>,
        /// What question and answer hold together, in octets.
        octets: u32,
    },
    /// The answer to [`ping`](crate::sip::user_agent::UserAgent::ping) came on a line's connection.
    Pong {
        /// The line.
        account: AccountId,
    },
    /// The server of a line has asked by OPTIONS whether the line is there; it has been answered.
    Asked {
        /// The line.
        account: AccountId,
    },
    /// The network says that datagrams do not reach the server of a line (ICMP).
    Unreachable {
        /// The line.
        account: AccountId,
    },
    /// A datagram of STUN came to the SIP socket.
    Stun {
        /// Who sent it.
        remote: SocketAddr,
        /// What it holds.
        octets: Vec<u8>,
    },
    /// What [`resolve`](crate::sip::user_agent::UserAgent::resolve) found.
    Resolved {
        /// The server that was asked for.
        name: ServerName,
        /// Where it is, the preferred address first; nothing if that was not found out.
        addresses: Vec<SocketAddr>,
    },
    /// A message as it crossed the border, secrets and all: whoever shows it masks them.
    Trace(Trace),
    /// [`shutdown`](crate::sip::user_agent::UserAgent::shutdown) is complete.
    Stopped,
}

/// Why no final response came to a request of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The peer did not answer in time.
    #[error("the server did not answer")]
    Timeout,
    /// The message could not be delivered; the machine's words.
    #[error("the server could not be reached: {0}")]
    Transport(String),
    /// No address was found for the next hop.
    #[error("no address for {0}")]
    Unresolvable(String),
    /// It was cancelled before a server had seen it.
    #[error("it was cancelled before it was sent")]
    Cancelled,
}

/// One message at the border.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// True for what we sent.
    pub sent: bool,
    /// Over what.
    pub transport: Transport,
    /// Our end, as far as it is known.
    pub local: Option<SocketAddr>,
    /// Their end.
    pub remote: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// How often something was refused or lost, since the start. Nothing of it was answered unless it says so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Messages received that could be read.
    pub received: u64,
    /// Messages sent, repetitions included.
    pub sent: u64,
    /// Bytes that are no SIP message, or a broken one (answered with 400 or 505 if it was a trusted peer's
    /// request).
    pub unreadable: u64,
    /// Requests of peers that are not trusted.
    pub untrusted: u64,
    /// Responses that belong to no request of ours.
    pub stray_responses: u64,
    /// ACKs that belong to nothing.
    pub stray_acks: u64,
    /// Requests dropped because too many are being answered.
    pub overflow: u64,
    /// Connections refused because too many stand, or because the peer is not trusted.
    pub refused_connections: u64,
    /// Challenges that were not answered because they came from elsewhere or named another realm.
    pub unanswered_challenges: u64,
    /// Requests answered with 4xx or 5xx by the user agent itself: wrong method, extension, dialog …
    pub refused_requests: u64,
}

//! What crosses the border between the user agent and the machine: datagrams, connections, questions to name
//! servers.
//!
//! Owns the words of that border only; who opens sockets, speaks TLS or asks a resolver is not known here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The transport protocols that carry SIP here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// Datagrams (RFC 3261 §18).
    Udp,
    /// One connection, messages framed by Content-Length.
    Tcp,
    /// TCP under TLS.
    Tls,
    /// WebSocket under TLS (RFC 7118), one message in each of its messages.
    Wss,
}

impl Transport {
    /// All of them, the one with the least ado first.
    pub const ALL: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Wss];

    /// The name that people use: `udp`, `tcp`, `tls` or `wss`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Wss => "wss",
            _ => self.uri_token(),
        }
    }

    /// The one of that name, if it is one.
    pub fn of_name(name: &str) -> Option<Transport> {
        Self::ALL.into_iter().find(|transport| transport.name() == name)
    }

    /// The token of a Via header field: `UDP`, `TCP`, `TLS` or `WSS`.
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter; that of WebSocket is `ws` with TLS and without (RFC 7118 §5.2.2).
    pub fn uri_token(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Wss => "ws",
        }
    }

    /// Reads a `transport` parameter, case-insensitively, `wss` as the `ws` that it should have been. `None` for one that
    /// is not spoken here.
    pub fn parse(token: &str) -> Option<Transport> {
        let means = |transport: &Transport| {
            transport.uri_token().eq_ignore_ascii_case(token) || transport.name().eq_ignore_ascii_case(token)
        };
        Self::ALL.into_iter().find(means)
    }

    /// 5060, 5061 under TLS (RFC 3261 §19.1.2), 443 for WebSocket under TLS (RFC 7118 §6).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Wss => 443,
        }
    }

    /// Whether nobody on the way can read it, and a certificate says who the server is.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Whether the transport repeats what is lost by itself.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens at the border and is told to the user agent.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came. `local` is the socket it came to (its address may be unspecified).
    Datagram {
        /// The socket's own address.
        local: SocketAddr,
        /// Who sent it.
        remote: SocketAddr,
        /// What it holds, whole.
        bytes: &'a [u8],
    },
    /// A connection asked for by [`Output::Connect`] stands; under TLS the certificate has been checked.
    Connected {
        /// The number the user agent gave it.
        connection: u64,
        /// Our end.
        local: SocketAddr,
        /// Their end.
        remote: SocketAddr,
    },
    /// Somebody connected to a listening socket. The machine numbers these connections from
    /// [`FIRST_ACCEPTED`] upwards, so that they never meet the numbers the user agent gives.
    Accepted {
        /// The number the machine gives it.
        connection: u64,
        /// TCP or TLS.
        transport: Transport,
        /// Our end.
        local: SocketAddr,
        /// Their end.
        remote: SocketAddr,
    },
    /// Bytes came on a connection.
    Stream {
        /// Which.
        connection: u64,
        /// The next bytes of its stream; over WebSocket, one whole message of it.
        bytes: &'a [u8],
    },
    /// A connection ended or could not be made.
    Closed {
        /// Which.
        connection: u64,
        /// Why, for people: refused, certificate unknown …
        why: String,
    },
    /// Datagrams to this peer do not arrive: ICMP said so, or the machine has no route.
    Unsent {
        /// The peer.
        remote: SocketAddr,
        /// Why, for people.
        why: String,
    },
    /// The answer to [`Output::Query`].
    Answer {
        /// The number of the query.
        query: u64,
        /// The records, none if the name has none of that type.
        result: Result<Vec<Record>, LookupError>,
    },
    /// The answer to [`Output::RouteTo`].
    LocalAddress {
        /// The number of the query.
        query: u64,
        /// The address of this machine that packets to the peer carry, or why there is none.
        result: Result<IpAddr, String>,
    },
}

/// The first number of a connection that was accepted; those that the user agent opens stay below.
pub const FIRST_ACCEPTED: u64 = 1 << 63;

/// What the user agent asks of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a datagram, from the socket bound to `local` if that is given.
    Datagram {
        /// The socket to send from; `None` lets the machine choose one of the right family.
        local: Option<SocketAddr>,
        /// To whom.
        remote: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Open a connection and report [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// Its number from now on.
        connection: u64,
        /// TCP, TLS or WebSocket.
        transport: Transport,
        /// To whom.
        remote: SocketAddr,
        /// The name that the certificate must carry (RFC 5922): the domain asked for, not what DNS made of
        /// it.
        server_name: String,
        /// The line it is for: its CA file and certificate settings count. `None` for an answer to a
        /// stranger's transport.
        account: Option<crate::sip::handle::AccountId>,
    },
    /// Send bytes on a connection; over WebSocket, as one message of it. CRLFCRLF alone is its ping, and the answer
    /// comes as CRLF.
    Stream {
        /// Which.
        connection: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close a connection; no [`Input::Closed`] is expected for it.
    Close {
        /// Which.
        connection: u64,
    },
    /// Ask a name server; answered by [`Input::Answer`].
    Query {
        /// The number of the query.
        query: u64,
        /// What is asked.
        question: Question,
        /// When the answer is no longer waited for (µs of the monotonic clock).
        deadline: u64,
    },
    /// Which address of ours faces this peer? Answered by [`Input::LocalAddress`].
    RouteTo {
        /// The number of the query.
        query: u64,
        /// The peer.
        remote: IpAddr,
    },
}

/// A question to a name server (RFC 3263).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Question {
    /// Which services a domain offers (RFC 3403).
    Naptr(String),
    /// Where a service is (RFC 2782).
    Srv(String),
    /// IPv4 addresses.
    A(String),
    /// IPv6 addresses.
    Aaaa(String),
}

/// One record of an answer, with its time to live in seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it says.
    pub data: RecordData,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordData {
    /// RFC 3403: only records that lead to a SRV name (`flags` = `s`) are of use here.
    Naptr {
        /// Lower comes first.
        order: u16,
        /// Lower comes first among equal orders.
        preference: u16,
        /// `s`: the replacement is a SRV name.
        flags: String,
        /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`, `SIPS+D2W`.
        service: String,
        /// The next name to ask for.
        replacement: String,
    },
    /// RFC 2782.
    Srv {
        /// Lower comes first.
        priority: u16,
        /// The share among equal priorities.
        weight: u16,
        /// The server's port.
        port: u16,
        /// The server's name; `.` says that there is no such service.
        target: String,
    },
    /// An address of either family.
    Address(IpAddr),
}

/// Why a name server gave no records.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist: a mistake in the configuration, or in the domain's zone.
    #[error("the name does not exist; check the domain or registrar of the line")]
    NoSuchName,
    /// The name is there and leads nowhere that this device can go.
    #[error(
        "the name has no address that this device can reach; check the domain or registrar of the line, and its A \
         and AAAA records"
    )]
    NoAddress,
    /// Nobody answered in time: the network or the name server.
    #[error("no name server answered; check the network and its DNS")]
    Timeout,
    /// The name server failed, with its own words.
    #[error("the name server failed: {0}")]
    Failed(String),
}

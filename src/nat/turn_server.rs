//! A TURN server as the configuration names it: where, as whom, and how it is reached.

use std::net::SocketAddr;

/// The port of a server under TLS (RFC 8656 §3.1).
pub const SECURE_PORT: u16 = 5_349;

/// How a server is reached (RFC 8656 §3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Carriage {
    /// By the socket that the relayed address is wanted for.
    Udp,
    /// By a connection of its own.
    Tcp,
    /// The same under TLS.
    Tls(Trust),
}

impl Carriage {
    /// Whether nothing is lost on the way, and messages have to be told apart.
    pub fn is_stream(&self) -> bool {
        *self != Carriage::Udp
    }

    /// The word for people.
    pub fn word(&self) -> &'static str {
        match self {
            Carriage::Udp => "udp",
            Carriage::Tcp => "tcp",
            Carriage::Tls(_) => "tls",
        }
    }
}

/// Whose certificate a server under TLS must show.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Trust {
    /// The name in it.
    pub name: String,
    /// The file of those who may have signed it; without one the public ones.
    pub ca_file: Option<String>,
    /// False: any certificate will do.
    pub verify: bool,
}

/// Where, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    /// Our name there.
    pub username: String,
    /// Its secret.
    pub password: String,
    /// How it is reached.
    pub carriage: Carriage,
}

impl Server {
    /// Whether the other one is the same server, reached in the same way: it keeps one allocation for a socket, whoever
    /// we are there.
    pub(super) fn is_at(&self, other: &Server) -> bool {
        (self.address, &self.carriage) == (other.address, &other.carriage)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} {} as {})", self.carriage.word(), self.address, self.username)
    }
}

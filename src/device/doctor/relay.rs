//! Tries TURN servers by every way: an allocation is made, and given back at once.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::look_up;
use crate::chance::Chance;
use crate::config::{Config, NatMode, TurnServer};
use crate::device::clock;
use crate::device::resolver::Resolver;
use crate::device::rtp_port::{Binding, mapped, udp_socket};
use crate::device::sip_network::{Stream, open_tcp, secure};
use crate::device::tls::Belief;
use crate::nat::stun::{DEFAULT_PORT, MAX_MESSAGE};
use crate::nat::turn::{Allocation, Event, Failure, Server};
use crate::nat::turn_message::next_of_stream;
use crate::phone::diagnosis::{Turn, TurnReached, TurnWay};

/// TURN servers that are tried.
const MOST_SERVERS: usize = 8;
/// How long one way may take, with connection and handshake.
const WITHIN: Duration = Duration::from_secs(9);
/// The port of TURN over TLS where none is named (RFC 8656 §3.1).
const TLS_PORT: u16 = 5349;

/// The ways to try.
const WAYS: [&str; 3] = ["udp", "tcp", "tls"];

/// Tries the TURN servers of all lines at once.
pub(super) async fn try_all(
    config: &Config,
    resolver: Option<&Resolver>,
    binding: Binding,
    mut chance: Chance,
) -> Vec<Turn> {
    let lines = config.line.iter().filter(|line| line.enabled && line.nat.mode == NatMode::Auto);
    let mut wanted: Vec<(&TurnServer, Belief)> = Vec::new();
    for line in lines {
        for server in &line.nat.turn {
            if wanted.len() < MOST_SERVERS && !wanted.iter().any(|(known, _)| *known == server) {
                wanted.push((server, Belief::of(line)));
            }
        }
    }
    let mut tried = JoinSet::new();
    let mut found = Vec::new();
    for (index, (server, belief)) in wanted.into_iter().enumerate() {
        let port = server.url.port.map(|port| format!(":{port}")).unwrap_or_default();
        let url = format!("turn:{}{port}", server.url.host);
        let mut turn = Turn { url, lookup: None, ways: Vec::new() };
        match look_up(resolver, &server.url.host).await {
            Err(lookup) => turn.lookup = Some(lookup),
            Ok(address) => {
                for transport in WAYS {
                    let named = server.url.port;
                    let port =
                        if transport == "tls" { named.filter(|port| *port != DEFAULT_PORT) } else { named };
                    let usual = if transport == "tls" { TLS_PORT } else { DEFAULT_PORT };
                    let account = Server {
                        address: SocketAddr::new(address, port.unwrap_or(usual)),
                        username: server.username.clone(),
                        password: server.password.reveal().to_owned(),
                        stream: transport != "udp",
                    };
                    let (belief, host) = (belief.clone(), server.url.host.clone());
                    let chance = chance.fork();
                    tried.spawn(async move {
                        (index, one(transport, account, &host, &belief, binding, chance).await)
                    });
                }
            }
        }
        found.push(turn);
    }
    while let Some(done) = tried.join_next().await {
        if let Ok((index, way)) = done
            && let Some(turn) = found.get_mut(index)
        {
            turn.ways.push(way);
        }
    }
    for turn in &mut found {
        let rank = |way: &TurnWay| WAYS.iter().position(|transport| *transport == way.transport);
        turn.ways.sort_by_key(|way| (!way.configured, rank(way)));
    }
    found
}

async fn one(
    transport: &'static str,
    server: Server,
    host: &str,
    belief: &Belief,
    binding: Binding,
    chance: Chance,
) -> TurnWay {
    let address = server.address;
    let trying = async {
        let carrier = Carrier::open(transport, address, host, belief, binding).await?;
        Ok(allocate(carrier, server, chance).await)
    };
    let silent = || Err("it does not answer".to_owned());
    let ended = match tokio::time::timeout(WITHIN, trying).await.unwrap_or_else(|_| silent()) {
        Ok(ended) => ended,
        Err(why) => (TurnReached::No, None, Some(why)),
    };
    let (reached, relayed, why) = ended;
    TurnWay { transport, configured: transport == "udp", address, reached, relayed, why }
}

type Ended = (TurnReached, Option<SocketAddr>, Option<String>);

/// Asks for an allocation and gives it back.
async fn allocate(mut carrier: Carrier, server: Server, chance: Chance) -> Ended {
    let mut allocation = Allocation::new(clock::now(), server, chance);
    let mut ended: Option<Ended> = None;
    loop {
        while let Some(message) = allocation.poll_transmit() {
            if let Err(why) = carrier.send(&message).await {
                return ended.unwrap_or((TurnReached::No, None, Some(why)));
            }
        }
        if let Some(ended) = ended {
            return ended;
        }
        match allocation.poll_event() {
            Some(Event::Allocated { relayed, .. }) => {
                ended = Some((TurnReached::Yes, Some(relayed), None));
                allocation.release(clock::now());
                continue;
            }
            Some(Event::Failed(failure)) => {
                let reached = match &failure {
                    Failure::Unauthorized => TurnReached::Unauthorized,
                    Failure::NoAnswer => TurnReached::No,
                    Failure::Refused(_) | Failure::Impossible | Failure::Elsewhere(_) => TurnReached::Refused,
                };
                return (reached, None, Some(failure.to_string()));
            }
            Some(Event::PeerRefused(..)) | None => {}
        }
        let due = allocation.poll_timeout().unwrap_or(0).saturating_sub(clock::now().mono_us);
        match tokio::time::timeout(Duration::from_micros(due), carrier.receive()).await {
            Ok(Ok(message)) => {
                allocation.handle(clock::now(), &message);
            }
            Ok(Err(why)) => return (TurnReached::No, None, Some(why)),
            Err(_) => allocation.handle_timeout(clock::now()),
        }
    }
}

/// What carries messages to the server.
enum Carrier {
    Datagrams { socket: UdpSocket, server: SocketAddr },
    Bytes { stream: Box<dyn Stream>, read: Vec<u8> },
}

impl Carrier {
    async fn open(
        transport: &str,
        server: SocketAddr,
        host: &str,
        belief: &Belief,
        binding: Binding,
    ) -> Result<Carrier, String> {
        let words = |error: std::io::Error| error.to_string();
        if transport == "udp" {
            let (socket, dual) = udp_socket(binding, 0).map_err(words)?;
            let server = if dual { mapped(server) } else { server };
            return Ok(Carrier::Datagrams { socket: UdpSocket::from_std(socket).map_err(words)?, server });
        }
        let stream = open_tcp(server, binding.dscp).await.map_err(words)?;
        let stream: Box<dyn Stream> = match transport {
            "tls" => Box::new(secure(stream, belief, host).await?),
            _ => Box::new(stream),
        };
        Ok(Carrier::Bytes { stream, read: Vec::new() })
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), String> {
        let sent = match self {
            Carrier::Datagrams { socket, server } => {
                // Past the event loop, which holds the first datagram back.
                socket2::SockRef::from(&*socket).send_to(message, &(*server).into()).map(drop)
            }
            Carrier::Bytes { stream, .. } => match stream.write_all(message).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
        };
        sent.map_err(|error| error.to_string())
    }

    /// The next message. Nothing is lost where this is cancelled.
    async fn receive(&mut self) -> Result<Vec<u8>, String> {
        match self {
            Carrier::Datagrams { socket, server } => loop {
                let mut buffer = vec![0; MAX_MESSAGE];
                match socket.recv_from(&mut buffer).await {
                    Ok((length, from)) if from == *server => {
                        buffer.truncate(length);
                        return Ok(buffer);
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            },
            Carrier::Bytes { stream, read } => loop {
                let next =
                    next_of_stream(read).map_err(|_| "what answers there is no TURN server".to_owned())?;
                if let Some(length) = next {
                    let rest = read.split_off(length.min(read.len()));
                    return Ok(std::mem::replace(read, rest));
                }
                match stream.read_buf(read).await {
                    Ok(0) => return Err("the server closed the connection".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            },
        }
    }
}

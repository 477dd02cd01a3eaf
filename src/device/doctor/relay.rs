//! Tries TURN servers by every way: an allocation is made, and given back at once.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::names::{look_up, preferred};
use crate::chance::Chance;
use crate::config::Config;
use crate::device::clock;
use crate::device::resolver::Resolver;
use crate::device::rtp_port::{Binding, mapped, udp_socket};
use crate::device::sip_network::{Stream, local_address, open_tcp, secure};
use crate::device::tls::Belief;
use crate::nat::stun::MAX_MESSAGE;
use crate::nat::turn::{Allocation, Event, Failure};
use crate::nat::turn_server::{Carriage, Server};
use crate::nat::turn_stream::Inbox;
use crate::phone::diagnosis::servers::{Relay, RelayWay, relays};
use crate::phone::diagnosis::{Relaying, Turn, TurnReached, TurnWay};

/// How long one way may take, with connection and handshake.
const WITHIN: Duration = Duration::from_secs(9);

/// Tries the TURN servers of all lines at once.
pub(super) async fn try_all(
    config: &Config,
    resolver: Option<&Resolver>,
    binding: Binding,
    mut chance: Chance,
) -> Vec<Turn> {
    let mut tried = JoinSet::new();
    let mut found = Vec::new();
    for (index, Relay { host, username, password, ways }) in relays(config).into_iter().enumerate() {
        let mut turn = Turn { server: host, lookup: None, ways: Vec::new() };
        for (rank, RelayWay { name, carriage, configured }) in ways.into_iter().enumerate() {
            match look_up(resolver, &name, chance.fork()).await {
                Err(lookup) if configured => turn.lookup = turn.lookup.or(Some(lookup)),
                Err(_) => {}
                Ok(addresses) => {
                    let Some(address) = preferred(&addresses, local_address) else { continue };
                    let (username, password) = (username.clone(), password.clone());
                    let server = Server { address, username, password, carriage };
                    let chance = chance.fork();
                    tried.spawn(async move { (index, rank, one(server, configured, binding, chance).await) });
                }
            }
        }
        found.push(turn);
    }
    let mut ways = Vec::new();
    while let Some(done) = tried.join_next().await {
        ways.extend(done);
    }
    crate::order::sort_by_key(&mut ways, |(_, rank, _)| *rank);
    for (index, _, way) in ways {
        if let Some(turn) = found.get_mut(index) {
            turn.ways.push(way);
        }
    }
    found
}

async fn one(server: Server, configured: bool, binding: Binding, chance: Chance) -> TurnWay {
    let (address, transport) = (server.address, server.carriage.word());
    let trying = async {
        let carrier = Carrier::open(&server, binding).await?;
        Ok(allocate(carrier, server, chance).await)
    };
    let silent = || Err("it does not answer".to_owned());
    let ended = match tokio::time::timeout(WITHIN, trying).await.unwrap_or_else(|_| silent()) {
        Ok(ended) => ended,
        Err(why) => (TurnReached::No, None, Some(why)),
    };
    let (reached, relayed, why) = ended;
    TurnWay { transport, configured, address, reached, why, told: Relaying { relayed } }
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
                    Failure::NoAnswer | Failure::Unreachable(_) => TurnReached::No,
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
    Bytes { stream: Box<dyn Stream>, read: Inbox },
}

impl Carrier {
    async fn open(server: &Server, binding: Binding) -> Result<Carrier, String> {
        let words = |error: std::io::Error| error.to_string();
        if server.carriage == Carriage::Udp {
            let (socket, dual) = udp_socket(binding, 0).map_err(words)?;
            let server = if dual { mapped(server.address) } else { server.address };
            return Ok(Carrier::Datagrams { socket: UdpSocket::from_std(socket).map_err(words)?, server });
        }
        let stream = open_tcp(server.address, binding).await.map_err(words)?;
        let stream: Box<dyn Stream> = match &server.carriage {
            Carriage::Tls(trust) => Box::new(secure(stream, &Belief::from(trust), &trust.name).await?),
            Carriage::Udp | Carriage::Tcp => Box::new(stream),
        };
        Ok(Carrier::Bytes { stream, read: Inbox::default() })
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
                let next = read.pop().map_err(|_| "what answers there is no TURN server".to_owned())?;
                if let Some(message) = next {
                    return Ok(message);
                }
                let mut buffer = [0; MAX_MESSAGE];
                match stream.read(&mut buffer).await {
                    Ok(0) => return Err("the server closed the connection".to_owned()),
                    Ok(length) => read.push(buffer.get(..length).unwrap_or_default()),
                    Err(error) => return Err(error.to_string()),
                }
            },
        }
    }
}

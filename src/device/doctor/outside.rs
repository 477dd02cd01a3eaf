//! The sockets of discovery, reflection and of the look at the routers on the way.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::Ipv4RecvErr;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::device::clock;
use crate::device::rtp_port::{Binding, mapped, socket_address, udp_socket};
use crate::device::sip_network::local_address;
use crate::nat::discovery::{Discovered, Discovery, Question, Socket};
use crate::nat::stun::{MAX_MESSAGE, Message, Seal, TransactionId, is_stun};
use crate::phone::diagnosis::Reflection as Seen;
use crate::sip::reflection::Reflection;
use crate::sip::uri::SipUri;

/// Datagrams that wait to be looked at; more are dropped.
const QUEUE: usize = 64;
/// The largest datagram that is of interest.
const DATAGRAM: usize = 8_192;
/// Different marks that are told.
const MOST_MARKS: usize = 8;
/// Routers on the way that are looked for.
const HOPS: u32 = 5;
/// How long a router is waited for; each is asked twice.
const HOP_WITHIN: Duration = Duration::from_millis(700);

/// A datagram that came to one of the sockets.
struct Arrived {
    at: Socket,
    from: SocketAddr,
    mark: Option<u8>,
    bytes: Vec<u8>,
}

/// The sockets, and what they have shown.
pub struct Outside {
    own: Option<SocketAddr>,
    sockets: Vec<(Socket, Arc<UdpSocket>)>,
    is_mapped: bool,
    arrived: Receiver<Arrived>,
    /// Ends with the sockets.
    _readers: JoinSet<()>,
    marks: Vec<u8>,
    server: Option<SocketAddr>,
    found: Option<Discovered>,
}

impl Outside {
    /// Opens the sockets and asks the STUN servers, if there are any; `None` if the machine gives no sockets.
    pub async fn explore(
        binding: Binding,
        servers: &[SocketAddr],
        ages: Vec<Duration>,
        chance: Chance,
    ) -> Option<Outside> {
        let (tell, arrived) = mpsc::channel(QUEUE);
        let aged = (0u8..).take(ages.len()).map(Socket::Aged);
        let (mut sockets, mut readers, mut is_mapped) = (Vec::new(), JoinSet::new(), false);
        for at in [Socket::First, Socket::Second].into_iter().chain(aged) {
            let (socket, dual) = udp_socket(binding, 0).ok()?;
            is_mapped = dual;
            let _ = SockRef::from(&socket).set_recv_tos_v4(true);
            let socket = Arc::new(UdpSocket::from_std(socket).ok()?);
            readers.spawn(read(at, Arc::clone(&socket), tell.clone()));
            sockets.push((at, socket));
        }
        let server = servers.first().copied();
        let mut outside = Outside {
            own: None,
            sockets,
            is_mapped,
            arrived,
            _readers: readers,
            marks: Vec::new(),
            server,
            found: None,
        };
        if let Some(own) = server.and_then(|server| outside.address_towards(server)) {
            outside.own = Some(own);
            let question = Question { own, servers: servers.to_vec(), ages };
            outside.discover(question, chance).await;
        }
        Some(outside)
    }

    /// The first socket, as a peer in the same network would see it.
    fn address_towards(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let (_, first) = self.sockets.first()?;
        Some(SocketAddr::new(local_address(peer.ip()).ok()?, first.local_addr().ok()?.port()))
    }

    /// The address and port that the STUN servers were asked from.
    pub fn own(&self) -> Option<SocketAddr> {
        self.own
    }

    /// A STUN server, if there is one.
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// What STUN servers told.
    pub fn found(&self) -> Option<&Discovered> {
        self.found.as_ref()
    }

    /// The marks (DSCP) that answers came with.
    pub fn marks(&self) -> Vec<u8> {
        self.marks.clone()
    }

    fn send(&self, at: Socket, to: SocketAddr, bytes: &[u8]) {
        let Some((_, socket)) = self.sockets.iter().find(|(socket, _)| *socket == at) else { return };
        let to = if self.is_mapped { mapped(to) } else { to };
        // What can't be sent is not answered, which is told as such.
        let _ = SockRef::from(&**socket).send_to(bytes, &to.into());
    }

    /// The next datagram, if one comes before `due` (µs of the monotonic clock).
    async fn next(&mut self, due: Option<u64>) -> Option<Arrived> {
        let wait = Duration::from_micros(due.unwrap_or(0).saturating_sub(clock::now().mono_us));
        let arrived = tokio::time::timeout(wait, self.arrived.recv()).await.ok().flatten()?;
        if let Some(mark) =
            arrived.mark.filter(|mark| !self.marks.contains(mark) && self.marks.len() < MOST_MARKS)
        {
            self.marks.push(mark);
        }
        Some(arrived)
    }

    async fn discover(&mut self, question: Question, chance: Chance) {
        let mut discovery = Discovery::new(clock::now(), question, chance);
        loop {
            while let Some((at, to, bytes)) = discovery.poll_transmit(clock::now()) {
                self.send(at, to, &bytes);
            }
            if let Some(found) = discovery.found() {
                self.found = Some(found.clone());
                return;
            }
            if let Some(Arrived { at, from, bytes, .. }) = self.next(discovery.poll_timeout()).await {
                discovery.handle_datagram(clock::now(), at, from, &bytes);
            }
            discovery.handle_timeout(clock::now());
        }
    }

    /// Asks registrars over UDP, from the first socket, what they see of us; the answers are in the order of the questions.
    pub async fn reflect(&mut self, asked: &[(SocketAddr, SipUri)], mut chance: Chance) -> Vec<Option<Seen>> {
        let now = clock::now();
        let mut reflections: Vec<Option<(SocketAddr, Reflection)>> = Vec::new();
        for (remote, aor) in asked {
            let own = self.address_towards(*remote);
            reflections.push(own.map(|own| (own, Reflection::new(now, own, *remote, aor, chance.fork()))));
        }
        loop {
            let now = clock::now();
            let mut out = Vec::new();
            for (_, reflection) in reflections.iter_mut().flatten() {
                while let Some((to, bytes)) = reflection.poll_transmit(now) {
                    out.push((to, bytes.to_vec()));
                }
            }
            out.iter().for_each(|(to, bytes)| self.send(Socket::First, *to, bytes));
            let waiting =
                reflections.iter().flatten().filter(|(_, reflection)| reflection.found(now).is_none());
            let due = waiting.filter_map(|(_, reflection)| reflection.poll_timeout()).min();
            if due.is_none() {
                let found =
                    |(own, reflection): &(SocketAddr, Reflection)| Seen::of(*own, &reflection.found(now)?);
                return reflections.iter().map(|one| one.as_ref().and_then(found)).collect();
            }
            if let Some(Arrived { at: Socket::First, from, bytes, .. }) = self.next(due).await
                && !is_stun(&bytes)
            {
                let mut all = reflections.iter_mut().flatten();
                all.any(|(_, reflection)| reflection.handle_datagram(from, &bytes));
            }
        }
    }
}

/// Hands on what comes to a socket.
async fn read(at: Socket, socket: Arc<UdpSocket>, tell: Sender<Arrived>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)).await;
        // An error of an earlier datagram is reported once by the next read: it is no end.
        let Ok((length, Some(from), mark)) = received else { continue };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        // Who floods these sockets loses what does not fit.
        let _ = tell.try_send(Arrived { at, from, mark, bytes });
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<SocketAddr>, Option<u8>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!([u8; 64]);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mark = message.cmsgs().ok().and_then(|messages| {
        messages.into_iter().find_map(|message| match message {
            ControlMessageOwned::Ipv4Tos(tos) => Some(tos >> 2),
            _ => None,
        })
    });
    Ok((message.bytes, message.address.as_ref().and_then(socket_address), mark))
}

/// The first routers on the way to a STUN server, the nearest first: each is made to say that a packet went too far. Last
/// comes the server itself, if it is that near.
pub async fn hops(target: Option<SocketAddr>) -> Vec<Option<IpAddr>> {
    let Some(target) = target.filter(SocketAddr::is_ipv4) else { return Vec::new() };
    let binding = Binding { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), dscp: 0 };
    let probes: Vec<_> = (1..=HOPS).filter_map(|far| probe(binding, far).ok()).collect();
    let question = Message::binding_request(TransactionId([0; 12]), None).write(Seal::Plain);
    for _ in 0..2 {
        for probe in &probes {
            let _ = SockRef::from(probe).send_to(&question, &target.into());
        }
        tokio::time::sleep(HOP_WITHIN / 2).await;
    }
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for probe in &probes {
        let router = offender(probe);
        let arrived = router.is_none() && probe.recv(&mut [0; MAX_MESSAGE]).is_ok();
        hops.push(if arrived { Some(target.ip()) } else { router });
        if arrived {
            break;
        }
    }
    while hops.last().is_some_and(Option::is_none) {
        hops.pop();
    }
    hops
}

fn probe(binding: Binding, far: u32) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((binding.address, 0))?;
    socket.set_nonblocking(true)?;
    socket.set_ttl(far)?;
    setsockopt(&socket, Ipv4RecvErr, &true)?;
    Ok(socket)
}

/// Who said that a packet of this socket went too far.
fn offender(socket: &std::net::UdpSocket) -> Option<IpAddr> {
    const TIME_EXCEEDED: u8 = 11;
    let mut quoted = [0; MAX_MESSAGE];
    for _ in 0..4 {
        let mut slices = [IoSliceMut::new(&mut quoted)];
        let mut control = nix::cmsg_space!([u8; 128]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags).ok()?;
        let router = message.cmsgs().ok().and_then(|messages| {
            messages.into_iter().find_map(|message| match message {
                ControlMessageOwned::Ipv4RecvErr(error, Some(router)) if error.ee_type == TIME_EXCEEDED => {
                    Some(Ipv4Addr::from(u32::from_be(router.sin_addr.s_addr)))
                }
                _ => None,
            })
        });
        if let Some(router) = router {
            return Some(router.into());
        }
    }
    None
}

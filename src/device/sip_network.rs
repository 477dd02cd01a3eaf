//! The user agent's border in deeds: UDP sockets, TCP, TLS and WebSocket connections, name servers.
//!
//! It obeys [`Output`] and reports [`Reported`], which the control thread hands to the phone as
//! [`Input`]. It decides nothing.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;

use super::resolver::{self, Resolver};
use super::rtp_port::{Binding, canonical, mapped, socket_address, udp_socket};
use super::tls::{self, Belief};
use super::websocket::Place;
use super::{certificate, clock, websocket};
use crate::config;
use crate::sip::handle::AccountId;
use crate::sip::network::{FIRST_ACCEPTED, Input, LookupError, Output, Question, Record, Transport};

/// What the network reports and the control thread has not yet seen; past it connections wait.
const REPORTS: usize = 256;
/// Messages that wait for one connection's peer to read; past it the connection is given up.
const OUTBOX: usize = 256;
/// How long a TCP connection, its TLS handshake and the opening of a WebSocket may take together.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(8);
/// The kinds of ICMP messages (RFC 792, RFC 4443) which say that a datagram was under way for too long.
const TIME_EXCEEDED: u8 = 11;
const TIME_EXCEEDED_V6: u8 = 3;
/// A flow whose data is not acknowledged for so long is dead (RFC 5482): whoever calls meanwhile reaches nobody.
const SILENT_DEATH: Duration = Duration::from_secs(5);

/// Something the network says.
pub enum Reported {
    /// See [`crate::sip::network::Input::Connected`].
    Connected {
        connection: u64,
        local: SocketAddr,
        remote: SocketAddr,
        certificate_until_utc_us: Option<i64>,
    },
    /// See [`crate::sip::network::Input::Accepted`]; [`SipNetwork::note`] wants it before anything is sent.
    Accepted { connection: u64, local: SocketAddr, remote: SocketAddr, outbox: Outbox },
    /// See [`crate::sip::network::Input::Stream`].
    Stream { connection: u64, bytes: Vec<u8> },
    /// See [`crate::sip::network::Input::Closed`].
    Closed { connection: u64, why: String },
    /// See [`crate::sip::network::Input::Answer`].
    Answer { query: u64, result: Result<Vec<Record>, LookupError> },
    /// See [`crate::sip::network::Input::Unsent`].
    Unsent { remote: SocketAddr, why: String },
    /// See [`crate::sip::network::Input::LocalAddress`].
    LocalAddress { query: u64, result: Result<IpAddr, String> },
}

impl Reported {
    /// The same in the words of the user agent's border.
    pub fn input(&self) -> Input<'_> {
        match self {
            Reported::Connected { connection, local, remote, .. } => {
                Input::Connected { connection: *connection, local: *local, remote: *remote }
            }
            Reported::Accepted { connection, local, remote, .. } => Input::Accepted {
                connection: *connection,
                transport: Transport::Tcp,
                local: *local,
                remote: *remote,
            },
            Reported::Stream { connection, bytes } => Input::Stream { connection: *connection, bytes },
            Reported::Closed { connection, why } => {
                Input::Closed { connection: *connection, why: why.clone() }
            }
            Reported::Answer { query, result } => Input::Answer { query: *query, result: result.clone() },
            Reported::Unsent { remote, why } => Input::Unsent { remote: *remote, why: why.clone() },
            Reported::LocalAddress { query, result } => {
                Input::LocalAddress { query: *query, result: result.clone() }
            }
        }
    }
}

/// The way to a connection's peer. Dropping it ends the connection in order, after what waits has been written.
pub type Outbox = Sender<Vec<u8>>;

/// What the connections of a line need besides an address.
#[derive(Clone)]
struct LineWay {
    belief: Belief,
    websocket_path: String,
}

impl Default for LineWay {
    fn default() -> LineWay {
        LineWay { belief: Belief::default(), websocket_path: config::WebSocketUrl::PATH.to_owned() }
    }
}

/// Sockets, connections and questions of the control thread.
pub struct SipNetwork {
    udp: UdpSocket,
    udp_local: SocketAddr,
    udp_mapped: bool,
    binding: Binding,
    lines: HashMap<AccountId, LineWay>,
    resolver: Option<Resolver>,
    /// The files that it was made of.
    resolver_settings: resolver::Settings,
    connections: HashMap<u64, Outbox>,
    reports: Sender<Reported>,
}

impl SipNetwork {
    /// Binds the UDP socket and, where a port is given, the TCP listener. Reports come out of the receiver.
    pub fn bind(
        binding: Binding,
        udp_port: u16,
        tcp_port: Option<u16>,
    ) -> io::Result<(SipNetwork, Receiver<Reported>)> {
        let (socket, udp_mapped) = udp_socket(binding, udp_port)?;
        // Without these an ICMP error of an unconnected socket is never told.
        let _ = setsockopt(&socket, Ipv4RecvErr, &true);
        if udp_mapped || socket.local_addr()?.is_ipv6() {
            let _ = setsockopt(&socket, Ipv6RecvErr, &true);
        }
        let udp = UdpSocket::from_std(socket)?;
        // An IPv6 socket that takes IPv4 as well says so: names are then looked up for both.
        let address = if udp_mapped { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { binding.address };
        let udp_local = SocketAddr::new(address, udp.local_addr()?.port());
        let (reports, inbox) = mpsc::channel(REPORTS);
        if let Some(port) = tcp_port {
            let listener = listen(binding, port)?;
            tokio::spawn(accept(listener, binding.dscp, reports.clone()));
        }
        let network = SipNetwork {
            udp,
            udp_local,
            udp_mapped,
            binding,
            lines: HashMap::new(),
            resolver: None,
            resolver_settings: resolver::Settings::default(),
            connections: HashMap::new(),
            reports,
        };
        Ok((network, inbox))
    }

    /// The UDP socket as bound: its address may be unspecified (of IPv6: both families), its port is real.
    pub fn udp_local(&self) -> SocketAddr {
        self.udp_local
    }

    /// Whose certificates a line believes, and what path it asks for, from its next connection on.
    pub fn set_line(&mut self, account: AccountId, line: &config::Line) {
        let path = line.websocket.as_ref().map_or(config::WebSocketUrl::PATH, |url| url.path());
        self.lines.insert(account, LineWay { belief: Belief::of(line), websocket_path: path.to_owned() });
    }

    /// Waits for the next datagram, which is put into `buffer`, or the next unreachable peer; whose it is.
    pub async fn receive(&self, buffer: &mut Vec<u8>) -> Result<SocketAddr, Reported> {
        loop {
            let ready = self.udp.ready(Interest::READABLE | Interest::ERROR).await;
            if ready.as_ref().is_ok_and(|ready| ready.is_error()) {
                let refused = self.udp.try_io(Interest::ERROR, || self.refusal());
                if let Ok(Some((remote, why))) = refused {
                    return Err(Reported::Unsent { remote, why });
                }
            }
            // Where there is none, the reason comes through the error queue; the next turn reads it.
            if let Some(from) = self.try_receive(buffer) {
                return Ok(from);
            }
        }
    }

    /// The next datagram, if one waits: it is put into `buffer`, as far as that has room.
    pub fn try_receive(&self, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        buffer.clear();
        self.udp.try_recv_buf_from(buffer).ok().map(|(_, from)| canonical(from))
    }

    /// One entry of the socket's error queue: whom a datagram could not reach, and why.
    fn refusal(&self) -> io::Result<Option<(SocketAddr, String)>> {
        let mut quoted = [0; 64];
        let mut slices = [IoSliceMut::new(&mut quoted)];
        let mut control = nix::cmsg_space!([u8; 128]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(self.udp.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let remote = message.address.as_ref().and_then(socket_address);
        let error = message.cmsgs().ok().and_then(|messages| {
            messages.into_iter().find_map(|message| {
                use nix::sys::socket::ControlMessageOwned::{Ipv4RecvErr, Ipv6RecvErr};
                match message {
                    Ipv4RecvErr(error, _) | Ipv6RecvErr(error, _) => Some(error),
                    _ => None,
                }
            })
        });
        if error.as_ref().is_some_and(passes) {
            return Ok(None);
        }
        let why = error.and_then(|error| i32::try_from(error.ee_errno).ok());
        let why =
            io::Error::from_raw_os_error(why.unwrap_or(nix::errno::Errno::EHOSTUNREACH as i32)).to_string();
        Ok(remote.map(|remote| (remote, why)))
    }

    /// Does what the user agent asks.
    pub fn perform(&mut self, output: Output) {
        match output {
            Output::Datagram { remote, bytes, .. } => self.send(remote, &bytes),
            Output::Connect { connection, transport, remote, server_name, account } => {
                self.connect(connection, transport, remote, server_name, account);
            }
            Output::Stream { connection, bytes } => {
                let stuck =
                    self.connections.get(&connection).is_some_and(|outbox| outbox.try_send(bytes).is_err());
                if stuck {
                    self.close(connection);
                    self.report(Reported::Closed { connection, why: "the peer does not read".into() });
                }
            }
            Output::Close { connection } => self.close(connection),
            Output::Query { query, question, .. } => self.ask(query, question),
            Output::RouteTo { query, remote } => {
                let result = local_address(remote).map_err(|error| error.to_string());
                self.report(Reported::LocalAddress { query, result });
            }
        }
    }

    /// Takes a connection that the listener accepted among its own, and forgets one that ended by itself. To be called
    /// with each report.
    pub fn note(&mut self, reported: &Reported) {
        match reported {
            Reported::Accepted { connection, outbox, .. } => {
                self.connections.insert(*connection, outbox.clone());
            }
            Reported::Closed { connection, .. } => self.close(*connection),
            _ => {}
        }
    }

    fn send(&self, remote: SocketAddr, bytes: &[u8]) {
        let to = if self.udp_mapped { mapped(remote) } else { remote };
        // Past the event loop, which would hold the first datagram back until it has once seen the socket writable. An
        // error that is left over from an earlier datagram is reported by the send after it: one more try is due.
        let socket = socket2::SockRef::from(&self.udp);
        let sent = socket.send_to(bytes, &to.into()).or_else(|_| socket.send_to(bytes, &to.into()));
        if let Err(error) = sent
            && !is_for_a_moment(&error)
        {
            self.report(Reported::Unsent { remote, why: error.to_string() });
        }
    }

    // Not part of `perform`, which sends: that would carry room for all of this on its stack.
    #[inline(never)]
    fn connect(
        &mut self,
        connection: u64,
        transport: Transport,
        remote: SocketAddr,
        server_name: String,
        account: Option<AccountId>,
    ) {
        let way = account.and_then(|account| self.lines.get(&account)).cloned().unwrap_or_default();
        let (outbox, letters) = mpsc::channel(OUTBOX);
        let (reports, binding) = (self.reports.clone(), self.binding);
        tokio::spawn(async move {
            let opening = open(transport, remote, &server_name, &way, binding);
            let opened = tokio::time::timeout(CONNECT_WITHIN, opening).await;
            let why = match opened.unwrap_or_else(|_| Err("no answer to the connection".to_owned())) {
                Ok(Opened { carrier, local, remote, certificate_until_utc_us }) => {
                    let connected =
                        Reported::Connected { connection, local, remote, certificate_until_utc_us };
                    let _ = reports.send(connected).await;
                    match carrier {
                        Carrier::Bytes(stream) => converse(connection, stream, letters, &reports).await,
                        Carrier::Messages(socket) => {
                            websocket::converse(connection, *socket, letters, &reports).await
                        }
                    }
                }
                Err(why) => why,
            };
            let _ = reports.send(Reported::Closed { connection, why }).await;
        });
        self.connections.insert(connection, outbox);
    }

    fn close(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    #[inline(never)]
    fn ask(&mut self, query: u64, question: Question) {
        let settings = Resolver::settings();
        if self.resolver.is_none() || settings != self.resolver_settings {
            self.resolver_settings = settings;
            match Resolver::from_system() {
                Ok(resolver) => self.resolver = Some(resolver),
                Err(error) => return self.report(Reported::Answer { query, result: Err(error) }),
            }
        }
        let (Some(resolver), reports) = (self.resolver.clone(), self.reports.clone()) else { return };
        tokio::spawn(async move {
            let result = resolver.ask(&question).await;
            let _ = reports.send(Reported::Answer { query, result }).await;
        });
    }

    /// Forgets what the resolver knows: its connections and its cache are of another network.
    pub fn network_changed(&mut self) {
        self.resolver = None;
    }

    fn report(&self, reported: Reported) {
        if let Err(mpsc::error::TrySendError::Full(reported)) = self.reports.try_send(reported) {
            let reports = self.reports.clone();
            tokio::spawn(async move {
                let _ = reports.send(reported).await;
            });
        }
    }
}

/// Whether a datagram could not leave just now, which says nothing about its peer: no room in a queue or in memory, or a
/// filter whose table is full. Its repetition may go.
fn is_for_a_moment(error: &io::Error) -> bool {
    use nix::libc::{EAGAIN, EINTR, ENOBUFS, ENOMEM, EPERM};
    matches!(error.raw_os_error(), Some(EAGAIN | ENOBUFS | ENOMEM | EPERM | EINTR))
}

/// Whether a retransmission may arrive where this datagram did not: the way was too narrow, for which the kernel will cut it
/// from now on, or too long for a moment (RFC 3261 section 18.4 has such messages ignored).
fn passes(error: &nix::libc::sock_extended_err) -> bool {
    let exceeded = match error.ee_origin {
        nix::libc::SO_EE_ORIGIN_ICMP => error.ee_type == TIME_EXCEEDED,
        nix::libc::SO_EE_ORIGIN_ICMP6 => error.ee_type == TIME_EXCEEDED_V6,
        _ => false,
    };
    exceeded || error.ee_errno == nix::libc::EMSGSIZE as u32
}

/// A stream of bytes, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that stands.
struct Opened {
    carrier: Carrier,
    local: SocketAddr,
    remote: SocketAddr,
    certificate_until_utc_us: Option<i64>,
}

enum Carrier {
    Bytes(Box<dyn Stream>),
    Messages(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

async fn open(
    transport: Transport,
    remote: SocketAddr,
    server_name: &str,
    way: &LineWay,
    binding: Binding,
) -> Result<Opened, String> {
    let stream = open_tcp(remote, binding).await.map_err(|error| error.to_string())?;
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, remote) = ends.map_err(|error| error.to_string())?;
    if !transport.is_secure() {
        let carrier = Carrier::Bytes(Box::new(stream));
        return Ok(Opened { carrier, local, remote, certificate_until_utc_us: None });
    }
    let stream = secure(stream, &way.belief, server_name).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate_until_utc_us = leaf.and_then(|certificate| certificate::not_after(certificate));
    let carrier = if transport == Transport::Wss {
        let place = Place { server: server_name, port: remote.port(), path: &way.websocket_path };
        Carrier::Messages(Box::new(websocket::open(stream, &place).await?))
    } else {
        Carrier::Bytes(Box::new(stream))
    };
    Ok(Opened { carrier, local, remote, certificate_until_utc_us })
}

/// A TCP connection whose death is noticed, from the address that datagrams leave from.
pub(super) async fn open_tcp(remote: SocketAddr, binding: Binding) -> io::Result<TcpStream> {
    let Binding { address, dscp } = binding;
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !address.is_unspecified() && address.is_ipv4() == remote.is_ipv4() {
        socket.bind(SocketAddr::new(address, 0))?;
    }
    prepare(&socket2::SockRef::from(&socket), remote.is_ipv6(), dscp);
    socket.connect(remote).await
}

fn listen(binding: Binding, port: u16) -> io::Result<TcpListener> {
    let unspecified = binding.address.is_unspecified();
    let address = if unspecified { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { binding.address };
    let open = |address: IpAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))?;
        socket.listen(128)
    };
    match open(address) {
        Err(_) if unspecified => open(binding.address),
        opened => opened,
    }
}

async fn accept(listener: TcpListener, dscp: u8, reports: Sender<Reported>) {
    let mut connection = FIRST_ACCEPTED;
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            // Out of descriptors or the like: the next one may do, but not at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let (local, remote) = (canonical(local), canonical(remote));
        prepare(&socket2::SockRef::from(&stream), local.is_ipv6(), dscp);
        let (outbox, letters) = mpsc::channel(OUTBOX);
        if reports.send(Reported::Accepted { connection, local, remote, outbox }).await.is_err() {
            return;
        }
        let reports = reports.clone();
        tokio::spawn(async move {
            let why = converse(connection, Box::new(stream), letters, &reports).await;
            let _ = reports.send(Reported::Closed { connection, why }).await;
        });
        connection += 1;
    }
}

/// The address that packets to `remote` carry: the kernel's routing says, nothing is sent.
pub(super) fn local_address(remote: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((remote, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn prepare(socket: &socket2::SockRef<'_>, v6: bool, dscp: u8) {
    // Best effort each: a connection without them works, it is only slower to notice its death.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(SILENT_DEATH));
    let _ = socket.set_keepalive(true);
    let _ =
        if v6 { socket.set_tclass_v6(u32::from(dscp) << 2) } else { socket.set_tos_v4(u32::from(dscp) << 2) };
}

/// Puts TLS on a connection to a server of this name.
pub(super) async fn secure(
    stream: TcpStream,
    belief: &Belief,
    server_name: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let config = tls::client(belief).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(server_name.trim_matches(['[', ']']).to_owned())
        .map_err(|_| format!("`{server_name}` is no name that a certificate can carry"))?;
    let connecting = TlsConnector::from(Arc::clone(&config)).connect(name, stream);
    connecting.await.map_err(|error| tls::explain(&error, server_name, belief, clock::now()))
}

/// Carries bytes both ways until one side ends; the answer is why.
async fn converse(
    connection: u64,
    stream: Box<dyn Stream>,
    mut letters: Receiver<Vec<u8>>,
    reports: &Sender<Reported>,
) -> String {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) => return "the peer closed the connection".into(),
                Ok(len) => {
                    let bytes = buffer.get(..len).unwrap_or_default().to_vec();
                    if reports.send(Reported::Stream { connection, bytes }).await.is_err() {
                        return "this end stopped".into();
                    }
                }
                Err(error) => return error.to_string(),
            },
            letter = letters.recv() => match letter {
                Some(bytes) => {
                    if let Err(error) = writer.write_all(&bytes).await {
                        return error.to_string();
                    }
                    if let Err(error) = writer.flush().await {
                        return error.to_string();
                    }
                }
                None => {
                    let _ = writer.shutdown().await;
                    return "closed here".into();
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{
        ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, SO_EE_ORIGIN_LOCAL,
    };

    use super::*;

    #[test]
    fn a_way_that_is_too_narrow_or_too_long_for_a_moment_ends_nothing() {
        let error = |ee_origin, ee_type, ee_code, errno: i32| nix::libc::sock_extended_err {
            ee_errno: errno.unsigned_abs(),
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        };
        for (name, error, ends) in [
            ("fragmentation needed", error(SO_EE_ORIGIN_ICMP, 3, 4, EMSGSIZE), false),
            ("packet too big", error(SO_EE_ORIGIN_ICMP6, 2, 0, EMSGSIZE), false),
            ("known to be too narrow", error(SO_EE_ORIGIN_LOCAL, 0, 0, EMSGSIZE), false),
            ("time exceeded", error(SO_EE_ORIGIN_ICMP, 11, 0, EHOSTUNREACH), false),
            ("time exceeded, IPv6", error(SO_EE_ORIGIN_ICMP6, 3, 0, EHOSTUNREACH), false),
            ("port unreachable", error(SO_EE_ORIGIN_ICMP, 3, 3, ECONNREFUSED), true),
            ("port unreachable, IPv6", error(SO_EE_ORIGIN_ICMP6, 1, 4, ECONNREFUSED), true),
            ("host unreachable", error(SO_EE_ORIGIN_ICMP, 3, 1, EHOSTUNREACH), true),
        ] {
            assert_eq!(passes(&error), !ends, "{name}");
        }
    }

    #[test]
    fn a_datagram_that_had_no_room_for_a_moment_is_left_to_its_repetition() {
        for (errno, lost) in [
            (nix::errno::Errno::EAGAIN, true),
            (nix::errno::Errno::ENOBUFS, true),
            (nix::errno::Errno::ENOMEM, true),
            (nix::errno::Errno::EPERM, true),
            (nix::errno::Errno::EINTR, true),
            (nix::errno::Errno::ENETUNREACH, false),
            (nix::errno::Errno::EHOSTUNREACH, false),
            (nix::errno::Errno::ECONNREFUSED, false),
        ] {
            assert_eq!(is_for_a_moment(&io::Error::from(errno)), lost, "{errno}");
        }
    }

    #[test]
    fn a_connection_leaves_from_the_address_that_is_bound() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let remote = listener.local_addr().expect("an address");
            for (bound, expected) in
                [("127.0.0.2", "127.0.0.2"), ("0.0.0.0", "127.0.0.1"), ("::1", "127.0.0.1")]
            {
                let binding = Binding { address: bound.parse().expect("an address"), dscp: 0 };
                let stream = open_tcp(remote, binding).await.expect("it stands");
                let from = stream.local_addr().expect("an address").ip();
                assert_eq!(from.to_string(), expected, "bound to {bound}");
            }
        });
    }
}

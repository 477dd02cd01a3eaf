//! One pair of UDP sockets for a leg: RTP on an even port, RTCP on the next one (RFC 3550 §11).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Which socket of the pair.
pub use crate::media::Component;

/// A pair of bound sockets.
pub struct RtpPort {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    number: u16,
    mapped: bool,
}

/// What a read brought.
pub struct Arrived {
    /// Bytes in the buffer.
    pub len: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// When the kernel took them, CLOCK_REALTIME in microseconds.
    pub stamp_utc_us: Option<i64>,
}

/// How sockets are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address to bind; the unspecified one means every address, IPv4 and IPv6.
    pub address: IpAddr,
    /// Differentiated services code point of what leaves, 0–63 (RFC 2474).
    pub dscp: u8,
}

impl RtpPort {
    /// Binds `number` (even) and `number + 1`.
    pub fn open(binding: Binding, number: u16) -> io::Result<RtpPort> {
        let (rtp, mapped) = udp_socket(binding, number)?;
        let (rtcp, _) = udp_socket(binding, number + 1)?;
        for socket in [&rtp, &rtcp] {
            // A kernel without the stamps, or an emulated one, costs precision and no call.
            let _ = setsockopt(socket, ReceiveTimestampns, &true);
        }
        Ok(RtpPort { rtp, rtcp, number, mapped })
    }

    /// The port of RTP, as the SDP tells it.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The socket itself, to wait on.
    pub fn descriptor(&self, component: Component) -> BorrowedFd<'_> {
        self.socket(component).as_fd()
    }

    /// Reads one datagram; `None` when nothing waits.
    pub fn receive(&self, component: Component, buffer: &mut [u8], control: &mut [u8]) -> Option<Arrived> {
        let socket = self.socket(component).as_raw_fd();
        loop {
            let mut slices = [IoSliceMut::new(buffer)];
            let message = match recvmsg::<SockaddrStorage>(
                socket,
                &mut slices,
                Some(control),
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(message) => message,
                // An ICMP error of something sent earlier is reported once by the next read: it is no end.
                Err(
                    nix::errno::Errno::ECONNREFUSED
                    | nix::errno::Errno::EHOSTUNREACH
                    | nix::errno::Errno::EINTR,
                ) => continue,
                Err(_) => return None,
            };
            let stamp_utc_us = message.cmsgs().ok().and_then(|messages| {
                messages.into_iter().find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(stamp) => {
                        i64::try_from(Duration::from(stamp).as_micros()).ok()
                    }
                    _ => None,
                })
            });
            let from = message.address.as_ref().and_then(socket_address);
            let len = message.bytes;
            match from {
                Some(from) => return Some(Arrived { len, from, stamp_utc_us }),
                None => continue,
            }
        }
    }

    /// Sends one datagram; what the network refuses is lost like any packet.
    pub fn send(&self, component: Component, to: SocketAddr, bytes: &[u8]) {
        let _ = self.socket(component).send_to(bytes, if self.mapped { mapped(to) } else { to });
    }

    fn socket(&self, component: Component) -> &UdpSocket {
        match component {
            Component::Rtp => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }
}

/// A bound, non-blocking UDP socket, and whether it speaks IPv4 by mapped addresses.
pub fn udp_socket(binding: Binding, port: u16) -> io::Result<(UdpSocket, bool)> {
    let open = |address: IpAddr, dual: bool| -> io::Result<UdpSocket> {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!dual)?;
            let _ = socket.set_tclass_v6(u32::from(binding.dscp) << 2);
        }
        // Refused for the IPv4 side of some kernels' IPv6 sockets, which is no reason to go without a socket.
        let _ = socket.set_tos_v4(u32::from(binding.dscp) << 2);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        Ok(socket.into())
    };
    if binding.address.is_unspecified()
        && let Ok(socket) = open(IpAddr::V6(Ipv6Addr::UNSPECIFIED), true)
    {
        return Ok((socket, true));
    }
    open(binding.address, false).map(|socket| (socket, false))
}

/// The form in which a dual-stack socket takes an IPv4 address.
pub fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()),
        v6 => v6,
    }
}

/// The form in which everybody else knows it.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address of a datagram's other end.
pub fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    storage.as_sockaddr_in6().map(|v6| canonical(SocketAddr::from((v6.ip(), v6.port()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_hears_both_families_and_tells_when() {
        let binding = Binding { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), dscp: 46 };
        let port = (20_000..20_400)
            .step_by(2)
            .find_map(|number| RtpPort::open(binding, number).ok())
            .expect("a free pair of ports");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.send_to(b"hello", ("127.0.0.1", port.number())).expect("sent");
        let (mut buffer, mut control) = ([0; 1500], nix::cmsg_space!(nix::sys::time::TimeSpec));
        let arrived = port.receive(Component::Rtp, &mut buffer, &mut control).expect("a datagram");
        assert_eq!(&buffer[..arrived.len], b"hello");
        assert_eq!(arrived.from, sender.local_addr().expect("an address"));
        port.send(Component::Rtcp, arrived.from, b"back");
        let (len, from) = sender.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..len], from.port()), (&b"back"[..], port.number() + 1));
        assert!(port.receive(Component::Rtp, &mut buffer, &mut control).is_none());
    }
}

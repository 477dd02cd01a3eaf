//! Streams to TURN servers: opened beside the control thread, where nobody waits for a handshake, and then carried by
//! the media thread.
//!
//! A stream that is clogged loses speech and keeps questions: speech that is late is worth nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;

use rustix::event::epoll;
use rustls::ClientConnection;

use super::media_thread::{Order, Orders};
use super::rtp_port::Binding;
use super::sip_network::{CONNECT_WITHIN, open_tcp, secure};
use super::tls::Belief;
use crate::media::PortId;
use crate::nat::relay::{StreamId, StreamInput};
use crate::nat::turn_message::may_be_lost;
use crate::nat::turn_server::Carriage;

/// Octets that the kernel may hold without having sent them: some 200 ms of speech.
const UNSENT: u32 = 4_096;
/// Octets of questions that may wait for a clogged stream.
const MOST_WAITING: usize = 8_192;
/// What marks the name of a stream among those of sockets.
const STREAM: u64 = 1 << 63;

/// Opens a stream in the background; inside the runtime. The media thread is told how it went.
pub(super) fn open(
    stream: StreamId,
    server: SocketAddr,
    carriage: Carriage,
    binding: Binding,
    orders: Orders,
) {
    tokio::spawn(async move {
        let opened = tokio::time::timeout(CONNECT_WITHIN, connect(server, carriage, binding)).await;
        let opened = opened.unwrap_or_else(|_| Err("no answer to the connection".to_owned()));
        if let Err(why) = &opened {
            tracing::debug!("no stream to the TURN server at {server}: {why}");
        }
        // A thread that is so far behind has no use for it: the machine that waits gives up by itself.
        let _ = orders.order(Order::Stream { stream, opened: opened.map(Box::new) });
    });
}

async fn connect(server: SocketAddr, carriage: Carriage, binding: Binding) -> Result<RelayStream, String> {
    let stream = open_tcp(server, binding).await.map_err(|error| error.to_string())?;
    let (stream, tls) = match carriage {
        Carriage::Tls(trust) => {
            let (stream, tls) = secure(stream, &Belief::from(&trust), &trust.name).await?.into_inner();
            (stream, Some(tls))
        }
        Carriage::Udp | Carriage::Tcp => (stream, None),
    };
    RelayStream::new(stream.into_std().map_err(|error| error.to_string())?, tls)
        .map_err(|error| error.to_string())
}

/// A stream that stands. Nothing here waits.
pub struct RelayStream {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// What has not found its way into the socket, or into TLS.
    waiting: Vec<u8>,
    /// Whether the kernel is to say when there is room again.
    watched: bool,
}

impl RelayStream {
    fn new(socket: TcpStream, mut tls: Option<ClientConnection>) -> io::Result<RelayStream> {
        socket.set_nonblocking(true)?;
        // Where the kernel does not know it, a clogged stream is heard later.
        let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT);
        if let Some(tls) = &mut tls {
            // Half a message in it would put the stream out of step; what may wait is limited here.
            tls.set_buffer_limit(None);
        }
        Ok(RelayStream { socket, tls, waiting: Vec::new(), watched: false })
    }

    fn is_clogged(&self) -> bool {
        !self.waiting.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends one message, as far as there is room.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.flush()?;
        let lost = self.is_clogged() && may_be_lost(message);
        if lost || self.waiting.len() + message.len() > MOST_WAITING {
            return Ok(());
        }
        match &self.tls {
            None if self.waiting.is_empty() => match self.socket.write(message) {
                Ok(written) => self.waiting.extend_from_slice(message.get(written..).unwrap_or_default()),
                Err(error) if is_full(&error) && may_be_lost(message) => {}
                Err(error) if is_full(&error) => self.waiting.extend_from_slice(message),
                Err(error) => return Err(error),
            },
            _ => self.waiting.extend_from_slice(message),
        }
        self.flush()
    }

    /// Writes what waits, as far as there is room.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            let written = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket).map(drop),
                Some(_) | None if self.waiting.is_empty() => return Ok(()),
                Some(tls) => {
                    tls.writer().write_all(&self.waiting)?;
                    self.waiting.clear();
                    Ok(())
                }
                None => self.socket.write(&self.waiting).map(|written| drop(self.waiting.drain(..written))),
            };
            match written {
                Err(error) if is_full(&error) => return Ok(()),
                other => other?,
            }
        }
    }

    /// Reads what has come, and hands it on in pieces; an error when nothing will come any more.
    fn read(&mut self, buffer: &mut [u8], mut piece: impl FnMut(&[u8])) -> io::Result<()> {
        let ended = || io::Error::new(ErrorKind::UnexpectedEof, "the TURN server closed the connection");
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(buffer) {
                Ok(0) => Err(ended()),
                Ok(length) => {
                    piece(buffer.get(..length).unwrap_or_default());
                    Ok(())
                }
                Err(error) if is_full(&error) => Ok(()),
                Err(error) => Err(error),
            };
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Err(ended()),
            Err(error) if !is_full(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let bad = tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
        // What came before the mistake counts, and an alert about it leaves.
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Err(ended()),
                Ok(length) => piece(buffer.get(..length).unwrap_or_default()),
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        bad.map(drop)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The streams of the media thread, and those that it waits for.
#[derive(Default)]
pub(super) struct Streams {
    all: BTreeMap<StreamId, (PortId, Option<Box<RelayStream>>)>,
}

impl Streams {
    /// The stream that readiness of this name is about, if it is about one.
    pub fn named(name: u64) -> Option<StreamId> {
        (name & STREAM != 0).then_some(StreamId(name & !STREAM))
    }

    /// A stream is wanted for a port.
    pub fn expect(&mut self, stream: StreamId, port: PortId) {
        self.all.insert(stream, (port, None));
    }

    /// A stream is of no use any more: it ends.
    pub fn remove(&mut self, stream: StreamId) {
        self.all.remove(&stream);
    }

    /// Takes a stream that was wanted; its port and whether it stands. `None` if nobody wants it any more.
    pub fn adopt(
        &mut self,
        poll: BorrowedFd<'_>,
        stream: StreamId,
        opened: Result<Box<RelayStream>, String>,
    ) -> Option<(PortId, Result<(), String>)> {
        let port = self.all.get(&stream).map(|(port, _)| *port)?;
        let adopted = opened.and_then(|opened| {
            let name = epoll::EventData::new_u64(stream.0 | STREAM);
            let watched = epoll::add(poll, &opened.socket, name, epoll::EventFlags::IN);
            watched.map_err(|error| error.to_string())?;
            self.all.insert(stream, (port, Some(opened)));
            Ok(())
        });
        if adopted.is_err() {
            self.all.remove(&stream);
        }
        Some((port, adopted))
    }

    /// Sends one message on a stream. What goes wrong is told when it is read next.
    pub fn send(&mut self, poll: BorrowedFd<'_>, stream: StreamId, message: &[u8]) {
        if let Some((_, Some(carrier))) = self.all.get_mut(&stream) {
            let _ = carrier.send(message);
            watch(poll, stream, carrier);
        }
    }

    /// The kernel says that something can be done on a stream: what has come goes to `told`, and its end, too.
    pub fn exchange(
        &mut self,
        poll: BorrowedFd<'_>,
        stream: StreamId,
        buffer: &mut [u8],
        mut told: impl FnMut(PortId, StreamInput<'_>),
    ) {
        let Some((port, Some(carrier))) = self.all.get_mut(&stream) else { return };
        let port = *port;
        let done = carrier
            .flush()
            .and_then(|()| carrier.read(buffer, |octets| told(port, StreamInput::Bytes(octets))));
        match done {
            Ok(()) => watch(poll, stream, carrier),
            Err(error) => {
                self.all.remove(&stream);
                told(port, StreamInput::Closed(&error.to_string()));
            }
        }
    }
}

/// The kernel says when there is room again, as long as something waits for it.
fn watch(poll: BorrowedFd<'_>, stream: StreamId, carrier: &mut RelayStream) {
    let clogged = carrier.is_clogged();
    if carrier.watched == clogged {
        return;
    }
    let name = epoll::EventData::new_u64(stream.0 | STREAM);
    let flags = if clogged { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
    carrier.watched = epoll::modify(poll, &carrier.socket, name, flags).is_ok() && clogged;
}

#[cfg(test)]
#[path = "relay_stream_tests.rs"]
mod tests;

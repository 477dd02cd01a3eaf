//! A connection that can't be held by standing still: a write that makes no way for long is an error, and a peer that is gone
//! without a word is noticed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long the other side may take nothing of what is written.
const STALLED: Duration = Duration::from_secs(30);

/// A peer that was silent for so long is asked whether it is there,
const SILENT: Duration = Duration::from_secs(60);
/// so often, at this distance,
const ASKED: u32 = 4;
const ASKED_EVERY: Duration = Duration::from_secs(15);
/// and is gone when it acknowledges nothing for so long.
const GONE: Duration = Duration::from_secs(120);

/// Has the system end a connection whose peer is gone, so that it does not keep its place.
pub(super) fn end_with_its_peer(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let asked = TcpKeepalive::new().with_time(SILENT).with_interval(ASKED_EVERY).with_retries(ASKED);
    // Best effort each: a connection without them works, it only stays for longer.
    let _ = socket.set_tcp_keepalive(&asked);
    let _ = socket.set_tcp_user_timeout(Some(GONE));
}

/// A stream whose writes end in time.
pub(super) struct Watched<S> {
    stream: S,
    stalled: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Watched<S> {
    /// Watches a stream.
    pub fn new(stream: S) -> Watched<S> {
        Watched { stream, stalled: Box::pin(tokio::time::sleep(STALLED)), waiting: false }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.stalled.as_mut().reset(Instant::now() + STALLED);
        }
        match self.stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_peer_that_is_gone_without_a_word_ends_its_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let (made, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (_made, (stream, _)) = (made.expect("a connection"), accepted.expect("a connection"));
            end_with_its_peer(&stream);
            let socket = SockRef::from(&stream);
            assert_eq!(socket.keepalive().ok(), Some(true));
            let (time, interval) = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
            assert_eq!((time.ok(), interval.ok()), (Some(SILENT), Some(ASKED_EVERY)));
            assert_eq!(socket.tcp_keepalive_retries().ok(), Some(ASKED));
            assert_eq!(socket.tcp_user_timeout().ok().flatten(), Some(GONE));
        });
    }
}

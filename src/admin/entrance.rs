//! What lies between a connection and its first request: nothing on the local socket, a TLS handshake in the network
//! where that is wanted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Handshakes at once: each costs time of a small processor and memory.
pub(super) const HANDSHAKES: usize = 16;
/// How long somebody who has connected may say nothing at all.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long a handshake may take from then on.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Somebody who has connected.
pub(super) trait Entrance: Send + 'static {
    /// Lets them in: the stream that carries requests.
    fn enter(self) -> impl Future<Output = io::Result<Box<dyn Duplex>>> + Send;
}

impl Entrance for UnixStream {
    async fn enter(self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self))
    }
}

/// Somebody from the network.
pub(super) struct FromNetwork {
    pub stream: TcpStream,
    /// What a handshake needs, if there is to be one.
    pub tls: Option<Arc<ServerConfig>>,
    pub handshakes: Arc<Semaphore>,
}

impl Entrance for FromNetwork {
    async fn enter(self) -> io::Result<Box<dyn Duplex>> {
        let FromNetwork { stream, tls, handshakes } = self;
        let Some(config) = tls else { return Ok(Box::new(stream)) };
        // Who only connects takes no place of those who speak.
        timeout(FIRST_WORD, stream.peek(&mut [0])).await??;
        let _place = handshakes.acquire().await.map_err(io::Error::other)?;
        let stream = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await??;
        Ok(Box::new(stream))
    }
}

//! The doors: the local socket and the network address. One that can't be opened is tried again, and the
//! appliance goes on without it.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use super::access::Peer;
use super::connection::{Watched, end_with_its_peer};
use super::entrance::{Entrance, FromNetwork, HANDSHAKES};
use super::{App, Office, Shared, ami, routes};
use crate::config::Listen;

/// Connections at one door.
const CONNECTIONS: usize = 96;
/// How long a connection may take for the head of a request, or rest between two.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of the head of a request.
const LARGEST_HEAD: usize = 32 * 1024;
/// Fields in the head of a request.
const FIELDS: usize = 64;
/// How soon a door that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long open connections may take to end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The rights of the local socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Serves the API until `stop` resolves; then ends open connections in order.
pub async fn serve(office: Office, stop: impl Future<Output = ()>) {
    let admin = office.config.borrow().admin.clone();
    let (close, closing) = watch::channel(false);
    let app = Shared::new(office, closing.clone());
    let socket = PathBuf::from(&admin.socket);
    let local = local(app.clone(), socket, closing.clone());
    let network = async {
        if let Listen::At(address) = admin.listen {
            network(app.clone(), address, closing.clone()).await;
        }
    };
    let manager = ami::serve(app.clone(), closing.clone());
    let end = async {
        stop.await;
        close.send_replace(true);
    };
    tokio::join!(local, network, manager, end);
}

async fn local(app: App, path: PathBuf, closing: watch::Receiver<bool>) {
    let cure = format!("let tipring's user write to {}, or change [admin] socket", folder(&path).display());
    let open = async || open_socket(&path);
    let Some(listener) = opened(&app, &path.display().to_string(), &cure, closing.clone(), open).await else {
        return;
    };
    let own = rustix::process::geteuid().as_raw();
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Local { uid, owner: uid == own }))
    };
    welcome(&app, accept, closing).await;
    let _ = std::fs::remove_file(&path);
}

async fn network(app: App, address: SocketAddr, closing: watch::Receiver<bool>) {
    let cure = "end the program that uses the address, or change [admin] listen";
    let open = async || TcpListener::bind(address).await;
    let Some(listener) = opened(&app, &address.to_string(), cure, closing.clone(), open).await else {
        return;
    };
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let accept = async || {
        let (stream, from) = listener.accept().await?;
        stream.set_nodelay(true)?;
        end_with_its_peer(&stream);
        let tls = app.office.tls.borrow().clone();
        Ok((FromNetwork { stream, tls, handshakes: handshakes.clone() }, Peer::Remote(from)))
    };
    welcome(&app, accept, closing).await;
}

/// Opens a door, however long that takes; `None` when the appliance ends before it succeeded.
pub(super) async fn opened<L>(
    app: &Shared,
    door: &str,
    cure: &str,
    mut closing: watch::Receiver<bool>,
    open: impl AsyncFn() -> io::Result<L>,
) -> Option<L> {
    let mut told = false;
    loop {
        match open().await {
            Ok(listener) => {
                app.door(door, None);
                tracing::info!(door, "the API is open");
                return Some(listener);
            }
            Err(error) => {
                let trouble = format!("api: {door} can't be opened: {error}; {cure}");
                if !std::mem::replace(&mut told, true) {
                    tracing::error!("{trouble}");
                }
                app.door(door, Some(trouble));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = closing.wait_for(|closing| *closing) => return None,
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens the local socket. A file that another run left behind is removed; one that somebody listens to is
/// not.
fn open_socket(path: &Path) -> io::Result<UnixListener> {
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file of that name that is no socket",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another tipring listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Accepts connections until the appliance ends, then gives the open ones a moment.
async fn welcome<S>(
    app: &App,
    accept: impl AsyncFn() -> io::Result<(S, Peer)>,
    mut closing: watch::Receiver<bool>,
) where
    S: Entrance,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let router = routes::router(app.clone());
    loop {
        // Past the limit others wait in the system's queue.
        let place = tokio::select! {
            place = room.clone().acquire_owned() => place,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((visitor, peer)) => {
                let (router, mut closing) = (router.clone(), closing.clone());
                tokio::spawn(async move {
                    let entered = tokio::select! {
                        entered = visitor.enter() => entered,
                        _ = closing.wait_for(|closing| *closing) => return,
                    };
                    match entered {
                        Ok(stream) => converse(stream, peer, router, closing).await,
                        Err(error) => tracing::debug!(?peer, "no TLS with a visitor of the API: {error}"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the API can't take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(FAREWELL, room.acquire_many(all)).await;
}

async fn converse<S>(stream: S, peer: Peer, router: axum::Router, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        .max_header_size(LARGEST_HEAD)
        .max_headers(FIELDS);
    let mut connection = pin!(server.serve_connection(TokioIo::new(Watched::new(stream)), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = closing.wait_for(|closing| *closing) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, "a connection to the API ended: {error}");
    }
}

//! The PBX on real sockets: a thread of its own on loopback, at ports that the system chooses.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the demo's driver runs on the real machine"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::chance::Chance;
use crate::demo::pbx::{Output, Pbx, Settings, User};
use crate::device::clock;
use crate::sip::network;

/// Calls to the echo at a time.
const ECHO_PORTS: usize = 4;
/// The largest datagram.
const DATAGRAM: usize = 65_535;
/// Datagrams of the echo that may wait.
const QUEUE: usize = 256;

/// A PBX that runs.
pub(super) struct Host {
    /// Where SIP comes in.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Host {
    /// Opens the sockets and starts the thread.
    pub fn start(users: Vec<User>, chance: Chance) -> io::Result<Host> {
        let sip = socket()?;
        let echoes = (0..ECHO_PORTS).map(|_| socket()).collect::<io::Result<Vec<_>>>()?;
        let address = sip.local_addr()?;
        let ports =
            echoes.iter().map(|echo| Ok(echo.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
        let settings = Settings::new(address, &address.to_string(), users, ports.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("pbx".into()).spawn(move || {
            let pbx = Pbx::new(clock::now(), settings, chance);
            // A socket that can't be watched is a machine without hope; the lines tell that nobody answers.
            let _ = runtime.block_on(serve(pbx, sip, ports.into_iter().zip(echoes).collect(), stopped));
        })?;
        Ok(Host { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    mut pbx: Pbx,
    sip: UdpSocket,
    echoes: Vec<(u16, UdpSocket)>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let local = sip.local_addr()?;
    // What leaves goes past the event loop, which would first have to find out that the socket takes it.
    let way_out = sip.try_clone()?;
    let sip = tokio::net::UdpSocket::from_std(sip)?;
    let (heard, mut packets) = mpsc::channel(QUEUE);
    let mut voices = BTreeMap::new();
    for (port, socket) in echoes {
        voices.insert(port, socket.try_clone()?);
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut datagram = vec![0; DATAGRAM];
            while let Ok((len, from)) = socket.recv_from(&mut datagram).await {
                let bytes = datagram.get(..len).unwrap_or_default().to_vec();
                if heard.send((port, from, bytes)).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut datagram = vec![0; DATAGRAM];
    loop {
        drain(&mut pbx, &way_out, &voices);
        let due = pbx.poll_timeout().unwrap_or(u64::MAX).saturating_sub(clock::now().mono_us);
        let sleep = Duration::from_micros(due).min(Duration::from_secs(3600));
        tokio::select! {
            received = sip.recv_from(&mut datagram) => {
                // An ICMP error of something sent earlier is no end.
                if let Ok((len, remote)) = received {
                    let bytes = datagram.get(..len).unwrap_or_default();
                    pbx.handle(clock::now(), network::Input::Datagram { local, remote, bytes });
                }
            }
            Some((port, from, bytes)) = packets.recv() => pbx.handle_rtp(port, from, &bytes),
            () = tokio::time::sleep(sleep) => pbx.handle_timeout(clock::now()),
            _ = &mut stopped => return Ok(()),
        }
    }
}

/// Carries out what the PBX asks. What the network refuses is lost like any datagram.
fn drain(pbx: &mut Pbx, sip: &UdpSocket, voices: &BTreeMap<u16, UdpSocket>) {
    while let Some(output) = pbx.poll_output() {
        match output {
            Output::Rtp { port, remote, bytes } => {
                if let Some(voice) = voices.get(&port) {
                    let _ = voice.send_to(&bytes, remote);
                }
            }
            Output::Sip(network::Output::Datagram { remote, bytes, .. }) => {
                let _ = sip.send_to(&bytes, remote);
            }
            Output::Sip(network::Output::RouteTo { query, .. }) => {
                let result = Ok(Ipv4Addr::LOCALHOST.into());
                pbx.handle(clock::now(), network::Input::LocalAddress { query, result });
            }
            Output::Sip(network::Output::Query { query, .. }) => {
                let result = Err(network::LookupError::NoSuchName);
                pbx.handle(clock::now(), network::Input::Answer { query, result });
            }
            Output::Sip(network::Output::Connect { connection, .. }) => {
                let why = "this PBX speaks UDP only".to_owned();
                pbx.handle(clock::now(), network::Input::Closed { connection, why });
            }
            Output::Sip(network::Output::Stream { .. } | network::Output::Close { .. }) => {}
        }
    }
}

//! The door of the manager protocol: who may come in, and the bytes both ways.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::session::{Output, Session};
use crate::admin::access::refused;
use crate::admin::connection::{Watched, end_with_its_peer};
use crate::admin::listener::opened;
use crate::admin::stream::ended;
use crate::admin::{App, lock};
use crate::config::Listen;
use crate::events::Origin;

/// Connections at once, and those of one address.
const CONNECTIONS: usize = 32;
const OF_ADDRESS: usize = 16;
/// Events that are read from the store at a time.
const PAGE: u32 = 100;
/// A listener that is so many events behind takes too little.
const BEHIND: u64 = 5_000;
/// How soon the store is asked again after it could not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What all connections share.
struct Door {
    app: App,
    guests: Mutex<HashMap<IpAddr, usize>>,
}

impl Door {
    /// A place for somebody from this address, if it may come in and there is room.
    fn admit(self: &Arc<Door>, from: IpAddr) -> Option<Place> {
        let allowed = self.app.office.config.borrow().ami.allow.iter().any(|network| network.contains(from));
        let mut guests = lock(&self.guests);
        let room = guests.values().sum::<usize>() < CONNECTIONS
            && guests.get(&from).is_none_or(|of| *of < OF_ADDRESS);
        if !allowed || !room {
            return None;
        }
        *guests.entry(from).or_default() += 1;
        drop(guests);
        Some(Place { door: self.clone(), from })
    }
}

/// The place of one connection, until it is dropped.
struct Place {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = lock(&self.door.guests);
        if let Some(of) = guests.get_mut(&self.from) {
            *of -= 1;
            if *of == 0 {
                guests.remove(&self.from);
            }
        }
    }
}

/// Serves the manager protocol, if the configuration wants it, until the appliance ends.
pub(in crate::admin) async fn serve(app: App, mut closing: watch::Receiver<bool>) {
    let Listen::At(address) = app.office.config.borrow().ami.listen else { return };
    let open = async || TcpListener::bind(address).await;
    let cure = "end the program that uses the address, or change [ami] listen";
    let Some(listener) = opened(&app, &format!("ami {address}"), cure, closing.clone(), open).await else {
        return;
    };
    let door = Arc::new(Door { app, guests: Mutex::default() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut closing) => return,
        };
        match accepted {
            // Who is not allowed is not answered.
            Ok((stream, from)) => match door.admit(from.ip().to_canonical()) {
                Some(place) => drop(tokio::spawn(converse(place, stream, from, closing.clone()))),
                None => tracing::debug!(%from, "no room at the manager interface, or not allowed"),
            },
            Err(error) => {
                tracing::warn!("the manager interface can't take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Something that nobody can guess.
fn challenge() -> io::Result<String> {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets).map_err(io::Error::other)?;
    Ok(u64::from_ne_bytes(octets).to_string())
}

async fn converse(place: Place, stream: TcpStream, from: SocketAddr, closing: watch::Receiver<bool>) {
    let door = &place.door;
    let Ok(challenge) = challenge() else { return };
    let _ = stream.set_nodelay(true);
    end_with_its_peer(&stream);
    let config = door.app.office.config.borrow().clone();
    let talk = Talk {
        session: Session::new(door.app.now(), config, challenge),
        stream: Watched::new(stream),
        from,
        since: 0,
        deaf: false,
    };
    if let Err(error) = talk.run(door, closing).await {
        tracing::debug!(%from, "a connection to the manager interface ended: {error}");
    }
}

/// One connection.
struct Talk {
    session: Session,
    stream: Watched<TcpStream>,
    from: SocketAddr,
    /// The number of the last event that the session knows.
    since: u64,
    /// Nothing can be sent any more. What was said before is still done: a program that does not read the answers makes its
    /// system reset the connection when it closes it.
    deaf: bool,
}

impl Talk {
    async fn run(mut self, door: &Door, mut closing: watch::Receiver<bool>) -> io::Result<()> {
        let office = &door.app.office;
        let mut archive = office.archive.clone();
        let mut buffer = [0; 4096];
        loop {
            while let Some(output) = {
                let mut ledger = lock(&door.app.ledger);
                self.session.poll(door.app.now(), &mut ledger)
            } {
                match output {
                    Output::Send(text) => self.send(&text).await?,
                    Output::Ask(command) => {
                        self.session.answered(office.desk.ask(command, Origin::Ami).await)
                    }
                    Output::Wrong(user) => {
                        let user = Some(user).filter(|it| !it.is_empty());
                        refused(&door.app, "ami", self.from, user).await;
                    }
                    Output::Entered(user) => {
                        door.app.attempts.right(self.from.ip());
                        tracing::info!(user, "a program has logged in at the manager interface");
                        self.since = archive.committed();
                    }
                    Output::Close => return self.stream.shutdown().await,
                }
            }
            let left = self.session.deadline().map(|due| door.app.now().mono_us.abs_diff(due));
            let listens = self.session.listens();
            tokio::select! {
                read = self.stream.read(&mut buffer), if self.session.has_room() => match read {
                    Ok(0) | Err(_) => self.session.end_of_input(),
                    Ok(count) => self.session.receive(&buffer[..count]),
                },
                newer = archive.newer_than(self.since), if listens => {
                    if !newer || archive.committed() - self.since > BEHIND {
                        return Err(io::Error::other("it takes too little of what it is told, or all is ending"));
                    }
                    match archive.events(self.since, PAGE).await {
                        Ok(events) => for event in &events {
                            self.since = self.since.max(event.sequence);
                            self.session.happened(event);
                        },
                        Err(_) => tokio::time::sleep(AGAIN).await,
                    }
                },
                () = tokio::time::sleep(Duration::from_micros(left.unwrap_or_default())), if left.is_some() => {}
                () = ended(&mut closing) => return Ok(()),
            }
        }
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        if self.deaf {
            return Ok(());
        }
        match self.stream.write_all(text.as_bytes()).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            sent => {
                self.deaf = sent.is_err();
                Ok(())
            }
        }
    }
}

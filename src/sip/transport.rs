//! The transport layer of RFC 3261 §18: flows, connections and what waits for them, with ceilings on all of
//! it.
//!
//! It decides which connection carries what, reuses those that stand, frames what comes and closes what
//! idles. What the messages mean is not known here.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::now::Now;
use crate::sip::account::Limits;
use crate::sip::fault::Unreadable;
use crate::sip::framer::{Frame, Framer};
use crate::sip::handle::AccountId;
use crate::sip::network::{Output, Transport};
use crate::sip::timers::Timers;

/// A way to a peer: over what, from where, to where.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// Over what.
    pub transport: Transport,
    /// Our end; the UDP socket's own address, which may be unspecified.
    pub local: Option<SocketAddr>,
    /// Their end.
    pub remote: SocketAddr,
    /// The connection, unless it is UDP.
    pub connection: Option<u64>,
}

impl Flow {
    /// Whether both are the same way: the same connection, or datagrams to the same peer.
    pub fn is_same(&self, other: &Flow) -> bool {
        self.transport == other.transport
            && match (self.connection, other.connection) {
                (None, None) => self.remote == other.remote,
                (a, b) => a == b,
            }
    }
}

/// What came of a piece of a stream.
#[derive(Debug)]
pub enum Arrival {
    /// A frame, or what could not be read as one.
    Frame(Result<Frame, Unreadable>),
    /// The connection is beyond repair: answer if that is possible, then close it.
    Broken(Unreadable),
}

/// The connections of the user agent.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    connections: HashMap<u64, Connection>,
    timers: Timers<u64>,
    outputs: VecDeque<Output>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    transport: Transport,
    local: Option<SocketAddr>,
    remote: SocketAddr,
    server_name: String,
    account: Option<AccountId>,
    /// The lines whose requests went this way.
    users: Vec<AccountId>,
    state: State,
    framer: Framer,
    /// Held open for a line: never closed for idleness.
    kept: bool,
}

#[derive(Debug)]
enum State {
    Connecting { waiting: Vec<Vec<u8>> },
    Open { spoke: bool },
}

/// A connection that does not stand after this time is given up.
const CONNECTING: Duration = Duration::from_secs(10);
/// An accepted connection must bring its first whole message within this time.
const SILENT: Duration = Duration::from_secs(10);
/// A connection that nobody holds is closed after this time without a message.
const IDLE: Duration = Duration::from_secs(600);

fn framer(transport: Transport) -> Framer {
    if transport == Transport::Wss { Framer::of_messages() } else { Framer::new() }
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: Limits) -> Connections {
        Connections {
            limits,
            connections: HashMap::new(),
            timers: Timers::new(),
            outputs: VecDeque::new(),
            next: 1,
        }
    }

    /// A connection to this peer: one that stands or is being made, else a new one. Under TLS the name that
    /// was verified must be the same, where a name is given.
    pub fn to(
        &mut self,
        now: Now,
        transport: Transport,
        remote: SocketAddr,
        server_name: &str,
        account: Option<AccountId>,
    ) -> u64 {
        if let Some(connection) = self.find(transport, remote, server_name, account) {
            if let Some(there) = self.connections.get_mut(&connection) {
                there.users.extend(account.filter(|account| !there.users.contains(account)));
            }
            return connection;
        }
        let connection = self.next;
        self.next += 1;
        let state = State::Connecting { waiting: Vec::new() };
        self.connections.insert(
            connection,
            Connection {
                transport,
                local: None,
                remote,
                server_name: server_name.to_owned(),
                account,
                users: account.into_iter().collect(),
                state,
                framer: framer(transport),
                kept: false,
            },
        );
        self.timers.set(connection, Some(now.deadline(CONNECTING)));
        let server_name = server_name.to_owned();
        self.outputs.push_back(Output::Connect { connection, transport, remote, server_name, account });
        connection
    }

    fn find(
        &self,
        transport: Transport,
        remote: SocketAddr,
        server_name: &str,
        account: Option<AccountId>,
    ) -> Option<u64> {
        // Under TLS each line has its own idea of whom to believe. One that was accepted has no name, but it
        // is the very peer; and where only the address is asked for, as in the routes of many a proxy, whoever
        // proved the line's name at that address is the one.
        let is_address = server_name.trim_matches(['[', ']']).parse() == Ok(remote.ip());
        let is_verified = |there: &Connection| {
            let is_it = is_address || there.server_name == server_name;
            there.account.is_none() || (there.account == account && is_it)
        };
        self.connections
            .iter()
            .filter(|(_, there)| {
                there.transport == transport
                    && there.remote == remote
                    && (!transport.is_secure() || is_verified(there))
            })
            .map(|(id, _)| *id)
            // The lowest number is one that we opened ourselves.
            .min()
    }

    /// The flow of a connection that stands.
    pub fn flow(&self, connection: u64) -> Option<Flow> {
        let there = self.connections.get(&connection)?;
        matches!(there.state, State::Open { .. }).then_some(Flow {
            transport: there.transport,
            local: there.local,
            remote: there.remote,
            connection: Some(connection),
        })
    }

    /// Whether the connection stands or is being made.
    pub fn exists(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// The line for which it was opened.
    pub fn account_of(&self, connection: u64) -> Option<AccountId> {
        self.connections.get(&connection)?.account
    }

    /// All connections that stand or are being made for a line.
    pub fn of_account(&self, account: AccountId) -> Vec<u64> {
        self.connections
            .iter()
            .filter(|(_, there)| there.account == Some(account))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Has what was opened for one line count as another's.
    pub fn hand_over(&mut self, from: AccountId, to: AccountId) {
        for there in self.connections.values_mut().filter(|there| there.account == Some(from)) {
            there.account = Some(to);
        }
    }

    /// Has one connection count as a line's.
    pub fn give(&mut self, connection: u64, to: AccountId) {
        if let Some(there) = self.connections.get_mut(&connection) {
            there.account = Some(to);
        }
    }

    /// Holds a connection open for a line, or no longer.
    pub fn keep(&mut self, now: Now, connection: u64, kept: bool) {
        if let Some(there) = self.connections.get_mut(&connection)
            && there.kept != kept
        {
            there.kept = kept;
            if matches!(there.state, State::Open { .. }) {
                self.timers.set(connection, (!kept).then(|| now.deadline(IDLE)));
            }
        }
    }

    /// Asks the peer of a connection whether it is there (RFC 5626 §3.5.1).
    pub fn ping(&mut self, connection: u64) {
        if let Some(there) = self.connections.get_mut(&connection)
            && matches!(there.state, State::Open { .. })
        {
            there.framer.pinged();
            self.outputs.push_back(Output::Stream { connection, bytes: b"\r\n\r\n".to_vec() });
        }
    }

    /// No pong is expected any more on a connection.
    pub fn forget_pings(&mut self, connection: u64) {
        if let Some(there) = self.connections.get_mut(&connection) {
            there.framer.forget_pings();
        }
    }

    /// Sends bytes; they wait while the connection is being made. False if there is no such connection, or
    /// too much waits for it.
    pub fn send(&mut self, now: Now, connection: u64, bytes: Vec<u8>) -> bool {
        let Some(there) = self.connections.get_mut(&connection) else {
            return false;
        };
        match &mut there.state {
            State::Connecting { waiting } => {
                let length: usize = waiting.iter().map(Vec::len).sum();
                if length + bytes.len() > self.limits.waiting_bytes {
                    return false;
                }
                waiting.push(bytes);
            }
            State::Open { spoke } => {
                if !there.kept && *spoke {
                    self.timers.set(connection, Some(now.deadline(IDLE)));
                }
                self.outputs.push_back(Output::Stream { connection, bytes });
            }
        }
        true
    }

    /// A connection of ours stands.
    pub fn handle_connected(&mut self, now: Now, connection: u64, local: SocketAddr) -> Option<Flow> {
        let there = self.connections.get_mut(&connection)?;
        there.local = Some(local);
        if let State::Connecting { waiting } =
            std::mem::replace(&mut there.state, State::Open { spoke: true })
        {
            let messages = waiting.into_iter().map(|bytes| Output::Stream { connection, bytes });
            self.outputs.extend(messages);
        }
        self.timers.set(connection, (!there.kept).then(|| now.deadline(IDLE)));
        self.flow(connection)
    }

    /// Somebody connected. False if it was refused: too many stand, or the peer is not `welcome`.
    pub fn handle_accepted(
        &mut self,
        now: Now,
        connection: u64,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        welcome: bool,
    ) -> bool {
        let accepted = self.connections.values().filter(|there| there.account.is_none());
        let (all, same) = accepted.fold((0, 0), |(all, same), there| {
            (all + 1, same + usize::from(there.remote.ip() == remote.ip()))
        });
        if !welcome
            || all >= self.limits.accepted
            || same >= self.limits.accepted_per_address
            || self.connections.contains_key(&connection)
        {
            self.outputs.push_back(Output::Close { connection });
            return false;
        }
        self.connections.insert(
            connection,
            Connection {
                transport,
                local: Some(local),
                remote,
                server_name: String::new(),
                account: None,
                users: Vec::new(),
                state: State::Open { spoke: false },
                framer: framer(transport),
                kept: false,
            },
        );
        self.timers.set(connection, Some(now.deadline(SILENT)));
        true
    }

    /// Bytes came on a connection: take what they make with [`next_frame`](Self::next_frame).
    pub fn handle_stream(&mut self, connection: u64, bytes: &[u8]) {
        if let Some(there) = self.connections.get_mut(&connection) {
            there.framer.push(bytes);
        }
    }

    /// The next frame of a connection, with the flow it came on. A ping is answered here (RFC 5626 §3.5.1).
    pub fn next_frame(&mut self, now: Now, connection: u64) -> Option<(Flow, Arrival)> {
        let flow = self.flow(connection)?;
        let there = self.connections.get_mut(&connection)?;
        let frame = there.framer.next()?;
        if frame.is_ok() {
            there.state = State::Open { spoke: true };
            if !there.kept {
                self.timers.set(connection, Some(now.deadline(IDLE)));
            }
        }
        if matches!(frame, Ok(Frame::Ping)) {
            self.outputs.push_back(Output::Stream { connection, bytes: b"\r\n".to_vec() });
        }
        Some(match frame {
            Err(unreadable) if unreadable.fatal => (flow, Arrival::Broken(unreadable)),
            frame => (flow, Arrival::Frame(frame)),
        })
    }

    /// A connection ended by itself or never came to be. What it was, if it was known.
    pub fn handle_closed(&mut self, connection: u64) -> Option<Flow> {
        let there = self.connections.remove(&connection)?;
        self.timers.set(connection, None);
        Some(Flow {
            transport: there.transport,
            local: there.local,
            remote: there.remote,
            connection: Some(connection),
        })
    }

    /// Has the machine close a connection; [`handle_closed`](Self::handle_closed) forgets it.
    pub fn ask_close(&mut self, connection: u64) {
        self.outputs.push_back(Output::Close { connection });
    }

    /// What is to be done next; drain it after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// A deadline has come: the connection that was closed for it, and why. Call it until it answers `None`. One by which a
    /// line sent that `is_needed` there stays: it may be the only way to us that the far end of a call knows.
    pub fn handle_timeout(
        &mut self,
        now: Now,
        is_needed: impl Fn(AccountId, IpAddr) -> bool,
    ) -> Option<(u64, &'static str)> {
        while let Some(connection) = self.timers.pop(now.mono_us) {
            let Some(there) = self.connections.get(&connection) else { continue };
            let why = match there.state {
                State::Connecting { .. } => "the server does not answer connection requests",
                State::Open { spoke: false } => "nothing was said",
                State::Open { spoke: true }
                    if there.users.iter().any(|user| is_needed(*user, there.remote.ip())) =>
                {
                    self.timers.set(connection, Some(now.deadline(IDLE)));
                    continue;
                }
                State::Open { spoke: true } => "idle",
            };
            return Some((connection, why));
        }
        None
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.connections.len()
    }
}

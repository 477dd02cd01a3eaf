//! What whoever keeps a line's flow alive asks of the user agent: to send something on it, to tell what comes back, and
//! to make a new flow. When to do what is not known here.
//!
//! The OPTIONS of a keep-alive is no transaction: whoever asks repeats it, any answer to it counts, and none is
//! challenged, so that it never shows the password. It is not traced either: it would fill the trace with itself.

use std::net::SocketAddr;
use std::time::Duration;

use crate::now::Now;
use crate::sip::exchange::{Owner, Phase};
use crate::sip::handle::AccountId;
use crate::sip::host::{Host, HostPort};
use crate::sip::locate::{Destination, Located};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::{Output, Transport};
use crate::sip::srv::ServerName;
use crate::sip::transport::Flow;
use crate::sip::ua_event::Event;
use crate::sip::uri::Uri;
use crate::sip::user_agent::UserAgent;
use crate::sip::via::{MAGIC_COOKIE, Via};
use crate::sip::wire::Wire;

/// The flow that a line is registered over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptFlow {
    /// Over what.
    pub transport: Transport,
    /// The server.
    pub remote: SocketAddr,
    /// The connection, unless it is UDP.
    pub connection: Option<u64>,
    /// Where the registrar saw our last REGISTER come from, if it told.
    pub seen: Option<SocketAddr>,
    /// The longest silence that it wants.
    pub longest_silence: Option<Duration>,
}

/// The OPTIONS that waits for an answer.
#[derive(Debug)]
pub(crate) struct Probe {
    branch: String,
    octets: Vec<u8>,
}

/// Names that may be looked for at a time.
const MOST_RESOLVING: usize = 32;
/// The longest datagram that is handed on as STUN.
const MAX_STUN: usize = 1_500;

impl UserAgent {
    /// The flow of a line, while it has one.
    pub fn kept_flow(&self, account: AccountId) -> Option<KeptFlow> {
        let line = self.wire.lines.get(&account)?;
        let flow = line.flow.as_ref()?;
        Some(KeptFlow {
            transport: flow.transport,
            remote: flow.remote,
            connection: flow.connection,
            seen: line.seen,
            longest_silence: line.registration.outbound().longest_silence(),
        })
    }

    /// Whether a REGISTER of the line waits for its answer.
    pub fn is_registering(&self, account: AccountId) -> bool {
        self.wire.lines.get(&account).is_some_and(|line| line.registration.is_in_flight())
    }

    /// Whether a call of the line is being set up.
    pub fn is_calling(&self, account: AccountId) -> bool {
        self.calls.values().any(|call| call.account() == account && call.is_being_made())
    }

    /// Sends an OPTIONS on the line's flow, or the last one `again`; the answer is [`Event::Answered`].
    pub fn ask(&mut self, now: Now, account: AccountId, again: bool) {
        self.wire.ask(now, account, again);
        self.settle(now);
    }

    /// Sends CRLFCRLF on the line's connection (RFC 5626 §3.5.1); the answer is [`Event::Pong`].
    pub fn ping(&mut self, account: AccountId) {
        let flow = self.wire.lines.get(&account).and_then(|line| line.flow.as_ref());
        if let Some(connection) = flow.and_then(|flow| flow.connection) {
            self.wire.connections.ping(connection);
        }
    }

    /// Sends octets that are no SIP on the line's flow, if that is UDP.
    pub fn send_on_flow(&mut self, account: AccountId, octets: Vec<u8>) {
        let flow = self.wire.lines.get(&account).and_then(|line| line.flow.clone());
        if let Some(Flow { connection: None, local, remote, .. }) = flow {
            self.wire.outputs.push_back(Output::Datagram { local, remote, bytes: octets });
        }
    }

    /// Sends octets that are no SIP from the socket of SIP to anybody.
    pub fn send_datagram(&mut self, remote: SocketAddr, octets: Vec<u8>) {
        let local = self.wire.socket_for(remote);
        self.wire.outputs.push_back(Output::Datagram { local, remote, bytes: octets });
    }

    /// The line's flow is dead, or may be: a new connection under TCP and TLS, and in any case a REGISTER at once.
    pub fn renew_flow(&mut self, now: Now, account: AccountId) {
        self.wire.renew(now, account);
        self.settle(now);
    }

    /// The registrar sees the line at another address: a REGISTER at once, with a Contact that names it and without
    /// the one of before.
    pub fn flow_moved(&mut self, now: Now, account: AccountId, seen: SocketAddr) {
        if let Some(line) = self.wire.lines.get_mut(&account)
            && line.account.rewrite_contact
            && line.flow.as_ref().is_some_and(|flow| flow.transport == Transport::Udp)
        {
            line.registration.set_public(seen);
        }
        self.wire.restart(now, account);
        self.settle(now);
    }

    /// Tries again now what waits because the registrar was silent. `found`: it has been heard. A wish of the
    /// registrar's to be left alone is obeyed all the same.
    pub fn retry(&mut self, now: Now, account: AccountId, found: bool) {
        if let Some(line) = self.wire.lines.get_mut(&account) {
            let step = line.registration.retry(found);
            self.wire.follow(now, account, vec![step]);
        }
        self.settle(now);
    }

    /// Looks for the addresses of a server that is not SIP's; [`Event::Resolved`] tells them, also that there are none.
    pub fn resolve(&mut self, now: Now, name: &ServerName) {
        let destination = Destination::of_service(name);
        match self.wire.locator.locate(now, &destination) {
            Located::Soon if self.wire.resolving.len() < MOST_RESOLVING => {
                if !self.wire.resolving.contains(&destination) {
                    self.wire.resolving.push(destination);
                }
            }
            located => {
                let targets = if let Located::Here(targets) = located { targets } else { Vec::new() };
                self.wire.tell_resolved(&destination, targets.iter().map(|target| target.remote).collect());
            }
        }
        self.settle(now);
    }

    /// A datagram of STUN on the SIP socket: told apart by its first octets (RFC 5626 §8, RFC 7983). True if it was one.
    pub(crate) fn is_stun(&mut self, remote: SocketAddr, octets: &[u8]) -> bool {
        let stun = matches!(octets, [0..=3, _, _, _, 0x21, 0x12, 0xA4, 0x42, ..]) && octets.len() <= MAX_STUN;
        if stun {
            self.wire.events.push_back(Event::Stun { remote, octets: octets.to_vec() });
        }
        stun
    }

    /// An answer to a probe. True if it was one.
    pub(crate) fn is_answer_to_probe(&mut self, response: &Response) -> bool {
        let branch = response.head.top_via().and_then(Via::branch);
        let probes = self.wire.lines.iter_mut();
        let found = probes.into_iter().find_map(|(account, line)| {
            let probe = line.probe.take_if(|probe| Some(probe.branch.as_str()) == branch)?;
            Some((*account, probe.octets.len()))
        });
        let Some((account, question)) = found else { return false };
        let octets = u32::try_from(question + response.write().len()).unwrap_or(u32::MAX);
        self.wire.events.push_back(Event::Answered { account, seen: seen(response), octets });
        true
    }

    /// Datagrams do not reach a peer.
    pub(crate) fn handle_unsent(&mut self, remote: SocketAddr) {
        for (account, line) in &self.wire.lines {
            if line.flow.as_ref().is_some_and(|flow| flow.connection.is_none() && flow.remote == remote) {
                self.wire.events.push_back(Event::Unreachable { account: *account });
            }
        }
    }

    /// OPTIONS for a line came; from the server that it is registered at?
    pub(crate) fn note_visit(&mut self, account: AccountId, flow: &Flow) {
        let own = self.wire.lines.get(&account).and_then(|line| line.flow.as_ref());
        if own.is_some_and(|own| own.remote.ip() == flow.remote.ip()) {
            self.wire.events.push_back(Event::Asked { account });
        }
    }

    /// A pong on a connection.
    pub(crate) fn handle_pong(&mut self, connection: u64) {
        for (account, line) in &self.wire.lines {
            if line.flow.as_ref().is_some_and(|flow| flow.connection == Some(connection)) {
                self.wire.events.push_back(Event::Pong { account: *account });
            }
        }
    }
}

impl Wire {
    fn ask(&mut self, now: Now, account: AccountId, again: bool) {
        let Some(flow) = self.lines.get(&account).and_then(|line| line.flow.clone()) else { return };
        let local = match flow.connection {
            Some(_) => flow.local,
            None => self.local_towards(now, flow.remote),
        };
        let Some(local) = local else { return };
        let (branch, tag, call_id) = (self.chance.token(12), self.chance.token(6), self.chance.token(9));
        let Some(line) = self.lines.get_mut(&account) else { return };
        if !again || line.probe.is_none() {
            let branch = format!("{MAGIC_COOKIE}{branch}");
            let registrar = line.account.registrar_uri();
            let from = NameAddr::new(Uri::Sip(line.account.aor.clone())).with_tag(&tag);
            let to = NameAddr::new(registrar.clone());
            let mut request = Request::new(Method::OPTIONS, registrar, from, to, &call_id, 1);
            let sent_by = HostPort { host: Host::from(local.ip()), port: Some(local.port()) };
            let mut via = Via::new(flow.transport.via_token(), sent_by, &branch);
            via.ask_rport();
            request.head.via = vec![via];
            line.probe = Some(Probe { branch, octets: request.write() });
        }
        let octets = line.probe.as_ref().map(|probe| probe.octets.clone()).unwrap_or_default();
        self.counters.sent += 1;
        match flow.connection {
            Some(connection) => {
                self.connections.forget_pings(connection);
                self.connections.send(now, connection, octets);
            }
            None => {
                let output = Output::Datagram { local: flow.local, remote: flow.remote, bytes: octets };
                self.outputs.push_back(output);
            }
        }
    }

    /// The way of a registered line may be another one. A datagram takes it by itself, and a REGISTER tells what came of that.
    /// A connection that comes from another address than we have now is made anew ([`Wire::handle_local_address`]); the
    /// others, by which somebody may be ringing, most likely live, and are asked: what is not acknowledged ends them.
    pub(crate) fn doubt(&mut self, now: Now, account: AccountId, flow: &Flow) {
        let mut connections = self.connections.of_account(account);
        connections.extend(flow.connection);
        crate::order::sort_by_key(&mut connections, |connection| *connection);
        connections.dedup();
        for connection in connections {
            self.connections.ping(connection);
        }
        match flow.connection {
            Some(_) => {
                self.local_towards(now, flow.remote);
            }
            None => self.restart(now, account),
        }
    }

    /// A new flow for a line, whatever its REGISTER is at.
    pub(crate) fn renew(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        if !line.account.register || line.leaving || !line.registration.is_wanted() {
            return;
        }
        line.flow.take_if(|flow| flow.connection.is_some());
        // Those that a line over UDP has for its long requests are as dead.
        let mut connections = self.connections.of_account(account);
        crate::order::sort_by_key(&mut connections, |connection| *connection);
        for connection in connections {
            self.connections.ask_close(connection);
            self.handle_closed(now, connection, "the connection was dead");
        }
        self.restart(now, account);
    }

    /// Sends a new REGISTER at once, in place of one that waits for its answer.
    pub(crate) fn restart(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get(&account) else { return };
        if !line.account.register || line.leaving || !line.registration.is_wanted() {
            return;
        }
        let is_old = |owner: Owner, of: AccountId| owner == Owner::Registration && of == account;
        let old: Vec<_> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| is_old(exchange.owner, exchange.account))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.finish(id);
            match self.exchanges.remove(&id).map(|exchange| exchange.phase) {
                Some(Phase::Sent { branch, .. }) => self.transactions.abandon(&branch, &Method::REGISTER),
                Some(Phase::Connecting { connection, .. }) => {
                    self.connections.ask_close(connection);
                    self.handle_closed(now, connection, "the network has changed");
                }
                _ => {}
            }
        }
        if let Some(line) = self.lines.get_mut(&account) {
            let step = line.registration.restart();
            self.follow(now, account, vec![step]);
        }
    }

    /// A look-up of [`UserAgent::resolve`] is over.
    pub(crate) fn handle_resolved(&mut self, destination: &Destination, addresses: Vec<SocketAddr>) {
        if let Some(index) = self.resolving.iter().position(|one| one == destination) {
            self.resolving.remove(index);
            self.tell_resolved(destination, addresses);
        }
    }

    fn tell_resolved(&mut self, destination: &Destination, addresses: Vec<SocketAddr>) {
        let Some(name) = destination.server_name() else { return };
        if let Some(first) = addresses.first() {
            // Another answer moves nobody away from a server that is still there.
            self.locator.mark_good(destination, Transport::Udp, *first);
        }
        self.events.push_back(Event::Resolved { name, addresses });
    }
}

/// Where the sender of an answer saw its request come from (RFC 3261 §18.2.1, RFC 3581).
pub(crate) fn seen(response: &Response) -> Option<SocketAddr> {
    let via = response.head.top_via()?;
    let address = via.received().or_else(|| via.host.ip())?;
    let port = via.rport().flatten().or(via.port)?;
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
#[path = "keep_alive_tests.rs"]
mod tests;

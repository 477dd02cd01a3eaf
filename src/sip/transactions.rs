//! The transaction layer of RFC 3261 §17 and RFC 6026: which message belongs to which request, and its
//! timers.
//!
//! Matches by branch, sent-by and method, and the RFC 2543 way where the branch is an old one (§17.2.3). It
//! repeats, acknowledges refusals and sends 100 by itself. It knows flows by name only; connections belong to
//! [`transport`](crate::sip::transport), meaning to the user agent.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::now::Now;
use crate::sip::account::Timing;
use crate::sip::client_transaction::{self, ClientTransaction, Reaction};
use crate::sip::handle::{RequestId, TransactionId};
use crate::sip::message::{Head, Request, Response};
use crate::sip::method::Method;
use crate::sip::network::Transport;
use crate::sip::server_transaction::{self, ServerTransaction};
use crate::sip::timers::Timers;
use crate::sip::transport::Flow;
use crate::sip::via::Via;

/// What the layer wants done or known.
#[derive(Debug)]
pub enum Effect {
    /// Send these bytes on this flow.
    Send {
        /// Where.
        flow: Flow,
        /// What.
        bytes: Vec<u8>,
        /// An answer may go to this address instead if its connection is gone (RFC 3261 §18.2.2).
        instead: Option<SocketAddr>,
    },
    /// A client transaction ended without a final response.
    Failed {
        /// The request it carried; `None` for a CANCEL, whose end means nothing.
        request: Option<RequestId>,
        /// Its branch.
        branch: String,
        /// `None`: nobody answered in time; else what the transport said.
        why: Option<String>,
    },
    /// A refusal of an INVITE was never acknowledged.
    Unacknowledged(TransactionId),
    /// A server transaction is forgotten.
    Ended(TransactionId),
}

/// To what a request of theirs belongs.
#[derive(Debug, PartialEq, Eq)]
pub enum Belongs {
    /// It is new; answer it by this handle.
    New(TransactionId),
    /// The same request as another one that came another way (RFC 3261 §8.2.2.2): answer 482 by this handle.
    Merged(TransactionId),
    /// It was a repetition, or the ACK of a refusal: done.
    Absorbed,
    /// An ACK that acknowledges no refusal: it belongs to a dialog, or to nothing.
    Ack,
    /// Too many requests are being answered: dropped.
    Overflow,
}

/// All transactions of the user agent.
#[derive(Debug)]
pub struct Transactions {
    timing: Timing,
    limit: usize,
    clients: HashMap<String, Client>,
    servers: HashMap<TransactionId, Server>,
    by_key: HashMap<String, TransactionId>,
    by_origin: HashMap<String, TransactionId>,
    timers: Timers<Key>,
    effects: VecDeque<Effect>,
    next: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Client(String),
    Server(TransactionId),
}

#[derive(Debug)]
struct Client {
    machine: ClientTransaction,
    request: Option<RequestId>,
    flow: Flow,
    message: Request,
    bytes: Vec<u8>,
    acknowledgement: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Server {
    machine: ServerTransaction,
    flow: Flow,
    key: String,
    origin: Option<String>,
    instead: Option<SocketAddr>,
    trying: Option<Vec<u8>>,
}

impl Transactions {
    /// An empty layer that answers at most `limit` requests at a time, and a quarter more of those in calls.
    pub fn new(timing: Timing, limit: usize) -> Transactions {
        Transactions {
            timing,
            limit,
            clients: HashMap::new(),
            servers: HashMap::new(),
            by_key: HashMap::new(),
            by_origin: HashMap::new(),
            timers: Timers::new(),
            effects: VecDeque::new(),
            next: 0,
        }
    }

    /// Sends a request of ours, complete with its topmost Via, and waits for its answers.
    pub fn send(&mut self, now: Now, request: Option<RequestId>, message: Request, flow: Flow) {
        let bytes = message.write();
        let key = client_key(&message.head, &message.method);
        let invite = message.method == Method::INVITE;
        let machine = ClientTransaction::new(now, invite, flow.transport.is_reliable(), self.timing);
        self.effects.push_back(Effect::Send { flow: flow.clone(), bytes: bytes.clone(), instead: None });
        self.timers.set(Key::Client(key.clone()), machine.poll_timeout());
        self.clients.insert(key, Client { machine, request, flow, message, bytes, acknowledgement: None });
    }

    /// Gives a response to its transaction. The request it answers, if it is to be handed on; `None` inside
    /// if it was absorbed. `Err` if it belongs to nothing.
    pub fn handle_response(
        &mut self,
        now: Now,
        response: &Response,
    ) -> Result<Option<(RequestId, Flow)>, Stray> {
        // More than one Via: it is not for us (RFC 3261 §8.1.3.3).
        if response.head.via.len() != 1 {
            return Err(Stray);
        }
        let key = client_key(&response.head, &response.head.cseq.method);
        let client = self.clients.get_mut(&key).ok_or(Stray)?;
        let reaction = client.machine.handle_response(now, response.status);
        self.timers.set(Key::Client(key), client.machine.poll_timeout());
        if matches!(reaction, Reaction::DeliverAndAcknowledge) {
            client.acknowledgement = Some(acknowledgement(&client.message, response).write());
        }
        if let (Reaction::DeliverAndAcknowledge | Reaction::Acknowledge, Some(bytes)) =
            (reaction, &client.acknowledgement)
        {
            let effect = Effect::Send { flow: client.flow.clone(), bytes: bytes.clone(), instead: None };
            self.effects.push_back(effect);
        }
        let deliver = matches!(reaction, Reaction::Deliver | Reaction::DeliverAndAcknowledge);
        Ok(client.request.filter(|_| deliver).map(|request| (request, client.flow.clone())))
    }

    /// The message and flow of a request of ours, while its transaction lives.
    pub fn sent(&self, branch: &str, method: &Method) -> Option<(&Request, &Flow)> {
        self.clients.get(&format!("{branch}\n{method}")).map(|client| (&client.message, &client.flow))
    }

    /// Forgets a request of ours: it is tried elsewhere.
    pub fn abandon(&mut self, branch: &str, method: &Method) {
        let key = format!("{branch}\n{method}");
        if self.clients.remove(&key).is_some() {
            self.timers.set(Key::Client(key), None);
        }
    }

    /// Gives a request of theirs to its transaction, or makes one. `flow` is where it came from. One that is
    /// `known`, for it belongs to a call, finds room above the limit: a flood must not keep a call from ending.
    pub fn handle_request(&mut self, now: Now, request: &Request, flow: &Flow, known: bool) -> Belongs {
        let Some(via) = request.head.top_via() else {
            return Belongs::Absorbed;
        };
        let key = server_key(&request.head, &request.method, request, via);
        if request.method == Method::ACK {
            let Some(id) = self.by_key.get(&key).copied() else {
                return Belongs::Ack;
            };
            let Some(server) = self.servers.get_mut(&id) else {
                return Belongs::Ack;
            };
            let of_success = server.machine.handle_ack(now);
            self.timers.set(Key::Server(id), server.machine.poll_timeout());
            return if of_success { Belongs::Ack } else { Belongs::Absorbed };
        }
        if let Some(server) = self.by_key.get(&key).and_then(|id| self.servers.get_mut(id)) {
            // The latest way in is the way out: a NAT may have moved the peer meanwhile.
            if flow.transport == Transport::Udp {
                server.flow = answer_flow(flow, via);
            }
            if let Some(bytes) = server.machine.handle_repetition() {
                let effect = Effect::Send { flow: server.flow.clone(), bytes: bytes.to_vec(), instead: None };
                self.effects.push_back(effect);
            }
            return Belongs::Absorbed;
        }
        let known = known || (request.method == Method::CANCEL && self.cancelled(request).is_some());
        let limit = if known { self.limit + self.limit / 4 } else { self.limit };
        if self.servers.len() >= limit {
            return Belongs::Overflow;
        }
        let origin = (request.head.to_tag().is_none() && request.method != Method::CANCEL)
            .then(|| origin_key(&request.head));
        let merged = origin.as_ref().is_some_and(|origin| self.by_origin.contains_key(origin));
        let id = TransactionId(self.next);
        self.next += 1;
        let invite = request.method == Method::INVITE;
        let machine = ServerTransaction::new(now, invite, flow.transport.is_reliable(), self.timing);
        self.timers.set(Key::Server(id), machine.poll_timeout());
        let origin = origin.filter(|_| !merged);
        if let Some(origin) = &origin {
            self.by_origin.insert(origin.clone(), id);
        }
        self.by_key.insert(key.clone(), id);
        let trying = invite.then(|| Response::to(request, 100).write());
        let instead = flow
            .connection
            .map(|_| SocketAddr::new(flow.remote.ip(), via.port.unwrap_or(flow.transport.default_port())));
        let flow = answer_flow(flow, via);
        self.servers.insert(id, Server { machine, flow, key, origin, instead, trying });
        if merged { Belongs::Merged(id) } else { Belongs::New(id) }
    }

    /// The INVITE that a CANCEL of theirs is for (RFC 3261 §9.2), if it is here.
    pub fn cancelled(&self, cancel: &Request) -> Option<TransactionId> {
        let via = cancel.head.top_via()?;
        self.by_key.get(&server_key(&cancel.head, &Method::INVITE, cancel, via)).copied()
    }

    /// Whether the request has its final answer (or is forgotten).
    pub fn is_answered(&self, id: TransactionId) -> bool {
        self.servers.get(&id).is_none_or(|server| server.machine.is_final())
    }

    /// The flow by which a request of theirs is answered.
    pub fn flow_of(&self, id: TransactionId) -> Option<&Flow> {
        self.servers.get(&id).map(|server| &server.flow)
    }

    /// Answers a request of theirs. Nothing happens if it has its final answer, but that the 2xx of an INVITE
    /// may be repeated.
    pub fn respond(&mut self, now: Now, id: TransactionId, response: &Response) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let bytes = response.write();
        if server.machine.respond(now, response.status, &bytes) {
            self.effects.push_back(Effect::Send {
                flow: server.flow.clone(),
                bytes,
                instead: server.instead,
            });
        }
        self.timers.set(Key::Server(id), server.machine.poll_timeout());
    }

    /// The peer of a flow can't be reached: requests that wait for its answer have failed (RFC 3261 §17.1.4). A datagram
    /// that is lost ends nothing that the peer has answered provisionally: an INVITE rings there, others are repeated.
    pub fn handle_unreachable(&mut self, why: &str, is_there: impl Fn(&Flow) -> bool) {
        let goes_on = |client: &Client| client.flow.connection.is_none() && client.machine.is_answered();
        let lost: Vec<String> = self
            .clients
            .iter()
            .filter(|(_, client)| !client.machine.is_final() && !goes_on(client) && is_there(&client.flow))
            .map(|(key, _)| key.clone())
            .collect();
        for key in lost {
            if let Some(client) = self.remove_client(&key) {
                self.effects.push_back(failed(&client, Some(why.to_owned())));
            }
        }
    }

    /// What is to be done next; drain it after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Deadlines have come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(key) = self.timers.pop(now.mono_us) {
            match key {
                Key::Client(key) => self.client_timeout(now, key),
                Key::Server(id) => self.server_timeout(now, id),
            }
        }
    }

    fn client_timeout(&mut self, now: Now, key: String) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        match client.machine.handle_timeout(now) {
            client_transaction::Expiry::Repeat => {
                let effect =
                    Effect::Send { flow: client.flow.clone(), bytes: client.bytes.clone(), instead: None };
                self.effects.push_back(effect);
            }
            client_transaction::Expiry::TimedOut => {
                if let Some(client) = self.remove_client(&key) {
                    self.effects.push_back(failed(&client, None));
                }
                return;
            }
            client_transaction::Expiry::Ended => {
                self.remove_client(&key);
                return;
            }
            client_transaction::Expiry::Nothing => {}
        }
        let deadline = client.machine.poll_timeout();
        self.timers.set(Key::Client(key), deadline);
    }

    fn server_timeout(&mut self, now: Now, id: TransactionId) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        match server.machine.handle_timeout(now) {
            server_transaction::Expiry::Trying => {
                if let Some(bytes) = server.trying.take()
                    && server.machine.respond(now, 100, &bytes)
                {
                    self.effects.push_back(Effect::Send {
                        flow: server.flow.clone(),
                        bytes,
                        instead: server.instead,
                    });
                }
            }
            server_transaction::Expiry::Repeat => {
                if let Some(bytes) = server.machine.last() {
                    let bytes = bytes.to_vec();
                    self.effects.push_back(Effect::Send { flow: server.flow.clone(), bytes, instead: None });
                }
            }
            server_transaction::Expiry::Unacknowledged => {
                self.effects.push_back(Effect::Unacknowledged(id));
                self.remove_server(id);
                return;
            }
            server_transaction::Expiry::Ended => {
                self.remove_server(id);
                return;
            }
            server_transaction::Expiry::Nothing => {}
        }
        let deadline = server.machine.poll_timeout();
        self.timers.set(Key::Server(id), deadline);
    }

    fn remove_client(&mut self, key: &str) -> Option<Client> {
        self.timers.set(Key::Client(key.to_owned()), None);
        self.clients.remove(key)
    }

    fn remove_server(&mut self, id: TransactionId) {
        self.timers.set(Key::Server(id), None);
        if let Some(server) = self.servers.remove(&id) {
            self.by_key.remove(&server.key);
            if let Some(origin) = server.origin {
                self.by_origin.remove(&origin);
            }
            self.effects.push_back(Effect::Ended(id));
        }
    }

    /// How many transactions live: ours and theirs.
    pub fn count(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }
}

/// A message that belongs to no transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stray;

fn failed(client: &Client, why: Option<String>) -> Effect {
    let branch = client.message.head.top_via().and_then(Via::branch).unwrap_or_default().to_owned();
    Effect::Failed { request: client.request, branch, why }
}

/// RFC 3261 §17.1.3: a response matches by the branch of its topmost Via and the method of its CSeq.
fn client_key(head: &Head, method: &Method) -> String {
    let branch = head.top_via().and_then(Via::branch).unwrap_or_default();
    format!("{branch}\n{method}")
}

/// RFC 3261 §17.2.3. ACK matches the INVITE it acknowledges.
fn server_key(head: &Head, method: &Method, request: &Request, via: &Via) -> String {
    let method = if *method == Method::ACK { &Method::INVITE } else { method };
    let port = via.port.map(|port| port.to_string()).unwrap_or_default();
    let host = via.host.to_string().to_ascii_lowercase();
    match via.branch().filter(|_| via.has_magic_cookie()) {
        Some(branch) => format!("{branch}\n{host}:{port}\n{method}"),
        // The To-tag is left out: an ACK has the tag of our answer, the INVITE has none, and CSeq tells them
        // apart.
        None => format!(
            "\n{}\n{}\n{}\n{}\n{host}:{port} {}\n{method}",
            request.uri,
            head.from_tag().unwrap_or_default(),
            head.call_id,
            head.cseq.number,
            via.branch().unwrap_or_default(),
        ),
    }
}

/// RFC 3261 §8.2.2.2: what two copies of one request have in common.
fn origin_key(head: &Head) -> String {
    let (number, method) = (head.cseq.number, &head.cseq.method);
    format!("{}\n{}\n{number} {method}", head.from_tag().unwrap_or_default(), head.call_id)
}

/// RFC 3261 §18.2.2 and RFC 3581: where the answer to a request goes that came on `flow` with this topmost
/// Via.
pub fn answer_flow(flow: &Flow, via: &Via) -> Flow {
    let mut flow = flow.clone();
    if flow.transport == Transport::Udp && via.rport().is_none() {
        flow.remote.set_port(via.port.unwrap_or(flow.transport.default_port()));
    }
    flow
}

/// The ACK of a refusal (RFC 3261 §17.1.1.3).
fn acknowledgement(invite: &Request, response: &Response) -> Request {
    let mut ack = Request::new(
        Method::ACK,
        invite.uri.clone(),
        invite.head.from.clone(),
        response.head.to.clone(),
        &invite.head.call_id,
        invite.head.cseq.number,
    );
    ack.head.via = invite.head.via.iter().take(1).cloned().collect();
    for route in invite.fields.all("Route") {
        ack.fields.push("Route", route);
    }
    ack
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;

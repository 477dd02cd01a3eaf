//! What comes in, and to whom it belongs: keep-alives and garbage, answers to transactions, requests to
//! calls, the rest to the user agent's own answers or to the room above.

use std::net::SocketAddr;

use crate::now::Now;
use crate::sip::call::Call;
use crate::sip::call::transfer::PACKAGE;
use crate::sip::event_package::EventPackage;
use crate::sip::fault::Unreadable;
use crate::sip::framer::Frame;
use crate::sip::handle::{AccountId, CallId, TransactionId};
use crate::sip::message::{Message, Request, Response};
use crate::sip::method::Method;
use crate::sip::network::Transport;
use crate::sip::options;
use crate::sip::reader::read_datagram;
use crate::sip::transactions::{Belongs, answer_flow};
use crate::sip::transport::{Arrival, Flow};
use crate::sip::ua_event::Event;
use crate::sip::uri::Uri;
use crate::sip::user_agent::UserAgent;
use crate::sip::via::Via;
use crate::sip::wire::Incoming;

impl UserAgent {
    pub(crate) fn handle_datagram(&mut self, now: Now, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        if self.is_stun(remote, bytes) {
            return;
        }
        let flow = Flow { transport: Transport::Udp, local: Some(local), remote, connection: None };
        match read_datagram(bytes) {
            Ok(None) => {}
            Ok(Some(message)) => {
                if self.wire.settings.trace && self.is_worth_tracing(&message, remote) {
                    self.wire.trace(false, &flow, bytes);
                }
                self.handle_message(now, &flow, message);
            }
            Err(unreadable) => self.handle_unreadable(now, &flow, unreadable),
        }
    }

    pub(crate) fn handle_stream(&mut self, now: Now, connection: u64, bytes: &[u8]) {
        self.wire.connections.handle_stream(connection, bytes);
        while let Some((flow, arrival)) = self.wire.connections.next_frame(now, connection) {
            match arrival {
                Arrival::Frame(Ok(Frame::Message(message))) => {
                    if self.wire.settings.trace {
                        let bytes = message.write();
                        self.wire.trace(false, &flow, &bytes);
                    }
                    self.handle_message(now, &flow, *message);
                }
                Arrival::Frame(Ok(Frame::Ping)) => {}
                Arrival::Frame(Ok(Frame::Pong)) => self.handle_pong(connection),
                Arrival::Frame(Err(unreadable)) => self.handle_unreadable(now, &flow, unreadable),
                Arrival::Broken(unreadable) => {
                    self.handle_unreadable(now, &flow, unreadable);
                    self.wire.connections.ask_close(connection);
                    self.wire.handle_closed(now, connection, "the peer sent what is no SIP");
                    return;
                }
            }
        }
    }

    /// A stranger's messages would fill the trace with what is dropped anyway.
    fn is_worth_tracing(&self, message: &Message, remote: SocketAddr) -> bool {
        matches!(message, Message::Response(_))
            || !self.wire.lines_trusting(remote.ip()).is_empty()
            || self.call_of(message).is_some()
    }

    fn handle_unreadable(&mut self, now: Now, flow: &Flow, unreadable: Unreadable) {
        self.wire.counters.unreadable += 1;
        if self.wire.lines_trusting(flow.remote.ip()).is_empty() {
            return;
        }
        if let Some(mut refusal) = unreadable.reply {
            note_source(&mut refusal.via, flow);
            let flow = answer_flow(flow, &refusal.via);
            self.wire.send_bytes(now, &flow, refusal.write());
        }
    }

    fn handle_message(&mut self, now: Now, flow: &Flow, message: Message) {
        self.wire.counters.received += 1;
        match message {
            Message::Response(response) if self.is_forged_challenge(flow, &response) => {
                self.wire.counters.unanswered_challenges += 1;
            }
            Message::Response(response) if self.is_answer_to_probe(&response) => {}
            Message::Response(response) => self.handle_response(now, response),
            Message::Request(mut request) => {
                if let Some(via) = request.head.via.first_mut() {
                    note_source(via, flow);
                }
                self.handle_request(now, flow, request);
            }
        }
    }

    /// Somebody asks for the password who is neither where the request went nor a server of a line: the true answer
    /// is still to come.
    fn is_forged_challenge(&self, flow: &Flow, response: &Response) -> bool {
        let branch = response.head.top_via().and_then(Via::branch).unwrap_or_default();
        let sent = || self.wire.transactions.sent(branch, &response.head.cseq.method);
        matches!(response.status, 401 | 407)
            && sent().is_some_and(|(_, asked)| asked.remote.ip() != flow.remote.ip())
            && self.wire.lines_trusting(flow.remote.ip()).is_empty()
    }

    fn handle_response(&mut self, now: Now, response: Response) {
        let branch = response.head.top_via().and_then(Via::branch).unwrap_or_default().to_owned();
        match self.wire.transactions.handle_response(now, &response) {
            Ok(Some((request, flow))) => {
                self.wire.handle_exchange_response(now, request, &flow, &branch, response);
                self.settle(now);
            }
            Ok(None) => self.settle(now),
            Err(_) => self.wire.counters.stray_responses += 1,
        }
    }

    /// The call that a message inside a dialog belongs to.
    fn call_of(&self, message: &Message) -> Option<CallId> {
        let head = message.head();
        let tag = head.to_tag()?;
        self.dialogs.get(&(head.call_id.clone(), tag.to_owned())).copied()
    }

    fn handle_request(&mut self, now: Now, flow: &Flow, request: Request) {
        let call = request
            .head
            .to_tag()
            .and_then(|tag| self.dialogs.get(&(request.head.call_id.clone(), tag.to_owned())).copied());
        let mut lines = self.wire.lines_trusting(flow.remote.ip());
        let opener = flow.connection.and_then(|connection| self.wire.connections.account_of(connection));
        // It may outlive its line.
        lines.extend(opener.filter(|line| self.wire.lines.contains_key(line)));
        // Our tag in a dialog is a secret that only the peer of the dialog knows.
        let subscriber = || self.wire.subscriber(&request.head);
        if lines.is_empty() && call.is_none() && subscriber().is_none() {
            self.wire.counters.untrusted += 1;
            return;
        }
        let (transaction, merged) =
            match self.wire.transactions.handle_request(now, &request, flow, call.is_some()) {
                Belongs::New(transaction) => (transaction, false),
                Belongs::Merged(transaction) => (transaction, true),
                Belongs::Absorbed => return,
                Belongs::Overflow => {
                    self.wire.counters.overflow += 1;
                    return;
                }
                Belongs::Ack => {
                    match call.and_then(|id| self.calls.get_mut(&id)) {
                        Some(call) => call.handle_ack(now, &request, &mut self.wire),
                        None => self.wire.counters.stray_acks += 1,
                    }
                    return;
                }
            };
        let account = match call.and_then(|id| self.calls.get(&id)) {
            Some(call) => Some(call.account()),
            None => self.claim(&lines, &request),
        };
        let answer_flow =
            self.wire.transactions.flow_of(transaction).cloned().unwrap_or_else(|| flow.clone());
        let method = request.method.clone();
        let reached = reached(&request.uri, flow.transport);
        self.wire.incoming.insert(transaction, Incoming { flow: answer_flow, account, method, reached });
        if flow.transport == Transport::Udp {
            // The answer may want our address in its Contact.
            self.wire.local_towards(now, flow.remote);
        }
        if merged {
            self.refuse(now, transaction, Response::to(&request, 482));
            return;
        }
        self.dispatch(now, flow, transaction, account, call, request);
    }

    fn dispatch(
        &mut self,
        now: Now,
        flow: &Flow,
        transaction: TransactionId,
        account: Option<AccountId>,
        call: Option<CallId>,
        request: Request,
    ) {
        if request.method == Method::CANCEL {
            self.handle_cancel(now, transaction, &request);
            return;
        }
        if let Some(refusal) = options::refuse(&self.wire.settings, &request) {
            self.refuse(now, transaction, refusal);
            return;
        }
        // What came of a transfer is told inside the call.
        let of_call =
            || matches!(request.fields.typed::<EventPackage>(), Ok(Some(event)) if event.package == PACKAGE);
        if request.method == Method::NOTIFY && !(call.is_some() && of_call()) {
            self.answer_notify(now, transaction, account, &request);
            return;
        }
        if request.head.to_tag().is_some() {
            let Some((id, call)) = call.and_then(|id| Some((id, self.calls.get_mut(&id)?))) else {
                self.refuse(now, transaction, Response::to(&request, 481));
                return;
            };
            if request.method == Method::OPTIONS {
                let answer = options::capabilities(&self.wire.settings, &request);
                self.wire.respond(now, transaction, answer);
                return;
            }
            if request.method == Method::INVITE {
                self.invites.insert(transaction, id);
            }
            call.handle_request(now, transaction, &request, &mut self.wire);
            return;
        }
        match &request.method {
            method if self.wire.settings.serves.contains(method) => {
                self.wire.events.push_back(Event::Request {
                    transaction,
                    account,
                    transport: flow.transport,
                    remote: flow.remote,
                    request: Box::new(request),
                });
            }
            method if *method == Method::INVITE => self.handle_invite(now, transaction, account, &request),
            method if *method == Method::OPTIONS => {
                // A PBX asks whether we are alive, often without naming anybody.
                let answer = match (account, request.uri.user()) {
                    (None, Some(_)) => Response::to(&request, 404),
                    _ => options::capabilities(&self.wire.settings, &request),
                };
                self.respond(now, transaction, answer);
                if let Some(account) = account {
                    self.note_visit(account, flow);
                }
            }
            // Nobody has us call somebody who is not in a call with us.
            method if *method == Method::REFER => self.refuse(now, transaction, Response::to(&request, 603)),
            // BYE, PRACK, UPDATE, INFO: there is no dialog that they could be for.
            _ => self.refuse(now, transaction, Response::to(&request, 481)),
        }
    }

    fn handle_invite(
        &mut self,
        now: Now,
        transaction: TransactionId,
        account: Option<AccountId>,
        request: &Request,
    ) {
        let Some(account) = account else {
            self.refuse(now, transaction, Response::to(request, 404));
            return;
        };
        if self.calls.len() >= self.wire.settings.limits.calls || self.is_stopping() {
            let mut response = Response::to(request, 503);
            response.fields.push("Retry-After", "10");
            self.refuse(now, transaction, response);
            return;
        }
        let predecessor = match self.predecessor(account, request) {
            Ok(predecessor) => predecessor,
            Err(status) => return self.refuse(now, transaction, Response::to(request, status)),
        };
        let id = CallId(self.next_call);
        self.next_call += 1;
        let call = Call::incoming(now, id, account, predecessor, transaction, request, &mut self.wire);
        self.invites.insert(transaction, id);
        self.keep_call(id, call);
    }

    /// RFC 3261 §9.2.
    fn handle_cancel(&mut self, now: Now, transaction: TransactionId, cancel: &Request) {
        let Some(invite) = self.wire.transactions.cancelled(cancel) else {
            self.refuse(now, transaction, Response::to(cancel, 481));
            return;
        };
        self.respond(now, transaction, Response::to(cancel, 200));
        if self.wire.transactions.is_answered(invite) {
            return;
        }
        if let Some(call) = self.invites.get(&invite).and_then(|id| self.calls.get_mut(id)) {
            call.handle_cancel(now, invite, cancel, &mut self.wire);
        }
    }

    /// The line that a request outside a dialog is for: the one whose user it names, however an ALG has
    /// rewritten the rest; else the one that takes everything; else the only one at that server.
    fn claim(&self, lines: &[AccountId], request: &Request) -> Option<AccountId> {
        let user = request.uri.user();
        let to = request.head.to.uri.user();
        let of = |id: &AccountId| self.wire.lines.get(id);
        let by_uri = lines
            .iter()
            .filter_map(|id| Some((of(id)?.fits(user.as_deref()), *id)))
            .filter(|(fit, _)| *fit > 0)
            .max_by_key(|(fit, id)| (*fit, std::cmp::Reverse(*id)));
        let by_to =
            || lines.iter().find(|id| of(id).is_some_and(|line| line.fits(to.as_deref()) > 0)).copied();
        let catch_all = || lines.iter().find(|id| of(id).is_some_and(|line| line.account.catch_all)).copied();
        let only = || match lines {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Some(*first),
            _ => None,
        };
        by_uri.map(|(_, id)| id).or_else(by_to).or_else(catch_all).or_else(only)
    }

    pub(crate) fn refuse(&mut self, now: Now, transaction: TransactionId, response: Response) {
        self.wire.counters.refused_requests += 1;
        self.respond(now, transaction, response);
    }
}

/// RFC 3261 §18.2.1 and RFC 3581 §4: where the request really came from.
fn note_source(via: &mut Via, flow: &Flow) {
    let source = flow.remote.ip();
    if via.rport().is_some() {
        via.set_rport(flow.remote.port());
        via.set_received(source);
    } else if via.host.ip() != Some(source) {
        via.set_received(source);
    }
}

/// The numeric address in a Request-URI: it is how the peer sees us.
fn reached(uri: &Uri, transport: Transport) -> Option<SocketAddr> {
    let uri = uri.as_sip()?;
    Some(SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(transport.default_port())))
}

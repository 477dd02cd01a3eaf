//! The user agent: lines, calls and everything beneath them behind one door. The only thing of this room that
//! the rooms above talk to.
//!
//! After every `handle…` and every command, drain [`poll_output`](UserAgent::poll_output) and
//! [`poll_event`](UserAgent::poll_event) until both say `None`, then sleep until
//! [`poll_timeout`](UserAgent::poll_timeout).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::now::{Now, earliest};
use crate::sip::account::{Account, Settings};
use crate::sip::call::replaced::EndedDialogs;
use crate::sip::call::{Call, CallError, InviteOptions};
use crate::sip::dialog::Sequence;
use crate::sip::exchange::{Owner, Way};
use crate::sip::handle::{AccountId, CallId, RequestId, TransactionId};
use crate::sip::line::Line;
use crate::sip::locate::Target;
use crate::sip::message::{Request, Response};
use crate::sip::network::{Input, Output, Transport};
use crate::sip::reason::Reason;
use crate::sip::registration::{RegistrationState, Step};
use crate::sip::ua_event::{Counters, Event};
use crate::sip::uri::Uri;
use crate::sip::wire::{Delivery, Wire};

/// All of SIP for one device.
#[derive(Debug)]
pub struct UserAgent {
    pub(crate) wire: Wire,
    pub(crate) calls: BTreeMap<CallId, Call>,
    /// Calls by Call-ID and our tag.
    pub(crate) dialogs: HashMap<(String, String), CallId>,
    /// INVITEs of theirs that are not answered yet, for CANCEL.
    pub(crate) invites: HashMap<TransactionId, CallId>,
    /// The dialogs that ended last: who wants to replace one is told that it has ended.
    pub(crate) ended: EndedDialogs,
    next_account: u64,
    pub(crate) next_call: u64,
    stopping: Option<u64>,
}

/// So long after a line is registered elsewhere its calls tell that to their far ends, …
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// … and by chance up to this much later.
const MORE_PAUSE: Duration = Duration::from_millis(900);
/// How long an orderly end may take.
const STOPPING: Duration = Duration::from_secs(2);

impl UserAgent {
    /// A user agent without lines.
    pub fn new(settings: Settings, chance: Chance) -> UserAgent {
        UserAgent {
            wire: Wire::new(settings, chance),
            calls: BTreeMap::new(),
            dialogs: HashMap::new(),
            invites: HashMap::new(),
            ended: EndedDialogs::default(),
            next_account: 1,
            next_call: 1,
            stopping: None,
        }
    }

    /// Adds a line: its server is looked for at once, and it registers if it is meant to, unless it stands by.
    pub fn add_account(&mut self, now: Now, account: Account) -> AccountId {
        let id = AccountId(self.next_account);
        self.next_account += 1;
        self.insert(now, id, account);
        id
    }

    fn insert(&mut self, now: Now, id: AccountId, account: Account) {
        let register = account.register && !account.standby;
        let line = Line::new(account, &mut self.wire.chance);
        self.wire.lines.insert(id, line);
        self.wire.survey(now, id);
        if register {
            self.register(now, id);
        }
        self.settle(now);
    }

    /// Gives a line other settings. Its calls go on; it registers anew, and takes back the old binding if it
    /// is one of another address of record or registrar.
    pub fn replace_account(&mut self, now: Now, id: AccountId, account: Account) {
        let Some(line) = self.wire.lines.get_mut(&id) else {
            return;
        };
        let same = line.account.aor == account.aor
            && line.account.registrar == account.registrar
            && line.account.outbound_proxy == account.outbound_proxy;
        if same {
            let register = account.register && (!account.standby || line.registration.is_wanted());
            let subscribe = account.subscribe_mwi;
            line.choice.reconfigure(&account);
            if line.account.expires != account.expires {
                line.registration.set_expires(account.expires);
            }
            line.account = account;
            line.authenticator = Default::default();
            if !subscribe {
                self.wire.unsubscribe(now, id);
            }
            if register {
                self.register(now, id);
            } else {
                self.unregister(now, id);
            }
            self.wire.survey(now, id);
        } else if let Some(old) = self.wire.lines.remove(&id) {
            let leaving = AccountId(self.next_account);
            self.next_account += 1;
            self.wire.lines.insert(leaving, old);
            self.wire.hand_over(id, leaving);
            self.remove_account(now, leaving);
            self.insert(now, id, account);
        }
        self.settle(now);
    }

    /// Takes a line away: its binding is taken back first, its calls end by themselves.
    pub fn remove_account(&mut self, now: Now, id: AccountId) {
        self.wire.unsubscribe(now, id);
        if let Some(line) = self.wire.lines.get_mut(&id) {
            line.leaving = true;
            let step = line.registration.unregister();
            if step == Step::Send {
                self.wire.follow(now, id, vec![step]);
            }
        }
        self.settle(now);
    }

    /// The settings of a line.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.wire.account(id)
    }

    /// Registers a line now, also after it was rejected.
    pub fn register(&mut self, now: Now, id: AccountId) {
        if let Some(line) = self.wire.lines.get_mut(&id) {
            line.authenticator.forgive();
            let step = line.registration.register();
            self.wire.follow(now, id, vec![step]);
        }
        self.settle(now);
    }

    /// Takes a line's binding back and leaves it so.
    pub fn unregister(&mut self, now: Now, id: AccountId) {
        self.wire.unsubscribe(now, id);
        if let Some(line) = self.wire.lines.get_mut(&id) {
            let step = line.registration.unregister();
            self.wire.follow(now, id, vec![step]);
        }
        self.settle(now);
    }

    /// Whether another flow of the same line stands: this one is then tried again less often (RFC 5626 §4.5).
    pub fn set_relieved(&mut self, id: AccountId, relieved: bool) {
        if let Some(line) = self.wire.lines.get_mut(&id) {
            line.registration.set_relieved(relieved);
        }
    }

    /// Whether the registrar sends requests by the flow of this line, and tells it from others of the same address of
    /// record (`Require: outbound` in its answer).
    pub fn is_outbound(&self, id: AccountId) -> bool {
        self.wire.lines.get(&id).is_some_and(|line| line.registration.outbound().is_in_force())
    }

    /// Whether a line subscribes to its mailbox from now on.
    pub fn set_subscribe_mwi(&mut self, now: Now, id: AccountId, subscribe: bool) {
        let Some(line) = self.wire.lines.get_mut(&id) else { return };
        if std::mem::replace(&mut line.account.subscribe_mwi, subscribe) == subscribe {
            return;
        }
        match line.registration.state() {
            RegistrationState::Registered { binding, .. } if subscribe => {
                let contact = binding.clone();
                self.wire.subscribe(now, id, &contact);
            }
            _ if !subscribe => self.wire.unsubscribe(now, id),
            _ => {}
        }
        self.settle(now);
    }

    /// The machine has other addresses than before: lines look for their servers and register anew.
    pub fn network_changed(&mut self, now: Now) {
        self.wire.handle_network_changed(now);
        self.settle(now);
    }

    /// Ends in order: calls are hung up, lines unregistered; then [`Event::Stopped`], after 2 s at the
    /// latest.
    pub fn shutdown(&mut self, now: Now) {
        self.stopping = Some(now.deadline(STOPPING));
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            // A call that is ending already says no to it.
            let _ = self.hang_up(now, call, None);
        }
        let accounts: Vec<AccountId> = self.wire.lines.keys().copied().collect();
        for account in accounts {
            self.unregister(now, account);
        }
        self.settle(now);
    }

    /// What is known of a line's registration.
    pub fn registration_state(&self, id: AccountId) -> Option<&RegistrationState> {
        self.wire.lines.get(&id).map(|line| line.registration.state())
    }

    /// The address of ours that faces a line's server, once it is known.
    pub fn local_address(&self, id: AccountId) -> Option<IpAddr> {
        self.wire.lines.get(&id)?.local
    }

    /// The server that a line is registered at.
    pub fn server(&self, id: AccountId) -> Option<(Transport, SocketAddr)> {
        self.wire.lines.get(&id)?.flow.as_ref().map(|flow| (flow.transport, flow.remote))
    }

    /// The Contact URI that the registrar has for a line.
    pub fn contact(&self, id: AccountId) -> Option<String> {
        self.wire.lines.get(&id)?.registration.binding().map(ToString::to_string)
    }

    /// The line of a call, while the call lives.
    pub fn call_account(&self, call: CallId) -> Option<AccountId> {
        self.calls.get(&call).map(Call::account)
    }

    /// The Call-ID of a call as it stands in its messages, while the call lives.
    pub fn sip_call_id(&self, call: CallId) -> Option<&str> {
        self.calls.get(&call).map(Call::call_id)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// How often something was refused or lost.
    pub fn counters(&self) -> Counters {
        self.wire.counters
    }

    /// Reports every message as [`Event::Trace`], or no longer.
    pub fn set_trace(&mut self, on: bool) {
        self.wire.settings.trace = on;
    }

    /// Calls somebody.
    ///
    /// # Errors
    /// [`CallError`] if there is no such line, or too many calls.
    pub fn invite(
        &mut self,
        now: Now,
        account: AccountId,
        target: Uri,
        options: InviteOptions,
    ) -> Result<CallId, CallError> {
        if self.wire.account(account).is_none() || self.calls.len() >= self.wire.settings.limits.calls {
            return Err(CallError::NotNow("there is no such line, or too many calls"));
        }
        let id = CallId(self.next_call);
        self.next_call += 1;
        let call = Call::invite(now, id, account, target, options, &mut self.wire);
        self.keep_call(id, call);
        self.settle(now);
        Ok(id)
    }

    /// Says that a call rings (180), or that there is early media (183 with a description).
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn ring(
        &mut self,
        now: Now,
        call: CallId,
        status: u16,
        sdp: Option<Vec<u8>>,
    ) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.ring(now, status, sdp, wire))
    }

    /// Takes a call.
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn answer(&mut self, now: Now, call: CallId, sdp: Vec<u8>) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.answer(now, sdp, wire))
    }

    /// Refuses a call, with further header fields (Contact of a 302, a challenge).
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn reject(
        &mut self,
        now: Now,
        call: CallId,
        status: u16,
        reason: Option<String>,
        fields: &[(String, String)],
    ) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.reject(now, status, reason, fields, wire))
    }

    /// Ends a call in whatever state it is.
    ///
    /// # Errors
    /// [`CallError`] if there is no such call.
    pub fn hang_up(&mut self, now: Now, call: CallId, reason: Option<Reason>) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.hang_up(now, reason, wire))
    }

    /// Offers another session (hold, resume, other codecs).
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn offer(&mut self, now: Now, call: CallId, sdp: Vec<u8>) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.offer(now, sdp, wire))
    }

    /// Answers an offer of the peer's, or refuses it with a status.
    ///
    /// # Errors
    /// [`CallError`] if no offer is open.
    pub fn reply_offer(
        &mut self,
        now: Now,
        call: CallId,
        reply: Result<Vec<u8>, u16>,
    ) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.reply_offer(now, reply, wire))
    }

    /// Sends an INFO inside a call.
    ///
    /// # Errors
    /// [`CallError`] if the call is not in a state for it.
    pub fn info(
        &mut self,
        now: Now,
        call: CallId,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<(), CallError> {
        self.with(now, call, |call, wire| call.info(now, content_type, body, wire))
    }

    /// Sends a request outside any dialog for the room above (MESSAGE, OPTIONS …): method, URI, From, To,
    /// Call-ID, CSeq, fields and body are the caller's. The answer is [`Event::Response`].
    pub fn send_request(&mut self, now: Now, account: AccountId, request: Request) -> RequestId {
        self.send_on(now, account, request, Way::Located)
    }

    /// The same to one server of the line and to no other, one of those that [`look_up`](Self::look_up) found.
    pub fn send_request_to(
        &mut self,
        now: Now,
        account: AccountId,
        request: Request,
        server: Target,
    ) -> RequestId {
        self.send_on(now, account, request, Way::Server(server))
    }

    fn send_on(&mut self, now: Now, account: AccountId, request: Request, way: Way) -> RequestId {
        let sequence = Sequence::new(request.head.cseq.number.saturating_add(1));
        let id = self.wire.begin(now, Owner::Application, account, request, &sequence, way);
        self.settle(now);
        id
    }

    /// Looks for a line's servers (RFC 3263); [`Event::Servers`] tells them.
    pub fn look_up(&mut self, now: Now, account: AccountId) {
        self.wire.look_up(now, account);
        self.settle(now);
    }

    /// Answers an [`Event::Request`]. A To-tag is added if there is none.
    pub fn respond(&mut self, now: Now, transaction: TransactionId, mut response: Response) {
        if response.status > 100 && response.head.to_tag().is_none() {
            let tag = self.wire.new_tag();
            response.head.to.set_tag(&tag);
        }
        self.wire.respond(now, transaction, response);
        self.settle(now);
    }

    pub(crate) fn with(
        &mut self,
        now: Now,
        id: CallId,
        command: impl FnOnce(&mut Call, &mut Wire) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let call = self.calls.get_mut(&id).ok_or(CallError::Unknown)?;
        let result = command(call, &mut self.wire);
        self.settle(now);
        result
    }

    pub(crate) fn keep_call(&mut self, id: CallId, call: Call) {
        self.dialogs.insert((call.call_id().to_owned(), call.local_tag().to_owned()), id);
        self.calls.insert(id, call);
    }

    /// Something came in.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Datagram { local, remote, bytes } => self.handle_datagram(now, local, remote, bytes),
            Input::Connected { connection, local, .. } => {
                match self.wire.connections.handle_connected(now, connection, local) {
                    Some(flow) => self.wire.handle_connection_ready(now, &flow),
                    // It was given up meanwhile.
                    None => self.wire.connections.ask_close(connection),
                }
            }
            Input::Accepted { connection, transport, local, remote } => {
                let welcome = !self.wire.lines_trusting(remote.ip()).is_empty();
                let connections = &mut self.wire.connections;
                if !connections.handle_accepted(now, connection, transport, local, remote, welcome) {
                    self.wire.counters.refused_connections += 1;
                }
            }
            Input::Stream { connection, bytes } => self.handle_stream(now, connection, bytes),
            Input::Closed { connection, why } => self.wire.handle_closed(now, connection, &why),
            Input::Unsent { remote, why } => {
                let there =
                    |flow: &crate::sip::transport::Flow| flow.connection.is_none() && flow.remote == remote;
                self.wire.transactions.handle_unreachable(&why, there);
                self.handle_unsent(remote);
            }
            Input::Answer { query, result } => self.wire.locator.handle_answer(now, query, result),
            Input::LocalAddress { query, result } => self.wire.handle_local_address(now, query, result),
        }
        self.settle(now);
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        let calls = &self.calls;
        self.wire.handle_timeout(now, |account| calls.values().any(|call| call.account() == account));
        let due =
            self.calls.iter().filter(|(_, call)| call.poll_timeout().is_some_and(|at| at <= now.mono_us));
        let due: Vec<CallId> = due.map(|(id, _)| *id).collect();
        for id in due {
            if let Some(call) = self.calls.get_mut(&id) {
                call.handle_timeout(now, &mut self.wire);
            }
        }
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due (µs of the monotonic clock).
    pub fn poll_timeout(&self) -> Option<u64> {
        let calls = self.calls.values().filter_map(Call::poll_timeout).min();
        earliest(earliest(self.wire.poll_timeout(), calls), self.stopping)
    }

    /// What the machine is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.wire.poll_output()
    }

    /// What the room above is to know next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.wire.events.pop_front()
    }

    /// Carries answers to their usages and drops what is over, until all is quiet.
    pub(crate) fn settle(&mut self, now: Now) {
        self.wire.settle(now);
        while let Some(delivery) = self.wire.deliveries.pop_front() {
            self.hand_up(now, delivery);
            self.wire.settle(now);
        }
        self.tell_targets(now);
        let over: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.is_over()).map(|(id, _)| *id).collect();
        for id in over {
            if let Some(call) = self.calls.remove(&id) {
                self.ended.keep(&call);
                self.dialogs.remove(&(call.call_id().to_owned(), call.local_tag().to_owned()));
                self.invites.retain(|_, of| *of != id);
            }
        }
        if self.wire.lines.values().any(|line| line.choice.is_ready()) {
            let calls = &self.calls;
            self.wire.return_to_better(now, |account| calls.values().any(|call| call.account() == account));
        }
        let calls = &self.calls;
        let mut released = Vec::new();
        self.wire.lines.retain(|id, line| {
            let done = line.leaving && !line.registration.may_be_bound() && !line.subscription.may_stand();
            let stays = !done || calls.values().any(|call| call.account() == *id);
            released.extend(line.flow.as_ref().filter(|_| !stays).and_then(|flow| flow.connection));
            stays
        });
        for connection in released {
            self.wire.release(now, connection);
        }
        if let Some(deadline) = self.stopping {
            let quiet = self.calls.is_empty()
                && !self
                    .wire
                    .lines
                    .values()
                    .any(|line| line.registration.may_be_bound() || line.subscription.may_stand());
            if quiet || deadline <= now.mono_us {
                self.stopping = None;
                self.wire.events.push_back(Event::Stopped);
            }
        }
    }

    /// The far ends of calls get to know that we are reached elsewhere now (RFC 3261 §12.2), one after the other.
    fn tell_targets(&mut self, now: Now) {
        for account in std::mem::take(&mut self.wire.moved) {
            for call in self.calls.values_mut().filter(|call| call.account() == account) {
                let pause = LEAST_PAUSE + MORE_PAUSE.mul_f64(self.wire.chance.unit());
                call.tell_target(now.deadline(pause));
            }
        }
    }

    fn hand_up(&mut self, now: Now, delivery: Delivery) {
        match delivery {
            Delivery::Response { owner, account, request, response } => match owner {
                Owner::Registration => self.wire.handle_registered(now, account, &response),
                Owner::Subscription => self.wire.handle_subscribed(now, account, Ok(&response)),
                Owner::Call(id) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.handle_response(now, request, &response, &mut self.wire);
                    }
                }
                Owner::Transport if response.status >= 200 => {
                    self.wire.handle_transport_asked(now, account, request, response.status != 503);
                }
                Owner::Application if response.status >= 200 => {
                    self.wire.events.push_back(Event::Response { request, result: Ok(response) });
                }
                Owner::Application | Owner::Transport | Owner::Nobody => {}
            },
            Delivery::Failure { owner, account, request, failure } => match owner {
                Owner::Registration => self.wire.handle_unregistered(now, account, Ok(&failure)),
                Owner::Subscription => self.wire.handle_subscribed(now, account, Err(&failure)),
                Owner::Call(id) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.handle_failure(now, request, failure, &mut self.wire);
                    }
                }
                Owner::Transport => self.wire.handle_transport_asked(now, account, request, false),
                Owner::Application => {
                    self.wire.events.push_back(Event::Response { request, result: Err(failure) });
                }
                Owner::Nobody => {}
            },
            Delivery::Unauthorized { account, status, why } => {
                self.wire.handle_unregistered(now, account, Err((status, &why)));
            }
            Delivery::Ended(transaction) => {
                self.invites.remove(&transaction);
            }
            Delivery::Unacknowledged(transaction) => {
                if let Some(call) = self.invites.remove(&transaction).and_then(|id| self.calls.get_mut(&id)) {
                    call.handle_unacknowledged(now, transaction, &mut self.wire);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "test_peer.rs"]
pub(crate) mod test_peer;

#[cfg(test)]
#[path = "user_agent_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "reload_tests.rs"]
mod reload_tests;

#[cfg(test)]
#[path = "torture_tests.rs"]
mod torture_tests;

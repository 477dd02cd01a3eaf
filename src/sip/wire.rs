//! Everything beneath the usages: lines, requests in flight, transactions, connections and look-ups, put
//! together.
//!
//! A usage (a call) asks it to send, cancel, acknowledge and respond, and is told answers by the user agent.
//! It knows what a request needs on its way; what a call is it does not know.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::now::{Now, earliest};
use crate::sip::account::{Account, Settings, Timing};
use crate::sip::authentication::Unauthorized;
use crate::sip::call::CallEvent;
use crate::sip::dialog::Sequence;
use crate::sip::exchange::{Exchange, Owner, Way};
use crate::sip::handle::{AccountId, CallId, RequestId, TransactionId};
use crate::sip::keep_alive;
use crate::sip::line::Line;
use crate::sip::locate::{Destination, Families, Located, Locator};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::{LookupError, Output, Transport};
use crate::sip::registration::{RegistrationState, Step};
use crate::sip::timers::Timers;
use crate::sip::transactions::{Effect, Transactions};
use crate::sip::transport::{Connections, Flow};
use crate::sip::ua_event::{Counters, Event, Failure, Trace};

/// What lies beneath the usages. See the methods for what they may ask of it.
#[derive(Debug)]
pub struct Wire {
    pub(crate) settings: Settings,
    pub(crate) chance: Chance,
    pub(crate) lines: BTreeMap<AccountId, Line>,
    pub(crate) exchanges: BTreeMap<RequestId, Exchange>,
    pub(crate) exchange_timers: Timers<RequestId>,
    pub(crate) next_request: u64,
    pub(crate) transactions: Transactions,
    pub(crate) connections: Connections,
    pub(crate) locator: Locator,
    /// Requests of theirs that are being answered.
    pub(crate) incoming: HashMap<TransactionId, Incoming>,
    /// Servers that have shown no TCP, until when this is believed.
    pub(crate) without_tcp: HashMap<SocketAddr, u64>,
    routes: HashMap<IpAddr, Route>,
    route_queries: HashMap<u64, IpAddr>,
    next_route: u64,
    /// Names that the room above waits for.
    pub(crate) resolving: Vec<Destination>,
    pub(crate) deliveries: VecDeque<Delivery>,
    /// Lines that are registered with another Contact than before, until their calls know.
    pub(crate) moved: Vec<AccountId>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
}

/// A request of theirs: what its answers need.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub flow: Flow,
    pub account: Option<AccountId>,
    pub method: Method,
    /// Where they reached us, if their Request-URI says it in numbers.
    pub reached: Option<SocketAddr>,
}

/// What is handed up.
#[derive(Debug)]
pub(crate) enum Delivery {
    Response {
        owner: Owner,
        account: AccountId,
        request: RequestId,
        response: Box<Response>,
    },
    Failure {
        owner: Owner,
        account: AccountId,
        request: RequestId,
        failure: Failure,
    },
    /// A REGISTER met a challenge that can't be answered.
    Unauthorized {
        account: AccountId,
        status: u16,
        why: Unauthorized,
    },
    /// A refusal of an INVITE was never acknowledged.
    Unacknowledged(TransactionId),
    /// A server transaction is forgotten.
    Ended(TransactionId),
}

#[derive(Debug)]
struct Route {
    local: IpAddr,
    until: u64,
}

/// How long our address towards a peer is believed.
const ROUTE: Duration = Duration::from_secs(60);
const MAX_ROUTES: usize = 128;
/// How often a line that does not register looks where its server is.
const SURVEY: Duration = Duration::from_secs(60);
/// Route queries are numbered apart from look-ups.
const FIRST_ROUTE: u64 = 1 << 62;

impl Wire {
    pub(crate) fn new(settings: Settings, mut chance: Chance) -> Wire {
        let any = settings.udp.is_empty();
        let v6 = settings.udp.iter().any(SocketAddr::is_ipv6);
        let v4 = settings.udp.iter().any(|local| local.is_ipv4() || local.ip().is_unspecified());
        let families = Families { v4: any || v4, v6: any || v6 };
        Wire {
            transactions: Transactions::new(settings.timing, settings.limits.server_transactions),
            connections: Connections::new(settings.limits),
            locator: Locator::new(families, chance.fork()),
            settings,
            chance,
            lines: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            exchange_timers: Timers::new(),
            next_request: 1,
            incoming: HashMap::new(),
            without_tcp: HashMap::new(),
            routes: HashMap::new(),
            route_queries: HashMap::new(),
            next_route: FIRST_ROUTE,
            resolving: Vec::new(),
            deliveries: VecDeque::new(),
            moved: Vec::new(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A tag (RFC 3261 §19.3), unguessable.
    pub fn new_tag(&mut self) -> String {
        self.chance.token(8)
    }

    /// A Call-ID (RFC 3261 §8.1.1.4).
    pub fn new_call_id(&mut self) -> String {
        self.chance.token(16)
    }

    /// The generator of everything random.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// T1, T2 and T4.
    pub fn timing(&self) -> &Timing {
        &self.settings.timing
    }

    /// The settings of a line.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.lines.get(&id).map(|line| &line.account)
    }

    /// Sends a request (any but ACK and CANCEL) of a call and keeps at it until there is a final answer or
    /// none will come. The maker sets method, URI, From, To, Call-ID, CSeq, the dialog's Route set, its own
    /// fields and the body; Via, Contact, the way out and credentials are added. `sequence` is the CSeq
    /// counter of the dialog.
    pub fn send_request(
        &mut self,
        now: Now,
        owner: CallId,
        account: AccountId,
        request: Request,
        sequence: &Sequence,
    ) -> RequestId {
        self.begin(now, Owner::Call(owner), account, request, sequence, Way::Located)
    }

    /// Sends a request inside a dialog, by the way that `invite`, the request that made it, took if it leads
    /// there.
    pub fn send_ack(&mut self, now: Now, invite: RequestId, account: AccountId, ack: Request) {
        let flow = self.exchanges.get(&invite).and_then(|exchange| exchange.flow()).cloned();
        let sequence = Sequence::new(ack.head.cseq.number);
        self.begin(now, Owner::Nobody, account, ack, &sequence, Way::Flow(flow));
    }

    /// Cancels an INVITE of ours (RFC 3261 §9.1), as soon as a provisional answer allows it. Its final
    /// answer, often 487 but perhaps a 2xx that crossed, or a failure comes as for any request.
    pub fn cancel(&mut self, now: Now, invite: RequestId, reason: Option<String>) {
        self.cancel_exchange(now, invite, reason);
    }

    /// Answers a request of theirs. Repeating a refusal until its ACK is done here; repeating a 2xx to INVITE
    /// and a reliable provisional response is the usage's, by calling this again.
    pub fn respond(&mut self, now: Now, transaction: TransactionId, mut response: Response) {
        let Some(incoming) = self.incoming.get(&transaction) else {
            return;
        };
        let makes_target =
            matches!(incoming.method, Method::INVITE | Method::UPDATE | Method::SUBSCRIBE | Method::REFER)
                && (101..300).contains(&response.status);
        if makes_target
            && response.head.to_tag().is_some()
            && !response.fields.has("Contact")
            && let Some(line) = incoming.account.and_then(|account| self.lines.get(&account))
        {
            let local = self.local_of(incoming);
            response.fields.push("Contact", line.dialog_contact(&incoming.flow, local, false).to_string());
        }
        if !response.fields.has("Server") && response.status > 100 {
            response.fields.push("Server", self.settings.user_agent.as_str());
        }
        self.transactions.respond(now, transaction, &response);
        self.settle(now);
    }

    /// Whether the request came over a transport that repeats what is lost by itself.
    pub fn is_reliable(&self, transaction: TransactionId) -> bool {
        self.incoming.get(&transaction).is_some_and(|incoming| incoming.flow.transport.is_reliable())
    }

    /// Tells the room above what happened in a call.
    pub fn event(&mut self, call: CallId, event: CallEvent) {
        self.events.push_back(Event::Call { call, event });
    }

    /// Our own address as the sender of a request sees it, for Contact.
    fn local_of(&self, incoming: &Incoming) -> SocketAddr {
        let flow = &incoming.flow;
        let socket = flow.local.unwrap_or(flow.remote);
        if !socket.ip().is_unspecified() {
            return socket;
        }
        match self.routes.get(&flow.remote.ip()) {
            Some(route) => SocketAddr::new(route.local, socket.port()),
            None => incoming.reached.unwrap_or(socket),
        }
    }

    /// The UDP socket that reaches a peer.
    pub(crate) fn socket_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let same = self.settings.udp.iter().find(|local| local.is_ipv4() == remote.is_ipv4());
        same.or_else(|| self.settings.udp.iter().find(|local| local.ip().is_unspecified())).copied()
    }

    /// Our address and port towards a peer, if known; else it is asked for.
    pub(crate) fn local_towards(&mut self, now: Now, remote: SocketAddr) -> Option<SocketAddr> {
        let socket = self.socket_for(remote);
        let port = socket.map_or(Transport::Udp.default_port(), |socket| socket.port());
        if let Some(socket) = socket.filter(|socket| !socket.ip().is_unspecified()) {
            return Some(socket);
        }
        if let Some(route) = self.routes.get(&remote.ip())
            && route.until > now.mono_us
        {
            return Some(SocketAddr::new(route.local, port));
        }
        self.ask_route(remote.ip());
        None
    }

    fn ask_route(&mut self, remote: IpAddr) {
        if self.route_queries.len() < MAX_ROUTES && !self.route_queries.values().any(|asked| *asked == remote)
        {
            let query = self.next_route;
            self.next_route += 1;
            self.route_queries.insert(query, remote);
            self.outputs.push_back(Output::RouteTo { query, remote });
        }
    }

    pub(crate) fn handle_local_address(&mut self, now: Now, query: u64, result: Result<IpAddr, String>) {
        let Some(remote) = self.route_queries.remove(&query) else {
            return;
        };
        let mut moved = Vec::new();
        if let Ok(local) = result {
            if self.routes.len() >= MAX_ROUTES {
                self.routes.clear();
            }
            self.routes.insert(remote, Route { local, until: now.deadline(ROUTE) });
            for (account, line) in &mut self.lines {
                let target = line.target.as_ref().map(|target| target.remote.ip());
                let faces = match target {
                    Some(target) => target == remote,
                    None => self.locator.known(&line.destination()).first() == Some(&remote),
                };
                if faces && line.local != Some(local) {
                    if line.local.replace(local).is_some() {
                        moved.push(*account);
                    }
                    self.events.push_back(Event::Located { account: *account });
                }
            }
        }
        for account in moved {
            self.handle_moved(now, account);
        }
        self.handle_route(now, remote, &result);
        self.settle(now);
    }

    /// We have another address towards a line's server: a connection from the old one is dead, though nobody
    /// says so.
    fn handle_moved(&mut self, now: Now, account: AccountId) {
        self.locator.forget_failures();
        let Some(line) = self.lines.get(&account) else { return };
        let stream = line.target.as_ref().is_some_and(|target| target.transport.is_reliable());
        // A connection that is being made now comes from the new address.
        let renewed = stream && line.flow.is_none() && line.registration.is_in_flight();
        if !renewed {
            self.renew(now, account);
        }
    }

    /// Finds out which address of ours faces a line's server.
    pub(crate) fn survey(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else {
            return;
        };
        let is_named = line.destination().address.is_none();
        let is_trunk = !line.account.register && !line.account.catch_all;
        line.survey_at = (is_named && is_trunk).then(|| now.deadline(SURVEY));
        if let Located::Here(targets) = self.locator.locate(now, &line.destination())
            && let Some(first) = self.locator.in_order(now, &targets).first()
        {
            self.face(now, account, first.remote);
        }
    }

    /// Looks for a line's servers; [`Event::Servers`] tells them.
    pub(crate) fn look_up(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else {
            return;
        };
        let result = match self.locator.locate(now, &line.destination()) {
            Located::Here(targets) => Ok(targets),
            Located::Busy => Err(LookupError::Failed("too many questions are open".to_owned())),
            Located::Soon => {
                line.asked = true;
                return;
            }
        };
        self.events.push_back(Event::Servers { account, result });
    }

    fn face(&mut self, now: Now, account: AccountId, remote: SocketAddr) {
        if let Some(local) = self.local_towards(now, remote)
            && let Some(line) = self.lines.get_mut(&account)
            && line.local != Some(local.ip())
        {
            line.local = Some(local.ip());
            self.events.push_back(Event::Located { account });
        }
    }

    /// The machine has other addresses or ways than before.
    pub(crate) fn handle_network_changed(&mut self, now: Now) {
        self.routes.clear();
        self.route_queries.clear();
        self.without_tcp.clear();
        self.locator.forget_failures();
        let accounts: Vec<AccountId> = self.lines.keys().copied().collect();
        for account in accounts {
            let Some(line) = self.lines.get_mut(&account) else { continue };
            line.choice.handle_network_changed(now);
            let flow = line.flow.clone().filter(|_| line.is_registered() && !line.has_slept(now));
            self.survey(now, account);
            match flow {
                Some(flow) => self.doubt(now, account, &flow),
                None => self.renew(now, account),
            }
        }
        self.settle(now);
    }

    /// Sends bytes that belong to no transaction.
    pub(crate) fn send_bytes(&mut self, now: Now, flow: &Flow, bytes: Vec<u8>) -> bool {
        if self.settings.trace {
            self.trace(true, flow, &bytes);
        }
        self.counters.sent += 1;
        match flow.connection {
            Some(connection) => self.connections.send(now, connection, bytes),
            None => {
                self.outputs.push_back(Output::Datagram { local: flow.local, remote: flow.remote, bytes });
                true
            }
        }
    }

    pub(crate) fn trace(&mut self, sent: bool, flow: &Flow, bytes: &[u8]) {
        // The address that the peer sees, not the one that was bound: that may mean all, of both families.
        let seen = |socket: SocketAddr| match self.routes.get(&flow.remote.ip()) {
            Some(route) => SocketAddr::new(route.local, socket.port()),
            None if flow.remote.is_ipv4() => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), socket.port()),
            None => socket,
        };
        let local = flow.local.map(|local| if local.ip().is_unspecified() { seen(local) } else { local });
        self.events.push_back(Event::Trace(Trace {
            sent,
            transport: flow.transport,
            local,
            remote: flow.remote,
            bytes: bytes.to_vec(),
        }));
    }

    /// Does what the layers ask of each other until none asks any more. Deliveries to usages are left for the
    /// user agent.
    pub(crate) fn settle(&mut self, now: Now) {
        loop {
            if let Some(effect) = self.transactions.poll_effect() {
                self.handle_effect(now, effect);
            } else if let Some((destination, result)) = self.locator.poll_result() {
                self.handle_located(now, &destination, &result);
                let found = result.iter().flatten().map(|target| target.remote).collect();
                self.handle_resolved(&destination, found);
                let first = result.as_ref().ok().and_then(|targets| targets.first());
                let first = first.map(|target| target.remote);
                let lines = self.lines.iter().filter(|(_, line)| line.destination() == destination);
                let lines: Vec<AccountId> = lines.map(|(account, _)| *account).collect();
                for account in lines {
                    if let Some(first) = first {
                        self.face(now, account, first);
                    }
                    if let Some(line) = self.lines.get_mut(&account)
                        && std::mem::take(&mut line.asked)
                    {
                        self.events.push_back(Event::Servers { account, result: result.clone() });
                    }
                }
            } else {
                return;
            }
        }
    }

    fn handle_effect(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { flow, bytes, instead } => {
                if self.send_bytes(now, &flow, bytes.clone()) {
                    return;
                }
                match instead {
                    Some(remote) => self.answer_elsewhere(now, &flow, remote, bytes),
                    None => {
                        let there = |other: &Flow| other.is_same(&flow);
                        self.transactions.handle_unreachable("the connection is gone", there);
                    }
                }
            }
            Effect::Failed { request, branch, why } => {
                if let Some(request) = request {
                    self.handle_transaction_failed(now, request, &branch, why);
                }
            }
            Effect::Unacknowledged(transaction) => {
                self.deliveries.push_back(Delivery::Unacknowledged(transaction));
            }
            Effect::Ended(transaction) => {
                self.incoming.remove(&transaction);
                self.deliveries.push_back(Delivery::Ended(transaction));
            }
        }
    }

    /// The connection of a request has gone before its answer: a new one goes to the sender's Via port
    /// (RFC 3261 §18.2.2).
    fn answer_elsewhere(&mut self, now: Now, flow: &Flow, remote: SocketAddr, bytes: Vec<u8>) {
        // TLS has no name to check here, so the answer is lost, and the peer's request times out.
        if flow.transport == Transport::Tcp && self.connections.count() < self.settings.limits.accepted * 2 {
            let connection = self.connections.to(now, Transport::Tcp, remote, "", None);
            self.connections.send(now, connection, bytes);
        }
    }

    /// A line is registered: where its Contact is another one than before, the far ends of its calls have to know.
    fn note_target(&mut self, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        let Some(contact) = line.registration.binding().cloned().map(NameAddr::new) else { return };
        let told = line.registration.outbound().in_dialog(contact, false).to_string();
        let before = line.told.replace(told);
        if before.is_some() && before != line.told {
            self.moved.push(account);
        }
    }

    /// Carries out what a registration asks for.
    pub(crate) fn follow(&mut self, now: Now, account: AccountId, steps: Vec<Step>) {
        for step in steps {
            let Some(line) = self.lines.get_mut(&account) else {
                return;
            };
            match step {
                Step::Nothing => {}
                Step::Tell => {
                    let state = line.registration.state().clone();
                    let contact = match &state {
                        RegistrationState::Registered { binding, .. } => Some(binding.clone()),
                        _ => None,
                    };
                    self.events.push_back(Event::Registration { account, state });
                    if let Some(contact) = contact {
                        self.note_target(account);
                        self.subscribe(now, account, &contact);
                    }
                }
                Step::Send => {
                    let request = line.registration.request(&line.account);
                    let sequence = line.registration.sequence().clone();
                    self.begin(now, Owner::Registration, account, request, &sequence, Way::Located);
                }
            }
        }
    }

    /// What came of a REGISTER.
    pub(crate) fn handle_registered(&mut self, now: Now, account: AccountId, response: &Response) {
        let Some(line) = self.lines.get_mut(&account) else {
            return;
        };
        if response.status < 200 {
            return;
        }
        let seen = keep_alive::seen(response);
        if response.is_success() {
            line.seen = seen;
        }
        let seen = seen.filter(|seen| {
            let via = response.head.top_via();
            let is_ours =
                via.is_some_and(|via| via.host.ip() == Some(seen.ip()) && via.port == Some(seen.port()));
            line.account.rewrite_contact && !is_ours
        });
        let steps = line.registration.handle_response(now, response, seen, &mut self.chance);
        self.follow(now, account, steps);
    }

    pub(crate) fn handle_unregistered(
        &mut self,
        now: Now,
        account: AccountId,
        outcome: Result<&Failure, (u16, &Unauthorized)>,
    ) {
        let Some(line) = self.lines.get_mut(&account) else {
            return;
        };
        let steps = match outcome {
            Ok(failure) => line.registration.handle_failure(now, failure, &mut self.chance),
            Err((status, why)) => line.registration.handle_unauthorized(now, status, why, &mut self.chance),
        };
        self.follow(now, account, steps);
    }

    /// A connection ended: what waited for it fails, the line that was registered over it registers anew.
    pub(crate) fn handle_closed(&mut self, now: Now, connection: u64, why: &str) {
        let Some(lost) = self.connections.handle_closed(connection) else {
            return;
        };
        self.handle_connection_lost(now, connection, why);
        self.transactions.handle_unreachable(why, |flow| flow.is_same(&lost));
        let accounts: Vec<AccountId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.flow.as_ref().is_some_and(|flow| flow.is_same(&lost)))
            .map(|(account, _)| *account)
            .collect();
        for account in accounts {
            if let Some(line) = self.lines.get_mut(&account) {
                line.flow = None;
                let steps = line.registration.handle_flow_lost(now, why, &mut self.chance);
                self.follow(now, account, steps);
            }
        }
        self.settle(now);
    }

    /// What a line has under way for itself, and its connections, become those of another one; what belongs to its calls
    /// does not.
    pub(crate) fn hand_over(&mut self, from: AccountId, to: AccountId) {
        let its_own =
            |owner: Owner| matches!(owner, Owner::Registration | Owner::Subscription | Owner::Transport);
        for exchange in self.exchanges.values_mut() {
            if exchange.account == from && its_own(exchange.owner) {
                exchange.account = to;
            }
        }
        self.connections.hand_over(from, to);
    }

    /// A line no longer holds this connection open; another one that is registered over it has it from now on.
    pub(crate) fn release(&mut self, now: Now, connection: u64) {
        let heir = self.lines.iter().find(|(_, line)| line.is_registered_over(connection));
        match heir {
            Some((account, _)) => self.connections.give(connection, *account),
            None => self.connections.keep(now, connection, false),
        }
    }

    /// The lines that requests from this address may be for.
    pub(crate) fn lines_trusting(&self, address: IpAddr) -> Vec<AccountId> {
        let trusting = self.lines.iter().filter(|(_, line)| line.trusts(&self.locator, address));
        trusting.map(|(account, _)| *account).collect()
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| self.connections.poll_output())
            .or_else(|| self.locator.poll_output())
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let line = |line: &Line| {
            let usages = earliest(line.registration.poll_timeout(), line.subscription.poll_timeout());
            earliest(earliest(usages, line.survey_at), line.choice.poll_timeout())
        };
        let registrations = self.lines.values().filter_map(line).min();
        let layers = earliest(self.transactions.poll_timeout(), self.connections.poll_timeout());
        let requests = earliest(self.exchange_timers.next(), self.locator.poll_timeout());
        earliest(earliest(registrations, layers), requests)
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, is_calling: impl Fn(AccountId) -> bool) {
        self.transactions.handle_timeout(now);
        self.settle(now);
        self.handle_exchange_timeouts(now);
        self.locator.handle_timeout(now);
        let (lines, locator) = (&self.lines, &self.locator);
        // Whoever else is called may name a port of its own for each call.
        let is_needed = |account: AccountId, remote: IpAddr| {
            let is_server = |line: &Line| line.is_server_at(locator, remote.to_canonical());
            is_calling(account) && lines.get(&account).is_some_and(is_server)
        };
        let closed: Vec<_> = std::iter::from_fn(|| self.connections.handle_timeout(now, is_needed)).collect();
        for (connection, why) in closed {
            self.outputs.push_back(Output::Close { connection });
            self.handle_closed(now, connection, why);
        }
        let accounts: Vec<AccountId> = self.lines.keys().copied().collect();
        for account in accounts {
            if let Some(line) = self.lines.get_mut(&account) {
                let survey = line.survey_at.is_some_and(|at| at <= now.mono_us);
                let step = line.registration.handle_timeout(now);
                self.follow(now, account, vec![step]);
                self.handle_subscription_timeout(now, account);
                self.handle_choice_timeout(now, account);
                if survey {
                    self.survey(now, account);
                }
            }
        }
        self.settle(now);
    }
}

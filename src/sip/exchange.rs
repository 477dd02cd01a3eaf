//! One request of ours from the wish to the last answer: where it goes, over what, with which credentials,
//! and what is tried next when that fails.
//!
//! The usages above see one request and one final answer. Beneath are a look-up (RFC 3263), perhaps a
//! connection, a transaction per attempt, another attempt with credentials (RFC 3261 §22) or at the next
//! server, and the way back from TCP to UDP for large requests (§18.1.1).

use std::time::Duration;

use crate::now::Now;
use crate::sip::authentication::Attempts;
use crate::sip::dialog::Sequence;
use crate::sip::handle::{AccountId, CallId, RequestId};
use crate::sip::host::{Host, HostPort};
use crate::sip::locate::{Destination, Located, Target};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::network::Transport;
use crate::sip::next_hop::{complete, next_hop, preload_routes};
use crate::sip::transport::Flow;
use crate::sip::ua_event::Failure;
use crate::sip::via::{MAGIC_COOKIE, Via};
use crate::sip::wire::{Delivery, Wire};

/// Who waits for the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The account's registration.
    Registration,
    /// The account's subscription.
    Subscription,
    /// A call.
    Call(CallId),
    /// The choice of the account's transport.
    Transport,
    /// The room above.
    Application,
    /// Nobody: an ACK.
    Nobody,
}

/// Which way a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To the servers of its next hop (RFC 3263).
    Located,
    /// By the flow that stands, if it leads there.
    Flow(Option<Flow>),
    /// To this server and to no other.
    Server(Target),
}

/// One request of ours.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub owner: Owner,
    pub account: AccountId,
    pub request: Request,
    pub sequence: Sequence,
    pub destination: Option<Destination>,
    /// The servers that are left to try.
    pub targets: Vec<Target>,
    /// Connections that are being made and were not waited for: the first one that stands is taken.
    pub racing: Vec<(u64, Target)>,
    pub phase: Phase,
    pub attempts: Attempts,
    pub cancel: Option<Cancel>,
    /// A response to the attempt in flight has come.
    pub answered: bool,
    /// Somebody has heard it ring, or is being looked for (101 to 199).
    pub rang: bool,
    /// The connection that an answer came on last.
    pub heard_on: Option<u64>,
    pub deadline: Option<u64>,
    pub last_failure: Option<Failure>,
    /// The last 503, which says more than that another server is not reached: that, and when to come back.
    pub unavailable: Option<Box<Response>>,
    /// The ACK of a 2xx goes this way if it leads to the right server.
    pub preferred: Option<Flow>,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Locating,
    /// Waits for our address towards the server.
    Routing(Target),
    Connecting {
        connection: u64,
        target: Target,
    },
    Sent {
        branch: String,
        flow: Flow,
        target: Target,
    },
    /// A 2xx to INVITE has come; more may.
    Accepted {
        flow: Flow,
    },
}

#[derive(Debug)]
pub(crate) struct Cancel {
    pub reason: Option<String>,
    pub sent: bool,
}

/// Above this a request tries TCP first (RFC 3261 §18.1.1), the MTU being unknown.
const MAX_DATAGRAM: usize = 1300;
/// A server that has not said a word after this time is left for the next one, if there is one.
const SILENCE: Duration = Duration::from_secs(4);
/// The same for a REGISTER, where nothing says yet that the transport gets through at all: after three datagrams.
const SILENCE_UNTRIED: Duration = Duration::from_secs(2);
/// The same for a REGISTER on a connection that the line is not registered over yet …
const UNHEARD: Duration = Duration::from_millis(3_500);
/// … of which so many are left in a row, before each gets twice the time of the last, up to eight times: the registrar
/// may be slow.
const UNHEARD_IN_A_ROW: u32 = 8;
/// So long a REGISTER waits for one connection before the next transport is tried beside it.
const CONNECT_UNTRIED: Duration = Duration::from_millis(500);
/// A connection that is only tried for the size of a request must stand within this time.
const SIZE_CONNECT: Duration = Duration::from_secs(1);
/// How long a server without TCP is remembered as such.
const NO_TCP: Duration = Duration::from_secs(3600);

impl Exchange {
    /// The flow of the attempt in flight.
    pub fn flow(&self) -> Option<&Flow> {
        match &self.phase {
            Phase::Sent { flow, .. } | Phase::Accepted { flow } => Some(flow),
            _ => None,
        }
    }

    fn routes_to(&self, address: std::net::IpAddr) -> bool {
        matches!(&self.phase, Phase::Routing(target) if target.remote.ip() == address)
    }

    pub(crate) fn is_invite(&self) -> bool {
        self.request.method == Method::INVITE
    }
}

impl Wire {
    /// Begins a request; the answers come to its owner.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        owner: Owner,
        account: AccountId,
        request: Request,
        sequence: &Sequence,
        way: Way,
    ) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let (targets, preferred) = match way {
            Way::Located => (Vec::new(), None),
            Way::Flow(flow) => (Vec::new(), flow),
            Way::Server(target) => (vec![target], None),
        };
        let exchange = Exchange {
            owner,
            account,
            request,
            sequence: sequence.clone(),
            destination: None,
            targets,
            racing: Vec::new(),
            phase: Phase::Locating,
            attempts: Attempts::new(owner == Owner::Registration),
            cancel: None,
            answered: false,
            rang: false,
            heard_on: None,
            deadline: None,
            last_failure: None,
            unavailable: None,
            preferred,
        };
        let full = self.exchanges.len() >= self.settings.limits.requests;
        self.exchanges.insert(id, exchange);
        if full {
            self.fail(id, Failure::Transport("too many requests are in flight".to_owned()));
        } else {
            self.start(now, id);
        }
        id
    }

    fn start(&mut self, now: Now, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let Some(line) = self.lines.get(&exchange.account) else {
            self.fail(id, Failure::Transport("the line is gone".to_owned()));
            return;
        };
        preload_routes(&mut exchange.request, line);
        let destination = next_hop(&exchange.request, line);
        let has_way = exchange.request.head.to_tag().is_some() || exchange.request.fields.has("Route");
        exchange.destination = Some(destination.clone());
        exchange.phase = Phase::Locating;
        if !exchange.targets.is_empty() {
            self.try_next(now, id);
            return;
        }
        // A WebSocket server is the way to everybody (RFC 7118 §5.1): what stands behind it is not reached by itself.
        let is_only_way =
            |flow: &Flow| flow.transport == Transport::Wss && exchange.owner != Owner::Registration;
        let own = line.flow.clone().filter(|flow| has_way || is_only_way(flow));
        let flow = exchange.preferred.clone().or(own);
        // Inside a dialog, and behind a Service-Route, a server at the same address is reached by the way
        // that stands: its Contact may name a port that nobody listens on, or no transport.
        if let Some(flow) = flow
            && (is_only_way(&flow) || destination.address == Some(flow.remote.ip()))
            && flow.connection.is_some_and(|connection| self.connections.exists(connection))
        {
            let target = Target {
                transport: flow.transport,
                remote: flow.remote,
                server_name: destination.host,
                rank: 0,
            };
            exchange.targets = vec![target];
            exchange.preferred = Some(flow);
            self.try_next(now, id);
            return;
        }
        match self.locator.locate(now, &destination) {
            Located::Here(targets) => self.located(now, id, targets),
            Located::Soon => {}
            Located::Busy => self.fail(id, Failure::Unresolvable(destination.host)),
        }
    }

    /// The servers of a destination are known.
    pub(crate) fn handle_located(
        &mut self,
        now: Now,
        destination: &Destination,
        result: &Result<Vec<Target>, crate::sip::network::LookupError>,
    ) {
        let waiting: Vec<RequestId> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| {
                matches!(exchange.phase, Phase::Locating)
                    && exchange.destination.as_ref() == Some(destination)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            match result {
                Ok(targets) => self.located(now, id, targets.clone()),
                Err(error) => self.fail(id, Failure::Unresolvable(format!("{}: {error}", destination.host))),
            }
        }
    }

    fn located(&mut self, now: Now, id: RequestId, mut targets: Vec<Target>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        if exchange.owner == Owner::Registration
            && let Some(first) = self.lines.get(&exchange.account).and_then(|line| line.choice.first())
        {
            crate::order::sort_by_key(&mut targets, |target| target.transport != first);
        }
        let mut targets = self.locator.in_order(now, &targets);
        // Calls go to the server that has the registration; only REGISTER looks whether a better one is back.
        if exchange.owner != Owner::Registration
            && let Some(current) = self.lines.get(&exchange.account).and_then(|line| line.target.as_ref())
            && let Some(index) = targets
                .iter()
                .position(|target| target.transport == current.transport && target.remote == current.remote)
        {
            let current = targets.remove(index);
            targets.insert(0, current);
        }
        exchange.targets = targets;
        self.try_next(now, id);
    }

    pub(crate) fn try_next(&mut self, now: Now, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        if exchange.targets.is_empty() && !exchange.racing.is_empty() {
            let (_, target) = exchange.racing.remove(0);
            exchange.targets.push(target);
        }
        if exchange.targets.is_empty() {
            if let Some(response) = exchange.unavailable.take() {
                self.finish(id);
                self.deliver_final(id, *response);
                return;
            }
            let failure = exchange.last_failure.take().unwrap_or(Failure::Timeout);
            self.fail(id, failure);
            return;
        }
        let target = exchange.targets.remove(0);
        exchange.answered = false;
        exchange.deadline = None;
        self.approach(now, id, target);
    }

    /// Makes ready what the target needs: our address, or a connection.
    pub(crate) fn approach(&mut self, now: Now, id: RequestId, target: Target) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        if target.transport == Transport::Udp {
            match self.local_towards(now, target.remote) {
                Some(local) => {
                    let socket = self.socket_for(target.remote);
                    let flow = Flow {
                        transport: Transport::Udp,
                        local: socket,
                        remote: target.remote,
                        connection: None,
                    };
                    self.transmit(now, id, target, flow, local);
                }
                None => {
                    if let Some(exchange) = self.exchanges.get_mut(&id) {
                        exchange.phase = Phase::Routing(target);
                    }
                }
            }
            return;
        }
        let account = exchange.account;
        let hurries = exchange.owner == Owner::Registration
            && self.lines.get(&account).is_some_and(|line| line.choice.hurries(target.transport));
        let preferred = exchange.preferred.as_ref().and_then(|flow| flow.connection);
        let standing = preferred.filter(|connection| {
            self.connections.flow(*connection).is_some_and(|flow| flow.remote == target.remote)
        });
        let connection = standing.unwrap_or_else(|| {
            self.connections.to(now, target.transport, target.remote, &target.server_name, Some(account))
        });
        if let Some(flow) = self.connections.flow(connection) {
            let local = flow.local.unwrap_or(flow.remote);
            self.transmit(now, id, target, flow, local);
        } else if let Some(exchange) = self.exchanges.get_mut(&id) {
            let wait = match exchange.targets.first() {
                Some(next) if next.transport == Transport::Udp && next.remote == target.remote => {
                    Some(SIZE_CONNECT)
                }
                Some(_) if hurries => Some(CONNECT_UNTRIED),
                Some(_) => Some(SILENCE),
                None => None,
            };
            exchange.deadline = wait.map(|wait| now.deadline(wait));
            exchange.phase = Phase::Connecting { connection, target };
            self.index(id);
        }
    }

    /// Sends the request on a flow that stands.
    pub(crate) fn transmit(
        &mut self,
        now: Now,
        id: RequestId,
        target: Target,
        flow: Flow,
        local: std::net::SocketAddr,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let Some(line) = self.lines.get_mut(&exchange.account) else {
            self.fail(id, Failure::Transport("the line is gone".to_owned()));
            return;
        };
        let branch = format!("{MAGIC_COOKIE}{}", self.chance.token(12));
        let mut request = exchange.request.clone();
        let sent_by = HostPort { host: Host::from(local.ip()), port: Some(local.port()) };
        let mut via = Via::new(flow.transport.via_token(), sent_by, &branch);
        via.ask_rport();
        if exchange.owner == Owner::Registration {
            // RFC 6223 §4.2: how often does the registrar want to hear from us?
            via.params.set("keep", None);
        }
        request.head.via = vec![via];
        let anonymous = request.fields.has("Privacy");
        let contact = (line.contact(&flow, local), line.dialog_contact(&flow, local, anonymous));
        complete(&mut request, line, exchange.owner, contact, &self.settings.user_agent);
        let own_server = line.is_server(&self.locator, &flow);
        if let Some(credentials) = line.account.credentials.clone()
            && own_server
            && exchange.owner != Owner::Transport
        {
            line.authenticator.authorize(
                now,
                &mut request,
                &credentials,
                &mut exchange.attempts,
                &mut self.chance,
            );
        }
        let size_matters = flow.transport == Transport::Udp
            && line.account.tcp_for_large
            && !matches!(request.method, Method::ACK | Method::CANCEL)
            && self.without_tcp.get(&target.remote).is_none_or(|until| *until <= now.mono_us)
            && exchange.attempts.large < 1;
        if size_matters && request.write().len() > MAX_DATAGRAM {
            exchange.attempts.large += 1;
            exchange.targets.insert(0, target.clone());
            let target = Target { transport: Transport::Tcp, ..target };
            self.approach(now, id, target);
            return;
        }
        if line.local != Some(local.ip()) && own_server {
            line.local = Some(local.ip());
            let account = exchange.account;
            self.events.push_back(crate::sip::ua_event::Event::Located { account });
        }
        if request.method == Method::ACK {
            self.exchanges.remove(&id);
            self.send_bytes(now, &flow, request.write());
            return;
        }
        // Somewhere else to go: then silence is not waited out for 64·T1.
        let is_untried = exchange.owner == Owner::Registration
            && flow.transport == Transport::Udp
            && line.choice.hurries(flow.transport);
        let silence = if is_untried { SILENCE_UNTRIED } else { SILENCE };
        let elsewhere = (!exchange.targets.is_empty()).then_some(silence);
        // A PBX that boots takes connections before it reads them, and what it swallows it never answers. One that has asked
        // for the password does read, and may take its time.
        let is_new = exchange.owner == Owner::Registration
            && flow.connection.is_some()
            && flow.connection != exchange.heard_on
            && line.flow.as_ref().is_none_or(|own| own.connection != flow.connection);
        let anew = is_new.then(|| unheard(line.unheard).mul_f64(0.9 + 0.1 * self.chance.unit()));
        let wait = elsewhere.into_iter().chain(anew).min();
        exchange.deadline = wait.map(|wait| now.deadline(wait));
        exchange.phase = Phase::Sent { branch, flow: flow.clone(), target };
        self.index(id);
        self.transactions.send(now, Some(id), request, flow);
    }

    /// Sets the exchange's timer to its deadline.
    pub(crate) fn index(&mut self, id: RequestId) {
        let deadline = self.exchanges.get(&id).and_then(|exchange| exchange.deadline);
        self.exchange_timers.set(id, deadline);
    }

    /// Our address towards a peer has come to be known, or there is none.
    pub(crate) fn handle_route(
        &mut self,
        now: Now,
        remote: std::net::IpAddr,
        result: &Result<std::net::IpAddr, String>,
    ) {
        let waiting: Vec<RequestId> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.routes_to(remote))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let Some(exchange) = self.exchanges.get_mut(&id) else {
                continue;
            };
            let Phase::Routing(target) = std::mem::replace(&mut exchange.phase, Phase::Locating) else {
                continue;
            };
            match result {
                Ok(_) => self.approach(now, id, target),
                Err(why) => self.attempt_failed(now, id, &target, Failure::Transport(why.clone())),
            }
        }
    }

    /// A connection stands: what waited for it goes out.
    pub(crate) fn handle_connection_ready(&mut self, now: Now, flow: &Flow) {
        for exchange in self.exchanges.values_mut() {
            let racing = |(connection, _): &(u64, Target)| Some(*connection) == flow.connection;
            if let Phase::Connecting { connection, target } = &mut exchange.phase
                && let Some(index) = exchange.racing.iter().position(racing)
            {
                let first = exchange.racing.swap_remove(index);
                let (connection, target) =
                    (std::mem::replace(connection, first.0), std::mem::replace(target, first.1));
                exchange.racing.push((connection, target));
            }
        }
        for id in self.connecting(flow.connection) {
            let Some(exchange) = self.exchanges.get_mut(&id) else {
                continue;
            };
            if let Phase::Connecting { target, .. } = std::mem::replace(&mut exchange.phase, Phase::Locating)
            {
                exchange.deadline = None;
                self.index(id);
                let local = flow.local.unwrap_or(flow.remote);
                self.transmit(now, id, target, flow.clone(), local);
            }
        }
    }

    /// A connection could not be made.
    pub(crate) fn handle_connection_lost(&mut self, now: Now, connection: u64, why: &str) {
        for exchange in self.exchanges.values_mut() {
            exchange.racing.retain(|(racing, target)| {
                if *racing == connection {
                    self.locator.mark_failed(now, target.transport, target.remote, None);
                }
                *racing != connection
            });
        }
        for id in self.connecting(Some(connection)) {
            let Some(exchange) = self.exchanges.get_mut(&id) else {
                continue;
            };
            if let Phase::Connecting { target, .. } = std::mem::replace(&mut exchange.phase, Phase::Locating)
            {
                self.attempt_failed(now, id, &target, Failure::Transport(why.to_owned()));
            }
        }
    }

    fn connecting(&self, wanted: Option<u64>) -> Vec<RequestId> {
        let waits = |exchange: &Exchange| match &exchange.phase {
            Phase::Connecting { connection, .. } => Some(*connection) == wanted,
            _ => false,
        };
        self.exchanges.iter().filter(|(_, exchange)| waits(exchange)).map(|(id, _)| *id).collect()
    }

    /// An attempt has failed: the server is remembered as bad and the next one gets its turn.
    fn attempt_failed(&mut self, now: Now, id: RequestId, target: &Target, failure: Failure) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        exchange.deadline = None;
        exchange.last_failure = Some(failure);
        let only_for_size = exchange
            .targets
            .first()
            .is_some_and(|next| next.transport == Transport::Udp && next.remote == target.remote)
            && target.transport == Transport::Tcp;
        let cancelled = exchange.cancel.is_some();
        self.index(id);
        if only_for_size {
            if self.without_tcp.len() >= 64 {
                self.without_tcp.clear();
            }
            self.without_tcp.insert(target.remote, now.deadline(NO_TCP));
        } else {
            self.locator.mark_failed(now, target.transport, target.remote, None);
        }
        if cancelled {
            self.fail(id, Failure::Cancelled);
        } else {
            self.try_next(now, id);
        }
    }

    /// The transaction of an attempt ended without a final answer.
    pub(crate) fn handle_transaction_failed(
        &mut self,
        now: Now,
        id: RequestId,
        branch: &str,
        why: Option<String>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let failure = why.map_or(Failure::Timeout, Failure::Transport);
        match &exchange.phase {
            Phase::Sent { branch: current, target, .. } if current == branch => {
                let target = target.clone();
                if exchange.answered && exchange.is_invite() {
                    // Somebody is ringing already: another attempt would ring a second time.
                    self.fail(id, failure);
                } else {
                    self.attempt_failed(now, id, &target, failure);
                }
            }
            _ => {}
        }
    }

    /// Deadlines of exchanges have come.
    pub(crate) fn handle_exchange_timeouts(&mut self, now: Now) {
        while let Some(id) = self.exchange_timers.pop(now.mono_us) {
            let Some(exchange) = self.exchanges.get_mut(&id) else {
                continue;
            };
            exchange.deadline = None;
            match &exchange.phase {
                Phase::Accepted { .. } => {
                    self.exchanges.remove(&id);
                }
                Phase::Connecting { connection, target }
                    if exchange.owner == Owner::Registration
                        && self
                            .lines
                            .get(&exchange.account)
                            .is_some_and(|line| line.choice.hurries(target.transport)) =>
                {
                    let racing = (*connection, target.clone());
                    exchange.racing.push(racing);
                    exchange.phase = Phase::Locating;
                    self.try_next(now, id);
                }
                Phase::Connecting { target, .. } => {
                    let target = target.clone();
                    let why = "the server does not answer connection requests".to_owned();
                    self.attempt_failed(now, id, &target, Failure::Transport(why));
                }
                Phase::Sent { branch, target, flow } => {
                    let (branch, target) = (branch.clone(), target.clone());
                    let method = exchange.request.method.clone();
                    let cancelled = exchange.cancel.is_some();
                    let silent = flow.connection.filter(|_| exchange.owner == Owner::Registration);
                    let account = exchange.account;
                    self.transactions.abandon(&branch, &method);
                    if let Some(connection) = silent {
                        self.leave_unheard(now, account, connection);
                    }
                    if cancelled {
                        self.fail(id, Failure::Timeout);
                    } else {
                        self.attempt_failed(now, id, &target, Failure::Timeout);
                    }
                }
                Phase::Locating | Phase::Routing(_) => {}
            }
        }
    }

    /// A connection on which a REGISTER was not answered: the next one is not lost on it too.
    fn leave_unheard(&mut self, now: Now, account: AccountId, connection: u64) {
        if let Some(line) = self.lines.get_mut(&account) {
            line.unheard = line.unheard.saturating_add(1);
        }
        if !self.lines.values().any(|line| line.is_registered_over(connection)) {
            self.connections.ask_close(connection);
            self.handle_closed(now, connection, "the registrar did not answer on this connection");
        }
    }

    pub(crate) fn fail(&mut self, id: RequestId, failure: Failure) {
        self.exchange_timers.set(id, None);
        if let Some(exchange) = self.exchanges.remove(&id) {
            let (owner, account) = (exchange.owner, exchange.account);
            self.deliveries.push_back(Delivery::Failure { owner, account, request: id, failure });
        }
    }
}

/// How long a REGISTER is waited for on another connection, after so many on which none was answered.
fn unheard(before: u32) -> Duration {
    UNHEARD * (1 << (before + 1).saturating_sub(UNHEARD_IN_A_ROW).min(3))
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;

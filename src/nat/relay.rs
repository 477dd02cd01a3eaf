//! The way to a relayed address: TURN servers, each by the carriages that it is reached by, until one gives an allocation.
//!
//! Who is blocked is not told so: the next one is begun after a head start of half a second, and the first that has an
//! allocation is taken. Streams are opened by whoever drives this machine, which orders them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::turn::{self, Allocation, Failure, Incoming, REDIRECTIONS};
use crate::nat::turn_server::{Carriage, Server};
use crate::nat::turn_stream::Inbox;
use crate::now::{Now, earliest};

/// Servers that are tried, each carriage of one counted.
pub const MAX_SERVERS: usize = 12;
/// The next server is begun if the one before has not given an allocation after this time.
const HEAD_START: Duration = Duration::from_millis(500);
/// A stream that is not open after this time is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// An allocation that has lived for so long is replaced at once when it is lost; a shorter life counts as a failure.
const SETTLED: Duration = Duration::from_secs(5);
/// After all servers have failed they are tried again, at first after this time, which doubles …
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this one.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A stream to a server, drawn by lot below 2⁶³: no two of a device are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// What is to be done with a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamOrder {
    /// It is wanted: [`StreamInput::Open`] or [`StreamInput::Closed`] is the answer.
    Open {
        /// Its name from now on.
        stream: StreamId,
        /// Whither.
        server: SocketAddr,
        /// By TCP or TLS.
        carriage: Carriage,
    },
    /// It is of no use any more, and ends without a word.
    Close {
        /// Which.
        stream: StreamId,
    },
}

/// What has become of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamInput<'a> {
    /// It stands.
    Open,
    /// This came on it.
    Bytes(&'a [u8]),
    /// It has ended or could not be made, and why.
    Closed(&'a str),
}

/// Where a packet leaves to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The address at the other end.
    pub to: SocketAddr,
    /// The stream it goes by; a datagram without one.
    pub stream: Option<StreamId>,
}

impl From<SocketAddr> for Target {
    fn from(to: SocketAddr) -> Target {
        Target { to, stream: None }
    }
}

#[derive(Debug)]
struct Attempt {
    server: Server,
    stream: Option<StreamId>,
    inbox: Inbox,
    /// Absent while the stream is being opened.
    allocation: Option<Allocation>,
    /// Until when that may take.
    open_by_us: u64,
    redirections: u8,
    /// Since when it is the one whose allocation is used.
    chosen_us: Option<u64>,
}

impl Attempt {
    fn target(&self) -> Target {
        let to = self.allocation.as_ref().map_or(self.server.address, Allocation::server);
        Target { to, stream: self.stream }
    }

    fn flush(&mut self, out: &mut VecDeque<(Target, Vec<u8>)>) {
        let target = self.target();
        if let Some(allocation) = &mut self.allocation {
            out.extend(std::iter::from_fn(|| allocation.poll_transmit()).map(|message| (target, message)));
        }
    }

    fn poll_timeout(&self) -> Option<u64> {
        match &self.allocation {
            Some(allocation) => allocation.poll_timeout(),
            None => Some(self.open_by_us),
        }
    }
}

/// The search for an allocation, and the allocation once it is found. After each call that takes `now`, drain
/// [`poll_packet`](Relay::poll_packet), [`poll_transmit`](Relay::poll_transmit) and [`poll_order`](Relay::poll_order).
#[derive(Debug)]
pub struct Relay {
    servers: Vec<Server>,
    /// The server that is begun next, and when.
    next: usize,
    next_us: Option<u64>,
    attempts: Vec<Attempt>,
    /// Those that were given back before the server had said anything.
    leaving: Vec<Attempt>,
    retry_us: Option<u64>,
    retry: Duration,
    /// When another one takes the place of the one whose server is silent.
    take_over_us: Option<u64>,
    failure: Option<Failure>,
    /// What allocations of before did not believe.
    forged: u64,
    /// How often its mapping in NATs is kept open, where that is oftener than usual.
    keep: Option<Duration>,
    out: VecDeque<(Target, Vec<u8>)>,
    orders: VecDeque<StreamOrder>,
    chance: Chance,
}

impl Relay {
    /// Begins with the first of these servers.
    pub fn new(now: Now, mut servers: Vec<Server>, chance: Chance) -> Relay {
        servers.truncate(MAX_SERVERS);
        let mut relay = Relay {
            servers,
            next: 0,
            next_us: None,
            attempts: Vec::new(),
            leaving: Vec::new(),
            retry_us: None,
            retry: FIRST_RETRY,
            take_over_us: None,
            failure: None,
            forged: 0,
            keep: None,
            out: VecDeque::new(),
            orders: VecDeque::new(),
            chance,
        };
        relay.begin(now);
        relay
    }

    fn chosen(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.chosen_us.is_some())
    }

    /// Whether there is no allocation, or one whose server does not answer.
    fn is_wanting(&self) -> bool {
        let silent = |chosen: &Attempt| chosen.allocation.as_ref().is_some_and(Allocation::is_silent);
        self.chosen().is_none_or(silent)
    }

    /// The allocation that is used, and where its server is.
    pub fn allocation(&mut self) -> Option<(&mut Allocation, Target)> {
        let chosen = self.attempts.iter_mut().find(|attempt| attempt.chosen_us.is_some())?;
        let target = chosen.target();
        Some((chosen.allocation.as_mut()?, target))
    }

    /// Our address at the server.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.chosen()?.allocation.as_ref()?.relayed()
    }

    /// How that server is reached.
    pub fn carriage(&self) -> Option<&Carriage> {
        self.chosen().map(|chosen| &chosen.server.carriage)
    }

    /// Why there is no allocation, as far as that is known.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.chosen().is_none())
    }

    /// Messages of servers that were not believed so far.
    pub fn forged(&self) -> u64 {
        let now = self.attempts.iter().filter_map(|attempt| attempt.allocation.as_ref());
        self.forged + now.map(Allocation::forged).sum::<u64>()
    }

    /// Whether nothing is under way.
    pub fn is_settled(&self) -> bool {
        match self.chosen() {
            Some(chosen) => chosen.allocation.as_ref().is_some_and(Allocation::is_settled),
            None => self.attempts.is_empty() && self.next_us.is_none(),
        }
    }

    /// The outside may have changed: the server says whether it still knows us, or is asked anew.
    pub fn hurry(&mut self, now: Now) {
        if let Some((allocation, _)) = self.allocation() {
            allocation.test(now);
        } else if self.attempts.is_empty() {
            self.begin(now);
        }
    }

    /// Other servers from now on. The allocation that is used stays, whether its server is one of them or not.
    pub fn change(&mut self, now: Now, mut servers: Vec<Server>) {
        servers.truncate(MAX_SERVERS);
        if servers == self.servers {
            return;
        }
        let gone = |attempt: &Attempt| {
            attempt.chosen_us.is_none() && !servers.iter().any(|server| server.is_at(&attempt.server))
        };
        while let Some(at) = self.attempts.iter().position(gone) {
            self.give_back(now, at);
        }
        self.servers = servers;
        (self.next, self.next_us, self.retry_us) = (0, None, None);
        if self.chosen().is_none() {
            self.begin(now);
        }
    }

    /// The NAT on the way forgets who sends nothing for longer than this.
    pub fn keep_open(&mut self, every: Duration) {
        self.keep = Some(every);
        for allocation in self.attempts.iter_mut().filter_map(|attempt| attempt.allocation.as_mut()) {
            allocation.keep_open(every);
        }
    }

    /// Asks for an allocation.
    fn allocate(&mut self, now: Now, server: Server) -> Allocation {
        let mut allocation = Allocation::new(now, server, self.chance.fork());
        if let Some(every) = self.keep {
            allocation.keep_open(every);
        }
        allocation
    }

    fn begin(&mut self, now: Now) {
        self.retry_us = None;
        self.next = 0;
        self.failure = None;
        self.start_next(now);
    }

    fn start_next(&mut self, now: Now) {
        self.next_us = None;
        // One that was sent on from elsewhere has the socket's only allocation there, too.
        let under_way = |server: &Server| {
            let is_there = |attempt: &Attempt| {
                attempt.server.is_at(server)
                    || (!server.carriage.is_stream() && attempt.target() == Target::from(server.address))
            };
            self.attempts.iter().any(is_there)
        };
        while self.servers.get(self.next).is_some_and(under_way) {
            self.next += 1;
        }
        let Some(server) = self.servers.get(self.next).cloned() else { return };
        self.next += 1;
        if self.next < self.servers.len() {
            self.next_us = Some(now.deadline(HEAD_START));
        }
        self.attempt(now, server, 0);
    }

    fn attempt(&mut self, now: Now, server: Server, redirections: u8) {
        let stream = server.carriage.is_stream().then(|| StreamId(self.chance.next_u64() >> 1));
        let allocation = match stream {
            None => Some(self.allocate(now, server.clone())),
            Some(stream) => {
                let carriage = server.carriage.clone();
                self.orders.push_back(StreamOrder::Open { stream, server: server.address, carriage });
                None
            }
        };
        self.attempts.push(Attempt {
            server,
            stream,
            inbox: Inbox::default(),
            allocation,
            open_by_us: now.deadline(OPEN_WITHIN),
            redirections,
            chosen_us: None,
        });
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Incoming {
        let all = self.attempts.iter_mut().chain(&mut self.leaving);
        let of_server = all.filter(|attempt| attempt.target() == Target::from(from));
        let mut incoming = Incoming::Foreign;
        for allocation in of_server.filter_map(|attempt| attempt.allocation.as_mut()) {
            incoming = allocation.handle(now, datagram);
            if incoming != Incoming::Foreign {
                break;
            }
        }
        if incoming == Incoming::Done {
            self.listen(now);
        }
        incoming
    }

    /// Something has become of a stream; false if it is none of ours.
    pub fn handle_stream(&mut self, now: Now, stream: StreamId, input: StreamInput<'_>) -> bool {
        let Some(at) = self.attempts.iter().position(|attempt| attempt.stream == Some(stream)) else {
            return false;
        };
        match (input, self.attempts.get_mut(at)) {
            (StreamInput::Open, Some(attempt)) if attempt.allocation.is_none() => {
                let server = attempt.server.clone();
                let allocation = self.allocate(now, server);
                if let Some(attempt) = self.attempts.get_mut(at) {
                    attempt.allocation = Some(allocation);
                }
            }
            (StreamInput::Bytes(octets), Some(attempt)) => attempt.inbox.push(octets),
            (StreamInput::Closed(why), _) => self.failed(now, at, Failure::Unreachable(why.to_owned())),
            _ => {}
        }
        true
    }

    /// The next packet of a peer that came on a stream, and who sent it.
    pub fn poll_packet(&mut self, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get_mut(at) {
            let Some(allocation) = &mut attempt.allocation else {
                at += 1;
                continue;
            };
            match attempt.inbox.pop() {
                Ok(None) => at += 1,
                Ok(Some(mut message)) => match allocation.handle(now, &message) {
                    Incoming::Packet { peer, payload } => {
                        message.truncate(payload.end);
                        message.drain(..payload.start);
                        return Some((peer, message));
                    }
                    Incoming::Done => {
                        self.listen(now);
                        at = 0;
                    }
                    Incoming::Foreign => {}
                },
                Err(_) => {
                    self.failed(now, at, Failure::Impossible);
                    at = 0;
                }
            }
        }
        None
    }

    /// Takes up what the allocations have to tell.
    fn listen(&mut self, now: Now) {
        let mut at = 0;
        while at < self.attempts.len() {
            self.flush(at);
            let told =
                self.attempts.get_mut(at).and_then(|attempt| attempt.allocation.as_mut()?.poll_event());
            match told {
                None => at += 1,
                Some(turn::Event::PeerRefused(..)) => {}
                Some(turn::Event::Allocated { .. }) => {
                    self.allocated(now, at);
                    at = 0;
                }
                Some(turn::Event::Failed(failure)) => {
                    self.failed(now, at, failure);
                    at = 0;
                }
            }
        }
    }

    fn flush(&mut self, at: usize) {
        if let Some(attempt) = self.attempts.get_mut(at) {
            attempt.flush(&mut self.out);
        }
    }

    fn allocated(&mut self, now: Now, at: usize) {
        if !self.is_wanting() {
            // It was overtaken.
            return self.give_back(now, at);
        }
        match self.allocation() {
            None => self.choose(now, at),
            // An outage that ends is heard by all of them: what carries a call comes before what is new.
            Some((silent, _)) => {
                silent.insist(now);
                self.next_us = None;
                self.take_over_us.get_or_insert(now.deadline(HEAD_START));
            }
        }
    }

    /// One that was granted beside the one that is used.
    fn spare(&self) -> Option<usize> {
        let granted =
            |attempt: &Attempt| attempt.allocation.as_ref().is_some_and(|it| it.relayed().is_some());
        self.attempts.iter().position(|attempt| attempt.chosen_us.is_none() && granted(attempt))
    }

    /// The server that was silent has had its time.
    fn take_over(&mut self, now: Now) {
        self.take_over_us = None;
        if self.is_wanting() && self.spare().is_some() {
            let silent = self.attempts.iter().position(|attempt| attempt.chosen_us.is_some());
            silent.into_iter().for_each(|at| self.give_back(now, at));
            self.spare().into_iter().for_each(|at| self.choose(now, at));
        }
        while let Some(at) = self.spare() {
            self.give_back(now, at);
        }
    }

    fn choose(&mut self, now: Now, at: usize) {
        if let Some(attempt) = self.attempts.get_mut(at) {
            attempt.chosen_us = Some(now.mono_us);
        }
        (self.failure, self.next_us, self.retry) = (None, None, FIRST_RETRY);
        // A stream that ends takes what was asked for on it along; what was asked for by datagrams has to be given back.
        while let Some(at) =
            self.attempts.iter().position(|other| other.chosen_us.is_none() && other.stream.is_some())
        {
            self.remove(at);
        }
    }

    fn give_back(&mut self, now: Now, at: usize) {
        if let Some(allocation) = self.attempts.get_mut(at).and_then(|attempt| attempt.allocation.as_mut()) {
            allocation.release(now);
        }
        self.flush(at);
        let left = |attempt: &Attempt| attempt.allocation.as_ref().is_some_and(|it| !it.is_over());
        let removed = self.remove(at).filter(left);
        self.leaving.extend(removed);
    }

    fn remove(&mut self, at: usize) -> Option<Attempt> {
        let removed = (at < self.attempts.len()).then(|| self.attempts.remove(at))?;
        self.forged += removed.allocation.as_ref().map_or(0, Allocation::forged);
        self.orders.extend(removed.stream.map(|stream| StreamOrder::Close { stream }));
        Some(removed)
    }

    fn failed(&mut self, now: Now, at: usize, failure: Failure) {
        let Some(attempt) = self.remove(at) else { return };
        if attempt.chosen_us.is_some() && self.spare().is_some() {
            return self.take_over(now);
        }
        if let Some(since_us) = attempt.chosen_us
            && now.since(since_us) >= SETTLED
        {
            // What worked before has the best hope; the others follow.
            (self.next, self.next_us) = (0, Some(now.deadline(HEAD_START)));
            return self.attempt(now, attempt.server, 0);
        }
        if let Failure::Elsewhere(address) = failure
            && attempt.redirections < REDIRECTIONS
        {
            let server = Server { address, ..attempt.server };
            return self.attempt(now, server, attempt.redirections + 1);
        }
        // That one of them was not heard says less than what another one has answered.
        if failure != Failure::NoAnswer || self.failure.is_none() {
            self.failure = Some(failure);
        }
        if !self.is_wanting() {
            return;
        }
        if self.next < self.servers.len() && attempt.chosen_us.is_none() {
            self.start_next(now);
        } else if self.attempts.iter().all(|attempt| attempt.chosen_us.is_some()) {
            self.retry_us = Some(now.deadline(self.retry));
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Gives everything back.
    pub fn release(&mut self, now: Now) {
        while !self.attempts.is_empty() {
            self.give_back(now, 0);
        }
        (self.next_us, self.retry_us, self.take_over_us) = (None, None, None);
    }

    /// The next message, and whither.
    pub fn poll_transmit(&mut self) -> Option<(Target, Vec<u8>)> {
        for at in 0..self.attempts.len() {
            self.flush(at);
        }
        self.leaving.iter_mut().for_each(|attempt| attempt.flush(&mut self.out));
        self.leaving.retain(|attempt| attempt.allocation.as_ref().is_some_and(|it| !it.is_over()));
        self.out.pop_front()
    }

    /// What is to be done with a stream next.
    pub fn poll_order(&mut self) -> Option<StreamOrder> {
        self.orders.pop_front()
    }

    /// When [`Relay::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let attempts = self.attempts.iter().chain(&self.leaving).map(Attempt::poll_timeout);
        let own = [self.next_us, self.retry_us, self.take_over_us];
        attempts.chain(own).fold(None, earliest)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let is_due = |due: Option<u64>| due.is_some_and(|due| due <= now.mono_us);
        if !self.is_wanting() {
            (self.next_us, self.retry_us) = (None, None);
        }
        if is_due(self.retry_us) {
            self.begin(now);
        }
        if is_due(self.next_us) {
            self.start_next(now);
        }
        for attempt in self.attempts.iter_mut().chain(&mut self.leaving) {
            if let Some(allocation) = &mut attempt.allocation {
                allocation.handle_timeout(now);
            }
        }
        let late = |attempt: &Attempt| attempt.allocation.is_none() && attempt.open_by_us <= now.mono_us;
        while let Some(at) = self.attempts.iter().position(late) {
            self.failed(now, at, Failure::NoAnswer);
        }
        self.listen(now);
        if is_due(self.take_over_us) {
            self.take_over(now);
        }
        let searched = self.attempts.len() > 1 || self.next_us.or(self.retry_us).is_some();
        if self.chosen().is_some() && self.is_wanting() && !searched {
            self.begin(now);
        }
    }
}

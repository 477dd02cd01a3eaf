//! An allocation at a TURN server (RFC 8656): made, kept alive, and given back.
//!
//! The server is not believed more than it proves: answers need its integrity once there is a key, packets come only
//! from peers that were permitted, and an address that nobody can have is none.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use crate::chance::Chance;
use crate::nat::candidate::is_inside;
use crate::nat::stun::{self, Class, Message, Refusal, Seal, TransactionId};
use crate::nat::turn_message::{
    Key, MAX_PEERS, Method, Proof, TurnMessage, channel_data, data_indication, is_authentic, send_indication,
    write_channel_data,
};
use crate::nat::turn_server::Server;
use crate::now::{Now, earliest};
use std::collections::VecDeque;

/// Peers that one allocation may be open for.
pub const MAX_PERMITTED: usize = 64;
/// Peers that one allocation may have a channel to.
pub const MAX_CHANNELS: usize = 16;
/// A request over UDP is sent so often, …
const REQUESTS: u8 = 7;
/// … first after this wait, which doubles …
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// … up to this one: 7.8 s in all.
const LONGEST_WAIT: Duration = Duration::from_millis(1_600);
/// … and so often from then on, where the server may still have the allocation: most outages end before it does.
const SILENT_WAIT: Duration = Duration::from_secs(3);
/// Over a stream the answer is waited for, and nothing repeated.
const STREAM_WAIT: Duration = Duration::from_secs(8);
/// Who is asked whether a stream still leads anywhere has to say so sooner: another one is made in less.
const STREAM_TEST_WAIT: Duration = Duration::from_millis(500);
/// Permissions live for 5 minutes and channels for 10 (RFC 8656 §9, §12): both are renewed so often.
const RENEWAL: Duration = Duration::from_secs(240);
/// Without a packet to the server for so long a small one is sent: its mapping in the NAT lives on.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a server may grant, in seconds; more is not relied on.
const LIFETIME_S: std::ops::RangeInclusive<u32> = 60..=3_600;
/// Servers keep an allocation that was ended for a second yet: only after this time another one is asked for …
const BARRED: Duration = Duration::from_millis(1_500);
/// … and so often, where the server goes on to say that it has one of this socket.
const MISMATCHES: u8 = 3;
/// Nonces that one request may go stale by.
const STALE: u8 = 3;
/// Servers that send us on to another one.
pub(super) const REDIRECTIONS: u8 = 2;
const FIRST_CHANNEL: u16 = 0x4000;
const LAST_CHANNEL: u16 = 0x4FFF;

/// Why there is no allocation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The server does not answer.
    #[error("the TURN server does not answer")]
    NoAnswer,
    /// It does not know the name or the password.
    #[error("the TURN server refuses the user name or password")]
    Unauthorized,
    /// It refuses, and says why.
    #[error("the TURN server refuses with {} {}", .0.code, .0.reason)]
    Refused(Refusal),
    /// It answers what can't be.
    #[error("the TURN server's answer is impossible")]
    Impossible,
    /// It sends us to another server, which a stream has to be opened to.
    #[error("the TURN server sends us on to {0}")]
    Elsewhere(SocketAddr),
    /// There is no connection to it.
    #[error("no connection to the TURN server: {0}")]
    Unreachable(String),
}

/// What the allocation tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It is there.
    Allocated {
        /// The address at the server.
        relayed: SocketAddr,
        /// Whence the server sees us come.
        mapped: Option<SocketAddr>,
    },
    /// It could not be made, or is gone.
    Failed(Failure),
    /// The server does not let us talk to this peer.
    PeerRefused(SocketAddr, Refusal),
}

/// What a datagram from the server was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// None of the allocation's.
    Foreign,
    /// Dealt with.
    Done,
    /// A packet of a peer: this part of the datagram.
    Packet {
        /// Who sent it.
        peer: SocketAddr,
        /// Where it is.
        payload: Range<usize>,
    },
}

#[derive(Clone, Debug)]
enum Ask {
    Allocate,
    Refresh { lifetime_s: u32 },
    Permit { peers: Vec<SocketAddr> },
    Bind { peer: SocketAddr, channel: u16 },
}

#[derive(Clone, Debug)]
struct Pending {
    id: TransactionId,
    ask: Ask,
    bytes: Vec<u8>,
    proven: bool,
    sent: u8,
    next_us: u64,
    stale: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Asking,
    /// The server has one of this socket from before, which nobody knows any more: it is ended first.
    Barred {
        /// When it is asked for another one.
        again_us: u64,
    },
    Alive {
        relayed: SocketAddr,
        lifetime_s: u32,
        refresh_us: u64,
        /// Until then the server has it, heard or not.
        expires_us: u64,
    },
    /// Given back before the server has granted it: what it grants yet is ended.
    Leaving,
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    ip: IpAddr,
    renew_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    peer: SocketAddr,
    number: u16,
    bound: bool,
    renew_us: u64,
}

/// The allocation. After each call that takes `now`, drain [`poll_transmit`](Allocation::poll_transmit) and
/// [`poll_event`](Allocation::poll_event).
#[derive(Debug)]
pub struct Allocation {
    server: Server,
    proof: Option<Proof>,
    state: State,
    pending: Vec<Pending>,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    next_channel: u16,
    redirections: u8,
    mismatches: u8,
    /// The server has left a request unanswered, and was not heard since.
    silent: bool,
    /// When the server was last sent something.
    sent_us: u64,
    /// After so long without that a small packet is sent.
    keep: Duration,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    /// Messages of the server that were not believed.
    forged: u64,
    chance: Chance,
}

impl Allocation {
    /// Asks the server for an allocation.
    pub fn new(now: Now, server: Server, chance: Chance) -> Allocation {
        let mut allocation = Allocation {
            server,
            proof: None,
            state: State::Asking,
            pending: Vec::new(),
            permissions: Vec::new(),
            channels: Vec::new(),
            next_channel: FIRST_CHANNEL,
            redirections: 0,
            mismatches: 0,
            silent: false,
            sent_us: now.mono_us,
            keep: KEEP_ALIVE,
            out: VecDeque::new(),
            events: VecDeque::new(),
            forged: 0,
            chance,
        };
        allocation.ask(now, Ask::Allocate, 0);
        allocation
    }

    /// The server, as far as it has not sent us on.
    pub fn server(&self) -> SocketAddr {
        self.server.address
    }

    /// Our address there.
    pub fn relayed(&self) -> Option<SocketAddr> {
        match self.state {
            State::Alive { relayed, .. } => Some(relayed),
            State::Asking | State::Barred { .. } | State::Leaving | State::Over => None,
        }
    }

    /// Whether the server has said how it stands since it was last asked, or was waited for long enough.
    pub fn is_settled(&self) -> bool {
        let asks = |pending: &Pending| {
            pending.sent <= REQUESTS && matches!(pending.ask, Ask::Allocate | Ask::Refresh { .. })
        };
        self.relayed().is_some() && !self.pending.iter().any(asks)
    }

    /// Whether the server does not answer, though it may still have the allocation.
    pub fn is_silent(&self) -> bool {
        self.silent && self.relayed().is_some()
    }

    /// Asks a server that is silent once more, now.
    pub fn insist(&mut self, now: Now) {
        for pending in self.pending.iter_mut().filter(|pending| pending.sent > REQUESTS) {
            pending.next_us = now.mono_us;
        }
        self.repeat(now);
    }

    /// Asks the server whether it still knows us: if our address has changed it does not.
    pub fn test(&mut self, now: Now) {
        if let State::Alive { lifetime_s, .. } = self.state
            && self.is_settled()
        {
            self.refresh(now, lifetime_s);
            if let Some(pending) = self.pending.last_mut().filter(|_| self.server.carriage.is_stream()) {
                pending.next_us = now.deadline(STREAM_TEST_WAIT);
            }
        }
    }

    /// Whether nothing comes of it any more.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Messages that were not believed so far.
    pub fn forged(&self) -> u64 {
        self.forged
    }

    /// The NAT on the way forgets who sends nothing for longer than this.
    pub fn keep_open(&mut self, every: Duration) {
        self.keep = every.min(KEEP_ALIVE);
    }

    /// Peers may reach us. Those for whom there is no room are left out.
    pub fn permit(&mut self, now: Now, peers: impl IntoIterator<Item = SocketAddr>) {
        let Some(relayed) = self.relayed() else { return };
        let mut fresh: Vec<SocketAddr> = Vec::new();
        for peer in peers {
            let known = self.permissions.iter().any(|permission| permission.ip == peer.ip());
            // A server outside can't reach an address inside, and some close the allocation over it.
            let reachable = !is_inside(peer.ip()) || is_inside(relayed.ip());
            if !known
                && reachable
                && peer.is_ipv4() == relayed.is_ipv4()
                && self.permissions.len() < MAX_PERMITTED
            {
                let renew_us = now.deadline(RENEWAL);
                self.permissions.push(Permission { ip: peer.ip(), renew_us });
                fresh.push(peer);
            }
        }
        for peers in fresh.chunks(MAX_PEERS) {
            self.ask(now, Ask::Permit { peers: peers.to_vec() }, 0);
        }
    }

    /// Packets to and from this peer get a short header.
    pub fn bind(&mut self, now: Now, peer: SocketAddr) {
        let known = self.channels.iter().any(|channel| channel.peer == peer);
        if known || self.channels.len() >= MAX_CHANNELS || self.next_channel > LAST_CHANNEL {
            return;
        }
        self.permit(now, [peer]);
        if !self.is_permitted(peer) {
            return;
        }
        let channel = self.next_channel;
        self.next_channel += 1;
        self.channels.push(Channel { peer, number: channel, bound: false, renew_us: now.deadline(RENEWAL) });
        self.ask(now, Ask::Bind { peer, channel }, 0);
    }

    /// No peer is of interest any more: nothing is renewed for them.
    pub fn forget_peers(&mut self) {
        self.permissions.clear();
        self.channels.clear();
        self.pending.retain(|pending| !matches!(pending.ask, Ask::Permit { .. } | Ask::Bind { .. }));
    }

    fn is_permitted(&self, peer: SocketAddr) -> bool {
        self.permissions.iter().any(|permission| permission.ip == peer.ip())
    }

    /// Gives the allocation back; it is over at once, unless the server may grant it yet.
    pub fn release(&mut self, now: Now) {
        match self.state {
            State::Alive { .. } => self.ask(now, Ask::Refresh { lifetime_s: 0 }, 0),
            // With a stream all that was asked for on it ends.
            State::Asking if !self.server.carriage.is_stream() => {
                self.state = State::Leaving;
                for pending in &mut self.pending {
                    (pending.sent, pending.next_us) = (REQUESTS, now.deadline(LONGEST_WAIT));
                }
                return;
            }
            _ => {}
        }
        self.end();
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.pending.clear();
        self.forget_peers();
    }

    /// Writes a packet to a peer as it goes to the server; `None` if it can't go.
    pub fn frame(&mut self, now: Now, peer: SocketAddr, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        self.relayed()?;
        let channel = self.channels.iter().find(|channel| channel.peer == peer && channel.bound);
        let length = match channel {
            Some(channel) => {
                write_channel_data(channel.number, payload, self.server.carriage.is_stream(), out)?
            }
            None if self.is_permitted(peer) => {
                send_indication(TransactionId::draw(&mut self.chance), peer, payload, out)?
            }
            None => return None,
        };
        self.sent_us = now.mono_us;
        Some(length)
    }

    /// Takes what came from the server: a datagram, or one message of the stream.
    pub fn handle(&mut self, now: Now, datagram: &[u8]) -> Incoming {
        if let Some((number, payload)) = channel_data(datagram) {
            let channel = self.channels.iter().find(|channel| channel.number == number);
            return match channel {
                Some(channel) => Incoming::Packet { peer: channel.peer, payload: 4..4 + payload.len() },
                None => {
                    self.forged += 1;
                    Incoming::Done
                }
            };
        }
        if let Some((peer, payload)) = data_indication(datagram) {
            if self.is_permitted(peer) {
                return Incoming::Packet { peer, payload };
            }
            self.forged += 1;
            return Incoming::Done;
        }
        let Some(id) = TransactionId::of(datagram) else { return Incoming::Foreign };
        let Some(at) = self.pending.iter().position(|pending| pending.id == id) else {
            return Incoming::Foreign;
        };
        let Some(message) = TurnMessage::read(datagram) else {
            self.forged += 1;
            return Incoming::Done;
        };
        let vouched = self.proof.as_ref().is_some_and(|proof| is_authentic(datagram, &proof.key));
        let proven = self.pending.get(at).is_some_and(|pending| pending.proven);
        if matches!(message.class, Class::Success) && proven && !vouched {
            self.forged += 1;
            return Incoming::Done;
        }
        let pending = self.pending.swap_remove(at);
        match (message.class, &message.refusal) {
            (Class::Success, _) => self.granted(now, pending.ask, &message),
            (Class::Error, Some(refusal)) => {
                let refusal = refusal.clone();
                self.refused(now, pending, &message, refusal);
            }
            _ => self.fail(Failure::Impossible),
        }
        Incoming::Done
    }

    fn granted(&mut self, now: Now, ask: Ask, message: &TurnMessage) {
        self.silent = false;
        if self.state == State::Leaving {
            return match ask {
                Ask::Allocate => self.ask(now, Ask::Refresh { lifetime_s: 0 }, 0),
                _ => self.end(),
            };
        }
        match (ask, message.lifetime_s) {
            // The one of before is ended.
            (Ask::Refresh { lifetime_s: 0 }, _) => {}
            (Ask::Allocate, Some(lifetime_s)) if lifetime_s > 0 => {
                let Some(relayed) = message.relayed.filter(|relayed| self.is_possible(*relayed)) else {
                    return self.fail(Failure::Impossible);
                };
                self.live(now, relayed, lifetime_s);
                let mapped = message.mapped.filter(|mapped| self.is_possible(*mapped));
                self.events.push_back(Event::Allocated { relayed, mapped });
            }
            (Ask::Refresh { .. }, Some(lifetime_s)) if lifetime_s > 0 => {
                if let Some(relayed) = self.relayed() {
                    self.live(now, relayed, lifetime_s);
                }
            }
            (Ask::Allocate | Ask::Refresh { .. }, _) => self.fail(Failure::Impossible),
            (Ask::Bind { peer, .. }, _) => {
                if let Some(channel) = self.channels.iter_mut().find(|channel| channel.peer == peer) {
                    channel.bound = true;
                }
            }
            (Ask::Permit { .. }, _) => {}
        }
    }

    fn live(&mut self, now: Now, relayed: SocketAddr, lifetime_s: u32) {
        let lifetime_s = lifetime_s.clamp(*LIFETIME_S.start(), *LIFETIME_S.end());
        let lifetime = Duration::from_secs(u64::from(lifetime_s));
        let (refresh_us, expires_us) = (now.deadline(lifetime / 2), now.deadline(lifetime));
        self.state = State::Alive { relayed, lifetime_s, refresh_us, expires_us };
    }

    /// Has the allocation live on; one request for that is enough.
    fn refresh(&mut self, now: Now, lifetime_s: u32) {
        self.pending.retain(|pending| !matches!(pending.ask, Ask::Refresh { .. }));
        self.ask(now, Ask::Refresh { lifetime_s }, 0);
    }

    /// An address that leads to this machine is only given by a server that is on it.
    fn is_possible(&self, address: SocketAddr) -> bool {
        crate::nat::candidate::may_be_tried(address, &[self.server.address.ip()])
    }

    fn refused(&mut self, now: Now, pending: Pending, message: &TurnMessage, refusal: Refusal) {
        let challenge = message.nonce.clone().zip(message.realm.clone());
        let challenged = refusal.code == 438 || (refusal.code == 401 && !pending.proven);
        match self.state {
            // Whether there was anything to end is seen when the next one is asked for.
            State::Barred { .. } if !challenged => return,
            State::Leaving if !challenged || matches!(pending.ask, Ask::Allocate) => return self.end(),
            _ => {}
        }
        match (refusal.code, challenge) {
            (401, Some((nonce, realm))) if !pending.proven => {
                if self.believe(realm, nonce) {
                    self.ask(now, pending.ask, pending.stale);
                } else {
                    self.fail(Failure::Unauthorized);
                }
            }
            (401, _) => self.fail(Failure::Unauthorized),
            (438, challenge) if pending.stale < STALE => {
                let realm = challenge.as_ref().map(|(_, realm)| realm.clone());
                let realm = realm.or_else(|| self.proof.as_ref().map(|proof| proof.realm.clone()));
                match message.nonce.clone().zip(realm) {
                    Some((nonce, realm)) if self.believe(realm.clone(), nonce.clone()) => {
                        self.ask(now, pending.ask, pending.stale + 1);
                    }
                    _ => self.fail(Failure::Impossible),
                }
            }
            (300, _) if matches!(pending.ask, Ask::Allocate) => self.redirect(now, message.alternate_server),
            // A stream is a new one, and nothing of before belongs to it.
            (437, _)
                if matches!(pending.ask, Ask::Allocate)
                    && !self.server.carriage.is_stream()
                    && self.mismatches < MISMATCHES =>
            {
                self.mismatches += 1;
                self.state = State::Barred { again_us: now.deadline(BARRED) };
                self.ask(now, Ask::Refresh { lifetime_s: 0 }, 0);
            }
            (437, _) => self.fail(Failure::Refused(refusal)),
            _ => match pending.ask {
                Ask::Allocate | Ask::Refresh { .. } => self.fail(Failure::Refused(refusal)),
                Ask::Permit { peers } => {
                    self.permissions
                        .retain(|permission| !peers.iter().any(|peer| peer.ip() == permission.ip));
                    self.channels.retain(|channel| !peers.iter().any(|peer| peer.ip() == channel.peer.ip()));
                    let told = peers.into_iter().map(|peer| Event::PeerRefused(peer, refusal.clone()));
                    self.events.extend(told);
                }
                // Without the short header packets still go by the long one.
                Ask::Bind { peer, .. } => self.channels.retain(|channel| channel.peer != peer),
            },
        }
    }

    fn believe(&mut self, realm: String, nonce: String) -> bool {
        let username = self.server.username.clone();
        let Some(key) = Key::long_term(&username, &realm, &self.server.password) else { return false };
        self.proof = Some(Proof { username, realm, nonce, key });
        true
    }

    fn redirect(&mut self, now: Now, to: Option<SocketAddr>) {
        let Some(to) = to.filter(|to| *to != self.server.address && self.is_possible(*to)) else {
            return self.fail(Failure::Impossible);
        };
        if self.server.carriage.is_stream() || self.redirections >= REDIRECTIONS {
            return self.fail(Failure::Elsewhere(to));
        }
        self.redirections += 1;
        self.server.address = to;
        self.proof = None;
        self.ask(now, Ask::Allocate, 0);
    }

    fn fail(&mut self, failure: Failure) {
        if self.state != State::Over {
            self.end();
            self.events.push_back(Event::Failed(failure));
        }
    }

    fn ask(&mut self, now: Now, ask: Ask, stale: u8) {
        let id = TransactionId::draw(&mut self.chance);
        let method = match ask {
            Ask::Allocate => Method::Allocate,
            Ask::Refresh { .. } => Method::Refresh,
            Ask::Permit { .. } => Method::CreatePermission,
            Ask::Bind { .. } => Method::ChannelBind,
        };
        let mut message = TurnMessage::new(Class::Request, method, id);
        match &ask {
            Ask::Allocate => {
                message.wants_udp = true;
                message.wants_ipv6 = self.server.address.is_ipv6();
            }
            Ask::Refresh { lifetime_s } => message.lifetime_s = Some(*lifetime_s),
            Ask::Permit { peers } => message.peers.clone_from(peers),
            Ask::Bind { peer, channel } => {
                message.peers.push(*peer);
                message.channel = Some(*channel);
            }
        }
        let bytes = message.write(self.proof.as_ref());
        self.out.push_back(bytes.clone());
        self.sent_us = now.mono_us;
        let wait = if self.server.carriage.is_stream() { STREAM_WAIT } else { FIRST_WAIT };
        let next_us = now.deadline(wait);
        self.pending.push(Pending { id, ask, bytes, proven: self.proof.is_some(), sent: 1, next_us, stale });
    }

    /// The next message to the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Allocation::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let pending = self.pending.iter().map(|pending| pending.next_us).min();
        let refresh_us = match self.state {
            State::Alive { refresh_us, .. } => refresh_us,
            State::Barred { again_us } => return earliest(pending, Some(again_us)),
            State::Asking | State::Leaving | State::Over => return pending,
        };
        let permissions = self.permissions.iter().map(|permission| permission.renew_us).min();
        let channels = self.channels.iter().map(|channel| channel.renew_us).min();
        let alive = Some(self.sent_us + crate::now::micros(self.keep));
        [Some(refresh_us), permissions, channels, alive].into_iter().fold(pending, earliest)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.repeat(now);
        if let State::Barred { again_us } = self.state
            && again_us <= now.mono_us
        {
            self.pending.clear();
            self.state = State::Asking;
            self.ask(now, Ask::Allocate, 0);
        }
        let State::Alive { lifetime_s, refresh_us, relayed, expires_us } = self.state else { return };
        if refresh_us <= now.mono_us {
            let refresh_us = now.deadline(Duration::from_secs(u64::from(lifetime_s) / 2));
            self.state = State::Alive { lifetime_s, refresh_us, relayed, expires_us };
            self.refresh(now, lifetime_s);
        }
        let mut due = Vec::new();
        for permission in &mut self.permissions {
            if permission.renew_us <= now.mono_us {
                permission.renew_us = now.deadline(RENEWAL);
                due.push(SocketAddr::new(permission.ip, 0));
            }
        }
        for peers in due.chunks(MAX_PEERS) {
            self.ask(now, Ask::Permit { peers: peers.to_vec() }, 0);
        }
        let mut due = Vec::new();
        for channel in &mut self.channels {
            if channel.renew_us <= now.mono_us {
                channel.renew_us = now.deadline(RENEWAL);
                due.push(Ask::Bind { peer: channel.peer, channel: channel.number });
            }
        }
        due.into_iter().for_each(|ask| self.ask(now, ask, 0));
        if now.since(self.sent_us) >= self.keep {
            let id = TransactionId::draw(&mut self.chance);
            self.out.push_back(Message::new(stun::Class::Indication, id).write(Seal::Plain));
            self.sent_us = now.mono_us;
        }
    }

    fn repeat(&mut self, now: Now) {
        let is_stream = self.server.carriage.is_stream();
        let may_live = matches!(self.state, State::Alive { expires_us, .. } if now.mono_us < expires_us);
        let mut unanswered = false;
        for pending in &mut self.pending {
            if pending.next_us > now.mono_us {
                continue;
            }
            let often = pending.sent >= REQUESTS;
            if is_stream || (often && !may_live) {
                unanswered = true;
                continue;
            }
            self.silent |= often;
            let doubled = (FIRST_WAIT * (1 << u32::from(pending.sent).min(8))).min(LONGEST_WAIT);
            pending.sent = pending.sent.saturating_add(1);
            pending.next_us = now.deadline(if often { SILENT_WAIT } else { doubled });
            self.out.push_back(pending.bytes.clone());
            self.sent_us = now.mono_us;
        }
        match self.state {
            _ if !unanswered => {}
            // Only the end of the one before was asked for.
            State::Barred { .. } => self.pending.clear(),
            State::Leaving => {
                let proven = |pending: Pending| pending.proven && matches!(pending.ask, Ask::Allocate);
                let lost = std::mem::take(&mut self.pending).into_iter().any(proven);
                self.end();
                if lost {
                    // It may have been the grant that was lost.
                    self.state = State::Leaving;
                    self.ask(now, Ask::Refresh { lifetime_s: 0 }, 0);
                }
            }
            _ => self.fail(Failure::NoAnswer),
        }
    }
}

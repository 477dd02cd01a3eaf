//! The way of one socket's packets to the far end and back: what was gathered for it while it waited, the agent that finds
//! a route, and the relay. RTCP has a path of its own where it has a port of its own (RFC 8445 §4: component 2); nothing
//! that becomes of it touches that of the audio.
//!
//! A leg under ICE knows nothing of it: its session speaks with [`FAR_END`], and what it sends there leaves by whatever
//! route the agent has; what comes by a route that has been checked is handed to it as from there.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use super::command::{LegId, PortId};
use super::event::Event;
use super::plan::{Ice, Plan};
use super::report::PathCounts;
use super::transmit::Component;
use crate::chance::Chance;
use crate::nat::gathering::{Gathering, Sources};
use crate::nat::ice::{self, Agent, Credentials, Route, Way};
use crate::nat::relay::{StreamId, StreamInput, StreamOrder, Target};
use crate::nat::stun::{self, Class, Message, Seal, TransactionId};
use crate::now::{Now, earliest};
use crate::rtp::dtls::is_dtls;
use crate::rtp::packet::MAX_PACKET;

/// The far end of a leg under ICE, as its session knows it: the dummy address of RFC 7600, which is nowhere.
pub(super) const FAR_END: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 0, 8), 9));

/// Packets of a handshake that wait for a route, each way: a lost one would cost a second.
const HELD: usize = 6;
/// Without media for so long the route is put to the test, once for each silence.
const DOUBT_AFTER: Duration = Duration::from_millis(600);
/// A leg that sends nothing keeps its mapping in NATs open by a small packet so often.
const KEEP_OPEN: Duration = Duration::from_secs(15);

/// What a packet was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// Dealt with.
    Done,
    /// It came by no route that was checked.
    Refused,
    /// This part of it is for the leg, from this address: [`FAR_END`] by a route that was checked.
    Media(Range<usize>, SocketAddr),
}

/// The path of one socket of a port.
pub(super) struct Path {
    pub(super) port: PortId,
    pub(super) component: Component,
    /// One number for all agents of the port.
    tie_breaker: u64,
    /// The addresses of the machine, where nothing is gathered for this socket itself.
    own: Vec<IpAddr>,
    leg: Option<LegId>,
    gathering: Option<Gathering>,
    /// The one of before, while a TURN server may grant yet what it has asked for.
    leaving: Option<Gathering>,
    agent: Option<Agent>,
    /// Without an agent: the relay carries everything; this peer was agreed on.
    relayed: Option<SocketAddr>,
    /// When media came last, until their silence has been looked into.
    heard_us: Option<u64>,
    /// Where a leg without ICE keeps its mapping open, and when.
    keep_open: Option<(SocketAddr, u64)>,
    out: VecDeque<(Target, Vec<u8>)>,
    /// What is to be done with streams to TURN servers.
    orders: VecDeque<StreamOrder>,
    /// Ours that had no route yet.
    unsent: VecDeque<Vec<u8>>,
    /// Those of the far end that came before our own check of their route came back.
    early: VecDeque<(Route, Vec<u8>)>,
    /// What was refused so far, but by the agent and the gathering of now.
    refused: PathCounts,
    chance: Chance,
}

impl Path {
    /// The path of a socket; the other one of the port has `beside` it, if it has one.
    pub(super) fn new(port: PortId, component: Component, beside: Option<&Path>, mut chance: Chance) -> Path {
        Path {
            port,
            component,
            tie_breaker: beside.map_or_else(|| chance.next_u64(), |beside| beside.tie_breaker),
            own: beside.map(Path::own).unwrap_or_default(),
            leg: None,
            gathering: None,
            leaving: None,
            agent: None,
            relayed: None,
            heard_us: None,
            keep_open: None,
            out: VecDeque::new(),
            orders: VecDeque::new(),
            unsent: VecDeque::new(),
            early: VecDeque::new(),
            refused: PathCounts::default(),
            chance,
        }
    }

    /// Whether it is that of this socket.
    pub(super) fn is_of(&self, port: PortId, component: Component) -> bool {
        self.port == port && self.component == component
    }

    fn own(&self) -> Vec<IpAddr> {
        self.gathering.as_ref().map_or_else(|| self.own.clone(), |known| known.sources().own.clone())
    }

    /// What was refused so far.
    pub(super) fn counts(&self) -> PathCounts {
        let mut counts = self.refused;
        if let Some(agent) = &self.agent {
            counts.forged += agent.counters().forged;
            counts.candidates += agent.counters().refused_candidates;
        }
        counts.forged += self.gathering.as_ref().map_or(0, Gathering::forged);
        counts
    }

    /// Replaces the agent; what the one of before has counted stays.
    fn set_agent(&mut self, agent: Option<Agent>) {
        if let Some(before) = std::mem::replace(&mut self.agent, agent) {
            self.refused.forged += before.counters().forged;
            self.refused.candidates += before.counters().refused_candidates;
        }
    }

    /// Whether the path is of no use to anybody.
    pub(super) fn is_idle(&self) -> bool {
        let unused = self.leg.is_none() && self.gathering.is_none() && self.agent.is_none();
        unused && self.leaving.is_none() && self.out.is_empty() && self.orders.is_empty()
    }

    /// Gathers from these sources, or asks them anew if they are the same; without any, everything is given back.
    pub(super) fn gather(&mut self, now: Now, sources: Option<Sources>, events: &mut VecDeque<Event>) {
        if let (Some(gathering), Some(sources)) = (&mut self.gathering, &sources) {
            let known = gathering.sources();
            // What carries a call goes on until another path works (RFC 8445 §9), whatever servers there are now.
            let in_use = self.leg.is_some() && !sources.turn.is_empty();
            if known == sources {
                gathering.hurry(now);
                if let Some(agent) = &mut self.agent {
                    agent.doubt(now);
                }
                return self.drain(now, events);
            } else if known.turn == sources.turn || in_use {
                gathering.change(now, sources.clone());
                return self.drain(now, events);
            }
        }
        if let Some(mut before) = self.gathering.take() {
            self.refused.forged += before.forged();
            before.release(now);
            self.out.extend(std::iter::from_fn(|| before.poll_transmit()));
            self.orders.extend(std::iter::from_fn(|| before.poll_order()));
            self.leaving = Some(before).filter(|before| before.poll_timeout().is_some());
        }
        if sources.is_some() {
            // What is asked for from now on finds out by itself what the server has, and must not be ended for it.
            self.leaving = None;
        }
        self.gathering = sources.map(|sources| Gathering::new(now, sources, self.chance.fork()));
        self.drain(now, events);
    }

    /// Has this STUN server asked now, if it is one of those that are gathered from.
    pub(super) fn ask(&mut self, now: Now, server: SocketAddr, events: &mut VecDeque<Event>) {
        if let Some(gathering) = &mut self.gathering {
            gathering.ask(now, server);
        }
        self.drain(now, events);
    }

    /// We have offered under these credentials: checks may come before the answer.
    pub(super) fn expect(&mut self, credentials: Credentials) {
        if self.agent.is_none() {
            self.agent = Some(self.new_agent(credentials, true));
        }
    }

    /// Peers may reach us through the relay.
    pub(super) fn permit(&mut self, now: Now, peers: &[SocketAddr], events: &mut VecDeque<Event>) {
        if let Some((allocation, _)) = self.gathering.as_mut().and_then(Gathering::allocation) {
            allocation.permit(now, peers.iter().copied());
        }
        self.drain(now, events);
    }

    fn new_agent(&mut self, credentials: Credentials, controlling: bool) -> Agent {
        let settings = ice::Settings {
            component: self.component.number(),
            own: self.own(),
            relayed: self.gathering.as_ref().and_then(Gathering::relayed),
            offered: controlling,
            tie_breaker: self.tie_breaker,
        };
        Agent::new(settings, credentials, self.chance.fork())
    }

    /// What was agreed on.
    pub(super) fn agree(&mut self, now: Now, leg: LegId, plan: &Plan, events: &mut VecDeque<Event>) {
        self.leg = Some(leg);
        let remote = plan.remote.map(|remote| remote.of(self.component));
        // Under DTLS nothing leaves before the handshake, which may be the far end's to begin.
        let sends = plan.direction.sends() && plan.send.is_some() && plan.dtls.is_none();
        let direct = plan.ice.is_none() && !plan.relayed;
        let quiet = remote.filter(|_| plan.keep_open && direct && !sends);
        self.keep_open = quiet.map(|remote| (remote, now.mono_us));
        self.relayed = None;
        match &plan.ice {
            None => {
                self.set_agent(None);
                self.relayed = remote.filter(|_| plan.relayed);
            }
            Some(ice) => self.start(now, ice.clone()),
        }
        self.bind_peer(now);
        self.drain(now, events);
    }

    /// The relay lets the one peer in that there is without an agent.
    fn bind_peer(&mut self, now: Now) {
        let allocation = self.gathering.as_mut().and_then(Gathering::allocation);
        if let (Some(peer), Some((allocation, _))) = (self.relayed, allocation) {
            allocation.bind(now, peer);
        }
    }

    fn start(&mut self, now: Now, ice: Ice) {
        let goes_on = self.agent.as_ref().is_some_and(|agent| {
            *agent.credentials() == ice.local
                && agent.peer().is_none_or(|peer| peer.credentials == ice.peer.credentials)
        });
        if !goes_on {
            let before = self.agent.as_ref().and_then(Agent::route);
            let mut agent = self.new_agent(ice.local, ice.controlling);
            agent.keep_route(before);
            self.set_agent(Some(agent));
        }
        if let Some((allocation, _)) = self.gathering.as_mut().and_then(Gathering::allocation) {
            let mut wanted = ice.peer.candidates.clone();
            crate::order::sort_by_key(&mut wanted, |candidate| std::cmp::Reverse(candidate.priority));
            // Where both components of a peer are is often told by the candidates of one of them alone.
            allocation.permit(now, wanted.iter().take(ice::MAX_PAIRS).map(|candidate| candidate.address));
        }
        if let Some(agent) = &mut self.agent {
            agent.start(now, ice.peer);
        }
    }

    /// The leg is closed: the socket goes with it.
    pub(super) fn close(&mut self, now: Now) {
        self.leg = None;
        self.set_agent(None);
        self.relayed = None;
        self.keep_open = None;
        self.unsent.clear();
        self.early.clear();
        self.gather(now, None, &mut VecDeque::new());
    }

    /// What a packet is that came on the socket.
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        from: SocketAddr,
        bytes: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Arrival {
        let mut route = Route { way: Way::Direct, to: from };
        let mut range = 0..bytes.len();
        if let Some(gathering) = &mut self.gathering {
            let mut packet = None;
            if gathering.handle_datagram(now, from, bytes, |peer, payload| packet = Some((peer, payload))) {
                let Some((peer, payload)) = packet else {
                    self.drain(now, events);
                    return Arrival::Done;
                };
                route = Route { way: Way::Relayed, to: peer };
                range = payload;
            }
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.handle_datagram(now, from, bytes, |_, _| {})
        {
            self.drain(now, events);
            return Arrival::Done;
        }
        self.judge(now, route, bytes, range, events)
    }

    /// What a packet is that came by this route, in this part of the bytes.
    fn judge(
        &mut self,
        now: Now,
        route: Route,
        bytes: &[u8],
        range: Range<usize>,
        events: &mut VecDeque<Event>,
    ) -> Arrival {
        let Some(agent) = &mut self.agent else {
            return match self.relayed {
                None => Arrival::Media(range, route.to),
                // Whom the relay lets in was told to us; which of them is heard is for the session to say, as without it.
                Some(_) if route.way == Way::Relayed => Arrival::Media(range, route.to),
                Some(_) => {
                    self.refused.unchecked += 1;
                    Arrival::Refused
                }
            };
        };
        let inner = bytes.get(range.clone()).unwrap_or_default();
        if stun::is_stun(inner) {
            agent.handle_datagram(now, route.way, route.to, inner);
            self.drain(now, events);
            return Arrival::Done;
        }
        if !agent.may_come(route) {
            if is_dtls(inner) && agent.knows(route) && self.early.len() < HELD {
                self.early.push_back((route, inner.to_vec()));
                return Arrival::Done;
            }
            self.refused.unchecked += 1;
            return Arrival::Refused;
        }
        // RTCP comes seldom: that it is not heard says nothing.
        self.heard_us = Some(now.mono_us).filter(|_| self.component == Component::Rtp);
        Arrival::Media(range, FAR_END)
    }

    /// Something has become of a stream.
    pub(super) fn handle_stream(
        &mut self,
        now: Now,
        stream: StreamId,
        input: StreamInput<'_>,
        events: &mut VecDeque<Event>,
    ) {
        if let Some(gathering) = &mut self.gathering {
            gathering.handle_stream(now, stream, input);
        }
        self.drain(now, events);
    }

    /// The next packet that a stream has brought, and what it is.
    pub(super) fn poll_packet(
        &mut self,
        now: Now,
        events: &mut VecDeque<Event>,
    ) -> Option<(Vec<u8>, Arrival)> {
        let Some((to, bytes)) = self.gathering.as_mut().and_then(|gathering| gathering.poll_packet(now))
        else {
            self.drain(now, events);
            return None;
        };
        let arrival = self.judge(now, Route { way: Way::Relayed, to }, &bytes, 0..bytes.len(), events);
        Some((bytes, arrival))
    }

    /// A packet of a handshake that came before its route was checked, once that is done.
    pub(super) fn pop_early(&mut self) -> Option<Vec<u8>> {
        let agent = self.agent.as_ref()?;
        let at = self.early.iter().position(|(route, _)| agent.may_come(*route))?;
        self.early.remove(at).map(|(_, bytes)| bytes)
    }

    /// Whether the relay carries what the leg sends without an agent.
    pub(super) fn is_relayed(&self) -> bool {
        self.relayed.is_some()
    }

    /// Where a packet of the leg to this address leaves to, framed for the relay if need be: its length in `buffer`.
    pub(super) fn frame(
        &mut self,
        now: Now,
        to: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Option<(Target, usize)> {
        let by_relay = self.relayed.map(|_| Route { way: Way::Relayed, to });
        let Some(route) = self.agent.as_ref().map_or(by_relay, Agent::route) else {
            let bytes = buffer.get(..len).filter(|bytes| is_dtls(bytes))?;
            if self.unsent.len() < HELD {
                self.unsent.push_back(bytes.to_vec());
            }
            return None;
        };
        match route.way {
            Way::Direct => Some((route.to.into(), len)),
            Way::Relayed => {
                let (allocation, target) = self.gathering.as_mut().and_then(Gathering::allocation)?;
                let mut framed = [0; MAX_PACKET + 64];
                let length = allocation.frame(now, route.to, buffer.get(..len)?, &mut framed)?;
                buffer.get_mut(..length)?.copy_from_slice(framed.get(..length)?);
                Some((target, length))
            }
        }
    }

    /// A packet of the path's own.
    pub(super) fn poll_transmit(&mut self) -> Option<(Target, Vec<u8>)> {
        self.out.pop_front()
    }

    /// What is to be done with a stream next.
    pub(super) fn poll_order(&mut self) -> Option<StreamOrder> {
        self.orders.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let gathering = self.gathering.as_ref().and_then(Gathering::poll_timeout);
        let agent = self.agent.as_ref().and_then(Agent::poll_timeout);
        let silence = self.heard_us.map(|heard| heard + crate::now::micros(DOUBT_AFTER));
        let open = self.keep_open.map(|(_, next)| next);
        let leaving = self.leaving.as_ref().and_then(Gathering::poll_timeout);
        [gathering, leaving, agent, silence, open].into_iter().fold(None, earliest)
    }

    pub(super) fn handle_timeout(&mut self, now: Now, events: &mut VecDeque<Event>) {
        for gathering in self.gathering.iter_mut().chain(&mut self.leaving) {
            gathering.handle_timeout(now);
        }
        if let Some(agent) = &mut self.agent {
            if self.heard_us.is_some_and(|heard| now.since(heard) >= DOUBT_AFTER) {
                self.heard_us = None;
                agent.doubt(now);
            }
            agent.handle_timeout(now);
        }
        if let Some((to, next)) = &mut self.keep_open
            && *next <= now.mono_us
        {
            *next = now.deadline(KEEP_OPEN);
            let id = TransactionId::draw(&mut self.chance);
            self.out.push_back(((*to).into(), Message::new(Class::Indication, id).write(Seal::Plain)));
        }
        self.drain(now, events);
    }

    fn drain(&mut self, now: Now, events: &mut VecDeque<Event>) {
        if let Some(agent) = &mut self.agent {
            while let Some(event) = agent.poll_event() {
                if let (ice::Event::Route(Route { way: Way::Relayed, to }), Some((allocation, _))) =
                    (event, self.gathering.as_mut().and_then(Gathering::allocation))
                {
                    allocation.bind(now, to);
                }
                if let Some(leg) = self.leg {
                    let (component, seen_as) = (self.component, agent.mapped());
                    super::engine::push_event(events, Event::Path { leg, component, event, seen_as });
                }
            }
            while let Some(transmit) = agent.poll_transmit() {
                let route = transmit.route;
                match (route.way, self.gathering.as_mut().and_then(Gathering::allocation)) {
                    (Way::Direct, _) => self.out.push_back((route.to.into(), transmit.bytes)),
                    (Way::Relayed, Some((allocation, server))) => {
                        let mut framed = [0; MAX_PACKET + 64];
                        allocation.permit(now, [route.to]);
                        let length = allocation.frame(now, route.to, &transmit.bytes, &mut framed);
                        // What asks for the permission has to be there first.
                        self.out.extend(
                            std::iter::from_fn(|| allocation.poll_transmit()).map(|ask| (server, ask)),
                        );
                        if let Some(bytes) = length.and_then(|length| framed.get(..length)) {
                            self.out.push_back((server, bytes.to_vec()));
                        }
                    }
                    (Way::Relayed, None) => {}
                }
            }
        }
        if self.agent.as_ref().is_some_and(|agent| agent.route().is_some()) {
            while let Some(bytes) = self.unsent.pop_front() {
                let mut buffer = [0; MAX_PACKET + 64];
                let Some(target) = buffer.get_mut(..bytes.len()) else { continue };
                target.copy_from_slice(&bytes);
                if let Some((to, len)) = self.frame(now, FAR_END, &mut buffer, bytes.len()) {
                    self.out.push_back((to, buffer.get(..len).unwrap_or_default().to_vec()));
                }
            }
        }
        let found = self.gathering.as_mut().and_then(|gathering| gathering.poll_found().cloned());
        if let Some(mut found) = found {
            let (port, component) = (self.port, self.component);
            found.set_component(component.number());
            super::engine::push_event(events, Event::Gathered { port, component, found: Box::new(found) });
            self.bind_peer(now);
        }
        if let Some(gathering) = &mut self.gathering {
            while let Some((server, moved)) = gathering.poll_answer() {
                super::engine::push_event(events, Event::Seen { port: self.port, server, moved });
            }
            self.out.extend(std::iter::from_fn(|| gathering.poll_transmit()));
            self.orders.extend(std::iter::from_fn(|| gathering.poll_order()));
        }
        if let Some(leaving) = &mut self.leaving {
            self.out.extend(std::iter::from_fn(|| leaving.poll_transmit()));
        }
        self.leaving.take_if(|leaving| leaving.poll_timeout().is_none());
    }
}

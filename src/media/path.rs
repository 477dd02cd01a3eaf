//! The way of one port's packets to the far end and back: what was gathered for it while it waited, the agent that finds
//! a route, and the relay.
//!
//! A leg under ICE knows nothing of it: its session speaks with [`FAR_END`], and what it sends there leaves by whatever
//! route the agent has; what comes by a route that has been checked is handed to it as from there.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use super::command::{LegId, PortId};
use super::event::Event;
use super::plan::{Ice, Plan, Remote};
use crate::chance::Chance;
use crate::nat::gathering::{Gathering, Sources};
use crate::nat::ice::{self, Agent, Credentials, Route, Way};
use crate::nat::stun::{self, Class, Message, Seal, TransactionId};
use crate::now::{Now, earliest};
use crate::rtp::packet::MAX_PACKET;

/// The far end of a leg under ICE, as its session knows it: the dummy address of RFC 7600, which is nowhere.
pub(super) const FAR_END: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 0, 8), 9));

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
    /// This part of it is for the leg; `true` if it comes from [`FAR_END`].
    Media(Range<usize>, bool),
}

/// The path of one port.
pub(super) struct Path {
    pub(super) port: PortId,
    leg: Option<LegId>,
    gathering: Option<Gathering>,
    agent: Option<Agent>,
    /// When media came last, until their silence has been looked into.
    heard_us: Option<u64>,
    /// Where a leg without ICE keeps its mapping open, and when.
    keep_open: Option<(SocketAddr, u64)>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Packets by no checked route so far.
    pub(super) refused: u64,
    chance: Chance,
}

impl Path {
    pub(super) fn new(port: PortId, chance: Chance) -> Path {
        Path {
            port,
            leg: None,
            gathering: None,
            agent: None,
            heard_us: None,
            keep_open: None,
            out: VecDeque::new(),
            refused: 0,
            chance,
        }
    }

    /// Whether the path is of no use to anybody.
    pub(super) fn is_idle(&self) -> bool {
        self.leg.is_none() && self.gathering.is_none() && self.out.is_empty()
    }

    /// Gathers anew from these sources; without any, everything is given back.
    pub(super) fn gather(&mut self, now: Now, sources: Option<Sources>, events: &mut VecDeque<Event>) {
        if let Some(mut before) = self.gathering.take() {
            before.release(now);
            self.out.extend(std::iter::from_fn(|| before.poll_transmit()));
        }
        self.gathering = sources.map(|sources| Gathering::new(now, sources, self.chance.fork()));
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
        if let Some(allocation) = self.gathering.as_mut().and_then(Gathering::allocation) {
            allocation.permit(now, peers.iter().copied());
        }
        self.drain(now, events);
    }

    fn new_agent(&mut self, credentials: Credentials, controlling: bool) -> Agent {
        let own = self.gathering.as_ref().map(|gathering| gathering.sources().own.clone());
        let settings = ice::Settings {
            component: 1,
            own: own.unwrap_or_default(),
            relayed: self.gathering.as_ref().and_then(Gathering::relayed),
            offered: controlling,
        };
        Agent::new(settings, credentials, self.chance.fork())
    }

    /// What was agreed on; the plan as the leg may know it comes back.
    pub(super) fn agree(
        &mut self,
        now: Now,
        leg: LegId,
        mut plan: Plan,
        events: &mut VecDeque<Event>,
    ) -> Plan {
        self.leg = Some(leg);
        let sends = plan.direction.sends() && plan.send.is_some();
        let quiet = plan.remote.filter(|_| plan.keep_open && plan.ice.is_none() && !sends);
        self.keep_open = quiet.map(|remote| (remote.rtp, now.mono_us));
        match plan.ice.take() {
            None => self.agent = None,
            Some(ice) => {
                self.start(now, ice);
                plan.remote = Some(Remote { rtp: FAR_END, rtcp: FAR_END });
                plan.rtcp_mux = true;
                plan.signalling = None;
            }
        }
        self.drain(now, events);
        plan
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
            self.agent = Some(agent);
        }
        if let Some(allocation) = self.gathering.as_mut().and_then(Gathering::allocation) {
            let mut wanted = ice.peer.candidates.clone();
            wanted.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
            let wanted = wanted.iter().filter(|candidate| candidate.component == 1);
            allocation.permit(now, wanted.take(ice::MAX_PAIRS).map(|candidate| candidate.address));
        }
        if let Some(agent) = &mut self.agent {
            agent.start(now, ice.peer);
        }
    }

    /// The leg is closed: the socket goes with it.
    pub(super) fn close(&mut self, now: Now) {
        self.leg = None;
        self.agent = None;
        self.keep_open = None;
        self.gather(now, None, &mut VecDeque::new());
    }

    /// What a packet is that came on the socket of RTP.
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
        let Some(agent) = &mut self.agent else { return Arrival::Media(range, false) };
        let inner = bytes.get(range.clone()).unwrap_or_default();
        if stun::is_stun(inner) {
            agent.handle_datagram(now, route.way, route.to, inner);
            self.drain(now, events);
            return Arrival::Done;
        }
        if !agent.may_come(route) {
            self.refused += 1;
            return Arrival::Refused;
        }
        self.heard_us = Some(now.mono_us);
        Arrival::Media(range, true)
    }

    /// Where a packet of the leg leaves to, framed for the relay if need be: its length in `buffer`.
    pub(super) fn frame(&mut self, now: Now, buffer: &mut [u8], len: usize) -> Option<(SocketAddr, usize)> {
        let route = self.agent.as_ref().and_then(Agent::route)?;
        match route.way {
            Way::Direct => Some((route.to, len)),
            Way::Relayed => {
                let allocation = self.gathering.as_mut().and_then(Gathering::allocation)?;
                let mut framed = [0; MAX_PACKET + 64];
                let length = allocation.frame(now, route.to, buffer.get(..len)?, &mut framed)?;
                buffer.get_mut(..length)?.copy_from_slice(framed.get(..length)?);
                Some((allocation.server(), length))
            }
        }
    }

    /// A packet of the path's own.
    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let gathering = self.gathering.as_ref().and_then(Gathering::poll_timeout);
        let agent = self.agent.as_ref().and_then(Agent::poll_timeout);
        let silence = self.heard_us.map(|heard| heard + crate::now::micros(DOUBT_AFTER));
        let open = self.keep_open.map(|(_, next)| next);
        [gathering, agent, silence, open].into_iter().fold(None, earliest)
    }

    pub(super) fn handle_timeout(&mut self, now: Now, events: &mut VecDeque<Event>) {
        if let Some(gathering) = &mut self.gathering {
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
            self.out.push_back((*to, Message::new(Class::Indication, id).write(Seal::Plain)));
        }
        self.drain(now, events);
    }

    fn drain(&mut self, now: Now, events: &mut VecDeque<Event>) {
        if let Some(agent) = &mut self.agent {
            while let Some(event) = agent.poll_event() {
                if let (ice::Event::Route(Route { way: Way::Relayed, to }), Some(allocation)) =
                    (event, self.gathering.as_mut().and_then(Gathering::allocation))
                {
                    allocation.bind(now, to);
                }
                if let Some(leg) = self.leg {
                    super::engine::push_event(events, Event::Path { leg, event });
                }
            }
            while let Some(transmit) = agent.poll_transmit() {
                let route = transmit.route;
                match (route.way, self.gathering.as_mut().and_then(Gathering::allocation)) {
                    (Way::Direct, _) => self.out.push_back((route.to, transmit.bytes)),
                    (Way::Relayed, Some(allocation)) => {
                        let mut framed = [0; MAX_PACKET + 64];
                        allocation.permit(now, [route.to]);
                        let length = allocation.frame(now, route.to, &transmit.bytes, &mut framed);
                        // What asks for the permission has to be there first.
                        let server = allocation.server();
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
        if let Some(gathering) = &mut self.gathering {
            self.out.extend(std::iter::from_fn(|| gathering.poll_transmit()));
            if let Some(found) = gathering.poll_found() {
                let (port, found) = (self.port, Box::new(found.clone()));
                super::engine::push_event(events, Event::Gathered { port, found });
            }
        }
    }
}

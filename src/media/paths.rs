//! The paths of all sockets that have more than themselves: candidates, an agent, a relay.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::command::{LegId, PortId};
use super::event::Event;
use super::path::{Arrival, FAR_END, Path};
use super::plan::{Plan, Remote};
use super::report::PathCounts;
use super::transmit::{Component, Transmit};
use crate::chance::Chance;
use crate::nat::relay::{StreamOrder, Target};
use crate::now::{Now, earliest};

/// The paths there are.
pub(super) struct Paths {
    list: Vec<Path>,
    /// The earliest of their deadlines.
    due_us: Option<u64>,
    /// Whether one of them relays without an agent: packets to addresses that are somewhere may be its.
    relays: bool,
    chance: Chance,
}

impl Paths {
    pub(super) fn new(chance: Chance) -> Paths {
        Paths { list: Vec::new(), due_us: None, relays: false, chance }
    }

    /// That of a socket.
    pub(super) fn get_mut(&mut self, port: PortId, component: Component) -> Option<&mut Path> {
        self.list.iter_mut().find(|path| path.is_of(port, component))
    }

    /// What the paths of a port have refused.
    pub(super) fn counts(&self, port: PortId) -> PathCounts {
        self.list.iter().filter(|path| path.port == port).map(Path::counts).sum()
    }

    /// Works on the path of a socket, which begins here if need be and ends when nobody needs it.
    pub(super) fn with(&mut self, port: PortId, component: Component, what: impl FnOnce(&mut Path)) {
        let at = self.list.iter().position(|path| path.is_of(port, component));
        let mut path = match at {
            Some(at) => self.list.swap_remove(at),
            None => {
                let beside = self.list.iter().find(|path| path.port == port);
                Path::new(port, component, beside, self.chance.fork())
            }
        };
        what(&mut path);
        if !path.is_idle() {
            self.list.push(path);
        }
        self.relays = self.list.iter().any(Path::is_relayed);
        self.rearm();
    }

    fn rearm(&mut self) {
        self.due_us = self.list.iter().fold(None, |due, path| earliest(due, path.poll_timeout()));
    }

    /// Gives back what these sockets of a port have.
    pub(super) fn close(&mut self, now: Now, port: PortId, components: &[Component]) {
        for &component in components {
            if self.get_mut(port, component).is_some() {
                self.with(port, component, |path| path.close(now));
            }
        }
    }

    /// The plan of a leg as the leg may know it: what is under ICE is that of the paths.
    pub(super) fn agree(
        &mut self,
        now: Now,
        leg: LegId,
        port: PortId,
        mut plan: Plan,
        events: &mut VecDeque<Event>,
    ) -> Plan {
        if plan.rtcp_mux {
            self.close(now, port, &[Component::Rtcp]);
        }
        for component in Component::ALL {
            let rtp = component == Component::Rtp;
            // RTCP keeps its mapping open by itself, but before its handshake.
            let quiet = plan.keep_open && (rtp || plan.dtls.is_some());
            let wanted = plan.ice.is_some() || quiet;
            if (rtp || !plan.rtcp_mux) && (wanted || self.get_mut(port, component).is_some()) {
                self.with(port, component, |path| path.agree(now, leg, &plan, events));
            }
        }
        if plan.ice.take().is_some() {
            plan.remote = Some(Remote { rtp: FAR_END, rtcp: FAR_END });
            plan.signalling = None;
        }
        plan
    }

    /// What a packet is that came on a socket; `None` where that has no path.
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        (port, component): (PortId, Component),
        from: SocketAddr,
        bytes: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Option<Arrival> {
        self.change(port, component, |path| path.handle_packet(now, from, bytes, events))
    }

    /// Where a packet of a leg, in `buffer`, leaves to; `None` if it has no way.
    pub(super) fn frame(&mut self, now: Now, transmit: Transmit, buffer: &mut [u8]) -> Option<Transmit> {
        let agent = transmit.to == FAR_END;
        if !agent && !self.relays {
            return Some(transmit);
        }
        let path = self.get_mut(transmit.port, transmit.component);
        let Some(path) = path.filter(|path| agent || path.is_relayed()) else {
            return Some(transmit).filter(|_| !agent);
        };
        let (target, len) = path.frame(now, transmit.to, buffer, transmit.len)?;
        Some(Transmit { to: target.to, stream: target.stream, len, ..transmit })
    }

    /// The next packet of the paths' own.
    pub(super) fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        for path in &mut self.list {
            while let Some((Target { to, stream }, bytes)) = path.poll_transmit() {
                if let Some(target) = buffer.get_mut(..bytes.len()) {
                    target.copy_from_slice(&bytes);
                    let (port, component, len) = (path.port, path.component, bytes.len());
                    return Some(Transmit { port, component, to, stream, len });
                }
            }
        }
        self.list.retain(|path| !path.is_idle());
        None
    }

    /// What is to be done with a stream next.
    pub(super) fn poll_order(&mut self) -> Option<(PortId, StreamOrder)> {
        let order = self.list.iter_mut().find_map(|path| Some((path.port, path.poll_order()?)));
        if order.is_none() {
            self.list.retain(|path| !path.is_idle());
        }
        order
    }

    /// Does something with the path of a socket that may change its deadline, if there is one.
    pub(super) fn change<T>(
        &mut self,
        port: PortId,
        component: Component,
        what: impl FnOnce(&mut Path) -> T,
    ) -> Option<T> {
        let path = self.list.iter_mut().find(|path| path.is_of(port, component))?;
        let result = what(path);
        self.due_us = earliest(self.due_us, path.poll_timeout());
        Some(result)
    }

    /// When [`Paths::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.due_us
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Now, events: &mut VecDeque<Event>) {
        if self.due_us.is_none_or(|due| due > now.mono_us) {
            return;
        }
        for path in &mut self.list {
            if path.poll_timeout().is_some_and(|due| due <= now.mono_us) {
                path.handle_timeout(now, events);
            }
        }
        self.rearm();
    }
}

//! The path of RTCP in a call whose far end refuses to share the port of RTP with it (RFC 5761 §5.1.1): component 2 of ICE,
//! and what a description says of it.
//!
//! Nearly everybody shares the port, so nothing is asked or kept for a second one ahead. An offer names the addresses of
//! the machine for it, which cost nothing; that is enough towards whoever can be reached from here, as a PBX can. What a
//! STUN or TURN server says of it is looked for as soon as somebody refuses: by an offer while it rings, by an answer from
//! then on – and told by an ICE restart where no path has been found without it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Phone;
use super::paths::{gathers, hosts_alone};
use crate::media::Component;
use crate::nat::candidate::{Candidate, Kind};
use crate::nat::gathering::Found;
use crate::nat::ice::Event;
use crate::now::Now;
use crate::sip::sdp::{self, Capability};

/// RTCP on a port of its own has a route after this time, or its far end is told more addresses of it.
const RTCP_WITHIN: Duration = Duration::from_secs(3);

/// What is known of the socket of RTCP, for a far end that does not share that of RTP: where it can be reached and
/// whether its agent has a route (RFC 8445 §4: component 2). Nothing is asked for it before such a far end is met.
#[derive(Debug, Default)]
pub(super) struct RtcpPath {
    /// What it can be reached at, once that is looked for.
    found: Option<Found>,
    /// Whether all of that was in the description that was agreed on.
    is_told: bool,
    has_route: bool,
    /// When it is looked at whether it has one.
    due_us: Option<u64>,
    /// Why there is none, as far as its agent has said.
    fault: Option<&'static str>,
}

impl RtcpPath {
    /// When [`Phone::handle_restart_timeouts`] is due for it.
    pub(super) fn due(&self) -> Option<u64> {
        self.due_us
    }

    /// Why no RTCP comes or goes, as far as that is known.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// Whether its addresses are looked for.
    pub(super) fn is_looked_for(&self) -> bool {
        self.found.is_some()
    }

    /// What it can be reached at.
    pub(super) fn found(&mut self, found: Found) {
        self.found = Some(found);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.found.as_ref().is_none_or(|found| found.complete)
    }

    /// Its candidates: those that were found, or the addresses of the machine as `rtp` has them.
    pub(super) fn candidates(&self, rtp: &Found) -> Vec<Candidate> {
        match &self.found {
            Some(found) => found.candidates.clone(),
            None => {
                let hosts = rtp.candidates.iter().filter(|candidate| candidate.kind == Kind::Host).cloned();
                let beside = hosts.filter_map(|mut host| {
                    host.address.set_port(host.address.port().checked_add(1)?);
                    Some(host.of_component(Component::Rtcp.number()))
                });
                beside.collect()
            }
        }
    }
}

/// Makes a capability say where RTCP is received that does not share the port of RTP.
pub(super) fn describe_rtcp(capability: &mut Capability, found: &Found, rtcp: &RtcpPath) {
    let candidates = rtcp.candidates(found);
    let here = candidates.iter().find(|candidate| candidate.address.ip() == capability.address);
    let family = |candidate: &&Candidate| candidate.address.is_ipv4() == capability.address.is_ipv4();
    let host = candidates.iter().filter(|candidate| candidate.kind == Kind::Host).find(family);
    capability.rtcp_address = None;
    if let Some(here) = here {
        capability.rtcp_port = here.address.port();
    } else if let Some(host) = host {
        capability.rtcp_port = host.address.port();
        // Without ICE it is a guess either way, and the NAT may have kept the number.
        capability.rtcp_address = Some(host.address.ip()).filter(|_| capability.ice.is_some());
    }
}

impl Phone {
    /// Looks for what the socket of RTCP of a call can be reached at, or does so anew: its far end does not share that of
    /// RTP.
    pub(super) fn gather_rtcp(&mut self, index: usize) {
        let call = &self.calls[index];
        let (port, number) = (call.path.port, call.path.number);
        let line = self.lines.iter().find(|line| line.config.name == call.facts.line);
        let Some(line) = line.filter(|line| gathers(&line.config)) else { return };
        let Some(address) = self.agent.local_address(line.way(&self.reach)) else { return };
        let mut sources = self.sources(line, address, number.saturating_add(1));
        let capability = call.negotiation.capability();
        let here = SocketAddr::new(capability.address, capability.port);
        let mut found = call.path.found.iter().flat_map(|found| &found.candidates);
        let at_relay = found.any(|candidate| candidate.kind == Kind::Relayed && candidate.address == here);
        if capability.ice.is_none() && !at_relay {
            // Audio has no use for a relay, and so has RTCP.
            sources.turn.clear();
        }
        let mut hosts = hosts_alone(&sources);
        hosts.set_component(Component::Rtcp.number());
        match &mut self.calls[index].path.rtcp.found {
            Some(found) => found.complete = false,
            none => *none = Some(hosts),
        }
        self.gather(port, Component::Rtcp, Some(Box::new(sources)));
    }

    /// What both agreed on says whether RTCP has a path of its own.
    pub(super) fn agree_rtcp(&mut self, now: Now, index: usize, agreed: &sdp::Negotiated) {
        let path = &mut self.calls[index].path;
        if agreed.rtcp_mux {
            path.rtcp = RtcpPath::default();
        } else if agreed.ice.is_some() {
            path.rtcp.is_told = path.rtcp.found.as_ref().is_some_and(|found| found.complete);
            if path.rtcp.found.is_none() {
                self.gather_rtcp(index);
            }
            let rtcp = &mut self.calls[index].path.rtcp;
            rtcp.due_us = Some(now.deadline(RTCP_WITHIN)).filter(|_| !rtcp.is_told);
        }
    }

    /// What the agent of RTCP says. Whatever that is, audio goes on.
    pub(super) fn rtcp_event(&mut self, index: usize, event: Event) {
        let rtcp = &mut self.calls[index].path.rtcp;
        (rtcp.has_route, rtcp.fault) = match event {
            Event::Route(_) | Event::Mended => (true, None),
            Event::Broken => (rtcp.has_route, rtcp.fault),
            Event::ConsentLost => (false, Some("ICE: nothing comes back on the path of RTCP any more")),
            Event::Failed => (false, Some("ICE: no path works for RTCP")),
        };
    }

    /// RTCP should have a route by now. Where it has none, and there are addresses that the far end does not know yet, it
    /// gets to know them; those that came too late for an answer, and those that nobody looked for before it.
    pub(super) fn look_after_rtcp(&mut self, now: Now, index: usize) {
        let path = &mut self.calls[index].path;
        path.rtcp.due_us = None;
        let mut found = path.rtcp.found.iter().flat_map(|found| &found.candidates);
        let more = found.any(|candidate| candidate.kind != Kind::Host) && !path.rtcp.is_told;
        if more && !path.rtcp.has_route && path.restart.is_none() {
            self.offer_restart(now, index);
        }
    }
}

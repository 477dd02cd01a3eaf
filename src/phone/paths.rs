//! The paths that calls may take: ports whose candidates are gathered before a call needs them, what an offer says of
//! them, and how a call finds another path when its own breaks.
//!
//! Each line with STUN or ICE has one port gathered and kept, with an allocation if there is a TURN server: the next call
//! does not wait, and the cost stays below 40 KB an hour. The port after it is gathered as soon as that one is taken.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::line::Line;
use super::reach::stun_server;
use super::restart::Restart;
use super::rtcp_path::{RtcpPath, describe_rtcp};
use super::{Output, Phone};
use crate::config::{self, NatMode, TurnTransport, TurnUrl};
use crate::events::Direction;
use crate::media::{self, Command, Component, PortId};
use crate::nat::candidate::{Candidate, Kind, is_inside, own_addresses};
use crate::nat::gathering::{Found, Sources};
use crate::nat::ice::{Credentials, Peer};
use crate::nat::stun;
use crate::nat::turn_server::{Carriage, SECURE_PORT, Server, Trust};
use crate::now::Now;
use crate::sip::handle::AccountId;
use crate::sip::sdp::{self, Address, Capability, Negotiation};
use crate::sip::srv::{ServerName, Service};

/// Names are looked up again after this time.
const LOOK_UP_EVERY: Duration = Duration::from_secs(600);
/// A port that waits for a call of one line.
#[derive(Debug)]
struct Waiting {
    line: String,
    port: PortId,
    number: u16,
    sources: Sources,
    found: Found,
}

/// What waits, and where its servers are.
#[derive(Debug, Default)]
pub(super) struct Paths {
    waiting: Vec<Waiting>,
    addresses: BTreeMap<ServerName, Vec<SocketAddr>>,
    look_up_us: u64,
}

impl Paths {
    /// Has the names of the servers looked up again, now.
    pub(super) fn look_up_at(&mut self, now: Now) {
        self.look_up_us = now.mono_us;
    }
}

/// A port for a call, and what is known of it.
#[derive(Debug)]
pub(super) struct Taken {
    pub port: PortId,
    pub number: u16,
    pub found: Option<Found>,
}

/// Whether a line's calls need more than a port.
pub(super) fn gathers(line: &config::Line) -> bool {
    let nat = &line.nat;
    nat.mode == NatMode::Auto && (nat.ice || !nat.stun.is_empty() || !nat.turn.is_empty())
}

/// The name of a TURN server of the configuration, and how it is looked for (RFC 5928 §3).
pub(super) fn turn_server(url: &TurnUrl) -> ServerName {
    let (label, port) = match url.transport {
        TurnTransport::Udp => ("_turn._udp", stun::DEFAULT_PORT),
        TurnTransport::Tcp => ("_turn._tcp", stun::DEFAULT_PORT),
        TurnTransport::Tls => ("_turns._tcp", SECURE_PORT),
    };
    ServerName::new(&url.host, url.port, Service { label, port })
}

/// How a TURN server is reached, and whom this line believes there.
pub(super) fn carriage(line: &config::Line, url: &TurnUrl) -> Carriage {
    match url.transport {
        TurnTransport::Udp => Carriage::Udp,
        TurnTransport::Tcp => Carriage::Tcp,
        TurnTransport::Tls => Carriage::Tls(Trust {
            name: url.host.clone(),
            ca_file: line.ca_file.clone(),
            verify: line.tls_verify,
        }),
    }
}

/// The servers of a line, as names.
fn names(line: &config::Line) -> impl Iterator<Item = ServerName> {
    let turn = line.nat.turn.iter().flat_map(|server| &server.url.0).map(turn_server);
    line.nat.stun.iter().map(stun_server).chain(turn)
}

/// What is known without asking anybody.
pub(super) fn hosts_alone(sources: &Sources) -> Found {
    Found { candidates: sources.hosts(), ..Found::default() }
}

/// The address at the TURN server, where nothing nearer is known to hold for everybody: what RFC 8445 §5.1.4 recommends
/// for those who have no ICE.
fn relayed(found: &Found, address: IpAddr) -> Option<SocketAddr> {
    let no_nat = found.mapped.is_some_and(|mapped| is_own(found, mapped));
    at_relay(found, address).filter(|_| !found.steady && !no_nat)
}

/// The address at the TURN server of the same family as this one.
fn at_relay(found: &Found, address: IpAddr) -> Option<SocketAddr> {
    let relayed = found.candidates.iter().filter(|candidate| candidate.kind == Kind::Relayed);
    relayed.map(|candidate| candidate.address).find(|at| at.is_ipv4() == address.is_ipv4())
}

/// The address of the machine that leads to the PBX, of the family that is told.
fn host(found: &Found, told: IpAddr) -> Option<SocketAddr> {
    let hosts = found.candidates.iter().filter(|candidate| candidate.kind == Kind::Host);
    hosts.map(|candidate| candidate.address).find(|address| address.is_ipv4() == told.is_ipv4())
}

/// Whether this is the address of the machine itself.
fn is_own(found: &Found, address: SocketAddr) -> bool {
    let mut own = found.candidates.iter().filter(|candidate| candidate.kind == Kind::Host);
    own.any(|candidate| candidate.address == address)
}

/// Makes a capability say what was found. `server` is where the line's PBX is: one of the same network needs no public
/// address, and could not be reached by it.
pub(super) fn describe(
    capability: &mut Capability,
    line: &config::Line,
    found: &Found,
    rtcp: &RtcpPath,
    server: Option<IpAddr>,
) {
    let outside =
        found.mapped.filter(|mapped| !found.symmetric && mapped.is_ipv4() == capability.address.is_ipv4());
    let outside = relayed(found, capability.address).or(outside);
    if let Some(outside) = outside.filter(|_| server.is_none_or(|server| !is_inside(server))) {
        capability.address = outside.ip();
        capability.port = outside.port();
    } else if let Some(host) = host(found, capability.address) {
        capability.address = host.ip();
        capability.port = host.port();
    }
    if line.nat.ice && line.nat.mode == NatMode::Auto {
        let candidates = found.candidates.iter().chain(&rtcp.candidates(found)).map(written).collect();
        capability.ice = Some(sdp::LocalIce { candidates, selected: Vec::new() });
    }
    describe_rtcp(capability, found, rtcp);
}

fn written(candidate: &Candidate) -> sdp::Candidate {
    sdp::Candidate {
        foundation: candidate.foundation.clone(),
        component: u16::from(candidate.component),
        transport: sdp::CandidateTransport::Udp,
        priority: candidate.priority,
        address: Address::Ip(candidate.address.ip()),
        port: candidate.address.port(),
        kind: match candidate.kind {
            Kind::Host => sdp::CandidateKind::Host,
            Kind::ServerReflexive => sdp::CandidateKind::ServerReflexive,
            Kind::PeerReflexive => sdp::CandidateKind::PeerReflexive,
            Kind::Relayed => sdp::CandidateKind::Relayed,
        },
        related: candidate.related,
    }
}

/// Candidates that have an address to send to; names are not looked up.
fn read(candidates: &[sdp::Candidate]) -> Vec<Candidate> {
    let read = candidates.iter().filter_map(|candidate| {
        Some(Candidate {
            foundation: candidate.foundation.clone(),
            component: u8::try_from(candidate.component).ok()?,
            priority: candidate.priority,
            address: candidate.endpoint()?,
            kind: match candidate.kind {
                sdp::CandidateKind::Host => Kind::Host,
                sdp::CandidateKind::ServerReflexive => Kind::ServerReflexive,
                sdp::CandidateKind::PeerReflexive => Kind::PeerReflexive,
                sdp::CandidateKind::Relayed => Kind::Relayed,
            },
            related: candidate.related,
        })
    });
    read.collect()
}

fn credentials(told: &sdp::Credentials) -> Credentials {
    Credentials { ufrag: told.ufrag.clone(), pwd: told.password.clone() }
}

/// What the engine has to know of the ICE that was agreed on.
pub(super) fn ice(agreed: &sdp::Ice) -> media::Ice {
    media::Ice {
        local: credentials(&agreed.local),
        peer: Peer {
            credentials: credentials(&agreed.remote.credentials),
            candidates: read(&agreed.remote.candidates),
            lite: agreed.remote.lite,
        },
        controlling: agreed.controlling,
    }
}

impl Phone {
    pub(super) fn sources(&self, line: &Line, address: IpAddr, number: u16) -> Sources {
        let one = |name: ServerName| {
            let found = self.paths.addresses.get(&name).into_iter().flatten();
            found.copied().find(|at| at.is_ipv4() == address.is_ipv4())
        };
        let nat = &line.config.nat;
        let ways = nat.turn.iter().flat_map(|server| server.url.0.iter().map(move |url| (server, url)));
        let turn = ways.filter_map(|(server, url)| {
            Some(Server {
                address: one(turn_server(url))?,
                username: server.username.clone(),
                password: server.password.reveal().to_owned(),
                carriage: carriage(&line.config, url),
            })
        });
        Sources {
            own: own_addresses(address, &self.addresses),
            port: number,
            stun: nat.stun.iter().filter_map(|server| one(stun_server(server))).collect(),
            turn: turn.collect(),
        }
    }

    pub(super) fn gather(&mut self, port: PortId, component: Component, sources: Option<Box<Sources>>) {
        self.outputs.push_back(Output::Media(Command::Gather { port, component, sources }));
    }

    /// Has a port gathered for every line that needs it, from the addresses and servers there are now.
    pub(super) fn prepare_paths(&mut self, now: Now) {
        if !self.lines.iter().any(|line| gathers(&line.config)) && self.paths.waiting.is_empty() {
            return;
        }
        if self.paths.look_up_us <= now.mono_us {
            self.paths.look_up_us = now.deadline(LOOK_UP_EVERY);
            let gathering = self.lines.iter().filter(|line| gathers(&line.config));
            let wanted: std::collections::BTreeSet<_> =
                crate::order::gathered(gathering.flat_map(|line| names(&line.config)));
            for name in wanted {
                self.agent.resolve(now, &name);
            }
        }
        let unwanted: Vec<usize> = (0..self.paths.waiting.len())
            .rev()
            .filter(|index| {
                let name = &self.paths.waiting[*index].line;
                self.stop_by.is_some() || !self.line(name).is_some_and(|line| gathers(&line.config))
            })
            .collect();
        for index in unwanted {
            let Waiting { port, number, .. } = self.paths.waiting.remove(index);
            self.give_back(port, number);
        }
        if self.stop_by.is_some() {
            return;
        }
        for index in 0..self.lines.len() {
            self.prepare_line(index);
        }
    }

    fn prepare_line(&mut self, index: usize) {
        let line = &self.lines[index];
        let Some(address) = self.agent.local_address(line.way(&self.reach)).filter(|_| gathers(&line.config))
        else {
            return;
        };
        let name = line.config.name.clone();
        let waiting = self.paths.waiting.iter().position(|one| one.line == name);
        let (port, number) = match waiting.and_then(|at| self.paths.waiting.get(at)) {
            Some(waiting) => (waiting.port, waiting.number),
            // The last one is for a call, gathered or not.
            None if self.ports.len() < 2 => return,
            None => match self.ports.pop_front() {
                Some(port) => port,
                None => return,
            },
        };
        let sources = self.sources(&self.lines[index], address, number);
        let known = waiting.and_then(|at| self.paths.waiting.get_mut(at));
        match known {
            Some(known) if known.sources == sources => return,
            Some(known) => {
                known.found = hosts_alone(&sources);
                known.sources = sources.clone();
            }
            None => self.paths.waiting.push(Waiting {
                line: name,
                port,
                number,
                found: hosts_alone(&sources),
                sources: sources.clone(),
            }),
        }
        self.gather(port, Component::Rtp, Some(Box::new(sources)));
    }

    /// The addresses of a name were found, or not.
    pub(super) fn path_server_found(&mut self, name: ServerName, addresses: Vec<SocketAddr>) {
        let wanted = |line: &Line| gathers(&line.config) && names(&line.config).any(|one| one == name);
        if !addresses.is_empty() && self.lines.iter().any(wanted) {
            self.paths.addresses.insert(name, addresses);
        }
    }

    /// A port for a call of this line: the one that was gathered for it, if there is one.
    pub(super) fn take_port(&mut self, name: &str, address: IpAddr) -> Option<Taken> {
        if let Some(at) = self.paths.waiting.iter().position(|one| one.line == name) {
            let Waiting { port, number, found, .. } = self.paths.waiting.remove(at);
            return Some(Taken { port, number, found: Some(found) });
        }
        let (port, number) = self.ports.pop_front()?;
        let line = self.line(name).filter(|line| gathers(&line.config));
        let sources = line.map(|line| Box::new(self.sources(line, address, number)));
        let found = sources.as_deref().map(hosts_alone);
        if sources.is_some() {
            self.gather(port, Component::Rtp, sources);
        }
        Some(Taken { port, number, found })
    }

    /// A port that no call has used after all.
    pub(super) fn give_back(&mut self, port: PortId, number: u16) {
        self.gather(port, Component::Rtp, None);
        if self.config.rtp.ports.contains(number) {
            self.ports.push_back((port, number));
        } else {
            // The configuration has changed since it was opened.
            self.outputs.push_back(Output::Discard(port));
        }
    }

    /// The ports that wait were opened as an earlier configuration said.
    pub(super) fn discard_ports(&mut self) {
        for Waiting { port, number, .. } in std::mem::take(&mut self.paths.waiting) {
            self.give_back(port, number);
        }
        self.outputs.extend(self.ports.drain(..).map(|(port, _)| Output::Discard(port)));
    }

    /// Checks may come before the answer does.
    pub(super) fn expect_checks(&mut self, port: PortId, negotiation: &Negotiation) {
        if let Some(ours) = negotiation.ice_credentials() {
            let credentials = credentials(ours);
            self.outputs.push_back(Output::Media(Command::Expect { port, credentials }));
        }
    }

    /// The relay lets the caller's candidates in while it rings.
    pub(super) fn permit_early(&mut self, port: PortId, agreed: &sdp::Negotiated) {
        if let Some(ice) = &agreed.ice {
            let peers = read(&ice.remote.candidates).into_iter().map(|candidate| candidate.address).collect();
            self.outputs.push_back(Output::Media(Command::Permit { port, peers }));
        }
    }

    /// What a port can be reached at has changed.
    pub(super) fn path_found(&mut self, now: Now, port: PortId, component: Component, found: Found) {
        if let Some(waiting) = self.paths.waiting.iter_mut().find(|waiting| waiting.port == port) {
            waiting.found = found;
            return;
        }
        let Some(index) = self.calls.iter().position(|call| call.path.port == port && !call.is_over()) else {
            return;
        };
        let call = &mut self.calls[index];
        let places = |found: &Found| {
            let addresses = found.candidates.iter().map(|candidate| candidate.address);
            addresses.collect::<std::collections::BTreeSet<_>>()
        };
        if !found.complete {
            return;
        }
        if component == Component::Rtcp {
            call.path.rtcp.found(found);
            self.describe_call(index);
            return self.go_on_when_gathered(now, index);
        }
        let other = call.path.found.as_ref().is_some_and(|before| places(before) != places(&found));
        call.path.moved |= other;
        let described = call.facts.direction == Direction::Out || call.negotiation.agreed().is_some();
        call.path.late |= other && described;
        call.path.found = Some(found);
        self.describe_call(index);
        let path = &self.calls[index].path;
        match path.restart {
            Some(Restart::Gathering { .. }) => self.go_on_when_gathered(now, index),
            // It took longer than expected to find out.
            Some(Restart::Left { .. }) if path.moved => self.go_on_with_restart(now, index),
            _ => {
                self.tell_address(now, index);
                self.tell_late(now, index);
            }
        }
    }

    /// A STUN server has answered whence it sees a port: where that one waits, the watch over its line need not ask.
    pub(super) fn port_seen(&mut self, now: Now, port: PortId, server: SocketAddr, moved: bool) {
        let waiting = self.paths.waiting.iter().find(|waiting| waiting.port == port);
        let line = waiting.and_then(|waiting| self.line(&waiting.line));
        if let Some(account) = line.map(|line| line.first.account) {
            self.reach.handle_witness(now, account, server, moved);
        }
    }

    /// Has a STUN server asked about the port that waits for a call of this line.
    pub(super) fn ask_waiting(&mut self, account: AccountId, server: SocketAddr) {
        let of = |name: &str| self.line(name).is_some_and(|line| line.has(account));
        if let Some(port) = self.paths.waiting.iter().find(|one| of(&one.line)).map(|one| one.port) {
            self.outputs.push_back(Output::Media(Command::Ask { port, server }));
        }
    }

    /// Where a call without ICE has told an address that does not lead here, and there is one now that does, the far end
    /// gets to know it.
    pub(super) fn tell_address(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        let (Some(agreed), Some(found)) = (call.negotiation.agreed(), &call.path.found) else { return };
        let capability = call.negotiation.capability();
        let here = SocketAddr::new(capability.address, capability.port);
        let other = here != agreed.local_rtp && here.is_ipv4() == agreed.local_rtp.is_ipv4();
        if call.is_active() && agreed.ice.is_none() && other && !is_own(found, here) {
            self.calls[index].path.moved = true;
            self.go_on_with_restart(now, index);
        }
    }

    /// Nothing comes through the relay any more: it may have lost us.
    pub(super) fn doubt_relay(&mut self, index: usize) {
        let call = &self.calls[index];
        if call.path.plan.as_ref().is_some_and(|plan| plan.relayed) {
            self.gather_again(index);
        }
    }

    /// The next offer or answer of a call says what is known now.
    fn describe_call(&mut self, index: usize) {
        let call = &self.calls[index];
        let Some(line) = self.lines.iter().find(|line| line.config.name == call.facts.line) else { return };
        let server = self.server_of_call(index);
        let config = line.config.clone();
        let call = &mut self.calls[index];
        if let Some(found) = &call.path.found {
            let capability = call.negotiation.capability_mut();
            describe(capability, &config, found, &call.path.rtcp, server);
            if let Some(relayed) = at_relay(found, capability.address).filter(|_| call.path.hairpin) {
                (capability.address, capability.port) = (relayed.ip(), relayed.port());
                describe_rtcp(capability, found, &call.path.rtcp);
            }
        }
    }

    /// Without ICE a far end that has our own public address is behind the same NAT, and few of them turn round what is
    /// sent to their outside (RFC 4787 §6): the way between both leads by the relay.
    pub(super) fn avoid_hairpin(&mut self, now: Now, index: usize, agreed: &sdp::Negotiated) {
        let call = &self.calls[index];
        let server = self.server_of_call(index);
        let Some(found) = &call.path.found else { return };
        let Some(mapped) = found.mapped.filter(|mapped| !is_own(found, *mapped)) else { return };
        let far_end = agreed.remote_rtp.map(|far_end| far_end.ip());
        if agreed.ice.is_none() && far_end == Some(mapped.ip()) && far_end != server {
            self.calls[index].path.hairpin = true;
            self.describe_call(index);
            self.tell_address(now, index);
        }
    }
}

//! Where a request goes (RFC 3263): from a URI's host to a list of servers in the order to try them.
//!
//! NAPTR, SRV and address look-ups are questions with a number and a deadline; their answers are kept for
//! their time to live, and longer if no name server answers. Servers that failed are remembered for a while,
//! and shared by all requests, so that REGISTER and INVITE leave a dead server together and come back to it
//! together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::host::parse_address;
use crate::sip::network::{LookupError, Output, Question, Record, RecordData, Transport};
use crate::sip::srv::{ServerName, Service, Srv, by_priority, by_weight, service_name};
use crate::sip::uri::SipUri;

/// What is looked for: the parts of a URI that matter to RFC 3263, and the transports we may use.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Destination {
    /// A name or a numeric address, lower case.
    pub host: String,
    /// The numeric address, if the host is one.
    pub address: Option<IpAddr>,
    /// The port, if the URI names one.
    pub port: Option<u16>,
    /// In the order to try them.
    pub transports: Vec<Transport>,
    /// Where WebSocket connections go instead, if they do.
    pub websocket: Option<Authority>,
    /// What is looked for there, if it is not SIP.
    pub service: Option<Service>,
}

/// A server that is named with its port, and looked up by its address records alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Authority {
    /// A name or a numeric address, lower case.
    pub host: String,
    /// The numeric address, if the host is one.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// The destination of a URI for somebody who may use these transports, in that order. `sips` means TLS or
    /// WebSocket under TLS; a `transport` parameter wins if it is allowed.
    pub fn of(uri: &SipUri, allowed: &[Transport]) -> Destination {
        let allowed = if allowed.is_empty() { &[Transport::Udp][..] } else { allowed };
        let named = uri
            .transport()
            .and_then(|token| Transport::parse(&token))
            .filter(|named| allowed.contains(named));
        let transports = match named {
            Some(named) if named.is_secure() => vec![named],
            // `sips:` with `transport=tcp` is TLS over TCP (RFC 3261 §26.2.2).
            Some(_) if uri.secure => vec![Transport::Tls],
            None if uri.secure => {
                let secure: Vec<_> = allowed.iter().copied().filter(|allowed| allowed.is_secure()).collect();
                if secure.is_empty() { vec![Transport::Tls] } else { secure }
            }
            Some(named) => vec![named],
            None => allowed.to_vec(),
        };
        let maddr = uri.maddr();
        let (host, address) = match &maddr {
            Some(host) => (host.to_string(), host.ip()),
            None => (uri.host.to_string(), uri.host.ip()),
        };
        let host = host.to_ascii_lowercase();
        Destination { host, address, port: uri.port, transports, websocket: None, service: None }
    }

    /// The destination of a server of another service.
    pub fn of_service(name: &ServerName) -> Destination {
        Destination {
            host: name.host.clone(),
            address: name.host.trim_matches(['[', ']']).parse().ok(),
            port: name.port,
            transports: vec![Transport::Udp],
            websocket: None,
            service: Some(name.service),
        }
    }

    /// Which server of another service this is, if it is one.
    pub fn server_name(&self) -> Option<ServerName> {
        self.service.map(|service| ServerName { host: self.host.clone(), port: self.port, service })
    }

    /// The same, where WebSocket connections go to a server of their own.
    pub fn with_websocket(mut self, websocket: Option<&Authority>) -> Destination {
        self.websocket = websocket.filter(|_| self.transports.contains(&Transport::Wss)).cloned();
        self
    }

    /// The port of a transport where the URI names one: WebSocket has another than those beside it.
    fn port_of(&self, transport: Transport) -> u16 {
        let shared = transport == Transport::Wss && self.transports.len() > 1;
        let usual = self.service.map_or(transport.default_port(), |service| service.port);
        self.port.filter(|_| !shared).unwrap_or(usual)
    }

    /// The transports that are looked for at the host itself.
    fn own_transports(&self) -> Vec<Transport> {
        let elsewhere = |transport: Transport| transport == Transport::Wss && self.websocket.is_some();
        self.transports.iter().copied().filter(|transport| !elsewhere(*transport)).collect()
    }

    /// The transports to try with their ranks, and where each leads.
    fn authorities(&self) -> impl Iterator<Item = (u32, Transport, Authority)> {
        self.transports.iter().zip(1..).map(|(transport, rank)| {
            let own = || Authority {
                host: self.host.clone(),
                address: self.address,
                port: self.port_of(*transport),
            };
            let elsewhere = self.websocket.clone().filter(|_| *transport == Transport::Wss);
            (rank, *transport, elsewhere.unwrap_or_else(own))
        })
    }
}

/// One server to try.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Over what.
    pub transport: Transport,
    /// Where.
    pub remote: SocketAddr,
    /// The domain that a certificate must name (RFC 5922 §7).
    pub server_name: String,
    /// Servers of equal rank share the load; a higher rank is a fallback.
    pub rank: u32,
}

/// What is known of a destination at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Located {
    /// The servers, in the order to try them; never empty.
    Here(Vec<Target>),
    /// Questions are out: [`Locator::poll_result`] tells.
    Soon,
    /// Too many questions are out.
    Busy,
}

/// All look-ups, their answers and the servers that failed.
#[derive(Debug)]
pub struct Locator {
    chance: Chance,
    families: Families,
    kept: HashMap<Destination, Kept>,
    searches: HashMap<Destination, Search>,
    queries: HashMap<u64, (Destination, Slot)>,
    failed: HashMap<(Transport, SocketAddr), Failed>,
    preferred: HashMap<Destination, (Transport, SocketAddr)>,
    outputs: VecDeque<Output>,
    results: VecDeque<(Destination, Result<Vec<Target>, LookupError>)>,
    next_query: u64,
}

/// The address families that this machine speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    /// Ask for A records.
    pub v4: bool,
    /// Ask for AAAA records.
    pub v6: bool,
}

#[derive(Debug)]
struct Kept {
    targets: Vec<Target>,
    until: u64,
}

#[derive(Debug)]
struct Failed {
    until: u64,
    strikes: u32,
}

#[derive(Debug)]
struct Search {
    waiting: usize,
    deadline: u64,
    ttl: u32,
    services: Vec<Found>,
    hosts: Vec<HostPort>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    error: Option<LookupError>,
}

#[derive(Debug)]
struct Found {
    transport: Transport,
    records: Vec<Srv>,
}

#[derive(Debug)]
struct HostPort {
    rank: u32,
    transport: Transport,
    name: String,
    port: u16,
    /// What the certificate must name.
    server_name: String,
}

#[derive(Clone, Debug)]
enum Slot {
    Naptr,
    Service(usize),
    Address(String),
}

const LOOKUP: Duration = Duration::from_secs(8);
const MAX_SEARCHES: usize = 64;
const MAX_KEPT: usize = 128;
const MAX_FAILED: usize = 256;
const MAX_RECORDS: usize = 32;
const MAX_TARGETS: usize = 32;
/// Answers are kept at least this long, so that a time to live of 0 does not cost a look-up per request.
const MIN_TTL: u32 = 5;
const MAX_TTL: u32 = 3600;
/// How long a failed server is left alone at first; it doubles each time up to the ceiling.
const PENALTY: Duration = Duration::from_secs(60);
const MAX_PENALTY: Duration = Duration::from_secs(600);

impl Locator {
    /// Nothing looked up yet.
    pub fn new(families: Families, chance: Chance) -> Locator {
        Locator {
            chance,
            families,
            kept: HashMap::new(),
            searches: HashMap::new(),
            queries: HashMap::new(),
            failed: HashMap::new(),
            preferred: HashMap::new(),
            outputs: VecDeque::new(),
            results: VecDeque::new(),
            next_query: 1,
        }
    }

    /// Looks for a destination's servers.
    pub fn locate(&mut self, now: Now, destination: &Destination) -> Located {
        if let Some(targets) = numeric(destination) {
            return Located::Here(targets);
        }
        if let Some(kept) = self.kept.get(destination)
            && kept.until > now.mono_us
        {
            return Located::Here(kept.targets.clone());
        }
        if self.searches.contains_key(destination) {
            return Located::Soon;
        }
        if self.searches.len() >= MAX_SEARCHES {
            return Located::Busy;
        }
        let search = Search {
            waiting: 0,
            deadline: now.deadline(LOOKUP),
            ttl: MAX_TTL,
            services: Vec::new(),
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            error: None,
        };
        self.searches.insert(destination.clone(), search);
        let own = destination.own_transports();
        if destination.port.is_some() || destination.address.is_some() || own.is_empty() {
            self.plain_hosts(destination);
        } else if let Some(service) = destination.service {
            let name = format!("{}.{}", service.label, destination.host);
            self.ask_services(destination, vec![(Transport::Udp, name)]);
        } else if let [only] = own[..] {
            // The transport is settled, so NAPTR could only tell the name (RFC 3263 §4.1).
            self.ask_services(destination, vec![(only, service_name(only, &destination.host))]);
        } else {
            self.ask(destination, Slot::Naptr, Question::Naptr(destination.host.clone()));
        }
        Located::Soon
    }

    fn ask(&mut self, destination: &Destination, slot: Slot, question: Question) {
        let Some(search) = self.searches.get_mut(destination) else {
            return;
        };
        search.waiting += 1;
        let query = self.next_query;
        self.next_query += 1;
        self.queries.insert(query, (destination.clone(), slot));
        self.outputs.push_back(Output::Query { query, question, deadline: search.deadline });
    }

    fn ask_services(&mut self, destination: &Destination, services: Vec<(Transport, String)>) {
        for (index, (transport, name)) in services.into_iter().enumerate() {
            if let Some(search) = self.searches.get_mut(destination) {
                search.services.push(Found { transport, records: Vec::new() });
            }
            self.ask(destination, Slot::Service(index), Question::Srv(name));
        }
    }

    /// No SRV records count: the host itself, over each transport in turn (RFC 3263 §4.2).
    fn plain_hosts(&mut self, destination: &Destination) {
        let hosts = destination.authorities().map(|(rank, transport, there)| HostPort {
            rank,
            transport,
            name: there.host.clone(),
            port: there.port,
            server_name: there.host,
        });
        let hosts = hosts.collect();
        self.ask_addresses(destination, hosts);
    }

    fn ask_addresses(&mut self, destination: &Destination, hosts: Vec<HostPort>) {
        let Some(search) = self.searches.get_mut(destination) else {
            return;
        };
        let mut names = Vec::new();
        for host in &hosts {
            if let Some(address) = parse_address(&host.name) {
                search.addresses.insert(host.name.clone(), vec![address]);
            } else if !names.contains(&host.name) {
                names.push(host.name.clone());
            }
        }
        search.hosts = hosts;
        for name in names {
            if self.families.v4 {
                self.ask(destination, Slot::Address(name.clone()), Question::A(name.clone()));
            }
            if self.families.v6 {
                self.ask(destination, Slot::Address(name.clone()), Question::Aaaa(name));
            }
        }
        self.advance_if_done(destination);
    }

    /// The answer to a question.
    pub fn handle_answer(&mut self, now: Now, query: u64, result: Result<Vec<Record>, LookupError>) {
        let Some((destination, slot)) = self.queries.remove(&query) else {
            return;
        };
        let Some(search) = self.searches.get_mut(&destination) else {
            return;
        };
        search.waiting = search.waiting.saturating_sub(1);
        let mut records = match result {
            Ok(records) => records,
            Err(error) => {
                // A name that does not exist says more than a silence; but few domains have a name for every service.
                let no_service = matches!(slot, Slot::Service(_)) && error == LookupError::NoSuchName;
                if !no_service && search.error != Some(LookupError::NoSuchName) {
                    search.error = Some(error);
                }
                Vec::new()
            }
        };
        records.truncate(MAX_RECORDS);
        if let Some(ttl) = records.iter().map(|record| record.ttl).min() {
            search.ttl = search.ttl.min(ttl);
        }
        match slot {
            Slot::Naptr => self.follow_naptr(&destination, records),
            Slot::Service(index) => {
                if let Some(service) = search.services.get_mut(index) {
                    service.records = records.into_iter().filter_map(|record| Srv::of(record.data)).collect();
                }
                if search.waiting == 0 {
                    self.follow_services(&destination);
                }
            }
            Slot::Address(name) => {
                let addresses = search.addresses.entry(name).or_default();
                addresses.extend(records.into_iter().filter_map(|record| match record.data {
                    RecordData::Address(address) => Some(address),
                    _ => None,
                }));
                self.advance_if_done(&destination);
            }
        }
        self.finish_searches(now);
    }

    fn follow_naptr(&mut self, destination: &Destination, records: Vec<Record>) {
        let mut offers: Vec<_> = records
            .into_iter()
            .filter_map(|record| match record.data {
                RecordData::Naptr { order, preference, flags, service, replacement }
                    if flags.eq_ignore_ascii_case("s") && !replacement.is_empty() =>
                {
                    let transport = match service.to_ascii_uppercase().as_str() {
                        "SIP+D2U" => Transport::Udp,
                        "SIP+D2T" => Transport::Tcp,
                        "SIPS+D2T" => Transport::Tls,
                        "SIPS+D2W" => Transport::Wss,
                        _ => return None,
                    };
                    Some((order, preference, transport, replacement))
                }
                _ => None,
            })
            .collect();
        crate::order::sort_by_key(&mut offers, |(order, preference, ..)| (*order, *preference));
        // What the line's configuration lists first is tried first; the domain only says what it offers.
        let mut services: Vec<(Transport, String)> = Vec::new();
        let own = destination.own_transports();
        for transport in &own {
            let names = offers.iter().filter(|offer| offer.2 == *transport).map(|offer| offer.3.clone());
            services.extend(names.map(|name| (*transport, name)).take(4));
        }
        if services.is_empty() {
            let all = own.iter();
            services =
                all.map(|transport| (*transport, service_name(*transport, &destination.host))).collect();
        }
        self.ask_services(destination, services);
    }

    fn follow_services(&mut self, destination: &Destination) {
        let Some(search) = self.searches.get_mut(destination) else {
            return;
        };
        let mut hosts = Vec::new();
        let mut rank = 0;
        let services = std::mem::take(&mut search.services);
        let answered = services.iter().any(|service| !service.records.is_empty());
        for service in services {
            for group in by_priority(service.records) {
                rank += 1;
                for record in by_weight(group, &mut self.chance) {
                    let name = record.target.trim_end_matches('.').to_ascii_lowercase();
                    if !name.is_empty() && record.port != 0 {
                        let (transport, port) = (service.transport, record.port);
                        let server_name = destination.host.clone();
                        hosts.push(HostPort { rank, transport, name, port, server_name });
                    }
                }
            }
        }
        hosts.truncate(MAX_RECORDS);
        if answered {
            insert_elsewhere(&mut hosts, destination);
            self.ask_addresses(destination, hosts);
        } else {
            self.plain_hosts(destination);
        }
    }

    fn advance_if_done(&mut self, destination: &Destination) {
        if let Some(search) = self.searches.get_mut(destination)
            && search.waiting == 0
        {
            // Nothing more is asked: `finish_searches` takes it.
            search.deadline = 0;
        }
    }

    /// Ends the searches that are complete or overdue.
    fn finish_searches(&mut self, now: Now) {
        let over = self.searches.iter().filter(|(_, search)| search.deadline <= now.mono_us);
        let over: Vec<Destination> = over.map(|(destination, _)| destination.clone()).collect();
        for destination in over {
            if let Some(search) = self.searches.remove(&destination) {
                self.queries.retain(|_, (of, _)| *of != destination);
                self.finish(now, destination, search);
            }
        }
    }

    fn finish(&mut self, now: Now, destination: Destination, search: Search) {
        let mut targets: Vec<Target> = Vec::new();
        for host in &search.hosts {
            let mut addresses = search.addresses.get(&host.name).cloned().unwrap_or_default();
            // IPv4 first: a server that has both but answers on one only does so on IPv4.
            crate::order::sort_by_key(&mut addresses, IpAddr::is_ipv6);
            for address in addresses {
                let target = Target {
                    transport: host.transport,
                    remote: SocketAddr::new(address, host.port),
                    server_name: host.server_name.clone(),
                    rank: host.rank,
                };
                let known =
                    |there: &&Target| there.transport == target.transport && there.remote == target.remote;
                if targets.len() < MAX_TARGETS && !targets.iter().any(|there| known(&there)) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            // An old answer is better than none while the name servers are away.
            let result = match self.kept.get_mut(&destination) {
                Some(kept) if search.error != Some(LookupError::NoSuchName) => {
                    kept.until = now.deadline(Duration::from_secs(30));
                    Ok(kept.targets.clone())
                }
                _ => Err(search.error.unwrap_or(LookupError::NoAddress)),
            };
            self.results.push_back((destination, result));
            return;
        }
        if let Some((transport, remote)) = self.preferred.get(&destination) {
            keep_preferred(&mut targets, *transport, *remote);
        }
        if self.kept.len() >= MAX_KEPT
            && let Some(oldest) =
                self.kept.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone())
        {
            self.kept.remove(&oldest);
            self.preferred.remove(&oldest);
        }
        let ttl = Duration::from_secs(u64::from(search.ttl.clamp(MIN_TTL, MAX_TTL)));
        self.kept.insert(destination.clone(), Kept { targets: targets.clone(), until: now.deadline(ttl) });
        self.results.push_back((destination, Ok(targets)));
    }

    /// A search has ended.
    pub fn poll_result(&mut self) -> Option<(Destination, Result<Vec<Target>, LookupError>)> {
        self.results.pop_front()
    }

    /// The next question.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.searches.values().map(|search| search.deadline).min()
    }

    /// A deadline may have come: what is known by now has to do.
    pub fn handle_timeout(&mut self, now: Now) {
        for search in self.searches.values_mut() {
            if search.deadline <= now.mono_us && search.error.is_none() {
                search.error = Some(LookupError::Timeout);
            }
        }
        self.finish_searches(now);
    }

    /// The order in which to try servers now: those that failed lately come last.
    pub fn in_order(&self, now: Now, targets: &[Target]) -> Vec<Target> {
        let mut ordered = targets.to_vec();
        crate::order::sort_by_key(&mut ordered, |target| {
            self.is_failed(now, target.transport, target.remote)
        });
        ordered
    }

    /// Whether a server failed lately.
    pub fn is_failed(&self, now: Now, transport: Transport, remote: SocketAddr) -> bool {
        self.failed.get(&(transport, remote)).is_some_and(|failed| failed.until > now.mono_us)
    }

    /// A server did not answer or could not be reached: it is left alone for a while, or for as long as it
    /// asked.
    pub fn mark_failed(
        &mut self,
        now: Now,
        transport: Transport,
        remote: SocketAddr,
        wish: Option<Duration>,
    ) {
        if self.failed.len() >= MAX_FAILED {
            self.failed.retain(|_, failed| failed.until > now.mono_us);
            if self.failed.len() >= MAX_FAILED {
                self.failed.clear();
            }
        }
        let failed = self.failed.entry((transport, remote)).or_insert(Failed { until: 0, strikes: 0 });
        if failed.until > now.mono_us && wish.is_none() {
            return;
        }
        let penalty =
            wish.unwrap_or_else(|| (PENALTY * 2u32.saturating_pow(failed.strikes)).min(MAX_PENALTY));
        failed.strikes = (failed.strikes + 1).min(8);
        failed.until = now.deadline(penalty);
    }

    /// A server answered.
    pub fn mark_good(&mut self, destination: &Destination, transport: Transport, remote: SocketAddr) {
        self.failed.remove(&(transport, remote));
        if self.kept.contains_key(destination) {
            self.preferred.insert(destination.clone(), (transport, remote));
        }
    }

    /// The addresses that a destination leads to, as far as they are known.
    pub fn known(&self, destination: &Destination) -> Vec<IpAddr> {
        let kept = || self.kept.get(destination).map(|kept| kept.targets.clone());
        let targets = numeric(destination).or_else(kept).unwrap_or_default();
        targets.iter().map(|target| target.remote.ip()).collect()
    }

    /// The network has changed: what failed may work, what is known may be wrong.
    pub fn forget_failures(&mut self) {
        self.failed.clear();
        for kept in self.kept.values_mut() {
            kept.until = 0;
        }
    }
}

/// The servers of a destination that is an address; `None` if something has to be looked up.
fn numeric(destination: &Destination) -> Option<Vec<Target>> {
    let targets = destination.authorities().map(|(rank, transport, there)| {
        let remote = SocketAddr::new(there.address?, there.port);
        Some(Target { transport, remote, server_name: there.host, rank })
    });
    targets.collect()
}

/// Adds the WebSocket server that is not looked for at the domain, where the order of the transports wants it.
fn insert_elsewhere(hosts: &mut Vec<HostPort>, destination: &Destination) {
    let Some(there) = &destination.websocket else { return };
    let place = |transport| destination.transports.iter().position(|other| *other == transport);
    let at =
        hosts.iter().position(|host| place(host.transport) > place(Transport::Wss)).unwrap_or(hosts.len());
    let before = at.checked_sub(1).and_then(|before| hosts.get(before));
    let rank = before.map_or(0, |host| host.rank) + 1;
    for behind in hosts.iter_mut().skip(at) {
        behind.rank += 1;
    }
    let (name, port) = (there.host.clone(), there.port);
    let server_name = name.clone();
    hosts.insert(at, HostPort { rank, transport: Transport::Wss, name, port, server_name });
}

/// Among servers of equal rank, the one in use goes first: a new answer must not move a line without need.
fn keep_preferred(targets: &mut Vec<Target>, transport: Transport, remote: SocketAddr) {
    let in_use = |target: &Target| target.transport == transport && target.remote == remote;
    if let Some(index) = targets.iter().position(in_use) {
        let target = targets.remove(index);
        let first = targets.iter().position(|other| other.rank == target.rank).unwrap_or(index).min(index);
        targets.insert(first, target);
    }
}

#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;

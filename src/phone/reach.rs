//! Keeps registered lines reachable: carries between the machines of `nat` that watch a line's flow and its outside,
//! and the user agent that sends, tells and registers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::config::{Nat, NatMode, StunServer};
use crate::nat::keep_alive::{Carriage, Flow, KeepAlive, Output, Way};
use crate::nat::stun;
use crate::nat::watch::{self, Watch};
use crate::now::{Now, earliest};
use crate::sip::handle::AccountId;
use crate::sip::network::Transport;
use crate::sip::registration::RegistrationState;
use crate::sip::srv::{ServerName, Service};
use crate::sip::ua_event::Event;
use crate::sip::user_agent::UserAgent;

/// Registrars that are remembered with the way they answer.
const MOST_REGISTRARS: usize = 64;
/// Addresses of a STUN server's name that are kept, of both families.
const MOST_ADDRESSES: usize = 2 * watch::MOST_SERVERS;
/// The names of STUN servers are looked up again after this time.
const LOOK_UP_EVERY: Duration = Duration::from_secs(600);

/// How a STUN server is looked for (RFC 8489 §8).
const STUN: Service = Service { label: "_stun._udp", port: stun::DEFAULT_PORT };

/// The name of a STUN server of the configuration.
pub(super) fn stun_server(server: &StunServer) -> ServerName {
    ServerName::new(&server.host, server.port, STUN)
}

/// How a line's way to its registrar is kept open, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// How the registrar is asked, once that is known, and whether STUN servers are watched.
    pub way: Option<&'static str>,
    /// From an answer to the next question.
    pub every: Option<Duration>,
    /// Since the registrar was heard.
    pub heard: Option<Duration>,
}

/// What keeps all lines reachable.
#[derive(Debug)]
pub struct Reach {
    keepers: BTreeMap<AccountId, KeepAlive>,
    known: VecDeque<(Transport, SocketAddr, Way)>,
    watches: Vec<Watching>,
    /// Lines whose way to the PBX needs no keeping.
    unkept: BTreeSet<AccountId>,
    /// Flows whose line has another one that stands.
    relieved: BTreeSet<AccountId>,
    /// STUN that nobody asked for.
    strays: u64,
    /// Lines whose outside has changed, until that is taken up.
    changed: VecDeque<AccountId>,
    /// Lines whose waiting ports a STUN server shall be asked about.
    deputed: VecDeque<(AccountId, SocketAddr)>,
    /// Flows that were found dead, likewise.
    lost: VecDeque<AccountId>,
    chance: Chance,
}

/// The watch that lines with the same STUN servers share.
#[derive(Debug)]
struct Watching {
    names: Vec<ServerName>,
    /// The family of the addresses by which its lines reach their PBX, once one has: the outside of the other one is
    /// none of theirs.
    family: Option<Family>,
    found: BTreeMap<ServerName, Vec<SocketAddr>>,
    look_up_at: u64,
    accounts: Vec<AccountId>,
    watch: Watch,
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl Watching {
    /// Has the watch ask what was found, in the order of the names.
    fn set_servers(&mut self, now: Now) {
        let found = self.names.iter().filter_map(|name| self.found.get(name)).flatten().copied();
        let of_ours =
            |server: &SocketAddr| self.family.is_none_or(|family| family == Family::of(server.ip()));
        let in_order: Vec<SocketAddr> = found.filter(of_ours).collect();
        self.watch.set_servers(now, &in_order);
    }
}

impl Reach {
    /// Without lines.
    pub fn new(chance: Chance) -> Reach {
        Reach {
            keepers: BTreeMap::new(),
            known: VecDeque::new(),
            watches: Vec::new(),
            unkept: BTreeSet::new(),
            relieved: BTreeSet::new(),
            strays: 0,
            changed: VecDeque::new(),
            deputed: VecDeque::new(),
            lost: VecDeque::new(),
            chance,
        }
    }

    /// The settings of a line from now on.
    pub fn configure(&mut self, now: Now, account: AccountId, nat: &Nat) {
        let off = nat.mode == NatMode::Off;
        if off {
            self.unkept.insert(account);
            self.keepers.remove(&account);
        } else {
            self.unkept.remove(&account);
        }
        let named = nat.stun.iter().filter(|_| !off);
        let named: Vec<ServerName> = named.map(stun_server).collect();
        self.set_stun(now, account, &named);
    }

    fn set_stun(&mut self, now: Now, account: AccountId, names: &[ServerName]) {
        let old = self.watches.iter().find(|watching| watching.accounts.contains(&account));
        if old.is_some_and(|watching| watching.names == names) {
            return;
        }
        self.watches.iter_mut().for_each(|watching| watching.accounts.retain(|one| *one != account));
        self.watches.retain(|watching| !watching.accounts.is_empty());
        if names.is_empty() {
            return;
        }
        match self.watches.iter_mut().find(|watching| watching.names == names) {
            Some(watching) => watching.accounts.push(account),
            None => self.watches.push(Watching {
                names: names.to_vec(),
                family: None,
                found: BTreeMap::new(),
                look_up_at: now.mono_us,
                accounts: vec![account],
                watch: Watch::new(self.chance.fork()),
            }),
        }
    }

    /// The PBX of a line is reached by an address of this family: so are the servers to ask.
    fn set_family(&mut self, now: Now, account: AccountId, family: Family) {
        let Some(index) = self.watches.iter().position(|watching| watching.accounts.contains(&account))
        else {
            return;
        };
        let Some(watching) = self.watches.get_mut(index).filter(|one| one.family != Some(family)) else {
            return;
        };
        if watching.family.is_none() || watching.accounts.len() == 1 {
            watching.family = Some(family);
            watching.set_servers(now);
            return;
        }
        watching.accounts.retain(|one| *one != account);
        let (names, found) = (watching.names.clone(), watching.found.clone());
        let alike = |one: &&mut Watching| one.names == names && one.family == Some(family);
        if let Some(other) = self.watches.iter_mut().find(alike) {
            other.accounts.push(account);
            return;
        }
        let watch = Watch::new(self.chance.fork());
        let look_up_at = now.deadline(LOOK_UP_EVERY);
        let accounts = vec![account];
        let mut other = Watching { names, family: Some(family), found, look_up_at, accounts, watch };
        other.set_servers(now);
        self.watches.push(other);
    }

    /// Forgets a line.
    pub fn remove(&mut self, now: Now, account: AccountId) {
        self.keepers.remove(&account);
        self.unkept.remove(&account);
        self.relieved.remove(&account);
        self.set_stun(now, account, &[]);
    }

    /// Whether another flow of the same line stands: a registrar that is silent by this one is then not searched for, and
    /// tried only as often as RFC 5626 §4.5 says.
    pub fn set_relieved(&mut self, now: Now, account: AccountId, relieved: bool, agent: &mut UserAgent) {
        let news = if relieved { self.relieved.insert(account) } else { self.relieved.remove(&account) };
        let state = agent.registration_state(account);
        let is_silent = matches!(state, Some(RegistrationState::Failing { status: None, .. }));
        let Some(keeper) = self.keepers.get_mut(&account).filter(|_| news && is_silent) else { return };
        if relieved {
            keeper.set_aside();
        } else {
            keeper.handle_silence(now);
            self.drain(now, account, agent);
        }
    }

    /// Whether the flow of a line did not answer any more and no other one has come in its place yet.
    pub fn is_lost(&self, account: AccountId) -> bool {
        self.keepers.get(&account).is_some_and(KeepAlive::is_lost)
    }

    /// How a line's way to its registrar is kept open, for people.
    pub fn kept(&self, now: Now, account: AccountId) -> Kept {
        let Some(keeper) = self.keepers.get(&account).filter(|keeper| keeper.flow().is_some()) else {
            return Kept::default();
        };
        let way = keeper.way().map(|way| match (way, self.is_watched(account)) {
            (Way::Stun, false) => "stun",
            (Way::Stun, true) => "watch stun",
            (Way::Ping, false) => "crlf",
            (Way::Ping, true) => "watch crlf",
            (Way::Ask, false) => "options",
            (Way::Ask, true) => "watch options",
        });
        Kept { way, every: way.and(keeper.pace()), heard: keeper.heard_at().map(|at| now.since(at)) }
    }

    /// Datagrams of STUN that belonged to no question.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Whence STUN servers see the lines, and how often that has changed so far; that of the first lines with any.
    pub fn outside(&self) -> Option<(SocketAddr, u32)> {
        self.watches.iter().find_map(|watching| watching.watch.outside())
    }

    fn is_watched(&self, account: AccountId) -> bool {
        self.watches
            .iter()
            .any(|watching| watching.accounts.contains(&account) && watching.watch.is_answered())
    }

    /// What the user agent tells; everything passes here on its way to the phone.
    pub fn handle_event(&mut self, now: Now, event: &Event, agent: &mut UserAgent) {
        match event {
            Event::Registration { account, state } => self.handle_registration(now, *account, state, agent),
            Event::Answered { account, seen, octets } => {
                if let Some(keeper) = self.keepers.get_mut(account) {
                    keeper.handle_answer(now, *seen, *octets);
                }
                self.drain(now, *account, agent);
            }
            Event::Pong { account } => {
                if let Some(keeper) = self.keepers.get_mut(account) {
                    keeper.handle_pong(now);
                }
                self.drain(now, *account, agent);
            }
            Event::Asked { account } => {
                if let Some(keeper) = self.keepers.get_mut(account) {
                    keeper.handle_visit(now);
                }
            }
            Event::Unreachable { account } => {
                if let Some(keeper) = self.keepers.get_mut(account) {
                    keeper.handle_unreachable(now);
                }
            }
            Event::Stun { remote, octets } => self.handle_stun(now, *remote, octets, agent),
            Event::Resolved { name, addresses } => self.handle_resolved(now, name, addresses),
            _ => {}
        }
    }

    fn handle_registration(
        &mut self,
        now: Now,
        account: AccountId,
        state: &RegistrationState,
        agent: &mut UserAgent,
    ) {
        let local =
            agent.local_address(account).filter(|_| matches!(state, RegistrationState::Registered { .. }));
        if let Some(local) = local {
            self.set_family(now, account, Family::of(local));
        }
        let watched = self.is_watched(account);
        let unkept = self.unkept.contains(&account);
        let relieved = self.relieved.contains(&account);
        let chance = &mut self.chance;
        let begins = matches!(
            state,
            RegistrationState::Registered { .. } | RegistrationState::Failing { status: None, .. }
        );
        if begins {
            self.keepers.entry(account).or_insert_with(|| KeepAlive::new(chance.fork()));
        }
        let Some(keeper) = self.keepers.get_mut(&account) else { return };
        match state {
            RegistrationState::Registered { .. } if unkept => keeper.handle_down(),
            RegistrationState::Registered { .. } => {
                let Some(flow) = agent.kept_flow(account) else { return };
                let known = self
                    .known
                    .iter()
                    .find(|(transport, peer, _)| (*transport, *peer) == (flow.transport, flow.remote));
                let stream = flow.transport.is_reliable();
                let kept = Flow {
                    carriage: if stream { Carriage::Stream } else { Carriage::Datagrams },
                    peer: flow.remote,
                    number: flow.connection.unwrap_or_default(),
                    seen: flow.seen.filter(|_| !stream),
                    longest: flow.longest_silence,
                };
                keeper.set_watched(now, watched);
                keeper.handle_up(now, kept, known.map(|(_, _, way)| *way));
            }
            RegistrationState::Failing { status: None, .. } if relieved => keeper.set_aside(),
            RegistrationState::Failing { status: None, .. } => keeper.handle_silence(now),
            // It was heard, and says itself when it wants to be asked again.
            RegistrationState::Failing { .. } if keeper.is_searching() => keeper.handle_down(),
            RegistrationState::Failing { .. } | RegistrationState::Registering => {}
            RegistrationState::Rejected { .. } | RegistrationState::Unregistered => keeper.handle_down(),
        }
        self.drain(now, account, agent);
    }

    fn handle_stun(&mut self, now: Now, remote: SocketAddr, octets: &[u8], agent: &mut UserAgent) {
        let asked = self
            .keepers
            .iter_mut()
            .find_map(|(account, keeper)| keeper.handle_datagram(now, remote, octets).then_some(*account));
        if let Some(account) = asked {
            return self.drain(now, account, agent);
        }
        let watch = self.watches.iter_mut().position(|one| one.watch.handle_datagram(now, remote, octets));
        match watch {
            Some(index) => self.drain_watch(now, index, agent),
            None => self.strays += 1,
        }
    }

    fn handle_resolved(&mut self, now: Now, name: &ServerName, addresses: &[SocketAddr]) {
        for watching in &mut self.watches {
            // An address that is not found any more is kept: the name server may be what is missing.
            if !watching.names.contains(name) || addresses.is_empty() {
                continue;
            }
            watching.found.insert(name.clone(), addresses.iter().copied().take(MOST_ADDRESSES).collect());
            watching.set_servers(now);
        }
    }

    /// The machine has other addresses or ways: what was heard before says nothing of flows any more, also where our own
    /// address is as it was.
    pub fn handle_network_changed(&mut self, now: Now) {
        for keeper in self.keepers.values_mut() {
            keeper.doubt(now);
        }
        for watching in &mut self.watches {
            watching.look_up_at = now.mono_us;
            watching.watch.hurry(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let keepers = self.keepers.values().filter_map(KeepAlive::poll_timeout).min();
        let watches = self
            .watches
            .iter()
            .filter_map(|one| earliest(one.watch.poll_timeout(), Some(one.look_up_at)))
            .min();
        earliest(keepers, watches)
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now, agent: &mut UserAgent) {
        let is_due = |due: Option<u64>| due.is_some_and(|due| due <= now.mono_us);
        for index in 0..self.watches.len() {
            let Some(watching) = self.watches.get_mut(index) else { return };
            if watching.look_up_at <= now.mono_us {
                watching.look_up_at = now.deadline(LOOK_UP_EVERY);
                for name in &watching.names {
                    agent.resolve(now, name);
                }
            }
            if is_due(watching.watch.poll_timeout()) {
                watching.watch.handle_timeout(now);
                self.drain_watch(now, index, agent);
            }
        }
        let due: Vec<AccountId> = self
            .keepers
            .iter()
            .filter(|(_, keeper)| is_due(keeper.poll_timeout()))
            .map(|(account, _)| *account)
            .collect();
        for account in due {
            if let Some(keeper) = self.keepers.get_mut(&account) {
                keeper.handle_timeout(now);
            }
            self.drain(now, account, agent);
        }
    }

    fn drain(&mut self, now: Now, account: AccountId, agent: &mut UserAgent) {
        while let Some(output) = self.keepers.get_mut(&account).and_then(KeepAlive::poll_output) {
            match output {
                Output::Datagram(octets) => agent.send_on_flow(account, octets),
                Output::Ping => agent.ping(account),
                // A REGISTER that is in flight asks by itself, and again and again.
                Output::Ask { .. } | Output::Retry
                    if self.waits(account) && agent.is_registering(account) =>
                {
                    if let Some(keeper) = self.keepers.get_mut(&account) {
                        keeper.handle_busy();
                    }
                }
                Output::Ask { again } => agent.ask(now, account, again),
                Output::Retry => agent.retry(now, account, false),
                Output::Found => agent.retry(now, account, true),
                Output::Forgotten => agent.register(now, account),
                Output::Moved(seen) => agent.flow_moved(now, account, seen),
                Output::Dead => {
                    self.forget(account);
                    self.lost.push_back(account);
                    agent.renew_flow(now, account);
                }
            }
        }
        self.remember(account, agent);
        self.spare(now);
    }

    /// Where every line's registrar answers STUN on the flow itself, other servers need not be asked as well.
    fn spare(&mut self, now: Now) {
        let tells = |account: &AccountId| {
            let keeper = self.keepers.get(account);
            keeper.is_some_and(|keeper| keeper.way() == Some(Way::Stun) && !keeper.is_searching())
        };
        for watching in &mut self.watches {
            let spare = watching.accounts.iter().all(tells);
            watching.watch.set_spare(now, spare);
        }
    }

    fn waits(&self, account: AccountId) -> bool {
        self.keepers.get(&account).is_some_and(KeepAlive::is_searching)
    }

    fn drain_watch(&mut self, now: Now, index: usize, agent: &mut UserAgent) {
        while let Some(watching) = self.watches.get_mut(index) {
            let output = watching.watch.poll_output();
            let (accounts, watched) = (watching.accounts.clone(), watching.watch.is_answered());
            for account in &accounts {
                if let Some(keeper) = self.keepers.get_mut(account) {
                    keeper.set_watched(now, watched);
                }
            }
            match output {
                None => return,
                Some(watch::Output::Datagram { to, octets }) => agent.send_datagram(to, octets),
                Some(watch::Output::Depute(server)) => {
                    self.deputed.extend(accounts.iter().map(|account| (*account, server)));
                }
                Some(watch::Output::Changed) => {
                    accounts.iter().for_each(|account| self.hint(now, *account, agent));
                    self.changed.extend(accounts);
                }
                Some(watch::Output::Heard) => {
                    for account in accounts.iter().filter(|account| self.waits(**account)) {
                        agent.retry(now, *account, true);
                    }
                }
            }
        }
    }

    /// The next line whose outside was seen to change: what its calls know of it is no longer sure.
    pub fn poll_changed(&mut self) -> Option<AccountId> {
        self.changed.pop_front()
    }

    /// The next line whose waiting port a STUN server shall be asked about now, and which.
    pub fn poll_deputed(&mut self) -> Option<(AccountId, SocketAddr)> {
        self.deputed.pop_front()
    }

    /// A STUN server has answered whence it sees the port that waits for a call of this line; `moved`: elsewhere than
    /// before.
    pub fn handle_witness(&mut self, now: Now, account: AccountId, server: SocketAddr, moved: bool) {
        if let Some(watching) = self.watches.iter_mut().find(|one| one.accounts.contains(&account)) {
            watching.watch.handle_witness(now, server, moved);
        }
    }

    /// The next flow that was found dead.
    pub fn poll_lost(&mut self) -> Option<AccountId> {
        self.lost.pop_front()
    }

    /// The outside has changed: what the registrar has leads nowhere.
    pub fn hint(&mut self, now: Now, account: AccountId, agent: &mut UserAgent) {
        if self.waits(account) {
            agent.retry(now, account, true);
            return;
        }
        let Some(keeper) = self.keepers.get_mut(&account) else { return };
        match keeper.flow().map(|flow| flow.carriage) {
            // The answer to a call that rings belongs on the connection that it came by, if that lives: it is asked first.
            Some(Carriage::Stream) if agent.is_calling(account) => {
                keeper.doubt(now);
                keeper.handle_timeout(now);
                self.drain(now, account, agent);
            }
            Some(_) => agent.renew_flow(now, account),
            None => {}
        }
    }

    fn remember(&mut self, account: AccountId, agent: &UserAgent) {
        let Some(way) = self.keepers.get(&account).and_then(KeepAlive::way) else { return };
        let Some(flow) = agent.kept_flow(account) else { return };
        let entry = (flow.transport, flow.remote, way);
        if !self.known.contains(&entry) {
            self.known.retain(|(transport, peer, _)| (*transport, *peer) != (entry.0, entry.1));
            self.known.push_back(entry);
            if self.known.len() > MOST_REGISTRARS {
                self.known.pop_front();
            }
        }
    }

    /// The way that this registrar answered is not to be relied on any more.
    fn forget(&mut self, account: AccountId) {
        if let Some(flow) = self.keepers.get(&account).and_then(KeepAlive::flow) {
            let peer = flow.peer;
            self.known.retain(|(_, one, _)| *one != peer);
        }
    }
}

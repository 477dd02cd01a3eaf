//! One line: its configuration, its flows to the registrar, and how it stands as a whole.

use std::net::{IpAddr, SocketAddr};

use super::command::{Blame, Outcome, Refusal, Reply};
use super::flow::{FIRST, Flow, SECOND, UNPROVEN};
use super::reach::Reach;
use super::snapshot::LineView;
use super::{Output, Phone, Remembered, dnd_setting, transport_setting};
use crate::config;
use crate::events::store::{Binding, Write};
use crate::events::{AgentState, Cause, EndedBy, Event, Kind, Mailbox};
use crate::now::Now;
use crate::sip::account::{Account, Credentials};
use crate::sip::call::{CallSettings, Prack, SessionTimer};
use crate::sip::handle::AccountId;
use crate::sip::host::{Host, HostPort, parse_address};
use crate::sip::locate::Authority;
use crate::sip::network::Transport;
use crate::sip::registration::RegistrationState;
use crate::sip::trust::{Network, Trust};
use crate::sip::uri::{SipUri, Uri};
use crate::sip::user_agent::UserAgent;

/// The shortest session interval (RFC 4028 §5).
const SHORTEST_SESSION: std::time::Duration = std::time::Duration::from_secs(90);

pub(super) struct Line {
    pub config: config::Line,
    /// Its flows: the preferred one, and that by the second proxy where two are configured (RFC 5626 §4.2.1).
    pub first: Flow,
    pub second: Option<Flow>,
    pub dnd: bool,
    /// What its agent said last.
    pub agent: Option<AgentState>,
    /// What waits in its mailbox, as told last.
    pub mailbox: Option<Mailbox>,
    /// Whether `line.registered` was the last thing told.
    told_registered: bool,
    /// The transport that was told with it.
    told_transport: Option<Transport>,
    /// What the line was last told to fail with: an outage is one event, not one for each attempt.
    told_failing: Option<(Option<u16>, String)>,
}

impl Line {
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        std::iter::once(&self.first).chain(&self.second)
    }

    fn flow_mut(&mut self, account: AccountId) -> Option<&mut Flow> {
        std::iter::once(&mut self.first).chain(&mut self.second).find(|flow| flow.account == account)
    }

    /// Whether an account is that of one of its flows.
    pub fn has(&self, account: AccountId) -> bool {
        self.flows().any(|flow| flow.account == account)
    }

    /// The flow that the line stands by: the first one that is registered. Without any it is as the first one is.
    fn active(&self) -> &Flow {
        self.flows().find(|flow| flow.is_registered()).unwrap_or(&self.first)
    }

    /// The account by which requests leave: that of a flow that is registered, and alive as far as is known.
    pub fn way(&self, reach: &Reach) -> AccountId {
        let alive = self.flows().find(|flow| flow.is_registered() && !reach.is_lost(flow.account));
        alive.unwrap_or(self.active()).account
    }

    /// The account of the other flow, if that is registered.
    pub fn other_way(&self, account: AccountId) -> Option<AccountId> {
        let other = self.flows().find(|flow| flow.is_registered() && flow.account != account);
        other.filter(|_| self.has(account)).map(|flow| flow.account)
    }

    /// Whether the line has said how it is since it was set up.
    pub fn is_settled(&self) -> bool {
        let waits = |flow: &Flow| matches!(flow.state, RegistrationState::Registering);
        !self.config.register || self.active().is_registered() || !self.flows().any(waits)
    }

    /// Whether calls can go out over it.
    pub fn is_usable(&self) -> bool {
        !self.config.register || self.active().is_registered()
    }

    /// What is wrong with it, if something is.
    pub fn trouble(&self) -> Option<String> {
        let name = &self.config.name;
        let other = self.flows().find(|flow| self.active().is_registered() && flow.trouble().is_some());
        let by = |flow: &Flow| match flow.number {
            FIRST => "the first proxy",
            _ => "the second proxy",
        };
        match other {
            Some(flow) => Some(format!("line {name}: by {}: {}", by(flow), flow.trouble()?)),
            None => Some(format!("line {name}: {}", self.active().trouble()?)),
        }
    }

    pub fn view(&self, now: Now, agent: &UserAgent, reach: &Reach) -> LineView {
        let view = |flow: &Flow| flow.view(now, self.config.register, agent, reach);
        let active = view(self.active());
        LineView {
            name: self.config.name.clone(),
            aor: format!("sip:{}", self.config.address()),
            state: active.state,
            reason: active.reason,
            via: active.via,
            keep_alive: active.keep_alive,
            keep_alive_s: active.keep_alive_s,
            heard_s: active.heard_s,
            expires_s: active.expires_s,
            dnd: self.dnd,
            agent: self.agent,
            voicemail: self.mailbox.clone(),
            flows: self.flows().map(view).collect(),
        }
    }
}

/// What to do about a status that stops a line.
pub(super) fn cure(status: u16) -> &'static str {
    match status {
        401 | 407 => "check user, auth_user and password",
        403 => "check user and password, or ask the PBX's administrator why this device is blocked",
        404 => "the PBX does not know this user: check user and domain",
        _ => "ask the PBX's administrator",
    }
}

impl Phone {
    pub(super) fn add_line(&mut self, now: Now, config: config::Line, remembered: &Remembered) {
        if !config.enabled {
            return;
        }
        let dnd =
            remembered.settings.get(&dnd_setting(&config.name)).map_or(config.dnd, |value| value == "on");
        let last = remembered.settings.get(&transport_setting(&config.name));
        let has_second = proxy(&config, SECOND).is_some();
        let mut flow = |number| {
            let mut account = account(&config, number, &self.config.sip.trusted);
            account.last_transport = last.and_then(|name| Transport::of_name(name));
            // A contact under another address of record is somebody else's by now, and one of a flow that is configured no
            // more is the first one's to remove.
            let is_own = |binding: &&Binding| {
                let same = binding.line == config.name && binding.address == config.address();
                same && (binding.flow == number || (number == FIRST && !has_second))
            };
            let bindings = remembered.bindings.iter().filter(is_own);
            account.old_bindings = bindings.map(|binding| binding.contact.clone()).collect();
            account.instance = Some(self.instance.clone());
            Flow::new(number, self.agent.add_account(now, account))
        };
        let first = flow(FIRST);
        let mut second = has_second.then(|| flow(SECOND));
        if let Some(second) = second.as_mut().filter(|_| config.register) {
            second.stand_in_later(now, &mut self.chance);
        }
        self.reach.configure(now, first.account, &config.nat);
        let agent = super::agent::remembered(remembered, &config.name);
        self.lines.push(Line {
            config,
            first,
            second,
            dnd,
            agent,
            mailbox: None,
            told_registered: false,
            told_transport: None,
            told_failing: None,
        });
    }

    /// Makes the lines those of a new configuration; lines that did not change keep registration and calls.
    pub(super) fn configure(&mut self, now: Now, file: String, config: config::Config, warnings: u32) {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        // Who may send requests stands in another table and is part of every account.
        let same_trust = self.config.sip.trusted == config.sip.trusted;
        let same_lookup = self.config.lookup == config.lookup;
        let opened_as = |config: &config::Config| (config.rtp.ports, config.rtp.dscp);
        let same_ports = opened_as(&self.config) == opened_as(&config);
        self.config = config.clone();
        if !same_lookup {
            self.lookup_changed(now);
        }
        if !same_ports {
            self.discard_ports();
        }
        for index in (0..self.lines.len()).rev() {
            let name = self.lines[index].config.name.clone();
            match config.line.iter().find(|line| line.name == name && line.enabled) {
                Some(new) if same_trust && *new == self.lines[index].config => {}
                Some(new) => {
                    self.change_line(now, index, new);
                    changed.push(name);
                }
                None => {
                    for call in (0..self.calls.len())
                        .filter(|call| self.calls[*call].facts.line == name)
                        .collect::<Vec<_>>()
                    {
                        self.end_call(
                            now,
                            call,
                            Some(Cause::local("the line was removed from the configuration")),
                        );
                    }
                    let line = self.lines.remove(index);
                    for flow in line.flows() {
                        self.reach.remove(now, flow.account);
                        self.agent.remove_account(now, flow.account);
                    }
                    removed.push(name);
                }
            }
        }
        for line in &config.line {
            if line.enabled && !self.lines.iter().any(|known| known.config.name == line.name) {
                changed.push(line.name.clone());
                self.add_line(now, line.clone(), &Remembered::default());
            }
        }
        let order = |name: &str| config.line.iter().position(|line| line.name == name);
        crate::order::sort_by_key(&mut self.lines, |line| order(&line.config.name));
        self.outputs.push_back(Output::Media(crate::media::Command::Country(config.device.country.clone())));
        self.tell(now, Event::new(Kind::ConfigApplied { file, changed, removed, warnings }));
    }

    /// Gives a line other settings; its flows go on where they lead the same way.
    fn change_line(&mut self, now: Now, index: usize, new: &config::Line) {
        let trusted = self.config.sip.trusted.clone();
        let settings = |number| {
            let mut account = account(new, number, &trusted);
            account.instance = Some(self.instance.clone());
            account
        };
        let line = &mut self.lines[index];
        if line.config.address() != new.address() {
            line.mailbox = None;
        }
        line.dnd = if line.config.dnd == new.dnd { line.dnd } else { new.dnd };
        line.config = new.clone();
        self.reach.configure(now, line.first.account, &new.nat);
        self.agent.replace_account(now, line.first.account, settings(FIRST));
        line.first.handle_settings(&self.agent);
        match (&mut line.second, proxy(new, SECOND)) {
            (Some(second), Some(_)) => {
                self.agent.replace_account(now, second.account, settings(SECOND));
                second.handle_settings(&self.agent);
                if second.is_wanted() {
                    self.reach.configure(now, second.account, &new.nat);
                }
            }
            (Some(second), None) => {
                self.reach.remove(now, second.account);
                self.agent.remove_account(now, second.account);
                line.second = None;
            }
            (None, Some(_)) => {
                let account = self.agent.add_account(now, settings(SECOND));
                line.second = Some(Flow::new(SECOND, account));
            }
            (None, None) => {}
        }
        self.govern_flows(now, index);
    }

    pub(super) fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.config.name == name)
    }

    pub(super) fn line_of_account(&self, account: AccountId) -> Option<&Line> {
        self.lines.iter().find(|line| line.has(account))
    }

    /// The server by which a call's messages go.
    pub(super) fn server_of_call(&self, index: usize) -> Option<IpAddr> {
        let account = self.calls.get(index).and_then(|call| self.agent.call_account(call.sip))?;
        self.agent.server(account).map(|(_, server)| server.ip())
    }

    /// The line that a message belongs to: the only one at that peer, or the one whose address the message names.
    pub(super) fn line_of_message(&self, peer: SocketAddr, message: &[u8]) -> Option<&Line> {
        let is_there =
            |flow: &Flow| self.agent.server(flow.account).is_some_and(|(_, server)| server == peer);
        let at_peer = || self.lines.iter().filter(|line| line.flows().any(is_there));
        let mut lines = at_peer();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Some(line),
            (None, _) => None,
            (Some(_), Some(_)) => {
                let text = String::from_utf8_lossy(message);
                at_peer().find(|line| text.contains(&format!("sip:{}", line.config.address())))
            }
        }
    }

    pub(super) fn handle_registration(&mut self, now: Now, account: AccountId, state: &RegistrationState) {
        let Some(index) = self.lines.iter().position(|line| line.has(account)) else { return };
        let line = &mut self.lines[index];
        let (name, address) = (line.config.name.clone(), line.config.address());
        let Some(flow) = line.flow_mut(account) else { return };
        flow.handle_state(now, state);
        let number = flow.number;
        match state {
            RegistrationState::Registered { binding, .. } => {
                let contact = binding.clone();
                self.keep(Write::Binding(Binding { line: name, flow: number, address, contact }));
            }
            RegistrationState::Unregistered => self.keep(Write::Unbound { line: name, flow: number }),
            _ => {}
        }
        if let Some(kind) = self.news_of_line(now, index, account) {
            self.tell(now, Event::new(kind));
        }
        self.govern_flows(now, index);
    }

    /// What is to be told of a line as a whole after one of its flows has another state: it stands while one of them does.
    fn news_of_line(&mut self, now: Now, index: usize, changed: AccountId) -> Option<Kind> {
        let line = &mut self.lines[index];
        let active = line.active();
        let (state, account, is_first) = (active.state.clone(), active.account, active.number == FIRST);
        let server = self.agent.server(account);
        let name = line.config.name.clone();
        if account != changed && !active.is_registered() && !line.told_registered {
            return None;
        }
        match &state {
            RegistrationState::Registering => None,
            RegistrationState::Registered { expires, binding, .. } => {
                let transport = server.map(|(transport, _)| transport);
                let moved = transport.is_some() && line.told_transport != transport;
                line.told_transport = transport.or(line.told_transport);
                let first = !std::mem::replace(&mut line.told_registered, true) || moved;
                line.told_failing = None;
                if moved && is_first && line.config.transport.0.len() > 1 {
                    let value = transport.map(|transport| transport.to_string());
                    self.keep(Write::Setting { name: transport_setting(&name), value });
                }
                first.then(|| Kind::LineRegistered {
                    line: name,
                    registrar: server.map(|(_, address)| address.to_string()).unwrap_or_default(),
                    transport: transport.map(|transport| transport.to_string()).unwrap_or_default(),
                    contact: binding.clone(),
                    expires_us: crate::now::micros(*expires),
                })
            }
            RegistrationState::Failing { reason, status, retry_at } => {
                line.told_registered = false;
                let failing = Some((*status, reason.clone()));
                let news = line.told_failing != failing;
                line.told_failing = failing;
                let retry_us = Some(retry_at.saturating_sub(now.mono_us));
                let cause = Cause { status: *status, ..Cause::network(reason.clone()) };
                news.then_some(Kind::LineUnregistered { line: name, cause, retry_us })
            }
            RegistrationState::Rejected { status, reason } => {
                line.told_registered = false;
                line.told_failing = None;
                let cause = Cause::remote(*status, reason.clone());
                Some(Kind::LineRejected { line: name, cause, cure: cure(*status).to_owned() })
            }
            RegistrationState::Unregistered => {
                line.told_registered = false;
                line.told_failing = None;
                let cause = Cause { by: Some(EndedBy::Local), ..Cause::default() };
                Some(Kind::LineUnregistered { line: name, cause, retry_us: None })
            }
        }
    }

    /// Begins and ends the second flow of a line as the first one stands.
    fn govern_flows(&mut self, now: Now, index: usize) {
        let line = &mut self.lines[index];
        let (first, Some(second)) = (&line.first, &mut line.second) else { return };
        if self.stop_by.is_some() {
            return;
        }
        let lost = self.reach.is_lost(first.account);
        match second.decide(now, first, lost, &self.agent) {
            Some(true) => {
                self.reach.configure(now, second.account, &line.config.nat);
                self.agent.register(now, second.account);
            }
            Some(false) => {
                self.agent.unregister(now, second.account);
                self.reach.remove(now, second.account);
            }
            None => {}
        }
        for (flow, other) in [(first, &*second), (&*second, first)] {
            let relieved = other.is_registered();
            self.agent.set_relieved(flow.account, relieved);
            self.reach.set_relieved(now, flow.account, relieved, &mut self.agent);
        }
        // The first one's subscription stands for as long as the server lets it.
        let subscribes = line.config.subscribe_mwi && second.is_registered() && !first.is_registered();
        self.agent.set_subscribe_mwi(now, second.account, subscribes);
    }

    /// A flow does not answer any more, and another one is being made in its place.
    pub(super) fn flow_lost(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.iter_mut().find(|line| line.has(account)) else { return };
        if let Some(second) = line.second.as_mut().filter(|_| line.first.account == account) {
            second.stand_in_later(now, &mut self.chance);
        }
        self.leave_lost_flow(now, account);
    }

    /// When the next second flow is due.
    pub(super) fn poll_flows(&self) -> Option<u64> {
        let lines = self.lines.iter().filter(|_| self.stop_by.is_none());
        lines.filter_map(|line| line.second.as_ref()?.due).min()
    }

    /// Second flows may be due.
    pub(super) fn handle_flow_timeouts(&mut self, now: Now) {
        for index in 0..self.lines.len() {
            let second = self.lines.get(index).and_then(|line| line.second.as_ref());
            if second.and_then(|second| second.due).is_some_and(|due| due <= now.mono_us) {
                self.govern_flows(now, index);
            }
        }
    }

    pub(super) fn authentication_failed(&mut self, account: AccountId, realm: &str, why: &str) {
        if let Some(flow) = self.lines.iter_mut().find_map(|line| line.flow_mut(account)) {
            flow.refused = Some(format!("realm {realm}: {why}"));
        }
    }

    /// The line's server has proved a wrong password, or the right one again.
    pub(super) fn server_proof(&mut self, now: Now, account: AccountId, remote: SocketAddr, right: bool) {
        let Some(line) = self.lines.iter_mut().find(|line| line.has(account)) else { return };
        let name = line.config.name.clone();
        if let Some(flow) = line.flow_mut(account) {
            flow.unproven = !right;
        }
        if !right {
            let kind = Kind::AuthFailed {
                interface: "sip".to_owned(),
                from: remote.to_string(),
                user: None,
                line: Some(name),
                text: Some(UNPROVEN.to_owned()),
                attempts: 1,
            };
            self.tell(now, Event::new(kind));
        }
    }

    pub(super) fn register(&mut self, now: Now, name: &str) -> Outcome {
        let flows = self.known_line(name)?.flows().filter(|flow| flow.is_wanted());
        for account in flows.map(|flow| flow.account).collect::<Vec<_>>() {
            self.agent.register(now, account);
        }
        Ok(Reply::Done)
    }

    pub(super) fn unregister(&mut self, now: Now, name: &str) -> Outcome {
        // The second flow follows.
        let account = self.known_line(name)?.first.account;
        self.agent.unregister(now, account);
        Ok(Reply::Done)
    }

    /// Lines that could not register try at once: what kept them from it is gone.
    pub(super) fn retry_lines(&mut self, now: Now) {
        let failing = |flow: &&Flow| matches!(flow.state, RegistrationState::Failing { .. });
        let flows = self.lines.iter().flat_map(Line::flows);
        for account in flows.filter(failing).map(|flow| flow.account).collect::<Vec<_>>() {
            self.agent.register(now, account);
        }
    }

    pub(super) fn do_not_disturb(&mut self, _now: Now, name: Option<&str>, on: bool) -> Outcome {
        if let Some(name) = name {
            self.known_line(name)?;
        }
        let value = if on { "on" } else { "off" };
        for line in self.lines.iter_mut().filter(|line| name.is_none_or(|name| line.config.name == name)) {
            line.dnd = on;
            let setting =
                Write::Setting { name: dnd_setting(&line.config.name), value: Some(value.to_owned()) };
            self.outputs.push_back(Output::Keep(setting));
        }
        Ok(Reply::Done)
    }

    pub(super) fn known_line(&self, name: &str) -> Result<&Line, Refusal> {
        self.line(name).ok_or_else(|| {
            let known: Vec<_> = self.lines.iter().map(|line| line.config.name.as_str()).collect();
            let hint = if known.is_empty() {
                "no line is configured".to_owned()
            } else {
                format!("lines are: {}", known.join(", "))
            };
            Refusal::new(Blame::NotFound, "no_such_line", format!("there is no line `{name}`"), hint)
        })
    }
}

/// The proxy by which a flow of a line leads.
pub(super) fn proxy(line: &config::Line, number: u8) -> Option<&config::SipUri> {
    let index = usize::from(number.saturating_sub(FIRST));
    line.outbound_proxy.as_ref().and_then(|proxies| proxies.0.get(index))
}

/// The SIP side of a line's settings, once for each of its proxies.
pub(super) fn accounts<'a>(
    line: &'a config::Line,
    trusted: &'a config::Trusted,
) -> impl Iterator<Item = Account> + 'a {
    let numbers =
        [FIRST, SECOND].into_iter().filter(|number| *number == FIRST || proxy(line, *number).is_some());
    numbers.map(|number| account(line, number, trusted))
}

/// The SIP side of the settings of a flow of a line.
pub(super) fn account(line: &config::Line, number: u8, trusted: &config::Trusted) -> Account {
    let mut account = Account::new(address(&line.user, &line.domain));
    account.reg_id = number;
    account.standby = number != FIRST;
    if number != FIRST {
        // Under one name a registrar without outbound would take both for one, and forget both at once.
        account.contact_user = Some(format!("{}~{number}", line.user));
    }
    account.display_name = line.display_name.clone();
    account.registrar = line.registrar.as_ref().and_then(sip_uri);
    account.outbound_proxy = proxy(line, number).and_then(sip_uri);
    account.credentials = (!line.password.is_empty()).then(|| Credentials {
        user: line.auth_user.clone().unwrap_or_else(|| line.user.clone()),
        password: line.password.reveal().to_owned(),
        realm: line.realm.clone(),
    });
    account.transports = line
        .transport
        .0
        .iter()
        .map(|transport| match transport {
            config::Transport::Udp => Transport::Udp,
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Tls => Transport::Tls,
            config::Transport::Wss => Transport::Wss,
        })
        .collect();
    account.websocket = line.websocket.as_ref().map(|url| {
        let (host, port) = url.host_and_port();
        Authority { host: host.to_ascii_lowercase(), address: parse_address(host), port }
    });
    account.register = line.register;
    account.expires = line.expires;
    account.subscribe_mwi = line.subscribe_mwi && number == FIRST;
    account.trust = match trusted {
        config::Trusted::Registered => Trust::Registered,
        config::Trusted::Networks(networks) => Trust::Networks(
            networks
                .iter()
                .map(|network| Network { address: network.address, prefix: network.prefix })
                .collect(),
        ),
    };
    account.calls = CallSettings {
        prack: match line.prack {
            config::Policy::Off => Prack::Off,
            config::Policy::Optional => Prack::Supported,
            config::Policy::Required => Prack::Required,
        },
        session_timer: if line.session_timer.is_zero() { SessionTimer::Off } else { SessionTimer::Supported },
        session_expires: line.session_timer.max(SHORTEST_SESSION),
        ..CallSettings::default()
    };
    account
}

/// The address of a user at the line's domain, which may name a port.
pub(super) fn address(user: &str, domain: &config::Domain) -> SipUri {
    let known = HostPort::parse(domain.as_str());
    let HostPort { host, port } =
        known.unwrap_or_else(|| HostPort { host: Host::Name(domain.as_str().to_owned()), port: None });
    SipUri::new(Some(user), host).with_port(port)
}

fn sip_uri(text: &config::SipUri) -> Option<SipUri> {
    match Uri::parse(text.as_str()) {
        Ok(Uri::Sip(uri)) => Some(uri),
        _ => None,
    }
}

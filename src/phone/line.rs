//! One line: its configuration, its account at the user agent, and how its registration stands.

use std::net::SocketAddr;

use super::command::{Blame, Outcome, Refusal, Reply};
use super::reach::Reach;
use super::snapshot::LineView;
use super::{Output, Phone, Remembered, dnd_setting, transport_setting};
use crate::config;
use crate::events::store::{Binding, Write};
use crate::events::{Cause, EndedBy, Event, Kind, Mailbox};
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
    pub account: AccountId,
    pub state: RegistrationState,
    /// When the registration was granted last.
    pub granted: Option<Now>,
    pub dnd: bool,
    /// What waits in its mailbox, as told last.
    pub mailbox: Option<Mailbox>,
    /// Whether its server proved a wrong password last.
    unproven: bool,
    /// What the credentials were refused with.
    pub refused: Option<String>,
    /// Whether `line.registered` was the last thing told.
    told_registered: bool,
    /// The transport that was told with it.
    told_transport: Option<Transport>,
    /// What the line was last told to fail with: an outage is one event, not one for each attempt.
    told_failing: Option<(Option<u16>, String)>,
}

impl Line {
    /// Whether the line has said how it is since it was set up.
    pub fn is_settled(&self) -> bool {
        !self.config.register || !matches!(self.state, RegistrationState::Registering)
    }

    /// Whether it waits to try again.
    pub fn is_failing(&self) -> bool {
        matches!(self.state, RegistrationState::Failing { .. })
    }

    /// Whether calls can go out over it.
    pub fn is_usable(&self) -> bool {
        !self.config.register || matches!(self.state, RegistrationState::Registered { .. })
    }

    /// What is wrong with it, if something is.
    pub fn trouble(&self) -> Option<String> {
        let name = &self.config.name;
        match &self.state {
            RegistrationState::Failing { reason, .. } => {
                Some(format!("line {name}: {reason}; it is tried again"))
            }
            RegistrationState::Rejected { status, reason } => {
                Some(format!("line {name}: the PBX refuses it ({status} {reason}); {}", cure(*status)))
            }
            _ => None,
        }
    }

    pub fn view(&self, now: Now, agent: &UserAgent, reach: &Reach) -> LineView {
        let (state, reason) = match &self.state {
            _ if !self.config.register => ("off", None),
            RegistrationState::Registering => ("registering", None),
            RegistrationState::Registered { .. } => {
                ("registered", self.unproven.then(|| UNPROVEN.to_owned()))
            }
            RegistrationState::Failing { reason, .. } => ("retrying", Some(reason.clone())),
            RegistrationState::Rejected { status, reason } => {
                ("rejected", Some(format!("{status} {reason}")))
            }
            RegistrationState::Unregistered => ("unregistered", None),
        };
        let expires_s = match (&self.state, self.granted) {
            (RegistrationState::Registered { expires, .. }, Some(granted)) => {
                Some(expires.saturating_sub(now.since(granted.mono_us)).as_secs())
            }
            _ => None,
        };
        let kept = reach.kept(now, self.account);
        LineView {
            name: self.config.name.clone(),
            aor: format!("sip:{}", self.config.address()),
            state,
            reason: self.refused.clone().or(reason),
            via: agent.server(self.account).map(|(transport, address)| format!("{transport}:{address}")),
            keep_alive: kept.way,
            keep_alive_s: kept.every.map(|every| (every.as_secs_f64() * 10.0).round() / 10.0),
            heard_s: kept.heard.map(|heard| heard.as_secs()),
            expires_s,
            dnd: self.dnd,
            voicemail: self.mailbox.clone(),
        }
    }
}

/// What it means that a server's proof is wrong, and what to do.
const UNPROVEN: &str = "the server proves another password (rspauth); \
                        compare the passwords of both sides, or use transport \"tls\"";

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
        let mut account = account(&config, &self.config.sip.trusted);
        // A contact under another address of record is somebody else's by now.
        let last = remembered.settings.get(&transport_setting(&config.name));
        account.last_transport = last.and_then(|name| Transport::of_name(name));
        account.old_binding = remembered
            .bindings
            .iter()
            .find(|binding| binding.line == config.name && binding.address == config.address())
            .map(|binding| binding.contact.clone());
        account.instance = Some(self.instance.clone());
        let nat = config.nat.clone();
        let account = self.agent.add_account(now, account);
        self.reach.configure(now, account, &nat);
        self.lines.push(Line {
            config,
            account,
            state: RegistrationState::Registering,
            granted: None,
            dnd,
            mailbox: None,
            unproven: false,
            refused: None,
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
        self.config = config.clone();
        for index in (0..self.lines.len()).rev() {
            let name = self.lines[index].config.name.clone();
            match config.line.iter().find(|line| line.name == name && line.enabled) {
                Some(new) if same_trust && *new == self.lines[index].config => {}
                Some(new) => {
                    let mut account = account(new, &config.sip.trusted);
                    account.instance = Some(self.instance.clone());
                    let line = &mut self.lines[index];
                    if line.config.address() != new.address() {
                        line.mailbox = None;
                    }
                    self.reach.configure(now, line.account, &new.nat);
                    self.agent.replace_account(now, line.account, account);
                    line.dnd = if line.config.dnd == new.dnd { line.dnd } else { new.dnd };
                    line.config = new.clone();
                    line.refused = None;
                    line.unproven = false;
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
                    self.reach.remove(now, line.account);
                    self.agent.remove_account(now, line.account);
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
        self.lines.sort_by_key(|line| order(&line.config.name));
        self.outputs.push_back(Output::Media(crate::media::Command::Country(config.device.country.clone())));
        self.tell(now, Event::new(Kind::ConfigApplied { file, changed, removed, warnings }));
    }

    pub(super) fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.config.name == name)
    }

    pub(super) fn line_of_account(&self, account: AccountId) -> Option<&Line> {
        self.lines.iter().find(|line| line.account == account)
    }

    /// The line that a message belongs to: the only one at that peer, or the one whose address the message names.
    pub(super) fn line_of_message(&self, peer: SocketAddr, message: &[u8]) -> Option<&Line> {
        let at_peer = || {
            self.lines
                .iter()
                .filter(|line| self.agent.server(line.account).is_some_and(|(_, server)| server == peer))
        };
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
        let Some(index) = self.lines.iter().position(|line| line.account == account) else { return };
        let server = self.agent.server(account);
        let line = &mut self.lines[index];
        let name = line.config.name.clone();
        line.state = state.clone();
        let event = match state {
            RegistrationState::Registering => None,
            RegistrationState::Registered { expires, binding, .. } => {
                line.granted = Some(now);
                line.refused = None;
                let transport = server.map(|(transport, _)| transport);
                let moved = transport.is_some() && line.told_transport != transport;
                if moved && line.config.transport.0.len() > 1 {
                    let value = transport.map(|transport| transport.to_string());
                    let kept = Write::Setting { name: transport_setting(&name), value };
                    self.outputs.push_back(Output::Keep(kept));
                }
                line.told_transport = transport.or(line.told_transport);
                let first = !std::mem::replace(&mut line.told_registered, true) || moved;
                line.told_failing = None;
                let address = line.config.address();
                let kept = Binding { line: name.clone(), address, contact: binding.clone() };
                self.keep(Write::Binding(kept));
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
                self.keep(Write::Unbound { line: name.clone() });
                let cause = Cause { by: Some(EndedBy::Local), ..Cause::default() };
                Some(Kind::LineUnregistered { line: name, cause, retry_us: None })
            }
        };
        if let Some(kind) = event {
            self.tell(now, Event::new(kind));
        }
    }

    pub(super) fn authentication_failed(&mut self, account: AccountId, realm: &str, why: &str) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.account == account) {
            line.refused = Some(format!("realm {realm}: {why}"));
        }
    }

    /// The line's server has proved a wrong password, or the right one again.
    pub(super) fn server_proof(&mut self, now: Now, account: AccountId, remote: SocketAddr, right: bool) {
        let Some(line) = self.lines.iter_mut().find(|line| line.account == account) else { return };
        line.unproven = !right;
        if !right {
            let kind = Kind::AuthFailed {
                interface: "sip".to_owned(),
                from: remote.to_string(),
                user: None,
                line: Some(line.config.name.clone()),
                text: Some(UNPROVEN.to_owned()),
                attempts: 1,
            };
            self.tell(now, Event::new(kind));
        }
    }

    pub(super) fn register(&mut self, now: Now, name: &str) -> Outcome {
        let account = self.known_line(name)?.account;
        self.agent.register(now, account);
        Ok(Reply::Done)
    }

    pub(super) fn unregister(&mut self, now: Now, name: &str) -> Outcome {
        let account = self.known_line(name)?.account;
        self.agent.unregister(now, account);
        Ok(Reply::Done)
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

/// The SIP side of a line's settings.
pub(super) fn account(line: &config::Line, trusted: &config::Trusted) -> Account {
    let mut account = Account::new(address(&line.user, &line.domain));
    account.display_name = line.display_name.clone();
    account.registrar = line.registrar.as_ref().and_then(sip_uri);
    account.outbound_proxy = line.outbound_proxy.as_ref().and_then(sip_uri);
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
    account.subscribe_mwi = line.subscribe_mwi;
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

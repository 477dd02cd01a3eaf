//! What `tipring check --resolve` asks of the world: where a line's servers are, whether each of them answers, and
//! whether the registrar takes the user and the password.
//!
//! [`Inspection`] is a state machine like the phone, around a user agent of its own: the same look-ups, connections and
//! digest as in a call, but one question to one server at a time. Nothing is changed by it: OPTIONS asks for nothing, and
//! a REGISTER without Contact only fetches the bindings that are there (RFC 3261 §10.2.3). A password is shown once, so
//! that nobody is locked out by a check. What came of it is a [`LineReport`].

mod report;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use report::{Answer, LineReport, Password, ServerReport};
pub(super) use report::{SOON_US, date};

use super::{flow, line};
use crate::chance::Chance;
use crate::config::{self, Config};
use crate::now::{Now, earliest};
use crate::sip::account::{Account, Credentials, Settings};
use crate::sip::handle::{AccountId, RequestId};
use crate::sip::locate::{Destination, Target};
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::{Input, LookupError, Output, Question, RecordData, Transport};
use crate::sip::ua_event::{Event, Failure};
use crate::sip::uri::{SipUri, Uri};
use crate::sip::user_agent::UserAgent;

/// How long an answer to one question is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Servers of one line that are asked.
const MOST_SERVERS: usize = 8;
/// Lines that are looked at together: a PBX with many lines is not to be flooded by a check.
const TOGETHER: usize = 8;
/// Lines whose other ways are looked at.
const MOST_OTHERS: usize = 8;
/// Names of servers that are remembered.
const MOST_NAMES: usize = 1024;

/// The look at all lines of a configuration.
pub struct Inspection {
    agent: UserAgent,
    chance: Chance,
    lines: Vec<Inspected>,
    /// The names that address records were asked for, by query.
    asked: BTreeMap<u64, String>,
    names: HashMap<IpAddr, String>,
}

/// One line of the configuration.
struct Inspected {
    config: config::Line,
    settings: Account,
    account: Option<AccountId>,
    step: Step,
    report: LineReport,
}

enum Step {
    Waiting,
    Locating,
    /// OPTIONS is out to every server.
    Asking {
        until: u64,
        requests: Vec<(RequestId, usize)>,
    },
    /// REGISTER is out to one of them.
    Fetching {
        until: u64,
        request: RequestId,
        server: usize,
        /// Why the credentials were refused.
        refused: Option<String>,
    },
    Done,
}

impl Inspection {
    /// Begins with the enabled lines; of one with two proxies there are two reports. `udp` is the SIP socket as bound.
    pub fn new(now: Now, config: &Config, udp: SocketAddr, chance: Chance) -> Inspection {
        let lines = config.line.iter().enumerate().filter(|(_, line)| line.enabled);
        let lines = lines.flat_map(|(index, line)| {
            line::accounts(line, &config.sip.trusted).map(move |account| (index, line, account))
        });
        Inspection::of(now, config, lines.collect(), udp, chance)
    }

    /// Begins with the ways that the enabled lines may not use: the reports have no password in them, and there may be
    /// two of one line.
    pub fn of_other_ways(now: Now, config: &Config, udp: SocketAddr, chance: Chance) -> Inspection {
        let lines = config.line.iter().enumerate().filter(|(_, line)| line.enabled).take(MOST_OTHERS);
        let others = lines.flat_map(|(index, line)| {
            let account = line::account(line, flow::FIRST, &config.sip.trusted);
            [false, true].into_iter().filter_map(move |secure| {
                let line = config::Line { register: false, ..line.clone() };
                Some((index, line, other_ways(&account, secure)?))
            })
        });
        let others: Vec<_> = others.collect();
        let lines = others.iter().map(|(index, line, account)| (*index, line, account.clone()));
        Inspection::of(now, config, lines.collect(), udp, chance)
    }

    fn of(
        now: Now,
        config: &Config,
        lines: Vec<(usize, &config::Line, Account)>,
        udp: SocketAddr,
        mut chance: Chance,
    ) -> Inspection {
        let settings = Settings {
            user_agent: config.sip.user_agent.clone().unwrap_or_else(|| Settings::default().user_agent),
            udp: vec![udp],
            ..Settings::default()
        };
        let lines = lines.into_iter().map(|(index, line, mut settings)| {
            settings.register = false;
            let destination = shown(&settings.destination());
            Inspected {
                config: line.clone(),
                settings,
                account: None,
                step: Step::Waiting,
                report: LineReport::new(line.name.clone(), index, destination),
            }
        });
        let mut inspection = Inspection {
            lines: lines.collect(),
            agent: UserAgent::new(settings, chance.fork()),
            chance,
            asked: BTreeMap::new(),
            names: HashMap::new(),
        };
        inspection.settle(now);
        inspection
    }

    /// The lines that have been begun, and their accounts at the border.
    pub fn accounts(&self) -> impl Iterator<Item = (&config::Line, AccountId)> {
        self.lines.iter().filter_map(|line| Some((&line.config, line.account?)))
    }

    /// Something came in.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if let Input::Answer { query, result } = &input
            && let Some(name) = self.asked.remove(query)
        {
            for record in result.iter().flatten() {
                if let RecordData::Address(address) = record.data
                    && self.names.len() < MOST_NAMES
                {
                    self.names.insert(address, name.clone());
                }
            }
        }
        self.agent.handle(now, input);
        self.settle(now);
    }

    /// The certificate of the server at this address has been checked, and ends at this time (UTC, microseconds).
    pub fn handle_certificate(&mut self, remote: SocketAddr, until_utc_us: i64) {
        for server in self.lines.iter_mut().flat_map(|line| &mut line.report.servers) {
            if server.address == remote {
                server.certificate_until_utc_us = Some(until_utc_us);
            }
        }
    }

    /// Deadlines may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.agent.handle_timeout(now);
        for index in 0..self.lines.len() {
            match &self.lines[index].step {
                Step::Asking { until, .. } if *until <= now.mono_us => self.fetch(now, index),
                Step::Fetching { until, server, .. } if *until <= now.mono_us => {
                    let server = *server;
                    self.fetched(now, index, server, None, Err(Failure::Timeout));
                }
                _ => {}
            }
        }
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due (µs of the monotonic clock).
    pub fn poll_timeout(&self) -> Option<u64> {
        let steps = self.lines.iter().filter_map(|line| match line.step {
            Step::Asking { until, .. } | Step::Fetching { until, .. } => Some(until),
            _ => None,
        });
        earliest(self.agent.poll_timeout(), steps.min())
    }

    /// What the machine is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.agent.poll_output()?;
        if let Output::Query { query, question: Question::A(name) | Question::Aaaa(name), .. } = &output {
            self.asked.insert(*query, name.clone());
        }
        Some(output)
    }

    /// Nobody waits any longer: who has not answered by now is taken for silent.
    pub fn give_up(&mut self, now: Now) {
        for line in &mut self.lines {
            match std::mem::replace(&mut line.step, Step::Done) {
                Step::Waiting | Step::Locating => line.report.unlocated = Some(LookupError::Timeout),
                Step::Asking { .. } => {
                    for server in &mut line.report.servers {
                        server.answer.get_or_insert(Answer::Failure(Failure::Timeout));
                    }
                }
                Step::Fetching { .. } | Step::Done => {}
            }
        }
        self.settle(now);
    }

    /// What came of it, in the order of the file; `None` until everything has been asked.
    pub fn reports(&self) -> Option<Vec<&LineReport>> {
        let done = self.lines.iter().all(|line| matches!(line.step, Step::Done));
        done.then(|| self.lines.iter().map(|line| &line.report).collect())
    }

    fn settle(&mut self, now: Now) {
        loop {
            while let Some(event) = self.agent.poll_event() {
                self.handle_agent(now, event);
            }
            let busy = |line: &Inspected| !matches!(line.step, Step::Waiting | Step::Done);
            let free = self.lines.iter().filter(|line| busy(line)).count() < TOGETHER;
            let next = self.lines.iter().position(|line| matches!(line.step, Step::Waiting));
            let Some(next) = next.filter(|_| free) else { return };
            let line = &mut self.lines[next];
            // A challenge of OPTIONS is an answer, too; the password is kept for the REGISTER.
            let account = Account { credentials: None, ..line.settings.clone() };
            let account = self.agent.add_account(now, account);
            line.account = Some(account);
            line.step = Step::Locating;
            self.agent.look_up(now, account);
        }
    }

    fn handle_agent(&mut self, now: Now, event: Event) {
        match event {
            Event::Servers { account, result } => {
                let located =
                    |line: &Inspected| line.account == Some(account) && matches!(line.step, Step::Locating);
                if let Some(index) = self.lines.iter().position(located) {
                    self.located(now, index, result);
                }
            }
            Event::Response { request, result } => self.answered(now, request, result),
            Event::AuthenticationFailed { account, why, .. } => {
                for line in self.lines.iter_mut().filter(|line| line.account == Some(account)) {
                    if let Step::Fetching { refused, .. } = &mut line.step {
                        *refused = Some(why.clone());
                    }
                }
            }
            _ => {}
        }
    }

    fn located(&mut self, now: Now, index: usize, result: Result<Vec<Target>, LookupError>) {
        let line = &mut self.lines[index];
        let mut targets = match result {
            Ok(targets) => targets,
            Err(error) => {
                line.report.unlocated = Some(error);
                line.step = Step::Done;
                return;
            }
        };
        targets.truncate(MOST_SERVERS);
        let Some(account) = line.account else { return };
        let names = &self.names;
        line.report.servers = targets
            .iter()
            .map(|target| ServerReport {
                transport: target.transport,
                address: target.remote,
                name: names.get(&target.remote.ip()).cloned(),
                answer: None,
                certificate_until_utc_us: None,
                ahead_s: None,
                target: target.clone(),
            })
            .collect();
        let settings = line.settings.clone();
        let mut requests = Vec::new();
        for (server, target) in targets.into_iter().enumerate() {
            let to = NameAddr::new(settings.registrar_uri());
            let request = self.request(Method::OPTIONS, &settings, to);
            requests.push((self.agent.send_request_to(now, account, request, target), server));
        }
        self.lines[index].step = Step::Asking { until: now.deadline(PATIENCE), requests };
    }

    fn request(&mut self, method: Method, settings: &Account, to: NameAddr) -> Request {
        let from = NameAddr::new(Uri::Sip(settings.aor.clone())).with_tag(&self.chance.token(8));
        Request::new(method, settings.registrar_uri(), from, to, &self.chance.token(16), FIRST)
    }

    fn answered(&mut self, now: Now, id: RequestId, result: Result<Box<Response>, Failure>) {
        for index in 0..self.lines.len() {
            match &mut self.lines[index].step {
                Step::Asking { requests, .. } => {
                    let Some(at) = requests.iter().position(|(request, _)| *request == id) else { continue };
                    let (_, server) = requests.remove(at);
                    let over = requests.is_empty();
                    if let Some(server) = self.lines[index].report.servers.get_mut(server) {
                        server.note_time(now, &result);
                        server.answer = Some(match result {
                            Ok(response) => Answer::Status(response.status),
                            Err(failure) => Answer::Failure(failure),
                        });
                    }
                    if over {
                        self.fetch(now, index);
                    }
                    return;
                }
                Step::Fetching { request, server, refused, .. } if *request == id => {
                    let (server, refused) = (*server, refused.take());
                    self.fetched(now, index, server, refused, result);
                    return;
                }
                _ => {}
            }
        }
    }

    /// All servers have had their time. The first one that answered, or else one that was only silent (some answer
    /// nothing but what they are there for), is asked about the user.
    fn fetch(&mut self, now: Now, index: usize) {
        let line = &mut self.lines[index];
        line.step = Step::Done;
        for server in &mut line.report.servers {
            server.answer.get_or_insert(Answer::Failure(Failure::Timeout));
        }
        let answers = |server: &ServerReport| matches!(server.answer, Some(Answer::Status(_)));
        let silent = |server: &ServerReport| server.answer == Some(Answer::Failure(Failure::Timeout));
        let servers = &line.report.servers;
        let chosen = servers.iter().position(answers).or_else(|| servers.iter().position(silent));
        let (Some(server), Some(account), true) = (chosen, line.account, line.config.register) else {
            return;
        };
        let Some(target) = servers.get(server).map(|server| server.target.clone()) else { return };
        let settings = line.settings.clone();
        self.agent.replace_account(now, account, settings.clone());
        let to = NameAddr::new(Uri::Sip(settings.aor.clone()));
        let request = self.request(Method::REGISTER, &settings, to);
        let request = self.agent.send_request_to(now, account, request, target);
        let until = now.deadline(PATIENCE);
        self.lines[index].step = Step::Fetching { until, request, server, refused: None };
    }

    fn fetched(
        &mut self,
        now: Now,
        index: usize,
        server: usize,
        refused: Option<String>,
        result: Result<Box<Response>, Failure>,
    ) {
        let line = &mut self.lines[index];
        line.step = Step::Done;
        if let Some(server) = line.report.servers.get_mut(server) {
            server.note_time(now, &result);
        }
        let Ok(response) = result else { return };
        if let Some(server) = line.report.servers.get_mut(server) {
            server.answer = Some(Answer::Status(response.status));
        }
        let credentials: Option<&Credentials> = line.settings.credentials.as_ref();
        // The number counts up with each challenge that is answered.
        let shown = response.head.cseq.number > FIRST;
        let answer = || format!("{} {}", response.status, response.reason).trim_end().to_owned();
        line.report.password = match (response.status, refused) {
            (200..300, _) if shown => Password::Right,
            (200..300, _) => Password::NotNeeded,
            (401 | 407, Some(why)) => Password::Wrong(why),
            (401 | 407, None) if credentials.is_none() => Password::Missing,
            (403 | 404 | 604, _) => Password::Refused(answer()),
            _ => Password::Untested(answer()),
        };
    }
}

/// The address of record of a line.
pub fn address_of(line: &config::Line) -> SipUri {
    line::address(&line.user, &line.domain)
}

/// The account of a line for the transports of one kind that the line may not use; `None` if it may use them all.
fn other_ways(account: &Account, secure: bool) -> Option<Account> {
    let is_own = |transport: &Transport| account.transports.contains(transport);
    let mut others: Vec<Transport> =
        Transport::ALL.into_iter().filter(|transport| transport.is_secure() == secure).collect();
    // Where a WebSocket is can't be guessed.
    others.retain(|transport| {
        !is_own(transport) && (*transport != Transport::Wss || account.websocket.is_some())
    });
    // A port that is named is that of the transports it was written for.
    let same_kind = account.transports.iter().any(|transport| transport.is_secure() == secure);
    let mut other = Account { transports: others, credentials: None, ..account.clone() };
    let uris = [other.outbound_proxy.as_mut(), other.registrar.as_mut(), Some(&mut other.aor)];
    for uri in uris.into_iter().flatten() {
        uri.secure = false;
        uri.port = uri.port.filter(|_| same_kind);
    }
    (!other.transports.is_empty()).then_some(other)
}

/// The first CSeq number of a request.
const FIRST: u32 = 1;

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

/// Whom a line's requests are for first, as people write it.
fn shown(destination: &Destination) -> String {
    match destination.port {
        Some(port) => format!("{}:{port}", destination.host),
        None => destination.host.clone(),
    }
}

#[cfg(test)]
mod tests;

//! The application: lines, calls, limits, features. The only room that knows what a call is.
//!
//! [`Phone`] is a state machine like all others: [`Input`] goes in with the time, [`Output`] comes out, and what happened
//! is told as numbered events. It owns the SIP user agent and gives orders to the media engine; it opens no socket, reads
//! no file and knows no HTTP. Its parts are:
//!
//! * [`command`] what people and programs ask, [`desk`] the counter where they ask it, [`snapshot`] what they see;
//! * `instance` who this device is to registrars;
//! * `line`, `flow`, `call` the state of one line, of a way to its registrar and of one call, `mailbox` what waits for a line;
//! * [`reach`] keeps lines reachable behind NATs; `paths` where audio can come, `restart` where else when that breaks;
//! * `outgoing`, `incoming`, `session`, `ending` the life of a call, in that order; `features` what is done during it;
//!   `auto_answer` when nobody has to take it, `rating` what the far end says of it afterwards;
//! * [`agent`] whether somebody is there for the calls of a line;
//! * `party` who calls whom, as the PBX tells it, and `lookup` as another system does;
//! * `extension` who may get a call that comes in instead of this device;
//! * `transfer` giving calls away, `referred` being given away, `replaced` somebody else in the place of the far end, `whole` what several legs come to;
//! * `callback` two that are rung one after the other and joined in a `bridge`; `sticky` callers who get their extension back;
//! * `tones` what the person at the device hears besides the calls;
//! * [`routing`] what becomes of a dialled number; `limits` the one guard that every call passes;
//! * [`inspection`] the look at lines and their servers before there is a phone, [`diagnosis`] what stands between both;
//! * `media_plan` the words of SDP turned into those of the engine; [`trace`] the last SIP messages.

pub mod agent;
mod auto_answer;
mod bridge;
mod call;
mod callback;
pub mod command;
pub mod desk;
pub mod diagnosis;
mod dial_string;
mod ending;
mod extension;
mod features;
mod flow;
mod help;
mod incoming;
pub mod inspection;
mod instance;
mod limits;
mod line;
mod lookup;
mod mailbox;
mod media_plan;
mod outgoing;
mod party;
mod paths;
mod rating;
pub mod reach;
mod referred;
mod remembered;
mod replaced;
mod restart;
pub mod routing;
mod rtcp_path;
mod session;
pub mod snapshot;
mod sticky;
mod tones;
pub mod trace;
mod transfer;
mod whole;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use call::Call;
use command::{Blame, Command, Outcome, Refusal, Reply};
use limits::Guard;
use line::Line;
use lookup::Lookup;
use reach::Reach;
pub use remembered::Remembered;
use remembered::{dnd_setting, transport_setting};
use snapshot::Snapshot;
use trace::{Border, Tracer};

use crate::chance::Chance;
use crate::config::{self, Config};
use crate::events::cloud_event::rfc3339;
use crate::events::lookup::{Answer, Failure, Question};
use crate::events::store::{Entry, Recall, Usage, Write};
use crate::events::{Cause, Event, Kind, Origin, Recorder};
use crate::media::{self, PortId};
use crate::now::{Now, earliest};
use crate::sip::account::Settings;
use crate::sip::handle::AccountId;
use crate::sip::network;
use crate::sip::ua_event;
use crate::sip::user_agent::UserAgent;

/// How long an orderly end may take before the rest is left to the far ends' timers.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What the phone is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Something at the SIP border.
    Sip(network::Input<'a>),
    /// Something the media engine says.
    Media(media::Event),
    /// A pair of RTP sockets is open and free.
    Port {
        /// Its name.
        port: PortId,
        /// The UDP port of RTP.
        number: u16,
    },
    /// A part of the device works, or does not: `sound`, `store`, `recordings`, `clock`, `ports`, `dtls`.
    Part {
        /// Which.
        part: &'static str,
        /// What is wrong and what to do; `None` when it works.
        trouble: Option<(String, String)>,
    },
    /// A recording has been written.
    RecordingReady {
        /// The name it was given.
        recording: String,
        /// Its length in microseconds.
        duration_us: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A recording was deleted.
    RecordingDeleted {
        /// Its name.
        recording: String,
        /// `age` or `size`.
        reason: &'static str,
    },
    /// A configuration is in force from now on.
    Configured {
        /// The file it came from.
        file: String,
        /// The configuration.
        config: Box<Config>,
        /// Warnings it has.
        warnings: u32,
    },
    /// A new configuration was refused.
    ConfigRefused {
        /// The file.
        file: String,
        /// The mistakes, as people read them.
        findings: Vec<String>,
    },
    /// What came of a question who calls.
    Answered {
        /// The question.
        id: Uuid,
        /// What the system says, or why it says nothing.
        answer: Result<Answer, Failure>,
    },
    /// What the journal knows of a number.
    Recalled {
        /// The question.
        id: Uuid,
        /// The last calls, the newest first, each with its legs.
        calls: Vec<Vec<Entry>>,
    },
    /// Somebody was refused at the API.
    Intruder {
        /// `api` or `socket`.
        interface: String,
        /// Where from.
        from: String,
        /// The name that was given.
        user: Option<String>,
    },
    /// Something that others did is to be told: about an upstream, a recording.
    Tell(Box<Kind>),
    /// The addresses of the machine have changed.
    NetworkChanged {
        /// All of them.
        addresses: Vec<IpAddr>,
    },
    /// End in order.
    Stop,
}

/// What the phone asks of the machine.
#[derive(Debug)]
pub enum Output {
    /// Something at the SIP border.
    Sip(network::Output),
    /// An order to the media engine.
    Media(media::Command),
    /// Something to be kept for good: an event, which may leave the device once it is committed, a row of the journal,
    /// or what the next life must know.
    Keep(Write),
    /// Ask the system of `[lookup]`, and say with [`Input::Answered`] what came of it.
    Ask(Box<Question>),
    /// Ask the journal about a number, and say with [`Input::Recalled`] what it knows. There may be no answer.
    Recall(Box<Recall>),
    /// The recording with this number goes to a file of this name.
    Recording {
        /// As the engine numbers it.
        number: media::RecordingId,
        /// As events name it.
        recording: String,
    },
    /// Close this free port, and open another one as the configuration says now.
    Discard(PortId),
    /// The orderly end is complete.
    Stopped,
}

/// The phone.
pub struct Phone {
    config: Config,
    agent: UserAgent,
    reach: Reach,
    paths: paths::Paths,
    /// The URN that registrars know this device by.
    instance: String,
    lines: Vec<Line>,
    calls: Vec<Call>,
    callbacks: Vec<callback::Callback>,
    stickies: Vec<sticky::Sticky>,
    /// Legs that have ended of calls that have others.
    ended_legs: Vec<whole::EndedLeg>,
    ports: VecDeque<(PortId, u16)>,
    guard: Guard,
    lookup: Lookup,
    tracer: Tracer,
    recorder: Recorder,
    chance: Chance,
    outputs: VecDeque<Output>,
    next_number: u64,
    /// What was dropped of calls that are over.
    refused: call::Dropped,
    /// The last calls that were talked, newest first.
    talks: VecDeque<diagnosis::Talk>,
    started: Now,
    parts: BTreeMap<&'static str, (String, String)>,
    /// Leg and line of each recording whose file is not ready yet: its call may be over by then.
    recorded_legs: BTreeMap<String, (String, String)>,
    /// Parts that have said whether they work.
    heard_of: BTreeSet<&'static str>,
    tones: tones::Told,
    /// A new configuration that waits for the end of a call for help.
    postponed: Option<(String, Box<Config>, u32)>,
    stop_by: Option<u64>,
    stopped: bool,
    /// SHA-256 of the certificate that handshakes of media show.
    fingerprint: [u8; 32],
    /// The addresses of the machine that calls may be reached at.
    addresses: Vec<IpAddr>,
}

impl Phone {
    /// A phone with this configuration. `udp` is the SIP socket as bound, `tcp_port` the port that TCP is accepted on.
    pub fn new(
        now: Now,
        config: Config,
        udp: std::net::SocketAddr,
        tcp_port: Option<u16>,
        remembered: Remembered,
        mut chance: Chance,
    ) -> Phone {
        let settings = Settings {
            user_agent: config.sip.user_agent.clone().unwrap_or_else(|| Settings::default().user_agent),
            udp: vec![udp],
            tcp_port,
            trace: true,
            ..Settings::default()
        };
        let serial = config.device.serial.as_deref();
        let (instance, kept) = instance::instance(&remembered.settings, serial, &mut chance);
        let mut phone = Phone {
            instance,
            agent: UserAgent::new(settings, chance.fork()),
            reach: Reach::new(chance.fork()),
            paths: paths::Paths::default(),
            lines: Vec::new(),
            calls: Vec::new(),
            callbacks: Vec::new(),
            stickies: Vec::new(),
            ended_legs: Vec::new(),
            ports: VecDeque::new(),
            guard: Guard::new(&remembered.usage),
            lookup: Lookup::default(),
            tracer: Tracer::default(),
            recorder: Recorder::new(remembered.sequence, chance.fork()),
            chance,
            outputs: kept.into_iter().map(Output::Keep).collect(),
            next_number: 1,
            refused: call::Dropped::default(),
            talks: VecDeque::new(),
            started: now,
            parts: BTreeMap::new(),
            recorded_legs: BTreeMap::new(),
            heard_of: BTreeSet::new(),
            tones: tones::Told::default(),
            postponed: None,
            stop_by: None,
            stopped: false,
            fingerprint: [0; 32],
            addresses: Vec::new(),
            config,
        };
        phone.tell(
            now,
            Event::new(Kind::DeviceStarted {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                serial: phone.config.device.serial.clone().unwrap_or_default(),
                name: phone.config.device.name.clone(),
                clean: remembered.clean,
            }),
        );
        phone.outputs.push_back(Output::Media(media::Command::Country(phone.config.device.country.clone())));
        phone.tell_interrupted(now, remembered.interrupted.clone());
        for line in phone.config.line.clone() {
            phone.add_line(now, line, &remembered);
        }
        phone.settle(now);
        phone
    }

    /// The SHA-256 fingerprint of the certificate that the media engine has, for calls from now on.
    pub fn set_fingerprint(&mut self, fingerprint: [u8; 32]) {
        self.fingerprint = fingerprint;
    }

    /// The addresses of the machine at the start; changes come with [`Input::NetworkChanged`].
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
    }

    /// Takes what the machine says.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Sip(input) => self.agent.handle(now, input),
            Input::Media(event) => self.handle_media(now, event),
            Input::Port { port, number } => self.ports.push_back((port, number)),
            Input::Part { part, trouble } => self.handle_part(now, part, trouble),
            Input::RecordingReady { recording, duration_us, bytes } => {
                self.recording_ready(now, &recording, duration_us, bytes);
            }
            Input::RecordingDeleted { recording, reason } => {
                let kind = Kind::RecordingDeleted { recording_id: recording, reason: reason.to_owned() };
                self.tell(now, Event::new(kind));
            }
            Input::Configured { file, config, warnings } => self.postponed = Some((file, config, warnings)),
            Input::ConfigRefused { file, findings } => {
                self.tell(now, Event::new(Kind::ConfigRejected { file, findings }));
            }
            Input::Intruder { interface, from, user } => {
                let kind = Kind::AuthFailed { interface, from, user, line: None, text: None, attempts: 1 };
                self.tell(now, Event::new(kind));
            }
            Input::Answered { id, answer } => self.looked_up(now, id, answer),
            Input::Recalled { id, calls } => self.journal_says(now, id, &calls),
            Input::Tell(kind) => self.tell(now, Event::new(*kind)),
            Input::NetworkChanged { addresses } => {
                let told = addresses.iter().map(ToString::to_string).collect();
                self.addresses = addresses;
                self.tell(now, Event::new(Kind::NetworkChanged { addresses: told }));
                self.agent.network_changed(now);
                self.reach.handle_network_changed(now);
                self.restart_paths(now, None);
            }
            Input::Stop => self.stop(now),
        }
        self.settle(now);
    }

    /// Does what somebody asks, or says why not.
    pub fn command(&mut self, now: Now, command: Command, origin: Origin) -> Outcome {
        let outcome = self.obey(now, command, origin);
        self.settle(now);
        outcome
    }

    /// What the machine has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.agent.poll_output().map(Output::Sip))
    }

    /// When [`Phone::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let calls = self.calls.iter().filter_map(Call::poll_timeout).min();
        let reach = earliest(self.reach.poll_timeout(), self.poll_flows());
        let tones = earliest(self.tones.poll_timeout(), self.poll_callbacks());
        let own = earliest(earliest(calls, reach), tones);
        earliest(self.agent.poll_timeout(), earliest(own, self.stop_by.filter(|_| !self.stopped)))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.agent.poll_timeout().is_some_and(|due| due <= now.mono_us) {
            self.agent.handle_timeout(now);
        }
        self.reach.handle_timeout(now, &mut self.agent);
        self.handle_flow_timeouts(now);
        self.tones.handle_timeout(now);
        self.handle_call_timeouts(now);
        self.handle_callback_timeouts(now);
        self.settle(now);
    }

    /// The last SIP messages after `number`, of one line or one call if that is given.
    pub fn trace(&self, number: u64, line: Option<&str>, call: Option<&str>) -> Vec<trace::Traced> {
        let dialogs = call.map(|id| {
            let legs = self.calls.iter().filter(|call| call.id == id);
            let known = legs.filter_map(|call| call.facts.sip_call_id.as_deref());
            known.chain([id]).collect::<Vec<_>>()
        });
        self.tracer.after(number, line, dialogs.as_deref())
    }

    /// Everything there is to see.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            sequence: self.recorder.last(),
            version: env!("CARGO_PKG_VERSION"),
            name: self.config.device.name.clone().unwrap_or_default(),
            serial: self.config.device.serial.clone().unwrap_or_default(),
            started: rfc3339(self.started.utc_us),
            lines: self.lines.iter().map(|line| line.view(now, &self.agent, &self.reach)).collect(),
            calls: self.calls.iter().map(|call| call.view(now)).collect(),
            degraded: self.degraded(),
            dropped: self.dropped(),
        }
    }

    /// What a diagnosis wants to know of a running phone.
    pub fn told(&self, now: Now) -> diagnosis::Told {
        let lines = self.lines.iter().map(|line| line.view(now, &self.agent, &self.reach));
        diagnosis::Told {
            lines: lines.map(|view| (view.name.clone(), (&view).into())).collect(),
            calls: self.talks.iter().cloned().collect(),
            watched: self.reach.outside().map(|(address, changes)| diagnosis::Watched {
                address,
                changes,
                for_us: now.mono_us.saturating_sub(self.started.mono_us),
            }),
        }
    }

    /// The lines as configured, with each of their accounts at the user agent.
    pub fn accounts(&self) -> impl Iterator<Item = (&config::Line, AccountId)> {
        let of = |line: &'_ Line| line.flows().map(|flow| flow.account).collect::<Vec<_>>();
        self.lines
            .iter()
            .flat_map(move |line| of(line).into_iter().map(move |account| (&line.config, account)))
    }

    /// Whether every line and part has said how it is: the moment to tell the world "ready".
    pub fn is_settled(&self) -> bool {
        self.lines.iter().all(Line::is_settled) && self.heard_of.contains("sound")
    }

    /// What does not work as configured, one sentence each.
    pub fn degraded(&self) -> Vec<String> {
        let lines = self.lines.iter().filter_map(Line::trouble);
        let parts = self.parts.iter().map(|(part, (what, cure))| format!("{part}: {what}; {cure}"));
        lines.chain(parts).collect()
    }

    /// Handles what the agent has to say until it and its consequences are quiet, then tells the engine what follows.
    fn settle(&mut self, now: Now) {
        while let Some(event) = self.agent.poll_event() {
            self.reach.handle_event(now, &event, &mut self.agent);
            self.handle_agent(now, event);
        }
        while let Some(account) = self.reach.poll_changed() {
            self.restart_paths(now, Some(account));
        }
        while let Some((account, server)) = self.reach.poll_deputed() {
            self.ask_waiting(account, server);
        }
        while let Some(account) = self.reach.poll_lost() {
            self.flow_lost(now, account);
        }
        let helps = self.calls.iter().any(|call| call.emergency);
        if let Some((file, config, warnings)) = self.postponed.take_if(|_| !helps) {
            self.configure(now, file, *config, warnings);
            return self.settle(now);
        }
        self.place_legs();
        self.prepare_paths(now);
        self.sound(now);
        self.sound_callbacks();
        self.conclude(now);
    }

    fn handle_agent(&mut self, now: Now, event: ua_event::Event) {
        match event {
            ua_event::Event::Registration { account, state } => {
                self.handle_registration(now, account, &state)
            }
            ua_event::Event::AuthenticationFailed { account, realm, why } => {
                self.authentication_failed(account, &realm, &why);
            }
            ua_event::Event::ServerProof { account, remote, right } => {
                self.server_proof(now, account, remote, right);
            }
            ua_event::Event::MessageSummary { account, summary } => self.mail_waits(now, account, summary),
            ua_event::Event::Located { .. }
            | ua_event::Event::Servers { .. }
            | ua_event::Event::Answered { .. }
            | ua_event::Event::Pong { .. }
            | ua_event::Event::Asked { .. }
            | ua_event::Event::Unreachable { .. }
            | ua_event::Event::Stun { .. }
            | ua_event::Event::Request { .. }
            | ua_event::Event::Response { .. } => {}
            ua_event::Event::Resolved { name, addresses } => self.path_server_found(name, addresses),
            ua_event::Event::Call { call, event } => self.handle_call(now, call, event),
            ua_event::Event::Trace(trace) => {
                let line =
                    self.line_of_message(trace.remote, &trace.bytes).map(|line| line.config.name.clone());
                let border = Border {
                    line,
                    sent: trace.sent,
                    transport: trace.transport.to_string(),
                    local: trace.local,
                    remote: trace.remote,
                };
                self.tracer.keep(now, border, &trace.bytes);
            }
            ua_event::Event::Stopped => {
                if self.stop_by.is_some() {
                    self.stop_by = Some(now.mono_us);
                }
            }
        }
    }

    fn obey(&mut self, now: Now, command: Command, origin: Origin) -> Outcome {
        if self.stop_by.is_some() && command != Command::Status {
            return Err(Refusal::new(
                Blame::Environment,
                "stopping",
                "the phone is ending",
                "start it again before calling",
            ));
        }
        match command {
            Command::Call { to, line } => self.dial(now, &to, line.as_deref(), origin),
            Command::Callback(callback) => self.callback(now, callback, origin),
            Command::Answer { call } => self.answer(now, call.as_deref()),
            Command::HangUp { call } => self.hang_up(now, call.as_deref()),
            Command::Reject { call, status } => self.reject(now, call.as_deref(), status),
            Command::Hold { call } => self.hold(now, call.as_deref()),
            Command::Resume { call } => self.resume(now, call.as_deref()),
            Command::Mute { call, on } => self.mute(now, call.as_deref(), on),
            Command::Dtmf { call, digits } => self.dtmf(now, call.as_deref(), &digits),
            Command::Record { call, action } => self.record(now, call.as_deref(), action),
            Command::Transfer { call, to } => self.transfer(now, call.as_deref(), &to, origin),
            Command::Register { line } => self.register(now, &line),
            Command::Unregister { line } => self.unregister(now, &line),
            Command::DoNotDisturb { line, on } => self.do_not_disturb(now, line.as_deref(), on),
            Command::Agent { line, state } => self.agent_is(now, line.as_deref(), state),
            Command::Route { numbers, line } => self.routes(now, &numbers, line.as_deref()),
            Command::Status => Ok(Reply::Status(Box::new(self.snapshot(now)))),
        }
    }

    fn handle_part(&mut self, now: Now, part: &'static str, trouble: Option<(String, String)>) {
        self.heard_of.insert(part);
        match trouble {
            Some((what, cure)) => {
                let known = self.parts.insert(part, (what.clone(), cure.clone()));
                if known.as_ref() != Some(&(what.clone(), cure.clone())) {
                    self.tell(now, Event::new(Kind::DeviceDegraded { part: part.to_owned(), what, cure }));
                }
            }
            None => {
                if self.parts.remove(part).is_some() {
                    self.tell(now, Event::new(Kind::DeviceRecovered { part: part.to_owned() }));
                    if part == "clock" {
                        self.retry_lines(now);
                    }
                }
            }
        }
    }

    fn stop(&mut self, now: Now) {
        if self.stop_by.is_some() {
            return;
        }
        self.stop_by = Some(now.deadline(STOP_WITHIN));
        for index in 0..self.calls.len() {
            self.end_call(now, index, Some(Cause::local("the phone ended")));
        }
        self.agent.shutdown(now);
    }

    /// Reports the end once the agent is done and no call waits for its last figures, or time is up.
    fn conclude(&mut self, now: Now) {
        let Some(stop_by) = self.stop_by else { return };
        if !self.stopped && stop_by <= now.mono_us {
            for index in (0..self.calls.len()).rev() {
                self.finish_call(now, index);
            }
            self.stopped = true;
            self.outputs.push_back(Output::Stopped);
        }
    }

    /// How many of the calls that a line may have it has.
    fn calls_on(&self, line: &str) -> usize {
        self.calls.iter().filter(|call| call.facts.line == line && call.is_going_on()).count()
    }

    fn dropped(&self) -> BTreeMap<String, u64> {
        let counters = self.agent.counters();
        let mut refused = self.refused;
        self.calls.iter().for_each(|call| refused += call.path.refused());
        let dropped = [
            ("unreadable", counters.unreadable),
            ("untrusted", counters.untrusted),
            ("stray_responses", counters.stray_responses),
            ("stray_acks", counters.stray_acks),
            ("overflow", counters.overflow),
            ("refused_connections", counters.refused_connections),
            ("unanswered_challenges", counters.unanswered_challenges),
            ("refused_requests", counters.refused_requests),
            ("stray_stun", self.reach.strays()),
            ("rtp", refused.rtp),
            ("forged_stun", refused.stun),
            ("refused_candidates", refused.candidates),
            ("lost_consents", refused.consents),
        ];
        crate::order::gathered(dropped.map(|(name, count)| (name.to_owned(), count)))
    }

    fn tell(&mut self, now: Now, event: Event) {
        let recorded = self.recorder.record(now, event);
        self.keep(Write::Event(Box::new(recorded)));
    }

    fn keep(&mut self, write: Write) {
        self.outputs.push_back(Output::Keep(write));
    }

    fn keep_usage(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.keep(Write::Usage(usage));
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

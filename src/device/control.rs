//! The control thread: it owns the [`Phone`], and carries what the machine says to it and what it asks to the machine.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::media_thread::{self, MediaThread, PortRange};
use super::netlink::{LOOK_EVERY, Netlink, SETTLED_AFTER, Sleep, Surroundings};
use super::rtp_port::Binding;
use super::settings::{self, Settings, SettingsError};
use super::sip_network::{Reported, SipNetwork};
use super::sound_thread::{self, SoundThread};
use super::store_thread::{self, StoreThread};
use super::{clock, doctor, notify, relay_stream};
use crate::config::Config;
use crate::events::Kind;
use crate::events::lookup::{Failure, Question};
use crate::events::store::Write;
use crate::media;
use crate::now::{Now, earliest};
use crate::phone::command::{Blame, Refusal};
use crate::phone::desk::Wish;
use crate::phone::diagnosis::Diagnosis;
use crate::phone::{Input, Output, Phone};
use crate::sip::network;

/// The largest SIP datagram.
const DATAGRAM: usize = 65_535;
/// Notices of other threads that may wait.
const QUEUE: usize = 4096;
/// Datagrams taken before other work gets its turn.
const DATAGRAMS_PER_TURN: usize = 32;
/// Notices of other threads taken before other work gets its turn: at the start the first answer of the registrar comes
/// together with a dozen of them.
const NOTICES_PER_TURN: usize = 32;
/// So long the first answer of a registrar is waited for before anything else is begun; only one nearby is as quick.
const FIRST_ANSWER: Duration = Duration::from_millis(3);
/// How often a wrong clock is looked at when nothing else happens.
const CLOCK_CHECK: Duration = Duration::from_secs(2);
/// When the store is offered again what it had no room for.
const HAND_OVER: Duration = Duration::from_millis(20);

/// What other threads tell this one.
pub(super) enum Notice {
    Media(media_thread::Notice),
    Sound(sound_thread::Notice),
    Store(store_thread::Notice),
}

/// What is told to whoever started the appliance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Lines are registered and sound is open.
    Ready,
    /// Everything has been tried, and this does not work yet.
    Degraded(Vec<String>),
}

/// The parts that the control thread holds together.
pub(super) struct Control {
    pub file: PathBuf,
    pub phone: Phone,
    pub network: SipNetwork,
    pub reports: mpsc::Receiver<Reported>,
    pub media: MediaThread,
    pub sound: SoundThread,
    pub store: StoreThread,
    pub notices: mpsc::Receiver<Notice>,
    pub wishes: mpsc::Receiver<Wish>,
    pub config: Config,
    pub told_config: watch::Sender<Arc<Config>>,
    pub signals: Signals,
    pub told_tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// What is to be kept, and has not been handed to the store yet.
    pub later: Vec<Write>,
    /// Until then, or until somebody answers, the other threads are left alone: the processor belongs to the REGISTER.
    pub patience: Option<u64>,
    pub stopped: bool,
    /// Where the kernel tells of changes of the network, if it does.
    pub netlink: Option<Netlink>,
    pub surroundings: Surroundings,
    /// When the network is looked at.
    pub look_at: Option<u64>,
    pub sleep: Sleep,
    /// The clock was never set.
    pub clock_wrong: bool,
    pub told: Option<Progress>,
    /// Who asks other systems who calls, once somebody does.
    pub asker: Option<mpsc::Sender<Question>>,
    /// A diagnosis that is under way.
    pub examination: Option<tokio::task::JoinHandle<()>>,
}

/// What the system asks of a service.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes them over from the system; inside the runtime.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// The threads that are ended after the phone.
pub(super) struct Threads {
    pub media: MediaThread,
    pub sound: SoundThread,
    pub store: StoreThread,
}

/// A queue of notices into the control thread.
pub(super) fn notices() -> (mpsc::Sender<Notice>, mpsc::Receiver<Notice>) {
    mpsc::channel(QUEUE)
}

/// How SIP sockets are bound.
pub(super) fn binding(config: &Config, dscp: u8) -> Binding {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Binding { address: config.sip.bind.map_or(any, |address| address.0), dscp }
}

/// Where RTP sockets are opened.
pub(super) fn port_range(config: &Config) -> PortRange {
    let ports = config.rtp.ports;
    PortRange { binding: binding(config, config.rtp.dscp), first: ports.first, last: ports.last }
}

impl Control {
    /// Sends what the lines have to say first. Nothing else is as urgent: whoever calls this phone is waiting for it.
    fn begin(&mut self) {
        let now = clock::now();
        self.patience = Some(now.deadline(FIRST_ANSWER));
        // Something may have changed since the first look.
        self.look_at = Some(now.deadline(SETTLED_AFTER));
        self.phone.set_addresses(self.surroundings.reached_at(&self.config));
        self.believe();
        self.check_clock(now);
        self.drain();
    }

    /// Something came: once it has been answered, everything else has its turn.
    fn answered(&mut self) {
        self.patience = self.patience.map(|_| 0);
    }

    /// Begins with everything that the first REGISTER did not need: the sound device is probed, ports are opened, events
    /// are kept.
    fn begin_the_rest(&mut self) {
        self.patience = None;
        self.sound.order(sound_thread::Order::Open(self.config.audio.clone()));
        self.sound.order(sound_thread::Order::Shelf(self.shelf()));
        self.media.wake();
        self.drain();
    }

    /// Runs until the phone has ended in order; inside the runtime.
    pub async fn run(mut self: Box<Self>, mut progress: impl FnMut(Progress)) -> Threads {
        self.begin();
        // Not filled with zeros: of most of it no datagram ever makes use.
        let mut datagram = Vec::with_capacity(DATAGRAM);
        while !self.stopped {
            // A deadline does not wait for a pause in what comes in: timers of the event loop would.
            let now = clock::now();
            if self.patience.is_some_and(|until| until <= now.mono_us) {
                self.begin_the_rest();
            }
            self.check_clock(now);
            self.check_network(now);
            if self.phone.poll_timeout().is_some_and(|due| due <= now.mono_us) {
                self.phone.handle_timeout(now);
                self.drain();
            }
            let sleep = self.until_next();
            // In no order: a flood of datagrams must not lock out commands, signals and the other threads.
            tokio::select! {
                received = self.network.receive(&mut datagram) => self.datagrams(received, &mut datagram),
                Some(reported) = self.reports.recv() => self.reported(reported),
                () = told(self.netlink.as_ref()) => self.heard_of_a_change(),
                Some(notice) = self.notices.recv() => self.notices(notice),
                Some(wish) = self.wishes.recv() => self.wished(wish),
                () = tokio::time::sleep(sleep) => self.phone.handle_timeout(clock::now()),
                _ = self.signals.terminate.recv() => self.stop(),
                _ = self.signals.interrupt.recv() => self.stop(),
                _ = self.signals.hang_up.recv() => { let _ = self.reload(); }
            }
            self.drain();
            self.tell_progress(&mut progress);
        }
        Threads { media: self.media, sound: self.sound, store: self.store }
    }

    fn until_next(&self) -> Duration {
        let now = clock::now();
        let due = earliest(self.phone.poll_timeout(), earliest(self.look_at, self.patience));
        let due = due.unwrap_or(u64::MAX);
        // Nobody tells of a sleep of the machine, and deadlines do not count it: it is looked for.
        let longest = if self.clock_wrong { CLOCK_CHECK } else { LOOK_EVERY };
        let longest = if self.store.holds_back() { HAND_OVER } else { longest };
        Duration::from_micros(due.saturating_sub(now.mono_us)).min(longest)
    }

    fn datagrams(&mut self, first: Result<std::net::SocketAddr, Reported>, buffer: &mut Vec<u8>) {
        self.answered();
        let local = self.network.udp_local();
        let mut next = first;
        for _ in 0..DATAGRAMS_PER_TURN {
            match next {
                Ok(remote) => {
                    let input = network::Input::Datagram { local, remote, bytes: buffer };
                    self.phone.handle(clock::now(), Input::Sip(input));
                }
                Err(reported) => self.reported(reported),
            }
            match self.network.try_receive(buffer) {
                Some(remote) => next = Ok(remote),
                None => return,
            }
        }
    }

    fn notices(&mut self, first: Notice) {
        self.noticed(first);
        for _ in 1..NOTICES_PER_TURN {
            match self.notices.try_recv() {
                Ok(notice) => self.noticed(notice),
                Err(_) => return,
            }
        }
    }

    fn reported(&mut self, reported: Reported) {
        self.answered();
        self.network.note(&reported);
        self.phone.handle(clock::now(), Input::Sip(reported.input()));
    }

    fn noticed(&mut self, notice: Notice) {
        let now = clock::now();
        let input = match notice {
            Notice::Media(media_thread::Notice::Event(event)) => Input::Media(event),
            Notice::Media(media_thread::Notice::Port { port, number }) => {
                self.phone.handle(now, Input::Part { part: "ports", trouble: None });
                Input::Port { port, number }
            }
            Notice::Media(media_thread::Notice::Stream { stream, server, carriage }) => {
                let binding = binding(&self.config, self.config.rtp.dscp);
                return relay_stream::open(stream, server, carriage, binding, self.media.orders());
            }
            Notice::Media(media_thread::Notice::Identity(fingerprint)) => {
                return self.phone.set_fingerprint(fingerprint);
            }
            Notice::Media(media_thread::Notice::NoIdentity(failure)) => {
                let why = failure.to_string();
                let (what, cure) = why.split_once("; ").unwrap_or((&why, "use srtp_keys = \"sdes\""));
                part("dtls", what.to_owned(), cure)
            }
            Notice::Media(media_thread::Notice::NoPort(error)) => part(
                "ports",
                format!("no RTP port can be opened: {error}"),
                "widen [rtp] ports, or end the program that uses them",
            ),
            Notice::Media(media_thread::Notice::Quiet(quiet)) => {
                self.sound.order(sound_thread::Order::Quiet(quiet));
                return;
            }
            Notice::Sound(sound_thread::Notice::Opened { terminal, port }) => {
                self.media.order(media_thread::Order::Sound(port));
                self.media.order(media_thread::Order::Engine(media::Command::Terminal(terminal)));
                Input::Part { part: "sound", trouble: None }
            }
            Notice::Sound(sound_thread::Notice::Resting) => {
                self.media.order(media_thread::Order::Sound(None));
                return;
            }
            Notice::Sound(sound_thread::Notice::Failed(why)) => {
                self.media.order(media_thread::Order::Sound(None));
                let silent = media::Terminal::Timer {
                    rate: 8_000,
                    input: media::TerminalInput::Silence,
                    output: None,
                };
                self.media.order(media_thread::Order::Engine(media::Command::Terminal(silent)));
                let (what, cure) = why.split_once("; ").unwrap_or((why.as_str(), "see [audio]"));
                part("sound", what.to_owned(), cure)
            }
            Notice::Sound(sound_thread::Notice::Ready { name, duration_us, bytes }) => {
                self.phone.handle(now, Input::Part { part: "recordings", trouble: None });
                Input::RecordingReady { recording: name, duration_us, bytes }
            }
            Notice::Sound(sound_thread::Notice::Deleted { name, reason }) => {
                Input::RecordingDeleted { recording: name, reason }
            }
            Notice::Sound(sound_thread::Notice::Unwritten(why)) => {
                part("recordings", why, "make room, and check the folder's rights")
            }
            Notice::Store(store_thread::Notice::Recalled { id, calls }) => Input::Recalled { id, calls },
            Notice::Store(store_thread::Notice::Works) => Input::Part { part: "store", trouble: None },
            Notice::Store(store_thread::Notice::Fails { what, cure }) => part("store", what, &cure),
        };
        self.phone.handle(now, input);
    }

    fn wished(&mut self, wish: Wish) {
        match wish {
            Wish::Command { command, origin, reply } => {
                let outcome = self.phone.command(clock::now(), command, origin);
                // Who asked may have gone away meanwhile.
                let _ = reply.send(outcome);
            }
            Wish::Trace { after, line, call, reply } => {
                let _ = reply.send(self.phone.trace(after, line.as_deref(), call.as_deref()));
            }
            Wish::Intruder { interface, from, user } => {
                self.phone.handle(clock::now(), Input::Intruder { interface, from, user });
            }
            Wish::Tell(kind) => self.phone.handle(clock::now(), Input::Tell(kind)),
            Wish::AnswerQuestions(asker) => self.asker = Some(asker),
            Wish::Answered { id, answer } => {
                self.phone.handle(clock::now(), Input::Answered { id, answer });
            }
            Wish::Examine { lifetime, reply } => self.examine(lifetime, reply),
            Wish::Reload { reply } => {
                let _ = reply.send(self.reload());
            }
            Wish::Stop => self.stop(),
        }
    }

    /// Looks for what stands between this device and its PBX, beside everything else.
    // Not part of `wished`: every command would carry room for all of this on its stack.
    #[inline(never)]
    fn examine(
        &mut self,
        lifetime: Option<Duration>,
        reply: oneshot::Sender<Result<Box<Diagnosis>, Refusal>>,
    ) {
        if self.examination.as_ref().is_some_and(|task| !task.is_finished()) {
            let what = "a diagnosis is under way";
            let refusal = Refusal::new(Blame::State, "busy", what, "wait until it is done, and ask again");
            let _ = reply.send(Err(refusal));
            return;
        }
        let (config, told) = (self.config.clone(), self.phone.told(clock::now()));
        self.examination = Some(tokio::spawn(async move {
            let found = doctor::diagnose(&config, lifetime, Some(told)).await;
            let found = found.map(Box::new).map_err(|error| {
                let hint = "end programs that use the ports, or see the log of the system";
                Refusal::new(Blame::Environment, "no_sockets", error.to_string(), hint)
            });
            // Who asked may have gone away meanwhile.
            let _ = reply.send(found);
        }));
    }

    /// Reads the configuration again; with mistakes in it, the last good one stays.
    fn reload(&mut self) -> Result<(), Vec<String>> {
        notify::reloading();
        let file = self.file.display().to_string();
        let refused = match settings::load(&self.file) {
            Ok(Settings { config, findings, tls }) => match unchangeable(&self.config, &config) {
                None => {
                    // The files may be other ones under the same names: a certificate was renewed.
                    self.told_tls.send_replace(tls);
                    self.apply(file, config, findings.len());
                    notify::ready();
                    return Ok(());
                }
                Some(why) => vec![format!("{file}: {why}")],
            },
            Err(SettingsError::Mistaken(findings)) => findings.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        for finding in &refused {
            tracing::warn!("configuration refused: {finding}");
        }
        self.phone.handle(clock::now(), Input::ConfigRefused { file, findings: refused.clone() });
        notify::ready();
        Err(refused)
    }

    fn apply(&mut self, file: String, config: Config, warnings: usize) {
        if config.audio != self.config.audio {
            self.sound.order(sound_thread::Order::Open(config.audio.clone()));
        }
        if config.journal != self.config.journal {
            self.store.configure(config.journal.clone());
        }
        if config.rtp != self.config.rtp {
            self.media.order(media_thread::Order::Ports(port_range(&config)));
        }
        self.config = config.clone();
        self.sound.order(sound_thread::Order::Shelf(self.shelf()));
        let _ = self.told_config.send(Arc::new(config.clone()));
        let warnings = u32::try_from(warnings).unwrap_or(u32::MAX);
        self.phone.handle(clock::now(), Input::Configured { file, config: Box::new(config), warnings });
        self.believe();
    }

    fn believe(&mut self) {
        for (line, account) in self.phone.accounts() {
            self.network.set_line(account, line);
        }
    }

    /// Tells of a clock that was never set, and when it comes right.
    fn check_clock(&mut self, now: Now) {
        let wrong = now.utc_us < clock::EARLIEST_CREDIBLE_US;
        if std::mem::replace(&mut self.clock_wrong, wrong) == wrong {
            return;
        }
        let what = "the clock of this device was never set: certificates can't be checked";
        let trouble = part("clock", what.into(), "let it reach a time server, or set it by hand");
        let input = if wrong { trouble } else { Input::Part { part: "clock", trouble: None } };
        self.phone.handle(now, input);
        self.drain();
    }

    /// Where the kernel tells of changes, if it does.
    pub fn telling(netlink: std::io::Result<Netlink>) -> Option<Netlink> {
        netlink
            .inspect_err(|error| {
                tracing::debug!("the kernel does not tell of changes of the network: {error}")
            })
            .ok()
    }

    fn heard_of_a_change(&mut self) {
        let soon = clock::now().deadline(SETTLED_AFTER);
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Tells the phone of another network, and of a sleep of the whole machine: nothing is as it was then either.
    fn check_network(&mut self, now: Now) {
        let slept = self.sleep.is_over();
        if !slept && self.look_at.is_none_or(|at| at > now.mono_us) {
            return;
        }
        self.look_at = self.netlink.is_none().then(|| now.deadline(LOOK_EVERY));
        let seen = Surroundings::look();
        let ruled = self.netlink.as_ref().is_some_and(Netlink::take_ruled);
        if slept || ruled || seen != self.surroundings {
            self.network.network_changed();
            let addresses = seen.reached_at(&self.config);
            self.surroundings = seen;
            self.phone.handle(now, Input::NetworkChanged { addresses });
            self.drain();
        }
    }

    fn stop(&mut self) {
        notify::stopping();
        self.phone.handle(clock::now(), Input::Stop);
    }

    /// Does what the phone asks. Messages leave first, because somebody waits for them: to wake the other threads takes
    /// time, and they may take this thread's processor.
    fn drain(&mut self) {
        let mut ordered = false;
        let mut recalls = Vec::new();
        while let Some(output) = self.phone.poll_output() {
            match output {
                Output::Sip(output) => self.network.perform(output),
                Output::Media(command) => {
                    ordered = true;
                    if !self.media.line_up(media_thread::Order::Engine(command)) {
                        tracing::error!("the media thread does not keep up; an order was lost");
                    }
                }
                Output::Discard(port) => {
                    self.media.order(media_thread::Order::Discard(port));
                }
                // The file is known before its first piece comes.
                Output::Recording { number, recording } => {
                    let path = self.shelf().folder.join(format!("{recording}.wav"));
                    self.sound.order(sound_thread::Order::Recording { number, name: recording, path });
                }
                Output::Keep(write) => self.later.push(write),
                Output::Ask(question) => self.ask(*question),
                Output::Recall(recall) => recalls.push(recall),
                Output::Stopped => self.stopped = true,
            }
        }
        if self.patience.is_some() && !self.stopped {
            return;
        }
        if ordered {
            self.media.wake();
        }
        for write in self.later.drain(..) {
            log(&write);
            self.store.keep(write);
        }
        self.store.flush();
        for recall in recalls {
            self.store.recall(recall);
        }
    }

    /// Has somebody ask who calls; what can't be asked is answered at once.
    fn ask(&mut self, question: Question) {
        let id = question.id;
        if self.asker.as_ref().is_none_or(|asker| asker.try_send(question).is_err()) {
            let failure = Failure::new("nobody asks who calls at present", "see whether the API answers");
            self.phone.handle(clock::now(), Input::Answered { id, answer: Err(failure) });
        }
    }

    /// Where recordings are kept.
    fn shelf(&self) -> sound_thread::Shelf {
        let (recording, folder) = (&self.config.recording, self.config.recordings());
        sound_thread::Shelf { folder, retention: recording.retention, bytes: recording.size.bytes }
    }

    fn tell_progress(&mut self, progress: &mut impl FnMut(Progress)) {
        if self.stopped || !self.phone.is_settled() || self.told == Some(Progress::Ready) {
            return;
        }
        let degraded = self.phone.degraded();
        let now = if degraded.is_empty() { Progress::Ready } else { Progress::Degraded(degraded) };
        if self.told.as_ref() != Some(&now) {
            if self.told.is_none() {
                notify::ready();
            }
            progress(now.clone());
            self.told = Some(now);
        }
    }
}

/// What can only be changed by starting anew.
fn unchangeable(old: &Config, new: &Config) -> Option<&'static str> {
    if (old.sip.bind, old.sip.port_udp, old.sip.port_tcp)
        != (new.sip.bind, new.sip.port_udp, new.sip.port_tcp)
    {
        return Some("[sip] bind and ports change only by a restart; restart tipring, or put them back");
    }
    if (old.sip.dscp, &old.sip.user_agent) != (new.sip.dscp, &new.sip.user_agent) {
        return Some("[sip] dscp and user_agent change only by a restart; restart tipring, or put them back");
    }
    if old.log != new.log {
        return Some("[log] changes only by a restart; restart tipring, or put it back");
    }
    if old.device.data != new.device.data {
        return Some("[device] data changes only by a restart; restart tipring, or put it back");
    }
    // Sessions of upstreams, their topics and the identity of events would keep the old one.
    if old.device.serial != new.device.serial {
        return Some("[device] serial changes only by a restart; restart tipring, or put it back");
    }
    if (old.admin.listen, &old.admin.socket) != (new.admin.listen, &new.admin.socket) {
        return Some("[admin] listen and socket change only by a restart; restart tipring, or put them back");
    }
    if old.ami.listen != new.ami.listen {
        return Some("[ami] listen changes only by a restart; restart tipring, or put it back");
    }
    None
}

/// Waits until the kernel tells of a change of the network.
async fn told(netlink: Option<&Netlink>) {
    match netlink {
        Some(netlink) => netlink.changed().await,
        None => std::future::pending().await,
    }
}

/// What a user would notice goes to the log too; numbers and addresses only for those who ask for more.
fn log(write: &Write) {
    let Write::Event(recorded) = write else { return };
    let kind = &recorded.event.kind;
    let (name, call) = (kind.name(), recorded.event.call.as_deref().unwrap_or_default());
    match kind {
        Kind::LineRejected { line, cause, cure } => tracing::warn!(line, ?cause, "{name}: {cure}"),
        Kind::LineUnregistered { line, cause, .. } => tracing::info!(line, ?cause, "{name}"),
        Kind::LineRegistered { line, registrar, transport, .. } => {
            tracing::info!(line, transport, "{name}");
            tracing::debug!(line, registrar, "{name}");
        }
        Kind::VoicemailWaiting { line, mailbox, .. } => {
            tracing::info!(line, waiting = mailbox.waiting, new = mailbox.new, "{name}");
        }
        Kind::DeviceDegraded { part, what, cure } => tracing::warn!(part, "{what}; {cure}"),
        Kind::UpstreamSuspended { upstream, what, cure, .. } => {
            tracing::warn!(upstream, "{name}: {what}; {cure}");
        }
        Kind::UpstreamRefused { upstream, event, status, count, .. } => {
            tracing::warn!(upstream, event, status, count, "{name}");
        }
        Kind::UpstreamResumed { upstream, waiting } => tracing::info!(upstream, waiting, "{name}"),
        Kind::LimitReached { limit, value, .. } => tracing::warn!(limit, value, "{name}"),
        Kind::AuthFailed { interface, from, line, text, .. } => {
            tracing::warn!(interface, from, line, text, "{name}");
        }
        Kind::CallEnded { leg, result, talk_us, .. } => {
            tracing::info!(call, line = leg.line, %result, talk_s = talk_us / 1_000_000, "{name}");
        }
        Kind::CallQuality { .. } => tracing::trace!(call, "{name}"),
        Kind::CallNew { leg, .. } => {
            tracing::info!(call, line = leg.line, direction = leg.direction.as_str(), "{name}");
            tracing::debug!(call, caller = ?leg.caller.number, called = ?leg.called.number, "{name}");
        }
        _ => tracing::info!(call, "{name}"),
    }
}

fn part(part: &'static str, what: String, cure: &str) -> Input<'static> {
    Input::Part { part, trouble: Some((what, cure.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_refuses_by_name_what_only_a_restart_can_change() {
        let config = |text: &str| Config::parse(text, "t.toml").expect("right");
        let before = config("[device]\nserial = \"TR-1\"\n");
        for (text, key) in [
            ("[device]\nserial = \"TR-2\"\n", "[device] serial changes"),
            ("", "[device] serial changes"),
            ("[device]\nserial = \"TR-1\"\ndata = \"/d\"\n", "[device] data changes"),
            ("[device]\nserial = \"TR-1\"\n[log]\nlevel = \"debug\"\n", "[log] changes"),
        ] {
            let why = unchangeable(&before, &config(text)).unwrap_or_default();
            assert!(why.starts_with(key), "{text}: {why}");
        }
        let renamed = config("[device]\nserial = \"TR-1\"\nname = \"Reception\"\n");
        assert_eq!(unchangeable(&before, &renamed), None);
    }
}

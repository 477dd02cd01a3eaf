//! Telling events to other systems: carries out what the upstreams of [`crate::events::upstream`] ask for.
//!
//! One task on the office thread owns all of them; reading the store and each request are tasks of their own, which
//! bring back what became of it. So nobody waits for a slow one, and nothing is shared. A broker has one connection that
//! stays, which is a task of its own, too.

mod attempt;
mod broker;
mod door;
mod http;
mod lookups;
pub mod orders;
mod subscriptions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clock;
use crate::chance::Chance;
use crate::config::{self, Config, RemoteCommand};
use crate::events::archive::{Archive, Standing};
use crate::events::lookup::Question;
use crate::events::store::Write;
use crate::events::upstream::desk::{Change, UpstreamError, Upstreams, View, Wish};
use crate::events::upstream::mqtt::{Order, Output};
use crate::events::upstream::outcome::Outcome;
use crate::events::upstream::state::State;
use crate::events::upstream::subscription::{Subscriptions, is_subscribed};
use crate::events::upstream::turn::Notes;
use crate::events::upstream::{Action, Upstream};
use crate::events::{CloudEvent, Kind, Origin};
use crate::now::earliest;
use crate::phone::command::{Command, Reply};
use crate::phone::desk::Desk;
use crate::phone::snapshot::Snapshot;
use attempt::Trial;
use broker::{Broker, Home};
use door::Door;
use http::Resting;
use lookups::Lookups;
use subscriptions::Kept;

/// Results of tasks that may wait.
const QUEUE: usize = 256;
/// Connections of one upstream that may rest.
const MOST_RESTING: usize = 4;
/// How soon something is handed over again that was not taken.
const AGAIN: Duration = Duration::from_secs(1);
/// For brokers to be told that this device ends in order, and for a token that is just being renewed.
const FAREWELL: Duration = Duration::from_secs(2);
/// What may wait for that; past it the oldest is given up: a state that is written later anyway, or a mere telling.
const MOST_LATER: usize = 256;

/// Drives all upstreams.
pub struct Dispatcher {
    archive: Archive,
    desk: Desk,
    config: watch::Receiver<Arc<Config>>,
    wishes: mpsc::Receiver<Wish>,
    results: mpsc::Sender<Came>,
    inbox: mpsc::Receiver<Came>,
    running: Vec<Running>,
    /// A new configuration waits for an upstream that is just getting what would be lost.
    configure_later: bool,
    subscriptions: Subscriptions,
    questions: mpsc::Receiver<Question>,
    lookups: Lookups,
    /// The key of the next one.
    next: u64,
    newest: u64,
    chance: Chance,
    later: VecDeque<Errand>,
    later_at: Option<u64>,
}

struct Running {
    /// Another one for each settings: late results of its predecessor are nobody's.
    key: u64,
    upstream: Upstream,
    /// What it remembers, for a successor with other settings.
    notes: Notes,
    door: Arc<Door>,
    resting: Vec<Resting>,
    /// What it is told over, where that is one connection that stays.
    broker: Option<Broker>,
    /// Ended with it.
    tasks: JoinSet<()>,
}

/// What a task brings back.
enum Came {
    Page { key: u64, since: u64, page: Option<Vec<CloudEvent>> },
    Attempted { key: u64, sequence: u64, outcome: Outcome },
    Remembered { key: u64, sequence: u64 },
    Tested { key: u64, test: Box<Trial>, outcome: Outcome },
    Rests { key: u64, resting: Resting },
    Kept(Kept),
    Broker { key: u64, connection: u64, came: broker::Came },
    State { key: u64, snapshot: Box<Snapshot> },
    Obeyed { key: u64, order: Box<Order>, outcome: serde_json::Map<String, serde_json::Value> },
    Asked { key: u64, resting: Resting },
}

/// What others have to take.
enum Errand {
    Keep(Write),
    Tell(Box<Kind>),
}

impl Dispatcher {
    /// A driver for the upstreams of the configuration, and where they are asked about.
    pub fn new(
        archive: Archive,
        desk: Desk,
        config: watch::Receiver<Arc<Config>>,
        chance: Chance,
    ) -> (Dispatcher, Upstreams) {
        let (upstreams, wishes) = Upstreams::open();
        let (results, inbox) = mpsc::channel(QUEUE);
        let (asker, questions) = mpsc::channel(QUEUE);
        desk.answer_questions(asker);
        let lookups = Lookups::new(&config.borrow(), 0);
        let dispatcher = Dispatcher {
            archive,
            desk,
            config,
            wishes,
            results,
            inbox,
            running: Vec::new(),
            configure_later: false,
            subscriptions: Subscriptions::default(),
            questions,
            lookups,
            next: 0,
            newest: 0,
            chance,
            later: VecDeque::new(),
            later_at: None,
        };
        (dispatcher, upstreams)
    }

    /// Runs until `stop` resolves; then what has to outlive the program is handed to the store.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        tokio::select! {
            () = self.recall() => {}
            () = &mut stop => return,
        }
        let mut news = self.archive.clone();
        loop {
            self.drain();
            let sleep = self.until_next();
            tokio::select! {
                newer = news.newer_than(self.newest) => {
                    if !newer {
                        break;
                    }
                    self.newest = news.committed();
                    for running in &mut self.running {
                        running.upstream.handle_news(clock::now(), self.newest);
                        if let Some(broker) = &mut running.broker {
                            broker.happened(clock::now());
                        }
                    }
                }
                Some(result) = self.inbox.recv() => {
                    self.came(result);
                    if self.configure_later {
                        self.configure();
                    }
                }
                Some(wish) = self.wishes.recv() => self.wished(wish),
                Some(question) = self.questions.recv() => {
                    self.lookups.ask(question, &mut self.running, &self.desk, &self.results);
                }
                changed = self.config.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.configure();
                }
                () = tokio::time::sleep(sleep) => self.timeout(),
                () = &mut stop => break,
            }
        }
        for running in &mut self.running {
            running.upstream.close();
            if let Some(broker) = &mut running.broker {
                broker.session.close(clock::now());
            }
        }
        self.drain();
        // What is written is written by tasks that end with it, and what is just being got would be lost.
        let farewell = async {
            while self.running.iter().any(|it| it.upstream.is_renewing())
                && let Some(result) = self.inbox.recv().await
            {
                self.came(result);
                self.drain();
            }
            for running in self.running.iter_mut().filter(|it| it.broker.is_some()) {
                while running.tasks.join_next().await.is_some() {}
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    /// Begins where the life before ended. Nothing is told before that is known.
    async fn recall(&mut self) {
        let Standing { states, mut notes, subscriptions, newest } = loop {
            match self.archive.upstreams().await {
                Ok(known) => break known,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        self.newest = newest;
        self.subscriptions = Subscriptions::new(subscriptions);
        let config = self.config.borrow_and_update().clone();
        let wanted = self.wanted(&config);
        for state in &states {
            if !wanted.iter().any(|settings| settings.name == state.name) {
                self.errand(Errand::Keep(Write::UpstreamGone(state.name.clone())));
            }
        }
        for settings in &wanted {
            let state = states.iter().find(|state| state.name == settings.name).cloned();
            let notes = notes.remove(&settings.name).unwrap_or_default();
            let running = self.begin(settings, &config, (state, notes));
            self.running.push(running);
        }
    }

    fn begin(
        &mut self,
        settings: &config::Upstream,
        config: &Config,
        (state, notes): (Option<State>, Notes),
    ) -> Running {
        let serial = config.device.serial.as_deref().unwrap_or_default();
        let (now, chance) = (clock::now(), self.chance.fork());
        self.next += 1;
        let broker = settings.url.is_broker();
        let broker = broker.then(|| Broker::new(now, settings, serial, self.chance.fork()));
        let mut upstream = Upstream::new(now, settings.clone(), serial, state, self.newest, chance);
        upstream.recall(notes.clone());
        Running {
            key: self.next,
            broker,
            upstream,
            notes,
            door: door(settings, config),
            resting: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Follows a new configuration. What did not change goes on; what changed goes on from where it stood.
    fn configure(&mut self) {
        self.configure_later = self.running.iter().any(|it| it.upstream.is_renewing());
        if self.configure_later {
            return;
        }
        let config = self.config.borrow_and_update().clone();
        self.lookups.configure(&config);
        let mut before = std::mem::take(&mut self.running);
        for settings in &self.wanted(&config) {
            let old = before.iter().position(|it| it.upstream.settings().name == settings.name);
            let old = old.map(|index| before.swap_remove(index));
            let running = match old {
                Some(mut same) if same.upstream.settings() == settings => {
                    // The file of its authorities may be another one under the same name.
                    same.door = door(settings, &config);
                    same.resting.clear();
                    same
                }
                changed => {
                    let (state, notes) = changed.map(|it| (it.upstream.state(), it.notes)).unzip();
                    self.begin(settings, &config, (state, notes.unwrap_or_default()))
                }
            };
            self.running.push(running);
        }
        for gone in before {
            let name = gone.upstream.settings().name.clone();
            self.errand(Errand::Keep(Write::UpstreamGone(name)));
        }
    }

    /// The upstreams of the configuration, and those that programs asked for.
    fn wanted(&self, config: &Config) -> Vec<config::Upstream> {
        let mut wanted = config.upstream.clone();
        wanted.extend(self.subscriptions.settings(config));
        wanted
    }

    fn until_next(&self) -> Duration {
        let due = self.running.iter().fold(self.later_at, |due, it| {
            let broker = it.broker.as_ref().and_then(Broker::poll_timeout);
            earliest(due, earliest(broker, it.upstream.poll_timeout()))
        });
        let left = due.map_or(3_600_000_000, |due| due.saturating_sub(clock::now().mono_us));
        Duration::from_micros(left)
    }

    fn timeout(&mut self) {
        let now = clock::now();
        for running in &mut self.running {
            running.upstream.handle_timeout(now);
            if let Some(broker) = &mut running.broker {
                broker.session.handle_timeout(now);
                if broker.looks(now) {
                    look(running, self.desk.clone(), self.results.clone());
                }
            }
        }
        if self.later_at.is_some_and(|at| at <= now.mono_us) {
            self.later_at = None;
            for errand in std::mem::take(&mut self.later) {
                self.errand(errand);
            }
        }
    }

    fn came(&mut self, result: Came) {
        let result = match result {
            Came::Kept(kept) => return self.subscription_kept(kept),
            Came::Asked { key, resting } => return self.lookups.rests(key, resting),
            result => result,
        };
        let (Came::Page { key, .. }
        | Came::Attempted { key, .. }
        | Came::Remembered { key, .. }
        | Came::Tested { key, .. }
        | Came::Rests { key, .. }
        | Came::Broker { key, .. }
        | Came::State { key, .. }
        | Came::Obeyed { key, .. }) = &result
        else {
            return;
        };
        let Some(running) = self.running.iter_mut().find(|running| running.key == *key) else { return };
        match result {
            Came::Page { since, page, .. } => running.upstream.handle_page(clock::now(), since, page),
            Came::Attempted { sequence, outcome, .. } => {
                running.upstream.handle_outcome(clock::now(), sequence, outcome);
            }
            Came::Remembered { sequence, .. } => {
                running.upstream.handle_remembered(clock::now(), sequence);
                self.lookups.release(running);
            }
            Came::Tested { test, outcome, .. } => test.heard(running, outcome, &self.results),
            Came::Rests { resting, .. } => {
                if running.resting.len() < MOST_RESTING {
                    running.resting.push(resting);
                }
            }
            Came::Kept(_) | Came::Asked { .. } => {}
            Came::Broker { connection, came, .. } => {
                if let Some(broker) = running.broker.as_mut().filter(|it| it.connection == connection) {
                    broker.came(clock::now(), came);
                }
            }
            Came::Obeyed { order, outcome, .. } => {
                if let Some(broker) = &mut running.broker {
                    broker.session.answer(clock::now(), &order, outcome);
                }
            }
            Came::State { snapshot, .. } => {
                if let Some(broker) = &mut running.broker {
                    let state = broker::state(&snapshot, running.upstream.settings(), &self.config.borrow());
                    broker.session.tell_state(clock::now(), state);
                }
            }
        }
    }

    fn wished(&mut self, wish: Wish) {
        let now = clock::now();
        let known =
            || -> Vec<String> { self.running.iter().map(|it| it.upstream.settings().name.clone()).collect() };
        // Who asked may have gone away meanwhile.
        match wish {
            Wish::List(reply) => {
                let views: Vec<View> = self.running.iter().map(|it| it.upstream.view(now)).collect();
                let _ = reply.send(Ok(views));
            }
            Wish::Subscription { extension, who, what, reply } => {
                self.subscription_wished(&extension, &who, what, reply);
            }
            Wish::Test { name, reply } => {
                let known = known();
                match self.running.iter_mut().find(|it| it.upstream.settings().name == name) {
                    Some(running) => Trial::begin(running, reply, &self.results),
                    None => drop(reply.send(Err(UpstreamError::Unknown { name, known }))),
                }
            }
            Wish::Change { name, change, reply } => {
                let known = known();
                let found = self.running.iter_mut().find(|it| it.upstream.settings().name == name);
                let _ = reply.send(match found {
                    None => Err(UpstreamError::Unknown { name, known }),
                    Some(running) => {
                        if let Some(broker) = running.broker.as_mut().filter(|_| change == Change::Resume) {
                            broker.session.hurry(now);
                        }
                        running.upstream.change(now, change).map(|()| running.upstream.view(now))
                    }
                });
            }
        }
    }

    /// Does what the upstreams ask for.
    fn drain(&mut self) {
        let mut errands = Vec::new();
        for running in &mut self.running {
            while let Some(action) = next(running, &self.desk, &self.results, &mut self.lookups) {
                match action {
                    Action::Read { since, limit } => {
                        let (archive, results, key) =
                            (self.archive.clone(), self.results.clone(), running.key);
                        running.tasks.spawn(async move {
                            let page = archive.events(since, limit).await.ok();
                            let _ = results.send(Came::Page { key, since, page }).await;
                        });
                    }
                    Action::Send { sequence, request } => match &mut running.broker {
                        Some(broker) => {
                            broker.session.publish(clock::now(), sequence, request.target, request.body);
                        }
                        None => attempt::deliver(running, sequence, request, self.results.clone()),
                    },
                    Action::Remember { sequence, notes } => {
                        attempt::remember(running, sequence, notes, &self.archive, self.results.clone());
                    }
                    Action::Keep(state) => errands.push(Errand::Keep(Write::Upstream(state))),
                    Action::Tell(kind) => errands.push(Errand::Tell(kind)),
                }
            }
            // What has ended would be kept for somebody who asks.
            while running.tasks.try_join_next().is_some() {}
        }
        for errand in errands {
            self.errand(errand);
        }
    }

    /// Hands something over, or tries that again later.
    fn errand(&mut self, errand: Errand) {
        let taken = self.later.is_empty()
            && match &errand {
                Errand::Keep(write) => self.archive.keep(write.clone()),
                Errand::Tell(kind) => self.desk.tell(kind.clone()),
            };
        if !taken {
            if self.later.len() >= MOST_LATER {
                self.later.pop_front();
            }
            self.later.push_back(errand);
            self.later_at.get_or_insert(clock::now().deadline(AGAIN));
        }
    }
}

/// The way to an upstream. One that a program asked for leads nowhere inside.
fn door(settings: &config::Upstream, config: &Config) -> Arc<Door> {
    let door = Door::of(settings).for_recordings(config.recordings());
    let subscribed = is_subscribed(&settings.name);
    Arc::new(if subscribed { door.guarded(config.subscriptions.clone()) } else { door })
}

/// What the upstream wants done next, once its broker wants nothing: what a broker says may let the upstream want more.
fn next(
    running: &mut Running,
    desk: &Desk,
    results: &mpsc::Sender<Came>,
    lookups: &mut Lookups,
) -> Option<Action> {
    while let Some(output) = running.broker.as_mut().and_then(|broker| broker.session.poll_output()) {
        match (output, &mut running.broker) {
            (Output::Order(order), Some(broker)) if order.command == RemoteCommand::Lookup => {
                let outcome = lookups.answered(&running.upstream.settings().name, &order);
                broker.session.answer(clock::now(), &order, outcome);
            }
            (output, _) => say(running, output, desk, results),
        }
    }
    running.upstream.poll_action()
}

/// Does what a session asks for.
fn say(running: &mut Running, output: Output, desk: &Desk, results: &mpsc::Sender<Came>) {
    let now = clock::now();
    let (upstream, Some(broker)) = (&mut running.upstream, &mut running.broker) else { return };
    match output {
        Output::Open => {
            broker.connection += 1;
            let (key, connection) = (running.key, broker.connection);
            let home = Home { results: results.clone(), key, connection };
            running.tasks.spawn(broker::carry(running.door.clone(), home));
        }
        Output::Write(packet) => broker.write(now, packet),
        Output::Close => broker.packets = None,
        Output::Up => upstream.handle_connected(now),
        Output::Down(trouble, retry_at) => {
            broker.fail_tests(now, &trouble.what, &trouble.cure);
            upstream.handle_disconnected(now, (trouble.what, trouble.cure), trouble.why, retry_at);
        }
        Output::Outcome(0, outcome) => broker.tested(now, outcome, upstream.trouble()),
        Output::Outcome(sequence, outcome) => upstream.handle_outcome(now, sequence, outcome),
        Output::Remark(what, cure) => {
            tracing::warn!(upstream = upstream.settings().name, "{what}; {cure}");
        }
        Output::Intruder => desk.intruder("upstream", upstream.settings().name.clone(), None),
        Output::Order(order) => {
            let (desk, results, key) = (desk.clone(), results.clone(), running.key);
            running.tasks.spawn(async move {
                let outcome = orders::obey(&desk, &order).await;
                let _ = results.send(Came::Obeyed { key, order: Box::new(order), outcome }).await;
            });
        }
    }
}

/// Asks the phone how it is.
fn look(running: &mut Running, desk: Desk, results: mpsc::Sender<Came>) {
    let key = running.key;
    running.tasks.spawn(async move {
        if let Ok(Reply::Status(snapshot)) = desk.ask(Command::Status, Origin::Upstream).await {
            let _ = results.send(Came::State { key, snapshot }).await;
        }
    });
}

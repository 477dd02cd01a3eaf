//! The store thread: it commits what the phone wants kept, and answers what is asked of it. A commit takes everything
//! that waited during the last one, so a burst of events costs two syncs of the disk and not one each.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::clock;
use crate::config::Journal;
use crate::events::archive::{Archive, Job};
use crate::events::store::{Store, StoreError, Write};
use crate::phone::Remembered;

/// Jobs that may wait. The queue takes its memory at once, some 100 bytes for each.
const QUEUE: usize = 2048;
/// What is held back in memory while the disk refuses; past it the oldest is given up.
const MOST_WAITING: usize = 20_000;
/// One commit takes this much at most, so that questions between commits are answered soon.
const LARGEST_BATCH: usize = 1_000;
/// How often a refused commit is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often old events are dropped.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// The file in the data folder.
const FILE: &str = "tipring.db";
/// The setting that says whether the last life ended in order.
const CLEAN: &str = "device.clean";

/// What the store thread tells the control thread.
#[derive(Debug)]
pub enum Notice {
    /// Everything is kept again.
    Works,
    /// Nothing can be kept now.
    Fails {
        /// What is wrong.
        what: String,
        /// What to do.
        cure: String,
    },
}

/// The writing side of the store thread.
pub struct StoreThread {
    // Boxed, because such a queue takes the memory of all its places at once.
    jobs: SyncSender<Box<Job>>,
    thread: JoinHandle<()>,
}

impl StoreThread {
    /// Starts the thread, which opens the store in this folder at once: the receiver gives what an earlier life left.
    /// `notices` is called on the thread.
    pub fn start(
        folder: &Path,
        journal: Journal,
        notices: impl Fn(Notice) + Send + 'static,
    ) -> std::io::Result<(StoreThread, Archive, Receiver<Remembered>)> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let (tell, remembered) = sync_channel(1);
        let (committed, newest) = watch::channel(0);
        let folder = folder.to_path_buf();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            let (store, trouble) = open(&folder);
            let recalled = recall(&store).unwrap_or_default();
            let _ = committed.send(recalled.sequence);
            // Whoever waits for it may have given up.
            let _ = tell.send(recalled);
            let mut keeper = Keeper {
                store,
                journal,
                waiting: VecDeque::new(),
                committed,
                notices: Box::new(notices),
                in_memory: trouble.is_some(),
                failing: false,
                tried: None,
                pruned: Instant::now(),
            };
            match trouble {
                Some(error) => keeper.fails(&error),
                None => (keeper.notices)(Notice::Works),
            }
            keeper.waiting.push_back(clean(false));
            keeper.run(&inbox);
        })?;
        let archive = Archive::new(jobs.clone(), newest);
        Ok((StoreThread { jobs, thread }, archive, remembered))
    }

    /// Hands over something to be kept.
    pub fn keep(&self, write: Write) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Box::new(Job::Keep(write))) {
            tracing::error!("the store does not keep up with the events; one was lost");
        }
    }

    /// Keeps what waits, and waits for the thread's end.
    pub fn stop(self) {
        // A full queue is emptied by the thread; the order to stop must get in.
        let _ = self.jobs.send(Box::new(Job::Stop));
        let _ = self.thread.join();
    }
}

/// Opens the store; where that can't be, events live in memory until the next start, and the trouble is told.
fn open(folder: &Path) -> (Option<Store>, Option<StoreError>) {
    let in_memory = |error| {
        let store = Connection::open_in_memory().map_err(StoreError::from).and_then(Store::open).ok();
        (store, Some(error))
    };
    if let Err(error) = std::fs::create_dir_all(folder) {
        return in_memory(StoreError::ReadOnly(format!("{}: {error}", folder.display())));
    }
    match Connection::open(folder.join(FILE)).map_err(StoreError::from).and_then(Store::open) {
        Ok(store) => (Some(store), None),
        Err(error) => in_memory(error),
    }
}

fn recall(store: &Option<Store>) -> Option<Remembered> {
    let store = store.as_ref()?;
    let settings = store.settings().ok()?;
    let today = crate::events::cloud_event::rfc3339(clock::now().utc_us);
    Some(Remembered {
        sequence: store.last_sequence().ok()?,
        clean: settings.get(CLEAN).is_none_or(|value| value == "yes"),
        bindings: store.bindings().ok()?,
        usage: store.usage(today.get(..10)?).ok()?,
        interrupted: store.interrupted().ok()?,
        settings,
    })
}

fn clean(clean: bool) -> Write {
    Write::Setting { name: CLEAN.to_owned(), value: Some(if clean { "yes" } else { "no" }.to_owned()) }
}

struct Keeper {
    store: Option<Store>,
    journal: Journal,
    waiting: VecDeque<Write>,
    committed: watch::Sender<u64>,
    notices: Box<dyn Fn(Notice) + Send>,
    /// The file could not be opened: nothing outlives this process, however well it is kept until then.
    in_memory: bool,
    failing: bool,
    tried: Option<Instant>,
    pruned: Instant,
}

impl Keeper {
    fn run(&mut self, inbox: &Receiver<Box<Job>>) {
        loop {
            let patience = if self.waiting.is_empty() { PRUNE_EVERY } else { RETRY };
            match inbox.recv_timeout(patience) {
                Ok(job) => {
                    if !self.take(*job) {
                        break;
                    }
                    while self.waiting.len() < LARGEST_BATCH {
                        let Ok(job) = inbox.try_recv() else { break };
                        if !self.take(*job) {
                            self.end();
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.commit();
            self.prune();
        }
        self.end();
    }

    /// Does one job; false when it is the last.
    fn take(&mut self, job: Job) -> bool {
        match job {
            Job::Keep(write) => {
                if self.waiting.len() >= MOST_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(write);
            }
            Job::Stop => return false,
            question => self.answer(question),
        }
        true
    }

    /// Answers a question, once what was handed over before it has been kept.
    fn answer(&mut self, question: Job) {
        self.commit();
        // Who asked may have gone away meanwhile: an answer that nobody takes is no fault.
        match question {
            Job::Events { since, limit, reply } => {
                drop(reply.send(self.with(|store| store.events_since(since, limit))));
            }
            Job::EventsOfCall { call, reply } => {
                drop(reply.send(self.with(|store| store.events_of_call(&call))));
            }
            Job::Journal { query, reply } => drop(reply.send(self.with(|store| store.journal(&query)))),
            Job::Call { call, reply } => drop(reply.send(self.with(|store| store.call(&call)))),
            Job::Erase { whose, now_utc_us, reply } => {
                drop(reply.send(self.with(|store| store.erase(&whose, now_utc_us))));
            }
            Job::Upstreams { reply } => {
                drop(reply.send(self.with(|store| Ok((store.upstreams()?, store.last_sequence()?)))));
            }
            Job::Keep(_) | Job::Stop => {}
        }
    }

    fn with<T>(&mut self, ask: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &mut self.store {
            Some(store) => ask(store),
            None => Err(StoreError::ReadOnly("no store could be opened".into())),
        }
    }

    fn commit(&mut self) {
        if self.waiting.is_empty() || (self.failing && self.tried.is_some_and(|at| at.elapsed() < RETRY)) {
            return;
        }
        self.tried = Some(Instant::now());
        let batch = self.waiting.make_contiguous();
        let newest = batch.iter().rev().find_map(|write| match write {
            Write::Event(event) => Some(event.sequence),
            _ => None,
        });
        let result = match &mut self.store {
            Some(store) => store.commit(batch),
            None => Err(StoreError::ReadOnly("no store could be opened".into())),
        };
        match result {
            Ok(()) => {
                self.waiting.clear();
                if let Some(newest) = newest {
                    self.committed.send_replace(newest);
                }
                if std::mem::take(&mut self.failing) && !self.in_memory {
                    (self.notices)(Notice::Works);
                }
            }
            Err(error) => {
                self.fails(&error);
                // What can never be kept must not stand in the way of what can.
                if !error.may_pass() {
                    self.waiting.clear();
                }
            }
        }
    }

    fn fails(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            let text = error.to_string();
            let (what, cure) = text.split_once(": ").unwrap_or((&text, "look at the log"));
            (self.notices)(Notice::Fails { what: what.to_owned(), cure: cure.to_owned() });
        }
    }

    fn prune(&mut self) {
        if self.pruned.elapsed() < PRUNE_EVERY {
            return;
        }
        self.pruned = Instant::now();
        let (retention, bytes) = (self.journal.retention, self.journal.size.bytes);
        let now = clock::now().utc_us;
        if let Err(error) = self.with(|store| store.prune(now, retention, bytes)) {
            tracing::warn!("old events could not be dropped: {error}");
        }
    }

    fn end(&mut self) {
        self.waiting.push_back(clean(true));
        self.failing = false;
        self.commit();
    }
}

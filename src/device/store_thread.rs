//! The store thread: it commits what the phone wants kept, and answers what is asked of it. A commit takes everything
//! that waited during the last one, so a burst of events costs two syncs of the disk and not one each.

use std::fs::{OpenOptions, Permissions};
use std::ops::RangeInclusive;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;
use uuid::Uuid;

use super::clock;
use super::vital::Vital;
use crate::config::Journal;
use crate::events::CloudEvent;
use crate::events::archive::{Archive, Job, Standing};
use crate::events::cloud_event::Digits;
use crate::events::store::{Backlog, Blame, Entry, Recall, Store, StoreError, Write};
use crate::events::tail::Tail;
use crate::phone::Remembered;

/// Jobs that may wait. The queue takes its memory at once, some 100 bytes for each.
const QUEUE: usize = 2048;
/// What is held back in memory while the disk refuses; past it the oldest events become a gap.
const MOST_WAITING: usize = 20_000;
/// What is held back in memory while the thread waits for the disk, beyond its queue.
const MOST_HELD: usize = 20_000;
/// One commit takes this much at most, so that questions between commits are answered soon.
const LARGEST_BATCH: usize = 1_000;
/// How often a refused commit is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often old events are dropped.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// The pause between two slices of that, for whoever waits.
const SLICES_EVERY: Duration = Duration::from_millis(50);
/// The file in the data folder.
const FILE: &str = "tipring.db";
/// Its mode.
const OURS: u32 = 0o600;
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
    /// The last calls of a number, the newest first, each with its legs.
    Recalled {
        /// The question.
        id: Uuid,
        /// The calls.
        calls: Vec<Vec<Entry>>,
    },
}

/// The writing side of the store thread.
pub struct StoreThread {
    // Boxed, because such a queue takes the memory of all its places at once.
    jobs: SyncSender<Box<Job>>,
    thread: JoinHandle<()>,
    /// What did not fit into the queue.
    held: Backlog,
    /// How the journal is to be kept, if the thread was not told yet.
    journal: Option<Journal>,
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
        let (committed, tail) = watch::channel(Tail::default());
        let folder = folder.to_path_buf();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            let vital = Vital::thread("store");
            let (mut store, trouble) = open(&folder);
            if let Some(store) = &mut store {
                store.keep_digits(digits(&journal));
            }
            let recalled = recall(&store).unwrap_or_default();
            let _ = committed.send(Tail::after(recalled.sequence));
            // Whoever waits for it may have given up.
            let _ = tell.send(recalled);
            let mut keeper = Keeper {
                store,
                journal,
                waiting: Backlog::new(MOST_WAITING),
                committed,
                notices: Box::new(notices),
                in_memory: trouble.is_some(),
                failing: false,
                tried: None,
                pruned: Instant::now(),
                pruning: false,
            };
            match trouble {
                Some(error) => keeper.fails(&error),
                None => (keeper.notices)(Notice::Works),
            }
            keeper.wait(clean(false));
            keeper.run(&inbox);
            vital.ends();
        })?;
        let archive = Archive::new(jobs.clone(), tail);
        Ok((StoreThread { jobs, thread, held: Backlog::new(MOST_HELD), journal: None }, archive, remembered))
    }

    /// Hands over something to be kept. Nobody waits for a disk here: what finds no room goes with a later call, or with
    /// [`StoreThread::flush`].
    pub fn keep(&mut self, write: Write) {
        told_lost(self.held.push(write));
        self.flush();
    }

    /// Asks for the last calls of a number; [`Notice::Recalled`] brings them. There may be no answer.
    pub fn recall(&mut self, recall: Box<Recall>) {
        self.flush();
        let _ = self.jobs.try_send(Box::new(Job::Recall(recall)));
    }

    /// From now on the journal is to be kept like this.
    pub fn configure(&mut self, journal: Journal) {
        self.journal = Some(journal);
        self.flush();
    }

    /// Whether something found no room yet.
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty() || self.journal.is_some()
    }

    /// Hands over what found no room before.
    pub fn flush(&mut self) {
        if let Some(journal) = self.journal.take()
            && let Err(TrySendError::Full(_)) =
                self.jobs.try_send(Box::new(Job::Keeping(Box::new(journal.clone()))))
        {
            self.journal = Some(journal);
            return;
        }
        while let Some(write) = self.held.pop() {
            match self.jobs.try_send(Box::new(Job::Keep(write))) {
                Ok(()) => {}
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    if let Job::Keep(write) = *job {
                        self.held.put_back(write);
                    }
                    break;
                }
            }
        }
    }

    /// Keeps what waits, and waits for the thread's end.
    pub fn stop(mut self) {
        // A full queue is emptied by the thread; what is held back and the order to stop must get in.
        while let Some(write) = self.held.pop() {
            let _ = self.jobs.send(Box::new(Job::Keep(write)));
        }
        let _ = self.jobs.send(Box::new(Job::Stop));
        let _ = self.thread.join();
    }
}

fn digits(journal: &Journal) -> Digits {
    if journal.digits { Digits::Shown } else { Digits::Hidden }
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
    let file = folder.join(FILE);
    keep_to_ourselves(&file);
    match Connection::open(file).map_err(StoreError::from).and_then(Store::open) {
        Ok(store) => (Some(store), None),
        Err(error) => in_memory(error),
    }
}

/// Makes a file that nobody else can read: numbers, and tokens of upstreams, are in it. What SQLite has beside it gets the
/// same mode. Why it can't be opened is told by whoever opens it then.
fn keep_to_ourselves(file: &Path) {
    if let Ok(opened) = OpenOptions::new().append(true).create(true).mode(OURS).open(file) {
        // It may be another user's, who lets us write there.
        let _ = opened.set_permissions(Permissions::from_mode(OURS));
    }
}

fn recall(store: &Option<Store>) -> Option<Remembered> {
    let store = store.as_ref()?;
    let settings = store.settings().ok()?;
    Some(Remembered {
        sequence: store.last_sequence().ok()?,
        clean: settings.get(CLEAN).is_none_or(|value| value == "yes"),
        bindings: store.bindings().ok()?,
        usage: store.usage().ok()?,
        interrupted: store.interrupted().ok()?,
        settings,
    })
}

fn clean(clean: bool) -> Write {
    Write::Setting { name: CLEAN.to_owned(), value: Some(if clean { "yes" } else { "no" }.to_owned()) }
}

/// The number up to which readers know everything once this is kept.
fn last_number(write: &Write) -> Option<u64> {
    match write {
        Write::Event(event) => Some(event.sequence),
        Write::Gap { last, .. } => Some(*last),
        _ => None,
    }
}

fn told_lost(lost: Option<RangeInclusive<u64>>) {
    if let Some(lost) = lost {
        let (first, last) = (lost.start(), lost.end());
        tracing::error!(first, last, "the store does not keep up: these events are lost, and told as a gap");
    }
}

struct Keeper {
    store: Option<Store>,
    journal: Journal,
    waiting: Backlog,
    committed: watch::Sender<Tail>,
    notices: Box<dyn Fn(Notice) + Send>,
    /// The file could not be opened: nothing outlives this process, however well it is kept until then.
    in_memory: bool,
    failing: bool,
    tried: Option<Instant>,
    pruned: Instant,
    /// A slice of what is to be dropped is dropped, and more is left.
    pruning: bool,
}

impl Keeper {
    fn run(&mut self, inbox: &Receiver<Box<Job>>) {
        loop {
            let patience = match self.waiting.is_empty() {
                _ if self.pruning => SLICES_EVERY,
                true => PRUNE_EVERY,
                false => RETRY,
            };
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
            Job::Keep(write) => self.wait(write),
            Job::Keeping(journal) => {
                // What happened before is kept as it was to be kept then.
                self.commit();
                if let Some(store) = &mut self.store {
                    store.keep_digits(digits(&journal));
                }
                self.journal = *journal;
            }
            Job::Stop => return false,
            question => self.answer(question),
        }
        true
    }

    /// What was erased or dropped is told to nobody any more, from memory neither.
    fn forget_tail(&mut self) {
        self.committed.send_if_modified(|tail| {
            tail.clear();
            false
        });
    }

    fn wait(&mut self, write: Write) {
        told_lost(self.waiting.push(write));
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
            // Without an answer the phone goes on soon.
            Job::Recall(recall) => match self.with(|store| store.recall(&recall)) {
                Ok(calls) => (self.notices)(Notice::Recalled { id: recall.id, calls }),
                Err(error) => tracing::warn!("the journal does not say whom a number belongs to: {error}"),
            },
            Job::Concerned { whose, reply } => {
                drop(reply.send(self.with(|store| store.concerned(&whose))));
            }
            Job::Erase { whose, now_utc_us, reply } => {
                let erased = self.with(|store| store.erase(&whose, now_utc_us));
                self.forget_tail();
                drop(reply.send(erased));
            }
            Job::Commit { write, reply } => {
                drop(reply.send(self.with(|store| store.commit(&[write]).map(drop))));
            }
            Job::Upstreams { reply } => {
                drop(reply.send(self.with(|store| Standing::of(store))));
            }
            Job::Keep(_) | Job::Keeping(_) | Job::Stop => {}
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
        let batch = self.waiting.as_slice();
        let result = match &mut self.store {
            Some(store) => store.commit(batch),
            None => Err(StoreError::ReadOnly("no store could be opened".into())),
        };
        match result {
            Ok(events) => {
                let (count, newest) = (batch.len(), batch.iter().rev().find_map(last_number));
                self.waiting.kept(count);
                self.committed_now(events, newest);
            }
            Err(error) => {
                self.fails(&error);
                if error.blame() == Blame::Ours {
                    self.commit_one_by_one();
                }
            }
        }
    }

    /// What can never be kept must not stand in the way of what can: it becomes a gap.
    fn commit_one_by_one(&mut self) {
        while let (Some(store), Some(write)) = (&mut self.store, self.waiting.pop()) {
            let (events, newest) = match store.commit(std::slice::from_ref(&write)) {
                Ok(events) => (events, last_number(&write)),
                Err(error) if error.blame() == Blame::Ours => {
                    tracing::error!("something can't be kept, and is given up: {error}");
                    let Write::Event(event) = &write else { continue };
                    let (first, last, utc_us) = (event.sequence, event.sequence, event.utc_us);
                    let gap = Write::Gap { first, last, reason: "unwritable".to_owned(), utc_us };
                    let known = store.commit(std::slice::from_ref(&gap)).is_ok();
                    (Vec::new(), known.then_some(last))
                }
                Err(_) => return self.waiting.put_back(write),
            };
            self.committed_now(events, newest);
        }
    }

    /// Everything until here is kept, and may be told.
    fn committed_now(&mut self, events: Vec<CloudEvent>, newest: Option<u64>) {
        if let Some(newest) = newest {
            self.committed.send_modify(|tail| tail.append(events, newest));
        }
        if std::mem::take(&mut self.failing) && !self.in_memory {
            (self.notices)(Notice::Works);
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
        let every = if self.pruning { SLICES_EVERY } else { PRUNE_EVERY };
        if self.pruned.elapsed() < every {
            return;
        }
        self.pruned = Instant::now();
        let (retention, bytes) = (self.journal.retention, self.journal.size.bytes);
        let now = clock::now().utc_us;
        let pruned = self.with(|store| store.prune(now, retention, bytes));
        self.pruning = pruned.as_ref().is_ok_and(|pruned| pruned.more);
        match pruned {
            Ok(pruned) if pruned.events > 0 => self.forget_tail(),
            Ok(_) => {}
            Err(error) => tracing::warn!("old events could not be dropped: {error}"),
        }
    }

    fn end(&mut self) {
        self.wait(clean(true));
        self.failing = false;
        self.commit();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::chance::Chance;
    use crate::events::{Event, Kind, Recorder};
    use crate::now::Now;

    fn keeper() -> (Keeper, watch::Receiver<Tail>, Receiver<Notice>) {
        let (committed, tail) = watch::channel(Tail::default());
        let (notices, told) = channel();
        let keeper = Keeper {
            store: Some(Store::open(Connection::open_in_memory().unwrap()).unwrap()),
            journal: Journal::default(),
            waiting: Backlog::new(MOST_WAITING),
            committed,
            notices: Box::new(move |notice| notices.send(notice).unwrap()),
            in_memory: false,
            failing: false,
            tried: None,
            pruned: Instant::now(),
            pruning: false,
        };
        (keeper, tail, told)
    }

    fn events(seed: u64, count: usize) -> Vec<Write> {
        let mut recorder = Recorder::new(0, Chance::from_number(seed));
        let kind = Kind::UpstreamResumed { upstream: "crm".to_owned(), waiting: 0 };
        let record = |_| recorder.record(Now { mono_us: 0, utc_us: 0 }, Event::new(kind.clone()));
        (0..count).map(record).map(|event| Write::Event(Box::new(event))).collect()
    }

    fn numbers(page: &[CloudEvent]) -> Vec<u64> {
        page.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn the_file_is_for_nobody_else_also_where_an_older_version_made_it() {
        let folder = std::env::temp_dir().join(format!("tipring-store-mode-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mode = || std::fs::metadata(folder.join(FILE)).expect("a file").permissions().mode() & 0o777;
        drop(open(&folder));
        assert_eq!(mode(), OURS);
        std::fs::set_permissions(folder.join(FILE), Permissions::from_mode(0o644)).expect("its owner may");
        let (store, trouble) = open(&folder);
        assert!(store.is_some() && trouble.is_none());
        assert_eq!(mode(), OURS);
        std::fs::remove_dir_all(&folder).expect("it goes");
    }

    #[test]
    fn what_is_committed_is_read_from_memory_as_it_is_read_from_the_store() {
        let (mut keeper, tail, _told) = keeper();
        for batch in events(1, 40).chunks(7) {
            batch.iter().for_each(|write| keeper.wait(write.clone()));
            keeper.commit();
            assert!(keeper.waiting.is_empty());
        }
        for since in 0..40 {
            let kept = keeper.with(|store| store.events_since(since, 16)).unwrap();
            assert_eq!(tail.borrow().page(since, 16), Some(kept), "after {since}");
        }
        keeper.answer(Job::Erase {
            whose: crate::events::store::Erase::Call("c".to_owned()),
            now_utc_us: 0,
            reply: tokio::sync::oneshot::channel().0,
        });
        assert_eq!(tail.borrow().page(10, 16), None, "somebody may have been erased");
    }

    /// Another program's event has the number of ours: it can never be kept, and what came with it can.
    #[test]
    fn what_can_never_be_kept_takes_nothing_with_it() {
        let (mut keeper, tail, told) = keeper();
        keeper.wait(events(1, 3).pop().unwrap());
        keeper.commit();
        let other = events(2, 5);
        other.iter().for_each(|write| keeper.wait(write.clone()));
        keeper.wait(Write::Setting { name: "dnd.office".to_owned(), value: Some("on".to_owned()) });
        keeper.commit();
        assert!(keeper.waiting.is_empty());
        let kept = keeper.with(|store| store.events_since(0, 16)).unwrap();
        assert_eq!(numbers(&kept), [1, 2, 3, 4, 5]);
        let Write::Event(ours) = &other[3] else { unreachable!() };
        assert_eq!((kept[3].id, tail.borrow().newest()), (ours.id, 5));
        let settings = keeper.with(|store| store.settings()).unwrap();
        assert_eq!(settings["dnd.office"], "on");
        let notices: Vec<Notice> = told.try_iter().collect();
        assert!(matches!(notices[..], [Notice::Fails { .. }, Notice::Works]), "{notices:?}");
    }

    #[test]
    fn a_hole_is_committed_and_told_where_the_disk_was_too_slow() {
        let (mut keeper, tail, _told) = keeper();
        keeper.waiting = Backlog::new(10);
        events(1, 16).into_iter().for_each(|write| keeper.wait(write));
        keeper.commit();
        let kept = keeper.with(|store| store.events_since(0, 16)).unwrap();
        assert_eq!(numbers(&kept), [9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(
            (kept[0].kind.as_str(), kept[0].data.contains("overload")),
            ("gap", true),
            "{:?}",
            kept[0]
        );
        assert_eq!(tail.borrow().newest(), 16);
    }

    #[test]
    fn how_the_journal_is_kept_changes_with_the_configuration() {
        let (mut keeper, _tail, _told) = keeper();
        let mut recorder = Recorder::new(0, Chance::from_number(1));
        let mut pressed = |keeper: &mut Keeper, digits: &str| {
            let kind = Kind::CallDtmf {
                leg: crate::events::tests::leg(),
                by: crate::events::Side::Local,
                digits: Some(digits.to_owned()),
                duration_us: None,
                method: "rfc4733".to_owned(),
            };
            let event = recorder.record(Now { mono_us: 0, utc_us: 0 }, Event::new(kind));
            keeper.take(Job::Keep(Write::Event(Box::new(event))));
        };
        for (shown, digits) in [(false, "4711"), (true, "0815"), (false, "2222")] {
            let retention = Duration::from_secs(if shown { 7 } else { 8 });
            let journal = Journal { digits: shown, retention, ..Journal::default() };
            keeper.take(Job::Keeping(Box::new(journal)));
            assert_eq!(keeper.journal.retention, retention);
            pressed(&mut keeper, digits);
        }
        keeper.commit();
        let kept = keeper.with(|store| store.events_since(0, 16)).unwrap();
        let told: Vec<bool> = ["4711", "0815", "2222"]
            .into_iter()
            .map(|digits| kept.iter().any(|event| event.data.contains(digits)))
            .collect();
        assert_eq!((kept.len(), told), (3, vec![false, true, false]));
    }
}

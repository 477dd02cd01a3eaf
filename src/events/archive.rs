//! The reading side of the store, for whoever tells events on: requests travel to the thread that owns the
//! [`Store`], answers come back, and the number of the newest committed event can be awaited.
//!
//! Nothing is told before it is committed, and catching up and following are one path: wait until there is something
//! newer than the last number one has, then ask for it.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;

use tokio::sync::{oneshot, watch};

use super::cloud_event::CloudEvent;
use super::store::{Concerned, Entry, Erase, Erased, JournalPage, Query, Recall, Store, StoreError, Write};
use super::tail::Tail;
use super::upstream::state::State;
use super::upstream::subscription::Subscription;
use super::upstream::turn::Notes;
use crate::config;

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread that owns the store is given to do.
#[derive(Debug)]
pub enum Job {
    /// Keep this for good.
    Keep(Write),
    /// Keep the journal like this from now on.
    Keeping(Box<config::Journal>),
    /// Events after a number, a page of them.
    Events {
        /// The last number that is known.
        since: u64,
        /// Events at most.
        limit: u32,
        /// Where they go.
        reply: Reply<Vec<CloudEvent>>,
    },
    /// All events of one call.
    EventsOfCall {
        /// The call.
        call: String,
        /// Where they go.
        reply: Reply<Vec<CloudEvent>>,
    },
    /// A page of the journal.
    Journal {
        /// What is searched for.
        query: Query,
        /// Where it goes.
        reply: Reply<JournalPage>,
    },
    /// The rows of one call.
    Call {
        /// The call.
        call: String,
        /// Where they go.
        reply: Reply<Vec<Entry>>,
    },
    /// The last calls of a number.
    Recall(Box<Recall>),
    /// What an erasure would erase.
    Concerned {
        /// Whose.
        whose: Erase,
        /// Where it goes.
        reply: Reply<Concerned>,
    },
    /// Erase somebody's data.
    Erase {
        /// Whose.
        whose: Erase,
        /// The moment, microseconds since 1970.
        now_utc_us: i64,
        /// What was erased.
        reply: Reply<Erased>,
    },
    /// Keep this at once, and say when it is there for good.
    Commit {
        /// What is to be kept.
        write: Write,
        /// That it is.
        reply: Reply<()>,
    },
    /// What an earlier life left of upstreams.
    Upstreams {
        /// Where that goes.
        reply: Reply<Standing>,
    },
    /// Keep what waits, note an orderly end, and stop.
    Stop,
}

/// What there is of upstreams beside the configuration.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Standing {
    /// Where they stand.
    pub states: Vec<State>,
    /// What they remember, by their names.
    pub notes: BTreeMap<String, Notes>,
    /// Those that programs asked for.
    pub subscriptions: Vec<Subscription>,
    /// The number of the newest event.
    pub newest: u64,
}

impl Standing {
    /// What this store has.
    ///
    /// # Errors
    ///
    /// The database can't be read.
    pub fn of(store: &Store) -> Result<Standing, StoreError> {
        let (states, subscriptions) = (store.upstreams()?, store.subscriptions()?);
        let notes = store.notes()?;
        Ok(Standing { states, notes, subscriptions, newest: store.last_sequence()? })
    }
}

/// The asking side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    jobs: SyncSender<Box<Job>>,
    committed: watch::Receiver<Tail>,
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store says why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much is asked at once, or the appliance is ending.
    #[error("the store does not answer: it is overloaded or ending; try again")]
    Busy,
}

impl Archive {
    /// The reading side of the thread that takes `jobs` and announces each commit by `committed`.
    pub fn new(jobs: SyncSender<Box<Job>>, committed: watch::Receiver<Tail>) -> Archive {
        Archive { jobs, committed }
    }

    /// The number of the newest event that is kept.
    pub fn committed(&self) -> u64 {
        self.committed.borrow().newest()
    }

    /// Waits until an event newer than `since` is kept; false if there never will be one.
    pub async fn newer_than(&mut self, since: u64) -> bool {
        self.committed.wait_for(|committed| committed.newest() > since).await.is_ok()
    }

    /// Events after the number `since`, `limit` at most. See [`Store::events_since`](super::store::Store::events_since).
    pub async fn events(&self, since: u64, limit: u32) -> Result<Vec<CloudEvent>, ArchiveError> {
        let recent = self.committed.borrow().page(since, limit);
        match recent {
            Some(page) => Ok(page),
            None => self.ask(|reply| Job::Events { since, limit, reply }).await,
        }
    }

    /// All events of one call.
    pub async fn events_of_call(&self, call: String) -> Result<Vec<CloudEvent>, ArchiveError> {
        self.ask(|reply| Job::EventsOfCall { call, reply }).await
    }

    /// A page of the journal, newest first.
    pub async fn journal(&self, query: Query) -> Result<JournalPage, ArchiveError> {
        self.ask(|reply| Job::Journal { query, reply }).await
    }

    /// The rows of one call.
    pub async fn call(&self, call: String) -> Result<Vec<Entry>, ArchiveError> {
        self.ask(|reply| Job::Call { call, reply }).await
    }

    /// What [`Archive::erase`] would erase.
    pub async fn concerned(&self, whose: Erase) -> Result<Concerned, ArchiveError> {
        self.ask(|reply| Job::Concerned { whose, reply }).await
    }

    /// Erases somebody's data.
    pub async fn erase(&self, whose: Erase, now_utc_us: i64) -> Result<Erased, ArchiveError> {
        self.ask(|reply| Job::Erase { whose, now_utc_us, reply }).await
    }

    /// Keeps something that somebody waits for: once this answers, no power cut takes it away. It is handed over at once,
    /// whether anybody waits or not.
    pub fn commit(&self, write: Write) -> impl Future<Output = Result<(), ArchiveError>> + use<> {
        self.ask(|reply| Job::Commit { write, reply })
    }

    /// What an earlier life left of upstreams.
    pub async fn upstreams(&self) -> Result<Standing, ArchiveError> {
        self.ask(|reply| Job::Upstreams { reply }).await
    }

    /// Hands over something to be kept; false if the store is so busy that it has to be handed over again.
    pub fn keep(&self, write: Write) -> bool {
        self.jobs.try_send(Box::new(Job::Keep(write))).is_ok()
    }

    fn ask<T, J>(&self, job: J) -> impl Future<Output = Result<T, ArchiveError>> + use<T, J>
    where
        J: FnOnce(Reply<T>) -> Job,
    {
        let (reply, answer) = oneshot::channel();
        let taken = self.jobs.try_send(Box::new(job(reply))).is_ok();
        async move {
            if !taken {
                return Err(ArchiveError::Busy);
            }
            Ok(answer.await.map_err(|_| ArchiveError::Busy)??)
        }
    }
}

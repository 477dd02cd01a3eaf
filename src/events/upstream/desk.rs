//! Where others ask about upstreams: wishes travel to whoever drives them, and their outcome comes back.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::subscription::{Applicant, Subscription, SubscriptionError, Wanted};

/// Wishes that may wait.
const QUEUE: usize = 64;

/// Where an outcome goes.
type Reply<T> = oneshot::Sender<Result<T, UpstreamError>>;

/// What can be asked.
#[derive(Debug)]
pub enum Wish {
    /// How all of them are.
    List(Reply<Vec<View>>),
    /// Send a test event now.
    Test {
        /// The upstream.
        name: String,
        /// How that ended.
        reply: Reply<Tested>,
    },
    /// Change what an upstream does.
    Change {
        /// The upstream.
        name: String,
        /// What it is to do.
        change: Change,
        /// How it is then.
        reply: Reply<View>,
    },
    /// Something about subscriptions.
    Subscription {
        /// The extension.
        extension: String,
        /// Who asks.
        who: Applicant,
        /// What they want.
        what: SubscriptionWish,
        /// What that is about then.
        reply: Reply<Vec<Subscribed>>,
    },
}

/// What can be asked about the subscriptions of an extension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubscriptionWish {
    /// Those that are one's own; all, for whoever may see all.
    List,
    /// Another one.
    Add(Wanted),
    /// One less.
    End(u32),
}

/// A subscription, as whoever asks is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// What it is.
    pub subscription: Subscription,
    /// A URL that would be better: its own can be guessed.
    pub proposal: Option<String>,
}

/// What an upstream can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Deliver nothing until [`Change::Resume`].
    Pause,
    /// Deliver, at once.
    Resume,
    /// Deliver everything after this number once more.
    Replay(u64),
}

/// One upstream at one moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct View {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where it is, without what may be secret.
    pub url: String,
    /// `idle` (it has everything), `connecting`, `delivering`, `retrying`, `paused` or `stopped` (it answered 410).
    pub state: &'static str,
    /// Every event up to this number is delivered, or not for it.
    pub sequence: u64,
    /// Numbers after it that are kept here: at most so many events wait.
    pub waiting: u64,
    /// Events that it has taken since the start of the program.
    pub delivered: u64,
    /// Attempts since then that did not succeed.
    pub failed: u64,
    /// Events that it never took while it took others; told as `upstream.refused`.
    pub set_aside: u64,
    /// Events since the start that were worth nothing any more when they could have been delivered.
    pub expired: u64,
    /// Events since then that the record had dropped before they could be told, to a kind that has no words for a `gap`.
    pub missing: u64,
    /// Why the last attempt failed; absent when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// Seconds until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_s: Option<u64>,
    /// When it took an event last, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// How a test ended.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tested {
    /// Whether the upstream took it.
    pub taken: bool,
    /// The status that it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long that took.
    pub duration_us: u64,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// Why a wish was not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No upstream has this name.
    #[error("there is no upstream {name}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The number lies in the future.
    #[error("there is no event {since} yet: the newest one is {newest}")]
    Future {
        /// The number.
        since: u64,
        /// The newest there is.
        newest: u64,
    },
    /// It is about a subscription.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// Too much is asked at once, or the appliance is ending.
    #[error("the upstreams do not answer")]
    Busy,
}

/// The asking side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstreams(mpsc::Sender<Wish>);

impl Upstreams {
    /// A desk, and where the wishes are taken from.
    pub fn open() -> (Upstreams, mpsc::Receiver<Wish>) {
        let (wishes, inbox) = mpsc::channel(QUEUE);
        (Upstreams(wishes), inbox)
    }

    /// How all upstreams are, in the order of the configuration.
    pub async fn list(&self) -> Result<Vec<View>, UpstreamError> {
        self.ask(Wish::List).await
    }

    /// Sends a test event to one of them and waits for its answer.
    pub async fn test(&self, name: String) -> Result<Tested, UpstreamError> {
        self.ask(|reply| Wish::Test { name, reply }).await
    }

    /// Changes what one of them does.
    pub async fn change(&self, name: String, change: Change) -> Result<View, UpstreamError> {
        self.ask(|reply| Wish::Change { name, change, reply }).await
    }

    /// Asks about the subscriptions of an extension. What is added or ended outlives a power cut once this answers.
    pub async fn subscription(
        &self,
        extension: String,
        who: Applicant,
        what: SubscriptionWish,
    ) -> Result<Vec<Subscribed>, UpstreamError> {
        self.ask(|reply| Wish::Subscription { extension, who, what, reply }).await
    }

    async fn ask<T>(&self, wish: impl FnOnce(Reply<T>) -> Wish) -> Result<T, UpstreamError> {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send(wish(reply)).map_err(|_| UpstreamError::Busy)?;
        outcome.await.unwrap_or(Err(UpstreamError::Busy))
    }
}

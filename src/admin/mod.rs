//! What people and monitors see: the HTTP API on the local socket and on `admin.listen`, the event stream,
//! the metrics, and the commands that talk to them.
//!
//! The room owns who may ask what ([`access`]), the routes ([`routes`] is the one table that the router, the
//! rights and the description of the API come from), and how an answer looks. It decides nothing about calls:
//! a wish goes to the [`Desk`], what happened comes from the [`Archive`], and both know nothing of HTTP.
//!
//! It must not know protocols, sound or the sockets of calls.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this room serves sockets of its own"
)]

pub mod access;
pub mod ami;
pub mod answer;
mod attempts;
mod calls;
mod cdr;
pub mod cli;
mod connection;
mod doctor;
mod entrance;
mod idempotency;
mod journal;
pub mod ledger;
mod lines;
mod links;
mod listener;
mod metrics;
mod monitor;
mod openapi;
mod recordings;
mod request;
mod rostelecom;
pub mod routes;
mod settings;
mod stream;
mod subscriptions;
mod trace;
mod upstreams;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::events::archive::Archive;
use crate::events::upstream::desk::Upstreams;
use crate::now::{Now, micros};
use crate::phone::desk::Desk;
pub use listener::serve;

/// Readers of the event stream at once.
const STREAMS: usize = 32;

/// What the API works with.
#[derive(Clone, Debug)]
pub struct Office {
    /// Where the phone is asked.
    pub desk: Desk,
    /// Where events and the journal are read.
    pub archive: Archive,
    /// Where upstreams are asked about.
    pub upstreams: Upstreams,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// What HTTPS in the network needs, while it is wanted; connections made later follow it.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

/// What all handlers share.
#[derive(Debug)]
struct Shared {
    office: Office,
    /// Doors that can't be opened, and why: one sentence each.
    shut: Mutex<std::collections::BTreeMap<String, String>>,
    streams: Arc<Semaphore>,
    attempts: attempts::Attempts,
    repeats: idempotency::Repeats,
    links: links::Links,
    scrolls: cdr::Scrolls,
    ledger: Mutex<ledger::Ledger>,
    orders: rostelecom::Orders,
    begun: std::time::Instant,
    /// Requests answered.
    answered: AtomicU64,
    /// Requests refused for want of rights.
    refused: AtomicU64,
    /// Ends the event streams when the appliance ends.
    closing: watch::Receiver<bool>,
}

/// The state of every handler.
type App = Arc<Shared>;

impl Shared {
    fn new(office: Office, closing: watch::Receiver<bool>) -> App {
        Arc::new(Shared {
            office,
            shut: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            attempts: attempts::Attempts::default(),
            repeats: idempotency::Repeats::default(),
            links: links::Links::new(),
            scrolls: cdr::Scrolls::default(),
            ledger: Mutex::default(),
            orders: rostelecom::Orders::default(),
            begun: std::time::Instant::now(),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closing,
        })
    }

    /// The moment.
    fn now(&self) -> Now {
        Now { mono_us: micros(self.begun.elapsed()), utc_us: now_utc_us() }
    }

    /// Notes that a door is shut, or open again.
    fn door(&self, door: &str, trouble: Option<String>) {
        let mut shut = lock(&self.shut);
        match trouble {
            Some(trouble) => drop(shut.insert(door.to_owned(), trouble)),
            None => drop(shut.remove(door)),
        }
    }

    /// One sentence for each door that is shut.
    fn troubles(&self) -> Vec<String> {
        lock(&self.shut).values().cloned().collect()
    }
}

/// The value, though a holder panicked: every value here stays whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The moment, as the rooms take it. Only the calendar clock is used here.
fn now_utc_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

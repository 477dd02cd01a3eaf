//! Telling events to other systems: the delivery policy of one upstream, as a state machine in time and chance.
//!
//! An [`Upstream`] is told that there is news, asks for pages of the record ([`Action::Read`]), lets pass what its
//! [`Filter`] lets pass, has its [`Dialect`] put that into words, and asks for requests to be sent ([`Action::Send`]).
//! It knows no sockets and no store: a driver in `device/` carries out what [`Upstream::poll_action`] says and brings
//! the outcome back.
//!
//! What it keeps to:
//!
//! * **Nothing is lost.** An event is done when the other side has answered 2xx to it, when it is not for this upstream,
//!   when it expired (momentary things alone, and only where the clock could be believed), or when it was refused again
//!   and again while others were taken. Everything else is owed for as long as the store has it, and there is room for what
//!   is owed; what is put aside is told and counted, what the store had to drop is told as a `gap`.
//! * **In order within a call.** Events of one subject go one after the other; those of different subjects overlap, a
//!   few at a time. So what was taken is no longer one number: [`State`] keeps the last number looked at and the short
//!   list of those still owed, rather than a low-water mark and the taken ones above it, whose list has no bound while
//!   one event of thousands is stuck.
//! * **A retry says the same.** Identity and body are rendered once ([`Frozen`](dialect::Frozen)). Where the program ended in between
//!   they are rendered again from the same record, so a receiver knows doubles by their identity. State is written
//!   some seconds late: after a power cut events are told twice rather than never.
//! * **Whoever is away costs a timer.** After a failure one request at a time goes out, at growing distances with
//!   jitter, never before `Retry-After` is over; nothing more is read meanwhile than the page there is.
//! * **A hole is told** as a `gap`; what has no words for that is told nothing, and the hole is counted where people look.
//! * **In turn.** An event may take several requests, each made of what the one before was answered ([`turn`]).
//! * **Blame.** A failure is the upstream's until it takes another event; then it is that event's, which waits for
//!   longer and longer in the background, those of its subject behind it, and keeps no other waiting. An event that is refused
//!   (4xx) so often is put aside, and so is one that takes the room of others. One that refuses everything is misconfigured, and
//!   loses nothing.
//!
//! Events about upstreams are told through the phone like all others ([`Action::Tell`]); a refused one among them is
//! only counted, so that telling never causes telling.

pub mod action_url;
mod behind;
pub mod bitrix24;
pub mod desk;
pub mod dialect;
pub mod facts;
pub mod filter;
mod form;
pub mod mqtt;
pub mod outcome;
mod owed;
pub mod retry_after;
pub mod ringme;
pub mod rostelecom;
#[cfg(test)]
pub(crate) mod samples;
mod schedule;
pub mod slack;
pub mod state;
pub mod subscription;
pub mod turn;
pub mod webhook;
pub mod webitel;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::chance::Chance;
use crate::config;
use crate::config::UpstreamKind;
use crate::events::cloud_event::{CloudEvent, rfc3339};
use crate::events::{Kind, Suspension};
use crate::now::{CLOCK_WAS_SET, Now, micros};
use behind::Behind;
use desk::{Change, UpstreamError, View};
use dialect::{Dialect, Request};
use filter::Filter;
use outcome::Verdict;
use owed::{Owed, wait};
use state::{Condition, State};
use turn::{Failure, Note};

/// Events that are in memory at most.
const PAGE: usize = 64;
/// Below this many another page is read.
const FEW: usize = PAGE / 2;
/// Refusals of an event, each time with others taken since, after which it is put aside.
const REFUSALS: u32 = 6;
/// Failures of an event, each time with others taken since, from which on they say nothing about the upstream.
const OWN_FAULT: u32 = 2;
/// Failures in a row that are told.
const FAILURES_TOLD: u32 = 5;
/// A wait that is told at once.
const WAIT_TOLD: Duration = Duration::from_secs(60);
/// How often refused events are told at most.
const REFUSED_EVERY: Duration = Duration::from_secs(600);
/// How late state is written.
const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// When somebody is asked again who lets nobody in: what has to be changed may be changed over there.
const LOCKED_FOR: Duration = Duration::from_secs(3600);
/// When the store is asked again that did not answer.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What the driver has to do.
#[derive(Debug)]
pub enum Action {
    /// Read events after `since`, and bring them to [`Upstream::handle_page`].
    Read {
        /// The last number that is known.
        since: u64,
        /// Events at most.
        limit: u32,
    },
    /// Send this, and bring what became of it to [`Upstream::handle_outcome`].
    Send {
        /// The event that it tells.
        sequence: u64,
        /// What to send.
        request: Request,
    },
    /// Keep this for the next life.
    Keep(State),
    /// Keep these for good, and say so to [`Upstream::handle_remembered`].
    Remember {
        /// The event whose delivery waits for that, if one does.
        sequence: Option<u64>,
        /// What is to be remembered.
        notes: Vec<Note>,
    },
    /// Tell this as an event of the device.
    Tell(Box<Kind>),
}

/// One upstream.
pub struct Upstream {
    settings: config::Upstream,
    filter: Filter,
    dialect: Box<dyn Dialect>,
    chance: Chance,
    condition: Condition,
    /// The newest number that is kept.
    newest: u64,
    /// The last number that was looked at, in this life or one before.
    seen: u64,
    /// The last number that was read in this life.
    position: u64,
    owed: Vec<Owed>,
    /// What an earlier life still owed and this one has not read yet.
    recalled: BTreeSet<u64>,
    /// What waits behind the events that fail.
    behind: Behind,
    reading: bool,
    /// The number that is just read again, if that is what is read.
    fetching: Option<u64>,
    read_at: u64,
    /// There is no connection that events could be told over, to a kind that has one.
    away: bool,
    /// How often a connection was lost with events under way since something was taken.
    losses: u32,
    /// Once nothing is under way, begin again after this number.
    replay: Option<u64>,
    /// Failures since something was taken.
    failures: u32,
    retry_at: Option<u64>,
    /// Why it is suspended, as far as that was told.
    told: Option<Suspension>,
    refused_told: Option<u64>,
    refused_untold: u64,
    trouble: Option<(String, String)>,
    keep_at: Option<u64>,
    delivered: u64,
    failed: u64,
    set_aside: u64,
    expired: u64,
    missing: u64,
    last_utc_us: Option<i64>,
    actions: VecDeque<Action>,
}

impl Upstream {
    /// An upstream with these settings on the device with this serial number. `state` is what an earlier life left;
    /// without it, it is new and begins behind `newest`, the newest event that is kept.
    pub fn new(
        now: Now,
        settings: config::Upstream,
        serial: &str,
        state: Option<State>,
        newest: u64,
        chance: Chance,
    ) -> Upstream {
        let new = state.is_none();
        let state = state.unwrap_or_else(|| State { seen: newest, ..State::default() });
        let mut upstream = Upstream {
            filter: Filter::of(&settings),
            dialect: dialect::of(&settings, serial),
            away: settings.kind == UpstreamKind::Mqtt,
            losses: 0,
            settings,
            chance,
            condition: state.condition,
            newest,
            // Numbers beyond the newest one are those of a store that is gone.
            seen: state.seen.min(newest),
            position: state.low().min(newest),
            owed: Vec::new(),
            recalled: state.owed.iter().copied().filter(|owed| *owed <= newest).collect(),
            behind: Behind::default(),
            reading: false,
            fetching: None,
            read_at: 0,
            replay: None,
            failures: 0,
            retry_at: None,
            told: state.condition.suspends(),
            refused_told: None,
            refused_untold: 0,
            trouble: None,
            keep_at: new.then_some(now.mono_us),
            delivered: 0,
            failed: 0,
            set_aside: state.set_aside,
            expired: 0,
            missing: 0,
            last_utc_us: None,
            actions: VecDeque::new(),
        };
        upstream.settle(now);
        upstream
    }

    /// The settings in force.
    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// The newest event that is kept has this number now.
    pub fn handle_news(&mut self, now: Now, newest: u64) {
        self.newest = self.newest.max(newest);
        self.settle(now);
    }

    /// The events after `since`, as asked for by [`Action::Read`]; `None` if the store did not answer.
    pub fn handle_page(&mut self, now: Now, since: u64, page: Option<Vec<CloudEvent>>) {
        let again = self.fetching.filter(|number| number.saturating_sub(1) == since);
        // A replay has begun somewhere else meanwhile.
        if !self.reading || since != self.position && again.is_none() {
            return;
        }
        (self.reading, self.fetching) = (false, None);
        match (page, again) {
            (None, _) => self.read_at = now.deadline(READ_AGAIN),
            (Some(page), Some(number)) => {
                self.read_again(now, number, page.into_iter().next());
                self.keep_soon(now);
            }
            (Some(page), None) => {
                if page.is_empty() {
                    self.newest = self.position;
                }
                for event in page {
                    self.look_at(now, event);
                }
                self.keep_soon(now);
            }
        }
        self.settle(now);
    }

    /// The connection that events are told over stands, to a kind that has one.
    pub fn handle_connected(&mut self, now: Now) {
        (self.away, self.retry_at) = (false, None);
        if self.losses == 0 {
            (self.failures, self.trouble) = (0, None);
            if self.condition == Condition::Active {
                self.tell_resumed();
            }
        }
        self.settle(now);
    }

    /// There is no such connection, or none any more; the next attempt to make one comes at the moment `retry_at`. What was
    /// under way may have been taken or not.
    pub fn handle_disconnected(
        &mut self,
        now: Now,
        trouble: (String, String),
        why: Suspension,
        retry_at: u64,
    ) {
        self.away = true;
        self.trouble = Some(trouble);
        (self.failures, self.failed) = (self.failures.saturating_add(1), self.failed + 1);
        self.losses += u32::from(self.under_way() > 0);
        for owed in self.owed.iter_mut().filter(|owed| owed.in_flight) {
            owed.in_flight = false;
            // A connection that ends each time this is sent may end because of it.
            if self.losses > 1 {
                (owed.failed, owed.tries) = (true, owed.tries + 1);
            }
        }
        self.retry_at = Some(retry_at);
        let left = retry_at.saturating_sub(now.mono_us);
        if self.failures >= FAILURES_TOLD || left > micros(WAIT_TOLD) || why == Suspension::Refused {
            self.suspend(why, Some(left));
        }
        self.settle(now);
    }

    /// A moment that [`Upstream::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.settle(now);
    }

    /// Does what somebody asks.
    ///
    /// # Errors
    ///
    /// A replay can't begin in the future.
    pub fn change(&mut self, now: Now, change: Change) -> Result<(), UpstreamError> {
        match change {
            Change::Pause => {
                self.condition = Condition::Paused;
                self.suspend(Suspension::Paused, None);
            }
            Change::Resume => {
                self.condition = Condition::Active;
                (self.failures, self.retry_at) = (0, None);
                self.owed.iter_mut().for_each(|owed| owed.at = 0);
                self.tell_resumed();
            }
            Change::Replay(since) if since > self.newest => {
                return Err(UpstreamError::Future { since, newest: self.newest });
            }
            Change::Replay(since) => self.replay = Some(since),
        }
        self.keep_at = Some(now.mono_us);
        self.settle(now);
        Ok(())
    }

    /// The last words of this life: what has not been written yet is to be kept now.
    pub fn close(&mut self) {
        if self.keep_at.take().is_some() {
            self.actions.push_back(Action::Keep(self.state()));
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How it is.
    pub fn view(&self, now: Now) -> View {
        let (low, waiting) = (self.state().low(), self.owed.len());
        let state = match self.condition {
            Condition::Paused => "paused",
            Condition::Stopped => "stopped",
            Condition::Active if self.failures > 0 => "retrying",
            Condition::Active if self.away => "connecting",
            Condition::Active if waiting > 0 || self.position < self.newest => "delivering",
            Condition::Active => "idle",
        };
        let (reason, cure) = self.trouble.clone().unzip();
        let next = if self.away { self.retry_at } else { self.next_attempt() };
        let retry = next.filter(|_| self.failures > 0 && self.condition == Condition::Active);
        View {
            name: self.settings.name.clone(),
            kind: self.settings.kind.as_str(),
            url: self.settings.url.masked(),
            state,
            sequence: low,
            waiting: self.newest.saturating_sub(low),
            delivered: self.delivered,
            failed: self.failed,
            set_aside: self.set_aside,
            expired: self.expired,
            missing: self.missing,
            reason,
            cure,
            retry_s: retry.map(|at| at.saturating_sub(now.mono_us).div_ceil(1_000_000)),
            last: self.last_utc_us.map(rfc3339),
        }
    }

    /// Why nothing can be told, and what to do about it, if that is so.
    pub fn trouble(&self) -> Option<(String, String)> {
        self.trouble.clone()
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        let owed = self.owed.iter().map(|owed| owed.number);
        State {
            name: self.settings.name.clone(),
            seen: self.seen,
            owed: owed.chain(self.recalled.iter().copied()).chain(self.behind.numbers()).collect(),
            condition: self.condition,
            set_aside: self.set_aside,
        }
    }

    /// Takes the next event of the record.
    fn look_at(&mut self, now: Now, event: CloudEvent) {
        let (before, sequence) = (self.position, event.sequence);
        self.position = sequence.max(before);
        // A gap stands for every number since the one before it.
        let covered: Vec<u64> = self.recalled.range(..=sequence).copied().collect();
        for number in &covered {
            self.recalled.remove(number);
        }
        let new = sequence > self.seen;
        self.seen = self.seen.max(sequence);
        if new || !covered.is_empty() {
            self.take_up(now, event);
        }
    }

    /// Takes an event that it is owed, if it is one for it; whether it is to be delivered.
    fn take_up(&mut self, now: Now, event: CloudEvent) -> bool {
        let Some(event) = self.filter.pass(event) else { return false };
        if self.is_late(now, &event.kind, event.utc_us) {
            self.expired += 1;
        } else if let Some(frozen) = self.dialect.render(&event) {
            if self.dialect.supersedes(&event.kind) {
                let older = |owed: &Owed| owed.kind == event.kind && owed.frozen.target == frozen.target;
                self.owed.retain(|owed| owed.in_flight || !older(owed));
            }
            self.owed.push(Owed::new(event, frozen));
            return true;
        } else if event.kind == "gap" {
            // Whoever has no word for a hole is told nothing: then whoever looks is.
            self.missing += event.missing();
        }
        false
    }

    fn is_late(&self, now: Now, kind: &str, utc_us: i64) -> bool {
        let after = i64::try_from(self.settings.expire_after.as_micros()).unwrap_or(i64::MAX);
        after > 0
            && utc_us >= CLOCK_WAS_SET
            && now.utc_us.saturating_sub(utc_us) > after
            && self.dialect.pops_up(kind)
    }

    fn taken(&mut self, now: Now, index: usize) {
        self.owed.remove(index);
        self.delivered += 1;
        self.last_utc_us = Some(now.utc_us);
        (self.failures, self.losses, self.retry_at, self.trouble) = (0, 0, None, None);
        let chance = &mut self.chance;
        for owed in self.owed.iter_mut().filter(|owed| owed.failed) {
            // It failed, and it was not the upstream's fault.
            owed.failed = false;
            owed.at = now.deadline(wait(owed.blamed, chance));
            owed.blamed += 1;
        }
        if self.condition == Condition::Active {
            self.tell_resumed();
        }
        self.keep_soon(now);
    }

    fn failed(&mut self, now: Now, index: usize, failure: Failure) {
        self.failed += 1;
        let pause = wait(self.failures, &mut self.chance);
        let blamed = self.owed.get(index).map_or(0, |owed| owed.blamed);
        let own = wait(self.owed.get(index).map_or(0, |owed| owed.tries), &mut self.chance);
        let Failure { verdict, trouble, retry_after, status } = failure;
        let (refused, locked) = (verdict == Verdict::Refused, verdict == Verdict::Locked);
        if let Some(owed) = self.owed.get_mut(index) {
            owed.status = status;
        }
        if refused && blamed + 1 >= REFUSALS {
            return self.put_aside(now, index);
        }
        self.trouble = Some(trouble);
        if let Some(owed) = self.owed.get_mut(index) {
            (owed.in_flight, owed.failed) = (false, true);
            owed.tries += 1;
            owed.at = now.deadline(own);
        }
        let waiting = self.retry_at.is_some_and(|at| at > now.mono_us);
        // An event that failed between others that were taken is to blame for itself, and several that were under way
        // together fail together: that is one failure of the upstream.
        let another = !waiting && blamed < OWN_FAULT;
        if another {
            self.failures += 1;
        }
        let mut until = self.retry_at;
        // A refusal may be that event's own fault: the others go on until a few have been refused.
        let refusals = self.owed.iter().filter(|owed| owed.failed).count();
        if another && (!refused || refusals > 2) {
            until = Some(now.deadline(pause));
        }
        if let Some(asked) = retry_after.max(locked.then_some(LOCKED_FOR)) {
            until = until.max(Some(now.deadline(asked)));
        }
        self.retry_at = until;
        let left = self.next_attempt().map_or(0, |at| at.saturating_sub(now.mono_us));
        if locked || another && (self.failures >= FAILURES_TOLD || left > micros(WAIT_TOLD)) {
            let why = if refused || locked { Suspension::Refused } else { Suspension::Unavailable };
            self.suspend(why, Some(left));
        }
    }

    /// Tells that nothing is delivered now, unless that is known. That nothing ever will be without somebody is news.
    fn suspend(&mut self, why: Suspension, retry_us: Option<u64>) {
        let for_good = matches!(why, Suspension::Paused | Suspension::Gone);
        let news = match self.told {
            None => true,
            Some(Suspension::Unavailable) => why != Suspension::Unavailable,
            told => for_good && told != Some(why),
        };
        if !news {
            return;
        }
        self.told = Some(why);
        let upstream = self.settings.name.clone();
        let (what, cure) = match why {
            Suspension::Paused => {
                ("somebody paused it".to_owned(), format!("tipring upstream resume {upstream}"))
            }
            _ => self.trouble.clone().unwrap_or_default(),
        };
        self.tell(Kind::UpstreamSuspended { upstream, why, what, cure, retry_us });
    }

    fn tell_resumed(&mut self) {
        if self.told.take().is_some() {
            let waiting = self.newest.saturating_sub(self.state().low());
            let upstream = self.settings.name.clone();
            self.tell(Kind::UpstreamResumed { upstream, waiting });
        }
    }

    /// Gives up delivering this event, which is told and counted.
    fn put_aside(&mut self, now: Now, index: usize) {
        let owed = self.owed.remove(index);
        self.behind.inherit(&owed);
        self.set_aside += 1;
        self.keep_soon(now);
        self.tell_refused(now, &owed);
    }

    fn tell_refused(&mut self, now: Now, owed: &Owed) {
        // Telling of them would have it refuse those, too, without end.
        if owed.kind.starts_with("upstream.") {
            return;
        }
        self.refused_untold += 1;
        if self.refused_told.is_some_and(|at| now.since(at) < REFUSED_EVERY) {
            return;
        }
        self.refused_told = Some(now.mono_us);
        let kind = Kind::UpstreamRefused {
            upstream: self.settings.name.clone(),
            refused: owed.frozen.id.clone(),
            sequence: owed.sequence,
            event: owed.kind.clone(),
            status: owed.status.unwrap_or_default(),
            count: std::mem::take(&mut self.refused_untold),
        };
        self.tell(kind);
    }

    fn tell(&mut self, kind: Kind) {
        self.actions.push_back(Action::Tell(Box::new(kind)));
    }

    fn keep_soon(&mut self, now: Now) {
        self.keep_at.get_or_insert(now.deadline(KEPT_WITHIN));
    }
}

#[cfg(test)]
mod tests;

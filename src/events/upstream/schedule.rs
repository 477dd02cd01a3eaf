//! What an upstream is sent next, and when: the first event of each subject, a few at a time, one alone after a failure.

use super::state::Condition;
use super::{Action, FEW, OWN_FAULT, PAGE, Upstream, behind};
use crate::now::{Now, earliest};

/// Requests under way while all is well.
pub(super) const WINDOW: usize = 4;

impl Upstream {
    /// When [`Upstream::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        let mut due = self.keep_at;
        if self.condition == Condition::Active && self.replay.is_none() {
            if self.wants_to_read() || self.next_behind().is_some() {
                due = earliest(due, Some(self.read_at));
            }
            if self.under_way() < self.window() && !self.away && self.dialect.is_ready() {
                due = earliest(due, self.next_attempt());
            }
        }
        due
    }

    /// Orders everything that is due.
    pub(super) fn settle(&mut self, now: Now) {
        if let Some(since) = self.replay.filter(|_| self.under_way() == 0) {
            self.replay = None;
            self.owed.clear();
            self.recalled.clear();
            self.behind.clear();
            (self.seen, self.position) = (since, since);
            (self.reading, self.fetching) = (false, None);
            (self.failures, self.retry_at) = (0, None);
            self.keep_at = Some(now.mono_us);
        }
        if self.condition == Condition::Active && self.replay.is_none() {
            self.drop_late(now);
            self.put_off();
            while let Some(index) = self.in_the_way() {
                self.put_aside(now, index);
            }
            let may_read = self.read_at <= now.mono_us;
            if let Some(number) = self.next_behind().filter(|_| may_read) {
                (self.reading, self.fetching) = (true, Some(number));
                self.actions.push_back(Action::Read { since: number.saturating_sub(1), limit: 1 });
            } else if may_read && self.wants_to_read() {
                self.reading = true;
                let limit = u32::try_from(PAGE - self.owed.len()).unwrap_or(1);
                self.actions.push_back(Action::Read { since: self.position, limit });
            }
            while let Some(index) = self.due(now) {
                self.step(now, index);
            }
        }
        if self.keep_at.is_some_and(|at| at <= now.mono_us) {
            self.close();
        }
    }

    /// Forgets what pops up on a screen and is too old for that.
    fn drop_late(&mut self, now: Now) {
        let before = self.owed.len();
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|owed| owed.in_flight || !self.is_late(now, &owed.kind, owed.utc_us));
        self.owed = owed;
        let dropped = before - self.owed.len();
        if dropped > 0 {
            self.expired += dropped as u64;
            self.keep_soon(now);
        }
    }

    /// When the next request may go out, if there is one to send.
    pub(super) fn next_attempt(&self) -> Option<u64> {
        let next = self.heads().filter_map(|index| self.owed.get(index)).map(|owed| owed.at).min();
        next.map(|at| at.max(self.retry_at.unwrap_or(0)))
    }

    fn wants_to_read(&self) -> bool {
        // While nothing is taken, only what has not been tried yet could show that something is.
        let tried = |index: usize| self.owed.get(index).is_some_and(|owed| owed.failed);
        let worth = self.failures == 0 || self.heads().all(tried);
        // What fails by its own fault has room of its own, or the others would wait for it.
        let others = self.owed.iter().filter(|owed| owed.blamed < OWN_FAULT).count();
        let room = others < FEW && self.owed.len() < PAGE && self.behind.len() <= behind::MOST;
        worth && room && !self.reading && self.position < self.newest
    }

    pub(super) fn under_way(&self) -> usize {
        self.owed.iter().filter(|owed| owed.in_flight).count()
    }

    fn window(&self) -> usize {
        if self.failures > 0 { 1 } else { WINDOW }
    }

    /// The events that may be next: the first of each subject, unless it is under way.
    fn heads(&self) -> impl Iterator<Item = usize> {
        let mut subjects: Vec<Option<&str>> = Vec::new();
        self.owed.iter().enumerate().filter_map(move |(index, owed)| {
            let subject = owed.subject.as_deref();
            if subjects.contains(&subject) {
                return None;
            }
            subjects.push(subject);
            (!owed.in_flight).then_some(index)
        })
    }

    /// The event to send now: the one that was tried least, so that one that never succeeds keeps no other waiting.
    fn due(&self, now: Now) -> Option<usize> {
        let waits = self.retry_at.is_some_and(|at| at > now.mono_us);
        if self.away || waits || self.under_way() >= self.window() || !self.dialect.is_ready() {
            return None;
        }
        let owed = |index: &usize| self.owed.get(*index);
        let ready = self.heads().filter(|index| owed(index).is_some_and(|owed| owed.at <= now.mono_us));
        ready.min_by_key(|index| owed(index).map(|owed| (owed.tries, owed.sequence)))
    }
}

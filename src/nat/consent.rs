//! Consent freshness (RFC 7675): whoever no longer answers is sent no more.

use crate::chance::Chance;
use crate::nat::stun::TransactionId;
use crate::now::Now;
use std::collections::VecDeque;
use std::time::Duration;

/// Without an answer for so long nothing more is sent (RFC 7675 §5.1).
pub const EXPIRY: Duration = Duration::from_secs(30);
/// A request leaves so often, ± 20 %.
const INTERVAL_MS: u32 = 5_000;
/// … and so often while there is doubt.
const DOUBT_INTERVAL: Duration = Duration::from_millis(100);
/// Unanswered for so long, a request raises doubt.
const DOUBTFUL_AFTER: Duration = Duration::from_millis(500);
/// Doubt that lasts so long is a broken path.
const BROKEN_AFTER: Duration = Duration::from_millis(800);
/// Requests whose answers are still awaited.
const OUTSTANDING: usize = 16;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Send a request.
    Request,
    /// The path is broken: nothing came back for a second, though it was asked for often.
    Broken,
    /// Consent has expired.
    Expired,
}

/// The consent of the far end to be sent to.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    fresh_until_us: u64,
    next_us: u64,
    /// The last request that is unanswered.
    asked_us: Option<u64>,
    doubt_since_us: Option<u64>,
    broken_told: bool,
    outstanding: VecDeque<TransactionId>,
}

impl Consent {
    /// A check has just been answered.
    pub(super) fn given(now: Now, chance: &mut Chance) -> Consent {
        Consent {
            fresh_until_us: now.deadline(EXPIRY),
            next_us: now.deadline(interval(chance)),
            asked_us: None,
            doubt_since_us: None,
            broken_told: false,
            outstanding: VecDeque::new(),
        }
    }

    /// Something says that the path may be broken: it is asked at once.
    pub(super) fn doubt(&mut self, now: Now) {
        if self.doubt_since_us.is_none() {
            self.doubt_since_us = Some(now.mono_us);
            self.next_us = now.mono_us;
        }
    }

    /// Whether there is consent.
    pub(super) fn is_fresh(&self, now: Now) -> bool {
        now.mono_us < self.fresh_until_us
    }

    /// The request that is sent now.
    pub(super) fn request(&mut self, now: Now, id: TransactionId, chance: &mut Chance) {
        if self.outstanding.len() >= OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(id);
        self.asked_us.get_or_insert(now.mono_us);
        self.next_us = match self.doubt_since_us {
            Some(_) if !self.broken_told => now.deadline(DOUBT_INTERVAL),
            // A path that is told to be broken is still asked: it may come back.
            Some(_) => now.deadline(DOUBTFUL_AFTER),
            None => now.deadline(interval(chance)),
        };
    }

    /// An authentic answer came; true if it is one of ours. Tells whether the path had been broken.
    pub(super) fn answered(&mut self, now: Now, id: TransactionId, chance: &mut Chance) -> bool {
        if !self.outstanding.contains(&id) {
            return false;
        }
        *self = Consent::given(now, chance);
        true
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> u64 {
        let mut next = self.next_us.min(self.fresh_until_us);
        if !self.broken_told
            && let Some(since) = self.doubt_since_us
        {
            next = next.min(since + crate::now::micros(BROKEN_AFTER));
        }
        match (self.doubt_since_us, self.asked_us) {
            (None, Some(asked)) => next.min(asked + crate::now::micros(DOUBTFUL_AFTER)),
            _ => next,
        }
    }

    /// What is due now.
    pub(super) fn handle_timeout(&mut self, now: Now) -> Option<Due> {
        if !self.is_fresh(now) {
            return Some(Due::Expired);
        }
        if self.doubt_since_us.is_none() && self.asked_us.is_some_and(|at| now.since(at) >= DOUBTFUL_AFTER) {
            self.doubt_since_us = self.asked_us;
            self.next_us = now.mono_us;
        }
        if !self.broken_told && self.doubt_since_us.is_some_and(|at| now.since(at) >= BROKEN_AFTER) {
            self.broken_told = true;
            return Some(Due::Broken);
        }
        (self.next_us <= now.mono_us).then_some(Due::Request)
    }
}

fn interval(chance: &mut Chance) -> Duration {
    let spread = INTERVAL_MS * 2 / 5;
    Duration::from_millis(u64::from(INTERVAL_MS - spread / 2 + chance.below(spread)))
}

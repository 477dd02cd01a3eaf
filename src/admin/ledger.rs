//! How many calls each user has started of late.

use std::collections::{BTreeMap, VecDeque};

use crate::now::Now;

const MINUTE_US: u64 = 60_000_000;

/// What all connections together have started.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<String, VecDeque<u64>>);

impl Ledger {
    /// Counts a call of a user who may start `most` in a minute; false where that is one too many.
    pub fn spend(&mut self, user: &str, most: u32, now: Now) -> bool {
        let calls = self.0.entry(user.to_owned()).or_default();
        while calls.front().is_some_and(|at| now.mono_us.saturating_sub(*at) >= MINUTE_US) {
            calls.pop_front();
        }
        let room = calls.len() < most as usize;
        if room {
            calls.push_back(now.mono_us);
        }
        room
    }
}

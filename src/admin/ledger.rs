//! How much each has begun of late: calls of users of the manager protocol, requests of upstreams.

use std::collections::{BTreeMap, VecDeque};

use crate::now::Now;

const MINUTE_US: u64 = 60_000_000;

/// What all connections together have begun.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<String, VecDeque<u64>>);

impl Ledger {
    /// Counts one more of somebody who may begin `most` in a minute; false where that is one too many.
    pub fn spend(&mut self, who: &str, most: u32, now: Now) -> bool {
        let recent = self.0.entry(who.to_owned()).or_default();
        while recent.front().is_some_and(|at| now.mono_us.saturating_sub(*at) >= MINUTE_US) {
            recent.pop_front();
        }
        let room = recent.len() < most as usize;
        if room {
            recent.push_back(now.mono_us);
        }
        room
    }
}

//! A small timer table: at most one deadline per key, the earliest first.

use std::collections::{BTreeMap, BTreeSet};

/// Deadlines in µs of the monotonic clock, by key.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(u64, K)>,
    due: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Timers<K> {
    /// An empty table.
    pub fn new() -> Timers<K> {
        Timers { queue: BTreeSet::new(), due: BTreeMap::new() }
    }

    /// Sets, moves or (with `None`) clears the deadline of `key`.
    pub fn set(&mut self, key: K, deadline: Option<u64>) {
        if let Some(old) = self.due.remove(&key) {
            self.queue.remove(&(old, key.clone()));
        }
        if let Some(deadline) = deadline {
            self.due.insert(key.clone(), deadline);
            self.queue.insert((deadline, key));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out the earliest key that is due at `mono_us`.
    pub fn pop(&mut self, mono_us: u64) -> Option<K> {
        if self.next()? > mono_us {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.due.remove(&key);
        Some(key)
    }
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_and_only_when_due() {
        let mut timers = Timers::new();
        timers.set('b', Some(20));
        timers.set('a', Some(10));
        timers.set('c', Some(30));
        timers.set('b', Some(5));
        timers.set('c', None);
        assert_eq!(timers.next(), Some(5));
        assert_eq!(timers.pop(4), None);
        assert_eq!(timers.pop(10), Some('b'));
        assert_eq!(timers.pop(10), Some('a'));
        assert_eq!(timers.pop(u64::MAX), None);
    }
}

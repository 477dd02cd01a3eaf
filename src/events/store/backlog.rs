//! What waits to be kept while the disk is slow or refuses: bounded, in order, and honest about what it had to give up.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::{Binding, Write};
use crate::events::upstream::state::State;
use crate::events::upstream::subscription::Subscription;

/// Why events are missing that nobody could keep in time.
const OVERLOAD: &str = "overload";

/// A queue of writes. Past its limit the older half of its events becomes a gap, which is kept in their place and told to
/// whoever reads on; of what only its last value counts, such as where an upstream stands, the last value stays.
#[derive(Debug)]
pub struct Backlog {
    waiting: VecDeque<Write>,
    most: usize,
}

impl Backlog {
    /// An empty queue for `most` writes, 4 at least.
    pub fn new(most: usize) -> Backlog {
        Backlog { waiting: VecDeque::new(), most: most.max(4) }
    }

    /// Adds what is to be kept last. The answer is the numbers of the events that had to be given up for it, if any.
    pub fn push(&mut self, write: Write) -> Option<RangeInclusive<u64>> {
        self.waiting.push_back(write);
        if self.waiting.len() > self.most { self.give_up() } else { None }
    }

    /// What is to be kept next.
    pub fn pop(&mut self) -> Option<Write> {
        self.waiting.pop_front()
    }

    /// Puts back what [`Backlog::pop`] gave.
    pub fn put_back(&mut self, write: Write) {
        self.waiting.push_front(write);
    }

    /// Everything, in order.
    pub fn as_slice(&mut self) -> &[Write] {
        self.waiting.make_contiguous()
    }

    /// Forgets the first `count`: they are kept.
    pub fn kept(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn give_up(&mut self) -> Option<RangeInclusive<u64>> {
        let older: Vec<Write> = self.waiting.drain(..self.most / 2).collect();
        let mut hole: Option<(u64, u64, i64)> = None;
        let mut left = Vec::new();
        let mut seen = BTreeSet::new();
        for write in older.into_iter().rev() {
            match &write {
                Write::Event(event) => widen(&mut hole, event.sequence, event.sequence, event.utc_us),
                Write::Gap { first, last, utc_us, .. } => widen(&mut hole, *first, *last, *utc_us),
                _ if key(&write).is_some_and(|key| !seen.insert(key)) => {}
                _ => left.push(write),
            }
        }
        // Rows of the journal that nobody can keep have to go at last; what is small and few never has to.
        left.truncate(self.most / 4);
        left.into_iter().for_each(|write| self.waiting.push_front(write));
        let (first, last, utc_us) = hole?;
        self.waiting.push_front(Write::Gap { first, last, reason: OVERLOAD.to_owned(), utc_us });
        Some(first..=last)
    }
}

fn widen(hole: &mut Option<(u64, u64, i64)>, first: u64, last: u64, utc_us: i64) {
    let (before, after, at) = hole.unwrap_or((first, last, utc_us));
    *hole = Some((before.min(first), after.max(last), at.max(utc_us)));
}

/// By what a later write takes the place of an earlier one; `None` where each counts.
fn key(write: &Write) -> Option<String> {
    match write {
        Write::Call(entry) => Some(format!("call {}", entry.leg.leg_id)),
        Write::Setting { name, .. } => Some(format!("setting {name}")),
        Write::Upstream(State { name, .. }) | Write::UpstreamGone(name) => Some(format!("upstream {name}")),
        Write::Binding(Binding { line, flow, .. }) | Write::Unbound { line, flow } => {
            Some(format!("binding {flow} {line}"))
        }
        Write::Subscribed(Subscription { id, .. }) | Write::Unsubscribed(id) => {
            Some(format!("subscription {id}"))
        }
        Write::Event(_) | Write::Gap { .. } | Write::Usage(_) | Write::Notes { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use crate::events::{Event, Kind, Recorder};
    use crate::now::Now;

    fn setting(name: &str, value: &str) -> Write {
        Write::Setting { name: name.to_owned(), value: Some(value.to_owned()) }
    }

    /// What waits, in words: `1` an event, `1-3` a gap, `a=1` a setting.
    fn words(backlog: &mut Backlog) -> String {
        let word = |write: &Write| match write {
            Write::Event(event) => event.sequence.to_string(),
            Write::Gap { first, last, reason, .. } => {
                assert_eq!(reason, OVERLOAD);
                format!("{first}-{last}")
            }
            Write::Setting { name, value } => format!("{name}={}", value.as_deref().unwrap_or_default()),
            other => format!("{other:?}"),
        };
        backlog.as_slice().iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn past_the_limit_the_older_events_become_a_hole_and_settings_keep_their_last_value() {
        let mut recorder = Recorder::new(0, Chance::from_number(1));
        let mut event = || {
            let kind = Kind::UpstreamResumed { upstream: String::new(), waiting: 0 };
            Write::Event(Box::new(recorder.record(Now { mono_us: 0, utc_us: 7 }, Event::new(kind))))
        };
        let mut backlog = Backlog::new(8);
        for value in ["1", "2"] {
            assert_eq!(backlog.push(event()), None);
            assert_eq!(backlog.push(setting("a", value)), None);
        }
        for _ in 0..4 {
            assert_eq!(backlog.push(event()), None);
        }
        assert_eq!(words(&mut backlog), "1 a=1 2 a=2 3 4 5 6");
        assert_eq!(backlog.push(setting("b", "1")), Some(1..=2));
        assert_eq!(words(&mut backlog), "1-2 a=2 3 4 5 6 b=1");
        backlog.push(event());
        assert_eq!(backlog.push(event()), Some(1..=4), "a hole that was not kept yet widens");
        assert_eq!(words(&mut backlog), "1-4 a=2 5 6 b=1 7 8");
        let first = backlog.pop().unwrap();
        backlog.put_back(first);
        backlog.kept(2);
        assert_eq!((words(&mut backlog).as_str(), backlog.len()), ("5 6 b=1 7 8", 5));
    }

    #[test]
    fn nothing_makes_it_longer_than_its_limit() {
        let mut backlog = Backlog::new(100);
        for number in 0..10_000 {
            assert_eq!(backlog.push(setting(&number.to_string(), "x")), None);
            assert!(backlog.len() <= 100);
        }
        assert!(words(&mut backlog).ends_with("9998=x 9999=x"), "the newest are there");
    }
}

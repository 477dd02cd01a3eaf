//! The newest committed events, in memory: whoever is up to date reads them here, without a question to the store. All
//! readers share them, so one more costs the disk nothing.

use std::collections::VecDeque;

use super::CloudEvent;

/// Events at most.
const EVENTS: usize = 512;
/// Bytes of their data at most.
const BYTES: usize = 256 << 10;

/// The end of the record, without holes.
#[derive(Debug, Default)]
pub struct Tail {
    newest: u64,
    events: VecDeque<CloudEvent>,
    bytes: usize,
}

impl Tail {
    /// Nothing but the number of the newest event that is kept.
    pub fn after(newest: u64) -> Tail {
        Tail { newest, ..Tail::default() }
    }

    /// The number of the newest event, or hole, that is kept.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Adds what was committed, in order; `newest` lies beyond the last of them where a hole was committed after it.
    pub fn append(&mut self, events: Vec<CloudEvent>, newest: u64) {
        for event in events {
            if event.sequence <= self.newest {
                continue;
            }
            if event.sequence != self.newest + 1 {
                self.clear();
            }
            self.newest = event.sequence;
            self.bytes += event.data.len();
            self.events.push_back(event);
        }
        if newest > self.newest {
            self.newest = newest;
            self.clear();
        }
        while self.events.len() > EVENTS || self.bytes > BYTES {
            let Some(event) = self.events.pop_front() else { break };
            self.bytes -= event.data.len();
        }
    }

    /// Forgets the events: some of the record was erased.
    pub fn clear(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }

    /// The events after `since`, `limit` at most; `None` if only the store can tell.
    pub fn page(&self, since: u64, limit: u32) -> Option<Vec<CloudEvent>> {
        if since >= self.newest {
            // In a new store the number is not known to be the newest.
            return (self.newest > 0).then(Vec::new);
        }
        let first = self.events.front()?.sequence;
        let skipped = usize::try_from((since + 1).checked_sub(first)?).ok()?;
        let limit = usize::try_from(limit.max(1)).ok()?;
        Some(self.events.iter().skip(skipped).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64, bytes: usize) -> CloudEvent {
        CloudEvent { sequence, data: "x".repeat(bytes), ..CloudEvent::gap(1, 1, None, 0) }
    }

    fn numbers(page: Option<Vec<CloudEvent>>) -> Option<Vec<u64>> {
        page.map(|page| page.iter().map(|event| event.sequence).collect())
    }

    #[test]
    fn whoever_is_near_the_end_reads_in_memory_and_nobody_reads_over_a_hole() {
        let mut tail = Tail::after(10);
        assert_eq!(numbers(tail.page(10, 5)), Some(vec![]));
        assert_eq!(numbers(tail.page(9, 5)), None, "what an earlier life kept is in the store");
        tail.append(vec![event(11, 1), event(12, 1), event(13, 1)], 13);
        assert_eq!(numbers(tail.page(10, 5)), Some(vec![11, 12, 13]));
        assert_eq!(numbers(tail.page(11, 1)), Some(vec![12]));
        assert_eq!(numbers(tail.page(13, 5)), Some(vec![]));
        assert_eq!(numbers(tail.page(9, 5)), None);
        tail.append(vec![event(15, 1)], 15);
        assert_eq!((numbers(tail.page(13, 5)), numbers(tail.page(14, 5))), (None, Some(vec![15])));
        tail.append(vec![event(16, 1)], 20);
        assert_eq!((tail.newest(), numbers(tail.page(15, 5))), (20, None), "a hole follows");
        tail.append(vec![event(21, 1)], 21);
        assert_eq!(numbers(tail.page(20, 5)), Some(vec![21]));
        tail.clear();
        assert_eq!((tail.newest(), numbers(tail.page(20, 5))), (21, None), "somebody's data was erased");
        assert_eq!(numbers(Tail::default().page(0, 5)), None, "nothing was asked of the store yet");
    }

    #[test]
    fn memory_is_bounded_by_count_and_by_size() {
        let mut tail = Tail::default();
        tail.append((1..=2 * EVENTS as u64).map(|number| event(number, 1)).collect(), 0);
        assert_eq!(tail.page(EVENTS as u64, u32::MAX).unwrap().len(), EVENTS);
        assert!(tail.page(EVENTS as u64 - 1, 1).is_none());
        tail.append(vec![event(2 * EVENTS as u64 + 1, BYTES - 10)], 0);
        assert_eq!(tail.events.len(), 11);
        tail.append(vec![event(2 * EVENTS as u64 + 2, BYTES + 1)], 0);
        assert!(tail.events.is_empty() && tail.bytes == 0);
    }
}

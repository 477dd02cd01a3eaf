//! Events that wait behind one of their subject that fails: of those the numbers alone are kept, so that neither a call at which
//! an upstream always fails nor all that belongs to no call takes the room of the others. They are read again one by one, when it
//! is their turn.

use std::collections::{BTreeMap, BTreeSet};

use super::{FEW, OWN_FAULT, Owed, PAGE, Upstream};
use crate::events::CloudEvent;
use crate::now::Now;

/// Numbers that wait in all; past that the event that most of them wait for is put aside, if it is to blame.
pub(super) const MANY: usize = 256;
/// Numbers at most, but for a page. Nothing is read any more then: whoever has taken nothing for so long takes nothing.
pub(super) const MOST: usize = 4 * MANY;

/// What waits behind the events that fail.
#[derive(Debug, Default)]
pub(super) struct Behind {
    chains: BTreeMap<Option<String>, Chain>,
}

/// What waits behind an event of one subject.
#[derive(Debug, Default)]
struct Chain {
    numbers: BTreeSet<u64>,
    /// How much the event was to blame that was put aside before them: the next one needs not be blamed anew.
    blamed: u32,
}

impl Behind {
    pub(super) fn clear(&mut self) {
        self.chains.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.chains.values().map(|chain| chain.numbers.len()).sum()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.chains.values().flat_map(|chain| chain.numbers.iter().copied())
    }

    fn of(&self, subject: &Option<String>) -> usize {
        self.chains.get(subject).map_or(0, |chain| chain.numbers.len())
    }

    /// Whether something of the subject waits that happened before this number.
    fn precedes(&self, subject: &Option<String>, number: u64) -> bool {
        let first = self.chains.get(subject).and_then(|chain| chain.numbers.first());
        first.is_some_and(|first| *first < number)
    }

    /// Forgets these numbers, which have been read; how much the first one is to blame beforehand.
    fn leave(&mut self, first: u64, last: u64) -> u32 {
        let mut blamed = 0;
        self.chains.retain(|_, chain| {
            if chain.numbers.contains(&first) {
                blamed = std::mem::take(&mut chain.blamed);
            }
            chain.numbers.retain(|number| !(first..=last).contains(number));
            !chain.numbers.is_empty()
        });
        blamed
    }

    /// The event that they waited for was put aside.
    pub(super) fn inherit(&mut self, owed: &Owed) {
        if let Some(chain) = self.chains.get_mut(&owed.subject) {
            chain.blamed = owed.blamed.min(OWN_FAULT);
        }
    }
}

impl Upstream {
    /// Keeps no more than the numbers of what waits behind an event that failed.
    pub(super) fn put_off(&mut self) {
        let mut stuck: Vec<Option<String>> = Vec::new();
        let behind = &mut self.behind;
        self.owed.retain(|owed| {
            let waits = stuck.contains(&owed.subject) || behind.precedes(&owed.subject, owed.number);
            if owed.in_flight || !waits {
                if owed.tries > 0 {
                    stuck.push(owed.subject.clone());
                }
                return true;
            }
            behind.chains.entry(owed.subject.clone()).or_default().numbers.insert(owed.number);
            false
        });
    }

    /// The number that is read next of what was put off: nothing of its subject is in memory any more.
    pub(super) fn next_behind(&self) -> Option<u64> {
        if self.reading || self.owed.len() >= PAGE {
            return None;
        }
        let free = |subject: &Option<String>| !self.owed.iter().any(|owed| owed.subject == *subject);
        let chains = self.behind.chains.iter().filter(|(subject, _)| free(subject));
        chains.filter_map(|(_, chain)| chain.numbers.first().copied()).min()
    }

    /// What was put off under this number has been read again.
    pub(super) fn read_again(&mut self, now: Now, number: u64, event: Option<CloudEvent>) {
        // A gap stands for all that is gone.
        let event = event.filter(|event| event.sequence == number || event.kind == "gap");
        let last = event.as_ref().map_or(number, |event| event.sequence);
        let blamed = self.behind.leave(number, last);
        if let Some(event) = event
            && self.take_up(now, event)
            && let Some(owed) = self.owed.last_mut()
        {
            owed.blamed = blamed;
        }
    }

    /// The event to put aside, where those that fail by their own fault leave no room for the others: the one that others were
    /// taken after most often, or that most others wait for.
    pub(super) fn in_the_way(&self) -> Option<usize> {
        let to_blame = |owed: &Owed| owed.blamed >= OWN_FAULT && owed.tries > 0;
        let all = || self.owed.iter().enumerate().filter(|(_, owed)| to_blame(owed) && !owed.in_flight);
        if self.owed.len() >= PAGE && all().count() > FEW {
            return all().max_by_key(|(_, owed)| owed.blamed).map(|(index, _)| index);
        }
        let waited_for = all().filter(|(_, owed)| self.behind.of(&owed.subject) > 0);
        let most = waited_for.max_by_key(|(_, owed)| self.behind.of(&owed.subject));
        // While nothing is taken, nothing is in the way.
        most.filter(|_| self.behind.len() > MANY && self.failures == 0).map(|(index, _)| index)
    }
}

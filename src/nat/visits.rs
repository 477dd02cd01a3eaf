//! What a registrar does by itself: many ask each of their phones every half or whole minute whether it is there. One that
//! has lost its registrations asks nobody any more, and nothing else would show it before the next registration.

use std::time::Duration;

use crate::now::{Now, earliest};

/// Questions that follow each other sooner are repetitions.
const LEAST: Duration = Duration::from_secs(4);
/// Who asks more rarely than this is not waited for.
const MOST: Duration = Duration::from_secs(300);
/// So many intervals make a habit …
const HABIT: usize = 3;
/// … if the longest is not longer than the shortest by more than this part of it.
const SPREAD: u32 = 4;
/// A question may be lost, and the next one late.
const GRACE: Duration = Duration::from_secs(5);

/// When a registrar asked last, and how regularly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Visits {
    last: Option<u64>,
    intervals: [Duration; HABIT],
    count: usize,
}

impl Visits {
    /// The registrar has asked.
    pub fn note(&mut self, now: Now) {
        let Some(interval) = self.last.map(|last| now.since(last)) else {
            self.last = Some(now.mono_us);
            return;
        };
        if interval < LEAST {
            return;
        }
        self.last = Some(now.mono_us);
        self.intervals.rotate_left(1);
        if let Some(newest) = self.intervals.last_mut() {
            *newest = interval;
        }
        self.count = self.count.saturating_add(1);
    }

    /// The time at which two of its questions are missing; `None` if it has no habit.
    pub fn missed_at(&self) -> Option<u64> {
        let (least, most) = (self.intervals.iter().min()?, self.intervals.iter().max()?);
        let regular = self.count >= HABIT && *most <= MOST && *most - *least <= *least / SPREAD;
        let patience = *most * 2 + GRACE;
        let patience = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        self.last.filter(|_| regular).map(|last| last.saturating_add(patience))
    }

    /// Whether two of its questions are missing. Then it is forgotten how it was.
    pub fn handle_timeout(&mut self, now: Now) -> bool {
        let missed = self.missed_at().is_some_and(|at| at <= now.mono_us);
        if missed {
            *self = Visits::default();
        }
        missed
    }

    /// The earlier of this and another deadline.
    pub fn with(&self, other: Option<u64>) -> Option<u64> {
        earliest(self.missed_at(), other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_us: seconds * 1_000_000, utc_us: 0 }
    }

    fn after(moments: &[u64]) -> Option<u64> {
        let mut visits = Visits::default();
        moments.iter().for_each(|moment| visits.note(at(*moment)));
        visits.missed_at().map(|at| at / 1_000_000)
    }

    #[test]
    fn only_a_habit_is_missed() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[10, 40, 70]), None, "two intervals are none");
        assert_eq!(after(&[10, 40, 70, 100]), Some(165));
        assert_eq!(after(&[10, 10, 11, 40, 70, 71, 100]), Some(165), "repetitions do not count");
        assert_eq!(after(&[10, 40, 76, 106]), Some(183), "a late one is waited for as long");
        assert_eq!(after(&[10, 40, 100, 130]), None, "one was missing");
        assert_eq!(after(&[10, 40, 100, 130, 160, 190]), Some(255), "and has been forgotten");
        assert_eq!(after(&[0, 400, 800, 1200]), None, "too rare");
    }

    #[test]
    fn it_is_missed_once() {
        let mut visits = Visits::default();
        [0, 30, 60, 90].iter().for_each(|moment| visits.note(at(*moment)));
        assert!(!visits.handle_timeout(at(154)));
        assert_eq!(visits.with(Some(7)), Some(7));
        assert!(visits.handle_timeout(at(155)));
        assert!(!visits.handle_timeout(at(10_000)) && visits.with(Some(7)) == Some(7));
    }
}

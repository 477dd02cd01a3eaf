//! The clock of a sound device, by the periods it asks for.
//!
//! A device takes its sound in blocks, out of a ring that is filled by a thread which looks now and then and may wake late. Yet what
//! it plays runs evenly, a period after the other. Who took the moment of asking for the moment of playing would see jitter that
//! the network does not have, and shorten, lengthen and conceal speech because of it.

use super::engine::PERIOD_US;
use crate::now::Now;

/// After so many periods the pace is set by the promptest of them: a device whose clock is slow, or that stood still for a
/// moment, is followed within a second.
const PERIODS: u32 = 100;
/// Who is later than this, in microseconds, stood still: the pace begins anew.
const STOOD_STILL_US: u64 = 200_000;

/// When periods were due: evenly, and never later than they were asked for. So every packet that was there when a period was due is
/// there when it is asked for.
#[derive(Default)]
pub(super) struct Pace {
    due_us: u64,
    /// How late the promptest of the periods that were counted was asked for, in microseconds.
    promptest_us: Option<u64>,
    counted: u32,
}

impl Pace {
    /// A period is asked for: when it was due.
    pub(super) fn next(&mut self, now: Now) -> Now {
        if self.counted == PERIODS {
            self.due_us += self.promptest_us.take().unwrap_or(0);
            self.counted = 0;
        }
        self.due_us = (self.due_us + PERIOD_US).min(now.mono_us);
        let late_us = now.mono_us - self.due_us;
        if late_us > STOOD_STILL_US {
            *self = Pace { due_us: now.mono_us, ..Pace::default() };
            return now;
        }
        self.counted += 1;
        self.promptest_us = Some(self.promptest_us.map_or(late_us, |least| least.min(late_us)));
        now.back_at(self.due_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When periods were due that were asked for at these milliseconds.
    fn due(asked_ms: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut pace = Pace::default();
        let now = |ms: u64| Now { mono_us: ms * 1000, utc_us: 1_790_000_000_000_000 + ms as i64 * 1000 };
        asked_ms
            .map(|ms| {
                let due = pace.next(now(ms));
                assert_eq!(due.utc_us, now(due.mono_us / 1000).utc_us);
                due.mono_us / 1000
            })
            .collect()
    }

    #[test]
    fn blocks_are_periods_one_after_the_other() {
        let found = due((0..400).map(|n| 1000 + n / 4 * 40));
        assert!(found[4..].windows(2).all(|pair| pair[1] - pair[0] == 10), "{found:?}");
        assert_eq!(found[399], 1000 + 99 * 40, "the last of a block is due when the block is taken");
    }

    #[test]
    fn lateness_is_not_believed() {
        let found = due((0..400).map(|n| 1000 + n * 10 + [0, 7, 3, 9][n as usize % 4]));
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] == 10), "{found:?}");
    }

    #[test]
    fn a_slow_or_fast_clock_is_followed() {
        // By 1000 ppm, ten times as much as sound devices are off.
        for period_us in [9_990, 10_010] {
            let asked: Vec<u64> = (0..10_000).map(|n| 1000 + n * period_us / 1000).collect();
            let found = due(asked.iter().copied());
            assert!(found.iter().zip(&asked).all(|(due, asked)| *due <= *asked && asked - due <= 3));
        }
    }

    #[test]
    fn a_device_that_stood_still_is_on_time_again_soon() {
        for (still_ms, within) in [(100, 200), (5_000, 1)] {
            let found = due((0..500).map(|n| 1000 + n * 10 + if n < 150 { 0 } else { still_ms }));
            let late = |n: usize| 1000 + n as u64 * 10 + still_ms - found[n];
            assert_eq!((late(150 + within), late(499)), (0, 0), "{still_ms}");
        }
    }
}

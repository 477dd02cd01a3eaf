//! Time, as the state machines see it: always an argument, never looked up.

use std::time::Duration;

/// 2020-01-01T00:00:00Z: a clock before this was never set, and says nothing about when something happened.
pub const CLOCK_WAS_SET: i64 = 1_577_836_800_000_000;

/// One moment, on both clocks of the machine.
///
/// `mono_us` drives every timer and never goes back. `utc_us` is what people and other systems are told; it may jump
/// when the clock of the machine is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Microseconds of a monotonic clock with an arbitrary start.
    pub mono_us: u64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub utc_us: i64,
}

impl Now {
    /// The deadline (on the monotonic clock, in microseconds) that lies `after` this moment.
    pub fn deadline(self, after: Duration) -> u64 {
        self.mono_us.saturating_add(micros(after))
    }

    /// How long ago the monotonic moment `mono_us` was; zero if it is still to come.
    pub fn since(self, mono_us: u64) -> Duration {
        Duration::from_micros(self.mono_us.saturating_sub(mono_us))
    }

    /// Both clocks moved on by `by`, as they do where nobody sets them.
    pub fn plus(self, by: Duration) -> Now {
        let by = micros(by);
        Now {
            mono_us: self.mono_us.saturating_add(by),
            utc_us: self.utc_us.saturating_add(i64::try_from(by).unwrap_or(i64::MAX)),
        }
    }

    /// The moment when the monotonic clock showed `mono_us`, not after this one.
    pub fn back_at(self, mono_us: u64) -> Now {
        let mono_us = mono_us.min(self.mono_us);
        let by = i64::try_from(self.mono_us - mono_us).unwrap_or(i64::MAX);
        Now { mono_us, utc_us: self.utc_us.saturating_sub(by) }
    }
}

/// A duration in whole microseconds, as deadlines count them.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The earlier of two deadlines, where `None` is "never".
pub fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}

//! The two clocks of the machine, read together.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::now::{Now, micros};

/// The monotonic clock counts from the first reading, which gets this value: before it there is room for the age of what
/// arrived earlier.
const FIRST_US: u64 = 10_000_000;

/// A clock before this (2025-01-01) was never set.
pub const EARLIEST_CREDIBLE_US: i64 = 1_735_689_600_000_000;

/// This moment: the monotonic clock and UTC.
pub fn now() -> Now {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let first = *FIRST;
    let utc_us = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Now { mono_us: FIRST_US.saturating_add(micros(first.elapsed())), utc_us }
}

/// The moment at which the kernel took a packet that is read only now.
///
/// The stamp is CLOCK_REALTIME, which jumps when the clock is set: it counts only as an age, between 0 and 1 s.
pub fn arrival(now: Now, stamp_utc_us: Option<i64>) -> Now {
    let age = match stamp_utc_us {
        Some(stamp) => now.utc_us.saturating_sub(stamp).clamp(0, 1_000_000),
        None => 0,
    };
    Now { mono_us: now.mono_us.saturating_sub(age.unsigned_abs()), utc_us: now.utc_us - age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_stamp_counts_as_an_age_of_at_most_a_second() {
        let now = Now { mono_us: 5_000_000, utc_us: 1_700_000_000_000_000 };
        assert_eq!(arrival(now, Some(now.utc_us - 3_000)).mono_us, 4_997_000);
        assert_eq!(arrival(now, Some(now.utc_us + 9_000_000)).mono_us, 5_000_000, "a stamp from the future");
        assert_eq!(arrival(now, Some(0)).mono_us, 4_000_000, "the clock was set while the packet waited");
        assert_eq!(arrival(now, None), now);
    }
}

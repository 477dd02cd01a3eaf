//! The two clocks of the machine, read together.

use rustix::time::{ClockId, clock_gettime};

use crate::now::Now;

/// This moment: CLOCK_MONOTONIC and CLOCK_REALTIME.
pub fn now() -> Now {
    let micros = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
    };
    Now { mono_us: u64::try_from(micros(ClockId::Monotonic)).unwrap_or(0), utc_us: micros(ClockId::Realtime) }
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

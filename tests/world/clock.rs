//! Time in the world: it stands still until somebody moves it.

use tipring::now::Now;

/// 2026-11-20T12:00:00Z, when every story begins.
const NOON_US: i64 = 1_795_176_000_000_000;
/// The monotonic clock is not at zero when a story begins, as on any machine.
const BOOT_US: u64 = 1_000_000;

/// The one clock of the world.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Now);

impl Clock {
    pub fn new() -> Clock {
        Clock(Now { mono_us: BOOT_US, utc_us: NOON_US })
    }

    pub fn now(&self) -> Now {
        self.0
    }

    /// Somebody sets it, in microseconds since 1970.
    pub fn set(&mut self, utc_us: i64) {
        self.0.utc_us = utc_us;
    }

    /// Moves on to a moment; never back.
    pub fn advance_to(&mut self, mono_us: u64) {
        let by = mono_us.saturating_sub(self.0.mono_us);
        self.0.mono_us += by;
        self.0.utc_us += i64::try_from(by).expect("less than an age");
    }
}

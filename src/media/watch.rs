//! Whether the far end is heard: silence, its end, and when it has lasted too long.

use crate::now::{Now, earliest};

/// What the watch has to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    /// Nothing for as long as the plan allows.
    Silence {
        /// Time since the last sign of life, in milliseconds.
        for_ms: u32,
    },
    /// Nothing for so long that it is over.
    TimedOut,
}

/// Watches the signs of life of one far end.
pub(super) struct Watch {
    /// The last sign of life, or the agreement if there was none since.
    last_us: u64,
    silence_us: u64,
    timeout_us: u64,
    silent: bool,
    timed_out: bool,
    expecting: bool,
}

impl Watch {
    /// Starts to watch; `0` switches an alarm off. With `expecting` false nothing is expected and nothing
    /// told.
    pub(super) fn new(now: Now, expecting: bool, silence_ms: u32, timeout_ms: u32) -> Watch {
        Watch {
            last_us: now.mono_us,
            silence_us: u64::from(silence_ms) * 1000,
            timeout_us: u64::from(timeout_ms) * 1000,
            silent: false,
            timed_out: false,
            expecting,
        }
    }

    /// A new agreement: time runs anew, but a silence that was told still awaits its end.
    pub(super) fn rearm(&mut self, now: Now, expecting: bool, silence_ms: u32, timeout_ms: u32) {
        let silent = self.silent && expecting && self.expecting;
        *self = Watch { silent, ..Watch::new(now, expecting, silence_ms, timeout_ms) };
    }

    /// A sign of life. After a silence that was told: how long it was, in milliseconds.
    #[inline]
    pub(super) fn heard(&mut self, now: Now) -> Option<u32> {
        let before = self.last_us;
        self.last_us = now.mono_us;
        if !self.silent {
            return None;
        }
        self.silent = false;
        self.timed_out = false;
        Some(ms_since(now, before))
    }

    /// Whether a sign of life is expected and there has been none for as long as the plan allows.
    pub(super) fn is_silent(&self, now: Now) -> bool {
        self.expecting && self.silence_us > 0 && now.mono_us.saturating_sub(self.last_us) >= self.silence_us
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Option<u64> {
        if !self.expecting {
            return None;
        }
        let after = |us: u64, done: bool| (us > 0 && !done).then(|| self.last_us.saturating_add(us));
        earliest(after(self.silence_us, self.silent), after(self.timeout_us, self.timed_out))
    }

    /// Looks: at most one alarm at a time, call until `None`.
    pub(super) fn check(&mut self, now: Now) -> Option<Alarm> {
        if self.deadline().is_none_or(|deadline| deadline > now.mono_us) {
            return None;
        }
        let gone_us = now.mono_us.saturating_sub(self.last_us);
        if !self.silent && self.silence_us > 0 && gone_us >= self.silence_us {
            self.silent = true;
            return Some(Alarm::Silence { for_ms: ms_since(now, self.last_us) });
        }
        self.timed_out = true;
        Some(Alarm::TimedOut)
    }
}

fn ms_since(now: Now, then_us: u64) -> u32 {
    u32::try_from(now.mono_us.saturating_sub(then_us) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_us: ms * 1000, utc_us: 0 }
    }

    #[test]
    fn silence_then_resumed_then_silence_and_time_out() {
        let mut watch = Watch::new(at(0), true, 5000, 60_000);
        assert_eq!(watch.heard(at(3000)), None);
        assert_eq!(watch.check(at(5000)), None);
        assert_eq!(watch.deadline(), Some(8_000_000));
        assert_eq!(watch.check(at(8000)), Some(Alarm::Silence { for_ms: 5000 }));
        assert_eq!(watch.check(at(8000)), None);
        assert_eq!(watch.heard(at(9500)), Some(6500));
        assert_eq!(watch.check(at(14_500)), Some(Alarm::Silence { for_ms: 5000 }));
        assert_eq!(watch.deadline(), Some(69_500_000));
        assert_eq!(watch.check(at(69_500)), Some(Alarm::TimedOut));
        assert_eq!((watch.check(at(99_999)), watch.deadline()), (None, None));
    }

    #[test]
    fn on_hold_nothing_is_expected() {
        let mut watch = Watch::new(at(0), true, 5000, 60_000);
        watch.rearm(at(1000), false, 5000, 60_000);
        assert_eq!((watch.deadline(), watch.check(at(100_000))), (None, None));
        watch.rearm(at(100_000), true, 5000, 0);
        assert_eq!(watch.check(at(104_999)), None);
        assert_eq!(watch.check(at(105_000)), Some(Alarm::Silence { for_ms: 5000 }));
        assert_eq!(watch.deadline(), None);
    }
}

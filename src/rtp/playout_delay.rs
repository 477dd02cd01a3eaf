//! How long to wait: from when packets arrived to the delay at which the next ones should be played.
//!
//! Every packet has a *transit*: arrival minus media time, both in microseconds, on clocks that share no origin.
//! Only differences of transits mean something. The window of the last seconds is kept exactly, so that what happened
//! before it is forgotten and a drift of the clocks is followed.

/// Packets in the window.
const PACKETS: usize = 1024;
/// Age at which a packet leaves the window, in microseconds.
const WINDOW_US: u64 = 20_000_000;
/// Width of a bin, in microseconds.
const BIN_US: i64 = 2_000;
/// Bins; what is later than all of them is counted in the last.
const BINS: usize = 256;
/// How often the target is computed anew, in microseconds.
const PERIOD_US: u64 = 60_000;
/// What one per cent of late packets is worth, in microseconds of delay. By the E-model 1 % is worth far more
/// delay than this while the delay is short; talk that alternates quickly wants it lower.
const WORTH_US: i64 = 50_000;
/// Packets after which the window is believed as it stands.
const LEARNT: usize = 100;

/// Twelve bytes: every leg has a thousand of them.
#[derive(Clone, Copy, Default)]
#[repr(Rust, packed(4))]
struct Seen {
    /// Arrival in milliseconds, as far as 32 bits tell it.
    at_ms: u32,
    transit_us: i64,
}

impl Seen {
    fn age_us(self, now_us: u64) -> u64 {
        u64::from(milliseconds(now_us).wrapping_sub(self.at_ms)) * 1000
    }
}

fn milliseconds(us: u64) -> u32 {
    (us / 1000) as u32
}

/// The window of transits and the target that follows from it.
pub(super) struct PlayoutDelay {
    ring: Box<[Seen]>,
    oldest: usize,
    count: usize,
    bins: Box<[u16]>,
    /// No bin above this one counts anything.
    top: usize,
    /// Transit at the lower edge of the first bin.
    bottom_us: i64,
    lowest_us: i64,
    target_us: i64,
    computed_us: u64,
    start_us: i64,
    ceiling_us: i64,
}

impl PlayoutDelay {
    /// An empty window. The first packets are played `start_us` late; never more than `ceiling_us` is asked for.
    pub(super) fn new(start_us: i64, ceiling_us: i64) -> PlayoutDelay {
        PlayoutDelay {
            ring: vec![Seen::default(); PACKETS].into_boxed_slice(),
            oldest: 0,
            count: 0,
            bins: vec![0; BINS].into_boxed_slice(),
            top: 0,
            bottom_us: 0,
            lowest_us: 0,
            target_us: 0,
            computed_us: 0,
            start_us,
            ceiling_us,
        }
    }

    /// Takes in one packet.
    pub(super) fn record(&mut self, at_us: u64, transit_us: i64) {
        while self.count > 0 {
            let seen = self.ring[self.oldest];
            if self.count < PACKETS && seen.age_us(at_us) < WINDOW_US {
                break;
            }
            let bin = self.bin(seen.transit_us);
            self.bins[bin] = self.bins[bin].saturating_sub(1);
            self.oldest = (self.oldest + 1) % PACKETS;
            self.count -= 1;
        }
        self.ring[(self.oldest + self.count) % PACKETS] = Seen { at_ms: milliseconds(at_us), transit_us };
        self.count += 1;
        if self.count == 1 || transit_us < self.bottom_us {
            self.rebuild();
        } else {
            self.count_in(transit_us);
        }
        let late = transit_us > self.target_us;
        if late || self.count < LEARNT || at_us.saturating_sub(self.computed_us) >= PERIOD_US {
            self.computed_us = at_us;
            self.compute();
        }
    }

    /// The transit that should still be in time: media time `m` is to be decoded at `m + target`.
    pub(super) fn target_us(&self) -> i64 {
        self.target_us
    }

    /// The lowest transit of the window, to the width of a bin: the path without jitter.
    pub(super) fn lowest_us(&self) -> i64 {
        self.lowest_us
    }

    /// True before the first packet.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets everything but packets of the last `keep_us`.
    pub(super) fn forget(&mut self, now_us: u64, keep_us: u64) {
        while self.count > 0 && self.ring[self.oldest].age_us(now_us) > keep_us {
            self.oldest = (self.oldest + 1) % PACKETS;
            self.count -= 1;
        }
        self.rebuild();
        self.compute();
    }

    fn bin(&self, transit_us: i64) -> usize {
        usize::try_from(transit_us.saturating_sub(self.bottom_us) / BIN_US).unwrap_or(0).min(BINS - 1)
    }

    fn window(&self) -> impl Iterator<Item = Seen> {
        (0..self.count).map(|i| self.ring[(self.oldest + i) % PACKETS])
    }

    fn rebuild(&mut self) {
        self.bins.fill(0);
        self.top = 0;
        self.bottom_us = self.window().map(|seen| seen.transit_us).min().unwrap_or(0);
        for i in 0..self.count {
            self.count_in(self.ring[(self.oldest + i) % PACKETS].transit_us);
        }
    }

    fn count_in(&mut self, transit_us: i64) {
        let bin = self.bin(transit_us);
        self.bins[bin] += 1;
        self.top = self.top.max(bin);
    }

    fn compute(&mut self) {
        let Some(lowest) = self.bins.iter().position(|count| *count > 0) else { return };
        if lowest > BINS / 4 {
            self.rebuild();
            return self.compute();
        }
        self.lowest_us = self.bottom_us + lowest as i64 * BIN_US;
        // From the longest delay down: what each bin less costs in late packets against what it saves in delay.
        let worth_us = WORTH_US * 100 / self.count as i64;
        while self.top > lowest && self.bins[self.top] == 0 {
            self.top -= 1;
        }
        let (mut late, mut best, mut best_cost) = (0_i64, self.top, i64::MAX);
        for bin in (lowest..=self.top).rev() {
            let cost = bin as i64 * BIN_US + late * worth_us;
            if cost <= best_cost {
                (best, best_cost) = (bin, cost);
            }
            late += i64::from(self.bins[bin]);
        }
        let wanted = self.bottom_us + (best as i64 + 1) * BIN_US;
        let unlearnt = LEARNT.saturating_sub(self.count) as i64;
        let least = self.lowest_us + self.start_us * unlearnt / LEARNT as i64;
        self.target_us = wanted.max(least).min(self.lowest_us + self.ceiling_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn settled(transits: impl Iterator<Item = i64>) -> PlayoutDelay {
        let mut delay = PlayoutDelay::new(40_000, 400_000);
        for (i, transit) in transits.enumerate() {
            delay.record(i as u64 * 20_000, transit);
        }
        delay
    }

    #[test]
    fn a_steady_path_needs_next_to_no_delay() {
        let delay = settled(std::iter::repeat_n(5_000_000, 100));
        assert_eq!(delay.lowest_us(), 5_000_000);
        assert!(delay.target_us() - 5_000_000 <= 2 * BIN_US);
    }

    #[test]
    fn the_first_packets_are_played_with_a_margin() {
        let delay = settled(std::iter::once(-300));
        assert!((35_000..=45_000).contains(&(delay.target_us() + 300)));
    }

    #[test]
    fn the_target_covers_frequent_delay_and_not_rare_spikes() {
        let mut chance = Chance::from_number(1);
        let delay = settled((0..500).map(|i| {
            let jitter = i64::from(chance.below(30_000));
            if i % 250 == 100 { 300_000 } else { jitter }
        }));
        assert!((26_000..=36_000).contains(&delay.target_us()), "{}", delay.target_us());
    }

    #[test]
    fn drift_and_steps_are_followed_and_forgotten() {
        // 500 ppm is 10 µs per packet of 20 ms.
        let delay = settled((0..30_000).map(|i| i * 10));
        assert!((295_000..=306_000).contains(&delay.target_us()), "{}", delay.target_us());
        let delay = settled((0..2_500).map(|i| if i < 1_000 { 0 } else { 100_000 }));
        assert_eq!(delay.lowest_us(), 100_000);
        let delay = settled((0..2_500).map(|i| if i < 1_000 { 0 } else { -100_000 }));
        assert!(delay.target_us() <= -100_000 + 2 * BIN_US);
    }

    #[test]
    fn the_target_never_exceeds_the_ceiling() {
        let mut delay = PlayoutDelay::new(40_000, 100_000);
        for i in 0..1_000 {
            delay.record(i * 20_000, i64::from(i % 2 == 0) * 5_000_000);
            assert!(delay.target_us() - delay.lowest_us() <= 100_000);
        }
        delay.forget(20_000_000, 0);
        assert!(delay.is_empty());
    }
}

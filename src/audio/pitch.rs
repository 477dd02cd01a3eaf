//! Where a signal repeats itself: the lag of the highest normalised correlation.

use std::ops::RangeInclusive;

use super::dot::dot;

/// The longest stretch of signal that is looked at: 60 ms at 48 kHz.
const LONGEST: usize = 2880;

/// A lag and how alike the signal is across it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Match {
    /// Distance in samples.
    pub lag: usize,
    /// Normalised correlation, -1 to 1; 0 for silence.
    pub likeness: f32,
}

/// The best lag to shift by: compares `window` samples of `signal` at `at` with those `lag` samples later.
///
/// Every `at + lag + window` must lie in the signal; lags which don't are passed over, and a signal longer
/// than 60 ms at 48 kHz is not searched. Above 8 kHz the search goes in coarse steps first.
pub(super) fn search(
    signal: &[i16],
    at: usize,
    window: usize,
    lags: RangeInclusive<usize>,
    rate: u32,
) -> Option<Match> {
    if signal.len() > LONGEST || window == 0 || at + window > signal.len() {
        return None;
    }
    let last = (signal.len() - at - window).min(*lags.end());
    let first = (*lags.start()).max(1);
    if first > last {
        return None;
    }
    // Products must add up in 32 bits: scale loud signals down.
    let peak = signal.iter().fold(1u32, |peak, &sample| peak.max(u32::from(sample.unsigned_abs())));
    let bits = (32 - peak.leading_zeros()) * 2 + (usize::BITS - window.leading_zeros());
    let shift = bits.saturating_sub(31).div_ceil(2);
    let mut scaled = [0i16; LONGEST];
    let scaled = &mut scaled[..signal.len()];
    for (to, &from) in scaled.iter_mut().zip(signal) {
        *to = from >> shift;
    }

    let reference = &scaled[at..at + window];
    let stride = (rate / 8_000).max(1) as usize;
    let own = dot(reference, reference);
    let best = if stride == 1 {
        finest(reference, own, &scaled[at..], first..=last)
    } else {
        let coarse = coarsest(reference, &scaled[at..], first..=last, stride);
        finest(
            reference,
            own,
            &scaled[at..],
            coarse.saturating_sub(stride).max(first)..=(coarse + stride).min(last),
        )
    };
    Some(best)
}

/// The best lag, each one tried; `own` is the energy of the reference.
fn finest(reference: &[i16], own: i32, signal: &[i16], lags: RangeInclusive<usize>) -> Match {
    let (window, first) = (reference.len(), *lags.start());
    let mut best = Match { lag: first, likeness: f32::MIN };
    // The energy of the window moves on with it.
    let mut energy = dot(&signal[first..first + window], &signal[first..first + window]);
    for lag in lags {
        let likeness = normalise(dot(reference, &signal[lag..lag + window]), own, energy);
        if likeness > best.likeness {
            best = Match { lag, likeness };
        }
        let (leaves, enters) =
            (i32::from(signal[lag]), signal.get(lag + window).map_or(0, |&s| i32::from(s)));
        energy += enters * enters - leaves * leaves;
    }
    best
}

/// The best lag of every `stride`-th one, judged by every `stride`-th sample.
fn coarsest(reference: &[i16], signal: &[i16], lags: RangeInclusive<usize>, stride: usize) -> usize {
    let (window, mut best) = (reference.len(), (f32::MIN, *lags.start()));
    for lag in lags.step_by(stride) {
        let (mut ab, mut aa, mut bb) = (0i32, 0i32, 0i32);
        let pairs = reference.iter().step_by(stride).zip(signal[lag..lag + window].iter().step_by(stride));
        for (&a, &b) in pairs {
            let (a, b) = (i32::from(a), i32::from(b));
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        let likeness = normalise(ab, aa, bb);
        if likeness > best.0 {
            best = (likeness, lag);
        }
    }
    best.1
}

fn normalise(ab: i32, aa: i32, bb: i32) -> f32 {
    if aa <= 0 || bb <= 0 {
        return 0.0;
    }
    ab as f32 / ((aa as f32).sqrt() * (bb as f32).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_of_a_sawtooth_is_found_at_every_rate_and_level() {
        for rate in [8_000u32, 16_000, 48_000] {
            for level in [1i32, 30, 30_000] {
                let period = rate as i32 / 130;
                let signal: Vec<i16> = (0..rate as i32 * 55 / 1000)
                    .map(|n| ((n % period) * 2 * level / period - level) as i16)
                    .collect();
                let lags = (rate / 400) as usize..=(rate * 12 / 1000) as usize;
                let found = search(&signal, 0, (rate / 50) as usize, lags, rate).unwrap();
                assert!(found.likeness > if level == 1 { 0.8 } else { 0.99 }, "{found:?}");
                assert!(found.lag.abs_diff(period as usize) <= 1 || level == 1, "{found:?} for {period}");
            }
        }
    }

    #[test]
    fn silence_and_short_signals_are_no_match() {
        assert_eq!(search(&[0; 400], 0, 80, 20..=120, 8_000).map(|m| m.likeness), Some(0.0));
        assert_eq!(search(&[1; 90], 0, 80, 20..=120, 8_000), None);
        assert_eq!(search(&[1; 90], 20, 80, 1..=2, 8_000), None);
        assert_eq!(search(&[], 0, 0, 1..=2, 8_000), None);
        assert_eq!(search(&[i16::MIN; 2880], 0, 960, 1..=720, 48_000).map(|m| m.likeness > 0.99), Some(true));
    }
}

//! Making a block of sound a little shorter or longer without changing its pitch.
//!
//! The waveform is cut where it is most like itself one pitch cycle later, and the two ends are blended: a
//! whole cycle is left out or played twice. In silence any cut will do. Nothing is remembered from block to
//! block, and a block that is played as it is costs nothing.

use super::level;
use super::pitch;

/// The shortest and longest piece that is left out or repeated, in microseconds.
const SHORTEST_US: usize = 2_500;
const LONGEST_US: usize = 15_000;
/// Length of the comparison and of the blend, in microseconds.
const BLEND_US: usize = 5_000;
/// Below this level every cut goes unheard.
const QUIET_DBOV: f32 = -50.0;
/// How alike two places must be, calmly and in haste.
const LIKENESS: f32 = 0.8;
const LIKENESS_IN_HASTE: f32 = 0.5;

/// What is wanted of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Less sound, because too much waits.
    Shrink,
    /// More sound, because too little waits.
    Stretch,
}

/// How much quality the wish is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Only where nobody hears it: clock drift.
    Calm,
    /// Also where it may be heard a little: after a burst or before a gap.
    Urgent,
}

/// Changes the length of `block` (at `rate` hertz) if that can be done well, and tells by how many samples:
/// the length shrank or grew by that, or is as it was (0). One call takes out or puts in one cycle, 2.5 to 15
/// ms.
///
/// A block of at least 20 ms is needed, for voices below 100 Hz one of 25 ms; only the first 60 ms of a block
/// are touched. The first and the last sample stay what they were, so blocks still join.
pub fn apply(wish: Wish, haste: Haste, rate: u32, block: &mut Vec<i16>) -> usize {
    apply_within(wish, haste, rate, usize::MAX, block)
}

/// As [`apply`], but by `most` samples at the most: a voice whose cycle is longer is left as it is.
pub fn apply_within(wish: Wish, haste: Haste, rate: u32, most: usize, block: &mut Vec<i16>) -> usize {
    let per_ms = rate as usize / 1000;
    let blend = rate as usize * BLEND_US / 1_000_000;
    let used = block.len().min(per_ms * 60);
    if per_ms == 0 || used < per_ms * 10 {
        return 0;
    }
    let quiet = level::dbov(&block[..used]) < QUIET_DBOV;
    let (shortest, longest) =
        (rate as usize * SHORTEST_US / 1_000_000, rate as usize * LONGEST_US / 1_000_000);
    let longest = longest.min((used - 2).saturating_sub(blend)).min(most);
    if longest < shortest {
        return 0;
    }
    let least = match haste {
        Haste::Calm => LIKENESS,
        Haste::Urgent => LIKENESS_IN_HASTE,
    };
    // The longer the comparison the surer the pitch: what the block has to spare goes into it.
    let window = blend.max(used.saturating_sub(longest + 2).min(per_ms * 15));
    let Some(found) = pitch::search(&block[..used], 1, window.min(used - 1), shortest..=longest, rate) else {
        return 0;
    };
    let lag = if found.likeness >= least {
        found.lag
    } else if quiet {
        longest.min(per_ms * 5).max(shortest)
    } else {
        return 0;
    };
    let at = smoothest(&block[..used], lag, blend, per_ms);
    match wish {
        Wish::Shrink => {
            for n in 0..blend {
                block[at + n] = fade(block[at + n], block[at + lag + n], n, blend);
            }
            block.copy_within(at + lag + blend.., at + blend);
            block.truncate(block.len() - lag);
        }
        Wish::Stretch => {
            // One cycle after `at` the block falls back to `at`, and blends from how it would have gone on.
            let length = block.len();
            block.resize(length + lag, 0);
            block.copy_within(at..length, at + lag);
            for n in 0..blend {
                block[at + lag + n] = fade(block[at + 2 * lag + n], block[at + lag + n], n, blend);
            }
        }
    }
    lag
}

/// Where the block differs least from itself `lag` later over the length of a blend.
fn smoothest(block: &[i16], lag: usize, blend: usize, step: usize) -> usize {
    let last = block.len() - 1 - lag - blend;
    let difference = |at: usize| -> u64 {
        let pairs = block[at..at + blend].iter().zip(&block[at + lag..at + lag + blend]);
        pairs.map(|(&a, &b)| u64::from(a.abs_diff(b))).sum()
    };
    (1..=last).step_by(step).min_by_key(|&at| difference(at)).unwrap_or(1)
}

fn fade(from: i16, to: i16, n: usize, whole: usize) -> i16 {
    let (from, to) = (i32::from(from), i32::from(to));
    (from + (to - from) * (n as i32 + 1) / (whole as i32 + 1)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::speech::Speech;

    fn crossings(pcm: &[i16]) -> usize {
        pcm.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count()
    }

    fn tone(rate: u32, hertz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (9000.0 * (n as f64 * hertz * std::f64::consts::TAU / f64::from(rate)).sin()) as i16)
            .collect()
    }

    #[test]
    fn a_tone_gets_shorter_and_longer_at_the_same_pitch() {
        for rate in [8_000u32, 16_000, 48_000] {
            for hertz in [110.0, 190.0, 233.0, 440.0, 1000.0] {
                for wish in [Wish::Shrink, Wish::Stretch] {
                    let input = tone(rate, hertz, rate as usize);
                    let (mut output, mut changed) = (Vec::new(), 0);
                    for frame in input.chunks(rate as usize * 3 / 100) {
                        let mut block = frame.to_vec();
                        let by = apply(wish, Haste::Calm, rate, &mut block);
                        changed += by;
                        let expected = if wish == Wish::Shrink { frame.len() - by } else { frame.len() + by };
                        assert_eq!(block.len(), expected);
                        assert_eq!(block.first(), frame.first());
                        assert_eq!(block.last(), frame.last());
                        output.extend_from_slice(&block);
                    }
                    assert!(changed > rate as usize / 12, "{rate} {hertz} {wish:?}: {changed}");
                    let heard = crossings(&output) as f64 * f64::from(rate) / output.len() as f64;
                    assert!((heard / hertz - 1.0).abs() < 0.03, "{rate} {hertz} {wish:?}: {heard}");
                    // No step is larger than the tone's own by more than a tenth.
                    let own = 9000.0 * hertz * std::f64::consts::TAU / f64::from(rate);
                    let step = output.windows(2).map(|p| p[0].abs_diff(p[1])).max().unwrap();
                    assert!(
                        f64::from(step) < own * 1.35 + 40.0,
                        "{rate} {hertz} {wish:?}: {step} against {own}"
                    );
                }
            }
        }
    }

    #[test]
    fn speech_yields_often_and_is_recognised_afterwards() {
        for rate in [8_000u32, 16_000] {
            for wish in [Wish::Shrink, Wish::Stretch] {
                for haste in [Haste::Calm, Haste::Urgent] {
                    let mut input = vec![0; rate as usize * 4];
                    Speech::new(31, rate).fill(&mut input);
                    let (mut output, mut tried, mut done) = (Vec::new(), 0, 0);
                    for (number, frame) in input.chunks(rate as usize / 50).enumerate() {
                        let mut block = frame.to_vec();
                        if number % 10 == 0 {
                            tried += 1;
                            done += usize::from(apply(wish, haste, rate, &mut block) > 0);
                        }
                        output.extend_from_slice(&block);
                    }
                    let found = crate::audio::similarity::similarity(&input, &output, rate, 2000);
                    println!("{rate} {wish:?} {haste:?}: {done} of {tried}, {found:?}");
                    assert!(found.is_some_and(|found| found.found > 0.75), "{wish:?} {haste:?}: {found:?}");
                    assert!(done * 3 > tried, "{done} of {tried}");
                }
            }
        }
    }

    #[test]
    fn noise_is_left_alone_silence_is_cut_and_scraps_are_not_touched() {
        let mut chance = crate::chance::Chance::from_number(3);
        let noise: Vec<i16> = (0..240).map(|_| chance.next_u32() as i16).collect();
        let mut block = noise.clone();
        assert_eq!(apply(Wish::Shrink, Haste::Calm, 8_000, &mut block), 0);
        assert_eq!(block, noise);
        let mut block = vec![0; 160];
        assert!(apply(Wish::Shrink, Haste::Calm, 8_000, &mut block) > 0);
        assert!(apply(Wish::Stretch, Haste::Calm, 8_000, &mut block) > 0);
        let mut tone = tone(8_000, 110.0, 240);
        assert_eq!(apply_within(Wish::Shrink, Haste::Calm, 8_000, 40, &mut tone), 0);
        assert_eq!(apply_within(Wish::Shrink, Haste::Calm, 8_000, 90, &mut tone), 73);
        for length in [0, 1, 40, 79] {
            assert_eq!(apply(Wish::Stretch, Haste::Urgent, 8_000, &mut vec![0; length]), 0);
        }
        for rate in [0, 999, 8_000, 44_100, 48_000] {
            for length in [80, 100, 130, 480, 1440, 9000] {
                for wish in [Wish::Shrink, Wish::Stretch] {
                    let mut block = vec![3; length];
                    let by = apply(wish, Haste::Urgent, rate, &mut block);
                    assert_eq!(block.len(), if wish == Wish::Shrink { length - by } else { length + by });
                }
            }
        }
    }
}

//! Finding a known sound in a recording: how late, how alike, how clean.

/// Step of the envelope that is compared first, in milliseconds.
const STEP_MS: usize = 4;
/// Segments of the segmental signal-to-noise ratio, in milliseconds.
const SEGMENT_MS: usize = 20;
/// How far a segment may have wandered from the common delay, in milliseconds.
const WANDER_MS: usize = 60;
/// Length of a segment that is looked for by itself, in milliseconds.
const PIECE_MS: usize = 120;

/// How a recording relates to what was played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// Samples by which the recording is late.
    pub delay: usize,
    /// Normalised correlation of all that overlaps, -1 to 1.
    pub correlation: f32,
    /// Level of the recording against the original in decibels.
    pub gain_db: f32,
    /// Segmental signal-to-noise ratio in decibels once the level is made equal.
    pub segmental_snr_db: f32,
    /// Share of the pieces of 120 ms with sound in them that are found again near their place, 0 to 1. Unlike
    /// the rest it forgives a delay that changes on the way.
    pub found: f32,
}

/// Looks for `reference` in `recording`, both at `rate` hertz, up to `max_delay` samples late.
///
/// `None` if one of them is silent or shorter than 100 ms.
pub fn similarity(reference: &[i16], recording: &[i16], rate: u32, max_delay: usize) -> Option<Similarity> {
    let rate_khz = (rate / 1000).max(1) as usize;
    if reference.len() < 100 * rate_khz || recording.len() < 100 * rate_khz {
        return None;
    }
    let delay = delay(reference, recording, rate_khz, max_delay.min(recording.len() - 100 * rate_khz));
    let late = &recording[delay..];
    let common = reference.len().min(late.len());
    let (a, b) = (&reference[..common], &late[..common]);
    let (aa, bb, ab) = (product(a, a, 1), product(b, b, 1), product(a, b, 1));
    if aa == 0.0 || bb == 0.0 {
        return None;
    }
    let factor = ab / aa;
    let scaled: Vec<i16> =
        if factor > 0.0 { b.iter().map(|&s| (f64::from(s) / factor) as i16).collect() } else { b.to_vec() };
    Some(Similarity {
        delay,
        correlation: (ab / (aa.sqrt() * bb.sqrt())) as f32,
        gain_db: (10.0 * (bb / aa).log10()) as f32,
        segmental_snr_db: segmental_snr(a, &scaled, rate) as f32,
        found: found(reference, recording, delay, rate_khz),
    })
}

/// Mean over segments of 20 ms of the signal-to-noise ratio in decibels, each held between -10 and 35;
/// segments whose reference is silent (40 dB below the loudest, or below -60 dBov) do not count. 0 if none
/// counts.
pub fn segmental_snr(reference: &[i16], recording: &[i16], rate: u32) -> f64 {
    let length = (rate as usize * SEGMENT_MS / 1000).max(1);
    let power = |segment: &[i16]| product(segment, segment, 1) / length as f64;
    let loudest = reference.chunks_exact(length).map(power).fold(0.0, f64::max);
    let least = (loudest / 10_000.0).max(1000.0);
    let (mut sum, mut segments) = (0.0, 0u32);
    for (a, b) in reference.chunks_exact(length).zip(recording.chunks_exact(length)) {
        let signal = power(a);
        if signal < least {
            continue;
        }
        let noise: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        sum += (10.0 * (signal * length as f64 / noise.max(1e-3)).log10()).clamp(-10.0, 35.0);
        segments += 1;
    }
    if segments == 0 { 0.0 } else { sum / f64::from(segments) }
}

fn product(a: &[i16], b: &[i16], stride: usize) -> f64 {
    let pairs = a.iter().step_by(stride).zip(b.iter().step_by(stride));
    pairs.map(|(&a, &b)| i64::from(i32::from(a) * i32::from(b))).sum::<i64>() as f64
}

/// Normalised correlation; `energy` is that of `a` with the same stride.
fn correlation(a: &[i16], energy: f64, b: &[i16], stride: usize) -> f64 {
    let (mut ab, mut bb) = (0i64, 0i64);
    for (&a, &b) in a.iter().step_by(stride).zip(b.iter().step_by(stride)) {
        let (a, b) = (i32::from(a), i32::from(b));
        ab += i64::from(a * b);
        bb += i64::from(b * b);
    }
    let energy = energy.sqrt() * (bb as f64).sqrt();
    if energy == 0.0 { 0.0 } else { ab as f64 / energy }
}

fn envelope(pcm: &[i16], step: usize) -> Vec<f32> {
    let mut envelope: Vec<f32> = pcm
        .chunks_exact(step)
        .map(|chunk| chunk.iter().map(|s| f32::from(s.unsigned_abs() / 2)).sum::<f32>() / step as f32)
        .collect();
    let mean = envelope.iter().sum::<f32>() / envelope.len().max(1) as f32;
    envelope.iter_mut().for_each(|value| *value -= mean);
    envelope
}

/// The delay of the best likeness: first by envelope, then the best candidates by sample.
fn delay(reference: &[i16], recording: &[i16], rate_khz: usize, max_delay: usize) -> usize {
    let step = STEP_MS * rate_khz;
    let (a, b) = (envelope(reference, step), envelope(recording, step));
    let mut candidates: Vec<(f32, usize)> = (0..=max_delay / step)
        .filter(|&lag| lag < b.len())
        .map(|lag| {
            let (mut ab, mut bb) = (0.0, 1e-6f32);
            for (&x, &y) in a.iter().zip(&b[lag..]) {
                ab += x * y;
                bb += y * y;
            }
            (ab / bb.sqrt(), lag)
        })
        .collect();
    candidates.sort_by(|x, y| y.0.total_cmp(&x.0));

    // Half a second of the loudest sound decides.
    let span = (500 * rate_khz).min(reference.len()).min(recording.len());
    let reach = (recording.len() - span).min(reference.len() - span);
    let loudest = (0..=reach)
        .step_by(100 * rate_khz)
        .max_by_key(|&at| product(&reference[at..at + span], &reference[at..at + span], 8) as u64)
        .unwrap_or(0);
    let wanted = &reference[loudest..loudest + span];
    let coarse = (rate_khz / 8).max(1);
    let (energy, coarse_energy) = (product(wanted, wanted, 1), product(wanted, wanted, coarse));
    let likeness = |delay: usize, energy: f64, stride: usize| {
        let at = loudest + delay;
        recording.get(at..at + span).map_or(-1.0, |piece| correlation(wanted, energy, piece, stride))
    };
    let mut best = (-2.0, 0);
    for &(_, lag) in candidates.iter().take(6) {
        let middle = lag * step;
        let around = middle.saturating_sub(step)..=(middle + step).min(max_delay);
        for delay in around.step_by(coarse) {
            let value = likeness(delay, coarse_energy, coarse);
            if value > best.0 {
                best = (value, delay);
            }
        }
    }
    let (middle, mut exact) = (best.1, (-2.0, best.1));
    for delay in middle.saturating_sub(coarse)..=(middle + coarse).min(max_delay) {
        let value = likeness(delay, energy, 1);
        if value > exact.0 {
            exact = (value, delay);
        }
    }
    exact.1
}

fn found(reference: &[i16], recording: &[i16], delay: usize, rate_khz: usize) -> f32 {
    let (piece, wander, stride) = (PIECE_MS * rate_khz, WANDER_MS * rate_khz, (rate_khz / 4).max(1));
    let power = |piece: &[i16]| product(piece, piece, stride);
    let loudest = reference.chunks_exact(piece).map(power).fold(0.0, f64::max);
    let (mut hits, mut pieces) = (0u32, 0u32);
    let (mut middle, mut missed) = (delay as i64, 0);
    for (number, wanted) in reference.chunks_exact(piece).enumerate() {
        let at = (number * piece) as i64;
        let expected = usize::try_from(at + middle).unwrap_or(0);
        if power(wanted) < loudest / 1000.0 || expected + piece > recording.len() {
            continue;
        }
        pieces += 1;
        let energy = power(wanted);
        let best = |reach: usize| {
            let around = expected.saturating_sub(reach)..=(expected + reach).min(recording.len() - piece);
            around
                .step_by(stride)
                .map(|at| (correlation(wanted, energy, &recording[at..at + piece], stride), at))
                .max_by(|x, y| x.0.total_cmp(&y.0))
                .unwrap_or((0.0, expected))
        };
        // Mostly it is where the one before was; the more were missed, the wider is the search.
        let near = best(rate_khz);
        let (likeness, place) = if near.0 > 0.9 { near } else { best(wander * (1 + missed)) };
        if likeness > 0.7 {
            (hits, missed) = (hits + 1, 0);
            middle = place as i64 - at;
        } else {
            missed = (missed + 1).min(5);
        }
    }
    if pieces == 0 { 0.0 } else { hits as f32 / pieces as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::speech::Speech;

    fn speech(seed: u64, rate: u32, seconds: usize) -> Vec<i16> {
        let mut pcm = vec![0; rate as usize * seconds];
        Speech::new(seed, rate).fill(&mut pcm);
        pcm
    }

    #[test]
    fn a_delayed_quieter_copy_is_found_to_the_sample() {
        for rate in [8_000, 16_000, 48_000] {
            let reference = speech(1, rate, 3);
            for delay in [0, 1, 777, rate as usize / 3 + 5] {
                let mut recording = vec![0; delay];
                recording.extend(reference.iter().map(|&s| s / 2));
                let found = similarity(&reference, &recording, rate, rate as usize / 2).unwrap();
                assert_eq!(found.delay, delay, "{rate}: {found:?}");
                assert!(found.correlation > 0.999 && (found.gain_db + 6.02).abs() < 0.1, "{found:?}");
                assert!(found.segmental_snr_db > 30.0 && found.found > 0.95, "{found:?}");
            }
        }
    }

    #[test]
    fn another_voice_is_not_found() {
        let found = similarity(&speech(1, 8_000, 4), &speech(2, 8_000, 5), 8_000, 8_000).unwrap();
        assert!(found.correlation < 0.3 && found.found < 0.35, "{found:?}");
    }

    #[test]
    fn a_delay_that_creeps_is_forgiven_by_the_pieces() {
        let reference = speech(3, 8_000, 5);
        let mut recording = vec![0; 320];
        for (number, frame) in reference.chunks(800).enumerate() {
            recording.extend_from_slice(if number % 2 == 0 { frame } else { &frame[4..] });
        }
        let found = similarity(&reference, &recording, 8_000, 1600).unwrap();
        assert!(found.found > 0.8, "{found:?}");
    }

    #[test]
    fn silence_and_scraps_are_nothing() {
        let reference = speech(1, 8_000, 1);
        assert_eq!(similarity(&reference, &[0; 8000], 8_000, 100), None);
        assert_eq!(similarity(&reference, &[1; 10], 8_000, 100), None);
        assert_eq!(similarity(&[], &reference, 8_000, 100), None);
        assert!(similarity(&reference, &reference, 8_000, usize::MAX).is_some());
        assert_eq!(segmental_snr(&[0; 800], &[5; 800], 8_000), 0.0);
    }
}

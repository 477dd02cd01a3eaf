//! Changing the sample rate: a polyphase filter with linear phase, streaming.
//!
//! Between any two of 8, 16, 24, 32, 44.1 and 48 kHz. Pass band to 85 % of the lower rate's half, images and
//! aliases down by more than 70 dB from 105 % on. The delay is 24 samples of the lower rate (3 ms at 8 kHz).
//! Coefficients and samples are 16-bit integers, whose products compilers put into vectors on every machine.

use std::f64::consts::PI;

use super::dot::dot;

/// Samples of the lower rate that a filter spans.
const SPAN: usize = 48;
/// Cut-off as a share of the lower rate's half: the middle of the transition.
const CUT: f64 = 0.95;
/// Kaiser's shape parameter for 75 dB.
const SHAPE: f64 = 7.5;
/// Input is taken in pieces of this many samples.
const PIECE: usize = 512;
/// Rates that are served.
pub const RATES: [u32; 6] = [8_000, 16_000, 24_000, 32_000, 44_100, 48_000];

/// The rates can't be changed into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{from} Hz cannot be made {to} Hz: use rates of 8000, 16000, 24000, 32000, 44100 or 48000 Hz")]
pub struct UnsupportedRate {
    /// The rate that comes in.
    pub from: u32,
    /// The rate that should go out.
    pub to: u32,
}

/// One stream's change of rate.
#[derive(Debug, Clone)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Output samples per `down` input samples.
    up: usize,
    down: usize,
    taps: usize,
    /// Coefficients of all phases, each `taps` long, oldest sample first.
    filter: Vec<i16>,
    /// The last `taps - 1` samples and the piece that is being worked on.
    window: Vec<i16>,
    /// Phase of the next output sample, and its place in the coming piece.
    phase: usize,
    place: usize,
}

impl Resampler {
    /// A stream from `from` to `to` hertz.
    ///
    /// # Errors
    /// One of the rates is not in [`RATES`].
    pub fn new(from: u32, to: u32) -> Result<Resampler, UnsupportedRate> {
        if !RATES.contains(&from) || !RATES.contains(&to) {
            return Err(UnsupportedRate { from, to });
        }
        let common = greatest_common_divisor(from, to);
        let (up, down) = ((to / common) as usize, (from / common) as usize);
        let mut resampler = Resampler {
            from,
            to,
            up,
            down,
            taps: 0,
            filter: Vec::new(),
            window: Vec::new(),
            phase: 0,
            place: 0,
        };
        if up != down {
            resampler.design();
        }
        Ok(resampler)
    }

    /// The rate that comes in, in hertz.
    pub fn from(&self) -> u32 {
        self.from
    }

    /// The rate that goes out, in hertz.
    pub fn to(&self) -> u32 {
        self.to
    }

    /// Delay in samples of the outgoing rate.
    pub fn delay(&self) -> usize {
        if self.up == self.down { 0 } else { (self.taps * self.up).div_ceil(2 * self.down) }
    }

    /// Most samples that `samples` of input can give.
    pub fn most(&self, samples: usize) -> usize {
        (samples * self.up).div_ceil(self.down) + 1
    }

    /// Takes samples and appends what they give to `out`. Over time the output is exactly `to / from` of the
    /// input.
    pub fn process(&mut self, input: &[i16], out: &mut Vec<i16>) {
        if self.up == self.down {
            out.extend_from_slice(input);
            return;
        }
        let history = self.taps - 1;
        for piece in input.chunks(PIECE) {
            self.window[history..history + piece.len()].copy_from_slice(piece);
            while self.place < piece.len() {
                let filter = &self.filter[self.phase * self.taps..(self.phase + 1) * self.taps];
                let samples = &self.window[self.place..self.place + self.taps];
                // Only a sum beyond twice the full scale would wrap, which no signal that was band-limited
                // reaches.
                let sum = dot(filter, samples).wrapping_add(1 << 14);
                out.push((sum >> 15).clamp(-32_768, 32_767) as i16);
                self.phase += self.down;
                while self.phase >= self.up {
                    self.phase -= self.up;
                    self.place += 1;
                }
            }
            self.place -= piece.len();
            self.window.copy_within(piece.len()..piece.len() + history, 0);
        }
    }

    /// Forgets the past.
    pub fn reset(&mut self) {
        self.window.fill(0);
        self.phase = 0;
        self.place = 0;
    }

    fn design(&mut self) {
        let ratio = f64::from(self.from) / f64::from(self.to);
        // The filter spans the same time at every rate: more taps where the input is the faster one.
        self.taps = ((SPAN as f64 * ratio.max(1.0)).ceil() as usize).next_multiple_of(16);
        let length = self.taps * self.up;
        let middle = (length - 1) as f64 / 2.0;
        // In units of the input's half rate, on the grid that is `up` times finer.
        let cut = CUT / ratio.max(1.0);
        let prototype: Vec<f64> = (0..length)
            .map(|n| {
                let t = n as f64 - middle;
                let x = PI * t * cut / self.up as f64;
                let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
                sinc * kaiser(t / (middle + 0.5))
            })
            .collect();
        // Every phase passes a constant as it is.
        let mut phases = vec![0.0; length];
        for phase in 0..self.up {
            let taps = (0..self.taps).map(|tap| prototype[tap * self.up + phase]);
            let sum: f64 = taps.clone().sum();
            // Convolution runs against time: the newest sample meets the first coefficient.
            for (tap, value) in taps.enumerate() {
                phases[phase * self.taps + self.taps - 1 - tap] = value / sum;
            }
        }
        self.filter =
            phases.iter().map(|c| (c * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16).collect();
        self.window = vec![0; self.taps - 1 + PIECE];
    }
}

/// Kaiser's window at -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel(SHAPE * (1.0 - x * x).max(0.0).sqrt()) / bessel(SHAPE)
}

/// The modified Bessel function of the first kind and order 0.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, hertz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| {
                (16_000.0 * (n as f64 * hertz * std::f64::consts::TAU / f64::from(rate)).sin()).round() as i16
            })
            .collect()
    }

    /// Power of a frequency, and of everything else, in decibels against the sine that went in. Frequencies
    /// are multiples of 10 Hz, so that a tenth of a second holds whole cycles of them and of their images.
    fn measure(from: u32, to: u32, sent: f64, heard: f64) -> (f64, f64) {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut output = Vec::new();
        resampler.process(&sine(from, sent, from as usize / 5), &mut output);
        let output = &output[output.len() - to as usize / 10..];
        let (mut re, mut im, mut total) = (0.0, 0.0, 0.0);
        for (n, &sample) in output.iter().enumerate() {
            let (sin, cos) = (n as f64 * heard * std::f64::consts::TAU / f64::from(to)).sin_cos();
            re += f64::from(sample) * cos;
            im += f64::from(sample) * sin;
            total += f64::from(sample).powi(2);
        }
        let length = output.len() as f64;
        let wanted = 2.0 * (re * re + im * im) / (length * length);
        let rest = (total / length - wanted).max(1e-6);
        let reference = 16_000f64.powi(2) / 2.0;
        (10.0 * (wanted / reference).log10(), 10.0 * (rest / reference).log10())
    }

    /// A share of half the lower rate, in whole multiples of 10 Hz.
    fn frequency(lower: u32, share: f64) -> f64 {
        (f64::from(lower) / 20.0 * share).round() * 10.0
    }

    #[test]
    fn the_pass_band_is_flat_and_clean_between_all_rates() {
        for from in RATES {
            for to in RATES {
                for share in [0.05, 0.5, 0.84] {
                    let hertz = frequency(from.min(to), share);
                    let (gain, rest) = measure(from, to, hertz, hertz);
                    assert!(gain.abs() < 0.1, "{from} to {to} at {share}: {gain} dB");
                    assert!(rest < -70.0, "{from} to {to} at {share}: images at {rest} dB");
                }
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_suppressed() {
        for (from, to) in
            [(16_000, 8_000), (48_000, 8_000), (48_000, 16_000), (44_100, 8_000), (44_100, 16_000)]
        {
            for share in [1.06, 1.2, 1.9] {
                let hertz = frequency(to, share);
                if hertz < f64::from(from) / 2.0 {
                    let (gain, rest) = measure(from, to, hertz, f64::from(to) - hertz);
                    assert!(gain < -70.0 && rest < -70.0, "{from} to {to} at {share}: {gain} and {rest} dB");
                }
            }
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_and_the_count_is_exact() {
        for (from, to) in
            [(8_000, 48_000), (48_000, 8_000), (44_100, 48_000), (16_000, 44_100), (16_000, 16_000)]
        {
            let input = sine(from, 440.0, from as usize);
            let mut whole = Vec::new();
            Resampler::new(from, to).unwrap().process(&input, &mut whole);
            assert!(whole.len().abs_diff(to as usize) <= 1, "{from} {to} {}", whole.len());
            let mut resampler = Resampler::new(from, to).unwrap();
            let mut pieces = Vec::new();
            let (mut at, mut size) = (0, 1);
            while at < input.len() {
                let end = (at + size).min(input.len());
                let before = pieces.len();
                resampler.process(&input[at..end], &mut pieces);
                assert!(pieces.len() - before <= resampler.most(end - at));
                (at, size) = (end, size * 7 % 1500 + 1);
            }
            assert_eq!(whole, pieces);
            resampler.reset();
            let mut again = Vec::new();
            resampler.process(&input, &mut again);
            assert_eq!(whole, again);
        }
    }

    #[test]
    fn the_delay_is_as_told_and_extremes_do_not_overflow() {
        for from in RATES {
            for to in RATES {
                let mut resampler = Resampler::new(from, to).unwrap();
                let mut input = vec![0; from as usize / 10];
                input[from as usize / 50] = 30_000;
                let mut output = Vec::new();
                resampler.process(&input, &mut output);
                let peak =
                    output.iter().enumerate().max_by_key(|(_, s)| s.unsigned_abs()).map(|(n, _)| n).unwrap();
                let expected = to as usize / 50 + resampler.delay();
                assert!(
                    peak.abs_diff(expected) <= 2 + (to / from) as usize,
                    "{from} {to}: {peak} for {expected}"
                );

                let mut chance = crate::chance::Chance::from_number(u64::from(from) * 3 + u64::from(to));
                let loud: Vec<i16> =
                    (0..2000).map(|_| if chance.happens(0.5) { i16::MAX } else { i16::MIN }).collect();
                output.clear();
                resampler.process(&loud, &mut output);
            }
        }
        assert!(Resampler::new(11_025, 8_000).is_err());
        assert!(Resampler::new(8_000, 0).is_err());
    }
}

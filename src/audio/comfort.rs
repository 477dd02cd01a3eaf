//! Comfort noise of RFC 3389: the level and the colour of the silence at the far end, in a few octets.

/// Most reflection coefficients that are used; a payload may carry more, which add nothing to the ear.
pub const MAX_ORDER: usize = 12;
/// Order of the model that [`Estimator`] sends.
const ORDER: usize = 8;
const QUIETEST: u8 = 127;

/// A white noise from a small linear generator: it is sound, not chance, and always the same.
#[derive(Debug, Clone)]
pub(super) struct White(u32);

impl White {
    pub(super) fn new(seed: u32) -> White {
        White(seed)
    }

    /// A number of -1.0 to 1.0, evenly distributed.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() as i32) as f32 / 2_147_483_648.0
    }

    /// A sample between -`peak` and `peak`.
    pub(super) fn sample(&mut self, peak: i32) -> i32 {
        (((i64::from(self.next() as i32)) * i64::from(peak)) >> 31) as i32
    }

    fn next(&mut self) -> u32 {
        // The upper bits of Knuth's generator are good enough for the ear; mix them down.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 ^ (self.0 >> 15) ^ (self.0 << 13)
    }
}

/// The meaning of a comfort-noise payload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Description {
    /// Level below overload in dBov without its sign: 0 is as loud as can be, 127 is nothing.
    pub level: u8,
    /// Reflection coefficients of the all-pole model, each above -1 and below 1.
    pub reflection: [f32; MAX_ORDER],
    /// How many of them are used.
    pub order: usize,
}

impl Description {
    /// White noise of this level.
    pub fn white(level: u8) -> Description {
        Description { level: level.min(QUIETEST), reflection: [0.0; MAX_ORDER], order: 0 }
    }

    /// Reads a payload (RFC 3389 §3). `None` for an empty one; what is too much is passed over.
    pub fn parse(payload: &[u8]) -> Option<Description> {
        let (&level, coefficients) = payload.split_first()?;
        let mut description = Description::white(level & 0x7F);
        for (to, &octet) in description.reflection.iter_mut().zip(coefficients) {
            *to = (258.0 * (f32::from(octet) - 127.0) / 32_768.0).clamp(-0.98, 0.98);
            description.order += 1;
        }
        Some(description)
    }

    /// Appends the payload of this description.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.level.min(QUIETEST));
        for &k in &self.reflection[..self.order.min(MAX_ORDER)] {
            out.push((k * 32_768.0 / 258.0 + 127.0).round().clamp(0.0, 254.0) as u8);
        }
    }
}

/// Plays comfort noise as described, moving softly from one description to the next.
#[derive(Debug, Clone)]
pub struct Generator {
    white: White,
    target: Description,
    reflection: [f32; MAX_ORDER],
    order: usize,
    gain: f32,
    goal: f32,
    backward: [f32; MAX_ORDER + 1],
}

impl Generator {
    /// A silent one, until it is told what to play.
    pub fn new(seed: u32) -> Generator {
        Generator {
            white: White::new(seed),
            target: Description::white(QUIETEST),
            reflection: [0.0; MAX_ORDER],
            order: 0,
            gain: 0.0,
            goal: 0.0,
            backward: [0.0; MAX_ORDER + 1],
        }
    }

    /// Takes a new description.
    pub fn describe(&mut self, description: &Description) {
        self.target = *description;
        self.order = description.order.min(MAX_ORDER);
        self.reflection = description.reflection;
        // An all-pole filter raises the power of white noise by 1/∏(1-k²); even noise of peak 1 has a power
        // of 1/3.
        let raise: f32 = self.reflection[..self.order].iter().map(|k| 1.0 - k * k).product();
        let rms = 32_768.0 * 10f32.powf(-f32::from(description.level) / 20.0);
        self.goal = if description.level >= QUIETEST { 0.0 } else { rms * (3.0 * raise).sqrt() };
    }

    /// What is being played.
    pub fn description(&self) -> &Description {
        &self.target
    }

    /// Fills `pcm` with noise. The level reaches a new goal within some 10 ms.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            self.gain += (self.goal - self.gain) / 64.0;
            let mut forward = self.white.unit() * self.gain;
            // The lattice form is stable for every set of coefficients below 1.
            for stage in (0..self.order).rev() {
                let k = self.reflection[stage];
                forward -= k * self.backward[stage];
                self.backward[stage + 1] = self.backward[stage] + k * forward;
            }
            self.backward[0] = forward;
            *sample = forward as i16;
        }
    }

    /// Appends `samples` of noise.
    pub fn extend(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        let start = pcm.len();
        pcm.resize(start + samples, 0);
        self.fill(&mut pcm[start..]);
    }
}

/// Describes the silence on our side.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    correlation: [f64; ORDER + 1],
    frames: u32,
}

impl Estimator {
    /// Nothing heard yet.
    pub fn new() -> Estimator {
        Estimator::default()
    }

    /// Takes note of a frame of silence; older frames count less and less.
    pub fn observe(&mut self, pcm: &[i16]) {
        if pcm.len() <= ORDER {
            return;
        }
        for (lag, total) in self.correlation.iter_mut().enumerate() {
            let sum: f64 = pcm.iter().zip(&pcm[lag..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let mean = sum / pcm.len() as f64;
            *total = if self.frames == 0 { mean } else { *total * 0.75 + mean * 0.25 };
        }
        self.frames = self.frames.saturating_add(1);
    }

    /// The description of what was observed (Levinson's recursion); `None` before the first frame.
    pub fn describe(&self) -> Option<Description> {
        if self.frames == 0 {
            return None;
        }
        let power = self.correlation[0];
        if power < 0.5 {
            return Some(Description::white(QUIETEST));
        }
        let level = -10.0 * (power / (32_768.0 * 32_768.0)).log10();
        let mut description = Description::white(level.round().clamp(0.0, 127.0) as u8);
        let mut predictor = [0.0; ORDER + 1];
        // A trace of white keeps the recursion well behaved.
        let mut error = power * 1.0001;
        for order in 0..ORDER {
            let past = predictor[..order].iter().zip(self.correlation[1..=order].iter().rev());
            let sum = self.correlation[order + 1] + past.map(|(a, r)| a * r).sum::<f64>();
            let k = (-sum / error).clamp(-0.98, 0.98);
            let old = predictor;
            for (tap, mirrored) in predictor[..order].iter_mut().zip(old[..order].iter().rev()) {
                *tap += k * mirrored;
            }
            predictor[order] = k;
            error *= 1.0 - k * k;
            description.reflection[order] = k as f32;
            description.order = order + 1;
        }
        Some(description)
    }

    /// Forgets what was observed.
    pub fn reset(&mut self) {
        *self = Estimator::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::dbov;

    fn play(description: &Description) -> Vec<i16> {
        let mut generator = Generator::new(5);
        generator.describe(description);
        let mut pcm = vec![0; 16_000];
        generator.fill(&mut pcm);
        pcm.split_off(800)
    }

    #[test]
    fn the_level_is_as_described_with_and_without_colour() {
        for level in [20, 40, 60, 78] {
            let mut coloured = Description::white(level);
            coloured.order = 3;
            coloured.reflection[..3].copy_from_slice(&[-0.8, 0.4, 0.2]);
            for description in [Description::white(level), coloured] {
                let heard = -dbov(&play(&description));
                assert!((heard - f32::from(level)).abs() < 1.5, "{description:?} heard as {heard}");
            }
        }
        assert!(play(&Description::white(127)).iter().all(|&sample| sample == 0));
    }

    #[test]
    fn what_is_estimated_from_noise_is_what_made_the_noise() {
        let mut made = Description::white(42);
        made.order = 2;
        made.reflection[..2].copy_from_slice(&[-0.7, 0.3]);
        let mut estimator = Estimator::new();
        assert_eq!(estimator.describe(), None);
        for frame in play(&made).chunks(160) {
            estimator.observe(frame);
        }
        let found = estimator.describe().unwrap();
        assert!(found.level.abs_diff(42) <= 1, "{found:?}");
        assert!(
            (found.reflection[0] + 0.7).abs() < 0.1 && (found.reflection[1] - 0.3).abs() < 0.15,
            "{found:?}"
        );
        assert!(found.reflection[2..].iter().all(|k| k.abs() < 0.15), "{found:?}");

        let mut payload = Vec::new();
        found.write(&mut payload);
        assert_eq!(payload.len(), 9);
        let read = Description::parse(&payload).unwrap();
        assert_eq!(read.level, found.level);
        for (a, b) in read.reflection.iter().zip(&found.reflection) {
            assert!((a - b).abs() < 0.005);
        }
    }

    #[test]
    fn any_payload_is_bounded() {
        assert_eq!(Description::parse(&[]), None);
        for octet in 0..=255u8 {
            let description = Description::parse(&[octet; 64]).unwrap();
            assert_eq!(description.level, octet & 0x7F);
            assert_eq!(description.order, MAX_ORDER);
            // Whatever the model rings like, the sound stays finite and starts from silence.
            let mut generator = Generator::new(1);
            generator.describe(&description);
            let mut pcm = vec![0; 800];
            generator.fill(&mut pcm);
            assert!(generator.backward.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn silence_is_described_as_silence() {
        let mut estimator = Estimator::new();
        estimator.observe(&[0; 160]);
        assert_eq!(estimator.describe().map(|d| (d.level, d.order)), Some((127, 0)));
        estimator.reset();
        assert_eq!(estimator.describe(), None);
    }
}

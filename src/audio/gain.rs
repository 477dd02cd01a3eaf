//! Volume, and muting without a click.

/// Multiplies samples; a change takes one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gain {
    /// Factors in 1/4096, now and wanted.
    now: i32,
    wanted: i32,
}

/// A factor of one.
const UNITY: i32 = 4096;
/// The most that is amplified, in decibels.
pub const MAX_DB: f32 = 24.0;

impl Default for Gain {
    fn default() -> Gain {
        Gain::new()
    }
}

impl Gain {
    /// Changes nothing.
    pub const fn new() -> Gain {
        Gain { now: UNITY, wanted: UNITY }
    }

    /// Amplification in decibels, up to [`MAX_DB`]; -90 and less is silence.
    pub fn set_db(&mut self, decibels: f32) {
        self.wanted = if decibels <= -90.0 {
            0
        } else {
            (UNITY as f32 * 10f32.powf(decibels.min(MAX_DB) / 20.0)).round() as i32
        };
    }

    /// Whether nothing will be heard.
    pub fn silent(&self) -> bool {
        self.now == 0 && self.wanted == 0
    }

    /// Applies the factor in place, going over to a new one along the frame.
    pub fn apply(&mut self, pcm: &mut [i16]) {
        if self.now == self.wanted {
            if self.now != UNITY {
                for sample in pcm {
                    *sample = scale(*sample, self.now);
                }
            }
            return;
        }
        let (from, by, whole) = (self.now, i64::from(self.wanted - self.now), pcm.len().max(1) as i64);
        for (n, sample) in pcm.iter_mut().enumerate() {
            *sample = scale(*sample, from + (by * (n as i64 + 1) / whole) as i32);
        }
        self.now = self.wanted;
    }
}

fn scale(sample: i16, factor: i32) -> i16 {
    // The largest factor is 65,000: the product fits.
    ((i32::from(sample) * factor) >> 12).clamp(-32_768, 32_767) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_decibels_double_and_the_limits_hold() {
        let mut gain = Gain::new();
        let mut pcm = [1000, -1000, 30_000, -30_000];
        gain.apply(&mut pcm);
        assert_eq!(pcm, [1000, -1000, 30_000, -30_000]);
        gain.set_db(6.0206);
        gain.apply(&mut [0; 4]);
        gain.apply(&mut pcm);
        assert_eq!(pcm, [2000, -2000, 32_767, -32_768]);
        gain.set_db(400.0);
        let mut loud = [i16::MIN, i16::MAX];
        gain.apply(&mut loud);
        gain.apply(&mut loud);
        assert_eq!(loud, [i16::MIN, i16::MAX]);
    }

    #[test]
    fn muting_fades_along_one_frame() {
        let mut gain = Gain::new();
        gain.set_db(-100.0);
        assert!(!gain.silent());
        let mut pcm = [10_000; 160];
        gain.apply(&mut pcm);
        assert!(pcm.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] < 70));
        assert_eq!(pcm[159], 0);
        assert!(gain.silent());
    }
}

//! How loud sound is.

/// The level of silence, and the least that is told.
pub const SILENCE_DBOV: f32 = -127.0;

/// Root mean square of the samples.
pub fn rms(pcm: &[i16]) -> f32 {
    if pcm.is_empty() {
        return 0.0;
    }
    let sum: i64 = pcm.iter().map(|&sample| i64::from(i32::from(sample) * i32::from(sample))).sum();
    (sum as f64 / pcm.len() as f64).sqrt() as f32
}

/// Level against overload: 0 dBov is a square wave of full scale, a sine of full scale has -3 (RFC 3389 §3).
pub fn dbov(pcm: &[i16]) -> f32 {
    let rms = rms(pcm);
    if rms < 0.02 { SILENCE_DBOV } else { (20.0 * (rms / 32_768.0).log10()).max(SILENCE_DBOV) }
}

/// The peak of a sine of this level.
pub fn sine_peak(dbov: f32) -> f32 {
    (32_768.0 * 10f32.powf(dbov / 20.0) * std::f32::consts::SQRT_2).min(32_767.0)
}

/// Level over a longer time, from frames: mean power and the peak.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Meter {
    sum: f64,
    samples: u64,
    peak: u16,
}

impl Meter {
    /// Nothing heard yet.
    pub fn new() -> Meter {
        Meter::default()
    }

    /// Takes note of a frame.
    pub fn observe(&mut self, pcm: &[i16]) {
        let rms = f64::from(rms(pcm));
        self.sum += rms * rms * pcm.len() as f64;
        self.samples += pcm.len() as u64;
        self.peak = pcm.iter().fold(self.peak, |peak, sample| peak.max(sample.unsigned_abs()));
    }

    /// Mean level in dBov since the start or the last [`Meter::restart`].
    pub fn dbov(&self) -> f32 {
        let power = self.sum / self.samples.max(1) as f64;
        let level = 10.0 * (power / (32_768.0 * 32_768.0)).max(1e-13).log10();
        (level as f32).max(SILENCE_DBOV)
    }

    /// The highest absolute value.
    pub fn peak(&self) -> u16 {
        self.peak
    }

    /// Begins anew.
    pub fn restart(&mut self) {
        *self = Meter::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_signals_have_known_levels() {
        assert_eq!(dbov(&[]), SILENCE_DBOV);
        assert_eq!(dbov(&[0; 100]), SILENCE_DBOV);
        assert!(dbov(&[i16::MIN; 100]).abs() < 0.01);
        let sine: Vec<i16> =
            (0..8000).map(|n| (f64::from(sine_peak(-20.0)) * (f64::from(n) * 0.1).sin()) as i16).collect();
        assert!((dbov(&sine) + 20.0).abs() < 0.1, "{}", dbov(&sine));
        let mut meter = Meter::new();
        assert_eq!(meter.dbov(), SILENCE_DBOV);
        for frame in sine.chunks(160) {
            meter.observe(frame);
        }
        assert!((meter.dbov() + 20.0).abs() < 0.1);
        assert!(meter.peak() > 4600 && meter.peak() < 4700);
        meter.restart();
        assert_eq!(meter.peak(), 0);
    }
}

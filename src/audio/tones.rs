//! Call-progress tones and the ring, as an endless stream of samples.

use super::level::sine_peak;
use super::tone_table::{Blend, Step, country};

/// Loudness of call-progress tones in dBov: about -10 dBm0, as E.180 recommends.
pub const TONE_DBOV: f32 = -16.0;
/// Loudness of the ring in dBov.
pub const RING_DBOV: f32 = -12.0;
/// The two frequencies of the ring in hertz.
const RING: (u16, u16) = (1000, 1280);
/// What warns that the microphone opens: twice this, in hertz, then silence for good.
const BEEP_HERTZ: u16 = 1000;
static BEEP: [Step; 4] = [
    Step { hertz: BEEP_HERTZ, blend: Blend::Plain, ms: 100 },
    Step { hertz: 0, blend: Blend::Plain, ms: 50 },
    Step { hertz: BEEP_HERTZ, blend: Blend::Plain, ms: 100 },
    Step { hertz: 0, blend: Blend::Plain, ms: 0 },
];
/// What tells whoever is recorded: the usual recording tone, once every 15 s.
pub const RECORDING_HERTZ: u16 = 1400;
static RECORDING: [Step; 2] = [
    Step { hertz: RECORDING_HERTZ, blend: Blend::Plain, ms: 400 },
    Step { hertz: 0, blend: Blend::Plain, ms: 14_600 },
];
/// Tones begin and end over this time, so that they don't click.
const RAMP_MS: u32 = 4;

/// Which tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tone {
    /// Dial away.
    Dial,
    /// It rings over there.
    RingBack,
    /// The far end is busy.
    Busy,
    /// The network is busy, or the call failed.
    Congestion,
    /// Another call waits.
    CallWaiting,
    /// It rings here: a warble in the rhythm of the country.
    Ring,
    /// A call is about to be answered by itself: two short beeps within 250 ms, once; the same everywhere.
    Beep,
    /// The call is being recorded: 1400 Hz for 400 ms, every 15 s; the same everywhere.
    Recording,
}

/// A sine wave from a table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Oscillator {
    phase: u32,
    step: u32,
}

impl Oscillator {
    pub(super) fn new(hertz: f64, rate: u32) -> Oscillator {
        let mut oscillator = Oscillator::default();
        oscillator.tune(hertz, rate);
        oscillator
    }

    /// Another frequency, without a leap.
    pub(super) fn tune(&mut self, hertz: f64, rate: u32) {
        self.step = (hertz / f64::from(rate.max(1)) * 4_294_967_296.0) as u32;
    }

    /// The next sample, -32767 to 32767.
    pub(super) fn next(&mut self) -> i32 {
        let index = (self.phase >> 22) as usize;
        let between = ((self.phase >> 7) & 0x7FFF) as i32;
        let (low, high) = (i32::from(SINE[index]), i32::from(SINE[index + 1]));
        self.phase = self.phase.wrapping_add(self.step);
        low + (((high - low) * between) >> 15)
    }
}

static SINE: [i16; 1025] = sine_table();

const fn sine_table() -> [i16; 1025] {
    let mut table = [0; 1025];
    let mut index = 0;
    while index < table.len() {
        // Around the nearest multiple of half a turn, Taylor's series is exact to far beyond 16 bits.
        let quarter = index % 512;
        let x = (if quarter > 256 { 512 - quarter } else { quarter }) as f64 * std::f64::consts::PI / 512.0;
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while n < 9.0 {
            term *= -x * x / ((2.0 * n) * (2.0 * n + 1.0));
            sum += term;
            n += 1.0;
        }
        let value = (sum * 32_767.0 + 0.5) as i16;
        table[index] = if index < 512 { value } else { -value };
        index += 1;
    }
    table
}

/// Plays one tone for ever, in pieces of any length.
#[derive(Debug, Clone)]
pub struct TonePlayer {
    tone: Tone,
    rate: u32,
    cadence: &'static [Step],
    peak: i32,
    step: usize,
    /// Samples since the step began and its length; `None` never ends.
    at: u32,
    length: Option<u32>,
    first: Oscillator,
    second: Oscillator,
}

impl TonePlayer {
    /// `tone` as it sounds in the country with this ISO code, at `rate` hertz.
    pub fn new(tone: Tone, code: &str, rate: u32) -> TonePlayer {
        let country = country(code);
        let (cadence, dbov) = match tone {
            Tone::Dial => (country.dial, TONE_DBOV),
            Tone::RingBack => (country.ring_back, TONE_DBOV),
            Tone::Busy => (country.busy, TONE_DBOV),
            Tone::Congestion => (country.congestion, TONE_DBOV),
            Tone::CallWaiting => (country.call_waiting, TONE_DBOV - 4.0),
            Tone::Ring => (country.ring_back, RING_DBOV),
            Tone::Beep => (&BEEP[..], TONE_DBOV),
            Tone::Recording => (&RECORDING[..], TONE_DBOV),
        };
        let mut player = TonePlayer {
            tone,
            rate,
            cadence,
            peak: sine_peak(dbov) as i32,
            step: 0,
            at: 0,
            length: None,
            first: Oscillator::default(),
            second: Oscillator::default(),
        };
        player.begin();
        player
    }

    /// Which tone it is.
    pub fn tone(&self) -> Tone {
        self.tone
    }

    /// Whether it sounds once, and did.
    pub fn is_over(&self) -> bool {
        self.length.is_none() && self.now().hertz == 0
    }

    /// Loudness in dBov.
    pub fn set_level(&mut self, dbov: f32) {
        self.peak = sine_peak(dbov) as i32;
    }

    /// From the beginning of the rhythm.
    pub fn restart(&mut self) {
        self.step = 0;
        self.begin();
    }

    /// Fills `pcm` with what comes next.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        let mut rest = pcm;
        while !rest.is_empty() {
            let left = self.length.map_or(usize::MAX, |length| (length - self.at) as usize);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            self.sound(now);
            if self.length == Some(self.at) {
                self.step = (self.step + 1) % self.cadence.len();
                self.begin();
            }
            rest = later;
        }
    }

    fn now(&self) -> Step {
        let step = self.cadence.get(self.step).copied();
        let step = step.unwrap_or(Step { hertz: 0, blend: Blend::Plain, ms: 0 });
        if self.tone == Tone::Ring && step.hertz > 0 {
            return Step { hertz: RING.0, blend: Blend::Warble(RING.1), ms: step.ms };
        }
        step
    }

    fn begin(&mut self) {
        let step = self.now();
        self.at = 0;
        self.length = (step.ms > 0).then(|| (self.rate * u32::from(step.ms) / 1000).max(1));
        self.first.tune(f64::from(step.hertz), self.rate);
        if let Blend::Sum(other) | Blend::Modulated(other) | Blend::Warble(other) = step.blend {
            self.second.tune(f64::from(other), self.rate);
        }
    }

    fn sound(&mut self, pcm: &mut [i16]) {
        let step = self.now();
        let samples = pcm.len() as u32;
        if step.hertz == 0 {
            pcm.fill(0);
            self.at = self.at.wrapping_add(samples);
            return;
        }
        let ramp = (self.rate * RAMP_MS / 1000).max(1);
        let turn = (self.rate / 40).max(1);
        for sample in pcm {
            let wave = match step.blend {
                Blend::Plain => self.first.next(),
                Blend::Sum(_) => (self.first.next() + self.second.next()) * 181 / 256,
                Blend::Modulated(_) => {
                    (self.first.next() * ((27_648 + self.second.next() * 3 / 4) >> 1)) >> 14
                }
                Blend::Warble(_) => {
                    let (first, second) = (self.first.next(), self.second.next());
                    if (self.at / turn).is_multiple_of(2) { first } else { second }
                }
            };
            let mut value = (wave * self.peak) >> 15;
            let end = self.length.map_or(ramp, |length| length - self.at);
            let edge = self.at.min(end);
            if edge < ramp && (self.length.is_some() || self.at < ramp) {
                value = value * edge as i32 / ramp as i32;
            }
            *sample = value.clamp(-32_768, 32_767) as i16;
            self.at = if self.length.is_none() { (self.at + 1).max(1) & 0x7FFF_FFFF } else { self.at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::dbov;
    use crate::audio::tone_table::COUNTRIES;

    /// Level in dBov of one frequency in a piece of sound.
    fn heard(pcm: &[i16], hertz: u16, rate: u32) -> f32 {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &sample) in pcm.iter().enumerate() {
            let w = 1.0 - (n as f64 / pcm.len() as f64 * std::f64::consts::TAU).cos();
            let angle = n as f64 * f64::from(hertz) * std::f64::consts::TAU / f64::from(rate);
            re += w * f64::from(sample) * angle.cos();
            im += w * f64::from(sample) * angle.sin();
        }
        let peak = 2.0 * f64::hypot(re, im) / pcm.len() as f64;
        (20.0 * (peak / std::f64::consts::SQRT_2 / 32_768.0).max(1e-7).log10()) as f32
    }

    #[test]
    fn every_tone_of_every_country_has_its_frequencies_and_its_rhythm() {
        let rate = 8_000;
        for row in COUNTRIES {
            let all = [
                (Tone::Dial, row.dial),
                (Tone::RingBack, row.ring_back),
                (Tone::Busy, row.busy),
                (Tone::Congestion, row.congestion),
            ];
            for (tone, cadence) in all {
                let mut player = TonePlayer::new(tone, row.code, rate);
                for &step in cadence.iter().chain(cadence.first()) {
                    let ms = if step.ms == 0 { 1000 } else { u32::from(step.ms) };
                    let mut pcm = vec![0; (rate * ms / 1000) as usize];
                    // In pieces, as a period of a sound card takes it.
                    pcm.chunks_mut(77).for_each(|piece| player.fill(piece));
                    let label = format!("{} {tone:?} {step:?}", row.code);
                    if step.hertz == 0 {
                        assert!(pcm.iter().all(|&sample| sample == 0), "{label}");
                        continue;
                    }
                    let level = dbov(&pcm);
                    assert!((level - TONE_DBOV).abs() < 4.5, "{label}: {level} dBov");
                    let least = if matches!(step.blend, Blend::Modulated(_)) { -24.0 } else { -20.5 };
                    assert!(
                        heard(&pcm, step.hertz, rate) > least,
                        "{label}: {}",
                        heard(&pcm, step.hertz, rate)
                    );
                    if let Blend::Sum(other) = step.blend {
                        assert!(heard(&pcm, other, rate) > -20.5, "{label}");
                    }
                    assert!(heard(&pcm, 1900, rate) < -45.0, "{label}");
                    assert!(pcm[0].unsigned_abs() < 100, "{label} clicks");
                }
            }
        }
    }

    #[test]
    fn the_ring_warbles_in_the_rhythm_of_the_country_at_any_rate() {
        for rate in [8_000, 16_000, 48_000] {
            let mut player = TonePlayer::new(Tone::Ring, "GB", rate);
            let mut pcm = vec![0; rate as usize * 3];
            player.fill(&mut pcm);
            let ms = |from: usize, to: usize| &pcm[rate as usize * from / 1000..rate as usize * to / 1000];
            assert!(dbov(ms(50, 350)) > -16.0 && dbov(ms(650, 950)) > -16.0);
            assert!(ms(400, 600).iter().chain(ms(1000, 3000)).all(|&s| s == 0));
            assert!(heard(ms(0, 400), 1000, rate) > -26.0 && heard(ms(0, 400), 1280, rate) > -26.0);
            assert!(heard(ms(0, 400), 400, rate) < -30.0);
        }
    }

    #[test]
    fn the_beep_is_heard_twice_and_never_again() {
        for rate in [8_000, 16_000, 48_000] {
            let mut player = TonePlayer::new(Tone::Beep, "DE", rate);
            let mut pcm = vec![0; rate as usize * 5];
            pcm.chunks_mut(rate as usize / 100).for_each(|period| player.fill(period));
            let ms = |from: usize, to: usize| &pcm[rate as usize * from / 1000..rate as usize * to / 1000];
            for beep in [ms(0, 100), ms(150, 250)] {
                assert!(heard(beep, BEEP_HERTZ, rate) > -19.0, "{}", heard(beep, BEEP_HERTZ, rate));
            }
            assert!(ms(100, 150).iter().chain(ms(250, 5000)).all(|&sample| sample == 0));
        }
    }

    #[test]
    fn a_tone_without_end_never_falters_and_a_level_is_obeyed() {
        let mut player = TonePlayer::new(Tone::Dial, "FR", 8_000);
        player.set_level(-30.0);
        let mut pcm = vec![0; 80];
        for _ in 0..2000 {
            player.fill(&mut pcm);
        }
        assert!((dbov(&pcm) + 30.0).abs() < 1.0);
        assert_eq!(player.tone(), Tone::Dial);
        let mut busy = TonePlayer::new(Tone::Busy, "FR", 8_000);
        let (mut first, mut second) = (vec![0; 3000], vec![0; 3000]);
        busy.fill(&mut first);
        busy.restart();
        busy.fill(&mut second);
        assert!(first.iter().zip(&second).all(|(a, b)| (*a == 0) == (*b == 0) || a.abs_diff(*b) < 8000));
    }
}

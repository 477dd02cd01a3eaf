//! A speech-like signal made from a seed, for demonstrations and measurements.
//!
//! It says nothing, in the rhythm of speech: phrases of syllables with a consonant and a vowel each, pitch
//! that rises and falls, formants that glide, pauses between. The same seed speaks the same at every time.

use super::comfort::White;
use std::f32::consts::{PI, TAU};

/// Formants of the vowels in hertz.
const VOWELS: [[f32; 3]; 6] = [
    [730.0, 1090.0, 2440.0],
    [530.0, 1840.0, 2480.0],
    [300.0, 2250.0, 2950.0],
    [570.0, 840.0, 2410.0],
    [320.0, 870.0, 2240.0],
    [500.0, 1500.0, 2500.0],
];
const BANDWIDTHS: [f32; 4] = [70.0, 90.0, 130.0, 200.0];
/// Centres of the noise of unvoiced consonants in hertz.
const FRICATIVES: [f32; 3] = [2_300.0, 3_100.0, 4_800.0];
/// How often the filters follow, per second.
const UPDATES: u32 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    Pause,
    Consonant,
    Vowel,
}

#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    a: f32,
    b: f32,
    c: f32,
    past: [f32; 2],
}

impl Resonator {
    fn tune(&mut self, hertz: f32, bandwidth: f32, rate: f32) {
        let radius = (-PI * bandwidth / rate).exp();
        self.c = -radius * radius;
        self.b = 2.0 * radius * (TAU * hertz / rate).cos();
        self.a = 1.0 - self.b - self.c;
    }

    fn run(&mut self, input: f32) -> f32 {
        let output = self.a * input + self.b * self.past[0] + self.c * self.past[1];
        self.past = [output, self.past[0]];
        output
    }
}

/// A speaker that never ends.
#[derive(Debug, Clone)]
pub struct Speech {
    rate: f32,
    chance: White,
    breath: White,
    sound: Sound,
    /// Samples since the sound began and its length.
    at: u32,
    length: u32,
    syllables: u32,
    update: u32,
    phase: f32,
    pitch: f32,
    base: f32,
    goal: f32,
    formants: [f32; 3],
    vowel: [f32; 3],
    voice: f32,
    hiss: f32,
    loudness: f32,
    tract: [Resonator; 4],
    teeth: Resonator,
}

impl Speech {
    /// A speaker for `rate` hertz. The seed chooses the voice and the words.
    pub fn new(seed: u64, rate: u32) -> Speech {
        let mut chance = White::new((seed ^ (seed >> 32)) as u32 ^ 0x5eed_5eed);
        for _ in 0..8 {
            chance.unit();
        }
        let base = 145.0 + 45.0 * chance.unit();
        let mut speech = Speech {
            rate: rate.max(8_000) as f32,
            breath: White::new(chance.unit().to_bits()),
            chance,
            sound: Sound::Pause,
            at: 0,
            length: 0,
            syllables: 0,
            update: 0,
            phase: 0.0,
            pitch: base,
            base,
            goal: base,
            formants: VOWELS[5],
            vowel: VOWELS[5],
            voice: 0.0,
            hiss: 0.0,
            loudness: 1.0,
            tract: [Resonator::default(); 4],
            teeth: Resonator::default(),
        };
        speech.length = (speech.rate / 20.0) as u32;
        speech
    }

    /// Fills `pcm` with what comes next. While it speaks it is as loud as speech on a line, about -20 dBov.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            *sample = self.next();
        }
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.chance.unit() * 0.5 + 0.5)
    }

    fn begin(&mut self) {
        let (sound, length_ms) = match self.sound {
            Sound::Consonant => (Sound::Vowel, self.between(90.0, 230.0)),
            Sound::Vowel if self.syllables == 0 => (Sound::Pause, self.between(180.0, 600.0)),
            Sound::Pause | Sound::Vowel => (Sound::Consonant, self.between(35.0, 110.0)),
        };
        if self.sound == Sound::Pause {
            self.syllables = self.between(3.0, 10.0) as u32;
            self.goal = self.base * 1.25;
        }
        self.sound = sound;
        self.at = 0;
        self.length = (self.rate * length_ms / 1000.0) as u32;
        match sound {
            Sound::Vowel => {
                self.syllables = self.syllables.saturating_sub(1);
                self.vowel = VOWELS[self.between(0.0, 5.99) as usize % VOWELS.len()];
                self.loudness = self.between(0.55, 1.0);
                // Pitch falls along the phrase and moves with every syllable.
                self.goal = (self.goal * 0.96).max(self.base * 0.8) * self.between(0.94, 1.06);
            }
            Sound::Consonant => {
                let centre = FRICATIVES[self.between(0.0, 2.99) as usize % FRICATIVES.len()];
                let centre = centre.min(self.rate * 0.4);
                self.teeth.tune(centre, 900.0, self.rate);
                self.loudness = self.between(0.3, 1.0);
            }
            Sound::Pause => {}
        }
    }

    fn follow(&mut self) {
        for (formant, goal) in self.formants.iter_mut().zip(self.vowel) {
            *formant += (goal - *formant) * 0.045;
        }
        self.pitch += (self.goal - self.pitch) * 0.02;
        let tuned = [self.formants[0], self.formants[1], self.formants[2], 3_400.0];
        for ((resonator, hertz), bandwidth) in self.tract.iter_mut().zip(tuned).zip(BANDWIDTHS) {
            resonator.tune(hertz, bandwidth, self.rate);
        }
    }

    fn next(&mut self) -> i16 {
        if self.at >= self.length {
            self.begin();
        }
        self.at += 1;
        if self.update == 0 {
            self.update = self.rate as u32 / UPDATES;
            self.follow();
        }
        self.update -= 1;
        // Some consonants have voice in them.
        let (voice, hiss) = match self.sound {
            Sound::Pause => (0.0, 0.0),
            Sound::Consonant => (if self.loudness < 0.5 { 0.35 } else { 0.0 }, self.loudness),
            Sound::Vowel => (self.loudness, 0.0),
        };
        let speed = 120.0 / self.rate;
        self.voice += (voice - self.voice) * speed;
        self.hiss += (hiss - self.hiss) * speed * 1.5;

        self.phase += self.pitch / self.rate;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
        }
        // Air through the glottis, differentiated: opens softly, shuts abruptly, stays shut for two fifths.
        let open = self.phase / 0.6;
        let pulse = if open < 1.0 { 2.0 * open - 3.0 * open * open } else { 0.0 };
        let breath = self.breath.unit();
        let mut sound = self.voice * (pulse + 0.01 * breath);
        for resonator in &mut self.tract {
            sound = resonator.run(sound);
        }
        let noise = self.teeth.run(breath * self.hiss);
        ((sound * 5_500.0 + noise * 900.0 + breath * 3.0) as i32).clamp(-32_000, 32_000) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::dbov;

    #[test]
    fn it_has_the_level_rhythm_and_pitch_of_speech() {
        for rate in [8_000u32, 16_000, 48_000] {
            for seed in 0..4 {
                let mut pcm = vec![0; rate as usize * 10];
                Speech::new(seed, rate).fill(&mut pcm);
                let frames: Vec<f32> = pcm.chunks(rate as usize / 50).map(dbov).collect();
                let loud: Vec<f32> = frames.iter().copied().filter(|&level| level > -40.0).collect();
                let quiet = frames.iter().filter(|&&level| level < -55.0).count();
                let mean = 10.0
                    * (loud.iter().map(|l| 10f32.powf(l / 10.0)).sum::<f32>() / loud.len() as f32).log10();
                println!("{rate} {seed}: {mean:.1} dBov over {} frames, {quiet} quiet", loud.len());
                assert!((-26.0..-15.0).contains(&mean), "{mean}");
                assert!(loud.len() > 200 && (25..300).contains(&quiet), "{} {quiet}", loud.len());
                assert!(pcm.iter().all(|s| s.unsigned_abs() < 32_000), "clipped");
            }
        }
    }

    #[test]
    fn a_seed_speaks_the_same_in_pieces_of_any_length_and_another_seed_differently() {
        let (mut whole, mut pieces) = (vec![0; 4000], vec![0; 4000]);
        Speech::new(77, 8_000).fill(&mut whole);
        let mut speech = Speech::new(77, 8_000);
        pieces.chunks_mut(37).for_each(|piece| speech.fill(piece));
        assert_eq!(whole, pieces);
        Speech::new(78, 8_000).fill(&mut pieces);
        assert_ne!(whole, pieces);
    }
}

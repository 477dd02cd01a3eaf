//! Concealment of lost frames for codecs that have none of their own: the voice goes on with its last pitch
//! cycles.
//!
//! The idea is that of G.711 Appendix I, without its delay: find the pitch in what was heard last, repeat the
//! last cycle, after 10 ms the last two and after 20 ms the last three, fade out until 60 ms and leave the
//! background noise of the far end standing. What comes after the gap is blended in. Without loss a frame
//! costs a copy and a mean.

use std::collections::VecDeque;

use super::comfort::White;
use super::eights;
use super::pitch;

/// What is remembered, in milliseconds: three of the longest cycles and a blend.
const HISTORY_MS: usize = 50;
/// The shortest and the longest pitch cycle, in microseconds: 400 Hz and 67 Hz.
const SHORTEST_US: usize = 2_500;
const LONGEST_US: usize = 15_000;
/// The voice holds its level this long and is gone at the end, in milliseconds.
const HOLD_MS: usize = 10;
const GONE_MS: usize = 60;
/// The longest blend after a gap, in milliseconds.
const BLEND_MS: usize = 10;
/// Most that one request is answered with, in milliseconds.
const REQUEST_MS: usize = 120;
/// Most that can be seen of what is to come, in samples.
pub(super) const LOOK_AHEAD: usize = 64;
/// Below this likeness of two cycles the sound is taken for unvoiced.
const VOICED: f32 = 0.5;

/// Remembers what was heard and bridges what was lost; one per stream.
#[derive(Debug, Clone)]
pub struct Concealer {
    rate: usize,
    /// The last samples that were played, made up ones not included.
    history: Vec<i16>,
    /// How many samples at the end of the history were really heard.
    heard: usize,
    /// The gap that is being bridged.
    gap: Option<Gap>,
    /// Background level as a mean of absolute values, in 1/16.
    floor: u32,
    noise: White,
    smooth: i32,
    blend: Vec<i16>,
    /// Made up already, but not yet asked for.
    ahead: VecDeque<i16>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Length of the pitch cycle in samples.
    lag: usize,
    /// How many cycles are in use now.
    cycles: usize,
    /// Where in the cycles the next sample is taken.
    position: usize,
    /// While cycles are being added: how many there were, where in them, and how far the change has come.
    change: Option<(usize, usize, usize)>,
    /// Samples made up so far.
    made: usize,
    /// What the first made-up sample missed the last real one by; dies away over the first blend.
    step: i32,
    /// Level of the repetition in 1/4096, lower where the sound has no pitch.
    gain: i32,
}

impl Gap {
    /// Length of a blend between cycles.
    fn overlap(&self) -> usize {
        (self.lag / 4).max(1)
    }
}

impl Concealer {
    /// For samples at `rate` hertz.
    pub fn new(rate: u32) -> Concealer {
        let rate = rate.clamp(8_000, 48_000) as usize;
        Concealer {
            rate,
            history: vec![0; rate * HISTORY_MS / 1000],
            heard: 0,
            gap: None,
            floor: 0,
            noise: White::new(0x0a15_e5ee),
            smooth: 0,
            blend: Vec::with_capacity(rate * BLEND_MS / 1000),
            ahead: VecDeque::with_capacity(LOOK_AHEAD),
        }
    }

    /// Whether the last thing played was made up.
    pub fn concealing(&self) -> bool {
        self.gap.is_some()
    }

    /// Takes note of a frame that was decoded; right after a gap, blends its head with the bridge.
    pub fn good(&mut self, pcm: &mut [i16]) {
        if pcm.is_empty() {
            return;
        }
        if let Some(gap) = self.gap {
            let overlap = gap.overlap() + gap.made.saturating_sub(self.rate / 100) * 4 / 10;
            let overlap = overlap.min(self.rate * BLEND_MS / 1000).min(pcm.len());
            let mut bridge = std::mem::take(&mut self.blend);
            bridge.clear();
            self.take(overlap, &mut bridge);
            self.ahead.clear();
            for (n, (sample, &old)) in pcm.iter_mut().zip(&bridge).enumerate() {
                let (new, old) = (i32::from(*sample), i32::from(old));
                *sample = (old + (new - old) * (n as i32 + 1) / (overlap as i32 + 1)) as i16;
            }
            self.blend = bridge;
            self.gap = None;
        }
        self.remember(pcm);
        self.watch_floor(pcm);
    }

    /// Appends `samples` made-up ones, at most 120 ms; more than that is silence.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) {
        let made = samples.min(self.rate * REQUEST_MS / 1000);
        if self.gap.is_none() {
            self.open_gap();
        }
        self.take(made, out);
        out.resize(out.len() + (samples - made), 0);
    }

    /// Up to [`LOOK_AHEAD`] of the samples that come next if the gap lasts. Empty without a gap.
    pub(super) fn look_ahead(&mut self, samples: usize) -> impl Iterator<Item = i16> {
        let missing = samples.min(LOOK_AHEAD).saturating_sub(self.ahead.len());
        let mut made = std::mem::take(&mut self.blend);
        made.clear();
        self.produce(missing, &mut made);
        self.ahead.extend(&made);
        self.blend = made;
        self.ahead.iter().copied().take(samples)
    }

    /// Appends `samples`, those first that were seen already.
    fn take(&mut self, samples: usize, out: &mut Vec<i16>) {
        let seen = samples.min(self.ahead.len());
        out.extend(self.ahead.drain(..seen));
        self.produce(samples - seen, out);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.history.fill(0);
        self.heard = 0;
        self.gap = None;
        self.ahead.clear();
        self.floor = 0;
        self.smooth = 0;
    }

    fn remember(&mut self, pcm: &[i16]) {
        let room = self.history.len();
        if pcm.len() >= room {
            self.history.copy_from_slice(&pcm[pcm.len() - room..]);
        } else {
            self.history.copy_within(pcm.len().., 0);
            self.history[room - pcm.len()..].copy_from_slice(pcm);
        }
        self.heard = (self.heard + pcm.len()).min(room);
    }

    /// The background is what the quietest frames have: down at once, up by 6 % per frame.
    fn watch_floor(&mut self, pcm: &[i16]) {
        let sum = eights::sum(pcm, |sample| u32::from(sample.unsigned_abs()));
        let mean = (u64::from(sum) * 16 / pcm.len() as u64) as u32;
        let risen = self.floor + self.floor / 16 + 1;
        self.floor = mean.min(risen);
    }

    fn open_gap(&mut self) {
        let len = self.history.len();
        let (shortest, longest) = (self.rate * SHORTEST_US / 1_000_000, self.rate * LONGEST_US / 1_000_000);
        // Backwards in time, the template comes first and its likes later.
        let mut backwards = [0i16; 2880];
        let backwards = &mut backwards[..len];
        for (to, &from) in backwards.iter_mut().zip(self.history.iter().rev()) {
            *to = from;
        }
        let found = pitch::search(backwards, 0, self.rate / 50, shortest..=longest, self.rate as u32);
        let (lag, likeness) = found.map_or((longest, 0.0), |found| (found.lag, found.likeness));
        let voiced = likeness >= VOICED;
        // Noise repeated in short cycles sounds like a whistle.
        let lag = if voiced { lag } else { longest };
        let cycles = if voiced { 1 } else { 2 };
        let mut gap = Gap {
            lag,
            cycles,
            position: 0,
            change: None,
            made: 0,
            step: 0,
            gain: (4096.0 * (likeness + 0.3).clamp(0.5, 1.0)) as i32,
        };
        gap.step =
            i32::from(self.history[len - 1]) - ((i32::from(self.history[len - 1 - lag]) * gap.gain) >> 12);
        if self.heard == 0 {
            gap.gain = 0;
        }
        self.gap = Some(gap);
    }

    /// A sample of the last `cycles` cycles, whose end runs smoothly into their beginning.
    fn cycle(history: &[i16], lag: usize, cycles: usize, position: usize) -> i32 {
        let length = lag * cycles;
        let overlap = (lag / 4).max(1);
        let start = history.len() - length;
        let position = if position >= length { position - length } else { position };
        let sample = i32::from(history[start + position]);
        let left = length - position;
        if left > overlap {
            return sample;
        }
        let before = i32::from(history[start + position - length.min(start + position)]);
        let through = (overlap - left + 1) as i32;
        sample + (before - sample) * through / (overlap as i32 + 1)
    }

    fn produce(&mut self, samples: usize, out: &mut Vec<i16>) {
        let Some(mut gap) = self.gap else { return };
        let overlap = gap.overlap();
        let (hold, gone) = (self.rate * HOLD_MS / 1000, self.rate * GONE_MS / 1000);
        let ramp = overlap.min(self.rate / 500).max(1) as i32;
        let floor = (self.floor / 16).min(2000) as i32;
        out.reserve(samples);
        for _ in 0..samples {
            if (gap.cycles == 1 && gap.made >= self.rate / 100)
                || (gap.cycles == 2 && gap.made >= self.rate / 50)
            {
                gap.change = Some((gap.cycles, gap.position, 0));
                gap.position %= gap.lag;
                gap.cycles += 1;
            }
            let mut sample = Self::cycle(&self.history, gap.lag, gap.cycles, gap.position);
            if let Some((cycles, position, through)) = gap.change {
                let old = Self::cycle(&self.history, gap.lag, cycles, position);
                sample = old + (sample - old) * (through as i32 + 1) / (overlap as i32 + 1);
                let position = if position + 1 >= cycles * gap.lag { 0 } else { position + 1 };
                gap.change = (through + 1 < overlap).then_some((cycles, position, through + 1));
            }
            gap.position = if gap.position + 1 >= gap.cycles * gap.lag { 0 } else { gap.position + 1 };
            sample = (sample * gap.gain) >> 12;
            let made = gap.made as i32;
            if made < ramp {
                sample += gap.step * (ramp - made) / (ramp + 1);
            }
            let faded = gap.made.saturating_sub(hold).min(gone - hold) as i32;
            let whole = (gone - hold) as i32;
            sample = sample * (whole - faded) / whole;
            if faded > 0 && floor > 0 {
                // A mean of two makes the noise a little darker; its mean absolute value is a third of the
                // peak.
                let fresh = self.noise.sample(floor * 3);
                sample += (fresh + self.smooth) / 2 * faded / whole;
                self.smooth = fresh;
            }
            out.push(sample.clamp(-32_768, 32_767) as i16);
            gap.made = gap.made.saturating_add(1);
        }
        self.gap = Some(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::similarity::segmental_snr;
    use crate::audio::speech::Speech;
    use crate::chance::Chance;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Way {
        Pitch,
        Repeat,
        Silence,
    }

    /// Plays 20 s of speech with lost frames of 20 ms and tells the segmental SNR over the frames that were
    /// lost.
    fn quality(way: Way, rate: u32, loss: f64) -> f64 {
        let frame = (rate / 50) as usize;
        let mut speech = Speech::new(3, rate);
        let mut chance = Chance::from_number(9);
        let mut concealer = Concealer::new(rate);
        let (mut input, mut output, mut last) = (vec![0; frame], Vec::new(), vec![0; frame]);
        let (mut lost, mut heard) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            speech.fill(&mut input);
            output.clear();
            if chance.happens(loss) {
                match way {
                    Way::Pitch => concealer.conceal(frame, &mut output),
                    Way::Repeat => output.extend_from_slice(&last),
                    Way::Silence => output.resize(frame, 0),
                }
                lost.extend_from_slice(&input);
                heard.extend_from_slice(&output);
            } else {
                output.extend_from_slice(&input);
                if way == Way::Pitch {
                    concealer.good(&mut output);
                }
                last.copy_from_slice(&input);
            }
        }
        segmental_snr(&lost, &heard, rate)
    }

    #[test]
    fn pitch_beats_repetition_and_silence() {
        for rate in [8_000, 16_000] {
            for loss in [0.05, 0.2] {
                let [pitch, repeat, silence] =
                    [Way::Pitch, Way::Repeat, Way::Silence].map(|way| quality(way, rate, loss));
                println!(
                    "{rate} Hz, {loss}: pitch {pitch:.2} dB, repetition {repeat:.2} dB, silence {silence:.2} dB"
                );
                assert!(pitch > repeat + 1.0, "{rate} {loss}: {pitch} against {repeat}");
                assert!(pitch > silence + 0.5, "{rate} {loss}: {pitch} against {silence}");
            }
        }
    }

    #[test]
    fn a_tone_goes_on_without_a_step_then_fades_into_the_background() {
        let rate = 8_000usize;
        let tone =
            |n: usize| (8000.0 * (n as f64 * 200.0 * std::f64::consts::TAU / rate as f64).sin()) as i16;
        let mut concealer = Concealer::new(8_000);
        let mut frame: Vec<i16> = (0..1600).map(tone).collect();
        concealer.good(&mut frame);
        let mut made = Vec::new();
        concealer.conceal(80, &mut made);
        for (n, &sample) in made.iter().enumerate() {
            assert!((i32::from(sample) - i32::from(tone(1600 + n))).abs() < 200, "at {n}: {sample}");
        }
        concealer.conceal(rate, &mut made);
        assert_eq!(made.len(), rate + 80);
        let steps = made.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max();
        assert!(steps < Some(2500), "{steps:?}");
        assert!(made[480..].iter().all(|&sample| sample.unsigned_abs() < 1000));
        // After the gap nothing jumps either.
        let mut next: Vec<i16> = (9680..9840).map(tone).collect();
        concealer.good(&mut next);
        let step = (i32::from(next[0]) - i32::from(made[made.len() - 1])).abs();
        assert!(step < 2000, "{step}");
        assert_eq!(next[100..], (9780..9840).map(tone).collect::<Vec<_>>());
    }

    #[test]
    fn without_loss_the_sound_is_untouched_and_without_sound_there_is_silence() {
        let mut concealer = Concealer::new(16_000);
        let mut made = Vec::new();
        concealer.conceal(320, &mut made);
        assert_eq!(made, vec![0; 320]);
        concealer.reset();
        let mut speech = Speech::new(1, 16_000);
        let mut input = vec![0; 333];
        for _ in 0..20 {
            speech.fill(&mut input);
            let mut output = input.clone();
            concealer.good(&mut output);
            assert_eq!(input, output);
        }
        assert!(!concealer.concealing());
    }
}

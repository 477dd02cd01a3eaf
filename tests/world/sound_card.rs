//! A sound card: by its own clock it takes and gives a block every 20 ms, and the thread that serves it wakes a little later, now
//! more and now less.

use tipring::audio::speech::Speech;
use tipring::chance::Chance;
use tipring::media::Engine;
use tipring::now::Now;

/// Samples per second of most cards.
pub const RATE: u32 = 16_000;
/// Periods of 10 ms in a block, as the phone asks of its devices.
const BLOCK: u32 = 2;
/// The thread looks this often, in microseconds, so it is up to this late.
const LOOK_US: u32 = 5_000;
/// Seconds of speech that is said over and over.
const SPEECH_S: usize = 20;

/// A loudspeaker and a microphone that somebody speaks into.
pub struct SoundCard {
    /// Samples per second.
    pub rate: u32,
    /// Microseconds between two blocks.
    block_us: f64,
    next_us: Option<f64>,
    /// How late the thread wakes for the next block, and what that is drawn from.
    late_us: u64,
    chance: Chance,
    speech: Vec<i16>,
    position: usize,
    period: Vec<i16>,
    /// What was said and heard since [`SoundCard::listen`].
    pub said: Vec<i16>,
    pub heard: Vec<i16>,
    listening: bool,
    unplugged: bool,
}

impl SoundCard {
    /// A card whose clock runs `drift_ppm` too fast (or too slow), with a voice from a seed.
    pub fn new(seed: u64, rate: u32, drift_ppm: f64) -> SoundCard {
        let mut speech = vec![0; rate as usize * SPEECH_S];
        Speech::new(seed, rate).fill(&mut speech);
        SoundCard {
            rate,
            block_us: f64::from(BLOCK) * 10_000.0 / (1.0 + drift_ppm / 1e6),
            next_us: None,
            late_us: 0,
            chance: Chance::from_number(seed),
            speech,
            position: 0,
            period: vec![0; rate as usize / 100],
            said: Vec::new(),
            heard: Vec::new(),
            listening: false,
            unplugged: false,
        }
    }

    /// Takes the card away: it asks for nothing any more.
    pub fn unplug(&mut self) {
        self.unplugged = true;
    }

    /// Forgets what was said and heard, and keeps it from now on, or no longer.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
        if listening {
            self.said.clear();
            self.heard.clear();
        }
    }

    /// When the next block is served; the card rests while no leg is open.
    pub fn poll_timeout(&mut self, now: Now, engine: &Engine) -> Option<u64> {
        if engine.legs() == 0 || self.unplugged {
            self.next_us = None;
            return None;
        }
        Some(*self.next_us.get_or_insert(now.mono_us as f64) as u64 + self.late_us)
    }

    /// Plays and captures what is due.
    pub fn handle_timeout(&mut self, now: Now, engine: &mut Engine) {
        while let Some(next_us) = self.next_us.filter(|next_us| *next_us as u64 + self.late_us <= now.mono_us)
        {
            self.next_us = Some(next_us + self.block_us);
            self.late_us = self.chance.below(LOOK_US).into();
            (0..BLOCK).for_each(|_| self.period(now, engine));
        }
    }

    fn period(&mut self, now: Now, engine: &mut Engine) {
        engine.play(now, &mut self.period);
        if self.listening {
            self.heard.extend_from_slice(&self.period);
        }
        for sample in &mut self.period {
            *sample = self.speech[self.position];
            self.position = (self.position + 1) % self.speech.len();
        }
        if self.listening {
            self.said.extend_from_slice(&self.period);
        }
        engine.capture(now, &self.period);
    }
}

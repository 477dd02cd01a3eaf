//! The sound terminal: what is played and captured for the legs in `Room::Terminal`, and the tones of
//! loudspeaker and ring device.
//!
//! Legs run at the rates of their codecs, the terminal at its own. There is one pair of resamplers per rate
//! in use, not per leg: legs of one rate are added before they are resampled, and what was captured is
//! resampled once for all.

use super::command::{Terminal, TerminalInput};
use super::pace::Pace;
use super::recording::{Recordings, Tap};
use super::tone::Sounding;
use crate::audio::level;
use crate::audio::mix;
use crate::audio::resample::Resampler;
use crate::audio::tones::Tone;
use crate::now::Now;

/// A device that has not asked for a period for so long is taken to be gone, and the engine's timer steps in.
const STALE_US: u64 = 300_000;

/// Different rates of legs that are kept ready; the codecs have no more.
const BUSES_MAX: usize = 6;

/// What legs of one rate share.
struct Bus {
    rate: u32,
    /// From the legs' rate to the terminal's and back; `None` if they are the same.
    resamplers: Option<(Resampler, Resampler)>,
    /// What legs of this rate gave in this period.
    sum: Vec<i16>,
    fed: bool,
    /// What was captured in this period, at this rate.
    captured: Vec<i16>,
    fresh: bool,
}

/// The terminal.
pub(super) struct Sound {
    terminal: Terminal,
    country: String,
    buses: Vec<Bus>,
    tone: Sounding,
    ring: Sounding,
    /// What was captured in this period, at the terminal's rate.
    captured: Vec<i16>,
    played: Vec<i16>,
    scratch: Vec<i16>,
    position: usize,
    phase: f32,
    output: Option<Tap>,
    /// The device's clock, by the periods it plays.
    pace: Pace,
    /// When the device will be taken to be gone.
    play_stale_us: u64,
    capture_stale_us: u64,
}

impl Sound {
    pub(super) fn new(country: String) -> Sound {
        Sound {
            terminal: Terminal::Timer { rate: 8000, input: TerminalInput::Silence, output: None },
            country,
            buses: Vec::with_capacity(BUSES_MAX),
            tone: Sounding::default(),
            ring: Sounding::default(),
            captured: Vec::new(),
            played: Vec::new(),
            scratch: Vec::new(),
            position: 0,
            phase: 0.0,
            output: None,
            pace: Pace::default(),
            play_stale_us: 0,
            capture_stale_us: 0,
        }
    }

    /// Samples per second.
    pub(super) fn rate(&self) -> u32 {
        match self.terminal {
            Terminal::Device { rate, .. } | Terminal::Timer { rate, .. } => rate,
        }
    }

    /// Whether a sound device gives the clock.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.terminal, Terminal::Device { .. })
    }

    /// Whether what is played is wanted although no leg is in the room.
    pub(super) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Another terminal; a running output is finished, tones go on.
    pub(super) fn replace(&mut self, terminal: Terminal, legs: usize, recordings: &mut Recordings) {
        self.last_leg_closed(recordings);
        self.terminal = terminal;
        self.buses.clear();
        // What sounds goes on at the other one.
        self.tone.set_rate(self.rate());
        self.ring.set_rate(self.ring_rate());
        self.pace = Pace::default();
        self.play_stale_us = 0;
        self.capture_stale_us = 0;
        if legs > 0 {
            self.first_leg_opened(recordings);
        }
    }

    /// The country whose tones sound from the next one on.
    pub(super) fn set_country(&mut self, country: String) {
        self.country = country;
    }

    /// The country whose tones sound.
    pub(super) fn country(&self) -> &str {
        &self.country
    }

    /// Whether a tone is to be heard, here or at the ring device.
    pub(super) fn sounds(&self) -> bool {
        self.tone.sounds() || self.ring.sounds()
    }

    /// A tone in the loudspeaker.
    pub(super) fn set_tone(&mut self, tone: Option<Tone>) {
        self.tone.set(&self.country, tone, self.rate());
    }

    /// A tone in the ring device.
    pub(super) fn set_ring(&mut self, tone: Option<Tone>) {
        self.ring.set(&self.country, tone, self.ring_rate());
    }

    fn ring_rate(&self) -> u32 {
        match self.terminal {
            Terminal::Device { ring: Some(rate), .. } => rate,
            Terminal::Device { rate, .. } | Terminal::Timer { rate, .. } => rate,
        }
    }

    /// Calls begin: the input starts from its beginning, the output anew.
    pub(super) fn first_leg_opened(&mut self, recordings: &mut Recordings) {
        self.position = 0;
        self.phase = 0.0;
        if let Terminal::Timer { rate, output: Some(recording), .. } = self.terminal {
            self.output = Some(Tap::start_one_sided(recording, rate, recordings));
        }
    }

    /// Calls have ended: the output is complete.
    pub(super) fn last_leg_closed(&mut self, recordings: &mut Recordings) {
        if let Some(output) = self.output.take() {
            output.finish(recordings);
        }
    }

    /// Whether the device does not play: the timer has to.
    pub(super) fn play_is_stale(&self, now: Now) -> bool {
        now.mono_us >= self.play_stale_us
    }

    /// Whether the device does not capture: the timer has to.
    pub(super) fn capture_is_stale(&self, now: Now) -> bool {
        now.mono_us >= self.capture_stale_us
    }

    /// When the device will be taken to be gone.
    pub(super) fn stale_us(&self) -> u64 {
        self.play_stale_us.min(self.capture_stale_us)
    }

    /// The device begins: nothing is known of its clock.
    pub(super) fn device_begins(&mut self) {
        self.pace = Pace::default();
    }

    /// The device asked for a period: when that was due, and true if it had been taken to be gone.
    pub(super) fn device_plays(&mut self, now: Now) -> (Now, bool) {
        let was_stale = std::mem::replace(&mut self.play_stale_us, now.mono_us + STALE_US) <= now.mono_us;
        (self.pace.next(now), was_stale)
    }

    /// The device brought a period; true if it had been taken to be gone.
    pub(super) fn device_captures(&mut self, now: Now) -> bool {
        std::mem::replace(&mut self.capture_stale_us, now.mono_us + STALE_US) <= now.mono_us
    }

    /// The shared resamplers of a rate, made when a leg of that rate is first heard.
    fn bus(&mut self, rate: u32) -> Option<&mut Bus> {
        let at = match self.buses.iter().position(|bus| bus.rate == rate) {
            Some(at) => at,
            None if self.buses.len() == BUSES_MAX => return None,
            None => {
                let own = self.rate();
                let resamplers = if rate == own {
                    None
                } else {
                    Some((Resampler::new(rate, own).ok()?, Resampler::new(own, rate).ok()?))
                };
                let room = (rate / 50) as usize;
                self.buses.push(Bus {
                    rate,
                    resamplers,
                    sum: Vec::with_capacity(room),
                    fed: false,
                    captured: Vec::with_capacity(room),
                    fresh: false,
                });
                self.buses.len() - 1
            }
        };
        self.buses.get_mut(at)
    }

    /// Adds what a leg of this rate gives in this period.
    pub(super) fn feed(&mut self, rate: u32, pcm: &[i16]) {
        let Some(bus) = self.bus(rate) else { return };
        if bus.fed {
            mix::add(&mut bus.sum, pcm);
        } else {
            bus.sum.clear();
            bus.sum.extend_from_slice(pcm);
            bus.fed = true;
        }
    }

    /// What is heard in this period: what was fed, and the tones.
    pub(super) fn play(&mut self, out: &mut [i16]) {
        let mut filled = false;
        for bus in &mut self.buses {
            if !std::mem::take(&mut bus.fed) {
                continue;
            }
            let pcm = match &mut bus.resamplers {
                Some((up, _)) => {
                    self.scratch.clear();
                    up.process(&bus.sum, &mut self.scratch);
                    &self.scratch
                }
                None => &bus.sum,
            };
            if filled {
                mix::add(out, pcm);
            } else {
                let common = pcm.len().min(out.len());
                out[..common].copy_from_slice(&pcm[..common]);
                out[common..].fill(0);
                filled = true;
            }
        }
        if !filled {
            out.fill(0);
        }
        self.tone.add_to(out, &mut self.scratch);
        if !matches!(self.terminal, Terminal::Device { ring: Some(_), .. }) {
            self.ring.add_to(out, &mut self.scratch);
        }
    }

    /// What is heard at the ring device in this period.
    pub(super) fn play_ring(&mut self, out: &mut [i16]) {
        out.fill(0);
        if matches!(self.terminal, Terminal::Device { ring: Some(_), .. }) {
            self.ring.add_to(out, &mut self.scratch);
        }
    }

    /// Plays a period of `ms` to the output, or to nobody.
    pub(super) fn play_by_timer(&mut self, ms: u32, recordings: &mut Recordings) {
        let mut played = std::mem::take(&mut self.played);
        played.clear();
        played.resize((self.rate() * ms / 1000) as usize, 0);
        self.play(&mut played);
        if let Some(output) = &mut self.output {
            output.near(&played, recordings);
        }
        self.played = played;
    }

    /// What the device captured in this period.
    pub(super) fn captured(&mut self, pcm: &[i16]) {
        self.captured.clear();
        self.captured.extend_from_slice(pcm);
        self.refresh();
    }

    /// Captures a period of `ms` from the input that stands for a device.
    pub(super) fn capture_by_timer(&mut self, ms: u32) {
        let samples = (self.rate() * ms / 1000) as usize;
        self.captured.clear();
        match &self.terminal {
            Terminal::Timer { input: TerminalInput::Loop(source), .. } if !source.is_empty() => {
                while self.captured.len() < samples {
                    let from = source.get(self.position..).unwrap_or_default();
                    let part = from.len().min(samples - self.captured.len());
                    self.captured.extend_from_slice(&from[..part]);
                    self.position = if part == from.len() { 0 } else { self.position + part };
                }
            }
            Terminal::Timer { rate, input: TerminalInput::Sine { hertz, level_db }, .. } => {
                let peak = level::sine_peak(*level_db);
                let step = std::f32::consts::TAU * hertz / *rate as f32;
                for _ in 0..samples {
                    self.captured.push((self.phase.sin() * peak) as i16);
                    self.phase = (self.phase + step) % std::f32::consts::TAU;
                }
            }
            Terminal::Timer { .. } | Terminal::Device { .. } => self.captured.resize(samples, 0),
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        for bus in &mut self.buses {
            bus.fresh = false;
        }
    }

    /// What was captured in this period, for legs of this rate.
    pub(super) fn heard_at(&mut self, rate: u32) -> &[i16] {
        if rate == self.rate() {
            return &self.captured;
        }
        let captured = std::mem::take(&mut self.captured);
        if let Some(bus) = self.bus(rate)
            && !std::mem::replace(&mut bus.fresh, true)
            && let Some((_, down)) = &mut bus.resamplers
        {
            bus.captured.clear();
            down.process(&captured, &mut bus.captured);
        }
        self.captured = captured;
        self.bus(rate).map_or(&[], |bus| &bus.captured)
    }
}

//! A tone that sounds, or none.

use crate::audio::mix;
use crate::audio::tones::{Tone, TonePlayer};

struct Playing {
    player: TonePlayer,
    country: String,
    rate: u32,
}

/// The player of one place where tones sound.
#[derive(Default)]
pub(super) struct Sounding(Option<Playing>);

impl Sounding {
    /// Begins a tone, or is quiet.
    pub(super) fn set(&mut self, country: &str, tone: Option<Tone>, rate: u32) {
        self.0 = tone.map(|tone| Playing {
            player: TonePlayer::new(tone, country, rate),
            country: country.into(),
            rate,
        });
    }

    /// Whether there is a tone, if only in one of its pauses.
    pub(super) fn sounds(&self) -> bool {
        self.0.is_some()
    }

    /// The place has another rate now: the tone begins anew at it.
    pub(super) fn set_rate(&mut self, rate: u32) {
        if let Some(playing) = &mut self.0
            && playing.rate != rate
        {
            playing.player = TonePlayer::new(playing.player.tone(), &playing.country, rate);
            playing.rate = rate;
        }
    }

    /// Adds the tone to a period.
    pub(super) fn add_to(&mut self, out: &mut [i16], scratch: &mut Vec<i16>) {
        if self.0.is_some() {
            scratch.clear();
            scratch.resize(out.len(), 0);
            self.fill(scratch);
            mix::add(out, scratch);
        }
    }

    /// Fills a period with the tone; a finished one (call waiting sounds once) leaves silence.
    pub(super) fn fill(&mut self, out: &mut [i16]) {
        if let Some(playing) = &mut self.0 {
            playing.player.fill(out);
        }
    }
}

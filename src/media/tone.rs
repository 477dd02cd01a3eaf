//! A tone that sounds, or none.

use crate::audio::mix;
use crate::audio::tones::{Tone, TonePlayer};

struct Playing {
    player: TonePlayer,
    country: String,
    rate: u32,
    /// Nobody wants it any more, but it is a warning that is heard to its end.
    last: bool,
}

/// The player of one place where tones sound.
#[derive(Default)]
pub(super) struct Sounding(Option<Playing>);

impl Sounding {
    /// Begins a tone, or is quiet. The beep before a call that answers itself is heard in any case: a device that has rested opens
    /// later than the call is answered.
    pub(super) fn set(&mut self, country: &str, tone: Option<Tone>, rate: u32) {
        let warning = self.0.as_mut().filter(|playing| playing.player.tone() == Tone::Beep);
        match (tone, warning) {
            (None, Some(playing)) if !playing.player.is_over() => playing.last = true,
            _ => {
                self.0 = tone.map(|tone| Playing {
                    player: TonePlayer::new(tone, country, rate),
                    country: country.into(),
                    rate,
                    last: false,
                });
            }
        }
    }

    /// Whether there is a tone, if only in one of its pauses; one that sounds once is none any more after that.
    pub(super) fn sounds(&self) -> bool {
        self.0.as_ref().is_some_and(|playing| !playing.player.is_over())
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
            if playing.last && playing.player.is_over() {
                self.0 = None;
            }
        }
    }
}

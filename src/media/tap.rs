//! The recording of a leg: both sides at one rate, and the beep that tells the far end of it.

use super::adapter::Adapter;
use super::recording::{Recordings, Tap};
use super::tone::Sounding;
use crate::audio::tones::Tone;

/// A recording and what brings both sides to its rate.
pub(super) struct LegTap {
    tap: Tap,
    near: Adapter,
    far: Adapter,
    beep: Sounding,
    /// A period with the beep in it, and room for mixing it.
    beeped: Vec<i16>,
    scratch: Vec<i16>,
}

impl LegTap {
    /// The recording `tap`, of which the far end is told by a beep if that is given a rate.
    pub(super) fn new(tap: Tap, beep: Option<u32>) -> LegTap {
        let mut told = Sounding::default();
        if let Some(rate) = beep {
            told.set("", Some(Tone::Recording), rate);
        }
        let (near, far) = (Adapter::default(), Adapter::default());
        LegTap { tap, near, far, beep: told, beeped: Vec::new(), scratch: Vec::new() }
    }

    /// Leaves out what comes until resumed.
    pub(super) fn pause(&mut self, paused: bool) {
        self.tap.pause(paused);
    }

    /// What was received.
    pub(super) fn near(&mut self, pcm: &[i16], rate: u32, into: &mut Recordings) {
        self.tap.near(self.near.adapt(pcm, rate, self.tap.rate()), into);
    }

    /// What the far end shall hear: the same, or with the beep in it.
    pub(super) fn far<'a>(&'a mut self, mut pcm: &'a [i16], rate: u32, into: &mut Recordings) -> &'a [i16] {
        if self.beep.sounds() && !self.tap.is_paused() {
            self.beep.set_rate(rate);
            self.beeped.clear();
            self.beeped.extend_from_slice(pcm);
            self.beep.add_to(&mut self.beeped, &mut self.scratch);
            pcm = &self.beeped;
        }
        self.tap.far(self.far.adapt(pcm, rate, self.tap.rate()), into);
        pcm
    }

    /// Ends the recording.
    pub(super) fn finish(self, into: &mut Recordings) {
        self.tap.finish(into);
    }
}

//! The recording of a leg: both sides at one rate, and what tells them of it: the beep to the far end, the announcement to both.

use super::adapter::Adapter;
use super::clip::{Clip, Saying};
use super::recording::{Recordings, Tap};
use super::tone::Sounding;
use crate::audio::tones::Tone;

/// A recording and what brings both sides to its rate.
pub(super) struct LegTap {
    tap: Tap,
    near: Adapter,
    far: Adapter,
    beep: Sounding,
    /// The announcement as it is heard here and at the far end.
    said: Option<[Saying; 2]>,
    /// A period with what tells of it, and room for mixing it.
    told: Vec<i16>,
    scratch: Vec<i16>,
}

impl LegTap {
    /// The recording `tap`, of which the far end is told by a beep if that is given a rate, and both sides by a clip.
    pub(super) fn new(tap: Tap, beep: Option<u32>, announcement: Option<Clip>) -> LegTap {
        let mut sounding = Sounding::default();
        if let Some(rate) = beep {
            sounding.set("", Some(Tone::Recording), rate);
        }
        let said = announcement.map(|clip| [Saying::new(clip.clone()), Saying::new(clip)]);
        let (near, far) = (Adapter::default(), Adapter::default());
        LegTap { tap, near, far, beep: sounding, said, told: Vec::new(), scratch: Vec::new() }
    }

    /// Leaves out what comes until resumed.
    pub(super) fn pause(&mut self, paused: bool) {
        self.tap.pause(paused);
    }

    /// What was received; afterwards, what is to be heard of it here.
    pub(super) fn near(&mut self, pcm: &mut [i16], rate: u32, into: &mut Recordings) {
        self.tap.near(self.near.adapt(pcm, rate, self.tap.rate()), into);
        if let Some([here, _]) = self.said.as_mut().filter(|_| !self.tap.is_paused()) {
            here.add_to(pcm, rate);
        }
    }

    /// What the far end shall hear: the same, or with what tells of the recording in it.
    pub(super) fn far<'a>(&'a mut self, mut pcm: &'a [i16], rate: u32, into: &mut Recordings) -> &'a [i16] {
        if (self.beep.sounds() || self.said.is_some()) && !self.tap.is_paused() {
            self.told.clear();
            self.told.extend_from_slice(pcm);
            self.beep.set_rate(rate);
            self.beep.add_to(&mut self.told, &mut self.scratch);
            if let Some([_, there]) = &mut self.said {
                there.add_to(&mut self.told, rate);
            }
            pcm = &self.told;
        }
        self.tap.far(self.far.adapt(pcm, rate, self.tap.rate()), into);
        pcm
    }

    /// Ends the recording.
    pub(super) fn finish(self, into: &mut Recordings) {
        self.tap.finish(into);
    }
}

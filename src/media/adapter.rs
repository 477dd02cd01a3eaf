//! Sound at the rate that somebody wants it at.

use crate::audio::resample::Resampler;

/// A resampler that is made when two rates differ and kept while they stay.
#[derive(Default)]
pub(super) struct Adapter {
    resampler: Option<Resampler>,
    /// What was last made.
    pub(super) output: Vec<i16>,
}

impl Adapter {
    /// `pcm` at rate `to`.
    pub(super) fn adapt<'a>(&'a mut self, pcm: &'a [i16], from: u32, to: u32) -> &'a [i16] {
        if from == to {
            return pcm;
        }
        if !self.resampler.as_ref().is_some_and(|known| known.from() == from && known.to() == to) {
            self.resampler = Resampler::new(from, to).ok();
        }
        self.output.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.process(pcm, &mut self.output);
        }
        &self.output
    }
}

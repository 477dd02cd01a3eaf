//! A piece of sound that is heard once, beside what is said.

use std::sync::Arc;
use std::time::Duration;

use super::adapter::Adapter;
use crate::audio::mix;

/// Sound of one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clip {
    /// Samples per second, one of [`crate::audio::resample::RATES`].
    pub rate: u32,
    /// The samples.
    pub pcm: Arc<[i16]>,
}

impl Clip {
    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.pcm.len() as u64 * 1_000_000 / u64::from(self.rate.max(1)))
    }
}

/// The player of a clip at one place.
pub(super) struct Saying {
    clip: Clip,
    /// The next sample.
    at: usize,
    adapter: Adapter,
    /// At the rate of the place, and not heard yet.
    ready: Vec<i16>,
}

impl Saying {
    pub(super) fn new(clip: Clip) -> Saying {
        Saying { clip, at: 0, adapter: Adapter::default(), ready: Vec::new() }
    }

    /// Whether all of it has been said.
    pub(super) fn is_over(&self) -> bool {
        self.ready.is_empty() && self.at >= self.clip.pcm.len()
    }

    /// Adds the next of it to a period at `rate`.
    pub(super) fn add_to(&mut self, out: &mut [i16], rate: u32) {
        let piece = (self.clip.rate / 100).max(1) as usize;
        while self.ready.len() < out.len() && self.at < self.clip.pcm.len() {
            let end = self.clip.pcm.len().min(self.at + piece);
            let next = self.clip.pcm.get(self.at..end).unwrap_or_default();
            self.ready.extend_from_slice(self.adapter.adapt(next, self.clip.rate, rate));
            self.at = end;
        }
        mix::add(out, &self.ready);
        self.ready.drain(..out.len().min(self.ready.len()));
    }
}

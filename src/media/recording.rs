//! Taps: what a leg or the terminal carried, in chunks for whoever writes files.

use std::collections::VecDeque;

use super::command::{Layout, RecordingId};
use super::event::Recorded;

/// Chunks that may wait for `poll_recording`, over all recordings: 12.8 s of one recording.
const WAITING_MAX: usize = 128;

/// Milliseconds in a chunk.
const CHUNK_MS: u32 = 100;

/// How far one side may be ahead before the other is taken to be silent, in milliseconds.
const SKEW_MS: u32 = 80;

/// The chunks that wait, and the buffers of those that were taken.
pub(super) struct Recordings {
    waiting: VecDeque<(Recorded, Vec<i16>)>,
    spare: Vec<Vec<i16>>,
}

impl Recordings {
    pub(super) fn new() -> Recordings {
        Recordings { waiting: VecDeque::new(), spare: Vec::new() }
    }

    /// What has waited longest. Samples are swapped into `samples`, whose own buffer is used again.
    pub(super) fn poll(&mut self, samples: &mut Vec<i16>) -> Option<Recorded> {
        let (recorded, mut chunk) = self.waiting.pop_front()?;
        samples.clear();
        if matches!(recorded, Recorded::Samples { .. }) {
            std::mem::swap(samples, &mut chunk);
        }
        if chunk.capacity() > 0 && self.spare.len() < WAITING_MAX {
            self.spare.push(chunk);
        }
        Some(recorded)
    }

    fn buffer(&mut self) -> Vec<i16> {
        self.spare.pop().unwrap_or_default()
    }
}

/// One recording: two sides that arrive at their own times and leave together.
pub(super) struct Tap {
    recording: RecordingId,
    rate: u32,
    layout: Layout,
    paused: bool,
    /// What we received.
    near: VecDeque<i16>,
    /// What we sent.
    far: VecDeque<i16>,
    one_sided: bool,
    lost: u64,
}

impl Tap {
    /// Begins a recording of two sides.
    pub(super) fn start(recording: RecordingId, rate: u32, layout: Layout, into: &mut Recordings) -> Tap {
        Tap::begin(recording, rate, layout, false, into)
    }

    /// Begins a recording of one side: only `near` is fed.
    pub(super) fn start_one_sided(recording: RecordingId, rate: u32, into: &mut Recordings) -> Tap {
        Tap::begin(recording, rate, Layout::Mixed, true, into)
    }

    fn begin(
        recording: RecordingId,
        rate: u32,
        layout: Layout,
        one_sided: bool,
        into: &mut Recordings,
    ) -> Tap {
        let channels = match layout {
            Layout::Mixed => 1,
            Layout::Stereo => 2,
        };
        into.waiting.push_back((Recorded::Started { recording, rate, channels }, Vec::new()));
        let room = (rate / 1000 * (CHUNK_MS + SKEW_MS) * 2) as usize;
        let side = |wanted: bool| VecDeque::with_capacity(if wanted { room } else { 0 });
        Tap {
            recording,
            rate,
            layout,
            paused: false,
            near: side(true),
            far: side(!one_sided),
            one_sided,
            lost: 0,
        }
    }

    /// Samples per second.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Whether what comes is left out.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Leaves out what comes until resumed.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// What was received.
    pub(super) fn near(&mut self, samples: &[i16], into: &mut Recordings) {
        if !self.paused {
            self.near.extend(samples);
            self.emit(into, false);
        }
    }

    /// What was sent.
    pub(super) fn far(&mut self, samples: &[i16], into: &mut Recordings) {
        if !self.paused {
            self.far.extend(samples);
            self.emit(into, false);
        }
    }

    /// Ends the recording.
    pub(super) fn finish(mut self, into: &mut Recordings) {
        self.emit(into, true);
        let lost_ms = u32::try_from(self.lost * 1000 / u64::from(self.rate.max(1))).unwrap_or(u32::MAX);
        into.waiting.push_back((Recorded::Finished { recording: self.recording, lost_ms }, Vec::new()));
    }

    fn emit(&mut self, into: &mut Recordings, all: bool) {
        let chunk = (self.rate / 1000 * CHUNK_MS) as usize;
        if !self.one_sided {
            // A side that lags by more than the two clocks can explain carries nothing now (held, one-way).
            let skew = if all { 0 } else { (self.rate / 1000 * SKEW_MS) as usize };
            let longer = self.near.len().max(self.far.len());
            let least = if all { longer } else { longer.saturating_sub(skew + chunk) };
            for side in [&mut self.near, &mut self.far] {
                if side.len() < least {
                    side.resize(least, 0);
                }
            }
        }
        loop {
            let ready = if self.one_sided { self.near.len() } else { self.near.len().min(self.far.len()) };
            let take = if ready >= chunk {
                chunk
            } else if all && ready > 0 {
                ready
            } else {
                return;
            };
            self.chunk(take, into);
        }
    }

    fn chunk(&mut self, take: usize, into: &mut Recordings) {
        if into.waiting.len() >= WAITING_MAX {
            self.near.drain(..take);
            if !self.one_sided {
                self.far.drain(..take);
            }
            self.lost += take as u64;
            return;
        }
        let mut samples = into.buffer();
        samples.clear();
        if self.one_sided {
            samples.extend(self.near.drain(..take));
        } else {
            let pairs = self.near.drain(..take).zip(self.far.drain(..take));
            match self.layout {
                Layout::Mixed => samples.extend(pairs.map(|(near, far)| near.saturating_add(far))),
                Layout::Stereo => samples.extend(pairs.flat_map(|(near, far)| [near, far])),
            }
        }
        into.waiting.push_back((Recorded::Samples { recording: self.recording }, samples));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecordingId = RecordingId(4);

    fn everything(recordings: &mut Recordings) -> (Vec<i16>, Vec<Recorded>) {
        let (mut all, mut chunk, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(recorded) = recordings.poll(&mut chunk) {
            match recorded {
                Recorded::Samples { .. } => all.extend_from_slice(&chunk),
                mark => marks.push(mark),
            }
        }
        (all, marks)
    }

    #[test]
    fn two_sides_are_paired_sample_by_sample() {
        let mut recordings = Recordings::new();
        let mut tap = Tap::start(ID, 8000, Layout::Stereo, &mut recordings);
        for round in 0..20 {
            tap.near(&[round; 80], &mut recordings);
            tap.far(&[-round; 80], &mut recordings);
        }
        tap.finish(&mut recordings);
        let (samples, marks) = everything(&mut recordings);
        assert_eq!(samples.len(), 2 * 1600);
        assert!(samples.chunks(2).all(|pair| pair[0] == -pair[1]));
        assert_eq!(
            marks,
            [
                Recorded::Started { recording: ID, rate: 8000, channels: 2 },
                Recorded::Finished { recording: ID, lost_ms: 0 }
            ]
        );
    }

    #[test]
    fn a_silent_side_does_not_hold_up_the_other() {
        let mut recordings = Recordings::new();
        let mut tap = Tap::start(ID, 8000, Layout::Mixed, &mut recordings);
        for _ in 0..100 {
            tap.near(&[5; 80], &mut recordings);
        }
        tap.finish(&mut recordings);
        assert_eq!(everything(&mut recordings).0, [5; 8000]);
    }

    #[test]
    fn what_nobody_polls_is_counted_as_lost_and_memory_stays_bounded() {
        let mut recordings = Recordings::new();
        let mut tap = Tap::start_one_sided(ID, 8000, &mut recordings);
        for _ in 0..10_000 {
            tap.near(&[1; 80], &mut recordings);
        }
        tap.finish(&mut recordings);
        let (samples, marks) = everything(&mut recordings);
        assert_eq!(samples.len(), (WAITING_MAX - 1) * 800);
        let lost_ms = 100_000 - (u32::try_from(WAITING_MAX).expect("small") - 1) * CHUNK_MS;
        assert_eq!(marks.last(), Some(&Recorded::Finished { recording: ID, lost_ms }));
    }

    #[test]
    fn a_pause_leaves_out() {
        let mut recordings = Recordings::new();
        let mut tap = Tap::start(ID, 8000, Layout::Mixed, &mut recordings);
        for (value, paused) in [(1, false), (2, true), (3, false)] {
            tap.pause(paused);
            tap.near(&[value; 800], &mut recordings);
            tap.far(&[0; 800], &mut recordings);
        }
        tap.finish(&mut recordings);
        let (samples, _) = everything(&mut recordings);
        assert_eq!(samples, [[1; 800], [3; 800]].concat());
    }
}

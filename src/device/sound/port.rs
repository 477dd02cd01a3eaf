//! Where the sound device and the media thread meet: two lock-free rings of samples.
//!
//! The device's callback takes and gives samples at its own pace; the media thread refills and empties the rings in
//! periods of 10 ms. So the device's clock is what drives the legs that are heard, and no callback ever waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::media::Engine;
use crate::now::Now;

/// The media thread looks at the rings this often, in microseconds: twice per period.
const LOOK_US: u64 = 5_000;
/// The longest period of a device rate, 48 kHz.
const PERIOD: usize = 480;

/// How often the device wanted samples that were not there, and gave some that nobody took.
#[derive(Default, Debug)]
pub struct Slips {
    /// Samples played as silence.
    pub starved: AtomicU64,
    /// Captured samples that were thrown away.
    pub overrun: AtomicU64,
}

/// The callback's end of playback.
pub struct Speaker {
    ring: Consumer<i16>,
    slips: Arc<Slips>,
}

impl Speaker {
    /// The next sample to play; silence if none is ready.
    pub fn pull(&mut self) -> i16 {
        self.ring.pop().unwrap_or_else(|_| {
            self.slips.starved.fetch_add(1, Ordering::Relaxed);
            0
        })
    }
}

/// The callback's end of capture.
pub struct Microphone {
    ring: Producer<i16>,
    slips: Arc<Slips>,
}

impl Microphone {
    /// Hands over one captured sample.
    pub fn push(&mut self, sample: i16) {
        if self.ring.push(sample).is_err() {
            self.slips.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The media thread's end of the sound device.
pub struct SoundPort {
    playback: Producer<i16>,
    capture: Option<Consumer<i16>>,
    ring: Option<Producer<i16>>,
    period: usize,
    ring_period: usize,
    fill: usize,
    due_us: u64,
}

/// Both ends of a device that plays and captures at `rate` and asks for `block` samples at a time.
pub struct Ends {
    /// For the media thread.
    pub port: SoundPort,
    /// For the playback callback.
    pub speaker: Speaker,
    /// For the capture callback.
    pub microphone: Microphone,
    /// What went wrong between them.
    pub slips: Arc<Slips>,
}

impl SoundPort {
    /// Makes the rings for a device.
    pub fn pair(rate: u32, block: usize) -> Ends {
        let period = samples_per_period(rate);
        // One block that the device is about to take, one period in reserve for the thread's own pace.
        let fill = block.max(period) + period;
        let (playback, speaker) = RingBuffer::new(fill + 4 * period);
        let (microphone, capture) = RingBuffer::new((block.max(period)) * 4 + 4 * period);
        let slips = Arc::new(Slips::default());
        let port = SoundPort {
            playback,
            capture: Some(capture),
            ring: None,
            period,
            ring_period: 0,
            fill,
            due_us: 0,
        };
        Ends {
            port,
            speaker: Speaker { ring: speaker, slips: Arc::clone(&slips) },
            microphone: Microphone { ring: microphone, slips: Arc::clone(&slips) },
            slips,
        }
    }

    /// Adds a ring device of its own.
    pub fn add_ringer(&mut self, rate: u32, block: usize) -> Speaker {
        self.ring_period = samples_per_period(rate);
        let (ring, speaker) = RingBuffer::new(block.max(self.ring_period) + 4 * self.ring_period);
        self.ring = Some(ring);
        Speaker { ring: speaker, slips: Arc::default() }
    }

    /// When [`SoundPort::exchange`] wants to be called, on the monotonic clock.
    pub fn poll_timeout(&self) -> u64 {
        self.due_us
    }

    /// Moves what the device has taken and given since the last call, period by period.
    pub fn exchange(&mut self, now: Now, engine: &mut Engine) {
        if now.mono_us < self.due_us {
            return;
        }
        self.due_us = now.mono_us + LOOK_US;
        let mut samples = [0i16; PERIOD];
        let period = self.period.min(PERIOD);
        if let Some(capture) = &mut self.capture {
            while capture.slots() >= period {
                for sample in &mut samples[..period] {
                    *sample = capture.pop().unwrap_or(0);
                }
                engine.capture(now, &samples[..period]);
            }
        }
        let capacity = self.playback.buffer().capacity();
        while capacity - self.playback.slots() < self.fill {
            engine.play(now, &mut samples[..period]);
            for sample in &samples[..period] {
                let _ = self.playback.push(*sample);
            }
        }
        if let Some(ring) = &mut self.ring {
            let period = self.ring_period.min(PERIOD);
            while ring.slots() >= 2 * period {
                engine.play_ring(now, &mut samples[..period]);
                for sample in &samples[..period] {
                    let _ = ring.push(*sample);
                }
            }
        }
    }
}

fn samples_per_period(rate: u32) -> usize {
    (rate / 100) as usize
}

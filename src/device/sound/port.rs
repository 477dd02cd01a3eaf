//! Where the sound device and the media thread meet: two lock-free rings of samples.
//!
//! The device's callback takes and gives samples at its own pace; the media thread refills and empties the rings in
//! periods of 10 ms. So the device's clock is what drives the legs that are heard, and no callback ever waits.
//! While there is nothing to hear or to say the rings are left alone, and the device plays silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::media::Engine;
use crate::now::Now;

/// The media thread looks at the rings this often, in microseconds: twice per period.
const LOOK_US: u64 = 5_000;
/// The longest period of a device rate, 48 kHz.
const PERIOD: usize = 480;
/// The rings hold a fifth of a second, or two blocks that are larger.
const ROOM: usize = 5;
/// The largest block of so many microseconds is the one that is expected.
const BLOCK_US: u64 = 1_000_000;

/// What the device does, as its callbacks see it.
#[derive(Default, Debug)]
pub struct Gauge {
    /// Whether the media thread serves the rings.
    served: AtomicBool,
    /// The largest block since it was last looked at: what a device was asked for is a wish.
    block: AtomicUsize,
    /// Samples that were wanted and not there.
    starved: AtomicU64,
    /// Captured samples that nobody took in time.
    overrun: AtomicU64,
    /// How often the sound system itself was late.
    late: AtomicU64,
    /// How often the device has taken, and how often it has given.
    taken: AtomicU64,
    given: AtomicU64,
}

/// What went wrong so far between a device and the media thread.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Slips {
    /// Samples played as silence.
    pub starved: u64,
    /// Captured samples that were thrown away.
    pub overrun: u64,
    /// Underruns and overruns that the sound system told of.
    pub late: u64,
}

impl Slips {
    /// What went wrong after `before`.
    pub fn since(self, before: Slips) -> Slips {
        Slips {
            starved: self.starved - before.starved,
            overrun: self.overrun - before.overrun,
            late: self.late - before.late,
        }
    }

    /// The same in words, for a device at `rate` hertz.
    pub fn story(self, rate: u32) -> String {
        let ms = |samples: u64| (samples * 1000).div_ceil(u64::from(rate.max(1)));
        format!(
            "the sound has gaps: {} ms were not there when the device played, {} ms were captured and not taken, and the sound \
             system was late {} times; is the machine too busy?",
            ms(self.starved),
            ms(self.overrun),
            self.late
        )
    }
}

impl Gauge {
    /// The sound system says that it was late itself.
    pub fn was_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// What went wrong so far.
    pub fn slips(&self) -> Slips {
        Slips {
            starved: self.starved.load(Ordering::Relaxed),
            overrun: self.overrun.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
        }
    }

    /// How often the device has taken sound so far, and how often it has given some: who stands still is dead.
    pub fn turns(&self) -> [u64; 2] {
        [self.taken.load(Ordering::Relaxed), self.given.load(Ordering::Relaxed)]
    }

    fn miss(&self, samples: &AtomicU64) {
        if self.served.load(Ordering::Relaxed) {
            samples.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The callback's end of playback.
pub struct Speaker {
    ring: Consumer<i16>,
    gauge: Arc<Gauge>,
}

impl Speaker {
    /// The device is about to take so many samples.
    pub fn block(&self, samples: usize) {
        self.gauge.block.fetch_max(samples, Ordering::Relaxed);
        self.gauge.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// The next sample to play; silence if none is ready.
    pub fn pull(&mut self) -> i16 {
        self.ring.pop().unwrap_or_else(|_| {
            self.gauge.miss(&self.gauge.starved);
            0
        })
    }
}

/// The callback's end of capture.
pub struct Microphone {
    ring: Producer<i16>,
    gauge: Arc<Gauge>,
}

impl Microphone {
    /// The device is about to give some samples.
    pub fn block(&self) {
        self.gauge.given.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands over one captured sample.
    pub fn push(&mut self, sample: i16) {
        if self.ring.push(sample).is_err() {
            self.gauge.miss(&self.gauge.overrun);
        }
    }
}

/// One loudspeaker, as the media thread fills it.
struct Playback {
    ring: Producer<i16>,
    gauge: Arc<Gauge>,
    /// Samples of 10 ms.
    period: usize,
    /// The largest block of the last second, or what was asked for.
    block: usize,
    block_until_us: u64,
}

/// The media thread's end of the sound device.
pub struct SoundPort {
    speaker: Playback,
    capture: Consumer<i16>,
    ring: Option<Playback>,
    /// When the rings are to be looked at; `None` while there is nothing to hear or to say.
    due_us: Option<u64>,
}

/// Both ends of a device that plays and captures at a rate.
pub struct Ends {
    /// For the media thread.
    pub port: SoundPort,
    /// For the playback callback.
    pub speaker: Speaker,
    /// For the capture callback.
    pub microphone: Microphone,
}

impl Playback {
    /// The rings of a loudspeaker at `rate` hertz that was asked to take `block` samples at a time.
    fn pair(rate: u32, block: usize, gauge: Arc<Gauge>) -> (Playback, Speaker) {
        let (ring, consumer) = RingBuffer::new(room(rate, block));
        let speaker = Speaker { ring: consumer, gauge: Arc::clone(&gauge) };
        (Playback { ring, gauge, period: samples_per_period(rate), block, block_until_us: 0 }, speaker)
    }

    /// How many samples are to wait: one block that the device is about to take, one period in reserve for the thread's own pace.
    fn fill(&mut self, now: Now) -> usize {
        if self.block_until_us <= now.mono_us {
            self.block_until_us = now.mono_us + BLOCK_US;
            match self.gauge.block.swap(0, Ordering::Relaxed) {
                0 => {}
                seen => self.block = seen,
            }
        }
        let block = self.block.max(self.gauge.block.load(Ordering::Relaxed));
        block.max(self.period) + self.period
    }

    /// Fills the ring, period by period, by `play`.
    fn refill(&mut self, now: Now, mut play: impl FnMut(&mut [i16])) {
        let (fill, capacity) = (self.fill(now), self.ring.buffer().capacity());
        let mut samples = [0i16; PERIOD];
        let samples = &mut samples[..self.period.min(PERIOD)];
        while capacity - self.ring.slots() < fill && self.ring.slots() >= samples.len() {
            play(samples);
            for sample in &*samples {
                let _ = self.ring.push(*sample);
            }
        }
    }
}

impl SoundPort {
    /// Makes the rings for a device that was asked for blocks of so many samples.
    pub fn pair(rate: u32, block: usize) -> Ends {
        let gauge = Arc::new(Gauge::default());
        let (playback, speaker) = Playback::pair(rate, block, Arc::clone(&gauge));
        let (microphone, capture) = RingBuffer::new(room(rate, block));
        Ends {
            port: SoundPort { speaker: playback, capture, ring: None, due_us: None },
            speaker,
            microphone: Microphone { ring: microphone, gauge },
        }
    }

    /// Adds a ring device of its own.
    pub fn add_ringer(&mut self, rate: u32, block: usize) -> Speaker {
        let (playback, speaker) = Playback::pair(rate, block, Arc::default());
        self.ring = Some(playback);
        speaker
    }

    /// What the device does.
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.speaker.gauge)
    }

    /// When [`SoundPort::exchange`] wants to be called, on the monotonic clock; `None` until the engine has something to play or
    /// to listen to.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due_us
    }

    /// Moves what the device has taken and given since the last call, period by period. To be called when it is due, and after
    /// whatever the engine was told.
    pub fn exchange(&mut self, now: Now, engine: &mut Engine) {
        if engine.is_quiet() {
            if self.due_us.take().is_some() {
                self.speaker.gauge.served.store(false, Ordering::Relaxed);
            }
            return;
        }
        match self.due_us {
            Some(due_us) if now.mono_us < due_us => return,
            Some(_) => {}
            // What was said before anybody listened is nobody's business.
            None => {
                while self.capture.pop().is_ok() {}
                engine.device_begins();
            }
        }
        self.due_us = Some(now.mono_us + LOOK_US);
        let mut samples = [0i16; PERIOD];
        let samples = &mut samples[..self.speaker.period.min(PERIOD)];
        while self.capture.slots() >= samples.len() {
            for sample in &mut *samples {
                *sample = self.capture.pop().unwrap_or(0);
            }
            engine.capture(now, samples);
        }
        self.speaker.refill(now, |samples| engine.play(now, samples));
        if let Some(ring) = &mut self.ring {
            ring.refill(now, |samples| engine.play_ring(now, samples));
        }
        self.speaker.gauge.served.store(true, Ordering::Relaxed);
    }
}

fn room(rate: u32, block: usize) -> usize {
    (rate as usize / ROOM).max(2 * block)
}

fn samples_per_period(rate: u32) -> usize {
    (rate / 100) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tones::Tone;
    use crate::chance::Chance;
    use crate::media::{Command, Settings, Sounder, Terminal};

    const RATE: u32 = 48_000;

    /// A device with a clock of its own, and a media thread.
    struct Rig {
        engine: Engine,
        ends: Ends,
        us: u64,
        block: usize,
        block_us: u64,
        played: Vec<i16>,
    }

    impl Rig {
        /// A device that is asked for one size of its blocks and takes another.
        fn new(asked: usize, block: usize) -> Rig {
            let mut engine = Engine::new(Settings::default(), Chance::from_number(1));
            engine.handle(at(0), Command::Terminal(Terminal::Device { rate: RATE, ring: None }));
            Rig { engine, ends: SoundPort::pair(RATE, asked), us: 0, block, block_us: 0, played: Vec::new() }
        }

        fn tone(&mut self, tone: Option<Tone>) {
            self.engine.handle(at(self.us), Command::Tone { at: Sounder::Terminal, tone });
        }

        /// Lets time pass in which the device runs, and the media thread unless it hangs.
        fn run(&mut self, ms: u64, hangs: bool) {
            let until_us = self.us + ms * 1000;
            while self.us < until_us {
                if self.block_us <= self.us {
                    self.block_us += self.block as u64 * 1_000_000 / u64::from(RATE);
                    self.ends.speaker.block(self.block);
                    self.ends.microphone.block();
                    for _ in 0..self.block {
                        self.played.push(self.ends.speaker.pull());
                        self.ends.microphone.push(1);
                    }
                }
                if !hangs {
                    self.ends.port.exchange(at(self.us), &mut self.engine);
                }
                self.us += 500;
            }
        }

        fn slips(&self) -> Slips {
            self.ends.port.gauge().slips()
        }
    }

    fn at(us: u64) -> Now {
        Now { mono_us: 7_000_000 + us, utc_us: 1_790_000_000_000_000 + us as i64 }
    }

    #[test]
    fn whatever_a_device_takes_at_once_is_there() {
        for block in [64, 480, 960, 1024, 2048, 4800] {
            let mut rig = Rig::new(960, block);
            rig.tone(Some(Tone::Dial));
            rig.run(1000, false);
            let first = rig.slips();
            assert!(first.starved as usize <= 2 * block, "{block}: {first:?}");
            rig.played.clear();
            rig.run(20_000, false);
            assert_eq!(rig.slips(), first, "{block}");
            let longest = rig.played.chunk_by(|a, b| a == b).map(<[i16]>::len).max();
            assert!(longest.is_some_and(|same| same < 20), "{block}: a gap of {longest:?} in the tone");
            let waiting = rig.ends.speaker.ring.slots();
            assert!(waiting <= block.max(480) + 2 * 480, "{block}: {waiting} samples of delay");
        }
    }

    #[test]
    fn while_there_is_nothing_to_hear_the_media_thread_sleeps_and_nothing_is_a_gap() {
        let mut rig = Rig::new(960, 960);
        rig.run(2000, false);
        assert_eq!((rig.ends.port.poll_timeout(), rig.slips()), (None, Slips::default()));
        rig.tone(Some(Tone::Busy));
        rig.run(5, false);
        assert!(rig.ends.port.poll_timeout().is_some());
        assert!(rig.ends.port.capture.slots() < 960, "what was said before is gone");
        rig.run(500, false);
        assert!(rig.played.iter().any(|sample| *sample != 0));
        rig.tone(None);
        rig.run(500, false);
        rig.played.clear();
        rig.run(500, false);
        assert!(rig.played.iter().all(|sample| *sample == 0));
        assert_eq!((rig.ends.port.poll_timeout(), rig.slips()), (None, Slips::default()));
    }

    #[test]
    fn a_media_thread_that_hangs_is_counted() {
        let mut rig = Rig::new(960, 960);
        rig.tone(Some(Tone::Dial));
        rig.run(1000, false);
        let before = rig.slips();
        rig.run(400, true);
        rig.ends.port.gauge().was_late();
        let slips = rig.slips().since(before);
        // 400 ms without what waited there, and without the room of 200 ms for what was captured.
        assert!((370..=400).contains(&(slips.starved * 1000 / u64::from(RATE))), "{slips:?}");
        assert!((180..=220).contains(&(slips.overrun * 1000 / u64::from(RATE))), "{slips:?}");
        let story = Slips { starved: 18_000, overrun: 47, late: 1 }.story(RATE);
        assert!(story.starts_with("the sound has gaps: 375 ms were not there"), "{story}");
        assert!(
            story.contains(", 1 ms were captured and not taken") && story.contains(" late 1 times"),
            "{story}"
        );
        rig.run(200, false);
        let after = rig.slips();
        rig.run(5000, false);
        assert_eq!(rig.slips(), after);
    }
}

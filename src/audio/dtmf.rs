//! DTMF as sound: digits made (ITU-T Q.23) and digits heard (Q.24), where a line has no telephone-events.

use super::level::sine_peak;
use super::tones::Oscillator;

/// Frequencies of the rows and columns of the keypad in hertz.
const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const KEYPAD: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Levels of the two frequencies in dBov: -9 and -7 dBm0, the higher one louder as lines want it.
pub const LOW_DBOV: f32 = -15.0;
/// See [`LOW_DBOV`].
pub const HIGH_DBOV: f32 = -13.0;
/// Length of a digit and of the pause after it in milliseconds, unless told otherwise.
pub const DIGIT_MS: u32 = 100;
/// See [`DIGIT_MS`].
pub const PAUSE_MS: u32 = 70;
/// Digits that may wait.
pub const MAX_QUEUE: usize = 64;

/// Row and column of a digit.
fn place(digit: char) -> Option<(usize, usize)> {
    let digit = digit.to_ascii_uppercase();
    KEYPAD.iter().enumerate().find_map(|(row, keys)| Some((row, keys.iter().position(|&key| key == digit)?)))
}

/// Whether a character is one of the sixteen digits.
pub fn is_digit(digit: char) -> bool {
    place(digit).is_some()
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    row: usize,
    column: usize,
    samples: u32,
}

/// Makes digits, one after the other.
#[derive(Debug, Clone)]
pub struct DtmfPlayer {
    rate: u32,
    queue: std::collections::VecDeque<Waiting>,
    low: Oscillator,
    high: Oscillator,
    peaks: (i32, i32),
    /// Samples left of the digit and of the pause that is being played, and the digit's length.
    sound: u32,
    pause: u32,
    length: u32,
}

impl DtmfPlayer {
    /// For `rate` hertz, silent until digits come.
    pub fn new(rate: u32) -> DtmfPlayer {
        DtmfPlayer {
            rate,
            queue: std::collections::VecDeque::with_capacity(MAX_QUEUE),
            low: Oscillator::default(),
            high: Oscillator::default(),
            peaks: (sine_peak(LOW_DBOV) as i32, sine_peak(HIGH_DBOV) as i32),
            sound: 0,
            pause: 0,
            length: 0,
        }
    }

    /// Levels of the lower and the higher frequency in dBov.
    pub fn set_levels(&mut self, low: f32, high: f32) {
        self.peaks = (sine_peak(low) as i32, sine_peak(high) as i32);
    }

    /// Appends a digit of `ms` milliseconds (40 to 6000). `false` if it is none, or too many wait.
    pub fn push(&mut self, digit: char, ms: u32) -> bool {
        let Some((row, column)) = place(digit) else { return false };
        if self.queue.len() >= MAX_QUEUE {
            return false;
        }
        self.queue.push_back(Waiting { row, column, samples: self.rate / 1000 * ms.clamp(40, 6000) });
        true
    }

    /// Whether anything sounds or waits.
    pub fn active(&self) -> bool {
        self.sound > 0 || self.pause > 0 || !self.queue.is_empty()
    }

    /// Forgets what sounds and what waits.
    pub fn stop(&mut self) {
        self.queue.clear();
        (self.sound, self.pause) = (0, 0);
    }

    /// Replaces `pcm` by digits and their pauses, as long as there are any; `false` if it left everything as
    /// it was.
    pub fn fill(&mut self, pcm: &mut [i16]) -> bool {
        if !self.active() {
            return false;
        }
        let ramp = (self.rate / 500).max(1);
        for sample in pcm {
            if self.sound == 0 && self.pause == 0 {
                let Some(next) = self.queue.pop_front() else { break };
                self.low = Oscillator::new(f64::from(ROWS[next.row]), self.rate);
                self.high = Oscillator::new(f64::from(COLUMNS[next.column]), self.rate);
                (self.sound, self.length) = (next.samples, next.samples);
                self.pause = self.rate / 1000 * PAUSE_MS;
            }
            if self.sound > 0 {
                let wave =
                    (self.low.next() * self.peaks.0 + self.high.next() * self.peaks.1.min(32_767)) >> 15;
                let edge = (self.length - self.sound).min(self.sound).min(ramp);
                *sample = (wave * edge as i32 / ramp as i32).clamp(-32_768, 32_767) as i16;
                self.sound -= 1;
            } else {
                *sample = 0;
                self.pause -= 1;
            }
        }
        true
    }
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtmfEvent {
    /// A digit has begun, some 25 ms ago.
    Pressed(char),
    /// It is over.
    Released {
        /// Which digit.
        digit: char,
        /// How long it lasted, in milliseconds, to about 10.
        ms: u32,
    },
}

/// Length of an analysed block; a second set of blocks runs half a block later.
const BLOCK_US: u32 = 12_750;
/// The least level of each frequency, as power against full scale: -40 dBov.
const LEAST: f32 = 1e-4;
/// The share of the whole power that the two frequencies must have.
const PURITY: f32 = 0.80;
/// How much louder one frequency may be than the other: 9 dB.
const TWIST: f32 = 8.0;
/// How far the other rows and columns must be below: 4 dB.
const AHEAD: f32 = 2.5;
/// How much louder or quieter a frequency may be than half a block before: 3 dB.
const STEADY: f32 = 2.0;
/// Blocks in a row that make a digit, and that end it.
const HITS: u32 = 4;
const MISSES: u32 = 3;

/// A digit in one block, with the power of its two frequencies.
#[derive(Debug, Clone, Copy)]
struct Pair {
    digit: char,
    low: f32,
    high: f32,
}

impl Pair {
    /// Whether it is the same digit and as loud, which speech hardly ever is.
    fn follows(&self, before: &Pair) -> bool {
        let steady = |now: f32, before: f32| now <= STEADY * before && before <= STEADY * now;
        self.digit == before.digit && steady(self.low, before.low) && steady(self.high, before.high)
    }
}

/// Goertzel's recursion for eight frequencies at once.
#[derive(Debug, Clone, Copy, Default)]
struct Bank {
    one: [f32; 8],
    two: [f32; 8],
    energy: f32,
    samples: u32,
}

/// Hears digits in a stream. It takes steady pairs of the right frequencies alone, so speech doesn't press
/// keys.
#[derive(Debug, Clone)]
pub struct DtmfDetector {
    rate: u32,
    block: u32,
    coefficients: [f32; 8],
    banks: [Bank; 2],
    candidate: Option<Pair>,
    hits: u32,
    pressed: Option<char>,
    misses: u32,
    blocks: u32,
}

impl DtmfDetector {
    /// For `rate` hertz.
    pub fn new(rate: u32) -> DtmfDetector {
        let rate = rate.clamp(8_000, 48_000);
        let mut coefficients = [0.0; 8];
        for (coefficient, hertz) in coefficients.iter_mut().zip(ROWS.into_iter().chain(COLUMNS)) {
            *coefficient = 2.0 * (std::f32::consts::TAU * hertz / rate as f32).cos();
        }
        let mut detector = DtmfDetector {
            rate,
            block: (u64::from(rate) * u64::from(BLOCK_US) / 2_000_000) as u32 * 2,
            coefficients,
            banks: [Bank::default(); 2],
            candidate: None,
            hits: 0,
            pressed: None,
            misses: 0,
            blocks: 0,
        };
        detector.reset();
        detector
    }

    /// Forgets the past.
    pub fn reset(&mut self) {
        self.banks = [Bank::default(); 2];
        self.banks[1].samples = self.block / 2;
        (self.candidate, self.hits, self.pressed, self.misses, self.blocks) = (None, 0, None, 0, 0);
    }

    /// The digit that is down.
    pub fn pressed(&self) -> Option<char> {
        self.pressed
    }

    /// Listens to samples and appends what it heard to `events`.
    pub fn detect(&mut self, pcm: &[i16], events: &mut Vec<DtmfEvent>) {
        let mut rest = pcm;
        while !rest.is_empty() {
            let left = self.block - self.banks[0].samples.max(self.banks[1].samples);
            let (now, later) = rest.split_at(rest.len().min(left as usize));
            for bank in &mut self.banks {
                bank.run(now, &self.coefficients);
            }
            for index in 0..2 {
                if self.banks[index].samples >= self.block {
                    let digit = self.judge(&self.banks[index]);
                    self.banks[index] = Bank::default();
                    self.step(digit, events);
                }
            }
            rest = later;
        }
    }

    fn judge(&self, bank: &Bank) -> Option<Pair> {
        let count = self.block as f32;
        let total = bank.energy / count;
        if total < LEAST {
            return None;
        }
        let mut power = [0.0; 8];
        for (index, power) in power.iter_mut().enumerate() {
            let (one, two) = (bank.one[index], bank.two[index]);
            *power = (one * one + two * two - self.coefficients[index] * one * two) * 2.0 / (count * count);
        }
        let best = |powers: &[f32]| -> (usize, f32, f32) {
            powers.iter().enumerate().fold((0, 0.0, 0.0), |(at, first, second), (index, &power)| {
                if power > first { (index, power, first) } else { (at, first, second.max(power)) }
            })
        };
        let (rows, columns) = power.split_at(4);
        let (row, low, second_low) = best(rows);
        let (column, high, second_high) = best(columns);
        let strong = low >= LEAST / 2.0 && high >= LEAST / 2.0;
        let pure = low + high >= PURITY * total;
        let even = low <= TWIST * high && high <= TWIST * low;
        let ahead = low >= AHEAD * second_low && high >= AHEAD * second_high;
        (strong && pure && even && ahead).then(|| Pair { digit: KEYPAD[row][column], low, high })
    }

    fn step(&mut self, pair: Option<Pair>, events: &mut Vec<DtmfEvent>) {
        let digit = pair.map(|pair| pair.digit);
        if let Some(pressed) = self.pressed {
            self.blocks += 1;
            self.misses = if digit == Some(pressed) { 0 } else { self.misses + 1 };
            if self.misses >= MISSES {
                let blocks = self.blocks - self.misses;
                // A block of silence on both sides of the first and last half hides a half each.
                let ms = (blocks + 1) * self.block / 2 * 1000 / self.rate;
                events.push(DtmfEvent::Released { digit: pressed, ms });
                self.pressed = None;
            }
        }
        let goes_on = pair.zip(self.candidate).is_some_and(|(now, before)| now.follows(&before));
        self.hits = if goes_on { self.hits + 1 } else { u32::from(pair.is_some()) };
        self.candidate = pair;
        if self.pressed.is_none()
            && self.hits >= HITS
            && let Some(digit) = digit
        {
            self.pressed = Some(digit);
            (self.misses, self.blocks) = (0, self.hits);
            events.push(DtmfEvent::Pressed(digit));
        }
    }
}

impl Bank {
    fn run(&mut self, pcm: &[i16], coefficients: &[f32; 8]) {
        let (mut one, mut two) = (self.one, self.two);
        for &sample in pcm {
            let x = f32::from(sample) / 32_768.0;
            for index in 0..8 {
                let zero = x + coefficients[index] * one[index] - two[index];
                two[index] = one[index];
                one[index] = zero;
            }
            self.energy += x * x;
        }
        (self.one, self.two) = (one, two);
        self.samples += pcm.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::mix;
    use crate::audio::speech::Speech;
    use crate::chance::Chance;

    const ALL: &str = "0123456789*#ABCD";

    /// Plays digits and tells which ones were heard, with their lengths.
    fn hear(rate: u32, digits: &str, ms: u32, levels: (f32, f32), noise_dbov: f32) -> Vec<(char, u32)> {
        let mut player = DtmfPlayer::new(rate);
        player.set_levels(levels.0, levels.1);
        let mut detector = DtmfDetector::new(rate);
        let mut chance = Chance::from_number(u64::from(ms));
        let noise = sine_peak(noise_dbov) * 1.22;
        let mut events = Vec::new();
        for digit in digits.chars() {
            assert!(player.push(digit, ms));
        }
        let mut tail = 20;
        while tail > 0 {
            let mut pcm = vec![0; rate as usize / 100];
            if !player.fill(&mut pcm) {
                tail -= 1;
            }
            let hiss: Vec<i16> =
                pcm.iter().map(|_| ((chance.unit() * 2.0 - 1.0) as f32 * noise) as i16).collect();
            mix::add(&mut pcm, &hiss);
            detector.detect(&pcm, &mut events);
        }
        assert_eq!(detector.pressed(), None);
        let pressed = events.iter().filter(|event| matches!(event, DtmfEvent::Pressed(_))).count();
        let released: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                DtmfEvent::Released { digit, ms } => Some((*digit, *ms)),
                DtmfEvent::Pressed(_) => None,
            })
            .collect();
        assert_eq!(pressed, released.len());
        released
    }

    #[test]
    fn all_digits_are_heard_at_many_levels_lengths_and_rates_in_noise() {
        for rate in [8_000, 16_000, 48_000] {
            for level in [-6.5, -20.0, -33.0] {
                for ms in [40, 90] {
                    let heard = hear(rate, ALL, ms, (level - 2.0, level), level - 18.0);
                    let digits: String = heard.iter().map(|(digit, _)| digit).collect();
                    assert_eq!(digits, ALL, "{rate} Hz, {level} dBov, {ms} ms");
                    assert!(heard.iter().all(|(_, length)| length.abs_diff(ms) <= 15), "{ms}: {heard:?}");
                }
            }
        }
    }

    #[test]
    fn twist_is_taken_up_to_its_limit_and_quiet_or_uneven_pairs_are_not() {
        for (low, high) in [(-20.0, -14.0), (-14.0, -20.0), (-12.0, -20.0)] {
            assert_eq!(hear(8_000, "159D", 60, (low, high), -60.0).len(), 4, "{low} {high}");
        }
        for (low, high) in [(-30.0, -15.0), (-12.0, -27.0), (-48.0, -46.0)] {
            assert_eq!(hear(8_000, "159D", 60, (low, high), -70.0), [], "{low} {high}");
        }
    }

    #[test]
    fn a_repeated_digit_is_two_and_a_long_one_is_one() {
        let heard = hear(8_000, "55", 70, (LOW_DBOV, HIGH_DBOV), -50.0);
        assert_eq!(heard.iter().map(|(digit, _)| *digit).collect::<String>(), "55");
        let heard = hear(8_000, "8", 2500, (LOW_DBOV, HIGH_DBOV), -50.0);
        assert!(heard.len() == 1 && heard[0].1.abs_diff(2500) < 20, "{heard:?}");
    }

    #[test]
    fn frequencies_a_little_off_are_heard_and_far_off_are_not() {
        for (off, expected) in [(-0.015, 1), (0.015, 1), (0.06, 0), (-0.06, 0)] {
            let mut detector = DtmfDetector::new(8_000);
            let mut low = Oscillator::new(770.0 * (1.0 + off), 8_000);
            let mut high = Oscillator::new(1336.0 * (1.0 + off), 8_000);
            let pcm: Vec<i16> = (0..800).map(|_| ((low.next() + high.next()) / 8) as i16).collect();
            let mut events = Vec::new();
            detector.detect(&pcm, &mut events);
            assert_eq!(events.len(), expected, "{off}: {events:?}");
        }
    }

    #[test]
    fn ten_minutes_of_speech_press_no_key() {
        let mut events = Vec::new();
        for seed in 0..20 {
            let mut speech = Speech::new(seed, 8_000);
            let mut detector = DtmfDetector::new(8_000);
            let mut pcm = vec![0; 8_000];
            for _ in 0..30 {
                speech.fill(&mut pcm);
                detector.detect(&pcm, &mut events);
            }
        }
        assert_eq!(events, []);
    }

    #[test]
    fn what_is_no_digit_and_what_is_too_much_is_refused() {
        let mut player = DtmfPlayer::new(8_000);
        assert!(!player.push('E', 100) && is_digit('d') && !is_digit(' '));
        assert!((0..MAX_QUEUE).all(|_| player.push('1', 100)));
        assert!(!player.push('1', 100));
        player.stop();
        let mut pcm = [7; 10];
        assert!(!player.active() && !player.fill(&mut pcm));
        assert_eq!(pcm, [7; 10]);
        assert!(player.push('1', u32::MAX));
        assert!(player.fill(&mut pcm));
    }
}

//! What was heard: WAV files in and out, and whether a tone is in them.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

/// Mono samples and their rate.
#[derive(Clone, Debug)]
pub struct Wav {
    pub rate: u32,
    pub samples: Vec<i16>,
}

impl Wav {
    pub fn new(rate: u32, samples: Vec<i16>) -> Wav {
        Wav { rate, samples }
    }

    /// Reads 16-bit PCM; of several channels the first. A file still being written (sizes in its header not filled in)
    /// is read as far as it goes; a missing one is empty.
    pub fn read(path: &Path) -> Wav {
        Wav::read_channel(path, 0)
    }

    /// Both channels of a stereo file.
    pub fn read_stereo(path: &Path) -> [Wav; 2] {
        [0, 1].map(|channel| Wav::read_channel(path, channel))
    }

    fn read_channel(path: &Path, channel: usize) -> Wav {
        let bytes = fs::read(path).unwrap_or_default();
        let (mut at, mut rate, mut channels, mut samples) = (12, 8000, 1, Vec::new());
        while at + 8 <= bytes.len() {
            let length =
                u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]) as usize;
            let body = at + 8;
            match &bytes[at..at + 4] {
                b"fmt " => {
                    channels = usize::from(u16::from_le_bytes([bytes[body + 2], bytes[body + 3]]));
                    rate = u32::from_le_bytes([
                        bytes[body + 4],
                        bytes[body + 5],
                        bytes[body + 6],
                        bytes[body + 7],
                    ]);
                    assert_eq!(bytes[body + 14], 16, "{} is 16 bits", path.display());
                    assert!(channel < channels, "{} has {channels} channels", path.display());
                }
                b"data" => {
                    let end = if length == 0 { bytes.len() } else { (body + length).min(bytes.len()) };
                    samples = bytes[body..end]
                        .chunks_exact(2 * channels)
                        .map(|frame| i16::from_le_bytes([frame[2 * channel], frame[2 * channel + 1]]))
                        .collect();
                    break;
                }
                _ => {}
            }
            at = body + length + length % 2;
        }
        Wav { rate, samples }
    }

    /// Writes 16-bit PCM, mono.
    pub fn write(&self, path: &Path) {
        let length = u32::try_from(self.samples.len() * 2).expect("a short file");
        let mut bytes = Vec::with_capacity(44 + self.samples.len() * 2);
        bytes.extend(b"RIFF");
        bytes.extend((36 + length).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(self.rate.to_le_bytes());
        bytes.extend((self.rate * 2).to_le_bytes());
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(16u16.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        fs::write(path, bytes).expect("a WAV file");
    }

    /// How long it lasts.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// For how many seconds this tone is most of what is heard (windows of 20 ms, louder than -50 dBFS).
    pub fn seconds_of(&self, hertz: f64) -> f64 {
        let window = self.rate as usize / 50;
        let hits =
            self.samples.chunks_exact(window).filter(|w| tone_share(w, self.rate, hertz) > 0.6).count();
        hits as f64 / 50.0
    }

    /// The longest pause (in seconds) between the first and the last 20 ms in which this tone is heard.
    pub fn longest_gap_in(&self, hertz: f64) -> f64 {
        let window = self.rate as usize / 50;
        let heard: Vec<usize> = self
            .samples
            .chunks_exact(window)
            .enumerate()
            .filter(|(_, w)| tone_share(w, self.rate, hertz) > 0.6)
            .map(|(at, _)| at)
            .collect();
        let gap = heard.windows(2).map(|pair| pair[1] - pair[0] - 1).max().unwrap_or(0);
        gap as f64 / 50.0
    }
}

/// The share (0 to 1) of a window's energy that lies at one frequency; 0 for a window below -50 dBFS.
pub fn tone_share(window: &[i16], rate: u32, hertz: f64) -> f64 {
    let mean = window.iter().map(|s| f64::from(*s)).sum::<f64>() / window.len() as f64;
    let energy: f64 = window.iter().map(|s| (f64::from(*s) - mean).powi(2)).sum();
    if energy / (window.len() as f64) < 1e4 {
        return 0.0;
    }
    let step = TAU * hertz / f64::from(rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in window.iter().enumerate() {
        let value = f64::from(*sample) - mean;
        re += value * (step * n as f64).cos();
        im += value * (step * n as f64).sin();
    }
    2.0 * (re * re + im * im) / (window.len() as f64 * energy)
}

/// A sine of one frequency.
pub fn sine(hertz: f64, rate: u32, seconds: f64, peak: i16) -> Vec<i16> {
    let count = (f64::from(rate) * seconds) as usize;
    let step = TAU * hertz / f64::from(rate);
    (0..count).map(|n| ((step * n as f64).sin() * f64::from(peak)) as i16).collect()
}

#[test]
fn a_tone_is_told_from_another() {
    let wav = Wav::new(8000, sine(1004.0, 8000, 2.0, 8000));
    assert!(wav.seconds_of(1004.0) > 1.9);
    assert!(wav.seconds_of(440.0) < 0.1);
    assert!(wav.longest_gap_in(1004.0) < 0.01);
}

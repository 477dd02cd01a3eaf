//! Speech: made by espeak-ng when the test runs, and recognised after its way through calls.
//!
//! The measure is a short-time correlation of band envelopes (the idea behind STOI, Taal et al. 2011): speech that kept
//! its envelopes in one-third octave bands over stretches of 384 ms is understood, noise or another sentence scores low.

use std::f64::consts::{PI, TAU};
use std::path::Path;

use crate::process::run;
use crate::sound::Wav;

/// Sentences that differ; which of them was spoken is what a recogniser tells.
pub const SENTENCES: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Please leave your name and number after the tone, and we will call you back.",
    "Seven thousand two hundred and sixty one packets arrived on Monday morning.",
    "Our office is closed today because of heavy snow in the mountains.",
];

/// How well each sentence was heard, and which one best.
#[derive(Debug)]
pub struct Recognised {
    pub sentence: usize,
    /// 0 to 1; above 0.6 is well understood.
    pub score: f64,
    /// Score of the next best sentence.
    pub runner_up: f64,
}

/// The sentence, spoken, at this rate.
pub fn speak(sentence: usize, rate: u32, folder: &Path) -> Wav {
    let file = folder.join(format!("sentence{sentence}.wav"));
    run(
        "espeak-ng",
        &["-v", "en", "-s", "150", "-a", "80", "-w", file.to_str().expect("a path"), SENTENCES[sentence]],
    );
    let spoken = Wav::read(&file);
    assert!(spoken.seconds() > 1.5, "espeak-ng spoke {} s", spoken.seconds());
    resample(&spoken, rate)
}

/// Which sentence was heard.
pub fn recognise(heard: &Wav, folder: &Path) -> Recognised {
    let heard = envelopes(&resample(heard, 8000));
    let mut scores: Vec<(usize, f64)> =
        (0..SENTENCES.len()).map(|n| (n, score(&envelopes(&speak(n, 8000, folder)), &heard))).collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    Recognised { sentence: scores[0].0, score: scores[0].1, runner_up: scores[1].1 }
}

const FRAME: usize = 256;
const HOP: usize = 128;
const SEGMENT: usize = 24;

/// Amplitude in one-third octave bands from 150 Hz to 3.4 kHz, every 16 ms.
fn envelopes(wav: &Wav) -> Vec<Vec<f64>> {
    assert_eq!(wav.rate, 8000);
    let edges: Vec<f64> =
        (0..).map(|k| 150.0 * 2f64.powf(f64::from(k) / 3.0)).take_while(|f| *f < 3500.0).collect();
    let bins = FRAME / 2;
    let tables: Vec<Vec<(f64, f64)>> = (0..bins)
        .map(|k| (0..FRAME).map(|n| (TAU * k as f64 * n as f64 / FRAME as f64).sin_cos()).collect())
        .collect();
    wav.samples
        .windows(FRAME)
        .step_by(HOP)
        .map(|frame| {
            let shaped: Vec<f64> = frame
                .iter()
                .enumerate()
                .map(|(n, s)| f64::from(*s) * (PI * (n as f64 + 0.5) / FRAME as f64).sin().powi(2))
                .collect();
            let power: Vec<f64> = tables
                .iter()
                .map(|table| {
                    let (re, im) =
                        shaped.iter().zip(table).fold((0.0, 0.0), |(re, im), (value, (sin, cos))| {
                            (re + value * cos, im + value * sin)
                        });
                    re * re + im * im
                })
                .collect();
            edges
                .windows(2)
                .map(|band| {
                    let width = 8000.0 / FRAME as f64;
                    let range =
                        (band[0] / width).ceil() as usize..((band[1] / width).ceil() as usize).min(bins);
                    power[range].iter().sum::<f64>().sqrt()
                })
                .collect()
        })
        .collect()
}

/// The best of all alignments: mean correlation over the segments in which the sentence is spoken; each segment may lie
/// up to 80 ms beside its place, for a jitter buffer stretches and shrinks.
fn score(sentence: &[Vec<f64>], heard: &[Vec<f64>]) -> f64 {
    let loudness = |frames: &[Vec<f64>]| frames.iter().flatten().sum::<f64>();
    let segments: Vec<usize> = (0..sentence.len().saturating_sub(SEGMENT)).step_by(SEGMENT / 2).collect();
    let loudest = segments.iter().map(|at| loudness(&sentence[*at..at + SEGMENT])).fold(0.0, f64::max);
    let spoken: Vec<usize> =
        segments.into_iter().filter(|at| loudness(&sentence[*at..at + SEGMENT]) > loudest * 0.1).collect();
    let last = heard.len().saturating_sub(sentence.len());
    let mut best = 0.0f64;
    for shift in 0..=last {
        // A coarse look with every third segment first.
        let coarse = mean(spoken.iter().step_by(3).map(|at| correlation(sentence, heard, *at, at + shift)));
        if coarse < best * 0.6 {
            continue;
        }
        let fine = mean(spoken.iter().map(|at| {
            (0..=10)
                .filter_map(|slack| (at + shift + slack).checked_sub(5))
                .map(|place| correlation(sentence, heard, *at, place))
                .fold(0.0, f64::max)
        }));
        best = best.max(fine);
    }
    best
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

fn correlation(sentence: &[Vec<f64>], heard: &[Vec<f64>], at: usize, place: usize) -> f64 {
    if place + SEGMENT > heard.len() {
        return 0.0;
    }
    let bands = sentence[0].len();
    mean((0..bands).map(|band| {
        let x: Vec<f64> = sentence[at..at + SEGMENT].iter().map(|frame| frame[band]).collect();
        let y: Vec<f64> = heard[place..place + SEGMENT].iter().map(|frame| frame[band]).collect();
        let (mx, my) = (mean(x.iter().copied()), mean(y.iter().copied()));
        let (mut xy, mut xx, mut yy) = (0.0, 1e-9, 1e-9);
        for (x, y) in x.iter().zip(&y) {
            xy += (x - mx) * (y - my);
            xx += (x - mx).powi(2);
            yy += (y - my).powi(2);
        }
        xy / (xx * yy).sqrt()
    }))
}

/// Another rate, by a windowed sinc.
pub fn resample(wav: &Wav, rate: u32) -> Wav {
    if wav.rate == rate {
        return wav.clone();
    }
    let ratio = f64::from(wav.rate) / f64::from(rate);
    let cutoff = ratio.recip().min(1.0) * 0.95;
    let reach = (16.0 / cutoff).ceil() as isize;
    let count = (wav.samples.len() as f64 / ratio) as usize;
    let samples = (0..count)
        .map(|n| {
            let centre = n as f64 * ratio;
            let middle = centre as isize;
            let mut sum = 0.0;
            for k in middle - reach..=middle + reach {
                let Some(sample) = usize::try_from(k).ok().and_then(|k| wav.samples.get(k)) else { continue };
                let x = centre - k as f64;
                let sinc = if x.abs() < 1e-9 { 1.0 } else { (PI * x * cutoff).sin() / (PI * x * cutoff) };
                let window = 0.5 + 0.5 * (PI * x / (reach as f64 + 1.0)).cos();
                sum += f64::from(*sample) * sinc * window * cutoff;
            }
            sum.clamp(-32768.0, 32767.0) as i16
        })
        .collect();
    Wav { rate, samples }
}

#[test]
fn a_sentence_is_recognised_and_silence_is_not() {
    if crate::process::program("espeak-ng").is_none() {
        return crate::netns::skip("speech recognition", "espeak-ng is not installed");
    }
    let folder = std::env::temp_dir().join(format!("tipring-speech-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let spoken = speak(1, 8000, &folder);
    let mut late = vec![0i16; 3000];
    late.extend(spoken.samples.iter().map(|s| s / 2 + 40));
    let heard = recognise(&Wav::new(8000, late), &folder);
    assert_eq!(heard.sentence, 1, "{heard:?}");
    assert!(heard.score > 0.9 && heard.runner_up < 0.6, "{heard:?}");

    let noise = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 18) as i16 - 8192).collect();
    let noise = recognise(&Wav::new(8000, noise), &folder);
    assert!(noise.score < 0.5, "{noise:?}");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

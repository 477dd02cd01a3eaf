//! G.722 at 64 kbit/s: two sub-bands of a 16 kHz signal, each with its own adaptive differential coder.
//!
//! The names of the steps are the names of the standard's blocks. Arithmetic is the 16-bit one of the
//! standard, in wider integers with its limits put in by hand.

use super::codec::{CodecError, Decoder, Encoder, MAX_PAYLOAD, Parameters};
use super::conceal::Concealer;
use super::dot::dot16;

const RATE: u32 = 16_000;
/// Delay of encoder and decoder together, in samples.
const DELAY: usize = 22;
/// Made-up sound leads the decoder's adaptation for 20 ms; after that it is too unlike what was lost, and
/// fading.
const LED_SAMPLES: usize = 320;

/// Coefficients of the quadrature mirror filter (Table 4) for the even samples, filled up to 16, and their
/// mirror for the odd ones.
const QMF: [i16; 16] = [0, 0, 0, 0, 3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
const QMF_MIRRORED: [i16; 16] = [0, 0, 0, 0, -11, 53, -156, 362, -805, 3876, 951, -210, 32, 12, -11, 3];
/// Decision levels of the lower band's quantiser (Table 6).
const DECISION_LOW: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Output of the lower band's inverse quantisers with 6 and with 4 bits, by code word.
const INVERSE_LOW_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
const INVERSE_LOW_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Output of the upper band's inverse quantiser, by code word, and the decision level of its quantiser.
const INVERSE_HIGH: [i32; 4] = [-7408, -1616, 7408, 1616];
const DECISION_HIGH: i32 = 564;
/// Logarithmic scale-factor multipliers: of the lower band by 4-bit code word, of the upper one by code word.
const MULTIPLIER_LOW: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
const MULTIPLIER_HIGH: [i32; 4] = [798, -214, 798, -214];
/// 2^(n/32) in units of 1/2048.
const ANTILOG: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// The adaptive part of one sub-band; the encoder's and the decoder's are alike.
#[derive(Debug, Clone)]
struct Band {
    /// Quantiser scale factor (DETL, DETH) and its logarithm (NBL, NBH).
    scale: i32,
    log_scale: i32,
    /// Predictor output (SL, SH) and the part of the zeros in it (SZL, SZH).
    predicted: i32,
    predicted_zeros: i32,
    /// Poles (AL1, AL2) and zeros (BL1–6).
    poles: [i32; 2],
    zeros: [i32; 6],
    /// Reconstructed signal (RLT), partially reconstructed signal (PLT) and differences (DLT) of the past.
    reconstructed: [i32; 2],
    partial: [i32; 2],
    differences: [i32; 6],
}

impl Band {
    const fn new(scale: i32) -> Band {
        Band {
            scale,
            log_scale: 0,
            predicted: 0,
            predicted_zeros: 0,
            poles: [0; 2],
            zeros: [0; 6],
            reconstructed: [0; 2],
            partial: [0; 2],
            differences: [0; 6],
        }
    }

    /// LOGSCL/LOGSCH and SCALEL/SCALEH.
    fn adapt_scale(&mut self, multiplier: i32, limit: i32, shift: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + multiplier).clamp(0, limit);
        let mantissa = ANTILOG[((self.log_scale >> 6) & 31) as usize];
        let exponent = shift - (self.log_scale >> 11);
        self.scale = (if exponent < 0 { mantissa << -exponent } else { mantissa >> exponent }) << 2;
    }

    /// Block 4: PARREC, RECONS, UPPOL2, UPPOL1, UPZERO, FILTEP, FILTEZ and PREDIC for a quantised difference.
    fn adapt_predictor(&mut self, difference: i32) {
        let reconstructed = saturate(self.predicted + difference);
        let partial = saturate(self.predicted_zeros + difference);
        let agree = |a: i32, b: i32| (a < 0) == (b < 0);

        // The quotients are those of the standard: its sign of zero is plus.
        let drift = saturate(self.poles[0] << 2);
        let drift = if agree(partial, self.partial[0]) { -drift } else { drift }.min(32_767) >> 7;
        let second = drift + if agree(partial, self.partial[1]) { 128 } else { -128 };
        let second = (second + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        let first = if agree(partial, self.partial[0]) { 192 } else { -192 };
        let first = saturate(first + ((self.poles[0] * 32_640) >> 15));
        let bound = 15_360 - second;
        self.poles = [first.clamp(-bound, bound), second];

        let step = if difference == 0 { 0 } else { 128 };
        for (zero, past) in self.zeros.iter_mut().zip(&self.differences) {
            let towards = if agree(difference, *past) { step } else { -step };
            *zero = saturate(towards + ((*zero * 32_640) >> 15));
        }
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];

        let term = |coefficient: i32, past: i32| (coefficient * saturate(past * 2)) >> 15;
        let from_poles =
            saturate(term(self.poles[0], self.reconstructed[0]) + term(self.poles[1], self.reconstructed[1]));
        let zeros = self.zeros.iter().zip(&self.differences);
        self.predicted_zeros = saturate(zeros.map(|(&zero, &past)| term(zero, past)).sum());
        self.predicted = saturate(from_poles + self.predicted_zeros);
    }
}

/// Both bands.
#[derive(Debug, Clone)]
struct Bands {
    low: Band,
    high: Band,
}

impl Bands {
    const fn new() -> Bands {
        Bands { low: Band::new(32), high: Band::new(8) }
    }

    /// One octet from a sample of each band.
    fn encode(&mut self, low: i32, high: i32) -> u8 {
        // SUBTRA and QUANTL.
        let difference = saturate(low - self.low.predicted);
        let negative = difference < 0;
        let magnitude = if negative { -(difference + 1) } else { difference };
        let scale = self.low.scale;
        let interval = DECISION_LOW.partition_point(|&level| magnitude >= (level * scale) >> 12) as u8;
        let code = match (negative, interval) {
            // The two innermost intervals of the negative side have the all-ones words that the positive has
            // not.
            (true, 0..=1) => 63 - interval,
            (true, _) => 33 - interval,
            (false, _) => 61 - interval,
        };
        let low_code = usize::from(code);
        self.low_step(low_code);

        // SUBTRA and QUANTH.
        let difference = saturate(high - self.high.predicted);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let outer = magnitude >= (DECISION_HIGH * self.high.scale) >> 12;
        let high_code = match (difference < 0, outer) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        self.high_step(high_code);
        (high_code << 6) as u8 | low_code as u8
    }

    /// A sample of each band from one octet.
    fn decode(&mut self, octet: u8) -> (i32, i32) {
        let low_code = usize::from(octet & 63);
        let fine = (self.low.scale * INVERSE_LOW_6[low_code]) >> 15;
        let low = (self.low.predicted + fine).clamp(-16_384, 16_383);
        self.low_step(low_code);
        let high_code = usize::from(octet >> 6);
        let difference = (self.high.scale * INVERSE_HIGH[high_code]) >> 15;
        let high = (self.high.predicted + difference).clamp(-16_384, 16_383);
        self.high_step(high_code);
        (low, high)
    }

    fn low_step(&mut self, code: usize) {
        // Adaptation looks at the upper four bits only, so that a network may steal the lower two.
        let difference = (self.low.scale * INVERSE_LOW_4[code >> 2]) >> 15;
        self.low.adapt_scale(MULTIPLIER_LOW[code >> 2], 18_432, 8);
        self.low.adapt_predictor(difference);
    }

    fn high_step(&mut self, code: usize) {
        let difference = (self.high.scale * INVERSE_HIGH[code]) >> 15;
        self.high.adapt_scale(MULTIPLIER_HIGH[code], 22_528, 10);
        self.high.adapt_predictor(difference);
    }
}

/// The delay line of a quadrature mirror filter, even and odd samples apart.
#[derive(Debug, Clone)]
struct Mirror {
    even: [i16; 16],
    odd: [i16; 16],
}

impl Mirror {
    const fn new() -> Mirror {
        Mirror { even: [0; 16], odd: [0; 16] }
    }

    /// Takes the next pair and tells the two sums of products.
    fn push(&mut self, even: i16, odd: i16) -> (i32, i32) {
        self.even.copy_within(1.., 0);
        self.odd.copy_within(1.., 0);
        self.even[15] = even;
        self.odd[15] = odd;
        (dot16(&self.even, &QMF), dot16(&self.odd, &QMF_MIRRORED))
    }

    /// The two bands of the next pair of samples.
    fn split(&mut self, even: i16, odd: i16) -> (i32, i32) {
        let (even, odd) = self.push(even, odd);
        ((odd + even) >> 14, (odd - even) >> 14)
    }

    /// The next pair of samples of two bands, each of 15 bits.
    fn join(&mut self, low: i32, high: i32) -> (i16, i16) {
        let (even, odd) = self.push((low + high) as i16, (low - high) as i16);
        (saturate(odd >> 11) as i16, saturate(even >> 11) as i16)
    }
}

/// The sub-band encoder of G.722 for 16 kHz samples.
#[derive(Debug, Clone)]
pub struct G722Encoder {
    mirror: Mirror,
    bands: Bands,
}

impl Default for G722Encoder {
    fn default() -> G722Encoder {
        G722Encoder::new()
    }
}

impl G722Encoder {
    /// An encoder in the state of the standard's reset.
    pub const fn new() -> G722Encoder {
        G722Encoder { mirror: Mirror::new(), bands: Bands::new() }
    }
}

impl Encoder for G722Encoder {
    fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        out.extend(pcm.chunks_exact(2).map(|pair| {
            let (low, high) = self.mirror.split(pair[0], pair[1]);
            self.bands.encode(low, high)
        }));
    }

    fn reset(&mut self) {
        *self = G722Encoder::new();
    }
}

/// The sub-band decoder of G.722 for 16 kHz samples, without concealment.
#[derive(Debug, Clone)]
pub struct G722Decoder {
    mirror: Mirror,
    bands: Bands,
}

impl Default for G722Decoder {
    fn default() -> G722Decoder {
        G722Decoder::new()
    }
}

impl G722Decoder {
    /// A decoder in the state of the standard's reset.
    pub const fn new() -> G722Decoder {
        G722Decoder { mirror: Mirror::new(), bands: Bands::new() }
    }

    /// Appends two samples for each octet. No octets are invalid.
    pub fn decode(&mut self, octets: &[u8], pcm: &mut Vec<i16>) {
        pcm.reserve(octets.len() * 2);
        for &octet in octets {
            let (low, high) = self.bands.decode(octet);
            let (first, second) = self.mirror.join(low, high);
            pcm.push(first);
            pcm.push(second);
        }
    }
}

/// The decoder with what it needs to bridge a loss.
struct ConcealingDecoder {
    decoder: G722Decoder,
    concealer: Concealer,
    /// The encoder's filter over what was played, so that made-up sound can lead the adaptation on.
    mirror: Mirror,
    /// Samples made up since the gap began.
    made: usize,
}

impl ConcealingDecoder {
    fn new() -> ConcealingDecoder {
        ConcealingDecoder {
            decoder: G722Decoder::new(),
            concealer: Concealer::new(RATE),
            mirror: Mirror::new(),
            made: 0,
        }
    }
}

impl Decoder for ConcealingDecoder {
    fn sample_rate(&self) -> u32 {
        RATE
    }

    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(CodecError::TooLong(payload.len()));
        }
        let start = pcm.len();
        self.decoder.decode(payload, pcm);
        self.concealer.good(&mut pcm[start..]);
        let tail = pcm.len().saturating_sub(24).max(start);
        for pair in pcm[tail..].chunks_exact(2) {
            self.mirror.push(pair[0], pair[1]);
        }
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        let start = pcm.len();
        let begins = !self.concealer.concealing();
        self.concealer.conceal(samples, pcm);
        self.made = if begins { samples } else { self.made.saturating_add(samples) };
        if samples < DELAY || self.made > LED_SAMPLES {
            return;
        }
        // The far end's coder went on with the real sound: coding the made-up one keeps ours near it (G.722
        // App. IV). Its state is ahead of what is heard by the delay of the filters, so the sound to come is
        // coded too.
        let (first, rest) = pcm[start..].split_at(DELAY);
        if begins {
            for pair in first.chunks_exact(2) {
                self.mirror.push(pair[0], pair[1]);
            }
        }
        let mut coming = rest.iter().copied().chain(self.concealer.look_ahead(DELAY));
        while let (Some(even), Some(odd)) = (coming.next(), coming.next()) {
            let (low, high) = self.mirror.split(even, odd);
            self.decoder.bands.encode(low, high);
            self.decoder.mirror.join(low, high);
        }
    }

    fn samples(&self, payload: &[u8]) -> Option<usize> {
        (payload.len() <= MAX_PAYLOAD).then_some(payload.len() * 2)
    }

    fn reset(&mut self) {
        self.decoder = G722Decoder::new();
        self.concealer.reset();
        self.mirror = Mirror::new();
        self.made = 0;
    }
}

fn check(parameters: &Parameters) -> Result<(), CodecError> {
    if parameters.sample_rate == RATE {
        Ok(())
    } else {
        Err(CodecError::Unsupported { codec: "G722", what: "sample rate but 16000 Hz" })
    }
}

/// The encoder of the G722 row.
pub(super) fn encoder(parameters: &Parameters) -> Result<Box<dyn Encoder>, CodecError> {
    check(parameters)?;
    Ok(Box::new(G722Encoder::new()))
}

/// The decoder of the G722 row.
pub(super) fn decoder(parameters: &Parameters) -> Result<Box<dyn Decoder>, CodecError> {
    check(parameters)?;
    Ok(Box::new(ConcealingDecoder::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::similarity::{segmental_snr, similarity};
    use crate::audio::speech::Speech;
    use crate::chance::Chance;

    fn through(input: &[i16]) -> Vec<i16> {
        let (mut octets, mut output) = (Vec::new(), Vec::new());
        G722Encoder::new().encode(input, &mut octets);
        assert_eq!(octets.len(), input.len() / 2);
        G722Decoder::new().decode(&octets, &mut output);
        output
    }

    fn sine(hertz: f64, peak: f64) -> Vec<i16> {
        (0..16_000)
            .map(|n| (peak * (f64::from(n) * hertz * std::f64::consts::TAU / 16e3).sin()) as i16)
            .collect()
    }

    #[test]
    fn tones_of_the_whole_band_come_back_cleanly() {
        for (hertz, least) in
            [(200.0, 25.0), (1000.0, 25.0), (2500.0, 25.0), (3400.0, 24.0), (5000.0, 15.0), (6500.0, 12.0)]
        {
            for peak in [20_000.0, 2000.0, 300.0] {
                let input = sine(hertz, peak);
                let output = through(&input);
                let (mut signal, mut noise) = (0.0, 0.0);
                for (x, y) in input[4000..].iter().zip(&output[4000 + DELAY..]) {
                    signal += f64::from(*x).powi(2);
                    noise += (f64::from(*x) - f64::from(*y)).powi(2);
                }
                let ratio = 10.0 * (signal / noise).log10();
                println!("{hertz} Hz at {peak}: {ratio:.1} dB");
                assert!(ratio > least, "{hertz} Hz at {peak}: {ratio} dB");
            }
        }
    }

    #[test]
    fn speech_comes_back_with_more_than_20_db() {
        let mut input = vec![0; 80_000];
        Speech::new(21, 16_000).fill(&mut input);
        let output = through(&input);
        let found = similarity(&input, &output, 16_000, 200).unwrap();
        println!("{found:?}");
        assert_eq!(found.delay, DELAY);
        assert!(segmental_snr(&input, &output[DELAY..], 16_000) > 20.0, "{found:?}");
    }

    #[test]
    fn silence_stays_silent_and_a_reset_starts_over() {
        assert!(through(&[0; 3200]).iter().all(|sample| sample.abs() <= 8));
        let mut speech = vec![0; 3200];
        Speech::new(2, 16_000).fill(&mut speech);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut encoder = G722Encoder::new();
        encoder.encode(&speech, &mut first);
        encoder.reset();
        encoder.encode(&speech, &mut second);
        assert_eq!(first, second);
        // An odd sample at the end has no partner and no octet.
        second.clear();
        encoder.encode(&speech[..5], &mut second);
        assert_eq!(second.len(), 2);
    }

    #[test]
    fn the_decoder_survives_garbage_and_then_decodes_well_again() {
        let mut chance = Chance::from_number(4);
        let mut garbage = vec![0; 16_000];
        chance.fill(&mut garbage);
        let mut decoder = G722Decoder::new();
        let mut output = Vec::new();
        decoder.decode(&garbage, &mut output);
        for octet in [0x00, 0xFF, 0x55, 0xAA, 0x3F, 0xC0] {
            decoder.decode(&[octet; 4000], &mut output);
        }
        let input = sine(700.0, 8000.0);
        let mut octets = Vec::new();
        G722Encoder::new().encode(&input, &mut octets);
        output.clear();
        decoder.decode(&octets, &mut output);
        let snr = segmental_snr(&input[8000..15_000], &output[8000 + DELAY..15_000 + DELAY], 16_000);
        assert!(snr > 20.0, "{snr}");
    }

    #[test]
    fn loud_noise_drives_nothing_out_of_bounds() {
        let mut chance = Chance::from_number(8);
        let input: Vec<i16> =
            (0..32_000).map(|_| if chance.happens(0.5) { i16::MAX } else { i16::MIN }).collect();
        assert_eq!(through(&input).len(), input.len());
    }

    /// SNR in decibels of the first frame after gaps of some frames, as decoded without any blend: with
    /// adaptation led on by made-up sound and with adaptation at a standstill.
    fn after_gaps(frames: usize) -> (f64, f64) {
        let (mut signal, mut led_noise, mut still_noise) = (0.0, 0.0, 0.0);
        for seed in 0..2 {
            let mut input = vec![0; 64_000];
            Speech::new(seed, RATE).fill(&mut input);
            let mut octets = Vec::new();
            G722Encoder::new().encode(&input, &mut octets);
            let mut led = ConcealingDecoder::new();
            let mut still = G722Decoder::new();
            let (mut pcm, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
            for (number, frame) in octets.chunks(160).enumerate() {
                pcm.clear();
                let place = number % 12;
                if (7..7 + frames).contains(&place) {
                    led.conceal(320, &mut pcm);
                    continue;
                }
                with.clear();
                without.clear();
                led.decoder.clone().decode(frame, &mut with);
                led.decode(frame, &mut pcm).unwrap();
                still.decode(frame, &mut without);
                if place == 7 + frames {
                    for (n, &wanted) in input[number * 320 - DELAY..].iter().take(320).enumerate() {
                        signal += f64::from(wanted).powi(2);
                        led_noise += (f64::from(wanted) - f64::from(with[n])).powi(2);
                        still_noise += (f64::from(wanted) - f64::from(without[n])).powi(2);
                    }
                }
            }
        }
        (10.0 * f64::log10(signal / led_noise), 10.0 * f64::log10(signal / still_noise))
    }

    #[test]
    fn after_a_loss_the_decoder_is_nearer_than_one_that_stood_still() {
        for frames in 1..=3 {
            let (led, still) = after_gaps(frames);
            println!("after {frames} lost: led on {led:.1} dB, standing still {still:.1} dB");
            assert!(led > still + 0.1, "{frames}: {led} {still}");
        }
    }
}

//! G.711: A-law and µ-law, bit exact.
//!
//! Both laws compress 16-bit samples by looking at their upper 12 (A-law) or 14 (µ-law) bits, so a table
//! answers every question: 4 KB and 16 KB to encode, 512 bytes each to decode, made when the program is
//! compiled.

use super::codec::{CodecError, Decoder, Encoder, MAX_PAYLOAD, Parameters};
use super::conceal::Concealer;

const RATE: u32 = 8_000;

/// Which of the two laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Table 1 of G.711, with even bits inverted: Europe and most of the world, PCMA.
    A,
    /// Table 2 of G.711: North America and Japan, PCMU.
    Mu,
}

/// The silence of a law, as one octet.
impl Law {
    /// The octet that stands for no sound.
    pub const fn silence(self) -> u8 {
        match self {
            Law::A => 0xD5,
            Law::Mu => 0xFF,
        }
    }
}

const fn compress_a(sample: i16) -> u8 {
    let positive = sample >= 0;
    // Negative intervals mirror the positive ones: -1 falls into the first, as 0 does.
    let magnitude = (if positive { sample } else { !sample }) >> 4;
    let mut code = magnitude as u16;
    if code > 15 {
        let exponent = 15 - (code.leading_zeros() as u16) - 4;
        code = ((exponent + 1) << 4) | ((code >> exponent) & 15);
    }
    if positive {
        code |= 0x80;
    }
    (code as u8) ^ 0x55
}

const fn expand_a(octet: u8) -> i16 {
    let code = (octet ^ 0x55) as i16;
    let segment = (code >> 4) & 7;
    let step = code & 15;
    let magnitude = if segment == 0 { (step << 4) + 8 } else { ((step << 4) + 0x108) << (segment - 1) };
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

const fn compress_mu(sample: i16) -> u8 {
    let positive = sample >= 0;
    let mut magnitude = ((if positive { sample } else { !sample }) >> 2) as u16 + 33;
    if magnitude > 0x1FFF {
        magnitude = 0x1FFF;
    }
    let segment = 15 - magnitude.leading_zeros() as u16 - 5;
    let step = (magnitude >> (segment + 1)) & 15;
    let code = !((segment << 4) | step) as u8;
    if positive { code | 0x80 } else { code & 0x7F }
}

const fn expand_mu(octet: u8) -> i16 {
    let code = !octet as i16;
    let magnitude = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if octet & 0x80 != 0 { magnitude } else { -magnitude }
}

const fn table_a() -> [u8; 4096] {
    let mut table = [0; 4096];
    let mut index = 0;
    while index < table.len() {
        table[index] = compress_a((index << 4) as u16 as i16);
        index += 1;
    }
    table
}

const fn table_mu() -> [u8; 16_384] {
    let mut table = [0; 16_384];
    let mut index = 0;
    while index < table.len() {
        table[index] = compress_mu((index << 2) as u16 as i16);
        index += 1;
    }
    table
}

const fn table_back(a: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        table[index] = if a { expand_a(index as u8) } else { expand_mu(index as u8) };
        index += 1;
    }
    table
}

static FROM_A: [i16; 256] = table_back(true);
static FROM_MU: [i16; 256] = table_back(false);
static TO_A: [u8; 4096] = table_a();
static TO_MU: [u8; 16_384] = table_mu();

/// One sample to one octet.
pub fn compress(law: Law, sample: i16) -> u8 {
    match law {
        Law::A => TO_A[usize::from(sample as u16 >> 4)],
        Law::Mu => TO_MU[usize::from(sample as u16 >> 2)],
    }
}

/// One octet to one sample.
pub fn expand(law: Law, octet: u8) -> i16 {
    match law {
        Law::A => FROM_A[usize::from(octet)],
        Law::Mu => FROM_MU[usize::from(octet)],
    }
}

/// Appends the octets of `pcm` to `out`.
pub fn encode(law: Law, pcm: &[i16], out: &mut Vec<u8>) {
    match law {
        Law::A => out.extend(pcm.iter().map(|&sample| TO_A[usize::from(sample as u16 >> 4)])),
        Law::Mu => out.extend(pcm.iter().map(|&sample| TO_MU[usize::from(sample as u16 >> 2)])),
    }
}

/// Appends the samples of `octets` to `pcm`.
pub fn decode(law: Law, octets: &[u8], pcm: &mut Vec<i16>) {
    let table = match law {
        Law::A => &FROM_A,
        Law::Mu => &FROM_MU,
    };
    pcm.extend(octets.iter().map(|&octet| table[usize::from(octet)]));
}

struct G711Encoder(Law);

impl Encoder for G711Encoder {
    fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        encode(self.0, pcm, out);
    }

    fn reset(&mut self) {}
}

struct G711Decoder {
    law: Law,
    concealer: Concealer,
}

impl Decoder for G711Decoder {
    fn sample_rate(&self) -> u32 {
        RATE
    }

    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(CodecError::TooLong(payload.len()));
        }
        let start = pcm.len();
        decode(self.law, payload, pcm);
        self.concealer.good(&mut pcm[start..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        self.concealer.conceal(samples, pcm);
    }

    fn samples(&self, payload: &[u8]) -> Option<usize> {
        (payload.len() <= MAX_PAYLOAD).then_some(payload.len())
    }

    fn reset(&mut self) {
        self.concealer.reset();
    }
}

fn check(parameters: &Parameters, codec: &'static str) -> Result<(), CodecError> {
    if parameters.sample_rate == RATE {
        Ok(())
    } else {
        Err(CodecError::Unsupported { codec, what: "sample rate but 8000 Hz" })
    }
}

/// The encoder of the PCMA row.
pub(super) fn a_law_encoder(parameters: &Parameters) -> Result<Box<dyn Encoder>, CodecError> {
    check(parameters, "PCMA")?;
    Ok(Box::new(G711Encoder(Law::A)))
}

/// The decoder of the PCMA row.
pub(super) fn a_law_decoder(parameters: &Parameters) -> Result<Box<dyn Decoder>, CodecError> {
    check(parameters, "PCMA")?;
    Ok(Box::new(G711Decoder { law: Law::A, concealer: Concealer::new(RATE) }))
}

/// The encoder of the PCMU row.
pub(super) fn mu_law_encoder(parameters: &Parameters) -> Result<Box<dyn Encoder>, CodecError> {
    check(parameters, "PCMU")?;
    Ok(Box::new(G711Encoder(Law::Mu)))
}

/// The decoder of the PCMU row.
pub(super) fn mu_law_decoder(parameters: &Parameters) -> Result<Box<dyn Decoder>, CodecError> {
    check(parameters, "PCMU")?;
    Ok(Box::new(G711Decoder { law: Law::Mu, concealer: Concealer::new(RATE) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positive decision values of Tables 1a and 2a of G.711 on the scale of 16 bits, from their rule:
    /// segments of sixteen equal intervals, each segment's intervals twice as wide as those of the one
    /// before.
    fn decision_values(law: Law) -> Vec<i32> {
        let mut values = vec![0];
        let mut last = 0;
        let (widths, factor): (Vec<i32>, i32) = match law {
            // Two segments of width 2 in a scale to 4096, which is 1/8 of ours.
            Law::A => (vec![2, 2, 4, 8, 16, 32, 64, 128], 8),
            // In a scale to 8159, which is 1/4 of ours; the first interval is half as wide.
            Law::Mu => (vec![2, 4, 8, 16, 32, 64, 128, 256], 4),
        };
        for (segment, width) in widths.iter().enumerate() {
            for step in 0..16 {
                last += if law == Law::Mu && segment == 0 && step == 0 { 1 } else { *width };
                values.push(last * factor);
            }
        }
        values
    }

    fn interval(values: &[i32], magnitude: i32) -> usize {
        values.iter().rposition(|&value| value <= magnitude).unwrap().min(127)
    }

    #[test]
    fn all_samples_fall_into_the_interval_of_the_standard() {
        for law in [Law::A, Law::Mu] {
            let values = decision_values(law);
            assert_eq!(values.len(), 129);
            for sample in i16::MIN..=i16::MAX {
                let magnitude = if sample >= 0 { i32::from(sample) } else { -i32::from(sample) - 1 };
                let interval = interval(&values, magnitude) as u8;
                let expected = match law {
                    // Character signals before the inversion of the even bits count up from 1000 0000.
                    Law::A => (interval | if sample >= 0 { 0x80 } else { 0 }) ^ 0x55,
                    // Character signals count down from 1111 1111.
                    Law::Mu => (0x7F - interval) | if sample >= 0 { 0x80 } else { 0 },
                };
                assert_eq!(compress(law, sample), expected, "{law:?} {sample}");
            }
        }
    }

    #[test]
    fn all_octets_give_the_quantised_value_of_the_standard() {
        for law in [Law::A, Law::Mu] {
            let values = decision_values(law);
            for octet in 0..=255u8 {
                let (positive, interval) = match law {
                    Law::A => ((octet ^ 0x55) & 0x80 != 0, (octet ^ 0x55) & 0x7F),
                    Law::Mu => (octet & 0x80 != 0, 0x7F - (octet & 0x7F)),
                };
                let interval = usize::from(interval);
                // y0 of µ-law is 0; everything else sits in the middle of its interval.
                let middle = match (law, interval) {
                    (Law::Mu, 0) => 0,
                    _ => (values[interval] + values[interval + 1]) / 2,
                };
                let expected = if positive { middle } else { -middle };
                assert_eq!(i32::from(expand(law, octet)), expected, "{law:?} {octet:#x}");
                if (law, octet) != (Law::Mu, 0x7F) {
                    assert_eq!(compress(law, expand(law, octet)), octet, "{law:?} {octet:#x}");
                }
            }
            assert_eq!(expand(law, law.silence()).unsigned_abs(), if law == Law::A { 8 } else { 0 });
        }
    }

    #[test]
    fn a_sine_keeps_its_signal_to_noise_ratio_over_30_db_of_level() {
        for law in [Law::A, Law::Mu] {
            for level in [1.0, 0.3, 0.1, 0.03] {
                let (mut signal, mut noise) = (0.0, 0.0);
                for n in 0..8000 {
                    let x = (32_000.0 * level * (f64::from(n) * 0.731).sin()) as i16;
                    let y = expand(law, compress(law, x));
                    signal += f64::from(x).powi(2);
                    noise += (f64::from(x) - f64::from(y)).powi(2);
                }
                let ratio = 10.0 * (signal / noise).log10();
                assert!(ratio > 34.0, "{law:?} at {level}: {ratio} dB");
            }
        }
    }
}

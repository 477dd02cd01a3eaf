//! Opus (RFC 6716) as it is used for calls (RFC 7587): voice, mono, with redundancy in band.
//!
//! The coding itself is libopus'. Our side may run at 8, 16, 24 or 48 kHz; the network's clock is 48 kHz
//! always.

use ::opus::{Application, Bitrate, Channels, Signal, packet};

use super::codec::{CodecError, Decoder, Encoder, MAX_PAYLOAD, Parameters};

/// The longest packet that is made: 60 ms at 200 kbit/s has 1500 octets.
const MAX_MADE: usize = 1500;
/// Longest duration of a packet, in milliseconds (RFC 6716 §2).
const LONGEST_MS: usize = 120;

struct OpusEncoder {
    encoder: ::opus::Encoder,
    parameters: Parameters,
}

impl OpusEncoder {
    fn set_up(&mut self) -> Result<(), ::opus::Error> {
        self.encoder.set_bitrate(Bitrate::Bits(self.parameters.bitrate.clamp(6_000, 200_000) as i32))?;
        self.encoder.set_complexity(i32::from(self.parameters.complexity.min(10)))?;
        self.encoder.set_signal(Signal::Voice)?;
        self.encoder.set_inband_fec(self.parameters.fec)?;
        self.encoder.set_packet_loss_perc(i32::from(self.parameters.loss_percent.min(100)))?;
        self.encoder.set_dtx(self.parameters.dtx)
    }
}

impl Encoder for OpusEncoder {
    fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        // The library checks the length against the lengths that Opus has.
        let start = out.len();
        out.resize(start + MAX_MADE, 0);
        let made = self.encoder.encode(pcm, &mut out[start..]).unwrap_or(0);
        out.truncate(start + made);
    }

    fn expect_loss(&mut self, percent: u8) {
        if percent != self.parameters.loss_percent {
            self.parameters.loss_percent = percent;
            // Refused only outside 0 to 100.
            let _ = self.encoder.set_packet_loss_perc(i32::from(percent.min(100)));
        }
    }

    fn reset(&mut self) {
        // It fails for no state that exists; a stream that is not reset decodes all the same.
        let _ = self.encoder.reset_state();
    }
}

struct OpusDecoder {
    decoder: ::opus::Decoder,
    rate: u32,
}

impl OpusDecoder {
    fn step(&self) -> usize {
        self.rate as usize / 400
    }

    /// Decodes into `samples` more of `pcm`; what the decoder did not fill is cut off.
    fn run(&mut self, payload: &[u8], samples: usize, fec: bool, pcm: &mut Vec<i16>) -> Result<usize, ()> {
        let start = pcm.len();
        pcm.resize(start + samples, 0);
        let made = self.decoder.decode(payload, &mut pcm[start..], fec).map_err(|_| ());
        pcm.truncate(start + made.unwrap_or(0));
        made
    }
}

impl Decoder for OpusDecoder {
    fn sample_rate(&self) -> u32 {
        self.rate
    }

    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(CodecError::TooLong(payload.len()));
        }
        let samples = self.samples(payload).ok_or(CodecError::Malformed("opus"))?;
        self.run(payload, samples, false, pcm).map_err(|()| CodecError::Malformed("opus"))?;
        Ok(())
    }

    fn decode_fec(&mut self, next_payload: &[u8], samples: usize, pcm: &mut Vec<i16>) -> bool {
        let longest = self.rate as usize * LONGEST_MS / 1000;
        let whole = samples > 0 && samples.is_multiple_of(self.step()) && samples <= longest;
        if whole && self.has_fec(next_payload) {
            let start = pcm.len();
            if self.run(next_payload, samples, true, pcm) == Ok(samples) {
                return true;
            }
            pcm.truncate(start);
        }
        self.conceal(samples, pcm);
        false
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        has_redundancy(payload)
    }

    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) {
        let end = pcm.len() + samples;
        let longest = self.rate as usize * LONGEST_MS / 1000;
        let made = samples.min(longest).next_multiple_of(self.step());
        if made > 0 {
            // It fails only when memory does; silence is what remains then.
            let _ = self.run(&[], made, false, pcm);
        }
        pcm.resize(end, 0);
    }

    fn samples(&self, payload: &[u8]) -> Option<usize> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return None;
        }
        let samples = packet::get_nb_samples(payload, self.rate).ok()?;
        (samples > 0 && samples <= self.rate as usize * LONGEST_MS / 1000).then_some(samples)
    }

    fn reset(&mut self) {
        // As for the encoder.
        let _ = self.decoder.reset_state();
    }
}

/// Whether a packet carries a low-rate copy of the one before it (RFC 6716 §4.2.3 and §4.2.4: the flag behind
/// the voice-activity flags of the SILK layer).
pub fn has_redundancy(payload: &[u8]) -> bool {
    let Some((&toc, rest)) = payload.split_first() else { return false };
    // Configurations 16 to 31 are CELT alone, which has none.
    if payload.len() > MAX_PAYLOAD || toc & 0x80 != 0 {
        return false;
    }
    let Some(first) = first_octet(toc & 3, rest) else { return false };
    let silk_frames = match (toc & 0x60 == 0x60, (toc >> 3) & 3) {
        // Hybrid frames last 10 or 20 ms, SILK ones 10, 20, 40 or 60.
        (true, _) | (false, 0 | 1) => 1,
        (false, 2) => 2,
        (false, _) => 3,
    };
    (first >> (7 - silk_frames)) & 1 == 1
}

/// The first octet of the first frame behind the octet that describes the packet (RFC 6716 §3.2), if it has
/// any.
fn first_octet(code: u8, rest: &[u8]) -> Option<u8> {
    let (length, frames) = match code {
        0 => (rest.len(), rest),
        1 => (rest.len() / 2, rest),
        2 => frame_length(rest)?,
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            let mut padding = 0;
            let mut more = if count & 0x40 != 0 { 255 } else { 0 };
            while more == 255 {
                (more, rest) = rest.split_first().map(|(&more, rest)| (more, rest))?;
                padding += usize::from(more.min(254));
            }
            let frames = usize::from(count & 0x3F);
            let (mut first, mut sound) = (None, rest);
            if count & 0x80 != 0 {
                for _ in 1..frames {
                    let (length, after) = frame_length(sound)?;
                    first.get_or_insert(length);
                    sound = after;
                }
            }
            let all = sound.len().checked_sub(padding)?;
            (first.unwrap_or(all.checked_div(frames)?), sound)
        }
    };
    if length == 0 { None } else { frames.first().copied() }
}

/// A length of a frame and what comes after it.
fn frame_length(octets: &[u8]) -> Option<(usize, &[u8])> {
    let (&low, rest) = octets.split_first()?;
    if low < 252 {
        return Some((usize::from(low), rest));
    }
    let (&high, rest) = rest.split_first()?;
    Some((usize::from(high) * 4 + usize::from(low), rest))
}

/// The encoder of the Opus row.
pub(super) fn encoder(parameters: &Parameters) -> Result<Box<dyn Encoder>, CodecError> {
    let encoder = ::opus::Encoder::new(parameters.sample_rate, Channels::Mono, Application::Voip)
        .map_err(|_| CodecError::Unsupported { codec: "opus", what: "such sample rate" })?;
    let mut encoder = OpusEncoder { encoder, parameters: *parameters };
    encoder.set_up().map_err(|_| CodecError::Unsupported { codec: "opus", what: "such setting" })?;
    Ok(Box::new(encoder))
}

/// The decoder of the Opus row.
pub(super) fn decoder(parameters: &Parameters) -> Result<Box<dyn Decoder>, CodecError> {
    let decoder = ::opus::Decoder::new(parameters.sample_rate, Channels::Mono)
        .map_err(|_| CodecError::Unsupported { codec: "opus", what: "such sample rate" })?;
    Ok(Box::new(OpusDecoder { decoder, rate: parameters.sample_rate }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::codec::Codec;
    use crate::audio::similarity::{segmental_snr, similarity};
    use crate::audio::speech::Speech;

    fn parameters(rate: u32) -> Parameters {
        let codec = Codec::by_name("opus").unwrap();
        Parameters { sample_rate: rate, loss_percent: 20, bitrate: 32_000, ..Parameters::of(codec) }
    }

    fn speech(rate: u32, seconds: usize) -> Vec<i16> {
        let mut pcm = vec![0; rate as usize * seconds];
        Speech::new(12, rate).fill(&mut pcm);
        pcm
    }

    /// Encodes speech in frames of 20 ms and loses every tenth packet; what remains of the frame that was
    /// lost, as played by `bridge`, and the same frames as they would have been without loss.
    fn lose(rate: u32, fec: bool) -> (f64, usize) {
        let input = speech(rate, 8);
        let frame = rate as usize / 50;
        let mut encoder = encoder(&Parameters { fec, ..parameters(rate) }).unwrap();
        let packets: Vec<Vec<u8>> = input
            .chunks(frame)
            .map(|pcm| {
                let mut payload = Vec::new();
                encoder.encode(pcm, &mut payload);
                payload
            })
            .collect();
        let mut whole = decoder(&parameters(rate)).unwrap();
        let mut holed = decoder(&parameters(rate)).unwrap();
        let (mut wanted, mut got, mut rebuilt) = (Vec::new(), Vec::new(), 0);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (number, payload) in packets.iter().enumerate() {
            a.clear();
            b.clear();
            whole.decode(payload, &mut a).unwrap();
            if number % 10 == 5 {
                let next = &packets[number + 1];
                rebuilt += usize::from(holed.decode_fec(next, frame, &mut b));
                wanted.extend_from_slice(&a);
                got.extend_from_slice(&b);
            } else {
                holed.decode(payload, &mut b).unwrap();
            }
            assert_eq!(b.len(), frame);
        }
        (segmental_snr(&wanted, &got, rate), rebuilt)
    }

    #[test]
    fn redundancy_rebuilds_what_was_lost_better_than_concealment() {
        for rate in [16_000, 48_000] {
            let (with, rebuilt) = lose(rate, true);
            let (without, none) = lose(rate, false);
            println!("{rate} Hz: {with:.1} dB with redundancy ({rebuilt} of 40), {without:.1} dB without");
            assert!(rebuilt > 10, "{rebuilt}");
            assert_eq!(none, 0);
            assert!(with > without + 1.5, "{with} {without}");
        }
    }

    #[test]
    fn speech_is_recognised_after_coding_at_every_rate() {
        for rate in [8_000, 16_000, 24_000, 48_000] {
            let input = speech(rate, 4);
            let mut encoder = encoder(&parameters(rate)).unwrap();
            let mut decoder = decoder(&parameters(rate)).unwrap();
            let (mut payload, mut output) = (Vec::new(), Vec::new());
            for frame in input.chunks(rate as usize / 50) {
                payload.clear();
                encoder.encode(frame, &mut payload);
                assert!(payload.len() < 300);
                decoder.decode(&payload, &mut output).unwrap();
            }
            let found = similarity(&input, &output, rate, rate as usize / 20).unwrap();
            println!("{rate}: {found:?}");
            assert!(found.correlation > 0.8, "{rate}: {found:?}");
        }
    }

    #[test]
    fn wrong_lengths_make_no_packet_and_concealment_has_any_length() {
        let mut encoder = encoder(&parameters(48_000)).unwrap();
        let mut payload = vec![1];
        encoder.encode(&[0; 961], &mut payload);
        assert_eq!(payload, [1]);
        let mut decoder = decoder(&parameters(16_000)).unwrap();
        for samples in [0, 1, 40, 161, 1920, 5000] {
            let mut pcm = vec![7];
            decoder.conceal(samples, &mut pcm);
            assert_eq!(pcm.len(), samples + 1);
            assert_eq!(pcm[0], 7);
        }
        assert!(super::encoder(&parameters(11_025)).is_err());
        assert!(super::decoder(&parameters(11_025)).is_err());
    }

    #[test]
    fn the_first_frame_is_found_in_every_kind_of_packet_as_the_library_finds_it() {
        let mut chance = crate::chance::Chance::from_number(2);
        let mut valid = 0;
        for round in 0..20_000u32 {
            let mut payload = vec![0; 1 + chance.below(40) as usize];
            chance.fill(&mut payload);
            payload[0] = (payload[0] & 0xFC) | (round & 3) as u8;
            if round & 3 == 3 && payload.len() > 3 {
                payload[1] = (payload[1] & 0xC0) | (payload[1] & 3);
                payload[2] &= 7;
            }
            if let Ok(parsed) = packet::parse(&payload) {
                valid += 1;
                let expected = parsed.frames.first().and_then(|frame| frame.first()).copied();
                assert_eq!(first_octet(payload[0] & 3, &payload[1..]), expected, "{payload:02x?}");
            }
        }
        assert!(valid > 5000, "{valid}");
    }

    #[test]
    fn dtx_makes_silence_nearly_free() {
        let mut encoder = encoder(&Parameters { dtx: true, ..parameters(16_000) }).unwrap();
        let mut small = 0;
        for _ in 0..100 {
            let mut payload = Vec::new();
            encoder.encode(&[0; 320], &mut payload);
            small += usize::from(payload.len() <= 2);
        }
        assert!(small > 50, "{small}");
    }
}

//! The list of codecs and what every codec can do.
//!
//! Adding a codec is one file with an [`Encoder`] and a [`Decoder`] and one row in [`CODECS`]. The names,
//! payload types and clock rates are those of RFC 3551 and RFC 7587; that they end up in SDP and RTP is not
//! known here.

use super::{g711, g722, opus};

/// What a payload longer than this is taken for: not speech. It holds 500 ms of G.711 and three of Opus'
/// longest packets.
pub const MAX_PAYLOAD: usize = 4096;

/// Why a codec refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The payload is longer than any packet of speech; the sender is at fault. Drop it and conceal.
    #[error("the payload of {0} bytes is longer than {MAX_PAYLOAD}: drop the packet and conceal")]
    TooLong(usize),
    /// The payload isn't what the codec's name promises; the sender is at fault. Drop it and conceal.
    #[error("the payload is not valid {0}: drop the packet and conceal")]
    Malformed(&'static str),
    /// The codec was asked for a rate or a setting it does not have; the caller is at fault.
    #[error("{codec} has no {what}: choose another in the caller")]
    Unsupported {
        /// Name of the codec.
        codec: &'static str,
        /// The missing rate or setting.
        what: &'static str,
    },
}

/// Turns samples into payloads, one object per stream.
pub trait Encoder: Send {
    /// Encodes one frame of samples at the stream's sample rate and appends its payload to `out`.
    ///
    /// G.711 takes any length and G.722 any even one. Opus takes 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms
    /// and appends nothing for another length. An Opus payload of two bytes or less need not be sent while
    /// DTX is on.
    fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>);

    /// The share of packets the far end loses (0 to 100), as its receiver reports say. Only Opus has use for
    /// it.
    fn expect_loss(&mut self, percent: u8) {
        let _ = percent;
    }

    /// Forgets the past, as for a new stream.
    fn reset(&mut self);
}

/// Turns payloads into samples, one object per stream; also bridges what was lost.
pub trait Decoder: Send {
    /// The rate of the samples that come out, in hertz.
    fn sample_rate(&self) -> u32;

    /// Decodes one payload and appends its samples to `pcm`. After a gap the seam is smoothed.
    ///
    /// # Errors
    /// The payload is too long or malformed; nothing is appended then, and the stream goes on with the next
    /// one.
    fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError>;

    /// Rebuilds a lost frame of `samples` from the redundancy which the payload after it carries, and appends
    /// it to `pcm`; where there is none, the frame is concealed. `false` says that it was concealed. The
    /// payload itself is to be decoded afterwards as usual.
    fn decode_fec(&mut self, next_payload: &[u8], samples: usize, pcm: &mut Vec<i16>) -> bool {
        let _ = next_payload;
        self.conceal(samples, pcm);
        false
    }

    /// Whether this payload can rebuild the frame before it.
    fn has_fec(&self, payload: &[u8]) -> bool {
        let _ = payload;
        false
    }

    /// Appends `samples` (at most 120 ms are made at once) that go on from what was decoded last and fade
    /// away.
    fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>);

    /// How many samples `decode` appends for this payload unless it refuses; `None` if it is sure to.
    fn samples(&self, payload: &[u8]) -> Option<usize>;

    /// Forgets the past, as for a new stream.
    fn reset(&mut self);
}

/// How an encoder or a decoder is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Rate of the samples on our side in hertz; must be one of the codec's `sample_rates`.
    pub sample_rate: u32,
    /// Bits per second, for codecs that have a choice.
    pub bitrate: u32,
    /// Effort of the encoder, 0 to 10, for codecs that have a choice.
    pub complexity: u8,
    /// Whether packets carry redundancy for the one before.
    pub fec: bool,
    /// Expected loss in percent when the stream starts.
    pub loss_percent: u8,
    /// Whether silence may be left out of the stream.
    pub dtx: bool,
}

impl Parameters {
    /// What a call starts with: the codec's own rate, 24 kbit/s, complexity 5, redundancy for 5 % of loss, no
    /// DTX.
    pub fn of(codec: &Codec) -> Parameters {
        Parameters {
            sample_rate: codec.sample_rate,
            bitrate: 24_000,
            complexity: 5,
            fec: true,
            loss_percent: 5,
            dtx: false,
        }
    }
}

/// One row of the table of codecs.
#[derive(Debug)]
pub struct Codec {
    /// Name of the encoding as SDP writes it; compared without case.
    pub name: &'static str,
    /// The payload type of RFC 3551 §6, if it has a fixed one.
    pub payload_type: Option<u8>,
    /// Rate of the RTP time stamp in hertz. For G.722 it is 8000 by decree (RFC 3551 §4.5.2).
    pub clock_rate: u32,
    /// Channels as SDP writes them; Opus says 2 always (RFC 7587 §7).
    pub channels: u8,
    /// The rate of samples that is used unless another is asked for, in hertz.
    pub sample_rate: u32,
    /// Every rate that samples may have, in hertz.
    pub sample_rates: &'static [u32],
    /// Length of a packet in milliseconds unless agreed otherwise.
    pub ptime_ms: u32,
    /// Packet lengths in milliseconds that the encoder can make.
    pub ptimes_ms: &'static [u32],
    /// The format parameters we offer, if any.
    pub fmtp: Option<&'static str>,
    /// Whether the speech is wider than 300–3400 Hz, which decides the scale of its MOS.
    pub wideband: bool,
    /// Makes an encoder.
    pub encoder: fn(&Parameters) -> Result<Box<dyn Encoder>, CodecError>,
    /// Makes a decoder.
    pub decoder: fn(&Parameters) -> Result<Box<dyn Decoder>, CodecError>,
}

impl PartialEq for Codec {
    fn eq(&self, other: &Codec) -> bool {
        self.name == other.name
    }
}

impl Eq for Codec {}

const ANY_PTIME: &[u32] = &[10, 20, 30, 40, 50, 60];

/// Every codec there is, the best first.
pub static CODECS: [Codec; 4] = [
    Codec {
        name: "opus",
        payload_type: None,
        clock_rate: 48_000,
        channels: 2,
        sample_rate: 48_000,
        sample_rates: &[48_000, 24_000, 16_000, 8_000],
        ptime_ms: 20,
        ptimes_ms: &[10, 20, 40, 60],
        fmtp: Some("useinbandfec=1"),
        wideband: true,
        encoder: opus::encoder,
        decoder: opus::decoder,
    },
    Codec {
        name: "G722",
        payload_type: Some(9),
        clock_rate: 8_000,
        channels: 1,
        sample_rate: 16_000,
        sample_rates: &[16_000],
        ptime_ms: 20,
        ptimes_ms: ANY_PTIME,
        fmtp: None,
        wideband: true,
        encoder: g722::encoder,
        decoder: g722::decoder,
    },
    Codec {
        name: "PCMA",
        payload_type: Some(8),
        clock_rate: 8_000,
        channels: 1,
        sample_rate: 8_000,
        sample_rates: &[8_000],
        ptime_ms: 20,
        ptimes_ms: ANY_PTIME,
        fmtp: None,
        wideband: false,
        encoder: g711::a_law_encoder,
        decoder: g711::a_law_decoder,
    },
    Codec {
        name: "PCMU",
        payload_type: Some(0),
        clock_rate: 8_000,
        channels: 1,
        sample_rate: 8_000,
        sample_rates: &[8_000],
        ptime_ms: 20,
        ptimes_ms: ANY_PTIME,
        fmtp: None,
        wideband: false,
        encoder: g711::mu_law_encoder,
        decoder: g711::mu_law_decoder,
    },
];

impl Codec {
    /// The codec of this name, whatever its case.
    pub fn by_name(name: &str) -> Option<&'static Codec> {
        CODECS.iter().find(|codec| codec.name.eq_ignore_ascii_case(name))
    }

    /// The codec with this fixed payload type.
    pub fn by_payload_type(payload_type: u8) -> Option<&'static Codec> {
        CODECS.iter().find(|codec| codec.payload_type == Some(payload_type))
    }

    /// Ticks of the RTP time stamp that `samples` at `sample_rate` take.
    pub fn ticks(&self, samples: usize, sample_rate: u32) -> u32 {
        (samples as u64 * u64::from(self.clock_rate) / u64::from(sample_rate.max(1))) as u32
    }

    /// Samples at `sample_rate` that pass in `ticks` of the RTP time stamp.
    pub fn samples(&self, ticks: u32, sample_rate: u32) -> usize {
        (u64::from(ticks) * u64::from(sample_rate) / u64::from(self.clock_rate)) as usize
    }

    /// The packet length in milliseconds to send when the far end wishes `ptime_ms`: the longest we can make
    /// that is not longer, else our shortest.
    pub fn ptime(&self, ptime_ms: u32) -> u32 {
        let shortest = self.ptimes_ms.first().copied().unwrap_or(self.ptime_ms);
        self.ptimes_ms.iter().copied().filter(|&length| length <= ptime_ms).max().unwrap_or(shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_makes_a_pair_that_carries_sound_at_all_its_rates_and_lengths() {
        for codec in &CODECS {
            for &sample_rate in codec.sample_rates {
                for &ptime in codec.ptimes_ms {
                    let parameters = Parameters { sample_rate, ..Parameters::of(codec) };
                    let mut encoder = (codec.encoder)(&parameters).unwrap();
                    let mut decoder = (codec.decoder)(&parameters).unwrap();
                    assert_eq!(decoder.sample_rate(), sample_rate);
                    let samples = (sample_rate * ptime / 1000) as usize;
                    let mut speech = super::super::speech::Speech::new(7, sample_rate);
                    let (mut payload, mut pcm, mut input) = (Vec::new(), Vec::new(), vec![0; samples]);
                    let (mut power_in, mut power_out) = (0.0, 0.0);
                    for _ in 0..(3000 / ptime) {
                        speech.fill(&mut input);
                        payload.clear();
                        pcm.clear();
                        encoder.encode(&input, &mut payload);
                        assert_eq!(decoder.samples(&payload), Some(samples), "{} {ptime}", codec.name);
                        decoder.decode(&payload, &mut pcm).unwrap();
                        assert_eq!(pcm.len(), samples, "{} {ptime}", codec.name);
                        power_in += input.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
                        power_out += pcm.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
                    }
                    let ratio = power_out / power_in;
                    assert!((0.8..1.25).contains(&ratio), "{} {sample_rate} {ptime}: {ratio}", codec.name);
                }
            }
        }
    }

    #[test]
    fn names_numbers_and_clocks() {
        assert_eq!(Codec::by_name("pcma").map(|c| c.payload_type), Some(Some(8)));
        assert_eq!(Codec::by_payload_type(9).map(|c| c.name), Some("G722"));
        assert!(Codec::by_name("G729").is_none());
        let g722 = Codec::by_name("g722").unwrap();
        assert_eq!(g722.ticks(320, 16_000), 160);
        assert_eq!(g722.samples(160, 16_000), 320);
        let opus = Codec::by_name("opus").unwrap();
        assert_eq!(opus.ticks(320, 16_000), 960);
        assert_eq!(opus.ptime(30), 20);
        assert_eq!(opus.ptime(5), 10);
        assert_eq!(g722.ptime(35), 30);
    }

    #[test]
    fn no_payload_harms_a_decoder() {
        let mut noise = crate::chance::Chance::from_number(11);
        let mut pcm = Vec::new();
        for codec in &CODECS {
            let mut decoder = (codec.decoder)(&Parameters::of(codec)).unwrap();
            let longest = vec![0x55; MAX_PAYLOAD + 1];
            assert_eq!(decoder.decode(&longest, &mut pcm), Err(CodecError::TooLong(MAX_PAYLOAD + 1)));
            for round in 0..400 {
                let mut payload = vec![0; noise.below(if round % 10 == 0 { 4096 } else { 200 }) as usize];
                noise.fill(&mut payload);
                pcm.clear();
                let promised = decoder.samples(&payload);
                match decoder.decode(&payload, &mut pcm) {
                    Ok(()) => assert_eq!(promised, Some(pcm.len())),
                    Err(_) => assert!(pcm.is_empty()),
                }
                pcm.clear();
                decoder.decode_fec(&payload, 160, &mut pcm);
                assert_eq!(pcm.len(), 160);
                pcm.clear();
                decoder.conceal(noise.below(1000) as usize, &mut pcm);
            }
        }
    }
}

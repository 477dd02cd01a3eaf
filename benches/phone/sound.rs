//! What is said in the calls that are measured: speech-like sound made from a seed, as WAV files for the programs and as
//! payloads for the far end.

use std::fs::File;
use std::path::Path;

use tipring::audio::codec::{Codec, Parameters};
use tipring::audio::resample::Resampler;
use tipring::audio::similarity::{Similarity, similarity};
use tipring::audio::speech::Speech;
use tipring::audio::wav::WavWriter;

/// The rate at which both programs send Opus: the far end asks for wide band.
pub const WIDE: u32 = 16_000;
/// What Opus is asked for, in bits per second.
pub const BITRATE: u32 = 24_000;
/// The dynamic payload type of Opus.
const OPUS: u8 = 96;

/// What the far end sends: packets of 20 ms, again and again.
pub struct Payloads {
    /// The payload type.
    pub number: u8,
    /// Ticks of the RTP clock per packet.
    pub ticks: u32,
    /// One after the other.
    pub packets: Vec<Vec<u8>>,
}

/// So many seconds of speech.
pub fn speech(seed: u64, rate: u32, seconds: u32) -> Vec<i16> {
    let mut pcm = vec![0; (rate * seconds) as usize];
    Speech::new(seed, rate).fill(&mut pcm);
    pcm
}

/// Writes samples at `rate` as a WAV file of `file_rate`.
pub fn write_wav(path: &Path, pcm: &[i16], rate: u32, file_rate: u32) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut samples = pcm.to_vec();
    if rate != file_rate {
        let mut resampler = Resampler::new(rate, file_rate).map_err(|error| failed(&error))?;
        samples.clear();
        resampler.process(pcm, &mut samples);
    }
    let file = File::create(path).map_err(|error| failed(&error))?;
    let mut writer = WavWriter::new(file, file_rate, 1).map_err(|error| failed(&error))?;
    writer.write(&samples).map_err(|error| failed(&error))?;
    writer.finish().map(drop).map_err(|error| failed(&error))
}

/// Packets of a codec.
pub fn payloads(codec: &str, seed: u64) -> Result<Payloads, String> {
    let codec = Codec::by_name(codec).ok_or_else(|| format!("there is no codec {codec}"))?;
    let rate = if codec.payload_type.is_some() { codec.sample_rate } else { WIDE };
    let parameters = Parameters { sample_rate: rate, bitrate: BITRATE, ..Parameters::of(codec) };
    let mut encoder = (codec.encoder)(&parameters).map_err(|error| error.to_string())?;
    let pcm = speech(seed, rate, 10);
    let packets = pcm.chunks_exact(rate as usize / 50).map(|frame| {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet);
        packet
    });
    Ok(Payloads {
        number: codec.payload_type.unwrap_or(OPUS),
        ticks: codec.clock_rate / 50,
        packets: packets.collect(),
    })
}

/// The SDP that offers one codec on this port.
pub fn offer(codec: &str, port: u16) -> String {
    let (number, map) = match codec {
        "opus" => (
            OPUS,
            format!(
                "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} maxplaybackrate={WIDE};sprop-maxcapturerate={WIDE};\
                 maxaveragebitrate={BITRATE};stereo=0;sprop-stereo=0;useinbandfec=1\r\n"
            ),
        ),
        _ => (8, "a=rtpmap:8 PCMA/8000\r\n".to_owned()),
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {number} 101\r\n\
         {map}a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

/// How much of what was said came out of these Opus packets, and their mean bit rate.
pub fn quality(said: &[i16], packets: &[Vec<u8>]) -> Result<(Similarity, f64), String> {
    let codec = Codec::by_name("opus").ok_or("there is no codec opus")?;
    let parameters = Parameters { sample_rate: WIDE, ..Parameters::of(codec) };
    let mut decoder = (codec.decoder)(&parameters).map_err(|error| error.to_string())?;
    let mut heard = Vec::new();
    for packet in packets {
        decoder.decode(packet, &mut heard).map_err(|error| error.to_string())?;
    }
    let bytes: usize = packets.iter().map(Vec::len).sum();
    let rate = bytes as f64 * 8.0 * 50.0 / packets.len().max(1) as f64;
    let found = similarity(said, &heard, WIDE, WIDE as usize).ok_or("what was said did not come back")?;
    Ok((found, rate))
}

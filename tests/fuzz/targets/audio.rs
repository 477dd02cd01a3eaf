//! What `audio/` reads from outside: payloads and WAV files.

use super::Target;
use std::io::Cursor;
use tipring::audio::codec::{Codec, Decoder, MAX_PAYLOAD, Parameters};
use tipring::audio::comfort::{Description, Generator, MAX_ORDER};
use tipring::audio::wav;

pub const TARGETS: &[Target] = &[
    Target { name: "audio_wav", run: wav_file, seeds: FILES, dictionary: WORDS },
    Target { name: "audio_comfort", run: comfort, seeds: NOISES, dictionary: &[] },
    Target { name: "audio_pcma", run: pcma, seeds: PAYLOADS, dictionary: &[] },
    Target { name: "audio_pcmu", run: pcmu, seeds: PAYLOADS, dictionary: &[] },
    Target { name: "audio_g722", run: g722, seeds: PAYLOADS, dictionary: &[] },
    Target { name: "audio_opus", run: opus, seeds: OPUS, dictionary: &[] },
];

/// No more samples than octets can hold, whatever the head says.
fn wav_file(octets: &[u8]) {
    if let Ok((pcm, rate)) = wav::read_all(Cursor::new(octets), 1_000_000) {
        assert!(pcm.len() <= octets.len());
        assert!((4_000..=192_000).contains(&rate));
    }
}

/// A description can be written and read back, and its noise goes silent when it is told to.
fn comfort(octets: &[u8]) {
    let Some(description) = Description::parse(octets) else {
        assert!(octets.is_empty());
        return;
    };
    assert!(description.order <= MAX_ORDER);
    let mut written = Vec::new();
    description.write(&mut written);
    assert_eq!(Description::parse(&written).map(|read| read.level), Some(description.level));
    let mut generator = Generator::new(1);
    generator.describe(&description);
    let mut pcm = [0; 240];
    generator.fill(&mut pcm);
    generator.describe(&Description::white(127));
    (0..8).for_each(|_| generator.fill(&mut pcm));
    assert!(pcm.iter().all(|sample| sample.unsigned_abs() < 200));
}

/// A decoder gives what it promised or refuses, bridges any gap, and goes on.
fn decode(name: &str, octets: &[u8]) {
    let codec = Codec::by_name(name).expect("a row of the table");
    let parameters = Parameters { sample_rate: codec.sample_rate.min(16_000), ..Parameters::of(codec) };
    let mut decoder: Box<dyn Decoder> = (codec.decoder)(&parameters).expect("a decoder");
    let mut pcm = Vec::new();
    let promised = decoder.samples(octets);
    match decoder.decode(octets, &mut pcm) {
        Ok(()) => assert_eq!(promised, Some(pcm.len())),
        Err(_) => assert!(pcm.is_empty()),
    }
    assert!(octets.len() <= MAX_PAYLOAD || promised.is_none());
    // Looking for the pitch is slow where nothing is optimised: not each time.
    if octets.len().is_multiple_of(4) {
        pcm.clear();
        let lost = 80 + octets.len() % 81;
        decoder.decode_fec(octets, lost, &mut pcm);
        assert_eq!(pcm.len(), lost);
    }
    pcm.clear();
    if decoder.decode(octets, &mut pcm).is_ok() {
        assert_eq!(promised, Some(pcm.len()));
    }
}

fn pcma(octets: &[u8]) {
    decode("PCMA", octets);
}

fn pcmu(octets: &[u8]) {
    decode("PCMU", octets);
}

fn g722(octets: &[u8]) {
    decode("G722", octets);
}

fn opus(octets: &[u8]) {
    decode("opus", octets);
}

const FILES: &[&[u8]] = &[
    b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x08\0\0\0\x01\0\x02\0\x03\0\x04\0",
    b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x12\0\0\0\x06\0\x02\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x08\0\0\0data\0\0\0\0\xd5\xd5\x55\x55",
    b"RIFF\0\0\0\0WAVEfmt \x28\0\0\0\xfe\xff\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\x16\0\x08\0\x04\0\0\0\x07\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71data\xff\xff\xff\xff\xff\x80\x7f\0",
];
const WORDS: &[&[u8]] =
    &[b"RIFF", b"WAVE", b"fmt ", b"data", b"LIST", b"fact", b"\xff\xff\xff\xff", b"\xfe\xff", b"\0\0\0\0"];
const NOISES: &[&[u8]] =
    &[b"\x28", b"\x40\x30\x90\x7f\x80", b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"];
const PAYLOADS: &[&[u8]] = &[&[0xD5; 160], &[0x00; 80], b"\x12\x98\xfe\x33\x71\x80\x7f\xaa\x55"];
/// One frame of each mode of Opus: SILK, hybrid, CELT; two frames; many with padding; silence.
const OPUS: &[&[u8]] = &[
    b"\x08\x4b\xe4\xe3\x22\x08\x58\x0f\x12\x93\x1a\x60\x6b\xf5\x8c\x03\x11",
    b"\x78\xc0\x72\x1f\x5a\x00\x91\xee\x44\x32\x18\x29\x77\x01\xf0\x8b",
    b"\xf8\xff\xfe",
    b"\x09\x80\x11\x22\x33\x44\x55\x66\x77",
    b"\x0b\x43\x02\x10\x20\x30\x40\x50\x60\0\0",
    b"\x0a\x02\x80\x11\x90\x22",
    b"\x08",
];

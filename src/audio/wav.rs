//! WAV files (RIFF/WAVE) over anything that reads or writes.
//!
//! Read: PCM of 8 and 16 bits, A-law and µ-law, one or two channels, plain or "extensible". Written: PCM of
//! 16 bits. No size in a file is believed: data end where the bytes end, and a recording that was cut off can
//! be read up to there.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};

use super::g711::{self, Law};

/// Octets of the header that is written.
pub const HEADER: usize = 44;
/// Chunks and octets that may stand before the sound.
const MAX_CHUNKS: usize = 64;
const MAX_SKIPPED: u64 = 1 << 20;
/// Sound is read in pieces of this many octets.
const PIECE: usize = 4096;
/// Most octets of sound in a file: sizes have 32 bits.
const MAX_DATA: u64 = u32::MAX as u64 - 64;

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// It could not be read or written.
    #[error("the WAV file cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// It isn't a WAV file, or its head is broken; the file is at fault.
    #[error("this is no WAV file: {0}")]
    NotWav(&'static str),
    /// It is a WAV file of a kind that is not read here; convert it.
    #[error("this WAV file has {0}: convert it to PCM with 16 bits, one channel, 8000 to 48000 Hz")]
    Unsupported(&'static str),
    /// The file holds all it can (4 GiB); begin another.
    #[error("the WAV file is full at 4 GiB: begin another")]
    Full,
}

/// How a file stores samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Unsigned, 8 bits.
    Pcm8,
    /// Signed, 16 bits, little end first.
    Pcm16,
    /// G.711 A-law.
    ALaw,
    /// G.711 µ-law.
    MuLaw,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Samples per second and channel.
    pub rate: u32,
    /// 1 or 2.
    pub channels: u16,
    /// How samples are stored.
    pub storage: Storage,
}

impl Format {
    fn frame(&self) -> usize {
        usize::from(self.channels) * if self.storage == Storage::Pcm16 { 2 } else { 1 }
    }
}

/// Reads a file from front to back.
#[derive(Debug)]
pub struct WavReader<R> {
    source: R,
    format: Format,
    /// Octets of sound that the header promises and that are still to come; `None` if it promises nothing
    /// useful.
    left: Option<u64>,
    piece: Vec<u8>,
}

impl<R: Read> WavReader<R> {
    /// Reads the head, up to the first sound.
    ///
    /// # Errors
    /// The source fails, it isn't a WAV file, or one of a kind that isn't read.
    pub fn new(mut source: R) -> Result<WavReader<R>, WavError> {
        let mut head = [0; 12];
        fill(&mut source, &mut head)?;
        if &head[..4] != b"RIFF" || &head[8..] != b"WAVE" {
            return Err(WavError::NotWav("it does not begin with RIFF and WAVE"));
        }
        let mut format = None;
        let mut skipped = 0;
        for _ in 0..MAX_CHUNKS {
            let mut chunk = [0; 8];
            fill(&mut source, &mut chunk)?;
            let size = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            match (&chunk[..4], format) {
                (b"data", Some(format)) => {
                    // Writers that did not come to the end leave 0 or the largest number.
                    let left = (size != 0 && size < u32::MAX - 63).then_some(u64::from(size));
                    return Ok(WavReader { source, format, left, piece: Vec::with_capacity(PIECE) });
                }
                (b"data", None) => return Err(WavError::NotWav("the sound comes before its format")),
                (b"fmt ", _) => {
                    let mut body = [0; 40];
                    let used = (size as usize).min(body.len());
                    fill(&mut source, &mut body[..used])?;
                    format = Some(read_format(&body[..used])?);
                    skip(&mut source, u64::from(size) - used as u64 + u64::from(size & 1), &mut skipped)?;
                }
                _ => skip(&mut source, u64::from(size) + u64::from(size & 1), &mut skipped)?,
            }
        }
        Err(WavError::NotWav("there is no sound in its first 64 chunks"))
    }

    /// What the file holds.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Samples per channel that are still to come, as the header says; it may say nothing or lie.
    pub fn promised(&self) -> Option<u64> {
        self.left.map(|left| left / self.format.frame() as u64)
    }

    /// The source, for example to wind it back and begin again.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// Appends up to `samples` to `pcm`, the mean of both channels if there are two, and tells how many; 0 is
    /// the end.
    ///
    /// # Errors
    /// The source fails.
    pub fn read(&mut self, samples: usize, pcm: &mut Vec<i16>) -> Result<usize, WavError> {
        let frame = self.format.frame();
        let mut done = 0;
        while done < samples {
            let wanted = (samples - done).saturating_mul(frame).min(PIECE / frame * frame);
            let wanted = self.left.map_or(wanted, |left| wanted.min(usize::try_from(left).unwrap_or(wanted)));
            self.piece.resize(wanted, 0);
            let got = fill_some(&mut self.source, &mut self.piece)?;
            if let Some(left) = &mut self.left {
                *left -= got as u64;
            }
            let frames = self.piece[..got].chunks_exact(frame);
            if frames.len() == 0 {
                break;
            }
            done += frames.len();
            let storage = self.format.storage;
            let sample = move |bytes: &[u8]| -> i32 {
                match (storage, bytes) {
                    (Storage::Pcm8, &[byte, ..]) => (i32::from(byte) - 128) << 8,
                    (Storage::Pcm16, &[low, high, ..]) => i32::from(i16::from_le_bytes([low, high])),
                    (Storage::ALaw, &[byte, ..]) => i32::from(g711::expand(Law::A, byte)),
                    (Storage::MuLaw, &[byte, ..]) => i32::from(g711::expand(Law::Mu, byte)),
                    _ => 0,
                }
            };
            if self.format.channels == 2 {
                pcm.extend(frames.map(|both| {
                    let (left, right) = both.split_at(frame / 2);
                    ((sample(left) + sample(right)) >> 1) as i16
                }));
            } else {
                pcm.extend(frames.map(|one| sample(one) as i16));
            }
        }
        Ok(done)
    }
}

/// Reads a whole file, but at most `limit` samples; `(samples, rate)`.
///
/// # Errors
/// As [`WavReader::new`].
pub fn read_all<R: Read>(source: R, limit: usize) -> Result<(Vec<i16>, u32), WavError> {
    let mut reader = WavReader::new(source)?;
    let mut pcm = Vec::new();
    reader.read(limit, &mut pcm)?;
    Ok((pcm, reader.format().rate))
}

fn read_format(body: &[u8]) -> Result<Format, WavError> {
    let &[
        tag_low,
        tag_high,
        channels_low,
        channels_high,
        r0,
        r1,
        r2,
        r3,
        _,
        _,
        _,
        _,
        _,
        _,
        bits_low,
        bits_high,
        ..,
    ] = body
    else {
        return Err(WavError::NotWav("its format is too short"));
    };
    let mut tag = u16::from_le_bytes([tag_low, tag_high]);
    if tag == 0xFFFE {
        // The extensible form has the tag at the head of a GUID.
        let &[low, high] = body.get(24..26).unwrap_or_default() else {
            return Err(WavError::NotWav("its extensible format is too short"));
        };
        tag = u16::from_le_bytes([low, high]);
    }
    let storage = match (tag, u16::from_le_bytes([bits_low, bits_high])) {
        (1, 8) => Storage::Pcm8,
        (1, 16) => Storage::Pcm16,
        (6, 8) => Storage::ALaw,
        (7, 8) => Storage::MuLaw,
        _ => return Err(WavError::Unsupported("a coding other than PCM of 8 or 16 bits, A-law or µ-law")),
    };
    let channels = u16::from_le_bytes([channels_low, channels_high]);
    if !(1..=2).contains(&channels) {
        return Err(WavError::Unsupported("more than two channels"));
    }
    let rate = u32::from_le_bytes([r0, r1, r2, r3]);
    if !(4_000..=192_000).contains(&rate) {
        return Err(WavError::Unsupported("a rate outside 4000 to 192000 Hz"));
    }
    Ok(Format { rate, channels, storage })
}

/// Reads until `bytes` is full or the source ends.
fn fill_some<R: Read>(source: &mut R, bytes: &mut [u8]) -> Result<usize, WavError> {
    let mut done = 0;
    while done < bytes.len() {
        match source.read(&mut bytes[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn fill<R: Read>(source: &mut R, bytes: &mut [u8]) -> Result<(), WavError> {
    if fill_some(source, bytes)? == bytes.len() {
        Ok(())
    } else {
        Err(WavError::NotWav("it ends before its sound"))
    }
}

fn skip<R: Read>(source: &mut R, mut bytes: u64, skipped: &mut u64) -> Result<(), WavError> {
    *skipped += bytes;
    if *skipped > MAX_SKIPPED {
        return Err(WavError::NotWav("more than a megabyte stands before its sound"));
    }
    let mut waste = [0; 512];
    while bytes > 0 {
        let now = bytes.min(waste.len() as u64) as usize;
        fill(source, &mut waste[..now])?;
        bytes -= now as u64;
    }
    Ok(())
}

/// The header of a file with `data` octets of 16-bit sound. With 0 readers take what is there.
pub fn header(rate: u32, channels: u16, data: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let frame = channels * 2;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"RIFF");
    put(&data.saturating_add(HEADER as u32 - 8).to_le_bytes());
    put(b"WAVEfmt ");
    put(&16u32.to_le_bytes());
    put(&1u16.to_le_bytes());
    put(&channels.to_le_bytes());
    put(&rate.to_le_bytes());
    put(&rate.saturating_mul(u32::from(frame)).to_le_bytes());
    put(&frame.to_le_bytes());
    put(&16u16.to_le_bytes());
    put(b"data");
    put(&data.to_le_bytes());
    header
}

/// The header of a file of `bytes` that was never finished: it tells how many whole frames there are. `None` if `head` is
/// none of [`header`] with no data, or there are none.
pub fn completed(head: &[u8; HEADER], bytes: u64) -> Option<[u8; HEADER]> {
    let format = read_format(&head[20..36]).ok()?;
    if *head != header(format.rate, format.channels, 0) {
        return None;
    }
    let frame = u64::from(format.channels) * 2;
    let data = bytes.checked_sub(HEADER as u64)?.min(MAX_DATA) / frame * frame;
    (data > 0).then(|| header(format.rate, format.channels, data as u32))
}

/// Writes a file of 16-bit sound.
#[derive(Debug)]
pub struct WavWriter<W> {
    sink: W,
    rate: u32,
    channels: u16,
    written: u64,
    bytes: Vec<u8>,
}

impl<W: Write> WavWriter<W> {
    /// Writes a header that promises nothing yet. `channels` is 1 or 2 (left and right take turns).
    ///
    /// # Errors
    /// The sink fails, or the number of channels is another.
    pub fn new(mut sink: W, rate: u32, channels: u16) -> Result<WavWriter<W>, WavError> {
        if !(1..=2).contains(&channels) {
            return Err(WavError::Unsupported("no channel or more than two"));
        }
        sink.write_all(&header(rate, channels, 0))?;
        Ok(WavWriter { sink, rate, channels, written: 0, bytes: Vec::with_capacity(PIECE) })
    }

    /// Writes samples.
    ///
    /// # Errors
    /// The sink fails, or the file is full.
    pub fn write(&mut self, pcm: &[i16]) -> Result<(), WavError> {
        for piece in pcm.chunks(PIECE / 2) {
            self.bytes.clear();
            self.bytes.extend(piece.iter().flat_map(|sample| sample.to_le_bytes()));
            if self.written + self.bytes.len() as u64 > MAX_DATA {
                return Err(WavError::Full);
            }
            self.sink.write_all(&self.bytes)?;
            self.written += self.bytes.len() as u64;
        }
        Ok(())
    }

    /// Samples written so far, all channels together.
    pub fn samples(&self) -> u64 {
        self.written / 2
    }

    /// The sink; its header still says what it said at the last [`WavWriter::patch`].
    pub fn into_inner(self) -> W {
        self.sink
    }
}

impl<W: Write + Seek> WavWriter<W> {
    /// Makes the header tell the present length and goes on at the end. Done now and then, a recording that
    /// is cut off has the right length up to the last time.
    ///
    /// # Errors
    /// The sink fails.
    pub fn patch(&mut self) -> Result<(), WavError> {
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&header(self.rate, self.channels, self.written as u32))?;
        self.sink.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Completes the header and gives the sink back.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self) -> Result<W, WavError> {
        self.patch()?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn wav(tag: u16, channels: u16, bits: u16, size: u32, sound: &[u8], before: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        file.extend_from_slice(before);
        file.extend_from_slice(b"fmt \x10\0\0\0");
        for number in [tag, channels, 8000, 0, 0, 0, 0, bits] {
            file.extend_from_slice(&number.to_le_bytes());
        }
        file.extend_from_slice(b"data");
        file.extend_from_slice(&size.to_le_bytes());
        file.extend_from_slice(sound);
        file
    }

    #[test]
    fn what_is_written_is_read_whole_or_cut() {
        let pcm: Vec<i16> = (0..9000).map(|n| (n * 7 % 65_536 - 32_768) as i16).collect();
        let mut writer = WavWriter::new(Cursor::new(Vec::new()), 16_000, 1).unwrap();
        writer.write(&pcm[..5000]).unwrap();
        writer.patch().unwrap();
        writer.write(&pcm[5000..]).unwrap();
        assert_eq!(writer.samples(), 9000);
        let cut = writer.sink.clone().into_inner();
        let file = writer.finish().unwrap().into_inner();
        assert_eq!(file.len(), HEADER + 18_000);
        let (read, rate) = read_all(Cursor::new(&file), usize::MAX).unwrap();
        assert_eq!((read, rate), (pcm.clone(), 16_000));
        // Cut off: what the last patch promised is there, and a file that was never patched is read to its
        // end.
        let (read, _) = read_all(Cursor::new(&cut), usize::MAX).unwrap();
        assert_eq!(read, pcm[..5000]);
        let mut never = header(8_000, 1, 0).to_vec();
        never.extend_from_slice(&[1, 0, 2, 0, 3]);
        assert_eq!(read_all(Cursor::new(&never), 100).unwrap(), (vec![1, 2], 8_000));
        let (read, _) = read_all(Cursor::new(&file[..HEADER + 101]), 1000).unwrap();
        assert_eq!(read, pcm[..50]);
    }

    #[test]
    fn a_header_without_a_length_is_completed_by_that_of_the_file() {
        let empty = header(16_000, 2, 0);
        assert_eq!(completed(&empty, 44 + 4003), Some(header(16_000, 2, 4000)));
        assert_eq!(completed(&empty, 44 + 3), None, "no frame");
        assert_eq!(completed(&empty, 10), None);
        assert_eq!(completed(&empty, 1 << 40), Some(header(16_000, 2, MAX_DATA as u32 / 4 * 4)));
        assert_eq!(completed(&header(16_000, 2, 8), 4044), None, "it has a length");
        assert_eq!(completed(&[0; HEADER], 4044), None);
    }

    #[test]
    fn other_codings_and_two_channels_become_16_bit_mono() {
        let read = |file: &[u8]| read_all(Cursor::new(file), 100).unwrap().0;
        assert_eq!(read(&wav(1, 1, 8, 3, &[0, 128, 255, 9], b"")), [-32_768, 0, 32_512]);
        assert_eq!(read(&wav(1, 2, 16, 8, &[2, 0, 4, 0, 0, 128, 0, 128], b"")), [3, -32_768]);
        assert_eq!(read(&wav(7, 1, 8, 2, &[0xFF, 0x80], b"")), [0, 32_124]);
        assert_eq!(read(&wav(6, 2, 8, 4, &[0xD5, 0xD5, 0xAA, 0xAA], b"")), [8, 32_256]);
        // An odd chunk in front is padded.
        assert_eq!(read(&wav(1, 1, 16, 2, &[5, 0], b"LIST\x03\0\0\0abc\0")), [5]);
        let mut reader = WavReader::new(Cursor::new(wav(1, 1, 16, 400, &[5, 0, 6, 0], b""))).unwrap();
        assert_eq!(reader.promised(), Some(200));
        let mut pcm = Vec::new();
        assert_eq!(reader.read(1, &mut pcm).unwrap(), 1);
        assert_eq!(reader.read(10, &mut pcm).unwrap(), 1);
        assert_eq!(reader.read(10, &mut pcm).unwrap(), 0);
        assert_eq!(pcm, [5, 6]);
    }

    #[test]
    fn what_is_not_wav_is_refused_with_a_reason() {
        let why =
            |file: &[u8]| WavReader::new(Cursor::new(file)).err().map(|error| error.to_string()).unwrap();
        assert!(why(b"").contains("ends before"));
        assert!(why(b"ID3 some music and more").contains("RIFF"));
        assert!(why(&wav(3, 1, 32, 0, &[], b"")).contains("coding"));
        assert!(why(&wav(1, 6, 16, 0, &[], b"")).contains("channels"));
        assert!(why(b"RIFF\0\0\0\0WAVEdata\0\0\0\0").contains("before its format"));
        assert!(why(&wav(1, 1, 16, 0, &[], b"junk\xff\xff\xff\xff")).contains("megabyte"));
        let many: Vec<u8> = b"junk\0\0\0\0".repeat(100);
        assert!(why(&wav(1, 1, 16, 0, &[], &many)).contains("64 chunks"));
        assert!(why(b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0").contains("too short"));
        assert!(WavWriter::new(Cursor::new(Vec::new()), 8000, 3).is_err());
    }

    #[test]
    fn any_bytes_end_in_a_result() {
        let mut chance = crate::chance::Chance::from_number(6);
        let good = wav(0xFFFE, 1, 16, 40, &[7; 60], b"");
        for round in 0..3000 {
            let mut file = good.clone();
            for _ in 0..1 + round % 4 {
                let at = chance.below(file.len() as u32) as usize;
                file[at] = chance.next_u32() as u8;
            }
            file.truncate(chance.below(file.len() as u32 + 1) as usize);
            if let Ok((pcm, _)) = read_all(Cursor::new(&file), 1000) {
                assert!(pcm.len() <= 60);
            }
        }
    }
}

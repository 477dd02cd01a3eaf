//! Files in place of a sound card: one is played into calls in a loop, what is heard goes to the other.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::{Backend, Opened, SoundError, Trouble};
use crate::audio::resample::Resampler;
use crate::audio::wav;
use crate::media::{RecordingId, Terminal, TerminalInput};

/// The number under which the engine hands out what is heard. Recordings of calls count up from 1.
pub const HEARD: RecordingId = RecordingId(0);
/// Half an hour at the rate of wide-band speech: more is no greeting, and it stays in memory.
const LONGEST: usize = 30 * 60 * 48_000;
/// The terminal runs at this rate for inputs below 16 kHz and above it respectively.
const NARROW: u32 = 8_000;
const WIDE: u32 = 16_000;

/// The files that the configuration names.
pub struct FileBackend {
    /// Played into calls; silence without it.
    pub input: Option<PathBuf>,
    /// Receives what is heard.
    pub output: Option<PathBuf>,
}

impl Backend for FileBackend {
    fn open(&self, _: SyncSender<Trouble>) -> Result<Opened, SoundError> {
        let (rate, input) = match &self.input {
            Some(path) => load(path)?,
            None => (WIDE, TerminalInput::Silence),
        };
        let output = self.output.as_ref().map(|_| HEARD);
        Ok(Opened {
            terminal: Terminal::Timer { rate, input, output },
            port: None,
            output: self.output.clone(),
            keep: Box::new(()),
        })
    }
}

fn load(path: &PathBuf) -> Result<(u32, TerminalInput), SoundError> {
    let refuse = |why: String| SoundError::File { file: path.display().to_string(), why };
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let (samples, found) =
        wav::read_all(BufReader::new(file), LONGEST).map_err(|error| refuse(error.to_string()))?;
    if samples.is_empty() {
        return Err(refuse("it has no samples".into()));
    }
    let rate = if found < WIDE { NARROW } else { WIDE };
    let samples = if found == rate {
        samples
    } else {
        let mut resampler = Resampler::new(found, rate).map_err(|error| refuse(error.to_string()))?;
        let mut resampled = Vec::with_capacity(resampler.most(samples.len()));
        resampler.process(&samples, &mut resampled);
        resampled
    };
    Ok((rate, TerminalInput::Loop(Arc::from(samples))))
}

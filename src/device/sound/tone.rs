//! A sine into every call: for testing a line without a microphone.

use std::sync::mpsc::SyncSender;

use super::{Backend, Opened, SoundError, Trouble};
use crate::media::{Terminal, TerminalInput};

/// A sine of 1004 Hz at −16 dB, the digital milliwatt's frequency at a level that is kind to ears.
pub struct ToneBackend;

impl Backend for ToneBackend {
    fn open(&self, _: SyncSender<Trouble>) -> Result<Opened, SoundError> {
        let input = TerminalInput::Sine { hertz: 1004.0, level_db: -16.0 };
        let terminal = Terminal::Timer { rate: 8_000, input, output: None };
        Ok(Opened { terminal, port: None, output: None, keep: Box::new(()) })
    }
}

//! Sound: what stands for loudspeaker and microphone, behind one small trait.
//!
//! | back-end | captures | plays | clock |
//! |---|---|---|---|
//! | [`cpal`] | microphone | loudspeaker | the device's |
//! | [`mod@file`] | a WAV file in a loop | a WAV file | the engine's timer |
//! | [`tone`] | a sine | nothing | the engine's timer |
//! | [`none`] | silence | nothing | the engine's timer |

pub mod cpal;
pub mod file;
pub mod none;
pub mod port;
pub mod tone;

use std::any::Any;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

pub use port::{Gauge, Slips, SoundPort};

use crate::media::Terminal;

/// A way to have sound.
pub trait Backend: Send {
    /// Opens it. What breaks it later is told to `troubles`, once.
    fn open(&self, troubles: SyncSender<Trouble>) -> Result<Opened, SoundError>;

    /// Whether it is there, without opening it.
    fn look(&self) -> Result<(), SoundError> {
        Ok(())
    }
}

/// An open back-end.
pub struct Opened {
    /// What the engine is told about it.
    pub terminal: Terminal,
    /// Its rings, where it has a clock of its own.
    pub port: Option<SoundPort>,
    /// The file that what is heard goes to.
    pub output: Option<PathBuf>,
    /// Whatever must live as long as the sound does.
    pub keep: Box<dyn Any + Send>,
}

/// A back-end that had been opened is gone.
#[derive(Debug)]
pub struct Trouble {
    /// Why, in the words of the sound system.
    pub why: String,
}

/// Why there is no sound, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The configured device does not exist.
    #[error("there is no sound device `{device}`; known are: {}; set [audio] input and output to one of them",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    Missing {
        /// As configured.
        device: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The device is there and refuses.
    #[error(
        "the sound device `{device}` can't be opened: {why}; is it used by another program, may this user use it?"
    )]
    Refused {
        /// As configured.
        device: String,
        /// The sound system's words.
        why: String,
    },
    /// The device knows no rate that the engine has.
    #[error("the sound device `{device}` offers neither 48000, 16000 nor 8000 Hz; use its `plughw:` name")]
    NoRate {
        /// As configured.
        device: String,
    },
    /// The library of ALSA is not installed.
    #[error("libasound.so.2 is not installed, without which there are no sound devices; install libasound2")]
    NoAlsa,
    /// Built without PulseAudio.
    #[error(
        "this program was built without PulseAudio; name an ALSA device, or build with the feature `pulseaudio`"
    )]
    NoPulse,
    /// The input file can't be used.
    #[error("{file} can't be played into calls: {why}; [audio] input must be a WAV file of PCM or G.711")]
    File {
        /// As configured.
        file: String,
        /// What is the matter.
        why: String,
    },
}

//! What the program says in a call: that a recording begins, or a question.

use std::sync::Arc;
use std::time::Duration;

use super::values::{Written, written};

/// A spoken sentence in a WAV file. The file is read by whoever may read files, who gives its sound to
/// [`Announcement::read`]; until then nothing is said.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Announcement {
    /// The path of the file.
    pub file: String,
    pcm: Arc<[i16]>,
}

impl Announcement {
    /// Longer than this nobody listens to.
    pub const LONGEST: Duration = Duration::from_secs(30);
    /// Samples per second of [`Announcement::sound`]: as much as a voice needs.
    pub const RATE: u32 = 16_000;

    /// Takes the sound of the file, of one channel.
    pub fn read(&mut self, pcm: &[i16]) {
        self.pcm = pcm.into();
    }

    /// The sound, of one channel; nothing before it was read.
    pub fn sound(&self) -> Arc<[i16]> {
        self.pcm.clone()
    }
}

impl Written for Announcement {
    const FORM: &'static str = "the path of a WAV file";

    fn parse(text: &str) -> Result<Announcement, String> {
        if text.is_empty() {
            return Err(format!("write {}, or leave the key out", Self::FORM));
        }
        Ok(Announcement { file: text.to_owned(), ..Announcement::default() })
    }

    fn written(&self) -> String {
        self.file.clone()
    }
}

written!(Announcement);

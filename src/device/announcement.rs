//! The WAV file with what is said when a recording begins.

use std::fs::File;
use std::io::BufReader;

use crate::audio::resample::{RATES, Resampler};
use crate::audio::wav;
use crate::config::Announcement;

/// Reads the file of an announcement.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn read(announcement: &mut Announcement) -> Result<(), (String, String)> {
    let file = announcement.file.clone();
    let fail = |what: &str, instead: &str| Err((format!("announcement: {file} {what}"), instead.to_owned()));
    let longest = Announcement::LONGEST.as_secs() as usize;
    let most = longest * RATES[RATES.len() - 1] as usize;
    let read = File::open(&file).map_err(|error| error.to_string());
    let read = read
        .and_then(|file| wav::read_all(BufReader::new(file), most + 1).map_err(|error| error.to_string()));
    let (pcm, rate) = match read {
        Ok(read) => read,
        Err(error) => {
            let instead = "give a WAV file: PCM of 16 bits, one channel, 8000 to 48000 Hz";
            return fail(&format!("can't be used: {error}"), instead);
        }
    };
    if pcm.len() > longest * rate as usize {
        return fail(&format!("is longer than {longest} s"), "cut it: nobody listens to so much");
    }
    // The resampler holds back as much as its filter is long.
    let Ok(mut resampler) = Resampler::new(rate, Announcement::RATE) else {
        return fail(&format!("has {rate} samples in a second"), "convert it to 16000");
    };
    let mut sound = Vec::with_capacity(resampler.most(pcm.len()));
    resampler.process(&pcm, &mut sound);
    if sound.iter().all(|sample| sample.unsigned_abs() < 32) {
        return fail("has nothing in it that can be heard", "record what is to be said");
    }
    announcement.read(&sound);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read_file(name: &str, content: &[u8]) -> Result<usize, (String, String)> {
        let file =
            std::env::temp_dir().join(format!("tipring-announcement-{name}-{}.wav", std::process::id()));
        std::fs::write(&file, content).expect("a file");
        let text = format!("[recording]\nannouncement = \"{}\"\n", file.display());
        let config = Config::parse(&text, "t.toml").expect("right");
        let mut announcement = config.recording.announcement.expect("an announcement");
        let outcome = read(&mut announcement).map(|()| announcement.sound().len());
        std::fs::remove_file(file).expect("removed");
        outcome
    }

    fn wav(rate: u32, samples: u32, value: i16) -> Vec<u8> {
        let mut file = wav::header(rate, 1, samples * 2).to_vec();
        file.extend((0..samples).flat_map(|_| value.to_le_bytes()));
        file
    }

    #[test]
    fn a_file_is_taken_at_one_rate_and_what_can_not_be_said_is_told() {
        assert_eq!(read_file("good", &wav(8_000, 16_000, 900)), Ok(32_000));
        assert_eq!(read_file("whole", &wav(48_000, 48_000 * 30, 900)), Ok(480_000));
        for (name, content, what, instead) in [
            ("long", wav(8_000, 8_000 * 30 + 1, 900), "is longer than 30 s", "cut it"),
            ("empty", wav(8_000, 0, 0), "has nothing in it", "record what"),
            ("silent", wav(8_000, 8_000, 0), "has nothing in it", "record what"),
            ("odd", wav(11_025, 11_025, 900), "has 11025 samples in a second", "convert it to 16000"),
            ("other", b"an MP3, perhaps".to_vec(), "can't be used: ", "give a WAV file"),
        ] {
            let (told, cure) = read_file(name, &content).expect_err(name);
            assert!(told.starts_with("announcement: /") && told.contains(what), "{told}");
            assert!(cure.starts_with(instead), "{cure}");
        }
    }
}

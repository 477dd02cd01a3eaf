//! A phone of the tour: the real appliance with a configuration of its own, a temporary data folder, and
//! files in place of a sound card.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the demo's driver runs on the real machine"
)]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::audio::similarity::similarity;
use crate::audio::speech::Speech;
use crate::audio::wav::{self, WavWriter};
use crate::demo::pbx::User;
use crate::device::settings;
use crate::device::{Appliance, Handles};

/// Samples per second of the files.
const RATE: u32 = 16_000;
/// Seconds of speech in the input file, which is played in a loop.
const SPEECH_S: usize = 20;
/// The most samples of an output file that are looked at.
const LONGEST: usize = RATE as usize * 600;
/// How late the far end's words may be.
const LATEST: usize = RATE as usize * 2;
/// How long the file of what was heard may take to be complete after a call.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// A phone that runs.
pub(super) struct Station {
    /// Its extension.
    pub user: String,
    /// The way to talk to it.
    pub handles: Handles,
    speech: Vec<i16>,
    output: PathBuf,
    thread: JoinHandle<()>,
}

impl Station {
    /// Starts the appliance of a user in a folder; the seed is that of the voice.
    pub fn start(folder: &Path, user: &User, pbx: SocketAddr, seed: u64) -> Result<Station, String> {
        let folder = folder.join(&user.name);
        let mut speech = vec![0; RATE as usize * SPEECH_S];
        Speech::new(seed, RATE).fill(&mut speech);
        let (input, output) = (folder.join("says.wav"), folder.join("heard.wav"));
        let file = folder.join("tipring.toml");
        prepare(&folder, &input, &speech)
            .and_then(|()| fs::write(&file, configuration(user, pbx, &folder)))
            .map_err(|error| {
                format!("{}: {error}; make room in the folder for temporary files", folder.display())
            })?;
        let settings = settings::load(&file).map_err(|error| error.to_string())?;
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("phone {}", user.name))
            .spawn(move || match Appliance::start(file, settings) {
                Ok(appliance) => {
                    let _ = tell.send(Ok(appliance.handles()));
                    // How it goes is told by its events.
                    appliance.run(|_| {}).close();
                }
                Err(error) => {
                    let _ = tell.send(Err(error.to_string()));
                }
            })
            .map_err(|error| format!("the system refuses a thread: {error}"))?;
        let handles = told.recv().unwrap_or_else(|_| Err("the phone ended before it had begun".into()))?;
        Ok(Station { user: user.name.clone(), handles, speech, output, thread })
    }

    /// The share of `other`'s words that this phone heard in its last call, 0 to 1. Waits until the file is
    /// there.
    pub fn heard(&self, other: &Station) -> f32 {
        let begun = Instant::now();
        let mut best = 0.0f32;
        while best < 0.9 && begun.elapsed() < WRITTEN_WITHIN {
            if let Some(heard) = self.read_output() {
                let said = other.speech.get(..heard.len().min(other.speech.len())).unwrap_or_default();
                let found = similarity(said, &heard, RATE, LATEST).map_or(0.0, |likeness| likeness.found);
                if found == best && found > 0.0 {
                    break;
                }
                best = best.max(found);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        best
    }

    /// Forgets what the last call sounded like.
    pub fn forget(&self) {
        // There may be no such file yet.
        let _ = fs::remove_file(&self.output);
    }

    fn read_output(&self) -> Option<Vec<i16>> {
        let file = fs::File::open(&self.output).ok()?;
        let (samples, rate) = wav::read_all(io::BufReader::new(file), LONGEST).ok()?;
        (rate == RATE).then_some(samples)
    }

    /// Ends the appliance in order.
    pub fn stop(self) {
        if self.handles.desk.stop() {
            drop(self.handles);
            let _ = self.thread.join();
        }
    }
}

fn prepare(folder: &Path, input: &Path, speech: &[i16]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut writer =
        WavWriter::new(io::BufWriter::new(fs::File::create(input)?), RATE, 1).map_err(io::Error::other)?;
    writer.write(speech).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    Ok(())
}

/// The configuration file of a phone on loopback.
fn configuration(user: &User, pbx: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let User { name, password, display } = user;
    let display = display.as_deref().unwrap_or(name);
    format!(
        "[device]\n\
         name = \"Demo {name}\"\n\
         data = \"{folder}/data\"\n\
         [sip]\n\
         bind = \"127.0.0.1\"\n\
         port_udp = 0\n\
         port_tcp = 0\n\
         [[line]]\n\
         name = \"{name}\"\n\
         user = \"{name}\"\n\
         domain = \"{pbx}\"\n\
         password = \"{password}\"\n\
         display_name = \"{display}\"\n\
         [audio]\n\
         backend = \"file\"\n\
         input = \"{folder}/says.wav\"\n\
         output = \"{folder}/heard.wav\"\n\
         [admin]\n\
         listen = \"off\"\n\
         socket = \"{folder}/socket\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_of_a_phone_is_right() {
        let user = User { display: Some("Anna".into()), ..User::new("101", "p") };
        let text = configuration(&user, "127.0.0.1:35060".parse().unwrap(), Path::new("/tmp/tour"));
        let config = Config::parse(&text, "tour.toml").unwrap();
        assert_eq!(config.line[0].address(), "101@127.0.0.1:35060");
        assert_eq!(config.line[0].display_name.as_deref(), Some("Anna"));
    }
}

//! A private PulseAudio without hardware: a sink `speaker` that the phone plays into and a sink `room` whose monitor is
//! the phone's microphone. Programs reach it through ALSA's default device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::netns::Lab;
use crate::process::{Process, program, within};
use crate::sound::Wav;

/// A running sound server; its Unix socket is in the lab's folder.
pub struct Pulse {
    folder: PathBuf,
    process: Process,
}

impl Pulse {
    /// Starts one and waits until it answers.
    pub fn start(lab: &Lab) -> Pulse {
        let folder = lab.folder().join("pulse");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("cookie"), [7; 256]).expect("a cookie");
        // Whatever ALSA's own files say about a default device, here it is the sound server.
        let alsa = "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n";
        fs::write(folder.join("asound.conf"), alsa).expect("a file");
        let socket = folder.join("native");
        let script = format!(
            "load-module module-null-sink sink_name=speaker norewinds=1 rate=48000\n\
             load-module module-null-sink sink_name=room norewinds=1 rate=48000\n\
             set-default-sink speaker\nset-default-source room.monitor\n\
             load-module module-native-protocol-unix auth-anonymous=1 socket={}\n",
            socket.display()
        );
        fs::write(folder.join("script.pa"), script).expect("a file");
        let process = boot(&folder);
        Pulse { process, folder }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again.
    pub fn again(&mut self) {
        self.process = boot(&self.folder);
    }

    /// Lets it hang, or go on.
    pub fn hang(&self, hang: bool) {
        self.process.signal(if hang { Signal::STOP } else { Signal::CONT });
    }

    /// A command of `pactl`.
    pub fn control(&self, arguments: &[&str]) {
        let status = self.client("pactl", arguments).status().expect("pactl");
        assert!(status.success(), "pactl {}", arguments.join(" "));
    }

    /// How many streams there are to its sinks and from its sources.
    pub fn streams(&self) -> usize {
        let of = |kind: &str| {
            let listed = self.client("pactl", &["list", "short", kind]).output().expect("pactl");
            assert!(listed.status.success(), "pactl lists no {kind}");
            listed.stdout.iter().filter(|byte| **byte == b'\n').count()
        };
        of("sink-inputs") + of("source-outputs")
    }

    /// The environment in which a program's default ALSA device is this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.folder)
    }

    fn client(&self, name: &str, arguments: &[&str]) -> Command {
        client(&self.folder, name, arguments)
    }

    /// Plays into the room (the phone's microphone) until it ends or is dropped.
    pub fn play(&self, wav: &Wav) -> Process {
        let file = self.folder.join("played.wav");
        wav.write(&file);
        let command = self.client("paplay", &["--device=room", file.to_str().expect("a path")]);
        Process::start("paplay", command, &self.folder)
    }

    /// Records the speaker until dropped; read the file with [`Pulse::recorded`].
    pub fn record(&self) -> Process {
        let file = self.folder.join("recorded.wav");
        let arguments = [
            "--device=speaker.monitor",
            "--rate=16000",
            "--channels=1",
            "--format=s16le",
            "--file-format=wav",
            file.to_str().expect("a path"),
        ];
        Process::start("parecord", self.client("parecord", &arguments), &self.folder)
    }

    /// What was recorded so far.
    pub fn recorded(&self) -> Wav {
        Wav::read(&self.folder.join("recorded.wav"))
    }
}

fn boot(folder: &Path) -> Process {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program("pulseaudio").expect("pulseaudio"))
        .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-F"])
        .arg(folder.join("script.pa"));
    let mut process = Process::start("pulse", with(command, folder), folder);
    within("the sound server answers", Duration::from_secs(8), || {
        assert!(process.running(), "pulseaudio ended:\n{}", process.tail());
        client(folder, "pactl", &["info"]).output().is_ok_and(|output| output.status.success()).then_some(())
    });
    process
}

fn client(folder: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", name]).args(arguments);
    with(command, folder)
}

fn environment(folder: &Path) -> Vec<(String, String)> {
    let text = |name: &str| folder.join(name).display().to_string();
    vec![
        ("PULSE_SERVER".to_owned(), format!("unix:{}", text("native"))),
        ("PULSE_COOKIE".to_owned(), text("cookie")),
        ("ALSA_CONFIG_PATH".to_owned(), text("asound.conf")),
        ("XDG_RUNTIME_DIR".to_owned(), folder.display().to_string()),
        ("HOME".to_owned(), folder.display().to_string()),
    ]
}

fn with(mut command: Command, folder: &Path) -> Command {
    command.envs(environment(folder)).stdin(Stdio::null());
    command
}

//! The two programs that are measured: started with a configuration that asks the same of both.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::registrar::{PASSWORD, Registrar};

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make {
    /// The program of this repository.
    Tipring,
    /// Debian's baresip.
    Baresip,
}

/// Both, in the order in which they take turns.
pub const BOTH: [Make; 2] = [Make::Tipring, Make::Baresip];

/// Where cargo puts the program of the profile that boards get: beside the profile this one is built with.
pub fn for_boards() -> PathBuf {
    let release = Path::new(env!("CARGO_BIN_EXE_tipring"));
    release.ancestors().nth(2).unwrap_or(release).join("device/tipring")
}

/// Where the programs and their files are.
pub struct Workshop {
    /// The executable of this repository.
    pub tipring: PathBuf,
    /// A folder for everything that is written.
    pub folder: PathBuf,
}

/// What is asked of a program.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The account; also the name of its folder.
    pub user: &'a str,
    /// Where it registers.
    pub registrar: SocketAddr,
    /// The only codec: `PCMA` or `opus`.
    pub codec: &'a str,
    /// What it says in calls.
    pub wav: &'a Path,
    /// More for the configuration of tipring.
    pub more: &'a str,
}

impl<'a> Task<'a> {
    /// What both programs are asked.
    pub fn new(user: &'a str, registrar: &Registrar, codec: &'a str, wav: &'a Path) -> Task<'a> {
        Task { user, registrar: registrar.address(), codec, wav, more: "" }
    }
}

/// A running program; dropping it ends it.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Workshop {
    /// Writes the configuration of a program; the command that starts it with that.
    pub fn prepare(&self, make: Make, task: &Task<'_>) -> Result<Command, String> {
        let folder = self.folder.join(task.user);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder.join("data")).map_err(failed)?;
        let port = free_port().map_err(failed)?;
        match make {
            Make::Tipring => {
                let file = folder.join("tipring.toml");
                fs::write(&file, tipring_toml(task, &folder, port)).map_err(failed)?;
                let mut command = Command::new(&self.tipring);
                command.args(["run", "--config"]).arg(file);
                Ok(command)
            }
            Make::Baresip => {
                fs::write(folder.join("config"), baresip_config(task, port)).map_err(failed)?;
                fs::write(folder.join("accounts"), baresip_account(task)).map_err(failed)?;
                fs::write(folder.join("contacts"), "").map_err(failed)?;
                let mut command = Command::new("baresip");
                command.arg("-f").arg(&folder);
                Ok(command)
            }
        }
    }

    /// Starts what was prepared and tells the moment before.
    pub fn start(&self, user: &str, command: &mut Command) -> Result<(Program, Instant), String> {
        let log = self.folder.join(user).join("log");
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let begun = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("{:?} does not start: {error}", command.get_program()))?;
        Ok((Program { child, log }, begun))
    }

    /// Both in one.
    pub fn run(&self, make: Make, task: &Task<'_>) -> Result<Program, String> {
        let mut command = self.prepare(make, task)?;
        self.start(task.user, &mut command).map(|(program, _)| program)
    }
}

impl Program {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end in order; whoever unregisters needs a registrar that answers meanwhile.
    pub fn ask_to_end(&self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(2);
        self.ask_to_end();
        while !self.ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The version a program tells.
pub fn version(command: &mut Command, word: &str) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with(word))?;
    Some(line.split(" Copyright").next()?.to_owned())
}

/// Where the modules of baresip are.
fn modules() -> &'static str {
    [
        "/usr/lib/baresip/modules",
        "/usr/lib/x86_64-linux-gnu/baresip/modules",
        "/usr/lib/aarch64-linux-gnu/baresip/modules",
    ]
    .into_iter()
    .find(|folder| Path::new(folder).exists())
    .unwrap_or("/usr/lib/baresip/modules")
}

/// A port that is free for UDP and TCP, below those that the system gives to whoever asks for any.
fn free_port() -> std::io::Result<u16> {
    let free = |port: &u16| {
        UdpSocket::bind(("127.0.0.1", *port)).and(TcpListener::bind(("127.0.0.1", *port))).is_ok()
    };
    (20_000..30_000).find(free).ok_or_else(|| std::io::ErrorKind::AddrInUse.into())
}

fn tipring_toml(task: &Task<'_>, folder: &Path, port: u16) -> String {
    let Task { user, registrar, codec, wav, more } = task;
    let host = registrar.ip();
    format!(
        "[device]\nname = \"bench\"\ndata = {data:?}\n\n[sip]\nbind = \"127.0.0.1\"\nport_udp = {port}\nport_tcp = {port}\n\n\
         [rtp]\nports = \"30000-30999\"\n\n[audio]\nbackend = \"file\"\ninput = {wav:?}\n\n\
         [limits]\ncalls_per_minute = 0\ncalls_per_day = 0\nminutes_per_day = 0\n\n[log]\nlevel = \"warn\"\n\n\
         [admin]\nlisten = \"off\"\nsocket = {socket:?}\n\n\
         [[line]]\nname = \"bench\"\nuser = {user:?}\ndomain = \"{host}\"\nregistrar = \"sip:{registrar}\"\n\
         password = {PASSWORD:?}\nexpires = \"1h\"\ncodecs = [{codec:?}]\nauto_answer = true\nmax_calls = 64\n\n{more}",
        data = folder.join("data"),
        socket = folder.join("api.sock"),
    )
}

/// As little as it needs, so that nothing is held against it that was not asked of the other one.
fn baresip_config(task: &Task<'_>, port: u16) -> String {
    let rate = if task.codec == "opus" { 48_000 } else { 8_000 };
    format!(
        "sip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\nmodule_path {modules}\nmodule uuid.so\nmodule g711.so\n\
         module opus.so\nmodule aufile.so\nmodule_app account.so\naudio_source aufile,{wav}\n\
         ausrc_srate {rate}\nauplay_srate {rate}\nausrc_channels 1\nauplay_channels 1\naudio_level no\n\
         call_max_calls 64\nrtp_ports 31000-31999\nrtp_stats no\n\
         opus_stereo no\nopus_sprop_stereo no\nopus_bitrate 24000\nopus_complexity 5\nopus_inbandfec yes\n\
         opus_packet_loss 5\nopus_cbr no\nopus_dtx no\nopus_application voip\n",
        modules = modules(),
        wav = task.wav.display(),
    )
}

fn baresip_account(task: &Task<'_>) -> String {
    let Task { user, registrar, codec, .. } = task;
    let codec = if *codec == "opus" { "opus/48000/1" } else { codec };
    format!(
        "<sip:{user}@{registrar};transport=udp>;auth_user={user};auth_pass={PASSWORD};answermode=auto;regint=3600;\
         audio_codecs={codec}\n"
    )
}

/// Keeps all processors from idling with loops that give way to everything else. Who idles wakes late on a virtual machine, and
/// what a program does about packets that it has late is no part of what a call takes.
pub struct Awake(Vec<Child>);

impl Awake {
    /// From now on, until it is dropped.
    pub fn keep() -> Result<Awake, String> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut awake = Awake(Vec::new());
        for _ in 0..processors {
            let mut command = Command::new("nice");
            command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
            awake.0.push(command.spawn().map_err(|error| format!("nice: {error}"))?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

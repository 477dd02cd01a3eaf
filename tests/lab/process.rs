//! Processes of peers: started with their output in a file of the lab, ended when the test is over (or killed).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// One running peer. Dropping it ends it: TERM first, KILL when it does not go within three seconds.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` (in the namespace that `Host::command` puts before them). Should the test
    /// process die, the kernel ends the peer too.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Process {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Process { child, name: name.to_owned(), log }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, signal);
    }

    /// Its number in the system; what `Host::command` puts before a program has become that program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and tells the exit code; `None` when it ended by a signal.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let name = self.name.clone();
        let status =
            within(&format!("{name} ends by itself"), limit, || self.child.try_wait().expect("a child"));
        status.code()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines it printed, for the message of a failed check.
    pub fn tail(&self) -> String {
        let output = self.output();
        // Modules that have no configuration here say so, one line each.
        let lines: Vec<&str> = output.lines().filter(|line| !line.contains("loader.c")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running() {
            self.signal(Signal::TERM);
            let end = Instant::now() + Duration::from_secs(3);
            while self.running() && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            self.kill();
        }
        if thread::panicking() {
            eprintln!("── {} ──\n{}", self.name, self.tail());
        }
    }
}

/// Asks again and again until there is an answer. Panics, saying `what` was waited for, when `limit` is over.
#[track_caller]
pub fn within<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a short command to its end and returns its output; panics with what it said when it fails.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} does not start: {e}"));
    assert!(
        output.status.success(),
        "{program} {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where a program lies, looked for in PATH and the folders of system programs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

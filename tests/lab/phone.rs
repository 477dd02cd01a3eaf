//! The program under test: `tipring run` with a configuration of its own, driven over its API as any program would.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::netns::{Host, Lab};
use crate::process::{Process, within};
use crate::sound::{Wav, sine};

/// What goes into the configuration file.
pub struct Setup {
    name: String,
    line: Vec<String>,
    device: Vec<String>,
    admin: String,
    audio: Vec<String>,
    input: Option<Wav>,
    files: Vec<(String, Wav)>,
    environment: Vec<(String, String)>,
    before: String,
}

/// A running phone.
pub struct Phone {
    pub host: Host,
    folder: PathBuf,
    process: Process,
    feed: Receiver<Value>,
    seen: RefCell<Vec<Value>>,
    /// Events before this one have been waited for.
    cursor: RefCell<usize>,
}

impl Setup {
    /// A phone with one line, account and password as the lab's PBXs have them, that speaks a 440 Hz tone into calls.
    pub fn new(account: &str, domain: &str) -> Setup {
        let name = format!("phone{account}");
        let line = vec![
            r#"name = "main""#.to_owned(),
            format!("user = {account:?}"),
            format!("domain = {domain:?}"),
            format!(r#"password = "pw{account}""#),
        ];
        Setup {
            name,
            line,
            device: Vec::new(),
            admin: String::new(),
            audio: Vec::new(),
            input: Some(Wav::new(16000, sine(440.0, 16000, 2.0, 8000))),
            files: Vec::new(),
            environment: Vec::new(),
            before: String::new(),
        }
    }

    /// One more key of `[[line]]`.
    pub fn line(mut self, toml: &str) -> Setup {
        self.line.push(toml.to_owned());
        self
    }

    /// Another password than the lab's PBXs have.
    pub fn password(mut self, password: &str) -> Setup {
        self.line.retain(|key| !key.starts_with("password"));
        self.line(&format!("password = {password:?}"))
    }

    /// More of the file, before its first `[[line]]`: whole tables.
    pub fn table(mut self, toml: &str) -> Setup {
        self.device.push(toml.to_owned());
        self
    }

    /// More of `[admin]`.
    pub fn admin(mut self, toml: &str) -> Setup {
        self.admin = toml.to_owned();
        self
    }

    /// What it speaks into calls.
    pub fn speaks(mut self, wav: Wav) -> Setup {
        self.input = Some(wav);
        self
    }

    /// A sound file beside its configuration.
    pub fn file(mut self, name: &str, wav: Wav) -> Setup {
        self.files.push((name.to_owned(), wav));
        self
    }

    /// Uses a sound device instead of files: the keys of `[audio]`.
    pub fn audio(mut self, toml: &str) -> Setup {
        self.audio.push(toml.to_owned());
        self.input = None;
        self
    }

    /// A variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Shell commands before it starts, in a mount namespace that only it sees; `@DATA@` is its data folder.
    pub fn before(mut self, script: &str) -> Setup {
        self.before.push_str(script);
        self
    }

    /// Starts it in `host` and waits until it says that it is ready.
    pub fn start(self, lab: &Lab, host: &Host) -> Phone {
        let mut phone = self.launch(lab, host);
        phone.ready();
        phone
    }

    /// Starts it in `host`; whether it becomes ready is the test's business.
    pub fn launch(self, lab: &Lab, host: &Host) -> Phone {
        let folder = lab.folder().join(&self.name);
        fs::create_dir_all(folder.join("data")).expect("a folder");
        let (input, output) = (folder.join("input.wav"), folder.join("output.wav"));
        let mut audio = self.audio.join("\n");
        if let Some(wav) = &self.input {
            wav.write(&input);
            audio = format!("backend = \"file\"\ninput = {input:?}\noutput = {output:?}");
        }
        for (name, wav) in &self.files {
            wav.write(&folder.join(name));
        }
        let text = format!(
            "[device]\nname = {name:?}\ndata = {data:?}\n\n[admin]\nsocket = {socket:?}\n{admin}\n\n\
             [audio]\n{audio}\n\n{device}\n\n[[line]]\n{line}\n",
            name = self.name,
            data = folder.join("data"),
            socket = folder.join("api.sock"),
            admin = self.admin,
            device = self.device.join("\n\n"),
            line = self.line.join("\n"),
        );
        fs::write(folder.join("tipring.toml"), text).expect("the configuration");
        let process = spawn(host, &folder, &self.name, &self.before, &self.environment);
        let socket = folder.join("api.sock");
        within("the phone opens its socket", Duration::from_secs(10), || {
            http::request(&socket, "GET", "/healthz", None).ok().map(drop)
        });
        let feed = http::follow(socket, "/api/v1/events?since=0");
        Phone { host: host.clone(), folder, process, feed, seen: RefCell::default(), cursor: RefCell::new(0) }
    }
}

fn spawn(host: &Host, folder: &Path, name: &str, before: &str, environment: &[(String, String)]) -> Process {
    let data = folder.join("data");
    let before = before.replace("@DATA@", data.to_str().expect("a path"));
    // `ip netns exec` has made the mount namespace; what is mounted in it is seen nowhere else.
    let script = format!("set -e; {before}\nexec \"$@\"");
    let mut command = host.command("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tipring"), "run", "--config"]);
    command.arg(folder.join("tipring.toml"));
    command.env("RUST_LOG", "warn,tipring=debug").envs(environment.iter().map(|(k, v)| (k, v)));
    Process::start(name, command, folder)
}

impl Phone {
    /// Waits for the line "ready" on its output.
    #[track_caller]
    pub fn ready(&mut self) {
        let process = &mut self.process;
        within("the phone says ready", Duration::from_secs(15), || {
            assert!(process.running(), "the phone ended instead of getting ready:\n{}", process.tail());
            process.output().lines().any(|line| line.trim() == "ready").then_some(())
        });
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("api.sock")
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = http::request(&self.socket(), "GET", path, None).expect("the API answers");
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.body
    }

    /// A POST and whatever comes back.
    pub fn try_post(&self, path: &str, body: &Value) -> Answer {
        http::request(&self.socket(), "POST", path, Some(body)).expect("the API answers")
    }

    /// A POST that must succeed.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_post(path, body);
        assert!((200..300).contains(&answer.status), "POST {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    /// Dials; the call's id.
    #[track_caller]
    pub fn call(&self, target: &str) -> String {
        let body = self.post("/api/v1/calls", &json!({ "to": target }));
        body["id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned()
    }

    /// Something done to a call: `answer`, `hangup`, `hold` …
    #[track_caller]
    pub fn act(&self, call: &str, action: &str) {
        self.post(&format!("/api/v1/calls/{call}/{action}"), &json!({}));
    }

    /// Sends digits.
    #[track_caller]
    pub fn dtmf(&self, call: &str, digits: &str) {
        self.post(&format!("/api/v1/calls/{call}/dtmf"), &json!({ "digits": digits }));
    }

    fn drain(&self, wait: Duration) {
        match self.feed.recv_timeout(wait) {
            Ok(event) => self.seen.borrow_mut().push(event),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(wait),
        }
        self.seen.borrow_mut().extend(self.feed.try_iter());
    }

    /// Waits for the next event of this type (without the prefix `tipring.`) after the last one waited for.
    #[track_caller]
    pub fn wait_event(&self, kind: &str) -> Value {
        self.wait_event_that(kind, "", Duration::from_secs(10), |_| true)
    }

    /// The same with a condition on the event, `what` in words.
    #[track_caller]
    pub fn wait_event_that(
        &self,
        kind: &str,
        what: &str,
        limit: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let full = format!("tipring.{kind}");
        let end = Instant::now() + limit;
        loop {
            {
                let seen = self.seen.borrow();
                let from = *self.cursor.borrow();
                let found = seen
                    .iter()
                    .enumerate()
                    .skip(from)
                    .find(|(_, event)| event["type"] == full && fits(event));
                if let Some((at, event)) = found {
                    *self.cursor.borrow_mut() = at + 1;
                    return event.clone();
                }
            }
            assert!(Instant::now() < end, "no event {kind} {what} within {limit:?}; seen: {}", self.story());
            self.drain(Duration::from_millis(50));
        }
    }

    /// How many events of this type there have been so far.
    pub fn count(&self, kind: &str) -> usize {
        self.count_that(kind, |_| true)
    }

    /// How many of them fit.
    pub fn count_that(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> usize {
        self.drain(Duration::from_millis(200));
        let full = format!("tipring.{kind}");
        self.seen.borrow().iter().filter(|event| event["type"] == full && fits(event)).count()
    }

    /// All events so far, short, for the message of a failed check.
    pub fn story(&self) -> String {
        self.drain(Duration::from_millis(100));
        let seen = self.seen.borrow();
        let words = seen.iter().map(|event| {
            let kind = event["type"].as_str().unwrap_or("?").trim_start_matches("tipring.");
            format!("{kind} {}", event["data"])
        });
        words.collect::<Vec<_>>().join("\n  ")
    }

    /// Hangs up and waits until the call is closed; the data of that event.
    #[track_caller]
    pub fn hang_up(&self, call: &str) -> Value {
        self.act(call, "hangup");
        self.closed()
    }

    /// Waits for the end of the whole call; the data of that event.
    #[track_caller]
    pub fn closed(&self) -> Value {
        self.wait_event("call.closed")["data"].clone()
    }

    /// What was heard in the last call; complete once it is closed.
    pub fn heard(&self) -> Wav {
        let path = self.folder.join("output.wav");
        let mut length = 0;
        within("the recording of what was heard is complete", Duration::from_secs(5), || {
            std::thread::sleep(Duration::from_millis(150));
            let now = fs::metadata(&path).map_or(0, |file| file.len());
            (now > 44 && std::mem::replace(&mut length, now) == now).then_some(())
        });
        Wav::read(&path)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A file of its, as it sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        let folder = self.folder.strip_prefix("/").expect("an absolute path");
        Path::new(&format!("/proc/{}/root", self.pid())).join(folder).join(name)
    }

    /// What it has printed and logged.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// Ends it in order (TERM) and tells its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.signal(rustix::process::Signal::TERM);
        self.process.wait(Duration::from_secs(8))
    }

    /// Takes its power away.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Takes its power away and starts it again with the same files.
    pub fn power_cut(&mut self) {
        self.process.kill();
        let name = format!("{}-again", self.folder.file_name().expect("a name").to_string_lossy());
        self.process = spawn(&self.host, &self.folder, &name, "", &[]);
        let socket = self.socket();
        within("the phone opens its socket again", Duration::from_secs(10), || {
            http::request(&socket, "GET", "/healthz", None).ok().map(drop)
        });
        *self.cursor.borrow_mut() = 0;
        self.seen.borrow_mut().clear();
        let last = self.get("/api/v1/status")["sequence"].as_str().unwrap_or("0").to_owned();
        self.feed = http::follow(socket, &format!("/api/v1/events?since={last}"));
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

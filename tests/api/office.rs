//! An office with a phone of paper: the desk answers from a script, the store is a real one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::Value;
use tipring::admin::{Office, serve};
use tipring::chance::Chance;
use tipring::config::Config;
use tipring::device::upstream::Dispatcher;
use tipring::events::archive::{Archive, Job, Standing};
use tipring::events::lookup::{Answer as Known, Failure, Question};
use tipring::events::store::{Store, Write as Keep};
use tipring::events::tail::Tail;
use tipring::events::{AgentState, Event, Kind, Recorder};
use tipring::now::Now;
use tipring::phone::agent::Said;
use tipring::phone::command::{Blame, Command, Outcome, Refusal, Reply};
use tipring::phone::desk::{Desk, Wish};
use tipring::phone::diagnosis::{Diagnosis, Facts, Line, Reached, Registrar, Way};
use tipring::phone::routing::{Decision, Refused, Tried};
use tipring::phone::snapshot::{CallView, FlowView, LineView, Snapshot};
use tipring::phone::trace::{Border, Tracer};
use tokio::sync::{mpsc, oneshot, watch};

pub const TOKEN: &str = "planted-token-4f1c";
pub const PASSWORD: &str = "planted-password-77aa";
pub const LINE_PASSWORD: &str = "planted-line-secret-90b3";
/// A moment in 2026, in microseconds since 1970.
pub const THEN: i64 = 1_795_248_000_000_000;

/// What the desk was asked.
#[derive(Debug, PartialEq)]
pub enum Asked {
    Command(Command, tipring::events::Origin),
    Intruder { interface: String, user: Option<String> },
    Reload,
    Tell(Box<Kind>),
    Examine(Option<Duration>),
    Answered { id: uuid::Uuid, answer: Result<Known, Failure> },
}

pub struct Paper {
    pub folder: PathBuf,
    pub address: SocketAddr,
    jobs: SyncSender<Box<Job>>,
    recorder: Mutex<Recorder>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Where the phone's questions who calls go.
    asker: Arc<Mutex<Option<mpsc::Sender<Question>>>>,
    /// What HTTPS at `address` needs; plain HTTP without.
    pub tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// The configuration in force.
    pub config: watch::Sender<Arc<Config>>,
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub fn code(&self) -> String {
        let error = self.json()["error"].clone();
        assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{error}");
        assert!(error["hint"].as_str().is_some_and(|it| !it.is_empty()), "{error}");
        error["code"].as_str().expect("a code").to_owned()
    }
}

pub fn call(id: &str, state: &'static str) -> CallView {
    CallView {
        leg: format!("{id}-1"),
        callback: None,
        id: id.into(),
        line: "main".into(),
        direction: "out",
        number: "600".into(),
        name: None,
        did: None,
        diverted_by: None,
        state,
        muted: false,
        held_by_peer: false,
        silent: false,
        recording: "off",
        transfer: None,
        codec: None,
        srtp: false,
        way: None,
        started: "2026-11-21T08:00:00.000000Z".into(),
        duration_us: None,
        quality: None,
    }
}

fn flow(number: u8, state: &'static str) -> FlowView {
    let (reason, via, keep_alive, keep_alive_s, heard_s, expires_s) = (None, None, None, None, None, None);
    FlowView { number, state, reason, via, keep_alive, keep_alive_s, heard_s, expires_s }
}

fn snapshot(sequence: u64) -> Snapshot {
    let line = LineView {
        name: "main".into(),
        aor: "sip:1001@pbx.example".into(),
        state: "registered",
        reason: None,
        via: Some("udp:192.0.2.10:5060".into()),
        keep_alive: Some("options"),
        keep_alive_s: Some(9.8),
        heard_s: Some(4),
        expires_s: Some(300),
        dnd: false,
        agent: None,
        voicemail: Some(tipring::events::Mailbox { waiting: true, new: Some(2), ..Default::default() }),
        flows: vec![flow(1, "registered"), flow(2, "standby")],
    };
    let mut dropped = std::collections::BTreeMap::new();
    dropped.insert("untrusted".to_owned(), 7);
    Snapshot {
        sequence,
        version: "0.1.0",
        name: "Reception".into(),
        serial: "TR-1".into(),
        started: "2026-11-21T08:00:00.000000Z".into(),
        lines: vec![line],
        calls: vec![call("c1", "active")],
        degraded: Vec::new(),
        dropped,
    }
}

/// One rule fits numbers that begin with 8, and one does not; 112 is help, 900 forbidden, and *46 says something of the agent.
fn decision(number: &String) -> Decision {
    let fits = number.starts_with('8');
    let rule =
        |rule, pattern: &str, fits, why: &str| Tried { rule, r#match: pattern.into(), fits, why: why.into() };
    let tried = [rule(2, "^9\x1b[2J", false, "it does not fit"), rule(1, "^8", fits, "it fits or not")];
    Decision {
        number: number.clone(),
        emergency: number == "112",
        agent: (number == "*46")
            .then_some(Said { state: AgentState::LoggedOut, rule: "numbers.agent_logged_out" }),
        rule: fits.then_some(1),
        sent: number.replacen('8', "+7", 1),
        line: Some("main".into()),
        refused: (number == "900")
            .then(|| Refused { rule: "limits.deny", text: "900 may not be called".into() }),
        tried: if ["112", "*46"].contains(&number.as_str()) { Vec::new() } else { tried.into() },
        ..Decision::default()
    }
}

fn obey(command: Command, sequence: u64, dialled: &mut u32) -> Outcome {
    let refused = |blame, code| Err(Refusal::new(blame, code, "it can't be", "do something else"));
    match command {
        Command::Call { to, .. } if to == "barred" => refused(Blame::Rule, "refused"),
        Command::Call { to, .. } if to == "nothing" => refused(Blame::Wish, "wrong_target"),
        Command::Call { to, .. } if to == "offline" => refused(Blame::Environment, "not_registered"),
        Command::Call { to, .. } if to == "*46" => Ok(Reply::Done),
        Command::Call { .. } | Command::Callback(_) => {
            *dialled += 1;
            Ok(Reply::Call(Box::new(call(&format!("new{dialled}"), "dialing"))))
        }
        Command::Status => Ok(Reply::Status(Box::new(snapshot(sequence)))),
        Command::Route { numbers, .. } => Ok(Reply::Routes(numbers.iter().map(decision).collect())),
        Command::HangUp { call: Some(id) } if id == "gone" => refused(Blame::NotFound, "no_such_call"),
        Command::Answer { call: Some(_) } => refused(Blame::State, "not_ringing"),
        Command::Hold { .. } | Command::Mute { .. } => Ok(Reply::Call(Box::new(call("c1", "held")))),
        _ => Ok(Reply::Done),
    }
}

/// A line whose registrar is gone, under a name that a terminal would obey.
fn facts() -> Facts {
    let way = Way {
        transport: "udp",
        configured: true,
        address: "192.0.2.10:5060".parse().expect("an address"),
        reached: Reached::Refused,
        why: None,
        told: Registrar::default(),
    };
    let line = Line {
        name: "main\x1b[2J".into(),
        destination: "pbx.example".into(),
        ways: vec![way],
        password: "not_asked",
        ..Line::default()
    };
    let mut facts = Facts { running: true, lines: vec![line], ..Facts::default() };
    facts.time = "2026-11-21T08:00:00.000000Z".into();
    facts.clock.set = true;
    facts
}

fn desk_thread(
    mut wishes: mpsc::Receiver<Wish>,
    asked: Arc<Mutex<Vec<Asked>>>,
    asker: Arc<Mutex<Option<mpsc::Sender<Question>>>>,
    committed: watch::Receiver<Tail>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut dialled = 0;
        let mut tracer = Tracer::default();
        let border = |sent| Border {
            line: Some("main".into()),
            sent,
            transport: "udp".into(),
            local: Some("192.0.2.1:5060".parse().expect("an address")),
            remote: "192.0.2.10:5060".parse().expect("an address"),
        };
        let request = "REGISTER sip:pbx.example SIP/2.0\r\nCall-ID: r1\r\nCSeq: 2 REGISTER\r\n\
                       Authorization: Digest username=\"1001\", response=\"planted-response-11\"\r\n\r\n";
        let now = Now { mono_us: 1, utc_us: THEN };
        tracer.keep(now, border(true), request.as_bytes());
        tracer.keep(now, border(false), b"SIP/2.0 200 OK\r\nCall-ID: r1\r\nCSeq: 2 REGISTER\r\n\r\n");
        while let Some(wish) = wishes.blocking_recv() {
            match wish {
                Wish::Command { command, origin, reply } => {
                    if command != Command::Status {
                        asked.lock().expect("a lock").push(Asked::Command(command.clone(), origin));
                    }
                    let _ = reply.send(obey(command, committed.borrow().newest(), &mut dialled));
                }
                Wish::Trace { after, line, call, reply } => {
                    let _ = reply.send(tracer.after(
                        after,
                        line.as_deref(),
                        call.as_deref().map(|it| [it]).as_ref().map(|it| &it[..]),
                    ));
                }
                Wish::Intruder { interface, user, .. } => {
                    asked.lock().expect("a lock").push(Asked::Intruder { interface, user });
                }
                Wish::Tell(kind) => asked.lock().expect("a lock").push(Asked::Tell(kind)),
                Wish::AnswerQuestions(new) => *asker.lock().expect("a lock") = Some(new),
                Wish::Answered { id, answer } => {
                    asked.lock().expect("a lock").push(Asked::Answered { id, answer });
                }
                Wish::Examine { lifetime, reply } => {
                    asked.lock().expect("a lock").push(Asked::Examine(lifetime));
                    let _ = reply.send(Ok(Box::new(Diagnosis::of(facts()))));
                }
                Wish::Reload { reply } => {
                    asked.lock().expect("a lock").push(Asked::Reload);
                    let _ = reply
                        .send(Err(vec!["t.toml:3: nonsense; write sense".into(), "t.toml:9: more".into()]));
                }
                Wish::Stop => return,
            }
        }
    })
}

fn store_thread(file: PathBuf, jobs: Receiver<Box<Job>>, committed: watch::Sender<Tail>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let connection = rusqlite::Connection::open(file).expect("a database");
        let mut store = Store::open(connection).expect("a store");
        for job in jobs {
            match *job {
                Job::Keep(write) => {
                    let events = store.commit(std::slice::from_ref(&write)).expect("a commit");
                    let newest = store.last_sequence().expect("a number");
                    committed.send_modify(|tail| tail.append(events, newest));
                }
                Job::Events { since, limit, reply } => drop(reply.send(store.events_since(since, limit))),
                Job::EventsOfCall { call, reply } => drop(reply.send(store.events_of_call(&call))),
                Job::Journal { query, reply } => drop(reply.send(store.journal(&query))),
                Job::Call { call, reply } => drop(reply.send(store.call(&call))),
                // The phone of this office is on paper: it asks nothing.
                Job::Recall(_) | Job::Keeping(_) => {}
                Job::Concerned { whose, reply } => drop(reply.send(store.concerned(&whose))),
                Job::Erase { whose, now_utc_us, reply } => {
                    let erased = store.erase(&whose, now_utc_us);
                    committed.send_modify(Tail::clear);
                    drop(reply.send(erased));
                }
                Job::Commit { write, reply } => drop(reply.send(store.commit(&[write]).map(drop))),
                Job::Upstreams { reply } => {
                    drop(reply.send(Standing::of(&store)));
                }
                Job::Stop => return,
            }
        }
    })
}

impl Paper {
    pub fn open(name: &str) -> Paper {
        Paper::with(name, "")
    }

    /// With more in its configuration.
    pub fn with(name: &str, more: &str) -> Paper {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        Paper::at(folder, free, more)
    }

    pub fn at(folder: PathBuf, address: SocketAddr, more: &str) -> Paper {
        let text = format!(
            "[device]\nname = \"Reception\"\nserial = \"TR-1\"\ndata = {data:?}\n\
             [admin]\nlisten = \"{address}\"\nsocket = {socket:?}\n\
             tokens = [{{ name = \"crm\", token = \"{TOKEN}\", role = \"operate\" }}]\n\
             users = [{{ name = \"anna\", password = \"{PASSWORD}\", role = \"view\" }}]\n\
             [[line]]\nname = \"main\"\nuser = \"1001\"\ndomain = \"pbx.example\"\n\
             password = \"{LINE_PASSWORD}\"\n{more}",
            data = folder.join("data"),
            socket = folder.join("api.sock"),
        );
        let config = Config::parse(&text, "t.toml").expect("a configuration");
        let (committed, newest) = watch::channel(Tail::default());
        let (jobs, inbox) = sync_channel(256);
        let archive = Archive::new(jobs.clone(), newest.clone());
        let (desk, wishes) = Desk::open();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asker = Arc::new(Mutex::new(None));
        let mut threads = vec![
            store_thread(folder.join("store.db"), inbox, committed),
            desk_thread(wishes, asked.clone(), asker.clone(), newest),
        ];
        let (stop, stopped) = oneshot::channel::<()>();
        let (new_tls, tls) = watch::channel(None);
        let (new_config, config) = watch::channel(Arc::new(config));
        let chance = Chance::from_number(7);
        let (dispatcher, upstreams) = Dispatcher::new(archive.clone(), desk.clone(), config.clone(), chance);
        let office = Office { desk, archive, upstreams, config, tls };
        threads.push(std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (end, ended) = oneshot::channel::<()>();
                let stopping = async {
                    let _ = stopped.await;
                    drop(end);
                };
                let ending = async { drop(ended.await) };
                tokio::join!(serve(office, stopping), dispatcher.run(ending));
            });
        }));
        let recorder = Mutex::new(Recorder::new(0, Chance::from_number(1)));
        let config = new_config;
        let paper = Paper {
            folder,
            address,
            jobs,
            recorder,
            asked,
            asker,
            tls: new_tls,
            config,
            stop: Some(stop),
            threads,
        };
        until("the socket opens", || UnixStream::connect(paper.socket()).is_ok());
        paper
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("api.sock")
    }

    pub fn keep(&self, write: Keep) {
        self.jobs.send(Box::new(Job::Keep(write))).expect("the store runs");
    }

    /// Something happened.
    pub fn tell(&self, event: Event) -> u64 {
        let now = Now { mono_us: 1, utc_us: THEN };
        let recorded = self.recorder.lock().expect("a lock").record(now, event);
        let sequence = recorded.sequence;
        self.keep(Keep::Event(Box::new(recorded)));
        sequence
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().expect("a lock"))
    }

    /// The phone asks who calls.
    pub fn ask(&self, question: Question) {
        let asker = self.asker.lock().expect("a lock");
        asker.as_ref().expect("somebody asks").try_send(question).expect("room");
    }

    pub fn local(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.send(method, path, &[], body)
    }

    pub fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: Option<&str>) -> Answer {
        let stream = UnixStream::connect(self.socket()).expect("a connection");
        let mut all = vec![("Host", "localhost")];
        if body.is_some() && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            all.push(("Content-Type", "application/json"));
        }
        all.extend(fields);
        exchange(stream, method, path, &all, body.unwrap_or_default())
    }

    /// Over the network; nothing is added but what a request must have.
    pub fn remote(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        until("the address opens", || TcpStream::connect(self.address).is_ok());
        exchange(TcpStream::connect(self.address).expect("a connection"), method, path, fields, body)
    }

    /// Ends it in order.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            if let Some(office) = self.threads.pop() {
                office.join().expect("the office ends in order");
            }
            let _ = self.jobs.send(Box::new(Job::Stop));
        }
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answer {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A server that refuses early may close before all is written.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), text: body.to_owned() }
}

/// A reader of server-sent events.
pub struct Reader {
    lines: BufReader<UnixStream>,
}

impl Reader {
    pub fn open(paper: &Paper, path: &str, fields: &str) -> Reader {
        let mut stream = UnixStream::connect(paper.socket()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").expect("a request");
        Reader { lines: BufReader::new(stream) }
    }

    /// The next line that begins so, without its beginning; `None` at the end of the stream.
    pub fn next(&mut self, beginning: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("a line in time") == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix(beginning) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    /// Sequence number and content of the next event.
    pub fn event(&mut self) -> (u64, Value) {
        let id = self.next("id: ").expect("an event").parse().expect("a number");
        (id, serde_json::from_str(&self.next("data: ").expect("its data")).expect("JSON"))
    }
}

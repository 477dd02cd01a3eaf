//! The program itself, killed at any moment under load: what was told stays true, and what happened is told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tipring::chance::Chance;
use tipring::events::store::{Store, Write as Keep};
use tipring::events::upstream::state::State;
use tipring::events::{Event, Recorder};
use tipring::now::Now;

use crate::broker::{self, Broker, Heard};
use crate::office::{Answer, THEN, exchange, until};
use crate::receiver::{Receiver, Reply};

/// Kills in `make test`; `make soak` asks for more.
const KILLS: u32 = 50;
/// The types that are counted: the load, and each life's first word.
const TYPES: [&str; 2] = ["tipring.config.applied", "tipring.device.started"];
/// The longest life.
const LONGEST_MS: u32 = 300;
/// Between two wishes of a load.
const PAUSE: Duration = Duration::from_millis(3);
/// Who was refused waits longer each time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program with nothing but upstreams.
pub struct Appliance {
    folder: PathBuf,
    child: Child,
}

impl Appliance {
    /// A folder with a configuration of these upstreams.
    pub fn prepare(name: &str, tables: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = format!(
            "[device]\nserial = \"TR-1\"\ndata = \"data\"\n[sip]\nbind = \"127.0.0.1\"\nport_udp = 0\nport_tcp = 0\n\
             [audio]\nbackend = \"none\"\n[admin]\nlisten = \"off\"\nsocket = \"api.sock\"\n{tables}"
        );
        std::fs::write(folder.join("t.toml"), text).expect("a configuration");
        folder
    }

    /// Puts events into its store while it does not run, of which this upstream was told none.
    pub fn remember(folder: &Path, upstream: &str, events: Vec<Event>) {
        let connection = rusqlite::Connection::open(folder.join("data/tipring.db")).expect("a database");
        let mut store = Store::open(connection).expect("a store");
        let seen = store.last_sequence().expect("a number");
        let state = State { name: upstream.to_owned(), seen, ..State::default() };
        store.commit(&[Keep::Upstream(state)]).expect("a commit");
        let mut recorder = Recorder::new(seen, Chance::from_number(9));
        let now = Now { mono_us: 1, utc_us: THEN };
        let record = |event| Keep::Event(Box::new(recorder.record(now, event)));
        store.commit(&events.into_iter().map(record).collect::<Vec<_>>()).expect("a commit");
    }

    pub fn start(folder: &Path) -> Appliance {
        let child = Command::new(env!("CARGO_BIN_EXE_tipring"))
            .args(["run", "--config"])
            .arg(folder.join("t.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Appliance { folder: folder.to_path_buf(), child }
    }

    pub fn open(&self) {
        until("the API opens", || self.ask("GET", "/healthz").is_some());
    }

    pub fn ask(&self, method: &str, path: &str) -> Option<Answer> {
        let stream = UnixStream::connect(self.folder.join("api.sock")).ok()?;
        let fields = [("Host", "localhost"), ("Content-Type", "application/json")];
        Some(exchange(stream, method, path, &fields, ""))
    }

    /// Whether this upstream was told everything.
    pub fn is_idle(&self, upstream: &str) -> bool {
        let Some(answer) = self.ask("GET", "/api/v1/upstreams").filter(|it| it.status == 200) else {
            return false;
        };
        let all = answer.json()["upstreams"].clone();
        all.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == upstream && it["state"] == "idle"))
    }

    /// Has it tell one event after the other until it is gone.
    fn load(&self) -> JoinHandle<()> {
        let socket = self.folder.join("api.sock");
        std::thread::spawn(move || {
            let request = "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";
            while let Ok(mut stream) = UnixStream::connect(&socket) {
                let mut answer = String::new();
                let asked = stream.write_all(request.as_bytes());
                if asked.is_err()
                    || BufReader::new(stream).read_line(&mut answer).is_err()
                    || answer.is_empty()
                {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        })
    }

    /// What its stream tells after the event with the number `since` until it ends, or until that with the number `last`.
    fn listen(&self, since: u64, last: Option<u64>) -> JoinHandle<Vec<(u64, String)>> {
        let socket = self.folder.join("api.sock");
        std::thread::spawn(move || {
            let mut told = Vec::new();
            let Ok(mut stream) = UnixStream::connect(&socket) else { return told };
            if write!(stream, "GET /api/v1/events?since={since} HTTP/1.1\r\nHost: localhost\r\n\r\n").is_err()
            {
                return told;
            }
            for line in BufReader::new(stream).lines() {
                // The last line of a life may be half of one.
                let Ok(line) = line else { break };
                let Some(event) =
                    line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok())
                else {
                    continue;
                };
                let number = event["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number");
                if TYPES.iter().any(|kind| event["type"] == *kind) {
                    told.push((number, event["id"].as_str().expect("an id").to_owned()));
                }
                if Some(number) == last {
                    break;
                }
            }
            told
        })
    }

    /// Kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

fn kills() -> u32 {
    std::env::var("TIPRING_KILLS").map_or(KILLS, |text| text.parse().expect("TIPRING_KILLS is a number"))
}

/// At every moment of many lives, while it starts, records, delivers and is refused: nothing that anybody was told is told
/// otherwise afterwards, nothing is missing, nothing out of order, no number used twice.
#[test]
fn killed_at_random_moments_under_load_it_loses_nothing_and_says_the_same() {
    let receivers = [
        Receiver::willing(),
        Receiver::open(|_, count| match count % 5 {
            1 => Reply::Close,
            3 => Reply::Status(503),
            _ => Reply::Status(200),
        }),
        Receiver::open(|_, count| if count % 97 == 0 { Reply::Status(500) } else { Reply::Status(200) }),
    ];
    let broker = Broker::open(None, |heard, count| match heard {
        Heard::Publish(_) if count % 31 == 30 => broker::Reply::Close,
        _ => broker::Reply::Usual,
    });
    let wanted = "[\"config.applied\", \"device.started\"]";
    let table = |(at, receiver): (usize, &Receiver)| {
        receiver.table(&format!("crm{at}"), "").replace("[\"*\"]", wanted)
    };
    let mut tables: String = receivers.iter().enumerate().map(table).collect();
    tables.push_str(&broker.table("crm3", "", "").replace("[\"*\"]", wanted));
    let folder = Appliance::prepare("api-killed", &tables);
    // An upstream is told what happens since it was there first.
    let first = Appliance::start(&folder);
    first.open();
    until("the upstreams begin", || {
        first.ask("GET", "/api/v1/upstreams").is_some_and(|answer| answer.text.contains("crm3"))
    });
    let mut chance = Chance::from_number(50);
    let (mut life, mut told, mut seen) = (first, Vec::<(u64, String)>::new(), 0);
    for number in 1..=kills() {
        // Every third one dies while it starts.
        let threads = (number % 3 > 0).then(|| {
            life.open();
            (life.listen(seen, None), [life.load(), life.load()])
        });
        std::thread::sleep(Duration::from_millis(u64::from(chance.below(LONGEST_MS))));
        life.kill();
        if let Some((listening, loads)) = threads {
            told.extend(listening.join().expect("a listener"));
            seen = told.last().map_or(0, |(number, _)| *number);
            loads.into_iter().for_each(|load| load.join().expect("a load"));
        }
        life = Appliance::start(&folder);
    }
    life.open();
    receivers.iter().for_each(|receiver| receiver.behave(|_, _| Reply::Status(200)));
    broker.behave(|_, _| broker::Reply::Usual);
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let all = life.ask("GET", "/api/v1/upstreams").expect("an answer").json()["upstreams"].clone();
        let all = all.as_array().expect("upstreams").clone();
        if all.len() == receivers.len() + 1 && all.iter().all(|it| it["state"] == "idle") {
            break;
        }
        assert!(std::time::Instant::now() < end, "somebody does not get everything: {all:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = life.ask("GET", "/api/v1/status").expect("an answer").json();
    let last = status["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number");
    let recorded = life.listen(0, Some(last)).join().expect("a listener");
    assert!(recorded.windows(2).all(|pair| pair[0].0 < pair[1].0), "no number twice");
    assert!(recorded.len() as u32 > 2 * kills(), "there was a load: {} events", recorded.len());
    let known: std::collections::BTreeMap<_, _> = recorded.iter().cloned().collect();
    let twice = told.windows(2).filter(|pair| pair[0].0 >= pair[1].0).count();
    assert_eq!(twice, 0, "who asks for what follows a number is told nothing before it");
    for (number, id) in &told {
        assert_eq!(known.get(number), Some(id), "what was told is what is recorded");
    }
    let got = |it: &Receiver| it.got().iter().map(|got| (got.sequence(), got.id.clone())).collect();
    let mut all: Vec<_> = receivers.iter().map(|it| (got(it), it.taken())).collect();
    all.push((broker.events(), broker.taken()));
    for (at, (got, taken)) in all.into_iter().enumerate() {
        let got: Vec<(u64, String)> = got;
        for (number, id) in got {
            assert_eq!(known.get(&number), Some(&id), "one identity for ever");
        }
        // The first life's first word came before the upstreams did.
        let missing: Vec<_> = known.keys().filter(|number| !taken.contains(number)).collect();
        assert!(missing.len() <= 1, "{at}: {missing:?} of {} are missing", known.len());
        assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "{at}: out of order");
    }
    println!("{} kills, {} events, {} told in between", kills(), recorded.len(), told.len());
    life.kill();
}

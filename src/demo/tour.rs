//! `tipring demo`: two real phones and the PBX on loopback; they register, call each other and the echo, and
//! it is told what happened and how good it was.
#![allow(clippy::disallowed_methods, reason = "the demo's driver runs on the real machine")]

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::chance::Chance;
use crate::demo::host::Host;
use crate::demo::pbx::{ECHO, User};
use crate::demo::report::{CallReport, LineReport, Report, Stage, Told};
use crate::demo::station::Station;
use crate::device::clock;
use crate::events::archive::Archive;
use crate::events::{CloudEvent, Origin};
use crate::phone::command::{Command, Reply};

/// How long anything may take that should be done in a moment; an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two pictures of the moving line.
const PICTURE: Duration = Duration::from_millis(100);
/// Events that may wait to be shown.
const QUEUE: usize = 1024;
/// Events that are asked for at once.
const PAGE: u32 = 100;
/// The least share of the words that has to be recognised. By chance it is below a fifth; on a machine that
/// has no time for its media threads it is not all.
const RECOGNISED: f32 = 0.5;
/// Events of two phones are shown in the order of their time stamps, so each waits for those that may still
/// come.
const SETTLED: Duration = Duration::from_millis(40);

/// What the tour shall be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long each of the two calls is talked in, in seconds.
    pub seconds: u64,
    /// Prints one JSON document at the end instead of text on the way.
    pub json: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { seconds: 6, json: false }
    }
}

/// Runs the tour. The exit code: 0 if all went well, else 1; the reason stands in what is printed.
pub fn run(options: Options) -> u8 {
    let colours = std::env::var_os("NO_COLOR").is_none();
    let mut stage = Stage::new(stdout().is_terminal(), colours, options.json);
    let mut report = Report {
        ok: false,
        reason: None,
        version: env!("CARGO_PKG_VERSION"),
        lines: Vec::new(),
        calls: Vec::new(),
        events: Vec::new(),
    };
    let outcome = all(options, &mut stage, &mut report);
    report.ok = outcome.is_ok();
    report.reason = outcome.err();
    stage.table(&report);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    }
    u8::from(!report.ok)
}

/// A folder that goes away with the tour.
struct Folder(PathBuf);

impl Folder {
    fn new(chance: &mut Chance) -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("tipring-demo-{}", chance.token(6)));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}; set TMPDIR", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn all(options: Options, stage: &mut Stage, report: &mut Report) -> Result<(), String> {
    let system =
        |what: &'static str| move |error: std::io::Error| format!("the system refuses {what}: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("an event loop"))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("the system refuses randomness: {error}"))?;
    let mut chance = Chance::from_seed(seed);
    let folder = Folder::new(&mut chance)?;
    let anna = User { display: Some("Anna".into()), ..User::new("101", &chance.token(8)) };
    let boris = User { display: Some("Boris".into()), ..User::new("102", &chance.token(8)) };
    let host = Host::start(vec![anna.clone(), boris.clone()], chance.fork())
        .map_err(system("sockets on loopback"))?;
    let begun_us = clock::now().utc_us;
    stage.chapter(&format!("A PBX at udp:{}, and two phones: 101 and 102", host.address));
    let stations = start(&folder.0, [&anna, &boris], &host);
    let outcome = stations.and_then(|stations| {
        let toured = runtime.block_on(async {
            let mut tour = Tour::new(stage, &stations, begun_us);
            let toured = tour.go(&options, report).await;
            tour.show(Duration::ZERO);
            report.events.append(&mut tour.events);
            toured
        });
        stations.into_iter().for_each(Station::stop);
        toured
    });
    host.stop();
    outcome
}

fn start(folder: &Path, users: [&User; 2], host: &Host) -> Result<Vec<Station>, String> {
    let mut stations: Vec<Station> = Vec::new();
    for (index, user) in users.into_iter().enumerate() {
        match Station::start(folder, user, host.address, 1 + index as u64) {
            Ok(station) => stations.push(station),
            Err(why) => {
                stations.into_iter().for_each(Station::stop);
                return Err(why);
            }
        }
    }
    Ok(stations)
}

/// The tour on its way.
struct Tour<'a> {
    stage: &'a mut Stage,
    stations: &'a [Station],
    inbox: mpsc::Receiver<(usize, CloudEvent)>,
    begun_us: i64,
    events: Vec<serde_json::Value>,
    /// What has been told and not yet been waited for.
    told: Vec<(usize, CloudEvent)>,
    /// What has not been shown yet.
    unseen: Vec<(usize, CloudEvent)>,
}

/// Follows the events of one phone from its first.
async fn follow(index: usize, mut archive: Archive, tell: mpsc::Sender<(usize, CloudEvent)>) {
    let mut last = 0;
    while archive.newer_than(last).await {
        let Ok(events) = archive.events(last, PAGE).await else { return };
        for event in events {
            last = event.sequence;
            if tell.send((index, event)).await.is_err() {
                return;
            }
        }
    }
}

impl<'a> Tour<'a> {
    /// A tour that has not begun; must be made inside the event loop.
    fn new(stage: &'a mut Stage, stations: &'a [Station], begun_us: i64) -> Tour<'a> {
        let (tell, inbox) = mpsc::channel(QUEUE);
        for (index, station) in stations.iter().enumerate() {
            tokio::spawn(follow(index, station.handles.archive.clone(), tell.clone()));
        }
        Tour { stage, stations, inbox, begun_us, events: Vec::new(), told: Vec::new(), unseen: Vec::new() }
    }

    async fn go(&mut self, options: &Options, report: &mut Report) -> Result<(), String> {
        for index in 0..self.stations.len() {
            let at_us = self.wait(index, "line.registered").await?.utc_us;
            let line = self.stations[index].user.clone();
            report.lines.push(LineReport { line, registered_ms: (at_us - self.begun_us) as f64 / 1e3 });
        }
        let (anna, boris) = (&self.stations[0], &self.stations[1]);
        let peer = boris.user.clone();
        self.chapter(&format!("{} calls {peer}", anna.user));
        self.begin(0, &peer).await?;
        self.wait(1, "call.ringing").await?;
        self.ask(1, Command::Answer { call: None }).await?;
        let set_up = [self.answered(0).await?, self.answered(1).await?];
        self.talk(options.seconds).await;
        self.ask(0, Command::HangUp { call: None }).await?;
        for (index, set_up_ms) in set_up.into_iter().enumerate() {
            let call =
                self.ended(index, set_up_ms, self.stations[index].heard(&self.stations[1 - index])).await?;
            report.calls.push(call);
        }
        let boris = &self.stations[1];
        self.chapter(&format!("{} calls the echo at {ECHO}", boris.user));
        boris.forget();
        self.begin(1, ECHO).await?;
        let set_up_ms = self.answered(1).await?;
        self.talk(options.seconds).await;
        self.ask(1, Command::HangUp { call: None }).await?;
        let call = self.ended(1, set_up_ms, boris.heard(boris)).await?;
        report.calls.push(call);
        match report.calls.iter().find(|call| call.heard_percent < f64::from(RECOGNISED) * 100.0) {
            None => Ok(()),
            Some(call) => Err(format!(
                "{} recognised only {:.0} % of what {} said; is this machine very busy?",
                call.line, call.heard_percent, call.peer
            )),
        }
    }

    async fn ask(&self, index: usize, command: Command) -> Result<Reply, String> {
        let station = &self.stations[index];
        let outcome = station.handles.desk.ask(command, Origin::Api).await;
        outcome.map_err(|refusal| format!("{} refuses: {refusal}", station.user))
    }

    async fn begin(&mut self, index: usize, to: &str) -> Result<(), String> {
        self.ask(index, Command::Call { to: to.to_owned(), line: None }).await.map(|_| ())
    }

    /// Waits for the answer; how long it took in milliseconds.
    async fn answered(&mut self, index: usize) -> Result<f64, String> {
        Ok(Told::by(&self.wait(index, "call.answered").await?).time("/ring_us", 1e3))
    }

    /// Waits for the end of a call on one side, and says what it was like there.
    async fn ended(&mut self, index: usize, set_up_ms: f64, heard: f32) -> Result<CallReport, String> {
        let told = Told::by(&self.wait(index, "call.ended").await?);
        self.wait(index, "call.closed").await?;
        let line = self.stations[index].user.clone();
        let (result, direction) = (told.word("/result"), told.word("/direction"));
        let codec = told.text("/quality/codec").filter(|_| result == "answered");
        let Some(codec) = codec else {
            return Err(format!("the call of {line} ended with {result} ({})", told.word("/cause/text")));
        };
        let peer = if direction == "out" { "/called/dialled" } else { "/caller/dialled" };
        Ok(CallReport {
            line,
            peer: told.word(peer).to_owned(),
            direction: direction.to_owned(),
            set_up_ms,
            codec: codec.to_owned(),
            packets_sent: told.count("/quality/packets_sent"),
            packets_received: told.count("/quality/packets_received"),
            packets_lost: told.count("/quality/packets_lost"),
            packets_late: told.count("/quality/packets_late"),
            jitter_ms: told.time("/quality/jitter_us", 1e3),
            mos: told.number("/quality/mos"),
            mos_scale: told.text("/quality/mos_scale").map(str::to_owned),
            heard_percent: f64::from(heard) * 100.0,
        })
    }

    /// Keeps one event, to be shown soon.
    fn take(&mut self, index: usize, cloud: CloudEvent) {
        self.told.push((index, cloud.clone()));
        self.unseen.push((index, cloud));
    }

    /// Shows the events of `age` and older.
    fn show(&mut self, age: Duration) {
        let until_us = clock::now().utc_us - i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        crate::order::sort_by_key(&mut self.unseen, |(index, cloud)| (cloud.utc_us, *index, cloud.sequence));
        let count = self.unseen.partition_point(|(_, cloud)| cloud.utc_us <= until_us);
        for (index, cloud) in self.unseen.drain(..count) {
            let user = &self.stations[index].user;
            self.stage.event(cloud.utc_us - self.begun_us, user, &cloud);
            if let Ok(json) = serde_json::from_str(&cloud.to_json(user)) {
                self.events.push(json);
            }
        }
    }

    /// Shows what there is, then a heading.
    fn chapter(&mut self, text: &str) {
        self.show(Duration::ZERO);
        self.stage.chapter(text);
    }

    /// Waits until a phone tells this.
    async fn wait(&mut self, index: usize, name: &str) -> Result<CloudEvent, String> {
        let late = tokio::time::sleep(PATIENCE);
        tokio::pin!(late);
        loop {
            self.show(SETTLED);
            let known = self.told.iter().position(|(of, event)| *of == index && event.kind == name);
            if let Some(at) = known {
                return Ok(self.told.remove(at).1);
            }
            tokio::select! {
                Some((of, event)) = self.inbox.recv() => self.take(of, event),
                () = tokio::time::sleep(SETTLED) => {}
                () = &mut late => return Err(self.missing(index, name)),
            }
        }
    }

    /// Why something did not come, as far as the events tell.
    fn missing(&self, index: usize, name: &str) -> String {
        let user = &self.stations[index].user;
        let hint = self.told.iter().rev().filter(|(of, _)| *of == index).find_map(|(_, event)| {
            let told = Told::by(event);
            match event.kind.as_str() {
                "line.rejected" | "line.unregistered" | "call.ended" => {
                    told.text("/cause/text").map(str::to_owned)
                }
                "device.degraded" => Some(format!("{}; {}", told.word("/what"), told.word("/cure"))),
                _ => None,
            }
        });
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{user} told no {name} within {} s{hint}", PATIENCE.as_secs())
    }

    /// Lets both talk, and shows what is told meanwhile.
    async fn talk(&mut self, seconds: u64) {
        let begun = tokio::time::Instant::now();
        let all = Duration::from_secs(seconds);
        while begun.elapsed() < all {
            let left = all.saturating_sub(begun.elapsed());
            let pause = PICTURE.min(left);
            self.show(SETTLED);
            self.stage.talking(begun.elapsed().as_secs_f64(), all.as_secs_f64());
            tokio::select! {
                Some((of, event)) = self.inbox.recv() => self.take(of, event),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

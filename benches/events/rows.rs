//! What is done and counted for deliveries upstream.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{Make, Program, Task, Workshop};
use crate::receiver::{KINDS, Receiver};
use crate::registrar::Registrar;
use crate::table::Row;
use crate::usage::percentile;
use crate::{record, sound, usage};

/// The account.
const USER: &str = "upstream";
/// Upstreams at once.
const UPSTREAMS: usize = 16;
/// How often it is looked what has come.
const LOOK: Duration = Duration::from_millis(2);
/// So many looks in vain, and nothing more comes.
const QUIET: u32 = 1000;

/// What the rows share.
pub struct Bench {
    pub full: bool,
    pub tipring: PathBuf,
    pub folder: PathBuf,
}

impl Bench {
    fn prepare(&self, registrar: &Registrar, more: &str) -> Result<Command, String> {
        let wav = self.folder.join("speech.wav");
        sound::write_wav(&wav, &sound::speech(7, 8000, 2), 8000, 8000)?;
        let workshop = Workshop { tipring: self.tipring.clone(), folder: self.folder.clone() };
        workshop.prepare(Make::Tipring, &Task { more, ..Task::new(USER, registrar, "PCMA", &wav) })
    }

    fn start(&self, command: &mut Command) -> Result<Program, String> {
        let workshop = Workshop { tipring: self.tipring.clone(), folder: self.folder.clone() };
        workshop.start(USER, command).map(|(program, _)| program)
    }

    fn data(&self) -> PathBuf {
        self.folder.join(USER).join("data")
    }
}

fn end(mut program: Program, registrar: &mut Registrar) {
    program.ask_to_end();
    let patience = Instant::now() + Duration::from_secs(10);
    while !program.ended() && Instant::now() < patience {
        registrar.serve(Duration::from_millis(5));
    }
}

/// From the moment that an event names to its first byte at a webhook on the loopback, beside what a commit of the same
/// disk takes.
pub fn latency(bench: &Bench) -> Result<Vec<Row>, String> {
    let receiver = Receiver::open().map_err(|error| error.to_string())?;
    let mut registrar = Registrar::open().map_err(|error| error.to_string())?;
    let program = bench.start(&mut bench.prepare(&registrar, &receiver.table("crm", KINDS[0]))?)?;
    registrar.registered(USER).map_err(|error| format!("{error}:\n{}", program.output()))?;
    registrar.serve(Duration::from_millis(500));
    drop(receiver.all());
    let (mut first, mut every, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if bench.full { 300 } else { 60 } {
        let call = registrar.call(USER, &sound::offer("PCMA", 9))?;
        registrar.serve(Duration::from_millis(50));
        registrar.hang_up(&call)?;
        registrar.serve(Duration::from_millis(50));
        for delivery in receiver.all() {
            let event: serde_json::Value =
                serde_json::from_slice(&delivery.body).map_err(|error| error.to_string())?;
            let moment: jiff::Timestamp =
                event["time"].as_str().and_then(|it| it.parse().ok()).ok_or("an event without a time")?;
            let took = (delivery.arrived_us - moment.as_microsecond()) as f64 / 1e3;
            every.push(took);
            // Nothing of its call is under way before the first one.
            if event["type"] == "tipring.call.new" {
                first.push(took);
            }
        }
        commits.push(sync(&bench.folder)?);
    }
    end(program, &mut registrar);
    let [first_p50, every_p50, commit] = [&first, &every, &commits].map(|all| percentile(all, 50));
    let beyond = first_p50 - commit;
    Ok(vec![Row {
        what: format!(
            "event → wire of a webhook, beyond one fsync, p50 of {} first events of a call",
            first.len()
        ),
        ours: format!(
            "{beyond:.2} ms ({first_p50:.2} with the fsync's {commit:.2}; p95 {:.2}; all {} events: p50 {every_p50:.2})",
            percentile(&first, 95),
            every.len()
        ),
        theirs: "–".to_owned(),
        target: "≤ 2 ms".to_owned(),
        reached: Some(beyond <= 2.0),
        field: "–".to_owned(),
    }])
}

/// How long writing a page and syncing it takes, in milliseconds.
fn sync(folder: &Path) -> Result<f64, String> {
    let path = folder.join("sync");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(&path).map_err(failed)?;
    let begun = Instant::now();
    file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(failed)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// A record that 16 upstreams still have to be told, delivered by a program that has one core.
pub fn deliveries(bench: &Bench) -> Result<Vec<Row>, String> {
    let count = if bench.full { 5000 } else { 1000 };
    let receivers = receivers()?;
    let mut registrar = Registrar::open().map_err(|error| error.to_string())?;
    let plain = bench.prepare(&registrar, &tables(&receivers))?;
    let names: Vec<String> = (0..UPSTREAMS).map(name).collect();
    record::write(&bench.data(), count, &names)?;
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]).arg(plain.get_program()).args(plain.get_args());
    let program = bench.start(&mut pinned)?;
    registrar.registered(USER).map_err(|error| format!("{error}:\n{}", program.output()))?;
    // Each kind has words for other events: it is over when nothing more comes.
    let (mut moments, mut used, mut quiet) = (Vec::new(), [0; 2], 0);
    while moments.is_empty() || quiet < QUIET {
        let come = receivers.iter().flat_map(Receiver::all).map(|delivery| delivery.arrived_us);
        let before = moments.len();
        moments.extend(come);
        if moments.len() > before {
            let at = usize::from(before > 0);
            used[at] = usage::processor_ns(program.pid())?;
            quiet = 0;
        } else {
            quiet += 1;
        }
        std::thread::sleep(LOOK);
    }
    let used = used[1].saturating_sub(used[0]);
    end(program, &mut registrar);
    let (begin, finish) = (moments.iter().min().copied(), moments.iter().max().copied());
    let lasted = (finish.unwrap_or_default() - begin.unwrap_or_default()) as f64 / 1e6;
    let rate = moments.len() as f64 / lasted;
    Ok(vec![Row {
        what: format!(
            "{} deliveries to {UPSTREAMS} upstreams of {} kinds, one core for the program",
            moments.len(),
            KINDS.len()
        ),
        ours: format!(
            "{rate:.0} a second ({:.0} µs of processor each)",
            used as f64 / 1e3 / moments.len() as f64
        ),
        theirs: "–".to_owned(),
        target: "≥ 5,000 a second".to_owned(),
        reached: Some(rate >= 5000.0),
        field: "–".to_owned(),
    }])
}

/// Instructions of the thread that speaks SIP, per call, with 16 upstreams and without. Two runs of different length each,
/// so that start and end fall out.
pub fn control(bench: &Bench) -> Result<Vec<Row>, String> {
    let calls: [usize; 2] = if bench.full { [10, 60] } else { [5, 20] };
    let receivers = receivers()?;
    let per_call = |tables: &str| -> Result<f64, String> {
        let (few, many) = (counted(bench, tables, calls[0])?, counted(bench, tables, calls[1])?);
        Ok((many - few) / (calls[1] - calls[0]) as f64)
    };
    let (without, with) = (per_call("")?, per_call(&tables(&receivers))?);
    let ratio = with / without;
    Ok(vec![Row {
        what: format!("instructions of the control thread per call, {UPSTREAMS} upstreams / none"),
        ours: format!("{ratio:.3} ({:.2} M / {:.2} M)", with / 1e6, without / 1e6),
        theirs: "–".to_owned(),
        target: "≤ 1.05".to_owned(),
        reached: Some(ratio <= 1.05),
        field: "–".to_owned(),
    }])
}

/// Instructions of the main thread, from start to end, with so many calls in between.
fn counted(bench: &Bench, tables: &str, calls: usize) -> Result<f64, String> {
    let mut registrar = Registrar::open().map_err(|error| error.to_string())?;
    let plain = bench.prepare(&registrar, tables)?;
    let out = bench.folder.join("callgrind");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--separate-threads=yes"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(plain.get_program()).args(plain.get_args());
    let program = bench.start(&mut command)?;
    registrar.registered(USER).map_err(|error| format!("{error}:\n{}", program.output()))?;
    registrar.serve(Duration::from_secs(1));
    for _ in 0..calls {
        let call = registrar.call(USER, &sound::offer("PCMA", 9))?;
        registrar.serve(Duration::from_millis(200));
        registrar.hang_up(&call)?;
        registrar.serve(Duration::from_millis(200));
    }
    end(program, &mut registrar);
    let main = out.with_file_name("callgrind-01");
    let text = fs::read_to_string(&main).map_err(|error| format!("{}: {error}", main.display()))?;
    let sum = text.lines().rev().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok());
    sum.ok_or_else(|| format!("no sum in {}", main.display()))
}

fn receivers() -> Result<Vec<Receiver>, String> {
    (0..UPSTREAMS).map(|_| Receiver::open()).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn tables(receivers: &[Receiver]) -> String {
    receivers
        .iter()
        .enumerate()
        .map(|(at, receiver)| receiver.table(&name(at), KINDS[at % KINDS.len()]))
        .collect()
}

fn name(at: usize) -> String {
    format!("u{at}")
}

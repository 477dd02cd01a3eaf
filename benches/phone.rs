//! The phone beside Debian's baresip, in the same run and in turns: starting, answering, idling, talking. `--full` takes the
//! time that figures in the README are taken with; `--only ROW` (start, setup, idle, many, opus, instructions, size)
//! measures one row. The program is the one that goes onto boards (profile device); `--program FILE` takes another.
// Measuring is about real time, real sockets and real processes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "phone/message.rs"]
mod message;
#[path = "phone/program.rs"]
mod program;
#[path = "phone/registrar.rs"]
mod registrar;
#[path = "phone/rows.rs"]
mod rows;
#[path = "phone/sound.rs"]
mod sound;
#[path = "phone/streams.rs"]
mod streams;
#[path = "phone/table.rs"]
mod table;
#[path = "phone/usage.rs"]
mod usage;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use program::Workshop;
use rows::{Amount, Bench, MANY};
use table::Row;
use usage::{median, percentile};

const SHORT: Amount = Amount { starts: 50, calls: 1000, idle: 30, talk: 10, rounds: 2, counted: [5, 15] };
const FULL: Amount = Amount { starts: 50, calls: 1000, idle: 120, talk: 30, rounds: 3, counted: [10, 40] };

struct Wishes {
    amount: Amount,
    only: Option<String>,
    tipring: PathBuf,
}

fn main() -> ExitCode {
    table::end(wishes().and_then(|wishes| measure(&wishes)))
}

fn wishes() -> Result<Wishes, String> {
    let mut wishes = Wishes { amount: SHORT, only: None, tipring: program::for_boards() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every bench.
            "--bench" => {}
            "--full" => wishes.amount = FULL,
            "--only" => wishes.only = arguments.next(),
            "--program" => wishes.tipring = arguments.next().ok_or("--program needs a file")?.into(),
            other => {
                return Err(format!(
                    "`{other}` is not known; there are --full, --only ROW and --program FILE"
                ));
            }
        }
    }
    Ok(wishes)
}

fn measure(wishes: &Wishes) -> Result<(), String> {
    let baresip = program::version(Command::new("baresip").arg("-h"), "baresip")
        .ok_or("baresip is missing: apt-get install baresip-core (scripts/setup peers)")?;
    if !wishes.tipring.exists() {
        let file = wishes.tipring.display();
        return Err(format!("no {file}: cargo build --locked --profile device --bin tipring"));
    }
    let folder = std::env::temp_dir().join(format!("tipring-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let workshop = Workshop { tipring: wishes.tipring.clone(), folder: folder.clone() };
    let registrar = registrar::Registrar::open().map_err(|error| error.to_string())?;
    let mut bench = Bench { workshop, registrar, amount: wishes.amount };
    println!("tipring {}, {baresip}, on {}", env!("CARGO_PKG_VERSION"), usage::machine());
    println!("load averages before: {}\n", usage::load());
    let result = table(&mut bench, wishes.only.as_deref());
    let _ = std::fs::remove_dir_all(&folder);
    table::print(&result?);
    println!("\nload averages after: {}", usage::load());
    Ok(())
}

fn table(bench: &mut Bench, only: Option<&str>) -> Result<Vec<Row>, String> {
    type Measure = fn(&mut Bench) -> Result<Vec<Row>, String>;
    let all: Vec<(&str, Measure)> = vec![
        ("start", start),
        ("setup", set_up),
        ("idle", idle),
        ("many", many),
        ("opus", opus),
        ("instructions", instructions),
        ("size", size),
    ];
    let mut rows = Vec::new();
    for (name, measure) in table::wanted(all, only)? {
        eprintln!("{name} … (load {})", usage::load());
        rows.extend(measure(bench)?);
    }
    Ok(rows)
}

fn row(what: &str, ours: String, theirs: String, target: &str, reached: bool, field: &str) -> Row {
    let (what, target, field) = (what.to_owned(), target.to_owned(), field.to_owned());
    Row { what, ours, theirs, target, reached: Some(reached), field }
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    format!("{:.2} ms (min {least:.2}, p95 {:.2})", median(values), percentile(values, 95))
}

fn start(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let [ours, theirs] = bench.starts()?;
    let what = format!("program start → 200 of REGISTER after a 401, p50 of {}", ours.len());
    let (a, b) = (median(&ours), median(&theirs));
    let reached = a <= 6.0 && a <= 0.5 * b;
    let field = "baresip 4.10: 31 (min 13.8)";
    Ok(vec![row(&what, spread(&ours), spread(&theirs), "≤ 6 ms, ≤ 0.5 × baresip", reached, field)])
}

fn set_up(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let [ours, theirs] = bench.set_ups()?;
    let what = format!("INVITE → 200 with auto-answer, p50 of {}", ours.len());
    let (a, b) = (median(&ours), median(&theirs));
    let reached = a <= 0.6 && a <= 0.8 * b;
    Ok(vec![row(&what, spread(&ours), spread(&theirs), "≤ 0.6 ms, ≤ 0.8 × baresip", reached, "pjsua 0.79")])
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn idle(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let [(ours, our_cpu), (theirs, their_cpu)] = bench.idle()?;
    let row_mb = |what: &str, a: u64, b: u64, limit: f64, field: &str| {
        let (a, b) = (mb(a), mb(b));
        row(what, format!("{a:.1} MB"), format!("{b:.1} MB"), &format!("≤ {limit} MB"), a <= limit, field)
    };
    let what = format!("idle: CPU over {} s", bench.amount.idle);
    let (a, b) = (format!("{our_cpu:.3} ms/s"), format!("{their_cpu:.3} ms/s"));
    Ok(vec![
        row_mb("idle, registered: RSS", ours.resident, theirs.resident, 12.0, "baresip 8.9"),
        row_mb("idle: Anonymous", ours.anonymous, theirs.anonymous, 3.0, "–"),
        row(&what, a, b, "≤ 0.3 ms/s", our_cpu <= 0.3, "baresip 0.4"),
    ])
}

fn many(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let [ours, theirs] = bench.many()?;
    let cpu = |talk: &rows::Talk| format!("{:.1} ms/s ({:.1} % back)", talk.cpu, talk.returned * 1e2);
    let grown = |talk: &rows::Talk| talk.grown / MANY as f64 / 1e6;
    let threads = |talk: &rows::Talk| format!("{} → {}", talk.threads[0], talk.threads[1]);
    let what = |what: &str| format!("{MANY} calls G.711 both ways: {what}");
    let (a, b) = (format!("{:.3} MB", grown(&ours)), format!("{:.3} MB", grown(&theirs)));
    let fixed = ours.threads[0] == ours.threads[1];
    let field = "pjsua 82, baresip 217";
    Ok(vec![
        row(&what("CPU"), cpu(&ours), cpu(&theirs), "≤ 40 ms/s", ours.cpu <= 40.0, field),
        row(&what("RSS over idle, per call"), a, b, "≤ 0.1 MB", grown(&ours) <= 0.1, "–"),
        row(&what("threads, idle → talking"), threads(&ours), threads(&theirs), "fixed", fixed, "–"),
    ])
}

fn opus(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let [ours, theirs] = bench.opus()?;
    let text =
        |(cpu, rate, snr): (f64, f64, f64)| format!("{cpu:.1} ms/s ({:.1} kbit/s, {snr:.1} dB)", rate / 1e3);
    // Half a decibel of segmental SNR between two versions of one codec is nothing that is heard.
    let reached = ours.0 <= theirs.0 && ours.2 >= theirs.2 - 0.5;
    let what = "one Opus call, 24 kbit/s wide band, complexity 5, FEC: CPU";
    Ok(vec![row(what, text(ours), text(theirs), "≤ the peer's, no lower quality", reached, "24")])
}

fn instructions(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let what = "instructions per G.711 call-second (callgrind)";
    let (target, field) = ("≤ 0.6 M", "pjsua 0.71 M");
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("valgrind is missing (apt-get install valgrind): no instructions are counted");
        return Ok(vec![Row {
            reached: None, ..row(what, "–".into(), "–".into(), target, false, field)
        }]);
    }
    let [ours, theirs] = bench.instructions()?;
    let text = |count: f64| format!("{:.2} M", count / 1e6);
    Ok(vec![row(what, text(ours), text(theirs), target, ours <= 0.6e6, field)])
}

fn size(bench: &mut Bench) -> Result<Vec<Row>, String> {
    let what = "stripped binary, profile device";
    let target = "≤ 9 MB";
    let bytes = usage::size(&bench.workshop.tipring).ok_or("the program has gone")?;
    let theirs = usage::size(Path::new("/usr/bin/baresip"))
        .map_or("–".into(), |b| format!("{:.1} MB + libraries", mb(b)));
    Ok(vec![row(what, format!("{:.1} MB", mb(bytes)), theirs, target, mb(bytes) <= 9.0, "–")])
}

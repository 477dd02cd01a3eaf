//! Events upstream and the journal, by the program that goes onto boards: how soon a webhook is on the wire, how many
//! deliveries a core does for 16 upstreams and what they cost a call, what a search in the journal of a million calls takes. `--full` takes the
//! amounts that figures are taken with; `--only ROW` (latency, deliveries, control, journal) measures one row; `--program FILE`
//! takes another program.
// Measuring is about real time, real sockets and real processes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "events/broker.rs"]
mod broker;
#[path = "events/journal.rs"]
mod journal;
#[path = "phone/message.rs"]
mod message;
#[path = "phone/program.rs"]
#[allow(dead_code, reason = "the other program is not measured here")]
mod program;
#[path = "events/receiver.rs"]
mod receiver;
#[path = "events/record.rs"]
mod record;
#[path = "phone/registrar.rs"]
#[allow(dead_code, reason = "calls are made, and not looked at")]
mod registrar;
#[path = "events/rows.rs"]
mod rows;
#[path = "phone/sound.rs"]
#[allow(dead_code, reason = "what is said is nobody's matter here")]
mod sound;
#[path = "phone/table.rs"]
mod table;
#[path = "phone/usage.rs"]
#[allow(dead_code, reason = "memory is not measured here")]
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use rows::Bench;
use table::Row;

fn main() -> ExitCode {
    table::end(measure())
}

fn measure() -> Result<(), String> {
    let mut bench = Bench { full: false, tipring: program::for_boards(), folder: PathBuf::new() };
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every bench.
            "--bench" => {}
            "--full" => bench.full = true,
            "--only" => only = arguments.next(),
            "--program" => bench.tipring = arguments.next().ok_or("--program needs a file")?.into(),
            other => {
                return Err(format!("`{other}` is not known; there are --full, --only ROW, --program FILE"));
            }
        }
    }
    bench.folder = std::env::temp_dir().join(format!("tipring-events-{}", std::process::id()));
    println!("tipring {}, on {}", env!("CARGO_PKG_VERSION"), usage::machine());
    println!("load averages before: {}\n", usage::load());
    let result = rows(&bench, only.as_deref());
    let _ = std::fs::remove_dir_all(&bench.folder);
    table::print(&result?);
    println!("\nload averages after: {}", usage::load());
    Ok(())
}

fn rows(bench: &Bench, only: Option<&str>) -> Result<Vec<Row>, String> {
    type Measure = fn(&Bench) -> Result<Vec<Row>, String>;
    let all: Vec<(&str, Measure)> = vec![
        ("latency", rows::latency),
        ("deliveries", rows::deliveries),
        ("control", rows::control),
        ("journal", journal::journal),
    ];
    let mut rows = Vec::new();
    for (name, measure) in table::wanted(all, only)? {
        eprintln!("{name} … (load {})", usage::load());
        // Each row begins with nothing.
        let _ = std::fs::remove_dir_all(&bench.folder);
        std::fs::create_dir_all(&bench.folder).map_err(|error| error.to_string())?;
        rows.extend(measure(bench)?);
    }
    Ok(rows)
}

//! How soon a phone behind NAT can be called again after what networks do to it, beside Debian's baresip in the same run: real
//! routers in namespaces, a real Asterisk, a real STUN server. Prints the table of benches/README.md; `--full` repeats
//! the events and takes the long rows, `--only ROW` (address, restart, pbx, mapping, relay, ice, dtls, moved, call, cost)
//! measures one.
// Measuring is about real time, real sockets and real processes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "nat/audio.rs"]
mod audio;
#[path = "nat/fleet.rs"]
mod fleet;
#[path = "nat/lab.rs"]
mod lab;
#[path = "nat/rows.rs"]
mod rows;
#[path = "phone/table.rs"]
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

// The files of the lab name each other by these.
use lab::{asterisk, baresip, coturn, http, impair, kamailio, netns, phone, pki, process, router, sound};
use rows::Amount;
use table::Row;

const SHORT: Amount = Amount { rounds: 1, count: 120, idle: &[45], patience: 75 };
const FULL: Amount = Amount { rounds: 3, count: 900, idle: &[45, 600], patience: 150 };

fn main() -> ExitCode {
    table::end(measure())
}

fn measure() -> Result<(), String> {
    let (mut amount, mut only) = (SHORT, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo says to every bench.
            "--bench" => {}
            "--full" => amount = FULL,
            "--only" => only = arguments.next(),
            other => return Err(format!("`{other}` is not known; there are --full and --only ROW")),
        }
    }
    type Measure = fn(Amount) -> Option<Vec<Row>>;
    let all: Vec<(&str, Measure)> = vec![
        ("address", rows::address),
        ("restart", rows::restart),
        ("pbx", rows::pbx),
        ("mapping", rows::mapping),
        ("relay", audio::relay),
        ("ice", audio::ice),
        ("dtls", audio::dtls),
        ("moved", audio::moved),
        ("call", rows::call),
        ("cost", rows::cost),
    ];
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for (name, measure) in table::wanted(all, only.as_deref())? {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        eprintln!("{name} … (load {})", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
        let begun = Instant::now();
        // What goes wrong in a row is told there, and the others are measured all the same.
        match catch_unwind(AssertUnwindSafe(|| measure(amount))) {
            Ok(Some(rows)) => measured.extend(rows),
            Ok(None) => failed.push(format!("{name}: needs what the line SKIP above says")),
            Err(_) => failed.push(format!("{name}: failed, see above")),
        }
        eprintln!("{name}: {} s", begun.elapsed().as_secs());
    }
    table::print(&measured);
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join("; "))) }
}

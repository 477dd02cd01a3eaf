//! A journal of a million calls: how long a search takes, and what scrolling through all of it needs.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tipring::chance::Chance;
use tipring::events::store::{Entry, Query, Store, Write};
use tipring::events::{CallResult, Direction, Leg, Party};

use crate::rows::Bench;
use crate::table::Row;
use crate::usage::percentile;

/// 2026-01-01T00:00:00Z, in microseconds since 1970.
const BEGIN: i64 = 1_767_225_600_000_000;
/// Microseconds of a year.
const YEAR_US: i64 = 31_536_000_000_000;
/// Calls in one commit.
const AT_ONCE: u64 = 5000;
/// Different outside numbers.
const NUMBERS: u32 = 50_000;

/// Searches by number and a scroll through everything.
pub fn journal(bench: &Bench) -> Result<Vec<Row>, String> {
    let calls: u64 = if bench.full { 1_000_000 } else { 100_000 };
    let file = bench.folder.join("journal.db");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let connection = Connection::open(&file).map_err(|error| failed(&error))?;
    let mut store = Store::open(connection).map_err(|error| failed(&error))?;
    for first in (0..calls).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
        let batch: Vec<Write> = (first..first + AT_ONCE).map(|at| Write::Call(Box::new(entry(at)))).collect();
        store.commit(&batch).map_err(|error| failed(&error))?;
    }
    let mut chance = Chance::from_number(9);
    let mut took = Vec::new();
    for _ in 0..2000 {
        // As people write it, not as it was kept.
        let number = format!("8 (495) {:07}", chance.below(NUMBERS));
        let query = Query { number: Some(number.clone()), limit: 50, ..Query::default() };
        let begun = Instant::now();
        let page = store.journal(&query).map_err(|error| failed(&error))?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if page.entries.is_empty() && calls >= 20 * u64::from(NUMBERS) {
            return Err(format!("nothing was found for {number}"));
        }
    }
    let before = peak()?;
    let (mut cursor, mut seen) = (None, 0);
    let begun = Instant::now();
    loop {
        let query = Query { cursor, limit: 1000, ..Query::default() };
        let page = store.journal(&query).map_err(|error| failed(&error))?;
        seen += page.entries.len() as u64;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let (scrolled, grown) = (begun.elapsed().as_secs_f64(), peak()?.saturating_sub(before) as f64 / 1e6);
    if seen != calls {
        return Err(format!("{seen} calls of {calls} came by"));
    }
    let (later, retention) = (BEGIN + 10 * YEAR_US, Duration::from_secs(86_400));
    let mut slices = Vec::new();
    loop {
        let begun = Instant::now();
        let pruned = store.prune(later, retention, u64::MAX).map_err(|error| failed(&error))?;
        slices.push(begun.elapsed().as_secs_f64() * 1e3);
        if !pruned.more {
            break;
        }
    }
    let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
    let row = |what: String, ours, target: &str, reached| Row {
        what,
        ours,
        theirs: "–".to_owned(),
        target: target.to_owned(),
        reached,
        field: "–".to_owned(),
    };
    let ours = format!("p99 {p99:.2} ms (p50 {p50:.2})");
    let all = format!("{scrolled:.1} s, {grown:.1} MB more at its peak");
    let slice = format!("{:.0} ms at most (p50 {:.0})", percentile(&slices, 100), percentile(&slices, 50));
    Ok(vec![
        row(format!("journal of {calls} calls: search by number"), ours, "p99 ≤ 20 ms", Some(p99 <= 20.0)),
        row(
            format!("scroll of all {calls} calls in pages of 1,000"),
            all,
            "bounded memory",
            Some(grown <= 10.0),
        ),
        row(
            format!("{calls} old calls dropped in {} slices: the store is taken for", slices.len()),
            slice,
            "–",
            None,
        ),
    ])
}

fn entry(at: u64) -> Entry {
    let (inside, outside) =
        (Party::numbered("101"), Party::numbered(format!("+7495{:07}", at * 7919 % u64::from(NUMBERS))));
    let incoming = at.is_multiple_of(2);
    let (caller, called) = if incoming { (outside, inside) } else { (inside, outside) };
    let leg = Leg {
        leg_id: format!("leg{at}"),
        sip_call_id: Some(format!("{at}@pbx.example.com")),
        line: "office".to_owned(),
        direction: if incoming { Direction::In } else { Direction::Out },
        caller,
        called,
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    };
    let started = BEGIN + i64::try_from(at).unwrap_or(0) * 30_000_000;
    Entry {
        result: Some(CallResult::Answered),
        talk_us: 60_000_000,
        ..Entry::begun(&format!("call{at}"), leg, started)
    }
}

/// The most bytes that this process ever had in memory.
fn peak() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| "no VmHWM".to_owned())
}

//! What people see of past calls.

use serde_json::Value;

use super::show::{NOTHING, arrow, cell, duration, moment, mos, result};
use super::table::{Mood, Paint, Table};

/// A page of the journal.
pub(super) fn page(page: &Value, paint: Paint) -> String {
    let entries = page["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut table =
        Table::new(&["BEGAN (UTC)", "", "LINE", "NUMBER", "NAME", "RESULT", "TALKED", "MOS", "CALL"]);
    for entry in entries {
        let other = if entry["direction"] == "in" { &entry["caller"] } else { &entry["called"] };
        table.row(vec![
            (entry["started_utc_us"].as_i64().map_or_else(|| NOTHING.to_owned(), moment), None),
            (arrow(&entry["direction"]).to_owned(), None),
            (cell(&entry["line"]), None),
            (cell(&other["dialled"]), None),
            (cell(&other["name"]), None),
            result(&entry["result"]),
            (entry["talk_us"].as_u64().map_or_else(|| NOTHING.to_owned(), duration), None),
            mos(&entry["quality"]["mos"]),
            (cell(&entry["call_id"]), None),
        ]);
    }
    let mut text = table.text(paint);
    if let Some(next) = page["next"].as_u64() {
        text.push_str(&format!("{}\n", paint.text(Mood::Quiet, &format!("more: --cursor {next}"))));
    }
    text
}

/// How calls add up.
pub(super) fn report(sums: &Value, paint: Paint) -> String {
    let rows = sums["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "no calls\n".to_owned();
    }
    let heads = [
        "",
        "IN",
        "ANSWERED",
        "ELSEWHERE",
        "MISSED",
        "SHARE",
        "OUT",
        "REACHED",
        "TALKED",
        "ON AVERAGE",
        "RANG",
    ];
    let mut table = Table::new(&heads);
    let mut row = |key: String, sums: &Value| {
        let count = |name: &str| (cell(&sums[name]), None);
        let time = |name: &str| (sums[name].as_u64().map_or_else(|| NOTHING.to_owned(), duration), None);
        let share = sums["answered_percent"].as_f64();
        let mood = share.map(|share| if share >= 80.0 { Mood::Good } else { Mood::Fair });
        table.row(vec![
            (key, Some(Mood::Strong)),
            count("incoming"),
            count("answered"),
            count("elsewhere"),
            count("missed"),
            (share.map_or_else(|| NOTHING.to_owned(), |share| format!("{share:.1} %")), mood),
            count("outgoing"),
            count("reached"),
            time("talk_us"),
            time("average_talk_us"),
            time("average_ring_us"),
        ]);
    };
    for sums in rows {
        row(cell(&sums["key"]), sums);
    }
    row("all".to_owned(), &sums["all"]);
    table.text(paint)
}

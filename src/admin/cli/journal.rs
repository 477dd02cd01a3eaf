//! `tipring calls`: past calls, as a list, one by one and added up.

use clap::Subcommand;
use serde_json::Value;

use super::show::{self, NOTHING, arrow, cell, duration, moment, mos, result};
use super::table::{Mood, Paint, Table};
use super::{CommandError, Terminal, client, ladder};

/// What `tipring calls` looks for.
#[derive(Debug, Default, clap::Args)]
pub struct Search {
    /// Since a time, a date, or an age such as 2h or 7d
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// With this number on either side
    #[arg(long, value_name = "N")]
    number: Option<String>,
    /// The page that a page before named
    #[arg(long, value_name = "C")]
    cursor: Option<u64>,
    /// Rows, 1 to 1000
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Before a time, written likewise
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    /// Print CSV in the columns of csv, asterisk, freeswitch, rostelecom or telphin
    #[arg(long, value_name = "NAME", conflicts_with = "csv")]
    format: Option<String>,
}

/// Below `tipring calls`.
#[derive(Debug, Subcommand)]
pub enum CallsCommand {
    /// One call with its legs, causes, quality, events and SIP ladder
    Show {
        /// The call
        id: String,
        /// As a session log of Voximplant, for support
        #[arg(long)]
        log: bool,
    },
    /// How calls add up: the answered share, averages
    Report {
        /// Rows: day, hour (of the day) or line
        #[arg(long, value_name = "WHAT")]
        by: Option<String>,
        /// Since a time, a date, or an age such as 2h or 7d
        #[arg(long, value_name = "T")]
        since: Option<String>,
        /// Before a time, written likewise
        #[arg(long, value_name = "T")]
        until: Option<String>,
        /// Of one line
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
    },
}

/// Does what `tipring calls` was told.
pub(super) async fn calls(
    terminal: &Terminal,
    show: Option<CallsCommand>,
    search: Search,
) -> Result<(), CommandError> {
    let client = &terminal.client;
    match show {
        None => list(terminal, search).await,
        Some(CallsCommand::Show { id, log: false }) => show_call(terminal, &id).await,
        Some(CallsCommand::Show { id, log: true }) => {
            let path = format!("/api/v1/calls/{}/log", client::escaped(&id));
            terminal.print(&client.get_text(&path, "text/plain").await?)
        }
        Some(CallsCommand::Report { by, since, until, line }) => {
            let mut query = client::Query::default();
            for (name, value) in [("by", by), ("since", since), ("until", until), ("line", line)] {
                query.add(name, value);
            }
            let sums = client.get(&query.path("/api/v1/journal/report")).await?;
            terminal.answer(&sums, || report(&sums, terminal.paint))
        }
    }
}

async fn list(terminal: &Terminal, search: Search) -> Result<(), CommandError> {
    let mut query = client::Query::default();
    query.add("since", search.since);
    query.add("until", search.until);
    query.add("number", search.number);
    query.add("cursor", search.cursor.map(|it| it.to_string()));
    query.add("limit", search.limit.map(|it| it.to_string()));
    let csv = search.csv || search.format.is_some();
    query.add("format", search.format);
    let path = query.path("/api/v1/journal");
    if csv {
        let csv = terminal.client.get_text(&path, "text/csv").await?;
        return terminal.print(&csv);
    }
    let found = terminal.client.get(&path).await?;
    terminal.answer(&found, || page(&found, terminal.paint))
}

async fn show_call(terminal: &Terminal, id: &str) -> Result<(), CommandError> {
    let client = &terminal.client;
    let mut call = client.get(&format!("/api/v1/calls/{}", client::escaped(id))).await?;
    let mut query = client::Query::default();
    query.add("call", Some(id.to_owned()));
    let trace = client.get(&query.path("/api/v1/trace")).await?;
    call["trace"] = trace["messages"].clone();
    terminal.answer(&call, || {
        let mut text = show::story(&call, terminal.paint);
        let mut ladder = ladder::Ladder::new(terminal.paint);
        for message in call["trace"].as_array().into_iter().flatten() {
            text.push_str(&ladder.draw(message));
        }
        text
    })
}

/// A page of the journal.
fn page(page: &Value, paint: Paint) -> String {
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
fn report(sums: &Value, paint: Paint) -> String {
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

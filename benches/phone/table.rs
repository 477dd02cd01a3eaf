//! The table, and which of its rows are measured.

use std::process::ExitCode;

/// One row: our figure, the other's, what is to be reached and what the newest of the field were measured at.
#[derive(Clone)]
pub struct Row {
    pub what: String,
    pub ours: String,
    pub theirs: String,
    pub target: String,
    pub reached: Option<bool>,
    pub field: String,
}

/// Prints a Markdown table with even columns.
pub fn print(rows: &[Row]) {
    let head = ["", "tipring", "baresip here", "to reach", "reached", "field, for memory"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head)
        .chain(rows.iter().map(|row| {
            let reached = match row.reached {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            [&row.what, &row.ours, &row.theirs, &row.target, reached, &row.field]
                .map(|text| String::from(text as &str))
        }))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).map(|(text, width)| format!(" {text:<width$} |"));
        println!("|{}", cells.collect::<String>());
        if number == 0 {
            println!("|{}", widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat());
        }
    }
}

/// The rows that were asked for: all, or the only one.
pub fn wanted<M>(all: Vec<(&'static str, M)>, only: Option<&str>) -> Result<Vec<(&'static str, M)>, String> {
    let known = only.is_none_or(|only| all.iter().any(|(name, _)| *name == only));
    match only {
        Some(only) if !known => Err(format!("there is no row `{only}`")),
        _ => Ok(all.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect()),
    }
}

/// How the program ends; what went wrong is told.
pub fn end(measured: Result<(), String>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! What the tour found, as a table for people and as JSON for programs; and how the event stream looks on the
//! way.

use std::io::{self, Write};

use serde::Serialize;

use crate::events::{CloudEvent, Event, Kind};

/// One side of one call.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CallReport {
    /// Whose side.
    pub line: String,
    /// Who was called, or who called.
    pub peer: String,
    /// `out` or `in`.
    pub direction: &'static str,
    /// From the wish to the answer, in milliseconds.
    pub set_up_ms: f64,
    /// The codec that was heard.
    pub codec: String,
    /// RTP packets that left.
    pub packets_sent: u64,
    /// RTP packets that arrived.
    pub packets_received: u64,
    /// Those that did not.
    pub packets_lost: u64,
    /// Those that came too late to be heard.
    pub packets_late: u64,
    /// Jitter of arrival (RFC 3550 §6.4.1), in milliseconds.
    pub jitter_ms: f64,
    /// The estimate of the E-model, 1 to 5.
    pub mos: Option<f64>,
    /// The scale of `mos`.
    pub mos_scale: Option<String>,
    /// The share of the far end's words that was recognised in what was heard, in percent.
    pub heard_percent: f64,
}

/// One line.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LineReport {
    /// The extension.
    pub line: String,
    /// From the start of the program to the registrar's consent, in milliseconds.
    pub registered_ms: f64,
}

/// The tour.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Whether all went well.
    pub ok: bool,
    /// What did not.
    pub reason: Option<String>,
    /// The version of the program.
    pub version: &'static str,
    /// The lines.
    pub lines: Vec<LineReport>,
    /// Both sides of the call between them, then the call to the echo.
    pub calls: Vec<CallReport>,
    /// Everything that was told, as CloudEvents, in the order of arrival.
    pub events: Vec<serde_json::Value>,
}

/// Where the tour is shown: a terminal with colours and a line that moves, plain text, or nowhere.
pub(super) struct Stage {
    colours: bool,
    live: bool,
    quiet: bool,
    /// Whether the moving line is on the screen.
    moving: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Stage {
    /// A stage on stdout. `terminal`: somebody watches; `colours`: and likes them; `quiet`: nothing but the
    /// final JSON.
    pub fn new(terminal: bool, colours: bool, quiet: bool) -> Stage {
        Stage { colours: terminal && colours && !quiet, live: terminal && !quiet, quiet, moving: false }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Writes a line. Nobody is left to be told if stdout is gone.
    fn write(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        let clear = if std::mem::take(&mut self.moving) { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stdout(), "{clear}{line}");
    }

    /// A heading.
    pub fn chapter(&mut self, text: &str) {
        let text = self.paint(BOLD, text);
        self.write(&format!("\n{text}"));
    }

    /// The moving line: how much of a talk is over.
    pub fn talking(&mut self, done_s: f64, all_s: f64) {
        if !self.live {
            return;
        }
        let width = 30.0;
        let full = (width * (done_s / all_s.max(0.1)).clamp(0.0, 1.0)) as usize;
        let bar = self.paint(GREEN, &"━".repeat(full)) + &self.paint(DIM, &"─".repeat(width as usize - full));
        let _ = write!(io::stdout(), "\r\x1b[K  talking {bar} {done_s:.1} s");
        let _ = io::stdout().flush();
        self.moving = true;
    }

    /// One event of a line, `at_us` microseconds after the beginning.
    pub fn event(&mut self, at_us: i64, line: &str, event: &CloudEvent) {
        let Some(parsed) = event.parse() else { return };
        let name = parsed.kind.name();
        let colour = match name {
            "line.registered" | "call.answered" | "call.media" => GREEN,
            "line.rejected" | "line.unregistered" | "call.refused" | "device.degraded" => RED,
            "call.quality" => YELLOW,
            _ => CYAN,
        };
        let name = self.paint(colour, &format!("{name:<18}"));
        let time = self.paint(DIM, &format!("{:>8.3}", at_us as f64 / 1e6));
        let text = format!("{time}  {line}  {name} {}", details(&parsed));
        self.write(text.trim_end());
    }

    /// The end: the table, and whether all went well.
    pub fn table(&mut self, report: &Report) {
        self.chapter("What it was like");
        for line in &report.lines {
            self.write(&format!("  {} registered in {:.1} ms", line.line, line.registered_ms));
        }
        let head = ["call", "set-up", "codec", "sent", "received", "lost", "late", "jitter", "MOS", "heard"];
        let rows: Vec<[String; 10]> = report.calls.iter().map(row).collect();
        let mut widths = head.map(|title| title.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; 10]| {
            let cells = cells.iter().zip(widths).enumerate().map(|(index, (cell, width))| {
                if index == 0 || index == 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        if !rows.is_empty() {
            let head = self.paint(BOLD, &line(&head.map(str::to_owned)));
            self.write(&format!("\n  {head}"));
            for row in &rows {
                self.write(&format!("  {}", line(row)));
            }
        }
        let verdict = match &report.reason {
            None => self.paint(GREEN, "all went well"),
            Some(reason) => self.paint(RED, &format!("failed: {reason}")),
        };
        self.write(&format!("\n{verdict}"));
    }
}

fn row(call: &CallReport) -> [String; 10] {
    let arrow = if call.direction == "out" { "→" } else { "←" };
    let mos = match (call.mos, &call.mos_scale) {
        (Some(mos), Some(scale)) => format!("{mos:.2} {scale}"),
        (Some(mos), None) => format!("{mos:.2}"),
        (None, _) => "–".to_owned(),
    };
    [
        format!("{} {arrow} {}", call.line, call.peer),
        format!("{:.1} ms", call.set_up_ms),
        call.codec.clone(),
        call.packets_sent.to_string(),
        call.packets_received.to_string(),
        call.packets_lost.to_string(),
        call.packets_late.to_string(),
        format!("{:.1} ms", call.jitter_ms),
        mos,
        format!("{:.0} %", call.heard_percent),
    ]
}

/// What a person wants to know of an event.
fn details(event: &Event) -> String {
    let number = |party: &crate::events::Party| {
        party.number.as_ref().map(|number| number.dialled.clone()).unwrap_or_default()
    };
    match &event.kind {
        Kind::LineRegistered { registrar, transport, .. } => format!("at {transport}:{registrar}"),
        Kind::LineRejected { cause, cure, .. } => {
            format!(
                "{} {}; {cure}",
                cause.status.unwrap_or_default(),
                cause.text.as_deref().unwrap_or_default()
            )
        }
        Kind::CallNew { leg, .. } => format!("{} calls {}", number(&leg.caller), number(&leg.called)),
        Kind::CallAnswered { ring_us, .. } => format!("after {:.1} ms", *ring_us as f64 / 1e3),
        Kind::CallMedia { codec, after_answer_us, .. } => {
            format!("{codec}, heard {:.1} ms after the answer", *after_answer_us as f64 / 1e3)
        }
        Kind::CallQuality { quality, .. } => {
            let mos = quality.mos.map(|mos| format!("MOS {mos:.2}, ")).unwrap_or_default();
            format!("{mos}jitter {:.1} ms, {} lost", quality.jitter_us as f64 / 1e3, quality.packets_lost)
        }
        Kind::CallEnded { result, talk_us, .. } => format!("{result}, talked {:.1} s", *talk_us as f64 / 1e6),
        Kind::DeviceDegraded { part, what, .. } => format!("{part}: {what}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallReport {
        CallReport {
            line: "101".into(),
            peer: "102".into(),
            direction: "out",
            set_up_ms: 4.25,
            codec: "opus".into(),
            packets_sent: 300,
            packets_received: 299,
            packets_lost: 1,
            packets_late: 0,
            jitter_ms: 0.04,
            mos: Some(4.41),
            mos_scale: Some("WB".into()),
            heard_percent: 99.6,
        }
    }

    #[test]
    fn a_row_says_all_in_its_units() {
        let expected = ["101 → 102", "4.2 ms", "opus", "300", "299", "1", "0", "0.0 ms", "4.41 WB", "100 %"];
        assert_eq!(row(&call()), expected);
    }

    #[test]
    fn the_json_keeps_its_names() {
        let report = Report {
            ok: true,
            reason: None,
            version: "1",
            lines: vec![LineReport { line: "101".into(), registered_ms: 3.0 }],
            calls: vec![call()],
            events: Vec::new(),
        };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            "{\"ok\":true,\"reason\":null,\"version\":\"1\",\"lines\":[{\"line\":\"101\",\"registered_ms\":3.0}],\
             \"calls\":[{\"line\":\"101\",\"peer\":\"102\",\"direction\":\"out\",\"set_up_ms\":4.25,\"codec\":\"opus\",\
             \"packets_sent\":300,\"packets_received\":299,\"packets_lost\":1,\"packets_late\":0,\"jitter_ms\":0.04,\
             \"mos\":4.41,\"mos_scale\":\"WB\",\"heard_percent\":99.6}],\"events\":[]}"
        );
    }
}

//! What the tour found, as a table for people and as JSON for programs; and how the event stream looks on the
//! way.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::events::CloudEvent;

/// The `data` of an event, read field by field: each by its JSON pointer (RFC 6901), and empty where it is absent.
#[derive(Debug)]
pub(super) struct Told(Value);

impl Told {
    /// What this event tells.
    pub fn by(event: &CloudEvent) -> Told {
        Told(serde_json::from_str(&event.data).unwrap_or_default())
    }

    /// A text.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    /// The same, empty where there is none.
    pub fn word(&self, pointer: &str) -> &str {
        self.text(pointer).unwrap_or_default()
    }

    /// A whole number.
    pub fn count(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    }

    /// Any number.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer)?.as_f64()
    }

    /// A duration in the unit that has so many microseconds.
    pub fn time(&self, pointer: &str, unit_us: f64) -> f64 {
        self.number(pointer).unwrap_or_default() / unit_us
    }
}

/// One side of one call.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CallReport {
    /// Whose side.
    pub line: String,
    /// Who was called, or who called.
    pub peer: String,
    /// `out` or `in`.
    pub direction: String,
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
        let name = event.kind.as_str();
        let colour = match name {
            "line.registered" | "call.answered" | "call.media" => GREEN,
            "line.rejected" | "line.unregistered" | "call.refused" | "device.degraded" => RED,
            "call.quality" => YELLOW,
            _ => CYAN,
        };
        let painted = self.paint(colour, &format!("{name:<18}"));
        let time = self.paint(DIM, &format!("{:>8.3}", at_us as f64 / 1e6));
        let text = format!("{time}  {line}  {painted} {}", details(name, &Told::by(event)));
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

/// What a person wants to know of an event of this name.
fn details(name: &str, told: &Told) -> String {
    let word = |pointer| told.word(pointer);
    match name {
        "line.registered" => format!("at {}:{}", word("/transport"), word("/registrar")),
        "line.rejected" => {
            format!("{} {}; {}", told.count("/cause/status"), word("/cause/text"), word("/cure"))
        }
        "call.new" => format!("{} calls {}", word("/caller/dialled"), word("/called/dialled")),
        "call.answered" => format!("after {:.1} ms", told.time("/ring_us", 1e3)),
        "call.media" => {
            let after_ms = told.time("/after_answer_us", 1e3);
            format!("{}, heard {after_ms:.1} ms after the answer", word("/codec"))
        }
        "call.quality" => {
            let mos = told.number("/quality/mos").map(|mos| format!("MOS {mos:.2}, ")).unwrap_or_default();
            let (jitter_ms, lost) =
                (told.time("/quality/jitter_us", 1e3), told.count("/quality/packets_lost"));
            format!("{mos}jitter {jitter_ms:.1} ms, {lost} lost")
        }
        "call.ended" => format!("{}, talked {:.1} s", word("/result"), told.time("/talk_us", 1e6)),
        "device.degraded" => format!("{}: {}", word("/part"), word("/what")),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::events::cloud_event::{Digits, Recorded};
    use crate::events::{CallResult, Cause, Direction, Event, Kind, Leg, Origin, Party, Quality};

    fn call() -> CallReport {
        CallReport {
            line: "101".into(),
            peer: "102".into(),
            direction: "out".into(),
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
    fn each_event_is_told_in_words() {
        let leg = Leg {
            leg_id: "l".into(),
            sip_call_id: None,
            line: "101".into(),
            direction: Direction::Out,
            caller: Party::numbered("101"),
            called: Party::numbered("102"),
            did: None,
            diverted: None,
            connected: None,
            callback_id: None,
            follows: None,
        };
        let quality = Quality { mos: Some(4.414), jitter_us: 1_260, packets_lost: 3, ..Quality::default() };
        let told = [
            (
                Kind::LineRegistered {
                    line: "101".into(),
                    registrar: "127.0.0.1:5060".into(),
                    transport: "udp".into(),
                    contact: "sip:101@127.0.0.1".into(),
                    expires_us: 60_000_000,
                },
                "at udp:127.0.0.1:5060",
            ),
            (
                Kind::LineRejected {
                    line: "101".into(),
                    cause: Cause::remote(403, "Forbidden"),
                    cure: "look at the password".into(),
                },
                "403 Forbidden; look at the password",
            ),
            (Kind::CallNew { leg: leg.clone(), origin: Origin::Api }, "101 calls 102"),
            (Kind::CallAnswered { leg: leg.clone(), ring_us: 12_340, automatic: None }, "after 12.3 ms"),
            (
                Kind::CallMedia {
                    leg: leg.clone(),
                    codec: "opus".into(),
                    srtp: None,
                    way: None,
                    after_answer_us: 20_000,
                },
                "opus, heard 20.0 ms after the answer",
            ),
            (Kind::CallQuality { leg: leg.clone(), quality }, "MOS 4.41, jitter 1.3 ms, 3 lost"),
            (Kind::CallQuality { leg: leg.clone(), quality: Quality::default() }, "jitter 0.0 ms, 0 lost"),
            (
                Kind::CallEnded {
                    leg: leg.clone(),
                    result: CallResult::Answered,
                    cause: Cause::default(),
                    total_us: 3_000_000,
                    ring_us: 500_000,
                    talk_us: 2_500_000,
                    hold_us: 0,
                    quality: None,
                    recording_id: None,
                    vote: None,
                },
                "answered, talked 2.5 s",
            ),
            (Kind::CallRinging { leg }, ""),
        ];
        for (kind, words) in told {
            let recorded = Recorded { sequence: 1, id: Uuid::nil(), utc_us: 0, event: Event::new(kind) };
            let cloud = recorded.cloud_event(Digits::Hidden);
            assert_eq!(details(&cloud.kind, &Told::by(&cloud)), words, "{}", cloud.kind);
        }
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

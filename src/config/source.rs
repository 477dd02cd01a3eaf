//! From text to a TOML document, past the first mistake: where a line is not TOML, it is reported, taken out, and the
//! rest is read, so that one pass shows everything.

use std::ops::Range;

use toml_edit::Document;

use super::finding::{Finding, Severity};

/// How many lines that are not TOML are reported before the rest is left alone.
const MOST_SYNTAX_ERRORS: usize = 20;

/// How a table is called that was taken out; what it holds is not looked at.
const TAKEN_OUT: &str = "taken-out-of-line-";

/// Whether a key is one of what [`Source::document`] took out.
pub(super) fn is_taken_out(key: &str) -> bool {
    key.starts_with(TAKEN_OUT)
}

/// The text with the places of its lines.
pub(super) struct Source<'t> {
    file: &'t str,
    text: String,
    starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &str, file: &'t str) -> Source<'t> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let starts = starts(&text);
        Source { file, text, starts }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The document, and what had to be taken out for it. Spans in it are those of this source afterwards.
    pub(super) fn document(&mut self) -> (Option<Document<String>>, Vec<Finding>) {
        let mut findings: Vec<Finding> = Vec::new();
        while findings.len() < MOST_SYNTAX_ERRORS {
            let error = match Document::parse(self.text.clone()) {
                Ok(document) => return (Some(document), findings),
                Err(error) => error,
            };
            let length = self.text.len();
            // An error at the very end (an open string or bracket) belongs to the last line that says something.
            let at = error.span().map_or(length, |span| span.start).min(self.text.trim_end().len());
            let (what, instead) = explain(error.message());
            findings.push(self.finding(at..at, Severity::Error, what, instead));
            if !self.take_out(at) {
                break;
            }
        }
        (None, findings)
    }

    /// Replaces the line around `at` by what can be kept of it: the name of a table, so that its keys stay at home.
    /// False if there was nothing left to take out.
    fn take_out(&mut self, at: usize) -> bool {
        let (line, _) = self.position(at);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let Some(old) = self.text.get(start..end) else { return false };
        let name: String = old
            .trim_start_matches(['[', ' ', '\t'])
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            .collect();
        let repaired = match (old.trim_start().starts_with("[["), old.trim_start().starts_with('[')) {
            (true, _) if !name.is_empty() => format!("[[{name}]]"),
            (false, true) if !name.is_empty() => format!("[{name}]"),
            _ => String::new(),
        };
        // A second table of one name must not give its keys to the table above it.
        let new = if repaired.is_empty() || repaired != old.trim() {
            repaired
        } else {
            format!("[{TAKEN_OUT}{line}]")
        };
        if new == old {
            return false;
        }
        self.text.replace_range(start..end, &new);
        self.starts = starts(&self.text);
        true
    }

    /// Line and column, both from 1, of a byte of the text.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1;
        (line, column)
    }

    pub(super) fn finding(
        &self,
        span: Range<usize>,
        severity: Severity,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Finding {
        let (line, column) = self.position(span.start);
        Finding {
            file: self.file.to_owned(),
            line,
            column,
            severity,
            what: what.into(),
            instead: instead.into(),
        }
    }
}

fn starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
        .collect()
}

/// The parser's words, and a cure for the usual mistakes. The line itself is not repeated: it may hold a password.
fn explain(message: &str) -> (String, String) {
    let message = message.lines().next().unwrap_or_default().trim();
    let instead = if message.contains("duplicate key") {
        "keep one of the two"
    } else if message.contains("string") || message.contains("quot") {
        "put text between two \" on one line"
    } else if message.contains("array") || message.contains("]") {
        "close the list or the table's name with ]"
    } else {
        "write key = value, with text in \"quotes\""
    };
    (format!("this line is not TOML: {message}"), instead.to_owned())
}

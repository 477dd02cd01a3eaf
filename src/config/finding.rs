//! A mistake or a doubt in the configuration, with its place and its cure.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file can't be used.
    Error,
    /// The file can be used, but it does something that nobody may want.
    Warning,
}

/// One finding. It prints as `FILE:LINE: what; cure`, a warning as `FILE:LINE: warning: what; cure`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The name of the file, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to write instead, or what to do.
    pub instead: String,
}

impl Finding {
    /// Whether the file can't be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = if self.is_error() { "" } else { "warning: " };
        write!(f, "{}:{}: {severity}{}; {}", self.file, self.line, self.what, self.instead)
    }
}

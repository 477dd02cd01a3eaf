//! `[rating]`: how a call was, in the words of whoever was at the other end.

use std::time::Duration;

use super::announcement::Announcement;
use super::reader::{Scope, section, within, zero_or_within};
use super::words::Asked;

const SECOND: Duration = Duration::from_secs(1);

section! {
    /// `[rating]`: a question to whoever was talked to, once the call was hung up here: how was it? The answer is a key, 1 to 5,
    /// and becomes the vote of the call. Only outside parties are asked, nobody after an emergency call.
    pub struct Rating {
        /// A WAV file of 30 s at most: the question. Without it nobody is asked.
        announcement: Option<Announcement> = optional "\"/etc/tipring/how-was-it.wav\"";
        /// How long a key is waited for after the question. Duration, 1s to 60s.
        wait: Duration = default "\"8s\"", if within(SECOND, SECOND * 60);
        /// Who is asked: "in" (callers), "out" (those who were called from here) or "both".
        calls: Asked = default "\"in\"";
        /// Nobody is asked about a shorter talk. Duration, 1s to 1h; "0s": about all.
        min_talk: Duration = default "\"10s\"", if zero_or_within(SECOND, SECOND * 3600);
        /// The lines whose calls are asked about; empty: all.
        lines: Vec<String> = default "[]";
    }
}

impl Rating {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if !scope.has("announcement") {
            let instead = "add announcement = the WAV file of the question, or remove it";
            scope.warn_idle(&["wait", "calls", "min_talk", "lines"], "nobody is asked", instead);
        }
    }
}

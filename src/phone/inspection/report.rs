//! What came of asking the servers of one line, as findings with their place in the file and as one sentence.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::config::{self, Finding, Place, Places, Severity};
use crate::events::cloud_event::rfc3339;
use crate::now::Now;
use crate::phone::line::cure;
use crate::sip::locate::Target;
use crate::sip::message::Response;
use crate::sip::network::{LookupError, Transport};
use crate::sip::ua_event::Failure;

/// A certificate that ends within this time (microseconds) is worth a warning.
pub(in crate::phone) const SOON_US: i64 = 14 * 86_400_000_000;

/// What came of asking for one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineReport {
    /// The name of the line.
    pub line: String,
    /// Which `[[line]]` of the file it is, from 0.
    pub index: usize,
    /// What was looked for: outbound proxy, registrar or domain, with its port if one is named.
    pub destination: String,
    /// Why no server was found.
    pub unlocated: Option<LookupError>,
    /// The servers that were found, in the order in which the phone tries them.
    pub servers: Vec<ServerReport>,
    /// What the registrar says to user and password.
    pub password: Password,
}

/// One server of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerReport {
    /// Over what.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// The name that led to the address.
    pub name: Option<String>,
    /// What it answered.
    pub answer: Option<Answer>,
    /// When its certificate ends, under TLS and WebSocket (UTC, microseconds).
    pub certificate_until_utc_us: Option<i64>,
    /// By how much this device's clock is ahead of the server's (Date, RFC 3261 §20.17), in seconds.
    pub ahead_s: Option<i64>,
    pub(super) target: Target,
}

/// What came of a question to a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The status of its answer, whatever it is: it is there and speaks SIP.
    Status(u16),
    /// There was none.
    Failure(Failure),
}

/// What the registrar says to user and password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Password {
    /// It was not asked: the line does not register, or no server answered.
    NotAsked,
    /// It asks for none.
    NotNeeded,
    /// They are right.
    Right,
    /// They are wrong, or the realm is: why, and what to do.
    Wrong(String),
    /// It asks for a password and the line has none.
    Missing,
    /// It does not want this user: the answer.
    Refused(String),
    /// It does not answer the question: the answer.
    Untested(String),
}

impl LineReport {
    pub(super) fn new(line: String, index: usize, destination: String) -> LineReport {
        let (unlocated, servers, password) = (None, Vec::new(), Password::NotAsked);
        LineReport { line, index, destination, unlocated, servers, password }
    }

    /// Whether a server answers.
    pub fn answers(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.answer, Some(Answer::Status(_))))
    }

    /// What is to be said of it: an error if the line can't work so, a warning if it can.
    pub fn findings(&self, line: &config::Line, places: &Places, now_utc_us: i64) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut tell = |keys: &[&str], severity, what: String, instead: &str| {
            let at = Place { table: "line", index: self.index, keys };
            let what = format!("line {}: {what}", self.line);
            findings.push(places.finding(at, severity, &what, instead));
        };
        let home: &[&str] = match (&line.outbound_proxy, &line.registrar) {
            (Some(_), _) => &["outbound_proxy"],
            (None, Some(_)) => &["registrar"],
            (None, None) => &["domain"],
        };
        if let Some(error) = &self.unlocated {
            let text = error.to_string();
            let (what, instead) = text.split_once("; ").unwrap_or((&text, "check the name servers"));
            tell(home, Severity::Error, format!("{} can't be found: {what}", self.destination), instead);
        }
        let severity = if self.answers() { Severity::Warning } else { Severity::Error };
        for server in &self.servers {
            if let Some(Answer::Failure(failure)) = &server.answer {
                let (what, instead) = explain(failure);
                let keys = if instead.contains("ca_file") { &["ca_file", "transport"] } else { home };
                tell(keys, severity, format!("{} {what}", server.shown(self)), &instead);
            }
            if let Some(until) = server.certificate_until_utc_us.filter(|until| until - now_utc_us < SOON_US)
            {
                let what = format!("the certificate of {} ends on {}", server.shown(self), date(until));
                tell(home, Severity::Warning, what, "have the PBX's certificate renewed");
            }
        }
        let secret: &[&str] = &["password", "password_file", "user"];
        match &self.password {
            Password::NotAsked | Password::NotNeeded | Password::Right => {}
            Password::Wrong(why) => {
                let (what, instead) = why.split_once("; ").unwrap_or((why, "check user and password"));
                tell(secret, Severity::Error, what.to_owned(), instead);
            }
            Password::Missing => {
                let what = "the registrar asks for a password and the line has none".to_owned();
                tell(secret, Severity::Error, what, "add password or password_file");
            }
            Password::Refused(answer) => {
                let status = answer.get(..3).and_then(|status| status.parse().ok()).unwrap_or(0);
                let what = format!("the registrar refuses {} ({answer})", line.address());
                tell(&["user"], Severity::Error, what, cure(status));
            }
            Password::Untested(answer) => {
                let what = format!("whether the password is right is not known: the registrar says {answer}");
                let instead = "try it with `tipring run`: not every registrar answers this question";
                tell(secret, Severity::Warning, what, instead);
            }
        }
        findings
    }

    /// One sentence about a line that works.
    pub fn summary(&self, line: &config::Line) -> String {
        let status = |server: &ServerReport| match server.answer {
            Some(Answer::Status(status)) => Some(status),
            _ => None,
        };
        let mut working =
            self.servers.iter().filter_map(|server| status(server).map(|status| (server, status)));
        let Some((first, status)) = working.next() else {
            return format!("line {}: nothing answers at {}", self.line, self.destination);
        };
        let mut text = format!("line {}: {} → {}", self.line, self.destination, first.shown(self));
        if let Some(until) = first.certificate_until_utc_us {
            let unchecked = if line.tls_verify { "" } else { " (not checked)" };
            text.push_str(&format!(", certificate until {}{unchecked}", date(until)));
        }
        text.push_str(&format!(", registrar answers {status}"));
        text.push_str(match self.password {
            Password::Right => ", password right",
            Password::NotNeeded => ", no password asked for",
            _ => "",
        });
        for (server, status) in working {
            text.push_str(&format!("; {} answers {status}", server.shown(self)));
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let servers = self.servers.iter().map(|server| {
            let (status, failure) = match &server.answer {
                Some(Answer::Status(status)) => (Some(*status), None),
                Some(Answer::Failure(failure)) => (None, Some(failure.to_string())),
                None => (None, None),
            };
            json!({
                "transport": server.transport.to_string(),
                "address": server.address.to_string(),
                "name": server.name,
                "status": status,
                "failure": failure,
                "certificate_until": server.certificate_until_utc_us.map(rfc3339),
            })
        });
        let password = match &self.password {
            Password::NotAsked => "not_asked",
            Password::NotNeeded => "not_needed",
            Password::Right => "right",
            Password::Wrong(_) => "wrong",
            Password::Missing => "missing",
            Password::Refused(_) => "refused",
            Password::Untested(_) => "untested",
        };
        json!({
            "line": self.line,
            "destination": self.destination,
            "servers": servers.collect::<Vec<_>>(),
            "password": password,
        })
    }
}

impl ServerReport {
    /// Compares the clocks, where the server tells its own.
    pub(super) fn note_time(&mut self, now: Now, result: &Result<Box<Response>, Failure>) {
        let Ok(response) = result else { return };
        let date = response.fields.text("Date").and_then(|date| parse_date(&date));
        if let Some(theirs) = date {
            self.ahead_s = Some(now.utc_us.div_euclid(1_000_000) - theirs);
        }
    }

    /// Address, transport and, where DNS led somewhere else, the name: `192.0.2.1:5060 udp (a.example.com)`.
    fn shown(&self, of: &LineReport) -> String {
        let name = self.name.as_ref().filter(|name| !of.destination.starts_with(name.as_str()));
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{} {}{name}", self.address, self.transport)
    }
}

/// What a failure means, and what to do.
fn explain(failure: &Failure) -> (String, String) {
    let running = "check that the PBX runs there, its port, and the firewalls on the way";
    match failure {
        Failure::Timeout => ("does not answer".to_owned(), running.to_owned()),
        Failure::Transport(why) => match why.split_once("; ") {
            Some((what, instead)) => (format!("can't be used: {what}"), instead.to_owned()),
            None => (format!("can't be reached: {why}"), running.to_owned()),
        },
        other => (format!("can't be used: {other}"), running.to_owned()),
    }
}

/// A date of RFC 3261 §20.17, in seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim().strip_suffix("GMT")?.trim_end();
    let date = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// The day of a moment (UTC, microseconds).
pub(in crate::phone) fn date(utc_us: i64) -> String {
    rfc3339(utc_us).chars().take(10).collect()
}

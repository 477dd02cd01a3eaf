//! The configuration: typed settings from the text of a TOML file, and every mistake in it by its line.
//!
//! [`Config::parse`] reads a text; nothing here opens a file (files of secrets come through a function that the caller
//! gives to [`Config::read`]). All mistakes are found in one pass, each with its cure. The schema is declared once, in
//! [`settings`] and [`mod@line`]: the reader, the defaults, the example file, the nearest right word and the masked view of
//! the API come from those declarations.
//!
//! This room must not know anybody who uses the settings.

mod absent;
pub mod ami;
pub mod announcement;
pub mod bitrix24;
pub mod blacklist;
pub mod condition;
mod country;
pub mod dialects;
pub mod dialing;
mod example;
pub mod finding;
pub mod hours;
pub mod line;
pub mod lookup;
pub mod mqtt;
pub mod nat;
mod nearest;
pub mod network;
pub mod number_plan;
pub mod numbers;
pub mod places;
pub mod rating;
mod reader;
pub mod route;
pub mod secret;
pub mod settings;
mod source;
pub mod spelling;
pub mod sticky;
pub mod subscriptions;
pub mod template;
pub mod upstream;
pub mod upstream_url;
pub mod values;
mod websocket;
pub mod words;
pub mod zone;

pub use ami::{Ami, AmiContext, AmiUser};
pub use announcement::Announcement;
pub use bitrix24::{Bitrix24, Bitrix24Controller, Bitrix24User};
pub use blacklist::Blacklist;
pub use condition::Condition;
pub use dialing::NumberRule;
pub use finding::{Finding, Severity};
pub use hours::Hours;
pub use line::{AutoAnswer, CallerId, Line, Transports};
pub use lookup::Lookup;
pub use mqtt::{Commands, Mqtt};
pub use nat::{Nat, StunServer, TurnServer, TurnTransport, TurnUrl, TurnUrls};
pub use network::{Domain, Listen, Network, SipUri, Trusted};
pub use number_plan::NumberPlan;
pub use numbers::Numbers;
pub use places::{Place, Places};
pub use rating::Rating;
pub use reader::{Key, Presence};
pub use route::Route;
pub use secret::Secret;
pub use settings::{Admin, Audio, Device, Emergency, Journal, Limits, Log, Recording, Rtp, Sip, Token, User};
pub use sticky::Sticky;
pub use subscriptions::Subscriptions;
pub use template::Template;
pub use upstream::Upstream;
pub use upstream_url::UpstreamUrl;
pub use values::{Address, PortRange, Size};
pub use websocket::WebSocketUrl;
pub use words::{
    Backend, Codec, Dtmf, HttpMethod, LetterCase, Level, LookupKind, MqttVersion, NatMode, NumberFormat,
    Policy, RecordingFormat, Redaction, RemoteCommand, Role, Sender, SrtpKeys, Transport, UpstreamKind, When,
    WhenClosed,
};
pub use zone::Zone;

use std::path::PathBuf;

use reader::{Node, Reader, Scope, Section, Setting, section};
use source::Source;

/// Bytes of a configuration file.
const LARGEST_FILE: usize = 512 << 10;
/// Lines that one device registers.
const MOST_LINES: usize = 256;
/// Rules for dialled numbers.
const MOST_ROUTES: usize = 256;
/// Systems that one device tells what happens.
const MOST_UPSTREAMS: usize = 64;

section! {
    /// All settings of the appliance.
    pub struct Config {
        /// What this device is.
        device: Device = default "{}";
        /// Signalling, of all lines.
        sip: Sip = default "{}";
        /// Audio in the network, of all lines.
        rtp: Rtp = default "{}";
        /// An account at a PBX. There may be several.
        line: Vec<Line> = default "[]";
        /// Microphone and loudspeaker.
        audio: Audio = default "{}";
        /// One guard for every way a call can start. Emergency numbers pass it.
        limits: Limits = default "{}";
        /// Numbers that pass every rule.
        emergency: Emergency = default "{}";
        /// How people here dial.
        numbers: Numbers = default "{}";
        /// What becomes of a number that somebody dials. There may be several.
        route: Vec<Route> = default "[]";
        /// Callers who are refused.
        blacklist: Blacklist = default "{}";
        /// When somebody is there.
        hours: Hours = default "{}";
        /// A system that is asked who calls.
        lookup: Lookup = default "{}";
        /// Who inside gets a caller first.
        sticky: Sticky = default "{}";
        /// What callers say of a call.
        rating: Rating = default "{}";
        /// What is kept of calls and events.
        journal: Journal = default "{}";
        /// Recording calls. Ask what the law says before it is switched on.
        recording: Recording = default "{}";
        /// What the program says about itself, on stderr.
        log: Log = default "{}";
        /// The API.
        admin: Admin = default "{}";
        /// Programs that have themselves told of an extension's events through the API, as at Ringme and Telphin.
        subscriptions: Subscriptions = default "{}";
        /// The manager protocol of Asterisk, for programs that know a PBX by it.
        ami: Ami = default "{}";
        /// A system that is told what happens. There may be several.
        upstream: Vec<Upstream> = default "[]";
    }
}

/// What the reading of a file found.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// The settings; `None` if there is a mistake.
    pub config: Option<Config>,
    /// Mistakes and warnings in the order of the file.
    pub findings: Vec<Finding>,
}

/// What a new configuration changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Names of lines that are new.
    pub added: Vec<String>,
    /// Names of lines with other settings than before.
    pub changed: Vec<String>,
    /// Names of lines that are gone.
    pub removed: Vec<String>,
    /// Names of tables with other settings than before: `sip`, `audio`.
    pub tables: Vec<&'static str>,
}

impl Config {
    /// Where recordings are kept.
    pub fn recordings(&self) -> PathBuf {
        let beside = || PathBuf::from(&self.device.data).join("recordings");
        self.recording.folder.as_ref().map_or_else(beside, PathBuf::from)
    }

    /// Reads a text. Files of secrets are not read: such a [`Secret`] is empty and names its file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, warnings included, in the order of the file.
    pub fn parse(text: &str, file: &str) -> Result<Config, Vec<Finding>> {
        let Reading { config, findings } = Config::read(text, file, &mut |_| Ok(None));
        config.ok_or(findings)
    }

    /// Reads a text and, by `load`, the files of secrets that it names. `load` takes a path as it is written (relative
    /// ones are relative to the folder of the configuration file) and gives the whole text, `None` for "not now", or
    /// why it could not be read. `file` is what findings call the text.
    pub fn read(
        text: &str,
        file: &str,
        load: &mut dyn FnMut(&str) -> Result<Option<String>, String>,
    ) -> Reading {
        let mut source = Source::new(if text.len() > LARGEST_FILE { "" } else { text }, file);
        let (document, mut findings) = source.document();
        if text.len() > LARGEST_FILE {
            let what = format!("the file has {} bytes", text.len());
            findings.push(source.finding(0..0, Severity::Error, what, "keep it below 512 KiB"));
        }
        let mut reader = Reader { source: &source, findings, load };
        let mut config = None;
        if let Some(document) = &document {
            let mut scope =
                Scope { reader: &mut reader, table: Some(document.as_table()), path: "", span: 0..0 };
            scope.refuse_unknown(Config::KEYS);
            let read = Config::read_keys(&mut scope);
            read.check(&mut scope);
            config = Some(read);
        }
        let mut findings = reader.findings;
        crate::order::sort_by_key(&mut findings, |finding| (finding.line, finding.column));
        findings.dedup();
        let config = config.filter(|_| !findings.iter().any(Finding::is_error));
        Reading { config, findings }
    }

    /// The schema: the tables of the file, with the keys of each.
    pub fn schema() -> &'static [Key] {
        Config::KEYS
    }

    /// The settings as the API shows them: every key, secrets masked.
    pub fn masked(&self) -> serde_json::Value {
        self.json()
    }

    /// The example file: every key with its explanation and its default.
    pub fn example() -> String {
        example::text(Config::KEYS)
    }

    /// The line of this name.
    pub fn line(&self, name: &str) -> Option<&Line> {
        self.line.iter().find(|line| line.name == name)
    }

    /// How people at this device write numbers.
    pub fn number_plan(&self) -> NumberPlan<'_> {
        let country = &self.device.country;
        let habit = self.numbers.dial_habit.as_ref().unwrap_or(country);
        let area = self.numbers.area_code.as_deref().unwrap_or_default();
        NumberPlan::of(habit).in_area(area).seen_from(country)
    }

    /// How the PBX of a line writes numbers.
    pub fn number_plan_of(&self, line: &Line) -> NumberPlan<'_> {
        match &line.country {
            Some(country) if *country != self.device.country => {
                NumberPlan::of(country).seen_from(&self.device.country)
            }
            _ => {
                let area = self.numbers.area_code.as_deref().unwrap_or_default();
                NumberPlan::of(&self.device.country).in_area(area)
            }
        }
    }

    /// What becomes different if `new` takes the place of `self`.
    pub fn changes(&self, new: &Config) -> Changes {
        let names = |lines: &[&Line]| lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for line in &new.line {
            match self.line(&line.name) {
                None => added.push(line),
                Some(old) if old != line => changed.push(line),
                Some(_) => {}
            }
        }
        let removed: Vec<&Line> = self.line.iter().filter(|line| new.line(&line.name).is_none()).collect();
        let tables = [
            ("device", self.device != new.device),
            ("sip", self.sip != new.sip),
            ("rtp", self.rtp != new.rtp),
            ("audio", self.audio != new.audio),
            ("limits", self.limits != new.limits),
            ("emergency", self.emergency != new.emergency),
            ("numbers", self.numbers != new.numbers),
            ("route", self.route != new.route),
            ("blacklist", self.blacklist != new.blacklist),
            ("hours", self.hours != new.hours),
            ("lookup", self.lookup != new.lookup),
            ("sticky", self.sticky != new.sticky),
            ("rating", self.rating != new.rating),
            ("journal", self.journal != new.journal),
            ("recording", self.recording != new.recording),
            ("log", self.log != new.log),
            ("admin", self.admin != new.admin),
            ("ami", self.ami != new.ami),
            ("upstream", self.upstream != new.upstream),
        ];
        Changes {
            added: names(&added),
            changed: names(&changed),
            removed: names(&removed),
            tables: tables.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect(),
        }
    }

    /// What the number plan names and what is not there. `spot` finds a key in one of the tables of a name.
    fn check_numbers(
        &self,
        scope: &mut Scope<'_, '_>,
        spot: &dyn Fn(&str, usize, &str) -> std::ops::Range<usize>,
    ) {
        let names = || self.line.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ");
        for (index, line) in self.line.iter().enumerate().take(MOST_LINES) {
            let country = line.country.as_ref().unwrap_or(&self.device.country);
            if line.number_format.needs_country() && !NumberPlan::of(country).is_known() {
                let what = format!("how numbers are written in {country} is not known");
                let place = spot("line", index, "number_format");
                scope.reader.tell(
                    place,
                    Severity::Error,
                    what,
                    "write \"e164\", \"+e164\" or \"as-dialled\"",
                );
            }
        }
        if self.route.len() > MOST_ROUTES {
            let what = format!("there are {} routes", self.route.len());
            scope.error("route", what, format!("keep {MOST_ROUTES} at most"));
        }
        for (index, route) in self.route.iter().enumerate().take(MOST_ROUTES) {
            if route.hours.is_some() && !self.hours.exist() {
                let place = spot("route", index, "hours");
                let instead = "add [hours] with open or holidays, or remove it";
                scope.reader.tell(place, Severity::Warning, "there are no hours: always is open", instead);
            }
            for (key, line) in [("from", &route.from), ("via", &route.via)] {
                let Some(name) = line.as_deref().filter(|name| self.line(name).is_none()) else { continue };
                let what = format!(
                    "there is no line {}; GSM ports are not part of this version",
                    reader::shortened(name)
                );
                let instead = format!("the lines are: {}", names());
                scope.reader.tell(spot("route", index, key), Severity::Error, what, instead);
            }
        }
    }

    /// The lines that a table of this name is for.
    fn check_lines(&self, scope: &mut Scope<'_, '_>, name: &str, lines: &[String]) {
        let table = scope.table.and_then(|root| root.get(name)).and_then(Node::of).and_then(Node::table);
        let spot = table.and_then(|it| it.key("lines")).and_then(|it| it.span()).unwrap_or(0..0);
        for line in lines.iter().filter(|line| self.line(line).is_none()) {
            let what = format!("there is no line {}", reader::shortened(line));
            let instead = "name lines of [[line]], or leave it out";
            scope.reader.tell(spot.clone(), Severity::Error, what, instead);
        }
    }

    /// What `[lookup]` names and what is not there.
    fn check_lookup(&self, scope: &mut Scope<'_, '_>) {
        let table = scope.table.and_then(|root| root.get("lookup")).and_then(Node::of).and_then(Node::table);
        let spot = |key: &str| table.and_then(|it| it.key(key)).and_then(|it| it.span()).unwrap_or(0..0);
        let Some((name, kind)) = self.lookup.upstream.as_ref().zip(self.lookup.through()) else { return };
        let is_named = |it: &&Upstream| it.name == *name && it.kind == kind;
        match self.upstream.iter().find(is_named) {
            None => {
                let name = reader::shortened(name);
                let what = format!("there is no upstream {name} of kind \"{}\"", kind.as_str());
                scope.reader.tell(spot("upstream"), Severity::Error, what, "name one of [[upstream]]");
            }
            Some(upstream) if upstream.bitrix24.has_controller() => {
                let what = format!("upstream {name} has a controller, and no portal that could be asked");
                scope.reader.tell(spot("upstream"), Severity::Error, what, "name one with a portal");
            }
            Some(upstream)
                if kind == UpstreamKind::Mqtt
                    && !upstream.mqtt.commands.allow.contains(&RemoteCommand::Lookup) =>
            {
                let what =
                    format!("the commands of upstream {name} do not allow \"lookup\": no answer could come");
                let instead = "add \"lookup\" to allow of its [upstream.mqtt.commands]";
                scope.reader.tell(spot("upstream"), Severity::Error, what, instead);
            }
            Some(_) => {}
        }
    }

    /// What no single table can tell.
    fn check(&self, scope: &mut Scope<'_, '_>) {
        let root = scope.table;
        let spot = |table: &str, index: usize, key: &str| {
            let table = match root.and_then(|root| root.get(table)).and_then(Node::of) {
                Some(Node::Tables(tables)) => tables.get(index).and_then(|table| Node::Table(table).table()),
                Some(Node::Value(toml_edit::Value::Array(array))) => {
                    array.get(index).and_then(|it| Node::Value(it).table())
                }
                _ => None,
            };
            table.and_then(|table| table.key(key)).and_then(|key| key.span()).unwrap_or(0..0)
        };
        let named = [
            ("line", "a line", MOST_LINES, self.line.iter().map(|it| it.name.as_str()).collect()),
            (
                "upstream",
                "an upstream",
                MOST_UPSTREAMS,
                self.upstream.iter().map(|it| it.name.as_str()).collect(),
            ),
        ];
        for (table, one, most, names) in named {
            let names: Vec<&str> = names;
            if names.len() > most {
                let what = format!("there are {} {table}s", names.len());
                scope.error(table, what, format!("keep {most} at most"));
            }
            for (index, name) in names.iter().enumerate().take(most) {
                if !name.is_empty() && names.get(..index).is_some_and(|earlier| earlier.contains(name)) {
                    let (place, what) =
                        (spot(table, index, "name"), format!("there is {one} {name} already"));
                    scope.reader.tell(
                        place,
                        Severity::Error,
                        what,
                        format!("give each {table} its own name"),
                    );
                }
            }
        }
        for (index, line) in self.line.iter().enumerate().take(MOST_LINES) {
            let earlier = self.line.get(..index).unwrap_or_default();
            let twin = earlier
                .iter()
                .find(|other| other.address() == line.address() && other.enabled && line.enabled);
            if let Some(twin) = twin
                && !line.user.is_empty()
            {
                let what = format!("lines {} and {} are both {}", twin.name, line.name, line.address());
                scope.reader.tell(
                    spot("line", index, "user"),
                    Severity::Warning,
                    what,
                    "the PBX may keep only one of them",
                );
            }
        }
        for (index, upstream) in self.upstream.iter().enumerate().take(MOST_UPSTREAMS) {
            for line in upstream.lines.iter().filter(|line| self.line(line).is_none()) {
                let what = format!("there is no line {}", reader::shortened(line));
                let names: Vec<&str> = self.line.iter().map(|line| line.name.as_str()).collect();
                let instead = format!("the lines are: {}", names.join(", "));
                scope.reader.tell(spot("upstream", index, "lines"), Severity::Error, what, instead);
            }
        }
        self.check_lines(scope, "lookup", &self.lookup.lines);
        self.check_lines(scope, "sticky", &self.sticky.lines);
        self.check_lines(scope, "rating", &self.rating.lines);
        self.check_lookup(scope);
        self.check_numbers(scope, &spot);
        for (key, port) in [("port_udp", self.sip.port_udp)] {
            if self.rtp.ports.contains(port) {
                let ports = self.rtp.ports;
                let what = format!("[sip] {key} {port} is one of the ports {}-{}", ports.first, ports.last);
                let sip =
                    scope.table.and_then(|root| root.get("sip")).and_then(Node::of).and_then(Node::table);
                let rtp =
                    scope.table.and_then(|root| root.get("rtp")).and_then(Node::of).and_then(Node::table);
                let span = sip.and_then(|it| it.key(key)).or_else(|| rtp.and_then(|it| it.key("ports")));
                let span = span.and_then(|key| key.span()).unwrap_or(0..0);
                scope.reader.tell(span, Severity::Error, what, "choose ports that do not overlap");
            }
        }
        let needed: usize =
            self.line.iter().filter(|line| line.enabled).map(|line| usize::from(line.max_calls)).sum();
        if self.rtp.ports.pairs() < needed.min(MOST_LINES) {
            let what = format!(
                "{} calls may come at once, and [rtp] ports is enough for {}",
                needed,
                self.rtp.ports.pairs()
            );
            let rtp = scope.table.and_then(|root| root.get("rtp")).and_then(Node::of).and_then(Node::table);
            let span = rtp.and_then(|it| it.key("ports")).and_then(|key| key.span()).unwrap_or(0..0);
            scope.reader.tell(span, Severity::Warning, what, "widen the range, or lower max_calls");
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;

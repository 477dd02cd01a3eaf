//! The tables of the file, but `[[line]]`.

use std::time::Duration;

use super::announcement::Announcement;
use super::dialing::NumberRule;
use super::network::{Listen, Trusted};
use super::number_plan::NumberPlan;
use super::reader::{Mistake, Scope, section, within, zero_or_within};
use super::secret::Secret;
use super::values::{Address, PortRange, Size};
use super::words::{Backend, Level, RecordingFormat, Role};
use super::zone::Zone;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// `[device]`: what this device is.
    pub struct Device {
        /// What people call it; without it, the name of the host.
        name: Option<String> = optional "\"Reception\"";
        /// Its serial number, part of the source of all events; without it, the id of the machine.
        serial: Option<String> = optional "\"TR-000001\"";
        /// What whoever hands out configurations calls this one; it is told with the state of the device, and means nothing here.
        revision: Option<String> = optional "\"2026-11-22.1\"";
        /// The folder of the store and of recordings.
        data: String = default "\"/var/lib/tipring\"";
        /// Two letters of ISO 3166: the tones one hears, and which numbers are international.
        country: String = default "\"US\"", if valid_country;
        /// By which clock `[hours]` are meant: "local" (that of the machine), a zone such as "Europe/Moscow" where the machine
        /// has the file of it, or its rules in the form of POSIX TZ: "MSK-3" is three hours ahead of UTC.
        timezone: Zone = default "\"local\"";
    }
}

impl Device {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[sip]`: signalling, of all lines.
    pub struct Sip {
        /// The address of this machine to use; without it all, IPv4 and IPv6.
        bind: Option<Address> = optional "\"192.0.2.10\"";
        /// The port for UDP; 0 takes a free one.
        port_udp: u16 = default "5060";
        /// The port for TCP; 0 accepts no connections.
        port_tcp: u16 = default "5060";
        /// What the device calls itself in messages; without it, tipring and its version.
        user_agent: Option<String> = optional "\"tipring\"";
        /// The DSCP of signalling, 0 to 63 (24 is CS3).
        dscp: u8 = default "24", if within(0, 63);
        /// Who may send us requests: "registered" (the lines' servers), or a list of networks that may as well.
        trusted: Trusted = default "\"registered\"";
    }
}

impl Sip {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[rtp]`: audio in the network, of all lines.
    pub struct Rtp {
        /// UDP ports, two for each call. The first is even.
        ports: PortRange = default "\"10000-10999\"";
        /// The DSCP of audio, 0 to 63 (46 is EF).
        dscp: u8 = default "46", if within(0, 63);
        /// The length of a packet that is sent, unless the other side asks for another. Duration, 10ms to 60ms.
        ptime: Duration = default "\"20ms\"", if valid_ptime;
        /// Without packets for this long a call that is not on hold ends (media_lost). Duration, 5s to 1h; "0s" is never.
        timeout: Duration = default "\"60s\"", if zero_or_within(5 * SECOND, 3600 * SECOND);
        /// Without packets for this long the audio counts as silent. Duration, 500ms to 30s.
        silence: Duration = default "\"3s\"", if within(SECOND / 2, 30 * SECOND);
    }
}

impl Rtp {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.timeout != Duration::ZERO && self.silence >= self.timeout {
            scope.error("silence", "silence is not shorter than timeout", "write silence = \"3s\"");
        }
    }
}

section! {
    /// `[audio]`: microphone and loudspeaker.
    pub struct Audio {
        /// "cpal" (a sound device; it is open only while something is heard or said), "file" (WAV), "tone" or "none".
        backend: Backend = default "\"cpal\"";
        /// A sound device, or a WAV file that is played into calls in a loop; without it, the system's default device.
        input: Option<String> = optional "\"hw:0\"";
        /// A sound device, or the WAV file for what is heard: begun anew with the first call, complete after the last.
        output: Option<String> = optional "\"hw:0\"";
        /// The sound device that rings, if it is not `output`.
        ring_device: Option<String> = optional "\"hw:1\"";
    }
}

impl Audio {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        match self.backend {
            Backend::File if self.input.is_none() && self.output.is_none() => {
                scope.error("backend", "backend \"file\" has no file", "add input, output or both");
            }
            Backend::File if self.input.is_some() && self.input == self.output => {
                scope.error("output", "output is the file of input", "write another file");
            }
            Backend::Tone | Backend::None if self.input.is_some() || self.output.is_some() => {
                let key = if self.input.is_some() { "input" } else { "output" };
                let what = format!("{key} is not used with backend \"{}\"", self.backend.as_str());
                scope.warn(key, what, "remove it, or write backend = \"cpal\" or \"file\"");
            }
            _ => {}
        }
    }
}

section! {
    /// `[limits]`: one guard for every way a call can start. Emergency numbers pass it.
    pub struct Limits {
        /// Numbers that may be called: "international", "premium", or a number in which * is any rest and ? one digit. It means
        /// the number as it was dialled, and in E.164 with a plus.
        allow: Vec<NumberRule> = default "[\"*\"]";
        /// Numbers that may not be called, though `allow` has them; written in the same way.
        deny: Vec<NumberRule> = default "[\"international\", \"premium\"]";
        /// Calls that may start in one minute; 0 is no limit.
        calls_per_minute: u32 = default "60";
        /// Calls that may start in one day (UTC); 0 is no limit.
        calls_per_day: u32 = default "1000";
        /// Minutes of outgoing calls in one day (UTC); 0 is no limit.
        minutes_per_day: u32 = default "1500";
        /// After this time a call ends, also one that was given away meanwhile. Duration, 1m to 7d; "0s" is no limit.
        max_duration: Duration = default "\"4h\"", if zero_or_within(60 * SECOND, 7 * DAY);
        /// true: two numbers outside of the PBX may be joined, by a callback or a transfer. Whoever can start one then has two
        /// strangers talk at your expense. Outside is a number of seven digits or more, or with a plus, and another domain.
        external_to_external: bool = default "false";
    }
}

impl Limits {
    /// Whether this number, written where the plan holds, may be called, or the key of the rule that forbids it.
    ///
    /// # Errors
    /// `limits.allow` or `limits.deny`.
    pub fn permits(&self, number: &str, plan: &NumberPlan<'_>) -> Result<(), &'static str> {
        if !self.allow.iter().any(|rule| rule.matches(number, plan)) {
            return Err("limits.allow");
        }
        self.does_not_deny(number, plan)
    }

    /// Whether nothing forbids what a PBX is asked for instead of an allowed number.
    ///
    /// # Errors
    /// `limits.deny`.
    pub fn does_not_deny(&self, number: &str, plan: &NumberPlan<'_>) -> Result<(), &'static str> {
        if self.deny.iter().any(|rule| rule.matches(number, plan)) {
            return Err("limits.deny");
        }
        Ok(())
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.allow.is_empty() {
            scope.warn(
                "allow",
                "allow is empty: only emergency numbers can be called",
                "write allow = [\"*\"]",
            );
        }
    }
}

section! {
    /// `[emergency]`: numbers that pass every rule. Where one line does not get such a call anywhere, the next one is
    /// tried.
    pub struct Emergency {
        /// Emergency numbers. Add those of your country.
        numbers: Vec<String> = default "[\"112\", \"911\"]", if valid_numbers;
        /// What people dial before an outside number; emergency numbers are known behind it as well.
        prefixes: Vec<String> = default "[\"0\", \"9\"]", if valid_numbers;
    }
}

impl Emergency {
    /// The emergency number that was dialled, without an outside prefix.
    pub fn number<'n>(&self, dialled: &'n str) -> Option<&'n str> {
        let known = |number: &str| self.numbers.iter().any(|it| it == number);
        if known(dialled) {
            return Some(dialled);
        }
        self.prefixes
            .iter()
            .find_map(|prefix| dialled.strip_prefix(prefix.as_str()).filter(|rest| known(rest)))
    }

    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.numbers.is_empty() {
            scope.warn("numbers", "there are no emergency numbers", "write numbers = [\"112\"]");
        }
    }
}

section! {
    /// `[journal]`: what is kept of calls and events.
    pub struct Journal {
        /// How long calls and events are kept. Duration, 1h to 3650d.
        retention: Duration = default "\"90d\"", if within(3600 * SECOND, 3650 * DAY);
        /// How large the store may become; the oldest events go first. Size, from 1MiB on.
        size: Size = default "\"64MiB\"", if within(Size::of(1 << 20), Size::of(1 << 40));
        /// true: the digits that are dialled in calls are kept and told, too. They may be a card number.
        digits: bool = default "false";
    }
}

impl Journal {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[recording]`: recording calls. Ask what the law says before it is switched on.
    pub struct Recording {
        /// true: every call is recorded from its answer on.
        enabled: bool = default "false";
        /// true: whoever is recorded hears a short tone (1400 Hz) at once and every 15 s, but not while it is paused.
        beep: bool = default "false";
        /// A WAV file of 30 s at most: what both sides hear when a recording begins, beside what they say.
        announcement: Option<Announcement> = optional "\"/etc/tipring/recorded.wav\"";
        /// Where recordings go; without it, the folder `recordings` beside the store.
        folder: Option<String> = optional "\"/var/lib/tipring/recordings\"";
        /// The form of the files: "wav".
        format: RecordingFormat = default "\"wav\"";
        /// How long recordings are kept. Duration, 1h to 3650d.
        retention: Duration = default "\"30d\"", if within(3600 * SECOND, 3650 * DAY);
        /// How much room all recordings may take; the oldest go first. Size, from 1MiB on.
        size: Size = default "\"1GiB\"", if within(Size::of(1 << 20), Size::of(1 << 44));
    }
}

impl Recording {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[log]`: what the program says about itself, on stderr.
    pub struct Log {
        /// "error", "warn", "info", "debug" or "trace".
        level: Level = default "\"info\"";
    }
}

impl Log {
    fn check(&self, _: &mut Scope<'_, '_>) {}
}

section! {
    /// `[admin]`: the API.
    pub struct Admin {
        /// Address and port of the API in the network, which wants a token; or "off".
        listen: Listen = default "\"127.0.0.1:8080\"";
        /// A file with the certificate (PEM, the server's first) for HTTPS at `listen`; without it, plain HTTP.
        tls_cert: Option<String> = optional "\"/etc/tipring/api.crt\"";
        /// A file with the key (PEM, without a passphrase) that belongs to tls_cert.
        tls_key: Option<String> = optional "\"/etc/tipring/api.key\"";
        /// The socket for commands on this machine, which wants no token.
        socket: String = default "\"/run/tipring.sock\"";
        /// People who may use the API, with name and password.
        users: Vec<User> = default "[]";
        /// Programs that may use the API, with a token.
        tokens: Vec<Token> = default "[]";
    }
}

impl Admin {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(_), Some(_)) => true,
            (Some(_), None) if !scope.has("tls_key") => {
                scope.error(
                    "tls_cert",
                    "tls_cert is there without tls_key",
                    "add tls_key, the file of its key",
                );
                true
            }
            (None, Some(_)) if !scope.has("tls_cert") => {
                scope.error(
                    "tls_key",
                    "tls_key is there without tls_cert",
                    "add tls_cert, the file it belongs to",
                );
                true
            }
            (cert, key) => cert.is_some() || key.is_some(),
        };
        match self.listen {
            Listen::At(address) if !address.ip().is_loopback() && !tls => scope.warn(
                "listen",
                format!("the API listens at {address} without TLS: tokens travel in clear"),
                "add tls_cert and tls_key, or write listen = \"127.0.0.1:8080\"",
            ),
            Listen::Off if tls => {
                scope.warn(
                    "tls_cert",
                    "tls_cert has no effect with listen = \"off\"",
                    "remove one of the two",
                );
            }
            _ => {}
        }
        let names = self
            .users
            .iter()
            .map(|user| user.name.as_str())
            .chain(self.tokens.iter().map(|it| it.name.as_str()));
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if seen.contains(&name) && !name.is_empty() {
                let what = format!("{name} is there twice among the users and tokens");
                scope.error("tokens", what, "give each its own name");
            }
            seen.push(name);
        }
    }
}

section! {
    /// `[[admin.users]]`: somebody who may use the API.
    pub struct User {
        /// The name to log in with.
        name: String = required "\"anna\"";
        /// The password; or password_file = the file that holds it.
        password: Secret = secret "\"a long password\"";
        /// "view" (look), "operate" (calls) or "admin" (everything).
        role: Role = default "\"view\"";
    }
}

impl User {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        strong_enough(&self.password, "password", &self.name, scope);
        if self.name.contains(':') {
            scope.error("name", "name has a colon in it", "write a name without a colon");
        }
    }
}

section! {
    /// `[[admin.tokens]]`: a program that may use the API.
    pub struct Token {
        /// What the program is called here.
        name: String = required "\"crm\"";
        /// The token; or token_file = the file that holds it.
        token: Secret = secret "\"a long random text\"";
        /// "view" (look), "operate" (calls) or "admin" (everything).
        role: Role = default "\"view\"";
    }
}

impl Token {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        strong_enough(&self.token, "token", &self.name, scope);
    }
}

/// Somebody who can dial on the company's account must not be let in by a guess.
pub(super) fn strong_enough(secret: &Secret, key: &str, name: &str, scope: &mut Scope<'_, '_>) {
    if secret.is_empty() {
        if !scope.has(key) && !scope.has(&format!("{key}_file")) {
            scope.error(
                key,
                format!("{} {name} has no {key}", scope.title()),
                format!("add {key} or {key}_file"),
            );
        }
    } else if !secret.reveal().is_empty() && secret.reveal().chars().count() < 8 {
        let what = format!("the {key} of {name} is shorter than 8 characters");
        scope.error(key, what, "write a longer one, for example from: openssl rand -hex 16");
    }
}

fn valid_ptime(ptime: &Duration) -> Result<(), Mistake> {
    if matches!(ptime.as_millis(), 10 | 20 | 30 | 40 | 50 | 60) {
        return Ok(());
    }
    let what = format!("can't be \"{}ms\"", ptime.as_millis());
    Err((what, "write \"10ms\", \"20ms\", \"30ms\", \"40ms\", \"50ms\" or \"60ms\"".into()))
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
pub(super) fn valid_country(country: &String) -> Result<(), Mistake> {
    if country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(("is not a country".into(), "write its two capital letters: \"DE\", \"RU\", \"US\"".into()))
}

#[expect(clippy::ptr_arg, reason = "a check takes the value as it is")]
fn valid_numbers(numbers: &Vec<String>) -> Result<(), Mistake> {
    match numbers
        .iter()
        .find(|number| number.len() > 15 || !number.chars().all(|c| c.is_ascii_digit() || "*#+".contains(c)))
    {
        Some(wrong) => {
            let what = format!("has \"{}\" in it", super::reader::shortened(wrong));
            Err((what, "write digits only, each number in quotes: [\"112\"]".into()))
        }
        None => Ok(()),
    }
}

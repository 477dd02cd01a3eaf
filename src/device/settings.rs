//! The configuration file and the files of secrets that it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;

use super::tls::{self, Belief, TlsError};
use super::{announcement, clock};
use crate::config::{Announcement, Backend, Config, Finding, Place, Places, Severity, Zone};
use crate::events::upstream::dialect::left_out;
use crate::events::upstream::filter::useless;

/// Where the configuration is if nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/tipring/tipring.toml";
/// The environment's say.
pub const VARIABLE: &str = "TIPRING_CONFIG";
/// The tz database of the machine.
const ZONES: &str = "/usr/share/zoneinfo";
/// The zone of the machine itself.
const LOCAL_ZONE: &str = "/etc/localtime";
/// Bytes of a file with the rules of a time zone.
const LARGEST_ZONE: u64 = 64 * 1024;
/// Bytes of a file that holds one secret.
const LARGEST_SECRET: u64 = 64 * 1024;

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no such file, or this user may not read it.
    #[error("{file}: can't be read: {error}; give its path with --config FILE or ${VARIABLE}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// It has mistakes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistaken(Vec<Finding>),
}

/// A configuration that can be used, and what should still be said of it.
pub struct Settings {
    /// The settings, secrets filled in.
    pub config: Config,
    /// Warnings.
    pub findings: Vec<Finding>,
    /// What HTTPS at `[admin] listen` needs, if it is wanted.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What the reading of the configuration found.
pub struct Reading {
    /// The settings; `None` if there is a mistake.
    pub config: Option<Config>,
    /// Mistakes and warnings in the order of the file.
    pub findings: Vec<Finding>,
    /// Where everything stands.
    pub places: Places,
    /// What HTTPS at `[admin] listen` needs, if it is wanted.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The configuration file: `given`, else what the environment says, else the usual place.
pub fn file(given: Option<PathBuf>) -> PathBuf {
    given.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from)).unwrap_or_else(|| DEFAULT_FILE.into())
}

/// Reads the configuration, with all secrets that it names by file.
pub fn load(file: &Path) -> Result<Settings, SettingsError> {
    let Reading { config, findings, tls, .. } = read(file)?;
    match config {
        Some(mut config) => {
            let device = &mut config.device;
            if device.name.is_none() {
                device.name = trimmed(fs::read_to_string("/proc/sys/kernel/hostname"));
            }
            if device.serial.is_none() {
                // The machine's own identity, which outlives reinstalling this program.
                device.serial = trimmed(fs::read_to_string("/etc/machine-id"));
            }
            Ok(Settings { config, findings, tls })
        }
        None => Err(SettingsError::Mistaken(findings)),
    }
}

/// Everything that is to be said of the configuration, and the settings if nothing of it is a mistake.
pub fn read(file: &Path) -> Result<Reading, SettingsError> {
    let shown = file.display().to_string();
    let text =
        fs::read_to_string(file).map_err(|error| SettingsError::Unreadable { file: shown.clone(), error })?;
    let folder = file.parent().unwrap_or(Path::new("."));
    // A relative path starts from the folder of the configuration.
    let crate::config::Reading { mut config, mut findings } =
        Config::read(&text, &shown, &mut |path: &str| secret(&folder.join(path)));
    let places = Places::of(&text, &shown);
    let mut tls = None;
    if let Some(settings) = &mut config {
        anchor(settings, folder);
        findings.extend(authorities(settings, &places));
        findings.extend(unknown_events(settings, &places));
        findings.extend(zone(&mut settings.device.timezone, &places));
        for (table, announcement) in announcements(settings) {
            if let Err((what, instead)) = announcement::read(announcement) {
                let at = Place { table, index: 0, keys: &["announcement"] };
                findings.push(places.finding(at, Severity::Error, &what, &instead));
            }
        }
        let (own, finding) = own_certificate(settings, &places, clock::now().utc_us);
        tls = own;
        findings.extend(finding);
        crate::order::sort_by_key(&mut findings, |finding| (finding.line, finding.column));
    }
    let config = config.filter(|_| !findings.iter().any(Finding::is_error));
    Ok(Reading { config, findings, places, tls })
}

/// Has relative paths start from the folder of the configuration.
fn anchor(config: &mut Config, folder: &Path) {
    let of_lines = config.line.iter_mut().filter_map(|line| line.ca_file.as_mut());
    let of_upstreams = config.upstream.iter_mut().filter_map(|it| it.ca_file.as_mut());
    let authorities = of_lines.chain(of_upstreams).chain(config.lookup.ca_file.as_mut());
    let admin = &mut config.admin;
    let own = [admin.tls_cert.as_mut(), admin.tls_key.as_mut(), Some(&mut admin.socket)];
    let kept = [Some(&mut config.device.data), config.recording.folder.as_mut()];
    // Any other name of a sound device is no path.
    let is_file = config.audio.backend == Backend::File;
    let audio = &mut config.audio;
    let sound = [audio.input.as_mut(), audio.output.as_mut()].map(|path| path.filter(|_| is_file));
    let others = own.into_iter().chain(kept).chain(sound).flatten();
    for path in authorities.chain(others) {
        *path = folder.join(&*path).display().to_string();
    }
    for (_, announcement) in announcements(config) {
        announcement.file = folder.join(&announcement.file).display().to_string();
    }
}

/// What is said in calls, by the tables that have it.
fn announcements(config: &mut Config) -> impl Iterator<Item = (&'static str, &mut Announcement)> {
    let tables =
        [("recording", &mut config.recording.announcement), ("rating", &mut config.rating.announcement)];
    tables.into_iter().filter_map(|(table, said)| Some((table, said.as_mut()?)))
}

/// What is wrong with the files of authorities whose certificates lines, upstreams and the look-up believe.
fn authorities(config: &Config, places: &Places) -> Vec<Finding> {
    let lines = config.line.iter().enumerate();
    let used = lines
        .filter(|(_, line)| line.enabled && line.transport.0.iter().any(|transport| transport.is_secure()));
    let of_lines = used.map(|(index, line)| ("line", index, Belief::of(line)));
    let upstreams = config.upstream.iter().enumerate();
    let of_upstreams = upstreams.map(|(index, upstream)| ("upstream", index, Belief::of_upstream(upstream)));
    let lookup = &config.lookup;
    let of_lookup = lookup.is_on().then(|| ("lookup", 0, Belief::of_upstream(&lookup.as_upstream())));
    let given = of_lines.chain(of_upstreams).chain(of_lookup).filter(|(.., belief)| belief.ca_file.is_some());
    let wrong = given.filter_map(|(table, index, belief)| {
        let text = tls::client(&belief).err()?.to_string();
        let (what, instead) = text.split_once("; ").unwrap_or((&text, "give another file"));
        let at = Place { table, index, keys: &["ca_file"] };
        Some(places.finding(at, Severity::Error, what, instead))
    });
    wrong.collect()
}

/// Types of events that upstreams ask for and that are none, and upstreams that would be told nothing, silently.
fn unknown_events(config: &Config, places: &Places) -> Vec<Finding> {
    let mute = config.upstream.iter().enumerate().filter_map(|(index, upstream)| {
        let spoken = left_out(upstream).filter(|_| useless(upstream).next().is_none())?;
        let at = Place { table: "upstream", index, keys: &["events"] };
        let (name, kind) = (&upstream.name, upstream.kind.as_str());
        let what = format!("events leaves out all that upstream {name} of kind \"{kind}\" could be told");
        let instead = format!("have one of these in it: {}", spoken.join(", "));
        Some(places.finding(at, Severity::Warning, &what, &instead))
    });
    let all = config.upstream.iter().enumerate().flat_map(|(index, upstream)| {
        useless(upstream).map(move |pattern| {
            let at = Place { table: "upstream", index, keys: &["events"] };
            let what = format!("events: no event of this version is \"{pattern}\"");
            places.finding(
                at,
                Severity::Error,
                &what,
                "see the types that docs/integrations/webhook.md lists",
            )
        })
    });
    all.chain(mute).collect()
}

/// Gives a time zone its rules, from the files of the machine; what is to be said if they are not there.
fn zone(zone: &mut Zone, places: &Places) -> Option<Finding> {
    let at = Place { table: "device", index: 0, keys: &["timezone"] };
    let file = match zone.wanted() {
        Some(name) => Path::new(ZONES).join(name),
        // A machine that says nothing is set to UTC.
        None if zone.is_local() && Path::new(LOCAL_ZONE).exists() => LOCAL_ZONE.into(),
        None => return None,
    };
    let fits = fs::metadata(&file).is_ok_and(|it| it.is_file() && it.len() <= LARGEST_ZONE);
    let read =
        if fits { fs::read(&file).map_err(|error| error.to_string()) } else { Err("no such file".into()) };
    let error = read.and_then(|bytes| zone.read(&bytes)).err()?;
    let what = format!("the rules of the time zone can't be read from {}: {error}", file.display());
    let instead = "install tzdata, or write the rules: \"MSK-3\" is three hours ahead of UTC";
    Some(places.finding(at, Severity::Error, &what, instead))
}

/// The text of a file that holds a secret.
fn secret(path: &Path) -> Result<Option<String>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_SECRET {
        return Err(format!("{size} bytes are no secret"));
    }
    fs::read_to_string(path).map(Some).map_err(|error| error.to_string())
}

fn trimmed(text: std::io::Result<String>) -> Option<String> {
    text.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The API's own certificate with its key, if the files can be used, and what is to be said of them.
fn own_certificate(
    config: &Config,
    places: &Places,
    now_utc_us: i64,
) -> (Option<Arc<ServerConfig>>, Option<Finding>) {
    let (Some(cert), Some(key)) = (&config.admin.tls_cert, &config.admin.tls_key) else {
        return (None, None);
    };
    let tell = |key, severity, what: &str, instead: &str| {
        Some(places.finding(Place { table: "admin", index: 0, keys: &[key] }, severity, what, instead))
    };
    match tls::server(Path::new(cert), Path::new(key)) {
        Ok((own, Some(until))) if until < now_utc_us => {
            let what = "the certificate of tls_cert has ended, nobody will believe it";
            let instead = "have it renewed, unless the clock of this device is wrong";
            (Some(own), tell("tls_cert", Severity::Warning, what, instead))
        }
        Ok((own, _)) => (Some(own), None),
        Err(error) => {
            let text = error.to_string();
            let (what, instead) = text.split_once("; ").unwrap_or((&text, "give other files"));
            let of_key = matches!(error, TlsError::NoKey(_) | TlsError::Strangers { .. })
                || matches!(error, TlsError::Unreadable { key: "tls_key", .. });
            let key = if of_key { "tls_key" } else { "tls_cert" };
            (None, tell(key, Severity::Error, what, instead))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &str) -> Reading {
        let folder = std::env::temp_dir().join(format!("tipring-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("t.toml"), text).expect("a file");
        let reading = read(&folder.join("t.toml")).expect("readable");
        fs::remove_dir_all(folder).expect("removed");
        reading
    }

    #[test]
    fn relative_paths_start_from_the_folder_of_the_file() {
        let text = "[device]\ndata = \"data\"\n[admin]\nsocket = \"/run/t.sock\"\n[recording]\nfolder = \"rec\"\n\
                    [audio]\nbackend = \"file\"\ninput = \"in.wav\"\n";
        let config = read_text("paths", text).config.expect("right");
        let folder = std::env::temp_dir().join(format!("tipring-{}-paths", std::process::id()));
        let from = |name: &str| folder.join(name).display().to_string();
        assert_eq!((config.device.data, config.recording.folder), (from("data"), Some(from("rec"))));
        assert_eq!((config.audio.input, config.audio.output), (Some(from("in.wav")), None));
        assert_eq!(config.admin.socket, "/run/t.sock");
        let device = read_text("device", "[audio]\ninput = \"hw:0\"\n").config.expect("right");
        assert_eq!(device.audio.input.as_deref(), Some("hw:0"), "a device is no path");
    }

    #[test]
    fn a_time_zone_has_rules_or_a_finding() {
        let named = |name: &str| read_text("zone", &format!("[device]\ntimezone = \"{name}\"\n"));
        let missing = named("Europe/Atlantis");
        let [finding] = missing.findings.as_slice() else { panic!("{:?}", missing.findings) };
        assert!(finding.is_error() && finding.line == 2, "{finding}");
        assert!(finding.what.contains("/usr/share/zoneinfo/Europe/Atlantis"), "{finding}");
        assert!(finding.instead.contains("tzdata"), "{finding}");
        assert!(named("local").config.is_some());
        let noon = 1_795_262_400_000_000;
        let there = named("MSK-3").config.expect("right").device.timezone.civil(noon);
        assert_eq!(there.to_string(), "2026-11-21T15:00:00");
        if Path::new(ZONES).join("Europe/Moscow").exists() {
            let read = named("Europe/Moscow").config.expect("right").device.timezone.civil(noon);
            assert_eq!(read, there);
        }
    }

    #[test]
    fn what_is_said_in_calls_is_read_and_else_told_at_its_line() {
        let text = "[recording]\nannouncement = \"rec.wav\"\n[rating]\nannouncement = \"how-was-it.wav\"\n";
        let reading = read_text("announcements", text);
        let lines: Vec<usize> = reading.findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 4], "{:?}", reading.findings);
        let what = &reading.findings[1].what;
        assert!(what.contains("-announcements/how-was-it.wav can't be used: "), "{what}");
    }

    #[test]
    fn a_missing_file_of_an_authority_is_told_at_its_line() {
        let line = |name: &str, more: &str| {
            let domain = "domain = \"pbx.example\"\npassword = \"x\"";
            format!("[[line]]\nname = \"{name}\"\nuser = \"{name}\"\n{domain}\n{more}")
        };
        let tls = "transport = \"tls\"\nca_file = \"ca.pem\"\n";
        let reading = read_text("authority", &[line("a", ""), line("b", tls)].concat());
        assert!(reading.config.is_none());
        let [finding] = reading.findings.as_slice() else { panic!("{:?}", reading.findings) };
        assert_eq!((finding.line, finding.column), (12, 1), "{finding}");
        assert!(
            finding.what.starts_with("can't read ca_file /") && finding.what.contains("/ca.pem: "),
            "{finding}"
        );
        assert!(finding.instead.starts_with("give the path of a PEM file"), "{finding}");

        let url = "url = \"https://crm.example\"\npath = \"/?n=$remote_number\"\n";
        let lookup = format!("[lookup]\nkind = \"url\"\n{url}ca_file = \"crm-ca.pem\"\n");
        let reading = read_text("lookup", &lookup);
        assert!(reading.config.is_none());
        let [finding] = reading.findings.as_slice() else { panic!("{:?}", reading.findings) };
        assert_eq!(finding.line, 5, "{finding}");
        assert!(finding.what.contains("-lookup/crm-ca.pem: "), "from the folder of the file: {finding}");
    }
}

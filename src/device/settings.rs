//! The configuration file and the files of secrets that it names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Config, Finding};

/// Where the configuration is if nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/tipring/tipring.toml";
/// The environment's say.
pub const VARIABLE: &str = "TIPRING_CONFIG";
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
}

/// The configuration file: `given`, else what the environment says, else the usual place.
pub fn file(given: Option<PathBuf>) -> PathBuf {
    given.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from)).unwrap_or_else(|| DEFAULT_FILE.into())
}

/// Reads the configuration, with all secrets that it names by file.
pub fn load(file: &Path) -> Result<Settings, SettingsError> {
    let (config, findings) = read(file)?;
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
            Ok(Settings { config, findings })
        }
        None => Err(SettingsError::Mistaken(findings)),
    }
}

/// Everything that is to be said of the configuration, and the settings if nothing of it is a mistake.
pub fn read(file: &Path) -> Result<(Option<Config>, Vec<Finding>), SettingsError> {
    let shown = file.display().to_string();
    let text =
        fs::read_to_string(file).map_err(|error| SettingsError::Unreadable { file: shown.clone(), error })?;
    let folder = file.parent().unwrap_or(Path::new("."));
    // A relative path starts from the folder of the configuration.
    let reading = Config::read(&text, &shown, &mut |path: &str| secret(&folder.join(path)));
    Ok((reading.config, reading.findings))
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

//! The command line: what runs by itself is started here, everything else asks a running appliance.
#![allow(clippy::disallowed_methods, reason = "the environment and the office thread are this file's")]

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tipring::admin::cli::client::{Client, ClientError, Place};
use tipring::admin::cli::table::Paint;
use tipring::admin::cli::{self, DONE, FAILED, Terminal, WRONG};
use tipring::admin::{Office, serve};
use tipring::config::Finding;
use tipring::device::inspect::inspect;
use tipring::device::settings::{self, Reading, SettingsError};
use tipring::device::upstream::Dispatcher;
use tipring::device::vital::Vital;
use tipring::device::{self, Appliance, Handles, Progress, clock, doctor, tls};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Where the local socket is if the configuration can't be read.
const SOCKET: &str = "/run/tipring.sock";

/// A SIP phone for desk phones and GSM gateways.
#[derive(Parser)]
#[command(name = "tipring", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Arguments {
    /// Where the appliance is: unix:///run/tipring.sock, http://HOST:PORT or https://HOST:PORT (default: the local socket)
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// The token for an appliance in the network (better: $TIPRING_TOKEN, which no list of processes shows)
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The certificates (PEM) that an appliance at https:// must be signed by, instead of the usual ones
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print stable JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance; prints "ready" when lines are registered and sound is open
    Run(Run),
    /// A tour on an embedded PBX: registers, calls, shows events and quality
    Demo {
        /// How long each call lasts
        #[arg(long, value_name = "N", default_value_t = 6)]
        seconds: u64,
    },
    /// Is the configuration right? Each finding as FILE:LINE: what, and what to write instead
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also ask: DNS for the servers of each line, their certificates, the registrar for user and password
        #[arg(long)]
        resolve: bool,
    },
    /// What stands between this device and its PBX: findings, worst first, each with a cure; exit 0 if there are none
    Doctor {
        /// The configuration file; an appliance that runs with it is asked, else it is looked at from the file alone
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also find out how long an idle mapping of the NAT lives, up to so many seconds; takes as long
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=600))]
        lifetime: Option<u64>,
    },
    #[command(flatten)]
    Appliance(cli::Command),
    /// Print the version
    Version,
}

#[derive(Args)]
struct Run {
    /// The configuration file (default: $TIPRING_CONFIG, then /etc/tipring/tipring.toml)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the system starts: `run`, perhaps with `--config FILE`. To build the tree of all commands takes longer than to read
/// the configuration, and somebody waits for this phone to be back.
fn service(mut words: impl Iterator<Item = OsString>) -> Option<Run> {
    let named = words.next()? == "run";
    let config = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(flag), Some(file), None)
            if flag == "--config" && !file.as_encoded_bytes().starts_with(b"-") =>
        {
            Some(file.into())
        }
        _ => return None,
    };
    named.then_some(Run { config })
}

fn main() -> ExitCode {
    ExitCode::from(match service(std::env::args_os().skip(1)) {
        Some(Run { config }) => run(settings::file(config)),
        None => command(),
    })
}

// Not part of `main`: it takes sixteen pages of stack to read all commands.
#[inline(never)]
fn command() -> u8 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { WRONG } else { DONE };
            let _ = error.print();
            return code;
        }
    };
    let Arguments { api, token, ca, json, command } = arguments;
    match command {
        Command::Run(Run { config }) => run(settings::file(config)),
        Command::Demo { seconds } => tipring::demo::run(tipring::demo::Options { seconds, json }),
        Command::Check { config, resolve } => check(&settings::file(config), resolve, json),
        Command::Doctor { config, lifetime } => {
            let (alone, file) = (api.is_none(), settings::file(config));
            match reach(api, token, ca, &file) {
                Ok(client) => {
                    let terminal = Terminal { client, json, paint: Paint::detect() };
                    examine(&terminal, alone.then_some(&file), lifetime)
                }
                Err(code) => code,
            }
        }
        Command::Appliance(command) => match reach(api, token, ca, &settings::file(None)) {
            Ok(client) => cli::run(command, &Terminal { client, json, paint: Paint::detect() }),
            Err(code) => code,
        },
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            if json {
                say(&json!({ "version": version }).to_string())
            } else {
                say(&format!("tipring {version}"))
            }
            DONE
        }
    }
}

/// A line on stdout. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on stderr. A log whose disk is full, or whose reader is gone, is no reason to stop either.
fn complain(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn run(file: PathBuf) -> u8 {
    let settings = match settings::load(&file) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return WRONG;
        }
    };
    for finding in &settings.findings {
        complain(&finding);
    }
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter(settings.config.log.level.as_str()));
    tracing_subscriber::registry().with(log).init();
    let appliance = match Appliance::start(file, settings) {
        Ok(appliance) => appliance,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let (close, closed) = tokio::sync::oneshot::channel();
    let office = match open_office(appliance.handles(), closed) {
        Ok(office) => office,
        Err(error) => {
            complain(&format_args!("the system refuses a thread: {error}"));
            return FAILED;
        }
    };
    let told = |progress| match progress {
        Progress::Ready => say("ready"),
        Progress::Degraded(what) => {
            for what in what {
                complain(&what);
            }
        }
    };
    let ended = appliance.run(told);
    // The office is open until the last event is kept, so that readers hear of the end.
    drop(close);
    let _ = office.join();
    ended.close();
    DONE
}

/// What is logged: $TIPRING_LOG, as a level or as `target=level,…`, else the level of the configuration.
fn filter(configured: &str) -> Targets {
    let wanted = std::env::var("TIPRING_LOG").ok().filter(|wanted| !wanted.trim().is_empty());
    let wanted = wanted.unwrap_or_else(|| configured.to_owned());
    let own = |level: tracing::Level| {
        Targets::new().with_default(tracing::Level::WARN).with_target("tipring", level)
    };
    if let Ok(level) = wanted.parse() {
        return own(level);
    }
    wanted.parse().unwrap_or_else(|error| {
        complain(&format_args!("TIPRING_LOG can't be read: {error}; write a level such as debug"));
        own(configured.parse().unwrap_or(tracing::Level::INFO))
    })
}

/// Starts the thread that serves the API until `closed` resolves.
fn open_office(
    handles: Handles,
    closed: tokio::sync::oneshot::Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Handles { desk, archive, config, tls } = handles;
    let chance = device::chance().map_err(std::io::Error::other)?;
    let (dispatcher, upstreams) = Dispatcher::new(archive.clone(), desk.clone(), config.clone(), chance);
    std::thread::Builder::new().name("office".to_owned()).spawn(move || {
        let vital = Vital::thread("office");
        let office = Office { desk, archive, upstreams, config, tls };
        runtime.block_on(async {
            let (end, mut ended) = tokio::sync::watch::channel(false);
            let closing = async {
                // Either end of the channel means the same.
                let _ = closed.await;
                end.send_replace(true);
            };
            let ending = async {
                let _ = ended.wait_for(|ended| *ended).await;
            };
            tokio::join!(serve(office, closing), dispatcher.run(ending));
        });
        runtime.shutdown_background();
        vital.ends();
    })
}

fn check(file: &Path, resolve: bool, json: bool) -> u8 {
    let Reading { config, mut findings, places, .. } = match settings::read(file) {
        Ok(read) => read,
        Err(error @ (SettingsError::Unreadable { .. } | SettingsError::Mistaken(_))) => {
            complain(&error);
            return WRONG;
        }
    };
    let mut sentences = Vec::new();
    let mut lines = Vec::new();
    if let Some(config) = config.as_ref().filter(|_| resolve) {
        let reports = match inspect(config) {
            Ok(reports) => reports,
            Err(error) => {
                complain(&error);
                return WRONG;
            }
        };
        for report in &reports {
            let Some(line) = config.line.get(report.index) else { continue };
            let found = report.findings(line, &places, clock::now().utc_us);
            if !found.iter().any(Finding::is_error) {
                sentences.push(report.summary(line));
            }
            findings.extend(found);
            lines.push(report.json());
        }
    }
    let right = config.is_some() && !findings.iter().any(Finding::is_error);
    if json {
        let mut answer = json!({ "file": file.display().to_string(), "right": right, "findings": findings });
        if resolve {
            answer["lines"] = lines.into();
        }
        say(&answer.to_string());
    } else {
        let findings = findings.iter().map(ToString::to_string);
        for sentence in findings.chain(sentences) {
            say(&cli::table::clean_lines(&sentence));
        }
        if let Some(config) = config.filter(|_| right) {
            let lines = config.line.len();
            let noun = if lines == 1 { "line" } else { "lines" };
            say(&format!("{}: right, {lines} {noun}", file.display()));
        }
    }
    if right { DONE } else { WRONG }
}

/// Asks the appliance that runs; without one, looks from the configuration in `file`, if that is given.
fn examine(terminal: &Terminal, file: Option<&PathBuf>, lifetime: Option<u64>) -> u8 {
    let absent = match cli::doctor::ask(&terminal.client, lifetime) {
        Ok(diagnosis) => return cli::doctor::print(terminal, &diagnosis),
        Err(error) => error,
    };
    let Some(file) = file.filter(|_| matches!(absent, ClientError::Absent { .. })) else {
        complain(&cli::table::clean_lines(&absent.to_string()));
        return absent.code();
    };
    let config = match settings::load(file) {
        Ok(settings) => settings.config,
        Err(error) => {
            complain(&error);
            return WRONG;
        }
    };
    match doctor::examine(&config, lifetime.map(Duration::from_secs)) {
        Ok(diagnosis) => cli::doctor::print(terminal, &json!(diagnosis)),
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

/// The way to a running appliance, or the exit code when what was given is no way.
fn reach(api: Option<String>, token: Option<String>, ca: Option<PathBuf>, file: &Path) -> Result<Client, u8> {
    let place = match api {
        Some(api) => Place::parse(&api).map_err(|error| {
            complain(&error);
            error.code()
        })?,
        None => Place::Socket(socket(file)),
    };
    let believed = match &place {
        Place::Secure(_) => Some(tls::command(ca.as_deref()).map_err(|error| {
            complain(&error);
            WRONG
        })?),
        Place::Socket(_) | Place::Network(_) if ca.is_some() => {
            complain(&format_args!(
                "--ca is of no use at {place}: there is no TLS; write --api https://HOST:PORT"
            ));
            return Err(WRONG);
        }
        Place::Socket(_) | Place::Network(_) => None,
    };
    let token = token.or_else(|| std::env::var("TIPRING_TOKEN").ok()).filter(|token| !token.is_empty());
    Ok(Client::new(place, token, believed))
}

/// The local socket: that of the configuration, where this user can read it.
fn socket(file: &Path) -> PathBuf {
    let config = settings::read(file).ok().and_then(|reading| reading.config);
    config.map_or_else(|| SOCKET.into(), |config| config.admin.socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_starts_means_the_same_without_the_tree_of_commands() {
        let lines = [
            (vec!["run"], true),
            (vec!["run", "--config", "t.toml"], true),
            (vec!["run", "--config=t.toml"], false),
            (vec!["run", "--config"], false),
            (vec!["run", "--config", "--json"], false),
            (vec!["run", "--config", "t.toml", "--json"], false),
            (vec!["run", "--json"], false),
            (vec!["check", "--config", "t.toml"], false),
            (vec![], false),
        ];
        for (words, short) in lines {
            let read = service(words.iter().map(OsString::from));
            assert_eq!(read.is_some(), short, "{words:?}");
            let Some(read) = read else { continue };
            let arguments = Arguments::try_parse_from(["tipring"].iter().chain(&words)).expect("right");
            let Command::Run(all) = arguments.command else { panic!("{words:?} is another command") };
            assert_eq!(read.config, all.config, "{words:?}");
        }
    }
}

//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tipring::device::settings::{self, SettingsError};
use tipring::device::{Appliance, Progress};

/// It was done.
const DONE: u8 = 0;
/// It failed; the reason is on stderr.
const FAILED: u8 = 1;
/// The command or the configuration is wrong.
const WRONG: u8 = 2;

/// A SIP phone for desk phones and GSM gateways.
#[derive(Parser)]
#[command(name = "tipring", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance; prints "ready" when lines are registered and sound is open
    Run {
        /// The configuration file (default: $TIPRING_CONFIG, then /etc/tipring/tipring.toml)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Is the configuration right? Each finding as FILE:LINE: what, and what to write instead
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { WRONG } else { DONE };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    ExitCode::from(match arguments.command {
        Command::Run { config } => run(settings::file(config)),
        Command::Check { config } => check(&settings::file(config)),
        Command::Version => {
            println!("tipring {}", env!("CARGO_PKG_VERSION"));
            DONE
        }
    })
}

fn run(file: PathBuf) -> u8 {
    let settings = match settings::load(&file) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return WRONG;
        }
    };
    for finding in &settings.findings {
        eprintln!("{finding}");
    }
    let level = settings.config.log.level.as_str();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,tipring={level}")));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let appliance = match Appliance::start(file, settings.config) {
        Ok(appliance) => appliance,
        Err(error) => {
            eprintln!("{error}");
            return FAILED;
        }
    };
    let told = |progress| match progress {
        Progress::Ready => println!("ready"),
        Progress::Degraded(what) => {
            for what in what {
                eprintln!("{what}");
            }
        }
    };
    match appliance.run(told) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("{error}");
            FAILED
        }
    }
}

fn check(file: &std::path::Path) -> u8 {
    match settings::read(file) {
        Ok((config, findings)) => {
            for finding in &findings {
                println!("{finding}");
            }
            match config {
                Some(config) => {
                    println!("{}: right, {} lines", file.display(), config.line.len());
                    DONE
                }
                None => WRONG,
            }
        }
        Err(error @ (SettingsError::Unreadable { .. } | SettingsError::Mistaken(_))) => {
            eprintln!("{error}");
            WRONG
        }
    }
}

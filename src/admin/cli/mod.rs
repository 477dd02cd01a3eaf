//! The commands that talk to a running appliance over its API.
//!
//! [`Command`] is what can be typed, [`run`] does it. Answers go to stdout, a reason for failure to stderr;
//! what the network says is printed without control characters, so that nobody's display name paints a
//! terminal.

pub mod client;
pub mod doctor;
mod follow;
pub mod journal;
pub mod ladder;
pub mod pcap;
mod show;
pub mod table;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use client::{Client, ClientError};
use table::Paint;

use crate::events::AgentState;

/// It was done.
pub const DONE: u8 = 0;
/// It failed; the reason is on stderr.
pub const FAILED: u8 = 1;
/// The command or the configuration is wrong.
pub const WRONG: u8 = 2;
/// No running appliance was found.
pub const ABSENT: u8 = 3;

/// The name that the API has for the one call that can only be meant.
const CURRENT: &str = "current";

/// Commands for a running appliance.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lines, calls and what is degraded
    Status,
    /// Call a number, a user name or a SIP URI
    Call {
        /// Digits, a user name or a SIP URI
        target: String,
        /// The line; without it the first one that is registered
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
        /// Wait until the call has ended and print what became of it; Ctrl-C hangs up
        #[arg(long)]
        wait: bool,
    },
    /// Ring a number, then another one, and join both
    Callback {
        /// Who is rung first; a line's own name or number is this device itself
        from: String,
        /// Who is called once the first one has answered
        to: String,
        /// The line for both; without it as the number plan says
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
    },
    /// Answer a ringing call
    Answer {
        /// The call; without it the one that rings
        call: Option<String>,
    },
    /// End a call, or refuse it if it still rings
    Hangup {
        /// The call; without it the only one there is
        call: Option<String>,
    },
    /// Put a call on hold
    Hold {
        /// The call; without it the one that is active
        call: Option<String>,
    },
    /// Take a call back from hold
    Resume {
        /// The call; without it the one that is on hold
        call: Option<String>,
    },
    /// Send silence instead of the microphone
    Mute {
        /// The call; without it the one that is active
        call: Option<String>,
    },
    /// Send the microphone again
    Unmute {
        /// The call; without it the one that is active
        call: Option<String>,
    },
    /// Refuse a ringing call
    Reject {
        /// The call
        call: String,
        /// 486 (busy here) or 603 (decline)
        #[arg(default_value = "486", value_parser = ["486", "603"])]
        status: String,
    },
    /// Send DTMF digits
    Dtmf {
        /// The call
        call: String,
        /// 0-9, *, #, A-D
        digits: String,
    },
    /// Give an answered call away
    #[command(
        group = clap::ArgGroup::new("destination").required(true),
        override_usage = "tipring transfer <CALL> <TARGET>\n       tipring transfer <CALL> --to <CALL>"
    )]
    Transfer {
        /// The call
        call: String,
        /// Who is called for it: digits, a user name or a SIP URI
        #[arg(group = "destination")]
        target: Option<String>,
        /// Another answered call, whose far end gets it
        #[arg(long, value_name = "CALL", group = "destination")]
        to: Option<String>,
    },
    /// Record a call
    Record {
        /// The call
        call: String,
        /// What to do with the recording
        action: RecordAction,
    },
    /// One line: look at it, register it, or take its registration away
    Line {
        /// Its name in the configuration
        name: String,
        /// What to do
        #[arg(default_value = "show")]
        action: LineAction,
    },
    /// Do-not-disturb
    Dnd {
        /// Whether calls are refused
        state: OnOff,
        /// This line alone
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
    },
    /// Whether the agent is there for calls, as systems upstream are told
    Agent {
        /// What to tell them
        state: AgentWord,
        /// This line alone
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
    },
    /// What would become of numbers: which rule fits, what is dialled over which line, and why
    Route {
        /// Numbers or names, as you would dial them
        #[arg(required = true, value_name = "NUMBER")]
        numbers: Vec<String>,
        /// The line that would be asked for
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
    },
    /// The journal of past calls
    #[command(args_conflicts_with_subcommands = true)]
    Calls {
        #[command(subcommand)]
        show: Option<journal::CallsCommand>,
        #[command(flatten)]
        search: journal::Search,
    },
    /// What happened, as events
    Events {
        /// Go on with what happens next
        #[arg(long)]
        follow: bool,
        /// Events after this sequence number (0: all that are kept)
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
    },
    /// The SIP ladder, secrets masked
    Trace {
        /// Messages of this line
        #[arg(long, value_name = "NAME")]
        line: Option<String>,
        /// Messages of this call
        #[arg(long, value_name = "ID")]
        call: Option<String>,
        /// Go on with what comes next
        #[arg(long)]
        follow: bool,
        /// Write the messages to a file for packet analysers
        #[arg(long, value_name = "FILE")]
        pcap: Option<PathBuf>,
    },
    /// Systems that are told what happens
    Upstream {
        #[command(subcommand)]
        action: UpstreamCommand,
    },
    /// Read the configuration again; with a mistake in it the old one stays
    Reload,
}

/// Below `tipring upstream`.
#[derive(Debug, Subcommand)]
pub enum UpstreamCommand {
    /// All upstreams, and what waits for them
    List,
    /// Send a test event now
    Test {
        /// The upstream
        name: String,
    },
    /// Deliver nothing until it is resumed; events wait
    Pause {
        /// The upstream
        name: String,
    },
    /// Deliver, at once
    Resume {
        /// The upstream
        name: String,
    },
    /// Deliver everything after a number once more
    Replay {
        /// The upstream
        name: String,
        /// Events after this sequence number (0: all that are kept)
        #[arg(long, value_name = "SEQ")]
        since: u64,
    },
}

/// What to do with a recording.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RecordAction {
    /// Begin a new file
    Start,
    /// Leave out what is said from now on
    Pause,
    /// Go on after a pause
    Resume,
    /// Close the file
    Stop,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LineAction {
    /// Print its state
    Show,
    /// Register it now
    Register,
    /// Take its registration away
    Unregister,
}

/// On or off.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnOff {
    /// On
    On,
    /// Off
    Off,
}

/// What an agent says.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AgentWord {
    /// There for calls
    Available,
    /// Not there
    LoggedOut,
}

/// How a command reaches the appliance and prints.
#[derive(Debug)]
pub struct Terminal {
    /// Where the appliance is.
    pub client: Client,
    /// Whether stable JSON is wanted.
    pub json: bool,
    /// Colour, where it is wanted.
    pub paint: Paint,
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The API said no, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be written.
    #[error("{file}: can't be written: {error}; give another path")]
    File {
        /// Its path.
        file: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// An upstream did not take a test event.
    #[error("{0}")]
    NotTaken(String),
    /// The call ended without having been answered.
    #[error("{0}")]
    Unanswered(String),
    /// Whoever reads the output went away.
    #[error("the output was closed")]
    Output(std::io::Error),
}

impl CommandError {
    fn code(&self) -> u8 {
        match self {
            CommandError::Client(error) => error.code(),
            CommandError::File { .. } | CommandError::Unanswered(_) | CommandError::NotTaken(_) => FAILED,
            // `tipring events | head` is no failure.
            CommandError::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => DONE,
            CommandError::Output(_) => FAILED,
        }
    }
}

/// Carries a command out; the exit code.
pub fn run(command: Command, terminal: &Terminal) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the system refuses an event loop: {error}");
            return FAILED;
        }
    };
    let outcome = runtime.block_on(perform(command, terminal));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => DONE,
        Err(error) => {
            if error.code() != DONE {
                eprintln!("{}", table::clean_lines(&error.to_string()));
            }
            error.code()
        }
    }
}

async fn perform(command: Command, terminal: &Terminal) -> Result<(), CommandError> {
    let client = &terminal.client;
    match command {
        Command::Status => {
            let status = client.get("/api/v1/status").await?;
            terminal.answer(&status, || show::status(&status, terminal.paint))
        }
        Command::Call { target, line, wait } => {
            let mut body = json!({ "to": target });
            if let Some(line) = line {
                body["line"] = line.into();
            }
            if wait {
                return follow::call(terminal, &body).await;
            }
            let call = client.post("/api/v1/calls", &body).await?;
            terminal.answer(&call, || show::call(&call))
        }
        Command::Callback { from, to, line } => {
            let mut body = json!({ "from": from, "to": to });
            if let Some(line) = line {
                body["line"] = line.into();
            }
            let call = client.post("/api/v1/callback", &body).await?;
            terminal.answer(&call, || show::call(&call))
        }
        Command::Answer { call } => terminal.act(call, "answer", json!({})).await,
        Command::Hangup { call } => terminal.act(call, "hangup", json!({})).await,
        Command::Hold { call } => terminal.act(call, "hold", json!({})).await,
        Command::Resume { call } => terminal.act(call, "resume", json!({})).await,
        Command::Mute { call } => terminal.act(call, "mute", json!({})).await,
        Command::Unmute { call } => terminal.act(call, "unmute", json!({})).await,
        Command::Reject { call, status } => {
            let status: u16 = status.parse().unwrap_or(486);
            terminal.act(Some(call), "reject", json!({ "status": status })).await
        }
        Command::Dtmf { call, digits } => terminal.act(Some(call), "dtmf", json!({ "digits": digits })).await,
        Command::Transfer { call, target, to } => {
            let body = match to {
                Some(other) => json!({ "call": other }),
                None => json!({ "to": target }),
            };
            terminal.act(Some(call), "transfer", body).await
        }
        Command::Record { call, action } => {
            let action = word(action);
            terminal.act(Some(call), "record", json!({ "action": action })).await
        }
        Command::Line { name, action } => line(terminal, &name, action).await,
        Command::Dnd { state, line } => {
            let line = line.as_deref().map_or_else(|| "*".to_owned(), client::escaped);
            let on = matches!(state, OnOff::On);
            let done = client.post(&format!("/api/v1/lines/{line}/dnd"), &json!({ "on": on })).await?;
            terminal.answer(&done, String::new)
        }
        Command::Agent { state, line } => {
            let line = line.as_deref().map_or_else(|| "*".to_owned(), client::escaped);
            let state = match state {
                AgentWord::Available => AgentState::Available,
                AgentWord::LoggedOut => AgentState::LoggedOut,
            };
            let done = client.post(&format!("/api/v1/agents/{line}"), &json!({ "state": state })).await?;
            terminal.answer(&done, String::new)
        }
        Command::Route { numbers, line } => {
            let mut body = json!({ "numbers": numbers });
            if let Some(line) = line {
                body["line"] = line.into();
            }
            let decided = client.post("/api/v1/route", &body).await?;
            terminal.answer(&decided, || show::routes(&decided, terminal.paint))
        }
        Command::Calls { show, search } => journal::calls(terminal, show, search).await,
        Command::Events { follow, since } => follow::events(terminal, follow, since).await,
        Command::Trace { line, call, follow, pcap } => {
            follow::trace(terminal, follow::Wanted { line, call }, follow, pcap).await
        }
        Command::Upstream { action } => upstream(terminal, action).await,
        Command::Reload => {
            let done = client.post("/api/v1/reload", &json!({})).await?;
            terminal.answer(&done, || "the configuration is in force\n".to_owned())
        }
    }
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn line(terminal: &Terminal, name: &str, action: LineAction) -> Result<(), CommandError> {
    let client = &terminal.client;
    if !matches!(action, LineAction::Show) {
        let path = format!("/api/v1/lines/{}/{}", client::escaped(name), word(action));
        let done = client.post(&path, &json!({})).await?;
        return terminal.answer(&done, String::new);
    }
    let lines = client.get("/api/v1/lines").await?;
    let all = lines["lines"].as_array().cloned().unwrap_or_default();
    let Some(line) = all.iter().find(|line| line["name"] == name) else {
        let names: Vec<&str> = all.iter().filter_map(|line| line["name"].as_str()).collect();
        return Err(ClientError::Refused {
            status: 404,
            message: format!("there is no line {name}"),
            hint: format!("the lines are: {}", names.join(", ")),
            findings: Vec::new(),
        }
        .into());
    };
    terminal.answer(line, || show::lines(std::slice::from_ref(line), terminal.paint))
}

async fn upstream(terminal: &Terminal, action: UpstreamCommand) -> Result<(), CommandError> {
    let client = &terminal.client;
    let path = |name: &str, word: &str| format!("/api/v1/upstreams/{}/{word}", client::escaped(name));
    let (name, word, body) = match action {
        UpstreamCommand::List => {
            let all = client.get("/api/v1/upstreams").await?;
            let rows = all["upstreams"].as_array().map(Vec::as_slice).unwrap_or_default();
            return terminal.answer(&all, || show::upstreams(rows, terminal.paint));
        }
        UpstreamCommand::Test { name } => {
            let tested = client.post(&path(&name, "test"), &json!({})).await?;
            if tested["taken"] == true {
                return terminal.answer(&tested, || show::tested(&tested));
            }
            if terminal.json {
                terminal.print(&format!("{tested}\n"))?;
            }
            return Err(CommandError::NotTaken(show::tested(&tested)));
        }
        UpstreamCommand::Pause { name } => (name, "pause", json!({})),
        UpstreamCommand::Resume { name } => (name, "resume", json!({})),
        UpstreamCommand::Replay { name, since } => (name, "replay", json!({ "since": since })),
    };
    let view = client.post(&path(&name, word), &body).await?;
    terminal.answer(&view, || show::upstreams(std::slice::from_ref(&view), terminal.paint))
}

impl Terminal {
    /// Prints an answer: as JSON, or as text for people.
    fn answer(&self, answer: &Value, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        if self.json {
            return self.print(&format!("{answer}\n"));
        }
        self.print(&text())
    }

    fn print(&self, text: &str) -> Result<(), CommandError> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)
    }

    async fn act(&self, call: Option<String>, action: &str, body: Value) -> Result<(), CommandError> {
        let call = call.as_deref().map_or_else(|| CURRENT.to_owned(), client::escaped);
        let answer = self.client.post(&format!("/api/v1/calls/{call}/{action}"), &body).await?;
        self.answer(&answer, || show::call(&answer))
    }
}

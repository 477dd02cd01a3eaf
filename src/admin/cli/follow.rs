//! Commands that go on: events, the ladder, and a call until its end.

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{ClientError, Query, escaped};
use super::ladder::Ladder;
use super::pcap::{Capture, Packet};
use super::{CommandError, Terminal, show};

/// Events that are shown where nobody says since when.
const RECENT: u64 = 50;
/// How often the ladder is asked for what is new.
const AGAIN: Duration = Duration::from_millis(300);

/// The number of an event.
fn number(event: &Value) -> u64 {
    event["sequence"].as_str().and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn broken_off() -> CommandError {
    ClientError::Broken("the appliance ended the stream of events".to_owned()).into()
}

/// Prints events; with `follow` until somebody ends it.
pub(super) async fn events(
    terminal: &Terminal,
    follow: bool,
    since: Option<u64>,
) -> Result<(), CommandError> {
    let status = terminal.client.get("/api/v1/status").await?;
    let newest = number(&status);
    let since = since.unwrap_or(if follow { newest } else { newest.saturating_sub(RECENT) });
    if !follow && since >= newest {
        return Ok(());
    }
    let mut events = terminal.client.events(Some(since)).await?;
    loop {
        let Some(event) = events.next().await? else { return Err(broken_off()) };
        terminal.answer(&event, || show::event(&event, terminal.paint))?;
        if !follow && number(&event) >= newest {
            return Ok(());
        }
    }
}

/// Dials, and waits for the end of the call. Ctrl-C hangs up.
pub(super) async fn call(terminal: &Terminal, body: &Value) -> Result<(), CommandError> {
    let client = &terminal.client;
    let before = number(&client.get("/api/v1/status").await?);
    let mut events = client.events(Some(before)).await?;
    let call = client.post("/api/v1/calls", body).await?;
    let Some(id) = call["id"].as_str().map(str::to_owned) else {
        // It was no number, and nobody was called.
        return terminal.answer(&call, String::new);
    };
    if !terminal.json {
        terminal.print(&show::call(&call))?;
    }
    let mut last = Value::Null;
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => {
                // Where it has just ended by itself there is nothing left to hang up.
                let _ = client.post(&format!("/api/v1/calls/{}/hangup", escaped(&id)), &json!({})).await;
                continue;
            }
        };
        let Some(event) = event else { return Err(broken_off()) };
        if event["subject"] != id.as_str() {
            continue;
        }
        if !terminal.json {
            terminal.print(&show::event(&event, terminal.paint))?;
        }
        match event["type"].as_str() {
            Some("tipring.call.ended") => last = event["data"].clone(),
            Some("tipring.call.closed") => {
                if terminal.json {
                    let closed = &event["data"];
                    let told = json!({
                        "id": id, "result": closed["result"], "talk_us": closed["talk_us"],
                        "total_us": closed["total_us"], "cause": last["cause"], "quality": last["quality"],
                    });
                    terminal.print(&format!("{told}\n"))?;
                }
                let result = event["data"]["result"].as_str().unwrap_or("failed");
                return match result {
                    "answered" => Ok(()),
                    other => Err(CommandError::Unanswered(reason(other, &last["cause"]))),
                };
            }
            _ => {}
        }
    }
}

fn reason(result: &str, cause: &Value) -> String {
    let mut text = format!("the call ended: {result}");
    if let Some(status) = cause["status"].as_u64() {
        text.push_str(&format!(" ({status})"));
    }
    if let Some(why) = cause["text"].as_str() {
        text.push_str(&format!(", {why}"));
    }
    text
}

/// Whose messages.
pub(super) struct Wanted {
    /// Of this line.
    pub line: Option<String>,
    /// Of this call.
    pub call: Option<String>,
}

/// Draws the ladder, or writes it to a file; with `follow` until somebody ends it.
pub(super) async fn trace(
    terminal: &Terminal,
    wanted: Wanted,
    follow: bool,
    pcap: Option<PathBuf>,
) -> Result<(), CommandError> {
    let mut ladder = Ladder::new(terminal.paint);
    let mut capture = match &pcap {
        None => None,
        Some(path) => Some(begin(path).map_err(|error| unwritten(path, error))?),
    };
    let mut after = 0;
    loop {
        let mut query = Query::default();
        query.add("line", wanted.line.clone());
        query.add("call", wanted.call.clone());
        query.add("after", Some(after.to_string()));
        let page = terminal.client.get(&query.path("/api/v1/trace")).await?;
        for message in page["messages"].as_array().into_iter().flatten() {
            after = message["number"].as_u64().unwrap_or(after).max(after);
            if let (Some(capture), Some(path)) = (&mut capture, &pcap) {
                captured(capture, message).map_err(|error| unwritten(path, error))?;
            }
            if capture.is_none() || follow {
                terminal.answer(message, || ladder.draw(message))?;
            }
        }
        if let (Some(capture), Some(path)) = (&mut capture, &pcap) {
            capture.flush().map_err(|error| unwritten(path, error))?;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn begin(path: &Path) -> std::io::Result<Capture<BufWriter<File>>> {
    Capture::new(BufWriter::new(File::create(path)?))
}

fn unwritten(path: &Path, error: std::io::Error) -> CommandError {
    CommandError::File { file: path.display().to_string(), error }
}

fn captured(capture: &mut Capture<BufWriter<File>>, message: &Value) -> std::io::Result<()> {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5060);
    let address = |value: &Value| value.as_str().and_then(|it| it.parse().ok()).unwrap_or(unknown);
    let (local, remote) = (address(&message["local"]), address(&message["remote"]));
    let (from, to) = if message["sent"] == true { (local, remote) } else { (remote, local) };
    let payload = message["text"].as_str().unwrap_or_default().as_bytes();
    capture.write(&Packet { utc_us: message["utc_us"].as_i64().unwrap_or(0), from, to, payload })
}

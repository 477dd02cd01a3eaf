//! Carrying out what a broker's commands ask for: one table from their words to those of the phone.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::RemoteCommand;
use crate::events::upstream::mqtt::Order;
use crate::events::{AgentState, Origin};
use crate::phone::command::{Blame, Callback, Command, Destination, End, Outcome, Refusal, Reply};
use crate::phone::desk::Desk;

/// What a command may come with.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Arguments {
    to: Option<String>,
    from: Option<String>,
    line: Option<String>,
    call: Option<String>,
    /// The other call of an attended transfer.
    with: Option<String>,
    digits: Option<String>,
    status: Option<u16>,
    on: Option<bool>,
    state: Option<AgentState>,
    ring_s: Option<u64>,
}

/// Does what is asked for; what came of it, as the answer says it.
pub async fn obey(desk: &Desk, order: &Order) -> Map<String, Value> {
    let outcome = match order.command {
        RemoteCommand::Reload => desk.reload().await.map(|()| Reply::Done).map_err(|findings| {
            let what = findings.first().cloned().unwrap_or_default();
            let hint = "`tipring check` shows all of it; the configuration before stays";
            Refusal::new(Blame::Wish, "config_rejected", what, hint)
        }),
        _ => match command(order) {
            Ok(command) => desk.ask(command, Origin::Upstream).await,
            Err(refusal) => Err(refusal),
        },
    };
    answer(outcome)
}

/// What whoever gave a command is told of what came of it.
pub fn answer(outcome: Outcome) -> Map<String, Value> {
    let answer = match outcome {
        Ok(Reply::Call(call)) => {
            json!({ "result": "done", "call": call.id, "line": call.line, "state": call.state })
        }
        Ok(_) => json!({ "result": "done" }),
        Err(Refusal { code, message, hint, .. }) => {
            json!({ "error": { "code": code, "message": message, "hint": hint } })
        }
    };
    match answer {
        Value::Object(answer) => answer,
        _ => Map::new(),
    }
}

/// The words of the phone for a command; all but `reload` and `lookup`, which are no wishes of the phone's.
///
/// # Errors
///
/// What the command comes with can't be read, or is missing.
pub fn command(order: &Order) -> Result<Command, Refusal> {
    let given: Arguments =
        serde_json::from_value(Value::Object(order.arguments.clone())).map_err(|error| {
            let hint = "docs/integrations/mqtt.md lists what each command takes";
            Refusal::new(Blame::Wish, "bad_request", format!("the command can't be read: {error}"), hint)
        })?;
    let Arguments { to, from, line, call, with, digits, status, on, state, ring_s } = given;
    let to = || to.ok_or_else(|| missing("to"));
    Ok(match order.command {
        RemoteCommand::Call => Command::Call { to: to()?, line },
        RemoteCommand::Callback => {
            let end = |number| End { number, line: line.clone() };
            let from = from.ok_or_else(|| missing("from"))?;
            let (from, to, ring_for) = (end(from), end(to()?), ring_s.map(Duration::from_secs));
            Command::Callback(Callback { from, to, ring_for, request: Some(order.id.clone()) })
        }
        RemoteCommand::HangUp => Command::HangUp { call },
        RemoteCommand::Answer => Command::Answer { call },
        RemoteCommand::Reject => Command::Reject { call, status: status.unwrap_or(486) },
        RemoteCommand::Hold => Command::Hold { call },
        RemoteCommand::Resume => Command::Resume { call },
        RemoteCommand::Dtmf => Command::Dtmf { call, digits: digits.ok_or_else(|| missing("digits"))? },
        RemoteCommand::Transfer => {
            let to = match with {
                Some(other) => Destination::Call(other),
                None => Destination::Target(to()?),
            };
            Command::Transfer { call, to }
        }
        RemoteCommand::Dnd => Command::DoNotDisturb { line, on: on.ok_or_else(|| missing("on"))? },
        RemoteCommand::Agent => Command::Agent { line, state: state.ok_or_else(|| missing("state"))? },
        RemoteCommand::Reload | RemoteCommand::Lookup => Command::Status,
    })
}

fn missing(what: &str) -> Refusal {
    let hint = "docs/integrations/mqtt.md lists what each command takes";
    Refusal::new(Blame::Wish, "bad_request", format!("`{what}` is missing"), hint)
}

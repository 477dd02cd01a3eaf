//! Whether somebody is there for the calls of a line, as call centres count it. It is said by a key, by a code that is dialled
//! (and so by any key that dials one) or by a command, told when it changes, and kept over restarts; it keeps no call from
//! ringing, which is for the PBX and do-not-disturb to do.

use serde::Serialize;

use super::command::{Outcome, Reply};
use super::dial_string::{digits, is_emergency, is_number};
use super::{Phone, Remembered};
use crate::config::Numbers;
use crate::events::store::Write;
use crate::events::{AgentState, Event, Kind, Origin};
use crate::now::Now;

/// The name under which the agent's state of a line is kept.
fn setting(line: &str) -> String {
    format!("agent.{line}")
}

/// What an earlier life was told of the agent of a line.
pub(super) fn remembered(remembered: &Remembered, line: &str) -> Option<AgentState> {
    remembered.settings.get(&setting(line)).and_then(|word| AgentState::from_word(word))
}

/// What a code that is dialled says of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Said {
    /// Whether the agent is there from now on.
    pub state: AgentState,
    /// The configuration key that has the code: `numbers.agent_available`.
    pub rule: &'static str,
}

impl Said {
    /// By dialling this, if it is a code.
    pub(super) fn by(numbers: &Numbers, dialled: &str) -> Option<Said> {
        let codes = [
            (&numbers.agent_available, AgentState::Available, "numbers.agent_available"),
            (&numbers.agent_logged_out, AgentState::LoggedOut, "numbers.agent_logged_out"),
        ];
        let (_, state, rule) = codes.into_iter().find(|(code, ..)| code.as_deref() == Some(dialled))?;
        Some(Said { state, rule })
    }
}

impl Phone {
    /// What dialling this says of the agent, if people here dial it. A number for help is one in any case.
    pub(super) fn said_of_agent(&self, dialled: &str, origin: Origin) -> Option<AgentState> {
        let by_people = matches!(origin, Origin::Command | Origin::Api | Origin::Keys);
        let help = is_emergency(&self.config.emergency, dialled);
        let said = Said::by(&self.config.numbers, &digits(dialled)).filter(|_| is_number(dialled));
        said.filter(|_| by_people && !help).map(|said| said.state)
    }

    /// The agent of a line, or of all, is there from now on, or is not.
    pub(super) fn agent_is(&mut self, now: Now, name: Option<&str>, state: AgentState) -> Outcome {
        if let Some(name) = name {
            self.known_line(name)?;
        }
        let meant = self.lines.iter_mut().filter(|line| name.is_none_or(|name| line.config.name == name));
        let changed: Vec<String> = meant
            .filter_map(|line| {
                let before = line.agent.replace(state);
                (before != Some(state)).then(|| line.config.name.clone())
            })
            .collect();
        for line in changed {
            let value = Some(state.as_str().to_owned());
            self.keep(Write::Setting { name: setting(&line), value });
            let kind = match state {
                AgentState::Available => Kind::AgentAvailable { line },
                AgentState::LoggedOut => Kind::AgentLoggedOut { line },
            };
            self.tell(now, Event::new(kind));
        }
        Ok(Reply::Done)
    }
}

//! Whether somebody is there for the calls of a line, as call centres count it. It is said by a key or a command, told when
//! it changes, and kept over restarts; it keeps no call from ringing, which is for the PBX and do-not-disturb to do.

use super::command::{Outcome, Reply};
use super::{Phone, Remembered};
use crate::events::store::Write;
use crate::events::{AgentState, Event, Kind};
use crate::now::Now;

/// The name under which the agent's state of a line is kept.
fn setting(line: &str) -> String {
    format!("agent.{line}")
}

/// What an earlier life was told of the agent of a line.
pub(super) fn remembered(remembered: &Remembered, line: &str) -> Option<AgentState> {
    remembered.settings.get(&setting(line)).and_then(|word| AgentState::from_word(word))
}

impl Phone {
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

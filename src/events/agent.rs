//! Whether an agent takes calls, as call centres count it.

use serde::{Deserialize, Serialize};

/// What an agent said last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// There for calls.
    Available,
    /// Not there.
    #[serde(alias = "logged-out")]
    LoggedOut,
}

impl AgentState {
    /// The word in settings and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentState::Available => "available",
            AgentState::LoggedOut => "logged_out",
        }
    }

    /// The state that [`AgentState::as_str`] names.
    pub fn from_word(word: &str) -> Option<AgentState> {
        [AgentState::Available, AgentState::LoggedOut].into_iter().find(|state| state.as_str() == word)
    }
}

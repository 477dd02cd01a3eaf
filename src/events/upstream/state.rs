//! What of an upstream outlives the program.

use std::collections::BTreeSet;

use crate::events::Suspension;

/// Whether an upstream may be told anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// It is told what happens.
    #[default]
    Active,
    /// Somebody paused it.
    Paused,
    /// It answered 410 (Gone): it wants nothing any more until somebody resumes it.
    Stopped,
}

impl Condition {
    /// Why nothing is delivered, if somebody has to change that.
    pub fn suspends(self) -> Option<Suspension> {
        match self {
            Condition::Active => None,
            Condition::Paused => Some(Suspension::Paused),
            Condition::Stopped => Some(Suspension::Gone),
        }
    }

    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Active => "active",
            Condition::Paused => "paused",
            Condition::Stopped => "stopped",
        }
    }

    /// The condition that [`Condition::as_str`] names; what no version wrote is the usual one.
    pub fn from_word(word: &str) -> Condition {
        match word {
            "paused" => Condition::Paused,
            "stopped" => Condition::Stopped,
            _ => Condition::Active,
        }
    }
}

/// Where an upstream stands in the record. Everything up to `seen` is done – delivered, or not for it – but what it is
/// still owed; so the numbers that were taken out of order above the first owed one need no list of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The last number that was looked at.
    pub seen: u64,
    /// The numbers up to there that it has not taken yet: a thousand or so at most.
    pub owed: BTreeSet<u64>,
    /// Whether it may be told anything.
    pub condition: Condition,
    /// Events that it never took while it took others.
    pub set_aside: u64,
}

impl State {
    /// The low-water mark: everything up to this number is done.
    pub fn low(&self) -> u64 {
        self.owed.first().map_or(self.seen, |first| first.saturating_sub(1).min(self.seen))
    }
}

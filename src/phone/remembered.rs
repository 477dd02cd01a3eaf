//! What an earlier life left in the store, and the names of small settings there.

use std::collections::BTreeMap;

use crate::events::store::{Binding, Entry, Usage};

/// What an earlier life left behind in the store.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Remembered {
    /// The number of the last event.
    pub sequence: u64,
    /// Whether the last life ended in order.
    pub clean: bool,
    /// Contacts that registrars may still have.
    pub bindings: Vec<Binding>,
    /// What was used of the limits today.
    pub usage: Vec<Usage>,
    /// Small settings, by name.
    pub settings: BTreeMap<String, String>,
    /// Legs that had no end when the power went.
    pub interrupted: Vec<Entry>,
}

/// The name under which do-not-disturb of a line is kept.
pub(super) fn dnd_setting(line: &str) -> String {
    format!("dnd.{line}")
}

/// The name under which the transport is kept that a line's registrar answered over.
pub(super) fn transport_setting(line: &str) -> String {
    format!("transport.{line}")
}

//! What waits in a mailbox, in the words that events and the API use.

use serde::{Deserialize, Serialize};

/// What a PBX says of a mailbox (RFC 3842). What it does not say is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Mailbox {
    /// Whether messages wait, of whatever kind.
    pub waiting: bool,
    /// Voice messages that were not heard yet, urgent ones included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new: Option<u32>,
    /// Voice messages that were heard and kept, urgent ones included.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<u32>,
    /// The urgent ones of the new.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub urgent_new: Option<u32>,
    /// The urgent ones of the old.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub urgent_old: Option<u32>,
    /// The address of the mailbox, as the PBX names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
}

impl Mailbox {
    /// Whether a message has come since it was as it was `before`; all that wait at the first time, as nobody has told of
    /// them.
    pub fn has_more_than(&self, before: Option<&Mailbox>) -> bool {
        let all = |it: &Mailbox| it.new.unwrap_or(0).saturating_add(it.old.unwrap_or(0));
        match before.filter(|before| before.waiting) {
            Some(before) => self.waiting && (self.new > before.new || all(self) > all(before)),
            None => self.waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(new: u32, old: u32) -> Mailbox {
        Mailbox { waiting: new > 0, new: Some(new), old: Some(old), ..Mailbox::default() }
    }

    #[test]
    fn a_message_has_come_where_there_are_more() {
        for (before, now, more) in [
            (None, (2, 0), true),
            (None, (0, 3), false),
            (Some((0, 3)), (1, 3), true),
            (Some((1, 3)), (2, 3), true),
            // One was heard while another one came.
            (Some((2, 3)), (2, 4), true),
            (Some((2, 3)), (1, 4), false),
            (Some((2, 3)), (0, 5), false),
            // One was deleted.
            (Some((2, 3)), (2, 2), false),
        ] {
            let before = before.map(|(new, old)| mailbox(new, old));
            assert_eq!(mailbox(now.0, now.1).has_more_than(before.as_ref()), more, "{before:?} {now:?}");
        }
        let uncounted = |waiting| Mailbox { waiting, ..Mailbox::default() };
        assert!(uncounted(true).has_more_than(Some(&uncounted(false))));
        assert!(!uncounted(true).has_more_than(Some(&uncounted(true))));
    }
}

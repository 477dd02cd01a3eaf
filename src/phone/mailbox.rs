//! What waits in the mailbox of a line: told once when it changes, shown as long as it is so.

use super::Phone;
use crate::events::{Event, Kind, Mailbox};
use crate::now::Now;
use crate::sip::handle::AccountId;
use crate::sip::message_summary::MessageSummary;

impl Phone {
    /// The PBX has said what waits.
    pub(super) fn mail_waits(&mut self, now: Now, account: AccountId, summary: MessageSummary) {
        let Some(line) = self.lines.iter_mut().find(|line| line.has(account)) else { return };
        let mailbox = mailbox(summary);
        // PBXs repeat themselves: at each registration, and once per phone that heard a message.
        if line.mailbox.as_ref() == Some(&mailbox) {
            return;
        }
        let arrived = mailbox.has_more_than(line.mailbox.as_ref());
        line.mailbox = Some(mailbox.clone());
        let kind = Kind::VoicemailWaiting { line: line.config.name.clone(), mailbox, arrived };
        self.tell(now, Event::new(kind));
    }
}

fn mailbox(summary: MessageSummary) -> Mailbox {
    let urgent = summary.voice.and_then(|voice| voice.urgent);
    Mailbox {
        waiting: summary.waiting,
        new: summary.voice.map(|voice| voice.new),
        old: summary.voice.map(|voice| voice.old),
        urgent_new: urgent.map(|(new, _)| new),
        urgent_old: urgent.map(|(_, old)| old),
        account: summary.account,
    }
}

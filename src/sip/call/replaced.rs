//! Which call of ours an INVITE takes the place of (Replaces, RFC 3891 §3): one of the same line whose Call-ID and tags it
//! knows. Whoever does not know the tags learns nothing: there is no such call for him.

use std::collections::VecDeque;

use crate::sip::call::{Call, Stage};
use crate::sip::dialog::Dialog;
use crate::sip::handle::{AccountId, CallId};
use crate::sip::message::Request;
use crate::sip::replaces::Replaces;
use crate::sip::user_agent::UserAgent;

/// The most dialogs that are remembered after their end.
const MOST_ENDED: usize = 32;

/// The dialogs that ended last.
#[derive(Debug, Default)]
pub(crate) struct EndedDialogs(VecDeque<(AccountId, Replaces)>);

impl EndedDialogs {
    /// Remembers the dialogs of a call that is over.
    pub(crate) fn keep(&mut self, call: &Call) {
        let dialogs = call.legs.iter().map(|leg| (call.account, leg.dialog.named()));
        self.0.extend(dialogs);
        let surplus = self.0.len().saturating_sub(MOST_ENDED);
        self.0.drain(..surplus);
    }
}

impl Dialog {
    /// The dialog as somebody names it to us who wants to take its place.
    fn named(&self) -> Replaces {
        Replaces {
            call_id: self.call_id.clone(),
            to_tag: self.local_tag.clone(),
            from_tag: self.remote_tag.clone(),
            early_only: false,
        }
    }
}

impl Replaces {
    /// Whether this means that dialog, early or not.
    fn means(&self, dialog: &Replaces) -> bool {
        self.call_id == dialog.call_id && self.to_tag == dialog.to_tag && self.from_tag == dialog.from_tag
    }
}

impl Call {
    /// Whether somebody else may take the place of the peer in the dialog that is named; the status that says why not.
    fn may_be_replaced(&self, replaces: &Replaces) -> Result<(), u16> {
        let leg = self.legs.iter().find(|leg| replaces.means(&leg.dialog.named())).ok_or(481u16)?;
        match self.stage {
            Stage::Over => Err(603),
            _ if leg.gone => Err(603),
            // Only who began an early dialog can give up what rings at the other end.
            Stage::Ringing => Err(481),
            Stage::Talking if replaces.early_only => Err(486),
            Stage::Talking | Stage::Inviting => Ok(()),
        }
    }
}

impl UserAgent {
    /// The call that an INVITE for `account` takes the place of; the status that refuses it if it can't.
    pub(crate) fn predecessor(&self, account: AccountId, request: &Request) -> Result<Option<CallId>, u16> {
        let Some(replaces) = request.fields.typed::<Replaces>().map_err(|_| 400u16)? else { return Ok(None) };
        let named = (replaces.call_id.clone(), replaces.to_tag.clone());
        let call = self.dialogs.get(&named).and_then(|id| Some((*id, self.calls.get(id)?)));
        if let Some((id, call)) = call.filter(|(_, call)| self.is_one_line(call.account, account)) {
            return call.may_be_replaced(&replaces).map(|()| Some(id));
        }
        let was =
            |(of, dialog): &(AccountId, Replaces)| replaces.means(dialog) && self.is_one_line(*of, account);
        Err(if self.ended.0.iter().any(was) { 603 } else { 481 })
    }

    /// Whether two accounts are flows of one line: they have one address of record.
    fn is_one_line(&self, one: AccountId, other: AccountId) -> bool {
        let aor = |id| self.account(id).map(|account| &account.aor);
        one == other || (aor(one).is_some() && aor(one) == aor(other))
    }
}

//! One dialog of a call, and whose turn it is in offer and answer there (RFC 6337 §2).

use crate::sip::call::event::DialogKey;
use crate::sip::call::identity::Identity;
use crate::sip::dialog::Dialog;
use crate::sip::fields::Fields;
use crate::sip::handle::TransactionId;
use crate::sip::message::Request;
use crate::sip::rack::RAck;

/// A request of the peer that waits for our answer.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) transaction: TransactionId,
    pub(super) request: Box<Request>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) enum Turn {
    /// Nobody's: all offers are answered.
    #[default]
    Idle,
    /// Ours went out and the answer is awaited: in a response, a PRACK or an ACK.
    Ours,
    /// Theirs came in a request (re-INVITE, UPDATE, PRACK); the answer goes into its response.
    InRequest(Open),
    /// They want ours: a re-INVITE without description.
    Wanted(Open),
    /// Theirs came in a reliable 18x; the answer goes into the PRACK.
    InProvisional(RAck),
    /// Theirs came in a 2xx to our INVITE with this CSeq; the answer goes into the ACK.
    InSuccess(u32),
}

/// One dialog.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) dialog: Dialog,
    pub(super) turn: Turn,
    /// The first offer and answer are complete, for good.
    pub(super) settled: bool,
    /// The RSeq of the last reliable 18x that was taken.
    pub(super) rseq: Option<u32>,
    /// The peer takes UPDATE.
    pub(super) allows_update: bool,
    /// The peer's last description that was agreed on, and our answer if it was an offer.
    pub(super) heard: Option<Vec<u8>>,
    pub(super) answered: Option<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    /// The dialog is over while others of the call live.
    pub(super) gone: bool,
}

impl Leg {
    pub(super) fn new(dialog: Dialog) -> Leg {
        Leg {
            dialog,
            turn: Turn::Idle,
            settled: false,
            rseq: None,
            allows_update: false,
            heard: None,
            answered: None,
            identity: None,
            gone: false,
        }
    }

    pub(super) fn key(&self) -> DialogKey {
        DialogKey(self.dialog.remote_tag.clone())
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.turn, Turn::Idle)
    }

    /// Takes note of what the peer allows.
    pub(super) fn hear_allow(&mut self, fields: &Fields) {
        if fields.has("Allow") {
            self.allows_update = fields.has_token("Allow", "UPDATE");
        }
    }

    /// An offer of theirs was answered by us.
    pub(super) fn answer(&mut self, answer: Vec<u8>) {
        self.answered = Some(answer);
        self.settled = true;
        self.turn = Turn::Idle;
    }

    /// Our offer was answered by them.
    pub(super) fn hear_answer(&mut self, answer: Vec<u8>) {
        self.heard = Some(answer);
        self.answered = None;
        self.settled = true;
        self.turn = Turn::Idle;
    }
}

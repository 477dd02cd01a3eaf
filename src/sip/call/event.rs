//! What a call tells the room above.

use crate::sip::call::identity::Identity;
use crate::sip::handle::CallId;
use crate::sip::message::Request;
use crate::sip::name_addr::NameAddr;
use crate::sip::reason::Reason;
use crate::sip::replaces::Replaces;
use crate::sip::uri::Uri;

/// One (early) dialog of a call, by the peer's tag: a forked INVITE has several until one answers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DialogKey(pub String);

/// A session description and its part in offer and answer (RFC 3264, RFC 6337 §2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Description {
    /// The peer offers; answer with [`Call::reply_offer`](super::Call::reply_offer).
    Offer(Vec<u8>),
    /// The peer answers what we offered. Over an early dialog without 100rel it may come again, and differ:
    /// the last counts.
    Answer(Vec<u8>),
}

/// How the peer asks to change the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// A re-INVITE.
    Invite,
    /// An UPDATE (RFC 3311), which has to be answered at once.
    Update,
}

/// A new call for us.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Who calls, by From, P-Asserted-Identity, Remote-Party-ID and Privacy.
    pub identity: Identity,
    /// The offer, or `None`: then [`Call::answer`](super::Call::answer) carries ours and the answer comes in
    /// the ACK.
    pub offer: Option<Vec<u8>>,
    /// The INVITE, for every header that matters to the room above (To, P-Called-Party-ID, Diversion,
    /// Alert-Info …).
    pub request: Box<Request>,
    /// The call of ours that this one is to take the place of (RFC 3891): answer this one at once, then hang that one up.
    pub predecessor: Option<CallId>,
}

/// Something happened in a call. Exactly one [`Ended`](CallEvent::Ended) comes, as the last.
#[derive(Clone, Debug)]
pub enum CallEvent {
    /// Somebody calls.
    Incoming(Box<Incoming>),
    /// The peer's side has our INVITE (100).
    Trying,
    /// An 18x to our INVITE.
    Progress {
        /// 101–199.
        status: u16,
        /// The reason phrase.
        phrase: String,
        /// Which fork.
        dialog: DialogKey,
        /// Early media.
        sdp: Option<Description>,
    },
    /// The peer answered our INVITE (2xx); the first to answer wins, others are hung up unseen.
    Answered {
        /// Which fork.
        dialog: DialogKey,
        /// The answer; `None` if a reliable 18x of this fork gave it before. An offer, if our INVITE had
        /// none.
        sdp: Option<Description>,
        /// Who answered, as far as told.
        identity: Box<Identity>,
    },
    /// Our answer to their INVITE was acknowledged: the call stands.
    Established,
    /// The peer wants to change the session; answer with [`Call::reply_offer`](super::Call::reply_offer).
    Offer {
        /// The offer; `None`: the peer wants ours (a re-INVITE without SDP).
        sdp: Option<Vec<u8>>,
        /// By what.
        by: By,
        /// The dialog, which matters while the call is forked.
        dialog: DialogKey,
    },
    /// The answer to our offer.
    Answer {
        /// The description.
        sdp: Vec<u8>,
        /// The dialog, which matters while the call is forked.
        dialog: DialogKey,
    },
    /// Our offer was refused; the session stays as it was and the call lives.
    OfferFailed {
        /// The status (488, 491 after the last try …); 408 if there was no answer.
        status: u16,
    },
    /// Make our offer anew with [`Call::offer`](super::Call::offer): it crossed an offer of the peer's and the pause
    /// of RFC 3261 §14.1 is over, or it could not go out when it was made and now can, or the session needs a refresh
    /// that the peer takes only as a re-INVITE.
    OfferWanted,
    /// The session timer was refreshed without a change of the session (RFC 4028).
    Refreshed,
    /// The peer said anew who it is (connected line, RFC 4916 / RFC 5876).
    Identity(Box<Identity>),
    /// An INFO body (RFC 6086): DTMF of `application/dtmf-relay` or `application/dtmf`, or something else. It
    /// has been answered 200.
    Info {
        /// Content-Type without parameters, lower case.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// What became of our INFO.
    InfoResult {
        /// The final status; 408 if there was none.
        status: u16,
    },
    /// What came of the transfer that [`Call::refer`](super::Call::refer) asked for.
    Transfer(Transfer),
    /// The peer asks us to call somebody else; answer with [`Call::reply_refer`](super::Call::reply_refer).
    Referred(Box<Referred>),
    /// The call is over; nothing follows.
    Ended(Box<Ended>),
}

/// Whom the peer of a call asks us to call (RFC 3515).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referred {
    /// Whom, without what would go into the INVITE.
    pub target: Uri,
    /// The dialog of theirs that the new one takes the place of (RFC 3891).
    pub replaces: Option<Replaces>,
    /// Who wants it, as the peer says (RFC 3892).
    pub by: Option<NameAddr>,
}

/// How far a transfer is that we asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// The peer will try.
    Accepted,
    /// The peer calls the target, which has answered so far with this status.
    Progress {
        /// 100 to 199.
        status: u16,
    },
    /// The target has answered: we are not needed any more. Nothing follows.
    Done,
    /// It came to nothing, and the call goes on as before. Nothing follows.
    Failed {
        /// What the peer, or the target, answered; 408 if nobody did, 0 if that was not said.
        status: u16,
        /// In words.
        reason: String,
    },
}

/// Who ended a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A command of ours, or a decision of the call itself.
    Local,
    /// The peer.
    Remote,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// A final answer of 300 or more: by the peer to our INVITE, or by us to theirs.
    Rejected,
    /// CANCEL before an answer.
    Cancelled,
    /// BYE.
    HungUp,
    /// Nobody gave a final answer to our INVITE.
    NoResponse,
    /// Our INVITE could not be delivered; the words say why.
    Unreachable(String),
    /// Our 2xx was never acknowledged (RFC 3261 §13.3.1.4).
    NotAcknowledged,
    /// The session timer ran out, or our refresh found the peer gone (RFC 4028 §10).
    SessionExpired,
    /// The peer does not know the dialog any more (481, or 408 inside a dialog).
    PeerGone,
    /// Offer and answer went wrong past repair (no answer in an ACK, no description in a 2xx).
    NoSession,
}

/// The end of a call, with everything that was told about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// By whom.
    pub by: Side,
    /// The final status, if one was given.
    pub status: Option<u16>,
    /// The reason phrase of that status.
    pub phrase: String,
    /// The Reason fields that came with it (RFC 3326).
    pub reasons: Vec<Reason>,
    /// Another phone took the call: not a missed one (SIP;cause=200 or Q.850;cause=26).
    pub elsewhere: bool,
    /// Where a 3xx points, by descending q.
    pub contacts: Vec<NameAddr>,
    /// When to try again, in seconds (Retry-After).
    pub retry_after_s: Option<u32>,
    /// The text of the first Warning, if any.
    pub warning: Option<String>,
}

impl Ended {
    pub(super) fn new(ending: Ending, by: Side) -> Ended {
        Ended {
            ending,
            by,
            status: None,
            phrase: String::new(),
            reasons: Vec::new(),
            elsewhere: false,
            contacts: Vec::new(),
            retry_after_s: None,
            warning: None,
        }
    }
}

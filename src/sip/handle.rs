//! Plain handles by which the rooms above name what lives inside the user agent. They carry no meaning of
//! their own.

/// One INVITE usage on our side: an incoming call, or an outgoing INVITE with all its forks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// The SIP side of one line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountId(pub u64);

/// One request of ours over all its re-sends (401, 407, fail-over): the handle stays the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// One server transaction: a request of theirs that we answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(pub u64);

//! The server transaction of RFC 3261 §17.2 with the Accepted state of RFC 6026: what to repeat, and until
//! when.
//!
//! Knows states, deadlines and the bytes of the last response. Matching and transport belong to
//! [`transactions`](crate::sip::transactions).

use std::time::Duration;

use crate::now::Now;
use crate::sip::account::Timing;

/// One request of theirs, and our answers.
#[derive(Clone, Debug)]
pub struct ServerTransaction {
    invite: bool,
    reliable: bool,
    timing: Timing,
    state: State,
    last: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing answered yet. INVITE: 100 is due 200 ms after the request. Others: forgotten when the peer has
    /// given up.
    Trying {
        hurry: Option<u64>,
        forget: Option<u64>,
    },
    /// A provisional response is out.
    Proceeding,
    /// INVITE: a final response ≥ 300 is out, timers G and H.
    Unacknowledged {
        repeat: Option<u64>,
        interval: Duration,
        give_up: u64,
    },
    /// INVITE: ACK has come, timer I. Others: a final response is out, timer J.
    Completed {
        end: u64,
    },
    /// INVITE: a 2xx is out, timer L (RFC 6026 §7.1). Its repetition is the usage's.
    Accepted {
        end: u64,
    },
    Terminated,
}

/// What is to be done when a deadline has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Send 100 (Trying): the user has said nothing for 200 ms.
    Trying,
    /// Send the last response again (timer G).
    Repeat,
    /// A refusal was never acknowledged (timer H); the transaction is over.
    Unacknowledged,
    /// All is over, nothing to tell (timers I, J, L).
    Ended,
    /// Not yet.
    Nothing,
}

const HURRY: Duration = Duration::from_millis(200);

impl ServerTransaction {
    /// A transaction whose request has just come.
    pub fn new(now: Now, invite: bool, reliable: bool, timing: Timing) -> ServerTransaction {
        let state = State::Trying {
            hurry: invite.then(|| now.deadline(HURRY)),
            forget: (!invite).then(|| now.deadline(timing.transaction())),
        };
        ServerTransaction { invite, reliable, timing, state, last: None }
    }

    /// The same request came again: what goes out, if anything.
    pub fn handle_repetition(&mut self) -> Option<&[u8]> {
        match self.state {
            State::Proceeding | State::Unacknowledged { .. } => self.last.as_deref(),
            State::Completed { .. } if !self.invite => self.last.as_deref(),
            _ => None,
        }
    }

    /// An ACK matched. True if it belongs to the usage (it acknowledges a 2xx).
    pub fn handle_ack(&mut self, now: Now) -> bool {
        match self.state {
            State::Unacknowledged { .. } => {
                let wait = if self.reliable { Duration::ZERO } else { self.timing.t4 };
                self.state = State::Completed { end: now.deadline(wait) };
                self.last = None;
                false
            }
            State::Accepted { .. } => true,
            _ => false,
        }
    }

    /// The user answers with these bytes. True if they are to be sent.
    pub fn respond(&mut self, now: Now, status: u16, bytes: &[u8]) -> bool {
        match self.state {
            State::Trying { .. } | State::Proceeding => {}
            // RFC 6026 §7.1: the usage repeats its 2xx through the transaction.
            State::Accepted { .. } => return (200..300).contains(&status),
            _ => return false,
        }
        let wait = self.timing.transaction();
        self.state = match (status, self.invite) {
            (..200, _) => State::Proceeding,
            (200..300, true) => State::Accepted { end: now.deadline(wait) },
            (_, true) => State::Unacknowledged {
                repeat: (!self.reliable).then(|| now.deadline(self.timing.t1)),
                interval: self.timing.t1,
                give_up: now.deadline(wait),
            },
            (_, false) => {
                let wait = if self.reliable { Duration::ZERO } else { wait };
                State::Completed { end: now.deadline(wait) }
            }
        };
        self.last = (!matches!(self.state, State::Accepted { .. })).then(|| bytes.to_vec());
        true
    }

    /// Whether a final response is out.
    pub fn is_final(&self) -> bool {
        !matches!(self.state, State::Trying { .. } | State::Proceeding)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Trying { hurry, forget } => crate::now::earliest(hurry, forget),
            State::Proceeding | State::Terminated => None,
            State::Unacknowledged { repeat, give_up, .. } => {
                Some(repeat.map_or(give_up, |repeat| repeat.min(give_up)))
            }
            State::Completed { end } | State::Accepted { end } => Some(end),
        }
    }

    /// A deadline may have come.
    pub fn handle_timeout(&mut self, now: Now) -> Expiry {
        let due = |deadline: u64| deadline <= now.mono_us;
        match &mut self.state {
            State::Trying { hurry: Some(hurry), .. } if due(*hurry) => {
                self.state = State::Trying { hurry: None, forget: None };
                Expiry::Trying
            }
            State::Trying { forget: Some(forget), .. } if due(*forget) => {
                self.state = State::Terminated;
                Expiry::Ended
            }
            State::Unacknowledged { give_up, .. } if due(*give_up) => {
                self.state = State::Terminated;
                Expiry::Unacknowledged
            }
            State::Unacknowledged { repeat: Some(repeat), interval, .. } if due(*repeat) => {
                *interval = (*interval * 2).min(self.timing.t2);
                *repeat = now.deadline(*interval);
                Expiry::Repeat
            }
            State::Completed { end } | State::Accepted { end } if due(*end) => {
                self.state = State::Terminated;
                Expiry::Ended
            }
            _ => Expiry::Nothing,
        }
    }

    /// The last response, to be sent again after [`Expiry::Repeat`].
    pub fn last(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_us: ms * 1000, utc_us: 0 }
    }

    fn run(transaction: &mut ServerTransaction) -> (Vec<u64>, Option<(u64, Expiry)>) {
        let mut repeats = Vec::new();
        while let Some(due) = transaction.poll_timeout() {
            match transaction.handle_timeout(Now { mono_us: due, utc_us: 0 }) {
                Expiry::Repeat => repeats.push(due / 1000),
                Expiry::Nothing => panic!("a deadline without effect"),
                end => return (repeats, Some((due / 1000, end))),
            }
        }
        (repeats, None)
    }

    fn new(invite: bool, reliable: bool) -> ServerTransaction {
        ServerTransaction::new(at(0), invite, reliable, Timing::default())
    }

    #[test]
    fn trying_goes_out_when_the_user_is_slow() {
        let mut invite = new(true, false);
        assert_eq!(invite.poll_timeout(), Some(200_000));
        assert_eq!(invite.handle_timeout(at(199)), Expiry::Nothing);
        assert_eq!(invite.handle_timeout(at(200)), Expiry::Trying);
        assert!(invite.respond(at(200), 100, b"100"));
        assert_eq!(invite.handle_repetition(), Some(&b"100"[..]));
        assert_eq!(invite.poll_timeout(), None);
        assert_eq!(
            run(&mut new(false, false)),
            (vec![], Some((32000, Expiry::Ended))),
            "never answered: forgotten"
        );
    }

    #[test]
    fn a_refusal_is_repeated_by_timer_g_until_timer_h() {
        let mut invite = new(true, false);
        assert!(invite.respond(at(0), 486, b"486"));
        assert!(!invite.respond(at(1), 200, b"200"));
        let (repeats, end) = run(&mut invite);
        assert_eq!(repeats, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, Some((32000, Expiry::Unacknowledged)));
        let mut reliable = new(true, true);
        assert!(reliable.respond(at(0), 486, b"486"));
        assert_eq!(run(&mut reliable), (vec![], Some((32000, Expiry::Unacknowledged))));
    }

    #[test]
    fn the_ack_of_a_refusal_is_absorbed_until_timer_i() {
        let mut invite = new(true, false);
        assert!(invite.respond(at(0), 486, b"486"));
        assert!(!invite.handle_ack(at(100)));
        assert!(!invite.handle_ack(at(200)));
        assert_eq!(invite.handle_repetition(), None);
        assert_eq!(run(&mut invite), (vec![], Some((5100, Expiry::Ended))));
    }

    #[test]
    fn an_accepted_invite_absorbs_repetitions_and_lets_the_usage_repeat_until_timer_l() {
        let mut invite = new(true, false);
        assert!(invite.respond(at(0), 180, b"180"));
        assert!(invite.respond(at(50), 200, b"200"));
        assert_eq!(invite.handle_repetition(), None);
        assert!(invite.respond(at(550), 200, b"200"));
        assert!(!invite.respond(at(560), 500, b"500"));
        assert!(invite.handle_ack(at(600)), "this ACK is the usage's");
        assert_eq!(run(&mut invite), (vec![], Some((32050, Expiry::Ended))));
    }

    #[test]
    fn other_requests_are_answered_alike_until_timer_j() {
        let mut options = new(false, false);
        assert_eq!(options.handle_repetition(), None);
        assert!(options.respond(at(10), 200, b"200"));
        assert_eq!(options.handle_repetition(), Some(&b"200"[..]));
        assert_eq!(run(&mut options), (vec![], Some((32010, Expiry::Ended))));
        let mut reliable = new(false, true);
        assert!(reliable.respond(at(10), 200, b"200"));
        assert_eq!(run(&mut reliable), (vec![], Some((10, Expiry::Ended))));
    }
}

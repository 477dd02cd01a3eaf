//! The client transaction of RFC 3261 §17.1 with the Accepted state of RFC 6026: when to repeat, when to give
//! up.
//!
//! Knows states, status codes and deadlines. The bytes, the matching and the transport belong to
//! [`transactions`](crate::sip::transactions).

use std::time::Duration;

use crate::now::Now;
use crate::sip::account::Timing;

/// One request of ours, waiting for its answers.
#[derive(Clone, Debug)]
pub struct ClientTransaction {
    invite: bool,
    reliable: bool,
    timing: Timing,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// INVITE: `Calling`; others: `Trying`. Timers A and B, or E and F.
    Waiting {
        repeat: Option<u64>,
        interval: Duration,
        give_up: u64,
    },
    /// A provisional response came. INVITE: nothing runs (the usage decides how long it rings); others: E (at
    /// T2) and F.
    Proceeding {
        repeat: Option<u64>,
        give_up: Option<u64>,
    },
    /// A final response came (≥ 300 for INVITE). Timer D or K.
    Completed {
        end: u64,
    },
    /// A 2xx to INVITE came; more may (RFC 6026 §7.2). Timer M.
    Accepted {
        end: u64,
    },
    Terminated,
}

/// What the layer does with a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Hand it to the user.
    Deliver,
    /// Hand it to the user and send ACK: a final response ≥ 300 to INVITE.
    DeliverAndAcknowledge,
    /// It is a repetition of that: send ACK again.
    Acknowledge,
    /// It is a repetition, or late.
    Absorb,
}

/// What is to be done when a deadline has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Send the request again (timers A, E).
    Repeat,
    /// No answer will come (timers B, F).
    TimedOut,
    /// All is over, nothing to tell (timers D, K, M).
    Ended,
    /// Not yet.
    Nothing,
}

impl ClientTransaction {
    /// A transaction whose request is being sent now.
    pub fn new(now: Now, invite: bool, reliable: bool, timing: Timing) -> ClientTransaction {
        let repeat = (!reliable).then(|| now.deadline(timing.t1));
        let give_up = now.deadline(timing.transaction());
        ClientTransaction {
            invite,
            reliable,
            timing,
            state: State::Waiting { repeat, interval: timing.t1, give_up },
        }
    }

    /// A response with this status matched.
    pub fn handle_response(&mut self, now: Now, status: u16) -> Reaction {
        let provisional = status < 200;
        let accepted = self.invite && (200..300).contains(&status);
        match self.state {
            State::Waiting { give_up, .. } | State::Proceeding { give_up: Some(give_up), .. }
                if provisional =>
            {
                // RFC 3261 §17.1.2.2: timer E goes on at T2; §17.1.1.2: INVITE is repeated no more.
                let repeat = (!self.invite && !self.reliable).then(|| now.deadline(self.timing.t2));
                let repeat = match self.state {
                    State::Proceeding { repeat, .. } => repeat,
                    _ => repeat,
                };
                self.state = State::Proceeding { repeat, give_up: (!self.invite).then_some(give_up) };
                Reaction::Deliver
            }
            State::Proceeding { .. } if provisional => Reaction::Deliver,
            State::Waiting { .. } | State::Proceeding { .. } => {
                if accepted {
                    self.state = State::Accepted { end: now.deadline(self.timing.transaction()) };
                    return Reaction::Deliver;
                }
                // Timer D is at least 32 s over UDP, timer K is T4; both are zero over a reliable transport.
                let wait = match (self.reliable, self.invite) {
                    (true, _) => Duration::ZERO,
                    (false, true) => self.timing.transaction().max(Duration::from_secs(32)),
                    (false, false) => self.timing.t4,
                };
                self.state = State::Completed { end: now.deadline(wait) };
                if self.invite { Reaction::DeliverAndAcknowledge } else { Reaction::Deliver }
            }
            State::Accepted { .. } if accepted => Reaction::Deliver,
            State::Completed { .. } if self.invite && status >= 300 => Reaction::Acknowledge,
            State::Accepted { .. } | State::Completed { .. } | State::Terminated => Reaction::Absorb,
        }
    }

    /// Whether a response has come.
    pub fn is_answered(&self) -> bool {
        !matches!(self.state, State::Waiting { .. })
    }

    /// Whether a final response has come, or none will.
    pub fn is_final(&self) -> bool {
        matches!(self.state, State::Completed { .. } | State::Accepted { .. } | State::Terminated)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Waiting { repeat, give_up, .. } => {
                Some(repeat.map_or(give_up, |repeat| repeat.min(give_up)))
            }
            State::Proceeding { repeat, give_up } => crate::now::earliest(repeat, give_up),
            State::Completed { end } | State::Accepted { end } => Some(end),
            State::Terminated => None,
        }
    }

    /// A deadline may have come.
    pub fn handle_timeout(&mut self, now: Now) -> Expiry {
        let due = |deadline: u64| deadline <= now.mono_us;
        match &mut self.state {
            State::Waiting { give_up, .. } | State::Proceeding { give_up: Some(give_up), .. }
                if due(*give_up) =>
            {
                self.state = State::Terminated;
                Expiry::TimedOut
            }
            State::Waiting { repeat: Some(repeat), interval, .. } if due(*repeat) => {
                *interval *= 2;
                if !self.invite {
                    *interval = (*interval).min(self.timing.t2);
                }
                *repeat = now.deadline(*interval);
                Expiry::Repeat
            }
            State::Proceeding { repeat: Some(repeat), .. } if due(*repeat) => {
                *repeat = now.deadline(self.timing.t2);
                Expiry::Repeat
            }
            State::Completed { end } | State::Accepted { end } if due(*end) => {
                self.state = State::Terminated;
                Expiry::Ended
            }
            _ => Expiry::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_us: ms * 1000, utc_us: 0 }
    }

    /// Runs the deadlines until the transaction ends; the moments (ms) of repetitions and what ended it.
    fn run(transaction: &mut ClientTransaction) -> (Vec<u64>, Option<(u64, Expiry)>) {
        let mut repeats = Vec::new();
        while let Some(due) = transaction.poll_timeout() {
            let now = Now { mono_us: due, utc_us: 0 };
            match transaction.handle_timeout(now) {
                Expiry::Repeat => repeats.push(due / 1000),
                Expiry::Nothing => panic!("a deadline without effect"),
                end => return (repeats, Some((due / 1000, end))),
            }
        }
        (repeats, None)
    }

    fn new(invite: bool, reliable: bool) -> ClientTransaction {
        ClientTransaction::new(at(0), invite, reliable, Timing::default())
    }

    #[test]
    fn timer_a_doubles_without_ceiling_and_timer_b_ends_it() {
        let (repeats, end) = run(&mut new(true, false));
        assert_eq!(repeats, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(end, Some((32000, Expiry::TimedOut)));
    }

    #[test]
    fn timer_e_doubles_up_to_t2_and_timer_f_ends_it() {
        let (repeats, end) = run(&mut new(false, false));
        assert_eq!(repeats, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, Some((32000, Expiry::TimedOut)));
    }

    #[test]
    fn nothing_is_repeated_over_a_reliable_transport() {
        for invite in [true, false] {
            assert_eq!(run(&mut new(invite, true)), (vec![], Some((32000, Expiry::TimedOut))));
        }
    }

    #[test]
    fn a_provisional_answer_stops_an_invite_and_slows_the_others() {
        let mut invite = new(true, false);
        assert_eq!(invite.handle_response(at(100), 100), Reaction::Deliver);
        assert_eq!(invite.poll_timeout(), None);
        assert_eq!(invite.handle_response(at(200), 180), Reaction::Deliver);

        let mut register = new(false, false);
        assert_eq!(register.handle_response(at(100), 100), Reaction::Deliver);
        let (repeats, end) = run(&mut register);
        assert_eq!(repeats, [4100, 8100, 12100, 16100, 20100, 24100, 28100]);
        assert_eq!(end, Some((32000, Expiry::TimedOut)));
    }

    #[test]
    fn a_refused_invite_is_acknowledged_again_until_timer_d() {
        let mut invite = new(true, false);
        assert_eq!(invite.handle_response(at(100), 486), Reaction::DeliverAndAcknowledge);
        assert_eq!(invite.handle_response(at(600), 486), Reaction::Acknowledge);
        assert_eq!(invite.handle_response(at(700), 180), Reaction::Absorb);
        assert_eq!(run(&mut invite), (vec![], Some((32100, Expiry::Ended))));
        let mut reliable = new(true, true);
        assert_eq!(reliable.handle_response(at(100), 486), Reaction::DeliverAndAcknowledge);
        assert_eq!(run(&mut reliable), (vec![], Some((100, Expiry::Ended))));
    }

    #[test]
    fn every_success_of_an_invite_is_delivered_until_timer_m() {
        let mut invite = new(true, true);
        assert_eq!(invite.handle_response(at(100), 200), Reaction::Deliver);
        assert_eq!(invite.handle_response(at(600), 200), Reaction::Deliver);
        assert_eq!(invite.handle_response(at(700), 487), Reaction::Absorb);
        assert_eq!(run(&mut invite), (vec![], Some((32100, Expiry::Ended))));
    }

    #[test]
    fn a_final_answer_is_delivered_once_until_timer_k() {
        let mut register = new(false, false);
        assert_eq!(register.handle_response(at(100), 200), Reaction::Deliver);
        assert_eq!(register.handle_response(at(600), 200), Reaction::Absorb);
        assert_eq!(run(&mut register), (vec![], Some((5100, Expiry::Ended))));
    }
}

//! Reliable provisional responses, as the one who sends them (RFC 3262 §3): one at a time, repeated until its
//! PRACK.

use crate::now::{Now, micros};
use crate::sip::account::Timing;
use crate::sip::message::Response;
use crate::sip::rack::RAck;
use std::collections::VecDeque;
use std::time::Duration;

/// The most 18x that wait behind an unacknowledged one.
const MAX_QUEUE: usize = 8;

/// The part a reliable response plays in offer and answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carries {
    Nothing,
    Answer,
    Offer,
    /// An offer in a 180: what is answered to it counts once the call is answered.
    OfferForLater,
}

#[derive(Debug)]
struct Outstanding {
    rseq: u32,
    response: Response,
    carries: Carries,
    gap: Duration,
    resend_at: Option<u64>,
    give_up_at: u64,
}

/// What became due.
#[derive(Debug)]
pub(super) enum Due {
    /// Send it again.
    Resend(Box<Response>),
    /// 64·T1 went by without PRACK.
    GiveUp,
}

/// The reliable provisional responses to one INVITE.
#[derive(Debug)]
pub(super) struct Reliable {
    next: u32,
    outstanding: Option<Outstanding>,
    queue: VecDeque<(Response, Carries)>,
}

impl Reliable {
    /// `first` is the first RSeq, 1 to 2³¹ − 1.
    pub(super) fn new(first: u32) -> Reliable {
        Reliable { next: (first >> 1).max(1), outstanding: None, queue: VecDeque::new() }
    }

    /// Takes a response to send reliably; gives it back, numbered, if it is its turn.
    pub(super) fn push(
        &mut self,
        now: Now,
        response: Response,
        carries: Carries,
        timing: &Timing,
    ) -> Option<Response> {
        if self.outstanding.is_some() {
            if self.queue.len() < MAX_QUEUE {
                self.queue.push_back((response, carries));
            }
            return None;
        }
        Some(self.start(now, response, carries, timing))
    }

    fn start(&mut self, now: Now, mut response: Response, carries: Carries, timing: &Timing) -> Response {
        let rseq = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        response.fields.push("Require", "100rel");
        response.fields.push("RSeq", rseq.to_string());
        self.outstanding = Some(Outstanding {
            rseq,
            response: response.clone(),
            carries,
            gap: timing.t1,
            resend_at: Some(now.deadline(timing.t1)),
            give_up_at: now.deadline(timing.transaction()),
        });
        response
    }

    /// The PRACK for the outstanding response came: tells what that carried. `None` if it is for none (481).
    pub(super) fn acknowledge(&mut self, rack: &RAck, invite_cseq: u32) -> Option<Carries> {
        let is_it = |outstanding: &mut Outstanding| outstanding.rseq == rack.rseq && rack.cseq == invite_cseq;
        self.outstanding.take_if(is_it).map(|outstanding| outstanding.carries)
    }

    /// The next response in the queue, once nothing is outstanding.
    pub(super) fn next(&mut self, now: Now, timing: &Timing) -> Option<Response> {
        if self.outstanding.is_some() {
            return None;
        }
        let (response, carries) = self.queue.pop_front()?;
        Some(self.start(now, response, carries, timing))
    }

    /// Whether a session description was sent that is not acknowledged yet: a 2xx has to wait (§3).
    pub(super) fn holds_back_final(&self) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| outstanding.carries != Carries::Nothing)
    }

    /// A final response is out: nothing is repeated any more, but a PRACK on its way is still known.
    pub(super) fn finish(&mut self) {
        self.queue.clear();
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.resend_at = None;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.outstanding.as_ref().and_then(|outstanding| outstanding.resend_at)
    }

    pub(super) fn due(&mut self, now: Now) -> Option<Due> {
        let outstanding = self.outstanding.as_mut()?;
        if outstanding.resend_at? > now.mono_us {
            return None;
        }
        if now.mono_us >= outstanding.give_up_at {
            outstanding.resend_at = None;
            return Some(Due::GiveUp);
        }
        outstanding.gap *= 2;
        outstanding.resend_at =
            Some(now.mono_us.saturating_add(micros(outstanding.gap)).min(outstanding.give_up_at));
        Some(Due::Resend(Box::new(outstanding.response.clone())))
    }
}

//! The switch: one caller, the phones of whoever is called, and what is carried between them.
//!
//! Session descriptions pass through as they are, so RTP flows between the phones and not through here.
//! Several phones of one user ring at once; the first to answer has the call, the others are told that
//! somebody else took it.

use crate::demo::pbx::Pbx;
use crate::now::Now;
use crate::sip::call::{CallEvent, Description, Ended, Ending, InviteOptions};
use crate::sip::handle::{AccountId, CallId};
use crate::sip::reason::Reason;
use crate::sip::uri::Uri;

/// A call through the switch.
#[derive(Debug)]
pub(super) struct Bridge {
    caller: CallId,
    /// Phones that ring, or the one that answered.
    callees: Vec<CallId>,
    answered: bool,
    /// The answer of a phone that gave it before it answered.
    early: Option<Vec<u8>>,
    /// The best refusal so far.
    refusal: Option<u16>,
    /// Who waits for the answer to its offer.
    asking: Option<CallId>,
    /// The offer that has to be made to the other side.
    pending: Option<(CallId, Vec<u8>)>,
    /// What each side said last, for whoever asks for an offer.
    last: [Option<Vec<u8>>; 2],
}

impl Bridge {
    fn other(&self, call: CallId) -> Option<CallId> {
        if call == self.caller {
            self.callees.first().copied().filter(|_| self.answered)
        } else {
            Some(self.caller)
        }
    }

    fn side(&self, call: CallId) -> usize {
        usize::from(call != self.caller)
    }
}

/// Which of two refusals tells the caller more: one of all phones, then the lowest.
fn better(a: Option<u16>, b: u16) -> u16 {
    match a {
        Some(a) if a >= 600 || (b < 600 && a <= b) => a,
        _ => b,
    }
}

impl Pbx {
    /// Calls every phone of somebody.
    pub(super) fn connect(
        &mut self,
        now: Now,
        caller: CallId,
        account: AccountId,
        targets: Vec<Uri>,
        offer: Option<Vec<u8>>,
    ) {
        let mut callees = Vec::new();
        for target in targets {
            let options = InviteOptions { offer: offer.clone(), ..InviteOptions::default() };
            if let Ok(call) = self.agent().invite(now, account, target, options) {
                callees.push(call);
            }
        }
        if callees.is_empty() {
            return self.refuse(now, caller, 503);
        }
        self.bridges.push(Bridge {
            caller,
            callees,
            answered: false,
            early: None,
            refusal: None,
            asking: None,
            pending: None,
            last: [offer, None],
        });
    }

    /// Something happened in a call that goes through here. What can't be carried over because the other side
    /// has just ended needs no remedy: that end is the next event.
    pub(super) fn handle_bridged(&mut self, now: Now, call: CallId, event: CallEvent) {
        let belongs = |bridge: &Bridge| bridge.caller == call || bridge.callees.contains(&call);
        let Some(index) = self.bridges.iter().position(belongs) else { return };
        let mut bridge = self.bridges.swap_remove(index);
        let goes_on = self.carry(now, &mut bridge, call, event);
        if goes_on {
            self.bridges.push(bridge);
        }
    }

    /// Carries one event over; false when nothing is left of the call.
    fn carry(&mut self, now: Now, bridge: &mut Bridge, call: CallId, event: CallEvent) -> bool {
        let caller = bridge.caller;
        match event {
            CallEvent::Progress { status, sdp, .. } if !bridge.answered => {
                let sdp = match sdp {
                    Some(Description::Answer(sdp)) => {
                        bridge.early = Some(sdp.clone());
                        Some(sdp)
                    }
                    _ => None,
                };
                let _ = self.agent().ring(now, caller, status, sdp);
            }
            CallEvent::Answered { sdp, .. } if !bridge.answered => self.answered(now, bridge, call, sdp),
            CallEvent::Answered { .. } => {
                let _ = self.agent().hang_up(now, call, None);
            }
            CallEvent::Offer { sdp, .. } => self.offered(now, bridge, call, sdp),
            CallEvent::Answer { sdp, .. } => {
                let side = bridge.side(call);
                bridge.last[side] = Some(sdp.clone());
                bridge.pending = None;
                if let Some(asking) = bridge.asking.take_if(|asking| *asking != call) {
                    let _ = self.agent().reply_offer(now, asking, Ok(sdp));
                }
            }
            CallEvent::OfferFailed { status } => {
                bridge.pending = None;
                if let Some(asking) = bridge.asking.take_if(|asking| *asking != call) {
                    let _ = self.agent().reply_offer(now, asking, Err(status));
                }
            }
            CallEvent::OfferWanted => {
                // With nothing to carry over it is the session that needs a refresh.
                let offer = match &bridge.pending {
                    Some((to, sdp)) if *to == call => Some(sdp.clone()),
                    Some(_) => None,
                    None => bridge.last[1 - bridge.side(call)].clone(),
                };
                if let Some(sdp) = offer {
                    let _ = self.agent().offer(now, call, sdp);
                }
            }
            CallEvent::Info { content_type, body } => {
                if let Some(other) = bridge.other(call) {
                    let _ = self.agent().info(now, other, &content_type, body);
                }
            }
            CallEvent::Ended(ended) => return self.ended(now, bridge, call, &ended),
            _ => {}
        }
        true
    }

    fn answered(&mut self, now: Now, bridge: &mut Bridge, call: CallId, sdp: Option<Description>) {
        let elsewhere = Reason::sip(200, "Call completed elsewhere");
        for other in bridge.callees.iter().filter(|other| **other != call) {
            let _ = self.agent().hang_up(now, *other, Some(elsewhere.clone()));
        }
        bridge.callees = vec![call];
        bridge.answered = true;
        let sdp = match sdp {
            Some(Description::Answer(sdp)) => Some(sdp),
            Some(Description::Offer(sdp)) => {
                bridge.asking = Some(call);
                Some(sdp)
            }
            None => bridge.early.take(),
        };
        bridge.last[1].clone_from(&sdp);
        let answered = sdp.map(|sdp| self.agent().answer(now, bridge.caller, sdp));
        if !matches!(answered, Some(Ok(()))) {
            let _ = self.agent().hang_up(now, call, None);
        }
    }

    fn offered(&mut self, now: Now, bridge: &mut Bridge, call: CallId, sdp: Option<Vec<u8>>) {
        let side = bridge.side(call);
        let Some(other) = bridge.other(call) else {
            let _ = self.agent().reply_offer(now, call, Err(491));
            return;
        };
        match sdp {
            // Both want to change the call at once: one waits for its turn (RFC 3261 §14.1).
            Some(_) if bridge.asking.is_some() => {
                let _ = self.agent().reply_offer(now, call, Err(491));
            }
            Some(sdp) => {
                bridge.last[side] = Some(sdp.clone());
                bridge.asking = Some(call);
                bridge.pending = Some((other, sdp.clone()));
                // What can't go out now goes out when the other side is ready for it (`OfferWanted`).
                let _ = self.agent().offer(now, other, sdp);
            }
            None => {
                let reply = bridge.last[1 - side].clone().ok_or(488);
                let _ = self.agent().reply_offer(now, call, reply);
            }
        }
    }

    fn ended(&mut self, now: Now, bridge: &mut Bridge, call: CallId, ended: &Ended) -> bool {
        let reason = ended.reasons.first().cloned();
        if call == bridge.caller {
            for callee in &bridge.callees {
                let _ = self.agent().hang_up(now, *callee, reason.clone());
            }
            return false;
        }
        bridge.callees.retain(|callee| *callee != call);
        if bridge.answered {
            let _ = self.agent().hang_up(now, bridge.caller, reason);
            return false;
        }
        let status = match ended.ending {
            Ending::Rejected => ended.status.filter(|status| *status >= 400).unwrap_or(480),
            _ => 480,
        };
        let refusal = better(bridge.refusal, status);
        bridge.refusal = Some(refusal);
        if bridge.callees.is_empty() || refusal >= 600 {
            self.refuse(now, bridge.caller, refusal);
            for callee in &bridge.callees {
                let _ = self.agent().hang_up(now, *callee, None);
            }
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::better;

    #[test]
    fn a_refusal_for_all_phones_counts_most_then_the_lowest() {
        assert_eq!(better(None, 486), 486);
        assert_eq!(better(Some(486), 480), 480);
        assert_eq!(better(Some(404), 480), 404);
        assert_eq!(better(Some(404), 603), 603);
        assert_eq!(better(Some(603), 404), 603);
    }
}

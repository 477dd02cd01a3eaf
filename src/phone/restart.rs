//! Another path for a call whose own has broken: everything is asked anew, and the far end is told what was found. Who has
//! moved says so at once; everybody else leaves that to the other side first.

use std::net::SocketAddr;
use std::time::Duration;

use super::Phone;
use super::call::Phase;
use crate::media::{Component, LegId};
use crate::nat::ice::Event;
use crate::now::{Now, micros};
use crate::sip::handle::AccountId;

/// A broken path is gathered anew for so long at most before the offer goes out with what there is.
const GATHER_WITHIN: Duration = Duration::from_millis(1_200);
/// Who has not moved leaves the new offer to the other one for so long: only who has moved can tell where it is now, and
/// until then nothing may reach it. Who does not control waits longer.
const LEAVE_TO_PEER: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_millis(4_000)];

/// So long the first checks of a call may take before the far end is told of what was found too late for its description.
const FIRST_CHECKS: Duration = Duration::from_millis(500);
/// Who does not control leaves that to the other one for so long: both may have found something.
const CONTROLLED_WAITS: Duration = Duration::from_millis(300);

/// How far the search for another path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Restart {
    /// The peer is given the time to do it.
    Left {
        /// Until then.
        until_us: u64,
    },
    /// Candidates are gathered anew.
    Gathering {
        /// Until then at most.
        until_us: u64,
    },
}

impl Restart {
    pub(super) fn due(self) -> u64 {
        match self {
            Restart::Left { until_us } | Restart::Gathering { until_us } => until_us,
        }
    }
}

impl Phone {
    /// What a restart waits for may be there, for both sockets.
    pub(super) fn go_on_when_gathered(&mut self, now: Now, index: usize) {
        let path = &self.calls[index].path;
        let complete = path.found.as_ref().is_some_and(|found| found.complete) && path.rtcp.is_complete();
        if complete && matches!(path.restart, Some(Restart::Gathering { .. })) {
            self.go_on_with_restart(now, index);
        }
    }

    /// Everything has been asked anew: who has moved says so at once, everybody else waits for that.
    pub(super) fn go_on_with_restart(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        if std::mem::take(&mut call.path.moved) {
            // Where the audio has moved the signalling has, too: the offer must not go out on a connection that is dead.
            let sip = call.sip;
            if let Some(account) = self.agent.call_account(sip) {
                self.reach.hint(now, account, &mut self.agent);
            }
            return self.offer_restart(now, index);
        }
        if !call.path.broken {
            // It was a hint, and it was wrong for this call: if not, that is noticed.
            call.path.restart = None;
            return;
        }
        let ice = call.path.plan.as_ref().and_then(|plan| plan.ice.as_ref());
        let [controlling, controlled] = LEAVE_TO_PEER;
        let wait = if ice.is_some_and(|ice| ice.controlling) { controlling } else { controlled };
        call.path.restart = Some(Restart::Left { until_us: now.deadline(wait) });
    }

    /// What the agent of a leg says.
    pub(super) fn path_event(
        &mut self,
        now: Now,
        leg: LegId,
        component: Component,
        event: Event,
        seen_as: Option<SocketAddr>,
    ) {
        let Some(index) = self.calls.iter().position(|call| call.path.leg == leg && !call.is_over()) else {
            return;
        };
        if component == Component::Rtcp {
            return self.rtcp_event(index, event);
        }
        let call = &mut self.calls[index];
        match event {
            Event::Route(route) => call.path.route = Some((route, seen_as)),
            Event::ConsentLost => call.path.consents_lost += 1,
            _ => {}
        }
        call.path.broken = !matches!(event, Event::Route(_) | Event::Mended);
        match event {
            Event::Route(_) | Event::Mended => {
                if matches!(call.path.restart, Some(Restart::Left { .. })) {
                    call.path.restart = None;
                }
            }
            Event::Broken | Event::ConsentLost | Event::Failed => {
                if call.path.restart.is_none() {
                    self.restart_path(now, index);
                }
            }
        }
    }

    /// The machine, or the outside of one line, has other addresses: every call under ICE looks for another path.
    pub(super) fn restart_paths(&mut self, now: Now, of: Option<AccountId>) {
        if of.is_none() {
            self.paths.look_up_at(now);
        }
        for index in 0..self.calls.len() {
            let call = &self.calls[index];
            let ice = call.path.plan.as_ref().is_some_and(|plan| plan.ice.is_some());
            let concerned = of.is_none_or(|of| self.agent.call_account(call.sip) == Some(of));
            if ice && concerned && call.is_active() && call.path.restart.is_none() {
                self.restart_path(now, index);
            }
        }
    }

    fn restart_path(&mut self, now: Now, index: usize) {
        let call = &self.calls[index];
        if !call.is_active() {
            return;
        }
        if self.gather_again(index) {
            self.calls[index].path.moved = false;
            self.calls[index].path.restart =
                Some(Restart::Gathering { until_us: now.deadline(GATHER_WITHIN) });
        }
    }

    /// Has everything asked anew for the port of a call.
    pub(super) fn gather_again(&mut self, index: usize) -> bool {
        if self.calls[index].path.rtcp.is_looked_for() {
            self.gather_rtcp(index);
        }
        let call = &mut self.calls[index];
        if let Some(found) = &mut call.path.found {
            found.complete = false;
        }
        let (port, number) = (call.path.port, call.path.number);
        let Some(line) = self.lines.iter().find(|line| line.config.name == call.facts.line) else {
            return false;
        };
        let Some(address) = self.agent.local_address(line.way(&self.reach)) else { return false };
        let sources = Some(Box::new(self.sources(line, address, number)));
        self.gather(port, Component::Rtp, sources);
        true
    }

    /// What was found after the description of a call had gone out, most often a relay that was slow, is told where nothing
    /// leads to the far end without it.
    pub(super) fn tell_late(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        let ice = call.negotiation.agreed().and_then(|agreed| agreed.ice.as_ref());
        let (Phase::Active { since, .. }, Some(ice)) = (&call.phase, ice) else { return };
        let path = &mut call.path;
        if path.late && path.route.is_none() && path.restart.is_none() {
            let leaves = if ice.controlling { Duration::ZERO } else { CONTROLLED_WAITS };
            let until_us = since.deadline(FIRST_CHECKS).max(now.mono_us) + micros(leaves);
            path.restart = Some(Restart::Left { until_us });
        }
    }

    /// The time for a restart has come.
    pub(super) fn handle_restart_timeouts(&mut self, now: Now) {
        for index in 0..self.calls.len() {
            if self.calls[index].path.rtcp.due().is_some_and(|due| due <= now.mono_us) {
                self.look_after_rtcp(now, index);
            }
            match self.calls[index].path.restart {
                Some(restart) if restart.due() > now.mono_us => {}
                Some(Restart::Left { .. }) => self.offer_restart(now, index),
                Some(Restart::Gathering { .. }) => self.go_on_with_restart(now, index),
                None => {}
            }
        }
    }

    pub(super) fn offer_restart(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        call.path.restart = None;
        if !call.is_active() {
            return;
        }
        call.path.late = false;
        call.negotiation.restart_ice();
        let offer = call.negotiation.offer(&mut self.chance);
        let sip = call.sip;
        let call = &mut self.calls[index];
        match self.agent.offer(now, sip, offer) {
            // A hold that waited goes with it.
            Ok(()) => call.change_waits = false,
            Err(_) => call.negotiation.withdraw(),
        }
    }
}

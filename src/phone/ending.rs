//! The end of a call: who ended it and why, and its story told to the last word.

use std::collections::BTreeMap;
use std::time::Duration;

use super::call::{Call, LONGEST_RINGING, Phase};
use super::command::{Blame, Outcome, Refusal, Reply};
use super::diagnosis::MOST_TALKS;
use super::whole::EndedLeg;
use super::{Output, Phone};
use crate::events::store::{Entry, Write};
use crate::events::{CallResult, Cause, Direction, EndedBy, Event, Kind, Leg};
use crate::media::{Command, LegId};
use crate::now::Now;
use crate::sip::call::{Ended, Ending, Side};
use crate::sip::reason::Reason;
use crate::sip::sdp::Security;

/// The engine closes a leg within a period; past this its figures are given up.
const LAST_FIGURES_WITHIN: Duration = Duration::from_millis(500);

impl Phone {
    pub(super) fn hang_up(&mut self, now: Now, id: Option<&str>) -> Outcome {
        let index = self.find(id, "going on", |call| id.is_some() || call.is_going_on())?;
        let leg = &self.calls[index].facts.leg_id;
        // Whom its far end has sent us to belongs to the call, unless one leg of it was named.
        if id != Some(leg.as_str())
            && let Some(errand) = self.errand_of(leg)
        {
            self.end_call(now, errand, None);
        }
        // Of two who are joined the one who is left behind may be asked how it was, not the one whose leg is ended.
        match self.calls[index].bridge {
            None => self.part(now, index, None),
            Some(_) => self.end_call(now, index, None),
        }
        Ok(Reply::Done)
    }

    /// Ends a call from this side, whatever it is doing.
    pub(super) fn end_call(&mut self, now: Now, index: usize, cause: Option<Cause>) {
        let call = &mut self.calls[index];
        if call.is_over() {
            return;
        }
        let unanswered = match (call.facts.direction, &call.phase) {
            (_, Phase::Active { .. } | Phase::Rating { .. }) => CallResult::Answered,
            // Nobody has said no: other phones of the group may go on ringing, and it was missed here.
            (Direction::In, _) if cause.is_some() => CallResult::NoAnswer,
            (Direction::In, _) => CallResult::Rejected,
            (Direction::Out, _) => CallResult::Cancelled,
        };
        if call.verdict.is_none() {
            call.verdict = Some((unanswered, cause.unwrap_or_else(|| Cause::local("hung up here"))));
        }
        let (sip, ringing) = (call.sip, call.is_ringing_here());
        let _ = if ringing {
            self.agent.reject(now, sip, if unanswered == CallResult::NoAnswer { 480 } else { 603 }, None, &[])
        } else {
            self.agent.hang_up(now, sip, None)
        };
    }

    pub(super) fn media_lost(&mut self, now: Now, leg: LegId) {
        let Some(index) = self.calls.iter().position(|call| call.path.leg == leg && call.is_active()) else {
            return;
        };
        let call = &mut self.calls[index];
        if call.held || call.held_by_peer {
            return;
        }
        let seconds = self.config.rtp.timeout.as_secs();
        let cause = Cause::network(format!("nothing was heard for {seconds} s"));
        call.verdict = Some((CallResult::MediaLost, cause));
        let sip = call.sip;
        let reason = Reason::q850(41, "media lost");
        let _ = self.agent.hang_up(now, sip, Some(reason));
    }

    pub(super) fn handle_call_timeouts(&mut self, now: Now) {
        self.handle_restart_timeouts(now);
        for index in (0..self.calls.len()).rev() {
            if self.calls[index].phase_timeout().is_none_or(|due| due > now.mono_us) {
                continue;
            }
            match &mut self.calls[index].phase {
                Phase::Dialing => self.not_answered(now, index),
                // The tone itself is found to be due by `tones`.
                Phase::Proceeding { tone_at } => {
                    *tone_at = tone_at.filter(|due| *due > now.mono_us);
                    self.not_answered(now, index);
                }
                Phase::Waiting { what, .. } => {
                    let what = *what;
                    self.waited_for(now, index, what);
                }
                Phase::Ringing { automatic: Some(due) } if due.due() <= now.mono_us => {
                    self.go_on_by_itself(now, index);
                }
                Phase::Ringing { .. } => {
                    let call = &mut self.calls[index];
                    let cause = Cause::network("it rang too long, and the PBX did not take it back");
                    call.verdict = Some((CallResult::NoAnswer, Cause { status: Some(480), ..cause }));
                    if self.agent.reject(now, call.sip, 480, None, &[]).is_err() {
                        let (port, number) = (call.path.port, call.path.number);
                        self.give_back(port, number);
                        self.finish_call(now, index);
                    }
                }
                Phase::Active { end_at, .. } => {
                    *end_at = None;
                    let cause = Cause::local("the longest duration of [limits] is reached");
                    self.end_call(now, index, Some(cause));
                }
                Phase::Rating { until, .. } => {
                    *until = u64::MAX;
                    self.end_call(now, index, None);
                }
                Phase::Ending { .. } => self.finish_call(now, index),
            }
        }
    }

    /// Gives up a call of ours that nobody answers, once its PBX is silent, too: one that has vanished ends no call.
    fn not_answered(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        if call.answer_by > now.mono_us {
            return;
        }
        call.answer_by = now.deadline(LONGEST_RINGING);
        let is_heard = call.path.heard.is_some() && !call.path.silent;
        let (helped, progressed) = (call.emergency, call.progressed);
        let verdict = if helped {
            // Nobody gives that up but who has dialled.
            if progressed || !self.call_help_by_next_line(now, index) {
                return;
            }
            (CallResult::Unreachable, Cause::network("the PBX says nothing of the call"))
        } else if is_heard {
            return;
        } else {
            (CallResult::NoAnswer, Cause::network("nobody has answered, and the PBX says nothing more"))
        };
        let call = &mut self.calls[index];
        let sip = call.sip;
        call.verdict.get_or_insert(verdict);
        let _ = self.agent.hang_up(now, sip, None);
    }

    pub(super) fn call_ended(&mut self, now: Now, index: usize, ended: &Ended) {
        if self.call_again(now, index, ended) {
            return;
        }
        self.note_given_away(now, index, ended);
        self.note_errand(now, index, ended);
        let call = &mut self.calls[index];
        let answered = call.answered();
        let (result, cause) = call.verdict.take().unwrap_or_else(|| verdict(call, ended));
        if let Some(since) = call.held_since.take() {
            call.hold_us += now.mono_us.saturating_sub(since.mono_us);
        }
        let open = call.path.plan.is_some();
        let goes_on = self.call_help_elsewhere(now, index, ended);
        let call = &mut self.calls[index];
        let busy_tone = !goes_on
            && call.facts.direction == Direction::Out
            && answered.is_none()
            && result != CallResult::Cancelled
            && call.bridge.is_none();
        let give_up_at = now.deadline(LAST_FIGURES_WITHIN);
        call.path.restart = None;
        call.phase = Phase::Ending { give_up_at, result, cause, at: now, answered };
        let leg = call.path.leg;
        if busy_tone {
            self.tones.failed(now, result);
        }
        self.bridge_leg_ended(now, index);
        if open {
            self.outputs.push_back(Output::Media(Command::Close { leg }));
        } else {
            let path = &self.calls[index].path;
            let (port, number) = (path.port, path.number);
            self.give_back(port, number);
            self.finish_call(now, index);
        }
    }

    /// Tells the rest of a call's story and forgets the call.
    pub(super) fn finish_call(&mut self, now: Now, index: usize) {
        let call = self.calls.remove(index);
        self.refused += call.path.refused();
        let (result, cause, at, answered) = match &call.phase {
            Phase::Ending { result, cause, at, answered, .. } => (*result, cause.clone(), *at, *answered),
            _ => (CallResult::Failed, Cause::local("the phone ended"), now, None),
        };
        let total_us = at.mono_us.saturating_sub(call.began.mono_us);
        let parted = call.parted.unwrap_or(at);
        let talk = answered.map(|since| (since.mono_us, parted.mono_us));
        let talk_us = talk.map_or(0, |(since, until)| until.saturating_sub(since));
        if answered.is_some() {
            self.talks.truncate(MOST_TALKS - 1);
            self.talks.push_front(call.talk(at, talk_us));
        }
        let entry = Entry {
            answered_utc_us: answered.map(|since| since.utc_us),
            ended_utc_us: Some(at.utc_us),
            result: Some(result),
            cause,
            total_us,
            ring_us: answered.map_or(total_us, |since| since.mono_us.saturating_sub(call.began.mono_us)),
            talk_us,
            hold_us: call.hold_us,
            quality: call.quality(),
            vote: call.vote,
            recording_id: call
                .recording
                .as_ref()
                .map(|recording| recording.id.clone())
                .or_else(|| call.recorded.clone()),
            ..call.entry()
        };
        if call.emergency {
            self.guard.helped(now);
        }
        if call.facts.direction == Direction::Out {
            let connected_us = answered.map_or(0, |since| at.mono_us.saturating_sub(since.mono_us));
            let usage = self.guard.talked(now, &call.facts.line, connected_us);
            self.keep_usage(usage);
        }
        self.ended_legs.push(EndedLeg {
            call: call.id.clone(),
            leg: call.facts.clone(),
            result,
            began_us: call.began.mono_us,
            talk,
            ended_us: at.mono_us,
        });
        self.tell_end(now, entry);
        // The other leg tells the end of both.
        if self.calls.iter().any(|other| other.id == call.id) {
            return;
        }
        let Some((legs, whole)) = self.take_whole(&call.id) else { return };
        let closed = self.close_callback(now, &call.id, legs).unwrap_or(whole);
        self.forget_sticky(&call.id);
        self.tell(now, Event::of_call(&call.id, closed));
    }

    /// The whole story of a call that never got further than being refused.
    pub(super) fn close_story(&mut self, now: Now, id: &str, facts: Leg, result: CallResult, cause: Cause) {
        let leg = Leg { leg_id: format!("{id}-1"), ..facts };
        let entry = Entry {
            ended_utc_us: Some(now.utc_us),
            result: Some(result),
            cause,
            ..Entry::begun(id, leg, now.utc_us)
        };
        let closed = self.tell_end(now, entry);
        self.tell(now, Event::of_call(id, closed));
    }

    /// Ends the stories of calls that were going on when the power went. Nobody knows when that was.
    pub(super) fn tell_interrupted(&mut self, now: Now, entries: Vec<Entry>) {
        let mut left: BTreeMap<String, u32> = BTreeMap::new();
        for entry in &entries {
            *left.entry(entry.call_id.clone()).or_default() += 1;
        }
        for entry in entries {
            let cause = Cause::network("the device lost its power or was killed during the call");
            let answered = entry.answered_utc_us.is_some();
            let result = if answered { CallResult::Answered } else { CallResult::Failed };
            let (call, leg) = (entry.call_id.clone(), entry.leg.clone());
            self.tell_end(now, Entry { result: Some(result), cause, ..entry });
            let talk = answered.then_some((0, 0));
            self.ended_legs.push(EndedLeg {
                call: call.clone(),
                leg,
                result,
                began_us: 0,
                talk,
                ended_us: 0,
            });
            let last = left.get_mut(&call).is_none_or(|left| {
                *left = left.saturating_sub(1);
                *left == 0
            });
            if last && let Some((_, closed)) = self.take_whole(&call) {
                self.tell(now, Event::of_call(call, closed));
            }
        }
    }

    /// Tells the end of a leg; that of the whole call, if it was the only one.
    fn tell_end(&mut self, now: Now, entry: Entry) -> Kind {
        self.keep(Write::Call(Box::new(entry.clone())));
        let id = entry.call_id;
        let result = entry.result.unwrap_or(CallResult::Failed);
        let (total_us, talk_us) = (entry.total_us, entry.talk_us);
        let ended = Kind::CallEnded {
            leg: entry.leg.clone(),
            result,
            cause: entry.cause,
            total_us,
            ring_us: entry.ring_us,
            talk_us,
            hold_us: entry.hold_us,
            quality: entry.quality,
            recording_id: entry.recording_id,
            vote: entry.vote,
        };
        self.tell(now, Event::of_call(&id, ended));
        let Leg { line, direction, caller, called, did, .. } = entry.leg;
        let missed = direction == Direction::In && result.is_missed();
        Kind::CallClosed { line, direction, caller, called, did, result, missed, legs: 1, total_us, talk_us }
    }

    /// The call that a wish means: the named one, or the only one that it can mean.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        what: &str,
        fits: impl Fn(&Call) -> bool,
    ) -> Result<usize, Refusal> {
        let alive = || self.calls.iter().enumerate().filter(|(_, call)| !call.is_over());
        if let Some(id) = id {
            // A call that has two legs is meant by its name, each leg by its own.
            let named = || alive().filter(|(_, call)| call.id == id || call.facts.leg_id == id);
            if named().next().is_none() {
                let hint = "`tipring status` lists the calls that are going on";
                let message = format!("there is no call `{id}`");
                return Err(Refusal::new(Blame::NotFound, "no_such_call", message, hint));
            }
            let Some((index, _)) = named().find(|(_, call)| fits(call)) else {
                let message = format!("call {id} is not {what}");
                let hint = "`tipring status` shows the state of each call";
                return Err(Refusal::new(Blame::State, "wrong_state", message, hint));
            };
            return Ok(index);
        }
        let mut fitting = alive().filter(|(_, call)| fits(call));
        let first = fitting.next();
        let another = fitting.find(|(_, call)| first.is_some_and(|(_, first)| first.id != call.id));
        match (first, another) {
            (Some((index, _)), None) => Ok(index),
            (None, _) => {
                let hint = "`tipring status` lists the calls";
                Err(Refusal::new(Blame::State, "no_call", format!("no call is {what}"), hint))
            }
            (Some(_), Some(_)) => {
                let message = format!("several calls are {what}");
                Err(Refusal::new(Blame::Wish, "which_call", message, "name one; `tipring status` lists them"))
            }
        }
    }
}

/// What became of a call that the far end or the network ended.
fn verdict(call: &Call, ended: &Ended) -> (CallResult, Cause) {
    let q850 = ended
        .reasons
        .iter()
        .find(|reason| reason.protocol.eq_ignore_ascii_case("Q.850"))
        .and_then(|reason| reason.cause)
        .and_then(|cause| u8::try_from(cause).ok());
    let told = ended.reasons.iter().find_map(|reason| reason.text.clone());
    let by = match (&ended.ending, ended.by) {
        (Ending::NoResponse | Ending::Unreachable(_) | Ending::NotAcknowledged, _) => EndedBy::Network,
        (Ending::SessionExpired | Ending::PeerGone, _) => EndedBy::Network,
        (_, Side::Local) => EndedBy::Local,
        (_, Side::Remote) => EndedBy::Remote,
    };
    let wants_keys = call.negotiation.capability().security == Security::Required && ended.by == Side::Remote;
    let text = match &ended.ending {
        Ending::Unreachable(why) => Some(why.clone()),
        Ending::NoResponse => Some("the server did not answer".into()),
        Ending::NotAcknowledged => Some("the answer was never acknowledged".into()),
        Ending::SessionExpired => Some("the session was not refreshed: the far end is gone".into()),
        Ending::PeerGone => Some("the far end does not know the call any more".into()),
        Ending::NoSession => Some("no usable media description came".into()),
        Ending::Rejected if wants_keys && matches!(ended.status, Some(488 | 606)) => {
            Some("the far end takes no encrypted audio as this line requires it; see the line's srtp".into())
        }
        Ending::Rejected | Ending::Cancelled | Ending::HungUp => {
            told.or_else(|| Some(ended.phrase.clone()).filter(|phrase| !phrase.is_empty()))
        }
    };
    let result = match (&ended.ending, call.facts.direction) {
        _ if call.answered().is_some() => CallResult::Answered,
        _ if ended.elsewhere => CallResult::AnsweredElsewhere,
        (Ending::Cancelled, _) => CallResult::Cancelled,
        (Ending::NoResponse | Ending::Unreachable(_), _) => CallResult::Unreachable,
        (_, Direction::In) => CallResult::Failed,
        (_, Direction::Out) => CallResult::of_unanswered(ended.status, q850),
    };
    (result, Cause { status: ended.status, q850, text, by: Some(by) })
}

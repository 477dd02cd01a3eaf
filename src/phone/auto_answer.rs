//! A call that nobody has to take: the line answers by itself, or the PBX asks for it (intercom, paging).
//!
//! Whoever can make this device answer can listen to the room. So the PBX's wish counts for less than the line's
//! own setting: a beep is heard before the microphone opens, nothing is answered in do-not-disturb, and whoever is
//! busy with another call is only told that this one waits. Requests of strangers never get here (`sip::trust`).

use std::time::Duration;

use super::Phone;
use super::call::{Call, Phase};
use crate::config::AutoAnswer;
use crate::now::Now;
use crate::sip::alert_info::answer_after;
use crate::sip::fields::Fields;

/// How long the beep is waited for: the tone and a breath.
const BEEP: Duration = Duration::from_millis(300);

/// How far a call that rings is from being answered by itself. Times are in microseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Automatic {
    /// The line answers at this time.
    Line {
        /// When.
        at: u64,
    },
    /// The PBX wants it to be answered; it rings until it is time for the beep.
    Intercom {
        /// When the beep begins.
        beep_at: u64,
    },
    /// The beep is heard.
    Beep {
        /// When the call is answered.
        answer_at: u64,
    },
}

impl Automatic {
    /// When the next step is due.
    pub fn due(&self) -> u64 {
        match *self {
            Automatic::Line { at } => at,
            Automatic::Intercom { beep_at } => beep_at,
            Automatic::Beep { answer_at } => answer_at,
        }
    }
}

impl Call {
    /// Whether the beep before an automatic answer is heard now.
    pub(super) fn beeps(&self) -> bool {
        matches!(self.phase, Phase::Ringing { automatic: Some(Automatic::Beep { .. }) })
    }
}

impl Phone {
    /// Whether and when a call that has just come in on `line` will be answered by itself: the earlier of what the line
    /// and the fields of the INVITE say.
    pub(super) fn will_answer_by_itself(&self, now: Now, line: &str, invite: &Fields) -> Option<Automatic> {
        let line = self.line(line)?;
        let busy_here = self.calls.iter().any(|call| call.is_going_on() && !call.is_ringing_here());
        let by_line = match line.config.auto_answer {
            AutoAnswer::After(after) if !(busy_here && self.has_one_pair_of_ears()) => {
                Some(now.deadline(after))
            }
            AutoAnswer::After(_) | AutoAnswer::Off => None,
        };
        let busy = self.calls.iter().any(Call::is_going_on);
        let wish = answer_after(invite).filter(|_| line.config.intercom && !line.dnd && !busy);
        // The beep comes before the answer, and the answer not later than wished if it can be.
        let beep_at =
            wish.map(|seconds| now.deadline(Duration::from_secs(u64::from(seconds)).saturating_sub(BEEP)));
        match (by_line, beep_at) {
            (Some(at), beep_at) if beep_at.is_none_or(|beep_at| at <= beep_at) => {
                Some(Automatic::Line { at })
            }
            (_, beep_at) => beep_at.map(|beep_at| Automatic::Intercom { beep_at }),
        }
    }

    /// The next step of a call that answers itself is due; whether it rings after that.
    pub(super) fn go_on_by_itself(&mut self, now: Now, index: usize) -> bool {
        let Phase::Ringing { automatic: Some(automatic) } = self.calls[index].phase else { return true };
        let (next, answered_by) = match automatic {
            // Somebody may have taken or begun another call since, or want to be left alone.
            Automatic::Line { .. } if self.has_one_pair_of_ears() && !self.is_free_for(index) => (None, None),
            Automatic::Line { .. } => (None, Some("line.auto_answer")),
            Automatic::Intercom { .. } | Automatic::Beep { .. } if !self.is_free_for(index) => (None, None),
            Automatic::Intercom { .. } => (Some(Automatic::Beep { answer_at: now.deadline(BEEP) }), None),
            Automatic::Beep { .. } => (None, Some("line.intercom")),
        };
        let call = &mut self.calls[index];
        call.phase = Phase::Ringing { automatic: next };
        call.answered_by = answered_by;
        let id = call.id.clone();
        if answered_by.is_some() && self.answer(now, Some(&id)).is_err() {
            // The caller has just given up, or can't be understood: the end of the call is told elsewhere.
            self.calls[index].answered_by = None;
        }
        answered_by.is_none()
    }

    /// Whether nobody is busy with another call than this one, and the line may be disturbed.
    fn is_free_for(&self, index: usize) -> bool {
        let call = &self.calls[index];
        let busy = |other: &Call| other.id != call.id && other.is_going_on() && !other.is_ringing_here();
        let may_disturb = self.line(&call.facts.line).is_some_and(|line| !line.dnd);
        may_disturb && !self.calls.iter().any(busy)
    }
}

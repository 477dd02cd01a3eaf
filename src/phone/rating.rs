//! The rating of a call: whoever was talked to is asked, once the call was hung up here, and answers with a key.
//!
//! For this side the call is over then: whoever is at the device takes and makes other calls, and hears nothing of it. The far
//! end hears the question and presses 1 to 5, or hangs up, or is let go after a while.

use std::time::Duration;

use super::call::Phase;
use super::features::clip;
use super::{Output, Phone};
use crate::config::words::Asked;
use crate::events::{CallResult, Cause, Direction};
use crate::media::{Clip, Command};
use crate::now::Now;

/// The keys that are votes.
const VOTES: std::ops::RangeInclusive<u32> = 1..=5;

impl Phone {
    /// Lets go of a call: its far end is asked first, if it is to be.
    pub(super) fn part(&mut self, now: Now, index: usize, cause: Option<Cause>) {
        let Some((question, since)) = self.question(now, index) else {
            return self.end_call(now, index, cause);
        };
        let wait = question.duration() + self.config.rating.wait;
        let call = &mut self.calls[index];
        let cause = cause.unwrap_or_else(|| Cause::local("hung up here"));
        call.verdict.get_or_insert((CallResult::Answered, cause));
        call.parted = Some(now);
        call.phase = Phase::Rating { since, until: now.deadline(wait) };
        let leg = call.path.leg;
        self.stop_recording(index);
        self.outputs.push_back(Output::Media(Command::Say { leg, clip: question }));
    }

    /// What the far end of a call is asked, if it is, and since when it was talked to.
    fn question(&self, now: Now, index: usize) -> Option<(Clip, Now)> {
        let settings = &self.config.rating;
        let call = &self.calls[index];
        let Phase::Active { since, .. } = call.phase else { return None };
        let asks = match settings.calls {
            Asked::In => call.facts.direction == Direction::In,
            Asked::Out => call.facts.direction == Direction::Out,
            Asked::Both => true,
        };
        let wanted = settings.lines.is_empty() || settings.lines.contains(&call.facts.line);
        let talked = Duration::from_micros(now.mono_us.saturating_sub(since.mono_us));
        // Who is on hold, or on the way to somebody else, hears nothing from here.
        let listens = !call.held && !call.held_by_peer && call.change.is_none() && !call.sent_on;
        let given_away = call.transfer.is_some() || call.verdict.is_some();
        if !asks || !wanted || talked < settings.min_talk || !listens || given_away {
            return None;
        }
        let question = settings.announcement.as_ref().map(clip).filter(|clip| !clip.pcm.is_empty())?;
        let may_ask = self.is_outside(&call.facts) && !self.expects_helper(now);
        may_ask.then_some((question, since))
    }

    /// The far end has pressed a key: perhaps it is its vote.
    pub(super) fn key_pressed(&mut self, now: Now, index: usize, key: char) {
        let call = &mut self.calls[index];
        let vote = key.to_digit(10).filter(|vote| VOTES.contains(vote));
        if matches!(call.phase, Phase::Rating { .. }) && vote.is_some() {
            call.vote = vote.and_then(|vote| u8::try_from(vote).ok());
            self.end_call(now, index, None);
        }
    }
}

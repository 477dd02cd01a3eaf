//! What is done during a call: hold, mute, digits, recording.

use super::call::{Call, Change, Recording};
use super::command::{Blame, Outcome, RecordAction, Refusal, Reply};
use super::{Output, Phone};
use crate::config::Announcement;
use crate::events::{Event, Kind, Side};
use crate::media::{Clip, Command, Dtmf, Layout, Record, RecordingId};
use crate::now::Now;
use crate::sip::call::CallError;
use crate::sip::sdp::Direction;

/// Digits of one wish; more are a mistake.
const MOST_DIGITS: usize = 64;
/// How long a digit sent by INFO says that it is, in milliseconds.
const INFO_DIGIT_MS: u32 = 160;
/// Recordings that are under way, or whose files are being finished.
const MOST_RECORDED: usize = 256;
/// The longest INFO body that is looked at.
const LONGEST_INFO: usize = 256;

impl Call {
    /// Makes the next offer or answer say what hold wants.
    pub(super) fn set_direction(&mut self) {
        self.negotiation.capability_mut().direction =
            if self.held { Direction::SendOnly } else { Direction::SendRecv };
    }

    /// The change that the far end has answered now, if that was what it was asked.
    pub(super) fn change_answered(&mut self) -> Option<Change> {
        if self.change_waits { None } else { self.change.take() }
    }
}

impl Phone {
    pub(super) fn hold(&mut self, now: Now, id: Option<&str>) -> Outcome {
        let index = self.find(id, "active", |call| call.is_active() && (id.is_some() || !call.held))?;
        self.change_hold(now, index, true)
    }

    pub(super) fn resume(&mut self, now: Now, id: Option<&str>) -> Outcome {
        let index = self.find(id, "on hold", |call| call.is_active() && call.held)?;
        self.quiet_others(now);
        self.change_hold(now, index, false)
    }

    fn change_hold(&mut self, now: Now, index: usize, hold: bool) -> Outcome {
        let call = &mut self.calls[index];
        if call.held == hold {
            return Ok(Reply::Call(Box::new(call.view(now))));
        }
        let before = call.held;
        call.held = hold;
        call.set_direction();
        let offer = call.negotiation.offer(&mut self.chance);
        let sip = call.sip;
        let asked = self.agent.offer(now, sip, offer);
        self.calls[index].change_waits = asked.is_err();
        match asked {
            Ok(()) => {}
            // It goes out as soon as what is under way has been answered.
            Err(CallError::NotNow(_)) => self.calls[index].negotiation.withdraw(),
            Err(error) => {
                let call = &mut self.calls[index];
                call.held = before;
                call.negotiation.withdraw();
                call.set_direction();
                return Err(Refusal::new(Blame::State, "not_now", error.to_string(), "the call is ending"));
            }
        }
        let call = &mut self.calls[index];
        call.change = Some(if hold { Change::Hold } else { Change::Resume });
        Ok(Reply::Call(Box::new(call.view(now))))
    }

    pub(super) fn mute(&mut self, now: Now, id: Option<&str>, on: bool) -> Outcome {
        let index = self.find(id, "active", |call| call.is_active() && (id.is_some() || !call.held))?;
        let call = &mut self.calls[index];
        call.muted = on;
        let leg = call.path.leg;
        let view = call.view(now);
        self.outputs.push_back(Output::Media(Command::Mute { leg, muted: on }));
        Ok(Reply::Call(Box::new(view)))
    }

    pub(super) fn dtmf(&mut self, now: Now, id: Option<&str>, digits: &str) -> Outcome {
        let valid = |digit: char| {
            digit.is_ascii_digit() || matches!(digit.to_ascii_uppercase(), '*' | '#' | 'A'..='D' | ',')
        };
        if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.chars().all(valid) {
            let message = format!("`{}` are no DTMF digits", digits.escape_debug());
            let hint = "use 0–9, *, #, A–D, and a comma for a pause; 64 at most";
            return Err(Refusal::new(Blame::Wish, "wrong_digits", message, hint));
        }
        let hears = |call: &Call| call.is_going_on() && call.path.plan.is_some();
        let index = self.find(id, "active", |call| hears(call) && (id.is_some() || !call.held))?;
        let by_info = self.sends_digits_by_info(index);
        let call = &mut self.calls[index];
        if by_info {
            call.info_digits.extend(digits.chars().filter(|digit| *digit != ','));
            self.send_info_digits(now, index);
        } else {
            let leg = call.path.leg;
            self.outputs.push_back(Output::Media(Command::Dtmf { leg, dtmf: Dtmf::new(digits) }));
        }
        let method = if by_info { "info" } else { self.digit_method(index) };
        self.tell_digits(now, index, Side::Local, digits.to_owned(), None, method);
        Ok(Reply::Done)
    }

    /// Sends the digits that wait for an INFO, if none is under way.
    pub(super) fn send_info_digits(&mut self, now: Now, index: usize) {
        if !self.calls[index].info_waits {
            self.next_info_digit(now, index);
        }
    }

    fn digit_method(&self, index: usize) -> &'static str {
        let plan = self.calls[index].path.plan.as_ref();
        match plan.map(|plan| plan.dtmf) {
            Some(crate::media::DtmfPath::Rfc4733(_)) => "rfc4733",
            _ => "inband",
        }
    }

    /// Sends the next digit by INFO, once the one before it has been answered.
    pub(super) fn next_info_digit(&mut self, now: Now, index: usize) {
        let call = &mut self.calls[index];
        call.info_waits = false;
        let Some(digit) = call.info_digits.pop_front() else { return };
        let sip = call.sip;
        let body = format!("Signal={digit}\r\nDuration={INFO_DIGIT_MS}\r\n").into_bytes();
        if self.agent.info(now, sip, "application/dtmf-relay", body).is_ok() {
            self.calls[index].info_waits = true;
        } else {
            self.calls[index].info_digits.clear();
        }
    }

    pub(super) fn digits_by_info(&mut self, now: Now, index: usize, content_type: &str, body: &[u8]) {
        let Some((digit, duration_us)) = info_digit(content_type, body) else { return };
        self.tell_digits(now, index, Side::Remote, digit.to_string(), duration_us, "info");
        self.key_pressed(now, index, digit);
        let duration_ms = duration_us.unwrap_or_default() / 1000;
        self.pass_on_digit(now, index, digit, u32::try_from(duration_ms).unwrap_or_default());
    }

    pub(super) fn tell_digits(
        &mut self,
        now: Now,
        index: usize,
        by: Side,
        digits: String,
        duration_us: Option<u64>,
        method: &str,
    ) {
        let call = &self.calls[index];
        let (id, leg) = (call.id.clone(), call.facts.clone());
        let kind = Kind::CallDtmf { leg, by, digits: Some(digits), duration_us, method: method.to_owned() };
        self.tell(now, Event::of_call(id, kind));
    }

    pub(super) fn record(&mut self, now: Now, id: Option<&str>, action: RecordAction) -> Outcome {
        let index = self.find(id, "active", |call| call.is_active() && (id.is_some() || !call.held))?;
        let (running, paused) = match &self.calls[index].recording {
            None => (false, false),
            Some(recording) => (true, recording.paused),
        };
        match action {
            RecordAction::Start if !running => self.start_recording(now, index),
            RecordAction::Start => {}
            _ if !running => {
                let hint = "start it with `tipring record CALL start`";
                return Err(Refusal::new(
                    Blame::State,
                    "not_recording",
                    "the call is not being recorded",
                    hint,
                ));
            }
            RecordAction::Pause if !paused => self.pause_recording(now, index, true),
            RecordAction::Resume if paused => self.pause_recording(now, index, false),
            RecordAction::Pause | RecordAction::Resume => {}
            RecordAction::Stop => self.stop_recording(index),
        }
        Ok(Reply::Call(Box::new(self.calls[index].view(now))))
    }

    /// Ends the recording of a call, if there is one.
    pub(super) fn stop_recording(&mut self, index: usize) {
        let call = &mut self.calls[index];
        let Some(recording) = call.recording.take() else { return };
        call.recorded = Some(recording.id);
        let leg = call.path.leg;
        self.outputs.push_back(Output::Media(Command::Record { leg, record: Record::Stop }));
    }

    fn start_recording(&mut self, now: Now, index: usize) {
        let number = RecordingId(self.number());
        let call = &mut self.calls[index];
        let id = format!("{}-{}", call.id, number.0);
        call.recording = Some(Recording { number, id: id.clone(), paused: false });
        let call_id = call.id.clone();
        let kind = Kind::RecordingStarted {
            recording_id: id.clone(),
            leg_id: call.facts.leg_id.clone(),
            line: call.facts.line.clone(),
        };
        if self.recorded_legs.len() >= MOST_RECORDED {
            self.recorded_legs.pop_first();
        }
        let facts = &self.calls[index].facts;
        self.recorded_legs.insert(id.clone(), (facts.leg_id.clone(), facts.line.clone()));
        self.tell(now, Event::of_call(call_id, kind));
        self.outputs.push_back(Output::Recording { number, recording: id });
        self.record_leg(index);
    }

    /// Tells the engine that a call is recorded, as soon as its leg is open.
    pub(super) fn record_leg(&mut self, index: usize) {
        let call = &self.calls[index];
        let Some(recording) = call.recording.as_ref().filter(|_| call.path.plan.is_some()) else { return };
        let (leg, paused) = (call.path.leg, recording.paused);
        let (recording, settings) = (recording.number, &self.config.recording);
        let (beep, announcement) = (settings.beep, settings.announcement.as_ref().map(clip));
        let record = Record::Start { recording, layout: Layout::Stereo, beep, announcement };
        self.outputs.push_back(Output::Media(Command::Record { leg, record }));
        if paused {
            self.outputs.push_back(Output::Media(Command::Record { leg, record: Record::Pause }));
        }
    }

    fn pause_recording(&mut self, now: Now, index: usize, paused: bool) {
        let call = &mut self.calls[index];
        let Some(recording) = &mut call.recording else { return };
        recording.paused = paused;
        let kind = Kind::RecordingPaused {
            recording_id: recording.id.clone(),
            leg_id: call.facts.leg_id.clone(),
            line: call.facts.line.clone(),
            paused,
        };
        let (id, leg) = (call.id.clone(), call.path.leg);
        self.tell(now, Event::of_call(id, kind));
        let record = if paused { Record::Pause } else { Record::Resume };
        self.outputs.push_back(Output::Media(Command::Record { leg, record }));
    }

    pub(super) fn recording_ready(&mut self, now: Now, recording: &str, duration_us: u64, bytes: u64) {
        // The call's name is in front of the recording's own number; the call may be over by now.
        let call = recording.rsplit_once('-').map_or(recording, |(call, _)| call).to_owned();
        let (leg_id, line) =
            self.recorded_legs.remove(recording).unwrap_or_else(|| (format!("{call}-1"), String::new()));
        let kind =
            Kind::RecordingReady { recording_id: recording.to_owned(), leg_id, line, duration_us, bytes };
        self.tell(now, Event::of_call(call, kind));
    }
}

/// What is said, as the engine says it.
pub(super) fn clip(said: &Announcement) -> Clip {
    Clip { rate: Announcement::RATE, pcm: said.sound() }
}

/// The digit of an INFO body: `application/dtmf-relay` with Signal and Duration (ms), or `application/dtmf` with the
/// digit alone.
fn info_digit(content_type: &str, body: &[u8]) -> Option<(char, Option<u64>)> {
    let text = std::str::from_utf8(body.get(..body.len().min(LONGEST_INFO))?).ok()?;
    let digit = |text: &str| {
        let text = text.trim();
        // Some write the star and the hash as their event numbers (RFC 4733 §3.2).
        match text {
            "10" => Some('*'),
            "11" => Some('#'),
            _ => text.chars().next().map(|digit| digit.to_ascii_uppercase()),
        }
        .filter(|digit| digit.is_ascii_digit() || matches!(digit, '*' | '#' | 'A'..='D'))
    };
    match content_type {
        "application/dtmf" => Some((digit(text)?, None)),
        "application/dtmf-relay" => {
            let value = |name: &str| {
                text.lines().find_map(|line| {
                    let (key, value) = line.split_once('=')?;
                    key.trim().eq_ignore_ascii_case(name).then_some(value)
                })
            };
            let duration = value("Duration").and_then(|ms| ms.trim().parse::<u64>().ok());
            Some((digit(value("Signal")?)?, duration.map(|ms| ms.min(60_000) * 1000)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::info_digit;

    #[test]
    fn both_forms_of_info_are_read() {
        assert_eq!(
            info_digit("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
            Some(('5', Some(160_000)))
        );
        assert_eq!(
            info_digit("application/dtmf-relay", b"signal = * \nduration= 90"),
            Some(('*', Some(90_000)))
        );
        assert_eq!(info_digit("application/dtmf-relay", b"Signal=11"), Some(('#', None)));
        assert_eq!(info_digit("application/dtmf", b"d\r\n"), Some(('D', None)));
        assert_eq!(info_digit("application/dtmf", b"x"), None);
        assert_eq!(info_digit("application/dtmf-relay", b"\xff\xfe"), None);
        assert_eq!(info_digit("text/plain", b"5"), None);
    }
}

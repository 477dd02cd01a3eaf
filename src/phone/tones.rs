//! What the person at the device hears besides the calls: ringing, ring-back, busy, call waiting. It follows from the
//! calls alone; the engine is told where it changes.

use std::time::Duration;

use super::call::{Call, Phase};
use super::{Output, Phone};
use crate::audio::tones::Tone;
use crate::events::CallResult;
use crate::media::{Command, Sounder};
use crate::now::Now;

/// How long busy and congestion are heard after a call that came to nothing.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(4);

/// What a caller hears when a call has come to nothing.
pub(super) fn after(result: CallResult) -> Tone {
    if result == CallResult::Busy { Tone::Busy } else { Tone::Congestion }
}

/// What the engine was told last.
#[derive(Default)]
pub(super) struct Told {
    terminal: Option<Tone>,
    ringer: Option<Tone>,
    /// What is heard after a call that came to nothing, and until when.
    afterwards: Option<(Tone, u64)>,
}

impl Told {
    /// A call from here came to nothing.
    pub fn failed(&mut self, now: Now, result: CallResult) {
        self.afterwards = Some((after(result), now.deadline(AFTERWARDS)));
    }

    pub fn poll_timeout(&self) -> Option<u64> {
        self.afterwards.map(|(_, until)| until)
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.afterwards = self.afterwards.filter(|(_, until)| *until > now.mono_us);
    }
}

impl Phone {
    pub(super) fn sound(&mut self, now: Now) {
        let talking = self.calls.iter().any(Call::is_talked_in);
        let beeping = self.calls.iter().any(Call::beeps);
        let ringing = self.calls.iter().any(|call| call.is_heard_ringing() && !call.beeps());
        let ring_back = self.calls.iter().any(|call| hears_ring_back(call, now));
        let dialing = self.calls.iter().any(|call| {
            matches!(call.phase, Phase::Dialing | Phase::Proceeding { .. }) && call.bridge.is_none()
        });
        if talking || dialing {
            self.tones.afterwards = None;
        }
        let terminal = match self.tones.afterwards {
            _ if beeping => Some(Tone::Beep),
            _ if ring_back && !talking => Some(Tone::RingBack),
            _ if ringing && talking => Some(Tone::CallWaiting),
            Some((tone, _)) => Some(tone),
            None => None,
        };
        let ringer = (ringing && !talking).then_some(Tone::Ring);
        if std::mem::replace(&mut self.tones.terminal, terminal) != terminal {
            self.outputs.push_back(Output::Media(Command::Tone { at: Sounder::Terminal, tone: terminal }));
        }
        if std::mem::replace(&mut self.tones.ringer, ringer) != ringer {
            self.outputs.push_back(Output::Media(Command::Tone { at: Sounder::Ringer, tone: ringer }));
        }
    }
}

/// Whether the far end rings and sends no tone of its own.
fn hears_ring_back(call: &Call, now: Now) -> bool {
    match call.phase {
        _ if call.bridge.is_some() => false,
        Phase::Proceeding { tone_at } => match tone_at {
            Some(at) => at <= now.mono_us,
            None => call.path.heard.is_none(),
        },
        _ => false,
    }
}

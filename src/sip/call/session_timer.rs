//! The session timer (RFC 4028): who refreshes, when, and when a silent session is given up.

use crate::now::Now;
use crate::sip::call::settings::{CallSettings, SessionTimer as Mode};
use crate::sip::fields::Fields;
use crate::sip::session_expires::{MinSe, Refresher, SessionExpires};
use std::time::Duration;

/// No interval below this is believed (RFC 4028 §4).
const SMALLEST_S: u32 = 90;
/// A Min-SE beyond this ends the attempt: no session needs to be kept unwatched for a week.
const LARGEST_S: u32 = 7 * 24 * 3600;
/// The pause before a refresh that failed without ending the session is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What a session timer asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Refresh the session now.
    Refresh,
    /// Nobody refreshed it: end it.
    Expired,
}

#[derive(Clone, Debug)]
struct Running {
    interval_s: u32,
    ours: bool,
    refresh_at: Option<u64>,
    expires_at: u64,
}

/// The timer of one session.
#[derive(Clone, Debug)]
pub(super) struct SessionTimer {
    mode: Mode,
    asked_s: u32,
    min_se_s: u32,
    running: Option<Running>,
}

impl SessionTimer {
    pub(super) fn new(settings: &CallSettings) -> SessionTimer {
        let seconds =
            |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(LARGEST_S).min(LARGEST_S);
        let min_se_s = seconds(settings.min_se).max(SMALLEST_S);
        SessionTimer {
            mode: settings.session_timer,
            asked_s: seconds(settings.session_expires).max(min_se_s),
            min_se_s,
            running: None,
        }
    }

    /// Whether the option tag `timer` belongs into Supported.
    pub(super) fn is_offered(&self) -> bool {
        self.mode != Mode::Off
    }

    /// What our INVITE, re-INVITE or UPDATE says about it (§7.1, §7.4).
    pub(super) fn ask(&self, fields: &mut Fields) {
        if self.mode == Mode::Off {
            return;
        }
        let (interval, refresher) = match &self.running {
            Some(running) if running.ours => (running.interval_s, Some(Refresher::Uac)),
            Some(running) => (running.interval_s, Some(Refresher::Uas)),
            None => (self.asked_s, None),
        };
        fields.put(&SessionExpires { interval: interval.max(self.min_se_s), refresher });
        if self.min_se_s > SMALLEST_S {
            fields.put(&MinSe(self.min_se_s));
        }
    }

    /// The Min-SE to refuse a request with (422, §9), or `None` if its interval is long enough.
    pub(super) fn too_brief(&self, request: &Fields) -> Option<u32> {
        let asked = request.typed::<SessionExpires>().ok().flatten()?;
        let refuses = self.mode != Mode::Off
            && asked.interval < self.min_se_s
            && request.has_token("Supported", "timer");
        refuses.then_some(self.min_se_s)
    }

    /// Decides on the timer a request asks for, and writes it into our 2xx (§9).
    pub(super) fn grant(&mut self, now: Now, request: &Fields, response: &mut Fields) {
        if self.mode == Mode::Off {
            return;
        }
        let knows = request.has_token("Supported", "timer") || request.has_token("Require", "timer");
        let asked = request.typed::<SessionExpires>().ok().flatten();
        let (interval, refresher) = match asked {
            Some(asked) if knows => (asked.interval, asked.refresher.unwrap_or(Refresher::Uac)),
            Some(asked) => (asked.interval, Refresher::Uas),
            None if self.mode == Mode::Always && knows => (self.asked_s, Refresher::Uac),
            None if self.mode == Mode::Always => (self.asked_s, Refresher::Uas),
            None => {
                self.running = None;
                return;
            }
        };
        let interval = interval.clamp(SMALLEST_S, LARGEST_S);
        response.put(&SessionExpires { interval, refresher: Some(refresher) });
        if refresher == Refresher::Uac {
            response.push("Require", "timer");
        }
        self.start(now, interval, refresher == Refresher::Uas);
    }

    /// Takes what a 2xx to our request says (§7.2).
    pub(super) fn take(&mut self, now: Now, response: &Fields) {
        match response.typed::<SessionExpires>().ok().flatten() {
            _ if self.mode == Mode::Off => {}
            Some(told) => {
                let ours = told.refresher != Some(Refresher::Uas);
                self.start(now, told.interval.clamp(SMALLEST_S, LARGEST_S), ours);
            }
            None if self.mode == Mode::Always => self.start(now, self.asked_s, true),
            None => self.running = None,
        }
    }

    /// A 422 to our request: asks for more from now on. False if that would be no more than before, or too
    /// much.
    pub(super) fn raise(&mut self, response: &Fields) -> bool {
        let Some(MinSe(least)) = response.typed::<MinSe>().ok().flatten() else { return false };
        let interval = self.running.as_ref().map_or(self.asked_s, |running| running.interval_s);
        if self.mode == Mode::Off || least > LARGEST_S || least <= interval.min(self.asked_s) {
            return false;
        }
        self.min_se_s = self.min_se_s.max(least);
        self.asked_s = self.asked_s.max(least);
        if let Some(running) = &mut self.running {
            running.interval_s = running.interval_s.max(least);
        }
        true
    }

    /// A refresh of ours failed in a way that does not end the session: it is tried again soon.
    pub(super) fn refresh_failed(&mut self, now: Now) {
        if let Some(running) = self.running.as_mut().filter(|running| running.ours) {
            running.refresh_at = Some(now.deadline(RETRY));
        }
    }

    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        Some(running.refresh_at.map_or(running.expires_at, |at| at.min(running.expires_at)))
    }

    /// What is due at this moment; each is told once.
    pub(super) fn due(&mut self, now: Now) -> Option<Due> {
        let running = self.running.as_mut()?;
        if running.expires_at <= now.mono_us {
            self.running = None;
            return Some(Due::Expired);
        }
        if running.refresh_at.is_some_and(|at| at <= now.mono_us) {
            running.refresh_at = None;
            return Some(Due::Refresh);
        }
        None
    }

    fn start(&mut self, now: Now, interval_s: u32, ours: bool) {
        let interval = Duration::from_secs(u64::from(interval_s));
        // §10: the BYE goes out this much before the end.
        let margin = (interval / 3).min(Duration::from_secs(32));
        self.running = Some(Running {
            interval_s,
            ours,
            refresh_at: ours.then(|| now.deadline(interval / 2)),
            expires_at: now.deadline(interval.saturating_sub(margin)),
        });
    }
}

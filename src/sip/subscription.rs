//! A subscription of ours (RFC 6665 §4.1): one line's standing wish to be told what happens to a resource – here its
//! mailbox (RFC 3842).
//!
//! It says what the next SUBSCRIBE holds and when it is due, and draws the conclusions from answers and NOTIFYs. What a
//! notification means is not known here; how a request travels is [`wire`](crate::sip::wire)'s business.

use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::Account;
use crate::sip::dialog::{Dialog, Sequence};
use crate::sip::event_package::SubscriptionState;
use crate::sip::message::{Head, Request, Response};
use crate::sip::message_summary::{MEDIA_TYPE, PACKAGE};
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::retry_after::RetryAfter;
use crate::sip::uri::Uri;

/// What is asked for, in seconds.
const EXPIRES: u32 = 3600;
const MAX_EXPIRES: u32 = 7 * 24 * 3600;
/// What is granted for less is asked for again after this time all the same.
const SHORTEST: Duration = Duration::from_secs(5);
/// The back-off when the server does not answer or can't now.
const BASE: Duration = Duration::from_secs(30);
const CEILING: Duration = Duration::from_secs(1800);
/// A subscription that the server ended is renewed within this time, at random: an office does not return as one.
const RETURN_MS: u32 = 3000;
/// When a server that has no mailbox for us, or none at all, is asked again.
const REFUSED: Duration = Duration::from_secs(3600);
const MAX_INTERVALS: u8 = 3;

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    phase: Phase,
    wanted: bool,
    call_id: String,
    tag: String,
    sequence: Sequence,
    dialog: Option<Dialog>,
    /// The SUBSCRIBE in flight.
    sent: Option<Request>,
    expires: u32,
    intervals: u8,
    failures: u32,
    /// Our Contact that the server was told last.
    contact: String,
    /// When the server granted it first.
    granted_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Off,
    /// A SUBSCRIBE is in flight; `ending` if it ends the subscription.
    InFlight {
        ending: bool,
    },
    Active {
        refresh: u64,
    },
    Waiting {
        until: u64,
    },
}

impl Subscription {
    /// A subscription that has not begun.
    pub fn new(chance: &mut Chance) -> Subscription {
        Subscription {
            phase: Phase::Off,
            wanted: false,
            call_id: chance.token(16),
            tag: chance.token(8),
            sequence: Sequence::new(1),
            dialog: None,
            sent: None,
            expires: EXPIRES,
            intervals: 0,
            failures: 0,
            contact: String::new(),
            granted_at: 0,
        }
    }

    /// Subscribes, or renews what stands if our Contact is another one now. True if [`Subscription::request`] is to be
    /// sent now.
    pub fn start(&mut self, contact: &str) -> bool {
        self.wanted = true;
        let moved = self.contact != contact;
        match self.phase {
            Phase::Off => {}
            Phase::Active { .. } if moved => {}
            _ => return false,
        }
        contact.clone_into(&mut self.contact);
        self.send(false)
    }

    /// Ends it. True if [`Subscription::request`] is to be sent now.
    pub fn stop(&mut self) -> bool {
        self.wanted = false;
        match self.phase {
            Phase::Active { .. } if self.dialog.is_some() => self.send(true),
            // Its answer is waited for.
            Phase::InFlight { .. } => false,
            _ => {
                self.phase = Phase::Off;
                false
            }
        }
    }

    /// Whether the server has it, or may have.
    pub fn may_stand(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. } | Phase::Active { .. })
    }

    fn send(&mut self, ending: bool) -> bool {
        self.phase = Phase::InFlight { ending };
        true
    }

    /// The SUBSCRIBE to send, complete but for Via, Contact and credentials; and the numbers it counts by.
    pub fn request(&mut self, account: &Account) -> (Request, Sequence) {
        let (mut request, sequence) = match &self.dialog {
            Some(dialog) => (dialog.request(Method::SUBSCRIBE), dialog.sequence.clone()),
            None => {
                let aor = || NameAddr::new(Uri::Sip(account.aor.clone()));
                let from = aor().with_display(account.display_name.as_deref()).with_tag(&self.tag);
                let uri = Uri::Sip(account.aor.clone());
                let number = self.sequence.next();
                let request = Request::new(Method::SUBSCRIBE, uri, from, aor(), &self.call_id, number);
                (request, self.sequence.clone())
            }
        };
        let expires = if self.phase == (Phase::InFlight { ending: true }) { 0 } else { self.expires };
        request.fields.push("Event", PACKAGE);
        request.fields.push("Accept", MEDIA_TYPE);
        request.fields.push("Expires", expires.to_string());
        self.sent = Some(request.clone());
        (request, sequence)
    }

    /// The final answer to the SUBSCRIBE in flight. True if another one is to be sent now.
    pub fn handle_response(&mut self, now: Now, response: &Response, chance: &mut Chance) -> bool {
        let Phase::InFlight { ending } = self.phase else { return false };
        let sent = self.sent.take();
        let granted =
            response.fields.number("Expires").ok().flatten().unwrap_or(self.expires).min(MAX_EXPIRES);
        if ending {
            return self.ended(chance);
        }
        match response.status {
            200..300 => {
                if self.dialog.is_none() {
                    self.granted_at = now.mono_us;
                    self.dialog = sent.and_then(|sent| Dialog::from_response(&sent, response));
                } else if let Some(dialog) = &mut self.dialog {
                    dialog.refresh_target(&response.fields);
                }
                (self.failures, self.intervals) = (0, 0);
                if !self.wanted {
                    return if self.dialog.is_some() { self.send(true) } else { self.ended(chance) };
                }
                if granted == 0 {
                    return self.again_after(now, REFUSED, chance);
                }
                self.grant(now, granted, chance);
                false
            }
            _ if !self.wanted => self.ended(chance),
            423 if self.intervals < MAX_INTERVALS => {
                let least = response.fields.number("Min-Expires").ok().flatten().unwrap_or(0);
                if least <= self.expires || least > MAX_EXPIRES {
                    return self.again_after(now, REFUSED, chance);
                }
                self.intervals += 1;
                self.expires = least;
                self.send(false)
            }
            // The server has forgotten it: a new one begins.
            481 if self.dialog.is_some() => {
                self.forget(chance);
                self.send(false)
            }
            408 | 480 | 481 | 500 | 502.. if response.status < 600 => {
                let wish = response.fields.typed::<RetryAfter>().ok().flatten();
                let wish = wish.map(|wish| Duration::from_secs(u64::from(wish.seconds)).min(REFUSED));
                self.back_off(now, wish, chance)
            }
            _ => self.again_after(now, REFUSED, chance),
        }
    }

    /// No answer came.
    pub fn handle_failure(&mut self, now: Now, chance: &mut Chance) {
        match self.phase {
            Phase::InFlight { .. } if self.wanted => drop(self.back_off(now, None, chance)),
            Phase::InFlight { .. } => drop(self.ended(chance)),
            _ => {}
        }
    }

    /// Whether a NOTIFY is meant for this subscription.
    pub fn is_for(&self, head: &Head) -> bool {
        head.call_id == self.call_id && head.to_tag() == Some(self.tag.as_str())
    }

    /// A NOTIFY with our tag has come. It may overtake the 2xx (RFC 6665 §4.1.2.4).
    ///
    /// # Errors
    /// The status to refuse it with: 481 if it belongs to no subscription that stands, 500 if it is out of order.
    pub fn handle_notify(&mut self, now: Now, notify: &Request, chance: &mut Chance) -> Result<(), u16> {
        match &mut self.dialog {
            Some(dialog) if !dialog.matches(&notify.head) => return Err(481),
            Some(dialog) => dialog.check_request(notify).map_err(|_| 500u16)?,
            None if matches!(self.phase, Phase::InFlight { .. }) => {}
            None => return Err(481),
        }
        let Ok(Some(state)) = notify.fields.typed::<SubscriptionState>() else { return Ok(()) };
        match self.phase {
            // What the answer to the SUBSCRIBE in flight says comes after it.
            Phase::InFlight { .. } | Phase::Off | Phase::Waiting { .. } => {}
            Phase::Active { .. } if state.is_terminated() => self.terminated(now, &state, chance),
            Phase::Active { refresh } => {
                if let Some(left) = state.expires {
                    self.grant(now, left.min(MAX_EXPIRES), chance);
                    if let Phase::Active { refresh: sooner } = &mut self.phase {
                        // It may be shortened by a notification, never lengthened.
                        *sooner = refresh.min(*sooner);
                    }
                }
            }
        }
        Ok(())
    }

    /// The server has ended it (RFC 6665 §4.1.3).
    fn terminated(&mut self, now: Now, state: &SubscriptionState, chance: &mut Chance) {
        let wish = state.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)).min(REFUSED));
        match state.reason.as_deref() {
            Some("rejected" | "noresource" | "invariant") => drop(self.again_after(now, REFUSED, chance)),
            Some("probation" | "giveup") => drop(self.back_off(now, wish, chance)),
            _ => {
                // A server that ends each subscription at once shall not be asked all the time.
                let least = if now.since(self.granted_at) < BASE { BASE } else { Duration::ZERO };
                let soon = Duration::from_millis(u64::from(chance.below(RETURN_MS)));
                self.forget(chance);
                self.phase =
                    Phase::Waiting { until: now.deadline(wish.unwrap_or_default().max(least) + soon) };
            }
        }
    }

    fn grant(&mut self, now: Now, seconds: u32, chance: &mut Chance) {
        let refresh = Duration::from_secs_f64(f64::from(seconds) * (0.75 + 0.15 * chance.unit()));
        self.phase = Phase::Active { refresh: now.deadline(refresh.max(SHORTEST)) };
    }

    fn back_off(&mut self, now: Now, wish: Option<Duration>, chance: &mut Chance) -> bool {
        self.failures = self.failures.saturating_add(1);
        let doubled = (BASE * 2u32.saturating_pow(self.failures.min(10) - 1)).min(CEILING);
        self.again_after(now, wish.unwrap_or(doubled), chance)
    }

    /// Begins anew after about this time.
    fn again_after(&mut self, now: Now, wait: Duration, chance: &mut Chance) -> bool {
        self.forget(chance);
        self.phase = Phase::Waiting { until: now.deadline(wait.mul_f64(1.0 + 0.25 * chance.unit())) };
        false
    }

    /// The end that was asked for has come; meanwhile somebody may want it again.
    fn ended(&mut self, chance: &mut Chance) -> bool {
        self.forget(chance);
        self.phase = Phase::Off;
        self.wanted && self.send(false)
    }

    /// The dialog is gone: what comes next is another subscription, under other names.
    fn forget(&mut self, chance: &mut Chance) {
        self.dialog = None;
        self.call_id = chance.token(16);
        self.tag = chance.token(8);
        self.sequence = Sequence::new(1);
        self.intervals = 0;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Active { refresh: due } | Phase::Waiting { until: due } => Some(due),
            Phase::Off | Phase::InFlight { .. } => None,
        }
    }

    /// A deadline may have come. True if [`Subscription::request`] is to be sent now.
    pub fn handle_timeout(&mut self, now: Now) -> bool {
        self.poll_timeout().is_some_and(|due| due <= now.mono_us) && self.send(false)
    }
}

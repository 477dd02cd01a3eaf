//! A flow of a line (RFC 5626 §4.2): an account at the user agent, how its registration stands, and whether the second
//! one is wanted.

use std::time::Duration;

use super::line::cure;
use super::reach::Reach;
use super::snapshot::FlowView;
use crate::chance::Chance;
use crate::now::Now;
use crate::sip::handle::AccountId;
use crate::sip::registration::RegistrationState;
use crate::sip::user_agent::UserAgent;

/// The number (`reg-id`) of the flow by the first proxy, or by none.
pub(super) const FIRST: u8 = 1;
/// That of the flow by the second proxy.
pub(super) const SECOND: u8 = 2;

/// What it means that a server's proof is wrong, and what to do.
pub(super) const UNPROVEN: &str = "the server proves another password (rspauth); \
                                   compare the passwords of both sides, or use transport \"tls\"";

pub(super) struct Flow {
    pub number: u8,
    pub account: AccountId,
    pub state: RegistrationState,
    /// When the registration was granted last.
    granted: Option<Now>,
    /// Whether its server proved a wrong password last.
    pub unproven: bool,
    /// What the credentials were refused with.
    pub refused: Option<String>,
    /// Whether it is to be registered.
    wanted: bool,
    /// It was registered as a second binding, not as a flow beside the first one.
    apart: bool,
    /// When the second one begins, unless the first one is answered before.
    pub due: Option<u64>,
}

/// A first proxy that does not answer for this time is not waited for, …
const PATIENCE: Duration = Duration::from_secs(4);
/// … and by chance up to this much longer, so that an office does not turn to the second one in step.
const MORE_PATIENCE: Duration = Duration::from_secs(3);

impl Flow {
    pub fn new(number: u8, account: AccountId) -> Flow {
        let wanted = number == FIRST;
        let state = if wanted { RegistrationState::Registering } else { RegistrationState::Unregistered };
        let (granted, unproven, refused, apart, due) = (None, false, None, false, None);
        Flow { number, account, state, granted, unproven, refused, wanted, apart, due }
    }

    pub fn is_registered(&self) -> bool {
        matches!(self.state, RegistrationState::Registered { .. })
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub fn handle_state(&mut self, now: Now, state: &RegistrationState) {
        self.state = state.clone();
        if self.is_registered() {
            self.granted = Some(now);
            self.refused = None;
        }
    }

    /// Its settings are others: what was said about the old ones is void.
    pub fn handle_settings(&mut self, agent: &UserAgent) {
        (self.refused, self.unproven, self.apart) = (None, false, false);
        if let Some(state) = agent.registration_state(self.account) {
            self.state = state.clone();
        }
        self.wanted &= self.number == FIRST || !matches!(self.state, RegistrationState::Unregistered);
    }

    /// The first flow waits for an answer: this one does not wait for ever.
    pub fn stand_in_later(&mut self, now: Now, chance: &mut Chance) {
        let wait = PATIENCE + MORE_PATIENCE.mul_f64(chance.unit());
        self.due.get_or_insert(now.deadline(wait));
    }

    /// Whether this flow, the second one, is to begin or to end beside the first one. It is there while the registrar tells
    /// flows apart – else one call would ring twice – and while the first one can't be registered. `lost`: that one does not
    /// answer any more.
    pub fn decide(&mut self, now: Now, first: &Flow, lost: bool, agent: &UserAgent) -> Option<bool> {
        let overdue = self.due.take_if(|due| *due <= now.mono_us).is_some();
        let wanted = match &first.state {
            RegistrationState::Registered { .. } if lost => self.wanted || overdue,
            RegistrationState::Registering => self.wanted || overdue,
            RegistrationState::Registered { .. } => {
                self.due = None;
                self.apart |= self.is_registered() && !agent.is_outbound(self.account);
                agent.is_outbound(first.account) && !self.apart
            }
            // Whom the registrar does not let in by one way it does not let in by another.
            RegistrationState::Failing { status: Some(401 | 403 | 407), .. } => self.wanted,
            RegistrationState::Failing { .. } => {
                self.apart = false;
                true
            }
            RegistrationState::Rejected { .. } => self.wanted,
            RegistrationState::Unregistered => false,
        };
        if std::mem::replace(&mut self.wanted, wanted) == wanted {
            return None;
        }
        if wanted {
            self.state = RegistrationState::Registering;
        }
        Some(wanted)
    }

    /// What is wrong with it, if something is.
    pub fn trouble(&self) -> Option<String> {
        match &self.state {
            RegistrationState::Failing { reason, .. } => Some(format!("{reason}; it is tried again")),
            RegistrationState::Rejected { status, reason } => {
                Some(format!("the PBX refuses it ({status} {reason}); {}", cure(*status)))
            }
            _ => None,
        }
    }

    /// What people see; `registers`: whether the line does.
    pub fn view(&self, now: Now, registers: bool, agent: &UserAgent, reach: &Reach) -> FlowView {
        let (state, reason) = match &self.state {
            _ if !registers => ("off", None),
            RegistrationState::Registering => ("registering", None),
            RegistrationState::Registered { .. } => {
                ("registered", self.unproven.then(|| UNPROVEN.to_owned()))
            }
            RegistrationState::Failing { reason, .. } => ("retrying", Some(reason.clone())),
            RegistrationState::Rejected { status, reason } => {
                ("rejected", Some(format!("{status} {reason}")))
            }
            RegistrationState::Unregistered if self.number != FIRST => ("standby", None),
            RegistrationState::Unregistered => ("unregistered", None),
        };
        let expires_s = match (&self.state, self.granted) {
            (RegistrationState::Registered { expires, .. }, Some(granted)) => {
                Some(expires.saturating_sub(now.since(granted.mono_us)).as_secs())
            }
            _ => None,
        };
        let kept = reach.kept(now, self.account);
        FlowView {
            number: self.number,
            state,
            reason: self.refused.clone().or(reason),
            via: agent.server(self.account).map(|(transport, address)| format!("{transport}:{address}")),
            keep_alive: kept.way,
            keep_alive_s: kept.every.map(|every| (every.as_secs_f64() * 10.0).round() / 10.0),
            heard_s: kept.heard.map(|heard| heard.as_secs()),
            expires_s,
        }
    }
}

//! Which of its transports a line uses: the first one of its list that its registrar answers over, the one that did last
//! before all others, and the way back to a preferred one.
//!
//! A firewall lets through what it likes, and changes its mind. While the line is registered over a transport further down
//! its list, the better ones are asked from time to time, by OPTIONS, of which any answer counts. When one has answered
//! twice the line moves there, but not while it has a call. Each way back that leads to nothing doubles the time to the
//! next, so that a bad network makes no line flap.

use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::Account;
use crate::sip::dialog::Sequence;
use crate::sip::exchange::{Owner, Phase, Way};
use crate::sip::handle::{AccountId, RequestId};
use crate::sip::locate::{Located, Target};
use crate::sip::message::Request;
use crate::sip::method::Method;
use crate::sip::name_addr::NameAddr;
use crate::sip::network::Transport;
use crate::sip::registration::RegistrationState;
use crate::sip::uri::Uri;
use crate::sip::wire::Wire;

/// Until better transports are asked for the first time, and the longest that it comes to.
const REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(1800);
/// The same where the machine has another network than before.
const NEW_NETWORK: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// Until what has answered once is asked again.
const CONFIRM: Duration = Duration::from_secs(10);
/// Until a look that could not be taken now is tried again.
const LATER: Duration = Duration::from_secs(2);
/// A transport that held for so long after a return is as good as any.
const HELD: Duration = Duration::from_secs(600);

/// The choice among the transports of one line.
#[derive(Debug)]
pub(crate) struct TransportChoice {
    /// In the order of preference.
    list: Vec<Transport>,
    /// The one that the registrar answered over last.
    working: Option<Transport>,
    state: State,
    /// Ways back in a row that led to nothing.
    strikes: u32,
    returned_at: Option<u64>,
}

#[derive(Debug)]
enum State {
    /// What works is the best, or nothing has worked yet.
    Settled,
    /// Better ones are asked at this time.
    Resting { until: u64 },
    /// OPTIONS is out to a better one; `left` are to be asked if it is silent.
    Asking { until: u64, request: RequestId, target: Target, left: Vec<Target>, confirming: bool },
    /// It has answered, and is asked once more at this time.
    Confirming { at: u64, target: Target },
    /// It is there; the line moves when it has no call.
    Ready(Target),
    /// The next REGISTER goes there first.
    Returning(Transport),
}

impl TransportChoice {
    pub fn new(account: &Account) -> TransportChoice {
        TransportChoice {
            list: account.transports.clone(),
            working: account.last_transport.filter(|last| account.transports.contains(last)),
            state: State::Settled,
            strikes: 0,
            returned_at: None,
        }
    }

    /// The line has other settings.
    pub fn reconfigure(&mut self, account: &Account) {
        if self.list != account.transports {
            let last_transport = self.working.or(account.last_transport);
            *self = TransportChoice::new(&Account { last_transport, ..account.clone() });
        }
    }

    /// The transport that a REGISTER tries first.
    pub fn first(&self) -> Option<Transport> {
        match &self.state {
            State::Returning(transport) => Some(*transport),
            _ => self.working,
        }
    }

    /// Whether a REGISTER that gets no answer over it soon goes on to the next one: nothing says yet that it gets
    /// through.
    pub fn hurries(&self, transport: Transport) -> bool {
        self.list.len() > 1 && self.working != Some(transport)
    }

    fn rank(&self, transport: Transport) -> usize {
        self.list.iter().position(|one| *one == transport).unwrap_or(self.list.len())
    }

    fn rest(&mut self, now: Now, chance: &mut Chance) {
        let rest = (REST * 2u32.saturating_pow(self.strikes)).min(LONGEST_REST);
        self.state = State::Resting { until: now.deadline(rest.mul_f64(0.75 + 0.5 * chance.unit())) };
    }

    fn strike(&mut self) {
        self.strikes = (self.strikes + 1).min(8);
    }

    /// The registrar has answered 200 over this transport. True if the line has returned to it.
    pub fn handle_registered(&mut self, now: Now, transport: Transport, chance: &mut Chance) -> bool {
        let returned = matches!(self.state, State::Returning(wanted) if wanted == transport);
        let held = self.returned_at.is_none_or(|at| now.since(at) >= HELD);
        match self.state {
            State::Returning(wanted) if wanted == transport => self.returned_at = Some(now.mono_us),
            State::Returning(_) => self.strike(),
            // It broke down again soon after the return.
            _ if !held && self.working.is_some_and(|old| self.rank(old) < self.rank(transport)) => {
                self.strike()
            }
            _ if held => self.returned_at = None,
            _ => {}
        }
        self.working = Some(transport);
        if self.rank(transport) == 0 || self.list.len() < 2 {
            self.state = State::Settled;
            if held && self.returned_at.is_none() {
                self.strikes = 0;
            }
        } else if matches!(self.state, State::Settled | State::Returning(_)) {
            self.rest(now, chance);
        }
        returned
    }

    /// The machine has another network: what did not get through may do so now.
    pub fn handle_network_changed(&mut self, now: Now) {
        self.strikes = 0;
        if !matches!(self.state, State::Settled | State::Returning(_)) {
            self.state = State::Resting { until: now.deadline(NEW_NETWORK) };
        }
    }

    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Resting { until } | State::Asking { until, .. } => Some(until),
            State::Confirming { at, .. } => Some(at),
            State::Settled | State::Ready(_) | State::Returning(_) => None,
        }
    }

    /// Whether it only waits for the end of the line's calls.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }
}

impl Wire {
    /// Deadlines of the line's choice may have come.
    pub(crate) fn handle_choice_timeout(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        if line.choice.poll_timeout().is_none_or(|due| due > now.mono_us) {
            return;
        }
        match std::mem::replace(&mut line.choice.state, State::Settled) {
            State::Resting { .. } => self.look_for_better(now, account),
            State::Confirming { target, .. } => self.ask_transport(now, account, target, Vec::new(), true),
            State::Asking { request, left, .. } => {
                if let Some(Phase::Sent { branch, .. }) = self.exchanges.remove(&request).map(|one| one.phase)
                {
                    self.transactions.abandon(&branch, &Method::OPTIONS);
                }
                self.finish(request);
                self.transport_silent(now, account, left);
            }
            state => line.choice.state = state,
        }
    }

    /// Begins to ask the transports that are better than what works.
    fn look_for_better(&mut self, now: Now, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        let registered = matches!(line.registration.state(), RegistrationState::Registered { .. });
        let located = registered.then(|| self.locator.locate(now, &line.destination()));
        let Some(Located::Here(targets)) = located else {
            line.choice.state = State::Resting { until: now.deadline(LATER) };
            return;
        };
        let rank = |transport: Transport| line.choice.rank(transport);
        let working = line.choice.working.map_or(usize::MAX, rank);
        let mut better: Vec<Target> =
            targets.into_iter().filter(|one| rank(one.transport) < working).collect();
        crate::order::sort_by_key(&mut better, |one| rank(one.transport));
        // One server of each is enough: they share the way.
        better.dedup_by_key(|one| one.transport);
        if better.is_empty() {
            line.choice.rest(now, &mut self.chance);
            return;
        }
        let first = better.remove(0);
        self.ask_transport(now, account, first, better, false);
    }

    fn ask_transport(
        &mut self,
        now: Now,
        account: AccountId,
        target: Target,
        left: Vec<Target>,
        confirming: bool,
    ) {
        let (tag, call_id) = (self.new_tag(), self.new_call_id());
        let Some(line) = self.lines.get(&account) else { return };
        let registrar = line.account.registrar_uri();
        let from = NameAddr::new(Uri::Sip(line.account.aor.clone())).with_tag(&tag);
        let to = NameAddr::new(registrar.clone());
        let request = Request::new(Method::OPTIONS, registrar, from, to, &call_id, 1);
        let way = Way::Server(target.clone());
        let request = self.begin(now, Owner::Transport, account, request, &Sequence::new(2), way);
        let until = now.deadline(PATIENCE);
        if let Some(line) = self.lines.get_mut(&account) {
            line.choice.state = State::Asking { until, request, target, left, confirming };
        }
    }

    /// What came of an OPTIONS of [`Owner::Transport`]: whether somebody answers there.
    pub(crate) fn handle_transport_asked(
        &mut self,
        now: Now,
        account: AccountId,
        asked: RequestId,
        answers: bool,
    ) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        if !matches!(line.choice.state, State::Asking { request, .. } if request == asked) {
            return;
        }
        match std::mem::replace(&mut line.choice.state, State::Settled) {
            State::Asking { target, confirming, .. } if answers => {
                line.choice.state = if confirming {
                    State::Ready(target)
                } else {
                    State::Confirming { at: now.deadline(CONFIRM), target }
                };
            }
            State::Asking { left, .. } => self.transport_silent(now, account, left),
            state => line.choice.state = state,
        }
    }

    fn transport_silent(&mut self, now: Now, account: AccountId, mut left: Vec<Target>) {
        if !left.is_empty() {
            let next = left.remove(0);
            return self.ask_transport(now, account, next, left, false);
        }
        if let Some(line) = self.lines.get_mut(&account) {
            line.choice.strike();
            line.choice.rest(now, &mut self.chance);
        }
    }

    /// Moves the lines whose better transport is there and that have no call.
    pub(crate) fn return_to_better(&mut self, now: Now, is_busy: impl Fn(AccountId) -> bool) {
        let ready = self.lines.iter().filter(|(id, line)| line.choice.is_ready() && !is_busy(**id));
        let ready: Vec<AccountId> = ready.map(|(id, _)| *id).collect();
        for account in ready {
            let Some(line) = self.lines.get_mut(&account) else { continue };
            if line.registration.is_in_flight() || !line.registration.is_wanted() {
                continue;
            }
            if let State::Ready(target) = std::mem::replace(&mut line.choice.state, State::Settled) {
                line.choice.state = State::Returning(target.transport);
                let destination = line.destination();
                let step = line.registration.register();
                self.locator.mark_good(&destination, target.transport, target.remote);
                self.follow(now, account, vec![step]);
            }
        }
    }
}

#[cfg(test)]
#[path = "transport_choice_tests.rs"]
mod tests;

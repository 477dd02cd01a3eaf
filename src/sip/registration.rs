//! Registration (RFC 3261 §10) with Path (RFC 3327) and Service-Route (RFC 3608): one line's binding at its
//! registrar.
//!
//! It says what the next REGISTER holds and when it is due, and draws the conclusions from its answer. How
//! the request travels, which server gets it and how a challenge is answered belongs to
//! [`wire`](crate::sip::wire); the numbers of challenges it counts are told to it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::chance::Chance;
use crate::now::Now;
use crate::sip::account::Account;
use crate::sip::authentication::Unauthorized;
use crate::sip::dialog::Sequence;
use crate::sip::message::{Request, Response};
use crate::sip::method::Method;
use crate::sip::name_addr::{Contacts, NameAddr};
use crate::sip::outbound::Outbound;
use crate::sip::retry_after::RetryAfter;
use crate::sip::ua_event::Failure;
use crate::sip::uri::Uri;

/// What is known of a line's registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistrationState {
    /// The first REGISTER is on its way.
    Registering,
    /// The registrar has our binding.
    Registered {
        /// How long it granted.
        expires: Duration,
        /// All bindings of the address of record, as the registrar told them.
        contacts: Vec<String>,
        /// The proxies that requests of the line must pass (RFC 3608).
        service_route: Vec<String>,
        /// Our Contact URI. Whoever keeps it over a restart gives it back in `Account::old_bindings`.
        binding: String,
    },
    /// It did not work, and is tried again by itself.
    Failing {
        /// Why, for people, with what to do.
        reason: String,
        /// The status of the answer, if there was one.
        status: Option<u16>,
        /// When it is tried again (µs of the monotonic clock).
        retry_at: u64,
    },
    /// The registrar does not want us: nothing is tried until somebody says so.
    Rejected {
        /// The status of the answer.
        status: u16,
        /// Why, for people, with what to do.
        reason: String,
    },
    /// There is no binding, as wished.
    Unregistered,
}

/// What the machine asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send [`Registration::request`] now.
    Send,
    /// Tell the new state.
    Tell,
    /// Nothing to do now.
    Nothing,
}

/// One line's registration.
#[derive(Debug)]
pub struct Registration {
    state: RegistrationState,
    phase: Phase,
    wanted: bool,
    call_id: String,
    tag: String,
    sequence: Sequence,
    expires: u32,
    redirects: Vec<Uri>,
    redirections: u8,
    intervals: u8,
    /// Our Contact in the request in flight.
    sent: Option<NameAddr>,
    /// Our Contact as the registrar has it.
    bound: Option<NameAddr>,
    /// The same as the registrar wrote it down, if that is another one: where it saw us, instead of where we are.
    noted: Option<Uri>,
    /// Contacts of ours that the registrar may still have and that must go.
    stale: Vec<Uri>,
    drop_stale: bool,
    /// Room was made after a 403.
    made_room: bool,
    failures: u32,
    refused: u32,
    service_route: Vec<NameAddr>,
    outbound: Outbound,
    /// Another flow of the same line stands.
    relieved: bool,
    public: Option<SocketAddr>,
    moves: u8,
    again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A REGISTER is in flight; `removing` if it takes the binding back.
    InFlight {
        removing: bool,
    },
    Waiting {
        until: u64,
    },
    Registered {
        refresh: u64,
    },
}

/// The back-off of RFC 5626 §4.5: base, that of a flow whose line has another one that stands, and ceiling.
const BASE: Duration = Duration::from_secs(30);
const RELIEVED_BASE: Duration = Duration::from_secs(90);
const CEILING: Duration = Duration::from_secs(1800);
/// The first retry comes within this time, at random, so that an office does not return as one.
const FIRST_RETRY_MS: u32 = 3000;
/// How long a refused password is left alone after the second refusal: fail2ban locks the whole office
/// otherwise.
const REFUSED: Duration = Duration::from_secs(600);
const MAX_REFUSED: u32 = 2;
/// A wish to come back later than this is not believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
const MAX_EXPIRES: u32 = 7 * 24 * 3600;
const MAX_STALE: usize = 4;
const MAX_REDIRECTIONS: u8 = 3;
const MAX_INTERVALS: u8 = 3;
/// The address that the registrar sees may move this often in a row before it is left as it is.
const MAX_MOVES: u8 = 3;

impl Registration {
    /// A registration that has not begun.
    pub fn new(account: &Account, chance: &mut Chance) -> Registration {
        let stale = account.old_bindings.iter().filter_map(|uri| Uri::parse(uri).ok());
        Registration {
            state: RegistrationState::Unregistered,
            phase: Phase::Idle,
            wanted: false,
            call_id: chance.token(16),
            tag: chance.token(8),
            sequence: Sequence::new(1),
            expires: seconds(account.expires),
            redirects: Vec::new(),
            redirections: 0,
            intervals: 0,
            sent: None,
            bound: None,
            noted: None,
            stale: stale.take(MAX_STALE).collect(),
            drop_stale: false,
            made_room: false,
            failures: 0,
            refused: 0,
            service_route: Vec::new(),
            outbound: Outbound::new(account.instance.clone(), account.reg_id),
            relieved: false,
            public: None,
            moves: 0,
            again: false,
        }
    }

    /// What is known of it.
    pub fn state(&self) -> &RegistrationState {
        &self.state
    }

    /// The proxies of RFC 3608 for requests of the line.
    pub fn service_route(&self) -> &[NameAddr] {
        &self.service_route
    }

    /// What was agreed on about flows and GRUUs.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The address that the registrar sees us at, if it is not ours.
    pub fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    /// The registrar has come to see us at another address.
    pub fn set_public(&mut self, seen: SocketAddr) {
        self.public = Some(seen);
    }

    /// What is asked for from the next REGISTER on.
    pub fn set_expires(&mut self, expires: Duration) {
        self.expires = seconds(expires);
    }

    /// Our Contact URI as the registrar has it.
    pub fn binding(&self) -> Option<&Uri> {
        self.bound.as_ref().map(|contact| &contact.uri)
    }

    /// Whether another flow of the same line stands: nobody waits for this one then.
    pub fn set_relieved(&mut self, relieved: bool) {
        self.relieved = relieved;
    }

    /// Whether it is meant to be registered: not taken back, and not rejected.
    pub fn is_wanted(&self) -> bool {
        self.wanted && !matches!(self.state, RegistrationState::Rejected { .. })
    }

    /// Whether the registrar has a binding of ours, or may have.
    pub fn may_be_bound(&self) -> bool {
        self.bound.is_some() || matches!(self.phase, Phase::InFlight { .. })
    }

    /// Whether a REGISTER waits for its answer.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. })
    }

    /// The counter of its CSeq numbers.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Registers now, or once more now, whatever went before.
    pub fn register(&mut self) -> Step {
        self.wanted = true;
        self.failures = 0;
        self.refused = 0;
        self.redirects.clear();
        if matches!(self.phase, Phase::InFlight { .. }) {
            self.again = true;
            return Step::Nothing;
        }
        if !matches!(self.state, RegistrationState::Registered { .. }) {
            self.state = RegistrationState::Registering;
        }
        self.send(false)
    }

    /// Registers now in place of a REGISTER whose answer is no longer waited for.
    pub fn restart(&mut self) -> Step {
        self.phase = Phase::Idle;
        self.again = false;
        self.register()
    }

    /// Registers now if that waits only because nobody answered; `found`: somebody has answered since.
    pub fn retry(&mut self, found: bool) -> Step {
        match (self.phase, &self.state) {
            (Phase::Waiting { .. }, RegistrationState::Failing { status: None, .. }) => {
                self.failures = if found { 0 } else { self.failures };
                self.send(false)
            }
            _ => Step::Nothing,
        }
    }

    /// Takes the binding back. `Tell` if there is none.
    pub fn unregister(&mut self) -> Step {
        self.wanted = false;
        match self.phase {
            Phase::InFlight { .. } => Step::Nothing,
            _ if self.bound.is_some() => self.send(true),
            _ => {
                self.phase = Phase::Idle;
                self.state = RegistrationState::Unregistered;
                Step::Tell
            }
        }
    }

    fn send(&mut self, removing: bool) -> Step {
        self.phase = Phase::InFlight { removing };
        self.intervals = 0;
        self.redirections = 0;
        self.drop_stale = false;
        self.made_room = false;
        Step::Send
    }

    /// The REGISTER to send: complete but for Via, Contact (see [`contacts`](Self::contacts)) and
    /// credentials.
    pub fn request(&mut self, account: &Account) -> Request {
        let uri = self.redirects.first().cloned().unwrap_or_else(|| account.registrar_uri());
        let aor =
            || NameAddr::new(Uri::Sip(account.aor.clone())).with_display(account.display_name.as_deref());
        let from = aor().with_tag(&self.tag);
        let number = self.sequence.next();
        let mut request = Request::new(Method::REGISTER, uri, from, aor(), &self.call_id, number);
        request.fields.push("Supported", self.outbound.supported());
        let expires = if self.is_removing() { 0 } else { self.expires };
        request.fields.push("Expires", expires.to_string());
        request
    }

    /// Where a redirection sent us, if it did.
    pub fn redirect(&self) -> Option<&Uri> {
        self.redirects.first()
    }

    fn is_removing(&self) -> bool {
        self.phase == Phase::InFlight { removing: true }
    }

    /// The Contact values of the REGISTER in flight, given what our Contact is on the flow it takes.
    pub fn contacts(&mut self, own: NameAddr) -> Vec<NameAddr> {
        let own = self.outbound.own(own);
        if self.is_removing() {
            let bound = self.bound.clone().unwrap_or(own);
            self.sent = Some(bound.clone());
            return vec![with_expires(bound, 0)];
        }
        if let Some(bound) = &self.bound
            && bound.uri != own.uri
        {
            push_stale(&mut self.stale, bound.uri.clone());
            if let Some(noted) = self.noted.take() {
                push_stale(&mut self.stale, noted);
            }
        }
        // A registrar may write our own otherwise (`transport=TCP`): removed by that name, it would be gone all the same.
        self.stale.retain(|uri| !uri.equivalent(&own.uri));
        self.sent = Some(own.clone());
        // Ours comes first: a PBX that puts the address it sees into a Contact does so in the first one only.
        let mut contacts = vec![with_expires(own, self.expires)];
        if !self.drop_stale {
            contacts.extend(self.stale.iter().map(|uri| with_expires(NameAddr::new(uri.clone()), 0)));
        }
        contacts
    }

    /// The final answer to the REGISTER in flight. 401 and 407 come by
    /// [`handle_unauthorized`](Self::handle_unauthorized). `seen` is the address that the registrar saw us
    /// at, if it told and it counts.
    pub fn handle_response(
        &mut self,
        now: Now,
        response: &Response,
        seen: Option<SocketAddr>,
        chance: &mut Chance,
    ) -> Vec<Step> {
        let Phase::InFlight { removing } = self.phase else {
            return Vec::new();
        };
        if removing {
            return self.removed();
        }
        match response.status {
            200..300 => self.accepted(now, response, seen, chance),
            300..400 => self.redirected(now, response, chance),
            439 if self.outbound.refuse() => vec![Step::Send],
            423 => self.too_brief(now, response, chance),
            403 if self.bound.is_some() => self.forbidden_suddenly(now, seen, chance),
            403 => self.reject(
                403,
                "the registrar forbids this line (403); ask its operator, then register the line again",
            ),
            // Some registrars can't take two contacts at once; better the old one stays than none is there.
            400 | 420 | 500 if !self.stale.is_empty() && !self.drop_stale => {
                self.drop_stale = true;
                vec![Step::Send]
            }
            status => {
                let wish = response.fields.typed::<RetryAfter>().ok().flatten();
                let wish = wish.map(|wish| Duration::from_secs(u64::from(wish.seconds)).min(MAX_RETRY_AFTER));
                let reason = format!("the registrar answered {status} {}", response.reason);
                self.fail(now, reason, Some(status), wish, chance)
            }
        }
    }

    /// A challenge could not be answered (again).
    pub fn handle_unauthorized(
        &mut self,
        now: Now,
        status: u16,
        why: &Unauthorized,
        chance: &mut Chance,
    ) -> Vec<Step> {
        let Phase::InFlight { removing } = self.phase else {
            return Vec::new();
        };
        if removing {
            return self.removed();
        }
        self.refused += 1;
        // Without an answer of ours nothing was tried, and another try would tell nothing new.
        let tried = matches!(why, Unauthorized::Refused { .. });
        let wish = (!tried || self.refused >= MAX_REFUSED).then_some(REFUSED);
        self.fail(now, why.explain(), Some(status), wish, chance)
    }

    /// No answer came.
    pub fn handle_failure(&mut self, now: Now, failure: &Failure, chance: &mut Chance) -> Vec<Step> {
        match self.phase {
            Phase::InFlight { removing: true } => self.removed(),
            Phase::InFlight { removing: false } => self.fail(now, failure.to_string(), None, None, chance),
            _ => Vec::new(),
        }
    }

    /// The connection that the line is registered over has gone.
    pub fn handle_flow_lost(&mut self, now: Now, why: &str, chance: &mut Chance) -> Vec<Step> {
        match self.phase {
            Phase::Registered { .. } => {
                self.fail(now, format!("the connection to the registrar was lost: {why}"), None, None, chance)
            }
            _ => Vec::new(),
        }
    }

    fn accepted(
        &mut self,
        now: Now,
        response: &Response,
        seen: Option<SocketAddr>,
        chance: &mut Chance,
    ) -> Vec<Step> {
        let contacts = match response.fields.contacts() {
            Ok(Some(Contacts::List(list))) => list,
            _ => Vec::new(),
        };
        let Some(sent) = self.sent.clone() else {
            return Vec::new();
        };
        let granted = self.granted(&contacts, &sent, response);
        if granted == 0 {
            let reason = "the registrar answered 200 but keeps no binding of ours".to_owned();
            return self.fail(now, reason, Some(response.status), None, chance);
        }
        self.outbound.handle_granted(response, ours(&contacts, &sent));
        self.bound = Some(sent.clone());
        self.noted = noted(&contacts, &sent);
        if !self.drop_stale {
            self.stale.clear();
        }
        self.failures = 0;
        self.refused = 0;
        self.service_route = response.fields.name_addrs("Service-Route").unwrap_or_default();
        self.service_route.truncate(16);
        self.state = RegistrationState::Registered {
            expires: Duration::from_secs(u64::from(granted)),
            contacts: contacts.iter().map(|contact| contact.uri.to_string()).collect(),
            service_route: self.service_route.iter().map(ToString::to_string).collect(),
            binding: sent.uri.to_string(),
        };
        // A short grant leaves less room for a lost refresh, so it is refreshed earlier in proportion.
        let share = if granted < 120 { 0.5 + 0.25 * chance.unit() } else { 0.75 + 0.15 * chance.unit() };
        let refresh = Duration::from_secs_f64((f64::from(granted) * share).max(0.5));
        self.phase = Phase::Registered { refresh: now.deadline(refresh) };
        if !self.wanted {
            return vec![self.send(true)];
        }
        let moved = seen != self.public;
        self.moves = if moved { self.moves + 1 } else { 0 };
        if (moved && self.moves <= MAX_MOVES) || std::mem::take(&mut self.again) {
            self.public = seen;
            return vec![Step::Tell, self.send(false)];
        }
        vec![Step::Tell]
    }

    /// What the answer grants: to our own contact; else, where an ALG or the registrar rewrote it, to the one
    /// with our user; else what it says for all; else what was asked for.
    fn granted(&self, contacts: &[NameAddr], sent: &NameAddr, response: &Response) -> u32 {
        let ours = ours(contacts, sent);
        let general = response.fields.number("Expires").ok().flatten();
        let named = ours.and_then(NameAddr::expires);
        named
            .or(general)
            .or_else(|| contacts.iter().filter_map(NameAddr::expires).min())
            .unwrap_or(self.expires)
            .min(MAX_EXPIRES)
    }

    fn redirected(&mut self, now: Now, response: &Response, chance: &mut Chance) -> Vec<Step> {
        self.redirections += 1;
        let contacts = match response.fields.contacts() {
            Ok(Some(Contacts::List(list))) => list,
            _ => Vec::new(),
        };
        // Of those that are preferred alike the first, which is the last one from the end.
        let usable = contacts.into_iter().rev().filter(|contact| contact.uri.as_sip().is_some());
        match usable.max_by_key(|contact| contact.q()).map(|contact| contact.uri) {
            Some(target) if self.redirections <= MAX_REDIRECTIONS => {
                self.redirects = vec![target];
                vec![Step::Send]
            }
            _ => {
                self.redirects.clear();
                let reason = format!("the registrar sends us elsewhere ({}) and no further", response.status);
                self.fail(now, reason, Some(response.status), None, chance)
            }
        }
    }

    fn too_brief(&mut self, now: Now, response: &Response, chance: &mut Chance) -> Vec<Step> {
        self.intervals += 1;
        let least = response.fields.number("Min-Expires").ok().flatten().unwrap_or(0);
        if self.intervals > MAX_INTERVALS || least <= self.expires || least > MAX_EXPIRES {
            let reason =
                "the registrar finds the interval too brief (423) but names no better one".to_owned();
            return self.fail(now, reason, Some(423), None, chance);
        }
        self.expires = least;
        vec![Step::Send]
    }

    /// 403 to a line that was registered: its password is right, but its list of contacts is full, with an address
    /// of ours that a NAT box has changed meanwhile. The old one makes room for the one that was just seen.
    fn forbidden_suddenly(&mut self, now: Now, seen: Option<SocketAddr>, chance: &mut Chance) -> Vec<Step> {
        if !std::mem::replace(&mut self.made_room, true) {
            self.public = seen;
            return vec![Step::Send];
        }
        let reason = "the registrar forbids this line (403), which it had before: the PBX's list of contacts of \
                      this account is full, or the device has been blocked; have its old contacts removed";
        self.fail(now, reason.to_owned(), Some(403), Some(REFUSED), chance)
    }

    fn reject(&mut self, status: u16, reason: &str) -> Vec<Step> {
        self.phase = Phase::Idle;
        self.again = false;
        self.state = RegistrationState::Rejected { status, reason: reason.to_owned() };
        vec![Step::Tell]
    }

    fn fail(
        &mut self,
        now: Now,
        reason: String,
        status: Option<u16>,
        wish: Option<Duration>,
        chance: &mut Chance,
    ) -> Vec<Step> {
        self.redirects.clear();
        self.service_route.clear();
        self.outbound.handle_lost();
        if !self.wanted {
            self.bound = None;
            return self.removed();
        }
        if std::mem::take(&mut self.again) {
            return vec![self.send(false)];
        }
        self.failures = self.failures.saturating_add(1);
        let jitter = Duration::from_millis(u64::from(chance.below(FIRST_RETRY_MS)));
        let wait = match wish {
            Some(wish) => wish + jitter,
            None if self.failures == 1 => jitter,
            None => {
                let base = if self.relieved { RELIEVED_BASE } else { BASE };
                let ceiling = (base * 2u32.saturating_pow(self.failures.min(10) - 2)).min(CEILING);
                ceiling.mul_f64(0.5 + 0.5 * chance.unit())
            }
        };
        let retry_at = now.deadline(wait);
        self.phase = Phase::Waiting { until: retry_at };
        self.state = RegistrationState::Failing { reason, status, retry_at };
        vec![Step::Tell]
    }

    fn removed(&mut self) -> Vec<Step> {
        self.phase = Phase::Idle;
        self.bound = None;
        self.service_route.clear();
        self.outbound.handle_lost();
        self.state = RegistrationState::Unregistered;
        if self.wanted {
            self.again = false;
            self.state = RegistrationState::Registering;
            return vec![self.send(false)];
        }
        vec![Step::Tell]
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Registered { refresh } => Some(refresh),
            Phase::Idle | Phase::InFlight { .. } => None,
        }
    }

    /// A deadline may have come.
    pub fn handle_timeout(&mut self, now: Now) -> Step {
        match self.phase {
            Phase::Waiting { until: due } | Phase::Registered { refresh: due } if due <= now.mono_us => {
                self.send(false)
            }
            _ => Step::Nothing,
        }
    }
}

/// Our contact in an answer: that of our flow where the registrar tells flows apart; where an ALG or the registrar rewrote
/// it, the one with our user.
fn ours<'a>(contacts: &'a [NameAddr], sent: &NameAddr) -> Option<&'a NameAddr> {
    let flow = |contact: &NameAddr| {
        Some((contact.param("+sip.instance")?.into_owned(), contact.param("reg-id")?.into_owned()))
    };
    let own = flow(sent);
    let same_flow = contacts.iter().find(|contact| own.is_some() && flow(contact) == own);
    let same = same_flow.or_else(|| contacts.iter().find(|contact| contact.uri.equivalent(&sent.uri)));
    same.or_else(|| contacts.iter().find(|contact| contact.uri.user() == sent.uri.user()))
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).clamp(1, MAX_EXPIRES)
}

fn with_expires(mut contact: NameAddr, expires: u32) -> NameAddr {
    contact.params.set("expires", Some(&expires.to_string()));
    contact
}

/// Our Contact as the registrar wrote it down in place of the one that we sent: the only one there with our user, so
/// that nobody else's is taken for ours.
fn noted(contacts: &[NameAddr], sent: &NameAddr) -> Option<Uri> {
    let mut likely = contacts.iter().filter(|contact| contact.uri.user() == sent.uri.user());
    match (likely.next(), likely.next()) {
        (Some(only), None) if !only.uri.equivalent(&sent.uri) => Some(only.uri.clone()),
        _ => None,
    }
}

fn push_stale(stale: &mut Vec<Uri>, uri: Uri) {
    if !stale.iter().any(|known| known.equivalent(&uri)) {
        stale.push(uri);
        if stale.len() > MAX_STALE {
            stale.remove(0);
        }
    }
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;

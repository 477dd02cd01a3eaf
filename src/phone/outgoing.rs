//! A call that begins here: who is meant, may it be, over which line – and the INVITE.

use std::time::Duration;

use super::Phone;
use super::call::{Call, LONGEST_RINGING, Path, Phase};
use super::command::{Blame, Outcome, Refusal, Reply};
use super::dial_string::{digits, is_emergency};
use super::limits::{Called, Verdict};
use super::line::{Line, address};
use super::lookup::Known;
use super::media_plan::capability;
use super::paths::{Taken, describe};
use super::routing::{Decision, plain};
use super::rtcp_path::RtcpPath;
use crate::config::{self, CallerId};
use crate::events::store::Write;
use crate::events::{Direction, Event, Follows, Kind, Leg, Number, Origin, Party};
use crate::media::LegId;
use crate::now::Now;
use crate::sip::call::{Ended, Ending, InviteOptions};
use crate::sip::handle::AccountId;
use crate::sip::name_addr::NameAddr;
use crate::sip::sdp::{Capability, Negotiation, Security};
use crate::sip::uri::Uri;

/// A PBX that has said nothing of a call for help after this time, but that it tries (100), has lost it.
const HELP_TRIED_FOR: Duration = Duration::from_secs(20);
/// A longer string is no number, user or URI that anybody dials.
const LONGEST_TARGET: usize = 256;

/// What a wish to call somebody means.
pub(super) struct Meant {
    pub line: String,
    pub account: AccountId,
    pub target: Uri,
    pub called: Called,
    /// More fields of the INVITE.
    pub fields: Vec<(String, String)>,
    /// What is shown there of who calls, instead of the line's name.
    pub shown_as: Option<String>,
}

/// The place of a leg in a call that has several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The whole call.
    pub call: String,
    /// Counted from 1.
    pub leg: u8,
    /// Where its audio goes, if not to the person at the device.
    pub bridge: Option<u32>,
    /// The callback that it is a part of.
    pub callback: Option<String>,
    /// The leg whose place it takes.
    pub follows: Option<Follows>,
}

impl Phone {
    pub(super) fn dial(&mut self, now: Now, to: &str, line: Option<&str>, origin: Origin) -> Outcome {
        if let Some(state) = self.said_of_agent(to, origin) {
            return self.agent_is(now, line, state);
        }
        let meant = self.meant(now, to, line)?;
        let index = self.dial_leg(now, meant, None, origin)?;
        Ok(Reply::Call(Box::new(self.calls[index].view(now))))
    }

    /// Begins a leg; its index.
    pub(super) fn dial_leg(
        &mut self,
        now: Now,
        meant: Meant,
        place: Option<Place>,
        origin: Origin,
    ) -> Result<usize, Refusal> {
        let Meant { line: name, account, target, called, fields, shown_as } = meant;
        let address = self.agent.local_address(account).ok_or_else(|| {
            Refusal::new(
                Blame::Environment,
                "no_route",
                format!("line {name} has no way to its server"),
                "check the network, and the line's domain and registrar; `tipring status` shows the reason",
            )
        })?;
        let mut facts = self.outgoing_facts(&name, &called, &target);
        let verdict = self.permitted(now, &name, &called, &target, origin)?;
        let Some(Taken { port, number, found }) = self.take_port(&name, address) else {
            return Err(Refusal::new(
                Blame::Environment,
                "no_port",
                "no RTP port is free",
                "widen [rtp] ports, or end a call",
            ));
        };
        if place.as_ref().is_none_or(|place| place.bridge.is_none()) {
            self.quiet_others(now);
        }
        let line = self.known_line(&name)?;
        let mut capability = capability(&line.config, &self.config.rtp, address, number, self.fingerprint);
        if let Some(found) = &found {
            let server = self.agent.server(account).map(|(_, server)| server.ip());
            describe(&mut capability, &line.config, found, &RtcpPath::default(), server);
        }
        let (more, display_name) = (fields.clone(), shown_as.clone());
        let options = InviteOptions { fields: more, display_name, ..options(&line.config) };
        let mut negotiation = Negotiation::new(capability, self.chance.next_u64());
        let offer = negotiation.offer(&mut self.chance);
        let sip =
            match self.agent.invite(now, account, target, InviteOptions { offer: Some(offer), ..options }) {
                Ok(sip) => sip,
                Err(error) => {
                    self.give_back(port, number);
                    let hint = "wait until a call has ended";
                    return Err(Refusal::new(Blame::Environment, "not_started", error.to_string(), hint));
                }
            };
        let usage = self.guard.started(now, &name);
        self.keep_usage(usage);
        let id = place.as_ref().map_or_else(|| self.chance.token(6), |place| place.call.clone());
        self.expect_checks(port, &negotiation);
        let known = match (&verdict, &place) {
            (Verdict::Allowed, None) => self.recalled(now, &mut facts),
            _ => Known::NotAsked,
        };
        let path = Path { found, ..Path::new(LegId(self.number()), port, number) };
        let mut call = Call::new(now, id, facts, sip, Phase::Dialing, path, negotiation);
        if let Some(place) = place {
            call.facts.leg_id = format!("{}-{}", place.call, place.leg);
            call.facts.callback_id = place.callback;
            call.facts.follows = place.follows.map(Box::new);
            call.bridge = place.bridge;
        }
        call.facts.sip_call_id = self.agent.sip_call_id(sip).map(str::to_owned);
        (call.by, call.origin) = (Some(account), origin);
        (call.fields, call.shown_as) = (fields, shown_as);
        call.emergency = matches!(verdict, Verdict::Emergency { .. });
        if call.emergency {
            call.answer_by = now.deadline(HELP_TRIED_FOR);
        }
        let (id, facts) = (call.id.clone(), call.facts.clone());
        self.keep(Write::Call(Box::new(call.entry())));
        self.calls.push(call);
        let index = self.calls.len() - 1;
        self.tell(now, Event::of_call(&id, Kind::CallNew { leg: facts.clone(), origin }));
        if let Verdict::Emergency { overruled } = verdict {
            self.tell(now, Event::of_call(&id, Kind::CallEmergency { leg: facts.clone(), overruled }));
        }
        self.tell(now, Event::of_call(&id, Kind::CallDialing { leg: facts }));
        if let Known::Ask(key) = known {
            self.ask(now, index, key);
        }
        Ok(index)
    }

    /// Whom somebody means, after the number plan has been asked, and the line for it.
    pub(super) fn meant(&self, now: Now, to: &str, line: Option<&str>) -> Result<Meant, Refusal> {
        let to = checked(to)?;
        let decision = self.planned(now, to, line)?;
        let emergency = match &decision {
            Some(decision) => decision.emergency,
            None => {
                let at_home = |uri: Uri| self.lines.iter().any(|line| !self.is_elsewhere(line, &uri));
                is_emergency(&self.config.emergency, &user_of(to)) && address_of(to).is_some_and(at_home)
            }
        };
        let line = decision.as_ref().and_then(|it| it.line.as_deref()).or(line);
        if emergency && let Some(line) = self.line_for_help(line, |_| false) {
            let meant = self.spelled(to, decision.as_ref(), line)?;
            // Another PBX than the one that was named with the number.
            return Ok(if meant.called.elsewhere { self.help_over(line, &meant.target) } else { meant });
        }
        self.spelled(to, decision.as_ref(), self.choose_line(line)?)
    }

    /// Whom somebody means that is to be called by the PBX, over a line that is in a call already.
    pub(super) fn meant_on(&self, now: Now, to: &str, line: &str) -> Result<Meant, Refusal> {
        let to = checked(to)?;
        let decision = self.planned(now, to, Some(line))?;
        self.spelled(to, decision.as_ref(), self.known_line(line)?)
    }

    /// What the number plan says; nothing of an address.
    fn planned(&self, now: Now, to: &str, line: Option<&str>) -> Result<Option<Decision>, Refusal> {
        let decision = bare(to).map(|number| self.decide(now, &number, line));
        if let Some(refused) = decision.as_ref().and_then(|it| it.refused.as_ref()) {
            let hint = "`tipring route` with the number shows why; `tipring status` what the line waits for";
            return Err(Refusal::new(Blame::Environment, "no_line", refused.text.clone(), hint));
        }
        Ok(decision)
    }

    /// The target as the line spells it.
    fn spelled(&self, to: &str, decision: Option<&Decision>, line: &Line) -> Result<Meant, Refusal> {
        let name = line.config.name.clone();
        let dialled = target(to, line)?;
        let sent = decision.filter(|it| it.sent != it.number).map(|it| it.sent.clone());
        let domain = &line.config.domain;
        let target = sent.as_ref().map(|sent| Uri::Sip(address(sent, domain)));
        let elsewhere = sent.is_none() && self.is_elsewhere(line, &dialled);
        let sent = sent.map(|it| (it, name.clone()));
        let called = Called { numbers: numbers(&dialled, to), sent, elsewhere };
        Ok(Meant {
            account: line.way(&self.reach),
            line: name,
            target: target.unwrap_or(dialled),
            called,
            fields: Vec::new(),
            shown_as: None,
        })
    }

    /// Whether an address is none of a line's PBX: neither in its domain, nor at one of its servers, by name or as they were
    /// found.
    pub(super) fn is_elsewhere(&self, line: &Line, uri: &Uri) -> bool {
        let Some(host) = uri.host() else { return false };
        let config = &line.config;
        let proxies = config.outbound_proxy.iter().flat_map(|proxies| &proxies.0);
        let servers = config.registrar.iter().chain(proxies).filter_map(|uri| Uri::parse(uri.as_str()).ok());
        let mut found = line.flows().filter_map(|flow| self.agent.server(flow.account));
        *host != address("", &config.domain).host
            && servers.filter_map(|uri| uri.host().cloned()).all(|server| server != *host)
            && !found.any(|(_, server)| host.ip() == Some(server.ip()))
    }

    /// Whether the rules of this device let somebody be called over a line; a refusal is told.
    pub(super) fn permitted(
        &mut self,
        now: Now,
        line: &str,
        called: &Called,
        target: &Uri,
        origin: Origin,
    ) -> Result<Verdict, Refusal> {
        let verdict = self.guard.check(now, &self.config, called);
        let Verdict::Refused(refused) = &verdict else { return Ok(verdict) };
        let (text, rule) = (refused.text.clone(), refused.rule);
        if let (true, Some(value)) = (refused.first_today, refused.value) {
            let limit = rule.to_owned();
            let kind = Kind::LimitReached { line: Some(line.to_owned()), limit, value, origin };
            self.tell(now, Event::new(kind));
        }
        let leg = self.outgoing_facts(line, called, target);
        Err(self.refused_by_rule(now, leg, origin, rule, text))
    }

    /// Tells that a rule keeps an outgoing leg from beginning.
    pub(super) fn refused_by_rule(
        &mut self,
        now: Now,
        leg: Leg,
        origin: Origin,
        rule: &str,
        text: String,
    ) -> Refusal {
        let id = self.chance.token(6);
        let leg = Leg { leg_id: format!("{id}-1"), ..leg };
        let kind = Kind::CallRefused { leg, origin, rule: rule.to_owned(), text: text.clone() };
        self.tell(now, Event::of_call(id, kind));
        Refusal::new(Blame::Rule, "refused", text, format!("[limits] decides this: see `{rule}`"))
    }

    /// Calls once more what came to nothing, where there is another way to do it. It stays the same call.
    pub(super) fn call_again(&mut self, now: Now, index: usize, ended: &Ended) -> bool {
        let call = &self.calls[index];
        let before =
            matches!(call.phase, Phase::Dialing | Phase::Proceeding { .. }) && call.path.plan.is_none();
        before
            && call.verdict.is_none()
            && (self.call_otherwise(now, index, ended) || self.call_by_other_flow(now, index, ended))
    }

    /// Calls by the line's other flow what got lost on one: the edge has lost the way, is silent, or can't (RFC 5626 §4.3,
    /// RFC 3261 §21.5.4), and nobody rings yet.
    fn call_by_other_flow(&mut self, now: Now, index: usize, ended: &Ended) -> bool {
        let lost = match ended.ending {
            Ending::Rejected | Ending::NoResponse => matches!(ended.status, Some(408 | 430 | 503)),
            Ending::Unreachable(_) => true,
            _ => false,
        };
        let call = &self.calls[index];
        let line = self.line(&call.facts.line);
        let other = call.by.and_then(|by| line.and_then(|line| line.other_way(by)));
        let Some(other) = other.filter(|_| lost && matches!(call.phase, Phase::Dialing) && !call.rerouted)
        else {
            return false;
        };
        let capability = call.negotiation.capability().clone();
        self.invite_anew(now, index, other, capability) && {
            self.calls[index].rerouted = true;
            true
        }
    }

    /// Calls that nobody has heard of yet leave a flow that was found dead for the line's other one.
    pub(super) fn leave_lost_flow(&mut self, now: Now, account: AccountId) {
        for index in 0..self.calls.len() {
            let call = &self.calls[index];
            let before = matches!(call.phase, Phase::Dialing) && call.verdict.is_none() && !call.rerouted;
            let line = self.line(&call.facts.line).filter(|_| before && call.by == Some(account));
            let Some(other) = line.and_then(|line| line.other_way(account)) else { continue };
            let (old, capability) = (call.sip, call.negotiation.capability().clone());
            if self.invite_anew(now, index, other, capability) {
                self.calls[index].rerouted = true;
                // Should its edge live after all, the callee shall not ring twice.
                let _ = self.agent.hang_up(now, old, None);
            }
        }
    }

    /// Calls once more where the PBX refuses a call for its media (488, 606), with what is next: an offer of keys under the
    /// name of plain RTP becomes one under the name of SRTP, which some insist on; under DTLS then one with early feedback
    /// in that name; and at last one without keys, if the line may do without.
    fn call_otherwise(&mut self, now: Now, index: usize, ended: &Ended) -> bool {
        let call = &self.calls[index];
        let refused = ended.ending == Ending::Rejected && matches!(ended.status, Some(488 | 606));
        let mut capability = call.negotiation.capability().clone();
        let (true, Some(line), Some(by)) = (refused, self.line(&call.facts.line), call.by) else {
            return false;
        };
        let can_name_feedback = capability.dtls.is_some() && !capability.feedback;
        (capability.security, capability.feedback) = match capability.security {
            Security::Optional => (Security::Required, false),
            Security::Required if can_name_feedback => (Security::Required, true),
            Security::Required if line.config.srtp == config::Policy::Optional => (Security::Off, false),
            Security::Required | Security::Off => return false,
        };
        self.invite_anew(now, index, by, capability)
    }

    /// Puts another INVITE in place of one that came to nothing.
    fn invite_anew(&mut self, now: Now, index: usize, by: AccountId, capability: Capability) -> bool {
        let call = &self.calls[index];
        let target = call.facts.called.uri.as_deref().and_then(|uri| Uri::parse(uri).ok());
        let (Some(target), Some(line)) = (target, self.line(&call.facts.line)) else { return false };
        let mut options = options(&line.config);
        let mut negotiation = Negotiation::new(capability, self.chance.next_u64());
        options.offer = Some(negotiation.offer(&mut self.chance));
        options.fields.clone_from(&call.fields);
        options.display_name.clone_from(&call.shown_as);
        let Ok(sip) = self.agent.invite(now, by, target, options) else { return false };
        let sip_call_id = self.agent.sip_call_id(sip).map(str::to_owned);
        let call = &mut self.calls[index];
        (call.sip, call.negotiation, call.phase) = (sip, negotiation, Phase::Dialing);
        call.facts.sip_call_id = sip_call_id;
        call.by = Some(by);
        call.answer_by = now.deadline(if call.emergency { HELP_TRIED_FOR } else { LONGEST_RINGING });
        call.forks.clear();
        true
    }

    /// The line that was asked for, or the first one that calls can go out over.
    fn choose_line(&self, name: Option<&str>) -> Result<&Line, Refusal> {
        let usable = || {
            self.lines.iter().find(|line| line.is_usable()).ok_or_else(|| {
                let hint = "`tipring status` shows what each line waits for";
                Refusal::new(Blame::Environment, "no_line", "no line is registered", hint)
            })
        };
        let line = name.map_or_else(usable, |name| self.known_line(name))?;
        let busy = self.calls_on(&line.config.name);
        if busy >= usize::from(line.config.max_calls) {
            let message = format!("line {} has {busy} calls", line.config.name);
            return Err(Refusal::new(
                Blame::State,
                "line_busy",
                message,
                "end one, or raise the line's max_calls",
            ));
        }
        Ok(line)
    }

    pub(super) fn outgoing_facts(&self, line: &str, called: &Called, target: &Uri) -> Leg {
        let config = self.line(line).map(|line| &line.config);
        let caller = Party {
            number: config.map(|config| Number::new(config.user.clone())),
            name: config.and_then(|config| config.display_name.clone()),
            uri: config.map(|config| format!("sip:{}", config.address())),
        };
        let mut number = Number::new(called.numbers.first().cloned().unwrap_or_default());
        // What a rule has made certain is as certain as what was dialled.
        let read = |number: &str| self.config.number_plan().e164(number);
        let sent = || called.sent.as_ref().and_then(|(sent, _)| read(sent));
        number.e164 = number.e164.or_else(|| read(&number.dialled)).or_else(sent);
        Leg {
            leg_id: String::new(),
            sip_call_id: None,
            line: line.to_owned(),
            direction: Direction::Out,
            caller,
            called: Party { number: Some(number), name: None, uri: Some(target.to_string()) },
            did: None,
            diverted: None,
            connected: None,
            callback_id: None,
            follows: None,
        }
    }
}

/// What can be called at all.
pub(super) fn checked(to: &str) -> Result<&str, Refusal> {
    let to = to.trim();
    if to.is_empty() || to.len() > LONGEST_TARGET || to.chars().any(char::is_control) {
        return Err(wrong_target(to, "it is empty, too long or has control characters"));
    }
    Ok(to)
}

/// The number or name that somebody dialled, for the number plan; `None` of an address, which says itself where it goes. A
/// `tel:` URI is a number, with the `phone-context` that makes it a global one (RFC 3966 §5.1.5).
pub(super) fn bare(to: &str) -> Option<String> {
    match Uri::parse(to) {
        Ok(Uri::Tel(tel)) => {
            let context = tel.phone_context().filter(|it| it.starts_with('+') && !tel.is_global());
            Some(format!("{}{}", context.unwrap_or_default(), tel.dial_string()))
        }
        _ if to.contains([':', '@']) => None,
        _ => Some(plain(to)),
    }
}

/// What somebody typed, as a Request-URI of this line.
fn target(to: &str, line: &Line) -> Result<Uri, Refusal> {
    let lower = to.to_ascii_lowercase();
    if ["sip:", "sips:", "tel:"].iter().any(|scheme| lower.starts_with(scheme)) {
        return Uri::parse(to).map_err(|error| wrong_target(to, &error.to_string()));
    }
    if to.contains('@') {
        return Uri::parse(format!("sip:{to}")).map_err(|error| wrong_target(to, &error.to_string()));
    }
    Ok(Uri::Sip(address(&plain(to), &line.config.domain)))
}

/// The address that a dialled string is.
fn address_of(to: &str) -> Option<Uri> {
    Uri::parse(to).or_else(|_| Uri::parse(format!("sip:{to}"))).ok()
}

/// The user that a dialled string names, without parameters.
fn user_of(to: &str) -> String {
    let uri = address_of(to);
    let user = uri.as_ref().filter(|_| to.contains([':', '@'])).and_then(Uri::user);
    let user = user.map_or(to.to_owned(), |user| user.into_owned());
    user.split(';').next().unwrap_or_default().to_owned()
}

/// What the PBX may understand: the number without its parameters, and behind the `phone-context` that makes it a global
/// one (RFC 3966 §5.1.5).
fn numbers(target: &Uri, to: &str) -> Vec<String> {
    let user = target.user().map_or_else(|| to.to_owned(), |user| user.into_owned());
    let (number, parameters) = user.split_once(';').unwrap_or((&user, ""));
    let of_user = || parameters.split(';').find_map(|parameter| parameter.strip_prefix("phone-context="));
    let context = match target {
        Uri::Tel(tel) => tel.phone_context(),
        _ => of_user(),
    };
    let context = context.filter(|context| context.starts_with('+') && !number.starts_with('+'));
    let global = context.map(|context| format!("{context}{}", digits(number)));
    [number.to_owned()].into_iter().chain(global).collect()
}

/// Who calls, for the INVITE; the offer is missing yet.
fn options(line: &config::Line) -> InviteOptions {
    InviteOptions {
        anonymous: line.caller_id == CallerId::Hide,
        identity: identity(line),
        ..InviteOptions::default()
    }
}

/// The number that the line shows instead of its own, as the PBX has to be told.
fn identity(line: &config::Line) -> Option<NameAddr> {
    match &line.caller_id {
        CallerId::Number(number) => Some(NameAddr::new(Uri::Sip(address(number, &line.domain)))),
        CallerId::Show | CallerId::Hide => None,
    }
}

pub(super) fn wrong_target(to: &str, why: &str) -> Refusal {
    Refusal::new(
        Blame::Wish,
        "wrong_target",
        format!("`{}` can't be called: {why}", to.escape_debug()),
        "give a number, a user of the PBX or a SIP URI",
    )
}

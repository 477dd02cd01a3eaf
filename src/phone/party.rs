//! Who calls whom, as far as a PBX tells it: the caller, the number that was dialled from outside, whoever sent the call
//! on, and who is at the other end now.

use super::Phone;
use super::dial_string::{is_number, subscriber};
use crate::config::{self, NumberPlan};
use crate::events::store::Write;
use crate::events::{Direction, Diverted, Event, Kind, Leg, Number, Party};
use crate::now::Now;
use crate::sip::call::{Identity, Incoming};
use crate::sip::fields::Fields;
use crate::sip::grammar;
use crate::sip::name_addr::NameAddr;
use crate::sip::redirection::{Diverting, Redirection};
use crate::sip::uri::Uri;

/// The fewest digits of a number that is more than an extension where no number plan says so.
const SHORTEST_OUTSIDE: usize = 7;
/// The longest text in a configured header that is a number.
const LONGEST_NUMBER: usize = 64;

impl Phone {
    pub(super) fn incoming_facts(&self, line: &str, incoming: &Incoming) -> Leg {
        let to = &incoming.request.head.to;
        let fields = &incoming.request.fields;
        let history = Redirection::by_history(fields);
        let diversion = Redirection::by_diversion(fields);
        let did = self.line(line).and_then(|it| {
            let plan = self.config.number_plan_of(&it.config);
            did(&it.config, &plan, fields, [&history, &diversion], to)
        });
        // Servers that write both say more of the reason in Diversion.
        let diverted = diversion.by.or(history.by).map(|by| Box::new(self.diverted(line, by)));
        Leg {
            leg_id: String::new(),
            sip_call_id: Some(incoming.request.head.call_id.clone()),
            line: line.to_owned(),
            direction: Direction::In,
            caller: self.party(line, &incoming.identity),
            called: Party {
                number: number_of(to).map(|it| self.known(line, it)),
                name: None,
                uri: Some(to.uri.to_string()),
            },
            did,
            diverted,
            connected: None,
            callback_id: None,
            follows: None,
        }
    }

    fn diverted(&self, line: &str, by: Diverting) -> Diverted {
        let reason = by.why.map(str::to_owned);
        if by.private {
            return Diverted { by: Party::default(), reason };
        }
        let number = number_of(&by.who).map(|number| self.known(line, number));
        Diverted { by: Party { number, name: by.who.display, uri: Some(plain(by.who.uri)) }, reason }
    }

    /// Who the far end says it is; nothing of one that asks to be withheld.
    pub(super) fn party(&self, line: &str, identity: &Identity) -> Party {
        let shown = identity.shown();
        // Who is anonymous by name (RFC 3323 §4.1.1.3) is nobody that could be called back.
        let unnamed =
            shown.uri.host().is_some_and(|host| host.to_string().eq_ignore_ascii_case("anonymous.invalid"));
        if identity.private || unnamed {
            return Party::default();
        }
        let number = number_of(shown);
        let name =
            shown.display.clone().or_else(|| identity.from.display.clone()).filter(|name| !name.is_empty());
        // Some trunks call as themselves and write who it is into the name only.
        let (number, name) = match (number, name) {
            (number, Some(name))
                if is_number(&name) && number.as_ref().is_none_or(|known| !is_number(&known.dialled)) =>
            {
                (Some(Number::new(name)), None)
            }
            other => other,
        };
        let number = number.map(|number| self.known(line, number));
        Party { number, name, uri: Some(shown.uri.to_string()) }
    }

    /// A number of a line's PBX with its E.164 form, where the plan of that tells it.
    fn known(&self, line: &str, number: Number) -> Number {
        match self.config.line(line) {
            Some(line) => in_plan(number, &self.config.number_plan_of(line)),
            None => number,
        }
    }

    /// Takes note of who is at the other end now; whether that is somebody else than before.
    pub(super) fn connected(&mut self, index: usize, identity: &Identity) -> bool {
        let call = &self.calls[index];
        let party = self.party(&call.facts.line, identity);
        let is_withheld = identity.private && call.is_active();
        let is = |other: &Party| match (&party.number, &other.number) {
            (Some(now), Some(before)) => now.same_as(before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if is(call.facts.remote()) || (party.number.is_none() && !is_withheld) {
            return false;
        }
        let as_begun = is(call.facts.called_or_calling());
        self.calls[index].facts.connected = Some(party).filter(|_| !as_begun);
        true
    }

    /// The PBX says anew who is at the other end.
    pub(super) fn identified(&mut self, now: Now, index: usize, identity: &Identity) {
        if !self.connected(index, identity) {
            return;
        }
        let call = &self.calls[index];
        let (id, leg, entry) = (call.id.clone(), call.facts.clone(), call.entry());
        self.keep(Write::Call(Box::new(entry)));
        self.tell(now, Event::of_call(id, Kind::PartyChanged { leg }));
    }
}

/// The number that was dialled from outside. What was set up for that is believed before what servers write, that before
/// what the caller may have written; an extension, and the line itself, say nothing of it.
fn did(
    line: &config::Line,
    plan: &NumberPlan<'_>,
    fields: &Fields,
    redirections: [&Redirection; 2],
    to: &NameAddr,
) -> Option<Number> {
    let known = |number| Some(in_plan(number, plan));
    let is_outside = |number: &Number| {
        let digits = || number.dialled.bytes().filter(u8::is_ascii_digit).count();
        number.dialled != line.user
            && (number.e164.is_some() || (is_number(&number.dialled) && digits() >= SHORTEST_OUTSIDE))
    };
    let outside = |address: &NameAddr| number_of(address).and_then(known).filter(is_outside);
    let configured = || line.did_header.as_ref().and_then(|name| written(fields.get(name)?)).and_then(known);
    // A server that puts this in names whom the call is for (RFC 7315 §4.2): also by a short number, but not the line itself.
    let called_party = || {
        let parties = fields.name_addrs("P-Called-Party-ID").unwrap_or_default();
        let number = parties.first().and_then(number_of).filter(|number| number.dialled != line.user);
        number.and_then(known)
    };
    let first_target = || redirections.iter().find_map(|it| it.targets.iter().find_map(outside));
    configured().or_else(called_party).or_else(first_target).or_else(|| outside(to))
}

/// What a header of the PBX's own says: an address, or a number as it is.
fn written(value: &[u8]) -> Option<Number> {
    if let Ok(address) = NameAddr::parse(value) {
        return number_of(&address);
    }
    let text = grammar::text(grammar::trim(value)).into_owned();
    (text.len() <= LONGEST_NUMBER && is_number(&text)).then(|| Number::new(text))
}

/// The number with the E.164 form that the plan is certain of.
fn in_plan(mut number: Number, plan: &NumberPlan<'_>) -> Number {
    number.e164 = number.e164.or_else(|| plan.e164(&number.dialled));
    number
}

/// The number or user of an address.
fn number_of(address: &NameAddr) -> Option<Number> {
    match &address.uri {
        Uri::Other(_) => None,
        uri => uri.user().map(|user| Number::new(subscriber(&user))),
    }
}

/// An address as events have it: without parameters, and without what a History-Info carries inside.
fn plain(mut uri: Uri) -> String {
    if let Some(sip) = uri.as_sip_mut() {
        sip.params = Default::default();
        sip.headers.clear();
    }
    uri.to_string()
}

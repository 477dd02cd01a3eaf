//! A call for help (`[emergency]`) looks for a way of its own: it takes any line, also one that is full or not registered,
//! since its PBX may still let it through; and where one line does not get it anywhere, the next one is tried.

use super::Phone;
use super::call::{Call, Phase};
use super::limits::Called;
use super::line::{Line, address};
use super::outgoing::{Meant, Place};
use crate::events::Direction;
use crate::now::Now;
use crate::sip::call::{Ended, Ending};
use crate::sip::uri::Uri;

impl Phone {
    /// The line over which help is called: the one that was asked for if calls can go out over it, or else another one. Lines
    /// that have been tried are left out.
    pub(super) fn line_for_help(&self, name: Option<&str>, tried: impl Fn(&str) -> bool) -> Option<&Line> {
        let named = self.lines.iter().filter(|line| Some(line.config.name.as_str()) == name);
        let others = self.lines.iter().filter(|line| Some(line.config.name.as_str()) != name);
        let left = named.chain(others).filter(|line| !tried(&line.config.name));
        // Of equals the first one is taken.
        left.min_by_key(|line| match self.agent.local_address(line.way(&self.reach)) {
            Some(_) if line.is_usable() => 0,
            Some(_) => 1,
            None => 2,
        })
    }

    /// The number that an address means, at the PBX of a line.
    pub(super) fn help_over(&self, line: &Line, dialled: &Uri) -> Meant {
        let number = dialled.user().map(|user| user.into_owned()).unwrap_or_default();
        Meant {
            line: line.config.name.clone(),
            account: line.way(&self.reach),
            target: Uri::Sip(address(&number, &line.config.domain)),
            called: Called { numbers: vec![number], sent: None, elsewhere: false },
            fields: Vec::new(),
            shown_as: None,
        }
    }

    /// A call for help that ends without having got through goes on as another leg, over the next line.
    pub(super) fn call_help_elsewhere(&mut self, now: Now, index: usize, ended: &Ended) -> bool {
        let call = &self.calls[index];
        let before = matches!(call.phase, Phase::Dialing | Phase::Proceeding { .. });
        call.emergency && before && is_lost(ended) && self.call_help_by_next_line(now, index)
    }

    /// Calls for help by a line that was not tried yet, if there is one.
    pub(super) fn call_help_by_next_line(&mut self, now: Now, index: usize) -> bool {
        let call = &self.calls[index];
        if call.facts.direction != Direction::Out || call.bridge.is_some() || call.errand.is_some() {
            return false;
        }
        let (id, origin, old) = (call.id.clone(), call.origin, call.facts.leg_id.clone());
        let callback = call.facts.callback_id.clone();
        let over = |call: &Call| (call.id == id).then(|| call.facts.line.clone());
        let earlier = self.ended_legs.iter().filter(|leg| leg.call == id).map(|leg| leg.leg.line.clone());
        let tried: Vec<String> = self.calls.iter().filter_map(over).chain(earlier).collect();
        let dialled = call.facts.called.uri.as_deref().and_then(|uri| Uri::parse(uri).ok());
        let line = self.line_for_help(None, |line| tried.iter().any(|tried| tried == line));
        let (Some(line), Some(dialled)) = (line, dialled) else { return false };
        let meant = self.help_over(line, &dialled);
        let place = Place { leg: self.next_leg(&id), call: id, bridge: None, callback, follows: None };
        let Ok(next) = self.dial_leg(now, meant, Some(place), origin) else { return false };
        let (id, new) = (self.calls[next].id.clone(), self.calls[next].facts.leg_id.clone());
        self.callback_leg_replaced(&id, &old, &new);
        true
    }
}

/// Whether a call came to nothing on its way: nobody who was called has said no.
fn is_lost(ended: &Ended) -> bool {
    match ended.ending {
        Ending::NoResponse | Ending::Unreachable(_) | Ending::NoSession => true,
        Ending::Rejected => !matches!(ended.status, Some(486 | 487 | 600 | 603)),
        _ => false,
    }
}

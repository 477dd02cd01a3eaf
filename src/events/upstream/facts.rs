//! What an event says, for dialects that put it into words of their own.
//!
//! All of it may be absent: filters take out what they redact, and the store may hold events of another version. Names and
//! numbers are what somebody outside wrote: each dialect escapes them for the place where it puts them.

use serde::Deserialize;

use crate::events::store::Entry;
use crate::events::{CallResult, Cause, CloudEvent, Direction, Diverted, Follows, Number, Party};

/// Digits of a number inside of a PBX at most.
const LONGEST_SHORT: usize = 5;

/// The data of an event, as far as dialects know it.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The leg.
    pub leg_id: Option<String>,
    /// The Call-ID of its SIP dialog.
    pub sip_call_id: Option<String>,
    /// The name of the line.
    pub line: Option<String>,
    /// See [`Direction::as_str`].
    direction: Option<String>,
    /// Who calls.
    pub caller: Party,
    /// Who is called.
    pub called: Party,
    /// The number that an outside caller dialled.
    pub did: Option<Number>,
    /// Who sent the call on to this device.
    pub diverted: Option<Diverted>,
    /// Who is really at the other end, once the PBX has told.
    pub connected: Option<Party>,
    /// The callback that the leg is a part of.
    pub callback_id: Option<String>,
    /// The leg whose place it takes, where the call was given away.
    pub follows: Option<Follows>,
    /// The recording of the leg.
    pub recording_id: Option<String>,
    /// What the far end said of the call, 1 to 5.
    pub vote: Option<u8>,
    /// The configuration key by which it was refused.
    pub rule: Option<String>,
    /// Why it ended, and who ended it.
    pub cause: Cause,
    /// Who held or resumed it: `local` or `remote`.
    by: Option<String>,
    /// See [`CallResult::as_str`].
    result: Option<String>,
    /// Whether a message has come into the mailbox.
    pub arrived: bool,
    /// Whether somebody should call back.
    pub missed: bool,
    /// From the beginning to the end.
    pub total_us: u64,
    /// From the beginning to the answer or the end.
    pub ring_us: u64,
    /// From the answer to the end.
    pub talk_us: u64,
    /// The part of it that was on hold.
    pub hold_us: u64,
}

impl Facts {
    /// What this event says; nothing where it can't be read.
    pub fn of(event: &CloudEvent) -> Facts {
        serde_json::from_str(&event.data).unwrap_or_default()
    }

    /// What a row of the journal says of a leg that is over.
    pub fn of_entry(entry: &Entry) -> Facts {
        let leg = entry.leg.clone();
        Facts {
            leg_id: Some(leg.leg_id),
            sip_call_id: leg.sip_call_id,
            line: Some(leg.line),
            direction: Some(leg.direction.as_str().to_owned()),
            caller: leg.caller,
            called: leg.called,
            did: leg.did,
            diverted: leg.diverted.map(|diverted| *diverted),
            connected: leg.connected,
            follows: leg.follows.map(|follows| *follows),
            recording_id: entry.recording_id.clone(),
            vote: entry.vote,
            cause: entry.cause.clone(),
            result: entry.result.map(|result| result.as_str().to_owned()),
            total_us: entry.total_us,
            ring_us: entry.ring_us,
            talk_us: entry.talk_us,
            hold_us: entry.hold_us,
            ..Facts::default()
        }
    }

    /// The direction of the call, seen from this device.
    pub fn direction(&self) -> Option<Direction> {
        self.direction.as_deref().and_then(Direction::from_word)
    }

    /// Whether this device did it, of what both sides can do.
    pub fn is_by_us(&self) -> bool {
        self.by.as_deref() == Some("local")
    }

    /// This side of the call and the other one; `None` for what is no call.
    pub fn sides(&self) -> Option<(&Party, &Party)> {
        Some(match self.direction()? {
            Direction::In => (&self.called, &self.caller),
            Direction::Out => (&self.caller, &self.called),
        })
    }

    /// Who is at the other end now; `None` for what is no call.
    pub fn remote(&self) -> Option<&Party> {
        self.sides().map(|(_, began)| self.connected.as_ref().unwrap_or(began))
    }

    /// What became of the call.
    pub fn result(&self) -> Option<CallResult> {
        self.result.as_deref().and_then(CallResult::from_word)
    }

    /// Whether somebody answered before it ended.
    pub fn was_answered(&self) -> bool {
        matches!(self.result(), Some(CallResult::Answered | CallResult::MediaLost))
    }

    /// When the call began, by the time of the event that tells its end.
    pub fn begun_utc_us(&self, event: &CloudEvent) -> i64 {
        event.utc_us.saturating_sub(i64::try_from(self.total_us).unwrap_or(i64::MAX))
    }
}

/// The number of somebody, see [`spelled`].
pub fn number(party: &Party) -> Option<&str> {
    party.number.as_ref().map(spelled)
}

/// The host of somebody's SIP URI, without port and parameters.
pub fn host(party: &Party) -> Option<&str> {
    let (_, host) = party.uri.as_deref()?.rsplit_once('@')?;
    let end = host.find([';', '?', '>']).unwrap_or(host.len());
    let host = host.get(..end)?;
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => {
            Some(name)
        }
        _ => Some(host),
    }
}

/// Whether a number is one inside of a PBX, as far as its length tells.
pub fn is_short(number: &str) -> bool {
    (2..=LONGEST_SHORT).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number in E.164 where that is certain, else as it was shown.
pub fn spelled(number: &Number) -> &str {
    number.e164.as_deref().unwrap_or(&number.dialled)
}

/// The same without the plus sign of an international one.
pub fn digits(number: &Number) -> &str {
    let spelled = spelled(number);
    spelled.strip_prefix('+').unwrap_or(spelled)
}

/// Text of outside as people may see it: on one line, of `most` characters, and without characters that turn the direction
/// of what stands around them.
pub fn shown(text: &str, most: usize) -> String {
    let turns =
        |it: char| matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let one_line = |it: char| if it.is_control() || matches!(it, '\u{2028}' | '\u{2029}') { ' ' } else { it };
    let mut clean = text.chars().filter(|it| !turns(*it)).map(one_line);
    let mut shown: String = clean.by_ref().take(most).collect();
    if clean.next().is_some() {
        shown.push('…');
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_every_form_of_uri() {
        for (uri, expected) in [
            ("sip:1@pbx.example", Some("pbx.example")),
            ("sip:1@[2001:db8::1]:5060;transport=tcp", Some("[2001:db8::1]")),
            ("sip:1@[2001:db8::1]", Some("[2001:db8::1]")),
            ("tel:+1", None),
        ] {
            let party = Party { uri: Some(uri.to_owned()), ..Party::default() };
            assert_eq!(host(&party), expected, "{uri}");
        }
    }
}

//! One call of the journal as Rostelecom's virtual PBX tells it: in the answer to `call_info`, and as a row of its history.
//!
//! Seconds count from the beginning of the call, ringing included, and are cut off. A call of several legs, such as a
//! callback or one that was given away, is one call.

use serde::Serialize;

use super::{escaped, spoken_of};
use crate::events::store::Entry;
use crate::events::upstream::facts::{Facts, host, is_short};
use crate::events::{CallResult, Direction, Number, Party};
use crate::now::CLOCK_WAS_SET;

/// Legs of a call whose steps are told.
const LEGS: usize = 16;

/// Where an extension is, as far as settings say so; otherwise its line does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The domain of SIP addresses.
    pub domain: Option<&'a str>,
    /// The short number of this extension.
    pub pin: Option<&'a str>,
}

impl Place<'_> {
    /// Somebody's SIP URI, in digits alone where the number is a public one; empty where it is withheld.
    pub(super) fn address(&self, party: &Party, number: Option<&Number>) -> String {
        match self.user_at(party, number) {
            Some(address) => format!("sip:{address}"),
            None => String::new(),
        }
    }

    /// The same without its scheme, `user@domain`; `None` where it is withheld.
    fn user_at(&self, party: &Party, number: Option<&Number>) -> Option<String> {
        let user = escaped(number.map(spoken_of)?);
        Some(match self.domain.or_else(|| host(party)) {
            Some(host) => format!("{user}@{host}"),
            None => user,
        })
    }

    /// The short number of whoever is here.
    pub(super) fn own_pin<'p>(&'p self, own: &'p Party) -> Option<&'p str> {
        self.pin.or_else(|| own.number.as_ref().map(|it| it.dialled.as_str()))
    }
}

/// The short number of whoever is at the other end, if the call is one inside of the PBX.
pub(super) fn inside_pin(remote: &Party) -> Option<&str> {
    remote.number.as_ref().map(|it| it.dialled.as_str()).filter(|it| is_short(it))
}

/// A call, in the fields of the manual and their order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CallInfo {
    /// 1: an ordinary call, 3: a callback.
    pub call_type: u8,
    /// 1: from outside, 2: to outside, 3: inside of the PBX.
    pub direction: u8,
    /// 1: somebody answered, 2: nobody did.
    pub state: u8,
    /// The SIP address of who calls; of a callback, of who was rung first.
    pub orig_number: String,
    /// The short number of who calls; `null` for a call from outside.
    pub orig_pin: Option<String>,
    /// The SIP address of who is called, by the number that was dialled from outside where the PBX tells it.
    pub dest_number: String,
    /// `user@domain` of who answered; `null` if nobody did.
    pub answering_sipuri: Option<String>,
    /// Their short number, if they have one.
    pub answering_pin: Option<String>,
    /// Seconds since 1970; empty where the clock was not set.
    pub start_call_date: String,
    /// Seconds from the beginning of the call to its end; 0 if nobody answered, or while it goes on.
    pub duration: u64,
    /// `second:what:who;` for each step: `el` the line it came by, `ru` for whom, `ct` who is called, `cc` who talks, `cd` who is gone.
    pub session_log: String,
    /// This device takes no messages.
    pub is_voicemail: bool,
    /// Whether there is, or will be, a recording.
    pub is_record: bool,
    /// This device takes no faxes.
    pub is_fax: bool,
    /// The SIP status that ended a call which nobody answered; "0" otherwise.
    pub status_code: String,
    /// Its words.
    pub status_string: String,
}

impl CallInfo {
    /// A call by its legs, in the order in which they began; `None` without any.
    pub fn of(legs: &[Entry], place: Place<'_>) -> Option<CallInfo> {
        let first = legs.first()?;
        let is_callback = first.leg.callback_id.is_some();
        // Who was rung first is the one for whom the others are called.
        let last = legs.get(usize::from(is_callback && legs.len() > 1))?;
        let facts = Facts::of_entry(first);
        let (own, remote) = facts.sides()?;
        let inside = inside_pin(remote);
        let incoming = first.leg.direction == Direction::In;
        let answered = if is_callback { is_answered(last) } else { legs.iter().any(is_answered) };
        let ended = legs.iter().all(|leg| leg.result.is_some());
        let (orig, dest) = match is_callback && legs.len() > 1 {
            true => (&first.leg.called, &last.leg.called),
            false => (&first.leg.caller, &first.leg.called),
        };
        let answering = match (answered, incoming) {
            (false, _) => None,
            (true, true) => Some((place.user_at(own, own.number.as_ref()), place.own_pin(own))),
            (true, false) => Some((place.user_at(dest, dest.number.as_ref()), inside_pin(dest))),
        };
        let until = legs.iter().map(|leg| since(first, leg).saturating_add(leg.total_us)).max()?;
        let (answering_sipuri, answering_pin) = answering.unwrap_or_default();
        let of_outgoing = match is_callback && legs.len() > 1 {
            true => inside_pin(orig),
            false => place.own_pin(own),
        };
        Some(CallInfo {
            call_type: if is_callback { 3 } else { 1 },
            direction: match (inside, incoming) {
                (Some(_), _) if !is_callback => 3,
                (_, true) => 1,
                (_, false) => 2,
            },
            state: if answered { 1 } else { 2 },
            orig_number: place.address(orig, orig.number.as_ref()),
            orig_pin: if incoming { inside } else { of_outgoing }.map(str::to_owned),
            dest_number: place
                .address(dest, facts.did.as_ref().filter(|_| incoming).or(dest.number.as_ref())),
            answering_sipuri,
            answering_pin: answering_pin.map(str::to_owned),
            start_call_date: match first.started_utc_us {
                set if set >= CLOCK_WAS_SET => set.div_euclid(1_000_000).to_string(),
                _ => String::new(),
            },
            duration: if answered && ended { seconds(until) } else { 0 },
            session_log: session_log(legs),
            is_voicemail: false,
            is_record: legs.iter().any(|leg| leg.recording_id.is_some()),
            is_fax: false,
            status_code: match (answered, last.cause.status) {
                (false, Some(status)) => status.to_string(),
                _ => "0".to_owned(),
            },
            status_string: last.cause.text.clone().filter(|_| !answered).unwrap_or_default(),
        })
    }
}

fn is_answered(leg: &Entry) -> bool {
    leg.answered_utc_us.is_some() || matches!(leg.result, Some(CallResult::Answered | CallResult::MediaLost))
}

fn seconds(us: u64) -> u64 {
    us / 1_000_000
}

/// From the beginning of a call to that of one of its legs, in microseconds.
fn since(first: &Entry, leg: &Entry) -> u64 {
    u64::try_from(leg.started_utc_us.saturating_sub(first.started_utc_us)).unwrap_or(0)
}

/// What became of a call, step by step in the order of their seconds.
fn session_log(legs: &[Entry]) -> String {
    let mut steps: Vec<(u64, String)> = Vec::new();
    for leg in legs.iter().take(LEGS) {
        let Some(first) = legs.first() else { break };
        let begun = since(first, leg);
        let mut step = |us: u64, code: &str, who: &str| {
            steps.push((seconds(us), format!("{code}:{who};")));
        };
        let name = |party: &Party| party.number.as_ref().map(|it| escaped(spoken_of(it))).unwrap_or_default();
        let who = name(&leg.leg.called);
        if leg.leg.direction == Direction::In {
            let entered = leg.leg.did.as_ref().map(|did| escaped(spoken_of(did)));
            step(begun, "el", entered.as_ref().unwrap_or(&who));
            step(begun, "ru", &who);
        }
        step(begun, "ct", &who);
        if is_answered(leg) {
            step(begun.saturating_add(leg.ring_us), "cc", &who);
        }
        if leg.result.is_some() {
            step(begun.saturating_add(leg.total_us), "cd", &who);
        }
    }
    // Stable: what happened within one second stays in its order.
    crate::order::sort_by_key(&mut steps, |(second, _)| *second);
    steps.iter().map(|(second, step)| format!("{second}:{step}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Cause;
    use crate::events::upstream::samples::{TODAY, leg};

    const PLACE: Place<'static> = Place { domain: Some("192.0.2.1"), pin: Some("607") };

    fn entry(direction: Direction, result: CallResult, (ring_us, talk_us): (u64, u64)) -> Entry {
        let mut entry = Entry::begun("c1", leg(direction), TODAY);
        if direction == Direction::Out {
            entry.leg.did = None;
        }
        let total_us = ring_us + talk_us;
        entry.answered_utc_us = (talk_us > 0).then(|| TODAY + ring_us.cast_signed());
        (entry.result, entry.ended_utc_us) = (Some(result), Some(TODAY + total_us.cast_signed()));
        (entry.total_us, entry.ring_us, entry.talk_us) = (total_us, ring_us, talk_us);
        entry
    }

    #[test]
    fn an_incoming_call_has_the_fields_of_the_manual_in_their_order_and_types() {
        let mut call = entry(Direction::In, CallResult::Answered, (9_900_000, 4_300_000));
        call.recording_id = Some("c1-1".into());
        let info = CallInfo::of(&[call], PLACE).expect("a call");
        assert_eq!(
            serde_json::to_string(&info).expect("JSON"),
            "{\"call_type\":1,\"direction\":1,\"state\":1,\"orig_number\":\"sip:74951234567@192.0.2.1\",\"orig_pin\":null,\
             \"dest_number\":\"sip:74957654321@192.0.2.1\",\"answering_sipuri\":\"101@192.0.2.1\",\"answering_pin\":\"607\",\
             \"start_call_date\":\"1795132800\",\"duration\":14,\
             \"session_log\":\"0:el:74957654321;0:ru:101;0:ct:101;9:cc:101;14:cd:101;\",\
             \"is_voicemail\":false,\"is_record\":true,\"is_fax\":false,\"status_code\":\"0\",\"status_string\":\"\"}"
        );
    }

    #[test]
    fn nobody_answered_is_no_duration_and_a_status() {
        let mut call = entry(Direction::Out, CallResult::Busy, (3_000_000, 0));
        call.cause = Cause::remote(486, "Busy Here");
        let info = CallInfo::of(&[call], PLACE).expect("a call");
        assert_eq!((info.direction, info.state, info.duration), (2, 2, 0));
        assert_eq!(
            (info.orig_pin.as_deref(), info.answering_sipuri, info.answering_pin),
            (Some("607"), None, None)
        );
        assert_eq!((info.status_code.as_str(), info.status_string.as_str()), ("486", "Busy Here"));
        assert_eq!(info.session_log, "0:ct:74951234567;3:cd:74951234567;");
    }

    #[test]
    fn a_callback_is_one_call_of_both_who_were_called() {
        let of = |number: &str, begun: u64, times| {
            let mut leg = entry(Direction::Out, CallResult::Answered, times);
            leg.leg.called = Party::numbered(number);
            leg.leg.callback_id = Some("b1".into());
            leg.started_utc_us += begun.cast_signed();
            leg
        };
        let both =
            [of("102", 0, (2_000_000, 10_000_000)), of("+74951234567", 2_000_000, (3_000_000, 7_000_000))];
        let info = CallInfo::of(&both, PLACE).expect("a call");
        assert_eq!((info.call_type, info.direction, info.state, info.duration), (3, 2, 1, 12));
        assert_eq!((info.orig_number.as_str(), info.orig_pin.as_deref()), ("sip:102@192.0.2.1", Some("102")));
        assert_eq!(info.answering_sipuri.as_deref(), Some("74951234567@192.0.2.1"));
        let expected = "0:ct:102;2:cc:102;2:ct:74951234567;5:cc:74951234567;12:cd:102;12:cd:74951234567;";
        assert_eq!(info.session_log, expected);
        let [first, mut second] = both;
        (second.result, second.answered_utc_us) = (Some(CallResult::Busy), None);
        second.cause = Cause::remote(486, "Busy Here");
        let alone = CallInfo::of(&[first, second], PLACE).expect("a call");
        assert_eq!(
            (alone.state, alone.duration, alone.status_code.as_str()),
            (2, 0, "486"),
            "the first one alone is no call"
        );
    }

    #[test]
    fn a_call_that_goes_on_has_no_end_and_no_duration() {
        let mut call = entry(Direction::In, CallResult::Answered, (2_000_000, 0));
        (call.result, call.ended_utc_us, call.answered_utc_us) = (None, None, Some(TODAY + 2_000_000));
        call.leg.caller = Party::numbered("703");
        let info = CallInfo::of(&[call], PLACE).expect("a call");
        assert_eq!(
            (info.direction, info.orig_pin.as_deref(), info.state, info.duration),
            (3, Some("703"), 1, 0)
        );
        assert_eq!(info.session_log, "0:el:74957654321;0:ru:101;0:ct:101;2:cc:101;");
    }

    #[test]
    fn nobody_writes_steps_of_his_own_into_the_log() {
        let mut call = entry(Direction::Out, CallResult::Answered, (1_000_000, 1_000_000));
        call.leg.called = Party::numbered("1;99:cd:x\r\n");
        let log = CallInfo::of(&[call], PLACE).expect("a call").session_log;
        assert_eq!((log.matches(';').count(), log.matches(':').count()), (3, 6), "{log}");
        assert_eq!(CallInfo::of(&[], PLACE), None);
    }
}

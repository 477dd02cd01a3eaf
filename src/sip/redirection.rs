//! Where a call was meant to go before it was sent on to us: Diversion (RFC 5806) and History-Info (RFC 7044).
//!
//! Both are written by the servers on the way. What can't be read, or is more than a list may hold, says nothing at all.

use super::fields::{FieldValue, Fields};
use super::grammar;
use super::name_addr::NameAddr;
use super::reason::Reason;

/// What the servers on the way tell of a call that did not come straight to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirection {
    /// Whom the caller and those who sent the call on were calling, the first one first.
    pub targets: Vec<NameAddr>,
    /// Who sent it on last, if it was sent on for a reason.
    pub by: Option<Diverting>,
}

/// Who sent a call on, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverting {
    /// Who did.
    pub who: NameAddr,
    /// Why, in a word of ours; `None` if that is not known.
    pub why: Option<&'static str>,
    /// Who did asks not to be named.
    pub private: bool,
}

/// The reasons of RFC 5806 §4 in our words.
const WORDS: &[(&str, &str)] = &[
    ("unconditional", "unconditional"),
    ("user-busy", "busy"),
    ("no-answer", "no_answer"),
    ("unavailable", "unavailable"),
    ("out-of-service", "unavailable"),
    ("deflection", "deflected"),
    ("do-not-disturb", "do_not_disturb"),
    ("time-of-day", "time_of_day"),
    ("follow-me", "follow_me"),
    ("away", "away"),
];

/// The causes of RFC 4458 §2, which are also what RFC 7544 §7 makes of those reasons, in our words.
const CAUSES: &[(u16, &str)] = &[
    (302, "unconditional"),
    (404, "unavailable"),
    (408, "no_answer"),
    (480, "deflected"),
    (486, "busy"),
    (487, "deflected"),
    (503, "unavailable"),
];

impl Redirection {
    /// What Diversion says: the field of whoever sent the call on last comes first.
    pub fn by_diversion(fields: &Fields) -> Redirection {
        let mut targets = fields.name_addrs("Diversion").unwrap_or_default();
        let by = targets.first().map(|last| {
            let hides = |privacy: &str| ["full", "name", "uri"].contains(&privacy);
            let word = last.param("reason").unwrap_or_default().to_ascii_lowercase();
            Diverting {
                why: WORDS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours),
                private: last.param("privacy").is_some_and(|privacy| hides(&privacy.to_ascii_lowercase())),
                who: last.clone(),
            }
        });
        targets.reverse();
        Redirection { targets, by }
    }

    /// What History-Info says: each target that was tried is in the place in which it was. Only a target that was left for
    /// a cause, or one that was chosen by a cause, tells of somebody who sent the call on: a number that a server takes
    /// for an extension is no diversion.
    pub fn by_history(fields: &Fields) -> Redirection {
        let targets = fields.name_addrs("History-Info").unwrap_or_default();
        let by = (0..targets.len()).rev().find_map(|at| {
            let (left, cause) = left_for(&targets, at)?;
            let who = targets.get(left)?.clone();
            let word = CAUSES.iter().find(|(status, _)| *status == cause);
            Some(Diverting { private: is_private(&who), why: word.map(|(_, ours)| *ours), who })
        });
        Redirection { targets, by }
    }
}

/// The place of who sent the call on to, or away from, the target at this place, and the cause.
fn left_for(targets: &[NameAddr], at: usize) -> Option<(usize, u16)> {
    let target = targets.get(at)?;
    // RFC 4458: the new target carries the cause, and `mp` the index of the one before it (RFC 7044 §5).
    let cause = target.uri.as_sip().and_then(|uri| uri.param("cause")).and_then(|cause| cause.parse().ok());
    if let Some((cause, before)) = cause.zip(at.checked_sub(1)) {
        let parent = target.param("mp");
        let index_is = |it: &NameAddr| parent.is_some() && it.param("index") == parent;
        return Some((targets.iter().take(at).position(index_is).unwrap_or(before), cause));
    }
    // RFC 7044 §5.1: the old one carries the reason, inside its URI.
    let is_last = at + 1 == targets.len();
    let reason = header(target, Reason::NAME).filter(|_| !is_last)?;
    let reason = Reason::parse(&reason).ok().filter(|it| it.protocol.eq_ignore_ascii_case("SIP"))?;
    Some((at, reason.cause?))
}

/// Whether an entry asks not to be named (RFC 7044 §10.1.1).
fn is_private(entry: &NameAddr) -> bool {
    let asks = |word: &[u8]| [&b"history"[..], b"header", b"id"].contains(&grammar::trim(word));
    header(entry, "Privacy")
        .is_some_and(|words| words.to_ascii_lowercase().split(|it| matches!(it, b';' | b',')).any(asks))
}

/// The value of a header inside the URI, without escapes.
fn header(entry: &NameAddr, name: &str) -> Option<Vec<u8>> {
    let headers = &entry.uri.as_sip()?.headers;
    let (_, value) = headers.iter().find(|(it, _)| grammar::unescape(it).eq_ignore_ascii_case(name))?;
    Some(grammar::unescape_octets(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::name_addr::MAX_ADDRESSES;

    fn told(read: fn(&Fields) -> Redirection, name: &str, values: &[&str]) -> Told {
        let mut fields = Fields::new();
        values.iter().for_each(|value| fields.push(name, *value));
        let user = |it: &NameAddr| it.uri.user().unwrap_or_default().into_owned();
        let redirection = read(&fields);
        (
            redirection.targets.iter().map(user).collect(),
            redirection.by.map(|by| (user(&by.who), by.why, by.private)),
        )
    }

    type Told = (Vec<String>, Option<(String, Option<&'static str>, bool)>);

    fn expected(targets: &[&str], by: Option<(&str, Option<&'static str>, bool)>) -> Told {
        let by = by.map(|(who, why, private)| (who.to_owned(), why, private));
        (targets.iter().map(|it| (*it).to_owned()).collect(), by)
    }

    #[test]
    fn the_last_diversion_comes_first() {
        let of = |values: &[&str]| told(Redirection::by_diversion, "Diversion", values);
        let two =
            ["<sip:102@pbx.example>;reason=user-busy;counter=1", "<tel:+74957654321>;reason=unconditional"];
        let by = Some(("102", Some("busy"), false));
        assert_eq!(of(&two), expected(&["+74957654321", "102"], by));
        assert_eq!(of(&[&two.join(", ")]), of(&two), "one field or two is the same");
        let hidden = ["\"Boss\" <sip:102@pbx.example>;privacy=\"full\";reason=\"No-Answer\""];
        assert_eq!(of(&hidden), expected(&["102"], Some(("102", Some("no_answer"), true))));
        assert_eq!(of(&["<sip:102@x>;reason=x-moon"]), expected(&["102"], Some(("102", None, false))));
        for nothing in
            [&[][..], &[""], &["<sip:102@x"], &["102"], &[&vec!["<sip:1@x>"; MAX_ADDRESSES + 1].join(",")]]
        {
            assert_eq!(of(nothing), expected(&[], None), "{nothing:?}");
        }
    }

    #[test]
    fn the_history_tells_who_sent_the_call_on_for_a_cause() {
        let of = |values: &[&str]| told(Redirection::by_history, "History-Info", values);
        // By the reason at the old target (RFC 7044 §5.1) …
        let reason = "<sip:102@pbx.example?Reason=SIP%3Bcause%3D486%3Btext%3D%22Busy%20Here%22>;index=1.1";
        let history =
            ["<sip:+74957654321@pbx.example>;index=1", reason, "<sip:101@pbx.example>;index=1.2;mp=1.1"];
        assert_eq!(
            of(&history),
            expected(&["+74957654321", "102", "101"], Some(("102", Some("busy"), false)))
        );
        // … or by the cause at the new one (RFC 4458), whose `mp` says which one the old one is.
        let cause = ["<sip:102@x>;index=1, <sip:103@x>;index=1.1", "<sip:101@x;cause=408>;index=1.2;mp=1"];
        assert_eq!(of(&cause), expected(&["102", "103", "101"], Some(("102", Some("no_answer"), false))));
        let hidden =
            ["<sip:102@x?Privacy=history&Reason=SIP%3Bcause%3D302>;index=1", "<sip:101@x>;index=1.1"];
        assert_eq!(of(&hidden), expected(&["102", "101"], Some(("102", Some("unconditional"), true))));
        // A number became an extension: nobody sent anything on.
        let mapped = ["<sip:+74957654321@x>;index=1", "<sip:101@x>;index=1.1;rc=1"];
        assert_eq!(of(&mapped), expected(&["+74957654321", "101"], None));
        for nothing in [
            "<sip:1@x;cause=302>;index=1",
            "<sip:1@x?Reason=SIP%3Bcause%3D302>;index=1",
            "<sip:1@x?Reason=%00>;index=1, <sip:1@x>",
        ] {
            assert_eq!(of(&[nothing]).1, None, "{nothing}");
        }
    }
}

//! Alert-Info and Call-Info: how an incoming call is to be announced (RFC 3261 §20.4, §20.9).

use super::fields::Fields;
use super::grammar::{self, Cursor};
use super::params::Params;

/// The longest delay before an automatic answer that is obeyed, in seconds.
const MAX_ANSWER_AFTER: u32 = 60;

/// After how many seconds the caller asks the phone to answer by itself.
///
/// The forms in use: `Call-Info: <…>;answer-after=0`, `Alert-Info: <…>;info=alert-autoanswer` (also without
/// brackets, and with `delay=`), `Alert-Info: Auto Answer`, and the `Answer-Mode: Auto` of RFC 5373. Whether
/// to obey is not decided here.
pub fn answer_after(fields: &Fields) -> Option<u32> {
    for name in ["Call-Info", "Alert-Info"] {
        for value in fields.all(name).flat_map(grammar::elements) {
            if let Some(seconds) = read_answer_after(value) {
                return Some(seconds.min(MAX_ANSWER_AFTER));
            }
        }
    }
    let is_automatic = |name| {
        fields.get(name).is_some_and(|mode| {
            mode.split(|&octet| octet == b';')
                .next()
                .map(grammar::trim)
                .unwrap_or_default()
                .eq_ignore_ascii_case(b"auto")
        })
    };
    (is_automatic("Answer-Mode") || is_automatic("Priv-Answer-Mode")).then_some(0)
}

fn read_answer_after(value: &[u8]) -> Option<u32> {
    let mut cursor = Cursor::new(value);
    let named = match cursor.take(b'<') {
        true => {
            cursor.take_while(|octet| octet != b'>');
            cursor.take(b'>').then_some(&b""[..])?
        }
        false => grammar::trim(cursor.take_while(|octet| octet != b';')),
    };
    if [&b"auto answer"[..], b"ring answer", b"alert-autoanswer"]
        .iter()
        .any(|word| named.eq_ignore_ascii_case(word))
    {
        return Some(0);
    }
    // `info=…` may stand alone, without anything before it.
    let lone;
    if named.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"info=")) {
        lone = [b";", value].concat();
        cursor = Cursor::new(&lone);
    }
    let params = Params::read(&mut cursor)?;
    let seconds =
        |name| params.value(name).and_then(|seconds| grammar::saturating_number(seconds.as_bytes()));
    if let Some(seconds) = seconds("answer-after") {
        return Some(seconds);
    }
    let info = params.value("info")?;
    let is_automatic =
        ["alert-autoanswer", "auto-answer", "intercom"].iter().any(|word| info.eq_ignore_ascii_case(word));
    is_automatic.then(|| seconds("delay").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(name: &str, value: &str) -> Option<u32> {
        let mut fields = Fields::new();
        fields.push(name, value);
        answer_after(&fields)
    }

    #[test]
    fn the_forms_in_use_are_understood() {
        assert_eq!(after("Call-Info", "<sip:pbx>;answer-after=0"), Some(0));
        assert_eq!(after("Call-Info", "<http://a/b.png>;purpose=icon, <sip:x>; Answer-After = 5"), Some(5));
        assert_eq!(after("Call-Info", "<sip:pbx>;answer-after=99999999999"), Some(MAX_ANSWER_AFTER));
        assert_eq!(after("Alert-Info", "<http://x>;info=alert-autoanswer;delay=2"), Some(2));
        assert_eq!(after("Alert-Info", "info=alert-autoanswer;delay=0"), Some(0));
        assert_eq!(after("Alert-Info", "Auto Answer"), Some(0));
        assert_eq!(after("Answer-Mode", "Auto;require"), Some(0));
    }

    #[test]
    fn anything_else_rings() {
        for (name, value) in [
            ("Alert-Info", "<http://www.example.com/sounds/moo.wav>"),
            ("Alert-Info", "<sip:x;answer-after=0>"),
            ("Call-Info", "<sip:x>;answer-after=soon"),
            ("Call-Info", "<sip:x"),
            ("Answer-Mode", "Manual"),
            ("Subject", "answer-after=0"),
        ] {
            assert_eq!(after(name, value), None, "{value}");
        }
    }
}

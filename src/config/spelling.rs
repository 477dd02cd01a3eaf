//! How telephone numbers are written by people: digits, and what stands between them.

/// Whether a character may stand between the digits of a number and means nothing (RFC 3966 §3, and what displays and
/// web pages show: narrow spaces and typographic dashes).
pub fn is_separator(character: char) -> bool {
    matches!(character, ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' | '\u{2009}'..='\u{2015}' | '\u{202f}')
}

/// A number without what people write between its digits. Everything else stays.
pub fn spelled(number: &str) -> String {
    number.chars().filter(|c| !is_separator(*c)).collect()
}

/// The user of an address, without scheme, host and parameters: `79771234567` of `sip:79771234567@pbx;user=phone`. A text
/// that is no address is itself.
pub(super) fn user(text: &str) -> &str {
    let schemes = ["sip:", "sips:", "tel:"];
    let scheme = schemes
        .iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)));
    let rest = text.get(scheme.map_or(0, |scheme| scheme.len())..).unwrap_or_default();
    rest.split(['@', ';']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_digits_does_not_count() {
        assert_eq!(spelled("+49 (30) 123-45.67"), "+49301234567");
        assert_eq!(spelled("8\u{a0}495\u{202f}445\u{2011}11\u{2013}20"), "84954451120");
        assert_eq!(spelled("*21#"), "*21#");
        assert_eq!(spelled("an na"), "anna");
    }

    #[test]
    fn the_user_of_an_address() {
        for (text, expected) in [
            ("sip:79771234567@dom", "79771234567"),
            ("SIPS:anna@dom", "anna"),
            ("tel:+7-977-1234567;phone-context=x", "+7-977-1234567"),
            ("79771234567@dom", "79771234567"),
            ("+79771234567", "+79771234567"),
            ("ü:1", "ü:1"),
            ("", ""),
        ] {
            assert_eq!(user(text), expected, "{text}");
        }
    }
}

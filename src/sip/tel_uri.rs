//! The `tel:` URI (RFC 3966): a telephone number, global (`+49…`) or local to a context.

use super::grammar;
use super::params::Params;
use super::uri;
use std::fmt;

/// A telephone number as a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelUri {
    number: String,
    /// The parameters (`ext`, `phone-context`, `isub`, …), escapes not undone.
    pub params: Params,
}

impl TelUri {
    /// A `tel:` URI for a number; `None` if it has another character than digits, `*`, `#`, `A`–`F`, a
    /// leading `+` and visual separators (`-`, `.`, parentheses).
    pub fn new(number: &str) -> Option<TelUri> {
        is_number(number.as_bytes()).then(|| TelUri { number: number.to_owned(), params: Params::new() })
    }

    /// The number as it was written.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// The number without visual separators.
    pub fn dial_string(&self) -> String {
        self.number.chars().filter(|&character| !is_separator(character)).collect()
    }

    /// Whether the number is valid everywhere: it begins with `+`.
    pub fn is_global(&self) -> bool {
        self.number.starts_with('+')
    }

    /// Where a local number is valid: a prefix such as `+49`, or a domain.
    pub fn phone_context(&self) -> Option<&str> {
        self.params.get("phone-context").flatten()
    }

    pub(super) fn read(rest: &[u8]) -> Option<TelUri> {
        let mut parts = rest.splitn(2, |&octet| octet == b';');
        let number = parts.next()?;
        if !is_number(number) {
            return None;
        }
        let params = match parts.next() {
            Some(params) => uri::read_params(params)?,
            None => Params::new(),
        };
        Some(TelUri { number: grammar::text(number).into_owned(), params })
    }

    /// RFC 3966 §4: without visual separators, case counts for nothing, every parameter must agree.
    pub(super) fn equivalent(&self, other: &TelUri) -> bool {
        let params_agree = |a: &TelUri, b: &TelUri| {
            a.params.iter().all(|param| {
                b.params.get(&param.name).is_some_and(|value| {
                    uri::same_escaped(
                        param.value.as_deref().unwrap_or_default(),
                        value.unwrap_or_default(),
                        false,
                    )
                })
            })
        };
        self.dial_string().eq_ignore_ascii_case(&other.dial_string())
            && params_agree(self, other)
            && params_agree(other, self)
    }
}

fn is_separator(character: char) -> bool {
    matches!(character, '-' | '.' | '(' | ')')
}

fn is_number(text: &[u8]) -> bool {
    let (digits, local) = match text {
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, true),
    };
    let is_digit = |octet: u8| {
        octet.is_ascii_digit() || local && matches!(octet, b'*' | b'#' | b'A'..=b'F' | b'a'..=b'f')
    };
    digits.iter().all(|&octet| is_digit(octet) || is_separator(char::from(octet)))
        && digits.iter().any(|&octet| is_digit(octet))
}

impl fmt::Display for TelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tel:{}{}", self.number, self.params)
    }
}

#[cfg(test)]
mod tests {
    use crate::sip::uri::Uri;

    fn tel(text: &str) -> Uri {
        Uri::parse(text).unwrap()
    }

    #[test]
    fn global_and_local_numbers_are_read() {
        let Uri::Tel(global) = tel("TEL:+1-201-555-0123;ext=55") else { panic!("a tel URI") };
        assert!(global.is_global());
        assert_eq!(global.dial_string(), "+12015550123");
        assert_eq!(global.params.value("ext").as_deref(), Some("55"));
        let Uri::Tel(local) = tel("tel:7042;phone-context=example.com") else { panic!("a tel URI") };
        assert_eq!((local.is_global(), local.phone_context()), (false, Some("example.com")));
        assert_eq!(tel("tel:*43#").user().as_deref(), Some("*43#"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in
            ["tel:", "tel:+", "tel:--", "tel:+1*2", "tel:bob", "tel:1 2", "tel:1;", "tel:1;;a", "tel:+1@h"]
        {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn separators_and_case_do_not_count_but_contexts_do() {
        assert!(tel("tel:+1-201-555-0123").equivalent(&tel("tel:+12015550123")));
        assert!(
            tel("tel:123;phone-context=EXAMPLE.com").equivalent(&tel("tel:1-23;Phone-Context=example.com"))
        );
        assert!(!tel("tel:123;phone-context=a.com").equivalent(&tel("tel:123;phone-context=b.com")));
        assert!(!tel("tel:+123").equivalent(&tel("tel:123;phone-context=+49")));
    }
}

//! The grammar that every field of SIP shares (RFC 3261 §25.1): white space, tokens, quoted strings, escapes.
//!
//! It works on octets and never fails on any of them. Folded lines were joined before (see `reader`), so that
//! here linear white space is blanks and tabs only.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text that does not follow the grammar of what it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(
    /// What it was meant to be: the name of a field, or "Request-URI".
    pub &'static str,
);

const TOKEN: u8 = 1;
const USER: u8 = 2;
const PASSWORD: u8 = 4;
const URI_PARAM: u8 = 8;
const VALUE: u8 = 16;
const URI_HEADER: u8 = 32;
const OPAQUE: u8 = 64;

/// What each octet may be part of.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [0u8; 256];
    let mut octet = 0x21;
    while octet < 0x7f {
        if !matches!(octet as u8, b'"' | b'<' | b'>' | b'\\') {
            class[octet] |= OPAQUE;
        }
        octet += 1;
    }
    class = mark(class, ALPHANUMERIC, TOKEN | USER | PASSWORD | URI_PARAM | VALUE | URI_HEADER);
    class = mark(class, b"-.!%*_+`'~", TOKEN | VALUE);
    class = mark(class, b"-_.!~*'()", USER | PASSWORD | URI_PARAM | URI_HEADER);
    // `#` is no character of a user part, but phones and exchanges put feature codes such as *43# there
    // unescaped.
    class = mark(class, b"&=+$,;?/#", USER);
    class = mark(class, b"&=+$,", PASSWORD);
    // `=` and `@` are what some proxies leave unescaped in the values they hide in a URI.
    class = mark(class, b"[]/:&+$=@,", URI_PARAM);
    class = mark(class, b"[]/?:+$", URI_HEADER);
    mark(class, b"[]:/?@&=$()#{}^|", VALUE)
}

const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const fn mark(mut class: [u8; 256], octets: &[u8], flag: u8) -> [u8; 256] {
    let mut at = 0;
    while at < octets.len() {
        class[octets[at] as usize] |= flag;
        at += 1;
    }
    class
}

const fn is(octet: u8, flag: u8) -> bool {
    CLASS[octet as usize] & flag != 0
}

/// A character of `token`.
pub fn is_token(octet: u8) -> bool {
    is(octet, TOKEN)
}

/// A character of the user part of a SIP URI; `%` is looked at apart.
pub(super) fn is_user(octet: u8) -> bool {
    is(octet, USER)
}

/// A character of the password of a SIP URI; `%` is looked at apart.
pub(super) fn is_password(octet: u8) -> bool {
    is(octet, PASSWORD)
}

/// A character of a parameter of a URI; `%` is looked at apart.
pub(super) fn is_uri_param(octet: u8) -> bool {
    is(octet, URI_PARAM)
}

/// A character of a header of a SIP URI (what follows `?`); `%` is looked at apart.
pub(super) fn is_uri_header(octet: u8) -> bool {
    is(octet, URI_HEADER)
}

/// A character of a URI whose scheme is not known here.
pub(super) fn is_opaque(octet: u8) -> bool {
    is(octet, OPAQUE)
}

/// A blank or a tab: what linear white space is made of once folded lines are joined.
pub fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

/// Whether this is a token of at least one character.
pub fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&octet| is_token(octet))
}

/// Without the blanks and tabs at both ends.
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// Octets as text: UTF-8 where they are, otherwise each octet as the Latin-1 character it must have been
/// meant as.
pub fn text(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(octets.iter().map(|&octet| char::from(octet)).collect()),
    }
}

/// A decimal number without sign; `None` if there is anything else, or nothing.
///
/// What is too large for the result becomes its largest value, as RFC 3261 §25.1 suggests for delta-seconds.
pub fn saturating_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, octet| {
        octet.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(octet - b'0')))
    })
}

/// A decimal number without sign that fits 32 bits; `None` otherwise.
pub fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| u32::from(octet - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A place in a field's value that moves on as the value is read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    octets: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the start of `octets`.
    pub fn new(octets: &'a [u8]) -> Cursor<'a> {
        Cursor { octets }
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.octets.is_empty()
    }

    /// The next octet, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.octets.first().copied()
    }

    /// Moves past blanks and tabs.
    pub fn skip_blanks(&mut self) {
        while let [first, rest @ ..] = self.octets
            && is_blank(*first)
        {
            self.octets = rest;
        }
    }

    /// Moves past this octet if it is next.
    pub fn take(&mut self, octet: u8) -> bool {
        match self.octets {
            [first, rest @ ..] if *first == octet => {
                self.octets = rest;
                true
            }
            _ => false,
        }
    }

    /// Moves past this separator and the white space around it; stays where it is if it does not come next.
    pub fn separator(&mut self, octet: u8) -> bool {
        let mut ahead = *self;
        ahead.skip_blanks();
        if !ahead.take(octet) {
            return false;
        }
        ahead.skip_blanks();
        *self = ahead;
        true
    }

    /// The run of octets that `belongs` accepts; it may be empty.
    pub fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.octets.iter().position(|&octet| !belongs(octet)).unwrap_or(self.octets.len());
        let (taken, rest) = self.octets.split_at(end);
        self.octets = rest;
        taken
    }

    /// A token of at least one character.
    pub fn token(&mut self) -> Option<&'a str> {
        let token = self.take_while(is_token);
        // A token is ASCII, so that this never fails on one that is not empty.
        std::str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// A quoted string as it stands there, with its quotation marks and escapes.
    pub fn quoted(&mut self) -> Option<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let mut escaped = false;
        for (at, &octet) in self.octets.iter().enumerate().skip(1) {
            match octet {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let (quoted, rest) = self.octets.split_at(at + 1);
                    self.octets = rest;
                    return Some(quoted);
                }
                _ => {}
            }
        }
        None
    }

    /// The value of a header's parameter, as it stands there: a quoted string, a token, a host. It may be
    /// empty.
    pub fn value(&mut self) -> Option<&'a [u8]> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            _ => Some(self.take_while(|octet| is(octet, VALUE))),
        }
    }
}

/// The text in a quoted string, without quotation marks and escapes. What is not quoted is given back as it
/// is.
pub fn unquote(quoted: &str) -> Cow<'_, str> {
    let Some(inner) = quoted.strip_prefix('"') else { return Cow::Borrowed(quoted) };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

/// Appends `plain` as a quoted string. CR and LF can't be said in one (RFC 3261 §25.1) and become blanks;
/// other control characters are escaped.
pub fn quote_into(plain: &str, out: &mut String) {
    out.push('"');
    for character in plain.chars() {
        match character {
            '\r' | '\n' => out.push(' '),
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            '\t' => out.push('\t'),
            control if control.is_ascii_control() => {
                out.push('\\');
                out.push(control);
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// `plain` as a quoted string; see [`quote_into`].
pub fn quote(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len() + 2);
    quote_into(plain, &mut out);
    out
}

/// The value of the two hexadecimal digits after a `%`, if there are two.
fn escaped_octet(digits: &[u8]) -> Option<u8> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match digits {
        [high, low, ..] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

/// Whether every `%` is followed by two hexadecimal digits and every other octet is accepted by `belongs`.
pub(super) fn is_escaped_text(octets: &[u8], belongs: impl Fn(u8) -> bool) -> bool {
    let mut rest = octets;
    while let [first, after @ ..] = rest {
        rest = match *first {
            b'%' if escaped_octet(after).is_some() => after.get(2..).unwrap_or_default(),
            octet if octet != b'%' && belongs(octet) => after,
            _ => return false,
        };
    }
    true
}

/// The octets that percent-escaped text stands for; a `%` that starts no escape stands for itself.
pub fn unescape_octets(escaped: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match escaped_octet(after) {
            Some(octet) if *first == b'%' => {
                plain.push(octet);
                after.get(2..).unwrap_or_default()
            }
            _ => {
                plain.push(*first);
                after
            }
        };
    }
    plain
}

/// The text that percent-escaped text stands for (octets as in [`text`]).
pub fn unescape(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains('%') {
        return Cow::Borrowed(escaped);
    }
    Cow::Owned(text(&unescape_octets(escaped)).into_owned())
}

/// Percent-escapes every octet that `belongs` does not accept.
pub(super) fn escape(plain: &str, belongs: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(plain.len());
    for octet in plain.bytes() {
        if octet.is_ascii() && octet != b'%' && belongs(octet) {
            out.push(char::from(octet));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

/// The elements of a comma-separated list, without white space around them. Commas in quoted strings and
/// between angle brackets do not count; empty elements are left out.
pub fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let current = rest?;
        let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
        let end = current.iter().position(|&octet| {
            match octet {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' if !bracketed => quoted = !quoted,
                b'<' if !quoted => bracketed = true,
                b'>' if !quoted => bracketed = false,
                b',' if !quoted && !bracketed => return true,
                _ => {}
            }
            false
        });
        match end {
            Some(end) => {
                rest = current.get(end + 1..);
                current.get(..end)
            }
            None => {
                rest = None;
                Some(current)
            }
        }
    })
    .map(trim)
    .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_keeps_escaped_quotation_marks_and_backslashes() {
        let mut cursor = Cursor::new(br#""a \"b\" \\" tail"#);
        let quoted = cursor.quoted().unwrap();
        assert_eq!(unquote(std::str::from_utf8(quoted).unwrap()), r#"a "b" \"#);
        assert_eq!(cursor.rest(), b" tail");
    }

    #[test]
    fn a_quoted_string_without_end_is_none() {
        assert_eq!(Cursor::new(br#""never \""#).quoted(), None);
        assert_eq!(Cursor::new(b"\"").quoted(), None);
    }

    #[test]
    fn quoting_never_lets_a_line_end_through() {
        assert_eq!(quote("a\r\nVia: x\0"), "\"a  Via: x\\\0\"");
        assert_eq!(unquote(&quote(r#"\"x\"#)), r#"\"x\"#);
    }

    #[test]
    fn separators_take_the_white_space_around_them() {
        let mut cursor = Cursor::new(b" \t; x");
        assert!(!cursor.separator(b','));
        assert!(cursor.separator(b';'));
        assert_eq!(cursor.token(), Some("x"));
        assert!(cursor.is_at_end());
    }

    #[test]
    fn lists_split_at_commas_outside_quotes_and_brackets() {
        let list = br#" "a, \", b" <sip:x,y@h> , sip:z ,, "#;
        let parts: Vec<&[u8]> = elements(list).collect();
        assert_eq!(parts, [&br#""a, \", b" <sip:x,y@h>"#[..], b"sip:z"]);
        assert_eq!(elements(b"").count(), 0);
    }

    #[test]
    fn numbers_saturate_or_refuse() {
        assert_eq!(saturating_number(b"99999999999999999999"), Some(u32::MAX));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b"4294967296"[..], b"-1", b"+5", b"5abc", b"", b" 5"] {
            assert_eq!(number(bad), None);
        }
    }

    #[test]
    fn escapes_are_read_and_written() {
        assert_eq!(unescape("%75se%72%"), "user%");
        assert_eq!(unescape("%C3%A9"), "é");
        assert_eq!(unescape("%E9"), "é");
        assert_eq!(escape("a b@é%", is_user), "a%20b%40%C3%A9%25");
        assert!(!is_escaped_text(b"%Z%45", is_user));
    }
}

//! Who is named: display name, URI and parameters, as in From, To, Contact, Route and many more (RFC 3261
//! §20.10).

use super::grammar::{self, Cursor, Malformed};
use super::params::Params;
use super::uri::Uri;
use std::borrow::Cow;
use std::fmt;

/// The most addresses that one field (all its lines together) may list.
pub const MAX_ADDRESSES: usize = 70;

/// A URI with the name to show for it and the parameters of the field it stands in.
///
/// Without angle brackets all parameters belong to the field, none to the URI (RFC 3261 §20.10). It is always
/// written with angle brackets and, if there is one, a quoted display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The name to show; never empty when it was read.
    pub display: Option<String>,
    /// Who is named.
    pub uri: Uri,
    /// The parameters of the field: `tag`, `expires`, `q`, ….
    pub params: Params,
}

/// Whether a comma ends the value or may be part of an unquoted display name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    Ends,
    Belongs,
}

impl NameAddr {
    /// The URI alone.
    pub fn new(uri: impl Into<Uri>) -> NameAddr {
        NameAddr { display: None, uri: uri.into(), params: Params::new() }
    }

    /// The same with a display name; an empty one is none.
    #[must_use]
    pub fn with_display(mut self, display: Option<&str>) -> NameAddr {
        self.display = display.filter(|display| !display.is_empty()).map(str::to_owned);
        self
    }

    /// The same with a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.set_tag(tag);
        self
    }

    /// Reads a field that holds one address.
    ///
    /// An unquoted display name may have commas and other characters that it should not have: exchanges send
    /// `Bell, Alexander <sip:…>`, and here is no list in which the comma could mean something else (RFC 4475
    /// §3.1.2.15).
    ///
    /// # Errors
    /// [`Malformed`] if the value does not follow the grammar.
    pub fn parse(value: impl AsRef<[u8]>) -> Result<NameAddr, Malformed> {
        let mut cursor = Cursor::new(value.as_ref());
        let address = NameAddr::read(&mut cursor, Comma::Belongs);
        cursor.skip_blanks();
        address.filter(|_| cursor.is_at_end()).ok_or(Malformed("address"))
    }

    /// Reads a comma-separated list of addresses of at least one.
    ///
    /// # Errors
    /// [`Malformed`] if one does not follow the grammar, or there are more than [`MAX_ADDRESSES`].
    pub fn parse_list(value: impl AsRef<[u8]>) -> Result<Vec<NameAddr>, Malformed> {
        let mut list = Vec::new();
        let mut cursor = Cursor::new(value.as_ref());
        loop {
            list.push(NameAddr::read(&mut cursor, Comma::Ends).ok_or(Malformed("address"))?);
            if !cursor.separator(b',') {
                break;
            }
            if list.len() == MAX_ADDRESSES {
                return Err(Malformed("address list"));
            }
        }
        cursor.skip_blanks();
        if cursor.is_at_end() { Ok(list) } else { Err(Malformed("address")) }
    }

    fn read(cursor: &mut Cursor<'_>, comma: Comma) -> Option<NameAddr> {
        cursor.skip_blanks();
        let display = match cursor.peek()? {
            b'"' => {
                let quoted = grammar::text(cursor.quoted()?);
                let display = grammar::unquote(&quoted).into_owned();
                cursor.skip_blanks();
                (cursor.peek() == Some(b'<')).then_some(display)?
            }
            _ => {
                let mut ahead = *cursor;
                let ends = |octet: u8| match octet {
                    b'<' | b':' | b';' | b'"' => true,
                    b',' => comma == Comma::Ends,
                    _ => false,
                };
                let name = ahead.take_while(|octet| !ends(octet));
                if ahead.peek() != Some(b'<') {
                    return NameAddr::read_bare(cursor);
                }
                if name.iter().any(u8::is_ascii_control)
                    && name.iter().any(|&octet| octet != b'\t' && octet < b' ')
                {
                    return None;
                }
                *cursor = ahead;
                grammar::text(grammar::trim(name)).into_owned()
            }
        };
        if !cursor.take(b'<') {
            return None;
        }
        let uri = cursor.take_while(|octet| octet != b'>');
        if !cursor.take(b'>') {
            return None;
        }
        let uri = Uri::parse(grammar::trim(uri)).ok()?;
        let params = Params::read(cursor)?;
        Some(NameAddr { display: Some(display).filter(|display| !display.is_empty()), uri, params })
    }

    /// Without angle brackets: the URI ends at the first semicolon or comma, and has no headers.
    fn read_bare(cursor: &mut Cursor<'_>) -> Option<NameAddr> {
        let uri =
            cursor.take_while(|octet| !matches!(octet, b';' | b',' | b' ' | b'\t' | b'<' | b'>' | b'"'));
        if uri.contains(&b'?') {
            return None;
        }
        let uri = Uri::parse(uri).ok()?;
        Some(NameAddr { display: None, uri, params: Params::read(cursor)? })
    }

    /// The tag, unless it is missing or empty.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").flatten().filter(|tag| !tag.is_empty())
    }

    /// Sets the tag: one of our own, or that of the peer as it stood in its message.
    pub fn set_tag(&mut self, tag: &str) {
        self.params.set_as_read("tag", tag);
    }

    /// The `expires` of a Contact in seconds. A malformed one counts as 3600 (RFC 3261 §10.2.1.1), a huge one
    /// as the largest number.
    pub fn expires(&self) -> Option<u32> {
        const MALFORMED: u32 = 3600;
        self.params
            .value("expires")
            .map(|value| grammar::saturating_number(value.trim().as_bytes()).unwrap_or(MALFORMED))
    }

    /// The `q` of a Contact in thousandths, 1000 if it is missing or malformed (RFC 3261 §20.10).
    pub fn q(&self) -> u16 {
        self.params.value("q").and_then(|q| read_q(q.as_bytes())).unwrap_or(1000)
    }

    /// A parameter's value without quotation marks.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.params.value(name)
    }
}

/// A `q` value of 0 to 1 with at most three digits behind the point, in thousandths.
pub(super) fn read_q(q: &[u8]) -> Option<u16> {
    let mut halves = q.splitn(2, |&octet| octet == b'.');
    let whole = halves.next()?;
    let fraction = halves.next().unwrap_or_default();
    if whole.len() + fraction.len() == 0 || fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let scale = [1000, 100, 10, 1];
    let fraction = fraction
        .iter()
        .zip(scale.into_iter().skip(1))
        .map(|(digit, scale)| u16::from(digit - b'0') * scale)
        .sum::<u16>();
    match whole {
        b"" | b"0" => Some(fraction),
        b"1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", grammar::quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// What the Contact fields of a message say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: every binding, as a REGISTER removes them (RFC 3261 §10.2.2).
    Star,
    /// The addresses, which may be none.
    List(Vec<NameAddr>),
}

impl Contacts {
    /// The addresses; none for `*`.
    pub fn list(&self) -> &[NameAddr] {
        match self {
            Contacts::Star => &[],
            Contacts::List(list) => list,
        }
    }

    /// The first address.
    pub fn first(&self) -> Option<&NameAddr> {
        self.list().first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> NameAddr {
        NameAddr::parse(text).unwrap()
    }

    #[test]
    fn display_names_in_every_form() {
        for (text, display) in [
            ("sip:a@b", None),
            ("<sip:a@b>", None),
            ("\"\" <sip:a@b>", None),
            ("caller<sip:a@b>", Some("caller")),
            ("Bob of Biloxi <sip:a@b>", Some("Bob of Biloxi")),
            ("\"Quoted \\\"B\\\" \\\\\" <sip:a@b>", Some("Quoted \"B\" \\")),
            ("\"a <sip:evil@x>;tag=1, b\"<sip:a@b>", Some("a <sip:evil@x>;tag=1, b")),
            ("Bell, Alexander <sip:a@b>", Some("Bell, Alexander")),
            ("J\u{fc}rgen <sip:a@b>", Some("Jürgen")),
        ] {
            let address = read(text);
            assert_eq!(address.display.as_deref(), display, "{text}");
            assert_eq!(address.uri.to_string(), "sip:a@b");
            assert_eq!(read(address.to_string()), address);
        }
        assert_eq!(read(b"\"J\xfcrgen\" <sip:a@b>").display.as_deref(), Some("Jürgen"));
    }

    #[test]
    fn without_brackets_the_parameters_are_the_fields() {
        let bare = read("sip:a@b;tag=1;transport=tcp");
        assert_eq!((bare.tag(), bare.uri.to_string().as_str()), (Some("1"), "sip:a@b"));
        let bracketed = read("< sip:a@b;transport=tcp > ; tag = \t 1");
        assert_eq!(
            (bracketed.tag(), bracketed.uri.to_string().as_str()),
            (Some("1"), "sip:a@b;transport=tcp")
        );
        assert!(NameAddr::parse("sip:a@b?Route=x").is_err());
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for bad in [
            "",
            "*",
            "<sip:a@b",
            "sip:a@b>",
            "\"a <sip:a@b>",
            "\"a\" sip:a@b",
            "a \"b\" <sip:a@b>",
            "<sip:a@b> x",
            "<sip:a@b>;;x",
            "<sip:a b@c>",
            "<sip:a@b>, <sip:c@d>",
            "<<sip:a@b>>",
            "x\u{1}<sip:a@b>",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_told_apart_at_commas() {
        let list = NameAddr::parse_list("\"a, b\" <sip:a,x@b>;q=0.5 , sip:c@d;expires=5,<sip:e@f>").unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].display.as_deref(), Some("a, b"));
        assert_eq!((list[0].q(), list[1].q()), (500, 1000));
        assert_eq!((list[1].expires(), list[2].expires()), (Some(5), None));
        for bad in [
            "",
            "<sip:a@b>,",
            ",<sip:a@b>",
            "<sip:a@b>,,<sip:c@d>",
            "Bell, A <sip:a@b>",
            "<sip:a@b> <sip:c@d>",
        ] {
            assert!(NameAddr::parse_list(bad).is_err(), "{bad}");
        }
        assert!(NameAddr::parse_list(vec!["sip:a@b"; MAX_ADDRESSES].join(",")).is_ok());
        assert!(NameAddr::parse_list(vec!["sip:a@b"; MAX_ADDRESSES + 1].join(",")).is_err());
    }

    #[test]
    fn expires_and_q_never_fail() {
        assert_eq!(read("<sip:a@b>;expires=99999999999").expires(), Some(u32::MAX));
        assert_eq!(read("<sip:a@b>;expires=soon").expires(), Some(3600));
        for (q, thousandths) in
            [("0.25", 250), ("1.0", 1000), ("0", 0), (".5", 500), ("1.5", 1000), ("0.1234", 1000)]
        {
            assert_eq!(read(format!("<sip:a@b>;q={q}")).q(), thousandths, "{q}");
        }
    }

    #[test]
    fn a_display_name_can_not_break_out() {
        let name =
            NameAddr::new(Uri::parse("sip:a@b").unwrap()).with_display(Some("x\" <sip:evil@x>\r\nVia: y"));
        assert_eq!(name.to_string(), "\"x\\\" <sip:evil@x>  Via: y\" <sip:a@b>");
    }
}

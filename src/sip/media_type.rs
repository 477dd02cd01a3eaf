//! Media types: Content-Type says what the body is, Accept what may come back (RFC 3261 §20.15, §20.1).

use super::fields::{FieldValue, Fields};
use super::grammar::{self, Cursor, Malformed};
use super::params::Params;
use std::fmt;

/// `type/subtype` with parameters; in Accept either may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// The type, in lower case.
    pub kind: String,
    /// The subtype, in lower case.
    pub subtype: String,
    /// `boundary`, `charset`, `q`, ….
    pub params: Params,
}

impl MediaType {
    /// Whether this is `kind/subtype`.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}

impl FieldValue for MediaType {
    const NAME: &'static str = "Content-Type";

    fn parse(value: &[u8]) -> Result<MediaType, Malformed> {
        let read = || {
            let mut cursor = Cursor::new(value);
            let kind = cursor.token()?.to_ascii_lowercase();
            let subtype = cursor.separator(b'/').then(|| cursor.token())??.to_ascii_lowercase();
            let params = Params::read(&mut cursor)?;
            cursor.skip_blanks();
            cursor.is_at_end().then_some(MediaType { kind, subtype, params })
        };
        read().ok_or(Malformed("Content-Type"))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Whether a message with these fields accepts a body of this type. Without Accept it is SDP that it accepts
/// (RFC 3261 §20.1); an empty Accept accepts nothing, and so does `q=0` for what it stands at.
pub fn accepts(fields: &Fields, kind: &str, subtype: &str) -> bool {
    if !fields.has("Accept") {
        return kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("sdp");
    }
    let matching = |range: &MediaType| {
        (range.kind == "*" || range.kind.eq_ignore_ascii_case(kind))
            && (range.subtype == "*" || range.subtype.eq_ignore_ascii_case(subtype))
    };
    let is_wanted = |range: &MediaType| {
        range.params.value("q").and_then(|q| super::name_addr::read_q(q.as_bytes())).is_none_or(|q| q > 0)
    };
    let ranges: Vec<MediaType> = fields
        .all("Accept")
        .flat_map(grammar::elements)
        .filter_map(|range| MediaType::parse(range).ok())
        .collect();
    // The most specific range decides.
    ranges
        .iter()
        .filter(|range| matching(range))
        .max_by_key(|range| (range.kind != "*", range.subtype != "*"))
        .is_some_and(is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_without_case() {
        let read = MediaType::parse(b"Multipart / MIXED ; boundary=\"a;b\"").unwrap();
        assert!(read.is("multipart", "mixed"));
        assert_eq!(read.params.value("boundary").as_deref(), Some("a;b"));
        assert_eq!(read.write(), "multipart/mixed;boundary=\"a;b\"");
        for bad in [&b""[..], b"text", b"text/", b"/x", b"a/b c"] {
            assert!(MediaType::parse(bad).is_err());
        }
    }

    #[test]
    fn the_most_specific_accept_decides() {
        let accept = |values: &[&str]| {
            let mut fields = Fields::new();
            values.iter().for_each(|value| fields.push("Accept", *value));
            accepts(&fields, "application", "sdp")
        };
        assert!(accept(&[]));
        assert!(accept(&["text/plain, application/SDP"]));
        assert!(accept(&["*/*;q=0.1"]));
        assert!(accept(&["application/*;q=0", "application/sdp"]));
        assert!(!accept(&["application/sdp;q=0, */*"]));
        assert!(!accept(&["text/nobodyknowsthis"]));
        assert!(!accept(&[""]));
    }
}

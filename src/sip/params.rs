//! Parameters: the `;name=value` after a value or inside a URI (RFC 3261 §25.1 generic-param, uri-parameter).

use super::grammar::{self, Cursor, is_token_text};
use std::borrow::Cow;
use std::fmt;

/// The most parameters that one value may carry.
pub const MAX_PARAMS: usize = 64;

/// One parameter as it stands in the message: quoted strings with their marks, escapes of URIs not undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The name; it compares without regard to case.
    pub name: String,
    /// The value; `None` if there is no `=`.
    pub value: Option<String>,
}

/// Parameters in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<Param>);

impl Params {
    /// None.
    pub const fn new() -> Params {
        Params(Vec::new())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.0.iter()
    }

    /// The text after `=` as it stands there; `Some(None)` if the parameter is there without a value.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        self.find(name).map(|param| param.value.as_deref())
    }

    /// Whether the parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value, without quotation marks; `None` if the parameter or its value is missing.
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).flatten().map(grammar::unquote)
    }

    /// Sets the parameter, in its place if it was there: as a token if `value` is one, as a quoted string
    /// otherwise.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value =
            value.map(
                |value| {
                    if is_token_text(value.as_bytes()) { value.to_owned() } else { grammar::quote(value) }
                },
            );
        self.put(name, value);
    }

    /// Sets the parameter to text that is written as it is: for addresses, numbers, and values of URIs that
    /// are escaped.
    pub fn set_raw(&mut self, name: &str, value: &str) {
        self.put(name, Some(value.to_owned()));
    }

    /// Sets the parameter to text that came as such a value before ([`Params::get`]): as it stood there. What could not
    /// have stood there is quoted.
    pub fn set_as_read(&mut self, name: &str, value: &str) {
        let mut cursor = Cursor::new(value.as_bytes());
        match cursor.value().is_some_and(|read| !read.is_empty()) && cursor.is_at_end() {
            true => self.set_raw(name, value),
            false => self.set(name, Some(value)),
        }
    }

    /// Takes the parameter away; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|param| !param.name.eq_ignore_ascii_case(name));
        self.0.len() != before
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|param| param.name.eq_ignore_ascii_case(name)) {
            Some(param) => param.value = value,
            None => self.0.push(Param { name: name.to_owned(), value }),
        }
    }

    fn find(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Appends what was read; `None` if there are too many.
    pub(super) fn append(&mut self, name: &str, value: Option<String>) -> Option<()> {
        (self.0.len() < MAX_PARAMS).then(|| self.0.push(Param { name: name.to_owned(), value }))
    }

    /// Reads the parameters of a header's value, up to what is none. `None` if one is malformed: an empty one
    /// (`;;`), a quoted string without end, a name twice, too many.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Params> {
        let mut params = Params::new();
        while cursor.separator(b';') {
            let name = cursor.token()?;
            let value = match cursor.separator(b'=') {
                true => Some(grammar::text(cursor.value()?).into_owned()),
                false => None,
            };
            if params.has(name) {
                return None;
            }
            params.append(name, value)?;
        }
        Some(params)
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            write!(f, ";{}", param.name)?;
            if let Some(value) = &param.value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Params> {
        let mut cursor = Cursor::new(text.as_bytes());
        Params::read(&mut cursor).filter(|_| cursor.is_at_end())
    }

    #[test]
    fn white_space_and_quoted_values_are_read() {
        let params = read(" ; tag = 98 ;lr; x=\"a;b\\\"\" ;received=[2001:db8::1]").unwrap();
        assert_eq!(params.value("TAG").as_deref(), Some("98"));
        assert_eq!(params.get("lr"), Some(None));
        assert_eq!(params.value("x").as_deref(), Some("a;b\""));
        assert_eq!(params.get("received"), Some(Some("[2001:db8::1]")));
        assert_eq!(params.to_string(), ";tag=98;lr;x=\"a;b\\\"\";received=[2001:db8::1]");
    }

    #[test]
    fn empty_unbalanced_and_repeated_ones_are_refused() {
        for bad in [";;a", ";", ";a=\"b", ";a;A", "; =b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&";a".repeat(2)), None);
        let many: String = (0..=MAX_PARAMS).map(|n| format!(";p{n}")).collect();
        assert_eq!(read(&many), None);
    }

    #[test]
    fn values_are_quoted_when_they_must_be() {
        let mut params = Params::new();
        params.set("text", Some("Call completed; elsewhere"));
        params.set("cause", Some("200"));
        params.set("cause", Some("26"));
        params.set("flag", None);
        assert_eq!(params.to_string(), ";text=\"Call completed; elsewhere\";cause=26;flag");
        params.set_as_read("tag", "Wk8d/:=");
        assert_eq!(params.get("tag"), Some(Some("Wk8d/:=")));
        params.set_as_read("tag", "\"q x\"");
        assert_eq!(params.get("tag"), Some(Some("\"q x\"")));
        params.set_as_read("tag", "a;b\"");
        assert_eq!(params.get("tag"), Some(Some("\"a;b\\\"\"")));
        assert!(params.remove("tag"));
        assert!(params.remove("Cause"));
        assert_eq!(params.len(), 2);
    }
}

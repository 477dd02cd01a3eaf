//! The header fields of a message other than those in its head (see `message`): names and octets in their
//! order.
//!
//! The fields of the head do not belong here and are not written from here. What is not known is kept and
//! sent on. Values are octets without line ends; typed fields are read from them on demand and written into
//! them.

use super::field_name::FieldName;
use super::grammar::{self, Malformed};
use super::name_addr::{Contacts, MAX_ADDRESSES, NameAddr};
use std::borrow::Cow;

/// A header field with a type of its own.
pub trait FieldValue: Sized {
    /// The name of the field.
    const NAME: &'static str;

    /// Reads one value.
    ///
    /// # Errors
    /// [`Malformed`] with the name of the field if the value does not follow its grammar.
    fn parse(value: &[u8]) -> Result<Self, Malformed>;

    /// The value as it stands in a message.
    fn write(&self) -> String;
}

/// One field: its name, and the octets after the colon without white space at their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: FieldName,
    value: Vec<u8>,
}

impl Field {
    /// The name: in its standard form where it is known.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// The most elements that are read from a list of one field, all its lines together.
const MAX_ELEMENTS: usize = 256;

/// Fields in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

impl Fields {
    /// None.
    pub const fn new() -> Fields {
        Fields(Vec::new())
    }

    /// One field.
    pub fn from_one(name: &str, value: impl Into<Vec<u8>>) -> Fields {
        let mut fields = Fields::new();
        fields.push(name, value);
        fields
    }

    /// None yet, with room for some.
    pub(super) fn with_room(fields: usize) -> Fields {
        Fields(Vec::with_capacity(fields))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|field| field.name.is(name)).map(|field| field.value.as_slice())
    }

    /// The value of the first field of this name as text.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(grammar::text)
    }

    /// The values of all fields of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.is(name)).map(|field| field.value.as_slice())
    }

    /// How many fields of this name there are.
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// Whether there is a field of this name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Appends a field.
    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.push_read(FieldName::new(name), value.into());
    }

    /// Puts a field before all others, as a proxy or a route set wants it.
    pub fn push_front(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.insert(0, Field { name: FieldName::new(name), value: value.into() });
    }

    pub(super) fn push_read(&mut self, name: FieldName, value: Vec<u8>) {
        self.0.push(Field { name, value });
    }

    /// Leaves exactly one field of this name, in the place of the first one, or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.0.iter().position(|field| field.name.is(name)) {
            Some(first) => {
                let mut at = 0;
                self.0.retain(|field| {
                    at += 1;
                    at - 1 <= first || !field.name.is(name)
                });
                if let Some(field) = self.0.get_mut(first) {
                    field.value = value;
                }
            }
            None => self.push(name, value),
        }
    }

    /// Takes all fields of this name away; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|field| !field.name.is(name));
        self.0.len() != before
    }

    /// The first field of this type.
    ///
    /// # Errors
    /// [`Malformed`] if it is there and can't be read.
    pub fn typed<T: FieldValue>(&self) -> Result<Option<T>, Malformed> {
        self.get(T::NAME).map(T::parse).transpose()
    }

    /// All elements of the comma-separated lists of this type.
    ///
    /// # Errors
    /// [`Malformed`] if one can't be read, or there are too many.
    pub fn list<T: FieldValue>(&self) -> Result<Vec<T>, Malformed> {
        let mut list = Vec::new();
        for element in self.all(T::NAME).flat_map(grammar::elements) {
            if list.len() == MAX_ELEMENTS {
                return Err(Malformed(T::NAME));
            }
            list.push(T::parse(element)?);
        }
        Ok(list)
    }

    /// Leaves exactly one field of this type.
    pub fn put<T: FieldValue>(&mut self, value: &T) {
        self.set(T::NAME, value.write());
    }

    /// Appends a field of this type.
    pub fn append<T: FieldValue>(&mut self, value: &T) {
        self.push(T::NAME, value.write());
    }

    /// What the Contact fields say; `None` if there is no such field.
    ///
    /// # Errors
    /// [`Malformed`] if an address can't be read, there are more than [`MAX_ADDRESSES`], or `*` is not alone.
    pub fn contacts(&self) -> Result<Option<Contacts>, Malformed> {
        if !self.has("Contact") {
            return Ok(None);
        }
        if self.all("Contact").any(|value| value == b"*") {
            return match self.count("Contact") {
                1 => Ok(Some(Contacts::Star)),
                _ => Err(Malformed("Contact")),
            };
        }
        Ok(Some(Contacts::List(self.name_addrs("Contact")?)))
    }

    /// The first Contact address, as dialogs need it.
    ///
    /// # Errors
    /// As [`Fields::contacts`].
    pub fn contact(&self) -> Result<Option<NameAddr>, Malformed> {
        Ok(match self.contacts()? {
            Some(Contacts::List(list)) => list.into_iter().next(),
            Some(Contacts::Star) | None => None,
        })
    }

    /// All addresses of the fields of this name.
    ///
    /// # Errors
    /// [`Malformed`] if one can't be read, or there are more than [`MAX_ADDRESSES`].
    pub fn name_addrs(&self, name: &'static str) -> Result<Vec<NameAddr>, Malformed> {
        let mut list = Vec::new();
        for value in self.all(name) {
            list.extend(NameAddr::parse_list(value).map_err(|_| Malformed(name))?);
            if list.len() > MAX_ADDRESSES {
                return Err(Malformed(name));
            }
        }
        Ok(list)
    }

    /// The single address of a field such as Refer-To; `None` if there is no such field.
    ///
    /// # Errors
    /// [`Malformed`] if it can't be read.
    pub fn name_addr(&self, name: &'static str) -> Result<Option<NameAddr>, Malformed> {
        self.get(name).map(|value| NameAddr::parse(value).map_err(|_| Malformed(name))).transpose()
    }

    /// The Route addresses.
    ///
    /// # Errors
    /// As [`Fields::name_addrs`].
    pub fn routes(&self) -> Result<Vec<NameAddr>, Malformed> {
        self.name_addrs("Route")
    }

    /// The Record-Route addresses.
    ///
    /// # Errors
    /// As [`Fields::name_addrs`].
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, Malformed> {
        self.name_addrs("Record-Route")
    }

    /// Appends one field per address.
    pub fn push_name_addrs<'a>(&mut self, name: &str, addresses: impl IntoIterator<Item = &'a NameAddr>) {
        for address in addresses {
            self.push(name, address.to_string());
        }
    }

    /// The elements of the lists of this name (Supported, Require, Allow, …) as they stand there.
    pub fn tokens(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(grammar::elements)
            .take(MAX_ELEMENTS)
            .map(|element| grammar::text(element).into_owned())
            .collect()
    }

    /// Whether a list of this name has this element, without regard to case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(grammar::elements)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The number of a field such as Expires or Min-Expires; a huge one is the largest number, `None` if
    /// there is no such field.
    ///
    /// # Errors
    /// [`Malformed`] if it is no number.
    pub fn number(&self, name: &'static str) -> Result<Option<u32>, Malformed> {
        self.get(name).map(|value| grammar::saturating_number(value).ok_or(Malformed(name))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_set_leaves_one() {
        let mut fields = Fields::new();
        fields.push("supported", "timer");
        fields.push("X-Own", "1");
        fields.push("SUPPORTED", "100rel, Replaces");
        assert_eq!(fields.tokens("Supported"), ["timer", "100rel", "Replaces"]);
        assert!(fields.has_token("supported", "REPLACES") && !fields.has_token("Supported", "path"));
        fields.set("Supported", "path");
        let order: Vec<_> = fields.iter().map(|field| (field.name(), field.value())).collect();
        assert_eq!(order, [("Supported", &b"path"[..]), ("X-Own", b"1")]);
        assert!(fields.remove("x-own") && !fields.remove("x-own"));
    }

    #[test]
    fn a_star_contact_must_be_alone() {
        let mut fields = Fields::new();
        assert_eq!(fields.contacts(), Ok(None));
        fields.push("Contact", "*");
        assert_eq!(fields.contacts(), Ok(Some(Contacts::Star)));
        fields.push("m", "<sip:a@b>");
        assert_eq!(fields.contacts(), Err(Malformed("Contact")));
    }

    #[test]
    fn lists_of_several_lines_are_one() {
        let mut fields = Fields::new();
        fields.push("Record-Route", "<sip:a;lr>, <sip:b;lr>");
        fields.push("Record-Route", "<sip:c;lr>");
        let routes: Vec<_> =
            fields.record_routes().unwrap().iter().map(|route| route.uri.to_string()).collect();
        assert_eq!(routes, ["sip:a;lr", "sip:b;lr", "sip:c;lr"]);
        fields.push("Record-Route", "nonsense");
        assert_eq!(fields.record_routes(), Err(Malformed("Record-Route")));
    }

    #[test]
    fn numbers_saturate() {
        let mut fields = Fields::new();
        fields.push("Expires", "1000000000000");
        assert_eq!(fields.number("Expires"), Ok(Some(u32::MAX)));
        fields.set("Expires", "-1");
        assert_eq!(fields.number("Expires"), Err(Malformed("Expires")));
    }
}

//! `application/x-www-form-urlencoded`: names and values as a query or a body.

use std::fmt::Write;

/// Bytes of one value before it is escaped: names of callers have no end.
const LONGEST_VALUE: usize = 256;

/// A form that is being written. What is not known has no place in it.
#[derive(Debug, Default)]
pub struct Form(String);

impl Form {
    /// Adds a field, if there is a value. Of a long one there is the beginning, in whole characters.
    pub fn put(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.put_whole(name, value.get(..value.floor_char_boundary(LONGEST_VALUE)).unwrap_or_default());
    }

    /// Adds a field whose value is of our own making, whole.
    pub fn put_whole(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b' ' => self.0.push('+'),
                _ if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => self.0.push(char::from(byte)),
                // Writing to text can't fail.
                _ => drop(write!(self.0, "%{byte:02X}")),
            }
        }
    }

    /// Adds a number, if there is one.
    pub fn put_number(&mut self, name: &str, value: Option<u64>) {
        self.put(name, value.map(|value| value.to_string()).as_deref());
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_gets_out_of_its_field() {
        let mut form = Form::default();
        form.put("a", Some("1 & 2=3\r\n+é\u{202e}*-._~%"));
        form.put("b", None);
        form.put_number("c", Some(7));
        form.put("d", Some(&"é".repeat(10_000)));
        let text = form.into_text();
        let (before, last) = text.rsplit_once("&d=").expect("four fields, one of which is not known");
        assert_eq!(before, "a=1+%26+2%3D3%0D%0A%2B%C3%A9%E2%80%AE*-._%7E%25&c=7");
        assert_eq!(last, "%C3%A9".repeat(LONGEST_VALUE / 2));
    }
}

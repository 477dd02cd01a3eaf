//! Privacy: what of the caller the network shall hide (RFC 3323, RFC 3325).

use super::fields::FieldValue;
use super::grammar::{self, Malformed};

/// The wishes, as tokens in lower case: `id`, `user`, `header`, `session`, `critical`, `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// In their order.
    pub wishes: Vec<String>,
}

/// The most wishes that are read.
const MAX_WISHES: usize = 16;

impl Privacy {
    /// The asserted identity shall not reach the called party.
    pub fn id() -> Privacy {
        Privacy { wishes: vec!["id".into()] }
    }

    /// Whether the caller wants not to be named: `id`, `user` or `header`.
    pub fn hides_identity(&self) -> bool {
        self.wishes.iter().any(|wish| matches!(wish.as_str(), "id" | "user" | "header"))
    }
}

impl FieldValue for Privacy {
    const NAME: &'static str = "Privacy";

    fn parse(value: &[u8]) -> Result<Privacy, Malformed> {
        let mut wishes = Vec::new();
        // Some separate them by commas.
        for wish in value.split(|octet| matches!(octet, b';' | b',')).map(grammar::trim) {
            if !grammar::is_token_text(wish) || wishes.len() == MAX_WISHES {
                return Err(Malformed("Privacy"));
            }
            wishes.push(grammar::text(wish).to_ascii_lowercase());
        }
        Ok(Privacy { wishes })
    }

    fn write(&self) -> String {
        self.wishes.join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read() {
        let read = Privacy::parse(b"ID; Critical").unwrap();
        assert!(read.hides_identity());
        assert_eq!(read.write(), "id;critical");
        assert!(!Privacy::parse(b"none").unwrap().hides_identity());
        for bad in [&b""[..], b"id;;user", b"a b"] {
            assert!(Privacy::parse(bad).is_err());
        }
    }
}

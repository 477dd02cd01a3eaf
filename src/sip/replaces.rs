//! Replaces: the dialog that an INVITE takes the place of (RFC 3891).

use super::fields::FieldValue;
use super::grammar::{self, Malformed};
use super::params::Params;

/// The dialog, seen from the one who receives this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Its Call-ID.
    pub call_id: String,
    /// The tag of the receiver.
    pub to_tag: String,
    /// The tag of the receiver's peer.
    pub from_tag: String,
    /// Only while the dialog is early.
    pub early_only: bool,
}

impl FieldValue for Replaces {
    const NAME: &'static str = "Replaces";

    fn parse(value: &[u8]) -> Result<Replaces, Malformed> {
        let read = || {
            let end = value.iter().position(|&octet| octet == b';')?;
            let (call_id, params) = value.split_at(end);
            let call_id = grammar::trim(call_id);
            if call_id.is_empty() || !call_id.iter().all(u8::is_ascii_graphic) {
                return None;
            }
            let mut cursor = grammar::Cursor::new(params);
            let params = Params::read(&mut cursor)?;
            cursor.skip_blanks();
            cursor.is_at_end().then_some(())?;
            let tag = |name| params.get(name).flatten().filter(|tag| !tag.is_empty()).map(str::to_owned);
            Some(Replaces {
                call_id: grammar::text(call_id).into_owned(),
                to_tag: tag("to-tag")?,
                from_tag: tag("from-tag")?,
                early_only: params.has("early-only"),
            })
        };
        read().ok_or(Malformed("Replaces"))
    }

    fn write(&self) -> String {
        let mut params = Params::new();
        params.set_as_read("to-tag", &self.to_tag);
        params.set_as_read("from-tag", &self.from_tag);
        if self.early_only {
            params.set("early-only", None);
        }
        format!("{}{params}", self.call_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_is_named() {
        let read =
            Replaces::parse(b"98732@sip.example.com ;from-tag=r33th4x0r;to-tag=ff87ff;early-only").unwrap();
        assert_eq!((read.call_id.as_str(), read.to_tag.as_str()), ("98732@sip.example.com", "ff87ff"));
        assert!(read.early_only);
        assert_eq!(Replaces::parse(read.write().as_bytes()), Ok(read));
        for bad in [
            &b""[..],
            b"a@b",
            b"a;to-tag=1",
            b"a;to-tag=;from-tag=1",
            b";to-tag=1;from-tag=2",
            b"a b;to-tag=1;from-tag=2",
        ] {
            assert!(Replaces::parse(bad).is_err());
        }
    }
}

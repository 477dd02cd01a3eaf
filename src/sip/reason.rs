//! Reason: why a request was sent, such as "answered elsewhere" in a CANCEL (RFC 3326).

use super::fields::FieldValue;
use super::grammar::{self, Cursor, Malformed};
use super::params::Params;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850`, or any other protocol whose causes these are.
    pub protocol: String,
    /// The cause: a status for SIP, a cause of ISDN for Q.850.
    pub cause: Option<u16>,
    /// The same in words.
    pub text: Option<String>,
}

impl Reason {
    /// A status of SIP.
    pub fn sip(status: u16, text: &str) -> Reason {
        Reason { protocol: "SIP".into(), cause: Some(status), text: Some(text.to_owned()) }
    }

    /// A cause of ISDN.
    pub fn q850(cause: u16, text: &str) -> Reason {
        Reason { protocol: "Q.850".into(), cause: Some(cause), text: Some(text.to_owned()) }
    }

    /// Whether this says that somebody else has answered the call: `SIP;cause=200` or `Q.850;cause=26`.
    pub fn is_answered_elsewhere(&self) -> bool {
        match self.cause {
            Some(200) => self.protocol.eq_ignore_ascii_case("SIP"),
            Some(26) => self.protocol.eq_ignore_ascii_case("Q.850"),
            _ => false,
        }
    }
}

impl FieldValue for Reason {
    const NAME: &'static str = "Reason";

    fn parse(value: &[u8]) -> Result<Reason, Malformed> {
        let read = || {
            let mut cursor = Cursor::new(value);
            let protocol = cursor.token()?.to_owned();
            let params = Params::read(&mut cursor)?;
            cursor.skip_blanks();
            cursor.is_at_end().then_some(())?;
            let cause = params
                .value("cause")
                .and_then(|cause| grammar::number(cause.as_bytes()))
                .and_then(|cause| u16::try_from(cause).ok());
            Some(Reason { protocol, cause, text: params.value("text").map(|text| text.into_owned()) })
        };
        read().ok_or(Malformed("Reason"))
    }

    fn write(&self) -> String {
        let mut out = self.protocol.clone();
        if let Some(cause) = self.cause {
            out.push_str(&format!(";cause={cause}"));
        }
        if let Some(text) = &self.text {
            out.push_str(";text=");
            grammar::quote_into(text, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fields::Fields;

    #[test]
    fn several_reasons_in_one_field() {
        let mut fields = Fields::new();
        fields.push("Reason", "SIP ;cause=200 ;text=\"Call completed, elsewhere\", Q.850;cause=26");
        let reasons = fields.list::<Reason>().unwrap();
        assert_eq!(reasons[0], Reason::sip(200, "Call completed, elsewhere"));
        assert!(reasons.iter().all(Reason::is_answered_elsewhere));
        assert!(!Reason::q850(16, "Normal").is_answered_elsewhere());
        assert_eq!(reasons[0].write(), "SIP;cause=200;text=\"Call completed, elsewhere\"");
        assert_eq!(Reason::parse(b"SIP;cause=99999").map(|reason| reason.cause), Ok(None));
        assert!(Reason::parse(b"SIP;text=\"x").is_err());
    }
}

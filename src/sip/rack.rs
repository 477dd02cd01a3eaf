//! Reliable provisional responses: RSeq numbers them, RAck acknowledges one (RFC 3262).

use super::fields::FieldValue;
use super::grammar::{self, Malformed};
use super::method::Method;

/// RSeq: the number of a reliable provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RSeq(
    /// 1 to 2³² − 1.
    pub u32,
);

impl FieldValue for RSeq {
    const NAME: &'static str = "RSeq";

    fn parse(value: &[u8]) -> Result<RSeq, Malformed> {
        grammar::number(value).filter(|&number| number != 0).map(RSeq).ok_or(Malformed("RSeq"))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

/// RAck: which reliable provisional response a PRACK acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of the response.
    pub rseq: u32,
    /// The CSeq number of the response.
    pub cseq: u32,
    /// The CSeq method of the response.
    pub method: Method,
}

impl FieldValue for RAck {
    const NAME: &'static str = "RAck";

    fn parse(value: &[u8]) -> Result<RAck, Malformed> {
        let read = || {
            let mut words = value.split(|&octet| grammar::is_blank(octet)).filter(|word| !word.is_empty());
            let rack = RAck {
                rseq: grammar::number(words.next()?).filter(|&number| number != 0)?,
                cseq: grammar::number(words.next()?)?,
                method: Method::parse(words.next()?)?,
            };
            words.next().is_none().then_some(rack)
        };
        read().ok_or(Malformed("RAck"))
    }

    fn write(&self) -> String {
        format!("{} {} {}", self.rseq, self.cseq, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_limited() {
        let rack = RAck::parse(b"776656 \t 1 INVITE").unwrap();
        assert_eq!(rack, RAck { rseq: 776_656, cseq: 1, method: Method::INVITE });
        assert_eq!(rack.write(), "776656 1 INVITE");
        for bad in [&b""[..], b"1 2", b"0 1 INVITE", b"1 2 INVITE x", b"4294967296 1 INVITE", b"-1 1 INVITE"]
        {
            assert!(RAck::parse(bad).is_err());
        }
        assert_eq!(RSeq::parse(b"4294967295"), Ok(RSeq(u32::MAX)));
        assert!(RSeq::parse(b"0").is_err());
    }
}

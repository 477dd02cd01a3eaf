//! Session timers: Session-Expires and Min-SE (RFC 4028).

use super::fields::FieldValue;
use super::grammar::{self, Cursor, Malformed};
use super::params::Params;

/// Who refreshes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The caller of the request that carries it.
    Uac,
    /// The one who answers it.
    Uas,
}

/// Session-Expires: how long the session lives without a refresh, and who refreshes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds.
    pub interval: u32,
    /// Who refreshes; `None` leaves it to the answer.
    pub refresher: Option<Refresher>,
}

impl FieldValue for SessionExpires {
    const NAME: &'static str = "Session-Expires";

    fn parse(value: &[u8]) -> Result<SessionExpires, Malformed> {
        let (interval, params) = read_delta(value).ok_or(Malformed("Session-Expires"))?;
        let refresher = match params.value("refresher").as_deref() {
            Some(refresher) if refresher.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(refresher) if refresher.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            _ => None,
        };
        Ok(SessionExpires { interval, refresher })
    }

    fn write(&self) -> String {
        match self.refresher {
            Some(Refresher::Uac) => format!("{};refresher=uac", self.interval),
            Some(Refresher::Uas) => format!("{};refresher=uas", self.interval),
            None => self.interval.to_string(),
        }
    }
}

/// Min-SE: the shortest interval, in seconds, that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinSe(
    /// Seconds.
    pub u32,
);

impl FieldValue for MinSe {
    const NAME: &'static str = "Min-SE";

    fn parse(value: &[u8]) -> Result<MinSe, Malformed> {
        read_delta(value).map(|(seconds, _)| MinSe(seconds)).ok_or(Malformed("Min-SE"))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

/// Seconds and parameters.
pub(super) fn read_delta(value: &[u8]) -> Option<(u32, Params)> {
    let mut cursor = Cursor::new(value);
    let seconds = grammar::saturating_number(cursor.take_while(|octet| octet.is_ascii_digit()))?;
    let params = Params::read(&mut cursor)?;
    cursor.skip_blanks();
    cursor.is_at_end().then_some((seconds, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_refreshers() {
        let read = SessionExpires::parse(b"1800 ; Refresher = UAS;x").unwrap();
        assert_eq!(read, SessionExpires { interval: 1800, refresher: Some(Refresher::Uas) });
        assert_eq!(SessionExpires::parse(read.write().as_bytes()), Ok(read));
        assert_eq!(SessionExpires::parse(b"90").unwrap().refresher, None);
        assert_eq!(MinSe::parse(b"90;x=y"), Ok(MinSe(90)));
        for bad in [&b""[..], b"-1", b"soon", b"90 x", b"90;;"] {
            assert!(SessionExpires::parse(bad).is_err());
        }
    }
}

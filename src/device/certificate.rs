//! When a certificate ends: the one field of X.509 (RFC 5280 §4.1.2.5) that the TLS library checks and does not tell.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity (UTC, microseconds); `None` if it can't be read or is the day that means
/// "never", 9999-12-31.
pub fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der)?;
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    // Version (if it is not the first one), serial number, algorithm, issuer; then the validity.
    let (first, _, rest) = element(fields)?;
    if first == VERSION {
        fields = rest;
    }
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (kind, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match kind {
        // Two digits of the year mean 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let moment = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

/// The first element of some DER: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // A certificate of a handshake is shorter than 16 MiB.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(["pbx.example".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn microseconds(date: &str) -> i64 {
        format!("{date}T00:00:00Z").parse::<jiff::Timestamp>().expect("a date").as_microsecond()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (year, date) in
            [(2027, "2027-02-03"), (2049, "2049-02-03"), (2050, "2050-02-03"), (1999, "1999-02-03")]
        {
            assert_eq!(not_after(&certificate(year)), Some(microseconds(date)), "{year}");
        }
    }

    #[test]
    fn a_broken_certificate_tells_nothing_and_breaks_nothing() {
        let whole = certificate(2027);
        let end = not_after(&whole);
        for cut in 0..whole.len() {
            assert_eq!(not_after(&whole[..cut]), None, "cut at {cut}");
            for bit in [0x01, 0x80, 0xff] {
                let mut bent = whole.clone();
                bent[cut] ^= bit;
                let _ = not_after(&bent);
            }
        }
        assert!(end.is_some());
        assert_eq!(
            not_after(&certificate(9999)),
            Some(microseconds("9999-02-03")),
            "the last that can be told"
        );
    }
}

//! `Retry-After` (RFC 9110 §10.2.3): how long a server wants to be left alone.

use std::time::Duration;

use jiff::civil::{Date, Time, date};

/// A server that wants to be left alone for longer is asked after this time nevertheless.
pub const LONGEST: Duration = Duration::from_secs(3600);

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// The wait that a value asks for at this moment, at most [`LONGEST`]; `None` if it can't be understood.
pub fn read(value: &str, now_utc_us: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let wait = http_date(value)?.saturating_sub(now_utc_us);
    Some(Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(LONGEST))
}

/// The moment of an IMF-fixdate (RFC 9110 §5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`, in microseconds since 1970. The
/// obsolete forms, which no server has sent for decades, are not understood.
fn http_date(value: &str) -> Option<i64> {
    let mut words = value.split_ascii_whitespace();
    let weekday = words.next()?.strip_suffix(',')?;
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let mut clock = words.next()?.splitn(3, ':');
    let whole =
        words.next() == Some("GMT") && words.next().is_none() && weekday.len() == 3 && month.len() == 3;
    let month = MONTHS.chunks_exact(3).position(|name| name == month.as_bytes()).filter(|_| whole)?;
    let mut part = || clock.next()?.parse::<i8>().ok();
    let (hour, minute, second) = (part()?, part()?, part()?);
    let day = Date::new(year.parse().ok()?, i8::try_from(month + 1).ok()?, day.parse().ok()?).ok()?;
    // A leap second counts as the one before.
    let clock = Time::new(hour, minute, if second == 60 { 59 } else { second }, 0).ok()?;
    let since = day.to_datetime(clock).duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    i64::try_from(since.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_everything_else_is_none() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
        const THEN: i64 = 784_111_777_000_000;
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(THEN));
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Fri, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:60 GMT", Some(22)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 -8:49:37 GMT", None),
            ("Sun, 06 Now 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ] {
            assert_eq!(read(value, THEN).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }
}

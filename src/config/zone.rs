//! The time zone by which working hours are meant.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::values::{Written, written};

/// A time zone: that of the machine, one of the tz database by its name, or one by its rules in the form of POSIX `TZ`. The
/// rules of the first two are in a file that [`Zone::read`] is given; until then it is UTC.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    rules: TimeZone,
    told: bool,
}

/// The zone of the machine.
const LOCAL: &str = "local";

impl Zone {
    /// The name in the tz database, if its file has yet to be read.
    pub fn wanted(&self) -> Option<&str> {
        (!self.told && self.name != LOCAL).then_some(&self.name)
    }

    /// Whether it is that of the machine.
    pub fn is_local(&self) -> bool {
        self.name == LOCAL
    }

    /// Takes the file of the tz database (RFC 9636).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&mut self, file: &[u8]) -> Result<(), String> {
        self.rules = TimeZone::tzif(&self.name, file).map_err(|error| error.to_string())?;
        self.told = true;
        Ok(())
    }

    /// What clocks on the wall show, from microseconds since 1970.
    pub fn civil(&self, utc_us: i64) -> DateTime {
        self.rules.to_datetime(Timestamp::from_microsecond(utc_us).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// When the day of a moment began by the clocks on the wall; both in microseconds since 1970.
    pub fn midnight(&self, utc_us: i64) -> Option<i64> {
        let moment = Timestamp::from_microsecond(utc_us).ok()?.to_zoned(self.rules.clone());
        Some(moment.start_of_day().ok()?.timestamp().as_microsecond())
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone { name: LOCAL.to_owned(), rules: TimeZone::UTC, told: false }
    }
}

impl Written for Zone {
    const FORM: &'static str = "\"local\", a zone such as \"Europe/Moscow\", or its rules such as \"MSK-3\"";

    fn parse(text: &str) -> Result<Zone, String> {
        let text = text.trim();
        if text == "UTC" {
            return Ok(Zone { name: text.to_owned(), rules: TimeZone::UTC, told: true });
        }
        if text.bytes().any(|byte| byte.is_ascii_digit())
            && let Ok(rules) = TimeZone::posix(text)
        {
            return Ok(Zone { name: text.to_owned(), rules, told: true });
        }
        // It becomes a part of a path.
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphabetic())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
        };
        if text.len() > 64 || !text.split('/').all(is_word) {
            return Err(format!("write {}", Self::FORM));
        }
        Ok(Zone { name: text.to_owned(), ..Zone::default() })
    }

    fn written(&self) -> String {
        self.name.clone()
    }
}

written!(Zone);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_at_once_and_names_want_their_file() {
        // 2026-07-01 12:00 UTC, and half a year later.
        let (summer, winter) = (1_782_907_200_000_000, 1_798_804_800_000_000);
        for (text, wanted, hours) in [
            ("UTC", None, [12, 12]),
            ("MSK-3", None, [15, 15]),
            ("CET-1CEST,M3.5.0,M10.5.0/3", None, [14, 13]),
            ("Europe/Moscow", Some("Europe/Moscow"), [12, 12]),
            ("local", None, [12, 12]),
        ] {
            let zone = Zone::parse(text).unwrap();
            assert_eq!(zone.wanted(), wanted, "{text}");
            assert_eq!([summer, winter].map(|at| zone.civil(at).hour()), hours, "{text}");
            assert_eq!(zone.written(), text);
        }
        for wrong in
            ["", "../../etc/passwd", "/etc/passwd", "Europe//Moscow", "Europe/../x", "a b", "Europe/Мoscow"]
        {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Zone::default().read(b"TZif and nothing else").is_err());
    }
}

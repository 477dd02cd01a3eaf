//! `[hours]`: when somebody is there.

use jiff::civil::{Date, DateTime, Weekday};

use super::reader::{Scope, section};
use super::values::{Written, written};
use super::words::WhenClosed;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_OF_DAY: u16 = 24 * 60;

section! {
    /// `[hours]`: when somebody is there, by the clock of `[device] timezone`. Without `open` and `holidays` that is always.
    pub struct Hours {
        /// Days and times: "mon-fri 09:00-18:00", "sat,sun 10:00-14:00", "22:00-06:00" (every day, over midnight).
        open: Vec<Opening> = default "[]";
        /// Days on which nobody is there: "2026-05-09", or "01-07" in every year.
        holidays: Vec<Holiday> = default "[]";
        /// What becomes of calls at other times: "ring" or "refuse" (480; told as call.refused). Who was called for help may
        /// call back at any time.
        closed: WhenClosed = default "\"ring\"";
    }
}

impl Hours {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        if self.closed == WhenClosed::Refuse && !self.exist() {
            scope.warn("closed", "nothing is refused: there are no hours", "add open, holidays or both");
        }
    }

    /// Whether there are any.
    pub fn exist(&self) -> bool {
        !self.open.is_empty() || !self.holidays.is_empty()
    }

    /// The key by which nobody is there at a local time: `hours.holidays` or `hours.open`. `None`: somebody is.
    pub fn closed_by(&self, local: DateTime) -> Option<&'static str> {
        if self.holidays.iter().any(|holiday| holiday.is(local.date())) {
            return Some("hours.holidays");
        }
        let open = self.open.is_empty() || self.open.iter().any(|opening| opening.contains(local));
        (!open).then_some("hours.open")
    }
}

/// Days of a week, and from when to when on each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// Monday is the lowest bit.
    days: u8,
    /// Minutes of the day; the end is not part of it, and lies on the next day if it is not after the beginning.
    from: u16,
    to: u16,
}

impl Opening {
    fn contains(&self, local: DateTime) -> bool {
        let on = |weekday: Weekday| self.days & (1 << weekday.to_monday_zero_offset()) != 0;
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let (today, yesterday) = (local.weekday(), local.weekday().previous());
        if self.from < self.to {
            return on(today) && (self.from..self.to).contains(&minute);
        }
        (on(today) && minute >= self.from) || (on(yesterday) && minute < self.to)
    }
}

/// `mon`, `mon-fri`, `sat,sun`, `fri-mon` as bits.
fn days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let mut bits = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        bits |= 1 << at;
        while at != last {
            at = (at + 1) % DAYS.len();
            bits |= 1 << at;
        }
    }
    Some(bits)
}

/// `09:00` as minutes; the end of a day may be 24:00.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let is_number = |text: &&str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text| Some(text).filter(is_number).and_then(|text| text.parse::<u16>().ok());
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= MINUTES_OF_DAY).then_some(all)
}

impl Written for Opening {
    const FORM: &'static str = "days and times such as \"mon-fri 09:00-18:00\"";

    fn parse(text: &str) -> Result<Opening, String> {
        let wrong = || format!("write {}", Self::FORM);
        let text = text.trim();
        let (days_text, times) = text.rsplit_once(' ').unwrap_or(("mon-sun", text));
        let days = days(days_text)
            .ok_or_else(|| format!("write days as {}, \"mon-fri\" or \"sat,sun\"", DAYS.join(", ")))?;
        let (from, to) = times.split_once('-').ok_or_else(wrong)?;
        match (minutes(from), minutes(to)) {
            (Some(from), Some(to)) if from < MINUTES_OF_DAY && from != to => Ok(Opening { days, from, to }),
            (Some(_), Some(_)) => {
                Err("write an end that is not the beginning: \"00:00-24:00\" is a whole day".into())
            }
            _ => Err(wrong()),
        }
    }

    fn written(&self) -> String {
        let names: Vec<&str> = DAYS
            .iter()
            .enumerate()
            .filter(|(at, _)| self.days & (1 << at) != 0)
            .map(|(_, day)| *day)
            .collect();
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        format!("{} {}-{}", names.join(","), time(self.from), time(self.to))
    }
}

/// A day on which nobody is there: of one year or of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holiday {
    year: Option<i16>,
    month: i8,
    day: i8,
}

impl Holiday {
    fn is(&self, date: Date) -> bool {
        self.year.is_none_or(|year| year == date.year())
            && (self.month, self.day) == (date.month(), date.day())
    }
}

impl Written for Holiday {
    const FORM: &'static str = "a day such as \"2026-05-09\", or \"01-07\" in every year";

    fn parse(text: &str) -> Result<Holiday, String> {
        let text = text.trim();
        let every_year = text.len() == 5;
        // A leap year has all days there are.
        let date = if every_year { format!("2024-{text}") } else { text.to_owned() };
        let exact = date.len() == 10 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date = Some(date).filter(|_| exact).and_then(|date| date.parse::<Date>().ok());
        let date = date.ok_or_else(|| format!("write {}", Self::FORM))?;
        Ok(Holiday { year: (!every_year).then(|| date.year()), month: date.month(), day: date.day() })
    }

    fn written(&self) -> String {
        let day = format!("{:02}-{:02}", self.month, self.day);
        self.year.map_or(day.clone(), |year| format!("{year:04}-{day}"))
    }
}

written!(Opening, Holiday);

#[cfg(test)]
mod tests {
    use jiff::civil::datetime;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn hours(open: &[&str], holidays: &[&str]) -> Hours {
        Hours {
            open: open.iter().map(|text| Opening::parse(text).expect(text)).collect(),
            holidays: holidays.iter().map(|text| Holiday::parse(text).expect(text)).collect(),
            ..Hours::default()
        }
    }

    #[test]
    fn somebody_is_there_by_day_and_time() {
        let week = hours(&["mon-fri 09:00-18:00", "sat 10:00-14:00"], &["2026-05-09", "01-07"]);
        // 2026-11-20 is a Friday.
        for ((year, month, day, hour, minute), expected) in [
            ((2026, 11, 20, 9, 0), None),
            ((2026, 11, 20, 17, 59), None),
            ((2026, 11, 20, 18, 0), Some("hours.open")),
            ((2026, 11, 20, 8, 59), Some("hours.open")),
            ((2026, 11, 21, 13, 0), None),
            ((2026, 11, 22, 13, 0), Some("hours.open")),
            ((2026, 5, 9, 11, 0), Some("hours.holidays")),
            ((2027, 5, 10, 11, 0), None),
            ((2027, 1, 7, 11, 0), Some("hours.holidays")),
        ] {
            let moment = datetime(year, month, day, hour, minute, 30, 0);
            assert_eq!(week.closed_by(moment), expected, "{moment}");
        }
        assert_eq!(Hours::default().closed_by(datetime(2026, 1, 1, 3, 0, 0, 0)), None);
        assert_eq!(hours(&[], &["01-01"]).closed_by(datetime(2026, 1, 2, 3, 0, 0, 0)), None);
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours(&["fri 22:00-06:00"], &[]);
        for (day, hour, open) in
            [(20, 21, false), (20, 22, true), (21, 5, true), (21, 6, false), (21, 23, false), (20, 5, false)]
        {
            let moment = datetime(2026, 11, day, hour, 0, 0, 0);
            assert_eq!(night.closed_by(moment).is_none(), open, "{moment}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for wrong in [
            "",
            "mon",
            "mon-fri",
            "mon 9-18",
            "mo 09:00-18:00",
            "mon 09:00-25:00",
            "mon 09:60-10:00",
            "mon 09:00-09:00",
            "mon 24:00-10:00",
            "mon- 09:00-18:00",
            "mon 09:00-18:00-19:00",
            "mon +9:00-18:00",
        ] {
            assert!(Opening::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in
            ["", "2026-02-30", "02-30", "9 May", "2026-5-9", "05-09-2026", "20260509", "2026-05-09T10:00"]
        {
            assert!(Holiday::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Holiday::parse("02-29").is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(32),
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_read_is_written_and_read_the_same(text in "[a-z0-9:, -]{0,24}") {
            if let Ok(opening) = Opening::parse(&text) {
                prop_assert_eq!(Opening::parse(&opening.written()), Ok(opening));
            }
            if let Ok(holiday) = Holiday::parse(&text) {
                prop_assert_eq!(Holiday::parse(&holiday.written()), Ok(holiday));
            }
        }
    }
}

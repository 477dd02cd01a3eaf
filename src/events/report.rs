//! How the journal adds up: a row for each day, hour of the day or line.

use std::collections::BTreeMap;

use serde::Serialize;

use super::store::Entry;
use super::{CallResult, Direction};
use crate::config::zone::Zone;

/// Rows of a report at most: what comes for more of them is added to the last one.
const ROWS: usize = 4000;

/// What a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Each day, in local time.
    Day,
    /// Each hour of the day, `00` to `23`, over all days.
    Hour,
    /// Each line.
    Line,
}

/// One row.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Sums {
    /// Incoming calls.
    pub incoming: u64,
    /// Those of them that were answered here.
    pub answered: u64,
    /// Those that another phone answered.
    pub elsewhere: u64,
    /// Those that somebody should return.
    pub missed: u64,
    /// The answered ones per hundred incoming ones that no other phone answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_percent: Option<f64>,
    /// Outgoing calls.
    pub outgoing: u64,
    /// Those of them that were answered.
    pub reached: u64,
    /// Talking, both ways.
    pub talk_us: u64,
    /// For each call that was answered or reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_talk_us: Option<u64>,
    /// How long incoming calls that were answered had rung.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_ring_us: Option<u64>,
    /// Calls whose far end said how they were.
    pub votes: u64,
    /// What they say, 1 (bad) to 5, to two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_vote: Option<f64>,
    #[serde(skip)]
    ring_us: u64,
    #[serde(skip)]
    voted: u64,
}

/// Sums that grow.
#[derive(Debug)]
pub struct Report {
    by: By,
    rows: BTreeMap<String, Sums>,
    all: Sums,
}

impl Report {
    /// Nothing yet.
    pub fn new(by: By) -> Report {
        Report { by, rows: BTreeMap::new(), all: Sums::default() }
    }

    /// Adds a leg; one that goes on counts when it is over.
    pub fn add(&mut self, entry: &Entry, zone: &Zone) {
        let Some(result) = entry.result else { return };
        let began = zone.civil(entry.started_utc_us);
        let key = match self.by {
            By::Day => began.date().to_string(),
            By::Hour => format!("{:02}", began.hour()),
            By::Line => entry.leg.line.clone(),
        };
        self.all.add(entry, result);
        if self.rows.len() < ROWS || self.rows.contains_key(&key) {
            self.rows.entry(key).or_default().add(entry, result);
        } else if let Some(mut last) = self.rows.last_entry() {
            last.get_mut().add(entry, result);
        }
    }

    /// The rows in order, and the sum of all.
    pub fn finish(self) -> (Vec<(String, Sums)>, Sums) {
        let rows = self.rows.into_iter().map(|(key, sums)| (key, sums.averaged())).collect();
        (rows, self.all.averaged())
    }
}

impl Sums {
    fn add(&mut self, entry: &Entry, result: CallResult) {
        let talked = matches!(result, CallResult::Answered | CallResult::MediaLost);
        match entry.leg.direction {
            Direction::In => {
                self.incoming += 1;
                self.answered += u64::from(talked);
                self.elsewhere += u64::from(result == CallResult::AnsweredElsewhere);
                self.missed += u64::from(result.is_missed());
                self.ring_us += if talked { entry.ring_us } else { 0 };
            }
            Direction::Out => {
                self.outgoing += 1;
                self.reached += u64::from(talked);
            }
        }
        self.talk_us = self.talk_us.saturating_add(entry.talk_us);
        self.votes += u64::from(entry.vote.is_some());
        self.voted += u64::from(entry.vote.unwrap_or(0));
    }

    fn averaged(mut self) -> Sums {
        let ours = self.incoming - self.elsewhere;
        self.answered_percent =
            (ours > 0).then(|| (self.answered as f64 * 1000.0 / ours as f64).round() / 10.0);
        self.average_talk_us = self.talk_us.checked_div(self.answered + self.reached);
        self.average_ring_us = self.ring_us.checked_div(self.answered);
        let average = self.voted as f64 / self.votes as f64;
        self.average_vote = (self.votes > 0).then(|| (average * 100.0).round() / 100.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::upstream::samples::{TODAY, leg};

    const DAY: i64 = 86_400_000_000;

    fn call(direction: Direction, result: CallResult, began: i64, ring_s: u64, talk_s: u64) -> Entry {
        let mut entry = Entry::begun("c", leg(direction), began);
        entry.result = Some(result);
        (entry.ring_us, entry.talk_us) = (ring_s * 1_000_000, talk_s * 1_000_000);
        entry
    }

    fn report(by: By, entries: &[Entry]) -> (Vec<(String, Sums)>, Sums) {
        let mut report = Report::new(by);
        entries.iter().for_each(|entry| report.add(entry, &Zone::default()));
        report.finish()
    }

    #[test]
    fn a_day_tells_how_many_were_answered_and_how_long_they_took() {
        use CallResult as R;
        use Direction::{In, Out};
        let rated = |entry: Entry, vote: u8| Entry { vote: Some(vote), ..entry };
        let entries = [
            rated(call(In, R::Answered, TODAY, 4, 60), 5),
            rated(call(In, R::Answered, TODAY + 5, 8, 30), 2),
            call(In, R::NoAnswer, TODAY + 6, 20, 0),
            call(In, R::AnsweredElsewhere, TODAY + 7, 3, 0),
            rated(call(Out, R::Answered, TODAY + 8, 5, 90), 4),
            call(Out, R::Busy, TODAY + 9, 1, 0),
            call(In, R::Rejected, TODAY + DAY, 1, 0),
            Entry::begun("c", leg(In), TODAY),
        ];
        let (rows, all) = report(By::Day, &entries);
        let days: Vec<&str> = rows.iter().map(|(day, _)| day.as_str()).collect();
        assert_eq!(days, ["2026-11-20", "2026-11-21"]);
        let first = &rows[0].1;
        assert_eq!((first.incoming, first.answered, first.elsewhere, first.missed), (4, 2, 1, 1));
        assert_eq!(first.answered_percent, Some(66.7), "of three that nobody else answered");
        assert_eq!((first.outgoing, first.reached, first.talk_us), (2, 1, 180_000_000));
        assert_eq!((first.average_talk_us, first.average_ring_us), (Some(60_000_000), Some(6_000_000)));
        let second = &rows[1].1;
        assert_eq!((second.answered_percent, second.average_talk_us, second.missed), (Some(0.0), None, 0));
        assert_eq!((first.votes, first.average_vote), (3, Some(3.67)));
        assert_eq!((second.votes, second.average_vote), (0, None));
        assert_eq!((all.incoming, all.outgoing, all.answered_percent), (5, 2, Some(50.0)));
    }

    #[test]
    fn hours_and_lines_are_rows_too() {
        let hour = DAY / 24;
        let entries = [
            call(Direction::In, CallResult::Answered, TODAY + 9 * hour, 1, 1),
            call(Direction::In, CallResult::Busy, TODAY + DAY + 9 * hour + 1, 1, 1),
            call(Direction::In, CallResult::Busy, TODAY + 23 * hour, 1, 1),
        ];
        let keys = |by| {
            report(by, &entries).0.into_iter().map(|(key, sums)| (key, sums.incoming)).collect::<Vec<_>>()
        };
        assert_eq!(keys(By::Hour), [("09".to_owned(), 2), ("23".to_owned(), 1)]);
        assert_eq!(keys(By::Line), [("office".to_owned(), 3)]);
    }

    #[test]
    fn a_clock_that_jumps_makes_no_endless_report() {
        let mut report = Report::new(By::Day);
        for day in 0..5000 {
            report.add(&call(Direction::In, CallResult::Busy, day * DAY, 0, 0), &Zone::default());
        }
        let (rows, all) = report.finish();
        assert_eq!((rows.len(), all.incoming), (ROWS, 5000));
        assert_eq!(rows.iter().map(|(_, sums)| sums.incoming).sum::<u64>(), 5000, "nobody is lost");
    }
}

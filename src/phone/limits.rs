//! The one guard that every call passes before it begins, whoever wants it: what may be dialled, how often, how long.
//! Emergency numbers pass all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dial_string::is_emergency;
use crate::config::{self, Config};
use crate::events::cloud_event::rfc3339;
use crate::events::store::Usage;
use crate::now::{CLOCK_WAS_SET, Now};

const MINUTE_US: u64 = 60_000_000;
/// A day of a device that does not know the date.
const DAY_US: u64 = 24 * 60 * MINUTE_US;
/// Days that are remembered: a clock that went wrong and is set again finds what was used.
const MOST_DAYS: usize = 8;
/// Who was called for help may call back within this time through what keeps others away.
const CALL_BACK_US: u64 = 60 * MINUTE_US;

/// What the guard says of a call that somebody wants to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go ahead.
    Allowed,
    /// An emergency number: go ahead, whatever these rules would have said.
    Emergency {
        /// The keys of the rules that were set aside.
        overruled: Vec<String>,
    },
    /// No.
    Refused(Refused),
}

/// Whom a call that somebody wants to begin is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Called {
    /// The ways in which the PBX may read what was dialled; the first is that itself.
    pub numbers: Vec<String>,
    /// The number that the PBX is asked for instead, and the line, where the number plan says so.
    pub sent: Option<(String, String)>,
    /// The address that was dialled is not one of the line's PBX.
    pub elsewhere: bool,
}

impl Called {
    /// Whether an emergency number is called: as it was dialled, or because the number plan makes one of that. At another
    /// host than the PBX the same digits are somebody's name: no rule is set aside for those.
    pub fn emergency(&self, emergency: &config::Emergency) -> bool {
        if self.elsewhere {
            return false;
        }
        let sent = self.sent.as_ref().map(|(number, _)| number);
        self.numbers.iter().take(1).chain(sent).any(|number| is_emergency(emergency, number))
    }
}

/// Which rule stops a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    /// The configuration key.
    pub rule: &'static str,
    /// The limit that is used up, where the rule counts something.
    pub value: Option<u64>,
    /// For people.
    pub text: String,
    /// Whether this is the first call of the day that it stops.
    pub first_today: bool,
}

/// What all lines together have used on one day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Used {
    calls: u64,
    talk_us: u64,
}

/// The guard, and what has been used so far.
///
/// A clock that was not set yet says nothing about the day. What is used then belongs to the last day that is known, so that
/// no power cut gives back what was used of it; where none is known, to the day that the clock names at last. Should it never
/// name one, a day is 24 hours without a power cut. What is used without a clock is not written down: the last day would take in
/// the calls of weeks, and a limit that was reached once would hold for ever.
pub(super) struct Guard {
    recent: VecDeque<u64>,
    /// The day that is counted on; `None` while none is known.
    day: Option<String>,
    used: Used,
    /// When counting on it began, in microseconds of the monotonic clock.
    begun_us: Option<u64>,
    /// The days of earlier lives.
    earlier: BTreeMap<String, Used>,
    /// When the last call for help ended.
    helped_at: Option<u64>,
    /// The rules that were told to have stopped a call on this day.
    told: BTreeSet<&'static str>,
}

impl Guard {
    /// A guard that goes on counting where an earlier life stopped.
    pub fn new(usage: &[Usage]) -> Guard {
        let mut earlier: BTreeMap<String, Used> = BTreeMap::new();
        let first_day = date(CLOCK_WAS_SET);
        for usage in usage.iter().filter(|usage| usage.day >= first_day) {
            let used = earlier.entry(usage.day.clone()).or_default();
            used.calls = used.calls.saturating_add(usage.calls);
            used.talk_us = used.talk_us.saturating_add(usage.talk_us);
        }
        let last = earlier.last_key_value();
        Guard {
            recent: VecDeque::new(),
            day: last.map(|(day, _)| day.clone()),
            used: last.map(|(_, used)| *used).unwrap_or_default(),
            begun_us: None,
            earlier,
            helped_at: None,
            told: BTreeSet::new(),
        }
    }

    /// May a call begin now?
    pub fn check(&mut self, now: Now, config: &Config, called: &Called) -> Verdict {
        self.turn_page(now);
        let refused = self.refuse(now, config, called);
        if called.emergency(&config.emergency) {
            return Verdict::Emergency {
                overruled: refused.into_iter().map(|refused| refused.rule.to_owned()).collect(),
            };
        }
        match refused {
            None => Verdict::Allowed,
            Some(mut refused) => {
                refused.first_today = self.told.insert(refused.rule);
                Verdict::Refused(refused)
            }
        }
    }

    fn refuse(&mut self, now: Now, config: &Config, called: &Called) -> Option<Refused> {
        let refused = |rule, value, text: String| Some(Refused { rule, value, text, first_today: false });
        if let Err((rule, number)) = permits(config, called) {
            return refused(rule, None, format!("{number} may not be called"));
        }
        let limits = &config.limits;
        while self.recent.front().is_some_and(|start| now.mono_us.saturating_sub(*start) >= MINUTE_US) {
            self.recent.pop_front();
        }
        // 0 is no limit.
        let reached = |most: u32, used: u64| most != 0 && used >= u64::from(most);
        let per_minute = limits.calls_per_minute;
        if reached(per_minute, self.recent.len() as u64) {
            let text = format!("{per_minute} calls were started within a minute");
            return refused("limits.calls_per_minute", Some(per_minute.into()), text);
        }
        let per_day = limits.calls_per_day;
        if reached(per_day, self.used.calls) {
            return refused(
                "limits.calls_per_day",
                Some(per_day.into()),
                format!("{per_day} calls were made today"),
            );
        }
        let minutes = limits.minutes_per_day;
        if reached(minutes, self.used.talk_us / MINUTE_US) {
            return refused(
                "limits.minutes_per_day",
                Some(minutes.into()),
                format!("{minutes} minutes are used today"),
            );
        }
        None
    }

    /// A call has begun; what is to be kept of that.
    pub fn started(&mut self, now: Now, line: &str) -> Option<Usage> {
        self.turn_page(now);
        self.recent.push_back(now.mono_us);
        self.used.calls += 1;
        self.kept(now, line, Used { calls: 1, talk_us: 0 })
    }

    /// A call that this side began has been talked in for so long; what is to be kept of that.
    pub fn talked(&mut self, now: Now, line: &str, talk_us: u64) -> Option<Usage> {
        self.turn_page(now);
        self.used.talk_us += talk_us;
        self.kept(now, line, Used { calls: 0, talk_us })
    }

    fn kept(&self, now: Now, line: &str, used: Used) -> Option<Usage> {
        let Used { calls, talk_us } = used;
        let day = self.day.clone().filter(|_| now.utc_us >= CLOCK_WAS_SET)?;
        Some(Usage { day, line: line.to_owned(), calls, talk_us })
    }

    /// A call for help has ended.
    pub fn helped(&mut self, now: Now) {
        self.helped_at = Some(now.mono_us);
    }

    /// Whether somebody who was called for help may call back.
    pub fn expects_call_back(&self, now: Now) -> bool {
        self.helped_at.is_some_and(|at| now.mono_us.saturating_sub(at) < CALL_BACK_US)
    }

    fn turn_page(&mut self, now: Now) {
        let begun_us = *self.begun_us.get_or_insert(now.mono_us);
        let next = if now.utc_us >= CLOCK_WAS_SET {
            let today = date(now.utc_us);
            let before = match &self.day {
                Some(day) if *day == today => return,
                // What was used while no day was known was used today.
                None => self.used,
                Some(_) => self.earlier.get(&today).copied().unwrap_or_default(),
            };
            (Some(today), before)
        } else if now.mono_us.saturating_sub(begun_us) >= DAY_US {
            (self.day.clone(), Used::default())
        } else {
            return;
        };
        if let Some(day) = self.day.take() {
            self.earlier.insert(day, self.used);
        }
        if self.earlier.len() > MOST_DAYS {
            self.earlier.pop_first();
        }
        (self.day, self.used) = next;
        self.begun_us = Some(now.mono_us);
        self.told.clear();
    }
}

/// Whether `[limits]` lets a number be called, whatever else they count; or the rule that does not, and the number.
pub(super) fn permits<'c>(config: &Config, called: &'c Called) -> Result<(), (&'static str, &'c str)> {
    let plan = config.number_plan();
    for number in &called.numbers {
        config.limits.permits(number, &plan).map_err(|rule| (rule, number.as_str()))?;
    }
    let Some((number, line)) = &called.sent else { return Ok(()) };
    let plan = config.line(line).map_or(plan, |line| config.number_plan_of(line));
    config.limits.does_not_deny(number, &plan).map_err(|rule| (rule, number.as_str()))
}

/// The date, UTC: limits begin anew at midnight there.
fn date(utc_us: i64) -> String {
    rfc3339(utc_us).chars().take_while(|c| *c != 'T').collect()
}

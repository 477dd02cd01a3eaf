//! The one guard that every call passes before it begins, whoever wants it: what may be dialled, how often, how long.
//! Emergency numbers pass all of it.

use std::collections::{BTreeMap, VecDeque};

use super::dial_string::is_emergency;
use crate::config::{self, Config};
use crate::events::cloud_event::rfc3339;
use crate::events::store::Usage;
use crate::now::Now;

const MINUTE_US: u64 = 60_000_000;
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

/// The guard, and what has been used so far.
pub(super) struct Guard {
    recent: VecDeque<u64>,
    /// What all lines together have used on `day`.
    day: String,
    calls: u64,
    talk_us: u64,
    /// When the last call for help ended.
    helped_at: Option<u64>,
    /// On which day each rule was told to have stopped a call.
    told: BTreeMap<&'static str, String>,
}

impl Guard {
    /// A guard that goes on counting where an earlier life stopped.
    pub fn new(usage: &[Usage]) -> Guard {
        let day = usage.iter().map(|usage| usage.day.clone()).max().unwrap_or_default();
        let today = || usage.iter().filter(|usage| usage.day == day);
        Guard {
            recent: VecDeque::new(),
            calls: today().map(|usage| usage.calls).sum(),
            talk_us: today().map(|usage| usage.talk_us).sum(),
            day,
            helped_at: None,
            told: BTreeMap::new(),
        }
    }

    /// May a call begin now?
    pub fn check(&mut self, now: Now, config: &Config, called: &Called) -> Verdict {
        let refused = self.refuse(now, config, called);
        if called.emergency(&config.emergency) {
            return Verdict::Emergency {
                overruled: refused.into_iter().map(|refused| refused.rule.to_owned()).collect(),
            };
        }
        match refused {
            None => Verdict::Allowed,
            Some(mut refused) => {
                let day = day(now);
                refused.first_today = self.told.insert(refused.rule, day.clone()) != Some(day);
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
        self.turn_page(now);
        // 0 is no limit.
        let reached = |most: u32, used: u64| most != 0 && used >= u64::from(most);
        let per_minute = limits.calls_per_minute;
        if reached(per_minute, self.recent.len() as u64) {
            let text = format!("{per_minute} calls were started within a minute");
            return refused("limits.calls_per_minute", Some(per_minute.into()), text);
        }
        let per_day = limits.calls_per_day;
        if reached(per_day, self.calls) {
            return refused(
                "limits.calls_per_day",
                Some(per_day.into()),
                format!("{per_day} calls were made today"),
            );
        }
        let minutes = limits.minutes_per_day;
        if reached(minutes, self.talk_us / MINUTE_US) {
            return refused(
                "limits.minutes_per_day",
                Some(minutes.into()),
                format!("{minutes} minutes are used today"),
            );
        }
        None
    }

    /// A call has begun; what is to be kept of that.
    pub fn started(&mut self, now: Now, line: &str) -> Usage {
        self.turn_page(now);
        self.recent.push_back(now.mono_us);
        self.calls += 1;
        Usage { day: self.day.clone(), line: line.to_owned(), calls: 1, talk_us: 0 }
    }

    /// A call that this side began has been talked in for so long; what is to be kept of that.
    pub fn talked(&mut self, now: Now, line: &str, talk_us: u64) -> Usage {
        self.turn_page(now);
        self.talk_us += talk_us;
        Usage { day: self.day.clone(), line: line.to_owned(), calls: 0, talk_us }
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
        let today = day(now);
        if self.day != today {
            (self.day, self.calls, self.talk_us) = (today, 0, 0);
        }
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
pub fn day(now: Now) -> String {
    rfc3339(now.utc_us).chars().take_while(|c| *c != 'T').collect()
}

//! What becomes of a dialled number: which rule decides, what the PBX is asked for, over which line, and why. A pure
//! function of the configuration and of the lines that are registered; a call and `tipring route` go by the same answer.
//!
//! An emergency number is asked for as it was dialled, whatever the rules say. A rule is applied once: what it makes goes
//! out and is not looked up again. Numbers that no rule rewrites, and those that begin with `+` after one has, are written
//! as the line's `number_format` says.

use serde::Serialize;

use super::Phone;
use super::agent::Said;
use super::command::{Blame, Outcome, Refusal, Reply};
use super::dial_string::{digits, is_emergency, is_number};
use super::limits::{Called, permits};
use super::outgoing::wrong_target;
use crate::config::route::Pattern;
use crate::config::{self, Config, Route, When};
use crate::now::Now;

/// Numbers of one question.
const MOST_NUMBERS: usize = 100;

/// What becomes of a number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Decision {
    /// As it was dialled, without spaces and brackets.
    pub number: String,
    /// In E.164, where the number plan is certain.
    pub e164: Option<String>,
    /// Whether help is called: no rule is asked then.
    pub emergency: bool,
    /// What it says of the agent of the line; nobody is called then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Said>,
    /// Which `[[route]]` decides, counted from 1 in the order of the file.
    pub rule: Option<usize>,
    /// What the PBX is asked for.
    pub sent: String,
    /// The line that takes it; `None` if none can.
    pub line: Option<String>,
    /// Why there would be no call.
    pub refused: Option<Refused>,
    /// The rules that were asked, in that order; the last one fits if one decides.
    pub tried: Vec<Tried>,
}

/// What stands against a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    /// The configuration key: `limits.deny`, `route.via`.
    pub rule: &'static str,
    /// For people.
    pub text: String,
}

/// A rule that was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tried {
    /// Counted from 1 in the order of the file.
    pub rule: usize,
    /// Its pattern.
    pub r#match: String,
    /// Whether it decides.
    pub fits: bool,
    /// Why, or why not.
    pub why: String,
}

/// Why a rule does not decide.
enum Unfit {
    /// It is not for this number, or not for this line.
    Other(String),
    /// It is, and its line can't take the call now.
    Silent(String),
}

/// What a decision goes by, beside the number.
pub(super) struct Circumstances<'c> {
    pub config: &'c Config,
    /// Whether calls can go out over a line now.
    pub usable: &'c dyn Fn(&str) -> bool,
    /// The key by which nobody is there now; `None` while somebody is.
    pub closed_by: Option<&'static str>,
}

/// What somebody wants to call.
struct Wanted<'w> {
    number: &'w str,
    e164: Option<&'w str>,
    line: Option<&'w str>,
}

/// Decides about a number that was dialled: digits or a name, no address. `line` is the line that was asked for.
pub(super) fn decide(now: &Circumstances<'_>, number: &str, line: Option<&str>) -> Decision {
    let (config, usable) = (now.config, now.usable);
    let e164 = config.number_plan().e164(number);
    let first = config.line.iter().map(|line| line.name.as_str()).find(|name| usable(name));
    let mut decision = Decision {
        number: number.to_owned(),
        emergency: is_emergency(&config.emergency, number),
        sent: number.to_owned(),
        line: line.or(first).map(str::to_owned),
        e164,
        ..Decision::default()
    };
    // Help is called over whatever line there is.
    let for_help = |line: Option<String>| {
        let there = line.as_deref().is_some_and(usable);
        if there { line } else { first.map(str::to_owned).or(line) }
    };
    if decision.emergency {
        decision.line = for_help(decision.line);
        return decision;
    }
    decision.agent = Said::by(&config.numbers, number);
    if decision.agent.is_some() {
        return decision;
    }
    let wanted = Wanted { number, e164: decision.e164.as_deref(), line };
    let mut silent = None;
    let mut rewritten = false;
    for (index, route) in in_order(&config.route) {
        let (rule, r#match) = (index + 1, route.r#match.as_str().to_owned());
        match fit(now, route, &wanted) {
            Ok((sent, why)) => {
                decision.tried.push(Tried { rule, r#match, fits: true, why });
                (decision.rule, decision.sent, silent) = (Some(rule), sent, None);
                decision.line = route.via.clone().or(decision.line);
                rewritten = route.rewrites();
                break;
            }
            Err(unfit) => {
                let why = match unfit {
                    Unfit::Other(why) => why,
                    Unfit::Silent(why) => {
                        silent = silent.or_else(|| Some(format!("rule {rule} fits, and {why}")));
                        why
                    }
                };
                decision.tried.push(Tried { rule, r#match, fits: false, why });
            }
        }
    }
    // A call that belongs on a line that is away does not go out over any other one.
    if let Some(text) = silent {
        decision.line = None;
        decision.refused = Some(Refused { rule: "route.via", text });
    }
    decision.emergency = is_emergency(&config.emergency, &decision.sent);
    if decision.emergency {
        decision.line = for_help(decision.line);
    }
    if let Some(line) = decision.line.as_deref().and_then(|name| config.line(name))
        && !decision.emergency
    {
        let certain = match rewritten {
            true => decision.sent.starts_with('+').then(|| decision.sent.clone()),
            false => decision.e164.clone(),
        };
        let formatted = certain.and_then(|e164| written(config, line, &e164));
        decision.sent = formatted.unwrap_or(decision.sent);
    }
    decision
}

/// A number in E.164 as the PBX of a line wants it, if it wants it otherwise than it was dialled.
fn written(config: &Config, line: &config::Line, e164: &str) -> Option<String> {
    let plan = config.number_plan_of(line);
    plan.written(&plan.e164(e164)?, line.number_format)
}

/// The rules in the order in which they are asked, each with its place in the file.
fn in_order(routes: &[Route]) -> Vec<(usize, &Route)> {
    let mut ordered: Vec<(usize, &Route)> = routes.iter().enumerate().collect();
    crate::order::sort_by_key(&mut ordered, |(index, route)| (route.priority, *index));
    ordered
}

/// What a rule makes of a number, and in which form it fits; or why it does not decide.
fn fit(now: &Circumstances<'_>, route: &Route, wanted: &Wanted<'_>) -> Result<(String, String), Unfit> {
    let other = |why: String| Err(Unfit::Other(why));
    let forms = || [Some(wanted.number), wanted.e164].into_iter().flatten();
    let Some(number) = forms().find(|form| route.r#match.fits(form)) else {
        if wanted.number.len() > Pattern::LONGEST_NUMBER {
            return other(format!("numbers of more than {} characters fit nothing", Pattern::LONGEST_NUMBER));
        }
        return other(match wanted.e164.filter(|e164| *e164 != wanted.number) {
            Some(e164) => format!("it does not fit {}, nor {e164}", wanted.number),
            None => format!("it does not fit {}", wanted.number),
        });
    };
    if let Some(from) = &route.from
        && wanted.line != Some(from)
    {
        return other(format!("it fits, and holds only for calls over line {from}"));
    }
    if let (Some(asked), Some(via), None) = (wanted.line, &route.via, &route.from)
        && asked != via
    {
        return other(format!("it fits, and leads over line {via}, while {asked} was asked for"));
    }
    match (route.hours, now.closed_by) {
        (Some(When::Open), Some(rule)) => {
            return other(format!("it fits, and holds only in [hours]: closed by {rule}"));
        }
        (Some(When::Closed), None) => return other("it fits, and holds only outside of [hours]".into()),
        _ => {}
    }
    let Some(sent) = route.rewritten(number) else {
        return other(format!("it fits {number}, and leaves nothing that can be dialled"));
    };
    // A call for help tries its line in any case.
    if let Some(via) =
        route.via.as_deref().filter(|via| !(now.usable)(via) && !is_emergency(&now.config.emergency, &sent))
    {
        return Err(Unfit::Silent(format!("line {via} is not registered")));
    }
    Ok((sent, format!("it fits {number}")))
}

impl Phone {
    /// The key by which nobody is there now. A clock that was never set says nothing: somebody is.
    pub(super) fn closed_by(&self, now: Now) -> Option<&'static str> {
        if self.parts.contains_key("clock") {
            return None;
        }
        self.config.hours.closed_by(self.config.device.timezone.civil(now.utc_us))
    }

    /// What becomes of a number, digits or a name, that somebody wants to call now.
    pub(super) fn decide(&self, now: Now, number: &str, line: Option<&str>) -> Decision {
        let usable = |name: &str| self.line(name).is_some_and(super::Line::is_usable);
        let closed_by = self.closed_by(now);
        decide(&Circumstances { config: &self.config, usable: &usable, closed_by }, number, line)
    }

    /// What would become of numbers if they were called now.
    pub(super) fn routes(&self, now: Now, numbers: &[String], line: Option<&str>) -> Outcome {
        if numbers.is_empty() || numbers.len() > MOST_NUMBERS {
            let message = format!("there are {} numbers", numbers.len());
            let hint = format!("give 1 to {MOST_NUMBERS}");
            return Err(Refusal::new(Blame::Wish, "wrong_numbers", message, hint));
        }
        if let Some(name) = line {
            self.known_line(name)?;
        }
        let decided = numbers.iter().map(|number| {
            let bare = super::outgoing::checked(number).and_then(|it| {
                super::outgoing::bare(it).ok_or_else(|| {
                    wrong_target(it, "an address goes where it says, and no rule is asked about it")
                })
            })?;
            let mut decision = self.decide(now, &bare, line);
            let sent = decision.line.clone().map(|line| (decision.sent.clone(), line));
            let called = Called { numbers: vec![bare], sent, elsewhere: false };
            if decision.refused.is_none() && !decision.emergency && decision.agent.is_none() {
                let refused = permits(&self.config, &called).err();
                decision.refused = refused
                    .map(|(rule, number)| Refused { rule, text: format!("{number} may not be called") });
            }
            Ok(decision)
        });
        Ok(Reply::Routes(decided.collect::<Result<_, Refusal>>()?))
    }
}

/// Digits of a number; a name as it is.
pub(super) fn plain(dialled: &str) -> String {
    if is_number(dialled) { digits(dialled) } else { dialled.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "[[line]]\nname = 'office'\nuser = '101'\ndomain = 'pbx.example'\npassword = 'x'\n\
                         [[line]]\nname = 'mobile'\nuser = '38'\ndomain = 'lc.example'\npassword = 'x'\n";

    fn config(text: &str) -> Config {
        Config::parse(&format!("{text}\n{LINES}"), "t.toml").unwrap_or_else(|findings| panic!("{findings:?}"))
    }

    fn asked(text: &str, number: &str, line: Option<&str>) -> Decision {
        decide_if(&config(text), number, line, &|_| true)
    }

    fn decide_if(
        config: &Config,
        number: &str,
        line: Option<&str>,
        usable: &dyn Fn(&str) -> bool,
    ) -> Decision {
        decide(&Circumstances { config, usable, closed_by: None }, number, line)
    }

    const UA: &str = "[device]\ncountry = 'UA'\n";

    #[test]
    fn without_rules_a_number_goes_out_as_it_was_dialled() {
        let decision = asked(UA, "0731234567", None);
        assert_eq!((decision.sent.as_str(), decision.line.as_deref()), ("0731234567", Some("office")));
        assert_eq!(decision.e164.as_deref(), Some("+380731234567"));
        assert_eq!((decision.rule, decision.tried), (None, vec![]));
        assert_eq!(decide_if(&config(UA), "600", None, &|_| false).line, None);
    }

    #[test]
    fn the_tester_tells_the_printed_pattern_from_the_intended_one() {
        let pair = "[[route]]\nmatch = '^\\+?38?(0[679]3\\d{7})$'\nvia = 'mobile'\nto = '38$1'\n\
                    [[route]]\nmatch = '^\\+?3?8?(0[679]3\\d{7})$'\nvia = 'mobile'\nto = '38$1'\n";
        for (number, country, rule, sent) in [
            ("+380631234567", "US", Some(1), "380631234567"),
            ("380631234567", "US", Some(1), "380631234567"),
            ("30931234567", "US", Some(1), "380931234567"),
            ("0731234567", "US", Some(2), "380731234567"),
            ("80931234567", "US", Some(2), "380931234567"),
            ("0501234567", "US", None, "0501234567"),
            // Where the country is known both fit: the number is asked about in E.164, too.
            ("0731234567", "UA", Some(1), "380731234567"),
        ] {
            let decision = asked(&format!("[device]\ncountry = '{country}'\n{pair}"), number, None);
            assert_eq!((decision.rule, decision.sent.as_str()), (rule, sent), "{number}");
            let line = if rule.is_some() { "mobile" } else { "office" };
            assert_eq!(decision.line.as_deref(), Some(line), "{number}");
        }
        let told = asked(&format!("[device]\ncountry = 'US'\n{pair}"), "0731234567", None).tried;
        let told: Vec<_> = told.iter().map(|it| (it.rule, it.fits, it.why.as_str())).collect();
        assert_eq!(told, [(1, false, "it does not fit 0731234567"), (2, true, "it fits 0731234567")]);
    }

    #[test]
    fn lower_priorities_are_asked_first() {
        let rules = "[[route]]\nmatch = '^1'\nprepend = '7'\n[[route]]\nmatch = '^1'\nprepend = '8'\npriority = 99\n\
                     [[route]]\nmatch = '^1'\nprepend = '9'\npriority = 99\n";
        let decision = asked(rules, "101", None);
        assert_eq!((decision.rule, decision.sent.as_str(), decision.tried.len()), (Some(2), "8101", 1));
    }

    #[test]
    fn a_line_that_was_asked_for_is_kept() {
        let via = "[[route]]\nmatch = '^1'\nvia = 'mobile'\n";
        assert_eq!(asked(via, "101", None).line.as_deref(), Some("mobile"));
        let kept = asked(via, "101", Some("office"));
        assert_eq!((kept.rule, kept.line.as_deref()), (None, Some("office")));
        assert_eq!(kept.tried[0].why, "it fits, and leads over line mobile, while office was asked for");
        let from = "[[route]]\nmatch = '^1'\nfrom = 'office'\nvia = 'mobile'\n";
        assert_eq!(asked(from, "101", Some("office")).line.as_deref(), Some("mobile"));
        let other = asked(from, "101", None);
        assert_eq!((other.rule, other.line.as_deref()), (None, Some("office")));
        assert_eq!(other.tried[0].why, "it fits, and holds only for calls over line office");
    }

    #[test]
    fn the_next_rule_steps_in_for_a_line_that_is_away_and_no_other_line_does() {
        let first = "[[route]]\nmatch = '^1'\nvia = 'mobile'\n";
        let only_office = |name: &str| name == "office";
        let refused = decide_if(&config(first), "101", None, &only_office);
        assert_eq!(refused.line, None);
        let why = refused.refused.expect("refused");
        assert_eq!(
            (why.rule, why.text.as_str()),
            ("route.via", "rule 1 fits, and line mobile is not registered")
        );
        let both = format!("{first}[[route]]\nmatch = '^1'\nvia = 'office'\nprepend = '9'\n");
        let decision = decide_if(&config(&both), "101", None, &only_office);
        assert_eq!((decision.sent.as_str(), decision.line.as_deref()), ("9101", Some("office")));
        assert_eq!((decision.rule, decision.refused), (Some(2), None));
    }

    #[test]
    fn help_is_called_as_it_was_dialled() {
        let rules = "[emergency]\nnumbers = ['112']\n[[route]]\nmatch = '.*'\nvia = 'mobile'\nprepend = '9'\n\
                     [[route]]\nmatch = '^.*$'\nto = '600'\npriority = 0\n";
        for number in ["112", "0112", "9112", "1-1-2"] {
            let number = plain(number);
            let decision = asked(rules, &number, None);
            assert!(decision.emergency, "{number}");
            assert_eq!((&decision.sent, decision.rule, decision.tried.len()), (&number, None, 0));
            assert_eq!(decision.line.as_deref(), Some("office"));
            assert_eq!(asked(rules, &number, Some("mobile")).line.as_deref(), Some("mobile"));
        }
        // And a key for help is help.
        let key = "[emergency]\nnumbers = ['112']\n[[route]]\nmatch = '^5$'\nto = '112'\nvia = 'mobile'\n";
        let decision = decide_if(&config(key), "5", None, &|_| false);
        assert_eq!((decision.emergency, decision.line.as_deref()), (true, Some("mobile")));
        // By a line that is there, whichever was asked for or is named.
        for (number, wish) in [("112", Some("mobile")), ("112", None), ("5", None)] {
            let decision = decide_if(&config(key), number, wish, &|name| name == "office");
            assert_eq!((decision.emergency, decision.line.as_deref()), (true, Some("office")), "{number}");
        }
    }

    #[test]
    fn a_line_gets_numbers_in_its_own_format() {
        let format = |format: &str, more: &str| {
            let lines =
                LINES.replace("user = '101'\n", &format!("user = '101'\nnumber_format = '{format}'\n{more}"));
            let text = format!("[device]\ncountry = 'RU'\n[numbers]\narea_code = '495'\n{lines}");
            Config::parse(&text, "t.toml").unwrap()
        };
        for (is, more, number, expected) in [
            ("e164", "", "445-11-20", "74954451120"),
            ("+e164", "", "8 (495) 445-11-20", "+74954451120"),
            ("national", "", "+7 495 445 11 20", "84954451120"),
            ("national", "country = 'UA'\n", "8 10 380 63 123-45-67", "0631234567"),
            ("national", "country = 'UA'\n", "8 (495) 445-11-20", "0074954451120"),
            ("+e164", "", "101", "101"),
            ("+e164", "", "123*45", "123*45"),
            ("+e164", "", "*21*84954451120#", "*21*84954451120#"),
            ("+e164", "", "anna", "anna"),
        ] {
            let decision = decide_if(&format(is, more), &plain(number), None, &|_| true);
            assert_eq!(decision.sent, expected, "{number} as {is} {more}");
        }
        let mut ruled = format("e164", "");
        ruled.route = config(
            "[[route]]\nmatch = '^8\\d{10}$'\nstrip = 1\nprepend = '+7'\n\
                              [[route]]\nmatch = '^9'\nstrip = 1\n",
        )
        .route;
        assert_eq!(decide_if(&ruled, "84954451120", None, &|_| true).sent, "74954451120");
        assert_eq!(
            decide_if(&ruled, "984954451120", None, &|_| true).sent,
            "84954451120",
            "a rule's own word stands"
        );
    }

    #[test]
    fn a_rule_may_hold_by_day_and_another_by_night() {
        let rules = "[hours]\nopen = ['mon-fri 09:00-18:00']\n[[route]]\nmatch = '^0$'\nhours = 'open'\nto = '101'\n\
                     [[route]]\nmatch = '^0$'\nhours = 'closed'\nto = '102'\n";
        let config = config(rules);
        let at =
            |closed_by| decide(&Circumstances { config: &config, usable: &|_| true, closed_by }, "0", None);
        assert_eq!(at(None).sent, "101");
        let night = at(Some("hours.holidays"));
        assert_eq!(night.sent, "102");
        assert_eq!(night.tried[0].why, "it fits, and holds only in [hours]: closed by hours.holidays");
    }

    #[test]
    fn ten_thousand_routes_are_refused_and_the_most_are_asked_at_once() {
        let rules = |count: usize| "[[route]]\nmatch = '^(a?){12}(\\d+)*$'\npriority = 1\n".repeat(count);
        let refused = Config::parse(&rules(10_000), "t.toml").unwrap_err();
        assert!(refused.iter().any(|it| it.is_error()), "{refused:?}");
        let refused = Config::parse(&rules(257), "t.toml").unwrap_err();
        assert!(refused.iter().any(|it| it.instead.contains("256")), "{refused:?}");
        let decision = asked(&rules(256), &("1".repeat(60) + "x"), None);
        assert_eq!(decision.tried.len(), 256);
        assert!(asked(&rules(1), &"1".repeat(1 << 20), None).tried[0].why.contains("more than 64"));
    }

    #[test]
    fn the_page_says_what_happens() {
        let page = include_str!("../../docs/numbers.md");
        let (_, rest) = page.split_once("```toml\n").expect("an example");
        let (example, rest) = rest.split_once("```").expect("its end");
        let reading = Config::read(example, "docs/numbers.md", &mut |_| Ok(None));
        let config = reading.config.unwrap_or_else(|| panic!("{:?}", reading.findings));
        let rows = rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        for block in page.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()) {
            let findings = Config::read(block, "docs/numbers.md", &mut |_| Ok(None)).findings;
            assert!(!findings.iter().any(crate::config::Finding::is_error), "{findings:?}");
        }
        let mut seen = 0;
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [number, sent, line, rule] = cells.as_slice() else { panic!("{row}") };
            let decision = decide_if(&config, &plain(number), None, &|_| true);
            assert_eq!(
                (decision.sent.as_str(), decision.line.as_deref(), decision.rule),
                (*sent, Some(*line), rule.parse().ok()),
                "{row}"
            );
            seen += 1;
        }
        assert!(seen > 10, "the table has been read");
        let (_, formats) = page.split_once("## What the PBX is sent").expect("a table of formats");
        for row in formats.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> =
                row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let [format, near, far] = cells.as_slice() else { panic!("{row}") };
            let text =
                example.replace("number_format = \"national\"", &format!("number_format = \"{format}\""));
            let mut config = Config::parse(&text, "t.toml").expect("right");
            config.route.clear();
            for (number, sent) in [("8 (495) 445-11-20", near), ("810 49 30 1234567", far)] {
                let decision = decide_if(&config, &plain(number), None, &|_| true);
                assert_eq!(decision.sent, *sent, "{row}");
            }
            seen += 1;
        }
        assert!(seen > 16, "the formats have been read");
    }
}

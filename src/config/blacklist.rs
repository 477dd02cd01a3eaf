//! `[blacklist]`: callers who are refused.

use super::dialing::NumberRule;
use super::number_plan::NumberPlan;
use super::reader::{Mistake, Scope, section};
use super::spelling::spelled;
use super::values::{Written, written};

section! {
    /// `[blacklist]`: callers who are refused, on all lines. Nothing rings, and it is told as call.refused. Who was called for
    /// help may call back whatever stands here.
    pub struct Blacklist {
        /// Numbers in any spelling, also with * for any rest and ? for one digit; "anonymous" (who withholds the number);
        /// "international".
        numbers: Vec<CallerRule> = default "[]";
        /// What they are answered: 403 (forbidden), 486 (busy) or 603 (decline).
        status: u16 = default "403", if valid_status;
    }
}

impl Blacklist {
    fn check(&self, _: &mut Scope<'_, '_>) {}

    /// Whether a caller is meant, by the number as the PBX wrote it and the plan by which it writes; `None` is one who
    /// withholds it.
    pub fn means(&self, caller: Option<&str>, plan: &NumberPlan<'_>) -> bool {
        self.numbers.iter().any(|rule| match (rule, caller) {
            (CallerRule::Anonymous, caller) => caller.is_none(),
            (CallerRule::Number(rule), Some(number)) => rule.matches(number, plan),
            (CallerRule::Number(_), None) => false,
        })
    }
}

fn valid_status(status: &u16) -> Result<(), Mistake> {
    if matches!(status, 403 | 486 | 603) {
        return Ok(());
    }
    Err((format!("can't be {status}"), "write 403, 486 or 603".into()))
}

/// Whom an entry of the list means.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CallerRule {
    /// Who withholds the number.
    #[default]
    Anonymous,
    /// A number, or a class of numbers.
    Number(NumberRule),
}

impl Written for CallerRule {
    const FORM: &'static str =
        "a number such as \"8 (495) 445-11-20\" or \"+7495*\", \"anonymous\" or \"international\"";

    fn parse(text: &str) -> Result<CallerRule, String> {
        match text.trim() {
            "" => Err(String::new()),
            "anonymous" => Ok(CallerRule::Anonymous),
            text if text.chars().any(|c| c.is_ascii_digit()) => {
                NumberRule::parse(&spelled(text)).map(CallerRule::Number)
            }
            text => NumberRule::parse(text).map(CallerRule::Number),
        }
        .map_err(|_| format!("write {}", Self::FORM))
    }

    fn written(&self) -> String {
        match self {
            CallerRule::Anonymous => "anonymous".into(),
            CallerRule::Number(rule) => rule.written(),
        }
    }
}

written!(CallerRule);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_in_any_spelling() {
        let list = |rules: &[&str]| Blacklist {
            numbers: rules.iter().map(|text| CallerRule::parse(text).expect(text)).collect(),
            ..Blacklist::default()
        };
        let plan = NumberPlan::of("RU").in_area("495");
        for (rules, caller, expected) in [
            (&["8 (495) 445-11-20"][..], Some("+74954451120"), true),
            (&["8 (495) 445-11-20"], Some("4451120"), true),
            (&["445-11-20"], Some("84954451120"), true),
            (&["8 (495) 445-11-20"], Some("+74954451121"), false),
            (&["+7 800 *"], Some("88001234567"), true),
            (&["+7800?????67"], Some("8 800 123-45-67"), true),
            (&["anonymous"], None, true),
            (&["anonymous"], Some("anonymous"), false),
            (&["international"], Some("+493012345678"), true),
            (&["international"], Some("+74954451120"), false),
            (&["Anna"], Some("anna"), true),
            (&["101"], Some("101"), true),
            (&["101"], Some("+7101"), false),
            (&[], Some("101"), false),
            (&["*"], None, false),
        ] {
            assert_eq!(list(rules).means(caller, &plan), expected, "{rules:?} {caller:?}");
        }
        for wrong in ["", "^8(495)\\d+$", "a b"] {
            assert!(CallerRule::parse(wrong).is_err(), "{wrong}");
        }
    }
}

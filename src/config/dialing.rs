//! Which numbers a rule means: patterns, and the two classes of numbers that cost the most.

use super::country::COUNTRIES;
use super::number_plan::{Dialled, NumberPlan, dialled};
use super::spelling::spelled;
use super::values::{Written, written};

/// What `[limits]` allows or denies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NumberRule {
    /// Numbers of other countries, seen from `[device] country`.
    International,
    /// Numbers that earn money for those who are called.
    Premium,
    /// Numbers of one spelling: `*` is any rest, `?` is one character.
    Pattern(String),
}

impl Default for NumberRule {
    fn default() -> Self {
        NumberRule::Pattern(String::new())
    }
}

impl Written for NumberRule {
    const FORM: &'static str =
        "\"international\", \"premium\", or a number in which * is any rest and ? one digit";

    fn parse(text: &str) -> Result<NumberRule, String> {
        match text.trim() {
            "international" => Ok(NumberRule::International),
            "premium" => Ok(NumberRule::Premium),
            text if text
                .contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '^' | '$' | '[' | '\\')) =>
            {
                Err(format!("write {}, without spaces and brackets", Self::FORM))
            }
            text => Ok(NumberRule::Pattern(text.to_owned())),
        }
    }

    fn written(&self) -> String {
        match self {
            NumberRule::International => "international".into(),
            NumberRule::Premium => "premium".into(),
            NumberRule::Pattern(pattern) => pattern.clone(),
        }
    }
}

written!(NumberRule);

/// Numbers of no country that are paid for: international premium rate, satellites and global networks.
const PREMIUM_EVERYWHERE: &[&str] = &["979", "881", "882", "883", "870"];

/// What makes a pattern of a number.
const WILD: [char; 2] = ['*', '?'];

impl NumberRule {
    /// Whether the rule means this number, as it was written where the plan holds: as it stands, or in E.164. Names and
    /// short numbers belong to no class: they are extensions.
    pub fn matches(&self, number: &str, plan: &NumberPlan<'_>) -> bool {
        let e164 = plan.e164(number);
        let spelled = spelled(number);
        // In E.164 it is certain where the digits begin; otherwise the prefix has to tell.
        let certain = e164.as_deref().unwrap_or(&spelled);
        let home = plan.home();
        match self {
            NumberRule::Pattern(pattern) => {
                let means = |number: &str| wildcard(pattern, number);
                means(&spelled)
                    || e164.as_deref().is_some_and(means)
                    || (e164.is_some() && !pattern.contains(WILD) && plan.e164(pattern) == e164)
            }
            NumberRule::International => match (dialled(certain, home), home) {
                (Dialled::Global(digits), Some(home)) => {
                    digits.strip_prefix(home.calling).is_none_or(|rest| begins(home.abroad, rest))
                }
                (Dialled::Global(_), None) => true,
                (Dialled::National(digits), Some(home)) => begins(home.abroad, digits),
                _ => false,
            },
            NumberRule::Premium => match (dialled(certain, home), home) {
                (Dialled::Global(digits), _) => {
                    begins(PREMIUM_EVERYWHERE, digits)
                        || COUNTRIES.iter().any(|country| {
                            digits
                                .strip_prefix(country.calling)
                                .is_some_and(|rest| begins(country.premium, rest))
                        })
                }
                (Dialled::National(digits), Some(home)) => begins(home.premium, digits),
                _ => false,
            },
        }
    }
}

fn begins(prefixes: &[&str], digits: &str) -> bool {
    prefixes.iter().any(|prefix| digits.starts_with(prefix))
}

/// `*` is any number of characters, `?` is one. Linear in the number for each `*` of the pattern.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || c.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_countries_are_international() {
        let rule = NumberRule::International;
        for (number, country, expected) in [
            ("+74951234567", "RU", false),
            ("84951234567", "RU", false),
            ("810493012345678", "RU", true),
            ("+49 30 123456", "RU", true),
            ("0049301234567", "DE", false),
            ("004412345678", "DE", true),
            ("030123456", "DE", false),
            ("+12125550100", "US", false),
            ("01144201234567", "US", true),
            ("1001", "RU", false),
            ("anna", "RU", false),
            ("+4930123456", "XX", true),
            ("004930123456", "XX", true),
            ("0301234567", "XX", false),
            ("+7 727 123-45-67", "RU", true),
            ("8 727 123-45-67", "RU", true),
            ("8 727 123-45-67", "KZ", false),
            ("+1 809 555 0123", "US", true),
            ("1 876 555 0123", "US", true),
            ("876 555 0123", "US", true),
        ] {
            assert_eq!(rule.matches(number, &NumberPlan::of(country)), expected, "{number} from {country}");
        }
    }

    #[test]
    fn paid_numbers_are_premium_however_they_are_dialled() {
        let rule = NumberRule::Premium;
        for (number, country, expected) in [
            ("88091234567", "RU", true),
            ("+7 809 123-45-67", "RU", true),
            ("0900123456", "DE", true),
            ("+49900123456", "RU", true),
            ("+979123456789", "GB", true),
            ("+447700900123", "GB", false),
            ("09061234567", "GB", true),
            ("84951234567", "RU", false),
            ("900", "DE", false),
            ("78091234567", "RU", true),
        ] {
            assert_eq!(rule.matches(number, &NumberPlan::of(country)), expected, "{number} from {country}");
        }
    }

    #[test]
    fn a_rule_means_a_number_however_either_is_written() {
        let plan = NumberPlan::of("RU").in_area("495");
        for (pattern, number, expected) in [
            ("+7495*", "8 (495) 445-11-20", true),
            ("+7495*", "445-11-20", true),
            ("84954451120", "+7 495 445-11-20", true),
            ("84954451120", "4951120", false),
            ("+44*", "810 44 20 7946 0958", true),
            ("101", "+7101", false),
        ] {
            let rule = NumberRule::parse(pattern).unwrap();
            assert_eq!(rule.matches(number, &plan), expected, "{pattern} {number}");
        }
        let visitor = NumberPlan::of("RU").seen_from("KZ");
        assert!(NumberRule::International.matches("84954451120", &visitor));
        assert!(!NumberRule::International.matches("87271234567", &visitor));
    }

    #[test]
    fn patterns_have_two_wild_cards() {
        for (pattern, number, expected) in [
            ("+7*", "+7 (495) 123-45-67", true),
            ("+7*", "+49", false),
            ("1???", "1001", true),
            ("1???", "10011", false),
            ("*", "", true),
            ("*5*7*", "+1 555 0107", true),
            ("Anna", "anna", true),
            ("", "1", false),
        ] {
            let rule = NumberRule::parse(pattern).unwrap();
            assert_eq!(rule.matches(number, &NumberPlan::of("DE")), expected, "{pattern} {number}");
        }
        assert!(NumberRule::parse("^8[0-9]+$").is_err());
        let many = NumberRule::Pattern("*a".repeat(200));
        assert!(!many.matches(&"a".repeat(150), &NumberPlan::of("DE")));
    }
}

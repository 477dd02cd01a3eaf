//! Which numbers a rule means: patterns, and the two classes of numbers that cost the most.

use super::country::{COUNTRIES, Country, by_code};
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
/// Digits from which on a number is more than an extension.
const SHORTEST_OUTSIDE: usize = 7;

impl NumberRule {
    /// Whether the rule means this number, as it was dialled, in this country (two capital letters). Spaces and
    /// brackets in the number do not matter. Names and short numbers belong to no class: they are extensions.
    pub fn matches(&self, number: &str, country: &str) -> bool {
        let spelled = spelled(number);
        let own = by_code(country);
        match self {
            NumberRule::Pattern(pattern) => wildcard(pattern, &spelled),
            NumberRule::International => match (dialled(&spelled, own), own) {
                (Dialled::Global(digits), Some(own)) => {
                    digits.strip_prefix(own.calling).is_none_or(|rest| begins(own.abroad, rest))
                }
                (Dialled::Global(_), None) => true,
                (Dialled::National(digits), Some(own)) => begins(own.abroad, digits),
                _ => false,
            },
            NumberRule::Premium => match (dialled(&spelled, own), own) {
                (Dialled::Global(digits), _) => {
                    begins(PREMIUM_EVERYWHERE, digits)
                        || COUNTRIES.iter().any(|country| {
                            digits
                                .strip_prefix(country.calling)
                                .is_some_and(|rest| begins(country.premium, rest))
                        })
                }
                (Dialled::National(digits), Some(own)) => begins(own.premium, digits),
                _ => false,
            },
        }
    }
}

/// The number in E.164 (`+` and digits), as dialled in this country (two capital letters): `8 (495) 445-11-20` in RU is
/// `+74954451120`. `None` for names, extensions, and where the country or the number of digits leaves a doubt.
pub fn e164(number: &str, country: &str) -> Option<String> {
    let spelled = spelled(number);
    let own = by_code(country);
    let digits = match (dialled(&spelled, own), own) {
        (Dialled::Global(digits), _) => digits.to_owned(),
        (Dialled::National(digits), Some(own)) => {
            // Without a trunk prefix only a number of full length is one with its area code.
            let prefixed = digits.len() < spelled.len();
            let (least, most) = own.digits;
            let full = (least..=most).contains(&digits.len());
            if full && (prefixed || own.trunk.is_empty() || least == most) {
                format!("{}{digits}", own.calling)
            } else if least == most
                && spelled.strip_prefix(own.calling).is_some_and(|rest| rest.len() == least)
            {
                spelled.clone()
            } else {
                return None;
            }
        }
        _ => return None,
    };
    ((SHORTEST_OUTSIDE..=15).contains(&digits.len()) && !digits.starts_with('0'))
        .then(|| format!("+{digits}"))
}

/// A number without what people write between digits.
fn spelled(number: &str) -> String {
    number.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}')).collect()
}

fn begins(prefixes: &[&str], digits: &str) -> bool {
    prefixes.iter().any(|prefix| digits.starts_with(prefix))
}

enum Dialled<'n> {
    /// Digits from the calling code on.
    Global(&'n str),
    /// Digits without the trunk prefix.
    National(&'n str),
    Extension,
}

fn dialled<'n>(number: &'n str, own: Option<&Country>) -> Dialled<'n> {
    let digits = number.strip_prefix('+').unwrap_or(number);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Dialled::Extension;
    }
    if number.starts_with('+') {
        return Dialled::Global(digits);
    }
    if digits.len() < SHORTEST_OUTSIDE {
        return Dialled::Extension;
    }
    let Some(own) = own else {
        // Of an unknown country only the usual prefix can be told.
        return digits.strip_prefix("00").map_or(Dialled::National(digits), Dialled::Global);
    };
    // Other people's prefix is tried as well, but only where no own number begins so.
    let foreign = if own.trunk.contains(&"0") { &["00"][..] } else { &["00", "011"][..] };
    let prefixes = own.international.iter().chain(foreign);
    let global =
        prefixes.filter_map(|prefix| digits.strip_prefix(prefix)).find(|rest| rest.len() > SHORTEST_OUTSIDE);
    if let Some(rest) = global {
        return Dialled::Global(rest);
    }
    let (least, most) = own.digits;
    // 812 345-67-89 in RU begins with the trunk prefix and has none.
    if least == most
        && digits.len() == least
        && !own.trunk.iter().any(|it| it.starts_with('0') && digits.starts_with(it))
    {
        return Dialled::National(digits);
    }
    let rest = own.trunk.iter().find_map(|trunk| digits.strip_prefix(trunk));
    Dialled::National(rest.unwrap_or(digits))
}

/// `*` is any number of characters, `?` is one. Linear in the number for each `*` of the pattern.
fn wildcard(pattern: &str, text: &str) -> bool {
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
            assert_eq!(rule.matches(number, country), expected, "{number} from {country}");
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
        ] {
            assert_eq!(rule.matches(number, country), expected, "{number} from {country}");
        }
    }

    #[test]
    fn numbers_become_e164_where_the_country_leaves_no_doubt() {
        for (number, country, expected) in [
            ("8 (495) 445-11-20", "RU", Some("+74954451120")),
            ("+7 495 445-11-20", "RU", Some("+74954451120")),
            ("007495 445 11 20", "RU", Some("+74954451120")),
            ("01174954451120", "RU", Some("+74954451120")),
            ("74954451120", "RU", Some("+74954451120")),
            ("4954451120", "RU", Some("+74954451120")),
            ("8123456789", "RU", Some("+78123456789")),
            ("810493012345678", "RU", Some("+493012345678")),
            ("4451120", "RU", None),
            ("8727 123 4567", "KZ", Some("+77271234567")),
            ("0631234567", "UA", Some("+380631234567")),
            ("80631234567", "UA", Some("+380631234567")),
            ("+380631234567", "UA", Some("+380631234567")),
            ("030 123456", "DE", Some("+4930123456")),
            ("1234567", "DE", None),
            ("0049 30 123456", "DE", Some("+4930123456")),
            ("0044 20 7946 0958", "DE", Some("+442079460958")),
            ("020 7946 0958", "GB", Some("+442079460958")),
            ("(212) 555-0100", "US", Some("+12125550100")),
            ("1 212 555 0100", "US", Some("+12125550100")),
            ("011 44 20 7946 0958", "US", Some("+442079460958")),
            ("0011 44 20 7946 0958", "AU", Some("+442079460958")),
            ("80 17 123 45 67", "BY", Some("+375171234567")),
            ("06 1 234 5678", "HU", Some("+3612345678")),
            ("06 1234 5678", "IT", Some("+390612345678")),
            ("910 123 456", "ES", Some("+34910123456")),
            ("0301234567", "XX", None),
            ("101", "RU", None),
            ("112", "DE", None),
            ("12345*106", "RU", None),
            ("anna", "RU", None),
            ("", "RU", None),
            ("+0123456789", "RU", None),
            ("+1234567890123456", "US", None),
        ] {
            assert_eq!(e164(number, country).as_deref(), expected, "{number} in {country}");
        }
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
            assert_eq!(rule.matches(number, "DE"), expected, "{pattern} {number}");
        }
        assert!(NumberRule::parse("^8[0-9]+$").is_err());
        let many = NumberRule::Pattern("*a".repeat(200));
        assert!(!many.matches(&"a".repeat(150), "DE"));
    }
}

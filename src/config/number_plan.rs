//! One number, many spellings: from whatever people and PBXs write to E.164 and back, by the numbering of a country.
//!
//! A [`NumberPlan`] says in which country and which area a text was written. What the plan can't tell for certain stays as
//! it is, and so does what is no outside number at all: extensions and other short numbers, `123*45`, `*21#`, names.

use super::country::{Country, by_code};
use super::spelling::{spelled, user};
use super::words::NumberFormat;

/// Digits from which on a number is more than an extension.
const SHORTEST_OUTSIDE: usize = 7;
/// Digits of the longest number (ITU-T E.164 §6).
const LONGEST: usize = 15;
/// Bytes of a text that may be a number; a longer one is none.
const LONGEST_TEXT: usize = 256;

/// In which country and area numbers are written.
#[derive(Clone, Copy)]
pub struct NumberPlan<'p> {
    /// Whose habits decide what `8…` or `00…` means.
    own: Option<&'static Country>,
    /// What a number of the own area goes without; empty if that is not known.
    area: &'p str,
    /// The country from which other countries are "international".
    home: Option<&'static Country>,
}

impl std::fmt::Debug for NumberPlan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = |country: Option<&Country>| country.map_or("-", |country| country.code);
        write!(f, "{} {} from {}", code(self.own), self.area, code(self.home))
    }
}

impl<'p> NumberPlan<'p> {
    /// The plan of a country (two letters). Of an unknown one only numbers with a plus are certain.
    pub fn of(country: &str) -> NumberPlan<'p> {
        let own = by_code(country);
        NumberPlan { own, area: "", home: own }
    }

    /// The same in an area of the country: `495`.
    #[must_use]
    pub fn in_area(self, area: &'p str) -> NumberPlan<'p> {
        NumberPlan { area, ..self }
    }

    /// The same for a device in another country (two letters).
    #[must_use]
    pub fn seen_from(self, home: &str) -> NumberPlan<'p> {
        NumberPlan { home: by_code(home), ..self }
    }

    /// Whether the numbering of the country is known.
    pub fn is_known(&self) -> bool {
        self.own.is_some()
    }

    /// The country that others are abroad from.
    pub(super) fn home(&self) -> Option<&'static Country> {
        self.home
    }

    /// Whether a number may lead out of the PBX: it has a plus, or more digits in a row than an extension. An address counts
    /// as its user.
    pub fn is_outside(number: &str) -> bool {
        let spelled = spelled(user(number.trim()));
        let longest = spelled.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
        let is_name = spelled.chars().any(char::is_alphabetic);
        !is_name && (spelled.starts_with('+') || longest >= SHORTEST_OUTSIDE)
    }

    /// The number in E.164, `+` and 7 to 15 digits: `8 (495) 445-11-20` in RU is `+74954451120`. An address counts as its
    /// user. `None` for names, extensions, and where the plan or the number of digits leaves a doubt.
    pub fn e164(&self, number: &str) -> Option<String> {
        if number.len() > LONGEST_TEXT {
            return None;
        }
        let spelled = spelled(user(number.trim()));
        let digits = self.local(&spelled).or_else(|| self.digits(&spelled))?;
        ((SHORTEST_OUTSIDE..=LONGEST).contains(&digits.len()) && !digits.starts_with('0'))
            .then(|| format!("+{digits}"))
    }

    /// A number of the own area, as it is dialled there, with calling and area code.
    fn local(&self, spelled: &str) -> Option<String> {
        let own = self.own.filter(|own| !own.trunk.is_empty() && !self.area.is_empty())?;
        let digits = is_digits(spelled) && spelled.len() >= SHORTEST_OUTSIDE;
        let with_zero = own.trunk.iter().any(|trunk| trunk.starts_with('0')) && spelled.starts_with('0');
        let (least, most) = own.digits;
        let fits = (least..=most).contains(&(spelled.len() + self.area.len()));
        // Where all numbers are equally long, the trunk prefix can't be part of one that is complete with the area code.
        let prefixed = least != most && own.trunk.iter().any(|trunk| spelled.starts_with(trunk));
        (digits && fits && !with_zero && !prefixed).then(|| format!("{}{}{spelled}", own.calling, self.area))
    }

    fn digits(&self, spelled: &str) -> Option<String> {
        match (dialled(spelled, self.own), self.own) {
            (Dialled::Global(digits), _) => Some(digits.to_owned()),
            (Dialled::National(digits), Some(own)) => {
                // Without a trunk prefix only a number of full length is one with its area code.
                let prefixed = digits.len() < spelled.len();
                let (least, most) = own.digits;
                // Where they are equally long, none begins with the 0 that other countries put before theirs.
                let full =
                    (least..=most).contains(&digits.len()) && !(least == most && digits.starts_with('0'));
                if full && (prefixed || own.trunk.is_empty() || least == most) {
                    return Some(format!("{}{digits}", own.calling));
                }
                let with_code = |rest: &str| least == most && rest.len() == least;
                spelled.strip_prefix(own.calling).filter(|rest| with_code(rest)).map(|_| spelled.to_owned())
            }
            _ => None,
        }
    }

    /// A number in E.164 as a PBX of this country and area wants it. `None` where it wants what was dialled.
    pub fn written(&self, e164: &str, format: NumberFormat) -> Option<String> {
        let digits = e164.strip_prefix('+').unwrap_or(e164);
        let own = match (format, self.own) {
            (NumberFormat::AsDialled, _) => return None,
            (NumberFormat::E164, _) => return Some(digits.to_owned()),
            (NumberFormat::PlusE164, _) | (_, None) => return Some(format!("+{digits}")),
            (_, Some(own)) => own,
        };
        let Some(significant) = digits.strip_prefix(own.calling) else {
            return Some(format!("{}{digits}", own.international.first().copied().unwrap_or("+")));
        };
        // The one in use; those before it are of the past.
        let trunk = own.trunk.last().copied().unwrap_or_default();
        let national = || format!("{trunk}{significant}");
        Some(match format {
            NumberFormat::Significant => significant.to_owned(),
            NumberFormat::Local if !self.area.is_empty() => {
                significant.strip_prefix(self.area).map_or_else(national, str::to_owned)
            }
            _ => national(),
        })
    }
}

/// What a spelling says about where its digits begin.
pub(super) enum Dialled<'n> {
    /// Digits from the calling code on.
    Global(&'n str),
    /// Digits without the trunk prefix.
    National(&'n str),
    /// Not an outside number.
    Extension,
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn dialled<'n>(number: &'n str, own: Option<&Country>) -> Dialled<'n> {
    let digits = number.strip_prefix('+').unwrap_or(number);
    if !is_digits(digits) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    #[test]
    fn an_extension_does_not_lead_out_of_the_pbx() {
        for inside in
            ["101", "100001", "13596*106", "*21#", "anna", "sip:101@pbx.example", "user12345678", ""]
        {
            assert!(!NumberPlan::is_outside(inside), "{inside}");
        }
        for outside in [
            "4451120",
            "445-11-20",
            "+112",
            "*67*84951234567",
            "sip:74951234567@pbx",
            "tel:+7-495",
            "9100001",
        ] {
            assert!(NumberPlan::is_outside(outside), "{outside}");
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
            ("81074954451120", "KZ", Some("+74954451120")),
            ("810493012345678", "RU", Some("+493012345678")),
            ("4451120", "RU", None),
            ("8727 123 4567", "KZ", Some("+77271234567")),
            ("0631234567", "UA", Some("+380631234567")),
            ("80631234567", "UA", Some("+380631234567")),
            ("+380631234567", "UA", Some("+380631234567")),
            ("sip:79771234567@dom", "RU", Some("+79771234567")),
            ("sip:89771234567@pbx.example;user=phone", "RU", Some("+79771234567")),
            ("tel:+7-977-123-45-67", "RU", Some("+79771234567")),
            ("sip:user7@dom", "RU", None),
            ("sip:anna@dom", "RU", None),
            ("030 123456", "DE", Some("+4930123456")),
            ("1234567", "DE", None),
            ("0049 30 123456", "DE", Some("+4930123456")),
            ("0044 20 7946 0958", "DE", Some("+442079460958")),
            ("020 7946 0958", "GB", Some("+442079460958")),
            ("(212) 555-0100", "US", Some("+12125550100")),
            ("1 212 555 0100", "US", Some("+12125550100")),
            ("0212 555 0100", "US", None),
            ("0495445112", "RU", None),
            ("011 44 20 7946 0958", "US", Some("+442079460958")),
            ("0011 44 20 7946 0958", "AU", Some("+442079460958")),
            ("80 17 123 45 67", "BY", Some("+375171234567")),
            ("06 1 234 5678", "HU", Some("+3612345678")),
            ("06 1234 5678", "IT", Some("+390612345678")),
            ("910 123 456", "ES", Some("+34910123456")),
            ("0301234567", "XX", None),
            ("101", "RU", None),
            ("102", "RU", None),
            ("103", "UA", None),
            ("104", "KZ", None),
            ("112", "DE", None),
            ("123*45", "RU", None),
            ("123456*1234", "RU", None),
            ("12345*106", "RU", None),
            ("*21*84954451120#", "RU", None),
            ("anna", "RU", None),
            ("", "RU", None),
            ("+0123456789", "RU", None),
            ("+1234567890123456", "US", None),
            ("+7 495 445\r\n11-20", "RU", None),
            ("\u{ff18}4954451120", "RU", None),
        ] {
            assert_eq!(NumberPlan::of(country).e164(number).as_deref(), expected, "{number} in {country}");
        }
        assert_eq!(NumberPlan::of("RU").e164(&"8".repeat(1 << 20)), None);
    }

    #[test]
    fn the_area_code_completes_what_is_dialled_without_it() {
        for (number, country, area, expected) in [
            ("445-11-20", "RU", "495", Some("+74954451120")),
            ("845-11-20", "RU", "495", Some("+74958451120")),
            ("8 812 345-67-89", "RU", "495", Some("+78123456789")),
            ("812 345-67-89", "RU", "495", Some("+78123456789")),
            ("445-11", "RU", "49621", None),
            ("101", "RU", "495", None),
            ("1234567", "DE", "30", Some("+49301234567")),
            ("040 1234567", "DE", "30", Some("+49401234567")),
            ("0049 40 1234567", "DE", "30", Some("+49401234567")),
            ("7946 0958", "GB", "20", Some("+442079460958")),
            ("555-0100", "US", "212", Some("+12125550100")),
            ("234 56 78", "UA", "44", Some("+380442345678")),
            ("1234567", "ES", "91", None),
            ("1234567", "XX", "30", None),
        ] {
            let plan = NumberPlan::of(country).in_area(area);
            assert_eq!(plan.e164(number).as_deref(), expected, "{number} in {country} {area}");
        }
    }

    #[test]
    fn a_pbx_gets_numbers_as_it_wants_them() {
        use NumberFormat::{AsDialled, E164, Local, National, PlusE164, Significant};
        for (number, country, area, format, expected) in [
            ("+74954451120", "RU", "", AsDialled, None),
            // The data base of MeaSoft, and its AMI.
            ("+79161234567", "RU", "", E164, Some("79161234567")),
            ("+79161234567", "RU", "", PlusE164, Some("+79161234567")),
            ("+74954451120", "RU", "", National, Some("84954451120")),
            ("+74954451120", "RU", "", Significant, Some("4954451120")),
            ("+74954451120", "RU", "495", Local, Some("4451120")),
            ("+78123456789", "RU", "495", Local, Some("88123456789")),
            ("+74954451120", "RU", "", Local, Some("84954451120")),
            ("+493012345678", "RU", "", National, Some("810493012345678")),
            ("+493012345678", "RU", "", Significant, Some("810493012345678")),
            ("+77271234567", "KZ", "", National, Some("87271234567")),
            ("+74954451120", "KZ", "", National, Some("84954451120")),
            ("+493012345678", "KZ", "", National, Some("810493012345678")),
            ("+380631234567", "UA", "", National, Some("0631234567")),
            ("+12125550100", "US", "", National, Some("12125550100")),
            ("+12125550100", "US", "", Significant, Some("2125550100")),
            ("+442079460958", "US", "", National, Some("011442079460958")),
            ("+390612345678", "IT", "", National, Some("0612345678")),
            ("+74954451120", "XX", "", National, Some("+74954451120")),
        ] {
            let plan = NumberPlan::of(country).in_area(area);
            let written = plan.written(number, format);
            assert_eq!(written.as_deref(), expected, "{number} for {country} {area} {format:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(31),
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_certain_stays_what_it_is(text in "\\PC{0,24}", area in "[0-9]{0,4}", row in 0usize..6) {
            let country = ["RU", "KZ", "UA", "DE", "US", "XX"][row];
            let plan = NumberPlan::of(country).in_area(&area);
            if let Some(number) = plan.e164(&text) {
                prop_assert!((8..=16).contains(&number.len()) && number.starts_with('+'));
                prop_assert_eq!(plan.e164(&number), Some(number));
            }
        }

        #[test]
        fn digits_in_any_dress_mean_the_same(digits in "[0-9+*#]{0,18}", dress in "[ ().\\-/]{0,6}") {
            let plan = NumberPlan::of("RU").in_area("495");
            let dressed: String = digits.chars().flat_map(|c| [c].into_iter().chain(dress.chars())).collect();
            prop_assert_eq!(plan.e164(&digits), plan.e164(&dressed));
        }

        #[test]
        fn what_a_pbx_is_sent_it_can_read(digits in "[2-79][0-9]{9}", format in 1usize..6) {
            let plan = NumberPlan::of("RU").in_area("495");
            let number = format!("+7{digits}");
            let sent = plan.written(&number, NumberFormat::ALL[format]).unwrap_or_default();
            prop_assert_eq!(plan.e164(&sent), Some(number), "{}", sent);
        }
    }
}

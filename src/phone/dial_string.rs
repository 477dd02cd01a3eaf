//! What people dial: digits with whatever they put between them, or a name.

use crate::config;
use crate::config::spelling::is_separator;

/// The digits of a dialled string: `+`, `*`, `#` and digits stay, what people put between them goes.
pub fn digits(number: &str) -> String {
    number.chars().filter(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#')).collect()
}

/// Is this string a number at all, and not a user name such as `alice`?
pub fn is_number(dialled: &str) -> bool {
    dialled.chars().any(|c| c.is_ascii_digit())
        && dialled.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#') || is_separator(c))
}

/// Whether this is an emergency number, with or without an outside prefix. A name with its digits in it (`room112`) is none:
/// what is one passes all rules.
pub fn is_emergency(emergency: &config::Emergency, dialled: &str) -> bool {
    is_number(dialled) && emergency.number(&digits(dialled)).is_some()
}

/// The user part of an address without the parameters of a telephone number in it (RFC 3261 §19.1.6): `+49…` of
/// `+49…;phone-context=…`. A user name keeps its semicolons.
pub fn subscriber(user: &str) -> &str {
    user.split_once(';').map(|(number, _)| number).filter(|number| is_number(number)).unwrap_or(user)
}

#[cfg(test)]
mod tests {
    use super::{digits, is_emergency, is_number, subscriber};
    use crate::config::Emergency;

    #[test]
    fn help_has_a_number_and_no_letters() {
        let emergency = Emergency { numbers: vec!["112".into()], prefixes: vec!["0".into()] };
        for (dialled, help) in [
            ("112", true),
            ("1-1 2", true),
            ("0112", true),
            ("a112", false),
            ("1a1b2", false),
            ("room112", false),
            ("+112", false),
        ] {
            assert_eq!(is_emergency(&emergency, dialled), help, "{dialled}");
        }
    }

    #[test]
    fn a_telephone_number_has_no_parameters() {
        assert_eq!(subscriber("+4930123456;cpc=ordinary;x=y"), "+4930123456");
        assert_eq!(subscriber("anna;office=2"), "anna;office=2");
        assert_eq!(subscriber("101"), "101");
    }

    #[test]
    fn what_stands_between_digits_does_not_count() {
        assert_eq!(digits("+49 (30) 123-45.67"), "+49301234567");
        assert_eq!(digits("*21#"), "*21#");
        assert!(is_number("8 (495) 123-45-67"));
        assert!(!is_number("alice"));
        assert!(!is_number("+"));
        assert!(!is_number("line 2"));
    }
}

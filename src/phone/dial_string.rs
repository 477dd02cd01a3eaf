//! What people dial: digits with whatever they put between them, or a name.

/// The digits of a dialled string: `+`, `*`, `#` and digits stay, what people put between them goes.
pub fn digits(number: &str) -> String {
    number.chars().filter(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#')).collect()
}

/// Is this string a number at all, and not a user name such as `alice`?
pub fn is_number(dialled: &str) -> bool {
    let between = |c: char| matches!(c, ' ' | '-' | '(' | ')' | '.' | '/');
    dialled.chars().any(|c| c.is_ascii_digit())
        && dialled.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#') || between(c))
}

#[cfg(test)]
mod tests {
    use super::{digits, is_number};

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

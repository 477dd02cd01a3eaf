//! `[[route]]`: what becomes of a number that somebody dials.

use regex_lite::{Captures, Regex, RegexBuilder};

use super::reader::{Mistake, Scope, section};
use super::values::{Written, written};
use super::words::When;

/// Bytes of a pattern.
const LONGEST_PATTERN: usize = 200;
/// Bytes of a pattern made ready; usual ones take a quarter. A call waits while rules are asked, so none may be slow: what a
/// match costs is the length of the number times this.
const LARGEST_PATTERN: usize = 4 << 10;
/// Brackets in brackets.
const DEEPEST_PATTERN: u32 = 16;
/// Characters of what stands before or in place of a number.
const LONGEST_PIECE: usize = 32;

section! {
    /// `[[route]]`: which line takes a dialled number, and how it is written there. Rules are asked in the order of their
    /// priority, the first that fits decides, once. Emergency numbers pass them all. `tipring route NUMBER` shows why.
    pub struct Route {
        /// Which numbers it is for: a regular expression, asked of the number as it was dialled, without spaces and brackets,
        /// and then of its form in E.164 with a plus. Single quotes spare doubling every \.
        r#match: Pattern = required "'^8(\\d{10})$'";
        /// Only for calls that were wanted over this line.
        from: Option<String> = optional "\"office\"";
        /// What is dialled instead: characters of a number, and $1 … $9 for what the brackets of `match` hold, $0 for all.
        to: Option<DialString> = optional "\"+7$1\"";
        /// The line that takes the call; without it the one that was asked for, or the first one that is registered.
        via: Option<String> = optional "\"office\"";
        /// How many characters are taken off the beginning of the number. 0 to 32.
        strip: u8 = default "0", if super::reader::within(0, 32);
        /// What is put before the number then.
        prepend: Option<String> = optional "\"9\"", if valid_prefix;
        /// Only while somebody is there by `[hours]` ("open"), or while nobody is ("closed").
        hours: Option<When> = optional "\"closed\"";
        /// Lower ones are asked first, equal ones in the order of the file.
        priority: u16 = default "100";
    }
}

impl Route {
    fn check(&self, scope: &mut Scope<'_, '_>) {
        let pattern = self.r#match.as_str();
        if !pattern.is_empty() && !pattern.starts_with('^') && !pattern.starts_with("(?") {
            scope.warn(
                "match",
                "match also fits numbers that have it somewhere inside",
                format!("begin it with ^: '^{pattern}'"),
            );
        }
        if self.to.is_some() && self.strip > 0 {
            scope.error(
                "strip",
                "to says the whole number: there is nothing to strip",
                "remove one of the two",
            );
        }
        let groups = self.r#match.groups();
        if let Some(missing) = self.to.as_ref().and_then(|to| to.highest_group()).filter(|it| *it >= groups) {
            let what = format!("to has ${missing}, and match has {} pairs of brackets", groups.max(1) - 1);
            scope.error("to", what, "put brackets around what is to be kept: '^8(\\d{10})$'");
        }
    }

    /// What the rule makes of a number that it fits: `None` if it does not fit, nothing is left, or too much.
    pub fn rewritten(&self, number: &str) -> Option<String> {
        let captures = self.r#match.captures(number)?;
        let rest: String = number.chars().skip(usize::from(self.strip)).collect();
        let rest = self.to.as_ref().map_or(rest, |to| to.filled(&captures));
        let made = format!("{}{rest}", self.prepend.as_deref().unwrap_or_default());
        if rest.is_empty() {
            return None;
        }
        (made.len() <= Pattern::LONGEST_NUMBER).then_some(made)
    }

    /// Whether the rule changes the numbers that it fits.
    pub fn rewrites(&self) -> bool {
        self.to.is_some() || self.strip > 0 || self.prepend.is_some()
    }
}

fn is_dialled(character: char) -> bool {
    character.is_ascii_alphanumeric() || "+*#-_.".contains(character)
}

fn valid_prefix(prefix: &Option<String>) -> Result<(), Mistake> {
    match prefix {
        Some(prefix) if prefix.len() > LONGEST_PIECE || !prefix.chars().all(is_dialled) => {
            Err(("is nothing that can be dialled".into(), "write digits: \"9\"".into()))
        }
        _ => Ok(()),
    }
}

/// A regular expression over numbers. What matching costs grows with the number's length alone.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// Bytes of a number that rules are asked about; longer ones fit nothing.
    pub const LONGEST_NUMBER: usize = 64;

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it fits a number.
    pub fn fits(&self, number: &str) -> bool {
        self.captures(number).is_some()
    }

    fn captures<'n>(&self, number: &'n str) -> Option<Captures<'n>> {
        let regex = self.regex.as_ref().filter(|_| number.len() <= Self::LONGEST_NUMBER)?;
        regex.captures(number)
    }

    /// Groups, with the one that is everything.
    fn groups(&self) -> usize {
        self.regex.as_ref().map_or(0, Regex::captures_len)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Default for Pattern {
    /// One that fits nothing.
    fn default() -> Pattern {
        Pattern { text: String::new(), regex: None }
    }
}

impl Written for Pattern {
    const FORM: &'static str = "a regular expression in single quotes such as '^8(\\d{10})$'";

    fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err(format!("write {}", Self::FORM));
        }
        if text.len() > LONGEST_PATTERN {
            return Err(format!("write {LONGEST_PATTERN} bytes at most, or several rules"));
        }
        let built = RegexBuilder::new(text).size_limit(LARGEST_PATTERN).nest_limit(DEEPEST_PATTERN).build();
        match built {
            Ok(regex) => Ok(Pattern { text: text.to_owned(), regex: Some(regex) }),
            // "size limit" would be understood by nobody who has not written this.
            Err(error) if error.to_string().contains("limit") => {
                Err("it repeats or nests too much: write it shorter, or several rules".into())
            }
            Err(error) => Err(format!("{error}: write {}", Self::FORM)),
        }
    }

    fn written(&self) -> String {
        self.text.clone()
    }
}

/// What is dialled in place of a number: characters of it, and `$0` to `$9` for what a pattern has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DialString(String);

impl DialString {
    fn filled(&self, found: &Captures<'_>) -> String {
        let mut number = String::new();
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            match (character, characters.clone().next().and_then(|next| next.to_digit(10))) {
                ('$', Some(group)) => {
                    characters.next();
                    number.push_str(found.get(group as usize).map_or("", |group| group.as_str()));
                }
                (other, _) => number.push(other),
            }
        }
        number
    }

    fn highest_group(&self) -> Option<usize> {
        let groups = self.0.split('$').skip(1).filter_map(|rest| rest.chars().next()?.to_digit(10));
        groups.max().map(|group| group as usize)
    }
}

impl Written for DialString {
    const FORM: &'static str = "what is dialled, with $1 for the first brackets of match: \"+38$1\"";

    fn parse(text: &str) -> Result<DialString, String> {
        let bare = (0..=9).fold(text.to_owned(), |text, group| text.replace(&format!("${group}"), ""));
        if text.is_empty() || text.len() > LONGEST_PIECE || !bare.chars().all(is_dialled) {
            return Err(format!("write {}", Self::FORM));
        }
        Ok(DialString(text.to_owned()))
    }

    fn written(&self) -> String {
        self.0.clone()
    }
}

written!(Pattern, DialString);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn route(text: &str) -> Result<Route, String> {
        let text = format!("[[route]]\n{text}\n");
        let reading = Config::read(&text, "t.toml", &mut |_| Ok(None));
        match reading.findings.first() {
            None => Ok(reading.config.expect("right").route.remove(0)),
            Some(finding) => Err(finding.to_string()),
        }
    }

    /// The operator's codes 63, 73 and 93 in three spellings: as one page prints the pattern the 3 before them is needed,
    /// and two of the three do not fit.
    #[test]
    fn the_printed_pattern_misses_two_of_three_spellings_and_the_intended_one_none() {
        let printed = Pattern::parse(r"^\+?38?(0[679]3\d{7})$").unwrap();
        let intended = Pattern::parse(r"^\+?3?8?(0[679]3\d{7})$").unwrap();
        for (number, as_printed, as_intended) in [
            ("+380631234567", true, true),
            ("380631234567", true, true),
            ("30931234567", true, true),
            ("0731234567", false, true),
            ("80931234567", false, true),
            ("0501234567", false, false),
            ("06312345678", false, false),
        ] {
            assert_eq!(printed.fits(number), as_printed, "{number}");
            assert_eq!(intended.fits(number), as_intended, "{number}");
        }
    }

    #[test]
    fn a_rule_writes_what_is_dialled() {
        for (rule, number, expected) in [
            ("match = '^0(\\d{9})$'\nto = '+380$1'", "0631234567", Some("+380631234567")),
            ("match = '^\\+?3?8?(0[679]3\\d{7})$'\nto = '38$1'", "80931234567", Some("380931234567")),
            ("match = '^9'\nstrip = 1", "984951234567", Some("84951234567")),
            ("match = '^8\\d{10}$'\nstrip = 1\nprepend = '+7'", "84951234567", Some("+74951234567")),
            ("match = '^8'\nto = '1'\nprepend = '9'", "8", Some("91")),
            ("match = '^1'", "101", Some("101")),
            ("match = '^1'", "201", None),
            ("match = '^1'\nstrip = 3", "101", None),
            ("match = '^(1)?2$'\nto = '3$1'", "2", Some("3")),
        ] {
            assert_eq!(route(rule).unwrap().rewritten(number).as_deref(), expected, "{rule} {number}");
        }
        let all = route("match = '^.*$'").unwrap();
        assert_eq!(all.rewritten(&"1".repeat(64)).map(|it| it.len()), Some(64));
        assert_eq!(all.rewritten(&"1".repeat(65)), None);
    }

    #[test]
    fn a_rule_that_can_not_work_is_refused_with_its_cure() {
        for (rule, cure) in [
            ("match = '^(8'", "a regular expression"),
            ("match = '(?=8)'", "a regular expression"),
            ("match = '^((a{100}){100}){100}$'", "repeats or nests too much"),
            ("match = '^8'\nto = '$1'", "put brackets"),
            ("match = '^8'\nto = '$x'", "what is dialled"),
            ("match = '^8'\nto = '1\u{202e}'", "what is dialled"),
            ("match = '^8'\nprepend = 'a b'", "write digits"),
            ("match = '^8'\nprepend = \"1\\r\\n\"", "on one line"),
            ("match = '^8'\nto = '$0'\nstrip = 1", "remove one of the two"),
            ("match = '8'", "begin it with ^"),
            ("match = '^8'\nstrip = 33", "from 0 to 32"),
            ("to = '1'", "add match"),
        ] {
            let told = route(rule).unwrap_err();
            assert!(told.contains(cure), "{rule}: {told}");
        }
        assert!(Pattern::parse(&"1".repeat(201)).is_err());
        let usual =
            "^(?:\\+?7|8)?(9(?:0[0-9]|1[0-9]|2[0-9]|3[0-9]|5[0-36]|6[0-9]|7[7-9]|8[0-9]|9[0-9])\\d{7})$";
        assert!(Pattern::parse(usual).unwrap().fits("8 977 123-45-67".replace([' ', '-'], "").as_str()));
    }

    #[test]
    fn no_pattern_takes_long() {
        let hostile = Pattern::parse("^(a*)*(a|aa)*(a?){6}b$").unwrap();
        assert!(!hostile.fits(&"a".repeat(Pattern::LONGEST_NUMBER)));
        assert!(!hostile.fits(&"a".repeat(1 << 20)));
    }
}

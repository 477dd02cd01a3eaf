//! Searching call detail records as those of Webitel are searched: by the query language of Lucene ([`lucene`]) and by the
//! filters of Elasticsearch ([`filter`]), both of which become a [`Condition`].
//!
//! A record is a JSON object; a name with dots reaches into objects (`variables.sip_call_id`). What a record does not have
//! fulfils nothing.

pub mod filter;
pub mod lucene;

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::Number;

/// Characters of a pattern.
const LONGEST_PATTERN: usize = 256;
/// Bytes that a compiled pattern may take.
const LARGEST_PATTERN: usize = 64 * 1024;
/// Conditions within conditions.
const DEEPEST: usize = 16;
/// Conditions in one search.
const MOST: usize = 64;

/// What to do about too many or too deep conditions.
const FEWER: &str = "search for fewer things at once: 64 conditions, 16 deep";

/// The fields that hold telephone numbers: they are compared in any spelling.
const NUMBERS: &[&str] = &["caller_id_number", "destination_number", "extension", "variables.sip_to_user"];

/// Why a search can't be done, in words for who wrote it: what is wrong, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct SearchError {
    /// What is the matter.
    pub what: String,
    /// What to write instead.
    pub hint: &'static str,
}

impl SearchError {
    fn new(what: impl Into<String>, hint: &'static str) -> SearchError {
        SearchError { what: what.into(), hint }
    }
}

/// What a record has to be.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Each of these; none at all is fulfilled by everything.
    Every(Vec<Condition>),
    /// One of these at least.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A field passes a test.
    Field(String, Test),
}

/// What the value of a field has to be.
#[derive(Clone, Debug)]
pub enum Test {
    /// This, whatever the case of its letters; a telephone number in any spelling.
    Is(String),
    /// Something that fits as a whole.
    Fits(Regex),
    /// Between two bounds, each of which may be absent.
    Within(Bound, Bound),
    /// Anything.
    Exists,
}

/// An end of a range: its value, and whether that is still within.
pub type Bound = Option<(String, bool)>;

impl Condition {
    /// What every record fulfils.
    pub fn all() -> Condition {
        Condition::Every(Vec::new())
    }

    /// Whether a record fulfils it.
    pub fn holds(&self, record: &Map<String, Value>) -> bool {
        match self {
            Condition::Every(all) => all.iter().all(|one| one.holds(record)),
            Condition::Any(all) => all.iter().any(|one| one.holds(record)),
            Condition::Not(one) => !one.holds(record),
            Condition::Field(name, test) => {
                let value = field(record, name);
                let number = NUMBERS.contains(&name.as_str());
                value.and_then(text).is_some_and(|value| test.holds(&value, number))
            }
        }
    }

    /// A telephone number that takes part in every call that fulfils this, if there is one: a search that begins with it
    /// needs no look at all the others.
    pub fn number(&self) -> Option<&str> {
        match self {
            Condition::Field(name, Test::Is(number)) if NUMBERS.contains(&name.as_str()) => Some(number),
            Condition::Every(all) => all.iter().find_map(Condition::number),
            Condition::Any(all) => {
                let (first, others) = all.split_first()?;
                let number = first.number()?;
                others.iter().all(|other| other.number() == Some(number)).then_some(number)
            }
            _ => None,
        }
    }
}

impl Test {
    fn holds(&self, value: &str, number: bool) -> bool {
        match self {
            Test::Exists => true,
            Test::Is(wanted) if number => Number::new(wanted.as_str()).same_as(&Number::new(value)),
            Test::Is(wanted) => wanted.to_lowercase() == value.to_lowercase(),
            // Who writes a pattern for numbers may or may not think of the plus sign.
            Test::Fits(pattern) => {
                pattern.is_match(value) || (number && pattern.is_match(value.trim_start_matches('+')))
            }
            Test::Within(from, to) => {
                let above = from.as_ref().is_none_or(|(bound, with)| {
                    compared(value, bound).is_some_and(|it| it.is_gt() || (*with && it.is_eq()))
                });
                above
                    && to.as_ref().is_none_or(|(bound, with)| {
                        compared(value, bound).is_some_and(|it| it.is_lt() || (*with && it.is_eq()))
                    })
            }
        }
    }

    /// A whole value by a regular expression.
    ///
    /// # Errors
    /// It is too long, or no regular expression.
    fn pattern(pattern: &str) -> Result<Test, SearchError> {
        // Digits alone are a number, which is found without looking at all calls.
        if !pattern.is_empty() && pattern.chars().all(|c| c.is_ascii_digit()) {
            return Ok(Test::Is(pattern.to_owned()));
        }
        let hint = "write a regular expression of at most 256 characters, such as /(\\+7|8)495\\d{7}/";
        if pattern.chars().count() > LONGEST_PATTERN {
            return Err(SearchError::new("a pattern is too long", hint));
        }
        RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(LARGEST_PATTERN)
            .build()
            .map(Test::Fits)
            .map_err(|error| SearchError::new(format!("/{pattern}/ is no pattern: {error}"), hint))
    }

    /// A value with `*` (any characters) and `?` (one of them).
    fn wildcard(text: &str) -> Result<Test, SearchError> {
        if text == "*" {
            return Ok(Test::Exists);
        }
        if !text.contains(['*', '?']) {
            return Ok(Test::Is(text.to_owned()));
        }
        let mut pattern = String::new();
        for c in text.chars() {
            match c {
                '*' => pattern.push_str(".*"),
                '?' => pattern.push('.'),
                c => pattern.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
        Test::pattern(&pattern)
    }
}

/// The value of a field, whose name may reach into objects.
pub fn field<'a>(record: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut parts = name.split('.');
    let first = record.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(bool) => Some(bool.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Which of two is larger: as numbers if both are, else as text.
fn compared(value: &str, bound: &str) -> Option<std::cmp::Ordering> {
    match (value.parse::<f64>(), bound.parse::<f64>()) {
        (Ok(value), Ok(bound)) => value.partial_cmp(&bound),
        _ => Some(value.cmp(bound)),
    }
}

/// Counts the parts of a search against its limits.
#[derive(Default)]
struct Budget {
    deep: usize,
    many: usize,
}

impl Budget {
    fn one(&mut self) -> Result<(), SearchError> {
        self.many += 1;
        (self.many <= MOST).then_some(()).ok_or_else(|| SearchError::new("it has too many conditions", FEWER))
    }

    /// Into a condition within a condition.
    fn down(&mut self) -> Result<(), SearchError> {
        self.deep += 1;
        let why = "its conditions are too deep within each other";
        (self.deep <= DEEPEST).then_some(()).ok_or_else(|| SearchError::new(why, FEWER))
    }

    /// Out of it again.
    fn up(&mut self) {
        self.deep -= 1;
    }
}

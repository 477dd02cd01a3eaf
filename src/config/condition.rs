//! What calls must be like for an upstream to be told of them: the conditions of `[[upstream]] filter`.

use super::dialing::wildcard;
use super::number_plan::NumberPlan;
use super::spelling::spelled;
use super::values::{Written, written};

/// The longest pattern.
const LONGEST: usize = 64;

/// One condition on the leg that an event is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Condition {
    about: About,
    /// false: what is named is not told.
    is: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum About {
    /// Whether it came in, as this device sees it.
    Incoming(bool),
    /// Whether the far end is outside of the PBX; so is who withholds the number.
    Outside(bool),
    /// The number of the far end.
    Number(String),
}

impl Default for About {
    fn default() -> About {
        About::Incoming(true)
    }
}

impl Condition {
    /// Whether a leg fulfils it. `numbers` are the spellings of the far end's number, none where it is withheld.
    pub fn holds(&self, incoming: bool, numbers: &[&str]) -> bool {
        let fits = match &self.about {
            About::Incoming(wanted) => incoming == *wanted,
            About::Outside(wanted) => {
                let outside =
                    numbers.is_empty() || numbers.iter().any(|number| NumberPlan::is_outside(number));
                outside == *wanted
            }
            About::Number(pattern) => numbers.iter().any(|number| wildcard(pattern, &spelled(number))),
        };
        fits == self.is
    }
}

impl Written for Condition {
    const FORM: &'static str =
        "a condition such as \"direction=in\", \"party=outside\" or \"number!=+7900*\"";

    fn parse(text: &str) -> Result<Condition, String> {
        let wrong = || format!("write {}", Self::FORM);
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let is = !key.ends_with('!');
        let about = match (key.trim_end_matches('!').trim(), value.trim()) {
            ("direction", "in") => About::Incoming(true),
            ("direction", "out") => About::Incoming(false),
            ("direction", _) => return Err("write \"in\" or \"out\" behind direction".to_owned()),
            ("party", "outside") => About::Outside(true),
            ("party", "inside") => About::Outside(false),
            ("party", _) => return Err("write \"inside\" or \"outside\" behind party".to_owned()),
            ("number", pattern) if is_pattern(pattern) => About::Number(pattern.to_owned()),
            ("number", _) => {
                return Err("write a number behind number, in which * is any rest and ? one digit".to_owned());
            }
            _ => return Err(wrong()),
        };
        Ok(Condition { about, is })
    }

    fn written(&self) -> String {
        let (key, value) = match &self.about {
            About::Incoming(true) => ("direction", "in"),
            About::Incoming(false) => ("direction", "out"),
            About::Outside(true) => ("party", "outside"),
            About::Outside(false) => ("party", "inside"),
            About::Number(pattern) => ("number", pattern.as_str()),
        };
        format!("{key}{}{value}", if self.is { "=" } else { "!=" })
    }
}

written!(Condition);

fn is_pattern(pattern: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"+*?#._-".contains(&byte);
    !pattern.is_empty() && pattern.len() <= LONGEST && pattern.bytes().all(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_fulfils_a_condition_or_its_opposite() {
        const MOSCOW: &[&str] = &["8 (495) 445-11-20", "+74954451120"];
        for (text, incoming, numbers, holds) in [
            ("direction=in", true, MOSCOW, true),
            ("direction=in", false, MOSCOW, false),
            ("direction!=in", false, MOSCOW, true),
            ("direction=out", false, MOSCOW, true),
            ("party=outside", true, MOSCOW, true),
            ("party=outside", true, &["703"], false),
            ("party=inside", true, &["anna"], true),
            ("party=outside", true, &[], true),
            ("number=+7495*", true, MOSCOW, true),
            ("number=8495445112?", true, MOSCOW, true),
            ("number=+7900*", true, MOSCOW, false),
            ("number!=7??", true, &["703"], false),
            ("number!=7??", true, &[], true),
        ] {
            let condition = Condition::parse(text).expect(text);
            assert_eq!(condition.holds(incoming, numbers), holds, "{text} {numbers:?}");
            assert_eq!(condition.written(), text);
        }
        for wrong in ["", "in", "direction", "direction=up", "party=", "number=", "number=1 2", "result=busy"]
        {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
    }
}

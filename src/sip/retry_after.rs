//! Retry-After: when to try again (RFC 3261 §20.33).

use super::fields::FieldValue;
use super::grammar::{self, Cursor, Malformed};
use super::params::Params;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Seconds; a huge number is the largest one.
    pub seconds: u32,
    /// How long the server will be reachable from then on, in seconds.
    pub duration: Option<u32>,
}

impl FieldValue for RetryAfter {
    const NAME: &'static str = "Retry-After";

    fn parse(value: &[u8]) -> Result<RetryAfter, Malformed> {
        let read = || {
            let mut cursor = Cursor::new(value);
            let seconds = grammar::saturating_number(cursor.take_while(|octet| octet.is_ascii_digit()))?;
            cursor.skip_blanks();
            skip_comment(&mut cursor)?;
            let params = Params::read(&mut cursor)?;
            cursor.skip_blanks();
            cursor.is_at_end().then_some(())?;
            let duration =
                params.value("duration").and_then(|seconds| grammar::saturating_number(seconds.as_bytes()));
            Some(RetryAfter { seconds, duration })
        };
        read().ok_or(Malformed("Retry-After"))
    }

    fn write(&self) -> String {
        match self.duration {
            Some(duration) => format!("{};duration={duration}", self.seconds),
            None => self.seconds.to_string(),
        }
    }
}

/// Moves past a comment in parentheses, which may hold others and escaped characters.
fn skip_comment(cursor: &mut Cursor<'_>) -> Option<()> {
    let (mut depth, mut escaped) = (0u32, false);
    while let Some(octet) = cursor.peek() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return Some(()),
            _ => {}
        }
        cursor.take(octet);
    }
    (depth == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_comment_and_duration() {
        let read = |text: &str| RetryAfter::parse(text.as_bytes()).ok();
        assert_eq!(read("0"), Some(RetryAfter { seconds: 0, duration: None }));
        assert_eq!(
            read("120 (I'm in a (long) meeting \\) ) ; duration=3600"),
            Some(RetryAfter { seconds: 120, duration: Some(3600) })
        );
        assert_eq!(read("949302838503028349304023988").map(|retry| retry.seconds), Some(u32::MAX));
        for bad in ["", "soon", "5 (", "5 )", "-5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

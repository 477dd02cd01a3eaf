//! The screen look-up of desk phones: a GET with the variables of an action URL, and a name or JSON as the answer.

use serde_json::Value;

use super::{Answer, Failure, Inquiry, Question, text};
use crate::config::{Config, Template};
use crate::events::upstream::action_url::ActionUrl;
use crate::events::upstream::dialect::{Dialect, Request};
use crate::events::upstream::facts::Facts;
use crate::now::Now;

/// What `$event` is in a question.
const EVENT: &str = "lookup";
/// Bytes of a text that is a name as it is.
const LONGEST_TEXT: usize = 256;

/// Questions of the kind `url`.
pub struct Screen {
    words: ActionUrl,
    path: Template,
    name: String,
    pin: String,
}

impl Screen {
    /// The kind `url` with these settings.
    pub fn new(config: &Config) -> Screen {
        let (lookup, serial) = (&config.lookup, config.device.serial.as_deref().unwrap_or_default());
        Screen {
            words: ActionUrl::new(&lookup.as_upstream(), serial),
            path: lookup.path.clone().unwrap_or_default(),
            name: lookup.name_field.clone(),
            pin: lookup.pin_field.clone(),
        }
    }
}

impl Inquiry for Screen {
    fn request(&self, question: &Question, now: Now) -> Request {
        let event = question.event();
        let frozen = self.words.frozen(&event, &Facts::of(&event), EVENT, &self.path);
        self.words.request(&frozen, now)
    }

    fn read(&self, body: &[u8]) -> Result<Answer, Failure> {
        let cure = "have it answer a name as plain text, or JSON with the fields of [lookup]";
        let wrong =
            |what: &str| Err(Failure::new(format!("the answer of the screen look-up is {what}"), cure));
        let Ok(body) = std::str::from_utf8(body) else { return wrong("no text") };
        match serde_json::from_str::<Value>(body) {
            Ok(Value::Null) => Ok(Answer::default()),
            Ok(Value::String(name)) => Ok(Answer::of(Some(&name), None)),
            Ok(fields @ Value::Object(_)) => {
                let of =
                    |path: &str| path.split('.').try_fold(&fields, |at, part| at.get(part)).and_then(text);
                Ok(Answer::of(of(&self.name).as_deref(), of(&self.pin).as_deref()))
            }
            Ok(Value::Array(_)) => wrong("a list"),
            // A page of a web server, and half of a document, are no name of anybody.
            Err(_) if body.trim_start().starts_with(['<', '{', '[', '"']) => wrong("neither JSON nor a name"),
            Err(_) if body.len() > LONGEST_TEXT => wrong("longer than a name"),
            _ => Ok(Answer::of(Some(body), None)),
        }
    }

    fn knows_nobody(&self, status: u16) -> bool {
        matches!(status, 204 | 404)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::upstream::samples::question;
    use crate::events::{Direction, Party};

    fn kind(more: &str) -> Screen {
        let text = format!(
            "[device]\nserial = \"TR-1\"\n[lookup]\nkind = \"url\"\nurl = \"http://127.0.0.1:81\"\nauthorization = \"Basic YTpi\"\n\
             path = \"/who?n=$remote_number&line=$line&e=$event&d=$callDirection&s=$serial\"\n{more}"
        );
        Screen::new(&Config::parse(&text, "t.toml").expect("a configuration"))
    }

    #[test]
    fn the_question_is_a_get_with_the_variables_of_an_action_url() {
        let asked = |direction| kind("").request(&question(direction), Now::default());
        let request = asked(Direction::In);
        assert_eq!((request.method, request.body.len()), ("GET", 0));
        assert_eq!(request.target, "/who?n=%2B74951234567&line=office&e=lookup&d=incoming&s=TR-1");
        assert_eq!(request.headers, [("authorization", "Basic YTpi".to_owned())]);
        assert!(asked(Direction::Out).target.contains("d=outgoing"));
        let mut hostile = question(Direction::In);
        hostile.leg.caller = Party::numbered("1&line=x#\r\n");
        let target = kind("").request(&hostile, Now::default()).target;
        assert_eq!(
            (target.matches('&').count(), target.matches(['#', '\r', '\n']).count()),
            (4, 0),
            "{target}"
        );
    }

    #[test]
    fn a_name_comes_as_json_or_as_it_is() {
        let read = |more: &str, body: &[u8]| {
            let answer = kind(more).read(body).ok()?;
            Some((answer.name.unwrap_or_default(), answer.pin.unwrap_or_default()))
        };
        let is = |name: &str, pin: &str| Some((name.to_owned(), pin.to_owned()));
        let fields = "name_field = \"contact.full\"\npin_field = \"owner\"\n";
        for (more, body, expected) in [
            ("", &br#"{"name":"Anna","pin":"703"}"#[..], is("Anna", "703")),
            ("", br#"{"name":7,"pin":703}"#, is("7", "703")),
            ("", br#"{"name":{"x":1},"pin":true}"#, is("", "")),
            (fields, br#"{"contact":{"full":"Anna"},"owner":"7","name":"x"}"#, is("Anna", "7")),
            (fields, br#"{"contact":"Anna"}"#, is("", "")),
            ("", b"Anna & Co\n", is("Anna & Co", "")),
            ("", "\"Анна\"".as_bytes(), is("Анна", "")),
            ("", b"4711", is("4711", "")),
            ("", b"null", is("", "")),
            ("", b"", is("", "")),
            ("", b"<html>Anna", None),
            ("", b"{\"name\":\"An", None),
            ("", b"[\"Anna\"]", None),
            ("", b"\xff\xfe", None),
            ("", &[b'a'; 257], None),
        ] {
            assert_eq!(read(more, body), expected, "{}", body.escape_ascii());
        }
        assert!(kind("").knows_nobody(404) && !kind("").knows_nobody(500));
    }
}

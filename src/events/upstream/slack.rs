//! Slack: a message to an incoming webhook for each call that somebody should return.
//!
//! A call that another phone answered is none of those ([`CallResult::is_missed`](crate::events::CallResult::is_missed)). Slack
//! has no key by which it would know a repetition: a message whose answer was lost comes twice.

use serde_json::json;

use super::dialect::{Dialect, Frozen, Request};
use super::facts::{Facts, number, shown, spelled};
use crate::config::{self, Template};
use crate::events::cloud_event::rfc3339;
use crate::events::{CallResult, CloudEvent};
use crate::now::{CLOCK_WAS_SET, Now};

/// Characters of a name or a number that are shown.
const SHOWN: usize = 80;

/// Messages of the kind `slack`. The whole message is frozen.
pub struct Slack {
    device: String,
    target: String,
    link: Option<Template>,
}

impl Slack {
    /// The kind `slack` with these settings, on the device with this serial number.
    pub fn new(settings: &config::Upstream, serial: &str) -> Slack {
        Slack {
            device: serial.to_owned(),
            target: settings.url.path().to_owned(),
            link: settings.slack.link.clone(),
        }
    }

    fn message(&self, event: &CloudEvent, facts: &Facts) -> String {
        let number = number(&facts.caller);
        let name = facts.caller.name.as_deref().map(|name| shown(name, SHOWN)).filter(|it| !it.is_empty());
        let caller = match (name, number.map(|number| shown(number, SHOWN))) {
            (Some(name), Some(number)) => format!("{name} ({number})"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "a withheld number".to_owned(),
        };
        let mut text = format!("Missed call from {}", escaped(&caller));
        if let Some(line) = &facts.line {
            text.push_str(&format!(" on line {}", escaped(&shown(line, SHOWN))));
        }
        text.push_str(&when(facts.begun_utc_us(event)));
        text.push_str(&how(facts));
        if let (Some(link), Some(_)) = (&self.link, number) {
            let url = link.fill_url(|name| word(event, facts, name));
            text.push_str(&format!("\n<{}|Look it up>", escaped(&url)));
        }
        text
    }

    fn frozen(&self, id: String, text: &str) -> Frozen {
        let body = json!({ "text": text }).to_string().into_bytes();
        Frozen { id, target: self.target.clone(), body }
    }
}

impl Dialect for Slack {
    fn speaks_of(&self, kind: &str) -> bool {
        kind == "call.closed"
    }

    fn pops_up(&self, _: &str) -> bool {
        false
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let facts = Facts::of(event);
        let missed = self.speaks_of(&event.kind) && facts.missed;
        missed.then(|| self.frozen(event.id.to_string(), &self.message(event, &facts)))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        Request::post(frozen, "application/json; charset=utf-8")
    }

    fn test(&self, event: &CloudEvent) -> Frozen {
        let text = format!("This is a test by the phone {}: its missed calls come here", self.device);
        self.frozen(event.id.to_string(), &escaped(&text))
    }
}

/// The value of a variable of the link.
fn word<'a>(event: &'a CloudEvent, facts: &'a Facts, name: &str) -> Option<&'a str> {
    match name {
        "number" => number(&facts.caller),
        "name" => facts.caller.name.as_deref(),
        "line" => facts.line.as_deref(),
        "called" => number(&facts.called),
        "did" => facts.did.as_ref().map(spelled),
        "call_id" => event.subject.as_deref(),
        _ => None,
    }
}

/// The moment in the words of whoever reads it: Slack puts it into each reader's time. Nothing where the clock was not set.
fn when(utc_us: i64) -> String {
    if utc_us < CLOCK_WAS_SET {
        return String::new();
    }
    let seconds = utc_us.div_euclid(1_000_000);
    let utc = rfc3339(utc_us).get(..16).unwrap_or_default().replace('T', " ");
    format!(", <!date^{seconds}^{{date_short_pretty}} {{time}}|{utc} UTC>")
}

fn how(facts: &Facts) -> String {
    let seconds = facts.total_us / 1_000_000;
    match facts.result() {
        Some(CallResult::Busy) => ": it was busy here".to_owned(),
        // Nothing rang: a rule of the hours.
        Some(CallResult::NoAnswer | CallResult::Cancelled) if seconds == 0 => String::new(),
        Some(CallResult::NoAnswer) => format!(": nobody answered for {seconds} s"),
        Some(CallResult::Cancelled) => format!(": they gave up after {seconds} s"),
        _ => String::new(),
    }
}

/// Text as Slack wants it: what would begin a link, a mention or an entity is escaped.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What to do about a status, in the words of Slack's answers.
pub fn cure(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => {
            "see that url is an incoming webhook: it does not take a message (invalid_payload, user_not_found)"
        }
        403 => "ask who administers the workspace: messages are restricted there (action_prohibited)",
        404 => {
            "make a new incoming webhook: this one or its channel was removed (no_service, channel_not_found)"
        }
        410 => "unarchive the channel (channel_is_archived), or choose another; then resume the upstream",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Redaction};
    use crate::events::upstream::filter::Filter;
    use crate::events::{Direction, Event, Kind, Party};

    const LINK: &str = "https://crm.example/s?n=$number&who=$name&l=$line&d=$called,$did&c=$call_id";

    fn settings() -> config::Upstream {
        let link = Some(Template::parse(LINK).expect("a template"));
        config::Upstream { slack: config::dialects::Slack { link }, ..config::Upstream::default() }
    }

    fn closed(
        result: CallResult,
        direction: Direction,
        name: Option<&str>,
        number: Option<&str>,
    ) -> CloudEvent {
        let number = number.map(crate::events::Number::new);
        let kind = Kind::CallClosed {
            line: "office".into(),
            direction,
            caller: Party { number, name: name.map(str::to_owned), uri: None },
            called: Party::numbered("101"),
            did: Some(crate::events::Number::new("+74957654321")),
            result,
            missed: direction == Direction::In && result.is_missed(),
            legs: 1,
            total_us: 12_300_000,
            talk_us: 0,
        };
        super::super::samples::recorded(Event::of_call("c1", kind))
    }

    fn text(settings: &config::Upstream, event: CloudEvent) -> Option<String> {
        let event = Filter::of(settings).pass(event)?;
        let slack = Slack::new(settings, "TR-1");
        let body = slack.render(&event)?.body;
        let message: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(message.as_object().map(serde_json::Map::len), Some(1));
        message["text"].as_str().map(str::to_owned)
    }

    #[test]
    fn a_missed_call_is_told_with_all_that_is_known() {
        let settings = config::Upstream { events: vec!["*".into()], ..settings() };
        let call =
            closed(CallResult::Cancelled, Direction::In, Some("A & B <Ltd>"), Some("+7 495 123-45-67"));
        let expected = "Missed call from A &amp; B &lt;Ltd&gt; (+74951234567) on line office, \
             <!date^1795132787^{date_short_pretty} {time}|2026-11-19 23:59 UTC>: they gave up after 12 s\n\
             <https://crm.example/s?n=%2B74951234567&amp;who=A%20%26%20B%20%3CLtd%3E&amp;l=office&amp;d=101,%2B74957654321&amp;c=c1|Look it up>";
        assert_eq!(text(&settings, call.clone()).as_deref(), Some(expected));
        let redact = vec![Redaction::Numbers, Redaction::Names];
        let link = Some(Template::parse("https://crm.example/l/$line").expect("a template"));
        let slack = config::dialects::Slack { link };
        let hidden = text(&config::Upstream { redact, slack, ..settings.clone() }, call).expect("it is told");
        assert!(hidden.starts_with("Missed call from ***567 on line office, "), "{hidden}");
        let withheld = closed(CallResult::NoAnswer, Direction::In, None, None);
        let withheld = text(&settings, withheld).expect("it is told");
        assert!(withheld.starts_with("Missed call from a withheld number on line office, "), "{withheld}");
        assert!(withheld.ends_with(": nobody answered for 12 s"), "no link without a number: {withheld}");
    }

    #[test]
    fn only_what_somebody_should_return_is_a_message() {
        let settings = config::Upstream { events: vec!["*".into()], ..settings() };
        for result in CallResult::ALL {
            let told = text(&settings, closed(result, Direction::In, None, Some("1"))).is_some();
            assert_eq!(told, result.is_missed(), "{result}");
            assert_eq!(text(&settings, closed(result, Direction::Out, None, Some("1"))), None, "{result}");
        }
        assert!(!CallResult::AnsweredElsewhere.is_missed());
        let refused: Facts = serde_json::from_str(r#"{"result":"no_answer","total_us":900}"#).expect("facts");
        assert_eq!(how(&refused), "", "nothing rang outside of the hours");
        assert_eq!(Slack::new(&settings, "TR-1").render(&CloudEvent::gap(1, 2, None, 0)), None);
    }

    #[test]
    fn a_hostile_name_is_text_on_one_line() {
        let settings = config::Upstream { events: vec!["*".into()], ..settings() };
        for name in
            ["<!channel>", "<https://evil.example|click>", "a\r\nb\u{2028}c", "\u{202e}321", "&lt;", "\u{7}"]
        {
            let text = text(&settings, closed(CallResult::Busy, Direction::In, Some(name), Some("1")));
            let text = text.expect("it is told");
            let known = [text.matches("<!date^").count(), text.matches("<https://crm.example/").count()];
            assert_eq!((known, text.matches('<').count()), ([1, 1], 2), "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(!text.contains('\u{202e}'), "{text}");
        }
        let long = "x".repeat(100_000);
        let text = text(&settings, closed(CallResult::Busy, Direction::In, Some(&long), Some(&long)));
        assert!(text.is_some_and(|text| text.len() < 2000));
    }

    #[test]
    fn the_settings_of_a_file_are_those() {
        let file = format!(
            "[[upstream]]\nname = \"team\"\nkind = \"slack\"\nurl = \"https://hooks.slack.com/services/T/B/x\"\n\
             [upstream.slack]\nlink = \"{LINK}\"\n"
        );
        let config = Config::parse(&file, "t.toml").expect("a configuration");
        let slack = Slack::new(&config.upstream[0], "TR-1");
        let test =
            slack.request(&slack.test(&closed(CallResult::Busy, Direction::In, None, None)), Now::default());
        assert_eq!((test.method, test.target.as_str()), ("POST", "/services/T/B/x"));
        assert!(!config.masked().to_string().contains("crm.example/s"));
    }
}

//! Action URL: a GET with variables for each thing that happens, as desk phones have sent it for decades.
//!
//! Which request belongs to what is written in the settings, in the names that Yealink and Grandstream have for events and
//! variables. Nothing in it says that it is a repetition but what the template has of the call.

use super::dialect::{Dialect, Frozen, Request, authorization};
use super::facts::{Facts, host, number, spelled};
use crate::config::{self, Template, dialects};
use crate::events::{CloudEvent, Direction, Party};
use crate::now::Now;

/// What this phone calls itself where others tell their model.
const MODEL: &str = "Tipring";

/// Requests of the kind `action-url`. Path and query are frozen.
pub struct ActionUrl {
    serial: String,
    templates: dialects::ActionUrl,
    authorization: Option<(&'static str, String)>,
}

impl ActionUrl {
    /// The kind `action-url` with these settings, on the device with this serial number.
    pub fn new(settings: &config::Upstream, serial: &str) -> ActionUrl {
        ActionUrl {
            serial: serial.to_owned(),
            templates: settings.action_url.clone(),
            authorization: authorization(settings),
        }
    }

    /// What this template asks for where `name` has happened.
    pub fn frozen(&self, event: &CloudEvent, facts: &Facts, name: &str, template: &Template) -> Frozen {
        let target = template.fill_url(|word| self.word(event, facts, name, word));
        Frozen { id: event.id.to_string(), target, body: Vec::new() }
    }

    /// The value of a variable where `name` has happened.
    fn word(&self, event: &CloudEvent, facts: &Facts, name: &str, word: &str) -> Option<String> {
        let (local, remote) = (facts.sides().map(|(local, _)| local), facts.remote());
        let text = |text: &str| Some(text.to_owned());
        let address = |party: Option<&Party>| party.and_then(address).map(str::to_owned);
        let digits = |party: Option<&Party>| party.and_then(number).map(str::to_owned);
        let display = |party: Option<&Party>| party.and_then(|party| party.name.clone());
        match word {
            "event" => text(name),
            "line" => facts.line.clone(),
            "call_id" => event.subject.clone(),
            "callDirection" => facts.direction().and_then(|direction| match direction {
                Direction::In => text("incoming"),
                Direction::Out => text("outgoing"),
            }),
            "duration" => facts.direction().map(|_| (facts.talk_us / 1_000_000).to_string()),
            "local" | "active_url" => address(local),
            "remote" => address(remote),
            "local_number" => digits(local),
            "remote_number" => digits(remote),
            "did" => facts.did.as_ref().map(|number| spelled(number).to_owned()),
            "diverted_number" => digits(facts.diverted.as_ref().map(|it| &it.by)),
            "display_local" => display(local),
            "display_remote" => display(remote),
            "active_user" => {
                local.and_then(|party| party.number.as_ref()).map(|number| number.dialled.clone())
            }
            "active_host" => local.and_then(host).map(str::to_owned),
            "serial" => text(&self.serial),
            "model" | "product" => text(MODEL),
            "firmware" | "program_version" => text(env!("CARGO_PKG_VERSION")),
            _ => None,
        }
    }

    /// What is asked for when an event of this type happens, in one of its cases.
    fn template(&self, kind: &str) -> Option<(&'static str, &Template)> {
        let (_, name) = ACTIONS.iter().find(|(it, _)| *it == kind)?;
        self.templates.all().find(|(it, _)| it == name)
    }
}

/// Types of events, and the names that phones have for them.
const ACTIONS: &[(&str, &str)] = &[
    ("device.started", "setup_completed"),
    ("device.network.changed", "ip_change"),
    ("line.registered", "registered"),
    ("line.unregistered", "unregistered"),
    ("line.rejected", "register_failed"),
    ("call.ringing", "incoming_call"),
    ("call.dialing", "outgoing_call"),
    ("call.answered", "call_established"),
    ("call.held", "hold"),
    ("call.resumed", "unhold"),
    ("call.ended", "call_terminated"),
    ("call.closed", "missed_call"),
];

/// Whether what happened is what phones mean by this name.
fn means(name: &str, facts: &Facts) -> bool {
    match name {
        "incoming_call" => facts.direction() == Some(Direction::In),
        "hold" | "unhold" => facts.is_by_us(),
        "missed_call" => facts.missed,
        _ => true,
    }
}

impl Dialect for ActionUrl {
    fn speaks_of(&self, kind: &str) -> bool {
        self.template(kind).is_some()
    }

    fn pops_up(&self, kind: &str) -> bool {
        matches!(kind, "call.ringing" | "call.dialing")
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let (name, template) = self.template(&event.kind)?;
        let facts = Facts::of(event);
        means(name, &facts).then(|| self.frozen(event, &facts, name, template))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let headers = self.authorization.clone().into_iter().collect();
        Request { method: "GET", target: frozen.target.clone(), headers, ..Request::default() }
    }

    /// The first URL that there is, those without a call before others, with nothing in it of a call.
    fn test(&self, event: &CloudEvent) -> Frozen {
        let facts = Facts::default();
        match self.templates.all().next() {
            Some((_, template)) => self.frozen(event, &facts, "test", template),
            None => Frozen { id: event.id.to_string(), target: "/".to_owned(), body: Vec::new() },
        }
    }
}

/// Where somebody is reached: the SIP URI, or the number where that is all there is.
fn address(party: &Party) -> Option<&str> {
    party.uri.as_deref().or_else(|| number(party))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::dialects::ACTION_WORDS;
    use crate::events::upstream::samples::{leg, recorded};
    use crate::events::{CallResult, Cause, Event, Kind, Origin, Side};

    /// Every variable there is, in the settings of a file.
    fn settings() -> config::Upstream {
        let query: Vec<String> = ACTION_WORDS.iter().map(|word| format!("{word}=${{{word}}}")).collect();
        let query = query.join("&");
        let names = ["incoming_call", "outgoing_call", "call_established", "call_terminated", "missed_call"];
        let names = names.iter().chain(&["hold", "unhold", "registered", "unregistered"]);
        let names = names.chain(&["register_failed", "setup_completed", "ip_change"]);
        let actions: String = names.map(|name| format!("{name} = \"/{name}?{query}\"\n")).collect();
        let text = format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"action-url\"\nurl = \"http://127.0.0.1:81\"\n\
             authorization = \"Basic YTpi\"\n[upstream.action_url]\n{actions}"
        );
        Config::parse(&text, "t.toml").expect("a configuration").upstream.remove(0)
    }

    fn asked(kind: Kind) -> Option<String> {
        let dialect = ActionUrl::new(&settings(), "TR 1");
        let frozen = dialect.render(&recorded(Event::of_call("c1", kind)))?;
        let request = dialect.request(&frozen, Now::default());
        assert_eq!((request.method, request.body.len()), ("GET", 0));
        assert_eq!(request.headers, [("authorization", "Basic YTpi".to_owned())]);
        Some(request.target)
    }

    fn value(target: &str, name: &str) -> String {
        let (_, query) = target.split_once('?').expect("a query");
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(it, _)| *it == name).expect("the variable").1.to_owned()
    }

    #[test]
    fn each_thing_that_happens_is_asked_for_by_the_name_that_phones_have() {
        let (inwards, outwards) = (leg(Direction::In), leg(Direction::Out));
        let ended = |leg: &crate::events::Leg| Kind::CallEnded {
            leg: leg.clone(),
            result: CallResult::Answered,
            cause: Cause::default(),
            total_us: 9_000_000,
            ring_us: 2_000_000,
            talk_us: 7_999_999,
            hold_us: 0,
            quality: None,
            recording_id: None,
            vote: None,
        };
        let held = |by| Kind::CallHeld { leg: inwards.clone(), by };
        let resumed = |by| Kind::CallResumed { leg: inwards.clone(), by };
        for (kind, expected) in [
            (Kind::CallRinging { leg: inwards.clone() }, Some("/incoming_call?")),
            (Kind::CallRinging { leg: outwards.clone() }, None),
            (Kind::CallDialing { leg: outwards.clone() }, Some("/outgoing_call?")),
            (Kind::CallNew { leg: inwards.clone(), origin: Origin::Network }, None),
            (
                Kind::CallAnswered { leg: inwards.clone(), ring_us: 1, automatic: None },
                Some("/call_established?"),
            ),
            (held(Side::Local), Some("/hold?")),
            (held(Side::Remote), None),
            (resumed(Side::Local), Some("/unhold?")),
            (resumed(Side::Remote), None),
            (ended(&outwards), Some("/call_terminated?")),
            (Kind::NetworkChanged { addresses: vec![] }, Some("/ip_change?")),
            (Kind::Gap { first: 1, last: 2, reason: None }, None),
        ] {
            let asked = asked(kind.clone());
            let path = asked.as_deref().map(|it| it.split_inclusive('?').next().unwrap_or_default());
            assert_eq!(path, expected, "{kind:?}");
        }
        let target = asked(ended(&inwards)).expect("it is told");
        for (name, expected) in [
            ("event", "call_terminated"),
            ("line", "office"),
            ("call_id", "c1"),
            ("callDirection", "incoming"),
            ("duration", "7"),
            ("local", "sip%3A101%40pbx.example%3A5061"),
            ("remote", "sip%3A%2B74951234567%40pbx.example"),
            ("local_number", "101"),
            ("remote_number", "%2B74951234567"),
            ("did", "%2B74957654321"),
            ("diverted_number", "102"),
            ("display_local", "Reception"),
            ("display_remote", "Anna%20%26%20Co"),
            ("active_url", "sip%3A101%40pbx.example%3A5061"),
            ("active_user", "101"),
            ("active_host", "pbx.example"),
            ("serial", "TR%201"),
            ("model", "Tipring"),
            ("product", "Tipring"),
            ("firmware", env!("CARGO_PKG_VERSION")),
            ("program_version", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(value(&target, name), expected, "{name}");
        }
        let out = asked(ended(&outwards)).expect("it is told");
        assert_eq!(
            (value(&out, "remote_number"), value(&out, "callDirection")),
            ("%2B74951234567".into(), "outgoing".into())
        );
    }

    #[test]
    fn missed_is_what_somebody_should_return_and_a_test_has_nothing_of_a_call() {
        for result in CallResult::ALL {
            let sample = leg(Direction::In);
            let closed = Kind::CallClosed {
                line: sample.line,
                direction: Direction::In,
                caller: sample.caller,
                called: sample.called,
                did: None,
                result,
                missed: result.is_missed(),
                legs: 1,
                total_us: 1,
                talk_us: 0,
            };
            assert_eq!(asked(closed).is_some(), result.is_missed(), "{result}");
        }
        let dialect = ActionUrl::new(&settings(), "TR-1");
        let test = dialect.test(&recorded(Event::new(Kind::NetworkChanged { addresses: vec![] }))).target;
        assert!(test.starts_with("/setup_completed?event=test&line=&call_id=&"), "{test}");
        assert_eq!((value(&test, "serial"), value(&test, "duration")), ("TR-1".into(), String::new()));
    }

    #[test]
    fn what_makes_a_screen_pop_up_comes_late_to_nobody() {
        let dialect = ActionUrl::new(&settings(), "TR-1");
        let late: Vec<_> =
            crate::events::catalogue::TYPES.iter().filter(|kind| dialect.pops_up(kind)).collect();
        assert_eq!(late, [&"call.dialing", &"call.ringing"]);
    }
}

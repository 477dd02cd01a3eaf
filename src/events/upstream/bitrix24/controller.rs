//! The forms that a telephony scenario posts to the controller of Bitrix24's telephony, for whoever has a controller of his own.
//!
//! An answered call is a `StartCall`, one that is over a `HangupCall` and an `AddCallHistory`; during the call there are the
//! commands `hold` and `unhold`, and the `meter` of its quality. Everything is frozen to the byte. By what Bitrix24 makes the key
//! of a request is published nowhere: ours is HMAC-SHA-256 over the exact bytes of the body with the licence key, in lower-case
//! hexadecimal, in the field `X-Request-Key`.

use std::collections::BTreeMap;

use ring::hmac;
use serde_json::{Value, json};

use super::meaning::{cost, user};
use crate::config;
use crate::events::leg::meter;
use crate::events::upstream::dialect::{Dialect, Frozen, Request};
use crate::events::upstream::facts::{Facts, digits};
use crate::events::upstream::form::Form;
use crate::events::upstream::outcome::{Outcome, Verdict};
use crate::events::upstream::turn::Heard;
use crate::events::{CloudEvent, Direction, Number};
use crate::now::{CLOCK_WAS_SET, Now};

/// What parts two forms of one event; no form has it in it.
const BETWEEN: u8 = b'\n';
/// CALL_DEVICE: this is no browser.
const DEVICE: &str = "PHONE";
/// Commands of a call, in JSON, by the event that they tell.
const COMMANDS: &[&str] = &["call.held", "call.resumed", "call.quality"];

/// Requests of the kind `bitrix24` to a controller.
pub struct Controller {
    settings: config::Bitrix24,
    target: String,
    key: hmac::Key,
    /// How many forms of an event were taken, by its identity.
    taken: BTreeMap<String, usize>,
}

impl Controller {
    /// The kind `bitrix24` with these settings, which have a controller's key.
    pub fn new(settings: &config::Upstream) -> Controller {
        let key = settings.bitrix24.controller.key.reveal();
        Controller {
            settings: settings.bitrix24.clone(),
            target: settings.url.path().to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            taken: BTreeMap::new(),
        }
    }

    fn start(&self, facts: &Facts, user: &str) -> Form {
        let mut form = Form::default();
        form.put("COMMAND", Some("StartCall"));
        form.put("CALL_ID", facts.leg_id.as_deref());
        form.put("CALL_DEVICE", Some(DEVICE));
        form.put("EXTERNAL", Some("N"));
        form.put("USER_ID", Some(user));
        form
    }

    fn hang_up(&self, facts: &Facts, user: &str) -> Form {
        let mut form = Form::default();
        form.put("COMMAND", Some("HangupCall"));
        form.put("PHONE_NUMBER", Some(plain(facts.did.as_ref().or(facts.called.number.as_ref()))));
        form.put("ACCOUNT_SEARCH_ID", Some(self.own(&self.settings.controller.account_search_id)));
        form.put("CALL_ID", facts.leg_id.as_deref());
        form.put("USER_ID", Some(user));
        form
    }

    fn history(&self, event: &CloudEvent, facts: &Facts, user: &str, direction: Direction) -> Form {
        let controller = &self.settings.controller;
        let remote = facts.sides().map(|(_, remote)| remote).unwrap_or(&facts.caller);
        let mut form = Form::default();
        form.put("COMMAND", Some("AddCallHistory"));
        form.put("ACCOUNT_ID", Some(self.own(&controller.account_id)));
        form.put("PORTAL_USER_ID", Some(user));
        form.put("APPLICATION_ID", Some(self.own(&controller.application_id)));
        form.put("PORTAL_TYPE", Some(&controller.portal_type));
        form.put("PORTAL_NUMBER", Some(self.own(&self.settings.line_number)));
        form.put("PORTAL_CALL", Some("N"));
        form.put("ACCOUNT_SEARCH_ID", Some(self.own(&controller.account_search_id)));
        form.put("PHONE_NUMBER", Some(plain(remote.number.as_ref())));
        form.put("URL", Some(self.own(&controller.portal_url)));
        form.put("INCOMING", Some(if direction == Direction::In { "2" } else { "1" }));
        form.put("CALL_ID", facts.leg_id.as_deref());
        form.put("CALL_LOG", Some(&self.log(event)));
        form.put_number("CALL_DURATION", Some(facts.total_us / 1_000_000));
        form.put_number("CALL_START_DATE", joined_ms(event, facts));
        form.put("CALL_STATUS", Some(if facts.was_answered() { "true" } else { "false" }));
        form.put_number("CALL_QUALITY", quality(event).map(|(percent, _)| percent));
        form.put("CALL_DEVICE", Some(DEVICE));
        form.put_number("CALL_VOTE", Some(facts.vote.unwrap_or(0).into()));
        let cost = cost(facts, &self.settings).unwrap_or(0);
        form.put("COST", Some(&(cost as f64 / 10_000.0).to_string()));
        form
    }

    fn own<'s>(&self, setting: &'s Option<String>) -> &'s str {
        setting.as_deref().unwrap_or_default()
    }

    /// Where the call's log is, as this device keeps it; without an address, the call by which it is found.
    fn log(&self, event: &CloudEvent) -> String {
        let call = event.subject.as_deref().unwrap_or_default();
        match &self.settings.controller.log_address {
            Some(address) => format!("{}/api/v1/calls/{call}/log", address.whole().trim_end_matches('/')),
            None => call.to_owned(),
        }
    }

    /// The bodies for an event.
    fn bodies(&self, event: &CloudEvent, facts: &Facts) -> Option<Vec<String>> {
        let (own, _) = facts.sides()?;
        let user = user(&self.settings, facts.line.as_deref(), own)?;
        let user = match user.values().next()? {
            Value::String(inner) => inner.clone(),
            number => number.to_string(),
        };
        let command = |name: &str| vec![json!({ "COMMAND": name }).to_string()];
        Some(match event.kind.as_str() {
            "call.answered" => vec![self.start(facts, &user).into_text()],
            "call.ended" => {
                let history = self.history(event, facts, &user, facts.direction()?);
                vec![self.hang_up(facts, &user).into_text(), history.into_text()]
            }
            "call.held" if facts.is_by_us() => command("hold"),
            "call.resumed" if facts.is_by_us() => command("unhold"),
            "call.quality" => {
                let (percent, grade) = quality(event)?;
                // In this order: a form of JSON that is looked for as a text would not be found otherwise.
                vec![format!("{{\"COMMAND\":\"meter\",\"PERCENT\":{percent},\"GRADE\":{grade}}}")]
            }
            _ => return None,
        })
    }

    fn frozen(&self, event: &CloudEvent, facts: &Facts, bodies: &[String]) -> Frozen {
        let mut target = self.target.clone();
        if COMMANDS.contains(&event.kind.as_str()) {
            // A command does not say whose it is.
            let mut query = Form::default();
            query.put("CALL_ID", facts.leg_id.as_deref());
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&query.into_text());
        }
        Frozen { id: event.id.to_string(), target, body: bodies.join("\n").into_bytes() }
    }
}

impl Dialect for Controller {
    fn speaks_of(&self, kind: &str) -> bool {
        matches!(kind, "call.answered" | "call.ended") || COMMANDS.contains(&kind)
    }

    fn pops_up(&self, kind: &str) -> bool {
        COMMANDS.contains(&kind)
    }

    fn supersedes(&self, kind: &str) -> bool {
        kind == "call.quality"
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let facts = Facts::of(event);
        let bodies = self.bodies(event, &facts)?;
        Some(self.frozen(event, &facts, &bodies))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let at = self.taken.get(&frozen.id).copied().unwrap_or(0);
        let body = frozen.body.split(|it| *it == BETWEEN).nth(at).unwrap_or_default().to_vec();
        let form = !body.starts_with(b"{");
        let content_type = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let sign = hmac::sign(&self.key, &body);
        let sign: String = sign.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Request {
            method: "POST",
            target: frozen.target.clone(),
            headers: vec![("content-type", content_type.to_owned()), ("x-request-key", sign)],
            body,
            ..Request::default()
        }
    }

    fn heard(&mut self, frozen: &Frozen, outcome: &Outcome, _: Now) -> Heard {
        let verdict = outcome.verdict();
        let at = self.taken.get(&frozen.id).copied().unwrap_or(0);
        let forms = frozen.body.split(|it| *it == BETWEEN).count();
        if verdict == Verdict::Taken && at + 1 < forms {
            self.taken.insert(frozen.id.clone(), at + 1);
            return Heard::go_on(Vec::new());
        }
        // What is refused begins anew.
        if !matches!(verdict, Verdict::Unavailable | Verdict::Locked) {
            self.taken.remove(&frozen.id);
        }
        Heard::over(verdict)
    }

    fn test(&self, event: &CloudEvent) -> Frozen {
        let mut form = Form::default();
        form.put("COMMAND", Some("Test"));
        self.frozen(event, &Facts::default(), &[form.into_text()])
    }
}

/// Milliseconds since 1970: when the user was joined, or the beginning of a call that nobody took.
fn joined_ms(event: &CloudEvent, facts: &Facts) -> Option<u64> {
    let waited = if facts.was_answered() { facts.ring_us } else { 0 };
    let moment = facts.begun_utc_us(event).saturating_add(i64::try_from(waited).unwrap_or(0));
    u64::try_from(moment / 1000).ok().filter(|_| moment >= CLOCK_WAS_SET)
}

/// How the audio of the event is, in percent and as a grade.
fn quality(event: &CloudEvent) -> Option<(u64, u64)> {
    let data: Value = serde_json::from_str(&event.data).ok()?;
    data["quality"]["mos"].as_f64().map(meter)
}

fn plain(number: Option<&Number>) -> &str {
    number.map(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use crate::config::Config;
    use crate::events::upstream::samples::{TODAY, leg, recorded};
    use crate::events::upstream::turn::Step;
    use crate::events::upstream::{Action, Upstream};
    use crate::events::{CallResult, Cause, Event, Kind, Origin, Quality, Side};

    fn controller(more: &str) -> Controller {
        controller_with("", more)
    }

    fn controller_with(keys: &str, more: &str) -> Controller {
        let text = format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"bitrix24\"\nurl = \"https://controller.example/c?k=1\"\n\
             [upstream.bitrix24]\nline_number = \"74957654321\"\nusers = [{{ who = \"office\", user_id = 67 }}]\n{keys}\
             [upstream.bitrix24.controller]\nkey = \"planted\"\naccount_search_id = \"test\"\n{more}\n"
        );
        Controller::new(&Config::parse(&text, "t.toml").expect("a configuration").upstream[0])
    }

    /// The requests for an event, each of which is taken.
    fn sent(controller: &mut Controller, kind: Kind) -> Vec<Request> {
        all(controller, &recorded(Event::of_call("c1", kind)))
    }

    fn all(controller: &mut Controller, event: &CloudEvent) -> Vec<Request> {
        let Some(frozen) = controller.render(event) else { return Vec::new() };
        let mut sent = Vec::new();
        loop {
            let Step::Send(request) = controller.step(&frozen, Now::default()) else { panic!("a request") };
            sent.push(*request);
            let taken = Outcome::Answered { status: 200, retry_after: None, said: Vec::new() };
            if controller.heard(&frozen, &taken, Now::default()).over.is_some() {
                return sent;
            }
        }
    }

    fn bodies(controller: &mut Controller, kind: Kind) -> Vec<String> {
        let body = |request: Request| String::from_utf8(request.body).expect("text");
        sent(controller, kind).into_iter().map(body).collect()
    }

    fn ended(result: CallResult, talk_us: u64) -> Kind {
        Kind::CallEnded {
            leg: leg(Direction::In),
            result,
            cause: Cause::default(),
            total_us: 34_900_000,
            ring_us: 16_000_000,
            talk_us,
            hold_us: 0,
            quality: Some(Quality { mos: Some(4.4), ..Quality::default() }),
            recording_id: None,
            vote: None,
        }
    }

    #[test]
    fn a_call_is_started_hung_up_and_kept_in_the_forms_of_the_scenario() {
        let mut controller = controller("account_id = \"17\"\nlog_address = \"https://phone.example\"\n");
        let answered = Kind::CallAnswered { leg: leg(Direction::In), ring_us: 1, automatic: None };
        assert_eq!(
            bodies(&mut controller, answered),
            ["COMMAND=StartCall&CALL_ID=c1-1&CALL_DEVICE=PHONE&EXTERNAL=N&USER_ID=67"]
        );
        let whole = bodies(&mut controller, ended(CallResult::Answered, 18_900_000));
        assert_eq!(
            whole,
            [
                "COMMAND=HangupCall&PHONE_NUMBER=74957654321&ACCOUNT_SEARCH_ID=test&CALL_ID=c1-1&USER_ID=67",
                "COMMAND=AddCallHistory&ACCOUNT_ID=17&PORTAL_USER_ID=67&APPLICATION_ID=&PORTAL_TYPE=RENT\
                 &PORTAL_NUMBER=74957654321&PORTAL_CALL=N&ACCOUNT_SEARCH_ID=test&PHONE_NUMBER=74951234567&URL=\
                 &INCOMING=2&CALL_ID=c1-1&CALL_LOG=https%3A%2F%2Fphone.example%2Fapi%2Fv1%2Fcalls%2Fc1%2Flog\
                 &CALL_DURATION=34&CALL_START_DATE=1795132781100&CALL_STATUS=true&CALL_QUALITY=100\
                 &CALL_DEVICE=PHONE&CALL_VOTE=0&COST=0"
            ]
        );
        let mut rated = ended(CallResult::Answered, 1);
        if let Kind::CallEnded { vote, .. } = &mut rated {
            *vote = Some(5);
        }
        let rated = bodies(&mut controller, rated).remove(1);
        assert!(rated.ends_with("&CALL_DEVICE=PHONE&CALL_VOTE=5&COST=0"), "{rated}");
        let mut priced = controller_with("cost_per_minute = \"1.25\"\ncost_currency = \"RUB\"\n", "");
        for (direction, talk_us, expected) in [
            (Direction::Out, 60_000_001, "&COST=2.5"),
            (Direction::Out, 0, "&COST=0"),
            (Direction::In, 9, "&COST=0"),
        ] {
            let mut call = ended(CallResult::Answered, talk_us);
            if let Kind::CallEnded { leg: of, .. } = &mut call {
                *of = leg(direction);
            }
            let form = bodies(&mut priced, call).remove(1);
            assert!(form.ends_with(expected), "{form}");
        }
        let missed = bodies(&mut controller, ended(CallResult::NoAnswer, 0)).remove(1);
        assert!(missed.contains("&CALL_START_DATE=1795132765100&CALL_STATUS=false&"), "{missed}");
        let mut hostile = leg(Direction::In);
        hostile.caller.number = Some(Number::new("1&COMMAND=x\n{\"COMMAND\":\"hold\"}"));
        let Kind::CallEnded { result, cause, .. } = ended(CallResult::Answered, 1) else { panic!() };
        let hostile = Kind::CallEnded {
            leg: hostile,
            result,
            cause,
            total_us: 1,
            ring_us: 0,
            talk_us: 1,
            hold_us: 0,
            quality: None,
            recording_id: None,
            vote: None,
        };
        let forms = bodies(&mut controller, hostile);
        assert!(
            forms.len() == 2 && forms.iter().all(|form| form.matches("COMMAND=").count() == 1),
            "{forms:?}"
        );
    }

    /// A call that lasted from 08:50:08 to 08:50:45 UTC on 24 July 2015 between a caller, a portal and two devices of user 67: what
    /// the device that answered told then, at its moments, in the order of its log; eleven years later, as a clock of 2015 is wrong.
    #[test]
    fn the_call_of_37_seconds_is_told_as_it_was_then() {
        const BEGAN_S: i64 = 1_784_883_008;
        let mut controller = controller("");
        let quality = || Kind::CallQuality {
            leg: leg(Direction::In),
            quality: Quality { mos: Some(4.4), ..Quality::default() },
        };
        let by = Side::Local;
        let over = Kind::CallEnded {
            leg: leg(Direction::In),
            result: CallResult::Answered,
            cause: Cause::default(),
            total_us: 34_192_000,
            ring_us: 16_000_000,
            talk_us: 18_192_000,
            hold_us: 8_000_000,
            quality: Some(Quality { mos: Some(4.4), ..Quality::default() }),
            recording_id: None,
            vote: None,
        };
        let story = [
            (2_308, Kind::CallNew { leg: leg(Direction::In), origin: Origin::Network }),
            (18_308, Kind::CallAnswered { leg: leg(Direction::In), ring_us: 16_000_000, automatic: None }),
            (23_308, quality()),
            (23_400, Kind::CallHeld { leg: leg(Direction::In), by }),
            (28_308, quality()),
            (31_400, Kind::CallResumed { leg: leg(Direction::In), by }),
            (33_308, quality()),
            (36_500, over),
        ];
        let mut told = Vec::new();
        for (after_ms, kind) in story {
            let utc_us = (BEGAN_S * 1000 + after_ms) * 1000;
            let event = CloudEvent { utc_us, ..recorded(Event::of_call("c1", kind)) };
            for request in all(&mut controller, &event) {
                told.push((after_ms / 1000, String::from_utf8(request.body).expect("text")));
            }
        }
        let command = |text: &str| text.split(['&', '=']).nth(1).unwrap_or(text).to_owned();
        let commands: Vec<(i64, String)> =
            told.iter().map(|(second, text)| (*second, command(text))).collect();
        let meter = "{\"COMMAND\":\"meter\",\"PERCENT\":100,\"GRADE\":5}";
        let expected = [
            (18, "StartCall"),
            (23, meter),
            (23, "{\"COMMAND\":\"hold\"}"),
            (28, meter),
            (31, "{\"COMMAND\":\"unhold\"}"),
            (33, meter),
            (36, "HangupCall"),
            (36, "AddCallHistory"),
        ];
        assert_eq!(commands, expected.map(|(second, text)| (second, text.to_owned())));
        let history = &told.last().expect("its end").1;
        for field in
            ["CALL_DURATION=34", "CALL_START_DATE=1784883026308", "CALL_STATUS=true", "CALL_QUALITY=100"]
        {
            assert!(history.split('&').any(|it| it == field), "{field}: {history}");
        }
    }

    #[test]
    fn commands_of_a_call_say_whose_they_are() {
        let mut controller = controller("");
        let (by, there) = (Side::Local, Side::Remote);
        for (kind, expected) in [
            (Kind::CallHeld { leg: leg(Direction::In), by }, Some("{\"COMMAND\":\"hold\"}")),
            (Kind::CallResumed { leg: leg(Direction::In), by }, Some("{\"COMMAND\":\"unhold\"}")),
            (Kind::CallHeld { leg: leg(Direction::In), by: there }, None),
            (
                Kind::CallQuality {
                    leg: leg(Direction::In),
                    quality: Quality { mos: Some(4.4), ..Quality::default() },
                },
                Some("{\"COMMAND\":\"meter\",\"PERCENT\":100,\"GRADE\":5}"),
            ),
            (Kind::CallQuality { leg: leg(Direction::In), quality: Quality::default() }, None),
            (Kind::CallNew { leg: leg(Direction::In), origin: Origin::Network }, None),
        ] {
            let all = sent(&mut controller, kind);
            let body = all.first().map(|request| String::from_utf8_lossy(&request.body).into_owned());
            assert_eq!(body.as_deref(), expected);
            assert!(all.iter().all(|it| it.target == "/c?k=1&CALL_ID=c1-1"), "{all:?}");
        }
        assert!(controller.pops_up("call.quality") && controller.supersedes("call.quality"));
    }

    #[test]
    fn of_meters_that_wait_the_newest_alone_is_told() {
        let text = "[[upstream]]\nname = \"crm\"\nkind = \"bitrix24\"\nurl = \"https://controller.example\"\nevents = [\"*\"]\n\
                    [upstream.bitrix24.controller]\nkey = \"k\"\n";
        let settings = Config::parse(text, "t.toml").expect("a configuration").upstream.remove(0);
        let now = Now { mono_us: 1, utc_us: TODAY };
        let mut upstream = Upstream::new(now, settings, "TR-1", None, 0, Chance::from_number(1));
        let meter = |sequence: u64| {
            let quality = Quality { mos: Some(4.4), ..Quality::default() };
            let kind = Kind::CallQuality { leg: leg(Direction::In), quality };
            CloudEvent { sequence, ..recorded(Event::of_call("c1", kind)) }
        };
        let mut sent = Vec::new();
        for last in [5, 9] {
            upstream.handle_news(now, last);
            while let Some(action) = upstream.poll_action() {
                match action {
                    Action::Read { since, .. } => {
                        upstream.handle_page(now, since, Some((since + 1..=last).map(meter).collect()));
                    }
                    Action::Send { sequence, .. } => sent.push(sequence),
                    _ => {}
                }
            }
        }
        let taken = Outcome::Answered { status: 200, retry_after: None, said: Vec::new() };
        upstream.handle_outcome(now, 5, taken);
        while let Some(action) = upstream.poll_action() {
            sent.extend(match action {
                Action::Send { sequence, .. } => Some(sequence),
                _ => None,
            });
        }
        assert_eq!(sent, [5, 9], "the one that was under way, and the newest of those that waited");
    }

    #[test]
    fn each_request_has_a_key_of_its_own_over_its_exact_bytes() {
        let mut controller = controller("");
        let all = sent(&mut controller, ended(CallResult::Answered, 1));
        let keys: Vec<&String> = all.iter().map(|request| &request.headers[1].1).collect();
        assert_ne!(keys[0], keys[1]);
        for request in &all {
            let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"planted"), &request.body);
            let expected: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(request.headers[1], ("x-request-key", expected));
        }
        assert!(!format!("{:?}", controller.settings).contains("planted"));
    }
}

//! Webitel (FreeSWITCH): what happens to a leg as a request of its event hooks, and the end of one as the document that its
//! call detail records are.
//!
//! Field names and units are Webitel's: seconds are whole, moments are microseconds but for `created_time`, causes have the
//! names and numbers of FreeSWITCH. What this phone does not know is left out. The receiver knows a repetition by `uuid`, of
//! which there is one document. The journal is searched in the same form.

use serde_json::{Map, Value, json};

use super::dialect::{Dialect, Frozen, Request, authorization};
use super::facts::{Facts, number, spelled};
use crate::config::{self, Template, dialects};
use crate::events::{CallResult, CloudEvent, Direction, EndedBy};
use crate::now::{CLOCK_WAS_SET, Now};

/// What the keys of `[hours]` begin with.
const HOURS: &str = "hours.";
/// An event that FreeSWITCH does not have, in the form of Webitel's own ones.
const OUT_OF_HOURS: &str = "CUSTOM->tipring::out_of_hours";

/// Requests of the kind `webitel`. The body is frozen.
pub struct Webitel {
    target: String,
    settings: dialects::Webitel,
    authorization: Option<(&'static str, String)>,
}

impl Webitel {
    /// The kind `webitel` with these settings.
    pub fn new(settings: &config::Upstream) -> Webitel {
        Webitel {
            target: settings.url.path().to_owned(),
            settings: settings.webitel.clone(),
            authorization: authorization(settings),
        }
    }

    fn frozen(&self, event: &CloudEvent, body: String) -> Frozen {
        Frozen { id: event.id.to_string(), target: self.target.clone(), body: body.into_bytes() }
    }
}

impl Dialect for Webitel {
    fn speaks_of(&self, kind: &str) -> bool {
        match kind {
            "call.new" => self.settings.channel_create.is_some(),
            "call.answered" => self.settings.channel_answer.is_some(),
            "call.refused" => self.settings.out_of_hours.is_some(),
            _ => kind == "call.ended",
        }
    }

    fn pops_up(&self, kind: &str) -> bool {
        // That a call begins is for a screen; what it was is in the record of its end.
        kind == "call.new"
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let facts = Facts::of(event);
        let (name, template) = match event.kind.as_str() {
            "call.new" => ("CHANNEL_CREATE", Some(self.settings.channel_create.as_ref()?)),
            "call.answered" => ("CHANNEL_ANSWER", Some(self.settings.channel_answer.as_ref()?)),
            "call.refused" if facts.rule.as_deref().is_some_and(|rule| rule.starts_with(HOURS)) => {
                (OUT_OF_HOURS, Some(self.settings.out_of_hours.as_ref()?))
            }
            "call.ended" => ("CHANNEL_HANGUP_COMPLETE", self.settings.on_disconnect.as_ref()),
            _ => return None,
        };
        let ended = event.kind == "call.ended";
        let leg = Leg {
            call_id: event.subject.as_deref(),
            begun_utc_us: facts.begun_utc_us(event),
            ended_utc_us: event.utc_us,
            facts: &facts,
            domain: self.settings.domain.as_deref(),
        };
        let fields = if ended { leg.record() } else { leg.document() };
        let body = match template {
            Some(template) => filled(template, fields, name, &facts),
            None => Value::Object(fields).to_string(),
        };
        Some(self.frozen(event, body))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let mut request = Request::post(frozen, "application/json; charset=utf-8");
        request.headers.extend(self.authorization.clone());
        request
    }

    fn test(&self, event: &CloudEvent) -> Frozen {
        let mut fields = Fields::default();
        fields.put("Event-Name", Some("CUSTOM"));
        fields.put("Event-Subclass", Some("tipring::test"));
        fields.put("domain_name", self.settings.domain.as_deref());
        self.frozen(event, Value::Object(fields.0).to_string())
    }
}

/// A leg for a call detail record.
pub struct Leg<'a> {
    /// The call that it belongs to.
    pub call_id: Option<&'a str>,
    /// When it began, in microseconds since 1970 UTC.
    pub begun_utc_us: i64,
    /// When it ended; of no meaning before its end.
    pub ended_utc_us: i64,
    /// What is known of it.
    pub facts: &'a Facts,
    /// `domain_name` and the host of `presence_id`.
    pub domain: Option<&'a str>,
}

impl Leg<'_> {
    /// The document without what only its end tells.
    fn document(&self) -> Map<String, Value> {
        let facts = self.facts;
        let mut fields = Fields::default();
        fields.put("uuid", facts.leg_id.as_deref());
        fields.put("parent_uuid", self.call_id);
        fields.put("direction", facts.direction().map(direction));
        fields.put("caller_id_name", facts.caller.name.as_deref());
        fields.put("caller_id_number", number(&facts.caller));
        fields.put("destination_number", number(&facts.called));
        fields.put("rdnis", facts.diverted.as_ref().and_then(|it| number(&it.by)));
        fields.put("domain_name", self.domain);
        let own =
            facts.sides().and_then(|(own, _)| own.number.as_ref()).map(|number| number.dialled.as_str());
        fields.put("extension", own);
        fields.put("presence_id", own.zip(self.domain).map(|(own, domain)| format!("{own}@{domain}")));
        fields.put("gateway", facts.line.as_deref());
        fields.0
    }

    /// The document of a leg that is over.
    pub fn record(&self) -> Map<String, Value> {
        let facts = self.facts;
        let mut fields = Fields(self.document());
        let cause = facts.result().and_then(|result| hangup_cause(result, facts));
        fields.put("hangup_cause", cause.and_then(|(name, _)| name));
        fields.put("hangup_cause_q850", cause.map(|(_, number)| number));
        fields.put("hangup_disposition", disposition(facts));
        let seconds = |us: u64| us / 1_000_000;
        fields.put("duration", Some(seconds(facts.total_us)));
        fields.put("billsec", Some(seconds(facts.talk_us)));
        fields.put("talksec", Some(seconds(facts.talk_us)));
        fields.put("waitsec", Some(seconds(facts.ring_us)));
        fields.put("holdsec", Some(seconds(facts.hold_us)));
        fields.put("answersec", facts.was_answered().then(|| seconds(facts.ring_us)));
        let mut times = Fields::default();
        let begun = self.begun_utc_us;
        if begun >= CLOCK_WAS_SET {
            fields.put("created_time", Some(begun / 1000));
            times.put("created", Some(begun));
            let answered = begun.saturating_add(i64::try_from(facts.ring_us).unwrap_or(0));
            times.put("answered", facts.was_answered().then_some(answered));
            times.put("hangup", Some(self.ended_utc_us));
        }
        times.put("hold_accum", Some(facts.hold_us));
        fields.put("callflow", Some(json!([{ "times": times.0 }])));
        fields.put("variables", Some(variables(facts)));
        fields.0
    }
}

/// A JSON object whose unknown fields are absent.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

/// A body with variables: the fields of the document, those of its `variables`, and the name of the event.
fn filled(template: &Template, mut fields: Map<String, Value>, name: &str, facts: &Facts) -> String {
    if let Value::Object(variables) = variables(facts) {
        fields.extend(variables);
    }
    fields.insert("event".to_owned(), name.into());
    fields.insert("rule".to_owned(), facts.rule.as_deref().into());
    template.fill_json(&fields)
}

/// What FreeSWITCH has as channel variables.
fn variables(facts: &Facts) -> Value {
    let mut variables = Fields::default();
    variables.put("sip_call_id", facts.sip_call_id.as_deref());
    variables.put("sip_to_user", facts.did.as_ref().map(spelled));
    variables.put("sip_term_status", facts.cause.status);
    Value::Object(variables.0)
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "inbound",
        Direction::Out => "outbound",
    }
}

/// Who ended the leg, and how far it was.
fn disposition(facts: &Facts) -> Option<&'static str> {
    Some(match (facts.cause.by?, facts.was_answered(), facts.direction()?) {
        (EndedBy::Local, true, _) => "send_bye",
        (EndedBy::Remote, true, _) => "recv_bye",
        (EndedBy::Local, false, Direction::In) => "send_refuse",
        (EndedBy::Remote, false, Direction::In) => "recv_cancel",
        (EndedBy::Local, false, Direction::Out) => "send_cancel",
        (EndedBy::Remote, false, Direction::Out) => "recv_refuse",
        (EndedBy::Network, ..) => return None,
    })
}

/// The cause in FreeSWITCH's words, and its number: that of Q.850 where the network gave one. `None` where FreeSWITCH has no
/// word for a result.
pub fn hangup_cause(result: CallResult, facts: &Facts) -> Option<(Option<&'static str>, u16)> {
    let given = facts.cause.q850.map(u16::from);
    let incoming = facts.direction() == Some(Direction::In);
    let (name, number) = match (result, given, facts.cause.status) {
        (CallResult::Answered, ..) => ("NORMAL_CLEARING", 16),
        (CallResult::Busy, ..) => ("USER_BUSY", 17),
        (CallResult::NoAnswer, Some(18), _) => ("NO_USER_RESPONSE", 18),
        (CallResult::NoAnswer, ..) => ("NO_ANSWER", 19),
        (CallResult::Cancelled, ..) => ("ORIGINATOR_CANCEL", 487),
        (CallResult::AnsweredElsewhere, ..) => ("LOSE_RACE", 502),
        (CallResult::Rejected, ..) => ("CALL_REJECTED", 21),
        (CallResult::Barred, ..) if incoming => ("INCOMING_CALL_BARRED", 54),
        (CallResult::Barred, ..) => ("OUTGOING_CALL_BARRED", 52),
        (CallResult::InvalidNumber, Some(28), _) | (CallResult::InvalidNumber, None, Some(484)) => {
            ("INVALID_NUMBER_FORMAT", 28)
        }
        (CallResult::InvalidNumber, ..) => ("UNALLOCATED_NUMBER", 1),
        (CallResult::Unreachable, Some(20), _) => ("SUBSCRIBER_ABSENT", 20),
        (CallResult::Unreachable, ..) => ("USER_NOT_REGISTERED", 606),
        (CallResult::Congestion, Some(38), _) => ("NETWORK_OUT_OF_ORDER", 38),
        (CallResult::Congestion, Some(41), _) => ("NORMAL_TEMPORARY_FAILURE", 41),
        (CallResult::Congestion, Some(42), _) => ("SWITCH_CONGESTION", 42),
        (CallResult::Congestion, ..) => ("NORMAL_CIRCUIT_CONGESTION", 34),
        (CallResult::MediaLost, ..) => ("MEDIA_TIMEOUT", 604),
        (CallResult::NoFunds | CallResult::Failed, ..) => return given.map(|number| (None, number)),
    };
    Some((Some(name), given.unwrap_or(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dialects::WEBITEL_WORDS;
    use crate::config::{Config, Redaction};
    use crate::events::upstream::filter::Filter;
    use crate::events::upstream::samples::{TODAY, leg, recorded};
    use crate::events::{Cause, Event, Kind, Origin};

    fn settings(table: &str) -> config::Upstream {
        let text = format!(
            "[[upstream]]\nname = \"pbx\"\nkind = \"webitel\"\nurl = \"https://cdr.example/hook?key=1\"\n\
             authorization = \"Bearer t\"\n[upstream.webitel]\ndomain = \"x.webitel.com\"\n{table}\n"
        );
        Config::parse(&text, "t.toml").expect("a configuration").upstream.remove(0)
    }

    fn ended(direction: Direction, result: CallResult, cause: Cause) -> CloudEvent {
        let talked = matches!(result, CallResult::Answered | CallResult::MediaLost);
        let kind = Kind::CallEnded {
            leg: leg(direction),
            result,
            cause,
            total_us: 10_900_000,
            ring_us: 3_999_999,
            talk_us: if talked { 6_900_001 } else { 0 },
            hold_us: 1_500_000,
            quality: None,
            recording_id: None,
            vote: None,
        };
        recorded(Event::of_call("c1", kind))
    }

    fn sent(settings: &config::Upstream, event: &CloudEvent) -> Option<Value> {
        let event = Filter::of(&config::Upstream { events: vec!["*".into()], ..settings.clone() })
            .pass(event.clone())?;
        let webitel = Webitel::new(settings);
        let request = webitel.request(&webitel.render(&event)?, Now::default());
        assert_eq!((request.method, request.target.as_str()), ("POST", "/hook?key=1"));
        assert_eq!(request.headers.last(), Some(&("authorization", "Bearer t".to_owned())));
        Some(serde_json::from_slice(&request.body).expect("JSON"))
    }

    #[test]
    fn the_end_of_a_leg_is_a_call_detail_record_with_webitels_names() {
        let cause = Cause { q850: Some(16), ..Cause::remote(200, "bye") };
        let record =
            sent(&settings(""), &ended(Direction::In, CallResult::Answered, cause)).expect("a record");
        let begun = TODAY - 10_900_000;
        let expected = json!({
            "uuid": "c1-1", "parent_uuid": "c1", "direction": "inbound", "gateway": "office",
            "caller_id_name": "Anna & Co", "caller_id_number": "+74951234567",
            "destination_number": "101", "rdnis": "102", "domain_name": "x.webitel.com",
            "extension": "101", "presence_id": "101@x.webitel.com",
            "hangup_cause": "NORMAL_CLEARING", "hangup_cause_q850": 16, "hangup_disposition": "recv_bye",
            "created_time": begun / 1000, "duration": 10, "billsec": 6, "talksec": 6,
            "waitsec": 3, "answersec": 3, "holdsec": 1,
            "callflow": [{ "times": {
                "created": begun, "answered": begun + 3_999_999, "hangup": TODAY, "hold_accum": 1_500_000
            } }],
            "variables": {
                "sip_call_id": "x@192.0.2.1", "sip_to_user": "+74957654321", "sip_term_status": 200
            },
        });
        assert_eq!(record, expected);
        let missed = sent(&settings(""), &ended(Direction::In, CallResult::Cancelled, Cause::default()));
        let missed = missed.expect("a record");
        for unknown in ["answersec", "hangup_disposition", "quality_percentage_audio", "leg", "network_addr"]
        {
            assert_eq!(missed.get(unknown), None, "{unknown} is not known");
        }
        assert_eq!(missed["callflow"][0]["times"].get("answered"), None);
        let redact = vec![Redaction::Numbers, Redaction::Names];
        let hidden = config::Upstream { redact, ..settings("") };
        let hidden =
            sent(&hidden, &ended(Direction::Out, CallResult::Answered, Cause::default())).expect("a record");
        assert_eq!((&hidden["destination_number"], hidden.get("caller_id_name")), (&"***567".into(), None));
        assert!(!hidden.to_string().contains("1234"), "{hidden}");
    }

    #[test]
    fn every_result_has_freeswitchs_cause_and_the_networks_number_wins() {
        let of = |direction, result, status, q850| {
            let cause = Cause { status, q850, ..Cause::default() };
            let record = sent(&settings(""), &ended(direction, result, cause)).expect("a record");
            (record["hangup_cause"].as_str().map(str::to_owned), record["hangup_cause_q850"].as_u64())
        };
        use CallResult as R;
        use Direction::{In, Out};
        for (direction, result, status, q850, name, number) in [
            (Out, R::Answered, None, None, "NORMAL_CLEARING", 16),
            (Out, R::Busy, Some(486), None, "USER_BUSY", 17),
            (Out, R::NoAnswer, Some(480), Some(18), "NO_USER_RESPONSE", 18),
            (Out, R::NoAnswer, Some(408), None, "NO_ANSWER", 19),
            (In, R::Cancelled, Some(487), None, "ORIGINATOR_CANCEL", 487),
            (In, R::AnsweredElsewhere, None, Some(26), "LOSE_RACE", 26),
            (In, R::AnsweredElsewhere, Some(200), None, "LOSE_RACE", 502),
            (Out, R::Rejected, Some(603), None, "CALL_REJECTED", 21),
            (In, R::Barred, None, None, "INCOMING_CALL_BARRED", 54),
            (Out, R::Barred, Some(403), None, "OUTGOING_CALL_BARRED", 52),
            (Out, R::InvalidNumber, Some(404), None, "UNALLOCATED_NUMBER", 1),
            (Out, R::InvalidNumber, Some(484), None, "INVALID_NUMBER_FORMAT", 28),
            (Out, R::Unreachable, Some(480), Some(20), "SUBSCRIBER_ABSENT", 20),
            (Out, R::Unreachable, Some(480), None, "USER_NOT_REGISTERED", 606),
            (Out, R::Congestion, Some(503), Some(38), "NETWORK_OUT_OF_ORDER", 38),
            (Out, R::Congestion, Some(503), Some(41), "NORMAL_TEMPORARY_FAILURE", 41),
            (Out, R::Congestion, Some(503), Some(42), "SWITCH_CONGESTION", 42),
            (Out, R::Congestion, Some(503), None, "NORMAL_CIRCUIT_CONGESTION", 34),
            (In, R::MediaLost, None, None, "MEDIA_TIMEOUT", 604),
        ] {
            assert_eq!(
                of(direction, result, status, q850),
                (Some(name.to_owned()), Some(number)),
                "{result}"
            );
        }
        assert_eq!(of(Out, R::NoFunds, Some(402), None), (None, None), "FreeSWITCH has no word for it");
        assert_eq!(of(Out, R::Failed, None, Some(111)), (None, Some(111)));
    }

    #[test]
    fn who_ended_a_leg_is_told_as_far_as_it_is_known() {
        use EndedBy::{Local, Network, Remote};
        for (by, direction, result, expected) in [
            (Some(Local), Direction::In, CallResult::Answered, Some("send_bye")),
            (Some(Remote), Direction::Out, CallResult::Answered, Some("recv_bye")),
            (Some(Local), Direction::In, CallResult::Rejected, Some("send_refuse")),
            (Some(Remote), Direction::In, CallResult::Cancelled, Some("recv_cancel")),
            (Some(Local), Direction::Out, CallResult::Cancelled, Some("send_cancel")),
            (Some(Remote), Direction::Out, CallResult::Busy, Some("recv_refuse")),
            (Some(Network), Direction::Out, CallResult::Unreachable, None),
            (None, Direction::Out, CallResult::Failed, None),
        ] {
            let record = sent(&settings(""), &ended(direction, result, Cause { by, ..Cause::default() }));
            let record = record.expect("a record");
            assert_eq!(record["hangup_disposition"].as_str(), expected, "{by:?} {direction:?} {result}");
        }
    }

    #[test]
    fn hooks_are_sent_where_there_is_a_body_for_them_with_every_variable() {
        let created = recorded(Event::of_call(
            "c1",
            Kind::CallNew { leg: leg(Direction::In), origin: Origin::Network },
        ));
        let answered = Kind::CallAnswered { leg: leg(Direction::In), ring_us: 1, automatic: None };
        let answered = recorded(Event::of_call("c1", answered));
        let bare = settings("");
        assert_eq!((sent(&bare, &created), sent(&bare, &answered)), (None, None));
        let hooks = settings(
            "channel_create = '{\"e\": ${event}, \"text\": \"From ${caller_id_name} <$caller_id_number>\"}'\n\
             channel_answer = '[\"$event\", $uuid, $duration]'",
        );
        let text = "From Anna & Co <+74951234567>";
        assert_eq!(sent(&hooks, &created), Some(json!({ "e": "CHANNEL_CREATE", "text": text })));
        assert_eq!(sent(&hooks, &answered), Some(json!(["CHANNEL_ANSWER", "c1-1", null])));
        let all: Vec<String> = WEBITEL_WORDS.iter().map(|word| format!("\"{word}\": ${{{word}}}")).collect();
        let all = settings(&format!("on_disconnect = '{{{}}}'", all.join(", ")));
        let cause = Cause::remote(200, "bye");
        let all = sent(&all, &ended(Direction::In, CallResult::Answered, cause)).expect("a body");
        assert_eq!(all["event"], "CHANNEL_HANGUP_COMPLETE");
        for word in WEBITEL_WORDS.iter().filter(|word| **word != "rule") {
            assert!(!all[word].is_null(), "{word} is never known");
        }
        for kind in
            [Kind::NetworkChanged { addresses: vec![] }, Kind::Gap { first: 1, last: 2, reason: None }]
        {
            assert_eq!(sent(&hooks, &recorded(Event::new(kind))), None);
        }
    }

    #[test]
    fn a_call_outside_of_the_hours_is_told_with_its_rule_and_the_number_that_was_called() {
        let hook = settings("out_of_hours = '[$event, $rule, $sip_to_user, $caller_id_number]'");
        let refused = |rule: &str| {
            let (leg, origin) = (leg(Direction::In), Origin::Network);
            let kind = Kind::CallRefused { leg, origin, rule: rule.into(), text: "nobody is there".into() };
            recorded(Event::of_call("c1", kind))
        };
        let expected =
            json!(["CUSTOM->tipring::out_of_hours", "hours.holidays", "+74957654321", "+74951234567"]);
        assert_eq!(sent(&hook, &refused("hours.holidays")), Some(expected));
        assert_eq!(sent(&hook, &refused("blacklist.numbers")), None);
        assert_eq!(sent(&settings(""), &refused("hours.open")), None);
    }

    #[test]
    fn a_test_is_no_call() {
        let webitel = Webitel::new(&settings(""));
        let test = webitel.test(&recorded(Event::new(Kind::NetworkChanged { addresses: vec![] })));
        let test: Value = serde_json::from_slice(&test.body).expect("JSON");
        let expected = json!({ "Event-Name": "CUSTOM", "Event-Subclass": "tipring::test", "domain_name": "x.webitel.com" });
        assert_eq!(test, expected);
    }
}

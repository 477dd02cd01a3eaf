//! Rostelecom's virtual PBX: what happens in a call as the `call_events` that it sends to a CRM, signed as it signs them.
//!
//! The signature is a plain hash over the exact bytes of the body, so these are frozen and never written anew. Moments are
//! those of Moscow, without saying so. What this phone does not know is an empty text, as theirs are.

pub mod call_info;
pub mod requests;

use ring::digest;
use serde::{Deserialize, Serialize};

use super::dialect::{Dialect, Frozen, Request};
use super::facts::{Facts, shown, spelled};
use super::outcome::{Outcome, Verdict};
use super::turn::Heard;
use crate::config;
use crate::events::cloud_event::rfc3339;
use crate::events::{CloudEvent, Direction, Number};
use crate::now::{CLOCK_WAS_SET, Now};
use call_info::{Place, inside_pin};

/// Moscow is so far ahead of UTC.
const MOSCOW_US: i64 = 3 * 3_600_000_000;
/// Characters that are shown of what an answer says.
const LONGEST_SAID: usize = 200;
/// Bytes of an answer that are looked at; a longer one is as good as none, and the status counts.
const LARGEST_ANSWER: usize = 16 << 10;
/// Bytes of a name or number in an address.
const LONGEST_USER: usize = 256;

/// The type of the event that an order can be fetched.
const HISTORY_READY: &str = "history.ready";
/// The last part of the path that a CRM has for events of calls, and of the one beside it for orders.
const CALL_EVENTS: &str = "/call_events";
const HISTORY_COMPLETED: &str = "/history_file_completed";

/// Requests of the kind `rostelecom`. The body is frozen.
pub struct Rostelecom {
    name: String,
    target: String,
    client_id: String,
    key: String,
    domain: Option<String>,
    pin: Option<String>,
}

/// What the event about an order says.
#[derive(Deserialize)]
struct Ready {
    upstream: String,
    order_id: String,
}

/// A body, with all its fields in their order.
#[derive(Debug, Serialize)]
struct CallEvent<'e> {
    session_id: &'e str,
    timestamp: &'e str,
    r#type: &'e str,
    state: &'e str,
    from_number: &'e str,
    from_pin: &'e str,
    request_number: &'e str,
    request_pin: &'e str,
    disconnect_reason: &'e str,
    is_record: &'e str,
}

impl Rostelecom {
    /// The kind `rostelecom` with these settings.
    pub fn new(settings: &config::Upstream) -> Rostelecom {
        let rostelecom = &settings.rostelecom;
        Rostelecom {
            name: settings.name.clone(),
            target: settings.url.path().to_owned(),
            client_id: rostelecom.client_id.clone().unwrap_or_default(),
            key: rostelecom.key.reveal().to_owned(),
            domain: rostelecom.domain.clone(),
            pin: rostelecom.pin.clone(),
        }
    }

    fn frozen(&self, event: &CloudEvent, body: &CallEvent<'_>) -> Frozen {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Frozen { id: event.id.to_string(), target: self.target.clone(), body }
    }

    /// An order of this upstream's can be fetched. It is told where their own is: beside the call events.
    fn history(&self, event: &CloudEvent) -> Option<Frozen> {
        let ready: Ready = serde_json::from_str(&event.data).ok()?;
        let body = serde_json::to_vec(&serde_json::json!({ "order_id": ready.order_id })).ok()?;
        let (path, query) = self
            .target
            .split_once('?')
            .map_or((self.target.as_str(), None), |(path, query)| (path, Some(query)));
        let path = match path.strip_suffix(CALL_EVENTS) {
            Some(before) => format!("{before}{HISTORY_COMPLETED}"),
            None => path.to_owned(),
        };
        let target = query.map(|query| format!("{path}?{query}")).unwrap_or(path);
        (ready.upstream == self.name).then(|| Frozen { id: event.id.to_string(), target, body })
    }

    fn place(&self) -> Place<'_> {
        Place { domain: self.domain.as_deref(), pin: self.pin.as_deref() }
    }
}

impl Dialect for Rostelecom {
    fn speaks_of(&self, kind: &str) -> bool {
        kind == HISTORY_READY || STATES.iter().any(|(it, _)| *it == kind)
    }

    fn pops_up(&self, kind: &str) -> bool {
        matches!(kind, "call.new" | "call.ringing" | "call.dialing")
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        if event.kind == HISTORY_READY {
            return self.history(event);
        }
        let (_, state) = STATES.iter().find(|(it, _)| *it == event.kind)?;
        let facts = Facts::of(event);
        let (own, remote) = facts.sides()?;
        let direction = facts.direction()?;
        // A call rings at one side and is dialled at the other.
        if event.kind == "call.ringing" && direction == Direction::Out {
            return None;
        }
        let (place, remote_pin) = (self.place(), inside_pin(remote));
        let kind = match (remote_pin, direction) {
            (Some(_), _) => "internal",
            (None, Direction::In) => "incoming",
            (None, Direction::Out) => "outbound",
        };
        let own_pin = place.own_pin(own);
        let pins = match direction {
            Direction::In => (remote_pin, own_pin),
            Direction::Out => (own_pin, remote_pin),
        };
        let requested = facts.did.as_ref().or(facts.called.number.as_ref());
        let body = CallEvent {
            session_id: event.subject.as_deref().unwrap_or_default(),
            timestamp: &moscow(event.utc_us),
            r#type: kind,
            state,
            from_number: &place.address(&facts.caller, facts.caller.number.as_ref()),
            from_pin: pins.0.unwrap_or_default(),
            request_number: &place.address(&facts.called, requested),
            request_pin: pins.1.unwrap_or_default(),
            disconnect_reason: "",
            is_record: if facts.recording_id.is_some() { "true" } else { "" },
        };
        Some(self.frozen(event, &body))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let mut request = Request::post(frozen, "application/json");
        let sign = sign(&self.client_id, &frozen.body, &self.key);
        request.headers.extend([("x-client-id", self.client_id.clone()), ("x-client-sign", sign)]);
        request.reads = LARGEST_ANSWER;
        request
    }

    fn heard(&mut self, _: &Frozen, outcome: &Outcome, _: Now) -> Heard {
        let verdict = outcome.verdict();
        let body = (verdict == Verdict::Taken).then(|| outcome.said());
        let Some((result, said)) = body.and_then(declined) else { return Heard::over(verdict) };
        let said = said.map(|it| format!(": {it}")).unwrap_or_default();
        let cure = "look into its log: it does not take what it is sent";
        Heard::trouble(Verdict::Refused, format!("it answers the result {result}{said}"), cure)
    }

    /// A body whose state is none, and which is about no call.
    fn test(&self, event: &CloudEvent) -> Frozen {
        let body = CallEvent {
            session_id: "",
            timestamp: &moscow(event.utc_us),
            r#type: "",
            state: "test",
            from_number: "",
            from_pin: "",
            request_number: "",
            request_pin: "",
            disconnect_reason: "",
            is_record: "",
        };
        self.frozen(event, &body)
    }
}

/// Types of events, and the states that a call is in then.
const STATES: &[(&str, &str)] = &[
    ("call.new", "new"),
    ("call.ringing", "calling"),
    ("call.dialing", "calling"),
    ("call.answered", "connected"),
    ("call.ended", "disconnected"),
    ("call.closed", "end"),
];

/// The value of `X-Client-Sign`: SHA-256 over client id, the exact bytes of the body, and key, in lower-case hexadecimal.
pub fn sign(client_id: &str, body: &[u8], key: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [client_id.as_bytes(), body, key.as_bytes()] {
        context.update(part);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an answer says, behind a 2xx, that what was sent is not taken: by a `result` below 0, as number or text. Anything
/// else, and what is no JSON, is as good as 0: handlers answer whatever their author thought of.
pub fn declined(body: &[u8]) -> Option<(i64, Option<String>)> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let result = answer.get("result")?;
    let result = result.as_i64().or_else(|| result.as_str()?.trim().parse().ok()).filter(|it| *it < 0)?;
    let said = answer.get("resultMessage").and_then(|it| it.as_str()).map(|it| shown(it, LONGEST_SAID));
    Some((result, said.filter(|it| !it.is_empty())))
}

/// A moment as Moscow's clocks show it, in milliseconds: `2019-12-27 15:34:44.461`; empty while the clock was not set.
fn moscow(utc_us: i64) -> String {
    if utc_us < CLOCK_WAS_SET {
        return String::new();
    }
    let text = rfc3339(utc_us.saturating_add(MOSCOW_US));
    let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..23).unwrap_or_default());
    format!("{date} {time}")
}

/// A number as they write it: of a public one the digits alone.
fn spoken_of(number: &Number) -> &str {
    let user = spelled(number);
    user.strip_prefix('+').unwrap_or(user)
}

/// What somebody calls himself, as the user of a SIP URI (RFC 3261 §25.1).
fn escaped(user: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&byte);
    let bytes = user.bytes().take(user.floor_char_boundary(LONGEST_USER));
    bytes
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Redaction};
    use crate::events::upstream::filter::Filter;
    use crate::events::upstream::samples::{leg, recorded};
    use crate::events::{CallResult, Cause, Event, Kind, Leg, Origin, Party};

    const CLIENT: &str = "000003C405E6525C64C184258C44EC99";
    const KEY: &str = "00000716ABDA6D4DFF10F82BCBBFC532";

    fn settings() -> config::Upstream {
        settings_at("https://crm.example/rt?key=1")
    }

    fn settings_at(url: &str) -> config::Upstream {
        let text = format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"rostelecom\"\nurl = \"{url}\"\n\
             [upstream.rostelecom]\nclient_id = \"{CLIENT}\"\nkey = \"{KEY}\"\ndomain = \"192.168.0.1\"\npin = \"607\"\n"
        );
        Config::parse(&text, "t.toml").expect("a configuration").upstream.remove(0)
    }

    fn sent(settings: &config::Upstream, kind: Kind) -> Option<String> {
        let event = Filter::of(settings).pass(recorded(Event::of_call("SDsnZugDFmTW7Sec", kind)))?;
        let rostelecom = Rostelecom::new(settings);
        let request = rostelecom.request(&rostelecom.render(&event)?, Now::default());
        assert_eq!((request.method, request.target.as_str()), ("POST", "/rt?key=1"));
        let sign = sign(CLIENT, &request.body, KEY);
        let expected =
            [("content-type", "application/json"), ("x-client-id", CLIENT), ("x-client-sign", &sign)];
        assert_eq!(request.headers, expected.map(|(name, value)| (name, value.to_owned())));
        Some(String::from_utf8(request.body).expect("text"))
    }

    fn ended(leg: &Leg, recording_id: Option<String>) -> Kind {
        Kind::CallEnded {
            leg: leg.clone(),
            result: CallResult::Answered,
            cause: Cause::default(),
            total_us: 14_000_000,
            ring_us: 9_000_000,
            talk_us: 5_000_000,
            hold_us: 0,
            quality: None,
            recording_id,
            vote: None,
        }
    }

    #[test]
    fn the_printed_vector_has_the_printed_signature() {
        let body = br#"{"request_number": "+74951234567","from_sipuri": "test_user@cloudpbx.rt.ru"}"#;
        let expected = "fc95a524342dc68df90f7488e6d821c5a8a3b667d585490b50ebf939f1202c36";
        assert_eq!(sign(CLIENT, body, KEY), expected);
        let other = br#"{"request_number":"+74951234567","from_sipuri":"test_user@cloudpbx.rt.ru"}"#;
        assert_ne!(sign(CLIENT, other, KEY), expected, "a blank counts");
    }

    #[test]
    fn moments_are_those_of_moscow_with_three_decimals() {
        assert_eq!(moscow(1_577_836_800_461_999), "2020-01-01 03:00:00.461");
        assert_eq!(moscow(1_577_912_400_000_000), "2020-01-02 00:00:00.000", "another day than in London");
        assert_eq!(moscow(1_000_000), "", "the clock was not set");
    }

    #[test]
    fn an_incoming_call_goes_through_all_states_in_their_fields_and_order() {
        let mut called = leg(Direction::In);
        called.did = Some(Number::new("+74957654321"));
        let settings = settings();
        let new = sent(&settings, Kind::CallNew { leg: called.clone(), origin: Origin::Network });
        assert_eq!(
            new.as_deref(),
            Some(
                "{\"session_id\":\"SDsnZugDFmTW7Sec\",\"timestamp\":\"2026-11-20 03:00:00.000\",\"type\":\"incoming\",\
                 \"state\":\"new\",\"from_number\":\"sip:74951234567@192.168.0.1\",\"from_pin\":\"\",\
                 \"request_number\":\"sip:74957654321@192.168.0.1\",\"request_pin\":\"607\",\
                 \"disconnect_reason\":\"\",\"is_record\":\"\"}"
            )
        );
        let closed = Kind::CallClosed {
            line: "office".into(),
            direction: Direction::In,
            caller: called.caller.clone(),
            called: called.called.clone(),
            did: called.did.clone(),
            result: CallResult::Answered,
            missed: false,
            legs: 1,
            total_us: 14_000_000,
            talk_us: 5_000_000,
        };
        let kinds = [
            (Kind::CallRinging { leg: called.clone() }, "calling", ""),
            (Kind::CallAnswered { leg: called.clone(), ring_us: 9, automatic: None }, "connected", ""),
            (ended(&called, Some("r1".into())), "disconnected", "true"),
            (closed, "end", ""),
        ];
        for (kind, state, recorded) in kinds {
            let body = sent(&settings, kind).expect("it is told");
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((&body["state"], &body["is_record"]), (&state.into(), &recorded.into()), "{body}");
            assert_eq!(body["session_id"], "SDsnZugDFmTW7Sec");
        }
    }

    #[test]
    fn an_outgoing_call_is_dialled_once_and_a_pin_makes_it_internal() {
        let calling = leg(Direction::Out);
        let settings = settings();
        let of = |kind| {
            let body = sent(&settings, kind)?;
            serde_json::from_str::<serde_json::Value>(&body).ok()
        };
        let dialling = of(Kind::CallDialing { leg: calling.clone() }).expect("it is told");
        assert_eq!((&dialling["type"], &dialling["state"]), (&"outbound".into(), &"calling".into()));
        assert_eq!((&dialling["from_pin"], &dialling["request_pin"]), (&"607".into(), &"".into()));
        assert_eq!(of(Kind::CallRinging { leg: calling.clone() }), None, "it is dialled already");
        let inside = Leg { called: Party::numbered("703"), did: None, ..calling.clone() };
        let inside = of(Kind::CallDialing { leg: inside }).expect("it is told");
        assert_eq!((&inside["type"], &inside["request_pin"]), (&"internal".into(), &"703".into()));
        let withheld = Leg { caller: Party::default(), ..leg(Direction::In) };
        assert_eq!(of(Kind::CallRinging { leg: withheld }).expect("it is told")["from_number"], "");
        let hidden = config::Upstream { redact: vec![Redaction::Numbers], ..self::settings() };
        let hidden = sent(&hidden, ended(&leg(Direction::In), None)).expect("it is told");
        assert!(hidden.contains("sip:***567@192.168.0.1") && !hidden.contains("1234567"), "{hidden}");
    }

    #[test]
    fn an_order_is_told_to_whom_it_belongs_beside_the_call_events() {
        let of = |url: &str, upstream: &str| {
            let settings = settings_at(url);
            let kind = Kind::HistoryReady { upstream: upstream.into(), order_id: "5a\"56".into() };
            let event = Filter::of(&settings).pass(recorded(Event::new(kind)))?;
            Rostelecom::new(&settings)
                .render(&event)
                .map(|it| (it.target, String::from_utf8(it.body).expect("text")))
        };
        let body = r#"{"order_id":"5a\"56"}"#.to_owned();
        let told = of("https://crm.example/rt/call_events?key=1", "crm");
        assert_eq!(told, Some(("/rt/history_file_completed?key=1".into(), body.clone())));
        assert_eq!(
            of("https://crm.example/rt?key=1", "crm"),
            Some(("/rt?key=1".into(), body)),
            "one place for all"
        );
        assert_eq!(of("https://crm.example/rt/call_events", "other"), None);
    }

    #[test]
    fn a_negative_result_is_a_refusal_and_anything_else_is_not() {
        let no = |code| Some((code, None));
        for (body, expected) in [
            (r#"{"result":-20,"resultMessage":"no\u202e\nway"}"#, Some((-20, Some("no way".to_owned())))),
            (r#"{"result":"-20","resultMessage":""}"#, no(-20)),
            (r#"{"result":" -1 "}"#, no(-1)),
            (r#"{"result":0}"#, None),
            (r#"{"result":"0","resultMessage":" "}"#, None),
            (r#"{"result":"1","resultMessage":"done"}"#, None),
            (r#"{"result":[-20]}"#, None),
            ("OK", None),
            ("", None),
            ("-20", None),
        ] {
            assert_eq!(declined(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn nobody_gets_out_of_an_address() {
        for hostile in ["a@evil.example", "1;x=\r\nX-Evil: 1", "\",\"state\":\"end", "é\u{202e}<>&"] {
            let leg = Leg { caller: Party::numbered(hostile), ..leg(Direction::In) };
            let body = sent(&settings(), Kind::CallRinging { leg }).expect("it is told");
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let from = body["from_number"].as_str().expect("text");
            assert!(
                from.matches('@').count() == 1 && from.bytes().all(|byte| byte.is_ascii_graphic()),
                "{from}"
            );
            assert_eq!(body["state"], "calling");
        }
        assert!(escaped(&"é".repeat(10_000)).len() <= 3 * LONGEST_USER);
    }
}

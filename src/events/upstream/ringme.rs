//! Ringme (Telphin, VoipNow): what happens on an extension as the form that those PBXs send for it.
//!
//! Names are theirs, `Transfered` with one r among them; moments and durations are microseconds. Each leg is told by itself:
//! `dial-in` or `dial-out`, `answer`, and one `hangup` with its `SubCallID`. An agent is `available` or `logged_out`; a message in
//! the mailbox is `voicemail`. What this phone does not know is left out.

use super::dialect::{Dialect, Frozen, Request, authorization};
use super::facts::{Facts, digits, host, number};
use super::form::Form;
use crate::config::{self, HttpMethod, LetterCase, Sender, dialects};
use crate::events::{CallResult, CloudEvent, Direction, Party};
use crate::now::{CLOCK_WAS_SET, Now};

/// The name of the event that a message in the mailbox is.
const VOICEMAIL: &str = "voicemail";

/// Requests of the kind `ringme`. All of it is frozen.
pub struct Ringme {
    target: String,
    settings: dialects::Ringme,
    authorization: Option<(&'static str, String)>,
}

impl Ringme {
    /// The kind `ringme` with these settings.
    pub fn new(settings: &config::Upstream) -> Ringme {
        Ringme {
            target: settings.url.path().to_owned(),
            settings: settings.ringme.clone(),
            authorization: authorization(settings),
        }
    }

    /// Where events of this name are told; `None` where nobody wants them.
    fn target(&self, name: &str) -> Option<String> {
        let ringme = &self.settings;
        if ringme.sender != Sender::Phone && name != "hangup" {
            return None;
        }
        if ringme.urls().next().is_none() {
            return Some(self.target.clone());
        }
        ringme.urls().find(|(event, _)| *event == name).map(|(_, path)| path.fill_url(|_| None::<&str>))
    }

    fn frozen(&self, event: &CloudEvent, mut target: String, form: Form) -> Frozen {
        let mut body = form.into_text();
        if self.settings.method == HttpMethod::Get {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&std::mem::take(&mut body));
        }
        Frozen { id: event.id.to_string(), target, body: body.into_bytes() }
    }

    fn form(&self, event: &CloudEvent, facts: &Facts, name: &str, direction: Direction) -> Form {
        let mut form = Form::default();
        form.put("EventType", Some(name));
        form.put_number("EventTime", moment(event));
        form.put("CallID", event.subject.as_deref());
        form.put("SubCallID", facts.leg_id.as_deref().map(|leg| self.of_extension(leg)).as_deref());
        form.put("CallAPIID", event.subject.as_deref());
        form.put("CallFlow", Some(self.flow(direction)));
        let ended = name == "hangup";
        form.put("CallStatus", Some(status(name, facts)));
        form.put("CallerIDNum", number(&facts.caller));
        form.put("CallerIDName", facts.caller.name.as_deref());
        self.extensions(&mut form, facts, direction);
        form.put("CalledDID", facts.did.as_ref().map(digits));
        let followed = facts.follows.is_some();
        match direction {
            Direction::Out => form.put("Transfered", followed.then_some("yes")),
            Direction::In => {
                let named = facts.connected.as_ref().or_else(|| followed.then_some(&facts.caller));
                form.put("RemoteNumber", named.and_then(number));
            }
        }
        form.put("CallBackID", facts.callback_id.as_deref());
        form.put("Tag", facts.line.as_deref());
        if ended {
            form.put_number("Duration", Some(facts.total_us));
            form.put_number("BridgedDuration", Some(facts.talk_us).filter(|_| facts.was_answered()));
            form.put("RecID", facts.recording_id.as_deref().map(|id| self.of_extension(id)).as_deref());
        }
        if ended && self.settings.sender != Sender::Phone {
            form.put("Bridged", Some(if was_bridged(facts) { "yes" } else { "no" }));
        }
        form
    }

    /// Whether the agent is there: who, and since when.
    fn agent_form(&self, event: &CloudEvent, facts: &Facts, state: &str) -> Form {
        let mut form = Form::default();
        form.put("EventType", Some(state));
        form.put_number("EventTime", moment(event));
        form.put("agent_status", Some(state));
        form.put("agent_type", Some("local"));
        form.put("agent_id", self.settings.extension_id.as_deref());
        form.put("extension_name", self.settings.extension.as_deref());
        form.put("Tag", facts.line.as_deref());
        form
    }

    /// That a message has come: to which extension. What was said in it, and by whom, a mailbox does not tell.
    fn voicemail_form(&self, event: &CloudEvent, facts: &Facts) -> Form {
        let settings = &self.settings;
        let (number, domain) = (settings.extension.as_deref(), settings.domain.as_deref());
        let extension = number.zip(domain).map(|(number, domain)| format!("{number}@{domain}"));
        let mut form = Form::default();
        form.put("EventType", Some(VOICEMAIL));
        form.put_number("EventTime", moment(event));
        form.put("CalledNumber", number);
        form.put("CalledExtension", extension.as_deref());
        form.put("CalledExtensionID", settings.extension_id.as_deref());
        form.put("Tag", facts.line.as_deref());
        form
    }

    /// Who of both sides is an extension: this one always, the other one where its number looks like one.
    fn extensions(&self, form: &mut Form, facts: &Facts, direction: Direction) {
        let Some((own, remote)) = facts.sides() else { return };
        let own_number = self.settings.extension.as_deref().or_else(|| dialled(own));
        let host = self.settings.domain.as_deref().or_else(|| host(own));
        let at = |number: &str| host.map_or_else(|| number.to_owned(), |host| format!("{number}@{host}"));
        let other = dialled(remote).filter(|number| is_extension(number)).map(at);
        let (own, id) = (own_number.map(at), self.settings.extension_id.as_deref());
        let called = match direction {
            Direction::In => own_number,
            Direction::Out => number(remote),
        };
        form.put("CalledNumber", called);
        let (own_name, own_id, other_name) = match direction {
            Direction::In => ("CalledExtension", "CalledExtensionID", "CallerExtension"),
            Direction::Out => ("CallerExtension", "CallerExtensionID", "CalledExtension"),
        };
        form.put(own_name, own.as_deref());
        form.put(own_id, id);
        form.put(other_name, other.as_deref());
    }

    /// An identity of ours in the form that the PBX gives its own: `<extension id>-<identity>`.
    fn of_extension(&self, id: &str) -> String {
        match &self.settings.extension_id {
            Some(extension) => format!("{extension}-{id}"),
            None => id.to_owned(),
        }
    }

    fn flow(&self, direction: Direction) -> &'static str {
        match (direction, self.settings.call_flow) {
            (_, LetterCase::Lower) => direction.as_str(),
            (Direction::In, LetterCase::Upper) => "IN",
            (Direction::Out, LetterCase::Upper) => "OUT",
        }
    }

    /// Whether both sides are extensions, of which whoever wants outside calls alone is told nothing.
    fn is_internal(&self, facts: &Facts) -> bool {
        let own = self.settings.extension.as_deref();
        facts.sides().is_some_and(|(own_side, remote)| {
            own.or_else(|| dialled(own_side)).is_some_and(is_extension)
                && dialled(remote).is_some_and(is_extension)
        })
    }
}

/// The name of an event, by its type and the direction of its leg.
fn name(kind: &str, direction: Direction) -> Option<&'static str> {
    Some(match (kind, direction) {
        ("call.new", Direction::In) => "dial-in",
        ("call.new", Direction::Out) => "dial-out",
        ("call.answered", _) => "answer",
        ("call.ended", _) => "hangup",
        _ => return None,
    })
}

/// What an event of the extension says that belongs to no call: the state of its agent, or that a message has come.
fn of_no_call(kind: &str) -> Option<&'static str> {
    match kind {
        "agent.available" => Some("available"),
        "agent.logged_out" => Some("logged_out"),
        "voicemail.waiting" => Some(VOICEMAIL),
        _ => None,
    }
}

impl Dialect for Ringme {
    fn speaks_of(&self, kind: &str) -> bool {
        let spoken = |direction| name(kind, direction).is_some_and(|name| self.target(name).is_some());
        let alone = of_no_call(kind).is_some_and(|name| self.target(name).is_some());
        alone || spoken(Direction::In) || spoken(Direction::Out)
    }

    fn pops_up(&self, kind: &str) -> bool {
        kind == "call.new"
    }

    fn render(&self, event: &CloudEvent) -> Option<Frozen> {
        let facts = Facts::of(event);
        if let Some(name) = of_no_call(&event.kind) {
            let target = self.target(name)?;
            let form = match name {
                VOICEMAIL if !facts.arrived => return None,
                VOICEMAIL => self.voicemail_form(event, &facts),
                state => self.agent_form(event, &facts, state),
            };
            return Some(self.frozen(event, target, form));
        }
        let direction = facts.direction()?;
        let name = name(&event.kind, direction)?;
        let target = self.target(name)?;
        if self.settings.external_only && self.is_internal(&facts) {
            return None;
        }
        Some(self.frozen(event, target, self.form(event, &facts, name, direction)))
    }

    fn request(&self, frozen: &Frozen, _: Now) -> Request {
        let mut request = match self.settings.method {
            HttpMethod::Post => Request::post(frozen, "application/x-www-form-urlencoded"),
            HttpMethod::Get => Request { method: "GET", target: frozen.target.clone(), ..Request::default() },
        };
        request.headers.extend(self.authorization.clone());
        request
    }

    /// To the first URL that there is, with the name of no event and nothing of a call.
    fn test(&self, event: &CloudEvent) -> Frozen {
        let mut form = Form::default();
        form.put("EventType", Some("test"));
        form.put_number("EventTime", moment(event));
        let first = self.settings.urls().next().and_then(|(name, _)| self.target(name));
        self.frozen(event, first.unwrap_or_else(|| self.target.clone()), form)
    }
}

/// Microseconds since 1970, while the clock could be believed.
fn moment(event: &CloudEvent) -> Option<u64> {
    u64::try_from(event.utc_us).ok().filter(|_| event.utc_us >= CLOCK_WAS_SET)
}

/// What became of the call, or that it is being made.
fn status(name: &str, facts: &Facts) -> &'static str {
    match name {
        "answer" => return "ANSWER",
        "hangup" => {}
        _ => return "CALLING",
    }
    match facts.result() {
        Some(CallResult::Answered | CallResult::MediaLost) => "ANSWER",
        Some(CallResult::Busy | CallResult::Rejected) => "BUSY",
        Some(CallResult::NoAnswer) => "NOANSWER",
        Some(CallResult::Cancelled | CallResult::AnsweredElsewhere) => "CANCEL",
        Some(CallResult::Unreachable) => "CHANUNAVAIL",
        Some(
            CallResult::Barred
            | CallResult::InvalidNumber
            | CallResult::Congestion
            | CallResult::NoFunds
            | CallResult::Failed,
        )
        | None => "CONGESTION",
    }
}

/// Whether anybody took the call, here or at another phone.
fn was_bridged(facts: &Facts) -> bool {
    facts.was_answered() || facts.result() == Some(CallResult::AnsweredElsewhere)
}

fn dialled(party: &Party) -> Option<&str> {
    party.number.as_ref().map(|number| number.dialled.as_str())
}

/// Whether a number is that of an extension: three to six digits of a client, an asterisk, two to four digits.
fn is_extension(number: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    number.split_once('*').is_some_and(|(client, extension)| {
        digits(client)
            && digits(extension)
            && (3..=6).contains(&client.len())
            && (2..=4).contains(&extension.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Redaction};
    use crate::events::upstream::filter::Filter;
    use crate::events::upstream::samples::{TODAY, leg, recorded};
    use crate::events::{Cause, Event, Follows, Kind, Leg, Mailbox, Number, Origin, TransferWay};

    const URL: &str = "https://crm.example/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz";
    const WHOLE: &str =
        "extension = \"13596*106\"\ndomain = \"sipproxy.telphin.ru\"\nextension_id = \"1138241\"\n";

    fn settings(url: &str, table: &str) -> config::Upstream {
        let text = format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"ringme\"\nurl = \"{url}\"\nauthorization = \"Bearer t\"\n\
             [upstream.ringme]\n{table}\n"
        );
        Config::parse(&text, "t.toml").expect("a configuration").upstream.remove(0)
    }

    fn new(leg: &Leg) -> Kind {
        Kind::CallNew { leg: leg.clone(), origin: Origin::Network }
    }

    fn answered(leg: &Leg) -> Kind {
        Kind::CallAnswered { leg: leg.clone(), ring_us: 1, automatic: None }
    }

    fn ended(leg: &Leg, result: CallResult) -> Kind {
        let talked = matches!(result, CallResult::Answered | CallResult::MediaLost);
        Kind::CallEnded {
            leg: leg.clone(),
            result,
            cause: Cause::default(),
            total_us: 7_529_999,
            ring_us: 2_000_000,
            talk_us: if talked { 5_529_999 } else { 0 },
            hold_us: 0,
            quality: None,
            recording_id: Some("0a1b".into()),
            vote: None,
        }
    }

    fn sent(settings: &config::Upstream, kind: Kind) -> Option<(String, String)> {
        let event = Filter::of(settings).pass(recorded(Event::of_call("c1", kind)))?;
        let ringme = Ringme::new(settings);
        let request = ringme.request(&ringme.render(&event)?, Now::default());
        assert_eq!(request.headers.last(), Some(&("authorization", "Bearer t".to_owned())));
        if request.method == "GET" {
            assert!(request.body.is_empty());
            let (path, query) = request.target.split_once(['?', '&']).expect("a query");
            return Some((path.to_owned(), query.to_owned()));
        }
        assert_eq!(request.headers[0], ("content-type", "application/x-www-form-urlencoded".to_owned()));
        Some((request.target, String::from_utf8(request.body).expect("text")))
    }

    fn value<'f>(form: &'f str, name: &str) -> Option<&'f str> {
        form.split('&')
            .filter_map(|field| field.split_once('='))
            .find(|(it, _)| *it == name)
            .map(|(_, it)| it)
    }

    #[test]
    fn an_agent_is_told_of_when_it_comes_and_goes() {
        let state = |line: &str| line.to_owned();
        let (_, form) =
            sent(&settings(URL, WHOLE), Kind::AgentAvailable { line: state("office") }).expect("told");
        assert_eq!(
            form,
            format!(
                "EventType=available&EventTime={TODAY}&agent_status=available&agent_type=local&agent_id=1138241\
                 &extension_name=13596*106&Tag=office"
            )
        );
        let gone = || Kind::AgentLoggedOut { line: state("office") };
        let (_, form) = sent(&settings(URL, ""), gone()).expect("told");
        assert_eq!(
            form,
            format!(
                "EventType=logged_out&EventTime={TODAY}&agent_status=logged_out&agent_type=local&Tag=office"
            )
        );
        let (target, _) = sent(
            &settings("https://crm.example", "logged_out = \"/gone/ku5d2rj3iximjf3twyzf2a8vdrfae0s1\""),
            gone(),
        )
        .expect("told");
        assert_eq!(target, "/gone/ku5d2rj3iximjf3twyzf2a8vdrfae0s1");
        assert_eq!(
            sent(
                &settings("https://crm.example", "hangup = \"/h/ku5d2rj3iximjf3twyzf2a8vdrfae0s1\""),
                gone()
            ),
            None,
            "it has no URL"
        );
        assert_eq!(sent(&settings(URL, "sender = \"queue\""), gone()), None, "a queue is no agent");
    }

    #[test]
    fn a_message_that_has_come_is_told_and_one_that_was_heard_is_not() {
        let waits = |arrived| {
            let mailbox = Mailbox { waiting: true, new: Some(2), ..Mailbox::default() };
            Kind::VoicemailWaiting { line: "office".to_owned(), mailbox, arrived }
        };
        let (_, form) = sent(&settings(URL, WHOLE), waits(true)).expect("told");
        assert_eq!(
            form,
            format!(
                "EventType=voicemail&EventTime={TODAY}&CalledNumber=13596*106\
                 &CalledExtension=13596*106%40sipproxy.telphin.ru&CalledExtensionID=1138241&Tag=office"
            )
        );
        assert_eq!(sent(&settings(URL, WHOLE), waits(false)), None);
        let own = settings("https://crm.example", "voicemail = \"/v/ku5d2rj3iximjf3twyzf2a8vdrfae0s1\"");
        assert_eq!(sent(&own, waits(true)).expect("told").0, "/v/ku5d2rj3iximjf3twyzf2a8vdrfae0s1");
    }

    #[test]
    fn legs_of_calls_that_were_given_away_say_so_with_one_r() {
        for (direction, transfered, remote) in
            [(Direction::Out, Some("yes"), None), (Direction::In, None, Some("%2B74951234567"))]
        {
            let follows = Follows { leg_id: "c1-1".into(), way: TransferWay::Attended };
            let leg = Leg { leg_id: "c1-2".into(), follows: Some(Box::new(follows)), ..leg(direction) };
            for kind in [new(&leg), answered(&leg), ended(&leg, CallResult::Answered)] {
                let (_, form) = sent(&settings(URL, ""), kind).expect("it is told");
                assert_eq!(
                    (value(&form, "SubCallID"), value(&form, "Transfered"), value(&form, "RemoteNumber")),
                    (Some("c1-2"), transfered, remote)
                );
            }
        }
        let (_, form) = sent(&settings(URL, ""), new(&leg(Direction::Out))).expect("it is told");
        assert_eq!(value(&form, "Transfered"), None);
    }

    #[test]
    fn an_incoming_call_that_was_answered_reads_as_the_pbx_writes_it() {
        let mut called = leg(Direction::In);
        called.did = Some(Number::new("+79300369446"));
        let (target, form) =
            sent(&settings(URL, WHOLE), ended(&called, CallResult::Answered)).expect("a hangup");
        assert_eq!(target, "/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz");
        assert_eq!(
            form,
            format!(
                "EventType=hangup&EventTime={TODAY}&CallID=c1&SubCallID=1138241-c1-1&CallAPIID=c1&CallFlow=in\
                 &CallStatus=ANSWER&CallerIDNum=%2B74951234567&CallerIDName=Anna+%26+Co&CalledNumber=13596*106\
                 &CalledExtension=13596*106%40sipproxy.telphin.ru&CalledExtensionID=1138241&CalledDID=79300369446\
                 &Tag=office&Duration=7529999&BridgedDuration=5529999&RecID=1138241-0a1b"
            )
        );
        let (_, form) = sent(&settings(URL, ""), new(&called)).expect("a dial-in");
        for (name, expected) in [
            ("EventType", Some("dial-in")),
            ("SubCallID", Some("c1-1")),
            ("CallStatus", Some("CALLING")),
            ("CalledNumber", Some("101")),
            ("CalledExtension", Some("101%40pbx.example")),
            ("CalledExtensionID", None),
            ("Duration", None),
            ("RecID", None),
            ("Bridged", None),
            ("Transfered", None),
            ("CallBackID", None),
            ("RemoteNumber", None),
        ] {
            assert_eq!(value(&form, name), expected, "{name}");
        }
    }

    #[test]
    fn an_outgoing_call_is_registered_by_the_number_dialled() {
        let calling = leg(Direction::Out);
        let upper = settings(URL, &format!("{WHOLE}call_flow = \"upper\""));
        let names = [new(&calling), answered(&calling), ended(&calling, CallResult::Busy)]
            .map(|kind| sent(&upper, kind).expect("it is told").1);
        for (form, (name, status)) in
            names.iter().zip([("dial-out", "CALLING"), ("answer", "ANSWER"), ("hangup", "BUSY")])
        {
            assert_eq!((value(form, "EventType"), value(form, "CallStatus")), (Some(name), Some(status)));
            assert_eq!(value(form, "CallFlow"), Some("OUT"));
            assert_eq!(value(form, "CalledNumber"), Some("%2B74951234567"));
            assert_eq!(value(form, "CallerExtension"), Some("13596*106%40sipproxy.telphin.ru"));
            assert_eq!(value(form, "CallerExtensionID"), Some("1138241"));
            assert_eq!(value(form, "CalledExtension"), None, "it is outside");
            assert_eq!(value(form, "SubCallID"), Some("1138241-c1-1"));
        }
        let redact = vec![Redaction::Numbers, Redaction::Names];
        let (_, form) = sent(&config::Upstream { redact, ..upper }, new(&calling)).expect("it is told");
        assert_eq!((value(&form, "CalledNumber"), value(&form, "CallerIDName")), (Some("***567"), None));
    }

    #[test]
    fn every_result_has_its_word_and_none_but_an_answer_is_a_success() {
        let called = leg(Direction::In);
        for result in CallResult::ALL {
            let (_, form) = sent(&settings(URL, ""), ended(&called, result)).expect("it is told");
            let status = value(&form, "CallStatus").expect("a status");
            let success = matches!(result, CallResult::Answered | CallResult::MediaLost);
            assert_eq!(status == "ANSWER", success, "{result} {status}");
            let known = ["ANSWER", "BUSY", "NOANSWER", "CANCEL", "CONGESTION", "CHANUNAVAIL"];
            assert!(known.contains(&status), "{status}");
            assert_eq!(value(&form, "BridgedDuration").is_some(), success, "{result}");
            assert_eq!(value(&form, "Bridged"), None, "a phone never says it");
        }
    }

    #[test]
    fn menus_and_queues_tell_hang_ups_alone_and_whether_anybody_took_the_call() {
        let called = leg(Direction::In);
        for sender in ["ivr", "queue"] {
            let settings = settings(URL, &format!("sender = \"{sender}\""));
            assert_eq!(sent(&settings, new(&called)), None);
            assert_eq!(sent(&settings, answered(&called)), None);
            for (result, bridged) in [
                (CallResult::Answered, "yes"),
                (CallResult::AnsweredElsewhere, "yes"),
                (CallResult::Cancelled, "no"),
                (CallResult::NoAnswer, "no"),
            ] {
                let (_, form) = sent(&settings, ended(&called, result)).expect("a hangup");
                assert_eq!(value(&form, "Bridged"), Some(bridged), "{result}");
            }
        }
    }

    #[test]
    fn each_event_goes_to_its_own_url_by_query_or_form() {
        let called = leg(Direction::In);
        let table = "method = \"GET\"\ndial_in = \"/e?t=1\"\nhangup = \"/h\"\n";
        let settings = settings("https://crm.example", table);
        let (path, query) = sent(&settings, new(&called)).expect("a dial-in");
        assert_eq!(
            (path.as_str(), value(&query, "t"), value(&query, "EventType")),
            ("/e", Some("1"), Some("dial-in"))
        );
        assert_eq!(sent(&settings, answered(&called)), None, "nobody asked for it");
        let (path, query) = sent(&settings, ended(&called, CallResult::Busy)).expect("a hangup");
        assert_eq!((path.as_str(), value(&query, "EventType")), ("/h", Some("hangup")));
        let ringme = Ringme::new(&settings);
        assert!(
            ringme.speaks_of("call.ended") && !ringme.speaks_of("call.answered") && !ringme.speaks_of("gap")
        );
        let test = ringme.test(&recorded(Event::new(Kind::NetworkChanged { addresses: vec![] })));
        assert_eq!(test.target, format!("/e?t=1&EventType=test&EventTime={TODAY}"));
    }

    #[test]
    fn calls_between_extensions_are_left_out_where_outside_ones_alone_are_wanted() {
        let settings = settings(URL, "external_only = true");
        for (caller, called, told) in [
            ("13596*107", "13596*106", false),
            ("+74951234567", "13596*106", true),
            ("13596*107", "101", true),
            ("13*107", "13596*106", true),
            ("1359600*107", "13596*106", true),
            ("13596*1", "13596*106", true),
            ("13596*10x", "13596*106", true),
        ] {
            let mut leg = leg(Direction::In);
            (leg.caller, leg.called) = (Party::numbered(caller), Party::numbered(called));
            assert_eq!(sent(&settings, new(&leg)).is_some(), told, "{caller} to {called}");
        }
        let mut inside = leg(Direction::In);
        inside.caller = Party::numbered("13596*107");
        let whole = self::settings(URL, WHOLE);
        let (_, form) = sent(&whole, new(&inside)).expect("it is told");
        assert_eq!(value(&form, "CallerExtension"), Some("13596*107%40sipproxy.telphin.ru"));
        let outside = self::settings(URL, &format!("{WHOLE}external_only = true"));
        assert_eq!(sent(&outside, new(&inside)), None, "by the number that is configured");
    }

    #[test]
    fn whom_the_pbx_names_is_the_remote_number_of_an_incoming_call_and_a_callback_is_named_on_each_leg() {
        for (direction, expected) in [(Direction::In, Some("%2B74950000000")), (Direction::Out, None)] {
            let mut leg = leg(direction);
            leg.connected = Some(Party::numbered("+74950000000"));
            leg.callback_id = Some("cb1".into());
            let (_, form) = sent(&settings(URL, ""), answered(&leg)).expect("it is told");
            assert_eq!((value(&form, "RemoteNumber"), value(&form, "CallBackID")), (expected, Some("cb1")));
        }
    }
}

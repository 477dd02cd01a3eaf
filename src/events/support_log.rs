//! One call as the log that Voximplant keeps of a session, which supporters of Bitrix24's telephony know how to read: one line
//! for what happened (`Sent event to JS onPhoneEvent …`) or was done (`Executing JS command: …`), times in UTC.
//!
//! Lists are `[item ;  item ;  ]`, objects `{name = value ; }`, what is not known is `NULL`. There are no secrets in events; what
//! somebody outside wrote can't end a value.

use serde_json::{Map, Value, json};

use super::CloudEvent;
use super::leg::meter;
use super::upstream::facts::shown;

/// Characters of a value that somebody outside wrote.
const LONGEST: usize = 256;

/// The log of the events of one call, in their order.
pub fn render(events: &[CloudEvent]) -> String {
    events.iter().flat_map(lines).fold(String::new(), |log, line| log + &line + "\n")
}

/// What an event is in the log.
fn lines(event: &CloudEvent) -> Vec<String> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let id = &data["leg_id"];
    let (incoming, ours) = (data["direction"] == "in", data["by"] == "local");
    let sent = |name: &str, mut more: Value| {
        more["name"] = format!("Call.{name}").into();
        more["id"] = id.clone();
        format!("Sent event to JS onPhoneEvent with params {}", written(&json!([more])))
    };
    let done =
        |name: &str, params: Value| format!("Executing JS command: {name} with params {}", written(&params));
    let recording =
        || json!(format!("/api/v1/recordings/{}", data["recording_id"].as_str().unwrap_or_default()));
    let seconds = |name: &str| json!(data[name].as_u64().unwrap_or(0) / 1_000_000);
    let (caller, called) = (party(&data["caller"]), party(&data["called"]));
    let texts = match event.kind.as_str() {
        "call.new" if incoming => {
            let from = json!({
                "callerid": caller, "destination": called, "displayName": data["caller"]["name"],
                "fromURI": data["caller"]["uri"], "toURI": data["called"]["uri"], "headers": {},
            });
            vec![sent("CallAlerting", from)]
        }
        "call.new" => vec![done(
            "CallSIP",
            json!([{ "id": id }, { "callerid": caller, "headers": null, "to": called }]),
        )],
        "call.ringing" if incoming => vec![done("Ring", json!([{ "id": id }]))],
        "call.ringing" => vec![sent("Ringing", json!({ "headers": {} }))],
        "call.early" => vec![sent("AudioStarted", json!({ "headers": {} }))],
        "call.answered" => {
            let accepted = incoming.then(|| done("AcceptCall", json!([{ "id": id }])));
            let connected = sent("Connected", json!({ "headers": {}, "sipCallId": data["sip_call_id"] }));
            accepted.into_iter().chain([connected]).collect()
        }
        "call.media" => vec![sent("FirstAudioPacketReceived", json!({ "codec": data["codec"] }))],
        "call.held" if ours => vec![sent("MessageReceived", json!({ "text": { "COMMAND": "hold" } }))],
        "call.resumed" if ours => vec![sent("MessageReceived", json!({ "text": { "COMMAND": "unhold" } }))],
        "call.held" => vec![sent("OnHold", json!({}))],
        "call.resumed" => vec![sent("OffHold", json!({}))],
        "call.quality" => match data["quality"]["mos"].as_f64().map(meter) {
            Some((percent, grade)) => {
                let text = json!({ "COMMAND": "meter", "PERCENT": percent, "GRADE": grade });
                vec![sent("MessageReceived", json!({ "text": text }))]
            }
            None => Vec::new(),
        },
        "call.dtmf" => {
            let tone = data["digits"].as_str().unwrap_or("******");
            vec![sent("ToneReceived", json!({ "tone": tone }))]
        }
        "call.bridged" => vec![done("SendMediaBetween", json!([{ "id1": id, "id2": data["with"] }]))],
        "recording.started" => vec![
            done("Record", json!([{ "id": id, "stereo": true }])),
            sent("RecordStarted", json!({ "url": recording() })),
        ],
        "recording.ready" => {
            let stopped = json!({ "cost": 0, "duration": seconds("duration_us"), "url": recording() });
            vec![sent("RecordStopped", stopped)]
        }
        "call.transferred" => vec![sent("TransferComplete", json!({}))],
        "call.transfer_failed" => vec![sent("TransferFailed", cause(&data))],
        "call.ended" => {
            let hung_up = (data["cause"]["by"] == "local").then(|| done("HangupCall", json!([{ "id": id }])));
            let talked = matches!(data["result"].as_str(), Some("answered" | "media_lost"));
            let over = if talked {
                let direction = if incoming { "Incoming" } else { "Outgoing" };
                sent(
                    "Disconnected",
                    json!({ "cost": 0, "direction": direction, "duration": seconds("talk_us") }),
                )
            } else {
                sent("Failed", cause(&data))
            };
            hung_up.into_iter().chain([over]).collect()
        }
        "call.closed" => vec![done("close", json!([]))],
        // What Voximplant has no words for.
        kind => vec![format!("{kind} {}", written(&json!([data])))],
    };
    let moment = moment(event.utc_us);
    texts.into_iter().map(|text| format!("{moment} {text}")).collect()
}

fn moment(utc_us: i64) -> String {
    let moment = jiff::Timestamp::from_microsecond(utc_us).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The number of somebody, or the address where there is no number.
fn party(party: &Value) -> Value {
    ["e164", "dialled", "uri"]
        .iter()
        .map(|name| &party[*name])
        .find(|it| !it.is_null())
        .cloned()
        .unwrap_or_default()
}

fn cause(data: &Value) -> Value {
    json!({ "code": data["cause"]["status"], "reason": data["cause"]["text"] })
}

/// A value in the grammar of the log.
fn written(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) => {
            let items: String = items.iter().map(|item| format!("{} ;  ", written(item))).collect();
            format!("[{items}]")
        }
        Value::Object(fields) => object(fields),
        other => other.to_string(),
    }
}

fn object(fields: &Map<String, Value>) -> String {
    // A message is the JSON that it was sent as.
    let value = |name: &str, value: &Value| match value {
        Value::Object(_) if name == "text" => value.to_string(),
        _ => written(value),
    };
    let fields: String = fields.iter().map(|(name, it)| format!("{name} = {} ; ", value(name, it))).collect();
    format!("{{{fields}}}")
}

/// Text of outside without the signs of the grammar.
fn plain(text: &str) -> String {
    let sign = |it: char| match it {
        ';' => ',',
        '{' | '[' => '(',
        '}' | ']' => ')',
        it => it,
    };
    shown(text, LONGEST).chars().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::upstream::samples::{leg, recorded};
    use crate::events::{CallResult, Cause, Direction, Event, Kind, Origin, Quality, Side};

    fn log(kinds: Vec<Kind>) -> Vec<String> {
        let events: Vec<CloudEvent> =
            kinds.into_iter().map(|kind| recorded(Event::of_call("c1", kind))).collect();
        render(&events).lines().map(str::to_owned).collect()
    }

    fn ended(direction: Direction, result: CallResult, cause: Cause) -> Kind {
        Kind::CallEnded {
            leg: leg(direction),
            result,
            cause,
            total_us: 34_900_000,
            ring_us: 0,
            talk_us: 18_900_000,
            hold_us: 0,
            quality: None,
            recording_id: None,
            vote: None,
        }
    }

    #[test]
    fn a_call_reads_as_supporters_know_it() {
        let leg = || leg(Direction::In);
        let quality = Quality { mos: Some(4.4), ..Quality::default() };
        let lines = log(vec![
            Kind::CallNew { leg: leg(), origin: Origin::Network },
            Kind::CallRinging { leg: leg() },
            Kind::CallAnswered { leg: leg(), ring_us: 1, automatic: None },
            Kind::CallHeld { leg: leg(), by: Side::Local },
            Kind::CallQuality { leg: leg(), quality },
            Kind::CallResumed { leg: leg(), by: Side::Remote },
            ended(Direction::In, CallResult::Answered, Cause::local("hung up")),
        ]);
        let event = "2026-11-20 00:00:00 Sent event to JS onPhoneEvent with params";
        let command = "2026-11-20 00:00:00 Executing JS command:";
        let expected = [
            format!(
                "{event} [{{callerid = +74951234567 ; destination = 101 ; displayName = Anna & Co ; \
                 fromURI = sip:+74951234567@pbx.example ; headers = {{}} ; id = c1-1 ; name = Call.CallAlerting ; \
                 toURI = sip:101@pbx.example:5061 ; }} ;  ]"
            ),
            format!("{command} Ring with params [{{id = c1-1 ; }} ;  ]"),
            format!("{command} AcceptCall with params [{{id = c1-1 ; }} ;  ]"),
            format!(
                "{event} [{{headers = {{}} ; id = c1-1 ; name = Call.Connected ; sipCallId = x@192.0.2.1 ; }} ;  ]"
            ),
            format!(
                "{event} [{{id = c1-1 ; name = Call.MessageReceived ; text = {{\"COMMAND\":\"hold\"}} ; }} ;  ]"
            ),
            format!(
                "{event} [{{id = c1-1 ; name = Call.MessageReceived ; \
                 text = {{\"COMMAND\":\"meter\",\"GRADE\":5,\"PERCENT\":100}} ; }} ;  ]"
            ),
            format!("{event} [{{id = c1-1 ; name = Call.OffHold ; }} ;  ]"),
            format!("{command} HangupCall with params [{{id = c1-1 ; }} ;  ]"),
            format!(
                "{event} [{{cost = 0 ; direction = Incoming ; duration = 18 ; id = c1-1 ; \
                 name = Call.Disconnected ; }} ;  ]"
            ),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_failed_call_tells_code_and_reason_and_nobody_writes_lines_of_his_own() {
        let mut out = leg(Direction::Out);
        out.called.number = None;
        out.called.uri = Some("sip:x;a={b}@h\r\n2026-11-20 00:00:00 Sent [forged]".into());
        let new = Kind::CallNew { leg: out, origin: Origin::Command };
        let lines =
            log(vec![new, ended(Direction::Out, CallResult::Busy, Cause::remote(486, "Busy ; } ;  ]"))]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].ends_with(
                "CallSIP with params [{id = c1-1 ; } ;  {callerid = 101 ; headers = NULL ; \
                 to = sip:x,a=(b)@h  2026-11-20 00:00:00 Sent (forged) ; } ;  ]"
            ),
            "{}",
            lines[0]
        );
        assert!(
            lines[1]
                .ends_with("[{code = 486 ; id = c1-1 ; name = Call.Failed ; reason = Busy , ) ,  ) ; } ;  ]"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn a_score_is_a_percentage_and_a_grade() {
        for (mos, expected) in
            [(1.0, (0, 1)), (2.7, (50, 3)), (4.4, (100, 5)), (4.5, (100, 5)), (0.0, (0, 1))]
        {
            assert_eq!(meter(mos), expected, "{mos}");
        }
    }
}

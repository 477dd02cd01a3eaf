//! The catalogue as other systems see it: names, fields, numbering, redaction, numbers.

use serde_json::{Value, json};

use super::catalogue::TYPES;
use super::cloud_event::{Digits, TYPE_PREFIX, rfc3339, source};
use super::*;
use crate::chance::Chance;
use crate::now::Now;

/// 2025-12-26T08:45:19.010096Z
const UTC_US: i64 = 1_766_738_719_010_096;

fn now() -> Now {
    Now { mono_us: 5_000_000, utc_us: UTC_US }
}

fn recorder() -> Recorder {
    Recorder::new(0, Chance::from_number(7))
}

pub(crate) fn leg() -> Leg {
    Leg {
        leg_id: "leg-1".into(),
        sip_call_id: Some("a84b4c76e66710".into()),
        line: "office".into(),
        direction: Direction::In,
        caller: Party {
            number: Some(Number::new("+7 921 456-78-92")),
            name: Some("Анна \"A\"".into()),
            uri: Some("sip:+79214567892@pbx.example".into()),
        },
        called: Party::numbered("106"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    }
}

/// One of every kind.
fn all_kinds() -> Vec<Kind> {
    let cause = Cause::remote(486, "Busy Here");
    let quality = Quality {
        codec: "PCMA".into(),
        mos: Some(4.3),
        mos_scale: Some("G.107".into()),
        ..Quality::default()
    };
    let way = Way { local: "srflx".into(), remote: Some("relay".into()), transport: "udp".into() };
    let text = || "x".to_owned();
    vec![
        Kind::DeviceStarted { version: text(), serial: text(), name: None, clean: true },
        Kind::NetworkChanged { addresses: vec!["192.0.2.7".into()] },
        Kind::DeviceDegraded { part: text(), what: text(), cure: text() },
        Kind::DeviceRecovered { part: text() },
        Kind::LineRegistered {
            line: text(),
            registrar: text(),
            transport: text(),
            contact: text(),
            expires_us: 60,
        },
        Kind::LineUnregistered { line: text(), cause: cause.clone(), retry_us: Some(1) },
        Kind::LineRejected { line: text(), cause: cause.clone(), cure: text() },
        Kind::CallNew { leg: leg(), origin: Origin::Network },
        Kind::CallDialing { leg: leg() },
        Kind::CallRinging { leg: leg() },
        Kind::CallEarly { leg: leg() },
        Kind::CallAnswered { leg: leg(), ring_us: 4_200_000, automatic: None },
        Kind::CallMedia {
            leg: leg(),
            codec: "opus".into(),
            srtp: None,
            way: Some(way),
            after_answer_us: 20_000,
        },
        Kind::CallHeld { leg: leg(), by: Side::Remote },
        Kind::CallResumed { leg: leg(), by: Side::Local },
        Kind::PartyChanged { leg: leg() },
        Kind::CallTransferred {
            leg: leg(),
            transfer: Transfer {
                way: TransferWay::Attended,
                target: Party::numbered("102"),
                with: Some(text()),
            },
            by: Side::Remote,
            next_leg: Some(text()),
        },
        Kind::TransferFailed {
            leg: leg(),
            transfer: Transfer { way: TransferWay::Blind, target: Party::numbered("102"), with: None },
            cause: cause.clone(),
        },
        Kind::CallDtmf {
            leg: leg(),
            by: Side::Remote,
            digits: Some("4711".into()),
            duration_us: Some(80_000),
            method: "rfc4733".into(),
        },
        Kind::CallQuality { leg: leg(), quality: quality.clone() },
        Kind::CallRefused { leg: leg(), origin: Origin::Api, rule: "limits.deny".into(), text: text() },
        Kind::CallEnded {
            leg: leg(),
            result: CallResult::Answered,
            cause: cause.clone(),
            total_us: 7_529_999,
            ring_us: 1,
            talk_us: 2,
            hold_us: 0,
            quality: Some(quality),
            recording_id: None,
            vote: None,
        },
        Kind::CallClosed {
            line: text(),
            direction: Direction::Out,
            caller: Party::numbered("106"),
            called: Party::default(),
            did: None,
            result: CallResult::NoAnswer,
            missed: false,
            legs: 1,
            total_us: 1,
            talk_us: 0,
        },
        Kind::CallEmergency { leg: leg(), overruled: vec!["limits.deny".into()] },
        Kind::VoicemailWaiting {
            line: text(),
            mailbox: Mailbox { waiting: true, new: Some(2), account: Some(text()), ..Mailbox::default() },
            arrived: true,
        },
        Kind::RecordingStarted { recording_id: text(), leg_id: text(), line: text() },
        Kind::RecordingPaused { recording_id: text(), leg_id: text(), line: text(), paused: true },
        Kind::RecordingReady {
            recording_id: text(),
            leg_id: text(),
            line: text(),
            duration_us: 1,
            bytes: 44,
        },
        Kind::RecordingDeleted { recording_id: text(), reason: "age".into() },
        Kind::CallBridged { leg: leg(), with: text() },
        Kind::OriginateQueued {
            callback_id: text(),
            request: text(),
            origin: Origin::Ami,
            from: Number::new("101"),
            to: Number::new("100"),
        },
        Kind::AgentAvailable { line: "office".into() },
        Kind::AgentLoggedOut { line: "office".into() },
        Kind::OriginateResult {
            callback_id: text(),
            request: text(),
            origin: Origin::Api,
            from: Number::new("101"),
            to: Number::new("100"),
            reached: true,
            result: CallResult::Busy,
            cause,
        },
        Kind::LimitReached {
            line: None,
            limit: "limits.calls_per_day".into(),
            value: 5,
            origin: Origin::Keys,
        },
        Kind::AuthFailed {
            interface: "api".into(),
            from: "192.0.2.1".into(),
            user: None,
            line: None,
            text: None,
            attempts: 3,
        },
        Kind::ConfigApplied { file: text(), changed: vec![], removed: vec![text()], warnings: 0 },
        Kind::ConfigRejected { file: text(), findings: vec![text()] },
        Kind::UpstreamSuspended {
            upstream: text(),
            why: Suspension::Unavailable,
            what: text(),
            cure: text(),
            retry_us: Some(5),
        },
        Kind::UpstreamResumed { upstream: text(), waiting: 3 },
        Kind::UpstreamRefused {
            upstream: text(),
            refused: text(),
            sequence: 7,
            event: "call.new".into(),
            status: 422,
            count: 1,
        },
        Kind::HistoryReady { upstream: text(), order_id: text() },
        Kind::Gap { first: 1, last: 2, reason: Some("size".into()) },
    ]
}

/// The event in types again; `None` for a type that this version does not know.
fn parsed(cloud: &CloudEvent) -> Option<Event> {
    let text = format!("{{{}:{}}}", Value::from(cloud.kind.as_str()), cloud.data);
    let kind = serde_json::from_str(&text).ok()?;
    Some(Event { call: cloud.subject.clone(), kind })
}

#[test]
fn every_kind_keeps_its_name_and_comes_back_from_its_data() {
    let mut recorder = recorder();
    let mut names = Vec::new();
    for kind in all_kinds() {
        let event = Event::of_call("call-1", kind);
        let cloud = recorder.record(now(), event.clone()).cloud_event(Digits::Shown);
        let tagged: Value = serde_json::to_value(&event.kind).unwrap();
        let data: Value = serde_json::from_str(&cloud.data).unwrap();
        assert_eq!(tagged, json!({ cloud.kind.as_str(): data }), "serde and Kind::name say one name");
        assert_eq!(parsed(&cloud), Some(event), "{}", cloud.data);
        names.push(cloud.kind);
    }
    names.sort();
    let mut types = TYPES.to_vec();
    types.sort_unstable();
    assert_eq!(names, types, "every kind is tested and listed, under a name of its own");
}

#[test]
fn the_structured_form_has_every_attribute_of_the_contract() {
    let event =
        Event::of_call("call-9", Kind::CallAnswered { leg: leg(), ring_us: 4_200_000, automatic: None });
    let recorded = Recorder::new(41, Chance::from_number(1)).record(now(), event);
    let json: Value = serde_json::from_str(&recorded.cloud_event(Digits::Hidden).to_json("TR 01/7")).unwrap();

    assert_eq!(
        json,
        json!({
            "specversion": "1.0",
            "id": recorded.id.to_string(),
            "source": "urn:tipring:TR%2001%2F7",
            "type": "tipring.call.answered",
            "subject": "call-9",
            "time": "2025-12-26T08:45:19.010096Z",
            "sequence": "00000000000000000042",
            "datacontenttype": "application/json",
            "data": {
                "leg_id": "leg-1",
                "sip_call_id": "a84b4c76e66710",
                "line": "office",
                "direction": "in",
                "caller": {
                    "dialled": "+7 921 456-78-92",
                    "e164": "+79214567892",
                    "name": "Анна \"A\"",
                    "uri": "sip:+79214567892@pbx.example"
                },
                "called": { "dialled": "106" },
                "ring_us": 4_200_000
            }
        })
    );
    assert!(json["type"].as_str().unwrap().starts_with(TYPE_PREFIX));
}

#[test]
fn identities_are_uuid_version_7_of_the_time_and_never_repeat() {
    let mut recorder = recorder();
    let mut ids: Vec<_> = (0..1000)
        .map(|_| recorder.record(now(), Event::new(Kind::DeviceRecovered { part: "sound".into() })).id)
        .collect();
    assert_eq!(recorder.last(), 1000);
    assert_eq!(ids[0].get_version_num(), 7);
    assert_eq!(ids[0].get_variant(), uuid::Variant::RFC4122);
    let millis = u64::from_be_bytes([&[0, 0], &ids[0].as_bytes()[..6]].concat().try_into().unwrap());
    assert_eq!(millis, UTC_US as u64 / 1000);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn a_clock_in_1970_or_out_of_range_is_told_as_it_is() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(rfc3339(1_500_000), "1970-01-01T00:00:01.500000Z");
    assert!(rfc3339(i64::MAX).starts_with("9999-"));
    assert!(rfc3339(i64::MIN).starts_with("0000-"));
    let mut recorder = recorder();
    let early = recorder
        .record(Now { mono_us: 0, utc_us: -5 }, Event::new(Kind::DeviceRecovered { part: "x".into() }));
    assert_eq!(early.id.get_version_num(), 7);
    assert_eq!(early.sequence, 1);
}

#[test]
fn pressed_digits_are_left_out_unless_asked_for() {
    let kind = Kind::CallDtmf {
        leg: leg(),
        by: Side::Remote,
        digits: Some("4111111111111111".into()),
        duration_us: Some(80_000),
        method: "info".into(),
    };
    let recorded = recorder().record(now(), Event::of_call("c", kind));
    let hidden = recorded.cloud_event(Digits::Hidden).to_json("s");
    assert!(!hidden.contains("4111") && !hidden.contains("digits"), "{hidden}");
    assert!(hidden.contains("\"method\":\"info\""));
    assert!(recorded.cloud_event(Digits::Shown).to_json("s").contains("\"digits\":\"4111111111111111\""));
}

#[test]
fn a_type_of_a_newer_version_passes_through_but_is_not_understood() {
    let strange = CloudEvent {
        sequence: 3,
        id: uuid::Uuid::nil(),
        utc_us: 0,
        kind: "sim.balance".into(),
        subject: None,
        data: "{\"amount\":5}".into(),
    };
    assert_eq!(parsed(&strange), None);
    let json: Value = serde_json::from_str(&strange.to_json("s")).unwrap();
    assert_eq!((&json["type"], &json["data"]["amount"]), (&json!("tipring.sim.balance"), &json!(5)));
}

#[test]
fn a_gap_is_the_same_event_each_time_it_is_told() {
    let gap = CloudEvent::gap(3, 17, Some("size".into()), UTC_US);
    assert_eq!(gap, CloudEvent::gap(3, 17, Some("size".into()), UTC_US));
    assert_eq!(gap.sequence, 17);
    let event = Event::new(Kind::Gap { first: 3, last: 17, reason: Some("size".into()) });
    assert_eq!(parsed(&gap), Some(event));
    assert_ne!(gap.id, CloudEvent::gap(3, 18, None, UTC_US).id);
}

#[test]
fn results_follow_the_far_networks_cause_before_the_status() {
    use CallResult::*;
    for (status, q850, result) in [
        (Some(486), None, Busy),
        (Some(600), None, Busy),
        (Some(480), None, Unreachable),
        (Some(480), Some(19), NoAnswer),
        (Some(480), Some(17), Busy),
        (Some(408), None, NoAnswer),
        (Some(487), None, Cancelled),
        (Some(487), Some(26), AnsweredElsewhere),
        (Some(603), None, Rejected),
        (Some(603), Some(16), Rejected),
        (Some(403), None, Barred),
        (Some(402), None, NoFunds),
        (Some(404), None, InvalidNumber),
        (Some(484), None, InvalidNumber),
        (Some(503), None, Congestion),
        (Some(503), Some(1), InvalidNumber),
        (Some(488), None, Failed),
        (None, None, Failed),
    ] {
        assert_eq!(CallResult::of_unanswered(status, q850), result, "{status:?} {q850:?}");
    }
    assert!(NoAnswer.is_missed() && Cancelled.is_missed());
    assert!(!AnsweredElsewhere.is_missed() && !Rejected.is_missed() && !Answered.is_missed());
    for result in CallResult::ALL {
        assert_eq!(CallResult::from_word(result.as_str()), Some(result));
        assert_eq!(serde_json::to_value(result).unwrap(), result.as_str());
    }
}

#[test]
fn numbers_keep_their_spelling_and_have_e164_only_when_it_is_certain() {
    assert_eq!(Number::new("+7 (495) 445-11-20").e164.as_deref(), Some("+74954451120"));
    for uncertain in
        ["84954451120", "0117495", "106", "anna", "+", "+0123456789", "+12", "+1234567890123456", "+49abc"]
    {
        let number = Number::new(uncertain);
        assert_eq!((number.dialled.as_str(), number.e164), (uncertain, None));
    }
    for (a, b, same) in [
        ("+7 495 445-11-20", "8 (495) 4451120", true),
        ("+380631234567", "0631234567", true),
        ("+380631234567", "+7631234567", false),
        ("106", "106", true),
        ("106", "6", false),
        ("Anna", "anna", true),
        ("()", "( )", false),
    ] {
        assert_eq!(Number::new(a).same_as(&Number::new(b)), same, "{a} {b}");
    }
}

#[test]
fn a_source_is_a_urn_for_any_serial() {
    assert_eq!(source("A-1_b.c"), "urn:tipring:A-1_b.c");
    assert_eq!(source("é \n"), "urn:tipring:%C3%A9%20%0A");
}

//! What systems upstream are sent and answer: texts with variables of the configuration, filled with what callers call
//! themselves, and how long a server wants to be left alone.

use super::Target;
use serde_json::Value;
use tipring::chance::Chance;
use tipring::config::{self, Config, MqttVersion};
use tipring::events::cloud_event::{Digits, Recorder};
use tipring::events::upstream::dialect;
use tipring::events::upstream::mqtt::{Output, Session, packet};
use tipring::events::upstream::outcome::Outcome;
use tipring::events::upstream::retry_after;
use tipring::events::upstream::rostelecom::declined;
use tipring::events::upstream::rostelecom::requests::{self, Method, Request};
use tipring::events::upstream::turn::Step;
use tipring::events::{CallResult, Cause, CloudEvent, Direction, Event, Kind, Leg, Origin, Party};
use tipring::now::Now;

pub const TARGETS: &[Target] = &[
    Target { name: "upstream_action_url", run: action_url, seeds: PATHS, dictionary: PIECES },
    Target { name: "upstream_webitel", run: webitel, seeds: BODIES, dictionary: PIECES },
    Target { name: "upstream_ringme", run: ringme, seeds: PATHS, dictionary: PIECES },
    Target { name: "upstream_rostelecom", run: rostelecom, seeds: PATHS, dictionary: PIECES },
    Target { name: "rostelecom_request", run: asked, seeds: REQUESTS, dictionary: REQUEST_WORDS },
    Target { name: "rostelecom_answer", run: answered, seeds: ANSWERS, dictionary: REQUEST_WORDS },
    Target { name: "upstream_bitrix24", run: bitrix24, seeds: PORTAL, dictionary: SAID },
    Target { name: "upstream_slack", run: slack, seeds: LINKS, dictionary: PIECES },
    Target { name: "mqtt_packet", run: mqtt, seeds: PACKETS, dictionary: FIELDS },
    Target { name: "upstream_retry_after", run: wait, seeds: WAITS, dictionary: WORDS },
];

/// Each behind the number of its method.
const REQUESTS: &[&[u8]] = &[
    b"\0{\"domain\":\"example.ru\",\"user_pin\":null}",
    b"\x01{\"session_id\":\"SDsnZugDFmTW7Sec\"}",
    b"\x02{\"session_id\":\"SDsnZugDFmTW7Sec\",\"ip_adress\":\"192.0.2.7\"}",
    b"\x03{\"request_number\": \"+74951234567\",\"from_sipuri\": \"test_user@cloudpbx.rt.ru\"}",
    b"\x03{\"request_number\":74951234567,\"domain\":\"example.ru\",\"from_pin\":\"607\"}",
    b"\x04{\"date_start\":\"2026-11-20 00:00:00\",\"date_end\":\"2026-11-21 23:59:59\",\"direction\":\"1\",\"state\":2}",
    b"\x05{\"order_id\":\"5a56aff8-2352-4c94-8778-07cbfb60d242\"}",
];
const ANSWERS: &[&[u8]] = &[b"{\"result\":\"-20\",\"resultMessage\":\"no\"}", b"{\"result\":0}", b"OK"];
const REQUEST_WORDS: &[&[u8]] = &[
    b"null",
    b"-1",
    b"1e99",
    b"\"\"",
    b"[[",
    b"{",
    b"\\u0000",
    b"9999-12-31 23:59:59",
    b"::1",
    b"\"result\":",
    b"-9223372036854775808",
];

/// Whatever is read is in one line and within its limit.
fn asked(octets: &[u8]) {
    let Some((method, body)) = octets.split_first() else { return };
    let method = Method::ALL[usize::from(*method) % Method::ALL.len()];
    let text = match requests::read(method, body) {
        Ok(Request::CallInfo { session } | Request::GetRecord { session, .. }) => session,
        Ok(Request::CallBack { number, .. }) => number,
        Ok(Request::DownloadCallHistory { order }) => order,
        Ok(Request::DomainCallHistory(wanted)) => {
            assert!(wanted.since_utc_us < wanted.until_utc_us && wanted.direction < 4 && wanted.state < 3);
            wanted.number.unwrap_or_default()
        }
        Ok(Request::UsersInfo { domain, .. }) => domain.unwrap_or_default(),
        Err(_) => return,
    };
    assert!(text.len() <= 256 && !text.chars().any(char::is_control), "{text:?}");
}

/// Only what is below 0 is a refusal, and what is shown of it is in one line.
fn answered(octets: &[u8]) {
    if let Some((result, said)) = declined(octets) {
        assert!(result < 0 && !said.unwrap_or_default().chars().any(char::is_control));
    }
}

/// A text of the configuration and what a caller calls himself, with a zero between them.
fn halves(octets: &[u8]) -> (String, String) {
    let mut parts = octets.splitn(2, |octet| *octet == 0);
    let mut half = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    (half(), half())
}

/// The settings with this text at the key `key` of the table of its kind, if they are right.
fn settings(kind: &str, key: &str, text: &str) -> Option<config::Upstream> {
    let text = format!(
        "[[upstream]]\nname = \"x\"\nkind = \"{kind}\"\nurl = \"https://h.example\"\n[upstream.{}]\n{key} = {}\n",
        kind.replace('-', "_"),
        Value::from(text)
    );
    Config::parse(&text, "t.toml").ok()?.upstream.pop()
}

fn leg(caller: &str) -> Leg {
    Leg {
        leg_id: "l1".into(),
        sip_call_id: Some(caller.into()),
        line: "office".into(),
        direction: Direction::In,
        caller: Party { name: Some(caller.into()), uri: Some(caller.into()), ..Party::numbered(caller) },
        called: Party::numbered("101"),
        did: None,
        diverted: None,
        connected: None,
        callback_id: None,
        follows: None,
    }
}

fn recorded(kind: Kind) -> CloudEvent {
    let mut recorder = Recorder::new(0, Chance::from_number(1));
    recorder
        .record(Now { mono_us: 0, utc_us: 1_795_132_800_000_000 }, Event::of_call("c1", kind))
        .cloud_event(Digits::Hidden)
}

/// The request for an event; whatever it is made of, it can be written.
fn request(settings: &config::Upstream, event: &CloudEvent) -> dialect::Request {
    let dialect = dialect::of(settings, "TR-1");
    let frozen = dialect.render(event).expect("the kind has words for it");
    let request = dialect.request(&frozen, Now::default());
    assert!(request.target.parse::<hyper::Uri>().is_ok(), "{}", request.target);
    assert!(request.headers.iter().all(|(_, value)| value.parse::<hyper::header::HeaderValue>().is_ok()));
    request
}

/// A caller changes nothing about the structure of a URL.
fn action_url(octets: &[u8]) {
    let (text, caller) = halves(octets);
    let Some(settings) = settings("action-url", "incoming_call", &text) else { return };
    let target = request(&settings, &recorded(Kind::CallRinging { leg: leg(&caller) })).target;
    assert!(target.len() <= 4096 + 64 * 3 * 256 && target.bytes().all(|octet| octet.is_ascii_graphic()));
    for mark in ['/', '?', '&', '=', '#', ';', '+', '@', '"', '<', '\\'] {
        assert_eq!(target.matches(mark).count(), text.matches(mark).count(), "{mark} in {target}");
    }
}

/// A caller is a value of its field: the form has the same fields whatever he calls himself.
fn ringme(octets: &[u8]) {
    let (path, caller) = halves(octets);
    let Some(settings) = settings("ringme", "dial_in", &path) else { return };
    let told = request(&settings, &recorded(Kind::CallNew { leg: leg(&caller), origin: Origin::Network }));
    let form = String::from_utf8(told.body).expect("ASCII");
    let names: Vec<&str> =
        form.split('&').map(|field| field.split_once('=').expect("a name and a value").0).collect();
    let expected = ["EventType", "EventTime", "CallID", "SubCallID", "CallAPIID", "CallFlow", "CallStatus"];
    assert_eq!(names.get(..expected.len()), Some(&expected[..]), "{form}");
    assert_eq!(form.matches('=').count(), names.len(), "{form}");
    assert!(form.len() < 20 * 3 * 256 && form.bytes().all(|octet| octet.is_ascii_graphic()), "{form}");
}

/// A caller is the user of an address, and nothing else of the body.
fn rostelecom(octets: &[u8]) {
    let (domain, caller) = halves(octets);
    let text = format!(
        "[[upstream]]\nname = \"x\"\nkind = \"rostelecom\"\nurl = \"https://h.example\"\n\
         [upstream.rostelecom]\nclient_id = \"1\"\nkey = \"1\"\ndomain = {}\n",
        Value::from(domain.as_str())
    );
    let Some(settings) = Config::parse(&text, "t.toml").ok().and_then(|mut it| it.upstream.pop()) else {
        return;
    };
    let told = request(&settings, &recorded(Kind::CallNew { leg: leg(&caller), origin: Origin::Network }));
    let body: Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!((body.as_object().map(|it| it.len()), &body["state"]), (Some(10), &"new".into()));
    let from = body["from_number"].as_str().expect("text");
    let user =
        from.strip_prefix("sip:").and_then(|it| it.strip_suffix(&format!("@{domain}"))).expect("an address");
    assert!(
        user.len() <= 3 * 256 && user.bytes().all(|it| it.is_ascii_graphic() && !b"@;:<>\"".contains(&it)),
        "{from}"
    );
}

/// Whatever a portal answers at whatever moment: each delivery ends or goes on within a few requests, what is remembered has a
/// bound, and nobody but the portal and its sign-in server is asked for anything. What comes before the first zero is the caller.
fn bitrix24(octets: &[u8]) {
    let text = "[[upstream]]\nname = \"x\"\nkind = \"bitrix24\"\nurl = \"https://h.example\"\n[upstream.bitrix24]\n\
                client_id = \"1\"\nclient_secret = \"planted\"\nrefresh_token = \"planted\"\nshow_to = [7]\n";
    let settings = Config::parse(text, "t.toml").expect("a configuration").upstream.remove(0);
    let mut answers = octets.split(|octet| *octet == 0);
    let caller = String::from_utf8_lossy(answers.next().unwrap_or_default()).into_owned();
    let mut dialect = dialect::of(&settings, "TR-1");
    let leg = leg(&caller);
    let ended = Kind::CallEnded {
        leg: leg.clone(),
        result: CallResult::Answered,
        cause: Cause::remote(200, caller.as_str()),
        total_us: 9,
        ring_us: 1,
        talk_us: 8,
        hold_us: 0,
        quality: None,
        recording_id: Some("r-1".into()),
        vote: None,
    };
    let ready = Kind::RecordingReady {
        recording_id: "r-1".into(),
        leg_id: "l1".into(),
        line: "office".into(),
        duration_us: 1,
        bytes: 1,
    };
    for kind in [Kind::CallRinging { leg }, ended, ready] {
        let Some(frozen) = dialect.render(&recorded(kind)) else { continue };
        for _ in 0..8 {
            let request = match dialect.step(&frozen, Now::default()) {
                Step::Done => break,
                Step::Remember(notes) => {
                    assert!(notes.len() <= 2);
                    continue;
                }
                Step::Send(request) => request,
            };
            assert!(request.target.starts_with('/') && request.target.parse::<hyper::Uri>().is_ok());
            assert!(
                request.headers.iter().all(|(_, value)| value.parse::<hyper::header::HeaderValue>().is_ok())
            );
            let signing_in = request.elsewhere.as_ref().map(|url| url.authority().to_owned());
            assert!(signing_in.is_none_or(|host| host == "oauth.bitrix.info"), "{}", request.target);
            let answer = answers.next().unwrap_or_default();
            let status = if answer.first() == Some(&b'!') { 400 } else { 200 };
            let said = answer.strip_prefix(b"!").unwrap_or(answer).to_vec();
            let outcome = Outcome::Answered { status, retry_after: None, said };
            let heard = dialect.heard(&frozen, &outcome, Now::default());
            let told = heard.trouble.map(|(what, cure)| what + &cure).unwrap_or_default();
            assert!(told.chars().all(|it| !it.is_control()) && told.len() < 2000, "{told}");
            let noted: usize =
                heard.notes.iter().filter_map(|note| note.value.as_ref()).map(String::len).sum();
            assert!(noted < 20_000, "{noted} bytes are remembered");
            if heard.over.is_some() {
                break;
            }
        }
    }
}

const PORTAL: &[&[u8]] = &[
    b"+74951234567\0{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_in\":3600}\0{\"result\":{\"CALL_ID\":\"x\"}}\0\
      {\"result\":true}\0{\"result\":{}}\0{\"result\":{\"uploadUrl\":\"https://h.example/rest/upload.json?t=1\",\"fieldName\":\"file\"}}\0\
      {\"result\":{\"FILE_ID\":1}}",
    b"+74951234567\0!{\"error\":\"invalid_grant\"}\0!{\"error\":\"expired_token\",\"error_description\":\"x\"}",
    b"+74951234567\0{\"access_token\":\"a\",\"refresh_token\":\"r\"}\0{\"result\":{\"CALL_ID\":\"x\"}}\0\
      !{\"error\":\"ERROR_CORE\",\"error_description\":\"Call is not found\"}",
];
const SAID: &[&[u8]] = &[
    b"\0",
    b"!",
    b"{\"result\":",
    b"\"CALL_ID\":",
    b"null",
    b"\"0\"",
    b"[]",
    b"https://evil.example/",
    b"\"uploadUrl\":",
    b"\r\n",
    b"\\u0000",
    b"expired_token",
    b"Call is not found",
    b"99999999999999999999",
];

/// A caller is text: no link, no mention, no other field, and of bounded length.
fn slack(octets: &[u8]) {
    let (text, caller) = halves(octets);
    let Some(settings) = settings("slack", "link", &text) else { return };
    let leg = leg(&caller);
    let closed = Kind::CallClosed {
        line: leg.line,
        direction: Direction::In,
        caller: leg.caller,
        called: leg.called,
        did: None,
        result: CallResult::Busy,
        missed: true,
        legs: 1,
        total_us: 1,
        talk_us: 0,
    };
    let body = request(&settings, &recorded(closed)).body;
    let message: Value = serde_json::from_slice(&body).expect("JSON");
    let text = message["text"].as_str().expect("a text");
    assert_eq!((message.as_object().map(|it| it.len()), text.matches('<').count()), (Some(1), 2), "{text}");
    assert!(text.len() < 200_000 && text.chars().filter(|it| it.is_control()).all(|it| it == '\n'), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// A caller changes nothing about the structure of JSON.
fn webitel(octets: &[u8]) {
    let (text, caller) = halves(octets);
    let Some(settings) = settings("webitel", "channel_create", &text) else { return };
    let body = |caller: &str| {
        let kind = Kind::CallNew { leg: leg(caller), origin: Origin::Network };
        let body = request(&settings, &recorded(kind)).body;
        serde_json::from_slice::<Value>(&body).expect("JSON")
    };
    assert_eq!(shape(&body(&caller)), shape(&body("101")));
}

/// JSON with nothing in its texts, and with its fields by number.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::from(""),
        Value::Array(all) => all.iter().map(shape).collect(),
        Value::Object(all) => all.values().map(shape).collect(),
        other => other.clone(),
    }
}

const BODIES: &[&[u8]] = &[
    b"{\"a\": ${caller_id_name}, \"b\": [\"<$caller_id_number>\", $event, \"\\\"$uuid\"]}\0\",\"admin\":true,\"x\":\"",
    b"{\"$caller_id_name\": 1, \"admin\": false}\0admin",
    b"\"${caller_id_name}\\\\${sip_call_id}\"\0\\\"\r\n\xff",
];
const PATHS: &[&[u8]] = &[
    b"/a?from=$remote&to=${local_number}\0&cmd=x",
    b"/phone/$display_remote?k=1&$$x=$call_id#\0../../a\r\nX: y",
    b"/$remote\0\xe2\x80\xae\"'<>\xff",
];
const LINKS: &[&[u8]] = &[
    b"https://crm.example/?n=$number&who=$name\0<!channel>&amp;",
    b"http://h:81?$called\0a|b>\n<https://x|y>",
];
const PIECES: &[&[u8]] = &[
    b"$remote",
    b"${",
    b"}",
    b"$$",
    b"$name",
    b"$number",
    b"\0",
    b"\r\n",
    b"&",
    b"<!here>",
    b"%00",
    b"..",
    b"/../",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
    b"\"",
    b"\\",
];

/// A wait is never longer than the longest, whatever the clock says, and what is a number of seconds is that number.
fn wait(octets: &[u8]) {
    let Ok(value) = std::str::from_utf8(octets) else { return };
    for now in [0, 784_111_777_000_000, i64::MIN, i64::MAX] {
        let Some(wait) = retry_after::read(value, now) else { continue };
        assert!(wait <= retry_after::LONGEST, "{wait:?}");
        if let Ok(seconds) = value.trim().parse::<u64>() {
            assert_eq!(wait.as_secs(), seconds.min(retry_after::LONGEST.as_secs()));
        }
    }
}

const WAITS: &[&[u8]] = &[b"120", b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sat, 29 Feb 9999 23:59:60 GMT"];
const WORDS: &[&[u8]] =
    &[b" GMT", b"Sun, ", b"Feb", b"-9999", b"99999999999999999999", b"24:", b":60", b"+1"];

/// What a broker sends is read or refused, with bounds on what is kept of it, and a session outlives it.
fn mqtt(octets: &[u8]) {
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let mut rest = octets;
        while let Ok(Some((packet, used))) = packet::read(rest, version) {
            assert!(used > 0 && used <= rest.len() && used <= packet::LARGEST, "{used}");
            if let packet::Packet::Oversized { rest, .. } = packet {
                assert!(rest <= packet::LARGEST_SKIPPED + packet::LARGEST, "{rest}");
            }
            rest = &rest[used..];
        }
        let allow = config::words::RemoteCommand::ALL.to_vec();
        let commands = config::Commands { allow, trust_broker: true, ..config::Commands::default() };
        let (now, mqtt) = (Now::default(), config::Mqtt { version, commands, ..config::Mqtt::default() });
        let settings = config::Upstream { mqtt, ..config::Upstream::default() };
        let mut session = Session::new(now, &settings, "TR-1", Chance::from_number(1));
        session.hurry(now);
        session.handle_opened(now);
        session.handle_bytes(now, &[0x20, if version == MqttVersion::V5 { 3 } else { 2 }, 0, 0]);
        if version == MqttVersion::V5 {
            session.handle_bytes(now, &[0]);
        }
        assert!(session.is_up());
        session.publish(now, 1, "a/event".to_owned(), b"{}".to_vec());
        octets.chunks(7).for_each(|piece| session.handle_bytes(now, piece));
        session.handle_lost(now, String::new(), String::new());
        let (mut written, mut downs) = (0, 0);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Write(bytes) => written += bytes.len(),
                Output::Down(trouble, _) => {
                    downs += 1;
                    assert!(trouble.what.chars().all(|it| !it.is_control()), "{}", trouble.what);
                }
                _ => {}
            }
        }
        assert_eq!(downs, 1, "a connection ends once");
        assert!(written < 20_000 + 4 * octets.len(), "{written} bytes for {}", octets.len());
    }
}

const PACKETS: &[&[u8]] = &[
    b"\x20\x02\x00\x00",
    b"\x20\x10\x00\x00\x0d\x21\x00\x09\x27\x00\x00\x01\x00\x24\x01\x13\x00\x07",
    b"\x40\x02\x00\x01",
    b"\x40\x04\x00\x01\x97\x00",
    b"\x32\x0a\x00\x03a/b\x00\x01\x00{}",
    b"\x32\x80\x80\x02\x00\x03a/b\x00\x01",
    b"\x90\x03\x00\x01\x80",
    b"\xe0\x0b\x9d\x09\x1c\x00\x01b\x1f\x00\x02\x0a<",
    b"\xd0\x00",
];
const FIELDS: &[&[u8]] =
    &[b"\x21\x00\x01", b"\x1f\x00\x01x", b"\xff\xff\xff\x7f", b"\x26\x00\x01a\x00\x01b", b"\x00\x01"];

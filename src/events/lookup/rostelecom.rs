//! `get_number_info`: the question that Rostelecom's virtual PBX asks a CRM before it rings anybody.
//!
//! The body is that of the `call_events` of a new call, and so is the signature: [`Rostelecom`] writes both. The answer is
//! `{"result":0,"resultMessage":"","displayName":"…","PIN":"…"}`, of which any field may be absent or of another type.

use serde_json::Value;

use super::{Answer, Failure, Inquiry, Question, text};
use crate::config::Lookup;
use crate::events::upstream::dialect::{Dialect, Frozen, Request};
use crate::events::upstream::rostelecom::Rostelecom;
use crate::now::Now;

/// Questions of the kind `rostelecom`.
pub struct NumberInfo(Rostelecom);

impl NumberInfo {
    /// The kind `rostelecom` with these settings.
    pub fn new(settings: &Lookup) -> NumberInfo {
        NumberInfo(Rostelecom::new(&settings.as_upstream()))
    }
}

impl Inquiry for NumberInfo {
    fn request(&self, question: &Question, now: Now) -> Request {
        let event = question.event();
        let nothing = || Frozen { id: event.id.to_string(), target: "/".to_owned(), body: Vec::new() };
        // This answer is no mere sign that something was taken: who asks reads it.
        Request { reads: 0, ..self.0.request(&self.0.render(&event).unwrap_or_else(nothing), now) }
    }

    fn read(&self, body: &[u8]) -> Result<Answer, Failure> {
        let cure = "have it answer {\"result\":0,\"displayName\":\"…\"}";
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(Failure::new("the answer to get_number_info is no JSON object", cure));
        };
        let of = |key: &str| fields.get(key).and_then(text);
        // Some write 0 as a text, some leave it out; another one is an error, and what stands beside it no name.
        if of("result").is_some_and(|result| result.trim() != "0" && !result.trim().is_empty()) {
            return Err(Failure::new("the answer to get_number_info has a result that is not 0", cure));
        }
        Ok(Answer::of(of("displayName").as_deref(), of("PIN").as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::events::lookup::understood;
    use crate::events::upstream::rostelecom::sign;
    use crate::events::upstream::samples::question;
    use crate::events::{Direction, Party};

    const CLIENT: &str = "000003C405E6525C64C184258C44EC99";
    const KEY: &str = "00000716ABDA6D4DFF10F82BCBBFC532";

    fn kind() -> NumberInfo {
        let text = format!(
            "[lookup]\nkind = \"rostelecom\"\nurl = \"https://crm.example/rt/get_number_info\"\n\
             [lookup.rostelecom]\nclient_id = \"{CLIENT}\"\nkey = \"{KEY}\"\ndomain = \"192.168.0.1\"\npin = \"607\"\n"
        );
        NumberInfo::new(&Config::parse(&text, "t.toml").expect("a configuration").lookup)
    }

    #[test]
    fn the_question_has_the_fields_of_the_manual_and_the_signature_of_its_bytes() {
        let request = kind().request(&question(Direction::In), Now::default());
        assert_eq!((request.method, request.target.as_str()), ("POST", "/rt/get_number_info"));
        let body = String::from_utf8(request.body.clone()).expect("text");
        assert_eq!(
            body,
            "{\"session_id\":\"SDsnZugDFmTW7Sec\",\"timestamp\":\"2026-11-20 03:00:00.000\",\"type\":\"incoming\",\
             \"state\":\"new\",\"from_number\":\"sip:74951234567@192.168.0.1\",\"from_pin\":\"\",\
             \"request_number\":\"sip:74957654321@192.168.0.1\",\"request_pin\":\"607\",\"disconnect_reason\":\"\",\
             \"is_record\":\"\"}"
        );
        let sign = sign(CLIENT, body.as_bytes(), KEY);
        assert!(request.headers.contains(&("x-client-id", CLIENT.to_owned())));
        assert!(request.headers.contains(&("x-client-sign", sign)));
        let mut hostile = question(Direction::In);
        hostile.leg.caller = Party::numbered("1\",\"state\":\"end");
        let body: Value =
            serde_json::from_slice(&kind().request(&hostile, Now::default()).body).expect("JSON");
        assert_eq!(body["state"], "new");
    }

    #[test]
    fn answers_are_read_as_crms_write_them() {
        let read = |body: &str| {
            let answer = kind().read(body.as_bytes()).ok()?;
            Some((answer.name.unwrap_or_default(), answer.pin.unwrap_or_default()))
        };
        let is = |name: &str, pin: &str| Some((name.to_owned(), pin.to_owned()));
        for (body, expected) in [
            (
                r#"{"result":0,"resultMessage":" ","displayName":"Anna +1 234-56-78-90"}"#,
                is("Anna +1 234-56-78-90", ""),
            ),
            (r#"{"result":"0","resultMessage":"","displayName":"Anna","PIN":"703"}"#, is("Anna", "703")),
            (r#"{"result":0,"displayName":"Anna","PIN":703}"#, is("Anna", "703")),
            (r#"{"displayName":"Anna"}"#, is("Anna", "")),
            (r#"{"result":0}"#, is("", "")),
            (r#"{"result":[],"displayName":{},"PIN":["703"]}"#, is("", "")),
            (r#"{"result":0,"displayName":null,"PIN":null}"#, is("", "")),
            (r#"{"result":0,"displayName":"a\u0000\r\nb"}"#, is("a   b", "")),
            (r#"{"result":-20,"displayName":"error"}"#, None),
            (r#"{"result":"1","PIN":"703"}"#, None),
            ("[]", None),
            ("\"0\"", None),
            ("<html>", None),
            ("", None),
            ("{\"result\":0,\"displayName\":\"\\", None),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
        for (status, good) in [(200, true), (204, true), (302, false), (404, false), (500, false)] {
            assert_eq!(understood(&kind(), status, b"{\"result\":0}").is_ok(), good, "{status}");
        }
    }
}

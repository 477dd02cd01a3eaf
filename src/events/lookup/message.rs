//! The question as a message to a broker, and the command that is its answer.
//!
//! Whoever answers names the question: its identity is random, so an answer to it comes from somebody who has read it, and
//! is believed as far as every command is ([`orders`](crate::events::upstream::mqtt::orders)).

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Answer, Question, text};
use crate::events::CloudEvent;

/// The type of the question, a CloudEvent like all others.
pub const TYPE: &str = "lookup";

/// What is published.
pub fn question(question: &Question, serial: &str) -> Vec<u8> {
    let event = CloudEvent { kind: TYPE.to_owned(), ..question.event() };
    event.to_json(serial).into_bytes()
}

/// Which question the arguments of a command answer, and what they say.
///
/// # Errors
/// What is wrong with them, for whoever sent them.
pub fn answer(arguments: &Map<String, Value>) -> Result<(Uuid, Answer), &'static str> {
    let strange = arguments.keys().any(|key| !matches!(key.as_str(), "question" | "name" | "pin"));
    if strange {
        return Err("an answer has question, name and pin, and nothing else");
    }
    let of = |key: &str| arguments.get(key).and_then(text);
    let id = of("question").and_then(|id| id.parse().ok()).ok_or("`question` is not the id of a question")?;
    Ok((id, Answer::of(of("name").as_deref(), of("pin").as_deref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Direction;
    use crate::events::upstream::samples;

    #[test]
    fn an_answer_names_the_question_that_was_asked() {
        let asked = samples::question(Direction::In);
        let told: Value = serde_json::from_slice(&question(&asked, "TR-1")).expect("JSON");
        assert_eq!((&told["type"], &told["subject"]), (&"tipring.lookup".into(), &"SDsnZugDFmTW7Sec".into()));
        assert_eq!(told["data"]["caller"]["e164"], "+74951234567");
        let arguments = |text: &str| serde_json::from_str::<Map<String, Value>>(text).expect("JSON");
        let id = told["id"].as_str().expect("an id");
        let said = answer(&arguments(&format!("{{\"question\":\"{id}\",\"name\":\"Anna\",\"pin\":703}}")));
        assert_eq!(said, Ok((asked.id, Answer::of(Some("Anna"), Some("703")))));
        let nobody = answer(&arguments(&format!("{{\"question\":\"{id}\"}}")));
        assert_eq!(nobody, Ok((asked.id, Answer::default())));
        for wrong in ["{}", "{\"question\":7}", "{\"question\":\"x\"}", "{\"question\":[]}"] {
            assert!(answer(&arguments(wrong)).is_err(), "{wrong}");
        }
        assert!(answer(&arguments(&format!("{{\"question\":\"{id}\",\"to\":\"1\"}}"))).is_err());
    }
}

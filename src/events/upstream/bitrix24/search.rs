//! Who calls, as the CRM of a portal knows it: `telephony.externalCall.searchCrmEntities`.
//!
//! The portal answers with all that have the number, the one that counts most first, and with the employee who is responsible
//! for each: a name for the display, and the internal number that may get the call.

use serde_json::{Value, json};

use super::answer::{self, Answer};
use crate::events::lookup::{self, Failure, Question, text};
use crate::events::upstream::facts::{digits, shown};
use crate::events::upstream::outcome::Outcome;

/// The method.
pub const METHOD: &str = "telephony.externalCall.searchCrmEntities";
/// Characters of a number.
const LONGEST: usize = 256;

/// What the portal is asked, but for the token; `None` where there is no number.
pub fn asked(question: &Question) -> Option<Value> {
    let number = question.leg.called_or_calling().number.as_ref()?;
    Some(json!({ "PHONE_NUMBER": shown(digits(number), LONGEST) }))
}

/// What it answers.
///
/// # Errors
/// It does not say.
pub fn understood(outcome: &Outcome) -> Result<lookup::Answer, Failure> {
    let result = match Answer::of(outcome) {
        Answer::Result(result) => result,
        other if other.is_expired() => {
            return Err(Failure::new(
                "the portal that is asked who calls wants a new token",
                "nothing: it is renewed when the next call is told",
            ));
        }
        other => {
            let (what, cure) = answer::refusal(&other, outcome).trouble.unwrap_or_else(|| {
                ("it does not answer".to_owned(), "check url of the upstream, and the way there".to_owned())
            });
            return Err(Failure::new(format!("the portal that is asked who calls: {what}"), cure));
        }
    };
    // Who is not known is an empty list; some versions say `false`.
    let Some(first) = result.get(0) else { return Ok(lookup::Answer::default()) };
    let responsible = first.get("ASSIGNED_BY").and_then(|it| it.get("USER_PHONE_INNER")).and_then(text);
    Ok(lookup::Answer::of(first.get("NAME").and_then(text).as_deref(), responsible.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, said: &str) -> Result<lookup::Answer, String> {
        let said = said.as_bytes().to_vec();
        understood(&Outcome::Answered { status, retry_after: None, said }).map_err(|it| it.to_string())
    }

    #[test]
    fn the_first_of_the_list_counts_in_any_type() {
        let entity = |name: &str, inner: &str| {
            format!(
                r#"{{"CRM_ENTITY_TYPE":"CONTACT","CRM_ENTITY_ID":5,"ASSIGNED_BY_ID":"1","NAME":{name},
                "ASSIGNED_BY":{{"ID":"1","TIMEMAN_STATUS":"OPENED","USER_PHONE_INNER":{inner}}}}}"#
            )
        };
        let list = |of: &[String]| format!(r#"{{"result":[{}],"time":{{}}}}"#, of.join(","));
        let is = |name: Option<&str>, pin: Option<&str>| Ok(lookup::Answer::of(name, pin));
        let two = list(&[entity("\"Anna & Co\"", "\"703\""), entity("\"Boris\"", "\"704\"")]);
        for (said, expected) in [
            (two, is(Some("Anna & Co"), Some("703"))),
            (list(&[entity("17", "703")]), is(Some("17"), Some("703"))),
            (list(&[entity("null", "null")]), is(None, None)),
            (list(&[entity("{}", "[]")]), is(None, None)),
            (list(&["7".to_owned()]), is(None, None)),
            (list(&[]), is(None, None)),
            (r#"{"result":false}"#.to_owned(), is(None, None)),
        ] {
            assert_eq!(read(200, &said), expected, "{said}");
        }
    }

    #[test]
    fn what_is_no_answer_says_what_to_do() {
        for (status, said, expected) in [
            (401, r#"{"error":"expired_token"}"#, "wants a new token"),
            (403, r#"{"error":"insufficient_scope"}"#, "give it the permission telephony"),
            (200, "<html>", "no answer of Bitrix24's"),
            (500, "", "it does not answer"),
        ] {
            let failure = read(status, said).expect_err("no answer");
            assert!(failure.contains(expected), "{failure}");
        }
        let gone = Outcome::Failed { what: "no".into(), cure: "way".into() };
        assert!(understood(&gone).is_err());
    }
}

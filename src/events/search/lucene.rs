//! The query language of Lucene, as far as it is used to search call detail records:
//!
//! ```text
//! destination_number:/0969716158/ OR caller_id_number:/0969716158/
//! direction:inbound AND NOT hangup_cause:NORMAL_CLEARING AND duration:[10 TO 60}
//! (caller_id_name:"Anna & Co" || caller_id_name:An*) -gateway:sip?  billsec:>=30
//! ```
//!
//! A pattern between slashes has to fit as a whole. Terms without an operator between them all have to hold. A term needs its
//! field: there is no field that means all others.

use super::{Budget, Condition, SearchError, Test};

/// Bytes of a query.
const LONGEST: usize = 4096;
/// What a term looks like.
const TERM: &str = "write FIELD:VALUE, FIELD:/PATTERN/, FIELD:\"SOME WORDS\" or FIELD:[FROM TO UNTIL], joined by AND, OR and NOT";

/// Reads a query; an empty one and `*` find everything.
///
/// # Errors
/// It is too long, or cannot be read; the error says where.
pub fn read(query: &str) -> Result<Condition, SearchError> {
    if query.len() > LONGEST {
        return Err(SearchError::new(
            "the query is longer than 4096 bytes",
            "search for fewer things at once",
        ));
    }
    let mut reader = Reader { rest: query, budget: Budget::default() };
    reader.space();
    if matches!(reader.rest, "" | "*" | "*:*") {
        return Ok(Condition::all());
    }
    let condition = reader.any()?;
    if reader.rest.is_empty() { Ok(condition) } else { Err(reader.unread()) }
}

struct Reader<'a> {
    /// Begins with what is no space.
    rest: &'a str,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unread(&self) -> SearchError {
        let near: String = self.rest.chars().take(20).collect();
        let near = if near.is_empty() { "its end".to_owned() } else { format!("{near:?}") };
        SearchError::new(format!("the query can't be read at {near}"), TERM)
    }

    /// Takes a sign.
    fn sign(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else { return false };
        self.rest = rest;
        self.space();
        true
    }

    /// Takes a word in capitals that something else follows.
    fn word(&mut self, word: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(word) else { return false };
        if !rest.starts_with(|c: char| c.is_whitespace() || "(+-!\"".contains(c)) {
            return false;
        }
        self.rest = rest;
        self.space();
        true
    }

    fn any(&mut self) -> Result<Condition, SearchError> {
        let mut all = vec![self.every()?];
        while self.word("OR") || self.sign("||") {
            all.push(self.every()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Any(all) })
    }

    fn every(&mut self) -> Result<Condition, SearchError> {
        let mut all = vec![self.one()?];
        loop {
            let joined = self.word("AND") || self.sign("&&");
            if !joined && (self.rest.is_empty() || self.rest.starts_with([')', '|']) || self.or_follows()) {
                break;
            }
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Every(all) })
    }

    fn or_follows(&self) -> bool {
        let mut ahead = Reader { rest: self.rest, budget: Budget::default() };
        ahead.word("OR")
    }

    fn one(&mut self) -> Result<Condition, SearchError> {
        self.budget.one()?;
        if self.word("NOT") || self.sign("!") || self.sign("-") {
            let inner = self.within(Reader::one)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        if self.sign("+") {
            return self.within(Reader::one);
        }
        if self.sign("(") {
            let inner = self.within(Reader::any)?;
            return if self.sign(")") { Ok(inner) } else { Err(self.unread()) };
        }
        self.term()
    }

    fn within(
        &mut self,
        inner: impl FnOnce(&mut Reader<'a>) -> Result<Condition, SearchError>,
    ) -> Result<Condition, SearchError> {
        self.budget.down()?;
        let condition = inner(self)?;
        self.budget.up();
        Ok(condition)
    }

    fn term(&mut self) -> Result<Condition, SearchError> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let Some(rest) = rest.strip_prefix(':').filter(|_| !name.is_empty()) else {
            return Err(self.unread());
        };
        self.rest = rest;
        self.space();
        let test = self.test()?;
        self.space();
        Ok(Condition::Field(name.to_owned(), test))
    }

    fn test(&mut self) -> Result<Test, SearchError> {
        if let Some(rest) = self.rest.strip_prefix('/') {
            let (pattern, rest) = closed(rest, '/').ok_or_else(|| self.unread())?;
            self.rest = rest;
            return Test::pattern(&pattern.replace("\\/", "/"));
        }
        if let Some(rest) = self.rest.strip_prefix('"') {
            let (phrase, rest) = closed(rest, '"').ok_or_else(|| self.unread())?;
            self.rest = rest;
            return Ok(Test::Is(unescaped(phrase)));
        }
        if self.rest.starts_with(['[', '{']) {
            return self.range();
        }
        for (sign, above, with) in
            [(">=", true, true), (">", true, false), ("<=", false, true), ("<", false, false)]
        {
            if self.sign(sign) {
                let bound = Some((self.value()?, with));
                return Ok(if above { Test::Within(bound, None) } else { Test::Within(None, bound) });
            }
        }
        let value = self.value()?;
        Test::wildcard(&value)
    }

    fn range(&mut self) -> Result<Test, SearchError> {
        let from_with = self.rest.starts_with('[');
        self.rest = self.rest.get(1..).unwrap_or_default();
        self.space();
        let from = self.value()?;
        self.space();
        if !self.word("TO") {
            return Err(self.unread());
        }
        let to = self.value()?;
        self.space();
        let to_with = self.rest.starts_with(']');
        if !self.rest.starts_with([']', '}']) {
            return Err(self.unread());
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        let bound = |value: String, with| (value != "*").then_some((value, with));
        Ok(Test::Within(bound(from, from_with), bound(to, to_with)))
    }

    /// A value without quotes.
    fn value(&mut self) -> Result<String, SearchError> {
        let mut escaped = false;
        let end = self.rest.find(|c: char| {
            let ends = !escaped && (c.is_whitespace() || "()[]{}\"".contains(c));
            escaped = !escaped && c == '\\';
            ends
        });
        let (value, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if value.is_empty() {
            return Err(self.unread());
        }
        self.rest = rest;
        Ok(unescaped(value))
    }
}

/// What stands before the closing sign that has no backslash before it, and what comes after.
fn closed(text: &str, sign: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = !escaped && c == sign;
        escaped = !escaped && c == '\\';
        ends
    })?;
    Some((text.get(..end)?, text.get(end + sign.len_utf8()..)?))
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn record() -> Map<String, Value> {
        let record = json!({
            "caller_id_number": "+380969716158", "destination_number": "101", "caller_id_name": "Anna & Co",
            "direction": "inbound", "hangup_cause": "NORMAL_CLEARING", "duration": 30, "gateway": "sip1",
            "variables": { "sip_term_status": 200 },
        });
        record.as_object().cloned().expect("an object")
    }

    fn finds(query: &str) -> bool {
        read(query).unwrap_or_else(|error| panic!("{query}: {error}")).holds(&record())
    }

    #[test]
    fn the_query_of_who_called_finds_a_number_in_any_spelling() {
        for number in ["0969716158", "380969716158", "80969716158"] {
            let query = format!("destination_number:/{number}/ OR caller_id_number:/{number}/");
            assert!(finds(&query), "{query}");
            assert_eq!(read(&query).expect("a query").number(), Some(number), "found without looking at all");
        }
        assert!(!finds("destination_number:/0969716159/ OR caller_id_number:/0969716159/"));
        assert!(!finds("destination_number:/0969716158/"), "it is the caller's");
    }

    #[test]
    fn queries_hold_as_lucene_reads_them() {
        for (query, holds) in [
            ("", true),
            ("*", true),
            ("*:*", true),
            ("direction:inbound", true),
            ("direction:INBOUND", true),
            ("direction:in", false),
            ("direction:in*", true),
            ("direction:inboun?", true),
            ("gateway:sip?", true),
            ("gateway:sip??", false),
            ("direction:/in/", false),
            ("direction:/in.*/", true),
            ("caller_id_number:/380\\d+/", true),
            ("caller_id_number:/\\+380\\d+/", true),
            ("caller_id_name:\"anna & co\"", true),
            ("caller_id_name:Anna\\ \\&\\ Co", true),
            ("duration:[30 TO 60]", true),
            ("duration:{30 TO 60]", false),
            ("duration:[10 TO 30}", false),
            ("duration:[* TO 30]", true),
            ("duration:>=30", true),
            ("duration:>30", false),
            ("duration:<100", true),
            ("billsec:>=0", false),
            ("billsec:*", false),
            ("duration:*", true),
            ("variables.sip_term_status:200", true),
            ("NOT direction:outbound", true),
            ("-direction:inbound", false),
            ("!direction:outbound +duration:30", true),
            ("direction:inbound duration:31", false),
            ("direction:inbound AND duration:30", true),
            ("direction:inbound && NOT duration:30", false),
            ("direction:outbound AND duration:30 OR gateway:sip1", true),
            ("direction:outbound AND (duration:30 OR gateway:sip1)", false),
            ("direction:outbound || (gateway:sip1)", true),
        ] {
            assert_eq!(finds(query), holds, "{query}");
        }
    }

    #[test]
    fn what_is_no_query_is_said_with_its_place() {
        for (query, place) in [
            ("anna", "\"anna\""),
            ("direction:", "its end"),
            ("direction:inbound OR", "\"OR\""),
            ("(direction:inbound", "its end"),
            ("direction:inbound)", "\")\""),
            ("duration:[10 60]", "\"60]\""),
            ("caller_id_name:\"anna", "\"\\\"anna\""),
            ("caller_id_number:/+380", "\"/+380\""),
        ] {
            let error = read(query).expect_err(query);
            assert_eq!(error.what, format!("the query can't be read at {place}"), "{query}");
        }
        assert!(read("caller_id_number:/(/").expect_err("no pattern").what.contains("is no pattern"));
    }

    #[test]
    fn a_query_has_limits() {
        assert!(read(&"a:b ".repeat(64)).is_ok());
        assert!(read(&"a:b ".repeat(65)).is_err(), "many");
        assert!(read(&"a:b ".repeat(2000)).is_err(), "long");
        assert!(read(&format!("{}a:b{}", "(".repeat(16), ")".repeat(16))).is_ok());
        assert!(read(&format!("{}a:b{}", "(".repeat(17), ")".repeat(17))).is_err(), "deep");
        assert!(read(&format!("a:/{}/", "a".repeat(257))).is_err(), "a long pattern");
        assert!(read("a:/((a{100}){100}){100}/").is_err(), "a large pattern");
    }
}

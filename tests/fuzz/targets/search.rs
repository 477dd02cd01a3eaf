//! What somebody searches the journal for, in the languages of Lucene and Elasticsearch.

use super::Target;
use serde_json::{Map, Value, json};
use tipring::events::search::{filter, lucene};

pub const TARGETS: &[Target] = &[
    Target { name: "search_lucene", run: query, seeds: QUERIES, dictionary: WORDS },
    Target { name: "search_filter", run: filters, seeds: FILTERS, dictionary: NAMES },
];

const QUERIES: &[&[u8]] = &[
    b"destination_number:/0969716158/ OR caller_id_number:/0969716158/",
    b"direction:inbound AND NOT hangup_cause:NORMAL_CLEARING AND duration:[10 TO 60}",
    b"(caller_id_name:\"Anna & Co\" || caller_id_name:An*) -gateway:sip?  billsec:>=30",
];
const WORDS: &[&[u8]] = &[
    b"OR",
    b" AND ",
    b"NOT ",
    b"||",
    b"&&",
    b"(",
    b")",
    b":",
    b"/",
    b"\"",
    b"[",
    b" TO ",
    b"]",
    b"}",
    b"*",
    b"?",
    b"\\",
    b"a:b",
    b">=",
    b"(a{100}){100}",
    b"variables.sip_to_user",
    b"\xc3\xa9",
];
const FILTERS: &[&[u8]] = &[
    b"[{\"range\":{\"created_time\":{\"gte\":1795000000000,\"lt\":\"1795000000001\"}}}]",
    b"{\"bool\":{\"must\":[{\"term\":{\"direction\":\"inbound\"}}],\"should\":[{\"terms\":{\"duration\":[1,30]}}],\"must_not\":{}}}",
    b"{\"query_string\":{\"query\":\"direction:in*\"}}",
];
const NAMES: &[&[u8]] = &[
    b"{\"bool\":",
    b"\"must\":",
    b"\"regexp\":",
    b"\"wildcard\":",
    b"\"prefix\":",
    b"\"exists\":",
    b"\"field\":",
    b"null",
    b"[",
    b"{",
];

fn record() -> Map<String, Value> {
    let record = json!({
        "caller_id_number": "+380969716158", "destination_number": "101", "caller_id_name": "Anna",
        "direction": "inbound", "duration": 30, "variables": { "sip_term_status": 200 }, "callflow": [],
    });
    record.as_object().cloned().unwrap_or_default()
}

/// A query that is read is one that can be asked of a record, and a number that it begins with takes part in what it finds.
fn query(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let Ok(condition) = lucene::read(&text) else { return };
    if condition.holds(&record())
        && let Some(number) = condition.number()
    {
        let number = tipring::events::Number::new(number);
        let parties = ["+380969716158", "101"].map(tipring::events::Number::new);
        assert!(parties.iter().any(|party| number.same_as(party)), "{text}");
    }
}

fn filters(octets: &[u8]) {
    let Ok(asked) = serde_json::from_slice::<Value>(octets) else { return };
    if let Ok(condition) = filter::read(&asked) {
        condition.holds(&record());
    }
}

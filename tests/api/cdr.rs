//! The journal searched and scrolled through as Webitel's call detail records are.

use serde_json::{Value, json};
use tipring::events::store::{Entry, Write};
use tipring::events::{CallResult, Cause, Direction};

use crate::leg;
use crate::office::{Answer, Paper, THEN, TOKEN, until};

const PATH: &str = "/api/v2/cdr/text";

/// An incoming call that is over.
fn call(paper: &Paper, id: &str, number: &str, seconds: u64) {
    let mut entry = Entry::begun(id, leg(id, number, "Anna"), THEN);
    entry.result = Some(CallResult::Answered);
    entry.cause = Cause::remote(200, "bye");
    (entry.total_us, entry.talk_us) = (seconds * 1_000_000, seconds * 1_000_000);
    entry.ended_utc_us = Some(THEN + entry.total_us as i64);
    paper.keep(Write::Call(Box::new(entry)));
}

fn search(paper: &Paper, body: &Value) -> Answer {
    paper.local("POST", PATH, Some(&body.to_string()))
}

fn ids(answer: &Value) -> Vec<String> {
    let hits = answer["hits"]["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"));
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_number_is_found_as_destination_or_caller_in_the_columns_asked_for() {
    let paper = Paper::open("cdr");
    call(&paper, "a", "+380969716158", 60);
    call(&paper, "b", "+380969716159", 10);
    let mut outgoing = Entry::begun("c", leg("c", "1001", "Anna"), THEN);
    outgoing.leg.direction = Direction::Out;
    outgoing.leg.called = tipring::events::Party::numbered("0969716158");
    outgoing.result = Some(CallResult::Busy);
    paper.keep(Write::Call(Box::new(outgoing)));
    let open = Entry::begun("d", leg("d", "+380969716158", "Anna"), THEN);
    paper.keep(Write::Call(Box::new(open)));

    let asked = json!({
        "columns": ["caller_id_number", "direction", "variables.sip_call_id", "leg"], "index": "cdr-a",
        "query": "destination_number:/0969716158/ OR caller_id_number:/0969716158/",
        "sort": {"created_time": {"order": "desc"}}, "limit": 10,
    });
    let found = search(&paper, &asked).json();
    assert_eq!(ids(&found), ["c-1", "a-1"], "newest first; what goes on has no record yet");
    let expected = json!({
        "caller_id_number": ["+380969716158"], "direction": ["inbound"], "variables.sip_call_id": ["r1"],
    });
    assert_eq!(found["hits"]["hits"][1]["fields"], expected);
    assert_eq!((&found["timed_out"], found.get("_scroll_id")), (&false.into(), None));

    let long = search(&paper, &json!({"filter": [{"range": {"duration": {"gte": 30}}}]})).json();
    assert_eq!(ids(&long), ["a-1"]);
    let record = &long["hits"]["hits"][0]["_source"];
    assert_eq!((&record["billsec"], &record["domain_name"]), (&60.into(), &"pbx.example".into()));
    assert_eq!(record["presence_id"], "1001@pbx.example");
    assert_eq!((&record["created_time"], &record["gateway"]), (&(THEN / 1000).into(), &"main".into()));
}

#[test]
fn a_scroll_gives_every_call_once_while_others_come_in() {
    let paper = Paper::open("scroll");
    for number in 0..500 {
        call(&paper, &format!("old{number}"), &format!("+7495123{number:04}"), number % 7);
    }
    until("the store has kept them", || {
        let newest = paper.local("GET", "/api/v1/journal?limit=1", None);
        newest.status == 200 && newest.json()["entries"][0]["call_id"] == "old499"
    });
    let query = json!({"query": "duration:>=1", "limit": 60, "scroll": "1m"});
    let mut answer = search(&paper, &query).json();
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let page = ids(&answer);
        if page.is_empty() {
            break;
        }
        all.extend(page.clone());
        pages += 1;
        call(&paper, &format!("new{pages}"), "+74951234567", 5);
        let next = json!({"scroll": "1m", "scroll_id": answer["_scroll_id"]});
        answer = search(&paper, &next).json();
        if pages == 3 {
            assert_eq!(ids(&search(&paper, &next).json()), ids(&answer), "a page whose answer was lost");
        }
    }
    let expected: Vec<String> =
        (0..500).rev().filter(|it| it % 7 > 0).map(|it| format!("old{it}-1")).collect();
    assert_eq!(all, expected);
    assert_eq!(pages, 8);
}

#[test]
fn what_can_not_be_searched_is_said() {
    let paper = Paper::open("cdr-wrong");
    for (body, status, what) in [
        (json!({"query": "anna"}), 400, "can't be read"),
        (json!({"filter": {"script": {}}}), 400, "there is no filter"),
        (json!({"sort": {"duration": "asc"}}), 400, "the newest call comes first"),
        (json!({"limit": 0}), 400, "the limit is 0"),
        (json!({"limit": 1001}), 400, "the limit is 1001"),
        (json!({"columns": vec!["a"; 65]}), 400, "too many columns"),
        (json!({"scroll": "1h"}), 400, "no time"),
        (json!({"scroll_id": "0123"}), 404, "never begun"),
        (json!({"scroll_id": "é.9"}), 404, "never begun"),
        (json!({"pageNumber": 2}), 400, "pageNumber"),
    ] {
        let answer = search(&paper, &body);
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.text.contains(what), "{body}: {}", answer.text);
    }
}

#[test]
fn webitels_header_is_a_token_too() {
    let paper = Paper::open("cdr-token");
    call(&paper, "a", "600", 1);
    let ask = |token: &str| {
        let fields = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("X-Key", "k"),
            ("X-Access-Token", token),
        ];
        paper.remote("POST", PATH, &fields, "{}")
    };
    assert_eq!(ids(&ask(TOKEN).json()), ["a-1"]);
    assert_eq!(ask("guess").status, 401);
}

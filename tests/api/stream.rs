//! The event stream.

use serde_json::json;
use tipring::events::{Event, Kind};

use crate::office::{Paper, Reader, until};

fn degraded(part: &str) -> Event {
    Event::new(Kind::DeviceDegraded { part: part.into(), what: "w".into(), cure: "c".into() })
}

#[test]
fn what_is_kept_is_replayed_and_what_comes_follows() {
    let paper = Paper::open("replay");
    for number in 1..=250 {
        paper.tell(degraded(&format!("part{number}")));
    }
    let mut reader = Reader::open(&paper, "/api/v1/events?since=0", "");
    for number in 1..=250 {
        let (id, event) = reader.event();
        assert_eq!(id, number);
        assert_eq!(event["type"], "tipring.device.degraded");
        assert_eq!(event["sequence"], format!("{number:020}"));
        assert_eq!(event["source"], "urn:tipring:TR-1");
        assert_eq!(event["data"]["part"], format!("part{number}"));
    }
    paper.tell(degraded("fresh"));
    let (id, event) = reader.event();
    assert_eq!((id, &event["data"]["part"]), (251, &json!("fresh")));
    let mut again = Reader::open(&paper, "/api/v1/events?since=3", "Last-Event-ID: 249\r\n");
    assert_eq!(again.event().0, 250, "the header wins");
    let mut now = Reader::open(&paper, "/api/v1/events", "");
    now.next(": events").expect("the stream is open");
    paper.tell(degraded("newest"));
    assert_eq!(now.event().0, 252, "without a number it begins now");
}

#[test]
fn a_reader_that_knows_a_lost_store_is_told_of_the_gap() {
    let paper = Paper::open("gap");
    paper.tell(degraded("a"));
    until("the event is kept", || paper.local("GET", "/metrics", None).text.contains("events_committed 1\n"));
    let mut reader = Reader::open(&paper, "/api/v1/events?since=900", "");
    let (_, gap) = reader.event();
    assert_eq!(gap["type"], "tipring.gap");
    assert_eq!(reader.event().0, 1, "then all that is kept");
}

#[test]
fn erased_events_are_a_gap() {
    let paper = Paper::open("erased");
    crate::remember(&paper, "p1", "600", "Anna");
    paper.tell(degraded("after"));
    paper.local("DELETE", "/api/v1/journal/p1", None);
    let mut reader = Reader::open(&paper, "/api/v1/events?since=0", "");
    let (id, gap) = reader.event();
    assert_eq!((id, &gap["type"], &gap["data"]["reason"]), (1, &json!("tipring.gap"), &json!("erased")));
    assert_eq!(reader.event().0, 2);
}

#[test]
fn readers_are_bounded_and_their_places_come_back() {
    let paper = Paper::open("readers");
    let mut readers: Vec<Reader> = (0..32)
        .map(|_| {
            let mut reader = Reader::open(&paper, "/api/v1/events", "");
            reader.next(": events").expect("the stream is open");
            reader
        })
        .collect();
    let refused = paper.local("GET", "/api/v1/events", None);
    assert_eq!((refused.status, refused.code()), (503, "too_many_streams".to_owned()));
    assert!(refused.head.contains("retry-after: 1"));
    readers.pop();
    until("a place is free", || {
        let mut reader = Reader::open(&paper, "/api/v1/events", "");
        reader.next("HTTP/1.1 ").is_some_and(|status| status.starts_with("200"))
    });
    assert_eq!(paper.local("GET", "/healthz", None).status, 200);
}

#[test]
fn the_end_of_the_appliance_ends_the_streams_after_the_last_event() {
    let paper = Paper::open("end");
    let mut reader = Reader::open(&paper, "/api/v1/events?since=0", "");
    reader.next(": events").expect("the stream is open");
    paper.tell(degraded("last"));
    let socket = paper.socket();
    let (id, _) = reader.event();
    assert_eq!(id, 1);
    paper.close();
    assert_eq!(reader.next("0\r\n"), Some(String::new()), "the stream ended in order");
    assert!(!socket.exists(), "the socket is gone");
}

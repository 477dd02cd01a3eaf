//! The store over a database in memory; power cuts are in `tests/store_power_cut.rs`.

use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::chance::Chance;
use crate::events::upstream::state::{Condition, State};
use crate::events::{CallResult, Cause, Direction, Event, Kind, Leg, Number, Party, Recorder, Side};
use crate::now::Now;

/// 2026-11-20T00:00:00Z
const TODAY: i64 = 1_795_132_800_000_000;
const DAY: i64 = 86_400_000_000;

fn store() -> Store {
    Store::open(Connection::open_in_memory().unwrap()).unwrap()
}

fn at(utc_us: i64) -> Now {
    Now { mono_us: 0, utc_us }
}

struct Source(Recorder);

impl Source {
    fn new() -> Source {
        Source(Recorder::new(0, Chance::from_number(3)))
    }

    /// An event of a call, `bytes` large or a little more.
    fn event(&mut self, utc_us: i64, call: &str, bytes: usize) -> Write {
        let kind =
            Kind::DeviceDegraded { part: "sound".into(), what: "x".repeat(bytes), cure: String::new() };
        Write::Event(Box::new(self.0.record(at(utc_us), Event::of_call(call, kind))))
    }
}

fn entry(leg: &str, caller: &str, called: &str, started: i64) -> Entry {
    Entry {
        call_id: format!("call-{leg}"),
        leg: Leg {
            leg_id: leg.to_owned(),
            sip_call_id: None,
            line: "office".into(),
            direction: Direction::In,
            caller: Party::numbered(caller),
            called: Party::numbered(called),
            did: None,
            diverted: None,
            connected: None,
            callback_id: None,
            follows: None,
        },
        started_utc_us: started,
        answered_utc_us: None,
        ended_utc_us: None,
        result: None,
        cause: Cause::default(),
        total_us: 0,
        ring_us: 0,
        talk_us: 0,
        hold_us: 0,
        quality: None,
        recording_id: None,
        vote: None,
        transferred_to: None,
    }
}

fn ended(leg: &str, caller: &str, called: &str, started: i64, result: CallResult) -> Write {
    let cause = Cause::remote(486, "Busy Here");
    let entry = entry(leg, caller, called, started);
    Write::Call(Box::new(Entry { result: Some(result), cause, ended_utc_us: Some(started + 1), ..entry }))
}

/// A call of `5`, which a rule made `+49301234567`.
fn short_dialled(leg: &str, started: i64) -> Entry {
    let mut entry = entry(leg, "108", "5", started);
    entry.leg.called.number = Some(Number { dialled: "5".into(), e164: Some("+49301234567".into()) });
    entry
}

fn legs(page: &JournalPage) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.leg.leg_id.as_str()).collect()
}

#[test]
fn events_come_back_in_order_and_in_pages() {
    let (mut store, mut source) = (store(), Source::new());
    assert_eq!((store.last_sequence().unwrap(), store.events_since(0, 10).unwrap()), (0, vec![]));
    let batch: Vec<_> = (0..25).map(|n| source.event(TODAY - n, "c", 1)).collect();
    store.commit(&batch).unwrap();
    assert_eq!(store.last_sequence().unwrap(), 25);
    let mut seen = Vec::new();
    let mut since = 0;
    loop {
        let page = store.events_since(since, 10).unwrap();
        let Some(last) = page.last() else { break };
        since = last.sequence;
        seen.extend(page);
    }
    let told: Vec<_> = batch
        .iter()
        .map(|write| match write {
            Write::Event(event) => event.cloud_event(Digits::Hidden),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(seen, told, "order is that of the numbers, though the clock ran backwards");
}

#[test]
fn a_batch_is_kept_as_a_whole_or_not_at_all() {
    let (mut store, mut source) = (store(), Source::new());
    let first = source.event(TODAY, "c", 1);
    store.commit(std::slice::from_ref(&first)).unwrap();
    store.commit(std::slice::from_ref(&first)).unwrap();
    assert_eq!(store.events_since(0, 10).unwrap().len(), 1, "the same event again is no second one");

    let taken = Recorder::new(0, Chance::from_number(99))
        .record(at(TODAY), Event::new(Kind::DeviceRecovered { part: "x".into() }));
    let batch = [source.event(TODAY, "c", 1), Write::Event(Box::new(taken))];
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, StoreError::NumberTaken { sequence: 1 }), "{error}");
    assert_eq!(error.blame(), Blame::Ours);
    assert_eq!(store.last_sequence().unwrap(), 1, "nothing of the batch is there");
}

#[test]
fn a_hole_in_the_numbers_is_told_as_a_gap() {
    let (mut store, mut source) = (store(), Source::new());
    let all: Vec<_> = (0..6).map(|_| source.event(TODAY, "c", 1)).collect();
    store.commit(&[all[0].clone(), all[4].clone()]).unwrap();
    let page = store.events_since(0, 10).unwrap();
    let told: Vec<_> = page.iter().map(|it| (it.sequence, it.kind.as_str(), it.data.as_str())).collect();
    assert_eq!(told[1], (4, "gap", r#"{"first":2,"last":4}"#));
    assert_eq!((told[0].0, told[2].0, told.len()), (1, 5, 3));
    assert_eq!(store.events_since(2, 10).unwrap()[0].data, r#"{"first":3,"last":4}"#);
    assert_eq!(store.events_since(4, 10).unwrap()[0].sequence, 5);
    assert_eq!(store.events_since(1, 1).unwrap()[0].kind, "gap", "a page may end with a gap");
}

#[test]
fn digits_are_not_even_kept_unless_asked_for() {
    let mut source = Source::new();
    let mut pressed = || {
        let leg = entry("l", "1", "2", 0).leg;
        let kind = Kind::CallDtmf {
            leg,
            by: Side::Remote,
            digits: Some("4711".into()),
            duration_us: None,
            method: "rfc4733".into(),
        };
        Write::Event(Box::new(source.0.record(at(TODAY), Event::of_call("c", kind))))
    };
    let mut store = store();
    store.commit(&[pressed()]).unwrap();
    assert!(!store.events_since(0, 1).unwrap()[0].data.contains("4711"));
    store.keep_digits(Digits::Shown);
    store.commit(&[pressed()]).unwrap();
    assert!(store.events_since(1, 1).unwrap()[0].data.contains("4711"));
}

#[test]
fn what_is_older_than_the_retention_goes_and_leaves_a_gap() {
    let (mut store, mut source) = (store(), Source::new());
    let retention = Duration::from_secs(30 * 86_400);
    let times = [0, TODAY - 60 * DAY, 7, TODAY - 40 * DAY, TODAY - 10 * DAY, 9, TODAY - 35 * DAY, TODAY];
    let batch: Vec<_> = times.iter().map(|time| source.event(*time, "c", 1)).collect();
    store.commit(&batch).unwrap();
    store
        .commit(&[
            ended("old", "1", "2", TODAY - 31 * DAY, CallResult::Busy),
            ended("new", "1", "2", TODAY - 29 * DAY, CallResult::Busy),
        ])
        .unwrap();

    assert_eq!(
        store.prune(5, retention, u64::MAX).unwrap(),
        Pruned::default(),
        "a clock in 1970 ages nothing"
    );
    assert_eq!(store.prune(TODAY, retention, u64::MAX).unwrap(), Pruned { events: 4, calls: 1, more: false });
    let page = store.events_since(0, 10).unwrap();
    let told: Vec<_> = page.iter().map(|it| (it.sequence, it.kind.as_str())).collect();
    assert_eq!(
        told,
        [
            (4, "gap"),
            (5, "device.degraded"),
            (6, "device.degraded"),
            (7, "device.degraded"),
            (8, "device.degraded")
        ],
        "what follows a young event is young, whatever the clock said"
    );
    assert_eq!(page[0].data, r#"{"first":1,"last":4,"reason":"age"}"#);
    assert_eq!(legs(&store.journal(&Query { limit: 10, ..Query::default() }).unwrap()), ["new"]);

    store.prune(TODAY + 400 * DAY, retention, u64::MAX).unwrap();
    assert_eq!(store.last_sequence().unwrap(), 8, "numbers are never given again");
    let page = store.events_since(0, 10).unwrap();
    assert_eq!(page.iter().map(|it| (it.sequence, it.kind.as_str())).collect::<Vec<_>>(), [(8, "gap")]);
    assert_eq!(store.events_since(8, 10).unwrap(), vec![]);
}

/// All slices of it.
fn prune(store: &mut Store, retention: Duration, bytes: u64) -> Pruned {
    let mut all = Pruned::default();
    loop {
        let pruned = store.prune(TODAY, retention, bytes).unwrap();
        (all.events, all.calls) = (all.events + pruned.events, all.calls + pruned.calls);
        if !pruned.more {
            return all;
        }
    }
}

#[test]
fn the_oldest_events_make_room() {
    let (mut store, mut source) = (store(), Source::new());
    for _ in 0..40 {
        let batch: Vec<_> = (0..50).map(|_| source.event(TODAY, "c", 1000)).collect();
        store.commit(&batch).unwrap();
    }
    store.commit(&[ended("leg", "1", "2", TODAY, CallResult::Answered)]).unwrap();
    let retention = Duration::from_secs(86_400);
    let pruned = prune(&mut store, retention, 1 << 20);
    assert!(pruned.events > 900 && pruned.events < 1500 && pruned.calls == 0, "{pruned:?}");
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    assert!(pages * 4096 <= 1 << 20, "the file gets smaller: {pages}");
    let first = &store.events_since(0, 1).unwrap()[0];
    assert_eq!(first.data, format!(r#"{{"first":1,"last":{},"reason":"size"}}"#, pruned.events));
    assert_eq!(store.events_since(0, 10_000).unwrap().len() as u64, 1 + 2000 - pruned.events);

    let all = prune(&mut store, retention, 0);
    assert_eq!(all.calls, 1, "the journal goes last");
    assert_eq!(store.last_sequence().unwrap(), 2000);
}

#[test]
fn the_journal_finds_a_number_in_any_spelling_on_either_side() {
    let mut store = store();
    store
        .commit(&[
            ended("a", "+7 (495) 445-11-20", "106", TODAY, CallResult::Answered),
            ended("b", "106", "84954451120", TODAY + 1, CallResult::Busy),
            ended("c", "+74951112233", "106", TODAY + 2, CallResult::NoAnswer),
            ended("d", "anna", "107", TODAY + 3, CallResult::Cancelled),
            ended("e", "+4930123456", "107", TODAY + 4, CallResult::Cancelled),
            ended("f", "+44204451120", "107", TODAY + 4, CallResult::Cancelled),
            Write::Call(Box::new(short_dialled("g", TODAY + 5))),
        ])
        .unwrap();
    let search = |number: &str| {
        let query = Query { number: Some(number.to_owned()), limit: 10, ..Query::default() };
        store.journal(&query).unwrap().entries.into_iter().map(|it| it.leg.leg_id).collect::<String>()
    };
    assert_eq!(search("4954451120"), "ba");
    assert_eq!(search("+74954451120"), "ba");
    assert_eq!(search("106"), "cba");
    assert_eq!(search("030/123456"), "e");
    assert_eq!(search("+49301234567"), "g", "a rule made it of another number");
    assert_eq!(search("030 1234567"), "g");
    assert_eq!(search("5"), "g");
    assert_eq!(
        search("+444954451120"),
        "b",
        "a national number may be anybody's, certain ones that differ are not the same"
    );
    assert_eq!(search("Anna"), "d");
    assert_eq!(search("0"), "");
    assert_eq!(search("' OR 1=1 --"), "");
}

#[test]
fn the_journal_is_filtered_and_paged_while_calls_come_in() {
    let mut store = store();
    for n in 0..10 {
        let result = if n % 2 == 0 { CallResult::Answered } else { CallResult::NoAnswer };
        store.commit(&[ended(&format!("{n}"), "1", "2", TODAY + n, result)]).unwrap();
    }
    let query = |cursor| Query { limit: 4, cursor, ..Query::default() };
    let first = store.journal(&query(None)).unwrap();
    assert_eq!(legs(&first), ["9", "8", "7", "6"]);
    store.commit(&[ended("late", "1", "2", TODAY, CallResult::Busy)]).unwrap();
    let second = store.journal(&query(first.next)).unwrap();
    assert_eq!(legs(&second), ["5", "4", "3", "2"]);
    let third = store.journal(&query(second.next)).unwrap();
    assert_eq!((legs(&third), third.next), (vec!["1", "0"], None));

    let filtered = |query: Query| {
        let page = store.journal(&Query { limit: 100, ..query }).unwrap();
        page.entries.into_iter().map(|it| it.leg.leg_id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(filtered(Query { since_utc_us: Some(TODAY + 7), ..Query::default() }), "9 8 7");
    assert_eq!(filtered(Query { result: Some(CallResult::Busy), ..Query::default() }), "late");
    assert_eq!(filtered(Query { direction: Some(Direction::Out), ..Query::default() }), "");
    assert_eq!(filtered(Query { line: Some("shop".into()), ..Query::default() }), "");
    let both = Query { number: Some("1".into()), result: Some(CallResult::Answered), ..Query::default() };
    assert_eq!(filtered(both), "8 6 4 2 0");
}

#[test]
fn a_leg_is_one_row_from_its_beginning_to_its_end() {
    let mut store = store();
    let begun = entry("leg", "1", "2", TODAY);
    store
        .commit(&[Write::Call(Box::new(begun.clone())), Write::Call(Box::new(entry("cut", "3", "4", TODAY)))])
        .unwrap();
    assert_eq!(store.interrupted().unwrap().len(), 2);
    let end = Entry {
        result: Some(CallResult::Answered),
        ended_utc_us: Some(TODAY + 5),
        recording_id: Some("rec-1".into()),
        leg: Leg { connected: Some(Party::numbered("+4930123456")), ..begun.leg.clone() },
        ..begun
    };
    store.commit(&[Write::Call(Box::new(end.clone()))]).unwrap();
    assert_eq!(store.call("call-leg").unwrap(), std::slice::from_ref(&end));
    let by_connected = Query { number: Some("030123456".into()), limit: 1, ..Query::default() };
    assert_eq!(store.journal(&by_connected).unwrap().entries, [end]);
    let cut = store.interrupted().unwrap();
    assert_eq!(cut.iter().map(|it| it.leg.leg_id.as_str()).collect::<Vec<_>>(), ["cut"]);
}

#[test]
fn the_last_calls_of_a_number_come_with_all_their_legs() {
    let mut store = store();
    let of_call =
        |call: &str, entry: Entry| Write::Call(Box::new(Entry { call_id: call.to_owned(), ..entry }));
    let minute = 60_000_000;
    let rows = [
        of_call("old", entry("old-1", "84954451120", "101", TODAY - 90 * minute)),
        of_call("back", entry("back-1", "101", "203", TODAY - 20 * minute)),
        of_call("back", entry("back-2", "101", "+7 495 445-11-20", TODAY - 19 * minute)),
        of_call("other", entry("other-1", "+74954451121", "101", TODAY - 5 * minute)),
        of_call("last", entry("last-1", "4954451120", "101", TODAY - minute)),
    ];
    store.commit(&rows).unwrap();
    let number = crate::events::Number::new("+74954451120");
    let since_utc_us = TODAY - 30 * minute;
    let calls = store.recall(&Recall { id: uuid::Uuid::nil(), number, since_utc_us }).unwrap();
    let legs: Vec<Vec<&str>> =
        calls.iter().map(|legs| legs.iter().map(|it| it.leg.leg_id.as_str()).collect()).collect();
    assert_eq!(legs, [vec!["last-1"], vec!["back-1", "back-2"]]);
}

#[test]
fn a_number_is_erased_from_journal_events_and_file() {
    let (mut store, mut source) = (store(), Source::new());
    let mut batch = vec![
        source.event(TODAY, "call-a", 10),
        source.event(TODAY, "call-b", 10),
        source.event(TODAY, "call-a", 10),
    ];
    let recorded = entry("a", "+7 495 445-11-20", "106", TODAY);
    batch.push(Write::Call(Box::new(Entry { recording_id: Some("rec-9".into()), ..recorded })));
    batch.push(ended("b", "107", "106", TODAY, CallResult::Answered));
    // Somebody who was given to that number.
    let transferred_to = Some(crate::events::Number::new("84954451120"));
    batch.push(Write::Call(Box::new(Entry { transferred_to, ..entry("c", "107", "106", TODAY) })));
    store.commit(&batch).unwrap();

    let whose = Erase::Number("8 495 445 11 20".into());
    let concerned = store.concerned(&whose).unwrap();
    let erased = store.erase(&whose, TODAY).unwrap();
    let (ids, recordings) = (["a", "c"].map(|id| format!("call-{id}")).to_vec(), vec!["rec-9".into()]);
    assert_eq!(concerned, Concerned { ids: ids.clone(), recordings: recordings.clone() });
    assert_eq!(erased, Erased { calls: 2, events: 2, recordings, ids, old_copies: None });
    assert_eq!(legs(&store.journal(&Query { limit: 10, ..Query::default() }).unwrap()), ["b"]);
    let told: Vec<_> =
        store.events_since(0, 10).unwrap().iter().map(|it| (it.sequence, it.kind.clone())).collect();
    assert_eq!(told, [(1, "gap".into()), (2, "device.degraded".to_owned()), (3, "gap".into())]);
    let left: i64 = store
        .connection
        .query_row("SELECT count(*) FROM party WHERE key = '4451120'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(store.erase(&Erase::Call("call-b".into()), TODAY).unwrap().calls, 1);
    let none = store.erase(&Erase::Call("none".into()), TODAY).unwrap();
    // Files may be named after it, though no row is.
    assert_eq!(none, Erased { ids: vec!["none".into()], ..Erased::default() });
}

#[test]
fn a_number_is_erased_from_what_rules_and_requests_say_of_it_without_a_call() {
    let (mut store, mut recorder) = (store(), Recorder::new(0, Chance::from_number(3)));
    let mut kept = |event: Event| Write::Event(Box::new(recorder.record(at(TODAY), event)));
    let refused = |entry: Entry| {
        let (rule, text) = ("limits.deny".into(), "it may not be called".into());
        let kind = Kind::CallRefused { leg: entry.leg, origin: crate::events::Origin::Keys, rule, text };
        Event::of_call(entry.call_id, kind)
    };
    let asked = |number: &str| {
        let (from, to) = (Number::new("102"), Number::new(number));
        let (callback_id, request) = ("b".to_owned(), "k".to_owned());
        Event::new(Kind::OriginateQueued {
            callback_id,
            request,
            origin: crate::events::Origin::Api,
            from,
            to,
        })
    };
    let batch = [
        kept(refused(short_dialled("r", TODAY))),
        kept(refused(entry("s", "106", "84954451120", TODAY))),
        kept(asked("030 1234567")),
        kept(asked("84954451120")),
    ];
    store.commit(&batch).unwrap();
    let erased = store.erase(&Erase::Number("+49301234567".into()), TODAY).unwrap();
    assert_eq!((erased.calls, erased.events), (0, 2));
    let left: Vec<_> = store.events_since(0, 10).unwrap().into_iter().map(|it| it.kind).collect();
    assert_eq!(left, ["gap", "call.refused", "gap", "originate.queued"]);
}

#[test]
fn counters_bindings_and_settings_outlive_the_program() {
    let mut store = store();
    let used = |calls, talk_us| {
        Write::Usage(Usage { day: "2026-11-20".into(), line: "office".into(), calls, talk_us })
    };
    let bound = |flow: u8| Binding {
        line: "office".into(),
        flow,
        address: "sip:1@d".into(),
        contact: format!("sip:{flow}@192.0.2.1:5060"),
    };
    let kept = |flow| Write::Binding(bound(flow));
    let setting =
        |value: Option<&str>| Write::Setting { name: "dnd.office".into(), value: value.map(str::to_owned) };
    store.commit(&[used(1, 0), used(0, 60_000_000), kept(2), kept(1), kept(1), setting(Some("on"))]).unwrap();
    store.commit(&[used(1, 5)]).unwrap();
    let total = Usage { day: "2026-11-20".into(), line: "office".into(), calls: 2, talk_us: 60_000_005 };
    assert_eq!(store.usage().unwrap(), [total]);
    assert_eq!(store.bindings().unwrap(), [bound(1), bound(2)]);
    assert_eq!(store.settings().unwrap()["dnd.office"], "on");
    store.commit(&[setting(None), Write::Unbound { line: "office".into(), flow: 1 }]).unwrap();
    assert!(store.settings().unwrap().is_empty());
    assert_eq!(store.bindings().unwrap(), [bound(2)]);
    store.prune(TODAY + 400 * DAY, Duration::from_secs(86_400), u64::MAX).unwrap();
    assert_eq!(store.usage().unwrap(), []);
    let day =
        |day: u8| Usage { day: format!("2026-12-{day:02}"), line: "office".into(), calls: 1, talk_us: 0 };
    let days: Vec<Usage> = (1..=31).map(day).collect();
    store.commit(&days.iter().cloned().map(Write::Usage).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.usage().unwrap(), days[24..], "a clock may turn back by some days, not by all");
}

#[test]
fn bindings_that_an_older_version_kept_are_those_of_the_first_flow() {
    let old = Connection::open_in_memory().unwrap();
    old.execute_batch(STEPS[0]).unwrap();
    old.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 1;
         INSERT INTO binding VALUES ('office', 'sip:1@d', 'sip:1@192.0.2.1:5060');"
    ))
    .unwrap();
    let kept = Store::open(old).unwrap().bindings().unwrap();
    let contact = "sip:1@192.0.2.1:5060".to_owned();
    assert_eq!(kept, [Binding { line: "office".into(), flow: 1, address: "sip:1@d".into(), contact }]);
}

#[test]
fn calls_that_an_older_version_kept_are_found_by_the_number_that_a_rule_made() {
    let old = Connection::open_in_memory().unwrap();
    STEPS[..5].iter().for_each(|step| old.execute_batch(step).unwrap());
    let body = serde_json::to_string(&short_dialled("g", TODAY)).unwrap();
    old.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 5;
         INSERT INTO call VALUES (1, 'g', 'call-g', 'office', 'in', 1, NULL, '{body}');
         INSERT INTO call VALUES (2, 'h', 'call-h', 'office', 'in', 1, NULL, 'damaged');
         INSERT INTO party VALUES ('108', 1), ('5', 1);"
    ))
    .unwrap();
    let query = Query { number: Some("+49301234567".into()), limit: 10, ..Query::default() };
    assert_eq!(legs(&Store::open(old).unwrap().journal(&query).unwrap()), ["g"]);
}

#[test]
fn a_database_of_somebody_else_is_left_alone() {
    let foreign = Connection::open_in_memory().unwrap();
    foreign.execute_batch("CREATE TABLE mail (text)").unwrap();
    assert!(matches!(Store::open(foreign).unwrap_err(), StoreError::Foreign));

    let newer = Connection::open_in_memory().unwrap();
    newer.execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 99")).unwrap();
    let error = Store::open(newer).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("install that version again"), "{error}");
}

#[test]
fn numbers_are_compared_as_people_write_them() {
    assert_eq!(Number::new("8 (495) 445-11-20").key(), "4451120");
    assert_eq!(Number::new("+12 34").key(), "1234");
    assert_eq!(Number::new("*100#").key(), "*100#");
}

#[test]
fn where_upstreams_stand_is_kept_and_what_they_need_outlives_its_age() {
    let mut store = store();
    let mut source = Source::new();
    let events: Vec<Write> = (0..20).map(|n| source.event(TODAY + n, "c", 10)).collect();
    store.commit(&events).unwrap();
    let state = |name: &str, seen, owed: &[u64], condition| State {
        name: name.to_owned(),
        seen,
        owed: owed.iter().copied().collect(),
        condition,
        set_aside: seen,
    };
    let crm = state("crm", 15, &[9, 12], Condition::Active);
    let desk = state("desk", 17, &[], Condition::Paused);
    let gone = state("gone", 2, &[], Condition::Stopped);
    let all = [crm.clone(), desk.clone(), gone.clone()].map(Write::Upstream);
    store.commit(&all).unwrap();
    assert_eq!(store.upstreams().unwrap(), [crm.clone(), desk, gone]);

    let later = TODAY + 100 * DAY;
    let left = |store: &Store| {
        let events = store.events_since(0, 100).unwrap().into_iter();
        events.filter(|event| event.kind != "gap").map(|event| event.sequence).collect::<Vec<_>>()
    };
    let prune = |store: &mut Store, bytes| store.prune(later, Duration::from_secs(86_400), bytes).unwrap();
    prune(&mut store, u64::MAX);
    assert_eq!(left(&store), (9..=20).collect::<Vec<_>>(), "from the first that one is owed");
    let read = store.events_since(8, 2).unwrap();
    assert_eq!(read.iter().map(|event| event.sequence).collect::<Vec<_>>(), [9, 10]);

    let done = State { owed: [].into(), seen: 20, ..crm };
    store.commit(&[Write::Upstream(done.clone()), Write::UpstreamGone("desk".into())]).unwrap();
    assert_eq!(
        store.upstreams().unwrap().iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["crm", "gone"]
    );
    prune(&mut store, u64::MAX);
    assert!(left(&store).is_empty(), "nobody needs them");

    // The limit of the size stands above what anybody needs, and tells the hole.
    store.commit(&(0..200).map(|n| source.event(later + n, "c", 900)).collect::<Vec<_>>()).unwrap();
    prune(&mut store, 100 << 10);
    assert!(left(&store).first().is_some_and(|first| *first > 21), "{:?}", left(&store).first());
    let hole = &store.events_since(done.low(), 1).unwrap()[0];
    assert!(hole.kind == "gap" && hole.data.contains("\"reason\":\"size\""), "{hole:?}");
}

/// Whoever waits for the store does not wait for all that is old.
#[test]
fn what_is_old_is_dropped_slice_by_slice_and_what_is_young_stays() {
    let (mut store, mut source) = (store(), Source::new());
    // Before the clock was set: as old as what follows.
    let unset: Vec<Write> = (0..10).map(|_| source.event(0, "c", 10)).collect();
    let old: Vec<Write> = (0..4500).map(|_| source.event(TODAY - 100 * DAY, "a", 10)).collect();
    let young: Vec<Write> = (0..10).map(|_| source.event(TODAY - DAY, "b", 10)).collect();
    for batch in [unset, old, young] {
        store.commit(&batch).unwrap();
    }
    let legs: Vec<Write> =
        (0..2500).map(|at| ended(&at.to_string(), "1", "2", TODAY - 100 * DAY, CallResult::Busy)).collect();
    store.commit(&legs).unwrap();
    let mut told = Vec::new();
    loop {
        let pruned = store.prune(TODAY, Duration::from_secs(90 * 86_400), u64::MAX).unwrap();
        told.push((pruned.events, pruned.calls));
        let first = store.events_since(0, 1).unwrap();
        assert_eq!(first[0].kind, "gap", "at each moment readers are told what is missing");
        if !pruned.more {
            break;
        }
    }
    assert_eq!(told.iter().map(|(events, _)| events).sum::<u64>(), 4510);
    assert_eq!(told.iter().map(|(_, calls)| calls).sum::<u64>(), 2500);
    assert!(told.len() > 8 && told.iter().all(|(events, calls)| *events <= 520 && *calls <= 520), "{told:?}");
    assert_eq!(store.events_since(0, 100).unwrap().len(), 11, "the young ones, and the hole before them");
}

//! The delivery policy against a record and a receiver of paper, in virtual time.

mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::outcome::Outcome;
use super::schedule::WINDOW;
use super::*;
use crate::config::{Config, Redaction, Secret};
use crate::events::cloud_event::identity;
use crate::now::earliest;

/// 2026-11-20T00:00:00Z
const TODAY: i64 = 1_795_132_800_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// How long a receiver takes to answer.
const ANSWERING: Duration = Duration::from_millis(20);

fn settings() -> config::Upstream {
    let events = vec!["*".to_owned()];
    config::Upstream {
        name: "crm".into(),
        secret: Secret::new("whsec_bG9uZyByYW5kb20gdGV4dCBvZiAzMiBieXRlcyE="),
        events,
        ..config::Upstream::default()
    }
}

fn answer(status: u16) -> Outcome {
    Outcome::Answered { status, retry_after: None, said: Vec::new() }
}

/// What the receiver does with an event: the outcome, if it gets through, and whether the event was taken.
type Manner = Box<dyn FnMut(&Owed, Now, &mut Chance) -> Outcome>;

struct Bench {
    now: Now,
    record: Vec<CloudEvent>,
    upstream: Upstream,
    kept: Option<State>,
    manner: Manner,
    flying: Vec<(u64, u64, Outcome)>,
    /// What was taken: number, identity and body, in that order.
    got: Vec<(u64, String, Vec<u8>)>,
    told: Vec<Kind>,
    sent: Vec<(u64, Now)>,
    reads: usize,
    chance: Chance,
}

impl Bench {
    fn new(manner: impl FnMut(&Owed, Now, &mut Chance) -> Outcome + 'static) -> Bench {
        Bench::with(settings(), manner)
    }

    fn with(
        settings: config::Upstream,
        manner: impl FnMut(&Owed, Now, &mut Chance) -> Outcome + 'static,
    ) -> Bench {
        let now = Now { mono_us: 1, utc_us: TODAY };
        let upstream = Upstream::new(now, settings, "TR-1", None, 0, Chance::from_number(3));
        let mut bench = Bench {
            now,
            record: Vec::new(),
            upstream,
            kept: None,
            manner: Box::new(manner),
            flying: Vec::new(),
            got: Vec::new(),
            told: Vec::new(),
            sent: Vec::new(),
            reads: 0,
            chance: Chance::from_number(4),
        };
        bench.drain();
        bench
    }

    /// Something happened in a call, or outside of one.
    fn happens(&mut self, kind: &str, subject: Option<&str>) -> u64 {
        let sequence = self.record.last().map_or(0, |event| event.sequence) + 1;
        self.record.push(CloudEvent {
            sequence,
            id: identity(self.now, &mut self.chance),
            utc_us: self.now.utc_us,
            kind: kind.into(),
            subject: subject.map(str::to_owned),
            data: format!("{{\"n\":{sequence}}}"),
        });
        self.upstream.handle_news(self.now, sequence);
        self.drain();
        sequence
    }

    fn drain(&mut self) {
        while let Some(action) = self.upstream.poll_action() {
            match action {
                Action::Read { since, limit } => {
                    self.reads += 1;
                    let newer = self.record.iter().filter(|event| event.sequence > since);
                    let page = newer.take(limit as usize).cloned().collect();
                    self.upstream.handle_page(self.now, since, Some(page));
                }
                Action::Send { sequence, request } => {
                    let owed = self.upstream.owed.iter().find(|owed| owed.sequence == sequence);
                    let owed = owed.expect("what is sent is owed");
                    assert_eq!(request.body, owed.frozen.body);
                    let outcome = (self.manner)(owed, self.now, &mut self.chance);
                    if outcome.verdict() == Verdict::Taken {
                        self.got.push((sequence, owed.frozen.id.clone(), request.body));
                    }
                    self.sent.push((sequence, self.now));
                    self.flying.push((self.now.deadline(ANSWERING), sequence, outcome));
                }
                Action::Keep(state) => self.kept = Some(state),
                Action::Remember { .. } => panic!("a webhook remembers nothing"),
                Action::Tell(kind) => self.told.push(*kind),
            }
            assert!(self.upstream.owed.len() <= PAGE && self.upstream.under_way() <= WINDOW);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.deadline(time);
        loop {
            let answered = self.flying.iter().map(|(at, ..)| *at).min();
            let due = earliest(answered, self.upstream.poll_timeout()).filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.plus(Duration::from_micros(due.saturating_sub(self.now.mono_us)));
            match self.flying.iter().position(|(at, ..)| *at <= due) {
                Some(index) => {
                    let (_, sequence, outcome) = self.flying.remove(index);
                    self.upstream.handle_outcome(self.now, sequence, outcome);
                }
                None => self.upstream.handle_timeout(self.now),
            }
            self.drain();
        }
        self.now = self.now.plus(Duration::from_micros(end.saturating_sub(self.now.mono_us)));
    }

    /// The program is killed, and begins with what was kept.
    fn crash(&mut self) {
        self.flying.clear();
        let newest = self.record.last().map_or(0, |event| event.sequence);
        let settings = self.upstream.settings().clone();
        let chance = self.chance.fork();
        self.upstream = Upstream::new(self.now, settings, "TR-1", self.kept.clone(), newest, chance);
        self.drain();
    }

    fn numbers(&self) -> Vec<u64> {
        self.got.iter().map(|(sequence, ..)| *sequence).collect()
    }

    fn words(&self) -> Vec<&'static str> {
        self.told.iter().map(Kind::name).collect()
    }

    /// Everything was taken, the first time in order within each subject, under one identity and with one body.
    fn check(&self, missing: &BTreeSet<u64>) {
        let mut known: BTreeMap<u64, (&String, &Vec<u8>)> = BTreeMap::new();
        let mut last: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        for (sequence, id, body) in &self.got {
            let event = self.record.iter().find(|event| event.sequence == *sequence).expect("an event");
            assert_eq!(*id, event.id.to_string());
            if let Some(first) = known.insert(*sequence, (id, body)) {
                assert_eq!(first, (id, body), "a repetition says the same");
                continue;
            }
            let before = last.insert(event.subject.as_deref(), *sequence);
            assert!(before < Some(*sequence), "{before:?} came before {sequence}");
        }
        let all = self.record.iter().map(|event| event.sequence).filter(|it| !missing.contains(it));
        let all: Vec<u64> = all.collect();
        let lost: Vec<_> = all.iter().filter(|it| !known.contains_key(it)).collect();
        assert!(lost.is_empty() && known.len() == all.len(), "lost: {lost:?}");
    }
}

#[test]
fn what_happens_is_told_and_a_new_upstream_begins_at_the_present() {
    let mut bench = Bench::new(|_, _, _| answer(204));
    assert_eq!(bench.kept.as_ref().map(|state| state.seen), Some(0), "it is known from its first moment on");
    bench.happens("call.new", Some("a"));
    bench.happens("call.ended", Some("a"));
    bench.run(MINUTE);
    assert_eq!(bench.numbers(), [1, 2]);
    assert_eq!(bench.kept.as_ref().map(|state| (state.seen, state.low())), Some((2, 2)));
    let view = bench.upstream.view(bench.now);
    assert_eq!((view.state, view.sequence, view.waiting, view.delivered), ("idle", 2, 0, 2));
    let late = Upstream::new(bench.now, settings(), "TR-1", None, 2, Chance::from_number(1));
    assert_eq!((late.seen, late.view(bench.now).waiting), (2, 0), "history is not for a new one");
}

#[test]
fn calls_overlap_and_the_events_of_one_do_not() {
    let mut bench = Bench::new(|_, _, _| answer(200));
    for kind in ["call.new", "call.answered", "call.ended"] {
        for call in ["a", "b", "c", "d", "e", "f"] {
            bench.happens(kind, Some(call));
        }
    }
    assert_eq!(bench.sent.iter().map(|(it, _)| *it).collect::<Vec<_>>(), [1, 2, 3, 4], "a window");
    bench.run(MINUTE);
    bench.check(&BTreeSet::new());
    assert_eq!(bench.sent.last().map(|(_, at)| at.since(1).as_millis()), Some(80), "18 in five rounds");
}

#[test]
fn who_is_away_for_a_week_costs_a_timer_and_gets_all_but_what_pops_up() {
    let back = Now { mono_us: 1, utc_us: 0 }.deadline(WEEK);
    let manner = move |_: &Owed, now: Now, _: &mut Chance| {
        if now.mono_us < back {
            return Outcome::Failed { what: "nobody answers".into(), cure: "start it".into() };
        }
        answer(200)
    };
    let mut bench = Bench::new(manner);
    let mut popped = BTreeSet::new();
    for call in 0..500 {
        let name = format!("call-{call}");
        bench.happens("call.new", Some(&name));
        popped.insert(bench.happens("call.ringing", Some(&name)));
        bench.run(MINUTE);
        bench.happens("call.ended", Some(&name));
        bench.run(WEEK / 500 - MINUTE);
    }
    assert!(bench.got.is_empty());
    let attempts = bench.sent.len();
    assert!((2000..=4100).contains(&attempts), "{attempts} attempts in a week");
    assert!(bench.reads < 110, "{} reads: nothing is read that can't be told", bench.reads);
    assert_eq!(bench.words(), ["upstream.suspended"]);
    let view = bench.upstream.view(bench.now);
    assert_eq!((view.state, view.reason.as_deref()), ("retrying", Some("nobody answers")));
    assert!(view.retry_s.is_some_and(|s| s <= 300) && view.waiting >= 1400, "{view:?}");
    bench.run(Duration::from_secs(360));
    bench.check(&popped);
    assert_eq!(bench.upstream.view(bench.now).expired, 500);
    assert_eq!(bench.words(), ["upstream.suspended", "upstream.resumed"]);
}

#[test]
fn retry_after_is_obeyed_and_told_if_it_is_long() {
    let mut first = true;
    let mut bench = Bench::new(move |_, _, _| {
        let retry_after = Some(Duration::from_secs(1800));
        let status = if std::mem::take(&mut first) { 429 } else { 200 };
        Outcome::Answered { status, retry_after, said: Vec::new() }
    });
    bench.happens("call.new", Some("a"));
    bench.run(MINUTE);
    bench.happens("call.ended", Some("a"));
    assert_eq!(bench.words(), ["upstream.suspended"]);
    let Some(Kind::UpstreamSuspended { retry_us, why, .. }) = bench.told.first() else { panic!() };
    assert_eq!((*retry_us, *why), (Some(1_800_000_000), Suspension::Unavailable));
    bench.run(Duration::from_secs(1800) - MINUTE);
    assert_eq!(bench.sent.len(), 1, "not before it is over");
    bench.run(MINUTE);
    assert_eq!((bench.numbers(), bench.words().len()), (vec![1, 2], 2));
}

#[test]
fn gone_stops_it_until_somebody_resumes_it_also_after_a_restart() {
    let mut bench = Bench::new(|_, _, _| answer(410));
    bench.happens("call.new", Some("a"));
    bench.run(WEEK);
    assert_eq!((bench.sent.len(), bench.words()), (1, vec!["upstream.suspended"]));
    bench.crash();
    bench.happens("call.new", Some("b"));
    bench.run(WEEK);
    assert_eq!((bench.sent.len(), bench.upstream.view(bench.now).state), (1, "stopped"));
    assert_eq!(bench.upstream.poll_timeout(), None);
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.upstream.change(bench.now, Change::Resume).expect("it may be resumed");
    bench.drain();
    bench.run(MINUTE);
    assert_eq!((bench.numbers(), bench.words().pop()), (vec![1, 2], Some("upstream.resumed")));
}

#[test]
fn that_it_is_gone_is_news_also_of_one_that_was_away() {
    let mut count = 0;
    let mut bench = Bench::new(move |_, _, _| {
        count += 1;
        answer(if count > 8 { 410 } else { 500 })
    });
    bench.happens("call.new", Some("a"));
    bench.run(WEEK);
    let whys: Vec<_> = bench
        .told
        .iter()
        .map(|kind| match kind {
            Kind::UpstreamSuspended { why, retry_us, .. } => (*why, retry_us.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(whys, [(Suspension::Unavailable, true), (Suspension::Gone, false)]);
    assert_eq!(bench.sent.len(), 9);
}

#[test]
fn an_event_that_is_refused_while_others_are_taken_is_put_aside_and_told() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| answer(if owed.sequence == 2 { 422 } else { 200 });
    let mut bench = Bench::new(manner);
    for minute in 0..30 {
        bench.happens("call.new", Some(&format!("call-{minute}")));
        if minute == 1 {
            bench.happens("call.ended", Some("call-1"));
        }
        bench.run(MINUTE);
        let delivered =
            bench.record.iter().rev().take(1).all(|last| bench.numbers().contains(&last.sequence));
        assert!(minute == 1 || delivered, "a refused one keeps no other waiting");
    }
    bench.check(&BTreeSet::from([2]));
    let tries: Vec<_> = bench.sent.iter().filter(|(sequence, _)| *sequence == 2).collect();
    assert!((REFUSALS as usize..40).contains(&tries.len()), "{}", tries.len());
    assert!(bench.numbers().contains(&3), "what comes after it in its call is told then");
    let refused: Vec<_> = bench.told.iter().filter(|kind| kind.name() == "upstream.refused").collect();
    let [Kind::UpstreamRefused { sequence: 2, status: 422, count: 1, event, .. }] = refused[..] else {
        panic!("{:?}", bench.told)
    };
    assert_eq!((event.as_str(), bench.upstream.view(bench.now).set_aside), ("call.new", 1));
}

#[test]
fn one_that_refuses_everything_loses_nothing() {
    let mut bench = Bench::new(|_, _, _| answer(404));
    for hour in 0..100 {
        bench.happens("call.new", Some(&format!("call-{hour}")));
        bench.run(60 * MINUTE);
    }
    assert_eq!((bench.words(), bench.got.len()), (vec!["upstream.suspended"], 0));
    let Some(Kind::UpstreamSuspended { why, what, .. }) = bench.told.first() else { panic!() };
    assert_eq!((*why, what.as_str()), (Suspension::Refused, "it answers 404"));
    assert!(bench.sent.len() < 100 * 30, "{}", bench.sent.len());
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.run(60 * MINUTE);
    bench.check(&BTreeSet::new());
}

#[test]
fn an_event_at_which_it_always_fails_waits_in_the_background_for_ever() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| answer(if owed.sequence == 1 { 500 } else { 200 });
    let mut bench = Bench::new(manner);
    for call in 0..3000 {
        bench.happens("call.new", Some(&format!("call-{call}")));
        bench.run(Duration::from_secs(10));
    }
    bench.run(10 * MINUTE);
    bench.check(&BTreeSet::from([1]));
    let state = bench.upstream.state();
    assert_eq!((state.seen, state.low(), state.owed.len()), (3000, 0, 1), "it is owed, and bounded");
    let tries = bench.sent.iter().filter(|(sequence, _)| *sequence == 1).count();
    assert!(tries < 300, "{tries}");
    bench.run(KEPT_WITHIN);
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.crash();
    bench.run(MINUTE);
    bench.check(&BTreeSet::new());
    assert_eq!(bench.got.len(), 3000, "after a restart only what is owed is told");
}

#[test]
fn a_redirection_is_not_followed_and_nothing_is_lost_by_it() {
    let mut bench = Bench::new(|_, now, _| answer(if now.mono_us < 600_000_000 { 307 } else { 200 }));
    bench.happens("call.new", Some("a"));
    bench.run(5 * MINUTE);
    let Some(Kind::UpstreamSuspended { what, cure, .. }) = bench.told.first() else {
        panic!("{:?}", bench.told)
    };
    assert_eq!(what, "it answers 307");
    assert!(cure.contains("redirections are not followed"), "{cure}");
    bench.run(20 * MINUTE);
    bench.check(&BTreeSet::new());
}

#[test]
fn it_is_paused_and_replayed_by_hand() {
    let mut bench = Bench::new(|_, _, _| answer(200));
    for call in ["a", "b", "c"] {
        bench.happens("call.new", Some(call));
    }
    bench.run(MINUTE);
    bench.upstream.change(bench.now, Change::Pause).expect("it may be paused");
    bench.happens("call.new", Some("d"));
    bench.run(MINUTE);
    assert_eq!((bench.got.len(), bench.upstream.view(bench.now).state), (3, "paused"));
    bench.crash();
    bench.upstream.change(bench.now, Change::Resume).expect("it may be resumed");
    bench.drain();
    bench.run(MINUTE);
    assert_eq!(bench.numbers(), [1, 2, 3, 4]);
    assert_eq!(bench.words(), ["upstream.suspended", "upstream.resumed"]);
    let future = bench.upstream.change(bench.now, Change::Replay(5));
    assert_eq!(future, Err(UpstreamError::Future { since: 5, newest: 4 }));
    bench.upstream.change(bench.now, Change::Replay(2)).expect("it is kept");
    bench.drain();
    bench.run(MINUTE);
    assert_eq!(bench.numbers(), [1, 2, 3, 4, 3, 4]);
    bench.check(&BTreeSet::new());
}

#[test]
fn what_the_store_dropped_is_told_as_a_gap_even_where_it_was_owed() {
    let mut bench = Bench::new(|_, _, _| Outcome::Failed { what: "w".into(), cure: "c".into() });
    for call in ["a", "b", "c", "d"] {
        bench.happens("call.new", Some(call));
    }
    bench.run(MINUTE);
    assert_eq!(bench.kept.as_ref().map(|state| state.owed.len()), Some(4));
    bench.record.drain(..3);
    bench.record.insert(0, CloudEvent::gap(1, 3, Some("size".into()), TODAY));
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.crash();
    bench.run(MINUTE);
    bench.check(&BTreeSet::new());
    let body = bench.got.iter().find(|(sequence, ..)| *sequence == 3).map(|(.., body)| body.clone());
    let gap: Value = serde_json::from_slice(&body.expect("the gap was told")).expect("JSON");
    assert_eq!((&gap["type"], &gap["data"]["first"]), (&"tipring.gap".into(), &1.into()));
}

#[test]
fn a_hole_is_counted_for_whoever_looks_where_a_kind_has_no_words_for_it() {
    let slack = config::Upstream { kind: config::UpstreamKind::Slack, ..settings() };
    let mut bench = Bench::with(slack, |_, _, _| answer(200));
    bench.upstream.change(bench.now, Change::Pause).expect("it may be paused");
    for call in ["a", "b", "c", "d"] {
        bench.happens("call.new", Some(call));
    }
    bench.record.drain(..3);
    bench.record.insert(0, CloudEvent::gap(1, 3, Some("size".into()), TODAY));
    bench.upstream.change(bench.now, Change::Resume).expect("it may be resumed");
    bench.drain();
    bench.run(MINUTE);
    let view = bench.upstream.view(bench.now);
    assert_eq!((view.missing, view.delivered, view.sequence, view.state), (3, 0, 4, "idle"));
}

#[test]
fn what_can_not_be_written_is_put_aside_like_what_is_refused() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| match owed.sequence {
        1 => Outcome::Unwritable { what: "a bad field".into() },
        _ => answer(200),
    };
    let mut bench = Bench::new(manner);
    for minute in 0..30 {
        bench.happens("call.new", Some(&format!("call-{minute}")));
        bench.run(MINUTE);
    }
    bench.check(&BTreeSet::from([1]));
    assert_eq!(bench.upstream.view(bench.now).set_aside, 1);
}

#[test]
fn lines_types_numbers_and_names_are_filtered() {
    let leg = |line: &str| {
        format!(
            "{{\"leg_id\":\"l\",\"line\":\"{line}\",\"sip_call_id\":\"x@192.0.2.1\",\
             \"caller\":{{\"dialled\":\"+74951234567\",\"e164\":\"+74951234567\",\"name\":\"Anna\",\
             \"uri\":\"sip:+74951234567@pbx\"}},\"called\":{{\"dialled\":\"101\"}},\"digits\":\"42\"}}"
        )
    };
    let event = |kind: &str, data: String| CloudEvent {
        sequence: 1,
        id: uuid::Uuid::nil(),
        utc_us: TODAY,
        kind: kind.into(),
        subject: None,
        data,
    };
    let of = |change: &dyn Fn(&mut config::Upstream)| {
        let mut settings = settings();
        change(&mut settings);
        Filter::of(&settings)
    };
    let all = of(&|_| {});
    let whole = event("call.ended", leg("office"));
    assert_eq!(all.pass(whole.clone()), Some(whole.clone()), "not a byte is changed without need");
    let digits = all.pass(event("call.dtmf", leg("office"))).expect("it is told");
    assert!(!digits.data.contains("42") && digits.data.contains("Anna"), "{}", digits.data);

    let asked = of(&|it| it.digits = true).pass(event("call.dtmf", leg("office"))).expect("it is told");
    assert!(asked.data.contains("42"), "{}", asked.data);

    let office = of(&|it| it.lines = vec!["office".into()]);
    assert!(office.pass(whole.clone()).is_some() && office.pass(event("call.new", leg("home"))).is_none());
    assert!(office.pass(event("device.started", "{}".into())).is_some(), "it belongs to no line");

    let told = |conditions: &[&str], data: &str| {
        let text = format!(
            "[[upstream]]\nname = \"a\"\nkind = \"slack\"\nurl = \"https://a.example/x\"\nfilter = {conditions:?}\n"
        );
        let settings = Config::parse(&text, "t.toml").expect("conditions").upstream.remove(0);
        let filter = of(&|it| it.filter.clone_from(&settings.filter));
        filter.pass(event("call.new", data.into())).is_some()
    };
    let incoming = leg("office").replace("{\"leg_id\"", "{\"direction\":\"in\",\"leg_id\"");
    let outgoing = incoming.replace("\"in\"", "\"out\"");
    for (conditions, of_incoming, of_outgoing) in [
        (&["direction=in"][..], true, false),
        (&["party=outside"], true, false),
        (&["party=inside", "direction=out"], false, true),
        (&["number=+7495*"], true, false),
        (&["number!=+7495*", "number!=101"], false, false),
    ] {
        let both = (told(conditions, &incoming), told(conditions, &outgoing));
        assert_eq!(both, (of_incoming, of_outgoing), "{conditions:?}");
        assert!(told(conditions, "{}"), "it is about no call");
    }

    let some = of(&|it| it.events = ["call.*", "!call.quality", "line.registered"].map(str::to_owned).into());
    for (kind, told) in [
        ("call.new", true),
        ("call.quality", false),
        ("line.registered", true),
        ("line.rejected", false),
        ("gap", true),
    ] {
        assert_eq!(some.pass(event(kind, "{}".into())).is_some(), told, "{kind}");
    }

    let secret = of(&|it| it.redact = vec![Redaction::Numbers, Redaction::Names]).pass(whole).expect("told");
    let data: Value = serde_json::from_str(&secret.data).expect("JSON");
    assert_eq!(data["caller"], serde_json::json!({ "dialled": "***567" }));
    assert_eq!(data["called"], serde_json::json!({ "dialled": "***" }));
    assert_eq!(data["line"], "office");
    assert!(!secret.data.contains("123456") && !secret.data.contains("192.0.2.1"), "{}", secret.data);

    let told = |data: &str| {
        let filter = of(&|it| it.redact = vec![Redaction::Numbers]);
        filter.pass(event("call.refused", data.into())).expect("it is told").data
    };
    for (data, text) in [
        (
            leg("office").replace("\"digits\":\"42\"", "\"text\":\"+74951234567 may not be called\""),
            "***567 may not be called",
        ),
        (
            "{\"to\":{\"dialled\":\"810\"},\"cause\":{\"status\":403,\"text\":\"810 may not be called\"}}"
                .to_owned(),
            "*** may not be called",
        ),
        ("{\"text\":\"8 (495) 123-45-67 is gone\"}".to_owned(), "***567 is gone"),
        ("{\"text\":\"100 calls were made today\"}".to_owned(), "100 calls were made today"),
        ("{\"text\":\"Busy Here\"}".to_owned(), "Busy Here"),
    ] {
        let told: Value = serde_json::from_str(&told(&data)).expect("JSON");
        assert_eq!(told.get("cause").unwrap_or(&told)["text"], text);
    }
}

#[test]
fn a_type_that_no_event_has_is_found() {
    let mut settings = settings();
    settings.events = ["call.ende", "*", "!call.quality", "!call.hold*", "line.*"].map(str::to_owned).into();
    assert_eq!(filter::useless(&settings).collect::<Vec<_>>(), ["call.ende", "call.hold*"]);
}

#[test]
fn an_upstream_whose_events_leave_out_all_that_its_kind_speaks_of_is_found() {
    let of = |kind, events: &[&str]| {
        let events = events.iter().map(|it| (*it).to_owned()).collect();
        let hold = config::Template::parse("/held").ok();
        let action_url = config::dialects::ActionUrl { hold, ..Default::default() };
        dialect::left_out(&config::Upstream { kind, events, action_url, ..settings() })
    };
    use config::UpstreamKind::{ActionUrl, Slack, Webhook, Webitel};
    assert_eq!(of(Webhook, &["call.held"]), None);
    assert_eq!(of(Slack, &["call.*"]), None);
    assert_eq!(of(Slack, &["*", "!call.closed"]), Some(vec!["call.closed"]));
    assert_eq!(of(ActionUrl, &["call.held"]), None);
    assert_eq!(of(ActionUrl, &["call.ringing"]), Some(vec!["call.held"]));
    assert_eq!(of(Webitel, &["call.new"]), Some(vec!["call.ended"]));
}

#[derive(Clone, Debug)]
enum Step {
    Happens(u8),
    Run(u16),
    Crash,
    Manner(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6).prop_map(Step::Happens),
        4 => (1u16..2000).prop_map(Step::Run),
        1 => Just(Step::Crash),
        1 => (0u8..5).prop_map(Step::Manner),
    ]
}

fn manner(number: u8) -> Manner {
    let unreachable = || Outcome::Failed { what: "w".into(), cure: "c".into() };
    match number {
        0 => Box::new(|_, _, _| answer(200)),
        1 => Box::new(move |_, _, _| unreachable()),
        2 => Box::new(|_, _, chance| answer(if chance.happens(0.5) { 503 } else { 200 })),
        3 => Box::new(|_, _, chance| answer(if chance.happens(0.3) { 409 } else { 201 })),
        _ => Box::new(|owed, _, _| answer(if owed.sequence % 3 == 0 { 500 } else { 200 })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Failures of all kinds and kills at any moment: nothing is lost, every call stays in order, a repetition says the
    /// same.
    #[test]
    fn nothing_is_lost_and_calls_stay_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new(|_, _, _| answer(200));
        for step in steps {
            match step {
                Step::Happens(0) => drop(bench.happens("device.degraded", None)),
                Step::Happens(call) => drop(bench.happens("call.held", Some(&format!("call-{call}")))),
                Step::Run(millis) => bench.run(Duration::from_millis(millis.into())),
                Step::Crash => bench.crash(),
                Step::Manner(number) => bench.manner = manner(number),
            }
        }
        bench.manner = manner(0);
        bench.run(20 * MINUTE);
        bench.check(&BTreeSet::new());
        prop_assert_eq!(bench.upstream.state().low(), bench.record.len() as u64);
        prop_assert_eq!(bench.kept.as_ref().map(State::low), Some(bench.record.len() as u64));
    }
}

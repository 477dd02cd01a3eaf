//! Events told to systems upstream, over real connections.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tipring::config::Config;
use tipring::events::{Direction, Event, Kind, Leg, Party};

use crate::commands::{done, tipring};
use crate::leg;
use crate::office::{Asked, Paper, until};
use crate::receiver::{Receiver, Reply, SECRET};
use crate::tls::Pki;

fn ringing(paper: &Paper, call: &str) -> u64 {
    paper.tell(Event::of_call(
        call,
        Kind::CallNew { leg: leg(call, "600", "Anna"), origin: tipring::events::Origin::Network },
    ))
}

pub fn view(paper: &Paper, name: &str) -> Value {
    let all = paper.local("GET", "/api/v1/upstreams", None).json();
    let found = all["upstreams"].as_array().expect("upstreams").iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
}

/// A paper office whose upstreams have begun.
pub fn open(name: &str, tables: &str) -> Paper {
    let paper = Paper::with(name, tables);
    until("the upstreams begin", || paper.local("GET", "/api/v1/upstreams", None).status == 200);
    paper
}

#[test]
fn events_are_signed_delivered_in_order_and_repeated_with_the_same_words() {
    let receiver = Receiver::open(|_, count| Reply::Status(if count < 2 { 500 } else { 200 }));
    let paper = open("hook", &receiver.table("crm", "authorization = \"Bearer planted-bearer\""));
    ringing(&paper, "c1");
    paper.tell(Event::of_call("c1", Kind::CallRinging { leg: leg("c1", "600", "Anna") }));
    paper.tell(Event::of_call("c1", Kind::CallEarly { leg: leg("c1", "600", "Anna") }));
    until("all is delivered", || receiver.taken().len() == 1);
    let got = receiver.got();
    let first: Vec<_> = got.iter().filter(|got| got.sequence() == 1).collect();
    assert_eq!(first.iter().map(|got| got.status).collect::<Vec<_>>(), [500, 500, 200]);
    assert!(first.iter().all(|got| got.id == first[0].id && got.text == first[0].text));
    assert_eq!(first[0].target, "/hooks/planted-path?k=planted-key");
    assert_eq!(first[0].authorization.as_deref(), Some("Bearer planted-bearer"));
    let event = first[0].event();
    assert_eq!(
        (&event["type"], &event["subject"], &event["source"], &event["data"]["caller"]["name"]),
        (&json!("tipring.call.new"), &json!("c1"), &json!("urn:tipring:TR-1"), &json!("Anna"))
    );
    assert_eq!(event["id"], first[0].id.as_str());
    until("it has everything", || view(&paper, "crm")["state"] == "idle");
    let view = view(&paper, "crm");
    // The moments of the paper phone are of a day long ago: what pops up has expired.
    assert_eq!((&view["expired"], &view["delivered"], &view["failed"]), (&json!(2), &json!(1), &json!(2)));
    let metrics = paper.local("GET", "/metrics", None).text;
    assert!(metrics.contains("tipring_upstream_delivered_total{upstream=\"crm\"} 1\n"), "{metrics}");
    assert!(metrics.contains("tipring_upstream_up{upstream=\"crm\",state=\"idle\"} 1\n"), "{metrics}");
    let mut told = String::new();
    for path in ["/api/v1/upstreams", "/api/v1/status", "/api/v1/config", "/metrics"] {
        told.push_str(&paper.local("GET", path, None).text);
    }
    let secret = SECRET.strip_prefix("whsec_").expect("the prefix");
    for planted in ["planted-path", "planted-key", "planted-bearer", secret] {
        assert!(!told.contains(planted), "{planted} got out");
    }
    assert!(told.contains(&format!("http://{}/***", receiver.address)), "{told}");
}

#[test]
fn one_connection_carries_many_events() {
    let receiver = Receiver::willing();
    let paper = open("many", &receiver.table("crm", ""));
    for number in 0..300 {
        ringing(&paper, &format!("c{}", number % 3));
    }
    until("all is delivered", || receiver.taken().len() == 300);
    let connections = receiver.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections <= 8, "{connections} connections");
    for call in 1..=3u64 {
        let of_call: Vec<u64> = receiver.taken().into_iter().filter(|it| it % 3 == call % 3).collect();
        assert!(of_call.is_sorted(), "{of_call:?}");
    }
}

/// Whatever one does, another is told at once.
#[test]
fn a_bad_one_beside_a_good_one_delays_nobody() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let huge = || Reply::Full(200, "", vec![b'x'; 3 << 20]);
    let bad: Vec<(&str, Receiver)> = vec![
        ("drip", Receiver::open(|_, _| Reply::Drip(200))),
        ("slow", Receiver::open(|_, _| Reply::SlowHead)),
        ("huge", Receiver::open(move |_, _| huge())),
        ("failing", Receiver::open(|_, _| Reply::Status(500))),
        ("closing", Receiver::open(|_, _| Reply::Close)),
        ("elsewhere", Receiver::open(|_, _| Reply::Full(301, "Location: http://127.0.0.1:1/x\r\n", vec![]))),
        (
            "head",
            Receiver::open(|_, _| {
                Reply::Full(
                    200,
                    Box::leak(format!("X-Large: {}\r\n", "x".repeat(40_000)).into_boxed_str()),
                    vec![],
                )
            }),
        ),
    ];
    let good = Receiver::willing();
    let mut tables = good.table("good", "");
    for (name, receiver) in &bad {
        tables.push_str(&receiver.table(name, ""));
    }
    tables.push_str(&good.table("dead", "").replace(&good.address.to_string(), &nobody.to_string()));
    let paper = open("beside", &tables);
    for number in 0..20 {
        let sequence = ringing(&paper, &format!("c{number}"));
        until("the good one is told", || receiver_has(&good, sequence));
    }
    assert_eq!(good.taken().len(), 20);
    // What was answered is an answer, however long the rest of it is.
    for name in ["drip", "huge"] {
        until(name, || view(&paper, name)["delivered"] == 20);
    }
    for (name, reason) in [
        ("failing", "it answers 500"),
        ("elsewhere", "it answers 301"),
        ("closing", "the connection gives no answer"),
        ("head", "the connection gives no answer"),
        ("dead", "no connection to"),
    ] {
        until(name, || view(&paper, name)["reason"].as_str().is_some_and(|it| it.contains(reason)));
        let view = view(&paper, name);
        assert_eq!(
            (&view["state"], &view["delivered"], &view["waiting"]),
            (&json!("retrying"), &json!(0), &json!(20))
        );
    }
    assert!(!view(&paper, "dead")["cure"].as_str().expect("a cure").is_empty());
}

fn receiver_has(receiver: &Receiver, sequence: u64) -> bool {
    receiver.taken().contains(&sequence)
}

#[test]
fn over_tls_only_the_right_certificate_is_told_anything() {
    let pki = Pki::new("upstream");
    let secure = Receiver::secure(pki.server());
    let ca = format!("ca_file = {:?}", pki.file("ca.pem").display().to_string());
    let table = |name: &str, host: &str, more: &str| {
        let place = format!("https://{host}:{}", secure.address.port());
        secure.table(name, more).replace(&format!("http://{}", secure.address), &place)
    };
    let tables = [
        table("right", "localhost", &ca),
        table("unknown", "localhost", ""),
        table("other-name", "127.0.0.1", &ca),
    ];
    let paper = open("tls", &tables.concat());
    ringing(&paper, "c1");
    until("the right one is told", || secure.taken() == [1]);
    for (name, reason, cure) in [
        ("unknown", "is signed by nobody who is known", "as ca_file"),
        ("other-name", "the certificate is not for 127.0.0.1", "write a name"),
    ] {
        until(name, || view(&paper, name)["reason"].as_str().is_some_and(|it| it.contains(reason)));
        let view = view(&paper, name);
        assert!(view["cure"].as_str().is_some_and(|it| it.contains(cure)), "{view}");
        assert_eq!((&view["delivered"], &view["state"]), (&json!(0), &json!("retrying")));
    }
    assert_eq!(secure.got().len(), 1);
}

#[test]
fn gone_stops_and_retry_after_waits_until_somebody_resumes() {
    let gone = Receiver::open(|_, _| Reply::Status(410));
    let busy = Receiver::open(|_, _| Reply::Full(429, "Retry-After: 3000\r\n", vec![]));
    let paper = open("gone", &(gone.table("gone", "") + &busy.table("busy", "")));
    ringing(&paper, "c1");
    until("it stops", || view(&paper, "gone")["state"] == "stopped");
    until("it waits", || view(&paper, "busy")["retry_s"].as_u64().is_some_and(|s| s > 2900));
    ringing(&paper, "c1");
    let told = || {
        let asked = paper.asked();
        let words = asked.iter().filter_map(|asked| match asked {
            Asked::Tell(kind) => match &**kind {
                Kind::UpstreamSuspended { upstream, what, .. } => Some(format!("{upstream}: {what}")),
                Kind::UpstreamResumed { upstream, .. } => Some(format!("{upstream} again")),
                _ => None,
            },
            _ => None,
        });
        let mut words: Vec<String> = words.collect();
        words.sort();
        words
    };
    assert_eq!(told(), ["busy: it answers 429", "gone: it answers 410"]);
    for (name, receiver) in [("gone", &gone), ("busy", &busy)] {
        assert_eq!(receiver.got().len(), 1, "{name} is left alone");
        receiver.behave(|_, _| Reply::Status(200));
        let done = at(&paper, &["upstream", "resume", name]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        until("it has everything", || receiver.taken() == [1, 2]);
    }
    assert_eq!(told(), ["busy again", "gone again"]);
}

pub fn at(paper: &Paper, arguments: &[&str]) -> crate::commands::Done {
    let api = format!("unix://{}", paper.socket().display());
    done(tipring(&["--api", &api]).args(arguments).output().expect("the program runs"))
}

#[test]
fn people_list_test_pause_and_replay_upstreams() {
    let receiver = Receiver::willing();
    let paper = open("people", &receiver.table("crm", ""));
    let tested = at(&paper, &["upstream", "test", "crm"]);
    assert!(tested.code == Some(0) && tested.out.starts_with("taken with status 204"), "{}", tested.out);
    let test = receiver.got().pop().expect("a test").event();
    assert_eq!(
        (&test["type"], &test["sequence"]),
        (&json!("tipring.upstream.test"), &json!("00000000000000000000"))
    );
    assert_eq!(at(&paper, &["upstream", "pause", "crm"]).code, Some(0));
    for _ in 0..3 {
        ringing(&paper, "c1");
    }
    until("they wait", || view(&paper, "crm")["waiting"] == 3);
    let listed = at(&paper, &["upstream", "list"]);
    assert!(listed.out.contains("crm") && listed.out.contains("paused"), "{}", listed.out);
    assert!(at(&paper, &["status"]).out.contains("paused"));
    assert_eq!(receiver.got().len(), 1);
    assert_eq!(at(&paper, &["upstream", "resume", "crm"]).code, Some(0));
    until("they come", || view(&paper, "crm")["delivered"] == 3);
    assert_eq!(at(&paper, &["upstream", "replay", "crm", "--since", "1"]).code, Some(0));
    until("two come again", || receiver.got().len() == 6);
    let numbers: Vec<u64> = receiver.got().iter().skip(4).map(crate::receiver::Got::sequence).collect();
    assert_eq!(numbers, [2, 3]);

    for (method, path, body, status, code) in [
        ("POST", "upstreams/crn/test", "{}", 404, "no_such_upstream"),
        ("POST", "upstreams/crm/replay", "{\"since\":9}", 400, "bad_request"),
        ("POST", "upstreams/crm/replay", "{}", 400, "bad_request"),
    ] {
        let answer = paper.local(method, &format!("/api/v1/{path}"), Some(body));
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{path}");
    }
    receiver.behave(|_, _| Reply::Status(401));
    let refused = at(&paper, &["upstream", "test", "crm"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("it answers 401; check secret"), "{}", refused.err);
}

#[test]
fn a_reload_leaves_what_did_not_change_and_moves_what_did() {
    let (one, two) = (Receiver::willing(), Receiver::willing());
    let paper = open("moves", &(one.table("one", "") + &one.table("two", "")));
    ringing(&paper, "c1");
    // Not only that they came: what the device does not know to be taken, it tells again after a change.
    until("both are told", || ["one", "two"].iter().all(|name| view(&paper, name)["delivered"] == 1));
    let base = paper.config.borrow().clone();
    let change = |tables: &str| {
        let text = format!("[[line]]\nname = \"main\"\nuser = \"1\"\ndomain = \"d.example\"\n{tables}");
        let new = Config::parse(&text, "t.toml").expect("a configuration");
        let mut config = Config::clone(&base);
        config.upstream = new.upstream;
        paper.config.send_replace(Arc::new(config));
    };
    change(&(one.table("one", "") + &two.table("two", "") + &two.table("three", "")));
    until("the third is there", || paper.local("GET", "/api/v1/upstreams", None).text.contains("three"));
    assert_eq!(view(&paper, "one")["delivered"], 1, "its counters went on");
    ringing(&paper, "c2");
    until("all are told", || one.got().len() == 3 && two.got().len() == 2);
    assert_eq!((one.taken(), two.taken()), (vec![1, 2], vec![2]), "nobody is told twice, or of the past");
    change("");
    until("none is left", || paper.local("GET", "/api/v1/upstreams", None).text.contains("[]"));
    change(&one.table("one", ""));
    until("it is there", || paper.local("GET", "/api/v1/upstreams", None).text.contains("one"));
    ringing(&paper, "c3");
    until("it is told", || one.got().len() == 4);
    assert_eq!(one.taken(), [1, 2, 3]);
}

#[test]
fn an_upstream_is_told_of_the_calls_that_fulfil_its_conditions() {
    let (calls, all) = (Receiver::willing(), Receiver::willing());
    let conditions = "filter = [\"direction=in\", \"party=outside\", \"number!=+7900*\"]";
    let paper = open("conditions", &(calls.table("calls", conditions) + &all.table("all", "")));
    let told = |call: &str, direction: Direction, number: &str| {
        let leg = leg(call, number, "Anna");
        let called = Party::numbered(number);
        let leg = if direction == Direction::In { leg } else { Leg { direction, called, ..leg } };
        paper.tell(Event::of_call(call, Kind::CallNew { leg, origin: tipring::events::Origin::Network }))
    };
    let wanted = told("c1", Direction::In, "+74954451120");
    told("c2", Direction::Out, "+74954451120");
    told("c3", Direction::In, "600");
    told("c4", Direction::In, "+79001234567");
    let also = told("c5", Direction::In, "8-495-445-11-20");
    until("all are told", || all.taken().len() == 5);
    until("those of the conditions are", || calls.taken().len() == 2);
    assert_eq!(calls.taken(), [wanted, also]);
    until("it is done with the rest", || view(&paper, "calls")["state"] == "idle");
}

#[test]
fn the_page_of_the_webhook_names_every_type_of_event() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations/webhook.md");
    let page = std::fs::read_to_string(page).expect("the page");
    for kind in tipring::events::catalogue::TYPES {
        assert!(page.contains(&format!("`{kind}`")), "{kind} is not in the page");
    }
}

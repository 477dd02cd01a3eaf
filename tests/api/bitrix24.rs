//! What a Bitrix24 portal is told, and what it keeps of it whatever is lost.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tipring::events::{CallResult, Cause, Event, Kind, Leg, Origin};

use crate::kills::Appliance;
use crate::leg;
use crate::office::{Paper, until};
use crate::portal::Portal;
use crate::receiver::Receiver;
use crate::upstreams::{at, open, view};

/// The receiver with what it knows.
pub struct Bitrix {
    receiver: Receiver,
    portal: Arc<Mutex<Portal>>,
}

impl Bitrix {
    pub fn open() -> Bitrix {
        let portal = Arc::new(Mutex::new(Portal::new()));
        let shared = portal.clone();
        let receiver = Receiver::of(|_| {}, move |got, _| shared.lock().expect("a lock").answer(got));
        Bitrix { receiver, portal }
    }

    pub fn portal(&self) -> MutexGuard<'_, Portal> {
        self.portal.lock().expect("a lock")
    }

    /// The upstream's table; the calls of these tests are long over, and are told all the same.
    pub fn told_of_the_past(&self) -> String {
        let (at, keys) = (self.receiver.address, Portal::keys(self.receiver.address));
        let upstream = "[[upstream]]\nname = \"crm\"\nkind = \"bitrix24\"\nexpire_after = \"0s\"";
        format!("{upstream}\nurl = \"http://{at}\"\n{keys}")
    }

    pub fn methods(&self) -> Vec<String> {
        self.portal().methods.clone()
    }
}

fn begin(paper: &Paper, leg: &Leg, call: &str) {
    paper.tell(Event::of_call(call, Kind::CallNew { leg: leg.clone(), origin: Origin::Network }));
    paper.tell(Event::of_call(call, Kind::CallRinging { leg: leg.clone() }));
}

fn end(leg: &Leg, recording_id: Option<String>) -> Kind {
    Kind::CallEnded {
        leg: leg.clone(),
        result: CallResult::Answered,
        cause: Cause::default(),
        total_us: 20_000_000,
        ring_us: 3_000_000,
        talk_us: 17_900_000,
        hold_us: 0,
        quality: None,
        recording_id,
        vote: None,
    }
}

fn idle(paper: &Paper) -> bool {
    view(paper, "crm")["state"] == "idle"
}

#[test]
fn a_portal_registers_each_leg_once_and_gets_its_end_and_its_recording() {
    let bitrix = Bitrix::open();
    let table = bitrix.told_of_the_past();
    let paper = open("bitrix24", &table);
    let recordings = paper.folder.join("data/recordings");
    std::fs::create_dir_all(&recordings).expect("a folder");
    let sound = format!("RIFF\r\n--tipring-c11\r\n{}", "speech ".repeat(40_000));
    std::fs::write(recordings.join("c1-1.wav"), &sound).expect("a recording");
    let call = leg("c1", "+7 495 123-45-67", "\",\"USER_ID\":1,\"");
    begin(&paper, &call, "c1");
    until("it is registered", || bitrix.portal().calls.len() == 1);
    until("that is kept", || idle(&paper));
    // Its hour is over in the middle of the call, and the answer to the end is lost.
    bitrix.portal().access = "another".into();
    bitrix.portal().mute_once = Some("finish");
    paper.tell(Event::of_call("c1", Kind::CallAnswered { leg: call.clone(), ring_us: 1, automatic: None }));
    paper.tell(Event::of_call("c1", end(&call, Some("c1-1".into()))));
    let ready = Kind::RecordingReady {
        recording_id: "c1-1".into(),
        leg_id: call.leg_id.clone(),
        line: call.line.clone(),
        duration_us: 1,
        bytes: sound.len() as u64,
    };
    paper.tell(Event::of_call("c1", ready));
    until("it has everything", || bitrix.methods().contains(&"upload".to_owned()) && idle(&paper));
    let portal = bitrix.portal();
    assert_eq!(portal.calls.len(), 1, "registered once");
    let registered = portal.calls.values().next().expect("a call");
    let finished = registered.finished.as_ref().expect("its end");
    assert_eq!((&finished["DURATION"], &finished["STATUS_CODE"]), (&json!(17), &json!("200")));
    assert_eq!(finished["USER_PHONE_INNER"], "1001");
    assert!(registered.file.as_deref() == Some(sound.as_str()), "the recording, whole");
    assert!(portal.strange.is_empty() && portal.renewals == 2, "{:?}", portal.methods);
    drop(portal);
    let tested = at(&paper, &["upstream", "test", "crm"]);
    assert!(tested.code == Some(0) && tested.out.starts_with("taken with status 200"), "{}", tested.err);
    for path in ["/api/v1/upstreams", "/api/v1/config", "/api/v1/status", "/metrics", "/api/v1/journal"] {
        assert!(!paper.local("GET", path, None).text.contains("planted-"), "{path}");
    }
}

#[test]
fn a_chain_of_tokens_that_broke_is_told_and_a_new_first_one_mends_it() {
    let bitrix = Bitrix::open();
    // The server has given the next token to nobody: the power went, or the answer was lost.
    bitrix.portal().mute_once = Some("renewal");
    let table = bitrix.told_of_the_past();
    let paper = open("bitrix24-broken", &table);
    let call = leg("c1", "+7 495 123-45-67", "Anna");
    begin(&paper, &call, "c1");
    until("it is told", || {
        view(&paper, "crm")["reason"].as_str().is_some_and(|it| it.contains("invalid_grant"))
    });
    let seen = view(&paper, "crm");
    assert!(seen["cure"].as_str().is_some_and(|cure| cure.contains("refresh_token_file")), "{seen}");
    assert!(seen["retry_s"].as_u64().is_some_and(|it| it > 1800), "it is left alone: {seen}");
    assert!(!seen.to_string().contains("planted"), "{seen}");
    assert!(bitrix.portal().calls.is_empty());
    // Somebody has the application give another one.
    let fresh = bitrix.portal().refresh.clone();
    let config = paper.config.borrow().clone();
    let mut mended = (*config).clone();
    mended.upstream[0].bitrix24.refresh_token = tipring::config::Secret::new(fresh);
    paper.config.send_replace(Arc::new(mended));
    until("it is delivered", || bitrix.portal().calls.len() == 1 && idle(&paper));
}

/// A portal, and the program with a store full of calls, killed while it tells them.
#[test]
fn killed_between_any_two_requests_it_registers_and_finishes_each_call_once() {
    let bitrix = Bitrix::open();
    // Slower than whoever pulls the plug.
    bitrix.portal().pause = Duration::from_millis(10);
    let table = bitrix.told_of_the_past();
    let folder = Appliance::prepare("api-bitrix24-killed", &table);
    let life = Appliance::start(&folder);
    life.open();
    until("the upstream begins", || {
        life.ask("GET", "/api/v1/upstreams").is_some_and(|it| it.text.contains("crm"))
    });
    life.kill();
    const CALLS: usize = 24;
    let mut events = Vec::new();
    for number in 0..CALLS {
        let id = format!("c{number}");
        let call = leg(&id, "+7 495 123-45-67", "Anna");
        events.push(Event::of_call(id.clone(), Kind::CallRinging { leg: call.clone() }));
        events.push(Event::of_call(id, end(&call, None)));
    }
    Appliance::remember(&folder, "crm", events);
    // After every third request somebody pulls the plug.
    let mut lives = 0;
    while bitrix.portal().calls.values().filter(|it| it.finished.is_some()).count() < CALLS {
        let life = Appliance::start(&folder);
        let before = bitrix.methods().len();
        until("it goes on", || bitrix.methods().len() >= before + 3 || life.is_idle("crm"));
        let done = life.is_idle("crm");
        life.kill();
        lives += 1;
        assert!(lives < 100 && (!done || lives > 1), "{lives} lives: {:?}", bitrix.methods());
    }
    let life = Appliance::start(&folder);
    until("it is told everything", || life.is_idle("crm"));
    life.kill();
    let portal = bitrix.portal();
    let finished = portal.calls.values().filter(|it| it.finished.is_some()).count();
    assert_eq!((portal.calls.len(), finished), (CALLS, CALLS), "{:?}", portal.methods);
    assert!(lives > 3, "{lives} lives");
    println!("{lives} lives, {} renewals", portal.renewals);
}

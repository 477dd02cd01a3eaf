//! A Bitrix24 portal and its sign-in server, as their own documentation has them answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tipring::events::{CallResult, Cause, Event, Kind, Leg, Origin};

use crate::kills::Appliance;
use crate::leg;
use crate::office::{Paper, until};
use crate::receiver::{Got, Receiver, Reply, pairs};
use crate::upstreams::{at, open, view};

/// A call that the portal has registered.
#[derive(Clone, Debug, PartialEq)]
struct Registered {
    /// By what a repetition is known: number, type, user, line and EXTERNAL_CALL_ID.
    key: Vec<Value>,
    finished: Option<Value>,
    file: Option<String>,
}

/// Everything that the portal and the sign-in server know.
#[derive(Default)]
struct Portal {
    refresh: String,
    access: String,
    renewals: usize,
    calls: BTreeMap<String, Registered>,
    methods: Vec<String>,
    /// What goes wrong, by method: its first request is done, and the connection is closed without an answer.
    mute_once: Option<&'static str>,
    /// Requests in which what was said was wrong.
    strange: Vec<String>,
}

/// The receiver with what it knows.
struct Bitrix {
    receiver: Receiver,
    portal: Arc<Mutex<Portal>>,
}

impl Bitrix {
    fn open() -> Bitrix {
        let portal = Arc::new(Mutex::new(Portal { refresh: "planted-r0".into(), ..Portal::default() }));
        let shared = portal.clone();
        let receiver = Receiver::of(|_| {}, move |got, _| shared.lock().expect("a lock").answer(got));
        Bitrix { receiver, portal }
    }

    fn portal(&self) -> MutexGuard<'_, Portal> {
        self.portal.lock().expect("a lock")
    }

    fn table(&self, more: &str) -> String {
        let at = self.receiver.address;
        format!(
            "[[upstream]]\nname = \"crm\"\nkind = \"bitrix24\"\nurl = \"http://{at}\"\n[upstream.bitrix24]\n\
             client_id = \"local.1\"\nclient_secret = \"planted-secret\"\nrefresh_token = \"planted-r0\"\n\
             sign_in = \"http://{at}/oauth/token/\"\n{more}\n"
        )
    }

    fn methods(&self) -> Vec<String> {
        self.portal().methods.clone()
    }
}

fn json_reply(status: u16, said: &Value) -> Reply {
    Reply::Full(status, "Content-Type: application/json\r\n", said.to_string().into_bytes())
}

fn error(status: u16, code: &str, text: &str) -> Reply {
    json_reply(status, &json!({ "error": code, "error_description": text }))
}

impl Portal {
    fn answer(&mut self, got: &Got) -> Reply {
        assert_eq!(got.method, "POST");
        if got.target == "/oauth/token/" {
            return self.renew(&pairs(&got.text));
        }
        if got.target.starts_with("/rest/upload.json?token=") {
            return self.upload(got);
        }
        let method = got.target.strip_prefix("/rest/").expect("a method").to_owned();
        let body: Value = serde_json::from_str(&got.text).expect("JSON");
        if body["auth"] != *self.access {
            return error(401, "expired_token", "The access token provided has expired");
        }
        let short = method.trim_start_matches("telephony.externalCall.").to_owned();
        self.methods.push(short.clone());
        let reply = self.call(&short, &body, got);
        if self.mute_once.take_if(|it| *it == short).is_some() { Reply::Close } else { reply }
    }

    /// A refresh token is good for one renewal.
    fn renew(&mut self, form: &BTreeMap<String, String>) -> Reply {
        self.methods.push("renewal".into());
        let right = form["grant_type"] == "refresh_token"
            && (form["client_id"].as_str(), form["client_secret"].as_str()) == ("local.1", "planted-secret");
        if !right || form["refresh_token"] != self.refresh {
            return error(400, "invalid_grant", "");
        }
        self.renewals += 1;
        self.refresh = format!("planted-r{}", self.renewals);
        self.access = format!("planted-a{}", self.renewals);
        let at = json!({ "access_token": self.access, "refresh_token": self.refresh, "expires_in": 3600,
            "domain": "oauth.bitrix.info", "scope": "app", "status": "L", "user_id": 1 });
        if self.mute_once.take_if(|it| *it == "renewal").is_some() {
            return Reply::Close;
        }
        json_reply(200, &at)
    }

    fn call(&mut self, method: &str, body: &Value, got: &Got) -> Reply {
        let done = |result: Value| json_reply(200, &json!({ "result": result, "time": {} }));
        let named = body["CALL_ID"].as_str().map(str::to_owned);
        match method {
            "app.info" => done(json!({ "ID": 1 })),
            "register" => {
                let user =
                    if body["USER_ID"].is_null() { &body["USER_PHONE_INNER"] } else { &body["USER_ID"] };
                if user.is_null() || body["PHONE_NUMBER"].as_str().is_none_or(str::is_empty) {
                    return error(400, "ERROR_CORE", "USER_ID or USER_PHONE_INNER should be set");
                }
                let key = ["PHONE_NUMBER", "TYPE", "LINE_NUMBER", "EXTERNAL_CALL_ID"]
                    .map(|name| body[name].clone());
                let key = [&key[..], std::slice::from_ref(user)].concat();
                let known = self.calls.iter().find(|(_, call)| call.key == key && call.finished.is_none());
                let id = match known {
                    Some((id, _)) => id.clone(),
                    None => {
                        let id = format!("externalCall.{}", self.calls.len() + 1);
                        self.calls.insert(id.clone(), Registered { key, finished: None, file: None });
                        id
                    }
                };
                done(json!({ "CALL_ID": id, "CRM_CREATED_LEAD": null, "CRM_ENTITY_TYPE": "CONTACT" }))
            }
            "show" | "hide" => done(json!(true)),
            "finish" => match named.and_then(|id| self.calls.get_mut(&id)) {
                Some(call) if call.finished.is_none() => {
                    call.finished = Some(body.clone());
                    done(
                        json!({ "CALL_DURATION": body["DURATION"], "CALL_FAILED_CODE": body["STATUS_CODE"] }),
                    )
                }
                _ => error(
                    400,
                    "ERROR_CORE",
                    "Call is not found (call should be registered prior to finishing)",
                ),
            },
            "attachRecord" => {
                match named.filter(|id| self.calls.get(id).is_some_and(|it| it.finished.is_some())) {
                    Some(id) => {
                        let url = format!("http://{}/rest/upload.json?token={id}", got.field("host"));
                        done(json!({ "uploadUrl": url, "fieldName": "file" }))
                    }
                    None => error(
                        400,
                        "",
                        "Call is not found in the statistic table. It looks like it is not finished yet.",
                    ),
                }
            }
            other => {
                self.strange.push(other.to_owned());
                error(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
            }
        }
    }

    /// `multipart/form-data` as a web server reads it (RFC 7578): one field, whose name was said before.
    fn upload(&mut self, got: &Got) -> Reply {
        self.methods.push("upload".into());
        let boundary = got.content_type.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
        let inside = got.text.strip_prefix(&format!("--{boundary}\r\n")).expect("a part");
        let inside = inside.strip_suffix(&format!("\r\n--{boundary}--\r\n")).expect("an end");
        let (head, content) = inside.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("name=\"file\"; filename=\"") && head.contains(".wav\""), "{head}");
        let id = got.target.split_once("token=").expect("a token").1;
        self.calls.get_mut(id).expect("a call").file = Some(content.to_owned());
        json_reply(200, &json!({ "result": { "FILE_ID": 9 } }))
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
    }
}

fn idle(paper: &Paper) -> bool {
    view(paper, "crm")["state"] == "idle"
}

const ALL_TIMES: &str = "expire_after = \"0s\"\n";

#[test]
fn a_portal_registers_each_leg_once_and_gets_its_end_and_its_recording() {
    let bitrix = Bitrix::open();
    let table = bitrix.table("").replace("[upstream.bitrix24]", &format!("{ALL_TIMES}[upstream.bitrix24]"));
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
    let table = bitrix.table("").replace("[upstream.bitrix24]", &format!("{ALL_TIMES}[upstream.bitrix24]"));
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
    let table = bitrix.table("").replace("[upstream.bitrix24]", &format!("{ALL_TIMES}[upstream.bitrix24]"));
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

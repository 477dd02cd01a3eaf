//! Systems upstream, each as its own code reads: what it looks at before it believes a request, and what it knows of calls
//! afterwards; and beside each what it should know of the calls that a test made, in its words.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::netns::Host;
use crate::portal::Portal;
use crate::receiver::{Got, Look, Receiver, Reply, SECRET, pairs, webhook};

/// Whom the lab's PBX says that it calls for.
pub const CALLER: &str = "5550123";
pub const CLIENT_ID: &str = "000003C405E6525C64C184258C44EC99";
pub const KEY: &str = "00000716ABDA6D4DFF10F82BCBBFC532";

/// What became of a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Answered,
    Elsewhere,
    GivenUp,
}

/// A leg that the test made, as whoever made it knows it.
pub struct Made {
    call: String,
    id: String,
    incoming: bool,
    number: &'static str,
    end: End,
    is_callback: bool,
    vote: Option<u64>,
}

impl Made {
    pub fn new(call: &str, leg: u8, incoming: bool, number: &'static str, end: End) -> Made {
        let id = format!("{call}-{leg}");
        Made { call: call.to_owned(), id, incoming, number, end, is_callback: false, vote: None }
    }

    /// The far end has said how it was.
    pub fn rated(self, vote: u64) -> Made {
        Made { vote: Some(vote), ..self }
    }

    /// The leg of a callback.
    pub fn of_callback(call: &str, leg: u8, number: &'static str) -> Made {
        Made { is_callback: true, ..Made::new(call, leg, false, number, End::Answered) }
    }

    fn is_outside(&self) -> bool {
        self.number == CALLER || self.number.starts_with('+')
    }

    fn was_answered(&self) -> bool {
        self.end == End::Answered
    }

    /// TYPE: 1 is a call that was dialled, 2 one that came, 4 a part of a callback.
    fn bitrix24_type(&self) -> &'static str {
        match (self.incoming, self.is_callback) {
            (_, true) => "4",
            (true, _) => "2",
            (false, _) => "1",
        }
    }

    /// The steps in somebody's words: of a call that comes, of one that is dialled, of an answer, of the end.
    fn steps<'w>(&self, comes: &'w str, dialled: &'w str, answer: &'w str, end: &'w str) -> Vec<&'w str> {
        let mut steps = vec![if self.incoming { comes } else { dialled }];
        steps.extend(self.was_answered().then_some(answer));
        steps.push(end);
        steps
    }
}

/// The name by which the CRM that is asked knows the caller.
pub const KNOWN_AS: &str = "Lab & Sons";

/// The systems that take HTTP requests, at one host, by the names of their upstreams; and `lookup`, which is asked who calls.
pub struct Systems {
    receivers: BTreeMap<&'static str, Receiver>,
    portal: Arc<Mutex<Portal>>,
}

impl Systems {
    /// All of them at a host, and what Bitrix24's applications sign in at beside the phone.
    pub fn open(host: &Host, phone: &Host) -> Systems {
        let kinds: [(&'static str, Look); 9] = [
            ("webhook", webhook),
            ("ringme", ringme),
            ("rostelecom", signed_by_rostelecom),
            ("webitel", webitel),
            ("slack", slack),
            ("action-url", desk_phone),
            ("lookup", signed_by_rostelecom),
            ("bitrix24", |_| {}),
            // Its keys go to no other host in clear.
            ("sign-in", |_| {}),
        ];
        let portal = Arc::new(Mutex::new(Portal::new()));
        let known = json!({ "result": 0, "resultMessage": " ", "displayName": KNOWN_AS }).to_string();
        let open = |(name, look): (&'static str, Look)| {
            let (host, address) =
                if name == "sign-in" { (phone, "127.0.0.1") } else { (host, host.address.as_str()) };
            let listener = host.enter(|| TcpListener::bind((address, 0))).expect("a port");
            let (portal, known) = (portal.clone(), known.clone());
            let manner = move |got: &Got, _| match name {
                "lookup" => Reply::Full(200, "", known.clone().into_bytes()),
                "bitrix24" | "sign-in" => portal.lock().expect("a lock").answer(got),
                _ => Reply::Status(200),
            };
            (name, Receiver::on(listener, None, look, manner))
        };
        Systems { receivers: kinds.map(open).into(), portal: portal.clone() }
    }

    pub fn got(&self, name: &str) -> Vec<Got> {
        self.receivers[name].got()
    }

    /// The calls that Bitrix24's portal has registered, by EXTERNAL_CALL_ID.
    pub fn registered_at_bitrix24(&self) -> Known {
        let portal = self.portal.lock().expect("a lock");
        assert!(portal.strange.is_empty() && portal.renewals == 1, "{:?}", portal.methods);
        let mut legs = Known::new();
        for call in portal.calls.values() {
            let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let [number, kind, _, leg, user] = call.key.as_slice() else { panic!("{call:?}") };
            assert_eq!(user, "1001");
            let end = call.finished.as_ref().map(|it| word(&it["STATUS_CODE"]));
            let double = legs.insert(word(leg), (end.into_iter().collect(), vec![word(kind), word(number)]));
            assert!(double.is_none(), "registered once: {call:?}");
        }
        legs
    }

    /// What those calls were said to be like, by EXTERNAL_CALL_ID.
    pub fn votes_at_bitrix24(&self) -> BTreeMap<String, u64> {
        let portal = self.portal.lock().expect("a lock");
        let finished = portal.calls.values().filter_map(|call| Some((&call.key[3], call.finished.as_ref()?)));
        finished.filter_map(|(leg, end)| Some((leg.as_str()?.to_owned(), end["VOTE"].as_u64()?))).collect()
    }

    /// The tables that name them.
    pub fn tables(&self) -> String {
        let rostelecom = |table: &str| {
            format!("[{table}]\nclient_id = \"{CLIENT_ID}\"\nkey = \"{KEY}\"\ndomain = \"example.ru\"")
        };
        let more = |name: &str| match name {
            "webhook" => format!("secret = \"{SECRET}\"\nevents = [\"*\"]"),
            "rostelecom" => rostelecom("upstream.rostelecom"),
            "bitrix24" => Portal::keys(self.receivers["sign-in"].address) + "internal = true",
            "webitel" => "[upstream.webitel]\ndomain = \"x.webitel.com\"".to_owned(),
            "action-url" => "[upstream.action_url]\n\
                 incoming_call = \"/phone?call=$call_id&e=$event&with=$remote_number\"\n\
                 outgoing_call = \"/phone?call=$call_id&e=$event&with=$remote_number\"\n\
                 call_established = \"/phone?call=$call_id&e=$event&with=$remote_number\"\n\
                 call_terminated = \"/phone?call=$call_id&e=$event&with=$remote_number\"\n\
                 missed_call = \"/phone?call=$call_id&e=$event&with=$remote_number\""
                .to_owned(),
            _ => String::new(),
        };
        let table = |(name, receiver): (&&str, &Receiver)| {
            let (more, address) = (more(name), receiver.address);
            let path = if ["action-url", "bitrix24"].contains(name) {
                String::new()
            } else {
                format!("/planted-{name}")
            };
            match *name {
                "lookup" => {
                    let keys = rostelecom("lookup.rostelecom");
                    format!("[lookup]\nkind = \"rostelecom\"\nurl = \"http://{address}{path}\"\n{keys}\n")
                }
                _ => format!(
                    "[[upstream]]\nname = \"{name}\"\nkind = \"{name}\"\nurl = \"http://{address}{path}\"\n{more}\n"
                ),
            }
        };
        self.receivers.iter().filter(|(name, _)| **name != "sign-in").map(table).collect()
    }
}

// What each system looks at before it believes a request.

fn ringme(got: &Got) {
    assert_eq!(
        (got.method.as_str(), got.content_type.as_str()),
        ("POST", "application/x-www-form-urlencoded")
    );
}

/// By the hash over the bytes that came, before any of them is read.
pub fn signed_by_rostelecom(got: &Got) {
    let hash = Sha256::digest([CLIENT_ID, &got.text, KEY].concat());
    let sign: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((got.field("x-client-id"), got.field("x-client-sign")), (CLIENT_ID, sign.as_str()));
}

fn webitel(got: &Got) {
    assert!(got.content_type.starts_with("application/json") && got.event()["uuid"].is_string(), "{got:?}");
}

fn slack(got: &Got) {
    assert!(got.event()["text"].as_str().is_some_and(|text| !text.is_empty()), "{got:?}");
}

fn desk_phone(got: &Got) {
    assert_eq!((got.method.as_str(), got.text.as_str()), ("GET", ""));
}

/// What somebody knows of a leg or call: its steps in order, and more words about it.
pub type Known = BTreeMap<String, (Vec<String>, Vec<String>)>;

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn expected(made: &[Made], known: impl Fn(&Made) -> (String, Vec<&'static str>, Vec<&'static str>)) -> Known {
    let mut all = Known::new();
    for leg in made {
        let (key, steps, words) = known(leg);
        let entry = all.entry(key).or_default();
        entry.0.extend(owned(&steps));
        entry.1.extend(owned(&words));
    }
    all
}

/// An integration of Ringme keeps legs by SubCallID.
pub fn legs_of_ringme(got: &[Got]) -> Known {
    let mut legs = Known::new();
    for event in got.iter().map(|got| pairs(&got.text)) {
        let leg = legs.entry(event["SubCallID"].clone()).or_default();
        leg.0.push(event["EventType"].clone());
        let number = if event["CallFlow"] == "in" { "CallerIDNum" } else { "CalledNumber" };
        leg.1 = [&event["CallFlow"], &event[number], &event["CallStatus"]].map(Clone::clone).into();
    }
    legs
}

pub fn to_ringme(made: &[Made]) -> Known {
    expected(made, |leg| {
        let status = match leg.end {
            End::Answered => "ANSWER",
            End::Elsewhere | End::GivenUp => "CANCEL",
        };
        let flow = if leg.incoming { "in" } else { "out" };
        (leg.id.clone(), leg.steps("dial-in", "dial-out", "answer", "hangup"), vec![flow, leg.number, status])
    })
}

/// Webitel's record of a leg.
pub fn records_of_webitel(got: &[Got]) -> Known {
    let mut legs = Known::new();
    for record in got.iter().map(Got::event) {
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let number = if record["direction"] == "inbound" { "caller_id_number" } else { "destination_number" };
        let words = [text("parent_uuid"), text("direction"), text(number), text("hangup_cause")];
        let double = legs.insert(text("uuid"), (Vec::new(), words.into()));
        assert!(double.is_none(), "one record of a leg");
        assert_eq!(record["talksec"].as_u64() > Some(0), record["hangup_cause"] == "NORMAL_CLEARING");
    }
    legs
}

pub fn to_webitel(made: &[Made]) -> Known {
    let mut legs = expected(made, |leg| {
        let cause = match leg.end {
            End::Answered => "NORMAL_CLEARING",
            End::Elsewhere => "LOSE_RACE",
            End::GivenUp => "ORIGINATOR_CANCEL",
        };
        let direction = if leg.incoming { "inbound" } else { "outbound" };
        (leg.id.clone(), Vec::new(), vec![direction, leg.number, cause])
    });
    for leg in made {
        legs.get_mut(&leg.id).expect("it is there").1.insert(0, leg.call.clone());
    }
    legs
}

/// A CRM of Rostelecom's keeps sessions.
pub fn sessions_of_rostelecom(got: &[Got]) -> Known {
    let mut sessions = Known::new();
    for event in got.iter().map(Got::event) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let session = sessions.entry(text("session_id")).or_default();
        let state = text("state");
        assert!(!session.0.contains(&"end".to_owned()), "nothing comes after the end: {event}");
        if !["new", "calling"].contains(&state.as_str()) {
            session.0.push(state);
        }
        session.1.push(text("type"));
    }
    for (_, types) in sessions.values_mut() {
        types.sort();
        types.dedup();
    }
    sessions
}

pub fn to_rostelecom(made: &[Made]) -> Known {
    let mut sessions = expected(made, |leg| {
        let mut steps = vec!["disconnected"];
        if leg.was_answered() {
            steps.insert(0, "connected");
        }
        let of = match leg.incoming {
            _ if !leg.is_outside() => "internal",
            true => "incoming",
            false => "outbound",
        };
        (leg.call.clone(), steps, vec![of])
    });
    for (steps, types) in sessions.values_mut() {
        // Both legs of a callback are answered before either of them ends.
        steps.sort();
        steps.push("end".to_owned());
        types.sort();
        types.dedup();
    }
    sessions
}

/// What a desk phone's Action URLs tell.
pub fn steps_of_desk_phone(got: &[Got]) -> Known {
    let mut calls = Known::new();
    for mut query in got.iter().map(Got::query) {
        let call = calls.entry(query.remove("call").expect("a call")).or_default();
        call.0.push(query["e"].clone());
        if query["e"] == "call_terminated" {
            call.1.push(query["with"].clone());
        }
    }
    for (steps, numbers) in calls.values_mut() {
        steps.sort();
        numbers.sort();
    }
    calls
}

pub fn to_desk_phone(made: &[Made]) -> Known {
    let mut calls = expected(made, |leg| {
        let mut steps = leg.steps("incoming_call", "outgoing_call", "call_established", "call_terminated");
        steps.extend((leg.end == End::GivenUp).then_some("missed_call"));
        (leg.call.clone(), steps, vec![leg.number])
    });
    for (steps, numbers) in calls.values_mut() {
        steps.sort();
        numbers.sort();
    }
    calls
}

pub fn to_bitrix24(made: &[Made]) -> Known {
    expected(made, |leg| {
        // A card that another phone's answer closes is no call that was missed.
        let end = match leg.end {
            End::Answered => vec!["200"],
            End::Elsewhere => vec![],
            End::GivenUp => vec!["304"],
        };
        (leg.id.clone(), end, vec![leg.bitrix24_type(), leg.number.trim_start_matches('+')])
    })
}

/// The votes that there are.
pub fn votes(made: &[Made]) -> BTreeMap<String, u64> {
    made.iter().filter_map(|leg| Some((leg.id.clone(), leg.vote?))).collect()
}

/// A program that follows the manager protocol: it puts channels together by `Linkedid`.
pub struct Manager {
    stream: TcpStream,
    text: JoinHandle<String>,
}

impl Manager {
    pub fn connect(desk: &Host, phone: &Host) -> Manager {
        let mut stream =
            desk.enter(|| TcpStream::connect((phone.address.as_str(), 5038))).expect("a connection");
        write!(stream, "Action: Login\r\nUsername: panel\r\nSecret: panel-42\r\nEvents: call\r\n\r\n")
            .expect("sent");
        let mut reader = stream.try_clone().expect("the same connection");
        let text = spawn(move || {
            let mut text = Vec::new();
            let _ = reader.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Manager { stream, text }
    }

    /// Of each call, in the order in which they began: the causes with which its channels ended, each begun before.
    pub fn calls(mut self) -> Vec<Vec<String>> {
        self.stream.write_all(b"Action: Logoff\r\n\r\n").expect("sent");
        let _ = self.stream.shutdown(Shutdown::Write);
        let text = self.text.join().expect("a reader");
        let mut calls: Vec<(String, BTreeSet<String>, Vec<String>)> = Vec::new();
        for block in text.split("\r\n\r\n") {
            let fields: BTreeMap<&str, &str> =
                block.lines().filter_map(|line| line.split_once(": ")).collect();
            let (Some(event), Some(linked)) = (fields.get("Event"), fields.get("Linkedid")) else { continue };
            if *event == "Newchannel" && !calls.iter().any(|(id, ..)| id == linked) {
                calls.push(((*linked).to_owned(), BTreeSet::new(), Vec::new()));
            }
            let call = calls.iter_mut().find(|(id, ..)| id == linked).expect("a channel begins first");
            match *event {
                "Newchannel" => assert!(call.1.insert(fields["Uniqueid"].to_owned()), "{block}"),
                "Hangup" => {
                    assert!(call.1.remove(fields["Uniqueid"]), "a channel ends once: {block}");
                    call.2.push(fields["Cause"].to_owned());
                }
                _ => {}
            }
        }
        assert!(calls.iter().all(|(_, open, _)| open.is_empty()), "{calls:?}");
        calls.into_iter().map(|(.., causes)| causes).collect()
    }
}

pub fn to_manager(made: &[Made]) -> Vec<Vec<String>> {
    let mut calls: Vec<(&str, Vec<String>)> = Vec::new();
    for leg in made {
        let cause = match leg.end {
            End::Answered => "16",
            End::Elsewhere => "26",
            End::GivenUp => "0",
        };
        match calls.last_mut().filter(|(call, _)| *call == leg.call) {
            Some((_, causes)) => causes.push(cause.to_owned()),
            None => calls.push((&leg.call, owned(&[cause]))),
        }
    }
    calls.into_iter().map(|(_, causes)| causes).collect()
}

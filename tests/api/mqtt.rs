//! Events told to a broker, over real connections. Mosquitto is in `tests/lab`.

use std::net::TcpListener;

use serde_json::json;
use tipring::events::{Event, Kind, Origin};
use tipring::phone::command::Command;

use crate::broker::{Broker, Heard, Reply, event, message};
use crate::leg;
use crate::office::{Asked, Paper, until};
use crate::receiver::Receiver;
use crate::tls::Pki;
use crate::upstreams::{at, open, view};

const STATE: &str = "v1/acme/TR-1/state";

fn new_call(paper: &Paper, call: &str) -> u64 {
    let origin = tipring::events::Origin::Network;
    paper.tell(Event::of_call(call, Kind::CallNew { leg: leg(call, "+74951234567", "Anna"), origin }))
}

#[test]
fn each_event_is_a_message_in_the_tree_of_the_device_and_the_state_is_kept() {
    for version in ["5", "3.1.1"] {
        let broker = Broker::willing();
        let mqtt = format!("version = \"{version}\"\nuser = \"phone\"\npassword = \"planted-word\"");
        let paper = open(&format!("mqtt{version}"), &broker.table("broker", "redact = [\"numbers\"]", &mqtt));
        until("it is connected", || view(&paper, "broker")["state"] == "idle");
        for call in ["c1", "c2", "c1"] {
            new_call(&paper, call);
        }
        paper.tell(Event::of_call(
            "c1",
            Kind::CallClosed {
                line: "main".into(),
                direction: tipring::events::Direction::In,
                caller: leg("c1", "600", "").caller,
                called: leg("c1", "600", "").called,
                result: tipring::events::CallResult::Busy,
                missed: true,
                did: None,
                legs: 1,
                total_us: 1,
                talk_us: 0,
            },
        ));
        paper.tell(Event::new(Kind::DeviceRecovered { part: "sound".into() }));
        until("all is taken", || broker.taken().len() == 5);
        let got = broker.got();
        let topics: Vec<&str> =
            got.iter().filter(|it| it.topic.ends_with("/event")).map(|it| it.topic.as_str()).collect();
        for (topic, count) in [
            ("v1/acme/TR-1/call/c1-1/event", 2),
            ("v1/acme/TR-1/call/c2-1/event", 1),
            ("v1/acme/TR-1/call/c1/event", 1),
            ("v1/acme/TR-1/event", 1),
        ] {
            assert_eq!(topics.iter().filter(|it| **it == topic).count(), count, "{topic} in {topics:?}");
        }
        let first = got.iter().find(|it| it.topic.contains("c1-1")).map(event).expect("an event");
        assert_eq!(
            (&first["type"], &first["subject"], &first["data"]["caller"]["dialled"]),
            (&json!("tipring.call.new"), &json!("c1"), &json!("***567")),
        );
        let hello = broker.hello().expect("a hello");
        assert_eq!((hello.user.as_deref(), hello.password.as_deref()), (Some("phone"), Some("planted-word")));
        assert_eq!((hello.five, hello.client_id.as_str()), (version == "5", "tipring-TR-1"));
        until("the state is told", || broker.retained(STATE)["state"] == "online");
        let state = broker.retained(STATE);
        let line = json!({ "name": "main", "state": "registered", "dnd": false, "calls": 1 });
        assert_eq!((&state["serial"], &state["lines"]), (&json!("TR-1"), &json!([line])));
        until("all is known to be taken", || view(&paper, "broker")["delivered"] == 5);
        let told = ["/api/v1/upstreams", "/api/v1/status", "/api/v1/config", "/metrics"]
            .map(|path| paper.local("GET", path, None).text)
            .concat();
        assert!(
            !told.contains("planted-word") && told.contains(&format!("mqtt://{}/", broker.address)),
            "{told}"
        );
        paper.close();
        until("its last word is kept", || broker.retained(STATE)["state"] == "offline");
    }
}

#[test]
fn a_connection_that_ends_in_the_middle_loses_nothing_and_its_will_is_told() {
    let broker = Broker::open(None, |heard, count| match heard {
        Heard::Publish(_) if count > 20 => Reply::Close,
        _ => Reply::Usual,
    });
    let paper = open("mqtt-cut", &broker.table("broker", "", ""));
    for number in 0..100 {
        new_call(&paper, &format!("c{}", number % 5));
    }
    // Each connection takes some twenty messages.
    until("all is taken", || broker.taken().len() == 100);
    assert!(broker.connections.load(std::sync::atomic::Ordering::Relaxed) > 4);
    for call in 0..5u64 {
        let of_call: Vec<u64> = broker.taken().into_iter().filter(|it| it % 5 == call).collect();
        assert!(of_call.is_sorted(), "{of_call:?}");
    }
    let events = broker.events();
    let known: std::collections::BTreeMap<u64, String> = events.iter().cloned().collect();
    assert!(events.iter().all(|(number, id)| known[number] == *id), "a double has the same identity");
}

/// Whatever a broker does, others are told at once.
#[test]
fn a_bad_broker_beside_a_good_one_delays_nobody() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let flood = |byte: u8| {
        move |heard: &Heard, _: usize| match heard {
            Heard::Connect(_) => Reply::Bytes(vec![byte; 3 << 20]),
            _ => Reply::Usual,
        }
    };
    let endless = |heard: &Heard, _: usize| match heard {
        // A greeting, and then answers to questions that nobody asked, without end.
        Heard::Connect(_) => Reply::Bytes([vec![0x20, 2, 0, 0], [0xd0, 0].repeat(2 << 20)].concat()),
        _ => Reply::Usual,
    };
    let bad: Vec<(&str, Broker)> = vec![
        ("deaf", Broker::open(None, |_, _| Reply::Deaf)),
        ("nonsense", Broker::open(None, flood(0x48))),
        ("zeros", Broker::open(None, flood(0))),
        ("endless", Broker::open(None, endless)),
        ("closing", Broker::open(None, |_, _| Reply::Close)),
    ];
    let (good, web) = (Broker::willing(), Receiver::willing());
    let mut tables = good.table("good", "", "") + &web.table("web", "");
    for (name, broker) in &bad {
        tables.push_str(&broker.table(name, "", "version = \"3.1.1\""));
    }
    tables.push_str(&good.table("dead", "", "").replace(&good.address.to_string(), &nobody.to_string()));
    let paper = open("mqtt-beside", &tables);
    for number in 0..20 {
        let sequence = new_call(&paper, &format!("c{number}"));
        until("the good ones are told", || {
            good.taken().contains(&sequence) && web.taken().contains(&sequence)
        });
    }
    for (name, reason) in [
        ("nonsense", "is not MQTT"),
        ("zeros", "is not MQTT"),
        ("closing", "the broker ends the connection"),
        ("dead", "no connection to"),
    ] {
        until(name, || view(&paper, name)["reason"].as_str().is_some_and(|it| it.contains(reason)));
        let view = view(&paper, name);
        assert_eq!((&view["delivered"], &view["waiting"]), (&json!(0), &json!(20)), "{view}");
        assert!(!view["cure"].as_str().expect("a cure").is_empty());
    }
}

#[test]
fn over_tls_only_the_right_broker_is_told_anything() {
    let pki = Pki::new("mqtt");
    let secure = Broker::open(Some(pki.server()), |_, _| Reply::Usual);
    let ca = format!("ca_file = {:?}", pki.file("ca.pem").display().to_string());
    let table = |name: &str, host: &str, more: &str| {
        let place = format!("mqtts://{host}:{}", secure.address.port());
        secure
            .table(name, more, &format!("client_id = \"{name}\""))
            .replace(&format!("mqtt://{}", secure.address), &place)
    };
    let tables = [
        table("right", "localhost", &ca),
        table("unknown", "localhost", ""),
        table("other-name", "127.0.0.1", &ca),
    ];
    let paper = open("mqtt-tls", &tables.concat());
    new_call(&paper, "c1");
    until("the right one is told", || secure.taken() == [1]);
    for (name, reason) in [
        ("unknown", "is signed by nobody who is known"),
        ("other-name", "the certificate is not for 127.0.0.1"),
    ] {
        until(name, || view(&paper, name)["reason"].as_str().is_some_and(|it| it.contains(reason)));
    }
    assert_eq!(secure.hello().map(|hello| hello.client_id), Some("right".to_owned()));
}

#[test]
fn people_test_pause_and_resume_a_broker() {
    let broker = Broker::willing();
    let paper = open("mqtt-people", &broker.table("broker", "", ""));
    until("it is connected", || view(&paper, "broker")["state"] == "idle");
    let tested = at(&paper, &["upstream", "test", "broker"]);
    assert!(tested.code == Some(0) && tested.out.starts_with("taken"), "{} {}", tested.out, tested.err);
    let test = broker.got().iter().find(|it| it.topic == "v1/acme/TR-1/event").map(event).expect("a test");
    assert_eq!(
        (&test["type"], &test["sequence"]),
        (&json!("tipring.upstream.test"), &json!("00000000000000000000"))
    );
    assert_eq!(at(&paper, &["upstream", "pause", "broker"]).code, Some(0));
    new_call(&paper, "c1");
    until("it waits", || view(&paper, "broker")["waiting"] == 1);
    assert_eq!(broker.taken(), [0]);
    assert_eq!(at(&paper, &["upstream", "resume", "broker"]).code, Some(0));
    until("it comes", || broker.taken() == [0, 1]);
    assert_eq!(at(&paper, &["upstream", "replay", "broker", "--since", "0"]).code, Some(0));
    until("it comes again", || broker.events().len() == 3);
    broker.behave(|heard, _| match heard {
        Heard::Publish(told) => Reply::Bytes(vec![0x40, 3, 0, told.id.unwrap_or(0) as u8, 0x87]),
        _ => Reply::Usual,
    });
    let refused = at(&paper, &["upstream", "test", "broker"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("not authorized; give it the right"), "{}", refused.err);
}

#[test]
fn commands_come_back_over_the_connection_and_are_answered() {
    for version in ["5", "3.1.1"] {
        let broker = Broker::willing();
        let mqtt = format!(
            "version = \"{version}\"\n[upstream.mqtt.commands]\nallow = [\"call\", \"hangup\", \"dtmf\", \"callback\", \"reload\"]\n\
             trust_broker = true"
        );
        let paper = open(&format!("mqtt-commands{version}"), &broker.table("broker", "", &mqtt));
        until("it listens", || broker.listens("v1/acme/TR-1/command/+"));
        // What was sent before the phone began is not believed.
        let now = || {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64()
        };
        let command = |name: &str, id: &str, more: &str| {
            let payload = format!("{{\"id\":\"{id}\",\"at\":{}{more}}}", now());
            let message = message(
                version == "5",
                &format!("v1/acme/TR-1/command/{name}"),
                payload.as_bytes(),
                5,
                false,
                &[],
            );
            broker.post(message.clone());
            broker.post(message);
        };
        let answer = |id: &str| {
            until("it is answered", || broker.answers().iter().any(|it| it["id"] == id));
            broker.answers().into_iter().find(|it| it["id"] == id).expect("an answer")
        };
        let some = |id: &str| Some(id.to_owned());
        let asked = |paper: &Paper| -> Vec<Command> {
            let all = paper.asked().into_iter().filter_map(|asked| match asked {
                Asked::Command(Command::Status, _) => None,
                Asked::Command(command, Origin::Upstream) => Some(command),
                _ => None,
            });
            all.collect()
        };
        command("call", "k-1", ",\"to\":\"600\",\"line\":\"main\"");
        let called = answer("k-1");
        assert_eq!((&called["result"], &called["call"]), (&json!("done"), &json!("new1")));
        assert!(!called.to_string().contains("600"), "no number is in an answer");
        command("hangup", "k-2", ",\"call\":\"new1\"");
        assert_eq!(answer("k-2")["result"], "done");
        command("dtmf", "k-3", ",\"call\":\"c1\",\"digits\":\"1#\"");
        assert_eq!(answer("k-3")["result"], "done");
        assert_eq!(
            asked(&paper),
            [
                Command::Call { to: "600".into(), line: some("main") },
                Command::HangUp { call: some("new1") },
                Command::Dtmf { call: some("c1"), digits: "1#".into() },
            ],
            "each of them once, though each came twice"
        );
        for (id, name, more, code) in [
            ("r-1", "call", ",\"to\":\"barred\"", "refused"),
            ("r-2", "call", "", "bad_request"),
            ("r-3", "call", ",\"to\":\"1\",\"form\":\"2\"", "bad_request"),
            ("r-4", "hangup", ",\"call\":\"gone\"", "no_such_call"),
            ("r-5", "answer", "", "not_allowed"),
            ("r-6", "reload", "", "config_rejected"),
        ] {
            command(name, id, more);
            let answer = answer(id);
            assert_eq!(answer["error"]["code"], code, "{answer}");
            assert!(answer["error"]["hint"].as_str().is_some_and(|it| !it.is_empty()), "{answer}");
        }
    }
}

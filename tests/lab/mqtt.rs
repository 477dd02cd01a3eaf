//! Events to Mosquitto and commands from it, with a phone that is registered at Asterisk: what a subscriber gets is read by
//! content.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::friendly::{PBX, stage};
use crate::mosquitto::{ADDRESS, Mosquitto, PASSWORD, Subscriber};
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::process::{program, within};

const RIGHTS: &str = "topic write v1/acme/TR-7/#\ntopic read v1/acme/TR-7/command/+";

/// A lab with a PBX and a broker that has these rights for the phone.
fn scene(what: &str, rights: &str) -> Option<(Lab, crate::asterisk::Asterisk, Host, Mosquitto)> {
    if program("mosquitto").is_none() || program("mosquitto_sub").is_none() {
        crate::netns::skip(what, "the program mosquitto is not installed");
        return None;
    }
    let (lab, asterisk, host) = stage(what)?;
    let broker = Mosquitto::start(&lab, rights);
    Some((lab, asterisk, host, broker))
}

fn table(url: &str, more: &str, mqtt: &str) -> String {
    format!(
        "[[upstream]]\nname = \"broker\"\nkind = \"mqtt\"\nurl = \"{url}\"\n{more}\n[upstream.mqtt]\nuser = \"phone\"\n\
         password = \"{PASSWORD}\"\ntopic = \"v1/acme/TR-7\"\nspread = \"1s\"\n{mqtt}\n"
    )
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64()
}

fn up(phone: &Phone) {
    within("the broker is connected", Duration::from_secs(20), || {
        (phone.get("/api/v1/upstreams")["upstreams"][0]["state"] == "idle").then_some(())
    });
}

/// Nothing is missing, every call is in order, and a double has the same identity.
fn check(phone: &Phone, told: &Subscriber) -> usize {
    let status = phone.get("/api/v1/status");
    let last: u64 = status["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number");
    let number = |event: &Value| event["sequence"].as_str().and_then(|it| it.parse::<u64>().ok());
    let events =
        || told.got().into_iter().filter(|(_, topic, _)| topic.ends_with("/event")).collect::<Vec<_>>();
    within("everything is told", Duration::from_secs(60), || {
        let known: BTreeSet<u64> = events().iter().filter_map(|(.., event)| number(event)).collect();
        let first = *known.first()?;
        // `call.quality` is not told unless it is asked for.
        let missing = (first..=last).filter(|it| !known.contains(it));
        let untold = phone.count_that("call.quality", |_| true);
        (missing.count() <= untold).then_some(())
    });
    let (mut ids, mut newest) = (BTreeMap::new(), BTreeMap::new());
    for (_, topic, event) in events() {
        let number = number(&event).expect("a number");
        let seen = ids.insert(number, event["id"].clone());
        assert!(seen.as_ref().is_none_or(|id| *id == event["id"]), "{number} under another identity");
        let newest = newest.entry(topic).or_insert(0);
        assert!(number > *newest || seen.is_some(), "{number} after {newest}");
        *newest = number.max(*newest);
    }
    ids.len()
}

#[test]
fn mosquitto_is_told_over_tls_has_the_phone_dial_and_says_when_it_is_gone() {
    let Some((lab, mut asterisk, host, broker)) = scene("MQTT 5 over TLS", RIGHTS) else { return };
    let told = broker.follow("crm", "v1/acme/#");
    let ca = format!("ca_file = {:?}", Pki::of(&lab).ca_file);
    let commands = "[upstream.mqtt.commands]\nallow = [\"call\", \"hangup\"]\ntrust_broker = true";
    let mut phone = Setup::new("1001", PBX)
        .table(&table(&format!("mqtts://{ADDRESS}"), &ca, commands))
        .start(&lab, &host);
    asterisk.registered("1001");
    up(&phone);
    let state = told.wait("the line is registered", |topic, state| {
        topic == "v1/acme/TR-7/state" && state["lines"][0]["state"] == "registered"
    });
    assert_eq!((&state["state"], &state["name"]), (&json!("online"), &json!("phone1001")), "{state}");

    let at = now();
    broker.publish("v1/acme/TR-7/command/call", &format!("{{\"id\":\"k-1\",\"at\":{at},\"to\":\"600\"}}"));
    let answer = told.wait("an answer", |topic, it| topic == "v1/acme/TR-7/response" && it["id"] == "k-1");
    let call = answer["call"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let leg = told.wait("an answered call", |_, event| event["type"] == "tipring.call.answered");
    assert_eq!((&leg["subject"], &leg["data"]["called"]["dialled"]), (&json!(call), &json!("600")), "{leg}");
    let new = told.wait("its beginning", |_, event| event["type"] == "tipring.call.new");
    assert_eq!(new["data"]["origin"], "upstream", "{new}");
    // The same once more dials nothing.
    broker.publish("v1/acme/TR-7/command/call", &format!("{{\"id\":\"k-1\",\"at\":{at},\"to\":\"600\"}}"));
    broker.publish(
        "v1/acme/TR-7/command/hangup",
        &format!("{{\"id\":\"k-2\",\"at\":{},\"call\":\"{call}\"}}", now()),
    );
    let closed = told.wait("its end", |_, event| event["type"] == "tipring.call.closed");
    assert_eq!(
        (&closed["subject"], &closed["data"]["result"]),
        (&json!(call), &json!("answered")),
        "{closed}"
    );
    broker.publish(
        "v1/acme/TR-7/command/call",
        &format!("{{\"id\":\"k-3\",\"at\":{},\"to\":\"600\"}}", now() - 3600.0),
    );
    let old = told.wait("an answer", |topic, it| topic == "v1/acme/TR-7/response" && it["id"] == "k-3");
    assert_eq!(old["error"]["code"], "expired", "{old}");
    assert_eq!(phone.count("call.new"), 1);
    asterisk.idle();
    check(&phone, &told);

    phone.kill();
    told.wait("its will", |topic, state| topic == "v1/acme/TR-7/state" && state["state"] == "offline");
    let late = broker.follow("late", "v1/acme/TR-7/state");
    let kept = within("what is kept", Duration::from_secs(10), || late.got().into_iter().next());
    assert_eq!((kept.0, &kept.2["state"]), (true, &json!("offline")));
}

#[test]
fn a_broker_killed_in_the_middle_gets_everything_in_order() {
    let Some((lab, mut asterisk, host, mut broker)) = scene("a broker that is killed", RIGHTS) else {
        return;
    };
    let told = broker.follow("crm", "v1/acme/+/+/+/event");
    let told_of_device = broker.follow("device", "v1/acme/+/event");
    let phone = Setup::new("1001", PBX)
        .table(&table(&format!("mqtt://{ADDRESS}"), "", "version = \"3.1.1\""))
        .start(&lab, &host);
    asterisk.registered("1001");
    up(&phone);
    for round in 0..3 {
        let call = phone.call("600");
        phone.wait_event("call.answered");
        if round < 2 {
            broker.kill(Duration::from_secs(2));
        }
        phone.hang_up(&call);
    }
    asterisk.idle();
    let of_calls = || told.got().iter().filter(|(.., event)| event["type"] == "tipring.call.closed").count();
    within("the end of each call is told", Duration::from_secs(60), || (of_calls() >= 3).then_some(()));
    up(&phone);
    let mut numbers: BTreeMap<u64, String> = BTreeMap::new();
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let all = told.got().into_iter().chain(told_of_device.got());
    for (_, topic, event) in all {
        let number: u64 = event["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number");
        let id = event["id"].as_str().expect("an id").to_owned();
        let seen = numbers.insert(number, id.clone());
        assert!(seen.as_ref().is_none_or(|it| *it == id), "{number} under another identity");
        let newest = newest.entry(topic).or_default();
        assert!(number > *newest || seen.is_some(), "{number} came after {newest}");
        *newest = number.max(*newest);
    }
    for kind in ["call.new", "call.answered", "call.ended"] {
        let count = told
            .got()
            .iter()
            .filter(|(.., it)| it["type"] == format!("tipring.{kind}"))
            .map(|(.., it)| it["id"].to_string())
            .collect::<BTreeSet<_>>()
            .len();
        assert_eq!(count, 3, "{kind}");
    }
}

#[test]
fn what_the_rights_of_the_broker_forbid_and_a_wrong_password_are_told() {
    let Some((lab, mut asterisk, host, _broker)) =
        scene("rights of a broker", "topic write v1/acme/TR-7/state")
    else {
        return;
    };
    let tables = table(&format!("mqtt://{ADDRESS}"), "", "")
        + &table(&format!("mqtt://{ADDRESS}"), "", "client_id = \"other\"")
            .replace("\"broker\"", "\"wrong\"")
            .replace(PASSWORD, "guessed");
    let phone = Setup::new("1001", PBX).table(&tables).start(&lab, &host);
    asterisk.registered("1001");
    let reason = |at: usize, what: &str| {
        within(what, Duration::from_secs(40), || {
            let view = phone.get("/api/v1/upstreams")["upstreams"][at].clone();
            view["reason"].as_str().is_some_and(|it| it.contains(what)).then_some(view)
        })
    };
    let view = reason(0, "not authorized");
    assert_eq!((&view["delivered"], &view["set_aside"]), (&json!(0), &json!(0)), "{view}");
    let view = reason(1, "not authorized");
    assert!(view["retry_s"].as_u64().is_some_and(|it| it > 5), "{view}");
    let suspended =
        phone.wait_event_that("upstream.suspended", "the wrong password", Duration::from_secs(20), |event| {
            event["data"]["upstream"] == "wrong"
        });
    assert_eq!(suspended["data"]["why"], "refused", "{suspended}");
}

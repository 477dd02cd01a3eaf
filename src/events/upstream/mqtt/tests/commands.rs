//! Commands that come over the connection, and which of them are carried out.

use super::*;

fn commanded(version: MqttVersion, commands: config::Commands) -> World {
    let mut world = World::new(version);
    let mut settings = settings(version);
    settings.mqtt.commands = commands;
    world.session = Session::new(world.now, &settings, "TR-1", Chance::from_number(4));
    world.run(10 * SECOND);
    world
}

fn trusted() -> config::Commands {
    let allow = vec![config::RemoteCommand::Call, config::RemoteCommand::HangUp];
    config::Commands { allow, trust_broker: true, max_age: 30 * SECOND, per_minute: 30, ..Default::default() }
}

impl World {
    /// Somebody publishes this on the topic of a command.
    fn commands(&mut self, name: &str, payload: &str, retained: bool, properties: &[u8]) {
        let topic = format!("v1/acme/TR-1/command/{name}");
        let message = paper::message(self.five, &topic, payload.as_bytes(), 9, retained, properties);
        self.answer(message);
        self.run(SECOND);
    }

    fn call(&mut self, id: &str, seconds_ago: i64) {
        let at = self.now.utc_us / 1_000_000 - seconds_ago;
        self.commands("call", &format!("{{\"id\":\"{id}\",\"at\":{at},\"to\":\"600\"}}"), false, &[]);
    }

    /// What was answered where since the last time somebody looked.
    fn answers(&mut self) -> Vec<(String, Value)> {
        let all =
            self.got.extract_if(.., |told| !told.topic.contains("/event") && !told.topic.ends_with("/state"));
        all.map(|told| (told.topic, serde_json::from_slice(&told.payload).expect("JSON"))).collect()
    }

    fn code(&mut self) -> String {
        let answers = self.answers();
        let [(topic, answer)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(topic, "v1/acme/TR-1/response");
        answer["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_command_is_carried_out_once_however_often_it_comes() {
    let mut world = commanded(V311, trusted());
    let topic = "v1/acme/TR-1/command/+".to_owned();
    assert!(
        world.heard.iter().any(|it| matches!(it, Heard::Subscribe { topic: asked, .. } if *asked == topic))
    );
    world.call("k-1", 0);
    world.call("k-1", 1);
    let [order] = &world.orders[..] else { panic!("{:?}", world.orders) };
    let order = order.clone();
    assert_eq!((order.id.as_str(), &order.arguments["to"]), ("k-1", &Value::from("600")));
    assert_eq!(world.answers(), [], "while it is being carried out nothing is answered");
    let outcome = serde_json::from_str("{\"result\":\"done\",\"call\":\"c9\"}");
    world.session.answer(world.now, &order, outcome.expect("JSON"));
    world.run(SECOND);
    let answer = serde_json::json!({ "id": "k-1", "result": "done", "call": "c9" });
    assert_eq!(world.answers(), [("v1/acme/TR-1/response".to_owned(), answer.clone())]);
    world.call("k-1", 3);
    assert_eq!(world.answers().pop().map(|(_, answer)| answer), Some(answer));
    let at = world.now.utc_us / 1_000_000;
    world.commands("call", &format!("{{\"id\":\"k-1\",\"at\":{at},\"to\":\"601\"}}"), false, &[]);
    assert_eq!((world.code().as_str(), world.orders.len()), ("id_reused", 1));
}

#[test]
fn what_is_old_kept_unknown_or_too_much_is_not_carried_out() {
    let mut world = commanded(V5, trusted());
    world.call("old", 31);
    assert_eq!(world.code(), "expired");
    world.call("soon", -40);
    assert_eq!(world.code(), "expired");
    world.call("before", 29);
    assert_eq!(world.code(), "expired", "an earlier life of the phone may have done it");
    let at = world.now.utc_us / 1_000_000;
    world.commands("call", &format!("{{\"id\":\"kept\",\"at\":{at},\"to\":\"600\"}}"), true, &[]);
    assert_eq!(world.answers(), []);
    for (name, payload, code) in [
        ("dtmf", format!("{{\"id\":\"a\",\"at\":{at}}}"), "not_allowed"),
        ("burn", format!("{{\"id\":\"a\",\"at\":{at}}}"), "not_allowed"),
        ("call", "{\"id\":\"a\"}".to_owned(), "bad_request"),
        ("call", format!("{{\"at\":{at}}}"), "bad_request"),
        ("call", format!("{{\"id\":\"a b\",\"at\":{at}}}"), "bad_request"),
        ("call", "[]".to_owned(), "bad_request"),
        ("call", "{".to_owned(), "bad_request"),
    ] {
        world.commands(name, &payload, false, &[]);
        assert_eq!(world.code(), code, "{payload}");
    }
    assert_eq!(world.orders, []);
    // An answer goes where it is wanted, but nowhere in the name of the device.
    for (asked, topic) in [
        ("crm/answers", "crm/answers"),
        ("v1/acme/TR-1/state", "v1/acme/TR-1/response"),
        ("a/#", "v1/acme/TR-1/response"),
    ] {
        let mut properties = vec![0x08];
        properties.extend(paper::with_length(asked.as_bytes()));
        properties.extend([0x09, 0, 2, 7, 8]);
        world.commands("burn", "{\"id\":\"a\"}", false, &properties);
        assert_eq!(world.got.last().and_then(|told| told.correlation.clone()), Some(vec![7, 8]));
        assert_eq!(world.answers().pop().map(|(topic, _)| topic).as_deref(), Some(topic));
    }
    world.run(60 * SECOND);
    for number in 0..40 {
        let at = world.now.utc_us / 1_000_000;
        world.answer(paper::message(
            true,
            "v1/acme/TR-1/command/call",
            format!("{{\"id\":\"n{number}\",\"at\":{at}}}").as_bytes(),
            9,
            false,
            &[],
        ));
    }
    world.run(SECOND);
    assert_eq!(world.orders.len(), 30, "more in a minute are thrown away");
    let mut off = commanded(V5, config::Commands::default());
    off.call("k-1", 0);
    assert!(off.orders.is_empty() && !off.heard.iter().any(|it| matches!(it, Heard::Subscribe { .. })));
}

#[test]
fn where_there_is_a_key_only_its_signature_over_topic_and_time_is_believed() {
    use base64::Engine;
    let secret = "whsec_cGxhbnRlZC1zZWNyZXQtb2YtYS1jdXN0b21lcg==";
    let commands = config::Commands { secret: Secret::new(secret), trust_broker: false, ..trusted() };
    let mut world = commanded(V311, commands);
    let sign = |text: &str, id: &str, at: i64, topic: &str| {
        let key = base64::prelude::BASE64_STANDARD.decode(&secret[6..]).expect("base64");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let tag = ring::hmac::sign(&key, format!("{id}.{at}.{topic}\n{text}").as_bytes());
        format!("v1,{}\n{text}", base64::prelude::BASE64_STANDARD.encode(tag))
    };
    let at = world.now.utc_us / 1_000_000;
    let text = format!("{{\"id\":\"s-1\",\"at\":{at},\"to\":\"600\"}}");
    let topic = "v1/acme/TR-1/command/call";
    let right = sign(&text, "s-1", at, topic);
    for wrong in [
        text.clone(),
        right.replace("600", "601"),
        right.replace("v1,", "v1,AA"),
        sign(&text, "s-1", at, "v1/acme/TR-2/command/call"),
        sign(&text, "s-1", at + 1, topic),
    ] {
        world.commands("call", &wrong, false, &[]);
        assert_eq!(world.code(), "not_signed", "{wrong}");
    }
    world.commands("hangup", &right, false, &[]);
    assert_eq!((world.code().as_str(), world.intruders, world.orders.len()), ("not_signed", 6, 0));
    world.commands("call", &right, false, &[]);
    assert_eq!(world.orders.len(), 1);
}

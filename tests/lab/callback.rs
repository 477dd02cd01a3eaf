//! Callback through Asterisk: two phones are rung one after the other, and each hears the tone of the other one.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::friendly::{PBX, stage};
use crate::phone::Setup;
use crate::sound::{Wav, sine};

const CODEC: &str = r#"codecs = ["PCMA"]"#;

#[test]
fn two_phones_hear_each_other_and_the_journal_has_one_call() {
    let Some((lab, mut asterisk, host)) = stage("callback") else { return };
    let between = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let [first, second] = [("1002", 51, 660.0), ("1003", 52, 880.0)].map(|(account, at, hertz)| {
        let phone = Setup::new(account, PBX)
            .line(r#"codecs = ["opus", "PCMA"]"#)
            .line("auto_answer = true")
            .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
            .start(&lab, &lab.host(account, at));
        asterisk.registered(account);
        phone
    });
    let begun = between.post("/api/v1/callback", &json!({ "from": "1002", "to": "1003" }));
    let call = begun["id"].as_str().expect("an id").to_owned();
    let result = between.wait_event("originate.result");
    assert_eq!(
        (&result["data"]["result"], &result["subject"]),
        (&json!("answered"), &json!(call)),
        "{result}"
    );
    sleep(Duration::from_secs(4));
    let closed = between.hang_up(&call);
    assert_eq!((&closed["legs"], &closed["result"]), (&json!(2), &json!("answered")), "{closed}");
    first.closed();
    second.closed();
    asterisk.idle();
    let (at_first, at_second) = (first.heard().seconds_of(880.0), second.heard().seconds_of(660.0));
    assert!(at_first > 2.5 && at_second > 2.5, "heard {at_first} s and {at_second} s of each other");
    let here = between.heard();
    assert!(here.seconds_of(660.0) + here.seconds_of(880.0) < 0.2, "it is nobody else's to hear");
    let told = between.get(&format!("/api/v1/calls/{call}"));
    let legs: Vec<&Value> = told["legs"].as_array().expect("legs").iter().collect();
    let called: Vec<_> = legs.iter().map(|leg| &leg["called"]["dialled"]).collect();
    assert_eq!(called, [&json!("1002"), &json!("1003")], "{told}");
    assert!(legs.iter().all(|leg| leg["callback_id"] == result["data"]["callback_id"]), "{told}");
}

#[test]
fn whoever_is_rung_first_is_told_that_the_other_one_does_not_exist() {
    let Some((lab, mut asterisk, host)) = stage("callback to nobody") else { return };
    let between = Setup::new("1001", PBX).line(CODEC).start(&lab, &host);
    let first = Setup::new("1002", PBX).line(CODEC).line("auto_answer = true");
    let first = first.start(&lab, &lab.host("1002", 51));
    asterisk.registered("1002");
    between.post("/api/v1/callback", &json!({ "from": "1002", "to": "699" }));
    let result = between.wait_event("originate.result");
    let data = &result["data"];
    assert_eq!((&data["result"], &data["reached"]), (&json!("invalid_number"), &json!(true)), "{result}");
    let closed = first.closed();
    assert_eq!(closed["result"], "answered", "{closed}");
    asterisk.idle();
    assert!(between.get("/api/v1/calls")["calls"].as_array().expect("calls").is_empty());
}

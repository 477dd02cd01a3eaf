//! Sticky return through Asterisk: a customer of outside comes back to the extension that had the device call them.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::friendly::{PBX, stage};
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::sound::{Wav, sine};

/// The customer is 1003, as it is called from outside, and as it calls 1001 from there.
const CUSTOMER: &str = "+74957001003";
const FROM_OUTSIDE: &str = "51001";

/// A phone that answers by itself and says this tone.
fn answering(lab: &Lab, host: &Host, account: &str, hertz: f64) -> Phone {
    Setup::new(account, PBX)
        .line(r#"codecs = ["opus", "PCMA"]"#)
        .line("auto_answer = true")
        .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
        .start(lab, host)
}

#[test]
fn a_customer_comes_back_to_the_extension_also_after_a_power_cut_and_else_to_the_device() {
    let Some((lab, mut asterisk, host)) = stage("sticky return") else { return };
    let mut device = Setup::new("1001", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .table("[sticky]\nwithin = \"30m\"\n")
        .table("[limits]\ndeny = []\n")
        .speaks(Wav::new(8000, sine(440.0, 8000, 2.0, 8000)))
        .start(&lab, &host);
    let extension = answering(&lab, &lab.host("1002", 51), "1002", 660.0);
    let customer = answering(&lab, &lab.host("1003", 52), "1003", 880.0);
    ["1002", "1003"].into_iter().for_each(|account| asterisk.registered(account));

    let begun = device.post("/api/v1/callback", &json!({ "from": "1002", "to": CUSTOMER }));
    let call = begun["id"].as_str().expect("an id").to_owned();
    device.wait_event("call.bridged");
    device.hang_up(&call);
    extension.closed();
    customer.closed();

    // The journal says whom the customer belongs to, in the next life, too.
    device.power_cut();
    device.ready();
    asterisk.registered("1001");
    let back = customer.call(FROM_OUTSIDE);
    let legs: Vec<Value> = (0..2).map(|_| device.wait_event("call.bridged")["data"].clone()).collect();
    let numbers: Vec<_> = legs
        .iter()
        .map(|leg| (&leg["direction"], &leg["caller"]["dialled"], &leg["called"]["dialled"]))
        .collect();
    assert_eq!(
        numbers,
        [(&json!("in"), &json!(CUSTOMER), &json!("1001")), (&json!("out"), &json!("1001"), &json!("1002"))]
    );
    assert_eq!(device.count_that("call.new", |it| it["data"]["origin"] == "sticky"), 1, "{}", device.story());
    let shown = extension.count_that("call.new", |it| it["data"]["caller"]["name"] == CUSTOMER);
    assert_eq!(shown, 1, "it is seen there who calls: {}", extension.story());
    sleep(Duration::from_secs(4));
    customer.hang_up(&back);
    let closed = device.closed();
    assert_eq!(
        [&closed["legs"], &closed["result"], &closed["missed"]],
        [&json!(2), &json!("answered"), &json!(false)],
        "{closed}"
    );
    extension.closed();
    asterisk.idle();
    let (at_extension, at_customer) =
        (extension.heard().seconds_of(880.0), customer.heard().seconds_of(660.0));
    assert!(at_extension > 2.5 && at_customer > 2.5, "{at_extension} s and {at_customer} s of each other");
    let here = device.heard();
    assert!(here.seconds_of(660.0) + here.seconds_of(880.0) < 0.2, "it is nobody else's to hear");

    // Nobody is to be disturbed there: it rings here.
    extension.post("/api/v1/lines/main/dnd", &json!({ "on": true }));
    let again = customer.call(FROM_OUTSIDE);
    let refused = device.wait_event("call.ended");
    let data = &refused["data"];
    assert_eq!((&data["direction"], &data["result"]), (&json!("out"), &json!("busy")), "{refused}");
    let ringing = refused["subject"].as_str().expect("a call").to_owned();
    device.act(&ringing, "answer");
    customer.wait_event("call.answered");
    sleep(Duration::from_secs(3));
    customer.hang_up(&again);
    device.closed();
    asterisk.idle();
    let heard = device.heard().seconds_of(880.0);
    assert!(heard > 1.5, "heard {heard} s of the customer");
}

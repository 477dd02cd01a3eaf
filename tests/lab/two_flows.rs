//! A line by two real edge proxies (RFC 5626) in front of a real registrar: one edge dies, and calls go in and out by
//! the other one.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::process::within;
use crate::sound::{Wav, sine};

const REGISTRAR: &str = "203.0.113.20";
const PROXIES: &str = r#"outbound_proxy = ["sip:203.0.113.21", "sip:203.0.113.22"]"#;
/// What a dead flow takes at most to be noticed, and its call to leave by the other one.
const NOTICED: Duration = Duration::from_secs(25);

/// The flows of a phone's line with their states and servers.
fn flows(phone: &Phone) -> Vec<(String, String)> {
    let line = phone.get("/api/v1/status")["lines"][0].clone();
    let flows = line["flows"].as_array().cloned().unwrap_or_default();
    let text = |flow: &Value, key: &str| flow[key].as_str().unwrap_or_default().to_owned();
    flows.iter().map(|flow| (text(flow, "state"), text(flow, "via"))).collect()
}

#[track_caller]
fn both_registered(phone: &Phone, transport: &str) {
    let by = |last: u8| ("registered".to_owned(), format!("{transport}:203.0.113.{last}:5060"));
    let expected = vec![by(21), by(22)];
    within("both flows are registered", Duration::from_secs(10), || (flows(phone) == expected).then_some(()));
}

/// One calls the other, which answers; both are heard.
#[track_caller]
fn talk(caller: &Phone, called: &Phone, number: &str, heard: [f64; 2]) {
    let call = caller.call(number);
    let ringing = called.wait_event_that("call.ringing", "here", NOTICED, |_| true);
    called.act(ringing["subject"].as_str().expect("a call"), "answer");
    for phone in [caller, called] {
        phone.wait_event_that("call.media", "heard", Duration::from_secs(10), |_| true);
    }
    sleep(Duration::from_secs(2));
    let closed = caller.hang_up(&call);
    assert_eq!(closed["result"], "answered", "{closed}");
    assert_eq!(called.closed()["result"], "answered");
    for (phone, tone) in [caller, called].into_iter().zip(heard) {
        let seconds = phone.heard().seconds_of(tone);
        assert!(seconds > 1.5, "{tone} Hz was heard for {seconds} s");
    }
}

fn an_edge_dies(transport: &str) {
    let Some(lab) = Lab::new(&format!("two flows over {transport}"), &["kamailio", "ss"]) else { return };
    let registrar = Kamailio::start_with_outbound(&lab, "registrar", 20);
    let mut edges = [Kamailio::start_edge(&lab, "edge1", 21), Kamailio::start_edge(&lab, "edge2", 22)];
    let phone = Setup::new("1001", REGISTRAR)
        .line(PROXIES)
        .line(&format!("transport = {transport:?}"))
        .start(&lab, &lab.host("phone", 50));
    both_registered(&phone, transport);
    registrar.logged("reg-id=1", Duration::from_secs(1));
    registrar.logged("reg-id=2", Duration::from_secs(1));
    let other = Setup::new("1002", REGISTRAR)
        .speaks(Wav::new(16000, sine(1004.0, 16000, 2.0, 8000)))
        .start(&lab, &lab.host("other", 51));

    talk(&other, &phone, "1001", [440.0, 1004.0]);
    for dead in [0, 1] {
        edges[dead].kill();
        // Called in the same moment; then calling, before or after it is noticed.
        talk(&other, &phone, "1001", [440.0, 1004.0]);
        talk(&phone, &other, "1002", [1004.0, 440.0]);
        edges[dead].again();
        phone.post("/api/v1/lines/main/register", &json!({}));
        both_registered(&phone, transport);
    }
    assert_eq!(phone.count("line.unregistered"), 0, "{}", phone.story());
    assert_eq!(phone.count("line.registered"), 1, "the line is told, not each flow");
}

#[test]
fn a_line_by_two_edges_is_called_while_one_of_them_dies_over_udp() {
    an_edge_dies("udp");
}

#[test]
fn a_line_by_two_edges_is_called_while_one_of_them_dies_over_tcp() {
    an_edge_dies("tcp");
}

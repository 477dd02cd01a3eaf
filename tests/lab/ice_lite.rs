//! ICE with a lite agent (RFC 8445 §2.5): rtpengine between two offices behind symmetric NATs. It sends no checks of its own,
//! so each phone finds the way and chooses it, the one that calls and the one that is called.

use std::thread::sleep;
use std::time::Duration;

use crate::kamailio::Kamailio;
use crate::netns::Lab;
use crate::phone::{Phone, Setup};
use crate::process::within;
use crate::router::{Nat, Office};
use crate::rtpengine::Rtpengine;
use crate::sound::{Wav, sine};

const PBX: &str = "203.0.113.10";

/// A phone in an office behind `203.0.113.<last>` that knows no server of STUN or TURN.
fn employee(lab: &Lab, account: &str, last: u8, hertz: f64) -> (Phone, Office) {
    let office = lab.office(account, last, Nat::Symmetric);
    let setup = Setup::new(account, PBX)
        .line(r#"codecs = ["PCMU"]"#)
        .line("[line.nat]\nice = true")
        .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)));
    let phone = setup.start(lab, &office.host);
    phone.wait_event("line.registered");
    (phone, office)
}

/// The last description that came to a phone is one of a lite agent.
#[track_caller]
fn is_told_of_a_lite_agent(phone: &Phone) {
    let trace = phone.get("/api/v1/trace");
    let messages = trace["messages"].as_array().expect("messages").iter();
    let mut texts =
        messages.filter(|message| message["sent"] == false).filter_map(|message| message["text"].as_str());
    let described = texts.rfind(|text| text.contains("m=audio")).expect("a description");
    assert!(described.contains("\r\na=ice-lite\r\n"), "{described}");
}

/// rtpengine has seen a pair with an address of this NAT, which the phone behind it has nominated.
fn nominated(rtpengine: &Rtpengine, last: u8) -> usize {
    let log = rtpengine.log();
    let made = format!("and 203.0.113.{last}:");
    let pairs = log.lines().filter(|line| line.contains("Created candidate pair") && line.contains(&made));
    let names = pairs.filter_map(|line| line.split("candidate pair ").nth(1)?.split(' ').next());
    names.filter(|name| log.contains(&format!("ICE pair {name} has been nominated by peer"))).count()
}

#[test]
fn whoever_calls_chooses_the_way_to_a_lite_agent_and_whoever_is_called_too() {
    let Some(lab) = Lab::new("an ICE-lite peer", &["kamailio", "rtpengine", "ss"]) else { return };
    let pbx = lab.host("pbx", 10);
    let rtpengine = Rtpengine::start(&pbx);
    let _proxy = Kamailio::start_with_media(&lab, pbx, "kamailio");
    let (a, office) = employee(&lab, "1001", 101, 440.0);
    let (b, _other) = employee(&lab, "1002", 102, 700.0);
    for (round, (caller, called, number)) in [(&a, &b, "1002"), (&b, &a, "1001")].into_iter().enumerate() {
        let call = caller.call(number);
        let ringing = called.wait_event("call.ringing");
        called.act(ringing["subject"].as_str().expect("an id"), "answer");
        for phone in [caller, called] {
            let way = phone.wait_event("call.media")["data"]["way"].clone();
            // What its NAT made of its address, it has heard from the agent's answers to its checks.
            assert_eq!([&way["local"], &way["remote"]], ["prflx", "host"], "{way}");
            is_told_of_a_lite_agent(phone);
        }
        for last in [101, 102] {
            within("each phone nominates a pair", Duration::from_secs(5), || {
                (nominated(&rtpengine, last) == round + 1).then_some(())
            });
        }
        sleep(Duration::from_secs(2));
        // It follows packets of a known source, so a new address of the NAT needs no restart: checks are answered on.
        if round == 1 {
            office.edge().readdress(111);
            within("the agent follows the phone", Duration::from_secs(15), || {
                rtpengine.log().contains("Confirmed peer address as 203.0.113.111:").then_some(())
            });
            sleep(Duration::from_secs(3));
            let offers = rtpengine.log().matches("Received command 'offer'").count();
            assert_eq!(offers, 2, "one for each call");
        }
        assert_eq!(caller.hang_up(&call)["result"], "answered");
        assert_eq!(called.closed()["result"], "answered");
        for (phone, hertz) in [(&a, 700.0), (&b, 440.0)] {
            let (heard, least) = (phone.heard().seconds_of(hertz), [1.7, 4.5][round]);
            assert!(heard > least, "{hertz} Hz was heard for {heard} s of at least {least} s");
        }
    }
}

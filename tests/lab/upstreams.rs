//! The same calls, made behind a NAT and told to every kind of system at once. Each receiver reads what it gets as the code of
//! that system does; afterwards all of them know the same calls, each in its own words.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk::Asterisk;
use crate::friendly::PBX;
use crate::mosquitto::{self, Mosquitto, Subscriber};
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::process::{program, within};
use crate::receiver::Got;
use crate::router::Nat;
use crate::sound::{Wav, sine};
use crate::systems::*;

/// A name that name servers do not have.
const NOBODY: &str = "crm.invalid";
/// The number of 1003 outside of the PBX.
const CUSTOMER: &str = "+74957001003";
/// Who may use the manager protocol: a desk in the same office.
const COURIER: &str = "192.168.1.20";

/// An office behind a symmetric NAT with the phone in it, and everything else outside.
struct Scene {
    lab: Lab,
    asterisk: Asterisk,
    systems: Systems,
    broker: Subscriber,
    _mosquitto: Mosquitto,
    phone: Phone,
    /// Phones on the public net that answer by themselves and speak 660 and 880 Hz.
    others: [Phone; 2],
    courier: Host,
}

fn scene(what: &str) -> Option<Scene> {
    for name in ["mosquitto", "mosquitto_sub"] {
        if program(name).is_none() {
            skip(what, &format!("the program {name} is not installed"));
            return None;
        }
    }
    let lab = Lab::new(what, &["unshare"])?;
    let mut asterisk = Asterisk::start(&lab, what)?;
    let office = lab.office("office", 50, Nat::Symmetric);
    let courier = office.router.desk(&lab, "courier", 20);
    let mosquitto = Mosquitto::start(&lab, "topic write v1/acme/TR-7/#");
    let broker = mosquitto.follow("crm", "v1/acme/#");
    let systems = Systems::open(&lab.host("systems", 70), &office.host);
    let mqtt = format!(
        "[[upstream]]\nname = \"broker\"\nkind = \"mqtt\"\nurl = \"mqtt://{}\"\nevents = [\"*\"]\n[upstream.mqtt]\n\
         user = \"phone\"\npassword = \"{}\"\ntopic = \"v1/acme/TR-7\"\nspread = \"1s\"\n",
        mosquitto::ADDRESS,
        mosquitto::PASSWORD
    );
    // Nobody knows this name.
    let lost = format!(
        "[[upstream]]\nname = \"lost\"\nkind = \"slack\"\nurl = \"https://{NOBODY}/planted\"\nevents = [\"*\"]\n"
    );
    let ami = format!(
        "[ami]\nlisten = \"0.0.0.0:5038\"\nallow = [\"{COURIER}\"]\n\
         [[ami.users]]\nname = \"measoft\"\nsecret = \"courier-42\"\ndial = [\"100?\"]\n\
         [[ami.users]]\nname = \"panel\"\nsecret = \"panel-42\"\n\
         [[ami.contexts]]\nname = \"from-courier\""
    );
    // Of callers who were talked to for two seconds; 1500 Hz is the question.
    let rating = "[rating]\nannouncement = \"how-was-it.wav\"\nwait = \"3s\"\nmin_talk = \"2s\"\n";
    let phone = Setup::new("1001", PBX)
        .line(r#"codecs = ["PCMA"]"#)
        .file("how-was-it.wav", Wav::new(16000, sine(1500.0, 16000, 2.0, 8000)))
        .table(rating)
        .table("[sticky]\nwithin = \"30m\"\n[limits]\ndeny = []\n")
        .table(&systems.tables())
        .table(&mqtt)
        .table(&lost)
        .table(&ami)
        .start(&lab, &office.host);
    asterisk.registered("1001");
    let others = [("1002", 51, 660.0), ("1003", 52, 880.0)].map(|(account, at, hertz)| {
        let phone = Setup::new(account, PBX)
            .line(r#"codecs = ["PCMA"]"#)
            .line(r#"auto_answer = "1s""#)
            .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
            .start(&lab, &lab.host(account, at));
        asterisk.registered(account);
        phone
    });
    Some(Scene { lab, asterisk, systems, broker, _mosquitto: mosquitto, phone, others, courier })
}

fn id(event: &Value) -> String {
    event["subject"].as_str().expect("the call's id").to_owned()
}

impl Scene {
    /// To a number that sends 1004 Hz.
    fn dials(&mut self) -> Made {
        let call = self.phone.call("603");
        self.phone.wait_event("call.media");
        sleep(Duration::from_secs(3));
        self.phone.hang_up(&call);
        self.asterisk.idle();
        let (here, there) = (self.phone.heard(), self.asterisk.recording("heard.wav"));
        assert!(here.seconds_of(1004.0) > 2.0 && there.seconds_of(440.0) > 2.0, "both were heard");
        Made::new(&call, 1, false, "603", End::Answered)
    }

    /// From the PBX.
    fn is_called(&mut self) -> Made {
        self.asterisk.call("1001", "603");
        let named = self.phone.wait_event("call.party_changed");
        let call = id(&named);
        assert_eq!(named["data"]["caller"]["name"], KNOWN_AS, "{named}");
        self.phone.act(&call, "answer");
        self.phone.wait_event("call.media");
        sleep(Duration::from_secs(3));
        self.phone.hang_up(&call);
        self.asterisk.idle();
        assert!(self.phone.heard().seconds_of(1004.0) > 2.0, "the caller was heard");
        Made::new(&call, 1, true, CALLER, End::Answered)
    }

    /// Two phones ring, and the other one is quicker.
    fn loses_a_fork(&mut self) -> Made {
        self.asterisk.originate("Local/*1001*1002@lab", "603");
        let call = id(&self.phone.wait_event("call.ringing"));
        self.phone.closed();
        let theirs = id(&self.others[0].wait_event("call.answered"));
        self.others[0].hang_up(&theirs);
        self.asterisk.idle();
        Made::new(&call, 1, true, CALLER, End::Elsewhere)
    }

    /// Nobody answers for three seconds.
    fn misses(&mut self) -> Made {
        self.asterisk.originate("Local/2001@lab", "603");
        let call = id(&self.phone.wait_event("call.ringing"));
        self.phone.closed();
        self.asterisk.idle();
        Made::new(&call, 1, true, CALLER, End::GivenUp)
    }

    /// Calls one phone and gives the call to the number that sends 1004 Hz.
    fn transfers(&mut self) -> Made {
        let call = self.phone.call("1002");
        self.phone.wait_event("call.media");
        sleep(Duration::from_secs(2));
        self.phone.post(&format!("/api/v1/calls/{call}/transfer"), &json!({ "to": "603" }));
        self.phone.wait_event("call.transferred");
        self.phone.closed();
        sleep(Duration::from_secs(3));
        let theirs = id(&self.others[0].wait_event("call.answered"));
        self.others[0].hang_up(&theirs);
        self.asterisk.idle();
        assert!(self.others[0].heard().seconds_of(1004.0) > 2.0, "who was given away hears the target");
        Made::new(&call, 1, false, "1002", End::Answered)
    }

    /// The packet of MeaSoft, whose sender goes away at once.
    fn joins_for_a_courier(&mut self) -> [Made; 2] {
        let packet = "Action: login\r\nUsername: measoft\r\nSecret: courier-42\r\n\r\n\
                      Action: originate\r\nChannel: SIP/main/1002\r\nWaitTime: 30\r\nCallerId: 0\r\nExten: 1003\r\n\
                      Context: from-courier\r\nPriority: 1\r\n\r\nAction: Logoff\r\n\r\n";
        let to = (self.phone.host.address.as_str(), 5038);
        let mut stream = self.courier.enter(|| TcpStream::connect(to)).expect("a connection");
        stream.write_all(packet.as_bytes()).expect("sent");
        drop(stream);
        let call = id(&self.phone.wait_event("originate.result"));
        sleep(Duration::from_secs(3));
        self.phone.hang_up(&call);
        self.asterisk.idle();
        let [first, second] = &self.others;
        first.closed();
        second.closed();
        let heard = (first.heard().seconds_of(880.0), second.heard().seconds_of(660.0));
        assert!(heard.0 > 2.0 && heard.1 > 2.0, "they heard {heard:?} s of each other");
        [(1, "1002"), (2, "1003")].map(|(leg, number)| Made::of_callback(&call, leg, number))
    }

    /// Has a phone call a customer, who calls back later and gets that phone again; when it hangs up, the customer is asked
    /// how it was and presses four.
    fn gives_back(&mut self) -> [Made; 4] {
        let begun = self.phone.post("/api/v1/callback", &json!({ "from": "1002", "to": CUSTOMER }));
        let call = begun["id"].as_str().expect("an id").to_owned();
        self.phone.wait_event("originate.result");
        sleep(Duration::from_secs(1));
        let [colleague, customer] = &self.others;
        let dialled = id(&customer.wait_event("call.answered"));
        customer.hang_up(&dialled);
        self.phone.closed();
        colleague.closed();
        self.asterisk.idle();

        let back = customer.call("51001");
        let bridged = self.phone.wait_event("call.bridged");
        sleep(Duration::from_secs(3));
        let theirs = id(&colleague.wait_event("call.answered"));
        colleague.hang_up(&theirs);
        sleep(Duration::from_secs(1));
        customer.post(&format!("/api/v1/calls/{back}/dtmf"), &json!({ "digits": "4" }));
        let limit = Duration::from_secs(10);
        let comes = |it: &Value| it["data"]["direction"] == "in";
        let ended = self.phone.wait_event_that("call.ended", "of the customer", limit, comes);
        assert_eq!(ended["data"]["vote"], 4, "{ended}");
        self.phone.closed();
        customer.closed();
        self.asterisk.idle();
        let heard = customer.heard();
        let (said, asked) = (heard.seconds_of(660.0), heard.seconds_of(1500.0));
        assert!(said > 2.0 && asked > 0.7, "{said} s of the other one and {asked} s of the question");
        let back = id(&bridged);
        [
            Made::of_callback(&call, 1, "1002"),
            Made::of_callback(&call, 2, CUSTOMER),
            Made::new(&back, 1, true, CUSTOMER, End::Answered).rated(4),
            Made::new(&back, 2, false, "1002", End::Answered),
        ]
    }

    /// Waits until everybody has been told everything; the events, as a webhook and as a subscriber got them.
    fn told(&self) -> [BTreeMap<u64, Value>; 2] {
        let number = |event: &Value| event["sequence"].as_str().and_then(|it| it.parse::<u64>().ok());
        let last: u64 = number(&self.phone.get("/api/v1/status")).expect("a number");
        within("everything is told", Duration::from_secs(60), || {
            let upstreams = self.phone.get("/api/v1/upstreams");
            let idle =
                |it: &Value| it["state"] == "idle" && it["delivered"].is_number() || it["name"] == "lost";
            upstreams["upstreams"].as_array()?.iter().all(idle).then_some(())
        });
        let by_number = |events: Vec<Value>| -> BTreeMap<u64, Value> {
            events.into_iter().filter_map(|event| Some((number(&event)?, event))).collect()
        };
        let of_webhook = || by_number(self.systems.got("webhook").iter().map(Got::event).collect());
        let of_broker = || {
            let events = self.broker.got().into_iter().filter(|(_, topic, _)| topic.ends_with("/event"));
            by_number(events.map(|(.., event)| event).collect())
        };
        within("the last event is told", Duration::from_secs(20), || {
            let lasts = [of_webhook(), of_broker()].map(|it| it.last_key_value().map(|(last, _)| *last));
            (lasts == [Some(last); 2]).then_some(())
        });
        [of_webhook(), of_broker()]
    }
}

#[test]
fn every_system_knows_the_same_calls_in_its_own_words() {
    let Some(mut scene) = scene("all systems at once") else { return };
    let manager = Manager::connect(&scene.courier, &scene.phone.host);
    let mut made =
        vec![scene.dials(), scene.is_called(), scene.loses_a_fork(), scene.misses(), scene.transfers()];
    made.extend(scene.joins_for_a_courier());
    made.extend(scene.gives_back());
    let [webhook, broker] = scene.told();

    let numbers: Vec<u64> = webhook.keys().copied().collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing: {numbers:?}");
    assert_eq!(webhook.len(), scene.systems.got("webhook").len(), "and none came twice");
    for (number, event) in &broker {
        assert_eq!(webhook.get(number).map(|it| &it["id"]), Some(&event["id"]), "{event}");
    }
    let closed = |it: &&Value| it["type"] == "tipring.call.closed";
    assert_eq!(webhook.values().filter(closed).count(), 8);
    assert_eq!(broker.values().filter(closed).count(), 8);

    let got = |name: &str| scene.systems.got(name);
    assert_eq!(legs_of_ringme(&got("ringme")), to_ringme(&made));
    assert_eq!(records_of_webitel(&got("webitel")), to_webitel(&made));
    assert_eq!(scene.systems.registered_at_bitrix24(), to_bitrix24(&made));
    assert_eq!(scene.systems.votes_at_bitrix24(), votes(&made));
    assert_eq!(sessions_of_rostelecom(&got("rostelecom")), to_rostelecom(&made));
    assert_eq!(steps_of_desk_phone(&got("action-url")), to_desk_phone(&made));
    let messages: Vec<Value> = got("slack").iter().map(Got::event).collect();
    let text = messages[0]["text"].as_str().expect("a text");
    let known = format!("Missed call from {} ({CALLER})", KNOWN_AS.replace('&', "&amp;"));
    assert!(messages.len() == 1 && text.starts_with(&known) && text.contains("gave up"), "{messages:?}");
    assert_eq!(got("lookup").len(), 2, "whoever calls again is known already");
    assert_eq!(manager.calls(), to_manager(&made));

    // Whom nobody can find has cost the others nothing, and is owed what it missed.
    let upstreams = scene.phone.get("/api/v1/upstreams");
    let lost = upstreams["upstreams"].as_array().and_then(|all| all.iter().find(|it| it["name"] == "lost"));
    let lost = lost.expect("it is there");
    assert_eq!((&lost["state"], &lost["delivered"]), (&json!("retrying"), &json!(0)));
    assert!(lost["waiting"].as_u64() >= Some(8), "{lost}");
    let said = [&lost["reason"], &lost["cure"]].map(|it| it.as_str().unwrap_or_default());
    assert!(said[0].contains(NOBODY) && said[1].contains("name servers"), "{lost}");
    drop(scene.lab);
}

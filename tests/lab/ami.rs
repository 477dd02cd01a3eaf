//! The manager protocol of Asterisk, driven by a library that programs use with Asterisk itself, and by the packet that
//! MeaSoft sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk::Asterisk;
use crate::friendly::{PBX, stage};
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::sound::{Wav, sine};

/// The interpreter that the package of the library belongs to.
const PYTHON: &str = "/usr/bin/python3";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/ami_client.py");

/// A phone with the listener open to one client, two others that answer and speak, and that client.
struct Courier {
    lab: Lab,
    asterisk: Asterisk,
    between: Phone,
    first: Phone,
    second: Phone,
    client: Host,
}

fn courier(what: &str) -> Option<Courier> {
    let (lab, mut asterisk, host) = stage(what)?;
    let client = lab.host("client", 60);
    let ami = format!(
        "[ami]\nlisten = \"0.0.0.0:5038\"\nallow = [\"{}\"]\n\
         [[ami.users]]\nname = \"measoft\"\nsecret = \"courier-42\"\ndial = [\"100?\"]\n\
         [[ami.contexts]]\nname = \"from-courier\"",
        client.address
    );
    let between = Setup::new("1001", PBX).line(r#"codecs = ["PCMA"]"#).table(&ami).start(&lab, &host);
    let [first, second] = [("1002", 51, 660.0), ("1003", 52, 880.0)].map(|(account, at, hertz)| {
        let phone = Setup::new(account, PBX)
            .line(r#"codecs = ["PCMA"]"#)
            .line("auto_answer = true")
            .speaks(Wav::new(16000, sine(hertz, 16000, 2.0, 8000)))
            .start(&lab, &lab.host(account, at));
        asterisk.registered(account);
        phone
    });
    Some(Courier { lab, asterisk, between, first, second, client })
}

impl Courier {
    fn connect(&self, from: &Host) -> TcpStream {
        let to = (self.between.host.address.as_str(), 5038);
        let stream = from.enter(|| TcpStream::connect(to)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        stream
    }

    fn heard_each_other(&mut self) {
        self.first.closed();
        self.second.closed();
        self.asterisk.idle();
        let (at_first, at_second) =
            (self.first.heard().seconds_of(880.0), self.second.heard().seconds_of(660.0));
        assert!(at_first > 2.0 && at_second > 2.0, "heard {at_first} s and {at_second} s of each other");
    }
}

/// What a program reads until it is left alone.
fn all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_program_drives_it_as_it_would_asterisk() {
    let Some(mut courier) = courier("a library for the AMI") else { return };
    let library = courier.client.command(PYTHON).args(["-c", "import panoramisk"]).output();
    if !library.is_ok_and(|output| output.status.success()) {
        return skip("a library for the AMI", "python3-panoramisk is missing: scripts/setup peers");
    }
    let host = courier.between.host.address.to_string();
    let told = courier.client.run(PYTHON, &[CLIENT, &host, "SIP/main/1002", "1003", "from-courier"]);
    let told: Value = serde_json::from_str(told.trim()).unwrap_or_else(|_| panic!("{told}"));
    let queued = &told["queued"];
    assert_eq!(queued[0]["Message"], "Originate successfully queued", "{told}");
    assert_eq!(
        (&queued[1]["Event"], &queued[1]["Reason"]),
        (&json!("OriginateResponse"), &json!("4")),
        "{told}"
    );
    assert_eq!(
        (&told["pong"]["Ping"], &told["gone"]["Response"]),
        (&json!("Pong"), &json!("Success")),
        "{told}"
    );
    assert_eq!(told["refused"]["Response"], "Error", "there is no shell: {told}");
    assert_eq!(told["channels"].as_array().map(Vec::len), Some(2), "{told}");
    let events = told["events"].as_array().expect("events");
    let names: Vec<&str> = events.iter().filter_map(|event| event["Event"].as_str()).collect();
    let one = ["Newchannel", "DialBegin", "Newstate", "DialEnd"];
    // Whether Asterisk says that it rings before a phone that answers at once is its own affair.
    let mut steps = names.clone();
    steps.dedup();
    assert_eq!(steps[..8], [one, one].concat(), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "Hangup").count(), 2, "{names:?}");
    let linked: Vec<&Value> = events.iter().filter_map(|event| event.get("Linkedid")).collect();
    assert!(linked.len() > 8 && linked.iter().all(|it| *it == linked[0]), "{linked:?}");
    courier.heard_each_other();
}

#[test]
fn measofts_packet_is_carried_out_though_it_goes_away_at_once() {
    let Some(mut courier) = courier("the packet of MeaSoft") else { return };
    let packet = "Action: login\r\nUsername: measoft\r\nSecret: courier-42\r\n\r\n\
                  Action: originate\r\nChannel: SIP/main/1002\r\nWaitTime: 30\r\nCallerId: 0\r\nExten: 1003\r\n\
                  Context: from-courier\r\nPriority: 1\r\n\r\nAction: Logoff\r\n\r\n";
    // It reads nothing: closing the connection resets it.
    let mut stream = courier.connect(&courier.client);
    stream.write_all(packet.as_bytes()).expect("sent");
    drop(stream);
    let result = courier.between.wait_event("originate.result");
    assert_eq!(
        (&result["data"]["result"], &result["data"]["origin"]),
        (&json!("answered"), &json!("ami")),
        "{result}"
    );
    sleep(Duration::from_secs(3));
    courier.between.hang_up(result["subject"].as_str().expect("the call"));
    courier.heard_each_other();
    // One that says its end and reads on gets all answers.
    let mut stream = courier.connect(&courier.client);
    stream.write_all(packet.replace("1003", "699").as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("said");
    let answers = all(&mut stream);
    assert!(answers.contains("Originate failed: this user may not have that number called"), "{answers}");
    assert!(answers.ends_with("Response: Goodbye\r\nMessage: Logged off\r\n\r\n"), "{answers}");
}

#[test]
fn strangers_get_nothing_and_those_who_guess_wait() {
    let Some(courier) = courier("strangers at the AMI") else { return };
    let stranger = courier.lab.host("stranger", 61);
    assert_eq!(all(&mut courier.connect(&stranger)), "", "not even the banner");
    let guess = |secret: &str| {
        let mut stream = courier.connect(&courier.client);
        let _ = stream
            .write_all(format!("Action: Login\r\nUsername: measoft\r\nSecret: {secret}\r\n\r\n").as_bytes());
        all(&mut stream)
    };
    for number in 0..4 {
        assert!(guess(&format!("planted-{number}")).contains("Authentication failed"));
    }
    let failed = courier.between.wait_event("auth.failed");
    assert_eq!(
        (&failed["data"]["interface"], &failed["data"]["user"]),
        (&json!("ami"), &json!("measoft")),
        "{failed}"
    );
    let mut flood = courier.connect(&courier.client);
    let _ = flood.write_all(&[b'x'; 100_000]);
    assert!(all(&mut flood).contains("Response: Error") || !courier.between.output().contains("panicked"));
    let mut quiet: Vec<TcpStream> = (0..40).map(|_| courier.connect(&courier.client)).collect();
    let turned_away =
        quiet.iter_mut().filter_map(|stream| stream.set_nonblocking(false).ok().map(|()| stream));
    let greeted = turned_away.filter(|stream| stream.peek(&mut [0; 4]).is_ok_and(|count| count > 0)).count();
    assert_eq!(greeted, 16, "of one address");
    drop(quiet);
    let log = courier.between.output();
    for secret in ["courier-42", "planted-", "1003"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert_eq!(courier.between.get("/api/v1/status")["calls"], json!([]));
}

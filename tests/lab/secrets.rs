//! Secrets are planted, a call with everything in it is made, and whatever leaves the program is searched for them: the
//! log at its most talkative, the ladder, the capture, the API, events, commands, what is said about a mistake, files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::attack::{Wire, answer, field};
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::process::within;
use crate::speaker::media_of;

const PEER: &str = "203.0.113.30";
const PHONE: &str = "203.0.113.50:5060";
const PASSWORD: &str = "planted-password-4f9a";
const TOKEN: &str = "planted-token-0123456789";
const TURN_PASSWORD: &str = "planted-turn-password-61";
const USER_PASSWORD: &str = "planted-user-password-77";
const SENT_DIGITS: &str = "9182736450";
const RECEIVED_DIGITS: &str = "5647382910";
const TEXT: &str = "the planted code is 2718";
/// The peer's key of SRTP.
const KEY: &str = "UGxhbnRlZEtleVBsYW50ZWRLZXlQbGFudGVkS2V5";

fn offer(invite: &str) -> String {
    let suite = "AES_CM_128_HMAC_SHA1_80";
    let offered = invite.lines().find(|line| line.starts_with("a=crypto:") && line.contains(suite));
    let tag = offered.and_then(|line| line[9..].split(' ').next()).expect("an offer with this suite");
    format!(
        "v=0\r\no=- 1 1 IN IP4 {PEER}\r\ns=-\r\nc=IN IP4 {PEER}\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n\
         a=crypto:{tag} {suite} inline:{KEY}\r\n"
    )
}

/// What stands between two marks, everywhere in a text.
fn between(text: &str, before: &str, after: &[char]) -> Vec<String> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).map(str::to_owned).collect()
}

/// What the program prints when it is run in the phone's host, errors included.
fn command(host: &Host, arguments: &[&str]) -> String {
    let mut command = host.command(env!("CARGO_BIN_EXE_tipring"));
    let output = command.args(arguments).env("TIPRING_LOG", "trace,tipring=trace").output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Everything in the files below a folder.
fn files(folder: &Path) -> String {
    let mut found = String::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found += &files(&path),
            false => found += &String::from_utf8_lossy(&fs::read(&path).expect("a file")),
        }
    }
    found
}

/// Registers with a password, then a call with SRTP, digits both ways and bodies of many parts. The call, and what was on the
/// wire.
fn a_day(phone: &Phone, wire: &Wire) -> (String, String) {
    let mut seen = String::new();
    let mut next = |start: &str, part: &str| {
        let text = wire.expect(start, part);
        seen += &text;
        text
    };
    let send = |text: String| wire.send(PHONE, text.as_bytes());
    let challenge =
        "WWW-Authenticate: Digest realm=\"lab\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n";
    let register = next("REGISTER", "");
    send(answer(&register, "401 Unauthorized", challenge, ""));
    let register = next("REGISTER", "response=");
    send(answer(&register, "200 OK", &format!("{};expires=600\r\n", field(&register, "Contact:")), ""));
    phone.wait_event("line.registered");

    let call = phone.call("2000");
    let invite = next("INVITE", "inline:");
    assert_eq!(media_of(&invite).ip().to_string(), "203.0.113.50");
    send(answer(&invite, "200 OK", &format!("Contact: <sip:2000@{PEER}:5060>\r\n"), &offer(&invite)));
    next("ACK", field(&invite, "Call-ID:"));
    phone.wait_event("call.answered");
    phone.dtmf(&call, SENT_DIGITS);
    for digit in SENT_DIGITS.chars() {
        let info = next("INFO", &format!("Signal={digit}"));
        send(answer(&info, "200 OK", "", ""));
    }
    let in_dialog = |method: &str, number: u32, kind: &str, body: &str| {
        let [from, to] =
            [field(&invite, "From:"), field(&invite, "To:")].map(|it| it.split_once(':').expect("a field").1);
        format!(
            "{method} sip:1001@{PHONE} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER}:5060;branch=z9hG4bK-d{number}\r\n\
             Max-Forwards: 70\r\nFrom:{to};tag=peer\r\nTo:{from}\r\n{}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:2000@{PEER}:5060>\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            field(&invite, "Call-ID:"),
            body.len()
        )
    };
    for (number, digit) in (1..).zip(RECEIVED_DIGITS.chars()) {
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        send(in_dialog("INFO", number, "application/dtmf-relay", &body));
        next("SIP/2.0 200", &format!("z9hG4bK-d{number}"));
    }
    let parts = format!(
        "--b\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\r\n{TEXT}\r\n--b--\r\n",
        offer(&invite)
    );
    send(in_dialog("INVITE", 50, "multipart/mixed;boundary=b", &parts));
    next("SIP/2.0 200", "z9hG4bK-d50");
    send(in_dialog("ACK", 50, "text/plain", ""));
    send(in_dialog("MESSAGE", 51, "text/plain", TEXT));
    next("SIP/2.0", "z9hG4bK-d51");
    phone.act(&call, "hangup");
    let bye = next("BYE", "");
    send(answer(&bye, "200 OK", "", ""));
    phone.closed();
    (call, seen)
}

#[test]
fn planted_secrets_appear_nowhere() {
    let Some(lab) = Lab::new("planted secrets", &[]) else { return };
    let (host, peer) = (lab.host("phone", 50), lab.host("peer", 30));
    let wire = Wire::open(&peer, 5060);
    let phone = Setup::new("1001", PEER)
        .password(PASSWORD)
        .line("auth_user = \"1001-auth\"\nsrtp = \"required\"\ndtmf = \"info\"\ncodecs = [\"PCMU\"]")
        .table(&format!("[[admin.tokens]]\nname = \"crm\"\nrole = \"admin\"\ntoken = {TOKEN:?}"))
        .table(&format!("[[admin.users]]\nname = \"anna\"\nrole = \"view\"\npassword = {USER_PASSWORD:?}"))
        .environment("TIPRING_LOG", "trace,tipring=trace")
        .launch(&lab, &host);
    let (call, seen) = a_day(&phone, &wire);

    let socket = format!("unix://{}", phone.folder().join("api.sock").display());
    let capture = lab.folder().join("capture.pcap");
    let file = phone.folder().join("tipring.toml");
    let right = fs::read_to_string(&file).expect("the configuration");
    let mut told = vec![("events", phone.story())];
    for path in ["status", "calls", "lines", "journal", "config", "trace", "openapi.json"] {
        told.push(("the API", phone.get(&format!("/api/v1/{path}")).to_string()));
    }
    for words in [
        vec!["status"],
        vec!["--json", "status"],
        vec!["calls"],
        vec!["calls", "show", &call],
        vec!["events", "--json"],
        vec!["trace"],
        vec!["--json", "trace"],
        vec!["trace", "--pcap", capture.to_str().expect("a path")],
        vec!["line", "main", "show"],
        vec!["call", "2000", "--line", "nobody"],
    ] {
        told.push(("a command", command(&host, &[&["--api", &socket], words.as_slice()].concat())));
    }
    told.push(("the capture", String::from_utf8_lossy(&fs::read(&capture).expect("a capture")).into_owned()));
    for token in [TOKEN, "planted-guess-13"] {
        let words = ["--api", "http://127.0.0.1:8080", "--token", token, "status"];
        told.push(("a command in the network", command(&host, &words)));
    }
    for path in ["/metrics", "/readyz", "/api/v1/journal?format=csv"] {
        told.push(("the API", phone.get(path).to_string()));
    }
    // A diagnosis by the phone that runs, and one of a file that has a TURN server besides, which nobody runs.
    let turn = format!("{{ url = \"turn:{PEER}\", username = \"1001\", password = {TURN_PASSWORD:?} }}");
    let key = format!("password = {PASSWORD:?}\n");
    let relayed = right.replacen(&key, &format!("{key}nat = {{ stun = [{PEER:?}], turn = [{turn}] }}\n"), 1);
    assert!(relayed.contains(TURN_PASSWORD), "{right}");
    let alone = lab.folder().join("alone.toml");
    fs::write(&alone, relayed.replace("api.sock", "nobody.sock")).expect("a configuration");
    for (file, there) in [(&file, "line main"), (&alone, "TURN 203.0.113.30")] {
        let file = file.to_str().expect("a path");
        let people = command(&host, &["doctor", "--config", file]);
        assert!(people.contains(there), "{there:?} is not in {people}");
        told.push(("the doctor", people));
        told.push(("the doctor's JSON", command(&host, &["doctor", "--json", "--config", file])));
    }
    // Mistakes right where the secrets are.
    for (old, new) in [
        (format!("password = {PASSWORD:?}"), format!("password = {PASSWORD}")),
        (format!("password = {PASSWORD:?}"), format!("password = [{PASSWORD:?}]")),
        (format!("password = {PASSWORD:?}"), format!("pasword = {PASSWORD:?}")),
        (format!("token = {TOKEN:?}"), format!("token = {{ value = {TOKEN:?} }}")),
        (format!("token = {TOKEN:?}"), format!("token = {TOKEN:?} {TOKEN}")),
    ] {
        fs::write(&file, right.replace(&old, &new)).expect("a mistake");
        told.push(("a mistake", command(&host, &["check", "--config", file.to_str().expect("a path")])));
        let refused = phone.try_post("/api/v1/reload", &json!({}));
        assert!(refused.status >= 400, "{new}: {refused:?}");
        told.push(("a mistake at reload", refused.body.to_string()));
    }
    fs::write(&file, &right).expect("the configuration");
    told.push(("events", phone.story()));
    within("the log tells of the mistakes", Duration::from_secs(5), || {
        phone.output().contains("configuration refused").then_some(())
    });
    told.push(("the log", phone.output()));
    told.push(("the data folder", files(&phone.folder().join("data"))));

    let mut secrets: Vec<String> = [
        PASSWORD,
        TOKEN,
        TURN_PASSWORD,
        USER_PASSWORD,
        SENT_DIGITS,
        RECEIVED_DIGITS,
        TEXT,
        KEY,
        "planted-guess-13",
    ]
    .map(str::to_owned)
    .into();
    secrets.extend(between(&seen, "inline:", &['|', '\r', ' ']));
    secrets.extend(between(&seen, "response=\"", &['"']));
    secrets.extend(between(&seen, "cnonce=\"", &['"']));
    secrets.extend(RECEIVED_DIGITS.chars().map(|digit| format!("Signal={digit}")));
    assert!(secrets.len() >= 9 + 2 + 2 + 10, "keys and answers were on the wire: {seen}");
    for (what, text) in &told {
        for secret in &secrets {
            let at = text.find(secret.as_str());
            let around = at.map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert_eq!(around, None, "{what} tells {secret}");
        }
    }
    // The search had something to search in.
    let all: String = told.iter().map(|(_, text)| text.as_str()).collect();
    for there in ["a=crypto:", "REGISTER sip:", "call.dtmf", " DEBUG ", "tipring_dropped_total"] {
        assert!(all.contains(there), "no {there:?} was told at all");
    }
}

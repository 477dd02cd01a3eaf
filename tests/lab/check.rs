//! `tipring check --resolve` against real registrars, name servers and certificates: what it says, and that it changes
//! nothing.

use std::fs;

use serde_json::Value;

use crate::asterisk::Asterisk;
use crate::dns::{Dns, Record};
use crate::kamailio::Kamailio;
use crate::netns::{Host, Lab};
use crate::phone::Setup;
use crate::pki::Pki;

/// What the command said about a file.
struct Checked {
    code: Option<i32>,
    said: String,
    json: Value,
}

impl Checked {
    #[track_caller]
    fn says(&self, text: &str) {
        assert!(self.said.contains(text), "{text:?} is not in:\n{}", self.said);
    }

    /// The findings as `severity line: what`.
    fn findings(&self) -> Vec<String> {
        let findings = self.json["findings"].as_array().expect("findings").iter();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        findings
            .map(|it| format!("{} {}: {}", text(&it["severity"]), it["line"], text(&it["what"])))
            .collect()
    }
}

/// Checks a file with this text, twice: for people and for programs.
fn check(lab: &Lab, host: &Host, text: &str) -> Checked {
    let file = lab.folder().join("check.toml");
    fs::write(&file, text).expect("a configuration");
    let run = |more: &[&str]| {
        let mut command = host.command(env!("CARGO_BIN_EXE_tipring"));
        command.args(["check", "--resolve", "--config"]).arg(&file).args(more);
        let output = command.output().expect("the program");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, said) = run(&[]);
    let (again, json) = run(&["--json"]);
    assert_eq!(code, again);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["right"], code == Some(0));
    Checked { code, said: said.replace(&format!("{}:", file.display()), "FILE:"), json }
}

/// A line of the file; `more` are further keys.
fn line(name: &str, user: &str, domain: &str, more: &str) -> String {
    format!(
        "[[line]]\nname = {name:?}\nuser = {user:?}\ndomain = {domain:?}\npassword = \"pw{user}\"\n{more}\n"
    )
}

fn zone() -> Vec<(&'static str, Record)> {
    vec![
        ("lab.test", Record::Naptr(10, 10, "SIP+D2U", "_sip._udp.lab.test")),
        ("_sip._udp.lab.test", Record::Srv(10, 0, 5060, "kam1.lab.test")),
        ("_sip._udp.lab.test", Record::Srv(20, 0, 5060, "kam2.lab.test")),
        ("_sips._tcp.lab.test", Record::Srv(10, 0, 5061, "kam1.lab.test")),
        ("kam1.lab.test", Record::A([203, 0, 113, 20])),
        ("kam2.lab.test", Record::A([203, 0, 113, 21])),
        ("alias.test", Record::A([203, 0, 113, 20])),
        ("empty.test", Record::Naptr(10, 10, "SIP+D2S", "_sip._sctp.empty.test")),
    ]
}

#[test]
fn check_names_servers_certificate_and_password() {
    let Some(lab) = Lab::new("check --resolve", &["kamailio", "ss"]) else { return };
    let host = lab.host("phone", 50);
    let kamailio = Kamailio::start(&lab, "kam1", 20);
    let _dns = Dns::start(&host, zone());
    let ca = Pki::of(&lab).ca_file;
    let udp = line("udp", "1001", "lab.test", "");
    let tls = line("tls", "1002", "lab.test", &format!("transport = \"tls\"\nca_file = {ca:?}"));
    let trunk = line("trunk", "1003", "203.0.113.20", "transport = \"tcp\"\nregister = false");
    let off = line("off", "1004", "nowhere.test", "enabled = false");
    let checked = check(&lab, &host, &[udp, tls, trunk, off].concat());
    assert_eq!(checked.code, Some(0), "{}", checked.said);
    checked.says(
        "line udp: lab.test → 203.0.113.20:5060 udp (kam1.lab.test), registrar answers 200, password right\n",
    );
    checked
        .says("line tls: lab.test → 203.0.113.20:5061 tls (kam1.lab.test), certificate until 4096-01-01, ");
    checked.says("line trunk: 203.0.113.20 → 203.0.113.20:5060 tcp, registrar answers 200\n");
    checked.says("right, 4 lines");
    // The second server of lab.test is not there: the line works, and it is said.
    assert_eq!(checked.findings().len(), 1, "{}", checked.said);
    assert!(
        checked.findings()[0].starts_with("warning 4: line udp: 203.0.113.21:5060 udp (kam2.lab.test) "),
        "{}",
        checked.said
    );
    let lines = &checked.json["lines"];
    assert_eq!(lines.as_array().map(Vec::len), Some(3), "{lines}");
    assert_eq!(lines[0]["password"], "right");
    assert_eq!(lines[1]["servers"][0]["certificate_until"], "4096-01-01T00:00:00.000000Z", "{lines}");
    assert_eq!(
        (&lines[2]["password"], &lines[2]["servers"][0]["status"]),
        (&"not_asked".into(), &200.into())
    );
    // Nothing was registered: a fetch has no Contact.
    let log = kamailio.output();
    let fetches: Vec<&str> = log.lines().filter(|line| line.contains("lab: register")).collect();
    assert_eq!(fetches.len(), 4, "two lines, checked twice: {fetches:?}");
    assert!(fetches.iter().all(|line| line.contains("contact <null>")), "{fetches:?}");
}

#[test]
fn check_tells_a_wrong_password_and_what_dns_does_not_know() {
    let Some(lab) = Lab::new("check --resolve, wrong password", &["kamailio", "ss"]) else { return };
    let host = lab.host("phone", 50);
    let _kamailio = Kamailio::start(&lab, "kam1", 20);
    let _dns = Dns::start(&host, zone());
    let wrong = line("wrong", "1001", "lab.test", "auth_user = \"1009\"");
    let none = "[[line]]\nname = \"none\"\nuser = \"1002\"\ndomain = \"lab.test\"\n";
    let unknown = line("unknown", "1003", "nowhere.test", "");
    let empty = line("empty", "1004", "empty.test", "transport = [\"udp\", \"tcp\"]");
    let realm = line("realm", "1005", "lab.test", "realm = \"elsewhere\"");
    let checked = check(&lab, &host, &[&wrong, none, &unknown, &empty, &realm].concat());
    assert_eq!(checked.code, Some(2), "{}", checked.said);
    checked.says(
        "FILE:5: line wrong: the server refuses user name or password (realm \"lab.test\"); \
         check auth_user and password of the line",
    );
    checked.says("FILE:9: line none: the registrar asks for a password and the line has none; add password");
    checked.says(
        "FILE:14: line unknown: nowhere.test can't be found: the name does not exist; check the domain",
    );
    checked.says("FILE:20: line empty: empty.test can't be found: the name has no address that this device can reach; ");
    checked.says("line realm: the server asks for realm \"lab.test\", which is not the line's; check realm");
    assert!(
        !checked.said.contains("password right") && !checked.said.contains("right, "),
        "{}",
        checked.said
    );
    let passwords: Vec<&Value> =
        checked.json["lines"].as_array().expect("lines").iter().map(|line| &line["password"]).collect();
    assert_eq!(passwords, ["wrong", "missing", "not_asked", "not_asked", "wrong"]);
}

#[test]
fn check_tells_dead_registrars_and_wrong_certificates() {
    let Some(lab) = Lab::new("check --resolve, wrong certificate", &["kamailio", "ss"]) else { return };
    let host = lab.host("phone", 50);
    let _kamailio = Kamailio::start(&lab, "kam1", 20);
    let _nobody = lab.host("dead", 30);
    let _dns = Dns::start(&host, zone());
    let ca = Pki::of(&lab).ca_file;
    let believed = format!("transport = \"tls\"\nca_file = {ca:?}");
    let files = [
        line("stranger", "1001", "lab.test", "transport = \"tls\""),
        line("misnamed", "1002", "alias.test", &believed),
        line("anyone", "1003", "alias.test", "transport = \"tls\"\ntls_verify = false"),
        line("plain", "1004", "lab.test:5060", &believed.replace("lab.test", "")),
        line("dead", "1005", "203.0.113.30", "transport = [\"udp\", \"tcp\"]"),
        line("gone", "1006", "203.0.113.99", ""),
    ];
    let checked = check(&lab, &host, &files.concat());
    assert_eq!(checked.code, Some(2), "{}", checked.said);
    checked.says("line stranger: 203.0.113.20:5061 tls (kam1.lab.test) can't be used: the certificate of \
         lab.test is signed by nobody who is known; give the certificate of the authority that signed it as ca_file");
    checked.says(
        "line misnamed: 203.0.113.20:5061 tls can't be used: the certificate is not for alias.test but for ",
    );
    checked.says("pbx.lab.test");
    checked.says(
        "line anyone: alias.test → 203.0.113.20:5061 tls, certificate until 4096-01-01 (not \
         checked), registrar answers 200",
    );
    checked.says("line dead: 203.0.113.30:5060 udp can't be reached: Connection refused");
    checked.says("line dead: 203.0.113.30:5060 tcp can't be reached: Connection refused");
    checked.says("line gone: 203.0.113.99:5060 udp ");
    assert!(!checked.said.contains("line stranger: lab.test →"), "no praise: {}", checked.said);
}

#[test]
fn check_asks_asterisk_and_leaves_its_bindings_alone() {
    let Some(lab) = Lab::new("check --resolve with Asterisk", &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, "check --resolve with Asterisk") else { return };
    let host = lab.host("phone", 50);
    let _phone = Setup::new("1001", "203.0.113.10").start(&lab, &host);
    asterisk.registered("1001");
    let contact = asterisk.contact("1001");
    let right = line("right", "1001", "203.0.113.10", "");
    let other = line("other", "1002", "203.0.113.10", "transport = \"tcp\"");
    let wrong = line("wrong", "1003", "203.0.113.10", "").replace("pw1003", "guess");
    let checked = check(&lab, &host, &[right, other, wrong].concat());
    assert_eq!(checked.code, Some(2), "{}", checked.said);
    checked.says("line right: 203.0.113.10 → 203.0.113.10:5060 udp, registrar answers 200, password right\n");
    checked.says("line other: 203.0.113.10 → 203.0.113.10:5060 tcp, registrar answers 200, password right\n");
    checked.says("FILE:17: line wrong: the server refuses user name or password (realm \"");
    assert_eq!(asterisk.contact("1001"), contact, "the phone's binding is as it was");
    assert_eq!(asterisk.contact("1002"), None, "no binding was made");
}

#[test]
fn check_tells_whether_the_pbx_has_a_websocket_there() {
    let what = "check --resolve over WebSocket";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let host = lab.host("phone", 50);
    let ca = Pki::of(&lab).ca_file;
    let over = |name: &str, user: &str, url: &str, more: &str| {
        let keys = format!("transport = \"wss\"\nwebsocket = {url:?}\n{more}");
        line(name, user, "203.0.113.10", &keys)
    };
    let ca = format!("ca_file = {ca:?}");
    let url = "wss://203.0.113.10:8089/ws";
    let right = over("right", "1001", url, &ca);
    let checked = check(&lab, &host, &right);
    assert_eq!(checked.code, Some(0), "{}", checked.said);
    checked.says("line right: 203.0.113.10 → 203.0.113.10:8089 wss, certificate until 4096-01-01, registrar answers 200, password right\n");
    assert_eq!(asterisk.contact("1001"), None, "no binding was made");
    let elsewhere = over("elsewhere", "1002", "wss://203.0.113.10:8089/elsewhere", &ca);
    let stranger = over("stranger", "1003", url, "");
    let nobody = over("nobody", "1004", "wss://203.0.113.10:8444/ws", &ca);
    let checked = check(&lab, &host, &[elsewhere, stranger, nobody].concat());
    assert_eq!(checked.code, Some(2), "{}", checked.said);
    checked.says("line elsewhere: 203.0.113.10:8089 wss can't be used: there is no WebSocket at wss://203.0.113.10:8089/elsewhere (404");
    checked.says("line stranger: 203.0.113.10:8089 wss can't be used: the certificate of ");
    checked.says("line nobody: 203.0.113.10:8444 wss can't be reached: Connection refused");
}

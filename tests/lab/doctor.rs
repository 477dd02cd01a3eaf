//! `tipring doctor` behind real routers and before real servers: each fault is named, with whose matter it is, and where
//! nothing is wrong nothing is found.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::adversity::faketime;
use crate::asterisk::Asterisk;
use crate::coturn::{Coturn, PASSWORD, USER};
use crate::dns::Dns;
use crate::kamailio::Kamailio;
use crate::netns::{Host, Lab, skip};
use crate::phone::{Phone, Setup};
use crate::pki::Pki;
use crate::router::{Nat, Office, Uplink};

const PBX: &str = "203.0.113.10";
const STUN: &str = "[line.nat]\nstun = [\"203.0.113.11\"]\n";

/// What the command said.
struct Examined {
    code: Option<i32>,
    json: Value,
    /// For people; empty where it was asked for JSON.
    said: String,
}

impl Examined {
    /// Severity and code of each finding, in order.
    fn findings(&self) -> Vec<String> {
        let findings = self.json["findings"].as_array().expect("findings").iter();
        findings.map(|it| format!("{} {}", it["severity"], it["code"]).replace('"', "")).collect()
    }

    /// The finding of this code.
    #[track_caller]
    fn finding(&self, code: &str) -> &Value {
        let found = self.json["findings"].as_array().expect("findings").iter().find(|it| it["code"] == code);
        found.unwrap_or_else(|| panic!("no {code} in {:#}", self.json))
    }

    /// Nothing but these was found.
    #[track_caller]
    fn found(&self, expected: &[&str]) {
        assert_eq!(self.findings(), expected, "{:#}", self.json);
        let well = expected.iter().all(|it| it.starts_with("note"));
        assert_eq!((self.json["healthy"] == true, self.code), (well, Some(i32::from(!well))));
    }

    #[track_caller]
    fn says(&self, code: &str, blame: &str, words: &[&str]) {
        let finding = self.finding(code);
        assert_eq!(finding["blame"], blame, "{finding}");
        let text = format!("{}; {}", finding["what"], finding["cure"]);
        words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in {finding}"));
    }
}

fn run(lab: &Lab, host: &Host, text: &str, more: &[&str], environment: &[(&str, &str)]) -> Examined {
    let file = lab.folder().join("doctor.toml");
    let socket = format!("[admin]\nsocket = {:?}\n", lab.folder().join("nobody.sock"));
    fs::write(&file, socket + text).expect("a configuration");
    let mut command = host.command(env!("CARGO_BIN_EXE_tipring"));
    command.args(["doctor", "--config"]).arg(&file).args(more).envs(environment.iter().copied());
    let output = command.output().expect("the program");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    let json = serde_json::from_str(&said).unwrap_or_default();
    Examined { code: output.status.code(), json, said }
}

/// Examines a configuration of which no phone runs.
fn doctor(lab: &Lab, host: &Host, text: &str) -> Examined {
    run(lab, host, text, &["--json"], &[])
}

/// Asks a phone that runs.
fn ask(phone: &Phone) -> Examined {
    let file = phone.folder().join("tipring.toml");
    let mut command = phone.host.command(env!("CARGO_BIN_EXE_tipring"));
    let output = command.args(["doctor", "--json", "--config"]).arg(file).output().expect("the program");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["facts"]["running"], true);
    Examined { code: output.status.code(), json, said: String::new() }
}

/// The line of the file; `more` are further keys and tables.
fn line(account: &str, domain: &str, more: &str) -> String {
    format!(
        "[[line]]\nname = \"main\"\nuser = {account:?}\ndomain = {domain:?}\npassword = \"pw{account}\"\n{more}\n"
    )
}

fn turn(password: &str) -> String {
    let account = format!("username = {USER:?}\npassword = {password:?}");
    format!("{STUN}ice = true\n[[line.nat.turn]]\nurl = \"turn:203.0.113.11\"\n{account}\n")
}

/// A lab with an Asterisk and a STUN and TURN server; what stands in it ends before it does.
struct Site {
    coturn: Coturn,
    asterisk: Asterisk,
    lab: Lab,
}

/// `None` (said loudly) where it can't be had.
fn site(what: &str) -> Option<Site> {
    let lab = Lab::new(what, &["unshare", "turnserver"])?;
    let asterisk = Asterisk::start(&lab, what)?;
    let coturn = Coturn::start(&lab);
    Some(Site { coturn, asterisk, lab })
}

/// The same with one office behind such a router.
fn site_with_office(what: &str, uplink: impl Into<Uplink>) -> Option<(Office, Site)> {
    let site = site(what)?;
    let office = site.lab.office("office", 101, uplink);
    Some((office, site))
}

#[test]
fn a_healthy_phone_hears_that_all_is_well_and_is_not_disturbed() {
    let Some(Site { lab, mut asterisk, coturn }) = site("doctor, all is well") else { return };
    // Marks (DSCP): ours are counted where they arrive, and its answers get one for the last office.
    let count = "add table ip marks; add chain ip marks in { type filter hook input priority 0; }; \
                 add rule ip marks in udp dport 3478 ip dscp cs3 counter";
    let mark = "add chain ip marks out { type filter hook output priority 0; }; \
                add rule ip marks out ip protocol udp ip dscp set ef";
    coturn.host.run("nft", &[count]);
    let kinds = [
        (Nat::FullCone, 101, "1001", "endpoint_independent"),
        (Nat::AddressRestricted, 102, "1002", "address_dependent"),
        (Nat::PortRestricted, 103, "1003", "address_and_port_dependent"),
    ];
    for (nat, last, account, filtering) in kinds {
        let office = lab.office(&format!("office{last}"), last, nat);
        let marked = nat == Nat::PortRestricted;
        if marked {
            coturn.host.run("nft", &[mark]);
        }
        let phone = Setup::new(account, PBX).line(STUN).start(&lab, &office.host);
        asterisk.registered(account);
        let contact = asterisk.contact(account);
        let examined = ask(&phone);
        examined.found(&[]);
        let facts = &examined.json["facts"];
        let nat = &facts["network"]["nat"];
        assert_eq!(
            (&nat["mapping"], &nat["filtering"]),
            (&"endpoint_independent".into(), &filtering.into()),
            "{nat}"
        );
        let mapped = nat["mapped"].as_str().expect("an address");
        assert!(mapped.starts_with(&format!("203.0.113.{last}:")), "{mapped}");
        assert_eq!(
            (&nat["stable"], &facts["network"]["double_nat"]),
            (&true.into(), &false.into()),
            "{facts:#}"
        );
        let line = &facts["lines"][0];
        assert_eq!((&line["password"], &line["phone"]["state"]), (&"right".into(), &"registered".into()));
        assert_eq!(line["reflection"]["seen"], mapped, "{line}");
        assert_eq!(facts["network"]["watched"]["changes"], 0, "{facts:#}");
        assert_eq!(facts["network"]["dscp_sent"], 24, "{facts:#}");
        let marks = facts["network"]["dscp_received"].as_array().expect("marks");
        // Something comes unmarked in any case.
        assert_eq!(marks.contains(&46.into()), marked, "{facts:#}");
        assert!(marked || *marks == [0], "{facts:#}");
        let reached: Vec<String> = line["ways"]
            .as_array()
            .expect("ways")
            .iter()
            .map(|way| format!("{} {}", way["transport"], way["reached"]).replace('"', ""))
            .collect();
        assert_eq!(reached, ["udp yes", "tcp yes", "tls certificate"], "{line}");
        assert_eq!(asterisk.contact(account), contact, "the phone's binding is as it was");
        assert_eq!(phone.count("line.unregistered"), 0, "{}", phone.story());
    }
    let counted = coturn.host.run("nft", &["list", "chain", "ip", "marks", "in"]);
    assert!(counted.contains("counter packets") && !counted.contains("packets 0 "), "{counted}");
}

#[test]
fn a_sip_alg_is_named_with_and_without_stun() {
    let Some((office, Site { lab, .. })) = &site_with_office("doctor, SIP ALG", Nat::SipAlg) else { return };
    for nat in ["", STUN] {
        let examined = doctor(lab, &office.host, &line("1001", PBX, nat));
        let expected: &[&str] =
            if nat.is_empty() { &["warning sip_alg", "note no_stun"] } else { &["warning sip_alg"] };
        examined.found(expected);
        examined.says(
            "sip_alg",
            "network",
            &["203.0.113.101:", "192.168.1.10:", "switch off SIP ALG", "tls"],
        );
    }
    let ca = Pki::of(lab).ca_file;
    let tls = line("1001", PBX, &format!("transport = \"tls\"\nca_file = {ca:?}"));
    doctor(lab, &office.host, &tls).found(&[]);
}

#[test]
fn blocked_udp_is_named() {
    let Some(Site { lab, .. }) = &site("doctor, UDP blocked") else { return };
    for (nat, last, how) in
        [(Nat::UdpBlocked, 101, "nothing comes back"), (Nat::UdpRejected, 102, "a router refuses it")]
    {
        let office = lab.office(&format!("office{last}"), last, nat);
        let examined = doctor(lab, &office.host, &line("1001", PBX, STUN));
        examined.found(&["error udp_blocked"]);
        examined.says("udp_blocked", "network", &[how, "tcp does", "transport = \\\"tcp\\\"", "TURN"]);
        // Who registers by TCP has no audio either.
        let examined = doctor(lab, &office.host, &line("1001", PBX, &format!("transport = \"tcp\"\n{STUN}")));
        examined.found(&["error udp_blocked"]);
    }
}

#[test]
fn a_symmetric_nat_is_named_unless_there_is_a_relay_and_a_wrong_password_of_it_is() {
    let Some((office, Site { lab, .. })) =
        &site_with_office("doctor, symmetric NAT and TURN", Nat::Symmetric)
    else {
        return;
    };
    let examined = doctor(lab, &office.host, &line("1001", PBX, STUN));
    examined.found(&["warning symmetric_nat"]);
    examined.says(
        "symmetric_nat",
        "network",
        &["another port for every peer", "[[line.nat.turn]]", "ice = true"],
    );
    assert_eq!(examined.json["facts"]["network"]["nat"]["mapping"], "address_and_port_dependent");
    let examined = doctor(lab, &office.host, &line("1001", PBX, &turn(PASSWORD)));
    examined.found(&[]);
    let ways = &examined.json["facts"]["turn"][0]["ways"];
    let reached: Vec<String> = ways
        .as_array()
        .expect("ways")
        .iter()
        .map(|way| format!("{} {} {}", way["transport"], way["address"], way["reached"]).replace('"', ""))
        .collect();
    assert_eq!(&reached[..2], ["udp 203.0.113.11:3478 yes", "tcp 203.0.113.11:3478 yes"], "{ways}");
    let examined = doctor(lab, &office.host, &line("1001", PBX, &turn("wrong")));
    examined.found(&["error turn_password", "warning symmetric_nat"]);
    examined.says("turn_password", "configuration", &["user name or password", "[[line.nat.turn]]"]);
}

#[test]
fn wrong_names_are_told_from_silent_name_servers() {
    let Some(lab) = Lab::new("doctor, wrong DNS", &["kamailio", "ss"]) else { return };
    let _kamailio = Kamailio::start(&lab, "kam1", 20);
    let host = lab.host("phone", 50);
    {
        let _dns = Dns::start(&host, Vec::new());
        let examined = doctor(&lab, &host, &line("1001", "nowhere.test", ""));
        examined.found(&["error dns_no_such_name"]);
        examined.says(
            "dns_no_such_name",
            "configuration",
            &["nowhere.test", "does not exist", "check the domain"],
        );
    }
    let examined = doctor(&lab, &host, &line("1001", "nowhere.test", ""));
    assert!(
        ["error dns_timeout", "error dns_failed"].contains(&examined.findings()[0].as_str()),
        "{:#}",
        examined.json
    );
    // What has an address needs no name server.
    doctor(&lab, &host, &line("1001", "203.0.113.20", "")).found(&[]);
}

#[test]
fn a_wrong_clock_is_told_from_a_wrong_certificate() {
    let what = "doctor, wrong clock";
    let Some(library) = faketime() else {
        return skip(what, "libfaketime is not installed");
    };
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    // The PBX's certificate begins in a year to come.
    let ca = Pki::valid_from(&lab, 2090).ca_file;
    let Some(_asterisk) = Asterisk::start(&lab, what) else { return };
    let host = lab.host("phone", 50);
    let udp = line("1001", PBX, "");
    let tls = |name: &str| {
        line("1002", PBX, &format!("transport = \"tls\"\nca_file = {ca:?}"))
            .replace("\"main\"", &format!("{name:?}"))
    };
    let fake = |time: &'static str| {
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME", time.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    };
    let at = |text: &str, time: Option<&'static str>| {
        let environment = time.map(fake).unwrap_or_default();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run(&lab, &host, text, &["--json"], &environment)
    };
    // The certificate is wrong, and only the PBX's clock proves it.
    let examined = at(&[udp.clone(), tls("secure")].concat(), None);
    examined.found(&["error certificate"]);
    examined.says("certificate", "pbx", &["good from 2090-01-01", "agrees with the PBX's", "renewed"]);
    let examined = at(&tls("secure"), None);
    examined.found(&["error clock_or_certificate"]);
    examined.says("clock_or_certificate", "device", &["good from 2090-01-01", "compare the clock"]);
    // The clock is wrong.
    let examined = at(&udp, Some("-30d"));
    examined.found(&["warning clock"]);
    examined.says("clock", "device", &["30 days behind", PBX, "NTP"]);
    let examined = at(&[udp.clone(), tls("secure")].concat(), Some("-30d"));
    assert_eq!(examined.findings(), ["error clock", "error clock"], "{:#}", examined.json);
    let examined = at(&udp, Some("@1970-01-02 00:00:00"));
    examined.found(&["error clock"]);
    examined.says("clock", "device", &["was never set"]);
}

#[test]
fn a_registrar_that_is_down_is_told_from_a_network_that_is() {
    let Some(lab) = Lab::new("doctor, registrar down", &["turnserver"]) else { return };
    let _coturn = Coturn::start(&lab);
    let _host_alone = lab.host("dead", 10);
    let office = lab.office("office", 101, Nat::PortRestricted);
    let refused = doctor(&lab, &office.host, &line("1001", PBX, ""));
    refused.found(&["error registrar_down"]);
    refused.says("registrar_down", "pbx", &["203.0.113.10:5060", "nobody listens", "start the PBX"]);
    let gone = doctor(&lab, &office.host, &line("1001", "203.0.113.77", STUN));
    gone.found(&["error registrar_down"]);
    gone.says(
        "registrar_down",
        "pbx",
        &["203.0.113.77:5060", "while the STUN server at 203.0.113.11:3478 answers"],
    );
    let nothing = doctor(&lab, &office.host, &line("1001", "203.0.113.77", ""));
    nothing.found(&["error registrar_unreachable"]);
}

#[test]
fn a_second_nat_and_a_short_memory_are_seen() {
    let Some((office, Site { lab, .. })) =
        &site_with_office("doctor, carrier's NAT", Uplink::carrier(Nat::PortRestricted).lifetime(12))
    else {
        return;
    };
    let text = line("1001", PBX, STUN);
    let examined = run(lab, &office.host, &text, &["--json", "--lifetime", "20"], &[]);
    examined.found(&["warning short_mapping", "note double_nat"]);
    let network = &examined.json["facts"]["network"];
    assert_eq!(network["hops"][1], "100.64.0.1", "{network}");
    let lifetime = &network["nat"]["lifetime"];
    assert_eq!((&lifetime["alive_s"], &lifetime["gone_s"]), (&10.into(), &15.into()), "{lifetime}");
    // For people the same, and what was not tested is said.
    let people = run(lab, &office.host, &text, &[], &[]);
    eprintln!("{}", people.said);
    for words in [
        "note     there is a NAT of the provider",
        "→ nothing while calls work",
        "well     nothing stands",
        "port-restricted cone",
        "192.168.1.1 → 100.64.0.1",
        "two NATs",
        "not tested (--lifetime 60 does)",
        "password right",
        "  udp           203.0.113.10:5060 answers 200\n",
        "not running",
    ] {
        assert!(people.said.contains(words), "{words:?} is not in:\n{}", people.said);
    }
    assert_eq!(people.code, Some(0));
}

#[test]
fn the_reason_of_one_way_audio_is_named() {
    let what = "doctor, one-way audio";
    let Some(lab) = Lab::new(what, &["unshare"]) else { return };
    let Some(mut asterisk) = Asterisk::start(&lab, what) else { return };
    let office = lab.office("office", 101, Nat::PortRestricted);
    // The PBX sends audio where SDP says, which is an address inside the office.
    let phone = Setup::new("1501", PBX).start(&lab, &office.host);
    asterisk.registered("1501");
    let call = phone.call("603");
    phone.wait_event("call.answered");
    std::thread::sleep(Duration::from_secs(3));
    phone.hang_up(&call);
    let examined = ask(&phone);
    examined.says("audio_own_private", "configuration", &["nothing was heard", "192.168.1.10:", "stun ="]);
    assert_eq!(examined.finding("audio_own_private")["subject"], call.as_str());
    let talk = &examined.json["facts"]["calls"][0];
    assert!(talk["expected"].as_str().is_some_and(|at| at.starts_with("203.0.113.10:")), "{talk}");
    assert_eq!(talk["source"], Value::Null);
}

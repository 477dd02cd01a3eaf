//! The look at a line as a dialogue with servers that say what the test says, in virtual time.

use std::collections::BTreeMap;

use super::*;
use crate::config::Places;
use crate::sip::message::Message;
use crate::sip::network::Record;
use crate::sip::reader::read_datagram;

const CHALLENGE: &str = "Digest realm=\"pbx\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";

/// What a server does with a request: status and fields, or silence.
type Manner = fn(&Request) -> Option<(u16, Vec<(&'static str, &'static str)>)>;

struct World {
    now: Now,
    text: String,
    config: Config,
    inspection: Inspection,
    servers: BTreeMap<&'static str, Manner>,
    sent: Vec<(Request, SocketAddr)>,
}

fn world(keys: &str, servers: &[(&'static str, Manner)]) -> World {
    let text = format!("[[line]]\nname = \"office\"\nuser = \"101\"\ndomain = \"pbx.example\"\n{keys}");
    let config = Config::parse(&text, "t.toml").expect("a configuration");
    let now = Now { mono_us: 1_000_000, utc_us: 1_795_248_000_000_000 };
    let local = "0.0.0.0:40000".parse().expect("an address");
    let inspection = Inspection::new(now, &config, local, Chance::from_number(3));
    let servers = servers.iter().copied().collect();
    let mut world = World { now, text, config, inspection, servers, sent: Vec::new() };
    world.run();
    world
}

impl World {
    /// Lets everything happen until all has been asked.
    fn run(&mut self) {
        for _ in 0..10_000 {
            if let Some(output) = self.inspection.poll_output() {
                self.perform(output);
            } else if self.inspection.reports().is_some() {
                return;
            } else {
                let due = self.inspection.poll_timeout().expect("something is waited for");
                let wait = due.saturating_sub(self.now.mono_us);
                self.now = self.now.plus(Duration::from_micros(wait));
                self.inspection.handle_timeout(self.now);
            }
        }
        panic!("it never ends");
    }

    fn perform(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Query { query, question, .. } => {
                let record = |address: &str| Record {
                    data: RecordData::Address(address.parse().expect("an address")),
                    ttl: 60,
                };
                let srv = |priority, target: &str| Record {
                    data: RecordData::Srv { priority, weight: 0, port: 5060, target: target.to_owned() },
                    ttl: 60,
                };
                let result = match &question {
                    Question::Srv(name) if name == "_sip._udp.pbx.example" => {
                        Ok(vec![srv(10, "a.example"), srv(20, "b.example")])
                    }
                    Question::A(name) if name == "a.example" => Ok(vec![record("192.0.2.1")]),
                    Question::A(name) if name == "b.example" => Ok(vec![record("192.0.2.2")]),
                    Question::A(name) if name == "pbx.example" => Ok(vec![record("192.0.2.3")]),
                    _ => Err(LookupError::NoSuchName),
                };
                self.inspection.handle(now, Input::Answer { query, result });
            }
            Output::RouteTo { query, .. } => {
                let result = Ok([192, 0, 2, 9].into());
                self.inspection.handle(now, Input::LocalAddress { query, result });
            }
            Output::Datagram { remote, bytes, .. } => {
                let message = read_datagram(&bytes).expect("readable").expect("a message");
                let Message::Request(request) = message else { panic!("a response: {message:?}") };
                let answer = self.servers.get(remote.ip().to_string().as_str()).and_then(|it| it(&request));
                if let Some((status, fields)) = answer {
                    let mut response = Response::to(&request, status);
                    response.head.to.set_tag("pbx");
                    for (name, value) in fields {
                        response.fields.push(name, value);
                    }
                    let local = "0.0.0.0:40000".parse().expect("an address");
                    let bytes = response.write();
                    self.inspection.handle(now, Input::Datagram { local, remote, bytes: &bytes });
                }
                self.sent.push((request, remote));
            }
            Output::Connect { connection, .. } => {
                let why = "the certificate is not for pbx.example but for a.example; write a name".to_owned();
                self.inspection.handle(now, Input::Closed { connection, why });
            }
            Output::Stream { .. } | Output::Close { .. } => {}
        }
    }

    fn report(&self) -> &LineReport {
        self.inspection.reports().expect("it is over")[0]
    }

    fn findings(&self) -> Vec<String> {
        let places = Places::of(&self.text, "t.toml");
        let found = self.report().findings(&self.config.line[0], &places, self.now.utc_us);
        found.iter().map(ToString::to_string).collect()
    }

    fn summary(&self) -> String {
        self.report().summary(&self.config.line[0])
    }

    fn registers(&self) -> Vec<&Request> {
        self.sent.iter().map(|(request, _)| request).filter(|it| it.method == Method::REGISTER).collect()
    }
}

/// Knows the user and the password.
fn good(request: &Request) -> Option<(u16, Vec<(&'static str, &'static str)>)> {
    match request.method {
        Method::REGISTER if !request.fields.has("Authorization") => {
            Some((401, vec![("WWW-Authenticate", CHALLENGE)]))
        }
        _ => Some((200, Vec::new())),
    }
}

/// Challenges whatever comes, as one that does not believe the password.
fn strict(_: &Request) -> Option<(u16, Vec<(&'static str, &'static str)>)> {
    Some((401, vec![("WWW-Authenticate", CHALLENGE)]))
}

#[test]
fn a_good_line_is_one_sentence_and_nothing_is_changed_by_asking() {
    let world = world("password = \"secret\"\n", &[("192.0.2.1", good), ("192.0.2.2", good)]);
    assert_eq!(
        world.summary(),
        "line office: pbx.example → 192.0.2.1:5060 udp (a.example), registrar answers 200, password right; \
         192.0.2.2:5060 udp (b.example) answers 200"
    );
    assert_eq!(world.findings(), Vec::<String>::new());
    let registers = world.registers();
    assert_eq!(registers.len(), 2, "a challenge and its answer, to one server");
    assert!(
        registers.iter().all(|it| !it.fields.has("Contact") && !it.fields.has("Expires")),
        "it only asks"
    );
    assert_eq!(registers[0].uri.to_string(), "sip:pbx.example");
}

#[test]
fn a_wrong_password_is_shown_once_and_never_with_options() {
    let world = world("password = \"guess\"\n", &[("192.0.2.1", strict), ("192.0.2.2", strict)]);
    assert_eq!(
        world.findings(),
        ["t.toml:5: line office: the server refuses user name or password (realm \"pbx\"); \
          check auth_user and password of the line"]
    );
    let shown: Vec<&str> = world
        .sent
        .iter()
        .filter(|(request, _)| request.fields.has("Authorization"))
        .map(|(request, _)| request.method.as_str())
        .collect();
    assert_eq!(shown, ["REGISTER"]);
}

#[test]
fn what_the_registrar_says_to_the_user_is_told() {
    let forbids: Manner = |request| Some(bare(if request.method == Method::REGISTER { 403 } else { 200 }));
    let unknown: Manner = |request| Some(bare(if request.method == Method::REGISTER { 404 } else { 200 }));
    let puzzled: Manner = |request| Some(bare(if request.method == Method::REGISTER { 400 } else { 200 }));
    let open: Manner = |_| Some(bare(200));
    fn bare(status: u16) -> (u16, Vec<(&'static str, &'static str)>) {
        (status, Vec::new())
    }
    for (manner, password, finding) in [
        (
            forbids,
            Password::Refused("403 Forbidden".into()),
            "t.toml:3: line office: the registrar refuses 101@pbx.example (403 Forbidden); check user and password",
        ),
        (
            unknown,
            Password::Refused("404 Not Found".into()),
            "; the PBX does not know this user: check user and domain",
        ),
        (
            puzzled,
            Password::Untested("400 Bad Request".into()),
            "t.toml:5: warning: line office: whether the password is right is not known: the \
             registrar says 400 Bad Request; ",
        ),
        (open, Password::NotNeeded, ""),
        (good, Password::Right, ""),
    ] {
        let world = world("password = \"secret\"\n", &[("192.0.2.1", manner), ("192.0.2.2", manner)]);
        assert_eq!(world.report().password, password);
        let findings = world.findings().join("\n");
        assert!(findings.contains(finding) && finding.is_empty() == findings.is_empty(), "{findings}");
    }
    let missing = world("", &[("192.0.2.1", good), ("192.0.2.2", good)]);
    assert_eq!(missing.report().password, Password::Missing);
    assert_eq!(missing.registers().len(), 1);
    let trunk = world("register = false\n", &[("192.0.2.1", strict), ("192.0.2.2", strict)]);
    assert_eq!(trunk.report().password, Password::NotAsked);
    assert!(trunk.registers().is_empty(), "a trunk is not asked for its password");
    assert!(
        trunk.summary().contains("192.0.2.1:5060 udp (a.example), registrar answers 401"),
        "{}",
        trunk.summary()
    );
}

#[test]
fn a_dead_server_is_a_warning_while_another_one_answers_and_an_error_when_none_does() {
    let begun = 1_000_000;
    let world_of = |servers: &[(&'static str, Manner)]| world("password = \"secret\"\n", servers);
    let half = world_of(&[("192.0.2.2", good)]);
    assert_eq!(
        half.findings(),
        ["t.toml:4: warning: line office: 192.0.2.1:5060 udp (a.example) does not answer; \
          check that the PBX runs there, its port, and the firewalls on the way"]
    );
    assert!(
        half.summary().contains("→ 192.0.2.2:5060 udp (b.example), registrar answers 200, password right")
    );
    let none = world_of(&[]);
    let findings = none.findings();
    assert_eq!(findings.len(), 2);
    assert!(
        findings.iter().all(|it| it.contains("does not answer") && !it.contains("warning")),
        "{findings:?}"
    );
    assert!(none.now.mono_us - begun <= 10_100_000, "it ends in time: {}", none.now.mono_us);
    // Some registrars are silent to everything but what they are there for.
    let shy: Manner = |request| good(request).filter(|_| request.method == Method::REGISTER);
    let shy = world_of(&[("192.0.2.1", shy), ("192.0.2.2", shy)]);
    assert_eq!(shy.report().password, Password::Right);
    assert!(
        shy.findings().iter().all(|it| it.contains("warning") && it.contains("192.0.2.2")),
        "{:?}",
        shy.findings()
    );
}

#[test]
fn names_and_certificates_that_are_wrong_are_told_with_their_cure() {
    let unknown = world("password = \"secret\"\nregistrar = \"sip:nowhere.example\"\n", &[]);
    assert_eq!(
        unknown.findings(),
        ["t.toml:6: line office: nowhere.example can't be found: the name does not exist; \
          check the domain or registrar of the line"]
    );
    let misnamed = world("password = \"secret\"\ntransport = \"tls\"\n", &[]);
    assert_eq!(
        misnamed.findings(),
        [
            "t.toml:4: line office: 192.0.2.3:5061 tls can't be used: the certificate is not for pbx.example but \
          for a.example; write a name"
        ]
    );
    assert!(misnamed.registers().is_empty());
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    let mut world = world("password = \"secret\"\n", &[("192.0.2.1", good), ("192.0.2.2", good)]);
    let day = 86_400_000_000;
    let remote = "192.0.2.1:5060".parse().expect("an address");
    world.inspection.handle_certificate(remote, world.now.utc_us + 20 * day);
    assert!(world.findings().is_empty(), "{:?}", world.findings());
    assert!(world.summary().contains(", certificate until 2026-12-11, registrar"), "{}", world.summary());
    world.inspection.handle_certificate(remote, world.now.utc_us + 13 * day);
    assert_eq!(
        world.findings(),
        [
            "t.toml:4: warning: line office: the certificate of 192.0.2.1:5060 udp (a.example) ends on 2026-12-04; \
          have the PBX's certificate renewed"
        ]
    );
    assert_eq!(world.report().json()["servers"][0]["certificate_until"], "2026-12-04T08:00:00.000000Z");
}

#[test]
fn many_lines_are_asked_a_few_at_a_time() {
    let lines: String = (0..40)
        .map(|n| {
            format!("[[line]]\nname = \"l{n}\"\nuser = \"{n}\"\ndomain = \"192.0.2.1\"\nregister = false\n")
        })
        .collect();
    let config = Config::parse(&lines, "t.toml").expect("a configuration");
    let now = Now { mono_us: 1_000_000, utc_us: 0 };
    let local = "0.0.0.0:40000".parse().expect("an address");
    let inspection = Inspection::new(now, &config, local, Chance::from_number(3));
    assert_eq!(inspection.accounts().count(), TOGETHER);
    let mut world = World {
        now,
        text: lines,
        config,
        inspection,
        servers: [("192.0.2.1", good as Manner)].into(),
        sent: Vec::new(),
    };
    world.run();
    assert_eq!(world.sent.len(), 40, "one OPTIONS each");
    assert!(world.inspection.reports().expect("all").iter().all(|report| report.answers()));
    assert_eq!(world.report().servers[0].transport, Transport::Udp);
}

#[test]
fn the_clock_of_a_server_is_compared_with_ours() {
    // World begins at 2026-11-21T08:00:00Z.
    let registrar: Manner = |request| match request.method {
        Method::OPTIONS => Some((200, vec![])),
        _ => Some((200, vec![("Date", "Sat, 21 Nov 2026 09:00:00 GMT")])),
    };
    let world = world("", &[("192.0.2.1", registrar)]);
    let reports = world.inspection.reports().expect("all was asked");
    let ahead = reports[0].servers[0].ahead_s;
    // The second server was waited for before the first one was asked about the user.
    assert_eq!(ahead, Some(5 - 3_600));
}

#[test]
fn other_ways_are_those_that_the_line_may_not_use_and_nobody_is_registered_over_them() {
    for (keys, expected) in [
        ("", &["tcp 192.0.2.1:5070", "tls 192.0.2.1:5061"][..]),
        ("transport = \"tls\"\n", &["tcp 192.0.2.1:5060", "udp 192.0.2.1:5060"]),
        (
            "transport = [\"udp\", \"tcp\"]\nwebsocket = \"wss://192.0.2.1:8089/ws\"\n",
            &["tls 192.0.2.1:5061", "wss 192.0.2.1:8089"],
        ),
        ("transport = \"auto\"\n", &[]),
    ] {
        let line =
            "[[line]]\nname = \"office\"\nuser = \"101\"\ndomain = \"192.0.2.1:5070\"\npassword = \"x\"\n";
        let config = Config::parse(&format!("{line}{keys}"), "t.toml").expect("a configuration");
        let now = Now { mono_us: 1_000_000, utc_us: 1_795_248_000_000_000 };
        let local = "0.0.0.0:40000".parse().expect("an address");
        let mut inspection = Inspection::of_other_ways(now, &config, local, Chance::from_number(3));
        let mut tried = Vec::new();
        while let Some(output) = inspection.poll_output() {
            match output {
                Output::Connect { transport, remote, .. } => tried.push(format!("{transport} {remote}")),
                Output::Datagram { remote, bytes, .. } => {
                    assert!(bytes.starts_with(b"OPTIONS "), "{}", String::from_utf8_lossy(&bytes));
                    tried.push(format!("udp {remote}"));
                }
                Output::RouteTo { query, .. } => {
                    inspection.handle(now, Input::LocalAddress { query, result: Ok([192, 0, 2, 9].into()) });
                }
                _ => {}
            }
        }
        tried.sort();
        assert_eq!(tried, expected, "{keys}");
        // Nobody answers, and nobody waits for it any longer.
        inspection.give_up(now);
        let reports = inspection.reports().expect("it is over");
        let servers = reports.iter().flat_map(|report| &report.servers);
        assert!(servers.clone().all(|server| server.answer == Some(Answer::Failure(Failure::Timeout))));
        assert_eq!(servers.count(), expected.len(), "{keys}");
    }
}

#[test]
fn of_a_line_with_two_proxies_both_are_asked() {
    let keys = "password = \"secret\"\noutbound_proxy = [\"sip:192.0.2.1\", \"sip:192.0.2.2\"]\n";
    let world = world(keys, &[("192.0.2.1", good)]);
    let reports = world.inspection.reports().expect("all was asked");
    let answers: Vec<_> = reports.iter().map(|report| (report.line.as_str(), report.answers())).collect();
    assert_eq!(answers, [("office", true), ("office", false)]);
    let places = Places::of(&world.text, "t.toml");
    let found = reports[1].findings(&world.config.line[0], &places, world.now.utc_us);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    let text = finding.to_string();
    assert!(text.starts_with("t.toml:6: line office: 192.0.2.2:5060"), "{text}");
}

//! The configuration as its users meet it: the example, the mistakes, what a reload changes.

use std::time::Duration;

use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use super::*;

const EXAMPLE: &str = include_str!("../../docs/tipring.example.toml");

/// A file that is right, with one line.
const GOOD: &str = r#"
[device]
country = "DE"

[[line]]
name = "office"
user = "101"
domain = "pbx.example.com"
password = "planted-secret"
transport = ["tls", "tcp"]
auto_answer = "2s"
"#;

pub(super) fn findings(text: &str) -> Vec<String> {
    Config::read(text, "t.toml", &mut |_| Ok(None)).findings.iter().map(ToString::to_string).collect()
}

/// The only finding in a text.
fn finding(text: &str) -> String {
    let all = findings(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.into_iter().next().unwrap()
}

/// The example with everything that is commented out switched on; each kind of upstream that has a table of its own gets an
/// upstream for it.
fn example_in_full() -> String {
    let own =
        |line: &str| {
            let kind = line.strip_prefix("#[upstream.")?.strip_suffix(']')?.replace('_', "-");
            let scheme = if kind == "mqtt" { "mqtts" } else { "https" };
            (!kind.contains('.')).then(|| format!(
            "[[upstream]]\nname = \"{kind}\"\nkind = \"{kind}\"\nurl = \"{scheme}://{kind}.example\"\n{}",
            &line[1..]
        ))
        };
    let setting = |line: &str| {
        let rest = line.strip_prefix('#').unwrap_or_default();
        rest.starts_with('[') || rest.starts_with(|c: char| c.is_ascii_lowercase())
    };
    let on = |line: &str| if setting(line) { line[1..].to_owned() } else { line.to_owned() };
    EXAMPLE.lines().map(|line| own(line).unwrap_or_else(|| on(line))).collect::<Vec<_>>().join("\n")
}

/// Every key of the schema with its table, as in `sip.port_udp`.
fn keys() -> Vec<(String, Key)> {
    fn walk(path: &str, keys: &'static [Key], into: &mut Vec<(String, Key)>) {
        for key in keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            if key.nested.is_empty() {
                into.push((path, *key));
            } else {
                walk(&path, key.nested, into);
            }
        }
    }
    let mut all = Vec::new();
    walk("", Config::schema(), &mut all);
    all
}

/// `TIPRING_WRITE_EXAMPLE=1 cargo test` writes the file anew after a key was added.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the file in docs/ is an output of this test when it is asked to"
)]
fn the_example_file_is_the_schema() {
    let text = Config::example();
    if std::env::var_os("TIPRING_WRITE_EXAMPLE").is_some() {
        let here = std::path::Path::new(file!()).with_file_name("../../docs/tipring.example.toml");
        std::fs::write(here, &text).unwrap();
    }
    assert!(
        text == EXAMPLE,
        "docs/tipring.example.toml is old: TIPRING_WRITE_EXAMPLE=1 cargo test the_example_file"
    );
}

#[test]
fn the_example_parses_to_exactly_the_defaults() {
    let example = Config::parse(EXAMPLE, "tipring.example.toml").unwrap();
    assert_eq!(example, Config::default());
    assert_eq!(example, Config::parse("", "empty.toml").unwrap());
    assert_eq!(example.sip.port_udp, 5060);
    assert_eq!(example.rtp.ports, PortRange { first: 10_000, last: 10_999 });
    assert_eq!(example.limits.max_duration, Duration::from_secs(4 * 3600));
    assert_eq!(example.line, []);
}

#[test]
fn the_example_shows_every_key_with_a_value_that_is_right() {
    let full = example_in_full();
    let reading = Config::read(&full, "full.toml", &mut |_| Ok(None));
    let errors: Vec<_> =
        reading.findings.iter().filter(|it| it.is_error()).map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    let config = reading.config.unwrap();
    let [line] = config.line.as_slice() else { panic!("one line") };
    let bare =
        Config::parse("line = [{ name = 'office', user = '101', domain = 'pbx.example.com' }]", "bare")
            .unwrap();
    assert_eq!(
        Line { password: Secret::default(), ..line.clone() },
        Line {
            auth_user: line.auth_user.clone(),
            realm: line.realm.clone(),
            display_name: line.display_name.clone(),
            registrar: line.registrar.clone(),
            outbound_proxy: line.outbound_proxy.clone(),
            websocket: line.websocket.clone(),
            ca_file: line.ca_file.clone(),
            country: line.country.clone(),
            did_header: line.did_header.clone(),
            nat: Nat { turn: line.nat.turn.clone(), ..Nat::default() },
            ..bare.line[0].clone()
        },
        "what the example shows of a line are its defaults"
    );
    assert!(line.auth_user.is_some() && line.registrar.is_some() && line.ca_file.is_some());

    let document = toml_edit::Document::parse(full.clone()).unwrap();
    for (path, key) in keys() {
        let mut item = document.as_item();
        for part in path.split('.') {
            item = match item.as_array_of_tables() {
                Some(tables) => tables.iter().find_map(|table| table.get(part)),
                None => item.get(part),
            }
            .unwrap_or_else(|| panic!("{path} is not in the example"));
        }
        assert!(key.doc.trim().len() > 10, "{path} is not explained");
    }
    assert!(keys().len() > 60, "the schema has been walked through");
}

#[test]
fn every_key_refuses_a_value_of_a_wrong_type_by_name() {
    for (path, key) in keys() {
        let (table, name) = path.rsplit_once('.').unwrap();
        let header = if ["line", "line.nat.turn", "admin.users", "admin.tokens"].contains(&table) {
            format!("[[{table}]]")
        } else {
            format!("[{table}]")
        };
        let told = findings(&format!("{header}\n{name} = 1979-05-27\n"));
        let told: Vec<_> = told.iter().filter(|it| it.starts_with(&format!("t.toml:2: {name} "))).collect();
        assert_eq!(told.len(), 1, "{path}: {told:?}");
        assert!(told[0].contains("; write "), "{} has no cure: {}", key.name, told[0]);
    }
}

#[test]
fn five_mistakes_are_five_findings_with_line_and_cure() {
    let text = r#"
[sip]
port_upd = 5070

[rtp]
ports = "10001-10999"
ptime = 20

[[line]]
name = "office"
user = "101"
srtp = "optoinal"

[line.nat]
mod = "auto"
"#;
    assert_eq!(
        findings(text),
        [
            "t.toml:3: port_upd is not a key of [sip]; did you mean port_udp?",
            "t.toml:6: ports can't be \"10001-10999\"; begin with an even port, RTP needs it: \"10000-10999\"",
            "t.toml:7: ptime is a whole number; write a duration such as \"30s\", \"15m\" or \"1h30m\"",
            "t.toml:9: [[line]] has no domain; add domain = \"pbx.example.com\"",
            "t.toml:9: warning: line office registers without a password; add password or password_file, unless the \
             PBX knows the line by its address",
            "t.toml:12: srtp can't be \"optoinal\"; did you mean \"optional\"?",
            "t.toml:15: mod is not a key of [line.nat]; did you mean mode?",
        ]
    );
}

#[test]
fn a_line_that_is_not_toml_hides_no_other_mistake() {
    let text = "[sip\nport_udp = 5070\ndscp = 99\n\n[rtp]\ndscp = 46\ndscp = 12\n[log]\nlevel = info\n[log]\nlevle = 1\n\
                [[line]]\nname = \"a\nuser = 7\n";
    let all = findings(text);
    let lines: Vec<_> = all.iter().map(|it| it.split(':').nth(1).unwrap().parse::<u32>().unwrap()).collect();
    for (line, words) in [
        (1, "not TOML"),
        (3, "dscp is 99, out of range; write a value from 0 to 63"),
        (7, "not TOML"),
        (9, "not TOML"),
        (10, "not TOML"),
        (13, "not TOML"),
        (14, "user is a whole number; write text"),
    ] {
        assert!(
            all.iter().zip(&lines).any(|(it, at)| *at == line && it.contains(words)),
            "line {line} {words}: {all:#?}"
        );
    }
    assert!(!all.iter().any(|it| it.contains("levle")), "what a taken out table holds is not looked at");
}

#[test]
fn each_kind_of_mistake_has_its_cure() {
    let line = "[[line]]\nname = \"a\"\nuser = \"1\"\ndomain = \"d\"\npassword = \"p\"\n";
    for (text, expected) in [
        ("[spi]\n", "t.toml:1: [spi] is not a table of this file; did you mean sip?"),
        ("[sip]\nports = \"1-2\"\n", "t.toml:2: ports is not a key of [sip]; it belongs in [rtp]"),
        ("[log]\nzzz = 1\n", "t.toml:2: zzz is not a key of [log]; the keys here are level"),
        ("[sticky]\nwithin = \"1s\"\n", "t.toml:2: within can't be \"1s\"; write a duration of 1m to 7d"),
        ("[sticky]\nwithin = \"30m\"\nlines = [\"b\"]\n", "t.toml:3: there is no line b"),
        (
            "[sticky]\nring_for = \"9s\"\n",
            "t.toml:2: warning: ring_for has no effect: no caller is given back",
        ),
        (
            "[numbers]\nagent_available = \"45\"\n",
            "t.toml:2: agent_available is no code; write a star or a hash",
        ),
        (
            "[numbers]\nagent_available = \"*45\"\nagent_logged_out = \"*45\"\n",
            "t.toml:3: agent_logged_out is agent_available",
        ),
        (
            "[rating]\nwait = \"9s\"\n",
            "t.toml:2: warning: wait has no effect: nobody is asked; add announcement",
        ),
        ("[rating]\nannouncement = \"q.wav\"\nlines = [\"b\"]\n", "t.toml:3: there is no line b"),
        ("[rating]\nannouncement = \"q.wav\"\nwait = \"2m\"\n", "t.toml:3: wait is \"2m\", out of range"),
        ("[ami]\nlisten = '0.0.0.0:5038'\n", "nobody may connect; add allow"),
        (
            "[[route]]\nmatch = '^8'\nvia = \"gsm1\"\n[[line]]\nname = \"a\"\nuser = \"1\"\ndomain = \"d\"\npassword = \"x\"\n",
            "t.toml:3: there is no line gsm1; GSM ports are not part of this version; the lines are: a",
        ),
        (
            "[audio]\necho_cancel = true\n",
            "t.toml:2: echo_cancel: echo cancelling is not part of this version; remove it",
        ),
        (
            "[sip]\nport_udp = 70000\n",
            "t.toml:2: port_udp is 70000, out of range; write a value from 0 to 65535",
        ),
        ("[sip]\nport_udp = \"5060\"\n", "t.toml:2: port_udp is text; write a whole number, without quotes"),
        ("[sip]\nbind = \"eth0\"\n", "t.toml:2: bind can't be \"eth0\"; write an IP address such as"),
        (
            "[sip]\ntrusted = \"all\"\n",
            "t.toml:2: trusted is not understood; write \"registered\", or a list of networks",
        ),
        (
            "[sip]\ntrusted = [\"10.0.0.0/8\", \"10/8\"]\n",
            "t.toml:2: trusted can't be \"10/8\"; write a network such as",
        ),
        (
            "[rtp]\nports = \"5060-5099\"\n",
            "t.toml:2: [sip] port_udp 5060 is one of the ports 5060-5099; choose ports",
        ),
        ("[rtp]\nptime = \"25ms\"\n", "t.toml:2: ptime can't be \"25ms\"; write \"10ms\", \"20ms\""),
        (
            "[rtp]\ntimeout = \"1s\"\n",
            "t.toml:2: timeout is \"1s\", out of range; write a value from \"5s\" to \"1h\"",
        ),
        (
            "[rtp]\nsilence = \"30s\"\ntimeout = \"20s\"\n",
            "t.toml:2: silence is not shorter than timeout; write",
        ),
        (
            "[journal]\nsize = \"1MB\"\n",
            "t.toml:2: size is \"1MB\", out of range; write a value from \"1MiB\" to",
        ),
        (
            "[journal]\nsize = \"1 gigabyte\"\n",
            "t.toml:2: size can't be \"1 gigabyte\"; write a whole number with its unit",
        ),
        (
            "[journal]\nretention = \"90 days\"\n",
            "t.toml:2: retention can't be \"90 days\"; write a number with its unit",
        ),
        (
            "[audio]\nbackend = \"alsa\"\n",
            "t.toml:2: backend can't be \"alsa\"; write one of \"cpal\", \"file\", \"tone\", \"none\"",
        ),
        (
            "[audio]\nbackend = \"file\"\n",
            "t.toml:2: backend \"file\" has no file; add input, output or both",
        ),
        (
            "[device]\ncountry = \"Germany\"\n",
            "t.toml:2: country is not a country; write its two capital letters",
        ),
        (
            "[device]\nname = \"a\\r\\nVia: x\"\n",
            "t.toml:2: name has a line break or a control character in it; write it on one line",
        ),
        ("[emergency]\nnumbers = [\"fire\"]\n", "t.toml:2: numbers has \"fire\" in it; write digits only"),
        (
            "[limits]\ndeny = [\"^8[0-9]+\"]\n",
            "t.toml:2: deny can't be \"^8[0-9]+\"; write \"international\"",
        ),
        ("[admin]\nlisten = \":8080\"\n", "t.toml:2: listen can't be \":8080\"; write an address and a port"),
        (
            "[[admin.tokens]]\nname = \"crm\"\n",
            "t.toml:1: [[admin.tokens]] crm has no token; add token or token_file",
        ),
        (
            "[[admin.tokens]]\nname = \"crm\"\ntoken = \"short\"\n",
            "t.toml:3: the token of crm is shorter than 8 characters; write",
        ),
        (
            "[[admin.users]]\nname = \"a\"\npassword = \"12345678\"\nrole = \"root\"\n",
            "t.toml:4: role can't be \"root\"; write one of \"view\"",
        ),
        ("sip = 5\n", "t.toml:1: sip is a whole number; write [sip] with its keys below"),
        ("[[sip]]\n", "t.toml:1: sip is there as a list of tables; write [sip], once"),
        ("line = 3\n", "t.toml:1: line is a whole number; write [[line]] of tables"),
        (
            &line.replace("[[line]]", "[line]"),
            "t.toml:1: line is there as [line]; write [[line]]: there may be several",
        ),
        (
            &format!("{line}transport = \"ws\"\n"),
            "transport is \"ws\": SIP over WebSocket without TLS is not part of this version; write one of \"udp\"",
        ),
        (
            &format!("{line}transport = [\"udp\", \"udp\"]\n"),
            "t.toml:6: transport names udp twice; name each once",
        ),
        (
            &format!("{line}transport = []\n"),
            "t.toml:6: transport is empty; write \"udp\", \"tcp\", \"tls\", \"wss\", or \"auto\", or a list",
        ),
        (
            &format!("{line}outbound_proxy = [\"sip:a\", \"sip:b\", \"sip:c\"]\n"),
            "t.toml:6: outbound_proxy has 3 proxies; name 2 at most, the preferred one first",
        ),
        (
            &format!("{line}outbound_proxy = [\"sip:a\", \"a\"]\n"),
            "t.toml:6: outbound_proxy names sip:a twice; name each once",
        ),
        (
            &format!("{line}outbound_proxy = []\n"),
            "t.toml:6: outbound_proxy is empty; write a SIP URI such as",
        ),
        (
            &format!("{line}register = false\noutbound_proxy = [\"sip:a\", \"sip:b\"]\n"),
            "t.toml:7: warning: line a does not register, so it does not know when the second proxy is needed;",
        ),
        (
            &format!("{line}srtp_keys = \"dtls\"\n"),
            "t.toml:6: warning: line a encrypts nothing: srtp is \"off\"; write srtp = \"required\" or \"optional\"",
        ),
        (
            &format!("{line}srtp = \"required\"\nsrtp_keys = \"dtls\"\n"),
            "t.toml:6: warning: line a: without TLS somebody on the way can put in another fingerprint and listen;",
        ),
        (
            &format!("{line}stun = [\"stun.example.com\"]\n"),
            "t.toml:6: stun is not a key of [[line]]; it belongs in [line.nat]",
        ),
        (
            &format!("{line}[line.nat]\nurl = \"turn:t\"\n"),
            "t.toml:7: url is not a key of [line.nat]; it belongs in [[line.nat.turn]]",
        ),
        (
            &format!("{line}[line.nat]\nstun = [\"stun.example.com:0\"]\n"),
            "t.toml:7: stun can't be \"stun.example.com:0\"; write a port from 1 to 65535 behind the colon",
        ),
        (
            &format!("{line}[line.nat]\nstun = [\"s\", \"stun:s\"]\n"),
            "t.toml:7: stun names s twice; name each once",
        ),
        (
            &format!("{line}nat.stun = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n"),
            "t.toml:6: stun has 5 servers; name 4 at most, the nearest first",
        ),
        (
            &format!("{line}[line.nat]\nmode = \"off\"\nice = true\n"),
            "t.toml:8: ice has no effect with mode = \"off\"; remove one of the two",
        ),
        (
            &format!("{line}[line.nat]\nturn = [{{ url = \"turn:t\", username = \"u\" }}]\nice = true\n"),
            "t.toml:7: [[line.nat.turn]] has no password; add password or password_file",
        ),
        (
            &format!("{line}[line.nat.turn]\nurl = \"turn:t\"\nusername = \"u\"\npassword = \"p\"\n"),
            "t.toml:6: turn is there as [line.nat.turn]; write [[line.nat.turn]]: there may be several",
        ),
        (&format!("{line}codecs = [\"G729\"]\n"), "codecs is \"G729\": G.729 is not part of this version"),
        (&format!("{line}codecs = []\n"), "t.toml:6: codecs is empty; name one codec at least"),
        (
            &format!("{line}codecs = [\"PMCA\"]\n"),
            "t.toml:6: codecs can't be \"PMCA\"; did you mean \"PCMA\"?",
        ),
        (
            &format!("{line}did_header = \"X-DID:\"\n"),
            "t.toml:6: did_header is no name of a header; write it as the PBX does, without a colon",
        ),
        (
            &format!("{line}forward = \"100\"\n"),
            "t.toml:6: forward: call forwarding is not part of this version; remove it",
        ),
        (
            &format!("{line}auto_answer = \"2h\"\n"),
            "t.toml:6: auto_answer is longer than calls ring; write 60s at most",
        ),
        (
            &format!("{line}session_timer = \"60s\"\n"),
            "t.toml:6: session_timer is \"1m\", out of range; write a value from \"1m30s\" to \"1d\"",
        ),
        (
            &format!("{line}registrar = \"http://pbx\"\n"),
            "t.toml:6: registrar can't be \"http://pbx\"; a SIP URI has no //",
        ),
        (
            &format!("{line}caller_id = \"+7 495\"\n"),
            "t.toml:6: caller_id can't be \"+7 495\"; write \"show\", \"hide\" or a number",
        ),
        (
            &format!("{line}max_calls = 0\n"),
            "t.toml:6: max_calls is 0, out of range; write a value from 1 to 256",
        ),
        (
            &format!("{line}srtp = \"optional\"\n"),
            "t.toml:6: warning: line a: the keys of SRTP (SDES) travel in clear without TLS; write transport = \"tls\"",
        ),
        (&format!("{line}{line}"), "t.toml:7: there is a line a already; give each line its own name"),
        (
            &line.replace("\"1\"", "\"1@d\""),
            "t.toml:3: user has a domain in it; write user = \"1\" and domain = \"d\"",
        ),
        (
            &line.replace("\"d\"", "\"sip:d\""),
            "t.toml:4: domain can't be \"sip:d\"; leave out the scheme: \"d\"",
        ),
        (
            &line.replace("\"a\"", "\"a b\""),
            "t.toml:2: name may have 32 letters, digits, - _ . and nothing else; write for example \"ab\"",
        ),
    ] {
        let all = findings(text);
        assert!(all.iter().any(|it| it.contains(expected)), "{text}\nexpected {expected}\n{all:#?}");
        let errors = all.iter().filter(|it| !it.contains(": warning: ")).count();
        assert!(errors <= 1, "one mistake is told once: {text}\n{all:#?}");
    }
}

#[test]
fn warnings_do_not_keep_a_file_from_use() {
    let text = format!("{GOOD}srtp = \"required\"\n");
    let reading = Config::read(&text, "t.toml", &mut |_| Ok(None));
    assert_eq!(reading.config.map(|it| it.line[0].srtp), Some(Policy::Required));
    let [warning] = reading.findings.as_slice() else { panic!("{:?}", reading.findings) };
    assert_eq!((warning.severity, warning.line, warning.column), (Severity::Warning, 12, 1));
}

#[test]
fn no_number_of_warnings_hides_a_mistake() {
    let line = |name: usize, more: &str| {
        format!("[[line]]\nname = \"l{name}\"\nuser = \"{name}\"\ndomain = \"pbx.example\"\n{more}\n")
    };
    let warned: String = (0..250).map(|name| line(name, "")).collect();
    assert!(Config::parse(&warned, "t.toml").is_ok());
    for mistake in ["prot = 5060", "srtp = \"optoinal\""] {
        let text = [warned.clone(), line(250, mistake), line(251, mistake)].concat();
        let reading = Config::read(&text, "t.toml", &mut |_| Ok(None));
        assert!(reading.config.is_none(), "{mistake}");
        let told = reading.findings.iter().filter(|finding| finding.is_error()).count();
        assert!(told > 0 && reading.findings.len() <= 220, "{mistake}: {told}");
    }
}

#[test]
fn settings_of_a_line_are_what_the_file_says() {
    let config = Config::parse(GOOD, "t.toml").unwrap();
    let line = config.line("office").unwrap();
    assert_eq!(line.address(), "101@pbx.example.com");
    assert_eq!(line.transport, Transports(vec![Transport::Tls, Transport::Tcp]));
    assert_eq!(line.auto_answer, AutoAnswer::After(Duration::from_secs(2)));
    assert_eq!(line.codecs, [Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu]);
    assert_eq!(line.password.reveal(), "planted-secret");
    assert_eq!((line.enabled, line.register, line.tls_verify), (true, true, true));
}

#[test]
fn a_list_of_transports_has_a_word_for_all_of_them() {
    let transport = |value: &str| {
        let text = GOOD.replace("transport = [\"tls\", \"tcp\"]", &format!("transport = {value}"));
        let config = Config::parse(&text, "t.toml").unwrap();
        (config.line[0].transport.0.clone(), config.masked()["line"][0]["transport"].clone())
    };
    let all = vec![Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Wss];
    assert_eq!(transport("\"auto\""), (all, "auto".into()));
    assert_eq!(transport("[\"wss\", \"udp\"]").0, [Transport::Wss, Transport::Udp]);
    let url = "websocket = \"wss://edge.example:8089/ws\"\n";
    let reading = Config::read(&format!("{GOOD}{url}"), "t.toml", &mut |_| Ok(None));
    let [warning] = reading.findings.as_slice() else { panic!("{:?}", reading.findings) };
    assert!(warning.to_string().contains("line office has a websocket and does not use it"), "{warning}");
    let used = GOOD.replace("[\"tls\", \"tcp\"]", "\"wss\"");
    assert!(Config::read(&format!("{used}{url}"), "t.toml", &mut |_| Ok(None)).findings.is_empty());
}

#[test]
fn one_proxy_is_written_as_such_and_two_as_a_list() {
    let proxies = |value: &str| {
        let config = Config::parse(&format!("{GOOD}outbound_proxy = {value}\n"), "t.toml").unwrap();
        let named = config.line[0].outbound_proxy.clone().unwrap().0;
        let named: Vec<String> = named.iter().map(|proxy| proxy.as_str().to_owned()).collect();
        (named, config.masked()["line"][0]["outbound_proxy"].clone())
    };
    let one = (vec!["sip:a:5070".to_owned()], "sip:a:5070".into());
    assert_eq!((proxies("\"a:5070\""), proxies("[\"sip:a:5070\"]")), (one.clone(), one));
    let two = vec!["sip:a".to_owned(), "sips:b;lr".to_owned()];
    assert_eq!(proxies("[\"a\", \"sips:b;lr\"]"), (two.clone(), serde_json::json!(two)));
}

#[test]
fn secrets_come_from_files_and_show_nowhere() {
    let text = GOOD.replace("password = \"planted-secret\"", "password_file = \"office.password\"");
    let mut asked = Vec::new();
    let reading = Config::read(&text, "t.toml", &mut |path| {
        asked.push(path.to_owned());
        Ok(Some("planted-secret\n".into()))
    });
    assert_eq!(asked, ["office.password"]);
    let config = reading.config.unwrap();
    assert_eq!(config.line[0].password.reveal(), "planted-secret");
    for shown in [format!("{config:?}"), config.masked().to_string(), format!("{:#?}", reading.findings)] {
        assert!(!shown.contains("planted-secret"), "{shown}");
    }
    assert_eq!(config.masked()["line"][0]["password"], "***");
    assert_eq!(config.masked()["line"][0]["transport"], serde_json::json!(["tls", "tcp"]));
    assert_eq!(config.masked()["rtp"]["timeout"], "1m");

    let failed = |answer: Result<Option<String>, String>| {
        let all = Config::read(&text, "t.toml", &mut |_| answer.clone()).findings;
        all.first().map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(
        failed(Err("Permission denied".into())),
        "t.toml:9: password_file: office.password can't be read: Permission denied; make it readable for tipring"
    );
    assert!(failed(Ok(Some("\n".into()))).contains("what office.password holds is empty"));
    assert!(failed(Ok(Some("a\nb".into()))).contains("holds has a line break"));
    let both = GOOD.replace("password =", "password_file = \"x\"\npassword =");
    assert!(finding(&both).contains("password and password_file are both given; keep one of the two"));
    // A mistake in a secret, or beside it, never repeats it.
    for text in
        ["password = planted-secret", "password = [\"planted-secret\"]", "passwrod = \"planted-secret\""]
    {
        let all = findings(&GOOD.replace("password = \"planted-secret\"", text)).join("\n");
        assert!(!all.is_empty() && !all.contains("planted-secret"), "{all}");
    }
}

#[test]
fn the_way_through_nats_is_a_table_of_its_line() {
    let text = format!(
        "{GOOD}[line.nat]\nstun = [\"stun.example.com\"]\nice = true\n[[line.nat.turn]]\nurl = \"turn:t.example:443\"\n\
         username = \"u\"\npassword_file = \"turn.password\"\n[[line]]\nname = \"b\"\nuser = \"2\"\ndomain = \"d\"\n\
         password = \"p\"\n"
    );
    let reading = Config::read(&text, "t.toml", &mut |_| Ok(Some("planted-relay-secret\n".into())));
    assert_eq!(reading.findings, []);
    let config = reading.config.unwrap();
    let nat = &config.line[0].nat;
    assert_eq!((nat.mode, nat.ice, nat.stun[0].host.as_str()), (NatMode::Auto, true, "stun.example.com"));
    let [turn] = nat.turn.as_slice() else { panic!("one server") };
    let [way] = turn.url.0.as_slice() else { panic!("one way") };
    assert_eq!(way.port, Some(443));
    assert_eq!((turn.username.as_str(), turn.password.reveal()), ("u", "planted-relay-secret"));
    assert_eq!(config.line[1].nat, Nat::default(), "the next line has none of it");
    for shown in [format!("{config:?}"), config.masked().to_string()] {
        assert!(!shown.contains("planted-relay-secret"), "{shown}");
    }
    let masked = &config.masked()["line"][0]["nat"];
    assert_eq!(masked["turn"][0]["password"], "***");
    assert_eq!(masked["turn"][0]["url"], "turn:t.example:443");
    let relay_alone = text.replace("ice = true", "ice = false");
    assert_eq!(Config::read(&relay_alone, "t.toml", &mut |_| Ok(Some("p\n".into()))).findings, []);
    let with = |url: &str| {
        let text = text.replace("\"turn:t.example:443\"", url);
        Config::read(&text, "t.toml", &mut |_| Ok(Some("secret".into())))
    };
    let listed = with("['turn:t.example', 'turn:t.example?transport=tcp', 'turns:t.example:443']");
    let listed = listed.config.expect("a list of ways");
    let ways = listed.line[0].nat.turn[0].url.0.iter().map(|way| (way.port, way.transport));
    use super::TurnTransport::{Tcp, Tls, Udp};
    assert_eq!(ways.collect::<Vec<_>>(), [(None, Udp), (None, Tcp), (Some(443), Tls)]);
    let shown = &listed.masked()["line"][0]["nat"]["turn"][0]["url"];
    assert_eq!(shown[2], "turns:t.example:443", "{shown}");
    for (wrong, told) in [
        ("[]", "url is empty"),
        ("['turn:t.example', 'turn:t.example']", "names turn:t.example twice"),
        ("['turn:a', 'turn:b', 'turn:c', 'turn:d']", "has 4 ways"),
    ] {
        let findings = with(wrong).findings;
        assert!(findings.iter().any(|one| one.to_string().contains(told)), "{wrong}: {findings:?}");
    }
}

#[test]
fn a_reload_knows_which_lines_changed() {
    let old = Config::parse(
        "line = [{ name = 'a', user = '1', domain = 'd' }, { name = 'b', user = '2', domain = 'd' }, \
         { name = 'c', user = '3', domain = 'd' }]",
        "old",
    )
    .unwrap();
    let new = Config::parse(
        "line = [{ name = 'd', user = '4', domain = 'd' }, { name = 'a', user = '1', domain = 'd' }, \
         { name = 'b', user = '2', domain = 'd', dnd = true }]\nlog.level = 'debug'",
        "new",
    )
    .unwrap();
    let changes = old.changes(&new);
    assert_eq!(
        changes,
        Changes {
            added: vec!["d".into()],
            changed: vec!["b".into()],
            removed: vec!["c".into()],
            tables: vec!["log"]
        }
    );
    assert_eq!(new.changes(&new), Changes::default());
}

#[test]
fn limits_and_emergency_numbers_answer_for_themselves() {
    let config =
        Config::parse("[device]\ncountry = 'RU'\n[limits]\nallow = ['+7*', '8*', '????']\n", "t").unwrap();
    let plan = &config.number_plan();
    assert_eq!(config.limits.permits("+7 495 123-45-67", plan), Ok(()));
    assert_eq!(config.limits.permits("1001", plan), Ok(()));
    assert_eq!(config.limits.permits("88091234567", plan), Err("limits.deny"));
    assert_eq!(config.limits.permits("810493012345678", plan), Err("limits.deny"));
    assert_eq!(config.limits.permits("+493012345678", plan), Err("limits.allow"));
    for (dialled, number) in
        [("112", Some("112")), ("0112", Some("112")), ("9911", Some("911")), ("1120", None)]
    {
        assert_eq!(config.emergency.number(dialled), number, "{dialled}");
    }
}

#[test]
fn large_and_strange_files_are_refused_and_not_worked_through() {
    assert_eq!(finding(&"#".repeat(2 << 20)), "t.toml:1: the file has 2097152 bytes; keep it below 512 KiB");
    assert!(findings(&"[[line]]\n".repeat(400)).len() <= 220);
    assert!(findings(&"garbage\n".repeat(5000)).len() <= 21);
    assert!(!findings(&format!("a = {}", "[".repeat(100_000))).is_empty());
    assert!(!findings(&"a.".repeat(50_000)).is_empty());
    assert_eq!(Config::parse("\u{feff}[log]\r\nlevel = \"warn\"\r\n", "t").unwrap().log.level, Level::Warn);
}

proptest::proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_is_a_configuration_or_has_findings(text in "[\\[\\]a-z_=\"'0-9.,{}#\\n -]{0,200}") {
        match Config::parse(&text, "t.toml") {
            Ok(config) => drop(config.masked()),
            Err(findings) => {
                proptest::prop_assert!(findings.iter().any(Finding::is_error));
                let last = text.lines().count().max(1);
                for finding in findings {
                    proptest::prop_assert!((1..=last).contains(&finding.line), "{finding}");
                    proptest::prop_assert!(!finding.instead.is_empty() && finding.column > 0);
                }
            }
        }
    }

    #[test]
    fn a_damaged_example_never_panics(at in 0usize..8000, byte in 32u8..127) {
        let mut text = example_in_full().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let _ = Config::parse(&String::from_utf8(text).unwrap(), "t.toml");
    }
}

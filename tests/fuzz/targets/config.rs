//! The configuration and what it says about numbers.

use super::Target;
use tipring::config::{Config, Limits, NumberFormat, NumberPlan, NumberRule, Place, Places, Severity};
use tipring::events::Number;

pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config, seeds: FILES, dictionary: WORDS },
    Target { name: "config_routes", run: routes, seeds: ROUTES, dictionary: PATTERNS },
    Target { name: "config_numbers", run: numbers, seeds: NUMBERS, dictionary: PREFIXES },
];

/// A text is a configuration, or it has findings with a place inside it and a cure. Secrets are not shown.
fn config(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let reading = Config::read(&text, "fuzz.toml", &mut |_| Ok(Some("planted-secret".into())));
    let lines = text.split('\n').count();
    for finding in &reading.findings {
        assert!((1..=lines).contains(&finding.line) && finding.column > 0, "{finding}");
        assert!(!finding.what.is_empty() && !finding.instead.is_empty(), "{finding}");
        assert!(!finding.to_string().contains("planted-secret"), "{finding}");
        assert!(!finding.to_string().contains(['\n', '\r']), "{finding}");
    }
    let Some(config) = reading.config else {
        assert!(reading.findings.iter().any(|finding| finding.is_error()));
        return;
    };
    let places = Places::of(&text, "fuzz.toml");
    for (table, index) in [("line", 0), ("line", 1), ("line", usize::MAX), ("admin", 0), ("nowhere", 3)] {
        let at = Place { table, index, keys: &["domain", "listen"] };
        let finding = places.finding(at, Severity::Warning, "what", "cure");
        assert!((1..=lines).contains(&finding.line) && finding.column > 0, "{finding}");
    }
    assert!(!config.masked().to_string().contains("planted-secret"));
    assert!(!format!("{config:?}").contains("planted-secret"));
    assert_eq!(config.changes(&config), tipring::config::Changes::default());
}

/// A number in E.164 is one, and stays what it is; a number is itself.
fn numbers(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let limits = Limits::default();
    for country in ["RU", "US", "DE", "IT", "KZ", "BY", "XX", ""] {
        let plan = NumberPlan::of(country).in_area("495");
        let _ = limits.permits(&text, &plan);
        if let Some(number) = plan.e164(&text) {
            let digits = number.strip_prefix('+').unwrap_or_default();
            assert!(
                (7..=15).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit()),
                "{number}"
            );
            assert_eq!(plan.e164(&number).as_deref(), Some(number.as_str()));
            for format in NumberFormat::ALL {
                let written = plan.written(&number, *format).unwrap_or_default();
                assert!(written.bytes().all(|it| it.is_ascii_digit() || it == b'+'), "{written}");
            }
        }
    }
    let number = Number::new(text.as_ref());
    assert!(number.same_as(&number.clone()));
    for pattern in ["*", "+7*", "?*?", "*1*2*3*"] {
        let _ = NumberRule::Pattern(pattern.into()).matches(&number.dialled, &NumberPlan::of("RU"));
        let _ =
            NumberRule::Pattern(number.dialled.clone()).matches("+7 495 445-11-20", &NumberPlan::of("RU"));
    }
}

/// A pattern, what it makes and a number, one in each line: a rule has a cure or makes something that can be dialled.
fn routes(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let mut parts = text.splitn(3, '\n');
    let mut part = || serde_json::Value::from(parts.next().unwrap_or_default()).to_string();
    let rule = format!("[[route]]\nmatch = {}\nto = {}\n", part(), part());
    let number = text.splitn(3, '\n').nth(2).unwrap_or_default();
    let reading = Config::read(&rule, "fuzz.toml", &mut |_| Ok(None));
    let Some(config) = reading.config else {
        assert!(reading.findings.iter().any(|finding| finding.is_error() && !finding.instead.is_empty()));
        return;
    };
    if let Some(made) = config.route[0].rewritten(number) {
        assert!(!made.is_empty() && made.len() <= 64, "{made}");
    }
}

const ROUTES: &[&[u8]] = &[
    b"^8(\\d{10})$\n+7$1\n84954451120",
    b"^\\+?3?8?(0[679]3\\d{7})$\n38$1\n0731234567",
    b"(?i)^(a|b)*?c+$\n$0\nababC",
    b"^((((1?){9}){9}){9})\n$1$2$3$4\n1111111111111111111111111111111111",
];

const PATTERNS: &[&[u8]] = &[
    b"(", b")", b"|", b"*", b"+?", b"{2,9}", b"[^0-9]", b"\\d", b"$1", b"$9", b"\\b", b"(?P<a>", b"\n",
    b"\\p{L}",
];

const FILES: &[&[u8]] = &[
    b"device.timezone = \"CET-1CEST,M3.5.0,M10.5.0/3\"\n[hours]\nopen = [\"mon-fri 09:00-18:00\", \"22:00-06:00\"]\n\
      holidays = [\"01-07\", \"2026-05-09\"]\nclosed = \"refuse\"\n[blacklist]\nnumbers = [\"8 (495) 445-11-20\", \"+7*\"]\n",
    b"[[line]]\nname = \"a\"\nuser = \"1\"\ndomain = \"b\"\npassword = \"x\"\ntransport = \"auto\"\n\
      websocket = \"wss://[2001:db8::1]:8089/ws?a=%20\"\n",
    b"device.country = 'RU'\n[audio]\nbackend = \"file\"\ninput = \"a.wav\"\n[journal]\nsize = \"64MiB\"\nretention = \"7d\"\n\
      [emergency]\nnumbers = [\"112\"]\n[recording]\nenabled = true\n[admin]\nlisten = \"off\"\n",
    b"[[line]]\nname = \"office\"\nuser = \"101\"\ndomain = \"pbx.example.com\"\npassword_file = \"secret\"\n\
      transport = [\"tls\", \"tcp\"]\nsrtp = \"required\"\ncodecs = [\"opus\", \"PCMA\"]\nauto_answer = \"2s\"\n",
    b"line = [{ name = 'a', user = '1', domain = '[2001:db8::1]:5061', caller_id = 'hide', dnd = true }]\n\
      admin.tokens = [{ name = \"crm\", token_file = \"t\", role = 'operate' }]\nlog.level = \"debug\"\n",
    b"[sip]\ntrusted = [\"10.0.0.0/8\", \"2001:db8::/32\"]\nport_upd = 5060\n[rtp]\nports = \"10001-10999\"\n[sip]\n",
    b"[line.nat]\nmode = \"auto\"\n[upstream]\n[limits]\ndeny = [\"international\", \"+7*\"]\nmax_duration = \"1h30m\"\n",
];

const WORDS: &[&[u8]] = &[
    b"[[line]]\n",
    b"[[sip]]\n",
    b"[sip]\n",
    b"[line]\n",
    b"\"\"\"",
    b"'''",
    b" = ",
    b"\"30s\"",
    b"\"64KiB\"",
    b"\"18446744073709551616d\"",
    b"9223372036854775807",
    b"-1",
    b"1979-05-27",
    b"{ a = [",
    b"\\u0000",
    b"password = ",
    b"password_file = ",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"port_udp",
    b"sip:a@b;c",
];

const NUMBERS: &[&[u8]] = &[
    b"+7 (495) 445-11-20",
    b"84954451120",
    b"0049 30 123456",
    b"810493012345678",
    b"101",
    b"12345*106",
    b"anna",
];

const PREFIXES: &[&[u8]] =
    &[b"+", b"00", b"810", b"011", b"8", b"0", b"9", b" ", b"-", b"(", b")", b"*", b"\xc2\xa0"];

//! Bad input by SIP while a call goes on: floods, scanners, garbage, lies about lengths, connections that say nothing.
//!
//! Each test talks to Asterisk's 1004 Hz and is attacked meanwhile, by a stranger or from the PBX's own address. After
//! it both sides must have heard each other all the time, the process must not have grown past a bound, and the next
//! call must ring.

use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use serde_json::{Value, json};

use crate::asterisk::Asterisk;
use crate::attack::{Usage, Watch, Wire, allow_descriptors, answer, connect, field, paced, request, sdp};
use crate::friendly::stage;
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};

const PBX: &str = "203.0.113.10";
const PHONE: &str = "203.0.113.50:5060";
/// What a flood may cost in memory, in KiB.
const GROWTH: i64 = 16 * 1024;

/// A phone that talks, and its enemies.
pub struct Siege {
    _lab: Lab,
    pub asterisk: Asterisk,
    pub phone: Phone,
    pub stranger: Host,
    /// 203.0.113.30, a server that some tests trust with a second line.
    pub other: Host,
    call: String,
    begun: Instant,
    before: Usage,
    watch: Option<Watch>,
}

impl Siege {
    /// In a call with 1004 Hz, since some time.
    pub fn begin(what: &str, keys: &str) -> Option<Siege> {
        let (lab, mut asterisk, host) = stage(what)?;
        let (stranger, other) = (lab.host("stranger", 66), lab.host("other", 30));
        let setup = Setup::new("1001", PBX).line(r#"codecs = ["PCMU"]"#).line(keys);
        let phone = setup.start(&lab, &host);
        asterisk.registered("1001");
        let call = phone.call("603");
        phone.wait_event("call.media");
        let begun = Instant::now();
        sleep(Duration::from_millis(500));
        let before = Usage::of(phone.pid());
        let watch = Some(Watch::over(phone.pid()));
        Some(Siege { _lab: lab, asterisk, phone, stranger, other, call, begun, before, watch })
    }

    /// How often the phone says it has dropped something for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        let status = self.phone.get("/api/v1/status");
        status["dropped"][reason].as_u64().unwrap_or_else(|| panic!("no counter {reason} in {status}"))
    }

    /// The attack is over: everything that must still be true.
    pub fn survived(mut self, what: &str) {
        sleep(Duration::from_millis(300));
        self.phone.act(&self.call, "hangup");
        self.was_heard(what);
        self.is_called_again();
    }

    /// The call is ending: both have heard each other until now, and the attack has cost little.
    fn was_heard(&mut self, what: &str) -> Usage {
        let talked = self.begun.elapsed().as_secs_f64();
        let most = self.watch.take().expect("a watch").most();
        let ours = |event: &Value| event["subject"] == self.call.as_str();
        let closed = self.phone.wait_event_that("call.closed", "of ours", Duration::from_secs(10), ours);
        assert_eq!(closed["data"]["result"], "answered", "{closed}");
        self.asterisk.idle();
        let (here, there) = (self.phone.heard(), self.asterisk.recording("heard.wav"));
        let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
        let (gap, before) = (here.longest_gap_in(1004.0), self.before);
        println!(
            "{what}: heard {heard:.1}, said {said:.1} of {talked:.1} s, gap {gap}; {before:?}, then {most:?}"
        );
        assert!(heard > talked - 0.6, "in {talked:.1} s of {what} 1004 Hz was heard for {heard:.1} s");
        assert!(said > talked - 0.6, "in {talked:.1} s of {what} Asterisk heard 440 Hz for {said:.1} s");
        assert!(gap < 0.2, "a gap of {gap} s in what was heard");
        assert!(most.memory < before.memory + GROWTH, "memory: {before:?} grew to {most:?}");
        assert!(most.descriptors < before.descriptors + 150, "{before:?} grew to {most:?}");
        assert_eq!(most.threads, before.threads);
        most
    }

    /// The phone takes the next call.
    fn is_called_again(&mut self) {
        self.asterisk.call("1001", "603");
        let of_asterisk = |event: &Value| event["data"].to_string().contains("5550123");
        let limit = Duration::from_secs(15);
        let ringing = self.phone.wait_event_that("call.ringing", "of Asterisk", limit, of_asterisk);
        self.phone.act(ringing["subject"].as_str().expect("an id"), "answer");
        self.phone.wait_event("call.media");
    }
}

#[test]
fn a_scanner_and_its_floods_get_no_answer() {
    let Some(siege) = Siege::begin("floods of a stranger", "") else { return };
    let wire = Wire::open(&siege.stranger, 5060);
    let from = wire.address;
    let offer = sdp("203.0.113.66", 4000);
    let challenge = "WWW-Authenticate: Digest realm=\"asterisk\", nonce=\"n\", algorithm=MD5\r\n";
    let sent = 30_000;
    paced(sent, Duration::from_secs(3), |number| {
        let text = match number % 6 {
            0 | 1 => request("INVITE", number, from, PHONE, "", &offer),
            2 => request("OPTIONS", number, from, PHONE, "", ""),
            3 => request("REGISTER", number, from, PHONE, "", ""),
            4 => answer(&request("REGISTER", number, from, PHONE, "", ""), "401 Unauthorized", challenge, ""),
            _ => answer(&request("INVITE", number, from, PHONE, "", ""), "200 OK", "", &offer),
        };
        wire.send(PHONE, text.as_bytes());
    });
    let garbage = vec![0xA5; 65_000];
    paced(300, Duration::from_secs(1), |number| {
        // All of it noise; or noise behind a first line of SIP.
        let mut bytes = garbage.clone();
        if number % 2 == 0 {
            let start = request("INVITE", number, from, PHONE, "", "");
            bytes[..start.len()].copy_from_slice(start.as_bytes());
        }
        wire.send(PHONE, &bytes);
    });
    sleep(Duration::from_millis(300));
    assert_eq!(wire.all(Duration::from_millis(100)), Vec::<String>::new(), "a stranger was answered");
    // What the kernel itself had to drop is not counted.
    assert!(siege.dropped("untrusted") > 10_000, "{}", siege.dropped("untrusted"));
    assert!(siege.dropped("stray_responses") > 5_000, "{}", siege.dropped("stray_responses"));
    assert!(siege.dropped("unreadable") > 100, "{}", siege.dropped("unreadable"));
    assert_eq!(siege.phone.count("call.new"), 1, "{}", siege.phone.story());
    siege.survived("floods of a stranger");
}

/// Messages that cost more to read than to send: the next one is always there already.
#[test]
fn a_flood_that_never_pauses_does_not_lock_the_owner_out() {
    let Some(lab) = Lab::new("a flood without pause", &[]) else { return };
    let host = lab.host("phone", 50);
    let mut phone = Setup::new("1001", PBX).line("register = false").start(&lab, &host);
    let over = &AtomicBool::new(false);
    let wire = Wire::open(&host, 0);
    let text = request("INVITE", 1, wire.address, PHONE, &"X: y\r\n".repeat(170), "");
    // Of the process only its first thread, which is the control thread, shares no processor with the flood.
    keep_to(Pid::from_raw(i32::try_from(phone.pid()).expect("a number")), 0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            keep_to(None, 1);
            while !over.load(Ordering::Relaxed) {
                wire.send(PHONE, text.as_bytes());
            }
        });
        sleep(Duration::from_millis(300));
        let answered = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let dropped = || phone.get("/api/v1/status")["dropped"]["unreadable"].as_u64().expect("a number");
            let asked: Vec<u64> = (0..10).map(|_| dropped()).collect();
            (asked, phone.stop())
        }));
        over.store(true, Ordering::Relaxed);
        let (asked, code) = answered.expect("the API answers during a flood");
        assert_eq!(code, Some(0), "TERM ends it in order");
        let waited = asked.windows(2).map(|pair| pair[1] - pair[0]).max().expect("answers");
        assert!(waited < 20_000, "a question waited for {waited} datagrams: {asked:?}");
    });
}

fn keep_to(thread: Option<Pid>, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor % std::thread::available_parallelism().map_or(1, |count| count.get()));
    sched_setaffinity(thread, &set).expect("the processor");
}

/// A PBX gone mad: calls by the thousand that it does not acknowledge, and requests of every kind.
#[test]
fn a_flood_of_the_pbx_itself_is_bounded() {
    let Some(mut siege) = Siege::begin("floods of the PBX", "") else { return };
    let wire = Wire::open(&siege.asterisk.host, 5099);
    let from = wire.address;
    let offer = sdp(PBX, 4000);
    let large = format!("{offer}{}", "a=x:yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(200));
    let invite = |number, body: &str| request("INVITE", number, from, PHONE, "", body);
    let any = |number: u32| match number % 4 {
        0 => invite(number, &offer),
        1 => invite(number, &large),
        2 => request("OPTIONS", number, from, PHONE, "", ""),
        _ => answer(&request("REGISTER", number, from, PHONE, "", ""), "200 OK", "", ""),
    };
    let mut refused = Vec::new();
    paced(6_000, Duration::from_secs(3), |number| {
        wire.send(PHONE, any(number).as_bytes());
        refused.extend(wire.waiting().into_iter().filter(|text| text.starts_with("SIP/2.0 486")));
    });
    assert!(refused.len() > 200, "{} were told that the line is busy", refused.len());
    assert!(siege.dropped("overflow") > 500, "{}", siege.dropped("overflow"));
    assert_eq!(siege.dropped("untrusted"), 0);
    let calls = siege.phone.get("/api/v1/calls");
    let calls = calls["calls"].as_array().expect("calls");
    assert!(calls.len() <= 8, "{} calls at once on a line of eight", calls.len());
    // There is no room for another request, and yet the PBX can end the call.
    siege.asterisk.command("channel request hangup all");
    let most = siege.was_heard("floods of the PBX");
    for call in calls.iter().filter(|call| call["state"] == "ringing") {
        siege.phone.act(call["id"].as_str().expect("an id"), "reject");
    }
    refused.extend(wire.all(Duration::from_millis(300)));
    for text in refused.iter().filter(|text| text.starts_with("SIP/2.0 4") && text.contains("INVITE")) {
        let via = field(text, "Via:").replace(";received=203.0.113.10", "");
        let cseq = field(text, "CSeq:").replace("INVITE", "ACK");
        let fields =
            [&via, field(text, "From:"), field(text, "To:"), field(text, "Call-ID:"), &cseq].join("\r\n");
        let ack = format!("ACK sip:1001@{PHONE} SIP/2.0\r\n{fields}\r\nContent-Length: 0\r\n\r\n");
        wire.send(PHONE, ack.as_bytes());
    }
    siege.is_called_again();
    // Another flood finds the memory of the first one free again.
    paced(4_000, Duration::from_secs(1), |number| wire.send(PHONE, any(10_000 + number).as_bytes()));
    let now = Usage::of(siege.phone.pid());
    assert!(now.memory < most.memory + 2048, "the first flood left {most:?}, the second {now:?}");
}

/// What ends a connection that sends this: true if the phone closed it, and what it had to say before.
fn told_off(host: &Host, sent: &[u8]) -> (bool, String) {
    let mut stream = host.enter(|| connect(PHONE)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a time limit");
    // The phone may close before it has read everything.
    let _ = stream.write_all(sent);
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (true, String::from_utf8_lossy(&said).into_owned()),
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) => {
                let closed = error.kind() == std::io::ErrorKind::ConnectionReset;
                return (closed, String::from_utf8_lossy(&said).into_owned());
            }
        }
    }
}

#[test]
fn lies_about_lengths_and_garbage_end_their_connection_only() {
    let Some(siege) = Siege::begin("lies on TCP", "") else { return };
    let pbx = &siege.asterisk.host;
    let from = "203.0.113.10:5090".parse().expect("an address");
    let options = |number: u32, length: &str| {
        let text = request("OPTIONS", number, from, PHONE, "", "");
        text.replace("/UDP", "/TCP").replace("Content-Length: 0\r\n", length)
    };
    let honest = options(1, "Content-Length: 0\r\n");
    let (_, said) =
        told_off(pbx, format!("{honest}{}", options(2, "Content-Length: 4294967297\r\n")).as_bytes());
    assert!(said.starts_with("SIP/2.0 200"), "the honest one before the lie is answered: {said}");
    let lies = [
        "Content-Length: -1\r\n",
        "Content-Length: 99999999\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 0x10\r\n",
        "Content-Length: 0\r\nContent-Length: 20\r\n",
        "Content-Length: 5\r\nl: 6\r\n",
        "",
    ];
    for (number, lie) in lies.iter().enumerate() {
        let text = options(10 + number as u32, lie);
        let (closed, said) = told_off(pbx, text.as_bytes());
        assert!(closed, "{lie:?} leaves the connection open: {said}");
        let refused = ["SIP/2.0 400", "SIP/2.0 513"].iter().any(|start| said.starts_with(start));
        assert!(said.is_empty() || refused, "{lie:?}: {said}");
    }
    // Too short: what is left over is no message. Too long: the next message is eaten, and one more comes through.
    let (closed, said) = told_off(
        pbx,
        options(30, "Content-Length: 2\r\n").replace("\r\n\r\n", "\r\n\r\nv=0\r\n\r\n").as_bytes(),
    );
    assert!(closed, "{said}");
    let eaten = options(31, "Content-Length: 0\r\n");
    let long = options(32, &format!("Content-Length: {}\r\n", eaten.len()));
    let after = options(33, "Content-Length: 0\r\n");
    let (_, said) = told_off(pbx, format!("{long}{eaten}{after}").as_bytes());
    assert!(said.contains("OPTIONS-33@") && !said.contains("OPTIONS-31@"), "{said}");
    // Noise, a head without end, a line without end.
    let start = options(40, "");
    let start = start.trim_end();
    for noise in [
        vec![0xA5; 65_536],
        format!("{start}\r\n{}", "X-Y: zzzzzzzzzzzzzzzzzzzzzzzzz\r\n".repeat(3000)).into_bytes(),
        format!("{start}\r\nX-Y: {}", "z".repeat(100_000)).into_bytes(),
    ] {
        let (closed, said) = told_off(pbx, &noise);
        assert!(closed, "noise leaves the connection open: {said}");
    }
    assert!(siege.dropped("unreadable") >= 11, "{}", siege.dropped("unreadable"));
    siege.survived("lies on TCP");
}

#[test]
fn ten_thousand_connections_that_say_nothing() {
    let Some(siege) = Siege::begin("half-open connections", "") else { return };
    allow_descriptors(11_000);
    let rounds = [
        (&siege.stranger, 5_000, ""),
        (&siege.asterisk.host, 5_000, "OPTIONS sip:1001@203.0.113.50 SIP/2.0\r\nVia: "),
    ];
    let mut held = Vec::new();
    for (host, count, said) in rounds {
        held.extend(host.enter(|| {
            let mut open = Vec::new();
            // Slower than the listener's queue is emptied: a full one makes the next connection wait for a second.
            paced(count, Duration::from_secs(2), |_| {
                open.extend(connect(PHONE));
                let _ = open.last_mut().map(|stream| stream.write_all(said.as_bytes()));
            });
            open
        }));
    }
    assert!(held.len() > 9_900, "{} connections", held.len());
    assert!(siege.dropped("refused_connections") > 9_000, "{}", siege.dropped("refused_connections"));
    siege.survived("half-open connections");
    drop(held);
}

/// A second line, at a server that means harm.
const SECOND_LINE: &str = "[[line]]\nname = \"second\"\nuser = \"1001\"\npassword = \"pw1001\"\ndomain = \"203.0.113.30\"\nregister = false";

/// Session descriptions that cost more than they say; true: one that must be refused.
fn bombs() -> Vec<(&'static str, String, bool)> {
    let plain = sdp("203.0.113.30", 4000);
    let mut kind = "application/sdp".to_owned();
    let nested = (0..60).fold(plain.clone(), |inner, depth| {
        let outer = format!("--b{depth}\r\nContent-Type: {kind}\r\n\r\n{inner}\r\n--b{depth}--\r\n");
        kind = format!("multipart/mixed;boundary=b{depth}");
        outer
    });
    let crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n";
    vec![
        ("media", format!("{plain}{}", "m=audio 4002 RTP/AVP 0\r\n".repeat(2000)), true),
        ("attributes", format!("{plain}{}", "a=rtpmap:96 x/1\r\n".repeat(3000)), true),
        ("formats", plain.replace("AVP 0", &format!("AVP 0{}", " 99".repeat(9000))), true),
        ("line", format!("{plain}a={}\r\n", "x".repeat(60_000)), true),
        ("keys", format!("{plain}{}", crypto.repeat(600)), true),
        ("parts", nested, true),
        ("zeros", format!("{plain}{}", "\0".repeat(50_000)), true),
        ("port", plain.replace("m=audio 4000", "m=audio 99999"), true),
        ("ports", plain.replace("m=audio 4000", "m=audio 4000/4294967296"), true),
        ("clock", format!("{plain}a=rtpmap:0 PCMU/4294967296/4294967296\r\n"), false),
        ("packet", format!("{plain}a=ptime:4294967296\r\na=maxptime:0\r\n"), false),
    ]
}

#[test]
fn session_descriptions_that_explode_are_refused() {
    let Some(siege) = Siege::begin("SDP bombs", SECOND_LINE) else { return };
    let wire = Wire::open(&siege.other, 5060);
    for (number, (name, body, refuse)) in bombs().into_iter().enumerate() {
        let number = number as u32;
        let mut text = request("INVITE", number, wire.address, PHONE, "", &body);
        if name == "parts" {
            text = text.replace("application/sdp", "multipart/mixed;boundary=b59");
        }
        wire.send(PHONE, text.as_bytes());
        let first = wire.expect("SIP/2.0", &format!("INVITE-{number}@"));
        assert!(!refuse || first.starts_with("SIP/2.0 4"), "a bomb of {name}: {first}");
        let calls = siege.phone.get("/api/v1/calls");
        for call in calls["calls"].as_array().expect("calls").iter().filter(|call| call["state"] == "ringing")
        {
            assert!(!refuse, "a bomb of {name} rings");
            siege.phone.act(call["id"].as_str().expect("an id"), "reject");
        }
        // The same as the answer to a call of ours: acknowledged, and ended where it is of no use.
        let call = siege.phone.post("/api/v1/calls", &json!({ "to": "2000", "line": "second" }));
        let invite = wire.expect("INVITE", "sip:2000@");
        let contact = format!("Contact: <sip:2000@{}>\r\n", wire.address);
        let mut text = answer(&invite, "200 OK", &contact, &body);
        if name == "parts" {
            text = text.replace("application/sdp", "multipart/mixed;boundary=b59");
        }
        wire.send(PHONE, text.as_bytes());
        let id = field(&invite, "Call-ID:");
        wire.expect("ACK", id);
        if !refuse {
            siege.phone.act(call["id"].as_str().expect("an id"), "hangup");
        }
        let bye = wire.expect("BYE", id);
        wire.send(PHONE, answer(&bye, "200 OK", "", "").as_bytes());
    }
    siege.survived("SDP bombs");
}

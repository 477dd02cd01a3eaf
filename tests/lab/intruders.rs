//! Bad RTP and third parties: what is not of the call is neither heard nor listened to, and no stranger is told a digest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attack::{Usage, Watch, Wire, answer, field, paced};
use crate::netns::{Host, Lab};
use crate::phone::{Phone, Setup};
use crate::speaker::{Speaker, frames, packet};

const PEER: &str = "203.0.113.30";
const PHONE: &str = "203.0.113.50:5060";

/// A phone whose server is played by the test, and a stranger.
struct Stage {
    _lab: Lab,
    peer: Host,
    stranger: Host,
    host: Host,
    phone: Phone,
    wire: Wire,
}

fn stage(what: &str, keys: &str) -> Option<Stage> {
    let lab = Lab::new(what, &[])?;
    let (host, peer, stranger) = (lab.host("phone", 50), lab.host("peer", 30), lab.host("stranger", 66));
    let wire = Wire::open(&peer, 5060);
    let setup = Setup::new("1001", PEER)
        .table("[[admin.tokens]]\nname = \"crm\"\ntoken = \"planted-token-0123456789\"\nrole = \"admin\"")
        .line("register = false")
        .line(r#"codecs = ["PCMU"]"#)
        .line(keys);
    let phone = setup.start(&lab, &host);
    Some(Stage { _lab: lab, peer, stranger, host, phone, wire })
}

impl Stage {
    /// A call to the peer, who speaks 1004 Hz.
    fn call(&self) -> (String, Speaker) {
        let call = self.phone.call("2000");
        let contact = format!("sip:2000@{PEER}:5060");
        let speaker = Speaker::answers(&self.peer, &self.wire, PHONE, &contact, 1004.0);
        self.phone.wait_event("call.media");
        (call, speaker)
    }

    /// Ends the call by hand.
    fn end(&self, call: &str, speaker: &Speaker) -> Value {
        self.phone.act(call, "hangup");
        let bye = self.wire.expect("BYE", field(&speaker.invite, "Call-ID:"));
        self.wire.send(PHONE, answer(&bye, "200 OK", "", "").as_bytes());
        self.phone.closed()
    }
}

/// Packets that are almost RTP or RTCP.
fn malformed() -> Vec<Vec<u8>> {
    let good = packet(*b"good", 77, &[0xD5; 160]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let rtcp = |kind: u8, words: u16, rest: &[u8]| {
        let mut bytes = vec![0x81, kind];
        bytes.extend(words.to_be_bytes());
        bytes.extend(rest);
        bytes
    };
    vec![
        Vec::new(),
        vec![0x80],
        vec![0x80; 11],
        with(&|b| b[0] = 0x40),
        with(&|b| b[0] = 0xC0),
        // Fifteen contributing sources that are not there; an extension that is longer than the packet, or cut off.
        with(&|b| {
            b[0] = 0x8F;
            b.truncate(40);
        }),
        with(&|b| {
            b[0] = 0x90;
            b[14..16].copy_from_slice(&[0xFF, 0xFF]);
        }),
        with(&|b| {
            b[0] = 0x90;
            b.truncate(14);
        }),
        // More padding than packet.
        with(&|b| {
            b[0] = 0xA0;
            *b.last_mut().expect("a payload") = 255;
        }),
        // Nobody has agreed on this payload type.
        with(&|b| b[1] = 99),
        vec![0xFF; 1400],
        vec![0; 1400],
        rtcp(200, 6, &[0xEE; 4]),
        rtcp(200, 0xFFFF, &[0xEE; 1200]),
        rtcp(202, 5, &[b'x'; 20]),
        rtcp(203, 1, b"else"),
        rtcp(207, 10, &[7; 40]),
        rtcp(204, 250, &[1; 1000]),
    ]
}

#[test]
fn bad_rtp_costs_nothing_and_is_not_heard() {
    let Some(stage) = stage("bad RTP", "") else { return };
    let (call, speaker) = stage.call();
    let begun = Instant::now();
    sleep(Duration::from_millis(500));
    let before = Usage::of(stage.phone.pid());
    let watch = Watch::over(stage.phone.pid());
    let strange = stage.stranger.enter(|| UdpSocket::bind("203.0.113.66:4000").expect("a socket"));
    let control = SocketAddr::new(speaker.phone.ip(), speaker.phone.port() + 1);
    let bad = malformed();
    let evil = frames(2000.0);
    // From the peer's own address; and from a stranger who knows source, numbers and codec.
    paced(12_000, Duration::from_secs(3), |number| {
        let bytes = &bad[number as usize % bad.len()];
        let to = if number % 3 == 0 { control } else { speaker.phone };
        let _ = match number % 2 {
            0 => speaker.rtp.send_to(bytes, to),
            _ => strange.send_to(bytes, to),
        };
        let frame = &evil[number as usize % evil.len()];
        let ssrc = if number % 4 < 2 { *b"good" } else { *b"evil" };
        let _ = strange.send_to(&packet(ssrc, 25 + number / 80, frame), speaker.phone);
    });
    sleep(Duration::from_millis(300));
    let (talked, most) = (begun.elapsed().as_secs_f64(), watch.most());
    let closed = stage.end(&call, &speaker);
    let (here, there) = (stage.phone.heard(), speaker.heard());
    let (heard, said) = (here.seconds_of(1004.0), there.seconds_of(440.0));
    assert!(heard > talked - 0.6, "in {talked:.1} s 1004 Hz was heard for {heard:.1} s");
    assert!(said > talked - 0.6, "in {talked:.1} s the peer heard 440 Hz for {said:.1} s");
    assert!(here.longest_gap_in(1004.0) < 0.1, "a gap of {} s", here.longest_gap_in(1004.0));
    assert!(here.seconds_of(2000.0) < 0.05, "the stranger was heard for {} s", here.seconds_of(2000.0));
    assert!(most.memory < before.memory + 2048, "memory: {before:?} grew to {most:?}");
    // The test itself asks the API: a connection of its own may be open at either moment.
    let grown = most.descriptors.saturating_sub(before.descriptors);
    assert!(grown <= 2 && most.threads == before.threads, "{before:?} grew to {most:?}");
    let dropped = stage.phone.get("/api/v1/status")["dropped"]["rtp"].as_u64().expect("a number");
    assert!(dropped > 15_000, "{dropped} bad packets are counted; {closed}");
    strange.set_nonblocking(true).expect("a mode");
    assert!(strange.recv(&mut [0; 2000]).is_err(), "something was sent to a stranger");
}

/// The peer says nothing for a while, and somebody else goes on at its place.
#[test]
fn a_third_party_does_not_inherit_a_stream() {
    let Some(stage) = stage("a stolen stream", "") else { return };
    let (call, speaker) = stage.call();
    let strange = stage.stranger.enter(|| UdpSocket::bind("203.0.113.66:4000").expect("a socket"));
    let evil = frames(2000.0);
    let speaks = |number: u32| {
        let frame = &evil[number as usize % evil.len()];
        let _ = strange.send_to(&packet(*b"evil", number, frame), speaker.phone);
    };
    paced(50, Duration::from_secs(1), speaks);
    speaker.falls_silent(true);
    paced(125, Duration::from_millis(2500), |number| speaks(50 + number));
    speaker.falls_silent(false);
    paced(50, Duration::from_secs(1), |number| speaks(175 + number));
    stage.end(&call, &speaker);
    let (here, there) = (stage.phone.heard(), speaker.heard());
    assert!(here.seconds_of(2000.0) < 0.05, "the stranger was heard for {} s", here.seconds_of(2000.0));
    assert!(here.seconds_of(1004.0) > 1.4, "the peer was heard for {} s", here.seconds_of(1004.0));
    assert!(there.seconds_of(440.0) > 4.0, "the peer heard {} s", there.seconds_of(440.0));
    strange.set_nonblocking(true).expect("a mode");
    assert!(strange.recv(&mut [0; 2000]).is_err(), "the stranger was sent what was for the peer");
}

const CHALLENGE: &str = "Digest realm=\"203.0.113.30\", nonce=\"abcdef\", algorithm=MD5, qop=\"auth\"";

/// The server's own challenge is answered; a stranger in whose hands the call comes gets nothing to guess on.
#[test]
fn no_stranger_is_told_a_digest() {
    let Some(stage) = stage("a digest for a stranger", "") else { return };
    let strange = Wire::open(&stage.stranger, 5060);
    let from_server = |answer: String| stage.wire.send(PHONE, answer.as_bytes());
    let from_stranger = |answer: String| strange.send(PHONE, answer.as_bytes());
    let www = format!("WWW-Authenticate: {CHALLENGE}\r\n");
    let proxy = format!("Proxy-Authenticate: {CHALLENGE}\r\n");
    let mut said = Vec::new();

    // The server challenges, as it may. Then the call turns out to be with the stranger, who challenges whatever comes.
    let call = stage.phone.call("2000");
    let invite = stage.wire.expect("INVITE", "");
    from_server(answer(&invite, "407 Proxy Authentication Required", &proxy, ""));
    let invite = stage.wire.expect("INVITE", "Proxy-Authorization: Digest");
    assert!(invite.contains("response="), "the server's own challenge is answered: {invite}");
    let sdp = crate::attack::sdp(PEER, 4000);
    from_server(answer(&invite, "200 OK", "Contact: <sip:2000@203.0.113.66:5060>\r\n", &sdp));
    said.push(strange.expect("ACK", ""));
    stage.phone.try_post(&format!("/api/v1/calls/{call}/hold"), &json!({}));
    let hold = strange.expect("INVITE", "a=sendonly");
    from_stranger(answer(&hold, "401 Unauthorized", &www, ""));
    said.extend([hold, strange.expect("ACK", "CSeq: ")]);
    stage.phone.act(&call, "hangup");
    let bye = strange.expect("BYE", "");
    from_stranger(answer(&bye, "407 Proxy Authentication Required", &proxy, ""));
    said.push(bye);
    said.extend(strange.all(Duration::from_millis(300)));
    stage.phone.closed();

    // The stranger has seen a request to the server, and answers in its place.
    stage.phone.call("2002");
    let invite = stage.wire.expect("INVITE", "sip:2002@");
    let forged = answer(&invite, "401 Unauthorized", &www.replace("abcdef", "forged"), "");
    from_stranger(forged);
    let told = stage.wire.all(Duration::from_millis(700));
    assert!(
        !told.iter().any(|text| text.contains("nonce=\"forged\"")),
        "a forged challenge is answered: {told:?}"
    );
    assert_eq!(
        stage.phone.get("/api/v1/status")["calls"].as_array().map(Vec::len),
        Some(1),
        "the call goes on"
    );
    from_server(answer(&invite, "486 Busy Here", "", ""));
    assert_eq!(stage.phone.closed()["result"], "busy");

    said.extend(strange.all(Duration::from_millis(300)));
    for text in &said {
        assert!(!text.contains("uthorization") && !text.contains("response="), "a stranger was told: {text}");
    }
    let unanswered = stage.phone.get("/api/v1/status")["dropped"]["unanswered_challenges"].as_u64();
    assert!(unanswered.is_some_and(|count| count >= 1), "{unanswered:?}");
}

/// What the API in the network says to these bytes.
fn http(stage: &Stage, head: &str, body: &str) -> String {
    let mut stream = stage.host.enter(|| TcpStream::connect("127.0.0.1:8080")).expect("the API listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let length = body.len();
    write!(stream, "{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").expect("sending");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    said
}

/// Everything that a page in a browser on this machine can send, with and without the token that it should not have.
#[test]
fn a_web_page_does_not_dial() {
    let Some(stage) = stage("a web page", "") else { return };
    let post = "POST /api/v1/calls HTTP/1.1\r\n";
    let host = "Host: 127.0.0.1:8080\r\n";
    let token = "Authorization: Bearer planted-token-0123456789\r\n";
    let json_type = "Content-Type: application/json\r\n";
    let dial = r#"{"to": "2000"}"#;
    let refused = [
        ("no token", format!("{post}{host}{json_type}"), "401"),
        ("a wrong token", format!("{post}{host}{json_type}Authorization: Bearer guess\r\n"), "401"),
        ("a cookie", format!("{post}{host}{json_type}Cookie: token=planted-token-0123456789\r\n"), "401"),
        ("another site", format!("{post}{host}{json_type}{token}Origin: https://evil.example\r\n"), "403"),
        ("a file or sandbox", format!("{post}{host}{json_type}{token}Origin: null\r\n"), "403"),
        ("a name bound again", format!("{post}Host: evil.example:8080\r\n{json_type}{token}"), "403"),
        ("two hosts", format!("{post}{host}Host: evil.example\r\n{json_type}{token}"), "40"),
        ("no host", format!("{post}{json_type}{token}"), "40"),
        ("a form", format!("{post}{host}{token}Content-Type: text/plain\r\n"), "415"),
        ("a form of parts", format!("{post}{host}{token}Content-Type: multipart/form-data\r\n"), "415"),
        ("no type", format!("{post}{host}{token}"), "415"),
        ("an image", format!("GET /api/v1/calls?to=2000 HTTP/1.1\r\n{host}"), "401"),
    ];
    for (what, head, status) in refused {
        let said = http(&stage, &head, dial);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {said}");
        assert!(!said.to_lowercase().contains("access-control-allow"), "{what}: {said}");
    }
    let preflight = "OPTIONS /api/v1/calls HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: https://evil.example\r\n\
                     Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n";
    let said = http(&stage, preflight, "");
    assert!(
        !said.starts_with("HTTP/1.1 2") && !said.to_lowercase().contains("access-control-allow"),
        "{said}"
    );
    assert_eq!(stage.phone.count("call.new"), 0, "{}", stage.phone.story());
    assert!(stage.phone.count("auth.failed") >= 1, "{}", stage.phone.story());
    // Who has the token and comes by the right way does.
    let said = http(&stage, &format!("{post}{host}{json_type}{token}"), dial);
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    stage.wire.expect("INVITE", "sip:2000@");
}

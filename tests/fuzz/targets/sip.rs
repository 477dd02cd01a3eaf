//! The parsers of SIP.

use super::Target;
use tipring::chance::Chance;
use tipring::now::Now;
use tipring::sip::alert_info::answer_after;
use tipring::sip::auth::AuthenticationInfo;
use tipring::sip::call::transfer::status_line;
use tipring::sip::digest::{Question, answer, strongest, verify};
use tipring::sip::event_package::{EventPackage, SubscriptionState};
use tipring::sip::fault::Unreadable;
use tipring::sip::fields::{FieldValue, Fields};
use tipring::sip::framer::{Frame, Framer};
use tipring::sip::media_type::{MediaType, accepts};
use tipring::sip::message::Message;
use tipring::sip::message_summary::{MAX_BODY, MessageSummary};
use tipring::sip::name_addr::{MAX_ADDRESSES, NameAddr};
use tipring::sip::privacy::Privacy;
use tipring::sip::rack::{RAck, RSeq};
use tipring::sip::reader::{MAX_LINE, read_datagram};
use tipring::sip::reason::Reason;
use tipring::sip::redirection::Redirection;
use tipring::sip::reflection::{Reflected, Reflection};
use tipring::sip::replaces::Replaces;
use tipring::sip::retry_after::RetryAfter;
use tipring::sip::session_expires::{MinSe, SessionExpires};
use tipring::sip::uri::Uri;
use tipring::sip::via::Via;

pub const TARGETS: &[Target] = &[
    Target { name: "sip_datagram", run: datagram, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "sip_reflection", run: reflection, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "sip_stream", run: stream, seeds: STREAMS, dictionary: WORDS },
    Target { name: "sip_websocket", run: websocket, seeds: MESSAGES, dictionary: WORDS },
    Target { name: "sip_uri", run: uri, seeds: URIS, dictionary: WORDS },
    Target { name: "sip_name_addr", run: name_addr, seeds: ADDRESSES, dictionary: WORDS },
    Target { name: "sip_via", run: via, seeds: VIAS, dictionary: WORDS },
    Target { name: "sip_auth", run: auth, seeds: CHALLENGES, dictionary: WORDS },
    Target { name: "sip_message_summary", run: message_summary, seeds: SUMMARIES, dictionary: SUMMARY_WORDS },
    Target { name: "sip_fragment", run: fragment, seeds: FRAGMENTS, dictionary: WORDS },
    Target { name: "sip_redirection", run: redirection, seeds: REDIRECTIONS, dictionary: WORDS },
    Target { name: "sip_typed_fields", run: typed_fields, seeds: VALUES, dictionary: WORDS },
];

/// What was read is written and read back as it was; an answer is a message too, as far as the request was
/// one.
fn datagram(octets: &[u8]) {
    match read_datagram(octets) {
        Ok(Some(message)) => {
            is_stable(&message);
            read_fields(message.fields());
        }
        Ok(None) => {}
        Err(Unreadable { reply, fatal, .. }) => {
            assert!(!fatal, "a datagram ends where it ends");
            if let Some(reply) = reply {
                let written = reply.write();
                assert!(written.starts_with(b"SIP/2.0 "));
                assert!(written.ends_with(b"\r\nContent-Length: 0\r\n\r\n"));
                assert_eq!(written.windows(4).filter(|window| window == b"\r\n\r\n").count(), 1);
            }
        }
    }
}

/// Nobody who has not seen the question answers it, whatever is said in its words; and it ends.
fn reflection(octets: &[u8]) {
    let aor = Uri::parse("sip:1001@pbx.example").expect("a URI").as_sip().expect("of SIP").clone();
    let (local, remote) =
        ("192.0.2.9:5060".parse().expect("an address"), "192.0.2.1:5060".parse().expect("an address"));
    let mut now = Now::default();
    let mut asking = Reflection::new(now, local, remote, &aor, Chance::from_number(1));
    let mut answered = false;
    while asking.found(now).is_none() {
        let sent: Vec<Vec<u8>> =
            std::iter::from_fn(|| asking.poll_transmit(now).map(|it| it.1.to_vec())).collect();
        assert!(sent.len() <= 2 && !asking.handle_datagram(remote, octets));
        // The same as if whoever answers had seen the branch.
        let branch = sent.iter().find_map(|sent| {
            let text = std::str::from_utf8(sent).ok()?;
            Some(text.split_once("branch=")?.1.split(';').next()?.to_owned())
        });
        let text =
            String::from_utf8_lossy(octets).replace("z9hG4bK", &format!("{};x=", branch.unwrap_or_default()));
        answered |= asking.handle_datagram(remote, text.as_bytes());
        let Some(due) = asking.poll_timeout() else { break };
        now = now.plus(std::time::Duration::from_micros(due.saturating_sub(now.mono_us)));
    }
    let found = asking.found(now).expect("it ends");
    assert!(answered || found == Reflected::default());
}

fn is_stable(message: &Message) {
    let written = message.write();
    // Quoting may push what was at a limit over it.
    let is_long = |line: &[u8]| line.len() > MAX_LINE;
    if written.len() > usize::from(u16::MAX) || written.split(|&octet| octet == b'\n').any(is_long) {
        return;
    }
    let again = read_datagram(&written);
    assert_eq!(again.as_ref(), Ok(&Some(message.clone())), "{}", written.escape_ascii());
    assert_eq!(again.ok().flatten().map(|again| again.write()), Some(written));
}

fn read_fields(fields: &Fields) {
    let _ = (
        fields.contacts(),
        fields.routes(),
        fields.record_routes(),
        fields.name_addrs("P-Asserted-Identity"),
    );
    let _ = (fields.tokens("Supported"), fields.has_token("Require", "100rel"), fields.number("Expires"));
    let _ = (fields.name_addr("Refer-To"), answer_after(fields), accepts(fields, "application", "sdp"));
    let _ = (fields.challenges("WWW-Authenticate"), fields.credentials("Authorization"));
    let _ = (fields.list::<Reason>(), fields.typed::<SessionExpires>(), fields.typed::<MediaType>());
}

/// It makes no difference how a stream is cut into reads, and it holds no more than a message.
fn stream(octets: &[u8]) {
    let frames = |framer: &mut Framer, octets: &[u8]| -> Vec<Result<Frame, Unreadable>> {
        framer.push(octets);
        std::iter::from_fn(|| framer.next()).collect()
    };
    let whole = frames(&mut Framer::new(), octets);
    let size = octets.first().map_or(1, |&first| usize::from(first % 29) + 1);
    let mut framer = Framer::new();
    let cut: Vec<_> = octets.chunks(size).flat_map(|chunk| frames(&mut framer, chunk)).collect();
    // What can't be the start of a message may be found out earlier, by less of it.
    let messages =
        |frames: &[Result<Frame, Unreadable>]| -> Vec<_> { frames.iter().flatten().cloned().collect() };
    assert_eq!(messages(&whole), messages(&cut));
    assert_eq!(whole.len(), cut.len());
    for frame in whole.iter().flatten() {
        if let Frame::Message(message) = frame {
            is_stable(message);
        }
    }
}

/// A transport that tells where a message ends: each is read as a datagram is, and none spoils the next.
fn websocket(octets: &[u8]) {
    let mut framer = Framer::of_messages();
    let size = octets.first().map_or(1, |&first| usize::from(first % 61) * 16 + 1);
    for message in octets.chunks(size).chain([octets]) {
        framer.push(message);
        let frames: Vec<_> = std::iter::from_fn(|| framer.next()).collect();
        let read = read_datagram(message);
        assert!(frames.len() <= 1, "{frames:?}");
        match frames.into_iter().next() {
            Some(Ok(Frame::Message(message))) => assert_eq!(read, Ok(Some(*message))),
            Some(Err(unreadable)) => assert!(!unreadable.fatal && read == Err(unreadable)),
            Some(Ok(Frame::Ping | Frame::Pong)) | None => assert_eq!(read, Ok(None)),
        }
    }
}

fn uri(octets: &[u8]) {
    let Ok(uri) = Uri::parse(octets) else { return };
    let written = uri.to_string();
    let again = Uri::parse(&written);
    assert_eq!(again.as_ref(), Ok(&uri), "{written}");
    assert!(uri.equivalent(&uri));
    assert!(!written.contains(['\r', '\n', ' ', '<', '>', '"']), "{written}");
    let _ = (uri.user(), uri.as_sip().map(|sip| (sip.password(), sip.transport(), sip.maddr(), sip.lr())));
}

fn name_addr(octets: &[u8]) {
    for address in
        NameAddr::parse(octets).into_iter().chain(NameAddr::parse_list(octets).into_iter().flatten())
    {
        let written = address.to_string();
        let _ = (address.expires(), address.q(), address.tag());
        // A line end is not in a field when it comes from the reader.
        if !octets.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
            assert_eq!(NameAddr::parse(&written).as_ref(), Ok(&address), "{written}");
            assert_eq!(NameAddr::parse_list(&written).as_deref(), Ok(&[address][..]), "{written}");
        }
    }
}

fn via(octets: &[u8]) {
    let Ok(via) = Via::parse(octets) else { return };
    assert_eq!(Via::parse(via.to_string()).as_ref(), Ok(&via));
    let _ = (via.received(), via.rport(), via.maddr(), via.has_magic_cookie());
}

fn auth(octets: &[u8]) {
    let fields = Fields::from_one("WWW-Authenticate", octets);
    let challenges = fields.challenges("WWW-Authenticate");
    if let Some(challenge) = strongest(&challenges) {
        let question = Question {
            challenge,
            method: "REGISTER",
            uri: "sip:pbx.example",
            username: "10\"01",
            password: "secret",
            body: octets,
            cnonce: "c",
            nc: 1,
        };
        let answered = Fields::from_one("Authorization", answer(&question));
        // A realm or a nonce may be of a kind that can't be sent back; what can be read is right.
        for credentials in answered.credentials("Authorization") {
            assert!(verify(&credentials, "secret", "REGISTER", octets));
        }
    }
    let given = Fields::from_one("Authorization", octets);
    for credentials in given.credentials("Authorization") {
        let written = Fields::from_one("Authorization", credentials.write());
        assert_eq!(written.credentials("Authorization"), std::slice::from_ref(&credentials));
        let _ = verify(&credentials, "secret", "REGISTER", b"");
    }
    let info = AuthenticationInfo::parse(octets);
    assert_eq!(AuthenticationInfo::parse(&info.write()), info);
}

/// It makes no difference how lines end, and nothing that a terminal would obey comes through.
fn message_summary(octets: &[u8]) {
    let Ok(summary) = MessageSummary::parse(octets) else { return };
    assert!(octets.len() <= MAX_BODY);
    assert!(summary.account.as_ref().is_none_or(|account| !account.contains(char::is_control)));
    let lone: Vec<u8> = octets.iter().copied().filter(|octet| *octet != b'\r').collect();
    if octets.windows(2).all(|two| two[0] != b'\r' || two[1] == b'\n') && octets.last() != Some(&b'\r') {
        assert_eq!(MessageSummary::parse(&lone).as_ref(), Ok(&summary));
    }
}

/// What is read of a piece of a response is a status, and words for people.
fn fragment(octets: &[u8]) {
    let Some((status, reason)) = status_line(octets) else { return };
    assert!((100..700).contains(&status) && reason.len() < 256 && !reason.contains(char::is_control));
    let again = status_line(format!("SIP/2.0 {status} {reason}\r\n").as_bytes());
    assert!(again.is_some_and(|(same, _)| same == status));
}

/// Nobody sent a call on who is not in the list, and no list is longer than it may be.
fn redirection(octets: &[u8]) {
    let diversion = Redirection::by_diversion(&Fields::from_one("Diversion", octets));
    let history = Redirection::by_history(&Fields::from_one("History-Info", octets));
    for Redirection { targets, by } in [diversion, history] {
        assert!(targets.len() <= MAX_ADDRESSES);
        assert!(by.is_none_or(|by| targets.contains(&by.who)));
    }
}

fn typed_fields(octets: &[u8]) {
    fn stable<T: FieldValue + PartialEq + std::fmt::Debug>(octets: &[u8]) {
        if let Ok(value) = T::parse(octets) {
            let written = value.write();
            assert_eq!(T::parse(written.as_bytes()).as_ref(), Ok(&value), "{written}");
        }
    }
    if octets.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return;
    }
    stable::<SessionExpires>(octets);
    stable::<MinSe>(octets);
    stable::<Reason>(octets);
    stable::<RAck>(octets);
    stable::<RSeq>(octets);
    stable::<RetryAfter>(octets);
    stable::<EventPackage>(octets);
    stable::<SubscriptionState>(octets);
    stable::<MediaType>(octets);
    stable::<Privacy>(octets);
    stable::<Replaces>(octets);
    for name in ["Alert-Info", "Call-Info", "Accept", "Reason", "Supported", "Contact"] {
        read_fields(&Fields::from_one(name, octets));
    }
}

const MESSAGES: &[&[u8]] = &[
    b"INVITE sip:bob@example.com;transport=tcp SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;\
     branch=z9hG4bK77;rport\r\n\
      Max-Forwards: 70\r\nFrom: \"Alice \\\"A\\\"\" <sip:alice@example.com>;tag=a1\r\n\
      To: <sip:bob@example.com>\r\n\
      Call-ID: c1@192.0.2.7\r\nCSeq: 5 INVITE\r\nContact: <sip:alice@192.0.2.7;\
      ob>;+sip.instance=\"<urn:uuid:1>\"\r\n\
      Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nSupported: timer, 100rel\r\nSession-Expires: 1800;refresher=uac\r\n\
      Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
    b"SIP/2.0 200 OK\r\nv: SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bK1;\
     received=2001:db8::2\r\n ,SIP/2.0/WSS b\r\n\
      f: sip:a@b;tag=1\r\nt: tel:+1-201;tag=2\r\ni: c\r\nCSeq: 1 REGISTER\r\nm: <sip:a@b>;expires=60;q=0.5,sip:c@d\r\n\
      Reason: SIP;cause=200;text=\"x, y\", Q.850;cause=26\r\nl: 0\r\n\r\n",
    b"REGISTER sips:[::1]:5061 SIP/2.0\r\nVia : SIP / 2.0 / UDP h : 5060 ; branch = z9hG4bK2\r\n\
     From:J\xfcrgen<sip:j@h>;tag=1\r\n\
      To: \"\\\0 %Z\" <sip:%00%41@h?x=y&a=b>\r\nCall-ID: a@b\r\nCSeq:\t1\r\n  REGISTER\r\nContact: *\r\n\
      Authorization: Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", response=\"00\", \
      qop=auth, nc=00000001, cnonce=\"c\"\r\n\
      Expires: 0\r\n\r\n",
    b"\r\n\r\nOPTIONS urn:service:sos SIP/2.0\r\nVia: SIP/2.0/UDP h;;\r\nCSeq: 1 OPTIONS\r\n\r\n",
];

const STREAMS: &[&[u8]] = &[
    b"\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
     To: <sip:a@b>\r\n\
      Call-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 3\r\n\r\nabcSIP/2.0 100 Trying\r\nVia: SIP/2.0/TCP h\r\n\
      From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nl : 0\r\n\r\n\r\n\r\n\0",
    b"BYE sip:a SIP/2.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello\r\n",
];

const URIS: &[&[u8]] = &[
    b"sip:john.doe:p%20w@example.com:5060;transport=tcp;lr;maddr=192.0.2.1?Subject=a%20b&Route=%3Csip:x%3E",
    b"sips:[2001:db8::1]:5061",
    b"tel:+1-201-555-0123;ext=5;phone-context=example.com",
    b"sip:7042;phone-context=+1@host;user=phone",
    b"urn:service:sos",
];

const ADDRESSES: &[&[u8]] = &[
    b"\"A, \\\"B\\\" <x>\" <sip:a@b;lr>;tag=1;x=\"a;b\"",
    b"sip:a@b;tag=1, Bob of Biloxi <tel:+1>;q=0.5;expires=60,<urn:a:b>",
    b"Bell, A <sip:a@b>",
    b"*",
];

const VIAS: &[&[u8]] = &[
    b"SIP / 2.0 / UDP h.example : 5060 ; branch = z9hG4bK1 ;rport",
    b"SIP/2.0/TLS [2001:db8::1]:5061;received=[2001:db8::2];rport=7;maddr=h;ttl=1;x=\"y\"",
];

const CHALLENGES: &[&[u8]] = &[
    b"Digest realm=\"a\\\"b\", nonce=\"n=,/\", opaque=\"\", qop=\"auth,auth-int\", algorithm=SHA-256, \
     stale=TRUE, \
      Digest realm=\"a\", nonce=\"m\", algorithm=MD5-sess",
    b"Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", response=\"0123\", \
     algorithm=SHA-512-256-sess, \
      cnonce=\"c\", opaque=\"o\", qop=auth-int, nc=0000000f",
    b"Basic realm=\"x\", Negotiate abc==, Digest realm=\"y\", nonce=\"z\"",
    b"nextnonce=\"n\", qop=auth, rspauth=\"ab\", cnonce=\"c\", nc=00000001",
];

const FRAGMENTS: &[&[u8]] = &[
    b"SIP/2.0 200 OK\r\nTo: a\r\n\r\n",
    b"sip/2.0 486 Busy Here",
    b"SIP/2.0 180\n",
    b"SIP/2.0 603 \xd0\x9d\xd0\xb5\xd1\x82",
];

const REDIRECTIONS: &[&[u8]] = &[
    b"\"Boss\" <sip:102@x>;reason=user-busy;privacy=\"full\";counter=1, <tel:+74957654321>;reason=unconditional",
    b"<sip:+74957654321@x>;index=1, <sip:102@x?Reason=SIP%3Bcause%3D486&Privacy=history>;index=1.1, \
      <sip:101@x;cause=302>;index=1.2;mp=1.1",
];

const SUMMARIES: &[&[u8]] = &[
    b"Messages-Waiting: yes\r\nMessage-Account: sip:1001@pbx.example\r\nVoice-Message: 2/8 (0/2)\r\n",
    b"Messages-Waiting: no\r\nVoice-Message: 0/0\r\nFax-Message: 1/0 (0/0)\r\n\r\nTo: a\r\nSubject: b\r\n",
    b"messages-waiting:no\nvoice-message:4294967296 / 1",
];

const SUMMARY_WORDS: &[&[u8]] = &[
    b"Messages-Waiting: ",
    b"yes",
    b"no",
    b"Voice-Message:",
    b"Message-Account:",
    b"/",
    b"(",
    b")",
    b"\r\n",
    b"\n",
    b"\r",
];

const VALUES: &[&[u8]] = &[
    b"1800;refresher=uas;x=y",
    b"SIP ;cause=200 ;text=\"Call completed elsewhere\"",
    b"776656 1 INVITE",
    b"120 (in a (long) meeting \\)) ;duration=60",
    b"refer;id=5",
    b"terminated;reason=noresource;retry-after=5;expires=7",
    b"multipart/mixed;boundary=\"a;b\"",
    b"id; critical",
    b"98732@sip.example.com;from-tag=r33;to-tag=ff8;early-only",
    b"<http://a/b>;info=alert-autoanswer;delay=0, <sip:x>;answer-after=5",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\n",
    b"\"",
    b"\\\"",
    b";;",
    b",,",
    b"<",
    b">",
    b"%00",
    b"%",
    b" ; ",
    b" = ",
    b"*",
    b"\\\0",
    b"SIP/2.0",
    b"SIP/7.0",
    b"sip:",
    b"sips:",
    b"tel:",
    b"[::1]",
    b"[::ffff:192.0.2.1]",
    b":5060",
    b":99999",
    b"Content-Length: ",
    b"l:",
    b"Via: ",
    b"Contact: ",
    b"From: ",
    b"To: ",
    b"CSeq: ",
    b"Route: ",
    b";tag=",
    b";branch=",
    b"z9hG4bK",
    b"INVITE",
    b"ACK ",
    b"Digest ",
    b"realm=",
    b"nonce=",
    b"qop=",
    b"q=0.5",
    b"expires=",
    b"\xc3\xa9",
    b"\xe9",
];

use super::*;
use crate::sip::reader::MAX_FIELDS;

fn options(length: &str, body: &str) -> String {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>\r\n\
         Call-ID: c\r\nCSeq: 1 OPTIONS\r\n{length}\r\n{body}"
    )
}

fn frames(framer: &mut Framer, octets: &[u8]) -> Vec<String> {
    framer.push(octets);
    std::iter::from_fn(|| framer.next())
        .map(|frame| match frame {
            Ok(Frame::Message(message)) => format!("message {}", message.body().len()),
            Ok(Frame::Ping) => "ping".into(),
            Ok(Frame::Pong) => "pong".into(),
            Err(error) => format!("{}{}", if error.fatal { "fatal " } else { "" }, error.why.label()),
        })
        .collect()
}

#[test]
fn several_messages_in_one_read_and_one_in_many() {
    let one = options("Content-Length: 3\r\n", "abc");
    let mut framer = Framer::new();
    assert_eq!(frames(&mut framer, format!("{one}{one}").as_bytes()), ["message 3", "message 3"]);
    for octet in one.as_bytes().iter().take(one.len() - 1) {
        assert!(frames(&mut framer, &[*octet]).is_empty());
    }
    assert_eq!(frames(&mut framer, b"c"), ["message 3"]);
    assert_eq!(framer.waiting(), 0);
}

#[test]
fn pings_between_messages_are_told_however_they_are_cut() {
    let mut framer = Framer::new();
    assert_eq!(frames(&mut framer, b"\r\n\r\n\r\n\r\n"), ["ping", "ping"]);
    assert!(frames(&mut framer, b"\r\n\r").is_empty());
    assert_eq!(frames(&mut framer, b"\n"), ["ping"]);
    let one = options("Content-Length: 0\r\n", "");
    assert_eq!(
        frames(&mut framer, format!("{one}\r\n\r\n{one}").as_bytes()),
        ["message 0", "ping", "message 0"]
    );
    // A line end before a message is nothing.
    assert_eq!(frames(&mut framer, format!("\r\n{one}").as_bytes()), ["message 0"]);
}

#[test]
fn two_pongs_in_one_read_are_no_ping() {
    let mut framer = Framer::new();
    framer.pinged();
    framer.pinged();
    assert_eq!(frames(&mut framer, b"\r\n\r\n"), ["pong", "pong"]);
    framer.pinged();
    assert!(frames(&mut framer, b"\r").is_empty());
    assert_eq!(frames(&mut framer, b"\n\r\n\r\n"), ["pong", "ping"]);
}

#[test]
fn zeros_between_messages_are_nothing() {
    let mut framer = Framer::new();
    let one = options("Content-Length: 0\r\n", "");
    assert_eq!(frames(&mut framer, format!("\r\n\0\0{one}\0\r\n\r\n").as_bytes()), ["message 0", "ping"]);
}

#[test]
fn a_malformed_message_is_skipped_where_its_end_is_clear() {
    let mut framer = Framer::new();
    let bad = options("Content-Length: 3\r\nTo: <sip:twice@b>\r\n", "abc");
    let good = options("Content-Length: 2\r\n", "de");
    assert_eq!(frames(&mut framer, format!("{bad}{good}").as_bytes()), ["repeated_field", "message 2"]);
}

#[test]
fn doubts_about_the_end_are_fatal() {
    for (length, label) in [
        ("", "fatal missing_field"),
        ("Content-Length: -1\r\n", "fatal malformed_field"),
        ("Content-Length: 3\r\nl: 30\r\n", "fatal repeated_field"),
        ("Content-Length : 3\r\nContent-Length: 3\r\n", "fatal repeated_field"),
        ("To: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n", "fatal repeated_field"),
        ("Content-Length: 3\r\nno colon\r\n", "fatal field_line"),
        ("Content-Length: 3\r\nX: a\nContent-Length: 0\r\n", "fatal control_octet"),
        ("Content-Length: 70000\r\n", "fatal too_long"),
        ("Content-Length: 4294967295\r\n", "fatal too_long"),
        ("Content-Length: 99999999999999999999\r\n", "fatal malformed_field"),
    ] {
        let mut framer = Framer::new();
        let octets = options(length, "abcINVITE sip:a@b SIP/2.0\r\n\r\n");
        assert_eq!(frames(&mut framer, octets.as_bytes()), [label], "{length}");
        assert!(frames(&mut framer, octets.as_bytes()).is_empty(), "nothing more after it");
        assert_eq!(framer.waiting(), 0);
    }
}

#[test]
fn a_blank_before_the_colon_hides_no_length() {
    let mut framer = Framer::new();
    let octets =
        options("Content-Length : 45\r\n", "BYE sip:inner@b SIP/2.0\r\nVia: x\r\nCall-ID: y\r\n\r\n");
    assert_eq!(frames(&mut framer, octets.as_bytes()), ["message 45"]);
}

#[test]
fn garbage_is_found_out_before_it_fills_the_buffer() {
    let mut framer = Framer::new();
    assert_eq!(frames(&mut framer, &[b'A'; 300]), ["fatal not_sip"]);
    assert_eq!(frames(&mut Framer::new(), b"\x16\x03\x01\x02\x00\x01"), ["fatal not_sip"]);
    // However it is cut.
    let almost = "SIP/2=0 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(frames(&mut Framer::new(), almost.as_bytes()), ["fatal not_sip"]);
    assert_eq!(frames(&mut Framer::new(), &almost.as_bytes()[..20]), ["fatal not_sip"]);
    let mut framer = Framer::new();
    let endless = format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nX: {}",
        "a".repeat(MAX_MESSAGE)
    );
    let mut read = Vec::new();
    for chunk in endless.as_bytes().chunks(1000) {
        read.extend(frames(&mut framer, chunk));
        assert!(framer.waiting() <= MAX_MESSAGE + 1000);
    }
    assert_eq!(read, ["fatal too_long"]);
    let many = options(&format!("Content-Length: 0\r\n{}", "Q: y\r\n".repeat(MAX_FIELDS)), "");
    assert_eq!(frames(&mut Framer::new(), many.as_bytes()), ["fatal too_many_fields"]);
}

#[test]
fn a_fatal_error_is_answered_where_it_can_be() {
    let mut framer = Framer::new();
    framer.push(options("Content-Length: 999999\r\n", "").as_bytes());
    let Some(Err(error)) = framer.next() else { panic!("an error") };
    assert_eq!(error.reply.map(|reply| reply.status), Some(513));
}

#[test]
fn over_websocket_each_message_is_one_and_none_is_fatal() {
    let mut framer = Framer::of_messages();
    let without_length = options("", "body to the end");
    assert_eq!(frames(&mut framer, without_length.as_bytes()), ["message 15"]);
    let shorter = options("Content-Length: 4\r\n", "body to the end");
    assert_eq!(frames(&mut framer, shorter.as_bytes()), ["message 4"]);
    let longer = options("Content-Length: 99\r\n", "body");
    assert_eq!(frames(&mut framer, longer.as_bytes()), ["content_length"]);
    assert_eq!(frames(&mut framer, &[b'A'; 300]), ["not_sip"]);
    for (octets, told) in [
        (&b"\r\n\r\n"[..], &["ping"][..]),
        (b"\r\n", &["pong"]),
        // The end of one exchange's keep-alive.
        (b"\r\n\0", &["pong"]),
        (b"\0\0\0\0", &[]),
        (b"", &[]),
    ] {
        assert_eq!(frames(&mut framer, octets), told, "{octets:?}");
    }
    // Half a message is no beginning of the next one.
    let (half, rest) = without_length.split_at(20);
    assert_eq!(frames(&mut framer, half.as_bytes()).len(), 1);
    assert_ne!(frames(&mut framer, rest.as_bytes()), ["message 15"]);
}

//! The last SIP messages, for the ladder that people read when something is wrong. Secrets are masked before anything is
//! kept: what is not here can't leak.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde::Serialize;

use crate::now::Now;

/// Messages that are kept.
const MESSAGES: usize = 2_000;
/// Bytes that are kept.
const BYTES: usize = 2 * 1024 * 1024;
/// What stands for a secret.
const MASK: &str = "***";

/// One message as it crossed the border.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traced {
    /// Counts up; a reader that follows asks for what lies beyond the last one it has.
    pub number: u64,
    /// Microseconds since 1970.
    pub utc_us: i64,
    /// The line it belongs to, where that is known.
    pub line: Option<String>,
    /// True for what was sent.
    pub sent: bool,
    /// `udp`, `tcp`, `tls` or `wss`.
    pub transport: String,
    /// This end, where it is known.
    pub local: Option<SocketAddr>,
    /// The other end.
    pub remote: SocketAddr,
    /// The Call-ID, which makes messages of one call a ladder.
    pub call_id: String,
    /// The message, secrets masked.
    pub text: String,
}

/// The memory of the ladder.
#[derive(Default)]
pub struct Tracer {
    messages: VecDeque<Traced>,
    bytes: usize,
    number: u64,
}

/// What is known of a message besides its text.
pub struct Border {
    /// The line, where it is known.
    pub line: Option<String>,
    /// True for what was sent.
    pub sent: bool,
    /// `udp`, `tcp`, `tls` or `wss`.
    pub transport: String,
    /// This end.
    pub local: Option<SocketAddr>,
    /// The other end.
    pub remote: SocketAddr,
}

impl Tracer {
    /// Keeps a message, and forgets the oldest ones where there are too many.
    pub fn keep(&mut self, now: Now, border: Border, message: &[u8]) {
        let text = mask(message);
        self.number += 1;
        self.bytes += text.len();
        self.messages.push_back(Traced {
            number: self.number,
            utc_us: now.utc_us,
            line: border.line,
            sent: border.sent,
            transport: border.transport,
            local: border.local,
            remote: border.remote,
            call_id: field(&text, "call-id", "i").unwrap_or_default().to_owned(),
            text,
        });
        while self.messages.len() > MESSAGES || self.bytes > BYTES {
            match self.messages.pop_front() {
                Some(oldest) => self.bytes -= oldest.text.len(),
                None => break,
            }
        }
    }

    /// The messages after `number`, oldest first, of one line or of these SIP Call-IDs if that is given.
    pub fn after(&self, number: u64, line: Option<&str>, call_ids: Option<&[&str]>) -> Vec<Traced> {
        self.messages
            .iter()
            .filter(|message| message.number > number)
            .filter(|message| line.is_none_or(|line| message.line.as_deref() == Some(line)))
            .filter(|message| call_ids.is_none_or(|ids| ids.contains(&message.call_id.as_str())))
            .cloned()
            .collect()
    }
}

/// The value of the first field of this name or compact form.
fn field<'a>(text: &'a str, name: &str, compact: &str) -> Option<&'a str> {
    text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        let found = found.trim();
        (found.eq_ignore_ascii_case(name) || found.eq_ignore_ascii_case(compact)).then(|| value.trim())
    })
}

/// The message as text without its secrets: digest credentials, SRTP keys, digits and message bodies.
pub fn mask(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let split = text.find("\r\n\r\n").map_or(text.len(), |at| at + 4);
    let (head, body) = text.split_at(split);
    let mut masked = String::with_capacity(text.len());
    let mut secret = false;
    for line in head.split_inclusive('\n') {
        let folded = line.starts_with([' ', '\t']);
        if !folded {
            secret = is_secret(line);
        }
        if secret {
            let name = line.split(':').next().filter(|_| !folded).unwrap_or(" ");
            masked.push_str(name);
            masked.push_str(if folded { "" } else { ": " });
            masked.push_str(MASK);
            masked.push_str("\r\n");
        } else {
            masked.push_str(line);
        }
    }
    match field(head, "content-type", "c") {
        _ if body.is_empty() => {}
        Some(kind) if is_kind(kind, "application/sdp") => {
            body.split_inclusive('\n').for_each(|line| mask_sdp(line, &mut masked));
        }
        Some(kind) if is_kind(kind, "multipart/") => mask_parts(kind, body, &mut masked),
        _ => masked.push_str(MASK),
    }
    masked
}

fn is_kind(value: &str, kind: &str) -> bool {
    value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

/// Where a line of a multipart body stands (RFC 2046 §5.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// In the fields of a part, and what its body will be.
    Head(Body),
    Body(Body),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Sdp,
    /// Parts again, or what nobody may read.
    Other,
}

/// Session descriptions stay readable, what stands in other parts goes.
fn mask_parts(kind: &str, body: &str, masked: &mut String) {
    let mut boundaries: Vec<&str> = boundary(kind).into_iter().collect();
    let mut place = Part::Body(Body::Other);
    for line in body.split_inclusive('\n') {
        let bare = line.trim_end();
        let marked = bare.strip_prefix("--").map(|rest| rest.strip_suffix("--").unwrap_or(rest));
        if marked.is_some_and(|marked| boundaries.contains(&marked)) {
            place = Part::Head(Body::Other);
            masked.push_str(line);
            continue;
        }
        match place {
            Part::Head(kind) if bare.is_empty() => {
                place = Part::Body(kind);
                masked.push_str(line);
            }
            Part::Head(_) => match bare.split_once(':') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("content-type") => {
                    let value = value.trim();
                    boundaries.extend(boundary(value));
                    let sdp = is_kind(value, "application/sdp");
                    place = Part::Head(if sdp { Body::Sdp } else { Body::Other });
                    masked.push_str(line);
                }
                _ => {
                    masked.push_str(MASK);
                    masked.push_str("\r\n");
                }
            },
            Part::Body(Body::Sdp) => mask_sdp(line, masked),
            Part::Body(Body::Other) if bare.is_empty() => masked.push_str(line),
            Part::Body(Body::Other) => {
                masked.push_str(MASK);
                masked.push_str("\r\n");
            }
        }
    }
}

/// The mark between parts, as a Content-Type names it.
fn boundary(kind: &str) -> Option<&str> {
    let (_, value) = kind.split(';').find_map(|parameter| {
        parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
    })?;
    Some(value.trim().trim_matches('"')).filter(|mark| !mark.is_empty())
}

fn is_secret(line: &str) -> bool {
    const SECRET: [&str; 5] = [
        "authorization",
        "proxy-authorization",
        "authentication-info",
        "proxy-authentication-info",
        "identity",
    ];
    line.split_once(':')
        .is_some_and(|(name, _)| SECRET.iter().any(|secret| name.trim().eq_ignore_ascii_case(secret)))
}

fn mask_sdp(line: &str, masked: &mut String) {
    let lower = line.to_ascii_lowercase();
    let kept = [("a=crypto:", "inline:"), ("a=ice-pwd:", ":"), ("k=", "=")]
        .iter()
        .find(|(attribute, _)| lower.starts_with(attribute))
        .and_then(|(_, before)| lower.find(before).map(|at| at + before.len()));
    match kept {
        Some(kept) => masked.push_str(line.get(..kept).unwrap_or_default()),
        None if lower.starts_with("a=crypto:") => masked.push_str("a=crypto:"),
        None => return masked.push_str(line),
    }
    masked.push_str(MASK);
    masked.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_gone_and_the_rest_stays() {
        let message = b"INVITE sip:b@example.com SIP/2.0\r\nCall-ID: 1@a\r\nProxy-authorization : Digest username=\"a\",\r\n \
            response=\"deadbeef\"\r\nContent-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 \
            inline:c2VjcmV0\r\na=ice-pwd:hush\r\nm=audio 4000 RTP/AVP 0\r\n";
        let masked = mask(message);
        for secret in ["deadbeef", "c2VjcmV0", "hush", "username"] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        for kept in ["INVITE sip:b@example.com", "Call-ID: 1@a", "AES_CM_128_HMAC_SHA1_80", "m=audio 4000"] {
            assert!(masked.contains(kept), "{kept} not in {masked}");
        }
    }

    #[test]
    fn of_many_parts_only_session_descriptions_are_kept() {
        let message = b"INVITE sip:b@c SIP/2.0\r\nc: multipart/mixed;boundary=\"x\"\r\n\r\nlead 11\r\n--x\r\n\
            Content-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 A inline:c2VjcmV0\r\n--x\r\nContent-ID: 22\r\n\r\n\
            33\r\n--44\r\na=55\r\n--x\r\nContent-Type: multipart/mixed;boundary=y\r\n\r\n--y\r\n\
            Content-Type: application/dtmf-relay\r\n\r\nSignal=66\r\n--y--\r\n--x--\r\ntrail 77\r\n";
        let masked = mask(message);
        for secret in ["11", "c2VjcmV0", "22", "33", "44", "55", "66", "77"] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        for kept in ["v=0\r\n", "a=crypto:1 A inline:***", "application/dtmf-relay", "--y--\r\n--x--\r\n"] {
            assert!(masked.contains(kept), "{kept} not in {masked}");
        }
    }

    #[test]
    fn texts_and_digits_are_not_kept() {
        let message = b"MESSAGE sip:b@c SIP/2.0\r\ni: 2\r\nc: text/plain\r\n\r\nthe code is 4711";
        let masked = mask(message);
        assert!(!masked.contains("4711"));
        assert!(masked.ends_with(MASK));
        let digits = b"INFO sip:b@c SIP/2.0\r\nContent-Type: application/dtmf-relay\r\n\r\nSignal=5\r\n";
        assert!(!mask(digits).contains("Signal"));
    }

    #[test]
    fn memory_is_bounded_and_readers_can_follow() {
        let mut tracer = Tracer::default();
        let border = |line: &str| Border {
            line: Some(line.to_owned()),
            sent: true,
            transport: "udp".into(),
            local: None,
            remote: "192.0.2.1:5060".parse().expect("an address"),
        };
        for number in 0..3_000 {
            let line = if number % 2 == 0 { "a" } else { "b" };
            let message = format!("OPTIONS sip:x SIP/2.0\r\nCall-ID: {number}\r\n\r\n");
            tracer.keep(Now::default(), border(line), message.as_bytes());
        }
        assert_eq!(tracer.after(0, None, None).len(), MESSAGES);
        assert_eq!(tracer.after(2_990, Some("a"), None).len(), 5);
        assert_eq!(tracer.after(0, None, Some(&["2999"]))[0].number, 3_000);
    }
}

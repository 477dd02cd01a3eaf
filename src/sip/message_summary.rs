//! `application/simple-message-summary`: what waits in a mailbox (RFC 3842 §5).

use super::grammar::{self, Malformed};

/// The event package (RFC 3842 §3.1).
pub const PACKAGE: &str = "message-summary";
/// The media type of its bodies.
pub const MEDIA_TYPE: &str = "application/simple-message-summary";

/// A body longer than this is none: the fields of RFC 3842 fit many times over.
pub const MAX_BODY: usize = 8 * 1024;
/// Lines past this number are not looked at.
const MAX_LINES: usize = 64;
/// A longer Message-Account is left out.
const MAX_ACCOUNT: usize = 256;

/// How many messages there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Messages {
    /// Not heard yet, the urgent ones included.
    pub new: u32,
    /// Heard and kept, the urgent ones included.
    pub old: u32,
    /// Urgent ones, new and old, where the PBX tells them apart.
    pub urgent: Option<(u32, u32)>,
}

/// What waits in a mailbox.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MessageSummary {
    /// Whether anything waits, of whatever kind: the lamp.
    pub waiting: bool,
    /// The mailbox (Message-Account), as the PBX names it.
    pub account: Option<String>,
    /// Voice messages, if they are counted.
    pub voice: Option<Messages>,
}

impl MessageSummary {
    /// Reads a body. Kinds of messages other than voice, and header fields of single messages, are passed over.
    ///
    /// # Errors
    /// [`Malformed`] if the body is longer than [`MAX_BODY`], says nowhere whether messages wait, or says two things.
    pub fn parse(body: &[u8]) -> Result<MessageSummary, Malformed> {
        let malformed = || Malformed(MEDIA_TYPE);
        if body.len() > MAX_BODY {
            return Err(malformed());
        }
        let (mut waiting, mut account, mut voice) = (None, None, None);
        for line in body.split(|&octet| octet == b'\n').take(MAX_LINES) {
            let Some(colon) = line.iter().position(|&octet| octet == b':') else { continue };
            let (name, value) = (grammar::trim(&line[..colon]), grammar::trim(&line[colon + 1..]));
            let value = value.strip_suffix(b"\r").map_or(value, grammar::trim);
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("Messages-Waiting") {
                let says = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(malformed()),
                };
                if waiting.replace(says).is_some_and(|before| before != says) {
                    return Err(malformed());
                }
            } else if is("Message-Account") {
                account = Some(value).filter(|value| !value.is_empty() && value.len() <= MAX_ACCOUNT);
            } else if is("Voice-Message") {
                voice = Some(read_messages(value).ok_or_else(malformed)?);
            }
        }
        Ok(MessageSummary {
            waiting: waiting.ok_or_else(malformed)?,
            account: account.map(|account| grammar::text(account).replace(char::is_control, "")),
            voice,
        })
    }
}

/// `new/old`, perhaps with `(new/old)` of the urgent ones.
fn read_messages(value: &[u8]) -> Option<Messages> {
    let pair = |value: &[u8]| {
        let slash = value.iter().position(|&octet| octet == b'/')?;
        let number = |digits: &[u8]| grammar::saturating_number(grammar::trim(digits));
        Some((number(&value[..slash])?, number(&value[slash + 1..])?))
    };
    let (all, urgent) = match value.iter().position(|&octet| octet == b'(') {
        None => (value, None),
        Some(open) => {
            let inner = grammar::trim(&value[open + 1..]).strip_suffix(b")")?;
            (&value[..open], Some(pair(inner)?))
        }
    };
    let (new, old) = pair(all)?;
    Some(Messages { new, old, urgent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_whatever_its_case_and_its_line_ends() {
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:1001@pbx.example\r\n\
                    Voice-Message: 2/8 (1/0)\r\nFax-Message: 4/0\r\n\r\nSubject: hello: you\r\n";
        let summary = MessageSummary::parse(body.as_bytes()).unwrap();
        assert!(summary.waiting);
        assert_eq!(summary.account.as_deref(), Some("sip:1001@pbx.example"));
        assert_eq!(summary.voice, Some(Messages { new: 2, old: 8, urgent: Some((1, 0)) }));
        let loose = MessageSummary::parse(b"messages-waiting :NO\nvoice-message:0 / 3").unwrap();
        assert_eq!(
            loose,
            MessageSummary {
                waiting: false,
                account: None,
                voice: Some(Messages { new: 0, old: 3, urgent: None })
            }
        );
        // A lamp alone, and messages of other kinds alone.
        assert_eq!(MessageSummary::parse(b"Messages-Waiting: yes\r\n").unwrap().voice, None);
        let fax = MessageSummary::parse(b"Messages-Waiting: yes\r\nFax-Message: 1/0\r\n").unwrap();
        assert!(fax.waiting && fax.voice.is_none());
        let many = MessageSummary::parse(b"Messages-Waiting: yes\r\nVoice-Message: 99999999999/0").unwrap();
        assert_eq!(many.voice.map(|voice| voice.new), Some(u32::MAX));
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        let long = [b"Messages-Waiting: yes\r\n".as_slice(), &[b'x'; MAX_BODY]].concat();
        let late = "x\n".repeat(MAX_LINES) + "Messages-Waiting: yes\n";
        for body in [
            &b""[..],
            b"Voice-Message: 1/0\r\n",
            b"Messages-Waiting: perhaps\r\n",
            b"Messages-Waiting: yes\r\nMessages-Waiting: no\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: -1/0\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: 1\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: 1/0 (1/0\r\n",
            &long,
            late.as_bytes(),
        ] {
            assert!(MessageSummary::parse(body).is_err(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn an_account_carries_no_line_ends_and_no_book() {
        let text = b"Messages-Waiting: no\nMessage-Account: sip:a\x1b[2J\r@b\n";
        assert_eq!(MessageSummary::parse(text).unwrap().account.as_deref(), Some("sip:a[2J@b"));
        let long = format!("Messages-Waiting: no\nMessage-Account: sip:{}\n", "a".repeat(MAX_ACCOUNT));
        assert_eq!(MessageSummary::parse(long.as_bytes()).unwrap().account, None);
    }
}

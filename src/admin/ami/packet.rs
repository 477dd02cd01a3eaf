//! What travels: packets of `Key: Value` lines, ended by an empty one. Keys and action names are read in any case.

use std::fmt::Write;

/// Bytes of one line.
pub const LONGEST_LINE: usize = 1024;
/// Bytes of one packet.
pub const LARGEST_PACKET: usize = 8 << 10;
/// Lines of one packet.
pub const MOST_FIELDS: usize = 64;

/// What somebody has said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Packet(Vec<(String, String)>);

/// Somebody says what no packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// A line or a packet is too long, or has too many lines.
    #[error("a packet is larger than 8 KiB or 64 lines, or a line longer than 1 KiB")]
    TooLarge,
    /// There are control characters in a line.
    #[error("a line has control characters in it")]
    Control,
}

impl Packet {
    /// The first value of a key, without the blanks around it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    /// The same where an empty value counts as none.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }
}

/// Takes bytes as they come and gives packets.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// So many of them hold no end of a line.
    searched: usize,
    packet: Packet,
    /// Bytes of the packet so far.
    size: usize,
}

impl Reader {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that wait to be read.
    pub fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// [`Malformed`]: nothing more can be understood.
    pub fn poll(&mut self) -> Result<Option<Packet>, Malformed> {
        while let Some(at) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=self.searched + at).collect();
            self.searched = 0;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                self.size = 0;
                let packet = std::mem::take(&mut self.packet);
                // Empty lines between packets mean nothing.
                if !packet.0.is_empty() {
                    return Ok(Some(packet));
                }
                continue;
            }
            self.take(line)?;
        }
        self.searched = self.bytes.len();
        if self.searched > LONGEST_LINE {
            return Err(Malformed::TooLarge);
        }
        Ok(None)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Malformed> {
        self.size += line.len() + 2;
        if line.len() > LONGEST_LINE || self.size > LARGEST_PACKET || self.packet.0.len() >= MOST_FIELDS {
            return Err(Malformed::TooLarge);
        }
        let line = String::from_utf8_lossy(line);
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Malformed::Control);
        }
        // What has no colon means nothing.
        if let Some((key, value)) = line.split_once(':') {
            self.packet.0.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(())
    }
}

/// What is said to somebody: lines, and an empty one. Nothing in a value begins a line of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply(String);

impl Reply {
    /// An event of a class: `call` and the like.
    pub fn event(name: &str, class: &str) -> Reply {
        Reply::default().with("Event", name).with("Privilege", format_args!("{class},all"))
    }

    /// The answer to an action, `Success` or `Error`, with its ActionID.
    pub fn response(how: &str, action: Option<&str>) -> Reply {
        Reply::default().with("Response", how).with_some("ActionID", action)
    }

    /// The same with a line more.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Reply {
        let _ = write!(self.0, "{key}: ");
        let value = value.to_string();
        self.0.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.0.push_str("\r\n");
        self
    }

    /// The same with a line more, if there is a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl std::fmt::Display>) -> Reply {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The text, with the empty line.
    pub fn text(mut self) -> String {
        self.0.push_str("\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Packet> {
        let mut reader = Reader::default();
        let mut packets = Vec::new();
        // A byte at a time and all at once are the same.
        for chunk in text.as_bytes().chunks(1) {
            reader.feed(chunk);
            while let Some(packet) = reader.poll().expect("a packet") {
                packets.push(packet);
            }
        }
        let mut whole = Reader::default();
        whole.feed(text.as_bytes());
        let mut again = Vec::new();
        while let Some(packet) = whole.poll().expect("a packet") {
            again.push(packet);
        }
        assert_eq!(packets, again);
        packets
    }

    #[test]
    fn packets_are_read_in_any_case_and_with_any_line_ends() {
        let packets = read(
            "\r\nACTION : login\r\nusername:anna\nSecret:  a:b \r\nnonsense\r\n\r\nAction: Ping\n\nAction: Log",
        );
        assert_eq!(packets.len(), 2, "{packets:?}");
        let [login, ping] = &packets[..] else { panic!("two") };
        assert_eq!(
            (login.get("Action"), login.get("USERNAME"), login.get("secret")),
            (Some("login"), Some("anna"), Some("a:b"))
        );
        assert_eq!((ping.get("action"), ping.get("Secret")), (Some("Ping"), None));
    }

    #[test]
    fn what_is_too_large_or_strange_is_refused() {
        let refused = |text: String| {
            let mut reader = Reader::default();
            reader.feed(text.as_bytes());
            loop {
                match reader.poll() {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(malformed) => return Some(malformed),
                }
            }
        };
        assert_eq!(refused("x".repeat(LONGEST_LINE + 1)), Some(Malformed::TooLarge));
        assert_eq!(refused(format!("A: {}\r\n", "x".repeat(LONGEST_LINE))), Some(Malformed::TooLarge));
        assert_eq!(refused("A: b\r\n".repeat(MOST_FIELDS + 1)), Some(Malformed::TooLarge));
        assert_eq!(refused(format!("A: {}\r\n", "x".repeat(900)).repeat(10)), Some(Malformed::TooLarge));
        assert_eq!(refused("A: b\0c\r\n\r\n".into()), Some(Malformed::Control));
        assert_eq!(refused("A: b\rAction: c\r\n\r\n".into()), Some(Malformed::Control));
        assert_eq!(refused("A: b\r\n\r\n".repeat(1000)), None);
    }

    #[test]
    fn nothing_gets_out_of_a_value() {
        let text = Reply::event("X", "call").with("Name", "a\r\nEvent: Hangup\r\n\r\n").text();
        assert_eq!(text, "Event: X\r\nPrivilege: call,all\r\nName: a  Event: Hangup    \r\n\r\n");
    }
}

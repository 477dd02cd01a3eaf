//! The SIP ladder: this device on the left, a column per peer, an arrow per message.

use serde_json::Value;

use super::table::{Mood, Paint, clean};

/// Characters between two columns.
const SPAN: usize = 40;
/// Peers with a column of their own; further ones share the last.
const PEERS: usize = 3;
/// Characters before the first column: the time.
const MARGIN: usize = 14;

/// Draws messages one by one; a new peer brings new headings.
#[derive(Debug)]
pub struct Ladder {
    paint: Paint,
    peers: Vec<String>,
}

impl Ladder {
    /// An empty ladder.
    pub fn new(paint: Paint) -> Ladder {
        Ladder { paint, peers: Vec::new() }
    }

    /// The lines of one message, as `GET /api/v1/trace` gives it.
    pub fn draw(&mut self, message: &Value) -> String {
        let mut text = String::new();
        let peer = format!("{} {}", word(&message["transport"]), word(&message["remote"]));
        let column = match self.peers.iter().position(|known| *known == peer) {
            Some(column) => column,
            None if self.peers.len() < PEERS => {
                self.peers.push(peer.clone());
                text.push_str(&self.headings());
                self.peers.len() - 1
            }
            None => PEERS - 1,
        };
        let stranger = self.peers.get(column).is_none_or(|known| *known != peer);
        let message_text = message["text"].as_str().unwrap_or_default();
        let (mut label, mood) = summary(message_text);
        if stranger {
            label = format!("{label} [{peer}]");
        }
        let sent = message["sent"] == true;
        let at = crate::events::cloud_event::rfc3339(message["utc_us"].as_i64().unwrap_or(0));
        let time = super::show::clock(&at);
        text.push_str(&self.paint.text(Mood::Quiet, &format!("{time:<MARGIN$}")));
        text.push_str(&self.rung(column, sent, &label, mood));
        if let Some(note) = offered(message_text) {
            let width = MARGIN + 2;
            text.push_str(&format!("{:width$}{}\n", "", self.paint.text(Mood::Quiet, &clean(&note))));
        }
        text
    }

    fn headings(&self) -> String {
        let mut names = format!("{:MARGIN$}tipring", "");
        for (at, peer) in self.peers.iter().enumerate() {
            let place = MARGIN + SPAN * (at + 1);
            let peer = clean(peer);
            let from = place.saturating_sub(peer.chars().count().saturating_sub(1));
            let used = names.chars().count();
            names.extend(std::iter::repeat_n(' ', from.saturating_sub(used).max(1)));
            names.push_str(&peer);
        }
        format!("\n{}\n", self.paint.text(Mood::Strong, &names))
    }

    fn rung(&self, column: usize, sent: bool, label: &str, mood: Mood) -> String {
        let end = SPAN * (column + 1);
        let room = end.saturating_sub(7);
        let label: String = clean(label).chars().take(room).collect();
        let dashes = end.saturating_sub(4 + label.chars().count());
        let (before, after) = (dashes / 2, dashes - dashes / 2);
        let line = |count: usize| "─".repeat(count);
        let label = self.paint.text(mood, &label);
        let mut rung = if sent {
            format!("│{} {label} {}▶│", line(before), line(after))
        } else {
            format!("│◀{} {label} {}│", line(before), line(after))
        };
        for _ in column + 1..self.peers.len() {
            rung.push_str(&format!("{:1$}│", "", SPAN - 1));
        }
        rung.push('\n');
        rung
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The value of the first field of this name or compact form.
fn field<'a>(text: &'a str, name: &str, compact: &str) -> Option<&'a str> {
    text.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        let found = found.trim();
        (found.eq_ignore_ascii_case(name) || found.eq_ignore_ascii_case(compact)).then(|| value.trim())
    })
}

/// A message in a few words, and its colour.
fn summary(text: &str) -> (String, Mood) {
    let first = text.lines().next().unwrap_or_default();
    let cseq = field(text, "CSeq", "CSeq").unwrap_or_default();
    if let Some(rest) = first.strip_prefix("SIP/2.0 ") {
        let mood = match rest.as_bytes().first() {
            Some(b'1') => Mood::Quiet,
            Some(b'2') => Mood::Good,
            Some(b'3') => Mood::Fair,
            _ if rest.starts_with("401") || rest.starts_with("407") => Mood::Fair,
            _ => Mood::Bad,
        };
        let method = cseq.split_whitespace().nth(1).unwrap_or_default();
        return (format!("{rest} ({method})"), mood);
    }
    let mut parts = first.split_whitespace();
    let method = parts.next().unwrap_or("?");
    let target = parts.next().unwrap_or_default();
    let reason = field(text, "Reason", "Reason").map(|reason| format!(" {reason}")).unwrap_or_default();
    let answered = field(text, "Authorization", "Proxy-Authorization").is_some();
    let credentials = if answered { " +auth" } else { "" };
    (format!("{method} {target}{credentials}{reason}"), Mood::Strong)
}

/// What a body of SDP offers or answers, in one line.
fn offered(text: &str) -> Option<String> {
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body)?;
    if !body.starts_with("v=0") {
        return None;
    }
    let mut connection = "?";
    let mut note = String::from("SDP");
    let mut direction = None;
    let mut names: Vec<(&str, &str)> = Vec::new();
    let mut media: Option<(&str, Vec<&str>)> = None;
    let mut secured = false;
    for line in body.lines().take(500) {
        if let Some(address) = line.strip_prefix("c=IN ") {
            connection = address.split_whitespace().nth(1).unwrap_or("?");
        } else if let Some(line) = line.strip_prefix("m=") {
            let mut parts = line.split_whitespace();
            let kind = parts.next().unwrap_or("?");
            let port = parts.next().unwrap_or("?");
            if kind != "audio" {
                note.push_str(&format!(" {kind} {port}"));
                continue;
            }
            secured = parts.next().is_some_and(|profile| profile.contains("SAVP"));
            media.get_or_insert((port, parts.collect()));
        } else if let Some(map) = line.strip_prefix("a=rtpmap:") {
            names.extend(map.split_once(' '));
        } else if let Some(word) = line.strip_prefix("a=")
            && matches!(word, "sendrecv" | "sendonly" | "recvonly" | "inactive")
        {
            direction = Some(word);
        } else if line.starts_with("a=crypto:") {
            secured = true;
        }
    }
    if let Some((port, types)) = media {
        let codecs: Vec<&str> = types
            .iter()
            .map(|number| {
                let mapped = names.iter().find(|(known, _)| known == number).map(|(_, name)| *name);
                mapped.unwrap_or(match *number {
                    "0" => "PCMU/8000",
                    "8" => "PCMA/8000",
                    "9" => "G722/8000",
                    "13" => "CN/8000",
                    other => other,
                })
            })
            .collect();
        note.push_str(&format!(" {connection}:{port} {}", codecs.join(" ")));
    }
    note.push_str(&format!(" {}", direction.unwrap_or("sendrecv")));
    if secured {
        note.push_str(" encrypted");
    }
    Some(note)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(sent: bool, remote: &str, text: &str) -> Value {
        let utc_us = 1_795_248_001_123_456i64;
        json!({ "utc_us": utc_us, "sent": sent, "transport": "udp", "remote": remote, "text": text })
    }

    #[test]
    fn a_call_is_a_ladder() {
        let mut ladder = Ladder::new(Paint::none());
        let pbx = "192.0.2.10:5060";
        let invite = "INVITE sip:600@pbx SIP/2.0\r\nCSeq: 1 INVITE\r\nAuthorization: ***\r\n\r\nv=0\r\n\
                      c=IN IP4 192.0.2.1\r\nm=audio 10000 RTP/AVP 8 101\r\n\
                      a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n";
        let mut drawn = ladder.draw(&message(true, pbx, invite));
        drawn.push_str(&ladder.draw(&message(false, pbx, "SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\n\r\n")));
        let lines: Vec<&str> = drawn.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "              tipring               udp 192.0.2.10:5060",
                "08:00:01.123  │────── INVITE sip:600@pbx +auth ──────▶│",
                "                SDP 192.0.2.1:10000 PCMA/8000 telephone-event/8000 sendonly",
                "08:00:01.123  │◀─────── 486 Busy Here (INVITE) ───────│",
            ]
        );
    }

    #[test]
    fn every_peer_has_a_column_until_there_are_too_many() {
        let mut ladder = Ladder::new(Paint::none());
        let mut last = String::new();
        for number in 1..=5 {
            let options = "OPTIONS sip:a SIP/2.0\r\n\r\n";
            last = ladder.draw(&message(true, &format!("192.0.2.{number}:5060"), options));
        }
        assert!(last.contains("OPTIONS sip:a [udp 192.0.2.5:5060]"), "{last}");
        assert!(last.lines().all(|line| line.chars().count() <= MARGIN + SPAN * PEERS + 1), "{last}");
    }

    #[test]
    fn a_hostile_message_draws_one_rung_and_no_escape() {
        let mut ladder = Ladder::new(Paint::none());
        let long = format!("INVITE sip:{}\x1b[2J SIP/2.0\r\nX", "a".repeat(5000));
        let drawn = ladder.draw(&message(false, "x", &long));
        assert!(drawn.lines().count() == 3 && !drawn.contains('\x1b'), "{drawn}");
        for odd in
            ["", "\r\n\r\n", "SIP/2.0", "SIP/2.0 \r\n\r\nv=0\r\nm=\r\nm=audio\r\nc=IN \r\na=rtpmap:\r\n"]
        {
            ladder.draw(&message(true, "x", odd));
        }
        ladder.draw(&json!(null));
    }
}

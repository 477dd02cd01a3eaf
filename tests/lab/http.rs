//! The least of an HTTP client: one request per connection over a Unix socket, and a stream of server-sent events.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// An answer: status and body (a string when it is no JSON, `Null` when it is empty).
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// One request and its answer.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let text = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    let mut reader = BufReader::new(stream);
    let (status, length, chunked) = head(&mut reader)?;
    let mut bytes = Vec::new();
    if chunked {
        while let Some(chunk) = chunk(&mut reader)? {
            bytes.extend(chunk);
        }
    } else if let Some(length) = length {
        bytes.resize(length, 0);
        reader.read_exact(&mut bytes)?;
    } else {
        reader.read_to_end(&mut bytes)?;
    }
    let text = || Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty());
    let body = serde_json::from_slice(&bytes).ok().or_else(|| text().map(Value::String));
    Ok(Answer { status, body: body.unwrap_or(Value::Null) })
}

fn head(reader: &mut impl BufRead) -> std::io::Result<(u16, Option<usize>, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((status, length, chunked));
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
    }
}

fn chunk(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
    if length == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// Follows a stream of server-sent events; each `data:` arrives as JSON until the stream ends.
pub fn follow(socket: PathBuf, path: &str) -> Receiver<Value> {
    let (sender, receiver) = channel();
    let path = path.to_owned();
    thread::spawn(move || -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&socket)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")?;
        let mut reader = BufReader::new(stream);
        let (_, _, chunked) = head(&mut reader)?;
        let mut text = Vec::new();
        loop {
            if chunked {
                let Some(bytes) = chunk(&mut reader)? else { return Ok(()) };
                text.extend(bytes);
            } else if reader.read_until(b'\n', &mut text)? == 0 {
                return Ok(());
            }
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                for line in String::from_utf8_lossy(&event).lines() {
                    if let Some(data) = line.strip_prefix("data:")
                        && let Ok(value) = serde_json::from_str(data.trim())
                        && sender.send(value).is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
    });
    receiver
}

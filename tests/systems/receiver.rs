//! A system upstream, as its own code would be written: it takes requests over HTTP and looks at each as systems of its kind
//! do, so that a webhook is believed only with the right signature.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What the receiver gave to whoever sets up a device.
pub const SECRET: &str = "whsec_cGxhbnRlZC1zZWNyZXQtb2YtYS1jdXN0b21lcg==";

/// One request that came, and was found right.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    pub content_type: String,
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub text: String,
    pub target: String,
    pub authorization: Option<String>,
    /// All header fields, by their names in lower case.
    pub fields: BTreeMap<String, String>,
    /// The status that it was answered with; 0 for none.
    pub status: u16,
}

impl Got {
    /// A header field; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The query of its target, decoded as a web server does it.
    pub fn query(&self) -> BTreeMap<String, String> {
        pairs(self.target.split_once('?').expect("a query").1)
    }

    pub fn event(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    pub fn sequence(&self) -> u64 {
        self.event()["sequence"].as_str().and_then(|it| it.parse().ok()).expect("a number")
    }
}

/// What a receiver of a kind looks at in every request: a wrong one is a failure of the test.
pub type Look = fn(&Got);

/// What is answered to a request, by how many came before it.
pub type Manner = Box<dyn FnMut(&Got, usize) -> Reply + Send>;

/// An answer.
pub enum Reply {
    Status(u16),
    /// A status with header fields and a body.
    Full(u16, &'static str, Vec<u8>),
    /// The head at once, then one byte of an endless body a second.
    Drip(u16),
    /// The head never ends.
    SlowHead,
    /// The connection is closed without an answer.
    Close,
}

pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    manner: Arc<Mutex<Manner>>,
    pub connections: Arc<AtomicUsize>,
    listener: Arc<TcpListener>,
}

/// A connection, with TLS or without.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Receiver {
    /// One that takes webhooks.
    pub fn open(manner: impl FnMut(&Got, usize) -> Reply + Send + 'static) -> Receiver {
        Receiver::with(None, webhook, manner)
    }

    /// One of another kind.
    pub fn of(look: Look, manner: impl FnMut(&Got, usize) -> Reply + Send + 'static) -> Receiver {
        Receiver::with(None, look, manner)
    }

    /// One that takes everything, over TLS.
    pub fn secure(tls: Arc<ServerConfig>) -> Receiver {
        Receiver::with(Some(tls), webhook, |_, _| Reply::Status(204))
    }

    fn with(
        tls: Option<Arc<ServerConfig>>,
        look: Look,
        manner: impl FnMut(&Got, usize) -> Reply + Send + 'static,
    ) -> Receiver {
        Receiver::on(TcpListener::bind("127.0.0.1:0").expect("a port"), tls, look, manner)
    }

    /// One that listens there already.
    pub fn on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        look: Look,
        manner: impl FnMut(&Got, usize) -> Reply + Send + 'static,
    ) -> Receiver {
        let listener = Arc::new(listener);
        let receiver = Receiver {
            address: listener.local_addr().expect("an address"),
            got: Arc::default(),
            manner: Arc::new(Mutex::new(Box::new(manner))),
            connections: Arc::default(),
            listener: listener.clone(),
        };
        let (got, manner) = (receiver.got.clone(), receiver.manner.clone());
        let connections = receiver.connections.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::Relaxed);
                let (got, manner) = (got.clone(), manner.clone());
                stream.set_nodelay(true).expect("no delay");
                stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
                let stream: Box<dyn Stream> = match &tls {
                    Some(tls) => {
                        let session = ServerConnection::new(tls.clone()).expect("a session");
                        Box::new(StreamOwned::new(session, stream))
                    }
                    None => Box::new(stream),
                };
                std::thread::spawn(move || converse(BufReader::new(stream), look, &got, &manner));
            }
        });
        receiver
    }

    /// One that takes everything.
    pub fn willing() -> Receiver {
        Receiver::open(|_, _| Reply::Status(204))
    }

    pub fn behave(&self, manner: impl FnMut(&Got, usize) -> Reply + Send + 'static) {
        *self.manner.lock().expect("a lock") = Box::new(manner);
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks/planted-path?k=planted-key", self.address)
    }

    /// A table of the configuration that names it.
    pub fn table(&self, name: &str, more: &str) -> String {
        let url = self.url();
        format!(
            "[[upstream]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
             events = [\"*\"]\n{more}\n"
        )
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("a lock").clone()
    }

    /// The numbers of the events that were taken, in the order in which they came first.
    pub fn taken(&self) -> Vec<u64> {
        let mut taken = Vec::new();
        for got in self.got().iter().filter(|got| (200..300).contains(&got.status)) {
            if !taken.contains(&got.sequence()) {
                taken.push(got.sequence());
            }
        }
        taken
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Whoever waits for a visitor is told that none will come.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn converse(
    mut lines: BufReader<Box<dyn Stream>>,
    look: Look,
    got: &Mutex<Vec<Got>>,
    manner: &Mutex<Manner>,
) {
    while let Some(request) = read(&mut lines) {
        look(&request);
        let out = lines.get_mut();
        let mut all = got.lock().expect("a lock");
        let reply = (manner.lock().expect("a lock"))(&request, all.len());
        let status = match &reply {
            Reply::Status(status) | Reply::Full(status, ..) | Reply::Drip(status) => *status,
            Reply::SlowHead | Reply::Close => 0,
        };
        all.push(Got { status, ..request });
        drop(all);
        let written = match reply {
            Reply::Status(status) => {
                out.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes())
            }
            Reply::Full(status, fields, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
                out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body))
            }
            Reply::Drip(status) => {
                let _ = write!(out, "HTTP/1.1 {status} X\r\nContent-Length: 1000000\r\n\r\n");
                while out.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_secs(1));
                }
                return;
            }
            Reply::SlowHead => {
                let _ = write!(out, "HTTP/1.1 200 OK\r\nX-Endless: ");
                while out.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_secs(1));
                }
                return;
            }
            Reply::Close => return,
        };
        if written.is_err() {
            return;
        }
    }
}

/// Reads one request; `None` at the end of the connection.
fn read(lines: &mut impl BufRead) -> Option<Got> {
    let mut first = String::new();
    lines.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = fields.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    Some(Got {
        method: words.next().expect("a method"),
        target: words.next().expect("a path"),
        content_type: field("content-type"),
        id: field("webhook-id"),
        timestamp: field("webhook-timestamp"),
        signature: field("webhook-signature"),
        text: String::from_utf8(body).expect("text"),
        authorization: fields.get("authorization").cloned(),
        status: 0,
        fields,
    })
}

/// What a receiver of Standard Webhooks looks at.
pub fn webhook(got: &Got) {
    assert!(got.method == "POST" && got.content_type.starts_with("application/cloudevents+json"), "{got:?}");
    assert!(is_signed(got), "the signature is wrong: {got:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let sent: u64 = got.timestamp.parse().expect("seconds");
    assert!(now.abs_diff(sent) < 300, "the signature is old");
}

/// HMAC-SHA256 (RFC 2104), written from the standard: the receiver does not ask the sender's code.
fn is_signed(got: &Got) -> bool {
    let mut key = BASE64_STANDARD.decode(SECRET.strip_prefix("whsec_").expect("the prefix")).expect("base64");
    key.resize(64, 0);
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let signed = format!("{}.{}.{}", got.id, got.timestamp, got.text);
    let inner = Sha256::digest([pad(0x36), signed.into_bytes()].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    got.signature.split(' ').any(|it| it == format!("v1,{}", BASE64_STANDARD.encode(outer)))
}

/// The fields of a query or a form, decoded as a web server does it.
pub fn pairs(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').expect("a name and a value");
            (name.to_owned(), decoded(value))
        })
        .collect()
}

fn decoded(value: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = value.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                u8::from_str_radix(str::from_utf8(&digits).expect("ASCII"), 16).expect("hexadecimal")
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(octets).expect("UTF-8")
}

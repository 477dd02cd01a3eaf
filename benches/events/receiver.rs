//! A system upstream that takes everything at once, and notes when it came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Inbox, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker;

/// Eight kinds of upstreams, as they are configured but for name and URL. Who takes them here does not look at signatures.
pub const KINDS: [&str; 8] = [
    "kind = \"webhook\"\nsecret = \"whsec_cGxhbnRlZC1zZWNyZXQtb2YtYS1jdXN0b21lcg==\"\nevents = [\"*\"]",
    "kind = \"slack\"\n[upstream.slack]\nlink = \"https://crm.example.com/search?number=$number\"",
    "kind = \"action-url\"\n[upstream.action_url]\nincoming_call = \"/?event=ring&from=$remote_number&name=$display_remote\"\n\
     call_established = \"/?event=talk&with=$remote_number\"\ncall_terminated = \"/?event=end&seconds=$duration\"\n\
     missed_call = \"/?event=missed&from=$remote_number\"\nhold = \"/?event=hold\"\nunhold = \"/?event=unhold\"",
    "kind = \"webitel\"\n[upstream.webitel]\ndomain = \"example.webitel.com\"\n\
     channel_answer = '{\"event\": ${event}, \"call\": ${uuid}}'",
    "kind = \"ringme\"\n[upstream.ringme]\nextension = \"13596*106\"\nextension_id = \"1138241\"",
    "kind = \"rostelecom\"\n[upstream.rostelecom]\nclient_id = \"000003C405E6525C64C184258C44EC99\"\n\
     key = \"00000716ABDA6D4DFF10F82BCBBFC532\"",
    "kind = \"mqtt\"\nevents = [\"*\"]\n[upstream.mqtt]\nspread = \"0s\"",
    "kind = \"bitrix24\"\n[upstream.bitrix24]\nclient_id = \"local.1\"\nclient_secret = \"s\"\nrefresh_token = \"r\"\n\
     sign_in = \"http://ADDRESS/oauth/token/\"",
];

/// What is answered: all that a portal and its sign-in server ever say to a question; the others look at the status.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 83\r\n\r\n\
    {\"result\":{\"CALL_ID\":\"c\"},\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_in\":3600}";

/// One delivery.
pub struct Delivery {
    /// When its first byte was here, in microseconds since 1970.
    pub arrived_us: i64,
    /// Its body.
    pub body: Vec<u8>,
}

/// Where deliveries come to, by HTTP or MQTT; each connection has a thread.
pub struct Receiver {
    pub address: SocketAddr,
    inbox: Inbox<Delivery>,
}

impl Receiver {
    /// Opens one on a free port of the loopback.
    pub fn open() -> io::Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (deliveries, inbox) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let deliveries = deliveries.clone();
                std::thread::spawn(move || drop(converse(stream, &deliveries)));
            }
        });
        Ok(Receiver { address, inbox })
    }

    /// A table of the configuration that names it, with what one of [`KINDS`] needs.
    pub fn table(&self, name: &str, kind: &str) -> String {
        let scheme = if kind.contains("\"mqtt\"") { "mqtt" } else { "http" };
        let kind = kind.replace("ADDRESS", &self.address.to_string());
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{scheme}://{}\"\n{kind}\n", self.address)
    }

    /// What has come until now.
    pub fn all(&self) -> Vec<Delivery> {
        self.inbox.try_iter().collect()
    }
}

fn converse(stream: TcpStream, deliveries: &Sender<Delivery>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first)? > 0 && first[0] == broker::HELLO {
        return broker::converse(stream, deliveries);
    }
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        let arrived_us = utc_us();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        out.write_all(ANSWER)?;
        if deliveries.send(Delivery { arrived_us, body }).is_err() {
            return Ok(());
        }
    }
}

/// Microseconds since 1970.
pub fn utc_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

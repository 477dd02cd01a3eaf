//! A broker over real sockets, with or without TLS, whose side of MQTT is written from the standard: it keeps what is retained
//! and what was taken, and cuts connections when a test wants that.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

#[allow(dead_code, reason = "the tests in virtual time use the rest")]
#[path = "../../src/events/upstream/mqtt/paper_broker.rs"]
mod paper;

pub use paper::{Connect, Heard, Told, message};

/// What is done with a packet.
pub enum Reply {
    /// What a willing broker does.
    Usual,
    Bytes(Vec<u8>),
    /// The connection ends; what came is not taken.
    Close,
    /// Nothing is read any more.
    Deaf,
}

type Manner = Box<dyn FnMut(&Heard, usize) -> Reply + Send>;

#[derive(Default)]
struct Kept {
    hello: Option<Connect>,
    /// What was taken, in order.
    got: Vec<Told>,
    retained: BTreeMap<String, Vec<u8>>,
    subscribed: Vec<String>,
    /// What the device is sent next.
    mail: Vec<u8>,
}

pub struct Broker {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    manner: Arc<Mutex<Manner>>,
    pub connections: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Broker {
    pub fn willing() -> Broker {
        Broker::open(None, |_, _| Reply::Usual)
    }

    pub fn open(
        tls: Option<Arc<ServerConfig>>,
        manner: impl FnMut(&Heard, usize) -> Reply + Send + 'static,
    ) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let broker = Broker {
            address: listener.local_addr().expect("an address"),
            kept: Arc::default(),
            manner: Arc::new(Mutex::new(Box::new(manner))),
            connections: Arc::default(),
            ended: Arc::default(),
        };
        let (kept, manner, ended) = (broker.kept.clone(), broker.manner.clone(), broker.ended.clone());
        let connections = broker.connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let stream = stream.expect("a visitor");
                stream.set_nodelay(true).expect("no delay");
                // It looks up from reading now and then, to see whether there is mail.
                stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a limit");
                let (kept, manner, tls) = (kept.clone(), manner.clone(), tls.clone());
                std::thread::spawn(move || {
                    let stream: Box<dyn Stream> = match tls {
                        Some(tls) => {
                            let session = ServerConnection::new(tls).expect("a session");
                            Box::new(StreamOwned::new(session, stream))
                        }
                        None => Box::new(stream),
                    };
                    converse(stream, &kept, &manner);
                });
            }
        });
        broker
    }

    pub fn behave(&self, manner: impl FnMut(&Heard, usize) -> Reply + Send + 'static) {
        *self.manner.lock().expect("a lock") = Box::new(manner);
    }

    /// A table of the configuration that names it.
    pub fn table(&self, name: &str, more: &str, mqtt: &str) -> String {
        format!(
            "[[upstream]]\nname = \"{name}\"\nkind = \"mqtt\"\nurl = \"mqtt://{}\"\nevents = [\"*\"]\n{more}\n\
             [upstream.mqtt]\nspread = \"0s\"\ntopic = \"v1/acme/$serial\"\n{mqtt}\n",
            self.address
        )
    }

    pub fn hello(&self) -> Option<Connect> {
        self.kept.lock().expect("a lock").hello.clone()
    }

    /// The messages that were taken.
    pub fn got(&self) -> Vec<Told> {
        self.kept.lock().expect("a lock").got.clone()
    }

    /// The events among them: number, identity.
    pub fn events(&self) -> Vec<(u64, String)> {
        let got = self.got();
        let events = got.iter().filter(|told| told.topic.ends_with("/event")).map(event);
        let number = |event: &Value| event["sequence"].as_str().and_then(|it| it.parse().ok());
        events
            .map(|event| (number(&event).expect("a number"), event["id"].as_str().expect("an id").to_owned()))
            .collect()
    }

    /// The numbers of the events that were taken, in the order in which they came first.
    pub fn taken(&self) -> Vec<u64> {
        let mut seen = std::collections::BTreeSet::new();
        self.events().into_iter().map(|(number, _)| number).filter(|number| seen.insert(*number)).collect()
    }

    /// Sends the device these bytes.
    pub fn post(&self, bytes: Vec<u8>) {
        self.kept.lock().expect("a lock").mail.extend(bytes);
    }

    pub fn listens(&self, topic: &str) -> bool {
        self.kept.lock().expect("a lock").subscribed.iter().any(|it| it == topic)
    }

    /// What was answered to commands.
    pub fn answers(&self) -> Vec<Value> {
        self.got().iter().filter(|told| told.topic.ends_with("/response")).map(event).collect()
    }

    pub fn retained(&self, topic: &str) -> Value {
        let kept = self.kept.lock().expect("a lock");
        kept.retained.get(topic).map_or(Value::Null, |text| serde_json::from_slice(text).expect("JSON"))
    }
}

/// The JSON in a message.
pub fn event(told: &Told) -> Value {
    serde_json::from_slice(&told.payload).expect("JSON")
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(mut stream: Box<dyn Stream>, kept: &Mutex<Kept>, manner: &Mutex<Manner>) {
    let (mut five, mut will, mut unread, mut count) = (false, None, Vec::new(), 0);
    let mut chunk = [0; 4096];
    'connection: loop {
        let mail = std::mem::take(&mut kept.lock().expect("a lock").mail);
        if stream.write_all(&mail).and_then(|()| stream.flush()).is_err() {
            break;
        }
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => unread.extend(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        while let Some(heard) = paper::hear(&mut unread, five) {
            let reply = (manner.lock().expect("a lock"))(&heard, count);
            count += 1;
            let mut kept = kept.lock().expect("a lock");
            let answer = match reply {
                Reply::Usual => take(&mut kept, heard.clone(), five),
                Reply::Bytes(bytes) => bytes,
                Reply::Close => break 'connection,
                Reply::Deaf => loop {
                    std::thread::sleep(Duration::from_secs(60));
                },
            };
            let ends = matches!(heard, Heard::Disconnect(_));
            if ends {
                will = None;
            } else if let Heard::Connect(hello) = heard {
                (five, will) = (hello.five, hello.will.clone());
                kept.hello = Some(hello);
            }
            drop(kept);
            if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() || ends {
                break 'connection;
            }
        }
    }
    if let Some(will) = will {
        kept.lock().expect("a lock").retained.insert(will.topic, will.payload);
    }
}

/// Takes something; what is answered.
fn take(kept: &mut Kept, heard: Heard, five: bool) -> Vec<u8> {
    match heard {
        Heard::Connect(hello) => paper::greeting(hello.five, false, 0, &[]),
        Heard::Publish(told) => {
            if told.retain {
                kept.retained.insert(told.topic.clone(), told.payload.clone());
            }
            let answer = told.id.map(|id| paper::acknowledgement(id, 0)).unwrap_or_default();
            kept.got.push(told);
            answer
        }
        Heard::Subscribe { id, topic } => {
            kept.subscribed.push(topic);
            paper::granted(five, id, 1)
        }
        Heard::Ping => paper::pong(),
        Heard::Acknowledged(_) | Heard::Disconnect(_) => Vec::new(),
    }
}

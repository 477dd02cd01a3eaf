//! The connection to a broker: carries the bytes of a [`Session`], and nothing else.
//!
//! A broker is read no faster than [`RATE`]: what it sends beyond that waits in its own buffers, and nobody here is later
//! for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::door::{Door, Trouble};
use crate::chance::Chance;
use crate::config;
use crate::events::upstream::desk::{Tested, UpstreamError};
use crate::events::upstream::mqtt::Session;
use crate::events::upstream::outcome::{Outcome, Verdict};
use crate::now::{Now, earliest};
use crate::phone::snapshot::Snapshot;

/// Bytes that are read at once.
const CHUNK: usize = 4096;
/// Bytes that are read in a second at most.
const RATE: u64 = 256 << 10;
/// Packets that may wait to be written.
const QUEUE: usize = 256;
/// For a broker to read what is written.
const WRITING: Duration = Duration::from_secs(20);
/// How soon after something happened the state is looked at: a call begins with several events.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(1);

/// What a connection brings.
pub enum Came {
    /// It stands, and takes packets here.
    Opened(mpsc::Sender<Vec<u8>>),
    /// Bytes of the broker.
    Bytes(Vec<u8>),
    /// It ended, or never stood.
    Lost(Trouble),
}

/// Where a connection brings what comes.
pub struct Home {
    /// The one who drives all upstreams.
    pub results: mpsc::Sender<super::Came>,
    /// The upstream.
    pub key: u64,
    /// See [`Broker::connection`].
    pub connection: u64,
}

impl Home {
    async fn bring(&self, came: Came) {
        let (key, connection) = (self.key, self.connection);
        // Whoever drives them may have ended.
        let _ = self.results.send(super::Came::Broker { key, connection, came }).await;
    }
}

/// The broker of one upstream.
pub struct Broker {
    /// What is said there.
    pub session: Session,
    /// Where packets go while a connection stands.
    pub packets: Option<mpsc::Sender<Vec<u8>>>,
    /// Another one for each connection: what comes late from the one before is nobody's.
    pub connection: u64,
    /// When the state of the phone is asked for.
    look_at: Option<u64>,
    tests: VecDeque<(oneshot::Sender<Result<Tested, UpstreamError>>, Now)>,
}

impl Broker {
    /// The broker of this upstream, for the device with this serial number.
    pub fn new(now: Now, settings: &config::Upstream, serial: &str, chance: Chance) -> Broker {
        let session = Session::new(now, settings, serial, chance);
        Broker { session, packets: None, connection: 0, look_at: Some(now.mono_us), tests: VecDeque::new() }
    }

    /// What its connection brings.
    pub fn came(&mut self, now: Now, came: Came) {
        match came {
            Came::Opened(packets) => {
                self.packets = Some(packets);
                self.session.handle_opened(now);
            }
            Came::Bytes(bytes) => self.session.handle_bytes(now, &bytes),
            Came::Lost((what, cure)) => {
                self.packets = None;
                self.session.handle_lost(now, what, cure);
            }
        }
    }

    /// Something happened: the state may be another one.
    pub fn happened(&mut self, now: Now) {
        self.look_at.get_or_insert(now.deadline(LOOKED_AT_AFTER));
    }

    /// Whether the state of the phone is to be asked for now.
    pub fn looks(&mut self, now: Now) -> bool {
        self.look_at.take_if(|at| *at <= now.mono_us).is_some()
    }

    /// When this is to be driven next.
    pub fn poll_timeout(&self) -> Option<u64> {
        earliest(self.look_at, self.session.poll_timeout())
    }

    /// Sends a packet, or gives the connection up where it takes none.
    pub fn write(&mut self, now: Now, packet: Vec<u8>) {
        if self.packets.as_ref().is_some_and(|packets| packets.try_send(packet).is_err()) {
            self.packets = None;
            let what = "the broker does not read what it is sent".to_owned();
            self.session.handle_lost(now, what, "look into its log".to_owned());
        }
    }

    /// Sends a test, whose outcome goes to `reply`.
    pub fn test(
        &mut self,
        now: Now,
        (topic, payload): (String, Vec<u8>),
        reply: oneshot::Sender<Result<Tested, UpstreamError>>,
    ) {
        self.tests.push_back((reply, now));
        self.session.publish(now, 0, topic, payload);
    }

    /// What became of the oldest test.
    pub fn tested(&mut self, now: Now, outcome: Outcome, trouble: Option<Trouble>) {
        let Some((reply, begun)) = self.tests.pop_front() else { return };
        let duration_us = now.mono_us.saturating_sub(begun.mono_us);
        let (taken, status) = (outcome.verdict() == Verdict::Taken, outcome.status());
        let explain = || match (outcome, trouble) {
            (Outcome::Failed { .. }, Some(trouble)) => trouble,
            (outcome, _) => outcome.explain(config::UpstreamKind::Mqtt),
        };
        let (reason, cure) = (!taken).then(explain).unzip();
        // Who asked may have gone away meanwhile.
        let _ = reply.send(Ok(Tested { taken, status, duration_us, reason, cure }));
    }

    /// No test can be answered any more.
    pub fn fail_tests(&mut self, now: Now, what: &str, cure: &str) {
        while !self.tests.is_empty() {
            self.tested(now, Outcome::Failed { what: what.to_owned(), cure: cure.to_owned() }, None);
        }
    }
}

/// How the device is, as the broker keeps it for whoever comes later. No number and no name is in it.
pub fn state(snapshot: &Snapshot, settings: &config::Upstream, config: &config::Config) -> Vec<u8> {
    let wanted = |name: &String| settings.lines.is_empty() || settings.lines.contains(name);
    let lines = snapshot.lines.iter().filter(|line| wanted(&line.name)).map(|line| {
        let calls = snapshot.calls.iter().filter(|call| call.line == line.name).count();
        json!({ "name": line.name, "state": line.state, "dnd": line.dnd, "calls": calls })
    });
    let state = json!({
        "state": "online",
        "serial": snapshot.serial,
        "name": snapshot.name,
        "version": snapshot.version,
        "started": snapshot.started,
        "revision": config.device.revision,
        "lines": lines.collect::<Vec<_>>(),
    });
    state.to_string().into_bytes()
}

/// Carries one connection to its end: until the broker ends it, or nobody has packets for it any more.
pub async fn carry(door: Arc<Door>, home: Home) {
    let stream = match door.open().await {
        Ok(stream) => stream,
        Err(trouble) => return home.bring(Came::Lost(trouble)).await,
    };
    let (packets, mut inbox) = mpsc::channel::<Vec<u8>>(QUEUE);
    home.bring(Came::Opened(packets)).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        loop {
            let mut chunk = vec![0; CHUNK];
            match reader.read(&mut chunk).await {
                Ok(0) => return "the broker ends the connection".to_owned(),
                Ok(count) => {
                    chunk.truncate(count);
                    home.bring(Came::Bytes(chunk)).await;
                    tokio::time::sleep(Duration::from_micros(count as u64 * 1_000_000 / RATE)).await;
                }
                Err(error) => return format!("the connection to the broker ends: {error}"),
            }
        }
    };
    let writing = async {
        while let Some(packet) = inbox.recv().await {
            match timeout(WRITING, writer.write_all(&packet)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(format!("the broker takes nothing: {error}")),
                Err(_) => return Some("the broker does not read what it is sent".to_owned()),
            }
            if inbox.is_empty() {
                // What can't be sent is told by the next packet, or by whoever reads.
                let _ = timeout(WRITING, writer.flush()).await;
            }
        }
        let _ = timeout(WRITING, writer.shutdown()).await;
        None
    };
    let what = tokio::select! {
        what = reading => Some(what),
        what = writing => what,
    };
    if let Some(what) = what {
        home.bring(Came::Lost((what, "look into its log, and at what stands between".to_owned()))).await;
    }
}

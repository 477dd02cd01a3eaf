//! What upstreams have done for one delivery or one test: a request sent, something kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::clock;
use super::door::Door;
use super::{Came, Running};
use crate::events::archive::Archive;
use crate::events::store::Write;
use crate::events::upstream::desk::{Tested, UpstreamError};
use crate::events::upstream::dialect::{Frozen, Request};
use crate::events::upstream::outcome::{Outcome, Verdict};
use crate::events::upstream::turn::{Note, Tried};
use crate::now::Now;

/// How soon the store is asked again that did not keep something.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends a request of a delivery.
pub(super) fn deliver(
    running: &mut Running,
    sequence: u64,
    mut request: Request,
    results: mpsc::Sender<Came>,
) {
    let key = running.key;
    if let Some(door) = elsewhere(&mut request) {
        running.tasks.spawn(async move {
            let (outcome, _) = door.send(None, &request).await;
            let _ = results.send(Came::Attempted { key, sequence, outcome }).await;
        });
        return;
    }
    let (door, resting) = (running.door.clone(), running.resting.pop());
    running.tasks.spawn(async move {
        let (outcome, rest) = door.send(resting, &request).await;
        let _ = results.send(Came::Attempted { key, sequence, outcome }).await;
        if let Some(rest) = rest
            && let Some(resting) = rest.drain().await
        {
            let _ = results.send(Came::Rests { key, resting }).await;
        }
    });
}

/// The way to another place than the upstream's own, if the request goes there.
fn elsewhere(request: &mut Request) -> Option<Arc<Door>> {
    request.elsewhere.take().map(|url| Arc::new(Door::to(url)))
}

/// Has something kept for good, and says so to the delivery that waits for it.
pub(super) fn remember(
    running: &mut Running,
    sequence: Option<u64>,
    notes: Vec<Note>,
    archive: &Archive,
    results: mpsc::Sender<Came>,
) {
    for Note { key, value } in &notes {
        match value {
            Some(value) => drop(running.notes.insert(key.clone(), value.clone())),
            None => drop(running.notes.remove(key)),
        }
    }
    let write = Write::Notes { upstream: running.upstream.settings().name.clone(), notes };
    let mut kept = Box::pin(archive.commit(write.clone()));
    let (key, archive) = (running.key, archive.clone());
    running.tasks.spawn(async move {
        while kept.as_mut().await.is_err() {
            tokio::time::sleep(AGAIN).await;
            kept.set(archive.commit(write.clone()));
        }
        if let Some(sequence) = sequence {
            let _ = results.send(Came::Remembered { key, sequence }).await;
        }
    });
}

/// A test of an upstream, which may take several requests.
pub(super) struct Trial {
    test: Frozen,
    begun: Now,
    reply: oneshot::Sender<Result<Tested, UpstreamError>>,
}

impl Trial {
    /// Begins one, whose outcome goes to `reply`.
    pub(super) fn begin(
        running: &mut Running,
        reply: oneshot::Sender<Result<Tested, UpstreamError>>,
        results: &mpsc::Sender<Came>,
    ) {
        let begun = clock::now();
        let Some((test, request)) = running.upstream.test(begun) else {
            drop(reply.send(Err(UpstreamError::Busy)));
            return;
        };
        match &mut running.broker {
            Some(broker) => broker.test(begun, (request.target, request.body), reply),
            None => Box::new(Trial { test, begun, reply }).send(running, request, results),
        }
    }

    fn send(self: Box<Self>, running: &mut Running, mut request: Request, results: &mpsc::Sender<Came>) {
        let (key, results) = (running.key, results.clone());
        let door = elsewhere(&mut request).unwrap_or_else(|| running.door.clone());
        running.tasks.spawn(async move {
            let (outcome, _) = door.send(None, &request).await;
            let _ = results.send(Came::Tested { key, test: self, outcome }).await;
        });
    }

    /// What became of a request of it.
    pub(super) fn heard(
        self: Box<Self>,
        running: &mut Running,
        outcome: Outcome,
        results: &mpsc::Sender<Came>,
    ) {
        let now = clock::now();
        let (verdict, trouble) = match running.upstream.handle_tested(now, &self.test, &outcome) {
            Tried::Next(request) => return self.send(running, request, results),
            Tried::Over(verdict, trouble) => (verdict, trouble),
        };
        let duration_us = now.mono_us.saturating_sub(self.begun.mono_us);
        let (taken, status, kind) =
            (verdict == Verdict::Taken, outcome.status(), running.upstream.settings().kind);
        let (reason, cure) = (!taken).then(|| trouble.unwrap_or_else(|| outcome.explain(kind))).unzip();
        // Who asked may have gone away meanwhile.
        let _ = self.reply.send(Ok(Tested { taken, status, duration_us, reason, cure }));
    }
}

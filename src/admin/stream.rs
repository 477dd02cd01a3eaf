//! The event stream: what is kept since a number, and then what is kept next, as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::access::{Pass, Peer};
use super::answer::{Answer, Problem};
use super::request::Asked;
use super::{App, now_utc_us};
use crate::config::{Config, Role};
use crate::events::CloudEvent;
use crate::events::archive::Archive;

/// Events that are read from the store at a time.
const PAGE: u32 = 100;
/// Pages that wait for a slow reader.
const AHEAD: usize = 2;
/// How often a quiet stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon the store is asked again after it could not answer.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
pub(super) struct Since {
    #[serde(default)]
    since: Option<String>,
}

pub(super) async fn events(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Asked(Since { since }): Asked<Since>,
) -> Answer {
    let last = headers.get("last-event-id").map(|it| it.to_str().unwrap_or("?").to_owned());
    let archive = app.office.archive.clone();
    let since = match last.or(since) {
        None => archive.committed(),
        Some(number) => number.trim().parse().map_err(|_| {
            let hint = "give the `id` of the last event that you have, or 0 for all";
            Problem::wrong("the number of the last known event is no number", hint)
        })?,
    };
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        let hint = "end a stream that nobody reads, or let one reader pass events on";
        return Err(Problem::unavailable("too_many_streams", "32 readers follow the events already", hint));
    };
    let serial = app.office.config.borrow().device.serial.clone().unwrap_or_default();
    let (pages, outbox) = mpsc::channel(AHEAD);
    let (pass, config) = (Pass::of(&headers, peer), app.office.config.clone());
    let reader = Reader { archive, serial, since, pages, closing: app.closing.clone(), pass, config };
    tokio::spawn(reader.run());
    let body = Body::new(Stream { outbox, _place: place });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache, no-store")];
    Ok((kind, body).into_response() as Response)
}

/// Feeds one reader until it goes away, may read no more, or the appliance ends.
struct Reader {
    archive: Archive,
    serial: String,
    since: u64,
    pages: mpsc::Sender<String>,
    closing: watch::Receiver<bool>,
    pass: Pass,
    config: watch::Receiver<Arc<Config>>,
}

impl Reader {
    /// Whether the reader knows numbers that this store never gave. While it is being opened the store has to be asked:
    /// nothing is committed then that anybody could be told of, and much may be kept.
    async fn is_of_another_store(&self) -> bool {
        self.since > self.archive.committed()
            && self.archive.upstreams().await.is_ok_and(|known| self.since > known.newest)
    }

    async fn run(mut self) {
        let mut first = String::from("retry: 2000\n: events\n\n");
        if self.is_of_another_store().await {
            // The reader knows numbers of a store that is gone: all that is kept now is new to it.
            let reason = Some("the store was begun anew".to_owned());
            let gap = CloudEvent::gap(0, 0, reason, now_utc_us());
            first.push_str(&rendered(&gap, &self.serial));
            self.since = 0;
        }
        if self.pages.send(first).await.is_err() {
            return;
        }
        loop {
            if !self.pass.holds(&self.config.borrow_and_update().admin, Role::View) {
                return;
            }
            // What is kept at the end still goes out: the end is looked at after the store.
            let ending = *self.closing.borrow();
            match self.archive.events(self.since, PAGE).await {
                Ok(events) if !events.is_empty() => {
                    let mut page = String::new();
                    for event in &events {
                        page.push_str(&rendered(event, &self.serial));
                        self.since = self.since.max(event.sequence);
                    }
                    if self.pages.send(page).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(_) if ending => return,
                Ok(_) => {}
                Err(_) if ending => return,
                Err(error) => {
                    tracing::debug!("a reader of events waits for the store: {error}");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = ended(&mut self.closing) => {}
                    }
                }
            }
            tokio::select! {
                newer = self.archive.newer_than(self.since) => if !newer { return },
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    if self.pages.send(": alive\n\n".to_owned()).await.is_err() {
                        return;
                    }
                }
                () = changed(&mut self.config) => {}
                () = ended(&mut self.closing) => {}
                () = self.pages.closed() => return,
            }
        }
    }
}

/// Waits for the end of the appliance.
pub(super) async fn ended(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Waits for another configuration.
async fn changed(config: &mut watch::Receiver<Arc<Config>>) {
    if config.changed().await.is_err() {
        // There will be none.
        std::future::pending().await
    }
}

fn rendered(event: &CloudEvent, serial: &str) -> String {
    format!("id: {}\ndata: {}\n\n", event.sequence, event.to_json(serial))
}

/// The body of the answer: pages as they come.
struct Stream {
    outbox: mpsc::Receiver<String>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.outbox.poll_recv(context).map(|page| page.map(|page| Ok(Frame::data(page.into()))))
    }
}

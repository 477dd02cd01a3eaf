//! One request to an upstream over HTTP/1.1, with limits on everything that the other side may draw out or inflate.
//!
//! A status is an answer: unless its dialect asks for more, what follows it is read only so far that the connection can be
//! used again, while the outcome is told already.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::RETRY_AFTER;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::super::clock;
use super::super::sip_network::Stream;
use super::door::Door;
use crate::events::upstream::dialect::Request;
use crate::events::upstream::outcome::Outcome;
use crate::events::upstream::retry_after;

/// From the request to the head of its answer.
const ANSWERING: Duration = Duration::from_secs(15);
/// For the rest of the answer, which nobody needs.
const DRAINING: Duration = Duration::from_secs(2);
/// Bytes of that rest, past which the connection is not used again.
const LARGEST_REST: usize = 64 << 10;
/// Bytes of the head of an answer.
const LARGEST_HEAD: usize = 16 << 10;
/// Fields in it.
const FIELDS: usize = 64;
/// A recording goes out at this many bytes a second at least.
const SLOWEST: u64 = 8 << 10;
/// Bytes of a recording that are read at once.
const PIECE: usize = 64 << 10;
/// A connection that rested for longer may be dead without anybody having told: routers forget.
const RESTED: Duration = Duration::from_secs(50);

/// A connection between two requests.
pub struct Resting {
    sender: http1::SendRequest<Whole>,
    since: Instant,
}

/// An answer of which only the head was read.
pub struct Rest {
    sender: http1::SendRequest<Whole>,
    body: Incoming,
}

impl Door {
    /// Sends a request over the connection that rests, if it still stands, or over a new one. What is left of the answer
    /// comes back with the outcome.
    pub async fn send(&self, resting: Option<Resting>, request: &Request) -> (Outcome, Option<Rest>) {
        let usable = |it: &Resting| !request.once && it.since.elapsed() < RESTED && !it.sender.is_closed();
        if let Some(resting) = resting.filter(usable) {
            // The other side may have closed it in this very moment; a new one shows whether it is there.
            if let Ok(answered) = self.exchange(resting.sender, request).await {
                return answered;
            }
        }
        let fresh = async { self.exchange(shake_hands(self.open().await?).await?, request).await };
        fresh.await.unwrap_or_else(|(what, cure)| (Outcome::Failed { what, cure }, None))
    }

    async fn exchange(
        &self,
        mut sender: http1::SendRequest<Whole>,
        request: &Request,
    ) -> Result<(Outcome, Option<Rest>), (String, String)> {
        let look = || "look into its log, and at what stands between".to_owned();
        let mut head = hyper::Request::builder()
            .method(request.method)
            .uri(&request.target)
            .header("host", self.authority())
            .header("user-agent", concat!("tipring/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &request.headers {
            head = head.header(*name, value);
        }
        let unwritable = |error: String| Ok((Outcome::Unwritable { what: error }, None));
        let body = match Whole::of(request, self.recordings()) {
            Ok(body) => body,
            Err(error) => return unwritable(format!("the recording can't be read: {error}")),
        };
        let patience = ANSWERING + Duration::from_secs(body.left() / SLOWEST);
        let whole = match head.body(body) {
            Ok(whole) => whole,
            Err(error) => return unwritable(format!("the request can't be written: {error}")),
        };
        match timeout(patience, sender.send_request(whole)).await {
            Ok(Ok(response)) => {
                let (mut outcome, body) = understood(response);
                let mut rest = Rest { sender, body };
                if let (Outcome::Answered { said, .. }, 1..) = (&mut outcome, request.reads) {
                    // Of one that is too long, or too slow, there is the beginning.
                    let reading = rest.take(request.reads, |piece| said.extend_from_slice(piece));
                    let _ = timeout(ANSWERING, reading).await;
                }
                Ok((outcome, Some(rest)))
            }
            Ok(Err(error)) => Err((format!("the connection gives no answer: {error}"), look())),
            // It was sent, and may have been taken: the same again at once would only be another wait.
            Err(_) => {
                let what = format!("no answer comes within {} seconds", patience.as_secs());
                Ok((Outcome::Failed { what, cure: "have it answer first and work then".to_owned() }, None))
            }
        }
    }
}

impl Rest {
    /// Reads what is left, if it is little; then the connection can be used again.
    pub async fn drain(mut self) -> Option<Resting> {
        timeout(DRAINING, self.take(LARGEST_REST, |_| {})).await.ok()??;
        self.rest().await
    }

    /// The body of the answer, if it has no more bytes than these and comes whole; and the connection, if it can be used
    /// again. How long that may take is for the caller to say.
    pub async fn read(mut self, most: usize) -> Option<(Vec<u8>, Option<Resting>)> {
        let mut body = Vec::new();
        self.take(most, |piece| body.extend_from_slice(piece)).await?;
        Some((body, self.rest().await))
    }

    async fn take(&mut self, most: usize, mut piece: impl FnMut(&[u8])) -> Option<()> {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
            let frame = frame.ok()?;
            let Some(data) = frame.data_ref() else { continue };
            bytes += data.len();
            if bytes > most {
                return None;
            }
            piece(data);
        }
        Some(())
    }

    async fn rest(mut self) -> Option<Resting> {
        let ready = poll_fn(|context| self.sender.poll_ready(context));
        timeout(DRAINING, ready).await.ok()?.ok()?;
        Some(Resting { sender: self.sender, since: Instant::now() })
    }
}

fn understood(response: Response<Incoming>) -> (Outcome, Incoming) {
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = asked.and_then(|value| retry_after::read(value, clock::now().utc_us));
    let status = response.status().as_u16();
    (Outcome::Answered { status, retry_after, said: Vec::new() }, response.into_body())
}

/// Boxed: all that HTTP is would be there once more for each kind of stream.
async fn shake_hands(stream: Box<dyn Stream>) -> Result<http1::SendRequest<Whole>, (String, String)> {
    let mut client = http1::Builder::new();
    client.max_buf_size(LARGEST_HEAD).max_headers(FIELDS);
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(|error| {
        let what = format!("the connection can't be used: {error}");
        (what, "check that a web server answers at url".to_owned())
    })?;
    // It ends with its sender; why is told by the request that fails.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// A body whose size is known: what is there of it, a recording, and what follows that.
pub struct Whole {
    before: Option<Bytes>,
    /// The file, and how much of it is left.
    file: Option<(File, u64)>,
    tail: Option<Bytes>,
}

impl Whole {
    fn of(request: &Request, recordings: &Path) -> io::Result<Whole> {
        let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes));
        let mut whole = Whole { before: some(&request.body), file: None, tail: None };
        if let Some(enclosed) = &request.enclosed {
            let file = File::open(recordings.join(format!("{}.wav", enclosed.recording)))?;
            let size = file.metadata()?.len();
            whole.file = Some((file, size)).filter(|_| size > 0);
            whole.tail = some(&enclosed.tail);
        }
        Ok(whole)
    }

    /// Bytes that are still to be sent.
    fn left(&self) -> u64 {
        let there = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        there(&self.before) + self.file.as_ref().map_or(0, |(_, left)| *left) + there(&self.tail)
    }

    /// The next piece of the file.
    fn piece(&mut self) -> Option<io::Result<Bytes>> {
        let (file, left) = self.file.as_mut()?;
        let wanted = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; wanted];
        // A file that became shorter meanwhile ends the request: its size is said already.
        let read = file.read_exact(&mut piece);
        *left -= wanted as u64;
        if *left == 0 || read.is_err() {
            self.file = None;
        }
        Some(read.map(|()| Bytes::from(piece)))
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.before.take().map(Ok).or_else(|| self.piece()).or_else(|| self.tail.take().map(Ok));
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

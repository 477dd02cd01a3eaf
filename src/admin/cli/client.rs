//! The asking side of the API: one request per connection, and streams of server-sent events.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ABSENT, FAILED, WRONG};
use crate::admin::entrance::Duplex;
pub(super) use crate::config::template::percent_encoded as escaped;

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWERING: Duration = Duration::from_secs(40);
/// Bytes of an answer.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Bytes of one event.
const LARGEST_EVENT: usize = 1024 * 1024;

/// Where the API is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// The local socket.
    Socket(PathBuf),
    /// An address in the network, as host and port.
    Network(String),
    /// The same, over TLS.
    Secure(String),
}

/// Why there is no answer, or why it is no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error(
        "no running tipring was found at {place}: {error}; \
         start it with `tipring run`, or name it with --api URL"
    )]
    Absent {
        /// Where it was looked for.
        place: String,
        /// The system's words.
        error: io::Error,
    },
    /// The socket is there, and this user may not use it.
    #[error("{place} may not be used by this user: {error}; run it as root, or join the group of the socket")]
    NotAllowed {
        /// Where.
        place: String,
        /// The system's words.
        error: io::Error,
    },
    /// Somebody is there, and it is not sure that it is the appliance.
    #[error(
        "{place} can't be believed: {error}; \
         give the certificate of the authority that signed its certificate with --ca FILE, and the name that it is for"
    )]
    Unbelievable {
        /// Where.
        place: String,
        /// What the handshake ended with.
        error: io::Error,
    },
    /// What was given with `--api` is no place.
    #[error(
        "--api {0} is no place of an API; write unix:///run/tipring.sock, http://HOST:PORT or \
         https://HOST:PORT"
    )]
    NoPlace(String),
    /// The API says no.
    #[error("{message}; {hint}{}", .findings.iter().map(|it| format!("\n{it}")).collect::<String>())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What is the matter.
        message: String,
        /// What to do next.
        hint: String,
        /// More sentences, if there are.
        findings: Vec<String>,
    },
    /// The connection broke, or the answer is no answer of this API.
    #[error("{0}; is it tipring that answers there, and does it still run?")]
    Broken(String),
}

impl ClientError {
    /// The exit code of a command that failed so.
    pub fn code(&self) -> u8 {
        match self {
            ClientError::Absent { .. } => ABSENT,
            ClientError::NoPlace(_) | ClientError::Refused { status: 400 | 422, .. } => WRONG,
            ClientError::NotAllowed { .. }
            | ClientError::Unbelievable { .. }
            | ClientError::Refused { .. }
            | ClientError::Broken(_) => FAILED,
        }
    }
}

impl Place {
    /// Reads what `--api` gives: `unix:///path`, a path, `http://host:port`, `https://host:port` or `host:port`.
    pub fn parse(text: &str) -> Result<Place, ClientError> {
        let wrong = || ClientError::NoPlace(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong()) } else { Ok(Place::Socket(path.into())) };
        }
        if text.starts_with(['/', '.']) {
            return Ok(Place::Socket(text.into()));
        }
        let secure = text.strip_prefix("https://");
        let plain = text.strip_prefix("http://").unwrap_or(text);
        let authority = secure.unwrap_or(plain).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let clean = !host.is_empty() && !host.contains(['/', '@', ' ', '?', '#']);
        if clean && port.parse::<u16>().is_ok() {
            let place = if secure.is_some() { Place::Secure } else { Place::Network };
            Ok(place(authority.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Network(authority) => f.write_str(authority),
            Place::Secure(authority) => write!(f, "https://{authority}"),
        }
    }
}

/// Asks an appliance.
#[derive(Clone)]
pub struct Client {
    place: Place,
    token: Option<String>,
    /// Whose certificates are believed at a [`Place::Secure`].
    believed: Option<Arc<ClientConfig>>,
    /// How long an answer may take.
    patience: Duration,
}

impl std::fmt::Debug for Client {
    // The token is nobody's to see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.place)
    }
}

impl Client {
    /// Asks at this place, with a token where one is wanted; at a [`Place::Secure`], `believed` says whom to believe.
    pub fn new(place: Place, token: Option<String>, believed: Option<Arc<ClientConfig>>) -> Client {
        Client { place, token, believed, patience: ANSWERING }
    }

    /// The JSON at a path.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json("GET", path, None).await
    }

    /// The text at a path, in this type.
    pub async fn get_text(&self, path: &str, accept: &str) -> Result<String, ClientError> {
        let body = whole(self.send("GET", path, None, accept).await?).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// What a POST leads to.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json("POST", path, Some(body)).await
    }

    /// The same where the answer takes its time.
    pub async fn post_within(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<Value, ClientError> {
        let patient = Client { patience: within, ..self.clone() };
        patient.json("POST", path, Some(body)).await
    }

    async fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let body = whole(self.send(method, path, body, "application/json").await?).await?;
        serde_json::from_slice(&body).map_err(|_| ClientError::Broken("the answer is no JSON".to_owned()))
    }

    /// Follows the events after `since`, or from now on.
    pub async fn events(&self, since: Option<u64>) -> Result<Events, ClientError> {
        let mut query = Query::default();
        query.add("since", since.map(|since| since.to_string()));
        let response = self.send("GET", &query.path("/api/v1/events"), None, "text/event-stream").await?;
        Ok(Events { body: response.into_body(), parser: EventParser::default() })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = match &self.place {
            Place::Socket(_) => "localhost",
            Place::Network(authority) | Place::Secure(authority) => authority,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("accept", accept)
            .header("user-agent", concat!("tipring/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Body::from(text))
            .map_err(|error| ClientError::Broken(format!("the request can't be written: {error}")))?;
        let response = self.exchange(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// A connection. Boxed: all that HTTP is would be there once more for each kind.
    async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match &self.place {
            Place::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Place::Network(authority) => Box::new(TcpStream::connect(authority.as_str()).await?),
            Place::Secure(authority) => Box::new(self.secure(authority).await?),
        })
    }

    /// A connection to somebody who has shown the right certificate.
    async fn secure(&self, authority: &str) -> io::Result<TlsStream<TcpStream>> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        let believed = self.believed.clone().ok_or_else(|| io::Error::other("nobody is believed"))?;
        let stream = TcpStream::connect(authority).await?;
        TlsConnector::from(believed).connect(name, stream).await
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        let place = || self.place.to_string();
        let stream = match timeout(CONNECTING, self.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ClientError::NotAllowed { place: place(), error });
            }
            // The words of TLS come as data that can't be used.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(ClientError::Unbelievable { place: place(), error });
            }
            Ok(Err(error)) => return Err(ClientError::Absent { place: place(), error }),
            Err(_) => {
                return Err(ClientError::Absent { place: place(), error: io::ErrorKind::TimedOut.into() });
            }
        };
        let broken =
            |error: hyper::Error| ClientError::Broken(format!("{} gives no answer: {error}", place()));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        match timeout(self.patience, sender.send_request(request)).await {
            Ok(response) => response.map_err(broken),
            Err(_) => {
                let seconds = self.patience.as_secs();
                Err(ClientError::Broken(format!("{} gives no answer within {seconds} seconds", place())))
            }
        }
    }
}

async fn whole(response: Response<Incoming>) -> Result<axum::body::Bytes, ClientError> {
    let read = axum::body::to_bytes(Body::new(response.into_body()), LARGEST_ANSWER);
    match timeout(ANSWERING, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(ClientError::Broken(format!("the answer broke off: {error}"))),
        Err(_) => Err(ClientError::Broken("the answer did not arrive within 40 seconds".to_owned())),
    }
}

async fn refused(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let body = match whole(response).await {
        Ok(body) => serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        Err(error) => return error,
    };
    let error = &body["error"];
    let Some(message) = error["message"].as_str() else {
        return ClientError::Broken(format!("the answer is {status}"));
    };
    let hint = match status {
        StatusCode::UNAUTHORIZED => "give a token with --token or $TIPRING_TOKEN",
        _ => error["hint"].as_str().unwrap_or_default(),
    };
    let findings = error["findings"].as_array().into_iter().flatten();
    ClientError::Refused {
        status: status.as_u16(),
        message: message.to_owned(),
        hint: hint.to_owned(),
        findings: findings.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
    }
}

/// A stream of events.
pub struct Events {
    body: Incoming,
    parser: EventParser,
}

impl Events {
    /// The next event; `None` when the appliance ended the stream.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(data) = self.parser.next() {
                let event = serde_json::from_str(&data);
                return event.map(Some).map_err(|_| ClientError::Broken("an event is no JSON".to_owned()));
            }
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(ClientError::Broken(format!("the events broke off: {error}")));
                }
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if !self.parser.push(&bytes) {
                        return Err(ClientError::Broken("an event is larger than 1 MiB".to_owned()));
                    }
                }
            }
        }
    }
}

/// Takes server-sent events apart: the `data` of each.
#[derive(Default)]
struct EventParser {
    bytes: Vec<u8>,
}

impl EventParser {
    /// False when an event gets too large.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend(bytes.iter().filter(|byte| **byte != b'\r'));
        self.bytes.len() <= LARGEST_EVENT
    }

    fn next(&mut self) -> Option<String> {
        while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
        None
    }
}

/// The query of a path.
#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    /// Adds a parameter, if it is there.
    pub fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(&format!("{name}={}", escaped(&value)));
        }
    }

    /// The path with its query.
    pub fn path(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(Place::parse("unix:///run/t.sock").expect("a place"), Place::Socket("/run/t.sock".into()));
        assert_eq!(Place::parse("/run/t.sock").expect("a place"), Place::Socket("/run/t.sock".into()));
        for text in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "127.0.0.1:8080"] {
            assert_eq!(
                Place::parse(text).expect("a place"),
                Place::Network("127.0.0.1:8080".into()),
                "{text}"
            );
        }
        let secure = Place::parse("https://localhost:8443/").expect("a place");
        assert_eq!(secure, Place::Secure("localhost:8443".into()));
        assert_eq!(Place::parse("http://[::1]:80").expect("a place"), Place::Network("[::1]:80".into()));
        for wrong in
            ["", "unix:", "https://a", "ftp://a:443", "host", "http://a:b", "http://u@h:1", "http://h:1/x"]
        {
            let error = Place::parse(wrong).expect_err(wrong);
            assert_eq!(error.code(), WRONG, "{wrong}");
        }
    }

    #[test]
    fn events_are_taken_apart_wherever_the_bytes_are_cut() {
        let text =
            "retry: 1\n: hello\n\nid: 1\r\ndata: {\"a\":1}\r\n\r\n: alive\n\nid: 2\ndata:{\ndata: }\n\n";
        for cut in 0..text.len() {
            let mut parser = EventParser::default();
            let (head, tail) = text.as_bytes().split_at(cut);
            let mut found = Vec::new();
            for part in [head, tail] {
                assert!(parser.push(part));
                found.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(found, ["{\"a\":1}", "{\n}"], "cut at {cut}");
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a b/ü#+"), "a%20b%2F%C3%BC%23%2B");
        let mut query = Query::default();
        query.add("since", None);
        query.add("number", Some("+7 495".into()));
        query.add("limit", Some("5".into()));
        assert_eq!(query.path("/x"), "/x?number=%2B7%20495&limit=5");
    }
}

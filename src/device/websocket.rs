//! SIP over WebSocket (RFC 7118): the upgrade of a TLS connection to the PBX's web server (RFC 6455), and messages both ways.
//!
//! One message of WebSocket is one SIP message. The ping of a stream, CRLFCRLF, goes as WebSocket's own ping, which every
//! server must answer, and its pong is reported as CRLF.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, LOCATION};
use tokio_tungstenite::tungstenite::http::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::sip_network::Reported;
use crate::sip::reader::MAX_MESSAGE;

/// How long the peer may take to answer our end of the connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read at a time; a phone's messages are small.
const READ_BUFFER: usize = 8 * 1024;
/// Bytes that wait while the peer does not read; they are written out after each message.
const WRITE_BUFFER: usize = 4 * MAX_MESSAGE;
/// Characters of a peer's words that are repeated.
const MOST_WORDS: usize = 120;

/// The place that a connection asks for.
pub struct Place<'a> {
    /// The name or address of the server, IPv6 in brackets or not.
    pub server: &'a str,
    /// Its port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
}

impl Place<'_> {
    fn authority(&self) -> String {
        let bare = self.server.trim_matches(['[', ']']);
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    fn url(&self) -> String {
        format!("wss://{}{}", self.authority(), self.path)
    }
}

/// Opens a WebSocket for SIP on a connection that is already secure.
///
/// # Errors
/// Why not, and behind a semicolon what to do about it.
pub async fn open<S>(stream: S, place: &Place<'_>) -> Result<WebSocketStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::get(place.url())
        .header("Host", place.authority())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", "sip")
        .body(())
        .map_err(|error| format!("{} is no URL: {error}; write another websocket", place.url()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    opened.map(|(socket, _)| socket).map_err(|error| explain(&error, &place.url()))
}

/// Why no WebSocket was opened, and behind a semicolon what to do about it.
fn explain(error: &Error, url: &str) -> String {
    match error {
        Error::Http(response) => explain_answer(response, url),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => format!(
            "{url} opens a WebSocket but does not speak SIP over it; write the path at which the PBX takes SIP as \
             websocket"
        ),
        Error::Protocol(ProtocolError::HttparseError(_)) => {
            format!(
                "what answers at {url} is no web server; write the port of the PBX's web server as websocket"
            )
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::Io(_) => format!(
            "the connection to {url} ended before a WebSocket was opened ({error}); look into the log of the PBX"
        ),
        _ => format!("{url} does not open a WebSocket as it should ({error}); look into the log of the PBX"),
    }
}

fn explain_answer<B>(response: &Response<B>, url: &str) -> String {
    let status = response.status();
    let usual = "write the URL that the PBX serves as websocket, for Asterisk most often wss://HOST:8089/ws";
    match status.as_u16() {
        200..300 => format!("{url} is a web page and no WebSocket ({status}); {usual}"),
        300..400 => {
            let to = response.headers().get(LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
            let to = words(&String::from_utf8_lossy(to));
            format!("{url} sends elsewhere ({status}): {to:?}; write where the WebSocket is as websocket")
        }
        400 | 426 => format!(
            "{url} does not take SIP over WebSocket ({status}); have it enabled at the PBX, in Asterisk by \
             res_pjsip_transport_websocket, and check the path"
        ),
        401 | 403 | 407 => format!(
            "the web server wants a login before it opens {url} ({status}); have the path opened to phones, or {usual}"
        ),
        404 | 405 | 410 => format!("there is no WebSocket at {url} ({status}); {usual}"),
        429 => format!("{url} finds that this device comes too often ({status}); it is tried again later"),
        502..=504 => format!(
            "the web server does not reach the PBX behind {url} ({status}); look whether the PBX runs, and into the \
             settings of the proxy before it"
        ),
        _ => format!("{url} opens no WebSocket ({status}); look into the log of the PBX"),
    }
}

/// A peer's words, short and without control characters.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_WORDS).collect()
}

/// Carries messages both ways until one side ends; the answer is why.
pub async fn converse<S>(
    connection: u64,
    mut socket: WebSocketStream<S>,
    mut letters: Receiver<Vec<u8>>,
    reports: &Sender<Reported>,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pings: u32 = 0;
    loop {
        tokio::select! {
            read = socket.next() => {
                let bytes = match read {
                    Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
                    Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                    Some(Ok(Message::Pong(of))) if of[..] == pings.to_be_bytes() => b"\r\n".to_vec(),
                    // A ping is answered by the socket itself, with the next turn.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Ok(Message::Close(frame))) => {
                        farewell(&mut socket, None).await;
                        return closed_by_peer(frame.as_ref());
                    }
                    Some(Err(error)) => {
                        let why = failed(&error);
                        farewell(&mut socket, reproach(&error)).await;
                        return why;
                    }
                    None => return "the peer closed the connection".to_owned(),
                };
                if reports.send(Reported::Stream { connection, bytes }).await.is_err() {
                    return "this end stopped".to_owned();
                }
            }
            letter = letters.recv() => {
                let message = match letter {
                    Some(bytes) if bytes == b"\r\n\r\n" => {
                        pings = pings.wrapping_add(1);
                        Message::Ping(pings.to_be_bytes().to_vec().into())
                    }
                    Some(bytes) => message(bytes),
                    None => {
                        let code = CloseCode::Normal;
                        farewell(&mut socket, Some(CloseFrame { code, reason: Utf8Bytes::default() })).await;
                        return "closed here".to_owned();
                    }
                };
                if let Err(error) = socket.send(message).await {
                    return failed(&error);
                }
            }
        }
    }
}

/// SIP is UTF-8 and goes as text; a body that is not makes it binary (RFC 7118 §5.2.1).
fn message(bytes: Vec<u8>) -> Message {
    match String::from_utf8(bytes) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    }
}

/// Ends in order, as far as the peer takes part in it.
async fn farewell<S>(socket: &mut WebSocketStream<S>, frame: Option<CloseFrame>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = tokio::time::timeout(FAREWELL, async {
        let _ = socket.close(frame).await;
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
}

/// What the peer is told that it did wrong (RFC 6455 §7.4.1), if it did.
fn reproach(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return None,
    };
    Some(CloseFrame { code, reason: Utf8Bytes::default() })
}

fn closed_by_peer(frame: Option<&CloseFrame>) -> String {
    match frame {
        None => "the PBX closed the WebSocket".to_owned(),
        Some(frame) => {
            let (code, reason) = (u16::from(frame.code), words(&frame.reason));
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason:?}") };
            format!("the PBX closed the WebSocket ({code}{reason})")
        }
    }
}

fn failed(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::ConnectionClosed | Error::AlreadyClosed => "the peer closed the connection".to_owned(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the peer closed the connection".to_owned()
        }
        Error::Capacity(_) => format!("the PBX sent a message of more than {MAX_MESSAGE} bytes"),
        other => format!("the PBX does not keep to WebSocket: {other}"),
    }
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;

//! The URL of SIP over WebSocket.

use super::network::url_parts;
use super::values::{Written, written};

/// Where a PBX takes SIP over WebSocket: `wss://host:port/path`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WebSocketUrl {
    /// Host and port, as in a SIP URI: IPv6 in brackets.
    authority: String,
    /// The path with its query, begins with `/`.
    path: String,
}

impl Default for WebSocketUrl {
    fn default() -> WebSocketUrl {
        WebSocketUrl { authority: "localhost".to_owned(), path: Self::PATH.to_owned() }
    }
}

impl WebSocketUrl {
    /// The path where nothing else is said: that of Asterisk, FreePBX and most who copied it.
    pub const PATH: &str = "/ws";
    const PORT: u16 = 443;

    /// The host, and the port: 443 if none is named (RFC 7118 §6).
    pub fn host_and_port(&self) -> (&str, u16) {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(Self::PORT)),
            _ => (&self.authority, Self::PORT),
        }
    }

    /// The path with its query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Written for WebSocketUrl {
    const FORM: &'static str = "a URL such as \"wss://pbx.example.com:8089/ws\"";

    fn parse(text: &str) -> Result<WebSocketUrl, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("write {}", Self::FORM))?;
        match scheme.to_ascii_lowercase().as_str() {
            "wss" => {}
            "ws" => {
                return Err(format!("SIP without TLS is not spoken over WebSocket: write \"wss://{rest}\""));
            }
            "https" => return Err(format!("write \"wss://{rest}\"")),
            _ => return Err(format!("write {}", Self::FORM)),
        }
        let (authority, path) = url_parts(rest)?;
        Ok(WebSocketUrl { authority, path: path.unwrap_or_else(|| Self::PATH.to_owned()) })
    }

    fn written(&self) -> String {
        format!("wss://{}{}", self.authority, self.path)
    }
}

written!(WebSocketUrl);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SipUri;

    #[test]
    fn a_websocket_has_a_host_a_port_and_a_path() {
        for (text, host, port, path) in [
            ("wss://pbx.example.com:8089/ws", "pbx.example.com", 8089, "/ws"),
            ("WSS://pbx.example.com", "pbx.example.com", 443, "/ws"),
            ("wss://pbx.example.com/", "pbx.example.com", 443, "/"),
            ("wss://192.0.2.1:7443/sip?tenant=a%20b", "192.0.2.1", 7443, "/sip?tenant=a%20b"),
            ("wss://[2001:db8::1]/a/b", "[2001:db8::1]", 443, "/a/b"),
            ("wss://[2001:db8::1]:8089?x", "[2001:db8::1]", 8089, "/?x"),
        ] {
            let url = WebSocketUrl::parse(text).unwrap();
            assert_eq!((url.host_and_port(), url.path()), ((host, port), path), "{text}");
            assert_eq!(WebSocketUrl::parse(&url.written()).unwrap(), url, "{text}");
        }
        for (wrong, cure) in [
            ("pbx.example.com:8089/ws", "wss://"),
            ("ws://pbx.example.com/ws", "\"wss://pbx.example.com/ws\""),
            ("https://pbx.example.com/ws", "\"wss://pbx.example.com/ws\""),
            ("sip://pbx.example.com", "a URL such as"),
            ("wss://", "a host name"),
            ("wss://:8089/ws", "a host name"),
            ("wss://pbx.example.com:0/ws", "a port from 1"),
            ("wss://1001:secret@pbx.example.com/ws", "before the @"),
            ("wss://pbx.example.com/a b", "ASCII"),
            ("wss://pbx.example.com/ws#top", "without #"),
            ("wss://pbx.example.com/\u{fc}", "ASCII"),
        ] {
            assert!(WebSocketUrl::parse(wrong).unwrap_err().contains(cure), "{wrong}");
        }
        assert!(
            SipUri::parse("wss://pbx.example/ws")
                .unwrap_err()
                .contains("websocket = \"wss://pbx.example/ws\"")
        );
    }
}

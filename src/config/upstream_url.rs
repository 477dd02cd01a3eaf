//! URLs where other systems take HTTP requests, and where brokers are.

use super::network::{Host, url_parts};
use super::reader::{At, Node, Setting};

/// Bytes of a URL.
const LONGEST_URL: usize = 2048;
/// Characters of a random text in a URL, which are 128 bits in base64 or more.
const OPAQUE: usize = 22;
/// Different characters in it, and digits as well as letters: words with hyphens have fewer.
const VARIED: u32 = 8;

/// A scheme, whether nobody on the way can read what it carries, and its usual port.
type Scheme = (&'static str, bool, u16);

const HTTP: &[Scheme] = &[("https", true, 443), ("http", false, 80)];
const ALL: &[Scheme] =
    &[("https", true, 443), ("http", false, 80), ("mqtts", true, 8883), ("mqtt", false, 1883)];

/// Where a system takes HTTP requests, or where a broker is. Its path is shown to nobody: for many systems it is the only secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UpstreamUrl {
    scheme: &'static str,
    secure: bool,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl UpstreamUrl {
    pub(super) const FORM: &'static str = "a URL such as \"https://crm.example.com/hooks/tipring\"";

    /// Whether a broker is there, and no web server.
    pub fn is_broker(&self) -> bool {
        self.scheme.starts_with("mqtt")
    }

    /// Whether nobody on the way can read what it is sent.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port as a `Host` field has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Host name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole URL, secrets and all: for the store, and for whoever gave it.
    pub fn whole(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }

    /// The URL without what may be secret.
    pub fn masked(&self) -> String {
        let rest = if self.path.len() > 1 { "/***" } else { "/" };
        format!("{}://{}{rest}", self.scheme, self.authority)
    }

    /// Whether it is this machine itself.
    pub fn is_near(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// The URL of a web server in a text.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<UpstreamUrl, String> {
        UpstreamUrl::of(text, HTTP)
    }

    fn of(text: &str, schemes: &[Scheme]) -> Result<UpstreamUrl, String> {
        if text.len() > LONGEST_URL {
            return Err(format!("write {LONGEST_URL} bytes at most"));
        }
        let form = || format!("write {}", Self::FORM);
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(form)?;
        let known = schemes.iter().find(|(it, ..)| it.eq_ignore_ascii_case(scheme));
        let (scheme, secure, usual) = *known.ok_or_else(form)?;
        let (authority, path) = url_parts(rest)?;
        let Host { host, port } = Host::parse(&authority)?;
        let path = path.unwrap_or_else(|| "/".to_owned());
        let port = port.unwrap_or(usual);
        Ok(UpstreamUrl { scheme, secure, authority, host, port, path })
    }
}

/// Whether a path has a part that nobody can guess, as far as that can be seen: 128 random bits look like it, words do not.
pub fn is_opaque(path: &str) -> bool {
    path.split(['/', '?', '&', '=', '.']).any(|part| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
        let seen = part.bytes().filter(u8::is_ascii_alphanumeric).fold(0u128, |seen, it| seen | 1 << it);
        part.len() >= OPAQUE && digits >= 3 && letters >= 3 && seen.count_ones() >= VARIED
    })
}

impl std::fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Setting for UpstreamUrl {
    const EXPECTS: &'static str = UpstreamUrl::FORM;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let Some(text) = node.text() else {
            at.wrong_type(node, Self::EXPECTS);
            return None;
        };
        let parsed = UpstreamUrl::of(text, ALL);
        // The text is not repeated: what is nearly right may hold the right secret.
        parsed.map_err(|instead| at.wrong(node, ("is no URL that can be used".to_owned(), instead))).ok()
    }

    fn json(&self) -> serde_json::Value {
        self.masked().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_a_port_and_a_path_that_nobody_sees() {
        for (text, host, port, path, masked) in [
            (
                "https://crm.example.com/a?k=1",
                "crm.example.com",
                443,
                "/a?k=1",
                "https://crm.example.com/***",
            ),
            ("HTTPS://crm.example.com", "crm.example.com", 443, "/", "https://crm.example.com/"),
            ("http://127.0.0.1:8081?x", "127.0.0.1", 8081, "/?x", "http://127.0.0.1:8081/***"),
            ("http://[2001:db8::1]:81/", "2001:db8::1", 81, "/", "http://[2001:db8::1]:81/"),
            ("mqtts://broker.example", "broker.example", 8883, "/", "mqtts://broker.example/"),
            ("MQTT://broker.example:1884", "broker.example", 1884, "/", "mqtt://broker.example:1884/"),
        ] {
            let url = UpstreamUrl::of(text, ALL).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.masked(), masked);
            assert_eq!(format!("{url:?}"), masked);
        }
        for (wrong, cure) in [
            ("crm.example.com/hook", "https://"),
            ("ftp://crm.example.com", "https://"),
            ("mqtts://crm.example.com", "https://"),
            ("https://", "a host name"),
            ("https://user:word@crm.example.com/", "before the @"),
            ("https://crm.example.com/a b", "ASCII"),
            ("https://crm.example.com/a#b", "without #"),
            ("https://crm.example.com:0/", "a port from 1"),
        ] {
            assert!(UpstreamUrl::parse(wrong).unwrap_err().contains(cure), "{wrong}");
        }
    }
    #[test]
    fn random_texts_are_told_from_words_and_numbers() {
        for (path, opaque) in [
            ("/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz", true),
            ("/hook?token=0b9c6f8a55d0448f9a1c8f00e7b1d2c3", true),
            ("/01234567-89ab-7cde-8f01-23456789abcd", true),
            ("/cid/807/queue/33334", false),
            ("/events-of-the-extension-in-the-office", false),
            ("/11111111111111111111111111111111", false),
            ("/", false),
        ] {
            assert_eq!(is_opaque(path), opaque, "{path}");
        }
    }
}

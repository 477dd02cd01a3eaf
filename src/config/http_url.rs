//! URLs where other systems take HTTP requests.

use super::network::{Host, url_parts};
use super::reader::{At, Node, Setting};

/// Bytes of a URL.
const LONGEST_URL: usize = 2048;
/// Characters of a random text in a URL, which are 128 bits in base64 or more.
const OPAQUE: usize = 22;
/// Different characters in it, and digits as well as letters: words with hyphens have fewer.
const VARIED: usize = 8;

/// Where a system takes HTTP requests. Its path is shown to nobody: for many systems it is the only secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpUrl {
    secure: bool,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl HttpUrl {
    pub(super) const FORM: &'static str = "a URL such as \"https://crm.example.com/hooks/tipring\"";

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
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }

    /// The URL without what may be secret.
    pub fn masked(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let rest = if self.path.len() > 1 { "/***" } else { "/" };
        format!("{scheme}://{}{rest}", self.authority)
    }

    /// Whether it is this machine itself.
    pub fn is_near(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// The URL in a text.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<HttpUrl, String> {
        if text.len() > LONGEST_URL {
            return Err(format!("write {LONGEST_URL} bytes at most"));
        }
        let form = || format!("write {}", Self::FORM);
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(form)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        let (authority, path) = url_parts(rest)?;
        let Host { host, port } = Host::parse(&authority)?;
        let path = path.unwrap_or_else(|| "/".to_owned());
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(HttpUrl { secure, authority, host, port, path })
    }
}

/// Whether a path has a part that nobody can guess, as far as that can be seen: 128 random bits look like it, words do not.
pub fn is_opaque(path: &str) -> bool {
    path.split(['/', '?', '&', '=', '.']).any(|part| {
        let mut seen: Vec<u8> = part.bytes().filter(u8::is_ascii_alphanumeric).collect();
        let digits = seen.iter().filter(|it| it.is_ascii_digit()).count();
        let letters = seen.len() - digits;
        seen.sort_unstable();
        seen.dedup();
        part.len() >= OPAQUE && digits >= 3 && letters >= 3 && seen.len() >= VARIED
    })
}

impl std::fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Setting for HttpUrl {
    const EXPECTS: &'static str = HttpUrl::FORM;

    fn read(node: Node<'_>, at: &mut At<'_, '_>) -> Option<Self> {
        let Some(text) = node.text() else {
            at.wrong_type(node, Self::EXPECTS);
            return None;
        };
        let parsed = HttpUrl::parse(text);
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
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.path()), (host, port, path), "{text}");
            assert_eq!(url.masked(), masked);
            assert_eq!(format!("{url:?}"), masked);
        }
        for (wrong, cure) in [
            ("crm.example.com/hook", "https://"),
            ("ftp://crm.example.com", "https://"),
            ("https://", "a host name"),
            ("https://user:word@crm.example.com/", "before the @"),
            ("https://crm.example.com/a b", "ASCII"),
            ("https://crm.example.com/a#b", "without #"),
            ("https://crm.example.com:0/", "a port from 1"),
        ] {
            assert!(HttpUrl::parse(wrong).unwrap_err().contains(cure), "{wrong}");
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

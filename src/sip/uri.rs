//! URIs as SIP uses them: `sip:` and `sips:` (RFC 3261 §19.1), `tel:` (see `tel_uri`), and any other, kept as
//! text.
//!
//! A URI is kept as it was written, with its escapes, because a Contact must go back to its owner unchanged;
//! the functions that tell its parts undo the escapes. Two URIs are the same by [`Uri::equivalent`], not by
//! `==`.

use super::grammar::{self, Malformed};
use super::host::{Host, HostPort};
use super::params::Params;
use super::tel_uri::TelUri;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The longest URI that is read, in octets.
pub const MAX_URI: usize = 4096;

/// The most headers (`?name=value&…`) that a URI may carry.
pub const MAX_URI_HEADERS: usize = 32;

const URI: Malformed = Malformed("URI");

/// A URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// `tel:` (RFC 3966).
    Tel(TelUri),
    /// Any other scheme.
    Other(OtherUri),
}

/// A URI of a scheme that is only passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherUri {
    text: String,
    colon: usize,
}

impl OtherUri {
    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the first colon.
    pub fn scheme(&self) -> &str {
        self.text.get(..self.colon).unwrap_or_default()
    }
}

impl Uri {
    /// Reads a URI of any scheme.
    ///
    /// # Errors
    /// [`Malformed`] if it does not follow its scheme's grammar, or is longer than [`MAX_URI`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Uri, Malformed> {
        let text = text.as_ref();
        if text.len() > MAX_URI {
            return Err(URI);
        }
        let colon = text.iter().position(|&octet| octet == b':').ok_or(URI)?;
        let (scheme, rest) = text.split_at(colon);
        let rest = rest.get(1..).unwrap_or_default();
        if scheme.eq_ignore_ascii_case(b"sip") {
            return SipUri::read(false, rest).map(Uri::Sip).ok_or(URI);
        }
        if scheme.eq_ignore_ascii_case(b"sips") {
            return SipUri::read(true, rest).map(Uri::Sip).ok_or(URI);
        }
        if scheme.eq_ignore_ascii_case(b"tel") {
            return TelUri::read(rest).map(Uri::Tel).ok_or(URI);
        }
        let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(octet));
        if !is_scheme || rest.is_empty() || !rest.iter().all(|&octet| grammar::is_opaque(octet)) {
            return Err(URI);
        }
        Ok(Uri::Other(OtherUri { text: grammar::text(text).into_owned(), colon }))
    }

    /// The scheme in lower case where it is known here, as written otherwise.
    pub fn scheme(&self) -> &str {
        match self {
            Uri::Sip(uri) if uri.secure => "sips",
            Uri::Sip(_) => "sip",
            Uri::Tel(_) => "tel",
            Uri::Other(uri) => uri.scheme(),
        }
    }

    /// The SIP or SIPS URI, if it is one.
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Uri::Sip(uri) => Some(uri),
            Uri::Tel(_) | Uri::Other(_) => None,
        }
    }

    /// The SIP or SIPS URI, if it is one, to be changed.
    pub fn as_sip_mut(&mut self) -> Option<&mut SipUri> {
        match self {
            Uri::Sip(uri) => Some(uri),
            Uri::Tel(_) | Uri::Other(_) => None,
        }
    }

    /// Who is meant: the user part without escapes, or the number of a `tel:` URI.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        match self {
            Uri::Sip(uri) => uri.user(),
            Uri::Tel(uri) => Some(Cow::Borrowed(uri.number())),
            Uri::Other(_) => None,
        }
    }

    /// The host of a SIP URI.
    pub fn host(&self) -> Option<&Host> {
        self.as_sip().map(|uri| &uri.host)
    }

    /// Whether both are the same resource by the rules of their scheme: RFC 3261 §19.1.4, RFC 3966 §4; any
    /// other scheme compares as text.
    pub fn equivalent(&self, other: &Uri) -> bool {
        match (self, other) {
            (Uri::Sip(a), Uri::Sip(b)) => a.equivalent(b),
            (Uri::Tel(a), Uri::Tel(b)) => a.equivalent(b),
            (Uri::Other(a), Uri::Other(b)) => {
                a.scheme().eq_ignore_ascii_case(b.scheme()) && a.text.get(a.colon..) == b.text.get(b.colon..)
            }
            _ => false,
        }
    }
}

impl FromStr for Uri {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Uri, Malformed> {
        Uri::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uri::Sip(uri) => uri.fmt(f),
            Uri::Tel(uri) => uri.fmt(f),
            Uri::Other(uri) => f.write_str(uri.as_str()),
        }
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Uri {
        Uri::Sip(uri)
    }
}

/// A `sip:` or `sips:` URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    user: Option<String>,
    password: Option<String>,
    /// The host.
    pub host: Host,
    /// The port, where one is said.
    pub port: Option<u16>,
    /// The parameters inside the URI, escapes not undone; [`SipUri::param`] undoes them.
    pub params: Params,
    /// Name and value of each header after `?`, escapes not undone.
    pub headers: Vec<(String, String)>,
}

impl SipUri {
    /// `sip:user@host`; what can't stand in a user part is escaped.
    pub fn new(user: Option<&str>, host: Host) -> SipUri {
        SipUri {
            secure: false,
            user: user.map(escape_user),
            password: None,
            host,
            port: None,
            params: Params::new(),
            headers: Vec::new(),
        }
    }

    /// The same with a port.
    #[must_use]
    pub fn with_port(mut self, port: Option<u16>) -> SipUri {
        self.port = port;
        self
    }

    /// The user part without escapes.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        self.user.as_deref().map(grammar::unescape)
    }

    /// The user part as it was written.
    pub fn user_raw(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Sets the user part; what can't stand there is escaped.
    pub fn set_user(&mut self, user: Option<&str>) {
        self.user = user.map(escape_user);
    }

    /// The password without escapes.
    pub fn password(&self) -> Option<Cow<'_, str>> {
        self.password.as_deref().map(grammar::unescape)
    }

    /// The value of a parameter without escapes, an empty one if it has none; `None` if it is not there.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.params
            .iter()
            .find(|param| grammar::unescape(&param.name).eq_ignore_ascii_case(name))
            .map(|param| grammar::unescape(param.value.as_deref().unwrap_or_default()))
    }

    /// Whether a parameter is there.
    pub fn has_param(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// The `transport` parameter, as written.
    pub fn transport(&self) -> Option<Cow<'_, str>> {
        self.param("transport").filter(|transport| !transport.is_empty())
    }

    /// The `maddr` parameter, if it is a host.
    pub fn maddr(&self) -> Option<Host> {
        self.param("maddr").and_then(|maddr| Host::parse(&maddr))
    }

    /// Whether the `lr` parameter says that this proxy is a loose router.
    pub fn lr(&self) -> bool {
        self.has_param("lr")
    }

    /// Host and port.
    pub fn host_port(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }

    fn read(secure: bool, rest: &[u8]) -> Option<SipUri> {
        let (userinfo, rest) = match rest.iter().position(|&octet| octet == b'@') {
            Some(at) => (Some(rest.get(..at)?), rest.get(at + 1..)?),
            None => (None, rest),
        };
        let (user, password) = match userinfo {
            Some(userinfo) => {
                let mut halves = userinfo.splitn(2, |&octet| octet == b':');
                (Some(read_user(halves.next()?)?), halves.next().map(read_password))
            }
            None => (None, None),
        };
        let password = match password {
            Some(password) => Some(password?),
            None => None,
        };
        let (address, headers) = split_at_octet(rest, b'?');
        let (host_port, params) = split_at_octet(address, b';');
        // Blanks around the colon are for Via only.
        if host_port.contains(&b' ') || host_port.contains(&b'\t') {
            return None;
        }
        let HostPort { host, port } = HostPort::parse(std::str::from_utf8(host_port).ok()?)?;
        Some(SipUri {
            secure,
            user,
            password,
            host,
            port,
            params: match params {
                Some(params) => read_params(params)?,
                None => Params::new(),
            },
            headers: match headers {
                Some(headers) => read_headers(headers)?,
                None => Vec::new(),
            },
        })
    }

    /// RFC 3261 §19.1.4.
    fn equivalent(&self, other: &SipUri) -> bool {
        /// The parameters that must be in both or in none. `transport` is among them by the examples of
        /// §19.1.4.
        const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        let same = |a: Option<&str>, b: Option<&str>| match (a, b) {
            (Some(a), Some(b)) => same_escaped(a, b, true),
            (None, None) => true,
            _ => false,
        };
        let params_agree = |a: &SipUri, b: &SipUri| {
            a.params.iter().all(|param| {
                let name = grammar::unescape(&param.name);
                match b.params.iter().find(|other| grammar::unescape(&other.name).eq_ignore_ascii_case(&name))
                {
                    Some(other) => same_escaped(
                        param.value.as_deref().unwrap_or_default(),
                        other.value.as_deref().unwrap_or_default(),
                        false,
                    ),
                    None => !NEVER_IGNORED.iter().any(|never| never.eq_ignore_ascii_case(&name)),
                }
            })
        };
        let headers_agree = |a: &SipUri, b: &SipUri| {
            a.headers.iter().all(|(name, value)| {
                b.headers
                    .iter()
                    .any(|(other, its)| same_escaped(name, other, false) && same_escaped(value, its, true))
            })
        };
        self.secure == other.secure
            && same(self.user.as_deref(), other.user.as_deref())
            && same(self.password.as_deref(), other.password.as_deref())
            && self.host == other.host
            && self.port == other.port
            && params_agree(self, other)
            && params_agree(other, self)
            && self.headers.len() == other.headers.len()
            && headers_agree(self, other)
            && headers_agree(other, self)
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            f.write_str("@")?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// A user part for a URI of our own: `#` is escaped there although it is read unescaped.
fn escape_user(user: &str) -> String {
    grammar::escape(user, |octet| grammar::is_user(octet) && octet != b'#')
}

fn read_user(user: &[u8]) -> Option<String> {
    if user.is_empty() {
        return None;
    }
    read_escaped(user, grammar::is_user)
}

fn read_password(password: &[u8]) -> Option<String> {
    read_escaped(password, grammar::is_password)
}

/// Text with its escapes checked. Octets beyond ASCII must be escaped; where they are not, they are escaped
/// here.
fn read_escaped(octets: &[u8], belongs: impl Fn(u8) -> bool) -> Option<String> {
    if !grammar::is_escaped_text(octets, |octet| !octet.is_ascii() || belongs(octet)) {
        return None;
    }
    match std::str::from_utf8(octets) {
        Ok(text) if text.is_ascii() => Some(text.to_owned()),
        _ => Some(octets.iter().fold(String::new(), |mut out, &octet| {
            match octet.is_ascii() {
                true => out.push(char::from(octet)),
                false => out.push_str(&format!("%{octet:02X}")),
            }
            out
        })),
    }
}

fn split_at_octet(text: &[u8], octet: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&found| found == octet) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

/// The parameters of a URI, from behind the first `;`.
pub(super) fn read_params(text: &[u8]) -> Option<Params> {
    fn part(octets: &[u8]) -> Option<&str> {
        let text = std::str::from_utf8(octets).ok()?;
        grammar::is_escaped_text(octets, grammar::is_uri_param).then_some(text)
    }
    let mut params = Params::new();
    for param in text.split(|&octet| octet == b';') {
        let (name, value) = split_at_octet(param, b'=');
        let name = part(name).filter(|name| !name.is_empty())?;
        let value = match value {
            Some(value) => Some(part(value)?.to_owned()),
            None => None,
        };
        if params.has(name) {
            return None;
        }
        params.append(name, value)?;
    }
    Some(params)
}

fn read_headers(text: &[u8]) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for header in text.split(|&octet| octet == b'&') {
        if headers.len() == MAX_URI_HEADERS {
            return None;
        }
        let (name, value) = split_at_octet(header, b'=');
        // Unescaped `=`, `@`, `;` and `,` in a value are not right, and harmless.
        let belongs = |octet: u8| grammar::is_uri_header(octet) || b"=@;,".contains(&octet);
        let name = read_escaped(name, grammar::is_uri_header).filter(|name| !name.is_empty())?;
        headers.push((name, read_escaped(value?, belongs)?));
    }
    Some(headers)
}

/// Whether two escaped texts are the same: an escape is the same as its character unless that is a reserved
/// one (RFC 3261 §19.1.4).
pub(super) fn same_escaped(a: &str, b: &str, case: bool) -> bool {
    let normal = |text: &str| -> Vec<(u8, bool)> {
        const RESERVED: &[u8] = b";/?:@&=+$,";
        let mut rest = text;
        let mut normal = Vec::with_capacity(rest.len());
        while let Some(first) = rest.bytes().next() {
            let escaped = rest.get(..3).filter(|_| first == b'%').map(grammar::unescape_octets);
            match escaped.as_deref() {
                Some(&[octet]) => {
                    normal.push((octet, RESERVED.contains(&octet)));
                    rest = rest.get(3..).unwrap_or_default();
                }
                _ => {
                    normal.push((first, false));
                    // The text is ASCII: `read_escaped` and `read_params` see to it.
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
        if !case {
            normal.iter_mut().for_each(|(octet, _)| octet.make_ascii_lowercase());
        }
        normal
    };
    match a.contains('%') || b.contains('%') {
        true => normal(a) == normal(b),
        false if case => a == b,
        false => a.eq_ignore_ascii_case(b),
    }
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;

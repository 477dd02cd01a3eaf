//! The text of HTTP digest authentication as SIP uses it: challenges, credentials, Authentication-Info (RFC
//! 3261 §22, RFC 7616 §3.3–§3.5, RFC 8760). What is computed from it is in `digest`.
//!
//! Values are octets as they stand between the quotation marks, because both sides hash exactly those.

use super::fields::Fields;
use super::grammar::{self, Cursor};
use std::borrow::Cow;
use std::fmt;

/// The most challenges or credentials that are looked at in one message.
pub const MAX_CHALLENGES: usize = 16;

/// The most parameters of one challenge.
const MAX_AUTH_PARAMS: usize = 32;

/// How to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// MD5, the oldest.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

/// What is hashed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm {
    /// How to hash.
    pub hash: Hash,
    /// The `-sess` form: the password is hashed with the nonces once more.
    pub session: bool,
}

impl Algorithm {
    /// What is meant if nothing is said.
    pub const MD5: Algorithm = Algorithm { hash: Hash::Md5, session: false };
    /// SHA-256 without `-sess`.
    pub const SHA_256: Algorithm = Algorithm { hash: Hash::Sha256, session: false };
    /// SHA-512-256 without `-sess`.
    pub const SHA_512_256: Algorithm = Algorithm { hash: Hash::Sha512_256, session: false };

    /// Reads the name of an algorithm; `None` if it is not known here.
    pub fn parse(name: &[u8]) -> Option<Algorithm> {
        let (hash, session) = match name.to_ascii_uppercase().as_slice() {
            b"MD5" => (Hash::Md5, false),
            b"MD5-SESS" => (Hash::Md5, true),
            b"SHA-256" => (Hash::Sha256, false),
            b"SHA-256-SESS" => (Hash::Sha256, true),
            b"SHA-512-256" => (Hash::Sha512_256, false),
            b"SHA-512-256-SESS" => (Hash::Sha512_256, true),
            _ => return None,
        };
        Some(Algorithm { hash, session })
    }

    /// Its registered name.
    pub fn as_str(self) -> &'static str {
        match (self.hash, self.session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
            (Hash::Sha512_256, false) => "SHA-512-256",
            (Hash::Sha512_256, true) => "SHA-512-256-sess",
        }
    }
}

/// What the digest protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qop {
    /// Method and URI.
    Auth,
    /// The body too.
    AuthInt,
}

impl Qop {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }

    fn parse(name: &[u8]) -> Option<Qop> {
        match name {
            _ if name.eq_ignore_ascii_case(b"auth") => Some(Qop::Auth),
            _ if name.eq_ignore_ascii_case(b"auth-int") => Some(Qop::AuthInt),
            _ => None,
        }
    }
}

/// What a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    /// Whose password is asked for.
    pub realm: Vec<u8>,
    /// The server's part of what is hashed.
    pub nonce: Vec<u8>,
    /// To be sent back.
    pub opaque: Option<Vec<u8>>,
    /// `None` if it was not said, which means MD5.
    pub algorithm: Option<Algorithm>,
    /// The password was right, the nonce too old: the same user may try again at once.
    pub stale: bool,
    /// What the server offers to protect; empty if it knows RFC 2069 only.
    pub qop: Vec<Qop>,
}

impl DigestChallenge {
    /// A challenge of our own, with `qop="auth"`.
    pub fn new(realm: &str, nonce: &str, algorithm: Algorithm) -> DigestChallenge {
        DigestChallenge {
            realm: quotable(realm),
            nonce: quotable(nonce),
            opaque: None,
            algorithm: Some(algorithm),
            stale: false,
            qop: vec![Qop::Auth],
        }
    }

    /// The realm as people read it.
    pub fn realm_text(&self) -> String {
        unescaped(&self.realm)
    }

    /// What it protects if this is answered: `auth` where it is offered.
    pub fn chosen_qop(&self) -> Option<Qop> {
        match self.qop.contains(&Qop::Auth) {
            true => Some(Qop::Auth),
            false => self.qop.first().copied(),
        }
    }

    /// The algorithm, said or not.
    pub fn effective_algorithm(&self) -> Algorithm {
        self.algorithm.unwrap_or(Algorithm::MD5)
    }

    /// `None` if it is not complete, or of an algorithm or a protection that is not known here.
    fn from_params(params: &AuthParams<'_>) -> Option<DigestChallenge> {
        let algorithm = match params.get("algorithm") {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let offered: Vec<&[u8]> = params.get("qop").into_iter().flat_map(grammar::elements).collect();
        let qop: Vec<Qop> = offered.iter().filter_map(|name| Qop::parse(name)).collect();
        if qop.is_empty() && !offered.is_empty() {
            return None;
        }
        Some(DigestChallenge {
            realm: params.get("realm")?.to_vec(),
            nonce: params.get("nonce")?.to_vec(),
            opaque: params.get("opaque").map(<[u8]>::to_vec),
            algorithm,
            stale: params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
            qop,
        })
    }

    /// The value of WWW-Authenticate or Proxy-Authenticate.
    pub fn write(&self) -> Vec<u8> {
        let mut out = AuthWriter::new();
        out.quoted("realm", &self.realm);
        out.quoted("nonce", &self.nonce);
        if let Some(opaque) = &self.opaque {
            out.quoted("opaque", opaque);
        }
        if self.stale {
            out.plain("stale", b"true");
        }
        if let Some(algorithm) = self.algorithm {
            out.plain("algorithm", algorithm.as_str().as_bytes());
        }
        if !self.qop.is_empty() {
            let names: Vec<&str> = self.qop.iter().map(|qop| qop.as_str()).collect();
            out.quoted("qop", names.join(",").as_bytes());
        }
        out.0
    }
}

/// What a client answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestCredentials {
    /// Who it says it is.
    pub username: Vec<u8>,
    /// As in the challenge.
    pub realm: Vec<u8>,
    /// As in the challenge.
    pub nonce: Vec<u8>,
    /// The Request-URI that was hashed.
    pub uri: Vec<u8>,
    /// The digest, in hexadecimal.
    pub response: Vec<u8>,
    /// As in the challenge.
    pub algorithm: Option<Algorithm>,
    /// As in the challenge.
    pub opaque: Option<Vec<u8>>,
    /// What is protected; `None` as in RFC 2069.
    pub qop: Option<Qop>,
    /// The client's part of what is hashed.
    pub cnonce: Option<Vec<u8>>,
    /// How many requests have used the nonce, with this one: eight hexadecimal digits.
    pub nc: Option<u32>,
}

impl DigestCredentials {
    /// Who it says it is, as people read it.
    pub fn username_text(&self) -> String {
        unescaped(&self.username)
    }

    fn from_params(params: &AuthParams<'_>) -> Option<DigestCredentials> {
        let owned = |name| params.get(name).map(<[u8]>::to_vec);
        let algorithm = match params.get("algorithm") {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let qop = match params.get("qop") {
            Some(name) => Some(Qop::parse(name)?),
            None => None,
        };
        let nc = match params.get("nc") {
            Some(digits) => Some(read_nc(digits)?),
            None => None,
        };
        if qop.is_some() && (nc.is_none() || params.get("cnonce").is_none()) {
            return None;
        }
        Some(DigestCredentials {
            username: owned("username")?,
            realm: owned("realm")?,
            nonce: owned("nonce")?,
            uri: owned("uri")?,
            response: owned("response")?,
            algorithm,
            opaque: owned("opaque"),
            qop,
            cnonce: owned("cnonce"),
            nc,
        })
    }

    /// The value of Authorization or Proxy-Authorization.
    pub fn write(&self) -> Vec<u8> {
        let mut out = AuthWriter::new();
        out.quoted("username", &self.username);
        out.quoted("realm", &self.realm);
        out.quoted("nonce", &self.nonce);
        out.quoted("uri", &self.uri);
        out.quoted("response", &self.response);
        if let Some(algorithm) = self.algorithm {
            out.plain("algorithm", algorithm.as_str().as_bytes());
        }
        if let Some(cnonce) = &self.cnonce {
            out.quoted("cnonce", cnonce);
        }
        if let Some(opaque) = &self.opaque {
            out.quoted("opaque", opaque);
        }
        if let Some(qop) = self.qop {
            out.plain("qop", qop.as_str().as_bytes());
        }
        if let Some(nc) = self.nc {
            out.plain("nc", format!("{nc:08x}").as_bytes());
        }
        out.0
    }
}

/// Authentication-Info: what a server says after it has believed (RFC 7616 §3.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationInfo {
    /// The nonce for the next request.
    pub nextnonce: Option<Vec<u8>>,
    /// What the response protects.
    pub qop: Option<Qop>,
    /// The server's digest, in hexadecimal: it knows the password too.
    pub rspauth: Option<Vec<u8>>,
    /// As in the request.
    pub cnonce: Option<Vec<u8>>,
    /// As in the request.
    pub nc: Option<u32>,
}

impl AuthenticationInfo {
    /// Reads the value of Authentication-Info; what can't be read of it is left out.
    pub fn parse(value: &[u8]) -> AuthenticationInfo {
        let mut params = AuthParams::default();
        for element in grammar::elements(value) {
            let mut cursor = Cursor::new(element);
            if let Some(name) = cursor.token() {
                params.read_value(name, &mut cursor);
            }
        }
        let owned = |name| params.get(name).map(<[u8]>::to_vec);
        AuthenticationInfo {
            nextnonce: owned("nextnonce").filter(|nonce| !nonce.is_empty()),
            qop: params.get("qop").and_then(Qop::parse),
            rspauth: owned("rspauth"),
            cnonce: owned("cnonce"),
            nc: params.get("nc").and_then(read_nc),
        }
    }

    /// The value of Authentication-Info.
    pub fn write(&self) -> Vec<u8> {
        let mut out = AuthWriter(Vec::new());
        if let Some(nonce) = &self.nextnonce {
            out.quoted("nextnonce", nonce);
        }
        if let Some(qop) = self.qop {
            out.plain("qop", qop.as_str().as_bytes());
        }
        if let Some(rspauth) = &self.rspauth {
            out.quoted("rspauth", rspauth);
        }
        if let Some(cnonce) = &self.cnonce {
            out.quoted("cnonce", cnonce);
        }
        if let Some(nc) = self.nc {
            out.plain("nc", format!("{nc:08x}").as_bytes());
        }
        out.0
    }
}

impl Fields {
    /// The digest challenges of the fields of this name (WWW-Authenticate, Proxy-Authenticate), in their
    /// order, several lines or one; those that can't be answered here are left out.
    pub fn challenges(&self, name: &str) -> Vec<DigestChallenge> {
        digests(self, name).iter().filter_map(DigestChallenge::from_params).collect()
    }

    /// The digest credentials of the fields of this name (Authorization, Proxy-Authorization); other schemes
    /// and what is not complete are left out.
    pub fn credentials(&self, name: &str) -> Vec<DigestCredentials> {
        digests(self, name).iter().filter_map(DigestCredentials::from_params).collect()
    }
}

/// The parameters of a challenge or of credentials, values without quotation marks.
#[derive(Default)]
struct AuthParams<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> AuthParams<'a> {
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Reads `= value`; what is malformed, and what comes twice, is left out.
    fn read_value(&mut self, name: &'a str, cursor: &mut Cursor<'a>) {
        if !cursor.separator(b'=') || self.0.len() == MAX_AUTH_PARAMS || self.get(name).is_some() {
            return;
        }
        let value = match cursor.peek() {
            Some(b'"') => cursor.quoted().and_then(|quoted| quoted.get(1..quoted.len() - 1)),
            // It will stand between quotation marks when it is sent back, and must not end them.
            _ => Some(cursor.take_while(|octet| !grammar::is_blank(octet) && !matches!(octet, b'"' | b'\\'))),
        };
        cursor.skip_blanks();
        if let Some(value) = value.filter(|_| cursor.is_at_end()) {
            self.0.push((name, value));
        }
    }
}

/// The parameters of each value of the scheme Digest. Several challenges may stand in one line, told apart
/// only by the scheme before the first parameter of each.
fn digests<'a>(fields: &'a Fields, name: &'a str) -> Vec<AuthParams<'a>> {
    let mut values: Vec<AuthParams<'a>> = Vec::new();
    for line in fields.all(name) {
        let mut is_digest = false;
        for element in grammar::elements(line) {
            let mut cursor = Cursor::new(element);
            let Some(word) = cursor.token() else { continue };
            let mut ahead = cursor;
            if ahead.separator(b'=') {
                if is_digest && let Some(current) = values.last_mut() {
                    current.read_value(word, &mut cursor);
                }
                continue;
            }
            is_digest = word.eq_ignore_ascii_case("Digest");
            if !is_digest {
                continue;
            }
            if values.len() == MAX_CHALLENGES {
                return values;
            }
            let mut params = AuthParams::default();
            cursor.skip_blanks();
            if let Some(first) = cursor.token() {
                params.read_value(first, &mut cursor);
            }
            values.push(params);
        }
    }
    values
}

fn read_nc(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| (1..=8).contains(&digits.len()))?;
    digits.bytes().all(|octet| octet.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Text as it stands between quotation marks.
pub(super) fn quotable(plain: &str) -> Vec<u8> {
    let quoted = grammar::quote(plain);
    quoted.as_bytes().get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

fn unescaped(inner: &[u8]) -> String {
    let text = grammar::text(inner);
    match text.contains('\\') {
        true => grammar::unquote(&format!("\"{text}\"")).into_owned(),
        false => Cow::into_owned(text),
    }
}

/// `Digest name=value, …`
struct AuthWriter(Vec<u8>);

impl AuthWriter {
    fn new() -> AuthWriter {
        AuthWriter(b"Digest ".to_vec())
    }

    fn name(&mut self, name: &str) {
        if !matches!(self.0.as_slice(), [] | [.., b' ']) {
            self.0.extend_from_slice(b", ");
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
    }

    fn plain(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(value);
    }

    /// `inner` is what stands between the quotation marks: escapes are in it already.
    fn quoted(&mut self, name: &str, inner: &[u8]) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(inner);
        self.0.push(b'"');
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;

//! Digest authentication, computed: which challenge to answer, the answer, and whether an answer is right
//! (RFC 7616 §3.4, RFC 8760; without qop as RFC 2069).

use super::auth::{Algorithm, AuthenticationInfo, DigestChallenge, DigestCredentials, Hash, Qop, quotable};
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

/// The challenge with the strongest algorithm; of equal ones the first, which is what the server would rather
/// have (RFC 8760 §2.4).
pub fn strongest(challenges: &[DigestChallenge]) -> Option<&DigestChallenge> {
    let strength = |challenge: &DigestChallenge| match challenge.effective_algorithm().hash {
        Hash::Md5 => 0,
        Hash::Sha256 => 1,
        Hash::Sha512_256 => 2,
    };
    challenges.iter().rev().max_by_key(|challenge| strength(challenge))
}

/// Everything that an answer is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the server asked.
    pub challenge: &'a DigestChallenge,
    /// The method of the request.
    pub method: &'a str,
    /// The Request-URI as it stands in the request.
    pub uri: &'a str,
    /// Who we are there.
    pub username: &'a str,
    /// The secret.
    pub password: &'a str,
    /// The body of the request.
    pub body: &'a [u8],
    /// Our part of what is hashed; with a `-sess` algorithm it must stay the same as long as the nonce does.
    pub cnonce: &'a str,
    /// How many requests use this nonce, with this one; from 1.
    pub nc: u32,
}

/// The value of Authorization or Proxy-Authorization.
pub fn answer(question: &Question<'_>) -> Vec<u8> {
    credentials(question).write()
}

/// The credentials that answer a challenge.
pub fn credentials(question: &Question<'_>) -> DigestCredentials {
    let challenge = question.challenge;
    let qop = challenge.chosen_qop();
    // RFC 2069 knows no cnonce; a `-sess` algorithm can't do without it.
    let has_cnonce = qop.is_some() || challenge.effective_algorithm().session;
    let mut credentials = DigestCredentials {
        username: quotable(question.username),
        realm: challenge.realm.clone(),
        nonce: challenge.nonce.clone(),
        uri: quotable(question.uri),
        response: Vec::new(),
        algorithm: challenge.algorithm,
        opaque: challenge.opaque.clone(),
        qop,
        cnonce: has_cnonce.then(|| quotable(question.cnonce)),
        nc: qop.is_some().then_some(question.nc),
    };
    let secret = password_hash(&credentials, question.username.as_bytes(), question.password);
    credentials.response = response(&credentials, &secret, question.method, question.body).into_bytes();
    credentials
}

/// Whether credentials are right for this password. Whether realm, nonce, URI and nonce count are those that
/// the server wants is the server's to look at.
pub fn verify(credentials: &DigestCredentials, password: &str, method: &str, body: &[u8]) -> bool {
    // Some hash the name as it stands between the quotation marks, some as it is meant.
    let meant = credentials.username_text();
    [credentials.username.as_slice(), meant.as_bytes()].iter().any(|username| {
        let secret = password_hash(credentials, username, password);
        is_same(response(credentials, &secret, method, body).as_bytes(), &credentials.response)
    })
}

/// Whether the server has shown that it knows the password too: `rspauth` over the body of its response.
/// `None` if it has not tried.
pub fn verify_server(
    question: &Question<'_>,
    info: &AuthenticationInfo,
    response_body: &[u8],
) -> Option<bool> {
    let theirs = info.rspauth.as_deref()?;
    let mut ours = credentials(question);
    // The server may protect more or less than we did, but by the same nonces.
    ours.qop = info.qop.or(ours.qop);
    let secret = password_hash(&ours, question.username.as_bytes(), question.password);
    let same_nonces = info.cnonce.is_none() || info.cnonce == ours.cnonce;
    let same_count = info.nc.is_none() || info.nc == ours.nc;
    Some(same_nonces && same_count && is_same(response(&ours, &secret, "", response_body).as_bytes(), theirs))
}

/// The `rspauth` of a server's response, which proves that it knows the password (RFC 7616 §3.5).
pub fn server_proof(
    credentials: &DigestCredentials,
    password: &str,
    response_body: &[u8],
) -> AuthenticationInfo {
    let secret = password_hash(credentials, credentials.username_text().as_bytes(), password);
    AuthenticationInfo {
        nextnonce: None,
        qop: credentials.qop,
        rspauth: Some(response(credentials, &secret, "", response_body).into_bytes()),
        cnonce: credentials.cnonce.clone(),
        nc: credentials.nc,
    }
}

/// H(A1).
fn password_hash(credentials: &DigestCredentials, username: &[u8], password: &str) -> String {
    let algorithm = credentials.algorithm.unwrap_or(Algorithm::MD5);
    let plain = hash(algorithm, &[username, &credentials.realm, password.as_bytes()]);
    match algorithm.session {
        true => {
            let cnonce = credentials.cnonce.as_deref().unwrap_or_default();
            hash(algorithm, &[plain.as_bytes(), &credentials.nonce, cnonce])
        }
        false => plain,
    }
}

/// The digest of method, URI and perhaps body under a hashed password. The method of a server's proof is
/// empty.
fn response(credentials: &DigestCredentials, secret: &str, method: &str, body: &[u8]) -> String {
    let algorithm = credentials.algorithm.unwrap_or(Algorithm::MD5);
    let asked = match credentials.qop {
        Some(Qop::AuthInt) => {
            let body = hash(algorithm, &[body]);
            hash(algorithm, &[method.as_bytes(), &credentials.uri, body.as_bytes()])
        }
        Some(Qop::Auth) | None => hash(algorithm, &[method.as_bytes(), &credentials.uri]),
    };
    match credentials.qop {
        Some(qop) => {
            let nc = format!("{:08x}", credentials.nc.unwrap_or(0));
            let cnonce = credentials.cnonce.as_deref().unwrap_or_default();
            let parts = [
                secret.as_bytes(),
                &credentials.nonce,
                nc.as_bytes(),
                cnonce,
                qop.as_str().as_bytes(),
                asked.as_bytes(),
            ];
            hash(algorithm, &parts)
        }
        None => hash(algorithm, &[secret.as_bytes(), &credentials.nonce, asked.as_bytes()]),
    }
}

/// The hash of the parts with colons between them, in lower-case hexadecimal.
fn hash(algorithm: Algorithm, parts: &[&[u8]]) -> String {
    let text = parts.join(&b':');
    match algorithm.hash {
        Hash::Md5 => hex(&Md5::digest(&text)),
        Hash::Sha256 => hex(&Sha256::digest(&text)),
        Hash::Sha512_256 => hex(&Sha512_256::digest(&text)),
    }
}

fn hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    octets.iter().flat_map(|&octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Whether both are the same hexadecimal digits, in a time that does not tell where they differ.
fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).fold(0, |differ, (a, b)| differ | (a ^ b.to_ascii_lowercase())) == 0
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;

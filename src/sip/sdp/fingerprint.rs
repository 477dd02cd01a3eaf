//! DTLS-SRTP in the description: `a=fingerprint` (RFC 8122), `a=setup` (RFC 4145), `a=tls-id` and when a new
//! association is made (RFC 8842).

use super::media::Media;
use super::session::{Attribute, Session};
use crate::chance::Chance;
use std::fmt;

/// The most fingerprints that are read of one medium; later ones are passed over.
pub const MAX_FINGERPRINTS: usize = 8;
/// The shortest and the longest `a=tls-id` (RFC 8842 §4).
const TLS_ID: std::ops::RangeInclusive<usize> = 20..=255;

/// A hash function of fingerprints. MD5 and SHA-1 prove nothing any more and are not among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-256, which everybody has (RFC 8122 §5).
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    const ALL: [Hash; 3] = [Hash::Sha256, Hash::Sha384, Hash::Sha512];

    /// The name in the description.
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        }
    }

    /// Bytes of the hash.
    pub fn length(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }
}

/// The hash of a certificate (RFC 8122 §5).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint {
    /// How it was made.
    pub hash: Hash,
    /// Its bytes, as many as the hash has.
    pub bytes: Vec<u8>,
}

impl Fingerprint {
    /// Reads the value of an `a=fingerprint` line. `None` if it is broken or of a hash function that is not
    /// trusted.
    pub fn read(value: &str) -> Option<Fingerprint> {
        let (hash, digits) = value.trim().split_once(char::is_whitespace)?;
        let hash = Hash::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(hash))?;
        let digits = digits.trim();
        if digits.len() != 3 * hash.length() - 1 {
            return None;
        }
        let byte = |pair: &str| match pair.len() {
            2 if pair.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(pair, 16).ok(),
            _ => None,
        };
        let bytes: Vec<u8> = digits.split(':').map(byte).collect::<Option<_>>()?;
        (bytes.len() == hash.length()).then_some(Fingerprint { hash, bytes })
    }
}

impl fmt::Display for Fingerprint {
    /// The value of the attribute.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// Who begins the handshake (RFC 4145 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Setup {
    Active,
    Passive,
    ActPass,
    HoldConn,
}

impl Setup {
    fn read(word: &str) -> Option<Setup> {
        match word.trim().to_ascii_lowercase().as_str() {
            "active" => Some(Setup::Active),
            "passive" => Some(Setup::Passive),
            "actpass" => Some(Setup::ActPass),
            "holdconn" => Some(Setup::HoldConn),
            _ => None,
        }
    }
}

/// Our part in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// We begin (`a=setup:active`).
    Client,
    /// We wait for the peer to begin (`a=setup:passive`).
    Server,
}

impl DtlsRole {
    fn name(self) -> &'static str {
        match self {
            DtlsRole::Client => "active",
            DtlsRole::Server => "passive",
        }
    }
}

/// What both sides agreed on. An association that equals the one before goes on; any other is made by a handshake
/// of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dtls {
    /// Our part.
    pub role: DtlsRole,
    /// The peer's certificate must have one of these; there is one at least.
    pub fingerprints: Vec<Fingerprint>,
    /// The peer's name for the association, if it has one.
    pub tls_id: Option<String>,
    /// Counts the associations of the dialog.
    pub association: u32,
}

/// What a description says about DTLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RemoteDtls {
    fingerprints: Vec<Fingerprint>,
    setup: Option<Setup>,
    tls_id: Option<String>,
    /// It says that the association is a new one (`a=connection:new`, RFC 4145 §5): some do instead of a name.
    is_new: bool,
}

impl RemoteDtls {
    /// What a description says for one of its media, else for the session; `None` without a fingerprint that can
    /// be checked.
    pub(super) fn read(session: &Session, media: &Media) -> Option<RemoteDtls> {
        let of = |attributes: &[Attribute]| -> Vec<Fingerprint> {
            let values = attributes.iter().filter(|it| it.name == "fingerprint");
            let values = values.filter_map(|it| it.value.as_deref()).take(MAX_FINGERPRINTS);
            values.filter_map(Fingerprint::read).collect()
        };
        // Those of the medium replace those of the session (RFC 8122 §5).
        let near = if media.has("fingerprint") { &media.attributes } else { &session.attributes };
        let fingerprints = of(near);
        let value = |name: &str| media.attribute(name).or_else(|| session.attribute(name));
        let is_id = |id: &&str| {
            TLS_ID.contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(&b))
        };
        (!fingerprints.is_empty()).then(|| RemoteDtls {
            fingerprints,
            setup: value("setup").and_then(Setup::read),
            tls_id: value("tls-id").filter(is_id).map(str::to_owned),
            is_new: value("connection").is_some_and(|word| word.trim().eq_ignore_ascii_case("new")),
        })
    }

    /// Whether it names itself: then we answer with a name, too (RFC 8842 §5.3).
    pub(super) fn has_tls_id(&self) -> bool {
        self.tls_id.is_some()
    }

    /// What follows from the peer's offer; `None` if it wants no handshake (holdconn).
    pub(super) fn answered(self, before: Option<&Dtls>) -> Option<Dtls> {
        let wish = match self.setup {
            Some(Setup::ActPass) => before.map(|dtls| dtls.role),
            // An offer that says nothing means active (RFC 4145 §4.1).
            Some(Setup::Active) | None => Some(DtlsRole::Server),
            Some(Setup::Passive) => Some(DtlsRole::Client),
            Some(Setup::HoldConn) => return None,
        };
        // The answerer is the client, as it knows both sides first (RFC 5763 §5).
        Some(self.settle(before, wish.unwrap_or(DtlsRole::Client), DtlsRole::Client))
    }

    /// What follows from the peer's answer to our offer, which may be a later one to the same offer; `None` if it
    /// wants no handshake.
    pub(super) fn accepted(mut self, before: Option<&Dtls>, is_first: bool) -> Option<Dtls> {
        self.is_new &= is_first;
        let role = match self.setup {
            Some(Setup::Active) => DtlsRole::Server,
            // An answer that leaves it open waits for us.
            Some(Setup::Passive | Setup::ActPass) | None => DtlsRole::Client,
            Some(Setup::HoldConn) => return None,
        };
        Some(self.settle(before, role, role))
    }

    /// The association before if it goes on, else a new one (RFC 8842 §4): other fingerprints, another role or
    /// another name mean a new one; `fresh` is our role in that case if it is left to us.
    fn settle(self, before: Option<&Dtls>, role: DtlsRole, fresh: DtlsRole) -> Dtls {
        let goes_on = before.is_some_and(|dtls| {
            let same = dtls.fingerprints == self.fingerprints && dtls.tls_id == self.tls_id;
            same && dtls.role == role && !self.is_new
        });
        let left_to_us = self.setup == Some(Setup::ActPass);
        Dtls {
            role: if !goes_on && left_to_us { fresh } else { role },
            fingerprints: self.fingerprints,
            tls_id: self.tls_id,
            association: before.map_or(1, |dtls| dtls.association.saturating_add(u32::from(!goes_on))),
        }
    }
}

/// A name for an association of ours: 120 bits of chance.
pub(super) fn draw_tls_id(chance: &mut Chance) -> String {
    let mut bytes = [0; 15];
    chance.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Our lines; without a role we offer both.
pub(super) fn describe(
    fingerprint: &Fingerprint,
    role: Option<DtlsRole>,
    tls_id: Option<&str>,
    attributes: &mut Vec<Attribute>,
) {
    attributes.push(Attribute::new("setup", role.map_or("actpass", DtlsRole::name)));
    attributes.push(Attribute::new("fingerprint", fingerprint.to_string()));
    attributes.extend(tls_id.map(|id| Attribute::new("tls-id", id)));
}

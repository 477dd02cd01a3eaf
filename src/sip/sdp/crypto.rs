//! SRTP keys in the description: `a=crypto` (RFC 4568; AES-GCM by RFC 7714).

use crate::chance::Chance;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;

/// The most session parameters that are read on a line.
const MAX_PARAMETERS: usize = 8;

/// Phones leave the padding away or write it; both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How SRTP encrypts and authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// AES counter mode with 128 bits, HMAC-SHA1 cut to 80 bits (RFC 4568 §6.2.1).
    AesCm128HmacSha1_80,
    /// The same with HMAC-SHA1 cut to 32 bits (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    /// AES-GCM with 128 bits (RFC 7714 §14.2).
    AeadAes128Gcm,
}

impl Suite {
    /// All suites we speak, the preferred first.
    pub const ALL: [Suite; 3] =
        [Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

    /// The name in the description.
    pub fn name(self) -> &'static str {
        match self {
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    /// The suite of this name.
    pub fn find(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of the master key.
    pub fn key_len(self) -> usize {
        16
    }

    /// Bytes of the master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => 14,
            Suite::AeadAes128Gcm => 12,
        }
    }
}

/// A master key with its salt. It never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A fresh key for a suite.
    pub fn draw(suite: Suite, chance: &mut Chance) -> Key {
        let mut bytes = vec![0; suite.key_len() + suite.salt_len()];
        chance.fill(&mut bytes);
        Key(bytes)
    }

    /// Key and salt in one, as the line carries them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Key and salt apart.
    pub fn split(&self, suite: Suite) -> (&[u8], &[u8]) {
        self.0.split_at(suite.key_len().min(self.0.len()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// One usable `a=crypto` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crypto {
    /// The line's number, which the answer repeats.
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// The key of the side that wrote the line: it encrypts what that side sends.
    pub key: Key,
}

impl Crypto {
    /// A line of our own with a fresh key.
    pub fn draw(tag: u32, suite: Suite, chance: &mut Chance) -> Crypto {
        Crypto { tag, suite, key: Key::draw(suite, chance) }
    }

    /// Reads the value of an `a=crypto` line.
    ///
    /// `None` for everything we could not honour to the letter: an unknown suite, several keys or a key
    /// identifier (MKI), a key of the wrong length, parameters that switch protection off or that must be
    /// understood and are not.
    pub fn read(value: &str) -> Option<Crypto> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = Suite::find(words.next()?)?;
        let key = read_inline(words.next()?, suite)?;
        let parameters: Vec<&str> = words.take(MAX_PARAMETERS + 1).collect();
        let understood = parameters.len() <= MAX_PARAMETERS && parameters.iter().all(|p| is_harmless(p));
        understood.then_some(Crypto { tag, suite, key })
    }
}

impl fmt::Display for Crypto {
    /// The value of the attribute, key included: for the wire only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} inline:{}", self.tag, self.suite.name(), BASE64.encode(self.key.bytes()))
    }
}

fn read_inline(parameters: &str, suite: Suite) -> Option<Key> {
    if parameters.contains(';') {
        return None;
    }
    let (method, info) = parameters.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") {
        return None;
    }
    let mut parts = info.split('|');
    let bytes = BASE64.decode(parts.next()?).ok()?;
    // What follows is a lifetime ("2^31"), which no call outlives, or an MKI ("1:4"), which would sit in each
    // packet.
    let no_mki = parts.all(|part| !part.contains(':'));
    (no_mki && bytes.len() == suite.key_len() + suite.salt_len()).then_some(Key(bytes))
}

fn is_harmless(parameter: &str) -> bool {
    let upper = parameter.to_ascii_uppercase();
    upper == "KDR=0" || upper.starts_with("WSH=") || upper.starts_with('-')
}

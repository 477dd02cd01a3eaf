//! SRTP and SRTCP (RFC 3711, AES-GCM of RFC 7714) with keys from SDES (RFC 4568).
//!
//! The ciphers are those of the crate `rtc-srtp`, which only this file knows. Replay windows and the roll-over
//! counter of each stream are kept here: a forged packet changes neither, and the number of streams is bounded.

use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use thiserror::Error;

use super::packet::{MAX_PACKET, Packet};
use crate::chance::Chance;

/// What protection adds to a packet at most, in bytes (the GCM tag and the SRTCP index).
pub const MAX_OVERHEAD: usize = 20;

/// Authenticated streams whose state is kept; the one unused for longest makes room.
const MAX_STREAMS: usize = 16;
/// Packets of unknown streams that may fail before the context that tried them is made anew.
const MAX_UNKNOWN: u32 = 32;
/// The highest roll-over counter that is carried over to a new key; a call of two years at 50 packets per second.
const MAX_CARRIED_ROC: u32 = 50_000;

/// The protection profiles of a=crypto that are spoken, strongest last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Profile {
    /// `AES_CM_128_HMAC_SHA1_32`: AES in counter mode, 32-bit tag (80 bits for RTCP).
    AesCm128HmacSha1_32,
    /// `AES_CM_128_HMAC_SHA1_80`: AES in counter mode, 80-bit tag. Every implementation has it.
    AesCm128HmacSha1_80,
    /// `AEAD_AES_128_GCM`: AES-GCM with a 128-bit tag.
    AeadAes128Gcm,
}

impl Profile {
    /// All profiles, in the order in which they are offered.
    pub const ALL: [Profile; 3] =
        [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80, Profile::AesCm128HmacSha1_32];

    /// The name in a=crypto (RFC 4568 §6.2, RFC 7714 §14.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Profile::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    /// The profile of a name in a=crypto.
    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.as_str() == name)
    }

    /// Length of the master key in bytes.
    pub fn key_length(self) -> usize {
        16
    }

    /// Length of the master salt in bytes.
    pub fn salt_length(self) -> usize {
        match self {
            Profile::AesCm128HmacSha1_32 | Profile::AesCm128HmacSha1_80 => 14,
            Profile::AeadAes128Gcm => 12,
        }
    }

    fn library(self) -> ProtectionProfile {
        match self {
            Profile::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
            Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        }
    }
}

/// Profile, master key and master salt of one direction. Its `Debug` shows the profile only.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    profile: Profile,
    /// Key, then salt, as in the `inline:` parameter.
    material: [u8; 30],
}

impl Keys {
    /// Keys from the decoded `inline:` parameter of a=crypto: master key, then salt (RFC 4568 §6.1).
    ///
    /// # Errors
    /// [`BadKeys::Length`] if it is not exactly as long as the profile wants.
    pub fn from_inline(profile: Profile, bytes: &[u8]) -> Result<Keys, BadKeys> {
        let expected = profile.key_length() + profile.salt_length();
        if bytes.len() != expected {
            return Err(BadKeys::Length { expected, found: bytes.len() });
        }
        let mut material = [0; 30];
        material.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(Keys { profile, material })
    }

    /// Fresh keys for our own direction.
    pub fn random(profile: Profile, chance: &mut Chance) -> Keys {
        let mut keys = Keys { profile, material: [0; 30] };
        let length = profile.key_length() + profile.salt_length();
        chance.fill(&mut keys.material[..length]);
        keys
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Key and salt as they stand, before base64, in the `inline:` parameter. A secret.
    pub fn inline(&self) -> &[u8] {
        &self.material[..self.profile.key_length() + self.profile.salt_length()]
    }

    fn context(&self) -> Option<Context> {
        let (key, salt) = self.inline().split_at(self.profile.key_length());
        let provider = rtc_srtp::crypto::default_provider().ok()?;
        Context::new(key, salt, self.profile.library(), None, None, provider.crypto()).ok()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.profile.as_str())
    }
}

/// Why key material from SDP cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadKeys {
    /// Key and salt have the wrong length for the profile.
    #[error("the peer's a=crypto has {found} bytes of key and salt where its suite wants {expected}")]
    Length {
        /// What the suite wants.
        expected: usize,
        /// What was there.
        found: usize,
    },
    /// The cryptography of this build refuses the profile.
    #[error("this build cannot do the SRTP suite; choose another in srtp")]
    Unsupported,
}

/// Why a packet was not accepted, or could not be protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The authentication tag is wrong: another key, or a forgery.
    #[error("a packet failed SRTP authentication; it is dropped")]
    Authentication,
    /// It was received before, or is older than the replay window.
    #[error("a packet was an SRTP replay; it is dropped")]
    Replay,
    /// It is not RTP or RTCP, or too short or long to be protected.
    #[error("a packet was not SRTP; it is dropped")]
    Malformed,
    /// The caller's buffer cannot hold the result.
    #[error("the buffer is too small for the protected packet")]
    Room,
}

/// The context of our own direction.
pub struct Protector {
    keys: Keys,
    context: Context,
    /// SSRC and extended sequence number of the last packet.
    last: Option<(u32, u64)>,
}

impl Protector {
    /// A context that starts with roll-over counter 0. The stream should start below sequence number 2¹⁵.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses.
    pub fn new(keys: Keys) -> Result<Protector, BadKeys> {
        let context = keys.context().ok_or(BadKeys::Unsupported)?;
        Ok(Protector { keys, context, last: None })
    }

    /// The present keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether the sequence number has turned over, so that a new listener would guess the counter wrong.
    pub fn turned(&self) -> bool {
        self.last.is_some_and(|(_, index)| index > 0xffff)
    }

    /// A new key for the stream that goes on: the roll-over counter is kept (RFC 3711 §3.3.1).
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses.
    pub fn rekey(&mut self, keys: Keys) -> Result<(), BadKeys> {
        let mut context = keys.context().ok_or(BadKeys::Unsupported)?;
        if let Some((ssrc, index)) = self.last {
            carry(&mut context, ssrc, index);
        }
        self.context = context;
        self.keys = keys;
        Ok(())
    }

    /// Protects the RTP packet in the first `length` bytes of `buffer`, in place; returns the new length.
    ///
    /// # Errors
    /// [`Refusal`] if it is not RTP or `buffer` has no room for the tag.
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Refusal> {
        let plain = buffer.get(..length).ok_or(Refusal::Room)?;
        let header = Packet::parse(plain).map_err(|_| Refusal::Malformed)?.header;
        let protected = self.context.encrypt_rtp(plain).map_err(|_| Refusal::Malformed)?;
        let index = match self.last {
            Some((ssrc, highest)) if ssrc == header.ssrc => {
                extend(highest, header.sequence).unwrap_or(highest)
            }
            _ => u64::from(header.sequence),
        };
        self.last = Some((header.ssrc, index));
        put(&protected, buffer)
    }

    /// Protects the RTCP compound in the first `length` bytes of `buffer`, in place; returns the new length.
    ///
    /// # Errors
    /// [`Refusal`] if it is not RTCP or `buffer` has no room for index and tag.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Refusal> {
        let plain = buffer.get(..length).ok_or(Refusal::Room)?;
        let protected = self.context.encrypt_rtcp(plain).map_err(|_| Refusal::Malformed)?;
        put(&protected, buffer)
    }
}

/// One authenticated stream under one key.
struct Stream {
    ssrc: u32,
    context: Context,
    window: ReplayWindow,
    used: u64,
}

/// What one key has decrypted.
struct Epoch {
    keys: Keys,
    streams: Vec<Stream>,
    /// Tries packets of streams that nobody has authenticated yet; its junk is bounded by [`MAX_UNKNOWN`].
    unknown: Context,
    unknown_failures: u32,
    rtcp: Context,
    rtcp_failures: u32,
    rtcp_windows: Vec<(u32, ReplayWindow)>,
    /// A stream may begin again with roll-over counter 0: until the first packet since the last offer or answer.
    may_restart: bool,
}

/// The key that vouches for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// That of the last offer or answer.
    Present,
    /// The one before: whoever sent the packet may have left since.
    Previous,
}

/// The context of the peer's direction, across changes of the key.
pub struct Unprotector {
    current: Epoch,
    /// The previous key, for what is still under way, until a packet of the new one arrives.
    previous: Option<Epoch>,
    count: u64,
}

impl Unprotector {
    /// A context for a first key.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses.
    pub fn new(keys: Keys) -> Result<Unprotector, BadKeys> {
        Ok(Unprotector { current: Epoch::new(keys)?, previous: None, count: 0 })
    }

    /// An offer or answer has brought these keys. The same key leaves everything as it is, but a stream is let begin
    /// again with roll-over counter 0 if `moved`, that is if the peer's address or port changed
    /// (RFC 4568 §7.1.4). After a new key the roll-over counter may be kept (RFC 3711 §3.3.1) or reset: both are
    /// tried, and authentication decides.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses; the old key then stays.
    pub fn rekey(&mut self, keys: Keys, moved: bool) -> Result<(), BadKeys> {
        if keys == self.current.keys {
            self.current.may_restart |= moved;
            return Ok(());
        }
        let mut fresh = Epoch::new(keys)?;
        for stream in &self.current.streams {
            // The peer may keep the roll-over counter; `Epoch::unprotect` tries 0 when this fails.
            let Some(mut context) = fresh.keys.context() else { return Err(BadKeys::Unsupported) };
            carry(&mut context, stream.ssrc, stream.window.highest);
            let window = ReplayWindow::carried(stream.window.highest);
            fresh.streams.push(Stream { ssrc: stream.ssrc, context, window, used: stream.used });
        }
        fresh.may_restart = true;
        self.previous = Some(std::mem::replace(&mut self.current, fresh));
        Ok(())
    }

    /// Authenticates and decrypts an RTP packet in place; returns its new length, and under which key it was.
    ///
    /// # Errors
    /// [`Refusal`]; the bytes are then as they were.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Result<(usize, Key), Refusal> {
        let header = Packet::parse(packet).map_err(|_| Refusal::Malformed)?.header;
        self.count += 1;
        let (plain, key) = match self.current.unprotect(packet, header.ssrc, header.sequence, self.count) {
            Ok(plain) => {
                self.previous = None;
                (plain, Key::Present)
            }
            Err(Refusal::Authentication) => match &mut self.previous {
                Some(previous) => {
                    let plain = previous.unprotect(packet, header.ssrc, header.sequence, self.count)?;
                    (plain, Key::Previous)
                }
                None => return Err(Refusal::Authentication),
            },
            Err(refusal) => return Err(refusal),
        };
        Ok((put(&plain, packet)?, key))
    }

    /// Authenticates and decrypts an RTCP packet in place; returns its new length.
    ///
    /// # Errors
    /// [`Refusal`]; the bytes are then as they were.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refusal> {
        if packet.len() > MAX_PACKET {
            return Err(Refusal::Malformed);
        }
        let plain = match (self.current.unprotect_rtcp(packet), &mut self.previous) {
            (Err(Refusal::Authentication), Some(previous)) => previous.unprotect_rtcp(packet)?,
            (result, _) => result?,
        };
        put(&plain, packet)
    }
}

impl Epoch {
    fn new(keys: Keys) -> Result<Epoch, BadKeys> {
        let context = || keys.context().ok_or(BadKeys::Unsupported);
        let (unknown, rtcp) = (context()?, context()?);
        Ok(Epoch {
            keys,
            streams: Vec::with_capacity(2),
            unknown,
            unknown_failures: 0,
            rtcp,
            rtcp_failures: 0,
            rtcp_windows: Vec::with_capacity(2),
            may_restart: false,
        })
    }

    fn unprotect(
        &mut self,
        packet: &[u8],
        ssrc: u32,
        sequence: u16,
        count: u64,
    ) -> Result<impl AsRef<[u8]> + use<>, Refusal> {
        let mut refusal = Refusal::Authentication;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            match stream.window.check(sequence) {
                Some(index) => {
                    if let Ok(plain) = stream.context.decrypt_rtp(packet) {
                        stream.window.accept(index);
                        stream.used = count;
                        self.may_restart = false;
                        return Ok(plain);
                    }
                }
                None => refusal = Refusal::Replay,
            }
            if !self.may_restart {
                return Err(refusal);
            }
        }
        // A stream that is new to this key, or one that may begin again: roll-over counter 0.
        let Ok(plain) = self.unknown.decrypt_rtp(packet) else {
            self.unknown_failures += 1;
            if self.unknown_failures >= MAX_UNKNOWN
                && let Some(context) = self.keys.context()
            {
                self.unknown = context;
                self.unknown_failures = 0;
            }
            return Err(refusal);
        };
        let Some(next) = self.keys.context() else { return Err(Refusal::Authentication) };
        let context = std::mem::replace(&mut self.unknown, next);
        self.unknown_failures = 0;
        self.may_restart = false;
        self.streams.retain(|stream| stream.ssrc != ssrc);
        if self.streams.len() >= MAX_STREAMS
            && let Some((oldest, _)) = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.used)
        {
            self.streams.swap_remove(oldest);
        }
        let window = ReplayWindow::starting(u64::from(sequence));
        self.streams.push(Stream { ssrc, context, window, used: count });
        Ok(plain)
    }

    fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<impl AsRef<[u8]> + use<>, Refusal> {
        let (ssrc, encrypted, index) = srtcp_index(packet, self.keys.profile).ok_or(Refusal::Malformed)?;
        // `UNENCRYPTED_SRTCP` is never negotiated, and the library does not check the tag of such packets.
        if !encrypted {
            return Err(Refusal::Authentication);
        }
        let known = self.rtcp_windows.iter_mut().find(|(known, _)| *known == ssrc).map(|(_, window)| window);
        if known.as_ref().is_some_and(|window| window.seen(index)) {
            return Err(Refusal::Replay);
        }
        let Ok(plain) = self.rtcp.decrypt_rtcp(packet) else {
            self.rtcp_failures += 1;
            if self.rtcp_failures >= MAX_UNKNOWN
                && let Some(context) = self.keys.context()
            {
                self.rtcp = context;
                self.rtcp_failures = 0;
            }
            return Err(Refusal::Authentication);
        };
        match known {
            Some(window) => window.accept(index),
            None => {
                if self.rtcp_windows.len() >= MAX_STREAMS {
                    self.rtcp_windows.remove(0);
                }
                self.rtcp_windows.push((ssrc, ReplayWindow::starting(index)));
            }
        }
        Ok(plain)
    }
}

/// SSRC, E flag and SRTCP index of a protected RTCP packet (RFC 3711 §3.4); `None` if it is too short.
fn srtcp_index(packet: &[u8], profile: Profile) -> Option<(u32, bool, u64)> {
    let ssrc = u32::from_be_bytes(*packet.get(4..)?.first_chunk::<4>()?);
    let tag = match profile {
        Profile::AesCm128HmacSha1_32 | Profile::AesCm128HmacSha1_80 => 10,
        Profile::AeadAes128Gcm => 0,
    };
    let before_tag = packet.get(..packet.len().checked_sub(tag)?)?;
    let word = u32::from_be_bytes(*before_tag.last_chunk::<4>()?);
    (before_tag.len() >= 12).then_some((ssrc, word >> 31 == 1, u64::from(word & 0x7fff_ffff)))
}

/// Brings a fresh context to the roll-over counter that `index` has. The library has no call for it, but follows
/// the sequence numbers it is shown: three per turn bring it round.
fn carry(context: &mut Context, ssrc: u32, index: u64) {
    let turns = (index >> 16).min(u64::from(MAX_CARRIED_ROC)) as u32;
    let mut show = |sequence: u16| {
        let header = super::packet::Header { ssrc, sequence, ..Default::default() };
        let mut bytes = [0; super::packet::FIXED_HEADER];
        if header.write(&[], &mut bytes).is_some() {
            let _ = context.encrypt_rtp(&bytes);
        }
    };
    for _ in 0..turns {
        for sequence in [0, 0x5000, 0xa000, 0xf000] {
            show(sequence);
        }
    }
    // Towards the present position in steps that cannot be taken for a turn back.
    for sequence in [0, 0x5000, 0xa000] {
        if sequence <= index as u16 {
            show(sequence);
        }
    }
    show(index as u16);
}

/// The extended sequence number nearest to `highest` (RFC 3711 §3.3.1); `None` before the first packet.
fn extend(highest: u64, sequence: u16) -> Option<u64> {
    let difference = sequence.wrapping_sub(highest as u16) as i16;
    highest.checked_add_signed(i64::from(difference))
}

/// The last 128 indices of one stream.
#[derive(Clone, Copy, Debug)]
struct ReplayWindow {
    highest: u64,
    /// Bit n: `highest - n` was received.
    seen: u128,
}

impl ReplayWindow {
    fn starting(index: u64) -> ReplayWindow {
        ReplayWindow { highest: index, seen: 1 }
    }

    /// Under a new key nothing has been received yet.
    fn carried(index: u64) -> ReplayWindow {
        ReplayWindow { highest: index, seen: 0 }
    }

    /// The index of `sequence`, if it was not received before.
    fn check(&self, sequence: u16) -> Option<u64> {
        extend(self.highest, sequence).filter(|index| !self.seen(*index))
    }

    fn seen(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            Some(age @ 0..128) => self.seen >> age & 1 == 1,
            Some(_) => true,
            None => false,
        }
    }

    fn accept(&mut self, index: u64) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.seen = self.seen.checked_shl(u32::try_from(ahead).unwrap_or(u32::MAX)).unwrap_or(0) | 1;
                self.highest = index;
            }
            None => {
                if let Some(age @ 0..128) = self.highest.checked_sub(index) {
                    self.seen |= 1 << age;
                }
            }
        }
    }
}

fn put(result: &impl AsRef<[u8]>, buffer: &mut [u8]) -> Result<usize, Refusal> {
    let result = result.as_ref();
    buffer.get_mut(..result.len()).ok_or(Refusal::Room)?.copy_from_slice(result);
    Ok(result.len())
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;

//! DTLS-SRTP (RFC 5763, RFC 5764): the handshake that gives a session its keys, and the proof that the keys are shared
//! with the one whose fingerprint the signalling told.
//!
//! The handshake itself is that of the crate `rtc-dtls`, which only this file knows. It draws its numbers itself. When
//! a flight is sent again, what is looked at (`dtls_records`), how many peers may try and how long is decided
//! here: a flood ends in counters that are full.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use thiserror::Error;

pub use super::dtls_records::is_dtls;
use super::dtls_records::{Sifted, sift};
use super::plan::KeyPair;
use super::srtp::{Keys, Profile};
use crate::now::{Now, earliest};

/// Peers that may try at one time where we wait for them; of unexpected ones fewer.
const MAX_ATTEMPTS: usize = 4;
const MAX_STRANGERS: usize = 2;
/// Handshakes begun for one association, with whomever.
const MAX_BEGUN: u32 = 32;
/// Datagrams that one attempt looks at. A handshake has about ten.
const MAX_DATAGRAMS: u32 = 256;
/// Handshake messages and fragments that one attempt looks at.
const MAX_MESSAGES: u32 = 256;
/// Times that the last flight of all is sent again for a peer that repeats its own.
const MAX_ECHOES: u32 = 16;
/// The first wait for an answer to a flight, which doubles up to the longest, in microseconds.
const FIRST_WAIT_US: u64 = 250_000;
const LONGEST_WAIT_US: u64 = 2_000_000;
/// The least time between two sendings of a flight that a peer asks for by repeating its own, in microseconds.
const ECHO_US: u64 = 100_000;
/// An attempt without progress for so long gives way to another of the same peer, in microseconds.
const STUCK_US: u64 = 4_000_000;
/// An attempt that has not ended after this time is given up, in microseconds.
const ATTEMPT_US: u64 = 15_000_000;
/// Between the end of an attempt of ours and the next one, in microseconds.
const PAUSE_US: u64 = 500_000;
/// After this time without keys the association has failed, in microseconds.
const GIVE_UP_US: u64 = 30_000_000;
/// The label of the keys (RFC 5764 §4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";
/// The library tells peers apart by address; each attempt has one of its own, and this is its name.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);

/// The hash of a certificate (RFC 8122 §5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fingerprint {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-384.
    Sha384([u8; 48]),
    /// SHA-512.
    Sha512([u8; 64]),
}

impl Fingerprint {
    fn is_of(&self, certificate: &[u8]) -> bool {
        match self {
            Fingerprint::Sha256(hash) => Sha256::digest(certificate)[..] == hash[..],
            Fingerprint::Sha384(hash) => Sha384::digest(certificate)[..] == hash[..],
            Fingerprint::Sha512(hash) => Sha512::digest(certificate)[..] == hash[..],
        }
    }
}

/// Our certificate with its key: made at start, told by its fingerprint, kept by nobody.
pub struct Identity {
    certificate: Certificate,
    fingerprint: [u8; 32],
    origin: Instant,
}

impl Identity {
    /// A self-signed certificate with a fresh key of ECDSA over P-256. It is made where the machine is: the key needs its
    /// chance, and the library an `Instant` to count from; handshakes use only differences to `origin`.
    ///
    /// # Errors
    /// [`Failure::Cryptography`] if this build cannot make one.
    pub fn generate(origin: Instant) -> Result<Identity, Failure> {
        let provider = rtc_srtp::crypto::default_provider().map_err(|_| Failure::Cryptography)?;
        let certificate = Certificate::generate_self_signed(Vec::new(), provider.crypto())
            .map_err(|_| Failure::Cryptography)?;
        let first = certificate.certificate.first().ok_or(Failure::Cryptography)?;
        let fingerprint = Sha256::digest(first.as_ref()).into();
        Ok(Identity { certificate, fingerprint, origin })
    }

    /// One for a test.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an `Instant`, and none is read")]
    pub(crate) fn of_a_test() -> Identity {
        Identity::generate(Instant::now()).unwrap()
    }

    /// Its SHA-256 fingerprint.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// Who begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We do.
    Client,
    /// The peer does.
    Server,
}

/// Why there are no keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Failure {
    /// This build cannot do it.
    #[error("the cryptography of this build refuses DTLS; use srtp_keys = \"sdes\"")]
    Cryptography,
    /// Nobody answered, or nobody began.
    #[error("the peer did not take part in the DTLS handshake: its packets may not find the way to us")]
    NoAnswer,
    /// Somebody has shown another certificate than the signalling told.
    #[error(
        "the peer's certificate is not the one that its fingerprint promised: somebody may be in between"
    )]
    Fingerprint,
    /// There is no protection profile that both sides know.
    #[error("the peer speaks no SRTP profile of ours (AEAD_AES_128_GCM, AES128_CM_HMAC_SHA1_80)")]
    Profile,
    /// The handshake went wrong in another way; the alert that the peer sent, if one was seen (RFC 5246 §7.2).
    #[error("the DTLS handshake failed (alert {})", .0.map_or("none".to_owned(), |alert| alert.to_string()))]
    Handshake(Option<u8>),
}

/// What an association tells, once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The keys of both directions, shared with the peer that the fingerprint names, and where it is.
    Ready {
        /// The keys.
        keys: KeyPair,
        /// Where the handshake came from.
        from: SocketAddr,
    },
    /// There will be no keys.
    Failed(Failure),
}

/// One handshake with one peer.
struct Attempt {
    endpoint: Endpoint,
    peer: SocketAddr,
    /// The peer is where signalling expects it.
    expected: bool,
    began_us: u64,
    progress_us: u64,
    /// What was sent last, to be sent again.
    flight: Vec<Vec<u8>>,
    sent_us: u64,
    wait_us: u64,
    resend_us: Option<u64>,
    /// Messages of the peer below this number are answered.
    floor: u16,
    highest: u16,
    datagrams: u32,
    messages: u32,
    echoes: u32,
}

/// One DTLS association: from the agreement to the keys.
pub struct Association {
    role: Role,
    fingerprints: Vec<Fingerprint>,
    config: Option<Arc<HandshakeConfig>>,
    /// The library counts in `Instant`: this one stands for `base_us`.
    base: Instant,
    base_us: u64,
    destination: Option<SocketAddr>,
    attempts: Vec<Attempt>,
    /// The attempt of a server that gave the keys: its last flight may have been lost.
    done: Option<Attempt>,
    begun: u32,
    next_us: u64,
    give_up_us: u64,
    why: Option<Failure>,
    alert: Option<u8>,
    state: State,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    event: Option<Event>,
    refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Shaking,
    /// There are keys. Others may follow: the peer may have lost the association (RFC 6347 §4.2.8).
    Done,
    Failed,
}

impl Association {
    /// A handshake in this role with a peer that has a certificate of one of these fingerprints. A client begins as
    /// soon as it knows where ([`Association::set_destination`]).
    pub fn new(now: Now, identity: &Identity, role: Role, fingerprints: Vec<Fingerprint>) -> Association {
        let mut association = Association {
            role,
            config: configure(identity, role, &fingerprints),
            fingerprints,
            base: identity.origin,
            base_us: now.mono_us,
            destination: None,
            attempts: Vec::new(),
            done: None,
            begun: 0,
            next_us: now.mono_us,
            give_up_us: now.mono_us.saturating_add(GIVE_UP_US),
            why: None,
            alert: None,
            state: State::Shaking,
            transmits: VecDeque::new(),
            event: None,
            refused: 0,
        };
        if association.config.is_none() {
            association.fail(Failure::Cryptography);
        }
        association
    }

    /// Where the peer is, as far as is known. A handshake that is under way goes on there.
    pub fn set_destination(&mut self, now: Now, destination: Option<SocketAddr>) {
        self.destination = destination;
        if self.role == Role::Client && self.state != State::Failed {
            if let (Some(attempt), Some(peer)) = (self.attempts.first_mut(), destination) {
                attempt.peer = peer;
            }
            self.begin_if_due(now);
        }
    }

    /// Shakes hands once more with the same peer, which seems to have lost the association: the keys there are stay in
    /// force until others are there. A server waits for the peer to do that.
    pub fn renew(&mut self, now: Now) {
        if self.state == State::Done && self.role == Role::Client && self.attempts.is_empty() {
            self.next_us = now.mono_us;
            self.begin(now);
        }
    }

    /// Datagrams that were not looked at.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes a datagram of DTLS. `expected`: it comes from where the signalling lets expect the peer.
    pub fn handle(&mut self, now: Now, from: SocketAddr, expected: bool, datagram: &[u8]) {
        if self.state == State::Failed {
            return;
        }
        let instant = self.instant(now);
        let client = self.role == Role::Client;
        let may_be = |attempt: &Attempt| {
            attempt.peer == from || (client && expected && attempt.peer.ip() == from.ip())
        };
        let known = self.attempts.iter().position(may_be);
        let floor = known.and_then(|at| self.attempts.get(at)).map_or(0, |attempt| attempt.floor);
        let sifted = sift(datagram, floor);
        self.alert = sifted.alert.or(self.alert);
        if let Some(done) = self.done.as_mut().filter(|done| done.peer == from && known.is_none()) {
            // Who repeats its last flight has not got ours (RFC 6347 §4.2.4).
            if !sifted.begins {
                if sift(datagram, done.floor).repeats {
                    done.echo(now, instant, false, &mut self.transmits);
                }
                return;
            }
        }
        let stuck = |attempt: &Attempt| now.mono_us.saturating_sub(attempt.progress_us) >= STUCK_US;
        let at = match known {
            // The peer has begun anew.
            Some(at) if sifted.begins && !client && self.attempts.get(at).is_some_and(stuck) => {
                self.attempts.remove(at);
                return self.admit(now, from, expected, &sift(datagram, 0));
            }
            Some(at) => at,
            None => return self.admit(now, from, expected, &sifted),
        };
        self.feed(now, at, &sifted);
    }

    /// A peer that we have not heard yet begins.
    fn admit(&mut self, now: Now, from: SocketAddr, expected: bool, sifted: &Sifted) {
        let strangers = self.attempts.iter().filter(|attempt| !attempt.expected).count();
        let full = self.attempts.len() >= MAX_ATTEMPTS || (!expected && strangers >= MAX_STRANGERS);
        let ours = self.role == Role::Client || !sifted.begins || sifted.records.is_empty();
        // The last ones are kept for who is expected.
        let spent = if expected { MAX_BEGUN } else { MAX_BEGUN / 2 };
        if ours || full || self.begun >= spent {
            self.refused += 1;
            return;
        }
        let Some(config) = self.config.clone() else { return };
        self.begun += 1;
        let endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Some(config));
        self.attempts.push(Attempt::new(now, endpoint, from, expected));
        self.feed(now, self.attempts.len() - 1, sifted);
    }

    fn feed(&mut self, now: Now, at: usize, sifted: &Sifted) {
        let instant = self.instant(now);
        let Some(attempt) = self.attempts.get_mut(at) else { return };
        if sifted.records.is_empty() {
            if sifted.repeats {
                attempt.echo(now, instant, true, &mut self.transmits);
            } else {
                self.refused += 1;
            }
            return;
        }
        attempt.datagrams += 1;
        attempt.messages += sifted.messages;
        if attempt.datagrams > MAX_DATAGRAMS || attempt.messages > MAX_MESSAGES {
            return self.drop_attempt(now, at, None);
        }
        attempt.highest = attempt.highest.max(sifted.number.unwrap_or(0));
        match attempt.endpoint.read(instant, PEER, None, sifted.records.as_slice().into()) {
            Ok(events) => {
                attempt.collect(now, &mut self.transmits);
                if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                    self.complete(now, at);
                }
            }
            Err(_) => {
                attempt.collect(now, &mut self.transmits);
                self.drop_attempt(now, at, None);
            }
        }
    }

    /// An attempt has shaken hands: is it with the right one?
    fn complete(&mut self, now: Now, at: usize) {
        let Some(attempt) = self.attempts.get(at) else { return };
        match keys_of(&attempt.endpoint, self.role, &self.fingerprints) {
            Ok(keys) => {
                self.state = State::Done;
                self.event = Some(Event::Ready { keys, from: attempt.peer });
                let attempt = self.attempts.swap_remove(at);
                self.attempts.clear();
                self.done = Some(attempt).filter(|_| self.role == Role::Server);
            }
            Err(why) => self.drop_attempt(now, at, Some(why)),
        }
    }

    fn drop_attempt(&mut self, now: Now, at: usize, why: Option<Failure>) {
        let attempt = self.attempts.swap_remove(at);
        let wrong = !attempt.has_right_certificate(&self.fingerprints);
        let found = why.or(wrong.then_some(Failure::Fingerprint));
        self.why = found.or(self.why).or(Some(Failure::Handshake(self.alert)));
        self.next_us = now.mono_us.saturating_add(PAUSE_US);
    }

    fn begin_if_due(&mut self, now: Now) {
        let due = self.state == State::Shaking && self.attempts.is_empty() && self.next_us <= now.mono_us;
        if due && self.role == Role::Client {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Now) {
        let Some(peer) = self.destination else { return };
        let Some(config) = self.config.clone().filter(|_| self.begun < MAX_BEGUN) else { return };
        self.begun += 1;
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        if endpoint.connect(self.instant(now), PEER, config, None).is_err() {
            return self.fail(Failure::Cryptography);
        }
        let mut attempt = Attempt::new(now, endpoint, peer, true);
        attempt.collect(now, &mut self.transmits);
        self.attempts.push(attempt);
    }

    fn fail(&mut self, why: Failure) {
        self.state = State::Failed;
        self.attempts.clear();
        self.done = None;
        self.event = Some(Event::Failed(why));
    }

    fn instant(&self, now: Now) -> Instant {
        self.base + Duration::from_micros(now.mono_us.saturating_sub(self.base_us))
    }

    /// The next datagram to send, and where.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// What came of it, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// When [`Association::handle_timeout`] is wanted, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        let ends = |attempt: &Attempt| attempt.began_us.saturating_add(ATTEMPT_US);
        if self.state != State::Shaking {
            return self.attempts.iter().fold(None, |soonest, attempt| {
                earliest(soonest, earliest(attempt.resend_us, Some(ends(attempt))))
            });
        }
        let begins = self.role == Role::Client && self.attempts.is_empty() && self.destination.is_some();
        let begins = begins && self.begun < MAX_BEGUN;
        let own = earliest(Some(self.give_up_us), begins.then_some(self.next_us));
        self.attempts
            .iter()
            .fold(own, |soonest, attempt| earliest(soonest, earliest(attempt.resend_us, Some(ends(attempt)))))
    }

    /// Does what is due: sends flights again, gives up.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.state == State::Shaking && self.give_up_us <= now.mono_us {
            return self.fail(self.why.unwrap_or(match self.alert {
                Some(alert) => Failure::Handshake(Some(alert)),
                None => Failure::NoAnswer,
            }));
        }
        let instant = self.instant(now);
        let mut at = 0;
        while let Some(attempt) = self.attempts.get_mut(at) {
            if attempt.began_us.saturating_add(ATTEMPT_US) <= now.mono_us {
                let silent = attempt.highest == 0 && attempt.floor == 0;
                let why = if silent { self.why.or(Some(Failure::NoAnswer)) } else { None };
                self.drop_attempt(now, at, why);
                continue;
            }
            if attempt.resend_us.is_some_and(|due| due <= now.mono_us) {
                attempt.resend(now, instant, &mut self.transmits);
            }
            at += 1;
        }
        self.begin_if_due(now);
    }
}

impl Attempt {
    fn new(now: Now, endpoint: Endpoint, peer: SocketAddr, expected: bool) -> Attempt {
        Attempt {
            endpoint,
            peer,
            expected,
            began_us: now.mono_us,
            progress_us: now.mono_us,
            flight: Vec::new(),
            sent_us: 0,
            wait_us: FIRST_WAIT_US,
            resend_us: None,
            floor: 0,
            highest: 0,
            datagrams: 0,
            messages: 0,
            echoes: 0,
        }
    }

    /// Takes what the library wants to send: another flight, so the peer's last one is answered.
    fn collect(&mut self, now: Now, transmits: &mut VecDeque<(SocketAddr, Vec<u8>)>) {
        let mut flight = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            flight.push(transmit.message.to_vec());
        }
        if flight.is_empty() {
            return;
        }
        self.flight = flight;
        self.floor = if self.datagrams == 0 { 0 } else { self.highest + 1 };
        self.progress_us = now.mono_us;
        self.wait_us = FIRST_WAIT_US;
        self.send(now, transmits);
    }

    fn send(&mut self, now: Now, transmits: &mut VecDeque<(SocketAddr, Vec<u8>)>) {
        self.sent_us = now.mono_us;
        self.resend_us = Some(now.mono_us.saturating_add(self.wait_us));
        transmits.extend(self.flight.iter().map(|datagram| (self.peer, datagram.clone())));
    }

    /// Sends the last flight again: with new record numbers where the library still can, else as it was, which is new
    /// to a peer that has not got it.
    fn resend(&mut self, now: Now, instant: Instant, transmits: &mut VecDeque<(SocketAddr, Vec<u8>)>) {
        self.wait_us = (self.wait_us * 2).min(LONGEST_WAIT_US);
        if self.endpoint.poll_timeout(&PEER).is_some() {
            // An error means that the library has given up; its flight is still good.
            let _ = self.endpoint.handle_timeout(PEER, instant);
            let mut flight = Vec::new();
            while let Some(transmit) = self.endpoint.poll_transmit() {
                flight.push(transmit.message.to_vec());
            }
            if !flight.is_empty() {
                self.flight = flight;
            }
        }
        self.send(now, transmits);
    }

    /// The peer repeats itself: so do we, now and then.
    fn echo(
        &mut self,
        now: Now,
        instant: Instant,
        shaking: bool,
        transmits: &mut VecDeque<(SocketAddr, Vec<u8>)>,
    ) {
        if self.echoes >= MAX_ECHOES || now.mono_us.saturating_sub(self.sent_us) < ECHO_US {
            return;
        }
        self.echoes += 1;
        if shaking {
            self.resend(now, instant, transmits);
        } else {
            self.send(now, transmits);
            self.resend_us = None;
        }
    }

    /// False if the peer has shown a certificate that is not the right one.
    fn has_right_certificate(&self, fingerprints: &[Fingerprint]) -> bool {
        let shown =
            self.endpoint.get_connection_state(PEER).and_then(|state| state.peer_certificates.first());
        shown.is_none_or(|shown| is_one_of(fingerprints, shown))
    }
}

fn is_one_of(fingerprints: &[Fingerprint], certificate: &[u8]) -> bool {
    fingerprints.iter().any(|fingerprint| fingerprint.is_of(certificate))
}

fn configure(identity: &Identity, role: Role, fingerprints: &[Fingerprint]) -> Option<Arc<HandshakeConfig>> {
    let provider = rtc_srtp::crypto::default_provider().ok()?;
    let right = fingerprints.to_vec();
    ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![identity.certificate.clone()])
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // There is no authority behind these certificates: the fingerprint is the proof (RFC 5763 §5).
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(move |chain, _| match chain.first() {
            Some(shown) if is_one_of(&right, shown) => Ok(()),
            _ => Err(rtc_shared::error::Error::ErrInvalidCertificate),
        })))
        .with_server_name("tipring".to_owned())
        // Always due when the time for it has come by our clock.
        .with_flight_interval(Duration::from_micros(1))
        .build(role == Role::Client, None)
        .ok()
        .map(Arc::new)
}

/// The keys of a finished handshake (RFC 5764 §4.2).
fn keys_of(endpoint: &Endpoint, role: Role, fingerprints: &[Fingerprint]) -> Result<KeyPair, Failure> {
    let state = endpoint.get_connection_state(PEER).ok_or(Failure::Handshake(None))?;
    let shown = state.peer_certificates.first().ok_or(Failure::Fingerprint)?;
    if !is_one_of(fingerprints, shown) {
        return Err(Failure::Fingerprint);
    }
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
        _ => return Err(Failure::Profile),
    };
    let (key, salt) = (profile.key_length(), profile.salt_length());
    let material =
        state.export_keying_material(LABEL, &[], 2 * (key + salt)).map_err(|_| Failure::Cryptography)?;
    // Key of the client, key of the server, salt of the client, salt of the server.
    let side = |number: usize| {
        let key = material.as_ref().get(number * key..(number + 1) * key)?;
        let salts = material.as_ref().get(2 * profile.key_length()..)?;
        let salt = salts.get(number * salt..(number + 1) * salt)?;
        Keys::from_inline(profile, &[key, salt].concat()).ok()
    };
    let (Some(client), Some(server)) = (side(0), side(1)) else { return Err(Failure::Cryptography) };
    Ok(match role {
        Role::Client => KeyPair { ours: client, theirs: server },
        Role::Server => KeyPair { ours: server, theirs: client },
    })
}

#[cfg(test)]
#[path = "dtls_tests.rs"]
mod tests;

//! The memory of offer and answer over the life of one dialog.
//!
//! It keeps what RFC 3264 §8 wants kept: the session's number and its rising version, the number and order of
//! media, the meaning of payload types; and what RFC 4568 wants: one key per suite for as long as the
//! addresses stay. Each early dialog of a forked call has one of its own: clone it after the offer.

use super::agreement::{Negotiated, Refusal};
use super::capability::{Capability, Security};
use super::crypto::{Crypto, Key, Suite};
use super::fingerprint::{Dtls, draw_tls_id};
use super::ice::{Credentials, Ice, RemoteIce};
use super::media::{Media, Protocol, RtpMap};
use super::offer_answer::{Answering, Before, Offering, accept_answer, make_answer, make_offer};
use super::payload_types::Numbers;
use super::session::{Origin, Session};
use crate::chance::Chance;
use std::net::SocketAddr;

/// The most meanings of payload types that are remembered for one call.
const MAX_REMEMBERED: usize = 128;

/// Offer and answer of one dialog.
#[derive(Clone, Debug)]
pub struct Negotiation {
    capability: Capability,
    session: u64,
    version: u64,
    /// The last description of ours, its version left at 0.
    sent: Option<Session>,
    /// The last offer of ours and the position of audio in it, for as long as answers to it may come.
    offered: Option<(Session, usize)>,
    /// Whether the last offer has been answered.
    is_answered: bool,
    /// The offer before that one, whose answer may still come if the last one never went out.
    offered_before: Option<(Session, usize)>,
    lines: Vec<Media>,
    numbers: Vec<RtpMap>,
    keys: Vec<(Suite, Key)>,
    key_place: Option<SocketAddr>,
    /// What ICE proves our side by: told in the next offer.
    credentials: Option<Credentials>,
    /// Whether we nominate; from the first agreement on ICE to its end (RFC 8445 §6.1.1).
    controlling: Option<bool>,
    /// The name of our side of the DTLS association.
    tls_id: Option<String>,
    agreed: Option<Negotiated>,
}

impl Negotiation {
    /// A dialog that has said nothing yet. `session` is the number in `o=`: draw it.
    pub fn new(capability: Capability, session: u64) -> Negotiation {
        Negotiation {
            capability,
            session: session >> 1,
            version: 0,
            sent: None,
            offered: None,
            is_answered: false,
            offered_before: None,
            lines: Vec::new(),
            numbers: Vec::new(),
            keys: Vec::new(),
            key_place: None,
            credentials: None,
            controlling: None,
            tls_id: None,
            agreed: None,
        }
    }

    /// What we can and want.
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// Changes what we can and want, from the next offer or answer on: `direction` to hold and resume, the
    /// address after a change of network.
    pub fn capability_mut(&mut self) -> &mut Capability {
        &mut self.capability
    }

    /// What was agreed on last.
    pub fn agreed(&self) -> Option<&Negotiated> {
        self.agreed.as_ref()
    }

    /// Our offer: of the first INVITE, of a change (hold, resume, codec), or in the answer to an INVITE
    /// without one.
    ///
    /// The version in `o=` rises exactly when the content differs from what we said last. The direction is
    /// what we want, never what the peer's hold left us (RFC 6337 §5.1).
    pub fn offer(&mut self, chance: &mut Chance) -> Vec<u8> {
        self.forget_keys_of_other_place();
        let index = self.agreed.as_ref().map_or(0, |agreed| agreed.index);
        let secure_so_far = self.agreed.as_ref().filter(|agreed| agreed.is_secure());
        let protocol = match (self.capability.security, secure_so_far) {
            (Security::Off, _) => Protocol::Avp,
            (_, Some(agreed)) => agreed.protocol.clone(),
            (Security::Optional, None) => Protocol::Avp,
            (Security::Required, None) => match (&self.capability.dtls, self.capability.feedback) {
                (Some(_), true) => Protocol::TlsSavpf,
                (Some(_), false) => Protocol::TlsSavp,
                (None, true) => Protocol::Savpf,
                (None, false) => Protocol::Savp,
            },
        };
        let cryptos = self.cryptos(chance);
        let numbers = Numbers::assign(&self.capability, &self.numbers);
        if self.capability.fingerprint().is_some() {
            self.tls_id.get_or_insert_with(|| draw_tls_id(chance));
        }
        if self.capability.ice.is_some() {
            self.credentials.get_or_insert_with(|| Credentials::draw(chance));
        }
        let offering = Offering {
            numbers: &numbers,
            protocol,
            cryptos: &cryptos,
            tls_id: self.tls_id.as_deref(),
            ice: self.credentials.as_ref(),
            lines: &self.lines,
            index,
        };
        let offer = make_offer(&self.capability, offering);
        self.offered_before = self.offered.replace((offer.clone(), index));
        self.is_answered = false;
        self.say(offer)
    }

    /// The answer to the peer's offer, and what follows. Nothing changes if the offer is refused.
    ///
    /// # Errors
    /// [`Refusal`] tells why, and with which status to refuse.
    pub fn answer(&mut self, offer: &[u8], chance: &mut Chance) -> Result<(Vec<u8>, Negotiated), Refusal> {
        let offer = Session::read(offer)?;
        let place = self.place();
        let mut memory = Memory {
            before: self.agreed.as_ref(),
            keys: if self.key_place == Some(place) { &self.keys } else { &[] },
            drawn: None,
            credentials: self.credentials.as_ref(),
            controlling: self.controlling,
            tls_id: self.tls_id.as_deref(),
            told_tls_id: None,
            chance,
        };
        let (answer, negotiated) = make_answer(&self.capability, &offer, &mut memory)?;
        let Memory { drawn, told_tls_id, .. } = memory;
        if self.key_place != Some(place) {
            self.keys.clear();
            self.key_place = Some(place);
        }
        if let Some((suite, key)) = drawn {
            self.keys.retain(|(of, _)| *of != suite);
            self.keys.push((suite, key));
        }
        if told_tls_id.is_some() {
            self.tls_id = told_tls_id;
        }
        self.remember_ice(&negotiated);
        for map in offer.media.get(negotiated.index).map(Media::rtpmaps).unwrap_or_default() {
            self.remember(map);
        }
        self.offered = None;
        self.offered_before = None;
        self.agreed = Some(negotiated.clone());
        Ok((self.say(answer), negotiated))
    }

    /// The peer's answer to our last offer. A later answer to the same offer (the 200 after a 183, RFC 3261
    /// §13.2.1) takes its place.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be used: the call then has no audio and has to end.
    pub fn accept(&mut self, answer: &[u8]) -> Result<Negotiated, Refusal> {
        let (offer, index) = self.offered.as_ref().ok_or(Refusal::Unexpected)?;
        let answer = Session::read(answer)?;
        let before = Before { agreed: self.agreed.as_ref(), is_first: !self.is_answered };
        let controlling = self.controlling.unwrap_or(true);
        let mut ice = |local, remote| settle_ice(local, remote, before.agreed, controlling);
        let negotiated = accept_answer(&self.capability, offer, *index, &answer, before, &mut ice)?;
        self.is_answered = true;
        self.remember_ice(&negotiated);
        self.agreed = Some(negotiated.clone());
        Ok(negotiated)
    }

    /// Our last offer was refused, or could not go out: what was agreed before stays in force, and an offer before it
    /// may still be answered.
    pub fn withdraw(&mut self) {
        self.offered = self.offered_before.take();
        if let Some(ice) = self.agreed.as_ref().and_then(|agreed| agreed.ice.as_ref()) {
            self.credentials = Some(ice.local.clone());
        }
    }

    /// What ICE proves our side by, as the last offer or answer told it; `None` before the first one or without ICE.
    /// Checks of the peer may come before its answer.
    pub fn ice_credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref().filter(|_| self.capability.ice.is_some())
    }

    /// The next offer restarts ICE: it has new credentials (RFC 8839 §4.4.1.1.1).
    pub fn restart_ice(&mut self) {
        self.credentials = None;
    }

    fn remember_ice(&mut self, negotiated: &Negotiated) {
        self.controlling = negotiated.ice.as_ref().map(|ice| ice.controlling);
        if let Some(ice) = &negotiated.ice {
            self.credentials = Some(ice.local.clone());
        }
    }

    fn place(&self) -> SocketAddr {
        SocketAddr::new(self.capability.address, self.capability.port)
    }

    fn forget_keys_of_other_place(&mut self) {
        let place = self.place();
        if self.key_place != Some(place) {
            self.keys.clear();
            self.key_place = Some(place);
        }
    }

    /// The `a=crypto` lines of an offer, tags from 1: the suite in use alone, once there is one.
    fn cryptos(&mut self, chance: &mut Chance) -> Vec<Crypto> {
        if !self.capability.uses_sdes() {
            return Vec::new();
        }
        let in_use = self.agreed.as_ref().and_then(|agreed| agreed.keys.as_ref()).map(|keys| keys.suite);
        let suites: Vec<Suite> = match in_use {
            Some(suite) => vec![suite],
            None => self.capability.suites.clone(),
        };
        let mut cryptos = Vec::new();
        for (tag, suite) in (1..).zip(suites) {
            let known = self.keys.iter().find(|(of, _)| *of == suite).map(|(_, key)| key.clone());
            let key = known.unwrap_or_else(|| {
                let key = Key::draw(suite, chance);
                self.keys.push((suite, key.clone()));
                key
            });
            cryptos.push(Crypto { tag, suite, key });
        }
        cryptos
    }

    fn remember(&mut self, map: RtpMap) {
        let is_known = self.numbers.iter().any(|known| known.payload_type == map.payload_type);
        if !is_known && self.numbers.len() < MAX_REMEMBERED {
            self.numbers.push(map);
        }
    }

    /// Numbers and prints a description of ours.
    fn say(&mut self, mut session: Session) -> Vec<u8> {
        session.origin.session = self.session.to_string();
        if self.sent.as_ref() != Some(&session) {
            self.version += 1;
            self.sent = Some(session.clone());
        }
        self.lines = session.media.iter().map(Media::refused).collect();
        for map in
            session.media.iter().filter(|media| media.port != 0).flat_map(Media::rtpmaps).collect::<Vec<_>>()
        {
            self.remember(map);
        }
        session.origin = Origin { version: self.version, ..session.origin };
        session.write()
    }
}

/// What was drawn before, and what is drawn, for one answer.
struct Memory<'a> {
    before: Option<&'a Negotiated>,
    /// Our keys for where we are.
    keys: &'a [(Suite, Key)],
    drawn: Option<(Suite, Key)>,
    credentials: Option<&'a Credentials>,
    controlling: Option<bool>,
    tls_id: Option<&'a str>,
    told_tls_id: Option<String>,
    chance: &'a mut Chance,
}

impl Answering for Memory<'_> {
    fn before(&self) -> Option<&Negotiated> {
        self.before
    }

    fn key(&mut self, suite: Suite, remote: Option<SocketAddr>) -> Key {
        // A stream that moves gets a new key (RFC 4568 §7.1.4), lest one key stream protects two things.
        let before = self.before.and_then(|agreed| agreed.remote_rtp);
        let moved = before.is_some() && remote.is_some() && remote != before;
        let kept = self.keys.iter().find(|(of, _)| *of == suite).filter(|_| !moved);
        let key = kept.map_or_else(|| Key::draw(suite, self.chance), |(_, key)| key.clone());
        self.drawn = Some((suite, key.clone()));
        key
    }

    fn tls_id(&mut self, dtls: &Dtls) -> String {
        let goes_on = self.before.and_then(|agreed| agreed.dtls.as_ref()) == Some(dtls);
        let kept = self.tls_id.filter(|_| goes_on).map(str::to_owned);
        let name = kept.unwrap_or_else(|| draw_tls_id(self.chance));
        self.told_tls_id = Some(name.clone());
        name
    }

    fn ice(&mut self, remote: RemoteIce) -> Ice {
        let before = self.before.and_then(|agreed| agreed.ice.as_ref());
        // A restart of the peer is one of ours as well (RFC 8839 §4.4.1.1.1).
        let goes_on = before.is_none_or(|ice| ice.remote.credentials == remote.credentials);
        let kept = self.credentials.filter(|_| goes_on).cloned();
        let local = kept.unwrap_or_else(|| Credentials::draw(self.chance));
        settle_ice(local, remote, self.before, self.controlling.unwrap_or(false))
    }
}

/// `controlling` is our role so far, or what offer and answer make it.
fn settle_ice(local: Credentials, remote: RemoteIce, before: Option<&Negotiated>, controlling: bool) -> Ice {
    let before = before.and_then(|agreed| agreed.ice.as_ref());
    let restarted = before.is_some_and(|ice| ice.remote.credentials != remote.credentials);
    Ice { controlling: controlling || remote.lite, local, remote, restarted }
}

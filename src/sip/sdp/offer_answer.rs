//! Offer and answer (RFC 3264) on typed sessions: what we can, what the peer said, what follows for both
//! directions.
//!
//! One audio stream is used; every other medium is answered with port 0. These functions remember nothing:
//! [`super::Negotiation`] does.

use super::agreement::{Agreed, AgreedEvent, Hold, Negotiated, Refusal, SrtpKeys};
use super::capability::{Capability, Codec, Preference, Security};
use super::crypto::{Crypto, Key, Suite};
use super::fingerprint::{self, Dtls, RemoteDtls};
use super::ice::{self, Credentials, Ice, RemoteIce, Told};
use super::media::{Direction, Media, MediaKind, Protocol, RtpMap};
use super::payload_types::{Numbers, is_event};
use super::session::{Address, Attribute, Origin, Session, Unreadable, is_unicast};
use std::net::{IpAddr, SocketAddr};

/// The event codes we send and receive: digits, `*`, `#`, A–D and flash (RFC 4733 §3.2).
const EVENT_CODES: &str = "0-16";

/// What an offer says beside the capability.
pub(super) struct Offering<'a> {
    /// The payload types to use.
    pub(super) numbers: &'a Numbers,
    pub(super) protocol: Protocol,
    /// The keys to offer.
    pub(super) cryptos: &'a [Crypto],
    /// The name of our DTLS association.
    pub(super) tls_id: Option<&'a str>,
    pub(super) ice: Option<&'a Credentials>,
    /// The media of the session so far, whose number and order stay (RFC 3264 §8).
    pub(super) lines: &'a [Media],
    /// Where the audio stream is among them.
    pub(super) index: usize,
}

/// An offer of one audio stream.
pub(super) fn make_offer(capability: &Capability, offering: Offering<'_>) -> Session {
    let Offering { numbers, protocol, cryptos, tls_id, ice, lines, index } = offering;
    let mut attributes = Vec::new();
    let mut formats = Vec::new();
    for codec in &numbers.codecs {
        formats.push(codec.payload_type.to_string());
        describe_codec(codec, codec.payload_type, &mut attributes);
    }
    if capability.comfort_noise {
        formats.push("13".to_owned());
    }
    for event in &numbers.events {
        formats.push(event.payload_type.to_string());
        describe_event(event.payload_type, event.clock, &mut attributes);
    }
    describe_stream(capability, capability.ptime_ms, &mut attributes);
    describe_rtcp(capability, capability.address, &mut attributes);
    attributes.push(Attribute::flag(capability.direction.name()));
    if capability.rtcp_mux {
        attributes.push(Attribute::flag("rtcp-mux"));
    }
    attributes.extend(cryptos.iter().map(|crypto| Attribute::new("crypto", crypto.to_string())));
    if let Some(fingerprint) = capability.fingerprint() {
        fingerprint::describe(fingerprint, None, tls_id, &mut attributes);
    }
    if let (Some(local), Some(credentials)) = (&capability.ice, ice) {
        ice::describe(local, credentials, false, &mut attributes);
    }
    let audio = Media {
        kind: MediaKind::Audio,
        port: capability.port,
        ports: 1,
        protocol,
        formats,
        connection: None,
        attributes,
    };
    let mut media: Vec<Media> = lines.iter().map(Media::refused).collect();
    match media.get_mut(index) {
        Some(line) => *line = audio,
        None => media.push(audio),
    }
    describe_session(capability.address, media)
}

/// What the memory of a dialog gives to an answer.
pub(super) trait Answering {
    /// What was agreed on before.
    fn before(&self) -> Option<&Negotiated>;
    /// Our key for a suite and the peer's new address.
    fn key(&mut self, suite: Suite, remote: Option<SocketAddr>) -> Key;
    /// The name of our side of a DTLS association.
    fn tls_id(&mut self, dtls: &Dtls) -> String;
    /// What ICE becomes with what the peer brings.
    fn ice(&mut self, remote: RemoteIce) -> Ice;
}

/// The answer to an offer, and what follows from both. The position of the audio stream so far is kept if it still
/// can be.
pub(super) fn make_answer(
    capability: &Capability,
    offer: &Session,
    memory: &mut dyn Answering,
) -> Result<(Session, Negotiated), Refusal> {
    let active = memory.before().map(|agreed| agreed.index);
    let (index, stream) = choose_stream(capability, offer, active)?;
    let offered = &offer.media[index];
    let Stream { matched, remote, crypto, dtls } = stream;
    let (chosen, also_receive) = choose_codecs(capability, offered, matched);
    let clock = chosen.codec.clock;
    let events = agree_events(capability, offered, clock);
    let comfort_noise =
        capability.comfort_noise && clock == 8000 && offered.formats.iter().any(|f| f == "13");
    let keys = crypto.as_ref().map(|theirs| SrtpKeys {
        suite: theirs.suite,
        send: memory.key(theirs.suite, remote.rtp),
        receive: theirs.key.clone(),
    });
    let names_itself = dtls.as_ref().is_some_and(RemoteDtls::has_tls_id);
    let before = memory.before().and_then(|agreed| agreed.dtls.clone());
    let dtls = match dtls {
        Some(dtls) => Some(dtls.answered(before.as_ref()).ok_or(Refusal::SecurityNotSupported)?),
        None => None,
    };
    let told = if capability.ice.is_some() { ice::read(offer, offered) } else { Told::Nothing };
    let mismatch = matches!(told, Told::Mismatch);
    let ice = match told {
        Told::Ice(remote) => Some(memory.ice(remote)),
        Told::Mismatch | Told::Nothing => None,
    };
    let ptime = offered.ptime_ms().filter(|ms| (10..=60).contains(ms)).unwrap_or(capability.ptime_ms);
    let address = capability.address_facing(remote.rtp.map(|rtp| rtp.ip())).ok_or(Refusal::Address)?;
    let offered_direction = offered.direction(offer);
    let direction = capability.direction.and(usable(offered_direction.reversed(), &remote, ice.is_some()));
    let rtcp_mux = capability.rtcp_mux && offered.rtcp_mux();

    let mut attributes = Vec::new();
    let mut formats = vec![chosen.receive_payload_type.to_string()];
    describe_codec(&chosen.codec, chosen.receive_payload_type, &mut attributes);
    if comfort_noise {
        formats.push("13".to_owned());
    }
    for event in &events {
        formats.push(event.receive_payload_type.to_string());
        describe_event(event.receive_payload_type, event.clock, &mut attributes);
    }
    describe_stream(capability, ptime, &mut attributes);
    if !rtcp_mux {
        describe_rtcp(capability, address, &mut attributes);
    }
    attributes.push(Attribute::flag(direction.name()));
    if rtcp_mux {
        attributes.push(Attribute::flag("rtcp-mux"));
    }
    if let (Some(theirs), Some(keys)) = (&crypto, &keys) {
        let ours = Crypto { tag: theirs.tag, suite: keys.suite, key: keys.send.clone() };
        attributes.push(Attribute::new("crypto", ours.to_string()));
    }
    if let (Some(fingerprint), Some(dtls)) = (&capability.dtls, &dtls) {
        let tls_id = names_itself.then(|| memory.tls_id(dtls));
        fingerprint::describe(fingerprint, Some(dtls.role), tls_id.as_deref(), &mut attributes);
    }
    if let (Some(local), Some(ice)) = (&capability.ice, &ice) {
        ice::describe(local, &ice.local, rtcp_mux, &mut attributes);
    }
    if mismatch {
        attributes.push(Attribute::flag("ice-mismatch"));
    }
    let mid = offered.attribute("mid");
    attributes.extend(mid.map(|mid| Attribute::new("mid", mid)));
    let audio = Media {
        kind: MediaKind::Audio,
        port: capability.port,
        ports: 1,
        protocol: offered.protocol.clone(),
        formats,
        connection: None,
        attributes,
    };
    let mut media: Vec<Media> = offer.media.iter().map(Media::refused).collect();
    media[index] = audio;
    let negotiated = Negotiated {
        codecs: vec![chosen],
        also_receive,
        events,
        comfort_noise,
        ptime_ms: sending_ptime(capability, offered),
        direction,
        hold: Hold {
            by_us: !capability.direction.receives(),
            by_peer: !offered_direction.receives() || remote.holds(ice.is_some()),
        },
        local_rtp: SocketAddr::new(address, capability.port),
        remote_rtcp: remote.rtcp(offered, rtcp_mux),
        remote_rtp: remote.rtp,
        rtcp_mux,
        keys,
        dtls,
        ice,
        index,
        protocol: offered.protocol.clone(),
    };
    let mut answer = describe_session(address, media);
    // A bundle of one: what else was in it is refused (RFC 9143 §7.3.1).
    if let Some(mid) = mid.filter(|mid| rtcp_mux && is_bundled(offer, mid)) {
        answer.attributes.push(Attribute::new("group", format!("BUNDLE {mid}")));
    }
    Ok((answer, negotiated))
}

fn is_bundled(offer: &Session, mid: &str) -> bool {
    offer.attributes.iter().filter(|attribute| attribute.name == "group").any(|group| {
        let mut words = group.value.as_deref().unwrap_or_default().split_ascii_whitespace();
        words.next() == Some("BUNDLE") && words.any(|word| word == mid)
    })
}

/// What was before an answer.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// What was agreed on.
    pub(super) agreed: Option<&'a Negotiated>,
    /// The offer has had no answer yet.
    pub(super) is_first: bool,
}

/// What follows from our offer and its answer. `ice` says what becomes of what both bring.
pub(super) fn accept_answer(
    capability: &Capability,
    offer: &Session,
    index: usize,
    answer: &Session,
    before: Before<'_>,
    ice: &mut dyn FnMut(Credentials, RemoteIce) -> Ice,
) -> Result<Negotiated, Refusal> {
    let offered = offer.media.get(index).ok_or(Refusal::Unexpected)?;
    let answered = answer.media.get(index).ok_or(Refusal::Mismatch)?;
    if answered.kind != MediaKind::Audio || !answered.protocol.is_rtp() {
        return Err(Refusal::Mismatch);
    }
    if answered.port == 0 {
        return Err(Refusal::NoAudio);
    }
    let remote = Remote::of(answer, answered)?;
    let (keys, dtls) = agree_security(capability, offered, answer, answered, before)?;
    let ice = match (Credentials::read(offer, offered), ice::read(answer, answered)) {
        (Some(local), Told::Ice(remote)) => Some(ice(local, remote)),
        _ => None,
    };
    let ours = offered.rtpmaps();
    let mut codecs = Vec::new();
    for theirs in answered_maps(answered, &ours) {
        let codec = capability.codecs.iter().find(|codec| codec.is(&theirs));
        let mine = codec.and_then(|codec| ours.iter().find(|map| codec.is(map)));
        if let (Some(codec), Some(mine)) = (codec, mine) {
            codecs.push(agreed(codec, theirs.payload_type, mine.payload_type, answered));
        }
    }
    let clock = codecs.first().ok_or_else(|| no_common_codec(answered))?.codec.clock;
    let mut events = Vec::new();
    for theirs in answered_maps(answered, &ours).iter().filter(|map| is_event(map)) {
        if let Some(mine) = ours.iter().find(|map| is_event(map) && map.clock == theirs.clock) {
            events.push(AgreedEvent {
                clock: theirs.clock,
                send_payload_type: theirs.payload_type,
                receive_payload_type: mine.payload_type,
            });
        }
    }
    crate::order::sort_by_key(&mut events, |event| event.clock != clock);
    let mut also_receive = Vec::new();
    for mine in &ours {
        if let Some(codec) = capability.codecs.iter().find(|codec| codec.is(mine))
            && !codecs.iter().any(|agreed| agreed.codec == *codec)
        {
            also_receive.push(agreed(codec, mine.payload_type, mine.payload_type, answered));
        }
    }
    // Some send with the numbers of their own answer: those are understood too, where they mean nothing else
    // here.
    for theirs in &codecs {
        let number = theirs.send_payload_type;
        let is_free = !ours.iter().any(|map| map.payload_type == number);
        if is_free {
            also_receive.push(Agreed { receive_payload_type: number, ..theirs.clone() });
        }
    }
    let offered_direction = offered.direction(offer);
    let answered_direction = answered.direction(answer);
    let rtcp_mux = offered.rtcp_mux() && answered.rtcp_mux();
    let address = offer.connection_of(offered).and_then(|address| address.ip()).unwrap_or(capability.address);
    if let Some(rtp) = remote.rtp
        && capability.address_facing(Some(rtp.ip())).is_none()
    {
        return Err(Refusal::Address);
    }
    Ok(Negotiated {
        codecs,
        also_receive,
        events,
        comfort_noise: answered.formats.iter().any(|format| format == "13") && clock == 8000,
        ptime_ms: sending_ptime(capability, answered),
        direction: offered_direction.and(usable(answered_direction.reversed(), &remote, ice.is_some())),
        hold: Hold {
            by_us: !offered_direction.receives(),
            by_peer: remote.holds(ice.is_some())
                || (offered_direction.sends() && !answered_direction.receives()),
        },
        local_rtp: SocketAddr::new(address, offered.port),
        remote_rtcp: remote.rtcp(answered, rtcp_mux),
        remote_rtp: remote.rtp,
        rtcp_mux,
        keys,
        dtls,
        ice,
        index,
        protocol: answered.protocol.clone(),
    })
}

/// Where the peer receives.
struct Remote {
    rtp: Option<SocketAddr>,
    /// It says "nowhere yet, see the candidates".
    awaits_candidates: bool,
}

impl Remote {
    fn of(session: &Session, media: &Media) -> Result<Remote, Refusal> {
        let address = session.connection_of(media).ok_or(Refusal::Unreadable(Unreadable::BadLine('c')))?;
        if address.is_hold() {
            let awaits_candidates = ice::awaits_candidates(session, media, &address);
            return Ok(Remote { rtp: None, awaits_candidates });
        }
        match address {
            Address::Ip(_) => {
                let ip = address.ip().filter(is_unicast).ok_or(Refusal::Address)?;
                Ok(Remote { rtp: Some(SocketAddr::new(ip, media.port)), awaits_candidates: false })
            }
            Address::Name(_) => Err(Refusal::Address),
        }
    }

    /// Whether it tells us to send nothing.
    fn holds(&self, ice: bool) -> bool {
        self.rtp.is_none() && !(ice && self.awaits_candidates)
    }

    fn rtcp(&self, media: &Media, rtcp_mux: bool) -> Option<SocketAddr> {
        let rtp = self.rtp?;
        if rtcp_mux {
            return Some(rtp);
        }
        match media.rtcp() {
            Some((port, address)) if port > 0 => {
                Some(SocketAddr::new(address.filter(is_unicast).unwrap_or(rtp.ip()), port))
            }
            _ => rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port)),
        }
    }
}

/// A peer without an address can only send.
fn usable(direction: Direction, remote: &Remote, ice: bool) -> Direction {
    if remote.holds(ice) { direction.and(Direction::RecvOnly) } else { direction }
}

/// A stream of an offer that we can take.
struct Stream {
    matched: Vec<Agreed>,
    remote: Remote,
    crypto: Option<Crypto>,
    dtls: Option<RemoteDtls>,
}

/// The stream to use: the active one if it still can be, else the first secure one, else the first.
fn choose_stream(
    capability: &Capability,
    offer: &Session,
    active: Option<usize>,
) -> Result<(usize, Stream), Refusal> {
    let mut refusal = Refusal::NoAudio;
    let mut best: Option<(usize, Stream, (bool, bool))> = None;
    for (index, media) in offer.media.iter().enumerate() {
        if media.kind != MediaKind::Audio || media.port == 0 || !media.protocol.is_rtp() {
            continue;
        }
        match examine(capability, offer, media) {
            Ok(stream) => {
                let rank = (active == Some(index), stream.crypto.is_some() || stream.dtls.is_some());
                if best.as_ref().is_none_or(|(_, _, so_far)| rank > *so_far) {
                    best = Some((index, stream, rank));
                }
            }
            Err(why) => refusal = why,
        }
    }
    best.map(|(index, stream, _)| (index, stream)).ok_or(refusal)
}

fn examine(capability: &Capability, offer: &Session, media: &Media) -> Result<Stream, Refusal> {
    let remote = Remote::of(offer, media)?;
    if let Some(rtp) = remote.rtp
        && capability.address_facing(Some(rtp.ip())).is_none()
    {
        return Err(Refusal::Address);
    }
    let dtls = capability.fingerprint().and_then(|_| RemoteDtls::read(offer, media));
    let offered = if capability.uses_sdes() { media.cryptos() } else { Vec::new() };
    let known = |crypto: &Crypto| capability.suites.contains(&crypto.suite) && !media.protocol.is_dtls();
    let crypto = offered.into_iter().find(known);
    let secure = crypto.is_some() || dtls.is_some();
    if !secure && media.protocol.is_secure() {
        return Err(Refusal::SecurityNotSupported);
    }
    if !secure && capability.security == Security::Required {
        return Err(Refusal::NotSecure);
    }
    let mut matched = Vec::new();
    for theirs in media.rtpmaps() {
        if let Some(codec) = capability.codecs.iter().find(|codec| codec.is(&theirs)) {
            matched.push(agreed(codec, theirs.payload_type, theirs.payload_type, media));
        }
    }
    if matched.is_empty() {
        return Err(no_common_codec(media));
    }
    Ok(Stream { matched, remote, crypto, dtls })
}

fn no_common_codec(media: &Media) -> Refusal {
    let names: Vec<String> =
        media.rtpmaps().into_iter().filter(|m| !is_event(m)).take(8).map(|m| m.name).collect();
    Refusal::NoCommonCodec(if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}

/// The codec to answer with, and the others that were offered.
fn choose_codecs(
    capability: &Capability,
    _offered: &Media,
    mut matched: Vec<Agreed>,
) -> (Agreed, Vec<Agreed>) {
    let at = match capability.preference {
        Preference::Theirs => 0,
        Preference::Ours => capability
            .codecs
            .iter()
            .find_map(|codec| matched.iter().position(|agreed| agreed.codec == *codec))
            .unwrap_or(0),
    };
    let chosen = matched.remove(at);
    (chosen, matched)
}

fn agreed(codec: &Codec, send: u8, receive: u8, theirs: &Media) -> Agreed {
    Agreed {
        codec: codec.clone(),
        send_payload_type: send,
        receive_payload_type: receive,
        remote_fmtp: theirs.fmtp(send).map(str::to_owned),
    }
}

/// The offered events that fit the codec; if none does, the one at 8000 Hz, else any.
fn agree_events(capability: &Capability, offered: &Media, clock: u32) -> Vec<AgreedEvent> {
    let known =
        |map: &RtpMap| is_event(map) && capability.events.iter().any(|event| event.clock == map.clock);
    let maps: Vec<RtpMap> = offered.rtpmaps().into_iter().filter(known).collect();
    let best = maps.iter().find(|m| m.clock == clock).or_else(|| maps.iter().find(|m| m.clock == 8000));
    best.or(maps.first())
        .map(|map| AgreedEvent {
            clock: map.clock,
            send_payload_type: map.payload_type,
            receive_payload_type: map.payload_type,
        })
        .into_iter()
        .collect()
}

/// The maps of an answer; a payload type that the answer does not explain means what we offered it for.
fn answered_maps(answered: &Media, ours: &[RtpMap]) -> Vec<RtpMap> {
    let written = answered.rtpmaps();
    let mut maps = Vec::new();
    for payload_type in answered.formats.iter().filter_map(|format| format.parse::<u8>().ok()) {
        let is = |map: &&RtpMap| map.payload_type == payload_type;
        maps.extend(written.iter().find(is).or_else(|| ours.iter().find(is)).cloned());
    }
    maps
}

fn agree_security(
    capability: &Capability,
    offered: &Media,
    answer: &Session,
    answered: &Media,
    before: Before<'_>,
) -> Result<(Option<SrtpKeys>, Option<Dtls>), Refusal> {
    if offered.has("fingerprint")
        && let Some(theirs) = RemoteDtls::read(answer, answered)
    {
        let so_far = before.agreed.and_then(|agreed| agreed.dtls.as_ref());
        let dtls = theirs.accepted(so_far, before.is_first).ok_or(Refusal::Mismatch)?;
        return Ok((None, Some(dtls)));
    }
    let ours = offered.cryptos();
    let theirs = answered.cryptos();
    for theirs in &theirs {
        if let Some(mine) = ours.iter().find(|mine| mine.tag == theirs.tag && mine.suite == theirs.suite) {
            let keys = SrtpKeys { suite: mine.suite, send: mine.key.clone(), receive: theirs.key.clone() };
            return Ok((Some(keys), None));
        }
    }
    if capability.security == Security::Required || offered.protocol.is_secure() {
        Err(Refusal::NotSecure)
    } else if answered.protocol.is_secure() {
        Err(Refusal::SecurityNotSupported)
    } else if answered.has("crypto") && !ours.is_empty() {
        // The peer will encrypt with something we did not offer: there would only be noise.
        Err(Refusal::Mismatch)
    } else {
        Ok((None, None))
    }
}

/// What the peer asked for, within what it takes and what we can do.
fn sending_ptime(capability: &Capability, theirs: &Media) -> u16 {
    let most = theirs.max_ptime_ms().unwrap_or(60).min(60);
    let wish = theirs.ptime_ms().unwrap_or(capability.ptime_ms).min(most);
    (wish / 10 * 10).clamp(10, 60)
}

fn describe_session(address: IpAddr, media: Vec<Media>) -> Session {
    Session {
        origin: Origin { address: Address::Ip(address), ..Origin::default() },
        name: String::new(),
        connection: Some(Address::Ip(address)),
        attributes: Vec::new(),
        media,
    }
}

fn describe_codec(codec: &Codec, payload_type: u8, attributes: &mut Vec<Attribute>) {
    let mut value = format!("{payload_type} {}/{}", codec.name, codec.clock);
    if codec.channels > 1 {
        value.push_str(&format!("/{}", codec.channels));
    }
    attributes.push(Attribute::new("rtpmap", value));
    if let Some(fmtp) = &codec.fmtp {
        attributes.push(Attribute::new("fmtp", format!("{payload_type} {fmtp}")));
    }
}

fn describe_event(payload_type: u8, clock: u32, attributes: &mut Vec<Attribute>) {
    attributes.push(Attribute::new("rtpmap", format!("{payload_type} telephone-event/{clock}")));
    attributes.push(Attribute::new("fmtp", format!("{payload_type} {EVENT_CODES}")));
}

fn describe_stream(capability: &Capability, ptime_ms: u16, attributes: &mut Vec<Attribute>) {
    attributes.push(Attribute::new("ptime", ptime_ms.to_string()));
    attributes.push(Attribute::new("maxptime", capability.max_ptime_ms.to_string()));
}

/// Where RTCP is received, if that is not what everybody would guess. `address` is that of the description.
fn describe_rtcp(capability: &Capability, address: IpAddr, attributes: &mut Vec<Attribute>) {
    let port = capability.rtcp_port;
    let elsewhere = capability.rtcp_address.filter(|at| *at != address && at.is_ipv4() == address.is_ipv4());
    if let Some(at) = elsewhere {
        let family = if at.is_ipv4() { "IP4" } else { "IP6" };
        attributes.push(Attribute::new("rtcp", format!("{port} IN {family} {at}")));
    } else if capability.port.checked_add(1) != Some(port) {
        attributes.push(Attribute::new("rtcp", port.to_string()));
    }
}

//! One RTP session of a leg: authenticates, latches, counts, sorts what comes in and writes what goes out.
//!
//! Plain RTP allocates nothing after [`Session::new`]. SRTP allocates what its library does: one buffer per packet.

use std::net::SocketAddr;

use thiserror::Error;

use super::emodel::Impairment;
use super::jitter::{Arrival, Inserted, JitterBuffer, Kind, Pull, Rate};
use super::latch::{self, Latch};
use super::packet::{Header, Packet, is_rtcp};
pub use super::plan::{Format, KeyPair, Length, MAX_FORMATS, Media, Plan, RtcpKeys, Settings};
use super::reception::{Stream, Verdict};
use super::rtcp::{self, Item, VoipMetrics};
use super::rtcp_seal::RtcpSeal;
use super::sender::Sender;
use super::srtp::{BadKeys, Key, Protector, Refusal, Unprotector};
use super::statistics::{self, FarEnd, Report, Totals};
use super::telephone_event::{self, Digit};
use crate::chance::Chance;
use crate::now::{Now, earliest};

/// Packets of a source that was replaced before it is taken back, as stragglers also come.
const STRAGGLERS: u8 = 4;
/// A source of ours that collides is changed this often at most, in microseconds: an echo must not make us spin.
const COLLISION_US: u64 = 10_000_000;

/// What became of a packet that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Voice or noise, with what the jitter buffer did with it.
    Media(Inserted),
    /// A telephone event; see [`Session::poll_event`].
    Event,
    /// RTCP.
    Rtcp,
}

/// Why a packet was refused. It is counted; nothing else happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// Not RTP or RTCP.
    #[error("a packet was neither RTP nor RTCP; it is dropped")]
    Malformed,
    /// From an address that the latch does not let in.
    #[error("a packet came from somebody who is not the peer; it is dropped")]
    Source,
    /// A payload type that was not agreed on.
    #[error("the peer sent payload type {0}, which was not agreed on; it is dropped")]
    PayloadType(u8),
    /// Keys were agreed on that are not there yet.
    #[error("a packet came before the handshake was done; it is dropped")]
    Sealed,
    /// SRTP refused it.
    #[error(transparent)]
    Srtp(Refusal),
    /// A wild sequence number, or a straggler of a source that was replaced.
    #[error("a packet does not belong to the present stream; it is dropped")]
    Stray,
}

/// What a session tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A key of the peer.
    Key(telephone_event::Event),
    /// The peer sends from another address now, and is sent to there.
    Moved(SocketAddr),
    /// Another source speaks (a new SSRC, or one that began again).
    Source(u32),
    /// The peer has left the session (RTCP BYE); its media may go on with another source.
    Goodbye,
}

/// One session.
pub struct Session {
    settings: Settings,
    chance: Chance,
    plan: Plan,
    latch: Latch,
    protector: Option<Protector>,
    unprotector: Option<Unprotector>,
    rtcp_seal: RtcpSeal,
    /// Whence RTCP came last, where it has a port of its own: it is answered to there (RFC 4961).
    rtcp_source: Option<SocketAddr>,
    sender: Sender,
    keys: telephone_event::Sender,
    stream: Option<Stream>,
    /// The source before the present one, and how many packets of it came since.
    former: Option<(u32, u8)>,
    buffer: JitterBuffer,
    peer_keys: telephone_event::Receiver,
    /// The voice heard last: how its codec bears loss, and the length of a packet in microseconds.
    codec: Option<Impairment>,
    packet_us: u32,
    heard_us: Option<u64>,
    collided_us: Option<u64>,
    received: (u64, u64),
    rtcp_received: u64,
    refused: u64,
    /// Expected, lost, gaps and packets in gaps of streams that are over.
    past: [u64; 4],
    began_us: u64,
    interval: Totals,
    round_trip_us: Option<u32>,
    far_end: Option<FarEnd>,
    peer_metrics: Option<VoipMetrics>,
    rtcp_due_us: u64,
    events: [Option<Event>; 8],
}

impl Session {
    /// A session that may send and receive at once.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses the keys.
    pub fn new(now: Now, settings: Settings, plan: Plan, mut chance: Chance) -> Result<Session, BadKeys> {
        let sender = Sender::new(now, &mut chance);
        let buffer = JitterBuffer::new(settings.jitter);
        let mut session = Session {
            settings,
            plan: Plan::default(),
            latch: Latch::default(),
            protector: None,
            unprotector: None,
            rtcp_seal: RtcpSeal::Shared,
            rtcp_source: None,
            sender,
            keys: telephone_event::Sender::default(),
            stream: None,
            former: None,
            buffer,
            peer_keys: telephone_event::Receiver::default(),
            codec: None,
            packet_us: 20_000,
            heard_us: None,
            collided_us: None,
            received: (0, 0),
            rtcp_received: 0,
            refused: 0,
            past: [0; 4],
            began_us: now.mono_us,
            interval: Totals { at_us: now.mono_us, ..Totals::default() },
            round_trip_us: None,
            far_end: None,
            peer_metrics: None,
            rtcp_due_us: now.mono_us + 1_000_000 + u64::from(chance.below(1_500_000)),
            events: [None; 8],
            chance,
        };
        session.update(now, plan)?;
        Ok(session)
    }

    /// A new offer and answer: re-arms the latch and brings new keys in. A new key of ours at a new address, or after the
    /// sequence numbers have turned over, begins with another source, so that nobody can mistake the roll-over counter
    /// (RFC 4568 §7.1.4): some receivers keep it with a new key, as RFC 3711 §3.3.1 has it, others forget it.
    ///
    /// # Errors
    /// [`BadKeys::Unsupported`] if the cryptography refuses the keys; the plan before stays.
    pub fn update(&mut self, now: Now, mut plan: Plan) -> Result<(), BadKeys> {
        plan.formats.truncate(MAX_FORMATS);
        let moved = self.plan.expected.media != plan.expected.media;
        let rtcp_seal = match plan.rtcp_keys == self.plan.rtcp_keys {
            true => None,
            false => Some(RtcpSeal::new(&plan.rtcp_keys)?),
        };
        match &plan.keys {
            Some(KeyPair { ours, theirs }) => {
                match &mut self.unprotector {
                    Some(unprotector) => unprotector.rekey(theirs.clone(), moved)?,
                    none => *none = Some(Unprotector::new(theirs.clone())?),
                }
                match &mut self.protector {
                    Some(protector) if protector.keys() == ours => {
                        // Somebody else listens now, who cannot know how often our sequence numbers turned over.
                        if moved && protector.turned() {
                            self.sender.restart(&mut self.chance);
                        }
                    }
                    Some(protector) if !moved && !plan.handshake && !protector.turned() => {
                        protector.rekey(ours.clone())?;
                    }
                    // The listener begins at 0 with these keys, and so does the stream as it is: some take no other.
                    Some(protector) if plan.handshake && !protector.turned() => {
                        self.protector = Some(Protector::new(ours.clone())?);
                    }
                    _ => {
                        self.protector = Some(Protector::new(ours.clone())?);
                        self.sender.restart(&mut self.chance);
                    }
                }
            }
            None => (self.protector, self.unprotector) = (None, None),
        }
        if let Some(seal) = rtcp_seal {
            self.rtcp_seal = seal;
        }
        if moved || self.plan.rtcp != plan.rtcp {
            self.rtcp_source = None;
        }
        self.latch.arm(now.mono_us, plan.expected);
        self.plan = plan;
        Ok(())
    }

    /// Whether keys are waited for: nothing is sent or taken.
    pub fn is_sealed(&self) -> bool {
        self.plan.handshake && self.unprotector.is_none()
    }

    /// A handshake has proved that the peer is there.
    pub fn confirm(&mut self, now: Now, from: SocketAddr) {
        if self.latch.confirm(now.mono_us, from) {
            self.tell(Event::Moved(from));
        }
    }

    /// Whether SDP, the signalling or the media so far let expect the peer there.
    pub fn expects(&self, from: SocketAddr) -> bool {
        self.latch.expects(from)
    }

    fn is_rtcp_sealed(&self) -> bool {
        self.rtcp_seal.is_closed(self.is_sealed())
    }

    /// RTCP of the peer has come from here to a port of its own.
    pub fn rtcp_came(&mut self, from: SocketAddr) {
        self.rtcp_source = Some(from).filter(|_| self.plan.rtcp.is_some());
    }

    /// Takes in a datagram of the media port or that of RTCP. SRTP is undone in place.
    ///
    /// # Errors
    /// [`Refused`] says why it was dropped.
    pub fn receive(&mut self, now: Now, from: SocketAddr, datagram: &mut [u8]) -> Result<Received, Refused> {
        let rtcp = is_rtcp(datagram);
        let sealed = if rtcp { self.is_rtcp_sealed() } else { self.is_sealed() };
        let result = if sealed {
            Err(Refused::Sealed)
        } else if rtcp {
            self.take_rtcp(now, from, datagram)
        } else {
            self.take_rtp(now, from, datagram)
        };
        self.refused += u64::from(result.is_err());
        result
    }

    fn take_rtp(&mut self, now: Now, from: SocketAddr, datagram: &mut [u8]) -> Result<Received, Refused> {
        let (length, key) = match &mut self.unprotector {
            Some(unprotector) => {
                let (length, key) = unprotector.unprotect(datagram).map_err(Refused::Srtp)?;
                (length, Some(key))
            }
            None => (datagram.len(), None),
        };
        let packet =
            Packet::parse(datagram.get(..length).unwrap_or_default()).map_err(|_| Refused::Malformed)?;
        let header = packet.header;
        let format = self.plan.formats.iter().find(|format| format.payload_type == header.payload_type);
        let format = *format.ok_or(Refused::PayloadType(header.payload_type))?;
        if key == Some(Key::Previous) && self.latch.source() != Some(from) {
            // The party that left, most often: it has no key for what we would send there.
            return Err(Refused::Source);
        }
        match self.latch.check(now.mono_us, from, header.ssrc, header.sequence, key.is_some()) {
            latch::Verdict::Accept => {}
            latch::Verdict::Moved => self.tell(Event::Moved(from)),
            latch::Verdict::Refuse => return Err(Refused::Source),
        }
        self.follow(now, &header)?;
        let Some(stream) = &mut self.stream else { return Err(Refused::Stray) };
        self.received.0 += 1;
        self.received.1 += packet.payload.len() as u64;
        self.heard_us = Some(now.mono_us);
        let (kind, duration) = match format.media {
            Media::Events => {
                let taken = self.peer_keys.handle_packet(
                    now.mono_us,
                    header.timestamp,
                    format.clock_rate,
                    packet.payload,
                );
                self.buffer.insert_other(header.sequence);
                self.drain_keys();
                return if taken { Ok(Received::Event) } else { Err(Refused::Malformed) };
            }
            Media::Noise => (Kind::Noise, 0),
            Media::Voice { length, redundant, impairment } => {
                let duration = length.units(packet.payload);
                self.codec = Some(impairment);
                let packet_us = u64::from(duration) * 1_000_000 / u64::from(format.clock_rate.max(1));
                self.packet_us = packet_us.min(120_000) as u32;
                stream.handle_timing(now.mono_us, header.timestamp, format.clock_rate);
                (Kind::Voice { redundant }, duration)
            }
        };
        Ok(Received::Media(self.buffer.insert(&Arrival {
            at_us: now.mono_us,
            sequence: header.sequence,
            timestamp: header.timestamp,
            clock_rate: format.clock_rate,
            duration,
            payload_type: header.payload_type,
            kind,
            payload: packet.payload,
        })))
    }

    /// Finds out which stream a packet belongs to, and begins another one where it must.
    fn follow(&mut self, now: Now, header: &Header) -> Result<(), Refused> {
        if header.ssrc == self.sender.ssrc()
            && self.collided_us.is_none_or(|at| now.since(at).as_micros() >= u128::from(COLLISION_US))
        {
            // RFC 3550 §8.2: the two of us drew the same number. (If it is an echo of ours, it will come again.)
            self.collided_us = Some(now.mono_us);
            if self.protector.is_none() {
                self.sender.restart(&mut self.chance);
            }
        }
        let known = self.stream.as_ref().map(Stream::ssrc);
        if known != Some(header.ssrc) {
            if let Some((former, count)) = &mut self.former
                && *former == header.ssrc
                && *count < STRAGGLERS
            {
                *count += 1;
                return Err(Refused::Stray);
            }
            self.former = known.map(|ssrc| (ssrc, 0));
            self.bury();
            self.begin(header);
        } else if let Some((_, count)) = &mut self.former {
            *count = 0;
        }
        match self.stream.as_mut().map(|stream| stream.handle_sequence(header.sequence)) {
            Some(Verdict::Wild) | None => Err(Refused::Stray),
            Some(Verdict::Restarted) => {
                self.bury();
                self.begin(header);
                if let Some(stream) = &mut self.stream {
                    stream.handle_sequence(header.sequence);
                }
                Ok(())
            }
            Some(Verdict::InOrder | Verdict::OutOfOrder) => Ok(()),
        }
    }

    fn begin(&mut self, header: &Header) {
        self.stream = Some(Stream::new(header));
        self.buffer.restart();
        self.peer_keys.restart();
        self.drain_keys();
        self.tell(Event::Source(header.ssrc));
    }

    /// Adds what the present stream has counted to the past.
    fn bury(&mut self) {
        if let Some(stream) = self.stream.take() {
            let (gaps, packets) = stream.gaps();
            let counts = [stream.expected(), stream.lost(), gaps, packets];
            self.past.iter_mut().zip(counts).for_each(|(past, count)| *past += count);
        }
    }

    /// What the decoder should do next; see [`JitterBuffer::pull`].
    pub fn pull(&mut self, now: Now, queued_us: u64) -> Pull<'_> {
        self.buffer.pull(now.mono_us, queued_us)
    }

    /// What is wished for the decoded sound; see [`JitterBuffer::rate`].
    pub fn rate(&mut self, now: Now, queued_us: u64) -> Rate {
        self.buffer.rate(now.mono_us, queued_us)
    }

    /// Writes a packet of voice into `out` and returns its length. It covers `samples` units of `clock_rate`.
    /// `None` if `out` is too small ([`super::srtp::MAX_OVERHEAD`] counts) or the packet cannot be protected.
    pub fn send(
        &mut self,
        now: Now,
        payload_type: u8,
        clock_rate: u32,
        samples: u32,
        payload: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let header = self.sender.next(now.mono_us, payload_type, samples, clock_rate, None);
        self.write(&header, payload, out)
    }

    /// A period of `samples` at `clock_rate` passes without a packet (silence, hold): the time stamp goes on.
    pub fn skip(&mut self, clock_rate: u32, samples: u32) {
        self.sender.skip(samples, clock_rate);
    }

    /// Queues a key to be sent as telephone events. False if too many wait.
    pub fn press(&mut self, digit: Digit, duration_ms: u32) -> bool {
        self.keys.press(digit, duration_ms)
    }

    /// Keys are sent no longer: returns the one that has not begun, with its duration in milliseconds.
    pub fn stop_pressing(&mut self) -> Option<(Digit, u32)> {
        self.keys.stop()
    }

    /// True while keys are being sent or wait.
    pub fn is_pressing(&self) -> bool {
        self.keys.is_busy()
    }

    /// In place of a packet of voice of `samples` at `clock_rate`: the next packet of a telephone event, if one is due.
    /// `event` is its payload type and clock rate. `None`: send voice.
    pub fn send_event(
        &mut self,
        now: Now,
        event: (u8, u32),
        samples: u32,
        clock_rate: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let (payload_type, event_rate) = event;
        let units = (u64::from(samples) * u64::from(event_rate) / u64::from(clock_rate.max(1))) as u32;
        let outgoing = self.keys.next(now.mono_us, self.sender.timestamp(), units, event_rate)?;
        let event = Some((outgoing.timestamp, outgoing.marker));
        let header = self.sender.next(now.mono_us, payload_type, samples, clock_rate, event);
        self.write(&header, &outgoing.payload.write(), out)
    }

    fn write(&mut self, header: &Header, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.is_sealed() {
            return None;
        }
        let mut length = header.write(payload, out)?;
        if let Some(protector) = &mut self.protector {
            length = protector.protect(out, length).ok()?;
        }
        self.sender.count(payload.len());
        Some(length)
    }

    /// Where RTP goes; `None` while nobody knows.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.latch.destination()
    }

    /// Where RTCP goes.
    pub fn rtcp_destination(&self) -> Option<SocketAddr> {
        match (self.plan.rtcp, self.latch.source()) {
            (Some(_), _) if self.rtcp_source.is_some() => self.rtcp_source,
            // Behind a NAT the media's host is right and SDP is not; its port for RTCP is a guess (RFC 3550 §11).
            (Some(rtcp), Some(source)) if rtcp.ip() != source.ip() => {
                Some(SocketAddr::new(source.ip(), source.port().saturating_add(1)))
            }
            (Some(rtcp), _) => Some(rtcp),
            (None, _) => self.latch.destination(),
        }
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events[0].take();
        self.events.rotate_left(1);
        event
    }

    /// When to call [`Session::handle_timeout`] and [`Session::poll_rtcp`] next, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        earliest(Some(self.rtcp_due_us), self.peer_keys.poll_timeout())
    }

    /// A deadline has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.peer_keys.handle_timeout(now.mono_us);
        self.drain_keys();
    }

    /// Writes the RTCP compound that is due into `out` (RFC 3550 §6.2: every 5 s, jittered) and returns its length.
    pub fn poll_rtcp(&mut self, now: Now, out: &mut [u8]) -> Option<usize> {
        if now.mono_us < self.rtcp_due_us {
            return None;
        }
        // 5 s × [0.5, 1.5) / 1.21828, the compensation for reconsideration (§6.3.1).
        self.rtcp_due_us = now.mono_us + 2_052_073 + u64::from(self.chance.below(4_104_147));
        self.compound(now, false, out)
    }

    /// Writes the compound that ends the session (BYE).
    pub fn goodbye(&mut self, now: Now, out: &mut [u8]) -> Option<usize> {
        self.compound(now, true, out)
    }

    fn compound(&mut self, now: Now, bye: bool, out: &mut [u8]) -> Option<usize> {
        if self.is_rtcp_sealed() {
            return None;
        }
        let ssrc = self.sender.ssrc();
        let metrics = self.plan.voip_metrics.then(|| self.voip_metrics(now)).flatten();
        let reception = self.stream.as_mut().map(|stream| stream.report(now.mono_us));
        let mut writer = rtcp::Writer::new(out);
        writer.report(ssrc, self.sender.report(now.mono_us), reception.as_slice());
        writer.cname(ssrc, &self.settings.cname);
        if let Some(metrics) = &metrics {
            writer.voip(ssrc, metrics);
        }
        if bye {
            writer.bye(ssrc);
        }
        let length = writer.finish()?;
        match self.rtcp_seal.protector(&mut self.protector) {
            Some(protector) => protector.protect_rtcp(out, length).ok(),
            None => Some(length),
        }
    }

    fn voip_metrics(&self, now: Now) -> Option<VoipMetrics> {
        let stream = self.stream.as_ref()?;
        let report = self.total(now);
        let share = |percent: f64| (percent * 2.56).clamp(0.0, 255.0) as u8;
        let ms = |us: u32| u16::try_from(us / 1000).unwrap_or(u16::MAX);
        // Both of the whole session, as the loss is.
        let late = report.discarded as f64 * 100.0 / self.totals(now).expected.max(1) as f64;
        let rating = report.rating;
        let mos = rating.map_or(127, |rating| (rating.mos * 10.0).round() as u8);
        Some(VoipMetrics {
            ssrc: stream.ssrc(),
            loss_rate: share(report.loss_percent),
            discard_rate: share(late),
            round_trip_ms: report.round_trip_us.map_or(0, ms),
            end_system_ms: ms(report.buffer_us + self.packet_us),
            signal_level: 127,
            noise_level: 127,
            echo_return_loss: 127,
            gmin: 16,
            r_factor: rating.map_or(127, |rating| rating.r.min(100.0) as u8),
            external_r_factor: 127,
            mos_lq: mos,
            mos_cq: mos,
            configuration: VoipMetrics::ADAPTIVE,
            buffer_nominal_ms: ms(report.buffer_us),
            buffer_maximum_ms: ms(self.buffer.target_us()),
            buffer_ceiling_ms: ms(self.buffer.ceiling_us()),
            ..VoipMetrics::default()
        })
    }

    fn take_rtcp(&mut self, now: Now, from: SocketAddr, datagram: &mut [u8]) -> Result<Received, Refused> {
        let length = match self.rtcp_seal.unprotector(&mut self.unprotector) {
            Some(unprotector) => unprotector.unprotect_rtcp(datagram).map_err(Refused::Srtp)?,
            None if self.latch.vouches_for(from) => datagram.len(),
            None => return Err(Refused::Source),
        };
        let compound =
            rtcp::read(datagram.get(..length).unwrap_or_default()).map_err(|_| Refused::Malformed)?;
        self.rtcp_received += 1;
        for item in compound {
            match item {
                Item::SenderReport { ssrc, info, receptions } => {
                    if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc() == ssrc) {
                        stream.handle_sender_report(now.mono_us, info.ntp);
                    }
                    self.take_receptions(now, receptions);
                }
                Item::ReceiverReport { receptions, .. } => self.take_receptions(now, receptions),
                Item::Bye { ssrc, .. } if self.stream.as_ref().is_some_and(|s| s.ssrc() == ssrc) => {
                    self.tell(Event::Goodbye);
                }
                Item::Voip { metrics, .. } => self.peer_metrics = Some(metrics),
                Item::Bye { .. } | Item::Cname { .. } | Item::Other { .. } => {}
            }
        }
        Ok(Received::Rtcp)
    }

    fn take_receptions(&mut self, now: Now, receptions: rtcp::Receptions<'_>) {
        let ours = self.sender.ssrc();
        for reception in receptions.filter(|reception| reception.ssrc == ours) {
            let clock_rate = self.sender.clock_rate().max(1);
            let jitter_us = u64::from(reception.jitter) * 1_000_000 / u64::from(clock_rate);
            self.far_end = Some(FarEnd {
                lost: reception.lost,
                fraction_lost: reception.fraction_lost,
                jitter_us: u32::try_from(jitter_us).unwrap_or(u32::MAX),
            });
            if reception.last_report != 0 {
                // RFC 3550 §6.4.1: A − LSR − DLSR, in 1/65536 s; a negative one is the peer's mistake.
                let arrival = (self.sender.ntp(now.mono_us) >> 16) as u32;
                let trip =
                    arrival.wrapping_sub(reception.last_report).wrapping_sub(reception.since_last_report);
                if trip < 0x8000_0000 {
                    self.round_trip_us = u32::try_from((u64::from(trip) * 1_000_000) >> 16).ok();
                }
            }
        }
    }

    /// When the last packet of the peer's media (noise and keys included) came, on the monotonic clock.
    pub fn heard_us(&self) -> Option<u64> {
        self.heard_us
    }

    /// RTCP compounds of the peer so far.
    pub fn rtcp_received(&self) -> u64 {
        self.rtcp_received
    }

    /// The VoIP metrics that the peer has reported, if it does.
    pub fn peer_metrics(&self) -> Option<VoipMetrics> {
        self.peer_metrics
    }

    /// The jitter buffer, for its figures.
    pub fn buffer(&self) -> &JitterBuffer {
        &self.buffer
    }

    /// Our source.
    pub fn ssrc(&self) -> u32 {
        self.sender.ssrc()
    }

    /// The running totals.
    pub fn totals(&self, now: Now) -> Totals {
        let (packets_sent, bytes_sent) = self.sender.sent();
        let [expected, lost, gaps, gap_packets] = self.past;
        let mut totals = Totals {
            at_us: now.mono_us,
            packets_sent,
            bytes_sent,
            packets_received: self.received.0,
            bytes_received: self.received.1,
            expected,
            lost,
            gaps,
            gap_packets,
            refused: self.refused,
            buffer: self.buffer.counts(),
        };
        if let Some(stream) = &self.stream {
            let (gaps, gap_packets) = stream.gaps();
            totals.expected += stream.expected();
            totals.lost += stream.lost();
            totals.gaps += gaps;
            totals.gap_packets += gap_packets;
        }
        totals
    }

    /// The report on the time since the last call of this method (or the beginning).
    pub fn report(&mut self, now: Now) -> Report {
        let report = self.report_since(&self.interval, now);
        self.interval = self.totals(now);
        report
    }

    /// The report on the whole session so far. Its duration counts from the beginning.
    pub fn total(&self, now: Now) -> Report {
        self.report_since(&Totals { at_us: self.began_us, ..Totals::default() }, now)
    }

    fn report_since(&self, from: &Totals, now: Now) -> Report {
        let jitter_us = self.stream.as_ref().map_or(0, Stream::jitter_us);
        let to = self.totals(now);
        statistics::report(from, &to, self.codec, jitter_us, self.round_trip_us, self.far_end, self.packet_us)
    }

    fn drain_keys(&mut self) {
        while let Some(event) = self.peer_keys.poll_event() {
            self.tell(Event::Key(event));
        }
    }

    fn tell(&mut self, event: Event) {
        // Callers drain after every call; a full queue keeps the older ones.
        if let Some(free) = self.events.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(event);
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

//! One leg: the session with its far end, a half that listens and a half that speaks.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::adapter::Adapter;
use super::agreement::session_plan;
use super::clip::{Clip, Saying};
use super::command::{Dtmf, LegId, PortId, Record, Room};
use super::engine::{Settings, push_event};
use super::event::{DtmfSource, Event};
use super::handshake::{Handshake, Outcome};
use super::plan::{DtmfPath, Plan};
use super::receive::Receiving;
use super::recording::{Recordings, Tap};
use super::report::{PathCounts, Report};
use super::send::{Sending, Wire};
use super::tap::LegTap;
use super::tone::Sounding;
use super::transmit::{Component, Outbox};
use super::watch::{Alarm, Watch};
use crate::audio::dtmf::{DtmfDetector, DtmfEvent};
use crate::audio::tones::Tone;
use crate::chance::Chance;
use crate::now::{Now, earliest};
use crate::rtp::dtls::is_dtls;
use crate::rtp::packet::MAX_PACKET;
use crate::rtp::session::{self, Received, Refused};
use crate::rtp::{Session, statistics, telephone_event};

/// Loss in percent that an encoder with redundancy is told at least.
const LEAST_LOSS: u8 = 3;

/// Packets in a row that SRTP refuses before it is told.
const UNAUTHENTIC: u32 = 50;

/// So long after an agreement the far end must have been heard under the keys there are, in microseconds; and so long
/// before that moment at the most.
const RENEW_US: u64 = 600_000;
const RENEW_QUIET_US: u64 = 300_000;

/// Where a leg puts what leaves it.
pub(super) struct Outlet<'a> {
    pub packets: &'a mut Outbox,
    pub events: &'a mut VecDeque<Event>,
    pub recordings: &'a mut Recordings,
}

impl Outlet<'_> {
    fn tell(&mut self, event: Event) {
        push_event(self.events, event);
    }
}

/// Silence to send, as long as any period.
static SILENCE: [i16; 960] = [0; 960];

/// Who has reported nothing for five intervals of 5 s is taken to be gone (RFC 3550 §6.3.5).
const REPORTS_MISSED_MS: u32 = 25_000;
const REPORTS_MISSED: &str = "the other side's reports do not arrive: none on the port of RTCP for 25 s";

/// One leg.
pub(super) struct Leg {
    pub id: LegId,
    pub port: PortId,
    pub room: Room,
    pub muted: bool,
    plan: Plan,
    session: Session,
    /// By the socket of the media, and by that of RTCP.
    handshakes: [Handshake; 2],
    /// When it is looked at whether the far end still has the keys.
    renew_us: Option<u64>,
    receiving: Receiving,
    sending: Option<Sending>,
    detector: Option<DtmfDetector>,
    detected: Vec<DtmfEvent>,
    tone: Sounding,
    said: Option<Saying>,
    /// A period with the tone, or with what is said.
    toned: Vec<i16>,
    heard: Vec<i16>,
    up: Adapter,
    up_rate: u32,
    down: Adapter,
    tap: Option<LegTap>,
    watch: Watch,
    opened_us: u64,
    /// When the far end that is to be heard first was agreed on; `None` once it was heard.
    awaited_us: Option<u64>,
    quality_every_us: u64,
    quality_us: Option<u64>,
    /// Packets in a row that SRTP refused.
    unauthentic: u32,
    /// Why RTCP has no keys, if its handshake has failed.
    rtcp_fault: Option<String>,
    /// Whether reports come, where they have a port of their own.
    reports: Watch,
    jitter_max_ms: f32,
}

/// Whether reports are missed that do not come: those without a port of their own go where the audio goes, and who is on hold
/// may be silent altogether.
fn expects_reports(plan: &Plan) -> bool {
    !plan.rtcp_mux && plan.direction.receives()
}

/// Has handshakes begin, go on or end as a plan wants them.
fn agree(now: Now, [media, rtcp]: &mut [Handshake; 2], plan: &Plan) -> Result<(), String> {
    media.agree(now, plan.dtls.as_ref())?;
    rtcp.agree(now, plan.rtcp_dtls())
}

impl Leg {
    /// Opens a leg; `rate` is that of the terminal, which codecs with a choice follow.
    ///
    /// # Errors
    /// Why it can't be done as planned.
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where all that a leg consists of comes together"
    )]
    pub(super) fn open(
        now: Now,
        id: LegId,
        port: PortId,
        plan: Plan,
        settings: &Settings,
        rate: u32,
        cname: &str,
        chance: &mut Chance,
    ) -> Result<Leg, String> {
        let set_up = session::Settings { jitter: settings.jitter, cname: cname.into() };
        let mut handshakes = [0, 1].map(|_| Handshake::new(settings.identity.clone()));
        agree(now, &mut handshakes, &plan)?;
        let session = Session::new(now, set_up, session_plan(&plan, [None; 2]), chance.fork())
            .map_err(|bad| bad.to_string())?;
        let receiving = Receiving::new(&plan, rate, chance.next_u32());
        let sending = match plan.send {
            Some(format) => Some(Sending::new(format, &plan, rate).map_err(|error| error.to_string())?),
            None => None,
        };
        let quality_every_us = u64::from(settings.quality_ms) * 1000;
        let mut leg = Leg {
            id,
            port,
            room: Room::Apart,
            muted: false,
            session,
            handshakes,
            renew_us: None,
            receiving,
            sending,
            detector: None,
            detected: Vec::with_capacity(4),
            tone: Sounding::default(),
            said: None,
            toned: Vec::with_capacity(960),
            heard: Vec::with_capacity(48 * 180),
            up: Adapter::default(),
            up_rate: 0,
            down: Adapter::default(),
            tap: None,
            watch: Watch::new(now, plan.direction.receives(), plan.silence_ms, plan.timeout_ms),
            opened_us: now.mono_us,
            awaited_us: Some(now.mono_us),
            quality_every_us,
            quality_us: (quality_every_us > 0).then(|| now.mono_us + quality_every_us),
            unauthentic: 0,
            rtcp_fault: None,
            reports: Watch::new(now, expects_reports(&plan), REPORTS_MISSED_MS, 0),
            jitter_max_ms: 0.0,
            plan,
        };
        leg.listen_for_tones();
        Ok(leg)
    }

    fn listen_for_tones(&mut self) {
        if !self.plan.detect_inband {
            self.detector = None;
        } else if self.detector.is_none() {
            self.detector = Some(DtmfDetector::new(self.receiving.rate()));
        }
    }

    /// A new agreement.
    pub(super) fn update(&mut self, now: Now, plan: Plan, rate: u32, out: &mut Outlet<'_>) {
        if let Err(why) = self.try_update(now, plan, rate) {
            out.tell(Event::Failed { leg: self.id, why });
        }
        self.shake(now, out);
    }

    fn try_update(&mut self, now: Now, plan: Plan, rate: u32) -> Result<(), String> {
        agree(now, &mut self.handshakes, &plan)?;
        let keys = self.handshakes.each_ref().map(Handshake::keys);
        self.session.update(now, session_plan(&plan, keys)).map_err(|bad| bad.to_string())?;
        match (&mut self.sending, plan.send) {
            (Some(sending), Some(format)) => {
                let updated = sending.update(format, &plan, rate, &mut self.session);
                updated.map_err(|error| error.to_string())?;
            }
            (None, Some(format)) => {
                self.sending = Some(Sending::new(format, &plan, rate).map_err(|error| error.to_string())?);
            }
            (_, None) => {}
        }
        self.receiving.update(&plan, rate);
        self.tone.set_rate(self.speaking_rate(8000));
        if plan.remote != self.plan.remote {
            self.awaited_us = Some(now.mono_us);
        }
        // Some forget the association with every agreement though it says that it goes on (Asterisk without ICE).
        let keys_stay = plan.dtls.is_some() && plan.dtls == self.plan.dtls && plan.direction.receives();
        self.renew_us = keys_stay.then(|| now.mono_us + RENEW_US);
        self.watch.rearm(now, plan.direction.receives(), plan.silence_ms, plan.timeout_ms);
        self.reports.rearm(now, expects_reports(&plan), REPORTS_MISSED_MS, 0);
        self.unauthentic = 0;
        if plan.rtcp_dtls() != self.plan.rtcp_dtls() {
            self.rtcp_fault = None;
        }
        self.plan = plan;
        self.listen_for_tones();
        Ok(())
    }

    fn sends(&self) -> bool {
        self.plan.direction.sends() && self.plan.send.is_some()
    }

    /// The earliest moment at which `handle_timeout` is wanted.
    pub(super) fn deadline(&self) -> Option<u64> {
        let shaking = self.handshakes.iter().map(Handshake::poll_timeout).fold(self.renew_us, earliest);
        let own = earliest(earliest(self.watch.deadline(), self.quality_us), shaking);
        earliest(own, self.session.poll_timeout())
    }

    /// Lets the neighbour hear a period of `ms`: it is in `heard()`, at the rate that is returned.
    #[inline]
    pub(super) fn hear(&mut self, now: Now, ms: u32, out: &mut Outlet<'_>) -> u32 {
        self.up_rate = 0;
        let changed = self.receiving.pull(now, ms, &mut self.session, &mut self.heard);
        let rate = self.receiving.rate();
        if !self.plan.direction.receives() {
            // What comes in spite of a hold is not heard, but does not wait for its end either.
            self.heard.fill(0);
        }
        if changed {
            if let Some(codec) = self.receiving.codec() {
                out.tell(Event::Codec { leg: self.id, codec });
            }
            if self.detector.is_some() {
                self.detector = Some(DtmfDetector::new(rate));
            }
        }
        if let Some(detector) = &mut self.detector {
            detector.detect(&self.heard, &mut self.detected);
            for event in self.detected.drain(..) {
                if let DtmfEvent::Released { digit, ms } = event {
                    out.tell(Event::Dtmf {
                        leg: self.id,
                        digit,
                        duration_ms: ms,
                        source: DtmfSource::Inband,
                    });
                }
            }
        }
        if let Some(tap) = &mut self.tap {
            tap.near(&mut self.heard, rate, out.recordings);
        }
        rate
    }

    /// What `hear` gave.
    pub(super) fn heard(&self) -> &[i16] {
        &self.heard
    }

    /// What `hear` gave, at another rate.
    pub(super) fn heard_at(&mut self, rate: u32) -> &[i16] {
        self.up_rate = rate;
        self.up.adapt(&self.heard, self.receiving.rate(), rate)
    }

    /// What `heard_at` gave last.
    pub(super) fn heard_again(&self) -> &[i16] {
        if self.up_rate == self.receiving.rate() { &self.heard } else { &self.up.output }
    }

    /// The rate at which this leg would like to be spoken to; `otherwise` if it has no wish.
    pub(super) fn speaking_rate(&self, otherwise: u32) -> u32 {
        self.sending.as_ref().map_or(otherwise, Sending::rate)
    }

    /// Sends a period in which nobody speaks: silence, or the tone of the leg.
    pub(super) fn speak_nothing(&mut self, now: Now, ms: u32, out: &mut Outlet<'_>) {
        let rate = self.speaking_rate(8000);
        let samples = (rate * ms / 1000) as usize;
        self.speak(now, rate, SILENCE.get(..samples).unwrap_or(&SILENCE), out);
    }

    /// Sends a period of the room's sound at `rate`.
    #[inline]
    pub(super) fn speak(&mut self, now: Now, rate: u32, pcm: &[i16], out: &mut Outlet<'_>) {
        let sends = self.sends() && !self.session.is_sealed();
        let Some(sending) = &mut self.sending else { return };
        if !sends {
            sending.skip(pcm.len() as u32 * 1000 / rate.max(1), &mut self.session);
            return;
        }
        let wanted = sending.rate();
        let mut pcm = self.down.adapt(pcm, rate, wanted);
        if self.muted {
            pcm = SILENCE.get(..pcm.len()).unwrap_or(&SILENCE);
        }
        if self.tone.sounds() {
            self.toned.clear();
            self.toned.resize(pcm.len(), 0);
            self.tone.fill(&mut self.toned);
            pcm = &self.toned;
        } else if let Some(saying) = &mut self.said {
            self.toned.clear();
            self.toned.extend_from_slice(pcm);
            saying.add_to(&mut self.toned, wanted);
            self.said.take_if(|saying| saying.is_over());
            pcm = &self.toned;
        }
        if let Some(tap) = &mut self.tap {
            pcm = tap.far(pcm, wanted, out.recordings);
        }
        let to = self.session.destination();
        let mut wire = Wire { now, session: &mut self.session, packets: out.packets, port: self.port, to };
        sending.push(pcm, &mut wire);
        if sending.told(&self.session) {
            out.tell(Event::DtmfSent { leg: self.id });
        }
    }

    /// Time has passed unseen.
    pub(super) fn skip(&mut self, ms: u32) {
        if let Some(sending) = &mut self.sending {
            sending.skip(ms, &mut self.session);
        }
    }

    /// A tone to the far end, in place of the room's sound.
    pub(super) fn set_tone(&mut self, country: &str, tone: Option<Tone>) {
        self.tone.set(country, tone, self.speaking_rate(8000));
    }

    /// Says something to the far end, beside the room's sound.
    pub(super) fn say(&mut self, clip: Clip) {
        self.said = Some(Saying::new(clip));
    }

    /// Queues digits.
    pub(super) fn send_digits(&mut self, dtmf: &Dtmf, out: &mut Outlet<'_>) {
        let possible = self.sends() && self.plan.dtmf != DtmfPath::None;
        match &mut self.sending {
            Some(sending) if possible => sending.digits.push(dtmf),
            _ => out.tell(Event::DtmfSent { leg: self.id }),
        }
    }

    /// Begins, interrupts or ends the recording.
    pub(super) fn record(&mut self, record: Record, out: &mut Outlet<'_>) {
        match record {
            Record::Start { recording, layout, beep, announcement } => {
                self.stop_recording(out);
                let speaking = self.speaking_rate(8000);
                let rate = self.receiving.rate().max(speaking).min(16_000);
                let tap = Tap::start(recording, rate, layout, out.recordings);
                self.tap = Some(LegTap::new(tap, beep.then_some(speaking), announcement));
            }
            Record::Pause | Record::Resume => {
                if let Some(tap) = &mut self.tap {
                    tap.pause(record == Record::Pause);
                }
            }
            Record::Stop => self.stop_recording(out),
        }
    }

    fn stop_recording(&mut self, out: &mut Outlet<'_>) {
        if let Some(tap) = self.tap.take() {
            tap.finish(out.recordings);
        }
    }

    /// What the session has to tell.
    fn listen(&mut self, out: &mut Outlet<'_>) {
        while let Some(event) = self.session.poll_event() {
            match event {
                session::Event::Key(telephone_event::Event::Released { digit, duration_ms }) => {
                    let (digit, source) = (digit.as_char(), DtmfSource::Rfc4733);
                    out.tell(Event::Dtmf { leg: self.id, digit, duration_ms, source });
                }
                session::Event::Moved(remote)
                    if self.plan.remote.is_none_or(|agreed| agreed.rtp != remote) =>
                {
                    out.tell(Event::Latched { leg: self.id, remote });
                }
                session::Event::Key(telephone_event::Event::Pressed(_))
                | session::Event::Moved(_)
                | session::Event::Source(_)
                | session::Event::Goodbye => {}
            }
        }
    }

    /// Goes on with the handshakes, towards where media and RTCP go.
    pub(super) fn shake(&mut self, now: Now, out: &mut Outlet<'_>) {
        let renews = self.renew_us.is_some_and(|due| due <= now.mono_us);
        if renews {
            self.renew_us = None;
        }
        let heard_us = self.session.heard_us().unwrap_or(0);
        let quiet = now.mono_us.saturating_sub(heard_us) >= RENEW_QUIET_US;
        for component in Component::ALL {
            let destination = match component {
                Component::Rtp => self.session.destination(),
                Component::Rtcp => self.session.rtcp_destination(),
            };
            let handshake = &mut self.handshakes[component as usize];
            if !handshake.is_agreed() {
                continue;
            }
            if renews && quiet {
                handshake.renew(now);
            }
            handshake.handle_timeout(now, destination);
            while let Some((to, datagram)) = handshake.poll_transmit() {
                out.packets.push(self.port, component, to, |buffer| {
                    buffer.get_mut(..datagram.len())?.copy_from_slice(&datagram);
                    Some(datagram.len())
                });
            }
            if let Some(outcome) = handshake.poll_outcome() {
                self.shaken(now, component, outcome, out);
            }
        }
    }

    /// A handshake has come to its end. Without that of RTCP audio goes on.
    fn shaken(&mut self, now: Now, component: Component, outcome: Outcome, out: &mut Outlet<'_>) {
        let from = match (outcome, component) {
            (Outcome::Ready(from), _) => from,
            (Outcome::Failed(why), Component::Rtcp) => return self.rtcp_fault = Some(why.to_string()),
            (Outcome::Failed(why), Component::Rtp) => {
                return out.tell(Event::Failed { leg: self.id, why: why.to_string() });
            }
        };
        let [media, rtcp] = &self.handshakes;
        let since_us = media.since_us();
        let plan = session_plan(&self.plan, [media.keys(), rtcp.keys()]);
        let profile = plan.keys.as_ref().map(|keys| keys.ours.profile());
        if let Err(bad) = self.session.update(now, plan) {
            return out.tell(Event::Failed { leg: self.id, why: bad.to_string() });
        }
        match (component, profile) {
            (Component::Rtp, Some(profile)) => {
                self.session.confirm(now, from);
                self.unauthentic = 0;
                let after_us = now.mono_us.saturating_sub(since_us);
                out.tell(Event::Secured { leg: self.id, profile, after_us });
            }
            (Component::Rtcp, _) => self.session.rtcp_came(from),
            (Component::Rtp, None) => {}
        }
    }

    /// Takes a packet.
    #[inline]
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        component: Component,
        from: SocketAddr,
        bytes: &mut [u8],
        out: &mut Outlet<'_>,
    ) {
        let handshake = &mut self.handshakes[component as usize];
        if is_dtls(bytes) && handshake.is_agreed() {
            handshake.handle(now, from, self.session.expects(from), bytes);
            self.shake(now, out);
            return self.listen(out);
        }
        let number = bytes.get(1).map_or(0, |second| second & 0x7f);
        match self.session.receive(now, from, bytes) {
            Ok(received) => {
                if let Some(after_ms) = self.watch.heard(now) {
                    out.tell(Event::Resumed { leg: self.id, after_ms });
                }
                self.unauthentic = 0;
                if received == Received::Rtcp && component == Component::Rtcp {
                    self.reports.heard(now);
                    self.session.rtcp_came(from);
                }
                if matches!(received, Received::Media(_))
                    && let Some(since_us) = self.awaited_us
                    && let Some(codec) = self.receiving.codec_of(number)
                {
                    self.awaited_us = None;
                    let after_us = now.mono_us.saturating_sub(since_us);
                    out.tell(Event::FirstPacket { leg: self.id, from, codec, after_us });
                }
            }
            Err(Refused::Srtp(_)) => {
                self.unauthentic += 1;
                if self.unauthentic == UNAUTHENTIC {
                    out.tell(Event::Unauthentic { leg: self.id });
                }
            }
            Err(_) => {}
        }
        self.listen(out);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Now, out: &mut Outlet<'_>) {
        while let Some(alarm) = self.watch.check(now) {
            out.tell(match alarm {
                Alarm::Silence { for_ms } => Event::Silence { leg: self.id, for_ms },
                Alarm::TimedOut => Event::TimedOut { leg: self.id },
            });
        }
        if let Some(due) = self.quality_us
            && due <= now.mono_us
        {
            self.quality_us = Some(now.mono_us.max(due) + self.quality_every_us);
            self.tell_quality(now, out);
        }
        self.shake(now, out);
        self.session.handle_timeout(now);
        self.listen(out);
        self.send_rtcp(out, |session, buffer| session.poll_rtcp(now, buffer));
    }

    fn send_rtcp(
        &mut self,
        out: &mut Outlet<'_>,
        write: impl FnOnce(&mut Session, &mut [u8]) -> Option<usize>,
    ) {
        let component = if self.plan.rtcp_mux { Component::Rtp } else { Component::Rtcp };
        match self.session.rtcp_destination() {
            Some(to) => {
                out.packets.push(self.port, component, to, |buffer| write(&mut self.session, buffer));
            }
            // Nobody to tell, but the next one is due in its time.
            None => {
                write(&mut self.session, &mut [0; MAX_PACKET]);
            }
        }
    }

    /// Tells the figures as they are now.
    pub(super) fn tell_quality(&mut self, now: Now, out: &mut Outlet<'_>) {
        let recent = self.session.report(now);
        let report = self.report(now, &recent);
        if let (Some(sending), Some(percent)) = (&mut self.sending, report.remote_loss_percent) {
            // A little redundancy stays, for the first burst after a quiet time.
            sending.expect_loss((percent as u8).max(LEAST_LOSS));
        }
        out.tell(Event::Quality { leg: self.id, report: Box::new(report) });
    }

    /// Says goodbye and tells the final figures.
    pub(super) fn close(&mut self, now: Now, out: &mut Outlet<'_>) {
        self.session.handle_timeout(Now { mono_us: u64::MAX, ..now });
        self.listen(out);
        self.stop_recording(out);
        self.send_rtcp(out, |session, buffer| session.goodbye(now, buffer));
        let whole = self.session.total(now);
        let report = Box::new(self.report(now, &whole));
        out.tell(Event::Closed { leg: self.id, port: self.port, report });
    }

    fn report(&mut self, now: Now, span: &statistics::Report) -> Report {
        let whole = self.session.total(now);
        let ms = |us: u32| us as f32 / 1000.0;
        self.jitter_max_ms = self.jitter_max_ms.max(ms(span.jitter_us));
        let counts = self.session.buffer().counts();
        let keyless = self.rtcp_fault.clone().filter(|_| self.session.rtcp_received() == 0);
        let missed = self.reports.is_silent(now).then(|| REPORTS_MISSED.to_owned());
        Report {
            duration_ms: now.mono_us.saturating_sub(self.opened_us) / 1000,
            codec_received: if self.session.heard_us().is_some() { self.receiving.codec() } else { None },
            codec_sent: self.sending.as_ref().map(|sending| sending.format().codec),
            srtp: self.plan.srtp.is_some() || self.handshakes[0].keys().is_some(),
            packets_sent: whole.packets_sent,
            packets_received: whole.packets_received,
            bytes_sent: whole.bytes_sent,
            bytes_received: whole.bytes_received,
            packets_lost: whole.lost,
            packets_late: whole.discarded,
            packets_duplicate: whole.duplicates,
            packets_refused: whole.refused,
            path: PathCounts::default(),
            loss_percent: span.loss_percent as f32,
            jitter_ms: ms(span.jitter_us),
            jitter_max_ms: self.jitter_max_ms,
            rtcp_received: self.session.rtcp_received(),
            rtcp_fault: keyless.or(missed),
            rtt_ms: span.round_trip_us.map(ms),
            remote_loss_percent: span.far_end.map(|far| f32::from(far.fraction_lost) / 2.56),
            remote_jitter_ms: span.far_end.map(|far| ms(far.jitter_us)),
            buffer_ms: ms(span.buffer_us),
            buffer_mean_ms: ms(whole.buffer_us),
            concealed_ms: counts.concealed_us / 1000,
            shrunk_ms: self.receiving.changes.shrunk_us / 1000,
            stretched_ms: self.receiving.changes.stretched_us / 1000,
            r_factor: span.rating.map_or(0.0, |rating| rating.r as f32),
            mos: span.rating.map_or(0.0, |rating| rating.mos as f32),
            mos_scale: span.rating.map_or("", |rating| rating.scale.as_str()),
        }
    }
}

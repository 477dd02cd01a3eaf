//! The speaking half of a leg: samples of any cut → frames of `ptime` → packets.

use std::net::SocketAddr;

use super::command::PortId;
use super::digits::{Digits, Step};
use super::plan::{DtmfPath, Format, Plan};
use super::transmit::{Component, Outbox};
use crate::audio::codec::{CodecError, Encoder, Parameters};
use crate::audio::dtmf::DtmfPlayer;
use crate::now::Now;
use crate::rtp::Session;

/// Where frames go: the session that makes packets of them and the packets that wait.
pub(super) struct Wire<'a> {
    pub now: Now,
    pub session: &'a mut Session,
    pub packets: &'a mut Outbox,
    pub port: PortId,
    /// Where RTP goes; without it time passes and nothing is sent.
    pub to: Option<SocketAddr>,
}

/// The encoder of a leg and what surrounds it.
pub(super) struct Sending {
    format: Format,
    /// What the encoder was made with, to see whether a new plan needs another one.
    parameters: Parameters,
    encoder: Box<dyn Encoder>,
    rate: u32,
    frame_ms: u32,
    frame_samples: usize,
    frame_ticks: u32,
    /// Samples of a frame that is not full yet.
    frame: Vec<i16>,
    payload: Vec<u8>,
    dtmf: DtmfPath,
    pub(super) digits: Digits,
    tones: DtmfPlayer,
}

impl Sending {
    /// The half for a plan that sends; `rate` is the rate that the neighbours have, for codecs with a choice.
    ///
    /// # Errors
    /// The codec can't be had.
    pub(super) fn new(format: Format, plan: &Plan, rate: u32) -> Result<Sending, CodecError> {
        let parameters = parameters(format, plan, rate);
        let encoder = (format.codec.encoder)(&parameters)?;
        let rate = parameters.sample_rate;
        let mut sending = Sending {
            format,
            parameters,
            encoder,
            rate,
            frame_ms: 0,
            frame_samples: 0,
            frame_ticks: 0,
            frame: Vec::new(),
            payload: Vec::with_capacity(1500),
            dtmf: plan.dtmf,
            digits: Digits::new(),
            tones: DtmfPlayer::new(rate),
        };
        sending.frame_of(plan);
        Ok(sending)
    }

    /// A new plan: keeps the encoder if it may, and always the digits. One that sounds just now ends here when digits take
    /// another way: the far end has heard it, and nothing would ever end it on the way it began.
    ///
    /// # Errors
    /// The codec can't be had; the half stays as it was.
    pub(super) fn update(
        &mut self,
        format: Format,
        plan: &Plan,
        rate: u32,
        session: &mut Session,
    ) -> Result<(), CodecError> {
        let parameters = parameters(format, plan, rate);
        if format.codec != self.format.codec || parameters != self.parameters {
            self.encoder = (format.codec.encoder)(&parameters)?;
            self.parameters = parameters;
            self.rate = parameters.sample_rate;
            self.tones = DtmfPlayer::new(self.rate);
            self.frame.clear();
        }
        self.format = format;
        if std::mem::discriminant(&self.dtmf) != std::mem::discriminant(&plan.dtmf) {
            self.tones.stop();
            if let Some((digit, on_ms)) = session.stop_pressing() {
                self.digits.again(digit, on_ms);
            }
        }
        self.dtmf = plan.dtmf;
        self.frame_of(plan);
        Ok(())
    }

    fn frame_of(&mut self, plan: &Plan) {
        let wished = (u32::from(plan.ptime_ms).clamp(10, 60) + 5) / 10 * 10;
        self.frame_ms = self.format.codec.ptime(wished);
        self.frame_samples = (self.rate / 1000 * self.frame_ms) as usize;
        self.frame_ticks = self.format.codec.clock_rate / 1000 * self.frame_ms;
        self.frame.truncate(self.frame_samples.saturating_sub(1));
        self.frame.reserve(self.frame_samples);
    }

    /// What is sent.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Samples per second that `push` wants.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Loss at the far end, for codecs that can do something about it.
    pub(super) fn expect_loss(&mut self, percent: u8) {
        self.encoder.expect_loss(percent);
    }

    /// Time passes in which nothing is sent: the stream goes on where it would be.
    pub(super) fn skip(&mut self, ms: u32, session: &mut Session) {
        let clock = self.format.codec.clock_rate;
        session.skip(clock, (u64::from(clock) * u64::from(ms) / 1000) as u32);
        self.frame.clear();
    }

    /// Takes samples and sends a packet for each frame that is full.
    #[inline]
    pub(super) fn push(&mut self, mut pcm: &[i16], wire: &mut Wire<'_>) {
        while !pcm.is_empty() {
            if self.frame.is_empty() && pcm.len() >= self.frame_samples {
                let (whole, rest) = pcm.split_at(self.frame_samples);
                pcm = rest;
                if self.is_dialling(wire) {
                    self.frame.extend_from_slice(whole);
                    self.dial(wire);
                    self.frame.clear();
                } else {
                    self.payload.clear();
                    self.encoder.encode(whole, &mut self.payload);
                    self.speak(wire);
                }
                continue;
            }
            let missing = self.frame_samples.saturating_sub(self.frame.len()).min(pcm.len());
            let (part, rest) = pcm.split_at(missing);
            pcm = rest;
            self.frame.extend_from_slice(part);
            if self.frame.len() >= self.frame_samples {
                if self.is_dialling(wire) {
                    self.dial(wire);
                } else {
                    self.speak_frame(wire);
                }
                self.frame.clear();
            }
        }
    }

    fn is_dialling(&self, wire: &Wire<'_>) -> bool {
        !self.digits.idle() || self.tones.active() || wire.session.is_pressing()
    }

    /// Whether digits are on their way, in whichever form.
    pub(super) fn told(&mut self, session: &Session) -> bool {
        !session.is_pressing() && self.digits.told()
    }

    fn speak_frame(&mut self, wire: &mut Wire<'_>) {
        self.payload.clear();
        self.encoder.encode(&self.frame, &mut self.payload);
        self.speak(wire);
    }

    /// Sends what was encoded.
    #[inline]
    fn speak(&mut self, wire: &mut Wire<'_>) {
        let Wire { now, session, packets, port, to } = wire;
        match to {
            Some(to) if !self.payload.is_empty() => {
                let (number, clock) = (self.format.payload_type, self.format.codec.clock_rate);
                packets.push(*port, Component::Rtp, *to, |buffer| {
                    session.send(*now, number, clock, self.frame_ticks, &self.payload, buffer)
                });
            }
            _ => session.skip(self.format.codec.clock_rate, self.frame_ticks),
        }
    }

    /// Sends one frame while there are digits: an event, a tone, or what is in `frame`.
    fn dial(&mut self, wire: &mut Wire<'_>) {
        let sounds = wire.session.is_pressing() || self.tones.active();
        let step = if sounds { Step::Rest } else { self.digits.step(self.frame_ms) };
        match (step, self.dtmf) {
            (Step::Press { digit, on_ms }, DtmfPath::Rfc4733(_)) => {
                wire.session.press(digit, on_ms);
            }
            (Step::Press { digit, on_ms }, DtmfPath::Inband) => {
                self.tones.push(digit.as_char(), on_ms);
            }
            (Step::Press { .. }, DtmfPath::None) => self.digits.clear(),
            (Step::Audio | Step::Rest, _) => {}
        }
        if let DtmfPath::Rfc4733(event) = self.dtmf
            && let Some(to) = wire.to
        {
            let Wire { now, session, packets, port, .. } = wire;
            let clock = self.format.codec.clock_rate;
            let sent = packets.push(*port, Component::Rtp, to, |buffer| {
                session.send_event(*now, (event.payload_type, event.clock), self.frame_ticks, clock, buffer)
            });
            if sent {
                return;
            }
        }
        if self.dtmf == DtmfPath::Inband {
            // The rest after a digit is silent, so that speech is not taken for its end.
            self.frame.fill(0);
            self.tones.fill(&mut self.frame);
        }
        self.speak_frame(wire);
    }
}

/// How an encoder of this format is wanted by the plan, next to neighbours of this rate.
fn parameters(format: Format, plan: &Plan, rate: u32) -> Parameters {
    let mut parameters = Parameters::of(format.codec);
    parameters.sample_rate = rate_near(format.codec.sample_rates, rate, format.codec.sample_rate);
    parameters.fec = plan.fec;
    if let Some(most) = plan.max_bitrate {
        parameters.bitrate = parameters.bitrate.min(most.max(6000));
    }
    parameters
}

/// The rate to run a codec at beside neighbours of `wanted`: the lowest that loses nothing, else the highest.
pub(super) fn rate_near(rates: &[u32], wanted: u32, usual: u32) -> u32 {
    let enough = rates.iter().copied().filter(|&rate| rate >= wanted).min();
    enough.or_else(|| rates.iter().copied().max()).unwrap_or(usual)
}

//! The listening half of a leg: packets into the jitter buffer, periods of sound out of it.
//!
//! What is decoded but not yet heard waits in one vector; when the buffer wishes another delay, a cycle of
//! speech is taken out of it or put in. The neighbour's clock pulls, whatever the sender's clock or packet
//! length is.

use super::plan::{Format, Plan};
use crate::audio::codec::{Codec, Decoder, Parameters};
use crate::audio::comfort::{Description, Generator};
use crate::audio::stretch::{self, Haste, Wish};
use crate::now::Now;
use crate::rtp::{Pull, Rate, Session};

/// Excess of delay above which a cut may be heard a little, in microseconds.
const URGENT_US: u32 = 30_000;

/// Pulls of the buffer for one period; the shortest packets (2.5 ms) need eight.
const PULLS_MAX: usize = 24;

struct Speaker {
    codec: &'static Codec,
    rate: u32,
    decoder: Box<dyn Decoder>,
}

/// Milliseconds (of sound) that were changed on the way, as sums of microseconds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Changes {
    pub shrunk_us: u64,
    pub stretched_us: u64,
    pub undecodable: u64,
}

/// The decoders of a leg and what surrounds them.
pub(super) struct Receiving {
    formats: Vec<Format>,
    speakers: Vec<Speaker>,
    /// Who spoke last, by its place in `speakers`.
    current: usize,
    /// The rate that neighbours have, for codecs with a choice.
    wanted_rate: u32,
    /// Decoded and not heard yet.
    pending: Vec<i16>,
    noise: Generator,
    pub(super) changes: Changes,
}

impl Receiving {
    /// The half for a plan; `rate` is the rate that the neighbours have, for codecs with a choice.
    pub(super) fn new(plan: &Plan, rate: u32, seed: u32) -> Receiving {
        let mut receiving = Receiving {
            formats: Vec::new(),
            speakers: Vec::new(),
            current: 0,
            wanted_rate: rate,
            pending: Vec::with_capacity(48 * 180),
            noise: Generator::new(seed),
            changes: Changes::default(),
        };
        receiving.update(plan, rate);
        receiving
    }

    /// A new plan: other numbers; decoders and what waits stay.
    pub(super) fn update(&mut self, plan: &Plan, rate: u32) {
        self.wanted_rate = rate;
        self.formats.clear();
        self.formats.extend_from_slice(&plan.receive);
        // The one that will most probably speak is ready before its first packet.
        if let Some(format) = plan.receive.first() {
            self.speaker(format.codec);
        }
    }

    /// The codec of a number in an RTP header, by the plan.
    pub(super) fn codec_of(&self, payload_type: u8) -> Option<&'static Codec> {
        self.formats.iter().find(|format| format.payload_type == payload_type).map(|format| format.codec)
    }

    /// Samples per second of what `pull` gave last.
    pub(super) fn rate(&self) -> u32 {
        self.speakers.get(self.current).map_or(8000, |speaker| speaker.rate)
    }

    /// Who is heard.
    pub(super) fn codec(&self) -> Option<&'static Codec> {
        self.speakers.get(self.current).map(|speaker| speaker.codec)
    }

    fn speaker(&mut self, codec: &'static Codec) -> Option<usize> {
        if let Some(at) = self.speakers.iter().position(|speaker| speaker.codec == codec) {
            return Some(at);
        }
        let mut parameters = Parameters::of(codec);
        parameters.sample_rate =
            super::send::rate_near(codec.sample_rates, self.wanted_rate, codec.sample_rate);
        let decoder = (codec.decoder)(&parameters).ok()?;
        self.speakers.push(Speaker { codec, rate: decoder.sample_rate(), decoder });
        Some(self.speakers.len() - 1)
    }

    /// Fills `heard` with a period of `ms` at `rate()`. True if another codec speaks than before.
    pub(super) fn pull(&mut self, now: Now, ms: u32, session: &mut Session, heard: &mut Vec<i16>) -> bool {
        heard.clear();
        let mut changed = false;
        for _ in 0..PULLS_MAX {
            let rate = self.rate();
            if self.pending.len() >= (rate * ms / 1000) as usize {
                break;
            }
            changed |= self.decode_next(now, session);
        }
        let rate = self.rate();
        let want = (rate * ms / 1000) as usize;
        if self.pending.len() <= want {
            std::mem::swap(heard, &mut self.pending);
            self.pending.clear();
            heard.resize(want, 0);
        } else {
            heard.extend_from_slice(&self.pending[..want]);
            self.pending.drain(..want);
        }
        changed
    }

    fn queued_us(&self) -> u64 {
        self.pending.len() as u64 * 1_000_000 / u64::from(self.rate().max(1))
    }

    /// One decision of the buffer, carried out at the end of `pending`. True if another codec speaks now.
    fn decode_next(&mut self, now: Now, session: &mut Session) -> bool {
        let queued_us = self.queued_us();
        let rate = self.rate();
        let samples = |us: u32| (u64::from(us) * u64::from(rate) / 1_000_000) as usize;
        let mut changed = false;
        match session.pull(now, queued_us) {
            Pull::Packet { payload_type, payload, duration_us, skip_us } => {
                let at =
                    self.codec_of(payload_type).and_then(|codec| self.speaker(codec)).unwrap_or(self.current);
                if at != self.current {
                    changed = true;
                    self.current = at;
                    // Another rate, most often; what is dropped is shorter than a packet.
                    self.pending.clear();
                }
                let before = self.pending.len();
                if let Some(speaker) = self.speakers.get_mut(at) {
                    let samples = |us: u32| (u64::from(us) * u64::from(speaker.rate) / 1_000_000) as usize;
                    if speaker.decoder.decode(payload, &mut self.pending).is_err() {
                        self.changes.undecodable += 1;
                        speaker.decoder.conceal(samples(duration_us), &mut self.pending);
                    }
                    let skip = samples(skip_us).min(self.pending.len() - before);
                    if skip > 0 {
                        self.pending.drain(before..before + skip);
                    }
                }
                self.adapt(now, session);
            }
            Pull::Fec { payload, duration_us, skip_us, .. } => {
                let before = self.pending.len();
                match self.speakers.get_mut(self.current) {
                    Some(speaker) => {
                        speaker.decoder.decode_fec(payload, samples(duration_us), &mut self.pending);
                    }
                    None => self.silence(samples(duration_us)),
                }
                let skip = samples(skip_us).min(self.pending.len() - before);
                self.pending.drain(before..before + skip);
            }
            Pull::Conceal { duration_us } => match self.speakers.get_mut(self.current) {
                Some(speaker) => speaker.decoder.conceal(samples(duration_us), &mut self.pending),
                None => self.silence(samples(duration_us)),
            },
            // Opus has no descriptions of noise: its decoder knows what the silence sounded like.
            Pull::Comfort { noise: None, duration_us } if self.codec().is_some_and(makes_its_noise) => {
                if let Some(speaker) = self.speakers.get_mut(self.current) {
                    speaker.decoder.conceal(samples(duration_us), &mut self.pending);
                }
            }
            Pull::Comfort { noise, duration_us } => {
                if let Some(description) = noise.and_then(Description::parse) {
                    self.noise.describe(&description);
                }
                self.noise.extend(samples(duration_us), &mut self.pending);
            }
            Pull::Nothing => self.silence(samples(10_000)),
        }
        changed
    }

    fn silence(&mut self, samples: usize) {
        self.pending.resize(self.pending.len() + samples, 0);
    }

    /// Changes the length of what waits as the buffer wishes: by a cycle of speech per 20 ms of sound, and
    /// never shorter than is wished, else the next wish would be the opposite.
    fn adapt(&mut self, now: Now, session: &mut Session) {
        let rate = self.rate();
        let blocks = (self.pending.len() / (rate as usize / 50).max(1)).max(1);
        for _ in 0..blocks {
            let queued_us = self.queued_us();
            let (wish, by_us) = match session.rate(now, queued_us) {
                Rate::Normal => return,
                Rate::Shrink { by_us } => (Wish::Shrink, by_us),
                Rate::Stretch { by_us } => (Wish::Stretch, by_us),
            };
            let haste = if by_us >= URGENT_US { Haste::Urgent } else { Haste::Calm };
            let most = match wish {
                Wish::Shrink => (u64::from(by_us) * u64::from(rate) / 1_000_000) as usize,
                Wish::Stretch => usize::MAX,
            };
            let changed = stretch::apply_within(wish, haste, rate, most, &mut self.pending);
            let us = changed as u64 * 1_000_000 / u64::from(rate.max(1));
            match wish {
                _ if changed == 0 => return,
                Wish::Shrink => self.changes.shrunk_us += us,
                Wish::Stretch => self.changes.stretched_us += us,
            }
        }
    }
}

/// Whether a decoder that gets no packet goes on with the noise of the far end's silence.
fn makes_its_noise(codec: &Codec) -> bool {
    codec.name == "opus"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audio::codec::Encoder;
    use crate::audio::speech::Speech;
    use crate::chance::Chance;
    use crate::media::agreement::session_plan;
    use crate::media::plan::Remote;
    use crate::rtp::packet::Header;
    use crate::rtp::session;

    const RATE: u32 = 16_000;

    /// A far end that speaks Opus, and who listens to it.
    struct Opus {
        now: Now,
        session: Session,
        receiving: Receiving,
        encoder: Box<dyn Encoder>,
        speech: Speech,
        header: Header,
        heard: Vec<i16>,
    }

    impl Opus {
        fn new(parameters: impl Fn(Parameters) -> Parameters) -> Opus {
            let codec = Codec::by_name("opus").expect("a row");
            let format = Format { payload_type: 96, codec };
            let address = "192.0.2.7:9000".parse().expect("an address");
            let plan = Plan::plain(Some(Remote { rtp: address, rtcp: address }), format);
            let now = Now { mono_us: 1_000_000, utc_us: 1_790_000_000_000_000 };
            let settings = session::Settings::default();
            let session = Session::new(now, settings, session_plan(&plan, [None; 2]), Chance::from_number(1));
            let parameters = parameters(Parameters { sample_rate: RATE, ..Parameters::of(codec) });
            Opus {
                now,
                session: session.expect("a session"),
                receiving: Receiving::new(&plan, RATE, 1),
                encoder: (codec.encoder)(&parameters).expect("an encoder"),
                speech: Speech::new(3, RATE),
                header: Header { payload_type: 96, sequence: 1, timestamp: 0, ssrc: 5, marker: false },
                heard: Vec::new(),
            }
        }

        /// The payload of the next packet, which covers `ms`.
        fn encode(&mut self, pcm: &[i16]) -> Vec<u8> {
            let mut payload = Vec::new();
            self.encoder.encode(pcm, &mut payload);
            self.header.timestamp += pcm.len() as u32 * 48_000 / RATE;
            payload
        }

        fn arrive(&mut self, payload: &[u8]) {
            let mut bytes = vec![0; 12 + payload.len()];
            let length = self.header.write(payload, &mut bytes).expect("room");
            let from = "192.0.2.7:9000".parse().expect("an address");
            self.session.receive(self.now, from, &mut bytes[..length]).expect("a packet");
        }

        fn listen(&mut self, ms: u64) {
            for _ in 0..ms / 10 {
                let mut period = Vec::new();
                self.receiving.pull(self.now, 10, &mut self.session, &mut period);
                self.heard.extend_from_slice(&period);
                self.now = self.now.plus(Duration::from_millis(10));
            }
        }
    }

    #[test]
    fn what_was_concealed_before_the_redundant_copy_came_is_not_heard_twice() {
        let mut opus = Opus::new(|parameters| Parameters { fec: true, loss_percent: 20, ..parameters });
        let (mut shortened, mut pcm) = (0, vec![0; RATE as usize / 1000 * 60]);
        // So seldom that the buffer does not wait for the copies.
        for number in 0..1500 {
            opus.speech.fill(&mut pcm);
            let payload = opus.encode(&pcm);
            if number % 300 != 299 {
                opus.arrive(&payload);
            }
            opus.header.sequence += 1;
            for _ in 0..6 {
                while opus.receiving.queued_us() < 10_000 {
                    let counts = opus.session.buffer().counts();
                    let before_us = opus.receiving.queued_us();
                    let (now, played) = (opus.now, counts.played);
                    opus.receiving.decode_next(now, &mut opus.session);
                    let counts_after = opus.session.buffer().counts();
                    let recovered_us = counts_after.recovered_us - counts.recovered_us;
                    if recovered_us > 0 && counts_after.played == played {
                        assert_eq!(opus.receiving.queued_us() - before_us, recovered_us);
                        shortened += u32::from(recovered_us < 60_000);
                    }
                }
                opus.listen(10);
            }
        }
        assert!(shortened > 2, "{shortened}");
    }

    #[test]
    fn the_noise_of_a_far_end_that_leaves_out_its_silence_goes_on_between_its_packets() {
        let mut opus = Opus::new(|parameters| parameters);
        let mut chance = Chance::from_number(9);
        let mut pcm = vec![0; RATE as usize / 1000 * 20];
        for number in 0..400 {
            pcm.fill_with(|| chance.below(600) as i16 - 300);
            let payload = opus.encode(&pcm);
            // From the second second on a packet for each 400 ms (RFC 7587 §3.1.3).
            if number < 100 || number % 20 == 0 {
                opus.arrive(&payload);
                opus.header.sequence += 1;
            }
            opus.listen(20);
        }
        let silent = opus.heard[3 * RATE as usize..].chunks(RATE as usize / 100);
        let silent = silent.filter(|period| period.iter().all(|sample| *sample == 0)).count();
        assert_eq!(silent, 0, "periods of 10 ms");
    }
}

//! The adaptive jitter buffer: packets in as they come, decisions out in the order of the media.
//!
//! It counts in time, not in packets: any packet length goes, and may change. Pulled once per period of the listener's
//! clock (10 ms), it says what to decode, to conceal or to fill with noise, and whether the sound already decoded
//! should be shortened or lengthened so that the delay follows its target. Leaps of the sender's time stamps are laid
//! onto one continuous media time when packets come in; nothing behind that line sees them.
//!
//! It knows neither codecs nor samples.

use super::packet::MAX_PACKET;
use super::payload_store::{Kept, PayloadStore};
use super::playout_delay::PlayoutDelay;
use super::timeline::Timeline;

pub use super::playout::{Arrival, Counts, Inserted, Kind, Pull, Rate, Settings};

/// The period in which the buffer is pulled, in microseconds.
pub const PERIOD_US: u64 = 10_000;

/// Packets that can wait; more push out the oldest.
const SLOTS: usize = 64;
/// Concealment without a break that makes sense, in microseconds; afterwards there is silence.
const MAX_CONCEALED_US: u64 = 200_000;
/// Gaps and overlaps of the media below this are rounding, in microseconds.
const TOLERANCE_US: i64 = 2_000;
/// Longest packet that is believed in, in microseconds.
const LONGEST_US: i64 = 120_000;
/// Delay above the target at which shortening begins, and at which it ends; in microseconds.
const SHRINK_FROM_US: i64 = 8_000;
const SHRINK_TO_US: i64 = 4_000;
/// Share of lost packets above which one packet more of delay is worth the redundant copies, in 1/65536.
const LOSS_FOR_REDUNDANCY: i32 = 330;
/// Delay below the target at which lengthening begins, in microseconds.
const STRETCH_FROM_US: i64 = 1_000;

#[derive(Clone, Copy)]
struct Waiting {
    sequence: i64,
    media_us: i64,
    duration_us: u32,
    arrived_us: u64,
    payload_type: u8,
    kind: Kind,
    payload: Kept,
}

impl Waiting {
    fn end_us(&self) -> i64 {
        self.media_us + i64::from(self.duration_us)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The sender is silent, or has not begun; the next packet starts at its target delay.
    Silent { comfort: bool },
    /// Media is played up to `position_us`.
    Playing,
}

/// The buffer of one stream.
pub struct JitterBuffer {
    settings: Settings,
    delay: PlayoutDelay,
    timeline: Timeline,
    payloads: PayloadStore,
    /// By media time.
    waiting: Vec<Waiting>,
    state: State,
    /// Media time of what is to be pulled next.
    position_us: i64,
    /// Sequence number of the last packet pulled.
    pulled: Option<i64>,
    /// Concealed since the position stands still.
    held_us: u64,
    /// Sequence numbers of late that carried something else than media.
    others: [i64; 32],
    shrinking: bool,
    /// Share of packets lost of late, in 1/65536.
    loss: i32,
    /// How long the packet before this one must be waited for to use its redundant copy, in microseconds.
    redundant_us: i64,
    counts: Counts,
}

impl JitterBuffer {
    /// An empty buffer. All its memory is taken here.
    pub fn new(settings: Settings) -> JitterBuffer {
        let ceiling_us = settings.ceiling_us.clamp(40_000, 1_000_000);
        let start_us = settings.start_us.min(ceiling_us);
        JitterBuffer {
            settings: Settings { ceiling_us, start_us },
            delay: PlayoutDelay::new(i64::from(start_us), i64::from(ceiling_us)),
            timeline: Timeline::new(ceiling_us),
            payloads: PayloadStore::new(),
            waiting: Vec::with_capacity(SLOTS),
            state: State::Silent { comfort: false },
            position_us: i64::MIN,
            pulled: None,
            held_us: 0,
            others: [i64::MIN; 32],
            shrinking: false,
            loss: 0,
            redundant_us: 0,
            counts: Counts::default(),
        }
    }

    /// Another source speaks from now on: everything of the old one is dropped, what was counted stays.
    pub fn restart(&mut self) {
        while let Some(waiting) = self.waiting.pop() {
            self.payloads.release(waiting.payload);
        }
        match self.state {
            // Nothing says how much of it was lost, if anything was: who begins anew mostly was silent before.
            State::Silent { .. } => self.forgive(),
            State::Playing => self.settle(),
        }
        self.delay.forget(u64::MAX, 0);
        self.timeline.restart();
        self.state = State::Silent { comfort: false };
        self.position_us = i64::MIN;
        self.pulled = None;
        self.others = [i64::MIN; 32];
        self.shrinking = false;
    }

    /// Takes in a packet.
    pub fn insert(&mut self, arrival: &Arrival<'_>) -> Inserted {
        let voice = arrival.kind != Kind::Noise;
        let rate = i64::from(arrival.clock_rate);
        if arrival.payload.len() > MAX_PACKET || rate == 0 || voice && arrival.duration == 0 {
            return Inserted::Unusable;
        }
        let duration_us =
            if voice { (i64::from(arrival.duration) * 1_000_000 / rate).min(LONGEST_US) as u32 } else { 0 };
        let Some(placed) = self.timeline.place(arrival, duration_us) else {
            self.counts.late += 1;
            return Inserted::Late;
        };
        self.counts.leaps = self.timeline.leaps();
        let (sequence, media_us) = (placed.sequence, placed.media_us);
        self.delay.record(arrival.at_us, arrival.at_us as i64 - media_us);
        if self.waiting.iter().any(|waiting| waiting.sequence == sequence) || self.pulled == Some(sequence) {
            self.counts.duplicates += 1;
            return Inserted::Duplicate;
        }
        let end_us = media_us + i64::from(duration_us);
        if end_us < self.position_us || voice && end_us <= self.position_us {
            self.counts.late += 1;
            return Inserted::Late;
        }
        let payload = loop {
            match self.payloads.keep(arrival.payload) {
                Some(payload) if self.waiting.len() < SLOTS => break payload,
                Some(payload) => self.payloads.release(payload),
                None if self.waiting.is_empty() => return Inserted::Unusable,
                None => {}
            }
            self.discard_first();
        };
        let at = self.waiting.partition_point(|w| (w.media_us, w.sequence) < (media_us, sequence));
        self.waiting.insert(
            at,
            Waiting {
                sequence,
                media_us,
                duration_us,
                arrived_us: arrival.at_us,
                payload_type: arrival.payload_type,
                kind: arrival.kind,
                payload,
            },
        );
        Inserted::Stored
    }

    /// Notes that a packet of the stream carried something else (telephone-event): its sequence number is not lost,
    /// and the voice gives way to it.
    pub fn insert_other(&mut self, sequence: u16) {
        let Some(sequence) = self.timeline.unwrapped(sequence) else { return };
        self.others[sequence.rem_euclid(32) as usize] = sequence;
    }

    /// What to do next. `queued_us` is the decoded sound that has not been played yet; call until it fills a period.
    pub fn pull(&mut self, now_us: u64, queued_us: u64) -> Pull<'_> {
        self.cut(now_us);
        let now = now_us as i64;
        if let State::Silent { comfort } = self.state {
            match self.waiting.first() {
                Some(first)
                    if now - first.media_us >= self.target_transit_us() || self.waiting.len() == SLOTS =>
                {
                    let first = *first;
                    self.resume(first);
                }
                _ => return self.filler(comfort),
            }
        }
        let Some(&first) = self.waiting.first() else { return self.starve() };
        if first.kind == Kind::Noise {
            self.take_first();
            self.position_us = self.position_us.max(first.media_us);
            self.forgive();
            self.state = State::Silent { comfort: true };
            let noise = self.payloads.bytes(first.payload);
            return Pull::Comfort { noise: Some(noise), duration_us: PERIOD_US as u32 };
        }
        let gap_us = first.media_us - self.position_us;
        if gap_us <= TOLERANCE_US {
            return self.play(first, now_us, queued_us);
        }
        if self.missing(first.sequence) == 0 {
            // The sender left a gap of its own: silence, ended with the delay that the next talkspurt wants.
            self.forgive();
            self.state = State::Silent { comfort: true };
            if now - first.media_us < self.target_transit_us() {
                return self.filler(true);
            }
            self.resume(first);
            return self.play(first, now_us, queued_us);
        }
        let rest_us = gap_us - self.held_us as i64;
        if rest_us <= TOLERANCE_US {
            self.settle();
            self.note_loss(true);
            self.position_us = first.media_us;
            return self.play(first, now_us, queued_us);
        }
        if first.kind == (Kind::Voice { redundant: true })
            && gap_us <= i64::from(first.duration_us) + TOLERANCE_US
        {
            let skip_us = self.skip_us(now_us);
            self.settle();
            self.note_loss(true);
            self.position_us = first.media_us;
            self.counts.recovered_us += (gap_us - skip_us) as u64;
            return Pull::Fec {
                payload_type: first.payload_type,
                payload: self.payloads.bytes(first.payload),
                duration_us: gap_us as u32,
                skip_us: skip_us as u32,
            };
        }
        let piece_us = (rest_us as u64).min(PERIOD_US);
        self.held_us += piece_us;
        if self.held_us > MAX_CONCEALED_US {
            Pull::Nothing
        } else {
            Pull::Conceal { duration_us: piece_us as u32 }
        }
    }

    /// What is wished for the sound decoded so far, `queued_us` of it waiting to be played.
    pub fn rate(&mut self, now_us: u64, queued_us: u64) -> Rate {
        if self.state != State::Playing || self.delay.is_empty() {
            self.shrinking = false;
            return Rate::Normal;
        }
        let excess = self.excess(now_us, queued_us);
        self.shrinking = excess > if self.shrinking { SHRINK_TO_US } else { SHRINK_FROM_US };
        if self.shrinking {
            Rate::Shrink { by_us: excess as u32 }
        } else if excess < -STRETCH_FROM_US {
            Rate::Stretch { by_us: -excess as u32 }
        } else {
            Rate::Normal
        }
    }

    /// The delay that is aimed at over the fastest packet of the last seconds, in microseconds.
    pub fn target_us(&self) -> u32 {
        (self.delay.target_us() - self.delay.lowest_us()).max(0) as u32
    }

    /// Media that waits, in microseconds.
    pub fn buffered_us(&self) -> u32 {
        match (self.waiting.first(), self.waiting.last()) {
            (Some(first), Some(last)) => {
                (last.end_us() - first.media_us).clamp(0, i64::from(u32::MAX)) as u32
            }
            _ => 0,
        }
    }

    /// The hard limit of the delay, in microseconds.
    pub fn ceiling_us(&self) -> u32 {
        self.settings.ceiling_us
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Packets of media between the last one pulled and `sequence` that have not come.
    fn missing(&self, sequence: i64) -> i64 {
        let Some(pulled) = self.pulled else { return 0 };
        let others = self.others.iter().filter(|other| (pulled + 1..sequence).contains(*other)).count();
        (sequence - pulled - 1 - others as i64).max(0)
    }

    /// How much later than it should the position will be heard. It is decoded at the beginning of a period, and
    /// only every tenth millisecond is one: to be heard earlier is worth something down to the first period that is
    /// late enough, and no further.
    fn excess(&self, now_us: u64, queued_us: u64) -> i64 {
        let rest_us = queued_us % PERIOD_US;
        let decoded_at = (now_us + queued_us - rest_us) as i64;
        let early_us = decoded_at - self.position_us - self.target_transit_us();
        let period_us = PERIOD_US as i64;
        rest_us as i64 + early_us.div_euclid(period_us) * period_us
    }

    fn play(&mut self, first: Waiting, now_us: u64, queued_us: u64) -> Pull<'_> {
        let overlap_us = (self.position_us - first.media_us).max(0);
        let mut skip_us = if overlap_us > TOLERANCE_US { overlap_us } else { 0 };
        if self.held_us < u64::from(first.duration_us) {
            skip_us += self.skip_us(now_us);
        }
        let skip_us = skip_us.min(i64::from(first.duration_us)) as u32;
        self.settle();
        self.take_first();
        self.note_loss(false);
        self.redundant_us =
            if first.kind == (Kind::Voice { redundant: true }) { i64::from(first.duration_us) } else { 0 };
        self.pulled = Some(first.sequence);
        self.position_us = self.position_us.max(first.end_us());
        self.counts.played_us += u64::from(first.duration_us - skip_us);
        self.counts.played += 1;
        self.counts.waited_us += (now_us + queued_us).saturating_sub(first.arrived_us);
        Pull::Packet {
            payload_type: first.payload_type,
            payload: self.payloads.bytes(first.payload),
            duration_us: first.duration_us,
            skip_us,
        }
    }

    /// Playing, and nothing is there.
    fn starve(&mut self) -> Pull<'_> {
        let newest = self.timeline.newest().unwrap_or(0);
        let gave_way = self.pulled.is_some_and(|pulled| self.others.contains(&(pulled.max(newest) + 1)));
        if gave_way || self.held_us >= MAX_CONCEALED_US {
            if gave_way {
                self.forgive();
            }
            self.state = State::Silent { comfort: !gave_way };
            return self.filler(!gave_way);
        }
        self.held_us += PERIOD_US;
        Pull::Conceal { duration_us: PERIOD_US as u32 }
    }

    /// Ends a silence with the packet that is due.
    fn resume(&mut self, first: Waiting) {
        if self.held_us > 0
            && self.missing(first.sequence) == 0
            && first.media_us - self.position_us > TOLERANCE_US
        {
            self.forgive();
        }
        self.settle();
        self.position_us = self.position_us.max(first.media_us);
        self.state = State::Playing;
    }

    /// How much of what has just been concealed is dropped from the real thing that came after all: as much as the
    /// delay would otherwise exceed its target.
    fn skip_us(&self, now_us: u64) -> i64 {
        (now_us as i64 - self.position_us - self.target_transit_us()).clamp(0, self.held_us as i64)
    }

    /// The target, with room for one packet more where that lets a redundant copy come in time.
    fn target_transit_us(&self) -> i64 {
        let redundancy_us = if self.loss > LOSS_FOR_REDUNDANCY { self.redundant_us } else { 0 };
        self.delay.target_us() + redundancy_us
    }

    /// A packet was lost, or was not: a mean over the last 256 or so, in 1/65536.
    fn note_loss(&mut self, lost: bool) {
        self.loss += (i32::from(lost) * 0x1_0000 - self.loss) / 256;
    }

    fn filler(&mut self, comfort: bool) -> Pull<'_> {
        if self.held_us > 0 {
            self.held_us += PERIOD_US;
        }
        if comfort { Pull::Comfort { noise: None, duration_us: PERIOD_US as u32 } } else { Pull::Nothing }
    }

    /// Cuts off what would exceed the ceiling.
    fn cut(&mut self, now_us: u64) {
        let Some(first) = self.waiting.first() else { return };
        let ceiling = i64::from(self.settings.ceiling_us);
        let from_us = first.media_us.max(self.position_us);
        if now_us as i64 - from_us <= self.delay.lowest_us() + ceiling {
            return;
        }
        // The path is another one now; what came last shows it.
        self.delay.forget(now_us, 100_000);
        let keep_from_us = now_us as i64 - self.target_transit_us();
        while self.waiting.len() > 1
            && self.waiting.first().is_some_and(|first| first.end_us() <= keep_from_us)
        {
            self.discard_first();
        }
        if let Some(first) = self.waiting.first() {
            self.position_us = first.media_us;
        }
        self.settle();
    }

    fn discard_first(&mut self) {
        if let Some(first) = self.take_first() {
            self.counts.discarded += 1;
            self.counts.cut_us += u64::from(first.duration_us);
            self.position_us = self.position_us.max(first.end_us());
            self.pulled = Some(first.sequence);
        }
    }

    fn take_first(&mut self) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        let first = self.waiting.remove(0);
        self.payloads.release(first.payload);
        Some(first)
    }

    /// What was concealed was missing.
    fn settle(&mut self) {
        self.counts.concealed_us += std::mem::take(&mut self.held_us);
    }

    /// What was concealed turned out to be silence.
    fn forgive(&mut self) {
        self.held_us = 0;
    }
}

#[cfg(test)]
#[path = "jitter_tests.rs"]
mod tests;

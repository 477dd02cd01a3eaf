//! Ways to play a trace: the adaptive buffer, fixed buffers, and the best fixed delay that can be found afterwards.

use super::traces::{PATH_US, Trace};
use tipring::audio::conceal::Concealer;
use tipring::audio::g711::{self, Law};
use tipring::audio::similarity;
use tipring::audio::speech::Speech;
use tipring::rtp::jitter::{Arrival, JitterBuffer, Kind, PERIOD_US, Pull, Rate, Settings};

/// What a listener got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Mean time from sending to playing beyond the bare path, in ms.
    pub delay_ms: f64,
    /// Concealed or cut, in per cent of the media.
    pub concealed_percent: f64,
    /// Taken out by time stretching, in ms.
    pub shortened_ms: f64,
    /// Put in by time stretching, in ms.
    pub lengthened_ms: f64,
}

/// A piece of what was played, in the order it was played.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// Media from this packet of the trace, without its first `skip_us`.
    Media {
        /// Index in the trace.
        packet: usize,
        /// Dropped from its beginning.
        skip_us: u64,
    },
    /// Concealed so much.
    Concealed(u64),
    /// Silence or noise.
    Silence,
}

/// Plays a trace through the adaptive buffer in virtual time, in periods of 10 ms. When the buffer wishes, a pitch
/// period is taken out or put in, as time stretching of speech does.
pub fn adaptive(trace: &Trace) -> (Outcome, Vec<Piece>) {
    let mut arrivals: Vec<(u64, usize)> =
        trace.packets.iter().enumerate().filter_map(|(i, p)| Some((p.arrived_us?, i))).collect();
    arrivals.sort();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut buffer = JitterBuffer::new(Settings::default());
    let (mut outcome, mut pieces) = (Outcome::default(), Vec::new());
    let (mut queued_us, mut delay_us, mut media_us) = (0, 0.0, 0.0);
    let end = trace.packets.last().map_or(0, |p| p.sent_us + 1_000_000);
    let mut now = 995_000;
    while now < end {
        now += PERIOD_US;
        while let Some((at_us, i)) = arrivals.next_if(|(at_us, _)| *at_us <= now) {
            let packet = trace.packets[i];
            // The payload is the packet's place in the trace, to find it again.
            let payload = (i as u32).to_be_bytes();
            buffer.insert(&Arrival {
                at_us,
                sequence: packet.sequence as u16,
                timestamp: (packet.media_us / 125) as u32,
                clock_rate: 8_000,
                duration: (packet.duration_us / 125) as u32,
                payload_type: 8,
                kind: Kind::Voice { redundant: false },
                payload: &payload,
            });
        }
        while queued_us < PERIOD_US {
            let (mut got_us, mut packet) = (PERIOD_US, None);
            match buffer.pull(now, queued_us) {
                Pull::Packet { payload, duration_us, skip_us, .. } => {
                    let index = u32::from_be_bytes(payload.try_into().unwrap()) as usize;
                    got_us = u64::from(duration_us - skip_us);
                    packet = Some((index, u64::from(skip_us)));
                }
                Pull::Fec { .. } => unreachable!("nothing redundant was sent"),
                Pull::Conceal { duration_us } => {
                    got_us = u64::from(duration_us);
                    pieces.push(Piece::Concealed(got_us));
                }
                Pull::Comfort { .. } | Pull::Nothing => pieces.push(Piece::Silence),
            }
            if let Some((index, skip_us)) = packet {
                let sent = trace.packets[index];
                let waited = (now + queued_us) as f64 - (sent.sent_us + PATH_US) as f64 - skip_us as f64;
                delay_us += waited * got_us as f64;
                media_us += got_us as f64;
                let pitch_us = pitch_us(index, got_us);
                let played_us = match buffer.rate(now, queued_us + got_us) {
                    Rate::Shrink { by_us } if pitch_us <= u64::from(by_us) => got_us - pitch_us,
                    Rate::Stretch { .. } => got_us + pitch_us,
                    Rate::Normal | Rate::Shrink { .. } => got_us,
                };
                outcome.shortened_ms += got_us.saturating_sub(played_us) as f64 / 1000.0;
                outcome.lengthened_ms += played_us.saturating_sub(got_us) as f64 / 1000.0;
                pieces.push(Piece::Media { packet: index, skip_us });
                got_us = played_us;
            }
            queued_us += got_us;
        }
        queued_us -= PERIOD_US;
    }
    let counts = buffer.counts();
    let total = total_us(trace);
    let concealed = (counts.concealed_us + counts.cut_us) as f64;
    outcome.delay_ms = delay_us / media_us.max(1.0) / 1000.0;
    outcome.concealed_percent = concealed * 100.0 / total;
    (outcome, pieces)
}

/// What can be taken out of or put into a piece of sound: a pitch period of 4 to 10 ms, as a voice has it, for every
/// 20 ms.
fn pitch_us(packet: usize, got_us: u64) -> u64 {
    let period_us = 4_000 + (packet as u64 / 16).wrapping_mul(0x9e37_79b9) % 7 * 1_000;
    if got_us >= 20_000 { period_us * (got_us / 20_000) } else { period_us * (packet as u64 % 2) }
        .min(got_us / 2)
}

/// Segmental SNR in dB of G.711 speech played in these pieces, against what was spoken. What is concealed is compared
/// with what belonged there; stretching, which moves sound but does not spoil it, is left out.
pub fn segmental_snr(trace: &Trace, pieces: &[Piece]) -> f64 {
    const PER_MS: u64 = 8;
    let samples = |us: u64| (us * PER_MS / 1_000) as usize;
    let end_us = trace.packets.last().map_or(0, |p| p.media_us + p.duration_us);
    let mut spoken = vec![0; samples(end_us + 2_000_000)];
    Speech::new(1, 8_000).fill(&mut spoken);
    let (mut reference, mut heard) = (Vec::new(), Vec::new());
    let mut concealer = Concealer::new(8_000);
    let (mut octets, mut pcm, mut position) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        pcm.clear();
        match *piece {
            Piece::Media { packet, skip_us } => {
                let sent = trace.packets[packet];
                position = samples(sent.media_us + skip_us);
                let end = samples(sent.media_us + sent.duration_us);
                octets.clear();
                g711::encode(Law::A, &spoken[position..end], &mut octets);
                g711::decode(Law::A, &octets, &mut pcm);
                concealer.good(&mut pcm);
            }
            // Beyond what can be compared: a break that lasts.
            Piece::Concealed(us) if position + samples(us) <= spoken.len() => {
                concealer.conceal(samples(us), &mut pcm);
            }
            Piece::Concealed(_) | Piece::Silence => continue,
        }
        reference.extend_from_slice(&spoken[position..position + pcm.len()]);
        heard.extend_from_slice(&pcm);
        position += pcm.len();
    }
    similarity::segmental_snr(&reference, &heard, 8_000)
}

/// A buffer that plays every packet at the same distance from the first one, which is played `fixed_us` after its
/// arrival, at the next period of 10 ms. After ten late packets in a row, or when it would have to hold more than
/// 300 ms over its delay, it begins anew.
pub fn fixed(trace: &Trace, fixed_us: u64) -> (Outcome, Vec<Piece>) {
    let mut arrived: Vec<usize> = (0..trace.packets.len()).collect();
    arrived.retain(|i| trace.packets[*i].arrived_us.is_some());
    arrived.sort_by_key(|i| trace.packets[*i].arrived_us);
    let mut offset = None;
    let (mut late_in_a_row, mut delay, mut played) = (0, 0.0, 0.0);
    let mut heard = vec![false; trace.packets.len()];
    for i in arrived {
        let packet = trace.packets[i];
        let Some(at) = packet.arrived_us else { continue };
        let anew = (at + fixed_us).next_multiple_of(PERIOD_US) as i64 - packet.media_us as i64;
        let at_offset = *offset.get_or_insert(anew);
        let mut play = packet.media_us as i64 + at_offset;
        if play < at as i64 {
            late_in_a_row += 1;
            if late_in_a_row < 10 {
                continue;
            }
            offset = Some(anew);
            play = packet.media_us as i64 + anew;
        } else if play > at as i64 + fixed_us as i64 + 300_000 {
            offset = Some(anew);
            play = packet.media_us as i64 + anew;
        }
        late_in_a_row = 0;
        heard[i] = true;
        delay += (play - (packet.sent_us + PATH_US) as i64) as f64 * packet.duration_us as f64;
        played += packet.duration_us as f64;
    }
    (outcome(trace, delay, played), pieces(trace, |i| heard[i]))
}

/// What a listener gets who hears these packets in time and has the others concealed.
fn pieces(trace: &Trace, heard: impl Fn(usize) -> bool) -> Vec<Piece> {
    let piece = |(i, p): (usize, &super::traces::Sent)| match heard(i) {
        true => Piece::Media { packet: i, skip_us: 0 },
        false => Piece::Concealed(p.duration_us),
    };
    trace.packets.iter().enumerate().map(piece).collect()
}

/// The best fixed delay, known only afterwards: over all delays to 400 ms, the one with the least sum of delay and
/// 50 ms for every per cent concealed. It follows the drift of the clocks for nothing.
pub fn oracle(trace: &Trace) -> (Outcome, Vec<Piece>) {
    let cost = |o: &Outcome| o.delay_ms + 50.0 * o.concealed_percent;
    let in_time = |p: &super::traces::Sent, delay_us: u64| {
        p.arrived_us.is_some_and(|at| at <= p.sent_us + PATH_US + delay_us)
    };
    let delays = (0..=400).map(|ms| {
        let delay_us = ms * 1_000;
        let played =
            trace.packets.iter().filter(|p| in_time(p, delay_us)).map(|p| p.duration_us as f64).sum();
        (delay_us, outcome(trace, delay_us as f64 * played, played))
    });
    let (delay_us, best) = delays.min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b))).unwrap_or_default();
    (best, pieces(trace, |i| in_time(&trace.packets[i], delay_us)))
}

fn outcome(trace: &Trace, delay: f64, played: f64) -> Outcome {
    let total = total_us(trace);
    Outcome {
        delay_ms: delay / played.max(1.0) / 1000.0,
        concealed_percent: (total - played) * 100.0 / total,
        ..Outcome::default()
    }
}

fn total_us(trace: &Trace) -> f64 {
    trace.packets.iter().map(|p| p.duration_us as f64).sum()
}

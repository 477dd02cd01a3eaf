//! Networks to play voice through: from a seed to when each packet was sent and when it arrived.

use tipring::chance::Chance;

/// One packet of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Sequence number, not wrapped.
    pub sequence: u64,
    /// Media time of its first sample since the beginning, in µs of the sender's clock.
    pub media_us: u64,
    /// How much media it holds, in µs.
    pub duration_us: u64,
    /// When it was sent, in µs of the receiver's clock.
    pub sent_us: u64,
    /// When it arrived; `None` if it was lost.
    pub arrived_us: Option<u64>,
}

/// A trace with its name.
pub struct Trace {
    /// What it shows.
    pub name: &'static str,
    /// In the order they were sent.
    pub packets: Vec<Sent>,
}

/// Delay of the path without any jitter, in µs.
pub const PATH_US: u64 = 30_000;

/// The state of a path while a trace is made.
struct Path {
    chance: Chance,
    /// Nothing arrives before this moment: a queue or a radio that holds everything back.
    stalled_until: u64,
    next_stall: u64,
    bad: bool,
}

impl Path {
    fn exponential(&mut self, mean_us: f64) -> u64 {
        (-(1.0 - self.chance.unit()).ln() * mean_us) as u64
    }

    /// Gilbert's two states: `p` to bad, `r` back; lost in bad.
    fn gilbert(&mut self, p: f64, r: f64) -> bool {
        let change = if self.bad { r } else { p };
        if self.chance.happens(change) {
            self.bad = !self.bad;
        }
        self.bad
    }
}

fn trace(
    name: &'static str,
    seed: u64,
    seconds: u64,
    ptime_us: u64,
    ppm: i64,
    mut arrival: impl FnMut(&mut Path, u64) -> Option<u64>,
) -> Trace {
    let chance = Chance::from_number(
        seed ^ name.bytes().fold(0, |sum: u64, b| sum.wrapping_mul(131).wrapping_add(u64::from(b))),
    );
    let mut path = Path { chance, stalled_until: 0, next_stall: 1_000_000, bad: false };
    let packets = (0..seconds * 1_000_000 / ptime_us)
        .map(|sequence| {
            let media_us = sequence * ptime_us;
            // The packet leaves when its last sample has been spoken.
            let spoken = (media_us + ptime_us) as i64;
            let sent_us = (1_000_000 + spoken + spoken * ppm / 1_000_000) as u64;
            let arrived_us = arrival(&mut path, sent_us).map(|delay| sent_us + PATH_US + delay);
            Sent { sequence, media_us, duration_us: ptime_us, sent_us, arrived_us }
        })
        .collect();
    Trace { name, packets }
}

/// A stall: what is sent within it arrives at its end, in one burst.
fn stalls(path: &mut Path, sent: u64, every_us: u64, longest_us: u64) -> u64 {
    if sent >= path.next_stall {
        path.stalled_until =
            sent + longest_us / 3 + u64::from(path.chance.below((longest_us * 2 / 3) as u32));
        path.next_stall = sent + every_us / 2 + u64::from(path.chance.below(every_us as u32));
    }
    path.stalled_until.saturating_sub(sent)
}

/// All traces of a seed, `seconds` long each.
pub fn all(seed: u64, seconds: u64) -> Vec<Trace> {
    let uniform = |path: &mut Path, us: u32| u64::from(path.chance.below(us));
    vec![
        trace("clean", seed, seconds, 20_000, 0, |_, _| Some(0)),
        trace("LAN, 2 ms jitter", seed, seconds, 20_000, 0, |p, _| Some(uniform(p, 2_000))),
        trace("uniform jitter 0–40 ms", seed, seconds, 20_000, 0, |p, _| Some(uniform(p, 40_000))),
        trace("exponential jitter, mean 12 ms", seed, seconds, 20_000, 0, |p, _| {
            Some(p.exponential(12_000.0))
        }),
        trace("same with 1 % spikes of 80 ms", seed, seconds, 20_000, 0, |p, _| {
            Some(p.exponential(12_000.0) + u64::from(p.chance.happens(0.01)) * 80_000)
        }),
        trace("same with 7 % loss in bursts", seed, seconds, 20_000, 0, |p, _| {
            let delay = p.exponential(12_000.0) + u64::from(p.chance.happens(0.01)) * 80_000;
            (!p.gilbert(0.025, 0.33)).then_some(delay)
        }),
        trace("random loss 3 %", seed, seconds, 20_000, 0, |p, _| {
            let delay = uniform(p, 5_000);
            (!p.chance.happens(0.03)).then_some(delay)
        }),
        trace("Wi-Fi, stalls to 120 ms each 2 s", seed, seconds, 20_000, 0, |p, sent| {
            Some(stalls(p, sent, 2_000_000, 120_000).max(uniform(p, 4_000)))
        }),
        trace("Wi-Fi, stalls to 300 ms each 5 s", seed, seconds, 20_000, 0, |p, sent| {
            Some(stalls(p, sent, 5_000_000, 300_000).max(uniform(p, 4_000)))
        }),
        trace("mobile, stalls to 800 ms each 20 s", seed, seconds, 20_000, 0, |p, sent| {
            Some(stalls(p, sent, 20_000_000, 800_000).max(p.exponential(8_000.0)))
        }),
        trace("slow queue, 50 ms in waves of 8 s", seed, seconds, 20_000, 0, |p, sent| {
            let wave = (sent as f64 / 8e6 * std::f64::consts::TAU).sin();
            Some((25_000.0 + 25_000.0 * wave) as u64 + uniform(p, 6_000))
        }),
        trace("drift +500 ppm", seed, seconds, 20_000, 500, |p, _| Some(uniform(p, 4_000))),
        trace("drift -500 ppm", seed, seconds, 20_000, -500, |p, _| Some(uniform(p, 4_000))),
        trace("route changes, +80 ms and back", seed, seconds, 20_000, 0, |p, sent| {
            Some(sent / 12_000_000 % 2 * 80_000 + uniform(p, 4_000))
        }),
        trace("quiet, then 60 ms of jitter", seed, seconds, 20_000, 0, |p, sent| {
            let rough = sent / 15_000_000 % 2 == 1;
            Some(if rough { uniform(p, 60_000) } else { uniform(p, 3_000) })
        }),
        trace("packets of 60 ms", seed, seconds, 60_000, 0, |p, _| Some(p.exponential(8_000.0))),
        trace("packets of 10 ms", seed, seconds, 10_000, 0, |p, _| Some(p.exponential(8_000.0))),
    ]
}

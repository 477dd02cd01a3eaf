//! One continuous media time for a stream whose time stamps may do anything.
//!
//! Packets are laid onto it by sequence number and time stamp. Where the time stamps leap (another source behind the
//! same SSRC, a clock that stood still, another clock rate), the packet is taken to have been under way as long as the
//! one before it, so that neither sound is lost nor delay left over.

use super::playout::Arrival;

/// A time stamp that is this much ahead of its arrival has leapt, in microseconds.
const LEAP_US: i64 = 30_000;
/// Gaps of the media below this are rounding, in microseconds.
const TOLERANCE_US: i64 = 2_000;
/// Lost packets may have been as long as this, in microseconds.
const LONGEST_US: i64 = 120_000;
/// Packets older than this against the newest are not of this stream any more, in microseconds.
const OLDEST_US: i64 = 2_000_000;

/// Where a packet belongs.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    /// Sequence number without wraps.
    pub(super) sequence: i64,
    /// Media time of its beginning, in microseconds. Its origin means nothing.
    pub(super) media_us: i64,
    timestamp: u32,
    clock_rate: u32,
    at_us: u64,
    duration_us: u32,
    /// Sub-microsecond rest of `media_us`, in units of 1/clock_rate µs, so that no rounding adds up.
    rest: i64,
}

/// The line, as far as the newest packet of the stream tells.
pub(super) struct Timeline {
    newest: Option<Placed>,
    leaps: u64,
    /// A transit above the newest one's by this is a clock that stood still, not a delay, in microseconds.
    longest_delay_us: i64,
}

impl Timeline {
    /// A line without a packet. No packet can be under way `longest_delay_us` longer than the one before it.
    pub(super) fn new(longest_delay_us: u32) -> Timeline {
        Timeline { newest: None, leaps: 0, longest_delay_us: i64::from(longest_delay_us) + LEAP_US }
    }

    /// Forgets the stream; the leaps stay counted.
    pub(super) fn restart(&mut self) {
        self.newest = None;
    }

    /// How often time stamps leapt.
    pub(super) fn leaps(&self) -> u64 {
        self.leaps
    }

    /// Sequence number of the newest packet, without wraps.
    pub(super) fn newest(&self) -> Option<i64> {
        self.newest.map(|newest| newest.sequence)
    }

    /// `sequence` without wraps, if there is a packet to count from.
    pub(super) fn unwrapped(&self, sequence: u16) -> Option<i64> {
        self.newest().map(|newest| newest + i64::from(sequence.wrapping_sub(newest as u16) as i16))
    }

    /// Where a packet of `duration_us` belongs; `None` if it is older than this stream.
    pub(super) fn place(&mut self, arrival: &Arrival<'_>, duration_us: u32) -> Option<Placed> {
        let placed = match self.newest {
            Some(newest) => self.follow(&newest, arrival, duration_us)?,
            None => Placed {
                sequence: i64::from(arrival.sequence) + 0x1_0000,
                media_us: arrival.at_us as i64,
                timestamp: arrival.timestamp,
                clock_rate: arrival.clock_rate,
                at_us: arrival.at_us,
                duration_us,
                rest: 0,
            },
        };
        if self.newest.is_none_or(|newest| placed.sequence > newest.sequence) {
            self.newest = Some(placed);
        }
        Some(placed)
    }

    fn follow(&mut self, newest: &Placed, arrival: &Arrival<'_>, duration_us: u32) -> Option<Placed> {
        let rate = i64::from(arrival.clock_rate.max(1));
        let ahead = i64::from(arrival.sequence.wrapping_sub(newest.sequence as u16) as i16);
        let units = i64::from(arrival.timestamp.wrapping_sub(newest.timestamp) as i32);
        let scaled = units * 1_000_000 + newest.rest;
        let step_us = scaled.div_euclid(rate);
        let mut placed = Placed {
            sequence: newest.sequence + ahead,
            media_us: newest.media_us + step_us,
            timestamp: arrival.timestamp,
            clock_rate: arrival.clock_rate,
            at_us: arrival.at_us,
            duration_us,
            rest: scaled.rem_euclid(rate),
        };
        if ahead <= 0 {
            let known = newest.clock_rate == arrival.clock_rate && (-OLDEST_US..=0).contains(&step_us);
            return known.then_some(placed);
        }
        let elapsed_us = (arrival.at_us as i64 - newest.at_us as i64).max(0);
        // How much later than the newest this one is against its time stamp: its transit minus the newest's.
        let slower_us = elapsed_us - step_us;
        let least_us = i64::from(newest.duration_us) * ahead;
        let leapt = newest.clock_rate != arrival.clock_rate
            || step_us < 0
            || step_us == 0 && newest.duration_us > 0
            || slower_us > self.longest_delay_us
            || if ahead == 1 {
                step_us > least_us + TOLERANCE_US && slower_us < -LEAP_US
            } else {
                slower_us < -(ahead * LONGEST_US + 100_000)
            };
        if leapt {
            self.leaps += 1;
            placed.media_us = newest.media_us + elapsed_us.max(least_us);
            placed.rest = 0;
        }
        Some(placed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::playout::Kind;
    use super::*;

    /// Media time in ms of packets of 20 ms given as (arrival in ms, sequence, time stamp), and the leaps.
    fn placed(clock_rate: u32, packets: &[(u64, u16, u32)]) -> (Vec<Option<i64>>, u64) {
        let mut timeline = Timeline::new(400_000);
        let media = packets.iter().map(|&(at_ms, sequence, timestamp)| {
            let arrival = Arrival {
                at_us: at_ms * 1000,
                sequence,
                timestamp,
                clock_rate,
                duration: clock_rate / 50,
                payload_type: 0,
                kind: Kind::Voice { redundant: false },
                payload: &[],
            };
            timeline.place(&arrival, 20_000).map(|placed| placed.media_us / 1000)
        });
        (media.collect(), timeline.leaps())
    }

    #[test]
    fn numbers_wrap_without_a_leap() {
        let packets =
            [(100, 65_535, u32::MAX - 159), (120, 0, 0), (140, 1, 160), (141, 65_534, u32::MAX - 319)];
        assert_eq!(placed(8_000, &packets), (vec![Some(100), Some(120), Some(140), Some(80)], 0));
    }

    #[test]
    fn loss_silence_and_delay_are_not_leaps() {
        let packets = [(100, 1, 160), (600, 26, 26 * 160), (1_600, 27, 76 * 160), (1_900, 28, 77 * 160)];
        assert_eq!(placed(8_000, &packets), (vec![Some(100), Some(600), Some(1_600), Some(1_620)], 0));
    }

    #[test]
    fn leaps_are_laid_where_the_packet_came() {
        let packets = [(100, 1, 160), (120, 2, 9_000_000), (140, 3, 9_000_160), (160, 4, 5), (180, 5, 165)];
        let media = [100, 120, 140, 160, 180].map(Some).to_vec();
        assert_eq!(placed(8_000, &packets), (media, 2));
        // A clock that stood still for three seconds.
        assert_eq!(placed(8_000, &[(100, 1, 160), (3_120, 2, 320)]), (vec![Some(100), Some(3_120)], 1));
        // A burst after a leap does not overlap.
        assert_eq!(placed(8_000, &[(100, 1, 160), (100, 2, 70_000)]), (vec![Some(100), Some(120)], 1));
    }

    #[test]
    fn what_is_too_old_has_no_place() {
        let packets = [(100, 1_000, 3_000_000), (120, 900, 2_984_000), (140, 400, 1_000_000)];
        assert_eq!(placed(8_000, &packets), (vec![Some(100), Some(-1_900), None], 0));
    }

    #[test]
    fn rounding_does_not_add_up() {
        // 44.1 kHz: 882 units are 20 ms exactly, 441 × 3 + 1 are not.
        let packets: Vec<_> =
            (0..10_000_u32).map(|i| (u64::from(i) * 10, i as u16, i.wrapping_mul(441))).collect();
        let (media, leaps) = placed(44_100, &packets);
        assert_eq!((media[9_999], leaps), (Some(99_990), 0));
    }
}

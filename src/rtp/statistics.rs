//! The report on a session: an interval of it, or all of it.

use super::emodel::{self, Conditions, Impairment, Rating};
use super::jitter;

/// Running totals of a session. The difference of two is an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Monotonic time of these totals, in microseconds.
    pub at_us: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// RTP packets accepted.
    pub packets_received: u64,
    /// Payload bytes accepted.
    pub bytes_received: u64,
    /// Packets expected by sequence number.
    pub expected: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// Runs of packets that did not come in time, and packets in them.
    pub gaps: u64,
    /// See `gaps`.
    pub gap_packets: u64,
    /// Packets refused: not from the latched source, failed authentication, unknown payload type, malformed.
    pub refused: u64,
    /// What the jitter buffer counted.
    pub buffer: jitter::Counts,
}

/// What the far end says it hears of us (RTCP reception reports).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FarEnd {
    /// Packets of ours that it missed.
    pub lost: i32,
    /// Share it missed of late, in 1/256.
    pub fraction_lost: u8,
    /// Jitter there, in microseconds.
    pub jitter_us: u32,
}

/// A report on an interval or a whole session.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Report {
    /// How long it covers, in microseconds.
    pub duration_us: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// RTP packets accepted.
    pub packets_received: u64,
    /// Payload bytes accepted.
    pub bytes_received: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// Share of packets that did not come, in per cent.
    pub loss_percent: f64,
    /// Sound that had to be concealed or cut off, in milliseconds.
    pub concealed_ms: u64,
    /// Share of sound that had to be concealed or cut off, in per cent.
    pub concealed_percent: f64,
    /// Packets that came too late or exceeded the ceiling.
    pub discarded: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets refused.
    pub refused: u64,
    /// Interarrival jitter (RFC 3550) at the end of the interval, in microseconds.
    pub jitter_us: u32,
    /// Mean delay of the jitter buffer, in microseconds.
    pub buffer_us: u32,
    /// Round trip by RTCP, in microseconds, if it is known.
    pub round_trip_us: Option<u32>,
    /// What the far end reports, if it does.
    pub far_end: Option<FarEnd>,
    /// What it means to the listener here; `None` if nothing was received.
    pub rating: Option<Rating>,
}

/// The report on what lies between two totals. `packet_us` is the length of a packet, which is part of the delay.
pub(super) fn report(
    from: &Totals,
    to: &Totals,
    codec: Option<Impairment>,
    jitter_us: u32,
    round_trip_us: Option<u32>,
    far_end: Option<FarEnd>,
    packet_us: u32,
) -> Report {
    let (a, b) = (&from.buffer, &to.buffer);
    let played_us = b.played_us - a.played_us + b.recovered_us - a.recovered_us;
    let concealed_us = (b.concealed_us - a.concealed_us) + (b.cut_us - a.cut_us);
    let lost = to.lost.saturating_sub(from.lost);
    let expected = to.expected.saturating_sub(from.expected);
    let buffer_us = (b.waited_us - a.waited_us).checked_div(b.played - a.played).unwrap_or(0) as u32;
    let concealed_percent = percent(concealed_us, played_us + concealed_us);
    let received = to.packets_received - from.packets_received;
    let rating = codec.filter(|_| received > 0).map(|codec| {
        let delay_us = round_trip_us.unwrap_or(0) / 2 + buffer_us + packet_us;
        let gap_packets = to.gap_packets.saturating_sub(from.gap_packets);
        emodel::rate(
            codec,
            Conditions {
                delay_ms: f64::from(delay_us) / 1000.0,
                loss_percent: concealed_percent,
                burst_ratio: emodel::burst_ratio(gap_packets, to.gaps.saturating_sub(from.gaps), expected),
            },
        )
    });
    Report {
        duration_us: to.at_us.saturating_sub(from.at_us),
        packets_sent: to.packets_sent - from.packets_sent,
        bytes_sent: to.bytes_sent - from.bytes_sent,
        packets_received: received,
        bytes_received: to.bytes_received - from.bytes_received,
        lost,
        loss_percent: percent(lost, expected),
        concealed_ms: concealed_us / 1000,
        concealed_percent,
        discarded: b.late - a.late + b.discarded - a.discarded,
        duplicates: b.duplicates - a.duplicates,
        refused: to.refused - from.refused,
        jitter_us,
        buffer_us,
        round_trip_us,
        far_end,
        rating,
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::emodel::Scale;
    use super::*;

    #[test]
    fn an_interval_is_the_difference_of_two_totals() {
        let buffer =
            jitter::Counts { played_us: 1_000_000, played: 50, waited_us: 500_000, ..Default::default() };
        let from = Totals { packets_received: 50, expected: 50, buffer, ..Totals::default() };
        let mut to = from;
        to.at_us = 5_000_000;
        to.packets_received += 245;
        to.expected += 250;
        to.lost += 5;
        to.gaps += 5;
        to.gap_packets += 5;
        to.buffer.played_us += 4_900_000;
        to.buffer.concealed_us += 100_000;
        to.buffer.played += 245;
        to.buffer.waited_us += 245 * 30_000;
        to.buffer.late = 1;
        let report = report(&from, &to, Some(Impairment::G711), 2_000, Some(40_000), None, 20_000);
        assert_eq!((report.duration_us, report.packets_received, report.lost), (5_000_000, 245, 5));
        assert_eq!((report.loss_percent, report.concealed_percent), (2.0, 2.0));
        assert_eq!((report.concealed_ms, report.discarded, report.buffer_us), (100, 1, 30_000));
        let rating = report.rating.unwrap();
        assert_eq!(rating.scale, Scale::NarrowBand);
        assert!((rating.r - (93.2 - 95.0 * 2.0 / 27.1)).abs() < 0.1, "{rating:?}");
    }

    #[test]
    fn nothing_received_has_no_rating() {
        let totals = Totals::default();
        let report = report(&totals, &totals, Some(Impairment::G711), 0, None, None, 20_000);
        assert_eq!(report.rating, None);
        assert_eq!(report.loss_percent, 0.0);
    }
}

//! What is counted about one received stream: RFC 3550 Appendices A.1 (sequence), A.3 (loss) and A.8 (jitter).

use super::packet::Header;
use super::rtcp::Reception;

/// A step of the sequence number above this is not loss but another stream (A.1).
const MAX_DROPOUT: u16 = 3000;
/// Packets out of order by less than this are late (A.1).
const MAX_MISORDER: u16 = 100;

/// What the sequence number says about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// In order, perhaps after a gap.
    InOrder,
    /// Late, or a copy.
    OutOfOrder,
    /// A wild number: dropped, unless the next one follows it.
    Wild,
    /// The second after a wild one: the sender has begun again. Begin with a new [`Stream`]; this one keeps its counts.
    Restarted,
}

/// Counts of one stream.
#[derive(Clone, Debug)]
pub struct Stream {
    ssrc: u32,
    highest: u16,
    cycles: u32,
    base: u32,
    wild: Option<u16>,
    received: u64,
    expected_reported: u64,
    received_reported: u64,
    /// Interarrival jitter ×16, in units of the time stamp.
    jitter: u32,
    clock_rate: u32,
    last: Option<(u64, u32)>,
    /// Packets never seen before the next one came; late ones are not taken off again.
    gaps: u64,
    gap_packets: u64,
    /// Middle of the NTP time stamp of the last sender report, and when it came.
    report: Option<(u32, u64)>,
}

impl Stream {
    /// A stream that begins with this packet, which is to be handled next.
    pub fn new(header: &Header) -> Stream {
        Stream {
            ssrc: header.ssrc,
            highest: header.sequence.wrapping_sub(1),
            cycles: 0,
            base: u32::from(header.sequence),
            wild: None,
            received: 0,
            expected_reported: 0,
            received_reported: 0,
            jitter: 0,
            clock_rate: 0,
            last: None,
            gaps: 0,
            gap_packets: 0,
            report: None,
        }
    }

    /// The stream's source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Takes in the sequence number of a packet (A.1).
    pub fn handle_sequence(&mut self, sequence: u16) -> Verdict {
        let step = sequence.wrapping_sub(self.highest);
        if step == 0 || step > u16::MAX - MAX_MISORDER {
            if self.received > 0 {
                self.received += 1;
                return Verdict::OutOfOrder;
            }
        } else if step >= MAX_DROPOUT {
            if self.wild != Some(sequence) {
                self.wild = Some(sequence.wrapping_add(1));
                return Verdict::Wild;
            }
            return Verdict::Restarted;
        }
        if sequence < self.highest && self.received > 0 {
            self.cycles = self.cycles.wrapping_add(1);
        }
        if step > 1 && self.received > 0 {
            self.gaps += 1;
            self.gap_packets += u64::from(step) - 1;
        }
        self.highest = sequence;
        self.received += 1;
        self.wild = None;
        Verdict::InOrder
    }

    /// Takes in arrival and time stamp of a packet of media (A.8).
    pub fn handle_timing(&mut self, at_us: u64, timestamp: u32, clock_rate: u32) {
        if self.clock_rate != clock_rate {
            self.clock_rate = clock_rate;
            self.last = None;
        }
        if let Some((last_at_us, last_timestamp)) = self.last {
            let elapsed_us = at_us as i64 - last_at_us as i64;
            let elapsed = elapsed_us * i64::from(clock_rate) / 1_000_000;
            let difference =
                (elapsed - i64::from(timestamp.wrapping_sub(last_timestamp) as i32)).unsigned_abs();
            // A leap of the sender's time stamp is not jitter of the network.
            if difference < u64::from(clock_rate) {
                let difference = difference as u32;
                self.jitter = self.jitter.saturating_add(difference).saturating_sub((self.jitter + 8) >> 4);
            }
        }
        self.last = Some((at_us, timestamp));
    }

    /// Notes a sender report of this stream.
    pub fn handle_sender_report(&mut self, now_us: u64, ntp: u64) {
        self.report = Some(((ntp >> 16) as u32, now_us));
    }

    /// Packets that should have come.
    pub fn expected(&self) -> u64 {
        if self.received == 0 {
            return 0;
        }
        (u64::from(self.cycles) << 16 | u64::from(self.highest)).saturating_sub(u64::from(self.base)) + 1
    }

    /// Packets that came, copies included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Expected and not received; never negative.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Runs of missing packets, and how many packets were in them, before anything late came in.
    pub fn gaps(&self) -> (u64, u64) {
        (self.gaps, self.gap_packets)
    }

    /// Interarrival jitter in microseconds.
    pub fn jitter_us(&self) -> u32 {
        let units = u64::from(self.jitter >> 4);
        (units * 1_000_000).checked_div(u64::from(self.clock_rate)).unwrap_or(0) as u32
    }

    /// The reception block for the next report; counts a new interval from here (A.3).
    pub fn report(&mut self, now_us: u64) -> Reception {
        let expected = self.expected();
        let expected_now = expected.saturating_sub(self.expected_reported);
        let received_now = self.received.saturating_sub(self.received_reported);
        self.expected_reported = expected;
        self.received_reported = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last_report, since_last_report) = match self.report {
            Some((middle, at_us)) => {
                let since_us = u128::from(now_us.saturating_sub(at_us));
                (middle, u32::try_from((since_us << 16) / 1_000_000).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        let lost = expected as i64 - self.received as i64;
        Reception {
            ssrc: self.ssrc,
            fraction_lost,
            lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.cycles << 16 | u32::from(self.highest),
            jitter: self.jitter >> 4,
            last_report,
            since_last_report,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sequence: u16) -> Stream {
        let mut stream = Stream::new(&Header { sequence, ssrc: 5, ..Header::default() });
        assert_eq!(stream.handle_sequence(sequence), Verdict::InOrder);
        stream
    }

    #[test]
    fn loss_is_counted_across_the_wrap() {
        let mut stream = stream(65_530);
        for i in 1..20_u16 {
            if i != 8 && i != 9 {
                assert_eq!(stream.handle_sequence(65_530_u16.wrapping_add(i)), Verdict::InOrder);
            }
        }
        assert_eq!((stream.expected(), stream.received(), stream.lost()), (20, 18, 2));
        assert_eq!(stream.gaps(), (1, 2));
        let report = stream.report(0);
        assert_eq!((report.lost, report.fraction_lost), (2, 25));
        assert_eq!(report.highest_sequence, 0x1_000d);
        assert_eq!(stream.report(0).fraction_lost, 0, "a new interval");
    }

    #[test]
    fn late_packets_and_copies_do_not_move_the_highest() {
        let mut stream = stream(10);
        assert_eq!(stream.handle_sequence(12), Verdict::InOrder);
        assert_eq!(stream.handle_sequence(11), Verdict::OutOfOrder);
        assert_eq!(stream.handle_sequence(12), Verdict::OutOfOrder);
        assert_eq!(stream.expected(), 3);
        assert_eq!(stream.report(0).lost, -1, "a copy makes it negative");
        assert_eq!(stream.lost(), 0);
    }

    #[test]
    fn one_wild_number_is_dropped_and_two_begin_anew() {
        let mut stream = stream(10);
        assert_eq!(stream.handle_sequence(40_000), Verdict::Wild);
        assert_eq!(stream.handle_sequence(11), Verdict::InOrder);
        assert_eq!(stream.handle_sequence(40_001), Verdict::Wild);
        assert_eq!(stream.handle_sequence(40_002), Verdict::Restarted);
        assert_eq!((stream.expected(), stream.lost()), (2, 0));
    }

    #[test]
    fn jitter_follows_the_formula_of_the_standard() {
        let mut stream = stream(0);
        // Every other packet is 8 ms late: |D| is 64 units of 8 kHz each time, and the mean goes there.
        for i in 0..400_u32 {
            let late_us = u64::from(i % 2) * 8_000;
            stream.handle_timing(u64::from(i) * 20_000 + late_us, i * 160, 8_000);
        }
        assert!((7_800..=8_000).contains(&stream.jitter_us()), "{}", stream.jitter_us());
        let before = stream.jitter_us();
        stream.handle_timing(400 * 20_000, 3_000_000_000, 8_000);
        assert_eq!(stream.jitter_us(), before, "a leap is not jitter");
    }

    #[test]
    fn a_report_tells_when_the_last_one_came() {
        let mut stream = stream(0);
        assert_eq!(stream.report(7).last_report, 0);
        stream.handle_sender_report(1_000_000, 0x1111_2222_3333_4444);
        let report = stream.report(1_500_000);
        assert_eq!(report.last_report, 0x2222_3333);
        assert_eq!(report.since_last_report, 0x8000);
    }
}

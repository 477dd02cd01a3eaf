//! Our own stream: its source, sequence numbers and time stamps, and what a sender report says about it.

use super::packet::Header;
use super::rtcp::SenderInfo;
use crate::chance::Chance;
use crate::now::Now;

/// Microseconds from 1900 (NTP) to 1970.
const NTP_TO_UNIX_US: i64 = 2_208_988_800_000_000;

/// The stream that is sent.
#[derive(Debug)]
pub struct Sender {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    clock_rate: u32,
    packets: u64,
    bytes: u64,
    /// Both counts when the present source began, which a sender report counts from.
    began: (u64, u64),
    /// Packets sent when the last report was made, and when the one before it was.
    reported: [u64; 2],
    /// Monotonic time at which `timestamp` was current.
    stamped_us: Option<u64>,
    /// Silence lies before the next packet: it begins a talkspurt.
    fresh: bool,
    /// UTC minus monotonic time in microseconds when the session began. The clock may be set later, NTP stamps go on.
    utc_offset_us: i64,
}

impl Sender {
    /// A stream with random source, time stamp and sequence number (RFC 3550 §5.1). The latter is below 2¹⁵, so that
    /// SRTP receivers cannot lose a turn in the first packets (RFC 3711 §3.3.1).
    pub fn new(now: Now, chance: &mut Chance) -> Sender {
        let utc_offset_us = now.utc_us.saturating_sub(now.mono_us as i64);
        let mut sender = Sender {
            ssrc: 0,
            sequence: 0,
            timestamp: 0,
            clock_rate: 8000,
            packets: 0,
            bytes: 0,
            began: (0, 0),
            reported: [0; 2],
            stamped_us: None,
            fresh: true,
            utc_offset_us,
        };
        sender.restart(chance);
        sender
    }

    /// Another source from now on: after a collision, or with a new SRTP context.
    pub fn restart(&mut self, chance: &mut Chance) {
        self.ssrc = chance.next_u32();
        self.sequence = (chance.next_u32() & 0x7fff) as u16;
        self.timestamp = chance.next_u32();
        self.began = (self.packets, self.bytes);
        self.stamped_us = None;
        self.fresh = true;
    }

    /// Our source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The time stamp of the next packet.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Clock rate of what was sent last, in Hz.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Packets and payload bytes sent since the session began.
    pub fn sent(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }

    /// The header of the next packet, which covers `samples` units of `clock_rate`. `at` gives the time stamp of a
    /// telephone event, which stays behind that of the stream; its `marker` is taken as it is.
    pub fn next(
        &mut self,
        now_us: u64,
        payload_type: u8,
        samples: u32,
        clock_rate: u32,
        event: Option<(u32, bool)>,
    ) -> Header {
        let (timestamp, marker) = match event {
            Some(event) => event,
            None => (self.timestamp, std::mem::take(&mut self.fresh)),
        };
        let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        self.sequence = self.sequence.wrapping_add(1);
        self.stamped_us = Some(now_us);
        self.clock_rate = clock_rate;
        self.timestamp = self.timestamp.wrapping_add(samples);
        header
    }

    /// Counts a packet that went out.
    pub fn count(&mut self, payload_bytes: usize) {
        self.packets += 1;
        self.bytes += payload_bytes as u64;
    }

    /// Time passes without a packet, `samples` units of `clock_rate`: the time stamp goes on, and the next packet begins a
    /// talkspurt.
    pub fn skip(&mut self, samples: u32, clock_rate: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
        let us = u64::from(samples) * 1_000_000 / u64::from(clock_rate.max(1));
        self.stamped_us = self.stamped_us.map(|stamped_us| stamped_us + us);
        self.fresh = true;
    }

    /// NTP time stamp of a moment, 32.32 bits.
    pub fn ntp(&self, now_us: u64) -> u64 {
        let us =
            (now_us as i64).saturating_add(self.utc_offset_us).saturating_add(NTP_TO_UNIX_US).max(0) as u64;
        let fraction = ((us % 1_000_000) << 32) / 1_000_000;
        (us / 1_000_000) << 32 | fraction
    }

    /// The sender's part of the next report; `None` if nothing was sent since the report before the last one
    /// (RFC 3550 §6.4).
    pub fn report(&mut self, now_us: u64) -> Option<SenderInfo> {
        let [last, before] = self.reported;
        self.reported = [self.packets, last];
        self.info(now_us).filter(|_| self.packets != before)
    }

    /// Where the stream is; `None` if nothing was sent.
    fn info(&self, now_us: u64) -> Option<SenderInfo> {
        let stamped_us = self.stamped_us?;
        // The clock that the time stamp follows may be a little ahead of ours.
        let since = (now_us as i64 - stamped_us as i64) * i64::from(self.clock_rate) / 1_000_000;
        Some(SenderInfo {
            ntp: self.ntp(now_us),
            rtp: self.timestamp.wrapping_add(since as u32),
            packets: (self.packets - self.began.0) as u32,
            bytes: (self.bytes - self.began.1) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_us: 5_000_000, utc_us: 1_000_000_000_000_000 };

    #[test]
    fn packets_count_up_and_silence_sets_the_marker() {
        let mut sender = Sender::new(NOW, &mut Chance::from_number(3));
        let first = sender.next(0, 8, 160, 8000, None);
        let second = sender.next(0, 8, 160, 8000, None);
        assert!(first.marker && !second.marker);
        assert_eq!(second.sequence, first.sequence.wrapping_add(1));
        assert_eq!(second.timestamp, first.timestamp.wrapping_add(160));
        sender.skip(320, 8000);
        let third = sender.next(0, 8, 160, 8000, None);
        assert!(third.marker);
        assert_eq!(third.timestamp, second.timestamp.wrapping_add(480));
        assert_eq!(third.sequence, second.sequence.wrapping_add(1));
    }

    #[test]
    fn beginnings_are_random_and_start_in_the_lower_half() {
        let mut chance = Chance::from_number(4);
        let mut sender = Sender::new(NOW, &mut chance);
        for _ in 0..200 {
            let before = (sender.ssrc(), sender.timestamp());
            assert!(sender.sequence < 0x8000);
            sender.restart(&mut chance);
            assert_ne!((sender.ssrc(), sender.timestamp()), before);
        }
    }

    #[test]
    fn reports_speak_ntp_and_the_streams_own_clock() {
        let mut sender = Sender::new(NOW, &mut Chance::from_number(3));
        assert_eq!(sender.info(5_000_000), None);
        let header = sender.next(5_000_000, 8, 160, 8000, None);
        sender.count(160);
        let info = sender.info(5_500_000).unwrap();
        assert_eq!(info.ntp >> 32, 1_000_000_000 + 2_208_988_800);
        assert_eq!(info.ntp as u32, 0x8000_0000);
        assert_eq!(info.rtp, header.timestamp.wrapping_add(160 + 4000));
        assert_eq!((info.packets, info.bytes), (1, 160));
    }

    #[test]
    fn reports_during_a_pause_name_the_moment_of_the_stream() {
        let mut sender = Sender::new(NOW, &mut Chance::from_number(3));
        let header = sender.next(5_000_000, 8, 160, 8000, None);
        sender.count(160);
        // Ten minutes on hold, the last of them with a codec of another clock.
        (0..27_000).for_each(|_| sender.skip(160, 8000));
        (0..3_000).for_each(|_| sender.skip(960, 48_000));
        let passed = 160 + 540 * 8000 + 60 * 48_000;
        let info = sender.info(605_000_000).unwrap();
        assert_eq!(info.rtp, header.timestamp.wrapping_add(passed));
        assert_eq!(sender.info(605_500_000).unwrap().rtp, info.rtp.wrapping_add(4000));
    }
}

//! The guarded latch of symmetric RTP (RFC 4961): whose packets are taken, and where ours are sent.
//!
//! The address in SDP is what is expected. Behind a NAT packets come from another one, so the first good source is
//! taken after a short probation; from then on it can be replaced only by the expected one, after silence and
//! probation, or by packets that SRTP has authenticated. What comes exactly from where SDP says waits for neither. One
//! that came from where SDP said gives way to no stranger, however long it is silent: there is no NAT that could have
//! moved it. Every offer and answer re-arms the latch.

use std::net::{IpAddr, SocketAddr};

/// Packets in sequence that an unexpected source must send.
const PROBATION_PACKETS: u8 = 4;
/// Silence of the present source before another one may replace it, in microseconds.
const SILENCE_US: u64 = 500_000;
/// Silence of everybody before the source that an offer or answer replaced may come back, in microseconds.
const STALE_US: u64 = 3_000_000;

/// What the latch says about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is from the present source.
    Accept,
    /// It is from a new source, which is the present one from now on.
    Moved,
    /// It is from somebody else.
    Refuse,
}

/// What SDP and signalling let expect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expectation {
    /// Address and port of SDP; `None` if there is none (port 0, or 0.0.0.0).
    pub media: Option<SocketAddr>,
    /// Where the signalling comes from: often the better guess behind a NAT.
    pub signalling: Option<IpAddr>,
    /// Whether another source than `media` may be taken at all.
    pub symmetric: bool,
}

impl Expectation {
    /// Whether a source matches without probation.
    fn matches(&self, from: SocketAddr) -> bool {
        match self.media {
            Some(media) if !self.symmetric => media == from,
            Some(media) if media.ip() == from.ip() => true,
            _ => self.symmetric && self.signalling == Some(from.ip()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Probation {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    packets: u8,
}

/// The latch of one session.
#[derive(Debug, Default)]
pub struct Latch {
    expected: Expectation,
    source: Option<SocketAddr>,
    /// Replaced by the last offer or answer; what it still sends is stale.
    stale: Option<SocketAddr>,
    /// Another address of SDP, and who was behind it: when SDP comes back to it, so does the source.
    before: Option<(SocketAddr, SocketAddr)>,
    heard_us: u64,
    probation: Option<Probation>,
}

impl Latch {
    /// An offer or answer has said what to expect. The present source stays if it still fits.
    pub fn arm(&mut self, now_us: u64, expected: Expectation) {
        if self.expected.media != expected.media {
            let left = self.source.take();
            self.source = self.before.filter(|(media, _)| Some(*media) == expected.media).map(|pair| pair.1);
            if let Some(pair) = self.expected.media.zip(left) {
                self.before = Some(pair);
            }
            // Where SDP told the truth about the source so far, its new word is believed too: the PBX that leaves the
            // path (direct media) still sends for a moment, and must not be taken for the one who comes, though it is
            // where the signalling comes from.
            let was_told =
                |source: SocketAddr| self.expected.media.is_some_and(|media| media.ip() == source.ip());
            let is_told = |source: SocketAddr| expected.media.is_some_and(|media| media.ip() == source.ip());
            // To the port it is believed only where the source had the one that SDP named: another one is of a NAT, and such
            // a source may stay when SDP changes.
            self.stale = left.or(self.stale).filter(|stale| {
                let had_its_port = [self.expected.media, self.stale].contains(&Some(*stale));
                let is_left = !is_told(*stale) || had_its_port && expected.media != Some(*stale);
                (was_told(*stale) && is_left || !expected.matches(*stale)) && self.source != Some(*stale)
            });
        }
        self.expected = expected;
        self.probation = None;
        self.heard_us = now_us;
    }

    /// Judges a well-formed packet of a known payload type. `authenticated` if SRTP vouches for it.
    pub fn check(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        ssrc: u32,
        sequence: u16,
        authenticated: bool,
    ) -> Verdict {
        let verdict = self.judge(now_us, from, ssrc, sequence, authenticated);
        if verdict != Verdict::Refuse {
            self.heard_us = now_us;
            self.source = Some(from);
            self.probation = None;
        }
        if verdict == Verdict::Moved {
            self.stale = None;
        }
        verdict
    }

    fn judge(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        ssrc: u32,
        sequence: u16,
        authenticated: bool,
    ) -> Verdict {
        if self.source == Some(from) {
            return Verdict::Accept;
        }
        if authenticated {
            return Verdict::Moved;
        }
        let silence_us = now_us.saturating_sub(self.heard_us);
        if self.stale == Some(from) && silence_us < STALE_US {
            return Verdict::Refuse;
        }
        let matches = self.expected.matches(from);
        match self.source {
            None if matches => return Verdict::Moved,
            // Somebody was taken for want of the expected one, which has come now.
            Some(source) if matches && !self.expected.matches(source) => return Verdict::Moved,
            // Another port or host that fits was taken: a guess, beside the address itself.
            Some(_) if self.expected.media == Some(from) => return Verdict::Moved,
            _ if !self.expected.symmetric => return Verdict::Refuse,
            Some(source) if !matches && self.is_where_sdp_said(source) => return Verdict::Refuse,
            Some(_) if silence_us < SILENCE_US => {
                self.probation = None;
                return Verdict::Refuse;
            }
            _ => {}
        }
        let packets = match self.probation {
            Some(p) if p.from == from && p.ssrc == ssrc && p.sequence.wrapping_add(1) == sequence => {
                p.packets + 1
            }
            _ => 1,
        };
        self.probation = Some(Probation { from, ssrc, sequence, packets });
        if packets >= PROBATION_PACKETS { Verdict::Moved } else { Verdict::Refuse }
    }

    fn is_where_sdp_said(&self, source: SocketAddr) -> bool {
        self.expected.media.is_some_and(|media| media.ip() == source.ip())
    }

    /// A handshake has proved that the peer is there: it is the source from now on. True if that is news.
    pub fn confirm(&mut self, now_us: u64, from: SocketAddr) -> bool {
        self.check(now_us, from, 0, 0, true) == Verdict::Moved
    }

    /// Whether this is the present source, or one that needs no probation.
    pub fn expects(&self, from: SocketAddr) -> bool {
        self.source == Some(from) || self.expected.matches(from)
    }

    /// Where to send: to the present source, else to where SDP says.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.source.or(self.expected.media)
    }

    /// The present source.
    pub fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// Whether RTCP from this address may be believed without authentication: it must be the host of the media.
    pub fn vouches_for(&self, from: SocketAddr) -> bool {
        match self.source {
            Some(source) => source.ip() == from.ip(),
            None => self.expected.media.is_some_and(|media| media.ip() == from.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn expecting(media: &str) -> Expectation {
        Expectation { media: Some(at(media)), signalling: None, symmetric: true }
    }

    fn armed(media: &str) -> Latch {
        let mut latch = Latch::default();
        latch.arm(0, expecting(media));
        latch
    }

    /// Packets of one source, 20 ms apart; the last verdict.
    fn talks(latch: &mut Latch, from: &str, ssrc: u32, from_ms: u64, packets: u16) -> Verdict {
        (0..packets)
            .map(|i| latch.check((from_ms + u64::from(i) * 20) * MS, at(from), ssrc, i, false))
            .last()
            .unwrap()
    }

    #[test]
    fn the_expected_host_is_taken_at_once_from_any_port() {
        let mut latch = armed("192.0.2.1:4000");
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
        assert_eq!(talks(&mut latch, "192.0.2.1:4002", 1, 0, 1), Verdict::Moved);
        assert_eq!(talks(&mut latch, "192.0.2.1:4002", 1, 20, 1), Verdict::Accept);
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4002")));
    }

    #[test]
    fn a_pbx_that_leaves_the_path_is_not_taken_for_the_one_who_comes() {
        let mut latch = Latch::default();
        let signalling = Some("203.0.113.10".parse().unwrap());
        latch.arm(0, Expectation { signalling, ..expecting("203.0.113.10:10000") });
        assert_eq!(talks(&mut latch, "203.0.113.10:10000", 1, 0, 20), Verdict::Accept);
        latch.arm(400 * MS, Expectation { signalling, ..expecting("203.0.113.50:20000") });
        assert_eq!(
            talks(&mut latch, "203.0.113.10:10000", 1, 410, 10),
            Verdict::Refuse,
            "what was on its way"
        );
        assert_eq!(latch.destination(), Some(at("203.0.113.50:20000")));
        assert_eq!(talks(&mut latch, "203.0.113.50:20000", 2, 620, 1), Verdict::Moved);
        latch.arm(900 * MS, Expectation { signalling, ..expecting("203.0.113.10:10000") });
        assert_eq!(talks(&mut latch, "203.0.113.10:10000", 1, 910, 1), Verdict::Accept, "back at the PBX");
    }

    #[test]
    fn a_peer_behind_a_nat_is_taken_after_probation() {
        let mut latch = armed("10.0.0.5:4000");
        assert_eq!(talks(&mut latch, "203.0.113.9:999", 1, 0, 3), Verdict::Refuse);
        assert_eq!(latch.check(60 * MS, at("203.0.113.9:999"), 1, 3, false), Verdict::Moved);
        let mut latch = Latch::default();
        let signalling = Some("203.0.113.9".parse().unwrap());
        latch.arm(0, Expectation { signalling, ..expecting("10.0.0.5:4000") });
        assert_eq!(talks(&mut latch, "203.0.113.9:999", 1, 0, 1), Verdict::Moved);
    }

    #[test]
    fn a_third_party_never_steals_a_stream() {
        let mut latch = armed("192.0.2.1:4000");
        for i in 0..500 {
            let now = u64::from(i) * 20 * MS;
            assert_ne!(latch.check(now, at("192.0.2.1:4000"), 1, i, false), Verdict::Refuse);
            assert_eq!(latch.check(now + MS, at("198.51.100.7:4000"), 1, i + 1, false), Verdict::Refuse);
            assert_eq!(latch.check(now + MS, at("192.0.2.1:4004"), 1, i + 1, false), Verdict::Refuse);
        }
        assert_eq!(latch.source(), Some(at("192.0.2.1:4000")));
    }

    #[test]
    fn one_who_came_first_gives_way_to_the_expected_one() {
        let mut latch = armed("192.0.2.1:4000");
        assert_eq!(talks(&mut latch, "198.51.100.7:1", 9, 0, 10), Verdict::Accept);
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 210, 1), Verdict::Moved);
        assert_eq!(talks(&mut latch, "198.51.100.7:1", 9, 220, 10), Verdict::Refuse);
    }

    #[test]
    fn after_silence_another_source_must_prove_itself() {
        let mut latch = armed("10.0.0.5:4000");
        talks(&mut latch, "203.0.113.9:999", 1, 0, 50);
        assert_eq!(talks(&mut latch, "198.51.100.7:1", 9, 1_000, 20), Verdict::Refuse, "too early");
        for i in 0..10 {
            // Not in sequence: a scanner, not a stream.
            assert_eq!(latch.check(3_000 * MS, at("198.51.100.7:1"), 9, i * 7, false), Verdict::Refuse);
        }
        assert_eq!(talks(&mut latch, "198.51.100.7:1", 9, 3_100, 4), Verdict::Moved);
    }

    #[test]
    fn one_from_where_sdp_said_may_be_silent_without_being_replaced() {
        let mut latch = armed("192.0.2.1:4000");
        talks(&mut latch, "192.0.2.1:4000", 1, 0, 50);
        assert_eq!(talks(&mut latch, "198.51.100.7:1", 9, 1_000, 500), Verdict::Refuse);
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
        // The same host at another port is the PBX that has opened another one.
        assert_eq!(talks(&mut latch, "192.0.2.1:4008", 2, 11_000, 4), Verdict::Moved);
    }

    #[test]
    fn authenticated_packets_move_at_once() {
        let mut latch = armed("192.0.2.1:4000");
        talks(&mut latch, "192.0.2.1:4000", 1, 0, 50);
        assert_eq!(latch.check(1_000 * MS, at("203.0.113.9:5"), 1, 50, true), Verdict::Moved);
        assert_eq!(latch.destination(), Some(at("203.0.113.9:5")));
    }

    #[test]
    fn an_answer_with_another_address_makes_the_old_source_stale() {
        let mut latch = armed("192.0.2.1:4000");
        talks(&mut latch, "192.0.2.1:4000", 1, 0, 50);
        latch.arm(1_000 * MS, expecting("192.0.2.2:5000"));
        assert_eq!(latch.destination(), Some(at("192.0.2.2:5000")));
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 1_000, 40), Verdict::Refuse);
        assert_eq!(talks(&mut latch, "192.0.2.2:5000", 2, 1_800, 1), Verdict::Moved);
        // And back to the PBX.
        latch.arm(3_000 * MS, expecting("192.0.2.1:4000"));
        assert_eq!(talks(&mut latch, "192.0.2.2:5000", 2, 3_000, 40), Verdict::Refuse);
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 3_800, 1), Verdict::Accept);
    }

    #[test]
    fn hold_without_an_address_and_resume_find_the_source_again() {
        for (sdp, source) in [("192.0.2.1:4000", "192.0.2.1:4000"), ("10.0.0.5:4000", "203.0.113.9:999")] {
            let mut latch = armed(sdp);
            talks(&mut latch, source, 1, 0, 10);
            latch.arm(1_000 * MS, Expectation { media: None, ..expecting(sdp) });
            assert_eq!(latch.destination(), None);
            assert_eq!(talks(&mut latch, source, 1, 1_000, 10), Verdict::Refuse);
            latch.arm(2_000 * MS, expecting(sdp));
            assert_eq!(talks(&mut latch, source, 1, 2_000, 1), Verdict::Accept);
            assert_eq!(latch.destination(), Some(at(source)));
        }
    }

    #[test]
    fn an_answer_with_the_same_address_leaves_the_source() {
        let mut latch = armed("10.0.0.5:4000");
        talks(&mut latch, "203.0.113.9:999", 1, 0, 10);
        latch.arm(1_000 * MS, expecting("10.0.0.5:4000"));
        assert_eq!(talks(&mut latch, "203.0.113.9:999", 1, 1_000, 1), Verdict::Accept);
    }

    #[test]
    fn without_symmetric_rtp_only_the_address_of_sdp_counts() {
        let mut latch = Latch::default();
        latch.arm(0, Expectation { symmetric: false, ..expecting("192.0.2.1:4000") });
        assert_eq!(talks(&mut latch, "192.0.2.1:4002", 1, 0, 50), Verdict::Refuse);
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 0, 1), Verdict::Moved);
        assert!(latch.vouches_for(at("192.0.2.1:4001")));
        assert!(!latch.vouches_for(at("192.0.2.9:4001")));
    }

    #[test]
    fn a_straggler_from_the_port_that_sdp_left_is_not_the_new_source() {
        let mut latch = armed("192.0.2.1:4000");
        talks(&mut latch, "192.0.2.1:4000", 1, 0, 50);
        latch.arm(1_000 * MS, expecting("192.0.2.1:5000"));
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 1_000, 5), Verdict::Refuse);
        assert_eq!(latch.destination(), Some(at("192.0.2.1:5000")));
        // Nobody has come yet when SDP names a third port.
        latch.arm(1_100 * MS, expecting("192.0.2.1:6000"));
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 1_100, 5), Verdict::Refuse);
        assert_eq!(talks(&mut latch, "192.0.2.1:6000", 2, 1_200, 1), Verdict::Moved);
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 1_220, 1), Verdict::Refuse);
        latch.arm(2_000 * MS, expecting("192.0.2.1:4000"));
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 1, 2_000, 1), Verdict::Accept, "SDP names it again");
    }

    #[test]
    fn the_address_of_sdp_itself_need_not_wait_for_the_silence_of_another_port_of_its_host() {
        let mut latch = armed("192.0.2.1:4000");
        assert_eq!(talks(&mut latch, "192.0.2.1:4002", 1, 0, 10), Verdict::Accept);
        assert_eq!(talks(&mut latch, "192.0.2.1:4000", 2, 200, 1), Verdict::Moved);
        assert_eq!(talks(&mut latch, "192.0.2.1:4002", 1, 210, 1), Verdict::Refuse);
        assert_eq!(latch.destination(), Some(at("192.0.2.1:4000")));
    }

    #[test]
    fn a_source_that_never_was_where_sdp_said_keeps_its_port_when_that_of_sdp_changes() {
        let mut latch = armed("203.0.113.9:4000");
        talks(&mut latch, "203.0.113.9:61000", 1, 0, 50);
        latch.arm(1_000 * MS, expecting("203.0.113.9:5000"));
        assert_eq!(talks(&mut latch, "203.0.113.9:61000", 1, 1_000, 1), Verdict::Moved);
        assert_eq!(talks(&mut latch, "203.0.113.9:61000", 1, 1_020, 1), Verdict::Accept);
    }
}

//! RTCP (RFC 3550 §6) with the VoIP metrics of RTCP XR (RFC 3611 §4.7): compound packets read and written.

use thiserror::Error;

use super::packet::MAX_PACKET;

/// The longest CNAME that is written or kept, in bytes (RFC 3550 §6.5 allows 255).
pub const MAX_CNAME: usize = 64;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;
const XR_VOIP_METRICS: u8 = 7;
const SDES_CNAME: u8 = 1;

/// Why some bytes are not RTCP. The sender is to blame, the datagram is dropped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadRtcp {
    /// A length in it points past the end, or it is empty.
    #[error("the peer sent an RTCP packet whose lengths do not add up; it is dropped")]
    Length,
    /// Not version 2, or not a packet type of RTCP.
    #[error("the peer sent something that is not RTCP; it is dropped")]
    NotRtcp,
}

/// The sender's part of a sender report (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderInfo {
    /// When the report was made: NTP time stamp, 32.32 bits.
    pub ntp: u64,
    /// The same moment in the units of the RTP time stamp.
    pub rtp: u32,
    /// Packets sent since the start of the stream.
    pub packets: u32,
    /// Payload bytes sent since the start of the stream.
    pub bytes: u32,
}

/// One reception report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reception {
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Loss since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start, negative with duplicates; 24 bits on the wire.
    pub lost: i32,
    /// Highest sequence number received, with the count of wraps in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the RTP time stamp.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time stamp of the last sender report; 0 if there was none.
    pub last_report: u32,
    /// Time between that report's arrival and now, in 1/65536 s.
    pub since_last_report: u32,
}

/// The VoIP metrics block of RTCP XR (RFC 3611 §4.7). 127 and 65535 mean "unavailable" where the RFC says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VoipMetrics {
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Packets lost by the network, in 1/256.
    pub loss_rate: u8,
    /// Packets discarded by the jitter buffer, in 1/256.
    pub discard_rate: u8,
    /// Share of lost and discarded packets within bursts, in 1/256.
    pub burst_density: u8,
    /// The same within gaps.
    pub gap_density: u8,
    /// Mean length of bursts, in ms.
    pub burst_ms: u16,
    /// Mean length of gaps, in ms.
    pub gap_ms: u16,
    /// Round trip by RTCP, in ms.
    pub round_trip_ms: u16,
    /// Delay of both end systems, in ms.
    pub end_system_ms: u16,
    /// Signal level in dBm0 (two's complement), 127 if unknown.
    pub signal_level: u8,
    /// Noise level in dBm0 (two's complement), 127 if unknown.
    pub noise_level: u8,
    /// Residual echo return loss in dB, 127 if unknown.
    pub echo_return_loss: u8,
    /// Gmin; 16 is recommended.
    pub gmin: u8,
    /// R factor, 127 if unknown.
    pub r_factor: u8,
    /// External R factor, 127 if unknown.
    pub external_r_factor: u8,
    /// MOS-LQ × 10, 127 if unknown.
    pub mos_lq: u8,
    /// MOS-CQ × 10, 127 if unknown.
    pub mos_cq: u8,
    /// Receiver configuration: concealment, jitter buffer's kind and rate.
    pub configuration: u8,
    /// Nominal delay of the jitter buffer, in ms.
    pub buffer_nominal_ms: u16,
    /// Its present maximum, in ms.
    pub buffer_maximum_ms: u16,
    /// Its absolute maximum, in ms.
    pub buffer_ceiling_ms: u16,
}

impl VoipMetrics {
    /// `configuration` of a receiver with enhanced concealment and an adaptive jitter buffer (§4.7.6).
    pub const ADAPTIVE: u8 = 0b1011_0000;
}

/// One packet of a compound, as far as this program has a use for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Item<'a> {
    /// SR.
    SenderReport {
        /// Who sends the report.
        ssrc: u32,
        /// What it has sent.
        info: SenderInfo,
        /// What it has received.
        receptions: Receptions<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Who sends the report.
        ssrc: u32,
        /// What it has received.
        receptions: Receptions<'a>,
    },
    /// The CNAME of the first chunk of an SDES.
    Cname {
        /// Whose name it is.
        ssrc: u32,
        /// The name, not necessarily UTF-8.
        name: &'a [u8],
    },
    /// BYE of one stream (the first, if it names several).
    Bye {
        /// The stream that ends.
        ssrc: u32,
        /// Why, if it says so.
        reason: &'a [u8],
    },
    /// XR VoIP metrics.
    Voip {
        /// Who sends the report.
        ssrc: u32,
        /// The metrics.
        metrics: VoipMetrics,
    },
    /// APP, feedback, other XR blocks and whatever comes next: skipped.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// The reception blocks of one report; at most 31.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Receptions<'a>(&'a [u8]);

impl Iterator for Receptions<'_> {
    type Item = Reception;

    fn next(&mut self) -> Option<Reception> {
        let (block, rest) = self.0.split_first_chunk::<24>()?;
        self.0 = rest;
        let word = |at: usize| word(block, at).unwrap_or(0);
        let lost = word(4);
        Some(Reception {
            ssrc: word(0),
            fraction_lost: (lost >> 24) as u8,
            lost: ((lost << 8) as i32) >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_report: word(16),
            since_last_report: word(20),
        })
    }
}

/// The packets of one compound, in order. Made by [`read`], which has checked every length.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

/// Reads a compound packet, or a single one (RFC 5506).
///
/// # Errors
/// [`BadRtcp`] if the bytes are not a chain of whole RTCP packets.
pub fn read(datagram: &[u8]) -> Result<Compound<'_>, BadRtcp> {
    if datagram.is_empty() || datagram.len() > MAX_PACKET {
        return Err(BadRtcp::Length);
    }
    let mut rest = datagram;
    while !rest.is_empty() {
        rest = split(rest)?.1;
    }
    Ok(Compound { rest: datagram })
}

type Split<'a> = ((u8, u8, &'a [u8]), &'a [u8]);

/// The first packet of a chain as (count, type, body without padding), and what follows it.
fn split(chain: &[u8]) -> Result<Split<'_>, BadRtcp> {
    let ([first, packet_type, l0, l1], _) = chain.split_first_chunk::<4>().ok_or(BadRtcp::Length)?;
    if first >> 6 != 2 || !(192..=223).contains(packet_type) {
        return Err(BadRtcp::NotRtcp);
    }
    let length = (usize::from(u16::from_be_bytes([*l0, *l1])) + 1) * 4;
    let (packet, rest) = chain.split_at_checked(length).ok_or(BadRtcp::Length)?;
    let mut body = packet.get(4..).ok_or(BadRtcp::Length)?;
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(BadRtcp::Length)?);
        let kept = body.len().checked_sub(padding).ok_or(BadRtcp::Length)?;
        body = body.get(..kept).ok_or(BadRtcp::Length)?;
    }
    Ok(((first & 0x1f, *packet_type, body), rest))
}

impl<'a> Iterator for Compound<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let ((count, packet_type, body), rest) = split(self.rest).ok()?;
        self.rest = rest;
        Some(item(count, packet_type, body).unwrap_or(Item::Other { packet_type }))
    }
}

fn item(count: u8, packet_type: u8, body: &[u8]) -> Option<Item<'_>> {
    let ssrc = word(body, 0)?;
    let blocks = usize::from(count) * 24;
    match packet_type {
        SENDER_REPORT => Some(Item::SenderReport {
            ssrc,
            info: SenderInfo {
                ntp: u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?),
                rtp: word(body, 12)?,
                packets: word(body, 16)?,
                bytes: word(body, 20)?,
            },
            receptions: Receptions(body.get(24..24 + blocks)?),
        }),
        RECEIVER_REPORT => {
            Some(Item::ReceiverReport { ssrc, receptions: Receptions(body.get(4..4 + blocks)?) })
        }
        SOURCE_DESCRIPTION if count > 0 => {
            let mut items = body.get(4..)?;
            while let [kind, length, rest @ ..] = items {
                if *kind == 0 {
                    break;
                }
                let (value, after) = rest.split_at_checked(usize::from(*length))?;
                if *kind == SDES_CNAME {
                    return Some(Item::Cname { ssrc, name: value });
                }
                items = after;
            }
            None
        }
        BYE if count > 0 => {
            let reason = match body.get(usize::from(count) * 4..)? {
                [length, rest @ ..] => rest.get(..usize::from(*length)).unwrap_or_default(),
                [] => &[],
            };
            Some(Item::Bye { ssrc, reason })
        }
        EXTENDED_REPORT => {
            let mut blocks = body.get(4..)?;
            loop {
                let ([kind, _, l0, l1], rest) = blocks.split_first_chunk::<4>()?;
                let length = usize::from(u16::from_be_bytes([*l0, *l1])) * 4;
                let (block, after) = rest.split_at_checked(length)?;
                if *kind == XR_VOIP_METRICS {
                    return Some(Item::Voip { ssrc, metrics: voip_metrics(block)? });
                }
                blocks = after;
            }
        }
        _ => None,
    }
}

fn voip_metrics(block: &[u8]) -> Option<VoipMetrics> {
    let b = block.first_chunk::<32>()?;
    let half = |at: usize| word(b, at & !3).map_or(0, |w| (w >> (16 - (at & 2) * 8)) as u16);
    Some(VoipMetrics {
        ssrc: word(b, 0)?,
        loss_rate: b[4],
        discard_rate: b[5],
        burst_density: b[6],
        gap_density: b[7],
        burst_ms: half(8),
        gap_ms: half(10),
        round_trip_ms: half(12),
        end_system_ms: half(14),
        signal_level: b[16],
        noise_level: b[17],
        echo_return_loss: b[18],
        gmin: b[19],
        r_factor: b[20],
        external_r_factor: b[21],
        mos_lq: b[22],
        mos_cq: b[23],
        configuration: b[24],
        buffer_nominal_ms: half(26),
        buffer_maximum_ms: half(28),
        buffer_ceiling_ms: half(30),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}

/// Writes one compound packet into a caller's buffer. The first packet must be a report (RFC 3550 §6.1).
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    length: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    /// Starts an empty compound in `out`.
    pub fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, length: 0, full: false }
    }

    /// Appends an SR if there is something to say about sending, else an RR; at most 31 receptions are kept.
    pub fn report(&mut self, ssrc: u32, info: Option<SenderInfo>, receptions: &[Reception]) -> &mut Self {
        let receptions = receptions.get(..31).unwrap_or(receptions);
        let kind = if info.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
        self.packet(kind, receptions.len() as u8, |w| {
            w.word(ssrc);
            if let Some(info) = info {
                w.word((info.ntp >> 32) as u32);
                w.word(info.ntp as u32);
                w.word(info.rtp);
                w.word(info.packets);
                w.word(info.bytes);
            }
            for r in receptions {
                w.word(r.ssrc);
                let lost = r.lost.clamp(-0x80_0000, 0x7f_ffff) as u32;
                w.word(u32::from(r.fraction_lost) << 24 | lost & 0xff_ffff);
                w.word(r.highest_sequence);
                w.word(r.jitter);
                w.word(r.last_report);
                w.word(r.since_last_report);
            }
        })
    }

    /// Appends an SDES with the CNAME, which every compound must have; cut at [`MAX_CNAME`] bytes.
    pub fn cname(&mut self, ssrc: u32, name: &str) -> &mut Self {
        let name = name.as_bytes();
        let name = name.get(..MAX_CNAME).unwrap_or(name);
        self.packet(SOURCE_DESCRIPTION, 1, |w| {
            w.word(ssrc);
            w.bytes(&[SDES_CNAME, name.len() as u8]);
            w.bytes(name);
            // The list of items ends with at least one zero and fills its word.
            let end = 4 - (2 + name.len()) % 4;
            w.bytes(&[0; 4][..end]);
        })
    }

    /// Appends an XR with one VoIP metrics block.
    pub fn voip(&mut self, ssrc: u32, m: &VoipMetrics) -> &mut Self {
        self.packet(EXTENDED_REPORT, 0, |w| {
            w.word(ssrc);
            w.bytes(&[XR_VOIP_METRICS, 0, 0, 8]);
            w.word(m.ssrc);
            w.bytes(&[m.loss_rate, m.discard_rate, m.burst_density, m.gap_density]);
            for half in [m.burst_ms, m.gap_ms, m.round_trip_ms, m.end_system_ms] {
                w.bytes(&half.to_be_bytes());
            }
            w.bytes(&[m.signal_level, m.noise_level, m.echo_return_loss, m.gmin]);
            w.bytes(&[m.r_factor, m.external_r_factor, m.mos_lq, m.mos_cq]);
            w.bytes(&[m.configuration, 0]);
            for half in [m.buffer_nominal_ms, m.buffer_maximum_ms, m.buffer_ceiling_ms] {
                w.bytes(&half.to_be_bytes());
            }
        })
    }

    /// Appends a BYE without a reason.
    pub fn bye(&mut self, ssrc: u32) -> &mut Self {
        self.packet(BYE, 1, |w| w.word(ssrc))
    }

    /// The length of the compound; `None` if the buffer was too small for it.
    pub fn finish(&self) -> Option<usize> {
        (!self.full).then_some(self.length)
    }

    fn packet(&mut self, packet_type: u8, count: u8, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.length;
        self.bytes(&[0x80 | count & 0x1f, packet_type, 0, 0]);
        body(self);
        let words = ((self.length - start) / 4).saturating_sub(1) as u16;
        if let Some(length) = self.out.get_mut(start + 2..start + 4) {
            length.copy_from_slice(&words.to_be_bytes());
        }
        self
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.length..self.length + bytes.len()) {
            Some(out) => {
                out.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.full = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reception() -> Reception {
        Reception {
            ssrc: 7,
            fraction_lost: 64,
            lost: -2,
            highest_sequence: 0x0001_0003,
            jitter: 80,
            last_report: 0x1234_5678,
            since_last_report: 65_536,
        }
    }

    fn metrics() -> VoipMetrics {
        VoipMetrics {
            ssrc: 7,
            loss_rate: 1,
            discard_rate: 2,
            burst_density: 3,
            gap_density: 4,
            burst_ms: 500,
            gap_ms: 600,
            round_trip_ms: 70,
            end_system_ms: 80,
            signal_level: 127,
            noise_level: 126,
            echo_return_loss: 125,
            gmin: 16,
            r_factor: 93,
            external_r_factor: 127,
            mos_lq: 44,
            mos_cq: 43,
            configuration: VoipMetrics::ADAPTIVE,
            buffer_nominal_ms: 40,
            buffer_maximum_ms: 90,
            buffer_ceiling_ms: 400,
        }
    }

    #[test]
    fn a_compound_is_read_as_it_was_written() {
        let info = SenderInfo { ntp: 0xe000_0000_8000_0000, rtp: 160, packets: 1, bytes: 160 };
        let mut bytes = [0; 512];
        for name in ["", "a", "ab", "abc", "abcd", "0123456789abcdef"] {
            let length = Writer::new(&mut bytes)
                .report(1, Some(info), &[reception()])
                .cname(1, name)
                .voip(1, &metrics())
                .bye(1)
                .finish()
                .unwrap();
            assert_eq!(length % 4, 0);
            let mut items = read(&bytes[..length]).unwrap();
            let Some(Item::SenderReport { ssrc: 1, info: read_info, mut receptions }) = items.next() else {
                panic!("no sender report first")
            };
            assert_eq!(read_info, info);
            assert_eq!(receptions.next(), Some(reception()));
            assert_eq!(receptions.next(), None);
            assert_eq!(items.next(), Some(Item::Cname { ssrc: 1, name: name.as_bytes() }));
            assert_eq!(items.next(), Some(Item::Voip { ssrc: 1, metrics: metrics() }));
            assert_eq!(items.next(), Some(Item::Bye { ssrc: 1, reason: b"" }));
            assert_eq!(items.next(), None);
        }
    }

    #[test]
    fn a_receiver_report_without_blocks_is_the_smallest_report() {
        let mut bytes = [0; 8];
        let length = Writer::new(&mut bytes).report(9, None, &[]).finish();
        assert_eq!(length, Some(8));
        assert_eq!(bytes, [0x80, 201, 0, 1, 0, 0, 0, 9]);
        assert_eq!(Writer::new(&mut bytes[..7]).report(9, None, &[]).finish(), None);
    }

    #[test]
    fn unknown_packets_are_stepped_over() {
        let mut bytes = vec![0x81, 204, 0, 2, 0, 0, 0, 1, b't', b'e', b's', b't'];
        bytes.extend([0x80, 203, 0, 0]);
        let items: Vec<_> = read(&bytes).unwrap().collect();
        assert_eq!(items, [Item::Other { packet_type: 204 }, Item::Other { packet_type: 203 }]);
    }

    #[test]
    fn a_reason_for_leaving_is_read_and_a_lying_one_ignored() {
        let bye = |length: u8| vec![0x81, 203, 0, 2, 0, 0, 0, 5, length, b'e', b'n', b'd'];
        assert_eq!(read(&bye(3)).unwrap().next(), Some(Item::Bye { ssrc: 5, reason: b"end" }));
        assert_eq!(read(&bye(200)).unwrap().next(), Some(Item::Bye { ssrc: 5, reason: b"" }));
    }

    #[test]
    fn lying_lengths_are_refused_or_ignored() {
        assert_eq!(read(&[]), Err(BadRtcp::Length));
        assert_eq!(read(&[0x80, 200, 0, 6]), Err(BadRtcp::Length));
        assert_eq!(read(&[0x40, 200, 0, 0]), Err(BadRtcp::NotRtcp));
        assert_eq!(read(&[0x80, 100, 0, 0]), Err(BadRtcp::NotRtcp));
        assert_eq!(read(&[0xa0, 201, 0, 1, 0, 0, 0, 9]), Err(BadRtcp::Length));
        // 31 blocks claimed, none there.
        let report = [0x9f, 201, 0, 1, 0, 0, 0, 9];
        assert_eq!(read(&report).unwrap().next(), Some(Item::Other { packet_type: 201 }));
        // An SDES item that runs past its packet.
        let sdes = [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 99, b'a', b'b'];
        assert_eq!(read(&sdes).unwrap().next(), Some(Item::Other { packet_type: 202 }));
    }
}

//! The RTP packet (RFC 3550 §5.1): bytes to fields and back, nothing copied.

use thiserror::Error;

/// The longest RTP or RTCP packet that is read or written, in bytes. Longer ones would be fragmented by IP.
pub const MAX_PACKET: usize = 1500;

/// The length of the fixed header, in bytes.
pub const FIXED_HEADER: usize = 12;

/// The fixed header of an RTP packet (RFC 3550 §5.1), without what is only about the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// First packet of a talkspurt for audio (RFC 3551 §4.1), first packet of an event for telephone-event.
    pub marker: bool,
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Time stamp, in units of the payload's clock rate.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

/// A header extension (RFC 3550 §5.3.1), not looked into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    /// The 16 bits "defined by profile".
    pub profile: u16,
    /// The words after the length, as they are.
    pub data: &'a [u8],
}

/// A packet that was read; everything points into the datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: Header,
    /// Contributing sources, four bytes each.
    pub csrc: &'a [u8],
    /// The header extension, if there is one.
    pub extension: Option<Extension<'a>>,
    /// What remains after header and before padding. May be empty.
    pub payload: &'a [u8],
}

/// Why some bytes are not an RTP packet. The sender is to blame, the datagram is dropped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadPacket {
    /// Fewer bytes than the header says there are.
    #[error("the peer sent an RTP packet that ends before its header does; it is dropped")]
    Short,
    /// More than [`MAX_PACKET`] bytes.
    #[error("the peer sent an RTP packet of more than {MAX_PACKET} bytes; it is dropped")]
    Long,
    /// Not version 2.
    #[error("the peer sent something that is not RTP version 2; it is dropped")]
    Version,
    /// The padding count is zero or reaches into the header.
    #[error("the peer sent an RTP packet with an impossible padding count; it is dropped")]
    Padding,
    /// The payload type collides with RTCP's packet types (RFC 5761 §4).
    #[error("the peer sent RTCP where RTP was expected; it is dropped")]
    Rtcp,
}

/// True if a datagram on a port shared by RTP and RTCP is RTCP (RFC 5761 §4): packet types 192–223.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

impl<'a> Packet<'a> {
    /// Reads a packet and checks every length in it (RFC 3550 Appendix A.1).
    ///
    /// # Errors
    /// [`BadPacket`] if the bytes are not one whole RTP packet.
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, BadPacket> {
        if datagram.len() > MAX_PACKET {
            return Err(BadPacket::Long);
        }
        let Some((fixed, mut rest)) = datagram.split_first_chunk::<FIXED_HEADER>() else {
            return Err(BadPacket::Short);
        };
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return Err(BadPacket::Version);
        }
        if (192..=223).contains(&second) {
            return Err(BadPacket::Rtcp);
        }
        let csrc;
        (csrc, rest) = rest.split_at_checked(usize::from(first & 0x0f) * 4).ok_or(BadPacket::Short)?;
        let mut extension = None;
        if first & 0x10 != 0 {
            let ([p0, p1, l0, l1], after) = rest.split_first_chunk::<4>().ok_or(BadPacket::Short)?;
            let words = usize::from(u16::from_be_bytes([*l0, *l1]));
            let data;
            (data, rest) = after.split_at_checked(words * 4).ok_or(BadPacket::Short)?;
            extension = Some(Extension { profile: u16::from_be_bytes([*p0, *p1]), data });
        }
        if first & 0x20 != 0 {
            let count = usize::from(*rest.last().ok_or(BadPacket::Padding)?);
            let kept = rest.len().checked_sub(count).ok_or(BadPacket::Padding)?;
            if count == 0 {
                return Err(BadPacket::Padding);
            }
            rest = rest.get(..kept).ok_or(BadPacket::Padding)?;
        }
        Ok(Packet {
            header: Header {
                marker: second & 0x80 != 0,
                payload_type: second & 0x7f,
                sequence: u16::from_be_bytes([s0, s1]),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            },
            csrc,
            extension,
            payload: rest,
        })
    }
}

impl Header {
    /// Writes header and payload into `out` and returns the length; `None` if `out` is too small.
    pub fn write(&self, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = FIXED_HEADER + payload.len();
        let out = out.get_mut(..length)?;
        let (fixed, body) = out.split_first_chunk_mut::<FIXED_HEADER>()?;
        fixed[0] = 0x80;
        fixed[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        fixed[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        body.copy_from_slice(payload);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            marker: true,
            payload_type: 101,
            sequence: 0xfffe,
            timestamp: 0x8000_0001,
            ssrc: 0xdead_beef,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = [0; 64];
        let length = header().write(b"voice", &mut bytes).unwrap();
        assert_eq!(length, 17);
        let packet = Packet::parse(&bytes[..length]).unwrap();
        assert_eq!(packet.header, header());
        assert_eq!(packet.payload, b"voice");
        assert_eq!(packet.csrc, b"");
        assert_eq!(packet.extension, None);
        assert_eq!(header().write(b"voice", &mut bytes[..16]), None);
    }

    #[test]
    fn contributing_sources_extension_and_padding_are_taken_apart() {
        let mut bytes = [0; 12];
        header().write(b"", &mut bytes).unwrap();
        bytes[0] = 0x80 | 0x20 | 0x10 | 2;
        let mut bytes = bytes.to_vec();
        bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
        bytes.extend(b"abc");
        bytes.extend([0, 0, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.csrc, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(packet.extension.unwrap().profile, 0xbede);
        assert_eq!(packet.extension.unwrap().data, [0x10, 0xaa, 0, 0]);
        assert_eq!(packet.payload, b"abc");
        for cut in 0..28 {
            assert!(Packet::parse(&bytes[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn impossible_packets_are_refused() {
        let mut bytes = [0; 14];
        header().write(b"ab", &mut bytes).unwrap();
        let refused = |change: &dyn Fn(&mut [u8; 14])| {
            let mut changed = bytes;
            change(&mut changed);
            Packet::parse(&changed).unwrap_err()
        };
        assert_eq!(refused(&|b| b[0] = 0x40), BadPacket::Version);
        assert_eq!(refused(&|b| b[0] = 0x8f), BadPacket::Short);
        assert_eq!(refused(&|b| b[0] = 0x90), BadPacket::Short);
        assert_eq!(
            refused(&|b| {
                b[0] = 0xa0;
                b[13] = 0;
            }),
            BadPacket::Padding
        );
        assert_eq!(
            refused(&|b| {
                b[0] = 0xa0;
                b[13] = 3;
            }),
            BadPacket::Padding
        );
        assert_eq!(refused(&|b| b[1] = 200), BadPacket::Rtcp);
        assert_eq!(Packet::parse(&[0x80; MAX_PACKET + 1]), Err(BadPacket::Long));
        assert_eq!(Packet::parse(&[]), Err(BadPacket::Short));
    }

    #[test]
    fn rtcp_is_told_apart_by_its_second_byte() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]));
        assert!(is_rtcp(&[0x80, 207]));
        assert!(!is_rtcp(&[0x80, 0x80 | 8]));
        assert!(!is_rtcp(&[0x80]));
        assert!(!is_rtcp(&[0x00, 200]));
    }
}

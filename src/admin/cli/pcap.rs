//! SIP messages as a capture file: the classic pcap form, each message in a synthesised UDP/IP packet.
//!
//! TCP and TLS messages are written as UDP too: analysers show the ladder, and nothing is left to decrypt.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Raw IP, version 4 or 6 by its first half byte (LINKTYPE_RAW).
const RAW_IP: u32 = 101;
/// Bytes of a message that fit into a packet with either header.
const LARGEST: usize = 65_000;
/// The number of UDP in the IP header.
const UDP: u8 = 17;
/// The length of a UDP header.
const UDP_HEADER: usize = 8;

/// One packet to write.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it crossed the border, in microseconds since 1970.
    pub utc_us: i64,
    /// Where it came from; an address of another family than `to` counts as unknown.
    pub from: SocketAddr,
    /// Where it went.
    pub to: SocketAddr,
    /// The message.
    pub payload: &'a [u8],
}

/// Writes a capture.
pub struct Capture<W: Write>(W);

impl<W: Write> Capture<W> {
    /// Begins a capture with the header of the file.
    pub fn new(mut out: W) -> io::Result<Capture<W>> {
        out.write_all(&0xa1b2_c3d4u32.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&(u32::from(u16::MAX)).to_le_bytes())?;
        out.write_all(&RAW_IP.to_le_bytes())?;
        Ok(Capture(out))
    }

    /// Writes a packet. Seconds before 1970 or after 2106 become the nearest that the form has.
    pub fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let bytes = synthesised(packet);
        let seconds = packet.utc_us.div_euclid(1_000_000).clamp(0, i64::from(u32::MAX));
        let seconds = u32::try_from(seconds).unwrap_or(0);
        let micros = u32::try_from(packet.utc_us.rem_euclid(1_000_000)).unwrap_or(0);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for number in [seconds, micros, length, length] {
            self.0.write_all(&number.to_le_bytes())?;
        }
        self.0.write_all(&bytes)
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn synthesised(packet: &Packet<'_>) -> Vec<u8> {
    let payload = packet.payload.get(..packet.payload.len().min(LARGEST)).unwrap_or_default();
    let length = u16::try_from(payload.len() + UDP_HEADER).unwrap_or(u16::MAX);
    let mut udp = Vec::with_capacity(payload.len() + UDP_HEADER);
    udp.extend(packet.from.port().to_be_bytes());
    udp.extend(packet.to.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut bytes = Vec::with_capacity(udp.len() + 40);
    let mut sum = Sum::default();
    match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V6(from), to) => {
            let to = if let IpAddr::V6(to) = to { to } else { Ipv6Addr::UNSPECIFIED };
            header_v6(&mut bytes, &mut sum, from, to, length);
        }
        (from, IpAddr::V6(to)) => {
            let from = if let IpAddr::V6(from) = from { from } else { Ipv6Addr::UNSPECIFIED };
            header_v6(&mut bytes, &mut sum, from, to, length);
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => header_v4(&mut bytes, &mut sum, from, to, length),
    }
    // The pseudo-header of both versions ends with the length and the protocol (RFC 768, RFC 8200 §8.1).
    sum.add(&length.to_be_bytes());
    sum.add(&[0, UDP]);
    sum.add(&udp);
    let checksum = match sum.value() {
        0 => u16::MAX,
        value => value,
    };
    if let Some(place) = udp.get_mut(6..8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.extend(udp);
    bytes
}

fn header_v4(bytes: &mut Vec<u8>, sum: &mut Sum, from: Ipv4Addr, to: Ipv4Addr, length: u16) {
    let mut header = vec![0x45, 0];
    header.extend((length.saturating_add(20)).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let mut own = Sum::default();
    own.add(&header);
    if let Some(place) = header.get_mut(10..12) {
        place.copy_from_slice(&own.value().to_be_bytes());
    }
    bytes.extend(header);
    sum.add(&from.octets());
    sum.add(&to.octets());
}

fn header_v6(bytes: &mut Vec<u8>, sum: &mut Sum, from: Ipv6Addr, to: Ipv6Addr, length: u16) {
    bytes.extend([0x60, 0, 0, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend([UDP, 64]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    sum.add(&from.octets());
    sum.add(&to.octets());
}

/// The internet checksum (RFC 1071).
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            self.0 += u64::from(u16::from_be_bytes([high, low]));
        }
    }

    fn value(&self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Capture::new(&mut bytes).expect("a header").write(packet).expect("a packet");
        bytes
    }

    /// What a receiver computes over a datagram with its pseudo-header: zero if the checksum is right.
    fn verified(addresses: &[u8], udp: &[u8]) -> u16 {
        let mut sum = Sum::default();
        sum.add(addresses);
        sum.add(&u16::try_from(udp.len()).expect("a length").to_be_bytes());
        sum.add(&[0, UDP]);
        sum.add(udp);
        sum.value()
    }

    #[test]
    fn a_message_becomes_a_packet_with_right_checksums() {
        let packet = Packet {
            utc_us: 1_795_248_001_123_456,
            from: "192.0.2.1:5062".parse().expect("an address"),
            to: "192.0.2.10:5060".parse().expect("an address"),
            payload: b"OPTIONS sip:a SIP/2.0\r\n\r\nx",
        };
        let bytes = captured(&packet);
        assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(bytes[20..24], RAW_IP.to_le_bytes());
        assert_eq!(bytes[24..28], 1_795_248_001u32.to_le_bytes());
        assert_eq!(bytes[28..32], 123_456u32.to_le_bytes());
        let ip = &bytes[40..];
        assert_eq!(ip.len(), 20 + 8 + packet.payload.len());
        assert_eq!(bytes[32..36], u32::try_from(ip.len()).expect("a length").to_le_bytes());
        let mut header = Sum::default();
        header.add(&ip[..20]);
        assert_eq!(header.value(), 0, "the header's checksum");
        assert_eq!(verified(&ip[12..20], &ip[20..]), 0, "the datagram's checksum");
        assert_eq!(ip[20..24], [0x13, 0xc6, 0x13, 0xc4]);
        assert!(ip.ends_with(packet.payload));
    }

    #[test]
    fn version_six_and_mixed_families_are_written_too() {
        let to: SocketAddr = "[2001:db8::1]:5060".parse().expect("an address");
        for from in ["[2001:db8::2]:5060", "0.0.0.0:5060"] {
            let from = from.parse().expect("an address");
            let bytes = captured(&Packet { utc_us: -1, from, to, payload: b"odd" });
            let ip = &bytes[40..];
            assert_eq!((ip[0], ip.len()), (0x60, 40 + 8 + 3));
            assert_eq!(verified(&ip[8..40], &ip[40..]), 0);
        }
    }

    #[test]
    fn a_giant_is_cut_to_what_a_packet_holds() {
        let any: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let bytes = captured(&Packet { utc_us: i64::MAX, from: any, to: any, payload: &vec![b'x'; 70_000] });
        assert_eq!(bytes.len(), 24 + 16 + 20 + 8 + LARGEST);
    }
}

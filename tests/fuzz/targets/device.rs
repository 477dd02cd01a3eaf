//! What servers send outside SIP: their certificates.

use super::Target;
use tipring::device::certificate::not_after;

pub const TARGETS: &[Target] =
    &[Target { name: "device_certificate", run: certificate, seeds: CERTIFICATES, dictionary: PIECES }];

/// The end of a certificate lies within four digits of a year, and what follows a certificate does not change it.
fn certificate(octets: &[u8]) {
    let Some(until) = not_after(octets) else { return };
    assert!((-62_167_219_200_000_000..=253_402_300_800_000_000).contains(&until), "{until}");
    assert_eq!(not_after(&[octets, b"0\x82\xff\xff"].concat()), Some(until));
}

const CERTIFICATES: &[&[u8]] = &[
    b"\x30\x2e\x30\x2c\xa0\x03\x02\x01\x02\x02\x01\x01\x30\x00\x30\x00\x30\x1e\
      \x17\x0d260101000000Z\x17\x0d270101000000Z",
    b"\x30\x2d\x30\x2b\x02\x01\x01\x30\x00\x30\x00\x30\x22\x18\x0f19991231235959Z\x18\x0f20991231235959Z",
    b"\x30\x81\x2b\x30\x82\x00\x27\x02\x01\x01\x30\x00\x30\x00\x30\x1e\x17\x0d491231235959Z\x17\x0d500101000000Z",
];
const PIECES: &[&[u8]] = &[
    b"\x30",
    b"\x80",
    b"\x83\xff\xff\xff",
    b"\x84\x7f\xff\xff\xff",
    b"\x17\x0d",
    b"\x18\x0f",
    b"Z",
    b"000229",
];

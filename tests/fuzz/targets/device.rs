//! What servers send outside SIP: their certificates, and when they want to be asked again.

use super::Target;
use tipring::device::certificate::not_after;
use tipring::events::upstream::retry_after;

pub const TARGETS: &[Target] = &[
    Target { name: "device_certificate", run: certificate, seeds: CERTIFICATES, dictionary: PIECES },
    Target { name: "upstream_retry_after", run: wait, seeds: WAITS, dictionary: WORDS },
];

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

/// A wait is never longer than the longest, whatever the clock says, and what is a number of seconds is that number.
fn wait(octets: &[u8]) {
    let Ok(value) = std::str::from_utf8(octets) else { return };
    for now in [0, 784_111_777_000_000, i64::MIN, i64::MAX] {
        let Some(wait) = retry_after::read(value, now) else { continue };
        assert!(wait <= retry_after::LONGEST, "{wait:?}");
        if let Ok(seconds) = value.trim().parse::<u64>() {
            assert_eq!(wait.as_secs(), seconds.min(retry_after::LONGEST.as_secs()));
        }
    }
}

const WAITS: &[&[u8]] = &[b"120", b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sat, 29 Feb 9999 23:59:60 GMT"];
const WORDS: &[&[u8]] =
    &[b" GMT", b"Sun, ", b"Feb", b"-9999", b"99999999999999999999", b"24:", b":60", b"+1"];

//! A gzip file (RFC 1952) that is written as it goes, its content stored as it is (RFC 1951 §3.2.4): a few megabytes at
//! most, and no code that compresses.

/// Bytes of a stored block.
const LARGEST_BLOCK: usize = 0xffff;
/// The generator polynomial of the checksum, its bits in reverse.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Gzip {
    checksum: u32,
    length: u32,
}

impl Gzip {
    /// The bytes in front: deflated, nothing known of name, time and system.
    pub fn head() -> Vec<u8> {
        vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]
    }

    /// More content.
    pub fn more(&mut self, content: &[u8]) -> Vec<u8> {
        let mut blocks = Vec::with_capacity(content.len() + 5);
        for block in content.chunks(LARGEST_BLOCK) {
            blocks.extend(block_head(false, block.len()));
            blocks.extend_from_slice(block);
        }
        self.checksum = content.iter().fold(!self.checksum, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL * (sum & 1)))
        });
        self.checksum = !self.checksum;
        // Its size modulo 2^32.
        self.length = self.length.wrapping_add(u32::try_from(content.len()).unwrap_or(u32::MAX));
        blocks
    }

    /// The bytes behind all of it.
    pub fn end(&self) -> Vec<u8> {
        let mut end = block_head(true, 0).to_vec();
        end.extend(self.checksum.to_le_bytes());
        end.extend(self.length.to_le_bytes());
        end
    }
}

fn block_head(last: bool, length: usize) -> [u8; 5] {
    let [low, high] = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    [u8::from(last), low, high, !low, !high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_check_string() {
        let mut gzip = Gzip::default();
        let mut file = Gzip::head();
        file.extend(gzip.more(b"12345"));
        file.extend(gzip.more(b"6789"));
        assert_eq!(gzip.checksum, 0xcbf4_3926);
        file.extend(gzip.end());
        assert_eq!(
            file,
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff\0\x05\0\xfa\xff12345\0\x04\0\xfb\xff6789\x01\0\0\xff\xff\x26\x39\xf4\xcb\x09\0\0\0"
        );
    }

    #[test]
    fn what_is_larger_than_a_block_goes_into_several() {
        let blocks = Gzip::default().more(&vec![7; LARGEST_BLOCK + 1]);
        assert_eq!(blocks.len(), LARGEST_BLOCK + 1 + 10);
        assert_eq!(blocks.get(..5), Some(&[0, 0xff, 0xff, 0, 0][..]));
    }
}

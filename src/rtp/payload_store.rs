//! Room for the payloads that wait, taken once: small blocks, several in a row for a long payload.

use super::packet::MAX_PACKET;

/// Bytes of a block; four hold the longest payload.
const BLOCK: usize = MAX_PACKET / 4;
/// Blocks, one bit each.
const BLOCKS: usize = 64;

/// A payload that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    first: usize,
    length: usize,
}

impl Kept {
    fn blocks(self) -> usize {
        self.length.div_ceil(BLOCK).max(1)
    }

    fn mask(self) -> u64 {
        ((1 << self.blocks()) - 1) << self.first
    }
}

/// The store.
pub(super) struct PayloadStore {
    /// The room is reserved at once and used from below: what a call never needs is never touched.
    bytes: Vec<u8>,
    /// Bit n: block n is taken. Low blocks are preferred, so that high ones are never touched in a quiet call.
    taken: u64,
}

impl PayloadStore {
    /// An empty store with all its memory.
    pub(super) fn new() -> PayloadStore {
        PayloadStore { bytes: Vec::with_capacity(BLOCKS * BLOCK), taken: 0 }
    }

    /// Copies a payload of [`MAX_PACKET`] bytes at most; `None` if there is no room.
    pub(super) fn keep(&mut self, payload: &[u8]) -> Option<Kept> {
        let mut kept = Kept { first: 0, length: payload.len() };
        if payload.len() > MAX_PACKET {
            return None;
        }
        // Bit n survives if as many blocks as are wanted are free from n on.
        let mut fitting = !self.taken;
        for _ in 1..kept.blocks() {
            fitting &= fitting >> 1;
        }
        kept.first = fitting.trailing_zeros() as usize;
        let start = kept.first * BLOCK;
        if fitting == 0 {
            return None;
        }
        let end = start + payload.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes.get_mut(start..end)?.copy_from_slice(payload);
        self.taken |= kept.mask();
        Some(kept)
    }

    /// The bytes of a payload, also after it was given back, until the next one is kept.
    pub(super) fn bytes(&self, kept: Kept) -> &[u8] {
        self.bytes.get(kept.first * BLOCK..kept.first * BLOCK + kept.length).unwrap_or_default()
    }

    /// Gives the room back.
    pub(super) fn release(&mut self, kept: Kept) {
        self.taken &= !kept.mask();
    }

    /// True if nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    #[test]
    fn payloads_of_every_length_are_kept_apart() {
        let mut chance = Chance::from_number(1);
        let mut store = PayloadStore::new();
        let mut kept: Vec<(Kept, Vec<u8>)> = Vec::new();
        let mut full = 0;
        for _ in 0..20_000 {
            if chance.happens(0.5) {
                let mut payload = vec![0; chance.below(MAX_PACKET as u32 + 1) as usize];
                chance.fill(&mut payload);
                match store.keep(&payload) {
                    Some(place) => kept.push((place, payload)),
                    None => full += 1,
                }
            } else if !kept.is_empty() {
                let (place, payload) = kept.swap_remove(chance.below(kept.len() as u32) as usize);
                assert_eq!(store.bytes(place), payload);
                store.release(place);
            }
        }
        assert!(full > 0);
        for (place, payload) in kept {
            assert_eq!(store.bytes(place), payload);
            store.release(place);
        }
        assert!(store.is_empty());
    }

    #[test]
    fn the_longest_payload_fits_sixteen_times() {
        let mut store = PayloadStore::new();
        assert_eq!(store.keep(&[0; MAX_PACKET + 1]), None);
        let count = (0..100).filter(|_| store.keep(&[7; MAX_PACKET]).is_some()).count();
        assert_eq!(count, 16);
        assert_eq!(store.keep(&[]), None);
    }
}

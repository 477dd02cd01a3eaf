//! Chance, as the state machines see it: one seeded generator handed to them.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A cryptographically strong generator: tags, branches, nonces and keys come from it, and so do jittered delays.
///
/// The device seeds it from the operating system; a test seeds it with a number and sees the same call again.
#[derive(Clone)]
pub struct Chance(ChaCha12Rng);

impl Chance {
    /// The generator of the device: 32 bytes from the operating system.
    pub fn from_seed(seed: [u8; 32]) -> Chance {
        Chance(ChaCha12Rng::from_seed(seed))
    }

    /// The generator of a test or a measurement, which must be repeatable.
    pub fn from_number(seed: u64) -> Chance {
        Chance(ChaCha12Rng::seed_from_u64(seed))
    }

    /// An independent generator for another room, drawn from this one.
    pub fn fork(&mut self) -> Chance {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Chance::from_seed(seed)
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A random 32-bit number.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A random 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of `0..bound`; 0 if `bound` is 0. The bias of the multiplication is below 2⁻³² for the bounds in use.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// A number of `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with the given probability (0.0 never, 1.0 always).
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// `bytes` random bytes in lower-case hexadecimal, for tags, branches and call identifiers.
    pub fn token(&mut self, bytes: usize) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut token = String::with_capacity(bytes * 2);
        let mut byte = [0];
        for _ in 0..bytes {
            self.fill(&mut byte);
            token.push(char::from(DIGITS[usize::from(byte[0] >> 4)]));
            token.push(char::from(DIGITS[usize::from(byte[0] & 15)]));
        }
        token
    }
}

impl std::fmt::Debug for Chance {
    // The state would tell keys that were drawn from it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

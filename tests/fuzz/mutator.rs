//! Inputs made from seeds: flipped bits, changed octets, words of a dictionary, pieces of other inputs,
//! pieces left out, cut off or repeated. The same number makes the same inputs.

/// The longest input, in octets.
const MAX_INPUT: usize = 16 * 1024;

/// The most inputs that are kept to be changed again.
const MAX_KEPT: usize = 64;

/// Octets that grammars care for.
const SPECIAL: &[u8] = b"\0\t\n\r \"%&'()*+,-./0:;<=>?@[\\]{}~\x7f\x80\xc3\xff";

pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    kept: Vec<Vec<u8>>,
    dictionary: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    pub fn new(seeds: &[&[u8]], dictionary: &[&[u8]], number: u64) -> Mutator {
        let owned = |list: &[&[u8]]| list.iter().map(|octets| octets.to_vec()).collect();
        Mutator { seeds: owned(seeds), kept: Vec::new(), dictionary: owned(dictionary), state: number }
    }

    /// A number below `bound`, which is not 0 (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn origin(&mut self) -> Vec<u8> {
        if !self.kept.is_empty() && self.below(3) == 0 {
            let index = self.below(self.kept.len());
            return self.kept[index].clone();
        }
        let index = self.below(self.seeds.len());
        self.seeds[index].clone()
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.origin();
        for _ in 0..=self.below(5) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT);
        if self.below(8) == 0 {
            if self.kept.len() == MAX_KEPT {
                let index = self.below(MAX_KEPT);
                self.kept.swap_remove(index);
            }
            self.kept.push(input.clone());
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(10) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = SPECIAL[self.below(SPECIAL.len())],
            2 => input.insert(at, SPECIAL[self.below(SPECIAL.len())]),
            3 if !self.dictionary.is_empty() => {
                let index = self.below(self.dictionary.len());
                let word = self.dictionary[index].clone();
                let replaced = self.below(2) * word.len().min(input.len() - at);
                input.splice(at..at + replaced, word);
            }
            4 => {
                let other = self.origin();
                let from = self.below(other.len() + 1);
                let length = self.below(other.len() - from + 1);
                input.splice(at..at, other[from..from + length].iter().copied());
            }
            5 => {
                let end = at + self.below((input.len() - at).min(64) + 1);
                input.drain(at..end);
            }
            6 => input.truncate(at),
            7 => {
                let end = at + self.below((input.len() - at).min(40) + 1);
                let times = 1 + self.below(80);
                let piece = input[at..end].repeat(times);
                input.splice(at..at, piece);
            }
            8 => {
                // Numbers are where limits are.
                let number =
                    ["0", "-1", "255", "65536", "4294967296", "18446744073709551616", "00000000000000000009"];
                let digits = input.iter().skip(at).take_while(|octet| octet.is_ascii_digit()).count();
                input.splice(at..at + digits, number[self.below(number.len())].bytes());
            }
            _ => {
                let other = self.origin();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(MAX_INPUT);
    }
}

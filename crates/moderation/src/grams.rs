//! The features of a text: 64-bit hashes of its words, of pairs of words next to each other and with one between, and of
//! the 3 to 5 bytes in a row within a word and its edges. Training and scoring call this one implementation.
//! What a feature weighs is not here.

/// Edges of a word, for the byte n-grams.
const EDGE_FRONT: u8 = 1;
const EDGE_BACK: u8 = 2;

/// Bytes in a row that make a feature.
const GRAM_MIN: usize = 3;
const GRAM_MAX: usize = 5;

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// What stands in front of the first word.
const START: u64 = 0x9e37_79b9_7f4a_7c15;

/// Salts that keep the kinds of features apart.
const SALT_WORD: u64 = 0x2545_f491_4f6c_dd1d;
const SALT_PAIR: u64 = 0xd6e8_feb8_6659_fd93;
const SALT_SKIP: u64 = 0xa076_1d64_78bd_642f;
const SALT_BYTES: u64 = 0xe703_7ed1_a0b4_28db;

/// Reads words and hands out their features; remembers the two words before.
#[derive(Clone, Debug)]
pub struct Grams {
    before: u64,
    before_that: u64,
}

impl Default for Grams {
    fn default() -> Self {
        Self { before: START, before_that: START }
    }
}

impl Grams {
    /// Calls `sink` with each feature of the next word. A word of `n` bytes makes fewer than `3 n + 6`.
    pub fn word(&mut self, word: &[u8], mut sink: impl FnMut(u64)) {
        let number = word.iter().all(u8::is_ascii_digit);
        let hash = if number { fnv(b"0") } else { fnv(word) };
        sink(mix(hash ^ SALT_WORD));
        sink(mix(hash.wrapping_mul(FNV_PRIME) ^ self.before.rotate_left(23) ^ SALT_PAIR));
        if self.before_that != START {
            sink(mix(hash.wrapping_mul(FNV_PRIME) ^ self.before_that.rotate_left(41) ^ SALT_SKIP));
        }
        self.before_that = self.before;
        self.before = hash;
        if !number {
            bytes(word, &mut sink);
        }
    }
}

/// The byte n-grams of a word and its edges, but for those of one letter and both edges, which the word itself is.
fn bytes(word: &[u8], sink: &mut impl FnMut(u64)) {
    let mut open = [(0_u64, 0_usize); GRAM_MAX];
    let edged = [EDGE_FRONT].into_iter().chain(word.iter().copied()).chain([EDGE_BACK]);
    for (at, byte) in edged.enumerate() {
        if let Some(slot) = open.get_mut(at % GRAM_MAX) {
            *slot = (FNV_BASIS ^ SALT_BYTES, 0);
        }
        for (hash, len) in open.iter_mut().take(at + 1) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
            *len += 1;
            if *len >= GRAM_MIN {
                sink(mix(*hash));
            }
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_BASIS, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// The finaliser of MurmurHash3: every bit of the input reaches every bit of the output.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(words: &[&str]) -> Vec<u64> {
        let mut grams = Grams::default();
        let mut features = Vec::new();
        for word in words {
            grams.word(word.as_bytes(), |feature| features.push(feature));
        }
        features
    }

    #[test]
    fn a_word_makes_itself_its_pairs_and_its_bytes() {
        // <ab> has the grams <ab, ab>, <ab>; the first word has no word two before it
        assert_eq!(features(&["ab"]).len(), 2 + 3);
        // <abcd>: 4 of three bytes, 3 of four, 2 of five
        assert_eq!(features(&["abcd"]).len(), 2 + 9);
        assert_eq!(features(&["ab", "ab", "ab"]).len(), 3 * 5 + 1);
        assert_eq!(features(&["2024"]), features(&["7"]));
    }

    #[test]
    fn order_matters_to_pairs_only() {
        let mut there = features(&["one", "two"]);
        let mut back = features(&["two", "one"]);
        there.sort_unstable();
        back.sort_unstable();
        let shared = there.iter().filter(|feature| back.binary_search(feature).is_ok()).count();
        assert_eq!(shared, there.len() - 2);
    }

    #[test]
    fn the_bytes_of_a_word_are_those_of_every_start() {
        let naive = |word: &[u8]| {
            let mut edged = vec![EDGE_FRONT];
            edged.extend_from_slice(word);
            edged.push(EDGE_BACK);
            let mut features = Vec::new();
            for start in 0..edged.len() {
                for len in GRAM_MIN..=GRAM_MAX {
                    if let Some(gram) = edged.get(start..start + len) {
                        let hash = gram
                            .iter()
                            .fold(FNV_BASIS ^ SALT_BYTES, |h, &b| (h ^ u64::from(b)).wrapping_mul(FNV_PRIME));
                        features.push(mix(hash));
                    }
                }
            }
            features.sort_unstable();
            features
        };
        for word in ["a", "ab", "abc", "moderation", "abcdefghijklmnopqrstuvwxyz012345"] {
            let mut got = Vec::new();
            bytes(word.as_bytes(), &mut |feature| got.push(feature));
            got.sort_unstable();
            assert_eq!(got, naive(word.as_bytes()), "{word}");
        }
    }
}

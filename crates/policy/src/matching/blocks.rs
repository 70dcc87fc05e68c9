//! A text in blocks of 64 bytes, each as masks with a bit per byte: a search then goes from one place of interest to the
//! next without a look, let alone a mispredicted branch, at each byte between.

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// A bit for each byte that satisfies `is`, the first byte's lowest. No more than [`BLOCK`] bytes count.
pub(crate) fn mask(bytes: &[u8], is: impl Fn(u8) -> bool) -> u64 {
    let mut flags = [0u8; BLOCK];
    for (flag, byte) in flags.iter_mut().zip(bytes) {
        *flag = u8::from(is(*byte));
    }
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().rev().fold(0, |mask, eight| {
        // Moves the eight lowest bits of as many bytes into one.
        mask << 8 | u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56
    })
}

/// Part of a word, in ASCII.
pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The bits of `words` that have none just before them; `goes_on` says whether one lies before the block.
pub(crate) const fn starts(words: u64, goes_on: bool) -> u64 {
    words & !(words << 1 | goes_on as u64)
}

/// The bits that are set, lowest first.
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mask_has_a_bit_for_each_byte(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mask = mask(&bytes, is_word);
            for at in 0..BLOCK {
                let expected = bytes.get(at).is_some_and(|byte| is_word(*byte));
                prop_assert_eq!(mask >> at & 1 == 1, expected, "{}", at);
            }
            let starts: Vec<usize> = bits(starts(mask, true)).collect();
            let expected: Vec<usize> = (1..bytes.len().min(BLOCK))
                .filter(|at| is_word(bytes[*at]) && !is_word(bytes[*at - 1]))
                .collect();
            prop_assert_eq!(starts, expected);
        }
    }
}

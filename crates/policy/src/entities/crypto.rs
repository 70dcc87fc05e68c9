//! Addresses of cryptocurrency wallets, by their checksums: Bitcoin's Base58Check, Bech32 and Bech32m, and Ethereum's
//! EIP-55 where an address mixes cases.

use sha2::{Digest, Sha256};
use sha3::Keccak256;

/// Whether a word is an address.
pub(super) fn is_address(word: &[u8]) -> bool {
    match word {
        [b'1' | b'3', ..] => is_base58_address(word),
        [b'b' | b'B', b'c' | b'C', b'1', ..] => is_segwit_address(word),
        [b'0', b'x' | b'X', hex @ ..] => is_ethereum_address(hex),
        _ => false,
    }
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A version, 20 bytes of hash and the first four of the hash of both, in base 58.
fn is_base58_address(word: &[u8]) -> bool {
    if !(26..=35).contains(&word.len()) {
        return false;
    }
    let mut bytes = [0u8; 25];
    for byte in word {
        let Some(digit) = BASE58.iter().position(|known| known == byte) else { return false };
        let mut carry = digit;
        for slot in bytes.iter_mut().rev() {
            carry += usize::from(*slot) * 58;
            *slot = u8::try_from(carry % 256).unwrap_or_default();
            carry /= 256;
        }
        if carry > 0 {
            return false;
        }
    }
    let Some((payload, check)) = bytes.split_last_chunk::<4>() else { return false };
    let hash = Sha256::digest(Sha256::digest(payload));
    matches!(payload.first(), Some(0 | 5)) && hash.starts_with(check)
}

const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// BIP 173 and BIP 350, of the main network.
fn is_segwit_address(word: &[u8]) -> bool {
    let mixed = word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
    if mixed || !(26..=64).contains(&word.len()) {
        return false;
    }
    // `bc` expanded: the high bits of both letters, 0, and the low bits.
    let mut check = [3, 3, 0, 2, 3].into_iter().fold(1, bech32_step);
    for byte in word.iter().skip(3) {
        let Some(value) = BECH32.iter().position(|known| *known == byte.to_ascii_lowercase()) else {
            return false;
        };
        check = bech32_step(check, u32::try_from(value).unwrap_or_default());
    }
    matches!(check, 1 | 0x2bc8_30a3)
}

fn bech32_step(check: u32, value: u32) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let top = check >> 25;
    let next = (check & 0x01ff_ffff) << 5 ^ value;
    GENERATOR
        .iter()
        .enumerate()
        .fold(next, |next, (bit, term)| if top >> bit & 1 == 1 { next ^ term } else { next })
}

/// 40 hexadecimal digits; where cases are mixed, by the hash of the small ones.
fn is_ethereum_address(hex: &[u8]) -> bool {
    if hex.len() != 40 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let varies = hex.iter().any(|byte| Some(byte) != hex.first());
    let mixed = hex.iter().any(u8::is_ascii_uppercase) && hex.iter().any(u8::is_ascii_lowercase);
    if !mixed {
        return varies;
    }
    let hash = Keccak256::digest(hex.to_ascii_lowercase());
    hex.iter().enumerate().all(|(index, byte)| {
        let pair = hash.get(index / 2).copied().unwrap_or_default();
        let nibble = if index % 2 == 0 { pair >> 4 } else { pair & 15 };
        byte.is_ascii_digit() || byte.is_ascii_uppercase() == (nibble >= 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_by_its_checksum() {
        for address in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        ] {
            assert!(is_address(address.as_bytes()), "{address}");
            let mut other = address.as_bytes().to_vec();
            if address != address.to_lowercase() || !address.starts_with("0x") {
                let last = other.len() - 1;
                other[last] = if other[last].eq_ignore_ascii_case(&b'd') { other[last] ^ 0x20 } else { b'7' };
                assert!(!is_address(&other), "{}", String::from_utf8_lossy(&other));
            }
        }
    }
}

//! International bank account numbers (ISO 13616).

use super::view::{Attempt, View, is_word_at};

/// Countries and the lengths of their numbers, from the IBAN registry
/// (<https://www.swift.com/standards/data-standards/iban-international-bank-account-number>).
static COUNTRIES: [(&[u8; 2], usize); 89] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// First two letters of the numbers.
pub(super) fn countries() -> impl Iterator<Item = &'static [u8]> {
    COUNTRIES.iter().map(|(code, _)| code.as_slice())
}

/// A number at a place where a letter begins a word: in groups of four or in one.
pub(super) fn at(view: &View<'_>, start: usize) -> Attempt {
    let Some(code) = view.bytes.get(start..start + 2) else { return Attempt::No };
    let Some((_, len)) = COUNTRIES.iter().find(|(known, _)| known.as_slice() == code) else {
        return Attempt::No;
    };
    let mut check = Checksum::default();
    let mut at = start;
    let mut count = 0;
    while count < *len {
        if count > 0 && count % 4 == 0 && matches!(view.get(at), Some(b' ' | b'-')) {
            at += 1;
        }
        let Some(byte) = view.get(at) else { return if view.more { Attempt::More } else { Attempt::No } };
        let fits = match count {
            0 | 1 => byte.is_ascii_uppercase(),
            2 | 3 => byte.is_ascii_digit(),
            _ => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        };
        if !fits {
            return Attempt::No;
        }
        check.add(count, byte);
        count += 1;
        at += 1;
    }
    if view.unknown(at) {
        return Attempt::More;
    }
    if check.is_valid() && !is_word_at(view, at) { Attempt::Found { start, end: at } } else { Attempt::No }
}

/// ISO 7064 MOD 97-10 over the number with its first four characters moved to the end.
#[derive(Default)]
struct Checksum {
    first: [u8; 4],
    remainder: u32,
}

impl Checksum {
    fn add(&mut self, index: usize, byte: u8) {
        match self.first.get_mut(index) {
            Some(slot) => *slot = byte,
            None => self.remainder = step(self.remainder, byte),
        }
    }

    fn is_valid(&self) -> bool {
        self.first.iter().fold(self.remainder, |remainder, byte| step(remainder, *byte)) == 1
    }
}

fn step(remainder: u32, byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    }
}

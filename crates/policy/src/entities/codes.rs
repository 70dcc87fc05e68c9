//! Identifiers of letters and digits in one word: tax and identity numbers of several states, vehicle numbers, bank
//! codes. All are judged on one look at the word; what is written in groups (a British number, a MAC address) begins
//! with a short one.

use super::context;
use super::crypto;
use super::iban;
use super::stand_in::is_stand_in;
use super::types::EntityType;
use super::view::{Attempt, View, is_word, is_word_at};
use super::{Typed, longer};

/// Bytes of the longest word looked at: an address of a wallet in Bech32.
pub(super) const WORD_BYTES_MAX: usize = 64;

/// What begins at a place where a letter or digit begins a word.
pub(super) fn at(view: &View<'_>, start: usize) -> Typed {
    if is_plain(view, start) {
        return Typed::none(view);
    }
    let end = view.run_max(start, WORD_BYTES_MAX + 1, is_word);
    let len = end - start;
    if len > WORD_BYTES_MAX {
        return Typed::none(view);
    }
    if view.unknown(end) {
        return Typed::more(view);
    }
    let word = view.slice(start, end);
    let has_digit = word.iter().any(u8::is_ascii_digit);
    let best = Typed::none(view)
        .or(EntityType::MacAddress, mac_address(view, start, len))
        .or(EntityType::UkNino, national_insurance(view, start, len));
    if !has_digit {
        return best.or(EntityType::SwiftCode, found(swift(view, start, word), start, end));
    }
    let entity = match len {
        8 | 9 => spanish(view, start, word),
        10 if is_pan(word) => Some((EntityType::InPan, end)),
        16 if is_fiscal_code(word) => Some((EntityType::ItFiscalCode, end)),
        17 if is_vehicle(view, start, word) => Some((EntityType::Vin, end)),
        26.. if crypto::is_address(word) => Some((EntityType::Crypto, end)),
        _ => None,
    };
    let best = match entity {
        Some((entity, end)) => best.or(entity, Attempt::Found { start, end }),
        None => best,
    };
    if len == 9 && is_singaporean(view, start, word) {
        return best.or(EntityType::SgNricFin, Attempt::Found { start, end });
    }
    if word.first().is_some_and(u8::is_ascii_alphabetic) {
        return best
            .or(EntityType::SwiftCode, found(swift(view, start, word), start, end))
            .or(EntityType::UsPassport, found(is_passport(view, start, word), start, end))
            .or(EntityType::UsDriverLicense, found(is_license(view, start, word), start, end));
    }
    best
}

/// Whether the word begins as words of prose do and no code does: two small letters after the first, and none of the
/// signs that come later.
fn is_plain(view: &View<'_>, start: usize) -> bool {
    match view.slice(start, start + 7) {
        [first, second, third, _, fifth, _, seventh] => {
            first.is_ascii_alphabetic()
                && second.is_ascii_lowercase()
                && third.is_ascii_lowercase()
                && *fifth != b'.'
                && !seventh.is_ascii_digit()
        }
        _ => false,
    }
}

fn found(is_one: bool, start: usize, end: usize) -> Attempt {
    if is_one { Attempt::Found { start, end } } else { Attempt::No }
}

/// Whether bytes are of these kinds: `A` a capital, `a` any letter, `9` a digit, `*` either; anything else is itself.
fn is_shaped(word: &[u8], shape: &[u8]) -> bool {
    word.len() == shape.len()
        && word.iter().zip(shape).all(|(byte, kind)| match kind {
            b'A' => byte.is_ascii_uppercase(),
            b'a' => byte.is_ascii_alphabetic(),
            b'9' => byte.is_ascii_digit(),
            b'*' => byte.is_ascii_alphanumeric(),
            other => byte == other,
        })
}

fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}

/// Letters of the Spanish check, by the number modulo 23.
const SPANISH: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// `12345678Z`, `12345678-Z`, `X1234567L`, `X1234567-L`; seven digits and a letter after a word that says so.
fn spanish(view: &View<'_>, start: usize, word: &[u8]) -> Option<(EntityType, usize)> {
    let end = start + word.len();
    let (body, letter, end) = match (word.split_last()?, view.get(end), view.get(end + 1)) {
        ((letter, body), _, _) if letter.is_ascii_alphabetic() => (body, *letter, end),
        (_, Some(b'-'), Some(letter)) if letter.is_ascii_alphabetic() && !is_word_at(view, end + 2) => {
            (word, letter, end + 2)
        }
        _ => return None,
    };
    let foreigner = match body.first()?.to_ascii_uppercase() {
        b'X' => Some(0),
        b'Y' => Some(10_000_000),
        b'Z' => Some(20_000_000),
        _ => None,
    };
    let checks = |number: u64| {
        let place = usize::try_from(number % 23).unwrap_or_default();
        SPANISH.get(place) == Some(&letter.to_ascii_uppercase())
    };
    if let Some(base) = foreigner {
        let digits = body.get(1..)?;
        return (is_shaped(digits, b"9999999") && checks(base + number(digits)))
            .then_some((EntityType::EsNie, end));
    }
    let is_number = is_shaped(body, b"99999999")
        || is_shaped(body, b"9999999") && context::named(view, start).has(EntityType::EsNif);
    (is_number && checks(number(body))).then_some((EntityType::EsNif, end))
}

/// `ABCPD1234E`: the fourth letter is the kind of holder.
fn is_pan(word: &[u8]) -> bool {
    let holder = word.get(3).is_some_and(|byte| b"ABCFGHJLPT".contains(byte));
    is_shaped(word, b"AAAAA9999A") && holder
}

/// `S1234567D`, with its check letter or after a word that says so
/// (<https://en.wikipedia.org/wiki/National_Registration_Identity_Card#Structure_of_the_NRIC_number/FIN>).
fn is_singaporean(view: &View<'_>, start: usize, word: &[u8]) -> bool {
    let (Some(kind), Some(digits), Some(letter)) = (word.first(), word.get(1..8), word.get(8)) else {
        return false;
    };
    let (offset, letters): (usize, &[u8; 11]) = match kind.to_ascii_uppercase() {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"KLJNPQRTUWX"),
        _ => return false,
    };
    if !is_shaped(digits, b"9999999") {
        return false;
    }
    let sum: usize = digits
        .iter()
        .zip([2, 7, 6, 5, 4, 3, 2])
        .map(|(byte, weight)| usize::from(byte - b'0') * weight)
        .sum();
    let place = (sum + offset) % 11;
    let place = if *kind == b'M' { 10 - place } else { place };
    letters.get(place) == Some(&letter.to_ascii_uppercase())
        || letter.is_ascii_alphabetic() && context::named(view, start).has(EntityType::SgNricFin)
}

/// A codice fiscale with its check letter.
fn is_fiscal_code(word: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    if !is_shaped(word, b"aaaaaa99a99a999a") {
        return false;
    }
    let value = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.to_ascii_uppercase() - b'A',
    };
    let sum: u32 = word
        .iter()
        .take(15)
        .enumerate()
        .map(|(index, byte)| {
            let value = value(*byte);
            if index % 2 == 0 { ODD.get(usize::from(value)).copied().unwrap_or(0) } else { u32::from(value) }
        })
        .sum();
    word.last().is_some_and(|last| u32::from(value(*last)) == sum % 26)
}

/// A vehicle's number: with its check digit, which only North America demands, or after a word that says so.
fn is_vehicle(view: &View<'_>, start: usize, word: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() && !b"IOQ".contains(byte);
    let letters = word.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let serial = word.get(13..).is_some_and(|serial| serial.iter().all(u8::is_ascii_digit));
    if !word.iter().all(fits) || !(1..=14).contains(&letters) {
        return false;
    }
    serial && has_vehicle_check(word) || context::named(view, start).has(EntityType::Vin)
}

/// 49 CFR 565.15 (c).
fn has_vehicle_check(word: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let value = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'H' => byte - b'A' + 1,
        b'J'..=b'R' => byte - b'J' + 1,
        b'S'..=b'Z' => byte - b'S' + 2,
        _ => 0,
    };
    let sum: u32 = word.iter().zip(WEIGHTS).map(|(byte, weight)| u32::from(value(*byte)) * weight).sum();
    let check = match sum % 11 {
        10 => b'X',
        digit => b'0' + u8::try_from(digit).unwrap_or_default(),
    };
    word.get(8) == Some(&check)
}

/// ISO 9362 after a word that says so: bank, country, place, branch.
fn swift(view: &View<'_>, start: usize, word: &[u8]) -> bool {
    let shaped = is_shaped(word, b"AAAAAA**") || is_shaped(word, b"AAAAAA*****");
    let is_capital = word.iter().all(|byte| !byte.is_ascii_lowercase());
    let country = word.get(4..6).unwrap_or_default();
    let known = iban::countries().any(|known| known == country)
        || BIC_COUNTRIES.as_chunks::<2>().0.iter().any(|known| known == country);
    shaped && is_capital && known && context::named(view, start).has(EntityType::SwiftCode)
}

/// Large countries without IBANs, and smaller ones with many banks.
const BIC_COUNTRIES: &[u8] = b"USCACNJPINAUNZSGHKKRMXZATHIDMYPHVNTWCLCOPEARNGKEMAPAKY";

/// `A12345678` after a word that says so.
fn is_passport(view: &View<'_>, start: usize, word: &[u8]) -> bool {
    is_shaped(word, b"a99999999") && context::named(view, start).has(EntityType::UsPassport)
}

/// A letter and the digits that states use, after a word that says so.
fn is_license(view: &View<'_>, start: usize, word: &[u8]) -> bool {
    let digits = word.get(1..).unwrap_or_default();
    matches!(digits.len(), 6..=8 | 11..=14)
        && digits.iter().all(u8::is_ascii_digit)
        && context::named(view, start).has(EntityType::UsDriverLicense)
}

/// Pairs of letters that begin no national insurance number
/// (<https://www.gov.uk/hmrc-internal-manuals/national-insurance-manual/nim39110>).
const NO_INSURANCE: [&[u8]; 7] = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"];

/// `AB123456C`, and the same in groups of two.
fn national_insurance(view: &View<'_>, start: usize, len: usize) -> Attempt {
    if !matches!(len, 2 | 9) {
        return Attempt::No;
    }
    let prefix: Vec<u8> = view.slice(start, start + 2).to_ascii_uppercase();
    let letters = is_shaped(&prefix, b"AA")
        && !prefix.iter().any(|byte| b"DFIQUV".contains(byte))
        && prefix.get(1) != Some(&b'O')
        && !NO_INSURANCE.contains(&prefix.as_slice());
    if !letters {
        return Attempt::No;
    }
    // Six digits and a letter, with one blank or dash before each pair and before the letter, or none.
    let mut at = start + 2;
    for place in 0..7 {
        if place % 2 == 0 && matches!(view.get(at), Some(b' ' | b'-')) {
            at += 1;
        }
        let Some(byte) = view.get(at) else {
            return if view.more { Attempt::More } else { Attempt::No };
        };
        let fits = if place < 6 { byte.is_ascii_digit() } else { matches!(byte, b'A'..=b'D' | b'a'..=b'd') };
        if !fits {
            return Attempt::No;
        }
        at += 1;
    }
    if view.unknown(at) {
        return Attempt::More;
    }
    found(!is_word_at(view, at), start, at)
}

/// `00:1A:2B:3C:4D:5E`, the same with dashes, or `001a.2b3c.4d5e`.
fn mac_address(view: &View<'_>, start: usize, len: usize) -> Attempt {
    let (groups, separators) = match len {
        2 => (6, &b":-"[..]),
        4 => (3, &b"."[..]),
        _ => return Attempt::No,
    };
    let Some(separator) = view.get(start + len).filter(|byte| separators.contains(byte)) else {
        return Attempt::No;
    };
    if view.before(start).is_some_and(|byte| matches!(byte, b':' | b'-' | b'.')) {
        return Attempt::No;
    }
    let mut at = start;
    for group in 0..groups {
        if group > 0 {
            match view.get(at) {
                None if view.more => return Attempt::More,
                Some(byte) if byte == separator => at += 1,
                _ => return Attempt::No,
            }
        }
        for _ in 0..len {
            match view.get(at) {
                None if view.more => return Attempt::More,
                Some(byte) if byte.is_ascii_hexdigit() => at += 1,
                _ => return Attempt::No,
            }
        }
    }
    if view.unknown(at) || view.get(at) == Some(separator) && view.unknown(at + 1) {
        return Attempt::More;
    }
    let goes_on = view.get(at) == Some(separator) && is_word_at(view, at + 1);
    let digits = || view.slice(start, at).iter().filter(|byte| byte.is_ascii_hexdigit());
    // All alike stands for no card or for all of them.
    let varies = digits().any(|byte| Some(byte) != digits().next());
    found(!goes_on && !is_word_at(view, at) && varies, start, at)
}

/// The secrets that are known by characters in their middle, at a place where a word begins.
pub(super) fn marked_secret(view: &View<'_>, start: usize) -> Attempt {
    longer(entra_secret(view, start), discord_token(view, start))
}

/// Microsoft Entra client secrets: `abc8Q~` and 31 to 34 characters.
fn entra_secret(view: &View<'_>, start: usize) -> Attempt {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'~' | b'.' | b'-');
    if view.get(start + 4).is_some_and(|byte| byte != b'Q') {
        return Attempt::No;
    }
    let mark = view.slice(start, (start + 6).min(view.bytes.len()));
    let begins = mark.iter().enumerate().all(|(index, byte)| match index {
        0..=2 => fits(*byte),
        3 => byte.is_ascii_digit(),
        4 => *byte == b'Q',
        _ => *byte == b'~',
    });
    if !begins {
        return Attempt::No;
    }
    if mark.len() < 6 {
        return if view.more { Attempt::More } else { Attempt::No };
    }
    let body = start + 6;
    let end = view.run_max(body, 35, fits);
    let len = end - body;
    match len {
        35.. => Attempt::No,
        _ if view.unknown(end) => Attempt::More,
        31..=34 if is_stand_in(view.slice(body, end)) => Attempt::No,
        31..=34 => {
            let dots = view.slice(body, end).iter().rev().take_while(|byte| **byte == b'.').count();
            Attempt::Found { start, end: end - dots.min(len - 31) }
        }
        _ => Attempt::No,
    }
}

/// A Discord bot's token: its number in base64, a time, a signature.
fn discord_token(view: &View<'_>, start: usize) -> Attempt {
    if !matches!(view.get(start), Some(b'M' | b'N' | b'O')) {
        return Attempt::No;
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut at = start;
    for (lengths, is_last) in [(23..=28, false), (6..=6, false), (27..=40, true)] {
        let end = view.run_max(at, lengths.end() + 1, fits);
        let len = end - at;
        at = end;
        if len > *lengths.end() {
            return Attempt::No;
        }
        if view.unknown(at) {
            return Attempt::More;
        }
        if len < *lengths.start() || !is_last && view.get(at) != Some(b'.') {
            return Attempt::No;
        }
        at += usize::from(!is_last);
    }
    Attempt::Found { start, end: at }
}

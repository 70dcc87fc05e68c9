//! Telephone numbers. Digits alone prove nothing, so a number needs a sign of being one: a `+`, brackets, the
//! North American or a leading-zero grouping, or a word such as "phone" shortly before.

use super::context;
use super::numbers::{Group, Groups};
use super::view::{Attempt, View, is_word, is_word_at};

/// Digits in an international number. ITU-T E.164 §6: at most 15; fewer than 8 are not in use with a `+`.
const DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// Bytes before bare digits in which a word may say that they are a telephone number.
const CONTEXT_BYTES: usize = 32;

/// Those words.
const CONTEXT_WORDS: [&str; 16] = [
    "phone",
    "phones",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "call",
    "fax",
    "whatsapp",
    "sms",
    "dial",
    "hotline",
    "landline",
    "handy",
    "ph",
];

/// A number that begins with `+`, or one in brackets.
pub(super) fn marked(view: &View<'_>, start: usize) -> Attempt {
    if view.before(start).is_some_and(is_word) {
        return Attempt::No;
    }
    match view.get(start) {
        Some(b'+') => international(view, start),
        _ => bracketed(view, start),
    }
}

fn international(view: &View<'_>, start: usize) -> Attempt {
    let first = start + 1;
    if view.unknown(first) {
        return Attempt::More;
    }
    if !matches!(view.get(first), Some(b'1'..=b'9')) {
        return Attempt::No;
    }
    // The North American plan has a fixed length; so a number after it is not taken for its end.
    let lengths = if view.get(first) == Some(b'1') { 11..=11 } else { DIGITS };
    let mut digits = 0;
    let mut at = first;
    let mut end = None;
    loop {
        let run = view.run(at, |byte| byte.is_ascii_digit());
        digits += run - at;
        if digits > *lengths.end() {
            break;
        }
        if view.unknown(run) {
            return Attempt::More;
        }
        if lengths.contains(&digits) && !is_word_at(view, run) {
            end = Some(run);
        }
        // Up to two characters between groups: ` (`, `) `, or one separator.
        let gap = view.run(run, |byte| matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')'));
        if digits == *lengths.end() || gap == run || gap - run > 2 {
            break;
        }
        if view.unknown(gap) {
            return Attempt::More;
        }
        if !view.get(gap).is_some_and(|byte| byte.is_ascii_digit()) {
            break;
        }
        at = gap;
    }
    end.map_or(Attempt::No, |end| Attempt::Found { start, end })
}

/// `(212) 555-0100`, `(64) 3591-3246`.
fn bracketed(view: &View<'_>, start: usize) -> Attempt {
    let area = view.run(start + 1, |byte| byte.is_ascii_digit());
    let area_len = area - start - 1;
    if area_len > 5 {
        return Attempt::No;
    }
    if view.unknown(area) {
        return Attempt::More;
    }
    if area_len < 2 || view.get(area) != Some(b')') {
        return Attempt::No;
    }
    let rest = area + 1 + usize::from(matches!(view.get(area + 1), Some(b' ' | b'-')));
    if view.unknown(rest) {
        return Attempt::More;
    }
    if !view.get(rest).is_some_and(|byte| byte.is_ascii_digit()) {
        return Attempt::No;
    }
    let Some(groups) = Groups::read(view, rest) else { return Attempt::More };
    let Some([left, right]) = groups.all().get(..2) else { return Attempt::No };
    let fits = (3..=5).contains(&left.len())
        && right.len() == 4
        && matches!(right.separator, b'-' | b' ' | b'.')
        && !matches!(groups.separator_after(2), Some(b'-' | b'.'));
    if fits { complete(view, start, right.end) } else { Attempt::No }
}

/// A national number in groups of digits, or bare digits after a word that says so.
pub(super) fn national(view: &View<'_>, start: usize, groups: &Groups) -> Attempt {
    let end = north_american(view, groups)
        .or_else(|| leading_zeros(view, groups))
        .or_else(|| announced(view, start, groups));
    end.map_or(Attempt::No, |end| complete(view, start, end))
}

/// `212-555-0100`, `1.212.555.0100`.
fn north_american(view: &View<'_>, groups: &Groups) -> Option<usize> {
    for separator in *b"-. " {
        for shape in [&[1, 3, 3, 4][..], &[3, 3, 4]] {
            let Some(first) = groups.shaped(shape, separator) else { continue };
            let mut parts = first.iter().rev();
            let (Some(line), Some(exchange), Some(area)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let trunk = parts.next().is_none_or(|trunk| view.get(trunk.start) == Some(b'1'));
            let assigned = |at: usize| matches!(view.get(at), Some(b'2'..=b'9'));
            let joined = groups.separator_after(shape.len()).is_some_and(|after| after != b' ');
            if trunk && assigned(area.start) && assigned(exchange.start) && !joined {
                return Some(line.end);
            }
        }
    }
    None
}

/// `020 7946 0958`, `07946 498371`, `01 23 45 67 89`, `001-245-318-8453`: of the groups that fit, the most.
fn leading_zeros(view: &View<'_>, groups: &Groups) -> Option<usize> {
    let all = groups.all();
    let separator = all.get(1)?.separator;
    if separator == b'/' || view.get(all.first()?.start) != Some(b'0') {
        return None;
    }
    let alike = 1 + all.iter().skip(1).take_while(|group| group.separator == separator).count();
    let stands_alone = |count: &usize| groups.separator_after(*count).is_none_or(|after| after == b' ');
    (2..=alike)
        .rev()
        .filter(stands_alone)
        .filter_map(|count| all.get(..count))
        .find(|some| has_leading_zeros(view, some, separator))
        .and_then(|some| some.last().map(|group| group.end))
}

fn has_leading_zeros(view: &View<'_>, groups: &[Group], separator: u8) -> bool {
    let Some(first) = groups.first() else { return false };
    let digits = digits(groups);
    if view.slice(first.start, first.end).starts_with(b"00") {
        let country = matches!(view.get(first.start + 2), Some(b'1'..=b'9'));
        return country && groups.len() >= 3 && (10..=17).contains(&digits);
    }
    let pairs = groups.len() == 5 && groups.iter().all(|group| group.len() == 2);
    let long = first.len() <= 5
        && groups.iter().skip(1).all(|group| (3..=8).contains(&group.len()))
        && groups.len() <= 4;
    // `0412 123 45 67`.
    let short = (3..=4).contains(&groups.len())
        && (3..=5).contains(&first.len())
        && groups.iter().skip(1).all(|group| (2..=4).contains(&group.len()))
        && digits >= 10;
    (9..=11).contains(&digits) && (pairs || (long || short) && separator != b'.')
}

fn digits(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.len()).sum()
}

/// Digits in a national number, with its leading zero.
const NATIONAL_DIGITS_MAX: usize = 11;

/// Digits after a word that says what they are. Where more follow than a number can have, the first of them.
fn announced(view: &View<'_>, start: usize, groups: &Groups) -> Option<usize> {
    let all = groups.all();
    let fits = |count: &usize| {
        all.get(..*count).is_some_and(|some| {
            let grouped = some.iter().skip(1).all(|group| group.separator != b'/' && group.len() >= 2);
            let max = if *count == all.len() { *DIGITS.end() } else { NATIONAL_DIGITS_MAX };
            let joined = groups.separator_after(*count).is_some_and(|after| after != b' ');
            grouped && !joined && (7..=max).contains(&digits(some))
        })
    };
    let count = (1..=all.len()).rev().find(fits)?;
    let end = all.get(count - 1)?.end;
    is_announced(view, start).then_some(end)
}

fn is_announced(view: &View<'_>, start: usize) -> bool {
    let mut words = context::words(view, start, CONTEXT_BYTES);
    words.any(|word| CONTEXT_WORDS.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
}

/// Digits in an extension.
const EXTENSION_DIGITS_MAX: usize = 6;

/// A number whose digits end at `end`, with the extension that may follow: `x123`. Any other word may not.
fn complete(view: &View<'_>, start: usize, end: usize) -> Attempt {
    if view.get(end) != Some(b'x') {
        return if is_word_at(view, end) { Attempt::No } else { Attempt::Found { start, end } };
    }
    let last = view.run(end + 1, |byte| byte.is_ascii_digit());
    let digits = last - end - 1;
    if digits > EXTENSION_DIGITS_MAX {
        return Attempt::No;
    }
    if view.unknown(last) {
        return Attempt::More;
    }
    if digits > 0 && !is_word_at(view, last) { Attempt::Found { start, end: last } } else { Attempt::No }
}

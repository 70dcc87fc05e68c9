//! What is written in digits: payment cards and IPv4 addresses; telephone numbers are in `phone`, numbers that states
//! and banks give out in `national`. All are judged on one split of the place into groups of digits.

use super::view::{Attempt, View, is_word, is_word_at};
use super::{EntityType, Typed, checks, context, longest_typed, national, phone};

/// Bytes of digits and single separators looked at together; the longest format (a card of 19 digits in
/// groups, a telephone number) takes 24.
pub(super) const CLUSTER_BYTES_MAX: usize = 40;

/// Groups of digits in such a cluster.
const GROUPS_MAX: usize = 8;

/// Groups of digits with single separators between them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Groups {
    groups: [Group; GROUPS_MAX],
    len: usize,
}

/// One group of digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The separator before it; 0 for none.
    pub(super) separator: u8,
}

impl Group {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

impl Groups {
    /// Splits what begins with a digit at `start`; `None` if its end depends on what follows the text.
    pub(super) fn read(view: &View<'_>, start: usize) -> Option<Self> {
        let mut groups = Self::default();
        let mut at = start;
        let mut separator = 0;
        while let Some(slot) = groups.groups.get_mut(groups.len) {
            let end = view.run(at, |byte| byte.is_ascii_digit());
            *slot = Group { start: at, end, separator };
            groups.len += 1;
            if end - start > CLUSTER_BYTES_MAX {
                break;
            }
            if view.unknown(end) || view.unknown(end + 1) && is_separator(view.get(end)) {
                return None;
            }
            if !(is_separator(view.get(end)) && view.get(end + 1).is_some_and(|byte| byte.is_ascii_digit())) {
                break;
            }
            separator = view.get(end).unwrap_or(0);
            at = end + 1;
        }
        Some(groups)
    }

    pub(super) fn all(&self) -> &[Group] {
        self.groups.get(..self.len).unwrap_or_default()
    }

    /// The first groups, if they have these lengths and all the one separator.
    pub(super) fn shaped(&self, lengths: &[usize], separator: u8) -> Option<&[Group]> {
        let first = self.all().get(..lengths.len())?;
        let fits = first.iter().zip(lengths).all(|(group, len)| group.len() == *len)
            && first.iter().skip(1).all(|group| group.separator == separator);
        fits.then_some(first)
    }

    /// The separator after the first `count` groups, when another group follows.
    pub(super) fn separator_after(&self, count: usize) -> Option<u8> {
        self.all().get(count).map(|group| group.separator)
    }
}

fn is_separator(byte: Option<u8>) -> bool {
    matches!(byte, Some(b' ' | b'-' | b'.' | b'/'))
}

/// The longest entity in digits at a place where a digit begins a word.
pub(super) fn at(view: &View<'_>, start: usize) -> Typed {
    // The middle of a longer number: `1.2345`, `978-0-306`.
    let inner = matches!(view.before(start), Some(b'.' | b'-'))
        && view.before(start - 1).is_some_and(|byte| byte.is_ascii_digit());
    if inner {
        return Typed::none(view);
    }
    let Some(groups) = Groups::read(view, start) else { return Typed::more(view) };
    let telephone = phone::national(view, start, &groups);
    if telephone == Attempt::More {
        return Typed::more(view);
    }
    let found = |end: Option<usize>| end.map_or(Attempt::No, |end| Attempt::Found { start, end });
    // The first of the longest: this order is the priority.
    let best = longest_typed(
        view,
        [
            (EntityType::CreditCard, found(card(view, start, &groups))),
            (EntityType::IpAddress, found(ipv4(view, &groups))),
            (EntityType::PhoneNumber, telephone),
        ],
    );
    match national::at(view, start, &groups) {
        Some(number) if number.is_named => {
            Typed::none(view).or(number.entity, Attempt::Found { start, end: number.end })
        }
        Some(number) => best.or(number.entity, Attempt::Found { start, end: number.end }),
        None => best,
    }
}

/// How cards are written: in one group, or as embossed.
const CARD_SHAPES: [&[usize]; 4] = [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

fn card(view: &View<'_>, place: usize, groups: &Groups) -> Option<usize> {
    let is_named = || context::named(view, place).has(EntityType::CreditCard);
    let is_card = |start, end| is_card(view.slice(start, end), is_named);
    let single = groups.all().first().filter(|group| (12..=19).contains(&group.len()));
    if let Some(group) = single {
        let joined = matches!(groups.separator_after(1), Some(b'-' | b'.'));
        let end = group.end;
        return (!joined && !is_word_at(view, end) && is_card(group.start, end)).then_some(end);
    }
    for separator in *b" -" {
        for shape in CARD_SHAPES {
            let Some(first) = groups.shaped(shape, separator) else { continue };
            let (Some(start), Some(end)) = (first.first().map(|g| g.start), first.last().map(|g| g.end))
            else {
                continue;
            };
            let joined = separator == b'-' && groups.separator_after(shape.len()) == Some(b'-');
            if !joined && !is_word_at(view, end) && is_card(start, end) {
                return Some(end);
            }
        }
    }
    None
}

/// Whether the digits are a card number: a known issuer's prefix and length (ISO/IEC 7812 ranges as the
/// networks publish them), or a word before that says so, and a valid Luhn check digit.
fn is_card(written: &[u8], is_named: impl FnOnce() -> bool) -> bool {
    let mut digits = [0u8; 19];
    let mut len = 0;
    for byte in written.iter().filter(|byte| byte.is_ascii_digit()) {
        let Some(slot) = digits.get_mut(len) else { return false };
        *slot = byte - b'0';
        len += 1;
    }
    let digits = digits.get(..len).unwrap_or_default();
    let prefix =
        |count: usize| digits.iter().take(count).fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let known = match prefix(6) {
        400_000..=499_999 => matches!(len, 13 | 16 | 19),
        510_000..=559_999 | 222_100..=272_099 => len == 16,
        340_000..=349_999 | 370_000..=379_999 => len == 15,
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            (14..=19).contains(&len)
        }
        213_100..=213_199 | 180_000..=180_099 => len == 15,
        352_800..=358_999 | 620_000..=629_999 => (16..=19).contains(&len),
        601_100..=601_199 | 644_000..=659_999 => (16..=19).contains(&len),
        500_000..=509_999 | 560_000..=589_999 | 630_400..=630_499 | 675_900..=676_399 => {
            (13..=19).contains(&len)
        }
        _ => false,
    };
    digits.iter().any(|digit| *digit != 0) && checks::luhn(digits) && (known || is_named())
}

/// Words after which four numbers are a version.
const VERSION_WORDS: [&[u8]; 9] =
    [b"version", b"versions", b"ver", b"v", b"release", b"build", b"firmware", b"rev", b"revision"];

/// A dotted quad that is not a version, loopback or unspecified: those identify nobody.
fn ipv4(view: &View<'_>, groups: &Groups) -> Option<usize> {
    let four = groups.all().get(..4)?;
    let dotted = four.iter().skip(1).all(|group| group.separator == b'.');
    if !dotted || groups.separator_after(4) == Some(b'.') {
        return None;
    }
    let mut octets = [0u32; 4];
    for (octet, group) in octets.iter_mut().zip(four) {
        let digits = view.slice(group.start, group.end);
        if digits.len() > 3 || digits.len() > 1 && digits.starts_with(b"0") {
            return None;
        }
        *octet = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    }
    let (start, end) = (four.first()?.start, four.last()?.end);
    let local = matches!(octets, [127, ..] | [0, 0, 0, 0]);
    if local || octets.iter().any(|octet| *octet > 255) || is_word_at(view, end) {
        return None;
    }
    // `file-1.2.3.4.tar`, `Agent/1.2.3.4`, `1.2.3.4.zip`: a version in a name.
    let named_before =
        matches!(view.before(start), Some(b'-' | b'/')) && view.before(start - 1).is_some_and(is_word);
    let named_after =
        view.get(end) == Some(b'.') && view.get(end + 1).is_some_and(|byte| byte.is_ascii_alphabetic());
    (!named_before && !named_after && !VERSION_WORDS.contains(&word_before(view, start).as_slice()))
        .then_some(end)
}

/// Bytes looked at for the word before a number.
const WORD_BACK_BYTES: usize = 16;

/// The word before a place, in small letters, with a little punctuation between.
fn word_before(view: &View<'_>, start: usize) -> Vec<u8> {
    let back = view.back(start, WORD_BACK_BYTES);
    let gap = back
        .iter()
        .rev()
        .take(2)
        .take_while(|byte| matches!(byte, b' ' | b':' | b'.' | b'=' | b'#' | b'('))
        .count();
    let back = back.get(..back.len() - gap).unwrap_or_default();
    let len = back.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    back.get(back.len() - len..).unwrap_or_default().to_ascii_lowercase()
}

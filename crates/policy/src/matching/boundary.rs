//! Word boundaries as UAX #29 draws them, on normal forms, with the one look-ahead they need. Line breaks,
//! emoji and flags have no rule here: a boundary is asked for only beside a letter or digit.

use super::chars::{CharInfo, Wb};

/// Marks and format characters looked past when the character after them decides. UAX #29 sets no limit;
/// a stream has to, or a flood of them would be held for ever.
const EXTENDS_MAX: usize = 32;

/// The classes of the last two characters before a text, marks not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    last: Wb,
    second: Wb,
}

impl Default for Before {
    fn default() -> Self {
        Self::START
    }
}

impl Before {
    /// Nothing stands before.
    pub(crate) const START: Self = Self { last: Wb::Start, second: Wb::Start };

    /// What stands before `text[at..]`, when `self` stands before `text`.
    pub(crate) fn at(self, text: &str, at: usize) -> Self {
        let mut bases =
            text.get(..at).unwrap_or_default().chars().rev().map(class).filter(|class| *class != Wb::Extend);
        match (bases.next(), bases.next()) {
            (Some(last), Some(second)) => Self { last, second },
            (Some(last), None) => Self { last, second: self.last },
            // Marks with nothing to stand on are a character of their own.
            (None, _) if at > 0 && self.last == Wb::Start => Self { last: Wb::Other, second: Wb::Start },
            (None, _) => self,
        }
    }
}

fn class(c: char) -> Wb {
    CharInfo::of(c).word_break()
}

fn is_letter(class: Wb) -> bool {
    matches!(class, Wb::ALetter | Wb::HebrewLetter)
}

/// Joins two letters (WB6, WB7).
fn is_mid_letter(class: Wb) -> bool {
    matches!(class, Wb::MidLetter | Wb::MidNumLet | Wb::SingleQuote)
}

/// Joins two digits (WB11, WB12).
fn is_mid_number(class: Wb) -> bool {
    matches!(class, Wb::MidNum | Wb::MidNumLet | Wb::SingleQuote)
}

/// Whether a word boundary lies before `text[at..]`; `None` if that depends on what is still to come.
pub(crate) fn is_boundary(before: Before, text: &str, at: usize, more: bool) -> Option<bool> {
    let mut after = text.get(at..).unwrap_or_default().chars().map(class);
    let Some(next) = after.next() else { return if more { None } else { Some(true) } };
    let Before { last, second } = before.at(text, at);
    let joined = match (last, next) {
        (Wb::Start, _) => false,
        (_, Wb::Extend) => true,
        (a, b) if is_letter(a) && is_letter(b) => true,
        (a, b) if is_letter(a) && b == Wb::Numeric || a == Wb::Numeric && is_letter(b) => true,
        (Wb::Numeric, Wb::Numeric) | (Wb::Katakana, Wb::Katakana) => true,
        (Wb::ExtendNumLet, Wb::ExtendNumLet | Wb::Numeric | Wb::Katakana) => true,
        (Wb::Numeric | Wb::Katakana, Wb::ExtendNumLet) => true,
        (Wb::ExtendNumLet, b) if is_letter(b) => true,
        (a, Wb::ExtendNumLet) if is_letter(a) => true,
        (Wb::HebrewLetter, Wb::SingleQuote) => true,
        (a, b) if is_mid_letter(a) && is_letter(second) && is_letter(b) => true,
        (a, Wb::Numeric) if is_mid_number(a) && second == Wb::Numeric => true,
        (Wb::DoubleQuote, Wb::HebrewLetter) if second == Wb::HebrewLetter => true,
        (a, b)
            if is_letter(a) && is_mid_letter(b)
                || a == Wb::Numeric && is_mid_number(b)
                || a == Wb::HebrewLetter && b == Wb::DoubleQuote =>
        {
            let mut skipped = 0;
            let beyond = after.find(|class| {
                skipped += 1;
                *class != Wb::Extend || skipped > EXTENDS_MAX
            });
            match beyond {
                None if more => return None,
                None => false,
                Some(c) if b == Wb::DoubleQuote => c == Wb::HebrewLetter,
                Some(c) if a == Wb::Numeric => c == Wb::Numeric,
                Some(c) => is_letter(c),
            }
        }
        _ => false,
    };
    Some(!joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation;

    use super::*;

    fn boundaries(text: &str) -> Vec<usize> {
        (0..=text.len())
            .filter(|at| text.is_char_boundary(*at))
            .filter(|at| is_boundary(Before::START, text, *at, false) == Some(true))
            .collect()
    }

    #[test]
    fn examples_of_the_annex() {
        assert_eq!(boundaries("can't"), [0, 5]);
        assert_eq!(boundaries("3.5mm"), [0, 5]);
        assert_eq!(boundaries("a_b c"), [0, 3, 4, 5]);
        assert_eq!(boundaries("a.b."), [0, 3, 4]);
        assert_eq!(boundaries("中文"), [0, 3, 6]);
        assert_eq!(boundaries("カタ"), [0, 6]);
    }

    #[test]
    fn what_is_not_there_yet_is_undecided() {
        assert_eq!(is_boundary(Before::START, "ab", 2, true), None);
        assert_eq!(is_boundary(Before::START, "ab.", 2, true), None);
        assert_eq!(is_boundary(Before::START, "ab. ", 2, true), Some(true));
        assert_eq!(is_boundary(Before::START, "ab,", 2, true), Some(true));
        assert_eq!(is_boundary(Before::START, "1,", 1, true), None);
    }

    fn near_word(text: &str, at: usize) -> bool {
        let edge = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        edge(text[..at].chars().next_back()) || edge(text[at..].chars().next())
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(text in "[ab1._:,'\" \u{903}א中カひ가_é’\u{1f3fb}-]{0,12}") {
            let expected: Vec<usize> =
                text.split_word_bound_indices().map(|(at, _)| at).chain([text.len()]).filter(|at| near_word(&text, *at)).collect();
            let found: Vec<usize> = boundaries(&text).into_iter().filter(|at| near_word(&text, *at)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_text_may_be_cut_anywhere(text in "[ab1._:,'\" \u{903}א中カ_-]{0,12}", cut in 0usize..12) {
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let before = Before::START.at(&text, cut);
            for at in cut + 1..text.len() {
                if text.is_char_boundary(at) {
                    prop_assert_eq!(
                        is_boundary(before, &text[cut..], at - cut, false),
                        is_boundary(Before::START, &text, at, false)
                    );
                }
            }
        }
    }
}

//! What matching knows of single characters: what each one normalises to on its own, whether it starts a
//! normalisation segment, and its word-break class. Looked up once per block of 256 and kept, so that judging
//! costs one table access per character. Texts of several characters are in `normal`.

use std::sync::OnceLock;

use icu_casemap::CaseMapper;
use icu_properties::props::{
    BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory, WhiteSpace, WordBreak,
};
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Word-break classes as the rules of UAX #29 tell them apart; what no rule about letters and digits
/// mentions is `Other`. `Extend` stands for Extend, Format and ZWJ; no character has `Start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wb {
    Start,
    Other,
    ALetter,
    HebrewLetter,
    Numeric,
    Katakana,
    ExtendNumLet,
    MidLetter,
    MidNum,
    MidNumLet,
    SingleQuote,
    DoubleQuote,
    Extend,
}

const CLASSES: [Wb; 12] = [
    Wb::Other,
    Wb::ALetter,
    Wb::HebrewLetter,
    Wb::Numeric,
    Wb::Katakana,
    Wb::ExtendNumLet,
    Wb::MidLetter,
    Wb::MidNum,
    Wb::MidNumLet,
    Wb::SingleQuote,
    Wb::DoubleQuote,
    Wb::Extend,
];

/// What a character normalises to when it is a segment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// Nothing.
    Dropped,
    /// One character.
    Char(char),
    /// Several: see [`fold_segment`].
    Several,
}

/// A character's properties, packed: bits 0–20 the character it becomes, 21–24 the word-break class, 25
/// starts a segment, 26 dropped, 27 becomes several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CharInfo(u32);

const STARTS: u32 = 1 << 25;
const DROPPED: u32 = 1 << 26;
const SEVERAL: u32 = 1 << 27;

impl CharInfo {
    pub(crate) fn of(c: char) -> Self {
        static BLOCKS: [OnceLock<Box<[CharInfo]>>; 0x1100] = [const { OnceLock::new() }; 0x1100];
        let code = c as u32;
        let block = BLOCKS.get((code >> 8) as usize).map(|block| {
            block.get_or_init(|| {
                let first = code & !0xff;
                (first..=first | 0xff)
                    .map(|code| char::from_u32(code).map_or(Self(STARTS), Self::compute))
                    .collect()
            })
        });
        block.and_then(|block| block.get((code & 0xff) as usize)).copied().unwrap_or(Self(STARTS))
    }

    /// What the character becomes alone.
    pub(crate) fn alone(self) -> Alone {
        if self.0 & DROPPED != 0 {
            Alone::Dropped
        } else if self.0 & SEVERAL != 0 {
            Alone::Several
        } else {
            char::from_u32(self.0 & 0x1f_ffff).map_or(Alone::Dropped, Alone::Char)
        }
    }

    /// The class of the character itself.
    pub(crate) fn word_break(self) -> Wb {
        CLASSES.get((self.0 >> 21 & 0xf) as usize).copied().unwrap_or(Wb::Other)
    }

    /// Whether NFKC never reorders or composes it with what stands before it.
    pub(crate) fn starts_segment(self) -> bool {
        self.0 & STARTS != 0
    }

    fn compute(c: char) -> Self {
        let mut folded = String::new();
        fold_segment(c.encode_utf8(&mut [0; 4]), &mut folded);
        let mut chars = folded.chars();
        let becomes = match (chars.next(), chars.next()) {
            (None, _) => DROPPED,
            (Some(one), None) => one as u32,
            (Some(_), Some(_)) => SEVERAL,
        };
        let class = CLASSES.iter().position(|class| *class == word_break_of(c)).unwrap_or(0);
        let starts = if starts_segment(c) { STARTS } else { 0 };
        Self(becomes | u32::try_from(class).unwrap_or(0) << 21 | starts)
    }
}

/// Appends the normal form of one segment: NFKC, default-ignorable characters dropped, full case folding,
/// marks (Mn) dropped, ı as i, look-alikes folded, white space as a blank. Runs of blanks are the caller's.
pub(crate) fn fold_segment(segment: &str, out: &mut String) {
    let composed: String = segment.nfkc().filter(|c| !DefaultIgnorableCodePoint::for_char(*c)).collect();
    let folded = CaseMapper::new().fold_string(&composed);
    for c in folded.chars() {
        match c {
            'ß' => out.push_str("ss"),
            'ı' => out.push('i'),
            _ if WhiteSpace::for_char(c) => out.push(' '),
            _ if GeneralCategory::for_char(c) == GeneralCategory::NonspacingMark => {}
            _ => out.push(look_alike(c)),
        }
    }
}

/// The Latin letter that a Cyrillic or Greek letter looks like, in either case; any other character as it is.
///
/// Source: Unicode confusables (UTS #39, <https://www.unicode.org/Public/security/latest/confusables.txt>),
/// entries from one case-folded letter to one Latin letter, by its small form where that looks Latin and
/// else by its capital.
fn look_alike(c: char) -> char {
    match c {
        // Greek
        'α' => 'a',
        'β' => 'b',
        'γ' => 'y',
        'ε' => 'e',
        'ζ' => 'z',
        'η' => 'h',
        'ι' => 'i',
        'κ' => 'k',
        'μ' => 'm',
        'ν' => 'v',
        'ο' | 'σ' | 'ϭ' => 'o',
        'ρ' | 'ϸ' => 'p',
        'τ' => 't',
        'υ' => 'u',
        'χ' => 'x',
        'ϝ' => 'f',
        'ϳ' => 'j',
        'ϻ' => 'm',
        // Cyrillic
        'а' => 'a',
        'в' | 'ь' => 'b',
        'г' => 'r',
        'е' | 'ҽ' => 'e',
        'к' => 'k',
        'м' => 'm',
        'н' | 'һ' => 'h',
        'о' => 'o',
        'р' => 'p',
        'с' => 'c',
        'т' => 't',
        'у' | 'ү' => 'y',
        'х' => 'x',
        'ш' | 'ѡ' | 'ԝ' => 'w',
        'ѕ' => 's',
        'і' | 'ꙇ' => 'i',
        'ј' => 'j',
        'ѵ' => 'v',
        'ӏ' => 'l',
        'ԁ' => 'd',
        'ԍ' => 'g',
        'ԛ' => 'q',
        other => other,
    }
}

fn word_break_of(c: char) -> Wb {
    match WordBreak::for_char(c) {
        WordBreak::ALetter => Wb::ALetter,
        WordBreak::HebrewLetter => Wb::HebrewLetter,
        WordBreak::Numeric => Wb::Numeric,
        WordBreak::Katakana => Wb::Katakana,
        WordBreak::ExtendNumLet => Wb::ExtendNumLet,
        WordBreak::MidLetter => Wb::MidLetter,
        WordBreak::MidNum => Wb::MidNum,
        WordBreak::MidNumLet => Wb::MidNumLet,
        WordBreak::SingleQuote => Wb::SingleQuote,
        WordBreak::DoubleQuote => Wb::DoubleQuote,
        WordBreak::Extend | WordBreak::Format | WordBreak::ZWJ => Wb::Extend,
        _ => Wb::Other,
    }
}

/// UAX #15: nothing before `c` can interact with it when its compatibility decomposition begins with a
/// starter that composes with no preceding character.
fn starts_segment(c: char) -> bool {
    let mut first = None;
    decompose_compatible(c, |part| {
        first.get_or_insert(part);
    });
    let first = first.unwrap_or(c);
    canonical_combining_class(first) == 0
        && is_nfc_quick(std::iter::once(first)) != IsNormalized::Maybe
        && is_nfc_quick(std::iter::once(c)) != IsNormalized::Maybe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut out = String::new();
        fold_segment(text, &mut out);
        out
    }

    #[test]
    fn ascii_becomes_its_small_form_and_nothing_else() {
        for byte in 0..128u8 {
            let c = char::from(byte);
            let expected = if matches!(byte, 9..=13) { ' ' } else { c.to_ascii_lowercase() };
            assert_eq!(CharInfo::of(c).alone(), Alone::Char(expected), "{c:?}");
            assert!(CharInfo::of(c).starts_segment());
        }
    }

    #[test]
    fn letters_fold_as_the_contract_says() {
        let cases = [
            ("İ", "i"),
            ("ı", "i"),
            ("ß", "ss"),
            ("ẞ", "ss"),
            ("ﬁ", "fi"),
            ("Ａ", "a"),
            ("é", "é"),
            ("e\u{301}", "é"),
            ("x\u{301}", "x"),
            ("\u{200d}", ""),
            ("\u{ad}", ""),
            ("\u{fe0f}", ""),
            ("\u{a0}", " "),
            ("\u{3000}", " "),
            ("Ѕ", "s"),
            ("ς", "o"),
            ("\u{1100}\u{1161}", "가"),
        ];
        for (text, expected) in cases {
            assert_eq!(folded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn look_alikes_never_touch_ascii_and_give_small_latin_letters() {
        for code in 0..=0x10_ffffu32 {
            let Some(c) = char::from_u32(code) else { continue };
            let like = look_alike(c);
            assert!(like == c || (!c.is_ascii() && like.is_ascii_lowercase()));
        }
    }

    #[test]
    fn packing_loses_nothing() {
        let info = CharInfo::of('中');
        assert_eq!((info.alone(), info.word_break()), (Alone::Char('中'), Wb::Other));
        assert_eq!(CharInfo::of('_').word_break(), Wb::ExtendNumLet);
        assert_eq!(CharInfo::of('’').word_break(), Wb::MidNumLet);
        assert_eq!(CharInfo::of('カ').word_break(), Wb::Katakana);
        assert_eq!(CharInfo::of('\u{903}').word_break(), Wb::Extend);
        assert_eq!(CharInfo::of('…').alone(), Alone::Several);
        assert!(!CharInfo::of('\u{301}').starts_segment());
        assert!(!CharInfo::of('\u{1161}').starts_segment());
        assert!(CharInfo::of('가').starts_segment());
    }
}

//! Texts in normal form, each place still knowing which part of the original it came from. What a single
//! character or segment becomes is in `chars`; ASCII texts are never normalised at all (`terms` reads them
//! as they are).

use super::bytes::fold_ascii;
use super::chars::{Alone, CharInfo, fold_segment};

/// Characters in one normalisation segment, after which a new one is begun. UAX #15 §13 (Stream-Safe Text)
/// takes 30 combining characters for more than any language needs; so a flood of them needs no memory.
const SEGMENT_CHARS_MAX: usize = 32;

/// A text's normal form.
#[derive(Debug, Default)]
pub(crate) struct Normal {
    /// The form itself.
    pub(crate) text: String,
    /// Bytes of the original that it covers; less than all where the last segment may still grow.
    pub(crate) finished: usize,
    runs: Vec<Run>,
    scratch: String,
}

/// A stretch of the normal form and where it came from.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where it starts in the normal form.
    normal: usize,
    /// Where it starts in the original.
    original: usize,
    /// Length in the original of a segment that maps as a whole; 0 where bytes map one to one.
    whole: usize,
}

impl Normal {
    /// Normalises `original`. With `more` to come, the last segment is left out if it may still grow.
    pub(crate) fn read(&mut self, original: &str, more: bool) {
        self.text.clear();
        self.runs.clear();
        self.finished = original.len();
        let bytes = original.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte < 0x80 && bytes.get(at + 1).is_some_and(|next| *next < 0x80) {
                self.push_ascii(byte, at);
                at += 1;
                continue;
            }
            let end = segment_end(original, at);
            if end == original.len() && more && !is_closed(byte) {
                self.finished = at;
                break;
            }
            self.push_segment(original.get(at..end).unwrap_or_default(), at);
            at = end;
        }
    }

    /// The original place of the character that starts at `normal`.
    pub(crate) fn original_start(&self, normal: usize) -> usize {
        self.run_at(normal)
            .map_or(0, |run| run.original + if run.whole == 0 { normal - run.normal } else { 0 })
    }

    /// Where, in the original, the character that ends at `normal` ends.
    pub(crate) fn original_end(&self, normal: usize) -> usize {
        let last = normal.saturating_sub(1);
        self.run_at(last)
            .map_or(0, |run| run.original + if run.whole == 0 { last - run.normal + 1 } else { run.whole })
    }

    /// The place in the normal form of what came from `original` on.
    pub(crate) fn normal_start(&self, original: usize) -> usize {
        let next = self.runs.partition_point(|run| run.original < original);
        let end = self.runs.get(next).map_or(self.text.len(), |run| run.normal);
        match next.checked_sub(1).and_then(|index| self.runs.get(index)) {
            Some(run) if run.whole == 0 => (run.normal + (original - run.original)).min(end),
            _ => end,
        }
    }

    fn run_at(&self, normal: usize) -> Option<&Run> {
        let next = self.runs.partition_point(|run| run.normal <= normal);
        next.checked_sub(1).and_then(|index| self.runs.get(index))
    }

    fn push_ascii(&mut self, byte: u8, at: usize) {
        let folded = fold_ascii(byte);
        if folded == b' ' {
            self.push_folded(' ', at, at + 1);
            return;
        }
        let normal = self.text.len();
        let joins =
            self.runs.last().is_some_and(|run| run.whole == 0 && run.original + (normal - run.normal) == at);
        if !joins {
            self.runs.push(Run { normal, original: at, whole: 0 });
        }
        self.text.push(char::from(folded));
    }

    fn push_segment(&mut self, segment: &str, at: usize) {
        let mut chars = segment.chars();
        let (first, second) = (chars.next(), chars.next());
        if let (Some(first), None) = (first, second) {
            match CharInfo::of(first).alone() {
                Alone::Dropped => return,
                Alone::Char(c) if first.is_ascii() && c != ' ' => return self.push_ascii(first as u8, at),
                Alone::Char(c) => return self.push_folded(c, at, at + segment.len()),
                Alone::Several => {}
            }
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        fold_segment(segment, &mut scratch);
        for c in scratch.chars() {
            self.push_folded(c, at, at + segment.len());
        }
        self.scratch = scratch;
    }

    /// Appends what came of `original[start..end]`; runs of blanks become one.
    fn push_folded(&mut self, c: char, start: usize, end: usize) {
        if c == ' ' && self.text.ends_with(' ') {
            if let Some(run) = self.runs.last_mut() {
                run.whole = end - run.original;
            }
            return;
        }
        self.runs.push(Run { normal: self.text.len(), original: start, whole: end - start });
        self.text.push(c);
    }
}

/// Whether no mark that follows this ASCII character can change it: no composite begins with it. Such a
/// character is a segment of its own.
pub(crate) const fn is_closed(byte: u8) -> bool {
    byte < 0x80 && !byte.is_ascii_alphabetic() && !matches!(byte, b'<' | b'=' | b'>')
}

/// Where the segment that starts at `start` ends.
fn segment_end(text: &str, start: usize) -> usize {
    let mut chars = text.get(start..).unwrap_or_default().chars();
    let Some(first) = chars.next() else { return start };
    let mut end = start + first.len_utf8();
    if first.is_ascii() && is_closed(first as u8) {
        return end;
    }
    for c in chars.take(SEGMENT_CHARS_MAX - 1) {
        if c.is_ascii() || CharInfo::of(c).starts_segment() {
            break;
        }
        end += c.len_utf8();
    }
    end
}

/// A term's normal form: without white space at its ends.
pub(crate) fn normalise(text: &str) -> String {
    let mut normal = Normal::default();
    normal.read(text, false);
    normal.text.trim_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    #[test]
    fn normal_forms() {
        let cases = [
            ("  Credential \r\n\u{a0} Theft\t", "credential theft"),
            ("b\u{200b}o\u{200d}m\u{ad}b", "bomb"),
            ("Ｂｏｍｂ", "bomb"),
            ("ВОМВ", "bomb"),
            ("b\u{336}o\u{336}m\u{336}b\u{336}", "bomb"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
            ("eﬃcient", "efficient"),
            ("İstanbul", "istanbul"),
            ("\u{1100}\u{1161}\u{11a8}", "각"),
            ("👩\u{200d}💻\u{fe0f}", "👩💻"),
            ("…", "..."),
            ("\u{200b}", ""),
            ("a \u{200b} b", "a b"),
        ];
        for (text, expected) in cases {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn places_map_to_whole_segments() {
        let text = "x  B\u{200b}o\u{301}ﬁ!";
        let mut normal = Normal::default();
        normal.read(text, false);
        assert_eq!(normal.text, "x bófi!");
        let spans: Vec<&str> = normal
            .text
            .char_indices()
            .map(|(at, c)| &text[normal.original_start(at)..normal.original_end(at + c.len_utf8())])
            .collect();
        assert_eq!(spans, ["x", "  ", "B", "o\u{301}", "ﬁ", "ﬁ", "!"]);
        for (at, _) in text.char_indices() {
            let start = normal.normal_start(at);
            assert!(normal.text.is_char_boundary(start));
        }
    }

    #[test]
    fn an_unfinished_segment_is_left_out() {
        let mut normal = Normal::default();
        normal.read("中e", true);
        assert_eq!((normal.text.as_str(), normal.finished), ("中", 3));
        normal.read("中.", true);
        assert_eq!((normal.text.as_str(), normal.finished), ("中.", 4));
        normal.read("中e\u{301}", true);
        assert_eq!((normal.text.as_str(), normal.finished), ("中", 3));
    }

    proptest! {
        /// Segment by segment is the same as all at once.
        #[test]
        fn segments_are_independent(text in "[a-zA-Z<= .\u{300}-\u{345}\u{ad}\u{200b}\u{fb00}-\u{fb06}가-각\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}ἀ-ᾼéößİıσς中　\u{915}\u{93c}\u{3099}か]{0,24}") {
            let mut expected = String::new();
            let whole: String = text.nfkc().collect();
            fold_segment(&whole, &mut expected);
            let mut folded = String::new();
            for c in expected.chars() {
                if !(c == ' ' && folded.ends_with(' ')) {
                    folded.push(c);
                }
            }
            let mut normal = Normal::default();
            normal.read(&text, false);
            prop_assert_eq!(normal.text, folded);
        }
    }
}

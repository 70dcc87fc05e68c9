//! Splits a text into normalised words, in one pass and constant memory. A word is a run of letters and digits, lower
//! case, without marks and invisible characters, compatibility forms folded (NFKD). Handles (`@name`), links and the
//! placeholders `[url]` are left out; letters of ideographic scripts and symbols such as emoji are words of their own.
//! What a word means to the classifier is not here.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// Bytes of the longest word; what is longer is cut into several, so that no input makes work per byte grow.
const WORD_BYTES_MAX: usize = 32;

/// Letters of the same kind in a row that a word keeps: `sooooo` is `soo`.
const REPEATS_MAX: usize = 2;

/// Calls `sink` with each word of `text`, in order. Words are never empty and at most 32 bytes.
pub fn for_each_word(text: &str, mut sink: impl FnMut(&[u8])) {
    let mut words = Splitter { word: Buffer::new(), before: 0, link: false, sink: &mut sink };
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii() {
            words.ascii(byte, bytes.get(at + 1..).unwrap_or_default());
            at += 1;
        } else {
            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
            words.unicode(c, bytes.get(at + c.len_utf8()..).unwrap_or_default());
            at += c.len_utf8();
        }
    }
    words.end(0);
}

/// The word being read.
struct Buffer {
    bytes: [u8; WORD_BYTES_MAX],
    len: usize,
    /// How often the last byte stands in a row.
    repeats: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: [0; WORD_BYTES_MAX], len: 0, repeats: 0 }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn last(&self) -> Option<u8> {
        self.get().last().copied()
    }

    /// Whether the byte found room.
    fn push(&mut self, byte: u8) -> bool {
        if byte.is_ascii_alphabetic() && self.last() == Some(byte) {
            self.repeats += 1;
            if self.repeats > REPEATS_MAX {
                return true;
            }
        } else {
            self.repeats = 1;
        }
        match self.bytes.get_mut(self.len) {
            Some(slot) => {
                *slot = byte;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// Turns digits between letters into the letters that they are drawn for: `h3llo` is `hello`. A word needs three
    /// letters for it, so that names such as `b2b` stay.
    fn undisguise(&mut self) {
        let word = self.bytes.get_mut(..self.len).unwrap_or_default();
        let letters = word.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        let [first, middle @ .., last] = word else { return };
        if letters < 3 || !first.is_ascii_alphabetic() || !last.is_ascii_alphabetic() {
            return;
        }
        for byte in middle {
            *byte = match *byte {
                b'0' => b'o',
                b'1' => b'i',
                b'3' => b'e',
                b'4' => b'a',
                b'5' => b's',
                b'7' => b't',
                other => other,
            };
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.repeats = 0;
    }
}

struct Splitter<'a, F: FnMut(&[u8])> {
    word: Buffer,
    /// The byte in front of the word: `@` and `[` decide whether it counts.
    before: u8,
    /// Within a link: nothing counts until white space.
    link: bool,
    sink: &'a mut F,
}

impl<F: FnMut(&[u8])> Splitter<'_, F> {
    fn ascii(&mut self, byte: u8, rest: &[u8]) {
        if self.link {
            self.link = !byte.is_ascii_whitespace();
            self.before = byte;
            return;
        }
        if byte.is_ascii_alphanumeric() {
            self.push(byte.to_ascii_lowercase());
            return;
        }
        let inside = self.word.len > 0 && rest.first().is_some_and(u8::is_ascii_alphabetic);
        match byte {
            b'\'' | b'*' if inside => self.push(byte),
            b'$' if inside || (self.word.len > 0 && rest.starts_with(b"$")) => self.push(b's'),
            b':' if matches!(self.word.get(), b"http" | b"https") && rest.starts_with(b"//") => {
                self.word.clear();
                self.link = true;
            }
            _ => self.end(byte),
        }
    }

    fn unicode(&mut self, c: char, rest: &[u8]) {
        if self.link {
            self.link = !c.is_whitespace();
            return;
        }
        if matches!(c, '\u{2019}' | '\u{2018}' | '\u{ff07}') {
            return self.ascii(b'\'', rest);
        }
        if is_invisible(c) {
            return;
        }
        decompose_compatible(c, |part| self.part(part));
    }

    /// One character of a decomposition.
    fn part(&mut self, c: char) {
        if c.is_ascii() {
            return self.ascii(c as u8, b"");
        }
        if is_combining_mark(c) {
            return;
        }
        let mut utf8 = [0; 4];
        if is_word_alone(c) {
            self.end(b' ');
            (self.sink)(c.encode_utf8(&mut utf8).as_bytes());
        } else if c.is_alphanumeric() {
            for lower in c.to_lowercase().filter(|lower| !is_combining_mark(*lower)) {
                for &byte in lower.encode_utf8(&mut utf8).as_bytes() {
                    self.push(byte);
                }
            }
        } else {
            self.end(b' ');
        }
    }

    fn push(&mut self, byte: u8) {
        if !self.word.push(byte) {
            self.flush(b' ');
            self.word.push(byte);
        }
    }

    /// Ends the word, if there is one, at a byte that is not part of it.
    fn end(&mut self, boundary: u8) {
        self.flush(boundary);
        self.before = boundary;
    }

    fn flush(&mut self, boundary: u8) {
        if self.word.len == 0 {
            return;
        }
        let handle = self.before == b'@';
        let placeholder = self.before == b'[' && boundary == b']' && self.word.get() == b"url";
        if !handle && !placeholder {
            self.word.undisguise();
            (self.sink)(self.word.get());
        }
        self.word.clear();
    }
}

/// Zero-width and other characters that a reader does not see.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Scripts without spaces between words, and symbols that mean something alone (emoji, dingbats).
fn is_word_alone(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(String::from_utf8_lossy(word).into_owned()));
        words
    }

    #[test]
    fn letters_digits_and_apostrophes_make_words() {
        assert_eq!(words("Don't  panic, it’s 42!"), ["don't", "panic", "it's", "42"]);
        assert_eq!(words("'quoted' rock'n'roll **bold** f*ck"), ["quoted", "rock'n'roll", "bold", "f*ck"]);
        assert!(words("").is_empty());
        assert!(words(" \u{200b}\u{feff}...!?\0").is_empty());
    }

    #[test]
    fn disguises_are_undone() {
        assert_eq!(
            words("ＦＵＬＬ caf\u{e9} na\u{308}ive co\u{200b}py sooooo a$$et"),
            ["full", "cafe", "naive", "copy", "soo", "asset"]
        );
        assert_eq!(words("k1ll h3llo b2b 4ever gpt4"), ["kill", "hello", "b2b", "4ever", "gpt4"]);
    }

    #[test]
    fn handles_links_and_placeholders_are_left_out() {
        assert_eq!(words("@someone hi [url] see https://example.com/a?b=c now [URL]"), ["hi", "see", "now"]);
        assert_eq!(words("url [url is open"), ["url", "url", "is", "open"]);
    }

    #[test]
    fn ideographs_and_symbols_stand_alone() {
        assert_eq!(words("你好 world👍🏽ok"), ["你", "好", "world", "👍", "ok"]);
        assert_eq!(words("Привет ΣΑΣ"), ["привет", "σασ"]);
    }

    #[test]
    fn a_long_run_is_cut_and_none_of_it_is_lost() {
        let run: String = "abcdefghij".repeat(100);
        let words = words(&run);
        assert!(words.iter().all(|word| word.len() <= WORD_BYTES_MAX));
        assert_eq!(words.concat(), run);
    }

    proptest! {
        #[test]
        fn any_text_gives_short_words_that_are_never_empty(text in "\\PC{0,200}") {
            for_each_word(&text, |word| assert!(!word.is_empty() && word.len() <= WORD_BYTES_MAX));
        }

        #[test]
        fn any_bytes_read_as_text_are_fine(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for_each_word(&String::from_utf8_lossy(&bytes), |word| assert!(!word.is_empty()));
        }
    }
}

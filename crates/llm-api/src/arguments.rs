//! Tool-call arguments: JSON inside a string, read as it grows. Takes it in pieces of any cut and tells keys, strings and
//! numbers apart from the structure around them, escapes decoded. One reader for whole messages and streams alike, so that
//! both see the same texts. What is no JSON is one plain text from there on; models break JSON often, so nothing is an
//! error here.

use std::collections::VecDeque;

use crate::json::DEPTH_MAX;

/// Bytes kept until it is known what they are: an opening bracket, a number or a word, and blanks after it. Longer ones
/// are plain text.
const KEPT_BYTES_MAX: usize = 1024;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// In a JSON string, key or value, between its quotes.
    Quoted,
    /// A JSON number. It comes in one piece.
    Number,
    /// As it is: what is no JSON.
    Plain,
}

/// Takes the arguments apart. What is passed as `raw` adds up to all of them.
pub trait Parts {
    /// Structure: brackets, commas, quotes, blanks, `true`.
    fn structure(&mut self, raw: &str);
    /// A text begins.
    fn begin(&mut self, spelling: Spelling);
    /// It goes on. `raw` differs from `text` for an escape, which comes by itself.
    fn text(&mut self, text: &str, raw: &str);
    /// It is complete.
    fn end(&mut self);
}

/// Where the escapes of a quoted text stand, from a place on that moves ahead: how much of the raw text a part of the
/// decoded text takes.
#[derive(Clone, Debug, Default)]
pub struct Escapes {
    /// Place in the decoded text, bytes of that, raw bytes.
    escapes: VecDeque<(usize, usize, usize)>,
    at: usize,
    end: usize,
}

impl Escapes {
    /// The text goes on, as [`Parts::text`] told.
    pub fn add(&mut self, text: &str, raw: &str) {
        if text.len() != raw.len() {
            self.escapes.push_back((self.end, text.len(), raw.len()));
        }
        self.end += text.len();
    }

    /// Moves over the next `bytes` of the decoded text. Gives the raw bytes that they take.
    pub fn advance(&mut self, bytes: usize) -> usize {
        let to = self.at + bytes;
        let mut raw = bytes;
        while let Some((_, text_bytes, raw_bytes)) = self.escapes.pop_front_if(|(at, ..)| *at < to) {
            raw += raw_bytes - text_bytes;
        }
        self.at = to;
        raw
    }
}

/// What may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a document, or after one: models write several in a row.
    #[default]
    Document,
    /// A value.
    Value,
    /// A value, or the end of an empty array.
    ValueOrEnd,
    /// A key, or the end of an empty object.
    KeyOrEnd,
    /// A key.
    Key,
    /// The colon after a key.
    Colon,
    /// A comma or the end of the container.
    CommaOrEnd,
    /// Within a number, `true`, `false` or `null`.
    Word,
    /// After one.
    AfterWord,
    /// Within a string; whether it is a key.
    Quoted { key: bool },
    /// What is no JSON.
    Plain,
}

/// Reads arguments piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    state: State,
    /// Open containers, innermost last: whether it is an object.
    open: Vec<bool>,
    /// See [`KEPT_BYTES_MAX`].
    kept: String,
    /// The word within `kept`.
    word: std::ops::Range<usize>,
    /// An escape that is not complete.
    escape: String,
}

impl Reader {
    /// Reads the next piece.
    pub fn push(&mut self, piece: &str, parts: &mut impl Parts) {
        let mut rest = piece;
        while !rest.is_empty() {
            let read = match self.state {
                State::Plain => {
                    parts.text(rest, rest);
                    rest.len()
                }
                State::Quoted { key } => self.quoted(rest, key, parts),
                State::Word => self.word(rest, parts),
                _ => self.between(rest, parts),
            };
            rest = rest.get(read..).unwrap_or_default();
        }
    }

    /// No more comes: what is kept is told, and an open text ends.
    pub fn finish(&mut self, parts: &mut impl Parts) {
        match self.state {
            State::Quoted { .. } => {
                if !self.escape.is_empty() {
                    let escape = std::mem::take(&mut self.escape);
                    parts.text(&escape, &escape);
                }
                parts.end();
            }
            State::Plain => parts.end(),
            State::Word => {
                if self.is_known_word() {
                    self.tell_kept(parts);
                } else {
                    self.turn_plain(parts);
                    parts.end();
                }
            }
            _ => self.tell_kept(parts),
        }
        *self = Self::default();
    }

    /// Reads on within a string. Gives the bytes read.
    fn quoted(&mut self, rest: &str, key: bool, parts: &mut impl Parts) -> usize {
        if !self.escape.is_empty() {
            let Some(next) = rest.chars().next() else { return 0 };
            self.escape.push(next);
            self.escaped(parts);
            return next.len_utf8();
        }
        let found = memchr::memchr2(b'"', b'\\', rest.as_bytes());
        let run = rest.get(..found.unwrap_or(rest.len())).unwrap_or_default();
        if !run.is_empty() {
            parts.text(run, run);
        }
        let Some(found) = found else { return rest.len() };
        if rest.as_bytes().get(found) == Some(&b'"') {
            parts.end();
            parts.structure("\"");
            self.state = if key { State::Colon } else { self.after_value() };
        } else {
            self.escape.push('\\');
        }
        found + 1
    }

    /// Tells the escape once it is complete. What turns out to be none is text as it stands.
    fn escaped(&mut self, parts: &mut impl Parts) {
        let Some((decoded, bytes)) = decode(&self.escape) else { return };
        let escape = std::mem::take(&mut self.escape);
        let (raw, more) = escape.split_at(bytes);
        match decoded {
            Some(char) => parts.text(char.encode_utf8(&mut [0; 4]), raw),
            None => parts.text(raw, raw),
        }
        // What was looked at beyond the escape: a few bytes, read again.
        self.push(more, parts);
    }

    /// Reads on within a number or word.
    fn word(&mut self, rest: &str, parts: &mut impl Parts) -> usize {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let run = rest.bytes().take_while(is_word).count();
        let room = KEPT_BYTES_MAX.saturating_sub(self.kept.len());
        if run > room {
            self.kept.push_str(rest.get(..room).unwrap_or_default());
            self.turn_plain(parts);
            return room;
        }
        self.kept.push_str(rest.get(..run).unwrap_or_default());
        self.word.end = self.kept.len();
        match rest.as_bytes().get(run) {
            None => {}
            Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t') if self.is_known_word() => {
                self.state = State::AfterWord;
            }
            Some(_) => self.turn_plain(parts),
        }
        run
    }

    /// Reads one byte of structure, or blanks.
    fn between(&mut self, rest: &str, parts: &mut impl Parts) -> usize {
        let blanks = rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        if blanks > 0 {
            return self.keep_or_tell(rest.get(..blanks).unwrap_or_default(), parts);
        }
        let byte = rest.as_bytes().first().copied().unwrap_or_default();
        let innermost = self.open.last().copied();
        let (awaits_value, may_end) = match self.state {
            State::Document | State::Value => (true, false),
            State::ValueOrEnd => (true, true),
            State::KeyOrEnd | State::CommaOrEnd | State::AfterWord => (false, true),
            _ => (false, false),
        };
        match byte {
            b'"' if awaits_value || matches!(self.state, State::Key | State::KeyOrEnd) => {
                let key = !awaits_value;
                self.tell_kept(parts);
                parts.structure("\"");
                parts.begin(Spelling::Quoted);
                self.state = State::Quoted { key };
            }
            b'{' | b'[' if awaits_value && self.open.len() < DEPTH_MAX => {
                self.open.push(byte == b'{');
                if byte == b'{' {
                    self.tell_kept(parts);
                    parts.structure("{");
                    self.state = State::KeyOrEnd;
                } else {
                    // May as well begin a placeholder, where JSON breaks off.
                    self.state = State::ValueOrEnd;
                    return self.keep_or_tell("[", parts);
                }
            }
            b'}' | b']' if may_end && innermost == Some(byte == b'}') => {
                self.tell_kept(parts);
                parts.structure(if byte == b'}' { "}" } else { "]" });
                self.open.pop();
                self.state = self.after_value();
            }
            b',' if matches!(self.state, State::CommaOrEnd | State::AfterWord) && innermost.is_some() => {
                self.tell_kept(parts);
                parts.structure(",");
                self.state = if innermost == Some(true) { State::Key } else { State::Value };
            }
            b':' if self.state == State::Colon => {
                parts.structure(":");
                self.state = State::Value;
            }
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' if awaits_value => {
                self.word = self.kept.len()..self.kept.len();
                self.state = State::Word;
                return 0;
            }
            _ => {
                self.turn_plain(parts);
                return 0;
            }
        }
        1
    }

    /// Blanks and brackets stay with what is kept, and else pass. Gives the bytes read.
    fn keep_or_tell(&mut self, raw: &str, parts: &mut impl Parts) -> usize {
        if self.kept.is_empty() && raw != "[" {
            parts.structure(raw);
            return raw.len();
        }
        let room = KEPT_BYTES_MAX.saturating_sub(self.kept.len());
        self.kept.push_str(raw.get(..raw.len().min(room)).unwrap_or_default());
        if raw.len() > room {
            self.turn_plain(parts);
        }
        raw.len().min(room)
    }

    fn after_value(&self) -> State {
        if self.open.is_empty() { State::Document } else { State::CommaOrEnd }
    }

    /// What is kept is JSON.
    fn tell_kept(&mut self, parts: &mut impl Parts) {
        if self.kept.is_empty() {
            return;
        }
        let kept = std::mem::take(&mut self.kept);
        let word = kept.get(self.word.clone()).unwrap_or_default();
        if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            tell_structure(kept.get(..self.word.start), parts);
            parts.begin(Spelling::Number);
            parts.text(word, word);
            parts.end();
            tell_structure(kept.get(self.word.end..), parts);
        } else {
            parts.structure(&kept);
        }
        self.word = 0..0;
    }

    /// What is kept, and all that follows, is no JSON.
    fn turn_plain(&mut self, parts: &mut impl Parts) {
        parts.begin(Spelling::Plain);
        if !self.kept.is_empty() {
            parts.text(&self.kept, &self.kept);
        }
        *self = Self { state: State::Plain, ..Self::default() };
    }

    fn is_known_word(&self) -> bool {
        let word = self.kept.get(self.word.clone()).unwrap_or_default();
        matches!(word, "true" | "false" | "null") || is_number(word.as_bytes())
    }
}

fn tell_structure(raw: Option<&str>, parts: &mut impl Parts) {
    if let Some(raw) = raw.filter(|raw| !raw.is_empty()) {
        parts.structure(raw);
    }
}

/// RFC 8259 §6.
fn is_number(word: &[u8]) -> bool {
    let digits = |from: usize| word.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(word.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && word.get(at) == Some(&b'0')) {
        return false;
    }
    at += whole;
    if word.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(word.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(word.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == word.len()
}

/// What an escape says and how many bytes it takes; `None` while that depends on what follows. An escape that JSON does
/// not know says nothing and stands for itself; half a surrogate pair is U+FFFD, as in readers that take it at all.
fn decode(escape: &str) -> Option<(Option<char>, usize)> {
    let mut chars = escape.chars().skip(1);
    let first = chars.next()?;
    let simple = match first {
        'u' => return decode_hex(escape),
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '"' | '\\' | '/' => first,
        // The quote or backslash that may follow is read again.
        _ => return Some((None, 1)),
    };
    Some((Some(simple), 2))
}

fn decode_hex(escape: &str) -> Option<(Option<char>, usize)> {
    let Hex::Unit(unit) = hex(escape) else {
        return if hex(escape) == Hex::More { None } else { Some((None, 1)) };
    };
    if !(0xd800..0xe000).contains(&unit) {
        return Some((char::from_u32(unit), 6));
    }
    const LONE: Option<(Option<char>, usize)> = Some((Some(char::REPLACEMENT_CHARACTER), 6));
    if unit >= 0xdc00 {
        return LONE;
    }
    let rest = escape.get(6..).unwrap_or_default();
    if rest.is_empty() || rest == "\\" {
        return None;
    }
    match hex(rest) {
        Hex::More => None,
        Hex::Unit(low) if (0xdc00..0xe000).contains(&low) => {
            Some((char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)), 12))
        }
        _ => LONE,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hex {
    Unit(u32),
    More,
    No,
}

/// The `\uXXXX` at the beginning.
fn hex(text: &str) -> Hex {
    let Some(digits) = text.strip_prefix("\\u") else { return Hex::No };
    let digits = digits.get(..4).unwrap_or(digits);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Hex::No;
    }
    match u32::from_str_radix(digits, 16) {
        Ok(unit) if digits.len() == 4 => Hex::Unit(unit),
        _ => Hex::More,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The texts found, by spelling, and everything passed as `raw`.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Read {
        texts: Vec<(Spelling, String)>,
        raw: String,
        is_open: bool,
    }

    impl Parts for Read {
        fn structure(&mut self, raw: &str) {
            assert!(!self.is_open && !raw.is_empty());
            self.raw.push_str(raw);
        }
        fn begin(&mut self, spelling: Spelling) {
            assert!(!self.is_open);
            self.is_open = true;
            self.texts.push((spelling, String::new()));
        }
        fn text(&mut self, text: &str, raw: &str) {
            assert!(self.is_open);
            self.raw.push_str(raw);
            self.texts.last_mut().unwrap().1.push_str(text);
        }
        fn end(&mut self) {
            assert!(self.is_open);
            self.is_open = false;
        }
    }

    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Read {
        let mut reader = Reader::default();
        let mut read = Read::default();
        for piece in pieces {
            reader.push(piece, &mut read);
        }
        reader.finish(&mut read);
        assert!(!read.is_open);
        read
    }

    fn texts(arguments: &str) -> Vec<(Spelling, String)> {
        let whole = read([arguments]);
        assert_eq!(whole.raw, arguments);
        for (at, _) in arguments.char_indices() {
            let (first, second) = arguments.split_at(at);
            assert_eq!(read([first, second]), whole, "{arguments} cut at {at}");
        }
        let single: Vec<String> = arguments.chars().map(String::from).collect();
        assert_eq!(read(single.iter().map(String::as_str)), whole, "{arguments} char by char");
        whole.texts
    }

    fn check(arguments: &str, expected: &[(Spelling, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(spelling, text)| (*spelling, (*text).to_owned())).collect();
        assert_eq!(texts(arguments), expected, "{arguments}");
    }

    use Spelling::{Number, Plain, Quoted};

    #[test]
    fn keys_strings_and_numbers_are_texts() {
        check("", &[]);
        check("{}", &[]);
        check(
            r#" {"a": [1, -2.5e+3 ,true , null, []], "b":{"c":"d"}} "#,
            &[(Quoted, "a"), (Number, "1"), (Number, "-2.5e+3"), (Quoted, "b"), (Quoted, "c"), (Quoted, "d")],
        );
        check("42", &[(Number, "42")]);
        check("true", &[]);
        check(r#""x""#, &[(Quoted, "x")]);
    }

    #[test]
    fn escapes_are_decoded() {
        check(r#"["\u0061\n\"\\\/é"]"#, &[(Quoted, "a\n\"\\/é")]);
        check(r#"["\ud83d\ude00!"]"#, &[(Quoted, "😀!")]);
        check(
            r#"["\ud83dx\ud83d\u0041\ude00\ud83d\ud83d\ude00"]"#,
            &[(Quoted, "\u{fffd}x\u{fffd}A\u{fffd}\u{fffd}😀")],
        );
    }

    #[test]
    fn strings_that_break_the_rules_stay_strings() {
        check("[\"a\nb\"]", &[(Quoted, "a\nb")]);
        check(r#"["\x\u12g\é\ud83d"]"#, &[(Quoted, "\\x\\u12g\\é\u{fffd}")]);
        check(r#"{"a":"cut off \u00"#, &[(Quoted, "a"), (Quoted, "cut off \\u00")]);
        check(r#"{"a":"cut off \"#, &[(Quoted, "a"), (Quoted, "cut off \\")]);
    }

    #[test]
    fn what_is_no_json_is_plain() {
        check("not json", &[(Plain, "not json")]);
        check("nope", &[(Plain, "nope")]);
        check("tru", &[(Plain, "tru")]);
        check("{'a': 1}", &[(Plain, "'a': 1}")]);
        check(r#"{"a": [CARD_1], "b": "c"}"#, &[(Quoted, "a"), (Plain, r#"[CARD_1], "b": "c"}"#)]);
        check("4111 1111", &[(Plain, "4111 1111")]);
        check("[4111 1111]", &[(Plain, "[4111 1111]")]);
        check(r#"{"a":01}"#, &[(Quoted, "a"), (Plain, "01}")]);
        check(r#"{"a"}"#, &[(Quoted, "a"), (Plain, "}")]);
        check(r#"{"a":1]"#, &[(Quoted, "a"), (Plain, "1]")]);
        check("]", &[(Plain, "]")]);
        check("[1,]", &[(Number, "1"), (Plain, "]")]);
    }

    #[test]
    fn documents_in_a_row_are_all_read() {
        check(r#"{"a":1}{"b":2}"#, &[(Quoted, "a"), (Number, "1"), (Quoted, "b"), (Number, "2")]);
        check("[]\n[\"x\"]", &[(Quoted, "x")]);
    }

    #[test]
    fn nothing_is_kept_without_bound() {
        let deep = "[".repeat(100_000);
        assert_eq!(read([deep.as_str()]).texts.len(), 1);
        let deep = r#"{"a":"#.repeat(100_000);
        let read_deep = read([deep.as_str()]);
        assert_eq!(read_deep.raw, deep);
        assert_eq!(read_deep.texts.len(), DEPTH_MAX + 1);
        for long in ["1".repeat(5000), format!("[{}1]", " ".repeat(5000)), format!("[1{}]", " ".repeat(5000))]
        {
            let mut reader = Reader::default();
            let mut seen = Read::default();
            for char in long.chars() {
                reader.push(&char.to_string(), &mut seen);
                assert!(reader.kept.len() <= KEPT_BYTES_MAX);
            }
            reader.finish(&mut seen);
            assert_eq!((seen.texts.len(), seen.texts[0].0, seen.raw.as_str()), (1, Plain, long.as_str()));
            assert_eq!(read([long.as_str()]), seen);
        }
    }

    fn strings_of(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => found.push(text.clone()),
            serde_json::Value::Number(number) => found.push(number.to_string()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| strings_of(item, found)),
            serde_json::Value::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key.clone());
                strings_of(value, found);
            }),
            _ => {}
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<bool>().prop_map(Into::into),
            Just(serde_json::Value::Null)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_read_as_serde_reads_it(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let mut expected = Vec::new();
            strings_of(&value, &mut expected);
            let found = texts(&text);
            prop_assert!(found.iter().all(|(spelling, _)| *spelling != Plain));
            prop_assert_eq!(found.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_cut_matters(soup in r#"[\[\]{},:"\\ud8cade0-9eE.+\- tn\n]{0,40}"#) {
            texts(&soup);
        }
    }
}

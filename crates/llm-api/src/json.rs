//! A JSON reader that keeps byte spans: one pass over the text gives a flat tape of nodes, so that a value can be
//! read, copied or replaced in place without re-serialising its neighbours. Strict RFC 8259; the grammar is held
//! against `serde_json` by property tests. Building JSON from values is not done here.

use std::borrow::Cow;
use std::ops::Range;

/// Deepest nesting that is read: past it a document is refused rather than walked.
pub const DEPTH_MAX: usize = 256;

/// Why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at byte {offset}")]
pub struct JsonError {
    /// What was wrong.
    pub message: &'static str,
    /// Where, in bytes from the start.
    pub offset: usize,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number, unparsed.
    Number,
    /// A string without escapes.
    PlainString,
    /// A string with at least one backslash.
    EscapedString,
    /// An array; its items follow.
    Array,
    /// An object; keys and values follow in turn.
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// Index of the node after this one's subtree.
    next: u32,
}

/// A parsed text: nodes in document order. Spans refer to the text that was parsed, which the caller keeps.
#[derive(Clone, Debug)]
pub struct Tape {
    nodes: Vec<Node>,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    tape: &'a Tape,
    index: usize,
}

impl Tape {
    /// Reads a whole JSON text.
    ///
    /// # Errors
    /// [`JsonError`] where it is not JSON, nested deeper than [`DEPTH_MAX`], or 4 GiB long.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        if u32::try_from(text.len()).is_err() {
            return Err(JsonError { message: "text too long", offset: 0 });
        }
        let mut parser = Parser { bytes: text.as_bytes(), at: 0, nodes: Vec::with_capacity(32) };
        parser.document()?;
        Ok(Self { nodes: parser.nodes })
    }

    /// The document's value. `text` must be the text that was parsed.
    pub fn root<'a>(&'a self, text: &'a str) -> Value<'a> {
        Value { text, tape: self, index: 0 }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        // Open containers by node index; the text's nesting never touches the call stack.
        let mut open: Vec<usize> = Vec::with_capacity(16);
        self.skip_space();
        self.value(&mut open)?;
        while let Some(&container) = open.last() {
            self.skip_space();
            let is_object = self.nodes.get(container).is_some_and(|node| node.kind == Kind::Object);
            let is_empty = self.nodes.len() == container + 1;
            let close = if is_object { b'}' } else { b']' };
            match self.peek() {
                Some(byte) if byte == close => {
                    self.at += 1;
                    self.close(container);
                    open.pop();
                    continue;
                }
                Some(b',') if !is_empty => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(_) if is_empty => {}
                Some(_) => return Err(self.error("expected `,` or the end of an array or object")),
                None => return Err(self.error("unexpected end")),
            }
            if is_object {
                if self.peek() != Some(b'"') {
                    return Err(self.error("expected a string as key"));
                }
                self.string()?;
                self.skip_space();
                if self.peek() != Some(b':') {
                    return Err(self.error("expected `:`"));
                }
                self.at += 1;
                self.skip_space();
            }
            self.value(&mut open)?;
        }
        self.skip_space();
        if self.at < self.bytes.len() { Err(self.error("unexpected text after the value")) } else { Ok(()) }
    }

    fn value(&mut self, open: &mut Vec<usize>) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(byte @ (b'{' | b'[')) => {
                if open.len() >= DEPTH_MAX {
                    return Err(self.error("nested too deeply"));
                }
                open.push(self.nodes.len());
                let kind = if byte == b'{' { Kind::Object } else { Kind::Array };
                let start = self.at;
                self.at += 1;
                self.push(kind, start);
                Ok(())
            }
            Some(b't') => self.word(b"true", Kind::True),
            Some(b'f') => self.word(b"false", Kind::False),
            Some(b'n') => self.word(b"null", Kind::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("unexpected end")),
        }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<(), JsonError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            let start = self.at;
            self.at += word.len();
            self.push(kind, start);
            Ok(())
        } else {
            Err(self.error("expected a value"))
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("expected a digit")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        self.push(Kind::Number, start);
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("expected a digit"));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut kind = Kind::PlainString;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return Err(self.error("unterminated string"));
            };
            if let Some(control) = rest.get(..found).unwrap_or_default().iter().position(|byte| *byte < 0x20)
            {
                self.at += control;
                return Err(self.error("raw control character in a string"));
            }
            self.at += found;
            if rest.get(found) == Some(&b'"') {
                self.at += 1;
                self.push(kind, start);
                return Ok(());
            }
            kind = Kind::EscapedString;
            self.escape()?;
        }
    }

    /// Checks one escape. Lone surrogates are let through here: only decoding needs them paired.
    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.error("expected four hex digits"));
                    }
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.error("unknown escape")),
        }
    }

    fn close(&mut self, container: usize) {
        let end = narrow(self.at);
        let next = narrow(self.nodes.len());
        if let Some(node) = self.nodes.get_mut(container) {
            node.end = end;
            node.next = next;
        }
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let next = narrow(self.nodes.len() + 1);
        self.nodes.push(Node { kind, start: narrow(start), end: narrow(self.at), next });
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn error(&self, message: &'static str) -> JsonError {
        JsonError { message, offset: self.at }
    }
}

/// Offsets fit: `Tape::parse` checked the length, and there are no more nodes than bytes.
fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn widen(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl<'a> Value<'a> {
    fn node(self) -> Node {
        self.tape.nodes.get(self.index).copied().unwrap_or(Node {
            kind: Kind::Null,
            start: 0,
            end: 0,
            next: 1,
        })
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the text, quotes and brackets included.
    pub fn span(self) -> Range<usize> {
        let node = self.node();
        widen(node.start)..widen(node.end)
    }

    /// Its text, quotes and brackets included.
    pub fn raw(self) -> &'a str {
        self.text.get(self.span()).unwrap_or_default()
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        matches!(self.kind(), Kind::PlainString | Kind::EscapedString)
    }

    /// Whether it is a string, array or object with nothing in it, or null.
    pub fn is_empty(self) -> bool {
        match self.kind() {
            Kind::Null => true,
            Kind::PlainString => self.span().len() == 2,
            Kind::Array | Kind::Object => widen(self.node().next) == self.index + 1,
            _ => false,
        }
    }

    /// The decoded string; `None` where it is none, or holds a lone surrogate.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let raw = self.raw();
        match self.kind() {
            Kind::PlainString => raw.get(1..raw.len().saturating_sub(1)).map(Cow::Borrowed),
            Kind::EscapedString => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
            _ => None,
        }
    }

    /// The boolean, where it is one.
    pub fn as_bool(self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// The number, where it is one that fits.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind() == Kind::Number { self.raw().parse().ok() } else { None }
    }

    /// Items of an array; none where it is no array.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let is_array = self.kind() == Kind::Array;
        self.children().take_while(move |_| is_array)
    }

    /// Members of an object, as raw key and value; none where it is no object.
    pub fn members(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let mut children = self.children();
        let is_object = self.kind() == Kind::Object;
        std::iter::from_fn(move || {
            if !is_object {
                return None;
            }
            Some((children.next()?, children.next()?))
        })
    }

    /// The member of that name; the last one where there are several.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.members().filter(|(key, _)| key.key_is(name)).last().map(|(_, value)| value)
    }

    /// Whether this key reads `name` once decoded.
    pub fn key_is(self, name: &str) -> bool {
        match self.kind() {
            Kind::PlainString => {
                let raw = self.raw().as_bytes();
                raw.len() == name.len() + 2 && raw.get(1..=name.len()) == Some(name.as_bytes())
            }
            _ => self.as_str().as_deref() == Some(name),
        }
    }

    /// The first key that an object in this subtree holds twice: readers differ in which of the two they take.
    pub fn duplicate_key(self) -> Option<Cow<'a, str>> {
        self.duplicate_member().or_else(|| {
            let members = self.members().map(|(_, value)| value);
            members.chain(self.items()).find_map(Value::duplicate_key)
        })
    }

    /// The first key that this object itself holds twice.
    pub fn duplicate_member(self) -> Option<Cow<'a, str>> {
        let mut few: Vec<Cow<'a, str>> = Vec::new();
        // A set only where the object is large: nearly all have a handful of members.
        let mut many = std::collections::HashSet::new();
        for (key, _) in self.members() {
            // A key that does not decode compares with nothing: it is as ambiguous as one that is there twice.
            let Some(name) = key.as_str() else { return Some(Cow::Borrowed(key.raw())) };
            if few.contains(&name) || many.contains(&name) {
                return Some(name);
            }
            if few.len() < 32 {
                few.push(name);
            } else {
                many.insert(name);
            }
        }
        None
    }

    fn children(self) -> impl Iterator<Item = Value<'a>> {
        let end = widen(self.node().next);
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            if index >= end {
                return None;
            }
            let child = Value { index, ..self };
            index = widen(child.node().next);
            Some(child)
        })
    }
}

/// Replacements of byte ranges, applied in one copy.
#[derive(Clone, Debug, Default)]
pub struct Splice {
    edits: Vec<(Range<usize>, Vec<u8>)>,
}

impl Splice {
    /// Puts `with` in place of `range`. Ranges must not overlap; an empty range inserts. Insertions at one place
    /// come out in the order they were made.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Vec<u8>>) {
        self.edits.push((range, with.into()));
    }

    /// Whether nothing was replaced.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The part `range` of `text` with the replacements that lie in it.
    pub fn apply_to(&mut self, text: &[u8], range: Range<usize>) -> Vec<u8> {
        self.edits.sort_by_key(|(range, _)| range.start);
        let added: usize = self.edits.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(range.len() + added);
        let mut at = range.start;
        for (place, with) in &self.edits {
            if place.start < at || place.end > range.end {
                continue;
            }
            out.extend_from_slice(text.get(at..place.start).unwrap_or_default());
            out.extend_from_slice(with);
            at = place.end;
        }
        out.extend_from_slice(text.get(at..range.end).unwrap_or_default());
        out
    }

    /// The whole of `text` with the replacements.
    pub fn apply(&mut self, text: &[u8]) -> Vec<u8> {
        self.apply_to(text, 0..text.len())
    }
}

/// `text` as a JSON string, quotes included.
pub fn encode_str(text: &str) -> Vec<u8> {
    // Serialising a string cannot fail.
    serde_json::to_vec(text).unwrap_or_else(|_| b"\"\"".to_vec())
}

/// `text` as the inside of a JSON string, without quotes.
pub fn escape_str(text: &str) -> Vec<u8> {
    let mut encoded = encode_str(text);
    encoded.pop();
    encoded.splice(..encoded.len().min(1), []);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rebuild(value: Value<'_>) -> serde_json::Value {
        match value.kind() {
            Kind::Array => value.items().map(rebuild).collect(),
            Kind::Object => serde_json::Value::Object(
                value
                    .members()
                    .map(|(key, value)| (key.as_str().unwrap().into_owned(), rebuild(value)))
                    .collect(),
            ),
            Kind::PlainString | Kind::EscapedString => value.as_str().unwrap().into_owned().into(),
            _ => serde_json::from_str(value.raw()).unwrap(),
        }
    }

    fn agrees(text: &str) {
        let ours = Tape::parse(text);
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        match (&ours, theirs) {
            (Ok(tape), Ok(value)) => assert_eq!(rebuild(tape.root(text)), value, "{text}"),
            (Err(_), Err(_)) => {}
            // Serde refuses lone surrogates and huge numbers as values; both are well-formed JSON.
            (Ok(_), Err(error)) => assert!(
                error.to_string().contains("surrogate")
                    || error.to_string().contains("out of range")
                    || error.to_string().contains("hex escape"),
                "{text}: {error}"
            ),
            (Err(error), Ok(_)) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn grammar_agrees_with_serde() {
        for text in [
            "",
            " ",
            "{}",
            "[]",
            "[1,]",
            "[,1]",
            "{,}",
            r#"{"a":1,}"#,
            r#"{"a" : [ 1 , -2.5e+3 ] }"#,
            "01",
            "-",
            "1.",
            "1e",
            ".5",
            "nul",
            "null x",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "[[[]],{}]",
            "{\"a\"}",
            "{1:2}",
            "[1 2]",
            "\"\t\"",
            "true",
            "[true,false,null]",
            "{\"a\":{\"b\":[{}]}}",
            "]",
            "[}",
            "{]",
            "\u{feff}1",
            "1e999",
        ] {
            agrees(text);
        }
    }

    proptest! {
        #[test]
        fn any_soup_agrees_with_serde(text in r#"[\[\]{},:"\\ua0-9eE.+\- truefalsn]{0,24}"#) {
            agrees(&text);
        }

        #[test]
        fn any_string_round_trips(text in any::<String>()) {
            let encoded = String::from_utf8(encode_str(&text)).unwrap();
            let tape = Tape::parse(&encoded).unwrap();
            prop_assert_eq!(tape.root(&encoded).as_str().unwrap(), text);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(Tape::parse(&deep).unwrap_err().message, "nested too deeply");
        let fits = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(Tape::parse(&fits).is_ok());
    }

    #[test]
    fn duplicate_keys_are_found_however_written() {
        let find =
            |text: &str| Tape::parse(text).unwrap().root(text).duplicate_key().map(|key| key.into_owned());
        assert_eq!(find(r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#), None);
        assert_eq!(find(r#"{"a":[{"b":1,"\u0062":2}]}"#), Some("b".to_owned()));
        let many: String = (0..100).map(|n| format!(r#""k{n}":0,"#)).collect();
        assert_eq!(find(&format!(r#"{{{many}"k7":1}}"#)), Some("k7".to_owned()));
        assert_eq!(find(&format!(r#"{{{many}"z":{{"x":1,"x":1}}}}"#)), Some("x".to_owned()));
    }

    #[test]
    fn splices_in_place() {
        let text = r#"{"a":"x","b":[1,2]}"#;
        let tape = Tape::parse(text).unwrap();
        let root = tape.root(text);
        let mut splice = Splice::default();
        splice.replace(root.get("b").unwrap().span(), "null");
        splice.replace(root.get("a").unwrap().span(), encode_str("\"y\n"));
        assert_eq!(splice.apply(text.as_bytes()), br#"{"a":"\"y\n","b":null}"#);
    }
}

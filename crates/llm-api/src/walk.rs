//! Where text stands in a message, a choice or a streamed delta, and how it is put back changed. Every string is
//! read unless it is named here as structure, so that a field nobody knew of is judged rather than passed by.
//! What a text means is not decided here.

use std::borrow::Cow;
use std::ops::Range;

use crate::arguments::{Escapes, Parts, Reader, Spelling};
use crate::json::{Kind, Splice, Value, encode_str, escape_str};

/// Members whose strings name things of the protocol and carry no text of a person or a model, as long as they look
/// like a name (see [`is_name`]).
const STRUCTURE: [&str; 8] =
    ["role", "type", "id", "tool_call_id", "call_id", "finish_reason", "detail", "format"];
/// Longest protocol name: OpenAI's call ids have about 30 characters.
const NAME_BYTES_MAX: usize = 128;
/// Members that hold binary data as text: it is no text to judge.
const BINARY: [&str; 5] = ["data", "file_data", "b64_json", "image_url", "url"];
/// Shorter than this, what looks like base64 may as well be a word or a number.
const BASE64_BYTES_MIN: usize = 256;

/// Members of a message that hold a call, whose `name` is a tool's.
const CALLS: [&str; 3] = ["function", "function_call", "custom"];
/// What stands for a name that was cut out as a whole: upstreams refuse an empty one. No word, so no policy's term either.
const NO_NAME: &str = "_";

/// What a part is whose content is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A picture, embedded or by address.
    Image,
    /// A recording.
    Audio,
    /// A document, embedded or by id.
    File,
    /// Any other.
    Other,
}

/// A string that cannot be read as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` holds a string that is not valid Unicode (a lone surrogate escape)")]
pub struct UnreadableText {
    /// Where, as in `messages[0].content`.
    pub path: String,
}

/// One text that is judged as a whole: a string, or adjacent text parts joined.
#[derive(Clone, Debug)]
pub struct Unit<'a> {
    /// Index of the message or choice it belongs to.
    pub owner: usize,
    /// Whether it is the message's content rather than a name, an argument or the like.
    pub is_content: bool,
    /// The decoded text.
    pub text: Cow<'a, str>,
    /// Whether it names a speaker or a tool: upstreams take few characters in it, and at least one.
    is_name: bool,
    pieces: Vec<Piece>,
    /// Where it stands in JSON inside a string.
    inner: Option<Spelled>,
}

/// The place of a text in JSON inside a string.
#[derive(Clone, Debug)]
struct Spelled {
    /// Index into `Walk::documents`.
    document: usize,
    spelling: Spelling,
    escapes: Escapes,
}

/// A JSON token and how much of the unit's text it holds.
#[derive(Clone, Debug)]
struct Piece {
    token: Range<usize>,
    text_bytes: usize,
}

/// JSON inside a string: tool-call arguments.
#[derive(Clone, Debug)]
struct Inner {
    token: Range<usize>,
    text: String,
}

/// The texts found so far.
#[derive(Clone, Debug, Default)]
pub struct Walk<'a> {
    units: Vec<Unit<'a>>,
    documents: Vec<Inner>,
    media: Vec<(usize, Media)>,
    /// Whether the walk is inside a part that is counted in `media`.
    in_media: bool,
    /// Whether it is inside a message of a request.
    in_message: bool,
    /// Whether it is at the members of a call in one.
    in_call: bool,
}

impl<'a> Walk<'a> {
    /// The texts, in document order.
    pub fn units(&self) -> &[Unit<'a>] {
        &self.units
    }

    /// Parts whose content was not read, with the index of the message or choice that each belongs to. What text they
    /// hold beside it (a file's name, a transcript, an address) is among the units.
    pub fn media(&self) -> &[(usize, Media)] {
        &self.media
    }

    /// Counts a part, unless it is within one that counts; gives what `in_media` is to be set back to.
    fn enter(&mut self, owner: usize, media: Option<Media>) -> bool {
        let outer = self.in_media;
        if !outer && let Some(media) = media {
            self.media.push((owner, media));
            self.in_media = true;
        }
        outer
    }

    /// Collects every text of `message`, one of a request. `path` names it in errors.
    ///
    /// # Errors
    /// [`UnreadableText`] at the first string that does not decode.
    pub fn message(&mut self, owner: usize, message: Value<'a>, path: &str) -> Result<(), UnreadableText> {
        (self.in_message, self.in_call) = (true, false);
        for (key, value) in message.members() {
            let is_content = key.key_is("content");
            let path = || format!("{path}.{}", key.as_str().unwrap_or_default());
            if key.key_is("name") && value.is_string() {
                self.name(owner, value, &path)?;
            } else {
                self.member(owner, is_content, key, value, &path)?;
            }
        }
        self.in_message = false;
        Ok(())
    }

    /// The same for a choice of an answer, whose `logprobs` repeat its text and are withheld with it.
    ///
    /// # Errors
    /// [`UnreadableText`] at the first string that does not decode.
    pub fn choice(&mut self, owner: usize, choice: Value<'a>, path: &str) -> Result<(), UnreadableText> {
        for (key, value) in choice.members().filter(|(key, _)| !key.key_is("logprobs")) {
            self.member(owner, false, key, value, &|| {
                format!("{path}.{}", key.as_str().unwrap_or_default())
            })?;
        }
        Ok(())
    }

    /// The same for any value: a withheld part of a stream, or an upstream's error.
    ///
    /// # Errors
    /// [`UnreadableText`] at the first string that does not decode.
    pub fn any(&mut self, owner: usize, value: Value<'a>, path: &str) -> Result<(), UnreadableText> {
        self.value(owner, false, value, &|| path.to_owned())
    }

    fn member(
        &mut self,
        owner: usize,
        is_content: bool,
        key: Value<'a>,
        value: Value<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<(), UnreadableText> {
        if value.is_string() {
            if is_name(value) && STRUCTURE.iter().any(|name| key.key_is(name)) {
                return Ok(());
            }
            if key.key_is("arguments") {
                return self.arguments(owner, value, path);
            }
            if self.in_call && key.key_is("name") {
                return self.name(owner, value, path);
            }
            if BINARY.iter().any(|name| key.key_is(name)) && is_binary(key, value) {
                self.in_media = self.enter(owner, Some(media_of_binary(key, value)));
                return Ok(());
            }
        }
        let is_call = self.in_message && CALLS.iter().any(|name| key.key_is(name));
        let outer = (self.enter(owner, media_of_member(key, value)), self.in_call);
        self.in_call = is_call;
        let read = self.value(owner, is_content, value, path);
        (self.in_media, self.in_call) = outer;
        read
    }

    fn name(
        &mut self,
        owner: usize,
        value: Value<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<(), UnreadableText> {
        let text = decode(value, path)?;
        self.push(owner, false, text, value.span(), None);
        if let Some(unit) = self.units.last_mut() {
            unit.is_name = true;
        }
        Ok(())
    }

    fn value(
        &mut self,
        owner: usize,
        is_content: bool,
        value: Value<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<(), UnreadableText> {
        match value.kind() {
            Kind::PlainString | Kind::EscapedString => {
                let text = decode(value, path)?;
                self.push(owner, is_content, text, value.span(), None);
                Ok(())
            }
            Kind::Array => self.array(owner, is_content, value, path),
            Kind::Object => {
                let outer = self.enter(owner, media_of_part(value));
                for (key, member) in value.members() {
                    self.member(owner, is_content, key, member, &|| {
                        format!("{}.{}", path(), key.as_str().unwrap_or_default())
                    })?;
                }
                self.in_media = outer;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adjacent text parts are one text: a term split over two of them is still that term.
    fn array(
        &mut self,
        owner: usize,
        is_content: bool,
        array: Value<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<(), UnreadableText> {
        let mut joins = false;
        for (index, item) in array.items().enumerate() {
            let at = || format!("{}[{index}]", path());
            let Some(text) = text_of_part(item) else {
                joins = false;
                self.value(owner, is_content, item, &at)?;
                continue;
            };
            let decoded = decode(text, &at)?;
            match self.units.last_mut() {
                Some(unit) if joins => {
                    unit.pieces.push(Piece { token: text.span(), text_bytes: decoded.len() });
                    unit.text.to_mut().push_str(&decoded);
                }
                _ => self.push(owner, is_content, decoded, text.span(), None),
            }
            joins = true;
            let outer = self.enter(owner, media_of_part(item));
            // Whatever else the part holds (annotations, vendor fields) is read too, after its text.
            for (key, member) in item.members().filter(|(key, _)| !key.key_is("text")) {
                let before = self.units.len();
                self.member(owner, is_content, key, member, &at)?;
                joins &= self.units.len() == before;
            }
            self.in_media = outer;
        }
        Ok(())
    }

    /// Tool-call arguments are JSON in a string: each key, string and number in them is a text of its own, and so is
    /// what is no JSON.
    fn arguments(
        &mut self,
        owner: usize,
        value: Value<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<(), UnreadableText> {
        let text = decode(value, path)?.into_owned();
        let mut found = Collect::default();
        let mut reader = Reader::default();
        reader.push(&text, &mut found);
        reader.finish(&mut found);
        let document = self.documents.len();
        self.documents.push(Inner { token: value.span(), text });
        for (text, token, spelling, escapes) in found.texts {
            let inner = Spelled { document, spelling, escapes };
            self.push(owner, false, Cow::Owned(text), token, Some(inner));
        }
        Ok(())
    }

    fn push(
        &mut self,
        owner: usize,
        is_content: bool,
        text: Cow<'a, str>,
        token: Range<usize>,
        inner: Option<Spelled>,
    ) {
        let pieces = vec![Piece { token, text_bytes: text.len() }];
        self.units.push(Unit { owner, is_content, text, is_name: false, pieces, inner });
    }

    /// Starts an edit of the texts.
    pub fn edit(&self) -> Edit<'_, 'a> {
        let inner = self.documents.iter().map(|_| Splice::default()).collect();
        Edit { walk: self, outer: Splice::default(), inner }
    }
}

fn decode<'a>(value: Value<'a>, path: &dyn Fn() -> String) -> Result<Cow<'a, str>, UnreadableText> {
    value.as_str().ok_or_else(|| UnreadableText { path: path() })
}

/// A character of a replacement as a name has it: `^[a-zA-Z0-9_-]+$`
/// (<https://platform.openai.com/docs/api-reference/chat/create>). A placeholder goes without its brackets.
fn in_name(character: char) -> Option<char> {
    match character {
        '[' | ']' => None,
        _ if character.is_ascii_alphanumeric() || character == '-' => Some(character),
        _ => Some('_'),
    }
}

/// The text of a content part such as `{"type":"text","text":"…"}`.
fn text_of_part(part: Value<'_>) -> Option<Value<'_>> {
    part.get("text").filter(|text| text.is_string())
}

pub(crate) fn is_name(value: Value<'_>) -> bool {
    value.kind() == Kind::PlainString && is_name_text(value.raw().trim_matches('"'))
}

/// Whether a text looks like a name of the protocol, which carries nothing a person or a model says.
pub fn is_name_text(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_binary(key: Value<'_>, value: Value<'_>) -> bool {
    let text = value.raw().trim_matches('"');
    if text.starts_with("data:") {
        return true;
    }
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    !key.key_is("url") && text.len() >= BASE64_BYTES_MIN && text.bytes().all(is_base64)
}

/// What a part holds beside text, by its `type` (OpenAI's and Anthropic's names); or by its members, where an answer's
/// audio comes without.
fn media_of_part(part: Value<'_>) -> Option<Media> {
    let kind = part.get("type").filter(|kind| kind.is_string()).and_then(Value::as_str);
    let holds_text = |part: Value<'_>| {
        let kind = part.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
        matches!(kind.as_deref(), Some("text" | "content"))
    };
    match kind.as_deref() {
        Some("image_url" | "image" | "input_image" | "output_image") => Some(Media::Image),
        Some("input_audio" | "audio" | "output_audio") => Some(Media::Audio),
        Some("file" | "input_file") => Some(Media::File),
        Some("document") if !holds_text(part) => Some(Media::File),
        Some("video_url" | "video" | "input_video") => Some(Media::Other),
        _ if part.get("transcript").is_some() && part.get("data").is_some() => Some(Media::Audio),
        _ => None,
    }
}

/// The same by the name of a member that is an object.
fn media_of_member(key: Value<'_>, value: Value<'_>) -> Option<Media> {
    if value.kind() != Kind::Object {
        return None;
    }
    let has = |name: &str| value.get(name).is_some();
    if key.key_is("image_url") {
        Some(Media::Image)
    } else if key.key_is("audio") || key.key_is("input_audio") {
        Some(Media::Audio)
    } else if key.key_is("file") && (has("file_id") || has("file_data")) {
        Some(Media::File)
    } else {
        None
    }
}

/// The same of data that stands by itself, by the media type it names or else by its member's name.
fn media_of_binary(key: Value<'_>, value: Value<'_>) -> Media {
    let text = value.raw().trim_matches('"');
    let media_type = text.strip_prefix("data:").unwrap_or_default();
    if media_type.starts_with("image/") || key.key_is("image_url") || key.key_is("b64_json") {
        Media::Image
    } else if media_type.starts_with("audio/") {
        Media::Audio
    } else if media_type.starts_with("application/") || key.key_is("file_data") {
        Media::File
    } else {
        Media::Other
    }
}

/// The texts of arguments that are not empty, with their raw places in them.
#[derive(Default)]
struct Collect {
    at: usize,
    texts: Vec<(String, Range<usize>, Spelling, Escapes)>,
}

impl Parts for Collect {
    fn structure(&mut self, raw: &str) {
        self.at += raw.len();
    }

    fn begin(&mut self, spelling: Spelling) {
        self.texts.push((String::new(), self.at..self.at, spelling, Escapes::default()));
    }

    fn text(&mut self, text: &str, raw: &str) {
        self.at += raw.len();
        if let Some((whole, token, _, escapes)) = self.texts.last_mut() {
            whole.push_str(text);
            escapes.add(text, raw);
            token.end = self.at;
        }
    }

    fn end(&mut self) {
        self.texts.pop_if(|(text, ..)| text.is_empty());
    }
}

/// Changes to the texts of a [`Walk`], on their way to becoming one [`Splice`] of the document.
#[derive(Debug)]
pub struct Edit<'w, 'a> {
    walk: &'w Walk<'a>,
    outer: Splice,
    inner: Vec<Splice>,
}

impl Edit<'_, '_> {
    /// Replaces byte ranges of a unit's text. `edits` are sorted and do not overlap; a range over several parts
    /// puts its replacement into the first and cuts the rest. In a name, replacements are spelled as names are, and
    /// something is left.
    pub fn replace<'e>(
        &mut self,
        unit: usize,
        edits: &(impl Iterator<Item = (Range<usize>, &'e str)> + Clone),
    ) {
        let Some(unit) = self.walk.units.get(unit) else { return };
        if let (Some(inner), Some(piece)) = (&unit.inner, unit.pieces.first())
            && inner.spelling != Spelling::Number
        {
            self.replace_inner(inner, piece.token.start, edits.clone());
            return;
        }
        let edits: Vec<(Range<usize>, &str)> = edits.clone().collect();
        // Those before it are behind the piece: there may be as many parts as edits.
        let mut first = 0;
        let mut piece_start = 0;
        for piece in &unit.pieces {
            let piece_end = piece_start + piece.text_bytes;
            let mut text = String::with_capacity(piece.text_bytes);
            let mut at = piece_start;
            let mut is_changed = false;
            let is_behind = |(range, _): &&(Range<usize>, &str)| {
                range.end <= piece_start && !(range.is_empty() && range.start == piece_start)
            };
            let rest = edits.get(first..).unwrap_or_default();
            first += rest.iter().take_while(is_behind).count();
            let rest = edits.get(first..).unwrap_or_default();
            for (range, with) in rest.iter().take_while(|(range, _)| range.start < piece_end) {
                let touches = range.start < piece_end && range.end > piece_start
                    || (range.is_empty() && range.start >= piece_start && range.start < piece_end);
                if !touches {
                    continue;
                }
                is_changed = true;
                text.push_str(unit.text.get(at..range.start.max(at)).unwrap_or_default());
                if range.start >= piece_start {
                    match unit.is_name {
                        true => text.extend(with.chars().filter_map(in_name)),
                        false => text.push_str(with),
                    }
                }
                at = range.end.clamp(at, piece_end);
            }
            if is_changed {
                text.push_str(unit.text.get(at..piece_end).unwrap_or_default());
                if unit.is_name && text.trim().is_empty() {
                    NO_NAME.clone_into(&mut text);
                }
                let splice = match &unit.inner {
                    Some(inner) => self.inner.get_mut(inner.document),
                    None => Some(&mut self.outer),
                };
                if let Some(splice) = splice {
                    splice.replace(piece.token.clone(), encode_str(&text));
                }
            }
            piece_start = piece_end;
        }
    }

    /// Within arguments what stays keeps its spelling: a stream has let it go by the time that the rest changes.
    fn replace_inner<'e>(
        &mut self,
        inner: &Spelled,
        start: usize,
        edits: impl Iterator<Item = (Range<usize>, &'e str)>,
    ) {
        let Some(splice) = self.inner.get_mut(inner.document) else { return };
        let mut escapes = inner.escapes.clone();
        let (mut at, mut raw_at) = (0, start);
        for (range, with) in edits {
            raw_at += escapes.advance(range.start.saturating_sub(at));
            let raw_end = raw_at + escapes.advance(range.len());
            let with = match inner.spelling {
                Spelling::Quoted => escape_str(with),
                _ => with.as_bytes().to_vec(),
            };
            splice.replace(raw_at..raw_end, with);
            (at, raw_at) = (range.end, raw_end);
        }
    }

    /// Replaces a unit's whole text.
    pub fn replace_all(&mut self, unit: usize, text: &str) {
        let length = self.walk.units.get(unit).map_or(0, |unit| unit.text.len());
        self.replace(unit, &std::iter::once((0..length, text)));
    }

    /// The replacements, as JSON tokens of the document that was walked.
    pub fn finish(mut self) -> Splice {
        for (document, mut splice) in self.walk.documents.iter().zip(self.inner) {
            if !splice.is_empty() {
                let text = splice.apply(document.text.as_bytes());
                // Replacing tokens of a UTF-8 text by JSON strings leaves it UTF-8.
                let text = String::from_utf8(text).unwrap_or_default();
                self.outer.replace(document.token.clone(), encode_str(&text));
            }
        }
        self.outer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Tape;

    fn texts(message: &str) -> Vec<(bool, String)> {
        let tape = Tape::parse(message).unwrap();
        let mut walk = Walk::default();
        walk.message(0, tape.root(message), "messages[0]").unwrap();
        walk.units().iter().map(|unit| (unit.is_content, unit.text.to_string())).collect()
    }

    fn changed(message: &str, from: &str, to: &str) -> String {
        let tape = Tape::parse(message).unwrap();
        let mut walk = Walk::default();
        walk.message(0, tape.root(message), "messages[0]").unwrap();
        let mut edit = walk.edit();
        for (index, unit) in walk.units().iter().enumerate() {
            let ranges: Vec<_> =
                unit.text.match_indices(from).map(|(at, _)| (at..at + from.len(), to)).collect();
            edit.replace(index, &ranges.iter().cloned());
        }
        String::from_utf8(edit.finish().apply(message.as_bytes())).unwrap()
    }

    #[test]
    fn reads_every_string_but_structure() {
        let message = r#"{"role":"user","name":"Bob","content":[{"type":"text","text":"cred"},{"type":"text","text":"ential"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
            {"type":"vendor_part","note":"seen"},{"type":"file","file":{"file_data":"data:application/pdf;base64,QUJD","filename":"x.pdf"}}],"tool_call_id":"call_1"}"#;
        let expected: Vec<(bool, String)> =
            [(false, "Bob"), (true, "credential"), (true, "seen"), (true, "x.pdf")]
                .map(|(content, text)| (content, text.to_owned()))
                .into();
        assert_eq!(texts(message), expected);
    }

    fn media(message: &str) -> Vec<Media> {
        let tape = Tape::parse(message).unwrap();
        let mut walk = Walk::default();
        walk.message(0, tape.root(message), "messages[0]").unwrap();
        assert!(!walk.in_media);
        walk.media().iter().map(|(_, media)| *media).collect()
    }

    #[test]
    fn what_is_not_read_is_counted_once_by_kind() {
        let content = |part: &str| {
            media(&format!(r#"{{"role":"user","content":[{part},{{"type":"text","text":"x"}}]}}"#))
        };
        for (part, kind) in [
            (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#, Media::Image),
            (r#"{"type":"image_url","image_url":{"url":"https://a.example/b.png"}}"#, Media::Image),
            (r#"{"type":"im\u0061ge_url","image_url":{"url":"https://a.example/b.png"}}"#, Media::Image),
            (r#"{"image_url":{"url":"https://a.example/b.png"}}"#, Media::Image),
            (r#"{"type":"input_image","image_url":"https://a.example/b.png"}"#, Media::Image),
            (
                r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}"#,
                Media::Image,
            ),
            (r#"{"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}}"#, Media::Audio),
            (r#"{"type":"file","file":{"file_id":"file-1"}}"#, Media::File),
            (
                r#"{"type":"input_file","file_data":"data:application/pdf;base64,QUJD","filename":"a b"}"#,
                Media::File,
            ),
            (r#"{"type":"document","source":{"type":"url","url":"https://a.example/b.pdf"}}"#, Media::File),
            (r#"{"type":"video_url","video_url":{"url":"https://a.example/b.mp4"}}"#, Media::Other),
            (r#"{"type":"vendor","url":"data:audio/wav;base64,QUJD"}"#, Media::Audio),
            (r#"{"type":"vendor","text":"caption","data":"data:font/woff;base64,QUJD"}"#, Media::Other),
            (
                r#"{"type":"image_url","text":"caption","image_url":{"url":"https://a.example/b.png"}}"#,
                Media::Image,
            ),
        ] {
            assert_eq!(content(part), [kind], "{part}");
            assert_eq!(content(&format!("{part},{part}")), [kind, kind], "{part}");
        }
        for part in [
            r#"{"type":"text","text":"image_url"}"#,
            r#"{"type":"document","source":{"type":"text","data":"all of it"}}"#,
            r#"{"type":"vendor","file":{"note":"x"},"url":"https://a.example/"}"#,
        ] {
            assert_eq!(content(part), [], "{part}");
        }
        assert_eq!(media(r#"{"role":"assistant","audio":{"id":"audio_1"}}"#), [Media::Audio]);
        assert_eq!(media(r#"{"role":"user","content":"https://a.example/b.png"}"#), []);
        let base64 = "QUJD".repeat(64);
        assert_eq!(media(&format!(r#"{{"content":[{{"b64_json":"{base64}"}}]}}"#)), [Media::Image]);
        assert_eq!(
            media(&format!(r#"{{"content":[{{"transcript":"hi","data":"{base64}"}}]}}"#)),
            [Media::Audio]
        );
    }

    #[test]
    fn prose_in_a_binary_field_is_still_read() {
        assert_eq!(texts(r#"{"data":"two words"}"#), [(false, "two words".to_owned())]);
        assert_eq!(texts(r#"{"id":"two words"}"#), [(false, "two words".to_owned())]);
        assert_eq!(texts(&format!(r#"{{"data":"{}"}}"#, "QUJD".repeat(64))), []);
        assert_eq!(texts(r#"{"url":"https://a.example/b@c.de"}"#).len(), 1);
    }

    #[test]
    fn reads_inside_tool_call_arguments() {
        let message = r#"{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"mail",
            "arguments":"{\"to\":\"a\\u0062c\",\"n\":[4111,true],\"x\":{\"y\":null}}"}},{"function":{"name":"f","arguments":"not json"}}]}"#;
        let found: Vec<_> = texts(message).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["mail", "to", "abc", "n", "4111", "x", "y", "f", "not json"]);
    }

    #[test]
    fn edits_in_place_over_parts_and_inside_arguments() {
        assert_eq!(
            changed(r#"{"content":[{"text":"a cred","k":1},{"text":"ential b"}]}"#, "credential", "[X]"),
            r#"{"content":[{"text":"a [X]","k":1},{"text":" b"}]}"#
        );
        assert_eq!(
            changed(
                r#"{"f":{"arguments":"{\"a\": \"say bad \\\"now\\\"\", \"n\": 12}"}}"#,
                "bad",
                "\"good\""
            ),
            r#"{"f":{"arguments":"{\"a\": \"say \\\"good\\\" \\\"now\\\"\", \"n\": 12}"}}"#
        );
        assert_eq!(
            changed(r#"{"f":{"arguments":"{\"n\":41}"}}"#, "41", "[N]"),
            r#"{"f":{"arguments":"{\"n\":\"[N]\"}"}}"#
        );
        assert_eq!(
            changed(r#"{"f":{"arguments":"{\"a\": \"x\\/ \\u0062ad \\u003c\"}"}}"#, "bad", "\n"),
            r#"{"f":{"arguments":"{\"a\": \"x\\/ \\n \\u003c\"}"}}"#
        );
        assert_eq!(
            changed(r#"{"f":{"arguments":"{'a': \"bad\"}"}}"#, "bad", "'x'"),
            r#"{"f":{"arguments":"{'a': \"'x'\"}"}}"#
        );
        assert_eq!(changed(r#"{"content":"x"}"#, "y", "z"), r#"{"content":"x"}"#);
    }

    #[test]
    fn a_changed_name_is_one_that_upstreams_take() {
        for (message, with, expected) in [
            (r#"{"name":"bad","content":"bad"}"#, "", r#"{"name":"_","content":""}"#),
            (r#"{"name":"bad","content":"bad"}"#, "[X_1]", r#"{"name":"X_1","content":"[X_1]"}"#),
            (r#"{"name":"so-bad_1"}"#, "a*@b.c", r#"{"name":"so-a__b_c_1"}"#),
            (r#"{"name":" b\u0061d "}"#, "", r#"{"name":"_"}"#),
            (
                r#"{"tool_calls":[{"function":{"name":"bad","arguments":"{\"name\":\"bad\"}"}}],"x":{"name":"bad"}}"#,
                "",
                r#"{"tool_calls":[{"function":{"name":"_","arguments":"{\"name\":\"\"}"}}],"x":{"name":""}}"#,
            ),
            (
                r#"{"function_call":{"name":"bad","arguments":"{}"}}"#,
                "[A]",
                r#"{"function_call":{"name":"A","arguments":"{}"}}"#,
            ),
            (
                r#"{"tool_calls":[{"type":"custom","custom":{"name":"bad","input":"bad"}}]}"#,
                "[A]",
                r#"{"tool_calls":[{"type":"custom","custom":{"name":"A","input":"[A]"}}]}"#,
            ),
        ] {
            assert_eq!(changed(message, "bad", with), expected, "{message}");
        }
    }

    #[test]
    fn as_many_edits_as_parts_are_no_more_work_than_either() {
        const PARTS: usize = 50_000;
        let message = format!(r#"{{"content":[{}]}}"#, vec![r#"{"text":"a bad "}"#; PARTS].join(","));
        assert_eq!(changed(&message, "bad", "X"), message.replace("bad", "X"));
    }

    #[test]
    fn a_lone_surrogate_is_named() {
        let message = r#"{"content":[{"text":"\ud800"}]}"#;
        let tape = Tape::parse(message).unwrap();
        let error = Walk::default().message(0, tape.root(message), "messages[3]").unwrap_err();
        assert_eq!(error.path, "messages[3].content[0]");
    }
}

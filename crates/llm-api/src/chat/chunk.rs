//! One `chat.completion.chunk` of a stream, taken apart for judging: texts that may be released piecemeal, parts
//! that are withheld until they are whole, and what passes. Putting it together again happens by splicing.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::answer::{AnswerError, TokenUsage, add_policy};
use crate::json::{Kind, Splice, Tape, Value};

/// A parsed chunk and its text.
#[derive(Debug)]
pub struct Chunk<'a> {
    text: &'a str,
    tape: Tape,
}

/// A choice of a chunk.
#[derive(Debug)]
pub struct ChunkChoice<'a> {
    /// Its `index`.
    pub index: u64,
    /// Strings directly under `delta`: text that grows from chunk to chunk, by field name.
    pub texts: Vec<DeltaText<'a>>,
    /// Members of `delta` that are judged only once they are whole (tool calls, audio, unknown objects).
    pub withheld: Vec<Withheld<'a>>,
    /// Other members that hold strings (vendor fields beside `delta`): token and decoded strings.
    pub extras: Vec<Extra<'a>>,
    /// Token of a non-null `finish_reason`.
    pub finish: Option<Range<usize>>,
    /// Token of `delta`, where there is one.
    pub delta: Option<Range<usize>>,
    /// Token of a non-null `logprobs`.
    pub logprobs: Option<Range<usize>>,
    /// Whether `delta` carries something that passes by itself, such as a role.
    pub has_more: bool,
}

/// A growing text.
#[derive(Debug)]
pub struct DeltaText<'a> {
    /// `content`, `refusal`, `reasoning_content`, …
    pub field: Cow<'a, str>,
    /// The decoded piece.
    pub text: Cow<'a, str>,
    /// Its token.
    pub token: Range<usize>,
}

/// A member that is withheld until whole.
#[derive(Debug)]
pub struct Withheld<'a> {
    /// `tool_calls`, `audio`, …
    pub field: Cow<'a, str>,
    /// Its JSON.
    pub json: &'a str,
    /// Its token.
    pub token: Range<usize>,
}

/// A member beside `delta`.
#[derive(Debug)]
pub struct Extra<'a> {
    /// Its JSON.
    pub json: &'a str,
    /// Its token.
    pub token: Range<usize>,
}

impl<'a> Chunk<'a> {
    /// Reads the data of one event.
    ///
    /// # Errors
    /// [`AnswerError`] where it is no JSON object.
    pub fn parse(text: &'a str) -> Result<Self, AnswerError> {
        let tape = Tape::parse(text)
            .map_err(|error| AnswerError::Shape(format!("an event is not JSON: {error}")))?;
        if tape.root(text).kind() != Kind::Object {
            return Err(AnswerError::Shape("an event is not a JSON object".to_owned()));
        }
        Ok(Self { text, tape })
    }

    fn root(&self) -> Value<'_> {
        self.tape.root(self.text)
    }

    /// Whether it is an error object in place of a chunk.
    pub fn is_error(&self) -> bool {
        self.root().get("error").is_some_and(|error| !error.is_null())
    }

    /// A non-null usage.
    pub fn usage(&self) -> Option<TokenUsage> {
        self.root().get("usage").and_then(TokenUsage::read)
    }

    /// Whether it carries usage and no choice: the frame that `stream_options.include_usage` adds.
    pub fn is_usage_only(&self) -> bool {
        self.usage().is_some() && self.root().get("choices").is_none_or(Value::is_empty)
    }

    /// `id`, `created` and `model` as raw JSON, for frames of our own in the same stream.
    pub fn envelope(&self) -> [Option<&str>; 3] {
        ["id", "created", "model"].map(|name| self.root().get(name).map(Value::raw))
    }

    /// The choices.
    ///
    /// # Errors
    /// [`AnswerError`] where a choice has not the shape of one, or a string does not decode.
    pub fn choices(&self) -> Result<Vec<ChunkChoice<'_>>, AnswerError> {
        let Some(choices) = self.root().get("choices") else { return Ok(Vec::new()) };
        if self.root().duplicate_member().is_some() || choices.duplicate_key().is_some() {
            return Err(AnswerError::Shape("a field of an event is there twice".to_owned()));
        }
        if choices.kind() != Kind::Array && !choices.is_null() {
            return Err(AnswerError::Shape("`choices` of an event is no array".to_owned()));
        }
        choices.items().map(read_choice).collect()
    }

    /// The data with the replacements, and `policy` as a last member.
    pub fn rebuild(&self, mut splice: Splice, policy: Option<&[u8]>) -> Vec<u8> {
        if let Some(policy) = policy {
            add_policy(self.root(), policy, &mut splice);
        }
        splice.apply(self.text.as_bytes())
    }

    /// Token of a non-null `usage`.
    pub fn usage_token(&self) -> Option<Range<usize>> {
        self.root().get("usage").filter(|usage| !usage.is_null()).map(Value::span)
    }
}

fn read_choice(choice: Value<'_>) -> Result<ChunkChoice<'_>, AnswerError> {
    let shape = |message: &str| AnswerError::Shape(message.to_owned());
    if choice.kind() != Kind::Object {
        return Err(shape("a choice of an event is no object"));
    }
    let mut read = ChunkChoice {
        index: choice.get("index").and_then(Value::as_u64).unwrap_or(0),
        texts: Vec::new(),
        withheld: Vec::new(),
        extras: Vec::new(),
        finish: None,
        delta: None,
        logprobs: None,
        has_more: false,
    };
    for (key, value) in choice.members() {
        if key.key_is("delta") {
            read.delta = Some(value.span());
            read_delta(value, &mut read)?;
        } else if value.is_null() {
        } else if key.key_is("finish_reason") {
            read.finish = Some(value.span());
        } else if key.key_is("logprobs") {
            read.logprobs = Some(value.span());
        } else if value.is_string() || matches!(value.kind(), Kind::Array | Kind::Object) {
            read.extras.push(Extra { json: value.raw(), token: value.span() });
        }
    }
    Ok(read)
}

fn read_delta<'a>(delta: Value<'a>, choice: &mut ChunkChoice<'a>) -> Result<(), AnswerError> {
    if !matches!(delta.kind(), Kind::Object | Kind::Null) {
        return Err(AnswerError::Shape("a `delta` of an event is no object".to_owned()));
    }
    for (key, value) in delta.members() {
        let field = key.as_str().unwrap_or_default();
        if key.key_is("role") && value.is_string() && value.raw().len() <= ROLE_BYTES_MAX {
            choice.has_more = true;
        } else if value.is_string() {
            let text = value
                .as_str()
                .ok_or_else(|| AnswerError::Shape(format!("`delta.{field}` is not valid Unicode")))?;
            choice.texts.push(DeltaText { field, text, token: value.span() });
        } else if matches!(value.kind(), Kind::Array | Kind::Object) {
            choice.withheld.push(Withheld { field, json: value.raw(), token: value.span() });
        } else if !value.is_null() {
            choice.has_more = true;
        }
    }
    Ok(())
}

/// A role is a short word; anything longer in its place is judged as text.
const ROLE_BYTES_MAX: usize = 16;

/// Adds the pieces of a withheld member up, as the official SDKs accumulate deltas: strings grow, objects merge, array
/// items with the same `index` merge, ids and types are kept, everything else is replaced.
pub fn accumulate(whole: &mut serde_json::Value, piece: serde_json::Value) {
    use serde_json::Value as Json;
    match (whole, piece) {
        (Json::Object(whole), Json::Object(piece)) => {
            for (key, value) in piece {
                match whole.get_mut(&key) {
                    Some(old) if key == "index" || key == "type" || key == "id" => {
                        if old.is_null() {
                            *old = value;
                        }
                    }
                    Some(old) => accumulate(old, value),
                    None => {
                        whole.insert(key, value);
                    }
                }
            }
        }
        (Json::Array(whole), Json::Array(piece)) => {
            for (position, value) in piece.into_iter().enumerate() {
                let index = value.get("index").cloned();
                let same = match &index {
                    Some(index) => whole.iter_mut().find(|item| item.get("index") == Some(index)),
                    None if value.is_object() => whole.get_mut(position),
                    None => None,
                };
                match same {
                    Some(item) => accumulate(item, value),
                    None => whole.push(value),
                }
            }
        }
        (Json::String(whole), Json::String(piece)) => whole.push_str(&piece),
        (_, Json::Null) => {}
        (whole, piece) => *whole = piece,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_a_chunk_apart() {
        let text = r#"{"id":"c","choices":[{"index":1,"delta":{"role":"assistant","content":"a\nb","tool_calls":[{"index":0}]},"logprobs":{},"finish_reason":null,"vendor":{"s":"x"}}],"usage":null}"#;
        let chunk = Chunk::parse(text).unwrap();
        let choices = chunk.choices().unwrap();
        let choice = choices.first().unwrap();
        assert_eq!((choice.index, choice.has_more, choice.finish.is_some()), (1, true, false));
        assert_eq!(
            choice.texts.first().map(|t| (t.field.as_ref(), t.text.as_ref())),
            Some(("content", "a\nb"))
        );
        assert_eq!(
            choice.withheld.first().map(|w| (w.field.as_ref(), w.json)),
            Some(("tool_calls", r#"[{"index":0}]"#))
        );
        assert_eq!(choice.extras.first().map(|e| e.json), Some(r#"{"s":"x"}"#));
        assert!(choice.logprobs.is_some());
        assert!(!chunk.is_usage_only());
    }

    #[test]
    fn knows_the_usage_frame() {
        let chunk =
            Chunk::parse(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#).unwrap();
        assert!(chunk.is_usage_only());
        assert_eq!(chunk.usage().unwrap().total, 3);
    }

    #[test]
    fn tool_calls_add_up() {
        let mut whole = json!([]);
        for piece in [
            json!([{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]),
            json!([{"index":0,"function":{"arguments":"{\"x\""}}, {"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]),
            json!([{"index":0,"function":{"arguments":":1}"}}]),
        ] {
            accumulate(&mut whole, piece);
        }
        assert_eq!(
            whole,
            json!([{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
                   {"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}])
        );
    }
}

//! One `chat.completion.chunk` of a stream, taken apart for judging: texts that may be released piecemeal, parts
//! that are withheld until they are whole, and what passes. Putting it together again happens by splicing.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::answer::{AnswerError, TokenUsage, add_policy};
use crate::json::{Kind, Splice, Tape, Value};
use crate::walk;

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
    /// Pieces of tool calls: of `tool_calls` and of the older `function_call`.
    pub calls: Vec<CallPiece<'a>>,
    /// Members of `delta` that are judged only once they are whole (audio, unknown objects, what a tool call
    /// holds besides its name and input).
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

/// Which call of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallPlace {
    /// The one with this `index` in `tool_calls`.
    Tool(u64),
    /// `function_call`.
    Function,
}

/// A piece of a call.
#[derive(Debug)]
pub struct CallPiece<'a> {
    /// Which one.
    pub call: CallPlace,
    /// Its `id`, `type` and `name`, where they are in this piece: they come whole.
    pub names: Vec<CallName<'a>>,
    /// What is passed to the tool; it grows from chunk to chunk.
    pub inputs: Vec<CallInput<'a>>,
}

/// A short string of a call.
#[derive(Debug)]
pub struct CallName<'a> {
    /// `id`, `type` or `name`.
    pub member: &'static str,
    /// What it says.
    pub text: Cow<'a, str>,
    /// Its token.
    pub token: Range<usize>,
}

/// A growing input of a call.
#[derive(Debug)]
pub struct CallInput<'a> {
    /// `custom.input`, a text, rather than `function.arguments`, which are JSON.
    pub custom: bool,
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
    /// The part of it that is withheld, as JSON of the member's own shape.
    pub json: Cow<'a, str>,
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
        calls: Vec::new(),
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
            // Some upstreams send an empty one with every chunk.
            if !value.is_empty() {
                read.finish = Some(value.span());
            }
            if !walk::is_name(value) {
                read.extras.push(Extra { json: value.raw(), token: value.span() });
            }
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
        } else if key.key_is("tool_calls") && is_call_list(value) {
            read_tool_calls(value, choice)?;
        } else if key.key_is("function_call") && value.kind() == Kind::Object {
            let call = CallPlace::Function;
            let mut piece = CallPiece { call, names: Vec::new(), inputs: Vec::new() };
            read_call_members(value, Some("arguments"), &mut piece, choice, &|key, json| {
                format!("{{{key}:{json}}}")
            })?;
            choice.calls.push(piece);
        } else if matches!(value.kind(), Kind::Array | Kind::Object) {
            let json = Cow::Borrowed(value.raw());
            choice.withheld.push(Withheld { field, json, token: value.span() });
        } else if !value.is_null() {
            choice.has_more = true;
        }
    }
    Ok(())
}

/// Whether these are tool calls as the API has them; anything else is withheld until whole.
fn is_call_list(value: Value<'_>) -> bool {
    let is_call = |item: Value<'_>| {
        let has_index = item.get("index").is_none_or(|index| index.is_null() || index.as_u64().is_some());
        item.kind() == Kind::Object && has_index
    };
    value.kind() == Kind::Array && value.items().all(is_call)
}

fn read_tool_calls<'a>(calls: Value<'a>, choice: &mut ChunkChoice<'a>) -> Result<(), AnswerError> {
    for (position, item) in calls.items().enumerate() {
        // Some upstreams leave the index out; clients then go by the position.
        let index = item.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let call = CallPlace::Tool(index);
        let mut piece = CallPiece { call, names: Vec::new(), inputs: Vec::new() };
        for (key, value) in item.members() {
            let name = key.raw();
            let is_tool = key.key_is("function") || key.key_is("custom");
            if is_tool && value.kind() == Kind::Object {
                let input = if key.key_is("function") { "arguments" } else { "input" };
                read_call_members(value, Some(input), &mut piece, choice, &|key, json| {
                    format!("[{{\"index\":{index},{name}:{{{key}:{json}}}}}]")
                })?;
            } else if !key.key_is("index") {
                read_call_member(key, value, None, &mut piece, choice, &|key, json| {
                    format!("[{{\"index\":{index},{key}:{json}}}]")
                })?;
            }
        }
        choice.calls.push(piece);
    }
    Ok(())
}

fn read_call_members<'a>(
    object: Value<'a>,
    input: Option<&str>,
    piece: &mut CallPiece<'a>,
    choice: &mut ChunkChoice<'a>,
    shape: &dyn Fn(&str, &str) -> String,
) -> Result<(), AnswerError> {
    for (key, value) in object.members() {
        read_call_member(key, value, input, piece, choice, shape)?;
    }
    Ok(())
}

/// Sorts a member of a call. `input` is the name of the one that grows.
fn read_call_member<'a>(
    key: Value<'a>,
    value: Value<'a>,
    input: Option<&str>,
    piece: &mut CallPiece<'a>,
    choice: &mut ChunkChoice<'a>,
    shape: &dyn Fn(&str, &str) -> String,
) -> Result<(), AnswerError> {
    if !matches!(value.kind(), Kind::Array | Kind::Object) && !value.is_string() {
        choice.has_more |= !value.is_null();
        return Ok(());
    }
    let member = if input.is_some() {
        key.key_is("name").then_some("name")
    } else {
        ["id", "type"].into_iter().find(|name| key.key_is(name))
    };
    let text = || {
        value.as_str().ok_or_else(|| {
            let key = key.as_str().unwrap_or_default();
            AnswerError::Shape(format!("`{key}` of a tool call is not valid Unicode"))
        })
    };
    if let (Some(member), true) = (member, value.is_string()) {
        piece.names.push(CallName { member, text: text()?, token: value.span() });
    } else if let (Some(input), true) = (input.filter(|input| key.key_is(input)), value.is_string()) {
        piece.inputs.push(CallInput { custom: input == "input", text: text()?, token: value.span() });
    } else {
        let field = match piece.call {
            CallPlace::Tool(_) => "tool_calls",
            CallPlace::Function => "function_call",
        };
        let json = Cow::Owned(shape(key.raw(), value.raw()));
        choice.withheld.push(Withheld { field: Cow::Borrowed(field), json, token: value.span() });
    }
    Ok(())
}

/// A role is a short word; anything longer in its place is judged as text.
const ROLE_BYTES_MAX: usize = 16;

/// Adds the pieces of a withheld member up, as the official SDKs accumulate deltas: strings grow, objects merge, array
/// items with the same `index` merge, ids and types are kept, everything else is replaced. False where a list has more
/// items than [`ITEMS_MAX`].
pub fn accumulate(whole: &mut serde_json::Value, piece: serde_json::Value) -> bool {
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
                    Some(old) => {
                        if !accumulate(old, value) {
                            return false;
                        }
                    }
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
                let fits = match same {
                    Some(item) => accumulate(item, value),
                    None => {
                        whole.push(value);
                        whole.len() <= ITEMS_MAX
                    }
                };
                if !fits {
                    return false;
                }
            }
        }
        (Json::String(whole), Json::String(piece)) => whole.push_str(&piece),
        (_, Json::Null) => {}
        (whole, piece) => *whole = piece,
    }
    true
}

/// Items of one list that is added up: they are searched for each piece.
const ITEMS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_a_chunk_apart() {
        let text = r#"{"id":"c","choices":[{"index":1,"delta":{"role":"assistant","content":"a\nb","parts":[{"n":0}],"tool_calls":[{"index":2,"id":"i","x":"y","function":{"name":"f","arguments":"{\"","z":{}}},{"custom":{"input":"p"}}],"function_call":{"arguments":"q"}},"logprobs":{},"finish_reason":null,"vendor":{"s":"x"}}],"usage":null}"#;
        let chunk = Chunk::parse(text).unwrap();
        let choices = chunk.choices().unwrap();
        let choice = choices.first().unwrap();
        assert_eq!((choice.index, choice.has_more, choice.finish.is_some()), (1, true, false));
        assert_eq!(
            choice.texts.first().map(|t| (t.field.as_ref(), t.text.as_ref())),
            Some(("content", "a\nb"))
        );
        let withheld: Vec<_> = choice.withheld.iter().map(|w| (w.field.as_ref(), w.json.as_ref())).collect();
        assert_eq!(
            withheld,
            [
                ("parts", r#"[{"n":0}]"#),
                ("tool_calls", r#"[{"index":2,"x":"y"}]"#),
                ("tool_calls", r#"[{"index":2,"function":{"z":{}}}]"#),
            ]
        );
        let calls: Vec<_> = choice
            .calls
            .iter()
            .map(|call| {
                let names: Vec<_> = call.names.iter().map(|name| (name.member, name.text.as_ref())).collect();
                (call.call, names, call.inputs.first().map(|input| (input.custom, input.text.as_ref())))
            })
            .collect();
        assert_eq!(
            calls,
            [
                (CallPlace::Tool(2), vec![("id", "i"), ("name", "f")], Some((false, "{\""))),
                (CallPlace::Tool(1), vec![], Some((true, "p"))),
                (CallPlace::Function, vec![], Some((false, "q"))),
            ]
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
            assert!(accumulate(&mut whole, piece));
        }
        assert_eq!(
            whole,
            json!([{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
                   {"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}])
        );
    }
}

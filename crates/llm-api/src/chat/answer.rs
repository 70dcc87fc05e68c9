//! A chat completions answer that is whole: where its texts stand, its usage, and the body or frames for the client. Every
//! string under `choices[]` is found; `logprobs` and audio go with their text and are withheld once it changes.

use bytes::Bytes;

use crate::chat::made::{self, Envelope};
use crate::json::{Kind, Splice, Tape, Value};
use crate::walk::Walk;

/// Why an answer cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not JSON, or not an object with `choices`.
    #[error("the upstream's answer is no chat completion: {0}")]
    Shape(String),
}

/// Tokens as an upstream reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// `prompt_tokens`
    pub prompt: u64,
    /// `completion_tokens`
    pub completion: u64,
    /// `total_tokens`
    pub total: u64,
}

impl TokenUsage {
    /// Reads a `usage` object; `None` where it is none.
    pub fn read(usage: Value<'_>) -> Option<Self> {
        if usage.kind() != Kind::Object {
            return None;
        }
        let count = |name| usage.get(name).and_then(Value::as_u64);
        let (prompt, completion) =
            (count("prompt_tokens").unwrap_or(0), count("completion_tokens").unwrap_or(0));
        Some(Self {
            prompt,
            completion,
            total: count("total_tokens").unwrap_or(prompt.saturating_add(completion)),
        })
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            completion: self.completion.saturating_add(other.completion),
            total: self.total.saturating_add(other.total),
        }
    }

    /// OpenAI's `usage` object.
    pub fn to_json(self) -> String {
        format!(
            r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}}"#,
            self.prompt, self.completion, self.total
        )
    }
}

/// Choices of an answer: OpenAI gives 128 at most.
const CHOICES_MAX: usize = 1024;

/// A parsed answer. Texts refer to the body, which it keeps.
#[derive(Debug)]
pub struct Answer {
    body: Bytes,
    tape: Tape,
}

impl Answer {
    /// Reads a body.
    ///
    /// # Errors
    /// [`AnswerError::Shape`] where it is not an object with an array `choices`, or ambiguous.
    pub fn parse(body: Bytes) -> Result<Self, AnswerError> {
        let shape = |message: &str| AnswerError::Shape(message.to_owned());
        let text = std::str::from_utf8(&body).map_err(|_| shape("it is not UTF-8"))?;
        let tape =
            Tape::parse(text).map_err(|error| AnswerError::Shape(format!("it is not JSON: {error}")))?;
        let root = tape.root(text);
        let Some(choices) = root.get("choices").filter(|choices| choices.kind() == Kind::Array) else {
            return Err(shape("it has no array `choices`"));
        };
        if choices.items().nth(CHOICES_MAX).is_some() {
            return Err(shape("it has more choices than a request can ask for"));
        }
        if root.duplicate_member().is_some() || choices.duplicate_key().is_some() {
            return Err(shape("a field is there twice"));
        }
        Ok(Self { body, tape })
    }

    fn root(&self) -> Value<'_> {
        // `parse` checked that the body is UTF-8.
        self.tape.root(std::str::from_utf8(&self.body).unwrap_or_default())
    }

    fn choices(&self) -> impl Iterator<Item = Value<'_>> {
        self.root().get("choices").into_iter().flat_map(Value::items)
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Every text under `choices[]`. A unit's `owner` is the position of its choice.
    ///
    /// # Errors
    /// [`AnswerError::Shape`] where a string does not decode.
    pub fn texts(&self) -> Result<Walk<'_>, AnswerError> {
        let mut walk = Walk::default();
        for (index, choice) in self.choices().enumerate() {
            walk.choice(index, choice, &format!("choices[{index}]"))
                .map_err(|error| AnswerError::Shape(error.to_string()))?;
        }
        Ok(walk)
    }

    /// What the upstream counted.
    pub fn usage(&self) -> Option<TokenUsage> {
        self.root().get("usage").and_then(TokenUsage::read)
    }

    /// The body for the client: `texts` in place; for each choice whose text changed `logprobs` and audio null;
    /// `usage` in place of the upstream's own; `policy` (a JSON object) as a last member. Where nothing changes it is
    /// the upstream's own bytes.
    pub fn client_body(
        &self,
        mut texts: Splice,
        changed_choices: &[usize],
        usage: Option<TokenUsage>,
        policy: Option<&[u8]>,
    ) -> Bytes {
        let root = self.root();
        for choice in changed_choices.iter().filter_map(|index| self.choices().nth(*index)) {
            withhold(choice, &mut texts);
        }
        if let (Some(usage), Some(old)) = (usage, root.get("usage")) {
            texts.replace(old.span(), usage.to_json());
        }
        if let Some(policy) = policy {
            add_policy(root, policy, &mut texts);
        }
        if texts.is_empty() { self.body.clone() } else { texts.apply(&self.body).into() }
    }

    /// Whether the first choice says something in plain words, and does nothing else: text or a refusal, no call.
    pub fn is_plain(&self) -> bool {
        let Some(message) = self.choices().next().and_then(|choice| choice.get("message")) else {
            return false;
        };
        let says =
            |name| message.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        let calls = |name| message.get(name).is_some_and(|value| !value.is_empty());
        (says("content") || says("refusal")) && !calls("tool_calls") && !calls("function_call")
    }

    /// Whether the first choice was cut off at the limit of tokens.
    pub fn is_cut(&self) -> bool {
        let finish =
            self.choices().next().and_then(|choice| choice.get("finish_reason")).and_then(Value::as_str);
        finish.as_deref() == Some("length")
    }

    /// The body for the client where `standin` (an answer to an extra call, with the changes that make it clean) stands
    /// for the choices at `replaced`. Of the rest of this answer only the envelope and the other choices stay.
    pub fn mended_body(
        &self,
        mut texts: Splice,
        changed_choices: &[usize],
        replaced: &[usize],
        standin: (&Self, &mut Splice),
        usage: Option<TokenUsage>,
        policy: Option<&[u8]>,
    ) -> Bytes {
        let (other, other_texts) = standin;
        let message = other
            .choices()
            .next()
            .and_then(|choice| Some((choice.get("message")?, choice.get("finish_reason")?)))
            .map(|(message, finish)| (other_texts.apply_to(&other.body, message.span()), finish.raw()));
        let mut choices = Vec::new();
        for (position, choice) in self.choices().enumerate() {
            if position > 0 {
                choices.push(b',');
            }
            match &message {
                Some((message, finish)) if replaced.contains(&position) => {
                    let index = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
                    choices.extend_from_slice(format!("{{\"index\":{index},\"message\":").as_bytes());
                    choices.extend_from_slice(message);
                    choices.extend_from_slice(
                        format!(",\"logprobs\":null,\"finish_reason\":{finish}}}").as_bytes(),
                    );
                }
                _ => {
                    if changed_choices.contains(&position) {
                        withhold(choice, &mut texts);
                    }
                    choices.extend_from_slice(&texts.apply_to(&self.body, choice.span()));
                }
            }
        }
        let mut out = Vec::with_capacity(choices.len() + 256);
        for (key, value) in
            self.root().members().filter(|(key, _)| ENVELOPE.iter().any(|name| key.key_is(name)))
        {
            let is_choices = key.key_is("choices");
            out.extend_from_slice(if out.is_empty() { b"{" } else { b"," });
            out.extend_from_slice(key.raw().as_bytes());
            out.push(b':');
            match is_choices {
                true => out.extend([b"[", choices.as_slice(), b"]"].concat()),
                false => out.extend_from_slice(value.raw().as_bytes()),
            }
        }
        let usage = usage.map(|usage| usage.to_json().into_bytes());
        for (name, value) in [("usage", usage.as_deref()), ("policy", policy)] {
            if let Some(value) = value {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                out.extend_from_slice(value);
            }
        }
        out.push(b'}');
        out.into()
    }

    /// The whole answer as the frames of a stream, `[DONE]` included. Its `logprobs` stay behind.
    pub fn frames(&self, include_usage: bool, policy: Option<&[u8]>) -> Vec<u8> {
        let root = self.root();
        let raw = |name| root.get(name).map_or_else(|| "null".to_owned(), |value| value.raw().to_owned());
        let envelope = Envelope { id: raw("id"), created: raw("created"), model: raw("model") };
        let mut out = Vec::new();
        for (position, choice) in self.choices().enumerate() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
            let mut frame = |delta: &str, finish: Option<&str>| {
                out.extend(made::event(&one_line(envelope.frame(index, delta, finish, policy))));
            };
            frame(r#"{"role":"assistant"}"#, None);
            let delta: Vec<String> =
                choice.get("message").into_iter().flat_map(Value::members).filter_map(delta).collect();
            if !delta.is_empty() {
                frame(&format!("{{{}}}", delta.join(",")), None);
            }
            let finish = choice.get("finish_reason").and_then(Value::as_str);
            frame("{}", Some(finish.as_deref().unwrap_or("stop")));
        }
        if include_usage && let Some(usage) = root.get("usage").filter(|usage| !usage.is_null()) {
            out.extend(made::event(&one_line(envelope.usage_frame(usage.raw(), policy))));
        }
        out.extend_from_slice(made::DONE);
        out
    }
}

/// The members of an answer that say nothing of its text.
const ENVELOPE: [&str; 7] =
    ["id", "object", "created", "model", "choices", "service_tier", "system_fingerprint"];

/// A member of a message as one of a delta: calls have an `index` there.
fn delta((key, value): (Value<'_>, Value<'_>)) -> Option<String> {
    let is_empty = matches!(value.kind(), Kind::Array | Kind::Object) && value.is_empty();
    if key.key_is("role") || value.is_null() || is_empty {
        return None;
    }
    if !key.key_is("tool_calls") {
        return Some(format!("{}:{}", key.raw(), value.raw()));
    }
    let calls: Vec<String> = value
        .items()
        .enumerate()
        .map(|(index, call)| match call.raw().strip_prefix('{') {
            Some(rest) if call.get("index").is_none() && !call.is_empty() => {
                format!("{{\"index\":{index},{rest}")
            }
            _ => call.raw().to_owned(),
        })
        .collect();
    Some(format!("{}:[{}]", key.raw(), calls.join(",")))
}

/// JSON on one line: a line feed stands between its tokens only.
fn one_line(mut json: Vec<u8>) -> Vec<u8> {
    json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    json
}

/// What goes with the text of a choice, and is null once that changed.
fn withhold(choice: Value<'_>, texts: &mut Splice) {
    let message = choice.get("message");
    for withheld in [choice.get("logprobs"), message.and_then(|message| message.get("audio"))] {
        if let Some(value) = withheld.filter(|value| !value.is_null()) {
            texts.replace(value.span(), "null");
        }
    }
}

/// Makes `policy` the last member of an object, in place of one of that name.
pub(crate) fn add_policy(root: Value<'_>, policy: &[u8], splice: &mut Splice) {
    match root.get("policy") {
        Some(old) => splice.replace(old.span(), policy),
        None => {
            let end = root.span().end.saturating_sub(1);
            let comma: &[u8] = if root.is_empty() { b"" } else { b"," };
            splice.replace(end..end, [comma, b"\"policy\":", policy].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"hi bob","audio":{"transcript":"hi bob"}},"logprobs":{"content":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

    fn answer(body: &str) -> Result<Answer, AnswerError> {
        Answer::parse(Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn reads_texts_and_usage() {
        let answer = answer(BODY).unwrap();
        let walk = answer.texts().unwrap();
        let texts: Vec<_> = walk.units().iter().map(|unit| unit.text.as_ref()).collect();
        assert_eq!(texts, ["hi bob", "hi bob"]);
        assert_eq!(answer.usage(), Some(TokenUsage { prompt: 3, completion: 2, total: 5 }));
        assert_eq!(answer.client_body(Splice::default(), &[], None, None), BODY);
    }

    #[test]
    fn what_goes_with_a_changed_text_is_withheld() {
        let answer = answer(BODY).unwrap();
        let walk = answer.texts().unwrap();
        let mut edit = walk.edit();
        edit.replace_all(0, "hi [X]");
        edit.replace_all(1, "hi [X]");
        let body = answer.client_body(edit.finish(), &[0], None, Some(br#"{"a":1}"#));
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"hi [X]","audio":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"policy":{"a":1}}"#
        );
    }

    #[test]
    fn a_standin_takes_the_place_of_choices() {
        let first = answer(
            r#"{"id":"1","created":7,"model":"m","citations":["bad"],"choices":[
                {"index":0,"message":{"content":"fine bob"},"logprobs":{},"finish_reason":"stop"},
                {"index":1,"message":{"content":"bad"},"finish_reason":"stop"}],"usage":{"total_tokens":1}}"#,
        )
        .unwrap();
        let standin = answer(
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"good ann"},"logprobs":{},"finish_reason":"length"}]}"#,
        )
        .unwrap();
        assert!(standin.is_plain() && standin.is_cut() && !first.is_cut());
        let walk = first.texts().unwrap();
        let mut edit = walk.edit();
        edit.replace_all(0, "fine [X]");
        edit.replace_all(1, "███");
        let texts = edit.finish();
        let walk = standin.texts().unwrap();
        let mut edit = walk.edit();
        edit.replace_all(0, "good [Y]");
        let usage = Some(TokenUsage { prompt: 1, completion: 2, total: 3 });
        let body =
            first.mended_body(texts, &[0, 1], &[1], (&standin, &mut edit.finish()), usage, Some(b"{}"));
        insta::assert_snapshot!(std::str::from_utf8(&body).unwrap(), @r#"{"id":"1","created":7,"model":"m","choices":[{"index":0,"message":{"content":"fine [X]"},"logprobs":null,"finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"good [Y]"},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"policy":{}}"#);
    }

    #[test]
    fn a_whole_answer_can_be_streamed() {
        let whole = answer(
            "{\"id\":\"1\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":2,\"message\":{\"role\":\"assistant\",\"content\":\"a\\nb\",\n\"refusal\":null,\"annotations\":[],\
             \"tool_calls\":[{\"id\":\"c\"},{\"index\":1,\"id\":\"d\"}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"total_tokens\":1}}",
        )
        .unwrap();
        assert!(!whole.is_plain());
        let frames = whole.frames(true, Some(b"{}"));
        insta::assert_snapshot!(std::str::from_utf8(&frames).unwrap());
        assert!(!std::str::from_utf8(&whole.frames(false, None)).unwrap().contains("usage"));
    }

    #[test]
    fn only_words_are_plain() {
        for (message, plain) in [
            (r#"{"content":"x"}"#, true),
            (r#"{"content":null,"refusal":"no"}"#, true),
            (r#"{"content":" "}"#, false),
            (r#"{"content":null}"#, false),
            (r#"{"content":"x","tool_calls":[]}"#, true),
            (r#"{"content":"x","tool_calls":[{}]}"#, false),
            (r#"{"content":"x","function_call":{"name":"f"}}"#, false),
        ] {
            let body = format!(r#"{{"choices":[{{"message":{message}}}]}}"#);
            assert_eq!(answer(&body).unwrap().is_plain(), plain, "{message}");
        }
        assert!(!answer(r#"{"choices":[]}"#).unwrap().is_plain());
    }

    #[test]
    fn refuses_what_it_cannot_judge() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"choices":{}}"#,
            r#"{"choices":[{"message":{"content":"a","content":"b"}}]}"#,
        ] {
            assert!(answer(body).is_err(), "{body}");
        }
        assert!(answer(r#"{"choices":[{"message":{"content":"\ud800"}}]}"#).unwrap().texts().is_err());
    }
}

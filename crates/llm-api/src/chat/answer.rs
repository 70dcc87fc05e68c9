//! A chat completions answer that came whole: where its texts stand, its usage, and the body for the client. Every
//! string under `choices[]` is found; `logprobs` and audio go with their text and are withheld once it changes.

use bytes::Bytes;

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
        if root.get("choices").is_none_or(|choices| choices.kind() != Kind::Array) {
            return Err(shape("it has no array `choices`"));
        }
        if root.duplicate_member().is_some() || root.get("choices").and_then(Value::duplicate_key).is_some() {
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
            let message = choice.get("message");
            for withheld in [choice.get("logprobs"), message.and_then(|message| message.get("audio"))] {
                if let Some(value) = withheld.filter(|value| !value.is_null()) {
                    texts.replace(value.span(), "null");
                }
            }
        }
        if let (Some(usage), Some(old)) = (usage, root.get("usage")) {
            texts.replace(old.span(), usage.to_json());
        }
        if let Some(policy) = policy {
            add_policy(root, policy, &mut texts);
        }
        if texts.is_empty() { self.body.clone() } else { texts.apply(&self.body).into() }
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

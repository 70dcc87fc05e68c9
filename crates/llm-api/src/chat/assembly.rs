//! A streamed answer put together from its chunks, to be judged as a whole. What only accompanies a text (`logprobs`)
//! is left out.

use serde_json::{Map, Value, json};

use crate::chat::answer::{Answer, AnswerError};
use crate::chat::chunk::{Chunk, accumulate};

/// The answer so far.
#[derive(Debug)]
pub struct Assembly {
    /// `id`, `created` and `model`, from the first chunk that has them.
    envelope: Map<String, Value>,
    /// An array: each choice with its deltas added up.
    choices: Value,
    usage: Value,
}

impl Default for Assembly {
    fn default() -> Self {
        Self { envelope: Map::new(), choices: json!([]), usage: Value::Null }
    }
}

impl Assembly {
    /// Adds the data of one event; `[DONE]` is none.
    ///
    /// # Errors
    /// [`AnswerError`] where it is no chunk, or an error in place of one.
    pub fn add(&mut self, data: &str) -> Result<(), AnswerError> {
        let chunk = Chunk::parse(data)?;
        if chunk.is_error() {
            return Err(AnswerError::Shape("it sent an error in the middle of the stream".to_owned()));
        }
        // Refuses the shapes that the judge of a stream refuses.
        chunk.choices()?;
        let mut chunk: Map<String, Value> = serde_json::from_str(data)
            .map_err(|error| AnswerError::Shape(format!("an event is not JSON: {error}")))?;
        for name in ["id", "created", "model"] {
            if let Some(value) = chunk.remove(name).filter(|value| !value.is_null()) {
                self.envelope.entry(name).or_insert(value);
            }
        }
        if let Some(usage) = chunk.remove("usage").filter(|usage| !usage.is_null()) {
            self.usage = usage;
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            for choice in choices {
                self.add_choice(choice)?;
            }
        }
        Ok(())
    }

    fn add_choice(&mut self, mut choice: Value) -> Result<(), AnswerError> {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let mut finish = None;
        if let Some(choice) = choice.as_object_mut() {
            choice.insert("index".to_owned(), json!(index));
            choice.remove("logprobs");
            finish = choice.remove("finish_reason").filter(|finish| !finish.is_null());
            if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
                // Some upstreams repeat it in every chunk.
                delta.remove("role");
            }
        }
        if !accumulate(&mut self.choices, json!([choice])) {
            return Err(AnswerError::Shape("it has more parts than an answer can have".to_owned()));
        }
        if let (Some(finish), Some(choice)) = (finish, self.choice(index)) {
            choice.insert("finish_reason".to_owned(), finish);
        }
        Ok(())
    }

    fn choice(&mut self, index: u64) -> Option<&mut Map<String, Value>> {
        let mut choices = self.choices.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut);
        choices.find(|choice| choice.get("index").and_then(Value::as_u64) == Some(index))
    }

    /// Whether every choice has its finish reason: some upstreams leave `[DONE]` out.
    pub fn is_complete(&self) -> bool {
        let choices = self.choices.as_array().map(Vec::as_slice).unwrap_or_default();
        !choices.is_empty() && choices.iter().all(|choice| choice.get("finish_reason").is_some())
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As [`Answer::parse`].
    pub fn finish(mut self) -> Result<Answer, AnswerError> {
        for choice in self.choices.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            let mut message = Map::new();
            message.insert("role".to_owned(), json!("assistant"));
            if let Some(Value::Object(delta)) = choice.remove("delta") {
                message.extend(delta);
            }
            choice.insert("message".to_owned(), Value::Object(message));
        }
        let mut answer = self.envelope;
        answer.insert("object".to_owned(), json!("chat.completion"));
        answer.insert("choices".to_owned(), self.choices);
        if !self.usage.is_null() {
            answer.insert("usage".to_owned(), self.usage);
        }
        Answer::parse(Value::Object(answer).to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chunks_become_an_answer() {
        let mut assembly = Assembly::default();
        for data in [
            r#"{"id":"1","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"na"},"logprobs":{"content":[{}]},"finish_reason":null},{"index":1,"delta":{"role":"assistant"}}]}"#,
            r#"{"id":"1","choices":[{"delta":{"role":"assistant","content":"palm"},"logprobs":{"content":[{}]}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\""}}]}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"tool_calls"}]}"#,
        ] {
            assembly.add(data).unwrap();
            assert!(!assembly.is_complete());
        }
        assembly.add(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#).unwrap();
        assembly.add(r#"{"choices":[],"usage":{"total_tokens":3}}"#).unwrap();
        assert!(assembly.is_complete());
        let answer = assembly.finish().unwrap();
        assert_eq!(answer.usage().unwrap().total, 3);
        let body = answer.client_body(crate::json::Splice::default(), &[], None, None);
        insta::assert_snapshot!(std::str::from_utf8(&body).unwrap(), @r#"{"id":"1","created":7,"model":"m","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"napalm"}},{"index":1,"finish_reason":"tool_calls","message":{"role":"assistant","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]}}],"usage":{"total_tokens":3}}"#);
    }

    proptest! {
        #[test]
        fn the_cut_into_chunks_does_not_matter(
            text in "\\PC{0,20}",
            arguments in "\\PC{0,20}",
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut assembly = Assembly::default();
            let pieces = |text: &str| {
                let chars: Vec<char> = text.chars().collect();
                let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
                ends.push(chars.len());
                ends.sort_unstable();
                let mut start = 0;
                ends.into_iter().map(|end| chars[std::mem::replace(&mut start, end)..end].iter().collect::<String>()).collect::<Vec<_>>()
            };
            for (text, arguments) in pieces(&text).iter().zip(pieces(&arguments)) {
                let delta = json!({"role": "assistant", "content": text, "tool_calls": [{"index": 0, "id": "c", "function": {"arguments": arguments}}]});
                assembly.add(&json!({"id": "1", "choices": [{"index": 0, "delta": delta}]}).to_string()).unwrap();
            }
            let answer = assembly.finish().unwrap();
            let body = answer.client_body(crate::json::Splice::default(), &[], None, None);
            let message = serde_json::from_slice::<Value>(&body).unwrap()["choices"][0]["message"].take();
            prop_assert_eq!(message, json!({"role": "assistant", "content": text,
                "tool_calls": [{"index": 0, "id": "c", "function": {"arguments": arguments}}]}));
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for data in [
            "x",
            "[]",
            r#"{"error":{"message":"m"}}"#,
            r#"{"choices":[7]}"#,
            r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
        ] {
            assert!(Assembly::default().add(data).is_err(), "{data}");
        }
        assert!(!Assembly::default().is_complete());
    }
}

//! What the model says: a pure function of the request and its directives, laid out as OpenAI's chat
//! completion. How it is cut into frames is in `stream`.

use serde_json::{Map, Value, json};

use super::directives::{Directives, Tool};
use super::request::{ChatRequest, count_words};

/// What every answer and every frame of one request carry.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) model: String,
}

/// One choice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) content: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) reasoning: Option<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) finish: String,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) choices: Vec<Choice>,
    pub(crate) logprobs: bool,
    pub(crate) extra: Map<String, Value>,
    /// `{"prompt_tokens": …}`, or `None` where none is to be reported.
    pub(crate) usage: Option<Value>,
}

impl Answer {
    /// Answers `request`, of whose last user message `text` is left beside the directives.
    pub(crate) fn new(request: &ChatRequest, directives: &Directives, text: &str) -> Self {
        // Once a tool has answered, the answer is a text: an agent's loop comes to its end.
        let tools: &[Tool] = if request.tool_result.is_some() { &[] } else { &directives.tools };
        let choices: Vec<Choice> = (0..request.choices)
            .map(|index| {
                let silent =
                    directives.says.is_empty() && (!tools.is_empty() || directives.refusal.is_some());
                let mut content = (!silent).then(|| say(request, directives, text, index));
                let cut =
                    request.words_max.zip(content.as_mut()).is_some_and(|(max, text)| keep_words(text, max));
                let finish = match &directives.finish {
                    Some(finish) => finish.as_str(),
                    None if cut => "length",
                    None if !tools.is_empty() => "tool_calls",
                    None => "stop",
                };
                Choice {
                    content,
                    refusal: directives.refusal.clone(),
                    reasoning: directives.reasoning.clone(),
                    tools: tools.to_vec(),
                    finish: finish.to_owned(),
                }
            })
            .collect();
        let completion: u64 = choices.iter().map(Choice::words).sum();
        let usage = json!({
            "prompt_tokens": request.prompt_words,
            "completion_tokens": completion,
            "total_tokens": request.prompt_words + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        });
        Self {
            choices,
            logprobs: directives.logprobs || request.logprobs,
            extra: directives.extra.clone(),
            usage: (!directives.no_usage).then_some(usage),
        }
    }

    /// The body of an answer that is not streamed.
    pub(crate) fn to_body(&self, envelope: &Envelope) -> Value {
        let choices: Vec<Value> =
            self.choices.iter().enumerate().map(|(index, choice)| self.choice(index, choice)).collect();
        let mut body = json!({
            "id": envelope.id,
            "object": "chat.completion",
            "created": envelope.created,
            "model": envelope.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        });
        if let (Some(usage), Some(body)) = (&self.usage, body.as_object_mut()) {
            body.insert("usage".to_owned(), usage.clone());
        }
        body
    }

    fn choice(&self, index: usize, choice: &Choice) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        message.insert("content".to_owned(), json!(choice.content));
        message.insert("refusal".to_owned(), json!(choice.refusal));
        message.insert("annotations".to_owned(), json!([]));
        if let Some(reasoning) = &choice.reasoning {
            message.insert("reasoning_content".to_owned(), json!(reasoning));
        }
        if !choice.tools.is_empty() {
            let calls: Vec<Value> =
                choice.tools.iter().enumerate().map(|(at, tool)| call(at, tool)).collect();
            message.insert("tool_calls".to_owned(), json!(calls));
        }
        message.extend(self.extra.clone());
        let logprobs = match (&choice.content, self.logprobs) {
            (Some(text), true) => logprobs(text),
            _ => Value::Null,
        };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish})
    }
}

impl Choice {
    fn words(&self) -> u64 {
        let texts = [&self.content, &self.refusal, &self.reasoning].into_iter().flatten();
        let said: u64 = texts.map(|text| count_words(text)).sum();
        said + self.tools.iter().map(|tool| 1 + count_words(&tool.arguments)).sum::<u64>()
    }
}

/// Reported as `system_fingerprint`.
pub(crate) const FINGERPRINT: &str = "fp_demo";

/// Id of the call at `index`.
pub(crate) fn call_id(index: usize) -> String {
    format!("call_demo_{index}")
}

fn call(index: usize, tool: &Tool) -> Value {
    json!({
        "id": call_id(index),
        "type": "function",
        "function": {"name": tool.name, "arguments": tool.arguments},
    })
}

/// Log probabilities of a text, one entry a word, each with the white space before it.
pub(crate) fn logprobs(text: &str) -> Value {
    let entries: Vec<Value> = words(text)
        .map(|token| json!({"token": token, "logprob": -0.25, "bytes": token.as_bytes(), "top_logprobs": []}))
        .collect();
    json!({"content": entries, "refusal": null})
}

/// The words of a text, each with the white space before it; white space at the end stays with the last.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let tail = rest.get(start..).unwrap_or_default();
        let end = tail.find(char::is_whitespace).map_or(rest.len(), |at| start + at);
        let end = if tail.trim_end().len() + start <= end { rest.len() } else { end };
        let (word, left) = rest.split_at(end);
        rest = left;
        Some(word)
    })
}

fn say(request: &ChatRequest, directives: &Directives, text: &str, index: usize) -> String {
    if request.instructed
        && let Some(instructed) = &directives.instructed
    {
        return instructed.clone();
    }
    if let Some(count) = directives.words {
        return (1..=count).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
    }
    if let Some(says) = directives.says.get(index % directives.says.len().max(1)) {
        return says.clone();
    }
    if let Some(result) = &request.tool_result {
        return format!("The tool answered: {result}");
    }
    let opening = if request.instructed { "Within the instructions given." } else { "Glad to help." };
    if text.is_empty() {
        format!("{opening} You said nothing.")
    } else {
        format!("{opening} You said: {text}")
    }
}

/// Shortens `text` to `max` words; tells whether there were more.
fn keep_words(text: &mut String, max: usize) -> bool {
    let kept: usize = words(text).take(max).map(str::len).sum();
    let cut = kept < text.len();
    text.truncate(kept);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_add_up_to_the_text() {
        for text in ["", " ", "one", " one  two\nthree ", "a b", "日本 語\u{3000}x"] {
            assert_eq!(words(text).collect::<String>(), text);
        }
        assert_eq!(words(" one  two ").collect::<Vec<_>>(), [" one", "  two "]);
    }

    #[test]
    fn an_answer_is_cut_at_the_word_limit() {
        let mut text = "one two three".to_owned();
        assert!(!keep_words(&mut text, 3));
        assert!(keep_words(&mut text, 2));
        assert_eq!(text, "one two");
    }
}

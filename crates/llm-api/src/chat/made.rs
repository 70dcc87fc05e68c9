//! Answers that the gateway makes itself, in OpenAI's shape: a refusal as a whole or as stream frames, and frames
//! added to an upstream's stream.

use crate::chat::chunk::CallPlace;
use crate::json::encode_str;

/// What the frames of one stream share, as raw JSON values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `"chatcmpl-…"`
    pub id: String,
    /// Unix seconds.
    pub created: String,
    /// `"gpt-…"`
    pub model: String,
}

impl Envelope {
    /// An envelope of our own.
    pub fn new(id: &str, created_unix_seconds: i64, model: &str) -> Self {
        let json = |text: &str| String::from_utf8(encode_str(text)).unwrap_or_default();
        Self { id: json(id), created: created_unix_seconds.to_string(), model: json(model) }
    }

    /// A frame's data: one choice with `delta` (a JSON object), and `policy` where it is given.
    pub fn frame(
        &self,
        index: u64,
        delta: &str,
        finish_reason: Option<&str>,
        policy: Option<&[u8]>,
    ) -> Vec<u8> {
        let finish = finish_reason.map_or_else(|| "null".to_owned(), |reason| format!("\"{reason}\""));
        let choices =
            format!(r#"[{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#);
        self.object("chat.completion.chunk", &choices, None, policy)
    }

    /// The frame that carries usage alone.
    pub fn usage_frame(&self, usage: &str, policy: Option<&[u8]>) -> Vec<u8> {
        self.object("chat.completion.chunk", "[]", Some(usage), policy)
    }

    fn object(&self, object: &str, choices: &str, usage: Option<&str>, policy: Option<&[u8]>) -> Vec<u8> {
        let mut out = format!(
            r#"{{"id":{},"object":"{object}","created":{},"model":{},"choices":{choices}"#,
            self.id, self.created, self.model
        )
        .into_bytes();
        for (name, value) in [("usage", usage.map(str::as_bytes)), ("policy", policy)] {
            if let Some(value) = value {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                out.extend_from_slice(value);
            }
        }
        out.push(b'}');
        out
    }

    /// A refusal as a whole answer: `content` null, `refusal` the text, `finish_reason` `content_filter`.
    pub fn refusal(&self, text: &str, usage: &str, policy: Option<&[u8]>) -> Vec<u8> {
        let choices = format!(
            r#"[{{"index":0,"message":{{"role":"assistant","content":null,"refusal":{}}},"logprobs":null,"finish_reason":"content_filter"}}]"#,
            json_str(text)
        );
        self.object("chat.completion", &choices, Some(usage), policy)
    }
}

/// A delta that carries `text` in `field`.
pub fn text_delta(field: &str, text: &str) -> String {
    format!("{{{}:{}}}", json_str(field), json_str(text))
}

/// A delta that carries a piece of a call's input.
pub fn call_delta(call: CallPlace, custom: bool, text: &str) -> String {
    let (tool, input) = if custom { ("custom", "input") } else { ("function", "arguments") };
    let input = text_delta(input, text);
    match call {
        CallPlace::Tool(index) => format!(r#"{{"tool_calls":[{{"index":{index},"{tool}":{input}}}]}}"#),
        CallPlace::Function => format!(r#"{{"function_call":{input}}}"#),
    }
}

/// Frames a JSON text as one server-sent event.
pub fn event(data: &[u8]) -> Vec<u8> {
    [b"data: ", data, b"\n\n"].concat()
}

/// The event that ends a stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

fn json_str(text: &str) -> String {
    String::from_utf8(encode_str(text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        let text = String::from_utf8(bytes).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        text
    }

    #[test]
    fn a_refusal_has_openai_shape() {
        let envelope = Envelope::new("chatcmpl-1", 7, "m\"x");
        insta::assert_snapshot!(text(envelope.refusal("no \"way\"", r#"{"total_tokens":0}"#, Some(b"{}"))), @r#"{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m\"x","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"no \"way\""},"logprobs":null,"finish_reason":"content_filter"}],"usage":{"total_tokens":0},"policy":{}}"#);
    }

    #[test]
    fn frames_have_openai_shape() {
        let envelope = Envelope::new("c", 7, "m");
        insta::assert_snapshot!(text(envelope.frame(0, &text_delta("refusal", "no"), None, None)), @r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"refusal":"no"},"logprobs":null,"finish_reason":null}]}"#);
        insta::assert_snapshot!(text(envelope.usage_frame("{}", None)), @r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{}}"#);
    }
}

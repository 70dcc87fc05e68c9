//! What is sent and judged: a policy with many denied terms, a prompt of two kilobytes that hits none, the
//! model's answers. Made from a fixed seed, so that every run has the same.

use serde_json::{Value, json};

/// Bytes of a request's body, about.
pub(crate) const REQUEST_BYTES: usize = 2_048;

/// Denied terms of the policy.
pub(crate) const TERMS: usize = 1_000;

/// Frames of a streamed answer that carry text.
pub(crate) const STREAM_FRAMES: usize = 200;

/// The model asked for.
pub(crate) const MODEL: &str = "demo-model";

/// Ordinary words of which prompts and answers are made. No denied term is one of them.
const WORDS: [&str; 32] = [
    "the", "customer", "asked", "about", "a", "refund", "for", "an", "order", "that", "came", "late", "and",
    "we", "should", "answer", "within", "one", "day", "please", "write", "short", "friendly", "reply",
    "which", "names", "our", "policy", "but", "makes", "no", "promises",
];

/// A small generator of numbers (Knuth's MMIX constants), enough to make words of.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let at = self.below(from.len());
        from.get(at).copied().unwrap_or_default()
    }
}

/// The policy document: [`TERMS`] denied words and phrases, redaction on.
pub(crate) fn policy() -> Value {
    let mut numbers = Numbers(1);
    let mut word = || {
        const STARTS: [&str; 12] = ["br", "dr", "fl", "gr", "kr", "pl", "sk", "tr", "vl", "z", "qu", "st"];
        const ENDS: [&str; 10] = ["axo", "ebu", "ilm", "ork", "umba", "yth", "ane", "ixo", "ody", "uzz"];
        let mut word = String::new();
        for _ in 0..2 {
            word.push_str(numbers.pick(&STARTS));
            word.push_str(numbers.pick(&ENDS));
        }
        word
    };
    let mut terms: Vec<String> = Vec::with_capacity(TERMS);
    while terms.len() < TERMS {
        let term = if terms.len().is_multiple_of(2) { word() } else { format!("{} {}", word(), word()) };
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    json!({
        "policy_id": "bench",
        "rules": {"denylist": terms, "redact": true, "response_pattern": "refuse"},
    })
}

fn text(bytes: usize) -> String {
    let mut numbers = Numbers(2);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(numbers.pick(&WORDS));
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

/// A request's body of [`REQUEST_BYTES`].
pub(crate) fn request_body(stream: bool) -> Vec<u8> {
    let with = |content: String| {
        json!({
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant of the support team."},
                {"role": "user", "content": content},
            ],
            "temperature": 0.2,
            "stream": stream,
        })
        .to_string()
    };
    let frame = with(String::new()).len();
    with(text(REQUEST_BYTES.saturating_sub(frame))).into_bytes()
}

/// A whole answer's body.
pub(crate) fn answer_body() -> Vec<u8> {
    json!({
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_767_225_600, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text(400), "refusal": null},
            "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 420, "completion_tokens": 80, "total_tokens": 500},
    })
    .to_string()
    .into_bytes()
}

/// The frames of a streamed answer, in order: a role, [`STREAM_FRAMES`] of text, a finish, the usage, the end.
pub(crate) fn stream_frames() -> Vec<Vec<u8>> {
    let frame = |choices: Value, usage: Value| {
        let body = json!({
            "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_767_225_600, "model": MODEL,
            "system_fingerprint": "fp_bench", "choices": choices, "usage": usage,
        });
        format!("data: {body}\n\n").into_bytes()
    };
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let mut numbers = Numbers(3);
    let mut frames =
        vec![frame(delta(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null)];
    for _ in 0..STREAM_FRAMES {
        let word = format!(" {}", numbers.pick(&WORDS));
        frames.push(frame(delta(json!({ "content": word }), Value::Null), Value::Null));
    }
    frames.push(frame(delta(json!({}), json!("stop")), Value::Null));
    let usage = json!({"prompt_tokens": 420, "completion_tokens": STREAM_FRAMES, "total_tokens": 620});
    frames.push(frame(json!([]), usage));
    frames.push(b"data: [DONE]\n\n".to_vec());
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_its_size_and_hits_nothing() {
        let body = request_body(false);
        assert_eq!(body.len(), REQUEST_BYTES);
        let body = String::from_utf8(body).unwrap();
        let policy = policy();
        let terms = policy["rules"]["denylist"].as_array().unwrap();
        assert_eq!(terms.len(), TERMS);
        assert!(terms.iter().all(|term| !body.contains(term.as_str().unwrap())));
    }
}
